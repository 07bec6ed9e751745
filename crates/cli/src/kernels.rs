//! `scxlab kernels`: which kernels can be booted, and getting one.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use scxlab_kernels::{Blame, Kernel, KernelError, Progress, Step, Survey};
use serde::Serialize;

use crate::args::{KernelsArgs, KernelsCommand, KernelsListArgs};
use crate::output::{JsonTarget, Terminal};
use crate::status::{Failure, Status};

/// Lists kernels, fetches one or adds one.
///
/// # Errors
/// What was asked for is wrong, or something is missing.
pub fn kernels(args: &KernelsArgs, terminal: &mut Terminal) -> Result<Status, Failure> {
    match &args.command {
        None => list(&KernelsListArgs::default(), terminal),
        Some(KernelsCommand::List(args)) => list(args, terminal),
        Some(KernelsCommand::Fetch(args)) => fetch(&args.version, terminal),
        Some(KernelsCommand::Add(args)) => add(&args.file, terminal),
    }
}

impl From<KernelError> for Failure {
    fn from(error: KernelError) -> Self {
        match error.blame() {
            Blame::Given => Self::wrong(error),
            Blame::Missing => Self::missing(error),
        }
    }
}

/// What `--json` has.
#[derive(Serialize)]
struct Listing<'a> {
    kernels: &'a [Kernel],
    /// Those that cannot be used, each with the reason.
    broken: Vec<String>,
}

fn list(args: &KernelsListArgs, terminal: &mut Terminal) -> Result<Status, Failure> {
    let json = JsonTarget::open(args.json.as_deref())?;
    let survey = scxlab_kernels::survey()?;
    if !json.is_stdout() {
        let text = table(&survey, terminal);
        terminal.print(&text);
    }
    let broken = survey.broken.iter().map(ToString::to_string).collect();
    json.write(&Listing { kernels: &survey.kernels, broken }, terminal)?;
    Ok(Status::Fine)
}

fn table(survey: &Survey, terminal: &Terminal) -> String {
    let mut text = String::new();
    if survey.kernels.is_empty() {
        text.push_str("No kernels here.\n");
    } else {
        let width = survey.kernels.iter().map(|kernel| kernel.release.len()).max().unwrap_or(0);
        let head = format!("{:<width$}  sched_ext  tid     image", "release");
        let _ = writeln!(text, "{}", terminal.bold(&head));
        for kernel in &survey.kernels {
            let features = kernel.features;
            let sched_ext = format!("{:<9}", if features.sched_ext { "built in" } else { "no" });
            let sched_ext = if features.sched_ext {
                terminal.good(&sched_ext)
            } else {
                terminal.bad(&sched_ext)
            };
            let tid = if features.native_tid { "native" } else { "none" };
            let image = kernel.image.display();
            let _ = writeln!(text, "{:<width$}  {sched_ext}  {tid:<6}  {image}", kernel.release);
        }
    }
    for error in &survey.broken {
        let _ = writeln!(text, "{} {error}", terminal.bad("cannot be used:"));
    }
    if !survey.kernels.iter().any(|kernel| kernel.features.sched_ext) {
        text.push_str(
            "Get one with `scxlab kernels fetch 7.2`, or give an image to `scxlab kernels add \
             FILE`.\n",
        );
    }
    text
}

fn fetch(version: &str, terminal: &mut Terminal) -> Result<Status, Failure> {
    let mut bar = Bar::new(terminal.progress());
    let kernel = scxlab_kernels::fetch(version, &mut bar);
    drop(bar);
    told(&kernel?, terminal)
}

fn add(file: &Path, terminal: &mut Terminal) -> Result<Status, Failure> {
    told(&scxlab_kernels::add(file)?, terminal)
}

/// Says which kernel there is now.
fn told(kernel: &Kernel, terminal: &mut Terminal) -> Result<Status, Failure> {
    let tid = if kernel.features.native_tid { "native tid" } else { "no native tid" };
    let (release, image) = (&kernel.release, kernel.image.display());
    terminal.print(&format!("{release}: sched_ext built in, {tid}\n{image}\n"));
    Ok(Status::Fine)
}

/// How far a fetch has come, on standard error. Ctrl-C ends the fetch, and so lets it tidy up.
struct Bar {
    bar: ProgressBar,
    step: Option<Step>,
    interrupted: Arc<AtomicBool>,
}

impl Bar {
    fn new(wanted: bool) -> Self {
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&interrupted);
        // It fails if there is a handler. Without ours, the next fetch tidies up instead.
        let _ = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed));
        let bar = if wanted { ProgressBar::new(100) } else { ProgressBar::hidden() };
        Self { bar, step: None, interrupted }
    }

    fn show(&mut self, step: &Step) {
        let template = match step {
            Step::Lists | Step::Download { .. } => "{msg} {bar:20} {percent:>3}% {elapsed}",
            Step::Unpack | Step::Check => "{msg} {spinner} {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        self.bar.set_position(0);
        self.bar.set_message(step.to_string());
        self.bar.enable_steady_tick(Duration::from_millis(100));
        self.step = Some(step.clone());
    }
}

impl Progress for Bar {
    fn at(&mut self, step: &Step, percent: Option<f32>) {
        if self.step.as_ref() != Some(step) {
            self.show(step);
        }
        if let Some(percent) = percent {
            self.bar.set_position(percent as u64);
        }
    }

    fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
