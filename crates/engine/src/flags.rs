//! The kernel's numbers: flags, identifiers and limits of sched_ext as Linux 7.2 has them
//! (`include/linux/sched/ext.h`, `kernel/sched/ext/{internal,types}.h`).

use bitflags::bitflags;

/// `SCX_SLICE_DFL`: the slice a task gets when nobody gave it one, in ns.
pub const SCX_SLICE_DFL: u64 = 20_000_000;
/// `SCX_SLICE_BYPASS`: the slice in bypass mode, in ns.
pub const SCX_SLICE_BYPASS: u64 = 5_000_000;
/// `SCX_SLICE_INF`: a slice that never ends.
pub const SCX_SLICE_INF: u64 = u64::MAX;

/// `SCX_CPUPERF_ONE`: the highest speed of a CPU, and the largest capacity.
pub const SCX_CPUPERF_ONE: u32 = 1024;
/// `SCX_DSP_DFL_MAX_BATCH`: slots in the dispatch buffer unless the scheduler says otherwise.
pub const SCX_DSP_DFL_MAX_BATCH: u32 = 32;
/// `SCX_DSP_MAX_LOOPS`: how often one pick calls `ops.dispatch` at most.
pub const SCX_DSP_MAX_LOOPS: u32 = 32;
/// `SCX_WATCHDOG_MAX_TIMEOUT` in ms: the longest timeout, and the default.
pub const SCX_WATCHDOG_MAX_TIMEOUT_MS: u32 = 30_000;
/// `SCX_EXIT_MSG_LEN`: room for an exit message, with its terminating zero.
pub const SCX_EXIT_MSG_LEN: usize = 1024;
/// `SCX_EXIT_DUMP_DFL_LEN`: room for the debug dump unless the scheduler says otherwise.
pub const SCX_EXIT_DUMP_DFL_LEN: u32 = 32_768;
/// `SCX_TASK_ITER_BATCH`: an iteration over all tasks lets go of its locks that often.
pub const SCX_TASK_ITER_BATCH: u32 = 32;
/// `SCX_BYPASS_HOST_NTH`: a host looks at its bypassing children's queues every so many rounds.
pub const SCX_BYPASS_HOST_NTH: u32 = 2;
/// `SCX_REENQ_LOCAL_MAX_REPEAT`: tasks that go back from a local queue may be inserted there again
/// so many times in a row.
pub const SCX_REENQ_LOCAL_MAX_REPEAT: u32 = 256;
/// `SCX_SUB_MAX_DEPTH`: how deep sub-schedulers nest.
pub const SCX_SUB_MAX_DEPTH: u32 = 4;
/// `SCX_OPS_NAME_LEN`: room for a scheduler's name, with its terminating zero.
pub const SCX_OPS_NAME_LEN: usize = 128;

/// Identifiers of dispatch queues. Everything below `SCX_DSQ_FLAG_BUILTIN` is a scheduler's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DsqId(pub u64);

impl DsqId {
    /// `SCX_DSQ_FLAG_BUILTIN`.
    pub const FLAG_BUILTIN: u64 = 1 << 63;
    const FLAG_LOCAL_ON: u64 = Self::FLAG_BUILTIN | 1 << 62;
    /// `SCX_DSQ_INVALID`.
    pub const INVALID: Self = Self(Self::FLAG_BUILTIN);
    /// `SCX_DSQ_GLOBAL`.
    pub const GLOBAL: Self = Self(Self::FLAG_BUILTIN | 1);
    /// `SCX_DSQ_LOCAL`: the local queue of the CPU at hand.
    pub const LOCAL: Self = Self(Self::FLAG_BUILTIN | 2);
    /// `SCX_DSQ_BYPASS`.
    pub const BYPASS: Self = Self(Self::FLAG_BUILTIN | 3);

    /// `SCX_DSQ_LOCAL_ON | n`: the local queue of a CPU, or of a cid for a cid-form scheduler.
    pub const fn local_on(n: u32) -> Self {
        Self(Self::FLAG_LOCAL_ON | n as u64)
    }

    /// The number in a [`DsqId::local_on`].
    pub const fn as_local_on(self) -> Option<u32> {
        if self.0 & Self::FLAG_LOCAL_ON == Self::FLAG_LOCAL_ON { Some(self.0 as u32) } else { None }
    }

    /// Whether the core made the queue.
    pub const fn is_builtin(self) -> bool {
        self.0 & Self::FLAG_BUILTIN != 0
    }
}

