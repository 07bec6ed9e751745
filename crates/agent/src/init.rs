//! The agent as the first process of a VM.
//!
//! It mounts what the job needs, has a child do the job, and buries what is orphaned meanwhile. When
//! the child ends, or nobody is at the other end of the port any more, the machine ends.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;
use std::{env, thread};

use anyhow::{Context as _, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::wait::wait;

/// Where the job is, in a VM.
const JOB: &str = "/job.json";

/// The name of the virtio port to the command.
const PORT: &str = "scxlab";

/// What is mounted: the kind, and where. Those that a kernel lacks are not needed by all jobs.
const MOUNTS: &[(&str, &str)] = &[
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tmpfs", "/tmp"),
    ("tmpfs", "/run"),
    ("debugfs", "/sys/kernel/debug"),
    ("tracefs", "/sys/kernel/tracing"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("bpf", "/sys/fs/bpf"),
];

/// The first process of a VM. When it returns, the kernel panics; so it does not.
pub fn main() -> ExitCode {
    if let Err(err) = guest() {
        eprintln!("scxlab-agent: {err:#}");
    }
    let _ = reboot(RebootMode::RB_AUTOBOOT);
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

fn guest() -> Result<()> {
    for (kind, place) in MOUNTS {
        let _ = fs::create_dir_all(place);
        let mounted = mount(Some(*kind), *place, Some(*kind), MsFlags::empty(), None::<&str>);
        if let (Err(err), "proc" | "sysfs" | "devtmpfs") = (mounted, *kind) {
            bail!("cannot mount {kind} on {place}: {err}");
        }
    }
    let port = port()?;
    let name = port.display().to_string();
    let out = OpenOptions::new().read(true).write(true).open(&port).context(name)?;
    let mut input = out.try_clone().context("cannot open the port twice")?;
    thread::spawn(move || end_with_the_command(&mut input));
    let mut worker = Command::new(env::current_exe().context("where am I?")?);
    // A process group of its own, and the port for its standard output.
    worker.arg("job").arg(JOB).process_group(0).stdout(out);
    let worker = worker.spawn().context("cannot start the job")?;
    let worker = nix::unistd::Pid::from_raw(worker.id() as i32);
    loop {
        match wait() {
            Ok(status) if status.pid() == Some(worker) => return Ok(()),
            Ok(_) => {}
            Err(err) => bail!("the job is gone: {err}"),
        }
    }
}

/// Nothing is ever sent to the agent. So the end of what there is to read is the end of the command.
fn end_with_the_command(input: &mut File) {
    // Before the command has opened its end there is nothing to read either.
    thread::sleep(Duration::from_secs(5));
    let mut byte = [0];
    while matches!(input.read(&mut byte), Ok(1)) {}
    let _ = reboot(RebootMode::RB_AUTOBOOT);
}

/// The port's device. It appears a moment after boot.
fn port() -> Result<PathBuf> {
    for _ in 0..100 {
        let ports = fs::read_dir("/sys/class/virtio-ports").into_iter().flatten().flatten();
        for port in ports {
            let name = fs::read_to_string(port.path().join("name")).unwrap_or_default();
            if name.trim_end() == PORT {
                return Ok(PathBuf::from("/dev").join(port.file_name()));
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
    bail!("this machine has no virtio port named {PORT}")
}
