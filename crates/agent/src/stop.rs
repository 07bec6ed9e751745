//! Being asked to stop: by a signal, by the end of whoever started the job, or because nobody
//! listens any more. Whoever waits for something looks here, so that all is put back as it was.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Result, ensure};

static ASKED: AtomicBool = AtomicBool::new(false);

/// How long it may take to stop, in seconds. Then the kernel ends this process, and with it its
/// scheduler; the keeper ends the workload.
const GRACE: libc::c_uint = 20;

/// From now on a signal asks to stop, and so does the end of the thread that started this process.
/// That may have ended before: then [`Report`](crate::report::Report) notices.
pub fn on_signals() {
    // SAFETY: an all-zero `sigaction` is valid, and the handler does only what a handler may.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
    }
}

extern "C" fn handler(_: libc::c_int) {
    ask();
}

/// Asks to stop. A signal handler may call this.
pub fn ask() {
    if !ASKED.swap(true, Relaxed) {
        // SAFETY: it has no preconditions. Its signal ends a process that does nothing about it.
        unsafe { libc::alarm(GRACE) };
    }
}

/// Whether it was asked.
pub fn is_asked() -> bool {
    ASKED.load(Relaxed)
}

/// An error if it was asked.
///
/// # Errors
/// It was.
pub fn check() -> Result<()> {
    ensure!(!is_asked(), "asked to stop");
    Ok(())
}
