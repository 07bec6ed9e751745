//! What `ops.flags` and the presence of operations change, and what attaching can run into.

use std::sync::Arc;

use scxlab_engine::program::{Instr, Policy, Who};
use scxlab_engine::{
    AttachError, CpuId, Cx, DsqId, Engine, EnqFlags, Errno, ExitKind, OpSet, OpsFlags, SchedClass,
    Task,
};

mod support;
use support::{
    Lab, Prog, attached, calls, calls_of, ejected, go, lab_state, quiet, run, run_us, sleep, st,
    task,
};

const NONE: EnqFlags = EnqFlags::empty();
const SLICE: u64 = 5_000_000;

fn is(cx: &Cx<'_>, p: Task<'_>, comm: &str) -> bool {
    cx.get(p).comm() == comm
}

fn hog() -> Prog {
    let mut prog = Prog::new();
    let hog = prog.forever("hog", vec![run(10)]);
    prog.start(hog);
    prog
}

/// As the hog, but its CPU time is up to date every 2 ms.
fn worker() -> Prog {
    let mut prog = Prog::new();
    let hog = prog.forever("hog", vec![run(2), support::sleep_us(20)]);
    prog.start(hog);
    prog
}

fn local() -> Lab {
    Lab::new().on_enqueue(|cx, p, enq| {
        cx.dsq_insert(p, DsqId::LOCAL, SLICE, enq);
    })
}

#[test]
fn without_enq_last_the_last_task_goes_on() {
    let (mut engine, id) = attached(quiet(1, hog()), local());
    go(&mut engine, 200);
    assert!(engine.event_counters(id).dispatch_keep_last > 5);
    let put_back = calls(&engine, id).iter().filter(|call| call.op == "enqueue").count();
    assert!(put_back < 5, "{put_back}");
}

#[test]
fn with_enq_last_the_scheduler_gets_the_last_task() {
    let lab = local().flags(OpsFlags::ENQ_LAST);
    let (mut engine, id) = attached(quiet(1, hog()), lab);
    go(&mut engine, 200);
    assert!(engine.is_attached(id));
    assert_eq!(engine.event_counters(id).dispatch_keep_last, 0);
    let last = |call: &&support::Call| call.arg & EnqFlags::LAST.bits() != 0;
    let put_back = calls(&engine, id).iter().filter(last).count();
    assert!(put_back > 10, "{put_back}");
    assert!(task(&engine, "hog").se.sum_exec_runtime > 150_000_000);
}

#[test]
fn enq_last_needs_an_enqueue() {
    let mut engine = Engine::new(quiet(1, hog())).expect("fine");
    let id = engine.attach(Arc::new(Lab::new().flags(OpsFlags::ENQ_LAST))).expect("begins");
    let info = ejected(&mut engine, id, 50);
    assert_eq!(info.msg, "SCX_OPS_ENQ_LAST requires ops.enqueue() to be implemented");
    assert_eq!(lab_state(&engine, id).exit.as_ref().map(|i| i.kind), Some(ExitKind::Error));
}

/// Naps wakes up on the CPU that it is not on. Who does the enqueue: its new CPU, with no word of what
/// was selected, or else the waker's.
fn queued_wakeups(flag: OpsFlags, llcs: usize, busy: bool, queued: bool) {
    let mut prog = Prog::new();
    let naps = prog.forever("naps", vec![run(1), sleep(1)]);
    prog.start(naps);
    for cpu in 0..if busy { 2 } else { 0 } {
        let hog = prog.forever("hog", vec![run(10)]);
        prog.start(hog).affinity = Some(support::mask(&[cpu]));
    }
    let lab = Lab::new()
        .on_select_cpu(|_, _, prev, _| CpuId(1 - prev.0))
        .on_enqueue(move |cx, p, enq| {
            if enq.contains(EnqFlags::WAKEUP) && is(cx, p, "naps") {
                let own = cx.this_cpu() == cx.task_cpu(p);
                let selected = enq.contains(EnqFlags::CPU_SELECTED);
                assert_eq!((own, selected), (queued, !queued), "{flag:?} {llcs} {busy}");
                st(cx).n += 1;
            }
            cx.dsq_insert(p, DsqId::LOCAL, SLICE, enq);
        })
        .flags(flag);
    let mut config = quiet(2, prog);
    config.llcs = llcs;
    let (mut engine, id) = attached(config, lab);
    go(&mut engine, 400);
    assert!(engine.is_attached(id));
    assert!(lab_state(&engine, id).n > 20);
}

