//! Ids, and who gets which.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::Ordering;

use crate::sync::AtomicU64;

/// How many ids an [`Allocator`] takes from the [`Cursor`] at once; `SCX_TID_CHUNK` in Linux 7.2.
pub const CHUNK: u64 = 1024;

/// A task's id: `p->scx.tid` in Linux 7.2. Never 0, so `Option<Tid>` is as small as the id.
///
/// Ids order as numbers do. That is the order of fork among the tasks of one CPU only: each CPU
/// counts through chunks of its own.
///
/// ```
/// use scx_tid::Tid;
///
/// let tid = Tid::new(1025).unwrap();
/// assert_eq!(tid.get(), 1025);
/// assert_eq!(tid.to_string(), "1025");
/// assert_eq!(Tid::new(0), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Tid(NonZeroU64);

impl Tid {
    /// The id with this number, or nothing for 0, which is no task's.
    ///
    /// This makes no id valid: it is for numbers that come from somewhere else, such as a
    /// scheduler's map. Whether a task has the id, a [`Table`](crate::Table) knows.
    pub const fn new(tid: u64) -> Option<Self> {
        match NonZeroU64::new(tid) {
            Some(tid) => Some(Self(tid)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// No id is left, and none will be: see [`Allocator::alloc`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no task id is left: the cursor has no whole chunk of {CHUNK} before 2^64; ids are never reused, so only a new cursor has more"
)]
pub struct Exhausted;

/// Where the next chunk of ids starts: `scx_tid_cursor` in Linux 7.2. It starts at 1 and only goes
/// up.
///
/// All the [`Allocator`]s whose ids are to differ take from one cursor, from any number of threads.
/// A clone is a cursor of its own at the same position: clone it together with its allocators, as a
/// simulator does with its whole state, and each copy goes on without repeating an id of its own.
///
/// ```
/// use scx_tid::{Allocator, CHUNK, Cursor};
///
/// let cursor = Cursor::new();
/// assert_eq!(cursor.position(), 1);
/// Allocator::new().alloc(&cursor)?;
/// assert_eq!(cursor.position(), 1 + CHUNK);
/// assert_eq!(cursor.clone().position(), cursor.position());
/// # Ok::<(), scx_tid::Exhausted>(())
/// ```
#[derive(Debug)]
pub struct Cursor {
    next: AtomicU64,
}

impl Cursor {
    /// A cursor at 1, as at boot.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self::starting_at(1)
    }

    /// The same for loom, whose atomics are made at run time.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self::starting_at(1)
    }

    /// A cursor that has everything before `first` behind it. It makes the end of the ids testable.
    /// 0 is no id, so a cursor at 0 starts at 1.
    ///
    /// ```
    /// use scx_tid::{Allocator, Cursor, Exhausted};
    ///
    /// let cursor = Cursor::starting_at(u64::MAX);
    /// assert_eq!(Allocator::new().alloc(&cursor), Err(Exhausted));
    /// ```
    #[cfg(not(loom))]
    pub const fn starting_at(first: u64) -> Self {
        Self { next: AtomicU64::new(if first == 0 { 1 } else { first }) }
    }

    /// The same for loom.
    #[cfg(loom)]
    pub fn starting_at(first: u64) -> Self {
        Self { next: AtomicU64::new(if first == 0 { 1 } else { first }) }
    }

    /// The first id of the next chunk.
    pub fn position(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// How many ids the cursor has behind it: all that were given to allocators, whether a task got
    /// them or not, and those that [`starting_at`](Self::starting_at) skipped.
    pub fn taken(&self) -> u64 {
        self.position() - 1
    }

    /// Takes a chunk and answers with its first id.
    fn take_chunk(&self) -> Result<u64, Exhausted> {
        // Relaxed is enough: that no two callers get one chunk follows from the update being
        // atomic, and no other memory is published through the cursor.
        self.next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| next.checked_add(CHUNK))
            .map_err(|_| Exhausted)
    }
}

impl Default for Cursor {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for Cursor {
    fn clone(&self) -> Self {
        Self { next: AtomicU64::new(self.position()) }
    }
}

/// A CPU's share of the ids, or a thread's: `scx_tid_alloc` in Linux 7.2. It starts empty.
///
/// Each share is used with one [`Cursor`] throughout. A clone gives the same ids as the original
/// does, so it belongs with a clone of the cursor and of the table: to the copy of a whole state.
#[derive(Clone, Debug, Default)]
pub struct Allocator {
    next: u64,
    end: u64,
}

impl Allocator {
    /// A share that takes its first chunk when it is first asked for an id.
    pub const fn new() -> Self {
        Self { next: 0, end: 0 }
    }

