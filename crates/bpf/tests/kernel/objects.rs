//! Tasks and what hangs on them.

use crate::build::{Code, ended, run};

/// In `running`, for threads that are no leaders.
fn of_threads(look: Code) -> (&'static str, Code) {
    let code = Code::op()
        .field(0, 6, "task_struct.pid")
        .field(1, 6, "task_struct.tgid")
        .minus(0, 1)
        .when(0, look)
        .done();
    ("running", code)
}

#[test]
fn pointers_lead_from_a_task_to_its_process() {
    let look = Code::new()
        .field(8, 6, "task_struct.signal")
        .field(0, 8, "signal_struct.nr_threads")
        .kept(0)
        .field(0, 8, "signal_struct.live")
        .kept(1)
        // The leader has the process's id, and is the first in its list of threads.
        .field(8, 6, "task_struct.group_leader")
        .field(0, 8, "task_struct.pid")
        .field(2, 6, "task_struct.tgid")
        .minus(0, 2)
        .kept(2)
        .field(0, 8, "task_struct.group_leader")
        .minus(0, 8)
        .kept(3)
        // Its parent is init, and init's the idle task.
        .field(8, 6, "task_struct.real_parent")
        .field(0, 8, "task_struct.pid")
        .kept(4)
        .field(8, 8, "task_struct.real_parent")
        .field(0, 8, "task_struct.pid")
        .kept(5)
        // Its struct pid has its number.
        .field(8, 6, "task_struct.thread_pid")
        .field(0, 8, "pid.numbers")
        .field(2, 6, "task_struct.pid")
        .minus(0, 2)
        .kept(6)
        .field(8, 6, "task_struct.nsproxy")
        .field(8, 8, "nsproxy.pid_ns_for_children")
        .field(0, 8, "pid_namespace.ns.inum")
        .kept(7)
        .field(8, 6, "task_struct.cred")
        .field(0, 8, "cred.uid")
        .kept(8)
        // From the head of the list of threads to the first one.
        .field(8, 6, "task_struct.signal")
        .field(8, 8, "signal_struct.thread_head.next")
        .field(2, 6, "task_struct.group_leader")
        .minus(8, 2)
        .keep(9, 8)
        .count(10);
    let ran = run(&[of_threads(look)]).well();
    assert!(ran.n(10) > 20, "threads have run");
    assert_eq!(ran.all::<9>(0), [2, 2, 0, 0, 1, 0, 0, 0xefff_fffc, 0]);
    let node = crate::build::kernel().offset_of("task_struct", "thread_node");
    assert_eq!(ran.n(9), u64::from(node.expect("it is there")));
}

#[test]
fn pointers_lead_from_a_task_to_its_cgroup() {
    let look = Code::new()
        .field(8, 6, "task_struct.cgroups")
        .field(8, 8, "css_set.dfl_cgrp")
        .field(0, 8, "cgroup.level")
        .kept(0)
        .field(9, 8, "cgroup.kn")
        .field(0, 9, "kernfs_node.id")
        .kept(1)
        // The first letter of its name.
        .field(9, 9, "kernfs_node.name")
        .load_byte(0, 9)
        .kept(2)
        // Its parent by two ways.
        .field(7, 8, "cgroup.self.parent")
        .field(7, 7, "cgroup_subsys_state.cgroup")
        .field(9, 8, "cgroup.kn")
        .field(9, 9, "kernfs_node.__parent")
        .field(0, 9, "kernfs_node.id")
        .kept(3)
        .field(9, 7, "cgroup.kn")
        .field(0, 9, "kernfs_node.id")
        .kept(4)
        // The task group is of the same one.
        .field(9, 6, "task_struct.sched_task_group")
        .field(9, 9, "task_group.css.cgroup")
        .minus(9, 8)
        .keep(5, 9);
    let ran = run(&[of_threads(look)]).well();
    let id = |path| ran.engine.cgroup_id(path).expect("it is there") as i64;
    let b = i64::from(b'b');
    assert_eq!(ran.all(0), [2, id("/a/b"), b, id("/a"), id("/a"), 0]);
}

#[test]
fn a_task_has_what_the_engine_has() {
    let look = Code::new()
        .field(0, 6, "task_struct.on_cpu")
        .kept(0)
        .field(0, 6, "task_struct.nr_cpus_allowed")
        .kept(1)
        .field(8, 6, "task_struct.cpus_ptr")
        .field(0, 8, "cpumask.bits")
        .kept(2)
        .field(0, 6, "task_struct.comm")
        .load(0, 6, crate::build::kernel().offset_of("task_struct", "comm").unwrap_or(0) as i16)
        .kept(3)
        .field(0, 6, "task_struct.scx.weight")
        .kept(4)
        .field(0, 6, "task_struct.rt_priority")
        .kept(5)
        .field(0, 6, "task_struct.prio")
        .kept(6)
        // NULL, and what a load from there reads.
        .field(8, 6, "task_struct.mempolicy")
        .field(0, 8, "mempolicy.home_node")
        .kept(7)
        .field(0, 6, "task_struct.scx.dsq")
        .kept(8)
        .count(10);
    let ran = run(&[of_threads(look)]).well();
    assert!(ran.n(10) > 20);
    let comm = i64::from_le_bytes(*b"thread\0\0");
    // It is on the CPU when the switch is done (`prepare_task()`).
    assert_eq!(ran.all(0), [0, 2, 3, comm, 100, 0, 120, 0, 0]);
}

