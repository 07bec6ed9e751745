//! What real tasks do with time, locks, settings and cgroups. What they did is looked up in `/proc`;
//! tasks say how far they have come by the names of the processes that they start.

mod stagehand;

use std::fs;

use scxlab_agent::play::PlayError;
use scxlab_engine::program::{Instr, Pc, Policy, Program, Spawn, Who};
use scxlab_engine::{CpuId, Cpumask, Nanos};
use stagehand::*;

#[test]
fn time_passes_as_the_program_says() {
    let timer = |timer, absolute, shared| Instr::Timer {
        timer,
        period: Nanos::from_millis(30),
        absolute,
        shared,
    };
    let begin = std::time::Instant::now();
    let mut timed = program(
        vec![
            Instr::Run(ms(50)),
            Instr::Runtime(ms(50)),
            Instr::Sleep(ms(500)),
            timer(0, false, false),
            timer(0, false, false),
            timer(1, true, true),
            timer(1, true, true),
            Instr::Yield,
        ],
        &["timed"],
    );
    timed.timers = 2;
    let mut player = play(&timed);
    let pid = pid_of(&player, "timed");
    let mut used = 0;
    until("the end", || {
        used = used.max(stagehand::cpu_ticks(pid));
        !player.is_alive()
    });
    assert!(begin.elapsed().as_millis() >= 50 + 50 + 500 + 4 * 30, "{:?}", begin.elapsed());
    // Not more than half of what it slept, had it spun instead.
    assert!((5..=30).contains(&used), "{used} hundredths of a second of CPU time");
}

#[test]
fn loops_and_jumps_go_where_the_program_says() {
    let code = vec![
        Instr::Loop { count: Some(0), end: Pc(2) },
        process(9, 1),
        Instr::LoopEnd { body: Pc(1) },
        Instr::Loop { count: Some(3), end: Pc(7) },
        Instr::Loop { count: Some(2), end: Pc(6) },
        process(8, 1),
        Instr::LoopEnd { body: Pc(5) },
        Instr::LoopEnd { body: Pc(4) },
        forever(),
        // What the first loop would have forked, were it not skipped.
        Instr::Exec { entry: Pc(8), name: 0 },
    ];
    let player = play(&program(code, &["main", "child"]));
    until_there(&player, &["main", "child", "child", "child", "child", "child", "child"]);
    assert_eq!(player.counts().execs, 0);
}

#[test]
fn a_mutex_lets_one_in_at_a_time() {
    let mut code = vec![Instr::Spawn { what: Spawn::Thread, entry: Pc(3), name: 1 }];
    code.extend([process(3, 1), process(3, 1)]);
    code.extend([
        Instr::Lock(0),
        process(8, 2),
        Instr::Wait,
        Instr::Unlock(0),
        Instr::Jump(Pc(3)),
        Instr::Run(ms(2)),
        Instr::ExitGroup,
    ]);
    let mut locking = program(code, &["a", "b", "inside"]);
    locking.mutexes = 1;
    let player = play(&locking);
    until("many to have been in", || {
        let all = comms(player.group());
        let inside = all.iter().filter(|name| *name == "inside").count();
        assert!(inside <= 1, "{all:?}");
        player.counts().forked > 60
    });
}

#[test]
fn conditions_wake_one_or_all() {
    let code = vec![
        process(12, 1),
        process(12, 1),
        process(12, 1),
        process(11, 3),
        Instr::Wait,
        Instr::CondSignal(0),
        process(11, 3),
        Instr::Wait,
        Instr::Lock(0),
        Instr::CondBroadcast(0),
        Instr::Unlock(0),
        forever(),
        // One that waits, and then is another.
        Instr::Lock(0),
        Instr::CondWait { cond: 0, mutex: 0 },
        Instr::Unlock(0),
        Instr::Exec { entry: Pc(11), name: 2 },
    ];
    let mut waiting = program(code, &["main", "waits", "woken", "gate"]);
    (waiting.mutexes, waiting.conds) = (1, 1);
    let player = play(&waiting);
    until_there(&player, &["main", "gate", "waits", "waits", "waits"]);
    until_all_sleep(&player);
    open(&player, "gate");
    until_there(&player, &["main", "gate", "waits", "waits", "woken"]);
    until_all_sleep(&player);
    open(&player, "gate");
    until_there(&player, &["main", "woken", "woken", "woken"]);
}

#[test]
fn a_barrier_waits_for_all() {
    let code = vec![
        process(4, 1),
        process(4, 1),
        process(8, 3),
        Instr::Wait,
        // Where the three of them meet,
        Instr::Barrier(0),
        // and go on.
        process(8, 2),
        Instr::WaitAll,
        Instr::Exit,
        forever(),
    ];
    let mut meeting = program(code, &["main", "comes", "after", "gate"]);
    meeting.barriers = vec![3];
    let player = play(&meeting);
    until_there(&player, &["main", "gate", "comes", "comes"]);
    until_all_sleep(&player);
    until_counted(&player, 4, 0);
    open(&player, "gate");
    until_there(&player, &["main", "comes", "comes", "after", "after", "after"]);
}

