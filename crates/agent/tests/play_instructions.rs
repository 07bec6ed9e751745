//! Every instruction as a real task does it. What it did is looked up in `/proc`; tasks say how far
//! they have come by the names of the processes that they start.

mod stagehand;

use std::fs;
use std::time::{Duration, Instant};

use scxlab_agent::play::{PlayError, Player};
use scxlab_engine::program::{Instr, Pc, Policy, Program, Span, Spawn, Who};
use scxlab_engine::{CpuId, Cpumask, Nanos};
use stagehand::{comms, members, nice, play, program, sleep_ms, try_play, until};

/// Waits until exactly these names are there, in any order.
fn until_there(player: &Player, names: &[&str]) {
    let mut wanted: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    wanted.sort();
    let mut history = Vec::new();
    let begin = Instant::now();
    while history.last() != Some(&wanted) {
        let mut there = comms(player.group());
        there.sort();
        if history.last() != Some(&there) {
            history.push(there);
        }
        assert!(begin.elapsed() < stagehand::PATIENCE, "no {wanted:?}, but {history:#?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn pid_of(player: &Player, name: &str) -> i32 {
    let mut pid = None;
    until(name, || {
        let all = members(player.group());
        pid = all.iter().find(|m| m.comms.contains(&name.to_owned())).map(|m| m.pid);
        pid.is_some()
    });
    pid.unwrap()
}

fn ms(ms: u64) -> Span {
    Span::exactly(Nanos::from_millis(ms))
}

fn process(entry: u32, name: u32) -> Instr {
    Instr::Spawn { what: Spawn::Process, entry: Pc(entry), name }
}

fn thread(entry: u32, name: u32) -> Instr {
    Instr::Spawn { what: Spawn::Thread, entry: Pc(entry), name }
}

/// Opens a gate: a process of that name, which another one waits for.
fn open(player: &Player, gate: &str) {
    stagehand::kill(pid_of(player, gate));
}

/// Waits until every task sleeps, and so has come to where it waits.
fn until_all_sleep(player: &Player) {
    let mut in_a_row = 0;
    until("sleep", || {
        let all = members(player.group());
        in_a_row = if all.iter().all(|m| m.state == "S") { in_a_row + 1 } else { 0 };
        in_a_row == 10
    });
}

/// As long as a test lasts.
fn forever() -> Instr {
    sleep_ms(60_000)
}

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
            Instr::Sleep(ms(50)),
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
    assert!(begin.elapsed().as_millis() >= 50 + 50 + 50 + 4 * 30, "{:?}", begin.elapsed());
    assert!((5..=25).contains(&used), "{used} hundredths of a second of CPU time");
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
    assert_eq!(player.counts().forked, 4);
    open(&player, "gate");
    until_there(&player, &["main", "comes", "comes", "after", "after", "after"]);
}

#[test]
fn an_exec_keeps_the_pid_and_takes_the_name() {
    let code = vec![
        Instr::Exec { entry: Pc(1), name: 1 },
        thread(3, 2),
        forever(),
        process(2, 4),
        Instr::Wait,
        Instr::Exec { entry: Pc(2), name: 3 },
    ];
    let names = ["before", "by-leader", "its-thread", "by-a-thread-of-it", "gate"];
    let player = play(&program(code, &names));
    until_there(&player, &["by-leader", "its-thread", "gate"]);
    let pid = pid_of(&player, "by-leader");
    open(&player, "gate");
    // 15 bytes.
    until_there(&player, &["by-a-thread-of-"]);
    assert_eq!(pid_of(&player, "by-a-thread-of-"), pid);
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(command.starts_with("by-a-thread-of-it\0"), "{command}");
    let counts = player.counts();
    assert_eq!((counts.execs, counts.nonleader_execs), (2, 1));
    // The first process, its thread, the gate; of the first two only one lives.
    assert_eq!((counts.forked, counts.exited), (3, 2));
}

#[test]
fn a_leader_that_exits_leaves_its_threads() {
    let player = play(&program(vec![thread(2, 1), Instr::Exit, forever()], &["leader", "thread"]));
    let mut seen = Vec::new();
    until("a zombie with a thread", || {
        seen = members(player.group());
        seen.first().is_some_and(|m| m.state == "Z" && m.comms.len() == 2)
    });
    let counts = player.counts();
    assert_eq!((counts.forked, counts.exited), (2, 1), "{seen:?}");
}

#[test]
fn exit_group_ends_all_threads() {
    let code = vec![thread(2, 1), forever(), process(1, 2), Instr::Wait, Instr::ExitGroup];
    let mut player = play(&program(code, &["leader", "thread", "gate"]));
    until_there(&player, &["leader", "thread", "gate"]);
    open(&player, "gate");
    until("the end", || !player.is_alive());
    assert_eq!(player.counts().exited, 3);
}

#[test]
fn waiting_is_for_one_or_for_all() {
    let code = vec![
        process(7, 1),
        process(7, 2),
        Instr::Wait,
        process(7, 3),
        Instr::WaitAll,
        process(7, 4),
        forever(),
        forever(),
    ];
    let player = play(&program(code, &["waits", "first", "second", "third", "done"]));
    until_there(&player, &["waits", "first", "second"]);
    open(&player, "second");
    until_there(&player, &["waits", "first", "third"]);
    open(&player, "first");
    until_there(&player, &["waits", "third"]);
    until_all_sleep(&player);
    open(&player, "third");
    until_there(&player, &["waits", "done"]);
    assert_eq!((members(player.group()).len(), player.counts().exited), (2, 3));
}

#[test]
fn ignored_children_leave_no_zombies() {
    let code =
        vec![Instr::IgnoreChildren, process(4, 1), process(4, 1), forever(), Instr::ExitGroup];
    let player = play(&program(code, &["ignores", "child"]));
    until("both to be gone", || player.counts().exited == 2);
    assert_eq!(members(player.group()).len(), 1);
    // Otherwise they stay, until they are waited for.
    let code = vec![Instr::Yield, process(4, 1), process(4, 1), forever(), Instr::ExitGroup];
    let player = play(&program(code, &["does not", "child"]));
    until("both to be dead", || player.counts().exited == 2);
    assert_eq!(members(player.group()).iter().filter(|m| m.state == "Z").count(), 2);
}

#[test]
fn ignoring_children_is_not_inherited() {
    let code = vec![
        Instr::IgnoreChildren,
        process(3, 1),
        forever(),
        // The child's child, which it does not wait for.
        process(5, 2),
        forever(),
        Instr::Exit,
    ];
    let player = play(&program(code, &["ignores", "child", "dies"]));
    until("a zombie of the child", || {
        let all = members(player.group());
        let child = all.iter().find(|m| m.comms == ["child"]).map(|m| m.pid);
        all.iter().any(|m| m.state == "Z" && Some(m.ppid) == child)
    });
}

#[test]
fn a_thread_execs_also_without_its_leader() {
    let code = vec![
        thread(2, 1),
        Instr::Exit,
        process(5, 2),
        Instr::Wait,
        Instr::Exec { entry: Pc(5), name: 3 },
        forever(),
    ];
    let player = play(&program(code, &["leader", "thread", "gate", "image"]));
    let pid = |comm| pid_of(&player, comm);
    until("a dead leader", || {
        members(player.group()).iter().any(|m| m.state == "Z" && m.comms.len() == 2)
    });
    let before = pid("thread");
    open(&player, "gate");
    assert_eq!(pid("image"), before);
    assert_eq!(player.counts().nonleader_execs, 1);
    assert_eq!(player.refusals(), []);
}

#[test]
fn orphans_are_the_keepers() {
    let player = play(&program(vec![process(1, 1), forever()], &["parent", "orphan"]));
    until_there(&player, &["parent", "orphan"]);
    stagehand::kill(pid_of(&player, "parent"));
    until("the parent to be reaped", || members(player.group()).len() == 1);
    assert_eq!(members(player.group())[0].ppid, stagehand::parent_of(player.group()));
    stagehand::kill(pid_of(&player, "orphan"));
    until("the orphan to be reaped", || members(player.group()).is_empty());
}

#[test]
fn joining_waits_for_threads_that_it_made() {
    let code = vec![
        thread(5, 1),
        thread(5, 1),
        Instr::JoinAll,
        process(4, 2),
        forever(),
        // Each thread waits for a gate of the two.
        process(4, 3),
        Instr::Wait,
        Instr::Exit,
    ];
    let player = play(&program(code, &["joins", "thread", "joined", "gate"]));
    until_there(&player, &["joins", "thread", "thread", "gate", "gate"]);
    open(&player, "gate");
    until_there(&player, &["joins", "thread", "gate"]);
    until_all_sleep(&player);
    open(&player, "gate");
    until_there(&player, &["joins", "joined"]);
}

#[test]
fn a_task_that_never_joins_does_not_collect_threads() {
    let code = vec![
        Instr::Loop { count: Some(2000), end: Pc(3) },
        thread(6, 1),
        Instr::Yield,
        Instr::LoopEnd { body: Pc(1) },
        Instr::Exec { entry: Pc(5), name: 2 },
        forever(),
        Instr::Exit,
    ];
    let player = play(&program(code, &["makes", "mayfly", "done"]));
    let pid = pid_of(&player, "makes");
    let mut most = 0;
    until("all of them", || {
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
        let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
        most = most.max(pages * 4 / 1024);
        comms(player.group()) == ["done"]
    });
    assert_eq!(player.counts().forked, 2001);
    // 2000 stacks would be 250 MiB.
    assert!(most < 100, "{most} MiB");
}

#[test]
fn a_kill_by_name_reaches_all_of_that_name() {
    let code = vec![
        process(7, 1),
        process(8, 1),
        process(7, 2),
        process(7, 3),
        Instr::Wait,
        Instr::Kill(Who::Named(1)),
        forever(),
        forever(),
        // One with a thread, and another name by now.
        thread(7, 2),
        Instr::Exec { entry: Pc(7), name: 4 },
    ];
    let player = play(&program(code, &["main", "victim", "bystander", "gate", "renamed"]));
    until_there(&player, &["main", "victim", "renamed", "bystander", "gate"]);
    until_all_sleep(&player);
    open(&player, "gate");
    until_there(&player, &["main", "bystander"]);
}

#[test]
fn a_kill_of_the_last_child_is_of_that_one() {
    let code = vec![
        process(7, 1),
        process(7, 2),
        // Also when it has hardly begun.
        Instr::Kill(Who::LastChild),
        Instr::Wait,
        // Now it is nobody.
        Instr::Kill(Who::LastChild),
        process(7, 3),
        forever(),
        forever(),
    ];
    let player = play(&program(code, &["main", "bystander", "last", "done"]));
    until_there(&player, &["main", "bystander", "done"]);
    // A thread's kill is its process's.
    let code = vec![process(1, 1), thread(3, 2), Instr::Kill(Who::LastChild), forever()];
    let player = play(&program(code, &["main", "child", "thread"]));
    until("all of it to end", || comms(player.group()).is_empty());
}

#[test]
fn a_kill_of_the_parent_is_not_the_keepers() {
    let code = vec![
        // The keeper.
        Instr::Kill(Who::Parent),
        process(4, 1),
        process(3, 2),
        forever(),
        process(3, 3),
        Instr::Wait,
        // The one that began here.
        Instr::Kill(Who::Parent),
        process(3, 4),
        forever(),
    ];
    let player = play(&program(code, &["main", "parricide", "bystander", "gate", "done"]));
    until_there(&player, &["main", "parricide", "bystander", "gate"]);
    open(&player, "gate");
    until_there(&player, &["parricide", "bystander", "done"]);
}

#[test]
fn a_kill_of_oneself_is_of_the_process() {
    let code = vec![process(3, 1), thread(2, 1), Instr::Kill(Who::Myself), forever()];
    let player = play(&program(code, &["main", "other"]));
    until_there(&player, &["other"]);
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

#[test]
fn processes_fork_from_several_threads_at_once() {
    let code = vec![
        thread(4, 1),
        thread(4, 1),
        thread(4, 1),
        Instr::JoinAll,
        // Each of the threads, over and over: a child that can itself make threads and processes.
        process(7, 2),
        Instr::Wait,
        Instr::Jump(Pc(4)),
        thread(11, 2),
        process(11, 2),
        Instr::JoinAll,
        Instr::WaitAll,
        Instr::Exit,
    ];
    let player = play(&program(code, &["main", "thread", "child"]));
    until("a thousand", || player.counts().forked > 1000);
    assert_eq!(player.counts().forks_failed, 0);
}

#[test]
fn of_threads_that_exec_at_once_one_does() {
    let code = vec![
        thread(4, 1),
        thread(4, 1),
        thread(4, 1),
        forever(),
        Instr::Barrier(0),
        Instr::Exec { entry: Pc(3), name: 2 },
    ];
    let mut racing = program(code, &["leader", "racer", "image"]);
    racing.barriers = vec![3];
    let player = play(&racing);
    until_there(&player, &["image"]);
    let counts = player.counts();
    assert_eq!((counts.execs, counts.nonleader_execs), (1, 1));
    assert_eq!((counts.forked, counts.exited), (4, 3));
}
