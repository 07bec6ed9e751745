//! The table on real threads: what each lookup, insert and removal answered must fit some order of
//! them (linearizability), and everything that was put in is dropped once and in time.
#![cfg(not(loom))]

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Barrier, Mutex};

use scx_tid::{Allocator, Cursor, Table, Tid};

/// xorshift64*, so that a failing seed can be run again.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        (high * n) >> 32
    }
}

/// What was done to one id, and what the answer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Insert(bool),
    Remove(bool),
    Get(bool),
}

/// An operation on an id, between two moments of a clock that all threads share.
#[derive(Clone, Copy, Debug)]
struct Event {
    tid: u64,
    act: Act,
    from: u64,
    to: u64,
}

/// Whether some order of the operations on one id explains their answers: each takes effect at one
/// moment between its beginning and its end, on a set that has the id or not. `threads` has what
/// each thread did, in its order. Tries all orders that the times allow, each state once.
fn is_linearizable(threads: &[Vec<Event>], present: bool) -> bool {
    let mut seen = HashSet::new();
    let mut stack = vec![(vec![0; threads.len()], present)];
    while let Some((done, present)) = stack.pop() {
        let next = || threads.iter().zip(&done).map(|(events, &i)| events.get(i)).enumerate();
        // Whatever comes next must begin before any that is left has ended.
        let Some(end) = next().filter_map(|(_, event)| Some(event?.to)).min() else { return true };
        for (thread, event) in next() {
            let Some(event) = event.filter(|event| event.from <= end) else { continue };
            let Some(after) = effect(event.act, present) else { continue };
            let mut done = done.clone();
            done[thread] += 1;
            if seen.insert((done.clone(), after)) {
                stack.push((done, after));
            }
        }
    }
    false
}

/// What an operation makes of the set; nothing if the set would have answered otherwise.
fn effect(act: Act, present: bool) -> Option<bool> {
    match (act, present) {
        (Act::Insert(true), false) => Some(true),
        (Act::Insert(false) | Act::Get(true), true) => Some(true),
        (Act::Remove(true), true) => Some(false),
        (Act::Remove(false) | Act::Get(false), false) => Some(false),
        _ => None,
    }
}

#[test]
fn the_checker_checks() {
    use Act::{Get, Insert, Remove};
    let event = |act, from, to| Event { tid: 1, act, from, to };
    let at_once = [Get(true), Insert(true), Get(false), Remove(true)];
    let at_once = at_once.map(|act| vec![event(act, 0, 10)]);
    assert!(is_linearizable(&at_once, false));
    let in_turn = |acts: &[Act]| {
        let at = |(i, &act): (usize, &Act)| vec![event(act, 2 * i as u64, 2 * i as u64 + 1)];
        is_linearizable(&acts.iter().enumerate().map(at).collect::<Vec<_>>(), false)
    };
    assert!(in_turn(&[Insert(true), Get(true), Insert(false), Remove(true), Get(false)]));
    assert!(!in_turn(&[Insert(true), Get(false)]));
    assert!(!in_turn(&[Insert(true), Remove(true), Remove(true)]));
    assert!(!in_turn(&[Insert(true), Insert(true)]));
    assert!(!in_turn(&[Get(true)]));
}

/// A value that counts itself, and knows whose it is.
struct Task {
    tid: u64,
    live: &'static AtomicU64,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.live.fetch_sub(1, SeqCst);
    }
}

fn task(tid: u64, live: &'static AtomicU64) -> Box<Task> {
    live.fetch_add(1, SeqCst);
    Box::new(Task { tid, live })
}

