//! Data races: what two programs that overlap do to the same memory.
//!
//! Two accesses race if their programs overlap on different CPUs, they have bytes in common, one of
//! them writes, neither holds a lock that the other does, and the one is not ordered before the
//! other by atomic operations on a third place. An atomic change and a plain load do not: neither
//! sees half of anything. What helpers do to memory is not looked at, but for locks and
//! `bpf_kptr_xchg()`, which are atomic changes.

use std::collections::{BTreeMap, BTreeSet};

use scxlab_engine::Nanos;

use super::BpfScheduler;
use super::state::State;
use crate::image::Line;
use crate::machine::{Memory, Place};

/// Accesses that are remembered of a program, and of all that ran in its middle.
const REMEMBERED: usize = 8192;
/// Pairs of instructions that are reported.
const REPORTED: usize = 64;

/// How memory is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    AtomicRead,
    /// Or an atomic change.
    AtomicWrite,
}

impl Kind {
    fn writes(self) -> bool {
        matches!(self, Self::Write | Self::AtomicWrite)
    }

    fn is_atomic(self) -> bool {
        matches!(self, Self::AtomicRead | Self::AtomicWrite)
    }

    /// Whether both at once can go wrong.
    fn races_with(self, other: Self) -> bool {
        (self == Self::Write || other == Self::Write)
            || (self.writes() || other.writes()) && !self.is_atomic() && !other.is_atomic()
    }
}

/// An instruction's access to some bytes.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub pc: usize,
    pub addr: u64,
    pub size: u64,
    pub kind: Kind,
    /// The addresses of the locks that are held.
    pub locks: Vec<u64>,
    /// When it was first and last done, in accesses.
    pub first: u64,
    pub last: u64,
}

impl Access {
    fn meets(&self, other: &Self) -> bool {
        self.addr < other.addr + other.size && other.addr < self.addr + self.size
    }

    fn races_with(&self, other: &Self) -> bool {
        self.meets(other)
            && self.kind.races_with(other.kind)
            && !self.locks.iter().any(|lock| other.locks.contains(lock))
    }

    /// Words of 8 bytes that it has bytes of.
    fn words(&self) -> impl Iterator<Item = u64> + use<> {
        self.addr / 8..=(self.addr + self.size - 1) / 8
    }
}

/// A program that runs, or has run in the middle of one that does.
#[derive(Clone, Debug)]
struct Running {
    cpu: u32,
    /// The CPU whose runqueue lock the core holds for it.
    rq: Option<u32>,
    function: usize,
    /// By word.
    accesses: BTreeMap<u64, Vec<Access>>,
    count: usize,
    /// Those that have run in the middle of it.
    within: Vec<Running>,
}

impl Running {
    fn at(&self, word: u64) -> &[Access] {
        self.accesses.get(&word).map_or(&[], Vec::as_slice)
    }

    fn remember(&mut self, access: &Access) {
        for word in access.words() {
            let here = self.accesses.entry(word).or_default();
            let same = |known: &&mut Access| {
                (known.pc, known.addr, known.kind) == (access.pc, access.addr, access.kind)
                    && known.locks == access.locks
            };
            match here.iter_mut().find(same) {
                Some(known) => known.last = access.last,
                None if self.count < REMEMBERED => {
                    self.count += 1;
                    here.push(access.clone());
                }
                None => {}
            }
        }
    }

    /// Whether they cannot run at the same time, or are one CPU's.
    fn excludes(&self, other: &Self) -> bool {
        self.cpu == other.cpu || self.rq.is_some() && self.rq == other.rq
    }

    /// Whether it wrote to a word after an access.
    fn released(&self, word: u64, after: &Access) -> bool {
        self.at(word).iter().any(|a| a.kind.writes() && a.last > after.last)
    }

    /// The words that it accessed atomically after an access.
    fn acquired(&self, after: &Access) -> impl Iterator<Item = u64> {
        let last = after.last;
        let mut words = self.accesses.iter();
        std::iter::from_fn(move || {
            let atomic = |all: &[Access]| all.iter().any(|a| a.kind.is_atomic() && a.last > last);
            words.find(|(_, all)| atomic(all)).map(|(word, _)| *word)
        })
    }
}

