//! `scxlab run`.

use scxlab_engine::{Nanos, Record};

use crate::args::RunArgs;
use crate::human::{self, Hints};
use crate::output::{JsonTarget, OutputFile, Terminal};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::report::Report;
use crate::session::{self, Observer};
use crate::status::{Failure, Status};
use crate::trace::TraceWriter;

/// Runs a scheduler and reports.
///
/// # Errors
/// Something that was asked for is wrong or missing, or a file cannot be written.
pub fn run(args: &RunArgs, terminal: &mut Terminal) -> Result<Status, Failure> {
    let plan = Plan::new(args)?;
    if args.trace.is_some() && args.trace == args.json {
        return Err(Failure::wrong("--json and --trace name the same file; give two"));
    }
    if args.trace.as_deref().is_some_and(|path| path.as_os_str() == "-") {
        return Err(Failure::wrong("--trace -: a trace needs a file; give its name"));
    }
    let json = JsonTarget::open(args.json.as_deref())?;
    let trace_file = match &args.trace {
        Some(path) => Some(OutputFile::create("--trace", path)?),
        None => None,
    };
    let mut watcher = Watcher {
        progress: Progress::new(plan.duration, terminal.progress()),
        trace: match &trace_file {
            Some(file) => Some((TraceWriter::new(file.file(), plan.config.cpus), file)),
            None => None,
        },
    };
    let outcome = session::run(&plan, &mut watcher)?;
    watcher.finish()?;
    let report = Report::new(&plan, &outcome);
    if !json.is_stdout() {
        let hints = Hints {
            trace: args.trace.as_ref().map(|path| path.display().to_string()),
            dump_shown: args.dump,
        };
        let text = human::run(&plan, &report, &hints, terminal);
        terminal.print(&text);
    }
    json.write(&report, terminal)?;
    Ok(if report.ejected() { Status::Failed } else { Status::Fine })
}

struct Watcher<'a> {
    progress: Progress,
    trace: Option<(TraceWriter<&'a std::fs::File>, &'a OutputFile)>,
}

impl Watcher<'_> {
    fn finish(self) -> Result<(), Failure> {
        match self.trace {
            Some((writer, file)) => writer.finish().map_err(|err| file.failure(&err)),
            None => Ok(()),
        }
    }
}

impl Observer for Watcher<'_> {
    fn wants_records(&self) -> bool {
        self.trace.is_some()
    }

    fn records(&mut self, records: &[Record]) -> Result<(), Failure> {
        let Some((writer, file)) = &mut self.trace else { return Ok(()) };
        records
            .iter()
            .try_for_each(|record| writer.record(record))
            .map_err(|err| file.failure(&err))
    }

    fn progress(&mut self, now: Nanos) {
        self.progress.at(now);
    }
}
