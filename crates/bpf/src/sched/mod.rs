//! A compiled scheduler on the engine: [`BpfScheduler`] is a [`Scheduler`] whose operations are
//! programs of an [`Image`].
//!
//! Its memory is the scheduler's state, which lives in the engine and clones with it. A program
//! runs until it calls the kernel; then the engine does what was called, other CPUs may go on
//! meanwhile, and the program goes on. Tasks are regions whose bytes the engine has (`task.rs`).

mod bind;
mod bpf_func;
mod call;
mod contents;
mod format;
mod kfunc;
mod map;
mod state;
mod task;

use std::collections::BTreeMap;
use std::fmt;

use scxlab_engine::{
    CpuId, Cx, DeqFlags, EnqFlags, Errno, ExitInfo, ExitTaskArgs, Form, InitTaskArgs, OpSet, Ops,
    OpsFlags, Scheduler, Task, WakeFlags,
};

pub use self::contents::{MapElement, MapKey};

use self::call::{Arg, Failed};
use self::kfunc::Kfunc;
use self::state::{Inner, State};
use self::task::TaskLayout;
use crate::Image;
use crate::abi::Abi;
use crate::btf::{Btf, Kind, Type};
use crate::image::StructOps;
use crate::insn::pseudo;
use crate::machine::{Binding, Callee, Code, DecodeError, Full, Memory, NoKernel};
use crate::object::Target as _;

/// Bytes of memory that a scheduler may use.
const MEMORY: u64 = 4 << 30;

/// Why an image cannot be run on the engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// It has no scheduler.
    #[error("there is no scheduler in it: no variable of type sched_ext_ops in .struct_ops")]
    NoScheduler,
    /// It has more than one.
    #[error("there are {0} schedulers in it; one at a time is run")]
    ManySchedulers(usize),
    /// It needs what the engine does not have.
    #[error("the engine does not have what it needs: {}", .0.join("; "))]
    Missing(Vec<String>),
    /// An instruction that is none.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Its maps are too large.
    #[error(transparent)]
    Full(#[from] Full),
}

/// A compiled scheduler.
pub struct BpfScheduler {
    image: Image,
    code: Code,
    ops: Ops,
    /// The function of each operation, by name.
    programs: BTreeMap<&'static str, usize>,
    /// What each of the image's kernel functions is.
    kfuncs: Vec<Kfunc>,
    tasks: TaskLayout,
    exit_info: ExitLayout,
    /// What it counts, by name: address, bytes.
    counters: Vec<(String, u64, usize)>,
    /// As it is when it is attached.
    initial: Inner,
}

impl fmt::Debug for BpfScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BpfScheduler").field("ops", &self.ops).finish_non_exhaustive()
    }
}

/// The operations that the engine calls.
const OPERATIONS: &[(&str, OpSet)] = &[
    ("select_cpu", OpSet::SELECT_CPU),
    ("enqueue", OpSet::ENQUEUE),
    ("dequeue", OpSet::DEQUEUE),
    ("dispatch", OpSet::DISPATCH),
    ("tick", OpSet::TICK),
    ("runnable", OpSet::RUNNABLE),
    ("running", OpSet::RUNNING),
    ("stopping", OpSet::STOPPING),
    ("quiescent", OpSet::QUIESCENT),
    ("set_weight", OpSet::SET_WEIGHT),
    ("update_idle", OpSet::UPDATE_IDLE),
    ("init_task", OpSet::INIT_TASK),
    ("exit_task", OpSet::EXIT_TASK),
    ("enable", OpSet::ENABLE),
    ("disable", OpSet::DISABLE),
    ("init", OpSet::INIT),
    ("exit", OpSet::EXIT),
];

/// Those that no engine calls: there is nothing of it there.
const NEVER_CALLED: &[&str] = &[
    "core_sched_before",
    "cpu_online",
    "cpu_offline",
    "cgroup_set_weight",
    "cgroup_set_bandwidth",
    "cgroup_set_idle",
];

