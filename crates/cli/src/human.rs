//! The report as text: the verdict and its cause first, then the details.

use std::fmt::Write as _;

use crate::duration;
use crate::output::Terminal;
use crate::report::{InterleavePart, PrintedPart, ProgRunPart, RaceSide, Report, StalledPart};

/// Data races that are shown; the JSON report has more.
const MOST_RACES: usize = 5;
/// Lines that programs printed which are shown; the JSON report has more.
const MOST_PRINTED: usize = 20;
/// Lost tasks that are explained; the JSON report has all.
const MOST_EXPLAINED: usize = 3;

/// A number with its thousands apart.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 task`, `2 tasks`.
pub fn count(n: u64, what: &str) -> String {
    format!("{} {what}{}", thousands(n), if n == 1 { "" } else { "s" })
}

/// `text` in lines of at most `width` columns, each after `indent`.
pub fn wrap(text: &str, indent: &str, width: usize) -> String {
    let mut out = String::new();
    for paragraph in text.lines() {
        let mut column = 0;
        for word in paragraph.split_whitespace() {
            let length = word.chars().count();
            if column > 0 && column + 1 + length > width {
                out.push('\n');
                column = 0;
            }
            let before = if column == 0 { indent } else { " " };
            out.push_str(before);
            out.push_str(word);
            column += before.chars().count() + length;
        }
        out.push('\n');
    }
    out
}

/// The whole text of a run. `title` is the scheduler with the options that were set.
pub fn run(title: &str, report: &Report, hints: &Hints, terminal: &Terminal) -> String {
    let mut out = verdict(title, report, terminal);
    let width = terminal.width();
    for fault in &report.late_faults {
        let text = format!("When it had ended, which the verdict does not count: {fault}");
        let _ = write!(out, "\n{}", wrap(&text, "", width));
    }
    for task in report.stalled.iter().take(MOST_EXPLAINED) {
        out.push('\n');
        out.push_str(&lost_task(task, terminal));
    }
    if let Some(more) = report.stalled.len().checked_sub(MOST_EXPLAINED).filter(|&more| more > 0) {
        let tasks = if more == 1 { "task is" } else { "tasks are" };
        let text = format!("{} more {tasks} lost; --json has them all.", thousands(more as u64));
        let _ = write!(out, "\n{}", wrap(&text, "", width));
    }
    if let Some(interleave) = &report.interleave {
        out.push('\n');
        out.push_str(&races(interleave, terminal));
    }
    out.push('\n');
    out.push_str(&counts(report, width));
    out.push('\n');
    out.push_str(&hints.text(report, width));
    if !report.prog_runs.is_empty() {
        out.push('\n');
    }
    for part in &report.prog_runs {
        out.push_str(&wrap(&prog_run(part), "", width));
    }
    out.push_str(&printed(&report.printed, terminal));
    for (name, content) in &report.maps.0 {
        let _ = write!(out, "\n{}\n{}", terminal.bold(&format!("Map {name}")), map(content));
    }
    if hints.dump_shown
        && let Some(dump) = &report.dump
    {
        let _ = write!(out, "\n{}\n{}\n", terminal.bold("Debug dump"), dump.trim_end());
    }
    out
}

/// The last lines that programs printed.
fn printed(part: &PrintedPart, terminal: &Terminal) -> String {
    let mut out = String::new();
    if part.lines.is_empty() {
        return out;
    }
    let all = part.lines.len() as u64 + part.dropped;
    let last = &part.lines[part.lines.len().saturating_sub(MOST_PRINTED)..];
    let head = match all - last.len() as u64 {
        0 => "Printed".to_owned(),
        _ => format!("Printed: the last {} of {}", last.len(), count(all, "line")),
    };
    let _ = writeln!(out, "\n{}", terminal.bold(&head));
    for line in last {
        let _ = writeln!(out, "  {}", line.escape_debug());
    }
    if all > last.len() as u64 {
        out.push_str("  --json has more of them.\n");
    }
    out
}

/// A program that user space had run.
fn prog_run(part: &ProgRunPart) -> String {
    let when = match part.at_ns {
        None => "before the scheduler was attached".to_owned(),
        Some(at) => format!("at {}", duration::seconds(scxlab_engine::Nanos(at))),
    };
    let name = &part.name;
    let Some(retval) = part.retval else {
        return format!("{name}, {when}: did not return; the scheduler has ended");
    };
    let returned = match retval as i32 {
        negative @ ..0 => format!("{negative} ({retval:#x})"),
        value => value.to_string(),
    };
    match &part.context {
        None => format!("{name}, {when}: returned {returned}"),
        Some(context) => format!("{name}, {when}: returned {returned}, and left {context}"),
    }
}

