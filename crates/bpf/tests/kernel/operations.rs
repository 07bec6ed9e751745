//! The operations, in both forms.

use scxlab_bpf::sched::{BpfScheduler, LoadError};
use scxlab_engine::program::{Instr, Pc, Policy, Program, Span, Start, Who};
use scxlab_engine::{CpuId, Cpumask, Nanos};

use crate::build::{Code, Ran, enqueue, image, insert, kernel, run, set_flags, work};

/// Tasks that do what operations are about: 5 ms of work, then one change after the other.
fn changing() -> Program {
    let ms = Span::exactly(Nanos::from_millis(5));
    let me = Who::Myself;
    let one = Box::new(Cpumask::of(CpuId(1)));
    let start = |at| Start { at: Nanos::from_millis(at), ..Start::new(Pc(0), 0) };
    Program {
        code: vec![
            Instr::Run(ms),
            Instr::Yield,
            Instr::SetNice(me, 5),
            Instr::Run(ms),
            Instr::SetAffinity(me, one),
            Instr::Run(ms),
            Instr::SetCgroup(0),
            Instr::Run(ms),
            Instr::SetPolicy(me, Policy::Batch),
            Instr::Sleep(ms),
            Instr::Run(ms),
            Instr::Exit,
        ],
        names: vec!["changing".into()],
        cgroups: vec!["/a".into()],
        start: vec![start(0), start(60), start(70)],
        ..Program::default()
    }
}

/// Counts in a counter, and keeps the second and third argument.
fn counting(counter: i32) -> Code {
    Code::op().keep(counter + 1, 7).keep(counter + 2, 8).count(counter).done()
}

#[test]
fn each_operation_is_called_with_its_arguments() {
    let names = [
        "dequeue",
        "tick",
        "runnable",
        "running",
        "stopping",
        "quiescent",
        "yield",
        "set_weight",
        "set_cpumask",
        "update_idle",
        "init_task",
        "exit_task",
        "enable",
        "disable",
        "cgroup_init",
        "cgroup_prep_move",
        "cgroup_move",
        "init",
    ];
    let mut programs: Vec<_> =
        names.iter().enumerate().map(|(n, name)| (*name, counting(n as i32 * 3))).collect();
    programs.push(enqueue());
    let sched = BpfScheduler::new(image("sched_ext_ops", &programs), &kernel())
        .expect("it has all that it needs");
    let ran = Ran::new(sched, changing(), 300).well();
    for (n, name) in names.iter().enumerate() {
        let never = ["dequeue", "disable"].contains(name);
        assert!(never || ran.n(n * 3) > 0, "ops.{name} was not called");
    }
    let arg = |name: &str, n: usize| {
        let at = names.iter().position(|known| *known == name).expect("one of them");
        ran.n(at * 3 + n)
    };
    assert_eq!(arg("set_weight", 1), 33, "of nice 5");
    assert_eq!(arg("yield", 1), 0, "to nobody");
    for name in ["cgroup_prep_move", "cgroup_move"] {
        assert_ne!(arg(name, 1), 0);
        assert_ne!(arg(name, 1), arg(name, 2), "from one to another");
    }
}

#[test]
fn structures_are_laid_out_as_declared() {
    let forked = Code::new()
        .field(8, 7, "scx_init_task_args.cgroup")
        .field(0, 8, "cgroup.level")
        .kept(0)
        .count(1);
    let init_task = Code::op().field(0, 7, "scx_init_task_args.fork").when(0, forked).done();
    let cgroup_init = Code::op()
        .field(0, 7, "scx_cgroup_init_args.weight")
        .kept(2)
        .field(0, 7, "scx_cgroup_init_args.bw_period_us")
        .kept(3)
        .field(8, 6, "cgroup.level")
        .keep(4, 8)
        .done();
    let exit = Code::op()
        .field(0, 6, "scx_exit_info.kind")
        .kept(5)
        .field(0, 6, "scx_exit_info.exit_code")
        .kept(6)
        .field(8, 6, "scx_exit_info.reason")
        .load(0, 8, 0)
        .kept(7)
        .done();
    let tick =
        Code::new().mov(1, 42).bss(2, 0).mov(3, 0).mov(4, 0).call("scx_bpf_exit_bstr").done();
    let programs =
        [("init_task", init_task), ("cgroup_init", cgroup_init), ("exit", exit), ("tick", tick)];
    let mut program = changing();
    program.cgroups = vec!["/a/b/c".into()];
    let mut programs = programs.to_vec();
    programs.push(enqueue());
    let sched = crate::build::load(&programs).expect("it has all that it needs");
    let ran = Ran::new(sched, program, 300);
    assert_eq!(ran.exit().map(|info| info.msg.as_str()), Some(""));
    assert!(ran.n(1) > 0, "a task was forked");
    assert_eq!(ran.all(2), [100, 100_000, 3, 65, 42]);
    assert_eq!(ran.n(7).to_le_bytes(), *b"unregist");
}

