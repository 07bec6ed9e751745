//! The command on real kernels. Needs QEMU, the agent, the compiled schedulers and the kernels:
//! `cargo xtask test` sees to all that and runs these.

use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// The command with these words. What is on standard error is for people.
fn scxlab(words: &str) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("scxlab"));
    command.args(words.split_whitespace());
    command
}

fn output(words: &str) -> Output {
    scxlab(words).output().expect("the command runs")
}

/// The report of a run, and its exit status.
fn report(words: &str) -> (i32, Value) {
    let output = output(&format!("{words} --accel tcg --json -"));
    let error = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|err| panic!("{words}: {err}: {error}"));
    (output.status.code().expect("it ended by itself"), report)
}

/// Status and message of a command that does not do what it was asked for.
fn failure(command: &mut Command) -> (i32, String) {
    let output = command.output().expect("the command runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().expect("it ended by itself"), error)
}

#[test]
fn keyed_by_pid_it_is_ejected() {
    let (status, report) =
        report("run qmap --set key=pid --workload nonleader-exec --on vm:7.2 --duration 90s");
    assert_eq!((status, &report["exit"]["kind"]), (1, &1026.into()), "{report:#}");
    assert_eq!(report["exit"]["reason"], "runnable task stall");
    assert_eq!((&report["backend"], &report["seed"]), (&"vm".into(), &1.into()));
    assert!(report["kernel"].as_str().is_some_and(|release| release.starts_with("7.2.")));
    assert!(report["tasks"]["lost"].as_u64() > Some(0), "{report:#}");
    assert_eq!(report["tasks"]["lost"], report["stalled"].as_array().map_or(0, Vec::len));
    assert_eq!(report["engine"]["exit"]["kind"], 1026);
    let dump = report["dump"].as_str().expect("there is a dump");
    assert!(dump.contains("runnable task stall") && dump.contains("QMAP FIFO[0]:"), "{dump}");
}

/// By tid, native and portable.
#[test]
fn keyed_by_tid_it_runs_clean() {
    for kernel in ["7.2", "7.1", "6.16"] {
        let (status, report) =
            report(&format!("run qmap --workload nonleader-exec --on vm:{kernel} --duration 15s"));
        assert_eq!((status, &report["exit"]["kind"]), (0, &64.into()), "{kernel}: {report:#}");
        let tasks = &report["tasks"];
        // On a slow machine it may be a few only.
        assert!(tasks["nonleader_execs"].as_u64() > Some(0), "{kernel}: {tasks}");
        assert_eq!((&tasks["lost"], &tasks["leaked"]), (&0.into(), &0.into()), "{kernel}");
        assert_eq!(report["counters"]["lookups_failed"], 0, "{kernel}");
        let native = report["tid"]["issued"].is_null();
        assert_eq!(native, kernel == "7.2", "{kernel}: {}", report["tid"]);
    }
}

#[test]
fn dying_tasks_are_not_lost() {
    let run = "run qmap --workload exit-storm --on vm:7.2 --duration 30s";
    let (status, clean) = report(run);
    assert_eq!((status, &clean["tasks"]["lost"]), (0, &0.into()), "{clean:#}");
}

#[test]
fn simple_runs_a_mixed_workload_on_old_and_new() {
    for kernel in ["7.2", "6.16"] {
        let (status, report) =
            report(&format!("run simple --workload mixed --on vm:{kernel} --duration 5s"));
        assert_eq!((status, &report["exit"]["kind"]), (0, &64.into()), "{kernel}: {report:#}");
        assert!(report["counters"]["global"].as_u64() > Some(0), "{kernel}: {report:#}");
    }
}

/// The same file on the kernel and on the engine, as a kernel of that version.
#[test]
fn a_file_s_run_is_beside_the_engine_s() {
    let object = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/bpf/qmap.bpf.o");
    let run = format!("run {object} --set key=pid --workload nonleader-exec --on vm:7.2");
    let (status, report) = report(&format!("{run} --duration 90s"));
    assert_eq!((status, &report["exit"]["kind"]), (1, &1026.into()), "{report:#}");
    let engine = &report["engine"];
    assert_eq!((&engine["exit"]["kind"], &engine["backend"]), (&1026.into(), &"engine".into()));
    assert!(report["counters"]["lookups_failed"].as_u64() > Some(0), "{report:#}");
    assert!(engine["counters"]["lookups_failed"].as_u64() > Some(0), "{report:#}");
}

/// Programs, variables and maps are chosen on a kernel as on the engine, and what is seen is the same.
#[test]
fn a_scheduler_is_chosen_and_set_up() {
    let object = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/bpf/chosen.bpf.o");
    let set = "--set list=[1,2,4] --set layers[7].weight=30 --set layers[7].mask=0xf0 --set sized[]=3 \
               --set sized[2]=41 --set maps[*]=5 --set queues[*]=3 --set nr_long=4 \
               --set long_array[]=4 --set long_array[3]=9";
    let run = format!("run {object} --ops second_ops {set} --prog-run look --workload mixed");
    let seen = [
        "list_sum",
        "layer_weight",
        "layer_mask",
        "sized_at_2",
        "inner_maps",
        "inner_queues",
        "long_sum",
        "looked_on",
    ];
    for (kernel, more) in [("7.2", ""), ("6.16", "--without second_enqueue")] {
        let (status, report) = report(&format!("{run} --duration 2s --on vm:{kernel} {more}"));
        assert_eq!(status, 0, "{kernel}: {report:#}");
        for counters in [&report["counters"], &report["engine"]["counters"]] {
            let counter = |name: &str| counters[name].as_u64().expect("it is counted");
            assert_eq!(seen.map(counter), [7, 30, 0xf0, 42, 5, 3, 9, 1], "{kernel}: {counters}");
            assert_eq!(counter("first_enqueued"), 0, "{kernel}: {counters}");
            // Without the operation the core enqueues.
            assert_eq!(counter("second_enqueued") > 0, more.is_empty(), "{kernel}: {counters}");
        }
        assert_eq!(report["prog_runs"], report["engine"]["prog_runs"], "{kernel}");
    }
    let (status, message) = failure(&mut scxlab(&format!("run {object} --on vm:7.2 --accel tcg")));
    assert!(status == 2 && message.contains("first_ops, second_ops; --ops"), "{status}: {message}");
}

/// Programs beside the operations run as its user space would have them run.
#[test]
fn programs_are_run_before_and_during_a_run() {
    let object = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/bpf/beside.bpf.o");
    let runs = "--prog-run tune=0600000000000000@1s --prog-run create --prog-run create@500ms \
                --prog-run tune=0500000000000000 --without on_fork";
    let (status, report) =
        report(&format!("run {object} {runs} --workload mixed --duration 2s --on vm:7.2"));
    assert_eq!(status, 0, "{report:#}");
    let ran = report["prog_runs"].as_array().expect("a list");
    let of = |part: &str| ran.iter().map(|ran| ran[part].clone()).collect::<Vec<_>>();
    // Before there is a scheduler its functions say ENODEV.
    assert_eq!(of("retval"), [11, -19_i32 as u32, 0, 5], "{ran:?}");
    assert_eq!(of("name"), ["tune", "create", "create", "tune"]);
    assert_eq!(ran[3]["context"], "05000000edffffff", "{ran:?}");
    for (ran, least) in ran.iter().zip([Some(1_000_000_000), None, Some(500_000_000), None]) {
        let at = ran["at_ns"].as_u64();
        assert!(at >= least && at.is_some() == least.is_some(), "{ran}");
    }
    assert_eq!(
        (&report["counters"]["tuned"], &report["counters"]["forks"]),
        (&11.into(), &0.into())
    );
    assert!(report["counters"]["execs"].as_u64() > Some(0), "{}", report["counters"]);
    for (options, says) in [
        ("--prog-run on_exit", "--prog-run on_exit: there is no such program of the kind syscall"),
        ("--prog-run tune@1h", "--prog-run tune: at 3600s the run has ended; it takes 10s"),
        ("--with on_exti", "--with on_exti: "),
    ] {
        let run = format!("run {object} {options} --on vm:7.2 --accel tcg");
        let (status, message) = failure(&mut scxlab(&run));
        assert!(status == 2 && message.contains(says), "{options}: {status}: {message}");
    }
}

#[test]
fn the_demo_shows_it() {
    let output = output("demo --on vm:7.2 --accel tcg --duration 20s");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("EJECTED") && text.contains("clean") && text.contains("Linux 7.2."));
}