#[test]
fn with_allow_queued_wakeup_another_cpu_enqueues_for_itself() {
    let allowed = OpsFlags::ALLOW_QUEUED_WAKEUP;
    queued_wakeups(OpsFlags::empty(), 1, false, false);
    queued_wakeups(OpsFlags::empty(), 2, true, false);
    // One that shares the cache only if it is idle, one beyond it always.
    queued_wakeups(allowed, 1, false, true);
    queued_wakeups(allowed, 1, true, false);
    queued_wakeups(allowed, 2, false, true);
    queued_wakeups(allowed, 2, true, true);
}

fn exits() -> Prog {
    let mut prog = Prog::new();
    let child = prog.routine("child", vec![run_us(100)]);
    let parent = prog.forever("parent", vec![child.process(), Instr::Wait]);
    prog.start(parent);
    // Keeps the CPU contended, so that an exiting task is put back now and then.
    let hog = prog.forever("hog", vec![run(1), Instr::Yield]);
    prog.start(hog);
    prog
}

/// Slices so short that the exit of a task takes several.
fn short_slices() -> Lab {
    Lab::new()
        .on_enqueue(|cx, p, enq| {
            cx.dsq_insert(p, DsqId::GLOBAL, 10_000, enq);
        })
        .on_tick(|cx, p| {
            cx.task_set_slice(p, 0);
        })
}

#[test]
fn exiting_tasks_skip_the_scheduler_unless_it_wants_them() {
    for (flag, wants) in [(OpsFlags::empty(), false), (OpsFlags::ENQ_EXITING, true)] {
        let mut config = quiet(1, exits());
        config.costs.exit_before_notify = scxlab_engine::Nanos::from_millis(10);
        let (mut engine, id) = attached(config, short_slices().flags(flag));
        go(&mut engine, 1_000);
        assert!(engine.stats().exited > 10);
        assert_eq!(engine.event_counters(id).enq_skip_exiting == 0, wants);
    }
}

#[test]
fn pinned_tasks_skip_the_scheduler_unless_it_wants_them() {
    for (flag, wants) in [(OpsFlags::empty(), false), (OpsFlags::ENQ_MIGRATION_DISABLED, true)] {
        let mut prog = hog();
        let pinned = prog.forever(
            "pinned",
            vec![run_us(100), Instr::MigrateDisable, sleep(1), Instr::MigrateEnable],
        );
        prog.start(pinned);
        let (mut engine, id) =
            attached(quiet(2, prog), Lab::fifo().flags(flag).watch(OpSet::SELECT_CPU));
        go(&mut engine, 200);
        assert!(engine.is_attached(id), "{:?}", engine.exit_info(id));
        assert_eq!(engine.event_counters(id).enq_skip_migration_disabled == 0, wants);
    }
}

#[test]
fn a_migration_disabled_task_can_not_be_moved() {
    let lab = Lab::new()
        .flags(OpsFlags::ENQ_MIGRATION_DISABLED)
        .watch(OpSet::SELECT_CPU)
        .on_enqueue(|cx, p, enq| {
            let pinned = cx.get(p).migration_disabled > 0;
            let to = if pinned { DsqId::local_on(1 - cx.task_cpu(p).0) } else { DsqId::GLOBAL };
            cx.dsq_insert(p, to, SLICE, enq);
        });
    let mut prog = Prog::new();
    let pinned = prog.forever("pinned", vec![Instr::MigrateDisable, run_us(100), sleep(1)]);
    prog.start(pinned);
    let (mut engine, id) = attached(quiet(2, prog), lab);
    let msg = ejected(&mut engine, id, 100).msg;
    assert!(msg.starts_with("SCX_DSQ_LOCAL[_ON] cannot move migration disabled pinned["), "{msg}");
    assert!(msg.ends_with("] from CPU 0 to 1") || msg.ends_with("] from CPU 1 to 0"), "{msg}");
}

