//! Maps by their types: what they hold, and the errors that the kernel gives.

use scxlab_engine::Slot;

use super::errno::{E2BIG, EEXIST, EINVAL, ENOENT, ENOMEM};
use super::*;
use crate::Image;
use crate::btf::{Builder, Field};
use crate::image;
use crate::machine::{Denied, NoKernel};

mod model;

/// Maps, and the memory that they are in.
struct Lab {
    maps: Maps,
    memory: Memory,
    binding: Vec<crate::machine::MapAddress>,
}

const CPU0: Here = Here { cpu: 0, cpus: 4 };
const CPU3: Here = Here { cpu: 3, cpus: 4 };

fn def(map_type: MapType, key_size: u32, value_size: u32, max_entries: u32) -> image::Map {
    let name = "m".into();
    image::Map { name, map_type, key_size, value_size, max_entries, ..image::Map::default() }
}

fn image(maps: Vec<image::Map>) -> Image {
    Image { maps, ..Image::default() }
}

fn made(image: &Image) -> Result<Lab, String> {
    let mut lab = Lab { maps: Maps::default(), memory: Memory::new(1 << 20), binding: Vec::new() };
    for _ in &image.maps {
        match create(image, &mut lab.maps, &mut lab.memory) {
            Ok(Created::Map(address)) => lab.binding.push(address),
            Ok(Created::Refused(why) | Created::Lacking(why)) => return Err(why),
            Err(full) => return Err(full.to_string()),
        }
    }
    fill(image, &mut lab.maps);
    Ok(lab)
}

fn lab(def: image::Map) -> Lab {
    made(&image(vec![def])).expect("a map")
}

/// One whose values are a lock, a timer, a pointer of the kernel's and a number.
fn with_fields(map_type: MapType) -> Lab {
    let mut types = Builder::new();
    let int = types.int("unsigned int", 4, false);
    let long = types.int("unsigned long", 8, false);
    let lock = types.structure("bpf_spin_lock", &[Field::new("val", int)]);
    let words = types.array(long, 2);
    let timer = types.structure("bpf_timer", &[Field::new("__opaque", words)]);
    let task = types.declare_struct("task_struct");
    let tagged = types.type_tag("kptr", task);
    let kptr = types.ptr(tagged);
    let fields = [
        Field::new("number", int),
        Field::new("lock", lock),
        Field::new("timer", timer),
        Field::new("task", kptr),
        Field::new("last", long),
    ];
    let value_type = types.structure("value", &fields);
    let btf = types.finish().expect("types").into();
    let def = image::Map { value_type, ..def(map_type, 4, 40, 2) };
    made(&Image { btf, ..image(vec![def]) }).expect("a map")
}

impl Lab {
    fn update(&mut self, here: Here, key: &[u8], value: &[u8], flags: u64) -> Result<(), Fails> {
        self.maps.update(&mut self.memory, 0, here, (key, value), flags)
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Fails> {
        self.maps.delete(&mut self.memory, 0, key)
    }

    fn addr(&mut self, here: Here, key: &[u8]) -> Option<u64> {
        self.maps.lookup(&mut self.memory, 0, here, key).expect("it has lookups")
    }

    fn read(&self, addr: u64, size: usize) -> Result<Vec<u8>, Denied> {
        let mut bytes = vec![0; size];
        self.memory.read(&mut NoKernel, addr, &mut bytes).map(|()| bytes)
    }

    fn get(&mut self, here: Here, key: &[u8]) -> Option<Vec<u8>> {
        let size = self.maps.get(0).shape.value_size as usize;
        let addr = self.addr(here, key)?;
        Some(self.read(addr, size).expect("it is there"))
    }

    fn keys(&self) -> Vec<Vec<u8>> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        while let Some(key) = self.maps.next_key(0, keys.last().map(|key| &**key)).expect("keys") {
            keys.push(key);
        }
        keys
    }

    fn push(&mut self, value: &[u8], flags: u64) -> Result<(), Fails> {
        let (queue, shape) = self.maps.queue(0)?;
        queue.push(&mut self.memory, shape, value, flags)
    }

    fn take(&mut self, remove: bool) -> Result<Vec<u8>, Fails> {
        let (queue, shape) = self.maps.queue(0)?;
        queue.get(&self.memory, shape, remove)
    }
}

fn errno<T>(errno: i32) -> Result<T, Fails> {
    Err(Fails::Errno(errno))
}

