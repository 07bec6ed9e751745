//! The races: each is found by going through seeds, and handled as the kernel handles it.

use scxlab_engine::program::{Instr, Who};
use scxlab_engine::{
    CpuId, DsqId, Engine, EnqFlags, ExitKind, KickFlags, Nanos, OpSet, OpsFlags, Pid, SchedId,
    Stats,
};

mod support;
use support::{Lab, Prog, attached, busy, calls, go, lab_state, mask, run, run_us, sleep_us, st};

const NONE: EnqFlags = EnqFlags::empty();

/// Runs with one seed after the other, and adds up what was counted.
fn over_seeds(
    seeds: u64,
    count: impl Fn(&Stats) -> u64,
    mut one: impl FnMut(u64) -> (Engine, SchedId),
) -> u64 {
    (0..seeds)
        .map(|seed| {
            let (engine, _) = one(seed);
            engine.check_invariants().unwrap_or_else(|what| panic!("seed {seed}: {what}"));
            for line in engine.log() {
                assert!(!line.contains("WARNING"), "seed {seed}: {line}");
            }
            count(engine.stats())
        })
        .sum()
}

/// Tasks that are queued on four CPUs, and one that changes them all the time.
fn changing(change: impl Fn(Who) -> Vec<Instr>) -> Prog {
    let mut prog = Prog::new();
    for name in ["w0", "w1", "w2", "w3", "w4", "w5"] {
        let worker = prog.forever(name, vec![run_us(150), Instr::Yield]);
        prog.start(worker);
    }
    for pair in [0..3, 3..6] {
        let mut code = Vec::new();
        for name in pair {
            code.extend(change(Who::Named(name)));
            code.push(run_us(3));
        }
        let changer = prog.forever(&format!("changer{}", code.len()), code);
        prog.start(changer);
    }
    prog
}

fn nice() -> Prog {
    changing(|who| vec![Instr::SetNice(who, 1), run_us(2), Instr::SetNice(who, 2)])
}

fn kick_idle(cx: &mut scxlab_engine::Cx<'_>) {
    for cpu in 0..cx.nr_cpu_ids() {
        cx.kick_cpu(CpuId(cpu), KickFlags::IDLE);
    }
}

/// Custody by tid; `ops.dispatch` takes three at once. What is queued anew meanwhile is in custody
/// twice.
fn batches(dsq: fn(CpuId, u32) -> DsqId) -> Lab {
    Lab::new()
        .flags(OpsFlags::TID_TO_TASK)
        .on_select_cpu(|_, _, prev, _| prev)
        .on_enqueue(|cx, p, enq| {
            if cx.get(p).comm().starts_with('w') {
                let tid = cx.get(p).scx.tid;
                st(cx).queue.push_back(tid);
                kick_idle(cx);
            } else {
                cx.dsq_insert(p, DsqId::LOCAL, 1_000_000_000, enq);
            }
        })
        .on_dispatch(move |cx, cpu, _| {
            for _ in 0..3 {
                if let Some(tid) = st(cx).queue.pop_front()
                    && let Some(p) = cx.tid_to_task(tid)
                {
                    let to = dsq(cpu, cx.nr_cpu_ids());
                    cx.dsq_insert(p, to, 1_000_000, NONE);
                }
            }
        })
        .watch(OpSet::DEQUEUE)
}

#[test]
fn a_dispatch_of_a_task_that_is_queued_anew_is_void() {
    let stale = over_seeds(
        6,
        |stats| stats.dispatches_stale,
        |seed| {
            let config = busy(4, nice(), seed, 20_000);
            let (mut engine, id) = attached(config, batches(|_, _| DsqId::GLOBAL));
            go(&mut engine, 100);
            assert!(engine.is_attached(id), "dropped in silence: {:?}", engine.exit_info(id));
            // The one that put it back in custody queued its tid again, so nothing is lost.
            assert_eq!(engine.lost_tasks(), []);
            (engine, id)
        },
    );
    assert!(stale > 0);
}

