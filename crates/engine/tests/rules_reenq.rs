//! Tasks that go back to the scheduler: those that were to run at once and could not, and those
//! that it asks back.

use scxlab_engine::flags::ent;
use scxlab_engine::program::Policy;
use scxlab_engine::{CpuId, DsqId, EnqFlags, OpsFlags};

mod support;
use support::{
    Lab, Prog, attached, ejected, go, lab_state, mask, quiet, run, run_us, sleep, st, task,
};

const NONE: EnqFlags = EnqFlags::empty();
const SLICE: u64 = 5_000_000;
const QUEUE: DsqId = DsqId(7);

/// Two that run on the one CPU they may use, so that each finds the other there.
fn two_on_one() -> Prog {
    let mut prog = Prog::new();
    for name in ["a", "b"] {
        let routine = prog.forever(name, vec![run(3), sleep(1)]);
        prog.start(routine).affinity = Some(mask(&[0]));
    }
    prog
}

/// Why a task is enqueued again, if it is.
fn reason(cx: &scxlab_engine::Cx<'_>, p: scxlab_engine::Task<'_>, enq: EnqFlags) -> u32 {
    let reason = cx.get(p).scx.flags & ent::REENQ_REASON_MASK;
    assert_eq!(reason != 0, enq.contains(EnqFlags::REENQ));
    reason
}

/// With `SCX_ENQ_IMMED` the second time into a queue.
fn at_once_or_queued() -> Lab {
    Lab::new()
        .on_init(|cx| cx.create_dsq(QUEUE))
        .on_enqueue(|cx, p, enq| match reason(cx, p, enq) {
            0 => {
                cx.dsq_insert(p, DsqId::LOCAL, SLICE, enq | EnqFlags::IMMED);
            }
            why => {
                assert_eq!(why, ent::REENQ_IMMED);
                st(cx).n += 1;
                cx.dsq_insert(p, QUEUE, SLICE, NONE);
            }
        })
        .on_dispatch(|cx, _, _| {
            cx.dsq_move_to_local(QUEUE, NONE);
        })
}

#[test]
fn what_cannot_run_at_once_goes_back() {
    let (mut engine, id) = attached(quiet(1, two_on_one()), at_once_or_queued());
    go(&mut engine, 200);
    assert!(engine.is_attached(id), "{:?}", engine.exit_info(id));
    let back = lab_state(&engine, id).n;
    assert!(back > 10, "{back} went back");
    assert_eq!(engine.event_counters(id).reenq_immed, back);
    assert_eq!(engine.event_counters(id).reenq_local_repeat, 0);
    for comm in ["a", "b"] {
        assert!(task(&engine, comm).se.sum_exec_runtime > 20_000_000, "{comm}");
    }
    engine.check_invariants().expect("holds");
}

/// A flag of the scheduler's stands for the flag of every insert.
#[test]
fn it_can_be_taken_as_set() {
    let lab = Lab::new()
        .on_init(|cx| cx.create_dsq(QUEUE))
        .on_enqueue(|cx, p, enq| {
            let dsq = if reason(cx, p, enq) == ent::REENQ_IMMED { QUEUE } else { DsqId::LOCAL };
            cx.dsq_insert(p, dsq, SLICE, enq);
        })
        .on_dispatch(|cx, _, _| {
            cx.dsq_move_to_local(QUEUE, NONE);
        })
        .flags(OpsFlags::ALWAYS_ENQ_IMMED);
    let (mut engine, id) = attached(quiet(1, two_on_one()), lab);
    go(&mut engine, 200);
    assert!(engine.is_attached(id), "{:?}", engine.exit_info(id));
    assert!(engine.event_counters(id).reenq_immed > 10);
}

#[test]
fn a_scheduler_that_insists_is_ejected() {
    let lab = Lab::new().on_enqueue(|cx, p, enq| {
        cx.dsq_insert(p, DsqId::LOCAL, SLICE, enq | EnqFlags::IMMED);
    });
    let (mut engine, id) = attached(quiet(1, two_on_one()), lab);
    let msg = ejected(&mut engine, id, 200).msg;
    assert_eq!(msg, "SCX_ENQ_REENQ on SCX_DSQ_LOCAL repeated 257 times");
    assert_eq!(engine.event_counters(id).reenq_local_repeat, 257);
}

#[test]
fn it_is_for_local_queues() {
    let lab = Lab::new().on_enqueue(|cx, p, enq| {
        assert!(!cx.dsq_insert(p, DsqId::GLOBAL, SLICE, enq | EnqFlags::IMMED));
    });
    let (mut engine, id) = attached(quiet(1, two_on_one()), lab);
    let msg = ejected(&mut engine, id, 200).msg;
    assert_eq!(msg, "SCX_ENQ_IMMED on a non-local DSQ 0x8000000000000001");
}

/// A task of the scheduler's, and one of a higher class that comes and goes on the same CPU.
fn with_higher_class() -> Prog {
    let mut prog = Prog::new();
    for name in ["a", "b"] {
        let routine = prog.forever(name, vec![run(20), sleep(1)]);
        let start = prog.start(routine);
        start.policy = Policy::Ext;
        start.affinity = Some(mask(&[0]));
    }
    let fair = prog.forever("fair", vec![run_us(500), sleep(7)]);
    prog.start(fair).affinity = Some(mask(&[0]));
    prog
}

