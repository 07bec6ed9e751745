//! C15 and C16: qmap keyed by pid and by tid, and its dump.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use scxlab_engine::program::{Instr, Pc, Spawn};
use scxlab_engine::{ExitKind, Program};
use scxlab_protocol::{Lost, Setting};

use super::lab::{self, Lab, process, program, run_for};
use super::programs::Programs;
use super::{Findings, came_up, holds};
use crate::attached::Attached;
use crate::dump;
use crate::object::{Loaded, Opened};

/// qmap's timeout.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How late the watchdog may be beyond the 1.5 times: it counts in jiffies, and its worker waits for
/// a CPU as other tasks do.
const SLACK: Duration = Duration::from_millis(300);

/// How long a scheduler that is to stall may go on.
const PATIENCE: Duration = Duration::from_secs(50);

/// How long one that is not to stall has to go on: longer than the watchdog takes.
const CLEAN: Duration = Duration::from_secs(8);

fn qmap(lab: &Lab<'_>, key: &str, exiting: bool) -> Result<Opened> {
    let mut opened = lab.open("qmap")?;
    for (name, value) in [("key", key), ("exiting", if exiting { "true" } else { "false" })] {
        opened.set(&Setting { name: name.to_owned(), value: value.to_owned() })?;
    }
    let mut flags = Vec::new();
    if key == "tid" {
        flags.push("SCX_OPS_TID_TO_TASK".to_owned());
    }
    if exiting {
        flags.push("SCX_OPS_ENQ_EXITING".to_owned());
    }
    opened.set_flags(Some(&flags))?;
    Ok(opened)
}

pub(super) fn c15(lab: &Lab<'_>) -> Result<Findings> {
    Ok(vec![(15, stalls_and_runs(lab))])
}

fn stalls_and_runs(lab: &Lab<'_>) -> Result<String> {
    let execs = lab.builtin("nonleader-exec")?;
    let by_exec = stalls(lab, "execs", &execs, true)?;
    let by_exec_masked = stalls(lab, "execs", &execs, false)?;
    let by_exit = stalls(lab, "exits", &short_lives(4 * lab.cpus()), true)?;
    let by_pid = format!(
        "keyed by pid: ejected {by_exec} s after the loss under exec, {by_exec_masked} s without \
         SCX_OPS_ENQ_EXITING, {by_exit} s under exits"
    );
    if !lab.is_native() {
        return Ok(format!("{by_pid}; by tid is for kernels with tids of their own"));
    }
    let execs = runs_clean(lab, "nonleader-exec")?;
    let exits = runs_clean(lab, "exit-storm")?;
    Ok(format!(
        "{by_pid}; keyed by tid: {} s of each clean, {execs} and {exits} lookups",
        CLEAN.as_secs()
    ))
}

/// Processes whose children live for a moment, and are not waited for.
fn short_lives(n: usize) -> Program {
    let code = vec![
        Instr::IgnoreChildren,
        Instr::Spawn { what: Spawn::Process, entry: Pc(5), name: 1 },
        Instr::Spawn { what: Spawn::Process, entry: Pc(5), name: 1 },
        Instr::WaitAll,
        Instr::Jump(Pc(1)),
        run_for(200, 1_500),
        Instr::Exit,
    ];
    program(code, &["worker", "burner"], vec![process(0, 0); n])
}

/// How long after the loss qmap keyed by pid is ejected, in seconds.
fn stalls(lab: &Lab<'_>, what: &str, workload: &Program, exiting: bool) -> Result<String> {
    let case = format!("keyed by pid under {what}, exiting={exiting}");
    lab.doing(&format!("checking C15: {case}"));
    let mut opened = qmap(lab, "pid", exiting)?;
    // Each tick preempts, and so comes upon a task that has no pid any more sooner.
    opened.set(&Setting { name: "slice_us".to_owned(), value: "1000".to_owned() })?;
    let attached = lab::attach(opened)?;
    lab.play(workload, PATIENCE, || !attached.is_up())?;
    let (stalled, elapsed) = (!attached.is_up(), attached.elapsed());
    let exit = attached.detach()?.exit(elapsed)?;
    holds(stalled, || format!("{case}: it went on for {} s", PATIENCE.as_secs()))?;
    holds(exit.kind == 1026 && exit.reason == ExitKind::ErrorStall.reason(), || {
        format!("{case}: its exit is {} ({}): {}", exit.kind, exit.reason, exit.msg)
    })?;
    let lost = dump::lost(exit.dump.as_deref().unwrap_or_default(), TIMEOUT.as_nanos() as u64);
    let longest =
        lost.iter().map(|lost: &Lost| lost.runnable_for_ns as f64 / 1e9).fold(0.0, f64::max);
    // The task with which the watchdog was content to find one, and the one lost for longest.
    let after = longest.max(named(&exit.msg).unwrap_or(0.0));
    let (least, most) = (TIMEOUT.as_secs_f64(), (TIMEOUT * 3 / 2 + SLACK).as_secs_f64());
    holds((least..=most).contains(&after), || {
        format!("{case}: ejected {after} s after the loss: {}", exit.msg)
    })?;
    Ok(format!("{after:.3}"))
}

