//! Compiled schedulers on the engine, by the real command. `cargo xtask bpf` compiles them.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// An object of ours.
fn object(name: &str) -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/bpf");
    let path = Path::new(root).join(format!("{name}.bpf.o"));
    assert!(path.is_file(), "{name} is not compiled: `cargo xtask bpf` does that");
    path.display().to_string()
}

fn scxlab(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_scxlab"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the command starts")
}

/// Runs with `--json -`; the exit status and the report.
fn report(args: &[&str]) -> (Option<i32>, Value) {
    let output = scxlab(&[&["run"], args, &["--json", "-"]].concat());
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(!err.contains("panicked"), "{args:?}: {err}");
    let report = serde_json::from_slice(&output.stdout);
    (output.status.code(), report.unwrap_or_else(|_| panic!("{args:?}: no report: {err}")))
}

/// The debug build's checks after every event take their time.
const SHORT: &[&str] = &["--cpus", "2", "--duration", "500ms"];

#[test]
fn simple_is_clean() {
    let simple = object("simple");
    for workload in ["mixed", "nonleader-exec", "exit-storm", "hogs"] {
        let args = [&[&simple, "--workload", workload], SHORT].concat();
        let (status, report) = report(&args);
        assert_eq!(status, Some(0), "{workload}: {}", report["exit"]);
        assert_eq!(report["exit"]["kind"], 64, "{workload}");
        assert_eq!(report["scheduler"]["name"], "simple");
        assert!(report["counters"]["global"].as_u64() > Some(0), "{workload}: {report}");
    }
}

#[test]
fn the_same_run_is_the_same_bytes() {
    for name in ["simple", "qmap"] {
        let object = object(name);
        let run = |seed| {
            let args = [&["run", &object, "--seed", seed, "--json", "-"], SHORT].concat();
            scxlab(&args).stdout
        };
        let first = run("7");
        assert!(!first.is_empty());
        assert!(first == run("7"), "{name}: two runs with one seed differ");
        assert!(first != run("8"), "{name}: the seed makes no difference");
    }
}

/// The compiled qmap does what its twin in Rust does: the same tasks, in the same order.
#[test]
fn qmap_is_as_its_twin() {
    let qmap = object("qmap");
    for key in ["key=tid", "key=pid"] {
        let args = ["--workload", "nonleader-exec", "--set", key, "--cpus", "2"];
        let (status, compiled) = report(&[&[&*qmap, "--set", "exiting=true"], &args[..]].concat());
        let (twins, twin) = report(&[&["qmap", "--set", "exiting=on"], &args[..]].concat());
        assert_eq!(status, twins, "{key}: {}", compiled["exit"]);
        for part in ["exit", "tasks", "stalled", "dump"] {
            assert_eq!(compiled[part], twin[part], "{key}: {part}");
        }
        // Its user space would ask for no tids; the command sees that it could use them.
        let tids = if key == "key=tid" { &twin["tid"]["lookups"] } else { &twin["tid"]["misses"] };
        assert_eq!(&compiled["tid"]["lookups"], tids, "{key}");
        let counter = |report: &Value, name: &str| report["counters"][name].as_u64();
        for name in ["enqueued", "dispatched", "reenqueued", "lookups_failed"] {
            let count = counter(&compiled, name);
            assert!(count.is_some() && count == counter(&twin, name), "{key}: {name}: {count:?}");
        }
    }
}

