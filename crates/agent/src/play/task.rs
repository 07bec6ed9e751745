//! One task: a thread that goes through its program.
//!
//! The C library's `fork()` and `pthread_create()` make new tasks, which keeps its allocator and its
//! own records right in a child of a process with several threads; of Rust's library nothing is
//! used that has a lock of its own. A forked child goes on in the same loop as its creator, on the
//! same stack, so that a long line of descendants does not nest.

use std::io;

use scxlab_engine::Cpumask;
use scxlab_engine::program::{Index, Instr, Pc, Policy, Who};

use super::carry::Carry;
use super::chance::Chance;
use super::registry::{self, Registration};
use super::stage::Stage;
use super::threads::Threads;
use super::who::LastChild;
use super::{clock, kernel, refusal, script, settings, sync};

/// What the task is to its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Its first thread, or what an exec made the first.
    Leader,
    /// A thread that another one created.
    Thread,
}

/// A loop that the task is in.
struct Round {
    end: Pc,
    left: Option<u32>,
}

/// One task, as the thread that is it sees itself.
pub(super) struct Task {
    pub(super) stage: &'static Stage,
    pub(super) pc: u32,
    pub(super) role: Role,
    /// The name under which it was started.
    pub(super) name: Index,
    /// Its number, which its draws and its children's numbers come from.
    pub(super) number: u64,
    pub(super) children: u64,
    pub(super) chance: Chance,
    pub(super) held: Vec<Index>,
    pub(super) threads: Threads,
    pub(super) last_child: Option<LastChild>,
    pub(super) registration: Option<Registration>,
    loops: Vec<Round>,
    timers: Vec<(Index, u64)>,
}

impl Task {
    /// A task that begins at `entry`: the calling thread.
    pub fn begin(
        stage: &'static Stage,
        role: Role,
        entry: Pc,
        name: Index,
        chance: Chance,
    ) -> Self {
        kernel::set_name(stage.name(name));
        let mut task =
            Self { role, number: chance.number(), chance, ..Self::blank(stage, entry, name) };
        task.register();
        task
    }

    /// A task that has exec'd.
    pub fn from_exec(stage: &'static Stage, carry: Carry) -> Self {
        kernel::set_name(stage.name(carry.image));
        let mut task = Self {
            number: carry.number,
            children: carry.children,
            chance: Chance(carry.chance),
            held: carry.held,
            last_child: (carry.last_child > 0).then_some(LastChild::Process(carry.last_child)),
            ..Self::blank(stage, Pc(carry.entry), carry.name)
        };
        task.register();
        task
    }

    /// One that has nothing yet.
    fn blank(stage: &'static Stage, entry: Pc, name: Index) -> Self {
        Self {
            stage,
            pc: entry.0,
            role: Role::Leader,
            name,
            number: 0,
            children: 0,
            chance: Chance(0),
            held: Vec::new(),
            threads: Threads::default(),
            last_child: None,
            registration: None,
            loops: Vec::new(),
            timers: Vec::new(),
        }
    }

    /// Makes it one that instructions can mean by name, if any does.
    pub(super) fn register(&mut self) {
        if self.stage.is_meant(self.name) {
            self.registration = registry::enter(self.stage, self.name);
            if self.registration.is_none() {
                refusal::note(
                    self.stage,
                    self.pc as usize,
                    self.name,
                    &io::Error::from_raw_os_error(libc::ENOSPC),
                );
            }
        }
    }

    /// Goes through the program to the end of this thread. Returns in a thread that another one of
    /// its process has created; its end is then what the caller makes of it.
    pub fn play(&mut self) {
        while let Some(instr) = self.stage.instr(self.pc) {
            let pc = self.pc;
            self.pc += 1;
            if instr == Instr::Exit {
                break;
            }
            self.step(pc, instr);
        }
        // Those that nobody will join give their stacks back by themselves.
        self.threads.detach();
        if self.role == Role::Leader {
            kernel::exit_thread();
        }
    }

