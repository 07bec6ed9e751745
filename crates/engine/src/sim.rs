//! What the simulation remembers about a task and a process, beside the kernel's own objects.

use crate::flags::EnqFlags;
use crate::program::{Index, Pc};
use crate::task::{Pid, TaskIdx};
use crate::trace::{PidLoss, TaskName};
use crate::{CpuId, Nanos};

/// A process's place in the slab of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProcIdx(pub u32);

/// What a task does when its current burst of CPU time is over. The burst itself is
/// [`Sim::burst_left`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Fetch the next instruction.
    Fetch,
    /// Carry out the instruction at this place, whose cost the burst was.
    Perform(Pc),
    /// Look again whether a child has ended; for all of them or for one.
    WaitChild { all: bool },
    /// Look again whether the threads that this task created have ended.
    Join,
    /// An exec: have the other threads ended? (`de_thread()`)
    ExecWait { entry: Pc, name: Index },
    /// An exec: is the leader a zombie? Then take its pid.
    ExecTakePid { entry: Pc, name: Index },
    /// The new image starts.
    ExecDone { entry: Pc, name: Index, nonleader: bool },
    /// `do_exit()` begins: `PF_EXITING`.
    ExitBegin { group: bool },
    /// `sched_autogroup_exit_task()`.
    ExitGroup,
    /// `exit_notify()`.
    ExitNotify,
    /// `do_task_dead()`.
    ExitDead,
    /// `init`: reap what has ended, then sleep until more ends.
    Reap,
    /// The worker of the watchdog.
    Watchdog,
    /// It has looked, and sleeps until it is time again.
    WatchdogDone,
    /// An idle task, or a kernel thread that never wakes up.
    Idle,
}

/// Where a task waits, if it sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It does not, or only for time.
    Nothing,
    Mutex(Index),
    Cond {
        cond: Index,
        mutex: Index,
    },
    Barrier(Index),
    /// For a child or a thread, or in an exec for the others.
    Other,
    /// For the end of an attach or detach (`scx_fork_rwsem`).
    ForkSem,
}

/// A loop that a task is in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoopState {
    /// The place of its `LoopEnd`.
    pub end: Pc,
    /// Rounds left after this one; `None` for ever.
    pub left: Option<u32>,
}

/// A task that another remembers, safe against the reuse of its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskKey {
    pub idx: TaskIdx,
    pub generation: u32,
}

/// A process that a task remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcKey {
    pub idx: ProcIdx,
    pub generation: u32,
}

/// The task's child that it created last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Child {
    Process(ProcKey),
    Thread(TaskKey),
}

