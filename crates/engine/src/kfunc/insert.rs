//! `scx_kfunc_ids_enqueue_dispatch`: inserting tasks into queues.

use super::Context;
use super::{Cx, Task};
use crate::ExitKind;
use crate::flags::{DsqId, EnqFlags, opss};
use crate::rq::DirectDispatch;
use crate::sim::Fate;
use crate::task::TaskIdx;

impl Cx<'_> {
    /// `scx_bpf_dsq_insert()`: into a queue's FIFO, with a slice in ns (0 to keep what is left).
    /// From `select_cpu` and `enqueue` a direct dispatch of the task at hand; from `dispatch` of
    /// any task, at the end of the callback.
    pub fn dsq_insert(&mut self, p: Task<'_>, dsq: DsqId, slice: u64, enq: EnqFlags) -> bool {
        self.insert(p, dsq, slice, None, enq)
    }

    /// `scx_bpf_dsq_insert_vtime()`: into a queue in the order of `vtime`.
    pub fn dsq_insert_vtime(
        &mut self,
        p: Task<'_>,
        dsq: DsqId,
        slice: u64,
        vtime: u64,
        enq: EnqFlags,
    ) -> bool {
        self.insert(p, dsq, slice, Some(vtime), enq)
    }

    fn insert(
        &mut self,
        p: Task<'_>,
        dsq: DsqId,
        slice: u64,
        vtime: Option<u64>,
        mut enq: EnqFlags,
    ) -> bool {
        if !self.only_from("scx_bpf_dsq_insert", Context::ENQUEUE) {
            return false;
        }
        // scx_dsq_insert_preamble(); bits 56 and up are the core's own.
        if enq.bits() >> 56 != 0 {
            self.error_kind(ExitKind::Error, format!("invalid enq_flags {:#x}", enq.bits()));
            return false;
        }
        let foreign = !self.core.on_sched(p.idx, self.sched);
        if foreign && !self.core.sabotaged(crate::config::Sabotage::C10InsertForeign) {
            self.core.sch_mut(self.sched).events.insert_not_owned += 1;
            return false;
        }
        if !self.core.vet_enq_flags(self.sched, dsq, &mut enq) {
            return false;
        }
        self.write_slice(p, if slice > 0 { slice } else { self.slice(p).max(1) });
        if let Some(vtime) = vtime {
            self.core.p_mut(p.idx).scx.dsq_vtime = vtime;
            enq |= EnqFlags::DSQ_PRIQ;
        }
        self.insert_commit(p.idx, dsq, enq);
        true
    }

    /// `scx_dsq_insert_commit()`.
    fn insert_commit(&mut self, p: TaskIdx, dsq: DsqId, enq: EnqFlags) {
        let cpu = self.core.this_cpu;
        match self.core.rq(cpu).scx.direct_dispatch {
            DirectDispatch::Off => {}
            marked => {
                self.mark_direct_dispatch(marked, p, dsq, enq);
                return;
            }
        }
        let max = self.core.sch(self.sched).dsp_max_batch as usize;
        let ent = crate::ext::sched::DspBufEnt {
            task: p,
            generation: self.core.sim(p).generation,
            qseq: self.core.p(p).scx.ops_state & opss::QSEQ_MASK,
            dsq,
            enq,
        };
        let buf = &mut self.core.sch_mut(self.sched).pcpu[cpu.index()].dsp_buf;
        if buf.len() >= max {
            self.error_kind(ExitKind::Error, "dispatch buffer overflow".into());
            return;
        }
        buf.push(ent);
        self.core.note_insert(p, dsq, Fate::Buffered);
    }

    /// `mark_direct_dispatch()`.
    fn mark_direct_dispatch(
        &mut self,
        marked: DirectDispatch,
        p: TaskIdx,
        dsq: DsqId,
        enq: EnqFlags,
    ) {
        let cpu = self.core.this_cpu;
        self.core.rq_mut(cpu).scx.direct_dispatch = DirectDispatch::Done;
        let who = |p: TaskIdx| self.core.p(p).who();
        let msg = match marked {
            DirectDispatch::For(q) if q == p => {
                let scx = &mut self.core.p_mut(p).scx;
                scx.ddsp_dsq_id = dsq.0;
                scx.ddsp_enq_flags = enq.bits();
                return;
            }
            DirectDispatch::For(q) => {
                format!("scheduling for {} but trying to direct-dispatch {}", who(q), who(p))
            }
            _ => format!("{} already direct-dispatched", who(p)),
        };
        self.error_kind(ExitKind::Error, msg);
    }
}
