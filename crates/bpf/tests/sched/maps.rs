//! Maps, as programs use them.

use std::sync::Arc;

use scxlab_bpf::btf::{Builder, Field};
use scxlab_bpf::image::{Global, Kfunc, Map, MapType};
use scxlab_bpf::sched::{BpfScheduler, MapDump, MapElement, MapKey};
use scxlab_engine::Nanos;
use scxlab_engine::program::{Instr, Pc, Program, Span, Spawn, Start};

use crate::build::{Asm, image_with, kernel};
use crate::{Ran, attached, attached_to, enqueue, run};

const LOOKUP: i32 = 1;
const UPDATE: i32 = 2;
const DELETE: i32 = 3;
const PUSH: i32 = 87;
const POP: i32 = 88;
const PEEK: i32 = 89;
const STORAGE_GET: i32 = 156;
const STORAGE_DELETE: i32 = 157;
const XCHG: i32 = 194;
const PERCPU: i32 = 195;

const ENOENT: u64 = -2_i64 as u64;
const E2BIG: u64 = -7_i64 as u64;
const EEXIST: u64 = -17_i64 as u64;
const EINVAL: u64 = -22_i64 as u64;

pub fn map(name: &str, map_type: MapType, key_size: u32, value_size: u32, max_entries: u32) -> Map {
    let name = name.into();
    Map { name, map_type, key_size, value_size, max_entries, ..Map::default() }
}

pub fn storage(value_size: u32) -> Map {
    let map = map("storage", MapType::TASK_STORAGE, 4, value_size, 0);
    Map { flags: 1, key_type: 1, value_type: 1, ..map }
}

/// A scheduler with maps from 1 on.
pub fn with_maps(programs: &[(&str, Asm)], maps: Vec<Map>) -> BpfScheduler {
    let mut all = vec![("enqueue", enqueue())];
    all.extend_from_slice(programs);
    BpfScheduler::new(image_with(&all, &[], maps), &kernel()).expect("it has all that it needs")
}

/// What `ops.init` kept of its calls.
pub fn kept(init: Asm, maps: Vec<Map>) -> Vec<u64> {
    let ran = run(with_maps(&[("init", init.mov(0, 0).exit())], maps));
    ran.is_well();
    (0..30).map(|n| ran.counter(&format!("r{n}"))).collect()
}

pub fn failed(programs: &[(&str, Asm)], maps: Vec<Map>) -> String {
    let Ran { engine, id, .. } = run(with_maps(programs, maps));
    let info = engine.exit_info(id).expect("it has ended");
    assert_eq!(engine.lost_tasks(), []);
    info.msg.clone()
}

impl Ran {
    pub fn elements(&self, map: &str) -> Vec<MapElement> {
        let state = self.engine.scheduler_state(self.id);
        self.sched.map_elements(state, map, 1000).expect("there is such a map")
    }
}

impl Asm {
    /// A key and a value in the frame, and the arguments of an update with these flags.
    fn update(self, index: i32, key: i32, value: i32, flags: i32) -> Self {
        let filled = self.put(10, -8, key).put(10, -16, value).map(1, index);
        filled.frame(2, -8).frame(3, -16).mov(4, flags).helper(UPDATE)
    }

    fn with_key(self, index: i32, key: i32, helper: i32) -> Self {
        self.put(10, -8, key).map(1, index).frame(2, -8).helper(helper)
    }
}

