//! Dispatch queues: into them and out of them.

use super::sched::{Dsq, DsqIdx, SchedIdx};
use crate::engine::Engine;
use crate::flags::{DeqFlags, DsqId, EnqFlags, ent, opss, rqf};
use crate::list::List;
use crate::task::{NIL, SchedClass, TaskIdx};
use crate::trace::What;
use crate::{Cid, CpuId};

impl Engine {
    pub(crate) fn dsq(&self, dsq: DsqIdx) -> &Dsq {
        &self.dsqs[dsq.0 as usize]
    }

    pub(crate) fn dsq_mut(&mut self, dsq: DsqIdx) -> &mut Dsq {
        &mut self.dsqs[dsq.0 as usize]
    }

    /// A CPU's `local_dsq`.
    pub(crate) fn local_dsq(&self, cpu: CpuId) -> DsqIdx {
        DsqIdx(self.rq(cpu).scx.local_dsq)
    }

    /// Whether it is a local queue. Its place is then its CPU's number.
    pub(crate) fn is_local(&self, dsq: DsqIdx) -> bool {
        (dsq.0 as usize) < self.nr_cpus()
    }

    pub(crate) fn new_dsq(&mut self, id: DsqId, sched: Option<SchedIdx>) -> DsqIdx {
        let dsq = Dsq::new(id, sched);
        match self.free_dsqs.pop() {
            Some(i) => {
                self.dsqs[i as usize] = dsq;
                DsqIdx(i)
            }
            None => {
                self.dsqs.push(dsq);
                DsqIdx(self.dsqs.len() as u32 - 1)
            }
        }
    }

    /// `find_dsq_for_dispatch()`. A queue that does not exist is an error, and the global queue.
    pub(crate) fn find_dsq_for_dispatch(
        &mut self,
        sched: SchedIdx,
        cpu: CpuId,
        id: DsqId,
    ) -> DsqIdx {
        if id == DsqId::LOCAL {
            return self.local_dsq(cpu);
        }
        let global = self.sch(sched).global_dsq;
        if let Some(n) = id.as_local_on() {
            let Some(on) = self.cpu_of_arg(sched, n) else { return global };
            return if self.cpu_valid(sched, on, "in SCX_DSQ_LOCAL_ON dispatch verdict") {
                self.local_dsq(on)
            } else {
                global
            };
        }
        if id == DsqId::GLOBAL {
            return global;
        }
        match self.sch(sched).dsq_hash.get(&id.0) {
            Some(&dsq) => dsq,
            None => {
                self.scx_error(sched, format!("non-existent DSQ {:#x}", id.0));
                global
            }
        }
    }

    /// `scx_cpu_ret()`: a CPU number from a scheduler, which for the cid form is a cid.
    pub(crate) fn cpu_of_arg(&mut self, sched: SchedIdx, n: u32) -> Option<CpuId> {
        if !self.sch(sched).is_cid() {
            return Some(CpuId(n));
        }
        let cpu = self.topology.cpu(Cid(n));
        if cpu.is_none() {
            self.scx_error(sched, format!("invalid cid {}", n as i32));
        }
        cpu
    }

    /// `dispatch_enqueue()`: puts `p` into `dsq`.
    pub(crate) fn dispatch_enqueue(
        &mut self,
        sched: SchedIdx,
        dsq: DsqIdx,
        p: TaskIdx,
        mut enq: EnqFlags,
    ) {
        debug_assert!(self.p(p).scx.dsq == NIL && !self.p(p).scx.dsq_list.is_on());
        let mut dsq = dsq;
        if self.dsq(dsq).id == DsqId::INVALID {
            self.scx_error(sched, "attempting to dispatch to a destroyed dsq".into());
            dsq = self.sch(sched).global_dsq;
        }
        if self.dsq(dsq).id.is_builtin() && enq.contains(EnqFlags::DSQ_PRIQ) {
            self.scx_error(sched, "cannot use vtime ordering for built-in DSQs".into());
            enq.remove(EnqFlags::DSQ_PRIQ);
        }
        if enq.contains(EnqFlags::DSQ_PRIQ) {
            self.insert_by_vtime(sched, dsq, p);
        } else {
            self.insert_fifo(sched, dsq, p, enq);
        }
        let queue = self.dsq_mut(dsq);
        queue.seq += 1;
        queue.nr += 1;
        let (seq, id) = (queue.seq as u32, queue.id);
        let scx = &mut self.p_mut(p).scx;
        scx.dsq_seq = seq;
        scx.dsq = dsq.0;
        self.note_immed(dsq, p, enq);
        self.stats.dispatches += 1;
        self.record(|engine| What::Inserted { task: engine.name(p), dsq: id.0 });

        if self.is_local(dsq) {
            self.local_dsq_post_enq(CpuId(dsq.0), p, enq);
        } else if id == DsqId::GLOBAL || id == DsqId::BYPASS {
            // These are terminal: the task leaves the scheduler's custody.
            self.leave_custody(p, DeqFlags::empty());
        } else {
            self.p_mut(p).scx.flags |= ent::IN_CUSTODY;
        }
        if enq.contains(EnqFlags::CLEAR_OPSS) {
            self.p_mut(p).scx.ops_state = opss::NONE;
        }
    }

