//! Any bytes, and any damaged object: an image or an error, and nothing else.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use scxlab_bpf::object::{Object, load};
use scxlab_bpf::trial;

use crate::sample::{kernel, scheduler};

fn try_all(bytes: &[u8]) {
    trial::object(bytes, &kernel());
}

/// Objects that have been compiled here, if any.
fn compiled() -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bpf");
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<_> = files.map(|file| file.path()).collect();
    paths.sort();
    let objects = paths.iter().filter(|path| path.to_string_lossy().ends_with(".bpf.o"));
    objects.filter_map(|path| fs::read(path).ok()).collect()
}

#[test]
fn our_own_objects_are_taken_apart() {
    let objects = compiled();
    if objects.is_empty() {
        eprintln!("skipped: nothing is compiled; cargo xtask bpf does that");
    }
    for bytes in &objects {
        let object = Object::parse(bytes).expect("it is one");
        assert!(object.programs().count() > 0);
        // Of the small kernel of these tests it wants too much, which is no reason to panic.
        let _ = load(bytes, &kernel());
    }
}

#[test]
fn cut_at_any_place() {
    let bytes = scheduler().write();
    for len in 0..bytes.len() {
        try_all(&bytes[..len]);
    }
}

#[test]
fn any_byte_of_the_headers_may_be_wrong() {
    let good = scheduler().write();
    // The file's header, and all of the sections'.
    let table = usize::from_le_bytes(good[40..48].try_into().expect("8 bytes"));
    for at in (0..64).chain(table..good.len()) {
        for with in [0, 1, 0x7f, 0xff] {
            let mut bytes = good.clone();
            bytes[at] = with;
            try_all(&bytes);
        }
    }
}

fn damage(mut bytes: Vec<u8>, with: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    for (at, with) in with {
        let at = at.index(bytes.len());
        bytes[at] = *with;
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        try_all(&bytes);
    }

    #[test]
    fn damaged_bytes(with in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..12)) {
        try_all(&damage(scheduler().write(), &with));
    }

    #[test]
    fn damaged_words(at in any::<prop::sample::Index>(), word in any::<u32>(), small in 0_u32..64) {
        let bytes = scheduler().write();
        let at = at.index(bytes.len() - 3);
        for word in [word, small, u32::MAX - small] {
            let mut bytes = bytes.clone();
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
            try_all(&bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn damaged_real_objects(
        which in any::<prop::sample::Index>(),
        with in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..40)
    ) {
        let objects = compiled();
        if !objects.is_empty() {
            try_all(&damage(objects[which.index(objects.len())].clone(), &with));
        }
    }
}
