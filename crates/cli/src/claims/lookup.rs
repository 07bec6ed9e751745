//! C3 to C7: what a lookup finds, and when.

use std::collections::{BTreeMap, BTreeSet};

use scxlab_engine::{EnableState, Engine, Nanos, Pid, PidLoss, What};
use scxlab_schedulers::{Key, Qmap};

use super::lab::{attach, builtin, exit_text, late_parents, start, watch};
use super::probe::Probe;
use super::{Checked, Lab, ensure};

pub(super) fn c3(lab: &Lab) -> Checked {
    let mut engine = lab.engine(4, builtin("fork-storm", 4)?)?;
    // Tasks that are there before the scheduler.
    engine.run_until(Nanos::from_millis(150));
    let before = engine.live_tasks().count();
    let sched =
        attach(&mut engine, Probe { flag: true, lookup_in_enqueue: true, ..Probe::default() })?;
    let (mut looked, mut forks) = (0u64, 0);
    watch(&mut engine, Nanos::from_millis(200), |engine, records| {
        forks += records.iter().filter(|r| matches!(r.what, What::Fork { .. })).count();
        let live: Vec<_> = engine.live_tasks().map(|p| (p.scx.tid, p.pid())).collect();
        for &(tid, pid) in &live {
            looked += 1;
            let found = engine.tid_to_task(tid);
            ensure(found.is_some_and(|p| p.tid == tid && p.pid == pid), || {
                format!("tid {tid} (pid {pid}) is live, and the lookup gave {found:?}")
            })?;
        }
        let table = engine.tid_table().unwrap_or_default();
        ensure(table.len() == live.len(), || {
            format!("{} live tasks, and {} in the table: idle ones?", live.len(), table.len())
        })
    })?;
    let found = Probe::found(engine.scheduler_state(sched));
    ensure(found.wrong.is_empty(), || found.wrong[0].clone())?;
    ensure(found.early_hits == 0, || {
        "ops.init_task found its task, which is not inserted yet".into()
    })?;
    ensure(found.lookups > 0 && forks > 0, || "nothing was forked or enqueued".into())?;
    Ok(format!(
        "{before} tasks from before the attach and {forks} forked ones, {looked} lookups after \
         every event and {} in ops.enqueue, all found; {} in ops.init_task, none; no idle task",
        found.lookups, found.inits
    ))
}

/// Tasks that have lost their pid and are not dead yet.
#[derive(Default)]
struct Dying {
    tasks: BTreeMap<u64, Pid>,
    by_exit: u64,
    by_wait: u64,
    by_exec: u64,
    looked: u64,
}

impl Dying {
    fn note(&mut self, what: &What) {
        match what {
            What::PidLost { task, pid, how } => {
                match how {
                    PidLoss::Exit => self.by_exit += 1,
                    PidLoss::Reaped { .. } => self.by_wait += 1,
                    PidLoss::ExecReleased { .. } => self.by_exec += 1,
                    PidLoss::ExecSwapped { .. } | PidLoss::ExecTaken { .. } => return,
                }
                self.tasks.insert(task.tid, *pid);
            }
            What::Dead { task } => {
                self.tasks.remove(&task.tid);
            }
            _ => {}
        }
    }

    fn check(&mut self, engine: &mut Engine) -> Result<(), String> {
        for (&tid, &pid) in &self.tasks {
            self.looked += 1;
            ensure(engine.tid_to_task(tid).is_some(), || {
                format!("tid {tid} has lost pid {pid} and is not dead, and is not found")
            })?;
            ensure(engine.task_from_pid(pid).is_none_or(|p| p.tid != tid), || {
                format!("tid {tid} has lost pid {pid}, and a lookup of that still gives it")
            })?;
        }
        Ok(())
    }
}

