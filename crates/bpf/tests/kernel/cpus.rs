//! Functions about CPUs and masks of them.

use scxlab_bpf::sched::BpfScheduler;

use crate::build::{Code, ROOM, Ran, ended, enqueue, image, kernel, run, set_flags, work};

#[test]
fn masks_are_owned_changed_and_given_back() {
    let init = Code::new()
        .call("bpf_cpumask_create")
        .copy(6, 0)
        .call("bpf_cpumask_create")
        .copy(7, 0)
        .mov(1, 1)
        .copy(2, 6)
        .call("bpf_cpumask_set_cpu")
        .mov(1, 1)
        .copy(2, 6)
        .call("bpf_cpumask_test_and_set_cpu")
        .kept(0)
        .copy(1, 6)
        .call("bpf_cpumask_first")
        .kept(1)
        .copy(1, 6)
        .call("bpf_cpumask_first_zero")
        .kept(2)
        .copy(1, 7)
        .call("bpf_cpumask_setall")
        .copy(1, 7)
        .call("bpf_cpumask_full")
        .kept(3)
        .copy(1, 7)
        .call("bpf_cpumask_weight")
        .kept(4)
        .copy(1, 6)
        .copy(2, 7)
        .call("bpf_cpumask_subset")
        .kept(5)
        .copy(1, 7)
        .copy(2, 6)
        .copy(3, 7)
        .call("bpf_cpumask_xor")
        .copy(1, 6)
        .copy(2, 7)
        .call("bpf_cpumask_intersects")
        .kept(6)
        .copy(1, 7)
        .call("bpf_cpumask_first")
        .kept(7)
        .copy(1, 7)
        .copy(2, 6)
        .copy(3, 7)
        .call("bpf_cpumask_or")
        .copy(1, 7)
        .copy(2, 6)
        .copy(3, 7)
        .call("bpf_cpumask_and")
        .kept(8)
        .copy(1, 6)
        .copy(2, 7)
        .call("bpf_cpumask_equal")
        .kept(9)
        // A number that no CPU has is none's.
        .mov(1, 99)
        .copy(2, 6)
        .call("bpf_cpumask_set_cpu")
        .mov(1, 99)
        .copy(2, 6)
        .call("bpf_cpumask_test_cpu")
        .kept(10)
        .copy(1, 6)
        .call("bpf_cpumask_clear")
        .copy(1, 6)
        .call("bpf_cpumask_empty")
        .kept(11)
        .copy(1, 6)
        .call("bpf_cpumask_first")
        .kept(12)
        .copy(1, 7)
        .call("bpf_cpumask_acquire")
        .copy(1, 6)
        .call("bpf_cpumask_release")
        .copy(1, 7)
        .call("bpf_cpumask_release")
        .copy(1, 7)
        .call("bpf_cpumask_release")
        .done();
    let ran = run(&[("init", init)]).well();
    assert_eq!(ran.all(0), [1, 1, 0, 1, 2, 1, 0, 0, 1, 1, 0, 1, 2]);
}

#[test]
fn a_mask_is_released_once_and_is_none_of_the_kernel_s() {
    let twice = Code::new()
        .call("bpf_cpumask_create")
        .copy(6, 0)
        .copy(1, 6)
        .call("bpf_cpumask_release")
        .copy(1, 6)
        .call("bpf_cpumask_release")
        .done();
    let msg = ended(&[("init", twice)]);
    assert!(msg.contains("bpf_cpumask_release(): the mask is released already"), "{msg}");
    let foreign = Code::op().field(2, 6, "task_struct.cpus_ptr").mov(1, 0);
    let msg = ended(&[("running", foreign.call("bpf_cpumask_set_cpu").done())]);
    assert!(msg.contains("its argument 2 is no bpf_cpumask"), "{msg}");
}

