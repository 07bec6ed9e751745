//! Having tasks back out of queues: `scx_bpf_reenqueue_local()` and `scx_bpf_dsq_reenq()`.

use super::{Context, Cx};
use crate::ext::reenq::Reenq;
use crate::flags::DsqId;

impl Cx<'_> {
    /// `scx_bpf_reenqueue_local()`: the tasks in the local queue of the CPU
    /// that is being released go back to the scheduler, at once; how many. Only from
    /// `cpu_release`.
    pub fn reenqueue_local(&mut self) -> u32 {
        if !self.only_from("scx_bpf_reenqueue_local", Context::CPU_RELEASE) {
            return 0;
        }
        let cpu = self.core.this_cpu;
        self.core.reenq_local(self.sched, cpu, Reenq::Any)
    }

    /// `scx_bpf_dsq_reenq()`: the tasks in a local queue, or in one of the scheduler's own, go back
    /// to the scheduler, a little later. `DsqId::LOCAL` is the queue of the CPU whose runqueue the
    /// core has locked, or else of the CPU at hand; then it is `scx_bpf_reenqueue_local___v2()`.
    pub fn dsq_reenq(&mut self, dsq: DsqId) {
        let cpu = self.scope.locked.unwrap_or(self.core.this_cpu);
        let dsq = self.core.find_dsq_for_dispatch(self.sched, cpu, dsq);
        self.core.schedule_dsq_reenq(self.sched, dsq, Reenq::Any, self.scope.locked);
    }
}
