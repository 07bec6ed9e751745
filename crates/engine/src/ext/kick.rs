//! `scx_bpf_kick_cpu()`: making another CPU look again.

use super::sched::SchedIdx;
use crate::CpuId;
use crate::engine::Engine;
use crate::events::Event;
use crate::flags::{KickFlags, rqf};
use crate::task::SchedClass;

impl Engine {
    /// `scx_kick_cpu()`: notes the kick; an irq_work on this CPU carries it out.
    /// `locked` is the CPU whose runqueue lock this one holds.
    pub(crate) fn scx_kick_cpu(
        &mut self,
        sched: SchedIdx,
        cpu: CpuId,
        flags: KickFlags,
        locked: Option<CpuId>,
    ) {
        let this_cpu = self.this_cpu;
        if self.bypassing(sched, this_cpu) {
            return;
        }
        if flags.contains(KickFlags::IDLE) {
            if flags.intersects(KickFlags::PREEMPT | KickFlags::WAIT) {
                let msg = "PREEMPT/WAIT cannot be used with SCX_KICK_IDLE";
                self.scx_error(sched, msg.into());
            }
            // Only with the lock, which is tried for; a CPU on its way to idle has it itself.
            let trylock = locked != Some(cpu) && !self.is_locked(cpu);
            if trylock && self.can_skip_idle_kick(cpu) {
                return;
            }
            self.rq_mut(this_cpu).scx.cpus_to_kick_if_idle.set(cpu);
        } else {
            let scx = &mut self.rq_mut(this_cpu).scx;
            scx.cpus_to_kick.set(cpu);
            if flags.contains(KickFlags::PREEMPT) {
                scx.cpus_to_preempt.set(cpu);
            }
            if flags.contains(KickFlags::WAIT) {
                scx.cpus_to_wait.set(cpu);
            }
        }
        if !std::mem::replace(&mut self.rq_mut(this_cpu).scx.kick_pending, true) {
            self.after(crate::Nanos(200), Event::KickCpus { cpu: this_cpu.0 });
        }
    }

    /// `can_skip_idle_kick()`: the CPU goes through a full pass before it can be idle.
    fn can_skip_idle_kick(&self, cpu: CpuId) -> bool {
        let rq = self.rq(cpu);
        rq.curr != rq.idle && rq.scx.flags & rqf::IN_BALANCE == 0
    }

    /// `kick_cpus_irq_workfn()`.
    pub(crate) fn kick_cpus_irq_work(&mut self, this_cpu: CpuId) {
        self.this_cpu = this_cpu;
        let scx = &mut self.rq_mut(this_cpu).scx;
        scx.kick_pending = false;
        let kick = std::mem::take(&mut scx.cpus_to_kick);
        let if_idle = std::mem::take(&mut scx.cpus_to_kick_if_idle).and_not(&kick);
        let mut wait = false;
        for cpu in kick.iter() {
            wait |= self.kick_one_cpu(this_cpu, cpu);
        }
        for cpu in if_idle.iter() {
            if !self.can_skip_idle_kick(cpu) {
                self.resched_curr(cpu);
            }
        }
        if wait {
            self.rq_mut(this_cpu).scx.kick_sync_pending = true;
            self.resched_curr(this_cpu);
        }
    }

    /// `kick_one_cpu()`: whether to wait for it.
    fn kick_one_cpu(&mut self, this_cpu: CpuId, cpu: CpuId) -> bool {
        let curr = self.rq(cpu).curr;
        let class = self.p(curr).sched_class();
        let preempt = self.rq_mut(this_cpu).scx.cpus_to_preempt.test_and_clear(cpu);
        let wait = self.rq_mut(this_cpu).scx.cpus_to_wait.test_and_clear(cpu);
        if class > SchedClass::Ext {
            return false;
        }
        if preempt && class == SchedClass::Ext {
            self.p_mut(curr).scx.slice = 0;
        }
        let should_wait = wait && class == SchedClass::Ext;
        if should_wait {
            let sync = self.rq(cpu).scx.kick_sync;
            let scx = &mut self.rq_mut(this_cpu).scx;
            scx.cpus_to_sync.set(cpu);
            scx.kick_syncs.retain(|(other, _)| *other != cpu);
            scx.kick_syncs.push((cpu, sync));
        }
        self.resched_curr(cpu);
        should_wait
    }

    /// `kick_sync_wait_bal_cb()`: this CPU does nothing until those it waits for have gone
    /// through a pass. Its current task's burst begins when they have.
    pub(crate) fn kick_sync_wait(&mut self, cpu: CpuId) {
        let syncs = std::mem::take(&mut self.rq_mut(cpu).scx.kick_syncs);
        let waiting = std::mem::take(&mut self.rq_mut(cpu).scx.cpus_to_sync);
        let behind: Vec<_> = syncs
            .into_iter()
            .filter(|&(other, sync)| {
                other != cpu && waiting.test(other) && self.rq(other).scx.kick_sync == sync
            })
            .collect();
        if behind.is_empty() {
            return;
        }
        // Keeps its own count going, so that waits for this CPU can't form a circle.
        self.rq_mut(cpu).scx.kick_sync += 1;
        self.stats.kick_waits += 1;
        self.stop_burst(cpu);
        let retry = crate::Nanos(1_000);
        let rq = self.rq_mut(cpu);
        rq.scx.cpus_to_sync = behind.iter().map(|(other, _)| *other).collect();
        rq.scx.kick_syncs = behind;
        rq.scx.kick_sync_pending = true;
        rq.burst_since += retry;
        rq.need_resched = true;
        rq.resched_queued = true;
        self.after(retry, Event::KickSync { cpu: cpu.0 });
        self.start_burst(cpu, false);
    }

    /// The waiting CPU looks again.
    pub(crate) fn kick_sync_event(&mut self, cpu: CpuId) {
        self.this_cpu = cpu;
        let rq = self.rq_mut(cpu);
        rq.resched_queued = false;
        if std::mem::take(&mut rq.scx.kick_sync_pending) {
            rq.need_resched = false;
            self.kick_sync_wait(cpu);
            // Somebody has put a task into its queue, or kicked it, while it waited: `schedule()` goes
            // on until need_resched() is clear.
            let rq = self.rq(cpu);
            if !rq.scx.kick_sync_pending && rq.resched_wanted {
                self.schedule(cpu, true);
            }
        } else if rq.need_resched {
            self.schedule(cpu, true);
        }
    }
}