#[test]
fn a_program_gets_what_the_kernel_gives() {
    let init = Asm::new()
        .update(1, 5, 55, 0)
        .keep(0)
        .update(1, 5, 56, 1)
        .keep(1)
        .update(1, 6, 66, 2)
        .keep(2)
        .update(1, 6, 66, 1)
        .keep(3)
        .update(1, 7, 77, 0)
        .keep(4)
        .with_key(1, 5, LOOKUP)
        .load(0, 0, 0)
        .keep(5)
        .with_key(1, 7, LOOKUP)
        .keep(6)
        .with_key(1, 5, DELETE)
        .keep(7)
        .with_key(1, 5, DELETE)
        .keep(8)
        .with_key(2, 1, DELETE)
        .keep(9)
        .update(2, 3, 33, 0)
        .keep(10);
    let maps = vec![map("hash", MapType::HASH, 8, 8, 2), map("array", MapType::ARRAY, 4, 8, 3)];
    let kept = kept(init, maps);
    assert_eq!(kept[..11], [0, EEXIST, ENOENT, 0, E2BIG, 55, 0, 0, ENOENT, EINVAL, E2BIG]);
}

#[test]
fn queues_push_and_pop() {
    let push = |asm: Asm, value, flags| {
        asm.put(10, -8, value).map(1, 1).frame(2, -8).mov(3, flags).helper(PUSH)
    };
    let take = |asm: Asm, helper| asm.map(1, 1).frame(2, -8).helper(helper);
    let init = take(Asm::new().put(10, -8, 9), POP).keep(0).load(0, 10, -8).keep(1);
    let init = push(init, 11, 0).keep(2);
    let init = push(init, 12, 0).keep(3);
    let init = push(init, 13, 0).keep(4);
    let init = push(init, 13, 2).keep(5);
    let init = take(init, PEEK).keep(6).load(0, 10, -8).keep(7);
    let init = take(init, POP).keep(8).load(0, 10, -8).keep(9);
    let kept = kept(init, vec![map("queue", MapType::QUEUE, 0, 8, 2)]);
    assert_eq!(kept[..10], [ENOENT, 0, 0, 0, E2BIG, 0, 0, 12, 0, 12]);
}

/// Counts in ops.running, on the CPU and for the task.
fn counting() -> Asm {
    Asm::new()
        .load(6, 1, 0)
        .bss(1, 8)
        .mov(2, 1)
        .atomic_add(1, 0, 2)
        .with_key(1, 1, LOOKUP)
        .mov(2, 1)
        .atomic_add(0, 0, 2)
        .map(1, 2)
        .copy(2, 6)
        .mov(3, 0)
        .mov(4, 1)
        .helper(STORAGE_GET)
        .mov(2, 1)
        .atomic_add(0, 0, 2)
        .mov(0, 0)
        .exit()
}

fn counts(element: &MapElement) -> u64 {
    let word = |bytes: &Vec<u8>| bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    element.values.iter().map(word).sum()
}

#[test]
fn each_cpu_and_each_task_has_its_own() {
    let maps = vec![map("cpus", MapType::PERCPU_ARRAY, 4, 8, 2), storage(8)];
    let ran = run(with_maps(&[("running", counting())], maps));
    ran.is_well();
    let [cpus, tasks] = ["cpus", "storage"].map(|name| ran.elements(name));
    assert_eq!(cpus[1].values.len(), 2, "both CPUs have run something");
    assert!(tasks.len() >= 4, "{tasks:?}");
    assert!(tasks.iter().all(|element| matches!(element.key, MapKey::Task(_))));
    let all = ran.counter("second");
    assert!(all > 100);
    assert_eq!(counts(&cpus[1]), all);
    assert_eq!(tasks.iter().map(counts).sum::<u64>(), all);
    assert_eq!(counts(&cpus[0]), 0);
}

