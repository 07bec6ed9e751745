//! What tids cost: lookups, forks and exits with the kernel's own tids and with the portable ones.
//!
//! One object, one scheduler, on one kernel that has tids: which of the two are in use is a switch,
//! `__SCX_OPS_TID_TO_TASK`. The kinds take turns, so that whatever changes meanwhile changes for all.

mod crowd;
mod forks;

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use scxlab_protocol::{Cost, CostPlan, Job, Lookups, Record, Setting, Tids, Timed};

use self::crowd::Crowd;
use self::forks::{Forker, Kind};
use crate::attached::{self, Attached};
use crate::kernel;
use crate::object::{Loaded, Opened, Refusal};
use crate::report::Report;

/// `ROOM` of `bpf/cost.bpf.c`.
const MOST_TASKS: u32 = 8192;

/// After an attach: what the last scheduler left behind is freed meanwhile.
const SETTLE: Duration = Duration::from_millis(500);

/// Measures, and reports every round.
///
/// # Errors
/// This kernel has no tids of its own, the plan is none, or something does not work.
pub fn measure(job: &Job, plan: &CostPlan, report: &Report) -> Result<()> {
    ensure!(
        kernel::probe().native_tid,
        "this kernel ({}) has no tids of its own to compare with: Linux has them from 7.2 on",
        kernel::probe().release
    );
    ensure!(
        (1..=MOST_TASKS).contains(&plan.tasks) && plan.lookups > 0 && plan.forks > 0,
        "from 1 to {MOST_TASKS} tasks, and at least one lookup and one fork"
    );
    attached::ready()?;
    let mut forker = Forker::start()?;
    attached::stay_on_the_cpu();
    let mut crowd = Crowd::start(plan.tasks, job.seed, report)?;
    for round in 0..plan.rounds {
        let mut all = Tids::ALL;
        if round % 2 == 1 {
            all.reverse();
        }
        for tids in all {
            report.doing(format!("round {} of {}: {tids:?}", round + 1, plan.rounds));
            report.say(&Record::Cost(once(plan, round, tids, &mut forker)?));
        }
    }
    crowd.stop()
}

fn once(plan: &CostPlan, round: u32, tids: Tids, forker: &mut Forker) -> Result<Cost> {
    let mut attached = match tids {
        Tids::NoScheduler => None,
        _ => Some(Attached::new(open(plan, tids)?)?.map_err(refused)?),
    };
    thread::sleep(SETTLE);
    let processes = forker.fork(Kind::Process, plan.forks)?;
    let threads = forker.fork(Kind::Thread, plan.forks)?;
    // Not before: an insert that finds the kernel's table too full has a worker double it, once
    // (`rht_deferred_worker()`), and an attach inserts all tasks before that worker comes to it.
    let lookups = match (&mut attached, tids) {
        (Some(attached), Tids::Native | Tids::Portable) => {
            Some(lookups(plan, &mut attached.loaded)?)
        }
        _ => None,
    };
    if let Some(attached) = attached {
        if !attached.is_up() {
            let why = attached.loaded.text("uei.msg").unwrap_or_default();
            bail!("the scheduler was ejected: {why}");
        }
        attached.detach()?;
    }
    Ok(Cost { round, tids, lookups, processes, threads })
}

fn refused(refusal: Refusal) -> anyhow::Error {
    anyhow!("the kernel refuses to {} it: {}", refusal.what, refusal.why)
}

/// The scheduler, with its switch as it is to be.
fn open(plan: &CostPlan, tids: Tids) -> Result<Opened> {
    let mut opened = Opened::open(&plan.object)?;
    match tids {
        Tids::Native => drop(opened.set_flags(None)?),
        // Leaves tids to the kernel, and does not ask for them.
        Tids::Off | Tids::NoScheduler => drop(opened.set_flags(Some(&[]))?),
        // Without the flag, the maps; `scx_tid_last_switch` is attached too.
        Tids::Portable => {
            let name = "__SCX_OPS_TID_TO_TASK".to_owned();
            opened.set(&Setting { name, value: "0".to_owned() })?;
        }
    }
    Ok(opened)
}

fn lookups(plan: &CostPlan, loaded: &mut Loaded) -> Result<Lookups> {
    loaded.walk("gather")?;
    let tasks = loaded.number("gathered").context("the object does not gather tids")?;
    ensure!(
        tasks == u64::from(plan.tasks),
        "of the {} tasks to look up, {tasks} have a tid",
        plan.tasks
    );
    let passes = u64::from(plan.lookups).div_ceil(tasks);
    let (mut nothing, mut hits, mut misses) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..passes {
        for (program, times, expected) in
            [("nothing", &mut nothing, 0), ("hits", &mut hits, tasks), ("misses", &mut misses, 0)]
        {
            let (ns, found) = pass(loaded, program)?;
            ensure!(found == expected, "{program}: {found} tasks found, and not {expected}");
            times.push(ns);
        }
    }
    let [nothing, hits, misses] = [nothing, hits, misses].map(|all| Timed::median(tasks, all));
    Ok(Lookups { nothing, hits, misses })
}

/// Goes through all tids once: `struct pass` of the object, how long it took in ns and how many
/// tasks were found.
fn pass(loaded: &mut Loaded, program: &str) -> Result<(u64, u64)> {
    let mut bytes = [0; 16];
    loaded.call(program, &mut bytes)?;
    let word = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
    Ok((word(0), word(8)))
}
