//! Sub-schedulers: `scx_sub_enable_workfn()` and `scx_sub_disable()`.

use std::sync::Arc;

use super::enable::{AttachError, EnablePhase, EnableWork};
use super::sched::{ExitPhase, SchedIdx};
use crate::SchedId;
use crate::engine::Engine;
use crate::events::Event;
use crate::flags::{DeqFlags, SCX_SUB_MAX_DEPTH, ent, errno};
use crate::kfunc::{Cx, Op};
use crate::ops::{OpSet, Ops, Scheduler, SubArgs};
use crate::task::{SchedClass, TaskIdx, TaskState};
use crate::trace::What;

impl Engine {
    /// The first part of `scx_sub_enable_workfn()`, up to the iteration over the cgroup's tasks.
    pub(crate) fn sub_enable(
        &mut self,
        scheduler: Arc<dyn Scheduler>,
        ops: Ops,
        path: &str,
        before: impl FnOnce(&mut Cx<'_>),
    ) -> Result<SchedIdx, AttachError> {
        if !self.scx_enabled {
            return Err(AttachError::errno(errno::ENODEV, "no root scheduler is attached"));
        }
        let Some(cgroup) = self.cgroups.find(path) else {
            let what = format!("cgroup `{path}` does not exist");
            return Err(AttachError::errno(errno::ENOENT, what));
        };
        let parent = self.find_parent_sched(cgroup)?;
        let implements = ops.implements;
        let sched = self.alloc_sched(scheduler, ops, Some(parent), cgroup);
        self.prog_run(SchedId(sched.0), before);
        self.note_tracepoints();
        self.enable_work = Some(EnableWork::new(sched, EnablePhase::SubInit));
        if let Err(err) = self.sub_enable_checks(sched, parent) {
            self.enable_failed(sched, err);
            return Ok(sched);
        }
        self.scx_bypass(sched, true);
        self.sch_mut(sched).has_op = implements;
        self.fork_excluded = true;
        self.cgroups.set_sched_below(cgroup, Some(sched));
        self.enabling_sub = Some(sched);
        let first = self.scx_tasks.first();
        if let Some(work) = &mut self.enable_work {
            work.next = first;
        }
        self.after(crate::Nanos(1_000), Event::Enable);
        Ok(sched)
    }

    /// `find_parent_sched()`.
    fn find_parent_sched(&self, cgroup: u32) -> Result<SchedIdx, AttachError> {
        let Some(parent) = self.cgroups.sched(cgroup) else {
            return Err(AttachError::errno(errno::ENODEV, "the cgroup has no scheduler"));
        };
        if self.sch(parent).cgroup == cgroup {
            let what = "the cgroup has a scheduler of its own already";
            return Err(AttachError::errno(errno::EBUSY, what));
        }
        if !self.sch(parent).ops.implements.contains(OpSet::SUB_ATTACH) {
            let what = format!("`{}` takes no sub-schedulers", self.sch(parent).ops.name);
            return Err(AttachError::errno(errno::EOPNOTSUPP, what));
        }
        let between = |child: &SchedIdx| self.cgroups.is_below(self.sch(*child).cgroup, cgroup);
        if self.sch(parent).children.iter().any(between) {
            let what = "a sub-scheduler is attached below the cgroup";
            return Err(AttachError::errno(errno::EBUSY, what));
        }
        Ok(parent)
    }

    /// What can refuse a sub-scheduler, in the kernel's order. The error, negative.
    fn sub_enable_checks(&mut self, sched: SchedIdx, parent: SchedIdx) -> Result<(), i32> {
        // scx_link_sched()
        if self.sch(parent).exit_phase != ExitPhase::None {
            let err = -errno::ENOENT;
            self.scx_error(sched, format!("parent disabled ({err})"));
            return Err(err);
        }
        self.sch_mut(parent).children.push(sched);
        self.sch_mut(sched).linked = true;
        self.refresh_watchdog();
        if self.sch(sched).level() >= SCX_SUB_MAX_DEPTH as usize {
            self.scx_error(sched, format!("max nesting depth {SCX_SUB_MAX_DEPTH} violated"));
            return Err(0);
        }
        self.call_init(sched)?;
        if !self.validate_ops(sched) {
            return Err(0);
        }
        let args = self.sub_args(sched);
        let result = self.call(parent, Op::SubAttach, |ops, cx| ops.sub_attach(cx, &args));
        if let Err(err) = result {
            let err = self.sanitize_err(sched, "sub_attach", err);
            self.scx_error(sched, format!("parent rejected ({err})"));
            return Err(err);
        }
        self.sch_mut(sched).sub_attached = true;
        Ok(())
    }

    fn sub_args(&self, sched: SchedIdx) -> SubArgs {
        let cgroup = self.sch(sched).cgroup;
        SubArgs {
            cgroup_id: self.cgroups.id(cgroup),
            cgroup_path: self.cgroups.path(cgroup).to_owned(),
        }
    }

    fn in_cgroup_of(&self, p: TaskIdx, sched: SchedIdx) -> bool {
        self.cgroups.is_below(self.p(p).cgroup, self.sch(sched).cgroup)
    }

    /// Initializes the next task of the cgroup for the sub-scheduler; it stays the parent's.
    pub(crate) fn sub_enable_step(&mut self, work: &EnableWork) {
        let sched = work.sched;
        loop {
            let Some(p) = self.enable_iter_next() else {
                self.sub_enable_switch(sched);
                return;
            };
            let ready = matches!(self.p(p).task_state(), TaskState::Ready | TaskState::Enabled);
            if !self.in_cgroup_of(p, sched) || !ready {
                continue;
            }
            let err = self.scx_init_task(sched, p, false);
            if err != 0 {
                self.sub_enable_abort(sched);
                self.enable_failed(sched, err);
                return;
            }
            self.p_mut(p).scx.flags |= ent::SUB_INIT;
            let delay = self.rng.jitter(self.config.costs.init_task);
            self.after(delay, Event::Enable);
            return;
        }
    }

    fn sub_enable_abort(&mut self, sched: SchedIdx) {
        for p in self.marked_for_sub() {
            self.call_exit_task(sched, p, true);
            self.p_mut(p).scx.flags &= !ent::SUB_INIT;
        }
        self.enabling_sub = None;
    }

    fn marked_for_sub(&self) -> Vec<TaskIdx> {
        let marked = |p: &TaskIdx| self.p(*p).scx.flags & ent::SUB_INIT != 0;
        self.scx_tasks.iter(&self.tasks).filter(marked).collect()
    }

    /// All tasks are initialized: they change over from the parent.
    fn sub_enable_switch(&mut self, sched: SchedIdx) {
        let Some(parent) = self.sch(sched).parent() else { return };
        for p in self.marked_for_sub() {
            let class = self.p(p).sched_class();
            self.sched_change(p, class, DeqFlags::MOVE, |engine| {
                engine.scx_exit_task(parent, p);
                engine.p_mut(p).scx.sched = sched.0;
                if class == SchedClass::Ext {
                    engine.scx_enable_task(sched, p);
                }
                engine.p_mut(p).scx.flags &= !ent::SUB_INIT;
            });
        }
        self.enabling_sub = None;
        self.enable_work = None;
        self.release_forks();
        self.scx_bypass(sched, false);
        self.sch_mut(sched).attached = true;
        let name = self.sch(sched).ops.name.clone();
        self.printk(format!("sched_ext: BPF sub-scheduler \"{name}\" enabled"));
        self.record(|_| What::Attached { name });
    }

    /// `scx_sub_disable()`, once it has the mutex: the tasks go back to the parent.
    pub(crate) fn sub_disable(&mut self, sched: SchedIdx) {
        let Some(parent) = self.sch(sched).parent() else { return };
        if self.sch(sched).linked {
            let cgroup = self.sch(sched).cgroup;
            if self.cgroups.sched(cgroup) == Some(sched) {
                self.cgroups.set_sched_below(cgroup, Some(parent));
            }
            self.return_tasks(sched, parent);
        }
        self.sch_mut(sched).dump_disabled = true;
        self.disable_bypass_dsp(sched);
        self.sch_mut(parent).children.retain(|&child| child != sched);
        self.sch_mut(sched).linked = false;
        self.refresh_watchdog();
        let has_detach = self.sch(parent).ops.implements.contains(OpSet::SUB_DETACH);
        if has_detach && self.sch(sched).sub_attached {
            let args = self.sub_args(sched);
            self.call(parent, Op::SubDetach, |ops, cx| ops.sub_detach(cx, &args));
        }
        self.log_disable(sched);
        self.call_exit(sched);
        self.free_sched_dsqs(sched);
        let name = self.sch(sched).ops.name.clone();
        self.record(|_| What::Detached { name });
    }

    fn return_tasks(&mut self, sched: SchedIdx, parent: SchedIdx) {
        let own = |p: &TaskIdx| self.task_sched(*p) == Some(sched);
        let tasks: Vec<_> = self.scx_tasks.iter(&self.tasks).filter(own).collect();
        for p in tasks {
            let err = self.scx_init_task(parent, p, false);
            if err != 0 {
                self.fail_parent(sched, parent, p, err);
                return;
            }
            let class = self.p(p).sched_class();
            self.sched_change(p, class, DeqFlags::MOVE, |engine| {
                engine.scx_disable_and_exit_task(Some(sched), p);
                engine.set_task_state(p, TaskState::InitBegin);
                engine.set_task_state(p, TaskState::Init);
                engine.p_mut(p).scx.sched = parent.0;
                engine.set_task_state(p, TaskState::Ready);
                if class == SchedClass::Ext {
                    engine.scx_enable_task(parent, p);
                }
            });
        }
    }

    /// `scx_fail_parent()`: the parent does not take a task back, so it ends too.
    fn fail_parent(&mut self, sched: SchedIdx, parent: SchedIdx, failed: TaskIdx, err: i32) {
        let who = self.p(failed).who();
        let msg =
            format!("ops.init_task() failed ({err}) for {who} while disabling a sub-scheduler");
        self.scx_error(parent, msg);
        self.scx_bypass(parent, true);
        let own = |p: &TaskIdx| self.task_sched(*p) == Some(sched);
        let tasks: Vec<_> = self.scx_tasks.iter(&self.tasks).filter(own).collect();
        for p in tasks {
            let class = self.p(p).sched_class();
            self.sched_change(p, class, DeqFlags::MOVE, |engine| {
                engine.scx_disable_and_exit_task(Some(sched), p);
                engine.p_mut(p).scx.sched = parent.0;
            });
        }
    }
}
