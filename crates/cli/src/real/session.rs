//! A run on a real kernel: the agent's records, from its first to its last, and what they add up to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use scxlab_engine::{ExitKind, Nanos};
use scxlab_protocol::{Counts, Exit, Kernel, Lost, Record, TidCounts};
use scxlab_vm::Machine;

use super::guest;
use super::host::Host;
use super::place::Where;
use super::plan::{OBJECT, RealPlan};
use crate::output::{Terminal, aside};
use crate::prog_run::{ProgRun, hex};
use crate::progress::Progress;
use crate::report::{
    ExitPart, Pairs, PrintedPart, ProgRunPart, Report, SchedulerPart, StalledPart, TasksPart,
    TidPart,
};
use crate::status::Failure;

/// The least kind of exit that is an ejection.
const SCX_EXIT_ERROR: u64 = ExitKind::Error as u64;

/// The kind of exit that a scheduler asks for itself.
const SCX_EXIT_UNREG_BPF: u64 = ExitKind::UnregBpf as u64;

/// What to do where a scheduler asks for `CONFIG_*` and nobody knows them.
const NO_CONFIG: &str = "\nit asks for the kernel's configuration, which is not here: `scxlab kernels fetch \
                         VERSION` gets it with the kernel; beside an image of your own, name it config-RELEASE";

/// What the agent said, all together.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    kernel: Kernel,
    flags: Vec<String>,
    exit: Exit,
    tasks: Counts,
    tids: TidCounts,
    lost: Vec<Lost>,
    all_lost: bool,
    leaked: Option<u64>,
    counters: BTreeMap<String, u64>,
    events: BTreeMap<String, u64>,
    prog_runs: Vec<ProgRunPart>,
}

/// What has been said so far.
#[derive(Default)]
struct Heard {
    flags: Option<Vec<String>>,
    exit: Option<Exit>,
    tasks: Option<Counts>,
    tids: TidCounts,
    lost: Vec<Lost>,
    all_lost: bool,
    leaked: Option<u64>,
    counters: BTreeMap<String, u64>,
    events: BTreeMap<String, u64>,
    /// By their places in the job.
    prog_runs: BTreeMap<usize, Ran>,
    notes: Vec<String>,
}

/// What became of a program that was run.
struct Ran {
    at_ns: Option<u64>,
    retval: u32,
    context: Vec<u8>,
}

/// Runs it to its end.
pub(super) fn run(plan: &RealPlan, terminal: &Terminal) -> Result<Outcome, Failure> {
    match &plan.place {
        Where::Vm(machine, kernel) => in_a_vm(plan, machine, kernel, terminal),
        Where::Host => on_the_host(plan, terminal),
    }
}

fn in_a_vm(
    plan: &RealPlan,
    machine: &Machine,
    kernel: &scxlab_kernels::Kernel,
    terminal: &Terminal,
) -> Result<Outcome, Failure> {
    let mut files = vec![(PathBuf::from(OBJECT), plan.object.clone())];
    // Where libbpf looks for CONFIG_*.
    let there = PathBuf::from(format!("/boot/config-{}", kernel.release));
    files.extend(kernel.config.clone().map(|here| (there, here)));
    let mut guest = guest::boot(machine, plan.job.clone(), files)?;
    let kernel = guest.kernel().clone();
    listen(kernel, || guest.next().map_err(Failure::missing), plan, terminal)
}

fn on_the_host(plan: &RealPlan, terminal: &Terminal) -> Result<Outcome, Failure> {
    let mut host = Host::start(&plan.job)?;
    let kernel = host.kernel().clone();
    listen(kernel, || host.next(), plan, terminal)
}

/// Takes one record after the other, up to the last.
fn listen(
    kernel: Kernel,
    mut next: impl FnMut() -> Result<Option<Record>, Failure>,
    plan: &RealPlan,
    terminal: &Terminal,
) -> Result<Outcome, Failure> {
    let heard = hear(&kernel, &mut next, plan, terminal)?;
    for note in &heard.notes {
        aside(note);
    }
    heard.conclude(kernel, plan)
}

fn hear(
    kernel: &Kernel,
    next: &mut dyn FnMut() -> Result<Option<Record>, Failure>,
    plan: &RealPlan,
    terminal: &Terminal,
) -> Result<Heard, Failure> {
    let mut heard = Heard::default();
    let total = Nanos(plan.duration.as_nanos() as u64);
    let mut progress = Progress::new(total, terminal.progress());
    while let Some(record) = next()? {
        match record {
            Record::Progress { at_ns } => progress.at(Nanos(at_ns)),
            Record::Attached { flags, .. } => heard.flags = Some(flags),
            Record::Exit(exit) => heard.exit = Some(exit),
            Record::Tasks(tasks) => heard.tasks = Some(tasks),
            Record::Tids(tids) => heard.tids = tids,
            Record::Lost(lost) => heard.lost.push(lost),
            Record::LostEnd => heard.all_lost = true,
            Record::Leaked { tasks } => heard.leaked = Some(tasks),
            Record::Counters(counters) => heard.counters = counters,
            Record::Events(events) => heard.events = events,
            Record::Refused { what, why } => {
                let name = &plan.title;
                let kernel = &kernel.release;
                // libbpf's words.
                let hint = match why.contains("failed to open system Kconfig") {
                    true => NO_CONFIG,
                    false => "",
                };
                return Err(Failure::failed(format_args!(
                    "{name}: Linux {kernel} refuses to {what} it: {why}{hint}"
                )));
            }
            Record::Wrong { why } => {
                let object = plan.object.display();
                return Err(Failure::wrong(format_args!("{object}: {why}")));
            }
            Record::Failed { why } => return Err(Failure::missing(why)),
            Record::ProgRan { number, at_ns, retval, context } => {
                heard.prog_runs.insert(number, Ran { at_ns, retval, context: context.0 });
            }
            Record::Note { text } => heard.notes.push(text),
            Record::Hello(_)
            | Record::Doing { .. }
            | Record::Claim(_)
            | Record::Cost(_)
            | Record::TestRuns { .. }
            | Record::Done => {}
        }
    }
    Ok(heard)
}

