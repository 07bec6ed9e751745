//! What a scheduler can call: the kernel's `scx_bpf_*` functions, and those of BPF's core that
//! look tasks up.

use std::marker::PhantomData;

use crate::engine::Engine;
use crate::ext::sched::SchedIdx;
use crate::flags::{DsqId, EnqFlags, KickFlags, PickIdleFlags, WakeFlags, errno, opss};
use crate::ops::{Errno, Form};
use crate::rq::DirectDispatch;
use crate::sim::{Fate, Key};
use crate::task::{Pid, TaskIdx, TaskStruct};
use crate::{Cid, CpuId, Cpumask, EventCounters, ExitKind, Nanos};

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
    InitTask,
    ExitTask,
    Enable,
    Disable,
    Dump,
    CgroupInit,
    CgroupExit,
    CgroupMove,
    SubAttach,
    SubDetach,
    Init,
    Exit,
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
            Self::InitTask => "init_task",
            Self::ExitTask => "exit_task",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Dump => "dump",
            Self::CgroupInit => "cgroup_init",
            Self::CgroupExit => "cgroup_exit",
            Self::CgroupMove => "cgroup_move",
            Self::SubAttach => "sub_attach",
            Self::SubDetach => "sub_detach",
            Self::Init => "init",
            Self::Exit => "exit",
        }
    }

    /// Whether the kernel lets it sleep: only these may create queues.
    fn may_sleep(self) -> bool {
        matches!(
            self,
            Self::InitTask
                | Self::CgroupInit
                | Self::CgroupExit
                | Self::SubAttach
                | Self::SubDetach
                | Self::Init
                | Self::Exit
        )
    }
}

/// A task, for the length of one callback: the pointer of an RCU read section.
///
/// It cannot be kept: a scheduler's [`State`](crate::State) is `'static`. Remember
/// [`TaskStruct::scx`]`.tid` and look the task up when it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task<'r> {
    pub(crate) idx: TaskIdx,
    section: PhantomData<&'r ()>,
}

/// The core, as a callback sees it. Its methods are the kernel's functions of the same names,
/// less `scx_bpf_`.
///
/// A call that the kernel's verifier would refuse (a function that the operation may not call, or
/// one of the other form) ends the scheduler with an error that says so.
#[derive(Debug)]
pub struct Cx<'r> {
    core: &'r mut Engine,
    sched: SchedIdx,
    op: Op,
}

impl<'r> Cx<'r> {
    pub(crate) fn new(core: &'r mut Engine, sched: SchedIdx, op: Op) -> Self {
        Self { core, sched, op }
    }

