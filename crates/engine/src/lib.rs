//! The sched_ext core in virtual time: a simulated machine whose tasks fork, exec, exit and sleep,
//! and whose scheduler is one that sched_ext would run.
//!
//! The reference for every rule is Linux 7.2. The engine keeps the kernel's objects ([`TaskStruct`]
//! with its [`SchedExtEntity`]), its numbers ([`flags`]), the order of its steps and its messages.
//! One event is handled at a time, in the order of (time, sequence), and all chance comes from
//! [`Config::seed`]; so a run repeats byte for byte, and an [`Engine`] can be cloned at any event.
//! Where the kernel drops a lock half-way through an operation, other CPUs may act half-way
//! through it here too.
//!
//! ```
//! use std::sync::Arc;
//! use scxlab_engine::{Config, Engine, Nanos, Program};
//! use scxlab_engine::program::{Instr, Pc, Policy, Span, Start};
//!
//! let program = Program {
//!     code: vec![Instr::Run(Span::exactly(Nanos::from_millis(5))), Instr::Exit],
//!     names: vec!["worker".into()],
//!     start: vec![Start {
//!         entry: Pc(0),
//!         name: 0,
//!         policy: Policy::Normal,
//!         nice: 0,
//!         affinity: None,
//!         cgroup: None,
//!         at: Nanos::ZERO,
//!     }],
//!     ..Program::default()
//! };
//! let mut engine = Engine::new(Config::new(2, Arc::new(program)))?;
//! engine.run_until(Nanos::from_millis(10));
//! assert_eq!((engine.stats().forked, engine.stats().exited), (1, 1));
//! # Ok::<(), scxlab_engine::ConfigError>(())
//! ```
#![forbid(unsafe_code)]

mod cgroup;
mod config;
mod cpumask;
mod engine;
mod events;
mod explain;
mod ext;
pub mod flags;
mod invariants;
mod kfunc;
mod life;
mod list;
mod ops;
mod overlap;
mod pid;
pub mod program;
mod rng;
mod rq;
mod sched;
mod seam;
mod sim;
mod stats;
mod task;
mod time;
mod topology;
mod trace;

#[doc(hidden)]
pub use config::Sabotage;
pub use config::{Config, ConfigError, Costs, Seams};
pub use cpumask::{Cid, CpuId, Cpumask, NR_CPUS};
pub use engine::{EnableState, Engine, SchedId};
pub use explain::StalledTask;
pub use ext::counters::EventCounters;
pub use ext::enable::AttachError;
pub use ext::exit_info::{ExitInfo, ExitKind};
pub use ext::tracepoint::{Tracepoint, TracepointSet};
pub use flags::{DeqFlags, DsqId, EnqFlags, KickFlags, OpsFlags, PickIdleFlags, WakeFlags};
pub use kfunc::{Cx, DsqIter, ProcessId, Queue, QueueId, RunQueue, Slot, Task};
pub use ops::{
    DumpCtx, Errno, ExitTaskArgs, Form, InitTaskArgs, OpSet, Ops, Scheduler, State, SubArgs,
};
pub use program::Program;
pub use stats::Stats;
pub use task::{Pid, SchedClass, SchedEntity, SchedExtEntity, TaskState, TaskStruct};
pub use time::Nanos;
pub use trace::{PidLoss, Record, TaskName, What};
