//! The real command: what it prints, what it writes, and how it exits.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn scxlab(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_scxlab"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the command starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the output is text")
}

fn status(output: &Output) -> i32 {
    output.status.code().expect("it exits by itself")
}

/// Runs with `--json -`; the exit status and the report.
fn report(args: &[&str]) -> (i32, Value) {
    let output = scxlab(&[&["run"], args, &["--json", "-"]].concat());
    assert_eq!(text(&output.stderr), "");
    let report = serde_json::from_slice(&output.stdout).expect("standard output is JSON, alone");
    (status(&output), report)
}

const BY_PID: &[&str] =
    &["qmap", "--workload", "nonleader-exec", "--cpus", "2", "--set", "key=pid"];

/// Where another test looks on, the debug build's checks after every event take too long.
const SHORT: &[&str] = &["--cpus", "2", "--duration", "300ms"];

#[test]
fn by_pid_it_is_ejected() {
    let (status, report) = report(BY_PID);
    assert_eq!(status, 1);
    assert_eq!(report["exit"]["kind"], 1026);
    assert_eq!(report["exit"]["reason"], "runnable task stall");
    let msg = report["exit"]["msg"].as_str().expect("a text");
    assert!(msg.contains("] failed to run for "), "{msg}");
    assert_eq!(report["scheduler"]["key"], "pid");
    assert_eq!(report["scheduler"]["flags"], serde_json::json!(["SCX_OPS_ENQ_EXITING"]));
    let stalled = report["stalled"].as_array().expect("a list");
    assert!(!stalled.is_empty());
    assert_eq!(report["tasks"]["lost"], stalled.len());
    for task in stalled {
        assert!(task["runnable_for_ns"].as_u64().expect("a number") >= 4_996_000_000, "{task}");
        let explanation = task["explanation"].as_str().expect("a text");
        assert!(explanation.contains(&format!("tid {}", task["tid"])), "{explanation}");
        assert!(explanation.contains("ops.dispatch"), "{explanation}");
    }
    let at = report["exit"]["at_ns"].as_u64().expect("a number");
    assert!((5_000_000_000..8_000_000_000).contains(&at), "{at}");
    assert!(report["dump"].as_str().expect("a dump").contains("triggered exit kind 1026"));
}

#[test]
fn by_tid_it_runs_clean() {
    let args = ["qmap", "--workload", "nonleader-exec", "--cpus", "2", "--duration", "2s"];
    let (status, report) = report(&args);
    assert_eq!(status, 0);
    assert_eq!(report["exit"]["kind"], 64);
    assert_eq!(report["exit"]["reason"], "unregistered from user space");
    assert_eq!(report["exit"]["at_ns"], 2_000_000_000);
    assert_eq!(report["tasks"]["lost"], 0);
    assert_eq!(report["stalled"], serde_json::json!([]));
    assert_eq!(report["dump"], Value::Null);
    let tid = |key: &str| report["tid"][key].as_u64().expect("a number");
    assert_eq!(tid("live"), tid("inserted") - tid("removed"));
    assert_eq!(tid("misses"), 0);
    assert!(tid("lookups") > 0);
    assert!(report["tasks"]["nonleader_execs"].as_u64() > Some(100));
}

#[test]
fn the_report_has_its_keys_in_order() {
    let output = scxlab(&[&["run", "qmap", "--json", "-"], SHORT].concat());
    let json = text(&output.stdout);
    let keys = |indent: &str| -> Vec<String> {
        let of_object = |line: &str| {
            let rest = line.strip_prefix(indent)?.strip_prefix('"')?;
            Some(rest.split_once("\":")?.0.to_owned())
        };
        json.lines().filter_map(of_object).collect()
    };
    assert_eq!(
        keys("  "),
        [
            "scheduler",
            "backend",
            "kernel",
            "seed",
            "cpus",
            "duration_ns",
            "exit",
            "tasks",
            "tid",
            "stalled",
            "counters",
            "events",
            "workload",
            "dump"
        ]
    );
    let inner = [
        "name",
        "key",
        "flags",
        "options",
        "kind",
        "reason",
        "msg",
        "at_ns",
        "forked",
        "exited",
        "execs",
        "nonleader_execs",
        "lost",
        "forks_failed",
        "issued",
        "inserted",
        "removed",
        "lookups",
        "misses",
        "live",
    ];
    assert_eq!(keys("    ")[..inner.len()], inner);
    assert_eq!(keys("      "), ["key", "exiting", "slice_us", "batch", "max_tasks"]);
}

