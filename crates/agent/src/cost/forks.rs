//! Tasks that come and go, and a process that makes them.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use scxlab_protocol::Timed;

/// Forks that are timed together: enough for what the kernel puts off to be in it.
const BATCH: u32 = 50;

/// What is forked.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Process = 1,
    Thread,
}

/// A process that forks. It is the same small one throughout: a fork copies what is mapped, and the
/// agent's own memory grows and shrinks with the objects that it loads. It is an ordinary task.
pub(super) struct Forker {
    line: Option<UnixStream>,
    pid: Pid,
}

impl Forker {
    /// Call it while this process has but one thread.
    pub(super) fn start() -> Result<Self> {
        let (ours, theirs) = UnixStream::pair().context("a socket")?;
        // SAFETY: no lock is held by another thread, as there is none.
        match unsafe { fork() }.context("fork")? {
            ForkResult::Child => {
                drop(ours);
                // Its end is that of the line, or an error, which ends the line.
                let _ = serve(theirs);
                // SAFETY: it runs nothing of ours.
                unsafe { libc::_exit(0) }
            }
            ForkResult::Parent { child } => Ok(Self { line: Some(ours), pid: child }),
        }
    }

    /// Has it make at least so many tasks, one after another.
    pub(super) fn fork(&mut self, kind: Kind, times: u32) -> Result<Timed> {
        let batches = times.div_ceil(BATCH);
        let line = self.line.as_mut().context("it has ended")?;
        let mut ask = || -> std::io::Result<Vec<u8>> {
            line.write_all(&[kind as u8])?;
            line.write_all(&batches.to_le_bytes())?;
            let mut answer = vec![0; 8 * batches as usize];
            line.read_exact(&mut answer)?;
            Ok(answer)
        };
        let answer = ask().context("the process that forks cannot go on")?;
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        Ok(Timed::median(BATCH.into(), answer.chunks_exact(8).map(word).collect()))
    }
}

impl Drop for Forker {
    fn drop(&mut self) {
        drop(self.line.take());
        let _ = waitpid(self.pid, None);
    }
}

fn serve(mut line: UnixStream) -> Result<()> {
    loop {
        let mut ask = [0; 5];
        line.read_exact(&mut ask)?;
        let [kind, batches @ ..] = ask;
        let one = if kind == Kind::Process as u8 { process } else { thread };
        let batches = u32::from_le_bytes(batches);
        let times: Vec<u64> = (0..batches).map(|_| batch(one)).collect::<Result<_>>()?;
        for ns in times {
            line.write_all(&ns.to_le_bytes())?;
        }
    }
}

/// How long a batch takes, in ns.
fn batch(one: fn() -> Result<()>) -> Result<u64> {
    let start = Instant::now();
    (0..BATCH).try_for_each(|_| one())?;
    Ok(start.elapsed().as_nanos() as u64)
}

/// Forks, has the child exit at once, and waits for it.
fn process() -> Result<()> {
    // SAFETY: the child does nothing but end.
    match unsafe { fork() }.context("fork")? {
        // SAFETY: it runs nothing of ours.
        ForkResult::Child => unsafe { libc::_exit(0) },
        ForkResult::Parent { child } => drop(waitpid(child, None).context("wait")?),
    }
    Ok(())
}

/// Creates a thread that exits at once, and joins it.
fn thread() -> Result<()> {
    let made = thread::Builder::new().spawn(|| ()).context("a thread")?;
    made.join().map_err(|_| anyhow!("a thread panicked"))
}
