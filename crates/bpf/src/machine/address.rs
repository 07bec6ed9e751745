//! What the 64 bits of an address mean.
//!
//! The upper half names a region, the lower half is an offset in it. The top byte is all ones, as
//! in every kernel address of x86-64 with five-level paging, so nothing here looks like a user's
//! address. The first and the last region number are never given out: no address is one that
//! `IS_ERR()` takes for an error, and none is near zero.
//!
//! An offset that runs over the end of a region's 4 GiB comes out in the region next to it. That
//! is no way into other memory: an instruction's own offset is at most 32 KiB, all regions but
//! arenas end [`GUARD`] before their 4 GiB do, and next to an arena there is none.

/// What lies below is the NULL page, and what a small offset reaches from there
/// (`mmap_min_addr`). No region is there.
pub const NULL_SIZE: u64 = 0x1_0000;

/// How far a region that is no arena stays away from the next one, in bytes.
pub const GUARD: u64 = 0x1_0000;

/// The largest `-errno` that a pointer can stand for (`MAX_ERRNO`).
pub const MAX_ERRNO: u64 = 4095;

/// The top byte of every address.
const TOP: u64 = 0xff << 56;
const OFFSET_BITS: u32 = 32;

/// A region's number, 1 to 0xfffffe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId(u32);

impl RegionId {
    /// Where programs are: instruction `i` of the image at offset `8 * i`. Nothing can be read or
    /// written there.
    pub const CODE: Self = Self(1);
    /// The largest number.
    pub(super) const LAST: u32 = 0xff_fffe;

    pub(super) const fn new(index: u32) -> Self {
        assert!(0 < index && index <= Self::LAST, "a region's number in its range");
        Self(index)
    }

    /// The region that an address names, whether there is one or not.
    pub const fn of(addr: u64) -> Option<Self> {
        let index = index(addr);
        if 0 < index && index <= Self::LAST as u64 { Some(Self(index as u32)) } else { None }
    }

    /// Its number.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The address of its first byte.
    pub const fn base(self) -> u64 {
        TOP | (self.0 as u64) << OFFSET_BITS
    }
}

/// A region's number, or something far above all of them if this is no address of a region.
pub(super) const fn index(addr: u64) -> u64 {
    (addr ^ TOP) >> OFFSET_BITS
}

/// The offset in its region.
pub const fn offset(addr: u64) -> u32 {
    addr as u32
}

/// The address of an instruction.
pub const fn of_insn(insn: usize) -> u64 {
    RegionId::CODE.base() | (insn as u32).wrapping_mul(8) as u64
}

/// The instruction at an address, if it can be one.
pub const fn to_insn(addr: u64) -> Option<usize> {
    let at = addr.wrapping_sub(RegionId::CODE.base());
    if at >> OFFSET_BITS == 0 && at.is_multiple_of(8) { Some((at / 8) as usize) } else { None }
}

/// The error that a pointer stands for (`IS_ERR()`), positive.
pub const fn errno(addr: u64) -> Option<u32> {
    let value = addr.wrapping_neg();
    if 0 < value && value <= MAX_ERRNO { Some(value as u32) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_its_region_and_offset() {
        for n in [1, 2, 77, RegionId::LAST] {
            let id = RegionId::new(n);
            assert_eq!(RegionId::of(id.base()), Some(id));
            assert_eq!(RegionId::of(id.base() + u64::from(u32::MAX)), Some(id));
            assert_eq!(offset(id.base() + 12), 12);
            assert!(errno(id.base() + u64::from(u32::MAX)).is_none());
        }
    }

    #[test]
    fn what_is_no_kernel_address_names_no_region() {
        let not = [0, 1, NULL_SIZE, 0x1000_0000_0000, u64::MAX, u64::MAX - MAX_ERRNO, TOP, !TOP];
        for addr in not {
            assert_eq!(RegionId::of(addr), None, "{addr:#x}");
        }
        assert_eq!(errno(-2_i64 as u64), Some(2));
        assert_eq!(errno(u64::MAX - MAX_ERRNO), None);
        assert_eq!(errno(0), None);
    }

    #[test]
    fn code_has_addresses() {
        assert_eq!(to_insn(of_insn(0)), Some(0));
        assert_eq!(to_insn(of_insn(1_000_000)), Some(1_000_000));
        assert_eq!(to_insn(of_insn(3) + 1), None);
        assert_eq!(to_insn(0), None);
        assert_eq!(to_insn(RegionId::new(2).base()), None);
    }
}
