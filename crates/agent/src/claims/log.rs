//! The kernel's log, watched for what a kernel says when something is wrong with itself.

use crate::exit::{end_of_the_log, kernel_log_from};

/// Beginnings of what a kernel says then.
const WARNINGS: &[&str] = &[
    "WARNING:",
    "BUG:",
    "Oops:",
    "rcu: INFO",
    "list_add corruption",
    "list_del corruption",
    "refcount_t:",
    "general protection fault",
    "watchdog: BUG",
    "INFO: task",
];

/// A place in the log. Not a number of lines: a full log loses one at its beginning for each new one.
pub(super) struct Mark(u64);

impl Mark {
    /// Its end.
    pub(super) fn now() -> Self {
        Self(end_of_the_log())
    }

    /// The first line since then that is a warning.
    pub(super) fn warning(&self) -> Option<String> {
        let is_warning = |line: &&str| WARNINGS.iter().any(|warning| line.contains(warning));
        self.since().lines().find(is_warning).map(str::to_owned)
    }

    /// All lines since then.
    pub(super) fn since(&self) -> String {
        kernel_log_from(self.0)
    }
}
