//! Runs another program, tells how far it has come, and ends it when the user gives up.

use std::io::{self, BufRead as _, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::KernelError;
use crate::progress::{Progress, Step};

/// How often to ask whether to give up.
const BEAT: Duration = Duration::from_millis(100);
/// How long a program may get no further. apt gives up on a silent mirror by itself, and sooner;
/// but where the disk is full it may wait for itself for ever.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a program left.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// It says that it went well.
    pub success: bool,
    /// Standard output, without what told the progress.
    pub lines: Vec<String>,
    /// Standard error.
    pub errors: Vec<String>,
}

impl Output {
    /// What to tell the user of its errors: what apt and dpkg mark as such, or the last line.
    pub fn complaint(&self) -> String {
        let marked: Vec<_> = self
            .errors
            .iter()
            .filter_map(|line| {
                line.strip_prefix("E: ").or_else(|| line.strip_prefix("dpkg-deb: error: "))
            })
            .map(|line| line.trim().trim_end_matches('.'))
            .collect();
        match (marked.is_empty(), self.errors.last()) {
            (false, _) => marked.join("; "),
            (true, Some(last)) => last.trim().to_owned(),
            (true, None) => "it gave no reason".to_owned(),
        }
    }

    /// Whether the disk was full.
    pub fn no_space(&self) -> bool {
        self.errors.iter().any(|line| {
            line.contains("No space left on device") || line.contains("enough free space")
        })
    }
}

enum Line {
    Out(String),
    Error(String),
}

/// Runs `command` to its end, as a part of `step`.
pub(crate) fn run(
    command: &mut Command,
    step: &Step,
    progress: &mut dyn Progress,
) -> Result<Output, KernelError> {
    run_with(PATIENCE, command, step, progress)
}

fn run_with(
    patience: Duration,
    command: &mut Command,
    step: &Step,
    progress: &mut dyn Progress,
) -> Result<Output, KernelError> {
    let failed = |program: &str, error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound => KernelError::NoApt { program: program.to_owned() },
        _ => KernelError::FetchFailed {
            step: program.to_owned(),
            complaint: crate::error::reason(error),
        },
    };
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&program, &error))?;

    let (sender, lines) = mpsc::channel();
    if let Some(out) = child.stdout.take() {
        forward(out, Line::Out, sender.clone());
    }
    if let Some(err) = child.stderr.take() {
        forward(err, Line::Error, sender.clone());
    }
    drop(sender);

    let mut output = Output::default();
    let mut percent = None;
    let mut moved = Instant::now();
    loop {
        let before = (percent, output.lines.len(), output.errors.len());
        match lines.recv_timeout(BEAT) {
            Ok(Line::Out(line)) => match downloaded(&line) {
                Some(now) => percent = Some(now),
                None => output.lines.push(line),
            },
            Ok(Line::Error(line)) => output.errors.push(line),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        // apt repeats where it is all the time: only what is new counts.
        if before != (percent, output.lines.len(), output.errors.len()) {
            moved = Instant::now();
        } else if moved.elapsed() > patience {
            let _ = child.kill();
            let _ = child.wait();
            let seconds = patience.as_secs();
            output.errors.push(format!("E: {program} got no further for {seconds} seconds"));
            return Ok(output);
        }
        progress.at(step, percent);
        if progress.interrupted() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(KernelError::Interrupted);
        }
    }
    let status = child.wait().map_err(|error| failed(&program, &error))?;
    // Ctrl-C reaches the child too, and it may be the faster one.
    if progress.interrupted() {
        return Err(KernelError::Interrupted);
    }
    output.success = status.success();
    Ok(output)
}

/// Sends every line of `from`, from a thread that ends with it.
fn forward(from: impl Read + Send + 'static, wrap: fn(String) -> Line, to: Sender<Line>) {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while matches!(from.read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if to.send(wrap(text)).is_err() {
                break;
            }
        }
    });
}

/// The percentage in a line of apt's status: `dlstatus:ITEM:PERCENT:TEXT`.
fn downloaded(line: &str) -> Option<f32> {
    let mut fields = line.strip_prefix("dlstatus:")?.split(':');
    let percent: f32 = fields.nth(1)?.parse().ok()?;
    percent.is_finite().then(|| percent.clamp(0.0, 100.0))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::progress::Quiet;

    fn sh(script: &str, progress: &mut dyn Progress) -> Result<Output, KernelError> {
        run(Command::new("/bin/sh").args(["-c", script]), &Step::Lists, progress)
    }

    #[derive(Default)]
    struct Watch {
        seen: Vec<f32>,
        give_up: bool,
    }

    impl Progress for Watch {
        fn at(&mut self, _: &Step, percent: Option<f32>) {
            self.seen.extend(percent);
        }

        fn interrupted(&self) -> bool {
            self.give_up
        }
    }

    #[test]
    fn progress_is_told_and_the_rest_is_kept() {
        let mut watch = Watch::default();
        let script = "echo a; echo dlstatus:1:12.5:Retrieving file 1 of 1; echo b; echo E: c >&2";
        let output = sh(script, &mut watch).expect("runs");
        assert!(output.success);
        assert_eq!(output.lines, ["a", "b"]);
        assert_eq!(output.complaint(), "c");
        assert!(watch.seen.contains(&12.5));
    }

    #[test]
    fn complaints() {
        let output = sh("echo W: x >&2; echo last >&2; exit 3", &mut Quiet).expect("runs");
        assert!(!output.success && !output.no_space());
        assert_eq!(output.complaint(), "last");
        let full = "echo 'E: Write error - write (28: No space left on device)' >&2; exit 100";
        assert!(sh(full, &mut Quiet).expect("runs").no_space());
        assert_eq!(sh("exit 1", &mut Quiet).expect("runs").complaint(), "it gave no reason");
    }

    #[test]
    fn who_gives_up_does_not_wait() {
        let started = Instant::now();
        let mut watch = Watch { give_up: true, ..Watch::default() };
        assert!(matches!(sh("exec sleep 60", &mut watch), Err(KernelError::Interrupted)));
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_program_that_gets_no_further_is_ended() {
        let script = "while echo dlstatus:1:5.0:x; do sleep 0.01; done";
        let mut command = Command::new("/bin/sh");
        let patience = Duration::from_millis(300);
        let output = run_with(patience, command.args(["-c", script]), &Step::Lists, &mut Quiet)
            .expect("runs");
        assert!(!output.success);
        assert!(output.complaint().contains("got no further"), "{}", output.complaint());
    }

    #[test]
    fn a_program_that_is_not_there() {
        let error = run(&mut Command::new("/no/such/apt-get"), &Step::Lists, &mut Quiet);
        assert!(matches!(error, Err(KernelError::NoApt { .. })));
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_survived(rest in ".{0,40}") {
            let _ = downloaded(&format!("dlstatus:{rest}"));
        }
    }
}
