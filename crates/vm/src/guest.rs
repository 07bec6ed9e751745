//! A guest that runs: its records, its log, and its end.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use scxlab_protocol::{Kernel, Record};

use crate::machine::{Accel, Machine};
use crate::qemu::Qemu;
use crate::{Cargo, VmError};

/// Something about the way in which the guest runs that its user would want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note(pub String);

/// A guest that is up.
#[derive(Debug)]
pub struct Guest {
    qemu: Qemu,
    kernel: Kernel,
    accel: Accel,
    notes: Vec<Note>,
    /// For how long nothing may come from it.
    silence: Duration,
    interrupt: Arc<AtomicBool>,
}

impl Machine {
    /// Boots it, and waits until the agent has said its first word.
    ///
    /// When `interrupt` becomes true, this and [`Guest::next`] end soon, and the guest with them.
    ///
    /// A guest that is dropped is gone: QEMU, all that it started, and the temporary directory with
    /// the initramfs and the console's socket. If this process is killed (`SIGKILL`), QEMU dies too,
    /// as `setpriv --pdeathsig` sees to; only the directory remains (`scxlab-*` where temporary files
    /// are). The kernel means the *thread* that booted it: a guest does not outlive that.
    /// Where there is no `setpriv`, the agent ends a guest whose command is gone.
    ///
    /// # Errors
    /// QEMU or a file is missing, or the guest does not come up.
    pub fn boot(&self, cargo: &Cargo, interrupt: &Arc<AtomicBool>) -> Result<Guest, VmError> {
        let initramfs = cargo.pack()?;
        let boot = |accel, notes| {
            let mut qemu = Qemu::start(self, accel, &initramfs)?;
            let kernel = qemu.wait_for_hello(self.limits.up(accel), interrupt)?;
            let (silence, interrupt) = (self.limits.silence, interrupt.clone());
            Ok(Guest { qemu, kernel, accel, notes, silence, interrupt })
        };
        let (first, fallback) = self.ways();
        match (boot(first, Vec::new()), fallback) {
            (Err(err), Some(fallback)) if is_the_guest_s(&err) => boot(
                fallback,
                vec![Note(
                    "there is a KVM, but no guest comes up with it; software emulation is used \
                     (--accel tcg does so at once)"
                        .to_owned(),
                )],
            ),
            (Err(err), None) if first == Accel::Kvm && is_the_guest_s(&err) => {
                Err(VmError::NoKvm(Box::new(err)))
            }
            (booted, _) => booted,
        }
    }
}

/// Whether a guest may come up in another way. What is missing will still be.
fn is_the_guest_s(err: &VmError) -> bool {
    !matches!(
        err,
        VmError::Interrupted
            | VmError::NoQemu { .. }
            | VmError::OtherAgent(_)
            | VmError::File { .. }
    )
}

impl Guest {
    /// The kernel that it runs.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// What executes it; never [`Accel::Auto`].
    pub fn accel(&self) -> Accel {
        self.accel
    }

    /// What is to be said about the way in which it runs.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The agent's next record; nothing once it is done. The guest is gone then.
    ///
    /// # Errors
    /// The guest ended, hangs, or sent what is no record; or somebody wants to stop. The guest is
    /// gone then too.
    #[expect(
        clippy::should_implement_trait,
        reason = "it can fail, and ends with the first failure"
    )]
    pub fn next(&mut self) -> Result<Option<Record>, VmError> {
        let record = self.qemu.record(self.silence, &self.interrupt);
        match record {
            Ok(Record::Done) => {
                self.qemu.end();
                Ok(None)
            }
            Ok(record) => Ok(Some(record)),
            Err(err) => {
                self.qemu.end();
                Err(err)
            }
        }
    }

    /// What the kernel has logged on its console: warnings and worse, and at most the last
    /// 10,000 lines.
    pub fn log(&self) -> Vec<String> {
        self.qemu.log()
    }
}
