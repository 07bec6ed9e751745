//! The compressed kernel inside a bzImage.

use std::io::{self, Read};

use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;

/// The largest kernel that is unpacked. Distribution kernels have 50 to 100 MB.
const MAX_KERNEL: u64 = 1 << 30;
/// What unpacking xz may take beside, in KiB; kernels are packed with a dictionary of 32 or, newer
/// ones, 128 MiB.
const XZ_MEMORY_KIB: u32 = 256 << 10;
/// The largest block of the kernel's LZ4 format.
const LZ4_BLOCK: usize = 8 << 20;

/// Why a payload could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// It is packed in a way that is not supported.
    #[error(
        "is packed with {0}, which scxlab does not read; build it with CONFIG_KERNEL_ZSTD, \
         CONFIG_KERNEL_XZ, CONFIG_KERNEL_GZIP or CONFIG_KERNEL_LZ4"
    )]
    Unsupported(&'static str),
    /// It does not unpack.
    #[error("is damaged: its {format} data does not unpack ({reason})")]
    Damaged {
        /// The format.
        format: &'static str,
        /// What the unpacker says.
        reason: String,
    },
    /// It is larger than any kernel.
    #[error("is no kernel image: it unpacks to more than 1 GiB")]
    TooLarge,
}

/// The kernel in `payload`.
pub fn unpack(payload: &[u8]) -> Result<Vec<u8>, PayloadError> {
    unpack_up_to(payload, MAX_KERNEL)
}

fn unpack_up_to(payload: &[u8], limit: u64) -> Result<Vec<u8>, PayloadError> {
    if let Some(format) = unsupported(payload) {
        return Err(PayloadError::Unsupported(format));
    }
    // The kernel's build appends the size; gzip ends with it by itself.
    let Some((packed, size)) = payload.split_last_chunk() else {
        return Err(damaged("kernel", "it is too short"));
    };
    let size = u32::from_le_bytes(*size);
    if u64::from(size) > limit {
        return Err(PayloadError::TooLarge);
    }
    let (format, unpacked) = match payload {
        [0x1f, 0x8b, ..] => ("gzip", limited(GzDecoder::new(payload), limit)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            ("xz", limited(XzReader::new_mem_limit(packed, false, XZ_MEMORY_KIB), limit))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ("zstd", zstd(packed, limit)),
        [0x02, 0x21, 0x4c, 0x18, blocks @ ..] => {
            ("LZ4", lz4(&blocks[..blocks.len().saturating_sub(4)], limit))
        }
        [0x7f, b'E', b'L', b'F', ..] => ("uncompressed", Ok(packed.to_vec())),
        _ => return Err(damaged("kernel", "its format is unknown")),
    };
    let unpacked = unpacked.map_err(|error| damaged(format, error))?;
    if unpacked.len() as u64 > limit {
        return Err(PayloadError::TooLarge);
    }
    if unpacked.len() as u64 != u64::from(size) {
        let reason = format!("it unpacks to {} bytes instead of {size}", unpacked.len());
        return Err(damaged(format, reason));
    }
    Ok(unpacked)
}

/// The formats that a kernel's build may use, and that are not read here.
fn unsupported(payload: &[u8]) -> Option<&'static str> {
    match payload {
        [b'B', b'Z', b'h', ..] => Some("bzip2"),
        [0x5d, 0, 0, ..] => Some("LZMA"),
        [0x89, b'L', b'Z', b'O', ..] => Some("LZO"),
        _ => None,
    }
}

fn damaged(format: &'static str, reason: impl ToString) -> PayloadError {
    PayloadError::Damaged { format, reason: reason.to_string() }
}

