//! What a scheduler learns of CPUs and does to them.

use super::{Context, Cx, Task};
use crate::flags::{KickFlags, SCX_CPUPERF_ONE};
use crate::{Cid, CpuId, Cpumask, ExitKind};

impl<'r> Cx<'r> {
    /// `scx_bpf_kick_cpu()`.
    pub fn kick_cpu(&mut self, cpu: CpuId, flags: KickFlags) {
        if self.is_cpu_form("scx_bpf_kick_cpu") && self.core.cpu_valid(self.sched, cpu, "") {
            self.core.scx_kick_cpu(self.sched, cpu, flags, self.scope.locked);
        }
    }

    /// `scx_bpf_kick_cid()`.
    pub fn kick_cid(&mut self, cid: Cid, flags: KickFlags) {
        if let Some(cpu) = self.cid_to_cpu(cid) {
            self.core.scx_kick_cpu(self.sched, cpu, flags, self.scope.locked);
        }
    }

    /// `scx_bpf_nr_cpu_ids()`, and `scx_bpf_nr_cids()`.
    pub fn nr_cpu_ids(&self) -> u32 {
        self.core.nr_cpus() as u32
    }

    /// Whether there is such a CPU; if not, asking is the scheduler's error (`scx_cpu_valid()`).
    pub fn is_cpu(&mut self, cpu: CpuId) -> bool {
        self.core.cpu_valid(self.sched, cpu, "")
    }

    /// `bpf_get_smp_processor_id()`.
    pub fn this_cpu(&self) -> CpuId {
        self.core.this_cpu
    }

    /// `bpf_get_current_task_btf()`: the task that this CPU runs, or the idle task.
    pub fn current(&self) -> Task<'r> {
        let curr = self.core.rq(self.core.this_cpu).curr;
        self.task(self.scope.current.unwrap_or(curr))
    }

    /// `scx_bpf_this_cid()`.
    pub fn this_cid(&self) -> Cid {
        self.core.topology.cid(self.core.this_cpu)
    }

    /// `scx_bpf_cid_to_cpu()`. A cid that no CPU has is the scheduler's error.
    pub fn cid_to_cpu(&mut self, cid: Cid) -> Option<CpuId> {
        let cpu = self.core.topology.cpu(cid);
        if cpu.is_none() {
            self.error_kind(ExitKind::Error, format!("invalid cid {}", cid.0 as i32));
        }
        cpu
    }

    /// `scx_bpf_cpu_to_cid()`. A number that no CPU has is the scheduler's error.
    pub fn cpu_to_cid(&mut self, cpu: CpuId) -> Option<Cid> {
        let valid = self.core.cpu_valid(self.sched, cpu, "");
        valid.then(|| self.core.topology.cid(cpu))
    }

    /// `scx_bpf_cid_topo()`: where a cid is, as `struct scx_cid_topo` of Linux 7.2 has it: the first
    /// cid of its core, its cache and its node, each followed by the number of that. All -1 after
    /// [`Cx::cid_override`]; nothing, and the scheduler's error, for a cid that no CPU has.
    pub fn cid_topo(&mut self, cid: Cid) -> Option<[i32; 6]> {
        self.cid_to_cpu(cid)?;
        Some(self.core.topology.cid_topo(cid))
    }

    /// `scx_bpf_cid_override()`: gives the CPUs other cids, one for each CPU in their order, until
    /// another root attaches. Only from `init` of a root.
    pub fn cid_override(&mut self, cids: &[i32]) {
        if !self.only_from("scx_bpf_cid_override", Context::INIT) {
            return;
        }
        let nr = self.core.nr_cpus();
        let error = if self.core.sch(self.sched).parent().is_some() {
            Some("scx_bpf_cid_override() only allowed from root sched".to_owned())
        } else if cids.len() != nr {
            let (expected, got) = (nr * 4, cids.len() * 4);
            Some(format!("scx_bpf_cid_override: expected {expected} bytes, got {got}"))
        } else {
            self.core.topology.override_cids(cids).err()
        };
        if let Some(msg) = error {
            self.error_kind(ExitKind::Error, msg);
        }
    }

    /// `scx_bpf_cpu_curr()`: the task that runs on a CPU; the idle task is one.
    pub fn cpu_curr(&mut self, cpu: CpuId) -> Option<Task<'r>> {
        let valid =
            self.is_cpu_form("scx_bpf_cpu_curr") && self.core.cpu_valid(self.sched, cpu, "");
        valid.then(|| self.task(self.core.rq(cpu).curr))
    }

    /// `scx_bpf_cid_curr()`.
    pub fn cid_curr(&mut self, cid: Cid) -> Option<Task<'r>> {
        let cpu = self.cid_to_cpu(cid)?;
        Some(self.task(self.core.rq(cpu).curr))
    }

    /// `scx_locked_rq()`: the CPU whose runqueue lock the core holds during this operation. The
    /// kernel's `scx_bpf_locked_rq()` gives its runqueue.
    pub fn locked_cpu(&self) -> Option<CpuId> {
        self.scope.locked
    }

    /// `scx_bpf_get_possible_cpumask()` and `scx_bpf_get_online_cpumask()`: all CPUs are online.
    pub fn possible_cpus(&self) -> Cpumask {
        self.core.topology.all()
    }

    /// `scx_bpf_cpuperf_cap()`: the CPU's capacity. All of the engine's have the largest.
    pub fn cpuperf_cap(&mut self, cpu: CpuId) -> u32 {
        self.core.cpu_valid(self.sched, cpu, "");
        SCX_CPUPERF_ONE
    }

    /// `scx_bpf_cpuperf_cur()`: the CPU's speed. The engine's always run at the highest.
    pub fn cpuperf_cur(&mut self, cpu: CpuId) -> u32 {
        self.core.cpu_valid(self.sched, cpu, "");
        SCX_CPUPERF_ONE
    }

    /// `scx_bpf_cpuperf_set()`: asks for a speed. It is checked and kept, and changes nothing else: the
    /// engine's CPUs have one speed.
    pub fn cpuperf_set(&mut self, cpu: CpuId, perf: u32) {
        if perf > SCX_CPUPERF_ONE {
            let cpu = cpu.0 as i32;
            let msg = format!("Invalid cpuperf target {perf} for CPU {cpu}");
            self.error_kind(ExitKind::Error, msg);
            return;
        }
        if !self.core.cpu_valid(self.sched, cpu, "") {
            return;
        }
        if self.scope.locked.is_some_and(|locked| locked != cpu) {
            self.error_kind(ExitKind::Error, format!("Invalid target CPU {cpu}"));
            return;
        }
        self.core.rq_mut(cpu).scx.cpuperf_target = perf;
    }
}
