//! A kernel from the mirror into the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Kernel;
use crate::apt::{Apt, Package};
use crate::cache::{Cache, Care, Work};
use crate::child;
use crate::config;
use crate::error::KernelError;
use crate::image;
use crate::progress::{Progress, Step};
use crate::spec::Version;

/// What a fetch may need on the way: the lists, the package, and what is unpacked of it. Asked for
/// first, because apt is slow to notice that it has no room.
const ROOM: u64 = 200_000_000;

/// The newest kernel of `version`. What is needed on the way goes when it is done, however it ends.
pub(crate) fn fetch(
    version: &Version,
    cache: &Cache,
    progress: &mut dyn Progress,
) -> Result<Kernel, KernelError> {
    let work = cache.begin()?;
    if !work.has_room(ROOM) {
        return Err(KernelError::NoSpace { what: "a kernel", path: cache.root().to_owned() });
    }
    let apt = Apt::prepare(cache.root().join("apt"), progress)?;
    let updated = apt.update(progress)?;
    let packages = apt.packages(progress)?;
    let Some(package) = packages.iter().find(|package| version.matches(&package.release)) else {
        return Err(if updated.success {
            KernelError::NotOffered { version: version.to_string(), offered: offered(&packages) }
        } else {
            KernelError::FetchFailed {
                step: Step::Lists.to_string(),
                complaint: updated.complaint(),
            }
        });
    };
    if let Ok(kernel) = cache.load(&package.release, Care::Checksum)
        && cache.is_whole(&package.release)
    {
        return Ok(kernel);
    }
    get(package, &apt, &work, progress)
}

fn get(
    package: &Package,
    apt: &Apt,
    work: &Work<'_>,
    progress: &mut dyn Progress,
) -> Result<Kernel, KernelError> {
    let broken = |reason: &dyn ToString| KernelError::BrokenPackage {
        package: package.name.clone(),
        reason: reason.to_string(),
    };
    let unpacked = work.directory().join("unpacked");
    for name in std::iter::once(&package.name).chain(&package.config) {
        let into = work.directory().join(name);
        fs::create_dir(&into)
            .map_err(|error| KernelError::writing("the package", &into, &error))?;
        apt.download(name, &into, progress)?;
        let deb = downloaded(&into).ok_or_else(|| KernelError::BrokenPackage {
            package: name.clone(),
            reason: "apt did not download it".into(),
        })?;
        unpack(&deb, &unpacked, progress)?;
    }

    progress.at(&Step::Check, None);
    let path = image_in(&unpacked, package).ok_or_else(|| broken(&"there is no image in it"))?;
    let bytes = image::read(&path).map_err(|error| broken(&error))?;
    let found = image::inspect(&bytes).map_err(|error| broken(&format!("its image {error}")))?;
    if found.release != package.release {
        return Err(broken(&format!("its image is that of {}", found.release)));
    }
    if !found.features.sched_ext {
        return Err(KernelError::PackageWithoutSchedExt { package: package.name.clone() });
    }
    if progress.interrupted() {
        return Err(KernelError::Interrupted);
    }
    work.put(&bytes, &found, config_in(&unpacked, package).as_deref())
}

/// Where packages have the configuration; one without it can be used all the same.
fn config_in(unpacked: &Path, package: &Package) -> Option<PathBuf> {
    let release = package.release.as_str();
    let places = [
        format!("boot/config-{release}"),
        format!("usr/lib/modules/{release}/config"),
        format!("lib/modules/{release}/config"),
    ];
    files_in(unpacked, places).find(|path| config::is_one(path))
}

/// Where packages have had their image.
fn image_in(unpacked: &Path, package: &Package) -> Option<PathBuf> {
    let release = package.release.as_str();
    let places = [
        format!("usr/lib/modules/{release}/vmlinuz"),
        format!("lib/modules/{release}/vmlinuz"),
        format!("boot/vmlinuz-{release}"),
    ];
    files_in(unpacked, places).next()
}

/// Those of some paths that are files. No links: they could lead out of the package.
fn files_in(unpacked: &Path, places: [String; 3]) -> impl Iterator<Item = PathBuf> {
    let paths = places.into_iter().map(|path| unpacked.join(path));
    paths.filter(|path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()))
}

fn downloaded(directory: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    paths.find(|path| path.extension().is_some_and(|extension| extension == "deb"))
}

fn unpack(deb: &Path, into: &Path, progress: &mut dyn Progress) -> Result<(), KernelError> {
    let mut command = Command::new("dpkg-deb");
    command.arg("--extract").arg(deb).arg(into);
    let output = child::run(&mut command, &Step::Unpack, progress)?;
    if output.no_space() {
        return Err(KernelError::NoSpace { what: "the unpacked package", path: into.to_owned() });
    }
    if !output.success {
        let step = Step::Unpack.to_string();
        return Err(KernelError::FetchFailed { step, complaint: output.complaint() });
    }
    Ok(())
}

/// The versions, as `7.2`, without repetition.
fn offered(packages: &[Package]) -> Vec<String> {
    let mut versions: Vec<String> = packages
        .iter()
        .map(|package| {
            package.release.as_str().splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
        })
        .collect();
    versions.dedup();
    versions
}
