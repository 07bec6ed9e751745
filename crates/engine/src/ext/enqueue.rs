//! From the core to the scheduler: `enqueue_task_scx()` and `dequeue_task_scx()`.

use super::sched::{DsqIdx, SchedIdx};
use crate::CpuId;
use crate::engine::Engine;
use crate::flags::{DeqFlags, DsqId, EnqFlags, OpsFlags, ent, opss, pf, rqf};
use crate::kfunc::Op;
use crate::ops::OpSet;
use crate::rq::DirectDispatch;
use crate::task::{NIL, TaskIdx};
use crate::trace::What;

impl Engine {
    /// `enqueue_task_scx()`.
    pub(crate) fn enqueue_task_scx(&mut self, cpu: CpuId, p: TaskIdx, core: EnqFlags) {
        let Some(sched) = self.task_sched(p) else { return };
        let enq = core | self.rq(cpu).scx.extra_enq_flags;
        let mut sticky = self.p(p).scx.sticky_cpu;
        if sticky >= 0 {
            // An internal migration ends on arrival.
            self.p_mut(p).scx.sticky_cpu = -1;
        }
        if core.contains(EnqFlags::WAKEUP) {
            self.rq_mut(cpu).scx.flags |= rqf::IN_WAKEUP;
        }
        // set_next_task_scx() follows and takes tasks from the local queue only.
        if enq.contains(EnqFlags::RESTORE) && self.is_current(p) {
            sticky = cpu.0 as i32;
        }
        if !self.p(p).queued() {
            self.set_task_runnable(cpu, p);
            self.p_mut(p).scx.flags |= ent::QUEUED;
            let rq = self.rq_mut(cpu);
            rq.scx.nr_running += 1;
            rq.nr_running += 1;
            let first = rq.scx.nr_running == 1;
            if self.sch(sched).has(OpSet::RUNNABLE) && self.p(p).on_rq != 2 {
                self.call_task(sched, Op::Runnable, p, |ops, cx, p| {
                    ops.runnable(cx, p, enq);
                });
            }
            if first {
                self.ext_server_start(cpu);
            }
            self.do_enqueue_task(cpu, p, enq, sticky);
        }
        if self.p(p).scx.selected_cpu != cpu.0 as i32 && enq.contains(EnqFlags::CPU_SELECTED) {
            self.sch_mut(sched).events.select_cpu_fallback += 1;
        }
    }

    /// `do_enqueue_task()`.
    pub(crate) fn do_enqueue_task(&mut self, cpu: CpuId, p: TaskIdx, enq: EnqFlags, sticky: i32) {
        let Some(sched) = self.task_sched(p) else { return };
        self.stats.enqueues += 1;
        if sticky == cpu.0 as i32 {
            // Moved within the core, or restored: no refill.
            self.dispatch_enqueue(sched, self.local_dsq(cpu), p, enq);
            return;
        }
        // A fresh enqueue: the scheduler has to ask for it anew.
        self.p_mut(p).scx.flags &= !ent::IMMED;
        if self.bypassing(sched, cpu) {
            self.sch_mut(sched).events.bypass_dispatch += 1;
            let dsq = self.bypass_enq_target_dsq(sched, self.task_cpu(p));
            self.enqueue_refilled(sched, dsq, p, enq);
            return;
        }
        if self.p(p).scx.ddsp_dsq_id != DsqId::INVALID.0 {
            self.direct_dispatch(sched, cpu, p, enq);
            return;
        }
        let exiting = self.p(p).flags & pf::PF_EXITING != 0;
        if exiting && !self.sch(sched).flag(OpsFlags::ENQ_EXITING) {
            self.sch_mut(sched).events.enq_skip_exiting += 1;
            self.enqueue_refilled(sched, self.local_dsq(cpu), p, enq);
            return;
        }
        let pinned = self.migration_disabled(p) > 0;
        if pinned && !self.sch(sched).flag(OpsFlags::ENQ_MIGRATION_DISABLED) {
            self.sch_mut(sched).events.enq_skip_migration_disabled += 1;
            self.enqueue_refilled(sched, self.local_dsq(cpu), p, enq);
            return;
        }
        if !self.sch(sched).has(OpSet::ENQUEUE) {
            self.enqueue_refilled(sched, self.sch(sched).global_dsq, p, enq);
            return;
        }
        self.call_enqueue(sched, cpu, p, enq);
    }

