//! The anchor: leads the tasks' process group, and takes it along when the keeper is gone.

use super::kernel;

/// What the kernel sends when the keeper is gone.
const KEEPER_GONE: libc::c_int = libc::SIGUSR1;

/// Forks the anchor. Its pid is the group's number.
pub(super) fn fork() -> std::io::Result<i32> {
    let keeper = kernel::getpid();
    // SAFETY: the keeper has one thread.
    match unsafe { libc::fork() } {
        0 => main(keeper),
        pid if pid > 0 => {
            // Whichever of the two comes first.
            // SAFETY: plain numbers.
            unsafe { libc::setpgid(pid, pid) };
            Ok(pid)
        }
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn main(keeper: i32) -> ! {
    kernel::set_name("scxlab-anchor");
    let set = kernel::block_only(&[KEEPER_GONE, libc::SIGINT, libc::SIGTERM, libc::SIGHUP]);
    // SAFETY: plain numbers.
    unsafe {
        libc::setpgid(0, 0);
        libc::prctl(libc::PR_SET_PDEATHSIG, KEEPER_GONE);
        // Only what the keeper and the player have of it may count.
        libc::close(1);
    }
    while kernel::getppid() == keeper {
        let mut signal = 0;
        // SAFETY: both are ours.
        unsafe { libc::sigwait(&set, &mut signal) };
    }
    // SAFETY: plain numbers. The group is ours alone, and we are in it.
    unsafe { libc::kill(0, libc::SIGKILL) };
    kernel::exit_process(0)
}
