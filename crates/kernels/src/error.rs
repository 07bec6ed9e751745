//! What can go wrong, each with the way out.

use std::io;
use std::path::{Path, PathBuf};

use crate::image::ImageError;

/// Who can mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// What the user gave is wrong.
    Given,
    /// Something is missing on the machine.
    Missing,
}

/// How to have a kernel where none can be fetched.
const BRING_ONE: &str = "copy a bzImage of Linux 6.12 or later with CONFIG_SCHED_CLASS_EXT=y and \
                         CONFIG_DEBUG_INFO_BTF=y here, and give it to `scxlab kernels add FILE`";

/// Why there is no kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Neither a version nor a path.
    #[error(
        "`{given}` is no version of a kernel: give one, as in 7.2; an image is given by its path, \
         as in ./bzImage"
    )]
    BadVersion {
        /// What was given.
        given: String,
    },
    /// The file that was given cannot be read.
    #[error(
        "image {}: cannot read it: {reason}; give a version, as in 7.2, or the path of an image",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The file that was given is no whole kernel.
    #[error("image {}: {error}", path.display())]
    BadImage {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: ImageError,
    },
    /// The file that was given is a kernel without sched_ext.
    #[error(
        "image {}: Linux {release} is built without sched_ext; give one that has \
         CONFIG_SCHED_CLASS_EXT=y, or get one with `scxlab kernels fetch 7.2`",
        path.display()
    )]
    NoSchedExt {
        /// The file.
        path: PathBuf,
        /// What it calls itself.
        release: String,
    },
    /// No kernel here is of that version.
    #[error(
        "no kernel {version} here{}; get one with `scxlab kernels fetch {version}`, or give the \
         path of an image (`scxlab kernels` lists what there is)",
        list_in_parentheses(passed_over)
    )]
    NotHere {
        /// The version.
        version: String,
        /// Kernels of that version that cannot be used, each with the reason.
        passed_over: Vec<String>,
    },
    /// A kernel in the cache is not what was put there.
    #[error(
        "kernel {release} in the cache cannot be used: {reason}; get it anew with `scxlab kernels \
         fetch {release}`, or remove {}",
        directory.display()
    )]
    BrokenCache {
        /// Its release.
        release: String,
        /// Its place.
        directory: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No home.
    #[error("there is no place for a cache of kernels: set SCXLAB_CACHE to a directory, or HOME")]
    NoCacheDirectory,
    /// Another command changes the cache.
    #[error("another scxlab changes the cache at {}; wait for it to end", path.display())]
    Busy {
        /// The cache.
        path: PathBuf,
    },
    /// The cache cannot be read or written.
    #[error(
        "cannot write to the cache: {}: {reason}; set SCXLAB_CACHE to a directory that can be \
         written",
        path.display()
    )]
    CacheUnwritable {
        /// What could not be written.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The disk is full.
    #[error(
        "no space left for {what} in {}; make room there (a kernel takes up to 200 MB while it is \
         fetched), or set SCXLAB_CACHE to a directory on another disk",
        path.display()
    )]
    NoSpace {
        /// What was to be written.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// The machine has no apt.
    #[error("kernels are fetched with apt, and this machine has no {program}; {BRING_ONE}")]
    NoApt {
        /// The program that is not there.
        program: String,
    },
    /// No keyring.
    #[error(
        "nothing to verify kernels with: {} is not there; install the package \
         debian-archive-keyring, or {BRING_ONE}",
        path.display()
    )]
    NoKeyring {
        /// Where it should be.
        path: PathBuf,
    },
    /// apt knows no mirror of Debian.
    #[error("apt on this machine knows no mirror of Debian to fetch kernels from; {BRING_ONE}")]
    NoMirror,
    /// The mirror has no such kernel.
    #[error("the mirror has no kernel {version} (it has {}); {BRING_ONE}", or_none(offered))]
    NotOffered {
        /// The version.
        version: String,
        /// The versions that it has.
        offered: Vec<String>,
    },
    /// A step of fetching did not work.
    #[error(
        "{step} failed: {complaint}; nothing was kept, so run the same command again, or {BRING_ONE}"
    )]
    FetchFailed {
        /// The step.
        step: String,
        /// What the tool said.
        complaint: String,
    },
    /// What was fetched is no whole kernel.
    #[error(
        "package {package}: {reason}; nothing was kept, so run the same command again, or fetch another version"
    )]
    BrokenPackage {
        /// The package.
        package: String,
        /// What is wrong.
        reason: String,
    },
    /// What was fetched is a kernel without sched_ext.
    #[error(
        "package {package}: its kernel is built without sched_ext, and was not kept; fetch a newer \
         one, as with `scxlab kernels fetch 7.2`"
    )]
    PackageWithoutSchedExt {
        /// The package.
        package: String,
    },
    /// The user ended it.
    #[error("interrupted; nothing was kept, so run the same command again to fetch the kernel")]
    Interrupted,
}

impl KernelError {
    /// Who can mend it.
    pub fn blame(&self) -> Blame {
        match self {
            Self::BadVersion { .. }
            | Self::Unreadable { .. }
            | Self::BadImage { .. }
            | Self::NoSchedExt { .. } => Blame::Given,
            Self::NotHere { .. }
            | Self::BrokenCache { .. }
            | Self::NoCacheDirectory
            | Self::Busy { .. }
            | Self::CacheUnwritable { .. }
            | Self::NoSpace { .. }
            | Self::NoApt { .. }
            | Self::NoKeyring { .. }
            | Self::NoMirror
            | Self::NotOffered { .. }
            | Self::FetchFailed { .. }
            | Self::BrokenPackage { .. }
            | Self::PackageWithoutSchedExt { .. }
            | Self::Interrupted => Blame::Missing,
        }
    }

    pub(crate) fn unreadable(path: &Path, error: io::Error) -> Self {
        Self::Unreadable { path: path.to_owned(), reason: reason(&error) }
    }

    /// What went wrong while `what` was written to `path`.
    pub(crate) fn writing(what: &'static str, path: &Path, error: &io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { what, path }
            }
            _ => Self::CacheUnwritable { path, reason: reason(error) },
        }
    }
}

/// The reason as text, without the number that the standard library appends.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn list_in_parentheses(items: &[String]) -> String {
    if items.is_empty() { String::new() } else { format!(" ({})", items.join("; ")) }
}

fn or_none(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}
