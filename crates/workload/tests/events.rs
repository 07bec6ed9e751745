//! Every event: what it is read as, and the instructions that it becomes.

use scxlab_engine::program::{Instr, Pc, Policy, Span, Spawn, Who};
use scxlab_engine::{CpuId, Cpumask, Nanos, Program};
use scxlab_workload::{Event, Kind, Workload};

const MACHINE: usize = 4;

fn parse(text: &str) -> Workload {
    Workload::parse("test.json", text).unwrap_or_else(|e| panic!("{e}"))
}

fn compile(text: &str) -> Program {
    let program = parse(text).compile(MACHINE).unwrap();
    assert_eq!(program.check(), Ok(()));
    program
}

/// The event of a file whose only task, `t`, has this one.
fn event(member: &str) -> Event {
    let text = format!(
        "{{\"tasks\": {{\"t\": {{\"loop\": 1, {member}}}, \"u\": {{\"instance\": 0, \"run\": 1}}}}}}"
    );
    parse(&text).tasks[0].phases[0].events[0].clone()
}

/// The instructions of that task.
fn code(member: &str) -> Vec<Instr> {
    let text = format!(
        "{{\"tasks\": {{\"t\": {{\"loop\": 1, {member}}}, \"u\": {{\"instance\": 0, \"run\": 1}}}}}}"
    );
    let code = compile(&text).code;
    // The main thread is a spawn, a join and an exit.
    let end = code.iter().skip(3).position(|instr| *instr == Instr::Exit).unwrap() + 3;
    code[3..end].to_vec()
}

fn us(us: u64) -> Span {
    Span::exactly(Nanos::from_micros(us))
}

#[test]
fn run_and_runtime_and_sleep_are_microseconds() {
    assert_eq!(code("\"run\": 1500"), [Instr::Run(us(1_500))]);
    assert_eq!(code("\"runtime\": 20"), [Instr::Runtime(us(20))]);
    assert_eq!(code("\"sleep3\": 0"), [Instr::Sleep(us(0))]);
    assert_eq!(code("\"run\": 2147483647"), [Instr::Run(us(2_147_483_647))]);
}

#[test]
fn a_pair_of_times_is_a_span() {
    let span = Span::between(Nanos::from_micros(50), Nanos::from_micros(300));
    assert_eq!(code("\"run\": [50, 300]"), [Instr::Run(span)]);
    assert_eq!(code("\"runtime\": [50, 300]"), [Instr::Runtime(span)]);
    assert_eq!(code("\"sleep\": [50, 300,]"), [Instr::Sleep(span)]);
}

#[test]
fn mem_and_iorun_have_a_stated_cost() {
    assert_eq!(event("\"mem\": 1000"), Event::Mem { bytes: 1000 });
    assert_eq!(code("\"mem\": 1000"), [Instr::Run(Span::exactly(Nanos(1000)))]);
    assert_eq!(event("\"iorun\": 1001"), Event::Io { bytes: 1001 });
    assert_eq!(
        code("\"iorun\": 1001"),
        [Instr::Run(Span::exactly(Nanos(251))), Instr::Sleep(Span::exactly(Nanos(1001)))]
    );
}

#[test]
fn a_unique_timer_is_the_tasks_own() {
    let timer = |absolute, shared| Instr::Timer {
        timer: 0,
        period: Nanos::from_millis(20),
        absolute,
        shared,
    };
    let code = |fields: &str| code(&format!("\"timer\": {{{fields}}}"));
    assert_eq!(code("\"ref\": \"unique\", \"period\": 20000"), [timer(false, false)]);
    assert_eq!(code("\"ref\": \"uniqueA\", \"period\": 20000"), [timer(false, false)]);
    assert_eq!(code("\"period\": 20000, \"ref\": \"tick\""), [timer(false, true)]);
    assert_eq!(
        code("\"ref\": \"tick\", \"period\": 20000, \"mode\": \"absolute\""),
        [timer(true, true)]
    );
    assert_eq!(
        code("\"ref\": \"unique\", \"period\": 20000, \"mode\": \"relative\""),
        [timer(false, false)]
    );
}

#[test]
fn the_mode_is_the_timers_and_not_the_events() {
    let text = r#"{"tasks": {
        "a": {"timer": {"ref": "tick", "period": 1}, "timer": {"ref": "unique", "period": 1}},
        "b": {"timer": {"ref": "tick", "period": 1, "mode": "absolute"}},
        "c": {"timer": {"ref": "unique", "period": 1, "mode": "absolute"}}
    }}"#;
    let modes: Vec<bool> = parse(text)
        .tasks
        .iter()
        .flat_map(|task| &task.phases[0].events)
        .map(|event| matches!(event, Event::Timer { absolute: true, .. }))
        .collect();
    assert_eq!(modes, [true, false, true, true]);
}

