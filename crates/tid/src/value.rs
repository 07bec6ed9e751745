//! What a table can hold: anything that fits a word.

use std::num::NonZeroU64;
use std::ptr;
use std::sync::Arc;

use crate::reclaim::{DropBox, Free, Section};

/// What a [`Table`](crate::Table) leads to: a pointer, as in the kernel, or a number.
///
/// | value | a lookup gives | when it was removed and no reader can hold it |
/// |---|---|---|
/// | `Box<T>` | `&T` | is dropped |
/// | `Arc<T>` | `&T` | gives its count back |
/// | `&'static T` | `&T` | nothing |
/// | `u32` | `u32` | nothing |
/// | `NonZeroU64` | `NonZeroU64` | nothing |
///
/// A larger value goes into a `Box`: the table moves its entries about, and a reader's reference
/// must stay where it is. The trait is sealed.
pub trait Value: sealed::Word {
    /// What a lookup gives, for as long as its section lasts.
    type Ref<'s>: Copy;

    #[doc(hidden)]
    /// # Safety
    /// `word` is from `into_word`, and is not freed in `'s`.
    unsafe fn borrow<'s>(word: *mut ()) -> Self::Ref<'s>;
}

/// A [`Value`] of which there can be two, so that its table can be cloned.
pub trait Shared: Value {
    #[doc(hidden)]
    /// # Safety
    /// `word` is from `into_word`, and is not freed.
    unsafe fn again(word: *mut ()) -> Self;
}

pub(crate) mod sealed {
    use super::Section;

    /// # Safety
    /// `into_word` gives no null, and `from_word` reverses it.
    pub unsafe trait Word: Send + Sync + Sized + 'static {
        fn into_word(self) -> *mut ();

        /// # Safety
        /// `word` is from `into_word`, and whoever calls this owns it.
        unsafe fn from_word(word: *mut ()) -> Self;

        /// Drops the value when no section can hold it any more.
        ///
        /// # Safety
        /// `word` is from `into_word`, owned by the caller, and not to be found any more.
        #[allow(private_interfaces)]
        unsafe fn retire(word: *mut (), section: &Section<'_>);
    }
}

// SAFETY: a Box's pointer is not null.
unsafe impl<T: Send + Sync + 'static> sealed::Word for Box<T> {
    fn into_word(self) -> *mut () {
        Box::into_raw(self).cast()
    }

    unsafe fn from_word(word: *mut ()) -> Self {
        // SAFETY: from `into_raw`, and owned by the caller.
        unsafe { Box::from_raw(word.cast()) }
    }

    #[allow(private_interfaces)]
    unsafe fn retire(word: *mut (), section: &Section<'_>) {
        // SAFETY: as the caller says; `T: Send`, so that any thread may drop it.
        unsafe { section.retire::<T, DropBox>(word.cast()) }
    }
}

impl<T: Send + Sync + 'static> Value for Box<T> {
    type Ref<'s> = &'s T;

    #[inline(always)]
    unsafe fn borrow<'s>(word: *mut ()) -> Self::Ref<'s> {
        // SAFETY: the word leads to a T that lives for `'s`, and nobody changes it.
        unsafe { &*word.cast() }
    }
}

/// Gives an `Arc`'s count back.
struct DropArc;

impl<T> Free<T> for DropArc {
    unsafe fn free(retired: *mut T) {
        // SAFETY: with this policy only what `Arc::into_raw` gave is retired.
        drop(unsafe { Arc::from_raw(retired) });
    }
}

// SAFETY: an Arc's pointer is not null.
unsafe impl<T: Send + Sync + 'static> sealed::Word for Arc<T> {
    fn into_word(self) -> *mut () {
        Arc::into_raw(self).cast_mut().cast()
    }

    unsafe fn from_word(word: *mut ()) -> Self {
        // SAFETY: from `into_raw`, and owned by the caller.
        unsafe { Arc::from_raw(word.cast::<T>()) }
    }

    #[allow(private_interfaces)]
    unsafe fn retire(word: *mut (), section: &Section<'_>) {
        // SAFETY: as the caller says; `T: Send + Sync`, so that any thread may drop it.
        unsafe { section.retire::<T, DropArc>(word.cast()) }
    }
}

impl<T: Send + Sync + 'static> Value for Arc<T> {
    type Ref<'s> = &'s T;

    #[inline(always)]
    unsafe fn borrow<'s>(word: *mut ()) -> Self::Ref<'s> {
        // SAFETY: the table's count keeps the T for `'s`.
        unsafe { &*word.cast() }
    }
}

impl<T: Send + Sync + 'static> Shared for Arc<T> {
    unsafe fn again(word: *mut ()) -> Self {
        // SAFETY: from `into_raw`, and the table's count is there; the new Arc gets one more.
        unsafe {
            Arc::increment_strong_count(word.cast::<T>());
            Arc::from_raw(word.cast::<T>())
        }
    }
}

/// Values that own nothing.
macro_rules! plain {
    ($([$($generics:tt)*] $type:ty => $ref:ty: |$value:ident| $into:expr, |$word:ident| $from:expr;)*) => {$(
        // SAFETY: `into` gives no null, see there, and `from` reverses it.
        unsafe impl<$($generics)*> sealed::Word for $type {
            fn into_word(self) -> *mut () {
                let $value = self;
                $into
            }

            unsafe fn from_word($word: *mut ()) -> Self {
                $from
            }

            #[allow(private_interfaces)]
            unsafe fn retire(_: *mut (), _: &Section<'_>) {}
        }

        impl<$($generics)*> Value for $type {
            type Ref<'s> = $ref;

            #[inline(always)]
            unsafe fn borrow<'s>($word: *mut ()) -> Self::Ref<'s> {
                $from
            }
        }

        impl<$($generics)*> Shared for $type {
            unsafe fn again($word: *mut ()) -> Self {
                $from
            }
        }
    )*};
}

plain! {
    // One more, so that 0 is not null. There is room: see the assertion below.
    [] u32 => u32:
        |value| ptr::without_provenance_mut(value as usize + 1),
        |word| (word.addr() - 1) as u32;
    [T: Send + Sync + 'static] &'static T => &'static T:
        |value| ptr::from_ref(value).cast_mut().cast(),
        |word| {
            // SAFETY: the word was made of such a reference.
            unsafe { &*word.cast::<T>() }
        };
}

#[cfg(target_pointer_width = "64")]
plain! {
    [] NonZeroU64 => NonZeroU64:
        |value| ptr::without_provenance_mut(value.get() as usize),
        |word| {
            // SAFETY: the word was made of a number that is not 0.
            unsafe { NonZeroU64::new_unchecked(word.addr() as u64) }
        };
}

const _: () = assert!(usize::BITS > u32::BITS, "u32::MAX + 1 needs a larger word");
