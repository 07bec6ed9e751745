//! What can go wrong with a guest.

use std::path::PathBuf;
use std::time::Duration;

use scxlab_protocol::OtherBuild;

/// How many of the kernel's last lines a message has.
const SHOWN: usize = 20;

/// How many it has of what precedes a panic: registers and a backtrace.
const OF_AN_OOPS: usize = 40;

/// What can go wrong with a guest. Each message says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmError {
    /// There is no QEMU.
    #[error(
        "{program} cannot be run ({why}); install QEMU (Debian: apt-get install qemu-system-x86), or \
         set SCXLAB_QEMU to where it is"
    )]
    NoQemu {
        /// What was tried.
        program: String,
        /// Why it failed.
        why: String,
    },
    /// There is no agent.
    #[error(
        "the agent, scxlab-agent, is not there (looked at {}); `cargo xtask agent` builds it, or \
         set SCXLAB_AGENT to where it is",
        tried.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NoAgent {
        /// Where it was looked for.
        tried: Vec<PathBuf>,
    },
    /// The agent is not this command's.
    #[error(transparent)]
    OtherAgent(OtherBuild),
    /// A file for the initramfs cannot be read, or what is to start the guest cannot be written.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The guest did not get as far as the agent.
    #[error("the guest did not come up within {} s{}", after.as_secs(), tail(log))]
    NeverUp {
        /// How long it had.
        after: Duration,
        /// The kernel's log.
        log: Vec<String>,
    },
    /// The guest did not come up with the KVM, which alone was to be tried.
    #[error("the guest does not come up with the KVM, --accel tcg does without it: {0}")]
    NoKvm(Box<VmError>),
    /// The guest was up, and then nothing more came from it.
    #[error("the guest hangs: nothing from it for {} s{}", after.as_secs(), since_trouble(log))]
    Hangs {
        /// For how long nothing came.
        after: Duration,
        /// The kernel's log.
        log: Vec<String>,
    },
    /// The kernel panicked.
    #[error("the guest's kernel panicked{}", since_trouble(log))]
    Panicked {
        /// The kernel's log.
        log: Vec<String>,
    },
    /// The kernel ran out of memory, killed something for it or panicked, and then nothing more came.
    #[error("the guest ran out of memory; --memory gives it more{}", of_memory(log))]
    OutOfMemory {
        /// The kernel's log.
        log: Vec<String>,
    },
    /// QEMU ended before the agent was done.
    #[error("the guest ended before it was done ({status}){}", since_trouble(log))]
    Ended {
        /// What QEMU ended with, or what had to be done about it.
        status: String,
        /// The kernel's log, and what QEMU said.
        log: Vec<String>,
    },
    /// A line from the guest is no record.
    #[error("the guest sent what is no record: `{line}` ({why})")]
    NoRecord {
        /// The line.
        line: String,
        /// Why not.
        why: String,
    },
    /// Whoever waits for the guest was asked to stop.
    #[error("interrupted; the guest is gone")]
    Interrupted,
}

/// What the kernel says that it panics, first: its reason, and not the end of the registers' dump.
pub(crate) const PANIC: &str = "Kernel panic - not syncing";

/// With which words a kernel begins to say that something is wrong with it, which a panic may follow.
const TROUBLE: [&str; 5] =
    ["BUG: ", "Oops: ", "general protection fault", "kernel BUG at ", "Unable to handle kernel"];

/// How the kernel says that it was out of memory and killed a process, or found none to kill.
pub(crate) const OUT_OF_MEMORY: [&str; 2] =
    ["ut of memory: Killed process", "System is deadlocked on memory"];

/// What the log says of the trouble: from the panic on, and before that from the first oops
/// on, or what fits of each. Without either, its end.
fn since_trouble(log: &[String]) -> String {
    let panic = log.iter().position(|line| line.contains(PANIC));
    let before = &log[..panic.unwrap_or(log.len())];
    let is_trouble = |line: &String| TROUBLE.iter().any(|words| line.contains(words));
    let Some(first) = before.iter().position(is_trouble).or(panic) else { return tail(log) };
    let shown = |lines: &[String], most: usize| {
        let left_out = match lines.len().saturating_sub(most) {
            0 => String::new(),
            n => format!("\n    ({n} more lines)"),
        };
        format!("\n    {}{left_out}", lines[..lines.len().min(most)].join("\n    "))
    };
    let mut text = "; its log:".to_owned();
    if first < before.len() {
        text.push_str(&shown(&log[first..before.len()], OF_AN_OOPS));
    }
    if let Some(panic) = panic {
        text.push_str(&shown(&log[panic..], SHOWN));
    }
    text
}

/// What the log says of memory: who wanted it, and who was killed for it, and not the long account
/// in between. A panic's own words are more.
fn of_memory(log: &[String]) -> String {
    let is_it = |line: &&String| {
        line.contains("invoked oom-killer") || OUT_OF_MEMORY.iter().any(|says| line.contains(says))
    };
    let lines: Vec<&str> = log.iter().filter(is_it).map(String::as_str).collect();
    if lines.is_empty() || log.iter().any(|line| line.contains(PANIC)) {
        return since_trouble(log);
    }
    format!("; its log:\n    {}", lines[lines.len().saturating_sub(SHOWN)..].join("\n    "))
}

/// The end of a log, to be put at the end of a sentence.
fn tail(log: &[String]) -> String {
    if log.is_empty() {
        return "; it printed nothing".to_owned();
    }
    let last = &log[log.len().saturating_sub(SHOWN)..];
    format!("; its last lines:\n    {}", last.join("\n    "))
}
