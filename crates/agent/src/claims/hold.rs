//! C6: a task dies while a reader has it.

use std::slice;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use nix::unistd::gettid;

use super::lab::Lab;
use super::programs::Programs;
use super::{Broken, came_up, holds};
use crate::affinity;
use crate::attached::{Attached, wait_for};

/// How often a task dies so.
const ROUNDS: u64 = 5;

/// How often each of them is given the time to, of which a slow machine may take too much for
/// something else.
const TRIES: u64 = 3;

/// How long the task may take to die.
const MOST_NS: u64 = 3_000_000_000;

pub(super) fn check(
    lab: &Lab<'_>,
    attached: &mut Attached,
    programs: &mut Programs,
) -> Result<Result<String>> {
    lab.doing("checking C6: tasks that die in a reader's section");
    let cpus = affinity::allowed()?;
    let Some((reader, others)) = cpus.split_last().filter(|(_, others)| !others.is_empty()) else {
        return Ok(Err(anyhow!("it takes two CPUs: a task dies on one while the other one reads")));
    };
    let cpus = Cpus { reader: slice::from_ref(reader), others };
    let mut least = u64::MAX;
    for _ in 0..ROUNDS {
        match tries(&cpus, attached, programs)? {
            Ok(dead_for_ns) => least = least.min(dead_for_ns),
            Err(broken) => return Ok(Err(broken)),
        }
    }
    Ok(Ok(format!(
        "{ROUNDS} tasks died in the middle of a reader's section, which went on for {} ms and more: \
         they stayed what they were, and were freed after it",
        least / 1_000_000
    )))
}

/// Nobody else gets the reader's CPU: who is to die, or sees to it, might be queued there, and would
/// have to wait for the reader's end.
struct Cpus<'a> {
    reader: &'a [usize],
    others: &'a [usize],
}

/// One round, and others in its stead as long as nothing comes up.
fn tries(cpus: &Cpus<'_>, attached: &mut Attached, programs: &mut Programs) -> Result<Result<u64>> {
    for _ in 1..TRIES {
        match round(cpus, attached, programs)? {
            Err(why) if !why.is::<Broken>() => {}
            shown => return Ok(shown),
        }
    }
    round(cpus, attached, programs)
}

/// How long the reader went on with the dead task, in ns.
fn round(cpus: &Cpus<'_>, attached: &mut Attached, programs: &mut Programs) -> Result<Result<u64>> {
    let (victim, killer, tid) = affinity::on(cpus.others, || start(programs))??;
    let mut words = [tid, MOST_NS, 0, 0, 0, 0];
    affinity::on(cpus.reader, || call(attached, &mut words))??;
    let [.., found, dead_for_ns, intact, freed] = words;
    for thread in [killer, victim] {
        thread.join().map_err(|_| anyhow!("a thread panicked"))?;
    }
    // That a lookup finds a task which lives is C3; this one may have died before the reader came.
    if let Err(why) = came_up(found != 0, || format!("the reader did not find tid {tid}")) {
        return Ok(Err(why));
    }
    let was_freed = || attached.loaded.number("held_freed_at").is_some_and(|at| at != 0);
    let freed_later = wait_for(was_freed).is_ok();
    let checked = came_up(dead_for_ns > 0, || format!("tid {tid} did not die in the section"))
        .and_then(|()| holds(freed == 0, || format!("tid {tid} was freed in the section")))
        .and_then(|()| holds(intact != 0, || format!("tid {tid} is not itself any more")))
        .and_then(|()| holds(freed_later, || format!("tid {tid} was not freed after the section")));
    Ok(checked.map(|()| dead_for_ns))
}

/// A thread that is going to die, the one that sees to it in a while, and the tid of the first.
fn start(programs: &mut Programs) -> Result<(JoinHandle<()>, JoinHandle<()>, u64)> {
    let (to_us, from_victim) = channel();
    let (to_victim, from_us) = channel::<()>();
    let victim = thread::spawn(move || {
        let _ = to_us.send(gettid().as_raw());
        let _ = from_us.recv();
    });
    let pid = from_victim.recv()?;
    let tid = programs.tid_of(pid)?.context("the thread has no tid")?;
    let killer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        drop(to_victim);
    });
    Ok((victim, killer, tid))
}

/// Runs the program with its context, `struct held`.
fn call(attached: &mut Attached, words: &mut [u64; 6]) -> Result<()> {
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    attached.loaded.call("hold", &mut bytes)?;
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = bytes.try_into().map_or(0, u64::from_le_bytes);
    }
    Ok(())
}