#[test]
fn options_are_reported_as_they_count() {
    let set = ["--set", "slice_us=100", "--set", "slice_us=0005000", "--set", "exiting=off"];
    let (_, report) = report(&[&["qmap"], SHORT, &set].concat());
    let options = &report["scheduler"]["options"];
    assert_eq!(options["slice_us"], "5000");
    assert_eq!(options["exiting"], "off");
    assert_eq!(options["key"], "tid");
    let (_, report) = self::report(&[&["simple"], SHORT].concat());
    assert_eq!(report["scheduler"]["key"], Value::Null);
    assert_eq!(report["tid"]["inserted"], 0);
    assert!(report["tid"]["issued"].as_u64() > Some(0));
}

#[test]
fn people_see_the_verdict_first() {
    let output = scxlab(&[&["run", "--dump"], BY_PID].concat());
    let out = text(&output.stdout);
    assert_eq!(status(&output), 1);
    assert_eq!(text(&output.stderr), "");
    let first = out.lines().next().expect("a line");
    assert!(first.starts_with("qmap key=pid was EJECTED at 7.5"), "{out}");
    assert!(out.contains("(exit kind 1026)"), "{out}");
    assert!(out.contains("lost: "), "{out}");
    assert!(out.contains("ops.dispatch on CPU"), "{out}");
    assert!(out.contains("CPU states"), "{out}");
    assert!(!out.contains('\x1b'), "no colour in a pipe");
    let before_dump = out.split("Debug dump").next().expect("a part");
    for line in before_dump.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    let output = scxlab(&[&["run", "simple"], SHORT].concat());
    let out = text(&output.stdout);
    assert!(out.starts_with("simple ran 300 ms on 2 CPUs: clean\n"), "{out}");
    assert!(out.contains("forked") && out.contains("--trace FILE"), "{out}");
}

#[test]
fn the_seed_decides() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = |seed: &str, name: &str| {
        let trace = dir.path().join(name);
        let trace = trace.to_str().expect("text");
        let args = ["run", "qmap", "--seed", seed, "--json", "-", "--trace", trace];
        let output = scxlab(&[&args[..], SHORT].concat());
        assert_eq!(status(&output), 0, "{}", text(&output.stderr));
        (output.stdout, std::fs::read(trace).expect("a trace"))
    };
    let (json, trace) = run("7", "a.json");
    assert_eq!((&json, &trace), (&run("7", "b.json").0, &run("7", "b.json").1));
    let (other_json, other_trace) = run("8", "c.json");
    assert_ne!(json, other_json);
    assert_ne!(trace, other_trace);
    let untraced = scxlab(&[&["run", "qmap", "--seed", "7", "--json", "-"], SHORT].concat());
    assert_eq!(json, untraced.stdout, "watching changes nothing");
}

#[test]
fn json_to_a_file_leaves_the_text() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("report.json");
    let path = path.to_str().expect("text");
    let output = scxlab(&[&["run", "qmap", "--json", path], SHORT].concat());
    assert!(text(&output.stdout).starts_with("qmap ran 300 ms"));
    let alone = scxlab(&[&["run", "qmap", "--json", "-"], SHORT].concat());
    assert_eq!(std::fs::read(path).expect("a report"), alone.stdout);
}

#[test]
fn a_run_is_longer_than_its_beginning() {
    // The workload starts after 100 ms: a shorter run would find nothing wrong with anything.
    for time in ["1ns", "100us", "100ms"] {
        let output = scxlab(&["run", "qmap", "--duration", time]);
        let err = text(&output.stderr);
        assert_eq!(status(&output), 2, "{time}: {err}");
        assert!(err.contains("begins at 100ms"), "{time}: {err}");
    }
    let (status, report) = report(&["qmap", "--duration", "101ms"]);
    assert_eq!((status, &report["exit"]["kind"]), (0, &64.into()), "{report}");
}

