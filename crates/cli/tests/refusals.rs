//! What is refused: with which exit status, and with one message that shows the way out.

use std::path::Path;
use std::process::{Command, Stdio};

/// Runs the command, which must refuse with `status` and one message that has all `parts`.
fn refuses(args: &[&str], status: i32, parts: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_scxlab"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the command starts");
    let err = String::from_utf8(output.stderr).expect("the message is text");
    assert_eq!(output.status.code(), Some(status), "{args:?}: {err}");
    assert!(output.stdout.is_empty(), "{args:?}");
    assert!(!err.contains("panicked"), "{args:?}: {err}");
    for part in parts {
        assert!(err.contains(part), "{args:?}: no `{part}` in: {err}");
    }
    // The parser of the command line appends its usage to its message.
    let messages = err.lines().filter(|l| l.starts_with("scxlab: ") || l.starts_with("error: "));
    assert_eq!(messages.count(), 1, "{args:?}: {err}");
    if err.starts_with("scxlab: ") {
        assert_eq!(err.lines().count(), 1, "{args:?}: {err}");
    }
}

#[test]
fn names_that_are_not_there() {
    for (args, parts) in [
        (&["qmpa"][..], &["unknown scheduler `qmpa`", "did you mean `qmap`?"][..]),
        (&["zzzzzz"], &["unknown scheduler `zzzzzz`", "qmap, simple"]),
        (&[""], &["unknown scheduler"]),
        (&["qmap", "--set", "kye=pid"], &["no option `kye`", "did you mean `key`?"]),
        (&["simple", "--set", "key=pid"], &["simple has no option `key`", "order"]),
        (&["qmap", "--set", "key=tgid"], &["`key=tgid`", "tid, pid"]),
        (&["qmap", "--set", "batch=0"], &["`batch=0`", "1 to 32"]),
        (&["qmap", "--set", "batch="], &["`batch=`"]),
        (&["qmap", "--set", "key"], &["'key'", "--set", "key=pid"]),
        (&["qmap", "--set", "=pid"], &["'=pid'", "--set"]),
        (&["qmap", "--workload", "mixde"], &["`mixde`", "did you mean `mixed`?", "pingpong"]),
        (&["qmap", "--workload", "zzzzzz"], &["`zzzzzz`", "mixed", "or give a file"]),
        (&["qmap", "--workload", ""], &["built-in workload"]),
        (&["qmap", "--workload", "no/such.json"], &["no/such.json", "No such file"]),
        (&["qmap", "--workload", "/"], &["workload /", "directory"]),
        (&["qmap", "--on", "moon"], &["'moon'", "vm:KERNEL"]),
        (&["qmap", "--on", "vm:"], &["'vm:'", "vm:7.2"]),
    ] {
        refuses(&[&["run"], args].concat(), 2, parts);
    }
}

#[test]
fn what_only_a_vm_has() {
    for (args, option) in [
        (&["run", "qmap", "--memory", "512"][..], "--memory"),
        (&["run", "qmap", "--accel", "tcg"], "--accel"),
        (&["demo", "--accel", "tcg"], "--accel"),
        (&["claims", "--accel", "kvm"], "--accel"),
        (&["claims", "--on", "host", "--accel", "tcg"], "--accel"),
    ] {
        refuses(args, 2, &[&format!("{option}: only a VM has it"), "--on vm:KERNEL"]);
    }
}

#[test]
fn numbers_out_of_range() {
    for (option, value, parts) in [
        ("--cpus", "0", &["1..=1024"][..]),
        ("--cpus", "1000000", &["1..=1024"]),
        ("--cpus", "-1", &["--cpus"]),
        ("--cpus", "99999999999999999999999", &["--cpus"]),
        ("--cpus", "four", &["--cpus"]),
        ("--duration", "0", &["more than 0"]),
        ("--duration", "0ms", &["more than 0"]),
        ("--duration", "25h", &["24h"]),
        ("--duration", "10 parsecs", &["500ms"]),
        ("--duration", "", &["--duration"]),
        ("--seed", "-1", &["--seed"]),
        ("--seed", "18446744073709551616", &["--seed"]),
        ("--smt", "3", &["3 threads a core do not divide 4 CPUs"]),
        ("--llcs", "3", &["3 caches do not divide 4 cores"]),
        ("--smt", "0", &["--smt"]),
        ("--hz", "0", &["1..=1000"]),
        ("--hz", "1001", &["1..=1000"]),
        ("--pid-max", "300", &["301..=4194304"]),
        ("--pid-max", "4194305", &["301..=4194304"]),
    ] {
        let given = format!("{option}={value}");
        refuses(&["run", "qmap", &given], 2, parts);
    }
    refuses(&["demo", "--duration=0"], 2, &["more than 0"]);
    refuses(&["demo", "--cpus=1"], 2, &["2..=1024"]);
    refuses(&["claims", "--seed=x"], 2, &["--seed"]);
}

