//! What a compiled scheduler remembers: its memory, and what the engine's objects are called in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use scxlab_engine::Slot;

use super::bpf_func::{Log, Timers};
use super::kfunc::{FreePages, FreedPages, OwnType};
use super::map::Maps;
use super::object::Objects;
use super::race::Races;
use crate::machine::{Full, Memory, Region, RegionId, Thread};

/// The state of a scheduler, which lives in the engine and clones with it.
///
/// While one of its programs runs, whoever runs it has what is inside; it is back whenever the
/// engine is called.
#[derive(Clone)]
pub(super) struct State(pub Option<Box<Inner>>);

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.0.as_ref().map(|inner| inner.memory.used());
        f.debug_struct("State").field("used", &used).finish_non_exhaustive()
    }
}

/// What is inside.
#[derive(Clone, Debug)]
pub(super) struct Inner {
    pub memory: Memory,
    pub objects: Objects,
    /// Threads that run nothing. Operations nest: one that calls the core may find another called.
    pub idle: Vec<Thread>,
    /// How many threads there are.
    pub threads: usize,
    /// Regions for the arguments of an operation that no program has now.
    pub contexts: Vec<RegionId>,
    /// Tasks that programs keep from being freed, and how often.
    pub kept: BTreeMap<Slot, u64>,
    /// The types of programs' own objects, by their numbers, as far as they were used.
    pub own_types: BTreeMap<u32, Arc<OwnType>>,
    /// What programs gave back, and others may still read until they end.
    pub dropped: Dropped,
    /// The kernel's address of the page of the arena that the kernel uses itself.
    pub scratch: Option<u64>,
    /// Pages of the arena that nobody has.
    pub free_pages: FreePages,
    /// Those that programs gave back that may not sleep. A worker of the kernel's frees them later:
    /// `arena_free_worker()`; here, when the programs that run have ended.
    pub freed_pages: FreedPages,
    /// The first cid of each shard, once the scheduler has said so.
    pub shards: Option<Vec<i32>>,
    /// `ops.init_cids` runs: cids may still change.
    pub cids_are_open: bool,
    pub maps: Maps,
    /// Programs that are running, one within the other.
    pub running: u32,
    /// Where the random numbers stand, once there was one.
    pub random: Option<u64>,
    /// What programs printed.
    pub log: Log,
    /// What programs did wrong when the scheduler had ended; the first of it.
    pub late_faults: Vec<String>,
    pub timers: Timers,
    /// What is known of data races, if they are looked for.
    pub races: Option<Box<Races>>,
}

/// Regions that are freed when all programs have ended: others may still read them.
#[derive(Clone, Debug, Default)]
pub(super) struct Dropped {
    /// In the order in which they are freed.
    all: Vec<RegionId>,
    known: BTreeSet<RegionId>,
}

impl Dropped {
    /// One more. Returns whether it was none of them yet.
    pub fn push(&mut self, id: RegionId) -> bool {
        let new = self.known.insert(id);
        if new {
            self.all.push(id);
        }
        new
    }

    fn free(&mut self, memory: &mut Memory) {
        self.known.clear();
        for id in self.all.drain(..) {
            memory.free(id);
        }
    }
}

/// The most arguments of an operation.
pub(super) const MAX_ARGS: usize = 5;

impl Inner {
    /// As a scheduler begins.
    pub fn new(memory: Memory, maps: Maps, objects: Objects, free_pages: FreePages) -> Self {
        Self {
            memory,
            objects,
            idle: Vec::new(),
            threads: 0,
            contexts: Vec::new(),
            kept: BTreeMap::new(),
            own_types: BTreeMap::new(),
            dropped: Dropped::default(),
            scratch: None,
            free_pages,
            freed_pages: FreedPages::default(),
            shards: None,
            cids_are_open: false,
            maps,
            running: 0,
            random: None,
            log: Log::default(),
            late_faults: Vec::new(),
            timers: Timers::default(),
            races: None,
        }
    }

    /// A place for arguments.
    pub fn context(&mut self) -> Result<RegionId, Full> {
        match self.contexts.pop() {
            Some(region) => Ok(region),
            None => {
                let region = Region::read_only("the arguments");
                self.memory.alloc_zeroed(region, 8 * MAX_ARGS as u64)
            }
        }
    }

    /// Values were deleted, all but the first so many: their timers do not go off.
    pub fn deleted_since(&mut self, before: usize) {
        for id in &self.maps.deleted()[before..] {
            let size = self.memory.size(*id).unwrap_or(0);
            self.timers.drop_within(&mut self.memory, id.base(), size);
        }
    }

    /// A program of the scheduler has ended. When it was the outermost one, nobody holds what was
    /// deleted or given back any more.
    pub fn ended(&mut self, thread: Thread) {
        self.idle.push(thread);
        self.running -= 1;
        if self.running == 0 {
            self.maps.quiesce(&mut self.memory);
            self.dropped.free(&mut self.memory);
            self.freed_pages.free(&mut self.free_pages, &mut self.memory);
        }
    }
}
