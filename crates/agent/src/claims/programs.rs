//! C7 and C12, with programs that belong to no scheduler: `bpf/claims/lookup.bpf.c`.

use std::time::Duration;

use anyhow::{Context as _, Result};
use libbpf_rs::Link;
use scxlab_protocol::Setting;

use super::lab::{self, Lab};
use super::log::Mark;
use super::{Findings, came_up, holds, subs, watch};
use crate::kernel;
use crate::object::Loaded;

/// The programs, and the tracing ones among them attached.
pub(super) struct Programs {
    loaded: Loaded,
    _links: Vec<Link>,
}

/// What the kernel has of tids.
#[derive(Clone, Copy)]
pub(super) struct Peek {
    /// Tasks in the table, while there is one.
    pub(super) tasks: u64,
    /// Where the next chunk of ids begins.
    pub(super) cursor: u64,
}

impl Programs {
    /// `looking`: whether each fork is to look its task up.
    pub(super) fn load(lab: &Lab<'_>, looking: bool) -> Result<Self> {
        let mut opened = lab.open("lookup")?;
        opened.set(&Setting { name: "looking".to_owned(), value: looking.to_string() })?;
        let (loaded, links) = lab::load(opened).context("the programs")?;
        Ok(Self { loaded, _links: links })
    }

    /// The tids of all tasks that live, by pid.
    pub(super) fn tids(&mut self) -> Result<Vec<(i32, u64)>> {
        let text = self.loaded.walk("list")?;
        let line = |line: &str| {
            let (pid, tid) = line.split_once(' ')?;
            Some((pid.parse().ok()?, tid.parse().ok()?))
        };
        Ok(text.lines().filter_map(line).collect())
    }

    pub(super) fn tid_of(&mut self, pid: i32) -> Result<Option<u64>> {
        Ok(self.tids()?.into_iter().find(|&(other, _)| other == pid).map(|(_, tid)| tid))
    }

    pub(super) fn peek(&mut self) -> Result<Peek> {
        let mut bytes = [0; 16];
        self.loaded.call("peek", &mut bytes)?;
        let word = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        Ok(Peek { tasks: word(0), cursor: word(8) })
    }

    /// Whether a lookup by a syscall program finds a task.
    pub(super) fn finds(&mut self, tid: u64) -> Result<bool> {
        question(&mut self.loaded, tid)
    }

    fn count(&self, name: &str) -> u64 {
        self.loaded.number(name).unwrap_or(0)
    }
}

/// Has a syscall program look up a tid; whether it found a task.
pub(super) fn question(loaded: &mut Loaded, tid: u64) -> Result<bool> {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&tid.to_le_bytes());
    loaded.call("ask", &mut bytes)?;
    Ok(bytes[8..] != [0; 8])
}

pub(super) fn c7(lab: &Lab<'_>) -> Result<Findings> {
    Ok(vec![(7, without_a_scheduler(lab))])
}

fn without_a_scheduler(lab: &Lab<'_>) -> Result<String> {
    let (mark, seq) = (Mark::now(), kernel::enable_seq());
    let mut programs = Programs::load(lab, true)?;
    lab.play(&lab.builtin("fork-storm")?, Duration::from_secs(1), || false)?;
    let asked = ask_for_all(&mut programs)?;
    let (looked, found) = (programs.count("looked"), programs.count("found"));
    drop(programs);
    came_up(looked > 0, || "the tracing program saw no fork".to_owned())?;
    holds(found == 0, || format!("{found} of {looked} lookups by a tracing program found a task"))?;
    let log = mark.since();
    holds(!log.contains("sched_ext"), || format!("the kernel's log got: {}", log.trim_end()))?;
    holds(kernel::state() == "disabled" && kernel::enable_seq() == seq, || {
        format!("sched_ext is {} now", kernel::state())
    })?;
    // With a scheduler the same program finds tasks; when that is gone, nothing is left of it.
    let mut programs = Programs::load(lab, false)?;
    let attached = lab::attach(watch::open(lab)?)?;
    let own = programs.tid_of(1)?.unwrap_or(0);
    let found = programs.finds(own)?;
    attached.detach()?;
    came_up(found, || "the program finds no task with a scheduler either".to_owned())?;
    let again = ask_for_all(&mut programs)?;
    Ok(format!(
        "{looked} lookups by a tracing program and {asked} by a syscall program gave nothing, and \
         left nothing in the log; nor did {again} after a scheduler with the flag was there"
    ))
}

/// Asks for every task there is, 0, and a tid that nobody has; none may be found.
fn ask_for_all(programs: &mut Programs) -> Result<usize> {
    let mut tids: Vec<u64> = programs.tids()?.into_iter().map(|(_, tid)| tid).collect();
    tids.extend([0, u64::MAX]);
    for &tid in &tids {
        let found = programs.finds(tid)?;
        holds(!found, || format!("without a scheduler, a lookup of tid {tid} found a task"))?;
    }
    Ok(tids.len())
}

pub(super) fn c12(lab: &Lab<'_>) -> Result<Findings> {
    Ok(vec![(12, without_the_flag(lab))])
}

fn without_the_flag(lab: &Lab<'_>) -> Result<String> {
    let programs = Programs::load(lab, false)?;
    let storm = lab.builtin("fork-storm")?;
    let attached = lab::attach(subs::open(lab, false, &[])?)?;
    lab.play(&storm, Duration::from_secs(2), || false)?;
    lab::still_up(&attached)?;
    attached.detach()?;
    let (forks, without, inserts) =
        (programs.count("forks"), programs.count("without_tid"), programs.count("inserts"));
    came_up(forks > 0, || "nothing was forked".to_owned())?;
    holds(without == 0, || format!("{without} of {forks} forked tasks have no tid"))?;
    holds(inserts == 0, || format!("{inserts} tasks were inserted into a table"))?;
    // The same program sees the inserts of a scheduler with the flag.
    lab::attach(subs::open(lab, true, &[])?)?.detach()?;
    let with = programs.count("inserts");
    came_up(with > 0, || "no insert is seen with the flag either".to_owned())?;
    Ok(format!("{forks} forks got tids, and none was inserted; {with} inserts with the flag"))
}
