//! Calling a scheduler's operations: `SCX_CALL_OP()` and its relatives.

use std::sync::Arc;

use super::sched::SchedIdx;
use crate::engine::Engine;
use crate::kfunc::{Context, Cx, Op, Scope, Task};
use crate::ops::{Errno, Scheduler};
use crate::task::TaskIdx;
use crate::{CpuId, ExitKind, flags::errno};

impl Engine {
    /// `SCX_CALL_OP()`: an operation of `sched` that is about no task. It is an RCU read section:
    /// nothing that it can reach is freed before it returns.
    pub(crate) fn call<R>(
        &mut self,
        sched: SchedIdx,
        op: Op,
        f: impl FnOnce(&dyn Scheduler, &mut Cx<'_>) -> R,
    ) -> R {
        let locked = (!op.allows().contains(Context::UNLOCKED)).then_some(self.this_cpu);
        self.call_scoped(sched, Scope { op, locked, subject: None, current: None }, f)
    }

    /// `SCX_CALL_OP_TASK()`: an operation that is about `p`.
    pub(crate) fn call_task<R>(
        &mut self,
        sched: SchedIdx,
        op: Op,
        p: TaskIdx,
        f: impl FnOnce(&dyn Scheduler, &mut Cx<'_>, Task<'_>) -> R,
    ) -> R {
        // ops.select_cpu runs under the task's pi_lock instead.
        let locked = (op != Op::SelectCpu).then_some(self.task_cpu(p));
        let scope = Scope { op, locked, subject: Some(p), current: None };
        self.call_scoped(sched, scope, |ops, cx| {
            let p = cx.task(p);
            f(ops, cx, p)
        })
    }

    pub(super) fn call_scoped<R>(
        &mut self,
        sched: SchedIdx,
        scope: Scope,
        f: impl FnOnce(&dyn Scheduler, &mut Cx<'_>) -> R,
    ) -> R {
        let imp = Arc::clone(&self.sch(sched).imp);
        let cpu = self.this_cpu;
        // bpf_timer_cb() calls a function, and enters no program.
        let enters = u32::from(scope.op != Op::Timer);
        self.readers += 1;
        self.programs += enters;
        let result = f(&*imp, &mut Cx::new(self, sched, scope));
        self.programs -= enters;
        self.readers -= 1;
        self.drop_cursors();
        self.this_cpu = cpu;
        result
    }

    /// `scx_error()`.
    pub(crate) fn scx_error(&mut self, sched: SchedIdx, msg: String) {
        self.scx_exit(sched, ExitKind::Error, 0, self.this_cpu.0 as i32, msg);
    }

    /// `ops_sanitize_err()`: the error as the kernel passes it on, negative.
    pub(crate) fn sanitize_err(&mut self, sched: SchedIdx, op: &str, err: Errno) -> i32 {
        if (1..=errno::MAX_ERRNO).contains(&err.0) {
            return -err.0;
        }
        let returned = err.0.wrapping_neg();
        self.scx_error(sched, format!("ops.{op}() returned an invalid errno {returned}"));
        -errno::EPROTO
    }

    /// `scx_cpu_valid()`.
    pub(crate) fn cpu_valid(&mut self, sched: SchedIdx, cpu: CpuId, place: &str) -> bool {
        if cpu.index() < self.nr_cpus() {
            return true;
        }
        let space = if place.is_empty() { "" } else { " " };
        self.scx_error(sched, format!("invalid CPU {}{space}{place}", cpu.0 as i32));
        false
    }

    /// `scx_task_sched()`.
    pub(crate) fn task_sched(&self, p: TaskIdx) -> Option<SchedIdx> {
        let sched = self.p(p).scx.sched;
        (sched != crate::task::NIL).then_some(SchedIdx(sched))
    }

    /// `scx_bypassing()`.
    pub(crate) fn bypassing(&self, sched: SchedIdx, cpu: CpuId) -> bool {
        self.sch(sched).pcpu[cpu.index()].bypassing
    }

    /// `scx_is_descendant()`: whether `sched` is `ancestor` or below it.
    pub(crate) fn is_descendant(&self, sched: SchedIdx, ancestor: SchedIdx) -> bool {
        let level = self.sch(ancestor).level();
        self.sch(sched).ancestors.get(level) == Some(&ancestor)
    }

    /// `scx_for_each_descendant_pre()`: `sched` first.
    pub(crate) fn descendants(&self, sched: SchedIdx) -> Vec<SchedIdx> {
        let mut all = vec![sched];
        let mut i = 0;
        while let Some(&sched) = all.get(i) {
            all.extend(&self.sch(sched).children);
            i += 1;
        }
        all
    }
}