/// What came of callbacks that overlapped.
fn races(interleave: &InterleavePart, terminal: &Terminal) -> String {
    let InterleavePart { at, left, overlapped, races, more_races, .. } = interleave;
    let how = format!(
        "Interleaved at {at}: {} left in their middle, in which {} of other CPUs came.",
        count(*left, "callback"),
        count(*overlapped, "event")
    );
    let mut out = wrap(&how, "", terminal.width());
    let Some(races) = races else { return out };
    let all = races.len() as u64 + more_races;
    if all == 0 {
        out.push_str("No data race was seen.\n");
        return out;
    }
    let head = format!("{} in it:", count(all, "data race"));
    let _ = writeln!(out, "{}", terminal.bold(&head));
    for race in races.iter().take(MOST_RACES) {
        let [first, second] = race.sides.each_ref().map(side);
        let times = if race.times == 1 { "once".into() } else { count(race.times, "time") };
        let lost = match race.overwritten {
            0 => String::new(),
            n => format!("; {} lost", count(n, "update")),
        };
        let text = format!("{}: {first}, and {second}; {times}{lost}.", race.what);
        out.push_str(&wrap(&text, "  ", terminal.width()));
    }
    if races.len() > MOST_RACES {
        out.push_str("  --json has more of them.\n");
    }
    out
}

fn side(side: &RaceSide) -> String {
    let place = match (&side.source, &side.text) {
        (Some(source), Some(text)) if !text.is_empty() => format!("{source}: `{text}`"),
        (Some(source), _) => source.clone(),
        _ => format!("{}, instruction {}", side.function, side.insn),
    };
    format!("CPU {} {} in {} ({place})", side.cpu, side.access, side.program)
}

/// A map: a line for each element or variable.
fn map(content: &serde_json::Value) -> String {
    let mut out = String::new();
    match content {
        serde_json::Value::Object(variables) => {
            for (name, value) in variables {
                let _ = writeln!(out, "  {name} = {value}");
            }
        }
        serde_json::Value::Array(elements) => {
            for element in elements {
                let _ = writeln!(out, "  {element}");
            }
        }
        _ => out.push_str("  what is in it is not kept\n"),
    }
    out
}

fn verdict(title: &str, report: &Report, terminal: &Terminal) -> String {
    let exit = &report.exit;
    let mut machine = format!(
        "workload {}, {}, seed {}",
        report.workload,
        count(report.cpus as u64, "CPU"),
        report.seed
    );
    if let Some(kernel) = &report.kernel {
        let _ = write!(machine, ", Linux {kernel} ({})", report.backend);
    }
    let details = if exit.msg.is_empty() { String::new() } else { format!(": {}", exit.msg) };
    if report.ejected() {
        let text = format!(
            "{title} was EJECTED at {}: {}{details}",
            duration::seconds(report.ended_at()),
            exit.reason
        );
        let lost = match report.tasks.lost {
            Some(0) => "no task is lost".to_owned(),
            Some(1) => "1 task is lost".to_owned(),
            None if report.stalled.is_empty() => "lost tasks are not known".to_owned(),
            _ => format!("{} tasks are lost", report.lost()),
        };
        let mut head = wrap(&text, "", terminal.width());
        let kind = format!("(exit kind {})", exit.kind);
        let last = head.lines().last().map_or(0, |line| line.chars().count());
        head.pop();
        head.push(if last + 1 + kind.len() > terminal.width() { '\n' } else { ' ' });
        head.push_str(&kind);
        let head = head.replacen("EJECTED", &terminal.bad("EJECTED"), 1);
        return format!("{head}\n{}", wrap(&format!("{lost}; {machine}"), "", terminal.width()));
    }
    let ran = match report.kernel {
        Some(_) => duration::seconds(report.ended_at()),
        None => duration::short(report.ended_at()),
    };
    let cpus = count(report.cpus as u64, "CPU");
    let how = match (report.exit.kind, report.tasks.lost) {
        (64, Some(0)) => terminal.good("clean"),
        (64, None) if report.stalled.is_empty() => {
            "not ejected; whether tasks are lost is not known".to_owned()
        }
        (64, _) => {
            let tasks = if report.stalled.len() == 1 { "task" } else { "tasks" };
            let lost = format!("{} {tasks} waited past the watchdog's timeout", report.lost());
            format!("not ejected, but {}", terminal.bad(&lost))
        }
        (kind, _) => format!("then ended: {}{details} (exit kind {kind})", exit.reason),
    };
    format!("{title} ran {ran} on {cpus}: {how}\n{}", wrap(&machine, "", terminal.width()))
}

