//! The table and the allocator against their peers, all in one run: `cargo bench -p scx_tid`, and
//! with `--features liburcu` liburcu's table too. Words on the command line select the rows whose
//! name has one of them.
//!
//! Each row is measured in rounds, in each of which every table has its turn, and a table's figure
//! is its best round: what else the machine does disturbs all of them alike. A peer with a hasher
//! of the user's choice is measured with two, and its better figure counts.

#[cfg(feature = "liburcu")]
mod liburcu;
mod live_sets;
mod peers;

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use foldhash::fast::FixedState as Fold;
use rustc_hash::FxBuildHasher as Fx;
use scx_tid::{Allocator, Cursor};

use crate::live_sets::{Kind, LiveSet, Order, Random};
use crate::peers::{Dash, Flurry, Locked, Map, Ours, Papaya, SccIndex, SccMap};

const SIZES: [usize; 3] = [1_000, 100_000, 1_000_000];
const ROUNDS: usize = 7;
/// Operations of a thread in a round.
const OPS: usize = 200_000;

/// What is measured on a table.
#[derive(Clone, Copy)]
enum What<'a> {
    /// Lookups of these ids, the reader's guard taken once.
    Lookups(&'a [u64]),
    /// The same, with a guard for each.
    GuardEach(&'a [u64]),
    /// An insert and a removal.
    Churn,
    /// 99 lookups, with a guard for all of them, and an insert and a removal.
    Mix,
    /// The same with a guard for each lookup.
    MixGuardEach,
}

/// A table with a live set, whatever its type.
trait Contestant {
    fn name(&self) -> &'static str;
    /// Nanoseconds for each operation, of one thread.
    fn run(&mut self, what: What<'_>, threads: usize) -> f64;
    /// Bytes for each entry, the value's 8 among them; garbage that waits is counted.
    fn bytes(&self) -> f64;
}

struct Entrant<M> {
    name: &'static str,
    map: M,
    bytes: f64,
    /// What each thread removes from and inserts into.
    rings: Vec<Ring>,
    next: AtomicU64,
    offset: usize,
}

/// Live ids of a thread's own, and the chunk from which it takes new ones.
struct Ring {
    ids: Vec<u64>,
    at: usize,
    chunk: std::ops::Range<u64>,
}

impl<M: Map + Default> Entrant<M> {
    fn new(name: &'static str, set: &LiveSet) -> Self {
        M::thread_begins();
        let before = live_sets::heap_bytes();
        let map = M::default();
        // Only ours is built as in life, with the dead among the survivors: for the others that
        // would take minutes, and changes nothing.
        set.build(&map, name == "ours");
        let used = live_sets::heap_bytes().saturating_sub(before);
        M::thread_ends();
        let rings = set.halves().map(|ids| Ring { ids, at: 0, chunk: 0..0 });
        Self {
            name,
            map,
            bytes: used as f64 / set.live.len() as f64,
            rings: rings.into(),
            next: AtomicU64::new(set.first_free()),
            offset: 0,
        }
    }
}

impl Ring {
    fn fresh(&mut self, next: &AtomicU64) -> u64 {
        self.chunk.next().unwrap_or_else(|| {
            let first = next.fetch_add(1024, Ordering::Relaxed);
            self.chunk = first + 1..first + 1024;
            first
        })
    }

    fn churn<M: Map>(&mut self, map: &M, next: &AtomicU64) {
        let fresh = self.fresh(next);
        let old = std::mem::replace(&mut self.ids[self.at], fresh);
        self.at += 1;
        if self.at == self.ids.len() {
            self.at = 0;
        }
        map.insert(fresh);
        map.remove(old);
    }
}

/// [`OPS`] of the ids from a place on, over and over.
fn stretches(ids: &[u64], offset: usize) -> impl Iterator<Item = &[u64]> {
    let mut left = OPS;
    let mut at = offset % ids.len();
    std::iter::from_fn(move || {
        let stretch = &ids[at..ids.len().min(at + left)];
        left -= stretch.len();
        at = 0;
        (!stretch.is_empty()).then_some(stretch)
    })
}

fn work<M: Map>(map: &M, what: What<'_>, ring: &mut Ring, next: &AtomicU64, offset: usize) -> u64 {
    let mut sum = 0u64;
    match what {
        What::Lookups(ids) => {
            let reader = map.reader();
            let mut get = |tid| sum = sum.wrapping_add(M::get(&reader, tid).unwrap_or(1));
            stretches(ids, offset).for_each(|ids| ids.iter().for_each(|&tid| get(tid)));
        }
        What::GuardEach(ids) => {
            let mut get = |tid| sum = sum.wrapping_add(M::get(&map.reader(), tid).unwrap_or(1));
            stretches(ids, offset).for_each(|ids| ids.iter().for_each(|&tid| get(tid)));
        }
        What::Churn => (0..OPS).for_each(|_| ring.churn(map, next)),
        What::Mix | What::MixGuardEach => {
            let mut random = Random(offset as u64 + 1);
            for _ in 0..OPS / 100 {
                let guard_once = matches!(what, What::Mix).then(|| map.reader());
                for _ in 0..99 {
                    let tid = ring.ids[random.below(ring.ids.len() as u64) as usize];
                    let found = match &guard_once {
                        Some(reader) => M::get(reader, tid),
                        None => M::get(&map.reader(), tid),
                    };
                    sum = sum.wrapping_add(found.unwrap_or(1));
                }
                drop(guard_once);
                ring.churn(map, next);
            }
        }
    }
    sum
}

impl<M: Map + Default> Contestant for Entrant<M> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn bytes(&self) -> f64 {
        self.bytes
    }

    fn run(&mut self, what: What<'_>, threads: usize) -> f64 {
        // Each round and thread at another place of the order.
        self.offset = self.offset.wrapping_add(OPS);
        let (map, next, offset) = (&self.map, &self.next, self.offset);
        let barrier = Barrier::new(threads);
        std::thread::scope(|scope| {
            let running: Vec<_> = self.rings[..threads]
                .iter_mut()
                .enumerate()
                .map(|(i, ring)| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        M::thread_begins();
                        barrier.wait();
                        let start = Instant::now();
                        black_box(work(map, what, ring, next, offset + i * 1_000_003));
                        let time = start.elapsed();
                        M::thread_ends();
                        time.as_nanos() as f64 / OPS as f64
                    })
                })
                .collect();
            let each = running.into_iter().map(|thread| thread.join().expect("no panic"));
            each.sum::<f64>() / threads as f64
        })
    }
}

