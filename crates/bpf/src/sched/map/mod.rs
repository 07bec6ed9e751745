//! Maps: what `kernel/bpf/arraymap.c`, `hashtab.c`, `bpf_local_storage.c`, `queue_stack_maps.c` and
//! `ringbuf.c` do in Linux 7.2, for programs that run in the engine.
//!
//! Values are memory of the machine's, so that programs have pointers to them. Those of an array
//! are one region; any other value is a region of its own, and a pointer past its end is a fault.
//! Where this differs from a kernel:
//!
//! - A deleted value stays as it is until the outermost program of the scheduler has ended, and is
//!   freed then: nobody holds it any more. A kernel gives the memory of a hash whose elements are
//!   allocated beforehand to the next new one at once, fields that are no plain bytes included; a
//!   new value here has none of them set.
//! - Elements of a hash are visited in the order of their keys' bytes.
//! - An LRU hash that is full drops the element that was looked up or updated the longest time
//!   ago. A kernel approximates that, on each CPU by itself.
//! - What a kernel allocates beforehand is allocated when it is used first. A map that is too large
//!   for the machine's memory fails then, with `ENOMEM`.

use std::sync::Arc;

use self::array::{Array, PerCpuArray};
use self::fields::Fields;
use self::hash::{Hash, In};
use self::outer::Outer;
use self::queue::Queue;
use self::ring::Ring;
use self::storage::Storage;
use crate::image::MapType;
use crate::machine::{Full, Memory, Part, Region, RegionId, address};

pub(super) mod array;
mod create;
pub(super) mod fields;
pub(super) mod hash;
mod outer;
pub(super) mod queue;
pub(super) mod ring;
pub(super) mod storage;

#[cfg(test)]
mod tests;

pub(super) use self::create::{Created, create, fill, put_elements};

/// `E*`, as far as maps have them.
pub(super) mod errno {
    pub const ENOENT: i32 = 2;
    pub const E2BIG: i32 = 7;
    pub const EAGAIN: i32 = 11;
    pub const ENOMEM: i32 = 12;
    pub const EEXIST: i32 = 17;
    pub const EINVAL: i32 = 22;
}

use self::errno::{EEXIST, EINVAL, ENOENT, ENOMEM};

/// `BPF_NOEXIST`.
pub(super) const NOEXIST: u64 = 1;
/// `BPF_EXIST`.
pub(super) const EXIST: u64 = 2;
/// `BPF_F_LOCK`.
pub(super) const LOCK: u64 = 4;

/// Why something cannot be done with a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fails {
    /// The program gets this error.
    Errno(i32),
    /// No kernel loads a program that does it.
    Never(&'static str),
}

impl From<Full> for Fails {
    fn from(_: Full) -> Self {
        Self::Errno(ENOMEM)
    }
}

/// Where a program runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Here {
    pub cpu: u32,
    /// `nr_cpu_ids`.
    pub cpus: u32,
}

/// A map as it was made.
#[derive(Debug)]
pub(super) struct Shape {
    /// `map NAME`.
    pub what: Arc<str>,
    pub map_type: MapType,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    /// Programs do not write it.
    pub read_only: bool,
    pub fields: Fields,
    /// What its regions are tagged with.
    tag: u64,
}

/// Tags of the regions of maps: what it is, and the map's number.
const OBJECT: u64 = 0x6d61_7000 << 32;
const VALUES: u64 = 0x6d61_7001 << 32;
const TAGS: u64 = u64::MAX << 32;

impl Shape {
    /// From one value to the next, in an array.
    fn stride(&self) -> u32 {
        self.value_size.next_multiple_of(8)
    }

    /// The address of an array's value in such a region.
    pub fn place(&self, id: RegionId, index: u32) -> u64 {
        id.base() + u64::from(index) * u64::from(self.stride())
    }

    /// A region for values.
    fn region(&self, part: Part) -> Region {
        Region { what: Arc::clone(&self.what), part, writable: !self.read_only, tag: self.tag }
    }

    /// A region for values of one CPU.
    fn region_of_cpu(&self, cpu: u32, part: Part) -> Region {
        Region { what: format!("{} of CPU {cpu}", self.what).into(), ..self.region(part) }
    }

    /// `copy_map_value()`: writes a value, but for what of it is no plain bytes.
    fn write(
        &self,
        memory: &mut Memory,
        id: RegionId,
        offset: u32,
        value: &[u8],
    ) -> Result<(), Fails> {
        for (start, end) in self.fields.plain(self.value_size) {
            let bytes = value.get(start as usize..end as usize).unwrap_or_default();
            memory.poke(id, offset + start, bytes).map_err(|_| Fails::Errno(ENOMEM))?;
        }
        Ok(())
    }

    /// Flags of an update: which there are, and `BPF_F_LOCK` only with a lock.
    fn check_update(&self, flags: u64) -> Result<(), Fails> {
        let unknown = flags & !LOCK > EXIST;
        if unknown || flags & LOCK != 0 && !self.fields.has(fields::Field::SpinLock) {
            return Err(Fails::Errno(EINVAL));
        }
        Ok(())
    }
}

