//! The kernel's rules for inserts and dispatch queues, and its words for those who break them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use scxlab_engine::{CpuId, DsqId, EnqFlags, Errno, ExitKind, Nanos, OpSet, OpsFlags, What};

mod support;
use support::{
    Lab, Prog, attached, calls_of, ejected, go, lab_state, mask, quiet, run, run_us, sleep, st,
    task,
};

const NONE: EnqFlags = EnqFlags::empty();
const SLICE: u64 = 5_000_000;

/// A task that runs for 1 ms and sleeps for 1 ms, over and over.
fn blinker(name: &str) -> Prog {
    let mut prog = Prog::new();
    let routine = prog.forever(name, vec![run(1), sleep(1)]);
    prog.start(routine);
    prog
}

fn two_blinkers() -> Prog {
    let mut prog = blinker("a");
    let b = prog.forever("b", vec![run(1), sleep(1)]);
    prog.start(b);
    prog
}

fn is(cx: &scxlab_engine::Cx<'_>, p: scxlab_engine::Task<'_>, comm: &str) -> bool {
    cx.get(p).comm() == comm
}

/// Runs a scheduler until it is ejected; the message.
fn error_of(prog: Prog, cpus: usize, lab: Lab) -> String {
    let (mut engine, id) = attached(quiet(cpus, prog), lab);
    let info = ejected(&mut engine, id, 200);
    assert_eq!(info.kind, ExitKind::Error, "{info:?}");
    assert_eq!(lab_state(&engine, id).exit.as_ref().map(|e| &e.msg), Some(&info.msg));
    engine.check_invariants().expect("holds");
    let before = engine.stats().switches;
    go(&mut engine, 100);
    assert!(engine.stats().switches > before + 10, "the tasks go on without the scheduler");
    info.msg
}

#[test]
fn a_scheduler_that_implements_nothing_runs_all_through_the_global_queue() {
    let mut prog = two_blinkers();
    let c = prog.forever("hog", vec![run(10)]);
    prog.start(c);
    let (mut engine, id) = attached(quiet(1, prog), Lab::new());
    engine.take_records();
    go(&mut engine, 500);
    assert!(engine.is_attached(id));
    let dsqs: Vec<_> = engine
        .take_records()
        .into_iter()
        .filter_map(|r| match r.what {
            What::Inserted { dsq, .. } => Some(DsqId(dsq)),
            _ => None,
        })
        .collect();
    assert!(dsqs.contains(&DsqId::GLOBAL));
    assert!(dsqs.iter().all(|&d| d == DsqId::GLOBAL || d == DsqId::LOCAL), "{dsqs:?}");
    assert!(engine.event_counters(id).refill_slice_dfl > 0);
    assert_eq!(engine.lost_tasks(), []);
    for comm in ["a", "b", "hog"] {
        assert!(task(&engine, comm).se.sum_exec_runtime > 20_000_000, "{comm}");
    }
}

#[test]
fn a_direct_dispatch_from_enqueue_skips_custody() {
    let lab = Lab::new()
        .on_enqueue(|cx, p, enq| {
            cx.dsq_insert(p, DsqId::LOCAL, SLICE, enq);
        })
        .watch(OpSet::DEQUEUE);
    let (mut engine, id) = attached(quiet(1, blinker("a")), lab);
    go(&mut engine, 100);
    let calls = calls_of(&engine, id, "a");
    assert!(calls.contains(&"enqueue"));
    assert!(!calls.contains(&"dequeue"), "{calls:?}");
}

#[test]
fn a_direct_dispatch_from_select_cpu_skips_enqueue() {
    let lab = Lab::new()
        .on_select_cpu(|cx, p, prev, _| {
            cx.dsq_insert(p, DsqId::LOCAL, SLICE, NONE);
            prev
        })
        .watch(OpSet::ENQUEUE | OpSet::DEQUEUE);
    let (mut engine, id) = attached(quiet(2, blinker("a")), lab);
    go(&mut engine, 100);
    let calls = calls_of(&engine, id, "a");
    assert!(calls.iter().filter(|op| **op == "select_cpu").count() > 20);
    // The one put-back at the attach aside.
    assert!(calls.iter().filter(|op| **op == "enqueue").count() <= 1, "{calls:?}");
}

