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

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

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
    mutex.store(HANDED, Release);
    if futex::wake(mutex, 1) == 0 {
        mutex.store(FREE, Release);
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

#[cfg(test)]
mod tests {
    use super::super::kernel;
    use super::*;
    use std::sync::Mutex;
    use std::time::Duration;

    /// Threads that say who they are before they may fall asleep.
    #[derive(Default)]
    struct Sleepers(Mutex<Vec<i32>>);

    impl Sleepers {
        fn enter(&self) {
            self.0.lock().unwrap().push(kernel::gettid());
        }

        /// Waits until so many have come, and all of those that live sleep.
        fn wait_for(&self, n: usize) {
            let sleeps = |tid: &i32| {
                let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat"));
                // The state follows the name, which may have anything in it.
                stat.map_or(true, |stat| stat.rsplit(") ").next().unwrap().starts_with('S'))
            };
            loop {
                let all = self.0.lock().unwrap().clone();
                if all.len() == n && all.iter().all(sleeps) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    #[test]
    fn a_mutex_keeps_others_out() {
        let (mutex, sum) = (AtomicU32::new(FREE), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for i in 0..5_000 {
                        lock(&mutex);
                        // Not atomic as a whole: it needs the mutex.
                        let seen = sum.load(Relaxed);
                        if i % 64 == 0 {
                            std::thread::yield_now();
                        }
                        sum.store(seen + 1, Relaxed);
                        unlock(&mutex);
                    }
                });
            }
        });
        assert_eq!((sum.into_inner(), mutex.into_inner()), (20_000, FREE));
    }

    #[test]
    fn a_mutex_goes_to_whom_has_waited_longest() {
        let (mutex, order) = (AtomicU32::new(FREE), Mutex::new(Vec::new()));
        let waiting = Sleepers::default();
        lock(&mutex);
        std::thread::scope(|scope| {
            for i in 0..5 {
                let (mutex, order, waiting) = (&mutex, &order, &waiting);
                scope.spawn(move || {
                    waiting.enter();
                    lock(mutex);
                    order.lock().unwrap().push(i);
                    unlock(mutex);
                });
                waiting.wait_for(i + 1);
            }
            unlock(&mutex);
            // Comes at once, and is last all the same.
            lock(&mutex);
            order.lock().unwrap().push(5);
            unlock(&mutex);
        });
        assert_eq!(order.into_inner().unwrap(), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_signal_that_nobody_waits_for_is_lost() {
        let (cond, mutex, woken) = (AtomicU32::new(0), AtomicU32::new(FREE), AtomicU32::new(0));
        let waiting = Sleepers::default();
        cond_signal(&cond);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    waiting.enter();
                    lock(&mutex);
                    cond_wait(&cond, &mutex, true);
                    woken.fetch_add(1, Relaxed);
                    unlock(&mutex);
                });
            }
            waiting.wait_for(3);
            assert_eq!(woken.load(Relaxed), 0);
            cond_signal(&cond);
            while woken.load(Relaxed) == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            waiting.wait_for(3);
            assert_eq!(woken.load(Relaxed), 1);
            cond_broadcast(&cond);
        });
        assert_eq!(woken.into_inner(), 3);
    }

    #[test]
    fn a_barrier_holds_until_all_have_come_every_time() {
        let (word, come) = (AtomicU64::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 1..=500 {
                        come.fetch_add(1, Relaxed);
                        barrier(&word, 4);
                        assert!(come.load(Relaxed) >= 4 * round);
                        barrier(&word, 4);
                    }
                });
            }
        });
        assert_eq!(word.into_inner(), 1000 << 32);
    }
}
