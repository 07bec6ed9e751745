//! Pages of the arena: which are taken, and which are nobody's.

use std::collections::BTreeMap;

use scxlab_engine::Cpumask;
use scxlab_engine::flags::errno;

use super::negative;
use crate::Image;
use crate::image::MapType;
use crate::machine::{Binding, Full, Memory, RegionId, address};
use crate::sched::call::{Bad, Call};

const PAGE: u64 = 4096;

/// The arena of a scheduler.
#[derive(Clone, Copy, Debug)]
pub(in crate::sched) struct Arena {
    /// The address of the map.
    map: u64,
    region: RegionId,
    /// The user's address of its first byte.
    user: u64,
    pages: u32,
}

impl Arena {
    /// That of an image, if it has one.
    pub fn of(image: &Image, binding: &Binding) -> Option<Self> {
        let mut maps = image.maps.iter().zip(&binding.maps);
        let (map, at) = maps.find(|(map, _)| map.map_type == MapType::ARENA)?;
        let region = RegionId::of(at.arena)?;
        Some(Self { map: at.map, region, user: at.value, pages: map.max_entries })
    }

    /// The number of one of its pages among those of the region's 4 GiB.
    fn in_region(&self, page: u32) -> usize {
        (self.user as u32 / PAGE as u32).wrapping_add(page) as usize
    }

    /// The user's address of a page.
    fn address(&self, page: u32) -> u64 {
        self.user + u64::from(page) * PAGE
    }

    /// The page that an address is in, whatever its upper half is.
    fn page_of(&self, addr: u64) -> u32 {
        (addr as u32).wrapping_sub(self.user as u32) / PAGE as u32
    }

    /// The pages that have no data of the image's.
    pub fn free_pages(&self, memory: &Memory) -> FreePages {
        let mut free = FreePages::default();
        free.give(0, self.pages);
        for page in 0..self.pages {
            if memory.is_populated(self.region, self.in_region(page)) {
                free.take_at(page, 1);
            }
        }
        free
    }
}

/// Pages that nobody has: runs of them, by their first, none next to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::sched) struct FreePages(BTreeMap<u32, u32>);

impl FreePages {
    /// So many pages next to each other, the lowest that there are.
    fn take(&mut self, count: u32) -> Option<u32> {
        let (&first, _) = self.0.iter().find(|(_, len)| **len >= count)?;
        self.take_at(first, count).then_some(first)
    }

    /// These pages, if all of them are free.
    fn take_at(&mut self, first: u32, count: u32) -> bool {
        let Some(end) = first.checked_add(count) else { return false };
        let Some((&start, &len)) = self.0.range(..=first).next_back() else { return false };
        if end > start + len {
            return false;
        }
        self.0.remove(&start);
        if start < first {
            self.0.insert(start, first - start);
        }
        if end < start + len {
            self.0.insert(end, start + len - end);
        }
        true
    }

    /// These are nobody's now. Some may have been so before.
    fn give(&mut self, first: u32, count: u32) {
        let (mut start, mut end) = (first, first.saturating_add(count));
        if start == end {
            return;
        }
        if let Some((&before, &len)) = self.0.range(..start).next_back()
            && before + len >= start
        {
            self.0.remove(&before);
            (start, end) = (before, end.max(before + len));
        }
        while let Some((&next, &len)) = self.0.range(start..=end).next() {
            self.0.remove(&next);
            end = end.max(next + len);
        }
        self.0.insert(start, end - start);
    }
}

/// The arena whose map the first argument is.
fn arena(call: &Call<'_, '_>) -> Result<Arena, Bad> {
    let map = call.args[0];
    match call.sched.arena {
        Some(arena) if arena.map == map => Ok(arena),
        _ => Err(format!("its argument 1 is no arena: {map:#x}").into()),
    }
}

pub(super) fn alloc_pages(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let arena = arena(call)?;
    let [_, addr, count, node, flags] = call.args;
    let count = count as u32;
    // There is one node, 0; and -1 for any.
    let fine = flags == 0 && count > 0 && count <= arena.pages && matches!(node as i32, -1 | 0);
    if !fine || addr % PAGE != 0 {
        return Ok(0);
    }
    let at = (addr != 0).then(|| arena.page_of(addr));
    Ok(alloc(call, arena, at, count)?.map_or(0, |page| arena.address(page)))
}