/// `--compiled` runs the object of a built-in scheduler, with the options and flags of that.
#[test]
fn a_builtin_scheduler_s_compiled_form_is_the_same() {
    for (name, options) in
        [("qmap", ["key=pid", "exiting=on"]), ("simple", ["order=fifo", "slice_us=3000"])]
    {
        let [first, second] = options;
        let args = ["--workload", "nonleader-exec", "--cpus", "2", "--set", first, "--set", second];
        let (status, compiled) = report(&[&[name, "--compiled"], &args[..]].concat());
        let (twins, twin) = report(&[&[name], &args[..]].concat());
        assert_eq!(status, twins, "{name}: {}", compiled["exit"]);
        for part in ["/scheduler/options", "/exit", "/tasks", "/stalled", "/dump"] {
            assert_eq!(compiled.pointer(part), twin.pointer(part), "{name}: {part}");
        }
    }
    let output =
        scxlab(&["run", "qmap", "--compiled", "--duration", "200ms", "--kernel-abi", "6.16"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with("compiled qmap ran 200 ms on 4 CPUs: clean"), "{text}");
}

#[test]
fn the_demo_is_the_same_with_the_compiled_qmap() {
    let demo = |compiled: &[&str]| {
        let output = scxlab(&[&["demo", "--cpus", "2", "--duration", "10s"], compiled].concat());
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{compiled:?}: {err}");
        String::from_utf8(output.stdout).expect("the story is text")
    };
    let (compiled, rust) = (demo(&["--compiled"]), demo(&[]));
    assert!(compiled.contains("the object that kernels load"), "{compiled}");
    assert!(!rust.contains("the object that kernels load"), "{rust}");
    let told = |story: &str| {
        let table = story.find("keyed by pid   ").expect("there is a table");
        let end = story.find("See it in Perfetto").expect("there is an end");
        story[table..end].to_owned()
    };
    assert_eq!(told(&compiled), told(&rust));
}

#[test]
fn a_map_is_reported_by_its_types() {
    let qmap = object("qmap");
    let args = [&[&*qmap, "--dump-map", ".bss", "--dump-map", "task_slots"], SHORT].concat();
    let (status, report) = report(&args);
    assert_eq!(status, Some(0));
    assert_eq!(report["maps"][".bss"]["enqueued"], report["counters"]["enqueued"]);
    let slots = report["maps"]["task_slots"].as_array().expect("a list");
    assert!(!slots.is_empty());
    for slot in slots {
        assert!(slot["key"]["tid"].as_u64() > Some(0) && slot["value"].is_object(), "{slot}");
    }
    let output = scxlab(&["run", &qmap, "--dump-map", "slots"]);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("there is no such map") && err.contains("task_slots"), "{err}");
}

/// A loader reads its maps when the scheduler has ended, and so does the report.
#[test]
fn what_comes_with_the_end_is_reported() {
    let late = object("late");
    let args = [&[&*late, "--dump-map", ".bss", "--dump-map", ".bss"], SHORT].concat();
    let (status, seen) = report(&args);
    assert_eq!((status, &seen["maps"][".bss"]["ended"]), (Some(0), &1.into()));
    assert_eq!(seen["printed"]["lines"], serde_json::json!(["ended with kind 64"]));
    assert_eq!(seen["late_faults"], Value::Null);
    // What no kernel would let a program do fails, also when the scheduler has ended well.
    let args = [&[&*late, "--set", "fault=true"], SHORT].concat();
    let (status, seen) = report(&args);
    assert_eq!((status, &seen["exit"]["kind"]), (Some(1), &64.into()));
    let faults = seen["late_faults"].to_string();
    assert!(faults.contains("ops.exit: invalid write of 8 bytes at 0x1234567"), "{faults}");
    let output = scxlab(&[&["run"], &args[..]].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("When it had ended") && text.contains("  ended with kind 64"), "{text}");
}

