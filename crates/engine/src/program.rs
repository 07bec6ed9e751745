//! What tasks do: the instructions of the engine's user space.
//!
//! A [`Program`] is to the engine what a file system full of executables is to a kernel: code that
//! tasks run. It is data, so a task's place in it is one number and the whole engine state clones.
//! `scxlab-workload` compiles workload files into programs; tests write them by hand.
//!
//! Every instruction costs CPU time (see [`Costs`](crate::Costs)), so no loop can stand still in
//! virtual time.

use crate::{Cpumask, Nanos};

/// A place in a [`Program`]: the index of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Pc(pub u32);

/// A length of time that is drawn anew, evenly from `min..=max`, each time an instruction runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The shortest, in ns.
    pub min: Nanos,
    /// The longest, in ns; never less than `min`.
    pub max: Nanos,
}

impl Span {
    /// Always `t`.
    pub const fn exactly(t: Nanos) -> Self {
        Self { min: t, max: t }
    }

    /// Evenly from `min` to `max`. The two are swapped if they are the wrong way round.
    pub fn between(min: Nanos, max: Nanos) -> Self {
        if min <= max { Self { min, max } } else { Self { min: max, max: min } }
    }
}

/// A mutex, a condition variable, a barrier, a timer, a cgroup or a name, by its index in the
/// program's tables (see [`Program`]).
pub type Index = u32;

/// A task that an instruction acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The task that runs the instruction.
    Myself,
    /// The process or thread that this task created last, if it has not been waited for.
    LastChild,
    /// The parent process.
    Parent,
    /// Every live task that was started under this name (an index into [`Program::names`]), also
    /// when an exec has since renamed it.
    Named(Index),
}

/// What a new task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spawn {
    /// A process of its own, as by `fork(2)`.
    Process,
    /// A thread of the creator's process, as by `pthread_create(3)`.
    Thread,
}

/// Scheduling policy, as in `sched_setscheduler(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// `SCHED_NORMAL` (0).
    Normal,
    /// `SCHED_BATCH` (3).
    Batch,
    /// `SCHED_IDLE` (5).
    Idle,
    /// `SCHED_EXT` (7).
    Ext,
}

/// One step of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instr {
    /// Burn that much CPU time.
    Run(Span),
    /// Burn CPU until that much time has passed since the instruction began, whether the task had
    /// a CPU or not. rt-app's `runtime`.
    Runtime(Span),
    /// Sleep that long.
    Sleep(Span),
    /// A periodic timer: sleep until the timer's next expiry. The first expiry is one period after
    /// the instruction first runs. When it has already passed, a relative timer starts over from
    /// now, an absolute one stays on its grid. rt-app's `timer`.
    Timer {
        /// Which timer. A timer is the task's own; tasks that use one index do not share it,
        /// unless `shared` is set.
        timer: Index,
        /// One expiry to the next.
        period: Nanos,
        /// Stay on the grid after a missed expiry.
        absolute: bool,
        /// One timer for all tasks of the program that name it.
        shared: bool,
    },
    /// `sched_yield(2)`.
    Yield,
    /// Lock a mutex; sleeps while another task holds it. First come, first served.
    Lock(Index),
    /// Unlock a mutex. Nothing happens if the task does not hold it.
    Unlock(Index),
    /// Unlock `mutex`, sleep until `cond` is signalled, lock `mutex` again.
    CondWait {
        /// The condition variable.
        cond: Index,
        /// The mutex.
        mutex: Index,
    },
    /// Wake one task that waits on the condition variable. Lost if none does.
    CondSignal(Index),
    /// Wake all tasks that wait on the condition variable.
    CondBroadcast(Index),
    /// Sleep until as many tasks as the barrier counts ([`Program::barriers`]) have come.
    Barrier(Index),
    /// Create a task that starts at `entry`. It inherits the creator's nice value, policy,
    /// affinity and cgroup.
    Spawn {
        /// Process or thread.
        what: Spawn,
        /// Where it starts.
        entry: Pc,
        /// Its name: an index into [`Program::names`].
        name: Index,
    },
    /// `execve(2)`: go on at `entry` under a new name. Every other thread of the process dies
    /// first. A thread that is not the leader takes over the leader's pid.
    Exec {
        /// Where the new image starts.
        entry: Pc,
        /// Its name: an index into [`Program::names`].
        name: Index,
    },
    /// End this thread.
    Exit,
    /// End the whole process.
    ExitGroup,
    /// Wait for one child process to end, and reap it. Goes on at once if there is none.
    Wait,
    /// Wait for all child processes to end, and reap them.
    WaitAll,
    /// Sleep until all threads that this task created have ended.
    JoinAll,
    /// From now on nobody waits for the children of this process (`SIGCHLD` ignored): a child
    /// that ends releases its own pid.
    IgnoreChildren,
    /// `SIGKILL` to the process of each such task.
    Kill(Who),
    /// Set the nice value (-20..=19).
    SetNice(Who, i8),
    /// Set the affinity. CPUs that the machine lacks are ignored; an empty rest fails as in
    /// `sched_setaffinity(2)` and changes nothing.
    SetAffinity(Who, Box<Cpumask>),
    /// Set the scheduling policy.
    SetPolicy(Who, Policy),
    /// Move this task to a cgroup: an index into [`Program::cgroups`].
    SetCgroup(Index),
    /// As `migrate_disable()` in the kernel: from now on the task runs only where it is.
    MigrateDisable,
    /// Ends one [`Instr::MigrateDisable`].
    MigrateEnable,
    /// Go on elsewhere.
    Jump(Pc),
    /// Begin a loop of `count` rounds (`None`: for ever). With 0 rounds the body is skipped; `end`
    /// is the matching [`Instr::LoopEnd`].
    Loop {
        /// How often.
        count: Option<u32>,
        /// The place of the matching `LoopEnd`.
        end: Pc,
    },
    /// End of a loop body, whose first instruction is `body`.
    LoopEnd {
        /// The instruction after the matching `Loop`.
        body: Pc,
    },
}

