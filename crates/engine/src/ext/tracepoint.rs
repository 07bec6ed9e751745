//! Where a scheduler's own programs run beside its operations: at tracepoints of the kernel (`tp_btf`)
//! and where functions begin (`fentry`). Those whose moment and arguments the engine has.

use bitflags::bitflags;

use super::sched::ExitPhase;
use crate::engine::Engine;
use crate::kfunc::{Op, Scope};
use crate::task::TaskIdx;
use crate::{CpuId, SchedId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Tracepoint,
    Function,
}

impl TracepointSet {
    /// The tracepoint of this name; nothing if the engine does not have it.
    pub fn named(name: &str) -> Option<Self> {
        Self::find(Place::Tracepoint, name)
    }

    /// The beginning of the function of this name; nothing if the engine does not have it.
    pub fn function(name: &str) -> Option<Self> {
        Self::find(Place::Function, name)
    }

    /// All functions.
    pub fn functions() -> Self {
        let all = Self::ALL.iter().filter(|(place, ..)| *place == Place::Function);
        all.fold(Self::empty(), |all, (.., one)| all | *one)
    }

    fn find(at: Place, named: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(place, name, _)| *place == at && *name == named);
        found.map(|(.., one)| *one)
    }
}

macro_rules! tracepoints {
    ($($(#[doc = $doc:literal])* $bit:ident = $at:literal $place:ident $name:literal $variant:ident $fields:tt,)*) => {
        bitflags! {
            /// Tracepoints, and functions, that the engine has.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
            pub struct TracepointSet: u16 {
                $($(#[doc = $doc])* const $bit = 1 << $at;)*
            }
        }

        impl TracepointSet {
            const ALL: &[(Place, &str, Self)] = &[$((Place::$place, $name, Self::$bit),)*];
        }

        /// One of them is passed, with the arguments of the tracepoint or of the function, in the
        /// kernel's order.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Tracepoint<T> {
            $($(#[doc = $doc])* $variant $fields,)*
        }

        impl<T> Tracepoint<T> {
            /// Which one it is.
            pub fn kind(&self) -> TracepointSet {
                match self {
                    $(Self::$variant { .. } => TracepointSet::$bit,)*
                }
            }
        }
    };
}

tracepoints! {
    /// `sched_switch`: a CPU goes from one task to another. `prev_state` is `prev->__state` as
    /// `__schedule()` found it. `current` is still `prev`.
    SCHED_SWITCH = 0 Tracepoint "sched_switch"
        SchedSwitch { preempt: bool, prev: T, next: T, prev_state: u32 },
    /// `sched_waking`: a wakeup begins.
    SCHED_WAKING = 1 Tracepoint "sched_waking" SchedWaking { p: T },
    /// `sched_wakeup`: the task is runnable.
    SCHED_WAKEUP = 2 Tracepoint "sched_wakeup" SchedWakeup { p: T },
    /// `sched_wakeup_new`: the same, for one that was forked just now.
    SCHED_WAKEUP_NEW = 3 Tracepoint "sched_wakeup_new" SchedWakeupNew { p: T },
    /// `sched_migrate_task`: the task is to be on another CPU (`set_task_cpu()`).
    SCHED_MIGRATE_TASK = 4 Tracepoint "sched_migrate_task" SchedMigrateTask { p: T, dest_cpu: CpuId },
    /// `sched_process_fork`: before the child is woken up. Threads are forked too.
    SCHED_PROCESS_FORK = 5 Tracepoint "sched_process_fork" SchedProcessFork { parent: T, child: T },
    /// `sched_process_exec`: the new image is in place. `old_pid` is the pid before `de_thread()`.
    /// The kernel's last argument, `struct linux_binprm *`, the engine does not have.
    SCHED_PROCESS_EXEC = 6 Tracepoint "sched_process_exec" SchedProcessExec { p: T, old_pid: i32 },
    /// `sched_process_exit`: the task has `PF_EXITING`. `group_dead`: it is the last of its process.
    SCHED_PROCESS_EXIT = 7 Tracepoint "sched_process_exit" SchedProcessExit { p: T, group_dead: bool },
    /// `task_rename`: the task is to have another name, which only an exec does here.
    TASK_RENAME = 8 Tracepoint "task_rename" TaskRename { p: T, comm: String },
    /// `cgroup_attach_task`: the task has moved to a cgroup, which is given by its id.
    CGROUP_ATTACH_TASK = 9 Tracepoint "cgroup_attach_task"
        CgroupAttachTask { cgroup: u64, p: T, threadgroup: bool },
    /// `scx_tick()`: a CPU's timer tick, after `ops.tick`. Its argument is the CPU's runqueue.
    SCX_TICK = 10 Function "scx_tick" ScxTick { cpu: CpuId },
    /// `wake_up_new_task()`: a task that was forked just now is to be put on a runqueue.
    WAKE_UP_NEW_TASK = 11 Function "wake_up_new_task" WakeUpNewTask { p: T },
    /// `sched_ext_dead()`: the task is past its last switch.
    SCHED_EXT_DEAD = 12 Function "sched_ext_dead" SchedExtDead { p: T },
}

impl<T> Tracepoint<T> {
    /// The same about other names of the tasks.
    fn map<U>(&self, f: impl Fn(&T) -> U) -> Tracepoint<U> {
        match self {
            Self::SchedSwitch { preempt, prev, next, prev_state } => Tracepoint::SchedSwitch {
                preempt: *preempt,
                prev: f(prev),
                next: f(next),
                prev_state: *prev_state,
            },
            Self::SchedWaking { p } => Tracepoint::SchedWaking { p: f(p) },
            Self::SchedWakeup { p } => Tracepoint::SchedWakeup { p: f(p) },
            Self::SchedWakeupNew { p } => Tracepoint::SchedWakeupNew { p: f(p) },
            Self::SchedMigrateTask { p, dest_cpu } => {
                Tracepoint::SchedMigrateTask { p: f(p), dest_cpu: *dest_cpu }
            }
            Self::SchedProcessFork { parent, child } => {
                Tracepoint::SchedProcessFork { parent: f(parent), child: f(child) }
            }
            Self::SchedProcessExec { p, old_pid } => {
                Tracepoint::SchedProcessExec { p: f(p), old_pid: *old_pid }
            }
            Self::SchedProcessExit { p, group_dead } => {
                Tracepoint::SchedProcessExit { p: f(p), group_dead: *group_dead }
            }
            Self::TaskRename { p, comm } => Tracepoint::TaskRename { p: f(p), comm: comm.clone() },
            Self::ScxTick { cpu } => Tracepoint::ScxTick { cpu: *cpu },
            Self::WakeUpNewTask { p } => Tracepoint::WakeUpNewTask { p: f(p) },
            Self::SchedExtDead { p } => Tracepoint::SchedExtDead { p: f(p) },
            Self::CgroupAttachTask { cgroup, p, threadgroup } => {
                Tracepoint::CgroupAttachTask { cgroup: *cgroup, p: f(p), threadgroup: *threadgroup }
            }
        }
    }

    /// Whether the kernel passes it with interrupts off, under a lock of the scheduler's core.
    fn is_locked(&self) -> bool {
        let unlocked = TracepointSet::SCHED_PROCESS_FORK
            | TracepointSet::SCHED_PROCESS_EXEC
            | TracepointSet::SCHED_PROCESS_EXIT
            | TracepointSet::TASK_RENAME
            | TracepointSet::CGROUP_ATTACH_TASK
            | TracepointSet::WAKE_UP_NEW_TASK
            | TracepointSet::SCHED_EXT_DEAD;
        !unlocked.contains(self.kind())
    }
}

impl Engine {
    /// Passes a tracepoint: calls all schedulers that have a program there. `make` is only called if
    /// there is one.
    pub(crate) fn trace(
        &mut self,
        kind: TracepointSet,
        make: impl FnOnce(&Self) -> Tracepoint<TaskIdx>,
    ) {
        if self.traced.contains(kind) {
            let current = self.rq(self.this_cpu).curr;
            let passed = make(self);
            self.pass(&passed, current);
        }
    }

    /// The same, with `current` another task than the one that the runqueue has.
    pub(crate) fn trace_as(
        &mut self,
        current: TaskIdx,
        kind: TracepointSet,
        make: impl FnOnce(&Self) -> Tracepoint<TaskIdx>,
    ) {
        if self.traced.contains(kind) {
            let passed = make(self);
            self.pass(&passed, current);
        }
    }

    fn pass(&mut self, passed: &Tracepoint<TaskIdx>, current: TaskIdx) {
        debug_assert!(self.traced.contains(passed.kind()));
        let op = if passed.is_locked() { Op::TraceLocked } else { Op::Trace };
        for sched in (0..self.scheds.len() as u32).map(super::sched::SchedIdx) {
            let sch = self.sch(sched);
            if sch.exit_phase == ExitPhase::Done || !sch.ops.tracepoints.contains(passed.kind()) {
                continue;
            }
            let scope = Scope { op, locked: None, subject: None, current: Some(current) };
            self.call_scoped(sched, scope, |ops, cx| {
                let passed = passed.map(|&p| cx.task(p));
                ops.tracepoint(cx, &passed);
            });
        }
    }

    /// Which tracepoints somebody has a program at: those of all schedulers that are not gone.
    pub(crate) fn note_tracepoints(&mut self) {
        let there = self.scheds.iter().filter(|sch| sch.exit_phase != ExitPhase::Done);
        self.traced = there.fold(TracepointSet::empty(), |all, sch| all | sch.ops.tracepoints);
    }

    /// What a scheduler's user space has the kernel do between two events: `f` runs a program of the
    /// kind syscall (`bpf_prog_test_run_syscall()`). `init` stands in for the process that asks for
    /// it: the program is on its CPU, and it is `current`.
    pub fn prog_run<R>(&mut self, sched: SchedId, f: impl FnOnce(&mut crate::Cx<'_>) -> R) -> R {
        let init = self.init;
        let saved = self.this_cpu;
        self.this_cpu = self.task_cpu(init);
        let sched = super::sched::SchedIdx(sched.0);
        let scope = Scope { op: Op::Syscall, locked: None, subject: None, current: Some(init) };
        let result = self.call_scoped(sched, scope, |_, cx| f(cx));
        self.this_cpu = saved;
        self.rcu_gp();
        result
    }
}
