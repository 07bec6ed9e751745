//! From a chunk's number to its page: an array over a window of numbers, which is replaced when the
//! window moves. New tasks come from the highest chunks, so the window is where the forks are; what
//! is outside of it is in the sparse part.

use std::ptr;
use std::sync::atomic::Ordering::Relaxed;

use crate::memory;
use crate::order;
use crate::page::Page;
use crate::reclaim::Section;
use crate::sync::{AtomicPtr, Witness};

/// The fewest numbers in a window.
const FEWEST: u64 = if cfg!(loom) { 2 } else { 64 };

/// A directory. Who changes it holds the lock of [`crate::live::Live`].
pub(crate) struct Directory {
    pub(crate) witness: Witness,
    /// The window's first number.
    first: u64,
    pages: Box<[AtomicPtr<Page>]>,
}

/// How wide a window may be for so many pages: wide enough that chunks which live long do not hold
/// it up, narrow enough that its memory follows the pages.
pub(crate) fn widest(pages: usize) -> u64 {
    FEWEST.max(8 * pages as u64)
}

impl Directory {
    /// For `first` and at least as many numbers as given; nothing if there is no memory.
    pub(crate) fn new(first: u64, numbers: u64) -> Option<Box<Self>> {
        let len = usize::try_from(numbers.max(FEWEST)).ok()?;
        let pages = memory::try_slice(len, || AtomicPtr::new(ptr::null_mut()))?;
        memory::try_box(Self { witness: Witness::new(), first, pages })
    }

    #[inline(always)]
    fn slot(&self, number: u64) -> Option<&AtomicPtr<Page>> {
        self.pages.get(usize::try_from(number.wrapping_sub(self.first)).ok()?)
    }

    /// Whether the window has a chunk.
    pub(crate) fn covers(&self, number: u64) -> bool {
        self.slot(number).is_some()
    }

    /// Whether the window has a chunk, or comes to it when it goes on.
    pub(crate) fn is_next(&self, section: &Section<'_>, number: u64) -> bool {
        let near = |last: u64| number.checked_sub(last).is_some_and(|ahead| ahead <= FEWEST);
        self.covers(number) || self.pages(section).next_back().is_none_or(|(last, _)| near(last))
    }

    /// The page of a chunk, or null.
    #[inline(always)]
    pub(crate) fn find(&self, section: &Section<'_>, number: u64) -> *mut Page {
        match self.slot(number) {
            Some(slot) => section.load(slot, order::page_load()),
            None => ptr::null_mut(),
        }
    }

    /// Publishes a page in the window.
    pub(crate) fn insert(&self, number: u64, page: *mut Page) {
        if let Some(slot) = self.slot(number) {
            slot.store(page, order::page_publish());
        }
    }

    /// Takes a page out. What was moved from it is seen by whoever sees that it is gone.
    pub(crate) fn unlink(&self, number: u64) {
        if let Some(slot) = self.slot(number) {
            slot.store(ptr::null_mut(), order::page_unlink());
        }
    }

    /// The pages, with their chunks' numbers, in ascending order.
    pub(crate) fn pages<'a>(
        &'a self,
        section: &'a Section<'_>,
    ) -> impl DoubleEndedIterator<Item = (u64, *mut Page)> + 'a {
        self.pages.iter().enumerate().filter_map(move |(i, slot)| {
            let page = section.load(slot, order::page_load());
            (!page.is_null()).then_some((self.first + i as u64, page))
        })
    }

    /// The pages, for one who has the directory alone.
    pub(crate) fn into_pages(self) -> impl Iterator<Item = *mut Page> {
        let pages = self.pages.into_iter().map(|slot| slot.load(Relaxed));
        pages.filter(|page| !page.is_null())
    }
}
