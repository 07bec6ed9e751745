//! Walking through a queue while others change it: `struct bpf_iter_scx_dsq_kern` and
//! `nldsq_cursor_next_task()`.

use super::moves::Enforce;
use super::sched::{DsqIdx, SchedIdx};
use crate::engine::Engine;
use crate::flags::{DsqId, EnqFlags};
use crate::list::{DsqLink, List};
use crate::task::TaskIdx;
use crate::{CpuId, DsqIter};

/// Where a walk stands. Tasks that come after it began are not seen.
#[derive(Clone, Debug)]
pub(crate) struct DsqCursor {
    /// Whose it is: see [`Engine::drop_cursors`].
    depth: u32,
    serial: u64,
    dsq: DsqIdx,
    /// The queue's `seq` when the walk began.
    seq: u32,
    backwards: bool,
    /// The task that it stands behind, in its direction; nothing at the start.
    at: Option<TaskIdx>,
    /// For the next move only.
    pub slice: Option<u64>,
    /// For the next move only.
    pub vtime: Option<u64>,
}

impl DsqCursor {
    /// Whether a task was queued after the walk began: `u32_before(cursor->priv, p->scx.dsq_seq)`.
    fn is_too_new(&self, dsq_seq: u32) -> bool {
        (self.seq.wrapping_sub(dsq_seq) as i32) < 0
    }
}

impl Engine {
    /// `bpf_iter_scx_dsq_new()`, for a queue that is there.
    pub(crate) fn new_cursor(&mut self, dsq: DsqIdx, backwards: bool) -> DsqIter {
        self.cursor_serial += 1;
        let serial = self.cursor_serial;
        let seq = self.dsq(dsq).seq as u32;
        self.cursors.push(DsqCursor {
            depth: self.readers,
            serial,
            dsq,
            seq,
            backwards,
            at: None,
            slice: None,
            vtime: None,
        });
        DsqIter(serial)
    }

    /// Where a cursor is among all: they are in the order of their serials.
    fn place_of(&self, it: DsqIter) -> Option<usize> {
        self.cursors.binary_search_by_key(&it.0, |cursor| cursor.serial).ok()
    }

    /// Nothing once it was destroyed.
    pub(crate) fn cursor(&mut self, it: DsqIter) -> Option<&mut DsqCursor> {
        let at = self.place_of(it)?;
        self.cursors.get_mut(at)
    }

    /// `bpf_iter_scx_dsq_destroy()`.
    pub(crate) fn destroy_cursor(&mut self, it: DsqIter) {
        self.place_of(it).map(|at| self.cursors.remove(at));
    }

    /// Destroys what a callback left, as the verifier would have made it do itself.
    pub(crate) fn drop_cursors(&mut self) {
        self.cursors.retain(|cursor| cursor.depth <= self.readers);
    }

    /// `nldsq_cursor_next_task()`. At the end it gives nothing, and then begins anew.
    pub(crate) fn cursor_next(&mut self, it: DsqIter) -> Option<TaskIdx> {
        let cursor = self.cursor(it)?.clone();
        let list = &self.dsq(cursor.dsq).list;
        let step = |p: Option<TaskIdx>| match (p, cursor.backwards) {
            (None, false) => list.first(),
            (None, true) => list.last(),
            (Some(p), false) => List::<DsqLink>::next(&self.tasks, p),
            (Some(p), true) => List::<DsqLink>::prev(&self.tasks, p),
        };
        let mut next = step(cursor.at);
        while let Some(p) = next
            && cursor.is_too_new(self.p(p).scx.dsq_seq)
        {
            next = step(Some(p));
        }
        self.cursor(it)?.at = next;
        next
    }

    /// To be called before `p` leaves `dsq`: a walk that stands at it steps back.
    pub(crate) fn cursors_step_off(&mut self, dsq: DsqIdx, p: TaskIdx) {
        for cursor in &mut self.cursors {
            if cursor.dsq == dsq && cursor.at == Some(p) {
                cursor.at = match cursor.backwards {
                    false => List::<DsqLink>::prev(&self.tasks, p),
                    true => List::<DsqLink>::next(&self.tasks, p),
                };
            }
        }
    }

