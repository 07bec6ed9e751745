//! The names in a kernel's BTF: of every type, field and function that is built in.

use object::{Object as _, ObjectSection as _};

/// What is wrong with a kernel or its BTF.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// No ELF file.
    #[error("what it unpacks to is no ELF file ({0})")]
    Elf(object::Error),
    /// No BTF, or its header is wrong.
    #[error("its BTF is broken")]
    Btf,
}

/// The strings of a BTF.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a>(&'a [u8]);

impl Names<'_> {
    /// Whether `name` is one of them.
    pub fn contains(&self, name: &str) -> bool {
        self.0.split(|&byte| byte == 0).any(|other| other == name.as_bytes())
    }
}

/// The section `.BTF` of `vmlinux`, if it has one.
pub fn section(vmlinux: &[u8]) -> Result<Option<&[u8]>, BtfError> {
    let file = object::File::parse(vmlinux).map_err(BtfError::Elf)?;
    let Some(section) = file.section_by_name(".BTF") else { return Ok(None) };
    section.data().map(Some).map_err(|_| BtfError::Btf)
}

/// The names in the section `.BTF` of `vmlinux`; none if it has no such section.
pub fn names(vmlinux: &[u8]) -> Result<Option<Names<'_>>, BtfError> {
    let Some(btf) = section(vmlinux)? else { return Ok(None) };
    strings(btf).map(|names| Some(Names(names))).ok_or(BtfError::Btf)
}

/// The string section: `struct btf_header` says where it is.
fn strings(btf: &[u8]) -> Option<&[u8]> {
    let u32_at = |at: usize| Some(u32::from_le_bytes(*btf.get(at..)?.first_chunk()?));
    if !btf.starts_with(&[0x9f, 0xeb, 1]) {
        return None;
    }
    let header = u32_at(4)? as usize;
    let start = header.checked_add(u32_at(16)? as usize)?;
    let end = start.checked_add(u32_at(20)? as usize)?;
    btf.get(start..end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::synthetic;

    #[test]
    fn names_are_whole() {
        let elf = synthetic::elf(Some(&["one", "two_three"]));
        let names = names(&elf).expect("an ELF file").expect("BTF");
        for (name, there) in
            [("one", true), ("two_three", true), ("two", false), ("three", false), ("on", false)]
        {
            assert_eq!(names.contains(name), there, "{name}");
        }
    }

    #[test]
    fn no_btf_is_no_error_but_a_broken_one_is() {
        assert!(names(&synthetic::elf(None)).expect("an ELF file").is_none());
        let mut elf = synthetic::elf(Some(&["one"]));
        let at = elf.windows(3).position(|bytes| bytes == [0x9f, 0xeb, 1]).expect("BTF");
        elf[at + 20..at + 24].fill(0xff);
        assert!(matches!(names(&elf), Err(BtfError::Btf)));
        assert!(matches!(names(b"no ELF"), Err(BtfError::Elf(_))));
    }

    proptest! {
        #[test]
        fn any_change_is_survived(changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..8)) {
            let mut elf = synthetic::elf(Some(&["one"]));
            let len = elf.len();
            for (at, value) in changes {
                elf[at.index(len)] = value;
            }
            let _ = names(&elf).map(|names| names.map(|names| names.contains("one")));
        }
    }
}