#[test]
fn a_higher_class_takes_a_cpu_and_gives_it_back() {
    let release = Code::op()
        .keep(0, 6)
        .field(0, 7, "scx_cpu_release_args.reason")
        .kept(1)
        .field(8, 7, "scx_cpu_release_args.task")
        .field(0, 8, "task_struct.policy")
        .kept(2)
        .count(3)
        .call("scx_bpf_reenqueue_local")
        .done();
    let acquire = Code::op().count(4).done();
    let programs = [enqueue(), ("cpu_release", release), ("cpu_acquire", acquire)];
    let mut sched = image("sched_ext_ops", &programs);
    // SCX_OPS_SWITCH_PARTIAL
    set_flags(&mut sched, 1 << 3);
    let sched = BpfScheduler::new(sched, &kernel()).expect("it has all that it needs");
    let ms = Nanos::from_millis(2);
    let start = |policy| Start { policy, ..Start::new(Pc(0), 0) };
    let program = Program {
        code: vec![
            Instr::Loop { count: None, end: Pc(3) },
            Instr::Run(Span::exactly(ms)),
            Instr::Sleep(Span::exactly(ms)),
            Instr::LoopEnd { body: Pc(1) },
        ],
        names: vec!["both".into()],
        start: vec![[start(Policy::Ext), start(Policy::Normal)]; 3].concat(),
        ..Program::default()
    };
    let ran = Ran::new(sched, program, 300).well();
    assert!(ran.n(3) > 10 && ran.n(4) > 10, "{:?}", ran.all::<5>(0));
    let unknown = kernel().number("SCX_CPU_PREEMPT_UNKNOWN").expect("a number") as u64;
    assert_eq!((ran.n(1), ran.n(2)), (unknown, 0));
}

#[test]
fn the_dump_has_what_the_scheduler_says() {
    // Text: "cpu %d\n", in the counters' place.
    let text = u64::from_le_bytes(*b"cpu %d\n\0");
    let dump_cpu = Code::op()
        .imm64(2, text)
        .bss(1, 0)
        .store(1, 0, 2)
        .bss(2, 8)
        .store(2, 0, 7)
        .mov(3, 8)
        .call("scx_bpf_dump_bstr")
        .field(0, 6, "scx_dump_ctx.kind")
        .kept(2)
        .done();
    let dump = Code::op().count(3).done();
    let dump_task = Code::op().field(0, 7, "task_struct.pid").kept(4).done();
    let tick = Code::new().bss(1, 400).mov(2, 0).mov(3, 0).call("scx_bpf_error_bstr").done();
    let mut program = work();
    program.code[2] = Instr::Run(Span::exactly(Nanos::from_millis(20)));
    let programs = [
        enqueue(),
        ("dump_cpu", dump_cpu),
        ("dump", dump),
        ("dump_task", dump_task),
        ("tick", tick),
    ];
    let sched = crate::build::load(&programs).expect("it has all that it needs");
    let ran = Ran::new(sched, program, 300);
    let info = ran.exit().expect("it says that it has an error");
    assert!(info.dump.contains("cpu 0\n") && info.dump.contains("cpu 1\n"), "{}", info.dump);
    assert_eq!((ran.n(2), ran.n(3)), (1025, 1));
    assert!(ran.n(4) > 0);
}

