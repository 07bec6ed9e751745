//! On which CPUs this thread runs.

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

const SELF: Pid = Pid::from_raw(0);

/// The CPUs that this thread may run on, in order.
///
/// # Errors
/// The kernel does not say.
pub fn allowed() -> Result<Vec<usize>> {
    let mine = mine()?;
    Ok((0..CpuSet::count()).filter(|&cpu| mine.is_set(cpu) == Ok(true)).collect())
}

/// Does something on these CPUs alone, as do the threads that it starts, to their end. After it this
/// thread may run where it could before.
///
/// # Errors
/// It cannot run on any of them, or not on its own again.
pub fn on<R>(cpus: &[usize], f: impl FnOnce() -> R) -> Result<R> {
    let mine = mine()?;
    let mut these = CpuSet::new();
    cpus.iter()
        .try_for_each(|&cpu| these.set(cpu))
        .and_then(|()| sched_setaffinity(SELF, &these))
        .with_context(|| format!("it cannot run on the CPUs {cpus:?} alone"))?;
    let result = f();
    sched_setaffinity(SELF, &mine).context("it cannot run on its CPUs again")?;
    Ok(result)
}

fn mine() -> Result<CpuSet> {
    sched_getaffinity(SELF).context("the CPUs that this may run on")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_stay_where_they_were_started_and_who_started_them_comes_back() {
        let before = allowed().expect("the CPUs");
        let last = before[before.len() - 1];
        let (here, there) = on(&[last], || {
            let there = std::thread::spawn(|| allowed().expect("the CPUs"));
            (allowed().expect("the CPUs"), there)
        })
        .expect("it may run there");
        assert_eq!(here, [last]);
        assert_eq!(there.join().expect("no panic"), [last]);
        assert_eq!(allowed().expect("the CPUs"), before);
    }

    #[test]
    fn no_cpu_is_an_error() {
        let before = allowed().expect("the CPUs");
        assert!(on(&[], || ()).is_err());
        assert!(on(&[usize::MAX], || ()).is_err());
        assert_eq!(allowed().expect("the CPUs"), before);
    }
}
