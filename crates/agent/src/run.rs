//! One scheduler, one workload: from opening the object to the last word on how it went.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use scxlab_engine::Program;
use scxlab_protocol::{Exit, Job, Record, Run, TidCounts, WorkloadSource};
use scxlab_workload::Workload;

use crate::leak::Baseline;
use crate::object::{Loaded, Opened, Refusal};
use crate::play::{Options, Player};
use crate::report::Report;
use crate::{dump, exit, kernel};

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
    let baseline = Baseline::take();
    stay_on_the_cpu();
    report.doing("loading the scheduler");
    let mut opened = Opened::open(&run.object)?;
    run.set.iter().try_for_each(|setting| opened.set(setting))?;
    let native = opened.has_portable_tid().then(|| opened.kernel_has_tids());
    let flags = opened.set_flags(run.flags.as_deref())?;
    let timeout_ns = opened.timeout_ns()?;
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
    wait_for(|| {
        loaded.number("uei.kind").is_some_and(|kind| kind != 0) || kernel::state() == "enabled"
    })
    .context("the scheduler does not become enabled")?;
    let name = kernel::root();
    report.say(&Record::Attached { name: name.clone(), flags, native_tid: native });

    let mut player = Player::start(&program, job.seed, &Options::default())?;
    let mut said = Instant::now();
    let end = Duration::from_nanos(run.duration_ns);
    while kernel::state() == "enabled" && start.elapsed() < end {
        if said.elapsed() >= PROGRESS {
            report.say(&Record::Progress { at_ns: at(start) });
            said = Instant::now();
        }
        thread::sleep(LOOK.min(end.saturating_sub(start.elapsed())));
    }
    let ended = at(start);
    let dump = if kernel::state() == "enabled" { dump::on_request() } else { None };
    let events = kernel::events();
    let mut counters = loaded.counters();
    let tids = tids(&mut counters);
    let tasks = player.counts();
    ensure!(tasks.forked > 0, "the workload did not start any task");
    let refusals = player.refusals();
    report.doing("detaching the scheduler");
    drop(links);
    wait_for(|| kernel::state() == "disabled").context("the scheduler does not go")?;
    ensure!(kernel::enable_seq() == seq + 1, "another scheduler was attached meanwhile");
    player.stop()?;
    drop(player);
    let exit = how_it_ended(&loaded, &name, ended)?;
    for refusal in refusals {
        report.say(&Record::Note { text: refusal.to_string() });
    }
    match exit.dump.as_deref().or(dump.as_deref()) {
        Some(dump) => dump::lost(dump, timeout_ns)
            .into_iter()
            .for_each(|lost| report.say(&Record::Lost(lost))),
        None => report.say(&Record::Note {
            text: "lost tasks cannot be told: the kernel gives no debug dump".to_owned(),
        }),
    }
    report.say(&Record::Tids(tids));
    drop(loaded);
    if let Some(tasks) = baseline.and_then(Baseline::leaked) {
        report.say(&Record::Leaked { tasks });
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

/// What the portable tid has counted, if it is in use. On a kernel with tids of its own it is not,
/// and the kernel does not count.
fn tids(counters: &mut BTreeMap<String, u64>) -> TidCounts {
    let mut take = |name: &str| counters.remove(name);
    let (issued, inserted, removed) =
        (take("scx_tid_issued"), take("scx_tid_inserted"), take("scx_tid_removed"));
    match issued {
        Some(1..) => TidCounts {
            issued,
            inserted,
            removed,
            live: inserted.zip(removed).map(|(inserted, removed)| inserted.saturating_sub(removed)),
            ..TidCounts::default()
        },
        _ => TidCounts::default(),
    }
}

fn wait_for(mut done: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !done() {
        ensure!(start.elapsed() < CHANGE, "not within {} s", CHANGE.as_secs());
        thread::sleep(LOOK);
    }
    Ok(())
}