/// A mask in a map's value: a kernel takes its memory as it is.
#[test]
fn a_mask_may_be_in_the_program_s_own_memory() {
    let mask = |code: Code, arg| code.bss(arg, ROOM);
    let init = mask(Code::new().mov(1, 1), 2).call("bpf_cpumask_set_cpu");
    let init = mask(init.mov(1, 1), 2).call("bpf_cpumask_test_and_set_cpu").kept(0);
    let init = mask(init, 1).call("bpf_cpumask_weight").kept(1);
    let init = mask(init, 1).call("bpf_cpumask_setall");
    let init = mask(init, 1).call("bpf_cpumask_full").kept(2);
    let init = mask(mask(init, 1), 2);
    let init = mask(init, 3).call("bpf_cpumask_xor");
    let init = mask(init, 1).call("bpf_cpumask_empty").kept(3);
    let image = |init: Code| {
        let mut image = image("sched_ext_ops", &[("init", init.done()), enqueue()]);
        image.maps[0].value_size = ROOM as u32 + 2048;
        image
    };
    let load = |init| BpfScheduler::new(image(init), &kernel()).expect("it has all it needs");
    let ran = Ran::new(load(init), work(), 20).well();
    assert_eq!(ran.all(0), [1, 1, 1, 1]);
    // It has no count of references, and there has to be room for one.
    for (offset, call) in [(ROOM, "bpf_cpumask_release"), (ROOM + 2040, "bpf_cpumask_clear")] {
        let ran = Ran::new(load(Code::new().bss(1, offset).call(call)), work(), 20);
        let msg = &ran.exit().expect("it has ended").msg;
        assert!(msg.contains("its argument 1 is no bpf_cpumask"), "{call}: {msg}");
    }
}

#[test]
fn cpus_are_taken_in_turn() {
    let init = Code::new()
        .call("scx_bpf_get_possible_cpumask")
        .copy(6, 0)
        .copy(1, 6)
        .call("bpf_cpumask_any_distribute")
        .copy(7, 0)
        .copy(1, 6)
        .call("bpf_cpumask_any_distribute")
        .minus(7, 0)
        .keep(0, 7)
        .copy(1, 6)
        .call("bpf_cpumask_weight")
        .kept(1)
        .copy(1, 6)
        .call("scx_bpf_put_cpumask")
        .call("scx_bpf_nr_node_ids")
        .kept(2)
        .mov(1, 1)
        .call("scx_bpf_cpu_node")
        .kept(3)
        .mov(1, 1)
        .call("scx_bpf_cpuperf_cap")
        .kept(4)
        .done();
    let ran = run(&[("init", init)]).well();
    assert_eq!(ran.n(0) as i64 & 1, 1, "one and the other");
    assert_eq!(ran.all(1), [2, 1, 0, 1024]);
}

#[test]
fn idle_cpus_are_found_and_claimed() {
    let select = Code::op()
        .keep(0, 7)
        // scx_bpf_select_cpu_and(p, prev, wake, p->cpus_ptr, 0)
        .copy(1, 6)
        .copy(2, 7)
        .copy(3, 8)
        .field(4, 6, "task_struct.cpus_ptr")
        .mov(5, 0)
        .call("scx_bpf_select_cpu_and")
        .copy(9, 0)
        .kept(1)
        .count(2)
        .call("scx_bpf_get_idle_cpumask")
        .copy(8, 0)
        .copy(1, 9)
        .copy(2, 8)
        .call("bpf_cpumask_test_cpu")
        .kept(3)
        .copy(1, 8)
        .call("scx_bpf_put_idle_cpumask")
        .field(1, 6, "task_struct.cpus_ptr")
        .mov(2, 0)
        .call("scx_bpf_pick_any_cpu")
        .exit();
    let ran = run(&[("select_cpu", select)]).well();
    assert!(ran.n(2) > 20);
    let cpu = ran.n(1) as i64;
    assert!((0..2).contains(&cpu) || cpu == -16, "{cpu}");
    assert_eq!(ran.n(3), 0, "what is claimed is not idle");
}

#[test]
fn speeds_are_asked_for_and_read_back() {
    let running = Code::op()
        .call("scx_bpf_locked_rq")
        .copy(6, 0)
        .field(1, 6, "rq.cpu")
        .mov(2, 512)
        .call("scx_bpf_cpuperf_set")
        .field(0, 6, "rq.scx.cpuperf_target")
        .kept(0)
        .done();
    let ran = run(&[("running", running)]).well();
    assert_eq!(ran.n(0), 512);
}