#[test]
fn a_direct_dispatch_to_another_cpu_is_deferred_and_arrives() {
    let lab = Lab::new()
        .on_select_cpu(|_, _, _, _| CpuId(0))
        .on_enqueue(|cx, p, enq| {
            let other = if is(cx, p, "a") { CpuId(1) } else { CpuId(0) };
            cx.dsq_insert(p, DsqId::local_on(other.0), SLICE, enq);
        })
        .watch(OpSet::RUNNING);
    let (mut engine, id) = attached(quiet(2, blinker("a")), lab);
    go(&mut engine, 100);
    let on: Vec<_> = support::calls(&engine, id)
        .iter()
        .filter(|call| call.op == "running" && call.comm == "a")
        .map(|call| call.arg)
        .collect();
    assert!(on.len() > 20 && on[1..].iter().all(|&cpu| cpu == 1), "{on:?}");
    assert!(engine.stats().migrations >= on.len() as u64 - 2);
}

#[test]
fn an_idle_cpu_gets_no_word_of_a_task_in_a_user_queue() {
    // Both CPUs look at the queue when they look at all; only CPU 0 ever does.
    let dsq = DsqId(7);
    let lab = Lab::new()
        .on_init(move |cx| cx.create_dsq(dsq))
        .on_select_cpu(|cx, p, prev, _| if is(cx, p, "pinned") { CpuId(1) } else { prev })
        .on_enqueue(move |cx, p, enq| {
            let to = if is(cx, p, "pinned") { dsq } else { DsqId::LOCAL };
            cx.dsq_insert(p, to, SLICE, enq);
        })
        .on_dispatch(move |cx, cpu, _| {
            if cpu == CpuId(0) {
                cx.dsq_move_to_local(dsq, NONE);
            }
        })
        .timeout_ms(200);
    let mut prog = blinker("a");
    let pinned = prog.forever("pinned", vec![run(1), sleep(1)]);
    prog.start_at(pinned, 20).affinity = Some(mask(&[1]));
    let (mut engine, id) = attached(quiet(2, prog), lab);
    let info = ejected(&mut engine, id, 1_000);
    assert_eq!(info.kind, ExitKind::ErrorStall);
    assert!(info.msg.starts_with("pinned["), "{}", info.msg);
    let lost = engine.lost_tasks();
    assert_eq!(lost.len(), 1);
    assert!(lost[0].explanation.contains("It waits in queue 0x7"), "{}", lost[0].explanation);
    assert!(lost[0].explanation.contains("may run on CPU 1; no CPU has taken it"));
    let at = info.at - lost[0].runnable_since;
    let timeout = Nanos::from_millis(200);
    assert!(at >= timeout && at <= timeout + Nanos::from_millis(108), "{at}");
}

#[test]
fn a_second_insert_in_one_enqueue() {
    let lab = Lab::new().on_enqueue(|cx, p, enq| {
        cx.dsq_insert(p, DsqId::GLOBAL, SLICE, enq);
        if is(cx, p, "a") {
            cx.dsq_insert(p, DsqId::GLOBAL, SLICE, enq);
        }
    });
    let msg = error_of(blinker("a"), 1, lab);
    assert!(msg.starts_with("a[") && msg.ends_with("] already direct-dispatched"), "{msg}");
}

#[test]
fn an_insert_of_another_task() {
    let lab = Lab::new().flags(OpsFlags::TID_TO_TASK).on_enqueue(|cx, p, enq| {
        let tid = cx.get(p).scx.tid;
        let other = st(cx).n;
        if is(cx, p, "b")
            && other != 0
            && let Some(q) = cx.tid_to_task(other)
        {
            cx.dsq_insert(q, DsqId::GLOBAL, SLICE, enq);
            return;
        }
        if is(cx, p, "a") {
            st(cx).n = tid;
        }
        cx.dsq_insert(p, DsqId::GLOBAL, SLICE, enq);
    });
    let msg = error_of(two_blinkers(), 1, lab);
    let rest = msg.strip_prefix("scheduling for b[").expect(&msg);
    let (_, rest) = rest.split_once("] but trying to direct-dispatch a[").expect(&msg);
    assert!(rest.strip_suffix(']').is_some_and(|pid| pid.parse::<i32>().is_ok()), "{msg}");
}