    /// `scx_dsq_move()`: `p` from the queue that is walked through to another; whether it was
    /// still there. `locked` is the runqueue whose lock the caller holds.
    pub(crate) fn dsq_move(
        &mut self,
        it: DsqIter,
        p: TaskIdx,
        to: DsqId,
        enq: EnqFlags,
        locked: Option<CpuId>,
    ) -> bool {
        let Some(cursor) = self.cursor(it) else { return false };
        let cursor = cursor.clone();
        let Some(sched) = self.dsq(cursor.dsq).sched else { return false };
        // A queue that is destroyed is empty, and gets no more tasks.
        if self.sch(sched).aborting {
            return false;
        }
        let src = self.task_cpu(p);
        if locked.is_some_and(|locked| locked != src) {
            // switch_rq_lock(): the task may go meanwhile.
            self.seam(self.this_cpu);
        }
        let moved = !self.cursor_lost_task(&cursor, p, src)
            && self.move_while_queued(sched, &cursor, p, to, enq, locked);
        if let Some(cursor) = self.cursor(it) {
            (cursor.slice, cursor.vtime) = (None, None);
        }
        moved
    }

    /// `nldsq_cursor_lost_task()`: whether somebody else took the task, or is about to.
    pub(crate) fn cursor_lost_task(&self, cursor: &DsqCursor, p: TaskIdx, src: CpuId) -> bool {
        let scx = &self.p(p).scx;
        scx.dsq != cursor.dsq.0
            || cursor.is_too_new(scx.dsq_seq)
            || scx.holding_cpu >= 0
            || self.task_cpu(p) != src
    }

    /// The part of `scx_dsq_move()` that holds the queue's lock and the task's.
    fn move_while_queued(
        &mut self,
        sched: SchedIdx,
        cursor: &DsqCursor,
        p: TaskIdx,
        to: DsqId,
        enq: EnqFlags,
        locked: Option<CpuId>,
    ) -> bool {
        if !self.on_sched(p, sched) {
            let who = self.p(p).who();
            let msg = format!(
                "scx_bpf_dsq_move[_vtime]() on {who} but the task belongs to a different scheduler"
            );
            self.scx_error(sched, msg);
            return false;
        }
        let dst = self.find_dsq_for_dispatch(sched, locked.unwrap_or(self.this_cpu), to);
        let scx = &mut self.p_mut(p).scx;
        scx.dsq_vtime = cursor.vtime.unwrap_or(scx.dsq_vtime);
        scx.slice = cursor.slice.unwrap_or(scx.slice);
        let ends_on = self.move_task_between_dsqs(sched, p, enq, cursor.dsq, dst);
        if locked.is_some_and(|locked| locked != ends_on) {
            self.seam(self.this_cpu);
        }
        true
    }

    /// `move_task_between_dsqs()`; the CPU whose runqueue the task is on afterwards.
    fn move_task_between_dsqs(
        &mut self,
        sched: SchedIdx,
        p: TaskIdx,
        mut enq: EnqFlags,
        from: DsqIdx,
        mut to: DsqIdx,
    ) -> CpuId {
        let src = self.task_cpu(p);
        if self.is_local(to) {
            let dst = CpuId(to.0);
            if src == dst {
                self.task_unlink_from_dsq(p, from);
                self.move_local_task_to_local_dsq(p, enq, dst);
                return dst;
            }
            if self.task_can_run_on_remote_rq(sched, p, dst, Enforce::Yes) {
                self.move_remote_task_to_local_dsq(p, enq, src, dst);
                return dst;
            }
            to = self.sch(sched).global_dsq;
            enq |= EnqFlags::GDSQ_FALLBACK;
        }
        // dispatch_dequeue_locked()
        self.task_unlink_from_dsq(p, from);
        self.p_mut(p).scx.dsq = crate::task::NIL;
        self.dispatch_enqueue(sched, to, p, enq);
        src
    }
}
