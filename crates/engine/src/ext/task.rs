//! A task's way through its scheduler: `ops.init_task`, `enable`, `disable`, `exit_task`, and the
//! hooks in fork and exit.

use super::sched::SchedIdx;
use super::tracepoint::{Tracepoint, TracepointSet};
use crate::CpuId;
use crate::engine::{EnableState, Engine};
use crate::flags::{ent, policy, state};
use crate::kfunc::Op;
use crate::ops::{ExitTaskArgs, InitTaskArgs, OpSet};
use crate::task::{NIL, SchedClass, TaskIdx, TaskState, sched_weight_to_cgroup};

impl Engine {
    /// `scx_set_task_state()`.
    pub(crate) fn set_task_state(&mut self, p: TaskIdx, to: TaskState) {
        let from = self.p(p).task_state();
        let fine = match to {
            TaskState::None => from != TaskState::Dead,
            TaskState::InitBegin => from == TaskState::None,
            TaskState::Init => from == TaskState::InitBegin,
            TaskState::Ready => matches!(from, TaskState::Init | TaskState::Enabled),
            TaskState::Enabled => from == TaskState::Ready,
            TaskState::Dead => matches!(from, TaskState::None | TaskState::InitBegin),
        };
        if !fine {
            let who = self.p(p).who();
            let (from, to) = (from as u32, to as u32);
            self.printk(format!(
                "WARNING: sched_ext: Invalid task state transition {:#x} -> {:#x} for {who}",
                from << ent::STATE_SHIFT,
                to << ent::STATE_SHIFT
            ));
        }
        let scx = &mut self.p_mut(p).scx;
        if to == TaskState::Init {
            scx.flags |= ent::RESET_RUNNABLE_AT;
        }
        scx.flags = scx.flags & !ent::STATE_MASK | (to as u32) << ent::STATE_SHIFT;
    }

    /// `__scx_init_task()`: the error, negative, or 0.
    pub(crate) fn scx_init_task(&mut self, sched: SchedIdx, p: TaskIdx, fork: bool) -> i32 {
        self.p_mut(p).scx.disallow = 0;
        let pid = self.p(p).pid();
        self.sim_mut(p).evidence.init = Some((pid, self.now));
        if self.sch(sched).has(OpSet::INIT_TASK) {
            let cgroup = self.cgroups.id(self.p(p).cgroup);
            let args = InitTaskArgs { fork, cgroup };
            let result = self.call(sched, Op::InitTask, |ops, cx| {
                let p = cx.task(p);
                ops.init_task(cx, p, &args)
            });
            if let Err(err) = result {
                return self.sanitize_err(sched, "init_task", err);
            }
        }
        if self.p(p).scx.disallow != 0 {
            self.apply_disallow(sched, p, fork);
        }
        0
    }

    fn apply_disallow(&mut self, sched: SchedIdx, p: TaskIdx, fork: bool) {
        let who = self.p(p).who();
        if self.sch(sched).parent().is_some() {
            let msg = format!("non-root ops.init_task() set task->scx.disallow for {who}");
            self.scx_error(sched, msg);
        } else if fork {
            let msg = format!("ops.init_task() set task->scx.disallow for {who} during fork");
            self.scx_error(sched, msg);
        } else if self.enable_state != EnableState::Enabling {
            let msg =
                format!("ops.init_task() set task->scx.disallow for {who} outside the enable path");
            self.scx_error(sched, msg);
        } else if self.p(p).policy == policy::SCHED_EXT {
            self.p_mut(p).policy = policy::SCHED_NORMAL;
            self.nr_rejected += 1;
        }
    }

    /// `scx_enable_task()`.
    pub(crate) fn scx_enable_task(&mut self, sched: SchedIdx, p: TaskIdx) {
        let weight = sched_weight_to_cgroup(self.p(p).load_weight());
        self.p_mut(p).scx.weight = weight;
        if self.sch(sched).has(OpSet::ENABLE) {
            self.call_task(sched, Op::Enable, p, |ops, cx, p| {
                ops.enable(cx, p);
            });
        }
        self.call_set_weight(sched, p, weight);
        self.set_task_state(p, TaskState::Enabled);
    }

    /// `scx_disable_task()`.
    pub(crate) fn scx_disable_task(&mut self, sched: SchedIdx, p: TaskIdx) {
        self.clear_direct_dispatch(p);
        if self.sch(sched).has(OpSet::DISABLE) {
            self.call_task(sched, Op::Disable, p, |ops, cx, p| {
                ops.disable(cx, p);
            });
        }
        self.set_task_state(p, TaskState::Ready);
        let scx = &mut self.p_mut(p).scx;
        scx.dsq_vtime = 0;
        scx.slice = 0;
    }

