//! `try_to_wake_up()` and `wake_up_new_task()`.
//!
//! A wakeup has two halves. First a CPU is chosen, with `ops.select_cpu` and without a runqueue
//! lock; then the task is enqueued there. What happens between the two is a seam like others: the
//! CPU that was idle may be busy by then. The second half is the waker's, or with
//! `SCX_OPS_ALLOW_QUEUED_WAKEUP` that of the CPU that was chosen, which gets an interrupt for it.

use crate::engine::Engine;
use crate::events::Event;
use crate::ext::tracepoint::{Tracepoint, TracepointSet};
use crate::flags::{EnqFlags, OpsFlags, WakeFlags, rqf, state};
use crate::task::{SchedClass, TaskIdx};
use crate::trace::What;
use crate::{CpuId, Nanos};

impl Engine {
    /// `try_to_wake_up()`: wakes `p` if its state is one of `states`; whether it was.
    pub(crate) fn try_to_wake_up(&mut self, p: TaskIdx, states: u32) -> bool {
        if self.p(p).__state & states == 0 {
            return false;
        }
        let waker = self.this_cpu;
        self.trace(TracepointSet::SCHED_WAKING, |_| Tracepoint::SchedWaking { p });
        let sim = self.sim_mut(p);
        sim.waker = waker;
        sim.sleeps = sim.sleeps.wrapping_add(1);
        sim.wake_enq = EnqFlags::WAKEUP | EnqFlags::NOCLOCK;
        if self.p(p).on_rq != 0 {
            // It had not gone to sleep yet (ttwu_runnable()).
            self.p_mut(p).__state = state::TASK_RUNNING;
            self.trace(TracepointSet::SCHED_WAKEUP, |_| Tracepoint::SchedWakeup { p });
            return true;
        }
        self.p_mut(p).__state = state::TASK_WAKING;
        self.choose_cpu(p, WakeFlags::TTWU);
        true
    }

    /// `wake_up_new_task()`.
    pub(crate) fn wake_up_new_task(&mut self, p: TaskIdx) {
        self.trace(TracepointSet::WAKE_UP_NEW_TASK, |_| Tracepoint::WakeUpNewTask { p });
        self.sim_mut(p).wake_enq = EnqFlags::INITIAL | EnqFlags::NOCLOCK;
        self.sim_mut(p).waker = self.this_cpu;
        self.p_mut(p).__state = state::TASK_RUNNING;
        self.choose_cpu(p, WakeFlags::FORK);
    }

    fn choose_cpu(&mut self, p: TaskIdx, flags: WakeFlags) {
        let generation = self.sim(p).sleeps;
        if self.p(p).on_cpu != 0 {
            let cpu = self.task_cpu(p);
            if flags.contains(WakeFlags::TTWU) && self.ttwu_queue_cond(p, cpu) {
                // No CPU is chosen: it stays where it is switched away from.
                self.ttwu_queue_wakelist(p, cpu);
                return;
            }
            // Its old CPU is still switching away from it; the kernel spins.
            self.after(Nanos(500), Event::WakeEnqueue { task: p, generation });
            return;
        }
        let (cpu, selected) = self.select_task_rq(p, flags);
        if selected && flags.contains(WakeFlags::TTWU) {
            self.sim_mut(p).wake_enq |= EnqFlags::CPU_SELECTED;
        }
        if flags.contains(WakeFlags::TTWU) && cpu != self.task_cpu(p) {
            self.sim_mut(p).wake_enq |= EnqFlags::MIGRATED;
            self.set_task_cpu(p, cpu);
        }
        self.p_mut(p).cpu = cpu.0;
        if flags.contains(WakeFlags::TTWU) && self.ttwu_queue_cond(p, cpu) {
            self.ttwu_queue_wakelist(p, cpu);
            return;
        }
        // Marks the second half; see wake_enqueue().
        self.sim_mut(p).wake_enq |= EnqFlags::MOVE;
        let delay = self.rng.jitter(self.config.costs.wake);
        self.after(delay, Event::WakeEnqueue { task: p, generation });
    }

    /// `ttwu_queue_cond()`: whether another CPU is to do the second half (Linux 7.2).
    fn ttwu_queue_cond(&self, p: TaskIdx, cpu: CpuId) -> bool {
        if !self.scx_allow_ttwu_queue(p) || !self.p(p).cpu_allowed(cpu) {
            return false;
        }
        let this_cpu = self.this_cpu;
        if !self.topology.llc(this_cpu).test(cpu) {
            return true;
        }
        cpu != this_cpu && self.rq(cpu).nr_running == 0
    }