/// Programs at tracepoints see what the engine counts, and ones that user space runs do what they do
/// in the order of the time, whatever that of the command line.
#[test]
fn programs_beside_the_operations_run() {
    let beside = object("beside");
    for workload in ["nonleader-exec", "exit-storm"] {
        let runs = [
            "--prog-run",
            "tune=0600000000000000@400ms",
            "--prog-run",
            "create",
            "--prog-run",
            "tune=0500000000000000",
            "--prog-run",
            "create@200ms",
        ];
        let args = [&[&*beside, "--workload", workload], SHORT, &runs].concat();
        let (status, report) = report(&args);
        assert_eq!(status, Some(0), "{workload}: {}", report["exit"]);
        let counter = |name: &str| report["counters"][name].as_u64().expect("it is counted");
        for (name, tasks) in
            [("forks", "forked"), ("news", "forked"), ("execs", "execs"), ("dead", "exited")]
        {
            assert_eq!(report["tasks"][tasks], counter(name), "{workload}: {name}");
        }
        assert!(counter("wakeups") > 0 && counter("wakings") >= counter("wakeups"), "{workload}");
        assert!(counter("switches") > counter("dead") && counter("migrations") > 0, "{workload}");
        assert_eq!(counter("renames"), counter("execs"), "{workload}");
        assert!(counter("exits") >= counter("dead"), "{workload}");
        assert!((1..=counter("exits")).contains(&counter("last_of_group")), "{workload}");
        for wrong in ["wrong_current", "wrong_state", "wrong_comm", "wrong_pid"] {
            assert_eq!(counter(wrong), 0, "{workload}: {wrong}");
        }
        assert_eq!(counter("tuned"), 11, "{workload}");
        // Before there is a scheduler its functions say ENODEV.
        let returned = serde_json::json!([
            { "name": "tune", "at_ns": 400_000_000, "retval": 11 },
            { "name": "create", "at_ns": null, "retval": -19_i32 as u32 },
            { "name": "tune", "at_ns": null, "retval": 5, "context": "05000000edffffff" },
            { "name": "create", "at_ns": 200_000_000, "retval": 0 },
        ]);
        let ran = report["prog_runs"].as_array().expect("a list");
        for (ran, expected) in ran.iter().zip(returned.as_array().expect("a list")) {
            for key in ["name", "retval"] {
                assert_eq!(ran[key], expected[key], "{workload}: {ran}");
            }
            // A seam may be open at that time.
            let [at, asked] = [&ran["at_ns"], &expected["at_ns"]].map(Value::as_u64);
            assert!(at >= asked && at.is_some() == asked.is_some(), "{workload}: {ran}");
        }
        assert_eq!((ran.len(), &ran[2]["context"]), (4, &returned[2]["context"]), "{workload}");
    }
}

/// As a scheduler's user space says which programs it wants.
#[test]
fn programs_are_chosen() {
    let beside = object("beside");
    let args = ["--without", "on_fork", "--workload", "exit-storm"];
    let (status, report) = report(&[&[&*beside], &args[..], SHORT].concat());
    assert_eq!(status, Some(0), "{}", report["exit"]);
    assert_eq!(report["counters"]["forks"], 0);
    assert_eq!(report["counters"]["news"], report["tasks"]["forked"]);
    // One that is off asks for what there is not.
    let output = scxlab(&["run", &beside, "--with", "on_nothing"]);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{err}");
    for part in ["programs of the kind fentry/do_nothing_at_all (on_nothing)", "--without PROGRAM"]
    {
        assert!(err.contains(part), "{err}");
    }
    let both = ["--with", "on_nothing", "--without", "on_nothing", "--duration", "200ms"];
    assert_eq!(scxlab(&[&["run", &beside], &both[..]].concat()).status.code(), Some(0));
}

/// Which of two schedulers, and all that a user space sets before it loads it.
#[test]
fn a_scheduler_is_chosen_and_set_up() {
    let chosen = object("chosen");
    let output = scxlab(&["run", &chosen]);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("first_ops, second_ops; --ops NAME chooses one"), "{err}");
    let settings = [
        "list=[1,2,4]",
        "layers[7].weight=30",
        "layers[7].mask=0xf0",
        "sized[]=3",
        "sized[2]=41",
        "maps[*]=5",
        "queues[*]=3",
        "nr_long=4",
        "long_array[]=4",
        "long_array[3]=9",
    ];
    let set = settings.iter().flat_map(|setting| ["--set", setting]);
    let run = [&*chosen, "--ops", "second_ops", "--prog-run", "look"].into_iter().chain(set);
    let run: Vec<&str> = run.chain(SHORT.iter().copied()).collect();
    let (status, report) = report(&run);
    assert_eq!(status, Some(0), "{}", report["exit"]);
    let counter = |name: &str| report["counters"][name].as_u64().expect("it is counted");
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
    assert_eq!(seen.map(counter), [7, 30, 0xf0, 42, 5, 3, 9, 1], "{}", report["counters"]);
    assert!(counter("first_enqueued") == 0 && counter("second_enqueued") > 0);
}

