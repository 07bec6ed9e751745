//! The sched_ext core in virtual time.
#![forbid(unsafe_code)]

mod cpumask;
pub mod program;
mod time;

pub use cpumask::{Cid, CpuId, Cpumask, NR_CPUS};
pub use program::Program;
pub use time::Nanos;

/// What things cost (see the engine's configuration).
#[derive(Clone, Debug)]
pub struct Costs;