#[test]
fn a_dispatch_of_a_task_that_is_not_queued_any_more_is_dropped() {
    // Between the insert and the flush a change of affinity makes it a direct dispatch.
    let lab = || {
        batches(|_, _| DsqId::GLOBAL).on_enqueue(|cx, p, enq| {
            if cx.get(p).comm().starts_with('w') && !enq.contains(EnqFlags::RESTORE) {
                let tid = cx.get(p).scx.tid;
                st(cx).queue.push_back(tid);
                kick_idle(cx);
            } else if cx.get(p).comm().starts_with('c') {
                cx.dsq_insert(p, DsqId::LOCAL, 1_000_000_000, enq);
            } else {
                cx.dsq_insert(p, DsqId::GLOBAL, 1_000_000, enq);
            }
        })
    };
    let dropped = over_seeds(
        6,
        |stats| stats.dispatches_not_queued,
        |seed| {
            let (mut engine, id) = attached(busy(4, nice(), seed, 20_000), lab());
            go(&mut engine, 100);
            assert!(engine.is_attached(id), "dropped in silence: {:?}", engine.exit_info(id));
            (engine, id)
        },
    );
    assert!(dropped > 0);
}

#[test]
fn a_spurious_dispatch_is_dropped() {
    let twice = Lab::fifo().on_dispatch(|cx, _, _| {
        if let Some(tid) = st(cx).queue.pop_front()
            && let Some(p) = cx.tid_to_task(tid)
        {
            for _ in 0..2 {
                cx.dsq_insert(p, DsqId::GLOBAL, 1_000_000, NONE);
            }
        }
    });
    let (mut engine, id) = attached(busy(2, nice(), 1, 0), twice);
    go(&mut engine, 50);
    assert!(engine.is_attached(id));
    assert!(engine.stats().dispatches_not_queued > 10);
}

/// An affinity that leaves the task where it is, or forces it off.
fn affinity() -> Prog {
    changing(|who| {
        vec![
            Instr::SetAffinity(who, mask(&[0, 1, 2, 3])),
            run_us(2),
            Instr::SetAffinity(who, mask(&[0, 1])),
            run_us(2),
            Instr::SetAffinity(who, mask(&[2, 3])),
        ]
    })
}

#[test]
fn a_transfer_to_another_cpu_can_lose_its_task_to_a_dequeue() {
    let lost = over_seeds(
        8,
        |stats| stats.remote_dispatches_lost,
        |seed| {
            let lab = batches(|cpu, n| DsqId::local_on((cpu.0 + 1) % n));
            let (mut engine, id) = attached(busy(4, nice(), seed, 20_000), lab);
            go(&mut engine, 100);
            assert!(engine.is_attached(id), "dropped in silence: {:?}", engine.exit_info(id));
            (engine, id)
        },
    );
    assert!(lost > 0);
}

#[test]
fn a_transfer_to_a_cpu_that_is_forbidden_meanwhile_is_the_schedulers_error() {
    // It looks at the affinity, as it should, and still comes too late now and then.
    let lab = || {
        let dsq = DsqId(1);
        batches(|_, _| DsqId::GLOBAL).on_init(move |cx| cx.create_dsq(dsq)).on_dispatch(
            move |cx, cpu, _| {
                let n = cx.nr_cpu_ids();
                let Some(tid) = st(cx).queue.pop_front() else { return };
                let Some(p) = cx.tid_to_task(tid) else { return };
                let cpus = cx.get(p).cpus_ptr();
                let to = (1..=n).map(|i| CpuId((cpu.0 + i) % n)).find(|&to| cpus.test(to));
                let to = to.expect("one is allowed");
                // What it does first takes its time.
                if let Some(tid) = st(cx).queue.pop_front()
                    && let Some(q) = cx.tid_to_task(tid)
                {
                    cx.dsq_insert(q, dsq, 1_000_000, NONE);
                }
                cx.dsq_move_to_local(dsq, NONE);
                cx.dsq_insert(p, DsqId::local_on(to.0), 1_000_000, NONE);
            },
        )
    };
    let mut ejected = 0;
    let forbidden = over_seeds(
        16,
        |stats| stats.remote_not_allowed,
        |seed| {
            let (mut engine, id) = attached(busy(4, affinity(), seed, 20_000), lab());
            go(&mut engine, 100);
            if let Some(info) = engine.exit_info(id).cloned() {
                assert_eq!(info.kind, ExitKind::Error);
                assert!(info.msg.starts_with("SCX_DSQ_LOCAL[_ON] target CPU "), "{}", info.msg);
                assert!(info.msg.contains(" not allowed for w"), "{}", info.msg);
                ejected += 1;
                // Nobody is lost: bypass, then the fair class.
                let before = engine.stats().switches;
                go(&mut engine, 50);
                assert!(engine.is_gone(id) && engine.stats().switches > before + 50);
            }
            (engine, id)
        },
    );
    assert!(forbidden > 0 && ejected > 0, "{forbidden} {ejected}");
}

