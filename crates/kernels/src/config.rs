//! The configuration that a kernel was built with, where it is kept beside its image. libbpf reads it
//! for a scheduler that asks for `CONFIG_*`.

use std::path::{Path, PathBuf};

/// The largest file that is taken for one. Real ones have 100 to 300 kB.
const MOST: u64 = 4 << 20;

/// That of the image of this release, if it is there: as distributions install it, or in the tree that
/// the image was built in.
pub(crate) fn beside(image: &Path, release: &str) -> Option<PathBuf> {
    let directory = image.parent()?;
    let built = directory.ends_with("arch/x86/boot").then(|| directory.join("../../../.config"));
    let installed = [directory.join(format!("config-{release}")), directory.join("config")];
    installed.into_iter().chain(built).find(|path| is_one(path))
}

/// Whether it is a file of a size that can be read.
pub(crate) fn is_one(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && (1..=MOST).contains(&metadata.len()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn it_is_where_distributions_and_builds_have_it() {
        let home = tempfile::tempdir().expect("a directory");
        let boot = home.path().join("tree/arch/x86/boot");
        fs::create_dir_all(&boot).expect("created");
        let image = boot.join("bzImage");
        let found = || beside(&image, "99.1").map(|path| fs::read_to_string(path).expect("text"));
        assert_eq!(found(), None);
        for (name, text) in
            [("../../../.config", "built"), ("config", "own"), ("config-99.1", "its")]
        {
            fs::write(boot.join(name), text).expect("written");
            assert_eq!(found().as_deref(), Some(text));
        }
        fs::write(boot.join("config-99.1"), "").expect("written");
        assert_eq!(found().as_deref(), Some("own"), "an empty one is none");
    }
}
