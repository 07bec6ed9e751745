//! `futex(2)`, as far as processes that share memory need it.

use std::sync::atomic::AtomicU32;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// By a wake.
    Yes,
    /// The word was not, or is no more, what was expected; or a signal came.
    No,
}

/// Sleeps while `word` is `expected`. The kernel keeps waiters in the order in which they came.
pub(super) fn wait(word: &AtomicU32, expected: u32) -> Woken {
    let timeout = std::ptr::null::<libc::timespec>();
    // SAFETY: `word` is valid memory for as long as the call lasts, and there is no timeout.
    let ret = unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, timeout)
    };
    if ret == 0 { Woken::Yes } else { Woken::No }
}

/// Wakes up to `n` that wait, the first ones first; how many it were.
pub(super) fn wake(word: &AtomicU32, n: i32) -> u32 {
    // SAFETY: the kernel uses the address as a key only.
    let ret = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, n) };
    u32::try_from(ret).unwrap_or(0)
}

/// Wakes all that wait.
pub(super) fn wake_all(word: &AtomicU32) {
    wake(word, i32::MAX);
}
