//! `struct scx_exit_info`: why a scheduler ended.

use crate::Nanos;

/// `enum scx_exit_kind`, with the kernel's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum ExitKind {
    /// It did not end.
    #[default]
    None = 0,
    /// Detached by user space.
    Unreg = 64,
    /// Detached by itself (`scx_bpf_exit()`).
    UnregBpf = 65,
    /// Detached by the kernel.
    UnregKern = 66,
    /// Detached by a key.
    Sysrq = 67,
    /// Its parent ends.
    Parent = 68,
    /// It did something wrong.
    Error = 1024,
    /// It says itself that something is wrong (`scx_bpf_error()`).
    ErrorBpf = 1025,
    /// The watchdog found a task that did not run.
    ErrorStall = 1026,
}

impl ExitKind {
    /// `scx_exit_reason()`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::None => "<UNKNOWN>",
            Self::Unreg => "unregistered from user space",
            Self::UnregBpf => "unregistered from BPF",
            Self::UnregKern => "unregistered from the main kernel",
            Self::Sysrq => "disabled by sysrq-S",
            Self::Parent => "parent exiting",
            Self::Error => "runtime error",
            Self::ErrorBpf => "scx_bpf_error",
            Self::ErrorStall => "runnable task stall",
        }
    }

    /// Whether it is an ejection (`>= SCX_EXIT_ERROR`).
    pub const fn is_error(self) -> bool {
        self as u32 >= Self::Error as u32
    }
}

/// `struct scx_exit_info`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExitInfo {
    /// The broad reason.
    pub kind: ExitKind,
    /// The CPU that began it, or -1.
    pub exit_cpu: i32,
    /// The code of a graceful exit.
    pub exit_code: i64,
    /// `ops.init` had succeeded (`SCX_EFLAG_INITIALIZED`).
    pub initialized: bool,
    /// The details, as the kernel words them.
    pub msg: String,
    /// The debug dump, if it is an error.
    pub dump: String,
    /// When it began.
    pub at: Nanos,
}

impl ExitInfo {
    /// The reason as text.
    pub fn reason(&self) -> &'static str {
        self.kind.reason()
    }
}
