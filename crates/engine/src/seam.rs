//! Seams: the places where one CPU is half-way through something and others are not kept away.
//!
//! The kernel's CPUs act in parallel; here one event is handled at a time. So where the kernel
//! drops a lock in the middle of an operation, the engine calls [`Engine::seam`], and the seed
//! decides whether, and for how long, the other CPUs go on before the operation does. They are
//! handled from within it, to any depth; time goes on meanwhile. The CPU that is half-way through
//! handles no event of its own until it is done: its interrupts are off, as in the kernel.
//!
//! Between `ops.dispatch` and the flush of its buffer the kernel holds the CPU's runqueue lock but
//! not those of the tasks in the buffer. There, [`Engine::seam_locked`] lets through only what
//! needs no lock that is held: user space on other CPUs, and changes to the properties of tasks that
//! wait on other runqueues.

use crate::engine::Engine;
use crate::events::Event;
use crate::program::{Instr, Who};
use crate::sim::Act;
use crate::task::TaskIdx;
use crate::{CpuId, Cpumask, Nanos};

/// Seams within seams, at most. Bounds the depth of the native stack.
const DEEPEST: usize = 4;

impl Engine {
    /// The CPU holds no runqueue lock here: others may do anything.
    pub(crate) fn seam(&mut self, cpu: CpuId) {
        if !self.seam_opens() {
            return;
        }
        let until = self.seam_end();
        self.others_go_on(cpu, until, |engine, event| !engine.must_wait(event));
        self.now = self.now.max(until);
    }

    /// The CPU holds its own runqueue lock here, and no other.
    pub(crate) fn seam_locked(&mut self, cpu: CpuId) {
        if !self.seam_opens() {
            return;
        }
        let until = self.seam_end();
        self.locked.push(cpu);
        // What cannot be let through comes late, and keeps what its CPU would do next.
        let mut late = Cpumask::EMPTY;
        self.others_go_on(cpu, until, |engine, event| {
            let on = event.cpu();
            if on.is_none_or(|on| !late.test(on)) && engine.is_confined(event) {
                return true;
            }
            if let Some(on) = on {
                late.set(on);
            }
            false
        });
        self.locked.pop();
    }

    /// Handles the events up to `until` that `admits` lets through, with `cpu` half-way through
    /// something; the others are put off until it is done.
    fn others_go_on(
        &mut self,
        cpu: CpuId,
        until: Nanos,
        mut admits: impl FnMut(&Self, Event) -> bool,
    ) {
        self.frames.push(cpu);
        self.stats.seams += 1;
        let mut put_off = Vec::new();
        while let Some((at, event)) = self.events.pop_until(until) {
            if !admits(self, event) {
                put_off.push((at, event));
                continue;
            }
            self.now = self.now.max(at);
            self.handle(event);
            // The task of a callback that was left is in no place now.
            if self.config.check && self.held.is_empty() {
                self.assert_invariants(event);
            }
        }
        for (at, event) in put_off {
            self.events.push(at, event);
        }
        self.frames.pop();
        self.this_cpu = cpu;
    }

    fn seam_opens(&mut self) -> bool {
        let chance = u64::from(self.config.seams.chance);
        self.locked.is_empty() && self.frames.len() < DEEPEST && self.rng.chance(chance)
    }

    fn seam_end(&mut self) -> Nanos {
        self.now + Nanos(self.rng.below(self.config.seams.longest.0.saturating_add(1)))
    }

    /// Whether an event is for a CPU that is half-way through something, or takes sleeping locks
    /// that wait for such a CPU.
    pub(crate) fn must_wait(&self, event: Event) -> bool {
        if let Some(cpu) = event.cpu() {
            return self.frames.contains(&cpu);
        }
        match event {
            Event::WakeEnqueue { task, .. } => self.frames.contains(&self.sim(task).waker),
            Event::Timeout { task, .. } => self.frames.contains(&self.task_cpu(task)),
            Event::Enable
            | Event::Start { .. }
            | Event::Disable { .. }
            | Event::DisableIrq { .. }
            | Event::BypassBalance { .. } => true,
            _ => false,
        }
    }

    /// Whether an event needs no lock but that of a runqueue that is free: a task goes on in user
    /// space, or changes the properties of tasks that wait there.
    fn is_confined(&self, event: Event) -> bool {
        let Event::BurstEnd { cpu, generation } = event else { return false };
        let rq = self.rq(CpuId(cpu));
        if self.frames.contains(&CpuId(cpu)) || rq.burst_generation != generation {
            return false;
        }
        let sim = self.sim(rq.curr);
        let pc = match sim.act {
            Act::Perform(pc) => pc,
            // In user space: from one instruction to the next.
            other => return other == Act::Fetch,
        };
        let who = match self.config.program.code.get(pc.0 as usize) {
            Some(Instr::SetNice(who, _) | Instr::SetPolicy(who, _)) => *who,
            // A move to another runqueue would need that one's lock too.
            Some(Instr::SetAffinity(who, cpus)) => {
                let stays = |p: &TaskIdx| cpus.test(self.task_cpu(*p));
                if !self.tasks_of(rq.curr, *who).iter().all(stays) {
                    return false;
                }
                *who
            }
            _ => return false,
        };
        !sim.killed
            && who != Who::Myself
            && self.tasks_of(rq.curr, who).iter().all(|&p| {
                self.p(p).on_cpu == 0
                    && !self.frames.contains(&self.task_cpu(p))
                    && self.can_change(p)
            })
    }

    /// Whether a CPU's runqueue lock is held by a CPU that is half-way through something.
    pub(crate) fn is_locked(&self, cpu: CpuId) -> bool {
        self.locked.contains(&cpu)
    }
}
