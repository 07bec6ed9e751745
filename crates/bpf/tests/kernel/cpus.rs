//! Functions about CPUs and masks of them.

use crate::build::{Code, ended, run};

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
    let msg = forbidden(Code::new().bss(1, 0).mov(2, 8).call("scx_bpf_cid_override"));
    assert!(msg.contains("scx_bpf_cid_override() cannot be called from ops.running()"), "{msg}");
    let msg = forbidden(Code::new().mov(1, 0).call("scx_bpf_get_idle_cpumask_node"));
    assert!(msg.contains("per-node idle tracking is disabled"), "{msg}");
}
