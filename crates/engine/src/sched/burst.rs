//! How the current task of a CPU uses it: bursts, the clock of the classes, and the tick.

use crate::engine::Engine;
use crate::events::Event;
use crate::ext::tracepoint::{Tracepoint, TracepointSet};
use crate::flags::SCX_SLICE_INF;
use crate::ops::OpSet;
use crate::sim::Act;
use crate::task::{SchedClass, TaskIdx};
use crate::{CpuId, Nanos};

impl Engine {
    /// Takes the time that the current task had the CPU off its burst.
    pub(crate) fn stop_burst(&mut self, cpu: CpuId) {
        let now = self.now;
        let rq = self.rq_mut(cpu);
        let used = now.saturating_sub(rq.burst_since);
        rq.burst_since = rq.burst_since.max(now);
        rq.burst_generation = rq.burst_generation.wrapping_add(1);
        let curr = rq.curr;
        let sim = self.sim_mut(curr);
        sim.burst_left = sim.burst_left - used;
    }

    /// Lets the current task go on with its burst, after a switch to it if it is new.
    pub(crate) fn start_burst(&mut self, cpu: CpuId, switched: bool) {
        let switch = if switched { self.rng.jitter(self.config.costs.switch) } else { Nanos::ZERO };
        let since = self.now + switch;
        let rq = self.rq_mut(cpu);
        rq.burst_since = if switched { since } else { rq.burst_since.max(since) };
        rq.burst_generation = rq.burst_generation.wrapping_add(1);
        let (curr, generation, since) = (rq.curr, rq.burst_generation, rq.burst_since);
        let sim = self.sim(curr);
        if sim.act == Act::Idle {
            return;
        }
        let end = match sim.burst_until {
            Some(until) => until.max(since),
            None => since + sim.burst_left,
        };
        self.events.push(end, Event::BurstEnd { cpu: cpu.0, generation });
    }

    pub(crate) fn burst_end(&mut self, cpu: CpuId, generation: u32) {
        if self.rq(cpu).burst_generation != generation {
            return;
        }
        self.this_cpu = cpu;
        self.stop_burst(cpu);
        let curr = self.rq(cpu).curr;
        self.sim_mut(curr).burst_until = None;
        self.act(cpu, curr);
    }

    /// `update_curr()` of the current task's class.
    pub(crate) fn update_curr(&mut self, cpu: CpuId) {
        self.charge(cpu, self.now);
    }

    /// Charges the current task for the ticks that were left out, which is all that they would have
    /// done. Before its slice is changed.
    pub(crate) fn charge_left_out_ticks(&mut self, cpu: CpuId) {
        if self.p(self.rq(cpu).curr).sched_class() == SchedClass::Ext {
            self.charge(cpu, self.last_tick());
        }
    }

    /// `p->scx.slice` as the ticks of a kernel leave it: those that were left out count too.
    pub(crate) fn slice_after_ticks(&self, p: TaskIdx) -> u64 {
        let task = self.p(p);
        let is_charged = self.is_current(p) && task.sched_class() == SchedClass::Ext;
        if !is_charged || task.scx.slice == SCX_SLICE_INF {
            return task.scx.slice;
        }
        let left_out = self.last_tick().0.saturating_sub(task.se.exec_start);
        task.scx.slice.saturating_sub(left_out)
    }

    /// When a tick came last, or would have come.
    fn last_tick(&self) -> Nanos {
        let jiffy = self.jiffy().0;
        Nanos(self.now.0 / jiffy * jiffy)
    }

    /// Charges the current task for its time until then.
    fn charge(&mut self, cpu: CpuId, until: Nanos) {
        let until = until.0;
        let curr = self.rq(cpu).curr;
        let p = self.p_mut(curr);
        let delta = until.saturating_sub(p.se.exec_start);
        if delta == 0 || p.sched_class() == SchedClass::Idle {
            return;
        }
        p.se.exec_start = until;
        p.se.sum_exec_runtime += delta;
        match p.sched_class() {
            SchedClass::Ext => {
                // update_curr_scx()
                if p.scx.slice != SCX_SLICE_INF {
                    p.scx.slice = p.scx.slice.saturating_sub(delta);
                }
                self.ext_server_update(cpu, Nanos(delta));
            }
            SchedClass::Fair => self.update_curr_fair(cpu, curr, delta),
            SchedClass::Idle => {}
        }
    }

    /// Sees to it that the tick comes when it would next do something. A tick that finds nothing
    /// to do but to charge the current task is left out; the slice is only ever looked at on a tick,
    /// as in the kernel.
    pub(crate) fn rearm_tick(&mut self, cpu: CpuId) {
        let at = self.next_tick(cpu);
        let rq = self.rq_mut(cpu);
        if rq.tick_at == at {
            return;
        }
        rq.tick_at = at;
        rq.tick_generation = rq.tick_generation.wrapping_add(1);
        let generation = rq.tick_generation;
        if let Some(at) = at {
            self.events.push(at, Event::Tick { cpu: cpu.0, generation });
        }
    }

    fn next_tick(&self, cpu: CpuId) -> Option<Nanos> {
        let rq = self.rq(cpu);
        let p = self.p(rq.curr);
        let jiffy = self.jiffy().0;
        let next = Nanos((self.now.0 / jiffy + 1) * jiffy);
        if self.traced.contains(TracepointSet::SCX_TICK) && p.sched_class() != SchedClass::Idle {
            // Somebody looks.
            return Some(next);
        }
        match p.sched_class() {
            SchedClass::Idle => None,
            SchedClass::Fair => (!rq.fair.queue.is_empty()).then_some(next),
            SchedClass::Ext => {
                let every = self.task_sched(rq.curr).is_none_or(|sched| {
                    self.bypassing(sched, cpu) || self.sch(sched).has(OpSet::TICK)
                });
                if every {
                    return Some(next);
                }
                if p.scx.slice == SCX_SLICE_INF {
                    return None;
                }
                let ends = p.se.exec_start.saturating_add(p.scx.slice);
                Some(Nanos(ends.div_ceil(jiffy).saturating_mul(jiffy)).max(next))
            }
        }
    }

    /// `sched_tick()`.
    pub(crate) fn tick_event(&mut self, cpu: CpuId, generation: u32) {
        if self.rq(cpu).tick_generation != generation {
            return;
        }
        self.rq_mut(cpu).tick_at = None;
        self.this_cpu = cpu;
        self.stats.ticks += 1;
        self.update_curr(cpu);
        let curr = self.rq(cpu).curr;
        match self.p(curr).sched_class() {
            SchedClass::Ext => self.task_tick_scx(cpu, curr),
            SchedClass::Fair => self.task_tick_fair(cpu),
            SchedClass::Idle => {}
        }
        self.trace(TracepointSet::SCX_TICK, |_| Tracepoint::ScxTick { cpu });
        self.rearm_tick(cpu);
    }
}
