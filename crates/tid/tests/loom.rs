//! Every pair of operations that can race, in every order that the memory model allows, small as
//! loom needs it: pages of two ids, one shard, no page kept that has fewer than two ids.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p scx_tid --test loom --release`, as
//! `cargo xtask test` does.
#![cfg(loom)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::thread;
use scx_tid::{Allocator, Cursor, InsertError, ORDERINGS, Table, Tid, weaken};

/// What entries lead to. loom sees each access: one that does not happen after the write in
/// [`Task::new`], or comes after the drop, fails the model.
struct Task {
    tid: UnsafeCell<u64>,
}

// SAFETY: loom checks every access.
unsafe impl Sync for Task {}

impl Task {
    fn new(tid: u64) -> Box<Self> {
        // loom's clock ticks at atomic operations. Without one here, this write would count as part
        // of the one before, which others may have synchronized with.
        AtomicUsize::new(0).store(1, Relaxed);
        let task = Self { tid: UnsafeCell::new(0) };
        // SAFETY: nobody else has it.
        task.tid.with_mut(|p| unsafe { *p = tid });
        Box::new(task)
    }

    fn tid(&self) -> u64 {
        // SAFETY: it is not written any more.
        self.tid.with(|p| unsafe { *p })
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // SAFETY: whoever drops it has it alone; loom checks that.
        self.tid.with_mut(|p| unsafe { *p = u64::MAX });
    }
}

fn tid(n: u64) -> Tid {
    Tid::new(n).unwrap()
}

type Tasks = Table<Box<Task>>;

fn table(tids: &[u64]) -> Arc<Tasks> {
    let table = Tasks::enabled().unwrap();
    for &n in tids {
        insert(&table, n);
    }
    Arc::new(table)
}

/// Whether `n` was inserted, and not there already.
fn put(table: &Tasks, n: u64) -> bool {
    table.pin().insert(tid(n), Task::new(n)).is_ok()
}

fn insert(table: &Tasks, n: u64) {
    assert!(put(table, n));
}

fn remove(table: &Tasks, n: u64) -> bool {
    table.pin().remove(tid(n)).map(Task::tid).is_some()
}

/// Whether `n` is there; what it leads to must be its own.
fn get(table: &Tasks, n: u64) -> bool {
    let section = table.pin();
    let found = section.get(tid(n));
    if let Some(task) = found {
        assert_eq!(task.tid(), n);
    }
    found.is_some()
}

fn model(f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    // Enough for every failure that was made on purpose; without a bound it takes hours.
    let f = std::sync::Arc::new(f);
    builder.check(move || {
        let f = std::sync::Arc::clone(&f);
        spawn(move || f()).join().unwrap();
    });
}

/// A thread with more stack than loom gives by itself.
fn spawn<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> thread::JoinHandle<R> {
    thread::Builder::new().stack_size(1 << 18).spawn(f).unwrap()
}

/// Runs `f` beside the rest of the model.
fn beside<R: Send + 'static>(
    table: &Arc<Tasks>,
    f: impl FnOnce(&Tasks) -> R + Send + 'static,
) -> thread::JoinHandle<R> {
    let table = Arc::clone(table);
    spawn(move || f(&table))
}

/// A page comes into being, and an entry in it.
fn insert_lookup() {
    model(|| {
        let table = table(&[]);
        let writer = beside(&table, |table| insert(table, 1));
        get(&table, 1);
        writer.join().unwrap();
        assert!(get(&table, 1));
    });
}

/// An entry comes into the sparse part, and with it an array.
fn sparse_insert_lookup() {
    model(|| {
        let table = table(&[]);
        let writer = beside(&table, |table| insert(table, 2));
        get(&table, 2);
        writer.join().unwrap();
        assert!(get(&table, 2));
    });
}

/// An entry comes into an array that is there.
fn sparse_second_insert_lookup() {
    model(|| {
        let table = table(&[2]);
        let writer = beside(&table, |table| insert(table, 6));
        get(&table, 6);
        assert!(get(&table, 2));
        writer.join().unwrap();
    });
}

/// An entry comes into a page that is there.
fn second_insert_lookup() {
    model(|| {
        let table = table(&[1]);
        let writer = beside(&table, |table| insert(table, 2));
        get(&table, 2);
        assert!(get(&table, 1));
        writer.join().unwrap();
    });
}

