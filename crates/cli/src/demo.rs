//! `scxlab demo`: a scheduler that finds its tasks by pid, beside the same one by tid.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use scxlab_engine::{ExitKind, Nanos, Record, What};

use crate::args::{DemoArgs, MachineArgs, RunArgs, Setting};
use crate::duration::{exact, seconds, short};
use crate::human::{count, thousands, wrap};
use crate::output::Terminal;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::report::Report;
use crate::session::{Observer, Outcome, Session};
use crate::status::{Failure, Status};

pub(crate) const WORKLOAD: &str = "nonleader-exec";

/// What the two are about.
pub(crate) const PREMISE: &str = "qmap keeps its tasks in FIFOs in an arena, which cannot hold task pointers. When a task's turn \
     comes, ops.dispatch has to find it again: by the pid that ops.init_task saw, or by \
     p->scx.tid, which stays the task's from fork to its last switch.";

/// `SCX_EXIT_ERROR_STALL`.
pub(crate) const STALL: u32 = ExitKind::ErrorStall as u32;

/// `SCX_EXIT_UNREG`.
const UNREG: u32 = ExitKind::Unreg as u32;

const UNEXPECTED: &str = "Not as it should be";

/// One of the two runs.
struct Run {
    plan: Plan,
    outcome: Outcome,
    report: Report,
    /// When a lookup first missed each task that is still lost to it.
    missed: BTreeMap<u64, Nanos>,
}

/// Runs both and tells the story.
///
/// # Errors
/// The machine cannot be set up.
pub fn demo(args: &DemoArgs, terminal: &mut Terminal) -> Result<Status, Failure> {
    let progress = terminal.progress();
    let by_key = |key: &'static str, shown: bool| one(args, key, shown);
    let (pid, tid) = std::thread::scope(|scope| {
        let tid = scope.spawn(|| by_key("tid", progress));
        let pid = by_key("pid", false);
        (pid, tid.join())
    });
    let tid = tid.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let (pid, tid) = (pid?, tid?);
    let wrong = unexpected(&pid, &tid);
    let text = story(args, &pid, &tid, &wrong, terminal);
    terminal.print(&text);
    Ok(if wrong.is_empty() { Status::Fine } else { Status::Failed })
}

fn one(args: &DemoArgs, key: &str, progress: bool) -> Result<Run, Failure> {
    let mut plan = Plan::new(&run_args(args, key))?;
    // Records cost time, and only this one loses tasks.
    plan.config.trace = key == "pid";
    let mut watcher =
        Watcher { progress: Progress::new(args.time(), progress), missed: BTreeMap::new() };
    let outcome = Session::new(&plan)?.run(&mut watcher)?;
    let report = Report::new(&plan, &outcome);
    Ok(Run { plan, outcome, report, missed: watcher.missed })
}

/// The run as `scxlab run` would be asked for it.
pub(crate) fn run_args(args: &DemoArgs, key: &str) -> RunArgs {
    let set = |key: &str, value: &str| Setting { key: key.to_owned(), value: value.to_owned() };
    RunArgs {
        scheduler: "qmap".to_owned(),
        workload: WORKLOAD.to_owned(),
        on: args.on.clone(),
        duration: Some(args.time()),
        seed: args.seed,
        ops: None,
        compiled: args.compiled,
        with: Vec::new(),
        without: Vec::new(),
        kernel_abi: None,
        interleave: None,
        dump_map: Vec::new(),
        prog_run: Vec::new(),
        set: vec![set("key", key), set("exiting", "on")],
        json: None,
        trace: None,
        dump: false,
        machine: MachineArgs { cpus: args.cpus, accel: args.accel, ..MachineArgs::default() },
    }
}

struct Watcher {
    progress: Progress,
    missed: BTreeMap<u64, Nanos>,
}

