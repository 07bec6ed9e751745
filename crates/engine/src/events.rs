//! What will happen, in the order of virtual time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::task::TaskIdx;
use crate::{CpuId, Nanos};

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
    DisableIrq { sched: u32, cpu: u32 },
    /// The next step of `scx_disable_workfn()`.
    Disable { sched: u32 },
    /// `scx_bypass_lb_timerfn()`.
    BypassBalance { sched: u32 },
    /// A change of phase of a CPU's ext server.
    ExtServer { cpu: u32, generation: u32 },
    /// A timer of a scheduler's own goes off, in softirq context: `hrtimer_run_softirq()`.
    SchedTimer { cpu: u32, sched: u32, cookie: u32 },
    /// A process of the program's start list is forked.
    Start { index: u32 },
}

impl Event {
    /// The CPU whose own doing it is.
    pub fn cpu(self) -> Option<CpuId> {
        match self {
            Self::BurstEnd { cpu, .. }
            | Self::Resched { cpu }
            | Self::Tick { cpu, .. }
            | Self::RunDeferred { cpu }
            | Self::KickCpus { cpu }
            | Self::KickSync { cpu }
            | Self::ExtServer { cpu, .. }
            | Self::SchedTimer { cpu, .. } => Some(CpuId(cpu)),
            _ => None,
        }
    }

    /// Whether what it does is one thing after the other, so that callbacks in it can be left in
    /// their middle.
    pub fn is_divisible(self) -> bool {
        matches!(
            self,
            Self::BurstEnd { .. }
                | Self::Resched { .. }
                | Self::Tick { .. }
                | Self::Timeout { .. }
                | Self::WakeEnqueue { .. }
                | Self::SchedTimer { .. }
        )
    }
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

/// A slot of the first wheel is 2^12 ns wide.
const SLOT_SHIFT: u32 = 12;
/// A wheel has 2^10 slots; one slot of the second wheel is as wide as the whole first wheel.
const WHEEL_SHIFT: u32 = 10;
const SLOTS: usize = 1 << WHEEL_SHIFT;

/// Events by (time, sequence): of two at one time, the one that was pushed first comes first.
///
/// A hierarchical timing wheel: what is due within one slot is in a small heap, the rest waits
/// unsorted in slots, about 4 us wide within the next 4 ms and about 4 ms wide within the next
/// 4 s. So the cost of an event does not grow with the number of tasks that sleep.
#[derive(Clone, Debug)]
pub(crate) struct EventQueue {
    /// Everything in slots up to and including `at_slot`.
    current: BinaryHeap<Reverse<Entry>>,
    at_slot: u64,
    near: Wheel,
    far: Wheel,
    /// What is past both wheels.
    beyond: BinaryHeap<Reverse<Entry>>,
    seq: u64,
}

impl Default for EventQueue {
    fn default() -> Self {
        Self {
            current: BinaryHeap::new(),
            at_slot: 0,
            near: Wheel::new(),
            far: Wheel::new(),
            beyond: BinaryHeap::new(),
            seq: 0,
        }
    }
}

impl EventQueue {
    pub fn push(&mut self, at: Nanos, event: Event) {
        self.seq += 1;
        self.place(Entry { at, seq: self.seq, event });
    }

    fn place(&mut self, entry: Entry) {
        let slot = entry.at.0 >> SLOT_SHIFT;
        if slot <= self.at_slot {
            self.current.push(Reverse(entry));
        } else if slot >> WHEEL_SHIFT == self.at_slot >> WHEEL_SHIFT {
            self.near.push(slot, entry);
        } else if slot >> (2 * WHEEL_SHIFT) == self.at_slot >> (2 * WHEEL_SHIFT) {
            self.far.push(slot >> WHEEL_SHIFT, entry);
        } else {
            self.beyond.push(Reverse(entry));
        }
    }

    /// Goes on to the next slot that has something, once the current one is empty. That this may
    /// be ahead of time does no harm: what is pushed before it goes to the heap too.
    fn fill(&mut self) {
        while self.current.is_empty() {
            if let Some(slot) = self.near.next_after(self.at_slot) {
                self.at_slot = slot;
                let mut entries = self.near.take(slot);
                self.current.extend(entries.drain(..).map(Reverse));
                self.near.keep_room(slot, entries);
            } else if let Some(slot) = self.far.next_after(self.at_slot >> WHEEL_SHIFT) {
                self.at_slot = slot << WHEEL_SHIFT;
                for entry in self.far.take(slot) {
                    self.place(entry);
                }
            } else if let Some(Reverse(first)) = self.beyond.peek() {
                let span = first.at.0 >> SLOT_SHIFT >> (2 * WHEEL_SHIFT);
                self.at_slot = span << (2 * WHEEL_SHIFT);
                while let Some(Reverse(entry)) = self.beyond.peek().copied()
                    && entry.at.0 >> SLOT_SHIFT >> (2 * WHEEL_SHIFT) == span
                {
                    self.beyond.pop();
                    self.place(entry);
                }
            } else {
                return;
            }
        }
    }

