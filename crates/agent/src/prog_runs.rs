//! Programs that are run as the scheduler's user space would: before the attach, and at times after it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use scxlab_protocol::{Bytes, ProgRun, Record};

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
            let retval = on_the_first_cpu(|| loaded.run(&asked.name, &mut context))??;
            report.say(&Record::ProgRan { number, at_ns: now, retval, context: Bytes(context) });
        }
        Ok(())
    }
}

/// Does something on the first of the CPUs that this thread may use: there are programs that want to
/// run on one that they are told, and on the engine too it is the first.
fn on_the_first_cpu<R>(f: impl FnOnce() -> R) -> Result<R> {
    const SELF: Pid = Pid::from_raw(0);
    let mine = sched_getaffinity(SELF).context("the CPUs that this may run on")?;
    let mut first = CpuSet::new();
    let cpu = (0..CpuSet::count()).find(|&cpu| mine.is_set(cpu) == Ok(true));
    cpu.map_or(Ok(()), |cpu| first.set(cpu))
        .and_then(|()| sched_setaffinity(SELF, &first))
        .context("it cannot run on the first CPU alone")?;
    let result = f();
    sched_setaffinity(SELF, &mine).context("it cannot run on its CPUs again")?;
    Ok(result)
}
