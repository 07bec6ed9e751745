//! A page: room for the ids of one chunk, each at its own place. Ids that live close together, as
//! those of new tasks do, are found in it by an index.

use std::ptr;
use std::sync::atomic::Ordering::Relaxed;

use crate::order;
use crate::reclaim::Section;
use crate::sync::{AtomicPtr, AtomicU32, Witness, relax};

/// Ids in a page: a CPU's chunk, so that the CPUs write to pages of their own.
#[cfg(not(loom))]
pub(crate) const SLOTS: usize = crate::CHUNK as usize;
#[cfg(loom)]
pub(crate) const SLOTS: usize = 2;

/// A writer is at it.
const LOCKED: u32 = 1 << 31;
/// It is out of the directory; whoever wants to write must look again.
const RETIRED: u32 = 1 << 30;
/// It is on the list of pages that may be too empty.
const CANDIDATE: u32 = 1 << 29;
/// An id came since it was last looked at as a candidate.
const TOUCHED: u32 = 1 << 28;
/// Its last place was taken once: whoever had the chunk has another one.
const ENDED: u32 = 1 << 27;
/// How many of its places are taken.
const LIVE: u32 = ENDED - 1;

/// A page. `null` in a slot: the id is not here.
#[repr(C)]
pub(crate) struct Page {
    state: AtomicU32,
    /// Ids of this page may be in the sparse part too. If not, a lookup ends here.
    pub(crate) also_sparse: bool,
    pub(crate) witness: Witness,
    slots: [AtomicPtr<()>; SLOTS],
}

impl Page {
    /// An empty page; nothing if there is no memory.
    pub(crate) fn new(also_sparse: bool) -> Option<Box<Self>> {
        let mut page = Self::zeroed()?;
        page.also_sparse = also_sparse;
        // On the list from the start: it may never fill.
        page.state = AtomicU32::new(CANDIDATE);
        Some(page)
    }

    #[cfg(not(loom))]
    fn zeroed() -> Option<Box<Self>> {
        // SAFETY: the layout is not of size 0.
        let page = unsafe { std::alloc::alloc_zeroed(std::alloc::Layout::new::<Self>()) };
        // SAFETY: if not null, it is memory of this layout, from the allocator that Box uses; and
        // zeroes are a page: no state, false, nulls.
        (!page.is_null()).then(|| unsafe { Box::from_raw(page.cast()) })
    }

    #[cfg(loom)]
    fn zeroed() -> Option<Box<Self>> {
        Some(Box::new(Self {
            state: AtomicU32::new(0),
            also_sparse: false,
            witness: Witness::new(),
            slots: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
        }))
    }

    /// The word at `index`, for a reader.
    #[inline(always)]
    pub(crate) fn load(&self, section: &Section<'_>, index: usize) -> *mut () {
        section.load(&self.slots[index], order::slot_load())
    }

    /// How many ids it has, at some moment.
    pub(crate) fn live(&self) -> usize {
        (self.state.load(Relaxed) & LIVE) as usize
    }

    /// Keeps other writers out; nothing if the page is retired.
    #[inline]
    pub(crate) fn lock(&self) -> Option<Locked<'_>> {
        let mut turn = 0;
        loop {
            let state = self.state.load(Relaxed);
            if state & RETIRED != 0 {
                return None;
            }
            let free = state & LOCKED == 0;
            if free
                && self
                    .state
                    .compare_exchange(state, state | LOCKED, order::page_lock(), Relaxed)
                    .is_ok()
            {
                return Some(Locked { page: self, state });
            }
            relax(turn);
            turn = turn.saturating_add(1);
        }
    }

    /// All the words, for one who has the page alone.
    pub(crate) fn words(&mut self) -> impl Iterator<Item = *mut ()> {
        self.slots.iter().map(|slot| slot.load(Relaxed)).filter(|word| !word.is_null())
    }
}

/// A page that no other writer is at.
pub(crate) struct Locked<'p> {
    page: &'p Page,
    state: u32,
}

impl Locked<'_> {
    #[inline]
    pub(crate) fn word(&self, index: usize) -> *mut () {
        self.page.slots[index].load(Relaxed)
    }

    /// Takes an empty place.
    #[inline]
    pub(crate) fn put(&mut self, index: usize, word: *mut ()) {
        self.page.slots[index].store(word, order::slot_publish());
        self.state = (self.state + 1) | TOUCHED | if index == SLOTS - 1 { ENDED } else { 0 };
    }

    /// Empties a place that is taken.
    #[inline]
    pub(crate) fn clear(&mut self, index: usize) {
        self.page.slots[index].store(ptr::null_mut(), Relaxed);
        self.state -= 1;
    }

    pub(crate) fn live(&self) -> usize {
        (self.state & LIVE) as usize
    }

    /// Puts it on the list; whether it was not there.
    #[inline]
    pub(crate) fn becomes_candidate(&mut self) -> bool {
        let new = self.state & CANDIDATE == 0;
        self.state |= CANDIDATE;
        new
    }

    /// Whether an id came since this was last asked.
    pub(crate) fn take_touched(&mut self) -> bool {
        let touched = self.state & TOUCHED != 0;
        self.state &= !TOUCHED;
        touched
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.state & ENDED != 0
    }

    pub(crate) fn is_no_candidate(&mut self) {
        self.state &= !CANDIDATE;
    }

    /// No writer gets it any more.
    pub(crate) fn retire(mut self) {
        self.state |= RETIRED;
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        self.page.state.store(self.state, order::page_unlock());
    }
}
