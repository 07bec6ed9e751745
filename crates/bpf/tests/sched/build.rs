//! Images and kernels, small ones.

use std::sync::Arc;

use scxlab_bpf::abi::{Abi, Version};
use scxlab_bpf::btf::Builder;
use scxlab_bpf::image::{
    Function, Global, Image, Kfunc, Map, MapType, OpsMember, Program, StructOps,
};
use scxlab_bpf::insn::{Insn, pseudo};

/// `SCX_DSQ_GLOBAL`.
pub const GLOBAL: u64 = 1 << 63 | 1;

/// The kernel of the default version.
pub fn kernel() -> Abi {
    Abi::new(Version::default()).expect("the declarations make sense")
}

/// Where a member of `task_struct` is, and its bytes.
fn member(path: &str) -> (i16, u32) {
    let abi = kernel();
    let offset = abi.offset_of("task_struct", path).expect("it is there");
    let field = abi.field_at("task_struct", offset).expect("it is there");
    (offset as i16, field.size)
}

/// Instructions, one after the other, and which of them are to have the address of a function.
#[derive(Clone, Default)]
pub struct Asm(Vec<Insn>, Vec<(usize, &'static str)>);

impl Asm {
    pub fn new() -> Self {
        Self::default()
    }

    /// Any instruction.
    pub fn add(mut self, code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Self {
        self.0.push(Insn { code, dst, src, off, imm });
        self
    }

    pub fn mov(self, dst: u8, imm: i32) -> Self {
        self.add(0xb7, dst, 0, 0, imm)
    }

    pub fn copy(self, dst: u8, src: u8) -> Self {
        self.add(0xbf, dst, src, 0, 0)
    }

    pub fn imm64(self, dst: u8, imm: u64) -> Self {
        self.add(0x18, dst, 0, 0, imm as i32).add(0, 0, 0, 0, (imm >> 32) as i32)
    }

    /// The address of a byte of `.bss`.
    pub fn bss(self, dst: u8, offset: i32) -> Self {
        self.add(0x18, dst, pseudo::MAP_VALUE, 0, 0).add(0, 0, 0, 0, offset)
    }

    pub fn load(self, dst: u8, src: u8, off: i16) -> Self {
        self.add(0x79, dst, src, off, 0)
    }

    pub fn store(self, dst: u8, off: i16, src: u8) -> Self {
        self.add(0x7b, dst, src, off, 0)
    }

    pub fn load_member(self, dst: u8, src: u8, path: &str) -> Self {
        let (off, size) = member(path);
        self.add(if size == 8 { 0x79 } else { 0x61 }, dst, src, off, 0)
    }

    pub fn store_member(self, dst: u8, path: &str, src: u8) -> Self {
        let (off, size) = member(path);
        self.add(if size == 8 { 0x7b } else { 0x63 }, dst, src, off, 0)
    }

    pub fn atomic_add(self, dst: u8, off: i16, src: u8) -> Self {
        self.add(0xdb, dst, src, off, 0)
    }

    pub fn exchange(self, dst: u8, off: i16, src: u8) -> Self {
        self.add(0xdb, dst, src, off, 0xe1)
    }

    pub fn jump_if_not(self, left: u8, imm: i32, off: i16) -> Self {
        self.add(0x55, left, 0, off, imm)
    }

    pub fn jump_if_greater(self, left: u8, right: u8, off: i16) -> Self {
        self.add(0x2d, left, right, off, 0)
    }

    /// The address of a map.
    pub fn map(self, dst: u8, index: i32) -> Self {
        self.add(0x18, dst, pseudo::MAP, 0, index).add(0, 0, 0, 0, 0)
    }

    /// The address of a function.
    pub fn func(mut self, dst: u8, name: &'static str) -> Self {
        self.1.push((self.0.len(), name));
        self.add(0x18, dst, pseudo::FUNC, 0, 0).add(0, 0, 0, 0, 0)
    }

    pub fn helper(self, number: i32) -> Self {
        self.add(0x85, 0, pseudo::HELPER, 0, number)
    }

    /// Keeps r0 in a counter, `r0` and on.
    pub fn keep(self, counter: i32) -> Self {
        self.bss(1, 16 + 8 * counter).store(1, 0, 0)
    }

    pub fn add_imm(self, dst: u8, imm: i32) -> Self {
        self.add(0x07, dst, 0, 0, imm)
    }

    /// A place in the frame, for what is given by its address.
    pub fn frame(self, dst: u8, offset: i32) -> Self {
        self.copy(dst, 10).add_imm(dst, offset)
    }

    /// Puts a number of 64 bits there, extended with its sign.
    pub fn put(self, dst: u8, off: i16, imm: i32) -> Self {
        self.add(0x7a, dst, 0, off, imm)
    }

    pub fn then(mut self, other: Self) -> Self {
        let at = self.0.len();
        self.0.extend(other.0);
        self.1.extend(other.1.into_iter().map(|(insn, name)| (at + insn, name)));
        self
    }

    pub fn and_imm(self, dst: u8, imm: i32) -> Self {
        self.add(0x57, dst, 0, 0, imm)
    }

    pub fn store32(self, dst: u8, off: i16, src: u8) -> Self {
        self.add(0x63, dst, src, off, 0)
    }

    pub fn jump_if_equal(self, left: u8, right: u8, off: i16) -> Self {
        self.add(0x1d, left, right, off, 0)
    }

    pub fn load32(self, dst: u8, src: u8, off: i16) -> Self {
        self.add(0x61, dst, src, off, 0)
    }

    pub fn kfunc(self, index: i32) -> Self {
        self.add(0x85, 0, pseudo::KFUNC, 0, index)
    }

    /// To the kernel's address space, from an arena's (`addr_space_cast`).
    pub fn cast_arena(self, dst: u8) -> Self {
        self.add(0xbf, dst, dst, 1, 1)
    }

    pub fn forever(self) -> Self {
        self.add(0x05, 0, 0, -1, 0).exit()
    }

    pub fn jump_if_not_equal(self, left: u8, right: u8, off: i16) -> Self {
        self.add(0x5d, left, right, off, 0)
    }

    /// All of them.
    pub fn insns(&self) -> &[Insn] {
        &self.0
    }

    pub fn exit(self) -> Self {
        self.add(0x95, 0, 0, 0, 0)
    }
}

/// A scheduler of these operations, which can call `scx_bpf_dsq_insert()` and has counters: two
/// with names, and `r0` to `r29`.
pub fn image(programs: &[(&str, Asm)]) -> Image {
    image_with(programs, &[], Vec::new())
}

/// The same, with functions that are called back, and maps from number 1 on.
pub fn image_with(programs: &[(&str, Asm)], callbacks: &[(&str, Asm)], maps: Vec<Map>) -> Image {
    let mut builder = Builder::new();
    let long = builder.int("unsigned long", 8, false);
    let btf = Arc::new(builder.finish().expect("types"));
    let counter = |name: String, offset| Global {
        name,
        section: ".bss".into(),
        map: 0,
        offset,
        size: 8,
        ty: long,
    };
    let mut image = Image {
        maps: vec![Map {
            name: ".bss".into(),
            map_type: MapType::ARRAY,
            key_size: 4,
            value_size: 256,
            max_entries: 1,
            ..Map::default()
        }],
        globals: [counter("first".into(), 0), counter("second".into(), 8)]
            .into_iter()
            .chain((0..30).map(|n| counter(format!("r{n}"), 16 + 8 * n)))
            .collect(),
        kfuncs: vec![Kfunc {
            name: "scx_bpf_dsq_insert".into(),
            symbol: "scx_bpf_dsq_insert".into(),
            weak: false,
        }],
        btf,
        ..Image::default()
    };
    image.maps.extend(maps);
    let mut ops = StructOps {
        name: "ops".into(),
        type_name: "sched_ext_ops".into(),
        data: vec![0; programs.len() * 8 + 128],
        ..StructOps::default()
    };
    for (at, (name, asm)) in programs.iter().enumerate() {
        let function =
            Function { name: (*name).into(), start: image.insns.len(), len: asm.0.len() };
        image.insns.extend(&asm.0);
        image.functions.push(function);
        image.programs.push(Program {
            function: at,
            section: format!("struct_ops/{name}"),
            sleepable: false,
        });
        let (offset, size) = (at * 8, 8);
        ops.members.push(OpsMember { name: (*name).into(), offset, size, ty: 0 });
        ops.operations.push((offset, at));
    }
    for (name, asm) in callbacks {
        let function =
            Function { name: (*name).into(), start: image.insns.len(), len: asm.0.len() };
        image.insns.extend(&asm.0);
        image.functions.push(function);
    }
    for (at, (_, asm)) in programs.iter().chain(callbacks).enumerate() {
        for (insn, name) in &asm.1 {
            let pc = image.functions[at].start + insn;
            let callee = image.functions.iter().find(|f| f.name == *name).expect("it is there");
            image.insns[pc].imm = callee.start as i32 - pc as i32 - 1;
        }
    }
    let offset = programs.len() * 8;
    ops.members.push(OpsMember { name: "name".into(), offset, size: 128, ty: 0 });
    ops.data[offset..offset + 4].copy_from_slice(b"mini");
    image.struct_ops = vec![ops];
    image.license = "GPL".into();
    image
}
