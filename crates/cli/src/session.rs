//! A run: takes the engine from attach to detach, or to the end of an ejection.

use std::sync::Arc;

use scxlab_bpf::sched::{BpfScheduler, Race};
use scxlab_engine::{
    AttachError, Engine, EventCounters, ExitInfo, Nanos, Record, SchedId, StalledTask, Stats,
};

use crate::maps;
use crate::plan::Plan;
use crate::prog_run::ProgRuns;
use crate::report::ProgRunPart;
use crate::status::Failure;

/// Virtual time between two looks from outside.
const SLICE: Nanos = Nanos::from_millis(10);

/// How long a scheduler may take to go.
const PARTING: Nanos = Nanos::from_secs(60);

/// Someone who watches a run.
pub trait Observer {
    /// What happened since the last call, in order.
    ///
    /// # Errors
    /// What ends the run: it cannot be written down.
    fn records(&mut self, _records: &[Record]) -> Result<(), Failure> {
        Ok(())
    }

    /// The time.
    ///
    /// # Errors
    /// What ends the run: somebody wants to stop.
    fn progress(&mut self, _now: Nanos) -> Result<(), Failure> {
        Ok(())
    }
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
    /// The maps that were asked for, by name; null for what no map keeps.
    pub maps: Vec<(String, serde_json::Value)>,
    /// The programs that user space had run.
    pub prog_runs: Vec<ProgRunPart>,
    /// What programs of a compiled one did wrong when it had ended.
    pub late_faults: Vec<String>,
    /// How many lines went, and the last that programs printed.
    pub printed: (u64, Vec<String>),
    /// The data races of a compiled one that were seen, and how many more there are.
    pub races: (Vec<Race>, u64),
    /// The kernel's.
    pub events: EventCounters,
}

impl Outcome {
    /// Whether the scheduler was ejected.
    pub fn ejected(&self) -> bool {
        self.exit.kind.is_error()
    }
}

/// A machine with the scheduler being attached, at time 0.
#[derive(Debug)]
pub struct Session<'a> {
    plan: &'a Plan,
    engine: Engine,
    sched: SchedId,
    prog_runs: ProgRuns<'a>,
}

impl<'a> Session<'a> {
    /// Sets the machine up and begins to attach the scheduler.
    ///
    /// # Errors
    /// The machine or the scheduler is refused.
    pub fn new(plan: &'a Plan) -> Result<Self, Failure> {
        let mut engine = Engine::new(plan.config.clone()).map_err(Failure::wrong)?;
        let mut prog_runs = ProgRuns::new(&plan.prog_run, plan.compiled.as_deref());
        let mut before = Ok(());
        let attached =
            engine.attach_after(plan.scheduler.clone(), |cx| before = prog_runs.before(cx));
        let sched = attached.map_err(|err| {
            let message = format!("{} cannot be attached: {err}", plan.name);
            match err {
                AttachError::NotModelled(_) => Failure::missing(message),
                _ => Failure::wrong(message),
            }
        })?;
        before?;
        Ok(Self { plan, engine, sched, prog_runs })
    }

    /// Runs it to its end, and detaches the scheduler if it is still there then.
    ///
    /// # Errors
    /// The observer cannot go on.
    pub fn run(self, observer: &mut dyn Observer) -> Result<Outcome, Failure> {
        let Self { plan, mut engine, sched, mut prog_runs } = self;
        while engine.exit_info(sched).is_none() && engine.now() < plan.duration {
            let until = plan.duration.min(engine.now() + SLICE);
            let until = prog_runs.next().map_or(until, |next| until.min(next));
            run_slice(&mut engine, until, |engine| engine.exit_info(sched).is_some());
            prog_runs.run(&mut engine, sched);
            observe(&mut engine, observer)?;
        }
        // What was counted until here, while its tasks were there; a loader reads maps after ops.exit.
        let mut outcome = snapshot(&engine, plan, sched);
        engine.detach(sched);
        let last = engine.now() + PARTING;
        while !engine.is_gone(sched) && engine.now() < last {
            let until = engine.now() + SLICE;
            run_slice(&mut engine, until, |engine| engine.is_gone(sched));
            observe(&mut engine, observer)?;
        }
        outcome.maps = maps(&engine, plan, sched);
        if let Some(compiled) = &plan.compiled {
            let state = engine.scheduler_state(sched);
            outcome.late_faults = compiled.late_faults(state).to_vec();
            let (dropped, lines) = compiled.printed(state);
            outcome.printed = (dropped, lines.map(str::to_owned).collect());
        }
        outcome.prog_runs = prog_runs.finish();
        outcome.exit = engine.exit_info(sched).cloned().unwrap_or_default();
        Ok(outcome)
    }
}

/// Up to `until`, or to the event after which `done`.
fn run_slice(engine: &mut Engine, until: Nanos, done: impl Fn(&Engine) -> bool) {
    while engine.step(until) {
        if done(engine) {
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
    observer.progress(engine.now())
}

fn snapshot(engine: &Engine, plan: &Plan, sched: SchedId) -> Outcome {
    Outcome {
        exit: ExitInfo::default(),
        stats: engine.stats().clone(),
        lost: engine.lost_tasks(),
        tids: engine.tid_table().map_or(0, |table| table.len() as u64),
        counters: counters(engine, plan, sched),
        maps: Vec::new(),
        prog_runs: Vec::new(),
        late_faults: Vec::new(),
        printed: (0, Vec::new()),
        races: races(engine, plan, sched),
        events: engine.event_counters(sched),
    }
}

/// The scheduler's own. Those of the portable tid's header are 0 where the kernel has tids.
fn counters(engine: &Engine, plan: &Plan, sched: SchedId) -> Vec<(String, u64)> {
    let mut counters = plan.scheduler.counters(engine.scheduler_state(sched));
    if plan.compiled.is_some() {
        counters.retain(|(name, count)| *count > 0 || !name.starts_with("scx_tid_"));
    }
    counters
}

fn races(engine: &Engine, plan: &Plan, sched: SchedId) -> (Vec<Race>, u64) {
    let races = |compiled: &Arc<BpfScheduler>| compiled.races(engine.scheduler_state(sched));
    plan.compiled.as_ref().map(races).unwrap_or_default()
}

fn maps(engine: &Engine, plan: &Plan, sched: SchedId) -> Vec<(String, serde_json::Value)> {
    let Some(compiled) = &plan.compiled else { return Vec::new() };
    let state = engine.scheduler_state(sched);
    let mut names: Vec<_> = plan.dump_map.iter().collect();
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    let all = names.into_iter().map(|name| {
        let dump = compiled.dump_map(state, name, maps::MOST);
        (name.clone(), dump.map_or(serde_json::Value::Null, |dump| maps::json(&dump, engine)))
    });
    all.collect()
}
