//! C8 to C10: the lookup without the flag, and sub-schedulers: `bpf/claims/tree.bpf.c`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use libbpf_rs::Link;
use scxlab_engine::ExitKind;
use scxlab_protocol::{Exit, Setting};

use super::lab::{self, Lab};
use super::programs::Programs;
use super::{Findings, came_up, holds};
use crate::attached::{Attached, wait_for};
use crate::kernel;
use crate::object::{Loaded, Opened};
use crate::play::{self, Player};

const WITHOUT: &str = "scx_bpf_tid_to_task() called without SCX_OPS_TID_TO_TASK";
const REQUIRES: &str = "SCX_OPS_TID_TO_TASK requires root scheduler to enable it";

/// The scheduler, with the flag or without, and with its variables set.
pub(super) fn open(lab: &Lab<'_>, flag: bool, set: &[(&str, &str)]) -> Result<Opened> {
    let mut opened = lab.open("tree")?;
    let flags: &[String] = if flag { &["SCX_OPS_TID_TO_TASK".to_owned()] } else { &[] };
    opened.set_flags(Some(flags))?;
    for &(name, value) in set {
        opened.set(&Setting { name: name.to_owned(), value: value.to_owned() })?;
    }
    Ok(opened)
}

pub(super) fn c8(lab: &Lab<'_>) -> Result<Findings> {
    Ok(vec![(8, without_the_flag(lab))])
}

fn without_the_flag(lab: &Lab<'_>) -> Result<String> {
    by_the_root(lab).context("a lookup by the root")?;
    by_a_sub(lab).context("a lookup by a sub-scheduler")?;
    by_a_program(lab, false).context("a lookup by a syscall program")?;
    by_a_program(lab, true).context("a lookup by a tracing program")?;
    in_init(lab).context("a lookup in ops.init with the flag")?;
    Ok("ejected with the kernel's message after a lookup by the root, a sub-scheduler (which ended \
        as its parent did), a syscall and a tracing program, and in ops.init before the table is live"
        .to_owned())
}

fn is(exit: &Exit, kind: ExitKind, msg: &str) -> Result<()> {
    holds(exit.kind == kind as u64 && exit.msg == msg, || {
        format!("its exit is {} ({}): {}", exit.kind, exit.reason, exit.msg)
    })
}

/// How an ejection ends.
fn ejected(attached: Attached) -> Result<Exit> {
    let gone = wait_for(|| !attached.is_up());
    let after = attached.elapsed();
    let exit = attached.detach()?.exit(after)?;
    holds(gone.is_ok(), || "it was not ejected".to_owned())?;
    Ok(exit)
}

fn by_the_root(lab: &Lab<'_>) -> Result<()> {
    let attached = lab::attach(open(lab, false, &[("look_in_enqueue", "true")])?)?;
    lab.play(&lab.builtin("hogs")?, Duration::from_secs(5), || !attached.is_up())?;
    is(&ejected(attached)?, ExitKind::Error, WITHOUT)
}

fn by_a_sub(lab: &Lab<'_>) -> Result<()> {
    let group = Group::new()?;
    let root = lab::attach(open(lab, false, &[])?)?;
    let mut player = group.start(lab, "hogs")?;
    let sub = Sub::attach(open(lab, false, &[("look_in_enqueue", "true")])?, &group)?;
    let exit = ejected(root)?;
    player.stop()?;
    is(&exit, ExitKind::Error, WITHOUT)?;
    let sub = sub.exit()?;
    holds(sub.kind == ExitKind::Parent as u64, || {
        format!("the sub-scheduler's exit is {} ({}): {}", sub.kind, sub.reason, sub.msg)
    })
}

fn by_a_program(lab: &Lab<'_>, tracing: bool) -> Result<()> {
    let mut programs = Programs::load(lab, false)?;
    let attached = lab::attach(open(lab, false, &[])?)?;
    thread::sleep(Duration::from_millis(100));
    lab::still_up(&attached)?;
    if tracing {
        let _looking = Programs::load(lab, true)?;
        lab.play(&lab.builtin("fork-storm")?, Duration::from_secs(5), || !attached.is_up())?;
    } else {
        let tid = programs.tid_of(1)?.context("the first process has no tid")?;
        let found = programs.finds(tid)?;
        holds(!found, || format!("tid {tid} was found"))?;
    }
    is(&ejected(attached)?, ExitKind::Error, WITHOUT)
}

fn in_init(lab: &Lab<'_>) -> Result<()> {
    let attached = lab::attach(open(lab, true, &[("look_in_init", "true")])?)?;
    is(&ejected(attached)?, ExitKind::Error, WITHOUT)
}

pub(super) fn c9(lab: &Lab<'_>) -> Result<Findings> {
    Ok(vec![(9, refused(lab))])
}

fn refused(lab: &Lab<'_>) -> Result<String> {
    let group = Group::new()?;
    let root = lab::attach(open(lab, false, &[])?)?;
    let mut player = group.start(lab, "mixed")?;
    let sub = Sub::attach(open(lab, true, &[])?, &group)?;
    wait_for(|| sub.number("uei.kind") != 0).context("the sub-scheduler is not told why")?;
    is(&sub.exit()?, ExitKind::Error, REQUIRES)?;
    let (inits, enables) = (sub.number("inits"), sub.number("enables"));
    holds(inits == 0 && enables == 0, || format!("it got {} tasks", inits.max(enables)))?;
    let before = root.loaded.number("enqueued").unwrap_or(0);
    thread::sleep(Duration::from_secs(3));
    let after = root.loaded.number("enqueued").unwrap_or(0);
    lab::still_up(&root)?;
    player.stop()?;
    let exit = {
        let elapsed = root.elapsed();
        root.detach()?.exit(elapsed)?
    };
    holds(after > before, || "the root did not go on".to_owned())?;
    holds(exit.kind < ExitKind::Error as u64, || format!("the root's exit: {}", exit.reason))?;
    Ok(format!(
        "the attach call succeeded, the exit info says kind 1024 with the kernel's words, no task \
         was its, and the root went on: {} enqueues in 3 s",
        after - before
    ))
}

