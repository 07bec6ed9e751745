//! Which real tasks an instruction means, without ever touching one that is not of the workload.
//!
//! A signal goes through a pidfd, opened first and then checked to be of the one that was meant.
//! Nice values and the like can only be set by tid, which is checked right before; between the
//! check and the call the tid would have to be freed, go once round and be taken again.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use scxlab_engine::program::Who;

use super::kernel;
use super::registry::{self, Found};
use super::stage::Stage;
use super::task::Task;
use super::threads::LateTid;

/// What a task has created last.
#[derive(Clone, Debug)]
pub(super) enum LastChild {
    /// A process, by its pid.
    Process(i32),
    /// A thread of this process.
    Thread(LateTid),
}

/// One task that is meant.
enum Target {
    Myself,
    /// A child of this process, not waited for.
    Child(i32),
    /// A thread of this process.
    Sibling(i32),
    /// The parent process.
    Parent(i32),
    /// One from the registry.
    Other(Found),
}

impl Target {
    /// Its tid, for calls that take one.
    fn tid(&self) -> i32 {
        match self {
            Self::Myself => kernel::gettid(),
            Self::Child(tid) | Self::Sibling(tid) | Self::Parent(tid) => *tid,
            Self::Other(found) => found.tid,
        }
    }

    /// Its process.
    fn pid(&self) -> i32 {
        match self {
            Self::Myself | Self::Sibling(_) => kernel::getpid(),
            Self::Child(pid) | Self::Parent(pid) => *pid,
            Self::Other(found) => found.tgid,
        }
    }

    /// Whether its tid and pid are still its own, and it is of the workload.
    fn is_there(&self, stage: &Stage) -> bool {
        let group = stage.board().group.load(Relaxed);
        match self {
            Self::Myself => true,
            Self::Child(pid) => kernel::is_our_child(*pid),
            Self::Sibling(tid) => kernel::is_our_thread(*tid),
            // The parent of a start entry is the keeper, which is no task: it is not in the group.
            Self::Parent(pid) => kernel::getppid() == *pid && kernel::group_of(*pid) == group,
            Self::Other(found) => found.is_alive(stage) && kernel::group_of(found.tgid) == group,
        }
    }
}

impl Task {
    fn targets(&self, who: Who) -> Vec<Target> {
        match who {
            Who::Myself => vec![Target::Myself],
            Who::LastChild => match &self.last_child {
                Some(LastChild::Process(pid)) => vec![Target::Child(*pid)],
                Some(LastChild::Thread(tid)) => vec![Target::Sibling(tid.get())],
                None => Vec::new(),
            },
            Who::Parent => vec![Target::Parent(kernel::getppid())],
            Who::Named(name) => {
                registry::find(self.stage, name).into_iter().map(Target::Other).collect()
            }
        }
    }

    /// Does something to the tid of each that `who` means.
    pub(super) fn change(&self, pc: u32, who: Who, set: impl Fn(i32) -> io::Result<()>) {
        for target in self.targets(who) {
            if !target.is_there(self.stage) {
                continue;
            }
            match set(target.tid()) {
                // It has ended meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                result => self.note_error(pc, result),
            }
        }
    }

    /// `SIGKILL` to the process of each that `who` means; to our own one last, as nothing comes
    /// after that.
    pub(super) fn kill(&self, pc: u32, who: Who) {
        let (own, others): (Vec<_>, Vec<_>) =
            self.targets(who).into_iter().partition(|target| target.pid() == kernel::getpid());
        for target in others.into_iter().chain(own) {
            let killed = kernel::kill_process(target.pid(), || target.is_there(self.stage));
            self.note_error(pc, killed);
        }
    }
}
