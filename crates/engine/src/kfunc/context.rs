//! Which functions an operation may call: the groups of `scx_kfunc_context_filter()` (Linux 7.2).

use bitflags::bitflags;

bitflags! {
    /// `enum scx_kf_allow_flags`: groups of functions, by what the core holds when they are called.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Context: u8 {
        /// No runqueue lock is held.
        const UNLOCKED = 1 << 0;
        /// `scx_bpf_cid_override()`.
        const INIT = 1 << 1;
        /// `scx_bpf_reenqueue_local()`.
        const CPU_RELEASE = 1 << 2;
        /// What moves tasks to a CPU that picks.
        const DISPATCH = 1 << 3;
        /// Inserts.
        const ENQUEUE = 1 << 4;
        /// The built-in choice of a CPU.
        const SELECT_CPU = 1 << 5;
    }
}

/// Which operation runs. Some functions can only be called from some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    SelectCpu,
    Enqueue,
    Dequeue,
    Dispatch,
    Tick,
    Runnable,
    Running,
    Stopping,
    Quiescent,
    Yield,
    SetWeight,
    SetCpumask,
    UpdateIdle,
    CpuAcquire,
    CpuRelease,
    InitTask,
    ExitTask,
    Enable,
    Disable,
    Dump,
    CgroupInit,
    CgroupExit,
    CgroupPrepMove,
    CgroupMove,
    SubAttach,
    SubDetach,
    Init,
    Exit,
    /// The callback of a timer of the scheduler's.
    Timer,
    /// A program that user space runs.
    Syscall,
    /// A program at a tracepoint.
    Trace,
    /// The same, where the kernel holds one of the core's locks.
    TraceLocked,
}

impl Op {
    /// The operation's name in `struct sched_ext_ops`.
    pub fn name(self) -> &'static str {
        match self {
            Self::SelectCpu => "select_cpu",
            Self::Enqueue => "enqueue",
            Self::Dequeue => "dequeue",
            Self::Dispatch => "dispatch",
            Self::Tick => "tick",
            Self::Runnable => "runnable",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Quiescent => "quiescent",
            Self::Yield => "yield",
            Self::SetWeight => "set_weight",
            Self::SetCpumask => "set_cpumask",
            Self::UpdateIdle => "update_idle",
            Self::CpuAcquire => "cpu_acquire",
            Self::CpuRelease => "cpu_release",
            Self::InitTask => "init_task",
            Self::ExitTask => "exit_task",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Dump => "dump",
            Self::CgroupInit => "cgroup_init",
            Self::CgroupExit => "cgroup_exit",
            Self::CgroupPrepMove => "cgroup_prep_move",
            Self::CgroupMove => "cgroup_move",
            Self::SubAttach => "sub_attach",
            Self::SubDetach => "sub_detach",
            Self::Init => "init",
            Self::Exit => "exit",
            Self::Timer => "timer",
            Self::Syscall => "syscall",
            Self::Trace | Self::TraceLocked => "trace",
        }
    }

    /// `scx_kf_allow_flags[]`. What is in no group can be called by all.
    pub fn allows(self) -> Context {
        match self {
            Self::SelectCpu | Self::Enqueue => Context::SELECT_CPU | Context::ENQUEUE,
            Self::Dispatch => Context::ENQUEUE | Context::DISPATCH,
            Self::CpuRelease => Context::CPU_RELEASE,
            Self::Init => Context::UNLOCKED | Context::INIT,
            Self::InitTask
            | Self::Dump
            | Self::CgroupInit
            | Self::CgroupExit
            | Self::CgroupPrepMove
            | Self::SubAttach
            | Self::SubDetach
            | Self::Exit
            | Self::Timer
            | Self::Syscall => Context::UNLOCKED,
            _ => Context::empty(),
        }
    }

    /// `bpf_scx_check_member()`: whether the kernel lets it sleep. Only these may create queues.
    pub fn may_sleep(self) -> bool {
        self.allows().contains(Context::UNLOCKED) && !matches!(self, Self::Dump | Self::Timer)
    }
}
