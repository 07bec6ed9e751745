//! A relocated object: what a loader gives the kernel.

use crate::Insn;

/// All that an object brings, relocated against one kernel.
///
/// The instructions of all its functions stand in one list; calls and function addresses among
/// them are relative, and what belongs to a kernel (maps, kernel functions, kernel variables) is
/// an index into a table here: see [`crate::insn::pseudo`].
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// The instructions of all functions, one after the other.
    pub insns: Vec<Insn>,
    /// All functions, by their place: programs, and the subprograms and callbacks that these use.
    pub functions: Vec<Function>,
    /// What a kernel can be asked to run or attach, in the object's order.
    pub programs: Vec<Program>,
    /// Maps, with the object's data sections among them.
    pub maps: Vec<Map>,
    /// Kernel functions that are called, or tested for.
    pub kfuncs: Vec<Kfunc>,
    /// Kernel variables whose addresses are taken.
    pub ksyms: Vec<Ksym>,
    /// The structures of operations, in the object's order.
    pub struct_ops: Vec<StructOps>,
    /// Where each instruction comes from, by [`Line::insn`]; empty without `.BTF.ext`.
    pub lines: Vec<Line>,
    /// `GPL` or another; empty if there is none.
    pub license: String,
}

/// One function: where its instructions are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its symbol.
    pub name: String,
    /// Its first instruction.
    pub start: usize,
    /// How many it has.
    pub len: usize,
}

/// A function that the kernel calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its function in [`Image::functions`].
    pub function: usize,
    /// Its section, which says what it is: `struct_ops/NAME`, `syscall`, `tp_btf/sched_switch`.
    pub section: String,
    /// Whether it may sleep: `.s` in the section's name.
    pub sleepable: bool,
}

/// A map's kind: `enum bpf_map_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MapType(pub u32);

/// A map as its definition has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// Its symbol, or its section's name for a data section.
    pub name: String,
    /// Its kind.
    pub map_type: MapType,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// The number of entries; pages for an arena.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
    /// `map_extra`: the user's address of an arena, and more.
    pub extra: u64,
    /// The type of a key in the object's BTF, or 0.
    pub key_type: u32,
    /// The type of a value in the object's BTF, or 0.
    pub value_type: u32,
    /// The map inside a map of maps, as an index into [`Image::maps`].
    pub inner: Option<usize>,
    /// The maps or programs that it starts with, by key.
    pub entries: Vec<Option<usize>>,
    /// What its value, or an arena's memory, starts with; all zero where it ends.
    pub initial: Vec<u8>,
    /// No program writes it: `.rodata`, and `BPF_F_RDONLY_PROG`.
    pub read_only: bool,
}

/// A kernel function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kfunc {
    /// Its name without the flavour (`___suffix`).
    pub name: String,
    /// The name as the object has it.
    pub symbol: String,
    /// Declared `__weak`: without it the object still loads, and its address is 0.
    pub weak: bool,
}

/// A kernel variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ksym {
    /// Its name without the flavour.
    pub name: String,
    /// Declared `__weak`: without it the object still loads, and its address is 0.
    pub weak: bool,
}

/// A structure of operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StructOps {
    /// Its symbol.
    pub name: String,
    /// Its type: `sched_ext_ops` or `sched_ext_ops_cid`, without a flavour.
    pub type_name: String,
    /// Its type in the object's BTF.
    pub type_id: u32,
    /// Its bytes.
    pub data: Vec<u8>,
    /// The members that are functions: offset in [`StructOps::data`], program in
    /// [`Image::programs`].
    pub operations: Vec<(usize, usize)>,
    /// Marked `.struct_ops.link`: attached by a link, as all of libbpf's skeletons do.
    pub link: bool,
}

/// Where instructions come from: from [`Line::insn`] on, until the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The first instruction that it is about, in [`Image::insns`].
    pub insn: usize,
    /// The source file.
    pub file: String,
    /// The line in it, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// The text of the line.
    pub text: String,
}
