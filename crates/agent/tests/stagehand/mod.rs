//! What the tests of real workloads need: starting one, and looking at it from outside.
#![allow(dead_code)]

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use scxlab_agent::play::{Options, PlayError, Player};
use scxlab_engine::Nanos;
use scxlab_engine::program::{Instr, Pc, Program, Span, Spawn, Start};
use scxlab_protocol::Counts;
use scxlab_workload::Workload;

/// The binary that the tasks are; a test is another one. `SCXLAB_IMAGE` names one to test instead,
/// such as a static one.
pub fn options() -> Options {
    let image = std::env::var_os("SCXLAB_IMAGE");
    Options { image: Some(image.map_or(env!("CARGO_BIN_EXE_scxlab-agent").into(), Into::into)) }
}

pub fn try_play(program: &Program) -> Result<Player, PlayError> {
    Player::start(program, 1, &options())
}

pub fn play(program: &Program) -> Player {
    try_play(program).unwrap()
}

/// A built-in workload, for two CPUs.
pub fn program_of(name: &str) -> Program {
    Workload::builtin(name, 2).unwrap().compile(2).unwrap()
}

/// The program of a workload file.
pub fn program_from(text: &str) -> Program {
    Workload::parse("test.json", text).unwrap().compile(2).unwrap()
}

/// A process of a group, as `/proc` shows it.
#[derive(Clone, Debug)]
pub struct Member {
    pub pid: i32,
    pub ppid: i32,
    pub state: String,
    /// The names of its threads.
    pub comms: Vec<String>,
}

/// All processes of the group, zombies too, but for the anchor.
pub fn members(group: i32) -> Vec<Member> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != group).filter_map(|pid| member(pid, group)).collect()
}

fn member(pid: i32, group: i32) -> Option<Member> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?.to_owned();
    let ppid = fields.next()?.parse().ok()?;
    if fields.next()?.parse() != Ok(group) {
        return None;
    }
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let comms = threads.filter_map(Result::ok).filter_map(|thread| {
        Some(fs::read_to_string(thread.path().join("comm")).ok()?.trim_end().to_owned())
    });
    Some(Member { pid, ppid, state, comms: comms.collect() })
}

/// The names of all live threads of the group.
pub fn comms(group: i32) -> Vec<String> {
    let live = members(group).into_iter().filter(|member| member.state != "Z");
    live.flat_map(|member| member.comms).collect()
}

/// What was seen of a workload.
#[derive(Debug, Default)]
pub struct Seen {
    pub comms: BTreeSet<String>,
    pub most_at_once: usize,
    pub counts: Counts,
}

impl Seen {
    /// Looks at it, over and over, until what was seen is enough.
    pub fn watch(&mut self, player: &mut Player, enough: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        let mut before = Counts::default();
        while !enough(self) {
            assert!(begin.elapsed() < PATIENCE, "never enough: {self:?}");
            let comms = comms(player.group());
            self.most_at_once = self.most_at_once.max(comms.len());
            self.comms.extend(comms);
            let now = player.counts();
            assert!(now.exited <= now.forked && now.exited >= before.exited, "{before:?} {now:?}");
            before = now;
            self.counts = now;
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(player.is_alive());
    }

    /// Whether tasks of all these names were there.
    pub fn saw(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.comms.contains(*name))
    }

    /// Stops it, and sees that nothing is left.
    pub fn stop(&mut self, mut player: Player) {
        let group = player.group();
        self.counts = player.stop().unwrap();
        assert!(!player.is_alive());
        let left = members(group);
        assert!(left.is_empty(), "{left:?}");
        // Not the anchor either.
        assert!(!std::path::Path::new(&format!("/proc/{group}")).exists());
    }
}

