//! Walking through queues, and moving tasks out of them on the way.

use scxlab_engine::{CpuId, Cx, DsqId, EnqFlags, Errno, OpsFlags, Task, WakeFlags};

mod support;
use support::{Lab, Prog, attached, ejected, go, lab_state, mask, quiet, run, sleep, st, task};

const NONE: EnqFlags = EnqFlags::empty();
const SLICE: u64 = 5_000_000;
const QUEUE: DsqId = DsqId(7);
const OTHER: DsqId = DsqId(8);

/// Four tasks that are enqueued one after the other, while a fifth keeps the one CPU they may use.
fn four_wait() -> Prog {
    let mut prog = Prog::new();
    let hog = prog.routine("hog", vec![run(40), sleep(1_000)]);
    prog.start(hog).affinity = Some(mask(&[0]));
    for (i, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let routine = prog.forever(name, vec![run(1), sleep(100)]);
        prog.start_at(routine, 10 + i as u64).affinity = Some(mask(&[0]));
    }
    prog
}

/// Puts the four into `QUEUE`, and all others where they run.
fn gather() -> Lab {
    Lab::new()
        .on_init(|cx| {
            cx.create_dsq(QUEUE)?;
            cx.create_dsq(OTHER)
        })
        .on_enqueue(|cx, p, enq| match cx.get(p).comm() {
            "a" | "b" | "c" | "d" => {
                let vtime = cx.now().0;
                cx.dsq_insert_vtime(p, QUEUE, SLICE, vtime, enq);
            }
            _ => {
                cx.dsq_insert(p, DsqId::LOCAL, 40_000_000, enq);
            }
        })
}

/// Calls `f` in the first `ops.dispatch` that finds four tasks in the queue.
fn once_four_wait(f: impl Fn(&mut Cx<'_>) + Send + Sync + 'static) -> Lab {
    gather().on_dispatch(move |cx, _, _| {
        if st(cx).n == 0 && cx.dsq_nr_queued(QUEUE) == Ok(4) {
            st(cx).n = 1;
            f(cx);
        }
        cx.dsq_move_to_local(QUEUE, NONE);
    })
}

/// Runs it; whether the four were met.
fn played(lab: Lab) {
    let (mut engine, id) = attached(quiet(2, four_wait()), lab);
    go(&mut engine, 90);
    assert!(engine.is_attached(id), "{:?}", engine.exit_info(id));
    assert_eq!(lab_state(&engine, id).n, 1, "four tasks never waited");
    engine.check_invariants().expect("holds");
    for comm in ["a", "b", "c", "d"] {
        assert!(task(&engine, comm).se.sum_exec_runtime > 0, "{comm} never ran");
    }
}

fn names(cx: &mut Cx<'_>, backwards: bool) -> String {
    let it = cx.dsq_iter(QUEUE, backwards).expect("it is there");
    let mut names = String::new();
    while let Some(p) = cx.dsq_iter_next(it) {
        names += cx.get(p).comm();
    }
    cx.dsq_iter_destroy(it);
    names
}

fn first_named<'r>(cx: &mut Cx<'r>, it: scxlab_engine::DsqIter, comm: &str) -> Task<'r> {
    std::iter::from_fn(|| cx.dsq_iter_next(it).map(|p| (p, cx.get(p).comm() == comm)))
        .find(|(_, is)| *is)
        .expect("it is in the queue")
        .0
}

#[test]
fn both_ways_in_the_order_of_dispatch() {
    played(once_four_wait(|cx| {
        assert_eq!(names(cx, false), "abcd");
        assert_eq!(names(cx, true), "dcba");
        assert_eq!(cx.dsq_iter(DsqId(99), false), Err(Errno(2)));
        assert_eq!(cx.dsq_iter(DsqId::LOCAL, false), Err(Errno(2)));
    }));
}

#[test]
fn at_the_end_it_begins_anew() {
    played(once_four_wait(|cx| {
        let it = cx.dsq_iter(QUEUE, false).expect("it is there");
        let steps: Vec<_> =
            (0..6).map(|_| cx.dsq_iter_next(it).map(|p| cx.get(p).comm().to_owned())).collect();
        let steps: Vec<_> = steps.iter().map(Option::as_deref).collect();
        assert_eq!(steps, [Some("a"), Some("b"), Some("c"), Some("d"), None, Some("a")]);
        cx.dsq_iter_destroy(it);
        assert_eq!(cx.dsq_iter_next(it), None);
    }));
}

