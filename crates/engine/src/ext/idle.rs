//! Built-in idle tracking and the default choice of a CPU: `kernel/sched/ext/idle.c`.

use crate::engine::Engine;
use crate::flags::{OpsFlags, PickIdleFlags, WakeFlags, pf};
use crate::kfunc::Op;
use crate::ops::OpSet;
use crate::task::TaskIdx;
use crate::{CpuId, Cpumask};

/// `struct scx_idle_cpus`.
#[derive(Clone, Debug)]
pub(crate) struct IdleMasks {
    /// `scx_builtin_idle_enabled`.
    pub enabled: bool,
    /// `scx_builtin_idle_per_node`. There is one node, and its masks are these.
    pub per_node: bool,
    pub cpu: Cpumask,
    /// CPUs whose siblings are all idle.
    pub smt: Cpumask,
}

impl IdleMasks {
    pub fn new() -> Self {
        let none = Cpumask::EMPTY;
        Self { enabled: false, per_node: false, cpu: none, smt: none }
    }
}

impl Engine {
    /// `scx_idle_enable()`: all CPUs count as idle at first.
    pub(crate) fn idle_enable(&mut self, ops: OpSet, flags: OpsFlags) {
        let custom = ops.contains(OpSet::UPDATE_IDLE);
        self.idle.enabled = !custom || flags.contains(OpsFlags::KEEP_BUILTIN_IDLE);
        self.idle.per_node = flags.contains(OpsFlags::BUILTIN_IDLE_PER_NODE);
        self.idle.cpu = self.topology.all();
        self.idle.smt = self.topology.all();
    }

    /// `scx_idle_disable()`.
    pub(crate) fn idle_disable(&mut self) {
        self.idle.enabled = false;
        self.idle.per_node = false;
    }

    /// `__scx_update_idle()`. `notify` for a real change between a task and the idle task.
    pub(crate) fn update_idle(&mut self, cpu: CpuId, idle: bool, notify: bool) {
        if !self.scx_enabled {
            return;
        }
        let rq = self.rq(cpu);
        if self.idle.enabled && (notify || rq.curr == rq.idle) {
            self.update_builtin_idle(cpu, idle);
        }
        let Some(root) = self.root else { return };
        if notify && self.sch(root).has(OpSet::UPDATE_IDLE) && !self.bypassing(root, cpu) {
            let (is_cid, cid) = (self.sch(root).is_cid(), self.topology.cid(cpu));
            self.call(root, Op::UpdateIdle, |ops, cx| {
                if is_cid {
                    ops.update_idle_cid(cx, cid, idle);
                } else {
                    ops.update_idle(cx, cpu, idle);
                }
            });
        }
    }

    fn update_builtin_idle(&mut self, cpu: CpuId, idle: bool) {
        if idle {
            self.idle.cpu.set(cpu);
        } else {
            self.idle.cpu.clear(cpu);
        }
        if self.topology.smt == 1 {
            return;
        }
        let siblings: Cpumask = self.topology.siblings(cpu).collect();
        if !idle {
            self.idle.smt = self.idle.smt.and_not(&siblings);
        } else if siblings.is_subset(&self.idle.cpu) {
            self.idle.smt = self.idle.smt.or(&siblings);
        }
    }

    /// `scx_idle_test_and_clear_cpu()`.
    pub(crate) fn test_and_clear_cpu_idle(&mut self, cpu: CpuId) -> bool {
        if self.topology.smt > 1 {
            let siblings: Cpumask = self.topology.siblings(cpu).collect();
            self.idle.smt = self.idle.smt.and_not(&siblings);
        }
        self.idle.cpu.test_and_clear(cpu)
    }

    /// `cpumask_any_and_distribute()`: a CPU of both, each call going on after the last one's of
    /// this CPU.
    fn any_and_distribute(&mut self, smt: bool, cpus: &Cpumask) -> Option<CpuId> {
        let idle = if smt { &self.idle.smt } else { &self.idle.cpu };
        let from = CpuId(self.rq(self.this_cpu).distribute_prev + 1);
        let cpu = idle.next_and_from(cpus, from).or_else(|| idle.next_and_from(cpus, CpuId(0)))?;
        self.rq_mut(self.this_cpu).distribute_prev = cpu.0;
        Some(cpu)
    }

    /// `scx_pick_idle_cpu()`.
    pub(crate) fn pick_idle_cpu(&mut self, cpus: &Cpumask, flags: PickIdleFlags) -> Option<CpuId> {
        loop {
            let mut cpu = None;
            if self.topology.smt > 1 {
                cpu = self.any_and_distribute(true, cpus);
                if cpu.is_none() && flags.contains(PickIdleFlags::CORE) {
                    return None;
                }
            }
            let cpu = match cpu {
                Some(cpu) => cpu,
                None => self.any_and_distribute(false, cpus)?,
            };
            if self.test_and_clear_cpu_idle(cpu) {
                return Some(cpu);
            }
        }
    }

