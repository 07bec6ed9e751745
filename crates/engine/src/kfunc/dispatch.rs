//! `scx_kfunc_ids_dispatch`: what `ops.dispatch` can do.

use super::Context;
use super::Cx;
use crate::ExitKind;
use crate::flags::{DsqId, EnqFlags};

impl Cx<'_> {
    /// `scx_bpf_dispatch_nr_slots()`: room left in the dispatch buffer.
    pub fn dispatch_nr_slots(&mut self) -> u32 {
        if !self.only_from("scx_bpf_dispatch_nr_slots", Context::DISPATCH) {
            return 0;
        }
        let cpu = self.core.this_cpu;
        let sch = self.core.sch(self.sched);
        sch.dsp_max_batch - sch.pcpu[cpu.index()].dsp_buf.len() as u32
    }

    /// `scx_bpf_dispatch_cancel()`: takes back the last insert of this `dispatch`.
    pub fn dispatch_cancel(&mut self) {
        if !self.only_from("scx_bpf_dispatch_cancel", Context::DISPATCH) {
            return;
        }
        let cpu = self.core.this_cpu;
        if self.core.sch_mut(self.sched).pcpu[cpu.index()].dsp_buf.pop().is_none() {
            self.error_kind(ExitKind::Error, "dispatch buffer underflow".into());
        }
    }

    /// `scx_bpf_dsq_move_to_local()`: a task from one of the scheduler's queues to the local queue
    /// of the CPU; whether there was one that may run there. Inserts that are pending are done
    /// first. Locks are dropped: other CPUs may act before it returns.
    pub fn dsq_move_to_local(&mut self, dsq: DsqId, mut enq: EnqFlags) -> bool {
        if !self.only_from("scx_bpf_dsq_move_to_local", Context::DISPATCH) {
            return false;
        }
        self.core.vet_enq_flags(self.sched, DsqId::LOCAL, &mut enq);
        let cpu = self.core.this_cpu;
        self.core.flush_dispatch_buf(self.sched, cpu);
        let Some(&idx) = self.core.sch(self.sched).dsq_hash.get(&dsq.0) else {
            self.error_kind(ExitKind::Error, format!("invalid DSQ ID {:#018x}", dsq.0));
            return false;
        };
        let moved = self.core.consume_dispatch_q(self.sched, cpu, idx, enq);
        self.core.this_cpu = cpu;
        if moved {
            self.core.sch_mut(self.sched).pcpu[cpu.index()].dsp_nr_tasks += 1;
        }
        moved
    }

    /// Whether the scheduler is the root, and no sub-scheduler.
    pub fn is_root(&self) -> bool {
        self.core.sch(self.sched).parent().is_none()
    }

    /// `scx_find_sub_sched()`: whether a sub-scheduler is attached to a cgroup.
    pub fn has_sub_sched(&self, cgroup: u64) -> bool {
        self.core.find_sub_sched(cgroup).is_some()
    }

    /// `scx_bpf_sub_dispatch()`: lets the sub-scheduler of a cgroup dispatch for this CPU; whether
    /// it had something.
    pub fn sub_dispatch(&mut self, cgroup: u64) -> bool {
        if !self.only_from("scx_bpf_sub_dispatch", Context::DISPATCH) {
            return false;
        }
        let cpu = self.core.this_cpu;
        let Some(child) = self.core.find_sub_sched(cgroup) else { return false };
        if self.core.sch(child).parent() != Some(self.sched) {
            let msg = format!("trying to dispatch a distant sub-sched on cgroup {cgroup}");
            self.error_kind(ExitKind::Error, msg);
            return false;
        }
        let Some(prev) = self.core.rq(cpu).scx.sub_dispatch_prev else { return false };
        let verdict = self.core.scx_dispatch_sched(child, cpu, prev, true);
        self.core.this_cpu = cpu;
        verdict != crate::ext::Verdict::None
    }
}