#[test]
fn locks_and_condition_variables() {
    assert_eq!(
        code(
            "\"lock\": \"m\", \"wait\": {\"ref\": \"c\", \"mutex\": \"m\"}, \"unlock\": \"m\", \
             \"signal\": \"c\", \"broad\": \"d\", \"lock_b\": \"n\", \
             \"sync\": {\"mutex\": \"n\", \"ref\": \"d\"}"
        ),
        [
            Instr::Lock(0),
            Instr::CondWait { cond: 0, mutex: 0 },
            Instr::Unlock(0),
            Instr::CondSignal(0),
            Instr::CondBroadcast(1),
            Instr::Lock(1),
            Instr::CondSignal(1),
            Instr::CondWait { cond: 1, mutex: 1 },
        ]
    );
}

#[test]
fn suspend_and_resume_are_a_condition_under_a_mutex_of_one_name() {
    let suspend =
        |i| [Instr::Lock(i), Instr::CondWait { cond: i, mutex: i }, Instr::Unlock(i)].to_vec();
    for own in ["\"suspend\"", "\"suspend\" : ", "\"suspend\": \"\"", "\"suspend\": \"t\""] {
        assert_eq!(event(own), Event::Suspend("t".to_owned()), "{own}");
        assert_eq!(code(own), suspend(0), "{own}");
    }
    assert_eq!(event("\"suspend\": \"other\""), Event::Suspend("other".to_owned()));
    assert_eq!(
        code("\"resume\": \"nobody\""),
        [Instr::Lock(0), Instr::CondBroadcast(0), Instr::Unlock(0)]
    );
    // They share their names with locks and signals.
    assert_eq!(
        code("\"lock\": \"x\", \"signal\": \"x\", \"suspend\": \"x\""),
        [vec![Instr::Lock(0), Instr::CondSignal(0)], suspend(0)].concat()
    );
}

#[test]
fn yield_has_no_value_that_matters() {
    for text in
        ["\"yield\"", "\"yield\": ", "\"yield\": \"\"", "\"yield\": \"x\"", "\"yield\": null"]
    {
        assert_eq!(code(text), [Instr::Yield], "{text}");
    }
}

#[test]
fn a_barrier_counts_the_instances_that_name_it() {
    let program = compile(
        r#"{"tasks": {
            "a": {"instance": 3, "barrier1": "B", "run": 1, "barrier2": "C"},
            "b": {"barrier": "B"},
            "c": {"run": 1}
        }}"#,
    );
    // The last is where the five threads wait for each other at the start.
    assert_eq!(program.barriers, [4, 3, 5]);
}

#[test]
fn fork_creates_a_thread_that_does_not_wait_for_the_others() {
    let program = compile(r#"{"tasks": {"a": {"fork": "b", "loop": 1}, "b": {"run": 7}}}"#);
    let Some(Instr::Spawn { what: Spawn::Thread, entry, name }) =
        program.code.iter().rfind(|instr| matches!(instr, Instr::Spawn { .. }))
    else {
        panic!("{:?}", program.code);
    };
    assert_eq!(program.names[*name as usize], "b");
    assert_eq!(program.code[entry.0 as usize - 1], Instr::Barrier(0));
    // As every thread of rt-app does, it sets what it was not given.
    assert_eq!(
        program.code[entry.0 as usize..][..3],
        [
            Instr::SetPolicy(Who::Myself, Policy::Normal),
            Instr::SetNice(Who::Myself, 0),
            Instr::Run(us(7))
        ]
    );
}

#[test]
fn thread_and_process_create_what_they_say() {
    assert_eq!(
        event("\"thread\": \"u\""),
        Event::Create { kind: Kind::Thread, task: "u".to_owned() }
    );
    assert_eq!(
        event("\"process\": \"u\""),
        Event::Create { kind: Kind::Process, task: "u".to_owned() }
    );
    let program = compile(
        r#"{"tasks": {
            "t": {"as": "process", "thread": "u", "process": "u"},
            "u": {"instance": 0, "loop": 1, "run": 1}
        }}"#,
    );
    let entries: Vec<_> = program
        .code
        .iter()
        .filter_map(|instr| match instr {
            Instr::Spawn { what, entry, .. } => Some((*what, *entry)),
            _ => None,
        })
        .collect();
    let [(Spawn::Thread, thread), (Spawn::Process, process)] = entries[..] else {
        panic!("{entries:?}");
    };
    // A thread ends alone, a process with all its threads.
    assert_eq!(program.code[thread.0 as usize..][..2], [Instr::Run(us(1)), Instr::Exit]);
    assert_eq!(program.code[process.0 as usize..][..2], [Instr::Run(us(1)), Instr::ExitGroup]);
}

