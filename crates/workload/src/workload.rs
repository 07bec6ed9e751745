//! The description of a workload, as data.

use scxlab_engine::{Nanos, Program};

use crate::error::{CompileError, ParseError, UnknownWorkload};
use crate::{builtin, compile, rtapp};

/// The most tasks that a workload may start with.
pub const MAX_INSTANCES: u32 = 100_000;

/// A workload: descriptions of tasks, and how many of each there are at the start.
///
/// All top-level threads belong to one process, whose main thread creates them in the order of
/// [`Workload::tasks`] and then joins them. They begin together, when the last has been created.
/// A top-level process is a process of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Where it comes from: a file's name or a built-in workload's.
    pub name: String,
    /// The name of the process that the top-level threads belong to; `rt-app` for rt-app files.
    pub process: String,
    /// How long it is meant to run; `None` for as long as there are tasks.
    pub duration: Option<Nanos>,
    /// The descriptions, each under a name of its own.
    pub tasks: Vec<Task>,
}

/// One kind of task.
///
/// A task starts by waiting for [`Task::delay`], takes on its attributes, and goes through its
/// phases. At its end a thread exits; a process ends with all its threads, as if `main` returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The name that events use for it.
    pub name: String,
    /// What those are that exist from the start.
    pub kind: Kind,
    /// How many exist from the start; the total must not be above [`MAX_INSTANCES`]. With 0 it
    /// is there for other tasks to create or to exec.
    pub instances: u32,
    /// How long it sleeps before anything else.
    pub delay: Nanos,
    /// What it sets when it starts.
    pub attributes: Attributes,
    /// How often it goes through its phases.
    pub rounds: Rounds,
    /// The phases, in order.
    pub phases: Vec<Phase>,
}

/// A part of a task's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// For people.
    pub name: String,
    /// What it sets when it begins.
    pub attributes: Attributes,
    /// How often the events are gone through each time.
    pub rounds: Rounds,
    /// What is done, in order.
    pub events: Vec<Event>,
}

/// What a task or a phase sets for the task. `None` leaves things as they are, except for
/// [`Attributes::cpus`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The CPUs to run on. A phase without goes by its task, and a task without keeps those it
    /// was created with. Numbers that the machine lacks are ignored, but one must be left.
    pub cpus: Option<Vec<u32>>,
    /// The nice value (-20..=19).
    pub nice: Option<i8>,
    /// The scheduling policy.
    pub policy: Option<Policy>,
    /// The cgroup: an absolute path, `/` being the root.
    pub cgroup: Option<String>,
}

/// Thread or process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A thread of the creator's process.
    Thread,
    /// A process of its own.
    Process,
}

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounds {
    /// For ever.
    Forever,
    /// That often; not at all with 0.
    Times(u32),
}

/// A length of time, drawn anew each time from `min..=max`, evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The shortest.
    pub min: Nanos,
    /// The longest; if it is less than `min`, the two are taken the other way round.
    pub max: Nanos,
}

impl Span {
    /// Always `us` microseconds.
    pub const fn micros(us: u64) -> Self {
        Self { min: Nanos::from_micros(us), max: Nanos::from_micros(us) }
    }

    /// Evenly from `min` to `max` microseconds.
    pub const fn micros_between(min: u64, max: u64) -> Self {
        Self { min: Nanos::from_micros(min), max: Nanos::from_micros(max) }
    }
}

/// A scheduling policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// `SCHED_OTHER`, alias `SCHED_NORMAL`.
    Normal,
    /// `SCHED_BATCH`.
    Batch,
    /// `SCHED_IDLE`.
    Idle,
    /// `SCHED_EXT`.
    Ext,
}

/// The task or tasks that an event acts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// The one that acts.
    Myself,
    /// The process or thread that it created last.
    LastChild,
    /// Its parent process.
    Parent,
    /// All that were created from the description of this name, also if they have since become
    /// another by exec.
    Named(String),
}

