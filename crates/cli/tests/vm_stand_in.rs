//! The command's side of a VM: with an image that boots nowhere, objects that nobody loads, and a
//! shell script in QEMU's place.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use scxlab_kernels::synthetic;
use scxlab_protocol::{Counts, Exit, Finding, Hello, Kernel, Lost, Record, Verdict};
use tempfile::TempDir;

/// One at a time: an executable that a fork of another test still has open cannot be executed.
static ONE: Mutex<()> = Mutex::new(());

/// All files that the command asks for.
struct Lab {
    dir: TempDir,
    _one: MutexGuard<'static, ()>,
}

impl Lab {
    /// QEMU is this script.
    fn new(qemu: &str) -> Self {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let lab = Self { dir: tempfile::tempdir().expect("a directory"), _one: one };
        lab.write("bzImage", synthetic::kernel("99.1.2", &["sched_ext_ops"]));
        lab.write("w.json", r#"{ "tasks": { "t": { "run": 5000 } } }"#);
        for name in ["qmap", "watch", "lookup", "tree"] {
            lab.write(&format!("{name}.bpf.o"), "an object");
        }
        let qemu = lab.write("qemu", format!("#!/bin/sh\nhere=${{0%/*}}\n{qemu}\n"));
        fs::set_permissions(qemu, fs::Permissions::from_mode(0o755)).expect("it is ours");
        fs::create_dir(lab.path("tmp")).expect("created");
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), content).expect("written");
        self.path(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("it is there")
    }

