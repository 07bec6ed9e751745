//! Runs lanes and reports on them.

use std::env;
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::lanes::{Lane, What, When};
use crate::needs::Need;
use crate::{Options, bpf, hygiene, kernels};

/// What became of a lane.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

/// What became of every lane, in order.
pub struct Report(Vec<(&'static str, Outcome, Duration)>);

/// Runs every one of `lanes`, also after one failed.
pub fn run(root: &Path, lanes: &[&Lane], options: Options) -> Report {
    Report(
        lanes
            .iter()
            .map(|lane| {
                let start = Instant::now();
                let outcome = run_lane(root, lane, options);
                (lane.name, outcome, start.elapsed())
            })
            .collect(),
    )
}

fn run_lane(root: &Path, lane: &Lane, options: Options) -> Outcome {
    if lane.when == When::Slow && !(options.slow || options.ci) {
        return Outcome::Skipped("slow; --slow runs it".to_owned());
    }
    for need in lane.needs {
        if let Err(why) = meet(need, options) {
            // In CI a lane that silently stops running would look like one that passes.
            return if options.ci {
                Outcome::Failed(format!("cannot run: {why}"))
            } else {
                Outcome::Skipped(why)
            };
        }
    }
    println!("\n==== {} ====", lane.name);
    let result = match &lane.what {
        What::Cargo { args, env } => cargo(root, args, env),
        What::Hygiene => hygiene::check(root),
        What::Compiled => bpf::test(root, options.install),
        What::Kernels => kernels::test(root, options.install),
    };
    match result {
        Ok(()) => Outcome::Passed,
        Err(error) => Outcome::Failed(format!("{error:#}")),
    }
}

/// Sees to it that the machine has `need`, or says why it has not.
fn meet(need: &Need, options: Options) -> Result<(), String> {
    if need.is_met() {
        return Ok(());
    }
    if !options.install {
        return Err(format!(
            "needs {}: `{}` gets it, and so does --install",
            need.name, need.source
        ));
    }
    need.install().map_err(|error| format!("needs {}: {error:#}", need.name))
}

/// Runs cargo, and shows with what.
pub fn cargo(root: &Path, args: &[&str], env: &[(&str, &str)]) -> Result<()> {
    // The cargo that runs us, not whichever is first in the path.
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let vars = env.iter().map(|(name, value)| format!("{name}='{value}' "));
    let shown = format!("{}cargo {}", vars.collect::<String>(), args.join(" "));
    println!("{shown}");
    let status = Command::new(cargo)
        .args(args)
        .envs(env.iter().copied())
        .current_dir(root)
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "`{shown}`: {status}");
    Ok(())
}

impl Report {
    /// How many lanes failed.
    pub fn failed(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    fn count(&self, is: impl Fn(&Outcome) -> bool) -> usize {
        self.0.iter().filter(|(_, outcome, _)| is(outcome)).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n==== summary ====")?;
        let width = self.0.iter().map(|(name, ..)| name.len() + 2).max().unwrap_or(0);
        for (name, outcome, time) in &self.0 {
            let time = time.as_secs_f64();
            match outcome {
                Outcome::Passed => writeln!(f, "{name:<width$}passed   {time:.1} s")?,
                Outcome::Failed(why) => writeln!(f, "{name:<width$}failed   {why}")?,
                Outcome::Skipped(why) => writeln!(f, "{name:<width$}skipped  {why}")?,
            }
        }
        let passed = self.count(|outcome| *outcome == Outcome::Passed);
        let skipped = self.count(|outcome| matches!(outcome, Outcome::Skipped(_)));
        writeln!(f, "{passed} passed, {} failed, {skipped} skipped", self.failed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::needs::Source;

    const ABSENT: Need = Need {
        name: "a thing",
        probe: &["no-such-program-anywhere"],
        source: Source::Rustup("thing"),
    };

    fn lane(when: When, needs: &'static [Need], args: &'static [&'static str]) -> Lane {
        Lane { name: "lane", when, needs, what: What::Cargo { args, env: &[] } }
    }

    fn outcome(lane: &Lane, options: Options) -> Outcome {
        run_lane(Path::new("."), lane, options)
    }

    #[test]
    fn a_missing_need_skips_a_lane_and_fails_it_in_ci() {
        let lane = lane(When::Both, &[ABSENT], &["--version"]);
        let why = "needs a thing: `rustup component add thing` gets it, and so does --install";
        assert_eq!(outcome(&lane, Options::default()), Outcome::Skipped(why.to_owned()));
        assert_eq!(
            outcome(&lane, Options { ci: true, ..Options::default() }),
            Outcome::Failed(format!("cannot run: {why}"))
        );
    }

    #[test]
    fn slow_lanes_run_when_asked_for_and_in_ci() {
        let lane = lane(When::Slow, &[], &["--version"]);
        let skipped = Outcome::Skipped("slow; --slow runs it".to_owned());
        assert_eq!(outcome(&lane, Options::default()), skipped);
        for (ci, slow) in [(true, false), (false, true)] {
            let options = Options { ci, slow, ..Options::default() };
            assert_eq!(outcome(&lane, options), Outcome::Passed);
        }
    }

    #[test]
    fn a_failure_says_why() {
        let lane = Lane { name: "lane", when: When::Both, needs: &[], what: What::Hygiene };
        let Outcome::Failed(why) = run_lane(Path::new("no/such"), &lane, Options::default()) else {
            panic!("there is such a directory");
        };
        assert!(why.starts_with("cannot list no/such"), "{why}");
    }

    #[test]
    fn the_summary_is_the_last_line() {
        let report = Report(vec![
            ("a", Outcome::Passed, Duration::ZERO),
            ("b", Outcome::Skipped("why".to_owned()), Duration::ZERO),
            ("c", Outcome::Failed("what".to_owned()), Duration::ZERO),
            ("a-long-one", Outcome::Passed, Duration::ZERO),
        ]);
        assert!(report.to_string().contains("\na           passed   0.0 s\n"), "{report}");
        assert!(report.to_string().contains("\na-long-one  passed   0.0 s\n"), "{report}");
        assert_eq!(report.to_string().lines().last(), Some("2 passed, 1 failed, 1 skipped"));
        assert_eq!(report.failed(), 1);
    }
}
