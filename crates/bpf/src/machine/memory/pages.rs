//! Bytes of large regions: pages that come to be when they are written.

use std::sync::Arc;

/// Bytes of a page.
pub(super) const PAGE_SIZE: usize = 4096;
const LEAF: usize = 512;

type Page = Kept<[u8; PAGE_SIZE]>;
type Leaf = Kept<[Option<Page>; LEAF]>;

/// What clones share, once it is shared, until one of them writes.
///
/// Whether it is shared is said by a tag and not by a reference count, so that a store costs no
/// atomic instruction.
#[derive(Clone, Debug)]
enum Kept<T> {
    Own(Box<T>),
    Shared(Arc<T>),
}

impl<T: Clone> Kept<T> {
    fn new(value: T) -> Self {
        Self::Own(Box::new(value))
    }

    #[inline]
    fn get(&self) -> &T {
        match self {
            Self::Own(value) => value,
            Self::Shared(value) => value,
        }
    }

    #[inline]
    fn get_mut(&mut self) -> &mut T {
        if matches!(self, Self::Shared(_)) {
            self.make_own();
        }
        match self {
            Self::Own(value) => value,
            Self::Shared(_) => unreachable!("it was just made its own"),
        }
    }

    #[cold]
    fn make_own(&mut self) {
        if let Self::Shared(value) = self {
            *self = Self::new(T::clone(value));
        }
    }

    /// Makes clones from now on share it, with `inner` done to what is not shared yet.
    fn share(&mut self, inner: impl FnOnce(&mut T)) {
        if let Self::Own(value) = self {
            inner(value);
            *self = Self::Shared(Arc::new(T::clone(value)));
        }
    }
}

/// Sparse pages, in two levels: 512 pages, 2 MiB, below each entry of the first.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    leaves: Vec<Option<Leaf>>,
}

impl Pages {
    /// What lies at an offset in its page, or nothing if that page is not there.
    #[inline]
    pub(super) fn get<const N: usize>(&self, offset: u32) -> Option<&[u8; N]> {
        let (page, at) = split(offset);
        self.page(page)?.get(at..)?.first_chunk()
    }

    /// As [`Pages::get`], to be written.
    #[inline]
    pub(super) fn get_mut<const N: usize>(&mut self, offset: u32) -> Option<&mut [u8; N]> {
        let (page, at) = split(offset);
        self.page_mut(page)?.get_mut(at..)?.first_chunk_mut()
    }

    /// The bytes of a page, if it is there.
    #[inline]
    pub(super) fn page(&self, page: usize) -> Option<&[u8; PAGE_SIZE]> {
        let leaf = self.leaves.get(page / LEAF)?.as_ref()?.get();
        Some(leaf[page % LEAF].as_ref()?.get())
    }

    /// As [`Pages::page`], to be written.
    #[inline]
    pub(super) fn page_mut(&mut self, page: usize) -> Option<&mut [u8; PAGE_SIZE]> {
        let leaf = self.leaves.get_mut(page / LEAF)?.as_mut()?.get_mut();
        Some(leaf[page % LEAF].as_mut()?.get_mut())
    }

    /// Whether a page is there.
    pub(super) fn has(&self, page: usize) -> bool {
        self.page(page).is_some()
    }

    /// Makes a page of zeros, if it is not there yet. Returns whether it was not.
    pub(super) fn add(&mut self, page: usize) -> bool {
        let leaf = page / LEAF;
        if leaf >= self.leaves.len() {
            self.leaves.resize(leaf + 1, None);
        }
        let leaf = self.leaves[leaf].get_or_insert_with(|| Leaf::new([const { None }; LEAF]));
        let slot = &mut leaf.get_mut()[page % LEAF];
        let new = slot.is_none();
        if new {
            *slot = Some(Page::new([0; PAGE_SIZE]));
        }
        new
    }

    /// Drops a page. Returns whether it was there.
    pub(super) fn remove(&mut self, page: usize) -> bool {
        let leaf = self.leaves.get_mut(page / LEAF).and_then(Option::as_mut);
        leaf.is_some_and(|leaf| leaf.get_mut()[page % LEAF].take().is_some())
    }

    /// How many are there.
    pub(super) fn count(&self) -> usize {
        self.leaves.iter().flatten().flat_map(|leaf| leaf.get()).flatten().count()
    }

    /// Makes clones from now on share all pages that are there now.
    pub(super) fn share(&mut self) {
        for leaf in self.leaves.iter_mut().flatten() {
            leaf.share(|pages| pages.iter_mut().flatten().for_each(|page| page.share(|_| ())));
        }
    }
}

/// The page of an offset, and the offset in it.
pub(super) const fn split(offset: u32) -> (usize, usize) {
    (offset as usize / PAGE_SIZE, offset as usize % PAGE_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_and_go() {
        let mut pages = Pages::default();
        assert!(pages.get::<8>(0x5_0000_u32).is_none());
        assert!(pages.add(0xf_ffff));
        assert!(!pages.add(0xf_ffff));
        assert_eq!(pages.get(u32::MAX - 3), Some(&[0; 4]));
        assert_eq!(pages.get::<8>(u32::MAX - 3), None, "it ends with the page");
        *pages.get_mut(0xffff_f000).expect("it is there") = [1, 2];
        assert_eq!(pages.get(0xffff_f000), Some(&[1, 2, 0, 0]));
        assert_eq!(pages.count(), 1);
        assert!(pages.remove(0xf_ffff));
        assert!(!pages.remove(0xf_ffff));
        assert!(!pages.has(0xf_ffff));
    }

    #[test]
    fn a_clone_keeps_what_it_had() {
        for share in [false, true] {
            let mut pages = Pages::default();
            pages.add(3);
            *pages.get_mut(3 * 4096).expect("it is there") = [1];
            if share {
                pages.share();
            }
            let mut clone = pages.clone();
            *pages.get_mut(3 * 4096).expect("it is there") = [2];
            *clone.get_mut(3 * 4096 + 1).expect("it is there") = [3];
            assert_eq!(pages.get(3 * 4096), Some(&[2, 0]));
            assert_eq!(clone.get(3 * 4096), Some(&[1, 3]));
        }
    }
}
