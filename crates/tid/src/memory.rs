//! Memory that may not be had: an answer in place of an abort.

use std::alloc::{Layout, alloc};

/// A slice of `len`, or nothing if there is no memory.
pub(crate) fn try_slice<T>(len: usize, element: impl FnMut() -> T) -> Option<Box<[T]>> {
    let mut slice = Vec::new();
    slice.try_reserve_exact(len).ok()?;
    slice.resize_with(len, element);
    Some(slice.into_boxed_slice())
}

/// A `Box`, or nothing if there is no memory.
pub(crate) fn try_box<T>(value: T) -> Option<Box<T>> {
    let layout = Layout::new::<T>();
    if layout.size() == 0 {
        return Some(Box::new(value));
    }
    // SAFETY: the layout's size is not 0.
    let place = unsafe { alloc(layout) }.cast::<T>();
    if place.is_null() {
        return None;
    }
    // SAFETY: it is memory for a T, from the allocator that Box uses, and holds one then.
    unsafe {
        place.write(value);
        Some(Box::from_raw(place))
    }
}
