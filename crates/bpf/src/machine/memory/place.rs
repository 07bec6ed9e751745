//! Where an address is, in words.

use std::fmt;

use super::{FRAME_SIZE, FRAME_STRIDE, Part, Region};
use crate::machine::address::{self, NULL_SIZE, RegionId};

/// What lies at an address, or nearest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nothing.
    Nowhere,
    /// A region, or what was one.
    Region {
        /// Which.
        region: Region,
        /// From its first byte. Negative: below it.
        offset: i64,
        /// Its bytes.
        size: u64,
        /// Whether it is freed.
        freed: bool,
    },
    /// A stack.
    Stack {
        /// Its number.
        id: RegionId,
        /// Which.
        region: Region,
        /// From the start of its first frame.
        offset: u64,
    },
    /// A frame of a function.
    Frame {
        /// Which function's; nothing if no such frame is there.
        function: Option<String>,
        /// From its `r10`.
        fp: i64,
    },
}

/// A frame of a stack, and how far from its `r10` an offset is. What is above an `r10` belongs to
/// its frame until half-way to the next one.
pub(in crate::machine) fn frame(offset: u64) -> (usize, i64) {
    let fp = FRAME_SIZE as u64;
    let half = FRAME_STRIDE / 2;
    let frame = (offset + half - fp) / FRAME_STRIDE;
    (frame as usize, offset as i64 - (frame * FRAME_STRIDE + fp) as i64)
}

impl Place {
    /// What lies at an address that no region has.
    pub(in crate::machine) fn nowhere(addr: u64) -> String {
        if addr < NULL_SIZE {
            return match addr {
                0 => "a NULL pointer".into(),
                _ => format!("{addr} bytes from a NULL pointer"),
            };
        }
        if let Some(errno) = address::errno(addr) {
            return format!("the error -{errno} and no address");
        }
        match RegionId::of(addr) {
            Some(_) => "no memory is there or was".into(),
            None if addr >> 47 == 0 => "an address of user space".into(),
            None => "no address of the kernel".into(),
        }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Part::Value(number) => write!(f, "value {number} of {}", self.what),
            Part::Whole | Part::Values(_) => f.write_str(&self.what),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => f.write_str("nothing"),
            Self::Stack { region, offset, .. } => {
                let (frame, fp) = frame(*offset);
                write!(f, "fp{fp:+} in frame {frame} of {region}")
            }
            Self::Frame { function: Some(function), fp } => {
                write!(f, "fp{fp:+} in the stack frame of {function}")
            }
            Self::Frame { function: None, fp } => {
                write!(f, "fp{fp:+} in a stack frame that is gone")
            }
            Self::Region { region, offset, size, freed } => {
                let size = *size as i64;
                let freed_too = if *freed { ", freed" } else { "" };
                if *offset < 0 {
                    let before = bytes(-offset);
                    return write!(f, "{before} before {region}, {}{freed_too}", bytes(size));
                }
                if *offset >= size && !freed {
                    let past = match offset - size {
                        0 => "right after the end".into(),
                        by => format!("{} after the end", bytes(by)),
                    };
                    return write!(f, "{past} of {region}, {}", bytes(size));
                }
                match region.part {
                    // An arena, of which only some pages are there.
                    _ if size == 1 << 32 => write!(f, "offset {offset:#x} of {region}")?,
                    Part::Values(each) if each > 0 => {
                        let (value, at) = (offset / i64::from(each), offset % i64::from(each));
                        let each = bytes(each.into());
                        write!(f, "offset {at} of value {value} of {region}, {each}")?;
                    }
                    _ => write!(f, "offset {offset} of {region}, {}", bytes(size))?,
                }
                f.write_str(freed_too)
            }
        }
    }
}

fn bytes(count: i64) -> String {
    if count == 1 { "1 byte".into() } else { format!("{count} bytes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_offset_belongs_to_the_nearest_frame() {
        assert_eq!(frame(0), (0, -512));
        assert_eq!(frame(511), (0, -1));
        assert_eq!(frame(600), (0, 88));
        assert_eq!(frame(FRAME_STRIDE - 8), (1, -520));
        assert_eq!(frame(FRAME_STRIDE + 504), (1, -8));
    }

    #[test]
    fn what_is_no_memory_is_named() {
        assert_eq!(Place::nowhere(0), "a NULL pointer");
        assert_eq!(Place::nowhere(24), "24 bytes from a NULL pointer");
        assert_eq!(Place::nowhere(-22_i64 as u64), "the error -22 and no address");
        assert_eq!(Place::nowhere(1 << 44), "an address of user space");
        assert_eq!(Place::nowhere(1 << 60), "no address of the kernel");
    }
}
