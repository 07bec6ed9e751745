//! `copy_process()`.

use crate::engine::Engine;
use crate::events::Event;
use crate::ext::tracepoint::{Tracepoint, TracepointSet};
use crate::flags::errno;
use crate::program::{Pc, Spawn};
use crate::sched::policy_number;
use crate::sim::{Act, Child, ProcIdx, ProcKey};
use crate::task::{DEFAULT_PRIO, SchedClass, TaskIdx, TaskStruct};
use crate::trace::What;
use crate::{CpuId, Nanos};

impl Engine {
    /// A process of the program's start list: a child of `init`.
    pub(crate) fn start_process(&mut self, index: u32) {
        if self.fork_excluded {
            // scx_fork_rwsem
            self.after(Nanos(20_000), Event::Start { index });
            return;
        }
        let init = self.init;
        let start = self.config.program.start[index as usize].clone();
        let mut template = TaskStruct::new();
        template.cpus_mask = match &start.affinity {
            Some(cpus) if !cpus.and(&self.topology.all()).is_empty() => {
                cpus.and(&self.topology.all())
            }
            _ => self.topology.all(),
        };
        template.nr_cpus_allowed = template.cpus_mask.weight();
        template.static_prio = DEFAULT_PRIO + i32::from(start.nice);
        template.policy = policy_number(start.policy);
        template.cgroup = start
            .cgroup
            .and_then(|i| self.cgroups.find(&self.config.program.cgroups[i as usize]))
            .unwrap_or(0);
        let cpu = self.task_cpu(init);
        template.cpu = cpu.0;
        self.this_cpu = cpu;
        let _ = self.copy_process(init, template, Spawn::Process, start.entry, start.name);
    }

    /// `fork(2)` or `pthread_create(3)` by a running task.
    pub(crate) fn fork(&mut self, cpu: CpuId, p: TaskIdx, what: Spawn, entry: Pc, name: u32) {
        let mut template = TaskStruct::new();
        let parent = self.p(p);
        template.cpus_mask = parent.cpus_mask;
        template.nr_cpus_allowed = parent.nr_cpus_allowed;
        template.static_prio = parent.static_prio;
        template.policy = parent.policy;
        template.cgroup = parent.cgroup;
        template.se.vruntime = parent.se.vruntime;
        template.cpu = cpu.0;
        if let Ok(child) = self.copy_process(p, template, what, entry, name) {
            let child = match what {
                Spawn::Process => {
                    let idx = self.sim(child).proc;
                    Child::Process(ProcKey { idx, generation: self.proc(idx).generation })
                }
                Spawn::Thread => {
                    self.sim_mut(child).creator = Some(self.key(p));
                    self.sim_mut(p).created += 1;
                    Child::Thread(self.key(child))
                }
            };
            self.sim_mut(p).last_child = Some(child);
        }
    }

    /// `copy_process()` and `wake_up_new_task()`. The error, if the fork fails, is positive.
    fn copy_process(
        &mut self,
        parent: TaskIdx,
        template: TaskStruct,
        what: Spawn,
        entry: Pc,
        name: u32,
    ) -> Result<TaskIdx, i32> {
        let cpu = template.task_cpu();
        let parent_proc = self.sim(parent).proc;
        let p = self.alloc_task(parent_proc, entry, name);
        let program = std::sync::Arc::clone(&self.config.program);
        let now = self.now.0;
        let class = self.class_for_policy(template.policy);
        let task = self.p_mut(p);
        *task = template;
        task.start_time = now;
        task.start_boottime = now;
        task.sched_class = class as u32;
        task.set_comm(program.names.get(name as usize).map_or("?", String::as_str));
        // alloc_pid() comes before the tid.
        let Some(pid) = self.pids.alloc() else {
            self.fork_failed(parent, p, errno::EAGAIN);
            return Err(errno::EAGAIN);
        };
        let task = self.p_mut(p);
        task.pid = pid.0;
        task.tgid = pid.0;
        if what == Spawn::Thread {
            let tgid = self.p(parent).tgid;
            self.p_mut(p).tgid = tgid;
        }
        let err = self.scx_fork(cpu, p);
        if err != 0 {
            self.pids.free(pid);
            self.fork_failed(parent, p, -err);
            return Err(-err);
        }
        self.pids.attach(pid, p);
        self.note_pid_taken(pid);
        self.join_process(parent_proc, p, what);
        self.stats.forked += 1;
        let thread = what == Spawn::Thread;
        self.record(|engine| What::Fork {
            parent: engine.name(parent),
            child: engine.name(p),
            thread,
        });
        let sim = self.sim_mut(p);
        sim.act = Act::Fetch;
        sim.runnable_since = Nanos(now);
        self.p_mut(p).scx.runnable_at = self.jiffies();
        self.scx_post_fork(p);
        let forked = |_: &Self| Tracepoint::SchedProcessFork { parent, child: p };
        self.trace_as(parent, TracepointSet::SCHED_PROCESS_FORK, forked);
        self.wake_up_new_task(p);
        Ok(p)
    }

    fn join_process(&mut self, parent_proc: ProcIdx, p: TaskIdx, what: Spawn) {
        let proc = match what {
            Spawn::Process => self.alloc_proc(p, Some(parent_proc)),
            Spawn::Thread => parent_proc,
        };
        self.sim_mut(p).proc = proc;
        let proc = self.proc_mut(proc);
        proc.threads.push(p);
        proc.live += 1;
    }

    /// The tid, if one was given out, is burnt.
    fn fork_failed(&mut self, parent: TaskIdx, p: TaskIdx, errno: i32) {
        self.stats.forks_failed += 1;
        let tid = self.p(p).scx.tid;
        self.record(|engine| What::ForkFailed { parent: engine.name(parent), tid, errno });
        debug_assert!(self.p(p).sched_class() != SchedClass::Idle);
        self.sim_mut(p).usage = 0;
        self.rcu_free.push(p);
    }
}
