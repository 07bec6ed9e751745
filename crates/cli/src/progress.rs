//! How far a run has come, for those who wait at a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use scxlab_engine::Nanos;

/// Runs shorter than this show nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// A bar on standard error that appears after a second.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
    shown: bool,
    wanted: bool,
}

impl Progress {
    /// Of a run that takes `total`; never shown unless `wanted`.
    pub fn new(total: Nanos, wanted: bool) -> Self {
        let bar = ProgressBar::with_draw_target(Some(millis(total)), ProgressDrawTarget::hidden());
        let template = "{bar:40} {percent:>3}% of the run's time, {elapsed} gone, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, started: Instant::now(), shown: false, wanted }
    }

    /// The run has come to `now`.
    pub fn at(&mut self, now: Nanos) {
        if !self.wanted || self.started.elapsed() < PATIENCE {
            return;
        }
        if !self.shown {
            self.shown = true;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_position(millis(now));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn millis(t: Nanos) -> u64 {
    t.0 / 1_000_000
}