#[test]
fn command_lines_that_make_no_sense() {
    refuses(&["demoo"], 2, &["demoo", "'demo'"]);
    refuses(&["run"], 2, &["<SCHEDULER>"]);
    refuses(&["run", "qmap", "simple"], 2, &["simple"]);
    refuses(&["run", "qmap", "--bogus"], 2, &["--bogus"]);
    refuses(&["completions", "csh"], 2, &["csh", "bash"]);
    refuses(&["run", "qmap", "--trace", "-"], 2, &["a trace needs a file"]);
}

#[test]
fn compiled_schedulers_that_are_not_there() {
    for file in ["scx_simple.bpf.o", "./qmap", "/no/such.bpf.o"] {
        refuses(&["run", file], 2, &[file, "No such file"]);
        refuses(&["run", file, "--on", "vm:7.2"], 2, &[file, "there is no such file"]);
    }
}

fn written(dir: &Path, name: &str, text: impl AsRef<[u8]>) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("the file is written");
    path.to_str().expect("text").to_owned()
}

#[test]
fn workload_files_that_are_wrong() {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text, parts) in [
        (
            "key.json",
            "{\n \"tasks\": {\n  \"t\": {\n   \"rnu\": 5\n} } }",
            &[":4", "tasks.t.rnu"][..],
        ),
        ("type.json", "{ \"tasks\": {\n \"t\": { \"run\": \"x\" } } }", &[":2", "tasks.t.run"]),
        ("cut.json", "{ \"tasks\": {\n \"t\": {\n", &["cut.json:"]),
        ("empty.json", "", &["empty.json"]),
        ("text.json", "no JSON at all", &["text.json:1"]),
        ("cpus.json", "{ \"tasks\": { \"t\": { \"cpus\": [9], \"run\": 5 } } }", &["`t`", "CPU"]),
    ] {
        let path = written(dir.path(), name, text);
        let parts: Vec<_> = [path.as_str()].into_iter().chain(parts.iter().copied()).collect();
        refuses(&["run", "qmap", "--workload", &path], 2, &parts);
    }
    let path = written(dir.path(), "bytes.json", b"{\n\xff\xfe}");
    refuses(&["run", "qmap", "--workload", &path], 2, &[&path, "line 2 is not UTF-8"]);
    if Path::new("/dev/zero").exists() {
        refuses(&["run", "qmap", "--workload", "/dev/zero"], 2, &["/dev/zero", "bytes"]);
    }
}

#[test]
fn files_that_cannot_be_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let directory = dir.path().to_str().expect("text");
    for option in ["--json", "--trace"] {
        // A whole day: refused before it runs.
        let run = ["run", "qmap", "--duration", "24h", option];
        refuses(&[&run[..], &["/no/such/dir/x"]].concat(), 2, &[option, "/no/such/dir/x"]);
        refuses(&[&run[..], &[directory]].concat(), 2, &[option, directory]);
        refuses(&[&run[..], &[""]].concat(), 2, &[option]);
    }
    refuses(&["claims", "--json", directory], 2, &["--json", directory]);
    let same = dir.path().join("same.json");
    let same = same.to_str().expect("text");
    let parts = ["--json and --trace name the same file"];
    refuses(&["run", "qmap", "--json", same, "--trace", same], 2, &parts);
}

#[test]
fn the_workload_is_not_overwritten() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = "{ \"tasks\": { \"t\": { \"run\": 5 } } }";
    let path = written(dir.path(), "w.json", text);
    for option in ["--json", "--trace"] {
        refuses(&["run", "qmap", "--workload", &path, option, &path], 2, &["is the workload"]);
    }
    assert_eq!(std::fs::read_to_string(&path).expect("it is there"), text);
}

/// A wrong command line leaves files alone that a run would replace.
#[test]
fn a_refused_run_writes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = written(dir.path(), "report.json", "old");
    refuses(&["run", "qmap", "--smt", "3", "--json", &path], 2, &["3 threads"]);
    refuses(&["run", "qmap", "--set", "batch=0", "--json", &path], 2, &["batch"]);
    refuses(&["claims", "--accel", "tcg", "--json", &path], 2, &["--accel"]);
    assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "old");
}
