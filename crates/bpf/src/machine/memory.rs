//! Memory: regions, each with a size, rights, a name, and bytes.
//!
//! - Small ones ([`FLAT_MAX`]) are one vector each. This is what an access tries first.
//! - Large ones are sparse pages: what was never written reads zero and takes no space. So a map
//!   of a gigabyte costs what is used of it.
//! - An arena is sparse pages too, but a page that is not there is a fault: see
//!   [`arena_fault`](super::Kernel::arena_fault).
//! - A stack has a piece of 512 bytes for each frame, with nothing in between, so that no frame
//!   can be left unnoticed: see [`FRAME_STRIDE`].
//! - A foreign region has no bytes here: see [`Kernel`](super::Kernel).
//!
//! A freed region keeps its name, for messages, until its number is given out again; that takes
//! [`QUARANTINE`] more freed ones. Numbers are given out in a fixed order.
//!
//! Alignment does not matter, as on x86. A clone is a copy; after [`Memory::share`] it shares what
//! is in pages, until one of both writes.

use std::collections::VecDeque;
use std::sync::Arc;

pub use self::access::Denied;
pub use self::place::Place;

pub(super) use self::access::stack_index;
use self::pages::{PAGE_SIZE, Pages};
pub(super) use self::place::frame;
use super::address::{self, GUARD, RegionId};

mod access;
mod pages;
mod place;

/// The largest region that is one vector, in bytes.
pub const FLAT_MAX: u64 = 64 * 1024;
/// Bytes of a stack frame: `MAX_BPF_STACK`.
pub const FRAME_SIZE: usize = 512;
/// From one frame to the next, in bytes of addresses. An instruction's offset does not reach from
/// one to the other.
pub const FRAME_STRIDE: u64 = 0x1_0000;
/// What a region takes beside its bytes, for [`Memory::used`].
const OVERHEAD: u64 = 128;
/// How many freed numbers wait to be given out again.
pub const QUARANTINE: usize = 1024;

/// What a region is: for messages, and for whoever made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// What to call it: a map and its name, a `task_struct` and its task.
    pub what: Arc<str>,
    /// Which part of that it is, or which parts it has.
    pub part: Part,
    /// Whether programs may write.
    pub writable: bool,
    /// What its owner knows it by. A machine does not look at it.
    pub tag: u64,
}

/// Which part of something a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// All its values, each of so many bytes.
    Values(u32),
    /// The one value of this number.
    Value(u64),
}

impl Region {
    /// One that programs may write, all of `what`.
    pub fn new(what: impl Into<Arc<str>>) -> Self {
        Self { what: what.into(), part: Part::Whole, writable: true, tag: 0 }
    }

    /// One that programs may only read.
    pub fn read_only(what: impl Into<Arc<str>>) -> Self {
        Self { writable: false, ..Self::new(what) }
    }
}

/// Where the bytes are.
#[derive(Clone, Debug)]
enum Backing {
    /// Never given out, or next to an arena.
    Nothing,
    /// Given back.
    Freed,
    /// In [`Memory::flat`].
    Flat,
    /// In pages; where one is not, there is zero.
    Pages(Pages),
    /// In pages; the user's address of the first byte of its 4 GiB.
    Arena(Pages, u64),
    /// So many frames.
    Stack(Vec<u8>),
    /// Elsewhere.
    Foreign,
    /// Instructions: no access.
    Code,
}

#[derive(Clone, Debug)]
struct Slot {
    region: Region,
    size: u64,
    backing: Backing,
}

/// The bytes of a flat region; of others none, so that an access that finds none looks further.
#[derive(Clone, Debug, Default)]
struct Flat {
    bytes: Vec<u8>,
    writable: bool,
}

/// There is no room for a region: too many, or too large, or the limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the machine's memory is full")]
pub struct Full;

/// All memory of a machine.
#[derive(Clone, Debug)]
pub struct Memory {
    flat: Vec<Flat>,
    slots: Vec<Slot>,
    freed: VecDeque<u32>,
    used: u64,
    limit: u64,
}

impl Memory {
    /// An empty one, for at most `limit` bytes.
    pub fn new(limit: u64) -> Self {
        let nothing = |what: &str, backing| Slot { region: Region::new(what), size: 0, backing };
        Self {
            flat: vec![Flat::default(), Flat::default()],
            slots: vec![
                nothing("nothing", Backing::Nothing),
                nothing("the programs", Backing::Code),
            ],
            freed: VecDeque::new(),
            used: 0,
            limit,
        }
    }

    /// How many bytes regions take, and what was charged.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Takes so many bytes for something that is kept beside the regions.
    ///
    /// # Errors
    ///
    /// There is no room for it.
    pub fn charge(&mut self, bytes: u64) -> Result<(), Full> {
        let used = self.used.checked_add(bytes).filter(|used| *used <= self.limit).ok_or(Full)?;
        self.used = used;
        Ok(())
    }

