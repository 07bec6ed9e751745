//! Walking through a queue and moving tasks out of it: `bpf_iter_scx_dsq_*()` and
//! `scx_bpf_dsq_move*()`.

use super::{Context, Cx, Task};
use crate::flags::{DsqId, EnqFlags, errno};
use crate::ops::Errno;

/// Walks that there are at the same time, at most.
const MOST: usize = 1024;

/// A walk through a queue: `struct bpf_iter_scx_dsq`. It ends with the callback at the latest.
///
/// After that, and after [`Cx::dsq_iter_destroy`], it gives nothing and moves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DsqIter(pub(crate) u64);

impl DsqIter {
    /// Its number, from 1: what a program keeps of it.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The walk of this number; one that gives nothing if there is none.
    pub fn from_number(number: u64) -> Self {
        Self(number)
    }
}

impl<'r> Cx<'r> {
    /// `bpf_iter_scx_dsq_new()`: begins to walk through one of the scheduler's queues, in the
    /// order of dispatch or backwards (`SCX_DSQ_ITER_REV`). Only tasks that are queued now are
    /// seen.
    ///
    /// # Errors
    /// `ENOENT` if there is no such queue, `ENOMEM` if there are 1024 walks already. The stacks of a
    /// program have room for 85, and no verifier lets it have one elsewhere.
    pub fn dsq_iter(&mut self, dsq: DsqId, backwards: bool) -> Result<DsqIter, Errno> {
        let sch = self.core.sch(self.sched);
        let &dsq = sch.dsq_hash.get(&dsq.0).ok_or(Errno(errno::ENOENT))?;
        if self.core.cursors.len() >= MOST {
            return Err(Errno(errno::ENOMEM));
        }
        Ok(self.core.new_cursor(dsq, backwards))
    }

    /// `bpf_iter_scx_dsq_next()`: the next task. After the last there is none, once; then it
    /// begins anew.
    pub fn dsq_iter_next(&mut self, it: DsqIter) -> Option<Task<'r>> {
        let p = self.core.cursor_next(it)?;
        Some(self.task(p))
    }

    /// `bpf_iter_scx_dsq_destroy()`.
    pub fn dsq_iter_destroy(&mut self, it: DsqIter) {
        self.core.destroy_cursor(it);
    }

    /// `scx_bpf_dsq_move_set_slice()`: the slice in ns of the task that is moved next.
    pub fn dsq_move_set_slice(&mut self, it: DsqIter, slice: u64) {
        if let Some(cursor) = self.core.cursor(it) {
            cursor.slice = Some(slice);
        }
    }

    /// `scx_bpf_dsq_move_set_vtime()`: the vtime of the task that is moved next.
    pub fn dsq_move_set_vtime(&mut self, it: DsqIter, vtime: u64) {
        if let Some(cursor) = self.core.cursor(it) {
            cursor.vtime = Some(vtime);
        }
    }

    /// `scx_bpf_dsq_move()`: `p`, which is in the queue that `it` walks through, to any queue, at
    /// once; whether it was still there. Locks may be dropped: other CPUs may act before it
    /// returns.
    pub fn dsq_move(&mut self, it: DsqIter, p: Task<'_>, dsq: DsqId, enq: EnqFlags) -> bool {
        self.walk_move("scx_bpf_dsq_move", it, p, dsq, enq)
    }

    /// `scx_bpf_dsq_move_vtime()`: the same, to a place by vtime in one of the scheduler's queues.
    pub fn dsq_move_vtime(&mut self, it: DsqIter, p: Task<'_>, dsq: DsqId, enq: EnqFlags) -> bool {
        self.walk_move("scx_bpf_dsq_move_vtime", it, p, dsq, enq | EnqFlags::DSQ_PRIQ)
    }

    fn walk_move(
        &mut self,
        function: &str,
        it: DsqIter,
        p: Task<'_>,
        dsq: DsqId,
        mut enq: EnqFlags,
    ) -> bool {
        if !self.only_from(function, Context::DISPATCH | Context::UNLOCKED) {
            return false;
        }
        if !self.core.vet_enq_flags(self.sched, dsq, &mut enq) {
            return false;
        }
        let cpu = self.core.this_cpu;
        let moved = self.core.dsq_move(it, p.idx, dsq, enq, self.scope.locked);
        self.core.this_cpu = cpu;
        moved
    }
}
