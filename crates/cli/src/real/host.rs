//! The agent on the kernel that is running.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scxlab_protocol::{Job, Kernel, Record};
use scxlab_vm::find_agent;

use super::interrupt;
use crate::output::reason;
use crate::status::Failure;

/// How often to look whether somebody wants to stop.
const LOOK: Duration = Duration::from_millis(50);

/// How long nothing may come from the agent. While a workload plays it says something every second.
const SILENCE: Duration = Duration::from_secs(60);

/// How long the agent may take to end its workload and put everything back. It gives itself less.
const GRACE: Duration = Duration::from_secs(25);

/// An agent at work. When this is dropped, it is gone, and with it its scheduler and its workload. If
/// this process is killed, the agent notices, and goes too.
pub(super) struct Host {
    agent: Child,
    lines: Receiver<String>,
    interrupt: Arc<AtomicBool>,
    kernel: Kernel,
}

impl Host {
    /// Starts an agent with a job.
    ///
    /// # Errors
    /// We are not root, the kernel has no sched_ext, or there is no agent.
    pub(super) fn start(job: &Job) -> Result<Self, Failure> {
        if !Path::new("/sys/kernel/sched_ext").is_dir() {
            return Err(Failure::missing(
                "--on host: this kernel has no sched_ext (it needs CONFIG_SCHED_CLASS_EXT); --on vm:7.2 \
                 boots one that has",
            ));
        }
        if !is_root() {
            return Err(Failure::missing(
                "--on host: only root may attach a scheduler; run it with sudo, or give --on vm:7.2, \
                 which needs no rights",
            ));
        }
        let agent = find_agent().map_err(Failure::missing)?;
        let job = nameless(&serde_json::to_vec(job).map_err(Failure::missing)?)
            .map_err(|err| cannot("write the job", &err))?;
        let interrupt = interrupt::flag();
        let mut agent = Command::new(agent)
            .args(["job", "/proc/self/fd/0"])
            // Ctrl-C is for us, who then end it.
            .process_group(0)
            .stdin(job)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|err| cannot("start the agent", &err))?;
        let (sender, lines) = channel();
        if let Some(output) = agent.stdout.take() {
            thread::spawn(move || {
                let lines = BufReader::new(output).lines().map_while(Result::ok);
                lines.map(|line| sender.send(line)).find(Result::is_err)
            });
        }
        let kernel = Kernel { release: String::new(), cpus: 0, sched_ext: true, native_tid: false };
        let mut host = Self { agent, lines, interrupt, kernel };
        match host.next()? {
            Some(Record::Hello(hello)) => {
                host.kernel = hello.kernel().map_err(Failure::missing)?;
                Ok(host)
            }
            other => Err(Failure::missing(format_args!("the agent does not say hello: {other:?}"))),
        }
    }

    /// The kernel.
    pub(super) fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// The agent's next record; nothing once it is done.
    ///
    /// # Errors
    /// The agent is gone, or says nothing any more, or somebody wants to stop.
    pub(super) fn next(&mut self) -> Result<Option<Record>, Failure> {
        let start = Instant::now();
        loop {
            if self.interrupt.load(Ordering::Relaxed) {
                return Err(Failure::missing(
                    "interrupted; the scheduler and its workload are gone",
                ));
            }
            match self.lines.recv_timeout(LOOK) {
                Ok(line) => {
                    return match serde_json::from_str(&line) {
                        Ok(Record::Done) => Ok(None),
                        Ok(record) => Ok(Some(record)),
                        Err(err) => Err(Failure::missing(format_args!(
                            "the agent sent what is no record: {err}; is it of this version?"
                        ))),
                    };
                }
                Err(RecvTimeoutError::Timeout) if start.elapsed() < SILENCE => {}
                Err(RecvTimeoutError::Timeout) => {
                    let waited = SILENCE.as_secs();
                    let what = format!("the agent says nothing for {waited} s, and was ended");
                    return Err(Failure::missing(what));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status =
                        self.agent.wait().map_or_else(|_| String::new(), |s| s.to_string());
                    let what = format!("the agent ended before it was done ({status})");
                    return Err(Failure::missing(what));
                }
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Its number is its own until somebody waits for it.
        if matches!(self.agent.try_wait(), Ok(None)) {
            let _ = kill(Pid::from_raw(self.agent.id() as i32), Signal::SIGTERM);
        }
        let start = Instant::now();
        while matches!(self.agent.try_wait(), Ok(None)) {
            if start.elapsed() > GRACE {
                // The kernel detaches a scheduler whose links are closed, and the workload's keeper
                // ends the workload when its player is gone.
                let _ = self.agent.kill();
                let _ = self.agent.wait();
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A file with this in it that has no name: nothing of it stays.
fn nameless(text: &[u8]) -> std::io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(text)?;
    file.rewind()?;
    Ok(file)
}

fn cannot(what: &str, err: &std::io::Error) -> Failure {
    Failure::missing(format_args!("--on host: cannot {what}: {}", reason(err)))
}

/// Whether we may do what root may.
fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    ids.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}
