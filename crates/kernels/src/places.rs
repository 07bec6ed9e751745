//! Where kernels are: the cache, and where distributions install them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cache::{Cache, Care};
use crate::config;
use crate::error::KernelError;
use crate::image;
use crate::spec::{Release, Version};
use crate::{Kernel, Source};

/// Where to look.
#[derive(Clone, Debug)]
pub struct Places {
    /// What was fetched and added.
    pub cache: Cache,
    /// Images called `vmlinuz-RELEASE`.
    pub boot: PathBuf,
    /// Directories called after the release, each with a `vmlinuz`.
    pub modules: PathBuf,
}

/// All that was found.
#[derive(Debug, Default)]
pub struct Survey {
    /// Kernels, newest first, with sched_ext or without.
    pub kernels: Vec<Kernel>,
    /// What is wrong with the others.
    pub broken: Vec<KernelError>,
}

impl Places {
    /// Those of this machine and user.
    ///
    /// # Errors
    /// There is no place for a cache.
    pub fn of_this_machine() -> Result<Self, KernelError> {
        Ok(Self {
            cache: Cache::of_the_user()?,
            boot: "/boot".into(),
            modules: "/usr/lib/modules".into(),
        })
    }

    /// The newest kernel of `version`: from the cache, or else one that is installed. It has
    /// sched_ext, and its image is whole.
    ///
    /// # Errors
    /// There is none, or the one in the cache is damaged.
    pub fn find(&self, version: &Version) -> Result<Kernel, KernelError> {
        let cached = self.cache.releases().into_iter().find(|release| version.matches(release));
        if let Some(release) = cached {
            return self.cache.load(&release, Care::Checksum);
        }
        let mut passed_over = Vec::new();
        for (release, path) in self.installed() {
            if !version.matches(&release) {
                continue;
            }
            match inspect(&path, Source::Machine).and_then(require_sched_ext) {
                Ok(kernel) => return Ok(kernel),
                Err(error) => passed_over.push(brief(&error)),
            }
        }
        Err(KernelError::NotHere { version: version.to_string(), passed_over })
    }

    /// Every kernel that can be found.
    pub fn survey(&self) -> Survey {
        let mut survey = Survey::default();
        let cached = self.cache.releases();
        let cached = cached.iter().map(|release| self.cache.load(release, Care::Glance));
        let installed = self.installed();
        let installed = installed.iter().map(|(_, path)| inspect(path, Source::Machine));
        for found in cached.chain(installed) {
            match found {
                Ok(kernel) => survey.kernels.push(kernel),
                Err(error) => survey.broken.push(error),
            }
        }
        // Stable: of two of the same release, the one in the cache stays first.
        survey
            .kernels
            .sort_by_cached_key(|kernel| std::cmp::Reverse(Release::new(&kernel.release)));
        survey
    }

    /// Images that are installed, newest first, one for each release.
    fn installed(&self) -> Vec<(Release, PathBuf)> {
        let mut found = Vec::new();
        for (name, path) in entries(&self.boot) {
            if let Some(release) = name.strip_prefix("vmlinuz-").and_then(Release::new) {
                found.push((release, path));
            }
        }
        for (name, path) in entries(&self.modules) {
            let image = path.join("vmlinuz");
            if let Some(release) = Release::new(&name)
                && image.exists()
            {
                found.push((release, image));
            }
        }
        found.sort_by(|(a, _), (b, _)| b.cmp(a));
        found.dedup_by(|(a, _), (b, _)| a == b);
        found
    }
}

fn entries(directory: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let named = |entry: fs::DirEntry| Some((entry.file_name().into_string().ok()?, entry.path()));
    entries.flatten().filter_map(named).collect()
}

/// The kernel at a path that the user gave.
pub(crate) fn at(path: &Path) -> Result<Kernel, KernelError> {
    inspect(path, Source::Path).and_then(require_sched_ext)
}

fn inspect(path: &Path, source: Source) -> Result<Kernel, KernelError> {
    let bytes = image::read(path)?;
    let found = image::inspect(&bytes)
        .map_err(|error| KernelError::BadImage { path: path.to_owned(), error })?;
    let image = std::path::absolute(path).map_err(|error| KernelError::unreadable(path, error))?;
    let release = found.release.to_string();
    let config = config::beside(&image, &release);
    Ok(Kernel { release, image, config, source, features: found.features })
}

fn require_sched_ext(kernel: Kernel) -> Result<Kernel, KernelError> {
    if kernel.features.sched_ext {
        return Ok(kernel);
    }
    Err(KernelError::NoSchedExt { path: kernel.image, release: kernel.release })
}

