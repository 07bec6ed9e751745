//! One scheduler, one workload: from opening the object to the last word on how it went.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use scxlab_engine::Program;
use scxlab_protocol::{Counts, Exit, Job, Lost, Record, Run, TidCounts, WorkloadSource};
use scxlab_workload::Workload;

use crate::attached::{Attached, LOOK, ready, stay_on_the_cpu};
use crate::leak::Baseline;
use crate::object::{Loaded, Opened, Refusal};
use crate::play::{self, Options, Player};
use crate::prog_runs::ProgRuns;
use crate::report::Report;
use crate::{dump, kernel, stop};

/// What to say of a workload that has ended because it is not kept any more.
pub(crate) const KILLED: &str = "the workload did not play to the end: somebody killed its keeper, \
    perhaps the kernel for lack of memory (its log says so)";

/// How often to say what time it is.
pub const PROGRESS: Duration = Duration::from_secs(1);

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
    let Prepared { opened, flags, native_tid, timeout_ns, unread } = prepare(run)?;
    let mut prog_runs = ProgRuns::new(&run.prog_runs, &opened)?;
    report.doing("attaching the scheduler");
    let before = |loaded: &mut Loaded| prog_runs.before(loaded, report);
    let mut attached = match Attached::prepared(opened, before)? {
        Ok(attached) => attached,
        Err(Refusal { what, why }) => {
            report.say(&Record::Refused { what: what.to_owned(), why });
            return Ok(());
        }
    };
    let name = attached.name().to_owned();
    report.say(&Record::Attached { name, flags, native_tid });

    let mut player = Player::start(&program, job.seed, &Options::default())?;
    watch(&mut attached, &mut prog_runs, Duration::from_nanos(run.duration_ns), report)?;
    if stop::is_asked() {
        // The workload ends sooner without a scheduler that may run nobody.
        drop(attached);
        player.stop()?;
        return stop::check();
    }
    let mut seen = look(&attached, &mut player, timeout_ns)?;
    let leaked = baseline.and_then(|baseline| leaked_in_use(baseline, &player, &attached, &seen));
    report.doing("detaching the scheduler");
    let detached = attached.detach()?;
    player.stop()?;
    drop(player);
    let leaked = leaked.or_else(|| baseline?.leaked());
    let exit = detached.exit(seen.ended)?;
    if let Some(dump) = &exit.dump {
        seen.lost = dump::lost(dump, timeout_ns);
        seen.all_lost = !dump::is_cut(dump);
    }
    if !unread.is_empty() {
        let text = format!("what it counts in its arena is not reported: {}", unread.join(", "));
        report.say(&Record::Note { text });
    }
    seen.say(leaked, exit, report);
    Ok(())
}

/// A scheduler that can be loaded, and what there is to say about it.
struct Prepared {
    opened: Opened,
    flags: Vec<String>,
    native_tid: Option<bool>,
    timeout_ns: u64,
    /// Variables in an arena, which nobody reads.
    unread: Vec<String>,
}

fn prepare(run: &Run) -> Result<Prepared> {
    let mut opened = Opened::open(&run.object)?;
    run.ops.iter().try_for_each(|ops| opened.choose(ops))?;
    run.with.iter().try_for_each(|program| opened.add(program))?;
    run.without.iter().try_for_each(|program| opened.leave_out(program))?;
    run.set.iter().try_for_each(|setting| opened.set(setting))?;
    let native_tid = opened.has_portable_tid().then(|| opened.kernel_has_tids());
    let flags = opened.set_flags(run.flags.as_deref())?;
    let timeout_ns = opened.timeout_ns()?;
    // Those of ours, whose flags are their twins', count outside of it.
    let unread = if run.flags.is_none() { opened.arena_variables() } else { Vec::new() };
    Ok(Prepared { opened, flags, native_tid, timeout_ns, unread })
}

