//! No text makes the reader or the compiler panic, and whatever compiles is a valid program.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use scxlab_engine::Nanos;
use scxlab_workload::{Attributes, Event, Kind, Phase, Policy, Rounds, Span, Task, Who, Workload};

/// Has something of everything; what is changed at random begins with it.
const SEED: &str = r#"{
    /* all kinds */
    "global": {"duration": 2, "default_policy": "SCHED_OTHER", "pi_enabled": false,},
    "resources": {"m": {"type": "mutex"}},
    "tasks": {
        "a": {
            "instance": 2, "delay": 10, "cpus": [0, 1], "priority": -3, "loop": 4,
            "phases": {
                "p": {"loop": 3, "run": 10, "runtime": 20, "sleep": [1, 5], "taskgroup": "/a/b"},
                "q": {"lock": "m", "sync": {"ref": "c", "mutex": "m"}, "unlock": "m"},
                "q": {"timer": {"ref": "unique", "period": 100, "mode": "absolute"}, "yield": ,},
                "r": {"barrier": "b", "resume": "c", "suspend", "mem": 100, "iorun": 100}
            }
        },
        # the extension
        "b": {
            "as": "process", "policy": "SCHED_BATCH",
            "fork": "c", "thread": "c", "process": "d", "waitpid", "waitall", "join",
            "ignore_children", "kill": "child", "nice": {"task": "a", "value": 5},
            "affinity": [0], "set_policy": "SCHED_EXT", "exit"
        },
        "c": {"instance": 0, "run": 10, "exec": "d"},
        "d": {"instance": 0, "wait": {"ref": "c", "mutex": "m"}, "signal": "c", "broad": "c"} // end
    }
}"#;

fn survives(text: &str) {
    let Ok(workload) = Workload::parse("f.json", text) else { return };
    for cpus in [1, 2, 64] {
        if let Ok(program) = workload.compile(cpus) {
            assert_eq!(program.check(), Ok(()), "{text}");
        }
    }
}

#[test]
fn the_seed_compiles() {
    let workload = Workload::parse("f.json", SEED).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(workload.compile(2).unwrap().check(), Ok(()));
}

#[derive(Clone, Debug)]
enum Change {
    Remove,
    Insert(&'static str),
    Repeat(usize),
    Move(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let pieces = vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "'",
        "\\",
        "\\u",
        "/*",
        "*/",
        "//",
        "#",
        "\n",
        "-",
        "0",
        "1",
        "9999999999",
        "1e9",
        "1.5",
        "null",
        "true",
        "\"run\"",
        "\"a\"",
        "\"b\"",
        "\"loop\"",
        "\"phases\"",
        "\"instance\"",
        "-1",
        "é",
        "\u{0}",
        "[1, 2]",
        "{}",
        "\"\"",
    ];
    prop_oneof![
        Just(Change::Remove),
        select(pieces).prop_map(Change::Insert),
        (1..40usize).prop_map(Change::Repeat),
        any::<usize>().prop_map(Change::Move),
    ]
}

fn apply(text: &str, changes: &[(usize, Change)]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for (at, change) in changes {
        if chars.is_empty() {
            break;
        }
        let at = at % chars.len();
        match change {
            Change::Remove => {
                chars.remove(at);
            }
            Change::Insert(piece) => {
                chars.splice(at..at, piece.chars());
            }
            Change::Repeat(length) => {
                let piece = chars[at..(at + length).min(chars.len())].to_vec();
                chars.splice(at..at, piece);
            }
            Change::Move(to) => {
                let c = chars.remove(at);
                let to = to % (chars.len() + 1);
                chars.insert(to, c);
            }
        }
    }
    chars.into_iter().collect()
}

fn key() -> impl Strategy<Value = String> {
    let known = vec![
        "run",
        "runtime",
        "sleep",
        "timer",
        "lock",
        "unlock",
        "wait",
        "signal",
        "broad",
        "sync",
        "suspend",
        "resume",
        "yield",
        "barrier",
        "fork",
        "mem",
        "iorun",
        "exec",
        "exit",
        "exit_group",
        "thread",
        "process",
        "waitpid",
        "waitall",
        "join",
        "ignore_children",
        "kill",
        "nice",
        "affinity",
        "set_policy",
        "loop",
        "instance",
        "delay",
        "cpus",
        "priority",
        "policy",
        "taskgroup",
        "phases",
        "as",
        "memrun",
        "dl-runtime",
        "tasks",
        "global",
        "resources",
        "duration",
        "ref",
        "mutex",
        "period",
        "mode",
        "task",
        "value",
    ];
    prop_oneof![
        9 => (select(known), option::of(0..10u8)).prop_map(|(key, suffix)| match suffix {
            Some(n @ 0..3) => format!("{key}{n}"),
            _ => key.to_owned(),
        }),
        1 => "[a-z]{0,8}",
    ]
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        (-3..200i64).prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| n.to_string()),
        select(vec![
            "t0",
            "t1",
            "t2",
            "self",
            "child",
            "parent",
            "unique",
            "SCHED_OTHER",
            "SCHED_FIFO",
            "/",
            "/a//b",
            "process",
            "absolute",
            "",
        ])
        .prop_map(|text| format!("\"{text}\"")),
    ]
}