bitflags! {
    /// `enum scx_ops_flags`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct OpsFlags: u64 {
        /// Track idle CPUs also when `ops.update_idle` is there.
        const KEEP_BUILTIN_IDLE = 1 << 0;
        /// Enqueue a task that is alone on its CPU when its slice ends, instead of going on with it.
        const ENQ_LAST = 1 << 1;
        /// Enqueue exiting tasks like others, instead of sending them to the local queue.
        const ENQ_EXITING = 1 << 2;
        /// Take only tasks whose policy is `SCHED_EXT`.
        const SWITCH_PARTIAL = 1 << 3;
        /// Enqueue tasks that must not migrate like others.
        const ENQ_MIGRATION_DISABLED = 1 << 4;
        /// A wakeup may end on the CPU that was chosen for the task, after an interrupt, without
        /// [`EnqFlags::CPU_SELECTED`]; and `ops.select_cpu` may be left out.
        const ALLOW_QUEUED_WAKEUP = 1 << 5;
        /// Idle masks by node: functions that name no node are an error. The engine has one node.
        const BUILTIN_IDLE_PER_NODE = 1 << 6;
        /// Take [`EnqFlags::IMMED`] as set for every insert into a local queue.
        const ALWAYS_ENQ_IMMED = 1 << 7;
        /// Keep the table from tid to task.
        const TID_TO_TASK = 1 << 8;
    }

    /// `enum scx_enq_flags`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct EnqFlags: u64 {
        /// The task wakes up (`ENQUEUE_WAKEUP`).
        const WAKEUP = 0x01;
        /// The task comes back from a change of its properties (`ENQUEUE_RESTORE`).
        const RESTORE = 0x02;
        /// The task moves (`ENQUEUE_MOVE`).
        const MOVE = 0x04;
        /// The runqueue's clock is up to date (`ENQUEUE_NOCLOCK`).
        const NOCLOCK = 0x08;
        /// The task's class changes (`ENQUEUE_CLASS`).
        const CLASS = 0x40;
        /// Insert at the head (`ENQUEUE_HEAD`).
        const HEAD = 0x0001_0000;
        /// The task comes from another CPU (`ENQUEUE_MIGRATED`).
        const MIGRATED = 0x0004_0000;
        /// The task is new (`ENQUEUE_INITIAL`).
        const INITIAL = 0x0008_0000;
        /// `ops.select_cpu` was called for this wakeup (`ENQUEUE_RQ_SELECTED`).
        const CPU_SELECTED = 0x0010_0000;
        /// Take the CPU from its current task. Implies `HEAD`.
        const PREEMPT = 1 << 32;
        /// For local queues: the task runs at once and goes on, or goes back to the scheduler.
        const IMMED = 1 << 33;
        /// The task was queued before and is enqueued again.
        const REENQ = 1 << 40;
        /// The task is the only one its CPU has.
        const LAST = 1 << 41;
        /// Internal: clear `ops_state` when done.
        const CLEAR_OPSS = 1 << 56;
        /// Internal: order by vtime.
        const DSQ_PRIQ = 1 << 57;
        /// Internal: fell back to the global queue.
        const GDSQ_FALLBACK = 1 << 59;
    }

    /// `enum scx_deq_flags`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct DeqFlags: u64 {
        /// The task goes to sleep (`DEQUEUE_SLEEP`).
        const SLEEP = 0x01;
        /// The task leaves for a change of its properties (`DEQUEUE_SAVE`).
        const SAVE = 0x02;
        /// The task moves (`DEQUEUE_MOVE`).
        const MOVE = 0x04;
        /// The runqueue's clock is up to date (`DEQUEUE_NOCLOCK`).
        const NOCLOCK = 0x08;
        /// The task's class changes (`DEQUEUE_CLASS`).
        const CLASS = 0x40;
        /// The task goes for good (`DEQUEUE_SPECIAL`).
        const SPECIAL = 0x0001_0000;
        /// Core scheduling runs it undispatched.
        const CORE_SCHED_EXEC = 1 << 32;
        /// A property changes: affinity, nice value, policy, cgroup, scheduler.
        const SCHED_CHANGE = 1 << 33;
    }

    /// `enum scx_wake_flags`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct WakeFlags: u64 {
        /// The task is new (`WF_FORK`).
        const FORK = 0x04;
        /// The task wakes up (`WF_TTWU`).
        const TTWU = 0x08;
        /// The waker is about to sleep (`WF_SYNC`).
        const SYNC = 0x10;
    }

    /// `enum scx_kick_flags`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct KickFlags: u64 {
        /// Only if the CPU is idle.
        const IDLE = 1 << 0;
        /// End the current task's slice first.
        const PREEMPT = 1 << 1;
        /// Wait until the CPU has gone through a scheduling pass.
        const WAIT = 1 << 2;
    }

    /// `enum scx_pick_idle_cpu_flags`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct PickIdleFlags: u64 {
        /// Only a CPU whose siblings are idle too.
        const CORE = 1 << 0;
        /// Only a CPU of the same node. The engine has one node.
        const IN_NODE = 1 << 1;
    }
}