    fn call_enqueue(&mut self, sched: SchedIdx, cpu: CpuId, p: TaskIdx, enq: EnqFlags) {
        let scx = &mut self.p_mut(p).scx;
        // 0 is what an insert records for a task that is not queued.
        scx.ops_qseq = scx.ops_qseq.checked_add(1).unwrap_or(1);
        let qseq = u64::from(scx.ops_qseq) << opss::QSEQ_SHIFT;
        scx.ops_state = opss::QUEUEING | qseq;

        let this_cpu = self.this_cpu;
        self.rq_mut(this_cpu).scx.direct_dispatch = DirectDispatch::For(p);
        self.call_task(sched, Op::Enqueue, p, |ops, cx, p| {
            ops.enqueue(cx, p, enq);
        });
        self.rq_mut(this_cpu).scx.direct_dispatch = DirectDispatch::Off;

        if self.p(p).scx.ddsp_dsq_id != DsqId::INVALID.0 {
            self.direct_dispatch(sched, cpu, p, enq);
            return;
        }
        // The scheduler has it now.
        let scx = &mut self.p_mut(p).scx;
        scx.flags |= ent::IN_CUSTODY;
        scx.ops_state = opss::QUEUED | qseq;
        self.note_queued(p);
        self.record(|engine| What::Queued { task: engine.name(p) });
    }

    /// The tail of `do_enqueue_task()` for tasks that skip `ops.enqueue`.
    fn enqueue_refilled(&mut self, sched: SchedIdx, dsq: DsqIdx, p: TaskIdx, enq: EnqFlags) {
        self.refill_task_slice_dfl(sched, p);
        self.clear_direct_dispatch(p);
        self.dispatch_enqueue(sched, dsq, p, enq);
    }

    /// `refill_task_slice_dfl()`.
    pub(crate) fn refill_task_slice_dfl(&mut self, sched: SchedIdx, p: TaskIdx) {
        self.p_mut(p).scx.slice = self.sch(sched).slice_dfl;
        self.sch_mut(sched).events.refill_slice_dfl += 1;
    }

    pub(crate) fn clear_direct_dispatch(&mut self, p: TaskIdx) {
        let scx = &mut self.p_mut(p).scx;
        scx.ddsp_dsq_id = DsqId::INVALID.0;
        scx.ddsp_enq_flags = 0;
    }

    /// `direct_dispatch()`: an insert by `ops.select_cpu` or `ops.enqueue`.
    fn direct_dispatch(&mut self, sched: SchedIdx, cpu: CpuId, p: TaskIdx, enq: EnqFlags) {
        let id = DsqId(self.p(p).scx.ddsp_dsq_id);
        let dsq = self.find_dsq_for_dispatch(sched, cpu, id);
        self.p_mut(p).scx.ddsp_enq_flags |= enq.bits();
        if self.is_local(dsq) && dsq != self.local_dsq(cpu) {
            // Another CPU's lock is needed, which can't be had here.
            self.p_mut(p).scx.ops_state = opss::NONE;
            let mut list = std::mem::take(&mut self.rq_mut(cpu).scx.ddsp_deferred_locals);
            list.push_back(&mut self.tasks, p);
            self.rq_mut(cpu).scx.ddsp_deferred_locals = list;
            self.schedule_deferred_locked(cpu);
            return;
        }
        let enq = EnqFlags::from_bits_retain(self.p(p).scx.ddsp_enq_flags);
        self.clear_direct_dispatch(p);
        self.dispatch_enqueue(sched, dsq, p, enq | EnqFlags::CLEAR_OPSS);
    }

    /// `set_task_runnable()`.
    pub(crate) fn set_task_runnable(&mut self, cpu: CpuId, p: TaskIdx) {
        let jiffies = self.jiffies();
        let scx = &mut self.p_mut(p).scx;
        if scx.flags & ent::RESET_RUNNABLE_AT != 0 {
            scx.runnable_at = jiffies;
            scx.flags &= !ent::RESET_RUNNABLE_AT;
            self.sim_mut(p).runnable_since = self.now;
        }
        self.rqs[cpu.index()].scx.runnable_list.push_back(&mut self.tasks, p);
    }

