//! Where the claims are checked: machines, workloads, and running them event by event.

use std::sync::Arc;

use scxlab_engine::program::{Instr, Pc, Policy, Span, Spawn, Start};
use scxlab_engine::{Config, Engine, Nanos, Program, Record, Sabotage, SchedId, Scheduler, Seams};
use scxlab_workload::Workload;

/// A seed, and, for the tests that must see a claim fail, what to break.
#[derive(Clone, Debug)]
pub struct Lab {
    seed: u64,
    sabotage: Vec<Sabotage>,
}

impl Lab {
    /// An honest one.
    pub fn new(seed: u64) -> Self {
        Self { seed, sabotage: Vec::new() }
    }

    /// One whose engine is broken in a way. For tests.
    #[doc(hidden)]
    #[must_use]
    pub fn sabotaged(self, how: Sabotage) -> Self {
        Self { sabotage: vec![how], ..self }
    }

    /// A machine that runs `program`, with seams wider than usual. Its records are kept.
    pub(crate) fn config(&self, cpus: usize, program: Program) -> Config {
        Config {
            seed: self.seed,
            trace: true,
            check: false,
            seams: Seams { chance: 300, longest: Nanos::from_micros(50) },
            sabotage: self.sabotage.clone(),
            ..Config::new(cpus, Arc::new(program))
        }
    }

    pub(crate) fn engine(&self, cpus: usize, program: Program) -> Result<Engine, String> {
        start(self.config(cpus, program))
    }
}

/// The machine of a configuration.
pub(crate) fn start(config: Config) -> Result<Engine, String> {
    Engine::new(config).map_err(|err| err.to_string())
}

/// A built-in workload's program.
pub(crate) fn builtin(name: &str, cpus: usize) -> Result<Program, String> {
    let workload = Workload::builtin(name, cpus).map_err(|err| err.to_string())?;
    workload.compile(cpus).map_err(|err| err.to_string())
}

/// Attaches a scheduler and runs until all tasks are its.
pub(crate) fn attach(
    engine: &mut Engine,
    scheduler: impl Scheduler + 'static,
) -> Result<SchedId, String> {
    let sched = engine.attach(Arc::new(scheduler)).map_err(|err| err.to_string())?;
    while engine.is_attaching() {
        if !engine.step(Nanos::NEVER) {
            return Err("the attach does not end".into());
        }
    }
    Ok(sched)
}

/// Detaches a scheduler and runs until nothing of it is left.
pub(crate) fn detach(engine: &mut Engine, sched: SchedId) -> Result<(), String> {
    engine.detach(sched);
    run_until_gone(engine, sched)
}

pub(crate) fn run_until_gone(engine: &mut Engine, sched: SchedId) -> Result<(), String> {
    let limit = engine.now() + Nanos::from_secs(60);
    while !engine.is_gone(sched) {
        if !engine.step(limit) {
            return Err("the scheduler's exit does not end within a minute".into());
        }
    }
    Ok(())
}

/// Runs for `time`, event by event; `each` sees the engine and the records of each event.
pub(crate) fn watch(
    engine: &mut Engine,
    time: Nanos,
    mut each: impl FnMut(&mut Engine, &[Record]) -> Result<(), String>,
) -> Result<(), String> {
    let until = engine.now() + time;
    while engine.step(until) {
        let records = engine.take_records();
        each(engine, &records)?;
    }
    Ok(())
}

/// Why a scheduler ended, for a message.
pub(crate) fn exit_text(engine: &Engine, sched: SchedId) -> String {
    match engine.exit_info(sched) {
        Some(info) => format!("{} ({}): {}", info.reason(), info.kind as u32, info.msg),
        None => "it goes on".into(),
    }
}

/// A process of `name` that starts at `entry`.
pub(crate) fn process(entry: u32, name: u32, cgroup: Option<u32>) -> Start {
    Start {
        entry: Pc(entry),
        name,
        policy: Policy::Normal,
        nice: 0,
        affinity: None,
        cgroup,
        at: Nanos::ZERO,
    }
}

/// Parents that wait some time after their child's end, so that there are zombies.
pub(crate) fn late_parents(n: usize) -> Program {
    Program {
        code: vec![
            Instr::Spawn { what: Spawn::Process, entry: Pc(4), name: 1 },
            Instr::Sleep(Span::between(Nanos::from_micros(500), Nanos::from_millis(3))),
            Instr::Wait,
            Instr::Jump(Pc(0)),
            Instr::Run(Span::between(Nanos::from_micros(50), Nanos::from_millis(2))),
            Instr::Exit,
        ],
        names: vec!["parent".into(), "child".into()],
        start: vec![process(0, 0, None); n],
        ..Program::default()
    }
}

/// Processes that run and sleep, half of them in the cgroup `/sub`.
pub(crate) fn two_cgroups(n: usize) -> Program {
    Program {
        code: vec![
            Instr::Run(Span::between(Nanos::from_micros(100), Nanos::from_millis(3))),
            Instr::Sleep(Span::between(Nanos::from_micros(100), Nanos::from_millis(2))),
            Instr::Jump(Pc(0)),
        ],
        names: vec!["task".into()],
        cgroups: vec!["/sub".into()],
        start: (0..n).map(|i| process(0, 0, (i % 2 == 0).then_some(0))).collect(),
        ..Program::default()
    }
}
