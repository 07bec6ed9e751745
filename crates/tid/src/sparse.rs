//! The survivors: ids whose chunks are nearly empty, in open-addressed arrays of (id, word), so
//! that one in a thousand costs a slot or two and a lookup one cache line.
//!
//! The part is in shards by chunk, each with a lock for writers. A slot's id is written once: an
//! array is never reordered, only replaced, so a reader cannot miss what is there all the time.
//!
//! The slots are in buckets of a cache line, which a lookup compares as a whole, without a branch
//! for each slot: a branch that waits for memory and is guessed wrong costs more than the memory.

use std::hint::select_unpredictable;
use std::ptr;
use std::sync::atomic::Ordering::Relaxed;

use crate::memory;
use crate::order;
use crate::reclaim::{DropBox, Section};
use crate::sync::{AtomicPtr, AtomicU64, Mutex, MutexGuard, Witness, lock};

#[cfg(not(loom))]
const SHARDS: usize = 64;
#[cfg(loom)]
const SHARDS: usize = 1;

/// So many new ids of one chunk in a row, and it gets a page.
#[cfg(not(loom))]
const ENOUGH: u32 = 16;
#[cfg(loom)]
const ENOUGH: u32 = 1;

/// An array this large is not made smaller.
const SMALL: usize = 64;

pub(crate) struct Sparse {
    arrays: [AtomicPtr<Array>; SHARDS],
    shards: [Mutex<Shard>; SHARDS],
}

/// What the writers of a shard know. On cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    live: usize,
    /// Slots with an id, whether it has a word or not.
    taken: usize,
    /// The highest chunk's number, plus one, of which an id was ever here.
    newest: u64,
    /// The chunk of the last new ids, and how many they were.
    streak: (u64, u32),
}

struct Array {
    witness: Witness,
    shift: u32,
    buckets: Box<[Bucket]>,
}

/// Filled from the first slot on.
#[repr(align(64))]
struct Bucket {
    /// 0 for a free slot.
    tids: [AtomicU64; SLOTS],
    /// What the ids lead to; null when it was removed.
    words: [AtomicPtr<()>; SLOTS],
}

/// 2^64 over the golden ratio: spreads numbers that are close together or at even distances.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Slots in a bucket.
const SLOTS: usize = 4;

/// Where an id is, or could be put.
enum Place<'a> {
    Found(&'a AtomicPtr<()>),
    Free(&'a AtomicU64, &'a AtomicPtr<()>),
}

/// A shard that no other writer is at.
pub(crate) struct Locked<'s> {
    shard: MutexGuard<'s, Shard>,
    array: &'s AtomicPtr<Array>,
    section: &'s Section<'s>,
}

/// There is no memory.
pub(crate) struct NoRoom;

impl Bucket {
    fn new() -> Self {
        Self {
            tids: std::array::from_fn(|_| AtomicU64::new(0)),
            words: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
        }
    }

    /// The word of an id, if the bucket has it. Which slot that could be is selected, not branched
    /// to: see above.
    #[inline(always)]
    fn word(&self, tid: u64) -> Option<&AtomicPtr<()>> {
        let has = |slot: &usize| self.tids[*slot].load(Relaxed) == tid;
        let slot = (1..SLOTS).fold(0, |other, slot| select_unpredictable(has(&slot), slot, other));
        has(&slot).then(|| &self.words[slot])
    }

    #[inline(always)]
    fn is_full(&self) -> bool {
        self.tids[SLOTS - 1].load(Relaxed) != 0
    }
}

impl Array {
    /// Room for `entries`, with half of the slots free.
    fn with_room(entries: usize) -> Option<Box<Self>> {
        // Two at least, so that `first` never shifts by 64.
        let buckets = (entries.checked_mul(2)? / SLOTS).max(2).checked_next_power_of_two()?;
        let shift = u64::BITS - buckets.trailing_zeros();
        let buckets = memory::try_slice(buckets, Bucket::new)?;
        memory::try_box(Self { witness: Witness::new(), shift, buckets })
    }

    fn capacity(&self) -> usize {
        self.buckets.len() * SLOTS
    }

