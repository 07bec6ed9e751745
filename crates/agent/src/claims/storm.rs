//! C14: attach and detach, over and over, while tasks come and go.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use scxlab_protocol::Setting;

use super::lab::{self, Lab};
use super::programs::Programs;
use super::{Findings, came_up, holds, watch};
use crate::attached::{Attached, wait_for};
use crate::kernel;
use crate::leak::Baseline;
use crate::object::Opened;

/// Rounds in each storm.
const ROUNDS: &[(&str, u32)] = &[("fork-storm", 7), ("exit-storm", 3)];

/// How long a scheduler stays.
const STAY: Duration = Duration::from_millis(200);

pub(super) fn c14(lab: &Lab<'_>) -> Result<Findings> {
    Ok(vec![(14, in_a_storm(lab))])
}

fn in_a_storm(lab: &Lab<'_>) -> Result<String> {
    let baseline = Baseline::take().context("the kernel does not say how many tasks it has")?;
    let mut programs = if lab.is_native() { Some(Programs::load(lab, false)?) } else { None };
    let (mut rounds, mut surveyed, mut forked) = (0, 0, 0);
    for &(workload, times) in ROUNDS {
        lab.doing(&format!("checking C14: rounds under {workload}"));
        let mut player = lab.start(&lab.builtin(workload)?)?;
        wait_for(|| player.counts().forked > 10)?;
        for _ in 0..times {
            surveyed += round(lab)?;
            rounds += 1;
            if let Some(programs) = &mut programs {
                let tid = programs.tid_of(1)?.unwrap_or(0);
                let found = programs.finds(tid)?;
                holds(!found, || format!("after a detach, tid {tid} is found"))?;
            }
        }
        failed_attach(lab)?;
        forked += player.stop()?.forked;
    }
    let left = what_a_storm_leaves(lab, programs.as_mut())?;
    drop(programs);
    let leaked = baseline.leaked().context("the kernel does not say how many tasks it has")?;
    holds(leaked == 0, || format!("{leaked} tasks that ended are still there"))?;
    Ok(format!(
        "{rounds} rounds of attach and detach and 2 failed attaches while {forked} tasks were \
         forked: none of {surveyed} live tasks was missed after an attach; {left}; all that ended \
         were freed"
    ))
}

/// The scheduler that watches, without what watches each task's way: that takes long to come and go.
fn open(lab: &Lab<'_>) -> Result<Opened> {
    let mut opened = watch::open(lab)?;
    for program in ["forked", "execed", "exited", "released", "dying", "switched", "gone"] {
        opened.leave_out(program)?;
    }
    Ok(opened)
}

/// Attaches, looks at every task, and detaches; how many there were.
fn round(lab: &Lab<'_>) -> Result<u64> {
    let mut attached = lab::attach(open(lab)?)?;
    attached.loaded.call("start_watching", &mut [])?;
    attached.loaded.walk("survey")?;
    thread::sleep(STAY);
    attached.loaded.call("stop_watching", &mut [])?;
    lab::still_up(&attached)?;
    let counters = attached.loaded.counters();
    attached.detach()?;
    for (name, &times) in counters.iter().filter(|(name, _)| name.starts_with("wrong_")) {
        holds(times == 0, || format!("{}: {times} times", name.replace('_', " ")))?;
    }
    let surveyed = counters.get("surveyed").copied().unwrap_or(0);
    came_up(surveyed > 0, || "no task was there after the attach".to_owned())?;
    Ok(surveyed)
}

/// An attach whose `ops.init` fails leaves nothing behind.
fn failed_attach(lab: &Lab<'_>) -> Result<()> {
    let mut opened = open(lab)?;
    opened.set(&Setting { name: "fail_init".to_owned(), value: "true".to_owned() })?;
    // The call itself may succeed.
    if let Ok(attached) = Attached::new(opened)? {
        let enabled = attached.is_up();
        attached.detach()?;
        holds(!enabled, || "a scheduler whose ops.init fails is attached".to_owned())?;
    }
    let state = kernel::state();
    holds(state == "disabled", || format!("after a failed attach sched_ext is {state}"))
}

/// A table that was filled in a storm has, when that is over, the tasks that live and no more.
fn what_a_storm_leaves(lab: &Lab<'_>, mut programs: Option<&mut Programs>) -> Result<String> {
    let mut player = lab.start(&lab.builtin("exit-storm")?)?;
    wait_for(|| player.counts().forked > 10)?;
    let mut attached = lab::attach(open(lab)?)?;
    thread::sleep(STAY);
    player.stop()?;
    let mut last = (0, 0);
    for _ in 0..50 {
        let before = attached.loaded.number("surveyed").unwrap_or(0);
        attached.loaded.walk("survey")?;
        let live = attached.loaded.number("surveyed").unwrap_or(0) - before;
        let in_table = match &mut programs {
            Some(programs) => programs.peek()?.tasks,
            None => attached.loaded.entries("scx_tid_table").len() as u64,
        };
        last = (in_table, live);
        if in_table == live {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    attached.detach()?;
    let (in_table, live) = last;
    holds(in_table == live, || format!("the table has {in_table} tasks, and {live} live"))?;
    Ok(format!("a table from a storm had, after it, {in_table} entries for {live} tasks"))
}