/// One thing that a task does.
///
/// Mutexes, condition variables, barriers and shared timers are known by name in the whole
/// workload; each kind has names of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Do work that takes so much CPU time.
    Run(Span),
    /// Work until so much time has passed, on a CPU or not.
    Runtime(Span),
    /// Sleep.
    Sleep(Span),
    /// Write to memory.
    Mem {
        /// How much.
        bytes: u64,
    },
    /// Write to a device, and wait until it is done.
    Io {
        /// How much.
        bytes: u64,
    },
    /// Sleep until a periodic timer expires the next time.
    Timer {
        /// Which.
        name: String,
        /// From one expiry to the next.
        period: Nanos,
        /// Whether a missed expiry leaves the later ones where they were. Otherwise they are
        /// counted from the time it was noticed.
        absolute: bool,
        /// Whether all tasks that give this name mean the same timer. Otherwise each has its own.
        shared: bool,
    },
    /// Yield the CPU.
    Yield,
    /// Lock a mutex.
    Lock(String),
    /// Unlock a mutex.
    Unlock(String),
    /// Wait on a condition variable.
    Wait {
        /// On which.
        cond: String,
        /// The mutex that is unlocked meanwhile.
        mutex: String,
    },
    /// Wake one waiter of a condition variable.
    Signal(String),
    /// Wake all waiters of a condition variable.
    Broadcast(String),
    /// Wake one waiter of a condition variable, then wait on it.
    SignalAndWait {
        /// Which.
        cond: String,
        /// The mutex that is unlocked meanwhile.
        mutex: String,
    },
    /// Lock the mutex of this name, wait on the condition variable of this name, and unlock.
    Suspend(String),
    /// Lock the mutex of this name, wake all waiters of the condition variable of this name, and
    /// unlock. Lost on a task that is not suspended.
    Resume(String),
    /// Wait until all tasks have come that name this barrier. Each instance that exists from the
    /// start counts.
    Barrier(String),
    /// Create a task.
    Create {
        /// What it is.
        kind: Kind,
        /// Its description.
        task: String,
    },
    /// Replace the process's image: it goes on as the description of this name, with this thread
    /// as the only one. Nothing after this event happens.
    Exec(String),
    /// End this thread.
    Exit,
    /// End the whole process.
    ExitGroup,
    /// Wait for one child process to end. Goes on if there is none.
    WaitChild,
    /// Wait for all child processes to end.
    WaitChildren,
    /// Wait for all threads to end that this one created.
    JoinThreads,
    /// Leave it to the kernel to reap this process's children from now on. Waiting for a child
    /// then means waiting for all.
    IgnoreChildren,
    /// Kill the processes of these tasks.
    Kill(Who),
    /// Set the nice value (-20..=19).
    SetNice(Who, i8),
    /// Set the CPUs to run on.
    SetAffinity(Who, Vec<u32>),
    /// Set the scheduling policy.
    SetPolicy(Who, Policy),
}

impl Workload {
    /// Reads an rt-app file; `name` is what messages call it.
    ///
    /// # Errors
    /// The first thing in `text` that is wrong or that cannot be honoured, with its place.
    pub fn parse(name: &str, text: &str) -> Result<Self, ParseError> {
        rtapp::read(name, text)
    }

    /// The built-in workload `name` (see [`BUILTINS`](crate::BUILTINS)) for a machine of `cpus`
    /// CPUs, which is taken to be within `1..=1024`.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn builtin(name: &str, cpus: usize) -> Result<Self, UnknownWorkload> {
        builtin::builtin(name, cpus)
    }

    /// The engine's program for a machine of `cpus` CPUs (1..=1024). What it returns passes
    /// [`Program::check`].
    ///
    /// # Errors
    /// A task that could run on no CPU of that machine; for a workload built by hand also names
    /// that lead nowhere and values out of range.
    pub fn compile(&self, cpus: usize) -> Result<Program, CompileError> {
        compile::compile(self, cpus)
    }

    /// How many tasks exist from the start. Does not count the main thread.
    pub fn instances(&self) -> u64 {
        self.tasks.iter().map(|task| u64::from(task.instances)).sum()
    }
}
