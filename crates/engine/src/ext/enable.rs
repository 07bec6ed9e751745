//! Attaching a scheduler: `scx_root_enable_workfn()`, in the kernel's two phases. First every task
//! is made ready, while no fork is let through; then, with the point of no return behind, every
//! task changes its class.
//!
//! Attaching takes time, and the tasks go on meanwhile. So it is a series of steps, each an event,
//! and [`EnableWork`] says where it stands. It also stands for the kernel's `scx_enable_mutex`.

use std::sync::Arc;

use super::sched::{ExitPhase, Sched, SchedIdx, SchedPcpu};
use crate::config::Sabotage;
use crate::engine::{EnableState, Engine};
use crate::events::Event;
use crate::flags::{
    DeqFlags, DsqId, OpsFlags, SCX_OPS_NAME_LEN, SCX_TASK_ITER_BATCH, SCX_WATCHDOG_MAX_TIMEOUT_MS,
    errno,
};
use crate::kfunc::{Cx, Op};
use crate::list::{List, TasksLink};
use crate::ops::{Form, OpSet, Ops, Scheduler};
use crate::task::{SchedClass, TaskIdx, TaskState};
use crate::trace::What;
use crate::{Nanos, SchedId};

/// An attach that is going on.
#[derive(Clone, Debug)]
pub(crate) struct EnableWork {
    pub sched: SchedIdx,
    pub phase: EnablePhase,
    /// The iteration over all tasks: where it goes on. Moved along when that task leaves the list.
    pub next: Option<TaskIdx>,
    /// The task that is being initialized, which is kept from being freed.
    pub current: Option<TaskIdx>,
    /// What `ops.init_task` returned for it.
    pub result: i32,
}

impl EnableWork {
    pub fn new(sched: SchedIdx, phase: EnablePhase) -> Self {
        Self { sched, phase, next: None, current: None, result: 0 }
    }
}

/// Where an attach stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EnablePhase {
    /// The next task is to be marked `INIT_BEGIN`.
    NextTask,
    /// `ops.init_task` is to be called for the current task.
    InitTask,
    /// `ops.init_task` has returned.
    TaskDone,
    /// All tasks are ready; they change class, some at a time.
    Switch,
    /// A sub-scheduler: `ops.init_task` for each task of its cgroup.
    SubInit,
}

/// Why a scheduler cannot be attached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The kernel's answer, as a positive error number.
    #[error("{what} (-{name})", name = errno_name(*errno))]
    Errno {
        /// The number.
        errno: i32,
        /// What it means here.
        what: String,
    },
    /// The scheduler asks for what the engine does not model.
    #[error("the engine does not model {0}; run the scheduler in a VM or on the host")]
    NotModelled(&'static str),
}

impl AttachError {
    pub(crate) fn errno(errno: i32, what: impl Into<String>) -> Self {
        Self::Errno { errno, what: what.into() }
    }
}

/// The symbol of an error number.
pub(crate) fn errno_name(errno: i32) -> String {
    match errno {
        errno::ENOENT => "ENOENT".into(),
        errno::EBUSY => "EBUSY".into(),
        errno::ENODEV => "ENODEV".into(),
        errno::EINVAL => "EINVAL".into(),
        errno::EOPNOTSUPP => "EOPNOTSUPP".into(),
        7 => "E2BIG".into(),
        other => other.to_string(),
    }
}

impl Engine {
    /// Begins to attach a scheduler: as the root, or, if its [`Ops::sub_cgroup`] is set, to that
    /// cgroup under the root that is attached. The rest happens as time passes; see
    /// [`Engine::is_attached`] and [`Engine::exit_info`].
    ///
    /// # Errors
    /// What the kernel's attach call would return, and what the engine does not model. As in the
    /// kernel, a scheduler that is refused later (by its `init`, or because a sub-scheduler's
    /// flags do not fit its root's) is no error here: the reason is in its exit info.
    pub fn attach(&mut self, scheduler: Arc<dyn Scheduler>) -> Result<SchedId, AttachError> {
        self.attach_after(scheduler, |_| {})
    }

