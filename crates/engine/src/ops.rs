//! What a scheduler is: `struct sched_ext_ops`, and its cid form `struct sched_ext_ops_cid`.

use std::any::Any;
use std::fmt;

use bitflags::bitflags;

use crate::ext::tracepoint::{Tracepoint, TracepointSet};
use crate::flags::{DeqFlags, EnqFlags, OpsFlags, WakeFlags};
use crate::kfunc::{Cx, Task};
use crate::{Cid, CpuId, Cpumask, ExitInfo};

bitflags! {
    /// Which operations a scheduler has. An absent one gets the kernel's default, and the presence
    /// of some changes how the core behaves, as in the kernel.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct OpSet: u32 {
        /// `select_cpu`, or `select_cid`. Default: the built-in idle selection.
        const SELECT_CPU = 1 << 0;
        /// `enqueue`. Default: insert into `SCX_DSQ_GLOBAL`.
        const ENQUEUE = 1 << 1;
        /// `dequeue`.
        const DEQUEUE = 1 << 2;
        /// `dispatch`. Default: nothing beyond the global queue.
        const DISPATCH = 1 << 3;
        /// `tick`.
        const TICK = 1 << 4;
        /// `runnable`.
        const RUNNABLE = 1 << 5;
        /// `running`.
        const RUNNING = 1 << 6;
        /// `stopping`.
        const STOPPING = 1 << 7;
        /// `quiescent`.
        const QUIESCENT = 1 << 8;
        /// `yield`. Default: the slice ends.
        const YIELD = 1 << 9;
        /// `set_weight`.
        const SET_WEIGHT = 1 << 10;
        /// `set_cpumask`, or `set_cmask`.
        const SET_CPUMASK = 1 << 11;
        /// `update_idle`. Turns built-in idle tracking off unless `KEEP_BUILTIN_IDLE` is set.
        const UPDATE_IDLE = 1 << 12;
        /// `init_task`.
        const INIT_TASK = 1 << 13;
        /// `exit_task`.
        const EXIT_TASK = 1 << 14;
        /// `enable`.
        const ENABLE = 1 << 15;
        /// `disable`.
        const DISABLE = 1 << 16;
        /// `dump`.
        const DUMP = 1 << 17;
        /// `dump_cpu`, or `dump_cid`.
        const DUMP_CPU = 1 << 18;
        /// `dump_task`.
        const DUMP_TASK = 1 << 19;
        /// `cgroup_init`.
        const CGROUP_INIT = 1 << 20;
        /// `cgroup_exit`.
        const CGROUP_EXIT = 1 << 21;
        /// `cgroup_prep_move`.
        const CGROUP_PREP_MOVE = 1 << 22;
        /// `cgroup_move`.
        const CGROUP_MOVE = 1 << 23;
        /// `cgroup_cancel_move`.
        const CGROUP_CANCEL_MOVE = 1 << 24;
        /// `sub_attach`. Without it no sub-scheduler can attach.
        const SUB_ATTACH = 1 << 25;
        /// `sub_detach`.
        const SUB_DETACH = 1 << 26;
        /// `init`.
        const INIT = 1 << 27;
        /// `exit`.
        const EXIT = 1 << 28;
        /// `cpu_acquire`. Only in the form that counts CPUs by number.
        const CPU_ACQUIRE = 1 << 29;
        /// `cpu_release`. Only in the form that counts CPUs by number.
        const CPU_RELEASE = 1 << 30;
    }
}

/// How a scheduler addresses CPUs. The schedulers of one hierarchy all have the same form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Form {
    /// `struct sched_ext_ops`: by number.
    #[default]
    Cpu,
    /// `struct sched_ext_ops_cid`: by topological number. From 7.2 on sub-schedulers and the roots
    /// that take them have this form.
    Cid,
}