    /// `__scx_disable_and_exit_task()`: leaves the state as it is, but for enabled, which becomes
    /// ready.
    pub(crate) fn scx_exit_task(&mut self, sched: SchedIdx, p: TaskIdx) {
        let cancelled = match self.p(p).task_state() {
            TaskState::Init => true,
            TaskState::Ready => false,
            TaskState::Enabled => {
                self.scx_disable_task(sched, p);
                false
            }
            _ => return,
        };
        self.call_exit_task(sched, p, cancelled);
    }

    /// `scx_sub_init_cancel_task()` when `cancelled`.
    pub(crate) fn call_exit_task(&mut self, sched: SchedIdx, p: TaskIdx, cancelled: bool) {
        if self.sch(sched).has(OpSet::EXIT_TASK) {
            self.call_task(sched, Op::ExitTask, p, |ops, cx, p| {
                ops.exit_task(cx, p, &ExitTaskArgs { cancelled });
            });
        }
    }

    /// `scx_disable_and_exit_task()`.
    pub(crate) fn scx_disable_and_exit_task(&mut self, sched: Option<SchedIdx>, p: TaskIdx) {
        if let Some(sched) = sched {
            self.scx_exit_task(sched, p);
        }
        if self.p(p).scx.flags & ent::SUB_INIT != 0 {
            // It exits while a sub-scheduler that has seen it is being enabled.
            if let Some(sub) = self.enabling_sub {
                self.call_exit_task(sub, p, true);
            }
            self.p_mut(p).scx.flags &= !ent::SUB_INIT;
        }
        self.p_mut(p).scx.sched = NIL;
        self.set_task_state(p, TaskState::None);
    }

    /// `scx_fork()`: the tid, and `ops.init_task` if a scheduler is there. A negative error fails
    /// the fork.
    pub(crate) fn scx_fork(&mut self, cpu: CpuId, p: TaskIdx) -> i32 {
        self.p_mut(p).scx.tid = self.alloc_tid(cpu);
        if !self.init_task_enabled {
            return 0;
        }
        let Some(sched) = self.cgroups.sched(self.p(p).cgroup) else { return 0 };
        self.set_task_state(p, TaskState::InitBegin);
        let err = self.scx_init_task(sched, p, true);
        if err != 0 {
            self.set_task_state(p, TaskState::None);
            return err;
        }
        self.set_task_state(p, TaskState::Init);
        self.p_mut(p).scx.sched = sched.0;
        0
    }

    /// `scx_post_fork()`.
    pub(crate) fn scx_post_fork(&mut self, p: TaskIdx) {
        if self.init_task_enabled {
            self.set_task_state(p, TaskState::Ready);
            if self.p(p).sched_class() == SchedClass::Ext
                && let Some(sched) = self.task_sched(p)
            {
                self.scx_enable_task(sched, p);
            }
        }
        self.scx_tasks.push_back(&mut self.tasks, p);
        if self.tid_to_task_enabled && !self.sabotaged(crate::config::Sabotage::C3SkipForkInsert) {
            self.tid_hash_insert(p);
        }
    }

    /// `task_dead_and_done()`.
    pub(crate) fn dead_and_done(&self, p: TaskIdx) -> bool {
        self.p(p).__state == state::TASK_DEAD && self.p(p).on_cpu == 0
    }

    /// `sched_ext_dead()`: after the last switch.
    pub(crate) fn sched_ext_dead(&mut self, p: TaskIdx) {
        self.trace(TracepointSet::SCHED_EXT_DEAD, |_| Tracepoint::SchedExtDead { p });
        self.enable_iter_skip(p);
        self.scx_tasks.remove(&mut self.tasks, p);
        if self.tid_to_task_enabled {
            self.tid_hash_remove(p);
        }
        match self.p(p).task_state() {
            TaskState::None => {}
            TaskState::InitBegin => {
                // ops.init_task is running for it; who called it will see DEAD and unwind.
                self.stats.died_while_enabling += 1;
                self.set_task_state(p, TaskState::Dead);
            }
            _ => {
                let sched = self.task_sched(p);
                self.scx_disable_and_exit_task(sched, p);
                self.set_task_state(p, TaskState::Dead);
            }
        }
    }

    /// `switching_to_scx()`.
    pub(crate) fn switching_to_scx(&mut self, p: TaskIdx) {
        if self.dead_and_done(p) {
            return;
        }
        if let Some(sched) = self.task_sched(p) {
            self.scx_enable_task(sched, p);
            self.call_set_cpumask(sched, p);
        }
    }

    /// `switched_from_scx()`.
    pub(crate) fn switched_from_scx(&mut self, p: TaskIdx) {
        if self.dead_and_done(p) || self.p(p).task_state() == TaskState::None {
            return;
        }
        if let Some(sched) = self.task_sched(p) {
            self.scx_disable_task(sched, p);
        }
    }
}
