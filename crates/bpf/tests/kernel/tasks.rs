//! Functions about tasks, cgroups and queues, and walking through them.

use scxlab_engine::ExitKind;

use crate::build::{Code, ended, insert, kernel, run};

#[test]
fn tasks_are_found_and_kept() {
    let look = Code::new()
        .copy(8, 7)
        .minus(8, 6)
        .keep(0, 8)
        .copy(1, 7)
        .call("bpf_task_acquire")
        .copy(8, 0)
        .minus(8, 6)
        .keep(1, 8)
        .copy(1, 7)
        .call("bpf_task_release")
        .copy(1, 7)
        .call("bpf_task_release")
        .count(2);
    let running = Code::op()
        .field(1, 6, "task_struct.pid")
        .call("bpf_task_from_pid")
        .copy(7, 0)
        .when(7, look)
        .mov(1, 30_000)
        .call("bpf_task_from_pid")
        .kept(3)
        .done();
    let ran = run(&[("running", running)]).well();
    assert!(ran.n(2) > 20);
    assert_eq!((ran.n(0), ran.n(1), ran.n(3)), (0, 0, 0));
}

#[test]
fn what_is_not_kept_is_not_released() {
    let msg = ended(&[("running", Code::op().copy(1, 6).call("bpf_task_release").done())]);
    assert!(msg.contains("bpf_task_release(): no reference to the task is held"), "{msg}");
}

/// Each task is acquired as it exits, and never released: the engine keeps it.
#[test]
fn a_kept_task_outlives_its_end() {
    use scxlab_engine::program::{Instr, Pc, Program, Span, Spawn, Start};
    let ms = Span::exactly(scxlab_engine::Nanos::from_millis(1));
    let program = Program {
        code: vec![
            Instr::Loop { count: None, end: Pc(3) },
            Instr::Spawn { what: Spawn::Process, entry: Pc(4), name: 0 },
            Instr::WaitAll,
            Instr::LoopEnd { body: Pc(1) },
            Instr::Run(ms),
            Instr::Exit,
        ],
        names: vec!["short".into()],
        start: vec![Start::new(Pc(0), 0)],
        ..Program::default()
    };
    // The first one is kept in .bss, and looked at by whoever runs after it.
    let exit_task = Code::op()
        .bss(7, 0)
        .load(0, 7, 0)
        .unless(0, Code::new().copy(1, 6).call("bpf_task_acquire").store(7, 0, 0))
        .count(1)
        .done();
    let running = Code::op()
        .bss(7, 0)
        .load(8, 7, 0)
        .when(8, Code::new().field(0, 8, "task_struct.scx.tid").kept(2).count(3))
        .done();
    let programs = [crate::build::enqueue(), ("exit_task", exit_task), ("running", running)];
    let sched = crate::build::load(&programs).expect("it has all that it needs");
    let ran = crate::build::Ran::new(sched, program, 300).well();
    assert!(ran.n(1) > 20 && ran.n(3) > 20 && ran.n(2) > 0, "{:?}", ran.all::<4>(0));
}

#[test]
fn cgroups_are_found_by_task_id_and_level() {
    let look = Code::new()
        .field(0, 8, "cgroup.level")
        .kept(0)
        .field(9, 8, "cgroup.kn")
        .field(1, 9, "kernfs_node.id")
        .call("bpf_cgroup_from_id")
        .copy(9, 0)
        .minus(9, 8)
        .keep(1, 9)
        .copy(1, 6)
        .copy(2, 8)
        .call("bpf_task_under_cgroup")
        .kept(2)
        .count(3)
        .copy(1, 7)
        .mov(2, 9)
        .call("bpf_cgroup_ancestor")
        .kept(4)
        .mov(1, 99)
        .call("bpf_cgroup_from_id")
        .kept(5)
        .copy(1, 7)
        .call("bpf_cgroup_release");
    let running = Code::op()
        .copy(1, 6)
        .call("scx_bpf_task_cgroup")
        .copy(7, 0)
        .copy(1, 7)
        .mov(2, 1)
        .call("bpf_cgroup_ancestor")
        .copy(8, 0)
        .when(8, look)
        .done();
    let ran = run(&[("running", running)]).well();
    assert!(ran.n(3) > 20);
    assert_eq!((ran.n(0), ran.n(1), ran.n(2), ran.n(4), ran.n(5)), (1, 0, 1, 0, 0));
}

