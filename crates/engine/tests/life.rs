//! The life of tasks: pids, fork, exec, exit, wait, kill.

use scxlab_engine::program::{Instr, Spawn, Who};
use scxlab_engine::{Engine, Nanos, Pid, Record, What};

mod support;
use support::{Lab, Prog, attached, busy, go, mask, quiet, run, run_us, sleep, sleep_us, task};

fn started(prog: Prog) -> Engine {
    let mut config = quiet(2, prog);
    config.pid_max = Some(400);
    Engine::new(config).expect("fine")
}

/// The pids of live tasks by this name.
fn pids(engine: &Engine, comm: &str) -> Vec<i32> {
    engine.live_tasks().filter(|p| p.comm() == comm).map(|p| p.pid).collect()
}

fn find<R>(records: &[Record], f: impl Fn(&What) -> Option<R>) -> Vec<R> {
    records.iter().filter_map(|r| f(&r.what)).collect()
}

#[test]
fn pids_go_round_and_are_used_again_above_300() {
    let mut prog = Prog::new();
    let child = prog.routine("child", vec![run_us(10)]);
    let parent = prog.forever("parent", vec![child.process(), Instr::Wait]);
    prog.start(parent);
    let mut engine = started(prog);
    go(&mut engine, 1_000);
    let forked = find(&engine.take_records(), |what| match what {
        What::Fork { child, .. } if child.comm() == "parent" || child.comm() == "child" => {
            Some(child.pid.0)
        }
        _ => None,
    });
    assert!(forked.len() > 1_000);
    assert_eq!(engine.stats().forks_failed, 0);
    let mut last = forked[0];
    for &pid in &forked[1..] {
        let next = if last == 399 { 300..=301 } else { last + 1..=last + 2 };
        assert!(next.contains(&pid), "{pid} after {last}");
        last = pid;
    }
    assert!(forked.iter().filter(|pid| **pid == 350).count() > 5);
}

#[test]
fn an_exec_by_the_only_thread_keeps_pid_and_tid() {
    let mut prog = Prog::new();
    let new = prog.routine("new", vec![sleep(1_000)]);
    let old = prog.routine("old", vec![sleep(5), new.exec()]);
    prog.start(old);
    let mut engine = started(prog);
    go(&mut engine, 3);
    let before = task(&engine, "old");
    let (pid, tid) = (before.pid, before.scx.tid);
    go(&mut engine, 10);
    let after = task(&engine, "new");
    assert_eq!((after.pid, after.tgid, after.scx.tid), (pid, pid, tid));
    assert_eq!((engine.stats().execs, engine.stats().nonleader_execs), (1, 0));
}

#[test]
fn an_exec_by_a_thread_takes_the_leaders_pid() {
    let mut prog = Prog::new();
    let new = prog.routine("new", vec![sleep(1_000)]);
    let thread = prog.routine("thread", vec![sleep(5), new.exec()]);
    let bystander = prog.routine("bystander", vec![sleep(1_000)]);
    let leader = prog.routine("leader", vec![bystander.thread(), thread.thread(), sleep(1_000)]);
    prog.start(leader);
    let mut engine = started(prog);
    go(&mut engine, 3);
    let of = |comm| (task(&engine, comm).pid, task(&engine, comm).scx.tid);
    let (leader, thread) = (of("leader"), of("thread"));
    engine.take_records();
    go(&mut engine, 10);
    let after = task(&engine, "new");
    assert_eq!((after.pid, after.tgid), (leader.0, leader.0));
    assert_eq!(after.scx.tid, thread.1, "the tid does not change");
    assert_eq!(engine.task_from_pid(Pid(thread.0)), None);
    assert_eq!(engine.task_from_pid(Pid(leader.0)).map(|p| p.tid), Some(thread.1));
    assert!(pids(&engine, "leader").is_empty() && pids(&engine, "bystander").is_empty());
    assert_eq!(engine.stats().nonleader_execs, 1);
    let records = engine.take_records();
    let exec = find(&records, |what| match what {
        What::Exec { old, new, nonleader } => Some((old.pid.0, new.pid.0, *nonleader)),
        _ => None,
    });
    assert_eq!(exec, [(leader.0, leader.0, true)]);
    let dead = find(&records, |what| match what {
        What::Dead { task } => Some(task.tid),
        _ => None,
    });
    assert!(dead.contains(&leader.1));
}

