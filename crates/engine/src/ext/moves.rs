//! Moving tasks between queues and CPUs: `consume_dispatch_q()`, `dispatch_to_local_dsq()` and
//! what they share. Here the kernel drops locks half-way, so here the engine has most of its seams.

use super::sched::{DsqIdx, SchedIdx};
use crate::CpuId;
use crate::engine::Engine;
use crate::flags::{DsqId, EnqFlags, opss, rqf};
use crate::task::{NIL, TaskIdx};

/// What a move may do about a task that cannot go where it is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enforce {
    /// Skip it.
    No,
    /// It is the scheduler's error.
    Yes,
}

impl Engine {
    /// `consume_dispatch_q()`: the first task of `dsq` that may run on `cpu` goes to its local
    /// queue; whether there was one. Tasks that may not run there are passed over.
    pub(crate) fn consume_dispatch_q(
        &mut self,
        sched: SchedIdx,
        cpu: CpuId,
        dsq: DsqIdx,
        enq: EnqFlags,
    ) -> bool {
        'retry: loop {
            let mut next = self.dsq_next(dsq, None);
            while let Some(p) = next {
                if self.sch(sched).aborting && self.dsq(dsq).id != DsqId::BYPASS {
                    return false;
                }
                let task_cpu = self.task_cpu(p);
                if task_cpu == cpu {
                    self.task_unlink_from_dsq(p, dsq);
                    self.move_local_task_to_local_dsq(p, enq, cpu);
                    return true;
                }
                if self.task_can_run_on_remote_rq(sched, p, cpu, Enforce::No) {
                    if self.consume_remote_task(cpu, p, enq, dsq, task_cpu) {
                        return true;
                    }
                    continue 'retry;
                }
                next = self.dsq_next(dsq, Some(p));
            }
            return false;
        }
    }

    /// `consume_remote_task()`: takes `p` off `dsq`, then takes its runqueue's lock, which a
    /// dequeue may win.
    fn consume_remote_task(
        &mut self,
        cpu: CpuId,
        p: TaskIdx,
        enq: EnqFlags,
        dsq: DsqIdx,
        src: CpuId,
    ) -> bool {
        // unlink_dsq_and_lock_src_rq()
        let this_cpu = self.this_cpu;
        self.task_unlink_from_dsq(p, dsq);
        self.p_mut(p).scx.holding_cpu = this_cpu.0 as i32;
        self.seam(this_cpu);
        if self.p(p).scx.holding_cpu == this_cpu.0 as i32 && self.task_cpu(p) == src {
            self.move_remote_task_to_local_dsq(p, enq, src, cpu);
            true
        } else {
            self.stats.consumes_lost += 1;
            false
        }
    }

    /// `move_local_task_to_local_dsq()`.
    pub(crate) fn move_local_task_to_local_dsq(&mut self, p: TaskIdx, enq: EnqFlags, cpu: CpuId) {
        let dsq = self.local_dsq(cpu);
        self.list_insert(dsq, p, enq);
        self.dsq_mut(dsq).nr += 1;
        self.p_mut(p).scx.dsq = dsq.0;
        self.note_immed(dsq, p, enq);
        self.stats.dispatches += 1;
        self.local_dsq_post_enq(cpu, p, enq);
    }

    /// `move_remote_task_to_local_dsq()`: from `src`'s runqueue to the local queue of `dst`.
    pub(crate) fn move_remote_task_to_local_dsq(
        &mut self,
        p: TaskIdx,
        enq: EnqFlags,
        src: CpuId,
        dst: CpuId,
    ) {
        self.p_mut(p).scx.sticky_cpu = dst.0 as i32;
        self.p_mut(p).on_rq = 2; // TASK_ON_RQ_MIGRATING
        self.dequeue_task(src, p, crate::flags::DeqFlags::empty());
        self.set_task_cpu(p, dst);
        // switch_rq_lock()
        self.seam(self.this_cpu);
        self.rq_mut(dst).scx.extra_enq_flags = enq;
        self.enqueue_task(dst, p, EnqFlags::MIGRATED);
        self.rq_mut(dst).scx.extra_enq_flags = EnqFlags::empty();
        self.p_mut(p).on_rq = 1;
        self.stats.migrations += 1;
    }

    /// `task_can_run_on_remote_rq()`: may the scheduler move the task to `cpu`?
    pub(crate) fn task_can_run_on_remote_rq(
        &mut self,
        sched: SchedIdx,
        p: TaskIdx,
        cpu: CpuId,
        enforce: Enforce,
    ) -> bool {
        let task = self.p(p);
        if self.migration_disabled(p) > 0 {
            if enforce == Enforce::Yes {
                let msg = format!(
                    "SCX_DSQ_LOCAL[_ON] cannot move migration disabled {} from CPU {} to {cpu}",
                    task.who(),
                    task.cpu
                );
                self.scx_error(sched, msg);
            }
            return false;
        }
        if !task.cpu_allowed(cpu) {
            if enforce == Enforce::Yes {
                self.stats.remote_not_allowed += 1;
                let who = self.p(p).who();
                let msg = format!("SCX_DSQ_LOCAL[_ON] target CPU {cpu} not allowed for {who}");
                self.scx_error(sched, msg);
            }
            return false;
        }
        true
    }

    /// `dispatch_to_local_dsq()`: to the local queue `dst` of any CPU, by whoever owns `p`.
    pub(crate) fn dispatch_to_local_dsq(
        &mut self,
        sched: SchedIdx,
        cpu: CpuId,
        dst_dsq: DsqIdx,
        p: TaskIdx,
        enq: EnqFlags,
    ) {
        let src = self.task_cpu(p);
        let dst = CpuId(dst_dsq.0);
        if cpu == src && cpu == dst {
            self.dispatch_enqueue(sched, dst_dsq, p, enq | EnqFlags::CLEAR_OPSS);
            return;
        }
        // Locks are needed that a dequeue may hold while it waits for DISPATCHING. So let that go
        // and claim the task with holding_cpu, which a dequeue clears.
        let this_cpu = self.this_cpu;
        self.p_mut(p).scx.holding_cpu = this_cpu.0 as i32;
        self.p_mut(p).scx.ops_state = opss::NONE;
        if cpu != src {
            self.seam(this_cpu);
        }
        if self.p(p).scx.holding_cpu != this_cpu.0 as i32 || self.task_cpu(p) != src {
            self.stats.remote_dispatches_lost += 1;
            return;
        }
        let mut fallback = false;
        if src == dst {
            self.p_mut(p).scx.holding_cpu = -1;
            self.dispatch_enqueue(sched, dst_dsq, p, enq);
        } else if !self.task_can_run_on_remote_rq(sched, p, dst, Enforce::Yes) {
            self.p_mut(p).scx.holding_cpu = -1;
            fallback = true;
            let global = self.sch(sched).global_dsq;
            self.dispatch_enqueue(sched, global, p, enq | EnqFlags::GDSQ_FALLBACK);
        } else {
            self.move_remote_task_to_local_dsq(p, enq, src, dst);
        }
        let curr = self.rq(dst).curr;
        if !fallback && self.p(p).sched_class() > self.p(curr).sched_class() {
            self.resched_curr(dst);
        }
        if dst != cpu {
            self.seam(this_cpu);
        }
    }

    /// `schedule_deferred_locked()`.
    pub(crate) fn schedule_deferred_locked(&mut self, cpu: CpuId) {
        let scx = &mut self.rq_mut(cpu).scx;
        if scx.flags & (rqf::IN_WAKEUP | rqf::BAL_CB_PENDING) != 0 {
            return;
        }
        if scx.flags & rqf::IN_BALANCE != 0 {
            scx.flags |= rqf::BAL_CB_PENDING;
            return;
        }
        self.schedule_deferred(cpu);
    }

    /// `schedule_deferred()`: an irq_work on the CPU itself.
    pub(crate) fn schedule_deferred(&mut self, cpu: CpuId) {
        let delay = self.rng.jitter(self.config.costs.ipi);
        self.after(delay, crate::events::Event::RunDeferred { cpu: cpu.0 });
    }

    /// `deferred_irq_workfn()`.
    pub(crate) fn deferred_irq_work(&mut self, cpu: CpuId) {
        self.this_cpu = cpu;
        self.run_deferred(cpu);
    }

    /// `run_deferred()`.
    pub(crate) fn run_deferred(&mut self, cpu: CpuId) {
        self.whole(|engine| {
            engine.process_ddsp_deferred_locals(cpu);
            engine.process_deferred_reenq_locals(cpu);
            engine.process_deferred_reenq_users(cpu);
        });
    }

    /// `process_ddsp_deferred_locals()`: the direct dispatches to other CPUs.
    fn process_ddsp_deferred_locals(&mut self, cpu: CpuId) {
        while let Some(p) = {
            let rq = &mut self.rqs[cpu.index()];
            rq.scx.ddsp_deferred_locals.pop_front(&mut self.tasks)
        } {
            let id = DsqId(self.p(p).scx.ddsp_dsq_id);
            let enq = EnqFlags::from_bits_retain(self.p(p).scx.ddsp_enq_flags);
            self.clear_direct_dispatch(p);
            let Some(sched) = self.task_sched(p) else { continue };
            let dsq = self.find_dsq_for_dispatch(sched, cpu, id);
            debug_assert!(self.p(p).scx.dsq == NIL);
            if self.is_local(dsq) {
                self.dispatch_to_local_dsq(sched, cpu, dsq, p, enq);
            } else {
                // find_dsq_for_dispatch() found an error and gave the global queue.
                self.dispatch_enqueue(sched, dsq, p, enq);
            }
        }
    }

    /// `scx_task_on_sched()`: whether the task is `sched`'s.
    pub(crate) fn on_sched(&self, p: TaskIdx, sched: SchedIdx) -> bool {
        self.task_sched(p) == Some(sched)
    }
}