fn contestants(set: &LiveSet) -> Vec<Box<dyn Contestant>> {
    fn entrant<M: Map + Default + 'static>(
        name: &'static str,
        set: &LiveSet,
    ) -> Box<dyn Contestant> {
        Box::new(Entrant::<M>::new(name, set))
    }
    vec![
        entrant::<Ours>("ours", set),
        entrant::<Papaya<Fx>>("papaya", set),
        entrant::<Papaya<Fold>>("papaya", set),
        entrant::<SccMap<Fx>>("scc map", set),
        entrant::<SccMap<Fold>>("scc map", set),
        entrant::<SccIndex<Fx>>("scc index", set),
        entrant::<SccIndex<Fold>>("scc index", set),
        entrant::<Dash<Fx>>("dashmap", set),
        entrant::<Dash<Fold>>("dashmap", set),
        entrant::<Flurry<Fx>>("flurry", set),
        entrant::<Flurry<Fold>>("flurry", set),
        entrant::<Locked<Fx>>("rwlock", set),
        entrant::<Locked<Fold>>("rwlock", set),
        #[cfg(feature = "liburcu")]
        entrant::<liburcu::Lfht>("liburcu", set),
    ]
}

const NAMES: &[&str] = &[
    "ours",
    "papaya",
    "scc map",
    "scc index",
    "dashmap",
    "flurry",
    "rwlock",
    #[cfg(feature = "liburcu")]
    "liburcu",
];

