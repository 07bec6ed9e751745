//! `scx_kfunc_ids_any`: what every operation can call.

use super::context::Op;
use super::{Cx, Task};
use crate::flags::{DsqId, errno};
use crate::ops::Errno;
use crate::sim::Key;
use crate::task::Pid;
use crate::{Cid, CpuId, Cpumask, EventCounters, ExitKind, Nanos};

impl<'r> Cx<'r> {
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
        self.core.note_lookup(self.scope.op, Key::Tid(tid), found);
        found.map(|p| self.task(p))
    }

    /// `bpf_task_from_pid()`: the task that has this pid now.
    pub fn task_from_pid(&mut self, pid: Pid) -> Option<Task<'r>> {
        let found = self.core.pids.find(pid);
        self.core.stats.pid_lookups += 1;
        if found.is_none() {
            self.core.stats.pid_misses += 1;
        }
        self.core.note_lookup(self.scope.op, Key::Pid(pid), found);
        found.map(|p| self.task(p))
    }

    /// `scx_bpf_create_dsq()`: a queue of the scheduler's own. The engine has one node.
    ///
    /// # Errors
    /// `EINVAL` for a built-in number, `EEXIST` if there is one.
    pub fn create_dsq(&mut self, dsq: DsqId) -> Result<(), Errno> {
        if !self.scope.op.may_sleep() {
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
        let cpu = self.scope.locked.unwrap_or(self.core.this_cpu);
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
        self.write_slice(p, slice);
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
            Some(buf) if self.scope.op == Op::Dump => buf.push(text.as_ref()),
            _ => {
                let msg = "scx_bpf_dump() must only be called from ops.dump() and friends";
                self.error_kind(ExitKind::Error, msg.into());
            }
        }
    }

    /// `scx_bpf_events()`: the root's event counters, whoever asks; zeros without one.
    pub fn events(&self) -> EventCounters {
        self.core.root.map(|root| self.core.sch(root).events).unwrap_or_default()
    }

    /// `scx_bpf_task_cgroup()`: the id of the task's cgroup. Only for the task that the operation is
    /// about (`SCX_CALL_OP_TASK()`); any other ends the scheduler, and gives the root's. `init_task`
    /// and what is no operation are about none.
    pub fn task_cgroup(&mut self, p: Task<'_>) -> u64 {
        if self.is_subject(p) { self.cgroup_of(p) } else { crate::cgroup::ROOT_ID }
    }

    /// `scx_kf_arg_task_ok()`: whether the operation is about this task. If not, that ends the
    /// scheduler.
    pub(super) fn is_subject(&mut self, p: Task<'_>) -> bool {
        let fine = self.scope.subject == Some(p.idx);
        if !fine {
            let msg = "called on a task not being operated on";
            self.error_kind(ExitKind::Error, msg.into());
        }
        fine
    }
}
