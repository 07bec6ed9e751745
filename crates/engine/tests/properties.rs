//! Random programs under a random scheduler on a random machine, with the invariants checked after
//! every event.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config as ProptestConfig, RngSeed};
use scxlab_engine::{Config, Engine, Nanos, OpsFlags, Record, SchedId, Seams, What};

mod support;
use support::{Chaos, ChaosState, random_program};

/// The chaos scheduler's timeout.
const TIMEOUT: Nanos = Nanos::from_millis(60);

#[derive(Clone, Debug)]
struct Case {
    routines: Vec<Vec<[u8; 3]>>,
    starts: usize,
    cores: usize,
    smt: usize,
    split_llc: bool,
    seed: u64,
    chance: u16,
    longest: u64,
    flags: u8,
    by_tid: bool,
    wild: bool,
    small_pids: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let routine = prop::collection::vec(any::<[u8; 3]>(), 2..14);
    (
        (prop::collection::vec(routine, 1..6), 1_usize..4),
        (1_usize..=4, 1_usize..=2, any::<bool>(), any::<u64>()),
        (prop_oneof![Just(0_u16), 64_u16..=1023], 100_u64..60_000),
        (any::<u8>(), any::<bool>(), any::<bool>(), any::<bool>()),
    )
        .prop_map(|((routines, starts), (cores, smt, split, seed), (chance, longest), f)| {
            Case {
                starts: starts.min(routines.len()),
                routines,
                cores,
                smt,
                split_llc: split && cores % 2 == 0,
                seed,
                chance,
                longest,
                flags: f.0,
                by_tid: f.1,
                wild: f.2,
                small_pids: f.3,
            }
        })
}

impl Case {
    fn config(&self) -> Config {
        let cpus = self.cores * self.smt;
        let prog = random_program(&self.routines, self.starts, cpus as u32);
        let mut config = Config::new(cpus, Arc::new(prog.build()));
        config.smt = self.smt;
        config.llcs = if self.split_llc { 2 } else { 1 };
        config.seed = self.seed;
        config.seams = Seams { chance: self.chance, longest: Nanos(self.longest) };
        config.pid_max = Some(if self.small_pids { 330 } else { 400 });
        config.check = true;
        config.trace = true;
        config
    }

    fn sched(&self) -> Arc<Chaos> {
        let mut flags = OpsFlags::KEEP_BUILTIN_IDLE;
        for (bit, flag) in [
            (1, OpsFlags::ENQ_EXITING),
            (2, OpsFlags::ENQ_LAST),
            (4, OpsFlags::ENQ_MIGRATION_DISABLED),
            (8, OpsFlags::SWITCH_PARTIAL),
            (16, OpsFlags::ALLOW_QUEUED_WAKEUP),
        ] {
            if self.flags & bit != 0 {
                flags |= flag;
            }
        }
        let timeout_ms = (TIMEOUT.0 / 1_000_000) as u32;
        Arc::new(Chaos { seed: self.seed, flags, timeout_ms, wild: self.wild, by_tid: self.by_tid })
    }

    fn engine(&self) -> Engine {
        Engine::new(self.config()).expect("the configuration is fine")
    }
}

/// `SCXLAB_CASES` is how many times as many cases to run.
fn cases(usual: u32) -> u32 {
    let times = std::env::var("SCXLAB_CASES").ok().and_then(|n| n.parse().ok());
    usual * times.unwrap_or(1)
}

fn proptest_config(cases: u32) -> ProptestConfig {
    let mut config = ProptestConfig::with_cases(cases);
    config.rng_seed = RngSeed::Fixed(20_260_607);
    config.failure_persistence = None;
    config.max_shrink_iters = 400;
    config
}

/// Since when each task that is runnable has waited for a CPU, from the records alone.
#[derive(Default)]
struct Waiting(BTreeMap<u64, Nanos>);

impl Waiting {
    fn watch(&mut self, records: &[Record]) {
        for record in records {
            match record.what {
                What::Wakeup { task, .. } => {
                    self.0.insert(task.tid, record.at);
                }
                What::Switch { prev, prev_state, next } => {
                    if prev_state == 'R' && !prev.is_idle() {
                        self.0.insert(prev.tid, record.at);
                    } else {
                        self.0.remove(&prev.tid);
                    }
                    self.0.remove(&next.tid);
                }
                What::Dead { task } => {
                    self.0.remove(&task.tid);
                }
                _ => {}
            }
        }
    }
}