#[test]
fn a_scheduler_that_does_not_get_going_is_ejected() {
    let (status, report) = report(&[&["qmap", "--set", "max_tasks=1"], SHORT].concat());
    assert_eq!(status, 1, "{report}");
    assert_eq!(report["exit"]["kind"], 1025);
    assert_eq!(report["exit"]["reason"], "scx_bpf_error");
    let msg = report["exit"]["msg"].as_str().expect("a text");
    assert!(msg.contains("max_tasks=1"), "{msg}");
}

#[test]
fn machines_of_other_shapes() {
    let shape = ["--cpus", "8", "--smt", "2", "--llcs", "2", "--hz", "1000", "--pid-max", "400"];
    let run = ["qmap", "--workload", "fork-storm", "--duration", "200ms"];
    let (status, report) = report(&[&run[..], &shape].concat());
    assert_eq!((status, &report["cpus"]), (0, &8.into()));
}

#[test]
fn the_demo_tells_the_story() {
    let output = scxlab(&["demo", "--cpus", "2", "--duration", "11s"]);
    let out = text(&output.stdout);
    assert_eq!(status(&output), 0, "{out}");
    assert_eq!(text(&output.stderr), "");
    assert!(out.lines().count() <= 40, "one screen: {out}");
    let row = |title: &str| -> Vec<String> {
        let line = out.lines().find(|line| line.trim_start().starts_with(title));
        let line = line.unwrap_or_else(|| panic!("no {title}: {out}")).trim_start();
        let cells = line[title.len()..].split("  ").map(str::trim);
        cells.filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
    };
    assert_eq!(row("keyed by pid"), ["keyed by tid"]);
    assert_eq!(row("outcome"), ["EJECTED", "clean"]);
    assert_eq!(row("exit kind"), ["1026", "64"]);
    assert_eq!(row("ejected at")[1], "not in 11 s");
    let number = |cell: &str| -> u64 { cell.replace(',', "").parse().expect("a number") };
    assert!(number(&row("non-leader execs")[1]) > 1_000, "{out}");
    assert!(number(&row("tasks lost")[0]) > 0, "{out}");
    assert_eq!(row("tasks lost")[1], "0");
    assert!(number(&row("failed lookups")[0]) > 0, "{out}");
    assert_eq!(row("failed lookups")[1], "0");
    let flat = out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("Keyed by pid, the first task lost: "), "{out}");
    assert!(flat.contains(" later, by the watchdog."), "{out}");
    let command = "scxlab run qmap --set key=pid --workload nonleader-exec --cpus 2 \
                   --duration 11s --trace stall.json";
    assert!(out.contains(command), "{out}");
}

#[test]
fn a_demo_that_is_too_short_says_so() {
    let output = scxlab(&["demo", "--cpus", "2", "--duration", "1s"]);
    let err = text(&output.stderr);
    assert_eq!(status(&output), 2, "{err}");
    assert!(err.contains("at least 10s"), "{err}");
}

#[test]
fn the_claims_are_listed() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("claims.json");
    let output = scxlab(&["claims", "--json", path.to_str().expect("text")]);
    let out = text(&output.stdout);
    assert_eq!(status(&output), 0, "{out}");
    assert!(out.starts_with("C1   held "), "{out}");
    assert!(
        out.ends_with("16 claims on the engine: 16 held, 0 broken, 0 not applicable\n"),
        "{out}"
    );
    let json: Value = serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON");
    assert_eq!(json["place"], "engine");
    let claims = json["claims"].as_array().expect("a list");
    for (i, claim) in claims.iter().enumerate() {
        assert_eq!(claim["claim"], format!("C{}", i + 1));
        assert_eq!(claim["verdict"], "held");
        assert!(claim["title"].is_string() && claim["evidence"].is_string(), "{claim}");
    }
    assert_eq!(claims.len(), 16);
}

