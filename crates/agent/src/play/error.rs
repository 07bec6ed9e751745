//! Why a workload is not played.

use std::io;
use std::path::PathBuf;

use scxlab_engine::program::ProgramError;

/// Why a workload is not played, or could not be stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlayError {
    /// The program is wrong.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Nothing exists at the start.
    #[error("the workload starts no task; give one of its tasks an instance")]
    NothingStarts,
    /// An instruction that real tasks cannot do.
    #[error("instruction {pc}: {what} cannot be done from user space; play this on the engine")]
    NotPlayable {
        /// The instruction.
        pc: u32,
        /// What it is.
        what: &'static str,
    },
    /// `SCHED_EXT` on a kernel without it.
    #[error(
        "{at}: this kernel has no policy SCHED_EXT; use another policy, or a kernel with \
         CONFIG_SCHED_CLASS_EXT"
    )]
    NoExt {
        /// The instruction or start entry.
        at: String,
    },
    /// There is no `/proc`.
    #[error("/proc is not mounted, and tasks cannot be counted or exec without it; mount it")]
    NoProc,
    /// The workload has cgroups, the machine has not.
    #[error(
        "the workload moves tasks between cgroups, and no cgroup2 file system is mounted; mount \
         one, or leave that out"
    )]
    NoCgroups,
    /// A cgroup cannot be had.
    #[error(
        "the workload's cgroup {directory:?} cannot be created: {error}; run it as root or where \
         cgroups are delegated to you, or leave cgroups out"
    )]
    Cgroup {
        /// Its directory.
        directory: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The shared memory cannot be had.
    #[error("no memory to share with the workload's tasks: {0}")]
    Stage(io::Error),
    /// The keeper cannot be started.
    #[error("{image:?} cannot be started to keep the workload: {error}")]
    Image {
        /// The binary.
        image: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The keeper did not come up.
    #[error("the workload's keeper did not come up: {why}")]
    Keeper {
        /// What it said.
        why: String,
    },
    /// Tasks are left after a stop.
    #[error(
        "{live} tasks of the workload are still there after {} s, in process group {group}; see \
         what they wait for in /proc/PID/stack", waited.as_secs()
    )]
    Remains {
        /// How many.
        live: u64,
        /// The process group of all tasks.
        group: i32,
        /// For how long they were waited for.
        waited: std::time::Duration,
    },
}
