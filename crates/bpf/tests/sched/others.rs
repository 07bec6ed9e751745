//! Programs beside the operations: at tracepoints, and ones that user space runs.

use scxlab_bpf::image::{Function, Image, Kfunc, Map, MapType, Program};
use scxlab_bpf::sched::{BpfScheduler, LoadError, MAX_CONTEXT, ProgRun, ProgRunError};
use scxlab_engine::Nanos;
use scxlab_engine::program::{Instr, Pc, Program as Scenario, Span, Start};

use crate::build::{Asm, image, kernel};
use crate::{Ran, attached, attached_to, enqueue, run};

/// `bpf_get_current_task_btf()`.
const CURRENT: i32 = 158;

/// A scheduler with programs of these sections, and kernel functions from number 1 on.
fn with(programs: &[(&str, &str, Asm)], kfuncs: &[&str]) -> Image {
    let mut image = image(&[("enqueue", enqueue())]);
    for (name, section, asm) in programs {
        let start = image.insns.len();
        image.insns.extend(asm.insns());
        let function = image.functions.len();
        let len = image.insns.len() - start;
        image.functions.push(Function { name: (*name).into(), start, len });
        let sleepable = *section == "syscall";
        image.programs.push(Program { function, section: (*section).into(), sleepable });
    }
    for name in kfuncs {
        image.kfuncs.push(Kfunc { name: (*name).into(), symbol: (*name).into(), weak: false });
    }
    image
}

fn loaded(programs: &[(&str, &str, Asm)], kfuncs: &[&str]) -> BpfScheduler {
    BpfScheduler::new(with(programs, kfuncs), &kernel()).expect("it has all that it needs")
}

fn refused(programs: &[(&str, &str, Asm)], kfuncs: &[&str]) -> LoadError {
    BpfScheduler::new(with(programs, kfuncs), &kernel()).expect_err("it was loaded")
}

impl Ran {
    fn prog_run(&mut self, name: &str, context: &[u8]) -> Result<ProgRun, ProgRunError> {
        let Self { sched, engine, id } = self;
        engine.prog_run(*id, |cx| sched.prog_run(cx, name, context))
    }
}

/// Counts in r0, and in r1 those whose second argument is the current task.
fn counts_switches() -> Asm {
    Asm::new()
        .copy(6, 1)
        .bss(1, 16)
        .mov(2, 1)
        .atomic_add(1, 0, 2)
        .helper(CURRENT)
        .load(7, 6, 8)
        .mov(2, 1)
        .jump_if_not_equal(0, 7, 3)
        .bss(1, 24)
        .atomic_add(1, 0, 2)
        .mov(0, 0)
        .exit()
}

#[test]
fn a_tracepoint_s_program_runs_from_the_attach_on() {
    for section in ["tp_btf/sched_switch", "raw_tp/sched_switch", "raw_tracepoint/sched_switch"] {
        let ran = run(loaded(&[("on_switch", section, counts_switches())], &[]));
        ran.is_well();
        let switches = ran.engine.stats().switches;
        assert!(switches > 100);
        assert_eq!(ran.counter("r0"), switches, "{section}");
        assert_eq!(ran.counter("r1"), switches, "current is who is switched from");
    }
}

/// Counts in r0, and in r1 those whose argument is the runqueue of the CPU that it runs on.
fn counts_ticks() -> Asm {
    const THIS_CPU: i32 = 8;
    let cpu = kernel().offset_of("rq", "cpu").expect("it is there");
    Asm::new()
        .load(6, 1, 0)
        .bss(1, 16)
        .mov(2, 1)
        .atomic_add(1, 0, 2)
        .helper(THIS_CPU)
        .load32(7, 6, cpu as i16)
        .mov(2, 1)
        .jump_if_not_equal(0, 7, 3)
        .bss(1, 24)
        .atomic_add(1, 0, 2)
        .mov(0, 0)
        .exit()
}

#[test]
fn a_function_s_program_runs_when_it_is_called() {
    let ran = run(loaded(&[("on_tick", "fentry/scx_tick", counts_ticks())], &[]));
    ran.is_well();
    let ticks = ran.engine.stats().ticks;
    assert!(ticks > 20);
    assert_eq!((ran.counter("r0"), ran.counter("r1")), (ticks, ticks));
    // r1 is counted where the argument is the current task: a new one is not.
    let wakes = counts_switches();
    let ran = run(loaded(&[("on_wake", "fentry/wake_up_new_task", wakes)], &[]));
    ran.is_well();
    assert_eq!((ran.counter("r0"), ran.counter("r1")), (ran.engine.stats().forked, 0));
}

