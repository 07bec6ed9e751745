//! What a program reads of the kernel's objects by their pointers, beside a task's own fields:
//! processes, cgroups, runqueues and dispatch queues.

use super::{Cx, Task};
use crate::ext::sched::DsqIdx;
use crate::flags::{DsqId, pf};
use crate::sim::ProcIdx;
use crate::task::{NIL, SchedClass, TaskIdx};
use crate::{CpuId, Nanos};

/// A process: `struct signal_struct`. Tells it from any other of this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    /// The place, used again after the process is freed.
    pub index: u32,
    /// Which of the processes that were kept there.
    pub generation: u32,
}

/// A dispatch queue, whoever's: `struct scx_dispatch_q`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u32);

/// `struct scx_dispatch_q`, to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue<'r> {
    /// `id`.
    pub id: DsqId,
    /// Tasks in it.
    pub nr: u32,
    /// Insertions so far.
    pub seq: u64,
    /// The first task.
    pub first: Option<Task<'r>>,
    /// The number of the scheduler that it belongs to; nothing for a local queue.
    pub sched: Option<u32>,
}

/// `struct rq` with its `struct scx_rq`, to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunQueue<'r> {
    /// The task that runs.
    pub curr: Task<'r>,
    /// The idle task.
    pub idle: Task<'r>,
    /// Runnable tasks of all classes.
    pub nr_running: u32,
    /// `scx.nr_running`.
    pub scx_nr_running: u32,
    /// `scx.flags`: see [`crate::flags::rqf`].
    pub scx_flags: u32,
    /// `scx.cpu_released`.
    pub cpu_released: bool,
    /// `scx.cpuperf_target`: what [`Cx::cpuperf_set`] asked for last, 0..=1024.
    pub cpuperf_target: u32,
}

impl<'r> Cx<'r> {
    /// `jiffies`, which starts at 0.
    pub fn jiffies(&self) -> u64 {
        self.core.jiffies()
    }

    /// `p->migration_disabled`, with what callbacks add for the task that they run on.
    pub fn migration_disabled(&self, p: Task<'_>) -> u32 {
        self.core.migration_disabled_where(p.idx, self.current() == p)
    }

    /// The CPU time that a task has used, up to now if it runs.
    pub fn sum_exec_runtime(&self, p: Task<'_>) -> Nanos {
        let se = &self.get(p).se;
        let runs = self.core.is_current(p.idx) && self.get(p).sched_class() != SchedClass::Idle;
        let since = if runs { self.core.now.0.saturating_sub(se.exec_start) } else { 0 };
        Nanos(se.sum_exec_runtime + since)
    }

    /// Whether the fair class has the task queued, or runs it.
    pub fn is_on_fair(&self, p: Task<'_>) -> bool {
        self.core.sim(p.idx).on_fair
    }

    /// Whether the task has memory of its own: no kernel thread has, nor what is exiting.
    pub fn has_memory(&self, p: Task<'_>) -> bool {
        self.get(p).flags & (pf::PF_KTHREAD | pf::PF_IDLE | pf::PF_EXITING) == 0
    }

    /// Whether the task still has its pid, which it loses when it is released.
    pub fn has_pid(&self, p: Task<'_>) -> bool {
        !self.core.sim(p.idx).released
    }

    /// `bpf_task_acquire()`: keeps the task from being freed until [`Cx::task_release`]; whether it
    /// could, which is while it can still run or is not released.
    pub fn task_acquire(&mut self, p: Task<'_>) -> bool {
        let sim = self.core.sim_mut(p.idx);
        if sim.usage == 0 {
            return false;
        }
        sim.usage += 1;
        true
    }

    /// `bpf_task_release()`: takes one [`Cx::task_acquire`] back, and no more than those.
    pub fn task_release(&mut self, p: Task<'_>) {
        if self.core.sim(p.idx).usage > 0 {
            self.core.put_task(p.idx);
        }
    }

    /// The process of a task.
    pub fn process(&self, p: Task<'_>) -> ProcessId {
        let ProcIdx(index) = self.core.sim(p.idx).proc;
        ProcessId { index, generation: self.core.procs[index as usize].generation }
    }

    fn proc(&self, process: ProcessId) -> Option<&crate::sim::Process> {
        let proc = self.core.procs.get(process.index as usize)?;
        (proc.generation == process.generation).then_some(proc)
    }

