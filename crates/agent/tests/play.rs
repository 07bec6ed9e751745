//! The built-in workloads as real processes, how they end, and what is refused. What is claimed is
//! looked up in `/proc`.

mod stagehand;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use scxlab_agent::play::{Options, PlayError, Player};
use scxlab_engine::program::{Instr, Pc, Policy, Program, Spawn};
use stagehand::{Seen, comms, members, parent_of, play, program, program_of, try_play, until};

/// Plays a built-in workload until enough was seen of it, and returns that.
fn builtin(name: &str, enough: impl Fn(&Seen) -> bool) -> Seen {
    let mut player = play(&program_of(name));
    let mut seen = Seen::default();
    seen.watch(&mut player, enough);
    seen.stop(player);
    assert_eq!(seen.counts.forked, seen.counts.exited, "{seen:?}");
    assert_eq!(seen.counts.forks_failed, 0, "{seen:?}");
    println!("{name}: {:?}", seen.counts);
    seen
}

#[test]
fn nonleader_exec_execs_from_threads() {
    let names = ["worker", "shell", "image"];
    let enough = |seen: &Seen| seen.counts.nonleader_execs > 10 && seen.saw(&names);
    let seen = builtin("nonleader-exec", enough);
    assert_eq!(seen.counts.execs, seen.counts.nonleader_execs, "{seen:?}");
}

#[test]
fn exit_storm_keeps_two_children_of_each_worker() {
    // Four workers with two children each, of which some have had others before.
    let names = ["worker", "burner", "spark"];
    let enough =
        |seen: &Seen| seen.counts.forked > 4 + 16 && seen.most_at_once >= 8 && seen.saw(&names);
    let seen = builtin("exit-storm", enough);
    // A census is not atomic, so some may count twice.
    assert!(seen.most_at_once <= 20, "{seen:?}");
}

#[test]
fn fork_storm_forks_from_processes_with_threads() {
    let enough = |seen: &Seen| seen.counts.forked > 200 && seen.saw(&["worker", "mayfly"]);
    let seen = builtin("fork-storm", enough);
    assert_eq!(seen.counts.execs, 0);
}

#[test]
fn pingpong_goes_on() {
    let mut player = play(&program_of("pingpong"));
    let switches =
        |group| -> u64 { members(group).iter().map(|m| stagehand::switches(m.pid)).sum() };
    until("four threads", || comms(player.group()).len() == 5);
    let before = switches(player.group());
    until("a hundred turns", || switches(player.group()) > before + 100);
    let mut seen = Seen::default();
    seen.watch(&mut player, |seen| seen.saw(&["ping0-0", "pong0-1", "ping1-2", "pong1-3"]));
    seen.stop(player);
}

#[test]
fn hogs_burn_every_cpu_time_they_get() {
    let player = play(&program_of("hogs"));
    until("four hogs", || comms(player.group()).len() == 4);
    let pid = members(player.group())[0].pid;
    let used = || stagehand::cpu_ticks(pid);
    let before = used();
    until("a tenth of a second of CPU time", || used() >= before + 10);
    Seen::default().stop(player);
}

#[test]
fn mixed_does_everything() {
    let mut player = play(&program_of("mixed"));
    let mut seen = Seen::default();
    let all = ["hog", "hog-high", "renicer", "mover", "warden", "launcher", "reaper", "victim"];
    seen.watch(&mut player, |seen| {
        seen.saw(&all) && seen.counts.nonleader_execs > 0 && seen.counts.forked > 40
    });
    let refused = || player.refusals().iter().any(|refusal| refusal.task == "renicer");
    if !stagehand::may_raise_priority() {
        until("a refusal", refused);
    }
    let refusals = player.refusals();
    seen.stop(player);
    // Niceness below 0 is for the privileged; the kernel says so, and we say so.
    if stagehand::may_raise_priority() {
        assert_eq!(refusals, []);
    } else {
        assert!(refusals[0].to_string().contains("refused nice"), "{refusals:?}");
    }
}

/// Twelve generations, of which each process has two children: a fork bomb that is going off, but
/// that does not take the machine along if its test fails.
fn fork_bomb() -> Program {
    let mut code = Vec::new();
    for generation in 0..11 {
        let next = Pc(4 * (generation + 1));
        let child = Instr::Spawn { what: Spawn::Process, entry: next, name: 0 };
        code.extend([child.clone(), stagehand::sleep_ms(10), child, Instr::Jump(Pc(44))]);
    }
    code.extend([stagehand::sleep_ms(1000), Instr::Jump(Pc(44))]);
    program(code, &["bomb"])
}

#[test]
fn a_stop_ends_a_fork_bomb() {
    let mut player = play(&fork_bomb());
    until("an explosion", || player.counts().forked > 300);
    let group = player.group();
    let counts = player.stop().unwrap();
    assert!(counts.forked > 300 && counts.exited == counts.forked, "{counts:?}");
    assert!(members(group).is_empty());
}

