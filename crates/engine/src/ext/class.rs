//! `ext_sched_class`: the pick, and what goes on while a task runs.

use super::dispatch::Verdict;
use super::sched::SchedIdx;
use crate::CpuId;
use crate::engine::{EnableState, Engine};
use crate::flags::SCX_SLICE_INF;
use crate::flags::{DeqFlags, DsqId, EnqFlags, OpsFlags, PickIdleFlags, WakeFlags, ent, rqf};
use crate::kfunc::Op;
use crate::ops::OpSet;
use crate::rq::DirectDispatch;
use crate::task::{SchedClass, TaskIdx, sched_weight_to_cgroup};

/// What a pick of the class came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Picked {
    Task(TaskIdx),
    /// A task of a higher class came while the lock was dropped: begin again.
    Retry,
    Nothing,
}

impl Engine {
    /// `do_pick_task_scx()`. With `force`, for the ext server, higher classes do not matter.
    pub(crate) fn pick_task_scx(&mut self, cpu: CpuId, force: bool) -> Picked {
        let prev = self.rq(cpu).curr;
        let rq = self.rq_mut(cpu);
        rq.scx.kick_sync += 1;
        // rq_modified_begin()
        rq.next_class = SchedClass::Ext;

        let verdict = self.balance_one(cpu, prev);
        if self.rq(cpu).scx.flags & rqf::BAL_CB_PENDING != 0 {
            let scx = &mut self.rq_mut(cpu).scx;
            scx.flags &= !rqf::BAL_CB_PENDING;
            scx.deferred_pending = true;
        }
        if !force && self.rq(cpu).next_class > SchedClass::Ext {
            return Picked::Retry;
        }
        if verdict == Verdict::Prev && self.p(prev).sched_class() == SchedClass::Ext {
            if self.p(prev).scx.slice == 0
                && let Some(sched) = self.task_sched(prev)
            {
                self.refill_task_slice_dfl(sched, prev);
            }
            return Picked::Task(prev);
        }
        let Some(p) = self.dsq(self.local_dsq(cpu)).list.first() else { return Picked::Nothing };
        if self.p(p).scx.slice == 0
            && let Some(sched) = self.task_sched(p)
        {
            self.warn_zero_slice(cpu, sched, p);
            self.refill_task_slice_dfl(sched, p);
        }
        Picked::Task(p)
    }

    fn warn_zero_slice(&mut self, cpu: CpuId, sched: SchedIdx, p: TaskIdx) {
        if self.bypassing(sched, cpu) || self.sch(sched).warned_zero_slice {
            return;
        }
        self.sch_mut(sched).warned_zero_slice = true;
        let who = self.p(p).who();
        self.printk(format!("sched_ext: {who} has zero slice in do_pick_task_scx()"));
    }

    /// `balance_one()`: the previous task if it has slice left, then the local queue, then what
    /// the scheduler dispatches, then the previous task for want of another.
    fn balance_one(&mut self, cpu: CpuId, prev: TaskIdx) -> Verdict {
        let Some(root) = self.root else { return Verdict::None };
        self.rq_mut(cpu).scx.flags |= rqf::IN_BALANCE;
        if std::mem::take(&mut self.rq_mut(cpu).scx.cpu_released)
            && self.sch(root).has(OpSet::CPU_ACQUIRE)
        {
            self.call(root, Op::CpuAcquire, |ops, cx| ops.cpu_acquire(cx, cpu));
        }
        let verdict = self.balance_with(cpu, prev, root);
        // rq_is_open() could not know whether the current task would go on.
        if verdict != Verdict::None
            && self.rq(cpu).scx.nr_immed > 0
            && self.dsq(self.local_dsq(cpu)).nr > 1
        {
            self.schedule_reenq_local(cpu);
        }
        self.rq_mut(cpu).scx.flags &= !rqf::IN_BALANCE;
        verdict
    }

    fn balance_with(&mut self, cpu: CpuId, prev: TaskIdx, root: SchedIdx) -> Verdict {
        if self.p(prev).sched_class() == SchedClass::Ext {
            self.update_curr(cpu);
            let goes_on = self.p(prev).queued() && self.p(prev).scx.slice > 0;
            if goes_on && !self.bypassing(root, cpu) {
                return Verdict::Prev;
            }
        }
        if self.dsq(self.local_dsq(cpu)).nr > 0 {
            return Verdict::Local;
        }
        let verdict = self.scx_dispatch_sched(root, cpu, prev, false);
        if verdict != Verdict::None {
            return verdict;
        }
        let keep = !self.sch(root).flag(OpsFlags::ENQ_LAST) || self.bypassing(root, cpu);
        if self.p(prev).queued() && keep {
            self.sch_mut(root).events.dispatch_keep_last += 1;
            return Verdict::Prev;
        }
        Verdict::None
    }

