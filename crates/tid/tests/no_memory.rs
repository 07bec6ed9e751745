//! What the table does when memory cannot be had. This has a binary of its own because it needs an
//! allocator that can be told to fail.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;

use scx_tid::{InsertError, Table, Tid};

struct Failing;

thread_local! {
    /// How many more allocations of this thread succeed.
    static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn granted() -> bool {
    LEFT.try_with(|left| match left.get() {
        usize::MAX => true,
        0 => false,
        n => {
            left.set(n - 1);
            true
        }
    })
    .unwrap_or(true)
}

// SAFETY: every call goes to `System` as it came, or answers with the null that stands for failure.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `System`'s contract, which is the same.
        if granted() { unsafe { System.alloc(layout) } } else { ptr::null_mut() }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` is from `System`, as every block of this allocator.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: `block` is from `System`, as every block of this allocator.
        if granted() { unsafe { System.realloc(block, layout, size) } } else { ptr::null_mut() }
    }
}

#[global_allocator]
static ALLOCATOR: Failing = Failing;

/// Runs `f` with only `allocations` of memory to be had.
fn with<R>(allocations: usize, f: impl FnOnce() -> R) -> R {
    LEFT.set(allocations);
    let result = f();
    LEFT.set(usize::MAX);
    result
}

fn tid(n: u64) -> Tid {
    Tid::new(n).unwrap()
}

#[test]
fn insert_hands_the_value_back() {
    let mut table = Table::new();
    // The first insertion needs a page's values and the directory: let each of the two fail.
    for allocations in 0..2 {
        let error = with(allocations, || table.insert(tid(1), 7)).unwrap_err();
        assert!(matches!(error, InsertError::NoMemory { .. }));
        assert_eq!(error.into_value(), 7);
        assert!(table.is_empty());
    }
    with(2, || table.insert(tid(1), 7)).unwrap();

    // A page that is there but full.
    let error = with(0, || table.insert(tid(2), 8)).unwrap_err();
    assert!(matches!(error, InsertError::NoMemory { .. }));
    assert_eq!(error.to_string(), "no memory to put task id 2 in the table, which is unchanged");
    assert_eq!(table.iter().collect::<Vec<_>>(), [(tid(1), &7)]);
    table.insert(tid(2), 8).unwrap();
    assert_eq!(table.len(), 2);
}

#[test]
fn remove_needs_no_memory() {
    let mut table = Table::new();
    for n in 1..=64 * 1024 {
        table.insert(tid(n), n).unwrap();
    }
    for n in (1..=64 * 1024).filter(|n| n % 1000 != 0) {
        assert_eq!(with(0, || table.remove(tid(n))), Some(n));
    }
    assert_eq!(table.len(), 65);
    for n in (1000..=64 * 1024).step_by(1000) {
        assert_eq!(table.get(tid(n)), Some(&n));
        assert_eq!(with(0, || table.remove(tid(n))), Some(n));
    }
    assert!(table.is_empty());
}