#[test]
fn it_may_not_write_to_a_task() {
    let writes = Asm::new().load(6, 1, 8).mov(2, 1).store_member(6, "scx.slice", 2).exit();
    let ran = run(loaded(&[("on_switch", "tp_btf/sched_switch", writes)], &[]));
    let msg = &ran.engine.exit_info(ran.id).expect("it has ended").msg;
    assert!(msg.starts_with("the program on_switch: "), "{msg}");
    assert!(msg.contains("only an operation of a scheduler may write there"), "{msg}");
}

#[test]
fn what_an_exec_is_of_the_engine_does_not_have() {
    // r6 = bprm; r7 = *bprm.
    let reads = Asm::new().load(6, 1, 16).load(7, 6, 0).mov(0, 0).exit();
    let ms = Nanos::from_millis(1);
    let execs = Scenario {
        code: vec![Instr::Run(Span::exactly(ms)), Instr::Exec { entry: Pc(0), name: 0 }],
        names: vec!["execs".into()],
        start: vec![Start::new(Pc(0), 0)],
        ..Scenario::default()
    };
    let sched = loaded(&[("on_exec", "tp_btf/sched_process_exec", reads)], &[]);
    let mut ran = attached_to(sched, 1, execs);
    ran.engine.run_until(Nanos::from_millis(50));
    let msg = &ran.engine.exit_info(ran.id).expect("it has ended").msg;
    assert!(msg.starts_with("the program on_exec: ") && msg.contains("the linux_binprm"), "{msg}");
}

#[test]
fn what_may_not_be_called_is_refused_at_once() {
    let calls = |kfunc| Asm::new().mov(0, 0).exit().kfunc(kfunc).exit();
    for (section, kfunc, message) in [
        ("syscall", "scx_bpf_dsq_move_to_local", "which a syscall program may not"),
        ("tp_btf/sched_wakeup", "scx_bpf_create_dsq", "which a tracing program may not"),
        ("tp_btf/sched_wakeup", "scx_bpf_select_cpu_dfl", "which a tracing program may not"),
    ] {
        let error = refused(&[("other", section, calls(1))], &[kfunc]).to_string();
        let call = format!("no kernel loads it: other calls {kfunc}(), {message}");
        assert_eq!(error, call);
    }
    // By a function that it calls, too.
    let mut image =
        with(&[("other", "syscall", Asm::new().kfunc(1).exit())], &["bpf_task_release"]);
    let callee = image.functions.len();
    let start = image.insns.len();
    image.insns.extend(calls(0).insns());
    image.functions.push(Function { name: "inner".into(), start, len: 4 });
    let other = image.functions[callee - 1].start;
    image.insns[other] = scxlab_bpf::insn::Insn {
        code: 0x85,
        dst: 0,
        src: scxlab_bpf::insn::pseudo::CALL,
        off: 0,
        imm: (start - other) as i32 - 1,
    };
    let error = BpfScheduler::new(image, &kernel()).expect_err("it was loaded").to_string();
    assert!(error.contains("other calls scx_bpf_dsq_insert(), which a syscall program"), "{error}");
}

#[test]
fn what_the_engine_does_not_pass_is_named() {
    let idle = || Asm::new().mov(0, 0).exit();
    let programs = [
        ("a", "tp_btf/sched_stat_wait", idle()),
        ("b", "fentry/do_exit", idle()),
        ("c", "kprobe/do_exit", idle()),
        // A tracepoint is no function, and no function is a tracepoint.
        ("d", "fentry/sched_switch", idle()),
        ("e", "tp_btf/scx_tick", idle()),
    ];
    let LoadError::Missing(missing) = refused(&programs, &[]) else { panic!("not missing") };
    let named = [
        "programs of the kind tp_btf/sched_stat_wait (a)",
        "programs of the kind fentry/do_exit (b)",
        "programs of the kind kprobe/do_exit (c)",
        "programs of the kind fentry/sched_switch (d)",
        "programs of the kind tp_btf/scx_tick (e)",
    ];
    assert_eq!(missing, named);
}

/// Adds 1 to the context's first byte's word, and returns what it was.
fn adds() -> Asm {
    Asm::new().copy(6, 1).load(0, 6, 0).copy(2, 0).add_imm(2, 1).store(6, 0, 2).exit()
}

