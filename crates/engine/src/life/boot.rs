//! The tasks that are there from the start, and where tasks and processes are kept.

use crate::engine::Engine;
use crate::events::Event;
use crate::flags::{pf, state};
use crate::program::Pc;
use crate::sim::{Act, ProcIdx, Process, Sim, TaskKey};
use crate::task::{SchedClass, TaskIdx, TaskStruct};
use crate::{CpuId, Cpumask, DsqId, Nanos};

impl Engine {
    /// Idle tasks, `init`, `kthreadd`, the watchdog's worker, and the program's processes to come.
    pub(crate) fn boot(&mut self) {
        self.procs.push(Process::new(0, TaskIdx(0), None));
        for cpu in 0..self.nr_cpus() as u32 {
            self.new_dsq(DsqId::LOCAL, None);
            let idle = self.boot_idle(CpuId(cpu));
            self.rqs.push(crate::rq::Rq::new(cpu, idle));
        }
        self.init = self.boot_task("init", Act::Reap, 0);
        self.boot_task("kthreadd", Act::Idle, pf::PF_KTHREAD);
        self.watchdog_worker = self.boot_task("kworker/u8:1", Act::Watchdog, pf::PF_KTHREAD);
        for index in 0..self.config.program.start.len() as u32 {
            let at = self.config.program.start[index as usize].at;
            self.events.push(at, Event::Start { index });
        }
    }

    /// `fork_idle()`. The boot CPU's idle task was not forked and has no tid.
    fn boot_idle(&mut self, cpu: CpuId) -> TaskIdx {
        let idle = self.alloc_task(ProcIdx(0), Pc(0), 0);
        let tid = if cpu.0 == 0 { 0 } else { self.alloc_tid(CpuId(0)) };
        let p = self.p_mut(idle);
        p.set_comm(&format!("swapper/{cpu}"));
        p.scx.tid = tid;
        p.flags = pf::PF_IDLE | pf::PF_KTHREAD;
        p.sched_class = SchedClass::Idle as u32;
        p.__state = state::TASK_RUNNING;
        p.on_cpu = 1;
        p.on_rq = 1;
        p.cpu = cpu.0;
        p.cpus_mask = Cpumask::of(cpu);
        p.nr_cpus_allowed = 1;
        self.sim_mut(idle).act = Act::Idle;
        self.scx_tasks.push_back(&mut self.tasks, idle);
        idle
    }

    /// A task that sleeps until something wakes it.
    fn boot_task(&mut self, comm: &str, act: Act, flags: u32) -> TaskIdx {
        let idx = self.alloc_task(ProcIdx(0), Pc(0), 0);
        let proc = self.alloc_proc(idx, None);
        let tid = self.alloc_tid(CpuId(0));
        let all = self.topology.all();
        let pid = self.pids.alloc().unwrap_or_default();
        self.pids.attach(pid, idx);
        let p = self.p_mut(idx);
        p.set_comm(comm);
        p.scx.tid = tid;
        p.flags = flags;
        p.__state = state::TASK_INTERRUPTIBLE;
        p.pid = pid.0;
        p.tgid = pid.0;
        p.cpus_mask = all;
        p.nr_cpus_allowed = all.weight();
        self.procs[proc.0 as usize].threads.push(idx);
        self.procs[proc.0 as usize].live = 1;
        let sim = self.sim_mut(idx);
        sim.proc = proc;
        sim.act = act;
        sim.burst_left = Nanos(10_000);
        self.scx_tasks.push_back(&mut self.tasks, idx);
        idx
    }

