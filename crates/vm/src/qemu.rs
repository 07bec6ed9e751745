//! QEMU as a process: what it says, why it ended, and its end.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use scxlab_protocol::{Kernel, Record};
use tempfile::TempDir;

use crate::VmError;
use crate::error::OUT_OF_MEMORY;
use crate::lines::{LONGEST_RECORD, Log, hand_on, printable};
use crate::machine::{Accel, Machine, SETPRIV};

/// How often to look whether somebody wants to stop.
const LOOK: Duration = Duration::from_millis(50);

/// How long a guest may take to go once it has nothing more to say.
const GRACE: Duration = Duration::from_secs(5);

/// Records that may wait for us; then the guest waits.
const WAITING: usize = 16;

/// The process, and what it says.
#[derive(Debug)]
pub(crate) struct Qemu {
    /// Its standard input is closed when we end, which the agent notices.
    process: Child,
    /// With which it ended; its group is gone then.
    status: Option<ExitStatus>,
    program: PathBuf,
    records: Receiver<Vec<u8>>,
    log: Log,
    /// What QEMU itself has to complain about.
    complaints: Log,
    readers: Vec<JoinHandle<()>>,
    console: PathBuf,
    /// Has the initramfs and the console's socket.
    _dir: TempDir,
}

impl Qemu {
    pub(crate) fn start(
        machine: &Machine,
        accel: Accel,
        initramfs: &[u8],
    ) -> Result<Self, VmError> {
        let dir = TempDir::with_prefix("scxlab-").map_err(|err| {
            no_place(&std::env::temp_dir(), "cannot make a directory in it", &err)
        })?;
        let image = dir.path().join("initramfs");
        std::fs::write(&image, initramfs)
            .map_err(|err| no_place(&image, "cannot write it", &err))?;
        let console = dir.path().join("console");
        let listener = UnixListener::bind(&console)
            .map_err(|err| no_place(&console, "cannot make a socket", &err))?;
        let program = machine.qemu.clone();
        let mut process = machine.command(accel, &image, &console).spawn().map_err(|err| {
            VmError::NoQemu { program: program.display().to_string(), why: err.to_string() }
        })?;
        let (log, complaints) = (Log::default(), Log::default());
        let (sender, records) = sync_channel(WAITING);
        let mut readers = Vec::new();
        if let Some(output) = process.stdout.take() {
            readers.push(thread::spawn(move || hand_on(output, &sender)));
        }
        if let Some(output) = process.stderr.take() {
            let complaints = complaints.clone();
            readers.push(thread::spawn(move || complaints.follow(output)));
        }
        let follower = log.clone();
        // QEMU connects once. If it never does, `end` does.
        readers.push(thread::spawn(move || {
            if let Ok((stream, _)) = listener.accept() {
                drop(listener);
                follower.follow(stream);
            }
        }));
        Ok(Self {
            process,
            status: None,
            program,
            records,
            log,
            complaints,
            readers,
            console,
            _dir: dir,
        })
    }