const K0: [u8; 4] = 0_u32.to_le_bytes();
const K1: [u8; 4] = 1_u32.to_le_bytes();
const K2: [u8; 4] = 2_u32.to_le_bytes();

#[test]
fn an_array_has_all_its_elements_side_by_side() {
    let mut lab = lab(def(MapType::ARRAY, 4, 5, 3));
    assert_eq!(lab.update(CPU0, &K1, b"five!", 0), Ok(()));
    assert_eq!(lab.get(CPU3, &K1).as_deref(), Some(&b"five!"[..]));
    assert_eq!(lab.get(CPU0, &K0), Some(vec![0; 5]));
    // round_up(value_size, 8)
    let (first, last) = (lab.addr(CPU0, &K0), lab.addr(CPU0, &K2));
    assert_eq!((first, last), (Some(lab.binding[0].value), Some(lab.binding[0].value + 16)));
    assert_eq!(lab.addr(CPU0, &3_u32.to_le_bytes()), None);
    assert_eq!(lab.keys(), [K0, K1, K2]);
}

#[test]
fn an_array_s_errors_come_in_the_kernel_s_order() {
    let mut lab = lab(def(MapType::ARRAY, 4, 4, 2));
    let past = 2_u32.to_le_bytes();
    assert_eq!(lab.update(CPU0, &past, &K0, 3), errno(EINVAL));
    assert_eq!(lab.update(CPU0, &past, &K0, NOEXIST), errno(E2BIG));
    assert_eq!(lab.update(CPU0, &K0, &K0, NOEXIST), errno(EEXIST));
    assert_eq!(lab.update(CPU0, &K0, &K0, LOCK), errno(EINVAL));
    assert_eq!(lab.update(CPU0, &K0, &K0, EXIST), Ok(()));
    assert_eq!(lab.delete(&K0), errno(EINVAL));
}

#[test]
fn each_cpu_has_its_own_array() {
    let mut lab = lab(def(MapType::PERCPU_ARRAY, 4, 8, 2));
    assert_eq!(lab.update(CPU3, &K1, b"on cpu 3", 0), Ok(()));
    assert_eq!(lab.get(CPU0, &K1), Some(vec![0; 8]));
    let Lab { maps, memory, .. } = &mut lab;
    let there = maps.lookup_percpu(memory, 0, CPU0, &K1, 3).expect("it has").expect("a value");
    assert_eq!(maps.lookup_percpu(memory, 0, CPU0, &K1, 4), Ok(None));
    assert_eq!(maps.lookup_percpu(memory, 0, CPU0, &K2, 3), Ok(None));
    assert_eq!(lab.read(there, 8).as_deref(), Ok(&b"on cpu 3"[..]));
    assert_eq!(Some(there), lab.addr(CPU3, &K1));
}

#[test]
fn a_hash_s_errors() {
    let mut lab = lab(def(MapType::HASH, 4, 4, 2));
    assert_eq!(lab.update(CPU0, &K0, &K0, 3), errno(EINVAL));
    assert_eq!(lab.update(CPU0, &K0, &K0, LOCK), errno(EINVAL));
    assert_eq!(lab.update(CPU0, &K0, &K0, EXIST), errno(ENOENT));
    assert_eq!(lab.update(CPU0, &K0, &K0, NOEXIST), Ok(()));
    assert_eq!(lab.update(CPU0, &K0, &K0, NOEXIST), errno(EEXIST));
    assert_eq!(lab.update(CPU0, &K1, &K1, 0), Ok(()));
    assert_eq!(lab.update(CPU0, &K2, &K2, 0), errno(E2BIG));
    assert_eq!(lab.update(CPU0, &K1, &K2, 0), Ok(()), "a full one takes updates");
    assert_eq!(lab.delete(&K2), errno(ENOENT));
    assert_eq!(lab.delete(&K0), Ok(()));
    assert_eq!(lab.addr(CPU0, &K0), None);
    assert_eq!(lab.update(CPU0, &K2, &K2, 0), Ok(()));
}

