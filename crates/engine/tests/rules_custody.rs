//! What a scheduler is told of a task and when: custody, `ops.dequeue`, slices, kicks, the
//! watchdog, and the dump.

use scxlab_engine::program::{Instr, Pc, Span, Who};
use scxlab_engine::{
    CpuId, Cx, DeqFlags, DsqId, EnqFlags, ExitKind, KickFlags, Nanos, OpSet, OpsFlags, Task, What,
};

mod support;
use support::{
    Call, Lab, Prog, attached, busy, calls, calls_of, ejected, go, mask, quiet, run, run_us, sleep,
    st, task,
};

const NONE: EnqFlags = EnqFlags::empty();

fn is(cx: &Cx<'_>, p: Task<'_>, comm: &str) -> bool {
    cx.get(p).comm() == comm
}

/// Keeps `kept` in custody, and runs everyone else from the global queue.
fn keeps() -> Lab {
    Lab::new()
        .on_select_cpu(|_, _, prev, _| prev)
        .on_enqueue(|cx, p, enq| {
            if !is(cx, p, "kept") {
                cx.dsq_insert(p, DsqId::GLOBAL, 5_000_000, enq);
            }
        })
        .watch(OpSet::DEQUEUE | OpSet::RUNNABLE | OpSet::QUIESCENT | OpSet::SET_WEIGHT)
}

/// A task that is kept from the start, and one that does `change` to it after 10 ms and then rests.
fn changed(change: Vec<Instr>) -> Prog {
    let mut prog = Prog::new();
    let kept = prog.forever("kept", vec![run(1)]);
    prog.start(kept);
    let mut code = vec![sleep(10)];
    code.extend(change);
    code.push(sleep(10_000));
    let changer = prog.routine("changer", code);
    prog.start(changer);
    prog
}

fn of<'a>(calls: &'a [Call], comm: &str, op: &str) -> Vec<&'a Call> {
    calls.iter().filter(|call| call.comm == comm && call.op == op).collect()
}

#[test]
fn a_change_takes_a_task_out_of_custody_and_gives_it_back() {
    let named = Who::Named(0);
    for change in [Instr::SetNice(named, 5), Instr::SetAffinity(named, mask(&[0, 1]))] {
        let (mut engine, id) = attached(quiet(3, changed(vec![change])), keeps());
        let before = calls(&engine, id).len();
        go(&mut engine, 50);
        let after = &calls(&engine, id)[before..];
        let deq = of(after, "kept", "dequeue");
        assert_eq!(deq.len(), 1, "{after:?}");
        let flags = DeqFlags::from_bits_retain(deq[0].arg);
        assert_eq!(flags, DeqFlags::SCHED_CHANGE | DeqFlags::SAVE | DeqFlags::NOCLOCK);
        let enq = of(after, "kept", "enqueue");
        assert_eq!(enq.len(), 1);
        let flags = EnqFlags::from_bits_retain(enq[0].arg);
        assert_eq!(flags, EnqFlags::RESTORE | EnqFlags::NOCLOCK);
        assert!(engine.is_attached(id));
    }
}

#[test]
fn a_forced_move_takes_it_out_twice() {
    // The affinity change itself, then the move off the CPU that it may not use any more.
    let change = Instr::SetAffinity(Who::Named(0), mask(&[2]));
    let (mut engine, id) = attached(quiet(3, changed(vec![change])), keeps());
    assert_ne!(task(&engine, "kept").task_cpu(), CpuId(2));
    let before = calls(&engine, id).len();
    go(&mut engine, 50);
    let after = &calls(&engine, id)[before..];
    assert_eq!(of(after, "kept", "dequeue").len(), 2);
    assert_eq!(of(after, "kept", "enqueue").len(), 2);
    // A migration is no change of whether it can run.
    assert_eq!(of(after, "kept", "quiescent").len(), 1);
    assert_eq!(of(after, "kept", "runnable").len(), 1);
    assert_eq!(task(&engine, "kept").task_cpu(), CpuId(2));
    assert_eq!(engine.stats().queued_moves, 1);
}