/// A reader holds what is removed.
fn remove_lookup() {
    model(|| {
        let table = table(&[1, 2]);
        let writer = beside(&table, |table| assert!(remove(table, 1)));
        get(&table, 1);
        writer.join().unwrap();
        assert!(!get(&table, 1));
    });
}

/// A page that has too few entries goes when another one comes, and the survivor is never missed.
fn compaction_lookup() {
    model(|| {
        let table = table(&[1, 2]);
        let writer = beside(&table, |table| {
            assert!(remove(table, 1));
            insert(table, 3);
        });
        assert!(get(&table, 2));
        writer.join().unwrap();
        assert!(get(&table, 2) && get(&table, 3));
    });
}

/// The same with an array that is there, so that no array is published with the survivor.
fn compaction_into_an_array_lookup() {
    model(|| {
        let table = table(&[1, 2, 6]);
        let writer = beside(&table, |table| {
            assert!(remove(table, 1));
            insert(table, 3);
        });
        assert!(get(&table, 2));
        writer.join().unwrap();
    });
}

/// A writer at a page that goes: it looks again.
fn compaction_insert() {
    model(|| {
        let table = table(&[1]);
        let writer = beside(&table, |table| insert(table, 3));
        insert(&table, 2);
        writer.join().unwrap();
        assert!(get(&table, 1) && get(&table, 2) && get(&table, 3));
    });
}

/// One id is removed by two while it moves.
fn compaction_remove() {
    model(|| {
        let table = table(&[1, 2]);
        let writer = beside(&table, |table| {
            assert!(remove(table, 1));
            insert(table, 3);
        });
        assert!(remove(&table, 2));
        writer.join().unwrap();
        assert!(!get(&table, 2));
        assert_eq!(table.pin().len(), 1);
    });
}

/// A chunk that gives its page up gets another one, beside a lookup of the id that moved.
fn compaction_and_a_new_page_lookup() {
    model(|| {
        let table = table(&[1, 2]);
        let writer = beside(&table, |table| {
            assert!(remove(table, 1));
            insert(table, 3);
            insert(table, 1);
        });
        assert!(get(&table, 2));
        writer.join().unwrap();
        assert!(get(&table, 1) && get(&table, 2));
    });
}

/// The directory's window moves, and nothing is missed.
fn grow_lookup() {
    model(|| {
        let table = table(&[1, 2]);
        let writer = beside(&table, |table| insert(table, 5));
        get(&table, 5);
        assert!(get(&table, 1));
        writer.join().unwrap();
        assert!(get(&table, 5));
    });
}

/// An array of the sparse part is replaced, and nothing is missed.
fn sparse_grow_lookup() {
    model(|| {
        let table = table(&[2, 6, 12, 16, 22, 26]);
        let writer = beside(&table, |table| insert(table, 32));
        assert!(get(&table, 6));
        writer.join().unwrap();
        assert!(get(&table, 32));
    });
}

/// The table is enabled beside a reader.
fn enable_lookup() {
    model(|| {
        let table = Arc::new(Tasks::new());
        let writer = beside(&table, |table| {
            table.enable().unwrap();
            insert(table, 1);
        });
        get(&table, 1);
        writer.join().unwrap();
        assert!(get(&table, 1));
    });
}

/// The table goes beside a reader.
fn disable_lookup() {
    model(|| {
        let table = table(&[1, 4]);
        let writer = beside(&table, Tasks::disable);
        get(&table, 1);
        get(&table, 4);
        writer.join().unwrap();
        assert!(!get(&table, 1));
    });
}

/// The table goes beside a writer: what it inserts is dropped, or comes back.
fn disable_insert() {
    model(|| {
        let table = table(&[1]);
        let other = beside(&table, Tasks::disable);
        match table.pin().insert(tid(2), Task::new(2)) {
            Ok(()) => {}
            Err(error) => {
                assert!(matches!(error, InsertError::Disabled { .. }));
                assert_eq!(error.into_value().tid(), 2);
            }
        }
        other.join().unwrap();
        assert!(!get(&table, 2));
    });
}

/// Neighbours in a page: one goes, one comes.
fn remove_insert_of_neighbours() {
    model(|| {
        let table = table(&[1]);
        let other = beside(&table, |table| assert!(remove(table, 1)));
        insert(&table, 2);
        other.join().unwrap();
        assert!(!get(&table, 1) && get(&table, 2));
        assert_eq!(table.pin().len(), 1);
    });
}