/// `check_flags()`: whether an element must be there, or must not.
fn check_exists(is_there: bool, flags: u64) -> Result<(), Fails> {
    match flags & !LOCK {
        NOEXIST if is_there => Err(Fails::Errno(EEXIST)),
        EXIST if !is_there => Err(Fails::Errno(ENOENT)),
        _ => Ok(()),
    }
}

/// What a map has, by its kind.
#[derive(Clone, Debug)]
pub(super) enum Store {
    Array(Array),
    PerCpuArray(PerCpuArray),
    Hash(Hash),
    /// Of tasks or cgroups.
    Storage(Storage),
    Queue(Queue),
    Ring(Ring),
    /// User space writes it, and there is none.
    UserRing,
    /// Of perf events, none of which is open.
    Events,
    /// Of maps.
    Outer(Outer),
    /// An arena or a jump table, which is only memory.
    Memory,
}

/// A map.
#[derive(Clone, Debug)]
pub(super) struct Map {
    pub shape: Arc<Shape>,
    /// The region whose address is the map's.
    pub object: RegionId,
    /// Clones share it until one of them changes it: a hash may have many elements.
    pub store: Arc<Store>,
}

/// All maps of a scheduler.
#[derive(Clone, Debug, Default)]
pub(super) struct Maps {
    all: Vec<Map>,
    /// Values that are in no map any more, and that a program may still hold.
    deleted: Vec<RegionId>,
}

/// What a region is to maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Object(usize),
    Values(usize),
}