    /// What the kernel has logged on its console.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    pub(crate) fn wait_for_hello(
        &mut self,
        up: Duration,
        interrupt: &AtomicBool,
    ) -> Result<Kernel, VmError> {
        match self.record(up, interrupt) {
            Ok(Record::Hello(hello)) => hello.kernel().map_err(VmError::OtherAgent),
            Ok(other) => Err(VmError::NoRecord {
                line: shown(&format!("{other:?}")),
                why: "the first is to be `hello`".to_owned(),
            }),
            Err(VmError::Hangs { after, log }) => Err(VmError::NeverUp { after, log }),
            Err(err) => Err(err),
        }
    }

    /// The next record, for which it has so long.
    pub(crate) fn record(
        &mut self,
        within: Duration,
        interrupt: &AtomicBool,
    ) -> Result<Record, VmError> {
        let start = Instant::now();
        loop {
            if interrupt.load(Ordering::Relaxed) {
                return Err(VmError::Interrupted);
            }
            match self.records.recv_timeout(LOOK) {
                Ok(line) => return parse(&line),
                Err(RecvTimeoutError::Timeout) => {
                    let panicked = self.log.panicked().is_some_and(|at| at.elapsed() > GRACE);
                    if panicked || start.elapsed() >= within {
                        return Err(self.why(|log| VmError::Hangs { after: within, log }));
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended(interrupt)),
            }
        }
    }

    /// Why nothing can come any more.
    fn ended(&mut self, interrupt: &AtomicBool) -> VmError {
        let by_itself = self.ends_by_itself(interrupt);
        let status = self.end();
        // What it said last is still on its way.
        let start = Instant::now();
        while !self.readers.iter().all(JoinHandle::is_finished) && start.elapsed() < GRACE {
            thread::sleep(Duration::from_millis(1));
        }
        if interrupt.load(Ordering::Relaxed) {
            return VmError::Interrupted;
        }
        let status = match status {
            Some(status) if by_itself => {
                let complaints = self.complaints.lines();
                if not_executed(status, &complaints) {
                    let program = self.program.display().to_string();
                    return VmError::NoQemu { program, why: complaints.join("; ") };
                }
                status.to_string()
            }
            _ => "its port was cut, and QEMU had to be killed".to_owned(),
        };
        self.why(|log| VmError::Ended { status, log })
    }

    /// What the log says why nothing more comes, or else `otherwise`.
    fn why(&self, otherwise: impl FnOnce(Vec<String>) -> VmError) -> VmError {
        let log = self.log.lines();
        if log.iter().any(|line| OUT_OF_MEMORY.iter().any(|says| line.contains(says))) {
            VmError::OutOfMemory { log }
        } else if self.log.panicked().is_some() {
            VmError::Panicked { log }
        } else {
            otherwise([log, self.complaints.lines()].concat())
        }
    }

    /// Gives it a moment. Its exit status is left for `end`: until that is taken, its process group
    /// cannot be another's.
    fn ends_by_itself(&self, interrupt: &AtomicBool) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let start = Instant::now();
        while start.elapsed() < GRACE && !interrupt.load(Ordering::Relaxed) {
            match waitid(Id::Pid(self.pid()), flags) {
                Ok(WaitStatus::StillAlive) => thread::sleep(Duration::from_millis(10)),
                // Also if `end` has been here.
                _ => return true,
            }
        }
        false
    }

    /// Ends it and all that it started, and takes its exit status.
    pub(crate) fn end(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            let _ = killpg(self.pid(), Signal::SIGKILL);
            self.status = self.process.wait().ok();
            let _ = UnixStream::connect(&self.console);
        }
        self.status
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id() as i32)
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.end();
    }
}

fn parse(line: &[u8]) -> Result<Record, VmError> {
    if line.len() >= LONGEST_RECORD {
        let why = format!("longer than {} MiB", LONGEST_RECORD >> 20);
        return Err(VmError::NoRecord { line: shown(&printable(&line[..SHOWN])), why });
    }
    serde_json::from_slice(line)
        .map_err(|err| VmError::NoRecord { line: shown(&printable(line)), why: err.to_string() })
}

/// What the guest is started with cannot be where temporary files are. A socket's path is short.
fn no_place(path: &Path, what: &str, err: &io::Error) -> VmError {
    let why = format!("{what}: {err}; set TMPDIR to another directory for temporary files");
    VmError::File { path: path.to_owned(), why }
}

/// Whether it was setpriv that ended, since it could not become QEMU. Its texts are in the user's
/// language.
fn not_executed(status: ExitStatus, complaints: &[String]) -> bool {
    let says_so = complaints.iter().any(|line| line.starts_with(SETPRIV));
    matches!(status.code(), Some(126 | 127)) && says_so
}

/// Characters of a line in a message.
const SHOWN: usize = 200;

/// A line, short enough for a message.
fn shown(line: &str) -> String {
    line.chars().take(SHOWN).collect()
}