    /// An id that no allocator of this cursor has given before: `scx_alloc_tid()` in Linux 7.2.
    ///
    /// The ids of a share are consecutive within a chunk of [`CHUNK`] and go up from chunk to chunk.
    /// The cursor moves once a chunk.
    ///
    /// # Errors
    ///
    /// [`Exhausted`] when the chunk is used up and the cursor has no other: a chunk must end at
    /// `u64::MAX` or before, and a shorter one is not given. Nothing changes then, so every later
    /// call fails too. (The kernel's cursor would wrap, after which ids repeat and one of them
    /// is 0.)
    ///
    /// # Cost
    ///
    /// An addition and a comparison; one atomic update in each [`CHUNK`] calls.
    ///
    /// ```
    /// use scx_tid::{Allocator, Cursor};
    ///
    /// let cursor = Cursor::new();
    /// let (mut cpu0, mut cpu1) = (Allocator::new(), Allocator::new());
    /// assert_eq!(cpu0.alloc(&cursor)?.get(), 1);
    /// assert_eq!(cpu1.alloc(&cursor)?.get(), 1025);
    /// assert_eq!(cpu0.alloc(&cursor)?.get(), 2);
    /// # Ok::<(), scx_tid::Exhausted>(())
    /// ```
    #[inline]
    pub fn alloc(&mut self, cursor: &Cursor) -> Result<Tid, Exhausted> {
        if self.next >= self.end {
            self.next = cursor.take_chunk()?;
            self.end = self.next + CHUNK;
        }
        let tid = Tid::new(self.next).ok_or(Exhausted)?;
        self.next += 1;
        Ok(tid)
    }

    /// How many ids are left before the cursor moves.
    ///
    /// ```
    /// use scx_tid::{Allocator, CHUNK, Cursor};
    ///
    /// let mut cpu = Allocator::new();
    /// assert_eq!(cpu.remaining(), 0);
    /// cpu.alloc(&Cursor::new())?;
    /// assert_eq!(cpu.remaining(), CHUNK - 1);
    /// # Ok::<(), scx_tid::Exhausted>(())
    /// ```
    pub const fn remaining(&self) -> u64 {
        self.end - self.next
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn starts_at_one_and_counts() {
        let cursor = Cursor::new();
        let mut cpu = Allocator::new();
        for expected in 1..=3 * CHUNK {
            assert_eq!(cpu.alloc(&cursor).unwrap().get(), expected);
            assert_eq!(cursor.taken(), expected.div_ceil(CHUNK) * CHUNK);
        }
    }

    #[test]
    fn a_cursor_at_zero_never_gives_zero() {
        let cursor = Cursor::starting_at(0);
        assert_eq!(cursor.position(), 1);
        assert_eq!(Allocator::new().alloc(&cursor).unwrap().get(), 1);
    }

    #[test]
    fn the_last_chunk_is_whole_and_the_end_is_final() {
        let cursor = Cursor::starting_at(u64::MAX - CHUNK);
        let (mut a, mut b) = (Allocator::new(), Allocator::new());
        for i in 0..CHUNK {
            assert_eq!(a.alloc(&cursor).unwrap().get(), u64::MAX - CHUNK + i);
        }
        for _ in 0..3 * CHUNK {
            assert_eq!(a.alloc(&cursor), Err(Exhausted));
            assert_eq!(b.alloc(&cursor), Err(Exhausted));
            assert_eq!(cursor.position(), u64::MAX);
        }
    }

    #[test]
    fn a_partial_chunk_is_not_given() {
        let cursor = Cursor::starting_at(u64::MAX - CHUNK + 1);
        assert_eq!(Allocator::new().alloc(&cursor), Err(Exhausted));
        assert_eq!(cursor.position(), u64::MAX - CHUNK + 1);
    }

    #[test]
    fn a_copied_state_goes_on_by_itself() {
        let cursor = Cursor::new();
        let mut cpu = Allocator::new();
        cpu.alloc(&cursor).unwrap();
        let (cursor2, mut cpu2) = (cursor.clone(), cpu.clone());
        for _ in 0..2 * CHUNK {
            assert_eq!(cpu.alloc(&cursor), cpu2.alloc(&cursor2));
        }
        cpu.alloc(&cursor).unwrap();
        assert_eq!(cursor.position(), cursor2.position());
        Allocator::new().alloc(&cursor).unwrap();
        assert_ne!(cursor.position(), cursor2.position());
    }

    #[test]
    fn threads_share_a_cursor() {
        let cursor = Cursor::new();
        let mut all: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut share = Allocator::new();
                        (0..10 * CHUNK)
                            .map(|_| share.alloc(&cursor).unwrap().get())
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
        });
        all.sort_unstable();
        assert!(all.iter().copied().eq(1..=40 * CHUNK));
    }
}
