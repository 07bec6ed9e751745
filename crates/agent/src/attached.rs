//! A scheduler in charge: attached, watched, detached.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use libbpf_rs::Link;
use scxlab_protocol::Exit;

use crate::object::{Loaded, Opened, Refusal};
use crate::{exit, kernel, stop};

/// How often to look how a scheduler does.
pub const LOOK: Duration = Duration::from_millis(20);

/// How long the kernel may take to attach or detach a scheduler.
const CHANGE: Duration = Duration::from_secs(30);

/// A scheduler that is attached. It is detached when this is dropped.
pub struct Attached {
    /// Its programs and variables.
    pub loaded: Loaded,
    links: Vec<Link>,
    name: String,
    seq: u64,
    /// The kernel's log ended there before.
    log: u64,
    since: Instant,
}

impl Attached {
    /// Loads and attaches it, and waits until all tasks are its, or it is gone already.
    ///
    /// # Errors
    /// Another one is there, or it does not get as far; or, inside, the kernel refuses it.
    pub fn new(opened: Opened) -> Result<Result<Self, Refusal>> {
        Self::prepared(opened, |_| Ok(()))
    }

    /// The same, with something to do once it is loaded and not attached yet.
    ///
    /// # Errors
    /// See above; or that cannot be done.
    pub fn prepared(
        opened: Opened,
        prepare: impl FnOnce(&mut Loaded) -> Result<()>,
    ) -> Result<Result<Self, Refusal>> {
        ready()?;
        let name = opened.name()?;
        let log = exit::end_of_the_log();
        let mut loaded = match opened.load() {
            Ok(loaded) => loaded,
            Err(refusal) => return Ok(Err(refusal)),
        };
        prepare(&mut loaded)?;
        let seq = kernel::enable_seq();
        let links = match loaded.attach() {
            Ok(links) => links,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let since = Instant::now();
        // The attach has come to its end: one that is not enabled then is on its way out, or gone.
        wait_for(|| matches!(kernel::state().as_str(), "enabled" | "disabled"))
            .context("the scheduler does not become enabled")?;
        Ok(Ok(Self { loaded, links, name, seq, log, since }))
    }

    /// `ops.name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is still there.
    pub fn is_up(&self) -> bool {
        kernel::state() == "enabled"
    }

    /// How long ago it was attached.
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// Detaches it, if it is not gone already.
    ///
    /// # Errors
    /// It does not go, or something else was attached meanwhile.
    pub fn detach(self) -> Result<Detached> {
        let Self { loaded, links, name, seq, log, .. } = self;
        drop(links);
        // Also when asked to stop: there is nothing else to do about it.
        wait(|| kernel::state() == "disabled").context("the scheduler does not go")?;
        ensure!(kernel::enable_seq() <= seq + 1, "another scheduler was attached meanwhile");
        Ok(Detached { loaded, name, log })
    }
}

/// A scheduler that is not attached any more.
pub struct Detached {
    /// Its variables as it left them.
    pub loaded: Loaded,
    name: String,
    log: u64,
}

impl Detached {
    /// How its time ended, which was noticed so long after the attach.
    ///
    /// # Errors
    /// Nobody says.
    pub fn exit(&self, noticed: Duration) -> Result<Exit> {
        let at_ns = noticed.as_nanos() as u64;
        exit::recorded(&self.loaded, at_ns)
            .or_else(|| exit::logged(&exit::kernel_log_from(self.log), &self.name, at_ns))
            .with_context(|| {
                format!(
                    "the scheduler {} is gone, and nobody says why: it has not recorded it in `uei` \
                     (UEI_DEFINE and UEI_RECORD of the kernel's examples do), and there is no line on \
                     it in the kernel's log",
                    self.name
                )
            })
    }
}

/// Whether a scheduler can be attached now.
///
/// # Errors
/// It cannot: the kernel has no sched_ext, or another scheduler.
pub fn ready() -> Result<()> {
    let state = kernel::state();
    match state.as_str() {
        "disabled" => Ok(()),
        "" => bail!(
            "this kernel ({}) has no sched_ext: it needs CONFIG_SCHED_CLASS_EXT, which Linux has from \
             6.12 on",
            kernel::probe().release
        ),
        _ => bail!("the scheduler {} is there already ({state}); detach it first", kernel::root()),
    }
}

/// Keeps this process running under a scheduler that runs nobody: in the real-time class, which is
/// above all others. Those that it starts are in the class that they would be in anyway. Without the
/// rights it stays where it is.
pub fn stay_on_the_cpu() {
    let param = libc::sched_param { sched_priority: 1 };
    // SAFETY: it reads `param`, and changes nothing but this process's class.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &param) };
}

/// Waits until it is so, as long as the kernel may take for a change.
///
/// # Errors
/// It took longer, or this is to stop.
pub fn wait_for(mut done: impl FnMut() -> bool) -> Result<()> {
    wait(|| stop::is_asked() || done())?;
    stop::check()
}

fn wait(mut done: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !done() {
        ensure!(start.elapsed() < CHANGE, "not within {} s", CHANGE.as_secs());
        thread::sleep(LOOK);
    }
    Ok(())
}
