//! The user's cache of kernels.
//!
//! ```text
//! kernels/RELEASE/vmlinuz       an image
//! kernels/RELEASE/config        the configuration that it was built with, if that was to be had
//! kernels/RELEASE/kernel.json   what it is, and its checksum
//! partial/                      work that is not done; removed when it ends, or by the next one
//! apt/                          what apt knows of the mirror
//! lock                          held while something changes
//! ```

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{KernelError, reason};
use crate::image::{self, Image};
use crate::spec::Release;
use crate::{Features, Kernel, Source};

const IMAGE: &str = "vmlinuz";
const CONFIG: &str = "config";
const RECORD: &str = "kernel.json";

/// Where the cache is.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// How closely to look at a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// A file of the same size and time is the same. To list many quickly.
    Glance,
    /// Its checksum. Before it is booted.
    Checksum,
}

/// What is noted beside an image.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    release: String,
    #[serde(flatten)]
    features: Features,
    #[serde(flatten)]
    stamp: Stamp,
    sha256: String,
    /// The checksum of its configuration, empty if it has none. Records that are older say nothing.
    config_sha256: Option<String>,
}

/// What changes when a file is written.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    size: u64,
    modified: i64,
    modified_ns: i64,
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = path.metadata()?;
        Ok(Self {
            size: metadata.len(),
            modified: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
        })
    }
}

impl Cache {
    /// At `$SCXLAB_CACHE`, `$XDG_CACHE_HOME/scxlab` or `~/.cache/scxlab`.
    ///
    /// # Errors
    /// None of the variables is set.
    pub fn of_the_user() -> Result<Self, KernelError> {
        let set = |name: &str| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
        let root = set("SCXLAB_CACHE")
            .map(PathBuf::from)
            // The XDG specification has relative paths ignored.
            .or_else(|| {
                let base = set("XDG_CACHE_HOME").map(PathBuf::from);
                Some(base.filter(|path| path.is_absolute())?.join("scxlab"))
            })
            .or_else(|| Some(PathBuf::from(set("HOME")?).join(".cache/scxlab")))
            .ok_or(KernelError::NoCacheDirectory)?;
        let root = std::path::absolute(root).map_err(|_| KernelError::NoCacheDirectory)?;
        Ok(Self::at(root))
    }

    /// At `root`, which need not exist.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn kernels(&self) -> PathBuf {
        self.root.join("kernels")
    }

    /// The releases that are there, newest first.
    pub(crate) fn releases(&self) -> Vec<Release> {
        let Ok(entries) = fs::read_dir(self.kernels()) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut releases: Vec<_> = names.filter_map(|name| Release::new(&name)).collect();
        releases.sort_unstable_by(|a, b| b.cmp(a));
        releases
    }

    /// The kernel `release`, whose image is what was put there.
    pub(crate) fn load(&self, release: &Release, care: Care) -> Result<Kernel, KernelError> {
        let directory = self.kernels().join(release.as_str());
        self.load_from(&directory, release, care).map_err(|reason| KernelError::BrokenCache {
            release: release.to_string(),
            directory,
            reason,
        })
    }

    fn load_from(&self, dir: &Path, release: &Release, care: Care) -> Result<Kernel, String> {
        let record = fs::read(dir.join(RECORD))
            .map_err(|error| format!("its {RECORD} cannot be read: {}", reason(&error)))?;
        let record: Record = serde_json::from_slice(&record)
            .map_err(|error| format!("its {RECORD} is damaged: {error}"))?;
        if record.release != release.as_str() {
            return Err(format!("its {RECORD} is that of {}", record.release));
        }
        let image = dir.join(IMAGE);
        let stamp = Stamp::of(&image)
            .map_err(|error| format!("its image cannot be read: {}", reason(&error)))?;
        if stamp.size != record.stamp.size {
            let (have, need) = (stamp.size, record.stamp.size);
            return Err(format!("its image has {have} bytes instead of {need}"));
        }
        if care == Care::Checksum || stamp != record.stamp {
            let bytes = image::read(&image).map_err(|error| error.to_string())?;
            if checksum(&bytes) != record.sha256 {
                return Err("its image is damaged: it is not the one that was put there".into());
            }
        }
        let sum = record.config_sha256.filter(|sum| !sum.is_empty());
        let config = sum.as_ref().map(|_| dir.join(CONFIG));
        if let (Care::Checksum, Some(path), Some(sum)) = (care, &config, sum) {
            let bytes = fs::read(path)
                .map_err(|error| format!("its configuration cannot be read: {}", reason(&error)))?;
            if checksum(&bytes) != sum {
                return Err("its configuration is not the one that was put there".into());
            }
        }
        Ok(Kernel {
            release: record.release,
            image,
            config,
            source: Source::Cache,
            features: record.features,
        })
    }

    /// Whether its configuration was looked for when it was put there.
    pub(crate) fn is_whole(&self, release: &Release) -> bool {
        let path = self.kernels().join(release.as_str()).join(RECORD);
        let record = fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        record.is_some_and(|record: Record| record.config_sha256.is_some())
    }

    /// Begins to change the cache. What another one left undone is removed.
    ///
    /// # Errors
    /// Another one is at it, or the cache cannot be written.
    pub(crate) fn begin(&self) -> Result<Work<'_>, KernelError> {
        let create = |path: &Path| {
            fs::create_dir_all(path)
                .map_err(|error| KernelError::writing("the cache", path, &error))
        };
        create(&self.root)?;
        let path = self.root.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| KernelError::writing("the cache", &path, &error))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
            if errno == Errno::EWOULDBLOCK {
                return KernelError::Busy { path: self.root.clone() };
            }
            KernelError::writing("the cache", &path, &errno.into())
        })?;
        let work = Work { cache: self, directory: self.root.join("partial"), _lock: lock };
        work.clear();
        create(&work.directory)?;
        Ok(work)
    }
}

