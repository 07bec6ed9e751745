//! What the core does to tasks on their way, as a scheduler sees it: their ends, their moves, and what
//! their fields say meanwhile.

use std::collections::BTreeSet;

use scxlab_engine::program::{Instr, Who};
use scxlab_engine::{CpuId, DeqFlags, DsqId, EnqFlags, OpSet, OpsFlags};

mod support;
use support::{
    Lab, Prog, attached, calls, calls_of, go, lab_state, mask, quiet, run, run_us, sleep, st, task,
};

const SLICE: u64 = 5_000_000;

fn local() -> Lab {
    Lab::new().on_enqueue(|cx, p, enq| {
        cx.dsq_insert(p, DsqId::LOCAL, SLICE, enq);
    })
}

/// `sched_autogroup_exit_task()` in `do_exit()` of Linux 7.2.
#[test]
fn an_exiting_task_leaves_its_queues_and_comes_back() {
    let mut prog = Prog::new();
    let short = prog.routine("short", vec![run(1)]);
    prog.start_at(short, 20);
    let all = OpSet::RUNNABLE | OpSet::RUNNING | OpSet::STOPPING | OpSet::QUIESCENT;
    let (mut engine, id) = attached(quiet(1, prog), local().watch(all));
    go(&mut engine, 100);
    let ops = calls_of(&engine, id, "short");
    let watched = ["runnable", "running", "stopping", "quiescent"];
    let seen: Vec<_> = ops.iter().filter(|op| watched.contains(op)).copied().collect();
    // Dequeued first, then put; enqueued first, then set.
    let back = ["stopping", "quiescent", "runnable", "running", "stopping", "quiescent"];
    assert_eq!(seen, [&watched[..2], &back].concat());
    let flags = calls(&engine, id).iter().filter(|call| call.comm == "short");
    let flags: Vec<_> = flags.filter(|call| call.op == "quiescent").map(|call| call.arg).collect();
    let moves = DeqFlags::SAVE | DeqFlags::MOVE | DeqFlags::NOCLOCK;
    assert!(DeqFlags::from_bits_retain(flags[0]).contains(moves), "{flags:x?}");
    assert!(DeqFlags::from_bits_retain(flags[1]).contains(DeqFlags::SPECIAL), "{flags:x?}");
}

/// `select_fallback_rq()`.
#[test]
fn instead_of_a_cpu_that_it_may_not_use_a_task_gets_its_first() {
    let mut prog = Prog::new();
    let pinned = prog.forever("pinned", vec![run_us(100), sleep(1)]);
    prog.start(pinned).affinity = Some(mask(&[1, 2, 3]));
    // Once it was on CPU 3, its previous one is that.
    let lab = local().watch(OpSet::RUNNING).on_select_cpu(|cx, p, _, _| {
        let pinned = cx.get(p).comm() == "pinned";
        st(cx).n += u64::from(pinned);
        CpuId(if st(cx).n == 1 { 3 } else { 0 })
    });
    let (mut engine, id) = attached(quiet(4, prog), lab);
    go(&mut engine, 50);
    let ran = calls(&engine, id).iter();
    let ran = ran.filter(|call| call.comm == "pinned" && call.op == "running");
    let cpus: Vec<_> = ran.map(|call| call.arg).collect();
    assert!(cpus.len() > 10 && cpus[1..].iter().all(|&cpu| cpu == 1), "{cpus:?}");
}

/// `cpumask_any_and_distribute()` in `__set_cpus_allowed_ptr_locked()`.
#[test]
fn tasks_whose_affinity_changes_are_spread() {
    let mut prog = Prog::new();
    let change = |cpus: &[u32]| Instr::SetAffinity(Who::Myself, mask(cpus));
    let mover =
        prog.forever("mover", vec![change(&[0]), run_us(50), change(&[1, 2, 3]), run_us(50)]);
    prog.start(mover);
    let (mut engine, id) = attached(quiet(4, prog), local().watch(OpSet::RUNNING));
    go(&mut engine, 50);
    let ran = calls(&engine, id).iter();
    let ran = ran.filter(|call| call.comm == "mover" && call.op == "running");
    let cpus: BTreeSet<_> = ran.map(|call| call.arg).collect();
    assert_eq!(cpus, BTreeSet::from([0, 1, 2, 3]));
}

