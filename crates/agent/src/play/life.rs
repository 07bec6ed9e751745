//! Fork, exec and wait of real tasks.

use std::ffi::CString;
use std::io;

use scxlab_engine::program::{Index, Pc, Spawn};

use super::carry::Carry;
use super::chance::Chance;
use super::stage::{Count, Stage};
use super::task::{Role, Task};
use super::who::LastChild;
use super::{IMAGE, SUBCOMMAND, kernel};

/// The binary that a thread runs. Not `/proc/self`: that is the leader's, which may be gone.
const OWN_IMAGE: &std::ffi::CStr = c"/proc/thread-self/exe";

impl Task {
    pub(super) fn spawn(&mut self, what: Spawn, entry: Pc, name: Index) {
        let chance = Chance::child(self.number, self.children);
        self.children += 1;
        match what {
            Spawn::Process => self.fork(entry, name, chance),
            Spawn::Thread => match self.threads.create(self.stage, entry, name, chance) {
                Some(tid) => {
                    self.stage.count(Count::Forked);
                    self.last_child = Some(LastChild::Thread(tid));
                }
                None => self.stage.count(Count::ForkFailed),
            },
        }
    }

    fn fork(&mut self, entry: Pc, name: Index, chance: Chance) {
        // SAFETY: this may be one of several threads; the C library's fork puts its own state right
        // in the child, and the child uses no lock but the C library's. See the module `task`.
        match unsafe { libc::fork() } {
            0 => self.become_child(entry, name, chance),
            pid if pid > 0 => {
                self.stage.count(Count::Forked);
                self.last_child = Some(LastChild::Process(pid));
            }
            _ => self.stage.count(Count::ForkFailed),
        }
    }

    /// Execs, from this very thread. Returns only if the kernel refuses.
    pub(super) fn exec(&mut self, pc: u32, entry: Pc, name: Index) {
        if let Some(registration) = self.registration.take() {
            registration.leave(self.stage);
        }
        let carry = Carry {
            entry: entry.0,
            image: name,
            name: self.name,
            number: self.number,
            children: self.children,
            chance: self.chance.0,
            pid: kernel::getpid(),
            nonleader: self.role == Role::Thread,
            last_child: match self.last_child {
                Some(LastChild::Process(pid)) => pid,
                _ => 0,
            },
            held: self.held.clone(),
        };
        let error = exec(self.stage.name(name), &carry);
        self.note_error(pc, Err(error));
        self.register();
    }

    /// Reaps one child or all of them. Returns also when there is none (left).
    pub(super) fn wait(&mut self, all: bool) {
        loop {
            let mut status = 0;
            // SAFETY: `status` is ours. Children of other threads of the process count, too.
            let pid = unsafe { libc::waitpid(-1, &mut status, 0) };
            let again = match pid {
                -1 => io::Error::last_os_error().kind() == io::ErrorKind::Interrupted,
                _ => all,
            };
            if pid > 0 && matches!(self.last_child, Some(LastChild::Process(last)) if last == pid) {
                self.last_child = None;
            }
            if !again {
                return;
            }
        }
    }
}

fn exec(name: &str, carry: &Carry) -> io::Error {
    // No name has a NUL in it that would be worth keeping.
    let name = CString::new(name.replace('\0', "?")).unwrap_or_default();
    let (Ok(subcommand), Ok(image), Ok(carry)) =
        (CString::new(SUBCOMMAND), CString::new(IMAGE), CString::new(carry.write()))
    else {
        return io::ErrorKind::InvalidInput.into();
    };
    let argv =
        [name.as_ptr(), subcommand.as_ptr(), image.as_ptr(), carry.as_ptr(), std::ptr::null()];
    let envp = [std::ptr::null()];
    // SAFETY: both arrays end in a null pointer and their texts live until the call returns.
    unsafe { libc::execve(OWN_IMAGE.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// What an exec leads to.
pub(super) fn image(stage: &'static Stage, carry: Carry) -> ! {
    // The kernel has given it the leader's pid, or this is not what it was to be.
    let nonleader = carry.nonleader && carry.pid == kernel::getpid();
    stage.count(Count::Exec { nonleader });
    Task::from_exec(stage, carry).play();
    kernel::exit_thread();
}