/// Two instructions that raced.
#[derive(Clone, Debug)]
struct Found {
    sides: [FoundSide; 2],
    what: String,
    at: Nanos,
    times: u64,
    overwritten: u64,
}

#[derive(Clone, Debug)]
struct FoundSide {
    cpu: u32,
    function: usize,
    pc: usize,
    kind: Kind,
}

/// All that is known of races.
#[derive(Clone, Debug, Default)]
pub(super) struct Races {
    seq: u64,
    /// Innermost last.
    running: Vec<Running>,
    found: BTreeMap<(usize, usize), Found>,
    /// Others that there is no room for.
    more: BTreeSet<(usize, usize)>,
}

impl Races {
    /// A program begins.
    pub fn begin(&mut self, cpu: u32, rq: Option<u32>) {
        let (accesses, within) = (BTreeMap::new(), Vec::new());
        self.running.push(Running { cpu, rq, function: 0, accesses, count: 0, within });
    }

    /// The innermost program ends.
    pub fn end(&mut self) {
        let Some(mut ended) = self.running.pop() else { return };
        let Some(outer) = self.running.last_mut() else { return };
        let mut all = std::mem::take(&mut ended.within);
        all.push(ended);
        let mut room = REMEMBERED.saturating_sub(outer.within.iter().map(|r| r.count).sum());
        for running in all {
            if running.count > 0 && running.count <= room {
                room -= running.count;
                outer.within.push(running);
            }
        }
    }

    /// The innermost program accesses memory. `name` is what is at an address.
    pub fn access(
        &mut self,
        mut access: Access,
        function: usize,
        now: Nanos,
        name: impl Fn(u64) -> String,
    ) {
        self.seq += 1;
        (access.first, access.last) = (self.seq, self.seq);
        let Some((this, outer)) = self.running.split_last_mut() else { return };
        this.function = function;
        let mut pairs = Vec::new();
        let mut look = |other: &Running, ordered: &dyn Fn(&Access) -> bool| {
            if this.excludes(other) {
                return;
            }
            for theirs in access.words().flat_map(|word| other.at(word)) {
                if !theirs.races_with(&access) || ordered(theirs) {
                    continue;
                }
                // What this program knows of the memory is older than what the other one wrote.
                let stale = access.kind == Kind::Write && theirs.kind.writes() && {
                    let reads = access.words().flat_map(|word| this.at(word));
                    let reads = reads.filter(|a| a.kind == Kind::Read && a.meets(&access));
                    reads.map(|a| a.last).max().is_some_and(|last| last < theirs.last)
                };
                let side = |running: &Running, access: &Access, function| FoundSide {
                    cpu: running.cpu,
                    function,
                    pc: access.pc,
                    kind: access.kind,
                };
                let sides = [side(other, theirs, other.function), side(this, &access, function)];
                pairs.push((sides, stale));
            }
        };
        // Whoever ran in the middle of a program and saw what it has released makes all that comes
        // after it see that too: programs in one's middle are taken to be ordered.
        for (depth, other) in outer.iter().enumerate() {
            let inner = outer[depth + 1..].iter().chain(&other.within);
            look(other, &|theirs| {
                let mut acquirers = inner.clone().chain(std::iter::once(&*this));
                acquirers.any(|a| a.acquired(theirs).any(|word| other.released(word, theirs)))
            });
        }
        for other in &this.within {
            look(other, &|theirs| {
                let released = |word| this.within.iter().any(|other| other.released(word, theirs));
                this.acquired(theirs).any(released)
            });
        }
        this.remember(&access);
        for (sides, stale) in pairs {
            self.find(sides, stale, now, || name(access.addr));
        }
    }

