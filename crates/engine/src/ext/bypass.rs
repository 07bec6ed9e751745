//! Bypass mode: every runnable task makes progress without the scheduler, from a queue for each
//! CPU and with short slices.

use super::moves::Enforce;
use super::sched::{DsqIdx, SchedIdx};
use crate::engine::Engine;
use crate::events::Event;
use crate::flags::{DeqFlags, EnqFlags, SCX_SLICE_BYPASS, SCX_SLICE_DFL};
use crate::list::{List, RunnableLink};
use crate::task::NIL;
use crate::{CpuId, Cpumask, Nanos};

/// `SCX_BYPASS_LB_DFL_INTV_US`.
const BALANCE_INTERVAL: Nanos = Nanos(500_000_000);
/// `SCX_BYPASS_LB_DONOR_PCT`.
const DONOR_PERCENT: u32 = 125;
/// `SCX_BYPASS_LB_MIN_DELTA_DIV`.
const MIN_DELTA_DIV: u64 = 4;

impl Engine {
    /// `bypass_enq_target_dsq()`: the queue of the nearest scheduler that does not bypass, or of
    /// the root.
    pub(crate) fn bypass_enq_target_dsq(&self, sched: SchedIdx, cpu: CpuId) -> DsqIdx {
        let mut host = sched;
        while let Some(parent) = self.sch(host).parent()
            && self.bypassing(host, cpu)
        {
            host = parent;
        }
        self.sch(host).pcpu[cpu.index()].bypass_dsq
    }

    fn inc_bypass_depth(&mut self, sched: SchedIdx) -> bool {
        let now = self.now;
        let sch = self.sch_mut(sched);
        sch.bypass_depth += 1;
        if sch.bypass_depth != 1 {
            return false;
        }
        sch.slice_dfl = SCX_SLICE_BYPASS;
        sch.bypass_since = now;
        sch.events.bypass_activate += 1;
        true
    }

    fn dec_bypass_depth(&mut self, sched: SchedIdx) -> bool {
        let now = self.now;
        let sch = self.sch_mut(sched);
        sch.bypass_depth = sch.bypass_depth.saturating_sub(1);
        if sch.bypass_depth != 0 {
            return false;
        }
        sch.slice_dfl = SCX_SLICE_DFL;
        sch.events.bypass_duration += (now - sch.bypass_since).0;
        true
    }

    fn enable_bypass_dsp(&mut self, sched: SchedIdx) {
        if std::mem::replace(&mut self.sch_mut(sched).bypass_dsp_claim, true) {
            return;
        }
        self.sch_mut(sched).bypass_dsp_enable_depth += 1;
        let host = self.sch(sched).parent();
        if let Some(host) = host {
            self.sch_mut(host).bypass_dsp_enable_depth += 1;
        }
        let host = host.unwrap_or(sched);
        if !std::mem::replace(&mut self.sch_mut(host).bypass_lb_queued, true) {
            self.after(BALANCE_INTERVAL, Event::BypassBalance { sched: host.0 });
        }
    }

    pub(crate) fn disable_bypass_dsp(&mut self, sched: SchedIdx) {
        if !std::mem::replace(&mut self.sch_mut(sched).bypass_dsp_claim, false) {
            return;
        }
        self.sch_mut(sched).bypass_dsp_enable_depth -= 1;
        if let Some(parent) = self.sch(sched).parent() {
            self.sch_mut(parent).bypass_dsp_enable_depth -= 1;
        }
    }

    /// `scx_bypass()`: also for everything below `sched`. Each queued task goes through a dequeue
    /// and an enqueue, which takes it out of the scheduler or gives it back.
    pub(crate) fn scx_bypass(&mut self, sched: SchedIdx, bypass: bool) {
        let changed = if bypass {
            let changed = self.inc_bypass_depth(sched);
            if changed {
                self.enable_bypass_dsp(sched);
            }
            changed
        } else {
            self.dec_bypass_depth(sched)
        };
        let below = self.descendants(sched);
        for &pos in &below[1..] {
            if bypass {
                if self.inc_bypass_depth(pos) {
                    self.enable_bypass_dsp(pos);
                }
            } else {
                self.dec_bypass_depth(pos);
            }
        }
        if !changed {
            return;
        }
        for cpu in (0..self.nr_cpus()).map(|cpu| CpuId(cpu as u32)) {
            for &pos in &below {
                let sch = self.sch_mut(pos);
                sch.pcpu[cpu.index()].bypassing = sch.bypass_depth > 0;
            }
            if self.scx_enabled {
                self.cycle_runnable(cpu, sched);
                self.resched_curr(cpu);
                self.rearm_tick(cpu);
            }
        }
        if !bypass {
            for pos in below {
                if self.sch(pos).bypass_depth == 0 {
                    self.disable_bypass_dsp(pos);
                }
            }
        }
    }