/// `scx_kf_arg_task_ok()`: `init_task` is about no task, and the others are about one.
#[test]
fn the_cgroup_is_that_of_the_operation_s_task() {
    let own = || Code::op().copy(1, 6).call("scx_bpf_task_cgroup").done();
    let about = ["select_cpu", "enable", "runnable", "running", "stopping", "quiescent", "tick"];
    run(&about.map(|op| (op, own()))).well();

    let ask = Code::new().copy(1, 7).call("scx_bpf_task_cgroup").copy(6, 0).count(0);
    let ask = ask.mov(1, 1).call("bpf_cgroup_from_id").minus(6, 0).keep(1, 6);
    let of_first = Code::new().mov(1, 1).call("bpf_task_from_pid").copy(7, 0).when(7, ask).done();
    let own = Code::op().copy(1, 6).call("scx_bpf_task_cgroup").done();
    for programs in [("running", of_first.clone()), ("dispatch", of_first), ("init_task", own)] {
        let is_init_task = programs.0 == "init_task";
        let ran = run(&[programs]);
        let info = ran.exit().expect("it has ended");
        assert_eq!(info.kind, ExitKind::Error);
        assert_eq!(info.msg, "called on a task not being operated on");
        assert!(is_init_task || ran.n(0) > 0 && ran.n(1) == 0, "the root's");
    }
}

/// Counts what an iterator gives: of `new` the first argument is the iterator.
fn each(new: Code, next: &'static str, destroy: &'static str, counter: i32) -> Code {
    let step = Code::new().frame(1, -48).call(next).skip_if(0, 0, 7).count(counter);
    let back = step.len() as i16;
    new.kept(counter + 1).then(step.back(back)).frame(1, -48).call(destroy)
}

fn over_numbers(start: i32, end: i32, counter: i32) -> Code {
    let new = Code::new().frame(1, -48).mov(2, start).mov(3, end).call("bpf_iter_num_new");
    each(new, "bpf_iter_num_next", "bpf_iter_num_destroy", counter)
}

#[test]
fn numbers_and_bits_are_gone_through() {
    let bits = Code::new()
        .imm64(0, 0x8000_0000_0001_0001)
        .frame(1, -64)
        .store(1, 0, 0)
        .copy(2, 1)
        .frame(1, -48)
        .mov(3, 1)
        .call("bpf_iter_bits_new");
    let init = over_numbers(3, 10, 0)
        .then(over_numbers(5, 5, 2))
        .then(over_numbers(6, 5, 4))
        .then(over_numbers(0, i32::MAX, 6))
        // What is to be read is not there.
        .then(Code::new().frame(1, -48).mov(2, 8).mov(3, 1).call("bpf_iter_bits_new").kept(10))
        .then(Code::new().frame(1, -48).mov(2, 8).mov(3, 2).call("bpf_iter_bits_new").kept(11))
        .then(each(bits, "bpf_iter_bits_next", "bpf_iter_bits_destroy", 8))
        .done();
    let ran = run(&[("init", init)]).well();
    assert_eq!(ran.all(0), [7, 0, 0, 0, 0, -22, 0, -7, 3, 0, -14, -34]);
}

#[test]
fn tasks_are_gone_through() {
    let over = |task: Code, flags: i32, counter| {
        let new = Code::new().then(task).frame(1, -48).mov(3, flags).call("bpf_iter_task_new");
        each(new, "bpf_iter_task_next", "bpf_iter_task_destroy", counter)
    };
    let null = || Code::new().mov(2, 0);
    // Only once, after 50 ms, in a machine that has been up for an hour.
    let code = over(null(), 0, 0)
        .then(over(null(), 1, 2))
        .then(over(Code::new().field(2, 6, "task_struct.group_leader"), 2, 4))
        .then(over(null(), 2, 6))
        .then(over(null(), 9, 8))
        .done();
    let once = Code::new().put(7, 0, 1).then(code);
    let late = Code::new().bss(7, 500).load(0, 7, 0).unless(0, once);
    let running = Code::op()
        .call("scx_bpf_now")
        .copy(2, 0)
        .imm64(1, 3_600_050_000_000)
        .less(1, 2)
        .when(0, late)
        .done();
    let ran = run(&[("running", running)]).well();
    let [procs, ok, threads, _, own, _, _, no_task, _, bad] = ran.all(0);
    // Three processes of two threads each, init, the kernel's worker, and the idle task.
    assert!(procs >= 5 && ok == 0, "{procs}");
    assert_eq!(threads, procs + 3);
    assert!((1..=2).contains(&own), "{own}");
    assert_eq!((no_task, bad), (-22, -22));
}

