//! A run: takes the engine from attach to detach, or to the end of an ejection.

use scxlab_engine::{Engine, EventCounters, ExitInfo, Nanos, Record, SchedId, StalledTask, Stats};

use crate::plan::Plan;
use crate::status::Failure;

/// Virtual time between two looks from outside.
const SLICE: Nanos = Nanos::from_millis(10);

/// How long a scheduler may take to go.
const PARTING: Nanos = Nanos::from_secs(60);

/// Someone who watches a run.
pub trait Observer {
    /// Whether to keep records.
    fn wants_records(&self) -> bool {
        false
    }

    /// What happened since the last call, in order.
    ///
    /// # Errors
    /// What ends the run: it cannot be written down.
    fn records(&mut self, _records: &[Record]) -> Result<(), Failure> {
        Ok(())
    }

    /// The time.
    fn progress(&mut self, _now: Nanos) {}
}

/// How things stood when the scheduler's exit began, and why it did. If nothing went wrong, that
/// is at the end of the run, when it was detached.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Why, with the debug dump.
    pub exit: ExitInfo,
    /// What was counted.
    pub stats: Stats,
    /// The tasks that had been runnable for at least the timeout without running.
    pub lost: Vec<StalledTask>,
    /// Entries in the tid table.
    pub tids: u64,
    /// The scheduler's own counters.
    pub counters: Vec<(String, u64)>,
    /// The kernel's.
    pub events: EventCounters,
}

impl Outcome {
    /// Whether the scheduler was ejected.
    pub fn ejected(&self) -> bool {
        self.exit.kind.is_error()
    }
}

/// Runs it.
///
/// # Errors
/// The machine or the scheduler is refused, or the observer cannot go on.
pub fn run(plan: &Plan, observer: &mut dyn Observer) -> Result<Outcome, Failure> {
    let mut config = plan.config.clone();
    config.trace = observer.wants_records();
    let mut engine = Engine::new(config).map_err(Failure::wrong)?;
    let sched = engine
        .attach(plan.scheduler.clone())
        .map_err(|err| Failure::missing(format_args!("{} cannot be attached: {err}", plan.name)))?;
    while engine.exit_info(sched).is_none() && engine.now() < plan.duration {
        let until = plan.duration.0.min(engine.now().0 + SLICE.0);
        run_slice(&mut engine, sched, Nanos(until));
        observe(&mut engine, observer)?;
    }
    let mut outcome = snapshot(&engine, plan, sched);
    engine.detach(sched);
    let last = engine.now() + PARTING;
    while !engine.is_gone(sched) && engine.now() < last {
        let until = engine.now() + SLICE;
        while !engine.is_gone(sched) && engine.step(until) {}
        if !engine.is_gone(sched) {
            engine.run_until(until);
        }
        observe(&mut engine, observer)?;
    }
    outcome.exit = engine.exit_info(sched).cloned().unwrap_or_default();
    Ok(outcome)
}

/// Up to `until`, or to the event in which the scheduler's exit began.
fn run_slice(engine: &mut Engine, sched: SchedId, until: Nanos) {
    while engine.step(until) {
        if engine.exit_info(sched).is_some() {
            return;
        }
    }
    engine.run_until(until);
}

fn observe(engine: &mut Engine, observer: &mut dyn Observer) -> Result<(), Failure> {
    let records = engine.take_records();
    if !records.is_empty() {
        observer.records(&records)?;
    }
    observer.progress(engine.now());
    Ok(())
}

fn snapshot(engine: &Engine, plan: &Plan, sched: SchedId) -> Outcome {
    Outcome {
        exit: ExitInfo::default(),
        stats: engine.stats().clone(),
        lost: engine.lost_tasks(),
        tids: engine.tid_table().map_or(0, |table| table.len() as u64),
        counters: plan.scheduler.counters(engine.scheduler_state(sched)),
        events: engine.event_counters(sched),
    }
}
