//! Programs that are run as the scheduler's user space would: before the attach, and at times after it.

use std::time::Duration;

use anyhow::Result;
use scxlab_protocol::{Bytes, ProgRun, Record};

use crate::affinity;
use crate::object::{Loaded, Opened, Wrong};
use crate::report::Report;

/// Those of a run that have not come yet, in the order in which they come.
pub struct ProgRuns<'a> {
    /// With their places in the job.
    waiting: Vec<(usize, &'a ProgRun)>,
}

impl<'a> ProgRuns<'a> {
    /// All of a job.
    ///
    /// # Errors
    /// A program is not there, or is none that user space can have run.
    pub fn new(asked: &'a [ProgRun], opened: &Opened) -> Result<Self, Wrong> {
        for ProgRun { name, .. } in asked {
            if !opened.has_syscall(name) {
                let why = "there is no such program of the kind syscall that is loaded";
                return Err(Wrong(format!("--prog-run {name}: {why}")));
            }
        }
        let mut waiting: Vec<_> = asked.iter().enumerate().collect();
        waiting.sort_by_key(|(_, asked)| asked.at_ns);
        Ok(Self { waiting })
    }

    /// Runs those that come before the attach.
    ///
    /// # Errors
    /// One cannot be run.
    pub fn before(&mut self, loaded: &mut Loaded, report: &Report) -> Result<()> {
        self.run(loaded, report, None)
    }

    /// Runs those whose time has come, so long after the attach.
    ///
    /// # Errors
    /// One cannot be run.
    pub fn after(&mut self, loaded: &mut Loaded, report: &Report, now: Duration) -> Result<()> {
        self.run(loaded, report, Some(now.as_nanos() as u64))
    }

    /// How long after the attach the next one comes.
    pub fn next(&self) -> Option<Duration> {
        let (_, asked) = self.waiting.first()?;
        asked.at_ns.map(Duration::from_nanos)
    }

    fn run(&mut self, loaded: &mut Loaded, report: &Report, now: Option<u64>) -> Result<()> {
        // Nothing is less than any time.
        while let Some(&(number, asked)) = self.waiting.first()
            && asked.at_ns <= now
        {
            self.waiting.remove(0);
            let mut context = asked.context.0.clone();
            // There are programs that want to run on a CPU that they are told; on the engine too it is
            // the first.
            let cpus = affinity::allowed()?;
            let first = &cpus[..cpus.len().min(1)];
            let retval = affinity::on(first, || loaded.run(&asked.name, &mut context))??;
            report.say(&Record::ProgRan { number, at_ns: now, retval, context: Bytes(context) });
        }
        Ok(())
    }
}