/// What is known about a task that may turn out to be lost. All of it is recorded as it happens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// The pid at `ops.init_task`, and when.
    pub init: Option<(Pid, Nanos)>,
    /// The pids that the task lost, oldest first.
    pub lost_pids: Vec<LostPid>,
    /// The last time it came into the scheduler's custody.
    pub enqueued: Option<Enqueued>,
    /// Lookups since then that should have found it and did not.
    pub missed: Vec<Missed>,
    /// The last insert that named it since then.
    pub inserted: Option<Inserted>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct LostPid {
    pub pid: Pid,
    pub at: Nanos,
    pub how: PidLoss,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Enqueued {
    pub at: Nanos,
    pub cpu: CpuId,
    pub pid: Pid,
}

/// Which key a lookup used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Pid(Pid),
    Tid(u64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Missed {
    pub at: Nanos,
    pub cpu: CpuId,
    pub op: &'static str,
    pub key: Key,
    pub got: Option<TaskName>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Inserted {
    pub at: Nanos,
    pub cpu: CpuId,
    pub dsq: u64,
    pub fate: Fate,
}

/// What became of an insert from `ops.dispatch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Buffered,
    Done,
    /// The queue sequence number had moved on.
    Stale,
    /// The task was not the scheduler's to dispatch.
    NotQueued,
    /// The task belongs to another scheduler.
    NotOwned,
}

/// What the simulation remembers about a task. What a wakeup and a switch need comes first, and
/// fits one line of the cache.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(crate) struct Sim {
    pub act: Act,
    /// CPU time until `act`.
    pub burst_left: Nanos,
    /// Instead: the time at which the burst ends, CPU or not.
    pub burst_until: Option<Nanos>,
    /// For a wakeup between its two halves: the enqueue flags.
    pub wake_enq: EnqFlags,
    pub pc: Pc,
    /// Tells a timeout that counts from one whose sleep has ended.
    pub sleeps: u32,
    /// The CPU whose code woke it.
    pub waker: CpuId,
    /// Tells the tasks apart that have had this place.
    pub generation: u32,
    /// When it became runnable, to the ns; `p->scx.runnable_at` has jiffies.
    pub runnable_since: Nanos,
    pub wait: Wait,
    /// References: the task's own until it is dead, its parent's until it is released, and that
    /// of whoever works on it.
    pub usage: u32,
    /// The name it was started under.
    pub name: Index,
    pub proc: ProcIdx,
    /// Live threads that it created.
    pub created: u32,
    /// SIGKILL is pending.
    pub killed: bool,
    /// Its pid is released: `release_task()`.
    pub released: bool,
    pub on_fair: bool,
    pub in_tid_table: bool,
    pub loops: Vec<LoopState>,
    pub priq_key: Option<(i64, u64)>,
    pub timers: Vec<(Index, Nanos)>,
    pub last_child: Option<Child>,
    /// Who created it, for a thread.
    pub creator: Option<TaskKey>,
    pub evidence: Evidence,
}

impl Sim {
    pub fn new(generation: u32, proc: ProcIdx, pc: Pc, name: Index) -> Self {
        Self {
            generation,
            usage: 2,
            act: Act::Fetch,
            burst_left: Nanos::ZERO,
            burst_until: None,
            pc,
            loops: Vec::new(),
            name,
            proc,
            wait: Wait::Nothing,
            sleeps: 0,
            wake_enq: EnqFlags::empty(),
            killed: false,
            released: false,
            timers: Vec::new(),
            last_child: None,
            creator: None,
            created: 0,
            on_fair: false,
            in_tid_table: false,
            priq_key: None,
            runnable_since: Nanos::ZERO,
            waker: CpuId(0),
            evidence: Evidence::default(),
        }
    }
}

/// `struct signal_struct`: what the threads of a process share.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub generation: u32,
    pub leader: TaskIdx,
    /// The threads that are not released, oldest first.
    pub threads: Vec<TaskIdx>,
    /// `signal->live`: threads that have not begun to exit.
    pub live: u32,
    pub parent: Option<ProcIdx>,
    pub first_child: Option<ProcIdx>,
    pub last_child: Option<ProcIdx>,
    pub next_sibling: Option<ProcIdx>,
    pub prev_sibling: Option<ProcIdx>,
    /// Children that wait to be reaped, in the order of their end.
    pub zombies: std::collections::VecDeque<ProcIdx>,
    /// Threads that sleep until a child ends.
    pub child_waiters: Vec<TaskIdx>,
    pub group_exec_task: Option<TaskIdx>,
    pub notify_count: i32,
    /// `SIGNAL_GROUP_EXIT`: all threads are to end.
    pub group_exit: bool,
    /// `SIGCHLD` is ignored: nobody waits for the children.
    pub ignore_children: bool,
}

impl Process {
    pub fn new(generation: u32, leader: TaskIdx, parent: Option<ProcIdx>) -> Self {
        Self {
            generation,
            leader,
            threads: Vec::new(),
            live: 0,
            parent,
            first_child: None,
            last_child: None,
            next_sibling: None,
            prev_sibling: None,
            zombies: std::collections::VecDeque::new(),
            child_waiters: Vec::new(),
            group_exec_task: None,
            notify_count: 0,
            group_exit: false,
            ignore_children: false,
        }
    }
}

/// A lock of the program.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mutex {
    pub owner: Option<TaskIdx>,
    pub waiters: std::collections::VecDeque<TaskIdx>,
}

/// A condition variable or barrier of the program: who waits.
pub(crate) type Waiters = std::collections::VecDeque<TaskIdx>;