#[test]
fn switch_partial_takes_only_those_who_ask() {
    let mut prog = hog();
    let asks = prog.forever("asks", vec![run(1), sleep(1)]);
    prog.start(asks).policy = Policy::Ext;
    let (mut engine, id) = attached(quiet(2, prog), local().flags(OpsFlags::SWITCH_PARTIAL));
    go(&mut engine, 50);
    assert_eq!(task(&engine, "asks").sched_class(), SchedClass::Ext);
    assert_eq!(task(&engine, "hog").sched_class(), SchedClass::Fair);
    assert!(calls_of(&engine, id, "hog").iter().all(|op| *op != "enqueue"));
    assert!(engine.log().iter().any(|line| line.ends_with("\"lab\" enabled (partial)")));
}

#[test]
fn under_fair_hogs_the_ext_server_gives_50_ms_of_each_second() {
    let mut prog = hog();
    let ext = prog.forever("ext", vec![run(10)]);
    prog.start(ext).policy = Policy::Ext;
    let lab = local().flags(OpsFlags::SWITCH_PARTIAL);
    let (mut engine, id) = attached(quiet(1, prog), lab);
    let before = task(&engine, "ext").se.sum_exec_runtime;
    go(&mut engine, 10_000);
    assert!(engine.is_attached(id), "{:?}", engine.exit_info(id));
    let used = task(&engine, "ext").se.sum_exec_runtime - before;
    assert!((400_000_000..=650_000_000).contains(&used), "{used} ns in 10 s");
    assert!((9..=11).contains(&engine.stats().ext_server_runs));
}

#[test]
fn a_fair_task_that_wakes_preempts_an_ext_task_at_once() {
    let mut prog = Prog::new();
    let ext = prog.forever("ext", vec![run(10)]);
    prog.start(ext).policy = Policy::Ext;
    let fair = prog.forever("fair", vec![run_us(50), sleep(1)]);
    prog.start(fair);
    let (mut engine, id) = attached(quiet(1, prog), local().flags(OpsFlags::SWITCH_PARTIAL));
    let before = (engine.now().0, task(&engine, "fair").se.sum_exec_runtime);
    go(&mut engine, 1_000);
    assert!(engine.is_attached(id));
    let fair = task(&engine, "fair").se.sum_exec_runtime - before.1;
    assert!(fair > 40_000_000, "{fair}");
    assert!(task(&engine, "ext").se.sum_exec_runtime > 800_000_000);
    // Its slice is not used up: back to the head of the local queue, not to the scheduler.
    let put_back = calls_of(&engine, id, "ext").iter().filter(|op| **op == "enqueue").count();
    assert!(put_back < 300, "{put_back}");
}

#[test]
fn a_policy_change_under_switch_partial_changes_the_class() {
    let mut prog = Prog::new();
    let turn = vec![
        run_us(100),
        Instr::SetPolicy(Who::Myself, Policy::Ext),
        run_us(100),
        Instr::SetPolicy(Who::Myself, Policy::Normal),
        sleep(1),
    ];
    let task = prog.forever("turns", turn);
    prog.start(task);
    let lab = local()
        .flags(OpsFlags::SWITCH_PARTIAL)
        .watch(OpSet::ENABLE | OpSet::DISABLE | OpSet::SET_CPUMASK | OpSet::SET_WEIGHT);
    let (mut engine, id) = attached(quiet(1, prog), lab);
    go(&mut engine, 20);
    assert!(engine.is_attached(id), "{:?}", engine.exit_info(id));
    let ops = calls_of(&engine, id, "turns");
    let ops: Vec<_> = ops.into_iter().filter(|op| *op != "enqueue").collect();
    for turn in ops.chunks_exact(4) {
        assert_eq!(turn, ["enable", "set_weight", "set_cpumask", "disable"]);
    }
    assert!(ops.len() > 16);
}

#[test]
fn update_idle_turns_the_builtin_tracking_off() {
    let lab = local()
        .on_update_idle(|cx, _, _| st(cx).n += 1)
        .on_select_cpu(|cx, p, prev, wake| cx.select_cpu_dfl(p, prev, wake).unwrap_or(prev));
    let mut prog = Prog::new();
    let a = prog.forever("a", vec![run(1), sleep(1)]);
    prog.start(a);
    let (mut engine, id) = attached(quiet(2, prog.clone()), lab);
    assert_eq!(ejected(&mut engine, id, 50).msg, "built-in idle tracking is disabled");

    let lab = local()
        .flags(OpsFlags::KEEP_BUILTIN_IDLE)
        .on_update_idle(|cx, _, _| st(cx).n += 1)
        .on_select_cpu(|cx, p, prev, wake| cx.select_cpu_dfl(p, prev, wake).unwrap_or(prev));
    let (mut engine, id) = attached(quiet(2, prog), lab);
    go(&mut engine, 100);
    assert!(engine.is_attached(id));
    assert!(lab_state(&engine, id).n > 50, "{}", lab_state(&engine, id).n);
}