/// A task that waits longer than the timeout is on the list of the lost; or its scheduler goes.
fn check_lost(engine: &Engine, id: SchedId, waiting: &Waiting) -> Result<(), TestCaseError> {
    if !engine.is_attached(id) {
        return Ok(());
    }
    let lost: Vec<_> = engine.lost_tasks().iter().map(|task| task.tid).collect();
    let jiffy = Nanos::from_millis(8);
    for (tid, &since) in &waiting.0 {
        let ext = engine
            .live_tasks()
            .any(|p| p.scx.tid == *tid && p.sched_class() == scxlab_engine::SchedClass::Ext);
        let waited = engine.now() - since;
        prop_assert!(
            !ext || waited < TIMEOUT + jiffy || lost.contains(tid),
            "tid {tid} waits since {since} s and is not among the lost: {lost:?}"
        );
    }
    for task in engine.lost_tasks() {
        prop_assert!(waiting.0.contains_key(&task.tid), "{task:?} is not waiting");
        prop_assert!(!task.explanation.is_empty());
    }
    Ok(())
}

fn check_state(engine: &Engine, id: SchedId) -> Result<(), TestCaseError> {
    let state = engine.scheduler_state(id).as_any().downcast_ref::<ChaosState>();
    let broken = &state.expect("it is a chaos's").broken;
    prop_assert!(broken.is_empty(), "{broken:?}");
    for line in engine.log() {
        prop_assert!(!line.contains("WARNING"), "{line}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(proptest_config(cases(96)))]

    #[test]
    fn nothing_breaks_and_nothing_is_lost_in_silence(case in case()) {
        let mut engine = case.engine();
        let id = engine.attach(case.sched()).expect("attaches");
        let mut waiting = Waiting::default();
        for step in 1..=14 {
            engine.run_until(Nanos::from_millis(step * 10));
            waiting.watch(&engine.take_records());
            check_lost(&engine, id, &waiting)?;
        }
        check_state(&engine, id)?;
        engine.detach(id);
        engine.run_until(Nanos::from_millis(200));
        prop_assert!(engine.is_gone(id));
        prop_assert!(engine.live_tasks().all(|p| p.sched_class() != scxlab_engine::SchedClass::Ext));
    }
}

proptest! {
    #![proptest_config(proptest_config(cases(24)))]

    /// Claim C14.
    #[test]
    fn attach_and_detach_leave_nothing_behind(case in case(), pause in 1_u64..4_000) {
        let mut engine = case.engine();
        let mut until = Nanos(0);
        for _ in 0..12 {
            until += Nanos(pause * 1_000);
            engine.run_until(until);
            prop_assert!(engine.tid_table().is_none());
            let id = engine.attach(case.sched()).expect("attaches");
            for _ in 0..2_000 {
                if engine.is_attached(id) || engine.exit_info(id).is_some() {
                    break;
                }
                until += Nanos(50_000);
                engine.run_until(until);
            }
            if engine.is_attached(id) {
                // check_invariants() has compared the whole table with the live tasks.
                let all = engine.live_tasks().map(|p| p.scx.tid).collect::<Vec<_>>();
                for tid in all {
                    prop_assert_eq!(engine.tid_to_task(tid).map(|p| p.tid), Some(tid));
                }
            }
            until += Nanos(pause * 500);
            engine.run_until(until);
            engine.detach(id);
            for _ in 0..4_000 {
                if engine.is_gone(id) {
                    break;
                }
                until += Nanos(50_000);
                engine.run_until(until);
            }
            prop_assert!(engine.is_gone(id), "the scheduler does not go");
            check_state(&engine, id)?;
        }
    }
}

proptest! {
    #![proptest_config(proptest_config(cases(16)))]

    #[test]
    fn a_clone_goes_on_as_the_original(case in case()) {
        let mut engine = case.engine();
        let id = engine.attach(case.sched()).expect("attaches");
        engine.run_until(Nanos::from_millis(40));
        let first = engine.take_records();
        let mut clone = engine.clone();
        engine.run_until(Nanos::from_millis(80));
        clone.run_until(Nanos::from_millis(80));
        let second = engine.take_records();
        prop_assert_eq!(&second, &clone.take_records());
        prop_assert_eq!(engine.stats(), clone.stats());
        prop_assert_eq!(engine.log(), clone.log());
        prop_assert_eq!(engine.exit_info(id), clone.exit_info(id));
        prop_assert_eq!(engine.event_counters(id), clone.event_counters(id));

        let mut again = case.engine();
        again.attach(case.sched()).expect("attaches");
        again.run_until(Nanos::from_millis(80));
        prop_assert_eq!([first, second].concat(), again.take_records());
    }
}