#[test]
fn what_is_deleted_or_replaced_can_be_read_until_the_programs_have_ended() {
    let mut lab = lab(def(MapType::HASH, 4, 4, 4));
    lab.update(CPU0, &K0, b"old!", 0).expect("room");
    let old = lab.addr(CPU0, &K0).expect("it is there");
    lab.update(CPU0, &K0, b"new!", 0).expect("it is there");
    let new = lab.addr(CPU0, &K0).expect("it is there");
    lab.delete(&K0).expect("it is there");
    assert_eq!(lab.read(old, 4).as_deref(), Ok(&b"old!"[..]));
    assert_eq!(lab.read(new, 4).as_deref(), Ok(&b"new!"[..]));
    lab.maps.quiesce(&mut lab.memory);
    assert_eq!((lab.read(old, 4), lab.read(new, 4)), (Err(Denied::Freed), Err(Denied::Freed)));
}

#[test]
fn a_full_lru_hash_drops_what_was_used_the_longest_time_ago() {
    let mut lab = lab(def(MapType::LRU_HASH, 4, 4, 2));
    lab.update(CPU0, &K0, &K0, 0).expect("room");
    lab.update(CPU0, &K1, &K1, 0).expect("room");
    lab.get(CPU0, &K0).expect("it is there");
    lab.update(CPU0, &K2, &K2, 0).expect("it makes room");
    assert_eq!(lab.keys(), [K0, K2]);
    // An update is a use too.
    lab.update(CPU0, &K0, &K1, 0).expect("it is there");
    lab.update(CPU0, &K1, &K1, 0).expect("it makes room");
    assert_eq!(lab.keys(), [K0, K1]);
    assert_eq!(lab.update(CPU0, &K0, &K0, LOCK), errno(EINVAL));
    assert_eq!(lab.update(CPU0, &K0, &K0, NOEXIST), errno(EEXIST));
    assert_eq!(lab.delete(&K0), Ok(()));
    assert_eq!(lab.delete(&K0), errno(ENOENT));
}

#[test]
fn an_element_of_a_hash_for_each_cpu_begins_at_zero_elsewhere() {
    for map_type in [MapType::PERCPU_HASH, MapType::LRU_PERCPU_HASH] {
        let mut lab = lab(def(map_type, 4, 4, 2));
        lab.update(CPU3, &K1, b"here", 0).expect("room");
        let addr = lab.addr(CPU3, &K1);
        assert_eq!(lab.get(CPU0, &K1), Some(vec![0; 4]));
        lab.update(CPU0, &K1, b"too!", EXIST).expect("it is there");
        assert_eq!(lab.get(CPU3, &K1).as_deref(), Some(&b"here"[..]), "only its own");
        lab.update(CPU3, &K1, b"then", 0).expect("it is there");
        assert_eq!(lab.addr(CPU3, &K1), addr, "in place");
        let Lab { maps, memory, .. } = &mut lab;
        assert_eq!(maps.lookup_percpu(memory, 0, CPU0, &K1, 4), Ok(None));
        assert_eq!(maps.lookup_percpu(memory, 0, CPU0, &K1, 3), Ok(addr));
        assert_eq!(lab.update(CPU0, &K1, &K1, LOCK), errno(EINVAL));
    }
}

#[test]
fn fields_are_not_bytes() {
    for map_type in [MapType::ARRAY, MapType::HASH] {
        let mut lab = with_fields(map_type);
        let shape = &lab.maps.get(0).shape;
        assert_eq!(shape.fields.at(4), Some(fields::Field::SpinLock));
        assert_eq!(shape.fields.at(8), Some(fields::Field::Timer));
        assert_eq!(shape.fields.at(24), Some(fields::Field::Kptr));
        assert_eq!(shape.fields.at(0), None);
        lab.update(CPU0, &K1, &[0xff; 40], 0).expect("room");
        let mut expected = [0xff; 40];
        expected[4..32].fill(0);
        assert_eq!(lab.get(CPU0, &K1).as_deref(), Some(&expected[..]));
        // With the lock: in place.
        let before = lab.addr(CPU0, &K1);
        assert_eq!(lab.update(CPU0, &K1, &[1; 40], LOCK), Ok(()));
        assert_eq!(lab.addr(CPU0, &K1), before);
        let within = before.expect("it is there") + 24;
        assert_eq!(lab.maps.value_at(&lab.memory, within), Some((0, 24)));
    }
}