impl Observer for Watcher {
    fn records(&mut self, records: &[Record]) -> Result<(), Failure> {
        for record in records {
            match record.what {
                What::Queued { task } => drop(self.missed.remove(&task.tid)),
                What::LookupMissed { lost, .. } => {
                    self.missed.entry(lost.tid).or_insert(record.at);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn progress(&mut self, now: Nanos) -> Result<(), Failure> {
        self.progress.at(now);
        Ok(())
    }
}

/// What is not as it should be.
fn unexpected(pid: &Run, tid: &Run) -> Vec<String> {
    let mut wrong = Vec::new();
    let timeout = Nanos::from_millis(u64::from(pid.plan.scheduler.ops().timeout_ms));
    match (pid.report.exit.kind, pid.outcome.lost.first()) {
        (STALL, Some(first)) => {
            let waited = pid.report.ended_at() - first.runnable_since;
            // The watchdog looks every half timeout, counts in jiffies, and its worker waits for
            // a CPU as other tasks do.
            let late = Nanos(pid.outcome.stats.watchdog_latency_ns) + Nanos::from_millis(4);
            if !(timeout..=Nanos(timeout.0 / 2 * 3) + late).contains(&waited) {
                wrong.push(format!("keyed by pid, it was ejected {} s after the loss", waited));
            }
        }
        (STALL, None) => wrong.push("keyed by pid, it was ejected and no task is lost".to_owned()),
        (kind, _) => wrong.push(format!(
            "keyed by pid, it ended with exit kind {kind} ({}), not with {STALL}",
            pid.report.exit.reason
        )),
    }
    wrong.extend(not_clean(&tid.report));
    wrong
}

/// What is not as it should be of the run keyed by tid.
pub(crate) fn not_clean(tid: &Report) -> Option<String> {
    let fine = (tid.exit.kind, tid.tasks.lost) == (UNREG, Some(0));
    (!fine).then(|| {
        format!(
            "keyed by tid, it ended with exit kind {} ({}), tasks lost: {}",
            tid.exit.kind,
            tid.exit.reason,
            tid.lost()
        )
    })
}

/// All that is not as it should be, for people.
pub(crate) fn as_it_should_not_be(wrong: &[String], terminal: &Terminal) -> String {
    let paragraph = |wrong: &String| {
        let text = wrap(&format!("{UNEXPECTED}: {wrong}"), "", terminal.width());
        format!("\n{}", text.replacen(UNEXPECTED, &terminal.bad(UNEXPECTED), 1))
    };
    wrong.iter().map(paragraph).collect()
}

fn story(args: &DemoArgs, pid: &Run, tid: &Run, wrong: &[String], terminal: &Terminal) -> String {
    let width = terminal.width();
    let mut out = wrap(PREMISE, "", width);
    let form = if args.compiled { "It is the object that kernels load. " } else { "" };
    let machine = format!(
        "{form}Both run {WORKLOAD} (processes whose children exec from a thread that is not the \
         leader) on {} for up to {}, seed {}, with SCX_OPS_ENQ_EXITING.",
        count(args.engine_cpus(), "CPU"),
        short(args.time()),
        args.seed
    );
    let _ = write!(out, "\n{}\n", wrap(&machine, "", width));
    out.push_str(&table(&pid.report, &tid.report, terminal));
    if let Some(first) = pid.outcome.lost.first() {
        let head = format!(
            "Keyed by pid, the first task lost: {}, tid {}, pid {}",
            first.comm, first.tid, first.pid.0
        );
        let _ =
            write!(out, "\n{}\n{}", terminal.bold(&head), wrap(&first.explanation, "  ", width));
        if let Some(&lost) = pid.missed.get(&first.tid) {
            let ended = pid.report.ended_at();
            let text = format!(
                "lost at {}, ejected at {}: {} later, by the watchdog.",
                seconds(lost),
                seconds(ended),
                seconds(ended - lost)
            );
            out.push_str(&wrap(&text, "  ", width));
        }
    }
    out.push_str(&as_it_should_not_be(wrong, terminal));
    let _ =
        write!(out, "\nSee it in Perfetto (https://ui.perfetto.dev):\n  {}\n", trace_command(args));
    out
}

fn trace_command(args: &DemoArgs) -> String {
    let mut command = format!("scxlab run qmap --set key=pid --workload {WORKLOAD}");
    if args.engine_cpus() != 4 {
        let _ = write!(command, " --cpus {}", args.engine_cpus());
    }
    if args.seed != 1 {
        let _ = write!(command, " --seed {}", args.seed);
    }
    if args.time() != Nanos::from_secs(10) {
        let _ = write!(command, " --duration {}", exact(args.time()));
    }
    if args.compiled {
        command.push_str(" --compiled");
    }
    command.push_str(" --trace stall.json");
    command
}

/// The two runs side by side.
pub(crate) fn table(pid: &Report, tid: &Report, terminal: &Terminal) -> String {
    const COLUMN: usize = 22;
    let cells = |of: fn(&Report) -> String| [of(pid), of(tid)];
    let failed = |report: &Report| thousands(report.counter("lookups_failed").unwrap_or_default());
    let rows = [
        ("", ["keyed by pid".to_owned(), "keyed by tid".to_owned()]),
        ("outcome", cells(outcome)),
        ("exit kind", cells(|report| report.exit.kind.to_string())),
        ("ejected at", cells(ejected_at)),
        ("non-leader execs", cells(|report| thousands(report.tasks.nonleader_execs))),
        ("tasks lost", cells(|report| report.lost())),
        ("failed lookups", [failed(pid), failed(tid)]),
    ];
    let mut out = String::new();
    for (title, cells) in rows {
        let [left, right] = cells.map(|cell| {
            let padded = format!("{cell:<COLUMN$}");
            match cell.as_str() {
                "EJECTED" => terminal.bad(&padded),
                "clean" => terminal.good(&padded),
                "keyed by pid" | "keyed by tid" => terminal.bold(&padded),
                _ => padded,
            }
        });
        let _ = writeln!(out, "{}", format!("  {title:<COLUMN$}{left}{right}").trim_end());
    }
    out
}

fn outcome(report: &Report) -> String {
    match (report.ejected(), report.tasks.lost) {
        (true, _) => "EJECTED",
        (false, Some(0)) => "clean",
        (false, None) => "ran on",
        (false, _) => "ran on, tasks lost",
    }
    .to_owned()
}

fn ejected_at(report: &Report) -> String {
    if report.ejected() {
        seconds(report.ended_at())
    } else {
        let ran = report.ended_at();
        let ran = if report.kernel.is_some() { seconds(ran) } else { short(ran) };
        format!("not in {ran}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{AccelArg, Place};

    #[test]
    fn the_command_is_the_run() {
        let args = DemoArgs {
            on: Place::Engine,
            seed: 7,
            cpus: Some(8),
            duration: Some(Nanos::from_secs(10)),
            compiled: false,
            accel: AccelArg::Auto,
        };
        assert_eq!(
            trace_command(&args),
            "scxlab run qmap --set key=pid --workload nonleader-exec --cpus 8 --seed 7 --trace \
             stall.json"
        );
    }
}