/// Few ids, in a few chunks, and a thread that makes the chunks' pages come and go.
fn round(seed: u64) {
    static LIVE: AtomicU64 = AtomicU64::new(0);
    let table = Table::enabled().unwrap();
    let clock = AtomicU64::new(0);
    let history = Mutex::new(Vec::new());
    let barrier = Barrier::new(4);
    let stop = AtomicBool::new(false);
    let chunks = [0u64, 1, 3, 900_000];
    std::thread::scope(|scope| {
        // The chunks' pages fill, so that they are there, and empty, so that they go.
        scope.spawn(|| {
            barrier.wait();
            for i in 0u64.. {
                let first = chunks[(i % 4) as usize] * 1024 + 101;
                for tid in first..first + 200 {
                    let _ = table.pin().insert(Tid::new(tid).unwrap(), task(tid, &LIVE));
                }
                // Another page, by which those that are too empty go.
                let other = (10 + i % 20) * 1024 + 1;
                let _ = table.pin().insert(Tid::new(other).unwrap(), task(other, &LIVE));
                for tid in (first..first + 200).chain([other]) {
                    table.pin().remove(Tid::new(tid).unwrap());
                }
                if stop.load(SeqCst) {
                    break;
                }
            }
        });
        let workers: Vec<_> = (0..3)
            .map(|thread| {
                let (table, clock, history, barrier) = (&table, &clock, &history, &barrier);
                scope.spawn(move || {
                    let mut random = Random(seed * 3 + thread + 1);
                    let mut own = Vec::new();
                    barrier.wait();
                    for _ in 0..2_000 {
                        let n = chunks[random.below(4) as usize] * 1024 + 1 + random.below(3);
                        let tid = Tid::new(n).unwrap();
                        let what = random.below(10);
                        let from = clock.fetch_add(1, SeqCst);
                        let pinned = table.pin();
                        let act = match what {
                            0..3 => Act::Insert(pinned.insert(tid, task(n, &LIVE)).is_ok()),
                            3..5 => Act::Remove(
                                pinned.remove(tid).inspect(|t| assert_eq!(t.tid, n)).is_some(),
                            ),
                            _ => Act::Get(
                                pinned.get(tid).inspect(|t| assert_eq!(t.tid, n)).is_some(),
                            ),
                        };
                        drop(pinned);
                        let to = clock.fetch_add(1, SeqCst);
                        own.push(Event { tid: n, act, from, to });
                    }
                    history.lock().unwrap().push(own);
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        stop.store(true, SeqCst);
    });
    let history = history.into_inner().unwrap();
    for chunk in chunks {
        for tid in chunk * 1024 + 1..=chunk * 1024 + 3 {
            let of_tid = |thread: &Vec<Event>| {
                thread.iter().copied().filter(|event| event.tid == tid).collect::<Vec<_>>()
            };
            let own: Vec<_> = history.iter().map(of_tid).collect();
            assert!(is_linearizable(&own, false), "seed {seed}, id {tid}: no order explains it");
        }
    }
    drop(table);
    assert_eq!(LIVE.load(SeqCst), 0, "seed {seed}: values were dropped twice or never");
}

#[test]
fn histories_are_linearizable() {
    (0..12).for_each(round);
}

/// As long as it is wanted: `cargo test --release -p scx_tid --test stress -- --ignored`.
#[test]
#[ignore = "takes a minute"]
fn histories_are_linearizable_for_long() {
    (100..600).for_each(round);
}

/// Forks and exits on several CPUs, one table: nobody's task is missed while it lives, and nobody
/// is found after.
#[test]
fn a_fork_storm() {
    static LIVE: AtomicU64 = AtomicU64::new(0);
    let (table, cursor) = (Table::enabled().unwrap(), Cursor::new());
    std::thread::scope(|scope| {
        for cpu in 0..4 {
            let (table, cursor) = (&table, &cursor);
            scope.spawn(move || {
                let mut random = Random(cpu + 1);
                let mut share = Allocator::new();
                let mut own = Vec::new();
                for _ in 0..100_000 {
                    let tid = share.alloc(cursor).unwrap();
                    table.pin().insert(tid, task(tid.get(), &LIVE)).unwrap();
                    own.push(tid);
                    let lucky = own[random.below(own.len() as u64) as usize];
                    let section = table.pin();
                    assert_eq!(section.get(lucky).unwrap().tid, lucky.get());
                    if own.len() > 300 {
                        let dies = own.swap_remove(random.below(300) as usize);
                        let held = section.get(dies).unwrap();
                        assert!(section.remove(dies).is_some());
                        assert!(section.get(dies).is_none());
                        assert_eq!(held.tid, dies.get(), "it must outlive the section");
                    }
                }
            });
        }
    });
    assert_eq!(table.pin().len(), 1200);
    drop(table);
    assert_eq!(LIVE.load(SeqCst), 0);
}

/// Enabled and disabled while others read and write.
#[test]
fn coming_and_going() {
    static LIVE: AtomicU64 = AtomicU64::new(0);
    let table = Table::new();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for cpu in 0..3u64 {
            let (table, stop) = (&table, &stop);
            scope.spawn(move || {
                for n in (0u64..).map(|i| 1 + cpu * 1024 + i % 1024 + i / 1024 * 4096) {
                    let tid = Tid::new(n).unwrap();
                    let section = table.pin();
                    let _ = section.insert(tid, task(n, &LIVE));
                    if let Some(task) = section.get(tid) {
                        assert_eq!(task.tid, n);
                    }
                    if n % 3 != 0 {
                        section.remove(tid);
                    }
                    if stop.load(SeqCst) {
                        return;
                    }
                }
            });
        }
        for _ in 0..200 {
            table.enable().unwrap();
            std::thread::yield_now();
            table.disable();
            assert_eq!(table.pin().len(), 0);
        }
        stop.store(true, SeqCst);
    });
    drop(table);
    assert_eq!(LIVE.load(SeqCst), 0);
}

/// Disabling drops the values, and not only when the table goes; and so does a flush.
#[test]
fn disabled_is_dropped() {
    static LIVE: AtomicU64 = AtomicU64::new(0);
    let table = Table::enabled().unwrap();
    for n in 1..=3000 {
        table.pin().insert(Tid::new(n).unwrap(), task(n, &LIVE)).unwrap();
    }
    let section = table.pin();
    section.remove(Tid::new(1).unwrap());
    section.flush();
    assert_eq!(LIVE.load(SeqCst), 3000, "the section is open");
    drop(section);
    assert_eq!(LIVE.load(SeqCst), 2999);
    table.disable();
    assert_eq!(LIVE.load(SeqCst), 0);
}

/// A value's end may use the table, also when that is being disabled.
#[test]
fn a_value_may_use_the_table_as_it_goes() {
    static TABLE: std::sync::LazyLock<Table<Box<Last>>> = std::sync::LazyLock::new(Table::new);
    struct Last;
    impl Drop for Last {
        fn drop(&mut self) {
            TABLE.enable().unwrap();
            assert!(TABLE.pin().get(Tid::new(1).unwrap()).is_none());
        }
    }
    TABLE.enable().unwrap();
    for n in 1..=100 {
        assert!(TABLE.pin().insert(Tid::new(n).unwrap(), Box::new(Last)).is_ok());
    }
    TABLE.disable();
    assert!(TABLE.is_enabled());
    TABLE.disable();
}

/// A thread-local table goes after the thread's other thread-locals.
#[test]
fn a_table_in_a_thread_local() {
    thread_local! {
        static TABLE: Table<u32> = Table::enabled().unwrap();
    }
    std::thread::spawn(|| {
        TABLE.with(|table| table.pin().insert(Tid::new(1).unwrap(), 1).unwrap());
    })
    .join()
    .unwrap();
}
