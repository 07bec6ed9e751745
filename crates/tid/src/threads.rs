//! Ids for plain threads, which need no handle.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use crate::{Allocator, Cursor, Exhausted, Tid};

thread_local! {
    /// This thread's share of each source that it has used and that is still there.
    static SHARES: RefCell<Vec<(Weak<Cursor>, Allocator)>> = const { RefCell::new(Vec::new()) };
}

/// A [`Cursor`], and an [`Allocator`] for each thread that asks. What is left of a thread's chunk
/// when it ends is lost, and given to nobody.
///
/// ```
/// use scx_tid::ThreadIds;
///
/// let ids = ThreadIds::new();
/// assert_eq!(ids.alloc()?.get(), 1);
/// let other = std::thread::scope(|scope| scope.spawn(|| ids.alloc()).join().unwrap())?;
/// assert_eq!(other.get(), 1025);
/// assert_eq!(ids.alloc()?.get(), 2);
/// # Ok::<(), scx_tid::Exhausted>(())
/// ```
#[derive(Debug, Default)]
pub struct ThreadIds {
    cursor: Arc<Cursor>,
}

impl ThreadIds {
    /// Ids from 1 up.
    pub fn new() -> Self {
        Self::default()
    }

    /// The cursor that all the threads share.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// An id that this source has not given before.
    ///
    /// # Errors
    /// [`Exhausted`], as [`Allocator::alloc`].
    ///
    /// # Cost
    /// That of [`Allocator::alloc`], and a search among the sources that this thread uses, most
    /// often one. A thread that is ending takes a chunk for each id.
    pub fn alloc(&self) -> Result<Tid, Exhausted> {
        SHARES
            .try_with(|shares| self.alloc_from(&mut shares.borrow_mut()))
            .unwrap_or_else(|_| Allocator::new().alloc(&self.cursor))
    }

    fn alloc_from(&self, shares: &mut Vec<(Weak<Cursor>, Allocator)>) -> Result<Tid, Exhausted> {
        // A Weak keeps the address from being used again, so it names the source.
        let own = |(cursor, _): &(Weak<Cursor>, _)| cursor.as_ptr() == Arc::as_ptr(&self.cursor);
        if let Some((_, share)) = shares.iter_mut().find(|share| own(share)) {
            return share.alloc(&self.cursor);
        }
        shares.retain(|(cursor, _)| cursor.strong_count() > 0);
        let mut share = Allocator::new();
        let tid = share.alloc(&self.cursor)?;
        shares.push((Arc::downgrade(&self.cursor), share));
        Ok(tid)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::CHUNK;

    #[test]
    fn sources_do_not_mix() {
        let (a, b) = (ThreadIds::new(), ThreadIds::new());
        for n in 1..=2 * CHUNK {
            assert_eq!(a.alloc().unwrap().get(), n);
            assert_eq!(b.alloc().unwrap().get(), n);
        }
    }

    #[test]
    fn a_source_that_is_gone_is_forgotten() {
        for _ in 0..100 {
            ThreadIds::new().alloc().unwrap();
        }
        SHARES.with(|shares| assert!(shares.borrow().len() <= 2));
    }

    #[test]
    fn threads_never_share_an_id() {
        let ids = ThreadIds::new();
        let mut all: Vec<u64> = std::thread::scope(|scope| {
            let thread = || (0..3 * CHUNK).map(|_| ids.alloc().unwrap().get()).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(thread)).collect();
            threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
        });
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len() as u64, 12 * CHUNK);
    }
}