#[test]
fn a_full_dispatch_buffer() {
    let lab = Lab::fifo().batch(2).on_dispatch(|cx, _, _| {
        let Some(tid) = st(cx).queue.pop_front() else { return };
        let Some(p) = cx.tid_to_task(tid) else { return };
        assert_eq!(cx.dispatch_nr_slots(), 2);
        let often = if is(cx, p, "a") { 3 } else { 1 };
        for _ in 0..often {
            cx.dsq_insert(p, DsqId::GLOBAL, SLICE, NONE);
        }
    });
    assert_eq!(error_of(blinker("a"), 1, lab), "dispatch buffer overflow");
}

#[test]
fn a_cancel_with_nothing_to_cancel() {
    let lab = Lab::fifo().on_dispatch(|cx, _, _| {
        let Some(tid) = st(cx).queue.pop_front() else { return };
        let Some(p) = cx.tid_to_task(tid) else { return };
        cx.dsq_insert(p, DsqId::GLOBAL, SLICE, NONE);
        if is(cx, p, "a") {
            cx.dispatch_cancel();
            cx.dispatch_cancel();
        }
    });
    assert_eq!(error_of(blinker("a"), 1, lab), "dispatch buffer underflow");
}

#[test]
fn a_cancelled_insert_is_not_done() {
    let lab = Lab::fifo().on_dispatch(|cx, _, _| {
        let Some(tid) = st(cx).queue.pop_front() else { return };
        let Some(p) = cx.tid_to_task(tid) else { return };
        cx.dsq_insert(p, DsqId(99), SLICE, NONE); // would be an error
        cx.dispatch_cancel();
        cx.dsq_insert(p, DsqId::GLOBAL, SLICE, NONE);
    });
    let (mut engine, id) = attached(quiet(1, blinker("a")), lab);
    go(&mut engine, 50);
    assert!(engine.is_attached(id));
}

#[test]
fn a_queue_that_does_not_exist() {
    let lab = Lab::new().on_enqueue(|cx, p, enq| {
        let to = if is(cx, p, "a") { DsqId(0x1f) } else { DsqId::GLOBAL };
        cx.dsq_insert(p, to, SLICE, enq);
    });
    assert_eq!(error_of(blinker("a"), 1, lab), "non-existent DSQ 0x1f");
    let lab = Lab::new()
        .watch(OpSet::ENQUEUE)
        .on_enqueue(|cx, p, enq| {
            cx.dsq_insert(p, DsqId::GLOBAL, SLICE, enq);
        })
        .on_dispatch(|cx, _, _| {
            cx.dsq_move_to_local(DsqId(0x1f), NONE);
        });
    assert_eq!(error_of(blinker("a"), 1, lab), "invalid DSQ ID 0x000000000000001f");
    let lab = Lab::new().on_enqueue(|cx, p, enq| {
        cx.dsq_peek(DsqId(0x1f));
        cx.dsq_insert(p, DsqId::GLOBAL, SLICE, enq);
    });
    assert_eq!(error_of(blinker("a"), 1, lab), "peek on non-existent DSQ 0x1f");
}

#[test]
fn vtime_in_a_builtin_queue() {
    let lab = Lab::new().on_enqueue(|cx, p, enq| {
        cx.dsq_insert_vtime(p, DsqId::GLOBAL, SLICE, 0, enq);
    });
    let msg = error_of(blinker("a"), 1, lab);
    assert_eq!(msg, "cannot use vtime ordering for built-in DSQs");
}

/// Two tasks that are queued at once, the second one the other way.
fn mixed(first_by_vtime: bool) -> String {
    let dsq = DsqId(3);
    let lab = Lab::new().on_init(move |cx| cx.create_dsq(dsq)).on_enqueue(move |cx, p, enq| {
        let by_vtime = is(cx, p, "a") == first_by_vtime;
        match cx.get(p).comm() {
            "a" | "b" if by_vtime => cx.dsq_insert_vtime(p, dsq, SLICE, 5, enq),
            "a" | "b" => cx.dsq_insert(p, dsq, SLICE, enq),
            _ => cx.dsq_insert(p, DsqId::GLOBAL, SLICE, enq),
        };
    });
    let mut prog = blinker("a");
    let b = prog.forever("b", vec![run(1), sleep(1)]);
    prog.start_at(b, 20);
    error_of(prog, 1, lab)
}

