//! What the table does when memory cannot be had. This has a binary of its own because it needs an
//! allocator that can be told to fail.
#![cfg(not(loom))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;

use scx_tid::{InsertError, NoMemory, Table, Tid};

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

/// Inserts `tid` with 0 allocations granted, then 1, and so on, until it succeeds; how many it took.
/// Each failure must leave the table as it was.
fn insert_with_the_fewest(table: &Table<u32>, tid: Tid, value: u32) -> usize {
    let before: Vec<_> = table.pin().iter().collect();
    for allocations in 0.. {
        let pinned = table.pin();
        let Err(error) = with(allocations, || pinned.insert(tid, value)) else {
            return allocations;
        };
        assert!(matches!(error, InsertError::NoMemory { .. }));
        assert_eq!(
            error.to_string(),
            format!("no memory to put task id {tid} in the table, which is unchanged")
        );
        assert_eq!(error.into_value(), value);
        assert!(pinned.iter().eq(before.iter().copied()));
    }
    unreachable!("it succeeds with enough memory")
}

#[test]
fn a_table_that_cannot_be_had() {
    let table = Table::<u32>::new();
    for allocations in 0..3 {
        assert_eq!(with(allocations, || table.enable()), Err(NoMemory));
        assert!(!table.is_enabled());
    }
    with(3, || table.enable()).unwrap();
    assert!(table.is_enabled());
}

#[test]
fn insert_hands_the_value_back() {
    let table = Table::enabled().unwrap();
    // Retiring is seize's, and may take memory of its own.
    table.pin().flush();
    assert!(insert_with_the_fewest(&table, tid(1), 7) > 0, "a new page");
    assert_eq!(insert_with_the_fewest(&table, tid(2), 8), 0, "a page that is there");
    assert!(insert_with_the_fewest(&table, tid(5_000_000), 9) > 0, "the sparse part");
    assert_eq!(table.pin().len(), 3);
}

#[test]
fn remove_needs_no_memory() {
    let table = Table::enabled().unwrap();
    let pinned = table.pin();
    for n in 1..=64 * 1024 {
        pinned.insert(tid(n), n as u32).unwrap();
    }
    // What it would move to save memory stays where it is when there is none to be had.
    for n in (1..=1024).filter(|n| n % 100 != 0) {
        assert_eq!(with(0, || pinned.remove(tid(n))), Some(n as u32));
    }
    assert_eq!(pinned.len(), 63 * 1024 + 10);
    for n in (100..=1024).step_by(100) {
        assert_eq!(pinned.get(tid(n)), Some(n as u32));
        assert_eq!(with(0, || pinned.remove(tid(n))), Some(n as u32));
    }
}