#[test]
fn user_space_has_a_program_run() {
    let mut ran = run(loaded(&[("adds", "syscall", adds())], &[]));
    assert_eq!(ran.sched.syscall_names().collect::<Vec<_>>(), ["adds"]);
    let done = ran.prog_run("adds", &[255, 0, 0, 0, 1, 0, 0, 0]).expect("it runs");
    assert_eq!(done, ProgRun { retval: 255, context: vec![0, 1, 0, 0, 1, 0, 0, 0] });
    assert_eq!(ran.prog_run("enqueue", &[]), Err(ProgRunError::NoProgram));
    let long = vec![0; MAX_CONTEXT + 1];
    assert_eq!(ran.prog_run("adds", &long), Err(ProgRunError::TooLong(MAX_CONTEXT + 1)));
    assert!(ran.prog_run("adds", &long[1..]).is_ok());
    ran.is_well();
    // Without a context there is nothing there.
    let Err(ProgRunError::Fault(why)) = ran.prog_run("adds", &[]) else { panic!("it ran") };
    assert!(why.contains("of the context, 0 bytes, in adds"), "{why}");
    let info = ran.engine.exit_info(ran.id).expect("it has ended");
    assert_eq!(info.msg, format!("the program adds: {why}"));
}

/// Before the scheduler is attached there is none to make a queue for, and its memory is there.
#[test]
fn a_program_runs_before_the_attach() {
    let creates = Asm::new().mov(1, 7).mov(2, -1).kfunc(1).keep(0).exit();
    let mut ran = {
        let sched = std::sync::Arc::new(loaded(
            &[("creates", "syscall", creates)],
            &["scx_bpf_create_dsq"],
        ));
        let program = std::sync::Arc::new(crate::blinkers(2));
        let mut engine =
            scxlab_engine::Engine::new(scxlab_engine::Config::new(2, program)).expect("a machine");
        let mut before = None;
        let taken = std::sync::Arc::<BpfScheduler>::clone(&sched);
        let id = engine
            .attach_after(taken, |cx| before = Some(sched.prog_run(cx, "creates", &[])))
            .expect("attached");
        let before = before.expect("it was called").expect("it runs");
        assert_eq!(before.retval as i32, -19, "ENODEV");
        Ran { sched, engine, id }
    };
    assert_eq!(ran.counter("r0"), -19_i64 as u64);
    ran.engine.run_until(Nanos::from_millis(50));
    assert_eq!(ran.prog_run("creates", &[]).expect("it runs").retval, 0);
    assert_eq!(ran.prog_run("creates", &[]).expect("it runs").retval as i32, -17, "EEXIST");
    ran.is_well();
}

#[test]
fn a_clone_goes_on_as_the_original() {
    let programs = || {
        [
            ("on_switch", "tp_btf/sched_switch", counts_switches()),
            ("on_wakeup", "tp_btf/sched_wakeup", counts_switches()),
            ("adds", "syscall", adds()),
        ]
    };
    let mut ran = attached(loaded(&programs(), &[]), 3);
    ran.engine.run_until(Nanos::from_millis(70));
    let mut clone = ran.clone();
    for ran in [&mut ran, &mut clone] {
        ran.prog_run("adds", &[0; 8]).expect("it runs");
        ran.engine.run_until(Nanos::from_millis(200));
    }
    assert_eq!(ran.all_of_it(), clone.all_of_it());
    let mut again = attached(loaded(&programs(), &[]), 3);
    again.engine.run_until(Nanos::from_millis(200));
    assert_eq!(ran.counters(), again.counters());
}

/// libbpf makes maps that no program uses, which a kernel has all types of.
#[test]
fn a_map_that_the_engine_lacks_matters_where_it_is_used() {
    let lacking = || {
        let trace = Map {
            name: "stacks".into(),
            map_type: MapType(7),
            key_size: 4,
            value_size: 1016,
            max_entries: 1,
            ..Map::default()
        };
        let mut image = with(&[], &[]);
        image.maps.push(trace);
        image
    };
    let sched = BpfScheduler::new(lacking(), &kernel()).expect("nothing uses it");
    let why = "map stacks is left out, no loaded program uses it: the engine has no maps of type \
               BPF_MAP_TYPE_STACK_TRACE";
    assert_eq!(sched.left_out(), [why]);
    run(sched).is_well();
    let mut image = lacking();
    let used = Asm::new().imm64(1, 0).mov(0, 0).exit();
    let used = used.insns();
    let (start, len, function) = (image.insns.len(), used.len(), image.functions.len());
    image.insns.extend(used);
    (image.insns[start].src, image.insns[start].imm) = (1, image.maps.len() as i32 - 1);
    image.functions.push(Function { name: "uses".into(), start, len });
    image.programs.push(Program { function, section: "syscall".into(), sleepable: true });
    let err = BpfScheduler::new(image, &kernel()).expect_err("it was loaded");
    let LoadError::Missing(missing) = err else { panic!("{err}") };
    assert_eq!(missing, ["map stacks: the engine has no maps of type BPF_MAP_TYPE_STACK_TRACE"]);
}