#[test]
fn a_stop_ends_a_fork_storm() {
    for _ in 0..5 {
        let mut player = play(&program_of("fork-storm"));
        until("a storm", || player.counts().forked > 50);
        let group = player.group();
        player.stop().unwrap();
        assert!(members(group).is_empty());
    }
}

#[test]
fn a_player_that_is_dropped_leaves_nothing() {
    let player = play(&program_of("fork-storm"));
    let group = player.group();
    until("a storm", || player.counts().forked > 50);
    drop(player);
    assert!(members(group).is_empty());
}

#[test]
fn a_keeper_that_is_killed_takes_all_along() {
    let mut player = play(&program_of("fork-storm"));
    let group = player.group();
    until("a storm", || player.counts().forked > 50);
    assert!(player.is_kept());
    stagehand::kill(parent_of(group));
    until("the end", || members(group).is_empty());
    assert!(!player.is_alive() && !player.is_kept());
    player.stop().unwrap();
}

#[test]
fn an_anchor_that_is_killed_takes_all_along() {
    let mut player = play(&program_of("fork-storm"));
    let group = player.group();
    until("a storm", || player.counts().forked > 50);
    stagehand::kill(group);
    until("the end", || members(group).is_empty());
    until("the keeper's end", || !player.is_alive());
    player.stop().unwrap();
}

/// Not a test: the process that the next one kills.
#[test]
#[ignore = "is started by a_player_that_is_killed_leaves_nothing"]
fn player_process() {
    if std::env::var_os("SCXLAB_PLAYER_PROCESS").is_some() {
        let player = play(&program_of("fork-storm"));
        println!("\ngroup {}", player.group());
        std::thread::sleep(stagehand::PATIENCE);
    }
}

#[test]
fn a_player_that_is_killed_leaves_nothing() {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "player_process"])
        .env("SCXLAB_PLAYER_PROCESS", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
    let group = lines.filter_map(|line| line.strip_prefix("group ")?.parse().ok()).next();
    let group: i32 = group.unwrap();
    until("a storm", || comms(group).len() > 5);
    let keeper = parent_of(group);
    process.kill().unwrap();
    process.wait().unwrap();
    let there = |pid: i32| std::path::Path::new(&format!("/proc/{pid}")).exists();
    until("the end", || members(group).is_empty() && !there(group) && !there(keeper));
}

#[test]
fn a_workload_that_has_ended_can_be_told() {
    let mut player = play(&program(vec![stagehand::forever()], &["brief"]));
    until("the beginning", || comms(player.group()) == ["brief"]);
    assert!(player.is_alive());
    stagehand::kill(stagehand::pid_of(&player, "brief"));
    until("the end", || !player.is_alive());
    assert!(player.is_kept());
    stagehand::until_counted(&player, 1, 1);
}

#[test]
fn start_times_are_kept() {
    let mut late = program(vec![stagehand::forever()], &["early", "late"]);
    late.start.push(late.start[0].clone());
    late.start[1].name = 1;
    late.start[1].at = scxlab_engine::Nanos::from_millis(300);
    let begin = std::time::Instant::now();
    let mut player = play(&late);
    until("both", || player.counts().forked == 2);
    assert!(begin.elapsed() >= Duration::from_millis(300));
    until("both names", || comms(player.group()).len() == 2);
    assert!(player.is_alive());
}

fn refusal(program: &Program) -> String {
    match try_play(program) {
        Ok(_) => panic!("it is played"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_real_tasks_cannot_do_is_refused() {
    for instr in [Instr::MigrateDisable, Instr::MigrateEnable] {
        let why = refusal(&program(vec![Instr::Yield, instr], &["t"]));
        assert!(why.starts_with("instruction 1: migrate_"), "{why}");
    }
    let nothing = Program { start: Vec::new(), ..program(vec![Instr::Yield], &["t"]) };
    assert!(refusal(&nothing).contains("starts no task"));
    let wrong = program(vec![Instr::Lock(0)], &["t"]);
    assert!(refusal(&wrong).contains("mutex 0 does not exist"));
}

#[test]
fn the_ext_policy_needs_a_kernel_that_has_it() {
    let mut ext = program(vec![stagehand::forever()], &["t"]);
    ext.start[0].policy = Policy::Ext;
    match try_play(&ext) {
        Ok(player) => {
            until("the policy", || {
                members(player.group()).iter().any(|m| stagehand::policy(m.pid) == 7)
            });
        }
        Err(error) => {
            assert!(!std::path::Path::new("/sys/kernel/sched_ext").exists());
            assert!(matches!(error, PlayError::NoExt { .. }));
            assert!(error.to_string().starts_with("task `t`: this kernel has no"), "{error}");
        }
    }
}

#[test]
fn an_image_that_is_none_is_refused() {
    let hogs = program_of("hogs");
    let start = |image: &str| {
        let options = Options { image: Some(image.into()) };
        Player::start(&hogs, 1, &options).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(start("/nonexistent").contains("/nonexistent"), "{}", start("/nonexistent"));
    assert!(start("/bin/true").contains("did not come up"), "{}", start("/bin/true"));
}
