//! The trace: well-formed, complete, and true to the run.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

fn trace(args: &[&str], status: i32) -> Vec<Value> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("trace.json");
    let output = Command::new(env!("CARGO_BIN_EXE_scxlab"))
        .args(["run"])
        .args(args)
        .arg("--trace")
        .arg(&path)
        .output()
        .expect("the command starts");
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    let bytes = std::fs::read(&path).expect("a trace");
    serde_json::from_slice(&bytes).expect("the trace is a JSON array")
}

fn text<'a>(event: &'a Value, key: &str) -> &'a str {
    event[key].as_str().unwrap_or_else(|| panic!("no {key}: {event}"))
}

fn number(event: &Value, key: &str) -> u64 {
    event[key].as_u64().unwrap_or_else(|| panic!("no {key}: {event}"))
}

/// In ns. Exact: a trace is short enough that a double holds its microseconds with 3 decimals.
fn ts(event: &Value) -> u64 {
    let micros = event["ts"].as_f64().unwrap_or_else(|| panic!("no ts: {event}"));
    (micros * 1_000.0).round() as u64
}

/// Checks the form, and returns how often each name came up.
fn check(events: &[Value]) -> BTreeMap<String, usize> {
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut open: BTreeMap<(u64, u64), Value> = BTreeMap::new();
    let mut last: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    let mut named: BTreeSet<(u64, u64)> = BTreeSet::new();
    for event in events {
        let pid = number(event, "pid");
        if text(event, "ph") == "M" {
            if text(event, "name") == "thread_name" {
                named.insert((pid, number(event, "tid")));
            }
            continue;
        }
        let track = (pid, number(event, "tid"));
        assert!(named.contains(&track), "a track without a name: {event}");
        let at = ts(event);
        let before = last.insert(track, at).unwrap_or(0);
        assert!(before <= at, "time goes back: {event}");
        let global = event["s"] == "g";
        assert!(global || event["args"]["tid"].is_u64(), "no tid: {event}");
        match text(event, "ph") {
            "B" => {
                assert_eq!(open.insert(track, event.clone()), None, "two at once: {event}");
                *names.entry(text(event, "name").to_owned()).or_default() += 1;
            }
            "E" => {
                let begin = open.remove(&track).unwrap_or_else(|| panic!("no begin: {event}"));
                assert_eq!(begin["args"]["tid"], event["args"]["tid"]);
            }
            "i" => *names.entry(text(event, "name").to_owned()).or_default() += 1,
            ph => panic!("unknown phase {ph}"),
        }
    }
    assert!(open.is_empty(), "slices that do not end: {open:?}");
    names
}

#[test]
fn a_clean_run() {
    let events = trace(&["qmap", "--cpus", "2", "--duration", "3s"], 0);
    let names = check(&events);
    for name in ["running", "runnable", "fork", "exec", "exiting", "dead", "pid lost", "killed"] {
        assert!(names.contains_key(name), "no `{name}`: {names:?}");
    }
    assert_eq!(names["qmap attached"], 1);
    assert_eq!(names["qmap detached"], 1);
    assert!(names.keys().any(|name| name.starts_with("nice ")), "{names:?}");
    let exec = events.iter().find(|event| event["name"] == "exec").expect("an exec");
    assert!(exec["args"]["old_pid"].is_u64() && exec["args"]["nonleader"].is_boolean(), "{exec}");
}

#[test]
fn a_stall() {
    let args = ["qmap", "--set", "key=pid", "--workload", "nonleader-exec", "--cpus", "2"];
    let events = trace(&args, 1);
    let names = check(&events);
    assert!(names["missed lookup"] > 0);
    assert!(names["stall"] > 0);
    assert_eq!(names["qmap EJECTED: runnable task stall"], 1);
    let stall = events.iter().find(|event| event["name"] == "stall").expect("a stall");
    // Who stalls was missed before, and waits in one slice from then on.
    let of_it = |event: &&Value| event["args"]["tid"] == stall["args"]["tid"];
    let missed = events.iter().filter(of_it).find(|event| event["name"] == "missed lookup");
    let missed = missed.expect("a missed lookup");
    assert!(ts(missed) < ts(stall));
    let mut waits = events.iter().filter(of_it).filter(|event| event["name"] == "runnable");
    let begin = waits.rfind(|event| ts(event) <= ts(missed)).expect("a slice");
    let runs = |event: &&Value| event["name"] == "running" && ts(event) > ts(begin);
    let next = events.iter().filter(of_it).find(runs);
    assert!(next.is_none_or(|event| ts(event) > ts(stall)), "{next:?}");
}

#[test]
fn the_longest_names_and_largest_machines() {
    let events = trace(&["simple", "--cpus", "64", "--duration", "150ms"], 0);
    check(&events);
}
