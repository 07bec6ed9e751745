//! Workloads that need no file, each in a size that fits the machine.

use scxlab_engine::{NR_CPUS, Nanos};

use crate::error::{UnknownWorkload, nearest, shown};
use crate::workload::{Attributes, Event, Kind, Phase, Policy, Rounds, Span, Task, Who, Workload};

/// The built-in workloads: name, and what it is in one line.
pub const BUILTINS: &[(&str, &str)] = &[
    ("nonleader-exec", "four processes per CPU whose children exec from a thread, over and over"),
    ("exit-storm", "about four processes per CPU that burn one time slice and exit, unwaited for"),
    ("fork-storm", "many children and threads that live for some 100 us"),
    ("pingpong", "one pair of threads per CPU that wake each other in turn"),
    ("hogs", "two processes per CPU that never sleep"),
    (
        "mixed",
        "hogs, pairs, timers, pinned tasks, priority and affinity changes, fork, exec, exit, kill",
    ),
];

pub(crate) fn builtin(name: &str, cpus: usize) -> Result<Workload, UnknownWorkload> {
    let cpus = cpus.clamp(1, NR_CPUS) as u32;
    let tasks = match name {
        "nonleader-exec" => nonleader_exec(cpus),
        "exit-storm" => exit_storm(cpus),
        "fork-storm" => fork_storm(cpus),
        "pingpong" => pingpong(cpus),
        "hogs" => hogs(cpus),
        "mixed" => mixed(cpus),
        _ => {
            let known = BUILTINS.iter().map(|(name, _)| *name);
            return Err(UnknownWorkload { name: shown(name), nearest: nearest(name, known) });
        }
    };
    Ok(Workload { name: name.to_owned(), process: name.to_owned(), duration: None, tasks })
}

/// Four workers per CPU make queues in which each part of an exec can be caught: the leader may be
/// running, queued or asleep when the other thread takes its place. The new image sleeps once, as
/// one that reads its pages from a disk does, so that it is enqueued under its new pid.
fn nonleader_exec(cpus: u32) -> Vec<Task> {
    vec![
        process("worker", 4 * cpus, vec![fork("shell"), Event::WaitChild]),
        created(
            "shell",
            vec![
                once(vec![
                    Event::Create { kind: Kind::Thread, task: "launcher".to_owned() },
                    run(0, 800),
                ]),
                // It dies of the exec.
                forever(vec![sleep(10_000, 10_000)]),
            ],
        ),
        created("launcher", vec![once(vec![run(50, 300), exec("image")])]),
        created("image", vec![once(vec![run(300, 1_500), sleep(50, 400), run(1_000, 3_500)])]),
    ]
}

/// With `SIGCHLD` ignored, waiting returns when all children are gone, so that no more than two of
/// each worker are there at once. A spark that began at a tick is lost by pid if its slice of 20 ms
/// ends, at a tick again, between the release of its pid and its last switch. A slice that ends
/// earlier in the exit does no harm: `sched_autogroup_exit_task()` of Linux 7.2 gives up the CPU
/// right before the release, and the task comes back with a new one. Burners outlast their slice, so
/// that ticks preempt them and others begin there.
fn exit_storm(cpus: u32) -> Vec<Task> {
    vec![
        Task {
            phases: vec![
                once(vec![Event::IgnoreChildren]),
                forever(vec![fork("burner"), fork("spark"), Event::WaitChildren, sleep(0, 1_000)]),
            ],
            ..process("worker", 2 * cpus, Vec::new())
        },
        created("burner", vec![once(vec![run(19_800, 24_200)])]),
        created("spark", vec![once(vec![run(19_900, 20_000)])]),
    ]
}

fn fork_storm(cpus: u32) -> Vec<Task> {
    let thread = || Event::Create { kind: Kind::Thread, task: "mayfly".to_owned() };
    vec![
        process(
            "worker",
            2 * cpus,
            vec![
                fork("mayfly"),
                fork("mayfly"),
                thread(),
                run(10, 50),
                thread(),
                Event::JoinThreads,
                Event::WaitChildren,
            ],
        ),
        created("mayfly", vec![once(vec![run(50, 300)])]),
    ]
}

fn pingpong(cpus: u32) -> Vec<Task> {
    (0..cpus).flat_map(|pair| ping_and_pong(pair, (50, 500))).collect()
}

/// Two threads in turn. Each works with the mutex held and gives it up only to wait, after it has
/// signalled, so whichever comes second is never waited for in vain and no wakeup is lost.
fn ping_and_pong(pair: u32, (least, most): (u64, u64)) -> [Task; 2] {
    let object = format!("pair{pair}");
    ["ping", "pong"].map(|name| Task {
        kind: Kind::Thread,
        phases: vec![
            once(vec![Event::Lock(object.clone())]),
            forever(vec![
                run(least, most),
                Event::SignalAndWait { cond: object.clone(), mutex: object.clone() },
            ]),
        ],
        ..process(&format!("{name}{pair}"), 1, Vec::new())
    })
}

