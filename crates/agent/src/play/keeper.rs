//! The keeper: `init` to the workload. See the module `play`.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering::{Relaxed, Release};

use scxlab_engine::program::Pc;

use super::chance::Chance;
use super::refusal;
use super::stage::{Count, NONE, Stage, StartRow};
use super::task::{Role, Task};
use super::{anchor, cgroups, clock, kernel, settings};

/// The socket to the player.
const PLAYER_FD: i32 = 1;

/// What the keeper tells the player once it is ready. Anything else is what went wrong.
pub(super) const READY: u8 = b'\n';

/// How many start entries are forked before looking whether it is to stop.
const AT_ONCE: usize = 64;

struct Keeper {
    stage: &'static Stage,
    /// The pid of the anchor, and so the number of the tasks' group.
    group: i32,
    /// Readable when a child has ended.
    children_fd: i32,
}

pub(super) fn main(stage: &'static Stage) -> ! {
    match Keeper::new(stage) {
        Ok(mut keeper) => {
            say(&[READY]);
            keeper.watch();
            keeper.end();
            kernel::exit_process(0)
        }
        Err(error) => {
            say(error.to_string().as_bytes());
            kernel::exit_process(1)
        }
    }
}

fn say(bytes: &[u8]) {
    // SAFETY: `bytes` is that long. If the player is gone, we notice soon.
    unsafe { libc::send(PLAYER_FD, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
}

impl Keeper {
    fn new(stage: &'static Stage) -> io::Result<Self> {
        kernel::set_name("scxlab-keeper");
        kernel::close_all_but_standard();
        // SAFETY: plain numbers.
        if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) } != 0 {
            return Err(io::Error::last_os_error());
        }
        kernel::ignore_children(false);
        let group = anchor::fork()?;
        // What a terminal sends is for the player, who then tells us.
        kernel::block_only(&[libc::SIGCHLD, libc::SIGINT, libc::SIGTERM, libc::SIGHUP]);
        // SAFETY: an all-zero set is valid memory for `sigemptyset`; all of it is ours.
        let children_fd = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGCHLD);
            libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if children_fd < 0 {
            return Err(io::Error::last_os_error());
        }
        stage.board().keeper.store(kernel::getpid(), Relaxed);
        stage.board().group.store(group, Release);
        Ok(Self { stage, group, children_fd })
    }

    /// Forks what is due and reaps what has ended, until it is to stop.
    fn watch(&mut self) {
        let starts = self.stage.starts();
        let mut order: Vec<usize> = (0..starts.len()).collect();
        order.sort_by_key(|i| starts[*i].at);
        let begin = clock::now();
        let at = |i: usize| begin.saturating_add(starts[i].at);
        let mut started = 0;
        loop {
            let due = order[started..].iter().take(AT_ONCE).take_while(|i| at(**i) <= clock::now());
            for i in due.copied().collect::<Vec<_>>() {
                self.start(i);
                started += 1;
                self.stage.board().started.fetch_add(1, Release);
            }
            let next = order.get(started).map(|i| at(*i).saturating_sub(clock::now()));
            if self.wait(next) == Waited::Stop || !self.reap() {
                return;
            }
        }
    }

    /// Waits for something to do, at most so many ns.
    fn wait(&self, at_most: Option<u64>) -> Waited {
        let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds = [poll(PLAYER_FD), poll(self.children_fd)];
        let timeout = at_most.map_or(-1, |ns| ns.div_ceil(1_000_000).min(1_000_000) as i32);
        // SAFETY: two descriptors, ours.
        unsafe { libc::poll(fds.as_mut_ptr(), 2, timeout) };
        if fds[0].revents != 0 {
            return Waited::Stop;
        }
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        // SAFETY: `info` is that long. One signal may stand for many children.
        unsafe { libc::read(self.children_fd, info.as_mut_ptr().cast(), info.len()) };
        Waited::GoOn
    }

    /// Reaps children that have ended. False if the anchor is one of them: it stays unreaped, so
    /// that the group's number stays ours.
    fn reap(&self) -> bool {
        loop {
            let peek = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            // SAFETY: an all-zero siginfo is valid, and ours.
            let pid = unsafe {
                let mut info: libc::siginfo_t = std::mem::zeroed();
                libc::waitid(libc::P_ALL, 0, &mut info, peek);
                info.si_pid()
            };
            if pid == 0 || pid == self.group {
                return pid == 0;
            }
            // SAFETY: the status is not wanted.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        }
    }

    fn start(&self, i: usize) {
        let row = self.stage.starts()[i];
        let keeper = kernel::getpid();
        // SAFETY: the keeper has one thread.
        match unsafe { libc::fork() } {
            0 => self.play(i, &row, keeper),
            -1 => self.stage.count(Count::ForkFailed),
            pid => {
                // Here too, so that it is in the group when this returns.
                // SAFETY: plain numbers.
                unsafe { libc::setpgid(pid, self.group) };
                self.stage.count(Count::Forked);
            }
        }
    }

    /// The rest of the life of a start entry.
    fn play(&self, i: usize, row: &StartRow, keeper: i32) -> ! {
        // SAFETY: plain numbers; these descriptors are the keeper's, not the task's.
        let joined = unsafe {
            libc::close(self.children_fd);
            libc::dup2(2, PLAYER_FD);
            libc::setpgid(0, self.group) == 0
        };
        // If the keeper is gone, the anchor has perhaps killed all others already.
        if !joined || kernel::getppid() != keeper {
            kernel::exit_process(1);
        }
        kernel::block_only(&[]);
        let set_up = self.set_up(row);
        if let Err(error) = set_up {
            refusal::note(self.stage, self.stage.code_len() + i, row.name, &error);
        }
        let chance = Chance::of_start(self.stage.seed(), i as u64);
        Task::begin(self.stage, Role::Leader, Pc(row.entry), row.name, chance).play();
        kernel::exit_thread();
    }

    /// What it starts with. All of it is tried; the first error counts.
    fn set_up(&self, row: &StartRow) -> io::Result<()> {
        let stage = self.stage;
        let all = scxlab_engine::Cpumask::first_n(scxlab_engine::NR_CPUS);
        let cpus = stage.masks().get(row.mask as usize).unwrap_or(&all);
        let base = stage.base_cgroup().map_or(Ok(()), settings::enter_cgroup_as_process);
        let cgroup = match row.cgroup {
            NONE => Ok(()),
            cgroup => settings::enter_cgroup(stage.cgroup(cgroup)),
        };
        let affinity = settings::set_affinity(0, cpus);
        let nice = settings::set_nice(0, row.nice);
        let policy = settings::set_policy(0, row.policy);
        base.and(cgroup).and(affinity).and(nice).and(policy)
    }

    /// Ends and reaps all.
    fn end(&self) {
        // SAFETY: plain numbers. The anchor is not reaped yet, so the group is ours.
        unsafe { libc::kill(-self.group, libc::SIGKILL) };
        loop {
            // SAFETY: the status is not wanted.
            let pid = unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) };
            if pid < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD) {
                break;
            }
        }
        if let Some(base) = self.stage.base_cgroup() {
            cgroups::remove(Path::new(base));
        }
    }
}

#[derive(PartialEq, Eq)]
enum Waited {
    GoOn,
    Stop,
}
