//! Time as a task sees it: burning it and sleeping it away. All in ns.

use std::hint::spin_loop;

/// Now, by `CLOCK_MONOTONIC`.
pub(super) fn now() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours. Both clocks exist, so this does not fail.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Burns CPU until `at`.
pub(super) fn spin_until(at: u64) {
    while now() < at {
        for _ in 0..32 {
            spin_loop();
        }
    }
}

/// Burns `time` of the thread's own CPU time. No more of that can pass than time itself, so it
/// spins by the clock that needs no system call, and asks the kernel how much it was in the end.
pub(super) fn burn(time: u64) {
    let used = || read(libc::CLOCK_THREAD_CPUTIME_ID);
    let end = used().saturating_add(time);
    loop {
        match end.saturating_sub(used()) {
            0 => return,
            left => spin_until(now().saturating_add(left)),
        }
    }
}

/// Sleeps until `at`.
pub(super) fn sleep_until(at: u64) {
    let until = libc::timespec {
        tv_sec: (at / 1_000_000_000) as libc::time_t,
        tv_nsec: (at % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: `until` is ours; with an absolute time nothing is written back.
    let sleep = || unsafe {
        let (clock, absolute) = (libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME);
        libc::clock_nanosleep(clock, absolute, &until, std::ptr::null_mut())
    };
    while sleep() == libc::EINTR {}
}

/// Where a timer goes on: its next expiry to store, and whether to sleep for it. `stored` is the
/// one before.
pub(super) fn next_expiry(
    stored: Option<u64>,
    now: u64,
    period: u64,
    absolute: bool,
) -> (u64, bool) {
    let next = stored.unwrap_or(now).saturating_add(period);
    match next > now {
        true => (next, true),
        // Late: on the grid, or from now on.
        false => (if absolute { next } else { now }, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burning_takes_cpu_time() {
        let burns = (0..20).map(|_| {
            let before = read(libc::CLOCK_THREAD_CPUTIME_ID);
            burn(3_000_000);
            read(libc::CLOCK_THREAD_CPUTIME_ID) - before
        });
        // What a hypervisor takes away counts as used; not every time.
        let least = burns.min().unwrap();
        assert!((3_000_000..6_000_000).contains(&least), "{least}");
    }

    #[test]
    fn sleeping_takes_none() {
        let (before, used) = (now(), read(libc::CLOCK_THREAD_CPUTIME_ID));
        sleep_until(before + 20_000_000);
        assert!(now() >= before + 20_000_000);
        assert!(read(libc::CLOCK_THREAD_CPUTIME_ID) - used < 10_000_000);
    }

    #[test]
    fn timers_expire_as_in_the_engine() {
        assert_eq!(next_expiry(None, 100, 10, false), (110, true));
        assert_eq!(next_expiry(Some(110), 115, 10, false), (120, true));
        assert_eq!(next_expiry(Some(110), 135, 10, false), (135, false));
        assert_eq!(next_expiry(Some(110), 135, 10, true), (120, false));
    }
}