#[test]
fn exec_goes_on_as_another_task() {
    let program =
        compile(r#"{"tasks": {"t": {"exec": "u"}, "u": {"instance": 0, "loop": 1, "run": 1}}}"#);
    let Some(Instr::Exec { entry, name }) =
        program.code.iter().find(|instr| matches!(instr, Instr::Exec { .. }))
    else {
        panic!("{:?}", program.code);
    };
    assert_eq!(program.names[*name as usize], "u");
    assert_eq!(program.code[entry.0 as usize..][..2], [Instr::Run(us(1)), Instr::ExitGroup]);
}

#[test]
fn ends_and_waits() {
    assert_eq!(event("\"exit\""), Event::Exit);
    assert_eq!(code("\"exit_group\""), [Instr::ExitGroup]);
    assert_eq!(code("\"waitpid\""), [Instr::Wait]);
    assert_eq!(code("\"waitall\": \"\""), [Instr::WaitAll]);
    assert_eq!(code("\"join\": null"), [Instr::JoinAll]);
    assert_eq!(code("\"ignore_children\""), [Instr::IgnoreChildren]);
}

#[test]
fn kill_names_someone() {
    assert_eq!(code("\"kill\": \"self\""), [Instr::Kill(Who::Myself)]);
    assert_eq!(code("\"kill\": \"child\""), [Instr::Kill(Who::LastChild)]);
    assert_eq!(code("\"kill\": \"parent\""), [Instr::Kill(Who::Parent)]);
}

#[test]
fn a_name_means_all_that_started_from_the_description() {
    let program =
        compile(r#"{"tasks": {"t": {"kill": "u", "loop": 1}, "u": {"instance": 2, "run": 1}}}"#);
    let killed: Vec<_> = program
        .code
        .iter()
        .filter_map(|instr| match instr {
            Instr::Kill(Who::Named(name)) => Some(program.names[*name as usize].as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(killed, ["u", "u-1", "u-2"]);
}

#[test]
fn nice_affinity_and_policy_change_over_time() {
    let mask: Cpumask = [CpuId(1), CpuId(3)].into_iter().collect();
    assert_eq!(code("\"nice\": -20"), [Instr::SetNice(Who::Myself, -20)]);
    assert_eq!(
        code("\"nice\": {\"task\": \"parent\", \"value\": 19}"),
        [Instr::SetNice(Who::Parent, 19)]
    );
    assert_eq!(
        code("\"affinity\": [3, 1, 1, 900]"),
        [Instr::SetAffinity(Who::Myself, Box::new(mask))]
    );
    assert_eq!(
        code("\"affinity\": {\"cpus\": [1, 3], \"task\": \"child\"}"),
        [Instr::SetAffinity(Who::LastChild, Box::new(mask))]
    );
    for (name, policy) in [
        ("SCHED_OTHER", Policy::Normal),
        ("SCHED_NORMAL", Policy::Normal),
        ("SCHED_BATCH", Policy::Batch),
        ("SCHED_IDLE", Policy::Idle),
        ("SCHED_EXT", Policy::Ext),
    ] {
        assert_eq!(
            code(&format!("\"set_policy\": \"{name}\"")),
            [Instr::SetPolicy(Who::Myself, policy)]
        );
    }
    assert_eq!(
        code("\"set_policy\": {\"task\": \"self\", \"policy\": \"SCHED_EXT\"}"),
        [Instr::SetPolicy(Who::Myself, Policy::Ext)]
    );
}

#[test]
fn repeated_events_are_done_in_the_order_of_the_file() {
    assert_eq!(
        code("\"run\": 1, \"sleep\": 2, \"run\": 3, \"run\": 1"),
        [Instr::Run(us(1)), Instr::Sleep(us(2)), Instr::Run(us(3)), Instr::Run(us(1))]
    );
}

#[test]
fn the_main_thread_creates_in_file_order_and_joins() {
    let program = compile(
        r#"{"tasks": {"b": {"instance": 2, "run": 1}, "a": {"run": 2}, "n": {"instance": 0, "run": 3}}}"#,
    );
    let [
        Instr::Spawn { entry: b0, name: n0, .. },
        Instr::Spawn { entry: b1, .. },
        Instr::Spawn { entry: a, name: n2, .. },
        Instr::JoinAll,
        Instr::Exit,
    ] = &program.code[..5]
    else {
        panic!("{:?}", program.code);
    };
    assert_eq!(b0, b1);
    assert_eq!(program.names[*n0 as usize], "b-0");
    assert_eq!(program.names[*n2 as usize], "a-2");
    for entry in [b0, a] {
        assert_eq!(program.code[entry.0 as usize], Instr::Barrier(0));
    }
    assert_eq!(program.barriers, [3]);
    assert_eq!(program.start.len(), 1);
    assert_eq!(program.start[0].entry, Pc(0));
    assert_eq!(program.names[program.start[0].name as usize], "rt-app");
}
