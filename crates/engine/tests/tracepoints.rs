//! Tracepoints: their moments and arguments; and programs that user space runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use scxlab_engine::program::Instr;
use scxlab_engine::{DsqId, Engine, Errno, Pid, SchedId, TracepointSet};

mod support;
use support::{
    Call, Lab, Prog, attached, busy, calls, ejected, go, lab_state, mask, quiet, random_program,
    run, sleep, st,
};

/// `TASK_DEAD`.
const DEAD: u64 = 0x80;

fn traced(prog: Prog, cpus: usize) -> (Engine, SchedId) {
    let points = TracepointSet::all() - TracepointSet::functions();
    attached(quiet(cpus, prog), Lab::new().trace(points))
}

/// The tracepoints about tasks of these names, in their order.
fn passed<'a>(engine: &'a Engine, id: SchedId, comms: &[&str]) -> Vec<&'a Call> {
    let own = ["init_task", "enable", "exit_task", "disable"];
    let all = calls(engine, id).iter();
    all.filter(|call| comms.contains(&call.comm.as_str()) && !own.contains(&call.op)).collect()
}

fn ops(calls: &[&Call]) -> Vec<&'static str> {
    calls.iter().map(|call| call.op).collect()
}

#[test]
fn a_task_s_life() {
    let mut prog = Prog::new();
    let once = prog.routine("once", vec![run(1), sleep(5), run(1)]);
    prog.start(once);
    let (mut engine, id) = traced(prog, 1);
    go(&mut engine, 30);
    let seen = passed(&engine, id, &["once"]);
    assert_eq!(
        ops(&seen),
        [
            "fork",
            "wakeup_new",
            "switch_to",
            "switch_from",
            "waking",
            "wakeup",
            "switch_to",
            "exit",
            "switch_from"
        ]
    );
    let states: Vec<u64> =
        seen.iter().filter(|call| call.op == "switch_from").map(|call| call.arg).collect();
    assert_eq!(states, [1, DEAD], "it sleeps, and dies");
    assert_eq!(seen[7].arg, 1, "it was the last of its process");
}

/// Where functions begin: before what they do.
#[test]
fn functions_of_a_task_s_life() {
    let mut prog = Prog::new();
    let once = prog.routine("once", vec![run(10)]);
    prog.start(once);
    let lab = Lab::new().trace(TracepointSet::functions());
    let (mut engine, id) = attached(quiet(1, prog), lab);
    go(&mut engine, 30);
    // 250 ticks a second.
    let ticks = ["scx_tick"; 2];
    let seen = support::calls_of(&engine, id, "once");
    assert_eq!(seen, [&["wake_up_new_task"][..], &ticks, &["sched_ext_dead"]].concat());
    assert_eq!(TracepointSet::named("scx_tick"), None, "it is a function");
    assert_eq!(TracepointSet::function("scx_tick"), Some(TracepointSet::SCX_TICK));
    assert_eq!(TracepointSet::function("sched_switch"), None);
}

#[test]
fn an_exec_by_a_thread_that_is_no_leader() {
    let mut prog = Prog::new();
    let image = prog.routine("image", vec![run(1)]);
    let thread = prog.routine("thread", vec![sleep(2), image.exec()]);
    let lead = prog.routine("lead", vec![thread.thread(), sleep(500)]);
    prog.start(lead);
    let (mut engine, id) = traced(prog, 2);
    go(&mut engine, 50);
    let seen = passed(&engine, id, &["lead", "thread", "image"]);
    let find = |op: &str, comm: &str| {
        let mut found = seen.iter().filter(|call| call.op == op && call.comm == comm);
        let call = found.next().unwrap_or_else(|| panic!("no {op} of {comm}: {seen:?}"));
        assert!(found.next().is_none(), "{op} of {comm} twice");
        *call
    };
    let (thread, lead) = (find("fork", "thread"), find("fork", "lead"));
    let renamed = find("rename", "thread");
    assert_eq!((renamed.tid, renamed.arg), (thread.tid, 5), "it has its old name still");
    let exec = find("exec", "image");
    assert_eq!((exec.tid, exec.pid), (thread.tid, lead.pid), "it has its leader's pid");
    assert_eq!(exec.arg, thread.pid as u64, "and had this one");
    assert_eq!(find("exit", "lead").arg, 0, "the process goes on");
    assert_eq!(find("exit", "image").arg, 1);
    assert_eq!(Pid(exec.pid), Pid(lead.pid));
}