    /// `group_leader`.
    pub fn group_leader(&self, p: Task<'_>) -> Task<'r> {
        let ProcIdx(index) = self.core.sim(p.idx).proc;
        self.task(self.core.procs[index as usize].leader)
    }

    /// `real_parent`: the leader of the process that waits for this one. That of `init` is the boot
    /// CPU's idle task.
    pub fn real_parent(&self, p: Task<'_>) -> Task<'r> {
        let ProcIdx(index) = self.core.sim(p.idx).proc;
        let parent = self.core.procs[index as usize].parent;
        let of = |parent: ProcIdx| self.core.procs[parent.0 as usize].leader;
        self.task(parent.map_or(self.core.rq(CpuId(0)).idle, of))
    }

    /// The leader of a process; nothing once the process is freed.
    pub fn leader(&self, process: ProcessId) -> Option<Task<'r>> {
        Some(self.task(self.proc(process)?.leader))
    }

    /// `signal->live`: threads that have not begun to exit.
    pub fn live_threads(&self, process: ProcessId) -> Option<u32> {
        Some(self.proc(process)?.live)
    }

    /// The threads of a process that are not released, oldest first.
    pub fn threads(&self, process: ProcessId) -> impl Iterator<Item = Task<'r>> {
        let all: &[TaskIdx] = self.proc(process).map_or(&[], |proc| &proc.threads);
        all.iter().map(|p| self.task(*p))
    }

    /// All tasks that have a pid, oldest first; idle tasks have none (`for_each_process_thread()`).
    pub fn all_threads(&self) -> impl Iterator<Item = Task<'r>> {
        let tasks = self.core.scx_tasks.iter(&self.core.tasks);
        let known = tasks.filter(|&p| {
            self.core.p(p).sched_class() != SchedClass::Idle && !self.core.sim(p).released
        });
        known.map(|p| self.task(p))
    }

    /// How many cgroups there are. Their ids count from 1, the root's; none comes or goes.
    pub fn nr_cgroups(&self) -> u64 {
        self.core.cgroups.len() as u64
    }

    /// The id of a cgroup's parent; nothing for the root, and for what is no cgroup.
    pub fn cgroup_parent(&self, cgroup: u64) -> Option<u64> {
        let parent = self.core.cgroups.parent(self.core.cgroups.by_id(cgroup)?)?;
        Some(self.core.cgroups.id(parent))
    }

    /// The path of a cgroup; nothing for what is none.
    pub fn cgroup_path(&self, cgroup: u64) -> Option<&str> {
        Some(self.core.cgroups.path(self.core.cgroups.by_id(cgroup)?))
    }

    /// `p->sched_task_group`: the task's cgroup, by its id.
    pub fn cgroup_of(&self, p: Task<'_>) -> u64 {
        self.core.cgroups.id(self.core.p(p.idx).cgroup)
    }

    /// `p->scx.cgrp_moving_from`, by its id.
    pub fn cgroup_moving_from(&self, p: Task<'_>) -> Option<u64> {
        let from = self.get(p).scx.cgrp_moving_from;
        (from != NIL).then(|| self.core.cgroups.id(from))
    }

    /// `p->scx.sched`: the number of the task's scheduler, among all of this run.
    pub fn sched_of(&self, p: Task<'_>) -> Option<u32> {
        self.core.task_sched(p.idx).map(|sched| sched.0)
    }

    /// `p->scx.dsq`: the queue that the task is in.
    pub fn queue_of(&self, p: Task<'_>) -> Option<QueueId> {
        let dsq = self.get(p).scx.dsq;
        (dsq != NIL).then_some(QueueId(dsq))
    }

    /// A CPU's local queue; nothing for what is no CPU.
    pub fn local_queue(&self, cpu: CpuId) -> Option<QueueId> {
        let rq = self.core.rqs.get(cpu.index())?;
        Some(QueueId(rq.scx.local_dsq))
    }

    /// A queue, to read.
    pub fn queue(&self, queue: QueueId) -> Option<Queue<'r>> {
        let dsq = self.core.dsqs.get(queue.0 as usize)?;
        let first = self.core.dsq_next(DsqIdx(queue.0), None);
        Some(Queue {
            id: dsq.id,
            nr: dsq.nr,
            seq: dsq.seq,
            first: first.map(|p| self.task(p)),
            sched: dsq.sched.map(|sched| sched.0),
        })
    }

    /// The CPUs that share a CPU's last-level cache; none for what is no CPU.
    pub fn llc(&self, cpu: CpuId) -> crate::Cpumask {
        let known = cpu.index() < self.core.nr_cpus();
        if known { self.core.topology.llc(cpu) } else { crate::Cpumask::EMPTY }
    }

    /// A CPU's runqueue, to read; nothing for what is no CPU.
    pub fn run_queue(&self, cpu: CpuId) -> Option<RunQueue<'r>> {
        let rq = self.core.rqs.get(cpu.index())?;
        Some(RunQueue {
            curr: self.task(rq.curr),
            idle: self.task(rq.idle),
            nr_running: rq.nr_running,
            scx_nr_running: rq.scx.nr_running,
            scx_flags: rq.scx.flags,
            cpu_released: rq.scx.cpu_released,
            cpuperf_target: rq.scx.cpuperf_target,
        })
    }

    /// How many tasks the table from tid to task has (`scx_tid_hash.nelems`).
    pub fn tids_in_table(&self) -> u32 {
        let tasks = self.core.scx_tasks.iter(&self.core.tasks);
        tasks.filter(|&p| self.core.sim(p).in_tid_table).count() as u32
    }
}
