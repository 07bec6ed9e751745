//! Programs in the form that is run.
//!
//! One [`Op`] for each instruction of the image, at the same index, so that a place in one is a
//! place in the other. All that can be known before is in it: jumps name where they go, immediates
//! have their 64 bits, addresses are there.

use crate::image::{Function, Line, Map};

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Op {
    pub kind: Kind,
    pub dst: u8,
    pub src: u8,
    /// A load's or store's offset; where a jump or call goes.
    pub off: i32,
    /// The immediate; the function that is called.
    pub imm: i64,
}

impl Op {
    /// What is in no function, and never reached.
    pub(super) const HOLE: Self = Self { kind: Kind::Hole, dst: 0, src: 0, off: 0, imm: 0 };
    /// The second half of a 64-bit load: nothing is left to do.
    pub(super) const SECOND: Self = Self { kind: Kind::Second, ..Self::HOLE };
}

/// What an operation does. `K` has an immediate, `X` a register as its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[rustfmt::skip]
pub(super) enum Kind {
    Add64K, Add64X, Add32K, Add32X,
    Sub64K, Sub64X, Sub32K, Sub32X,
    Mul64K, Mul64X, Mul32K, Mul32X,
    Div64K, Div64X, Div32K, Div32X,
    Sdiv64K, Sdiv64X, Sdiv32K, Sdiv32X,
    Mod64K, Mod64X, Mod32K, Mod32X,
    Smod64K, Smod64X, Smod32K, Smod32X,
    Or64K, Or64X, Or32K, Or32X,
    And64K, And64X, And32K, And32X,
    Xor64K, Xor64X, Xor32K, Xor32X,
    Lsh64K, Lsh64X, Lsh32K, Lsh32X,
    Rsh64K, Rsh64X, Rsh32K, Rsh32X,
    Arsh64K, Arsh64X, Arsh32K, Arsh32X,
    Mov64K, Mov64X, Mov32K, Mov32X,
    Neg64, Neg32,
    /// Sign-extending moves: from, to.
    Movs8To64, Movs16To64, Movs32To64, Movs8To32, Movs16To32,
    /// To little endian: what is above is cleared.
    Le16, Le32, Le64,
    /// To big endian, and without a condition.
    Swap16, Swap32, Swap64,
    /// Casts of an arena's pointers.
    CastKernel, CastUser,
    /// A 64-bit immediate, in two instructions.
    Imm64, Second,
    Load8, Load16, Load32, Load64,
    Loads8, Loads16, Loads32,
    StoreK8, StoreK16, StoreK32, StoreK64,
    StoreX8, StoreX16, StoreX32, StoreX64,
    /// Read, change, write; what, is in `imm`.
    Atomic32, Atomic64,
    Ja, MayGoto,
    /// To the address in a register.
    GotoX,
    Jeq64K, Jeq64X, Jeq32K, Jeq32X,
    Jne64K, Jne64X, Jne32K, Jne32X,
    Jgt64K, Jgt64X, Jgt32K, Jgt32X,
    Jge64K, Jge64X, Jge32K, Jge32X,
    Jlt64K, Jlt64X, Jlt32K, Jlt32X,
    Jle64K, Jle64X, Jle32K, Jle32X,
    Jset64K, Jset64X, Jset32K, Jset32X,
    Jsgt64K, Jsgt64X, Jsgt32K, Jsgt32X,
    Jsge64K, Jsge64X, Jsge32K, Jsge32X,
    Jslt64K, Jslt64X, Jslt32K, Jslt32X,
    Jsle64K, Jsle64X, Jsle32K, Jsle32X,
    CallHelper, CallKfunc, CallLocal,
    Exit,
    Hole,
}

/// What atomic operations do (`BPF_ATOMIC`): their immediates.
pub(super) mod atomic {
    pub const ADD: i64 = 0x00;
    pub const OR: i64 = 0x40;
    pub const AND: i64 = 0x50;
    pub const XOR: i64 = 0xa0;
    pub const FETCH: i64 = 0x01;
    pub const XCHG: i64 = 0xe0 | FETCH;
    pub const CMPXCHG: i64 = 0xf0 | FETCH;
    pub const LOAD_ACQ: i64 = 0x100;
    pub const STORE_REL: i64 = 0x110;
}

/// Something of the kernel that a program calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Callee {
    /// A helper by its number (`BPF_FUNC_*`).
    Helper(u32),
    /// A kernel function by its place in [`Image::kfuncs`](crate::Image::kfuncs).
    Kfunc(usize),
}

/// The arena of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arena {
    /// The address of its first byte in the kernel.
    pub kernel: u64,
    /// The upper half of its addresses in user space.
    pub user: u64,
}

/// The programs of an image, decoded. Never changes; made by [`Code::decode`].
#[derive(Clone, Debug)]
pub struct Code {
    pub(super) ops: Vec<Op>,
    pub(super) functions: Vec<Function>,
    /// Indices of functions, by their first instruction.
    pub(super) by_start: Vec<usize>,
    pub(super) lines: Vec<Line>,
    /// Where jump tables point to, in order.
    pub(super) targets: Vec<u32>,
    pub(super) arena: Option<Arena>,
}

impl Code {
    /// All functions, as the image has them.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// The address of a function, as a program sees it.
    pub fn address_of(&self, function: usize) -> Option<u64> {
        Some(super::address::of_insn(self.functions.get(function)?.start))
    }

    /// The function at an address.
    pub fn function_at(&self, addr: u64) -> Option<usize> {
        let insn = super::address::to_insn(addr)?;
        self.function_of(insn).filter(|function| self.functions[*function].start == insn)
    }

    /// The function that an instruction is in.
    pub fn function_of(&self, insn: usize) -> Option<usize> {
        let next = self.by_start.partition_point(|f| self.functions[*f].start <= insn);
        let function = self.by_start[next.checked_sub(1)?];
        let Function { start, len, .. } = self.functions[function];
        (insn < start + len).then_some(function)
    }

    /// The source line of an instruction.
    pub fn line_of(&self, insn: usize) -> Option<&Line> {
        let start = self.functions[self.function_of(insn)?].start;
        let next = self.lines.partition_point(|line| line.insn <= insn);
        self.lines.get(next.checked_sub(1)?).filter(|line| line.insn >= start)
    }

    /// All calls of the kernel, with the instruction that each is at.
    pub fn calls(&self) -> impl Iterator<Item = (usize, Callee)> {
        self.ops.iter().enumerate().filter_map(|(insn, op)| Some((insn, op.callee()?)))
    }

    /// The bytes that a jump table has in memory, made of what its map starts with
    /// ([`Map::entries`]): 8 for the address of each instruction.
    pub fn jump_table(map: &Map) -> Vec<u8> {
        let addr = |entry: &Option<usize>| entry.map_or(0, super::address::of_insn);
        map.entries.iter().flat_map(|entry| addr(entry).to_le_bytes()).collect()
    }
}

impl Op {
    /// What of the kernel it calls.
    pub(super) fn callee(&self) -> Option<Callee> {
        match self.kind {
            Kind::CallHelper => Some(Callee::Helper(self.imm as u32)),
            Kind::CallKfunc => Some(Callee::Kfunc(self.imm as usize)),
            _ => None,
        }
    }
}
