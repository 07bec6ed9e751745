//! The fair class, as far as sched_ext needs one: what runs tasks before a scheduler is attached,
//! beside it with `SCX_OPS_SWITCH_PARTIAL`, and after it is ejected.
//!
//! A stand-in, not EEVDF: each CPU runs its tasks in the order of their virtual runtime, a waking
//! task goes to an idle CPU if there is one, and a CPU that would be idle pulls from another.

use crate::engine::Engine;
use crate::task::{SchedClass, TaskIdx};
use crate::{CpuId, Nanos};

/// A task runs that long before the tick lets another have the CPU.
const SLICE: Nanos = Nanos(3_000_000);
/// A waking task's virtual runtime is at most that far behind.
const SLEEPER_CREDIT: u64 = 3_000_000;

impl Engine {
    pub(crate) fn enqueue_task_fair(&mut self, cpu: CpuId, p: TaskIdx) {
        let floor = self.rq(cpu).fair.min_vruntime.saturating_sub(SLEEPER_CREDIT);
        let task = self.p_mut(p);
        task.se.vruntime = task.se.vruntime.max(floor);
        self.sim_mut(p).on_fair = true;
        self.rq_mut(cpu).nr_running += 1;
        self.stats.enqueues += 1;
        if !self.is_current(p) {
            self.queue_fair(cpu, p);
        }
    }

    pub(crate) fn dequeue_task_fair(&mut self, cpu: CpuId, p: TaskIdx) {
        if self.is_current(p) {
            self.update_curr(cpu);
        } else {
            self.unqueue_fair(cpu, p);
        }
        self.sim_mut(p).on_fair = false;
        self.rq_mut(cpu).nr_running -= 1;
    }

    fn queue_fair(&mut self, cpu: CpuId, p: TaskIdx) {
        let key = self.fair_key(p);
        if self.rq_mut(cpu).fair.queue.insert(key) {
            self.fair_queued += 1;
        }
    }

    fn unqueue_fair(&mut self, cpu: CpuId, p: TaskIdx) {
        let key = self.fair_key(p);
        if self.rq_mut(cpu).fair.queue.remove(&key) {
            self.fair_queued -= 1;
        }
    }

    fn fair_key(&self, p: TaskIdx) -> (u64, u64, TaskIdx) {
        (self.p(p).se.vruntime, self.p(p).scx.tid, p)
    }

    pub(crate) fn update_curr_fair(&mut self, cpu: CpuId, curr: TaskIdx, delta: u64) {
        let p = self.p_mut(curr);
        let weighted = u128::from(delta) * 1024 / u128::from(p.load_weight());
        p.se.vruntime = p.se.vruntime.saturating_add(weighted.min(u128::from(u64::MAX)) as u64);
        let vruntime = p.se.vruntime;
        let fair = &mut self.rq_mut(cpu).fair;
        let least = fair.queue.first().map_or(vruntime, |first| first.0.min(vruntime));
        fair.min_vruntime = fair.min_vruntime.max(least);
    }

    /// `pick_task_fair()`: the least virtual runtime, the current task included.
    pub(crate) fn pick_task_fair(&mut self, cpu: CpuId) -> Option<TaskIdx> {
        let curr = self.rq(cpu).curr;
        let curr_runs = self.sim(curr).on_fair && self.p(curr).sched_class() == SchedClass::Fair;
        if curr_runs {
            self.update_curr(cpu);
        }
        let first = self.rq(cpu).fair.queue.first().map(|key| key.2);
        match (curr_runs, first) {
            (true, Some(first)) => {
                let first_is_behind = self.fair_key(first) < self.fair_key(curr);
                Some(if first_is_behind { first } else { curr })
            }
            (true, None) => Some(curr),
            (false, Some(first)) => Some(first),
            (false, None) => self.pull_fair(cpu),
        }
    }

    /// `sched_balance_newidle()`: a task from the CPU that has the most waiting.
    fn pull_fair(&mut self, cpu: CpuId) -> Option<TaskIdx> {
        if self.fair_queued == 0 {
            return None;
        }
        let busiest = (0..self.nr_cpus())
            .filter(|&from| !self.frames.contains(&CpuId(from as u32)))
            .max_by_key(|&from| (self.rqs[from].fair.queue.len(), std::cmp::Reverse(from)))?;
        let mut waiting = self.rqs[busiest].fair.queue.iter();
        let p = waiting.find(|key| self.p(key.2).cpu_allowed(cpu))?.2;
        let from = CpuId(busiest as u32);
        self.dequeue_task_fair(from, p);
        self.set_task_cpu(p, cpu);
        self.enqueue_task_fair(cpu, p);
        Some(p)
    }

    pub(crate) fn put_prev_task_fair(&mut self, cpu: CpuId, prev: TaskIdx) {
        self.update_curr(cpu);
        if self.sim(prev).on_fair {
            self.queue_fair(cpu, prev);
        }
    }

    pub(crate) fn set_next_task_fair(&mut self, cpu: CpuId, next: TaskIdx) {
        self.unqueue_fair(cpu, next);
        let now = self.now.0;
        self.p_mut(next).se.exec_start = now;
        self.rq_mut(cpu).fair_since = Nanos(now);
    }

    pub(crate) fn wakeup_preempt_fair(&mut self, cpu: CpuId, p: TaskIdx) {
        let curr = self.rq(cpu).curr;
        if self.p(curr).sched_class() != SchedClass::Fair {
            return;
        }
        self.update_curr(cpu);
        if self.p(p).se.vruntime + 1_000_000 < self.p(curr).se.vruntime {
            self.resched_curr(cpu);
        }
    }

    pub(crate) fn task_tick_fair(&mut self, cpu: CpuId) {
        let rq = self.rq(cpu);
        if self.now - rq.fair_since >= SLICE && !rq.fair.queue.is_empty() {
            self.rq_mut(cpu).fair_since = self.now;
            self.resched_curr(cpu);
        }
    }

    /// The previous CPU if it is idle, else any idle one, else the previous one.
    pub(crate) fn select_task_rq_fair(&self, p: TaskIdx, prev: CpuId) -> CpuId {
        let cpus = self.p(p).cpus_ptr();
        if cpus.test(prev) && self.idle_cpus.test(prev) {
            return prev;
        }
        let after = CpuId(prev.0 + 1);
        let idle = cpus
            .next_and_from(&self.idle_cpus, after)
            .or_else(|| cpus.next_and_from(&self.idle_cpus, CpuId(0)));
        idle.unwrap_or(prev)
    }
}