#[test]
fn storage_is_not_made_unless_that_is_asked_for() {
    let get =
        |asm: Asm, flags| asm.map(1, 1).copy(2, 6).mov(3, 0).mov(4, flags).helper(STORAGE_GET);
    let running = Asm::new().load(6, 1, 0);
    let running = get(running, 0).keep(0);
    let running = get(running, 2).keep(1);
    let running = running.map(1, 1).copy(2, 6).helper(STORAGE_DELETE).keep(2);
    let running = running.map(1, 1).mov(2, 0).helper(STORAGE_DELETE).keep(3);
    // With a value to begin with.
    let running = running.put(10, -8, 42).map(1, 1).copy(2, 6).frame(3, -8).mov(4, 1);
    let running = running.helper(STORAGE_GET).load(0, 0, 0).keep(4);
    let running = running.map(1, 1).copy(2, 6).helper(STORAGE_DELETE).keep(5);
    let ran = run(with_maps(&[("running", running.mov(0, 0).exit())], vec![storage(8)]));
    ran.is_well();
    let kept: Vec<_> = (0..6).map(|n| ran.counter(&format!("r{n}"))).collect();
    assert_eq!(kept, [0, 0, ENOENT, EINVAL, 42, 0]);
    assert_eq!(ran.elements("storage"), []);
}

#[test]
fn a_pointer_past_a_value_is_a_fault_that_names_it() {
    let init = Asm::new().update(1, 5, 55, 0).with_key(1, 5, LOOKUP).load(0, 0, 4).exit();
    let msg = failed(&[("init", init)], vec![map("hash", MapType::HASH, 8, 8, 2)]);
    assert!(msg.contains("offset 4 of value 0 of map hash, 8 bytes"), "{msg}");
    let init = Asm::new().with_key(1, 1, LOOKUP).load(0, 0, 16).exit();
    let msg = failed(&[("init", init)], vec![map("array", MapType::ARRAY, 4, 16, 2)]);
    assert!(msg.contains("right after the end of map array, 32 bytes"), "{msg}");
}

#[test]
fn a_deleted_value_lasts_as_long_as_the_program() {
    // What init keeps of a value is gone when it has ended.
    let init = Asm::new()
        .update(1, 5, 55, 0)
        .with_key(1, 5, LOOKUP)
        .keep(0)
        .copy(6, 0)
        .with_key(1, 5, DELETE)
        .load(0, 6, 0)
        .keep(1)
        .mov(0, 0)
        .exit();
    let running = Asm::new().bss(1, 16).load(1, 1, 0).load(0, 1, 0).exit();
    let ran = run(with_maps(
        &[("init", init), ("running", running)],
        vec![map("hash", MapType::HASH, 8, 8, 2)],
    ));
    assert_eq!(ran.counter("r1"), 55);
    let msg = &ran.engine.exit_info(ran.id).expect("it has ended").msg;
    assert!(msg.starts_with("ops.running: use after free"), "{msg}");
    assert!(msg.contains("of value 0 of map hash, 8 bytes, freed"), "{msg}");
}

#[test]
fn what_no_kernel_would_load_is_a_fault() {
    for (init, why) in [
        (Asm::new().copy(1, 10).frame(2, -8).helper(LOOKUP), "its argument 1 is no map"),
        (Asm::new().with_key(1, 1, LOOKUP), "nothing can be looked up"),
        (Asm::new().with_key(1, 1, PERCPU), "its values are not for each CPU"),
        (Asm::new().with_key(1, 1, POP), "it is no queue"),
        (Asm::new().update(2, 1, 1, 0), "programs may only read it"),
        (Asm::new().map(1, 2).mov(2, 64).helper(LOOKUP), "64 bytes from a NULL pointer"),
        (Asm::new().map(1, 2).mov(2, 1).mov(3, 0).mov(4, 0).helper(STORAGE_GET), "is no task"),
        (Asm::new().map(1, 2).load(0, 1, 0), "the object of map array"),
    ] {
        let maps = vec![
            map("ring", MapType::RINGBUF, 0, 0, 4096),
            Map { read_only: true, ..map("array", MapType::ARRAY, 4, 8, 2) },
        ];
        let msg = failed(&[("init", init.exit())], maps);
        assert!(msg.starts_with("ops.init: ") && msg.contains(why), "{why}: {msg}");
    }
}

