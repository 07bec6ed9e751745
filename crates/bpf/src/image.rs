//! A relocated object: what a loader gives the kernel.

use std::sync::Arc;

use crate::Insn;
use crate::btf::{Btf, TypeId};

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
    /// The instructions that must not be reached, in order: see [`Poison`].
    pub poison: Vec<Poison>,
    /// The object's variables, and where they are.
    pub globals: Vec<Global>,
    /// The object's types.
    pub btf: Arc<Btf>,
    /// What a user may want to know: a program that is left out, a map that is not pinned.
    pub notes: Vec<String>,
    /// What it needs that its target lacks, which stands in for a kernel that may have it
    /// ([`Target::stands_in`](crate::object::Target::stands_in)). Empty, or it cannot run.
    pub lacking: Vec<String>,
    /// `GPL` or another; empty if there is none.
    pub license: String,
}

/// An instruction that this kernel lacks something for.
///
/// In its place is a call of a helper that no kernel has, as libbpf does it
/// (`bpf_core_poison_insn()`): [`Poison::CORE`], or [`Poison::KFUNC`] and more. That is an error only
/// where it is reached; programs are written so that it is not. Both halves of a 64-bit load are
/// replaced, and each has its entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Poison {
    /// The instruction, in [`Image::insns`].
    pub insn: usize,
    /// What this kernel lacks, in libbpf's words.
    pub text: String,
}

impl Poison {
    /// The helper that is called instead of using a type, a member or an enumerator that is not there.
    pub const CORE: i32 = 0xbad_2310;
    /// The first of the helpers that are called instead of weak kernel functions that are not there.
    pub const KFUNC: i32 = 2_002_000_000;
}

/// A variable of the object's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Global {
    /// Its name; `function.variable` for one of a function.
    pub name: String,
    /// Its section: `.rodata`, `.bss`, `.addr_space.1`.
    pub section: String,
    /// The map that it is in, in [`Image::maps`].
    pub map: usize,
    /// Bytes from the start of the map's value, or of the arena.
    pub offset: u64,
    /// Bytes.
    pub size: u32,
    /// Its type in [`Image::btf`].
    pub ty: TypeId,
}

/// One function: where its instructions are.
///
/// Its type is that of the function of its name in [`Image::btf`]; so it is with a [`Kfunc`] and its
/// symbol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Function {
    /// Its symbol.
    pub name: String,
    /// Its first instruction.
    pub start: usize,
    /// How many it has.
    pub len: usize,
}

/// A function that the kernel calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