#[test]
fn each_way_out_of_custody_is_told_once() {
    // By the scheduler itself, through a queue: told when it reaches the local queue.
    let dsq = DsqId(1);
    let lab = Lab::fifo()
        .on_init(move |cx| cx.create_dsq(dsq))
        .on_select_cpu(|_, _, prev, _| prev)
        .on_dispatch(move |cx, _, _| {
            if let Some(tid) = st(cx).queue.pop_front()
                && let Some(p) = cx.tid_to_task(tid)
            {
                cx.dsq_insert(p, dsq, 1_000_000, NONE);
            }
            cx.dsq_move_to_local(dsq, NONE);
        })
        .on_dequeue(|_, _, _| ())
        .watch(OpSet::RUNNING);
    let mut prog = Prog::new();
    for name in ["a", "b", "c"] {
        let r = prog.forever(name, vec![run_us(1500), sleep(1)]);
        prog.start(r);
    }
    let (mut engine, id) = attached(quiet(2, prog), lab);
    go(&mut engine, 200);
    assert!(engine.is_attached(id), "{:?}", engine.exit_info(id));
    for name in ["a", "b", "c"] {
        let ops = calls_of(&engine, id, name);
        let ops: Vec<_> =
            ops.into_iter().filter(|op| matches!(*op, "enqueue" | "dequeue" | "running")).collect();
        assert!(ops.len() > 60);
        for window in ops.windows(2) {
            match window[0] {
                "enqueue" => assert_eq!(window[1], "dequeue", "{ops:?}"),
                "dequeue" => assert_eq!(window[1], "running", "{ops:?}"),
                _ => assert_ne!(window[1], "dequeue", "{ops:?}"),
            }
        }
    }
    let by_the_scheduler = calls(&engine, id).iter().filter(|c| c.op == "dequeue");
    assert!(by_the_scheduler.clone().all(|c| c.arg == 0), "no flags for the scheduler's own doing");
}

#[test]
fn a_sleep_is_no_dequeue() {
    let (mut engine, id) = attached(quiet(1, blinker()), keeps());
    go(&mut engine, 50);
    let quiet = of(calls(&engine, id), "a", "quiescent");
    assert!(quiet.len() > 10);
    assert!(quiet.iter().all(|c| c.arg & DeqFlags::SLEEP.bits() != 0));
    assert!(of(calls(&engine, id), "a", "dequeue").is_empty());
}

fn blinker() -> Prog {
    let mut prog = Prog::new();
    let a = prog.forever("a", vec![run(1), sleep(1)]);
    prog.start(a);
    prog
}

#[test]
fn nice_values_are_told_as_weights() {
    let change = [-20, 0, 1, 19].map(|nice| Instr::SetNice(Who::Named(0), nice));
    let (mut engine, id) = attached(quiet(1, changed(change.to_vec())), keeps());
    go(&mut engine, 50);
    let weights: Vec<_> =
        of(calls(&engine, id), "kept", "set_weight").iter().map(|c| c.arg).collect();
    assert_eq!(weights, [100, 8668, 100, 80, 1]);
    assert_eq!(task(&engine, "kept").scx.weight, 1);
}

#[test]
fn a_change_does_not_reset_the_watchdogs_clock() {
    // The kept task is changed every 40 ms, and lost all the same.
    let change: Vec<_> =
        (0..20).flat_map(|i| [Instr::SetNice(Who::Named(0), 1 + i % 2), sleep(40)]).collect();
    let (mut engine, id) = attached(quiet(1, changed(change)), keeps().timeout_ms(200));
    let since = task(&engine, "kept").scx.runnable_at;
    go(&mut engine, 100);
    assert_eq!(task(&engine, "kept").scx.runnable_at, since);
    let info = ejected(&mut engine, id, 1_000);
    assert_eq!(info.kind, ExitKind::ErrorStall);
    assert!(info.at <= Nanos::from_millis(330), "{}", info.at);
}