    /// Gives back what [`Memory::charge`] took.
    pub fn uncharge(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
    }

    /// Makes a region of these bytes. Returns its number.
    ///
    /// # Errors
    ///
    /// There is no room for it.
    pub fn alloc(&mut self, region: Region, bytes: Vec<u8>) -> Result<RegionId, Full> {
        let size = bytes.len() as u64;
        if size > FLAT_MAX {
            let id = self.alloc_zeroed(region, size)?;
            for (page, bytes) in bytes.chunks(PAGE_SIZE).enumerate() {
                let offset = (page * PAGE_SIZE) as u32;
                let zero = bytes.iter().all(|byte| *byte == 0);
                if !zero && self.poke(id, offset, bytes).is_err() {
                    self.free(id);
                    return Err(Full);
                }
            }
            return Ok(id);
        }
        let writable = region.writable;
        let id = self.add(Slot { region, size, backing: Backing::Flat })?;
        self.flat[id.index()] = Flat { bytes, writable };
        Ok(id)
    }

    /// Makes a region of zeros.
    ///
    /// # Errors
    ///
    /// There is no room for it, or it is larger than 4 GiB less [`GUARD`].
    pub fn alloc_zeroed(&mut self, region: Region, size: u64) -> Result<RegionId, Full> {
        if size <= FLAT_MAX {
            return self.alloc(region, vec![0; size as usize]);
        }
        if size > (1 << 32) - GUARD {
            return Err(Full);
        }
        self.add(Slot { region, size, backing: Backing::Pages(Pages::default()) })
    }

    /// Makes an arena, without a page. `user` is an address of it in user space; the lower half of
    /// an arena's address is the same in both.
    ///
    /// # Errors
    ///
    /// There is no room for it.
    pub fn alloc_arena(&mut self, region: Region, user: u64) -> Result<RegionId, Full> {
        // Nothing lies next to it: its offsets take all 32 bits.
        let first = self.slots.len() as u32;
        let used = self.used + 3 * OVERHEAD;
        if first + 2 > RegionId::LAST || used > self.limit {
            return Err(Full);
        }
        self.used = used;
        let guard = || Slot { region: region.clone(), size: 0, backing: Backing::Nothing };
        let user = user & (u64::MAX << 32);
        let arena = Backing::Arena(Pages::default(), user);
        let slot = Slot { region: region.clone(), size: 1 << 32, backing: arena };
        self.slots.extend([guard(), slot, guard()]);
        self.flat.resize_with(self.slots.len(), Flat::default);
        Ok(RegionId::new(first + 1))
    }

    /// Makes a stack, without a frame.
    ///
    /// # Errors
    ///
    /// There is no room for it.
    pub fn alloc_stack(&mut self, region: Region) -> Result<RegionId, Full> {
        self.add(Slot { region, size: 0, backing: Backing::Stack(Vec::new()) })
    }

    /// Makes a region whose bytes are elsewhere.
    ///
    /// # Errors
    ///
    /// There is no room for it, or it is larger than 4 GiB less [`GUARD`].
    pub fn alloc_foreign(&mut self, region: Region, size: u64) -> Result<RegionId, Full> {
        if size > (1 << 32) - GUARD {
            return Err(Full);
        }
        self.add(Slot { region, size, backing: Backing::Foreign })
    }

    /// Frees a region: from now on an access to it is a use after free. Returns whether there was
    /// one.
    pub fn free(&mut self, id: RegionId) -> bool {
        let Some(slot) = self.slots.get_mut(id.index()) else { return false };
        let (bytes, reused) = match &slot.backing {
            Backing::Nothing | Backing::Freed | Backing::Code => return false,
            Backing::Flat => (slot.size, true),
            Backing::Pages(pages) => ((pages.count() * PAGE_SIZE) as u64, true),
            // Its neighbours stay empty, and so does it.
            Backing::Arena(pages, _) => ((pages.count() * PAGE_SIZE) as u64, false),
            Backing::Stack(_) | Backing::Foreign => (0, true),
        };
        slot.backing = Backing::Freed;
        self.flat[id.index()] = Flat::default();
        self.used -= bytes;
        if reused {
            self.used -= OVERHEAD;
            self.freed.push_back(id.index() as u32);
        }
        true
    }

    /// What a region is, if there is one. A freed one is none.
    pub fn region(&self, id: RegionId) -> Option<&Region> {
        let slot = self.slots.get(id.index())?;
        (!matches!(slot.backing, Backing::Nothing | Backing::Freed)).then_some(&slot.region)
    }

    /// Bytes of a region, 4 GiB for an arena, if there is one.
    pub fn size(&self, id: RegionId) -> Option<u64> {
        self.region(id)?;
        Some(self.slots[id.index()].size)
    }