/// One that gives all tasks to the other CPU than the one they are on, by cid.
#[test]
fn the_cid_form_has_its_own_operations() {
    let select = Code::op()
        .keep(0, 7)
        .copy(1, 7)
        .call("scx_bpf_cid_to_cpu")
        .kept(1)
        .count(2)
        .copy(0, 7)
        .exit();
    let dispatch = Code::op().keep(3, 6).count(4).done();
    let set_cmask = Code::op()
        .cast_arena(7)
        .field(0, 7, "scx_cmask.nr_cids")
        .kept(5)
        .load(0, 7, 16)
        .kept(6)
        .count(7)
        .done();
    let running = Code::op()
        .call("scx_bpf_this_cid")
        .kept(8)
        .copy(1, 6)
        .call("scx_bpf_task_cid")
        .kept(9)
        .call("scx_bpf_nr_cids")
        .kept(10)
        .copy(1, 8)
        .mov(1, 1)
        .call("scx_bpf_cid_curr")
        .kept(11)
        .mov(1, 1)
        .frame(2, -24)
        .mov(3, 24)
        .call("scx_bpf_cid_topo")
        .load(0, 10, -24)
        .kept(12)
        .mov(1, 0)
        .mov(2, 0)
        .call("scx_bpf_kick_cid")
        .done();
    let programs = [
        ("select_cid", select),
        ("dispatch", dispatch),
        ("set_cmask", set_cmask),
        ("running", running),
        ("enqueue", Code::op().then(insert()).done()),
    ];
    let sched = image("sched_ext_ops_cid", &programs);
    let sched = BpfScheduler::new(sched, &kernel()).expect("it has all that it needs");
    let ran = Ran::new(sched, changing(), 300).well();
    assert!(ran.n(2) > 0 && ran.n(4) > 0 && ran.n(7) > 0, "{:?}", ran.all::<13>(0));
    assert_eq!(ran.n(0), ran.n(1), "without siblings a cid is its CPU's number");
    assert_eq!((ran.n(5), ran.n(6)), (2, 2), "of two cids the second");
    assert_eq!(ran.n(8), ran.n(9));
    assert_eq!(ran.n(10), 2);
    assert_ne!(ran.n(11), 0);
    assert_eq!(ran.n(12), 1 << 32 | 1, "its core is the second");
}

#[test]
fn sub_schedulers_attach_and_their_parent_knows() {
    let parent = [
        (
            "sub_attach",
            Code::op()
                .field(8, 6, "scx_sub_attach_args.ops")
                .field(0, 8, "sched_ext_ops.sub_cgroup_id")
                .kept(0)
                .field(8, 6, "scx_sub_attach_args.cgroup_path")
                .load_byte(0, 8)
                .kept(1)
                .count(2)
                .done(),
        ),
        (
            "dispatch",
            Code::op().bss(1, 0).load(1, 1, 0).call("scx_bpf_sub_dispatch").count(3).done(),
        ),
        ("enqueue", Code::op().then(insert()).done()),
    ];
    let form = "sched_ext_ops_cid";
    let load =
        |programs| BpfScheduler::new(image(form, programs), &kernel()).expect("all is there");
    let mut ran = Ran::new(load(&parent), work(), 50).well();
    let child = [("enqueue", Code::op().count(0).then(insert()).done())];
    let child = load(&child).in_cgroup("/a");
    let id = ran.engine.attach(std::sync::Arc::new(child)).expect("attached");
    ran.engine.run_until(Nanos::from_millis(150));
    assert!(ran.engine.is_attached(id), "{:?}", ran.engine.exit_info(id));
    assert_eq!(ran.n(0), ran.engine.cgroup_id("/a").expect("it is there"));
    assert_eq!((ran.n(1), ran.n(2)), (b'/'.into(), 1));
    assert!(ran.n(3) > 0);
}

#[test]
fn an_operation_that_the_engine_lacks_is_named() {
    let programs = [enqueue(), ("init_cids", Code::new().done())];
    let err = crate::build::load(&programs).expect_err("it was loaded").to_string();
    assert!(err.contains("operation init_cids"), "{err}");
    let missing = BpfScheduler::new(image("tcp_congestion_ops", &[enqueue()]), &kernel());
    let err = missing.expect_err("it was loaded").to_string();
    assert!(err.contains("schedulers of type tcp_congestion_ops"), "{err}");
}

