//! A guest with the agent in it, up and at work.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use scxlab_protocol::Job;
use scxlab_vm::{Accel, Cargo, Guest, Machine, find_agent};

use super::interrupt;
use crate::output::aside;
use crate::status::Failure;

/// Whether a guest has run without a KVM, so that another one will.
static SOFTWARE: AtomicBool = AtomicBool::new(false);

/// Boots the machine with a job, and the files that the job names: where the guest finds each, and
/// where it is here. Says on standard error what is to be said about the way in which it runs; a KVM
/// that did not work is not tried again.
///
/// # Errors
/// Something is missing, or the guest does not come up.
pub(super) fn boot(
    machine: &Machine,
    job: Job,
    files: Vec<(PathBuf, PathBuf)>,
) -> Result<Guest, Failure> {
    let interrupt = interrupt::flag();
    let cargo = Cargo { agent: find_agent().map_err(Failure::missing)?, job, files };
    let mut machine = machine.clone();
    if machine.accel == Accel::Auto && SOFTWARE.load(Ordering::Relaxed) {
        machine.accel = Accel::Tcg;
    }
    let guest = machine.boot(&cargo, &interrupt).map_err(Failure::missing)?;
    SOFTWARE.fetch_or(guest.accel() == Accel::Tcg, Ordering::Relaxed);
    for note in guest.notes() {
        aside(&note.0);
    }
    Ok(guest)
}