pub(super) fn c10(lab: &Lab<'_>) -> Result<Findings> {
    Ok(vec![(10, below_a_root_with_the_flag(lab))])
}

/// Lookups that are enough for tasks that wake each other all the time, if they get to run.
const ENOUGH: u64 = 100;

/// Tasks of others that the sub-scheduler is told of.
const OTHERS: usize = 16;

fn below_a_root_with_the_flag(lab: &Lab<'_>) -> Result<String> {
    let group = Group::new()?;
    let mut programs = Programs::load(lab, false)?;
    let root = lab::attach(open(lab, true, &[])?)?;
    let mut beside = lab.start(&lab.builtin("hogs")?)?;
    let mut within = group.start(lab, "pingpong")?;
    thread::sleep(Duration::from_millis(500));
    let inside = group.threads()?;
    let others = programs.tids()?.into_iter().filter(|(pid, _)| !inside.contains(pid));
    let others: Vec<(i32, u64)> = others.take(OTHERS).collect();
    let mut opened = open(lab, true, &[("look_in_enqueue", "true"), ("insert_others", "true")])?;
    for (i, (pid, tid)) in others.iter().enumerate() {
        for (name, value) in [("other_pids", pid.to_string()), ("other_tids", tid.to_string())] {
            opened.set(&Setting { name: format!("{name}[{i}]"), value })?;
        }
    }
    let sub = Sub::attach(opened, &group)?;
    thread::sleep(Duration::from_secs(2));
    let up = sub.number("uei.kind") == 0;
    let tried = sub.number("others_inserted");
    let counted = group.events_of_its_scheduler().unwrap_or(0);
    let tried_later = sub.number("others_inserted");
    lab::still_up(&root)?;
    within.stop()?;
    beside.stop()?;
    if !up {
        let exit = sub.exit()?;
        holds(false, || format!("it ended with {} ({}): {}", exit.kind, exit.reason, exit.msg))?;
    }
    let of = |name| sub.number(name);
    let (own, own_missed) = (of("own_found"), of("own_missed"));
    let (found, missed, inits) = (of("others_found"), of("others_missed"), of("inits"));
    drop(sub);
    root.detach()?;
    holds(own_missed == 0 && missed == 0, || {
        format!("{own_missed} lookups of its own tasks and {missed} of others' found nothing")
    })?;
    came_up(own >= ENOUGH && found >= ENOUGH && inits > 0, || {
        format!("it has {inits} tasks, and found its own {own} times and others {found} times")
    })?;
    // On each CPU one may be between the scheduler's count and the kernel's.
    let at_least = tried.saturating_sub(lab.cpus() as u64).max(1);
    holds((at_least..=tried_later).contains(&counted), || {
        format!("{tried} to {tried_later} inserts of others' tasks, {counted} counted")
    })?;
    Ok(format!(
        "attached with {inits} tasks; found its own {own} times and {} others {found} times; \
         {counted} inserts of those were not done, and counted",
        others.len()
    ))
}

/// A sub-scheduler. It goes when this is dropped.
struct Sub {
    loaded: Loaded,
    _links: Vec<Link>,
}

impl Sub {
    fn attach(mut opened: Opened, group: &Group) -> Result<Self> {
        opened.set_operation("sub_cgroup_id", group.id)?;
        let (loaded, links) = lab::load(opened).context("the sub-scheduler")?;
        Ok(Self { loaded, _links: links })
    }

    fn number(&self, name: &str) -> u64 {
        self.loaded.number(name).unwrap_or(0)
    }

    fn exit(&self) -> Result<Exit> {
        wait_for(|| self.number("uei.kind") != 0).context("the sub-scheduler does not end")?;
        crate::exit::recorded(&self.loaded, 0).context("the sub-scheduler does not say why")
    }
}

/// A cgroup of its own.
struct Group {
    path: PathBuf,
    /// The one that this process is in.
    home: PathBuf,
    id: u64,
}

impl Group {
    fn new() -> Result<Self> {
        let path = PathBuf::from("/sys/fs/cgroup/scxlab-claims");
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let own = own.context("this process is in no cgroup of version 2")?;
        let home = PathBuf::from("/sys/fs/cgroup").join(own);
        if !path.exists() {
            fs::create_dir(&path).with_context(|| path.display().to_string())?;
        }
        // A cgroup's id is its directory's inode.
        let id = fs::metadata(&path)?.ino();
        Ok(Self { path, home, id })
    }

    /// Begins to play a workload in it: whoever is forked is where its parent is.
    fn start(&self, lab: &Lab<'_>, workload: &str) -> Result<Player> {
        let program = lab.builtin(workload)?;
        let join = |group: &PathBuf| {
            let procs = group.join("cgroup.procs");
            fs::write(&procs, "0").with_context(|| procs.display().to_string())
        };
        join(&self.path)?;
        let player = lab.start(&program);
        join(&self.home)?;
        player
    }

    /// The pids of the tasks in it.
    fn threads(&self) -> Result<BTreeSet<i32>> {
        let text = fs::read_to_string(self.path.join("cgroup.threads"))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// How many inserts of tasks that are not its own its scheduler has tried, as the kernel counts.
    fn events_of_its_scheduler(&self) -> Option<u64> {
        kernel::sub_events(self.id).get("SCX_EV_INSERT_NOT_OWNED").copied()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        play::remove_cgroup(&self.path);
    }
}
