//! Timers of a scheduler's own, and the clock's ticks: what `bpf_timer_start()` and
//! `bpf_jiffies64()` need.

use super::{Cx, Op};
use crate::engine::Engine;
use crate::events::Event;
use crate::ext::sched::{ExitPhase, SchedIdx};
use crate::{CpuId, Nanos};

impl Cx<'_> {
    /// Has [`Scheduler::timer`](crate::Scheduler::timer) called with this cookie, on this CPU, at a
    /// time or a little later: `hrtimer_start()` in softirq mode.
    ///
    /// Each start is one call. The engine does not take one back: a scheduler that stops a timer
    /// ignores its cookie. Once the scheduler is gone none goes off.
    pub fn timer_start(&mut self, cookie: u32, at: Nanos) {
        let core = &mut *self.core;
        // From the interrupt to the callback: so one that is started over and over takes time.
        let late = core.rng.jitter(core.config.costs.ipi);
        let cpu = core.this_cpu.0;
        let event = Event::SchedTimer { cpu, sched: self.sched.0, cookie };
        core.events.push(at.max(core.now) + late, event);
    }

    /// The length of a tick of `jiffies`, which start at 0.
    pub fn jiffy(&self) -> Nanos {
        self.core.jiffy()
    }

    /// The seed that the run's chance comes from.
    pub fn seed(&self) -> u64 {
        self.core.config.seed
    }

    /// Whether the CPU's interrupts are off: all operations but those that may sleep, and callbacks
    /// of timers, run with a lock held that turns them off; so do programs at most tracepoints.
    pub fn irqs_disabled(&self) -> bool {
        match self.scope.op {
            Op::Timer | Op::Trace => false,
            Op::Dump => true,
            op => !op.may_sleep(),
        }
    }
}

impl Engine {
    /// `hrtimer_run_softirq()`, for one timer.
    pub(crate) fn sched_timer(&mut self, cpu: CpuId, sched: SchedIdx, cookie: u32) {
        if self.sch(sched).exit_phase == ExitPhase::Done {
            return;
        }
        self.this_cpu = cpu;
        self.call(sched, Op::Timer, |ops, cx| ops.timer(cx, cookie));
    }
}
