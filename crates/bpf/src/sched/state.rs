//! What a compiled scheduler remembers: its memory, and what the engine's objects are called in it.

use std::collections::BTreeMap;
use std::fmt;

use scxlab_engine::{Cx, Slot, Task};

use super::bpf_func::{Log, Timers};
use super::map::Maps;
use super::task::TaskLayout;
use crate::machine::{Full, Memory, Region, RegionId, Thread, address};

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
    pub tasks: Tasks,
    /// Threads that run nothing. Operations nest: one that calls the core may find another called.
    pub idle: Vec<Thread>,
    /// How many threads there are.
    pub threads: usize,
    pub maps: Maps,
    /// Programs that are running, one within the other.
    pub running: u32,
    /// Where the random numbers stand, once there was one.
    pub random: Option<u64>,
    /// What programs printed.
    pub log: Log,
    pub timers: Timers,
}

impl Inner {
    /// As a scheduler begins.
    pub fn new(memory: Memory, maps: Maps) -> Self {
        Self {
            memory,
            tasks: Tasks::default(),
            idle: Vec::new(),
            threads: 0,
            maps,
            running: 0,
            random: None,
            log: Log::default(),
            timers: Timers::default(),
        }
    }

    /// Values were deleted, all but the first so many: their timers do not go off.
    pub fn deleted_since(&mut self, before: usize) {
        for id in &self.maps.deleted()[before..] {
            self.timers.drop_within(id.base(), self.memory.size(*id).unwrap_or(0));
        }
    }

    /// A program of the scheduler has ended. When it was the outermost one, nobody holds a deleted
    /// value any more.
    pub fn ended(&mut self) {
        self.running -= 1;
        if self.running == 0 {
            self.maps.quiesce(&mut self.memory);
        }
    }
}

/// The regions that stand for tasks: foreign ones, whose bytes the engine has.
#[derive(Clone, Debug, Default)]
pub(super) struct Tasks {
    by_index: Vec<Option<(RegionId, Slot)>>,
    by_region: BTreeMap<RegionId, Slot>,
}

impl Tasks {
    /// The address of a task's `task_struct`. What is there of a former task in the same place is
    /// freed.
    pub fn address(
        &mut self,
        memory: &mut Memory,
        layout: &TaskLayout,
        cx: &Cx<'_>,
        p: Task<'_>,
    ) -> Result<u64, Full> {
        let slot = cx.slot(p);
        let index = slot.index as usize;
        if index >= self.by_index.len() {
            self.by_index.resize(index + 1, None);
        }
        if let Some((region, known)) = self.by_index[index] {
            if known == slot {
                return Ok(region.base());
            }
            memory.free(region);
            self.by_region.remove(&region);
        }
        let task = cx.get(p);
        let name = format!("the task_struct of {}[{}]", task.comm(), task.pid);
        let region = memory.alloc_foreign(Region::new(name), layout.size)?;
        self.by_index[index] = Some((region, slot));
        self.by_region.insert(region, slot);
        Ok(region.base())
    }

    /// The task that a region stands for.
    pub fn slot(&self, region: RegionId) -> Option<Slot> {
        self.by_region.get(&region).copied()
    }

    /// The task whose `task_struct` begins at this address.
    pub fn slot_at(&self, addr: u64) -> Option<Slot> {
        let region = RegionId::of(addr)?;
        (address::offset(addr) == 0).then(|| self.slot(region))?
    }
}