    pub(crate) fn task(&self, idx: TaskIdx) -> Task<'r> {
        Task { idx, section: PhantomData }
    }

    /// The task's `struct task_struct`, to read.
    pub fn get(&self, p: Task<'_>) -> &TaskStruct {
        self.core.p(p.idx)
    }

    /// The scheduler's state, as the type that its [`Scheduler::new_state`](crate::Scheduler::new_state)
    /// made; `None` for another type.
    pub fn state<S: 'static>(&mut self) -> Option<&mut S> {
        self.core.sch_mut(self.sched).state.as_any_mut().downcast_mut()
    }

    /// `scx_bpf_now()`.
    pub fn now(&self) -> Nanos {
        self.core.now
    }

    /// `scx_bpf_tid_to_task()`: the task with this tid, also one that is dying.
    ///
    /// Nothing for 0, for a tid that was never handed out, and for a task past its last switch.
    /// Without the table it is an error of the root scheduler.
    pub fn tid_to_task(&mut self, tid: u64) -> Option<Task<'r>> {
        let found = self.core.tid_to_task_raw(tid);
        self.core.note_lookup(self.op, Key::Tid(tid), found);
        found.map(|p| self.task(p))
    }

    /// `bpf_task_from_pid()`: the task that has this pid now.
    pub fn task_from_pid(&mut self, pid: Pid) -> Option<Task<'r>> {
        let found = self.core.pids.find(pid);
        self.core.stats.pid_lookups += 1;
        if found.is_none() {
            self.core.stats.pid_misses += 1;
        }
        self.core.note_lookup(self.op, Key::Pid(pid), found);
        found.map(|p| self.task(p))
    }

    /// `scx_bpf_dsq_insert()`: into a queue's FIFO, with a slice in ns (0 to keep what is left).
    /// From `select_cpu` and `enqueue` a direct dispatch of the task at hand; from `dispatch` of
    /// any task, at the end of the callback.
    pub fn dsq_insert(&mut self, p: Task<'_>, dsq: DsqId, slice: u64, enq: EnqFlags) -> bool {
        self.insert(p, dsq, slice, None, enq)
    }

    /// `scx_bpf_dsq_insert_vtime()`: into a queue in the order of `vtime`.
    pub fn dsq_insert_vtime(
        &mut self,
        p: Task<'_>,
        dsq: DsqId,
        slice: u64,
        vtime: u64,
        enq: EnqFlags,
    ) -> bool {
        self.insert(p, dsq, slice, Some(vtime), enq)
    }

    fn insert(
        &mut self,
        p: Task<'_>,
        dsq: DsqId,
        slice: u64,
        vtime: Option<u64>,
        mut enq: EnqFlags,
    ) -> bool {
        if !self.only_from("scx_bpf_dsq_insert", &[Op::SelectCpu, Op::Enqueue, Op::Dispatch]) {
            return false;
        }
        // scx_dsq_insert_preamble(); bits 56 and up are the core's own.
        if enq.bits() >> 56 != 0 {
            self.error_kind(ExitKind::Error, format!("invalid enq_flags {:#x}", enq.bits()));
            return false;
        }
        if enq.contains(EnqFlags::IMMED) {
            self.not_modelled("SCX_ENQ_IMMED");
            return false;
        }
        let foreign = !self.core.on_sched(p.idx, self.sched);
        if foreign && !self.core.sabotaged(crate::config::Sabotage::C10InsertForeign) {
            self.core.sch_mut(self.sched).events.insert_not_owned += 1;
            return false;
        }
        let scx = &mut self.core.p_mut(p.idx).scx;
        scx.slice = if slice > 0 { slice } else { scx.slice.max(1) };
        if let Some(vtime) = vtime {
            scx.dsq_vtime = vtime;
            enq |= EnqFlags::DSQ_PRIQ;
        }
        self.insert_commit(p.idx, dsq, enq);
        true
    }

    /// `scx_dsq_insert_commit()`.
    fn insert_commit(&mut self, p: TaskIdx, dsq: DsqId, enq: EnqFlags) {
        let cpu = self.core.this_cpu;
        match self.core.rq(cpu).scx.direct_dispatch {
            DirectDispatch::Off => {}
            marked => {
                self.mark_direct_dispatch(marked, p, dsq, enq);
                return;
            }
        }
        let max = self.core.sch(self.sched).dsp_max_batch as usize;
        let ent = crate::ext::sched::DspBufEnt {
            task: p,
            generation: self.core.sim(p).generation,
            qseq: self.core.p(p).scx.ops_state & opss::QSEQ_MASK,
            dsq,
            enq,
        };
        let buf = &mut self.core.sch_mut(self.sched).pcpu[cpu.index()].dsp_buf;
        if buf.len() >= max {
            self.error_kind(ExitKind::Error, "dispatch buffer overflow".into());
            return;
        }
        buf.push(ent);
        self.core.note_insert(p, dsq, Fate::Buffered);
    }

    /// `mark_direct_dispatch()`.
    fn mark_direct_dispatch(
        &mut self,
        marked: DirectDispatch,
        p: TaskIdx,
        dsq: DsqId,
        enq: EnqFlags,
    ) {
        let cpu = self.core.this_cpu;
        self.core.rq_mut(cpu).scx.direct_dispatch = DirectDispatch::Done;
        let who = |p: TaskIdx| self.core.p(p).who();
        let msg = match marked {
            DirectDispatch::For(q) if q == p => {
                let scx = &mut self.core.p_mut(p).scx;
                scx.ddsp_dsq_id = dsq.0;
                scx.ddsp_enq_flags = enq.bits();
                return;
            }
            DirectDispatch::For(q) => {
                format!("scheduling for {} but trying to direct-dispatch {}", who(q), who(p))
            }
            _ => format!("{} already direct-dispatched", who(p)),
        };
        self.error_kind(ExitKind::Error, msg);
    }

    /// `scx_bpf_dispatch_nr_slots()`: room left in the dispatch buffer.
    pub fn dispatch_nr_slots(&mut self) -> u32 {
        if !self.only_from("scx_bpf_dispatch_nr_slots", &[Op::Dispatch]) {
            return 0;
        }
        let cpu = self.core.this_cpu;
        let sch = self.core.sch(self.sched);
        sch.dsp_max_batch - sch.pcpu[cpu.index()].dsp_buf.len() as u32
    }

    /// `scx_bpf_dispatch_cancel()`: takes back the last insert of this `dispatch`.
    pub fn dispatch_cancel(&mut self) {
        if !self.only_from("scx_bpf_dispatch_cancel", &[Op::Dispatch]) {
            return;
        }
        let cpu = self.core.this_cpu;
        if self.core.sch_mut(self.sched).pcpu[cpu.index()].dsp_buf.pop().is_none() {
            self.error_kind(ExitKind::Error, "dispatch buffer underflow".into());
        }
    }

    /// `scx_bpf_dsq_move_to_local()`: a task from one of the scheduler's queues to the local queue
    /// of the CPU; whether there was one that may run there. Inserts that are pending are done
    /// first. Locks are dropped: other CPUs may act before it returns.
    pub fn dsq_move_to_local(&mut self, dsq: DsqId, enq: EnqFlags) -> bool {
        if !self.only_from("scx_bpf_dsq_move_to_local", &[Op::Dispatch]) {
            return false;
        }
        if enq.contains(EnqFlags::IMMED) {
            self.not_modelled("SCX_ENQ_IMMED");
            return false;
        }
        let cpu = self.core.this_cpu;
        self.core.flush_dispatch_buf(self.sched, cpu);
        let Some(&idx) = self.core.sch(self.sched).dsq_hash.get(&dsq.0) else {
            self.error_kind(ExitKind::Error, format!("invalid DSQ ID {:#018x}", dsq.0));
            return false;
        };
        let moved = self.core.consume_dispatch_q(self.sched, cpu, idx, enq);
        self.core.this_cpu = cpu;
        if moved {
            self.core.sch_mut(self.sched).pcpu[cpu.index()].dsp_nr_tasks += 1;
        }
        moved
    }

    /// `scx_bpf_sub_dispatch()`: lets the sub-scheduler of a cgroup dispatch for this CPU; whether
    /// it had something.
    pub fn sub_dispatch(&mut self, cgroup: u64) -> bool {
        if !self.only_from("scx_bpf_sub_dispatch", &[Op::Dispatch]) {
            return false;
        }
        let cpu = self.core.this_cpu;
        let Some(child) = self.core.find_sub_sched(cgroup) else { return false };
        if self.core.sch(child).parent() != Some(self.sched) {
            let msg = format!("trying to dispatch a distant sub-sched on cgroup {cgroup}");
            self.error_kind(ExitKind::Error, msg);
            return false;
        }
        let Some(prev) = self.core.rq(cpu).scx.sub_dispatch_prev else { return false };
        let verdict = self.core.scx_dispatch_sched(child, cpu, prev, true);
        self.core.this_cpu = cpu;
        verdict != crate::ext::Verdict::None
    }

    /// `scx_bpf_create_dsq()`: a queue of the scheduler's own. The engine has one node.
    ///
    /// # Errors
    /// `EINVAL` for a built-in number, `EEXIST` if there is one.
    pub fn create_dsq(&mut self, dsq: DsqId) -> Result<(), Errno> {
        if !self.op.may_sleep() {
            self.misuse("scx_bpf_create_dsq");
            return Err(Errno(errno::EINVAL));
        }
        if dsq.is_builtin() {
            return Err(Errno(errno::EINVAL));
        }
        if self.core.sch(self.sched).dsq_hash.contains_key(&dsq.0) {
            return Err(Errno(errno::EEXIST));
        }
        let idx = self.core.new_dsq(dsq, Some(self.sched));
        self.core.sch_mut(self.sched).dsq_hash.insert(dsq.0, idx);
        Ok(())
    }

    /// `scx_bpf_destroy_dsq()`. An error of the scheduler's if a task is in it.
    pub fn destroy_dsq(&mut self, dsq: DsqId) {
        self.core.destroy_dsq(self.sched, dsq);
    }

    /// `scx_bpf_dsq_nr_queued()`.
    ///
    /// # Errors
    /// `ENOENT` if there is no such queue.
    pub fn dsq_nr_queued(&mut self, dsq: DsqId) -> Result<u32, Errno> {
        let cpu = self.core.this_cpu;
        let idx = if dsq == DsqId::LOCAL {
            self.core.local_dsq(cpu)
        } else if let Some(n) = dsq.as_local_on() {
            let Some(on) = self.core.cpu_of_arg(self.sched, n) else {
                return Err(Errno(errno::ENOENT));
            };
            if !self.core.cpu_valid(self.sched, on, "") {
                return Err(Errno(errno::ENOENT));
            }
            self.core.local_dsq(on)
        } else {
            *self.core.sch(self.sched).dsq_hash.get(&dsq.0).ok_or(Errno(errno::ENOENT))?
        };
        Ok(self.core.dsq(idx).nr)
    }

    /// `scx_bpf_dsq_peek()`: the first task of one of the scheduler's queues.
    pub fn dsq_peek(&mut self, dsq: DsqId) -> Option<Task<'r>> {
        if dsq.is_builtin() {
            let msg = format!("peek disallowed on builtin DSQ {:#x}", dsq.0);
            self.error_kind(ExitKind::Error, msg);
            return None;
        }
        let Some(&idx) = self.core.sch(self.sched).dsq_hash.get(&dsq.0) else {
            let msg = format!("peek on non-existent DSQ {:#x}", dsq.0);
            self.error_kind(ExitKind::Error, msg);
            return None;
        };
        self.core.dsq_next(idx, None).map(|p| self.task(p))
    }

    /// `scx_bpf_task_set_slice()`; whether the task is the scheduler's.
    pub fn task_set_slice(&mut self, p: Task<'_>, slice: u64) -> bool {
        if !self.core.on_sched(p.idx, self.sched) {
            return false;
        }
        self.core.p_mut(p.idx).scx.slice = slice;
        if self.core.is_current(p.idx) && self.op != Op::Tick {
            let cpu = self.core.task_cpu(p.idx);
            self.core.rearm_tick(cpu);
        }
        true
    }

    /// `scx_bpf_task_set_dsq_vtime()`; whether the task is the scheduler's.
    pub fn task_set_dsq_vtime(&mut self, p: Task<'_>, vtime: u64) -> bool {
        if !self.core.on_sched(p.idx, self.sched) {
            return false;
        }
        self.core.p_mut(p.idx).scx.dsq_vtime = vtime;
        true
    }

    /// Sets `p->scx.disallow`, which means something in `init_task` while a root attaches.
    pub fn task_disallow(&mut self, p: Task<'_>) {
        self.core.p_mut(p.idx).scx.disallow = 1;
    }

    /// `scx_bpf_kick_cpu()`.
    pub fn kick_cpu(&mut self, cpu: CpuId, flags: KickFlags) {
        if self.has_form(Form::Cpu, "scx_bpf_kick_cpu") && self.core.cpu_valid(self.sched, cpu, "")
        {
            self.core.scx_kick_cpu(self.sched, cpu, flags);
        }
    }

    /// `scx_bpf_kick_cid()`.
    pub fn kick_cid(&mut self, cid: Cid, flags: KickFlags) {
        if self.has_form(Form::Cid, "scx_bpf_kick_cid")
            && let Some(cpu) = self.core.cpu_of_arg(self.sched, cid.0)
        {
            self.core.scx_kick_cpu(self.sched, cpu, flags);
        }
    }

    /// `scx_bpf_task_cpu()`.
    pub fn task_cpu(&self, p: Task<'_>) -> CpuId {
        self.core.task_cpu(p.idx)
    }

    /// `scx_bpf_task_cid()`.
    pub fn task_cid(&self, p: Task<'_>) -> Cid {
        self.core.topology.cid(self.core.task_cpu(p.idx))
    }

    /// `scx_bpf_task_running()`.
    pub fn task_running(&self, p: Task<'_>) -> bool {
        self.core.is_current(p.idx)
    }

    /// `p->cpus_ptr` in cid space.
    pub fn task_cids(&self, p: Task<'_>) -> Cpumask {
        self.core.topology.to_cids(&self.core.p(p.idx).cpus_ptr())
    }

    /// `scx_bpf_nr_cpu_ids()`, and `scx_bpf_nr_cids()`.
    pub fn nr_cpu_ids(&self) -> u32 {
        self.core.nr_cpus() as u32
    }

    /// `bpf_get_smp_processor_id()`.
    pub fn this_cpu(&self) -> CpuId {
        self.core.this_cpu
    }

    /// `scx_bpf_this_cid()`.
    pub fn this_cid(&self) -> Cid {
        self.core.topology.cid(self.core.this_cpu)
    }

    /// `scx_bpf_select_cpu_dfl()`: the built-in choice. An idle CPU, claimed, or nothing.
    pub fn select_cpu_dfl(&mut self, p: Task<'_>, prev: CpuId, wake: WakeFlags) -> Option<CpuId> {
        if !self.check_builtin_idle() || !self.core.cpu_valid(self.sched, prev, "") {
            return None;
        }
        self.core.select_cpu_dfl(p.idx, prev, wake)
    }

    /// `scx_bpf_test_and_clear_cpu_idle()`: claims an idle CPU.
    pub fn test_and_clear_cpu_idle(&mut self, cpu: CpuId) -> bool {
        self.check_builtin_idle()
            && self.core.cpu_valid(self.sched, cpu, "")
            && self.core.test_and_clear_cpu_idle(cpu)
    }

    /// `scx_bpf_pick_idle_cpu()`: claims an idle CPU out of a set.
    pub fn pick_idle_cpu(&mut self, cpus: &Cpumask, flags: PickIdleFlags) -> Option<CpuId> {
        if !self.check_builtin_idle() {
            return None;
        }
        self.core.pick_idle_cpu(cpus, flags)
    }

    /// `check_builtin_idle_enabled()`.
    fn check_builtin_idle(&mut self) -> bool {
        if self.core.idle.enabled {
            return true;
        }
        self.error_kind(ExitKind::Error, "built-in idle tracking is disabled".into());
        false
    }

    /// `scx_bpf_error()`: ends the scheduler, as an ejection.
    pub fn error(&mut self, msg: impl Into<String>) {
        self.error_kind(ExitKind::ErrorBpf, msg.into());
    }

    /// `scx_bpf_exit()`: ends the scheduler with a code of its own.
    pub fn exit(&mut self, code: i64, msg: impl Into<String>) {
        let cpu = self.core.this_cpu.0 as i32;
        self.core.scx_exit(self.sched, ExitKind::UnregBpf, code, cpu, msg.into());
    }

    /// `scx_bpf_dump()`: text for the debug dump. Only from the dump operations.
    pub fn dump(&mut self, text: impl AsRef<str>) {
        match &mut self.core.dump_buf {
            Some(buf) if self.op == Op::Dump => buf.push(text.as_ref()),
            _ => {
                let msg = "scx_bpf_dump() must only be called from ops.dump() and friends";
                self.error_kind(ExitKind::Error, msg.into());
            }
        }
    }

    /// `scx_bpf_events()`: the scheduler's event counters.
    pub fn events(&self) -> EventCounters {
        self.core.sch(self.sched).events
    }

    /// `scx_bpf_task_cgroup()`: the id of the task's cgroup.
    pub fn task_cgroup(&self, p: Task<'_>) -> u64 {
        self.core.cgroups.id(self.core.p(p.idx).cgroup)
    }

    fn error_kind(&mut self, kind: ExitKind, msg: String) {
        let cpu = self.core.this_cpu.0 as i32;
        self.core.scx_exit(self.sched, kind, 0, cpu, msg);
    }

    fn only_from(&mut self, function: &str, ops: &[Op]) -> bool {
        let fine = ops.contains(&self.op);
        if !fine {
            self.misuse(function);
        }
        fine
    }

    fn misuse(&mut self, function: &str) {
        let op = self.op.name();
        let msg =
            format!("{function}() cannot be called from ops.{op}(): no kernel would load this");
        self.error_kind(ExitKind::Error, msg);
    }

    fn has_form(&mut self, form: Form, function: &str) -> bool {
        let fine = self.core.sch(self.sched).ops.form == form;
        if !fine {
            let msg =
                format!("{function}() is not for this scheduler's form: no kernel would load this");
            self.error_kind(ExitKind::Error, msg);
        }
        fine
    }

    fn not_modelled(&mut self, what: &str) {
        let msg =
            format!("the engine does not model {what}; run the scheduler in a VM or on the host");
        self.error_kind(ExitKind::Error, msg);
    }
}
