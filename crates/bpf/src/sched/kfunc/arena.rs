//! Pages of the arena: which are taken, and which are nobody's.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

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

/// Pages that were given back, and will be free.
#[derive(Clone, Debug, Default)]
pub(in crate::sched) struct FreedPages {
    /// Theirs, if there are any.
    arena: Option<Arena>,
    pages: FreePages,
}

impl FreedPages {
    fn push(&mut self, arena: Arena, first: u32, count: u32) {
        self.arena = Some(arena);
        self.pages.give(first, count);
    }

    /// Now they are.
    pub fn free(&mut self, free: &mut FreePages, memory: &mut Memory) {
        let Some(arena) = self.arena.take() else { return };
        for (first, (count, _)) in std::mem::take(&mut self.pages).runs {
            free.free(memory, arena, first, count);
        }
    }
}

/// Pages that nobody has: `struct range_tree`. Runs of them, none next to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::sched) struct FreePages {
    /// By their first: how many, and when it became so.
    runs: BTreeMap<u32, (u32, u64)>,
    /// By how many there are, the latest of the same length first.
    by_len: BTreeSet<(u32, Reverse<u64>, u32)>,
    changes: u64,
}

impl FreePages {
    /// So many pages next to each other, out of the shortest run that has them:
    /// `range_tree_find()`.
    fn take(&mut self, count: u32) -> Option<u32> {
        let &(_, _, first) = self.by_len.range((count, Reverse(u64::MAX), 0)..).next()?;
        self.take_at(first, count).then_some(first)
    }

    /// These have no memory any more, and can be taken.
    fn free(&mut self, memory: &mut Memory, arena: Arena, first: u32, count: u32) {
        memory.depopulate(arena.region, arena.in_region(first), count as usize);
        self.give(first, count);
    }

    fn insert(&mut self, first: u32, len: u32) {
        self.changes += 1;
        self.runs.insert(first, (len, self.changes));
        self.by_len.insert((len, Reverse(self.changes), first));
    }

    fn remove(&mut self, first: u32) {
        if let Some((len, change)) = self.runs.remove(&first) {
            self.by_len.remove(&(len, Reverse(change), first));
        }
    }

    /// These pages, if all of them are free.
    fn take_at(&mut self, first: u32, count: u32) -> bool {
        let Some(end) = first.checked_add(count) else { return false };
        let Some((&start, &(len, _))) = self.runs.range(..=first).next_back() else { return false };
        if end > start + len {
            return false;
        }
        self.remove(start);
        if start < first {
            self.insert(start, first - start);
        }
        if end < start + len {
            self.insert(end, start + len - end);
        }
        true
    }

    /// These are nobody's now. Some may have been so before.
    fn give(&mut self, first: u32, count: u32) {
        let (mut start, mut end) = (first, first.saturating_add(count));
        if start == end {
            return;
        }
        if let Some((&before, &(len, _))) = self.runs.range(..start).next_back()
            && before + len >= start
        {
            self.remove(before);
            (start, end) = (before, end.max(before + len));
        }
        while let Some((&next, &(len, _))) = self.runs.range(start..=end).next() {
            self.remove(next);
            end = end.max(next + len);
        }
        self.insert(start, end - start);
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
    // NULL is no page, also where the arena begins there.
    if addr == 0 {
        return Ok(0);
    }
    let first = arena.page_of(addr);
    let end = first.saturating_add(count as u32).min(arena.pages);
    if first < end {
        let count = end - first;
        let at_once = call.may_sleep();
        let inner = call.inner()?;
        if at_once {
            inner.free_pages.free(&mut inner.memory, arena, first, count);
        } else {
            inner.freed_pages.push(arena, first, count);
        }
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

    impl FreePages {
        fn runs(&self) -> Vec<(u32, u32)> {
            self.runs.iter().map(|(first, (len, _))| (*first, *len)).collect()
        }
    }

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
        assert_eq!(free.runs(), [(1, 6), (8, 1)]);
        free.give(7, 1);
        assert_eq!(free.runs(), [(1, 8)]);
        free.give(0, 10);
        assert_eq!((free.take(10), free.runs.len(), free.by_len.len()), (Some(0), 0, 0));
    }

    #[test]
    fn the_shortest_run_that_fits_is_taken() {
        let mut free = FreePages::default();
        for (first, count) in [(0, 8), (10, 2), (20, 3), (30, 2)] {
            free.give(first, count);
        }
        assert_eq!(free.take(1), Some(30), "the later of the two short ones");
        assert_eq!((free.take(1), free.take(2), free.take(3)), (Some(31), Some(10), Some(20)));
        assert_eq!((free.take(3), free.runs()), (Some(0), vec![(3, 5)]));
    }
}