fn hogs(cpus: u32) -> Vec<Task> {
    vec![process("hog", 2 * cpus, vec![run(10_000, 10_000)])]
}

fn mixed(cpus: u32) -> Vec<Task> {
    let some = cpus.div_ceil(4);
    let half: Vec<u32> = (0..cpus.div_ceil(2)).collect();
    let all: Vec<u32> = (0..cpus).collect();
    let hog = |name: &str, nice, policy| Task {
        attributes: Attributes { nice, policy, ..Attributes::default() },
        ..process(name, some, vec![run(1_000, 10_000)])
    };
    let mut tasks = vec![
        hog("hog", None, None),
        hog("hog-high", Some(-5), None),
        hog("hog-low", Some(10), None),
        hog("hog-batch", None, Some(Policy::Batch)),
        hog("hog-idle", None, Some(Policy::Idle)),
        Task {
            kind: Kind::Thread,
            ..process("ticker", cpus, vec![run(200, 1_000), tick("unique", 10_000)])
        },
        process(
            "renicer",
            some,
            vec![
                run(500, 2_000),
                Event::SetNice(Who::Myself, 10),
                run(500, 2_000),
                Event::SetNice(Who::Myself, -10),
                sleep(1_000, 20_000),
            ],
        ),
        process(
            "mover",
            some,
            vec![
                Event::SetAffinity(Who::Myself, half.clone()),
                run(500, 3_000),
                Event::SetAffinity(Who::Myself, all.clone()),
                sleep(500, 5_000),
                Event::Yield,
            ],
        ),
        // One, whatever the machine's size: each of these changes many tasks.
        process(
            "warden",
            1,
            vec![
                Event::SetNice(Who::Named("hog".to_owned()), 5),
                Event::SetAffinity(Who::Named("hog-low".to_owned()), half),
                sleep(1_000, 20_000),
                Event::SetNice(Who::Named("hog".to_owned()), 0),
                Event::SetAffinity(Who::Named("hog-low".to_owned()), all),
                sleep(1_000, 20_000),
            ],
        ),
        process("launcher", some, vec![fork("shell"), Event::WaitChild, sleep(1_000, 10_000)]),
        created(
            "shell",
            vec![once(vec![
                Event::Create { kind: Kind::Thread, task: "execer".to_owned() },
                run(0, 500),
                Event::JoinThreads,
            ])],
        ),
        created("execer", vec![once(vec![run(50, 200), exec("image")])]),
        created("image", vec![once(vec![run(200, 2_000), Event::ExitGroup])]),
        process(
            "reaper",
            some,
            vec![
                fork("victim"),
                sleep(500, 5_000),
                Event::Kill(Who::LastChild),
                Event::WaitChild,
                run(50, 200),
            ],
        ),
        created("victim", vec![forever(vec![run(100, 1_000), sleep(0, 500)])]),
    ];
    tasks.extend((0..cpus.div_ceil(2)).flat_map(|pair| ping_and_pong(pair, (20, 200))));
    tasks.extend((0..cpus).map(|cpu| Task {
        attributes: Attributes { cpus: Some(vec![cpu]), ..Attributes::default() },
        ..process(&format!("pinned{cpu}"), 1, vec![run(100, 1_000), sleep(2_000, 6_000)])
    }));
    tasks
}

/// Processes that go through `events` for ever.
fn process(name: &str, instances: u32, events: Vec<Event>) -> Task {
    Task {
        name: name.to_owned(),
        kind: Kind::Process,
        instances,
        delay: Nanos::ZERO,
        attributes: Attributes::default(),
        rounds: Rounds::Times(1),
        phases: vec![forever(events)],
    }
}

/// A task that others create or exec.
fn created(name: &str, phases: Vec<Phase>) -> Task {
    Task { phases, ..process(name, 0, Vec::new()) }
}

fn once(events: Vec<Event>) -> Phase {
    phase("once", Rounds::Times(1), events)
}

fn forever(events: Vec<Event>) -> Phase {
    phase("round", Rounds::Forever, events)
}

fn phase(name: &str, rounds: Rounds, events: Vec<Event>) -> Phase {
    Phase { name: name.to_owned(), attributes: Attributes::default(), rounds, events }
}

/// `least` to `most` microseconds.
fn run(least: u64, most: u64) -> Event {
    Event::Run(Span::micros_between(least, most))
}

/// `least` to `most` microseconds.
fn sleep(least: u64, most: u64) -> Event {
    Event::Sleep(Span::micros_between(least, most))
}

fn tick(timer: &str, period: u64) -> Event {
    Event::Timer {
        name: timer.to_owned(),
        period: Nanos::from_micros(period),
        absolute: false,
        shared: false,
    }
}

fn fork(task: &str) -> Event {
    Event::Create { kind: Kind::Process, task: task.to_owned() }
}

fn exec(task: &str) -> Event {
    Event::Exec(task.to_owned())
}