    /// `set_next_task_scx()`.
    pub(crate) fn set_next_task_scx(&mut self, cpu: CpuId, p: TaskIdx) {
        if self.p(p).queued() {
            // Of no effect but for a task that core scheduling runs undispatched.
            self.ops_dequeue(cpu, p, DeqFlags::CORE_SCHED_EXEC);
            self.dispatch_dequeue(cpu, p);
        }
        self.p_mut(p).se.exec_start = self.now.0;
        if self.p(p).queued()
            && let Some(sched) = self.task_sched(p)
            && self.sch(sched).has(OpSet::RUNNING)
        {
            self.call_task(sched, Op::Running, p, |ops, cx, p| {
                ops.running(cx, p);
            });
        }
        self.clr_task_runnable(cpu, p, true);
        let endless = self.p(p).scx.slice == SCX_SLICE_INF;
        let flags = &mut self.rq_mut(cpu).scx.flags;
        *flags = *flags & !rqf::CAN_STOP_TICK | if endless { rqf::CAN_STOP_TICK } else { 0 };
    }

    /// `put_prev_task_scx()`.
    pub(crate) fn put_prev_task_scx(&mut self, cpu: CpuId, p: TaskIdx, next: Option<TaskIdx>) {
        let Some(sched) = self.task_sched(p) else { return };
        self.rq_mut(cpu).scx.kick_sync += 1;
        self.update_curr(cpu);
        if self.p(p).queued() {
            self.put_back(cpu, sched, p, next);
        }
        if let Some(next) = next {
            self.switch_class(cpu, next);
        }
    }

    /// `switch_class()`: tells the root that a higher class takes the CPU, once until it is back.
    fn switch_class(&mut self, cpu: CpuId, next: TaskIdx) {
        let Some(root) = self.root else { return };
        if self.p(next).sched_class() <= SchedClass::Ext
            || !self.sch(root).has_op.intersects(OpSet::CPU_ACQUIRE | OpSet::CPU_RELEASE)
            || std::mem::replace(&mut self.rq_mut(cpu).scx.cpu_released, true)
        {
            return;
        }
        if self.sch(root).has(OpSet::CPU_RELEASE) {
            self.call(root, Op::CpuRelease, |ops, cx| {
                let next = cx.task(next);
                ops.cpu_release(cx, cpu, next);
            });
        }
    }

    /// The part of `put_prev_task_scx()` for a task that stays runnable.
    fn put_back(&mut self, cpu: CpuId, sched: SchedIdx, p: TaskIdx, next: Option<TaskIdx>) {
        if self.sch(sched).has(OpSet::STOPPING) {
            self.call_task(sched, Op::Stopping, p, |ops, cx, p| {
                ops.stopping(cx, p, true);
            });
        }
        self.set_task_runnable(cpu, p);
        if self.p(p).scx.slice > 0 && !self.bypassing(sched, cpu) {
            // Preempted by a higher class: back to the head of the local queue, or, if it must
            // not linger there, to the scheduler.
            if self.p(p).scx.flags & ent::IMMED != 0 {
                self.reenqueue(cpu, p, ent::REENQ_PREEMPTED);
            } else {
                self.dispatch_enqueue(sched, self.local_dsq(cpu), p, EnqFlags::HEAD);
            }
            return;
        }
        let to_idle = next.is_some_and(|next| self.p(next).sched_class() < SchedClass::Ext);
        if to_idle {
            self.do_enqueue_task(cpu, p, EnqFlags::LAST, -1);
            if self.p(p).scx.dsq == self.local_dsq(cpu).0 {
                // The pick is settled; look again right after it.
                self.rq_mut(cpu).resched_next = true;
            }
        } else {
            self.do_enqueue_task(cpu, p, EnqFlags::empty(), -1);
        }
    }

    /// `select_task_rq_scx()`.
    pub(crate) fn select_task_rq_scx(&mut self, p: TaskIdx, prev: CpuId, wake: WakeFlags) -> CpuId {
        let Some(sched) = self.task_sched(p) else { return prev };
        let bypassing = self.bypassing(sched, prev);
        if self.sch(sched).has(OpSet::SELECT_CPU) && !bypassing {
            return self.call_select_cpu(sched, p, prev, wake);
        }
        let cpu = match self.select_cpu_dfl(p, prev, wake, None, PickIdleFlags::empty()) {
            Some(cpu) => {
                self.refill_task_slice_dfl(sched, p);
                self.p_mut(p).scx.ddsp_dsq_id = DsqId::LOCAL.0;
                cpu
            }
            None => prev,
        };
        self.p_mut(p).scx.selected_cpu = cpu.0 as i32;
        if bypassing {
            self.sch_mut(sched).events.bypass_dispatch += 1;
        }
        cpu
    }