/// The data members of `struct sched_ext_ops`, and which operations there are.
#[derive(Clone, Debug, Default)]
pub struct Ops {
    /// Alphanumeric, `_` and `.`; 1..=127 bytes.
    pub name: String,
    /// The form.
    pub form: Form,
    /// The operations that the scheduler has.
    pub implements: OpSet,
    /// `SCX_OPS_*`.
    pub flags: OpsFlags,
    /// How long a runnable task may wait, in ms, before the watchdog ejects the scheduler.
    /// 0 for the longest, which is 30 s.
    pub timeout_ms: u32,
    /// Slots in each CPU's dispatch buffer. 0 for 32.
    pub dispatch_max_batch: u32,
    /// Room for the debug dump in bytes. 0 for 32768.
    pub exit_dump_len: u32,
    /// For a sub-scheduler: the cgroup it attaches to.
    pub sub_cgroup: Option<String>,
    /// The tracepoints at which programs of its own run, from the call that attaches it until it is
    /// gone.
    pub tracepoints: TracepointSet,
}

/// A positive kernel error number, 1..=4095. The core treats others as the kernel does: with an
/// error of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

/// The argument of [`Scheduler::init_task`]: `struct scx_init_task_args`.
#[derive(Clone, Copy, Debug)]
pub struct InitTaskArgs {
    /// The task is being forked, as opposed to the scheduler being attached.
    pub fork: bool,
    /// The id of the task's cgroup.
    pub cgroup: u64,
}

/// The argument of [`Scheduler::exit_task`]: `struct scx_exit_task_args`.
#[derive(Clone, Copy, Debug)]
pub struct ExitTaskArgs {
    /// The task never got past `init_task`.
    pub cancelled: bool,
}

/// The argument of the dump operations: `struct scx_dump_ctx`.
#[derive(Clone, Debug)]
pub struct DumpCtx {
    /// The exit kind's number.
    pub kind: u32,
    /// The exit code.
    pub exit_code: i64,
    /// The reason as text.
    pub reason: &'static str,
    /// Virtual time.
    pub at_ns: u64,
}

/// The argument of `sub_attach` and `sub_detach`.
#[derive(Clone, Debug)]
pub struct SubArgs {
    /// The id of the sub-scheduler's cgroup.
    pub cgroup_id: u64,
    /// The path of that cgroup.
    pub cgroup_path: String,
}

