//! sched_ext: `kernel/sched/ext/` of Linux 7.2, module by module of what happens to a task.

pub(crate) mod bypass;
mod call;
pub(crate) mod class;
pub(crate) mod counters;
pub(crate) mod cursor;
pub(crate) mod disable;
mod dispatch;
mod dsq;
pub(crate) mod dump;
pub(crate) mod enable;
mod enqueue;
pub(crate) mod exit_info;
pub(crate) mod idle;
mod kick;
mod moves;
pub(crate) mod reenq;
pub(crate) mod sched;
mod sub;
mod task;
mod tid;
pub(crate) mod tracepoint;
mod watchdog;

pub(crate) use dispatch::Verdict;
