//! Programs and schedulers for the tests.
#![allow(dead_code, unused_imports)] // Each test file uses some of it.

mod chaos;
mod lab;
mod prog;
mod random;

use std::sync::Arc;

pub use chaos::{Chaos, ChaosState};
pub use lab::{Call, Lab, LabState, st};
pub use prog::{Prog, Routine, mask, ms, run, run_us, sleep, sleep_us, us};
pub use random::random_program;
use scxlab_engine::{Config, Engine, ExitInfo, Nanos, SchedId, Scheduler, Seams, TaskStruct};

/// A machine where nothing gets in anything's way: for tests of one rule.
pub fn quiet(cpus: usize, prog: Prog) -> Config {
    let mut config = Config::new(cpus, Arc::new(prog.build()));
    config.seams = Seams { chance: 0, longest: Nanos::ZERO };
    config.check = true;
    config.trace = true;
    config
}

/// A machine where seams open at every chance, for up to `longest` ns.
pub fn busy(cpus: usize, prog: Prog, seed: u64, longest: u64) -> Config {
    let mut config = quiet(cpus, prog);
    config.seams = Seams { chance: 512, longest: Nanos(longest) };
    config.seed = seed;
    config
}

/// Attaches at time 0, and goes on until all tasks are switched and those that start at once are there.
pub fn attached(config: Config, sched: impl Scheduler + 'static) -> (Engine, SchedId) {
    let mut engine = Engine::new(config).expect("the configuration is fine");
    let id = engine.attach(Arc::new(sched)).expect("attaches");
    let mut at = 0;
    while !engine.is_attached(id) && engine.exit_info(id).is_none() {
        at += 10_000;
        assert!(at < 1_000_000_000, "the attach never ends");
        engine.run_until(Nanos(at));
    }
    // The forks that waited for it.
    engine.run_until(Nanos(at + 100_000));
    (engine, id)
}

/// Goes on for `millis` ms.
pub fn go(engine: &mut Engine, millis: u64) {
    let until = engine.now() + Nanos::from_millis(millis);
    engine.run_until(until);
}

/// The calls that a [`Lab`] has seen.
pub fn calls(engine: &Engine, id: SchedId) -> &[Call] {
    &lab_state(engine, id).calls
}

/// A [`Lab`]'s state.
pub fn lab_state(engine: &Engine, id: SchedId) -> &LabState {
    engine.scheduler_state(id).as_any().downcast_ref().expect("it is a lab's")
}

/// The names of the calls that are about the task with this name.
pub fn calls_of(engine: &Engine, id: SchedId, comm: &str) -> Vec<&'static str> {
    calls(engine, id).iter().filter(|call| call.comm == comm).map(|call| call.op).collect()
}

/// The live task with this name.
pub fn task<'a>(engine: &'a Engine, comm: &str) -> &'a TaskStruct {
    engine.live_tasks().find(|p| p.comm() == comm).unwrap_or_else(|| panic!("no task `{comm}`"))
}

/// Runs until the scheduler is gone, and says why it went.
pub fn ejected(engine: &mut Engine, id: SchedId, within_ms: u64) -> ExitInfo {
    for _ in 0..within_ms {
        go(engine, 1);
        if engine.is_gone(id) {
            break;
        }
    }
    let info = engine.exit_info(id).cloned();
    info.unwrap_or_else(|| panic!("still there at {} s", engine.now()))
}