/// All that `reader` has, or a byte more than `limit`.
fn limited(reader: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn zstd(packed: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    let mut decoder = StreamingDecoder::new(packed).map_err(io::Error::other)?;
    let bytes = limited(&mut decoder, limit)?;
    let frame = decoder.into_frame_decoder();
    let stored = frame.get_checksum_from_data();
    if stored.is_some() && stored != frame.get_calculated_checksum() {
        return Err(io::Error::other("its checksum is wrong"));
    }
    Ok(bytes)
}

/// Blocks, each after its size: the LZ4 format of before there were frames, which the kernel uses.
fn lz4(mut blocks: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut scratch = vec![0; LZ4_BLOCK];
    while let Some((size, rest)) = blocks.split_first_chunk() {
        let size = u32::from_le_bytes(*size) as usize;
        let (block, rest) =
            rest.split_at_checked(size).ok_or_else(|| io::Error::other("a block is cut off"))?;
        let len =
            lz4_flex::block::decompress_into(block, &mut scratch).map_err(io::Error::other)?;
        bytes.extend_from_slice(&scratch[..len]);
        if bytes.len() as u64 > limit {
            break;
        }
        blocks = rest;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Compresses well, and is longer than a block of any format's window of bytes.
    fn kernel() -> Vec<u8> {
        (0..300_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect()
    }

    fn with_size(mut packed: Vec<u8>, kernel: &[u8]) -> Vec<u8> {
        packed.extend_from_slice(&u32::try_from(kernel.len()).expect("small").to_le_bytes());
        packed
    }

    fn gzip(kernel: &[u8]) -> Vec<u8> {
        crate::synthetic::gzip(kernel)
    }

    fn xz(kernel: &[u8]) -> Vec<u8> {
        let mut options = lzma_rust2::XzOptions::with_preset(6);
        // As scripts/xz_wrap.sh has it for x86.
        options.prepend_pre_filter(lzma_rust2::FilterType::BcjX86, 0);
        let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).expect("options");
        writer.write_all(kernel).expect("written");
        with_size(writer.finish().expect("written"), kernel)
    }

    fn zstd(kernel: &[u8]) -> Vec<u8> {
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        with_size(ruzstd::encoding::compress_to_vec(kernel, level), kernel)
    }

    fn lz4(kernel: &[u8]) -> Vec<u8> {
        let mut packed = vec![0x02, 0x21, 0x4c, 0x18];
        for block in kernel.chunks(1 << 20) {
            let block = lz4_flex::block::compress(block);
            packed.extend_from_slice(&u32::try_from(block.len()).expect("small").to_le_bytes());
            packed.extend_from_slice(&block);
        }
        with_size(packed, kernel)
    }

    #[test]
    fn all_formats_come_back() {
        let kernel = kernel();
        for (format, packed) in [
            ("gzip", gzip(&kernel)),
            ("xz", xz(&kernel)),
            ("zstd", zstd(&kernel)),
            ("lz4", lz4(&kernel)),
        ] {
            assert!(packed.len() < kernel.len() / 2, "{format}");
            assert!(unpack(&packed).expect(format) == kernel, "{format}");
        }
    }

    #[test]
    fn damage_is_found_in_all_formats() {
        let kernel = kernel();
        for packed in [gzip(&kernel), xz(&kernel), zstd(&kernel), lz4(&kernel)] {
            let cut = with_size(packed[..packed.len() / 2].to_vec(), &kernel);
            assert!(matches!(unpack(&cut), Err(PayloadError::Damaged { .. })));
            let mut other_size = packed.clone();
            *other_size.last_mut().expect("a byte") ^= 1;
            assert!(unpack(&other_size).is_err());
        }
        // LZ4 alone has no checksum.
        for mut packed in [gzip(&kernel), xz(&kernel), zstd(&kernel)] {
            let middle = packed.len() / 2;
            packed[middle] ^= 0x10;
            assert!(matches!(unpack(&packed), Err(PayloadError::Damaged { .. })));
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let zeros = vec![0; 2 << 20];
        for mut packed in [gzip(&zeros), xz(&zeros), zstd(&zeros), lz4(&zeros)] {
            assert!(matches!(unpack_up_to(&packed, 1 << 20), Err(PayloadError::TooLarge)));
            // It may lie about its size, too.
            let end = packed.len() - 4;
            packed[end..].fill(0);
            assert!(unpack_up_to(&packed, 1 << 20).is_err());
        }
    }

    #[test]
    fn other_formats_are_named() {
        for (magic, name) in [
            (&b"BZh91AY0000"[..], "bzip2"),
            (b"\x5d\0\0\x80\0\0\0\0\0", "LZMA"),
            (b"\x89LZO\0\0\0\0", "LZO"),
        ] {
            let error = unpack(magic).expect_err(name).to_string();
            assert!(error.contains(name) && error.contains("CONFIG_KERNEL_ZSTD"), "{error}");
        }
        assert!(matches!(unpack(b"\0\0\0\0\0\0"), Err(PayloadError::Damaged { .. })));
        assert!(matches!(unpack(b""), Err(PayloadError::Damaged { .. })));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(
            magic in proptest::sample::select(vec![
                &b"\x1f\x8b\x08"[..], b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x02\x21\x4c\x18",
            ]),
            rest in proptest::collection::vec(proptest::num::u8::ANY, 0..512),
        ) {
            let _ = unpack_up_to(&[magic, &rest].concat(), 1 << 20);
        }
    }
}