/// The seconds in the watchdog's words: `burner[5014] failed to run for 5.656s`.
fn named(msg: &str) -> Option<f64> {
    msg.rsplit_once(" failed to run for ")?.1.strip_suffix('s')?.parse().ok()
}

/// qmap keyed by tid goes on, and loses nobody; how many tasks it has dispatched.
fn runs_clean(lab: &Lab<'_>, workload: &str) -> Result<u64> {
    lab.doing(&format!("checking C15: keyed by tid under {workload}"));
    let attached = lab::attach(qmap(lab, "tid", true)?)?;
    lab.play(&lab.builtin(workload)?, CLEAN, || !attached.is_up())?;
    lab::still_up(&attached).with_context(|| format!("keyed by tid under {workload}"))?;
    let dump = dump::on_request().context("the kernel gives no whole debug dump")?;
    let lost = dump::lost(&dump, TIMEOUT.as_nanos() as u64);
    let dispatched = attached.loaded.number("dispatched").unwrap_or(0);
    attached.detach()?;
    holds(lost.is_empty(), || {
        format!("keyed by tid under {workload}, lost: {}[{}]", lost[0].comm, lost[0].pid)
    })?;
    came_up(dispatched > 0, || "it dispatched no task".to_owned())?;
    Ok(dispatched)
}

pub(super) fn c16(lab: &Lab<'_>) -> Result<Findings> {
    Ok(vec![(16, dumps_queued_tasks(lab))])
}

/// Tasks that want a CPU all the time, beyond those that have one.
const HOGS: usize = 16;

fn dumps_queued_tasks(lab: &Lab<'_>) -> Result<String> {
    let attached = lab::attach(qmap(lab, "tid", true)?)?;
    let crowd = program(
        vec![run_for(5_000, 5_000), Instr::Jump(Pc(0))],
        &["hog"],
        vec![process(0, 0); lab.cpus() + HOGS],
    );
    let mut player = lab.start(&crowd)?;
    std::thread::sleep(Duration::from_secs(1));
    let dump = dump::on_request().context("the kernel gives no whole debug dump")?;
    let tids = tids(lab, &attached)?;
    player.stop()?;
    lab::still_up(&attached)?;
    attached.detach()?;
    let mut listed = 0;
    for line in dump.lines().filter(|line| line.trim_start().starts_with("QMAP FIFO[")) {
        let tasks = line.split_once("]:").map_or("", |(_, tasks)| tasks);
        for task in tasks.split_whitespace() {
            let parsed = task
                .split_once(':')
                .and_then(|(pid, tid)| Some((pid.parse::<i32>().ok()?, tid.parse::<u64>().ok()?)));
            let is_right = parsed.is_some_and(|(pid, tid)| tids.get(&pid) == Some(&tid));
            holds(is_right, || format!("`{task}` in `{line}`: no pid and tid of a live task"))?;
            listed += 1;
        }
    }
    holds(listed >= HOGS / 2, || {
        format!("the dump lists {listed} queued tasks; at least {HOGS} wait for a CPU")
    })?;
    Ok(format!("{listed} queued tasks in the dump, each as pid:tid, each right"))
}

/// The tids by pid, of every task.
fn tids(lab: &Lab<'_>, attached: &Attached) -> Result<BTreeMap<i32, u64>> {
    if lab.is_native() {
        return Ok(Programs::load(lab, false)?.tids()?.into_iter().collect());
    }
    let processes = std::fs::read_dir("/proc")?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    Ok(pids.filter_map(|pid| Some((pid, portable_tid(&attached.loaded, pid)?))).collect())
}

/// A task's portable tid: in its storage, the key to which is a pidfd.
fn portable_tid(loaded: &Loaded, pid: i32) -> Option<u64> {
    // SAFETY: it takes numbers only, and what it gives is nobody else's.
    let fd = unsafe {
        use std::os::fd::FromRawFd as _;
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32;
        (fd >= 0).then(|| std::os::fd::OwnedFd::from_raw_fd(fd))
    }?;
    let key = std::os::fd::AsRawFd::as_raw_fd(&fd).to_ne_bytes();
    let id = loaded.value("scx_tid_ids", &key)?;
    id.get(..8)?.try_into().ok().map(u64::from_le_bytes)
}
