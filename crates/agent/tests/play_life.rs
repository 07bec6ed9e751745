//! How real tasks are made, exec, end and are waited for. What they did is looked up in `/proc`;
//! tasks say how far they have come by the names of the processes that they start.

mod stagehand;

use std::fs;

use scxlab_engine::program::{Instr, Pc, Who};
use stagehand::*;

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
    // One that an exec kills before it has counted what it made never does.
    until_counted(&player, 3, 0);
    open(&player, "gate");
    // 15 bytes.
    until_there(&player, &["by-a-thread-of-"]);
    assert_eq!(pid_of(&player, "by-a-thread-of-"), pid);
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(command.starts_with("by-a-thread-of-it\0"), "{command}");
    let counts = player.counts();
    assert_eq!((counts.execs, counts.nonleader_execs), (2, 1));
    // The first process, its thread, the gate; of the first two only one lives.
    until_counted(&player, 3, 2);
}

#[test]
fn a_leader_that_exits_leaves_its_threads() {
    let player = play(&program(vec![thread(2, 1), Instr::Exit, forever()], &["leader", "thread"]));
    until("a zombie with a thread", || {
        members(player.group()).first().is_some_and(|m| m.state == "Z" && m.comms.len() == 2)
    });
    until_counted(&player, 2, 1);
}

#[test]
fn exit_group_ends_all_threads() {
    let code = vec![thread(2, 1), forever(), process(1, 2), Instr::Wait, Instr::ExitGroup];
    let mut player = play(&program(code, &["leader", "thread", "gate"]));
    until_there(&player, &["leader", "thread", "gate"]);
    // As above.
    until_counted(&player, 3, 0);
    open(&player, "gate");
    until("the end", || !player.is_alive());
    until_counted(&player, 3, 3);
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
    assert_eq!(members(player.group()).len(), 2);
    until_counted(&player, 5, 3);
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
        Instr::Loop { count: Some(4000), end: Pc(3) },
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
    until_counted(&player, 4001, 4000);
    // 4000 stacks would be 500 MiB. Some are of threads that wait for a CPU.
    assert!(most < 250, "{most} MiB");
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
        thread(5, 1),
        thread(5, 1),
        thread(5, 1),
        // The leader too: killed before it has counted a thread, it never would.
        Instr::Barrier(0),
        forever(),
        Instr::Barrier(0),
        Instr::Exec { entry: Pc(4), name: 2 },
    ];
    let mut racing = program(code, &["leader", "racer", "image"]);
    racing.barriers = vec![4];
    let player = play(&racing);
    until_there(&player, &["image"]);
    let counts = player.counts();
    assert_eq!((counts.execs, counts.nonleader_execs), (1, 1));
    until_counted(&player, 4, 3);
}