    /// A place for a new task.
    pub(crate) fn alloc_task(&mut self, proc: ProcIdx, pc: Pc, name: u32) -> TaskIdx {
        match self.free_tasks.pop() {
            Some(idx) => {
                let old = self.sim(idx);
                // Events and references to the task that was here must not fit the new one.
                let (generation, sleeps) = (old.generation + 1, old.sleeps.wrapping_add(1));
                self.tasks[idx.0 as usize] = TaskStruct::new();
                self.sim[idx.0 as usize] = Sim::new(generation, proc, pc, name);
                self.sim_mut(idx).sleeps = sleeps;
                idx
            }
            None => {
                self.tasks.push(TaskStruct::new());
                self.sim.push(Sim::new(0, proc, pc, name));
                TaskIdx(self.tasks.len() as u32 - 1)
            }
        }
    }

    /// `put_task_struct()`: the last reference frees the task, after a grace period.
    pub(crate) fn put_task(&mut self, p: TaskIdx) {
        let sim = self.sim_mut(p);
        sim.usage -= 1;
        if sim.usage > 0 {
            return;
        }
        if self.sabotaged(crate::config::Sabotage::C6FreeAtOnce) {
            self.free_task(p);
        } else {
            self.rcu_free.push(p);
        }
    }

    /// A grace period ends where no callback is running and no CPU is half-way through anything.
    pub(crate) fn rcu_gp(&mut self) {
        if self.readers == 0 && self.frames.is_empty() {
            while let Some(p) = self.rcu_free.pop() {
                self.free_task(p);
            }
        }
    }

    fn free_task(&mut self, p: TaskIdx) {
        self.forget_former_pids(p);
        self.tasks[p.0 as usize] = TaskStruct::new();
        self.free_tasks.push(p);
    }

    pub(crate) fn alloc_proc(&mut self, leader: TaskIdx, parent: Option<ProcIdx>) -> ProcIdx {
        let proc = match self.free_procs.pop() {
            Some(i) => {
                let generation = self.procs[i as usize].generation + 1;
                self.procs[i as usize] = Process::new(generation, leader, parent);
                ProcIdx(i)
            }
            None => {
                self.procs.push(Process::new(0, leader, parent));
                ProcIdx(self.procs.len() as u32 - 1)
            }
        };
        if let Some(parent) = parent {
            self.link_child(parent, proc);
        }
        proc
    }

    /// Last among the parent's children.
    pub(crate) fn link_child(&mut self, parent: ProcIdx, child: ProcIdx) {
        let last = self.proc(parent).last_child;
        let proc = self.proc_mut(child);
        proc.parent = Some(parent);
        proc.prev_sibling = last;
        proc.next_sibling = None;
        match last {
            Some(last) => self.proc_mut(last).next_sibling = Some(child),
            None => self.proc_mut(parent).first_child = Some(child),
        }
        self.proc_mut(parent).last_child = Some(child);
    }

    pub(crate) fn unlink_child(&mut self, child: ProcIdx) {
        let proc = self.proc(child);
        let (parent, prev, next) = (proc.parent, proc.prev_sibling, proc.next_sibling);
        let Some(parent) = parent else { return };
        match prev {
            Some(prev) => self.proc_mut(prev).next_sibling = next,
            None => self.proc_mut(parent).first_child = next,
        }
        match next {
            Some(next) => self.proc_mut(next).prev_sibling = prev,
            None => self.proc_mut(parent).last_child = prev,
        }
        self.proc_mut(child).parent = None;
    }

    pub(crate) fn proc(&self, proc: ProcIdx) -> &Process {
        &self.procs[proc.0 as usize]
    }

    pub(crate) fn proc_mut(&mut self, proc: ProcIdx) -> &mut Process {
        &mut self.procs[proc.0 as usize]
    }

    pub(crate) fn key(&self, p: TaskIdx) -> TaskKey {
        TaskKey { idx: p, generation: self.sim(p).generation }
    }

    /// The task that was remembered, if it has not been freed since.
    pub(crate) fn live(&self, key: TaskKey) -> Option<TaskIdx> {
        (self.sim(key.idx).generation == key.generation && self.sim(key.idx).usage > 0)
            .then_some(key.idx)
    }
}
