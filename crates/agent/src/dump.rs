//! The debug dump: who is runnable, and since when.

use std::fs::{self, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::{Duration, Instant};

use scxlab_protocol::Lost;

/// Where the kernel writes a dump that was asked for: the trace event `sched_ext_dump`.
const TRACING: &str = "/sys/kernel/tracing";

/// How long a dump may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks for a dump of the scheduler that is attached, by sysrq-D. It goes on undisturbed. Nothing if
/// the kernel has no such event, or we may not.
pub fn on_request() -> Option<String> {
    let event = format!("{TRACING}/events/sched_ext/sched_ext_dump/enable");
    fs::write(&event, "1").ok()?;
    let dump = request();
    let _ = fs::write(&event, "0");
    dump.filter(|dump| !dump.is_empty())
}

fn request() -> Option<String> {
    let mut pipe = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(format!("{TRACING}/trace_pipe"))
        .ok()?;
    fs::write("/proc/sysrq-trigger", "D").ok()?;
    let start = Instant::now();
    let (mut text, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    let mut quiet = Instant::now();
    // A dump comes at once; when nothing more comes for a while, it is all there.
    while start.elapsed() < PATIENCE && (text.is_empty() || quiet.elapsed() < PATIENCE / 20) {
        match pipe.read(&mut buffer) {
            Ok(n @ 1..) => {
                text.extend_from_slice(&buffer[..n]);
                quiet = Instant::now();
            }
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    let text = String::from_utf8_lossy(&text);
    // `  task-pid  [cpu] flags time: sched_ext_dump: <line of the dump>`
    let lines = text.lines().filter_map(|line| Some(line.split_once("sched_ext_dump: ")?.1));
    Some(lines.flat_map(|line| [line, "\n"]).collect())
}

/// The tasks in a debug dump that had been runnable for at least so long: lines such as
/// ` R exe[1410] -5028ms`, of `scx_dump_task()`.
pub fn lost(dump: &str, timeout_ns: u64) -> Vec<Lost> {
    dump.lines().filter_map(dumped_task).filter(|lost| lost.runnable_for_ns >= timeout_ns).collect()
}

fn dumped_task(line: &str) -> Option<Lost> {
    // A mark, the state, and then the name, which may have anything in it. A task whose exit is
    // notified is X or Z (`task_state_to_char()`), also while it is runnable.
    let line = line.trim_start_matches([' ', '*', '>']);
    let rest = ["R ", "X ", "Z "].iter().find_map(|state| line.strip_prefix(state))?;
    let (task, since) = rest.rsplit_once(' ')?;
    let ms: i64 = since.strip_suffix("ms")?.parse().ok()?;
    // From Linux 7.1 on the scheduler's level stands in between.
    let (task, _scheduler) = task.rsplit_once(']')?;
    let (comm, pid) = task.rsplit_once('[')?;
    let runnable_for_ns = u64::try_from(-ms).ok()? * 1_000_000;
    Some(Lost { comm: comm.to_owned(), pid: pid.parse().ok()?, tid: None, runnable_for_ns })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_of_a_dump() {
        let dump = " *R worker[7] *root -6000ms\n\nCPU 0   : nr_run=3\n\n *R image[12] -3ms\n      scx_state/flags=3/0x1\n\n  R a [b] c[1410] \
                    -5028ms\n  S d[3] -9000ms\n  X e[4] -5001ms\n";
        let lost = lost(dump, 5_000_000_000);
        assert_eq!(lost.len(), 3);
        assert_eq!((lost[0].comm.as_str(), lost[0].pid), ("worker", 7));
        assert_eq!((lost[1].comm.as_str(), lost[1].pid), ("a [b] c", 1410));
        assert_eq!(lost[1].runnable_for_ns, 5_028_000_000);
    }
}
