//! Runs any bytes as a program: what a fuzzer calls.

use super::{
    Binding, Code, Kernel, MapAddress, Memory, NoKernel, Part, Region, RegionId, Stop, Thread, run,
};
use crate::Insn;
use crate::image::{Function, Image, Kfunc, Map, MapType};

/// Instructions that a trial runs at most.
pub const FUEL: u64 = 20_000;
/// Bytes that its memory takes at most.
pub const MEMORY: u64 = 4 << 20;

/// `jmp exit`.
const EXIT: Insn = Insn { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 };
const MAP_TYPE_ARRAY: MapType = MapType(2);
const MAP_TYPE_ARENA: MapType = MapType(33);
const VALUE_SIZE: u32 = 256;
const VALUES: u32 = 4;
const ARENA_USER: u64 = 0x10 << 40;

/// Takes bytes for instructions and runs them from the first one. They are refused, or end, or
/// fault, or use up their fuel, which is [`FUEL`].
pub fn trial(bytes: &[u8]) {
    if let Some(mut trial) = Trial::new(bytes) {
        trial.run(FUEL, &mut NoKernel);
    }
}

/// A program of arbitrary instructions, and its machine.
#[derive(Clone, Debug)]
pub struct Trial {
    code: Code,
    memory: Memory,
    thread: Thread,
    map: RegionId,
    calls: u64,
}

impl Trial {
    /// Makes instructions of `bytes`, 8 for each, with an exit at the end, and cuts them at each
    /// exit into functions. There are a map (0), an arena (1) and a kernel function (0). The first
    /// function starts with the map's value, the arena, the map, a function and 3 as arguments.
    /// Nothing if an instruction is refused.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut insns: Vec<Insn> =
            bytes.as_chunks::<8>().0.iter().map(|bytes| Insn::read(*bytes)).collect();
        insns.push(EXIT);
        let mut functions = Vec::new();
        let mut start = 0;
        for end in (0..insns.len()).filter(|i| insns[*i].code == EXIT.code) {
            let name = format!("f{}", functions.len());
            functions.push(Function { name, start, len: end + 1 - start });
            start = end + 1;
        }

        let mut memory = Memory::new(MEMORY);
        let values = Region { part: Part::Values(VALUE_SIZE), ..Region::new("map `values`") };
        let map = memory.alloc_zeroed(values, (VALUE_SIZE * VALUES).into()).ok()?;
        let object = memory.alloc_foreign(Region::new("map `values` itself"), 8).ok()?;
        let arena = memory.alloc_arena(Region::new("arena `arena`"), ARENA_USER).ok()?;
        memory.populate(arena, 0, 2).ok()?;
        let binding = Binding {
            maps: vec![
                MapAddress { map: object.base(), value: map.base(), arena: 0 },
                MapAddress { map: object.base(), value: ARENA_USER, arena: arena.base() },
            ],
            ksyms: Vec::new(),
        };
        let image = Image {
            insns,
            functions,
            maps: vec![
                definition("values", MAP_TYPE_ARRAY, VALUE_SIZE, VALUES),
                definition("arena", MAP_TYPE_ARENA, 0, 4),
            ],
            kfuncs: vec![Kfunc { name: "any".into(), symbol: "any".into(), weak: false }],
            ..Image::default()
        };
        let code = Code::decode(&image, &binding).ok()?;
        let mut thread = Thread::new(&mut memory, "the trial").ok()?;
        let last = code.functions().len() - 1;
        let args = [map.base(), ARENA_USER, object.base(), code.address_of(last)?, 3];
        thread.start(&mut memory, &code, 0, args).ok()?;
        Some(Self { code, memory, thread, map, calls: 0 })
    }

    /// Runs it, for at most `fuel` instructions. A call of the kernel returns a number made of its
    /// arguments; every second one that is given a function calls that first.
    pub fn run(&mut self, mut fuel: u64, kernel: &mut impl Kernel) -> Stop {
        loop {
            let (thread, memory) = (&mut self.thread, &mut self.memory);
            match run(thread, &self.code, memory, kernel, &mut fuel) {
                Stop::Call(_, args) => {
                    self.calls += 1;
                    let callback = args.into_iter().find(|a| self.code.function_at(*a).is_some());
                    let calls = callback
                        .filter(|_| self.calls.is_multiple_of(2))
                        .is_some_and(|f| thread.call(memory, &self.code, f, args).is_ok());
                    if !calls {
                        thread.resume(args.into_iter().fold(self.calls, u64::wrapping_add));
                    }
                }
                Stop::Returned(value) => {
                    thread.resume(value);
                }
                stop => return stop,
            }
        }
    }

    /// Its thread.
    pub fn thread(&self) -> &Thread {
        &self.thread
    }

    /// All bytes of its map.
    pub fn values(&self) -> Vec<u8> {
        let mut bytes = vec![0; (VALUE_SIZE * VALUES) as usize];
        match self.memory.read(&mut NoKernel, self.map.base(), &mut bytes) {
            Ok(()) => bytes,
            Err(_) => Vec::new(),
        }
    }
}

fn definition(name: &str, map_type: MapType, value_size: u32, max_entries: u32) -> Map {
    Map { name: name.into(), map_type, key_size: 4, value_size, max_entries, ..Map::default() }
}