#[test]
fn what_is_preempted_goes_back_too() {
    let lab = Lab::new()
        .on_init(|cx| cx.create_dsq(QUEUE))
        .on_enqueue(|cx, p, enq| {
            let why = reason(cx, p, enq);
            st(cx).n += u64::from(why == ent::REENQ_PREEMPTED);
            if why == 0 {
                cx.dsq_insert(p, DsqId::LOCAL, SLICE, enq | EnqFlags::IMMED);
            } else {
                cx.dsq_insert(p, QUEUE, SLICE, NONE);
            }
        })
        .on_dispatch(|cx, _, _| {
            cx.dsq_move_to_local(QUEUE, EnqFlags::IMMED);
        })
        .flags(OpsFlags::SWITCH_PARTIAL);
    let (mut engine, id) = attached(quiet(1, with_higher_class()), lab);
    go(&mut engine, 300);
    assert!(engine.is_attached(id), "{:?}", engine.exit_info(id));
    assert!(lab_state(&engine, id).n > 5, "{} were preempted", lab_state(&engine, id).n);
    engine.check_invariants().expect("holds");
}

/// Two wait in a queue, until one dispatch asks them back.
#[test]
fn a_queue_is_asked_back() {
    let mut prog = two_on_one();
    let hog = prog.forever("hog", vec![run(1), sleep(2)]);
    prog.start(hog).affinity = Some(mask(&[0]));
    let lab = Lab::new()
        .on_init(|cx| cx.create_dsq(QUEUE))
        .on_enqueue(|cx, p, enq| {
            if reason(cx, p, enq) == ent::REENQ_KFUNC {
                st(cx).n += 1;
                cx.dsq_insert(p, DsqId::GLOBAL, SLICE, NONE);
            } else {
                cx.dsq_insert(p, QUEUE, SLICE, enq);
            }
        })
        .on_dispatch(|cx, _, _| {
            if cx.dsq_nr_queued(QUEUE).is_ok_and(|n| n >= 2) {
                cx.dsq_reenq(QUEUE);
            } else {
                cx.dsq_move_to_local(QUEUE, NONE);
            }
        });
    let (mut engine, id) = attached(quiet(1, prog), lab);
    go(&mut engine, 200);
    assert!(engine.is_attached(id), "{:?}", engine.exit_info(id));
    assert!(lab_state(&engine, id).n > 10, "{} came back", lab_state(&engine, id).n);
    engine.check_invariants().expect("holds");
}

/// The kernel would not come out of it either; here time goes on, and the tasks get to run.
#[test]
fn a_queue_that_is_asked_back_over_and_over_does_not_stop_time() {
    let lab = Lab::new()
        .on_init(|cx| cx.create_dsq(QUEUE))
        .on_enqueue(|cx, p, enq| {
            st(cx).n += u64::from(reason(cx, p, enq) == ent::REENQ_KFUNC);
            cx.dsq_insert(p, QUEUE, SLICE, enq);
            cx.dsq_reenq(QUEUE);
        })
        .on_dispatch(|cx, _, _| {
            cx.dsq_move_to_local(QUEUE, NONE);
        });
    let (mut engine, id) = attached(quiet(1, two_on_one()), lab);
    go(&mut engine, 50);
    assert!(engine.is_attached(id), "{:?}", engine.exit_info(id));
    assert!(lab_state(&engine, id).n > 10, "{} came back", lab_state(&engine, id).n);
    for comm in ["a", "b"] {
        assert!(task(&engine, comm).se.sum_exec_runtime > 5_000_000, "{comm}");
    }
    engine.check_invariants().expect("holds");
}

#[test]
fn the_global_queue_is_not() {
    let lab = Lab::fifo().on_running(|cx, _| cx.dsq_reenq(DsqId::GLOBAL));
    let (mut engine, id) = attached(quiet(1, two_on_one()), lab);
    let msg = ejected(&mut engine, id, 200).msg;
    assert_eq!(msg, "DSQ 0x8000000000000001 not allowed for reenq");
}

/// What waits in the local queue is had back when the CPU goes to another class.
#[test]
fn a_released_cpu_gives_its_tasks_back() {
    let lab = Lab::new()
        .on_enqueue(|cx, p, enq| {
            st(cx).n += u64::from(reason(cx, p, enq) == ent::REENQ_KFUNC);
            cx.dsq_insert(p, DsqId::LOCAL, SLICE, enq);
        })
        .on_cpu_release(|cx, cpu, next| {
            assert_eq!((cpu, cx.get(next).comm()), (CpuId(0), "fair"));
            let back = cx.reenqueue_local();
            st(cx).pids.insert(0, back as i32);
        })
        .on_cpu_acquire(|cx, _| {
            let releases = cx.state::<support::LabState>().expect("its own").pids.remove(&0);
            assert!(releases.is_some(), "acquired without a release before");
        })
        .flags(OpsFlags::SWITCH_PARTIAL);
    let (mut engine, id) = attached(quiet(1, with_higher_class()), lab);
    go(&mut engine, 300);
    assert!(engine.is_attached(id), "{:?}", engine.exit_info(id));
    assert!(lab_state(&engine, id).n > 5, "{} came back", lab_state(&engine, id).n);
    engine.check_invariants().expect("holds");
}

#[test]
fn a_local_queue_is_had_back_only_on_release() {
    let lab = Lab::fifo().on_running(|cx, _| {
        assert_eq!(cx.reenqueue_local(), 0);
    });
    let (mut engine, id) = attached(quiet(1, two_on_one()), lab);
    let msg = ejected(&mut engine, id, 200).msg;
    assert!(msg.starts_with("scx_bpf_reenqueue_local() cannot be called from ops.running()"));
}
