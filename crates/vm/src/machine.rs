//! The machine: which kernel, what hardware, and the command line that QEMU takes for it.

use std::env;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

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
    /// The same with a clock that counts instructions, 1 ns each, and jumps ahead while all CPUs are
    /// idle: how long something takes does not depend on the host, nor on the emulation.
    Counted,
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
    /// QEMU: `SCXLAB_QEMU`, or else `qemu-system-x86_64` from the path.
    pub qemu: PathBuf,
    /// The device of the KVM. Where it cannot be opened, there is none for [`Accel::Auto`].
    pub kvm: PathBuf,
    /// How long it may take.
    pub limits: Limits,
}

/// After how long a guest is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Until the agent's first word, with KVM: 8 s.
    pub up_kvm: Duration,
    /// Until the agent's first word, with software emulation: 120 s.
    pub up_tcg: Duration,
    /// Without any word from an agent that is up: 60 s. In a run it says something every second, and
    /// a check of a claim may take 45 s.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let [up_kvm, up_tcg, silence] = [8, 120, 60].map(Duration::from_secs);
        Self { up_kvm, up_tcg, silence }
    }
}

impl Limits {
    /// Until the agent's first word.
    pub(crate) fn up(&self, accel: Accel) -> Duration {
        if accel == Accel::Kvm { self.up_kvm } else { self.up_tcg }
    }
}

impl Machine {
    /// A machine with 2 GiB of memory, and each CPU a core of one processor.
    pub fn new(image: impl Into<PathBuf>, cpus: usize) -> Self {
        let qemu = env::var_os("SCXLAB_QEMU").unwrap_or_else(|| "qemu-system-x86_64".into());
        Self {
            image: image.into(),
            cpus,
            smt: 1,
            llcs: 1,
            memory: 2048,
            accel: Accel::Auto,
            qemu: qemu.into(),
            kvm: "/dev/kvm".into(),
            limits: Limits::default(),
        }
    }

    /// The way to run it, and another one if that fails.
    pub(crate) fn ways(&self) -> (Accel, Option<Accel>) {
        match self.accel {
            Accel::Kvm => (Accel::Kvm, None),
            Accel::Auto if self.has_kvm() => (Accel::Kvm, Some(Accel::Tcg)),
            Accel::Tcg | Accel::Auto => (Accel::Tcg, None),
            Accel::Counted => (Accel::Counted, None),
        }
    }

    /// QEMU with all its arguments. The agent's port is its standard input and output; the serial
    /// console is the socket `console`, at which somebody listens.
    pub(crate) fn command(&self, accel: Accel, initramfs: &Path, console: &Path) -> Command {
        // QEMU is to die with us, however we die.
        let mut command = if dies_with_parent() {
            let mut command = Command::new(SETPRIV);
            command.args(["--pdeathsig", "KILL", "--"]).arg(&self.qemu);
            command
        } else {
            Command::new(&self.qemu)
        };
        let counted = accel == Accel::Counted;
        let accel = match accel {
            Accel::Kvm => "kvm",
            // One thread for all CPUs: with one for each, a kernel that changes its own code now and
            // then dies of it (`Oops: int3`), on a host with little time to spare.
            Accel::Tcg | Accel::Auto | Accel::Counted => "tcg,thread=single",
        };
        let mut socket = OsString::from("socket,id=console,path=");
        socket.push(doubled_commas(console));
        command
            // A group of its own, so that it can be ended together with whatever it starts.
            .process_group(0)
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-machine", "q35", "-cpu", if counted { COUNTED_CPU } else { "max" }])
            .args(["-accel", accel])
            .args(["-smp", &self.smp(), "-m", &format!("{}M", self.memory)])
            .arg("-kernel")
            .arg(&self.image)
            .arg("-initrd")
            .arg(initramfs)
            .args(["-append", APPEND])
            .args(["-chardev".into(), socket])
            .args(["-serial", "chardev:console"])
            .args(["-chardev", "stdio,id=agent,signal=off"])
            .args(["-device", "virtio-serial-pci"])
            .args(["-device", "virtserialport,chardev=agent,name=scxlab"])
            .args(if counted { COUNTED } else { &[] })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Whether there is a KVM that we may use. It may still fail to run a kernel.
    fn has_kvm(&self) -> bool {
        OpenOptions::new().read(true).write(true).open(&self.kvm).is_ok()
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

/// [`Accel::Counted`].
const COUNTED: &[&str] = &["-icount", "shift=0,sleep=off"];

/// A string instruction counts once for each repetition. Without these the kernel clears and copies
/// memory by words and not by bytes, which is closer to what it costs.
const COUNTED_CPU: &str = "max,erms=off,fsrm=off";

/// From util-linux. It becomes the program that it is given.
pub(crate) const SETPRIV: &str = "setpriv";

/// Whether it is there, and knows how to have a program die with its parent.
fn dies_with_parent() -> bool {
    static DOES: OnceLock<bool> = OnceLock::new();
    *DOES.get_or_init(|| {
        Command::new(SETPRIV)
            .args(["--pdeathsig", "KILL", "--", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })
}

/// A path as it is written among QEMU's options, which commas separate.
fn doubled_commas(path: &Path) -> OsString {
    let bytes = path.as_os_str().as_bytes();
    let double = |&byte: &u8| std::iter::repeat_n(byte, if byte == b',' { 2 } else { 1 });
    OsString::from_vec(bytes.iter().flat_map(double).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topology() {
        let machine = Machine { smt: 2, llcs: 2, ..Machine::new("vmlinuz", 8) };
        assert_eq!(machine.smp(), "8,sockets=2,cores=2,threads=2");
    }

    #[test]
    fn only_a_counted_clock_counts() {
        let args = |accel| {
            let command = Machine::new("vmlinuz", 1).command(accel, "i".as_ref(), "c".as_ref());
            let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
            args.collect::<Vec<_>>().join(" ")
        };
        let (counted, tcg) = (args(Accel::Counted), args(Accel::Tcg));
        assert!(counted.contains("-accel tcg,thread=single -"), "{counted}");
        assert!(counted.contains("-icount shift=0,") && counted.contains(",erms=off"), "{counted}");
        assert!(!tcg.contains("icount") && tcg.contains("-cpu max -"), "{tcg}");
    }

    #[test]
    fn a_comma_in_a_path_is_no_separator() {
        assert_eq!(doubled_commas(Path::new("/a,b/c")), "/a,,b/c");
    }
}
