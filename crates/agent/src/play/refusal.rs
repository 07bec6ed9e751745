//! What the kernel would not do for a task.
//!
//! A task whose request is refused goes on, as a program does that does not look at the result. But
//! it is noted on the stage, once for each instruction, for the player to tell.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use scxlab_engine::program::{Index, Instr};

use super::stage::Stage;

/// Something that the kernel refused a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The name under which the task that asked was started.
    pub task: String,
    /// What it asked for.
    pub what: String,
    /// The error number.
    pub errno: i32,
    /// How often.
    pub times: u64,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { task, what, errno, times } = self;
        let error = io::Error::from_raw_os_error(*errno);
        write!(f, "`{task}`: the kernel refused {what}: {error}, {times} times")?;
        match *errno {
            libc::EPERM | libc::EACCES => f.write_str("; run it as root, or leave that out"),
            _ => Ok(()),
        }
    }
}

/// Notes that the kernel said no to `task`, in cell `at`: an instruction's place, or behind those a
/// start entry's.
pub(super) fn note(stage: &Stage, at: usize, task: Index, error: &io::Error) {
    let errno = error.raw_os_error().unwrap_or(libc::EINVAL) as u64 & 0xfff;
    if let Some(cell) = stage.refusals().get(at) {
        let first = errno << 52 | u64::from(task & 0xf_ffff) << 32;
        // Who came first stays; the number of times is the low half.
        let more = |old: u64| {
            let times = (old as u32).saturating_add(1);
            let who = if old == 0 { first } else { old & !0xffff_ffff };
            Some(who | u64::from(times))
        };
        let _ = cell.fetch_update(Relaxed, Relaxed, more);
    }
}

/// All that was noted.
pub(super) fn all(stage: &Stage) -> Vec<Refusal> {
    let noted = stage.refusals().iter().enumerate();
    noted.filter_map(|(at, cell)| read(stage, at, cell)).collect()
}

fn read(stage: &Stage, at: usize, cell: &AtomicU64) -> Option<Refusal> {
    let cell = cell.load(Relaxed);
    let task = stage.name((cell >> 32) as Index & 0xf_ffff).to_owned();
    let what = match stage.instr(at as u32) {
        Some(instr) => wish(stage, &instr),
        None => {
            let start = stage.starts().get(at - stage.code_len())?;
            format!("what it is to start with (nice {}, policy {})", start.nice, start.policy)
        }
    };
    let refusal = Refusal { task, what, errno: (cell >> 52) as i32, times: cell & 0xffff_ffff };
    (refusal.times > 0).then_some(refusal)
}

fn wish(stage: &Stage, instr: &Instr) -> String {
    match instr {
        Instr::SetNice(_, nice) => format!("nice {nice}"),
        Instr::SetPolicy(_, policy) => format!("policy {policy:?}"),
        Instr::SetAffinity(..) => "the affinity".to_owned(),
        Instr::SetCgroup(cgroup) => format!("the cgroup {}", stage.cgroup(*cgroup)),
        Instr::Exec { name, .. } => format!("the exec of `{}`", stage.name(*name)),
        Instr::Kill(_) => "the kill".to_owned(),
        other => format!("{other:?}"),
    }
}
