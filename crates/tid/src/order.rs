//! Every ordering that is stronger than relaxed, by name. Under loom each can be weakened, and
//! `tests/loom.rs` has a model that fails when it is.

use std::sync::atomic::Ordering;

macro_rules! orderings {
    ($($(#[$doc:meta])* $name:ident: $order:ident;)*) => {
        /// The names of all of them.
        #[cfg(loom)]
        pub const NAMES: &[&str] = &[$(stringify!($name)),*];

        $(
            $(#[$doc])*
            #[inline(always)]
            pub(crate) fn $name() -> Ordering {
                #[cfg(loom)]
                if is_weakened(stringify!($name)) {
                    return Ordering::Relaxed;
                }
                Ordering::$order
            }
        )*
    };
}

orderings! {
    /// The table is enabled: who loads the pointer sees what it leads to.
    live_publish: Release;
    /// See [`live_publish`].
    live_load: Acquire;
    /// A new directory is published, with the pages of the old one.
    directory_publish: Release;
    /// See [`directory_publish`].
    directory_load: Acquire;
    /// A new page is published, all empty.
    page_publish: Release;
    /// A page goes; who sees that sees its entries in the sparse part.
    page_unlink: Release;
    /// See [`page_publish`] and [`page_unlink`].
    page_load: Acquire;
    /// A value is published in a page: who finds it sees what it leads to.
    slot_publish: Release;
    /// See [`slot_publish`].
    slot_load: Acquire;
    /// A new array is published, with the entries of the old one.
    array_publish: Release;
    /// See [`array_publish`].
    array_load: Acquire;
    /// A value is published in the sparse part.
    sparse_publish: Release;
    /// See [`sparse_publish`].
    sparse_load: Acquire;
    /// A writer gets a page's lock, and sees what the one before it did.
    page_lock: Acquire;
    /// A writer gives a page's lock back.
    page_unlock: Release;
}

#[cfg(loom)]
static WEAKENED: std::sync::Mutex<Option<&'static str>> = std::sync::Mutex::new(None);

#[cfg(loom)]
fn weakened() -> std::sync::MutexGuard<'static, Option<&'static str>> {
    WEAKENED.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(loom)]
fn is_weakened(name: &str) -> bool {
    *weakened() == Some(name)
}

/// Makes one of [`NAMES`] relaxed, for all models that run until it is set to another or none.
#[cfg(loom)]
pub fn weaken(name: Option<&'static str>) {
    *weakened() = name;
}