/// A kernel without tids: the portable ones are found to the end, and let go at the last switch, by a
/// program at a tracepoint.
#[test]
fn the_portable_tid_runs_as_on_a_kernel_without_tids() {
    let qmap = object("qmap");
    for version in ["6.16", "7.1"] {
        let args = ["--kernel-abi", version, "--set", "key=tid", "--workload", "nonleader-exec"];
        let (status, report) = report(&[&[&*qmap], &args[..], SHORT].concat());
        assert_eq!(status, Some(0), "{version}: {}", report["exit"]);
        let counter = |name: &str| report["counters"][name].as_u64().expect("it is counted");
        assert_eq!((counter("lookups_failed"), &report["tid"]["lookups"]), (0, &Value::from(0)));
        assert!(counter("scx_tid_inserted") > 100, "{version}");
        assert_eq!(report["tasks"]["exited"], counter("scx_tid_removed"), "{version}");
    }
}

#[test]
fn its_variables_are_set_by_name() {
    let simple = object("simple");
    let run = |set: &[&str]| report(&[&[&*simple, "--workload", "hogs"], SHORT, set].concat()).1;
    let (longer, fifo) = (run(&["--set", "slice_us=100000"]), run(&["--set", "order=fifo"]));
    assert_eq!(longer["scheduler"]["options"]["slice_us"], "100000");
    assert!(longer["counters"]["global"].as_u64() < fifo["counters"]["global"].as_u64());
}

/// Seeds in which a missing lock must show, and must not, where callbacks do not overlap.
const SEEDS: u64 = 1000;
/// Seeds in which a lock that is there must do.
const LOCKED: u64 = 25;

fn ring(seed: u64, args: &[&str]) -> (Option<i32>, Value) {
    let (ring, seed) = (object("ring"), seed.to_string());
    let run = ["--workload", "hogs", "--duration", "2s", "--seed", &seed];
    report(&[&[&*ring], &run[..], args].concat())
}

/// A ring that is used without its lock. Where callbacks are left in their middle it loses tasks,
/// and the report says who did that, and where.
#[test]
fn a_missing_lock_shows() {
    let caught = (1..=SEEDS).find_map(|seed| {
        assert_eq!(ring(seed, &["--interleave", "off"]).0, Some(0), "seed {seed}");
        let (status, report) = ring(seed, &["--interleave", "instructions"]);
        (status == Some(1)).then_some((seed, report))
    });
    let (seed, report) = caught.expect("a seed shows it");
    println!("the missing lock shows with seed {seed}");
    assert_eq!(report["exit"]["kind"], 1026, "{}", report["exit"]);
    let races = report["interleave"]["races"].as_array().expect("it was looked for");
    let lost = races.iter().find(|race| {
        let text = |side: &Value| side["text"].as_str().unwrap_or_default().to_owned();
        let sides = race["sides"].as_array().expect("two");
        sides.iter().all(|side| text(side) == "ring->tail++;")
    });
    let lost = lost.expect("the line that loses tasks is named");
    assert!(lost["overwritten"].as_u64() > Some(0), "{lost}");
    assert_ne!(lost["sides"][0]["cpu"], lost["sides"][1]["cpu"]);
    for side in lost["sides"].as_array().expect("two") {
        let source = side["source"].as_str().expect("it was compiled with -g");
        assert!(source.contains("ring.bpf.c:"), "{side}");
        assert_eq!(side["program"], "ring_enqueue");
    }
    assert!(lost["what"].as_str().expect("a text").contains("rings"), "{lost}");
}