pub(super) fn c4(lab: &Lab) -> Checked {
    let mut dying = Dying::default();
    for workload in ["exit-storm", "nonleader-exec", "fork-storm"] {
        let mut engine = lab.engine(4, builtin(workload, 4)?)?;
        attach(&mut engine, Qmap::keyed_by(Key::Tid))?;
        dying.tasks.clear();
        let mut dead_before_release = BTreeSet::new();
        watch(&mut engine, Nanos::from_millis(500), |engine, records| {
            for record in records {
                if let What::Dead { task } = &record.what {
                    dead_before_release.insert(task.tid);
                }
                dying.note(&record.what);
            }
            dying.tasks.retain(|tid, _| !dead_before_release.contains(tid));
            dying.check(engine)
        })?;
    }
    let Dying { by_exit, by_wait, by_exec, looked, .. } = dying;
    ensure(by_exit > 0 && by_wait > 0 && by_exec > 0 && looked > 0, || {
        format!("pids released by exit {by_exit}, wait {by_wait}, exec {by_exec}: not all came up")
    })?;
    Ok(format!(
        "pids released by the task's exit ({by_exit}), its parent's wait ({by_wait}) and an exec \
         ({by_exec}); {looked} lookups from then to the last switch found the task by tid, none by \
         pid"
    ))
}

pub(super) fn c5(lab: &Lab) -> Checked {
    let mut engine = lab.engine(4, late_parents(16))?;
    attach(&mut engine, Qmap::keyed_by(Key::Tid))?;
    let (mut dead, mut zombies) = (0u64, 0u64);
    watch(&mut engine, Nanos::from_millis(500), |engine, records| {
        for record in records {
            let What::Dead { task } = &record.what else { continue };
            dead += 1;
            ensure(engine.tid_to_task(task.tid).is_none(), || {
                format!("tid {} is past its last switch and is found", task.tid)
            })?;
            let zombie = engine.task_from_pid(task.pid).is_some_and(|p| p.tid == task.tid);
            zombies += u64::from(zombie);
        }
        Ok(())
    })?;
    ensure(zombies > 0, || "no zombie came up".into())?;
    let never = engine.tid_cursor() + 5;
    for tid in [0, never, u64::MAX] {
        ensure(engine.tid_to_task(tid).is_none(), || format!("a lookup of {tid} found a task"))?;
    }
    Ok(format!(
        "{dead} dead tasks, {zombies} of them zombies that their pid still finds, none found by \
         tid; nor 0, {never} and 2^64-1"
    ))
}

pub(super) fn c6(lab: &Lab) -> Checked {
    let mut held = 0;
    for round in 0..10 {
        let mut config = lab.config(8, builtin("fork-storm", 8)?);
        config.seed = config.seed.wrapping_add(round);
        config.seams.chance = 1024;
        let mut engine = start(config)?;
        let sched =
            attach(&mut engine, Probe { flag: true, hold_dying: true, ..Probe::default() })?;
        engine.run_until(Nanos::from_millis(300));
        let found = Probe::found(engine.scheduler_state(sched));
        ensure(found.wrong.is_empty(), || found.wrong[0].clone())?;
        held += found.held_dead;
        if held >= 20 {
            break;
        }
    }
    ensure(held > 0, || "no task died while a reader held it".into())?;
    Ok(format!("{held} tasks died in the middle of a reader's section, and stayed what they were"))
}

pub(super) fn c7(lab: &Lab) -> Checked {
    let mut engine = lab.engine(2, builtin("fork-storm", 2)?)?;
    engine.run_until(Nanos::from_millis(150));
    let mut untouched = engine.clone();
    let tids: Vec<_> = engine.live_tasks().map(|p| p.scx.tid).collect();
    for &tid in tids.iter().chain(&[0, u64::MAX]) {
        let found = engine.tid_to_task(tid);
        ensure(found.is_none(), || format!("without a scheduler, tid {tid} gave {found:?}"))?;
    }
    ensure(engine.log() == untouched.log(), || {
        format!("the lookups left {:?} in the log", engine.log().last())
    })?;
    ensure(engine.enable_state() == EnableState::Disabled, || "the state changed".into())?;
    for engine in [&mut engine, &mut untouched] {
        engine.run_until(Nanos::from_millis(250));
    }
    ensure(engine.take_records() == untouched.take_records(), || {
        "the machine went on differently after the lookups".into()
    })?;
    // Nor is anything left of a scheduler that was there.
    let sched = attach(&mut engine, Qmap::keyed_by(Key::Tid))?;
    super::lab::detach(&mut engine, sched)?;
    let tid = engine.live_tasks().map(|p| p.scx.tid).next().unwrap_or(0);
    ensure(engine.tid_to_task(tid).is_none(), || {
        format!("after the detach ({}) tid {tid} is found", exit_text(&engine, sched))
    })?;
    Ok(format!(
        "{} lookups of live tasks gave nothing, left no line in the log, and the machine went on \
         as its untouched clone did",
        tids.len() + 2
    ))
}
