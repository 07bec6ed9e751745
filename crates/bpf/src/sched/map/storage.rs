//! Storage of tasks and of cgroups: `kernel/bpf/bpf_local_storage.c`.

use std::collections::BTreeMap;

use scxlab_engine::Slot;

use super::errno::ENOENT;
use super::{Fails, Shape};
use crate::machine::{Memory, Part, RegionId};

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sched) enum Owner {
    Task(Slot),
    /// By its id. None ever goes.
    Cgroup(u64),
}

/// `BPF_MAP_TYPE_TASK_STORAGE` and `BPF_MAP_TYPE_CGRP_STORAGE`: a value for each owner that was
/// given one. That of a task goes when another task is in its place.
#[derive(Clone, Debug, Default)]
pub(in crate::sched) struct Storage {
    values: BTreeMap<Owner, RegionId>,
    made: u64,
}

impl Storage {
    /// The address of an owner's value, if it has one.
    pub fn lookup(&self, owner: Owner) -> Option<u64> {
        Some(self.values.get(&owner)?.base())
    }

    /// Gives an owner that has none a value, of these bytes or zero. Its address.
    pub fn create(
        &mut self,
        memory: &mut Memory,
        shape: &Shape,
        owner: Owner,
        initial: Option<&[u8]>,
    ) -> Result<u64, Fails> {
        let region = shape.region(Part::Value(self.made));
        let id = memory.alloc_zeroed(region, shape.value_size.into())?;
        if let Some(bytes) = initial
            && let Err(fails) = shape.write(memory, id, 0, bytes)
        {
            memory.free(id);
            return Err(fails);
        }
        self.made += 1;
        self.values.insert(owner, id);
        Ok(id.base())
    }

    /// Takes an owner's value away.
    pub fn delete(&mut self, owner: Owner, deleted: &mut Vec<RegionId>) -> Result<(), Fails> {
        let id = self.values.remove(&owner).ok_or(Fails::Errno(ENOENT))?;
        deleted.push(id);
        Ok(())
    }

    /// Takes away the values of former tasks in the place of this one.
    pub fn drop_former(&mut self, now: Slot, deleted: &mut Vec<RegionId>) {
        let place = |generation| Owner::Task(Slot { index: now.index, generation });
        let former = self.values.range(place(0)..=place(u32::MAX)).map(|(owner, _)| *owner);
        let former: Vec<_> = former.filter(|owner| *owner != Owner::Task(now)).collect();
        for owner in former {
            deleted.extend(self.values.remove(&owner));
        }
    }

    /// All that there is, by owner.
    pub fn iter(&self) -> impl Iterator<Item = (Owner, RegionId)> {
        self.values.iter().map(|(owner, id)| (*owner, *id))
    }
}