    /// The first bucket to look at for an id.
    #[inline(always)]
    fn first(&self, tid: u64) -> usize {
        (tid.wrapping_mul(SPREAD) >> self.shift) as usize
    }

    /// The buckets to look at, in order, each once. An id is in the first that had a free slot when
    /// it came.
    fn probe(&self, tid: u64) -> impl Iterator<Item = &Bucket> {
        let (before, after) = self.buckets.split_at(self.first(tid));
        after.iter().chain(before)
    }

    /// The word of an id, or null.
    #[inline(always)]
    fn find(&self, section: &Section<'_>, tid: u64) -> *mut () {
        // SAFETY: there are 2^(64 - shift) buckets.
        let bucket = unsafe { self.buckets.get_unchecked(self.first(tid)) };
        match bucket.word(tid) {
            Some(word) => section.load(word, order::sparse_load()),
            None if bucket.is_full() => self.find_further(section, tid),
            None => ptr::null_mut(),
        }
    }

    #[cold]
    #[inline(never)]
    fn find_further(&self, section: &Section<'_>, tid: u64) -> *mut () {
        for bucket in self.probe(tid).skip(1) {
            if let Some(word) = bucket.word(tid) {
                return section.load(word, order::sparse_load());
            }
            if !bucket.is_full() {
                break;
            }
        }
        ptr::null_mut()
    }

    /// Where a writer finds an id, or puts it; nothing if it is not there and nothing is free.
    fn place(&self, tid: u64) -> Option<Place<'_>> {
        for bucket in self.probe(tid) {
            for (slot, word) in bucket.tids.iter().zip(&bucket.words) {
                match slot.load(Relaxed) {
                    0 => return Some(Place::Free(slot, word)),
                    found if found == tid => return Some(Place::Found(word)),
                    _ => {}
                }
            }
        }
        None
    }

    /// Puts an id in that is not there; whether that took a free slot.
    fn put(&self, tid: u64, word: *mut ()) -> bool {
        match self.place(tid) {
            Some(Place::Found(slot)) => {
                slot.store(word, order::sparse_publish());
                false
            }
            Some(Place::Free(id, slot)) => {
                slot.store(word, order::sparse_publish());
                id.store(tid, Relaxed);
                true
            }
            None => false,
        }
    }

    /// Calls `f` with each id that is there, and its word.
    fn each(
        &self,
        mut load: impl FnMut(&AtomicPtr<()>) -> *mut (),
        mut f: impl FnMut(u64, *mut ()),
    ) {
        for bucket in &self.buckets {
            for (tid, word) in bucket.tids.iter().zip(&bucket.words) {
                let word = load(word);
                if !word.is_null() {
                    f(tid.load(Relaxed), word);
                }
            }
        }
    }
}

fn shard_of(number: u64) -> usize {
    number as usize % SHARDS
}

impl Sparse {
    pub(crate) fn new() -> Self {
        Self {
            arrays: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            shards: std::array::from_fn(|_| Mutex::new(Shard::default())),
        }
    }

    /// The word of an id in the chunk `number`, or null.
    #[inline(always)]
    pub(crate) fn find(&self, section: &Section<'_>, number: u64, tid: u64) -> *mut () {
        let array = section.load(&self.arrays[shard_of(number)], order::array_load());
        // SAFETY: an array that was published is freed after the sections that may see it.
        let Some(array) = (unsafe { array.as_ref() }) else { return ptr::null_mut() };
        array.witness.seen();
        array.find(section, tid)
    }