/// All that can be missing, each with the way to get it.
#[test]
fn what_is_missing_is_named() {
    let run = "run qmap --on vm:7.2 --accel tcg --duration 1s";
    for (variable, value, says) in [
        ("SCXLAB_QEMU", "/no/such/qemu", "apt-get install qemu-system-x86"),
        ("SCXLAB_AGENT", "/no/such/agent", "cargo xtask agent"),
        ("SCXLAB_BPF", "/no/such/directory", "cargo xtask bpf"),
    ] {
        let (status, message) = failure(scxlab(run).env(variable, value));
        assert_eq!(status, 3, "{variable}: {message}");
        assert!(message.contains(says) && message.contains(value), "{variable}: {message}");
    }
    let (status, message) = failure(&mut scxlab("run qmap --on vm:99.1"));
    assert!(status == 3 && message.contains("kernels fetch 99.1"), "{status}: {message}");
    let (status, message) = failure(&mut scxlab("run no/such.bpf.o --on vm:7.2"));
    assert!(status == 2 && message.contains("no/such.bpf.o"), "{status}: {message}");
}

#[test]
fn what_a_kernel_cannot_do_is_refused() {
    for (options, says) in [
        ("--trace t.json", "--trace"),
        ("--hz 100", "--hz"),
        ("--pid-max 400", "--pid-max"),
        ("--cpus 65", "at most 64"),
        ("--cpus 3 --smt 2", "--smt 2"),
        ("--set key=colour", "colour"),
    ] {
        let (status, message) = failure(&mut scxlab(&format!("run qmap --on vm:7.2 {options}")));
        assert_eq!(status, 2, "{options}: {message}");
        assert!(message.contains(says), "{options}: {message}");
    }
}

