//! From the scheduler to the core: `finish_dispatch()` and `scx_dispatch_sched()`.

use super::sched::{DspBufEnt, SchedIdx};
use crate::CpuId;
use crate::engine::Engine;
use crate::flags::{EnqFlags, KickFlags, SCX_BYPASS_HOST_NTH, SCX_DSP_MAX_LOOPS, opss};
use crate::kfunc::Op;
use crate::ops::OpSet;
use crate::sim::Fate;
use crate::task::{SchedClass, TaskIdx};

/// `enum scx_dsp_verdict`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing to run.
    None,
    /// The local queue has tasks.
    Local,
    /// The previous task goes on.
    Prev,
}

impl Engine {
    /// `finish_dispatch()`: an insert from `ops.dispatch`, after the callback.
    fn finish_dispatch(&mut self, sched: SchedIdx, cpu: CpuId, ent: DspBufEnt) {
        let p = ent.task;
        if self.sim(p).generation != ent.generation {
            // Freed and the place used again; cannot be, readers keep tasks.
            return;
        }
        let state = self.p(p).scx.ops_state;
        // wait_ops_state(): another CPU is in the middle of ops.enqueue. Else QUEUEING and
        // DISPATCHING begin and end within one step of the engine.
        self.contended |= state & opss::STATE_MASK == opss::QUEUEING && !self.held.is_empty();
        if state & opss::STATE_MASK != opss::QUEUED {
            self.stats.dispatches_not_queued += 1;
            self.note_fate(p, Fate::NotQueued);
            return;
        }
        if state & opss::QSEQ_MASK != ent.qseq {
            self.stats.dispatches_stale += 1;
            self.note_fate(p, Fate::Stale);
            return;
        }
        if !self.on_sched(p, sched) {
            self.sch_mut(sched).events.insert_not_owned += 1;
            self.note_fate(p, Fate::NotOwned);
            return;
        }
        self.p_mut(p).scx.ops_state = opss::DISPATCHING;
        self.note_fate(p, Fate::Done);
        let dsq = self.find_dsq_for_dispatch(sched, cpu, ent.dsq);
        if self.is_local(dsq) {
            self.dispatch_to_local_dsq(sched, cpu, dsq, p, ent.enq);
        } else {
            self.dispatch_enqueue(sched, dsq, p, ent.enq | EnqFlags::CLEAR_OPSS);
        }
    }

    /// `flush_dispatch_buf()`.
    pub(crate) fn flush_dispatch_buf(&mut self, sched: SchedIdx, cpu: CpuId) {
        if self.sch(sched).pcpu[cpu.index()].dsp_buf.is_empty() {
            return;
        }
        // The callback took its time, and held no lock but its own CPU's.
        self.seam_locked(cpu);
        let buf = std::mem::take(&mut self.sch_mut(sched).pcpu[cpu.index()].dsp_buf);
        for &ent in &buf {
            self.finish_dispatch(sched, cpu, ent);
        }
        let pcpu = &mut self.sch_mut(sched).pcpu[cpu.index()];
        pcpu.dsp_nr_tasks += buf.len() as u32;
        pcpu.dsp_buf = buf;
        pcpu.dsp_buf.clear();
    }

    /// `scx_dispatch_sched()`: what `sched` has for `cpu`. `nested` for a sub-scheduler that its
    /// parent asks.
    pub(crate) fn scx_dispatch_sched(
        &mut self,
        sched: SchedIdx,
        cpu: CpuId,
        prev: TaskIdx,
        nested: bool,
    ) -> Verdict {
        let global = self.sch(sched).global_dsq;
        if self.consume_dispatch_q(sched, cpu, global, EnqFlags::empty()) {
            return Verdict::Local;
        }
        if self.sch(sched).bypass_dsp_enable_depth > 0 {
            let bypass_dsq = self.sch(sched).pcpu[cpu.index()].bypass_dsq;
            if self.bypassing(sched, cpu) {
                let found = self.consume_dispatch_q(sched, cpu, bypass_dsq, EnqFlags::empty());
                return if found { Verdict::Local } else { Verdict::None };
            }
            let pcpu = &mut self.sch_mut(sched).pcpu[cpu.index()];
            let turn = pcpu.bypass_host_seq.is_multiple_of(SCX_BYPASS_HOST_NTH);
            pcpu.bypass_host_seq = pcpu.bypass_host_seq.wrapping_add(1);
            if turn && self.consume_dispatch_q(sched, cpu, bypass_dsq, EnqFlags::empty()) {
                self.sch_mut(sched).events.sub_bypass_dispatch += 1;
                return Verdict::Local;
            }
        }
        if !self.sch(sched).has(OpSet::DISPATCH) {
            return Verdict::None;
        }
        for round in 1..=SCX_DSP_MAX_LOOPS {
            self.sch_mut(sched).pcpu[cpu.index()].dsp_nr_tasks = 0;
            self.call_dispatch(sched, cpu, prev, nested);
            self.flush_dispatch_buf(sched, cpu);

            if self.p(prev).queued() && self.p(prev).scx.slice > 0 {
                return Verdict::Prev;
            }
            if self.dsq(self.local_dsq(cpu)).nr > 0 {
                return Verdict::Local;
            }
            if self.consume_dispatch_q(sched, cpu, global, EnqFlags::empty()) {
                return Verdict::Local;
            }
            if round == SCX_DSP_MAX_LOOPS {
                // Let the watchdog run: finish this pass and begin another.
                self.scx_kick_cpu(sched, cpu, KickFlags::empty(), None);
                break;
            }
            if self.sch(sched).pcpu[cpu.index()].dsp_nr_tasks == 0 {
                break;
            }
        }
        if self.sch(sched).bypass_dsp_enable_depth > 0 {
            let bypass_dsq = self.sch(sched).pcpu[cpu.index()].bypass_dsq;
            if self.consume_dispatch_q(sched, cpu, bypass_dsq, EnqFlags::empty()) {
                return Verdict::Local;
            }
        }
        Verdict::None
    }

    fn call_dispatch(&mut self, sched: SchedIdx, cpu: CpuId, prev: TaskIdx, nested: bool) {
        self.stats.dispatch_calls += 1;
        let on_sched = self.p(prev).sched_class() == SchedClass::Ext && self.on_sched(prev, sched);
        let arg = on_sched.then_some(prev);
        let cid = self.topology.cid(cpu);
        if !nested {
            self.rq_mut(cpu).scx.sub_dispatch_prev = Some(prev);
        }
        let is_cid = self.sch(sched).is_cid();
        self.call(sched, Op::Dispatch, |ops, cx| {
            let prev = arg.map(|p| cx.task(p));
            if is_cid {
                ops.dispatch_cid(cx, cid, prev);
            } else {
                ops.dispatch(cx, cpu, prev);
            }
        });
        if !nested {
            self.rq_mut(cpu).scx.sub_dispatch_prev = None;
        }
    }
}