#[test]
fn an_exec_whose_leader_has_exited_before() {
    let mut prog = Prog::new();
    let new = prog.routine("new", vec![sleep(1_000)]);
    let thread = prog.routine("thread", vec![sleep(5), new.exec()]);
    let leader = prog.routine("leader", vec![thread.thread()]);
    prog.start(leader);
    let mut engine = started(prog);
    go(&mut engine, 3);
    let (pid, tid) = (task(&engine, "thread").tgid, task(&engine, "thread").scx.tid);
    assert!(pids(&engine, "leader").is_empty(), "it is past its last switch");
    assert!(engine.task_from_pid(Pid(pid)).is_some(), "and a zombie with its pid");
    go(&mut engine, 10);
    let after = task(&engine, "new");
    assert_eq!((after.pid, after.scx.tid), (pid, tid));
}

#[test]
fn a_kill_in_an_exec_ends_both() {
    for at in (5_000..5_700).step_by(4) {
        let mut prog = Prog::new();
        let new = prog.routine("new", vec![sleep(1_000)]);
        let thread = prog.routine("thread", vec![sleep(5), new.exec()]);
        let busy = prog.forever("busy", vec![run_us(500)]);
        let leader = prog.routine("leader", vec![busy.thread(), thread.thread(), sleep(1_000)]);
        prog.start(leader);
        let name = Who::Named(thread.name);
        let killer = prog.routine("killer", vec![sleep_us(at), Instr::Kill(name)]);
        prog.start(killer);
        let mut engine = started(prog);
        go(&mut engine, 30);
        for comm in ["leader", "thread", "busy", "new"] {
            assert!(pids(&engine, comm).is_empty(), "{comm} lives, killed at {at}");
        }
        assert_eq!((engine.stats().forked, engine.stats().exited), (4, 4));
    }
}

#[test]
fn two_threads_exec_at_once() {
    for gap in 0..40 {
        let mut prog = Prog::new();
        let new = prog.routine("new", vec![sleep(1_000)]);
        let one = prog.routine("one", vec![sleep_us(1_000), new.exec()]);
        let two = prog.routine("two", vec![sleep_us(900 + gap * 5), new.exec()]);
        let leader = prog.routine("leader", vec![one.thread(), two.thread(), sleep(1_000)]);
        prog.start(leader);
        let mut engine = started(prog);
        go(&mut engine, 30);
        assert_eq!(pids(&engine, "new").len(), 1, "gap {gap}");
        assert_eq!(engine.stats().execs, 1);
        assert_eq!(engine.live_tasks().count(), 4);
    }
}

#[test]
fn forks_fail_when_the_pids_are_used_up() {
    let mut prog = Prog::new();
    let child = prog.routine("child", vec![sleep(10_000)]);
    let parent = prog.forever("parent", vec![child.process()]);
    prog.start(parent);
    let mut engine = started(prog);
    go(&mut engine, 100);
    let stats = engine.stats();
    // 1 to 399, of which init, kthreadd and the worker have three.
    assert_eq!(stats.forked, 396);
    assert!(stats.forks_failed > 100);
    let failed = find(&engine.take_records(), |what| match what {
        What::ForkFailed { errno, tid, .. } => Some((*errno, *tid)),
        _ => None,
    });
    assert!(failed.iter().all(|f| *f == (11, 0)), "no tid is given out before the pid");
}

#[test]
fn a_zombie_keeps_its_pid_until_it_is_waited_for() {
    let mut prog = Prog::new();
    let child = prog.routine("child", vec![run_us(10)]);
    let parent = prog.routine("parent", vec![child.process(), sleep(20), Instr::Wait, sleep(99)]);
    prog.start(parent);
    let mut engine = started(prog);
    go(&mut engine, 10);
    assert!(pids(&engine, "child").is_empty());
    let pid = Pid(pids(&engine, "parent")[0] + 1);
    assert_eq!(engine.task_from_pid(pid).map(|p| p.comm().to_owned()), Some("child".into()));
    go(&mut engine, 20);
    assert_eq!(engine.task_from_pid(pid), None);
}

