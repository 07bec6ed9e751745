//! Making maps as an object declares them.

use std::sync::Arc;

use super::array::{Array, PerCpuArray};
use super::fields::Fields;
use super::hash::Hash;
use super::outer::Outer;
use super::queue::Queue;
use super::ring::Ring;
use super::storage::Storage;
use super::{Here, Map, Maps, OBJECT, Shape, Store, VALUES};
use crate::Image;
use crate::btf::Type;
use crate::image::{self, Global, MapType};
use crate::machine::{Code, Full, MapAddress, Memory, Part, Region, RegionId};

/// `BPF_F_NO_PREALLOC`.
const NO_PREALLOC: u32 = 1 << 0;
/// `BPF_F_NO_COMMON_LRU`.
const NO_COMMON_LRU: u32 = 1 << 1;
const NUMA_NODE: u32 = 1 << 2;
const ZERO_SEED: u32 = 1 << 6;
/// `BPF_F_RDONLY`, `WRONLY`, `RDONLY_PROG` and `WRONLY_PROG`.
const ACCESS: u32 = 1 << 3 | 1 << 4 | RDONLY_PROG | WRONLY_PROG;
const RDONLY_PROG: u32 = 1 << 7;
const WRONLY_PROG: u32 = 1 << 8;
const MMAPABLE: u32 = 1 << 10;
const PRESERVE_ELEMS: u32 = 1 << 11;
const INNER_MAP: u32 = 1 << 12;
const SEGV_ON_FAULT: u32 = 1 << 17;
const NO_USER_CONV: u32 = 1 << 18;
const RB_OVERWRITE: u32 = 1 << 19;

/// `PCPU_MIN_UNIT_SIZE`.
const PERCPU_VALUE: u32 = 32 << 10;
/// `KMALLOC_MAX_SIZE` of x86-64.
const KMALLOC: u64 = 4 << 20;
/// The most entries of a hash: each power of two of them has a `struct bucket` of 16 bytes, and all
/// buckets together less than 4 GiB.
const HASH_ENTRIES: u32 = 1 << 27;
/// `BPF_LOCAL_STORAGE_MAX_VALUE_SIZE`, and a little more.
const STORAGE_VALUE: u32 = u16::MAX as u32;

/// Where an arena is for user space if its object does not say.
const ARENA: u64 = 1 << 44;
const PAGE: u64 = 4096;

/// What became of a map's declaration.
#[derive(Debug)]
pub(in crate::sched) enum Created {
    /// It is there.
    Map(MapAddress),
    /// A kernel refuses it: why.
    Refused(String),
    /// The engine has no such maps: why.
    Lacking(String),
}

/// Makes the next map of an image: maps are made in the image's order.
pub(in crate::sched) fn create(
    image: &Image,
    maps: &mut Maps,
    memory: &mut Memory,
) -> Result<Created, Full> {
    let number = maps.len();
    let def = &image.maps[number];
    let fields = match image.btf.get(def.value_type) {
        Some(Type::DataSec(_)) => {
            let globals = image.globals.iter().filter(|global| global.map == number);
            let place = |global: &Global| Some((global.ty, u32::try_from(global.offset).ok()?));
            Fields::of_variables(&image.btf, globals.filter_map(place))
        }
        _ => Fields::of(&image.btf, def.value_type),
    };
    let refused = match (check(def), &fields) {
        (Err(refused), _) => Some(refused),
        (_, None) => Some(Created::Lacking("its values have too many members".to_owned())),
        _ => None,
    };
    let shape = Arc::new(Shape {
        what: format!("map {}", def.name).into(),
        map_type: def.map_type,
        key_size: def.key_size,
        value_size: def.value_size,
        max_entries: def.max_entries,
        read_only: def.read_only,
        fields: fields.unwrap_or_default(),
        tag: VALUES | number as u64,
    });
    let name = format!("the object of {}", shape.what);
    let object = Region { tag: OBJECT | number as u64, ..Region::read_only(name) };
    let object = memory.alloc(object, Vec::new())?;
    let mut address = MapAddress { map: object.base(), ..MapAddress::default() };
    let store = match refused {
        Some(_) => Store::Memory,
        None => store(def, &shape, memory, &mut address)?,
    };
    maps.push(Map { shape, object, store: Arc::new(store) });
    Ok(match refused {
        Some(refused) => refused,
        None => Created::Map(address),
    })
}

