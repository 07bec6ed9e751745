//! What libbpf says, kept for when something is refused.

use std::sync::{Mutex, PoisonError};

use libbpf_rs::{PrintLevel, set_print};

/// The most that is kept: a verifier's log can be megabytes, and its end is what counts.
const KEPT: usize = 64 << 10;

static LOG: Mutex<String> = Mutex::new(String::new());

/// Begins to keep what libbpf warns of, and forgets what it said before.
pub(super) fn begin() {
    LOG.lock().unwrap_or_else(PoisonError::into_inner).clear();
    set_print(Some((PrintLevel::Warn, keep)));
}

fn keep(_: PrintLevel, text: String) {
    let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    log.push_str(&text);
    if log.len() > 2 * KEPT {
        let mut from = log.len() - KEPT;
        while !log.is_char_boundary(from) {
            from += 1;
        }
        log.drain(..from);
    }
}

/// The last lines that say something.
pub(super) fn last_lines(count: usize) -> String {
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    let lines: Vec<_> = log.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