impl BpfScheduler {
    /// Takes an image that was relocated for this kernel.
    ///
    /// # Errors
    /// It has not exactly one scheduler, or needs what the engine does not have: each such thing is
    /// named.
    pub fn new(image: Image, abi: &Abi) -> Result<Self, LoadError> {
        let kernel = abi.btf();
        let ops = match &image.struct_ops[..] {
            [ops] => ops.clone(),
            [] => return Err(LoadError::NoScheduler),
            many => return Err(LoadError::ManySchedulers(many.len())),
        };
        let mut missing = Vec::new();
        let programs = operations(&image, &ops, &mut missing);
        let mut memory = Memory::new(MEMORY);
        let (binding, maps) = bind::bind(&image, &mut memory, &mut missing)?;
        let kfuncs = kfuncs(&image, &mut missing);
        let tasks = TaskLayout::new(kernel);
        let exit_info = ExitLayout::new(kernel);
        for (name, is_there) in
            [("task_struct", tasks.is_some()), ("scx_exit_info", exit_info.is_some())]
        {
            if !is_there {
                missing.push(format!("struct {name} of the kernel"));
            }
        }
        let (Some(tasks), Some(exit_info), true) = (tasks, exit_info, missing.is_empty()) else {
            return Err(LoadError::Missing(missing));
        };
        let code = Code::decode(&image, &binding)?;
        let mut implements = OpSet::empty();
        for (name, set) in OPERATIONS {
            if programs.contains_key(name) {
                implements |= *set;
            }
        }
        let number = |name| ops.number(name).unwrap_or(0);
        let data = Ops {
            name: ops.text("name").unwrap_or_default(),
            form: Form::Cpu,
            implements,
            flags: OpsFlags::from_bits_retain(number("flags")),
            timeout_ms: number("timeout_ms") as u32,
            dispatch_max_batch: number("dispatch_max_batch") as u32,
            exit_dump_len: number("exit_dump_len") as u32,
            sub_cgroup: None,
        };
        let counters = counters(&image, &binding);
        let initial = Inner::new(memory, maps);
        Ok(Self { image, code, ops: data, programs, kfuncs, tasks, exit_info, counters, initial })
    }

    fn name_of(&self, callee: Callee) -> String {
        match callee {
            Callee::Kfunc(index) => format!("{}()", self.image.kfuncs[index].name),
            Callee::Helper(number) => bpf_func::name(number),
        }
    }

    /// Runs an operation. What goes wrong ends the scheduler, and gives nothing.
    fn op<'r>(&self, cx: &mut Cx<'r>, name: &str, args: &[Arg<'_, 'r>]) -> Option<u64> {
        let program = *self.programs.get(name)?;
        match self.run(cx, program, args) {
            Ok(value) => Some(value),
            Err(Failed::Fault(fault)) => {
                cx.fault(format!("ops.{name}: {fault}"));
                None
            }
            Err(Failed::Other(why)) => {
                cx.fault(format!("ops.{name}: {why}"));
                None
            }
        }
    }

    /// An operation that returns 0 or a negative error number.
    fn op_errno<'r>(&self, cx: &mut Cx<'r>, name: &str, args: &[Arg<'_, 'r>]) -> Result<(), Errno> {
        match self.op(cx, name, args).unwrap_or(0) as i32 {
            0 => Ok(()),
            err => Err(Errno(err.wrapping_neg())),
        }
    }
}

/// The function of each operation that is set. What the engine does not have is named.
fn operations(
    image: &Image,
    ops: &StructOps,
    missing: &mut Vec<String>,
) -> BTreeMap<&'static str, usize> {
    let mut programs = BTreeMap::new();
    for member in &ops.members {
        let Some(program) = ops.operation(&member.name) else { continue };
        let known = OPERATIONS.iter().find(|(name, _)| *name == member.name);
        if let (Some((name, _)), Some(program)) = (known, image.programs.get(program)) {
            programs.insert(*name, program.function);
        } else if !NEVER_CALLED.contains(&member.name.as_str()) {
            missing.push(format!("operation {}", member.name));
        }
    }
    if ops.type_name != "sched_ext_ops" {
        missing.push(format!("schedulers of type {}", ops.type_name));
    }
    programs
}

/// All numbers that the scheduler counts in: the plain variables of `.bss`.
fn counters(image: &Image, binding: &Binding) -> Vec<(String, u64, usize)> {
    let plain = image.globals.iter().filter(|global| {
        let ty = image.btf.resolve(global.ty).unwrap_or_default();
        global.section == ".bss"
            && !global.name.contains('.')
            && matches!(image.btf.ty(ty), Type::Int(_))
            && global.size <= 8
    });
    plain
        .filter_map(|global| {
            let addr = binding.maps.get(global.map)?.value + global.offset;
            Some((global.name.clone(), addr, global.size as usize))
        })
        .collect()
}