    /// `clr_task_runnable()`.
    pub(crate) fn clr_task_runnable(&mut self, cpu: CpuId, p: TaskIdx, reset: bool) {
        if self.p(p).scx.runnable_node.is_on() {
            self.rqs[cpu.index()].scx.runnable_list.remove(&mut self.tasks, p);
        }
        if reset {
            self.p_mut(p).scx.flags |= ent::RESET_RUNNABLE_AT;
        }
    }

    /// `ops_dequeue()`: takes `p` back from the scheduler.
    pub(crate) fn ops_dequeue(&mut self, cpu: CpuId, p: TaskIdx, deq: DeqFlags) {
        // A dequeue is temporary: runnable_at stays.
        self.clr_task_runnable(cpu, p, false);
        // QUEUEING and DISPATCHING begin and end within one step of the engine.
        self.p_mut(p).scx.ops_state = opss::NONE;
        self.leave_custody(p, deq);
    }

    /// `task_leave_custody()`, and the `ops.dequeue` that is owed for it.
    pub(crate) fn leave_custody(&mut self, p: TaskIdx, deq: DeqFlags) {
        let task = self.p_mut(p);
        if !task.in_custody() || task.scx.sticky_cpu >= 0 {
            return;
        }
        task.scx.flags &= !ent::IN_CUSTODY;
        let Some(sched) = self.task_sched(p) else { return };
        if self.sch(sched).has(OpSet::DEQUEUE) {
            self.call_task(sched, Op::Dequeue, p, |ops, cx, p| {
                ops.dequeue(cx, p, deq);
            });
        }
    }

    /// `dequeue_task_scx()`.
    pub(crate) fn dequeue_task_scx(&mut self, cpu: CpuId, p: TaskIdx, core: DeqFlags) {
        let Some(sched) = self.task_sched(p) else { return };
        if !self.p(p).queued() {
            return;
        }
        let mut deq = core;
        if !core.intersects(DeqFlags::SLEEP | DeqFlags::CORE_SCHED_EXEC) {
            deq |= DeqFlags::SCHED_CHANGE;
        }
        self.ops_dequeue(cpu, p, deq);
        if self.is_current(p) {
            self.update_curr(cpu);
            if self.sch(sched).has(OpSet::STOPPING) {
                self.call_task(sched, Op::Stopping, p, |ops, cx, p| {
                    ops.stopping(cx, p, false);
                });
            }
        }
        if self.sch(sched).has(OpSet::QUIESCENT) && self.p(p).on_rq != 2 {
            self.call_task(sched, Op::Quiescent, p, |ops, cx, p| {
                ops.quiescent(cx, p, deq);
            });
        }
        let scx = &mut self.p_mut(p).scx;
        if deq.contains(DeqFlags::SLEEP) {
            scx.flags |= ent::DEQD_FOR_SLEEP;
        } else {
            scx.flags &= !ent::DEQD_FOR_SLEEP;
        }
        scx.flags &= !ent::QUEUED;
        let rq = self.rq_mut(cpu);
        rq.scx.nr_running -= 1;
        rq.nr_running -= 1;
        self.dispatch_dequeue(cpu, p);
        self.clear_direct_dispatch(p);
    }

    /// `dispatch_dequeue()`: off whatever queue the task is on, or out of a transfer.
    pub(crate) fn dispatch_dequeue(&mut self, cpu: CpuId, p: TaskIdx) {
        let dsq = self.p(p).scx.dsq;
        if dsq == NIL {
            if self.p(p).scx.dsq_list.is_on() {
                self.rqs[cpu.index()].scx.ddsp_deferred_locals.remove(&mut self.tasks, p);
            }
            self.note_transfer_lost(p);
            self.p_mut(p).scx.holding_cpu = -1;
            return;
        }
        if self.p(p).scx.holding_cpu < 0 {
            self.task_unlink_from_dsq(p, DsqIdx(dsq));
        } else {
            // A transfer has it already; this tells it that it lost.
            self.note_transfer_lost(p);
            self.p_mut(p).scx.holding_cpu = -1;
        }
        self.p_mut(p).scx.dsq = NIL;
    }

    /// Counts a dequeue that takes the task from a transfer, unless it is the transfer's own.
    fn note_transfer_lost(&mut self, p: TaskIdx) {
        let scx = &self.p(p).scx;
        if scx.holding_cpu >= 0 && scx.sticky_cpu < 0 {
            self.stats.transfers_lost += 1;
        }
    }
}