#[test]
fn a_queue_that_is_used_both_ways() {
    let (fifo, priq) = (mixed(false), mixed(true));
    assert_eq!(
        [fifo.as_str(), priq.as_str()],
        [
            "DSQ ID 0x0000000000000003 already had FIFO-enqueued tasks",
            "DSQ ID 0x0000000000000003 already had PRIQ-enqueued tasks",
        ]
    );
}

#[test]
fn a_queue_that_is_destroyed_in_use() {
    let dsq = DsqId(3);
    let lab = Lab::new()
        .on_init(move |cx| cx.create_dsq(dsq))
        .on_enqueue(move |cx, p, enq| {
            let to = if is(cx, p, "a") { dsq } else { DsqId::GLOBAL };
            cx.dsq_insert(p, to, SLICE, enq);
        })
        .on_dispatch(move |cx, _, _| {
            if cx.dsq_nr_queued(dsq) == Ok(1) {
                cx.destroy_dsq(dsq);
            }
        });
    let msg = error_of(two_blinkers(), 1, lab);
    assert_eq!(msg, "attempting to destroy in-use dsq 0x0000000000000003 (nr=1)");
}

#[test]
fn queues_have_to_be_new_and_not_builtin() {
    let lab = Lab::new().on_init(|cx| {
        assert_eq!(cx.create_dsq(DsqId(1)), Ok(()));
        assert_eq!(cx.create_dsq(DsqId(1)), Err(Errno(17)));
        assert_eq!(cx.create_dsq(DsqId::GLOBAL), Err(Errno(22)));
        assert_eq!(cx.dsq_nr_queued(DsqId(1)), Ok(0));
        cx.destroy_dsq(DsqId(1));
        assert_eq!(cx.dsq_nr_queued(DsqId(1)), Err(Errno(2)));
        assert_eq!(cx.dsq_nr_queued(DsqId::local_on(0)), Ok(0));
        Ok(())
    });
    let (engine, id) = attached(quiet(1, blinker("a")), lab);
    assert!(engine.is_attached(id));
}

#[test]
fn a_cpu_that_does_not_exist() {
    let lab =
        Lab::new().on_select_cpu(|cx, p, prev, _| if is(cx, p, "a") { CpuId(9) } else { prev });
    assert_eq!(error_of(blinker("a"), 2, lab), "invalid CPU 9 from ops.select_cpu()");
    let lab = Lab::new().watch(OpSet::SELECT_CPU).on_enqueue(|cx, p, enq| {
        let to = if is(cx, p, "a") { DsqId::local_on(9) } else { DsqId::GLOBAL };
        cx.dsq_insert(p, to, SLICE, enq);
    });
    let msg = error_of(blinker("a"), 2, lab);
    assert_eq!(msg, "invalid CPU 9 in SCX_DSQ_LOCAL_ON dispatch verdict");
}

#[test]
fn a_cpu_that_the_task_may_not_use() {
    let lab = Lab::fifo().on_dispatch(|cx, _, _| {
        let Some(tid) = st(cx).queue.pop_front() else { return };
        let Some(p) = cx.tid_to_task(tid) else { return };
        let to = if is(cx, p, "pinned") { DsqId::local_on(1) } else { DsqId::GLOBAL };
        cx.dsq_insert(p, to, SLICE, NONE);
    });
    let mut prog = blinker("a");
    let pinned = prog.forever("pinned", vec![run(1), sleep(1)]);
    prog.start(pinned).affinity = Some(mask(&[0]));
    let msg = error_of(prog, 2, lab);
    assert!(msg.starts_with("SCX_DSQ_LOCAL[_ON] target CPU 1 not allowed for pinned["), "{msg}");
}

#[test]
fn a_select_cpu_that_the_affinity_overrules_is_counted() {
    let lab = Lab::new().on_select_cpu(|_, _, _, _| CpuId(1));
    let mut prog = Prog::new();
    let pinned = prog.forever("two", vec![run_us(100), sleep(1)]);
    prog.start(pinned).affinity = Some(mask(&[0, 2]));
    let (mut engine, id) = attached(quiet(3, prog), lab);
    go(&mut engine, 50);
    assert!(engine.is_attached(id));
    assert!(engine.event_counters(id).select_cpu_fallback > 10);
}

