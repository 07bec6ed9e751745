//! Tasks, phases, loops and the global section.

use scxlab_engine::program::{Instr, Pc, Policy, Span, Who};
use scxlab_engine::{CpuId, Cpumask, Nanos, Program};
use scxlab_workload::{CompileError, Event, Kind, Rounds, Workload};

fn parse(text: &str) -> Workload {
    Workload::parse("test.json", text).unwrap_or_else(|e| panic!("{e}"))
}

fn compile(text: &str) -> Program {
    let program = parse(text).compile(4).unwrap();
    assert_eq!(program.check(), Ok(()));
    program
}

/// The code of the only task, which exists once.
fn code(task: &str) -> Vec<Instr> {
    compile(&format!("{{\"tasks\": {{\"t\": {{{task}}}}}}}")).code.split_off(3)
}

fn run(us: u64) -> Instr {
    Instr::Run(Span::exactly(Nanos::from_micros(us)))
}

fn pin(cpus: &[u32]) -> Instr {
    let mask: Cpumask = cpus.iter().copied().map(CpuId).collect();
    Instr::SetAffinity(Who::Myself, Box::new(mask))
}

#[test]
fn a_task_without_loop_goes_on_for_ever() {
    assert_eq!(code("\"run\": 1"), [run(1), Instr::Jump(Pc(3)), Instr::Exit]);
    assert_eq!(code("\"run\": 1, \"loop\": -1"), [run(1), Instr::Jump(Pc(3)), Instr::Exit]);
    assert_eq!(
        code("\"phases\": {\"p\": {\"run\": 1}}"),
        [run(1), Instr::Jump(Pc(3)), Instr::Exit]
    );
}

#[test]
fn loops_count() {
    assert_eq!(code("\"loop\": 1, \"run\": 1"), [run(1), Instr::Exit]);
    assert_eq!(
        code("\"loop\": 3, \"run\": 1"),
        [
            Instr::Loop { count: Some(3), end: Pc(5) },
            run(1),
            Instr::LoopEnd { body: Pc(4) },
            Instr::Exit
        ]
    );
    assert_eq!(
        code("\"loop\": 2, \"phases\": {\"p\": {\"loop\": 3, \"run\": 1}, \"q\": {\"run\": 2}}"),
        [
            Instr::Loop { count: Some(2), end: Pc(8) },
            Instr::Loop { count: Some(3), end: Pc(6) },
            run(1),
            Instr::LoopEnd { body: Pc(5) },
            run(2),
            Instr::LoopEnd { body: Pc(4) },
            Instr::Exit
        ]
    );
    assert_eq!(code("\"loop\": 0, \"phases\": {\"p\": {\"run\": 1}}"), [Instr::Exit]);
    assert_eq!(
        code("\"loop\": 2147483647, \"run\": 1")[0],
        Instr::Loop { count: Some(i32::MAX as u32), end: Pc(5) }
    );
}

#[test]
fn phases_of_one_name_are_kept_in_order() {
    assert_eq!(
        code("\"loop\": 1, \"phases\": {\"p\": {\"run\": 1}, \"p\": {\"run\": 2}}"),
        [run(1), run(2), Instr::Exit]
    );
}

#[test]
fn a_task_sets_itself_up_after_its_delay() {
    assert_eq!(
        code(
            "\"run\": 1, \"loop\": 1, \"delay\": 5, \"policy\": \"SCHED_BATCH\", \
             \"priority\": -5, \"taskgroup\": \"//a/b/\", \"cpus\": [2]"
        ),
        [
            Instr::Sleep(Span::exactly(Nanos(5_000))),
            Instr::SetPolicy(Who::Myself, Policy::Batch),
            Instr::SetNice(Who::Myself, -5),
            Instr::SetCgroup(0),
            pin(&[2]),
            run(1),
            Instr::Exit
        ]
    );
}

#[test]
fn a_policy_without_priority_sets_nice_to_zero_and_a_priority_keeps_the_policy() {
    let phases = "\"phases\": {\"p\": {\"policy\": \"SCHED_BATCH\", \"run\": 1}, \
                  \"q\": {\"priority\": 7, \"run\": 2}}, \"loop\": 1, \"priority\": 3";
    assert_eq!(
        code(phases),
        [
            Instr::SetNice(Who::Myself, 3),
            Instr::SetPolicy(Who::Myself, Policy::Batch),
            Instr::SetNice(Who::Myself, 0),
            run(1),
            Instr::SetNice(Who::Myself, 7),
            run(2),
            Instr::Exit
        ]
    );
}

#[test]
fn a_phase_without_cpus_goes_by_its_task() {
    assert_eq!(
        code(
            "\"cpus\": [2], \"loop\": 1, \"phases\": {\"p\": {\"cpus\": [0], \"run\": 1}, \
             \"q\": {\"cpus\": [0], \"run\": 2}, \"r\": {\"run\": 3}}"
        ),
        [pin(&[0]), run(1), run(2), pin(&[2]), run(3), Instr::Exit]
    );
    assert_eq!(
        code("\"loop\": 1, \"phases\": {\"p\": {\"cpus\": [1], \"run\": 1}, \"q\": {\"run\": 2}}"),
        [pin(&[1]), run(1), pin(&[0, 1, 2, 3]), run(2), Instr::Exit]
    );
    assert_eq!(
        code(
            "\"loop\": 1, \"phases\": {\"p\": {\"cpus\": [1], \"run\": 1}, \"q\": {\"run\": 2}, \
             \"r\": {\"cpus\": [1], \"run\": 3}}"
        ),
        [pin(&[1]), run(1), pin(&[0, 1, 2, 3]), run(2), pin(&[1]), run(3), Instr::Exit]
    );
    assert_eq!(
        code("\"cpus\": [1], \"loop\": 1, \"phases\": {\"p\": {\"run\": 1}, \"q\": {\"run\": 2}}"),
        [pin(&[1]), run(1), run(2), Instr::Exit]
    );
}

