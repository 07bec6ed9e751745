//! What comes out of a guest, line by line. Whatever it is, no more than so much of it is kept.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::error::PANIC;

/// Lines of a log that are kept.
const LINES: usize = 10_000;

/// The longest line of a log, in bytes: longer than the kernel makes them. What is longer is cut up.
const LONGEST_LOGGED: usize = 1 << 10;

/// The longest record, in bytes.
pub(crate) const LONGEST_RECORD: usize = 4 << 20;

/// The last lines of what somebody says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<String>,
    panicked: Option<Instant>,
}

impl Log {
    fn guard(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.guard().lines.iter().cloned().collect()
    }

    /// When the kernel panicked, if it did.
    pub(crate) fn panicked(&self) -> Option<Instant> {
        self.guard().panicked
    }

    /// Keeps what comes, until nothing comes any more.
    pub(crate) fn follow(&self, output: impl Read) {
        each_line(output, LONGEST_LOGGED, |line| {
            let line = printable(line);
            let mut kept = self.guard();
            if kept.panicked.is_none() && line.contains(PANIC) {
                kept.panicked = Some(Instant::now());
            }
            if kept.lines.len() == LINES {
                kept.lines.pop_front();
            }
            kept.lines.push_back(line);
            true
        });
    }
}

/// Hands each line on as long as somebody takes them, and waits until they do. A last line without
/// its end is left out: whoever wrote it did not get to say it.
pub(crate) fn hand_on(output: impl Read, to: &SyncSender<Vec<u8>>) {
    each_line(output, LONGEST_RECORD, |line| {
        let whole = line.ends_with(b"\n") || line.len() == LONGEST_RECORD;
        !whole || to.send(line.to_vec()).is_ok()
    });
}

/// Calls `f` with each line, its end included, until it says no. A line that is too long is cut up.
fn each_line(output: impl Read, longest: usize, mut f: impl FnMut(&[u8]) -> bool) {
    let mut output = BufReader::new(output);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match output.by_ref().take(longest as u64).read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(_) if !f(&bytes) => return,
            Ok(_) => {}
        }
    }
}

/// A line as it can be shown: what comes from a guest has no say over a terminal.
pub(crate) fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.trim_end().chars().filter(|&c| c == '\t' || !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn a_log_is_bounded() {
        let log = Log::default();
        log.follow([b"a".repeat(LONGEST_LOGGED + 1), b"\nb\n".repeat(LINES)].concat().as_slice());
        let lines = log.lines();
        assert_eq!((lines.len(), lines.last().map(String::as_str)), (LINES, Some("b")));
        assert!(lines.iter().all(|line| line.len() <= LONGEST_LOGGED));
    }

    #[test]
    fn a_panic_is_remembered_after_its_line_is_gone() {
        let log = Log::default();
        let panic = format!("[ 1.0] {PANIC}: oops\n");
        log.follow([panic.as_bytes(), &b"more\n".repeat(LINES)].concat().as_slice());
        assert!(!log.lines()[0].contains(PANIC) && log.panicked().is_some());
    }

    #[test]
    fn half_a_line_is_nothing_and_an_endless_one_is_cut() {
        let (to, lines) = sync_channel(10);
        hand_on(b"one\nhalf".as_slice(), &to);
        hand_on(std::io::repeat(b'x').take(LONGEST_RECORD as u64 + 1), &to);
        drop(to);
        let lengths: Vec<_> = lines.iter().map(|line| line.len()).collect();
        assert_eq!(lengths, [4, LONGEST_RECORD]);
    }

    #[test]
    fn a_terminal_is_safe() {
        assert_eq!(printable(b"\x1bc\x1b[2Jred\tb\xff\r\n"), "c[2Jred\tb\u{fffd}");
    }
}