#[test]
fn who_ignores_its_children_waits_for_all_of_them() {
    let mut prog = Prog::new();
    let short = prog.routine("short", vec![sleep(1)]);
    let long = prog.routine("long", vec![sleep(20)]);
    let parent = prog.routine(
        "parent",
        vec![Instr::IgnoreChildren, short.process(), long.process(), Instr::WaitAll, sleep(99)],
    );
    prog.start(parent);
    let mut engine = started(prog);
    go(&mut engine, 10);
    let records = engine.take_records();
    let own = find(&records, |what| match what {
        What::PidLost { task, how: scxlab_engine::PidLoss::Exit, .. } => {
            Some(task.comm().to_owned())
        }
        _ => None,
    });
    assert_eq!(own, ["short"], "its own exit released it");
    let before = task(&engine, "parent").nvcsw;
    go(&mut engine, 5);
    assert_eq!(task(&engine, "parent").nvcsw, before, "still in the wait");
    go(&mut engine, 20);
    assert!(task(&engine, "parent").nvcsw > before);
}

#[test]
fn a_wait_without_children_goes_on_at_once() {
    let mut prog = Prog::new();
    let a = prog.routine("a", vec![Instr::Wait, Instr::WaitAll, Instr::JoinAll]);
    prog.start(a);
    let mut engine = started(prog);
    go(&mut engine, 1);
    assert_eq!(engine.stats().exited, 1);
}

#[test]
fn orphans_are_reaped_by_init() {
    let mut prog = Prog::new();
    let grandchild = prog.routine("grandchild", vec![sleep(5)]);
    let child = prog.routine("child", vec![grandchild.process()]);
    let parent = prog.routine("parent", vec![child.process(), Instr::Wait, sleep(99)]);
    prog.start(parent);
    let mut engine = started(prog);
    go(&mut engine, 20);
    let reaped = find(&engine.take_records(), |what| match what {
        What::PidLost { task, how: scxlab_engine::PidLoss::Reaped { by }, .. } => {
            Some((task.comm().to_owned(), by.comm().to_owned()))
        }
        _ => None,
    });
    assert!(reaped.contains(&("child".into(), "parent".into())), "{reaped:?}");
    assert!(reaped.contains(&("grandchild".into(), "init".into())), "{reaped:?}");
}

#[test]
fn a_leader_that_exits_first_is_waited_for_when_its_threads_are_gone() {
    let mut prog = Prog::new();
    let thread = prog.routine("thread", vec![sleep(10)]);
    let leader = prog.routine("leader", vec![thread.thread()]);
    let parent = prog.routine("parent", vec![leader.process(), Instr::Wait, sleep(99)]);
    prog.start(parent);
    let mut engine = started(prog);
    go(&mut engine, 5);
    let leader = Pid(task(&engine, "thread").tgid);
    assert!(engine.task_from_pid(leader).is_some());
    go(&mut engine, 20);
    assert_eq!(engine.task_from_pid(leader), None);
}

#[test]
fn a_group_exit_ends_all_threads() {
    let mut prog = Prog::new();
    let sleeper = prog.routine("sleeper", vec![sleep(10_000)]);
    let spinner = prog.forever("spinner", vec![run(1)]);
    let ends = prog.routine("ends", vec![sleep(5), Instr::ExitGroup]);
    let leader = prog
        .routine("leader", vec![sleeper.thread(), spinner.thread(), ends.thread(), Instr::JoinAll]);
    prog.start(leader);
    let mut engine = started(prog);
    go(&mut engine, 20);
    assert_eq!((engine.stats().forked, engine.stats().exited), (4, 4));
}

#[test]
fn a_join_waits_for_the_last_thread() {
    let mut prog = Prog::new();
    let thread = prog.routine("thread", vec![sleep(5)]);
    let slow = prog.routine("slow", vec![sleep(10)]);
    let leader = prog.routine("leader", vec![thread.thread(), slow.thread(), Instr::JoinAll]);
    prog.start(leader);
    let mut engine = started(prog);
    go(&mut engine, 9);
    assert_eq!((pids(&engine, "leader").len(), pids(&engine, "thread").len()), (1, 0));
    go(&mut engine, 5);
    assert_eq!(engine.stats().exited, 3);
}