/// Fills maps of maps, once all maps are made.
pub(in crate::sched) fn fill(image: &Image, maps: &mut Maps) {
    for (number, def) in image.maps.iter().enumerate() {
        let entries = def.entries.iter().enumerate().filter_map(|(key, map)| Some((key, (*map)?)));
        let objects =
            entries.filter_map(|(key, map)| Some((key as u32, maps.all.get(map)?.object)));
        let objects: Vec<_> = objects.collect();
        if let Store::Outer(outer) = Arc::make_mut(&mut maps.all[number].store) {
            for (key, object) in objects {
                outer.insert(&key.to_le_bytes(), object.base());
            }
        }
    }
}

/// Puts in what user space does before anything runs; what does not fit is named.
pub(in crate::sched) fn put_elements(
    image: &Image,
    (maps, memory): (&mut Maps, &mut Memory),
    missing: &mut Vec<String>,
) {
    let here = Here { cpu: 0, cpus: 1 };
    for (number, def) in image.maps.iter().enumerate() {
        for (key, value) in &def.elements {
            if maps.update(memory, number, here, (key, value), 0).is_err() {
                missing.push(format!("room for what map {} is to have", def.name));
                break;
            }
        }
    }
}

/// What a map has at first.
fn store(
    def: &image::Map,
    shape: &Shape,
    memory: &mut Memory,
    address: &mut MapAddress,
) -> Result<Store, Full> {
    let put = |memory: &mut Memory, id: RegionId, at: u32, bytes: &[u8]| {
        memory.poke(id, at, bytes).map_err(|_| Full)
    };
    let per_cpu = matches!(def.map_type, MapType::PERCPU_HASH | MapType::LRU_PERCPU_HASH);
    let lru = matches!(def.map_type, MapType::LRU_HASH | MapType::LRU_PERCPU_HASH);
    Ok(match def.map_type {
        MapType::ARRAY => {
            // A section of data is one value, of any size.
            let (part, size) = match def.max_entries {
                1 => (Part::Whole, u64::from(def.value_size)),
                entries => {
                    (Part::Values(shape.stride()), u64::from(shape.stride()) * u64::from(entries))
                }
            };
            let values = memory.alloc_zeroed(shape.region(part), size)?;
            put(memory, values, 0, &def.initial)?;
            address.value = values.base();
            Store::Array(Array { values })
        }
        MapType::INSN_ARRAY => {
            let region = Region { writable: false, ..shape.region(Part::Values(8)) };
            let table = memory.alloc_zeroed(region, u64::from(def.max_entries) * 8)?;
            put(memory, table, 0, &Code::jump_table(def))?;
            address.value = table.base();
            Store::Memory
        }
        MapType::ARENA => {
            let user = if def.extra == 0 { ARENA } else { def.extra };
            let arena = memory.alloc_arena(shape.region(Part::Whole), user)?;
            // In whole pages: all that the object's variables take.
            let base = user % (1 << 32);
            let first = (base + def.initial_at) / PAGE;
            let pages = (def.initial.len() as u64).div_ceil(PAGE);
            if !memory.populate(arena, first as usize, pages as usize)? {
                return Err(Full);
            }
            put(memory, arena, (first * PAGE) as u32, &def.initial)?;
            (address.value, address.arena) = (user, arena.base());
            Store::Memory
        }
        MapType::PERCPU_ARRAY => Store::PerCpuArray(PerCpuArray::default()),
        MapType::HASH | MapType::PERCPU_HASH | MapType::LRU_HASH | MapType::LRU_PERCPU_HASH => {
            Store::Hash(Hash::new(per_cpu, lru, shape))
        }
        MapType::TASK_STORAGE | MapType::CGRP_STORAGE => Store::Storage(Storage::default()),
        MapType::QUEUE | MapType::STACK => {
            let size = (u64::from(def.max_entries) + 1) * u64::from(def.value_size);
            let places = memory.alloc_zeroed(shape.region(Part::Values(def.value_size)), size)?;
            Store::Queue(Queue::new(def.map_type == MapType::STACK, places))
        }
        MapType::RINGBUF => Store::Ring(Ring::new(def.max_entries, def.flags & RB_OVERWRITE != 0)),
        MapType::USER_RINGBUF => Store::UserRing,
        MapType::PERF_EVENT_ARRAY => Store::Events,
        _ => Store::Outer(Outer::default()),
    })
}