#[test]
fn fields_are_found_in_arrays_and_structures_within() {
    let mut types = Builder::new();
    let char = types.char();
    let lock = types.structure("bpf_spin_lock", &[Field::new("val", char)]);
    let task = types.declare_struct("task_struct");
    let tagged = types.type_tag("percpu_kptr", task);
    let kptr = types.ptr(tagged);
    let two = types.array(kptr, 2);
    let inner = types.structure("inner", &[Field::new("pointers", two)]);
    let many = types.array(inner, 2);
    let text = types.array(char, u32::MAX / 64);
    let fields = [Field::new("many", many), Field::new("lock", lock), Field::new("text", text)];
    let outer = types.structure("outer", &fields);
    let plain = types.ptr(task);
    let wrong = types.structure("wrong", &[Field::new("plain", plain)]);
    let crowd = types.array(inner, 1 << 20);
    let btf = types.finish().expect("types");
    let found = Fields::of(&btf, outer).expect("few");
    for at in [0, 8, 16, 24] {
        assert_eq!(found.at(at), Some(fields::Field::Kptr), "{at}");
    }
    assert_eq!(found.at(32), Some(fields::Field::SpinLock));
    let plain: Vec<_> = found.plain(100).collect();
    assert_eq!(plain, [(36, 100)]);
    assert!(!Fields::of(&btf, wrong).expect("none").has(fields::Field::Kptr));
    assert!(Fields::of(&btf, crowd).is_none(), "two million are too many");
}

/// As compilers leave it, with all variables at 0: where they are, only symbols say.
#[test]
fn the_fields_of_a_section_are_its_variables() {
    let mut types = Builder::new();
    let int = types.int("unsigned int", 4, false);
    let lock = types.structure("bpf_spin_lock", &[Field::new("val", int)]);
    let (number, locked) = (types.var("number", int, 1), types.var("locked", lock, 1));
    let value_type = types.section(".data.own", 0, &[(number, 0, 4), (locked, 0, 4)]);
    let btf = types.finish().expect("types").into();
    let global = |ty, offset| image::Global { ty, offset, ..image::Global::default() };
    let maps = vec![image::Map { value_type, ..def(MapType::ARRAY, 4, 12, 1) }];
    let globals = vec![global(int, 0), global(lock, 8)];
    let lab = made(&Image { btf, globals, ..image(maps) }).expect("a map");
    let fields = &lab.maps.get(0).shape.fields;
    assert_eq!((fields.at(0), fields.at(8)), (None, Some(fields::Field::SpinLock)));
}

#[test]
fn queues_and_stacks() {
    for (map_type, order) in [(MapType::QUEUE, [K0, K1, K2]), (MapType::STACK, [K2, K1, K0])] {
        let mut lab = lab(def(map_type, 0, 4, 3));
        assert_eq!(lab.take(false), errno(ENOENT));
        assert_eq!(lab.push(&K0, NOEXIST), errno(EINVAL));
        assert_eq!(lab.push(&K0, 4), errno(EINVAL));
        for key in [K0, K1, K2] {
            assert_eq!(lab.push(&key, 0), Ok(()));
        }
        assert_eq!(lab.push(&K0, 0), errno(E2BIG));
        let peeked = lab.take(false);
        assert_eq!(lab.take(true), peeked);
        lab.push(&order[0], 0).expect("room");
        let (queue, shape) = lab.maps.queue(0).expect("a queue");
        let addresses: Vec<_> = queue.addresses(shape).collect();
        let all: Vec<_> = addresses.iter().map(|addr| lab.read(*addr, 4).expect("there")).collect();
        let taken: Vec<_> = (0..3).map(|_| lab.take(true).expect("there")).collect();
        assert_eq!(all, taken);
        assert_eq!(lab.take(true), errno(ENOENT));
        // The oldest makes room.
        for key in [K0, K1, K2, 3_u32.to_le_bytes()] {
            assert_eq!(lab.push(&key, EXIST), Ok(()));
        }
        let mut left: Vec<_> = (0..3).map(|_| lab.take(true).expect("there")).collect();
        left.sort();
        assert_eq!(left, [K1, K2, 3_u32.to_le_bytes()]);
    }
}