/// After so long it does not come, on a machine however slow.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for something that is to come.
pub fn until(what: &str, mut there: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !there() {
        assert!(begin.elapsed() < PATIENCE, "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits for both figures to be these: a new task may run, and end, before its creator counts it.
pub fn until_counted(player: &Player, forked: u64, exited: u64) {
    let begin = Instant::now();
    loop {
        let counts = player.counts();
        if (counts.forked, counts.exited) == (forked, exited) {
            return;
        }
        let soon = counts.forked <= forked && counts.exited <= exited;
        assert!(soon && begin.elapsed() < PATIENCE, "not {forked} and {exited}: {counts:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A program whose one process starts at its first instruction, under the first of the names.
pub fn program(code: Vec<Instr>, names: &[&str]) -> Program {
    let start = Start::new(Pc(0), 0);
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Program { code, names, start: vec![start], ..Program::default() }
}

pub fn sleep_ms(ms: u64) -> Instr {
    Instr::Sleep(Span::exactly(Nanos::from_millis(ms)))
}

/// `SIGKILL`. The pid is that of a process that the test has started.
pub fn kill(pid: i32) {
    // SAFETY: plain numbers.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

pub fn parent_of(pid: i32) -> i32 {
    stat_field(pid, 4).unwrap() as i32
}

/// In hundredths of a second.
pub fn cpu_ticks(pid: i32) -> i64 {
    stat_field(pid, 14).unwrap_or(0) + stat_field(pid, 15).unwrap_or(0)
}

pub fn nice(pid: i32) -> i64 {
    stat_field(pid, 19).unwrap_or(99)
}

pub fn policy(pid: i32) -> i64 {
    stat_field(pid, 41).unwrap_or(99)
}

/// A field of `stat`, numbered as in `proc(5)`.
fn stat_field(pid: i32, field: usize) -> Option<i64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = &stat[stat.rfind(')')? + 1..];
    rest.split_ascii_whitespace().nth(field - 3)?.parse().ok()
}

/// The CPUs that a process may use, as in `0-1`.
pub fn cpus_allowed(pid: i32) -> String {
    status_field(pid, "Cpus_allowed_list").unwrap_or_default()
}

fn status_field(pid: i32, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// How often the threads of a process have gone to sleep.
pub fn switches(pid: i32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let tids = threads.filter_map(|thread| thread.ok()?.file_name().to_str()?.parse().ok());
    let count = |tid: i32| status_field(tid, "voluntary_ctxt_switches")?.parse::<u64>().ok();
    tids.filter_map(count).sum()
}

/// Whether this process may make itself nicer than nice.
pub fn may_raise_priority() -> bool {
    // CAP_SYS_NICE, or a limit that allows it.
    let caps = status_field(std::process::id() as i32, "CapEff").unwrap_or_default();
    u64::from_str_radix(&caps, 16).is_ok_and(|caps| caps & 1 << 23 != 0)
}

/// Waits until exactly these names are there, in any order.
pub fn until_there(player: &Player, names: &[&str]) {
    let mut wanted: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    wanted.sort();
    let mut history = Vec::new();
    let begin = Instant::now();
    while history.last() != Some(&wanted) {
        let mut there = comms(player.group());
        there.sort();
        if history.last() != Some(&there) {
            history.push(there);
        }
        assert!(begin.elapsed() < PATIENCE, "no {wanted:?}, but {history:#?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn pid_of(player: &Player, name: &str) -> i32 {
    let mut pid = None;
    until(name, || {
        let all = members(player.group());
        pid = all.iter().find(|m| m.comms.contains(&name.to_owned())).map(|m| m.pid);
        pid.is_some()
    });
    pid.unwrap()
}

pub fn ms(ms: u64) -> Span {
    Span::exactly(Nanos::from_millis(ms))
}

pub fn process(entry: u32, name: u32) -> Instr {
    Instr::Spawn { what: Spawn::Process, entry: Pc(entry), name }
}

pub fn thread(entry: u32, name: u32) -> Instr {
    Instr::Spawn { what: Spawn::Thread, entry: Pc(entry), name }
}

/// Opens a gate: a process of that name, which another one waits for.
pub fn open(player: &Player, gate: &str) {
    kill(pid_of(player, gate));
}

/// Waits until every task sleeps, and so has come to where it waits.
pub fn until_all_sleep(player: &Player) {
    let mut in_a_row = 0;
    until("sleep", || {
        let all = members(player.group());
        in_a_row = if all.iter().all(|m| m.state == "S") { in_a_row + 1 } else { 0 };
        in_a_row == 10
    });
}

/// Longer than a test lasts.
pub fn forever() -> Instr {
    sleep_ms(3_600_000)
}
