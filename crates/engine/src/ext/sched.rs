//! `struct scx_sched` and `struct scx_dispatch_q`: an attached scheduler and its queues.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::counters::EventCounters;
use super::reenq::ReenqRepeats;
use crate::flags::{DsqId, EnqFlags, OpsFlags, SCX_DSP_DFL_MAX_BATCH, SCX_SLICE_DFL};
use crate::list::{DsqLink, List};
use crate::ops::{Form, OpSet, Ops, Scheduler, State};
use crate::task::TaskIdx;
use crate::{ExitInfo, Nanos};

/// A scheduler's place among all that were attached in this run. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SchedIdx(pub u32);

/// A queue's place among all queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DsqIdx(pub u32);

/// `struct scx_dispatch_q`.
#[derive(Clone, Debug)]
pub(crate) struct Dsq {
    pub id: DsqId,
    pub list: List<DsqLink>,
    /// The tasks that are queued by vtime. The key is the distance from `priq_base`, so that it
    /// orders as `time_before64()` does also when vtime wraps.
    pub priq: BTreeMap<(i64, u64), TaskIdx>,
    pub priq_base: u64,
    pub nr: u32,
    pub seq: u64,
    pub sched: Option<SchedIdx>,
}

impl Dsq {
    pub fn new(id: DsqId, sched: Option<SchedIdx>) -> Self {
        Self {
            id,
            list: List::default(),
            priq: BTreeMap::new(),
            priq_base: 0,
            nr: 0,
            seq: 0,
            sched,
        }
    }
}

/// `struct scx_dsp_buf_ent`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DspBufEnt {
    pub task: TaskIdx,
    pub generation: u32,
    pub qseq: u64,
    pub dsq: DsqId,
    pub enq: EnqFlags,
}

/// `struct scx_sched_pcpu`.
#[derive(Clone, Debug)]
pub(crate) struct SchedPcpu {
    pub bypassing: bool,
    pub bypass_dsq: DsqIdx,
    pub bypass_host_seq: u32,
    pub dsp_buf: Vec<DspBufEnt>,
    pub dsp_nr_tasks: u32,
    pub reenq_repeats: ReenqRepeats,
}

/// Where a scheduler's exit stands: `sch->exit_kind` and the work that follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitPhase {
    /// `SCX_EXIT_NONE`.
    None,
    /// Claimed; the work has not begun.
    Claimed,
    /// Bypassing, waiting for its children to be gone.
    Draining,
    /// Waiting for the enable mutex.
    WaitingForEnable,
    /// `SCX_EXIT_DONE`.
    Done,
}

/// `struct scx_sched`.
#[derive(Clone)]
pub(crate) struct Sched {
    pub ops: Ops,
    pub imp: Arc<dyn Scheduler>,
    pub state: Box<dyn State>,
    pub has_op: OpSet,
    pub dsq_hash: BTreeMap<u64, DsqIdx>,
    pub global_dsq: DsqIdx,
    pub pcpu: Vec<SchedPcpu>,
    pub events: EventCounters,
    pub slice_dfl: u64,
    pub bypass_since: Nanos,
    pub bypass_depth: u32,
    pub bypass_dsp_claim: bool,
    pub bypass_dsp_enable_depth: u32,
    pub bypass_lb_queued: bool,
    pub aborting: bool,
    pub dump_disabled: bool,
    pub dsp_max_batch: u32,
    /// This scheduler and its parents, the root first.
    pub ancestors: Vec<SchedIdx>,
    pub children: Vec<SchedIdx>,
    pub cgroup: u32,
    pub sub_attached: bool,
    /// On the list of all schedulers.
    pub linked: bool,
    pub watchdog_timeout: Nanos,
    pub exit_phase: ExitPhase,
    pub exit_info: ExitInfo,
    pub warned_zero_slice: bool,
    pub attached: bool,
}

impl fmt::Debug for Sched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sched")
            .field("name", &self.ops.name)
            .field("exit_phase", &self.exit_phase)
            .field("bypass_depth", &self.bypass_depth)
            .finish_non_exhaustive()
    }
}

impl Sched {
    /// `scx_alloc_and_add_sched()`, but for the queues, which the engine owns.
    pub fn new(imp: Arc<dyn Scheduler>, ops: Ops, ancestors: Vec<SchedIdx>, cgroup: u32) -> Self {
        let state = imp.new_state();
        let batch = ops.dispatch_max_batch;
        Self {
            imp,
            state,
            has_op: OpSet::empty(),
            dsq_hash: BTreeMap::new(),
            global_dsq: DsqIdx(u32::MAX),
            pcpu: Vec::new(),
            events: EventCounters::default(),
            slice_dfl: SCX_SLICE_DFL,
            bypass_since: Nanos::ZERO,
            bypass_depth: 0,
            bypass_dsp_claim: false,
            bypass_dsp_enable_depth: 0,
            bypass_lb_queued: false,
            aborting: false,
            dump_disabled: false,
            dsp_max_batch: if batch == 0 { SCX_DSP_DFL_MAX_BATCH } else { batch },
            ancestors,
            children: Vec::new(),
            cgroup,
            sub_attached: false,
            linked: false,
            watchdog_timeout: Nanos::NEVER,
            exit_phase: ExitPhase::None,
            exit_info: ExitInfo::default(),
            warned_zero_slice: false,
            attached: false,
            ops,
        }
    }

    pub fn level(&self) -> usize {
        self.ancestors.len() - 1
    }

    /// `scx_parent()`.
    pub fn parent(&self) -> Option<SchedIdx> {
        self.ancestors.len().checked_sub(2).map(|i| self.ancestors[i])
    }

    pub fn has(&self, op: OpSet) -> bool {
        self.has_op.contains(op)
    }

    pub fn flag(&self, flag: OpsFlags) -> bool {
        self.ops.flags.contains(flag)
    }

    pub fn is_cid(&self) -> bool {
        self.ops.form == Form::Cid
    }
}