/// What each kernel function is, and whether all helpers are there.
fn kfuncs(image: &Image, missing: &mut Vec<String>) -> Vec<Kfunc> {
    /// `BPF_JMP | BPF_CALL`.
    const CALL: u8 = 0x85;
    let user = |insn| {
        let mut functions = image.functions.iter();
        let function = functions.find(|f| (f.start..f.start + f.len).contains(&insn));
        function.map_or_else(String::new, |f| format!(" (called by {})", f.name))
    };
    let mut named = std::collections::BTreeSet::new();
    for (insn, call) in image.insns.iter().enumerate().filter(|(_, insn)| insn.code == CALL) {
        let poisoned = image.poison.binary_search_by_key(&insn, |poison| poison.insn).is_ok();
        let number = call.imm as u32;
        let what = match call.src {
            pseudo::HELPER if !poisoned && !bpf_func::is_known(number) => bpf_func::name(number),
            pseudo::KFUNC => match image.kfuncs.get(number as usize) {
                Some(kfunc) if kfunc::find(&kfunc.name).is_none() => format!("{}()", kfunc.name),
                _ => continue,
            },
            _ => continue,
        };
        if named.insert(what.clone()) {
            missing.push(format!("{what}{}", user(insn)));
        }
    }
    let absent: Kfunc = |_| Err("the engine does not have it".into());
    image.kfuncs.iter().map(|kfunc| kfunc::find(&kfunc.name).unwrap_or(absent)).collect()
}

/// Where `struct scx_exit_info` has what the engine knows.
struct ExitLayout {
    size: usize,
    kind: usize,
    exit_code: usize,
    reason: Option<usize>,
    msg: Option<usize>,
    dump: Option<usize>,
}

impl ExitLayout {
    fn new(btf: &Btf) -> Option<Self> {
        let info = btf.find("scx_exit_info", Kind::Struct)?;
        let at = |name| Some(btf.member(info, name)?.bit_offset as usize / 8);
        Some(Self {
            size: btf.size_of(info).ok()? as usize,
            kind: at("kind")?,
            exit_code: at("exit_code")?,
            reason: at("reason"),
            msg: at("msg"),
            dump: at("dump"),
        })
    }

    /// The bytes, with the addresses of its texts: reason, message and dump.
    fn bytes(&self, info: &ExitInfo, texts: [u64; 3]) -> Vec<u8> {
        let mut bytes = vec![0; self.size];
        let mut put = |at: usize, from: &[u8]| {
            if let Some(into) = bytes.get_mut(at..at + from.len()) {
                into.copy_from_slice(from);
            }
        };
        put(self.kind, &(info.kind as u32).to_le_bytes());
        put(self.exit_code, &info.exit_code.to_le_bytes());
        for (at, text) in [self.reason, self.msg, self.dump].into_iter().zip(texts) {
            if let Some(at) = at {
                put(at, &text.to_le_bytes());
            }
        }
        bytes
    }
}

impl Scheduler for BpfScheduler {
    fn ops(&self) -> Ops {
        self.ops.clone()
    }

    fn new_state(&self) -> Box<dyn scxlab_engine::State> {
        Box::new(State(Some(Box::new(self.initial.clone()))))
    }

    fn counters(&self, state: &dyn scxlab_engine::State) -> Vec<(String, u64)> {
        let state = state.as_any().downcast_ref::<State>();
        let Some(inner) = state.and_then(|state| state.0.as_ref()) else { return Vec::new() };
        let read = |(name, addr, size): &(String, u64, usize)| {
            let mut bytes = [0; 8];
            inner.memory.read(&mut NoKernel, *addr, &mut bytes[..*size]).ok()?;
            Some((name.clone(), u64::from_le_bytes(bytes)))
        };
        self.counters.iter().filter_map(read).collect()
    }