#[test]
fn there_are_1024_at_most() {
    played(once_four_wait(|cx| {
        let mut all: Vec<_> = (0..1024).map(|_| cx.dsq_iter(QUEUE, false).expect("room")).collect();
        assert_eq!(cx.dsq_iter(QUEUE, false), Err(Errno(12)));
        cx.dsq_iter_destroy(all.remove(500));
        all.push(cx.dsq_iter(QUEUE, false).expect("room"));
        // Each is its own.
        let next = |cx: &mut Cx<'_>, it| cx.dsq_iter_next(it).map(|p| cx.get(p).comm().to_owned());
        assert_eq!(next(cx, all[3]).as_deref(), Some("a"));
        assert_eq!(next(cx, all[3]).as_deref(), Some("b"));
        assert_eq!(next(cx, all[1023]).as_deref(), Some("a"));
        all.into_iter().for_each(|it| cx.dsq_iter_destroy(it));
    }));
}

#[test]
fn a_walk_goes_on_from_where_a_moved_task_was() {
    for (backwards, seen) in [(false, "abcd"), (true, "dcba")] {
        played(once_four_wait(move |cx| {
            let it = cx.dsq_iter(QUEUE, backwards).expect("it is there");
            let mut names = String::new();
            while let Some(p) = cx.dsq_iter_next(it) {
                names += cx.get(p).comm();
                if matches!(cx.get(p).comm(), "b" | "c") {
                    assert!(cx.dsq_move(it, p, OTHER, NONE));
                    assert!(!cx.dsq_move(it, p, OTHER, NONE), "it is there no more");
                }
            }
            assert_eq!(names, seen);
            assert_eq!((cx.dsq_nr_queued(QUEUE), cx.dsq_nr_queued(OTHER)), (Ok(2), Ok(2)));
            while cx.dsq_move_to_local(OTHER, NONE) {}
        }));
    }
}

#[test]
fn what_comes_after_the_walk_began_is_not_seen_and_not_moved() {
    played(once_four_wait(|cx| {
        let old = cx.dsq_iter(QUEUE, false).expect("it is there");
        let it = cx.dsq_iter(QUEUE, false).expect("it is there");
        let b = first_named(cx, it, "b");
        // Out and in again: it is a new one now.
        assert!(cx.dsq_move_vtime(it, b, OTHER, NONE));
        let back = cx.dsq_iter(OTHER, false).expect("it is there");
        assert!(cx.dsq_move_vtime(back, b, QUEUE, NONE));
        let mut names = String::new();
        while let Some(p) = cx.dsq_iter_next(old) {
            names += cx.get(p).comm();
        }
        assert_eq!(names, "acd");
        assert!(!cx.dsq_move(old, b, OTHER, NONE));
        assert_eq!(cx.dsq_nr_queued(QUEUE), Ok(4));
    }));
}

#[test]
fn slice_and_vtime_are_for_one_move() {
    played(once_four_wait(|cx| {
        let it = cx.dsq_iter(QUEUE, false).expect("it is there");
        let (a, b) = (first_named(cx, it, "a"), first_named(cx, it, "b"));
        let vtime = cx.get(b).scx.dsq_vtime;
        cx.dsq_move_set_slice(it, 777);
        cx.dsq_move_set_vtime(it, u64::MAX - 5);
        assert!(cx.dsq_move_vtime(it, a, OTHER, NONE));
        assert!(cx.dsq_move_vtime(it, b, OTHER, NONE));
        let (a, b) = (cx.get(a), cx.get(b));
        assert_eq!((a.scx.slice, a.scx.dsq_vtime), (777, u64::MAX - 5));
        assert_eq!((b.scx.slice, b.scx.dsq_vtime), (SLICE, vtime));
        while cx.dsq_move_to_local(OTHER, NONE) {}
    }));
}

#[test]
fn to_the_local_queue_of_another_cpu() {
    let mut prog = four_wait();
    let routine = prog.forever("e", vec![run(1), sleep(1)]);
    prog.start_at(routine, 15);
    let lab = gather()
        .on_select_cpu(|cx, p, prev, _| if cx.get(p).comm() == "e" { CpuId(0) } else { prev })
        .on_enqueue(|cx, p, enq| {
            let to = if cx.get(p).comm() == "e" { QUEUE } else { DsqId::LOCAL };
            cx.dsq_insert(p, to, SLICE, enq);
        })
        .on_dispatch(|cx, cpu, _| {
            let it = cx.dsq_iter(QUEUE, false).expect("it is there");
            while let Some(p) = cx.dsq_iter_next(it) {
                let there = cx.task_cpu(p) != CpuId(1);
                if cx.dsq_move(it, p, DsqId::local_on(1), NONE) && there && cpu == CpuId(0) {
                    st(cx).n += 1;
                }
            }
        });
    let (mut engine, id) = attached(quiet(2, prog), lab);
    go(&mut engine, 90);
    assert!(engine.is_attached(id), "{:?}", engine.exit_info(id));
    assert!(lab_state(&engine, id).n > 0, "nothing was moved from one CPU to another");
    engine.check_invariants().expect("holds");
}

