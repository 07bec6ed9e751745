//! C6: a task dies while a reader has it.

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use super::lab::Lab;
use super::programs::Programs;
use super::{Broken, came_up, holds};
use crate::attached::{Attached, wait_for};

/// How often a task dies so.
const ROUNDS: u64 = 5;

/// How often each of them is given the time to. A machine with few CPUs, and those slow ones, may
/// run the reader and not who has to die.
const TRIES: u64 = 3;

/// How long the task may take to die.
const MOST_NS: u64 = 3_000_000_000;

pub(super) fn check(
    lab: &Lab<'_>,
    attached: &mut Attached,
    programs: &mut Programs,
) -> Result<Result<String>> {
    lab.doing("checking C6: tasks that die in a reader's section");
    let mut least = u64::MAX;
    for _ in 0..ROUNDS {
        match tries(attached, programs)? {
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

/// One round, and others in its stead as long as nothing comes up.
fn tries(attached: &mut Attached, programs: &mut Programs) -> Result<Result<u64>> {
    for _ in 1..TRIES {
        match round(attached, programs)? {
            Err(why) if !why.is::<Broken>() => {}
            shown => return Ok(shown),
        }
    }
    round(attached, programs)
}

/// How long the reader went on with the dead task, in ns.
fn round(attached: &mut Attached, programs: &mut Programs) -> Result<Result<u64>> {
    let (to_us, from_victim) = channel();
    let (to_victim, from_us) = channel::<()>();
    let victim = thread::spawn(move || {
        // SAFETY: it has no preconditions.
        let _ = to_us.send(unsafe { libc::gettid() });
        let _ = from_us.recv();
    });
    let pid = from_victim.recv()?;
    let tid = programs.tid_of(pid)?.context("the thread has no tid")?;
    let killer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        drop(to_victim);
    });
    let mut words = [tid, MOST_NS, 0, 0, 0, 0];
    call(attached, &mut words)?;
    let [.., found, dead_for_ns, intact, freed] = words;
    for thread in [killer, victim] {
        thread.join().map_err(|_| anyhow!("a thread panicked"))?;
    }
    let was_freed = || attached.loaded.number("held_freed_at").is_some_and(|at| at != 0);
    let freed_later = wait_for(was_freed).is_ok();
    let checked = holds(found != 0, || format!("the lookup did not find tid {tid}"))
        .and_then(|()| came_up(dead_for_ns > 0, || format!("tid {tid} did not die in the section")))
        .and_then(|()| holds(freed == 0, || format!("tid {tid} was freed in the section")))
        .and_then(|()| holds(intact != 0, || format!("tid {tid} is not itself any more")))
        .and_then(|()| holds(freed_later, || format!("tid {tid} was not freed after the section")));
    Ok(checked.map(|()| dead_for_ns))
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
