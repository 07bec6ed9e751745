//! An object that has something of everything, and a kernel for it.

use scxlab_bpf::btf::{Builder, Field, TypeId, linkage};
use scxlab_bpf::object::{Kernel, version_code};

use crate::elf::{self, EXIT, File, GLOBAL, LOCAL, WEAK, call, load, mov, wide};

/// R_BPF_64_64, R_BPF_64_ABS64 and R_BPF_64_32.
pub const R_LOAD: u32 = 1;
pub const R_ABS: u32 = 2;
pub const R_CALL: u32 = 10;

/// Relocations of CO-RE.
pub const BYTE_OFFSET: u32 = 0;
pub const FIELD_EXISTS: u32 = 2;

/// The kernel: 7.2, with a little of sched_ext.
pub fn kernel() -> Kernel {
    let mut b = Builder::new();
    let int = b.int("int", 4, true);
    let u32_ = b.int("unsigned int", 4, false);
    let u64_ = b.int("unsigned long long", 8, false);
    let char = b.char();
    let name = b.array(char, 128);
    let comm = b.array(char, 16);
    let task = b.declare_struct("task_struct");
    let task_ptr = b.ptr(task);
    let entity =
        b.structure("sched_ext_entity", &[Field::new("flags", u32_), Field::new("slice", u64_)]);
    b.define(
        task,
        &[
            Field::new("flags", u32_),
            Field::new("pid", int),
            Field::new("real_parent", task_ptr),
            Field::new("comm", comm),
            Field::new("scx", entity),
        ],
    );
    let enqueue = b.proto(0, &[("p", task_ptr), ("enq_flags", u64_)]);
    let enqueue = b.ptr(enqueue);
    let init = b.proto(int, &[]);
    let init = b.ptr(init);
    b.structure(
        "sched_ext_ops",
        &[
            Field::new("enqueue", enqueue),
            Field::new("dispatch_max_batch", u32_),
            Field::new("flags", u64_),
            Field::new("timeout_ms", u32_),
            Field::new("init", init),
            Field::new("name", name),
        ],
    );
    let bool = b.bool();
    b.func("scx_bpf_create_dsq", int, &[("dsq_id", u64_), ("node", int)]);
    b.func("scx_bpf_now", u64_, &[]);
    b.func("scx_bpf_dsq_move", bool, &[("it", task_ptr), ("p", task_ptr)]);
    b.var("runqueues", int, linkage::GLOBAL);
    b.enumeration(
        "scx_public_consts",
        8,
        false,
        &[("SCX_OPS_NAME_LEN", 128), ("SCX_SLICE_DFL", 20_000_000)],
    );
    b.enumeration("scx_dsq_id_flags", 8, false, &[("SCX_DSQ_FLAG_BUILTIN", 1 << 63)]);
    let btf = b.finish().expect("types");
    let config = [("CONFIG_HZ", "250"), ("CONFIG_SMP", "y")];
    let config = config.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Kernel { btf, version: version_code(7, 2, 0), config }
}

/// A variable of a section, as a compiler declares it: its place is left to the symbol.
pub struct Vars<'a> {
    file: &'a mut File,
    section: u16,
    name: String,
    vars: Vec<(TypeId, u32, u32)>,
    at: u64,
}

impl<'a> Vars<'a> {
    pub fn new(file: &'a mut File, name: &str, kind: u32) -> Self {
        let section = file.section(name, kind, elf::ALLOC);
        Self { file, section, name: name.to_owned(), vars: Vec::new(), at: 0 }
    }

    /// A variable with what it starts with. Answers with its symbol.
    pub fn var(&mut self, name: &str, ty: TypeId, data: &[u8]) -> u32 {
        let var = self.file.btf.var(name, ty, linkage::GLOBAL);
        let len = data.len() as u64;
        self.vars.push((var, 0, len as u32));
        let section = self.file.at(self.section);
        if section.kind == elf::NOBITS {
            section.size = Some(self.at + len);
        } else {
            section.data.extend(data);
        }
        let symbol = self.file.symbol(name, self.section, self.at, len, elf::OBJECT, GLOBAL);
        self.at += len;
        symbol
    }

    pub fn finish(self) {
        self.file.btf.section(&self.name, 0, &self.vars);
    }
}

/// The types of a map's definition: `__uint`.
pub fn number(b: &mut Builder, number: u32) -> TypeId {
    let int = b.int("int", 4, true);
    let array = b.array(int, number);
    b.ptr(array)
}

