//! The seed's experiment with every seed from 1 to 200. Slow: `cargo xtask test --slow`.

use std::sync::Arc;

use scxlab_engine::{Config, Engine, ExitKind, Nanos};
use scxlab_schedulers::{Key, Qmap};
use scxlab_workload::Workload;

/// Whether qmap was ejected for a stall, and how many tasks were lost, in 30 s on 4 CPUs.
fn outcome(workload: &str, qmap: Qmap, seed: u64) -> (bool, usize) {
    let program = Workload::builtin(workload, 4).unwrap().compile(4).unwrap();
    let config = Config { seed, check: false, ..Config::new(4, Arc::new(program)) };
    let mut engine = Engine::new(config).unwrap();
    let sched = engine.attach(Arc::new(qmap)).unwrap();
    for second in 1..=30 {
        engine.run_until(Nanos::from_secs(second));
        if let Some(info) = engine.exit_info(sched) {
            assert_eq!(info.kind, ExitKind::ErrorStall, "{workload}, seed {seed}: {}", info.msg);
            return (true, engine.lost_tasks().len());
        }
    }
    (false, engine.lost_tasks().len())
}

fn stalls(workload: &str, qmap: &Qmap) {
    for seed in 1..=200 {
        let (ejected, lost) = outcome(workload, qmap.clone(), seed);
        assert!(ejected && lost > 0, "{workload}, seed {seed}: ejected {ejected}, {lost} lost");
    }
}

fn runs_clean(workload: &str, qmap: &Qmap) {
    for seed in 1..=200 {
        assert_eq!(outcome(workload, qmap.clone(), seed), (false, 0), "{workload}, seed {seed}");
    }
}

#[test]
#[ignore = "slow"]
fn by_pid_the_exec_stall_shows_with_every_seed() {
    stalls("nonleader-exec", &Qmap::keyed_by(Key::Pid));
    stalls("nonleader-exec", &Qmap::keyed_by(Key::Pid).exiting(false));
}

#[test]
#[ignore = "slow"]
fn by_tid_the_execs_run_clean_with_every_seed() {
    runs_clean("nonleader-exec", &Qmap::keyed_by(Key::Tid));
}

#[test]
#[ignore = "slow"]
fn by_pid_the_dying_task_stall_shows_with_every_seed() {
    stalls("exit-storm", &Qmap::keyed_by(Key::Pid));
}

#[test]
#[ignore = "slow"]
fn by_tid_or_without_exiting_tasks_the_exits_run_clean_with_every_seed() {
    runs_clean("exit-storm", &Qmap::keyed_by(Key::Tid));
    runs_clean("exit-storm", &Qmap::keyed_by(Key::Pid).exiting(false));
}
