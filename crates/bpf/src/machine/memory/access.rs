//! Loads and stores, from one byte to many.

use std::ops::Range;

use super::pages::{PAGE_SIZE, split};
use super::{Backing, FRAME_SIZE, FRAME_STRIDE, Memory, Slot};
use crate::machine::address::{self, GUARD, NULL_SIZE, RegionId};
use crate::machine::kernel::{ArenaFault, Kernel};

/// Why an access did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It is in the NULL page.
    Null,
    /// No region has this address.
    NoRegion,
    /// It is not, or not all, inside of the region.
    Outside,
    /// The region is freed.
    Freed,
    /// The region may not be written.
    ReadOnly,
    /// The region is a program.
    Code,
    /// No page of the arena is there.
    NoPage,
    /// There is no memory for it.
    NoMemory,
    /// Its owner says no, and why.
    Owner(String),
}

impl Memory {
    /// Loads from a flat region.
    #[inline(always)]
    pub(in crate::machine) fn load_flat<const N: usize>(&self, addr: u64) -> Option<&[u8; N]> {
        let at = address::offset(addr) as usize;
        let flat = self.flat.get(address::index(addr) as usize)?;
        flat.bytes.get(at..at.wrapping_add(N))?.first_chunk()
    }

    /// What a store to a flat region changes.
    #[inline(always)]
    pub(in crate::machine) fn store_flat<const N: usize>(
        &mut self,
        addr: u64,
    ) -> Option<&mut [u8; N]> {
        let at = address::offset(addr) as usize;
        let flat = self.flat.get_mut(address::index(addr) as usize).filter(|flat| flat.writable)?;
        flat.bytes.get_mut(at..at.wrapping_add(N))?.first_chunk_mut()
    }

    /// Loads from pages.
    #[inline]
    pub(in crate::machine) fn load_page<const N: usize>(&self, addr: u64) -> Option<&[u8; N]> {
        let slot = self.slots.get(address::index(addr) as usize)?;
        let offset = address::offset(addr);
        match &slot.backing {
            Backing::Pages(pages) | Backing::Arena(pages, _)
                if u64::from(offset) + N as u64 <= slot.size =>
            {
                pages.get(offset)
            }
            _ => None,
        }
    }

    /// What a store to pages changes.
    #[inline]
    pub(in crate::machine) fn store_page<const N: usize>(
        &mut self,
        addr: u64,
    ) -> Option<&mut [u8; N]> {
        let slot = self.slots.get_mut(address::index(addr) as usize)?;
        let offset = address::offset(addr);
        match &mut slot.backing {
            Backing::Pages(pages) | Backing::Arena(pages, _)
                if slot.region.writable && u64::from(offset) + N as u64 <= slot.size =>
            {
                pages.get_mut(offset)
            }
            _ => None,
        }
    }

    /// How many bytes there are from an address to the end of its region, or of its stack frame.
    /// Whether they may be read is not said, and an arena may lack their pages.
    pub fn remaining(&self, addr: u64) -> u64 {
        let Ok((_, slot)) = self.find(addr, 0) else { return 0 };
        let offset = u64::from(address::offset(addr));
        match &slot.backing {
            Backing::Stack(frames) => {
                let left = (FRAME_SIZE as u64).saturating_sub(offset % FRAME_STRIDE);
                let frame = (offset / FRAME_STRIDE) as usize;
                if frame < frames.len() / FRAME_SIZE { left } else { 0 }
            }
            _ => slot.size.saturating_sub(offset),
        }
    }

    /// Reads bytes as a program would, from any region.
    ///
    /// # Errors
    ///
    /// They are not all there. What of `into` was filled is not said.
    pub fn read<K: Kernel>(
        &self,
        kernel: &mut K,
        addr: u64,
        into: &mut [u8],
    ) -> Result<(), Denied> {
        let (id, slot) = self.find(addr, into.len())?;
        let offset = address::offset(addr);
        match &slot.backing {
            Backing::Flat => {
                let at = offset as usize;
                into.copy_from_slice(&self.flat[id.index()].bytes[at..at + into.len()]);
            }
            Backing::Stack(bytes) => {
                let at = stack_index(bytes, offset, into.len()).ok_or(Denied::Outside)?;
                into.copy_from_slice(&bytes[at..at + into.len()]);
            }
            Backing::Pages(pages) => {
                for (page, at, part) in by_page(offset, into) {
                    match pages.page(page) {
                        Some(bytes) => part.copy_from_slice(&bytes[at..at + part.len()]),
                        None => part.fill(0),
                    }
                }
            }
            Backing::Arena(pages, user) => {
                for (page, at, part) in by_page(offset, into) {
                    match pages.page(page) {
                        Some(bytes) => part.copy_from_slice(&bytes[at..at + part.len()]),
                        None => {
                            let user = user + (page * PAGE_SIZE + at) as u64;
                            if kernel.arena_fault(user, false) == ArenaFault::Fault {
                                return Err(Denied::NoPage);
                            }
                            part.fill(0);
                        }
                    }
                }
            }
            Backing::Foreign => {
                let mut at = offset;
                for part in into.chunks_mut(8) {
                    let mut left = part;
                    while !left.is_empty() {
                        let size = 1 << left.len().ilog2();
                        let (now, later) = left.split_at_mut(size);
                        let value = kernel.load(id, at, size).map_err(Denied::Owner)?;
                        now.copy_from_slice(&value.to_le_bytes()[..size]);
                        at += size as u32;
                        left = later;
                    }
                }
            }
            Backing::Nothing | Backing::Freed | Backing::Code => return Err(Denied::NoRegion),
        }
        Ok(())
    }

