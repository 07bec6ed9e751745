//! `scxlab run`.

use std::path::Path;

use scxlab_engine::{Nanos, Record};

use crate::args::RunArgs;
use crate::human::{self, Hints};
use crate::output::{JsonTarget, OutputFile, Terminal, same_file, spare};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::report::Report;
use crate::session::{Observer, Session};
use crate::status::{Failure, Status};
use crate::trace::TraceWriter;

/// Runs a scheduler and reports.
///
/// # Errors
/// Something that was asked for is wrong or missing, or a file cannot be written.
pub fn run(args: &RunArgs, terminal: &mut Terminal) -> Result<Status, Failure> {
    let plan = Plan::new(args)?;
    let session = Session::new(&plan)?;
    let (json, trace_file) = outputs(args)?;
    let mut watcher = Watcher {
        progress: Progress::new(plan.duration, terminal.progress()),
        trace: trace_file
            .as_ref()
            .map(|file| (TraceWriter::new(file.file(), plan.config.cpus), file)),
    };
    let outcome = session.run(&mut watcher)?;
    watcher.finish()?;
    let report = Report::new(&plan, &outcome);
    if !json.is_stdout() {
        let hints = Hints {
            traceable: true,
            trace: args.trace.as_ref().map(|path| path.display().to_string()),
            dump_shown: args.dump,
        };
        let text = human::run(&plan.title(), &report, &hints, terminal);
        terminal.print(&text);
    }
    json.write(&report, terminal)?;
    let failed = report.ejected() || !report.late_faults.is_empty();
    Ok(if failed { Status::Failed } else { Status::Fine })
}

/// Opens the files that the run writes. None of them may be another one or the workload.
fn outputs(args: &RunArgs) -> Result<(JsonTarget, Option<OutputFile>), Failure> {
    let workload = Path::new(&args.workload);
    let scheduler = Path::new(&args.scheduler);
    let json_file = args.json.as_deref().filter(|path| path.as_os_str() != "-");
    let trace = args.trace.as_deref();
    if trace.is_some_and(|path| path.as_os_str() == "-") {
        return Err(Failure::wrong("--trace -: a trace needs a file; give its name"));
    }
    for (option, path) in [("--json", json_file), ("--trace", trace)] {
        if let Some(path) = path {
            spare(&[("workload", workload), ("scheduler", scheduler)], option, path)?;
        }
    }
    let json = JsonTarget::open(args.json.as_deref())?;
    if let (Some(json), Some(trace)) = (json_file, trace)
        && (json == trace || same_file(json, trace))
    {
        return Err(Failure::wrong("--json and --trace name the same file; give two"));
    }
    let trace_file = trace.map(|path| OutputFile::create("--trace", path)).transpose()?;
    Ok((json, trace_file))
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
    fn records(&mut self, records: &[Record]) -> Result<(), Failure> {
        let Some((writer, file)) = &mut self.trace else { return Ok(()) };
        records
            .iter()
            .try_for_each(|record| writer.record(record))
            .map_err(|err| file.failure(&err))
    }

    fn progress(&mut self, now: Nanos) -> Result<(), Failure> {
        self.progress.at(now);
        Ok(())
    }
}
