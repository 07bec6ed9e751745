//! What the kernel did beside what the engine said.

use std::fmt::Write as _;

use crate::duration;
use crate::human::thousands;
use crate::output::Terminal;
use crate::report::Report;

/// A table of both. The engine's time is virtual and its machine is another one, so counts differ;
/// whether and why a scheduler is ejected should not.
pub(super) fn side_by_side(kernel: &Report, engine: &Report, terminal: &Terminal) -> String {
    const COLUMN: usize = 22;
    let name = format!("Linux {}", kernel.kernel.as_deref().unwrap_or("?"));
    let name = name.split(['+', '-']).next().unwrap_or(&name).to_owned();
    let both = |of: fn(&Report) -> String| (of(kernel), of(engine));
    let mut rows = vec![
        (String::new(), (name, "engine".to_owned())),
        ("outcome".to_owned(), both(outcome)),
        ("exit kind".to_owned(), both(|report| report.exit.kind.to_string())),
        ("ended at".to_owned(), both(|report| duration::seconds(report.ended_at()))),
        ("tasks lost".to_owned(), both(Report::lost)),
        ("forked".to_owned(), both(|report| thousands(report.tasks.forked))),
        ("exited".to_owned(), both(|report| thousands(report.tasks.exited))),
        ("execs".to_owned(), both(|report| thousands(report.tasks.execs))),
        ("by a non-leader".to_owned(), both(|report| thousands(report.tasks.nonleader_execs))),
    ];
    for (counter, n) in &kernel.counters.0 {
        if let Some(engines) = engine.counter(counter) {
            rows.push((counter.clone(), (thousands(*n), thousands(engines))));
        }
    }
    let mut out = format!("\n{}\n", terminal.bold("Beside the engine"));
    let width = rows.iter().map(|(title, _)| title.len() + 2).max().unwrap_or(0).max(COLUMN);
    for (title, (left, right)) in rows {
        let line = format!("  {title:<width$}{left:<COLUMN$}{right}");
        let _ = writeln!(out, "{}", line.trim_end());
    }
    if kernel.ejected() != engine.ejected() {
        let _ = writeln!(out, "{}", terminal.bad("They disagree on whether it is ejected."));
    }
    out
}

fn outcome(report: &Report) -> String {
    if report.ejected() { "EJECTED" } else { "ran to the end" }.to_owned()
}
