//! What is tried on the host. After each, nothing may be left.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::COMMAND;
use super::guest::{Left, processes, state};

/// A case and its name.
pub type Case = (&'static str, fn());

pub const CASES: &[Case] = &[
    ("by_tid_it_runs_clean", by_tid_it_runs_clean),
    ("by_pid_it_is_ejected", by_pid_it_is_ejected),
    ("who_is_not_root_is_refused", who_is_not_root_is_refused),
    ("an_interrupt_leaves_nothing", an_interrupt_leaves_nothing),
    ("a_termination_leaves_nothing", a_termination_leaves_nothing),
    ("a_command_that_is_killed_leaves_nothing", a_command_that_is_killed_leaves_nothing),
    ("an_agent_that_is_killed_is_told", an_agent_that_is_killed_is_told),
    ("one_without_a_link_goes_with_its_agent", one_without_a_link_goes_with_its_agent),
    ("another_scheduler_is_left_alone", another_scheduler_is_left_alone),
    ("what_is_not_reported_is_named", what_is_not_reported_is_named),
    ("one_that_leaves_no_word_is_asked_of_the_log", one_that_leaves_no_word_is_asked_of_the_log),
    ("claims_are_held", claims_are_held),
    ("claims_that_are_stopped_leave_nothing", claims_that_are_stopped_leave_nothing),
];

/// Tasks in cgroups, and some that exec.
const WORKLOAD: &str = r#"{ "tasks": {
    "a": { "as": "process", "instance": 3, "taskgroup": "/a", "run": 2000, "sleep": 1000 },
    "b": { "as": "process", "instance": 3, "taskgroup": "/a/b", "run": 100, "sleep": 500 } } }"#;

/// How soon all is gone that ends by itself.
const SOON: Duration = Duration::from_secs(10);

fn scxlab(words: &str) -> Command {
    let mut command = Command::new(COMMAND);
    command.args(words.split_whitespace()).stdin(Stdio::null());
    command
}

/// Status, and what is on standard error.
fn end(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The report of a run, and its exit status.
fn report(words: &str) -> (Option<i32>, Value) {
    let output = scxlab(&format!("{words} --json -")).output().expect("it runs");
    let (status, error) = end(&output);
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|err| panic!("{words}: {status:?}: {err}: {error}"));
    (status, report)
}

fn by_tid_it_runs_clean() {
    let run = "run qmap --set key=tid --on host --duration 3s --workload nonleader-exec";
    let (status, report) = report(run);
    assert_eq!((status, &report["exit"]["kind"]), (Some(0), &64.into()), "{report:#}");
    assert_eq!((&report["backend"], &report["cpus"]), (&"host".into(), &2.into()), "{report:#}");
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("it is there");
    assert_eq!(report["kernel"], release.trim_end());
    let tasks = &report["tasks"];
    assert!(tasks["nonleader_execs"].as_u64() > Some(5), "{report:#}");
    assert_eq!((&tasks["lost"], &tasks["leaked"]), (&0.into(), &0.into()), "{report:#}");
    assert_eq!(report["counters"]["lookups_failed"], 0, "{report:#}");
    assert_eq!(report["engine"]["exit"]["kind"], 64, "{report:#}");
}

fn by_pid_it_is_ejected() {
    let run = "run qmap --set key=pid --on host --duration 40s --workload nonleader-exec";
    let (status, report) = report(run);
    assert_eq!((status, &report["exit"]["kind"]), (Some(1), &1026.into()), "{report:#}");
    assert!(report["tasks"]["lost"].as_u64() > Some(0), "{report:#}");
}

fn who_is_not_root_is_refused() {
    let mut command = scxlab("run qmap --on host --duration 1s");
    let (status, message) = end(&command.uid(1000).gid(1000).output().expect("it runs"));
    assert_eq!(status, Some(3), "{message}");
    assert!(message.starts_with("scxlab: --on host: only root may attach"), "{message}");
}

/// A run with all that may be left behind, in its middle.
struct Middle {
    command: Child,
    file: &'static str,
}

impl Middle {
    fn new() -> Self {
        Self::of("simple")
    }

    fn of(scheduler: &str) -> Self {
        let file = "/tmp/workload.json";
        fs::write(file, WORKLOAD).expect("it is written");
        let run = format!("run {scheduler} --on host --duration 100s --workload {file}");
        let mut command = scxlab(&run);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let middle = Self { command: command.expect("it starts"), file };
        let start = Instant::now();
        // The command, the agent, keeper and anchor, and the workload.
        while state() != "enabled" || processes().len() < 10 {
            assert!(start.elapsed() < Duration::from_secs(60), "no run: {:?}", Left::look());
            thread::sleep(Duration::from_millis(50));
        }
        let groups = fs::read_dir("/sys/fs/cgroup").expect("it is there").flatten();
        let groups = groups.filter(|entry| entry.file_name().to_string_lossy().starts_with("scx"));
        assert_eq!(groups.count(), 1, "the workload has no cgroup");
        middle
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.command.id() as i32)
    }

    fn end(self) -> Output {
        let output = self.command.wait_with_output().expect("it ends");
        fs::remove_file(self.file).expect("it is there");
        output
    }
}

