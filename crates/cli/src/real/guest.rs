//! A guest with the agent in it, up and at work.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use scxlab_protocol::Job;
use scxlab_vm::{Cargo, Guest, Machine, find_agent};

use crate::status::Failure;

/// Boots the machine with a job, and the files that the job names: where the guest finds each, and
/// where it is here. Says on standard error what is to be said about the way in which it runs.
///
/// # Errors
/// Something is missing, or the guest does not come up.
pub(super) fn boot(
    machine: &Machine,
    job: Job,
    files: Vec<(PathBuf, PathBuf)>,
) -> Result<Guest, Failure> {
    let interrupt = on_interrupt();
    let cargo = Cargo { agent: find_agent().map_err(Failure::missing)?, job, files };
    let guest = machine.boot(&cargo, &interrupt).map_err(Failure::missing)?;
    for note in guest.notes() {
        eprintln!("scxlab: {}", note.0);
    }
    Ok(guest)
}

/// True from when the user, or the system, asks us to stop.
fn on_interrupt() -> Arc<AtomicBool> {
    let interrupt = Arc::new(AtomicBool::new(false));
    let flag = interrupt.clone();
    // If there is a handler already, the signal ends us, and the guest dies with us.
    let _ = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed));
    interrupt
}
