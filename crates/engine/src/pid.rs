//! Pids: the cyclic allocator of `alloc_pid()` and the map from pid to task.

use std::sync::Arc;

use crate::task::{Pid, TaskIdx};

/// `RESERVED_PIDS`: after the largest pid the search goes on here.
const RESERVED_PIDS: i32 = 300;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Free,
    /// Taken, but no task is attached to it yet: a lookup finds nothing.
    Reserved,
    Task(TaskIdx),
}

/// Pids that a clone copies at once, when it changes one of them.
const CHUNK: usize = 256;

/// All pids of the one namespace.
#[derive(Clone, Debug)]
pub(crate) struct PidMap {
    /// Clones share what neither has changed: there are many pids, and few change.
    chunks: Vec<Arc<[Slot; CHUNK]>>,
    max: i32,
    cursor: i32,
    attached: usize,
}

impl PidMap {
    /// Pids from 1 to `pid_max - 1`.
    pub fn new(pid_max: i32) -> Self {
        let max = pid_max.max(2);
        let free = Arc::new([Slot::Free; CHUNK]);
        Self { chunks: vec![free; (max as usize).div_ceil(CHUNK)], max, cursor: 1, attached: 0 }
    }

    /// The next free pid after the last one given out; `None` when all are taken.
    /// `idr_alloc_cyclic()` as `alloc_pid()` uses it.
    pub fn alloc(&mut self) -> Option<Pid> {
        let max = self.max;
        let floor = if self.cursor > RESERVED_PIDS { RESERVED_PIDS } else { 1 };
        let free = |pid: &i32| self.slot(*pid) == Some(Slot::Free);
        let pid = match (self.cursor..max).find(free) {
            Some(pid) => pid,
            None => (floor..self.cursor.min(max)).find(free)?,
        };
        self.replace(Pid(pid), Slot::Reserved);
        self.cursor = pid + 1;
        Some(Pid(pid))
    }

    /// `attach_pid()`: lookups find `task` from now on. Also replaces the task of a pid.
    pub fn attach(&mut self, pid: Pid, task: TaskIdx) {
        let old = self.replace(pid, Slot::Task(task));
        self.attached += usize::from(!matches!(old, Slot::Task(_)));
    }

    /// `free_pid()`.
    pub fn free(&mut self, pid: Pid) {
        let old = self.replace(pid, Slot::Free);
        self.attached -= usize::from(matches!(old, Slot::Task(_)));
    }

    /// `find_task_by_pid_ns()`.
    pub fn find(&self, pid: Pid) -> Option<TaskIdx> {
        match self.slot(pid.0)? {
            Slot::Task(task) => Some(task),
            Slot::Free | Slot::Reserved => None,
        }
    }

    fn slot(&self, pid: i32) -> Option<Slot> {
        let pid = usize::try_from(pid).ok()?;
        Some(self.chunks.get(pid / CHUNK)?[pid % CHUNK])
    }

    fn replace(&mut self, pid: Pid, new: Slot) -> Slot {
        let pid = pid.0 as usize;
        std::mem::replace(&mut Arc::make_mut(&mut self.chunks[pid / CHUNK])[pid % CHUNK], new)
    }

    /// How many pids have a task.
    pub fn attached(&self) -> usize {
        self.attached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_round_and_skips_what_is_taken() {
        let mut map = PidMap::new(304);
        let all: Vec<_> = std::iter::from_fn(|| map.alloc()).collect();
        assert_eq!(all.len(), 303);
        map.free(Pid(5));
        assert_eq!(map.alloc(), None, "below RESERVED_PIDS nothing is used again");
        map.free(Pid(302));
        map.free(Pid(301));
        assert_eq!(map.alloc(), Some(Pid(301)));
        assert_eq!(map.alloc(), Some(Pid(302)));
        assert_eq!(map.alloc(), None);
    }

    #[test]
    fn a_reserved_pid_is_not_found() {
        let mut map = PidMap::new(400);
        let pid = map.alloc().unwrap();
        assert_eq!(map.find(pid), None);
        map.attach(pid, TaskIdx(7));
        assert_eq!(map.find(pid), Some(TaskIdx(7)));
        assert_eq!(map.find(Pid(-1)), None);
        assert_eq!(map.find(Pid(1000)), None);
    }
}
