//! Nice value, affinity, policy and cgroup of real tasks. A tid of 0 is the caller's own.

use std::io;

use scxlab_engine::Cpumask;

/// `setpriority(2)`; what is already so is not asked for.
pub(super) fn set_nice(tid: i32, nice: i32) -> io::Result<()> {
    // SAFETY: plain numbers. The raw call returns 20 - nice, and so can tell errors.
    let is = unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, tid) };
    if is == i64::from(20 - nice) {
        return Ok(());
    }
    // SAFETY: plain numbers.
    done(unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, tid, nice) })
}

/// `sched_setaffinity(2)`: the kernel leaves out CPUs that the machine lacks.
pub(super) fn set_affinity(tid: i32, cpus: &Cpumask) -> io::Result<()> {
    // SAFETY: a Cpumask is a bitmap as the kernel's, of this size.
    done(unsafe {
        let bits = std::ptr::from_ref(cpus);
        libc::syscall(libc::SYS_sched_setaffinity, tid, size_of::<Cpumask>(), bits)
    })
}

/// `sched_setscheduler(2)`.
pub(super) fn set_policy(tid: i32, policy: u32) -> io::Result<()> {
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: `param` is ours. The raw call, because a C library may not know the policy.
    done(unsafe { libc::syscall(libc::SYS_sched_setscheduler, tid, policy, &raw const param) })
}

/// Moves the calling thread to a threaded cgroup.
pub(super) fn enter_cgroup(directory: &str) -> io::Result<()> {
    std::fs::write(format!("{directory}/cgroup.threads"), "0")
}

/// Moves the calling process to a cgroup.
pub(super) fn enter_cgroup_as_process(directory: &str) -> io::Result<()> {
    std::fs::write(format!("{directory}/cgroup.procs"), "0")
}

fn done(ret: libc::c_long) -> io::Result<()> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