/// What a kernel says to a declaration: `map_alloc_check` and `map_alloc` of its type. An error is what
/// becomes of it.
fn check(def: &image::Map) -> Result<(), Created> {
    let ty = def.map_type;
    let invalid = |what: &str| Err(Created::Refused(format!("{what} (EINVAL)")));
    let too_large = |what: &str| Err(Created::Refused(format!("{what} (E2BIG)")));
    let lacking = |what: String| Err(Created::Lacking(what));
    let per_cpu =
        matches!(ty, MapType::PERCPU_ARRAY | MapType::PERCPU_HASH | MapType::LRU_PERCPU_HASH);
    let flags = match ty {
        MapType::ARRAY => NUMA_NODE | MMAPABLE | ACCESS | INNER_MAP,
        MapType::PERCPU_ARRAY | MapType::ARRAY_OF_MAPS => NUMA_NODE | ACCESS,
        MapType::PERF_EVENT_ARRAY => NUMA_NODE | ACCESS | PRESERVE_ELEMS,
        MapType::HASH | MapType::PERCPU_HASH | MapType::HASH_OF_MAPS => {
            NO_PREALLOC | NUMA_NODE | ACCESS | ZERO_SEED
        }
        MapType::LRU_HASH | MapType::LRU_PERCPU_HASH => {
            NO_COMMON_LRU | NUMA_NODE | ACCESS | ZERO_SEED
        }
        MapType::TASK_STORAGE | MapType::CGRP_STORAGE => NO_PREALLOC,
        MapType::QUEUE | MapType::STACK => NUMA_NODE | ACCESS,
        MapType::RINGBUF => NUMA_NODE | RB_OVERWRITE,
        MapType::USER_RINGBUF => NUMA_NODE,
        MapType::ARENA => SEGV_ON_FAULT | MMAPABLE | NO_USER_CONV,
        MapType::INSN_ARRAY => ACCESS,
        MapType::PROG_ARRAY => return lacking("schedulers cannot call programs by number".into()),
        other => return lacking(format!("the engine has no maps of type {}", type_name(other))),
    };
    if def.flags & !flags != 0 {
        return invalid(&format!("it has the unknown flags {:#x}", def.flags & !flags));
    }
    if def.flags & RDONLY_PROG != 0 && def.flags & WRONLY_PROG != 0 {
        return invalid("programs may not only read it and only write it");
    }
    if def.flags & NUMA_NODE != 0 && (per_cpu || def.flags & NO_COMMON_LRU != 0) {
        return invalid("what each CPU has of it is on no one memory node");
    }
    let of_maps = matches!(ty, MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS);
    if (of_maps || ty == MapType::PERF_EVENT_ARRAY) && def.value_size != 4 {
        return invalid("its values are file descriptors, of 4 bytes");
    }
    match ty {
        // Where it has no entries, libbpf gives it one for each CPU: map_set_def_max_entries().
        MapType::PERF_EVENT_ARRAY if def.key_size != 4 => {
            return invalid("an array has keys of 4 bytes");
        }
        MapType::ARRAY | MapType::PERCPU_ARRAY | MapType::ARRAY_OF_MAPS
            if def.max_entries == 0 || def.key_size != 4 || def.value_size == 0 =>
        {
            return invalid("an array has entries, keys of 4 bytes, and values");
        }
        MapType::HASH
        | MapType::PERCPU_HASH
        | MapType::LRU_HASH
        | MapType::LRU_PERCPU_HASH
        | MapType::HASH_OF_MAPS => {
            if def.max_entries == 0 || def.key_size == 0 || def.value_size == 0 {
                return invalid("a hash has entries, keys and values");
            }
            if u64::from(def.key_size) + u64::from(def.value_size) >= KMALLOC - 64 {
                return too_large("its keys and values are too large");
            }
            if def.max_entries > HASH_ENTRIES {
                return too_large("it has too many entries");
            }
        }
        MapType::TASK_STORAGE | MapType::CGRP_STORAGE => {
            if def.flags != NO_PREALLOC || def.max_entries != 0 || def.key_size != 4 {
                return invalid(
                    "a storage has BPF_F_NO_PREALLOC, no number of entries, and keys of 4 bytes",
                );
            }
            if def.value_size == 0 || def.key_type == 0 || def.value_type == 0 {
                return invalid("a storage has keys and values with types");
            }
            if def.value_size > STORAGE_VALUE {
                return too_large("its values are too large");
            }
        }
        MapType::QUEUE | MapType::STACK => {
            if def.max_entries == 0 || def.key_size != 0 || def.value_size == 0 {
                return invalid("a queue or stack has entries, no keys, and values");
            }
            if u64::from(def.value_size) > KMALLOC {
                return too_large("its values are too large");
            }
        }
        MapType::RINGBUF | MapType::USER_RINGBUF => {
            let whole = u64::from(def.max_entries).is_multiple_of(PAGE);
            if def.key_size != 0 || def.value_size != 0 {
                return invalid("a ring has neither keys nor values");
            }
            if !whole || !def.max_entries.is_power_of_two() {
                return invalid("a ring has a power of two of pages");
            }
        }
        MapType::ARENA => {
            let room = u64::from(def.max_entries) * PAGE;
            if def.key_size != 0 || def.value_size != 0 || def.flags & MMAPABLE == 0 {
                return invalid("an arena has neither keys nor values, and BPF_F_MMAPABLE");
            }
            if def.max_entries == 0 || !def.extra.is_multiple_of(PAGE) {
                return invalid("an arena has pages, and begins at one");
            }
            if room > 1 << 32 || def.extra % (1 << 32) + room > 1 << 32 {
                return too_large("an arena is within 4 GiB");
            }
            if !def.initial_at.is_multiple_of(PAGE)
                || def.initial_at.saturating_add(def.initial.len() as u64) > room
            {
                return too_large("its variables do not fit into it");
            }
        }
        MapType::INSN_ARRAY
            if def.max_entries == 0
                || def.key_size != 4
                || def.value_size != 8 && def.value_size != 16 =>
        {
            return invalid("a jump table has entries, keys of 4 bytes, and values of 8 or 16");
        }
        _ => {}
    }
    if ty == MapType::ARRAY && def.value_size > i32::MAX as u32 {
        return too_large("its values are too large");
    }
    // A multiple of 8 itself, so nothing needs to be rounded up.
    if per_cpu && def.value_size > PERCPU_VALUE {
        return too_large("its values are too large for each CPU to have one");
    }
    Ok(())
}

/// What a type that the engine does not have is called: `enum bpf_map_type` of Linux 7.2.
fn type_name(map_type: MapType) -> String {
    let name = match map_type.0 {
        7 => "STACK_TRACE",
        8 => "CGROUP_ARRAY",
        11 => "LPM_TRIE",
        14 => "DEVMAP",
        15 => "SOCKMAP",
        16 => "CPUMAP",
        17 => "XSKMAP",
        18 => "SOCKHASH",
        19 => "CGROUP_STORAGE",
        20 => "REUSEPORT_SOCKARRAY",
        21 => "PERCPU_CGROUP_STORAGE",
        24 => "SK_STORAGE",
        25 => "DEVMAP_HASH",
        26 => "STRUCT_OPS",
        28 => "INODE_STORAGE",
        30 => "BLOOM_FILTER",
        35 => "RHASH",
        number => return number.to_string(),
    };
    format!("BPF_MAP_TYPE_{name}")
}
