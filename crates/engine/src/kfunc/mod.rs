//! What a scheduler can call: the kernel's `scx_bpf_*` functions, and those of BPF's core that
//! look tasks up.

mod any;
mod context;
mod cpus;
mod dispatch;
mod idle;
mod insert;
mod objects;
mod reenq;
mod timer;
mod walk;

use std::marker::PhantomData;

pub(crate) use context::{Context, Op};
pub use objects::{ProcessId, Queue, QueueId, RunQueue};
pub use walk::DsqIter;

use crate::engine::Engine;
use crate::ext::sched::SchedIdx;
use crate::ops::Form;
use crate::task::{TaskIdx, TaskStruct};
use crate::{CpuId, ExitKind};

/// A task, for the length of one callback: the pointer of an RCU read section.
///
/// It cannot be kept: a scheduler's [`State`](crate::State) is `'static`. Remember
/// [`TaskStruct::scx`]`.tid` and look the task up when it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task<'r> {
    pub(crate) idx: TaskIdx,
    section: PhantomData<&'r ()>,
}

/// Where a task is kept: see [`Cx::slot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// The place, used again after the task is freed.
    pub index: u32,
    /// Which of the tasks that were kept there.
    pub generation: u32,
}

/// The core, as a callback sees it. Its methods are the kernel's functions of the same names,
/// less `scx_bpf_`.
///
/// A call that the kernel's verifier would refuse (a function that the operation may not call, or
/// one of the other form) ends the scheduler with an error that says so.
#[derive(Debug)]
pub struct Cx<'r> {
    pub(crate) core: &'r mut Engine,
    pub(crate) sched: SchedIdx,
    pub(crate) scope: Scope,
}

/// Within what a function is called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    pub op: Op,
    /// `scx_locked_rq()`: the CPU whose runqueue lock the core holds.
    pub locked: Option<CpuId>,
    /// `current->scx.kf_tasks[]`: the task that the operation is about.
    pub subject: Option<TaskIdx>,
    /// `current`, where it is not what the runqueue says.
    pub current: Option<TaskIdx>,
}

impl<'r> Cx<'r> {
    pub(crate) fn new(core: &'r mut Engine, sched: SchedIdx, scope: Scope) -> Self {
        Self { core, sched, scope }
    }

    pub(crate) fn task(&self, idx: TaskIdx) -> Task<'r> {
        Task { idx, section: PhantomData }
    }

    /// The task's `struct task_struct`, to read.
    pub fn get(&self, p: Task<'_>) -> &TaskStruct {
        self.core.p(p.idx)
    }

    /// Where the engine keeps the task. Tells it from any other of this run.
    pub fn slot(&self, p: Task<'_>) -> Slot {
        Slot { index: p.idx.0, generation: self.core.sim(p.idx).generation }
    }

    /// The task that is kept there; nothing once it was freed. No task is freed while an operation
    /// runs.
    pub fn task_in(&self, slot: Slot) -> Option<Task<'r>> {
        let sim = self.core.sim.get(slot.index as usize)?;
        (sim.generation == slot.generation).then(|| self.task(TaskIdx(slot.index)))
    }

    /// The same task, for as long as this: one that an operation was given is there until the
    /// operation returns.
    pub fn same(&self, p: Task<'_>) -> Task<'r> {
        self.task(p.idx)
    }

    /// Ends the scheduler with an error of the core's (`SCX_EXIT_ERROR`): one of its programs did
    /// what no kernel would let it do. Whether this is why: one that has ended keeps its reason.
    pub fn fault(&mut self, msg: impl Into<String>) -> bool {
        self.error_kind(ExitKind::Error, msg.into())
    }

    /// Writes `p->scx.slice`, as a program may that has the task at hand, whoever's it is.
    pub fn write_slice(&mut self, p: Task<'_>, slice: u64) {
        if !self.core.is_current(p.idx) {
            self.core.p_mut(p.idx).scx.slice = slice;
            return;
        }
        let cpu = self.core.task_cpu(p.idx);
        self.core.charge_left_out_ticks(cpu);
        self.core.p_mut(p.idx).scx.slice = slice;
        // A tick sees to the next one on its CPU itself.
        if self.scope.op != Op::Tick || cpu != self.core.this_cpu {
            self.core.rearm_tick(cpu);
        }
    }

    /// `p->scx.slice`, which each tick takes the time from that the task has run. The engine leaves out
    /// ticks that do nothing else, so a running task's [`TaskStruct`] may have an older one.
    pub fn slice(&self, p: Task<'_>) -> u64 {
        self.core.slice_after_ticks(p.idx)
    }

    /// Writes `p->scx.dsq_vtime`, as a program may that has the task at hand, whoever's it is.
    pub fn write_dsq_vtime(&mut self, p: Task<'_>, vtime: u64) {
        self.core.p_mut(p.idx).scx.dsq_vtime = vtime;
    }

    /// The scheduler's state, as the type that its [`Scheduler::new_state`](crate::Scheduler::new_state)
    /// made; `None` for another type.
    pub fn state<S: 'static>(&mut self) -> Option<&mut S> {
        self.core.sch_mut(self.sched).state.as_any_mut().downcast_mut()
    }

    /// Whether this is an operation of the scheduler's, or a timer's callback: no other program may
    /// write a task's members.
    pub fn is_operation(&self) -> bool {
        !matches!(self.scope.op, Op::Syscall | Op::Trace | Op::TraceLocked)
    }

    /// Whether there is a scheduler for a program that is none of its operations: from the time that
    /// the kernel takes it until it is gone (`scx_prog_sched()`).
    pub fn has_scheduler(&self) -> bool {
        let sch = self.core.sch(self.sched);
        sch.parent().is_some() || self.core.root == Some(self.sched)
    }

    fn error_kind(&mut self, kind: ExitKind, msg: String) -> bool {
        let cpu = self.core.this_cpu.0 as i32;
        self.core.scx_exit(self.sched, kind, 0, cpu, msg)
    }

    /// Whether the operation may call a function of these groups; if not, that ends the scheduler.
    fn only_from(&mut self, function: &str, groups: Context) -> bool {
        let fine = self.scope.op.allows().intersects(groups);
        if !fine {
            self.misuse(function);
        }
        fine
    }

    fn misuse(&mut self, function: &str) {
        let from = match self.scope.op {
            Op::Syscall => "a syscall program".to_owned(),
            Op::Trace | Op::TraceLocked => "a tracing program".to_owned(),
            op => format!("ops.{}()", op.name()),
        };
        let msg = format!("{function}() cannot be called from {from}: no kernel would load this");
        self.error_kind(ExitKind::Error, msg);
    }

    /// Whether a function that addresses CPUs by number may be called: not in the cid form. The
    /// other way round the kernel lets it be.
    fn is_cpu_form(&mut self, function: &str) -> bool {
        let fine = self.core.sch(self.sched).ops.form == Form::Cpu;
        if !fine {
            let msg = format!("{function}() is not for the cid form: no kernel would load this");
            self.error_kind(ExitKind::Error, msg);
        }
        fine
    }
}
