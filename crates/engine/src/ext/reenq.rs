//! Tasks that go back to the scheduler from a queue: `SCX_ENQ_IMMED` and `scx_bpf_dsq_reenq()`.

use super::sched::{DsqIdx, SchedIdx};
use crate::CpuId;
use crate::engine::Engine;
use crate::flags::{
    DsqId, EnqFlags, OpsFlags, SCX_REENQ_LOCAL_MAX_REPEAT, SCX_TASK_ITER_BATCH, ent, rqf,
};
use crate::task::{NIL, SchedClass, TaskIdx};

/// Which tasks of a local queue go back: the filter bits of `enum scx_reenq_flags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reenq {
    /// Those with `SCX_ENQ_IMMED` that cannot run at once.
    Immed,
    /// `SCX_REENQ_ANY`: all.
    Any,
}

/// `struct scx_deferred_reenq_local`, on a CPU's list while there is something to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReenqLocal {
    pub sched: SchedIdx,
    pub what: Reenq,
}

/// How often in a row a scheduler's tasks went back from one local queue.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReenqRepeats {
    seq: u64,
    count: u32,
}

impl Engine {
    /// `scx_vet_enq_flags()`: whether the scheduler may insert so.
    pub(crate) fn vet_enq_flags(
        &mut self,
        sched: SchedIdx,
        dsq: DsqId,
        enq: &mut EnqFlags,
    ) -> bool {
        let is_local = dsq == DsqId::LOCAL || dsq.as_local_on().is_some();
        if enq.contains(EnqFlags::IMMED) {
            if !is_local {
                let msg = format!("SCX_ENQ_IMMED on a non-local DSQ {:#x}", dsq.0);
                self.scx_error(sched, msg);
                return false;
            }
        } else if is_local && self.sch(sched).flag(OpsFlags::ALWAYS_ENQ_IMMED) {
            *enq |= EnqFlags::IMMED;
        }
        true
    }

    /// The part of `dsq_inc_nr()` that is about `SCX_ENQ_IMMED`. `p` is on `dsq` now.
    pub(crate) fn note_immed(&mut self, dsq: DsqIdx, p: TaskIdx, enq: EnqFlags) {
        if !self.is_local(dsq) {
            return;
        }
        if enq.contains(EnqFlags::IMMED) {
            self.p_mut(p).scx.flags |= ent::IMMED;
        }
        if self.p(p).scx.flags & ent::IMMED == 0 {
            return;
        }
        let cpu = CpuId(dsq.0);
        self.rq_mut(cpu).scx.nr_immed += 1;
        if self.dsq(dsq).nr > 1 || !self.rq_is_open(cpu, enq) {
            self.schedule_reenq_local(cpu);
        }
    }

    /// The same of `dsq_dec_nr()`.
    pub(crate) fn forget_immed(&mut self, dsq: DsqIdx, p: TaskIdx) {
        if self.is_local(dsq) && self.p(p).scx.flags & ent::IMMED != 0 {
            self.rq_mut(CpuId(dsq.0)).scx.nr_immed -= 1;
        }
    }

    /// `rq_is_open()`: whether a task that is inserted now runs at once.
    fn rq_is_open(&self, cpu: CpuId, enq: EnqFlags) -> bool {
        let rq = self.rq(cpu);
        match rq.next_class {
            SchedClass::Fair => false,
            SchedClass::Idle => true,
            // The pick decides at its end whether the current task goes on: balance_one().
            SchedClass::Ext => {
                rq.scx.flags & rqf::IN_BALANCE != 0 || enq.contains(EnqFlags::PREEMPT)
            }
        }
    }

    /// `schedule_reenq_local()`, for the CPU whose runqueue lock is held.
    pub(crate) fn schedule_reenq_local(&mut self, cpu: CpuId) {
        if let Some(root) = self.root {
            self.schedule_dsq_reenq(root, self.local_dsq(cpu), Reenq::Immed, Some(cpu));
        }
    }

    /// `schedule_dsq_reenq()`.
    pub(crate) fn schedule_dsq_reenq(
        &mut self,
        sched: SchedIdx,
        dsq: DsqIdx,
        what: Reenq,
        locked: Option<CpuId>,
    ) {
        if self.sch(sched).bypass_depth > 0 {
            return;
        }
        let cpu = if self.is_local(dsq) {
            let cpu = CpuId(dsq.0);
            let list = &mut self.rq_mut(cpu).scx.deferred_reenq_locals;
            match list.iter_mut().find(|deferred| deferred.sched == sched) {
                Some(deferred) => deferred.what = deferred.what.max(what),
                None => list.push_back(ReenqLocal { sched, what }),
            }
            cpu
        } else if !self.dsq(dsq).id.is_builtin() {
            let cpu = self.this_cpu;
            let list = &mut self.rq_mut(cpu).scx.deferred_reenq_users;
            if !list.contains(&dsq) {
                list.push_back(dsq);
            }
            cpu
        } else {
            let msg = format!("DSQ {:#x} not allowed for reenq", self.dsq(dsq).id.0);
            self.scx_error(sched, msg);
            return;
        };
        if locked == Some(cpu) {
            self.schedule_deferred_locked(cpu);
        } else {
            self.schedule_deferred(cpu);
        }
    }