    /// Makes pages of an arena, of zeros, where there is none. Pages count from the start of its
    /// 4 GiB. Returns whether it is an arena and all of them are in it.
    ///
    /// # Errors
    ///
    /// There is no room for them. Then none was made.
    pub fn populate(&mut self, id: RegionId, first: usize, count: usize) -> Result<bool, Full> {
        let Some(Slot { backing: Backing::Arena(pages, _), .. }) = self.slots.get_mut(id.index())
        else {
            return Ok(false);
        };
        let end = first.saturating_add(count);
        if end > (1 << 32) / PAGE_SIZE {
            return Ok(false);
        }
        let new = (first..end).filter(|page| !pages.has(*page)).count() as u64;
        let used = self.used + new * PAGE_SIZE as u64;
        if used > self.limit {
            return Err(Full);
        }
        self.used = used;
        for page in first..end {
            pages.add(page);
        }
        Ok(true)
    }

    /// Takes pages of an arena away. Returns how many were there.
    pub fn depopulate(&mut self, id: RegionId, first: usize, count: usize) -> usize {
        let Some(Slot { backing: Backing::Arena(pages, _), .. }) = self.slots.get_mut(id.index())
        else {
            return 0;
        };
        let end = first.saturating_add(count).min((1 << 32) / PAGE_SIZE);
        let gone = (first..end).filter(|page| pages.remove(*page)).count();
        self.used -= (gone * PAGE_SIZE) as u64;
        gone
    }

    /// Whether a page of an arena is there.
    pub fn is_populated(&self, id: RegionId, page: usize) -> bool {
        matches!(self.slots.get(id.index()),
            Some(Slot { backing: Backing::Arena(pages, _), .. }) if pages.has(page))
    }

    /// Makes clones from now on share all pages that are there now, until they are written. Takes
    /// a copy of each page that is not shared yet.
    pub fn share(&mut self) {
        for slot in &mut self.slots {
            if let Backing::Pages(pages) | Backing::Arena(pages, _) = &mut slot.backing {
                pages.share();
            }
        }
    }

    /// Whether an address is in bytes that all threads can write: no stack, and nobody else's.
    pub fn is_shared(&self, addr: u64) -> bool {
        let slot = RegionId::of(addr).and_then(|id| self.slots.get(id.index()));
        slot.is_some_and(|slot| {
            let bytes =
                matches!(slot.backing, Backing::Flat | Backing::Pages(_) | Backing::Arena(..));
            bytes && slot.region.writable
        })
    }

    /// Whether an address is one of an arena.
    pub(in crate::machine) fn is_in_arena(&self, addr: u64) -> bool {
        let slot = RegionId::of(addr).and_then(|id| self.slots.get(id.index()));
        slot.is_some_and(|slot| matches!(slot.backing, Backing::Arena(..)))
    }

    /// Where an address is.
    pub fn place(&self, addr: u64) -> Place {
        let Some(id) = RegionId::of(addr) else { return Place::Nowhere };
        let offset = u64::from(address::offset(addr));
        let slot = self.slots.get(id.index());
        match slot {
            Some(Slot { backing: Backing::Stack(_), region, .. }) => {
                return Place::Stack { id, region: region.clone(), offset };
            }
            Some(slot) if !matches!(slot.backing, Backing::Nothing) => {
                let freed = matches!(slot.backing, Backing::Freed);
                let (region, size) = (slot.region.clone(), slot.size);
                if offset < (1 << 32) - GUARD || size == 1 << 32 {
                    return Place::Region { region, offset: offset as i64, size, freed };
                }
            }
            _ => {}
        }
        // Perhaps a little below another one.
        match self.slots.get(id.index() + 1) {
            Some(next)
                if offset >= (1 << 32) - GUARD
                    && !matches!(next.backing, Backing::Nothing | Backing::Stack(_)) =>
            {
                let freed = matches!(next.backing, Backing::Freed);
                let offset = offset as i64 - (1 << 32);
                Place::Region { region: next.region.clone(), offset, size: next.size, freed }
            }
            _ => Place::Nowhere,
        }
    }

    fn add(&mut self, slot: Slot) -> Result<RegionId, Full> {
        let flat = if matches!(slot.backing, Backing::Flat) { slot.size } else { 0 };
        let used = self.used + OVERHEAD + flat;
        if used > self.limit {
            return Err(Full);
        }
        let index = match self.freed.len() > QUARANTINE {
            true => self.freed.pop_front().ok_or(Full)?,
            false => self.slots.len() as u32,
        };
        if index > RegionId::LAST {
            return Err(Full);
        }
        if index as usize == self.slots.len() {
            self.slots.push(slot);
            self.flat.push(Flat::default());
        } else {
            self.slots[index as usize] = slot;
        }
        self.used = used;
        Ok(RegionId::new(index))
    }
}
