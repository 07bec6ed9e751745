//! What will happen, in the order of virtual time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::Nanos;
use crate::task::TaskIdx;

/// Something that happens at a point in time. A number that a task or CPU carries (`generation`)
/// tells an event that still counts from one whose cause has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The burst of the CPU's current task ends.
    BurstEnd { cpu: u32, generation: u32 },
    /// The CPU acts on `need_resched`.
    Resched { cpu: u32 },
    /// The timer tick of a CPU that runs something.
    Tick { cpu: u32, generation: u32 },
    /// A sleeping task's time has come.
    Timeout { task: TaskIdx, generation: u32 },
    /// A waking task is put on the runqueue that was chosen for it (`ttwu_queue()`).
    WakeEnqueue { task: TaskIdx, generation: u32 },
    /// `deferred_irq_workfn()`.
    RunDeferred { cpu: u32 },
    /// `kick_cpus_irq_workfn()`.
    KickCpus { cpu: u32 },
    /// `kick_sync_wait_bal_cb()` looks again.
    KickSync { cpu: u32 },
    /// `scx_watchdog_workfn()`.
    Watchdog { generation: u32 },
    /// `scx_tick()` finds that the watchdog is late.
    WatchdogLate { generation: u32 },
    /// The next step of attaching.
    Enable,
    /// `scx_disable_irq_workfn()`: the debug dump.
    DisableIrq { sched: u32 },
    /// The next step of `scx_disable_workfn()`.
    Disable { sched: u32 },
    /// `scx_bypass_lb_timerfn()`.
    BypassBalance { sched: u32 },
    /// A change of phase of a CPU's ext server.
    ExtServer { cpu: u32, generation: u32 },
    /// A process of the program's start list is forked.
    Start { index: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    at: Nanos,
    seq: u64,
    event: Event,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Events by (time, sequence): of two at one time, the one that was pushed first comes first.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventQueue {
    heap: BinaryHeap<Reverse<Entry>>,
    seq: u64,
}

impl EventQueue {
    pub fn push(&mut self, at: Nanos, event: Event) {
        self.seq += 1;
        self.heap.push(Reverse(Entry { at, seq: self.seq, event }));
    }

    pub fn peek(&self) -> Option<(Nanos, Event)> {
        self.heap.peek().map(|Reverse(entry)| (entry.at, entry.event))
    }

    pub fn pop(&mut self) -> Option<(Nanos, Event)> {
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_first_then_the_order_of_pushing() {
        let mut queue = EventQueue::default();
        queue.push(Nanos(5), Event::Enable);
        queue.push(Nanos(3), Event::Start { index: 0 });
        queue.push(Nanos(3), Event::Start { index: 1 });
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|(_, event)| event).collect();
        assert_eq!(
            order,
            [Event::Start { index: 0 }, Event::Start { index: 1 }, Event::Enable]
        );
    }
}