#[test]
fn cpus_that_the_machine_lacks_are_left_out_but_one_must_be_left() {
    let text = "{\"tasks\": {\"t\": {\"cpus\": [3, 4, 5], \"run\": 1}}}";
    assert_eq!(compile(text).code[3], pin(&[3]));
    let error = parse(text).compile(2).unwrap_err();
    assert_eq!(
        error,
        CompileError::Pinned { task: "t".to_owned(), wanted: "3-5".to_owned(), last: 1 }
    );
    assert_eq!(
        error.to_string(),
        "task `t` may only run on CPUs 3-5, but the machine has CPUs 0-1; give it one of those, \
         or a larger machine"
    );
}

#[test]
fn a_taskgroup_stays_until_the_next() {
    let text = r#"{"tasks": {"t": {"loop": 1, "taskgroup": "", "phases": {
        "p": {"taskgroup": "/a/b", "run": 1}, "q": {"run": 2}, "r": {"taskgroup": "/", "run": 3},
        "s": {"taskgroup": "/a/b", "run": 4}}}}}"#;
    let program = compile(text);
    assert_eq!(program.cgroups, ["/a/b", "/"]);
    assert_eq!(
        program.code[3..],
        [
            Instr::SetCgroup(0),
            run(1),
            run(2),
            Instr::SetCgroup(1),
            run(3),
            Instr::SetCgroup(0),
            run(4),
            Instr::Exit
        ]
    );
}

#[test]
fn a_default_policy_is_for_all_that_do_not_say() {
    let text = r#"{
        "global": {"default_policy": "SCHED_BATCH"},
        "tasks": {"a": {"run": 1}, "b": {"policy": "SCHED_IDLE", "run": 1}}
    }"#;
    let policies: Vec<_> = parse(text).tasks.iter().map(|task| task.attributes.policy).collect();
    use scxlab_workload::Policy;
    assert_eq!(policies, [Some(Policy::Batch), Some(Policy::Idle)]);
}

#[test]
fn what_is_not_forked_takes_after_its_creator() {
    let text = r#"{"tasks": {
        "a": {"fork": "forked", "thread": "made", "loop": 1},
        "forked": {"instance": 0, "run": 1},
        "made": {"instance": 0, "run": 1}
    }}"#;
    let nice: Vec<_> = parse(text).tasks.iter().map(|task| task.attributes.nice).collect();
    assert_eq!(nice, [None, Some(0), None]);
}

#[test]
fn a_process_of_its_own_is_started_as_one() {
    let program = compile(
        r#"{"tasks": {"p": {"as": "process", "instance": 2, "loop": 1, "run": 1}, "t": {"as": "thread", "run": 2}}}"#,
    );
    let names: Vec<_> =
        program.start.iter().map(|start| program.names[start.name as usize].as_str()).collect();
    assert_eq!(names, ["rt-app", "p", "p"]);
    let entry = program.start[1].entry.0 as usize;
    assert_eq!(program.code[entry..][..2], [run(1), Instr::ExitGroup]);
    // A single thread has nobody to wait for.
    assert!(program.barriers.is_empty());
    let alone = compile(r#"{"tasks": {"p": {"as": "process", "run": 1}}}"#);
    assert_eq!(alone.start.len(), 1);
    assert_eq!(alone.names[alone.start[0].name as usize], "p");
}

#[test]
fn duration_is_in_seconds() {
    let with = |global: &str| {
        parse(&format!("{{\"tasks\": {{\"t\": {{\"run\": 1}}}}, \"global\": {{{global}}}}}"))
            .duration
    };
    assert_eq!(with("\"duration\": 2"), Some(Nanos::from_secs(2)));
    assert_eq!(with("\"duration\": -1"), None);
    assert_eq!(with("\"duration\": 0"), None);
    assert_eq!(with(""), None);
    assert_eq!(parse("{\"tasks\": {\"t\": {\"run\": 1}}}").duration, None);
}

#[test]
fn what_concerns_only_rt_app_itself_is_accepted() {
    let workload = parse(
        r#"{
            "global": {
                "calibration": 100, "logdir": "./", "log_basename": "x", "log_size": "file",
                "ftrace": true, "gnuplot": false, "pi_enabled": false, "lock_pages": true,
                "frag": 1, "io_device": "/dev/null", "mem_buffer_size": 1, "cumulative_slack": false,
            },
            "resources": {"m": {"type": "mutex"}, "s": {"type": "signal", "target": "w"}, "d": {}},
            "tasks": {"t": {"run": 1}}
        }"#,
    );
    assert_eq!(workload.process, "rt-app");
    assert_eq!(workload.name, "test.json");
    assert_eq!(workload.tasks[0].kind, Kind::Thread);
    assert_eq!(workload.tasks[0].rounds, Rounds::Forever);
}

#[test]
fn events_may_be_written_as_people_do() {
    let workload = parse(
        "# by hand\n{ \"tasks\" : { // one\n \"t\" : { /* two */ \"loop\" : 1,\n \"suspend\",\n \
         \"yield\" : ,\n \"run\" : 1,\n \"run\" : 2, }, },\n}\n",
    );
    let events = &workload.tasks[0].phases[0].events;
    assert_eq!(events.len(), 4);
    assert_eq!(events[0], Event::Suspend("t".to_owned()));
    assert_eq!(events[1], Event::Yield);
}

#[test]
fn the_readmes_example_compiles() {
    let readme = include_str!("../README.md");
    let (_, rest) = readme.split_once("```json\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    assert_eq!(compile(example).start.len(), 8);
}
