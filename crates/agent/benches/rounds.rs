//! How fast real tasks come and go: rounds a second of one process that forks a child and waits
//! for it, when the child exits at once, when it execs first, and when a thread of it does. The
//! ratio to the first is what starting the image costs.
//!
//! `SCXLAB_IMAGE` names another binary for the tasks to be, such as a static one.

use std::time::{Duration, Instant};

use scxlab_engine::program::{Instr, Pc, Program, Spawn};

#[path = "../tests/stagehand/mod.rs"]
mod stagehand;

const TIME: Duration = Duration::from_secs(2);

fn main() {
    let thread = Instr::Spawn { what: Spawn::Thread, entry: Pc(6), name: 0 };
    let exec = Instr::Exec { entry: Pc(3), name: 1 };
    // What all have in common: a round, the image, and what a child begins with.
    let program_with = |first: Instr, forked: u32| {
        let fork = Instr::Spawn { what: Spawn::Process, entry: Pc(forked), name: 0 };
        let round = [fork, Instr::Wait, Instr::Jump(Pc(0)), Instr::ExitGroup];
        let code = round.into_iter().chain([first, Instr::JoinAll, exec.clone()]).collect();
        stagehand::program(code, &["round", "image"])
    };
    let cases = [
        ("fork, wait", program_with(Instr::Yield, 3), 1),
        ("fork, exec, wait", program_with(exec.clone(), 4), 1),
        ("fork, thread, exec from it, wait", program_with(thread, 4), 2),
    ];
    let mut fork = None;
    for (what, program, forks) in cases {
        let (rounds, execs) = rounds(&program, forks);
        let base = *fork.get_or_insert(rounds);
        println!(
            "{what:34} {rounds:8.0} a second, {:5.2} times a fork, {execs} execs",
            base / rounds
        );
    }
    let (rounds, execs) = rounds(&stagehand::program_of("nonleader-exec"), 2);
    println!("nonleader-exec for two CPUs        {rounds:8.0} a second, {execs} execs");
}

/// Rounds a second, each of so many forks, and the execs in all.
fn rounds(program: &Program, forks: u64) -> (f64, u64) {
    let mut player = stagehand::play(program);
    let begin = Instant::now();
    std::thread::sleep(TIME);
    let counts = player.counts();
    let rounds = counts.forked as f64 / forks as f64 / begin.elapsed().as_secs_f64();
    player.stop().expect("it stops");
    (rounds, counts.execs)
}
