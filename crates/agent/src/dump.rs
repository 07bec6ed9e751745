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
/// the kernel has no such event, or we may not, or the dump was longer than what it is kept in.
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
    traced(&String::from_utf8_lossy(&text))
}

/// The dump in what the trace has: `  task-pid  [cpu] flags time: sched_ext_dump: <line of the dump>`.
/// Nothing if its beginning was overwritten, which the trace says first: `CPU:1 [LOST 12 EVENTS]`. The
/// tasks in what is left would not be all.
fn traced(trace: &str) -> Option<String> {
    let mut dump = String::new();
    for line in trace.lines() {
        if let Some((_, line)) = line.split_once("sched_ext_dump: ") {
            dump.push_str(line);
            dump.push('\n');
        } else if line.starts_with("CPU:") && line.ends_with(" EVENTS]") {
            return None;
        }
    }
    Some(dump)
}

/// The tasks in a debug dump that had been runnable for at least so long: lines such as
/// `  R exe[1410] -5028ms`, of `scx_dump_task()`. The one that a CPU runs, ` *R`, is not lost, however
/// long ago it was last made runnable.
pub fn lost(dump: &str, timeout_ns: u64) -> Vec<Lost> {
    dump.lines().filter_map(dumped_task).filter(|lost| lost.runnable_for_ns >= timeout_ns).collect()
}

/// Whether the kernel had no room for all of the dump of an ejection, `ops.exit_dump_len`. Tasks may
/// be missing then.
pub fn is_cut(dump: &str) -> bool {
    dump.trim_end().ends_with("~~~~ TRUNCATED ~~~~")
}

fn dumped_task(line: &str) -> Option<Lost> {
    // The state, and then the name, which may have anything in it. A task whose exit is notified is X
    // or Z (`task_state_to_char()`), also while it is runnable.
    let line = line.trim_start();
    let rest = ["R ", "X ", "Z "].iter().find_map(|state| line.strip_prefix(state))?;
    let (task, since) = rest.rsplit_once(' ')?;
    let ms: i64 = since.strip_suffix("ms")?.parse().ok()?;
    // From Linux 7.1 on the scheduler's level stands in between.
    let (task, _scheduler) = task.rsplit_once(']')?;
    let (comm, pid) = task.rsplit_once('[')?;
    // A scheduler adds to its dump what it likes.
    let runnable_for_ns = u64::try_from(ms.checked_neg()?).ok()?.checked_mul(1_000_000)?;
    Some(Lost { comm: comm.to_owned(), pid: pid.parse().ok()?, tid: None, runnable_for_ns })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Linux 6.16, without the stacks.
    const OLD: &str = "\
qmap: kworker/u8:0[12] triggered exit kind 1026:
  runnable task stall (exe[156] failed to run for 7.248s)

CPU states
----------

CPU 0   : nr_run=5 flags=0x1 cpu_rel=0 ops_qseq=403 pnt_seq=315
          curr=kworker/u8:0[12] class=ext_sched_class

 *R kworker/u8:0[12] +0ms
      scx_state/flags=3/0xd dsq_flags=0x0 ops_state/qseq=0/0

  R exe[156] -7248ms
      scx_state/flags=3/0x9 dsq_flags=0x0 ops_state/qseq=2/31
      sticky/holding_cpu=-1/-1 dsq_id=(n/a)
      dsq_vtime=0 slice=0 weight=100
      cpus=3

    QMAP: force_local=0

  R launcher[237] -5160ms
";

    /// From Linux 7.2: it names a task's scheduler.
    const NEW: &str = "\
CPU 0   : nr_run=5 flags=0x1 cpu_rel=0 ksync=1733
          curr=swapper/0[0] class=idle_sched_class

  R exe[113] *root -7328ms
      scx_state/flags=4/0x3 dsq_flags=0x0 ops_state/qseq=2/3
      sticky/holding_cpu=-1/-1 dsq_id=(n/a)
";

    fn names(dump: &str, timeout_ms: u64) -> Vec<(String, i32, u64)> {
        let lost = lost(dump, timeout_ms * 1_000_000).into_iter();
        lost.map(|lost| (lost.comm, lost.pid, lost.runnable_for_ns / 1_000_000)).collect()
    }

    #[test]
    fn dumps_of_old_and_new_kernels() {
        assert_eq!(names(OLD, 7000), [("exe".to_owned(), 156, 7248)]);
        assert_eq!(names(OLD, 5000).len(), 2);
        assert_eq!(names(NEW, 5000), [("exe".to_owned(), 113, 7328)]);
        assert_eq!(names(NEW, 8000), []);
    }

    #[test]
    fn a_dump_without_its_beginning_is_none() {
        let line = "   agent-70  [001] d..2.    9.5: sched_ext_dump:   R exe[156] -7248ms\n";
        let dump = traced(line).expect("it is whole");
        assert_eq!(names(&dump, 7000), [("exe".to_owned(), 156, 7248)]);
        for lost in ["CPU:1 [LOST 12 EVENTS]\n", "CPU:0 [LOST EVENTS]\n"] {
            assert_eq!(traced(&format!("{lost}{line}")), None, "{lost}");
        }
    }

    #[test]
    fn a_dump_without_its_end_is_told() {
        assert!(!is_cut(OLD) && !is_cut(NEW));
        assert!(is_cut(&format!("{NEW}      cpus=\n\n~~~~ TRUNCATED ~~~~\n")));
    }

    #[test]
    fn times_that_cannot_be_are_no_tasks() {
        for ms in [i64::MIN, i64::MIN + 1, 5000] {
            assert_eq!(names(&format!("  R a[1] {ms}ms\n"), 0), [], "{ms}");
        }
    }

    #[test]
    fn who_runs_or_sleeps_is_not_lost() {
        let dump = " *R hog[7] *root -6000ms\n  R a [b] c[1410] sub1-42 -5028ms\n  S d[3] -9000ms\n\
             \x20 X e[4] -5001ms\n";
        let lost = [("a [b] c".to_owned(), 1410, 5028), ("e".to_owned(), 4, 5001)];
        assert_eq!(names(dump, 5000), lost);
    }
}