/// What a scheduler remembers: the maps and globals of a BPF scheduler.
///
/// It lives in the engine, so that it clones with it, and a callback borrows it through
/// [`Cx::state`] only between calls to the core: across such a call other CPUs may have changed
/// it, as they may in the kernel. Being `'static`, it cannot hold a [`Task`]; schedulers remember
/// tasks by tid.
pub trait State: Any + Send + Sync + fmt::Debug {
    /// A copy.
    fn clone_state(&self) -> Box<dyn State>;
    /// For [`Cx::state`].
    fn as_any(&self) -> &dyn Any;
    /// For [`Cx::state`].
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

impl<T: Any + Clone + Send + Sync + fmt::Debug> State for T {
    fn clone_state(&self) -> Box<dyn State> {
        Box::new(self.clone())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

impl Clone for Box<dyn State> {
    fn clone(&self) -> Self {
        (**self).clone_state()
    }
}

/// A scheduler: the operations of `struct sched_ext_ops` and of its cid form.
///
/// `self` is the program, which never changes; what changes is its [`State`]. Operations that
/// [`Ops::implements`] does not name are never called. Each operation's contract is that of the
/// kernel's member of the same name in `kernel/sched/ext/internal.h`; it runs under an RCU read
/// lock, so that every [`Task`] it is given or looks up stays valid until it returns.
#[allow(unused_variables, missing_docs)]
pub trait Scheduler: fmt::Debug + Send + Sync {
    /// The data members. Read once, at attach.
    fn ops(&self) -> Ops;
    /// The state at attach.
    fn new_state(&self) -> Box<dyn State>;
    /// Counters of the scheduler's own for the report, in the order to print them.
    fn counters(&self, state: &dyn State) -> Vec<(String, u64)> {
        Vec::new()
    }

    fn select_cpu(&self, cx: &mut Cx<'_>, p: Task<'_>, prev: CpuId, wake: WakeFlags) -> CpuId {
        prev
    }
    fn select_cid(&self, cx: &mut Cx<'_>, p: Task<'_>, prev: Cid, wake: WakeFlags) -> Cid {
        prev
    }
    fn enqueue(&self, cx: &mut Cx<'_>, p: Task<'_>, enq: EnqFlags) {}
    fn dequeue(&self, cx: &mut Cx<'_>, p: Task<'_>, deq: DeqFlags) {}
    fn dispatch(&self, cx: &mut Cx<'_>, cpu: CpuId, prev: Option<Task<'_>>) {}
    fn dispatch_cid(&self, cx: &mut Cx<'_>, cid: Cid, prev: Option<Task<'_>>) {}
    fn tick(&self, cx: &mut Cx<'_>, p: Task<'_>) {}
    fn runnable(&self, cx: &mut Cx<'_>, p: Task<'_>, enq: EnqFlags) {}
    fn running(&self, cx: &mut Cx<'_>, p: Task<'_>) {}
    fn stopping(&self, cx: &mut Cx<'_>, p: Task<'_>, runnable: bool) {}
    fn quiescent(&self, cx: &mut Cx<'_>, p: Task<'_>, deq: DeqFlags) {}
    fn yield_task(&self, cx: &mut Cx<'_>, from: Task<'_>) {}
    fn set_weight(&self, cx: &mut Cx<'_>, p: Task<'_>, weight: u32) {}
    fn set_cpumask(&self, cx: &mut Cx<'_>, p: Task<'_>, cpus: &Cpumask) {}
    /// `set_cmask`: the same set in cid space.
    fn set_cmask(&self, cx: &mut Cx<'_>, p: Task<'_>, cids: &Cpumask) {}
    fn update_idle(&self, cx: &mut Cx<'_>, cpu: CpuId, idle: bool) {}
    fn update_idle_cid(&self, cx: &mut Cx<'_>, cid: Cid, idle: bool) {}
    fn cpu_acquire(&self, cx: &mut Cx<'_>, cpu: CpuId) {}
    /// A higher class takes the CPU. `next` is its task. In the engine that is the fair class, for
    /// which the kernel's reason is `SCX_CPU_PREEMPT_UNKNOWN`.
    fn cpu_release(&self, cx: &mut Cx<'_>, cpu: CpuId, next: Task<'_>) {}
    fn init_task(&self, cx: &mut Cx<'_>, p: Task<'_>, args: &InitTaskArgs) -> Result<(), Errno> {
        Ok(())
    }
    fn exit_task(&self, cx: &mut Cx<'_>, p: Task<'_>, args: &ExitTaskArgs) {}
    fn enable(&self, cx: &mut Cx<'_>, p: Task<'_>) {}
    fn disable(&self, cx: &mut Cx<'_>, p: Task<'_>) {}
    fn dump(&self, cx: &mut Cx<'_>, ctx: &DumpCtx) {}
    fn dump_cpu(&self, cx: &mut Cx<'_>, ctx: &DumpCtx, cpu: CpuId, idle: bool) {}
    fn dump_cid(&self, cx: &mut Cx<'_>, ctx: &DumpCtx, cid: Cid, idle: bool) {}
    fn dump_task(&self, cx: &mut Cx<'_>, ctx: &DumpCtx, p: Task<'_>) {}
    fn cgroup_init(&self, cx: &mut Cx<'_>, cgroup: u64) -> Result<(), Errno> {
        Ok(())
    }
    fn cgroup_exit(&self, cx: &mut Cx<'_>, cgroup: u64) {}
    fn cgroup_prep_move(
        &self,
        cx: &mut Cx<'_>,
        p: Task<'_>,
        from: u64,
        to: u64,
    ) -> Result<(), Errno> {
        Ok(())
    }
    fn cgroup_move(&self, cx: &mut Cx<'_>, p: Task<'_>, from: u64, to: u64) {}
    fn cgroup_cancel_move(&self, cx: &mut Cx<'_>, p: Task<'_>, from: u64, to: u64) {}
    fn sub_attach(&self, cx: &mut Cx<'_>, args: &SubArgs) -> Result<(), Errno> {
        Ok(())
    }
    fn sub_detach(&self, cx: &mut Cx<'_>, args: &SubArgs) {}
    /// A timer that [`Cx::timer_start`] started with this cookie goes off, in softirq context: no lock
    /// is held.
    fn timer(&self, cx: &mut Cx<'_>, cookie: u32) {}
    /// A tracepoint of [`Ops::tracepoints`] is passed.
    fn tracepoint(&self, cx: &mut Cx<'_>, at: &Tracepoint<Task<'_>>) {}
    fn init(&self, cx: &mut Cx<'_>) -> Result<(), Errno> {
        Ok(())
    }
    fn exit(&self, cx: &mut Cx<'_>, info: &ExitInfo) {}
}
