//! `__schedule()`: from one task to the next.

use crate::CpuId;
use crate::engine::Engine;
use crate::ext::class::Picked;
use crate::ext::tracepoint::{Tracepoint, TracepointSet};
use crate::flags::{DeqFlags, EnqFlags, state};
use crate::rq::ServerPhase;
use crate::sim::Act;
use crate::task::{SchedClass, TaskIdx};
use crate::trace::What;

/// How a task left its CPU.
#[derive(Clone, Copy, Debug)]
struct Left {
    /// It sleeps, or is dead.
    blocked: bool,
    /// It was preempted in the kernel (`SM_PREEMPT`).
    preempted: bool,
    /// Its `__state` when `__schedule()` began.
    state: u32,
}

impl Engine {
    /// Whether a task that runs is in the kernel: in a system call, or for good. One that loses its
    /// CPU elsewhere goes through `schedule()`, as if of its own will.
    fn in_kernel(&self, p: TaskIdx) -> bool {
        !matches!(self.sim(p).act, Act::Fetch | Act::Idle)
    }

    /// `set_task_cpu()`.
    pub(crate) fn set_task_cpu(&mut self, p: TaskIdx, dest_cpu: CpuId) {
        let migrates = |_: &Self| Tracepoint::SchedMigrateTask { p, dest_cpu };
        self.trace(TracepointSet::SCHED_MIGRATE_TASK, migrates);
        self.p_mut(p).cpu = dest_cpu.0;
    }

    /// `resched_curr()`.
    pub(crate) fn resched_curr(&mut self, cpu: CpuId) {
        let remote = cpu != self.this_cpu;
        let rq = self.rq_mut(cpu);
        rq.need_resched = true;
        rq.resched_wanted = true;
        if !rq.resched_queued {
            rq.resched_queued = true;
            let delay =
                if remote { self.rng.jitter(self.config.costs.ipi) } else { crate::Nanos(0) };
            self.after(delay, crate::events::Event::Resched { cpu: cpu.0 });
        }
    }

    /// The CPU gets round to `need_resched`: an interrupt, or the way back to user space.
    pub(crate) fn resched_event(&mut self, cpu: CpuId) {
        let rq = self.rq_mut(cpu);
        rq.resched_queued = false;
        if rq.need_resched {
            self.schedule(cpu, true);
        }
    }

    /// `__schedule()`. With `preempt`, a task that is about to sleep stays runnable.
    pub(crate) fn schedule(&mut self, cpu: CpuId, preempt: bool) {
        self.this_cpu = cpu;
        self.stop_burst(cpu);
        let first = self.rq(cpu).curr;
        let prev_state = self.p(first).__state;
        let blocks = !preempt && prev_state != state::TASK_RUNNING;
        let preempted = preempt && self.in_kernel(first);
        if blocks {
            self.block_task(cpu, first);
        }
        self.run_stopper(cpu, preempted);

        let prev = self.rq(cpu).curr;
        let next = self.pick_next_task(cpu);
        let next_class = self.p(next).sched_class();
        let rq = self.rq_mut(cpu);
        rq.next_class = next_class;
        // clear_tsk_need_resched(prev), but put_prev_task_scx() may have flagged @next.
        rq.need_resched = false;
        rq.resched_wanted = false;
        let again = std::mem::take(&mut rq.resched_next);
        if next != prev {
            let left = match prev == first {
                true => Left { blocked: blocks, preempted, state: prev_state },
                // The stopper has come between.
                false => Left { blocked: false, preempted: false, state: state::TASK_RUNNING },
            };
            self.context_switch(cpu, prev, next, left);
        } else if next == self.rq(cpu).idle {
            // From the stopper, if not from idle itself.
            self.idle_cpus.set(cpu);
        }
        if again {
            self.resched_curr(cpu);
        }
        self.start_burst(cpu, next != prev);
        self.rearm_tick(cpu);
        self.balance_callbacks(cpu);
    }

