//! A guest that runs: its records, its log, and its end.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::net::UnixListener;
use std::process::{Child, ChildStdin, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use scxlab_protocol::{Kernel, Record};
use tempfile::TempDir;

use crate::error::PANIC;
use crate::machine::{self, Accel, Machine};
use crate::{Cargo, VmError};

/// How long a guest may take to the agent's first word: with KVM, and without.
const UP: (Duration, Duration) = (Duration::from_secs(8), Duration::from_secs(120));

/// How long nothing may come from an agent that is up. It has something to say every second.
const SILENCE: Duration = Duration::from_secs(60);

/// How often to look whether somebody wants to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Lines of the kernel's log that are kept.
const LINES: usize = 10_000;

/// The longest line that is kept or taken as a record.
const LONGEST: u64 = 4 << 20;

/// Something about the way in which the guest runs that its user would want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note(pub String);

/// A guest that is up.
#[derive(Debug)]
pub struct Guest {
    qemu: Qemu,
    kernel: Kernel,
    notes: Vec<Note>,
    interrupt: Arc<AtomicBool>,
}

impl Machine {
    /// Boots it, and waits until the agent has said its first word.
    ///
    /// When `interrupt` becomes true, this and [`Guest::next`] end soon, and the guest with them.
    ///
    /// # Errors
    /// QEMU or a file is missing, or the guest does not come up.
    pub fn boot(&self, cargo: &Cargo, interrupt: &Arc<AtomicBool>) -> Result<Guest, VmError> {
        let initramfs = cargo.pack()?;
        let mut notes = Vec::new();
        let ways = self.ways();
        for (i, &accel) in ways.iter().enumerate() {
            let up = if accel == Accel::Kvm { UP.0 } else { UP.1 };
            let qemu = Qemu::start(self, accel, &initramfs)?;
            match qemu.wait_for_hello(up, interrupt) {
                Ok((qemu, kernel)) => {
                    return Ok(Guest { qemu, kernel, notes, interrupt: interrupt.clone() });
                }
                Err(VmError::Interrupted) => return Err(VmError::Interrupted),
                Err(err) if i + 1 == ways.len() => return Err(err),
                Err(_) => notes.push(Note(
                    "there is a KVM, but no guest comes up with it; software emulation is used \
                     (--accel tcg does so at once)"
                        .to_owned(),
                )),
            }
        }
        Err(VmError::NoQemu { program: "QEMU".to_owned(), why: "no way to run it".to_owned() })
    }
}

impl Guest {
    /// The kernel that it runs.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
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
        let record = self.qemu.record(SILENCE, &self.interrupt);
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
        self.qemu.log.lines()
    }
}

/// The process, and what it says.
#[derive(Debug)]
struct Qemu {
    process: Child,
    /// Closed when we end, which the agent notices.
    input: Option<ChildStdin>,
    records: Receiver<String>,
    log: Log,
    /// What QEMU itself has to complain about.
    complaints: Log,
    /// Has the initramfs and the socket.
    _dir: TempDir,
}

impl Qemu {
    fn start(machine: &Machine, accel: Accel, initramfs: &[u8]) -> Result<Self, VmError> {
        let dir = TempDir::with_prefix("scxlab-").map_err(|err| VmError::File {
            path: std::env::temp_dir(),
            why: format!("cannot make a directory in it: {err}"),
        })?;
        let image = dir.path().join("initramfs");
        std::fs::write(&image, initramfs)
            .map_err(|err| VmError::File { path: image.clone(), why: err.to_string() })?;
        let socket = dir.path().join("console");
        let console = UnixListener::bind(&socket)
            .map_err(|err| VmError::File { path: socket.clone(), why: err.to_string() })?;
        let mut process = machine.command(accel, &image, &socket).spawn().map_err(|err| {
            VmError::NoQemu { program: machine::qemu().display().to_string(), why: err.to_string() }
        })?;
        let (log, complaints) = (Log::default(), Log::default());
        let (sender, records) = channel();
        if let Some(output) = process.stdout.take() {
            thread::spawn(move || send_lines(output, &sender));
        }
        if let Some(output) = process.stderr.take() {
            let complaints = complaints.clone();
            thread::spawn(move || complaints.follow(output));
        }
        listen(console, log.clone());
        let input = process.stdin.take();
        Ok(Self { process, input, records, log, complaints, _dir: dir })
    }

