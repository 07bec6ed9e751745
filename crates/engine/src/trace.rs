//! What happened, for those who watch.

use crate::task::{Pid, TaskStruct};
use crate::{CpuId, Nanos};

/// A task in a record: by tid, with the pid and name it had then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskName {
    /// The task's id, 0 for the boot CPU's idle task.
    pub tid: u64,
    /// Its pid at the time.
    pub pid: Pid,
    /// Its process's pid.
    pub tgid: Pid,
    comm: [u8; 16],
}

impl TaskName {
    pub(crate) fn of(p: &TaskStruct) -> Self {
        Self { tid: p.scx.tid, pid: p.pid(), tgid: Pid(p.tgid), comm: p.comm }
    }

    /// Its name at the time.
    pub fn comm(&self) -> &str {
        let end = self.comm.iter().position(|&b| b == 0).unwrap_or(self.comm.len());
        std::str::from_utf8(&self.comm[..end]).unwrap_or("?")
    }

    /// Whether it is an idle task.
    pub fn is_idle(&self) -> bool {
        self.pid == Pid(0)
    }
}

/// How a task lost a pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PidLoss {
    /// Its own exit released it: nobody waits for the task.
    Exit,
    /// Its parent waited for it.
    Reaped {
        /// The parent.
        by: TaskName,
    },
    /// An exec in another thread released the old leader.
    ExecReleased {
        /// The thread.
        by: TaskName,
    },
    /// An exec by the task itself, not the leader then, gave it the leader's pid instead.
    ExecSwapped {
        /// The old leader, which got this pid in exchange.
        leader: TaskName,
    },
    /// An exec in another thread took it, and left the task that thread's pid.
    ExecTaken {
        /// The thread.
        by: TaskName,
    },
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When.
    pub at: Nanos,
    /// On which CPU, if on one.
    pub cpu: Option<CpuId>,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum What {
    /// The CPU went from one task to another; `prev_state` is the letter that `ps` shows.
    Switch { prev: TaskName, prev_state: char, next: TaskName },
    /// A task woke up; `target` is where it was enqueued.
    Wakeup { task: TaskName, target: CpuId },
    /// A task came into the scheduler's custody (`ops.enqueue` without direct dispatch).
    Queued { task: TaskName },
    /// A task went into a dispatch queue.
    Inserted { task: TaskName, dsq: u64 },
    /// A fork or a new thread.
    Fork { parent: TaskName, child: TaskName, thread: bool },
    /// A fork that failed, with the error number. Its tid is burnt.
    ForkFailed { parent: TaskName, tid: u64, errno: i32 },
    /// An exec; `old` is the task before it.
    Exec { old: TaskName, new: TaskName, nonleader: bool },
    /// `PF_EXITING` was set.
    Exiting { task: TaskName },
    /// The task lost a pid.
    PidLost { task: TaskName, pid: Pid, how: PidLoss },
    /// The task is past its last switch: `sched_ext_dead()`.
    Dead { task: TaskName },
    /// A lookup by pid found nothing, or another task, for a task that had this pid and waits in
    /// the scheduler's custody.
    LookupMissed { lost: TaskName, pid: Pid, got: Option<TaskName> },
    /// A task's nice value, affinity, policy or cgroup changed.
    Changed { task: TaskName, what: String },
    /// A fatal signal.
    Killed { task: TaskName, by: TaskName },
    /// A scheduler was attached; all tasks are its.
    Attached { name: String },
    /// A scheduler's exit began.
    Exit { name: String, kind: u32, reason: &'static str, msg: String },
    /// A scheduler is gone.
    Detached { name: String },
    /// The watchdog found a task that was runnable for too long.
    Stall { task: TaskName, runnable_since: Nanos },
    /// A line in the kernel's log.
    Log { line: String },
}
