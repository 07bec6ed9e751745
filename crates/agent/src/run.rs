//! One scheduler, one workload: from opening the object to the last word on how it went.

use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context as _, Result, bail, ensure};
use scxlab_engine::Program;
use scxlab_protocol::{Exit, Job, Record, Run, WorkloadSource};
use scxlab_workload::Workload;

use crate::object::{Loaded, Opened, Refusal};
use crate::play::{Options, Player};
use crate::report::Report;
use crate::{exit, kernel};

/// How often to look how the scheduler does.
const LOOK: Duration = Duration::from_millis(20);

/// How often to say what time it is.
const PROGRESS: Duration = Duration::from_secs(1);

/// How long the kernel may take to attach or detach a scheduler.
const CHANGE: Duration = Duration::from_secs(30);

/// Does it. What the kernel refuses is reported, and is no error here.
///
/// # Errors
/// The object or the workload cannot be used, this kernel cannot run any scheduler, or it could
/// not be seen how the run ended.
pub fn run(job: &Job, run: &Run, report: &Report) -> Result<()> {
    ready()?;
    let program = program(&run.workload, job.cpus)?;
    stay_on_the_cpu();
    report.doing("loading the scheduler");
    let mut opened = Opened::open(&run.object)?;
    run.set.iter().try_for_each(|setting| opened.set(setting))?;
    let native = opened.has_portable_tid().then(|| opened.kernel_has_tids());
    let flags = opened.set_flags(run.flags.as_deref())?;
    let mut loaded = match opened.load()? {
        Ok(loaded) => loaded,
        Err(refusal) => return refused(&refusal, report),
    };
    report.doing("attaching the scheduler");
    let seq = kernel::enable_seq();
    let links = match loaded.attach() {
        Ok(links) => links,
        Err(refusal) => return refused(&refusal, report),
    };
    let start = Instant::now();
    let at = |start: Instant| start.elapsed().as_nanos() as u64;
    wait_for(|| loaded.number("uei.kind").is_some_and(|kind| kind != 0) || kernel::state() == "enabled")
        .context("the scheduler does not become enabled")?;
    let name = kernel::root();
    report.say(&Record::Attached { name: name.clone(), flags, native_tid: native });

    let mut player = Player::start(&program, job.seed, &Options::default())?;
    let mut said = Instant::now();
    while kernel::state() == "enabled" && at(start) < run.duration_ns {
        if said.elapsed() >= PROGRESS {
            report.say(&Record::Progress { at_ns: at(start) });
            said = Instant::now();
        }
        thread::sleep(LOOK);
    }
    let ended = at(start);
    let events = kernel::events();
    let counters = loaded.counters();
    let tasks = player.counts();
    ensure!(tasks.forked > 0, "the workload did not start any task");
    report.doing("detaching the scheduler");
    drop(links);
    wait_for(|| kernel::state() == "disabled").context("the scheduler does not go")?;
    ensure!(kernel::enable_seq() == seq + 1, "another scheduler was attached meanwhile");
    player.stop()?;
    let exit = how_it_ended(&loaded, &name, ended)?;
    for lost in exit.dump.as_deref().map(|dump| exit::lost(dump, timeout(&loaded))).unwrap_or_default()
    {
        report.say(&Record::Lost(lost));
    }
    report.say(&Record::Exit(exit));
    report.say(&Record::Tasks(tasks));
    report.say(&Record::Counters(counters));
    report.say(&Record::Events(events));
    Ok(())
}

/// The workload as a program.
fn program(source: &WorkloadSource, cpus: usize) -> Result<Program> {
    let workload = match source {
        WorkloadSource::Builtin(name) => Workload::builtin(name, cpus)?,
        WorkloadSource::File { name, text } => Workload::parse(name, text)?,
    };
    let name = workload.name.clone();
    workload.compile(cpus).with_context(|| format!("workload {name}"))
}

/// Keeps this process running under a scheduler that runs nobody: in the real-time class, which is
/// above all others. Those that it starts are in the class that they would be in anyway. Without the
/// rights it stays where it is.
fn stay_on_the_cpu() {
    let param = libc::sched_param { sched_priority: 1 };
    // SAFETY: it reads `param`, and changes nothing but this process's class.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &param) };
}

/// Whether a scheduler can be attached now.
fn ready() -> Result<()> {
    let state = kernel::state();
    match state.as_str() {
        "disabled" => Ok(()),
        "" => bail!(
            "this kernel ({}) has no sched_ext: it needs CONFIG_SCHED_CLASS_EXT, which Linux has from \
             6.12 on",
            kernel::probe().release
        ),
        _ => bail!("the scheduler {} is there already ({state}); detach it first", kernel::root()),
    }
}

fn refused(refusal: &Refusal, report: &Report) -> Result<()> {
    report.say(&Record::Refused { what: refusal.what.to_owned(), why: refusal.why.clone() });
    Ok(())
}

fn how_it_ended(loaded: &Loaded, name: &str, at_ns: u64) -> Result<Exit> {
    exit::recorded(loaded, at_ns)
        .or_else(|| exit::logged(&exit::kernel_log(), name, at_ns))
        .context("the scheduler is gone, and neither it nor the kernel's log says why")
}

/// After how long without running a task counts as lost.
fn timeout(_loaded: &Loaded) -> u64 {
    5_000_000_000
}

fn wait_for(mut done: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !done() {
        ensure!(start.elapsed() < CHANGE, "not within {} s", CHANGE.as_secs());
        thread::sleep(LOOK);
    }
    Ok(())
}

/// Where the kernel says how many tasks it has.
pub fn kernel_tasks() -> Option<u64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}
