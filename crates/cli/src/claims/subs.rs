//! C8 to C10: the lookup without the flag, and sub-schedulers.

use scxlab_engine::{Engine, ExitKind, Nanos, SchedId};
use scxlab_schedulers::{Key, Qmap};

use super::lab::{attach, exit_text, run_until_gone, two_cgroups};
use super::probe::Probe;
use super::{Checked, Lab, ensure};

const WITHOUT: &str = "scx_bpf_tid_to_task() called without SCX_OPS_TID_TO_TASK";
const REQUIRES: &str = "SCX_OPS_TID_TO_TASK requires root scheduler to enable it";

fn ejected_with(engine: &Engine, sched: SchedId, kind: ExitKind, msg: &str) -> Result<(), String> {
    let fits = engine.exit_info(sched).is_some_and(|info| info.kind == kind && info.msg == msg);
    ensure(fits, || format!("its exit is {}", exit_text(engine, sched)))
}

fn root_without_flag() -> Probe {
    Probe::default()
}

pub(super) fn c8(lab: &Lab) -> Checked {
    by_the_root(lab).map_err(|err| format!("a lookup by the root: {err}"))?;
    by_a_sub(lab).map_err(|err| format!("a lookup by a sub-scheduler: {err}"))?;
    by_a_program(lab).map_err(|err| format!("a lookup by a program beside: {err}"))?;
    in_init(lab).map_err(|err| format!("a lookup in ops.init with the flag: {err}"))?;
    Ok("ejected with the kernel's message after a lookup by the root, a sub-scheduler (which ended \
        as its parent did), a program beside it, and in ops.init before the table is live"
        .into())
}

fn by_the_root(lab: &Lab) -> Result<(), String> {
    let mut engine = lab.engine(2, two_cgroups(8))?;
    let probe = Probe { lookup_in_enqueue: true, ..root_without_flag() };
    let root = attach(&mut engine, probe)?;
    engine.run_until(Nanos::from_millis(20));
    ejected_with(&engine, root, ExitKind::Error, WITHOUT)
}

fn by_a_sub(lab: &Lab) -> Result<(), String> {
    let mut engine = lab.engine(2, two_cgroups(8))?;
    let root = attach(&mut engine, root_without_flag())?;
    engine.run_until(Nanos::from_millis(5));
    let sub = Probe { cgroup: Some("/sub".into()), lookup_in_enqueue: true, ..root_without_flag() };
    let sub = attach(&mut engine, sub)?;
    engine.run_until(Nanos::from_millis(40));
    ejected_with(&engine, root, ExitKind::Error, WITHOUT)?;
    run_until_gone(&mut engine, root)?;
    ejected_with(&engine, sub, ExitKind::Parent, "")
}

fn by_a_program(lab: &Lab) -> Result<(), String> {
    let mut engine = lab.engine(2, two_cgroups(8))?;
    let root = attach(&mut engine, root_without_flag())?;
    engine.run_until(Nanos::from_millis(5));
    ensure(engine.exit_info(root).is_none(), || "it ended before".into())?;
    let tid = engine.live_tasks().map(|p| p.scx.tid).next().unwrap_or(1);
    ensure(engine.tid_to_task(tid).is_none(), || format!("tid {tid} was found"))?;
    ejected_with(&engine, root, ExitKind::Error, WITHOUT)
}

fn in_init(lab: &Lab) -> Result<(), String> {
    let mut engine = lab.engine(2, two_cgroups(8))?;
    let probe = Probe { flag: true, lookup_in_init: true, ..Probe::default() };
    let root = attach(&mut engine, probe)?;
    run_until_gone(&mut engine, root)?;
    ejected_with(&engine, root, ExitKind::Error, WITHOUT)
}

pub(super) fn c9(lab: &Lab) -> Checked {
    let mut engine = lab.engine(2, two_cgroups(8))?;
    let root = attach(&mut engine, Qmap::keyed_by(Key::Pid))?;
    engine.run_until(Nanos::from_millis(5));
    let sub = Probe { flag: true, cgroup: Some("/sub".into()), ..Probe::default() };
    // The attach call itself succeeds.
    let sub = attach(&mut engine, sub)?;
    engine.run_until(Nanos::from_millis(10));
    ejected_with(&engine, sub, ExitKind::Error, REQUIRES)?;
    let found = Probe::found(engine.scheduler_state(sub));
    ensure(found.inits == 0 && !found.enabled, || "it got a task".into())?;
    engine.run_until(Nanos::from_secs(8));
    ensure(engine.exit_info(root).is_none(), || {
        format!("the root was ejected: {}", exit_text(&engine, root))
    })?;
    let lost = engine.lost_tasks();
    ensure(lost.is_empty(), || format!("lost: {}", lost[0].explanation))?;
    Ok("the attach call succeeded, the exit info says kind 1024 with the kernel's words, no task \
        was its, and the root went on for 8 s without losing one"
        .into())
}

pub(super) fn c10(lab: &Lab) -> Checked {
    let mut engine = lab.engine(4, two_cgroups(6))?;
    let root = attach(&mut engine, Qmap::keyed_by(Key::Tid))?;
    engine.run_until(Nanos::from_millis(5));
    let sub = Probe {
        flag: true,
        cgroup: Some("/sub".into()),
        sweep: 4_200,
        insert_foreign: true,
        ..Probe::default()
    };
    let sub = attach(&mut engine, sub)?;
    ensure(engine.is_attached(sub), || format!("refused: {}", exit_text(&engine, sub)))?;
    engine.run_until(Nanos::from_millis(300));
    let found = Probe::found(engine.scheduler_state(sub));
    ensure(found.wrong.is_empty(), || found.wrong[0].clone())?;
    ensure(found.own > 0 && found.foreign > 0, || {
        format!("it found {} tasks of its own and {} others", found.own, found.foreign)
    })?;
    let counted = engine.event_counters(sub).insert_not_owned;
    ensure(counted == found.foreign_refused && counted > 0, || {
        format!("{} inserts were refused, {counted} counted", found.foreign_refused)
    })?;
    for (who, sched) in [("root", root), ("sub-scheduler", sub)] {
        ensure(engine.exit_info(sched).is_none(), || {
            format!("the {who} ended: {}", exit_text(&engine, sched))
        })?;
    }
    Ok(format!(
        "attached; found its own tasks {} times and others' {} times; {counted} inserts of those \
         were not done, and counted",
        found.own, found.foreign
    ))
}