#[test]
fn an_error_number_ends_the_attach() {
    let ran = run(&[("init", Code::new().mov(0, -12).exit())]);
    let msg = &ran.exit().expect("it has ended").msg;
    assert!(msg.contains("ops.init() failed (-12)"), "{msg}");
}

#[test]
fn cids_can_be_given() {
    let init = Code::new()
        // CPU 0 has cid 1, and CPU 1 has cid 0.
        .bss(6, 504)
        .put(6, 0, 1)
        .copy(1, 6)
        .mov(2, 8)
        .call("scx_bpf_cid_override")
        .mov(1, 0)
        .call("scx_bpf_cpu_to_cid")
        .kept(0)
        .mov(1, 0)
        .call("scx_bpf_cid_to_cpu")
        .kept(1)
        .mov(1, 0)
        .frame(2, -24)
        .mov(3, 24)
        .call("scx_bpf_cid_topo")
        .load(0, 10, -8)
        .kept(2)
        .done();
    let with = |init: Code| {
        let sched = image("sched_ext_ops_cid", &[enqueue(), ("init", init)]);
        let sched = BpfScheduler::new(sched, &kernel()).expect("it has all that it needs");
        Ran::new(sched, work(), 50)
    };
    assert_eq!(with(init).well().all(0), [1, 1, -1]);
    for (size, why) in [
        (4, "scx_bpf_cid_override: expected 8 bytes, got 4"),
        (8, "cid 0 assigned to multiple cpus"),
    ] {
        let init = Code::new().bss(1, 504).mov(2, size).call("scx_bpf_cid_override").done();
        let ran = with(init);
        assert_eq!(ran.exit().map(|info| info.msg.as_str()), Some(why));
    }
}

/// Whether it is ever called or not.
#[test]
fn what_the_verifier_refuses_is_not_loaded() {
    let create = || Code::new().mov(1, 7).mov(2, -1).call("scx_bpf_create_dsq").done();
    let kick = || Code::new().mov(1, 0).mov(2, 0).call("scx_bpf_kick_cpu").done();
    let refused = |form, name, code: Code, sleepable| {
        let mut image = image(form, &[enqueue(), (name, code)]);
        image.programs[1].sleepable = sleepable;
        match BpfScheduler::new(image, &kernel()) {
            Err(LoadError::Refused(why)) => why.join(", "),
            other => format!("{other:?}"),
        }
    };
    let (cpus, cids) = ("sched_ext_ops", "sched_ext_ops_cid");
    for (form, name, code, sleepable, why) in [
        (
            cpus,
            "init",
            create(),
            false,
            "init: program must be sleepable to call sleepable kfunc scx_bpf_create_dsq",
        ),
        (
            cpus,
            "tick",
            Code::new().done(),
            true,
            "tick: attach to unsupported member tick of struct sched_ext_ops",
        ),
        (
            cids,
            "tick",
            kick(),
            false,
            "tick: calling kernel function scx_bpf_kick_cpu is not allowed",
        ),
    ] {
        assert_eq!(refused(form, name, code, sleepable), why);
    }
    for (form, name, code, sleepable) in [
        (cpus, "init", create(), true),
        (cpus, "exit", Code::new().done(), true),
        (cpus, "tick", kick(), false),
        // Behind what is never so.
        (cids, "tick", Code::new().mov(3, 0).when(3, kick()).done(), false),
    ] {
        let loaded = refused(form, name, code, sleepable);
        assert!(loaded.starts_with("Ok("), "{loaded}");
    }
}

/// `scx_bpf_cid_topo()` fills all of the program's structure, also what 7.2's does not have.
#[test]
fn a_larger_topology_is_filled_up() {
    let read = Code::new()
        .put(10, -48, 7)
        .put(10, -16, 7)
        .put(10, -8, 7)
        .mov(1, 1)
        .frame(2, -40)
        .mov(3, 40)
        .call("scx_bpf_cid_topo")
        .load(0, 10, -48)
        .kept(0)
        .load(0, 10, -40)
        .kept(1)
        .load(0, 10, -16)
        .kept(2)
        .load(0, 10, -8)
        .kept(3)
        .done();
    let ran = run(&[("running", read)]).well();
    assert_eq!(ran.all(0), [7, 1 << 32 | 1, -1, -1]);
}
