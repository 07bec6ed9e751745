//! Detaching a scheduler, and why: `scx_vexit()`, `scx_root_disable()`.

use super::sched::{ExitPhase, SchedIdx};
use crate::engine::{EnableState, Engine};
use crate::events::Event;
use crate::flags::{DeqFlags, SCX_EXIT_MSG_LEN};
use crate::kfunc::Op;
use crate::ops::OpSet;
use crate::task::SchedClass;
use crate::trace::What;
use crate::{CpuId, ExitInfo, ExitKind, Nanos, SchedId};

impl Engine {
    /// Begins to detach a scheduler as user space does. What follows takes time; see
    /// [`Engine::is_gone`].
    pub fn detach(&mut self, sched: SchedId) {
        self.scx_exit(SchedIdx(sched.0), ExitKind::Unreg, 0, -1, String::new());
    }

    /// Whether the scheduler has ended and nothing of it is left.
    pub fn is_gone(&self, sched: SchedId) -> bool {
        self.scheds[sched.0 as usize].exit_phase == ExitPhase::Done
    }

    /// Why the scheduler ended, or is ending; `None` while it goes on.
    pub fn exit_info(&self, sched: SchedId) -> Option<&ExitInfo> {
        let sch = &self.scheds[sched.0 as usize];
        (sch.exit_phase != ExitPhase::None).then_some(&sch.exit_info)
    }

    /// `scx_vexit()`: the first reason counts. Whether this was it.
    pub(crate) fn scx_exit(
        &mut self,
        sched: SchedIdx,
        kind: ExitKind,
        exit_code: i64,
        exit_cpu: i32,
        mut msg: String,
    ) -> bool {
        if self.sch(sched).exit_phase != ExitPhase::None {
            return false;
        }
        let mut end = msg.len().min(SCX_EXIT_MSG_LEN - 1);
        while !msg.is_char_boundary(end) {
            end -= 1;
        }
        msg.truncate(end);
        // scx_claim_exit()
        let now = self.now;
        let sch = self.sch_mut(sched);
        sch.exit_phase = ExitPhase::Claimed;
        sch.aborting = true;
        let initialized = sch.exit_info.initialized;
        sch.exit_info =
            ExitInfo { kind, exit_cpu, exit_code, initialized, msg, dump: String::new(), at: now };
        if self.root == Some(sched) || kind == ExitKind::ErrorStall {
            self.note_exit();
        }
        if kind != ExitKind::Parent {
            for &below in &self.descendants(sched)[1..] {
                self.scx_exit(below, ExitKind::Parent, 0, -1, String::new());
            }
        }
        self.record(|engine| {
            let sch = engine.sch(sched);
            What::Exit {
                name: sch.ops.name.clone(),
                kind: kind as u32,
                reason: kind.reason(),
                msg: sch.exit_info.msg.clone(),
            }
        });
        let cpu = self.this_cpu.0;
        self.after(Nanos(0), Event::DisableIrq { sched: sched.0, cpu });
        true
    }

    /// `scx_disable_irq_workfn()`, on the CPU that began the exit: the dump, while everything is as
    /// it was.
    pub(crate) fn disable_irq_work(&mut self, sched: SchedIdx, cpu: CpuId) {
        self.this_cpu = cpu;
        if self.sch(sched).exit_info.kind.is_error() && !self.sch(sched).dump_disabled {
            let dump = self.scx_dump_state(sched);
            self.sch_mut(sched).exit_info.dump = dump;
        }
        let delay = self.rng.jitter(self.config.costs.disable);
        self.after(delay, Event::Disable { sched: sched.0 });
    }

