//! Reads a bzImage without booting it: which release it is, and what it can do.
//!
//! The boot header (Documentation/arch/x86/boot.rst, protocol 2.08 and later) says where the
//! compressed kernel lies; that is an ELF file, whose BTF names all that is built in.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::Features;
use crate::btf::{self, BtfError};
use crate::error::KernelError;
use crate::payload::{self, PayloadError};
use crate::spec::Release;

/// The largest file that is read. Distribution kernels have 10 to 20 MB.
const MAX_IMAGE: u64 = 256 << 20;

/// What an image says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// `uname -r`.
    pub release: Release,
    /// What it can do.
    pub features: Features,
}

/// What is wrong with an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No bytes.
    #[error("is empty")]
    Empty,
    /// Something else.
    #[error("is no kernel image: {0}")]
    NotAnImage(&'static str),
    /// Its end is missing.
    #[error("is truncated: it has {have} bytes of {need}")]
    Truncated {
        /// Bytes that are there.
        have: usize,
        /// Bytes that its header promises.
        need: usize,
    },
    /// Its header makes no sense.
    #[error("is damaged: {0}")]
    Header(&'static str),
    /// The compressed kernel cannot be had.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The kernel inside makes no sense.
    #[error("is damaged: {0}")]
    Kernel(#[from] BtfError),
}

/// The bytes of the image at `path`.
///
/// # Errors
/// It is not there, no file, too large, or cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, KernelError> {
    let unreadable = |error| KernelError::unreadable(path, error);
    // Asked before it is opened: to open a pipe is to wait for its writer.
    let metadata = path.metadata().map_err(unreadable)?;
    let not_an_image = |error| Err(KernelError::BadImage { path: path.to_owned(), error });
    if metadata.is_dir() {
        return not_an_image(ImageError::NotAnImage("it is a directory; give the image in it"));
    }
    if !metadata.is_file() {
        return not_an_image(ImageError::NotAnImage("it is no regular file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_IMAGE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_IMAGE {
        return not_an_image(ImageError::NotAnImage("it is larger than 256 MiB"));
    }
    Ok(bytes)
}

/// What the image says of itself. All of it is read, so what is damaged or missing is found.
///
/// # Errors
/// It is no bzImage, or not a whole one.
pub fn inspect(bytes: &[u8]) -> Result<Image, ImageError> {
    let header = Header::read(bytes)?;
    let release = header.release(bytes)?;
    let vmlinux = payload::unpack(header.payload(bytes)?)?;
    let features = match btf::names(&vmlinux)? {
        Some(names) => Features {
            sched_ext: names.contains(SCHED_EXT),
            native_tid: names.contains(TID_LOOKUP),
        },
        // sched_ext depends on BTF, and so has none either.
        None => Features::default(),
    };
    Ok(Image { release, features })
}

/// The image's BTF, as the kernel has it in `/sys/kernel/btf/vmlinux`; nothing if it has none.
///
/// # Errors
/// It is no bzImage, or not a whole one.
pub fn btf(bytes: &[u8]) -> Result<Option<Vec<u8>>, ImageError> {
    let vmlinux = payload::unpack(Header::read(bytes)?.payload(bytes)?)?;
    Ok(btf::section(&vmlinux)?.map(<[u8]>::to_vec))
}

/// Declared where sched_ext is built in, and nowhere else.
const SCHED_EXT: &str = "sched_ext_ops";
/// The lookup from tid to task: Linux 7.2 and later.
const TID_LOOKUP: &str = "scx_bpf_tid_to_task";

/// What of the boot header matters here, checked against the size of the file.
struct Header {
    /// Where the real-mode code ends and the rest begins.
    setup: usize,
    kernel_version: u16,
    payload_offset: u32,
    payload_length: u32,
}

/// The older ones do not say where the payload is.
const MIN_PROTOCOL: u16 = 0x0208;

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        if bytes.is_empty() {
            return Err(ImageError::Empty);
        }
        if bytes.get(0x202..0x206) != Some(b"HdrS") {
            return Err(ImageError::NotAnImage(what_else(bytes)));
        }
        let cut = || ImageError::Truncated { have: bytes.len(), need: 0x268 };
        let u32_at = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let u16_at = |at: usize| Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        if u16_at(0x206).ok_or_else(cut)? < MIN_PROTOCOL {
            return Err(ImageError::NotAnImage("its boot protocol is older than 2.08"));
        }
        // 0 means 4, for the oldest boot loaders.
        let sectors = match bytes.get(0x1f1).copied().unwrap_or(0) {
            0 => 4,
            sectors => usize::from(sectors),
        };
        let setup = (sectors + 1) * 512;
        let paragraphs = u32_at(0x1f4).ok_or_else(cut)?;
        let header = Self {
            setup,
            kernel_version: u16_at(0x20e).ok_or_else(cut)?,
            payload_offset: u32_at(0x248).ok_or_else(cut)?,
            payload_length: u32_at(0x24c).ok_or_else(cut)?,
        };
        let need = (paragraphs as usize).saturating_mul(16).saturating_add(setup);
        if bytes.len() < need {
            return Err(ImageError::Truncated { have: bytes.len(), need });
        }
        Ok(header)
    }

    fn release(&self, bytes: &[u8]) -> Result<Release, ImageError> {
        let damaged = ImageError::Header("its boot header names no release");
        if self.kernel_version == 0 {
            return Err(damaged);
        }
        let start = usize::from(self.kernel_version) + 0x200;
        let text = bytes.get(start..).unwrap_or_default();
        let end = text.iter().position(|&byte| byte == b' ' || byte == 0);
        let name = end.and_then(|end| std::str::from_utf8(&text[..end]).ok());
        name.and_then(Release::new).ok_or(damaged)
    }

    fn payload<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], ImageError> {
        let start = self.setup.saturating_add(self.payload_offset as usize);
        let need = start.saturating_add(self.payload_length as usize);
        bytes.get(start..need).ok_or(ImageError::Truncated { have: bytes.len(), need })
    }
}

