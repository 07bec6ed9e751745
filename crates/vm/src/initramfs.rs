//! What the guest has for a file system: the agent as `/init`, its libraries, its job, and the
//! files that the job names. Nothing else is needed, and nothing else is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use scxlab_protocol::Job;

use crate::VmError;
use crate::agent;
use crate::archive::Archive;

/// What goes into the guest.
#[derive(Clone, Debug)]
pub struct Cargo {
    /// The agent's binary.
    pub agent: PathBuf,
    /// What it is to do. It finds this at `/job.json`.
    pub job: Job,
    /// More files: where the guest finds each, absolute, and where it is here.
    pub files: Vec<(PathBuf, PathBuf)>,
}

/// Where the agent mounts what the kernel has to say.
const MOUNT_POINTS: &[&str] = &["proc", "sys", "dev", "tmp", "run"];

impl Cargo {
    /// The initramfs, as the boot loader hands it over.
    pub(crate) fn pack(&self) -> Result<Vec<u8>, VmError> {
        let agent = read(&self.agent)?;
        let mut files = vec![(PathBuf::from("/init"), agent.clone())];
        for path in agent::libraries(&self.agent, &agent)? {
            let content = read(&path)?;
            files.push((path, content));
        }
        let job = serde_json::to_vec(&self.job).map_err(|err| VmError::File {
            path: PathBuf::from("/job.json"),
            why: err.to_string(),
        })?;
        files.push((PathBuf::from("/job.json"), job));
        for (there, here) in &self.files {
            files.push((there.clone(), read(here)?));
        }
        let mut archive = Archive::new();
        for name in directories(files.iter().map(|(path, _)| path.as_path())) {
            archive.directory(&name);
        }
        // So that what goes wrong before /dev is mounted can be read.
        archive.device("dev/console", 5, 1);
        for (path, content) in &files {
            let name = name(path);
            if name == "init" || name.contains(".so") {
                archive.program(&name, content);
            } else {
                archive.file(&name, content);
            }
        }
        Ok(archive.finish())
    }
}

/// The largest file that a guest is given, in bytes.
const LARGEST: u64 = 1 << 30;

fn read(path: &Path) -> Result<Vec<u8>, VmError> {
    let bad = |why| VmError::File { path: path.to_owned(), why };
    let unreadable = |err: io::Error| bad(format!("cannot read it: {err}"));
    let size = fs::metadata(path).map_err(unreadable)?.len();
    if size > LARGEST {
        return Err(bad(format!("it has {size} bytes, and a guest is given {LARGEST} at most")));
    }
    fs::read(path).map_err(unreadable)
}

fn name(path: &Path) -> String {
    path.to_string_lossy().trim_start_matches('/').to_owned()
}

/// All directories above some files, and the mount points; those above come first.
fn directories<'a>(files: impl Iterator<Item = &'a Path>) -> BTreeSet<String> {
    let above = files.flat_map(|path| path.ancestors().skip(1)).map(name);
    let names = above.chain(MOUNT_POINTS.iter().map(|&name| name.to_owned()));
    names.filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert_eq!(read(file.path()).expect("it is small"), b"");
        file.as_file().set_len(LARGEST + 1).expect("it takes no room");
        let message = read(file.path()).expect_err("too large").to_string();
        assert!(message.ends_with(&format!("a guest is given {LARGEST} at most")), "{message}");
    }

    #[test]
    fn directories_come_before_what_is_in_them() {
        let files = [Path::new("/a/b/c.so"), Path::new("/init")];
        let names: Vec<_> = directories(files.into_iter()).into_iter().collect();
        assert_eq!(names, ["a", "a/b", "dev", "proc", "run", "sys", "tmp"]);
    }
}