    /// `cpumask_any_distribute()`: a CPU of the set, each call going on after the last one's of
    /// this CPU.
    pub(crate) fn any_distribute(&mut self, cpus: &Cpumask) -> Option<CpuId> {
        let from = CpuId(self.rq(self.this_cpu).distribute_prev + 1);
        let cpu = cpus.next_from(from).or_else(|| cpus.first())?;
        self.rq_mut(self.this_cpu).distribute_prev = cpu.0;
        Some(cpu)
    }

    /// The end of `select_cpu_from_kfunc()`: an idle CPU for a task, out of `cpus` if given.
    pub(crate) fn select_idle_cpu(
        &mut self,
        p: TaskIdx,
        prev: CpuId,
        wake: WakeFlags,
        cpus: Option<&Cpumask>,
        flags: PickIdleFlags,
    ) -> Option<CpuId> {
        let task = self.p(p);
        // is_bpf_migration_disabled(), with CONFIG_PREEMPT_RCU: one may be the program's own.
        let pinned = match self.migration_disabled(p) {
            1 => self.rq(self.this_cpu).curr != p,
            disabled => disabled > 0,
        };
        if !pinned && task.cpus_ptr().weight() > 1 {
            return self.select_cpu_dfl(p, prev, wake, cpus, flags);
        }
        // select_cpu_restricted()
        let allowed = task.cpus_ptr();
        let only = if pinned { self.task_cpu(p) } else { allowed.first()? };
        let usable = allowed.test(only) && cpus.is_none_or(|cpus| cpus.test(only));
        (usable && self.test_and_clear_cpu_idle(only)).then_some(only)
    }

    /// `scx_select_cpu_dfl()`: an idle CPU for a waking task, if there is one; out of `cpus` if
    /// given.
    pub(crate) fn select_cpu_dfl(
        &mut self,
        p: TaskIdx,
        prev: CpuId,
        wake: WakeFlags,
        cpus: Option<&Cpumask>,
        flags: PickIdleFlags,
    ) -> Option<CpuId> {
        let mut allowed = self.p(p).cpus_ptr();
        if let Some(cpus) = cpus {
            allowed = allowed.and(cpus);
            if allowed.is_empty() {
                return None;
            }
        }
        let prev_allowed = allowed.test(prev);
        // scx_selcpu_topo_llc: only with several caches.
        let llc = (self.topology.llcs > 1).then(|| self.topology.llc(prev).and(&allowed));
        if wake.contains(WakeFlags::SYNC)
            && let Some(cpu) = self.select_for_sync(prev, prev_allowed, &allowed)
        {
            return Some(cpu);
        }
        if self.topology.smt > 1 {
            if prev_allowed && self.idle.smt.test(prev) && self.test_and_clear_cpu_idle(prev) {
                return Some(prev);
            }
            for cpus in [llc.as_ref(), Some(&allowed)].into_iter().flatten() {
                if let Some(cpu) = self.pick_idle_cpu(cpus, PickIdleFlags::CORE) {
                    return Some(cpu);
                }
            }
            if flags.contains(PickIdleFlags::CORE) {
                return None;
            }
        }
        if prev_allowed && self.test_and_clear_cpu_idle(prev) {
            return Some(prev);
        }
        if self.topology.smt > 1 {
            for cpu in self.topology.siblings(prev) {
                if cpu != prev && allowed.test(cpu) && self.test_and_clear_cpu_idle(cpu) {
                    return Some(cpu);
                }
            }
        }
        if let Some(cpu) = llc.and_then(|llc| self.pick_idle_cpu(&llc, PickIdleFlags::empty())) {
            return Some(cpu);
        }
        self.pick_idle_cpu(&allowed, flags)
    }

    /// The waker is about to sleep: its own CPU may be the best.
    fn select_for_sync(
        &mut self,
        prev: CpuId,
        prev_allowed: bool,
        cpus: &Cpumask,
    ) -> Option<CpuId> {
        let cpu = self.this_cpu;
        let share_cache = self.topology.llc(cpu).test(prev);
        if prev_allowed && share_cache && self.test_and_clear_cpu_idle(prev) {
            return Some(prev);
        }
        let current = self.rq(cpu).curr;
        let worthwhile = self.p(current).flags & pf::PF_EXITING == 0
            && self.dsq(self.local_dsq(cpu)).nr == 0
            && !self.idle.cpu.is_empty();
        if worthwhile && cpus.test(cpu) {
            self.test_and_clear_cpu_idle(cpu);
            return Some(cpu);
        }
        None
    }
}
