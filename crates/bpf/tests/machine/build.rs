//! Instructions, and machines that run them.

use scxlab_bpf::image::{Function, Kfunc, Line, Map, MapType};
use scxlab_bpf::machine::{
    Binding, Code, DecodeError, Kernel, Memory, NoKernel, Region, RegionId, Stop, Thread, run,
};
use scxlab_bpf::{Image, Insn};

pub use scxlab_bpf::insn::class::*;
pub use scxlab_bpf::insn::mode::*;

pub const X: u8 = 8;
pub const W: u8 = 0x00;
pub const H: u8 = 0x08;
pub const B: u8 = 0x10;
pub const DW: u8 = 0x18;

pub const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn { code, dst, src, off, imm }
}

/// `r0` is the result.
pub const EXIT: Insn = insn(0x95, 0, 0, 0, 0);

/// `dst = imm`.
pub const fn mov(dst: u8, imm: i32) -> Insn {
    insn(ALU64 | 0xb0, dst, 0, 0, imm)
}

/// `dst = src`.
pub const fn movx(dst: u8, src: u8) -> Insn {
    insn(ALU64 | 0xb0 | X, dst, src, 0, 0)
}

/// `dst += imm`.
pub const fn add(dst: u8, imm: i32) -> Insn {
    insn(ALU64, dst, 0, 0, imm)
}

/// `dst = *(size *)(src + off)`.
pub const fn ldx(size: u8, dst: u8, src: u8, off: i16) -> Insn {
    insn(LDX | MEM | size, dst, src, off, 0)
}

/// `*(size *)(dst + off) = src`.
pub const fn stx(size: u8, dst: u8, off: i16, src: u8) -> Insn {
    insn(STX | MEM | size, dst, src, off, 0)
}

/// `*(size *)(dst + off) = imm`.
pub const fn st(size: u8, dst: u8, off: i16, imm: i32) -> Insn {
    insn(ST | MEM | size, dst, 0, off, imm)
}

/// `dst = imm`, of 64 bits.
pub const fn imm64(dst: u8, imm: u64) -> [Insn; 2] {
    [insn(LD | 0x18, dst, 0, 0, imm as i32), insn(0, 0, 0, 0, (imm >> 32) as i32)]
}

/// A 64-bit load of something that the image names.
pub const fn pseudo(dst: u8, kind: u8, imm: i32, next: i32) -> [Insn; 2] {
    [insn(LD | 0x18, dst, kind, 0, imm), insn(0, 0, 0, 0, next)]
}

/// A call of another function, so far away.
pub const fn call(by: i32) -> Insn {
    insn(0x85, 0, 1, 0, by)
}

pub const fn call_helper(number: i32) -> Insn {
    insn(0x85, 0, 0, 0, number)
}

pub const fn call_kfunc(index: i32) -> Insn {
    insn(0x85, 0, 2, 0, index)
}

/// An image of functions, named `f0`, `f1` and so on. Instruction `i` of the image is line `i + 1`
/// of its source.
pub fn image(functions: &[&[Insn]]) -> Image {
    let mut image = Image::default();
    for (i, insns) in functions.iter().enumerate() {
        let start = image.insns.len();
        image.functions.push(Function { name: format!("f{i}"), start, len: insns.len() });
        image.insns.extend_from_slice(insns);
    }
    image.lines = (0..image.insns.len())
        .map(|insn| Line {
            insn,
            file: "test.bpf.c".into(),
            line: insn as u32 + 1,
            column: 2,
            text: format!("line {};", insn + 1),
        })
        .collect();
    image.kfuncs = ["a", "b"]
        .map(|name| Kfunc { name: name.into(), symbol: name.into(), weak: false })
        .to_vec();
    image
}

pub fn map(name: &str, map_type: u32, value_size: u32, max_entries: u32) -> Map {
    let map_type = MapType(map_type);
    Map { name: name.into(), map_type, key_size: 4, value_size, max_entries, ..Map::default() }
}

pub fn refusal(functions: &[&[Insn]]) -> DecodeError {
    Code::decode(&image(functions), &Binding::default()).expect_err("it is refused")
}

/// A program, its memory and its thread. r1 is the address of `bytes`, 64 bytes that are 0 to 63.
#[derive(Clone, Debug)]
pub struct Machine {
    pub code: Code,
    pub memory: Memory,
    pub thread: Thread,
    pub bytes: RegionId,
}

impl Machine {
    pub fn new(functions: &[&[Insn]]) -> Self {
        Self::of(&image(functions), &Binding::default(), Memory::new(1 << 24))
    }

    pub fn of(image: &Image, binding: &Binding, mut memory: Memory) -> Self {
        let code = Code::decode(image, binding).expect("they are instructions");
        let bytes = memory.alloc(Region::new("the bytes"), (0..64).collect()).expect("room");
        let mut thread = Thread::new(&mut memory, "the test").expect("there is room");
        let args = [bytes.base(), 0, 0, 0, 0];
        thread.start(&mut memory, &code, 0, args).expect("the thread is new");
        Self { code, memory, thread, bytes }
    }

    pub fn run(&mut self) -> Stop {
        self.run_with(&mut NoKernel)
    }

    pub fn run_with(&mut self, kernel: &mut impl Kernel) -> Stop {
        self.run_for(1_000_000_000, kernel)
    }

    pub fn run_for(&mut self, mut fuel: u64, kernel: &mut impl Kernel) -> Stop {
        run(&mut self.thread, &self.code, &mut self.memory, kernel, &mut fuel)
    }

    pub fn exit(&mut self) -> u64 {
        match self.run() {
            Stop::Exit(result) => result,
            stop => panic!("no exit: {stop:?}"),
        }
    }

    pub fn fault(&mut self) -> String {
        match self.run() {
            Stop::Fault(fault) => fault.to_string(),
            stop => panic!("no fault: {stop:?}"),
        }
    }

    pub fn read(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read(&mut NoKernel, addr, &mut bytes).expect("it is memory");
        bytes
    }
}

/// The result of one function, of 64-bit registers r1 and r2.
pub fn result(insns: &[Insn], r1: u64, r2: u64) -> u64 {
    let mut all = [imm64(1, r1), imm64(2, r2)].concat();
    all.extend_from_slice(insns);
    all.push(EXIT);
    Machine::new(&[&all]).exit()
}
