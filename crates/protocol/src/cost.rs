//! What tids cost: what is to be measured, and what came of it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What is to be measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CostPlan {
    /// `bpf/cost.bpf.c`, compiled, as the agent sees the file.
    pub object: PathBuf,
    /// Tasks that are there meanwhile and are looked up; at most 8192.
    pub tasks: u32,
    /// Lookups in a round, of each kind: at least so many.
    pub lookups: u32,
    /// Processes and threads that are created in a round.
    pub forks: u32,
    /// Rounds. Each goes through all of [`Tids::ALL`], every other one backwards.
    pub rounds: u32,
}

/// Whose tids are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tids {
    /// No scheduler is attached.
    NoScheduler,
    /// A scheduler without tids is.
    Off,
    /// One with the kernel's own tids.
    Native,
    /// One with the portable tids, in BPF maps.
    Portable,
}

impl Tids {
    /// All.
    pub const ALL: [Self; 4] = [Self::NoScheduler, Self::Off, Self::Native, Self::Portable];
}

/// What one round came to, with one kind of tids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Which round, from 0.
    pub round: u32,
    /// Whose tids were in use.
    pub tids: Tids,
    /// Lookups, where they can be made.
    pub lookups: Option<Lookups>,
    /// A process is forked, exits at once, and is waited for.
    pub processes: Timed,
    /// A thread is created, exits at once, and is joined.
    pub threads: Timed,
}

/// Lookups by a BPF program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookups {
    /// The same loop without a lookup.
    pub nothing: Timed,
    /// Of tasks that live, in random order. All were found.
    pub hits: Timed,
    /// Of tids that nobody has.
    pub misses: Timed,
}

/// Something that was done many times, in batches: the median batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timed {
    /// How many batches there were.
    pub batches: u64,
    /// How often it was done in each.
    pub times: u64,
    /// How long that took.
    pub ns: u64,
}

impl Timed {
    /// Of what all batches took, in ns.
    pub fn median(times: u64, mut batches: Vec<u64>) -> Self {
        batches.sort_unstable();
        let ns = batches.get(batches.len() / 2).copied().unwrap_or(0);
        Self { batches: batches.len() as u64, times, ns }
    }

    /// How long one took, in ns.
    pub fn each(self) -> f64 {
        self.ns as f64 / self.times as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_batch_does_not_count() {
        let timed = Timed::median(10, vec![50, 9_000, 40]);
        assert_eq!(timed, Timed { batches: 3, times: 10, ns: 50 });
        assert_eq!(timed.each(), 5.0);
    }
}