    fn find(
        &mut self,
        sides: [FoundSide; 2],
        stale: bool,
        now: Nanos,
        what: impl FnOnce() -> String,
    ) {
        let (a, b) = (sides[0].pc, sides[1].pc);
        let pair = (a.min(b), a.max(b));
        if let Some(known) = self.found.get_mut(&pair) {
            known.times += 1;
            known.overwritten += u64::from(stale);
        } else if self.found.len() < REPORTED {
            let (times, overwritten) = (1, u64::from(stale));
            let found = Found { sides, what: what(), at: now, times, overwritten };
            self.found.insert(pair, found);
        } else if self.more.len() < REMEMBERED {
            self.more.insert(pair);
        }
    }
}

/// Two instructions that accessed the same memory while their programs overlapped on two CPUs, with
/// nothing that keeps them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Race {
    /// What memory, the first time: a variable, or a map and a place in it.
    pub what: String,
    /// The two accesses, as they were the first time; the one that came first is first.
    pub sides: [Side; 2],
    /// When that was.
    pub at: Nanos,
    /// How often they met.
    pub times: u64,
    /// How often the second one wrote over what the first one had written since the second one's
    /// program had read it: an update was lost.
    pub overwritten: u64,
}

/// One of two accesses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// The CPU that ran it.
    pub cpu: u32,
    /// The program, or callback, that ran.
    pub program: String,
    /// The function that the instruction is in.
    pub function: String,
    /// The instruction, from the function's first.
    pub insn: usize,
    /// `reads`, `writes`, or with `atomically` after it.
    pub access: &'static str,
    /// The source, if the object says it.
    pub line: Option<Line>,
}

impl BpfScheduler {
    /// The data races that were seen, those that lost an update first, then the most frequent; and
    /// how many more there are. None without
    /// [`Interleave::Instructions`](super::Interleave::Instructions).
    pub fn races(&self, state: &dyn scxlab_engine::State) -> (Vec<Race>, u64) {
        let state = state.as_any().downcast_ref::<State>();
        let inner = state.and_then(|state| state.0.as_ref());
        let Some(races) = inner.and_then(|inner| inner.races.as_ref()) else {
            return (Vec::new(), 0);
        };
        let mut all: Vec<&Found> = races.found.values().collect();
        all.sort_by_key(|found| std::cmp::Reverse((found.overwritten, found.times)));
        let race = |found: &&Found| Race {
            what: found.what.clone(),
            sides: [self.side(&found.sides[0]), self.side(&found.sides[1])],
            at: found.at,
            times: found.times,
            overwritten: found.overwritten,
        };
        (all.iter().map(race).collect(), races.more.len() as u64)
    }

    fn side(&self, side: &FoundSide) -> Side {
        let functions = self.code.functions();
        let function = self.code.function_of(side.pc).and_then(|f| functions.get(f));
        Side {
            cpu: side.cpu,
            program: functions.get(side.function).map(|f| f.name.clone()).unwrap_or_default(),
            function: function.map(|f| f.name.clone()).unwrap_or_default(),
            insn: side.pc - function.map_or(0, |f| f.start),
            access: match side.kind {
                Kind::Read => "reads",
                Kind::Write => "writes",
                Kind::AtomicRead => "reads atomically",
                Kind::AtomicWrite => "writes atomically",
            },
            line: self.code.line_of(side.pc).cloned(),
        }
    }