/// A map's definition: kind, entries, and the types of key and value.
pub fn map(b: &mut Builder, kind: u32, entries: u32, key: TypeId, value: TypeId) -> TypeId {
    let (kind, entries) = (number(b, kind), number(b, entries));
    let (key, value) = (b.ptr(key), b.ptr(value));
    let fields = [
        Field::new("type", kind),
        Field::new("max_entries", entries),
        Field::new("key", key),
        Field::new("value", value),
    ];
    b.structure("", &fields)
}

/// Types of the object's own.
pub struct Types {
    pub int: TypeId,
    pub u32: TypeId,
    pub u64: TypeId,
    pub char: TypeId,
    pub task: TypeId,
    pub ops: TypeId,
}

pub fn types(file: &mut File) -> Types {
    let b = &mut file.btf;
    let int = b.int("int", 4, true);
    let u32 = b.int("unsigned int", 4, false);
    let u64 = b.int("unsigned long long", 8, false);
    let char = b.char();
    let entity = b.structure(
        "sched_ext_entity___flavour",
        &[Field::new("slice", u64), Field::new("flags", u32), Field::new("gone", u32)],
    );
    let task = b.declare_struct("task_struct");
    let pointer = b.ptr(task);
    b.define(
        task,
        &[Field::new("pid", int), Field::new("scx", entity), Field::new("gone", pointer)],
    );
    let proto = b.proto(0, &[("p", pointer), ("enq_flags", u64)]);
    let enqueue = b.ptr(proto);
    let proto = b.proto(int, &[]);
    let init = b.ptr(proto);
    let name = b.array(char, 128);
    let ops = b.structure(
        "sched_ext_ops___mine",
        &[
            Field::new("init", init),
            Field::new("enqueue", enqueue),
            Field::new("not_in_the_kernel", u64),
            Field::new("flags", u64),
            Field::new("timeout_ms", u32),
            Field::new("name", name),
        ],
    );
    Types { int, u32, u64, char, task, ops }
}

/// The externs: functions and variables in `.ksyms`, configuration in `.kconfig`.
fn externs(file: &mut File, types: &Types) -> [u32; 8] {
    let (int, u64_) = (types.int, types.u64);
    let b = &mut file.btf;
    let create = b.proto(int, &[("dsq_id", u64_), ("node", int)]);
    let now = b.proto(u64_, &[]);
    let create = b.func_of("scx_bpf_create_dsq", create, 2);
    let flavoured = b.func_of("scx_bpf_now___new", now, 2);
    let absent = b.func_of("scx_bpf_absent", now, 2);
    let queues = b.var("runqueues", int, linkage::EXTERN);
    let nothing = b.var("no_such_variable", 0, linkage::EXTERN);
    let all = [create, flavoured, absent, queues, nothing];
    b.section(".ksyms", 0, &all.map(|id| (id, 0, 4)));
    let hz = b.var("CONFIG_HZ", int, linkage::EXTERN);
    let version = b.var("LINUX_KERNEL_VERSION", int, linkage::EXTERN);
    let bool = b.bool();
    let smp = b.var("CONFIG_SMP", bool, linkage::EXTERN);
    b.section(".kconfig", 0, &[hz, version, smp].map(|id| (id, 0, 4)));
    [
        file.external("scx_bpf_create_dsq", GLOBAL),
        file.external("scx_bpf_now___new", WEAK),
        file.external("scx_bpf_absent", WEAK),
        file.external("runqueues", GLOBAL),
        file.external("no_such_variable", WEAK),
        file.external("CONFIG_HZ", GLOBAL),
        file.external("LINUX_KERNEL_VERSION", GLOBAL),
        file.external("CONFIG_SMP", GLOBAL),
    ]
}