fn value() -> impl Strategy<Value = String> {
    scalar().prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            vec((key(), inner), 0..4).prop_map(object),
        ]
    })
}

fn object(members: Vec<(String, String)>) -> String {
    let members: Vec<_> =
        members.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
    format!("{{{}}}", members.join(", "))
}

/// A key with a value that is right for it, or nearly.
fn member() -> impl Strategy<Value = (String, String)> {
    let number = (0..100u32).prop_map(|n| n.to_string());
    let task = (0..4u32).prop_map(|n| format!("\"t{n}\""));
    let who = select(vec!["\"t0\"", "\"t1\"", "\"self\"", "\"child\"", "\"parent\""]);
    let cpus = vec(0..5u32, 1..4).prop_map(|cpus| format!("{cpus:?}"));
    let name = select(vec!["\"x\"", "\"y\"", "\"t0\""]).prop_map(str::to_owned);
    let of = |keys: Vec<&'static str>| select(keys).prop_map(str::to_owned);
    prop_oneof![
        (of(vec!["run", "runtime", "sleep", "mem", "iorun", "delay", "loop"]), number.clone()),
        (of(vec!["fork", "thread", "process", "exec"]), task),
        (of(vec!["lock", "unlock", "signal", "broad", "suspend", "resume", "barrier"]), name),
        (
            of(vec!["exit", "exit_group", "waitpid", "waitall", "join", "yield"]),
            Just(String::new())
        ),
        (Just("kill".to_owned()), who.clone().prop_map(str::to_owned)),
        (Just("nice".to_owned()), who.prop_map(|who| format!("{{\"task\": {who}, \"value\": 3}}"))),
        (of(vec!["affinity", "cpus"]), cpus),
        (
            Just("timer".to_owned()),
            number.prop_map(|n| format!("{{\"ref\": \"unique\", \"period\": {n}}}"))
        ),
        (Just("taskgroup".to_owned()), Just("\"/g\"".to_owned())),
        (of(vec!["instance", "priority"]), (0..4u32).prop_map(|n| n.to_string())),
    ]
}

/// The first of each key that may not repeat.
fn without_repeats(members: Vec<(String, String)>) -> Vec<(String, String)> {
    const ONCE: [&str; 6] = ["delay", "loop", "cpus", "taskgroup", "instance", "priority"];
    let mut seen = Vec::new();
    members
        .into_iter()
        .filter(|(key, _)| {
            let first = !seen.contains(key);
            seen.push(key.clone());
            first || !ONCE.contains(&key.as_str())
        })
        .collect()
}

fn file() -> impl Strategy<Value = String> {
    vec((vec(member(), 0..8), any::<bool>()), 1..4).prop_map(|tasks| {
        let tasks = tasks
            .into_iter()
            .enumerate()
            .map(|(i, (mut members, process))| {
                members.push(("run".to_owned(), "1".to_owned()));
                if process {
                    members.push(("as".to_owned(), "\"process\"".to_owned()));
                }
                (format!("t{i}"), object(without_repeats(members)))
            })
            .collect();
        object(vec![("tasks".to_owned(), object(tasks))])
    })
}

fn name() -> impl Strategy<Value = String> {
    select(vec!["t0", "t1", "t2", "x"]).prop_map(str::to_owned)
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        Just(Who::Myself),
        Just(Who::LastChild),
        Just(Who::Parent),
        name().prop_map(Who::Named)
    ]
}

