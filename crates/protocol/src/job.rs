//! What the agent is to do.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Bytes, CostPlan};

/// What the agent is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What.
    pub task: Task,
    /// The source of the workload's chance.
    pub seed: u64,
    /// How many CPUs the workload is for; a built-in one fits itself to them.
    pub cpus: usize,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum Task {
    /// Run one scheduler under one workload.
    Run(Run),
    /// Check the claims of the tid contract.
    Claims {
        /// Where the programs that the claims need are, as the agent sees the directory.
        objects: PathBuf,
        /// Their numbers; all that there are if empty.
        only: Vec<u8>,
    },
    /// Measure what tids cost, the kernel's own and the portable ones.
    Cost(CostPlan),
    /// Run programs of raw instructions, and say what comes of each: what the machine for compiled
    /// schedulers is compared with.
    TestRun {
        /// The programs, as the agent sees the file: [`TestRuns`](crate::TestRuns).
        programs: PathBuf,
    },
    /// Say which kernel this is, and no more.
    Probe,
}

/// One scheduler, one workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The compiled scheduler, as the agent sees the file.
    pub object: PathBuf,
    /// Which scheduler of the object's, if it has several.
    pub ops: Option<String>,
    /// Programs to load that the object has off.
    pub with: Vec<String>,
    /// Programs not to load.
    pub without: Vec<String>,
    /// Values for the object's global variables and maps, in order.
    pub set: Vec<Setting>,
    /// Programs to run as its user space would.
    pub prog_runs: Vec<ProgRun>,
    /// The flags of its operations by name, as far as the kernel has them. Without this list, those
    /// with which it was compiled, and `SCX_OPS_TID_TO_TASK` if it has the portable tid.
    pub flags: Option<Vec<String>>,
    /// What the tasks do.
    pub workload: WorkloadSource,
    /// How long the scheduler is to stay attached, in ns.
    pub duration_ns: u64,
}

/// A program of the kind `syscall` that is run once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgRun {
    /// The program.
    pub name: String,
    /// Its context.
    pub context: Bytes,
    /// When, in ns after the attach; nothing for before it.
    pub at_ns: Option<u64>,
}

/// What is to be set, and its value as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The variable: `name`, or `name.member`, or `name[index]`; a value of a map in the same way; an
    /// array's or a map's length, `name[]`; how many maps are put into one of maps, `name[*]`.
    pub name: String,
    /// The value, as the variable's type takes it.
    pub value: String,
}

/// Where a workload comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkloadSource {
    /// A built-in one, by its name.
    Builtin(String),
    /// A file in rt-app's format.
    File {
        /// Its name, for messages.
        name: String,
        /// What is in it.
        text: String,
    },
}