impl Heard {
    /// All of it, unless something is missing without which the run says nothing.
    fn conclude(self, kernel: Kernel, plan: &RealPlan) -> Result<Outcome, Failure> {
        let nothing = |what: &str| {
            Failure::missing(format_args!("{}: nothing was tested: {what}", plan.title))
        };
        let flags = self.flags.ok_or_else(|| nothing("the scheduler was never attached"))?;
        let exit = self.exit.ok_or_else(|| nothing("the agent did not say how it ended"))?;
        let ended = Duration::from_nanos(exit.at_ns);
        let forked = self.tasks.map_or(0, |tasks| tasks.forked);
        let had_enough = exit.kind == SCX_EXIT_UNREG_BPF && forked > 0;
        if exit.kind < SCX_EXIT_ERROR && ended < plan.duration && !had_enough {
            let (ended, reason, kind) = (ended.as_secs_f64(), &exit.reason, exit.kind);
            let said = if exit.msg.is_empty() { String::new() } else { format!(": {}", exit.msg) };
            return Err(nothing(&format!(
                "the scheduler left after {ended:.1} s, by itself: {reason}{said} (exit kind {kind})"
            )));
        }
        let tasks = self.tasks.filter(|tasks| tasks.forked > 0 || exit.kind >= SCX_EXIT_ERROR);
        let tasks = tasks.ok_or_else(|| nothing("the workload did not run"))?;
        Ok(Outcome {
            kernel,
            flags,
            exit,
            tasks,
            tids: self.tids,
            lost: self.lost,
            all_lost: self.all_lost,
            leaked: self.leaked,
            counters: self.counters,
            events: self.events,
            prog_runs: prog_runs(plan, &self.prog_runs),
        })
    }
}

/// As the engine reports them: those that did not come to run returned nothing.
fn prog_runs(plan: &RealPlan, ran: &BTreeMap<usize, Ran>) -> Vec<ProgRunPart> {
    let part = |(number, asked): (usize, &ProgRun)| match ran.get(&number) {
        Some(Ran { at_ns, retval, context }) => ProgRunPart {
            name: asked.name.clone(),
            at_ns: *at_ns,
            retval: Some(*retval),
            context: (*context != asked.context).then(|| hex(context)),
        },
        None => ProgRunPart {
            name: asked.name.clone(),
            at_ns: asked.at.map(|at| at.0),
            retval: None,
            context: None,
        },
    };
    plan.prog_run.iter().enumerate().map(part).collect()
}

impl Outcome {
    /// As the engine would report it.
    pub(super) fn report(self, plan: &RealPlan) -> Report {
        let Self { kernel, flags, exit, tasks, tids, lost, all_lost, leaked, .. } = self;
        let Self { counters, events, prog_runs, .. } = self;
        let key = plan.options.iter().find(|(key, _)| key == "key").map(|(_, value)| value.clone());
        let stalled = lost.iter().map(|task| StalledPart {
            comm: task.comm.clone(),
            pid: task.pid,
            tid: task.tid,
            runnable_for_ns: task.runnable_for_ns,
            explanation: None,
        });
        Report {
            scheduler: SchedulerPart {
                name: plan.scheduler.clone(),
                key,
                flags,
                options: Pairs(plan.options.clone()),
            },
            backend: plan.place.backend(),
            kernel: Some(kernel.release),
            seed: plan.job.seed,
            cpus: kernel.cpus,
            duration_ns: plan.duration.as_nanos() as u64,
            exit: ExitPart {
                // A scheduler writes it, of whatever size. Its lower half alone might be no error.
                kind: u32::try_from(exit.kind).unwrap_or(u32::MAX),
                reason: exit.reason,
                msg: exit.msg,
                at_ns: exit.at_ns,
            },
            tasks: TasksPart {
                forked: tasks.forked,
                exited: tasks.exited,
                execs: tasks.execs,
                nonleader_execs: tasks.nonleader_execs,
                lost: all_lost.then_some(lost.len() as u64),
                forks_failed: tasks.forks_failed,
                leaked: Some(leaked),
            },
            tid: TidPart {
                issued: tids.issued,
                inserted: tids.inserted,
                removed: tids.removed,
                lookups: tids.lookups,
                misses: tids.misses,
                live: tids.live,
            },
            stalled: stalled.collect(),
            counters: Pairs(counters.into_iter().collect()),
            events: Pairs(events.into_iter().collect()),
            prog_runs,
            late_faults: Vec::new(),
            printed: PrintedPart::default(),
            maps: Pairs(Vec::new()),
            interleave: None,
            workload: plan.workload.clone(),
            dump: exit.dump,
            engine: None,
        }
    }
}
