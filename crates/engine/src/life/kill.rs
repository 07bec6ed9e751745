//! Fatal signals, and which tasks an instruction means.

use crate::Nanos;
use crate::engine::Engine;
use crate::flags::{pf, state};
use crate::program::Who;
use crate::sim::{Act, Child, ProcIdx, Wait};
use crate::task::{NIL, TaskIdx};
use crate::trace::What;

/// From the arrival of a fatal signal to `do_exit()`.
const DELIVERY: Nanos = Nanos(1_000);

impl Engine {
    /// The tasks that `who` means to `p`: live ones only.
    pub(crate) fn tasks_of(&self, p: TaskIdx, who: Who) -> Vec<TaskIdx> {
        match who {
            Who::Myself => vec![p],
            Who::LastChild => match self.sim(p).last_child {
                Some(Child::Thread(key)) => self.live(key).into_iter().collect(),
                Some(Child::Process(key)) => {
                    let proc = self.proc(key.idx);
                    let live = proc.generation == key.generation && !proc.threads.is_empty();
                    if live { vec![proc.leader] } else { Vec::new() }
                }
                None => Vec::new(),
            },
            Who::Parent => {
                let parent = self.proc(self.sim(p).proc).parent;
                parent.map(|parent| self.proc(parent).leader).into_iter().collect()
            }
            Who::Named(name) => {
                let fits = |q: &TaskIdx| self.sim(*q).name == name && self.is_workload_task(*q);
                self.scx_tasks.iter(&self.tasks).filter(fits).collect()
            }
        }
    }

    /// Whether the program started the task, as opposed to boot.
    fn is_workload_task(&self, p: TaskIdx) -> bool {
        let act = self.sim(p).act;
        !matches!(act, Act::Idle | Act::Reap | Act::Watchdog | Act::WatchdogDone)
    }

    /// `kill(2)` with `SIGKILL`. `init` and kernel threads do not mind.
    pub(crate) fn kill(&mut self, by: TaskIdx, target: TaskIdx) {
        let proc = self.sim(target).proc;
        if !self.is_workload_task(target) || self.proc(proc).group_exit {
            return;
        }
        self.record(|engine| What::Killed { task: engine.name(target), by: engine.name(by) });
        self.stats.kills += 1;
        self.proc_mut(proc).group_exit = true;
        for thread in self.proc(proc).threads.clone() {
            self.kill_thread(thread);
        }
    }

    /// A fatal signal for one thread: it exits as soon as it has a CPU.
    pub(crate) fn kill_thread(&mut self, p: TaskIdx) {
        if self.p(p).flags & pf::PF_EXITING != 0 || self.sim(p).killed {
            return;
        }
        self.cancel_wait(p);
        self.cancel_exec(p);
        let cpu = self.task_cpu(p);
        let running = self.rq(cpu).curr == p && self.p(p).on_rq == 1;
        let halfway = self.frames.contains(&cpu);
        if running && !halfway {
            self.stop_burst(cpu);
        }
        let sim = self.sim_mut(p);
        sim.killed = true;
        sim.act = Act::ExitBegin { group: false };
        sim.burst_left = DELIVERY;
        sim.burst_until = None;
        if running && !halfway && self.this_cpu != cpu {
            self.start_burst(cpu, false);
        }
        self.try_to_wake_up(p, state::TASK_INTERRUPTIBLE | state::TASK_KILLABLE);
    }

    /// Takes a sleeping task off what it waits for.
    fn cancel_wait(&mut self, p: TaskIdx) {
        match std::mem::replace(&mut self.sim_mut(p).wait, Wait::Nothing) {
            Wait::Mutex(m) => self.mutexes[m as usize].waiters.retain(|&w| w != p),
            Wait::Cond { cond, .. } => self.conds[cond as usize].retain(|&w| w != p),
            Wait::Barrier(b) => self.barriers[b as usize].retain(|&w| w != p),
            Wait::ForkSem => self.fork_waiters.retain(|&w| w != p),
            Wait::Other => {
                let ProcIdx(proc) = self.sim(p).proc;
                self.procs[proc as usize].child_waiters.retain(|&w| w != p);
            }
            Wait::Nothing => {}
        }
    }

    /// The end of `de_thread()` for a task that is killed in it.
    fn cancel_exec(&mut self, p: TaskIdx) {
        let proc = self.sim(p).proc;
        let proc = self.proc_mut(proc);
        if proc.group_exec_task == Some(p) {
            proc.group_exec_task = None;
            proc.notify_count = 0;
        }
    }

    /// A mutex whose owner is gone stays locked: these are not robust.
    pub(crate) fn abandon_mutexes(&mut self, p: TaskIdx) {
        for mutex in &mut self.mutexes {
            if mutex.owner == Some(p) {
                mutex.owner = Some(TaskIdx(NIL));
            }
        }
    }
}