    fn call_select_cpu(
        &mut self,
        sched: SchedIdx,
        p: TaskIdx,
        prev: CpuId,
        wake: WakeFlags,
    ) -> CpuId {
        let this_cpu = self.this_cpu;
        self.rq_mut(this_cpu).scx.direct_dispatch = DirectDispatch::For(p);
        let (is_cid, prev_cid) = (self.sch(sched).is_cid(), self.topology.cid(prev));
        let n = self.call_task(sched, Op::SelectCpu, p, |ops, cx, p| {
            if is_cid {
                ops.select_cid(cx, p, prev_cid, wake).0
            } else {
                ops.select_cpu(cx, p, prev, wake).0
            }
        });
        self.rq_mut(this_cpu).scx.direct_dispatch = DirectDispatch::Off;
        let cpu = self.cpu_of_arg(sched, n);
        let Some(cpu) = cpu else { return prev };
        self.p_mut(p).scx.selected_cpu = cpu.0 as i32;
        if self.cpu_valid(sched, cpu, "from ops.select_cpu()") { cpu } else { prev }
    }

    /// `task_tick_scx()`, and `scx_tick()` before it.
    pub(crate) fn task_tick_scx(&mut self, cpu: CpuId, curr: TaskIdx) {
        let Some(sched) = self.task_sched(curr) else { return };
        if self.bypassing(sched, cpu) {
            self.p_mut(curr).scx.slice = 0;
        } else if self.sch(sched).has(OpSet::TICK) {
            self.call_task(sched, Op::Tick, curr, |ops, cx, p| {
                ops.tick(cx, p);
            });
        }
        if self.p(curr).scx.slice == 0 {
            self.resched_curr(cpu);
        }
    }

    /// `yield_task_scx()`.
    pub(crate) fn yield_task_scx(&mut self, p: TaskIdx) {
        let Some(sched) = self.task_sched(p) else { return };
        if self.sch(sched).has(OpSet::YIELD) {
            self.call_task(sched, Op::Yield, p, |ops, cx, p| {
                ops.yield_task(cx, p);
            });
        } else {
            self.p_mut(p).scx.slice = 0;
        }
    }

    /// `set_cpus_allowed_scx()`: tells the scheduler, unless the task is past its last switch.
    pub(crate) fn set_cpus_allowed_scx(&mut self, p: TaskIdx) {
        if !self.dead_and_done(p)
            && let Some(sched) = self.task_sched(p)
        {
            self.call_set_cpumask(sched, p);
        }
    }

    /// `scx_call_op_set_cpumask()`.
    pub(crate) fn call_set_cpumask(&mut self, sched: SchedIdx, p: TaskIdx) {
        if !self.sch(sched).has(OpSet::SET_CPUMASK) {
            return;
        }
        let cpus = self.p(p).cpus_ptr();
        let cids = self.topology.to_cids(&cpus);
        let is_cid = self.sch(sched).is_cid();
        self.call_task(sched, Op::SetCpumask, p, |ops, cx, p| {
            if is_cid {
                ops.set_cmask(cx, p, &cids);
            } else {
                ops.set_cpumask(cx, p, &cpus);
            }
        });
    }

    /// `reweight_task_scx()`.
    pub(crate) fn reweight_task_scx(&mut self, p: TaskIdx) {
        if self.dead_and_done(p) || self.p(p).task_state() != crate::TaskState::Enabled {
            return;
        }
        let weight = sched_weight_to_cgroup(self.p(p).load_weight());
        self.p_mut(p).scx.weight = weight;
        if let Some(sched) = self.task_sched(p) {
            self.call_set_weight(sched, p, weight);
        }
    }

    pub(crate) fn call_set_weight(&mut self, sched: SchedIdx, p: TaskIdx, weight: u32) {
        if self.sch(sched).has(OpSet::SET_WEIGHT) {
            self.call_task(sched, Op::SetWeight, p, |ops, cx, p| {
                ops.set_weight(cx, p, weight);
            });
        }
    }

    /// `task_should_scx()`: which tasks belong in the ext class now.
    pub(crate) fn task_should_scx(&self, policy: u32) -> bool {
        if !self.scx_enabled {
            return false;
        }
        if self.switching_all {
            return true;
        }
        self.enable_state != EnableState::Disabling && policy == crate::flags::policy::SCHED_EXT
    }
}
