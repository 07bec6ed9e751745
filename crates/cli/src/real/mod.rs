//! `scxlab run` on a real kernel: in a VM, or on the host.
//!
//! The agent does the work there; here its [`Job`](scxlab_protocol::Job) is made up, and its
//! [`Record`](scxlab_protocol::Record)s become the same [`Report`] that the
//! engine gives.

mod claims;
mod demo;
mod guest;
mod host;
mod interrupt;
mod place;
mod plan;
mod session;
mod text;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use scxlab_engine::Nanos;

use crate::args::RunArgs;
use crate::human::{self, Hints};
use crate::output::{JsonTarget, Terminal, aside};
use crate::plan::Plan;
use crate::report::Report;
use crate::session::{Observer, Session};
use crate::status::{Failure, Status};

pub(crate) use claims::{Claims, ClaimsPlan};
pub use demo::demo;
pub use plan::RealPlan;

/// Runs a scheduler on a real kernel, and, if the engine has it too, on the engine; reports both.
///
/// # Errors
/// Something that was asked for is wrong or missing, or the run says nothing: the scheduler was
/// not attached all the time, or the workload did not run.
pub fn run(args: &RunArgs, terminal: &mut Terminal) -> Result<Status, Failure> {
    let plan = RealPlan::new(args)?;
    let json = output(args, &plan)?;
    let outcome = session::run(&plan, terminal)?;
    let mut report = outcome.report(&plan);
    match &plan.engine {
        Ok(plan) => {
            let engine = on_the_engine(plan, &interrupt::flag())?;
            // A compiled scheduler's numbers are not all counters; those that the engine counts are.
            report.counters.0.retain(|(name, _)| engine.counter(name).is_some());
            report.engine = Some(Box::new(engine));
        }
        Err(why) => aside(format_args!("the engine cannot run it, to be put beside this: {why}")),
    }
    if !json.is_stdout() {
        let hints = Hints { traceable: false, trace: None, dump_shown: args.dump };
        let mut text = human::run(&plan.title, &report, &hints, terminal);
        if let Some(engine) = &report.engine {
            text.push_str(&text::side_by_side(&report, engine, terminal));
        }
        terminal.print(&text);
    }
    json.write(&report, terminal)?;
    Ok(if report.ejected() { Status::Failed } else { Status::Fine })
}

/// Opens the file that the run writes. It may be none that the run reads.
fn output(args: &RunArgs, plan: &RealPlan) -> Result<JsonTarget, Failure> {
    let mut inputs =
        vec![("workload", Path::new(&args.workload)), ("scheduler", plan.object.as_path())];
    inputs.extend(plan.place.image().map(|image| ("kernel", image)));
    JsonTarget::sparing(&inputs, args.json.as_deref())
}

/// The same on the engine, unless somebody wants to stop.
fn on_the_engine(plan: &Plan, interrupt: &AtomicBool) -> Result<Report, Failure> {
    struct Listener<'a>(&'a AtomicBool);
    impl Observer for Listener<'_> {
        fn progress(&mut self, _: Nanos) -> Result<(), Failure> {
            match self.0.load(Ordering::Relaxed) {
                true => Err(Failure::missing(
                    "interrupted, while the engine ran the same to put it beside the kernel's run",
                )),
                false => Ok(()),
            }
        }
    }
    let outcome = Session::new(plan)?.run(&mut Listener(interrupt))?;
    Ok(Report::new(plan, &outcome))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};
    use crate::status::Status;

    #[test]
    fn an_interrupt_is_heard_while_the_engine_runs() {
        // It would take very long.
        let words = "scxlab run simple --workload exit-storm --cpus 64 --duration 86400s";
        let Command::Run(args) = Cli::parse_from(words.split(' ')).command else {
            panic!("it is a run")
        };
        let plan = Plan::new(&args).expect("it can be run");
        let interrupt = AtomicBool::new(false);
        let stopped = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(std::time::Duration::from_millis(100));
                interrupt.store(true, Ordering::Relaxed);
            });
            on_the_engine(&plan, &interrupt)
        });
        let failure = stopped.expect_err("it is stopped");
        assert_eq!(failure.status, Status::Missing);
        assert!(failure.message.starts_with("interrupted"), "{failure}");
    }
}
