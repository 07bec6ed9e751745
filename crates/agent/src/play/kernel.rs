//! System calls that are the same for whoever makes them.

use std::io;

/// The calling thread's id.
pub(super) fn gettid() -> i32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::gettid() }
}

/// The calling process's id.
pub(super) fn getpid() -> i32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::getpid() }
}

/// The parent process's id.
pub(super) fn getppid() -> i32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::getppid() }
}

/// Renames the calling thread: `comm`. The kernel keeps 15 bytes.
pub(super) fn set_name(name: &str) {
    let mut comm = [0u8; 16];
    for (to, from) in comm[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: the name ends in a NUL.
    unsafe { libc::prctl(libc::PR_SET_NAME, comm.as_ptr()) };
}

/// What to do about a child that ends: nothing special, or forget it.
pub(super) fn ignore_children(ignore: bool) {
    let what = if ignore { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: neither is a function of ours.
    unsafe { libc::signal(libc::SIGCHLD, what) };
}

/// Ends the calling thread, and only that: not even the C library hears of it.
pub(super) fn exit_thread() -> ! {
    loop {
        // SAFETY: does not return.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
}

/// Ends the process, without anything that would be done at its end.
pub(super) fn exit_process(status: i32) -> ! {
    // SAFETY: does not return, and runs nothing of ours.
    unsafe { libc::_exit(status) }
}

/// Gives back a descriptor that only pidfds are.
struct PidFd(i32);

impl Drop for PidFd {
    fn drop(&mut self) {
        // SAFETY: ours, and not used after.
        unsafe { libc::close(self.0) };
    }
}

/// `SIGKILL` for the process that has the pid, if `still` holds once the kernel cannot mistake it
/// for another one any more.
pub(super) fn kill_process(pid: i32, still: impl FnOnce() -> bool) -> io::Result<()> {
    // SAFETY: plain numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as i32;
    if fd < 0 {
        return gone_is_fine(io::Error::last_os_error());
    }
    let fd = PidFd(fd);
    if !still() {
        return Ok(());
    }
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is ours; no info is given.
    let ret = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd.0, libc::SIGKILL, info, 0) };
    if ret == 0 { Ok(()) } else { gone_is_fine(io::Error::last_os_error()) }
}

fn gone_is_fine(error: io::Error) -> io::Result<()> {
    if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) }
}

/// Whether `pid` is a child of this process that has not been waited for.
pub(super) fn is_our_child(pid: i32) -> bool {
    let peek = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: an all-zero siginfo is valid, and ours.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_PID, pid as libc::id_t, &mut info, peek) == 0
    }
}

/// Whether `tid` is a thread of this process.
pub(super) fn is_our_thread(tid: i32) -> bool {
    // SAFETY: plain numbers; signal 0 is none.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, 0) == 0 }
}

/// The process group of `pid`.
pub(super) fn group_of(pid: i32) -> i32 {
    // SAFETY: a plain number.
    unsafe { libc::getpgid(pid) }
}

/// One heap for all threads: they hardly use any, and one each would cost more than their stacks.
pub(super) fn one_arena() {
    // SAFETY: plain numbers.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// The signals of `list`, blocked for the calling thread; what is in none is not.
pub(super) fn block_only(list: &[libc::c_int]) -> libc::sigset_t {
    // SAFETY: an all-zero set is valid memory for `sigemptyset`; all of it is ours.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in list {
            libc::sigaddset(&mut set, *signal);
        }
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
        set
    }
}

/// Lets go of whatever the player has left open by accident: tasks must not hold on to, say, a
/// scheduler.
pub(super) fn close_all_but_standard() {
    // SAFETY: plain numbers. This process has opened nothing yet that it would miss. A kernel
    // before 5.9 says no, which changes nothing.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
}
