//! `do_exit()` in its phases, `release_task()`, and waiting for children.

use super::user::SHORTEST;
use crate::Nanos;
use crate::config::Sabotage;
use crate::engine::Engine;
use crate::ext::tracepoint::{Tracepoint, TracepointSet};
use crate::flags::{pf, state};
use crate::sim::{Act, ProcIdx, Wait};
use crate::task::TaskIdx;
use crate::trace::{PidLoss, What};

impl Engine {
    /// The beginning: `PF_EXITING`. With `group`, the other threads are to end too.
    pub(crate) fn exit_begin(&mut self, p: TaskIdx, group: bool) {
        let proc = self.sim(p).proc;
        if group && !self.proc(proc).group_exit {
            self.proc_mut(proc).group_exit = true;
            let others: Vec<_> =
                self.proc(proc).threads.iter().copied().filter(|&t| t != p).collect();
            for thread in others {
                self.kill_thread(thread);
            }
        }
        self.p_mut(p).flags |= pf::PF_EXITING;
        self.proc_mut(proc).live -= 1;
        let group_dead = self.proc(proc).live == 0;
        let exits = |_: &Self| Tracepoint::SchedProcessExit { p, group_dead };
        self.trace_as(p, TracepointSet::SCHED_PROCESS_EXIT, exits);
        self.abandon_mutexes(p);
        self.record(|engine| What::Exiting { task: engine.name(p) });
        let cost = self.rng.jitter(self.config.costs.exit_before_notify);
        let sim = self.sim_mut(p);
        sim.burst_left = cost;
        sim.act = Act::ExitGroup;
    }

    /// `sched_autogroup_exit_task()`, which comes right before the notify step: with
    /// `CONFIG_SCHED_AUTOGROUP` the task leaves its queues and comes back, whether it has an autogroup or
    /// not.
    pub(crate) fn exit_group(&mut self, p: TaskIdx) {
        self.sched_move_task(p, |_| {});
        let sim = self.sim_mut(p);
        sim.burst_left = SHORTEST;
        sim.act = Act::ExitNotify;
    }

    /// `exit_notify()`: from here on the task may have no pid, and still runs for a while.
    pub(crate) fn exit_notify(&mut self, p: TaskIdx) {
        let proc = self.sim(p).proc;
        self.thread_ended(p);
        if self.proc(proc).live == 0 {
            self.reparent_children(proc);
        }
        self.p_mut(p).exit_state = state::EXIT_ZOMBIE;
        let autoreap = if self.proc(proc).leader != p {
            true
        } else {
            self.proc(proc).threads.len() == 1 && self.do_notify_parent(proc)
        };
        if autoreap {
            self.p_mut(p).exit_state = state::EXIT_DEAD;
        }
        if self.proc(proc).notify_count < 0
            && let Some(task) = self.proc(proc).group_exec_task
        {
            self.try_to_wake_up(task, state::TASK_KILLABLE);
        }
        if autoreap {
            self.release_task(p, PidLoss::Exit);
        }
        let cost = self.rng.jitter(self.config.costs.exit_after_notify);
        let sim = self.sim_mut(p);
        sim.burst_left = cost;
        sim.act = Act::ExitDead;
    }

    /// `finish_task_switch()` of a dead task: it will not run again.
    pub(crate) fn finish_dead(&mut self, p: TaskIdx) {
        self.sched_ext_dead(p);
        self.stats.exited += 1;
        self.record(|engine| What::Dead { task: engine.name(p) });
        self.put_task(p);
    }

    /// `do_notify_parent()`: whether nobody waits for the process.
    fn do_notify_parent(&mut self, proc: ProcIdx) -> bool {
        let Some(parent) = self.proc(proc).parent else { return true };
        let ignored = self.proc(parent).ignore_children;
        if !ignored {
            self.proc_mut(parent).zombies.push_back(proc);
        }
        self.wake_child_waiters(parent);
        if self.sim(self.init).proc == parent {
            let init = self.init;
            self.try_to_wake_up(init, state::TASK_INTERRUPTIBLE);
        }
        ignored
    }

    /// `forget_original_parent()`: the children of a process that ends become `init`'s.
    fn reparent_children(&mut self, proc: ProcIdx) {
        let init = self.sim(self.init).proc;
        let zombies = std::mem::take(&mut self.proc_mut(proc).zombies);
        let any_zombie = !zombies.is_empty();
        while let Some(child) = self.proc(proc).first_child {
            self.unlink_child(child);
            self.link_child(init, child);
        }
        self.proc_mut(init).zombies.extend(zombies);
        if any_zombie {
            let init = self.init;
            self.try_to_wake_up(init, state::TASK_INTERRUPTIBLE);
        }
    }

