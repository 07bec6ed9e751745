//! Runs any bytes as a scheduler on the engine: what a fuzzer calls.
//!
//! [`machine::trial`](crate::machine::trial) runs instructions alone. Here they are operations and
//! what these call: all functions, helpers and kinds of maps that there are.

use std::sync::{Arc, LazyLock};

use scxlab_engine::program::{Instr, Pc, Program as Work, Span, Spawn, Start};
use scxlab_engine::{Config, Engine, Nanos, SchedId};

use super::bpf_func;
use super::{BpfScheduler, Interleave, kfunc};
use crate::abi::{Abi, Version};
use crate::btf::{Btf, Builder, Field};
use crate::image::{Function, Image, Kfunc, Map, MapType, OpsMember, Program, StructOps};
use crate::insn::{Insn, pseudo};

/// Instructions of one call of an operation, at most.
const BUDGET: u64 = 100_000;
/// How long it runs, and when it is cloned.
const TIME: Nanos = Nanos(8_000_000);
const CLONED: Nanos = Nanos(3_000_000);
/// Functions, at most.
const FUNCTIONS: usize = 64;
/// Bytes of the value of the first map, which is an array.
const VARIABLES: u32 = 512;

/// The code of what stands before each function: no instruction. In its register field is nothing; its
/// offset says which operation it is.
const BEGIN: u8 = 0xff;
const EXIT: Insn = Insn { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 };

/// The operations, in both forms. What comes behind them is called only by others.
const OPERATIONS: [[&str; 2]; 27] = [
    ["enqueue", "enqueue"],
    ["dispatch", "dispatch"],
    ["select_cpu", "select_cid"],
    ["init", "init"],
    ["init_task", "init_task"],
    ["running", "running"],
    ["stopping", "stopping"],
    ["runnable", "runnable"],
    ["quiescent", "quiescent"],
    ["enable", "enable"],
    ["disable", "disable"],
    ["exit_task", "exit_task"],
    ["exit", "exit"],
    ["dequeue", "dequeue"],
    ["tick", "tick"],
    ["yield", "yield"],
    ["set_weight", "set_weight"],
    ["set_cpumask", "set_cmask"],
    ["update_idle", "update_idle"],
    ["dump", "dump"],
    ["dump_cpu", "dump_cid"],
    ["dump_task", "dump_task"],
    ["cgroup_init", "cgroup_init"],
    ["cgroup_exit", "cgroup_exit"],
    ["cgroup_prep_move", "cgroup_prep_move"],
    ["cgroup_move", "cgroup_move"],
    ["sub_attach", "sub_attach"],
];

/// Those that may sleep.
const SLEEPABLE: [&str; 9] = [
    "init",
    "init_task",
    "exit",
    "cgroup_init",
    "cgroup_exit",
    "cgroup_prep_move",
    "sub_attach",
    "set_weight",
    "dump",
];

/// What there is for all trials.
struct Kernel {
    abi: Abi,
    kfuncs: Vec<Kfunc>,
    helpers: Vec<i32>,
    btf: Arc<Btf>,
    maps: Vec<Map>,
}

static KERNEL: LazyLock<Kernel> = LazyLock::new(Kernel::new);

impl Kernel {
    fn new() -> Self {
        let abi = Abi::new(Version::V7_2).expect("the declarations make sense");
        let here = |(name, _): (&str, _)| {
            let kfunc = Kfunc { name: name.into(), symbol: name.into(), weak: false };
            kfunc::find(name).map(|_| kfunc)
        };
        let kfuncs = abi.kfuncs().filter_map(here).collect();
        let helpers = (1..256).filter(|&n| bpf_func::is_known(n)).map(|n| n as i32).collect();
        let mut types = Builder::new();
        let long = types.int("unsigned long", 8, false);
        let int = types.int("unsigned int", 4, false);
        let lock = types.structure("bpf_spin_lock", &[Field::new("val", int)]);
        let words = types.array(long, 2);
        let timer = types.structure("bpf_timer", &[Field::new("__opaque", words)]);
        let mask = types.declare_struct("bpf_cpumask");
        let tagged = types.type_tag("kptr", mask);
        let kptr = types.ptr(tagged);
        let value = types.structure(
            "value",
            &[
                Field::new("timer", timer),
                Field::new("mask", kptr),
                Field::new("lock", lock),
                Field::new("pad", int),
                Field::new("number", long),
            ],
        );
        let btf = Arc::new(types.finish().expect("they are types"));
        let map = |name: &str, map_type, key_size, value_size, max_entries| Map {
            name: name.into(),
            map_type,
            key_size,
            value_size,
            max_entries,
            ..Map::default()
        };
        let with_fields = |map| Map { value_type: value, ..map };
        let storage = |name, map_type| {
            let map = map(name, map_type, 4, 32, 0);
            Map { flags: 1, key_type: int, value_type: long, ..map }
        };
        let maps = vec![
            map(".bss", MapType::ARRAY, 4, VARIABLES, 1),
            Map { flags: 1 << 10, ..map("arena", MapType::ARENA, 0, 0, 16) },
            with_fields(map("values", MapType::ARRAY, 4, 40, 8)),
            with_fields(map("hash", MapType::HASH, 4, 40, 8)),
            map("lru", MapType::LRU_HASH, 4, 8, 4),
            map("percpu", MapType::PERCPU_ARRAY, 4, 16, 4),
            map("percpu_hash", MapType::PERCPU_HASH, 4, 16, 4),
            storage("task", MapType::TASK_STORAGE),
            storage("cgroup", MapType::CGRP_STORAGE),
            map("queue", MapType::QUEUE, 0, 8, 4),
            map("stack", MapType::STACK, 0, 8, 4),
            map("ring", MapType::RINGBUF, 0, 0, 4096),
            map("user_ring", MapType::USER_RINGBUF, 0, 0, 4096),
        ];
        Self { abi, kfuncs, helpers, btf, maps }
    }
}

