//! `struct rq` and `struct scx_rq`: a CPU's runqueue.

use std::collections::{BTreeSet, VecDeque};

use crate::ext::reenq::ReenqLocal;
use crate::ext::sched::DsqIdx;
use crate::flags::{EnqFlags, SCX_CPUPERF_ONE, rqf};
use crate::list::{DsqLink, List, RunnableLink};
use crate::task::{SchedClass, TaskIdx};
use crate::{Cpumask, Nanos};

/// `direct_dispatch_task`, a per-CPU variable: what an insert means while a task is enqueued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DirectDispatch {
    /// Not enqueueing: an insert goes to the dispatch buffer.
    Off,
    /// This task is being enqueued; an insert of it is a direct dispatch.
    For(TaskIdx),
    /// The direct dispatch has happened.
    Done,
}

/// `struct scx_rq`.
#[derive(Clone, Debug)]
pub(crate) struct ScxRq {
    /// `local_dsq`, by its place among all queues, which is the CPU's number.
    pub local_dsq: u32,
    pub runnable_list: List<RunnableLink>,
    pub ddsp_deferred_locals: List<DsqLink>,
    pub nr_running: u32,
    pub flags: u32,
    pub extra_enq_flags: EnqFlags,
    pub cpus_to_kick: Cpumask,
    pub cpus_to_kick_if_idle: Cpumask,
    pub cpus_to_preempt: Cpumask,
    pub cpus_to_wait: Cpumask,
    pub cpus_to_sync: Cpumask,
    /// `scx_kick_syncs`: where the CPUs that are waited for stood.
    pub kick_syncs: Vec<(crate::CpuId, u64)>,
    /// `kick_cpus_irq_work` is queued.
    pub kick_pending: bool,
    pub kick_sync: u64,
    pub kick_sync_pending: bool,
    pub deferred_pending: bool,
    /// Tasks with `SCX_ENQ_IMMED` in the local queue.
    pub nr_immed: u32,
    pub deferred_reenq_locals: VecDeque<ReenqLocal>,
    pub deferred_reenq_locals_seq: u64,
    pub deferred_reenq_users: VecDeque<DsqIdx>,
    /// `ops.cpu_release` was called, `ops.cpu_acquire` not yet.
    pub cpu_released: bool,
    pub cpuperf_target: u32,
    pub sub_dispatch_prev: Option<TaskIdx>,
    pub direct_dispatch: DirectDispatch,
}

/// The fair class's runqueue: tasks in the order of their virtual runtime.
#[derive(Clone, Debug, Default)]
pub(crate) struct FairRq {
    /// (vruntime, tid, place); the current task is not in it.
    pub queue: BTreeSet<(u64, u64, TaskIdx)>,
    pub min_vruntime: u64,
}

/// The deadline server that keeps the ext class alive under a busy fair class.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExtServer {
    pub phase: ServerPhase,
    /// Tells a timer that counts from an older one.
    pub generation: u32,
    /// CPU time left of this period's.
    pub runtime: Nanos,
}

/// `dl_server`'s states, as a deferrable server has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ServerPhase {
    /// No ext task is runnable, or nothing is above the ext class.
    #[default]
    Stopped,
    /// Waits for the zero-laxity point; ext tasks may run on their own until then.
    Deferred,
    /// Runs ext tasks above the fair class until its runtime is used up.
    Active,
}

/// `struct rq`.
#[derive(Clone, Debug)]
pub(crate) struct Rq {
    pub curr: TaskIdx,
    pub idle: TaskIdx,
    /// The class of the task that is picked, or that is about to be.
    pub next_class: SchedClass,
    pub nr_running: u32,
    pub need_resched: bool,
    /// `resched_curr()` asked for it, and not only `kick_sync_wait()`, which waits for other CPUs.
    pub resched_wanted: bool,
    /// `set_tsk_need_resched()` of the task that is about to run.
    pub resched_next: bool,
    /// An `Event::Resched` is under way.
    pub resched_queued: bool,
    /// When the current burst of the current task began to use the CPU.
    pub burst_since: Nanos,
    /// Tells an `Event::BurstEnd` that counts from older ones.
    pub burst_generation: u32,
    /// Tells an `Event::Tick` that counts; also `None` when no tick is under way.
    pub tick_generation: u32,
    pub tick_at: Option<Nanos>,
    /// The stopper is to move this task to that CPU.
    pub stop_work: Vec<(TaskIdx, crate::CpuId)>,
    /// The stopper has the CPU, and `curr` is the idle task in its place.
    pub stopper_runs: bool,
    /// `distribute_cpu_mask_prev`: the CPU that `cpumask_any_distribute()` chose last, here.
    pub distribute_prev: u32,
    pub scx: ScxRq,
    pub fair: FairRq,
    /// Since when the current fair task has had its turn.
    pub fair_since: Nanos,
    pub ext_server: ExtServer,
}

impl Rq {
    pub fn new(cpu: u32, idle: TaskIdx) -> Self {
        Self {
            curr: idle,
            idle,
            next_class: SchedClass::Idle,
            nr_running: 0,
            need_resched: false,
            resched_wanted: false,
            resched_next: false,
            resched_queued: false,
            burst_since: Nanos::ZERO,
            burst_generation: 0,
            tick_generation: 0,
            tick_at: None,
            stop_work: Vec::new(),
            stopper_runs: false,
            distribute_prev: 0,
            scx: ScxRq {
                local_dsq: cpu,
                runnable_list: List::default(),
                ddsp_deferred_locals: List::default(),
                nr_running: 0,
                flags: rqf::ONLINE,
                extra_enq_flags: EnqFlags::empty(),
                cpus_to_kick: Cpumask::EMPTY,
                cpus_to_kick_if_idle: Cpumask::EMPTY,
                cpus_to_preempt: Cpumask::EMPTY,
                cpus_to_wait: Cpumask::EMPTY,
                cpus_to_sync: Cpumask::EMPTY,
                kick_syncs: Vec::new(),
                kick_pending: false,
                kick_sync: 0,
                kick_sync_pending: false,
                deferred_pending: false,
                nr_immed: 0,
                deferred_reenq_locals: VecDeque::new(),
                deferred_reenq_locals_seq: 0,
                deferred_reenq_users: VecDeque::new(),
                cpu_released: false,
                cpuperf_target: SCX_CPUPERF_ONE,
                sub_dispatch_prev: None,
                direct_dispatch: DirectDispatch::Off,
            },
            fair: FairRq::default(),
            fair_since: Nanos::ZERO,
            ext_server: ExtServer::default(),
        }
    }
}