/// What a file is that is no bzImage, as far as its first bytes tell.
fn what_else(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x7f, b'E', b'L', b'F', ..] => {
            "it is an ELF file, perhaps a vmlinux; give the bzImage that was built with it"
        }
        [b'M', b'Z', ..] => "it is an EFI program, but no bzImage for x86",
        [b'!', b'<', b'a', b'r', b'c', b'h', ..] => {
            "it is a Debian package; unpack it with dpkg-deb -x, and give the vmlinuz in it"
        }
        _ => "it has no boot header of a bzImage for x86",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::synthetic;

    const RELEASE: &str = "7.2.13+test-amd64";

    fn sound() -> Vec<u8> {
        synthetic::kernel(RELEASE, &["task_struct", SCHED_EXT, TID_LOOKUP])
    }

    #[test]
    fn features_are_exact_names() {
        for (names, sched_ext, native_tid) in [
            (&[SCHED_EXT, TID_LOOKUP][..], true, true),
            (&["task_struct", SCHED_EXT], true, false),
            (&["task_struct"], false, false),
            (&["xsched_ext_ops", "sched_ext_ops_cid", "scx_bpf_tid_to_task_"], false, false),
            (&[], false, false),
        ] {
            let image = inspect(&synthetic::kernel(RELEASE, names)).expect("an image");
            assert_eq!(image.release.as_str(), RELEASE);
            assert_eq!(image.features, Features { sched_ext, native_tid }, "{names:?}");
        }
    }

    #[test]
    fn a_kernel_without_btf_has_no_sched_ext() {
        let image = synthetic::bzimage(RELEASE, &synthetic::gzip(&synthetic::elf(None)));
        assert_eq!(inspect(&image).expect("an image").features, Features::default());
    }

    #[test]
    fn every_truncation_is_found() {
        let image = sound();
        for len in 0..image.len() {
            let error = inspect(&image[..len]).expect_err("truncated");
            let expected = match len {
                0 => matches!(error, ImageError::Empty),
                1..0x206 => matches!(error, ImageError::NotAnImage(_)),
                _ => matches!(error, ImageError::Truncated { .. }),
            };
            assert!(expected, "{len}: {error}");
        }
    }

    #[test]
    fn other_files_are_named() {
        for (bytes, part) in [
            (&b""[..], "is empty"),
            (b"\x7fELF\x02\x01", "give the bzImage"),
            (b"MZ\0\0", "EFI"),
            (b"!<arch>\ndebian-binary", "dpkg-deb"),
            (b"hello", "no boot header"),
        ] {
            let error = inspect(bytes).expect_err("no image").to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_release_that_is_a_path_is_refused() {
        for name in ["../../7.2", "", "x"] {
            let image = synthetic::bzimage(name, &synthetic::gzip(&synthetic::elf(None)));
            assert!(matches!(inspect(&image), Err(ImageError::Header(_))), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = inspect(&bytes);
        }

        #[test]
        fn any_change_is_survived(at in 0usize..6000, value: u8, at2 in 0x1f1usize..0x268, value2: u8) {
            let mut image = sound();
            let len = image.len();
            image[at % len] = value;
            image[at2] = value2;
            let _ = inspect(&image);
        }

        #[test]
        fn a_changed_payload_is_found(at: proptest::sample::Index, flip in 1u8..) {
            let kernel = synthetic::elf(Some(&[SCHED_EXT]));
            let packed = synthetic::gzip(&kernel);
            let mut changed = packed.clone();
            // The gzip header's flags, time and system carry no checksum; all after it does. A
            // change there may still be none: of the bits that fill up the last byte, or of the
            // distance to a copy in a run of equal bytes.
            let at = 10 + at.index(packed.len() - 10);
            changed[at] ^= flip;
            let harmless = payload::unpack(&changed).is_ok_and(|unpacked| unpacked == kernel);
            let image = synthetic::bzimage(RELEASE, &changed);
            let found = matches!(inspect(&image), Err(ImageError::Payload(_)));
            prop_assert!(found != harmless);
        }
    }
}