#[test]
fn the_watchdog_ejects_between_1_and_1_5_timeouts() {
    for (start, timeout) in [(0, 100), (33, 100), (70, 100), (120, 1_000), (5, 2_000)] {
        let mut prog = Prog::new();
        let kept = prog.forever("kept", vec![run(1)]);
        prog.start_at(kept, start);
        let (mut engine, id) =
            attached(quiet(1, prog), keeps().timeout_ms(timeout).flags(OpsFlags::ENQ_EXITING));
        let info = ejected(&mut engine, id, 10_000);
        assert_eq!((info.kind, info.reason()), (ExitKind::ErrorStall, "runnable task stall"));
        let waited = info.at - Nanos::from_millis(start);
        let (least, most) = (u64::from(timeout), u64::from(timeout) * 3 / 2);
        // And the jiffies, 4 ms each, that both ends are rounded to.
        assert!(waited >= Nanos::from_millis(least), "{waited}");
        assert!(waited <= Nanos::from_millis(most + 9), "{waited}");
        let rest = info.msg.strip_prefix("kept[").expect("it is the one");
        let (_, rest) = rest.split_once("] failed to run for ").expect("the kernel's words");
        let secs = rest.strip_suffix('s').expect("seconds");
        assert_eq!(secs.split_once('.').map(|(_, ms)| ms.len()), Some(3), "{secs}");
        let lost = engine.lost_tasks();
        assert_eq!((lost.len(), lost[0].comm.as_str()), (1, "kept"));
        assert_eq!(
            lost[0].explanation.split_once(". ").map(|(_, end)| end),
            Some("The scheduler has it, and no callback has inserted it since.")
        );
    }
}

#[test]
fn a_scheduler_that_runs_nothing_stops_the_watchdog_itself() {
    let nothing = Lab::new()
        .on_select_cpu(|_, _, prev, _| prev)
        .on_enqueue(|cx, p, enq| {
            // One task goes on, so that there are ticks; the watchdog's worker does not run.
            if is(cx, p, "hog") {
                cx.dsq_insert(p, DsqId::LOCAL, 1_000_000, enq);
            }
        })
        .timeout_ms(100);
    let mut prog = Prog::new();
    let hog = prog.forever("hog", vec![run(1)]);
    prog.start(hog);
    let (mut engine, id) = attached(quiet(1, prog), nothing);
    let info = ejected(&mut engine, id, 1_000);
    assert_eq!(info.kind, ExitKind::ErrorStall);
    assert!(info.msg.starts_with("watchdog failed to check in for 0.1"), "{}", info.msg);
    assert!(task(&engine, "hog").se.sum_exec_runtime > 0);
}

/// As on Linux 7.2 with the kernel's scx_userland, whose user space does not run.
#[test]
fn a_machine_that_idles_notices_that_the_watchdog_is_late() {
    let nothing =
        Lab::new().on_select_cpu(|_, _, prev, _| prev).on_enqueue(|_, _, _| {}).timeout_ms(100);
    let mut prog = Prog::new();
    let kept = prog.forever("kept", vec![run(1)]);
    prog.start(kept);
    let (mut engine, id) = attached(quiet(2, prog), nothing);
    let info = ejected(&mut engine, id, 1_000);
    assert_eq!(info.kind, ExitKind::ErrorStall);
    assert_eq!(info.msg, "watchdog failed to check in for 0.104s");
}

#[test]
fn the_end_of_a_slice_is_noticed_at_a_tick() {
    let lab = Lab::new().on_select_cpu(|_, _, prev, _| prev).on_enqueue(|cx, p, enq| {
        cx.dsq_insert(p, DsqId::LOCAL, 1_000_000, enq);
    });
    let mut prog = Prog::new();
    for name in ["a", "b"] {
        let r = prog.forever(name, vec![run(100)]);
        prog.start(r);
    }
    let (mut engine, _) = attached(quiet(1, prog), lab);
    engine.take_records();
    go(&mut engine, 400);
    let switches: Vec<_> = engine
        .take_records()
        .into_iter()
        .filter(|r| matches!(r.what, What::Switch { prev, next, .. } if prev.comm().len() == 1 && next.comm().len() == 1))
        .map(|r| r.at.0)
        .collect();
    assert!(switches.len() > 80, "one each jiffy: {}", switches.len());
    let off: Vec<_> = switches.iter().filter(|at| *at % 4_000_000 > 1_000).collect();
    assert!(off.len() < 5, "{off:?}");
}

