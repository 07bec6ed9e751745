//! Tiny bzImages for tests: whole to whoever reads them, and nothing that boots.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

/// A bzImage of `release` whose BTF has `names`.
pub fn kernel(release: &str, names: &[&str]) -> Vec<u8> {
    bzimage(release, &gzip(&elf(Some(names))))
}

/// A bzImage of `release` around a payload as the kernel's build makes it.
pub fn bzimage(release: &str, payload: &[u8]) -> Vec<u8> {
    const SECTORS: u8 = 4;
    const VERSION_AT: u16 = 0x300;
    let setup = (usize::from(SECTORS) + 1) * 512;
    let mut image = vec![0; setup];
    let version = format!("{release} (test@example.org) #1 SMP\0");
    let at = usize::from(VERSION_AT);
    image[at..at + version.len()].copy_from_slice(version.as_bytes());
    image.extend_from_slice(payload);
    image.resize(image.len().next_multiple_of(16), 0);
    let paragraphs = le32((image.len() - setup) / 16);
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x1f1, &[SECTORS]);
    put(0x1f4, &paragraphs);
    put(0x1fe, &[0x55, 0xaa]);
    put(0x202, b"HdrS");
    put(0x206, &0x020f_u16.to_le_bytes());
    put(0x20e, &(VERSION_AT - 0x200).to_le_bytes());
    put(0x248, &le32(0));
    put(0x24c, &le32(payload.len()));
    image
}

/// Packed with gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

/// An ELF file for x86-64; with a `.BTF` section if there are `names` for it.
pub fn elf(names: Option<&[&str]>) -> Vec<u8> {
    const HEADER: usize = 64;
    const SECTION: usize = 64;
    let btf = names.map(btf).unwrap_or_default();
    let names_section = b"\0.BTF\0.shstrtab\0";
    let names_at = HEADER + btf.len();
    let sections_at = (names_at + names_section.len()).next_multiple_of(8);
    let count: u16 = if names.is_some() { 3 } else { 2 };

    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
    elf.resize(16, 0);
    for half in [2_u16, 62] {
        elf.extend_from_slice(&half.to_le_bytes()); // an executable, for x86-64
    }
    elf.extend_from_slice(&le32(1));
    elf.extend_from_slice(&[0; 16]); // no entry, no program headers
    elf.extend_from_slice(&(sections_at as u64).to_le_bytes());
    elf.extend_from_slice(&le32(0));
    for half in [HEADER as u16, 56, 0, SECTION as u16, count, count - 1] {
        elf.extend_from_slice(&half.to_le_bytes());
    }
    elf.extend_from_slice(&btf);
    elf.extend_from_slice(names_section);
    elf.resize(sections_at, 0);

    let mut section = |name: usize, kind: usize, at: usize, len: usize| {
        elf.extend_from_slice(&le32(name));
        elf.extend_from_slice(&le32(kind));
        for word in [0, 0, at as u64, len as u64, 0, 1, 0] {
            // link and info share a word
            elf.extend_from_slice(&u64::to_le_bytes(word));
        }
    };
    section(0, 0, 0, 0);
    if names.is_some() {
        section(1, 1, HEADER, btf.len());
    }
    section(6, 3, names_at, names_section.len());
    elf
}

/// A BTF with strings and no types.
fn btf(names: &[&str]) -> Vec<u8> {
    let mut strings = vec![0];
    for name in names {
        strings.extend_from_slice(name.as_bytes());
        strings.push(0);
    }
    let mut btf = vec![0x9f, 0xeb, 1, 0];
    for word in [24, 0, 0, 0, strings.len()] {
        btf.extend_from_slice(&le32(word));
    }
    btf.extend_from_slice(&strings);
    btf
}

/// As 32 bits; what tests make is small.
fn le32(value: usize) -> [u8; 4] {
    (value as u32).to_le_bytes()
}