/// Prints a row: each table's figure, and the ratio of the best peer's to ours.
fn row(name: &str, aim: Option<f64>, figures: &[(&'static str, f64)]) {
    let best = |who: &str| {
        let own = figures.iter().filter(|(name, _)| *name == who).map(|(_, n)| *n);
        own.fold(f64::INFINITY, f64::min)
    };
    let ours = best("ours");
    let peers = NAMES[1..].iter().map(|name| (*name, best(name)));
    let (first, figure) = peers.fold(("", f64::INFINITY), |a, b| if b.1 < a.1 { b } else { a });
    let ratio = figure / ours;
    print!("{name:<44}");
    for name in NAMES {
        print!(" {:>9.1}", best(name));
    }
    let verdict = match aim {
        None => String::new(),
        Some(aim) if ratio >= aim => format!("  aim {aim}: met"),
        Some(aim) => format!("  aim {aim}: MISSED"),
    };
    println!("  {ratio:>6.2} x {first}{verdict}");
}

fn measure(
    selected: &dyn Fn(&str) -> bool,
    tables: &mut [Box<dyn Contestant>],
    name: &str,
    aim: Option<f64>,
    what: What<'_>,
    threads: usize,
) {
    let name = format!("{name}, {threads} thread{}", if threads == 1 { "" } else { "s" });
    if !selected(&name) {
        return;
    }
    let mut best = vec![f64::INFINITY; tables.len()];
    for _ in 0..ROUNDS {
        for (table, best) in tables.iter_mut().zip(&mut best) {
            *best = best.min(table.run(what, threads));
        }
    }
    let figures: Vec<_> = tables.iter().map(|table| table.name()).zip(best).collect();
    row(&name, aim, &figures);
}

fn tables(selected: &dyn Fn(&str) -> bool, kind: Kind, size: usize) {
    let set = LiveSet::new(kind, size);
    let mut tables = contestants(&set);
    let name = format!("{kind:?} {size}").to_lowercase();
    let figures: Vec<_> = tables.iter().map(|table| (table.name(), table.bytes())).collect();
    if selected(&format!("{name}: bytes")) && live_sets::heap_bytes() > 0 {
        row(&format!("{name}: bytes an entry, value included"), None, &figures);
        let ours = figures[0].1 - 8.0;
        let limit = match kind {
            Kind::Dense => 24.0,
            Kind::Sparse => 160.0,
        };
        let verdict = if ours <= limit { "met" } else { "MISSED" };
        println!(
            "    ours beyond the value: {ours:.1}, aim at most {limit} at 1,000,000: {verdict}"
        );
    }
    let mut measure = |title: &str, aim, what, threads| {
        measure(selected, &mut tables, &format!("{name}: {title}"), aim, what, threads);
    };
    let hits = set.hits(Order::Random);
    let in_order = set.hits(Order::Allocation);
    let (dead, never) = (set.dead(), set.never());
    for threads in [1, 2] {
        measure("hit, random", Some(1.5), What::Lookups(&hits), threads);
        measure("hit, random, guard each", Some(1.5), What::GuardEach(&hits), threads);
        measure("hit, in order", None, What::Lookups(&in_order), threads);
        measure("hit, in order, guard each", None, What::GuardEach(&in_order), threads);
        measure("miss, dead", Some(1.0), What::Lookups(&dead), threads);
        measure("miss, dead, guard each", Some(1.0), What::GuardEach(&dead), threads);
        measure("miss, never issued", Some(1.0), What::Lookups(&never), threads);
        measure("miss, never issued, guard each", Some(1.0), What::GuardEach(&never), threads);
    }
    // These change the live set, so they come last.
    for threads in [1, 2] {
        measure("insert and remove", Some(1.0), What::Churn, threads);
        measure("99 lookups, 1 churn", Some(1.3), What::Mix, threads);
        measure("99 lookups, 1 churn, guard each", Some(1.3), What::MixGuardEach, threads);
    }
}

/// Nanoseconds for each id, of one thread.
fn allocate(threads: usize, one: impl Fn() -> Box<dyn FnMut() -> u64 + Send> + Sync) -> f64 {
    const MANY: usize = 2_000_000;
    let barrier = Barrier::new(threads);
    let thread = || {
        let mut next = one();
        barrier.wait();
        let start = Instant::now();
        for _ in 0..MANY / 64 {
            black_box(next());
        }
        start.elapsed().as_nanos() as f64 / MANY as f64
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(thread)).collect();
        running.into_iter().map(|t| t.join().expect("no panic")).sum::<f64>() / threads as f64
    })
}