#[test]
fn a_consume_can_lose_its_task_to_a_dequeue() {
    let dsq = DsqId(1);
    let lost = over_seeds(
        8,
        |stats| stats.consumes_lost,
        |seed| {
            let lab = batches(|_, _| DsqId::GLOBAL)
                .on_init(move |cx| cx.create_dsq(dsq))
                .on_enqueue(move |cx, p, enq| {
                    let worker = cx.get(p).comm().starts_with('w');
                    let to = if worker { dsq } else { DsqId::LOCAL };
                    cx.dsq_insert(p, to, 1_000_000, enq);
                    kick_idle(cx);
                })
                .on_dispatch(move |cx, _, _| {
                    cx.dsq_move_to_local(dsq, NONE);
                });
            let (mut engine, id) = attached(busy(4, affinity(), seed, 20_000), lab);
            go(&mut engine, 100);
            assert!(engine.is_attached(id), "goes on to the next: {:?}", engine.exit_info(id));
            (engine, id)
        },
    );
    assert!(lost > 0);
}

#[test]
fn a_task_that_dies_while_its_attach_runs_is_cancelled_and_not_in_the_table() {
    let mut prog = Prog::new();
    let child = prog.routine("child", vec![run_us(5)]);
    let forks = prog.forever("forks", vec![child.process(), run_us(5)]);
    let ignores = prog.routine(
        "ignores",
        vec![Instr::IgnoreChildren, Instr::Jump(scxlab_engine::program::Pc(2)), forks.process()],
    );
    let _ = ignores;
    for _ in 0..4 {
        prog.start(forks);
    }
    let lab = || Lab::fifo().watch(OpSet::INIT_TASK | OpSet::EXIT_TASK);
    let died = over_seeds(
        10,
        |stats| stats.died_while_enabling,
        |seed| {
            let mut config = busy(4, prog.clone(), seed, 20_000);
            // The callback takes long, and the exit is short.
            config.costs.init_task = Nanos(20_000);
            let mut engine = Engine::new(config).expect("fine");
            go(&mut engine, 3);
            let died_before = engine.stats().died_while_enabling;
            let id = engine.attach(std::sync::Arc::new(lab())).expect("begins");
            while !engine.is_attached(id) {
                assert!(engine.exit_info(id).is_none(), "{:?}", engine.exit_info(id));
                go(&mut engine, 1);
            }
            let table = engine.tid_table().expect("the root asked for it");
            let live: std::collections::BTreeSet<_> =
                engine.live_tasks().map(|p| p.scx.tid).collect();
            assert_eq!(table.into_iter().collect::<std::collections::BTreeSet<_>>(), live);
            let cancelled = calls(&engine, id)
                .iter()
                .filter(|call| call.op == "exit_task" && call.arg == 1)
                .inspect(|call| assert!(!live.contains(&call.tid)))
                .count() as u64;
            assert_eq!(cancelled, engine.stats().died_while_enabling - died_before);
            // Each init_task has its exit_task, but for those that live.
            for call in calls(&engine, id).iter().filter(|call| call.op == "init_task") {
                let exits = calls(&engine, id)
                    .iter()
                    .filter(|other| other.op == "exit_task" && other.tid == call.tid)
                    .count();
                assert_eq!(exits, usize::from(!live.contains(&call.tid)));
            }
            (engine, id)
        },
    );
    assert!(died > 0);
}