/// `block_task()` dequeues, and `__block_task()` clears it then; the switch is counted after the pick.
#[test]
fn a_task_that_goes_to_sleep_is_on_its_runqueue_until_it_has_left() {
    let mut prog = Prog::new();
    let sleeper = prog.forever("sleeper", vec![run_us(100), sleep(1)]);
    prog.start(sleeper);
    let lab = local().on_quiescent(|cx, p, _| {
        let task = cx.get(p);
        if task.comm() == "sleeper" {
            let (on_rq, switches) = (task.on_rq, task.nvcsw);
            let state = st(cx);
            assert_eq!(on_rq, 1);
            assert_eq!(switches, state.n, "it is not switched from yet");
            state.n += 1;
        }
    });
    let (mut engine, id) = attached(quiet(1, prog), lab);
    // From its start on, so that the switches before do not count.
    assert!(task(&engine, "sleeper").nvcsw <= 1);
    go(&mut engine, 50);
    assert!(lab_state(&engine, id).n > 10);
}

/// `__bpf_prog_enter()` with `CONFIG_PREEMPT_RCU`.
#[test]
fn a_callback_keeps_the_task_that_it_runs_on_where_it_is() {
    let mut prog = Prog::new();
    let hog = prog.forever("hog", vec![run(10)]);
    prog.start(hog);
    let lab = local()
        .on_tick(|cx, p| {
            assert_eq!((cx.migration_disabled(p), cx.get(p).migration_disabled), (1, 0));
            st(cx).n += 1;
        })
        .on_running(|cx, p| {
            // The one before it is still the current task.
            assert_eq!(cx.migration_disabled(p), u32::from(cx.current() == p));
        });
    let (mut engine, id) = attached(quiet(1, prog), lab);
    go(&mut engine, 100);
    assert!(engine.is_attached(id), "{:?}", engine.exit_info(id));
    assert!(lab_state(&engine, id).n > 10);
}

/// `scx_bpf_reenqueue_local()` finds the task that is being preempted migration-disabled, since the
/// callback runs on it: `do_enqueue_task()` keeps it in the local queue.
#[test]
fn the_preempted_task_does_not_come_back_from_a_release() {
    for (flag, comes) in [(OpsFlags::empty(), false), (OpsFlags::ENQ_MIGRATION_DISABLED, true)] {
        let mut prog = Prog::new();
        let hog = prog.forever("hog", vec![run(10)]);
        prog.start(hog).policy = scxlab_engine::program::Policy::Ext;
        let fair = prog.forever("fair", vec![run_us(100), sleep(3)]);
        prog.start(fair);
        let lab = Lab::new()
            .flags(OpsFlags::SWITCH_PARTIAL | flag)
            .on_enqueue(|cx, p, enq| {
                if enq.contains(EnqFlags::REENQ) && cx.current() == p {
                    assert_eq!(cx.migration_disabled(p), 2, "one program within the other");
                }
                cx.dsq_insert(p, DsqId::LOCAL, SLICE, enq);
            })
            .on_cpu_release(|cx, _, _| {
                st(cx).n += u64::from(cx.reenqueue_local());
            });
        let (mut engine, id) = attached(quiet(1, prog), lab);
        go(&mut engine, 200);
        assert!(engine.is_attached(id), "{:?}", engine.exit_info(id));
        assert!(lab_state(&engine, id).n > 10, "{flag:?}");
        let reenq = |call: &&support::Call| {
            call.op == "enqueue" && EnqFlags::from_bits_retain(call.arg).contains(EnqFlags::REENQ)
        };
        assert_eq!(calls(&engine, id).iter().any(|call| reenq(&call)), comes, "{flag:?}");
        let skipped = engine.event_counters(id).enq_skip_migration_disabled;
        assert_eq!(skipped == 0, comes, "{flag:?}");
    }
}
