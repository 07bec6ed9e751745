//! Plays a workload as real processes and threads: the same [`Program`] that the engine plays.
//!
//! # Who is there
//!
//! - The **player** ([`Player`]) is in the process that wants the workload.
//! - The **keeper** is its child, a fresh exec of the agent's binary: small, with one thread, so
//!   that forks from it are cheap. It is to the workload what `init` is to a machine: it forks the
//!   start entries, orphans become its children (`PR_SET_CHILD_SUBREAPER`), and it reaps them.
//! - The **anchor** is a child of the keeper that only sleeps. It leads the process group that
//!   all tasks are in and never leave, so that the group's number stays theirs.
//! - The **tasks** interpret the program (module `task`). Process is process, thread is thread,
//!   exec is exec: of the agent's own binary, by the very thread that the program says.
//!
//! All share one piece of memory, the stage (module `stage`).
//!
//! An exec costs what the image's start does. Under an emulator that is least by far for a static
//! binary that is not position-independent (`-C target-feature=+crt-static -C
//! relocation-model=static`): it has nothing to relocate, and its code is where it was translated.
//!
//! # How it ends
//!
//! A signal to a process group and a fork exclude each other in the kernel: a fork that is going on
//! then either fails or has its child in the group when the signal goes round. So one
//! `kill(-group, SIGKILL)` ends also a fork bomb, without any rights and without cgroups. The
//! keeper does that, and reaps until it has no child, when
//! - the player asks for it, or is gone: the socket between the two has come to its end;
//! - the anchor is gone.
//!
//! If the keeper is gone, the anchor does it (`PR_SET_PDEATHSIG`), and `init` reaps. So any one of
//! the three can be killed at any time; only who kills keeper and anchor at once leaves tasks.
//!
//! # What is counted
//!
//! `forked` counts when the creator's call has returned, `execs` when the new image runs. A task
//! that is killed in between is not counted there. `exited` cannot be counted by those who end, as
//! most of them are killed: it is `forked` less those that `/proc` shows as alive in the group. So
//! it is exact when all are dead, and never too high before.
//!
//! # What differs from the engine
//!
//! `sync`, `registry` and `who` say what they cannot promise. What a task asks for and the kernel
//! refuses is noted ([`Player::refusals`]), and the task goes on. The parent of a start entry is
//! the keeper, which no instruction can touch. An image is called `exe` until its `main` has named
//! it, because that is what the kernel calls it. Cgroups are threaded ones below one of our own,
//! without controllers; `/` is that one.

mod anchor;
mod carry;
mod census;
mod cgroups;
mod chance;
mod check;
mod clock;
mod error;
mod futex;
mod keeper;
mod kernel;
mod life;
mod player;
mod refusal;
mod registry;
mod script;
mod settings;
mod stage;
mod sync;
mod task;
mod threads;
mod who;

use std::ffi::OsString;

#[cfg(doc)]
use scxlab_engine::Program;

pub(crate) use cgroups::remove as remove_cgroup;
pub use error::PlayError;
pub use player::{Options, Player};
pub use refusal::Refusal;

/// The agent's subcommand that keepers and tasks are; not for people.
pub const SUBCOMMAND: &str = "play";

/// The subcommand's argument for a keeper, and for a task that has exec'd.
const KEEPER: &str = "keeper";
const IMAGE: &str = "image";

/// Goes on as what the arguments behind [`SUBCOMMAND`] say. Call it before anything else: it is
/// what a task's exec leads to.
pub fn image_main(args: impl IntoIterator<Item = OsString>) -> ! {
    let mut args = args.into_iter();
    let what = args.next();
    let carry = args.next().and_then(|arg| carry::Carry::read(arg.to_str()?));
    let stage = match stage::Stage::inherited() {
        Ok(stage) => Box::leak(Box::new(stage)),
        Err(error) => {
            eprintln!("`{SUBCOMMAND}` is for tasks of a workload, not for people: {error}");
            kernel::exit_process(2);
        }
    };
    kernel::one_arena();
    match (what, carry) {
        (Some(what), None) if what == KEEPER => keeper::main(stage),
        (Some(what), Some(carry)) if what == IMAGE => life::image(stage, carry),
        _ => {
            eprintln!("`{SUBCOMMAND}` takes `{KEEPER}`, or `{IMAGE}` and what the task carries");
            kernel::exit_process(2);
        }
    }
}