/// Threads that exec while others of their process wait in a queue.
fn execs() -> Prog {
    let mut prog = Prog::new();
    let mut code = vec![sleep_us(500), run_us(200)];
    for _ in 0..6 {
        code.extend([run_us(50), Instr::Yield]);
    }
    let new = prog.routine("new", code);
    let other = prog.forever("other", vec![run_us(200), Instr::Yield]);
    let thread = prog.routine("thread", vec![run_us(100), new.exec()]);
    let process = prog.routine("process", vec![other.thread(), thread.thread(), run(5)]);
    let parent = prog.forever("parent", vec![process.process(), sleep_us(300), Instr::Wait]);
    for _ in 0..3 {
        prog.start(parent);
    }
    prog
}

#[test]
fn an_exec_waits_for_a_thread_that_is_still_queued() {
    let mut waits = 0;
    let waited = over_seeds(
        10,
        |stats| stats.execs_that_wait_for_queued,
        |seed| {
            let (mut engine, id) = attached(
                busy(2, execs(), seed, 20_000),
                Lab::fifo().flags(OpsFlags::ENQ_EXITING).timeout_ms(500),
            );
            go(&mut engine, 300);
            assert!(engine.is_attached(id), "{:?}", engine.exit_info(id));
            assert!(engine.stats().nonleader_execs > 10);
            waits += engine.stats().nonleader_execs;
            (engine, id)
        },
    );
    assert!(waited > 0 && waits > 0);
}

/// A few execs by threads, and so many forks that their old pids are soon used again.
fn execs_among_forks() -> Prog {
    let mut prog = Prog::new();
    let new = prog.routine("new", vec![sleep_us(100), run_us(50), Instr::Yield, run_us(50)]);
    let thread = prog.routine("thread", vec![run_us(20), new.exec()]);
    let process = prog.routine("process", vec![thread.thread(), run_us(500)]);
    let body = vec![Instr::IgnoreChildren, process.process(), sleep_us(5_000)];
    let parent = prog.forever("parent", body);
    prog.start(parent);
    let child = prog.routine("child", vec![run_us(400)]);
    let body = vec![Instr::IgnoreChildren, child.process(), sleep_us(50)];
    let forks = prog.forever("forks", body);
    prog.start(forks);
    prog
}

/// As [`Lab::fifo`], but a task is found by the pid that it had at `ops.init_task`.
fn by_pid(timeout_ms: u32) -> Lab {
    Lab::new()
        .flags(OpsFlags::ENQ_EXITING)
        .timeout_ms(timeout_ms)
        .on_init_task(|cx, p, _| {
            let (tid, pid) = (cx.get(p).scx.tid, cx.get(p).pid);
            // A map from tid to pid, as task storage would be.
            st(cx).pids.insert(tid, pid);
            Ok(())
        })
        .on_enqueue(|cx, p, _| {
            let tid = cx.get(p).scx.tid;
            let pid = st(cx).pids.get(&tid).copied().unwrap_or(0);
            st(cx).queue.push_back(pid as u64);
        })
        .on_dispatch(|cx, _, _| {
            for _ in 0..2 {
                let Some(pid) = st(cx).queue.pop_front() else { return };
                match cx.task_from_pid(Pid(pid as i32)) {
                    Some(p) => {
                        cx.dsq_insert(p, DsqId::GLOBAL, 1_000_000, NONE);
                    }
                    // It hopes for better luck next time.
                    None => st(cx).queue.push_back(pid),
                }
            }
        })
}

#[test]
fn a_pid_that_is_used_again_names_another_task() {
    let (mut reused, mut stalled) = (0, 0);
    let named = over_seeds(
        8,
        |stats| stats.old_pid_names_other,
        |seed| {
            let mut config = busy(4, execs_among_forks(), seed, 20_000);
            config.pid_max = Some(330);
            let (mut engine, id) = attached(config, by_pid(300));
            go(&mut engine, 600);
            reused += engine.stats().pids_reused_early;
            if let Some(info) = engine.exit_info(id) {
                assert_eq!(info.kind, ExitKind::ErrorStall, "{}", info.msg);
                let lost = engine.lost_tasks();
                assert!(!lost.is_empty() && lost[0].explanation.contains("pid"), "{lost:?}");
                stalled += 1;
            }
            assert!(lab_state(&engine, id).calls.len() > 10);
            (engine, id)
        },
    );
    assert!(named > 0 && stalled > 0, "{named} {stalled} {reused}");
    assert!(reused > 0);
}
