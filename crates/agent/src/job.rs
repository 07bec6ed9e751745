//! A job, from its file to its last record.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use scxlab_protocol::{Hello, Job, Record, Task};

use crate::object::Wrong;
use crate::report::Report;
use crate::{claims, cost, kernel, run, test_run};

/// Does the job in `file`. The last record is [`Record::Done`], whatever happened.
pub fn run(file: &Path, report: &Report) {
    report.say(&Record::Hello(Hello::on(kernel::probe())));
    if let Err(err) = load(file).and_then(|job| perform(&job, report)) {
        let why = format!("{err:#}");
        report.say(&match err.is::<Wrong>() {
            true => Record::Wrong { why },
            false => Record::Failed { why },
        });
    }
    report.say(&Record::Done);
}

fn load(file: &Path) -> Result<Job> {
    let name = file.display();
    let text = fs::read(file).with_context(|| format!("{name}: cannot read it"))?;
    serde_json::from_slice(&text).with_context(|| format!("{name}: not a job"))
}

fn perform(job: &Job, report: &Report) -> Result<()> {
    match &job.task {
        Task::Cost(plan) => cost::measure(job, plan, report),
        Task::Probe => Ok(()),
        Task::TestRun { programs } => test_run::run(programs, report),
        Task::Run(task) => run::run(job, task, report),
        Task::Claims { objects, only } => claims::check(job, objects, only, report),
    }
}