    fn wait_for_hello(
        mut self,
        up: Duration,
        interrupt: &AtomicBool,
    ) -> Result<(Self, Kernel), VmError> {
        match self.record(up, interrupt) {
            Ok(Record::Hello(kernel)) => Ok((self, kernel)),
            Ok(other) => Err(VmError::NoRecord {
                line: format!("{other:?}"),
                why: "the first is to be `hello`".to_owned(),
            }),
            Err(VmError::Hangs { after, log }) => Err(VmError::NeverUp { after, log }),
            Err(err) => Err(err),
        }
    }

    /// The next record, for which it has so long.
    fn record(&mut self, within: Duration, interrupt: &AtomicBool) -> Result<Record, VmError> {
        let start = Instant::now();
        loop {
            if interrupt.load(Ordering::Relaxed) {
                return Err(VmError::Interrupted);
            }
            match self.records.recv_timeout(LOOK) {
                Ok(line) => {
                    return serde_json::from_str(&line).map_err(|err| VmError::NoRecord {
                        line: shown(&line),
                        why: err.to_string(),
                    });
                }
                Err(RecvTimeoutError::Timeout) if start.elapsed() < within => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(match self.log.panicked() {
                        true => VmError::Panicked { log: self.log.lines() },
                        false => VmError::Hangs { after: within, log: self.log.lines() },
                    });
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended(interrupt)),
            }
        }
    }

    /// Why nothing can come any more.
    fn ended(&mut self, interrupt: &AtomicBool) -> VmError {
        let status = self.wait();
        // Whoever pressed Ctrl-C has stopped QEMU as well, and that may be seen first.
        thread::sleep(LOOK);
        if interrupt.load(Ordering::Relaxed) {
            return VmError::Interrupted;
        }
        let log = self.log.lines();
        if self.log.panicked() {
            return VmError::Panicked { log };
        }
        let complaints = self.complaints.lines();
        let not_found = complaints.iter().any(|line| line.contains("failed to execute"));
        if not_found {
            let program = machine::qemu().display().to_string();
            return VmError::NoQemu { program, why: complaints.join("; ") };
        }
        let status = status.map_or_else(|| "no status".to_owned(), |status| status.to_string());
        VmError::Ended { status, log: if log.is_empty() { complaints } else { log } }
    }

    /// Gives it a moment to end by itself.
    fn wait(&mut self) -> Option<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Some(status);
            }
            thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// Ends it, if it has not ended yet.
    fn end(&mut self) {
        if let Some(mut input) = self.input.take() {
            let _ = input.flush();
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.end();
    }
}

/// The last lines of what somebody says.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<VecDeque<String>>>);

impl Log {
    fn guard(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lines(&self) -> Vec<String> {
        self.guard().iter().cloned().collect()
    }

    fn panicked(&self) -> bool {
        self.guard().iter().any(|line| line.contains(PANIC))
    }

    fn follow(&self, output: impl Read) {
        each_line(output, |line| {
            let mut lines = self.guard();
            if lines.len() == LINES {
                lines.pop_front();
            }
            lines.push_back(line);
            true
        });
    }
}

fn send_lines(output: impl Read, sender: &Sender<String>) {
    each_line(output, |line| sender.send(line).is_ok());
}

/// Calls `f` with each line until it says no. A line that is too long is cut up.
fn each_line(output: impl Read, mut f: impl FnMut(String) -> bool) {
    let mut output = BufReader::new(output);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match output.by_ref().take(LONGEST).read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        if !f(line) {
            return;
        }
    }
}

/// Takes the one connection that QEMU makes, and follows it. Ends with QEMU, or, if QEMU never
/// connects, after a while.
fn listen(console: UnixListener, log: Log) {
    thread::spawn(move || {
        if console.set_nonblocking(true).is_err() {
            return;
        }
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(60) {
            if let Ok((stream, _)) = console.accept() {
                if stream.set_nonblocking(false).is_ok() {
                    log.follow(stream);
                }
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    });
}

/// A line, short enough for a message.
fn shown(line: &str) -> String {
    line.chars().take(200).collect()
}
