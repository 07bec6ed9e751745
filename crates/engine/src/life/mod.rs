//! A task's life: boot, fork, what it does, exec and exit. `kernel/fork.c`, `fs/exec.c` and
//! `kernel/exit.c` in Linux 7.2.

mod boot;
mod exec;
mod exit;
mod fork;
mod kill;
mod sync;
mod user;