fn built_event() -> impl Strategy<Value = Event> {
    let span =
        || any::<(u64, u64)>().prop_map(|(min, max)| Span { min: Nanos(min), max: Nanos(max) });
    prop_oneof![
        span().prop_map(Event::Run),
        span().prop_map(Event::Sleep),
        any::<u64>().prop_map(|bytes| Event::Mem { bytes }),
        any::<u64>().prop_map(|bytes| Event::Io { bytes }),
        (name(), any::<u64>(), any::<bool>(), any::<bool>()).prop_map(
            |(name, period, absolute, shared)| {
                Event::Timer { name, period: Nanos(period), absolute, shared }
            }
        ),
        name().prop_map(Event::Lock),
        (name(), name()).prop_map(|(cond, mutex)| Event::SignalAndWait { cond, mutex }),
        name().prop_map(Event::Suspend),
        name().prop_map(Event::Resume),
        name().prop_map(Event::Barrier),
        (select(vec![Kind::Thread, Kind::Process]), name())
            .prop_map(|(kind, task)| Event::Create { kind, task }),
        name().prop_map(Event::Exec),
        who().prop_map(Event::Kill),
        (who(), -22..22i8).prop_map(|(who, nice)| Event::SetNice(who, nice)),
        (who(), vec(0..12u32, 0..4)).prop_map(|(who, cpus)| Event::SetAffinity(who, cpus)),
        who().prop_map(|who| Event::SetPolicy(who, Policy::Ext)),
    ]
}

fn rounds() -> impl Strategy<Value = Rounds> {
    prop_oneof![
        Just(Rounds::Forever),
        (0..3u32).prop_map(Rounds::Times),
        any::<u32>().prop_map(Rounds::Times)
    ]
}

fn built() -> impl Strategy<Value = Workload> {
    let attributes =
        || {
            let cgroup = option::of(select(vec!["/", "/a", "/a/b", "a"]));
            (option::weighted(0.2, vec(0..6u32, 1..4)), cgroup).prop_map(|(cpus, cgroup)| {
                Attributes { cpus, cgroup: cgroup.map(str::to_owned), ..Attributes::default() }
            })
        };
    let phase = (attributes(), rounds(), vec(built_event(), 0..3)).prop_map(
        |(attributes, rounds, events)| Phase { name: String::new(), attributes, rounds, events },
    );
    let kind = select(vec![Kind::Thread, Kind::Process]);
    let task = (kind, 0..4u32, attributes(), rounds(), vec(phase, 0..4)).prop_map(
        |(kind, instances, attributes, rounds, phases)| Task {
            name: String::new(),
            kind,
            instances,
            delay: Nanos::ZERO,
            attributes,
            rounds,
            phases,
        },
    );
    vec(task, 0..4).prop_map(|mut tasks| {
        for (i, task) in tasks.iter_mut().enumerate() {
            task.name = format!("t{i}");
        }
        Workload { name: String::new(), process: String::new(), duration: None, tasks }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text(text in "(?s).{0,200}") {
        survives(&text);
    }

    #[test]
    fn any_json_marks(text in r#"[\{\}\[\],:"'\\/*#0-9a-fu\n -]{0,200}"#) {
        survives(&text);
    }

    #[test]
    fn changed_files(changes in vec((any::<usize>(), change()), 1..12)) {
        survives(&apply(SEED, &changes));
    }

    #[test]
    fn weird_values(tasks in vec(vec((key(), value()), 0..6), 0..4), global in value()) {
        let tasks = tasks.into_iter().enumerate().map(|(i, task)| (format!("t{i}"), object(task)));
        survives(&object(vec![
            ("tasks".to_owned(), object(tasks.collect())),
            ("global".to_owned(), global),
        ]));
    }

    #[test]
    fn workloads_built_by_hand(workload in built(), cpus in 1..9usize) {
        if let Ok(program) = workload.compile(cpus) {
            prop_assert_eq!(program.check(), Ok(()));
        }
    }

    #[test]
    fn nearly_right_files(text in file()) {
        survives(&text);
    }
}

#[test]
fn what_is_nearly_right_is_often_right() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let compiled = (0..500)
        .filter(|_| {
            let text = file().new_tree(&mut runner).unwrap().current();
            Workload::parse("f.json", &text).is_ok_and(|workload| workload.compile(8).is_ok())
        })
        .count();
    assert!(compiled > 50, "only {compiled} of 500");
    let compiled = (0..500)
        .filter(|_| built().new_tree(&mut runner).unwrap().current().compile(8).is_ok())
        .count();
    assert!(compiled > 50, "only {compiled} of 500 built by hand");
}