#[test]
fn a_move_to_another_cpu_and_to_another_cgroup() {
    let mut prog = Prog::new();
    prog.0.cgroups = vec!["/a".into()];
    let who = scxlab_engine::program::Who::Myself;
    let body = vec![run(1), Instr::SetAffinity(who, mask(&[1])), run(1), Instr::SetCgroup(0)];
    let moves = prog.routine("moves", body);
    prog.start(moves).affinity = Some(mask(&[0]));
    let (mut engine, id) = traced(prog, 2);
    go(&mut engine, 30);
    let seen = passed(&engine, id, &["moves"]);
    let migrated: Vec<u64> =
        seen.iter().filter(|call| call.op == "migrate").map(|call| call.arg).collect();
    assert_eq!(migrated, [1], "{seen:?}");
    let attached: Vec<u64> =
        seen.iter().filter(|call| call.op == "attach").map(|call| call.arg).collect();
    assert_eq!(attached, [2], "the first cgroup below the root");
}

/// On each CPU, who is switched from is who was switched to; all is counted as the engine counts;
/// and whether somebody looks makes no difference.
#[test]
fn what_is_seen_agrees_with_what_happens() {
    // Ticks that nobody looks at may be left out.
    let points = TracepointSet::all() - TracepointSet::SCX_TICK;
    for seed in 0..40_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut byte = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        };
        let routines: Vec<Vec<[u8; 3]>> =
            (0..4).map(|_| (0..8).map(|_| [byte(), byte(), byte()]).collect()).collect();
        let config = || {
            let mut config = busy(3, random_program(&routines, 3, 3), seed, 20_000);
            config.pid_max = Some(400);
            config
        };
        let (mut engine, id) = attached(config(), Lab::fifo().trace(points));
        let (mut unseen, _) = attached(config(), Lab::fifo());
        go(&mut engine, 100);
        go(&mut unseen, 100);
        assert_eq!(engine.stats(), unseen.stats(), "seed {seed}");
        let all = calls(&engine, id);
        let mut on: BTreeMap<u64, u64> = BTreeMap::new();
        for pair in all.windows(2).filter(|pair| pair[0].op == "switch_from") {
            let [from, to] = pair else { continue };
            assert_eq!(to.op, "switch_to");
            if let Some(before) = on.insert(to.arg, to.tid) {
                assert_eq!(before, from.tid, "seed {seed}, CPU {}", to.arg);
            }
        }
        let count = |op: &str| all.iter().filter(|call| call.op == op).count() as u64;
        let dead = all.iter().filter(|call| call.op == "switch_from" && call.arg == DEAD).count();
        let stats = engine.stats();
        assert_eq!(
            (count("fork"), count("exec"), count("switch_from"), dead as u64),
            (stats.forked, stats.execs, stats.switches, stats.exited),
            "seed {seed}"
        );
        assert!(count("wakeup_new") <= count("fork") && count("wakeup") <= count("waking"));
        assert_eq!(count("sched_ext_dead"), stats.exited, "seed {seed}");
        assert_eq!(count("wake_up_new_task"), count("fork"), "seed {seed}");
        assert!(count("exit") >= stats.exited, "seed {seed}");
    }
}

/// A program of user space's may do what needs no lock, on behalf of `init`, and finds no scheduler
/// before there is one.
#[test]
fn programs_of_user_space() {
    let mut prog = Prog::new();
    let busy = prog.forever("busy", vec![run(1), sleep(1)]);
    prog.start(busy);
    let mut engine = Engine::new(quiet(2, prog)).expect("fine");
    let mut before = None;
    let lab = Arc::new(Lab::new());
    let id = engine
        .attach_after(lab, |cx| {
            st(cx).n = 5;
            before = Some((cx.has_scheduler(), cx.is_operation(), cx.irqs_disabled()));
        })
        .expect("attaches");
    assert_eq!(before, Some((false, false, false)));
    go(&mut engine, 50);
    let current = engine.prog_run(id, |cx| {
        assert!(cx.has_scheduler() && !cx.is_operation());
        assert_eq!(cx.create_dsq(DsqId(7)), Ok(()));
        assert_eq!(cx.create_dsq(DsqId(7)), Err(Errno(17)));
        cx.get(cx.current()).comm().to_owned()
    });
    assert_eq!(current, "init");
    assert_eq!(lab_state(&engine, id).n, 5, "the state is the same one");
    assert!(engine.is_attached(id));
    engine.prog_run(id, |cx| cx.dispatch_cancel());
    let info = ejected(&mut engine, id, 100);
    assert!(info.msg.contains("cannot be called from a syscall program"), "{}", info.msg);
}