    /// Writes bytes as a program would, into any region.
    ///
    /// # Errors
    ///
    /// They cannot all be written. Then none is, except in a foreign region and in an arena.
    pub fn write<K: Kernel>(
        &mut self,
        kernel: &mut K,
        addr: u64,
        from: &[u8],
    ) -> Result<(), Denied> {
        let (id, slot) = self.find(addr, from.len())?;
        if !slot.region.writable {
            return Err(Denied::ReadOnly);
        }
        let offset = address::offset(addr);
        match &mut self.slots[id.index()].backing {
            Backing::Arena(pages, user) => {
                let user = *user;
                for (page, at, part) in parts(offset, from.len()) {
                    match pages.page_mut(page) {
                        Some(bytes) => bytes[at..at + part.len()].copy_from_slice(&from[part]),
                        None => {
                            let user = user + (page * PAGE_SIZE + at) as u64;
                            if kernel.arena_fault(user, true) == ArenaFault::Fault {
                                return Err(Denied::NoPage);
                            }
                        }
                    }
                }
                Ok(())
            }
            Backing::Foreign => {
                let mut at = offset;
                for part in from.chunks(8) {
                    let mut left = part;
                    while !left.is_empty() {
                        let size = 1 << left.len().ilog2();
                        let (now, later) = left.split_at(size);
                        let mut value = [0; 8];
                        value[..size].copy_from_slice(now);
                        let value = u64::from_le_bytes(value);
                        kernel.store(id, at, size, value).map_err(Denied::Owner)?;
                        at += size as u32;
                        left = later;
                    }
                }
                Ok(())
            }
            _ => self.poke(id, offset, from),
        }
    }

    /// Writes bytes into a region of the machine's own, whether programs may or not.
    ///
    /// # Errors
    ///
    /// They are not all inside, or the region is none that has bytes. Then none is written.
    pub fn poke(&mut self, id: RegionId, offset: u32, from: &[u8]) -> Result<(), Denied> {
        self.find(id.base() + u64::from(offset), from.len())?;
        let (used, limit) = (self.used, self.limit);
        match &mut self.slots[id.index()].backing {
            Backing::Flat => {
                let at = offset as usize;
                self.flat[id.index()].bytes[at..at + from.len()].copy_from_slice(from);
            }
            Backing::Stack(bytes) => {
                let at = stack_index(bytes, offset, from.len()).ok_or(Denied::Outside)?;
                bytes[at..at + from.len()].copy_from_slice(from);
            }
            Backing::Pages(pages) => {
                let new = parts(offset, from.len()).filter(|(page, ..)| !pages.has(*page)).count();
                if used + (new * PAGE_SIZE) as u64 > limit {
                    return Err(Denied::NoMemory);
                }
                for (page, at, part) in parts(offset, from.len()) {
                    pages.add(page);
                    if let Some(bytes) = pages.page_mut(page) {
                        bytes[at..at + part.len()].copy_from_slice(&from[part]);
                    }
                }
                self.used += (new * PAGE_SIZE) as u64;
            }
            Backing::Arena(pages, _) => {
                if parts(offset, from.len()).any(|(page, ..)| !pages.has(page)) {
                    return Err(Denied::NoPage);
                }
                for (page, at, part) in parts(offset, from.len()) {
                    if let Some(bytes) = pages.page_mut(page) {
                        bytes[at..at + part.len()].copy_from_slice(&from[part]);
                    }
                }
            }
            Backing::Foreign | Backing::Nothing | Backing::Freed | Backing::Code => {
                return Err(Denied::NoRegion);
            }
        }
        Ok(())
    }

