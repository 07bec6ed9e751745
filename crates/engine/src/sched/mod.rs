//! The core scheduler: wakeups, the switch from task to task, changes of a task's properties, and
//! the fair class. `kernel/sched/core.c` in Linux 7.2; sched_ext itself is in [`crate::ext`].

mod burst;
mod change;
mod ext_server;
mod fair;
mod switch;
mod wakeup;

pub(crate) use change::policy_number;