#[test]
fn init_and_kernel_threads_do_not_die() {
    let mut prog = Prog::new();
    let a = prog.routine("a", vec![Instr::Kill(Who::Parent), sleep(5)]);
    prog.start(a);
    let mut engine = started(prog);
    go(&mut engine, 3);
    assert_eq!((engine.stats().kills, pids(&engine, "init")), (0, vec![1]));
}

#[test]
fn an_affinity_moves_a_task_wherever_it_is() {
    let named = |i| Who::Named(i);
    let mut prog = Prog::new();
    let runs = prog.forever("runs", vec![run(50)]);
    prog.start(runs).affinity = Some(mask(&[0]));
    let queued = prog.forever("queued", vec![run(50)]);
    prog.start(queued).affinity = Some(mask(&[0]));
    let sleeps = prog.forever("sleeps", vec![sleep_us(500), run_us(10)]);
    prog.start(sleeps).affinity = Some(mask(&[0]));
    let change = |i, cpu| Instr::SetAffinity(named(i), mask(&[cpu]));
    let changer = prog.forever(
        "changer",
        vec![
            sleep(5),
            change(0, 1),
            change(1, 2),
            change(2, 3),
            sleep(5),
            change(0, 0),
            change(1, 0),
            change(2, 0),
        ],
    );
    prog.start(changer).affinity = Some(mask(&[3]));
    for lab in [None, Some(Lab::fifo())] {
        let config = quiet(4, prog.clone());
        let mut engine = match lab {
            Some(lab) => attached(config, lab).0,
            None => Engine::new(config).expect("fine"),
        };
        let until = engine.now();
        engine.run_until(Nanos::from_millis(8).max(until));
        let on =
            |engine: &Engine| ["runs", "queued", "sleeps"].map(|c| task(engine, c).task_cpu().0);
        assert_eq!(on(&engine), [1, 2, 3]);
        go(&mut engine, 6);
        assert_eq!(on(&engine), [0, 0, 0]);
    }
}

#[test]
fn a_pinned_task_moves_when_the_pin_is_off() {
    let mut prog = Prog::new();
    let pinned =
        prog.routine("pinned", vec![Instr::MigrateDisable, run(10), Instr::MigrateEnable, run(10)]);
    prog.start(pinned).affinity = Some(mask(&[0, 1]));
    let named = Who::Named(pinned.name);
    let changer = prog.routine("changer", vec![sleep(2), Instr::SetAffinity(named, mask(&[2]))]);
    prog.start(changer).affinity = Some(mask(&[2]));
    let mut engine = Engine::new(quiet(3, prog)).expect("fine");
    go(&mut engine, 6);
    assert!(task(&engine, "pinned").task_cpu().0 < 2);
    assert_eq!(task(&engine, "pinned").cpus_mask.to_string(), "2");
    go(&mut engine, 8);
    assert_eq!(task(&engine, "pinned").task_cpu().0, 2);
}

#[test]
fn a_mutex_keeps_others_out() {
    let mut prog = Prog::new();
    prog.0.mutexes = 1;
    let body = vec![Instr::Lock(0), run(1), Instr::Unlock(0)];
    for name in ["a", "b", "c"] {
        let r = prog.forever(name, body.clone());
        prog.start(r);
    }
    let mut engine = Engine::new(quiet(4, prog)).expect("fine");
    go(&mut engine, 300);
    // Four CPUs, and no more than one CPU's worth done: each had about a third.
    for name in ["a", "b", "c"] {
        let used = task(&engine, name).se.sum_exec_runtime;
        assert!((85_000_000..=110_000_000).contains(&used), "{used}");
    }
}

#[test]
fn a_condition_wakes_one_or_all() {
    let mut prog = Prog::new();
    (prog.0.mutexes, prog.0.conds) = (1, 1);
    let waits = vec![Instr::Lock(0), Instr::CondWait { cond: 0, mutex: 0 }, Instr::Unlock(0)];
    for name in ["a", "b", "c"] {
        let r = prog.routine(name, waits.clone());
        prog.start(r);
    }
    let signals =
        prog.routine("s", vec![sleep(5), Instr::CondSignal(0), sleep(5), Instr::CondBroadcast(0)]);
    prog.start(signals);
    let mut engine = started(prog);
    go(&mut engine, 7);
    assert_eq!(engine.stats().exited, 1);
    go(&mut engine, 7);
    assert_eq!(engine.stats().exited, 4);
}

