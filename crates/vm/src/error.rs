//! What can go wrong with a guest.

use std::path::PathBuf;
use std::time::Duration;

use scxlab_protocol::OtherBuild;

/// How many of the kernel's last lines a message has.
const SHOWN: usize = 20;

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
    /// The guest was up, and then nothing more came from it.
    #[error("the guest hangs: nothing from it for {} s{}", after.as_secs(), tail(log))]
    Hangs {
        /// For how long nothing came.
        after: Duration,
        /// The kernel's log.
        log: Vec<String>,
    },
    /// The kernel panicked.
    #[error("the guest's kernel panicked{}", tail(since_panic(log)))]
    Panicked {
        /// The kernel's log.
        log: Vec<String>,
    },
    /// The kernel ran out of memory, killed something for it or panicked, and then nothing more came.
    #[error("the guest ran out of memory; --memory gives it more{}", tail(since_panic(log)))]
    OutOfMemory {
        /// The kernel's log.
        log: Vec<String>,
    },
    /// QEMU ended before the agent was done.
    #[error("the guest ended before it was done ({status}){}", tail(log))]
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

/// The log from the panic on, or what fits of it. All of it without a panic.
fn since_panic(log: &[String]) -> &[String] {
    match log.iter().position(|line| line.contains(PANIC)) {
        Some(first) => &log[first..log.len().min(first + SHOWN)],
        None => log,
    }
}

/// The end of a log, to be put at the end of a sentence.
fn tail(log: &[String]) -> String {
    if log.is_empty() {
        return "; it printed nothing".to_owned();
    }
    let last = &log[log.len().saturating_sub(SHOWN)..];
    format!("; its last lines:\n    {}", last.join("\n    "))
}
