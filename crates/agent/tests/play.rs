//! Workloads as real processes. What is claimed is looked up in `/proc`.

mod stagehand;

use std::time::Duration;

use stagehand::{Seen, play, program_of};

/// Plays a built-in workload for about a second, and returns what was seen of it.
fn builtin(name: &str) -> Seen {
    let mut player = play(&program_of(name));
    let mut seen = Seen::default();
    seen.watch(&mut player, Duration::from_millis(1200));
    seen.stop(player);
    seen
}

#[test]
fn nonleader_exec_execs_from_threads() {
    let seen = builtin("nonleader-exec");
    println!("{:?} {}", seen.counts, seen.most_at_once);
    assert!(seen.counts.nonleader_execs > 10, "{seen:?}");
    assert_eq!(seen.counts.execs, seen.counts.nonleader_execs, "{seen:?}");
    assert_eq!(seen.counts.forked, seen.counts.exited, "{seen:?}");
    for comm in ["worker", "shell", "image"] {
        assert!(seen.comms.contains(comm), "no {comm}: {seen:?}");
    }
}
