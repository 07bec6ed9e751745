//! The machine: which kernel, what hardware, and the command line that QEMU takes for it.

use std::env;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accel {
    /// KVM if it works, or else software.
    #[default]
    Auto,
    /// The processor itself.
    Kvm,
    /// QEMU's software emulation: needs nothing, and is some ten times as slow.
    Tcg,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The kernel: a bzImage.
    pub image: PathBuf,
    /// CPUs.
    pub cpus: usize,
    /// Hardware threads of a core; divides the CPUs.
    pub smt: usize,
    /// Last-level caches; divides the cores.
    pub llcs: usize,
    /// Memory in MiB.
    pub memory: u32,
    /// What executes it.
    pub accel: Accel,
}

impl Machine {
    /// A machine with 2 GiB of memory, and each CPU a core of one processor.
    pub fn new(image: impl Into<PathBuf>, cpus: usize) -> Self {
        let image = image.into();
        Self { image, cpus, smt: 1, llcs: 1, memory: 2048, accel: Accel::Auto }
    }

    /// The ways to run it that are worth trying, in order.
    pub(crate) fn ways(&self) -> &'static [Accel] {
        match self.accel {
            Accel::Tcg => &[Accel::Tcg],
            Accel::Kvm => &[Accel::Kvm],
            Accel::Auto if kvm_opens() => &[Accel::Kvm, Accel::Tcg],
            Accel::Auto => &[Accel::Tcg],
        }
    }

    /// QEMU with all its arguments. The agent's port is its standard input and output; the serial
    /// console is the socket `console`, at which somebody listens.
    pub(crate) fn command(&self, accel: Accel, initramfs: &Path, console: &Path) -> Command {
        let qemu = qemu();
        // QEMU is to die with us, however we die.
        let mut command = if dies_with_parent() {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", "--"]).arg(qemu);
            command
        } else {
            Command::new(qemu)
        };
        let accel = match accel {
            Accel::Kvm => "kvm",
            // One thread for all CPUs: with one for each, a kernel that changes its own code now and
            // then dies of it (`Oops: int3`), on a host with little time to spare.
            Accel::Tcg | Accel::Auto => "tcg,thread=single",
        };
        let socket = |option: &str, path: &Path| {
            let mut arg = OsString::from(option);
            arg.push(path);
            arg
        };
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-machine", "q35", "-cpu", "max", "-accel", accel])
            .args(["-smp", &self.smp(), "-m", &format!("{}M", self.memory)])
            .arg("-kernel")
            .arg(&self.image)
            .arg("-initrd")
            .arg(initramfs)
            .args(["-append", APPEND])
            .args(["-chardev".into(), socket("socket,id=console,path=", console)])
            .args(["-serial", "chardev:console"])
            .args(["-chardev", "stdio,id=agent,signal=off"])
            .args(["-device", "virtio-serial-pci"])
            .args(["-device", "virtserialport,chardev=agent,name=scxlab"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// A last-level cache is a socket's.
    fn smp(&self) -> String {
        let Self { cpus, smt, llcs, .. } = self;
        let cores = cpus / smt.max(&1) / llcs.max(&1);
        format!("{cpus},sockets={llcs},cores={cores},threads={smt}")
    }
}

/// A panic ends the guest at once. Mitigations would only make it slow.
const APPEND: &str = "console=ttyS0 loglevel=5 panic=-1 mitigations=off rdinit=/init";

/// QEMU's binary.
pub(crate) fn qemu() -> PathBuf {
    env::var_os("SCXLAB_QEMU").map_or_else(|| PathBuf::from("qemu-system-x86_64"), PathBuf::from)
}

/// Whether there is a KVM that we may use. It may still fail to run a kernel.
fn kvm_opens() -> bool {
    OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
}

/// Whether util-linux's `setpriv` is there, and knows how to have a program die with its parent.
fn dies_with_parent() -> bool {
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topology() {
        let machine = Machine { smt: 2, llcs: 2, ..Machine::new("vmlinuz", 8) };
        assert_eq!(machine.smp(), "8,sockets=2,cores=2,threads=2");
    }
}
