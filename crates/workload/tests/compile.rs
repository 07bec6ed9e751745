//! Workloads that are built by hand, and what can be wrong with them.

use scxlab_engine::program::ProgramError;
use scxlab_engine::{NR_CPUS, Nanos};
use scxlab_workload::{
    Attributes, CompileError, Event, Kind, MAX_INSTRUCTIONS, Phase, Rounds, Span, Task, Who,
    Workload,
};

fn task(name: &str, events: Vec<Event>) -> Task {
    Task {
        name: name.to_owned(),
        kind: Kind::Process,
        instances: 1,
        delay: Nanos::ZERO,
        attributes: Attributes::default(),
        rounds: Rounds::Times(1),
        phases: vec![Phase {
            name: String::new(),
            attributes: Attributes::default(),
            rounds: Rounds::Times(1),
            events,
        }],
    }
}

fn workload(tasks: Vec<Task>) -> Workload {
    Workload { name: "w".to_owned(), process: "w".to_owned(), duration: None, tasks }
}

fn error(tasks: Vec<Task>) -> CompileError {
    workload(tasks).compile(2).unwrap_err()
}

#[test]
fn the_machine_must_be_one_that_can_be_simulated() {
    let workload = workload(vec![task("t", Vec::new())]);
    assert!(workload.compile(1).is_ok());
    assert!(workload.compile(NR_CPUS).is_ok());
    for cpus in [0, NR_CPUS + 1, usize::MAX] {
        assert_eq!(workload.compile(cpus), Err(CompileError::Cpus { cpus, max: NR_CPUS }));
    }
}

#[test]
fn a_task_may_do_nothing() {
    let phases = Vec::new();
    let idle = Task { phases, rounds: Rounds::Forever, ..task("t", Vec::new()) };
    assert_eq!(workload(vec![idle]).compile(2).unwrap().check(), Ok(()));
}

#[test]
fn a_span_may_be_the_wrong_way_round() {
    let span = Span { min: Nanos(5), max: Nanos(3) };
    let program = workload(vec![task("t", vec![Event::Run(span)])]).compile(2).unwrap();
    assert_eq!(
        program.code[0],
        scxlab_engine::program::Instr::Run(scxlab_engine::program::Span {
            min: Nanos(3),
            max: Nanos(5)
        })
    );
}

#[test]
fn names_must_lead_somewhere() {
    let other = || "x".to_owned();
    for event in [
        Event::Create { kind: Kind::Thread, task: other() },
        Event::Exec(other()),
        Event::Kill(Who::Named(other())),
        Event::SetNice(Who::Named(other()), 0),
    ] {
        assert_eq!(
            error(vec![task("t", vec![event])]),
            CompileError::NoSuchTask { task: "t".to_owned(), other: other() }
        );
    }
    assert_eq!(
        error(vec![task("t", Vec::new()), task("t", Vec::new())]),
        CompileError::SameName { task: "t".to_owned() }
    );
}

#[test]
fn something_must_start_but_not_too_much() {
    assert_eq!(error(Vec::new()), CompileError::NothingStarts);
    let many = Task { instances: u32::MAX, ..task("t", Vec::new()) };
    let instances = u64::from(u32::MAX);
    assert_eq!(error(vec![many]), CompileError::TooManyInstances { instances });
}

#[test]
fn a_barrier_that_nobody_can_come_to() {
    let unstarted = Task { instances: 0, ..task("u", vec![Event::Barrier("b".to_owned())]) };
    let creator = task("t", vec![Event::Exec("u".to_owned())]);
    assert_eq!(
        error(vec![creator, unstarted]),
        CompileError::Barrier { task: "u".to_owned(), barrier: "b".to_owned() }
    );
}

#[test]
fn values_out_of_range() {
    assert_eq!(
        error(vec![task("t", vec![Event::SetNice(Who::Myself, 20)])]),
        CompileError::Program(ProgramError::Nice { pc: 0, nice: 20 })
    );
    let attributes = Attributes { cgroup: Some("a".to_owned()), ..Attributes::default() };
    assert_eq!(
        error(vec![Task { attributes, ..task("t", Vec::new()) }]),
        CompileError::Program(ProgramError::CgroupPath("a".to_owned()))
    );
    for cpus in [vec![], vec![2], vec![u32::MAX]] {
        assert!(matches!(
            error(vec![task("t", vec![Event::SetAffinity(Who::Myself, cpus)])]),
            CompileError::Pinned { .. }
        ));
    }
}

#[test]
fn a_program_has_a_greatest_length() {
    assert_eq!(
        error(vec![task("t", vec![Event::Yield; MAX_INSTRUCTIONS])]),
        CompileError::TooLong { task: "t".to_owned(), max: MAX_INSTRUCTIONS }
    );
    // One event can stand for many instructions.
    let crowd = Task { kind: Kind::Thread, instances: 99_999, ..task("u", Vec::new()) };
    let killer = task("t", vec![Event::Kill(Who::Named("u".to_owned())); 100]);
    assert!(matches!(error(vec![crowd, killer]), CompileError::TooLong { .. }));
}
