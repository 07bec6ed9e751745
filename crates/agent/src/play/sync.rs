//! The program's mutexes, condition variables and barriers, for processes that may be killed at
//! any instruction.
//!
//! There is no queue of ours that a dying task could leave half-changed: waiters queue in the
//! kernel, which drops those that die and wakes the others first come, first served (tasks of the
//! workload's policies are all alike to a futex). All else is one word for each object.
//!
//! Where this is less than the engine promises:
//! - a signal also satisfies those that are on their way to sleep when it comes;
//! - who is signalled asks for the mutex anew, behind those that already wait for it;
//! - a task that is killed while it waits at a barrier stays counted, as with `pthread_barrier`;
//! - one that is killed within an unlock may leave the mutex locked, as one killed before it would.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire};

use super::futex::{self, Woken};

/// Nobody has the mutex,
const FREE: u32 = 0;
/// somebody has it,
const HELD: u32 = 1;
/// and others may wait for it.
const WANTED: u32 = 2;
/// It is about to belong to the one that the kernel wakes.
const HANDED: u32 = 3;

/// Sleeps while another task has the mutex.
pub(super) fn lock(mutex: &AtomicU32) {
    if mutex.compare_exchange(FREE, HELD, Acquire, Relaxed).is_ok() {
        return;
    }
    loop {
        let state = match mutex.load(Relaxed) {
            // Others may wait; nothing is lost when none do.
            FREE if swapped(mutex, FREE, WANTED) => return,
            HELD if swapped(mutex, HELD, WANTED) => WANTED,
            state @ (WANTED | HANDED) => state,
            _ => continue,
        };
        if futex::wait(mutex, state) == Woken::Yes && swapped(mutex, HANDED, WANTED) {
            return;
        }
    }
}

/// For the task that has the mutex: gives it to the one that has waited longest.
pub(super) fn unlock(mutex: &AtomicU32) {
    if mutex.compare_exchange(HELD, FREE, AcqRel, Relaxed).is_ok() {
        return;
    }
    // Newcomers find it taken, so only the one that is woken can have it.
    mutex.store(HANDED, std::sync::atomic::Ordering::Release);
    if futex::wake(mutex, 1) == 0 {
        mutex.store(FREE, std::sync::atomic::Ordering::Release);
        // For one that fell asleep between the two.
        futex::wake(mutex, 1);
    }
}

fn swapped(word: &AtomicU32, from: u32, to: u32) -> bool {
    word.compare_exchange(from, to, AcqRel, Relaxed).is_ok()
}

/// Unlocks `mutex`, sleeps until the condition variable is signalled, locks it again. `held` says
/// whether the task has the mutex.
pub(super) fn cond_wait(cond: &AtomicU32, mutex: &AtomicU32, held: bool) {
    let signals = cond.load(Acquire);
    if held {
        unlock(mutex);
    }
    while cond.load(Acquire) == signals && futex::wait(cond, signals) == Woken::No {}
    lock(mutex);
}

/// Wakes one that waits.
pub(super) fn cond_signal(cond: &AtomicU32) {
    cond.fetch_add(1, AcqRel);
    futex::wake(cond, 1);
}

/// Wakes all that wait.
pub(super) fn cond_broadcast(cond: &AtomicU32) {
    cond.fetch_add(1, AcqRel);
    futex::wake_all(cond);
}

/// Sleeps until `needs` tasks have come. The low half of the word counts them, the high half the
/// rounds.
pub(super) fn barrier(barrier: &AtomicU64, needs: u32) {
    let mut seen = barrier.load(Acquire);
    loop {
        let (round, here) = ((seen >> 32) as u32, seen as u32 + 1);
        let last = here >= needs;
        let next = if last { u64::from(round.wrapping_add(1)) << 32 } else { seen + 1 };
        match barrier.compare_exchange_weak(seen, next, AcqRel, Acquire) {
            Err(now) => seen = now,
            Ok(_) if last => return futex::wake_all(rounds(barrier)),
            Ok(_) => {
                while (barrier.load(Acquire) >> 32) as u32 == round {
                    futex::wait(rounds(barrier), round);
                }
                return;
            }
        }
    }
}

/// The high half, which is what sleepers watch.
fn rounds(barrier: &AtomicU64) -> &AtomicU32 {
    let high = usize::from(cfg!(target_endian = "little"));
    // SAFETY: the word's two halves are valid, aligned memory for as long as the word is, and we
    // only pass the half's address to the kernel, which reads it as a futex does.
    unsafe { &*barrier.as_ptr().cast::<AtomicU32>().add(high) }
}
