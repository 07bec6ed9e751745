//! Changes of a task's properties: `sched_change_begin()` and `sched_change_end()`, and the
//! system calls that use them.

use crate::engine::Engine;
use crate::flags::{self, DeqFlags, EnqFlags};
use crate::program::Policy;
use crate::task::{DEFAULT_PRIO, SchedClass, TaskIdx};
use crate::trace::What;
use crate::{CpuId, Cpumask};

impl Engine {
    /// Takes `p` off its queues, changes it, and puts it back: `scoped_guard(sched_change, p)`.
    /// With a new class the old one sees the task leave and the new one sees it come.
    pub(crate) fn sched_change(
        &mut self,
        p: TaskIdx,
        class: SchedClass,
        flags: DeqFlags,
        change: impl FnOnce(&mut Self),
    ) {
        let cpu = self.task_cpu(p);
        let old_class = self.p(p).sched_class();
        let queued = self.p(p).on_rq == 1;
        let running = self.is_current(p);
        let mut flags = flags | DeqFlags::SAVE | DeqFlags::NOCLOCK;
        flags.set(DeqFlags::CLASS, old_class != class);
        if queued {
            self.dequeue_task(cpu, p, flags);
        }
        if running {
            self.put_prev_task(cpu, p, None);
        }
        if old_class != class && old_class == SchedClass::Ext {
            self.switched_from_scx(p);
        }
        change(self);
        self.p_mut(p).sched_class = class as u32;
        if old_class != class && class == SchedClass::Ext {
            self.switching_to_scx(p);
        }
        if queued {
            // The flags of both match, as in the kernel.
            self.enqueue_task(cpu, p, EnqFlags::from_bits_retain(flags.bits()));
        }
        if running {
            self.set_next_task(cpu, p);
        }
        if old_class != class {
            if queued {
                self.wakeup_preempt(cpu, p);
            }
            if running && old_class > class {
                self.resched_curr(cpu);
            }
        }
        if running {
            self.rearm_tick(cpu);
        }
    }

    /// `sched_move_task()`: from one task group to another, with what the scheduler is told of it.
    pub(crate) fn sched_move_task(&mut self, p: TaskIdx, change: impl FnOnce(&mut Self)) {
        let (cpu, class) = (self.task_cpu(p), self.p(p).sched_class());
        self.sched_change(p, class, DeqFlags::MOVE, change);
        if self.is_current(p) {
            self.resched_curr(cpu);
        } else if self.p(p).on_rq == 1 {
            self.wakeup_preempt(cpu, p);
        }
    }

    /// `set_user_nice()`.
    pub(crate) fn set_user_nice(&mut self, p: TaskIdx, nice: i8) {
        if self.p(p).nice() == i32::from(nice) {
            return;
        }
        let class = self.p(p).sched_class();
        self.sched_change(p, class, DeqFlags::empty(), |engine| {
            engine.p_mut(p).static_prio = DEFAULT_PRIO + i32::from(nice);
            if class == SchedClass::Ext {
                engine.reweight_task_scx(p);
            }
        });
        self.record(|engine| What::Changed { task: engine.name(p), what: format!("nice {nice}") });
    }

    /// `__set_cpus_allowed_ptr()`. Does nothing, as the system call fails, if no CPU is left.
    pub(crate) fn set_cpus_allowed(&mut self, p: TaskIdx, cpus: &Cpumask) {
        let cpus = cpus.and(&self.topology.all());
        if cpus.is_empty() || cpus == self.p(p).cpus_mask {
            return;
        }
        // cpumask_any_and_distribute(), also where the task may stay.
        let Some(dest) = self.any_distribute(&cpus) else { return };
        let class = self.p(p).sched_class();
        self.sched_change(p, class, DeqFlags::empty(), |engine| {
            let task = engine.p_mut(p);
            task.cpus_mask = cpus;
            task.nr_cpus_allowed = cpus.weight();
            if class == SchedClass::Ext {
                engine.set_cpus_allowed_scx(p);
            }
        });
        self.record(|engine| What::Changed {
            task: engine.name(p),
            what: format!("affinity {cpus}"),
        });
        self.affine_move_task(p, dest);
    }

    /// `affine_move_task()`: off a CPU that the task may no longer use.
    fn affine_move_task(&mut self, p: TaskIdx, dest: CpuId) {
        let cpu = self.task_cpu(p);
        let task = self.p(p);
        if task.cpu_allowed(cpu) || task.on_rq != 1 {
            return;
        }
        if task.on_cpu != 0 || self.rq(cpu).curr == p {
            self.rq_mut(cpu).stop_work.push((p, dest));
            self.resched_curr(cpu);
        } else {
            self.stats.queued_moves += 1;
            self.move_queued_task(cpu, p, dest);
            if self.p(p).sched_class() == SchedClass::Ext {
                self.run_deferred(dest);
            }
        }
    }

    /// `__sched_setscheduler()`, between the policies that the engine has. Refused for a task
    /// that its scheduler disallows.
    pub(crate) fn set_policy(&mut self, p: TaskIdx, policy: Policy) {
        let number = policy_number(policy);
        // scx_check_setscheduler()
        let refused = self.scx_enabled
            && self.p(p).scx.disallow != 0
            && self.p(p).policy != number
            && policy == Policy::Ext;
        if refused || self.p(p).policy == number {
            return;
        }
        let class = self.class_for_policy(number);
        self.sched_change(p, class, DeqFlags::empty(), |engine| {
            engine.p_mut(p).policy = number;
            if class == SchedClass::Ext && engine.p(p).sched_class() == SchedClass::Ext {
                engine.reweight_task_scx(p);
            }
        });
        self.record(|engine| What::Changed {
            task: engine.name(p),
            what: format!("policy {number}"),
        });
    }

    /// `__setscheduler_class()`.
    pub(crate) fn class_for_policy(&self, policy: u32) -> SchedClass {
        if self.task_should_scx(policy) { SchedClass::Ext } else { SchedClass::Fair }
    }

    /// `migrate_disable()`.
    pub(crate) fn migrate_disable(&mut self, p: TaskIdx) {
        self.p_mut(p).migration_disabled += 1;
    }

    /// `migrate_enable()`: a change of affinity may have waited for it.
    pub(crate) fn migrate_enable(&mut self, p: TaskIdx) {
        let task = self.p_mut(p);
        task.migration_disabled = task.migration_disabled.saturating_sub(1);
        let (enabled, cpus) = (task.migration_disabled == 0, task.cpus_mask);
        if enabled
            && !cpus.test(self.task_cpu(p))
            && let Some(dest) = self.any_distribute(&cpus)
        {
            self.affine_move_task(p, dest);
        }
    }

    /// The CPU of a task, if it can be changed now: not in the middle of its wakeup, and not on a
    /// CPU that is half-way through something with its lock held.
    pub(crate) fn can_change(&self, p: TaskIdx) -> bool {
        let waking = self.p(p).__state == crate::flags::state::TASK_WAKING
            || (self.p(p).on_rq == 0 && self.p(p).__state == crate::flags::state::TASK_RUNNING);
        !waking && self.p(p).scx.sticky_cpu < 0 && !self.is_locked(self.task_cpu(p))
    }
}

/// The policy's number.
pub(crate) fn policy_number(policy: Policy) -> u32 {
    match policy {
        Policy::Normal => flags::policy::SCHED_NORMAL,
        Policy::Batch => flags::policy::SCHED_BATCH,
        Policy::Idle => flags::policy::SCHED_IDLE,
        Policy::Ext => flags::policy::SCHED_EXT,
    }
}