    /// Reads a number, as one access of a program.
    pub(in crate::machine) fn load<K: Kernel>(
        &self,
        kernel: &mut K,
        addr: u64,
        size: usize,
    ) -> Result<u64, Denied> {
        let mut bytes = [0; 8];
        if let Some(hole) = self.arena_hole(kernel, addr, size, false) {
            return hole.map(|_| 0);
        }
        self.read(kernel, addr, &mut bytes[..size])?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes a number, as one access of a program.
    pub(in crate::machine) fn store<K: Kernel>(
        &mut self,
        kernel: &mut K,
        addr: u64,
        size: usize,
        value: u64,
    ) -> Result<(), Denied> {
        if let Some(hole) = self.arena_hole(kernel, addr, size, true) {
            return hole.map(|_| ());
        }
        self.write(kernel, addr, &value.to_le_bytes()[..size])
    }

    /// Whether an access touches a page of an arena that is not there, and what then: of an atomic
    /// operation, what it loads, if it does. One access
    /// is done as a whole or not at all. Beside an arena there is no page either, as far as an
    /// instruction's offset reaches (`GUARD_SZ`).
    pub(in crate::machine) fn arena_hole<K: Kernel>(
        &self,
        kernel: &mut K,
        addr: u64,
        size: usize,
        write: bool,
    ) -> Option<Result<Option<u64>, Denied>> {
        let index = address::index(addr) as usize;
        let offset = address::offset(addr);
        let arena = |index: usize| match self.slots.get(index)?.backing {
            Backing::Arena(_, user) => Some(user),
            _ => None,
        };
        let user_addr = match &self.slots.get(index)?.backing {
            Backing::Arena(pages, user) => {
                parts(offset, size).find(|(page, ..)| !pages.has(*page))?;
                user + u64::from(offset)
            }
            Backing::Nothing if u64::from(offset) < GUARD / 2 => {
                arena(index.checked_sub(1)?)?.wrapping_add((1 << 32) + u64::from(offset))
            }
            Backing::Nothing if u64::from(offset) >= (1 << 32) - GUARD / 2 => {
                arena(index + 1)?.wrapping_sub((1 << 32) - u64::from(offset))
            }
            _ => return None,
        };
        Some(match kernel.arena_fault(user_addr, write) {
            ArenaFault::Skip => Ok(Some(0)),
            ArenaFault::SkipAtomics => Ok(None),
            ArenaFault::Fault => Err(Denied::NoPage),
        })
    }

    /// The frames of a stack, to be given back with [`Memory::give_stack`].
    pub(in crate::machine) fn take_stack(&mut self, id: RegionId) -> Vec<u8> {
        match self.slots.get_mut(id.index()) {
            Some(Slot { backing: Backing::Stack(bytes), .. }) => std::mem::take(bytes),
            _ => Vec::new(),
        }
    }

    pub(in crate::machine) fn give_stack(&mut self, id: RegionId, frames: Vec<u8>) {
        if let Some(Slot { backing: Backing::Stack(bytes), .. }) = self.slots.get_mut(id.index()) {
            *bytes = frames;
        }
    }

    /// The region that has these bytes. In a stack they may still be in no frame.
    fn find(&self, addr: u64, size: usize) -> Result<(RegionId, &Slot), Denied> {
        if addr < NULL_SIZE {
            return Err(Denied::Null);
        }
        let id = RegionId::of(addr).ok_or(Denied::NoRegion)?;
        let slot = self.slots.get(id.index()).ok_or(Denied::NoRegion)?;
        let end = u64::from(address::offset(addr)).saturating_add(size as u64);
        match slot.backing {
            Backing::Nothing => Err(Denied::NoRegion),
            Backing::Freed => Err(Denied::Freed),
            Backing::Code if end <= (1 << 32) - GUARD => Err(Denied::Code),
            Backing::Stack(_) => Ok((id, slot)),
            _ if end > slot.size => Err(Denied::Outside),
            _ => Ok((id, slot)),
        }
    }
}

/// Where bytes at an offset of a stack are among its frames, if they are all in one.
#[inline]
pub(in crate::machine) fn stack_index(frames: &[u8], offset: u32, size: usize) -> Option<usize> {
    let (frame, at) = (u64::from(offset) / FRAME_STRIDE, u64::from(offset) % FRAME_STRIDE);
    if at as usize + size > FRAME_SIZE {
        return None;
    }
    let index = frame as usize * FRAME_SIZE + at as usize;
    (index + size <= frames.len()).then_some(index)
}

/// A span cut at pages: page, offset in it, and which part of the span it is. An arena's end is
/// not looked at: beyond it no page is there.
fn parts(offset: u32, len: usize) -> impl Iterator<Item = (usize, usize, Range<usize>)> {
    let (mut page, mut at) = split(offset);
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let size = (PAGE_SIZE - at).min(len - done);
        let part = (page, at, done..done + size);
        done += size;
        (page, at) = (page + 1, 0);
        Some(part)
    })
}

fn by_page(offset: u32, into: &mut [u8]) -> impl Iterator<Item = (usize, usize, &mut [u8])> {
    let len = into.len();
    let mut left = into;
    parts(offset, len).map(move |(page, at, part)| {
        let (now, later) = std::mem::take(&mut left).split_at_mut(part.len());
        left = later;
        (page, at, now)
    })
}