/// A scheduler.
pub fn scheduler() -> File {
    let mut file = File::new();
    let types = types(&mut file);
    let [create, now, absent, queues, nothing, hz, version, _] = externs(&mut file, &types);
    let license = file.section("license", elf::PROGBITS, elf::ALLOC);
    file.at(license).data = b"GPL\0".to_vec();
    let (int, u32_, u64_) = (types.int, types.u32, types.u64);

    let b = &mut file.btf;
    let bool = b.bool();
    let key = b.enumeration("key", 4, false, &[("KEY_TID", 0), ("KEY_PID", 1)]);
    let numbers = b.array(int, 3);
    let limits = b.structure(
        "limits",
        &[Field::new("most", u32_), Field::new("nice", int), Field::new("table", numbers)],
    );
    let name = b.array(types.char, 8);
    let slots = map(b, 2, 10, u32_, u64_);
    let fields = [number(b, 12), number(b, 2), number(b, 4)];
    let pointer = b.ptr(slots);
    let values = b.array(pointer, 0);
    let outer = b.structure(
        "",
        &[
            Field::new("type", fields[0]),
            Field::new("max_entries", fields[1]),
            Field::new("key_size", fields[2]),
            Field::new("values", values),
        ],
    );
    let fields = [number(b, 33), number(b, 1024), number(b, 4)];
    let arena = b.structure(
        "",
        &[
            Field::new("type", fields[0]),
            Field::new("map_flags", fields[1]),
            Field::new("max_entries", fields[2]),
        ],
    );

    let mut vars = Vars::new(&mut file, ".maps", elf::PROGBITS);
    let slots = vars.var("slots", slots, &[0; 32]);
    // With room for two values behind the three fields.
    vars.var("outer", outer, &[0; 40]);
    vars.var("arena", arena, &[0; 24]);
    vars.finish();
    let maps = file.section(".maps", elf::PROGBITS, 0);
    file.relocations.insert(maps, vec![(32 + 24 + 8, slots, R_ABS)]);

    let mut vars = Vars::new(&mut file, ".rodata", elf::PROGBITS);
    let batch = vars.var("batch", u32_, &8_u32.to_le_bytes());
    vars.var("key", key, &[0; 4]);
    vars.var("limits", limits, &[0; 20]);
    vars.var("on", bool, &[0]);
    vars.var("tag", name, b"abc\0\0\0\0\0");
    vars.var("__SCX_SLICE_DFL", u64_, &[0; 8]);
    vars.finish();
    let mut vars = Vars::new(&mut file, ".bss", elf::NOBITS);
    let count = vars.var("count", u64_, &[0; 8]);
    vars.var("nice", int, &[0; 4]);
    vars.finish();
    let mut vars = Vars::new(&mut file, ".data.dump", elf::PROGBITS);
    vars.var("dump", name, &[0; 8]);
    vars.finish();
    let mut vars = Vars::new(&mut file, ".addr_space.1", elf::PROGBITS);
    let shared = vars.var("shared", u64_, &7_u64.to_le_bytes());
    vars.finish();

    // A subprogram that all call, first in its section.
    let (helper, _) = file.function(".text", "helper", &[mov(0, 1), EXIT]);
    let [a, b] = wide(1, 0);
    let (callback, _) = file.function(".text", "callback", &[a, b, EXIT]);
    file.refer(".text", 16, count, R_LOAD);

    // Each of the wide loads below refers to something.
    let mut code = vec![load(4, 2, 1, 0), load(8, 3, 1, 8), mov(4, 1), call(-1)];
    let loads = [slots, batch, count, shared, callback, queues, nothing, hz, version, now, absent];
    for (symbol, at) in loads.into_iter().zip((4..).step_by(2)) {
        code.extend(wide(1, 0));
        file.refer("struct_ops/enqueue", 8 * at, symbol, R_LOAD);
    }
    let calls = code.len() as u64;
    code.extend([call(-1), call(-1), call(-1), EXIT]);
    let section = "struct_ops/enqueue";
    let (enqueue, start) = file.function(section, "sample_enqueue", &code);
    assert_eq!(start, 0);
    file.refer(section, 24, helper, R_CALL);
    for (symbol, at) in [create, now, absent].into_iter().zip(calls..) {
        file.refer(section, 8 * at, symbol, R_CALL);
    }
    file.core(section, 0, types.task, "0:0", BYTE_OFFSET);
    file.core(section, 8, types.task, "0:1:0", BYTE_OFFSET);
    file.core(section, 16, types.task, "0:2", FIELD_EXISTS);
    for (offset, line) in [(0, 10), (24, 11)] {
        let (path, text) = ("sample.bpf.c".to_owned(), "\tp->pid;".to_owned());
        file.lines.push((section.to_owned(), offset, path, text, line));
    }

    let body = [load(8, 1, 1, 24), mov(0, 0), EXIT];
    let (init, _) = file.function("struct_ops.s/init", "sample_init", &body);
    file.core("struct_ops.s/init", 0, types.task, "0:2", BYTE_OFFSET);
    file.function("syscall", "on_demand", &[mov(0, 0), EXIT]);
    file.function("?tp_btf/sched_switch", "optional", &[mov(0, 0), EXIT]);

    let mut data = vec![0; 168];
    data[24..32].copy_from_slice(&3_u64.to_le_bytes());
    data[32..36].copy_from_slice(&5000_u32.to_le_bytes());
    data[36..42].copy_from_slice(b"sample");
    let mut vars = Vars::new(&mut file, ".struct_ops.link", elf::PROGBITS);
    vars.var("sample_ops", types.ops, &data);
    vars.finish();
    let ops = file.section(".struct_ops.link", elf::PROGBITS, 0);
    file.relocations.insert(ops, vec![(0, init, R_ABS), (8, enqueue, R_ABS)]);
    file.symbol("", 0, 0, 0, elf::SECTION, LOCAL);
    file
}
