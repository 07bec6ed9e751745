//! Whether the kernel still has tasks that have ended: a scheduler that holds references to tasks
//! must let go of them.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::stop;

/// Where the kernel says what it has allocated for tasks.
const SLAB: &str = "/sys/kernel/slab/task_struct";

/// How long tasks that have ended may take to be freed: a grace period or two.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many tasks the kernel has beyond those that live, at some time.
#[derive(Clone, Copy, Debug)]
pub struct Baseline(i64);

impl Baseline {
    /// Now. Nothing if the kernel does not tell, or not us.
    pub fn take() -> Option<Self> {
        beyond_the_living().map(Self)
    }

    /// How many more there are now, once those that are only late have had their time.
    pub fn leaked(self) -> Option<u64> {
        let start = Instant::now();
        loop {
            let more = beyond_the_living()? - self.0;
            if more <= 0 || start.elapsed() > PATIENCE || stop::is_asked() {
                return Some(u64::try_from(more).unwrap_or(0));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

fn beyond_the_living() -> Option<i64> {
    // Without this, objects that a CPU holds in stock count as if they were in use.
    fs::write(format!("{SLAB}/shrink"), "1").ok()?;
    let objects = fs::read_to_string(format!("{SLAB}/objects")).ok()?;
    let objects: i64 = objects.split_whitespace().next()?.parse().ok()?;
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    let living: i64 = load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    Some(objects - living)
}