    fn select_cpu(&self, cx: &mut Cx<'_>, p: Task<'_>, prev: CpuId, wake: WakeFlags) -> CpuId {
        let p = Some(cx.same(p));
        let args = [Arg::Task(p), Arg::Number(prev.0.into()), Arg::Number(wake.bits())];
        self.op(cx, "select_cpu", &args).map_or(prev, |cpu| CpuId(cpu as u32))
    }
    fn enqueue(&self, cx: &mut Cx<'_>, p: Task<'_>, enq: EnqFlags) {
        let p = Some(cx.same(p));
        self.op(cx, "enqueue", &[Arg::Task(p), Arg::Number(enq.bits())]);
    }
    fn dequeue(&self, cx: &mut Cx<'_>, p: Task<'_>, deq: DeqFlags) {
        let p = Some(cx.same(p));
        self.op(cx, "dequeue", &[Arg::Task(p), Arg::Number(deq.bits())]);
    }
    fn dispatch(&self, cx: &mut Cx<'_>, cpu: CpuId, prev: Option<Task<'_>>) {
        let prev = prev.map(|prev| cx.same(prev));
        self.op(cx, "dispatch", &[Arg::Number(cpu.0.into()), Arg::Task(prev)]);
    }
    fn tick(&self, cx: &mut Cx<'_>, p: Task<'_>) {
        let p = Some(cx.same(p));
        self.op(cx, "tick", &[Arg::Task(p)]);
    }
    fn runnable(&self, cx: &mut Cx<'_>, p: Task<'_>, enq: EnqFlags) {
        let p = Some(cx.same(p));
        self.op(cx, "runnable", &[Arg::Task(p), Arg::Number(enq.bits())]);
    }
    fn running(&self, cx: &mut Cx<'_>, p: Task<'_>) {
        let p = Some(cx.same(p));
        self.op(cx, "running", &[Arg::Task(p)]);
    }
    fn stopping(&self, cx: &mut Cx<'_>, p: Task<'_>, runnable: bool) {
        let p = Some(cx.same(p));
        self.op(cx, "stopping", &[Arg::Task(p), Arg::Number(runnable.into())]);
    }
    fn quiescent(&self, cx: &mut Cx<'_>, p: Task<'_>, deq: DeqFlags) {
        let p = Some(cx.same(p));
        self.op(cx, "quiescent", &[Arg::Task(p), Arg::Number(deq.bits())]);
    }
    fn set_weight(&self, cx: &mut Cx<'_>, p: Task<'_>, weight: u32) {
        let p = Some(cx.same(p));
        self.op(cx, "set_weight", &[Arg::Task(p), Arg::Number(weight.into())]);
    }
    fn timer(&self, cx: &mut Cx<'_>, cookie: u32) {
        if let Err((name, failed)) = self.timer_fires(cx, cookie) {
            let why = match failed {
                Failed::Fault(fault) => fault.to_string(),
                Failed::Other(why) => why,
            };
            cx.fault(format!("the timer callback {name}: {why}"));
        }
    }
    fn update_idle(&self, cx: &mut Cx<'_>, cpu: CpuId, idle: bool) {
        self.op(cx, "update_idle", &[Arg::Number(cpu.0.into()), Arg::Number(idle.into())]);
    }
    fn init_task(&self, cx: &mut Cx<'_>, p: Task<'_>, args: &InitTaskArgs) -> Result<(), Errno> {
        let p = Some(cx.same(p));
        // struct scx_init_task_args: fork, and a cgroup that programs cannot see yet.
        let mut bytes = [0; 16];
        bytes[0] = args.fork.into();
        let bytes: &[u8] = &bytes;
        self.op_errno(cx, "init_task", &[Arg::Task(p), Arg::Struct("scx_init_task_args", bytes)])
    }
    fn exit_task(&self, cx: &mut Cx<'_>, p: Task<'_>, args: &ExitTaskArgs) {
        let p = Some(cx.same(p));
        let bytes: &[u8] = &[args.cancelled.into()];
        self.op(cx, "exit_task", &[Arg::Task(p), Arg::Struct("scx_exit_task_args", bytes)]);
    }
    fn enable(&self, cx: &mut Cx<'_>, p: Task<'_>) {
        let p = Some(cx.same(p));
        self.op(cx, "enable", &[Arg::Task(p)]);
    }
    fn disable(&self, cx: &mut Cx<'_>, p: Task<'_>) {
        let p = Some(cx.same(p));
        self.op(cx, "disable", &[Arg::Task(p)]);
    }
    fn init(&self, cx: &mut Cx<'_>) -> Result<(), Errno> {
        self.op_errno(cx, "init", &[])
    }
    fn exit(&self, cx: &mut Cx<'_>, info: &ExitInfo) {
        self.op(cx, "exit", &[Arg::Exit(info)]);
    }
}
