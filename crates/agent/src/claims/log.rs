//! The kernel's log, watched for what a kernel says when something is wrong with itself.

use crate::exit::kernel_log;

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

/// A place in the log.
pub(super) struct Mark(usize);

impl Mark {
    /// Its end.
    pub(super) fn now() -> Self {
        Self(kernel_log().lines().count())
    }

    /// The first line since then that is a warning.
    pub(super) fn warning(&self) -> Option<String> {
        let is_warning = |line: &&str| WARNINGS.iter().any(|warning| line.contains(warning));
        self.since().lines().find(is_warning).map(str::to_owned)
    }

    /// All lines since then.
    pub(super) fn since(&self) -> String {
        let log = kernel_log();
        log.lines().skip(self.0).flat_map(|line| [line, "\n"]).collect()
    }
}
