//! When memory that readers may hold can be freed: the seam to the reclamation library.
//!
//! The table needs three things of it: a section, in which a thread is a reader; loads of pointers
//! in a section; and "free this when every section that is open now has closed". The library is
//! seize. Under `--cfg loom` a model takes its place that does the same in the plainest way, since
//! loom cannot see into seize: what the models prove is the table, given a reclaimer that keeps its
//! word.

/// How something that was retired is freed.
pub(crate) trait Free<T> {
    /// # Safety
    /// No one else has `retired` any more, and it is freed once.
    unsafe fn free(retired: *mut T);
}

/// Drops a `Box`.
pub(crate) struct DropBox;

impl<T> Free<T> for DropBox {
    unsafe fn free(retired: *mut T) {
        // SAFETY: with this policy only what `Box::into_raw` gave is retired, and nobody else has
        // it, as the caller says.
        drop(unsafe { Box::from_raw(retired) });
    }
}

#[cfg(not(loom))]
mod imp {
    use std::sync::atomic::{AtomicPtr, Ordering};

    use seize::{Collector, Guard as _, LocalGuard};

    use super::Free;

    /// At least as many as threads that have a section open, most often.
    const PADDING: usize = 64;

    #[derive(Default)]
    pub(crate) struct Domain(Collector);

    pub(crate) struct Section<'d>(LocalGuard<'d>);

    impl Domain {
        #[inline]
        pub(crate) fn enter(&self) -> Section<'_> {
            Section(self.0.enter())
        }
    }

    impl Section<'_> {
        /// Loads a pointer to something that may be retired; what it leads to stays while the
        /// section is open. seize needs `SeqCst` here for its own sake and takes that, whatever
        /// the caller needs; on x86 and Arm it costs what `Acquire` does.
        #[inline(always)]
        pub(crate) fn load<T>(&self, pointer: &AtomicPtr<T>, order: Ordering) -> *mut T {
            self.0.protect(pointer, order)
        }

        /// Frees `retired` when all sections that are open now have closed.
        ///
        /// # Safety
        /// A section that opens later does not come to it, it is retired once, and `F` may free it
        /// on any thread.
        pub(crate) unsafe fn retire<T, F: Free<T>>(&self, retired: *mut T) {
            unsafe fn free<T, F: Free<T>>(retired: *mut T, _: &Collector) {
                // SAFETY: seize calls this once, after the last section that may have it.
                unsafe { F::free(retired) }
            }
            // SAFETY: as the caller says.
            unsafe { self.0.defer_retire(retired, free::<T, F>) }
        }

        /// Begins to wait for the sections that may hold what this thread has retired, without
        /// waiting for more of it.
        pub(crate) fn hand_over(&self) {
            unsafe fn nothing(_: *mut u8, _: &Collector) {}
            // seize wants an entry in its batch for each thread that has a section open.
            for _ in 0..PADDING {
                // SAFETY: it is never looked at.
                unsafe { self.0.defer_retire(std::ptr::NonNull::dangling().as_ptr(), nothing) };
            }
            self.0.flush();
        }
    }
}

#[cfg(loom)]
mod imp {
    use std::sync::atomic::Ordering;

    use super::Free;
    use crate::sync::{AtomicPtr, Mutex, lock};

    /// What was retired, and the sections that were open then and still are.
    struct Retired {
        what: *mut (),
        free: unsafe fn(*mut ()),
        open: Vec<u64>,
    }

    // SAFETY: what is retired may be freed on any thread, as whoever retires it says.
    unsafe impl Send for Retired {}

    #[derive(Default)]
    struct State {
        next: u64,
        open: Vec<u64>,
        retired: Vec<Retired>,
    }

    pub(crate) struct Domain(Mutex<State>);

    pub(crate) struct Section<'d> {
        domain: &'d Domain,
        id: u64,
    }

    impl Default for Domain {
        fn default() -> Self {
            Self(Mutex::new(State::default()))
        }
    }

    impl Domain {
        pub(crate) fn enter(&self) -> Section<'_> {
            let mut state = lock(&self.0);
            let id = state.next;
            state.next += 1;
            state.open.push(id);
            Section { domain: self, id }
        }
    }

    impl Section<'_> {
        pub(crate) fn load<T>(&self, pointer: &AtomicPtr<T>, order: Ordering) -> *mut T {
            pointer.load(order)
        }

        /// # Safety
        /// As of the other one.
        pub(crate) unsafe fn retire<T, F: Free<T>>(&self, retired: *mut T) {
            unsafe fn free<T, F: Free<T>>(retired: *mut ()) {
                // SAFETY: as of the other one.
                unsafe { F::free(retired.cast()) }
            }
            let mut state = lock(&self.domain.0);
            let open = state.open.clone();
            state.retired.push(Retired { what: retired.cast(), free: free::<T, F>, open });
        }

        pub(crate) fn hand_over(&self) {}
    }

    impl Drop for Section<'_> {
        fn drop(&mut self) {
            let mut state = lock(&self.domain.0);
            state.open.retain(|&open| open != self.id);
            for retired in &mut state.retired {
                retired.open.retain(|&open| open != self.id);
            }
            let (free, kept) = std::mem::take(&mut state.retired)
                .into_iter()
                .partition(|retired: &Retired| retired.open.is_empty());
            state.retired = kept;
            drop(state);
            let free: Vec<Retired> = free;
            for Retired { what, free, .. } in free {
                // SAFETY: the last section that was open when it was retired has closed.
                unsafe { free(what) }
            }
        }
    }

    impl Drop for Domain {
        fn drop(&mut self) {
            let retired = std::mem::take(&mut lock(&self.0).retired);
            for Retired { what, free, .. } in retired {
                // SAFETY: nobody has the domain any more, so no section is open.
                unsafe { free(what) }
            }
        }
    }
}

pub(crate) use imp::{Domain, Section};
