//! What the checks need: the programs, a workload, and time.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libbpf_rs::Link;
use scxlab_engine::program::{Instr, Pc, Span, Start};
use scxlab_engine::{Nanos, Program};
use scxlab_protocol::{Counts, Job, Kernel, Record, WorkloadSource};

use crate::attached::Attached;
use crate::object::{Loaded, Opened};
use crate::play::{Options, Player};
use crate::report::Report;
use crate::{kernel, run, stop};

/// A machine to check claims on.
pub(super) struct Lab<'a> {
    job: &'a Job,
    objects: &'a Path,
    report: &'a Report,
    kernel: Kernel,
}

impl<'a> Lab<'a> {
    pub(super) fn new(job: &'a Job, objects: &'a Path, report: &'a Report) -> Self {
        Self { job, objects, report, kernel: kernel::probe() }
    }

    /// Whether the kernel has tids of its own.
    pub(super) fn is_native(&self) -> bool {
        self.kernel.native_tid
    }

    /// CPUs.
    pub(super) fn cpus(&self) -> usize {
        self.kernel.cpus
    }

    pub(super) fn doing(&self, what: &str) {
        self.report.doing(what);
    }

    /// One of the compiled objects.
    pub(super) fn open(&self, name: &str) -> Result<Opened> {
        Opened::open(&self.objects.join(format!("{name}.bpf.o"))).with_context(|| name.to_owned())
    }

    /// A built-in workload.
    pub(super) fn builtin(&self, name: &str) -> Result<Program> {
        run::program(&WorkloadSource::Builtin(name.to_owned()), self.cpus())
    }

    /// Plays it for so long, or until `done`.
    pub(super) fn play(
        &self,
        program: &Program,
        how_long: Duration,
        mut done: impl FnMut() -> bool,
    ) -> Result<Counts> {
        let mut player = self.start(program)?;
        let start = Instant::now();
        let mut said = start;
        while start.elapsed() < how_long && !done() && !stop::is_asked() {
            // Whoever hears nothing for long takes the machine for hung.
            if said.elapsed() >= run::PROGRESS {
                self.report.say(&Record::Progress { at_ns: start.elapsed().as_nanos() as u64 });
                said = Instant::now();
            }
            thread::sleep(Duration::from_millis(20));
        }
        ensure!(player.is_kept(), run::KILLED);
        Ok(player.stop()?)
    }

    /// Begins to play it.
    pub(super) fn start(&self, program: &Program) -> Result<Player> {
        Ok(Player::start(program, self.job.seed, &Options::default())?)
    }
}

/// Attaches a scheduler that the kernel has to take.
pub(super) fn attach(opened: Opened) -> Result<Attached> {
    Ok(Attached::new(opened)??)
}

/// Loads and attaches what is no root scheduler, and is not waited for.
pub(super) fn load(opened: Opened) -> Result<(Loaded, Vec<Link>)> {
    let mut loaded = opened.load()?;
    let links = loaded.attach()?;
    Ok((loaded, links))
}

/// One that is to be there all the time still is.
pub(super) fn still_up(attached: &Attached) -> Result<()> {
    let msg = attached.loaded.text("uei.msg").unwrap_or_default();
    let reason = attached.loaded.text("uei.reason").unwrap_or_default();
    super::holds(attached.is_up(), || format!("the scheduler is gone: {reason} ({msg})"))
}

/// A workload of `start`s that are processes with names.
pub(super) fn program(code: Vec<Instr>, names: &[&str], start: Vec<Start>) -> Program {
    let names = names.iter().map(|&name| name.into()).collect();
    Program { code, names, start, ..Program::default() }
}

/// A process that is there from the start.
pub(super) fn process(entry: u32, name: u32) -> Start {
    Start::new(Pc(entry), name)
}

pub(super) fn run_for(least_us: u64, most_us: u64) -> Instr {
    Instr::Run(Span::between(Nanos::from_micros(least_us), Nanos::from_micros(most_us)))
}

pub(super) fn sleep_for(us: u64) -> Instr {
    Instr::Sleep(Span::exactly(Nanos::from_micros(us)))
}

/// Sets a kernel parameter until it is dropped.
pub(super) struct Sysctl {
    file: &'static str,
    before: String,
}

impl Sysctl {
    pub(super) fn set(file: &'static str, value: &str) -> Result<Self> {
        let before = std::fs::read_to_string(file).with_context(|| file.to_owned())?;
        std::fs::write(file, value).with_context(|| format!("{file}: cannot set it to {value}"))?;
        Ok(Self { file, before })
    }
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        let _ = std::fs::write(self.file, &self.before);
    }
}
