//! Why an operation does not come to its end.

use std::fmt;

use crate::machine::{Denied, Fault, Full};

/// The state is not there. An engine that gives it back as it got it never has this said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Away;

pub(super) const AWAY: &str = "the scheduler's state is missing";

impl From<Away> for Bad {
    fn from(_: Away) -> Self {
        Self::Why(AWAY.to_owned())
    }
}

impl From<Away> for Failed {
    fn from(_: Away) -> Self {
        Self::Other(AWAY.to_owned())
    }
}

/// Why an operation did not come to its end.
#[derive(Clone, Debug)]
pub(super) enum Failed {
    /// A program did what it must not.
    Fault(Box<Fault>),
    /// Something else, as a sentence.
    Other(String),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Other(why) => f.write_str(why),
        }
    }
}

/// What is wrong with a call of the kernel.
#[derive(Clone, Debug)]
pub(super) enum Bad {
    /// Memory that it cannot use: address, bytes, whether to write.
    Access((u64, usize, bool), Denied),
    /// Memory that a kernel has and the engine has not.
    Lacks((u64, usize, bool), Denied),
    /// Something else, as the end of a sentence.
    Why(String),
}

impl From<String> for Bad {
    fn from(why: String) -> Self {
        Self::Why(why)
    }
}

impl From<&str> for Bad {
    fn from(why: &str) -> Self {
        Self::Why(why.to_owned())
    }
}

impl From<Full> for Bad {
    fn from(full: Full) -> Self {
        Self::Why(full.to_string())
    }
}

impl From<Bad> for Failed {
    fn from(bad: Bad) -> Self {
        match bad {
            Bad::Why(why) => Self::Other(why),
            Bad::Access((addr, ..), denied) | Bad::Lacks((addr, ..), denied) => {
                Self::Other(format!("{addr:#x}: {denied:?}"))
            }
        }
    }
}

impl From<Full> for Failed {
    fn from(full: Full) -> Self {
        Self::Other(full.to_string())
    }
}