#[test]
fn a_storage_belongs_to_one_task() {
    let def = def(MapType::TASK_STORAGE, 4, 4, 0);
    let mut lab = lab(image::Map { flags: 1, key_type: 1, value_type: 1, ..def });
    let (now, next) = (Slot { index: 1, generation: 5 }, Slot { index: 1, generation: 6 });
    let a = storage::Owner::Task(now);
    let other = storage::Owner::Task(Slot { index: 2, generation: 5 });
    let Lab { maps, memory, .. } = &mut lab;
    let (storage, shape, deleted) = maps.storage(0, MapType::TASK_STORAGE).expect("it is one");
    assert_eq!(storage.lookup(a), None);
    let addr = storage.create(memory, shape, a, Some(b"mine")).expect("room");
    let others = storage.create(memory, shape, other, None).expect("room");
    assert_eq!((storage.lookup(a), storage.lookup(other)), (Some(addr), Some(others)));
    storage.drop_former(now, deleted);
    assert_eq!(storage.lookup(a), Some(addr));
    storage.drop_former(next, deleted);
    assert_eq!((storage.lookup(a), storage.lookup(other)), (None, Some(others)));
    assert_eq!(storage.delete(a, deleted), errno(ENOENT));
    assert_eq!(storage.delete(other, deleted), Ok(()));
    assert_eq!(lab.read(addr, 4).as_deref(), Ok(&b"mine"[..]));
    lab.maps.quiesce(&mut lab.memory);
    assert_eq!(lab.read(addr, 4), Err(Denied::Freed));
}

#[test]
fn a_ring_is_full_when_nobody_reads() {
    let mut lab = lab(def(MapType::RINGBUF, 0, 0, 4096));
    let Lab { maps, memory, .. } = &mut lab;
    let (ring, shape) = maps.ring(0).expect("a ring");
    assert_eq!((ring.query(0), ring.query(1), ring.query(9)), (0, 4096, 0));
    assert_eq!(ring.reserve(memory, shape, 4089), Ok(None), "with its header it is too large");
    assert_eq!(ring.reserve(memory, shape, u64::MAX), Ok(None));
    let first = ring.reserve(memory, shape, 10).expect("memory").expect("room");
    let second = ring.reserve(memory, shape, 2000).expect("memory").expect("room");
    assert_eq!(ring.query(0), 24 + 2008);
    // 4096 - 2032 are left, and one byte stays free.
    assert_eq!(ring.reserve(memory, shape, 2056), Ok(None));
    let third = ring.reserve(memory, shape, 2048).expect("memory").expect("room");
    memory.write(&mut NoKernel, first, b"0123456789").expect("it is ours");
    assert_eq!(ring.commit(memory, shape, first, false), Ok(()));
    assert_eq!(ring.commit(memory, shape, second, true), Ok(()));
    assert!(ring.commit(memory, shape, second, true).is_err(), "it is no record any more");
    assert!(ring.commit(memory, shape, third + 1, true).is_err());
    assert!(ring.is_reserved(memory, third) && !ring.is_reserved(memory, second));
    assert_eq!(ring.commit(memory, shape, third, false), Ok(()));
    assert_eq!(ring.reserve(memory, shape, 1), Ok(None));
    let done: Vec<_> = ring.submitted().collect();
    assert_eq!(done.len(), 2);
    let mut text = [0; 10];
    assert_eq!(memory.read(&mut NoKernel, done[0].base(), &mut text), Ok(()));
    assert_eq!(&text, b"0123456789");
    assert_eq!(memory.write(&mut NoKernel, first, b"late"), Err(Denied::Freed));
}

#[test]
fn a_ring_that_overwrites_drops_the_oldest_record() {
    let mut lab = lab(image::Map { flags: 1 << 19, ..def(MapType::RINGBUF, 0, 0, 4096) });
    let Lab { maps, memory, .. } = &mut lab;
    let (ring, shape) = maps.ring(0).expect("a ring");
    for _ in 0..8 {
        let record = ring.reserve(memory, shape, 1016).expect("memory").expect("room");
        ring.commit(memory, shape, record, false).expect("it is reserved");
    }
    // Three of 1024 bytes: a fourth would leave no byte free.
    assert_eq!((ring.submitted().count(), ring.query(0), ring.query(4)), (3, 3072, 5120));
    let busy = ring.reserve(memory, shape, 1016).expect("memory").expect("room");
    for _ in 0..2 {
        let record = ring.reserve(memory, shape, 1016).expect("memory").expect("room");
        ring.commit(memory, shape, record, false).expect("it is reserved");
    }
    assert_eq!(ring.reserve(memory, shape, 1016), Ok(None), "one is still being written");
    ring.commit(memory, shape, busy, true).expect("it is reserved");
    assert!(ring.reserve(memory, shape, 1016).expect("memory").is_some());
}