#[test]
fn vtime_orders_also_where_it_wraps() {
    let dsq = DsqId(3);
    let vtimes = [5_u64, u64::MAX - 5, 0, u64::MAX];
    let lab = Lab::new()
        .on_init(move |cx| cx.create_dsq(dsq))
        .on_enqueue(move |cx, p, enq| {
            let i = match cx.get(p).comm() {
                "t0" => 0,
                "t1" => 1,
                "t2" => 2,
                "t3" => 3,
                _ => {
                    cx.dsq_insert(p, DsqId::LOCAL, 1_000_000_000, enq);
                    return;
                }
            };
            cx.dsq_insert_vtime(p, dsq, 1_000_000_000, vtimes[i], enq);
        })
        .on_dispatch(move |cx, _, _| {
            cx.dsq_move_to_local(dsq, NONE);
        })
        .watch(OpSet::RUNNING);
    let mut prog = Prog::new();
    // Has the CPU while the others queue up, all within one slice of its.
    let hog = prog.routine("hog", vec![run(100)]);
    prog.start_at(hog, 20);
    for name in ["t0", "t1", "t2", "t3"] {
        let t = prog.routine(name, vec![run(1)]);
        prog.start_at(t, 30);
    }
    let (mut engine, id) = attached(quiet(1, prog), lab);
    go(&mut engine, 200);
    assert!(engine.is_attached(id), "{:?}", engine.exit_info(id));
    let mut order: Vec<_> = support::calls(&engine, id)
        .iter()
        .filter(|call| call.op == "running" && call.comm.starts_with('t'))
        .map(|call| call.comm.as_str())
        .collect();
    // Each comes back as it exits.
    order.dedup();
    assert_eq!(order, ["t1", "t3", "t2", "t0"]);
}

#[test]
fn core_bits_in_enq_flags() {
    let lab = Lab::new().on_enqueue(|cx, p, enq| {
        cx.dsq_insert(p, DsqId::GLOBAL, SLICE, enq | EnqFlags::from_bits_retain(1 << 57));
    });
    let msg = error_of(blinker("a"), 1, lab);
    assert!(msg.starts_with("invalid enq_flags 0x2000000"), "{msg}");
}

#[test]
fn a_zero_slice_is_warned_of_once_and_refilled() {
    let lab = Lab::new().on_enqueue(|cx, p, enq| {
        cx.dsq_insert(p, DsqId::LOCAL, SLICE, enq);
        cx.task_set_slice(p, 0);
    });
    let (mut engine, id) = attached(quiet(1, blinker("a")), lab);
    go(&mut engine, 50);
    assert!(engine.is_attached(id));
    let log = engine.log();
    let warned: Vec<_> = log.iter().filter(|line| line.contains("zero slice")).collect();
    assert_eq!(warned.len(), 1, "{log:?}");
    assert!(
        warned[0].starts_with("sched_ext: ")
            && warned[0].ends_with("] has zero slice in do_pick_task_scx()")
    );
    assert!(engine.event_counters(id).refill_slice_dfl > 10);
}

/// `scx_bpf_dsq_nr_queued(SCX_DSQ_LOCAL)` is about the CPU whose runqueue is locked, wherever the
/// operation runs.
#[test]
fn the_local_queue_is_that_of_the_locked_runqueue() {
    let elsewhere = Arc::new(AtomicU32::new(0));
    let counter = elsewhere.clone();
    let lab = Lab::new().on_select_cpu(|_, _, prev, _| CpuId(1 - prev.0));
    let lab = lab.on_enqueue(move |cx, p, enq| {
        let there = DsqId::local_on(cx.task_cpu(p).0);
        let [local, there] = [DsqId::LOCAL, there].map(|dsq| cx.dsq_nr_queued(dsq));
        assert_eq!(local, there, "{}", cx.get(p).comm());
        if cx.this_cpu() != cx.task_cpu(p) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        cx.dsq_insert(p, DsqId::LOCAL, SLICE, enq);
    });
    let mut prog = Prog::new();
    for name in ["a", "b", "c", "d", "e", "f"] {
        let routine = prog.forever(name, vec![run(1), sleep(1)]);
        prog.start(routine);
    }
    let (mut engine, id) = attached(quiet(2, prog), lab);
    go(&mut engine, 500);
    assert!(engine.is_attached(id), "{:?}", engine.exit_info(id));
    assert!(elsewhere.load(Ordering::Relaxed) > 0, "nobody was enqueued from another CPU");
}
