//! C11: chunks of ids, from the ids that CPUs handed out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;

use super::lab::Lab;
use super::{came_up, holds, watch};
use crate::attached::Attached;
use crate::object::Loaded;

/// Ids that a CPU takes at a time.
const CHUNK: u64 = 1024;

/// Tasks fork that cannot leave their CPU, so that the ids of their children are the CPU's.
pub(super) fn fork_on_each_cpu(lab: &Lab<'_>, attached: &Attached) -> Result<()> {
    lab.doing("checking C11: forks on each CPU");
    let program = watch::pinned_forkers(lab.cpus());
    let enough = watch::enough(lab.cpus());
    let forked = || attached.loaded.number("pinned_forks").is_some_and(|forks| forks > enough);
    lab.play(&program, Duration::from_secs(20), forked)?;
    Ok(())
}

/// The ids that were handed out since the attach.
pub(super) struct Issued {
    all: BTreeSet<u64>,
    /// Those to children of tasks that could not leave their CPU.
    pinned: BTreeMap<u32, BTreeSet<u64>>,
    /// The portable tid's cursor.
    portable_cursor: Option<u64>,
}

impl Issued {
    /// What the programs have recorded.
    pub(super) fn read(loaded: &Loaded) -> Self {
        let tid = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let all = loaded.entries("issued").iter().map(|(key, _)| tid(key)).collect();
        let mut pinned = BTreeMap::<u32, BTreeSet<u64>>::new();
        for (key, value) in loaded.entries("pinned") {
            let cpu = value.as_slice().try_into().map_or(0, u32::from_le_bytes);
            pinned.entry(cpu).or_default().insert(tid(&key));
        }
        Self { all, pinned, portable_cursor: loaded.number("scx_tid_cursor") }
    }

    pub(super) fn highest(&self) -> u64 {
        self.all.last().copied().unwrap_or(0)
    }

    /// `cursor`: where the kernel's stood at the attach and at the end; without it, the portable
    /// one, which began at 1.
    pub(super) fn check(&self, cursor: Option<(u64, u64)>) -> Result<String> {
        let mut owners = BTreeMap::new();
        let (mut ids, mut crossed) = (0, 0);
        for (&cpu, tids) in &self.pinned {
            ids += tids.len();
            for &tid in tids {
                let owner = *owners.entry(chunk(tid)).or_insert(cpu);
                holds(owner == cpu, || {
                    format!("CPUs {owner} and {cpu} have handed out ids of the chunk of tid {tid}")
                })?;
            }
            for (&a, &b) in tids.iter().zip(tids.iter().skip(1)) {
                crossed += u64::from(chunk(a) != chunk(b));
                let missing = between(a, b).find(|tid| !self.all.contains(tid));
                holds(missing.is_none(), || {
                    format!("CPU {cpu} handed out tid {a}, then {b}, and nobody got {missing:?}")
                })?;
            }
        }
        let (first, last) =
            cursor.or(self.portable_cursor.map(|cursor| (1, cursor))).unwrap_or((0, 0));
        came_up(crossed > 0, || format!("{ids} ids, and no CPU came to the end of its chunk"))?;
        holds(first % CHUNK == 1 && last % CHUNK == 1, || {
            format!("the cursor went from {first} to {last}: no whole chunks from 1 on")
        })?;
        let new: BTreeSet<u64> = self.all.iter().map(|&tid| chunk(tid)).collect();
        let new = new.into_iter().filter(|&chunk| chunk >= (first - 1) / CHUNK).count() as u64;
        let moved = last.saturating_sub(first) / CHUNK;
        holds(new == moved && moved > 0, || {
            format!("the cursor moved {moved} times, and ids of {new} new chunks were handed out")
        })?;
        Ok(format!(
            "{ids} ids of tasks that could not leave their CPU, on {} CPUs: consecutive on each, to \
             the end of a chunk {crossed} times; in all the cursor moved {moved} times, once for \
             each of {new} chunks",
            self.pinned.len()
        ))
    }
}

fn chunk(tid: u64) -> u64 {
    tid.saturating_sub(1) / CHUNK
}

/// The ids that a CPU hands out after `a` and before `b`.
fn between(a: u64, b: u64) -> impl Iterator<Item = u64> {
    let (end_of_a, start_of_b) = match chunk(a) == chunk(b) {
        true => (b, b),
        false => ((chunk(a) + 1) * CHUNK + 1, chunk(b) * CHUNK + 1),
    };
    (a + 1..end_of_a).chain(start_of_b..b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued(all: impl Iterator<Item = u64>, pinned: &[(u32, &[u64])]) -> Issued {
        let pinned =
            pinned.iter().map(|(cpu, tids)| (*cpu, tids.iter().copied().collect())).collect();
        Issued { all: all.collect(), pinned, portable_cursor: Some(3 * CHUNK + 1) }
    }

    #[test]
    fn chunks_are_checked() {
        let fine = issued(1..=2060, &[(0, &[1000, 1024, 2049]), (1, &[1025, 1030])]);
        assert!(fine.check(None).is_ok(), "{:?}", fine.check(None));
        assert!(fine.check(Some((1, 2 * CHUNK + 1))).is_err(), "a chunk too many");
        assert!(fine.check(Some((2, 3 * CHUNK + 2))).is_err(), "not from 1 on");
        let shared = issued(1..=2060, &[(0, &[1000, 1024, 2049]), (1, &[1001, 1030])]);
        assert!(shared.check(None).is_err());
        let hole = issued((1..=2060).filter(|&tid| tid != 1010), &[(0, &[1000, 1024, 2049])]);
        assert!(hole.check(None).is_err());
        let no_end = issued(1..=2060, &[(0, &[1000, 1010])]);
        assert!(no_end.check(None).is_err());
    }
}