/// A scheduler that remembers much: who ran last, in an LRU hash; all, in a hash; in a queue.
fn busy() -> BpfScheduler {
    let running = Asm::new()
        .load(6, 1, 0)
        .load_member(7, 6, "pid")
        .store(10, -8, 7)
        .map(1, 1)
        .frame(2, -8)
        .frame(3, -8)
        .mov(4, 0)
        .helper(UPDATE)
        .map(1, 2)
        .frame(2, -8)
        .frame(3, -8)
        .mov(4, 0)
        .helper(UPDATE)
        .helper(7)
        .store(10, -16, 0)
        .map(1, 3)
        .frame(2, -16)
        .mov(3, 2)
        .helper(PUSH)
        .mov(0, 0)
        .exit();
    let maps = vec![
        map("last", MapType::LRU_HASH, 8, 8, 3),
        map("all", MapType::HASH, 8, 8, 100),
        map("chance", MapType::QUEUE, 0, 8, 50),
    ];
    with_maps(&[("running", running)], maps)
}

#[test]
fn a_clone_has_maps_of_its_own_and_goes_on_as_the_original() {
    let all = |ran: &Ran| ["last", "all", "chance"].map(|map| ran.elements(map));
    let mut ran = attached(busy(), 7);
    ran.engine.run_until(Nanos::from_millis(90));
    let mut clone = ran.clone();
    let then = all(&ran);
    ran.engine.run_until(Nanos::from_millis(300));
    assert_eq!(all(&clone), then, "it does not see what the original does");
    clone.engine.run_until(Nanos::from_millis(300));
    assert_eq!(all(&ran), all(&clone));
    assert_eq!(ran.all_of_it(), clone.all_of_it());
    assert_ne!(all(&ran), then);
    ran.is_well();
    let [last, everyone, chance] = all(&ran);
    assert_eq!((last.len(), chance.len()), (3, 50));
    assert!(everyone.len() >= 4);
    // Another seed, other numbers; the same one, the same.
    let chance_of = |seed| {
        let mut ran = attached(busy(), seed);
        ran.engine.run_until(Nanos::from_millis(300));
        ran.elements("chance")
    };
    assert_eq!(chance_of(7), chance);
    assert_ne!(chance_of(8), chance);
}

/// With kernel functions from 1 on, and map 1, whose values are one pointer that they own.
fn with_pointers(programs: &[(&str, Asm)], kfuncs: &[&str]) -> BpfScheduler {
    with_pointers_in(map("owners", MapType::HASH, 8, 8, 9), programs, kfuncs)
}

fn with_pointers_in(owners: Map, programs: &[(&str, Asm)], kfuncs: &[&str]) -> BpfScheduler {
    let mut all = vec![("enqueue", enqueue())];
    all.extend_from_slice(programs);
    let mut image = image_with(&all, &[], vec![owners]);
    let mut types = Builder::new();
    let long = types.int("unsigned long", 8, false);
    let object = types.declare_struct("bpf_cpumask");
    let tagged = types.type_tag("kptr", object);
    let kptr = types.ptr(tagged);
    image.maps[1].value_type = types.structure("value", &[Field::new("pointer", kptr)]);
    image.btf = Arc::new(types.finish().expect("types"));
    image.globals.iter_mut().for_each(|global| global.ty = long);
    image.kfuncs.extend(kfuncs.iter().map(|name| Kfunc {
        name: (*name).into(),
        symbol: (*name).into(),
        weak: false,
    }));
    BpfScheduler::new(image, &kernel()).expect("it has all that it needs")
}