    /// A thread that another may join has ended.
    fn thread_ended(&mut self, p: TaskIdx) {
        let Some(creator) = self.sim(p).creator.and_then(|key| self.live(key)) else { return };
        let sim = self.sim_mut(creator);
        sim.created = sim.created.saturating_sub(1);
        if sim.created == 0 && sim.act == Act::Join {
            self.try_to_wake_up(creator, state::TASK_INTERRUPTIBLE);
        }
    }

    /// `release_task()`: the pid is free, whether the task still runs or not.
    pub(crate) fn release_task(&mut self, p: TaskIdx, how: PidLoss) {
        let proc_idx = self.sim(p).proc;
        let pid = self.p(p).pid();
        self.pids.free(pid);
        self.note_pid_lost(p, pid, how);
        self.sim_mut(p).released = true;
        if self.sabotaged(Sabotage::C4RemoveAtRelease) && self.tid_to_task_enabled {
            self.tid_hash_remove(p);
        }
        // __exit_signal()
        let proc = self.proc_mut(proc_idx);
        proc.threads.retain(|&thread| thread != p);
        let mut wake = None;
        if !proc.threads.is_empty() && proc.notify_count > 0 {
            proc.notify_count -= 1;
            if proc.notify_count == 0 {
                wake = proc.group_exec_task;
            }
        }
        if let Some(task) = wake {
            self.try_to_wake_up(task, state::TASK_KILLABLE);
        }
        let proc = self.proc(proc_idx);
        let leader = proc.leader;
        if leader == p {
            self.release_process(proc_idx);
        } else if proc.threads.len() == 1
            && proc.threads[0] == leader
            && self.p(leader).exit_state == state::EXIT_ZOMBIE
            && self.do_notify_parent(proc_idx)
        {
            // The last thread of a zombie leader is gone, and nobody waits for the leader.
            self.p_mut(leader).exit_state = state::EXIT_DEAD;
            self.release_task(leader, PidLoss::Exit);
        }
        self.put_task(p);
    }

    fn release_process(&mut self, proc: ProcIdx) {
        let parent = self.proc(proc).parent;
        self.unlink_child(proc);
        self.free_procs.push(proc.0);
        // A parent that ignores its children waits until there are none.
        if let Some(parent) = parent
            && self.proc(parent).first_child.is_none()
        {
            self.wake_child_waiters(parent);
        }
    }

    /// `__wake_up_parent()`.
    fn wake_child_waiters(&mut self, parent: ProcIdx) {
        for waiter in std::mem::take(&mut self.proc_mut(parent).child_waiters) {
            self.try_to_wake_up(waiter, state::TASK_INTERRUPTIBLE);
        }
    }

    /// `wait_task_zombie()`: reaps a child; whether there was one.
    fn reap_one(&mut self, p: TaskIdx) -> bool {
        let proc = self.sim(p).proc;
        let Some(child) = self.proc_mut(proc).zombies.pop_front() else { return false };
        let leader = self.proc(child).leader;
        self.p_mut(leader).exit_state = state::EXIT_DEAD;
        let by = self.name(p);
        self.release_task(leader, PidLoss::Reaped { by });
        true
    }

    /// `do_wait()`: one child, or all of them.
    pub(crate) fn wait_child(&mut self, p: TaskIdx, all: bool) {
        let proc = self.sim(p).proc;
        let reaped = self.reap_one(p);
        let done = if all { self.proc(proc).first_child.is_none() } else { reaped };
        if done || self.proc(proc).first_child.is_none() {
            self.sim_mut(p).wait = Wait::Nothing;
            self.sim_mut(p).act = Act::Fetch;
            return;
        }
        let cost = self.rng.jitter(self.config.costs.syscall);
        let sim = self.sim_mut(p);
        sim.act = Act::WaitChild { all };
        sim.burst_left = cost;
        if !reaped {
            sim.wait = Wait::Other;
            self.p_mut(p).__state = state::TASK_INTERRUPTIBLE;
            self.proc_mut(proc).child_waiters.push(p);
        }
    }

    /// `init`: reaps what there is, then sleeps.
    pub(crate) fn init_reap(&mut self, p: TaskIdx) {
        let more = self.reap_one(p);
        self.sim_mut(p).burst_left = Nanos(3_000);
        if !more {
            self.p_mut(p).__state = state::TASK_INTERRUPTIBLE;
        }
    }
}