#[test]
fn a_cpu_that_is_not_allowed_is_an_error() {
    let lab = once_four_wait(|cx| {
        let it = cx.dsq_iter(QUEUE, false).expect("it is there");
        let a = first_named(cx, it, "a");
        assert!(cx.dsq_move(it, a, DsqId::local_on(1), NONE));
    });
    let (mut engine, id) = attached(quiet(2, four_wait()), lab);
    let msg = ejected(&mut engine, id, 200).msg;
    assert!(msg.contains("target CPU 1 not allowed for a["), "{msg}");
}

#[test]
fn moves_are_for_dispatch_and_unlocked_operations() {
    let lab = gather().on_running(|cx, p| {
        if let Ok(it) = cx.dsq_iter(QUEUE, false) {
            assert!(!cx.dsq_move(it, p, OTHER, NONE));
        }
    });
    let (mut engine, id) = attached(quiet(2, four_wait()), lab);
    let msg = ejected(&mut engine, id, 200).msg;
    assert!(msg.starts_with("scx_bpf_dsq_move() cannot be called from ops.running()"), "{msg}");
}

#[test]
fn the_built_in_choice_is_not_for_dispatch() {
    let lab = once_four_wait(|cx| {
        let a = cx.dsq_peek(QUEUE).expect("four are there");
        assert_eq!(cx.select_cpu_dfl(a, CpuId(1), WakeFlags::empty()), None);
    });
    let (mut engine, id) = attached(quiet(2, four_wait()), lab);
    let msg = ejected(&mut engine, id, 200).msg;
    let says = "scx_bpf_select_cpu_dfl() cannot be called from ops.dispatch()";
    assert!(msg.starts_with(says), "{msg}");
}

/// The built-in choice within a set, for the task at hand and for others.
#[test]
fn the_choice_within_a_set() {
    let mut prog = Prog::new();
    let asks = prog.forever("asks", vec![run(1), sleep(5)]);
    prog.start(asks);
    let pinned = prog.forever("pinned", vec![run(1), sleep(7)]);
    prog.start(pinned).affinity = Some(mask(&[3]));
    let lab = Lab::new()
        .on_select_cpu(|cx, p, prev, wake| {
            let none = scxlab_engine::PickIdleFlags::empty();
            let mut within = |cpus: &[u32]| {
                let got = cx.select_cpu_and(p, prev, wake, &mask(cpus), none);
                if let Ok(cpu) = got {
                    assert!(cpus.contains(&cpu.0), "{cpu} of {cpus:?}");
                }
                got
            };
            if within(&[1, 3]).is_err() {
                assert_eq!(within(&[]), Err(Errno(16)));
            } else {
                st(cx).n += 1;
            }
            prev
        })
        .on_enqueue(|cx, p, enq| {
            cx.dsq_insert(p, DsqId::LOCAL, SLICE, enq);
        });
    let (mut engine, id) = attached(quiet(4, prog), lab);
    go(&mut engine, 100);
    assert!(engine.is_attached(id), "{:?}", engine.exit_info(id));
    assert!(lab_state(&engine, id).n > 5);

    let mut prog = Prog::new();
    for name in ["a", "b"] {
        let routine = prog.forever(name, vec![run(1), sleep(1)]);
        prog.start(routine);
    }
    let other = Lab::fifo().on_running(|_, _| {}).on_select_cpu(|cx, p, prev, wake| {
        let n = st(cx).queue.len();
        assert_eq!(n, 0);
        let tid = cx.get(p).scx.tid;
        let other = (1..200).filter(|&t| t != tid).find_map(|tid| cx.tid_to_task(tid));
        cx.select_cpu_dfl(other.expect("there are others"), prev, wake).unwrap_or(prev)
    });
    let other = other.flags(OpsFlags::TID_TO_TASK);
    let (mut engine, id) = attached(quiet(2, prog), other);
    let msg = ejected(&mut engine, id, 200).msg;
    assert_eq!(msg, "called on a task not being operated on");
}
