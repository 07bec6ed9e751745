//! What a task does with its CPU time: the instructions of its program.

use std::sync::Arc;

use crate::engine::Engine;
use crate::events::Event;
use crate::flags::state;
use crate::program::{Instr, Pc, Who};
use crate::sim::{Act, LoopState, Wait};
use crate::task::TaskIdx;
use crate::{CpuId, Nanos};

/// What a jump or a loop's end costs.
const CONTROL: Nanos = Nanos(50);
/// The shortest burst.
pub(super) const SHORTEST: Nanos = Nanos(100);

impl Engine {
    /// The current task's burst is over: does what comes next, up to the next burst or sleep.
    pub(crate) fn act(&mut self, cpu: CpuId, p: TaskIdx) {
        loop {
            self.whole(|engine| engine.act_once(cpu, p));
            if self.rq(cpu).curr != p {
                return; // It has yielded.
            }
            if self.p(p).__state != state::TASK_RUNNING {
                self.schedule(cpu, false);
                return;
            }
            let sim = self.sim(p);
            if sim.burst_left > Nanos::ZERO || sim.burst_until.is_some() {
                self.start_burst(cpu, false);
                return;
            }
        }
    }

    fn act_once(&mut self, cpu: CpuId, p: TaskIdx) {
        match self.sim(p).act {
            Act::Fetch => self.fetch(p),
            Act::Perform(pc) => self.perform(cpu, p, pc),
            Act::WaitChild { all } => self.wait_child(p, all),
            Act::Join => self.join_threads(p),
            Act::ExecWait { entry, name } => self.exec_wait(p, entry, name),
            Act::ExecTakePid { entry, name } => self.exec_take_pid(p, entry, name),
            Act::ExecDone { entry, name, nonleader } => self.exec_done(p, entry, name, nonleader),
            Act::ExitBegin { group } => self.exit_begin(p, group),
            Act::ExitGroup => self.exit_group(p),
            Act::ExitNotify => self.exit_notify(p),
            Act::ExitDead => self.p_mut(p).__state = state::TASK_DEAD,
            Act::Reap => self.init_reap(p),
            Act::Watchdog => {
                self.watchdog_check();
                self.begin(p, Act::WatchdogDone, Nanos(1_000));
            }
            Act::WatchdogDone => {
                self.begin(p, Act::Watchdog, Nanos(14_000));
                self.p_mut(p).__state = state::TASK_INTERRUPTIBLE;
            }
            Act::Idle => self.p_mut(p).__state = state::TASK_INTERRUPTIBLE,
        }
    }

    /// Fetches instructions up to the first one that takes time, and begins that.
    fn fetch(&mut self, p: TaskIdx) {
        let program = Arc::clone(&self.config.program);
        let mut cost = Nanos::ZERO;
        for _ in 0..256 {
            let pc = self.sim(p).pc;
            let Some(instr) = program.code.get(pc.0 as usize) else {
                self.begin(p, Act::ExitBegin { group: false }, cost + SHORTEST);
                return;
            };
            self.sim_mut(p).pc = Pc(pc.0 + 1);
            match instr {
                Instr::Jump(to) => self.sim_mut(p).pc = *to,
                Instr::Loop { count, end } => self.loop_begin(p, *count, *end),
                Instr::LoopEnd { body } => self.loop_end(p, pc, *body),
                other => {
                    self.begin_instr(p, pc, other, cost);
                    return;
                }
            }
            cost += CONTROL;
        }
        self.begin(p, Act::Fetch, cost);
    }

    fn loop_begin(&mut self, p: TaskIdx, count: Option<u32>, end: Pc) {
        if count == Some(0) {
            self.sim_mut(p).pc = Pc(end.0 + 1);
        } else {
            let left = count.map(|count| count - 1);
            self.sim_mut(p).loops.push(LoopState { end, left });
        }
    }

    fn loop_end(&mut self, p: TaskIdx, pc: Pc, body: Pc) {
        let sim = self.sim_mut(p);
        let Some(innermost) = sim.loops.last_mut().filter(|l| l.end == pc) else { return };
        match &mut innermost.left {
            Some(0) => {
                sim.loops.pop();
            }
            left => {
                *left = left.map(|left| left - 1);
                sim.pc = body;
            }
        }
    }

    fn begin(&mut self, p: TaskIdx, act: Act, cost: Nanos) {
        let sim = self.sim_mut(p);
        sim.act = act;
        sim.burst_left = cost.max(SHORTEST);
    }

    fn begin_instr(&mut self, p: TaskIdx, pc: Pc, instr: &Instr, before: Nanos) {
        let costs = &self.config.costs;
        let (syscall, fork) = (costs.syscall, costs.fork);
        match instr {
            Instr::Run(span) => {
                let time = self.rng.span(*span);
                self.begin(p, Act::Fetch, before + time);
            }
            Instr::Runtime(span) => {
                let time = self.rng.span(*span);
                self.begin(p, Act::Fetch, before);
                self.sim_mut(p).burst_until = Some(self.now + time.max(SHORTEST));
            }
            Instr::Spawn { .. } => {
                let cost = self.rng.jitter(fork);
                self.begin(p, Act::Perform(pc), before + cost);
            }
            Instr::Exit => self.begin(p, Act::ExitBegin { group: false }, before + syscall),
            Instr::ExitGroup => self.begin(p, Act::ExitBegin { group: true }, before + syscall),
            _ => {
                let cost = self.rng.jitter(syscall);
                self.begin(p, Act::Perform(pc), before + cost);
            }
        }
    }