    /// What is at an address: a variable by its name, or the place in a map.
    pub(super) fn name_at(&self, memory: &Memory, addr: u64) -> String {
        let global = self.image.globals.iter().find_map(|global| {
            let at = addr.checked_sub(self.bases.get(global.map)?.checked_add(global.offset)?)?;
            (at < u64::from(global.size)).then_some((global, at))
        });
        match global {
            Some((global, 0)) => global.name.clone(),
            Some((global, at)) => format!("byte {at} of {}", global.name),
            None => match memory.place(addr) {
                place @ Place::Region { .. } => place.to_string(),
                place => format!("{addr:#x}: {place}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODYS: fn(u64) -> String = |addr| format!("{addr:#x}");

    fn access(pc: usize, addr: u64, kind: Kind, locks: &[u64]) -> Access {
        Access { pc, addr, size: 8, kind, locks: locks.to_vec(), first: 0, last: 0 }
    }

    /// CPU 0 does `before`; in its middle CPU 1 does `within`; then CPU 0 does `after`. What raced:
    /// the instructions, and how often something was written over.
    fn raced(before: &[Access], within: &[Access], after: &[Access]) -> Vec<(usize, usize, u64)> {
        let mut races = Races::default();
        let go = |races: &mut Races, all: &[Access]| {
            all.iter().for_each(|a| races.access(a.clone(), 0, Nanos::ZERO, NOBODYS));
        };
        races.begin(0, Some(0));
        go(&mut races, before);
        races.begin(1, Some(1));
        go(&mut races, within);
        races.end();
        go(&mut races, after);
        races.end();
        races.found.iter().map(|(pair, found)| (pair.0, pair.1, found.overwritten)).collect()
    }

    use Kind::{AtomicWrite, Read, Write};

    #[test]
    fn an_update_is_lost() {
        let found = raced(
            &[access(1, 64, Read, &[])],
            &[access(2, 64, Write, &[])],
            &[access(3, 64, Write, &[])],
        );
        assert_eq!(found, [(1, 2, 0), (2, 3, 1)]);
    }

    #[test]
    fn who_reads_again_loses_nothing() {
        let after = [access(1, 64, Read, &[]), access(3, 64, Write, &[])];
        let found = raced(&[access(1, 64, Read, &[])], &[access(2, 64, Write, &[])], &after);
        assert_eq!(found, [(1, 2, 0), (2, 3, 0)]);
    }

    #[test]
    fn no_race_is_one_without_a_write_or_a_byte_in_common_or_with_a_lock_or_atomic() {
        let one = |kind, addr, locks: &[u64]| [access(1, addr, kind, locks)];
        for (a, b) in [
            (one(Read, 64, &[]), one(Read, 64, &[])),
            (one(Write, 64, &[]), one(Write, 72, &[])),
            (one(Write, 64, &[7]), one(Write, 64, &[9, 7])),
            (one(AtomicWrite, 64, &[]), one(AtomicWrite, 64, &[])),
            (one(AtomicWrite, 64, &[]), one(Read, 64, &[])),
        ] {
            assert_eq!(raced(&a, &b, &[]), [], "{a:?} {b:?}");
        }
        let unlike = raced(&one(Write, 64, &[7]), &one(Write, 66, &[9]), &[]);
        assert_eq!(unlike, [(1, 1, 0)]);
        assert_eq!(raced(&one(Write, 64, &[]), &one(AtomicWrite, 64, &[]), &[]).len(), 1);
    }

    /// A lock of the programs' own: taken by an atomic change, given back by a store.
    #[test]
    fn what_a_lock_of_their_own_keeps_apart_is_no_race() {
        let lock = |pc| access(pc, 8, AtomicWrite, &[]);
        let unlock = |pc| access(pc, 8, Write, &[]);
        let before = [lock(1), access(2, 64, Write, &[]), unlock(3)];
        let within = [lock(4), access(5, 64, Write, &[]), unlock(6)];
        let found = raced(&before, &within, &[]);
        assert!(!found.iter().any(|race| (race.0, race.1) == (2, 5)), "{found:?}");
        // Without the unlocking one it is.
        assert!(raced(&before[1..2], &within, &[]).contains(&(2, 5, 0)));
    }

    #[test]
    fn what_is_remembered_is_limited() {
        let mut races = Races::default();
        races.begin(0, None);
        for i in 0..20_000 {
            races.access(access(i, 8 * i as u64, Write, &[]), 0, Nanos::ZERO, NOBODYS);
        }
        races.begin(1, None);
        for i in 0..20_000 {
            races.access(access(i, 8 * i as u64, Write, &[]), 0, Nanos::ZERO, NOBODYS);
        }
        races.end();
        assert_eq!((races.found.len(), races.more.len()), (REPORTED, REMEMBERED - REPORTED));
        assert!(races.running[0].count <= REMEMBERED && races.running[0].within.len() == 1);
    }
}