    /// The same, after what its user space has the kernel do once its programs are loaded, and
    /// before it is attached: see [`Engine::prog_run`].
    ///
    /// # Errors
    /// Those of [`Engine::attach`]. `before` may have been called or not.
    pub fn attach_after(
        &mut self,
        scheduler: Arc<dyn Scheduler>,
        before: impl FnOnce(&mut Cx<'_>),
    ) -> Result<SchedId, AttachError> {
        let ops = scheduler.ops();
        check_ops(&ops)?;
        if self.enable_work.is_some() {
            return Err(AttachError::errno(errno::EBUSY, "another attach is going on"));
        }
        let sched = match ops.sub_cgroup.clone() {
            None => self.root_enable(scheduler, ops, before)?,
            Some(path) => self.sub_enable(scheduler, ops, &path, before)?,
        };
        Ok(SchedId(sched.0))
    }

    /// Whether the scheduler is attached and all its tasks are switched.
    pub fn is_attached(&self, sched: SchedId) -> bool {
        let sch = &self.scheds[sched.0 as usize];
        sch.attached && sch.exit_phase == ExitPhase::None
    }

    /// Whether an attach is going on.
    pub fn is_attaching(&self) -> bool {
        self.enable_work.is_some()
    }

    /// `scx_alloc_and_add_sched()`.
    pub(crate) fn alloc_sched(
        &mut self,
        scheduler: Arc<dyn Scheduler>,
        ops: Ops,
        parent: Option<SchedIdx>,
        cgroup: u32,
    ) -> SchedIdx {
        let sched = SchedIdx(self.scheds.len() as u32);
        let mut ancestors = parent.map_or(Vec::new(), |p| self.sch(p).ancestors.clone());
        ancestors.push(sched);
        self.scheds.push(Sched::new(scheduler, ops, ancestors, cgroup));
        let global = self.new_dsq(DsqId::GLOBAL, Some(sched));
        let pcpu = (0..self.nr_cpus())
            .map(|_| SchedPcpu {
                bypassing: false,
                bypass_dsq: self.new_dsq(DsqId::BYPASS, Some(sched)),
                bypass_host_seq: 0,
                dsp_buf: Vec::new(),
                dsp_nr_tasks: 0,
                reenq_repeats: Default::default(),
            })
            .collect();
        // msecs_to_jiffies() rounds up.
        let ms = match self.sch(sched).ops.timeout_ms {
            0 => SCX_WATCHDOG_MAX_TIMEOUT_MS,
            ms => ms,
        };
        let jiffies = (u64::from(ms) * u64::from(self.config.hz)).div_ceil(1000);
        let watchdog_timeout = Nanos(jiffies * self.jiffy().0);
        let sch = self.sch_mut(sched);
        sch.watchdog_timeout = watchdog_timeout;
        sch.global_dsq = global;
        sch.pcpu = pcpu;
        sched
    }

    /// The first part of `scx_root_enable_workfn()`, up to the iteration over all tasks.
    fn root_enable(
        &mut self,
        scheduler: Arc<dyn Scheduler>,
        ops: Ops,
        before: impl FnOnce(&mut Cx<'_>),
    ) -> Result<SchedIdx, AttachError> {
        if self.enable_state != EnableState::Disabled {
            return Err(AttachError::errno(errno::EBUSY, "a scheduler is attached already"));
        }
        // scx_cid_init()
        self.topology.reset_cids();
        let flags = ops.flags;
        let wants_table = flags.contains(OpsFlags::TID_TO_TASK);
        let table = wants_table || self.sabotaged(Sabotage::C12AlwaysTable);
        if table && !self.tid_hash_init() {
            return Err(AttachError::errno(errno::ENOMEM, "no memory for the table of tids"));
        }
        let implements = ops.implements;
        let sched = self.alloc_sched(scheduler, ops, None, 0);
        self.prog_run(SchedId(sched.0), before);
        self.enable_state = EnableState::Enabling;
        self.note_tracepoints();
        self.nr_rejected = 0;
        self.root = Some(sched);
        self.link_sched(sched);
        self.idle_enable(implements, flags);
        self.enable_work = Some(EnableWork::new(sched, EnablePhase::NextTask));
        if let Err(err) = self.call_init(sched) {
            self.enable_failed(sched, err);
            return Ok(sched);
        }
        if !self.validate_ops(sched) {
            self.enable_failed(sched, -errno::EINVAL);
            return Ok(sched);
        }
        self.scx_bypass(sched, true);
        self.sch_mut(sched).has_op = implements;
        self.fork_excluded = true;
        self.init_task_enabled = true;
        self.tid_to_task_enabled |= table;
        self.cgroups.set_sched_below(0, Some(sched));
        if !self.cgroup_init_all(sched) {
            self.enable_failed(sched, -errno::EINVAL);
            return Ok(sched);
        }
        if let Some(work) = &mut self.enable_work {
            work.next = self.scx_tasks.first();
        }
        self.after(Nanos(1_000), Event::Enable);
        Ok(sched)
    }

    /// `ops.init`, if there is one: the error, negative, is the scheduler's.
    pub(crate) fn call_init(&mut self, sched: SchedIdx) -> Result<(), i32> {
        if !self.sch(sched).ops.implements.contains(OpSet::INIT) {
            return Ok(());
        }
        if let Err(err) = self.call(sched, Op::Init, |ops, cx| ops.init(cx)) {
            let err = self.sanitize_err(sched, "init", err);
            self.scx_error(sched, format!("ops.init() failed ({err})"));
            return Err(err);
        }
        self.sch_mut(sched).exit_info.initialized = true;
        Ok(())
    }

    /// `validate_ops()`.
    pub(crate) fn validate_ops(&mut self, sched: SchedIdx) -> bool {
        let ops = &self.sch(sched).ops;
        let has = |op| ops.implements.contains(op);
        let is_sub = self.sch(sched).parent().is_some();
        let root_has_table =
            self.root.is_some_and(|root| self.sch(root).flag(OpsFlags::TID_TO_TASK));
        let problem = if ops.flags.contains(OpsFlags::ENQ_LAST) && !has(OpSet::ENQUEUE) {
            "SCX_OPS_ENQ_LAST requires ops.enqueue() to be implemented"
        } else if ops.flags.contains(OpsFlags::TID_TO_TASK)
            && is_sub
            && !root_has_table
            && !self.sabotaged(Sabotage::C9AcceptSub)
        {
            "SCX_OPS_TID_TO_TASK requires root scheduler to enable it"
        } else if ops.flags.contains(OpsFlags::BUILTIN_IDLE_PER_NODE)
            && has(OpSet::UPDATE_IDLE)
            && !ops.flags.contains(OpsFlags::KEEP_BUILTIN_IDLE)
        {
            "SCX_OPS_BUILTIN_IDLE_PER_NODE requires CPU idle selection enabled"
        } else if ops.form == Form::Cpu && is_sub {
            "sub-sched requires cid-form struct_ops"
        } else if ops.form == Form::Cpu && (has(OpSet::SUB_ATTACH) || has(OpSet::SUB_DETACH)) {
            "sub_attach/sub_detach requires cid-form struct_ops"
        } else {
            return true;
        };
        self.scx_error(sched, problem.into());
        false
    }

    /// `scx_link_sched()` for a root.
    fn link_sched(&mut self, sched: SchedIdx) {
        self.sch_mut(sched).linked = true;
        self.refresh_watchdog();
    }

    /// The tail of a failed attach: the error is recorded, and the disable work does the rest.
    pub(crate) fn enable_failed(&mut self, sched: SchedIdx, err: i32) {
        self.enable_work = None;
        let what = if self.sch(sched).parent().is_some() { "sub" } else { "root" };
        self.scx_error(sched, format!("scx_{what}_enable() failed ({err})"));
        self.release_forks();
    }

    /// `percpu_up_write(&scx_fork_rwsem)`: the forks that waited go on.
    pub(crate) fn release_forks(&mut self) {
        self.fork_excluded = false;
        for p in std::mem::take(&mut self.fork_waiters) {
            self.try_to_wake_up(p, crate::flags::state::TASK_UNINTERRUPTIBLE);
        }
    }

    /// The next step of an attach.
    pub(crate) fn enable_step(&mut self) {
        let Some(work) = self.enable_work.clone() else { return };
        match work.phase {
            EnablePhase::NextTask => self.enable_next_task(work.sched),
            EnablePhase::InitTask => self.enable_init_task(&work),
            EnablePhase::TaskDone => self.enable_task_done(&work),
            EnablePhase::Switch => self.enable_switch(&work),
            EnablePhase::SubInit => self.sub_enable_step(&work),
        }
    }

    fn set_enable_phase(&mut self, phase: EnablePhase) {
        if let Some(work) = &mut self.enable_work {
            work.phase = phase;
        }
    }

    /// The iteration's next task that is not idle and not dead: `scx_task_iter_next_locked()`.
    pub(crate) fn enable_iter_next(&mut self) -> Option<TaskIdx> {
        loop {
            let p = self.enable_work.as_ref()?.next?;
            let next = List::<TasksLink>::next(&self.tasks, p);
            if let Some(work) = &mut self.enable_work {
                work.next = next;
            }
            if !self.iter_skips(p) {
                return Some(p);
            }
        }
    }

    /// What `scx_task_iter_next_locked()` passes over: idle tasks and dead ones.
    pub(crate) fn iter_skips(&self, p: TaskIdx) -> bool {
        let task = self.p(p);
        task.sched_class() == SchedClass::Idle || task.task_state() == TaskState::Dead
    }

    /// A task leaves the list of all tasks; an iteration that would go on with it skips it.
    pub(crate) fn enable_iter_skip(&mut self, p: TaskIdx) {
        if self.enable_work.as_ref().is_some_and(|work| work.next == Some(p)) {
            let next = List::<TasksLink>::next(&self.tasks, p);
            if let Some(work) = &mut self.enable_work {
                work.next = next;
            }
        }
    }

    fn enable_next_task(&mut self, sched: SchedIdx) {
        let Some(p) = self.enable_iter_next() else {
            self.enable_all_ready(sched);
            return;
        };
        // INIT_BEGIN decides the race with death: see sched_ext_dead().
        self.set_task_state(p, TaskState::InitBegin);
        self.sim_mut(p).usage += 1;
        if let Some(work) = &mut self.enable_work {
            work.current = Some(p);
            work.phase = EnablePhase::InitTask;
        }
        let delay = Nanos(self.rng.jitter(self.config.costs.init_task).0 / 2);
        self.after(delay, Event::Enable);
    }

    fn enable_init_task(&mut self, work: &EnableWork) {
        let Some(p) = work.current else { return };
        let result = self.scx_init_task(work.sched, p, false);
        if let Some(work) = &mut self.enable_work {
            work.result = result;
            work.phase = EnablePhase::TaskDone;
        }
        let delay = Nanos(self.rng.jitter(self.config.costs.init_task).0 / 2);
        self.after(delay, Event::Enable);
    }

    fn enable_task_done(&mut self, work: &EnableWork) {
        let (sched, Some(p)) = (work.sched, work.current) else { return };
        if let Some(work) = &mut self.enable_work {
            work.current = None;
        }
        let dead = self.p(p).task_state() == TaskState::Dead;
        if work.result != 0 {
            if !dead {
                self.set_task_state(p, TaskState::None);
            }
            let who = self.p(p).who();
            let msg = format!("ops.init_task() failed ({}) for {who}", work.result);
            self.scx_error(sched, msg);
            self.put_task(p);
            self.enable_failed(sched, work.result);
            return;
        }
        if dead {
            // It died while ops.init_task ran: ops.exit_task is owed.
            self.call_exit_task(sched, p, true);
        } else {
            self.set_task_state(p, TaskState::Init);
            self.p_mut(p).scx.sched = sched.0;
            self.set_task_state(p, TaskState::Ready);
        }
        let listed = self.p(p).scx.tasks_node.is_on();
        if self.tid_to_task_enabled && (listed || self.sabotaged(Sabotage::C14InsertDead)) {
            self.tid_hash_insert(p);
        }
        self.put_task(p);
        self.set_enable_phase(EnablePhase::NextTask);
        self.enable_next_task(sched);
    }

    /// All tasks are ready. From here on the attach cannot fail by itself.
    fn enable_all_ready(&mut self, sched: SchedIdx) {
        self.release_forks();
        self.switching_all = !self.sch(sched).flag(OpsFlags::SWITCH_PARTIAL);
        self.scx_enabled = true;
        self.fork_excluded = true;
        let first = self.scx_tasks.first();
        if let Some(work) = &mut self.enable_work {
            work.next = first;
            work.phase = EnablePhase::Switch;
        }
        self.after(Nanos(1_000), Event::Enable);
    }

    /// Switches a batch of tasks to their new class; the kernel drops its locks between batches.
    fn enable_switch(&mut self, work: &EnableWork) {
        let sched = work.sched;
        for _ in 0..SCX_TASK_ITER_BATCH {
            let Some(p) = self.enable_iter_next() else {
                self.enable_finish(sched);
                return;
            };
            if self.p(p).task_state() != TaskState::Ready {
                continue;
            }
            let class = self.class_for_policy(self.p(p).policy);
            let slice = self.sch(sched).slice_dfl;
            self.sched_change(p, class, DeqFlags::MOVE, |engine| engine.p_mut(p).scx.slice = slice);
        }
        let delay = self.rng.jitter(Nanos(20_000));
        self.after(delay, Event::Enable);
    }

    fn enable_finish(&mut self, sched: SchedIdx) {
        self.release_forks();
        self.scx_bypass(sched, false);
        if self.enable_state != EnableState::Enabling {
            // An error came meanwhile, and its work waits for this to end.
            self.enable_failed(sched, -errno::EBUSY);
            return;
        }
        self.enable_work = None;
        self.enable_state = EnableState::Enabled;
        let partial = self.sch(sched).flag(OpsFlags::SWITCH_PARTIAL);
        self.switched_all = !partial;
        self.sch_mut(sched).attached = true;
        let name = self.sch(sched).ops.name.clone();
        let how = if partial { " (partial)" } else { "" };
        self.printk(format!("sched_ext: BPF scheduler \"{name}\" enabled{how}"));
        self.record(|_| What::Attached { name });
    }
}

/// `bpf_scx_init_member()`, and what the engine refuses.
fn check_ops(ops: &Ops) -> Result<(), AttachError> {
    let name_char = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    if ops.name.is_empty() || ops.name.len() >= SCX_OPS_NAME_LEN || !ops.name.chars().all(name_char)
    {
        let what = format!("`{}` is not a scheduler's name", ops.name);
        return Err(AttachError::errno(errno::EINVAL, what));
    }
    if ops.timeout_ms > SCX_WATCHDOG_MAX_TIMEOUT_MS {
        let what = format!("timeout_ms {} is over {SCX_WATCHDOG_MAX_TIMEOUT_MS}", ops.timeout_ms);
        return Err(AttachError::errno(7, what));
    }
    if ops.dispatch_max_batch > 1 << 20 {
        return Err(AttachError::NotModelled("a dispatch buffer of over 1048576 slots"));
    }
    if !OpsFlags::all().contains(ops.flags) {
        let unknown = ops.flags.difference(OpsFlags::all()).bits();
        let what = format!("unknown bits {unknown:#x} in ops.flags");
        return Err(AttachError::errno(errno::EINVAL, what));
    }
    Ok(())
}