#[test]
fn cgroups_are_gone_through() {
    let over = |flags: i32, counter| {
        let new = Code::new().frame(1, -48).copy(2, 7).mov(3, flags).call("bpf_iter_css_new");
        each(new, "bpf_iter_css_next", "bpf_iter_css_destroy", counter)
    };
    let new = Code::new().frame(1, -48).copy(2, 8).mov(3, 0).call("bpf_iter_css_task_new");
    let in_cgroup = each(new, "bpf_iter_css_task_next", "bpf_iter_css_task_destroy", 10);
    let css = kernel().offset_of("cgroup", "self").expect("it is there") as i32;
    let running = Code::op()
        .copy(1, 6)
        .call("scx_bpf_task_cgroup")
        .copy(8, 0)
        .plus(8, css)
        .mov(1, 1)
        .call("bpf_cgroup_from_id")
        .copy(7, 0)
        .plus(7, css)
        .then(over(2, 0))
        .then(over(3, 2))
        .then(over(4, 4))
        .then(over(5, 6))
        .then(over(1, 8))
        .then(in_cgroup)
        .count(12)
        .done();
    let ran = run(&[("running", running)]).well();
    let runs = ran.n(12) as i64;
    let each = ran.all::<12>(0);
    assert_eq!([0, 2, 4, 6].map(|n| each[n] / runs), [3, 3, 1, 1], "/, /a and /a/b");
    assert_eq!(each[9], -22, "BPF_CGROUP_ITER_SELF_ONLY is not for this");
    assert!(each[10] >= runs, "a task's cgroup has tasks");
}

/// All tasks wait in one queue, and are moved from there one by one, the last first.
#[test]
fn queues_are_walked_through() {
    let init = Code::new().mov(1, 7).mov(2, -1).call("scx_bpf_create_dsq").exit();
    let enqueue = Code::op()
        .copy(1, 6)
        .mov(2, 7)
        .mov(3, 1_000_000)
        .mov(4, 0)
        .call("scx_bpf_dsq_insert___v2")
        .done();
    let moves = Code::new()
        .frame(1, -48)
        .mov(2, 2_000_000)
        .call("scx_bpf_dsq_move_set_slice")
        .frame(1, -48)
        .copy(2, 7)
        .imm64(3, 1 << 63 | 2)
        .mov(4, 0)
        .call("scx_bpf_dsq_move")
        .kept(1)
        .count(2);
    let dispatch = Code::op()
        .frame(1, -48)
        .mov(2, 7)
        .mov(3, 1 << 16)
        .call("bpf_iter_scx_dsq_new")
        .kept(0)
        .frame(1, -48)
        .call("bpf_iter_scx_dsq_next")
        .copy(7, 0)
        .when(7, moves)
        .frame(1, -48)
        .call("bpf_iter_scx_dsq_destroy")
        .frame(1, -48)
        .mov(2, 8)
        .mov(3, 0)
        .call("bpf_iter_scx_dsq_new")
        .kept(3)
        .frame(1, -48)
        .call("bpf_iter_scx_dsq_next")
        .kept(4)
        .frame(1, -48)
        .call("bpf_iter_scx_dsq_destroy")
        .frame(1, -48)
        .mov(2, 7)
        .mov(3, 1)
        .call("bpf_iter_scx_dsq_new")
        .kept(5)
        .done();
    let running = Code::op().field(0, 6, "task_struct.scx.slice").kept(6).done();
    let programs =
        [("init", init), ("enqueue", enqueue), ("dispatch", dispatch), ("running", running)];
    let ran = run(&programs).well();
    assert!(ran.n(2) > 20, "{:?}", ran.all::<6>(0));
    assert_eq!(ran.all(3), [-2, 0, -22, 2_000_000]);
    assert_eq!(ran.n(0), 0);
}

#[test]
fn events_are_counted_for_those_who_ask() {
    let tick = Code::op()
        .frame(1, -256)
        .mov(2, 256)
        .call("scx_bpf_events")
        .frame(6, -256)
        .field(0, 6, "scx_event_stats.SCX_EV_REFILL_SLICE_DFL")
        .kept(0)
        .field(0, 6, "scx_event_stats.SCX_EV_DISPATCH_KEEP_LAST")
        .kept(1)
        .done();
    let enqueue = Code::op().then(insert()).done();
    let ran = run(&[("enqueue", enqueue), ("running", tick)]).well();
    let events = ran.engine.event_counters(ran.id);
    assert!(ran.n(1) <= events.dispatch_keep_last);
    assert!(events.dispatch_keep_last == 0 || ran.n(1) + 2 > events.dispatch_keep_last / 2);
}

#[test]
fn sections_are_left_as_they_were_begun() {
    let ok = Code::new()
        .call("bpf_rcu_read_lock")
        .call("bpf_preempt_disable")
        .frame(1, -8)
        .call("bpf_local_irq_save")
        .frame(1, -8)
        .call("bpf_local_irq_restore")
        .call("bpf_preempt_enable")
        .call("bpf_rcu_read_unlock")
        .done();
    run(&[("running", ok)]).well();
    for (call, why) in [
        ("bpf_rcu_read_lock", "the program ends within bpf_rcu_read_lock()"),
        ("bpf_preempt_disable", "the program ends within bpf_preempt_disable()"),
        ("bpf_rcu_read_unlock", "bpf_rcu_read_unlock(): the program is in no such section"),
    ] {
        let ran = run(&[("running", Code::new().call(call).done())]);
        let info = ran.exit().expect("it has ended");
        assert!(info.kind == ExitKind::Error && info.msg.contains(why), "{}", info.msg);
    }
}