#[test]
fn an_infinite_slice_never_ends() {
    let lab = Lab::new().on_select_cpu(|_, _, prev, _| prev).on_enqueue(|cx, p, enq| {
        let slice = if is(cx, p, "hog") { u64::MAX } else { 1_000_000 };
        cx.dsq_insert(p, DsqId::LOCAL, slice, enq);
    });
    let mut prog = Prog::new();
    let hog = prog.routine("hog", vec![run(300)]);
    prog.start(hog);
    let other = prog.forever("other", vec![run(1)]);
    prog.start_at(other, 10);
    let (mut engine, id) = attached(quiet(1, prog), lab);
    go(&mut engine, 250);
    assert!(engine.is_attached(id));
    assert_eq!(task(&engine, "other").se.sum_exec_runtime, 0);
    go(&mut engine, 250);
    assert!(engine.live_tasks().all(|p| p.comm() != "hog"));
    assert!(task(&engine, "other").se.sum_exec_runtime > 150_000_000);
}

#[test]
fn a_yield_ends_the_slice() {
    let mut prog = Prog::new();
    for name in ["a", "b"] {
        let r = prog.forever(name, vec![run_us(100), Instr::Yield]);
        prog.start(r);
    }
    let lab = Lab::new().on_enqueue(|cx, p, enq| {
        cx.dsq_insert(p, DsqId::LOCAL, 20_000_000, enq);
    });
    let (mut engine, _) = attached(quiet(1, prog.clone()), lab);
    let before = engine.stats().switches;
    go(&mut engine, 100);
    assert!(engine.stats().switches > before + 800);
    // With an ops.yield of its own, the scheduler decides; this one does nothing.
    let lab = Lab::new()
        .on_enqueue(|cx, p, enq| {
            cx.dsq_insert(p, DsqId::LOCAL, 20_000_000, enq);
        })
        .watch(OpSet::YIELD);
    let (mut engine, _) = attached(quiet(1, prog), lab);
    let before = engine.stats().switches;
    go(&mut engine, 100);
    assert!(engine.stats().switches < before + 30);
}

/// Two CPUs, each with a hog; when `kicker` wakes up, CPU 1 is kicked.
fn kicked(flags: KickFlags, head: bool) -> (scxlab_engine::Engine, scxlab_engine::SchedId) {
    let lab = Lab::new()
        .on_select_cpu(|cx, p, _, _| if is(cx, p, "kicker") { CpuId(0) } else { CpuId(1) })
        .on_enqueue(move |cx, p, enq| {
            let kicker = is(cx, p, "kicker");
            cx.dsq_insert(p, DsqId::LOCAL, 1_000_000_000, if head && kicker { enq } else { NONE });
            if kicker {
                cx.kick_cpu(CpuId(1), flags);
            }
        });
    let mut prog = Prog::new();
    let kicker = prog.forever("kicker", vec![run_us(10), sleep(1)]);
    prog.start(kicker);
    for name in ["hog1", "hog2"] {
        let hog = prog.forever(name, vec![run(500)]);
        prog.start_at(hog, 5);
    }
    attached(quiet(2, prog), lab)
}

#[test]
fn a_kick_with_preempt_ends_the_slice_of_who_runs() {
    let mut switches = Vec::new();
    for flags in [KickFlags::empty(), KickFlags::PREEMPT, KickFlags::PREEMPT | KickFlags::WAIT] {
        let (mut engine, id) = kicked(flags, false);
        go(&mut engine, 10);
        engine.take_records();
        go(&mut engine, 100);
        assert!(engine.is_attached(id), "{:?}", engine.exit_info(id));
        let between_hogs = |r: &scxlab_engine::Record| {
            matches!(r.what, What::Switch { prev, next, .. }
                if prev.comm().starts_with("hog") && next.comm().starts_with("hog"))
        };
        switches.push(engine.take_records().into_iter().filter(between_hogs).count());
        assert_eq!(engine.stats().kick_waits > 0, flags.contains(KickFlags::WAIT));
    }
    assert_eq!(switches[0], 0);
    assert!(switches[1] > 80 && switches[2] > 80, "{switches:?}");
}