#[test]
fn maps_of_maps_have_what_the_object_says() {
    let inner = || def(MapType::ARRAY, 4, 4, 1);
    let outer =
        |map_type| image::Map { entries: vec![Some(0), None, Some(1)], ..def(map_type, 4, 4, 3) };
    let maps = vec![inner(), inner(), outer(MapType::ARRAY_OF_MAPS), outer(MapType::HASH_OF_MAPS)];
    let Lab { mut maps, mut memory, binding } = made(&image(maps)).expect("maps");
    for number in [2, 3] {
        let mut at = |key| maps.lookup(&mut memory, number, CPU0, key).expect("it has lookups");
        assert_eq!(at(&K0), Some(binding[0].map));
        assert_eq!(at(&K1), None);
        assert_eq!(at(&K2), Some(binding[1].map));
        assert_eq!(at(&3_u32.to_le_bytes()), None);
    }
    assert_eq!(maps.find(&memory, binding[1].map), Some(1));
    assert_eq!(maps.find(&memory, binding[1].map + 1), None);
    assert_eq!(maps.find(&memory, binding[1].value), None, "a value is no map");
}

#[test]
fn an_arena_has_its_variables_where_the_object_says() {
    let arena = image::Map {
        flags: 1 << 10,
        initial: vec![7; 5000],
        initial_at: 2 * 4096,
        ..def(MapType::ARENA, 0, 0, 16)
    };
    let lab = lab(arena);
    let crate::machine::MapAddress { value, arena, .. } = lab.binding[0];
    assert_eq!(lab.read(arena + 2 * 4096, 5000), Ok(vec![7; 5000]));
    let id = RegionId::of(arena).expect("a region");
    let populated = |page| lab.memory.is_populated(id, page);
    assert_eq!([1, 2, 3, 4].map(populated), [false, true, true, false]);
    assert_eq!(value % (1 << 32), 0);
}

#[test]
fn a_jump_table_is_read_only() {
    let table =
        image::Map { entries: vec![Some(3), Some(5)], ..def(MapType::INSN_ARRAY, 4, 16, 2) };
    let mut lab = lab(table);
    let value = lab.binding[0].value;
    let third = address::of_insn(3).to_le_bytes().to_vec();
    assert_eq!(lab.read(value, 8), Ok(third));
    assert_eq!(lab.memory.write(&mut NoKernel, value, &K0), Err(Denied::ReadOnly));
}

#[test]
fn what_no_kernel_makes_is_refused() {
    let storage = |flags| image::Map {
        flags,
        key_type: 1,
        value_type: 1,
        ..def(MapType::TASK_STORAGE, 4, 8, 0)
    };
    let flags = |flags, def| image::Map { flags, ..def };
    for (def, why) in [
        (def(MapType::ARRAY, 8, 8, 1), "EINVAL"),
        (def(MapType::ARRAY, 4, 0, 1), "EINVAL"),
        (def(MapType::ARRAY, 4, 8, 0), "EINVAL"),
        (def(MapType::ARRAY, 4, u32::MAX, 1), "E2BIG"),
        (flags(1, def(MapType::ARRAY, 4, 4, 1)), "EINVAL"),
        (flags(1 << 7 | 1 << 8, def(MapType::ARRAY, 4, 4, 1)), "EINVAL"),
        (def(MapType::PERCPU_ARRAY, 4, 32769, 1), "E2BIG"),
        (def(MapType::PERCPU_ARRAY, 4, u32::MAX - 6, 1), "E2BIG"),
        (def(MapType::PERCPU_ARRAY, 4, u32::MAX, u32::MAX), "E2BIG"),
        (flags(4, def(MapType::PERCPU_ARRAY, 4, 8, 1)), "EINVAL"),
        (flags(4, def(MapType::PERCPU_HASH, 4, 8, 1)), "EINVAL"),
        (flags(4 | 2, def(MapType::LRU_HASH, 4, 8, 1)), "EINVAL"),
        (def(MapType::PERF_EVENT_ARRAY, 4, 8, 1), "EINVAL"),
        (def(MapType::HASH_OF_MAPS, 4, 8, 1), "EINVAL"),
        (def(MapType::HASH, 0, 8, 1), "EINVAL"),
        (def(MapType::HASH, 4, 4 << 20, 1), "E2BIG"),
        (def(MapType::HASH, u32::MAX, u32::MAX, 1), "E2BIG"),
        (def(MapType::HASH, 4, 8, (1 << 27) + 1), "E2BIG"),
        (def(MapType::LRU_PERCPU_HASH, 4, 8, u32::MAX), "E2BIG"),
        (flags(2, def(MapType::HASH, 4, 4, 1)), "EINVAL"),
        (flags(1, def(MapType::LRU_HASH, 4, 4, 1)), "EINVAL"),
        (def(MapType::QUEUE, 4, 4, 1), "EINVAL"),
        (def(MapType::STACK, 0, 5 << 20, 1), "E2BIG"),
        (def(MapType::RINGBUF, 0, 0, 4095), "EINVAL"),
        (def(MapType::RINGBUF, 0, 0, 3 * 4096), "EINVAL"),
        (def(MapType::USER_RINGBUF, 0, 8, 4096), "EINVAL"),
        (storage(0), "EINVAL"),
        (image::Map { value_type: 0, ..storage(1) }, "EINVAL"),
        (image::Map { value_size: 65536, ..storage(1) }, "E2BIG"),
        (def(MapType::ARENA, 0, 0, 1), "EINVAL"),
        (flags(1 << 10, def(MapType::ARENA, 0, 0, (1 << 20) + 1)), "E2BIG"),
        (def(MapType::PROG_ARRAY, 4, 4, 1), "schedulers cannot call programs"),
        (def(MapType(15), 4, 4, 1), "the engine has no maps of type BPF_MAP_TYPE_SOCKMAP"),
        (def(MapType::ARRAY, 4, 8, u32::MAX), "memory is full"),
        (def(MapType::QUEUE, 0, 8, u32::MAX), "memory is full"),
        (def(MapType::INSN_ARRAY, 4, 16, u32::MAX), "memory is full"),
    ] {
        let refused = made(&image(vec![def.clone()])).map(|_| ()).expect_err("it was made");
        assert!(refused.contains(why), "{def:?}: {refused}");
    }
}

