//! Real kernels: which there are, how to get one, and what it can do.
//!
//! A kernel is an image file, a bzImage. [`find`] takes what a user gives for KERNEL, a version
//! such as `7.2` or a path; [`list`] has all that can be found; [`fetch`] gets one from the
//! machine's distribution mirror, and [`add`] takes one that the user has. What an image can do is
//! read from the image, without booting it: [`image`].
#![forbid(unsafe_code)]

mod apt;
mod btf;
mod cache;
mod child;
mod config;
mod error;
mod fetch;
pub mod image;
mod payload;
mod places;
mod progress;
mod spec;
#[cfg(any(test, feature = "synthetic"))]
pub mod synthetic;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use cache::Cache;
pub use error::{Blame, KernelError};
pub use places::{Places, Survey};
pub use progress::{Progress, Quiet, Step};
pub use spec::{Release, Spec, Version};

/// A kernel that can be booted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// What it calls itself: `uname -r`.
    pub release: String,
    /// Its image.
    pub image: PathBuf,
    /// The configuration that it was built with, if that is beside the image.
    pub config: Option<PathBuf>,
    /// Where it was found.
    pub source: Source,
    /// What it can do.
    #[serde(flatten)]
    pub features: Features,
}

/// Where a kernel was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// In scxlab's cache: fetched or added.
    Cache,
    /// Among those that are installed on the machine.
    Machine,
    /// At the path that the user gave.
    Path,
}

/// What a kernel can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    /// sched_ext is built in.
    pub sched_ext: bool,
    /// It gives every task a tid, and has `scx_bpf_tid_to_task()`.
    pub native_tid: bool,
}

/// The kernel for what the user gave: the newest of a version, or the image at a path. Its image is
/// whole, and sched_ext is built in.
///
/// # Errors
/// `spec` is neither, nothing matches, or the image cannot be used.
pub fn find(spec: &str) -> Result<Kernel, KernelError> {
    let spec = Spec::parse(spec)?;
    match &spec {
        Spec::Path(path) => places::at(path),
        Spec::Version(version) => Places::of_this_machine()?.find(version),
    }
}

/// Every kernel in the cache and on the machine, newest first. Those that cannot be used are left
/// out; [`survey`] has them.
///
/// # Errors
/// There is no place for a cache.
pub fn list() -> Result<Vec<Kernel>, KernelError> {
    Ok(survey()?.kernels)
}

/// Every kernel in the cache and on the machine, and what is wrong with those that cannot be used.
///
/// # Errors
/// There is no place for a cache.
pub fn survey() -> Result<Survey, KernelError> {
    Ok(Places::of_this_machine()?.survey())
}

/// Fetches the newest kernel of `version` from the mirror of the machine's distribution, verified
/// by its signature, into the cache. One that is there already is not downloaded again.
///
/// # Errors
/// `version` is none, the mirror does not have it, or it could not be fetched. Nothing is left
/// behind then.
pub fn fetch(version: &str, progress: &mut dyn Progress) -> Result<Kernel, KernelError> {
    let version = spec::Version::parse(version)?;
    fetch::fetch(&version, &Cache::of_the_user()?, progress)
}

/// Takes a copy of the image at `path` into the cache, so that it can be named by its version.
///
/// # Errors
/// It is no whole kernel with sched_ext, or cannot be copied.
pub fn add(path: &Path) -> Result<Kernel, KernelError> {
    let bytes = image::read(path)?;
    let found = image::inspect(&bytes)
        .map_err(|error| KernelError::BadImage { path: path.to_owned(), error })?;
    if !found.features.sched_ext {
        let release = found.release.to_string();
        return Err(KernelError::NoSchedExt { path: path.to_owned(), release });
    }
    let config = config::beside(path, found.release.as_str());
    Cache::of_the_user()?.begin()?.put(&bytes, &found, config.as_deref())
}
