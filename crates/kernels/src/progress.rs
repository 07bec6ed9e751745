//! How far a fetch has come, for those who wait.

use std::fmt;

/// What a fetch does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Asks the mirror which kernels it has.
    Lists,
    /// Downloads a package.
    Download {
        /// Its name.
        package: String,
    },
    /// Takes the image out of the package.
    Unpack,
    /// Reads the image, and puts it into the cache.
    Check,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lists => f.write_str("asking the mirror which kernels it has"),
            Self::Download { package } => write!(f, "downloading {package}"),
            Self::Unpack => f.write_str("unpacking the image"),
            Self::Check => f.write_str("checking the image"),
        }
    }
}

/// Who is told how far a fetch has come, and may end it.
pub trait Progress {
    /// The fetch is at `step`, and this much of it is done, in percent, if that is known. Called
    /// at least ten times a second while it waits.
    fn at(&mut self, step: &Step, percent: Option<f32>);

    /// Whether to give up.
    fn interrupted(&self) -> bool {
        false
    }
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn at(&mut self, _: &Step, _: Option<f32>) {}
}