/// Three CPUs wait for each other all the time. What a CPU is given while it waits runs when it has
/// waited, as in the kernel's selftest `cyclic_kick_wait`.
#[test]
fn a_cpu_that_waits_misses_no_task() {
    let lab = || {
        Lab::new().timeout_ms(1000).on_enqueue(|cx, p, enq| {
            cx.dsq_insert(p, DsqId::GLOBAL, 20_000_000, enq);
            if let CpuId(cpu @ 0..3) = cx.this_cpu() {
                cx.kick_cpu(CpuId((cpu + 1) % 3), KickFlags::WAIT);
            }
        })
    };
    for seed in 1..=6 {
        // Pairs of tasks that run in turn: nothing else happens that could make up for a miss.
        let mut prog = Prog::new();
        (prog.0.mutexes, prog.0.conds) = (4, 4);
        for pair in 0..4 {
            let turn = Span::between(Nanos::from_micros(50), Nanos::from_micros(500));
            let wait = Instr::CondWait { cond: pair, mutex: pair };
            let code = vec![Instr::Lock(pair), Instr::Run(turn), Instr::CondSignal(pair), wait];
            let code = [code, vec![Instr::Jump(Pc(1))]].concat();
            for _ in 0..2 {
                let task = prog.routine("turn", code.clone());
                prog.start(task);
            }
        }
        let (mut engine, id) = attached(busy(4, prog, seed, 2_000), lab());
        go(&mut engine, 3000);
        assert!(engine.is_attached(id), "{seed}: {:?}", engine.exit_info(id));
        assert!(engine.stats().kick_waits > 100, "{seed}: {}", engine.stats().kick_waits);
    }
}

#[test]
fn a_kick_if_idle_leaves_a_busy_cpu_alone() {
    let (mut engine, id) = kicked(KickFlags::IDLE, false);
    go(&mut engine, 10);
    let before = engine.stats().dispatch_calls;
    go(&mut engine, 50);
    assert!(engine.is_attached(id));
    // Those of CPU 0, which goes idle each time.
    assert!(engine.stats().dispatch_calls - before < 120);
    let (mut engine, id) = kicked(KickFlags::IDLE | KickFlags::PREEMPT, false);
    assert_eq!(ejected(&mut engine, id, 50).msg, "PREEMPT/WAIT cannot be used with SCX_KICK_IDLE");
}

#[test]
fn a_kick_makes_an_idle_cpu_look_at_a_queue() {
    let dsq = DsqId(1);
    let lab = Lab::new()
        .on_init(move |cx| cx.create_dsq(dsq))
        .on_select_cpu(|_, _, _, _| CpuId(0))
        .on_enqueue(move |cx, p, enq| {
            let to = if is(cx, p, "pinned") { dsq } else { DsqId::LOCAL };
            cx.dsq_insert(p, to, 1_000_000, enq);
            cx.kick_cpu(CpuId(1), KickFlags::IDLE);
        })
        .on_dispatch(move |cx, _, _| {
            cx.dsq_move_to_local(dsq, NONE);
        })
        .timeout_ms(100);
    let mut prog = blinker();
    let pinned = prog.forever("pinned", vec![run_us(50), sleep(1)]);
    prog.start(pinned).affinity = Some(mask(&[1]));
    let (mut engine, id) = attached(quiet(2, prog), lab);
    go(&mut engine, 500);
    assert!(engine.is_attached(id), "{:?}", engine.exit_info(id));
    assert!(task(&engine, "pinned").se.sum_exec_runtime > 15_000_000);
}