    /// The next event, if it is due by `until`.
    pub fn pop_until(&mut self, until: Nanos) -> Option<(Nanos, Event)> {
        self.fill();
        let first = self.current.peek_mut().filter(|first| first.0.at <= until)?;
        let Reverse(entry) = PeekMut::pop(first);
        Some((entry.at, entry.event))
    }
}

/// One turn of slots. A slot's number is absolute; the wheel holds those of the turn at hand.
#[derive(Clone, Debug)]
struct Wheel {
    slots: Vec<Vec<Entry>>,
    /// Which slots have something.
    full: [u64; SLOTS / 64],
}

impl Wheel {
    fn new() -> Self {
        Self { slots: vec![Vec::new(); SLOTS], full: [0; SLOTS / 64] }
    }

    fn push(&mut self, slot: u64, entry: Entry) {
        let i = slot as usize % SLOTS;
        self.full[i / 64] |= 1 << (i % 64);
        self.slots[i].push(entry);
    }

    fn take(&mut self, slot: u64) -> Vec<Entry> {
        let i = slot as usize % SLOTS;
        self.full[i / 64] &= !(1 << (i % 64));
        std::mem::take(&mut self.slots[i])
    }

    /// Gives an emptied slot its room back, so that the next turn need not allocate.
    fn keep_room(&mut self, slot: u64, room: Vec<Entry>) {
        self.slots[slot as usize % SLOTS] = room;
    }

    /// The next slot after `slot`, in the same turn, that has something.
    fn next_after(&self, slot: u64) -> Option<u64> {
        let from = slot as usize % SLOTS + 1;
        let mut word = from / 64;
        let mut bits = self.full.get(word)? & (u64::MAX << (from % 64));
        while bits == 0 {
            word += 1;
            bits = *self.full.get(word)?;
        }
        let i = word * 64 + bits.trailing_zeros() as usize;
        Some(slot - (slot % SLOTS as u64) + i as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn time_first_then_the_order_of_pushing() {
        let mut queue = EventQueue::default();
        queue.push(Nanos(5), Event::Enable);
        queue.push(Nanos(3), Event::Start { index: 0 });
        queue.push(Nanos(3), Event::Start { index: 1 });
        assert_eq!(queue.pop_until(Nanos(2)), None);
        let order: Vec<_> =
            std::iter::from_fn(|| queue.pop_until(Nanos(9))).map(|(_, event)| event).collect();
        assert_eq!(order, [Event::Start { index: 0 }, Event::Start { index: 1 }, Event::Enable]);
    }

    /// Against a sorted list, with times from the same slot to far beyond both wheels.
    #[test]
    fn the_wheel_sorts() {
        let mut rng = Rng::new(3);
        let mut queue = EventQueue::default();
        let mut model: Vec<(u64, u32)> = Vec::new();
        let (mut now, mut index) = (0, 0);
        for _ in 0..20_000 {
            if rng.chance(600) {
                let far = 1 << rng.below(38);
                let at = now + rng.below(far);
                queue.push(Nanos(at), Event::Start { index });
                model.push((at, index));
                index += 1;
            } else {
                let ahead = 1 << rng.below(36);
                let until = now + rng.below(ahead);
                let next = model.iter().min().copied().filter(|(at, _)| *at <= until);
                let got = queue.pop_until(Nanos(until));
                let want = next.map(|(at, index)| (Nanos(at), Event::Start { index }));
                assert_eq!(got, want);
                if let Some(next) = next {
                    model.retain(|entry| *entry != next);
                    now = next.0;
                }
            }
        }
    }

    #[test]
    fn the_end_of_time_is_no_trouble() {
        let mut queue = EventQueue::default();
        queue.push(Nanos::NEVER, Event::Enable);
        queue.push(Nanos(1 << 60), Event::Start { index: 0 });
        assert_eq!(
            queue.pop_until(Nanos::NEVER),
            Some((Nanos(1 << 60), Event::Start { index: 0 }))
        );
        assert_eq!(queue.pop_until(Nanos::NEVER), Some((Nanos::NEVER, Event::Enable)));
        assert_eq!(queue.pop_until(Nanos::NEVER), None);
    }
}
