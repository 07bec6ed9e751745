//! What the agent answers with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::hello::Hello;
use crate::{Bytes, Cost, TestOutcome};

/// One line of the agent's answer. Times are in ns since the scheduler was attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// The agent is up. Always the first.
    Hello(Hello),
    /// What the agent does now, for whoever waits.
    Doing {
        /// In a few words.
        what: String,
    },
    /// The scheduler is attached.
    Attached {
        /// Its name, from `ops.name`.
        name: String,
        /// `ops.flags`, by name.
        flags: Vec<String>,
        /// Whether the object uses the kernel's own tid; nothing if it uses none.
        native_tid: Option<bool>,
    },
    /// The time.
    Progress {
        /// Since the attach.
        at_ns: u64,
    },
    /// How it went, once the scheduler is gone.
    Exit(Exit),
    /// What the workload did while the scheduler was attached.
    Tasks(Counts),
    /// What is known of the tids.
    Tids(TidCounts),
    /// Tasks that ended and that the kernel still had, before the scheduler's maps were gone.
    Leaked {
        /// How many.
        tasks: u64,
    },
    /// A task that was runnable for at least the timeout without running.
    Lost(Lost),
    /// All such tasks have been told. Without it there may be more: the kernel gave no whole debug dump.
    LostEnd,
    /// The scheduler's own counters.
    Counters(BTreeMap<String, u64>),
    /// The kernel's counters, `SCX_EV_*`.
    Events(BTreeMap<String, u64>),
    /// A program was run as the scheduler's user space would.
    ProgRan {
        /// Which of [`Run::prog_runs`](crate::Run::prog_runs).
        number: usize,
        /// When, after the attach; nothing for before it.
        at_ns: Option<u64>,
        /// What it returned.
        retval: u32,
        /// Its context as it left it.
        context: Bytes,
    },
    /// Something that whoever reads the report would want to know.
    Note {
        /// What.
        text: String,
    },
    /// A claim was checked.
    Claim(Finding),
    /// What tids cost was measured once more.
    Cost(Cost),
    /// The next programs were run.
    TestRuns {
        /// What came of each, in their order.
        outcomes: Vec<TestOutcome>,
    },
    /// The kernel or libbpf refused the scheduler.
    Refused {
        /// What was tried.
        what: String,
        /// Why, with the verifier's last lines.
        why: String,
    },
    /// The scheduler's file or a setting of it cannot be used, on any kernel.
    Wrong {
        /// Why, and what could be used.
        why: String,
    },
    /// The agent could not do its job.
    Failed {
        /// Why, and the way out.
        why: String,
    },
    /// The end: all that was to be said has been said.
    Done,
}

/// The kernel that the agent is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    /// CPUs that are online.
    pub cpus: usize,
    /// Whether it has sched_ext.
    pub sched_ext: bool,
    /// Whether it has `scx_bpf_tid_to_task()`.
    pub native_tid: bool,
}

/// How a scheduler's time ended: `struct scx_exit_info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// `enum scx_exit_kind`.
    pub kind: u64,
    /// The exit code that the scheduler gave.
    pub code: i64,
    /// The kernel's text for the kind.
    pub reason: String,
    /// The details.
    pub msg: String,
    /// When it was noticed.
    pub at_ns: u64,
    /// The debug dump, if there was one.
    pub dump: Option<String>,
}

/// What the workload's tasks did. Only what they did themselves counts, not the machine's others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Processes and threads that were created.
    pub forked: u64,
    /// Processes and threads that ended.
    pub exited: u64,
    /// Execs.
    pub execs: u64,
    /// Of those, by a thread that was not the leader.
    pub nonleader_execs: u64,
    /// Forks that failed.
    pub forks_failed: u64,
}

/// What is known of the tids; nothing where the place cannot know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TidCounts {
    pub issued: Option<u64>,
    pub inserted: Option<u64>,
    pub removed: Option<u64>,
    pub lookups: Option<u64>,
    pub misses: Option<u64>,
    pub live: Option<u64>,
}

/// A lost task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// `task->comm`.
    pub comm: String,
    /// Its pid.
    pub pid: i32,
    /// Its tid, if that is known.
    pub tid: Option<u64>,
    /// For how long it had been runnable.
    pub runnable_for_ns: u64,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its number.
    pub claim: u8,
    /// What became of it.
    pub verdict: Verdict,
    /// What was seen, or why it does not apply.
    pub evidence: String,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was tried and held.
    Held,
    /// It was tried and did not hold.
    Broken,
    /// This kernel cannot show it.
    NotApplicable,
    /// It could not be tried: nothing is known.
    NotTried,
}