/// A change to the cache. Until it is done, all is in one directory, which goes with this.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    cache: &'a Cache,
    directory: PathBuf,
    _lock: Flock<File>,
}

impl Work<'_> {
    /// For files that are needed on the way.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether there are `bytes` of room on the disk; also if that cannot be told.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        has_room(&self.directory, bytes)
    }

    /// Puts an image in place, and its configuration, all of it or nothing, and instead of one of the
    /// same release.
    pub(crate) fn put(
        &self,
        bytes: &[u8],
        found: &Image,
        config: Option<&Path>,
    ) -> Result<Kernel, KernelError> {
        let staged = self.directory.join("staged");
        let place = self.cache.kernels().join(found.release.as_str());
        let failed =
            |path: &Path, error: io::Error| KernelError::writing("the image", path, &error);
        fs::create_dir_all(&staged).map_err(|error| failed(&staged, error))?;
        fs::create_dir_all(self.cache.kernels()).map_err(|error| failed(&place, error))?;

        let image = staged.join(IMAGE);
        write(&image, bytes).map_err(|error| failed(&image, error))?;
        let mut config_sha256 = String::new();
        if let Some(path) = config {
            let text = fs::read(path).map_err(|error| KernelError::unreadable(path, error))?;
            config_sha256 = checksum(&text);
            let path = staged.join(CONFIG);
            write(&path, &text).map_err(|error| failed(&path, error))?;
        }
        let record = Record {
            release: found.release.to_string(),
            features: found.features,
            stamp: Stamp::of(&image).map_err(|error| failed(&image, error))?,
            sha256: checksum(bytes),
            config_sha256: Some(config_sha256),
        };
        let text = serde_json::to_string_pretty(&record)
            .map_err(|error| failed(&image, io::Error::other(error)))?;
        let path = staged.join(RECORD);
        write(&path, text.as_bytes()).map_err(|error| failed(&path, error))?;

        replace(&place, &staged, &self.directory.join("old"))
            .map_err(|error| failed(&place, error))?;
        self.cache.load(&found.release, Care::Checksum)
    }

    /// Best effort: what stays behind is removed by the next one.
    fn clear(&self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Whether the disk of `directory` has room for `bytes`; also if that cannot be told.
pub(crate) fn has_room(directory: &Path, bytes: u64) -> bool {
    let Ok(disk) = statvfs(directory) else { return true };
    disk.blocks_available().saturating_mul(disk.fragment_size()) >= bytes
}

/// Moves the directory `staged` to `place`, and what is there to `old`. If that fails, all is where
/// it was.
fn replace(place: &Path, staged: &Path, old: &Path) -> io::Result<()> {
    let replaces = place.exists();
    if replaces {
        fs::rename(place, old)?;
    }
    fs::rename(staged, place).inspect_err(|_| {
        if replaces {
            let _ = fs::rename(old, place);
        }
    })
}

/// Writes all of `bytes`, and sees them to the disk.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn checksum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic;

    const RELEASE: &str = "99.1.2-test";

    fn put(cache: &Cache, names: &[&str]) -> Kernel {
        let bytes = synthetic::kernel(RELEASE, names);
        let found = image::inspect(&bytes).expect("an image");
        cache.begin().expect("begun").put(&bytes, &found, None).expect("put")
    }

    fn load(cache: &Cache, care: Care) -> Result<Kernel, String> {
        let release = Release::new(RELEASE).expect("a release");
        cache.load(&release, care).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_put_is_found_and_nothing_else_stays() {
        let home = tempfile::tempdir().expect("a directory");
        let cache = Cache::at(home.path().join("cache"));
        let kernel = put(&cache, &["sched_ext_ops"]);
        assert_eq!(kernel.source, Source::Cache);
        assert!(kernel.features.sched_ext && !kernel.features.native_tid);
        for care in [Care::Glance, Care::Checksum] {
            assert_eq!(load(&cache, care).as_ref(), Ok(&kernel));
        }
        // Another of the same release takes its place.
        let kernel = put(&cache, &["sched_ext_ops", "scx_bpf_tid_to_task"]);
        assert!(kernel.features.native_tid);
        assert_eq!(cache.releases().len(), 1);
        let mut left: Vec<_> = fs::read_dir(cache.root())
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["kernels", "lock"]);
    }

    #[test]
    fn damage_that_comes_later_is_found() {
        let home = tempfile::tempdir().expect("a directory");
        let cache = Cache::at(home.path());
        let kernel = put(&cache, &["sched_ext_ops"]);
        let sound = fs::read(&kernel.image).expect("read");

        let mut changed = sound.clone();
        changed[700] ^= 1;
        fs::write(&kernel.image, &changed).expect("written");
        for care in [Care::Glance, Care::Checksum] {
            let error = load(&cache, care).expect_err("damaged");
            assert!(error.contains("is damaged") && error.contains("kernels fetch"), "{error}");
        }
        fs::write(&kernel.image, &sound[..100]).expect("written");
        assert!(load(&cache, Care::Glance).expect_err("cut").contains("100 bytes instead of"));
        fs::remove_file(&kernel.image).expect("removed");
        assert!(load(&cache, Care::Glance).expect_err("gone").contains("No such file"));
        // Touched, but the same.
        fs::write(&kernel.image, &sound).expect("written");
        assert!(load(&cache, Care::Glance).is_ok());

        let record = kernel.image.with_file_name(RECORD);
        for text in ["", "{}", "[", "{\"release\": 1}"] {
            fs::write(&record, text).expect("written");
            assert!(load(&cache, Care::Glance).expect_err(text).contains("is damaged"));
        }
    }

    #[test]
    fn a_configuration_is_kept_beside_its_image() {
        let home = tempfile::tempdir().expect("a directory");
        let cache = Cache::at(home.path().join("cache"));
        let text = home.path().join("config-99");
        fs::write(&text, "CONFIG_HZ=250\n").expect("written");
        let bytes = synthetic::kernel(RELEASE, &["sched_ext_ops"]);
        let found = image::inspect(&bytes).expect("an image");
        let put = |config| cache.begin().expect("begun").put(&bytes, &found, config).expect("put");
        let config = put(Some(&text)).config.expect("it has one");
        assert_eq!(fs::read_to_string(&config).expect("text"), "CONFIG_HZ=250\n");
        fs::write(&config, "CONFIG_HZ=100\n").expect("written");
        assert!(load(&cache, Care::Glance).is_ok());
        let error = load(&cache, Care::Checksum).expect_err("changed");
        assert!(error.contains("its configuration is not the one"), "{error}");
        assert_eq!(put(None).config, None);
        // One that was put there before configurations were kept.
        let release = Release::new(RELEASE).expect("a release");
        assert!(cache.is_whole(&release));
        let record = config.with_file_name(RECORD);
        let older = fs::read_to_string(&record).expect("text");
        fs::write(&record, older.replace("config_sha256", "else")).expect("written");
        assert!(!cache.is_whole(&release) && load(&cache, Care::Checksum).is_ok());
    }

    #[test]
    fn one_change_at_a_time_and_the_next_tidies_up() {
        let home = tempfile::tempdir().expect("a directory");
        let cache = Cache::at(home.path());
        let work = cache.begin().expect("begun");
        assert!(matches!(cache.begin(), Err(KernelError::Busy { .. })));
        let left = work.directory().join("left");
        fs::write(&left, "x").expect("written");
        drop(work);
        assert!(!left.exists());
        // As after a kill.
        fs::create_dir_all(&left).expect("created");
        let work = cache.begin().expect("begun");
        assert!(!left.exists() && work.directory().exists());
    }

    #[test]
    fn what_cannot_be_replaced_stays() {
        let home = tempfile::tempdir().expect("a directory");
        let [place, staged, old] = ["place", "staged", "old"].map(|name| home.path().join(name));
        let put = |directory: &Path, text: &str| {
            fs::create_dir(directory).expect("created");
            fs::write(directory.join(IMAGE), text).expect("written");
        };
        let there = || fs::read_to_string(place.join(IMAGE)).expect("it is there");
        put(&place, "first");
        // Nothing is staged, so the second move fails.
        replace(&place, &staged, &old).expect_err("nothing to put there");
        assert!(there() == "first" && !old.exists());
        put(&staged, "second");
        replace(&place, &staged, &old).expect("replaced");
        assert!(there() == "second" && old.exists() && !staged.exists());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let error = Cache::at("/proc/scxlab").begin().expect_err("not there").to_string();
        assert!(error.contains("/proc/scxlab") && error.contains("SCXLAB_CACHE"), "{error}");
    }

    #[test]
    fn a_full_disk_has_its_own_message() {
        // Writing there always fails with ENOSPC.
        let full = Path::new("/dev/full");
        let error = OpenOptions::new()
            .write(true)
            .open(full)
            .and_then(|mut file| file.write_all(b"x"))
            .expect_err("full");
        let error = KernelError::writing("the image", full, &error).to_string();
        assert!(
            error.starts_with("no space left for the image in /dev/full; make room"),
            "{error}"
        );
    }
}