    /// Carries out an instruction whose cost is paid.
    fn perform(&mut self, cpu: CpuId, p: TaskIdx, pc: Pc) {
        let program = Arc::clone(&self.config.program);
        let Some(instr) = program.code.get(pc.0 as usize) else { return };
        self.sim_mut(p).act = Act::Fetch;
        match instr {
            Instr::Sleep(span) => {
                let time = self.rng.span(*span);
                self.sleep_until(p, self.now + time);
            }
            Instr::Timer { timer, period, absolute, shared } => {
                self.timer(p, *timer, *period, *absolute, *shared);
            }
            Instr::Yield => self.yield_cpu(cpu, p),
            Instr::Lock(m) => self.mutex_lock(p, *m),
            Instr::Unlock(m) => self.mutex_unlock(p, *m),
            Instr::CondWait { cond, mutex } => self.cond_wait(p, *cond, *mutex),
            Instr::CondSignal(cond) => {
                self.cond_signal(*cond);
            }
            Instr::CondBroadcast(cond) => self.cond_broadcast(*cond),
            Instr::Barrier(b) => self.barrier(p, *b),
            Instr::Spawn { what, entry, name } => {
                if self.fork_excluded {
                    self.wait_for_fork(p, pc);
                } else {
                    self.fork(cpu, p, *what, *entry, *name);
                }
            }
            Instr::Exec { entry, name } => self.exec(p, *entry, *name),
            Instr::Wait => self.wait_child(p, false),
            Instr::WaitAll => self.wait_child(p, true),
            Instr::JoinAll => self.join_threads(p),
            Instr::IgnoreChildren => {
                let proc = self.sim(p).proc;
                self.proc_mut(proc).ignore_children = true;
            }
            Instr::Kill(who) => {
                for target in self.tasks_of(p, *who) {
                    self.kill(p, target);
                }
            }
            Instr::SetNice(who, nice) => {
                let nice = *nice;
                self.change(p, pc, *who, |engine, target| engine.set_user_nice(target, nice));
            }
            Instr::SetAffinity(who, cpus) => {
                self.change(p, pc, *who, |engine, target| engine.set_cpus_allowed(target, cpus));
            }
            Instr::SetPolicy(who, policy) => {
                let policy = *policy;
                self.change(p, pc, *who, |engine, target| engine.set_policy(target, policy));
            }
            Instr::SetCgroup(index) => {
                let path = &program.cgroups[*index as usize];
                if let Some(cgroup) = self.cgroups.find(path) {
                    self.move_to_cgroup(p, cgroup);
                }
            }
            Instr::MigrateDisable => self.migrate_disable(p),
            Instr::MigrateEnable => self.migrate_enable(p),
            Instr::Run(_)
            | Instr::Runtime(_)
            | Instr::Exit
            | Instr::ExitGroup
            | Instr::Jump(_)
            | Instr::Loop { .. }
            | Instr::LoopEnd { .. } => {}
        }
    }

    /// Changes the tasks that `who` means; one that is just waking up or moving makes the caller
    /// wait a moment, as for a lock.
    fn change(&mut self, p: TaskIdx, pc: Pc, who: Who, f: impl Fn(&mut Self, TaskIdx)) {
        let targets = self.tasks_of(p, who);
        if targets.iter().any(|&target| !self.can_change(target)) {
            self.begin(p, Act::Perform(pc), Nanos(1_000));
            return;
        }
        for target in targets {
            if !self.dead_and_done(target) && self.can_change(target) {
                f(self, target);
            }
        }
    }

    fn sleep_until(&mut self, p: TaskIdx, at: Nanos) {
        self.p_mut(p).__state = state::TASK_INTERRUPTIBLE;
        let generation = self.sim(p).sleeps;
        self.events.push(at, Event::Timeout { task: p, generation });
    }

    fn timer(&mut self, p: TaskIdx, timer: u32, period: Nanos, absolute: bool, shared: bool) {
        let now = self.now;
        let stored = if shared {
            self.shared_timers[timer as usize]
        } else {
            self.sim(p).timers.iter().find(|(t, _)| *t == timer).map(|(_, at)| *at)
        };
        let next = stored.unwrap_or(now) + period;
        let late = next <= now;
        let next = if late && !absolute { now } else { next };
        self.store_timer(p, timer, shared, next);
        if !late {
            self.sleep_until(p, next);
        }
    }

    fn store_timer(&mut self, p: TaskIdx, timer: u32, shared: bool, next: Nanos) {
        if shared {
            self.shared_timers[timer as usize] = Some(next);
            return;
        }
        let timers = &mut self.sim_mut(p).timers;
        match timers.iter_mut().find(|(t, _)| *t == timer) {
            Some((_, at)) => *at = next,
            None => timers.push((timer, next)),
        }
    }

    fn yield_cpu(&mut self, cpu: CpuId, p: TaskIdx) {
        self.sim_mut(p).burst_left = SHORTEST;
        if self.p(p).sched_class() == crate::SchedClass::Ext {
            self.update_curr(cpu);
            self.yield_task_scx(p);
        }
        self.schedule(cpu, false);
    }

    fn wait_for_fork(&mut self, p: TaskIdx, pc: Pc) {
        self.begin(p, Act::Perform(pc), SHORTEST);
        self.sim_mut(p).wait = Wait::ForkSem;
        self.p_mut(p).__state = state::TASK_UNINTERRUPTIBLE;
        self.fork_waiters.push_back(p);
    }

    fn join_threads(&mut self, p: TaskIdx) {
        if self.sim(p).created == 0 {
            self.sim_mut(p).wait = Wait::Nothing;
            self.sim_mut(p).act = Act::Fetch;
            return;
        }
        self.begin(p, Act::Join, SHORTEST);
        self.sim_mut(p).wait = Wait::Other;
        self.p_mut(p).__state = state::TASK_INTERRUPTIBLE;
    }
}
