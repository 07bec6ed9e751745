//! From the command line to a run on a real kernel.

use std::path::PathBuf;
use std::time::Duration;

use scxlab_engine::Nanos;
use scxlab_protocol::{Bytes, Job, Run, Setting, Task, WorkloadSource};
use scxlab_workload::Workload;

use super::place::Where;
use crate::args::RunArgs;
use crate::objects;
use crate::plan::{self, Plan};
use crate::prog_run::{self, ProgRun};
use crate::status::Failure;

/// Where the agent finds the scheduler in a VM.
pub(super) const OBJECT: &str = "/scheduler.bpf.o";

/// All that a run on a real kernel needs.
#[derive(Clone, Debug)]
pub struct RealPlan {
    /// The scheduler's name, as it was given.
    pub scheduler: String,
    /// The scheduler with the options that were set.
    pub title: String,
    /// All its options with their values, as far as they are known.
    pub options: Vec<(String, String)>,
    /// The workload's name.
    pub workload: String,
    /// What the agent is to do.
    pub job: Job,
    /// Programs to run, as they were asked for.
    pub prog_run: Vec<ProgRun>,
    /// How long the scheduler is to stay attached.
    pub duration: Duration,
    /// The compiled scheduler.
    pub object: PathBuf,
    /// Where.
    pub place: Where,
    /// The same run on the engine, or why the engine cannot run the scheduler.
    pub engine: Result<Plan, String>,
}

impl RealPlan {
    /// What `scxlab run --on vm:KERNEL` or `--on host` was asked for.
    ///
    /// # Errors
    /// The scheduler, the workload, the kernel or the machine is not as it should be.
    pub fn new(args: &RunArgs) -> Result<Self, Failure> {
        if args.trace.is_some() {
            return Err(Failure::wrong(
                "--trace: a real kernel's trace is not written; leave it out, or give --on engine",
            ));
        }
        if let Some(version) = args.kernel_abi {
            return Err(Failure::wrong(format_args!(
                "--kernel-abi {version}: a real kernel is the version that it is; leave it out, or \
                 give --on engine"
            )));
        }
        if let Some(interleave) = args.interleave {
            return Err(Failure::wrong(format_args!(
                "--interleave {interleave}: a real kernel's CPUs overlap as they do; leave it out, or \
                 give --on engine"
            )));
        }
        if let Some(map) = args.dump_map.first() {
            return Err(Failure::wrong(format_args!(
                "--dump-map {map}: what a real kernel has in a map is not read; leave it out, or give \
                 --on engine"
            )));
        }
        let is_file = plan::is_file(&args.scheduler);
        let object = match is_file {
            true => objects::named(&args.scheduler)?,
            false => {
                // Refuses unknown names, keys and values as the engine does.
                plan::builtin(&args.scheduler, &args.set)?;
                objects::builtin(&args.scheduler)?
            }
        };
        let place = Where::new(args)?;
        let cpus = place.cpus();
        let (workload, text) = plan::workload(&args.workload, cpus)?;
        let duration = plan::run_time(args.duration, &workload)?;
        prog_run::check_times(&args.prog_run, duration)?;
        // What cannot be compiled is refused here, and not by a guest.
        plan::compile(&workload, cpus)?;
        let engine = engine_plan(args, &place, duration, workload.clone());
        let engine = match is_file {
            true => engine.map_err(|err| err.message),
            false => Ok(engine?),
        };
        // Of a file's scheduler it is not known what it has beyond what was set.
        let set = || args.set.iter().map(|set| (set.key.clone(), set.value.clone())).collect();
        let options: Vec<(String, String)> =
            engine.as_ref().map_or_else(|_| set(), |plan| plan.options.clone());
        // A built-in scheduler's options decide its flags.
        let twin = engine.as_ref().ok().filter(|_| !is_file);
        let flags = twin.map(|plan| plan::flags(&*plan.scheduler));
        let set = options
            .iter()
            .map(|(name, value)| Setting { name: name.clone(), value: value.clone() });
        let task = Task::Run(Run {
            object: if place.is_vm() { PathBuf::from(OBJECT) } else { object.clone() },
            ops: args.ops.clone(),
            with: args.with.clone(),
            without: args.without.clone(),
            set: set.collect(),
            prog_runs: args.prog_run.iter().map(asked).collect(),
            flags,
            workload: source(&args.workload, text),
            duration_ns: duration.0,
        });
        let name = plan::file_name(&args.scheduler);
        Ok(Self {
            title: plan::title(&name, &args.set),
            scheduler: name,
            options,
            workload: workload.name,
            prog_run: args.prog_run.clone(),
            job: Job { task, seed: args.seed, cpus },
            duration: Duration::from_nanos(duration.0),
            object,
            place,
            engine,
        })
    }
}

fn engine_plan(
    args: &RunArgs,
    place: &Where,
    duration: Nanos,
    workload: Workload,
) -> Result<Plan, Failure> {
    let mut args = args.clone();
    args.duration = Some(duration);
    args.machine.cpus = Some(place.cpus() as u64);
    if args.compiled || plan::is_file(&args.scheduler) {
        args.kernel_abi = Some(place.version()?);
    }
    Plan::with(&args, workload)
}

/// A program to run, as the agent gets it.
fn asked(run: &ProgRun) -> scxlab_protocol::ProgRun {
    let ProgRun { name, context, at } = run.clone();
    scxlab_protocol::ProgRun { name, context: Bytes(context), at_ns: at.map(|at| at.0) }
}

/// The workload as the agent gets it, with its text if it is a file's.
fn source(name: &str, text: Option<String>) -> WorkloadSource {
    let name = name.to_owned();
    match text {
        Some(text) => WorkloadSource::File { name, text },
        None => WorkloadSource::Builtin(name),
    }
}
