//! The program's cgroups: version 2, below one of our own that is below the one we are in.
//!
//! They are threaded, because the program moves tasks, and a cgroup that is not holds processes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use super::error::PlayError;

/// Creates a cgroup for each path. Returns their directories and, last, that of the one which they
/// are below.
pub(super) fn create(paths: &[String]) -> Result<Vec<String>, PlayError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("scxlab-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
    let base = own_directory().ok_or(PlayError::NoCgroups)?.join(name);
    create_all(&base, paths).inspect_err(|_| remove(&base))
}

fn create_all(base: &Path, paths: &[String]) -> Result<Vec<String>, PlayError> {
    let failed =
        |directory: &Path, error| PlayError::Cgroup { directory: directory.to_path_buf(), error };
    fs::create_dir(base).map_err(|error| failed(base, error))?;
    let mut directories = Vec::new();
    for path in paths {
        let mut directory = base.to_path_buf();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            directory.push(part);
            if directory.is_dir() {
                continue;
            }
            fs::create_dir(&directory).map_err(|error| failed(&directory, error))?;
            let threaded = fs::write(directory.join("cgroup.type"), "threaded");
            threaded.map_err(|error| failed(&directory, error))?;
        }
        directories.push(directory);
    }
    directories.push(base.to_path_buf());
    Ok(directories.into_iter().map(|dir| dir.to_string_lossy().into_owned()).collect())
}

/// Removes a cgroup and those below it. The kernel may take a moment to see that they are empty.
pub(crate) fn remove(base: &Path) {
    for _ in 0..200 {
        match remove_once(base) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            _ => return,
        }
    }
}

fn remove_once(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_once(&entry.path())?;
        }
    }
    fs::remove_dir(directory)
}

/// The directory of the cgroup that this process is in.
fn own_directory() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let (root, mount) = mounts.lines().find_map(cgroup2_mount)?;
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let below = own.strip_prefix(root).unwrap_or(own).trim_start_matches('/');
    Some(Path::new(mount).join(below))
}

/// What of the hierarchy is mounted, and where, if the line is a mount of it.
fn cgroup2_mount(line: &str) -> Option<(&str, &str)> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let found = (fields.next()?, fields.next()?);
    kind.starts_with("cgroup2 ").then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_mount_of_version_2() {
        let v2 = "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(cgroup2_mount(v2), Some(("/", "/sys/fs/cgroup")));
        let v1 = "36 24 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu";
        assert_eq!(cgroup2_mount(v1), None);
    }
}
