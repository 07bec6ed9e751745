//! The player: starts a workload, watches and stops it.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed};
use std::time::{Duration, Instant};

use scxlab_engine::Program;
use scxlab_protocol::Counts;

use super::error::PlayError;
use super::refusal::{self, Refusal};
use super::stage::Stage;
use super::{KEEPER, SUBCOMMAND, census, cgroups, check, keeper};

/// How long a stop may take. Under a scheduler that has lost tasks, the kernel's watchdog comes
/// before.
const PATIENCE: Duration = Duration::from_secs(60);

/// How to play.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The binary that keepers and tasks are, whose `main` calls
    /// [`image_main`](super::image_main). This process's own if there is none.
    pub image: Option<PathBuf>,
}

/// A workload that is being played. When it is dropped, the workload is stopped.
pub struct Player {
    stage: Stage,
    keeper: Child,
    /// Closing it stops the workload. So does the end of this process.
    line: Option<UnixStream>,
    group: i32,
    /// The highest that was told.
    exited: AtomicU64,
}

impl Player {
    /// Starts a workload. Its times count from here on.
    ///
    /// # Errors
    /// It cannot be played here, and nothing of it was.
    pub fn start(program: &Program, seed: u64, options: &Options) -> Result<Self, PlayError> {
        check::check(program)?;
        let cgroups = if check::wants_cgroups(program) {
            cgroups::create(&program.cgroups)?
        } else {
            Vec::new()
        };
        let started = Self::start_in(program, seed, options, &cgroups);
        if started.is_err()
            && let Some(base) = cgroups.last()
        {
            cgroups::remove(Path::new(base));
        }
        started
    }

    fn start_in(
        program: &Program,
        seed: u64,
        options: &Options,
        cgroups: &[String],
    ) -> Result<Self, PlayError> {
        let (stage, file) = Stage::create(program, cgroups, seed).map_err(PlayError::Stage)?;
        let (ours, theirs) = UnixStream::pair().map_err(PlayError::Stage)?;
        let image = options.image.clone().unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
        let mut keeper = spawn(&image, file, theirs.into())
            .map_err(|error| PlayError::Image { image, error })?;
        if let Err(why) = wait_until_ready(&ours) {
            drop(ours);
            let _ = keeper.wait();
            return Err(PlayError::Keeper { why });
        }
        let group = stage.board().group.load(Acquire);
        Ok(Self { stage, keeper, line: Some(ours), group, exited: AtomicU64::new(0) })
    }

    /// What the tasks have done up to now. See the module's documentation for how far each figure
    /// can be known.
    pub fn counts(&self) -> Counts {
        let counts = self.stage.counts();
        if self.line.is_some()
            && let Ok(live) = census::live(self.group)
        {
            // Those that were forked since are in `live` only.
            self.exited.fetch_max(counts.forked.saturating_sub(live), Relaxed);
        }
        Counts { exited: self.exited.load(Relaxed), ..counts }
    }

    /// Whether tasks live, or some are still to be started. A workload that has played has
    /// [`Counts::forked`] above 0 besides.
    pub fn is_alive(&mut self) -> bool {
        if !self.is_kept() {
            return false;
        }
        let all_started =
            self.stage.board().started.load(Acquire) as usize == self.stage.starts().len();
        !all_started || census::live(self.group).is_ok_and(|live| live > 0)
    }

    /// Whether its keeper is there. It goes by itself only when the player has stopped the workload:
    /// before that somebody else has killed it (the kernel, out of memory), and all tasks with it.
    pub fn is_kept(&mut self) -> bool {
        matches!(self.keeper.try_wait(), Ok(None))
    }

    /// What the kernel refused the tasks up to now, each instruction's once.
    pub fn refusals(&self) -> Vec<Refusal> {
        refusal::all(&self.stage)
    }

    /// The process group that all tasks are in, and nobody else but its leader, who is no task.
    pub fn group(&self) -> i32 {
        self.group
    }

    /// Ends all tasks, whatever they do, and waits until they are dead and reaped and the workload's
    /// cgroups are gone. What they did to their end.
    ///
    /// # Errors
    /// Some do not die, which a kernel that works does not do.
    pub fn stop(&mut self) -> Result<Counts, PlayError> {
        if self.line.take().is_none() {
            // The group's number may be another's by now.
            return Ok(self.counts());
        }
        let begin = Instant::now();
        while self.is_kept() && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        // None are left, unless somebody has killed the keeper. Then the anchor is at it.
        while let Ok(live @ 1..) = census::live(self.group) {
            if begin.elapsed() >= PATIENCE {
                let (group, waited) = (self.group, begin.elapsed());
                return Err(PlayError::Remains { live, group, waited });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Some(base) = self.stage.base_cgroup() {
            cgroups::remove(Path::new(base));
        }
        self.exited.store(self.stage.counts().forked, Relaxed);
        Ok(self.counts())
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn spawn(image: &Path, stage: File, line: OwnedFd) -> std::io::Result<Child> {
    Command::new(image)
        .arg0("scxlab-keeper")
        .args([SUBCOMMAND, KEEPER])
        .env_clear()
        .stdin(Stdio::from(stage))
        .stdout(Stdio::from(line))
        // Not ours: what a terminal sends to our group is not for the keeper.
        .process_group(0)
        .spawn()
}

/// The keeper says that it is ready, or what is wrong.
fn wait_until_ready(mut line: &UnixStream) -> Result<(), String> {
    let mut first = [0];
    match line.read(&mut first) {
        Ok(1) if first[0] == keeper::READY => return Ok(()),
        Ok(1) => {}
        Ok(_) => return Err("it ended at once; is it this binary, and of this version?".to_owned()),
        Err(error) => return Err(error.to_string()),
    }
    let mut why = vec![first[0]];
    let _ = line.read_to_end(&mut why);
    Err(String::from_utf8_lossy(&why).into_owned())
}