#[test]
fn update_idle_tells_of_each_change_in_turn() {
    let lab = local().on_update_idle(|cx, cpu, idle| {
        if cpu == CpuId(0) {
            assert_ne!(st(cx).n, u64::from(idle) + 1, "the same twice");
            st(cx).n = u64::from(idle) + 1;
        }
    });
    let mut prog = Prog::new();
    let moves = prog.forever(
        "moves",
        vec![
            Instr::SetAffinity(Who::Myself, support::mask(&[1])),
            run_us(300),
            Instr::SetAffinity(Who::Myself, support::mask(&[0])),
            run_us(300),
        ],
    );
    prog.start(moves);
    let (mut engine, id) = attached(quiet(2, prog), lab.watch(OpSet::SELECT_CPU));
    go(&mut engine, 50);
    assert!(engine.is_attached(id));
    assert!(engine.stats().migrations + engine.stats().switches > 100);
}

#[test]
fn an_init_task_that_refuses_a_fork_fails_it_and_burns_its_tid() {
    let lab =
        local().on_init_task(
            |cx, p, args| {
                if args.fork && is(cx, p, "child") { Err(Errno(12)) } else { Ok(()) }
            },
        );
    let mut prog = Prog::new();
    let child = prog.routine("child", vec![run(1)]);
    let parent = prog.forever("parent", vec![child.process(), sleep(1)]);
    prog.start(parent);
    let (mut engine, id) = attached(quiet(1, prog), lab.watch(OpSet::EXIT_TASK));
    let before = engine.stats().clone();
    go(&mut engine, 50);
    assert!(engine.is_attached(id), "{:?}", engine.exit_info(id));
    let after = engine.stats();
    let failed = after.forks_failed - before.forks_failed;
    assert!(failed > 20);
    assert_eq!(after.forked, before.forked);
    assert_eq!(after.tids_issued - before.tids_issued, failed);
    assert!(calls_of(&engine, id, "child").iter().all(|op| *op == "init_task"));
}

#[test]
fn an_init_task_that_refuses_while_attaching_fails_the_attach() {
    let lab =
        local().on_init_task(|cx, p, _| if is(cx, p, "hog") { Err(Errno(12)) } else { Ok(()) });
    let mut engine = Engine::new(quiet(1, worker())).expect("fine");
    go(&mut engine, 10);
    let id = engine.attach(Arc::new(lab.watch(OpSet::EXIT_TASK))).expect("begins");
    let info = ejected(&mut engine, id, 50);
    let pid = task(&engine, "hog").pid;
    assert_eq!(info.msg, format!("ops.init_task() failed (-12) for hog[{pid}]"));
    assert!(engine.tid_table().is_none());
    // Those that were initialized are exited; the one that failed is not.
    let ops = |comm| calls_of(&engine, id, comm);
    assert_eq!(ops("init"), ["init_task", "exit_task"]);
    assert_eq!(ops("hog"), ["init_task"]);
    let before = task(&engine, "hog").se.sum_exec_runtime;
    go(&mut engine, 50);
    assert!(task(&engine, "hog").se.sum_exec_runtime > before + 40_000_000);
}

#[test]
fn an_invalid_errno_is_the_schedulers_error() {
    let lab =
        local().on_init_task(|cx, p, _| if is(cx, p, "hog") { Err(Errno(5000)) } else { Ok(()) });
    let mut engine = Engine::new(quiet(1, hog())).expect("fine");
    go(&mut engine, 10);
    let id = engine.attach(Arc::new(lab)).expect("begins");
    let info = ejected(&mut engine, id, 50);
    assert_eq!(info.msg, "ops.init_task() returned an invalid errno -5000");
}