    /// The command, in the directory with all these files.
    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scxlab"));
        command
            .args(words.split_whitespace())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .env("SCXLAB_BPF", self.dir.path())
            .env("SCXLAB_AGENT", "/bin/true")
            .env("SCXLAB_QEMU", self.path("qemu"))
            .env("TMPDIR", self.path("tmp"));
        command
    }

    /// Status and message; nothing temporary is left.
    fn failure(&self, words: &str) -> (Option<i32>, String) {
        let output = self.command(words).output().expect("it runs");
        let left = fs::read_dir(self.path("tmp")).expect("it is there").count();
        assert_eq!(left, 0, "{words}");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn what_a_run_reads_is_not_overwritten() {
    let lab = Lab::new("exit 1");
    for (file, what) in [("w.json", "workload"), ("qmap.bpf.o", "scheduler"), ("bzImage", "kernel")]
    {
        let before = lab.read(file);
        // By another name.
        let name = Path::new("tmp/..").join(file);
        let words = format!(
            "run ./qmap.bpf.o --on vm:./bzImage --accel tcg --workload w.json --json {}",
            name.display()
        );
        let (status, message) = lab.failure(&words);
        assert_eq!(status, Some(2), "{message}");
        let says = format!("{}: that is the {what}; give another name", name.display());
        assert!(message.contains(&says), "{message}");
        assert!(lab.read(file) == before, "{file} is another");
    }
    let claims = "claims --accel tcg --on";
    for (words, status, says) in [
        (format!("{claims} vm:./bzImage --json bzImage"), 2, "bzImage: that is the kernel"),
        // Nor is the last report, if there will be none.
        (format!("{claims} vm:99.1 --json w.json"), 3, "kernels fetch 99.1"),
    ] {
        let before = [lab.read("bzImage"), lab.read("w.json")];
        let (found, message) = lab.failure(&words);
        assert!(found == Some(status) && message.contains(says), "{found:?}: {message}");
        assert!([lab.read("bzImage"), lab.read("w.json")] == before, "{words}");
    }
}

/// The first word of this command's own agent, and then these.
fn said(records: &[Record]) -> String {
    let release = "99.1.2".to_owned();
    let kernel = Kernel { release, cpus: 2, sched_ext: true, native_tid: true };
    let hello = Record::Hello(Hello::on(kernel));
    let line = |record| serde_json::to_string(record).expect("a record") + "\n";
    std::iter::once(&hello).chain(records).map(line).collect()
}

/// What is said there is lost; what is printed is not.
#[test]
fn a_standard_error_that_cannot_be_written_changes_nothing() {
    let lab = Lab::new("cat \"$here/said\"");
    let (verdict, evidence) = (Verdict::Held, "seen".to_owned());
    lab.write("said", said(&[Record::Claim(Finding { claim: 7, verdict, evidence })]));
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("it is there");
    let mut command = lab.command("claims --on vm:./bzImage --accel tcg --json -");
    let output = command.stderr(full).output().expect("it runs");
    assert_eq!(output.status.code(), Some(3));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let claims = report["claims"].as_array().expect("a list");
    let held = |claim: &&serde_json::Value| claim["verdict"] == "held";
    assert_eq!(claims.iter().filter(held).count(), 1, "{report:#}");
}

/// Where temporary files cannot be, or where there is no room for a socket's path.
#[test]
fn a_bad_place_for_temporary_files_is_named_with_the_way_out() {
    let lab = Lab::new("exit 1");
    let long = lab.path(&"x".repeat(100));
    fs::create_dir(&long).expect("created");
    for (place, says) in [(lab.path("missing"), "directory"), (long.clone(), "socket")] {
        let mut command = lab.command("run qmap --on vm:./bzImage --accel tcg");
        let output = command.env("TMPDIR", &place).output().expect("it runs");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{message}");
        assert!(message.contains(&place.display().to_string()), "{message}");
        assert!(message.contains(says) && message.contains("set TMPDIR"), "{message}");
    }
    assert_eq!(fs::read_dir(long).expect("it is there").count(), 0);
}

/// What an agent says of a scheduler that ran for 10 s, and what it ended with.
fn said_of_a_run(kind: u64) -> String {
    said_of_tasks(kind, 4, &[Record::LostEnd])
}

/// The same, of so many tasks, with what it says of lost ones.
fn said_of_tasks(kind: u64, forked: u64, lost: &[Record]) -> String {
    let exit = Exit {
        kind,
        code: 0,
        reason: "unregistered from user space".to_owned(),
        msg: String::new(),
        at_ns: 10_000_000_000,
        dump: None,
    };
    let attached =
        Record::Attached { name: "qmap".to_owned(), flags: Vec::new(), native_tid: None };
    let tasks = Record::Tasks(Counts { forked, ..Counts::default() });
    let all = [&[attached, Record::Exit(exit), tasks][..], lost, &[Record::Done]].concat();
    said(&all)
}

/// However large: what a scheduler writes there is its own.
#[test]
fn no_kind_of_error_is_clean() {
    for (kind, expected) in [(64, 0), (1024, 1), (1 << 32, 1), (u64::MAX, 1)] {
        let lab = Lab::new("cat \"$here/said\"; exec sleep 100");
        lab.write("said", said_of_a_run(kind));
        let run = "run ./qmap.bpf.o --on vm:./bzImage --accel tcg --duration 10s";
        let (status, message) = lab.failure(run);
        assert_eq!(status, Some(expected), "{kind}: {message}");
    }
}

/// A run whose workload did not run says nothing about the scheduler.
#[test]
fn a_workload_that_did_not_run_is_no_run() {
    let lab = Lab::new("cat \"$here/said\"; exec sleep 100");
    lab.write("said", said_of_tasks(64, 0, &[Record::LostEnd]));
    let (status, message) =
        lab.failure("run ./qmap.bpf.o --on vm:./bzImage --accel tcg --duration 10s");
    assert_eq!(status, Some(3), "{message}");
    assert!(message.contains("nothing was tested: the workload did not run"), "{message}");
}

/// Nor does one whose scheduler left before it could; how it did is told.
#[test]
fn a_scheduler_that_leaves_at_once_is_told_with_its_words() {
    let exit = Exit {
        kind: 65,
        code: 5,
        reason: "unregistered from BPF".to_owned(),
        msg: "enough".to_owned(),
        at_ns: 100_000_000,
        dump: None,
    };
    let attached =
        Record::Attached { name: "qmap".to_owned(), flags: Vec::new(), native_tid: None };
    let lab = Lab::new("cat \"$here/said\"; exec sleep 100");
    let leaves = |forked| {
        let counts = Record::Tasks(Counts { forked, ..Counts::default() });
        let exit = Record::Exit(exit.clone());
        lab.write("said", said(&[attached.clone(), exit, counts, Record::LostEnd, Record::Done]));
        let run = "run ./qmap.bpf.o --on vm:./bzImage --accel tcg --duration 10s";
        let output = lab.command(run).output().expect("it runs");
        let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        (output.status.code(), format!("{out}{err}").replace('\n', " "))
    };
    let (status, message) = leaves(0);
    assert_eq!(status, Some(3), "{message}");
    let told = "left after 0.1 s, by itself: unregistered from BPF: enough (exit kind 65)";
    assert!(message.contains(told), "{message}");
    // What a scheduler does that has had enough of a workload is told as on the engine.
    let (status, message) = leaves(4);
    assert_eq!(status, Some(0), "{message}");
    let told = "then ended: unregistered from BPF: enough (exit kind 65)";
    assert!(message.contains(told), "{message}");
}

/// What the kernel did not tell is not 0.
#[test]
fn lost_tasks_that_nobody_told_of_are_not_none() {
    let one = Record::Lost(Lost {
        comm: "t".to_owned(),
        pid: 77,
        tid: None,
        runnable_for_ns: 6_000_000_000,
    });
    for (records, lost, verdict) in [
        (&[Record::LostEnd][..], 0.into(), "clean"),
        (&[], serde_json::Value::Null, "whether tasks are lost is not known"),
        (std::slice::from_ref(&one), serde_json::Value::Null, "at least 1 task waited"),
        (&[one.clone(), Record::LostEnd], 1.into(), "1 task waited"),
    ] {
        let lab = Lab::new("cat \"$here/said\"; exec sleep 100");
        lab.write("said", said_of_tasks(64, 4, records));
        let run = "run ./qmap.bpf.o --on vm:./bzImage --accel tcg --duration 10s --json r.json";
        let output = lab.command(run).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).replace('\n', " ");
        assert!(text.contains(verdict), "{verdict}: {text}");
        let report: serde_json::Value = serde_json::from_slice(&lab.read("r.json")).expect("JSON");
        assert_eq!(report["tasks"]["lost"], lost, "{verdict}");
    }
}

