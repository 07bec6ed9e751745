//! `scxlab demo` on a real kernel: qmap keyed by pid beside qmap keyed by tid, with real tasks.

use std::fmt::Write as _;

use super::{RealPlan, session};
use crate::args::DemoArgs;
use crate::demo::{PREMISE, STALL, WORKLOAD, as_it_should_not_be, not_clean, run_args, table};
use crate::duration::short;
use crate::human::{count, lost_task, wrap};
use crate::output::Terminal;
use crate::report::Report;
use crate::status::{Failure, Status};

/// Runs qmap keyed by pid, then by tid, and puts them side by side.
///
/// # Errors
/// As [`run`](super::run).
pub fn demo(args: &DemoArgs, terminal: &mut Terminal) -> Result<Status, Failure> {
    if args.compiled {
        return Err(Failure::wrong(
            "--compiled: a real kernel runs the compiled form anyway; leave it out, or give --on engine",
        ));
    }
    let one = |key: &str| {
        let plan = RealPlan::new(&run_args(args, key))?;
        Ok::<_, Failure>(session::run(&plan, terminal)?.report(&plan))
    };
    let (pid, tid) = (one("pid")?, one("tid")?);
    let wrong = unexpected(&pid, &tid);
    let text = story(args, &pid, &tid, &wrong, terminal);
    terminal.print(&text);
    Ok(if wrong.is_empty() { Status::Fine } else { Status::Failed })
}

/// What is not as it should be.
fn unexpected(pid: &Report, tid: &Report) -> Vec<String> {
    let mut wrong = Vec::new();
    if pid.exit.kind != STALL || pid.stalled.is_empty() {
        wrong.push(format!(
            "keyed by pid, it ended with exit kind {} ({}), tasks lost: {}",
            pid.exit.kind,
            pid.exit.reason,
            pid.lost()
        ));
    }
    wrong.extend(not_clean(tid));
    wrong
}

fn story(
    args: &DemoArgs,
    pid: &Report,
    tid: &Report,
    wrong: &[String],
    terminal: &Terminal,
) -> String {
    let width = terminal.width();
    let mut out = wrap(PREMISE, "", width);
    let machine = format!(
        "Both run {WORKLOAD} (processes whose children exec from a thread that is not the leader) on \
         Linux {} ({}) with {}, for up to {}, with SCX_OPS_ENQ_EXITING.",
        pid.kernel.as_deref().unwrap_or("?"),
        pid.backend,
        count(pid.cpus as u64, "CPU"),
        short(args.time()),
    );
    let _ = write!(out, "\n{}\n", wrap(&machine, "", width));
    out.push_str(&table(pid, tid, terminal));
    if let Some(first) = pid.stalled.first() {
        let _ = write!(out, "\nKeyed by pid, {}", lost_task(first, terminal));
        let message = format!("The kernel: {}: {}", pid.exit.reason, pid.exit.msg);
        out.push_str(&wrap(&message, "  ", width));
    }
    out.push_str(&as_it_should_not_be(wrong, terminal));
    out
}
