//! The simulated machine, and what things cost on it.

use std::sync::Arc;

use crate::{NR_CPUS, Nanos, Program, program::ProgramError};

/// What things cost, in ns of the CPU that does them. The figures are of the size that a current
/// x86 server shows; each use is drawn from a quarter below to a quarter above.
#[derive(Clone, Debug)]
pub struct Costs {
    /// A context switch, from the pick to the next task's first instruction.
    pub switch: Nanos,
    /// A system call that does little.
    pub syscall: Nanos,
    /// `fork(2)` and `pthread_create(3)`.
    pub fork: Nanos,
    /// `execve(2)`, without the wait for other threads.
    pub exec: Nanos,
    /// Exit up to `exit_notify()`.
    pub exit_before_notify: Nanos,
    /// Exit from `exit_notify()` to the last switch: the time in which a task may have lost its
    /// pid and still runs.
    pub exit_after_notify: Nanos,
    /// From the decision to interrupt another CPU to its reaction.
    pub ipi: Nanos,
    /// From the choice of a CPU for a waking task to its enqueue there.
    pub wake: Nanos,
    /// `ops.init_task` for one task while a scheduler attaches.
    pub init_task: Nanos,
    /// From an error to the moment at which the work that ends the scheduler gets a CPU.
    pub disable: Nanos,
}

impl Default for Costs {
    fn default() -> Self {
        Self {
            switch: Nanos(1_500),
            syscall: Nanos(700),
            fork: Nanos(60_000),
            exec: Nanos(300_000),
            exit_before_notify: Nanos(40_000),
            exit_after_notify: Nanos(20_000),
            ipi: Nanos(1_200),
            wake: Nanos(600),
            init_task: Nanos(2_000),
            disable: Nanos(40_000),
        }
    }
}

/// How often, and for how long, a seam opens: a place where the kernel holds no lock that keeps
/// other CPUs away, and where the engine lets them go on while one CPU is half-way through.
#[derive(Clone, Copy, Debug)]
pub struct Seams {
    /// Out of 1024 passes; 0 for never.
    pub chance: u16,
    /// The longest a seam stays open; the time is drawn evenly.
    pub longest: Nanos,
}

impl Default for Seams {
    fn default() -> Self {
        Self { chance: 128, longest: Nanos(20_000) }
    }
}

/// Everything that a run depends on.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many CPUs: 1..=[`NR_CPUS`].
    pub cpus: usize,
    /// Hardware threads of a core; must divide `cpus`. Siblings are `cpus / smt` apart, as on x86.
    pub smt: usize,
    /// Last-level caches, each with as many cores; must divide the number of cores.
    pub llcs: usize,
    /// The source of all chance.
    pub seed: u64,
    /// Timer ticks a second (`CONFIG_HZ`): 1..=1000.
    pub hz: u32,
    /// One more than the largest pid: 301..=4194304. `None`: as the kernel's default, 32768 or
    /// 1024 for each CPU.
    pub pid_max: Option<i32>,
    /// What things cost.
    pub costs: Costs,
    /// How often CPUs get in each other's way.
    pub seams: Seams,
    /// What the tasks do.
    pub program: Arc<Program>,
    /// Keep records for [`Engine::take_records`](crate::Engine::take_records).
    pub trace: bool,
    /// Check the invariants after every event. Slow; on in debug builds.
    pub check: bool,
    /// Breaks the engine on purpose. For the tests of the claims, which must see it.
    #[doc(hidden)]
    pub sabotage: Vec<Sabotage>,
}

impl Config {
    /// A machine of `cpus` CPUs that runs `program`.
    pub fn new(cpus: usize, program: Arc<Program>) -> Self {
        Self {
            cpus,
            smt: 1,
            llcs: 1,
            seed: 1,
            hz: 250,
            pid_max: None,
            costs: Costs::default(),
            seams: Seams::default(),
            program,
            trace: false,
            check: cfg!(debug_assertions),
            sabotage: Vec::new(),
        }
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if !(1..=NR_CPUS).contains(&self.cpus) {
            return Err(ConfigError::Cpus(self.cpus));
        }
        if self.smt == 0 || !self.cpus.is_multiple_of(self.smt) {
            return Err(ConfigError::Smt { smt: self.smt, cpus: self.cpus });
        }
        let cores = self.cpus / self.smt;
        if self.llcs == 0 || !cores.is_multiple_of(self.llcs) {
            return Err(ConfigError::Llcs { llcs: self.llcs, cores });
        }
        if !(1..=1000).contains(&self.hz) {
            return Err(ConfigError::Hz(self.hz));
        }
        if let Some(pid_max) = self.pid_max
            && !(301..=4_194_304).contains(&pid_max)
        {
            return Err(ConfigError::PidMax(pid_max));
        }
        self.program.check()?;
        Ok(())
    }
}

/// What is wrong with a [`Config`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Too few or too many CPUs.
    #[error("{0} CPUs: a machine has 1 to {NR_CPUS}")]
    Cpus(usize),
    /// Threads and CPUs do not fit.
    #[error("{smt} threads a core do not divide {cpus} CPUs")]
    Smt {
        /// Threads of a core.
        smt: usize,
        /// CPUs.
        cpus: usize,
    },
    /// Caches and cores do not fit.
    #[error("{llcs} caches do not divide {cores} cores")]
    Llcs {
        /// Caches.
        llcs: usize,
        /// Cores.
        cores: usize,
    },
    /// The tick is out of range.
    #[error("{0} ticks a second: a machine has 1 to 1000")]
    Hz(u32),
    /// `pid_max` is out of range.
    #[error("pid_max {0} is outside 301..=4194304, the kernel's limits")]
    PidMax(i32),
    /// The program is broken.
    #[error("the program is broken: {0}")]
    Program(#[from] ProgramError),
}

/// A way to break the engine, for the tests that see a claim fail: the name says which claim.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A fork that finds its chunk empty starts it over.
    C1RepeatChunk,
    /// An exec by a thread that is not the leader swaps the tids with the pids.
    C2SwapTids,
    /// A fork does not insert into the table.
    C3SkipForkInsert,
    /// A task leaves the table when it releases its pid.
    C4RemoveAtRelease,
    /// A dead task stays in the table.
    C5KeepDead,
    /// A dead task is freed at once.
    C6FreeAtOnce,
    /// A lookup with no scheduler attached is an error of the engine's log.
    C7WarnDetached,
    /// A lookup without the flag just gives nothing.
    C8NoError,
    /// A sub-scheduler with the flag is accepted under any root.
    C9AcceptSub,
    /// An insert of a task that is not the scheduler's own is done.
    C10InsertForeign,
    /// Every fork moves the global cursor.
    C11CursorEveryFork,
    /// The table is kept also without the flag.
    C12AlwaysTable,
    /// A failed insert replaces the entry.
    C13Overwrite,
    /// A task that dies while enabling is inserted all the same.
    C14InsertDead,
    /// An exec by a thread that is not the leader keeps its pid.
    C15KeepPid,
    /// Dumps are cut before a scheduler's own part.
    C16NoDump,
}