/// What comes from a pipe can be read once.
#[test]
fn a_workload_may_come_from_a_pipe() {
    let lab = Lab::new("cat \"$here/said\"; exec sleep 100");
    lab.write("said", said_of_a_run(64));
    let run =
        "run qmap --on vm:./bzImage --accel tcg --duration 10s --workload /dev/stdin --json -";
    let mut command = lab.command(run);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut pipe = child.stdin.take().expect("it is piped");
    pipe.write_all(&lab.read("w.json")).expect("it is read");
    drop(pipe);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["exit"]["kind"], 64, "{report:#}");
    // The engine has played it too.
    assert_eq!(report["engine"]["tasks"]["forked"].as_u64().map(|n| n > 0), Some(true));
}

/// A KVM that does not work is tried once, and told of once, also by a command that boots two guests.
#[test]
fn a_kvm_that_does_not_work_is_told_of_once() {
    let lab = Lab::new(
        "case \"$*\" in *'-accel kvm'*) echo x >>\"$here/tries\"; exit 1 ;; esac\n\
         echo x >>\"$here/guests\"; cat \"$here/said\"; exec sleep 100",
    );
    lab.write("said", said_of_a_run(64));
    let (status, message) = lab.failure("demo --on vm:./bzImage --duration 10s");
    // By pid, it should not have been clean.
    assert_eq!(status, Some(1), "{message}");
    let lines = |name| fs::read_to_string(lab.path(name)).unwrap_or_default().lines().count();
    assert_eq!(lines("guests"), 2, "{message}");
    let kvm = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    let expected = usize::from(kvm.is_ok());
    let said = message.matches("there is a KVM, but no guest comes up with it").count();
    assert_eq!((lines("tries"), said), (expected, expected), "{message}");
}