/// An agent that ends at once takes the kernel with it, since it is the first process.
#[test]
fn a_panic_is_told_with_the_kernel_s_last_lines() {
    let mut command = scxlab("run qmap --on vm:7.2 --accel tcg --duration 1s");
    let (status, message) = failure(command.env("SCXLAB_AGENT", "/bin/true"));
    assert_eq!(status, 3, "{message}");
    assert!(message.contains("kernel panicked"), "{message}");
    assert!(message.contains("Attempted to kill init!"), "{message}");
}

/// A file that is a scheduler by its name only.
#[test]
fn what_is_no_object_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("not.bpf.o");
    std::fs::write(&file, "no ELF").expect("it is written");
    let run = format!("run {} --on vm:7.2 --accel tcg --duration 1s", file.display());
    let (status, message) = failure(&mut scxlab(&run));
    assert_eq!(status, 2, "{message}");
    let says = format!("{}: not a BPF object", file.display());
    assert!(message.contains(&says), "{message}");
}

/// The same for what is set in a file of one's own: its types say what there is.
#[test]
fn what_an_object_does_not_have_is_named() {
    let target = assert_cmd::cargo::cargo_bin!("scxlab").ancestors().nth(2).expect("a directory");
    let qmap = target.join("bpf/qmap.bpf.o").display().to_string();
    for (set, says) in [
        ("colour=1", "there is no variable `colour`; there are: "),
        ("key=colour", "none of key_tid, key_pid"),
        ("slice_us=-1", "not a number from 0 to "),
    ] {
        let run = format!("run {qmap} --set {set} --on vm:7.2 --accel tcg --duration 1s");
        let (status, message) = failure(&mut scxlab(&run));
        assert_eq!(status, 2, "{set}: {message}");
        assert!(message.contains(&qmap) && message.contains(says), "{set}: {message}");
    }
}

/// Ctrl-C ends the guest too, and takes away what it needed.
#[test]
fn an_interrupt_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = scxlab("run qmap --on vm:7.2 --accel tcg --duration 60s");
    command.env("TMPDIR", dir.path()).stderr(Stdio::piped()).stdout(Stdio::null());
    let child = command.spawn().expect("it starts");
    let begin = Instant::now();
    while std::fs::read_dir(dir.path()).expect("it is there").next().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(120), "no guest is started");
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_secs(2));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("it is there");
    let output = child.wait_with_output().expect("it ends");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert!(message.contains("interrupted"), "{message}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("it is there").count(), 0);
    let left = dir.path().display().to_string();
    let guests = std::fs::read_dir("/proc").expect("there is /proc").flatten().filter(|process| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&left)
    });
    assert_eq!(guests.count(), 0, "a guest is left");
}