#[test]
fn a_lock_that_is_there_does() {
    let mut waited = 0;
    for seed in 1..=LOCKED {
        for mode in ["calls", "instructions"] {
            let (status, report) = ring(seed, &["--set", "locked=1", "--interleave", mode]);
            assert_eq!(status, Some(0), "seed {seed}, {mode}: {}", report["exit"]);
            let part = &report["interleave"];
            assert_eq!((&part["at"], &part["more_races"]), (&mode.into(), &0.into()));
            let none = if mode == "calls" { Value::Null } else { Value::Array(Vec::new()) };
            assert_eq!(part["races"], none, "seed {seed}");
            assert!(part["overlapped"].as_u64() > Some(0), "{part}");
            waited += part["taken_back"].as_u64().unwrap_or(0);
        }
    }
    assert!(waited > 0, "nobody ever waited for the lock");
}

#[test]
fn overlapping_callbacks_are_the_seed_s() {
    let ring = object("ring");
    let run = |mode: &[&str]| {
        let args = ["run", &ring, "--workload", "exit-storm", "--json", "-"];
        scxlab(&[&args[..], SHORT, mode].concat()).stdout
    };
    let modes = ["off", "calls", "instructions"].map(|mode| run(&["--interleave", mode]));
    assert!(modes[0] == run(&[]), "off is what there is without the option");
    assert!(modes[0] != modes[1] && modes[1] != modes[2], "the option makes no difference");
    std::thread::scope(|scope| {
        let again: Vec<_> =
            (0..10).map(|_| scope.spawn(|| run(&["--interleave", "instructions"]))).collect();
        for again in again {
            assert!(modes[2] == again.join().expect("it ends"), "two runs with one seed differ");
        }
    });
}

#[test]
fn what_is_wrong_is_said_in_one_message() {
    let [simple, beside, chosen] = ["simple", "beside", "chosen"].map(object);
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let bytes = std::fs::read(&simple).expect("it is there");
    let half = tempfile::NamedTempFile::with_suffix(".bpf.o").expect("there is room");
    std::fs::write(half.path(), &bytes[..bytes.len() / 2]).expect("there is room");
    let half = half.path().to_str().expect("a name in UTF-8");
    for (args, part) in [
        (&["./no-such.bpf.o"][..], "No such file"),
        (&[manifest], "not a BPF object"),
        (&[half], "not a BPF object"),
        (&[&simple, "--set", "slice=1"], "no variable `slice`; there are: order, slice_us"),
        (&[&simple, "--set", "order=lifo"], "order_vtime, order_fifo"),
        (&["qmap", "--kernel-abi", "7.1"], "only a compiled scheduler"),
        (&["qmap", "--prog-run", "tune"], "only a compiled scheduler"),
        (
            &[&simple, "--prog-run", "tune"],
            "there is no such program of the kind syscall; it has none",
        ),
        (&[&beside, "--prog-run", "tnue"], "of the kind syscall; did you mean `tune`?"),
        (&[&beside, "--prog-run", "on_exit"], "no program of the kind syscall"),
        (&[&beside, "--prog-run", "tune@1h"], "at 3600s the run has ended; it takes 10s"),
        (&[&beside, "--prog-run", "wild=00"], "the context, 1 byte, in wild"),
        (
            &[&chosen, "--ops", "first_ops", "--with", "reach", "--prog-run", "reach"],
            "kfunc 'scx_bpf_no_such_function' is referenced but wasn't resolved, in reach",
        ),
        (&[&beside, "--dump-map", ".bss", "--on", "vm:7.2"], "leave it out, or give --on engine"),
        (&["qmap", "--interleave", "calls"], "only a compiled scheduler"),
        (&[&simple, "--compiled"], "is compiled; leave it out"),
        (&["qmap", "--with", "tune"], "only a compiled scheduler has programs to choose from"),
        (&[&beside, "--without", "on_swich"], "no such program; did you mean `on_switch`?"),
    ] {
        let output = scxlab(&[&["run"], args].concat());
        let err = String::from_utf8(output.stderr).expect("the message is text");
        assert_eq!(output.status.code(), Some(2), "{args:?}: {err}");
        assert!(err.contains(part), "{args:?}: {err}");
        let lines = err.lines().filter(|line| !line.ends_with(" is not loaded"));
        assert_eq!(lines.count(), 1, "{args:?}: {err}");
    }
}