#[test]
fn a_queued_task_points_to_its_queue() {
    let init = Code::new().mov(1, 7).mov(2, -1).call("scx_bpf_create_dsq").exit();
    let insert = Code::op()
        .copy(1, 6)
        .mov(2, 7)
        .mov(3, 1_000_000)
        .mov(4, 0)
        .call("scx_bpf_dsq_insert")
        .done();
    let look = Code::new()
        .field(8, 6, "task_struct.scx.dsq")
        .field(0, 8, "scx_dispatch_q.id")
        .kept(0)
        .field(0, 8, "scx_dispatch_q.nr")
        .kept(1)
        .field(8, 8, "scx_dispatch_q.first_task")
        .minus(8, 6)
        .keep(2, 8)
        .count(3)
        .mov(1, 7)
        .mov(2, 0)
        .call("scx_bpf_dsq_move_to_local___v2");
    let dispatch = Code::op().mov(1, 7).call("scx_bpf_dsq_peek").copy(6, 0).when(6, look).done();
    let ran = run(&[("enqueue", insert), ("dispatch", dispatch), ("init", init)]).well();
    assert!(ran.n(3) > 20);
    assert_eq!(ran.n(0), 7);
    assert!(ran.n(1) >= 1);
    assert_eq!(ran.n(2), 0, "it is the first of its queue");
}

#[test]
fn runqueues_are_read_by_function_and_by_variable() {
    let running = Code::op()
        .mov(1, 1)
        .call("scx_bpf_cpu_rq")
        .copy(8, 0)
        .field(0, 8, "rq.cpu")
        .kept(0)
        .field(9, 8, "rq.idle")
        .field(0, 9, "task_struct.pid")
        .kept(1)
        .field(0, 8, "rq.scx.local_dsq.id")
        .kept(2)
        .ksym(1, "runqueues")
        .mov(2, 1)
        .helper(153)
        .minus(0, 8)
        .kept(3)
        .ksym(1, "runqueues")
        .mov(2, 99)
        .helper(153)
        .kept(4)
        .ksym(1, "current_task")
        .helper(154)
        .load(9, 0, 0)
        .helper(158)
        .minus(0, 9)
        .kept(5)
        .ksym(1, "nr_cpu_ids")
        .field(0, 1, "scx_cmask.base")
        .kept(6)
        .call("scx_bpf_locked_rq")
        .field(0, 0, "rq.curr")
        .kept(7)
        .done();
    let ran = run(&[("running", running)]).well();
    let [cpu, idle, local, same, none, current, cpus, curr] = ran.all(0);
    assert_eq!((cpu, idle, same, none, current, cpus), (1, 0, 0, 0, 0, 2));
    assert_eq!(local as u64, 1 << 63 | 2, "SCX_DSQ_LOCAL");
    assert_ne!(curr, 0);
}

#[test]
fn what_is_the_kernel_s_own_is_named() {
    let msg = ended(&[("running", Code::op().field(0, 6, "task_struct.scx.tasks_node").done())]);
    assert!(
        msg.contains("the field scx.tasks_node of task_struct: it is the kernel's own"),
        "{msg}"
    );
    assert!(msg.contains("the task_struct of "), "{msg}");
    // A read that may fail does not: what a kernel has there would be read.
    let node = crate::build::kernel().offset_of("task_struct", "scx.tasks_node");
    let read = Code::op().copy(1, 10).plus(1, -8).mov(2, 8).copy(3, 6);
    let read = read.plus(3, node.expect("it is there") as i32).helper(113).done();
    let msg = ended(&[("running", read)]);
    assert!(
        msg.contains("the field scx.tasks_node of task_struct: it is the kernel's own"),
        "{msg}"
    );
}

#[test]
fn objects_are_not_written() {
    let write = Code::op().field(8, 6, "task_struct.signal").put(8, 0, 1).done();
    let msg = ended(&[("running", write)]);
    assert!(msg.contains("the signal_struct of") && msg.contains("read-only"), "{msg}");
    let write = Code::new().put(1, 0, 1).done();
    let msg = ended(&[("running", write)]);
    assert!(msg.contains("the arguments") && msg.contains("read-only"), "{msg}");
    let null = Code::new().mov(1, 0).put(1, 8, 1).done();
    let msg = ended(&[("running", null)]);
    assert!(msg.contains("invalid write of 8 bytes at 0x8"), "{msg}");
}