    /// Dequeues and enqueues the queued tasks of `sched` on a CPU, last to first: each goes to the
    /// tail, so that the walk sees each once.
    fn cycle_runnable(&mut self, cpu: CpuId, sched: SchedIdx) {
        let mut next = self.rq(cpu).scx.runnable_list.last();
        while let Some(p) = next {
            next = List::<RunnableLink>::prev(&self.tasks, p);
            let own = self.task_sched(p).is_some_and(|s| self.is_descendant(s, sched));
            if own {
                let class = self.p(p).sched_class();
                self.sched_change(p, class, DeqFlags::MOVE, |_| {});
            }
        }
    }

    /// `scx_bypass_lb_timerfn()`: evens out the bypass queues.
    pub(crate) fn bypass_balance(&mut self, sched: SchedIdx) {
        if self.sch(sched).bypass_dsp_enable_depth == 0 {
            self.sch_mut(sched).bypass_lb_queued = false;
            return;
        }
        self.bypass_lb_node(sched);
        self.after(BALANCE_INTERVAL, Event::BypassBalance { sched: sched.0 });
    }

    fn bypass_nr(&self, sched: SchedIdx, cpu: CpuId) -> u32 {
        self.dsq(self.sch(sched).pcpu[cpu.index()].bypass_dsq).nr
    }

    /// `bypass_lb_node()`.
    fn bypass_lb_node(&mut self, sched: SchedIdx) {
        let cpus: Vec<_> = self.topology.all().iter().collect();
        let total: u32 = cpus.iter().map(|&cpu| self.bypass_nr(sched, cpu)).sum();
        let target = total.div_ceil(cpus.len() as u32);
        let donor_target = (target * DONOR_PERCENT).div_ceil(100);
        let mut donees: Cpumask =
            cpus.iter().copied().filter(|&cpu| self.bypass_nr(sched, cpu) < target).collect();
        let donors: Vec<_> = cpus
            .into_iter()
            .filter(|&cpu| !donees.test(cpu) && self.bypass_nr(sched, cpu) > donor_target)
            .collect();
        let mut resched = Cpumask::EMPTY;
        for donor in donors {
            if !donees.is_empty() {
                self.bypass_lb_cpu(sched, donor, &mut donees, &mut resched, donor_target, target);
            }
        }
        for cpu in resched.iter() {
            self.resched_curr(cpu);
        }
    }

    /// `bypass_lb_cpu()`.
    fn bypass_lb_cpu(
        &mut self,
        sched: SchedIdx,
        donor: CpuId,
        donees: &mut Cpumask,
        resched: &mut Cpumask,
        donor_target: u32,
        donee_target: u32,
    ) {
        let dsq = self.sch(sched).pcpu[donor.index()].bypass_dsq;
        let delta = u64::from(self.dsq(dsq).nr.saturating_sub(donor_target));
        let least = (BALANCE_INTERVAL.0 / MIN_DELTA_DIV).div_ceil(SCX_SLICE_BYPASS);
        if delta < least {
            return;
        }
        let mut next = self.dsq_next(dsq, None);
        while let Some(p) = next {
            next = self.dsq_next(dsq, Some(p));
            if self.dsq(dsq).nr <= donor_target || donees.is_empty() {
                break;
            }
            if self.task_cpu(p) != donor {
                continue;
            }
            let cpus = self.p(p).cpus_ptr();
            let Some(donee) = donees.next_and_from(&cpus, CpuId(0)) else { continue };
            if !self.task_can_run_on_remote_rq(sched, p, donee, Enforce::No) {
                continue;
            }
            let to = self.sch(sched).pcpu[donee.index()].bypass_dsq;
            self.task_unlink_from_dsq(p, dsq);
            self.p_mut(p).scx.dsq = NIL;
            self.dispatch_enqueue(sched, to, p, EnqFlags::empty());
            resched.set(donee);
            if self.dsq(to).nr >= donee_target {
                donees.clear(donee);
            }
        }
    }
}
