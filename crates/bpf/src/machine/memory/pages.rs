//! Bytes of large regions: pages that come to be when they are written.

use std::sync::Arc;

/// Bytes of a page.
pub(super) const PAGE_SIZE: usize = 4096;
const LEAF: usize = 512;

/// One page. A shared one is copied before it is written.
///
/// Whether it is shared is said by a tag and not by a reference count, so that a store costs no
/// atomic instruction.
#[derive(Clone, Debug)]
enum Page {
    Own(Box<[u8; PAGE_SIZE]>),
    Shared(Arc<[u8; PAGE_SIZE]>),
}

impl Page {
    fn bytes(&self) -> &[u8; PAGE_SIZE] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8; PAGE_SIZE] {
        if let Self::Shared(bytes) = self {
            *self = Self::Own(Box::new(**bytes));
        }
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(_) => unreachable!("it was just made its own"),
        }
    }
}

type Leaf = Box<[Option<Page>]>;

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
        Some(self.leaves.get(page / LEAF)?.as_ref()?.get(page % LEAF)?.as_ref()?.bytes())
    }

    /// As [`Pages::page`], to be written.
    #[inline]
    pub(super) fn page_mut(&mut self, page: usize) -> Option<&mut [u8; PAGE_SIZE]> {
        let page = self.leaves.get_mut(page / LEAF)?.as_mut()?.get_mut(page % LEAF)?.as_mut()?;
        Some(page.bytes_mut())
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
        let leaf = self.leaves[leaf].get_or_insert_with(|| vec![None; LEAF].into_boxed_slice());
        let slot = &mut leaf[page % LEAF];
        let new = slot.is_none();
        if new {
            *slot = Some(Page::Own(Box::new([0; PAGE_SIZE])));
        }
        new
    }

    /// Drops a page. Returns whether it was there.
    pub(super) fn remove(&mut self, page: usize) -> bool {
        let leaf = self.leaves.get_mut(page / LEAF).and_then(Option::as_mut);
        leaf.is_some_and(|leaf| leaf[page % LEAF].take().is_some())
    }

    /// How many are there.
    pub(super) fn count(&self) -> usize {
        self.leaves.iter().flatten().flat_map(|leaf| leaf.iter()).flatten().count()
    }

    /// Makes clones from now on share all pages that are there now.
    pub(super) fn share(&mut self) {
        for page in self.leaves.iter_mut().flatten().flat_map(|leaf| leaf.iter_mut()).flatten() {
            if let Page::Own(bytes) = page {
                *page = Page::Shared(Arc::new(**bytes));
            }
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
