//! The atomics and locks: std's, or under `--cfg loom` those of loom, which tries every
//! interleaving and every value that a load may see.

#[cfg(loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicPtr, AtomicU32, AtomicU64},
};
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicPtr, AtomicU32, AtomicU64},
};

use std::sync::PoisonError;

/// Takes a lock. Nothing panics while it is held, so a poisoned one is as good.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits a moment for another thread, which holds a lock for some ten instructions if it runs.
pub(crate) fn relax(turn: u32) {
    #[cfg(loom)]
    {
        let _ = turn;
        loom::thread::yield_now();
    }
    #[cfg(not(loom))]
    if turn < 16 { std::hint::spin_loop() } else { std::thread::yield_now() }
}

/// Sits in what is published by a pointer, and is read by whoever follows that. It is nothing, but
/// for loom: there it is written and read without synchronization of its own, so that a pointer
/// that is published or loaded too weakly is noticed.
pub(crate) struct Witness {
    #[cfg(loom)]
    cell: loom::cell::UnsafeCell<()>,
}

impl Witness {
    pub(crate) fn new() -> Self {
        Self {
            #[cfg(loom)]
            cell: loom::cell::UnsafeCell::new(()),
        }
    }

    #[inline(always)]
    pub(crate) fn seen(&self) {
        #[cfg(loom)]
        self.cell.with(|_| ());
    }
}