/// One id, two inserters: one of them gets it.
fn duplicate_inserts() {
    model(|| {
        let table = table(&[1]);
        let other = beside(&table, |table| put(table, 2));
        let here = put(&table, 2);
        assert!(here != other.join().unwrap());
        assert_eq!(table.pin().len(), 2);
    });
}

/// The same where it goes to the sparse part, or its chunk gets a page meanwhile.
fn duplicate_sparse_inserts() {
    model(|| {
        let table = table(&[]);
        let other = beside(&table, |table| put(table, 4));
        let here = put(&table, 4);
        assert!(here != other.join().unwrap());
        assert!(get(&table, 4));
        assert_eq!(table.pin().len(), 1);
    });
}

/// The same where one of them makes the chunk's page, which the other has not seen.
fn duplicate_inserts_in_a_new_chunk() {
    model(|| {
        let table = table(&[]);
        let other = beside(&table, |table| {
            insert(table, 1);
            put(table, 2)
        });
        let here = put(&table, 2);
        assert!(here != other.join().unwrap());
        assert!(get(&table, 1) && get(&table, 2));
        assert_eq!(table.pin().len(), 2);
    });
}

/// One id, two removers: one of them gets it, also while it moves.
fn duplicate_removes() {
    model(|| {
        let table = table(&[1, 2]);
        let other = beside(&table, |table| {
            remove(table, 2);
        });
        assert!(remove(&table, 1));
        other.join().unwrap();
        assert!(!get(&table, 2));
        assert_eq!(table.pin().len(), 0);
    });
}

/// Two CPUs at one cursor.
fn allocator_handover() {
    model(|| {
        let cursor = Arc::new(Cursor::new());
        let take = |cursor: &Cursor| Allocator::new().alloc(cursor).unwrap().get();
        let other = {
            let cursor = Arc::clone(&cursor);
            spawn(move || take(&cursor))
        };
        let here = take(&cursor);
        let there = other.join().unwrap();
        assert_eq!((here.min(there), here.max(there)), (1, 1025));
    });
}

macro_rules! models {
    ($($name:ident),* $(,)?) => {
        mod holds {
            $(
                #[test]
                fn $name() {
                    let _one_at_a_time = super::quiet();
                    super::$name();
                }
            )*
        }
    };
}

models! {
    insert_lookup, sparse_insert_lookup, sparse_second_insert_lookup, second_insert_lookup,
    remove_lookup, compaction_lookup, compaction_into_an_array_lookup,
    compaction_insert, compaction_remove, compaction_and_a_new_page_lookup, grow_lookup,
    sparse_grow_lookup, enable_lookup, disable_lookup, disable_insert, remove_insert_of_neighbours,
    duplicate_inserts, duplicate_inserts_in_a_new_chunk, duplicate_sparse_inserts, duplicate_removes, allocator_handover,
}

/// What is weakened is so for all threads, so the tests take turns.
fn quiet() -> std::sync::MutexGuard<'static, ()> {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The model that fails when an ordering is weakened.
const NOTICED_BY: &[(&str, fn())] = &[
    ("live_publish", enable_lookup),
    ("live_load", enable_lookup),
    ("directory_publish", grow_lookup),
    ("directory_load", grow_lookup),
    ("page_publish", insert_lookup),
    ("page_unlink", compaction_into_an_array_lookup),
    ("page_load", insert_lookup),
    ("slot_publish", second_insert_lookup),
    ("slot_load", second_insert_lookup),
    ("array_publish", sparse_insert_lookup),
    ("array_load", sparse_insert_lookup),
    ("sparse_publish", sparse_second_insert_lookup),
    ("sparse_load", sparse_second_insert_lookup),
    ("page_lock", duplicate_inserts),
    ("page_unlock", duplicate_inserts),
];

#[test]
fn every_ordering_is_needed() {
    let _one_at_a_time = quiet();
    let named: Vec<_> = NOTICED_BY.iter().map(|(name, _)| *name).collect();
    assert_eq!(named, ORDERINGS, "each ordering needs a model that notices");
    let mut unnoticed = Vec::new();
    for (name, model) in NOTICED_BY {
        weaken(Some(name));
        let result = catch_unwind(AssertUnwindSafe(model));
        weaken(None);
        if result.is_ok() {
            unnoticed.push(*name);
        }
    }
    assert!(unnoticed.is_empty(), "weakened, and nothing failed: {unnoticed:?}");
}