/// Takes bytes for a scheduler and runs it. It is refused, or runs, or is ended.
///
/// # Panics
/// A clone goes on in another way, or something else is wrong with this crate or the engine.
pub fn trial(bytes: &[u8]) {
    let Some(Trial { mut engine, id, sched }) = Trial::new(bytes) else { return };
    engine.run_until(CLONED);
    let mut clone = engine.clone();
    let seen = |engine: &mut Engine| {
        engine.run_until(TIME);
        engine.detach(id);
        engine.run_until(TIME + TIME);
        let state = engine.scheduler_state(id);
        let printed: Vec<_> = sched.printed(state).1.map(str::to_owned).collect();
        let maps: Vec<_> = sched.map_names().map(|map| sched.dump_map(state, map, 100)).collect();
        (
            engine.stats().events(),
            engine.exit_info(id).map(|info| format!("{info:?}")),
            printed,
            maps,
        )
    };
    assert_eq!(seen(&mut clone), seen(&mut engine));
}

/// A scheduler, attached.
struct Trial {
    engine: Engine,
    id: SchedId,
    sched: Arc<BpfScheduler>,
}

impl Trial {
    fn new(bytes: &[u8]) -> Option<Self> {
        let ([head, rest @ ..], _) = bytes.as_chunks::<8>() else { return None };
        let image = image(head, rest)?;
        let sched = BpfScheduler::new(image, &KERNEL.abi).ok()?.budgeted(BUDGET);
        let mode = [Interleave::Off, Interleave::Calls, Interleave::Instructions];
        let sched = Arc::new(sched.interleaved(mode[usize::from(head[0] % 3)]));
        let mut config = Config::new(2, Arc::new(work()));
        config.check = true;
        config.seed = head[2].into();
        let mut engine = Engine::new(config).ok()?;
        let id = engine.attach(Arc::<BpfScheduler>::clone(&sched)).ok()?;
        Some(Self { engine, id, sched })
    }
}

/// Tasks that run, sleep, fork and exit, in a cgroup.
fn work() -> Work {
    let span = |us| Span::exactly(Nanos::from_micros(us));
    let start = Start { cgroup: Some(0), ..Start::new(Pc(0), 0) };
    Work {
        code: vec![
            Instr::Spawn { what: Spawn::Thread, entry: Pc(1), name: 1 },
            Instr::Loop { count: Some(6), end: Pc(5) },
            Instr::Run(span(300)),
            Instr::Sleep(span(200)),
            Instr::LoopEnd { body: Pc(2) },
            Instr::Exit,
        ],
        names: vec!["lead".into(), "thread".into()],
        cgroups: vec!["/a/b".into()],
        start: vec![start; 3],
        ..Work::default()
    }
}

/// Makes an image of instructions. What they name is made to be there.
fn image(head: &[u8; 8], bytes: &[[u8; 8]]) -> Option<Image> {
    let kernel = &*KERNEL;
    let form = usize::from(head[1] & 1);
    let mut image = Image {
        maps: kernel.maps.clone(),
        kfuncs: kernel.kfuncs.clone(),
        btf: kernel.btf.clone(),
        ..Image::default()
    };
    let mut ops = StructOps {
        name: "ops".into(),
        type_name: ["sched_ext_ops", "sched_ext_ops_cid"][form].into(),
        data: vec![0; OPERATIONS.len() * 8],
        ..StructOps::default()
    };
    for body in bytes.split(|insn| insn[0] == BEGIN).take(FUNCTIONS) {
        let (at, start) = (image.functions.len(), image.insns.len());
        image.insns.extend(body.iter().map(|bytes| Insn::read(*bytes)));
        image.insns.push(EXIT);
        let len = image.insns.len() - start;
        // By its number, if there is none of that yet.
        let slot = OPERATIONS.get(at).map(|names| names[form]);
        let name = slot.map_or_else(|| format!("f{at}"), str::to_owned);
        image.functions.push(Function { name: name.clone(), start, len });
        // A function of nothing is no operation.
        if slot.is_none() || len == 1 {
            continue;
        }
        let (offset, size) = (at * 8, 8);
        ops.operations.push((offset, image.programs.len()));
        let sleepable = SLEEPABLE.contains(&name.as_str());
        let section = format!("struct_ops{}/{name}", if sleepable { ".s" } else { "" });
        image.programs.push(Program { function: at, section, sleepable });
        ops.members.push(OpsMember { name, offset, size, ty: 0 });
    }
    aim(&mut image);
    let flags = u64::from(u32::from_le_bytes([head[3], head[4], head[5], head[6]]));
    for (name, bytes) in [("name", b"trial\0\0\0".to_owned()), ("flags", flags.to_le_bytes())] {
        let offset = ops.data.len();
        ops.data.extend(bytes);
        ops.members.push(OpsMember { name: name.into(), offset, size: 8, ty: 0 });
    }
    image.struct_ops = vec![ops];
    image.license = "GPL".into();
    Some(image)
}

