//! Programs on our own machine.

use std::collections::BTreeSet;

use scxlab_bpf::Image;
use scxlab_bpf::image::{Map, MapType};
use scxlab_bpf::machine::{
    ArenaFault, Binding, Callee, Code, Kernel, MapAddress, Memory, NoKernel, Region, RegionId,
    Stop, Thread, run,
};
use scxlab_protocol::{Bytes, TestData};

use super::code;
use super::generate::{ARENA_AT, CTX, Trial, VALUE};

/// `bpf_map_lookup_elem()`.
const LOOKUP: Callee = Callee::Helper(1);
/// More than any of the programs needs.
const FUEL: u64 = 1 << 20;

/// What is not in the program's own memory.
struct Outside(ArenaFault);

impl Kernel for Outside {
    fn load(&mut self, _: RegionId, _: u32, _: usize) -> Result<u64, String> {
        Err("no program reads what a map is made of".into())
    }

    fn store(&mut self, _: RegionId, _: u32, _: usize, _: u64) -> Result<(), String> {
        Err("no program writes what a map is made of".into())
    }

    fn arena_fault(&mut self, _: u64, _: bool) -> ArenaFault {
        self.0
    }

    fn keeps_r0(&mut self) -> bool {
        self.0 == ArenaFault::SkipAtomics
    }
}

/// A machine that runs a program once.
struct Machine {
    memory: Memory,
    code: Code,
    ctx: RegionId,
    value: RegionId,
    array: u64,
    arena: RegionId,
}

impl Machine {
    fn new(trial: &Trial, input: &TestData) -> Self {
        let mut memory = Memory::new(1 << 22);
        let region = |name: &str| Region::new(name);
        let ctx = memory.alloc(region("context"), input.ctx.0.clone()).expect("room");
        let value = memory.alloc(region("value"), input.value.0.clone()).expect("room");
        let array = memory.alloc_foreign(region("array"), 8).expect("room").base();
        let arena = memory.alloc_arena(region("arena"), ARENA_AT).expect("room");
        let at = ARENA_AT as u32;
        memory.populate(arena, (at / 4096) as usize, 1).expect("room");
        let first = arena.base() + u64::from(at);
        memory.write(&mut NoKernel, first, &input.arena.0).expect("it is there");
        let maps = vec![
            MapAddress { map: array, value: value.base(), arena: 0 },
            MapAddress { map: 0, value: ARENA_AT, arena: arena.base() },
        ];
        let one = Map { key_size: 4, max_entries: 1, ..Map::default() };
        let image = Image {
            insns: trial.insns.clone(),
            functions: trial.functions.clone(),
            maps: vec![
                Map { map_type: MapType::ARRAY, value_size: VALUE as u32, ..one.clone() },
                Map { map_type: MapType::ARENA, max_entries: 16, ..one },
            ],
            ..Image::default()
        };
        let binding = Binding { maps, ksyms: Vec::new() };
        let code = Code::decode(&image, &binding).expect("it is a program");
        Self { memory, code, ctx, value, array, arena }
    }

    fn read(&self, addr: u64, len: usize) -> Result<Bytes, String> {
        let mut bytes = vec![0; len];
        let read = self.memory.read(&mut NoKernel, addr, &mut bytes);
        read.map(|()| Bytes(bytes)).map_err(|denied| format!("{addr:#x}: {denied:?}"))
    }

    fn lookup(&self, args: [u64; 5]) -> Result<u64, String> {
        if args[0] != self.array {
            return Err(format!("a lookup in what is no map: {:#x}", args[0]));
        }
        let first = self.read(args[1], 4)?.0 == [0; 4];
        Ok(if first { self.value.base() } else { 0 })
    }

    /// What kind of instruction comes next, and where its memory is.
    fn kind(&self, trial: &Trial, thread: &Thread) -> Option<String> {
        let insn = trial.insns[thread.at()?];
        let name = code::name(insn);
        let Some(base) = code::base(insn) else { return Some(name) };
        let addr = thread.registers()[usize::from(base)].wrapping_add_signed(insn.off.into());
        let place = match RegionId::of(addr)? {
            region if region == self.value => "value",
            region if region == self.arena => "arena",
            region if region == self.ctx => "context",
            _ => "frame",
        };
        Some(format!("{name} in {place}"))
    }
}

/// Runs a program with one input, as on a kernel with such holes in arenas: what it returns, and what
/// there is then. Each kind of instruction that is executed goes into `seen`.
///
/// # Errors
/// It does not end by itself: why.
pub fn result(
    trial: &Trial,
    input: &TestData,
    holes: ArenaFault,
    seen: &mut BTreeSet<String>,
) -> Result<(u32, TestData), String> {
    let mut machine = Machine::new(trial, input);
    let mut thread = Thread::new(&mut machine.memory, "the test").expect("room");
    let args = [machine.ctx.base(), 0, 0, 0, 0];
    thread.start(&mut machine.memory, &machine.code, 0, args).expect("it is idle");
    for _ in 0..FUEL {
        let at = thread.at();
        let kind = machine.kind(trial, &thread);
        let stop =
            run(&mut thread, &machine.code, &mut machine.memory, &mut Outside(holes), &mut 1);
        seen.extend(kind);
        match stop {
            Stop::OutOfFuel => {}
            Stop::Call(LOOKUP, args) => {
                let result = machine.lookup(args)?;
                thread.resume(result);
            }
            Stop::Exit(result) => {
                let first = machine.arena.base() + u64::from(ARENA_AT as u32);
                let data = TestData {
                    ctx: machine.read(machine.ctx.base(), CTX)?,
                    value: machine.read(machine.value.base(), VALUE)?,
                    arena: machine.read(first, input.arena.0.len())?,
                };
                return Ok((result as u32, data));
            }
            stop => return Err(format!("at instruction {at:?}: {stop:?}")),
        }
    }
    Err("it does not end".into())
}