    fn step(&mut self, pc: u32, instr: Instr) {
        let stage = self.stage;
        match instr {
            Instr::Run(span) => clock::burn(self.chance.draw(span)),
            Instr::Runtime(span) => {
                let begin = clock::now();
                clock::spin_until(begin.saturating_add(self.chance.draw(span)));
            }
            Instr::Sleep(span) => {
                let time = self.chance.draw(span);
                clock::sleep_until(clock::now().saturating_add(time));
            }
            Instr::Timer { timer, period, absolute, shared } => {
                self.timer(timer, period.0, absolute, shared);
            }
            // SAFETY: no arguments.
            Instr::Yield => drop(unsafe { libc::sched_yield() }),
            Instr::Lock(m) => {
                sync::lock(stage.mutex(m));
                self.held.push(m);
            }
            Instr::Unlock(m) => {
                if self.let_go(m) {
                    sync::unlock(stage.mutex(m));
                }
            }
            Instr::CondWait { cond, mutex } => {
                let held = self.let_go(mutex);
                sync::cond_wait(stage.cond(cond), stage.mutex(mutex), held);
                self.held.push(mutex);
            }
            Instr::CondSignal(c) => sync::cond_signal(stage.cond(c)),
            Instr::CondBroadcast(c) => sync::cond_broadcast(stage.cond(c)),
            Instr::Barrier(b) => sync::barrier(stage.barrier(b), stage.barrier_needs(b)),
            Instr::Spawn { what, entry, name } => self.spawn(what, entry, name),
            Instr::Exec { entry, name } => self.exec(pc, entry, name),
            // `play` sees to it.
            Instr::Exit => {}
            Instr::ExitGroup => kernel::exit_process(0),
            Instr::Wait => self.wait(false),
            Instr::WaitAll => self.wait(true),
            Instr::JoinAll => self.threads.join_all(),
            Instr::IgnoreChildren => kernel::ignore_children(true),
            Instr::Kill(who) => self.kill(pc, who),
            Instr::SetNice(who, nice) => {
                self.change(pc, who, |tid| settings::set_nice(tid, nice.into()));
            }
            Instr::SetAffinity(who, cpus) => self.set_affinity(pc, who, &cpus),
            Instr::SetPolicy(who, policy) => self.set_policy(pc, who, policy),
            Instr::SetCgroup(cgroup) => {
                let entered = settings::enter_cgroup(stage.cgroup(cgroup));
                self.note_error(pc, entered);
            }
            // Refused before the play.
            Instr::MigrateDisable | Instr::MigrateEnable => {}
            Instr::Jump(to) => self.pc = to.0,
            Instr::Loop { count: Some(0), end } => self.pc = end.0 + 1,
            Instr::Loop { count, end } => {
                self.loops.push(Round { end, left: count.map(|count| count - 1) });
            }
            Instr::LoopEnd { body } => self.loop_end(Pc(pc), body),
        }
    }

    fn loop_end(&mut self, pc: Pc, body: Pc) {
        let Some(innermost) = self.loops.last_mut().filter(|round| round.end == pc) else { return };
        match &mut innermost.left {
            Some(0) => drop(self.loops.pop()),
            left => {
                *left = left.map(|left| left - 1);
                self.pc = body.0;
            }
        }
    }

    fn timer(&mut self, timer: Index, period: u64, absolute: bool, shared: bool) {
        let now = clock::now();
        let advance = |stored| clock::next_expiry(stored, now, period, absolute);
        let (next, sleep) = if shared {
            use std::sync::atomic::Ordering::Relaxed;
            // 0 is a timer that has not begun.
            let stored = |word| if word == 0 { None } else { Some(word) };
            let cell = self.stage.timer(timer);
            let before = cell.fetch_update(Relaxed, Relaxed, |word| Some(advance(stored(word)).0));
            advance(stored(before.unwrap_or_default()))
        } else {
            let i = self.timers.iter().position(|(t, _)| *t == timer);
            let advanced = advance(i.map(|i| self.timers[i].1));
            match i {
                Some(i) => self.timers[i].1 = advanced.0,
                None => self.timers.push((timer, advanced.0)),
            }
            advanced
        };
        if sleep {
            clock::sleep_until(next);
        }
    }

    /// Whether the task had the mutex, which it now no longer has in its books.
    fn let_go(&mut self, mutex: Index) -> bool {
        let i = self.held.iter().position(|held| *held == mutex);
        i.map(|i| self.held.swap_remove(i)).is_some()
    }

    fn set_affinity(&mut self, pc: u32, who: Who, cpus: &Cpumask) {
        self.change(pc, who, |tid| settings::set_affinity(tid, cpus));
    }

    fn set_policy(&mut self, pc: u32, who: Who, policy: Policy) {
        self.change(pc, who, |tid| settings::set_policy(tid, script::policy_number(policy)));
    }

    pub(super) fn note_error(&self, pc: u32, result: io::Result<()>) {
        if let Err(error) = result {
            refusal::note(self.stage, pc as usize, self.name, &error);
        }
    }

    /// Makes it the task that a fork has just made of its creator's copy. Nothing of the creator
    /// is left but what the kernel inherits.
    pub(super) fn become_child(&mut self, entry: Pc, name: Index, chance: Chance) {
        *self = Self { number: chance.number(), chance, ..Self::blank(self.stage, entry, name) };
        // The engine's children do not inherit that.
        kernel::ignore_children(false);
        kernel::set_name(self.stage.name(name));
        self.register();
    }
}