/// Lets all that instructions name by a number be there.
fn aim(image: &mut Image) {
    let kernel = &*KERNEL;
    let starts: Vec<i32> = image.functions.iter().map(|f| f.start as i32).collect();
    let among = |imm: i32, all: usize| imm.unsigned_abs() as usize % all.max(1);
    for at in 0..image.insns.len() {
        let insn = image.insns[at];
        let call = insn.code == Insn::CALL;
        let imm = insn.imm;
        image.insns[at].imm = match insn.src {
            pseudo::HELPER if call => match kernel.helpers.contains(&imm) {
                true => imm,
                false => kernel.helpers[among(imm, kernel.helpers.len())],
            },
            pseudo::KFUNC if call => among(imm, kernel.kfuncs.len()) as i32,
            // Functions by their numbers.
            pseudo::CALL if call => starts[among(imm, starts.len())] - at as i32 - 1,
            pseudo::FUNC if insn.is_wide() => starts[among(imm, starts.len())] - at as i32 - 1,
            pseudo::MAP if insn.is_wide() => among(imm, kernel.maps.len()) as i32,
            pseudo::MAP_VALUE if insn.is_wide() => {
                if let Some(next) = image.insns.get_mut(at + 1) {
                    next.imm = among(next.imm, VARIABLES as usize) as i32;
                }
                // Of those with values that have an address.
                among(imm, 2) as i32
            }
            _ => imm,
        };
    }
}

/// What a fuzzer starts from: the operations of a real scheduler, as bytes for [`trial`], and
/// what they call. Maps become ones of their kind, kernel variables 0.
pub fn seed(image: &Image) -> Vec<u8> {
    let kernel = &*KERNEL;
    let ops = image.struct_ops.first();
    let form = ops.is_some_and(|ops| ops.type_name == "sched_ext_ops_cid");
    let mut order = vec![None; OPERATIONS.len()];
    for (slot, names) in OPERATIONS.iter().enumerate() {
        let program = ops.and_then(|ops| ops.operation(names[usize::from(form)]));
        order[slot] = program.map(|program| image.programs[program].function);
    }
    for function in 0..image.functions.len() {
        if order.len() < FUNCTIONS && !order.contains(&Some(function)) {
            order.push(Some(function));
        }
    }
    let function_at = |at: usize, imm: i32| {
        let start = at as i64 + 1 + i64::from(imm);
        let callee = |place: &Option<usize>| {
            place.is_some_and(|place| image.functions[place].start as i64 == start)
        };
        order.iter().position(callee).unwrap_or(0) as i32
    };
    let kind = |imm: i32| {
        let map = usize::try_from(imm).ok().and_then(|imm| image.maps.get(imm));
        let same = |other: &Map| map.is_some_and(|map| map.map_type == other.map_type);
        kernel.maps.iter().position(same).unwrap_or(0) as i32
    };
    let flags = ops.and_then(|ops| ops.number("flags")).unwrap_or(0) as u32;
    let mut bytes = vec![0, form.into(), 1];
    bytes.extend(flags.to_le_bytes());
    bytes.push(0);
    for (place, function) in order.iter().enumerate() {
        if place > 0 {
            bytes.extend(Insn { code: BEGIN, ..Insn::default() }.write());
        }
        let Some(Function { start, len, .. }) = function.map(|f| &image.functions[f]) else {
            continue;
        };
        for at in *start..start + len {
            let mut insn = image.insns[at];
            let call = insn.code == Insn::CALL;
            match insn.src {
                pseudo::CALL if call => insn.imm = function_at(at, insn.imm),
                pseudo::FUNC if insn.is_wide() => insn.imm = function_at(at, insn.imm),
                pseudo::KFUNC if call => {
                    let name = image.kfuncs.get(insn.imm as usize).map(|kfunc| &kfunc.name);
                    let same = |kfunc: &Kfunc| Some(&kfunc.name) == name;
                    insn.imm = kernel.kfuncs.iter().position(same).unwrap_or(0) as i32;
                }
                pseudo::KSYM if insn.is_wide() => (insn.src, insn.imm) = (0, 0),
                pseudo::MAP | pseudo::MAP_VALUE if insn.is_wide() => insn.imm = kind(insn.imm),
                _ => {}
            }
            bytes.extend(insn.write());
        }
    }
    bytes
}