/// Bits of `p->scx.flags`: `enum scx_ent_flags`.
pub mod ent {
    /// On the ext runqueue.
    pub const QUEUED: u32 = 1 << 0;
    /// In the scheduler's custody: `ops.dequeue` is owed.
    pub const IN_CUSTODY: u32 = 1 << 1;
    /// Take a new `runnable_at` at the next enqueue.
    pub const RESET_RUNNABLE_AT: u32 = 1 << 2;
    /// The last dequeue was for sleep.
    pub const DEQD_FOR_SLEEP: u32 = 1 << 3;
    /// `ops.init_task` of a sub-scheduler that is being enabled has seen the task.
    pub const SUB_INIT: u32 = 1 << 4;
    /// In a local queue with [`EnqFlags::IMMED`](super::EnqFlags::IMMED), or was, until it is enqueued afresh.
    pub const IMMED: u32 = 1 << 5;
    /// Where the task's state starts, see [`crate::TaskState`].
    pub const STATE_SHIFT: u32 = 8;
    /// The task's state.
    pub const STATE_MASK: u32 = 7 << STATE_SHIFT;
    /// Why the task is enqueued again: `scx_bpf_dsq_reenq()` and its relatives.
    pub const REENQ_KFUNC: u32 = 1 << 12;
    /// It was to run at once and could not.
    pub const REENQ_IMMED: u32 = 2 << 12;
    /// It was to run at once, did, and was preempted.
    pub const REENQ_PREEMPTED: u32 = 3 << 12;
    /// The reason.
    pub const REENQ_REASON_MASK: u32 = 3 << 12;
    /// Bit of `p->scx.dsq_flags`: queued by vtime.
    pub const DSQ_ON_PRIQ: u32 = 1 << 0;
}

/// Values of `p->policy`.
pub(crate) mod policy {
    pub const SCHED_NORMAL: u32 = 0;
    pub const SCHED_BATCH: u32 = 3;
    pub const SCHED_IDLE: u32 = 5;
    pub const SCHED_EXT: u32 = 7;
}

/// Bits of `p->flags`.
pub mod pf {
    /// An idle thread.
    pub const PF_IDLE: u32 = 0x0000_0002;
    /// Getting shut down.
    pub const PF_EXITING: u32 = 0x0000_0004;
    /// A kernel thread.
    pub const PF_KTHREAD: u32 = 0x0020_0000;
}

/// Values of `p->__state`.
pub mod state {
    /// Runnable.
    pub const TASK_RUNNING: u32 = 0x0000;
    /// Sleeps; signals wake it.
    pub const TASK_INTERRUPTIBLE: u32 = 0x0001;
    /// Sleeps; signals do not wake it.
    pub const TASK_UNINTERRUPTIBLE: u32 = 0x0002;
    /// Will not run again after the next switch.
    pub const TASK_DEAD: u32 = 0x0080;
    /// Fatal signals wake it.
    pub const TASK_WAKEKILL: u32 = 0x0100;
    /// Between the choice of a CPU and the enqueue on it.
    pub const TASK_WAKING: u32 = 0x0200;
    /// New, not yet woken up.
    pub const TASK_NEW: u32 = 0x0800;
    /// Sleeps; only fatal signals wake it.
    pub const TASK_KILLABLE: u32 = TASK_WAKEKILL | TASK_UNINTERRUPTIBLE;
    /// Values of `p->exit_state`: waits for its parent.
    pub const EXIT_ZOMBIE: i32 = 0x20;
    /// Released.
    pub const EXIT_DEAD: i32 = 0x10;
}

/// Bits of `rq->scx.flags`: `enum scx_rq_flags`.
pub mod rqf {
    /// The scheduler considers the CPU online.
    pub const ONLINE: u32 = 1 << 0;
    /// The tick may stop: the current task has an infinite slice.
    pub const CAN_STOP_TICK: u32 = 1 << 1;
    /// Deferred work waits for the end of the pick.
    pub const BAL_CB_PENDING: u32 = 1 << 6;
    /// A wakeup is enqueueing.
    pub const IN_WAKEUP: u32 = 1 << 16;
    /// A pick is going on.
    pub const IN_BALANCE: u32 = 1 << 17;
}

/// Values of `p->scx.ops_state`: `enum scx_ops_state`.
pub mod opss {
    /// The core has the task.
    pub const NONE: u64 = 0;
    /// On its way to the scheduler.
    pub const QUEUEING: u64 = 1;
    /// The scheduler has it.
    pub const QUEUED: u64 = 2;
    /// On its way back.
    pub const DISPATCHING: u64 = 3;
    /// Where the queue sequence number starts.
    pub const QSEQ_SHIFT: u32 = 2;
    /// The state without the sequence number.
    pub const STATE_MASK: u64 = (1 << QSEQ_SHIFT) - 1;
    /// The sequence number in place.
    pub const QSEQ_MASK: u64 = !STATE_MASK;
}

/// Kernel error numbers.
pub mod errno {
    /// No such entry.
    pub const ENOENT: i32 = 2;
    /// No such process.
    pub const ESRCH: i32 = 3;
    /// Try again.
    pub const EAGAIN: i32 = 11;
    /// Out of memory.
    pub const ENOMEM: i32 = 12;
    /// Busy.
    pub const EBUSY: i32 = 16;
    /// Exists.
    pub const EEXIST: i32 = 17;
    /// No such device.
    pub const ENODEV: i32 = 19;
    /// Invalid.
    pub const EINVAL: i32 = 22;
    /// No space.
    pub const ENOSPC: i32 = 28;
    /// Protocol error: what an invalid number from a callback becomes.
    pub const EPROTO: i32 = 71;
    /// Not supported.
    pub const EOPNOTSUPP: i32 = 95;
    /// The largest number that is an error.
    pub const MAX_ERRNO: i32 = 4095;
}