    /// `process_deferred_reenq_locals()`.
    pub(crate) fn process_deferred_reenq_locals(&mut self, cpu: CpuId) {
        let scx = &mut self.rq_mut(cpu).scx;
        scx.deferred_reenq_locals_seq += 1;
        let seq = scx.deferred_reenq_locals_seq;
        while let Some(deferred) = self.rq_mut(cpu).scx.deferred_reenq_locals.pop_front() {
            let sched = deferred.sched;
            let repeats = &mut self.sch_mut(sched).pcpu[cpu.index()].reenq_repeats;
            if repeats.seq != seq {
                *repeats = ReenqRepeats { seq, count: 0 };
            } else {
                repeats.count += 1;
                let count = repeats.count;
                self.sch_mut(sched).events.reenq_local_repeat += 1;
                if count > SCX_REENQ_LOCAL_MAX_REPEAT {
                    let msg = format!("SCX_ENQ_REENQ on SCX_DSQ_LOCAL repeated {count} times");
                    self.scx_error(sched, msg);
                    continue;
                }
            }
            self.reenq_local(sched, cpu, deferred.what);
        }
    }

    /// `reenq_local()`: how many tasks of the local queue of `cpu` went back.
    pub(crate) fn reenq_local(&mut self, sched: SchedIdx, cpu: CpuId, what: Reenq) -> u32 {
        let open = self.rq_is_open(cpu, EnqFlags::empty());
        let dsq = self.local_dsq(cpu);
        let tasks: Vec<_> = self.dsq(dsq).list.iter(&self.tasks).collect();
        let mut back = Vec::new();
        let mut first = true;
        for p in tasks {
            let Some(owner) = self.task_sched(p) else { continue };
            if !self.is_descendant(owner, sched) {
                continue;
            }
            // local_task_should_reenq()
            let head = std::mem::take(&mut first);
            let immed = self.p(p).scx.flags & ent::IMMED != 0 && !(head && open);
            if immed {
                self.sch_mut(owner).events.reenq_immed += 1;
            } else if what != Reenq::Any {
                continue;
            }
            self.dispatch_dequeue(cpu, p);
            back.push((p, if immed { ent::REENQ_IMMED } else { ent::REENQ_KFUNC }));
        }
        let count = back.len() as u32;
        for (p, reason) in back {
            self.reenqueue(cpu, p, reason);
        }
        count
    }

    /// Back to its scheduler, which can see why.
    pub(crate) fn reenqueue(&mut self, cpu: CpuId, p: TaskIdx, reason: u32) {
        self.p_mut(p).scx.flags |= reason;
        self.do_enqueue_task(cpu, p, EnqFlags::REENQ, -1);
        self.p_mut(p).scx.flags &= !ent::REENQ_REASON_MASK;
    }

    /// `process_deferred_reenq_users()`. What is asked for meanwhile is for the next time, which
    /// `schedule_dsq_reenq()` has seen to: the kernel goes on until nobody asks, perhaps for ever.
    pub(crate) fn process_deferred_reenq_users(&mut self, cpu: CpuId) {
        for _ in 0..self.rq(cpu).scx.deferred_reenq_users.len() {
            let next = self.rq_mut(cpu).scx.deferred_reenq_users.pop_front();
            let Some(dsq) = next else { return };
            if !self.dsq(dsq).id.is_builtin()
                && let Some(sched) = self.dsq(dsq).sched
            {
                self.reenq_user(sched, cpu, dsq);
            }
        }
    }

    /// `reenq_user()`: all tasks that are in a scheduler's queue now go back.
    fn reenq_user(&mut self, sched: SchedIdx, cpu: CpuId, dsq: DsqIdx) {
        let it = self.new_cursor(dsq, false);
        let mut locked = Some(cpu);
        let mut count = 0;
        while self.sch(sched).bypass_depth == 0
            && let Some(p) = self.cursor_next(it)
        {
            let task_cpu = self.task_cpu(p);
            if locked != Some(task_cpu) {
                locked = Some(task_cpu);
                self.seam(self.this_cpu);
                let Some(cursor) = self.cursor(it).cloned() else { break };
                if self.cursor_lost_task(&cursor, p, task_cpu) {
                    continue;
                }
            }
            self.task_unlink_from_dsq(p, dsq);
            self.p_mut(p).scx.dsq = NIL;
            self.reenqueue(task_cpu, p, ent::REENQ_KFUNC);
            count += 1;
            if count % SCX_TASK_ITER_BATCH == 0 {
                locked = None;
            }
        }
        self.destroy_cursor(it);
        if locked != Some(cpu) {
            self.seam(self.this_cpu);
        }
    }
}
