//! `scx_kfunc_ids_idle` and `scx_kfunc_ids_select_cpu`: built-in idle tracking and the choice of a
//! CPU by it.

use super::{Context, Cx, Op, Task};
use crate::flags::{PickIdleFlags, WakeFlags, errno};
use crate::ops::Errno;
use crate::{CpuId, Cpumask, ExitKind};

impl Cx<'_> {
    /// `scx_bpf_select_cpu_dfl()`: the built-in choice. An idle CPU, claimed, or nothing.
    pub fn select_cpu_dfl(&mut self, p: Task<'_>, prev: CpuId, wake: WakeFlags) -> Option<CpuId> {
        let none = PickIdleFlags::empty();
        self.select_cpu("scx_bpf_select_cpu_dfl", p, prev, wake, None, none).ok()
    }

    /// `scx_bpf_select_cpu_and()`: the built-in choice within a set.
    ///
    /// # Errors
    /// `EBUSY` if no such CPU is idle, or built-in idle tracking is off; `EINVAL` for a CPU that is
    /// not there, or a task that the core has not locked for this operation.
    pub fn select_cpu_and(
        &mut self,
        p: Task<'_>,
        prev: CpuId,
        wake: WakeFlags,
        cpus: &Cpumask,
        flags: PickIdleFlags,
    ) -> Result<CpuId, Errno> {
        self.select_cpu("scx_bpf_select_cpu_and", p, prev, wake, Some(cpus), flags)
    }

    /// `select_cpu_from_kfunc()`.
    fn select_cpu(
        &mut self,
        function: &str,
        p: Task<'_>,
        prev: CpuId,
        wake: WakeFlags,
        cpus: Option<&Cpumask>,
        flags: PickIdleFlags,
    ) -> Result<CpuId, Errno> {
        const INVALID: Errno = Errno(errno::EINVAL);
        const BUSY: Errno = Errno(errno::EBUSY);
        if !self.only_from(function, Context::SELECT_CPU | Context::UNLOCKED) {
            return Err(INVALID);
        }
        if !self.core.cpu_valid(self.sched, prev, "") {
            return Err(INVALID);
        }
        if !self.check_builtin_idle() {
            return Err(BUSY);
        }
        if self.scope.op == Op::SelectCpu {
            if !self.is_subject(p) {
                return Err(INVALID);
            }
        } else if let Some(locked) = self.scope.locked
            && locked != self.core.task_cpu(p.idx)
        {
            let who = self.core.p(p.idx).who();
            let msg = format!("select_cpu kfunc called cross-task on {who}");
            self.error_kind(ExitKind::Error, msg);
            return Err(INVALID);
        }
        self.core.select_idle_cpu(p.idx, prev, wake, cpus, flags).ok_or(BUSY)
    }

    /// `scx_bpf_test_and_clear_cpu_idle()`: claims an idle CPU.
    pub fn test_and_clear_cpu_idle(&mut self, cpu: CpuId) -> bool {
        self.check_builtin_idle()
            && self.core.cpu_valid(self.sched, cpu, "")
            && self.core.test_and_clear_cpu_idle(cpu)
    }

    /// `scx_bpf_pick_idle_cpu()`: claims an idle CPU out of a set.
    pub fn pick_idle_cpu(&mut self, cpus: &Cpumask, flags: PickIdleFlags) -> Option<CpuId> {
        if self.is_per_node("per-node idle tracking is enabled") || !self.check_builtin_idle() {
            return None;
        }
        self.core.pick_idle_cpu(cpus, flags)
    }

    /// `scx_bpf_pick_idle_cpu_node()`: the same in a node, for a scheduler that has idle masks by
    /// node.
    ///
    /// # Errors
    /// `EBUSY` if there is none; the others of [`Cx::check_node`].
    pub fn pick_idle_cpu_node(
        &mut self,
        node: i32,
        cpus: &Cpumask,
        flags: PickIdleFlags,
    ) -> Result<CpuId, Errno> {
        self.check_node(node)?;
        self.core.pick_idle_cpu(cpus, flags).ok_or(Errno(errno::EBUSY))
    }

    /// `scx_bpf_pick_any_cpu_node()`: the same, or any other CPU.
    ///
    /// # Errors
    /// `EBUSY` if the set is empty; the others of [`Cx::check_node`].
    pub fn pick_any_cpu_node(
        &mut self,
        node: i32,
        cpus: &Cpumask,
        flags: PickIdleFlags,
    ) -> Result<CpuId, Errno> {
        let idle = self.pick_idle_cpu_node(node, cpus, flags);
        match idle {
            Err(Errno(errno::EBUSY)) => self.core.any_distribute(cpus).ok_or(Errno(errno::EBUSY)),
            idle => idle,
        }
    }

    /// `validate_node()`: whether this is a node, and the scheduler has idle masks by node. There is
    /// one, 0.
    ///
    /// # Errors
    /// `ENOENT` for -1, any node. All else is the scheduler's error: `EOPNOTSUPP` without masks by
    /// node, `EINVAL` for what is no node.
    pub fn check_node(&mut self, node: i32) -> Result<(), Errno> {
        if !self.core.idle.per_node {
            self.error_kind(ExitKind::Error, "per-node idle tracking is disabled".into());
            return Err(Errno(errno::EOPNOTSUPP));
        }
        match node {
            0 => Ok(()),
            -1 => Err(Errno(errno::ENOENT)),
            _ => {
                self.error_kind(ExitKind::Error, format!("invalid node {node}"));
                Err(Errno(errno::EINVAL))
            }
        }
    }

    /// Whether idle masks are by node, which is the scheduler's error where it names none.
    fn is_per_node(&mut self, error: &str) -> bool {
        if self.core.idle.per_node {
            self.error_kind(ExitKind::Error, error.into());
        }
        self.core.idle.per_node
    }

    /// `scx_bpf_pick_any_cpu()`: claims an idle CPU out of a set, or names any other of it.
    pub fn pick_any_cpu(&mut self, cpus: &Cpumask, flags: PickIdleFlags) -> Option<CpuId> {
        if self.is_per_node("per-node idle tracking is enabled") {
            return None;
        }
        let idle = self.core.idle.enabled.then(|| self.core.pick_idle_cpu(cpus, flags));
        idle.flatten().or_else(|| self.core.any_distribute(cpus))
    }

    /// `scx_bpf_get_idle_cpumask()`: the CPUs that are idle now. Empty, and the scheduler's error,
    /// without built-in idle tracking.
    pub fn idle_cpumask(&mut self) -> Cpumask {
        if self.check_builtin_idle() { self.core.idle.cpu } else { Cpumask::EMPTY }
    }

    /// `scx_bpf_get_idle_smtmask()`: the CPUs of cores that are wholly idle.
    pub fn idle_smtmask(&mut self) -> Cpumask {
        if !self.check_builtin_idle() {
            return Cpumask::EMPTY;
        }
        if self.core.topology.smt > 1 { self.core.idle.smt } else { self.core.idle.cpu }
    }

    /// Whether there are masks of idle CPUs that are not by node; if not, asking for one is the
    /// scheduler's error.
    pub fn tracks_idle(&mut self) -> bool {
        !self.is_per_node("SCX_OPS_BUILTIN_IDLE_PER_NODE enabled") && self.check_builtin_idle()
    }

    /// `cpumask_any_distribute()`: a CPU of a set, another one each time.
    pub fn any_distribute(&mut self, cpus: &Cpumask) -> Option<CpuId> {
        self.core.any_distribute(cpus)
    }

    /// `check_builtin_idle_enabled()`.
    fn check_builtin_idle(&mut self) -> bool {
        if self.core.idle.enabled {
            return true;
        }
        self.error_kind(ExitKind::Error, "built-in idle tracking is disabled".into());
        false
    }
}
