//! Schedulers put together by hand: programs of instructions that call the kernel by name, and keep
//! what they see in counters.

use std::sync::Arc;

use scxlab_bpf::abi::{Abi, Version};
use scxlab_bpf::btf::{Btf, Builder, Field, Kind};
use scxlab_bpf::image::{
    Function, Global, Image, Kfunc, Ksym, Map, MapType, OpsMember, Program, StructOps,
};
use scxlab_bpf::insn::{Insn, pseudo};
use scxlab_bpf::sched::{BpfScheduler, LoadError, ProgRun, ProgRunError};
use scxlab_engine::program::{Instr, Pc, Span, Spawn, Start};
use scxlab_engine::{Config, Engine, ExitInfo, Nanos, SchedId, Scheduler as _};

/// How many counters there are: `n0` and on, at the start of `.bss`.
const COUNTERS: i32 = 64;
/// Behind them, a place for locks and heads of lists.
pub const ROOM: i32 = COUNTERS * 8;

pub fn kernel() -> Abi {
    Abi::new(Version::default()).expect("the declarations make sense")
}

/// What of an image an instruction names.
#[derive(Clone)]
enum Name {
    Kfunc(&'static str),
    Func(&'static str),
    Ksym(&'static str),
}

/// Instructions, one after the other. r6 is the program's first argument after [`Code::op`].
#[derive(Clone, Default)]
pub struct Code(Vec<Insn>, Vec<(usize, Name)>);

impl Code {
    pub fn new() -> Self {
        Self::default()
    }

    /// The beginning of an operation: its arguments are in r6 to r9.
    pub fn op() -> Self {
        Self::new().load(6, 1, 0).load(7, 1, 8).load(8, 1, 16).load(9, 1, 24)
    }

    fn add(mut self, code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Self {
        self.0.push(Insn { code, dst, src, off, imm });
        self
    }

    pub fn then(mut self, other: Self) -> Self {
        let at = self.0.len();
        self.0.extend(other.0);
        self.1.extend(other.1.into_iter().map(|(insn, name)| (at + insn, name)));
        self
    }

    pub fn mov(self, dst: u8, imm: i32) -> Self {
        self.add(0xb7, dst, 0, 0, imm)
    }

    pub fn copy(self, dst: u8, src: u8) -> Self {
        self.add(0xbf, dst, src, 0, 0)
    }

    pub fn plus(self, dst: u8, imm: i32) -> Self {
        self.add(0x07, dst, 0, 0, imm)
    }

    pub fn minus(self, dst: u8, src: u8) -> Self {
        self.add(0x1f, dst, src, 0, 0)
    }

    pub fn imm64(self, dst: u8, imm: u64) -> Self {
        self.add(0x18, dst, 0, 0, imm as i32).add(0, 0, 0, 0, (imm >> 32) as i32)
    }

    /// The address of a byte of `.bss`.
    pub fn bss(self, dst: u8, offset: i32) -> Self {
        self.add(0x18, dst, pseudo::MAP_VALUE, 0, 0).add(0, 0, 0, 0, offset)
    }

    /// The address of the arena's map.
    pub fn arena(self, dst: u8) -> Self {
        self.add(0x18, dst, pseudo::MAP, 0, 1).add(0, 0, 0, 0, 0)
    }

    /// The address of a map.
    pub fn map(self, dst: u8, number: i32) -> Self {
        self.add(0x18, dst, pseudo::MAP, 0, number).add(0, 0, 0, 0, 0)
    }

    /// To the kernel's address space, from an arena's.
    pub fn cast_arena(self, dst: u8) -> Self {
        self.add(0xbf, dst, dst, 1, 1)
    }

    pub fn func(mut self, dst: u8, name: &'static str) -> Self {
        self.1.push((self.0.len(), Name::Func(name)));
        self.add(0x18, dst, pseudo::FUNC, 0, 0).add(0, 0, 0, 0, 0)
    }

    pub fn ksym(mut self, dst: u8, name: &'static str) -> Self {
        self.1.push((self.0.len(), Name::Ksym(name)));
        self.add(0x18, dst, pseudo::KSYM, 0, 0).add(0, 0, 0, 0, 0)
    }

    pub fn load(self, dst: u8, src: u8, off: i16) -> Self {
        self.add(0x79, dst, src, off, 0)
    }

    pub fn load_byte(self, dst: u8, src: u8) -> Self {
        self.add(0x71, dst, src, 0, 0)
    }

    /// How many instructions there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn store(self, dst: u8, off: i16, src: u8) -> Self {
        self.add(0x7b, dst, src, off, 0)
    }

    /// Puts a number of 64 bits there.
    pub fn put(self, dst: u8, off: i16, imm: i32) -> Self {
        self.add(0x7a, dst, 0, off, imm)
    }

    /// Loads a field of a structure: `task_struct.scx.slice`.
    pub fn field(self, dst: u8, src: u8, path: &str) -> Self {
        let (structure, path) = path.split_once('.').expect("a structure and a path");
        let abi = kernel();
        let offset = abi.offset_of(structure, path).unwrap_or_else(|| panic!("no {path}"));
        let size = abi.field_at(structure, offset).expect("it is there").size;
        let code = match size {
            1 => 0x71,
            2 => 0x69,
            4 => 0x61,
            _ => 0x79,
        };
        self.add(code, dst, src, offset as i16, 0)
    }

    /// A place in the frame.
    pub fn frame(self, dst: u8, offset: i32) -> Self {
        self.copy(dst, 10).plus(dst, offset)
    }

    pub fn call(mut self, name: &'static str) -> Self {
        self.1.push((self.0.len(), Name::Kfunc(name)));
        self.add(0x85, 0, pseudo::KFUNC, 0, 0)
    }

    pub fn helper(self, number: i32) -> Self {
        self.add(0x85, 0, pseudo::HELPER, 0, number)
    }

    /// Keeps a register in a counter. Uses r1.
    pub fn keep(self, counter: i32, src: u8) -> Self {
        self.bss(1, counter * 8).store(1, 0, src)
    }

    /// Keeps what was returned.
    pub fn kept(self, counter: i32) -> Self {
        self.keep(counter, 0)
    }

    /// Counts. Uses r1 and r2.
    pub fn count(self, counter: i32) -> Self {
        self.bss(1, counter * 8).mov(2, 1).add(0xdb, 1, 2, 0, 0)
    }

    /// Does something if a register is not 0.
    pub fn when(self, reg: u8, code: Self) -> Self {
        let len = code.len() as i16;
        self.skip_if(reg, 0, len).then(code)
    }

    /// Does something if a register is 0.
    pub fn unless(self, reg: u8, code: Self) -> Self {
        let len = code.len() as i16;
        self.add(0x55, reg, 0, len, 0).then(code)
    }

    /// Skips so many instructions if a register is a number.
    pub fn skip_if(self, reg: u8, imm: i32, skip: i16) -> Self {
        self.add(0x15, reg, 0, skip, imm)
    }

    /// Jumps back over so many instructions, and this one.
    pub fn back(self, over: i16) -> Self {
        self.add(0x05, 0, 0, -over - 1, 0)
    }

    /// r0 = left < right, as 0 or 1, of two registers.
    pub fn less(self, left: u8, right: u8) -> Self {
        self.mov(0, 1).add(0xad, left, right, 1, 0).mov(0, 0)
    }

    pub fn exit(self) -> Self {
        self.add(0x95, 0, 0, 0, 0)
    }

    /// Returns 0.
    pub fn done(self) -> Self {
        self.mov(0, 0).exit()
    }
}

/// The type of an object of a program's own, in the image's BTF.
pub const NODE: i32 = 2;
/// Where it has its list node, its number and its count of references; its tree node is at 0.
pub const NODE_LIST: i32 = 32;
pub const NODE_KEY: i16 = 56;

/// Another one, which owns others: where it has a tree and a pointer; its list is at 0.
pub const OWNER_TREE: i32 = 16;
pub const OWNER_NEXT: i32 = 32;

/// The number of a structure in the image's BTF.
pub fn type_of(name: &str) -> u32 {
    types().find(name, Kind::Struct).expect("it is there")
}

fn types() -> Btf {
    let mut builder = Builder::new();
    let long = builder.int("unsigned long", 8, false);
    assert_eq!(long, 1);
    let node = builder.declare_struct("node");
    assert_eq!(node, NODE as u32);
    let words = builder.array(long, 4);
    let rb = builder.structure("bpf_rb_node", &[Field::new("__opaque", words)]);
    let words = builder.array(long, 3);
    let list = builder.structure("bpf_list_node", &[Field::new("__opaque", words)]);
    let int = builder.int("unsigned int", 4, false);
    let count = builder.structure("bpf_refcount", &[Field::new("__opaque", int)]);
    let fields = [("rb", rb), ("list", list), ("key", long), ("refs", count)];
    builder.define(node, &fields.map(|(name, ty)| Field::new(name, ty)));
    let owner = builder.declare_struct("owner");
    let words = builder.array(long, 2);
    let head = builder.structure("bpf_list_head", &[Field::new("__opaque", words)]);
    let root = builder.structure("bpf_rb_root", &[Field::new("__opaque", words)]);
    let kptr = builder.type_tag("kptr", owner);
    let kptr = builder.ptr(kptr);
    let fields = [("head", head), ("root", root), ("next", kptr)];
    builder.define(owner, &fields.map(|(name, ty)| Field::new(name, ty)));
    builder.structure("empty", &[]);
    for (name, words) in [("large", 511), ("larger", 512)] {
        let words = builder.array(long, words);
        builder.structure(name, &[Field::new("words", words)]);
    }
    let btf = builder.finish().expect("types");
    assert_eq!(btf.find("node", Kind::Struct), Some(node));
    btf
}

/// A scheduler of these operations. Those with a dot are functions that are called back.
pub fn image(form: &str, programs: &[(&'static str, Code)]) -> Image {
    let bss = ROOM as u32 + 64;
    let map = |name: &str, map_type, value_size, max_entries| Map {
        name: name.into(),
        map_type,
        key_size: if value_size > 0 { 4 } else { 0 },
        value_size,
        max_entries,
        flags: if value_size > 0 { 0 } else { 1 << 10 },
        ..Map::default()
    };
    let counter = |n: i32| Global {
        name: format!("n{n}"),
        section: ".bss".into(),
        offset: n as u64 * 8,
        size: 8,
        ty: 1,
        ..Global::default()
    };
    let mut image = Image {
        maps: vec![map(".bss", MapType::ARRAY, bss, 1), map("arena", MapType::ARENA, 0, 16)],
        globals: (0..COUNTERS).map(counter).collect(),
        btf: Arc::new(types()),
        ..Image::default()
    };
    let mut ops = StructOps {
        name: "ops".into(),
        type_name: form.into(),
        data: vec![0; programs.len() * 8 + 128],
        ..StructOps::default()
    };
    for (at, (name, code)) in programs.iter().enumerate() {
        let start = image.insns.len();
        image.functions.push(Function { name: (*name).into(), start, len: code.0.len() });
        image.insns.extend(&code.0);
        if name.contains('.') {
            continue;
        }
        let sleepable = ["init", "init_cids", "init_task"].contains(name);
        let section = format!("struct_ops{}/{name}", if sleepable { ".s" } else { "" });
        ops.operations.push((at * 8, image.programs.len()));
        image.programs.push(Program { function: at, section, sleepable });
        ops.members.push(OpsMember { name: (*name).into(), offset: at * 8, size: 8, ty: 0 });
    }
    for (at, (_, code)) in programs.iter().enumerate() {
        for (insn, name) in &code.1 {
            let pc = image.functions[at].start + insn;
            image.insns[pc].imm = match name {
                Name::Func(name) => {
                    let callee = image.functions.iter().find(|f| f.name == *name);
                    callee.expect("it is there").start as i32 - pc as i32 - 1
                }
                Name::Kfunc(name) => {
                    let known = image.kfuncs.iter().position(|kfunc| kfunc.name == *name);
                    let new = Kfunc { name: (*name).into(), ..Kfunc::default() };
                    known.unwrap_or_else(|| {
                        image.kfuncs.push(new);
                        image.kfuncs.len() - 1
                    }) as i32
                }
                Name::Ksym(name) => {
                    image.ksyms.push(Ksym { name: (*name).into(), ..Ksym::default() });
                    image.ksyms.len() as i32 - 1
                }
            };
        }
    }
    let offset = programs.len() * 8;
    ops.members.push(OpsMember { name: "name".into(), offset, size: 128, ty: 0 });
    ops.data[offset..offset + 4].copy_from_slice(b"mini");
    image.struct_ops = vec![ops];
    image.license = "GPL".into();
    image
}

/// `ops.flags`.
pub fn set_flags(image: &mut Image, flags: u64) {
    let ops = &mut image.struct_ops[0];
    let offset = ops.data.len();
    ops.members.push(OpsMember { name: "flags".into(), offset, size: 8, ty: 0 });
    ops.data.extend_from_slice(&flags.to_le_bytes());
}

pub fn load(programs: &[(&'static str, Code)]) -> Result<BpfScheduler, LoadError> {
    BpfScheduler::new(image("sched_ext_ops", programs), &kernel())
}

/// Inserts the task of r6 into the global queue.
pub fn insert() -> Code {
    Code::new()
        .copy(1, 6)
        .imm64(2, 1 << 63 | 1)
        .mov(3, 5_000_000)
        .mov(4, 0)
        .call("scx_bpf_dsq_insert")
}

/// The operation that does only that.
pub fn enqueue() -> (&'static str, Code) {
    ("enqueue", Code::op().then(insert()).done())
}

/// Tasks that run for 1 ms and sleep for 1 ms, in the cgroup /a/b, with a thread each.
pub fn work() -> scxlab_engine::Program {
    let ms = Span::exactly(Nanos::from_millis(1));
    let start = Start { cgroup: Some(0), ..Start::new(Pc(0), 0) };
    scxlab_engine::Program {
        code: vec![
            Instr::Spawn { what: Spawn::Thread, entry: Pc(1), name: 1 },
            Instr::Loop { count: None, end: Pc(4) },
            Instr::Run(ms),
            Instr::Sleep(ms),
            Instr::LoopEnd { body: Pc(2) },
            Instr::Exit,
        ],
        names: vec!["lead".into(), "thread".into()],
        cgroups: vec!["/a/b".into()],
        start: vec![start; 3],
        ..scxlab_engine::Program::default()
    }
}

/// A scheduler that has run.
pub struct Ran {
    pub engine: Engine,
    pub id: SchedId,
    sched: Arc<BpfScheduler>,
}

impl Ran {
    pub fn new(sched: BpfScheduler, program: scxlab_engine::Program, ms: u64) -> Self {
        let mut config = Config::new(2, Arc::new(program));
        config.check = true;
        let mut engine = Engine::new(config).expect("a machine");
        let sched = Arc::new(sched);
        let id = engine.attach(Arc::<BpfScheduler>::clone(&sched)).expect("attached");
        engine.run_until(Nanos::from_millis(ms));
        Self { engine, id, sched }
    }

    pub fn n(&self, counter: usize) -> u64 {
        let counters = self.sched.counters(self.engine.scheduler_state(self.id));
        counters[counter].1
    }

    /// The counters from this one on.
    pub fn all<const N: usize>(&self, from: usize) -> [i64; N] {
        std::array::from_fn(|n| self.n(from + n) as i64)
    }

    /// Has a program run as user space does.
    pub fn prog_run(&mut self, name: &str, context: &[u8]) -> Result<ProgRun, ProgRunError> {
        let Self { sched, engine, id } = self;
        engine.prog_run(*id, |cx| sched.prog_run(cx, name, context))
    }

    pub fn exit(&self) -> Option<&ExitInfo> {
        self.engine.exit_info(self.id)
    }

    pub fn well(self) -> Self {
        assert!(self.engine.is_attached(self.id), "{:?}", self.exit());
        self
    }
}

/// Runs a scheduler of these operations, and of one that inserts, for 100 ms of [`work`].
pub fn run(programs: &[(&'static str, Code)]) -> Ran {
    let mut programs = programs.to_vec();
    if !programs.iter().any(|(name, _)| *name == "enqueue") {
        programs.push(enqueue());
    }
    Ran::new(load(&programs).unwrap_or_else(|err| panic!("{err}")), work(), 100)
}

/// Why a scheduler of these operations ended.
pub fn ended(programs: &[(&'static str, Code)]) -> String {
    let ran = run(programs);
    ran.exit().expect("it has ended").msg.clone()
}