/// A lost task, and its story.
pub fn lost_task(task: &StalledPart, terminal: &Terminal) -> String {
    let waited = duration::seconds(scxlab_engine::Nanos(task.runnable_for_ns));
    let tid = task.tid.map(|tid| format!(", tid {tid}")).unwrap_or_default();
    let head = format!("lost: {}[{}]{tid}, runnable for {waited}", task.comm, task.pid);
    let story = task.explanation.as_deref().unwrap_or_default();
    format!("{}\n{}", terminal.bold(&head), wrap(story, "  ", terminal.width()))
}

/// The counts, in lines that begin with what they count.
fn counts(report: &Report, width: usize) -> String {
    let Report { tasks, tid, counters, events, .. } = report;
    let mut life = vec![
        ("forked", tasks.forked),
        ("exited", tasks.exited),
        ("execs", tasks.execs),
        ("by a non-leader", tasks.nonleader_execs),
        ("forks failed", tasks.forks_failed),
    ];
    life.extend(tasks.lost.map(|lost| ("lost", lost)));
    if let Some(Some(leaked)) = tasks.leaked {
        life.push(("leaked", leaked));
    }
    let tids: Vec<_> = [
        ("issued", tid.issued),
        ("inserted", tid.inserted),
        ("removed", tid.removed),
        ("live", tid.live),
        ("lookups", tid.lookups),
        ("misses", tid.misses),
    ]
    .into_iter()
    .filter_map(|(name, n)| Some((name, n?)))
    .collect();
    let own = counters.0.iter().map(|(name, n)| (name.as_str(), *n));
    let happened = events.0.iter().filter(|(_, n)| *n > 0);
    let kernels = happened.map(|(name, n)| (name.trim_start_matches("SCX_EV_"), *n));
    let rows: [(&str, Vec<(&str, u64)>); 4] = [
        ("tasks", life),
        ("tids", tids),
        (&report.scheduler.name, own.collect()),
        ("SCX_EV_", kernels.collect()),
    ];
    let tables = [3, 2, 1].map(|columns| grid(&rows, columns));
    let fits = |table: &&String| table.lines().all(|line| line.chars().count() <= width);
    tables.iter().find(fits).unwrap_or(&tables[2]).clone()
}

/// Names and numbers in so many columns, each as wide as it must be.
fn grid(rows: &[(&str, Vec<(&str, u64)>)], columns: usize) -> String {
    let title = rows.iter().map(|(title, _)| title.chars().count()).max().unwrap_or(0);
    let mut widths = vec![(0, 0); columns];
    for (_, cells) in rows {
        for (i, (name, n)) in cells.iter().enumerate() {
            let (names, numbers) = &mut widths[i % columns];
            *names = name.chars().count().max(*names);
            *numbers = thousands(*n).len().max(*numbers);
        }
    }
    let mut out = String::new();
    for (head, cells) in rows {
        for (i, line) in cells.chunks(columns).enumerate() {
            let _ = write!(out, "{:<title$}", if i == 0 { head } else { "" });
            for ((name, n), (names, numbers)) in line.iter().zip(&widths) {
                let _ = write!(out, "  {name:<names$} {:>numbers$}", thousands(*n));
            }
            out.push('\n');
        }
    }
    out
}

/// Where to look next.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// Whether the place can write a trace.
    pub traceable: bool,
    /// The trace that was written.
    pub trace: Option<String>,
    /// Whether the dump is shown below.
    pub dump_shown: bool,
}

impl Hints {
    fn text(&self, report: &Report, width: usize) -> String {
        let mut out = match &self.trace {
            Some(path) => format!("Trace: {path}; open it in https://ui.perfetto.dev\n"),
            None if self.traceable => {
                "--trace FILE writes every switch and wakeup for Perfetto.\n".to_owned()
            }
            None => String::new(),
        };
        if report.dump.is_some() && !self.dump_shown {
            out.push_str("--dump prints the kernel's debug dump.\n");
        }
        if report.ejected() && report.scheduler.key.as_deref() == Some("pid") {
            out.push_str(&wrap(
                "With --set key=tid qmap finds its tasks by tid, which stays theirs to the end.",
                "",
                width,
            ));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (n, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(n), text);
        }
        assert_eq!((count(1, "CPU"), count(2, "CPU")), ("1 CPU".into(), "2 CPUs".into()));
    }

    #[test]
    fn lines_fit() {
        let text = "one two three four five six seven eight";
        for width in 8..40 {
            for line in wrap(text, "  ", width).lines() {
                assert!(line.chars().count() <= width, "{width}: {line:?}");
                assert!(line.starts_with("  "));
            }
        }
        assert_eq!(wrap("a-word-that-is-too-long b", "", 5), "a-word-that-is-too-long\nb\n");
        assert_eq!(wrap("", "  ", 10), "");
    }
}