/// Waits until the time is over or the scheduler is gone, says what time it is, and runs the programs
/// whose time has come.
fn watch(
    attached: &mut Attached,
    prog_runs: &mut ProgRuns<'_>,
    end: Duration,
    report: &Report,
) -> Result<()> {
    let mut said = Instant::now();
    while attached.is_up() && attached.elapsed() < end && !stop::is_asked() {
        let now = attached.elapsed();
        prog_runs.after(&mut attached.loaded, report, now)?;
        if said.elapsed() >= PROGRESS {
            report.say(&Record::Progress { at_ns: attached.elapsed().as_nanos() as u64 });
            said = Instant::now();
        }
        let next = prog_runs.next().map_or(end, |next| next.min(end));
        thread::sleep(LOOK.min(next.saturating_sub(attached.elapsed())));
    }
    Ok(())
}

/// What there is to see at the end, before the scheduler is detached.
struct Seen {
    /// When that was, after the attach.
    ended: Duration,
    tasks: Counts,
    tids: TidCounts,
    counters: BTreeMap<String, u64>,
    events: BTreeMap<String, u64>,
    refusals: Vec<play::Refusal>,
    lost: Vec<Lost>,
    /// Whether the kernel told all of them.
    all_lost: bool,
}

fn look(attached: &Attached, player: &mut Player, timeout_ns: u64) -> Result<Seen> {
    let ended = attached.elapsed();
    let dump = if attached.is_up() { dump::on_request() } else { None };
    let events = kernel::events();
    let mut counters = attached.loaded.counters();
    let tids = tids(&mut counters);
    let tasks = player.counts();
    // A scheduler may be ejected before there is anything to schedule, by its own `ops.init` for one.
    ensure!(tasks.forked > 0 || !attached.is_up(), "the workload did not start any task");
    ensure!(player.is_kept() || !attached.is_up(), KILLED);
    let all_lost = dump.is_some();
    let lost = dump.map_or_else(Vec::new, |dump| dump::lost(&dump, timeout_ns));
    Ok(Seen { ended, tasks, tids, counters, events, refusals: player.refusals(), lost, all_lost })
}

impl Seen {
    fn say(self, leaked: Option<u64>, exit: Exit, report: &Report) {
        for refusal in &self.refusals {
            report.say(&Record::Note { text: refusal.to_string() });
        }
        self.lost.into_iter().for_each(|lost| report.say(&Record::Lost(lost)));
        if self.all_lost {
            report.say(&Record::LostEnd);
        } else {
            let text = "how many tasks are lost is not known: the kernel gave no whole debug dump";
            report.say(&Record::Note { text: text.to_owned() });
        }
        report.say(&Record::Tids(self.tids));
        if let Some(tasks) = leaked {
            report.say(&Record::Leaked { tasks });
        }
        report.say(&Record::Exit(exit));
        report.say(&Record::Tasks(self.tasks));
        report.say(&Record::Counters(self.counters));
        report.say(&Record::Events(self.events));
    }
}

/// The tasks that ended and are not let go of while the scheduler is in use: with its maps go their
/// references. The workload stands still meanwhile, so that none is just about to be freed. Nothing
/// if that cannot be told: a lost task may hold up whoever frees the others.
fn leaked_in_use(
    baseline: Baseline,
    player: &Player,
    attached: &Attached,
    seen: &Seen,
) -> Option<u64> {
    let nobody_is_lost = seen.all_lost && seen.lost.is_empty();
    if !nobody_is_lost || !attached.is_up() {
        return None;
    }
    let group = Pid::from_raw(player.group());
    let _ = killpg(group, Signal::SIGSTOP);
    let leaked = baseline.leaked();
    let _ = killpg(group, Signal::SIGCONT);
    leaked.filter(|_| attached.is_up())
}

/// The workload as a program.
pub(crate) fn program(source: &WorkloadSource, cpus: usize) -> Result<Program> {
    let workload = match source {
        WorkloadSource::Builtin(name) => Workload::builtin(name, cpus)?,
        WorkloadSource::File { name, text } => Workload::parse(name, text)?,
    };
    let name = workload.name.clone();
    workload.compile(cpus).with_context(|| format!("workload {name}"))
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