    /// `scx_allow_ttwu_queue()`. Other tasks' wakeups are the waker's here, always.
    fn scx_allow_ttwu_queue(&self, p: TaskIdx) -> bool {
        let asked = |sched| self.sch(sched).flag(OpsFlags::ALLOW_QUEUED_WAKEUP);
        self.p(p).sched_class() == SchedClass::Ext && self.task_sched(p).is_some_and(asked)
    }

    /// `__ttwu_queue_wakelist()`: of what the waker has found out, only the CPU and that it is another one
    /// go with the task (`sched_ttwu_pending()`).
    fn ttwu_queue_wakelist(&mut self, p: TaskIdx, cpu: CpuId) {
        let generation = self.sim(p).sleeps;
        let sim = self.sim_mut(p);
        sim.waker = cpu;
        sim.wake_enq.remove(EnqFlags::CPU_SELECTED);
        sim.wake_enq |= EnqFlags::MOVE;
        let delay = self.rng.jitter(self.config.costs.ipi);
        self.after(delay, Event::WakeEnqueue { task: p, generation });
    }

    /// `select_task_rq()`: the CPU, and whether the class was asked.
    fn select_task_rq(&mut self, p: TaskIdx, flags: WakeFlags) -> (CpuId, bool) {
        let prev = self.task_cpu(p);
        let task = self.p(p);
        let ask = task.nr_cpus_allowed > 1 && task.migration_disabled == 0;
        let cpu = match task.sched_class() {
            _ if !ask => task.cpus_ptr().first().unwrap_or(prev),
            SchedClass::Ext => self.select_task_rq_scx(p, prev, flags),
            _ => self.select_task_rq_fair(p, prev),
        };
        let allowed = cpu.index() < self.nr_cpus() && self.p(p).cpu_allowed(cpu);
        let cpu = if allowed { cpu } else { self.select_fallback_rq(p, prev) };
        (cpu, ask)
    }

    /// `select_fallback_rq()`: the first CPU of the node that the task may use, wherever it was.
    fn select_fallback_rq(&self, p: TaskIdx, prev: CpuId) -> CpuId {
        self.p(p).cpus_ptr().first().unwrap_or(prev)
    }

    /// The second half of a wakeup: `ttwu_do_activate()`.
    pub(crate) fn wake_enqueue(&mut self, p: TaskIdx, generation: u32) {
        if self.sim(p).sleeps != generation || self.p(p).on_rq != 0 {
            return;
        }
        self.this_cpu = self.sim(p).waker;
        let mut flags = self.sim(p).wake_enq;
        let new = !flags.contains(EnqFlags::WAKEUP);
        let wake = if new { WakeFlags::FORK } else { WakeFlags::TTWU };
        if !flags.contains(EnqFlags::MOVE) {
            self.choose_cpu(p, wake);
            return;
        }
        flags.remove(EnqFlags::MOVE);
        let cpu = self.task_cpu(p);
        if !self.p(p).cpu_allowed(cpu) {
            // The affinity changed in between; choose again.
            self.sim_mut(p).wake_enq = flags;
            self.choose_cpu(p, wake);
            return;
        }
        self.stats.wakeups += 1;
        self.record(|engine| What::Wakeup { task: engine.name(p), target: cpu });
        self.enqueue_task(cpu, p, flags);
        self.p_mut(p).on_rq = 1;
        self.p_mut(p).__state = state::TASK_RUNNING;
        if new {
            self.trace(TracepointSet::SCHED_WAKEUP_NEW, |_| Tracepoint::SchedWakeupNew { p });
        }
        self.wakeup_preempt(cpu, p);
        if !new {
            // ttwu_do_wakeup()
            self.trace(TracepointSet::SCHED_WAKEUP, |_| Tracepoint::SchedWakeup { p });
        }
        if self.p(p).sched_class() == SchedClass::Ext {
            // task_woken_scx()
            self.rq_mut(cpu).scx.flags &= !rqf::IN_WAKEUP;
            self.run_deferred(cpu);
        }
        if self.rq(cpu).curr != self.rq(cpu).idle {
            self.rearm_tick(cpu);
        }
    }

    /// A sleep or timer has run out.
    pub(crate) fn timeout(&mut self, p: TaskIdx, generation: u32) {
        if self.sim(p).sleeps == generation {
            self.this_cpu = self.task_cpu(p);
            self.try_to_wake_up(p, state::TASK_INTERRUPTIBLE);
        }
    }
}
