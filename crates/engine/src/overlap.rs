//! Callbacks that overlap: other CPUs go on in the middle of one.
//!
//! A program of a scheduler's can stop after any instruction. There it may let the other CPUs go on
//! ([`Cx::others_go_on`]), as far as the kernel would: the runqueue lock and the task that the core
//! holds for the callback stay locked. Which events would wait for those is not known before they
//! are handled. So each is tried: the engine, which is a value, is kept as it was, and if the event
//! comes to something that is held (or its own program says that it has to wait,
//! [`Cx::must_wait`]), all that it did is taken back, and it comes when the callback is over.
//!
//! As with all [seams](crate::seam), what begins later is done first. So a CPU that goes on in the
//! middle of a callback runs its own to their ends, and no two callbacks ever wait for each other.

use crate::engine::Engine;
use crate::events::Event;
use crate::kfunc::{Cx, Op, Scope};
use crate::task::TaskIdx;
use crate::{CpuId, Cpumask, Nanos};

/// CPUs that are half-way through something, at most.
const DEEPEST: usize = 4;

/// How much longer than a seam a callback may be left, and for how many of 128. Most come back at
/// once; a few are on a CPU that is interrupted, or that is a virtual one and has to wait itself.
const LONGER: [(u64, u64); 3] = [(1, 112), (25, 15), (500, 1)];

/// What a callback has locked that was left in its middle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// Runqueues.
    rqs: [Option<CpuId>; 2],
    /// The task that it is about.
    subject: Option<TaskIdx>,
}

impl Engine {
    /// A runqueue is about to change.
    #[cold]
    pub(crate) fn touch_rq(&mut self, cpu: CpuId) {
        self.contended |= self.held.iter().any(|held| held.rqs.contains(&Some(cpu)));
    }

    /// A task is about to change.
    #[cold]
    pub(crate) fn touch_task(&mut self, p: TaskIdx) {
        self.contended |= self.held.iter().any(|held| held.subject == Some(p));
    }

    /// Something that cannot be parted: callbacks in it are not left in their middle.
    pub(crate) fn whole<R>(&mut self, f: impl FnOnce(&mut Self) -> R) -> R {
        let before = std::mem::replace(&mut self.divisible, false);
        let result = f(self);
        self.divisible = before;
        result
    }

    /// Whether others can go on in the middle of a callback: it was called by the core as such,
    /// not by a function of the kernel's that another callback has called.
    fn may_overlap(&self, scope: Scope) -> bool {
        let op = matches!(
            scope.op,
            Op::SelectCpu
                | Op::Enqueue
                | Op::Dispatch
                | Op::Tick
                | Op::Runnable
                | Op::Running
                | Op::Stopping
                | Op::Quiescent
                | Op::UpdateIdle
                | Op::Timer
        );
        op && self.divisible
            && self.readers == self.readers_before + 1
            && self.locked.is_empty()
            && self.frames.len() < DEEPEST
            && !self.contended
    }

    fn overlap(&mut self, scope: Scope) {
        if !self.may_overlap(scope) {
            return;
        }
        let cpu = self.this_cpu;
        let until = self.overlap_end();
        // The CPU's own lock is held too where the core has come from its runqueue to another's.
        let rqs = [scope.locked, scope.locked.map(|_| cpu)];
        self.held.push(Held { rqs, subject: scope.subject });
        self.frames.push(cpu);
        self.stats.callbacks_left += 1;
        // What has to wait keeps what its CPU would do next.
        let locked = self.config.check.then(|| self.locked_runqueues(rqs));
        let (mut late, mut put_off) = (Cpumask::EMPTY, Vec::new());
        while let Some((at, event)) = self.events.pop_until(until) {
            let on = event.cpu();
            let waits = on.is_some_and(|on| late.test(on) || rqs.contains(&Some(on)))
                || !self.may_try(event)
                || !self.attempt(at, event);
            if waits {
                on.into_iter().for_each(|on| late.set(on));
                put_off.push((at, event));
            }
        }
        for (at, event) in put_off {
            self.events.push(at, event);
        }
        if let Some(locked) = locked {
            let now = self.locked_runqueues(rqs);
            assert_eq!(locked, now, "a locked runqueue has changed");
        }
        self.frames.pop();
        self.held.pop();
        self.this_cpu = cpu;
    }

