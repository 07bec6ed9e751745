//! What programs are told of time.

use scxlab_engine::{Cx, Nanos};

/// How long the machine has been up when a run begins. Nobody attaches a scheduler in the first
/// moments after a boot, and schedulers take a time of 0 for one that is long past, as the kernel's
/// scx_pair does. In whole jiffies, however long they are.
const UPTIME: Nanos = Nanos::from_secs(3600);

/// Now, on every clock: ns since the boot.
pub(super) fn now(cx: &Cx<'_>) -> u64 {
    at(cx.now().0)
}

/// A time of the run, in ns, on these clocks.
pub(super) fn at(of_run: u64) -> u64 {
    of_run.saturating_add(UPTIME.0)
}

/// The time of the run that a time on these clocks is; its beginning if it was before.
pub(super) fn of_run(at: u64) -> Nanos {
    Nanos(at).saturating_sub(UPTIME)
}

/// `jiffies`. The kernel's begin 300 s before they wrap to 32 bits; these begin at 0, at the boot.
pub(super) fn jiffies(cx: &Cx<'_>) -> u64 {
    jiffies_at(cx, cx.jiffies())
}

/// A jiffy of the run, which counts from its beginning, in `jiffies`.
pub(super) fn jiffies_at(cx: &Cx<'_>, of_run: u64) -> u64 {
    of_run.saturating_add(UPTIME.0 / cx.jiffy().0)
}