    /// The next step of `scx_disable_workfn()`. A step that has to wait looks again later.
    pub(crate) fn disable_work(&mut self, sched: SchedIdx) {
        const AGAIN: Nanos = Nanos(50_000);
        loop {
            match self.sch(sched).exit_phase {
                ExitPhase::Claimed => {
                    self.scx_bypass(sched, true);
                    self.sch_mut(sched).exit_phase = ExitPhase::Draining;
                }
                ExitPhase::Draining => {
                    if !self.sch(sched).children.is_empty() {
                        break;
                    }
                    if self.sch(sched).parent().is_none() {
                        self.enable_state = EnableState::Disabling;
                    }
                    self.sch_mut(sched).exit_phase = ExitPhase::WaitingForEnable;
                }
                ExitPhase::WaitingForEnable => {
                    if self.enable_work.is_some() {
                        break;
                    }
                    if self.sch(sched).parent().is_some() {
                        self.sub_disable(sched);
                    } else {
                        self.root_disable(sched);
                    }
                    self.sch_mut(sched).exit_phase = ExitPhase::Done;
                    self.note_tracepoints();
                    return;
                }
                ExitPhase::None | ExitPhase::Done => return,
            }
        }
        self.after(AGAIN, Event::Disable { sched: sched.0 });
    }

    /// `scx_root_disable()`, once it has the mutex. No callback is running: the kernel waits for
    /// them, and the engine begins this only between events.
    fn root_disable(&mut self, sched: SchedIdx) {
        self.switched_all = false;
        self.switching_all = false;
        self.cgroup_exit_all(sched);
        self.init_task_enabled = false;

        let mut next = self.scx_tasks.first();
        while let Some(p) = next {
            next = crate::list::List::<crate::list::TasksLink>::next(&self.tasks, p);
            if self.iter_skips(p) {
                continue;
            }
            // Everything that is not idle goes to the fair class: task_should_scx() says no now.
            self.sched_change(p, SchedClass::Fair, DeqFlags::MOVE, |_| {});
            let owner = self.task_sched(p);
            self.scx_disable_and_exit_task(owner, p);
        }
        self.sch_mut(sched).dump_disabled = true;
        self.cgroups.set_sched_below(0, None);
        for cpu in 0..self.nr_cpus() {
            self.rqs[cpu].ext_server = crate::rq::ExtServer {
                generation: self.rqs[cpu].ext_server.generation.wrapping_add(1),
                ..Default::default()
            };
        }
        self.scx_enabled = false;
        self.tid_to_task_enabled = false;
        self.sch_mut(sched).has_op = OpSet::empty();
        self.idle_disable();
        // synchronize_rcu(), then rhashtable_free_and_destroy()
        self.tid_hash_destroy();

        self.log_disable(sched);
        self.call_exit(sched);
        self.sch_mut(sched).linked = false;
        self.refresh_watchdog();
        self.root = None;
        self.free_sched_dsqs(sched);
        self.enable_state = EnableState::Disabled;
        self.scx_bypass(sched, false);
        let name = self.sch(sched).ops.name.clone();
        self.record(|_| What::Detached { name });
        for cpu in 0..self.nr_cpus() {
            self.resched_curr(CpuId(cpu as u32));
        }
    }

    pub(crate) fn call_exit(&mut self, sched: SchedIdx) {
        if self.sch(sched).ops.implements.contains(OpSet::EXIT) {
            let info = self.sch(sched).exit_info.clone();
            self.call(sched, Op::Exit, |ops, cx| ops.exit(cx, &info));
        }
    }

    /// `scx_log_sched_disable()`.
    pub(crate) fn log_disable(&mut self, sched: SchedIdx) {
        let sch = self.sch(sched);
        let what = if sch.parent().is_some() { "sub-scheduler" } else { "scheduler" };
        let (name, info) = (sch.ops.name.clone(), sch.exit_info.clone());
        self.printk(format!("sched_ext: BPF {what} \"{name}\" disabled ({})", info.reason()));
        if info.kind.is_error() && !info.msg.is_empty() {
            self.printk(format!("sched_ext: {name}: {}", info.msg));
        }
    }

    /// The queues of a scheduler that has no task any more.
    pub(crate) fn free_sched_dsqs(&mut self, sched: SchedIdx) {
        self.sch_mut(sched).dsq_hash.clear();
        for i in self.nr_cpus()..self.dsqs.len() {
            if self.dsqs[i].sched == Some(sched) {
                self.dsqs[i] = super::sched::Dsq::new(crate::flags::DsqId::INVALID, None);
                self.free_dsqs.push(i as u32);
            }
        }
    }
}