/// The first of so many pages, of zeros; nothing if there are not as many.
fn alloc(
    call: &mut Call<'_, '_>,
    arena: Arena,
    at: Option<u32>,
    count: u32,
) -> Result<Option<u32>, Bad> {
    let inner = call.inner()?;
    let first = match at {
        Some(first) => inner.free_pages.take_at(first, count).then_some(first),
        None => inner.free_pages.take(count),
    };
    let Some(first) = first else { return Ok(None) };
    match inner.memory.populate(arena.region, arena.in_region(first), count as usize) {
        Ok(true) => Ok(Some(first)),
        Ok(false) | Err(Full) => {
            inner.free_pages.give(first, count);
            Ok(None)
        }
    }
}

pub(super) fn reserve_pages(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let arena = arena(call)?;
    let [_, addr, count, ..] = call.args;
    let (first, count) = (arena.page_of(addr), count as u32);
    // An address within a page is no error, and reserves nothing: arena_reserve_pages().
    if count == 0 || addr % PAGE != 0 {
        return Ok(0);
    }
    if first.checked_add(count).is_none_or(|end| end > arena.pages) {
        return Ok(negative(errno::EINVAL));
    }
    let taken = call.inner()?.free_pages.take_at(first, count);
    Ok(if taken { 0 } else { negative(errno::EBUSY) })
}

pub(super) fn free_pages(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let arena = arena(call)?;
    let [_, addr, count, ..] = call.args;
    let first = arena.page_of(addr);
    let end = first.saturating_add(count as u32).min(arena.pages);
    if first < end {
        let inner = call.inner()?;
        let count = end - first;
        inner.memory.depopulate(arena.region, arena.in_region(first), count as usize);
        inner.free_pages.give(first, count);
    }
    Ok(0)
}

impl Call<'_, '_> {
    /// The kernel's address of a page of the arena that the kernel itself uses, for what operations
    /// are given there; nothing without an arena.
    pub fn arena_scratch(&mut self) -> Result<Option<u64>, Bad> {
        let Some(arena) = self.sched.arena else { return Ok(None) };
        if let Some(addr) = self.inner()?.scratch {
            return Ok(Some(addr));
        }
        let page = alloc(self, arena, None, 1)?.ok_or("the arena is full")?;
        let addr = arena.region.base() + arena.in_region(page) as u64 * PAGE;
        self.inner()?.scratch = Some(addr);
        Ok(Some(addr))
    }

    /// `struct scx_cmask` of these cids so many bytes into that page: its user's address; nothing
    /// without an arena.
    pub fn cids_in_arena(&mut self, at: u32, cids: &Cpumask) -> Result<Option<u64>, Bad> {
        let Some(page) = self.arena_scratch()? else { return Ok(None) };
        let addr = page + u64::from(at);
        let bytes = self.sched.shapes.cmask(self.cx, cids);
        let region = RegionId::of(addr).ok_or(Full)?;
        let put = self.inner()?.memory.poke(region, address::offset(addr), &bytes);
        // A program that frees the kernel's page has no more of it.
        put.map_err(|_| "the arena has lost the kernel's own page")?;
        Ok(Some(self.user_address(addr)))
    }

    /// The kernel's address of a byte of the arena, for a parameter that is named `__arena`: the
    /// lower half alone counts, NULL is the first byte. Without an arena as it is.
    pub fn arena_address(&self, addr: u64) -> u64 {
        let base = self.sched.arena.map(|arena| arena.region.base());
        base.map_or(addr, |base| base | u64::from(addr as u32))
    }

    /// The user's address of a byte of the arena, which is how programs get it.
    pub fn user_address(&self, addr: u64) -> u64 {
        let upper = self.sched.arena.map_or(0, |arena| arena.user & (u64::MAX << 32));
        upper | u64::from(addr as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_taken_and_given_back() {
        let mut free = FreePages::default();
        free.give(0, 10);
        assert_eq!((free.take(4), free.take(4)), (Some(0), Some(4)));
        assert_eq!(free.take(3), None);
        assert!(!free.take_at(3, 1) && !free.take_at(9, 2) && free.take_at(9, 1));
        free.give(2, 2);
        assert_eq!(free.take(3), None, "2 and 3, and 8");
        free.give(1, 6);
        assert_eq!(free.0, BTreeMap::from([(1, 6), (8, 1)]));
        free.give(7, 1);
        assert_eq!(free.0, BTreeMap::from([(1, 8)]));
        free.give(0, 10);
        assert_eq!((free.take(10), free.0.len()), (Some(0), 0));
    }
}
