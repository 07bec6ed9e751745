//! C12 to C14: the table.

use std::collections::{BTreeMap, BTreeSet};

use scxlab_engine::{EnableState, Engine, Nanos, Sabotage, What};
use scxlab_schedulers::{Key, Qmap, Simple};

use super::lab::{attach, builtin, detach, run_until_gone, start, watch};
use super::probe::Probe;
use super::{Checked, Lab, ensure};

pub(super) fn c12(lab: &Lab) -> Checked {
    let mut engine = lab.engine(4, builtin("fork-storm", 4)?)?;
    attach(&mut engine, Simple::default())?;
    let mut forked = 0;
    watch(&mut engine, Nanos::from_millis(400), |engine, records| {
        for record in records {
            let What::Fork { child, .. } = &record.what else { continue };
            forked += 1;
            ensure(child.tid != 0, || "a task has no tid".into())?;
        }
        ensure(engine.tid_table().is_none(), || "there is a table".into())
    })?;
    let stats = engine.stats();
    let (inserted, removed) = (stats.tid_inserted, stats.tid_removed);
    ensure(inserted == 0 && removed == 0, || {
        format!("{inserted} entries were made and {removed} removed")
    })?;
    ensure(forked > 0, || "nothing was forked".into())?;
    Ok(format!("{forked} forks got tids; no table, no insert, no removal"))
}

/// Two tasks with one tid cannot be, so the allocator is made to repeat itself.
pub(super) fn c13(lab: &Lab) -> Checked {
    let mut config = lab.config(4, builtin("fork-storm", 4)?);
    config.sabotage.push(Sabotage::C1RepeatChunk);
    let mut engine = start(config)?;
    let sched = attach(&mut engine, Probe { flag: true, ..Probe::default() })?;
    // Who had each tid first, while it lives.
    let mut first = first_holders(&engine);
    let (mut refused, mut looked) = (0u64, 0u64);
    watch(&mut engine, Nanos::from_millis(160), |engine, records| {
        for record in records {
            match &record.what {
                What::Fork { child, .. } => {
                    let holder = engine.tid_to_task(child.tid);
                    looked += 1;
                    match first.get(&child.tid) {
                        Some(&pid) => {
                            refused += 1;
                            ensure(holder.is_none_or(|p| p.pid.0 == pid), || {
                                format!("tid {} led to pid {pid}, now to {holder:?}", child.tid)
                            })?;
                        }
                        None => {
                            first.insert(child.tid, child.pid.0);
                        }
                    }
                }
                What::Dead { task } if first.get(&task.tid) == Some(&task.pid.0) => {
                    first.remove(&task.tid);
                }
                _ => {}
            }
        }
        Ok(())
    })?;
    let warnings = engine.log().iter().filter(|l| l.contains("scx_tid_hash_insert")).count();
    ensure(refused > 0, || "no insert failed, so nothing was shown".into())?;
    ensure(warnings == 1, || format!("{refused} inserts failed, {warnings} warnings"))?;
    ensure(engine.exit_info(sched).is_none(), || "the scheduler ended".into())?;
    Ok(format!(
        "with an allocator that repeats itself, {refused} of {looked} inserts failed: each tid \
         went on leading to its first task, and the log has one warning"
    ))
}

/// The live tasks by tid. Of several with one tid the first counts.
fn first_holders(engine: &Engine) -> BTreeMap<u64, i32> {
    let mut first = BTreeMap::new();
    for p in engine.live_tasks() {
        first.entry(p.scx.tid).or_insert(p.pid);
    }
    first
}

pub(super) fn c14(lab: &Lab) -> Checked {
    let mut died = 0;
    for (workload, rounds) in [("fork-storm", 12), ("exit-storm", 4)] {
        let mut config = lab.config(4, builtin(workload, 4)?);
        config.costs.init_task = Nanos::from_micros(60);
        let mut engine = start(config)?;
        engine.run_until(Nanos::from_millis(120));
        for round in 0..rounds {
            let sched = attach(&mut engine, Qmap::keyed_by(Key::Tid))?;
            let live: BTreeSet<_> = engine.live_tasks().map(|p| p.scx.tid).collect();
            let table: BTreeSet<_> = engine.tid_table().unwrap_or_default().into_iter().collect();
            ensure(live == table, || {
                let stale: Vec<_> = table.difference(&live).collect();
                let missed: Vec<_> = live.difference(&table).collect();
                format!("after attach {round}: stale entries {stale:?}, missed tasks {missed:?}")
            })?;
            let until = engine.now() + Nanos::from_millis(20);
            engine.run_until(until);
            detach(&mut engine, sched)?;
            ensure(engine.tid_table().is_none(), || "after the detach there is a table".into())?;
            failed_attach(&mut engine)?;
        }
        died += engine.stats().died_while_enabling;
    }
    ensure(died > 0, || "no task died while the table was being filled".into())?;
    Ok(format!(
        "16 rounds of attach, detach and a failed attach under fork and exit storms; {died} tasks \
         died while the table was being filled, none was left in it, none was missed"
    ))
}

/// An attach whose `ops.init` fails leaves nothing behind.
fn failed_attach(engine: &mut Engine) -> Result<(), String> {
    let probe = Probe { flag: true, fail_init: true, ..Probe::default() };
    let sched = attach(engine, probe)?;
    run_until_gone(engine, sched)?;
    let nothing = engine.tid_table().is_none() && engine.enable_state() == EnableState::Disabled;
    ensure(nothing, || "a failed attach left something behind".into())?;
    let tid = engine.live_tasks().map(|p| p.scx.tid).next().unwrap_or(0);
    ensure(engine.tid_to_task(tid).is_none(), || "a failed attach left the table live".into())
}
