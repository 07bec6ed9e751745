//! `execve(2)`: `de_thread()`, and with it the exchange of pids.

use crate::config::Sabotage;
use crate::engine::Engine;
use crate::ext::tracepoint::{Tracepoint, TracepointSet};
use crate::flags::{opss, state};
use crate::program::{Index, Pc};
use crate::sim::{Act, LostPid, Wait};
use crate::task::TaskIdx;
use crate::trace::{PidLoss, What};

impl Engine {
    /// The first part of `de_thread()`: the other threads are to die.
    pub(crate) fn exec(&mut self, p: TaskIdx, entry: Pc, name: Index) {
        let proc = self.sim(p).proc;
        if self.proc(proc).threads.len() == 1 {
            self.exec_finish(p, entry, name, false);
            return;
        }
        if self.proc(proc).group_exit || self.proc(proc).group_exec_task.is_some() {
            // Another thread's exec or exit has begun, and a signal is on its way here.
            return;
        }
        let others: Vec<_> = self.proc(proc).threads.iter().copied().filter(|&t| t != p).collect();
        let is_leader = self.proc(proc).leader == p;
        let count = others.len() as i32 - i32::from(!is_leader);
        let proc = self.proc_mut(proc);
        proc.group_exec_task = Some(p);
        proc.notify_count = count;
        for thread in others {
            if self.p(thread).exit_state == 0 {
                let scx = &self.p(thread).scx;
                if scx.ops_state & opss::STATE_MASK == opss::QUEUED {
                    self.stats.execs_that_wait_for_queued += 1;
                }
                self.kill_thread(thread);
            }
        }
        self.sim_mut(p).act = Act::ExecWait { entry, name };
        self.exec_wait(p, entry, name);
    }

    /// Waits until all others have been released, but for the leader.
    pub(crate) fn exec_wait(&mut self, p: TaskIdx, entry: Pc, name: Index) {
        let proc = self.sim(p).proc;
        if self.proc(proc).notify_count != 0 {
            self.sleep_in_exec(p);
            return;
        }
        if self.proc(proc).leader == p {
            self.proc_mut(proc).group_exec_task = None;
            self.exec_finish(p, entry, name, false);
        } else {
            self.sim_mut(p).act = Act::ExecTakePid { entry, name };
            self.exec_take_pid(p, entry, name);
        }
    }

    fn sleep_in_exec(&mut self, p: TaskIdx) {
        self.p_mut(p).__state = state::TASK_KILLABLE;
        self.sim_mut(p).wait = Wait::Other;
    }

    /// The second part of `de_thread()`: once the leader is a zombie, take its pid.
    pub(crate) fn exec_take_pid(&mut self, p: TaskIdx, entry: Pc, name: Index) {
        let proc = self.sim(p).proc;
        let leader = self.proc(proc).leader;
        self.proc_mut(proc).notify_count = -1;
        if self.p(leader).exit_state == 0 {
            self.sleep_in_exec(p);
            return;
        }
        let (old_p, old_leader) = (self.name(p), self.name(leader));
        let (own, lead) = (self.p(p).pid(), self.p(leader).pid());
        let start_time = self.p(leader).start_time;
        self.p_mut(p).start_time = start_time;
        self.p_mut(p).start_boottime = start_time;
        // exchange_tids(), which is about pids.
        if !self.sabotaged(Sabotage::C15KeepPid) {
            self.p_mut(p).pid = lead.0;
            self.p_mut(leader).pid = own.0;
            self.pids.attach(lead, p);
            self.pids.attach(own, leader);
            self.note_pid_lost(p, own, PidLoss::ExecSwapped { leader: old_leader });
            self.note_pid_lost(leader, lead, PidLoss::ExecTaken { by: old_p });
        }
        if self.sabotaged(Sabotage::C2SwapTids) {
            let tid = self.p(p).scx.tid;
            self.p_mut(p).scx.tid = self.p(leader).scx.tid;
            self.p_mut(leader).scx.tid = tid;
        }
        self.proc_mut(proc).leader = p;
        self.p_mut(leader).exit_state = state::EXIT_DEAD;
        let by = self.name(p);
        self.release_task(leader, PidLoss::ExecReleased { by });
        let proc = self.proc_mut(proc);
        proc.group_exec_task = None;
        proc.notify_count = 0;
        self.exec_finish(p, entry, name, true);
    }

    /// The point of no return: what is left is the work of the new image's setup.
    fn exec_finish(&mut self, p: TaskIdx, entry: Pc, name: Index, nonleader: bool) {
        let cost = self.rng.jitter(self.config.costs.exec);
        let sim = self.sim_mut(p);
        sim.wait = Wait::Nothing;
        sim.burst_left = cost;
        sim.act = Act::ExecDone { entry, name, nonleader };
    }

    pub(crate) fn exec_done(&mut self, p: TaskIdx, entry: Pc, name: Index, nonleader: bool) {
        let old = self.name(p);
        let program = std::sync::Arc::clone(&self.config.program);
        let comm = program.names.get(name as usize).map_or("?", String::as_str);
        // __set_task_comm()
        let renames = |_: &Self| Tracepoint::TaskRename { p, comm: comm.to_owned() };
        self.trace_as(p, TracepointSet::TASK_RENAME, renames);
        self.p_mut(p).set_comm(comm);
        let sim = self.sim_mut(p);
        sim.pc = entry;
        sim.loops.clear();
        sim.timers.clear();
        sim.created = 0;
        sim.act = Act::Fetch;
        self.stats.execs += 1;
        self.stats.nonleader_execs += u64::from(nonleader);
        self.record(|engine| What::Exec { old, new: engine.name(p), nonleader });
        self.trace_as(p, TracepointSet::SCHED_PROCESS_EXEC, |engine| {
            // It had another pid if it was not the leader.
            let lost = engine.sim(p).evidence.lost_pids.last().filter(|_| nonleader);
            let old_pid = lost.map_or(engine.p(p).pid, |lost| lost.pid.0);
            Tracepoint::SchedProcessExec { p, old_pid }
        });
    }

    /// The task loses a pid. Whoever looks it up under that from now on gets something else.
    pub(crate) fn note_pid_lost(&mut self, p: TaskIdx, pid: crate::Pid, how: PidLoss) {
        let at = self.now;
        self.record(|engine| What::PidLost { task: engine.name(p), pid, how });
        if self.dead_and_done(p) {
            return;
        }
        self.sim_mut(p).evidence.lost_pids.push(LostPid { pid, at, how });
        let holders = self.former_holders.entry(pid.0).or_default();
        if !holders.contains(&p) {
            holders.push(p);
        }
    }

    /// The task is gone, and with it the interest in its old pids.
    pub(crate) fn forget_former_pids(&mut self, p: TaskIdx) {
        for lost in std::mem::take(&mut self.sim_mut(p).evidence.lost_pids) {
            if let Some(holders) = self.former_holders.get_mut(&lost.pid.0) {
                holders.retain(|&holder| holder != p);
                if holders.is_empty() {
                    self.former_holders.remove(&lost.pid.0);
                }
            }
        }
    }
}