#[test]
fn what_is_not_allowed_here_ends_the_scheduler_as_in_the_kernel() {
    let forbidden = |code: Code| ended(&[("running", code.done())]);
    let msg = forbidden(Code::new().call("scx_bpf_dispatch_nr_slots"));
    assert!(
        msg.contains("scx_bpf_dispatch_nr_slots() cannot be called from ops.running()"),
        "{msg}"
    );
    let msg = forbidden(Code::new().call("scx_bpf_reenqueue_local"));
    assert!(msg.contains("scx_bpf_reenqueue_local() cannot be called from ops.running()"), "{msg}");
    let msg = forbidden(Code::new().mov(1, 99).call("scx_bpf_cpu_curr"));
    assert!(msg.contains("invalid CPU 99"), "{msg}");
    let msg = forbidden(Code::new().mov(1, 99).call("scx_bpf_cid_to_cpu"));
    assert!(msg.contains("invalid cid 99"), "{msg}");
    let msg = forbidden(Code::new().mov(1, 0).call("scx_bpf_get_idle_cpumask_node"));
    assert!(msg.contains("per-node idle tracking is disabled"), "{msg}");
}

#[test]
fn idle_masks_are_by_node_for_those_who_ask() {
    let select = Code::op()
        .field(1, 6, "task_struct.cpus_ptr")
        .mov(2, 0)
        .mov(3, 0)
        .call("scx_bpf_pick_idle_cpu_node")
        .copy(9, 0)
        .kept(0)
        .mov(1, 0)
        .call("scx_bpf_get_idle_cpumask_node")
        .copy(1, 9)
        .copy(2, 0)
        .call("bpf_cpumask_test_cpu")
        .kept(1)
        .field(1, 6, "task_struct.cpus_ptr")
        .mov(2, -1)
        .mov(3, 0)
        .call("scx_bpf_pick_idle_cpu_node")
        .kept(2)
        .count(3)
        .field(1, 6, "task_struct.cpus_ptr")
        .mov(2, 0)
        .mov(3, 0)
        .call("scx_bpf_pick_any_cpu_node")
        .exit();
    let load = |select: Code| {
        let mut image = image("sched_ext_ops", &[enqueue(), ("select_cpu", select)]);
        // SCX_OPS_BUILTIN_IDLE_PER_NODE
        set_flags(&mut image, 1 << 6);
        BpfScheduler::new(image, &kernel()).expect("it has all that it needs")
    };
    let ran = Ran::new(load(select), work(), 100).well();
    assert!(ran.n(3) > 20);
    let cpu = ran.n(0) as i64;
    assert!((0..2).contains(&cpu) || cpu == -16, "{cpu}");
    assert_eq!(ran.all(1), [0, -2]);
    for (call, why) in [
        ("scx_bpf_pick_any_cpu", "per-node idle tracking is enabled"),
        ("scx_bpf_pick_idle_cpu", "per-node idle tracking is enabled"),
        ("scx_bpf_get_idle_cpumask", "SCX_OPS_BUILTIN_IDLE_PER_NODE enabled"),
    ] {
        let select = Code::op().field(1, 6, "task_struct.cpus_ptr").mov(2, 0).call(call).done();
        let ran = Ran::new(load(select), work(), 100);
        assert_eq!(ran.exit().map(|info| info.msg.as_str()), Some(why));
    }
}

/// More bytes than there are CPUs for, and no whole number of words.
#[test]
fn a_mask_is_populated_from_any_size_that_will_do() {
    let fill = |size| {
        let code = Code::new().copy(1, 8).frame(2, -16).mov(3, size);
        code.call("bpf_cpumask_populate")
    };
    let with = Code::new()
        .put(10, -16, 2)
        .put(10, -8, -1)
        .then(fill(4))
        .kept(0)
        .then(fill(12))
        .kept(1)
        .copy(1, 8)
        .call("bpf_cpumask_first")
        .kept(2)
        .copy(1, 8)
        .call("bpf_cpumask_release");
    let running = Code::new().call("bpf_cpumask_create").copy(8, 0).when(8, with).done();
    let ran = run(&[("running", running)]).well();
    assert_eq!(ran.all(0), [-13, 0, 1]);
}

/// The verifier's `active_locks` counts locks of both kinds.
#[test]
fn little_may_be_called_under_a_lock() {
    let locked = || Code::new().bss(1, ROOM).call("bpf_res_spin_lock");
    let unlock = |code: Code| code.bss(1, ROOM).call("bpf_res_spin_unlock").done();
    let msg = ended(&[("running", unlock(locked().call("scx_bpf_now")))]);
    let why = "scx_bpf_now(): it cannot be called with a bpf_res_spin_lock held";
    assert!(msg.contains(why), "{msg}");
    let steps = locked().frame(1, -8).mov(2, 0).mov(3, 1).call("bpf_iter_num_new");
    let steps = steps.frame(1, -8).call("bpf_iter_num_destroy");
    run(&[("running", unlock(steps))]).well();
}