/// Code and the objects it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// All instructions. A task that runs past the end exits.
    pub code: Vec<Instr>,
    /// Task names. The kernel keeps the first 15 bytes.
    pub names: Vec<String>,
    /// How many mutexes there are.
    pub mutexes: u32,
    /// How many condition variables there are.
    pub conds: u32,
    /// The number of tasks each barrier waits for.
    pub barriers: Vec<u32>,
    /// How many timer indexes there are.
    pub timers: u32,
    /// Cgroup paths, `/` being the root. Missing ancestors are created.
    pub cgroups: Vec<String>,
    /// The processes that exist at the start, as children of `init`.
    pub start: Vec<Start>,
}

/// A process that exists when the simulation starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Where it starts.
    pub entry: Pc,
    /// An index into [`Program::names`].
    pub name: Index,
    /// Its policy; [`Policy::Normal`] is the usual one.
    pub policy: Policy,
    /// Its nice value (-20..=19).
    pub nice: i8,
    /// Its affinity; `None` for all CPUs.
    pub affinity: Option<Box<Cpumask>>,
    /// Its cgroup: an index into [`Program::cgroups`]; `None` for the root.
    pub cgroup: Option<Index>,
    /// When it is forked.
    pub at: Nanos,
}

impl Start {
    /// One that is forked at time 0, with what is usual: normal policy, nice 0, all CPUs, the root
    /// cgroup.
    pub fn new(entry: Pc, name: Index) -> Self {
        Self {
            entry,
            name,
            policy: Policy::Normal,
            nice: 0,
            affinity: None,
            cgroup: None,
            at: Nanos::ZERO,
        }
    }
}

/// What is wrong with a [`Program`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// An index points past the end of its table.
    #[error("instruction {pc}: {what} {index} does not exist (there are {len})")]
    NoSuch {
        /// The instruction; `u32::MAX` for an entry of [`Program::start`].
        pc: u32,
        /// Which table.
        what: &'static str,
        /// The index.
        index: u32,
        /// The table's length.
        len: u32,
    },
    /// A nice value is out of range.
    #[error("instruction {pc}: nice value {nice} is outside -20..=19")]
    Nice {
        /// The instruction.
        pc: u32,
        /// The value.
        nice: i8,
    },
    /// A loop's ends do not match.
    #[error("instruction {pc}: the loop has no matching end")]
    Loop {
        /// The instruction.
        pc: u32,
    },
    /// A cgroup path does not start with `/`, or has an empty, `.` or `..` component.
    #[error("`{0}` is not an absolute cgroup path")]
    CgroupPath(String),
}