#[test]
fn what_a_deleted_value_owns_is_given_back() {
    // A mask and a task go into values; one of two is deleted.
    let own = |asm: Asm, key, kfunc| {
        let asm = asm.copy(1, 6).kfunc(kfunc).copy(7, 0).update(1, key, 0, 0);
        let asm = asm.with_key(1, key, LOOKUP).copy(1, 0).copy(2, 7).helper(XCHG);
        asm.copy(0, 7)
    };
    let init_task = Asm::new().load(6, 1, 0);
    let init_task = own(init_task, 1, 1).keep(0);
    let init_task = own(init_task, 2, 1).keep(1);
    let init_task = own(init_task, 3, 2).keep(2);
    let init_task = [1, 3].iter().fold(init_task, |asm, key| asm.with_key(1, *key, DELETE));
    // The other one lasts until the next task's: that one replaces the value.
    let init_task = init_task.bss(1, 24).load(0, 1, 0).load(0, 0, 0).mov(0, 0).exit();
    let kfuncs = ["bpf_cpumask_create", "bpf_task_acquire"];
    let good = with_pointers(&[("init_task", init_task.clone())], &kfuncs);
    run(good).is_well();
    let late = |offset| Asm::new().bss(1, offset).load(1, 1, 0).load(0, 1, 0).exit();
    for (offset, fine) in [(24, true), (16, false)] {
        let programs = [("init_task", init_task.clone()), ("running", late(offset))];
        let ran = run(with_pointers(&programs, &kfuncs));
        let info = ran.engine.exit_info(ran.id);
        let msg = info.map(|info| info.msg.as_str()).unwrap_or_default();
        assert_eq!(msg.is_empty(), fine, "{msg}");
        assert!(fine || msg.contains("use after free") && msg.contains("a bpf_cpumask"), "{msg}");
    }
    // The task's reference was given back, so there is none to give back now.
    let again = Asm::new().load(1, 1, 0).kfunc(3).mov(0, 0).exit();
    let programs = [("init_task", init_task), ("running", again)];
    let kfuncs = [kfuncs[0], kfuncs[1], "bpf_task_release"];
    let ran = run(with_pointers(&programs, &kfuncs));
    let msg = &ran.engine.exit_info(ran.id).expect("it has ended").msg;
    assert!(msg.contains("no reference to the task is held"), "{msg}");
}

#[test]
fn a_cgroup_has_its_own() {
    let running = Asm::new().load(1, 1, 0).kfunc(1).copy(6, 0);
    let get = |asm: Asm, flags| asm.map(1, 2).copy(2, 6).mov(3, 0).mov(4, flags).helper(210);
    let running = get(running, 1).mov(2, 1).atomic_add(0, 0, 2).bss(1, 8).mov(2, 1);
    let running = running.atomic_add(1, 0, 2).map(1, 2).mov(2, 0).helper(211).keep(0);
    let all = [("enqueue", enqueue()), ("running", running.mov(0, 0).exit())];
    let cgroups = Map { map_type: MapType::CGRP_STORAGE, name: "cgroups".into(), ..storage(8) };
    let mut image = image_with(&all, &[], vec![storage(8), cgroups]);
    let name = "scx_bpf_task_cgroup";
    image.kfuncs.push(Kfunc { name: name.into(), symbol: name.into(), weak: false });
    let ran = run(BpfScheduler::new(image, &kernel()).expect("it has all that it needs"));
    ran.is_well();
    let elements = ran.elements("cgroups");
    assert!(matches!(elements[..], [MapElement { key: MapKey::Cgroup(1), .. }]), "{elements:?}");
    assert_eq!(counts(&elements[0]), ran.counter("second"));
    assert_eq!(ran.counter("r0"), EINVAL);
}

