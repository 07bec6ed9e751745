//! How a scheduler's time ended: what it recorded in `ops.exit`, or else what the kernel logged.

use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt as _;

use scxlab_engine::ExitKind;
use scxlab_protocol::Exit;

use crate::object::Loaded;

/// Every kind that the kernel logs a text of.
const KINDS: &[ExitKind] = &[
    ExitKind::Unreg,
    ExitKind::UnregBpf,
    ExitKind::UnregKern,
    ExitKind::Sysrq,
    ExitKind::Parent,
    ExitKind::Error,
    ExitKind::ErrorBpf,
    ExitKind::ErrorStall,
];

/// The variable in which a scheduler keeps its exit info, as the kernel's examples name it.
const UEI: &str = "uei";

/// What the scheduler recorded; nothing as long as it is attached, or if it records nothing.
pub fn recorded(loaded: &Loaded, at_ns: u64) -> Option<Exit> {
    let kind = loaded.number("uei.kind").filter(|&kind| kind != 0)?;
    let text = |member: &str| loaded.text(&format!("{UEI}.{member}")).unwrap_or_default();
    let code = loaded.bytes("uei.exit_code").and_then(|bytes| bytes.try_into().ok());
    Some(Exit {
        kind,
        code: code.map_or(0, i64::from_le_bytes),
        reason: text("reason"),
        msg: text("msg"),
        at_ns,
        dump: loaded.dump(),
    })
}

/// What the kernel logged: `sched_ext: BPF scheduler "simple" disabled (runnable task stall)`, and
/// for an error `sched_ext: simple: <details>`.
pub fn logged(log: &str, scheduler: &str, at_ns: u64) -> Option<Exit> {
    let head = format!("BPF scheduler \"{scheduler}\" disabled (");
    let reason = log.lines().rev().find_map(|line| line.split_once(&head)?.1.strip_suffix(')'))?;
    let kind =
        KINDS.iter().find(|kind| kind.reason() == reason).copied().unwrap_or(ExitKind::Error);
    let head = format!("sched_ext: {scheduler}: ");
    let msg = log.lines().rev().find_map(|line| Some(line.split_once(&head)?.1.to_owned()));
    let msg = msg.filter(|_| kind.is_error()).unwrap_or_default();
    Some(Exit { kind: kind as u64, code: 0, reason: reason.to_owned(), msg, at_ns, dump: None })
}

/// The kernel's log from a place in it on, as far as it is kept.
pub fn kernel_log_from(first: u64) -> String {
    kmsg().map_or_else(String::new, |log| lines_from(log, first))
}

/// Where the kernel's log ends now: the number of the record that comes next.
pub fn end_of_the_log() -> u64 {
    kmsg().map_or(0, end)
}

fn kmsg() -> Option<fs::File> {
    fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").ok()
}

fn lines_from(log: impl Read, first: u64) -> String {
    let mut text = String::new();
    each_record(log, |sequence, line| {
        if sequence >= first {
            text.push_str(line);
            text.push('\n');
        }
    });
    text
}

fn end(log: impl Read) -> u64 {
    let mut end = 0;
    each_record(log, |sequence, _| end = sequence.saturating_add(1));
    end
}

fn each_record(mut log: impl Read, mut f: impl FnMut(u64, &str)) {
    let mut record = [0; 8192];
    // A record at a time: `priority,sequence,time,flags;text`, and a line for each annotation.
    loop {
        match log.read(&mut record) {
            Ok(0) => return,
            Ok(length) => {
                let text = String::from_utf8_lossy(&record[..length]);
                let (head, line) = text.split_once(';').unwrap_or((&text, ""));
                let sequence = head.split(',').nth(1).and_then(|field| field.parse().ok());
                f(sequence.unwrap_or(0), line.lines().next().unwrap_or(""));
            }
            // Records were overwritten meanwhile; the next one is there.
            Err(err) if err.raw_os_error() == Some(libc::EPIPE) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_log() {
        let log = "sched_ext: BPF scheduler \"qmap\" disabled (runnable task stall)\n\
                   sched_ext: qmap: exe[1410] failed to run for 5.028s\n";
        let exit = logged(log, "qmap", 7).expect("it is there");
        assert_eq!((exit.kind, exit.at_ns), (1026, 7));
        assert_eq!(exit.msg, "exe[1410] failed to run for 5.028s");
        assert_eq!(logged(log, "simple", 7), None);
    }

    /// `/dev/kmsg`: a read gives a record, or says that records were overwritten, or that there are no
    /// more.
    struct Kmsg<'a>(std::slice::Iter<'a, &'a str>);

    impl Read for Kmsg<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let error = |errno| Err(std::io::Error::from_raw_os_error(errno));
            match self.0.next() {
                None => error(libc::EAGAIN),
                Some(&"") => error(libc::EPIPE),
                Some(record) => {
                    buffer[..record.len()].copy_from_slice(record.as_bytes());
                    Ok(record.len())
                }
            }
        }
    }

    #[test]
    fn a_place_in_the_log_stays_when_the_log_loses_its_beginning() {
        let before = ["6,700,1,-;first", "6,701,2,-;second\n SUBSYSTEM=cpu\n"];
        assert_eq!(end(Kmsg(before.iter())), 702);
        let after = ["", "6,701,2,-;second\n SUBSYSTEM=cpu\n", "4,702,3,-;WARNING: third"];
        assert_eq!(lines_from(Kmsg(after.iter()), 702), "WARNING: third\n");
        assert_eq!(lines_from(Kmsg(after.iter()), 0), "second\nWARNING: third\n");
        assert_eq!(end(Kmsg([].iter())), 0);
    }
}