impl Maps {
    /// Takes a map, whose number is that in the image.
    pub fn push(&mut self, map: Map) {
        self.all.push(map);
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn get(&self, map: usize) -> &Map {
        &self.all[map]
    }

    pub fn iter(&self) -> impl Iterator<Item = &Map> {
        self.all.iter()
    }

    fn known(&self, memory: &Memory, id: RegionId) -> Option<Known> {
        let tag = memory.region(id)?.tag;
        let map = (tag & !TAGS) as usize;
        match tag & TAGS {
            OBJECT if map < self.all.len() => Some(Known::Object(map)),
            VALUES if map < self.all.len() => Some(Known::Values(map)),
            _ => None,
        }
    }

    /// The map whose address this is.
    pub fn find(&self, memory: &Memory, addr: u64) -> Option<usize> {
        let id = RegionId::of(addr)?;
        match self.known(memory, id)? {
            Known::Object(map) if address::offset(addr) == 0 => Some(map),
            _ => None,
        }
    }

    /// The map that an address is in a value of, and how far it is from the value's start.
    pub fn value_at(&self, memory: &Memory, addr: u64) -> Option<(usize, u32)> {
        let id = RegionId::of(addr)?;
        let Known::Values(map) = self.known(memory, id)? else { return None };
        let offset = address::offset(addr);
        let within = match memory.region(id)?.part {
            Part::Values(each) if each > 0 => offset % each,
            _ => offset,
        };
        Some((map, within))
    }

    /// `bpf_map_lookup_elem()`: the address of a value, or nothing.
    pub fn lookup(
        &mut self,
        memory: &mut Memory,
        map: usize,
        here: Here,
        key: &[u8],
    ) -> Result<Option<u64>, Fails> {
        let Map { shape, store, .. } = &mut self.all[map];
        // What changes nothing copies nothing.
        match &**store {
            Store::Array(array) => return Ok(array.lookup(shape, key)),
            Store::Hash(hash) if hash.is_plain() => return Ok(hash.in_place(key)),
            Store::Outer(outer) => return Ok(outer.lookup(key)),
            _ => {}
        }
        match Arc::make_mut(store) {
            Store::PerCpuArray(array) => array.lookup(memory, shape, here.cpu, key),
            Store::Hash(hash) => hash.lookup(memory, shape, here.cpu, key),
            _ => Err(Fails::Never("nothing can be looked up in a map of this type")),
        }
    }

    /// `bpf_map_lookup_percpu_elem()`.
    pub fn lookup_percpu(
        &mut self,
        memory: &mut Memory,
        map: usize,
        here: Here,
        key: &[u8],
        cpu: u32,
    ) -> Result<Option<u64>, Fails> {
        let Map { shape, store, .. } = &mut self.all[map];
        match Arc::make_mut(store) {
            Store::PerCpuArray(_) if cpu >= here.cpus => Ok(None),
            Store::PerCpuArray(array) => array.lookup(memory, shape, cpu, key),
            Store::Hash(hash) if hash.per_cpu && cpu >= here.cpus => Ok(None),
            Store::Hash(hash) if hash.per_cpu => hash.lookup(memory, shape, cpu, key),
            _ => Err(Fails::Never("its values are not for each CPU")),
        }
    }

    /// `bpf_map_update_elem()`.
    pub fn update(
        &mut self,
        memory: &mut Memory,
        map: usize,
        here: Here,
        (key, value): (&[u8], &[u8]),
        flags: u64,
    ) -> Result<(), Fails> {
        let Map { shape, store, .. } = &mut self.all[map];
        if shape.read_only {
            return Err(Fails::Never("programs may only read it"));
        }
        match Arc::make_mut(store) {
            Store::Array(array) => array.update(memory, shape, key, value, flags),
            Store::PerCpuArray(array) => array.update(memory, shape, here.cpu, (key, value), flags),
            Store::Hash(hash) => {
                let within = In { memory, shape, deleted: &mut self.deleted };
                hash.update(within, here.cpu, (key, value), flags)
            }
            _ => Err(Fails::Never("programs cannot update a map of this type")),
        }
    }

    /// `bpf_map_delete_elem()`.
    pub fn delete(&mut self, memory: &mut Memory, map: usize, key: &[u8]) -> Result<(), Fails> {
        let Map { shape, store, .. } = &mut self.all[map];
        if shape.read_only {
            return Err(Fails::Never("programs may only read it"));
        }
        match Arc::make_mut(store) {
            Store::Array(_) | Store::PerCpuArray(_) => Err(Fails::Errno(EINVAL)),
            Store::Hash(hash) => hash.delete(In { memory, shape, deleted: &mut self.deleted }, key),
            _ => Err(Fails::Never("programs cannot delete from a map of this type")),
        }
    }

    /// The queue or stack that a map is.
    pub fn queue(&mut self, map: usize) -> Result<(&mut Queue, &Shape), Fails> {
        let Map { shape, store, .. } = &mut self.all[map];
        match Arc::make_mut(store) {
            Store::Queue(queue) => Ok((queue, shape)),
            _ => Err(Fails::Never("it is no queue and no stack")),
        }
    }

    /// The ring that a map is.
    pub fn ring(&mut self, map: usize) -> Result<(&mut Ring, &Shape), Fails> {
        let Map { shape, store, .. } = &mut self.all[map];
        match Arc::make_mut(store) {
            Store::Ring(ring) => Ok((ring, shape)),
            _ => Err(Fails::Never("it is no ring")),
        }
    }

    /// The storage that a map is, and where what it deletes goes.
    pub fn storage(
        &mut self,
        map: usize,
        of: MapType,
    ) -> Result<(&mut Storage, &Shape, &mut Vec<RegionId>), Fails> {
        let Map { shape, store, .. } = &mut self.all[map];
        match Arc::make_mut(store) {
            Store::Storage(storage) if shape.map_type == of => {
                Ok((storage, shape, &mut self.deleted))
            }
            _ => Err(Fails::Never("it is not such a storage")),
        }
    }

    /// The regions of deleted values, which are still to be freed.
    pub fn deleted(&self) -> &[RegionId] {
        &self.deleted
    }

    /// The addresses of deleted values that may own objects, and what they are like.
    pub fn former_owners(&self, memory: &Memory) -> Vec<(u64, Arc<Shape>)> {
        let owner = |id: &RegionId| {
            let Some(Known::Values(map)) = self.known(memory, *id) else { return None };
            let shape = &self.all[map].shape;
            shape.fields.owners().next().map(|_| (id.base(), Arc::clone(shape)))
        };
        self.deleted.iter().filter_map(owner).collect()
    }

    /// No program runs any more: frees what was deleted.
    pub fn quiesce(&mut self, memory: &mut Memory) {
        for id in self.deleted.drain(..) {
            memory.free(id);
        }
    }

    /// The element after a key, or the first one, for a walk: its key's bytes.
    pub fn next_key(&self, map: usize, after: Option<&[u8]>) -> Result<Option<Vec<u8>>, Fails> {
        let Map { shape, store, .. } = &self.all[map];
        match &**store {
            Store::Array(_) | Store::PerCpuArray(_) => {
                let index = match after {
                    Some(key) => array::index(key).and_then(|index| index.checked_add(1)),
                    None => Some(0),
                };
                let index = index.filter(|index| *index < shape.max_entries);
                Ok(index.map(|index| index.to_le_bytes().to_vec()))
            }
            Store::Hash(hash) => Ok(hash.next_key(after)),
            _ => Err(Fails::Never("the elements of a map of this type cannot be visited")),
        }
    }

    /// The address of an element's value, without counting as a use of it.
    pub fn peek(
        &mut self,
        memory: &mut Memory,
        map: usize,
        here: Here,
        key: &[u8],
    ) -> Result<Option<u64>, Fails> {
        let Map { shape, store, .. } = &mut self.all[map];
        if matches!(&**store, Store::Hash(hash) if !hash.is_plain())
            && let Store::Hash(hash) = Arc::make_mut(store)
        {
            return hash.peek(memory, shape, here.cpu, key);
        }
        self.lookup(memory, map, here, key)
    }
}