/// The allocator against a shared counter. 64 ids are taken in a row, so that the call of the
/// closure does not count.
fn allocation(selected: &dyn Fn(&str) -> bool) {
    if !selected("allocation") {
        return;
    }
    println!("\n{:<44} {:>9} {:>9}  (ns an id)", "", "ours", "fetch_add");
    for (threads, aim) in [(1, 1.0), (2, 5.0)] {
        let (mut ours, mut peer) = (f64::INFINITY, f64::INFINITY);
        let cursor: &'static Cursor = Box::leak(Box::new(Cursor::new()));
        let counter: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(1)));
        for _ in 0..3 * ROUNDS {
            ours = ours.min(allocate(threads, || {
                let mut share = Allocator::new();
                Box::new(move || {
                    let alloc = |_| black_box(share.alloc(cursor).map_or(0, |tid| tid.get()));
                    (0..64).map(alloc).fold(0, u64::wrapping_add)
                })
            }));
            peer = peer.min(allocate(threads, || {
                Box::new(move || {
                    let alloc = |_| black_box(counter.fetch_add(1, Ordering::Relaxed));
                    (0..64).map(alloc).fold(0, u64::wrapping_add)
                })
            }));
        }
        let ratio = peer / ours;
        let verdict = if ratio >= aim { "met" } else { "MISSED" };
        let name = format!("allocation, {threads} thread{}", if threads == 1 { "" } else { "s" });
        println!("{name:<44} {ours:>9.2} {peer:>9.2}  {ratio:>6.2} x  aim {aim}: {verdict}");
    }
}

/// What opening and closing a section costs in the libraries that could be under the table.
fn guards(selected: &dyn Fn(&str) -> bool) {
    if !selected("guard") {
        return;
    }
    let collector = seize::Collector::new();
    let time = |f: &dyn Fn()| {
        let round = || {
            let start = Instant::now();
            (0..OPS).for_each(|_| f());
            start.elapsed().as_nanos() as f64 / OPS as f64
        };
        (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min)
    };
    let seize = time(&|| drop(black_box(collector.enter())));
    let epoch = time(&|| drop(black_box(crossbeam_epoch::pin())));
    println!("\nguard, 1 thread: seize {seize:.1} ns, crossbeam-epoch {epoch:.1} ns");
}

fn main() {
    // cargo passes `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let selected =
        |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    if cfg!(not(feature = "liburcu")) {
        println!("without liburcu: --features liburcu (Debian package liburcu-dev) adds it\n");
    }
    print!("{:<44}", "nanoseconds an operation of one thread");
    NAMES.iter().for_each(|name| print!(" {name:>9}"));
    println!("  the best peer to ours");
    for kind in [Kind::Dense, Kind::Sparse] {
        for size in SIZES {
            let name = format!("{kind:?} {size}:").to_lowercase();
            // A set takes a while to build.
            let wanted = |word: &String| word.starts_with(&name) || !word.contains(':');
            if words.is_empty() || words.iter().any(wanted) {
                tables(&selected, kind, size);
            }
        }
    }
    allocation(&selected);
    guards(&selected);
}
