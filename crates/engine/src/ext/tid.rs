//! The tid: its allocation, the table from it to the task, and the lookup.

use scx_tid::{InsertError, Tid};

use crate::CpuId;
use crate::config::Sabotage;
use crate::engine::Engine;
use crate::task::TaskIdx;
use crate::trace::TaskName;

impl Engine {
    /// `scx_alloc_tid()`: the next id of the CPU's chunk.
    pub(crate) fn alloc_tid(&mut self, cpu: CpuId) -> u64 {
        let alloc = &mut self.tid_allocs[cpu.index()];
        if self.config.sabotage.contains(&Sabotage::C11CursorEveryFork) {
            *alloc = scx_tid::Allocator::new();
        }
        if self.config.sabotage.contains(&Sabotage::C1RepeatChunk) && alloc.remaining() < 1000 {
            self.tid_cursor = scx_tid::Cursor::new();
            *alloc = scx_tid::Allocator::new();
        }
        self.stats.tids_issued += 1;
        match alloc.alloc(&self.tid_cursor) {
            Ok(tid) => tid.get(),
            // 2^64 forks: the kernel would wrap to 0 here. No run gets there.
            Err(_) => 0,
        }
    }

    /// The table comes into being: `rhashtable_init()`. Whether there is memory for it.
    pub(crate) fn tid_hash_init(&mut self) -> bool {
        self.stats.tid_inserted = 0;
        self.stats.tid_removed = 0;
        self.tid_hash.enable().is_ok()
    }

    /// `rhashtable_free_and_destroy()`.
    pub(crate) fn tid_hash_destroy(&mut self) {
        let left: Vec<_> = self.tid_hash.pin().iter().map(|(_, p)| TaskIdx(p)).collect();
        for p in left {
            self.sim_mut(p).in_tid_table = false;
        }
        self.tid_hash.disable();
    }

    /// `scx_tid_hash_insert()`. A failure leaves the table as it was and warns once.
    pub(crate) fn tid_hash_insert(&mut self, p: TaskIdx) {
        let Some(tid) = Tid::new(self.p(p).scx.tid) else { return };
        if !self.tid_hash.is_enabled() {
            return;
        }
        let inserted = self.tid_hash.pin().insert(tid, p.0);
        match inserted {
            Ok(()) => {
                self.stats.tid_inserted += 1;
                self.sim_mut(p).in_tid_table = true;
            }
            Err(err) => {
                if self.sabotaged(Sabotage::C13Overwrite) {
                    let table = self.tid_hash.pin();
                    table.remove(tid);
                    let _ = table.insert(tid, p.0);
                }
                self.warn_tid_insert(&err);
            }
        }
    }

    fn warn_tid_insert(&mut self, err: &InsertError<u32>) {
        if std::mem::replace(&mut self.warned_tid_insert, true) {
            return;
        }
        self.printk(format!("WARNING: scx_tid_hash_insert(): {err}"));
    }

    pub(crate) fn tid_hash_remove(&mut self, p: TaskIdx) {
        if self.sabotaged(Sabotage::C5KeepDead) || !self.sim(p).in_tid_table {
            return;
        }
        self.sim_mut(p).in_tid_table = false;
        let Some(tid) = Tid::new(self.p(p).scx.tid) else { return };
        let removed = self.tid_hash.pin().remove(tid).is_some();
        self.stats.tid_removed += u64::from(removed);
    }

    /// `scx_bpf_tid_to_task()`, by anyone: a scheduler, or a program beside it.
    ///
    /// While the root has not got the table, it is an error of the root's. With no root it is
    /// nothing at all.
    pub(crate) fn tid_to_task_raw(&mut self, tid: u64) -> Option<TaskIdx> {
        self.stats.tid_lookups += 1;
        if !self.tid_to_task_enabled {
            match self.root {
                Some(root) if !self.sabotaged(Sabotage::C8NoError) => self.scx_error(
                    root,
                    "scx_bpf_tid_to_task() called without SCX_OPS_TID_TO_TASK".into(),
                ),
                None if self.sabotaged(Sabotage::C7WarnDetached) => {
                    self.printk("scx_bpf_tid_to_task() without a scheduler".into());
                }
                _ => {}
            }
            self.stats.tid_misses += 1;
            return None;
        }
        let found = Tid::new(tid).and_then(|tid| self.tid_hash.pin().get(tid)).map(TaskIdx);
        if found.is_none() {
            self.stats.tid_misses += 1;
        }
        found
    }

    /// What a tracing or syscall program beside the scheduler would see: `scx_bpf_tid_to_task()`
    /// from outside of any callback. The errors are those of the kernel function.
    pub fn tid_to_task(&mut self, tid: u64) -> Option<TaskName> {
        self.tid_to_task_raw(tid).map(|p| self.name(p))
    }

    /// `bpf_task_from_pid()` from outside of any callback.
    pub fn task_from_pid(&self, pid: crate::Pid) -> Option<TaskName> {
        self.pids.find(pid).map(|p| self.name(p))
    }

    /// The tids in the table, in ascending order; `None` while there is no table.
    pub fn tid_table(&self) -> Option<Vec<u64>> {
        let tids = || self.tid_hash.pin().iter().map(|(tid, _)| tid.get()).collect();
        self.tid_hash.is_enabled().then(tids)
    }

    /// Where the global cursor stands: the first id of the next chunk.
    pub fn tid_cursor(&self) -> u64 {
        self.tid_cursor.position()
    }
}
