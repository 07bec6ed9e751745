//! The watchdog: a worker that looks for tasks that were runnable for too long, and the tick that
//! looks whether the worker still does.

use crate::engine::Engine;
use crate::events::Event;
use crate::flags::state;
use crate::sim::Act;
use crate::task::SchedClass;
use crate::trace::What;
use crate::{CpuId, ExitKind, Nanos};

impl Engine {
    /// `refresh_watchdog()`: half the shortest timeout of all attached schedulers.
    pub(crate) fn refresh_watchdog(&mut self) {
        let shortest = self.scheds.iter().filter(|s| s.linked).map(|s| s.watchdog_timeout).min();
        self.watchdog_timestamp = self.now;
        self.watchdog_generation = self.watchdog_generation.wrapping_add(1);
        self.watchdog_interval = match shortest {
            // In whole jiffies.
            Some(timeout) => {
                let jiffy = self.jiffy();
                Nanos((timeout.0 / jiffy.0 / 2).max(1) * jiffy.0)
            }
            None => Nanos::NEVER,
        };
        self.queue_watchdog();
    }

    fn queue_watchdog(&mut self) {
        if self.watchdog_interval == Nanos::NEVER {
            return;
        }
        let generation = self.watchdog_generation;
        self.after(self.watchdog_interval, Event::Watchdog { generation });
        if let Some(root) = self.root {
            let late = self.sch(root).watchdog_timeout + self.jiffy();
            self.after(late, Event::WatchdogLate { generation });
        }
    }

    /// The delayed work's time has come: its worker wakes up, like any other task.
    pub(crate) fn watchdog_work(&mut self, generation: u32) {
        if generation == self.watchdog_generation {
            self.watchdog_due = self.now;
            let worker = self.watchdog_worker;
            let woken = self.try_to_wake_up(worker, state::TASK_INTERRUPTIBLE);
            if !woken && self.sim(worker).act == Act::WatchdogDone {
                // Still busy with the last time: it looks again before it sleeps.
                self.sim_mut(worker).act = Act::Watchdog;
            }
        }
    }

    /// `scx_watchdog_workfn()`, by the worker.
    pub(crate) fn watchdog_check(&mut self) {
        self.watchdog_timestamp = self.now;
        self.stats.watchdog_latency_ns = (self.now - self.watchdog_due).0;
        self.watchdog_generation = self.watchdog_generation.wrapping_add(1);
        for cpu in 0..self.nr_cpus() {
            if self.check_rq_for_timeouts(CpuId(cpu as u32)) {
                break;
            }
        }
        self.queue_watchdog();
    }

    /// `check_rq_for_timeouts()`.
    fn check_rq_for_timeouts(&mut self, cpu: CpuId) -> bool {
        if self.root.is_none() {
            return false;
        }
        let jiffies = self.jiffies();
        let jiffy = self.jiffy().0;
        let list = self.rq(cpu).scx.runnable_list.clone();
        let overdue = list.iter(&self.tasks).find_map(|p| {
            let sched = self.task_sched(p)?;
            let since = self.p(p).scx.runnable_at;
            let timeout = self.sch(sched).watchdog_timeout.0 / jiffy;
            (jiffies > since + timeout).then_some((p, sched, since))
        });
        let Some((p, sched, since)) = overdue else { return false };
        let ms = (jiffies - since) * jiffy / 1_000_000;
        let who = self.p(p).who();
        let msg = format!("{who} failed to run for {}.{:03}s", ms / 1000, ms % 1000);
        let since = self.sim(p).runnable_since;
        self.record(|engine| What::Stall { task: engine.name(p), runnable_since: since });
        self.scx_exit(sched, ExitKind::ErrorStall, 0, cpu.0 as i32, msg);
        true
    }

    /// `scx_tick()`: the worker itself has not run. A CPU that is idle finds it too, if no other one
    /// does: its tick comes when a timer is due (`tick_nohz_handler()`), and there are always some.
    pub(crate) fn watchdog_late(&mut self, generation: u32) {
        if generation != self.watchdog_generation || !self.scx_enabled {
            return;
        }
        let Some(root) = self.root else { return };
        let whole = (0..self.nr_cpus()).map(|cpu| CpuId(cpu as u32));
        let whole = whole.filter(|cpu| !self.frames.contains(cpu));
        let is_idle = |cpu: &CpuId| self.p(self.rq(*cpu).curr).sched_class() == SchedClass::Idle;
        let Some(cpu) = whole.min_by_key(is_idle) else {
            let jiffy = self.jiffy();
            self.after(jiffy, Event::WatchdogLate { generation });
            return;
        };
        self.this_cpu = cpu;
        let jiffy = self.jiffy().0;
        let ms = (self.jiffies() - self.watchdog_timestamp.0 / jiffy) * jiffy / 1_000_000;
        let msg = format!("watchdog failed to check in for {}.{:03}s", ms / 1000, ms % 1000);
        self.scx_exit(root, ExitKind::ErrorStall, 0, cpu.0 as i32, msg);
    }
}
