//! What the command answers with: its exit status, and errors.

use std::fmt;
use std::process::ExitCode;

/// The exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The scheduler ran to the end; all claims are held.
    Fine = 0,
    /// The scheduler was ejected, or a claim is broken.
    Failed = 1,
    /// The command line or an input file is wrong.
    Wrong = 2,
    /// Something that the run needs is missing.
    Missing = 3,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

/// Why a command did not do what was asked for, with the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit status.
    pub status: Status,
    /// What to print.
    pub message: String,
}

impl Failure {
    /// The scheduler was refused.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self { status: Status::Failed, message: message.to_string() }
    }

    /// The command line or an input file is wrong.
    pub fn wrong(message: impl fmt::Display) -> Self {
        Self { status: Status::Wrong, message: message.to_string() }
    }

    /// Something is missing.
    pub fn missing(message: impl fmt::Display) -> Self {
        Self { status: Status::Missing, message: message.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