    /// `__balance_callbacks()`: what a pick has put off until the lock can be dropped.
    fn balance_callbacks(&mut self, cpu: CpuId) {
        if std::mem::take(&mut self.rq_mut(cpu).scx.deferred_pending) {
            self.run_deferred(cpu);
        }
        if std::mem::take(&mut self.rq_mut(cpu).scx.kick_sync_pending) {
            self.kick_sync_wait(cpu);
        }
    }

    fn block_task(&mut self, cpu: CpuId, prev: TaskIdx) {
        self.stats.sleeps += 1;
        // try_to_block_task()
        let mut flags = DeqFlags::SLEEP | DeqFlags::NOCLOCK;
        flags.set(DeqFlags::SPECIAL, self.p(prev).__state & state::TASK_DEAD != 0);
        self.dequeue_task(cpu, prev, flags);
        // __block_task()
        self.p_mut(prev).on_rq = 0;
    }

    /// `__pick_next_task()`, and the hand-over between the classes.
    fn pick_next_task(&mut self, cpu: CpuId) -> TaskIdx {
        loop {
            let prev = self.rq(cpu).curr;
            if self.rq(cpu).ext_server.phase == ServerPhase::Active && self.scx_enabled {
                if let Picked::Task(p) = self.pick_task_scx(cpu, true) {
                    self.put_prev_set_next(cpu, prev, p);
                    return p;
                }
                self.ext_server_stop(cpu);
            }
            if !self.switched_all
                && let Some(p) = self.pick_task_fair(cpu)
            {
                self.put_prev_set_next(cpu, prev, p);
                return p;
            }
            if self.scx_enabled {
                match self.pick_task_scx(cpu, false) {
                    Picked::Task(p) => {
                        self.put_prev_set_next(cpu, prev, p);
                        return p;
                    }
                    Picked::Retry => continue,
                    Picked::Nothing => {}
                }
            }
            // pick_task_idle()
            self.update_idle(cpu, true, false);
            let idle = self.rq(cpu).idle;
            self.put_prev_set_next(cpu, prev, idle);
            return idle;
        }
    }

    fn put_prev_set_next(&mut self, cpu: CpuId, prev: TaskIdx, next: TaskIdx) {
        let from_stopper = std::mem::take(&mut self.rq_mut(cpu).stopper_runs);
        if prev == next && !from_stopper {
            return;
        }
        if !from_stopper {
            self.put_prev_task(cpu, prev, Some(next));
        }
        self.set_next_task(cpu, next);
    }

    pub(crate) fn put_prev_task(&mut self, cpu: CpuId, prev: TaskIdx, next: Option<TaskIdx>) {
        match self.p(prev).sched_class() {
            SchedClass::Idle => self.update_idle(cpu, false, true),
            SchedClass::Ext => self.put_prev_task_scx(cpu, prev, next),
            SchedClass::Fair => self.put_prev_task_fair(cpu, prev),
        }
    }

    pub(crate) fn set_next_task(&mut self, cpu: CpuId, next: TaskIdx) {
        match self.p(next).sched_class() {
            SchedClass::Idle => self.update_idle(cpu, true, true),
            SchedClass::Ext => self.set_next_task_scx(cpu, next),
            SchedClass::Fair => self.set_next_task_fair(cpu, next),
        }
    }

    fn context_switch(&mut self, cpu: CpuId, prev: TaskIdx, next: TaskIdx, left: Left) {
        let Left { blocked, preempted: preempt, state: was } = left;
        // __trace_sched_switch_state(): who is preempted is runnable, also on its way out.
        let prev_state = match blocked {
            false => 'R',
            true if self.p(prev).__state == state::TASK_DEAD => 'X',
            true => self.p(prev).state_char(),
        };
        self.record(|engine| What::Switch {
            prev: engine.name(prev),
            prev_state,
            next: engine.name(next),
        });
        self.stats.switches += 1;
        let task = self.p_mut(prev);
        let switch_count = if blocked { &mut task.nvcsw } else { &mut task.nivcsw };
        *switch_count += 1;
        self.rq_mut(cpu).curr = next;
        if next == self.rq(cpu).idle {
            self.idle_cpus.set(cpu);
        } else {
            self.idle_cpus.clear(cpu);
        }
        self.trace_as(prev, TracepointSet::SCHED_SWITCH, |_| Tracepoint::SchedSwitch {
            preempt,
            prev,
            next,
            prev_state: was,
        });
        self.p_mut(next).on_cpu = 1;
        // finish_task_switch()
        self.p_mut(prev).on_cpu = 0;
        if self.p(prev).__state == state::TASK_DEAD {
            self.finish_dead(prev);
        }
    }