#[test]
fn an_init_that_fails() {
    let mut engine = Engine::new(quiet(1, hog())).expect("fine");
    let id = engine.attach(Arc::new(local().on_init(|_| Err(Errno(19))))).expect("begins");
    let info = ejected(&mut engine, id, 50);
    assert_eq!(info.msg, "ops.init() failed (-19)");
    assert!(!info.initialized);
    let id = engine.attach(Arc::new(local())).expect("another can be attached");
    go(&mut engine, 20);
    assert!(engine.is_attached(id));
}

#[test]
fn disallow_keeps_a_task_out_of_the_class() {
    let disallow = |cx: &mut Cx<'_>, p: Task<'_>, _: &scxlab_engine::InitTaskArgs| {
        if cx.get(p).comm() == "no" {
            cx.task_disallow(p);
        }
        Ok(())
    };
    let mut prog = Prog::new();
    let no = prog.forever("no", vec![run(1), sleep(1), Instr::SetPolicy(Who::Myself, Policy::Ext)]);
    prog.start(no).policy = Policy::Ext;
    let mut engine = Engine::new(quiet(1, prog.clone())).expect("fine");
    go(&mut engine, 10);
    let lab = local().flags(OpsFlags::SWITCH_PARTIAL).on_init_task(disallow);
    let id = engine.attach(Arc::new(lab)).expect("begins");
    go(&mut engine, 50);
    assert!(engine.is_attached(id));
    let no = task(&engine, "no");
    assert_eq!((no.policy, no.sched_class()), (0, SchedClass::Fair));

    // During a fork it is an error.
    let (mut engine, id) = attached(quiet(1, prog), local().on_init_task(disallow));
    let msg = ejected(&mut engine, id, 50).msg;
    assert!(msg.starts_with("ops.init_task() set task->scx.disallow for no["), "{msg}");
    assert!(msg.ends_with("] during fork"), "{msg}");
}

#[test]
fn one_root_at_a_time() {
    let (mut engine, id) = attached(quiet(1, hog()), local());
    match engine.attach(Arc::new(local())) {
        Err(AttachError::Errno { errno: 16, .. }) => {}
        other => panic!("{other:?}"),
    }
    engine.detach(id);
    let info = ejected(&mut engine, id, 50);
    assert_eq!((info.kind, info.reason()), (ExitKind::Unreg, "unregistered from user space"));
    assert_eq!(info.dump, "");
    assert!(engine.attach(Arc::new(local())).is_ok());
}

#[test]
fn tasks_keep_running_through_attach_and_detach() {
    let mut engine = Engine::new(quiet(2, worker())).expect("fine");
    go(&mut engine, 10);
    let mut used = 0;
    for _ in 0..5 {
        // A scheduler that never runs anything: bypass alone has to do.
        let idle = Lab::new().on_enqueue(|_, _, _| ()).on_select_cpu(|_, _, prev, _| prev);
        let id = engine.attach(Arc::new(idle)).expect("attaches");
        go(&mut engine, 20);
        engine.detach(id);
        go(&mut engine, 20);
        assert!(engine.is_gone(id));
        let now = task(&engine, "hog").se.sum_exec_runtime;
        assert!(now > used + 15_000_000, "{used} {now}");
        used = now;
        assert!(engine.event_counters(id).bypass_activate >= 2);
        assert!(engine.event_counters(id).bypass_dispatch > 0);
        assert!(engine.event_counters(id).bypass_duration > 0);
    }
}

#[test]
fn a_scheduler_can_end_itself() {
    for (code, kind) in [(true, ExitKind::UnregBpf), (false, ExitKind::ErrorBpf)] {
        let lab = Lab::new().on_enqueue(move |cx, p, enq| {
            if is(cx, p, "hog") {
                if code {
                    cx.exit(42, "done");
                } else {
                    cx.error("broken");
                }
            }
            cx.dsq_insert(p, DsqId::GLOBAL, SLICE, NONE | enq);
        });
        let (mut engine, id) = attached(quiet(1, hog()), lab);
        let info = ejected(&mut engine, id, 50);
        assert_eq!((info.kind, info.exit_code), (kind, if code { 42 } else { 0 }));
        assert_eq!(info.msg, if code { "done" } else { "broken" });
        assert_eq!(info.dump.is_empty(), code);
    }
}