/// Processes that come and go, thousands of them: each with a mask in its storage, as schedulers
/// do it. Places of tasks are used again, and what was in them is given back.
#[test]
fn what_belongs_to_a_task_goes_with_it() {
    let program = Program {
        code: vec![
            Instr::Loop { count: None, end: Pc(3) },
            Instr::Spawn { what: Spawn::Process, entry: Pc(4), name: 0 },
            Instr::WaitAll,
            Instr::LoopEnd { body: Pc(1) },
            Instr::Run(Span::exactly(Nanos::from_micros(20))),
            Instr::Exit,
        ],
        names: vec!["short".into()],
        start: vec![Start::new(Pc(0), 0); 2],
        ..Program::default()
    };
    let init_task = Asm::new()
        .load(6, 1, 0)
        .map(1, 1)
        .copy(2, 6)
        .mov(3, 0)
        .mov(4, 1)
        .helper(STORAGE_GET)
        .copy(7, 0)
        .kfunc(1)
        .copy(2, 0)
        .copy(1, 7)
        .helper(XCHG)
        .keep(0)
        .bss(1, 8)
        .mov(2, 1)
        .atomic_add(1, 0, 2)
        .mov(0, 0)
        .exit();
    let programs = [("init_task", init_task)];
    let sched = with_pointers_in(storage(8), &programs, &["bpf_cpumask_create"]);
    let mut ran = attached_to(sched, 1, program);
    let mut used = Vec::new();
    for ms in [500, 1000, 2000] {
        ran.engine.run_until(Nanos::from_millis(ms));
        used.push(ran.sched.memory_used(ran.engine.scheduler_state(ran.id)));
    }
    ran.is_well();
    assert!(ran.counter("second") > 5000, "{}", ran.counter("second"));
    assert!(ran.elements("storage").len() < 20);
    assert!(used[2] < used[0] + 10_000, "{used:?}");
}

/// What user space has put into maps is there before anything runs.
#[test]
fn maps_have_what_user_space_put_in() {
    let element = |key: u32, value: u64| (key.to_le_bytes().to_vec(), value.to_le_bytes().to_vec());
    let maps = |kind| {
        let elements = vec![element(1, 7), element(0, 9)];
        vec![Map { elements, ..map("given", kind, 4, 8, 2) }]
    };
    let look = |asm: Asm, key| asm.with_key(1, key, LOOKUP).load(0, 0, 0);
    let init = look(look(Asm::new(), 0).keep(0), 1).keep(1);
    for kind in [MapType::ARRAY, MapType::HASH, MapType::LRU_HASH] {
        assert_eq!(kept(init.clone(), maps(kind))[..2], [9, 7]);
    }
    let mut full = maps(MapType::HASH);
    full[0].max_entries = 1;
    let programs = [("enqueue", enqueue())];
    let error = BpfScheduler::new(image_with(&programs, &[], full), &kernel()).expect_err("full");
    assert!(error.to_string().contains("room for what map given is to have"), "{error}");
}

/// A dump has 4 MiB of a map: of its variables those that there is room for.
#[test]
fn a_dump_has_an_end() {
    let mut image = image_with(
        &[("enqueue", enqueue())],
        &[],
        vec![map("large", MapType::ARRAY, 4, 1 << 20, 10)],
    );
    image.maps[0].value_size = 64 << 20;
    for (name, offset, size) in [("huge", 4096, 32 << 20), ("fits", 40 << 20, 4 << 10)] {
        let (name, section) = (name.into(), ".bss".into());
        image.globals.push(Global { name, section, map: 0, offset, size, ty: 0 });
    }
    let ran = run(BpfScheduler::new(image, &kernel()).expect("it has all that it needs"));
    let state = ran.engine.scheduler_state(ran.id);
    let dump = ran.sched.dump_map(state, ".bss", 1000).expect("there is such a map");
    let MapDump::Variables { variables, left_out } = dump else { panic!("{dump:?}") };
    assert_eq!(left_out, [("huge".to_owned(), 32 << 20)]);
    assert_eq!((variables.len(), variables.last().expect("there").0.as_str()), (33, "fits"));
    let dump = ran.sched.dump_map(state, "large", 1000).expect("there is such a map");
    let MapDump::Elements { elements, more } = dump else { panic!("{dump:?}") };
    assert_eq!((elements.len(), more), (3, true), "with its key an element is larger than 1 MiB");
}