fn stops_with(signal: Signal) {
    let middle = Middle::new();
    let start = Instant::now();
    kill(middle.pid(), signal).expect("it is there");
    let (status, message) = end(&middle.end());
    assert_eq!(status, Some(3), "{message}");
    assert!(message.contains("interrupted; the scheduler and its workload are gone"), "{message}");
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

fn an_interrupt_leaves_nothing() {
    stops_with(Signal::SIGINT);
}

fn a_termination_leaves_nothing() {
    stops_with(Signal::SIGTERM);
}

/// The agent notices, and ends all.
fn a_command_that_is_killed_leaves_nothing() {
    let before = Left::look();
    let mut middle = Middle::new();
    kill(middle.pid(), Signal::SIGKILL).expect("it is there");
    middle.command.wait().expect("it ends");
    fs::remove_file(middle.file).expect("it is there");
    before.is_all_there_is(SOON);
}

/// Its scheduler goes with it at once, and its keeper ends the workload.
fn an_agent_that_is_killed_is_told() {
    the_agent_is_killed(Middle::new);
}

/// Nor does a scheduler stay that the kernel would keep.
fn one_without_a_link_goes_with_its_agent() {
    the_agent_is_killed(|| Middle::of("/bin/bpf/unlinked.bpf.o"));
}

fn the_agent_is_killed(middle: impl FnOnce() -> Middle) {
    let before = Left::look();
    let middle = middle();
    let agents = processes().into_iter().filter(|line| line.contains("(scxlab-agent)"));
    let pids: Vec<i32> = agents.filter_map(|line| line.split(' ').next()?.parse().ok()).collect();
    kill(Pid::from_raw(pids[0]), Signal::SIGKILL).expect("it is there");
    let (status, message) = end(&middle.end());
    assert_eq!(status, Some(3), "{message}");
    assert!(message.contains("the agent ended before it was done (signal: 9"), "{message}");
    before.is_all_there_is(SOON);
}

fn another_scheduler_is_left_alone() {
    let middle = Middle::new();
    let count = || fs::read_to_string("/sys/kernel/sched_ext/enable_seq").expect("it is there");
    let before = count();
    let output = scxlab("run qmap --on host --duration 1s").output().expect("it runs");
    let (status, message) = end(&output);
    assert_eq!(status, Some(3), "{message}");
    assert!(message.contains("the scheduler simple is there already"), "{message}");
    assert_eq!((state().as_str(), count()), ("enabled", before));
    kill(middle.pid(), Signal::SIGINT).expect("it is there");
    assert_eq!(end(&middle.end()).0, Some(3));
}

/// In a file of one's own, that is.
fn what_is_not_reported_is_named() {
    let run = "run /bin/bpf/qmap.bpf.o --on host --duration 1s --workload pingpong";
    let (status, message) = end(&scxlab(run).output().expect("it runs"));
    assert_eq!(status, Some(0), "{message}");
    assert!(message.contains("counts in its arena is not reported: fifos, "), "{message}");
}

/// It is gone before its name can be read in the kernel.
fn one_that_leaves_no_word_is_asked_of_the_log() {
    for _ in 0..2 {
        let (status, report) = report("run /bin/bpf/mute.bpf.o --on host --duration 5s");
        assert_eq!((status, &report["exit"]["kind"]), (Some(1), &1025.into()), "{report:#}");
        assert_eq!(report["exit"]["msg"], "out of 7 words", "{report:#}");
    }
}

fn claims_are_held() {
    let (status, report) = report("claims --on host");
    assert_eq!((status, &report["place"]), (Some(0), &"host".into()), "{report:#}");
    let claims = report["claims"].as_array().expect("a list");
    assert_eq!(claims.len(), 15, "{report:#}");
}

/// Also in the middle of the check that leaves the machine few pids.
fn claims_that_are_stopped_leave_nothing() {
    let limit = || fs::read_to_string("/proc/sys/kernel/pid_max").expect("it is there");
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let (before, usual) = (Left::look(), limit());
        let mut command = scxlab("claims --on host");
        let mut command =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let start = Instant::now();
        while limit() == usual {
            assert!(start.elapsed() < Duration::from_secs(60), "no check: {:?}", Left::look());
            thread::sleep(Duration::from_millis(10));
        }
        kill(Pid::from_raw(command.id() as i32), signal).expect("it is there");
        let status = command.wait().expect("it ends");
        match signal {
            Signal::SIGKILL => before.is_all_there_is(SOON),
            _ => assert_eq!(status.code(), Some(3)),
        }
    }
}
