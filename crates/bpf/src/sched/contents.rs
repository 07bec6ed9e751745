//! What is in maps and what was printed, for whoever reads it when a scheduler has run.

use scxlab_engine::Slot;

use super::BpfScheduler;
use super::map::storage::Owner;
use super::map::{Map, Store};
use super::state::{Inner, State};
use crate::machine::{NoKernel, RegionId};

/// What an element of a map is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapKey {
    /// A key, of an array or a hash.
    Bytes(Vec<u8>),
    /// The task that a storage's value belongs to.
    Task(Slot),
    /// The id of the cgroup that a storage's value belongs to.
    Cgroup(u64),
    /// The place in a queue, from the one that is popped first, or in a ring, from the oldest.
    Place(u64),
}

/// An element of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapElement {
    /// What it is found by.
    pub key: MapKey,
    /// Its value, as bytes. Of a map with a value for each CPU they are by CPU; those that were
    /// never used are missing or empty, and are zero.
    pub values: Vec<Vec<u8>>,
}

impl BpfScheduler {
    /// The elements of a map by its name, in the order of keys, and of a queue or ring in that of
    /// places; at most so many. Nothing if there is no such map, or its elements are not kept here:
    /// those of a map of maps, and what is written for perf.
    pub fn map_elements(
        &self,
        state: &dyn scxlab_engine::State,
        name: &str,
        most: usize,
    ) -> Option<Vec<MapElement>> {
        let inner = inner(state)?;
        let map = self.image.maps.iter().position(|map| map.name == name)?;
        elements(inner, inner.maps.get(map), most)
    }

    /// Bytes of memory that the scheduler uses: maps, what programs made, and stacks.
    pub fn memory_used(&self, state: &dyn scxlab_engine::State) -> u64 {
        inner(state).map_or(0, |inner| inner.memory.used())
    }

    /// The last lines that programs printed with `bpf_printk()`, oldest first, and how many went
    /// before them.
    pub fn printed<'a>(
        &self,
        state: &'a dyn scxlab_engine::State,
    ) -> (u64, impl Iterator<Item = &'a str> + use<'a>) {
        let log = inner(state).map(|inner| &inner.log);
        (log.map_or(0, |log| log.dropped()), log.into_iter().flat_map(|log| log.lines()))
    }

    /// What programs did that no kernel would let them do, when the scheduler had already ended: in
    /// `ops.exit`, say. The first 8.
    pub fn late_faults<'a>(&self, state: &'a dyn scxlab_engine::State) -> &'a [String] {
        inner(state).map_or(&[], |inner| &inner.late_faults)
    }
}

pub(super) fn inner(state: &dyn scxlab_engine::State) -> Option<&Inner> {
    state.as_any().downcast_ref::<State>()?.0.as_deref()
}

fn elements(inner: &Inner, map: &Map, most: usize) -> Option<Vec<MapElement>> {
    let shape = &map.shape;
    let size = shape.value_size as usize;
    let read = |addr: u64, size: usize| {
        let mut bytes = vec![0; size];
        inner.memory.read(&mut NoKernel, addr, &mut bytes).map(|()| bytes).unwrap_or_default()
    };
    let value = |id: &Option<RegionId>| id.map_or_else(Vec::new, |id| read(id.base(), size));
    let indices = || 0..shape.max_entries;
    let key = |index: u32| MapKey::Bytes(index.to_le_bytes().to_vec());
    let at = |id: RegionId, index: u32| read(shape.place(id, index), size);
    Some(match &*map.store {
        Store::Array(array) => indices()
            .take(most)
            .map(|index| MapElement { key: key(index), values: vec![at(array.values, index)] })
            .collect(),
        Store::PerCpuArray(array) => indices()
            .take(most)
            .map(|index| {
                let values = array.cpus().iter();
                let values = values.map(|id| id.map_or_else(Vec::new, |id| at(id, index)));
                MapElement { key: key(index), values: values.collect() }
            })
            .collect(),
        Store::Hash(hash) => hash
            .iter()
            .take(most)
            .map(|(key, values)| MapElement {
                key: MapKey::Bytes(key.to_vec()),
                values: values.iter().map(value).collect(),
            })
            .collect(),
        Store::Storage(storage) => storage
            .iter()
            .take(most)
            .map(|(owner, id)| MapElement {
                key: match owner {
                    Owner::Task(slot) => MapKey::Task(slot),
                    Owner::Cgroup(id) => MapKey::Cgroup(id),
                },
                values: vec![value(&Some(id))],
            })
            .collect(),
        Store::Queue(queue) => queue
            .addresses(shape)
            .take(most)
            .enumerate()
            .map(|(place, addr)| MapElement {
                key: MapKey::Place(place as u64),
                values: vec![read(addr, size)],
            })
            .collect(),
        Store::Ring(ring) => ring
            .submitted()
            .take(most)
            .enumerate()
            .map(|(place, id)| {
                let size = inner.memory.size(id).unwrap_or(0) as usize;
                MapElement { key: MapKey::Place(place as u64), values: vec![read(id.base(), size)] }
            })
            .collect(),
        Store::UserRing | Store::Events | Store::Outer(_) | Store::Memory => return None,
    })
}