#[test]
fn help_is_enough_to_start() {
    let output = scxlab(&["--help"]);
    assert_eq!(status(&output), 0);
    let out = text(&output.stdout);
    for part in ["scxlab demo", "scxlab run qmap", "scxlab claims", "completions", "Exit status"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let out = text(&scxlab(&["run", "--help"]).stdout);
    for part in ["Machine:", "--pid-max", "key=tid", "order=vtime", "nonleader-exec", "mixed"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    for command in ["run", "demo", "claims", "completions"] {
        let out = text(&scxlab(&[command, "--help"]).stdout);
        assert!(out.contains(&format!("scxlab {command} ")) && out.contains("xample"), "{out}");
    }
    let out = text(&scxlab(&["--version"]).stdout);
    assert_eq!(out, format!("scxlab {}\n", env!("CARGO_PKG_VERSION")));
    for shell in ["bash", "zsh", "fish"] {
        let output = scxlab(&["completions", shell]);
        assert_eq!(status(&output), 0);
        assert!(text(&output.stdout).contains("--workload") || shell == "fish");
    }
}

/// A reader that goes away early is no reason to complain.
#[test]
fn a_closed_pipe_is_quiet() {
    for args in [&["run", "--help"][..], &["completions", "bash"], &["run", "qmap", "--json", "-"]]
    {
        let short = if args.len() > 3 { SHORT } else { &[] };
        let mut child = Command::new(env!("CARGO_BIN_EXE_scxlab"))
            .args([args, short].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!((status(&output), text(&output.stderr)), (0, String::new()), "{args:?}");
    }
}

#[test]
fn a_full_disk_is_noticed() {
    if !Path::new("/dev/full").exists() {
        println!("skipped: there is no /dev/full");
        return;
    }
    for args in [["--json", "/dev/full"], ["--trace", "/dev/full"]] {
        let output = scxlab(&[&["run", "qmap"], SHORT, &args].concat());
        assert_eq!(status(&output), 2);
        let err = text(&output.stderr);
        assert!(err.starts_with("scxlab: --") && err.contains("cannot write it: "), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    let full = std::fs::File::create("/dev/full").expect("it opens");
    let output = Command::new(env!("CARGO_BIN_EXE_scxlab"))
        .args([&["run", "qmap"], SHORT].concat())
        .stdout(full)
        .output()
        .expect("the command starts");
    assert_eq!(status(&output), 2);
    assert!(text(&output.stderr).contains("standard output: "));
}

/// The samples of rt-app's tutorial, if they are there.
#[test]
fn workloads_of_rt_app_run() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let near = here.ancestors().map(|dir| dir.join("shared/rt-app-tutorial"));
    let Some(dir) = near.into_iter().find(|dir| dir.is_dir()) else {
        println!("skipped: there is no shared/rt-app-tutorial");
        return;
    };
    let mut files: Vec<PathBuf> = dir
        .read_dir()
        .expect("it is readable")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    for file in files {
        let file = file.to_str().expect("text");
        let args = ["simple", "--workload", file, "--cpus", "8", "--duration", "200ms"];
        let (status, report) = report(&args);
        assert_eq!(status, 0, "{file}: {report}");
        assert_eq!(report["workload"], file);
        assert!(report["tasks"]["forked"].as_u64() > Some(0), "{file}");
    }
}

#[test]
fn a_file_says_how_long_it_runs() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("short.json");
    let path = path.to_str().expect("text");
    let tasks = r#""tasks": { "t": { "run": 1000, "sleep": 1000 } }"#;
    std::fs::write(path, format!(r#"{{ {tasks}, "global": {{ "duration": 1 }} }}"#))
        .expect("written");
    let (_, own) = report(&["simple", "--workload", path]);
    assert_eq!(own["duration_ns"], 1_000_000_000);
    let (_, asked) = report(&["simple", "--workload", path, "--duration", "200ms"]);
    assert_eq!(asked["duration_ns"], 200_000_000);
    std::fs::write(path, format!(r#"{{ {tasks}, "global": {{ "duration": 100000 }} }}"#))
        .expect("written");
    let output = scxlab(&["run", "simple", "--workload", path]);
    let err = text(&output.stderr);
    assert_eq!(status(&output), 2, "{err}");
    assert!(err.contains(path) && err.contains("global.duration is 100000 s"), "{err}");
}