    /// The stopper thread's work, which comes before every class: tasks that were running when
    /// their affinity changed (`migration_cpu_stop()`).
    fn run_stopper(&mut self, cpu: CpuId, preempt: bool) {
        while let Some((p, dest)) = self.rq_mut(cpu).stop_work.pop() {
            let here = self.task_cpu(p) == cpu && self.p(p).on_rq == 1;
            if !here || self.p(p).cpu_allowed(cpu) {
                continue;
            }
            if self.rq(cpu).curr == p {
                // The stopper preempts the task, then moves it. It is no task of the engine's:
                // the idle task stands in for it.
                let idle = self.rq(cpu).idle;
                self.put_prev_task(cpu, p, None);
                self.record(|engine| What::Switch {
                    prev: engine.name(p),
                    prev_state: 'R',
                    next: engine.name(idle),
                });
                self.stats.switches += 1;
                self.rq_mut(cpu).curr = idle;
                self.rq_mut(cpu).stopper_runs = true;
                let prev_state = self.p(p).__state;
                self.p_mut(p).nivcsw += 1;
                self.trace_as(p, TracepointSet::SCHED_SWITCH, |_| Tracepoint::SchedSwitch {
                    preempt,
                    prev: p,
                    next: idle,
                    prev_state,
                });
                let task = self.p_mut(p);
                task.on_cpu = 0;
            }
            self.move_queued_task(cpu, p, dest);
        }
    }

    /// `move_queued_task()`: to another CPU's runqueue, through the scheduler.
    pub(crate) fn move_queued_task(&mut self, cpu: CpuId, p: TaskIdx, dest: CpuId) {
        self.p_mut(p).on_rq = 2; // TASK_ON_RQ_MIGRATING
        self.dequeue_task(cpu, p, DeqFlags::NOCLOCK);
        self.set_task_cpu(p, dest);
        self.enqueue_task(dest, p, EnqFlags::MIGRATED);
        self.p_mut(p).on_rq = 1;
        self.wakeup_preempt(dest, p);
    }

    /// `enqueue_task()`: into the task's class.
    pub(crate) fn enqueue_task(&mut self, cpu: CpuId, p: TaskIdx, flags: EnqFlags) {
        match self.p(p).sched_class() {
            SchedClass::Ext => self.enqueue_task_scx(cpu, p, flags),
            SchedClass::Fair => self.enqueue_task_fair(cpu, p),
            SchedClass::Idle => {}
        }
    }

    /// `dequeue_task()`.
    pub(crate) fn dequeue_task(&mut self, cpu: CpuId, p: TaskIdx, flags: DeqFlags) {
        match self.p(p).sched_class() {
            SchedClass::Ext => self.dequeue_task_scx(cpu, p, flags),
            SchedClass::Fair => self.dequeue_task_fair(cpu, p),
            SchedClass::Idle => {}
        }
    }

    /// `wakeup_preempt()`: does the CPU have to look again now that `p` is there?
    pub(crate) fn wakeup_preempt(&mut self, cpu: CpuId, p: TaskIdx) {
        let class = self.p(p).sched_class();
        let next_class = self.rq(cpu).next_class;
        if class > next_class {
            // wakeup_preempt_scx()
            if next_class == SchedClass::Ext && self.rq(cpu).scx.nr_immed > 0 {
                self.schedule_reenq_local(cpu);
            }
            self.resched_curr(cpu);
            self.rq_mut(cpu).next_class = class;
        } else if class == SchedClass::Fair && next_class == SchedClass::Fair {
            self.wakeup_preempt_fair(cpu, p);
        }
        // Within the ext class only the scheduler preempts (wakeup_preempt_scx()).
    }
}