impl MapType {
    /// `BPF_MAP_TYPE_HASH`.
    pub const HASH: Self = Self(1);
    /// `BPF_MAP_TYPE_ARRAY`.
    pub const ARRAY: Self = Self(2);
    /// `BPF_MAP_TYPE_PROG_ARRAY`.
    pub const PROG_ARRAY: Self = Self(3);
    /// `BPF_MAP_TYPE_PERF_EVENT_ARRAY`.
    pub const PERF_EVENT_ARRAY: Self = Self(4);
    /// `BPF_MAP_TYPE_PERCPU_HASH`.
    pub const PERCPU_HASH: Self = Self(5);
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`.
    pub const PERCPU_ARRAY: Self = Self(6);
    /// `BPF_MAP_TYPE_LRU_HASH`.
    pub const LRU_HASH: Self = Self(9);
    /// `BPF_MAP_TYPE_LRU_PERCPU_HASH`.
    pub const LRU_PERCPU_HASH: Self = Self(10);
    /// `BPF_MAP_TYPE_ARRAY_OF_MAPS`.
    pub const ARRAY_OF_MAPS: Self = Self(12);
    /// `BPF_MAP_TYPE_HASH_OF_MAPS`.
    pub const HASH_OF_MAPS: Self = Self(13);
    /// `BPF_MAP_TYPE_QUEUE`.
    pub const QUEUE: Self = Self(22);
    /// `BPF_MAP_TYPE_STACK`.
    pub const STACK: Self = Self(23);
    /// `BPF_MAP_TYPE_RINGBUF`.
    pub const RINGBUF: Self = Self(27);
    /// `BPF_MAP_TYPE_TASK_STORAGE`.
    pub const TASK_STORAGE: Self = Self(29);
    /// `BPF_MAP_TYPE_USER_RINGBUF`.
    pub const USER_RINGBUF: Self = Self(31);
    /// `BPF_MAP_TYPE_CGRP_STORAGE`.
    pub const CGRP_STORAGE: Self = Self(32);
    /// `BPF_MAP_TYPE_ARENA`.
    pub const ARENA: Self = Self(33);
    /// `BPF_MAP_TYPE_INSN_ARRAY`: a jump table.
    pub const INSN_ARRAY: Self = Self(34);
}

/// A map as its definition has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// Its symbol, or its section's name for a data section, `.kconfig` and `.jumptables`.
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
    /// The type of a key in [`Image::btf`], or 0.
    pub key_type: u32,
    /// The type of a value in [`Image::btf`], or 0.
    pub value_type: u32,
    /// What maps inside a map of maps are like, as an index into [`Image::maps`]: a map there that is
    /// named `MAP.inner`, and that nothing else refers to.
    pub inner: Option<usize>,
    /// What it starts with, by key: maps ([`Image::maps`]) of a map of maps, programs
    /// ([`Image::programs`]) of a program array, instructions ([`Image::insns`]) of a jump table.
    pub entries: Vec<Option<usize>>,
    /// What user space puts into it before anything runs: keys and values.
    pub elements: Vec<(Vec<u8>, Vec<u8>)>,
    /// What its value, or an arena's memory from [`Map::initial_at`] on, starts with; all zero where
    /// it ends. Of an arena it is all that the object's variables take, in whole pages or less.
    pub initial: Vec<u8>,
    /// Where in an arena [`Map::initial`] begins: libbpf puts variables at its end, on kernels that
    /// let it (from 7.0 on), and else at its start. 0 for other maps.
    pub initial_at: u64,
    /// No program writes it: `.rodata`, and `BPF_F_RDONLY_PROG`.
    pub read_only: bool,
}

/// A kernel function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kfunc {
    /// Its name without the flavour (`___suffix`).
    pub name: String,
    /// The name as the object has it.
    pub symbol: String,
    /// Declared `__weak`. It is here, so this kernel has it: without it its address would be 0, and a
    /// call would be [`Poison`].
    pub weak: bool,
}

/// A kernel variable, or a kernel function whose address is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ksym {
    /// Its name, without the flavour if it is a function.
    pub name: String,
    /// Declared `__weak`. It is here, so this kernel has it: without it its address would be 0.
    pub weak: bool,
    /// A function, which is taken the address of to see whether it is there.
    pub function: bool,
    /// Its type in [`Image::btf`]; 0 if it is declared as `void`.
    pub ty: TypeId,
}

/// A structure of operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StructOps {
    /// Its symbol.
    pub name: String,
    /// Its type: `sched_ext_ops` or `sched_ext_ops_cid`, without a flavour.
    pub type_name: String,
    /// Its type in [`Image::btf`].
    pub type_id: u32,
    /// Its bytes, laid out as in the object. Those of operations are 0.
    pub data: Vec<u8>,
    /// Its members, in order.
    pub members: Vec<OpsMember>,
    /// The members that are functions: offset in [`StructOps::data`], program in
    /// [`Image::programs`].
    pub operations: Vec<(usize, usize)>,
    /// Marked `.struct_ops.link`: attached by a link, as all of libbpf's skeletons do.
    pub link: bool,
}

/// A member of a structure of operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpsMember {
    /// Its name: `select_cpu`, `timeout_ms`.
    pub name: String,
    /// Where it is in [`StructOps::data`].
    pub offset: usize,
    /// Bytes.
    pub size: usize,
    /// Its type in [`Image::btf`].
    pub ty: TypeId,
}

impl StructOps {
    fn member(&self, name: &str) -> Option<&OpsMember> {
        self.members.iter().find(|member| member.name == name)
    }

    /// The program for an operation, in [`Image::programs`]; nothing if it is not set.
    pub fn operation(&self, name: &str) -> Option<usize> {
        let offset = self.member(name)?.offset;
        self.operations.iter().find(|&&(at, _)| at == offset).map(|&(_, program)| program)
    }

    /// The bytes of a member; nothing if there is none of this name.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        let member = self.member(name)?;
        self.data.get(member.offset..member.offset + member.size)
    }

    /// A member of up to 8 bytes as a number without a sign: `flags`, `timeout_ms`.
    pub fn number(&self, name: &str) -> Option<u64> {
        let bytes = self.bytes(name).filter(|bytes| bytes.len() <= 8)?;
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        Some(u64::from_le_bytes(word))
    }

    /// A member that is text, up to its 0: `name`.
    pub fn text(&self, name: &str) -> Option<String> {
        let bytes = self.bytes(name)?;
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }
}

/// Where instructions come from: from [`Line::insn`] on, until the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