impl Program {
    /// Checks every index, so that a program that passes cannot fault when it runs.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), ProgramError> {
        for path in &self.cgroups {
            let well_formed = path == "/"
                || path.strip_prefix('/').is_some_and(|rest| {
                    rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
                });
            if !well_formed {
                return Err(ProgramError::CgroupPath(path.clone()));
            }
        }
        for (pc, instr) in self.code.iter().enumerate() {
            self.check_instr(pc as u32, instr)?;
        }
        for start in &self.start {
            self.check_index(u32::MAX, "instruction", start.entry.0, self.code.len())?;
            self.check_index(u32::MAX, "name", start.name, self.names.len())?;
            if let Some(cgroup) = start.cgroup {
                self.check_index(u32::MAX, "cgroup", cgroup, self.cgroups.len())?;
            }
            check_nice(u32::MAX, start.nice)?;
        }
        Ok(())
    }

    fn check_instr(&self, pc: u32, instr: &Instr) -> Result<(), ProgramError> {
        let code = self.code.len();
        let names = self.names.len();
        let who = |who: &Who| match who {
            Who::Named(name) => self.check_index(pc, "name", *name, names),
            _ => Ok(()),
        };
        match instr {
            Instr::Timer { timer, .. } => {
                self.check_index(pc, "timer", *timer, self.timers as usize)
            }
            Instr::Lock(m) | Instr::Unlock(m) => {
                self.check_index(pc, "mutex", *m, self.mutexes as usize)
            }
            Instr::CondWait { cond, mutex } => {
                self.check_index(pc, "mutex", *mutex, self.mutexes as usize)?;
                self.check_index(pc, "condition variable", *cond, self.conds as usize)
            }
            Instr::CondSignal(c) | Instr::CondBroadcast(c) => {
                self.check_index(pc, "condition variable", *c, self.conds as usize)
            }
            Instr::Barrier(b) => self.check_index(pc, "barrier", *b, self.barriers.len()),
            Instr::Spawn { entry, name, .. } | Instr::Exec { entry, name } => {
                self.check_index(pc, "name", *name, names)?;
                self.check_index(pc, "instruction", entry.0, code)
            }
            Instr::Kill(w) | Instr::SetAffinity(w, _) | Instr::SetPolicy(w, _) => who(w),
            Instr::SetNice(w, nice) => {
                check_nice(pc, *nice)?;
                who(w)
            }
            Instr::SetCgroup(c) => self.check_index(pc, "cgroup", *c, self.cgroups.len()),
            Instr::Jump(to) => self.check_index(pc, "instruction", to.0, code),
            Instr::Loop { end, .. } => match self.code.get(end.0 as usize) {
                Some(Instr::LoopEnd { body }) if body.0 == pc + 1 && end.0 > pc => Ok(()),
                _ => Err(ProgramError::Loop { pc }),
            },
            Instr::LoopEnd { body } => {
                match (body.0 as usize).checked_sub(1).and_then(|i| self.code.get(i)) {
                    Some(Instr::Loop { end, .. }) if end.0 == pc => Ok(()),
                    _ => Err(ProgramError::Loop { pc }),
                }
            }
            _ => Ok(()),
        }
    }

    fn check_index(
        &self,
        pc: u32,
        what: &'static str,
        index: u32,
        len: usize,
    ) -> Result<(), ProgramError> {
        if (index as usize) < len {
            Ok(())
        } else {
            Err(ProgramError::NoSuch { pc, what, index, len: len as u32 })
        }
    }
}

fn check_nice(pc: u32, nice: i8) -> Result<(), ProgramError> {
    if (-20..=19).contains(&nice) { Ok(()) } else { Err(ProgramError::Nice { pc, nice }) }
}