/// Why a kernel was passed over, without a way out of its own.
fn brief(error: &KernelError) -> String {
    match error {
        KernelError::NoSchedExt { path, .. } => {
            format!("{} is built without sched_ext", path.display())
        }
        KernelError::Unreadable { path, reason } => {
            format!("{} cannot be read: {reason}", path.display())
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::synthetic;

    const SCX: &[&str] = &["sched_ext_ops"];

    fn places(home: &TempDir) -> Places {
        let join = |name| home.path().join(name);
        fs::create_dir_all(join("boot")).expect("created");
        Places { cache: Cache::at(join("cache")), boot: join("boot"), modules: join("modules") }
    }

    fn cache(places: &Places, release: &str) {
        let bytes = synthetic::kernel(release, SCX);
        let found = image::inspect(&bytes).expect("an image");
        places.cache.begin().expect("begun").put(&bytes, &found, None).expect("put");
    }

    fn install(places: &Places, release: &str, names: &[&str]) {
        let path = places.boot.join(format!("vmlinuz-{release}"));
        fs::write(path, synthetic::kernel(release, names)).expect("written");
    }

    fn find(places: &Places, version: &str) -> Result<(String, Source), String> {
        let found = places.find(&Version::parse(version).expect("a version"));
        found.map(|kernel| (kernel.release, kernel.source)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_cache_comes_first_and_the_newest_wins() {
        let home = tempfile::tempdir().expect("a directory");
        let places = places(&home);
        install(&places, "99.1.20", SCX);
        install(&places, "99.1.3", SCX);
        assert_eq!(find(&places, "99.1"), Ok(("99.1.20".into(), Source::Machine)));
        cache(&places, "99.1.9");
        cache(&places, "99.1.10");
        cache(&places, "99.10.1");
        assert_eq!(find(&places, "99.1"), Ok(("99.1.10".into(), Source::Cache)));
        assert_eq!(find(&places, "99.1.3"), Ok(("99.1.3".into(), Source::Machine)));
        let releases: Vec<_> =
            places.survey().kernels.into_iter().map(|kernel| kernel.release).collect();
        assert_eq!(releases, ["99.10.1", "99.1.20", "99.1.10", "99.1.9", "99.1.3"]);
    }

    #[test]
    fn kernels_below_modules_are_found_once() {
        let home = tempfile::tempdir().expect("a directory");
        let places = places(&home);
        install(&places, "99.1.1", SCX);
        for release in ["99.1.1", "99.1.2"] {
            let directory = places.modules.join(release);
            fs::create_dir_all(&directory).expect("created");
            fs::write(directory.join("vmlinuz"), synthetic::kernel(release, SCX)).expect("written");
        }
        fs::create_dir_all(places.modules.join("99.1.3")).expect("created");
        assert_eq!(find(&places, "99"), Ok(("99.1.2".into(), Source::Machine)));
        assert_eq!(places.survey().kernels.len(), 2);
    }

    #[test]
    fn one_that_cannot_be_used_is_passed_over_and_named() {
        let home = tempfile::tempdir().expect("a directory");
        let places = places(&home);
        install(&places, "99.1.2", &["task_struct"]);
        fs::write(places.boot.join("vmlinuz-99.1.3"), b"junk").expect("written");
        let error = find(&places, "99.1").expect_err("none");
        for part in [
            "no kernel 99.1 here",
            "vmlinuz-99.1.2 is built without sched_ext",
            "vmlinuz-99.1.3: is no kernel image",
            "`scxlab kernels fetch 99.1`",
        ] {
            assert!(error.contains(part), "no `{part}` in: {error}");
        }
        let survey = places.survey();
        assert_eq!((survey.kernels.len(), survey.broken.len()), (1, 1));
        install(&places, "99.1.1", SCX);
        assert_eq!(find(&places, "99.1"), Ok(("99.1.1".into(), Source::Machine)));
    }

    #[test]
    fn a_damaged_kernel_in_the_cache_is_not_booted() {
        let home = tempfile::tempdir().expect("a directory");
        let places = places(&home);
        cache(&places, "99.1.2");
        let image = places.cache.root().join("kernels/99.1.2/vmlinuz");
        let bytes = fs::read(&image).expect("read");
        fs::write(&image, &bytes[1..]).expect("written");
        let error = find(&places, "99.1").expect_err("damaged");
        assert!(error.contains("99.1.2 in the cache cannot be used"), "{error}");
        assert_eq!(places.survey().broken.len(), 1);
    }

    #[test]
    fn paths_are_taken_as_they_are() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("bzImage");
        fs::write(&path, synthetic::kernel("99.1.2", SCX)).expect("written");
        let kernel = at(&path).expect("a kernel");
        assert_eq!((kernel.source, &kernel.image), (Source::Path, &path));
        fs::write(&path, synthetic::kernel("99.1.2", &[])).expect("written");
        assert!(matches!(at(&path), Err(KernelError::NoSchedExt { .. })));
        assert!(matches!(at(home.path()), Err(KernelError::BadImage { .. })));
        assert!(matches!(at(Path::new("/no/such/image")), Err(KernelError::Unreadable { .. })));
        // Would never end.
        assert!(matches!(at(Path::new("/dev/zero")), Err(KernelError::BadImage { .. })));
    }
}