    /// What nobody else may change meanwhile.
    fn locked_runqueues(&self, rqs: [Option<CpuId>; 2]) -> Vec<(TaskIdx, u64, u32)> {
        let locked = rqs.into_iter().flatten().map(|cpu| {
            let rq = self.rq(cpu);
            (rq.curr, u64::from(rq.nr_running), self.dsq(self.local_dsq(cpu)).nr)
        });
        locked.collect()
    }

    fn overlap_end(&mut self) -> Nanos {
        let mut nth = self.rng.below(LONGER.iter().map(|(_, of)| of).sum());
        let longer = LONGER.iter().find(|(_, of)| match nth.checked_sub(*of) {
            Some(left) => {
                nth = left;
                false
            }
            None => true,
        });
        let longest = self.config.seams.longest.0.saturating_mul(longer.map_or(1, |l| l.0));
        self.now + Nanos(self.rng.below(longest.saturating_add(1)))
    }

    fn may_try(&self, event: Event) -> bool {
        let own = event.cpu().is_some();
        (own || matches!(event, Event::Timeout { .. } | Event::WakeEnqueue { .. }))
            && !self.must_wait(event)
    }

    /// Handles an event, unless it would have to wait: then nothing has happened.
    fn attempt(&mut self, at: Nanos, event: Event) -> bool {
        // Records are only added to, and there may be many.
        let mut records = std::mem::take(&mut self.records);
        let kept = records.len();
        let mut before = self.clone();
        if self.config.check {
            // The rest is done by the copy: it makes no difference.
            std::mem::swap(self, &mut before);
        }
        self.records = records;
        self.now = self.now.max(at);
        self.handle(event);
        if !std::mem::take(&mut self.contended) {
            self.stats.callbacks_overlapped += 1;
            return true;
        }
        records = std::mem::take(&mut self.records);
        records.truncate(kept);
        *self = before;
        self.records = records;
        self.stats.overlaps_taken_back += 1;
        false
    }
}

impl Cx<'_> {
    /// Leaves the callback in its middle: other CPUs may go on, for a time that the seed draws, as
    /// far as the kernel would let them. Nothing happens where it would not let the callback be
    /// left: in operations that sleep or that are part of something larger.
    ///
    /// Costs a copy of the engine for each event that is tried.
    pub fn others_go_on(&mut self) {
        let scope = self.scope;
        self.core.overlap(scope);
    }

    /// Whether [`Cx::others_go_on`] may do anything in this callback now.
    pub fn can_be_left(&self) -> bool {
        self.core.may_overlap(self.scope)
    }

    /// Whether the engine checks itself: [`Config::check`](crate::Config::check).
    pub fn checks_itself(&self) -> bool {
        self.core.config.check
    }

    /// Does something to a copy of the engine instead, which is then gone.
    pub fn on_a_copy<R>(&self, f: impl FnOnce(&mut Cx<'_>) -> R) -> R {
        f(&mut Cx::new(&mut self.core.clone(), self.sched, self.scope))
    }

    /// A number below `n`, or 0, from the seed.
    pub fn draw(&mut self, n: u64) -> u64 {
        self.core.rng.below(n)
    }

    /// Whether this callback runs in the middle of another CPU's.
    pub fn is_within_another(&self) -> bool {
        !self.core.held.is_empty()
    }

    /// What this callback wants is held by one that it runs in the middle of: what led to it is
    /// taken back when the callback returns, and comes later.
    pub fn must_wait(&mut self) {
        self.core.contended |= !self.core.held.is_empty();
    }

    /// Whether all that this callback does will be taken back.
    pub fn will_be_taken_back(&self) -> bool {
        self.core.contended
    }
}