/// The machine of these tests has a megabyte.
#[test]
fn memory_runs_out_with_an_error() {
    let mut lab = lab(def(MapType::HASH, 4, 4096, 1 << 27));
    let value = [1; 4096];
    let full = (0..1000_u32).find_map(|n| lab.update(CPU0, &n.to_le_bytes(), &value, 0).err());
    assert_eq!(full, Some(Fails::Errno(ENOMEM)));
    assert!(lab.keys().len() > 200);
    let big = def(MapType::PERCPU_ARRAY, 4, 32768, 31);
    let mut lab = self::lab(big);
    for cpu in 0..4 {
        let here = Here { cpu, cpus: 4 };
        let all = (0..31_u32).try_for_each(|n| lab.update(here, &n.to_le_bytes(), &[1; 32768], 0));
        assert_eq!(all, if cpu == 0 { Ok(()) } else { errno(ENOMEM) }, "CPU {cpu}");
    }
}

/// Keys take memory too, and give it back.
#[test]
fn memory_runs_out_with_keys_too() {
    for map_type in [MapType::HASH, MapType::PERCPU_HASH] {
        let mut lab = lab(def(map_type, 8192, 8, 1 << 20));
        let key = |n: u32| [&n.to_le_bytes()[..], &[0; 8188]].concat();
        let before = lab.memory.used();
        let full = (0..1000).find_map(|n| lab.update(CPU3, &key(n), &[1; 8], 0).err());
        assert_eq!(full, Some(Fails::Errno(ENOMEM)));
        let all = lab.keys();
        assert!((100..128).contains(&all.len()), "{}", all.len());
        let used = lab.memory.used();
        assert_eq!(lab.update(CPU3, &key(1000), &[1; 8], 0), errno(ENOMEM));
        assert_eq!(lab.memory.used(), used, "nothing was kept of it");
        all.iter().for_each(|key| lab.delete(key).expect("it is there"));
        lab.maps.quiesce(&mut lab.memory);
        assert_eq!(lab.memory.used(), before);
    }
    let mut lru = lab(def(MapType::LRU_HASH, 4096, 8, 2));
    let key = |n: u32| [&n.to_le_bytes()[..], &[0; 4092]].concat();
    for n in 0..1000 {
        assert_eq!(lru.update(CPU0, &key(n), &[1; 8], 0), Ok(()), "{n}");
        lru.maps.quiesce(&mut lru.memory);
    }
}
