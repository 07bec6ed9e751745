//! Faults of guests, on real kernels: each ends with its own message, and leaves nothing running.
//! What takes longer is written down in crates/vm/README.md.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scxlab_protocol::{Hello, Kernel, Record};
use tempfile::TempDir;

/// The command with a scheduler of bpf/tests, which `cargo xtask bpf` puts beside the others.
fn run(scheduler: &str, duration: &str, dir: &Path) -> Command {
    let exe = PathBuf::from(assert_cmd::cargo::cargo_bin!("scxlab"));
    let target = exe.ancestors().nth(2).expect("it is in a target directory");
    let object = target.join("bpf").join(format!("{scheduler}.bpf.o"));
    let mut command = Command::new(&exe);
    command.arg("run").arg(object).args(["--on", "vm:7.2", "--accel", "tcg"]);
    command.args(["--workload", "hogs", "--duration", duration]);
    command.env("TMPDIR", dir).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// Status and message.
fn failure(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// No file in the directory for temporary ones, and no guest whose socket was there.
fn leaves_nothing(dir: &TempDir) {
    assert_eq!(fs::read_dir(dir.path()).expect("it is there").count(), 0);
    assert_eq!(guests(dir.path()), []);
}

/// The QEMUs whose files are in a directory.
fn guests(dir: &Path) -> Vec<Pid> {
    let dir = dir.display().to_string();
    let all = fs::read_dir("/proc").expect("there is /proc").flatten();
    let guests = all.filter(|process| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&dir)
    });
    let pids = guests.filter_map(|process| process.file_name().to_string_lossy().parse().ok());
    pids.map(Pid::from_raw).collect()
}

/// Starts it, and waits until its guest has been there for a moment.
fn with_a_guest(dir: &Path) -> (Child, Pid) {
    let child = run("idle", "60s", dir).spawn().expect("it starts");
    let begin = Instant::now();
    while guests(dir).is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(120), "no guest is started");
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_secs(2));
    (child, guests(dir)[0])
}

#[test]
fn the_verifier_s_last_lines_are_shown() {
    let dir = directory();
    let (status, message) = failure(&run("refused", "1s", dir.path()).output().expect("it runs"));
    assert_eq!(status, Some(1), "{message}");
    let first = message.lines().next().unwrap_or_default();
    assert!(first.starts_with("scxlab: refused: Linux 7.2."), "{message}");
    assert!(first.contains(" refuses to load it: "), "{message}");
    assert!(message.contains("invalid mem access 'trusted_ptr_or_null_'"), "{message}");
    leaves_nothing(&dir);
}

/// A guest in which nobody is run is still heard: the agent is above all schedulers.
#[test]
fn a_scheduler_that_runs_nobody_is_ejected() {
    let dir = directory();
    let output = run("idle", "40s", dir.path()).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}{}", failure(&output).1);
    assert!(text.contains("EJECTED") && text.contains("runnable task stall"), "{text}");
    leaves_nothing(&dir);
}

/// The first word of this command's own agent.
fn hello() -> String {
    let release = "7.2.0".to_owned();
    let kernel = Kernel { release, cpus: 2, sched_ext: true, native_tid: true };
    serde_json::to_string(&Record::Hello(Hello::on(kernel))).expect("a record")
}

/// What QEMU would say of a guest whose kernel panics between two claims, after HELLO.
const PANICKING: &str = r#"#!/bin/sh
for arg; do case $arg in socket,*) socket=${arg##*path=} ;; esac; done
echo 'HELLO'
echo '{"record":"doing","what":"checking C7"}'
echo '{"record":"claim","claim":7,"verdict":"held","evidence":"seen"}'
echo '{"record":"doing","what":"checking C8"}'
python3 - "$socket" <<'END'
import socket, sys
console = socket.socket(socket.AF_UNIX)
console.connect(sys.argv[1])
console.sendall(b"BUG: kernel NULL pointer dereference\nRIP: 0010:some_function\n")
console.sendall(b"Kernel panic - not syncing: Fatal exception in interrupt\n")
END
"#;

#[test]
fn a_panic_between_two_claims() {
    let dir = directory();
    let here = directory();
    let qemu = here.path().join("qemu");
    fs::write(&qemu, PANICKING.replace("HELLO", &hello())).expect("it is written");
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("scxlab"));
    command.args(["claims", "--on", "vm:7.2", "--accel", "tcg", "--json", "-"]);
    command.env("TMPDIR", dir.path()).env("SCXLAB_QEMU", qemu);
    let output = command.output().expect("it runs");
    let (status, message) = failure(&output);
    assert_eq!(status, Some(3), "{message}");
    assert_eq!(message.matches("BUG: kernel NULL pointer").count(), 1, "{message}");
    assert!(message.contains("RIP: 0010:some_function"), "{message}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    for claim in report["claims"].as_array().expect("a list") {
        let expected = match claim["claim"] == "C7" {
            true => ("held", "seen"),
            false => ("not tried", "checking C8: the guest's kernel panicked"),
        };
        let found = (claim["verdict"].as_str(), claim["evidence"].as_str());
        assert_eq!(found, (Some(expected.0), Some(expected.1)), "{report:#}");
    }
    leaves_nothing(&dir);
}

#[test]
fn a_guest_that_is_killed() {
    let dir = directory();
    let (child, guest) = with_a_guest(dir.path());
    kill(guest, Signal::SIGKILL).expect("it is there");
    let (status, message) = failure(&child.wait_with_output().expect("it ends"));
    assert_eq!(status, Some(3), "{message}");
    let first = "scxlab: the guest ended before it was done (signal: 9 (SIGKILL))";
    assert!(message.starts_with(first), "{message}");
    leaves_nothing(&dir);
}

/// Nothing can be tidied up then; but nothing goes on.
#[test]
fn a_command_that_is_killed_takes_its_guest_with_it() {
    let dir = directory();
    let (mut child, _) = with_a_guest(dir.path());
    child.kill().expect("it is there");
    child.wait().expect("it ends");
    let begin = Instant::now();
    while !guests(dir.path()).is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(10), "its guest goes on");
        thread::sleep(Duration::from_millis(20));
    }
}