    /// Keeps other writers out of the shard of a chunk.
    pub(crate) fn lock<'s>(&'s self, section: &'s Section<'s>, number: u64) -> Locked<'s> {
        let i = shard_of(number);
        Locked { shard: lock(&self.shards[i]), array: &self.arrays[i], section }
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).live).sum()
    }

    /// Calls `f` with each id and its word.
    pub(crate) fn each(&self, section: &Section<'_>, mut f: impl FnMut(u64, *mut ())) {
        for array in &self.arrays {
            let array = section.load(array, order::array_load());
            // SAFETY: as in `find`.
            let Some(array) = (unsafe { array.as_ref() }) else { continue };
            array.witness.seen();
            array.each(|word| section.load(word, order::sparse_load()), &mut f);
        }
    }

    /// All the words, for one who has the part alone. The arrays are freed.
    pub(crate) fn take_words(&mut self, mut f: impl FnMut(*mut ())) {
        for array in &self.arrays {
            let array = array.load(Relaxed);
            if array.is_null() {
                continue;
            }
            // SAFETY: from `Box::into_raw`, and whoever retired one put another in its place.
            let array = unsafe { Box::from_raw(array) };
            array.each(|word| word.load(Relaxed), |_, word| f(word));
        }
    }
}

impl Locked<'_> {
    fn array(&self) -> Option<&Array> {
        // SAFETY: only the holder of the lock replaces it, and retires it then.
        unsafe { self.section.load(self.array, order::array_load()).as_ref() }
    }

    pub(crate) fn has(&self, tid: u64) -> bool {
        let place = self.array().and_then(|array| array.place(tid));
        matches!(place, Some(Place::Found(word)) if !word.load(Relaxed).is_null())
    }

    /// Whether no id of this chunk, or of a later one, was ever here.
    pub(crate) fn is_new(&self, number: u64) -> bool {
        self.shard.newest <= number
    }

    /// Counts one more new id of the chunk; whether it had better have a page. The count begins anew
    /// then, so that a chunk whose page went, or was not to be had, does not ask each time.
    pub(crate) fn wants_page(&mut self, number: u64) -> bool {
        let (chunk, n) = &mut self.shard.streak;
        if *chunk != number + 1 {
            (*chunk, *n) = (number + 1, 0);
        }
        *n += 1;
        let enough = *n > ENOUGH;
        if enough {
            *n = 0;
        }
        enough
    }

    /// Makes room for so many more.
    pub(crate) fn reserve(&mut self, more: usize) -> Result<(), NoRoom> {
        let capacity = self.array().map_or(0, Array::capacity);
        if (self.shard.taken + more) * 4 > capacity * 3 {
            self.replace(self.shard.live + more)?;
        }
        Ok(())
    }

    /// Puts an id in that is not there. There must be room.
    pub(crate) fn put(&mut self, number: u64, tid: u64, word: *mut ()) {
        let took = self.array().is_some_and(|array| array.put(tid, word));
        self.shard.taken += usize::from(took);
        self.shard.live += 1;
        self.shard.newest = self.shard.newest.max(number + 1);
    }

    /// Takes an id out, and answers with its word, or null.
    pub(crate) fn take(&mut self, tid: u64) -> *mut () {
        let Some(array) = self.array() else { return ptr::null_mut() };
        let Some(Place::Found(slot)) = array.place(tid) else { return ptr::null_mut() };
        let (word, capacity) = (slot.load(Relaxed), array.capacity());
        if word.is_null() {
            return word;
        }
        slot.store(ptr::null_mut(), Relaxed);
        self.shard.live -= 1;
        if capacity > SMALL && self.shard.live * 8 < capacity {
            // Without memory for a smaller one the large one stays.
            let _ = self.replace(self.shard.live);
        }
        word
    }

    /// A new array with what is live in the old one, and room for `entries`.
    fn replace(&mut self, entries: usize) -> Result<(), NoRoom> {
        let new = Array::with_room(entries).ok_or(NoRoom)?;
        let old = self.section.load(self.array, order::array_load());
        let mut taken = 0;
        // SAFETY: as in `array`.
        if let Some(old) = unsafe { old.as_ref() } {
            let put = |tid, word| taken += usize::from(new.put(tid, word));
            old.each(|word| word.load(Relaxed), put);
        }
        self.shard.taken = taken;
        self.array.store(Box::into_raw(new), order::array_publish());
        if !old.is_null() {
            // SAFETY: nobody comes to it any more, and it was Box::into_raw's.
            unsafe { self.section.retire::<Array, DropBox>(old) };
        }
        Ok(())
    }
}