#[test]
fn a_barrier_lets_them_go_together() {
    let mut prog = Prog::new();
    prog.0.barriers = vec![3];
    for (name, t) in [("a", 1), ("b", 5), ("c", 10)] {
        let r = prog.routine(name, vec![sleep(t), Instr::Barrier(0)]);
        prog.start(r);
    }
    let mut engine = started(prog);
    go(&mut engine, 9);
    assert_eq!(engine.stats().exited, 0);
    go(&mut engine, 3);
    assert_eq!(engine.stats().exited, 3);
}

#[test]
fn a_timer_keeps_its_period() {
    let mut prog = Prog::new();
    prog.0.timers = 1;
    let timer = |absolute| Instr::Timer {
        timer: 0,
        period: Nanos::from_millis(10),
        absolute,
        shared: false,
    };
    let steady = prog.forever("steady", vec![run(3), timer(true)]);
    prog.start(steady);
    let mut engine = started(prog);
    go(&mut engine, 1_000);
    let used = task(&engine, "steady").se.sum_exec_runtime;
    assert!((297_000_000..=304_000_000).contains(&used), "{used}");
}

#[test]
fn a_cgroup_move_is_announced_and_done() {
    let mut prog = Prog::new();
    prog.0.cgroups = vec!["/a".into()];
    let moves = prog.routine("moves", vec![sleep(5), Instr::SetCgroup(0), sleep(99)]);
    prog.start(moves);
    let lab = Lab::fifo()
        .watch(scxlab_engine::OpSet::CGROUP_PREP_MOVE | scxlab_engine::OpSet::CGROUP_MOVE);
    let (mut engine, id) = attached(quiet(1, prog), lab);
    go(&mut engine, 10);
    let (root, a) = (1, engine.cgroup_id("/a").expect("it exists"));
    let calls: Vec<_> = support::calls(&engine, id)
        .iter()
        .filter(|call| call.op.starts_with("cgroup"))
        .map(|call| (call.op, call.arg))
        .collect();
    assert_eq!(calls, [("cgroup_prep_move", root << 32 | a), ("cgroup_move", root << 32 | a)]);
}

#[test]
fn a_child_inherits() {
    let mut prog = Prog::new();
    let child = prog.routine("child", vec![sleep(99)]);
    let parent = prog.routine(
        "parent",
        vec![
            Instr::SetNice(Who::Myself, 7),
            Instr::SetAffinity(Who::Myself, mask(&[1])),
            Instr::Spawn { what: Spawn::Process, entry: child.entry, name: child.name },
            sleep(99),
        ],
    );
    prog.start(parent);
    let mut engine = started(prog);
    go(&mut engine, 5);
    let child = task(&engine, "child");
    assert_eq!((child.nice(), child.cpus_mask.to_string().as_str()), (7, "1"));
}

#[test]
fn the_life_of_tasks_is_the_same_under_every_kind_of_scheduling() {
    // Whatever runs them, and however CPUs get in each other's way: all that starts ends.
    let mut prog = Prog::new();
    let new = prog.routine("new", vec![run_us(50)]);
    let thread = prog.routine("thread", vec![run_us(100), new.exec()]);
    let process = prog.routine("process", vec![thread.thread(), run_us(300), sleep(5)]);
    let parent = prog.routine(
        "parent",
        vec![
            Instr::Loop { count: Some(30), end: scxlab_engine::program::Pc(4) },
            process.process(),
            process.process(),
            Instr::WaitAll,
            Instr::LoopEnd { body: scxlab_engine::program::Pc(1) },
        ],
    );
    prog.start(parent);
    for seed in 0..4 {
        let config = busy(2, prog.clone(), seed, 20_000);
        let (mut engine, id) = attached(config, Lab::fifo());
        go(&mut engine, 2_000);
        assert!(engine.is_attached(id));
        let stats = engine.stats();
        assert_eq!((stats.forked, stats.exited), (121, 121));
        assert_eq!((stats.execs, stats.nonleader_execs), (60, 60));
    }
}