#[test]
fn settings_reach_whom_they_mean() {
    let cpu0 = Box::new(Cpumask::of(CpuId(0)));
    let code = vec![
        Instr::SetNice(Who::Myself, 3),
        process(10, 1),
        Instr::SetNice(Who::LastChild, 7),
        thread(10, 2),
        Instr::SetNice(Who::LastChild, 9),
        Instr::SetAffinity(Who::Named(1), cpu0),
        Instr::SetPolicy(Who::Named(3), Policy::Idle),
        Instr::SetPolicy(Who::Myself, Policy::Batch),
        sleep_ms(10),
        // Again: a child may not have begun, and who is meant by name must have.
        Instr::Jump(Pc(5)),
        forever(),
    ];
    let mut setting = program(code, &["main", "child", "thread", "other"]);
    setting.start.push(setting.start[0].clone());
    let other = &mut setting.start[1];
    (other.entry, other.name, other.nice) = (Pc(10), 3, 12);
    other.affinity = Some(Box::new(Cpumask::first_n(1)));
    let player = play(&setting);
    let (main, child, other) =
        (pid_of(&player, "main"), pid_of(&player, "child"), pid_of(&player, "other"));
    until("the policies", || stagehand::policy(main) == 3 && stagehand::policy(other) == 5);
    until("the affinity", || stagehand::cpus_allowed(child) == "0");
    until("the niceness", || nice(main) == 3 && nice(child) == 7 && nice(other) == 12);
    assert_eq!(stagehand::cpus_allowed(other), "0");
    assert_eq!(stagehand::policy(child), 0);
    let thread_nice = || {
        let tasks = fs::read_dir(format!("/proc/{main}/task")).unwrap();
        let tids = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok());
        tids.map(nice).collect::<Vec<_>>()
    };
    until("the thread's niceness", || thread_nice().contains(&9));
    assert_eq!(player.refusals(), []);
}

#[test]
fn what_the_kernel_refuses_is_told() {
    let none = Box::new(Cpumask::of(CpuId(1000)));
    let code = vec![
        Instr::Loop { count: Some(3), end: Pc(2) },
        Instr::SetAffinity(Who::Myself, none),
        Instr::LoopEnd { body: Pc(1) },
    ];
    let mut player = play(&program(code, &["wishes"]));
    until("the end", || !player.is_alive());
    let refusals = player.refusals();
    let texts: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    assert_eq!(refusals.len(), 1, "{texts:?}");
    assert_eq!((refusals[0].times, refusals[0].errno), (3, libc::EINVAL));
    assert!(texts[0].starts_with("`wishes`: the kernel refused the affinity"), "{texts:?}");
}

#[test]
fn tasks_move_between_cgroups_that_are_removed() {
    let code = vec![thread(3, 1), Instr::SetCgroup(1), forever(), Instr::SetCgroup(2), forever()];
    let mut moving = Program {
        cgroups: ["/", "/a", "/a/b"].map(str::to_owned).to_vec(),
        ..program(code, &["main", "thread"])
    };
    moving.start.push(moving.start[0].clone());
    let still = &mut moving.start[1];
    (still.entry, still.cgroup) = (Pc(4), Some(0));
    let mut player = match try_play(&moving) {
        Ok(player) => player,
        Err(error @ (PlayError::NoCgroups | PlayError::Cgroup { .. })) => {
            eprintln!("not shown here: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let cgroups = || {
        let mut all = Vec::new();
        for member in members(player.group()) {
            let tasks = fs::read_dir(format!("/proc/{}/task", member.pid)).unwrap();
            for task in tasks.filter_map(Result::ok) {
                let cgroup = fs::read_to_string(task.path().join("cgroup")).unwrap_or_default();
                let own = cgroup.lines().find_map(|line| line.strip_prefix("0::"));
                all.extend(own.map(str::to_owned));
            }
        }
        all.sort();
        all
    };
    until("the moves", || {
        let all = cgroups();
        all.len() == 3
            && all[0].contains("/scxlab-")
            && all[1] == format!("{}/a", all[0])
            && all[2] == format!("{}/a/b", all[0])
    });
    assert_eq!(player.refusals(), []);
    let base = cgroups()[0].clone();
    player.stop().unwrap();
    let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    assert!(mounts.iter().all(|mount| !std::path::Path::new(&format!("{mount}{base}")).exists()));
}

#[test]
fn a_waiter_that_is_killed_is_passed_over() {
    let code = vec![
        Instr::Lock(0),
        process(9, 1),
        process(8, 4),
        Instr::Wait,
        process(9, 2),
        process(8, 4),
        Instr::Wait,
        Instr::Unlock(0),
        forever(),
        Instr::Lock(0),
        Instr::Exec { entry: Pc(8), name: 3 },
    ];
    let mut waiting = program(code, &["main", "killed", "next", "has it", "gate"]);
    waiting.mutexes = 1;
    let player = play(&waiting);
    until_there(&player, &["main", "killed", "gate"]);
    until_all_sleep(&player);
    open(&player, "gate");
    until_there(&player, &["main", "killed", "next", "gate"]);
    until_all_sleep(&player);
    // Reaped by the wait that was for the gate.
    stagehand::kill(pid_of(&player, "killed"));
    until_there(&player, &["main", "has it", "gate"]);
}

#[test]
fn a_task_has_its_mutexes_across_an_exec() {
    let code = vec![
        Instr::Lock(0),
        process(7, 1),
        Instr::Exec { entry: Pc(3), name: 2 },
        process(6, 4),
        Instr::Wait,
        Instr::Unlock(0),
        forever(),
        Instr::Lock(0),
        Instr::Exec { entry: Pc(6), name: 3 },
    ];
    let mut locking = program(code, &["main", "waits", "image", "has it", "gate"]);
    locking.mutexes = 1;
    let player = play(&locking);
    until_there(&player, &["image", "waits", "gate"]);
    until_all_sleep(&player);
    open(&player, "gate");
    until_there(&player, &["image", "has it"]);
}