    fn insert_by_vtime(&mut self, sched: SchedIdx, dsq: DsqIdx, p: TaskIdx) {
        let id = self.dsq(dsq).id.0;
        if self.dsq(dsq).priq.is_empty() && !self.dsq(dsq).list.is_empty() {
            let msg = format!("DSQ ID {id:#018x} already had FIFO-enqueued tasks");
            self.scx_error(sched, msg);
        }
        let vtime = self.p(p).scx.dsq_vtime;
        let queue = &mut self.dsqs[dsq.0 as usize];
        if queue.priq.is_empty() {
            queue.priq_base = vtime;
        }
        let key = (vtime.wrapping_sub(queue.priq_base) as i64, queue.seq);
        let before = queue.priq.range(..key).next_back().map(|(_, &before)| before);
        queue.priq.insert(key, p);
        // The list is kept in vtime order too.
        match before {
            Some(before) => queue.list.insert_after(&mut self.tasks, before, p),
            None => queue.list.push_front(&mut self.tasks, p),
        }
        self.sim_mut(p).priq_key = Some(key);
        self.p_mut(p).scx.dsq_flags |= ent::DSQ_ON_PRIQ;
    }

    fn insert_fifo(&mut self, sched: SchedIdx, dsq: DsqIdx, p: TaskIdx, enq: EnqFlags) {
        if !self.dsq(dsq).priq.is_empty() {
            let id = self.dsq(dsq).id.0;
            let msg = format!("DSQ ID {id:#018x} already had PRIQ-enqueued tasks");
            self.scx_error(sched, msg);
        }
        self.list_insert(dsq, p, enq);
    }

    /// First or last on the queue's list, as the flags say.
    pub(crate) fn list_insert(&mut self, dsq: DsqIdx, p: TaskIdx, enq: EnqFlags) {
        let list = &mut self.dsqs[dsq.0 as usize].list;
        if enq.intersects(EnqFlags::HEAD | EnqFlags::PREEMPT) {
            list.push_front(&mut self.tasks, p);
        } else {
            list.push_back(&mut self.tasks, p);
        }
    }

    /// `local_dsq_post_enq()`: what an insert into the local queue of `cpu` sets off.
    pub(crate) fn local_dsq_post_enq(&mut self, cpu: CpuId, p: TaskIdx, enq: EnqFlags) {
        self.leave_custody(p, DeqFlags::empty());
        if self.p(p).sched_class() > self.rq(cpu).next_class {
            self.wakeup_preempt(cpu, p);
        }
        if self.rq(cpu).scx.flags & rqf::IN_BALANCE != 0 {
            return;
        }
        let curr = self.rq(cpu).curr;
        if enq.contains(EnqFlags::PREEMPT)
            && p != curr
            && self.p(curr).sched_class() == SchedClass::Ext
        {
            self.p_mut(curr).scx.slice = 0;
            self.resched_curr(cpu);
        }
    }

    /// `task_unlink_from_dsq()`.
    pub(crate) fn task_unlink_from_dsq(&mut self, p: TaskIdx, dsq: DsqIdx) {
        self.cursors_step_off(dsq, p);
        if let Some(key) = self.sim_mut(p).priq_key.take() {
            self.dsq_mut(dsq).priq.remove(&key);
            self.p_mut(p).scx.dsq_flags &= !ent::DSQ_ON_PRIQ;
        }
        self.forget_immed(dsq, p);
        let queue = &mut self.dsqs[dsq.0 as usize];
        queue.list.remove(&mut self.tasks, p);
        queue.nr -= 1;
    }

    /// The tasks of a queue, first to last.
    pub(crate) fn dsq_next(&self, dsq: DsqIdx, after: Option<TaskIdx>) -> Option<TaskIdx> {
        match after {
            None => self.dsq(dsq).list.first(),
            Some(p) => List::<crate::list::DsqLink>::next(&self.tasks, p),
        }
    }

    /// `destroy_dsq()`.
    pub(crate) fn destroy_dsq(&mut self, sched: SchedIdx, id: DsqId) {
        let Some(&dsq) = self.sch(sched).dsq_hash.get(&id.0) else { return };
        let nr = self.dsq(dsq).nr;
        if nr > 0 {
            let msg = format!("attempting to destroy in-use dsq {:#018x} (nr={nr})", id.0);
            self.scx_error(sched, msg);
            return;
        }
        self.sch_mut(sched).dsq_hash.remove(&id.0);
        self.dsq_mut(dsq).id = DsqId::INVALID;
        // A dispatch that holds it may still come; the place is used again after the scheduler.
    }
}
