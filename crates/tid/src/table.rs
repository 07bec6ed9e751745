//! From an id to its task.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use crate::Tid;

/// Ids in a page: as many as one word has bits.
const PAGE: u64 = u64::BITS as u64;

/// Below this many pages the directory is not worth shrinking.
const SMALL_DIRECTORY: usize = 64;

/// A table from [`Tid`] to `V`: `scx_tid_hash` in Linux 7.2, which is keyed by `p->scx.tid`.
///
/// The table has no random seed: it does the same with the same calls, on every machine.
///
/// # Cost
///
/// The ids are in pages of 64 consecutive ones, and a directory, keyed by page number, has the pages
/// that are in use. A lookup is one probe of the directory, a test of a bit and an index. A page has
/// room for the values that are in it, not for 64, and goes when its last value goes: memory follows
/// [`len`](Self::len), also when one task in a thousand survives. A lone id costs some 100 bytes
/// over its value, an id in a full page one or two.
///
/// ```
/// use scx_tid::{Table, Tid};
///
/// let tid = Tid::new(7).unwrap();
/// let mut tasks = Table::new();
/// tasks.insert(tid, "cc1")?;
/// assert_eq!(tasks.get(tid), Some(&"cc1"));
/// assert_eq!(tasks.remove(tid), Some("cc1"));
/// assert!(tasks.is_empty());
/// # Ok::<(), scx_tid::InsertError<&str>>(())
/// ```
#[derive(Clone)]
pub struct Table<V> {
    directory: Directory<V>,
    len: usize,
}

type Directory<V> = HashMap<u64, Page<V>, BuildHasherDefault<PageHasher>>;

/// Why [`Table::insert`] did not insert. It has the value, so that nothing is lost.
pub enum InsertError<V> {
    /// The table has the id already. Ids are never reused, so the same task was inserted twice, or
    /// two allocators were used that do not share a cursor.
    Duplicate {
        /// The id.
        tid: Tid,
        /// The value that was to be inserted; the table has kept the other one.
        value: V,
    },
    /// There is no memory for one more.
    NoMemory {
        /// The id.
        tid: Tid,
        /// The value that was to be inserted.
        value: V,
    },
}

impl<V> InsertError<V> {
    /// The id that was not inserted.
    pub fn tid(&self) -> Tid {
        match self {
            Self::Duplicate { tid, .. } | Self::NoMemory { tid, .. } => *tid,
        }
    }

    /// The value that was not inserted.
    pub fn into_value(self) -> V {
        match self {
            Self::Duplicate { value, .. } | Self::NoMemory { value, .. } => value,
        }
    }
}

// By hand, as derived ones would ask for `V: Debug`.
impl<V> fmt::Debug for InsertError<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variant = match self {
            Self::Duplicate { .. } => "Duplicate",
            Self::NoMemory { .. } => "NoMemory",
        };
        f.debug_struct(variant).field("tid", &self.tid()).finish_non_exhaustive()
    }
}

impl<V> fmt::Display for InsertError<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate { tid, .. } => {
                write!(f, "task id {tid} is in the table already: remove it first")
            }
            Self::NoMemory { tid, .. } => {
                write!(f, "no memory to put task id {tid} in the table, which is unchanged")
            }
        }
    }
}

impl<V> std::error::Error for InsertError<V> {}

impl<V> Table<V> {
    /// An empty table. It takes no memory before the first [`insert`](Self::insert).
    pub fn new() -> Self {
        Self { directory: Directory::default(), len: 0 }
    }

    /// Makes `tid` lead to `value`: `scx_tid_hash_insert()` in Linux 7.2, which warns where this
    /// fails.
    ///
    /// # Errors
    ///
    /// [`InsertError::Duplicate`] when the table has `tid`, [`InsertError::NoMemory`] when memory
    /// cannot be had. Either way the table is as it was, and the error has the value.
    ///
    /// # Cost
    ///
    /// That of a lookup, and the move of the values that the page has for higher ids: none when ids
    /// come in order, 63 at most. Now and then a page or the directory grows, to twice its size.
    ///
    /// ```
    /// use scx_tid::{InsertError, Table, Tid};
    ///
    /// let tid = Tid::new(7).unwrap();
    /// let mut tasks = Table::new();
    /// tasks.insert(tid, "first").unwrap();
    /// let error = tasks.insert(tid, "second").unwrap_err();
    /// assert!(matches!(error, InsertError::Duplicate { .. }));
    /// assert_eq!(error.into_value(), "second");
    /// assert_eq!(tasks.get(tid), Some(&"first"));
    /// ```
    pub fn insert(&mut self, tid: Tid, value: V) -> Result<(), InsertError<V>> {
        let (number, bit) = split(tid);
        match self.directory.get_mut(&number) {
            Some(page) if page.has(bit) => return Err(InsertError::Duplicate { tid, value }),
            Some(page) => {
                if !page.reserve_one() {
                    return Err(InsertError::NoMemory { tid, value });
                }
                page.insert_reserved(bit, value);
            }
            None => {
                let mut page = Page::default();
                if !page.reserve_one() || self.directory.try_reserve(1).is_err() {
                    return Err(InsertError::NoMemory { tid, value });
                }
                page.insert_reserved(bit, value);
                self.directory.insert(number, page);
            }
        }
        self.len += 1;
        Ok(())
    }

    /// Takes `tid` out, and answers with its value: the removal in `sched_ext_dead()` in Linux 7.2.
    /// Nothing if the table does not have it.
    ///
    /// # Cost
    ///
    /// As [`insert`](Self::insert). When three quarters of a page or of the directory are unused,
    /// it moves to half the memory or less; where memory for that cannot be had, it stays.
    ///
    /// ```
    /// use scx_tid::{Table, Tid};
    ///
    /// let tid = Tid::new(7).unwrap();
    /// let mut tasks = Table::new();
    /// tasks.insert(tid, "make")?;
    /// assert_eq!(tasks.remove(tid), Some("make"));
    /// assert_eq!(tasks.remove(tid), None);
    /// # Ok::<(), scx_tid::InsertError<&str>>(())
    /// ```
    pub fn remove(&mut self, tid: Tid) -> Option<V> {
        let (number, bit) = split(tid);
        let page = self.directory.get_mut(&number)?;
        let value = page.remove(bit)?;
        if page.bits == 0 {
            self.directory.remove(&number);
            self.shrink_directory();
        }
        self.len -= 1;
        Some(value)
    }

    /// What `tid` leads to, or nothing: the lookup of `scx_bpf_tid_to_task()` in Linux 7.2.
    ///
    /// # Cost
    ///
    /// Some 5 to 10 ns while the pages are in the cache; no memory is taken.
    ///
    /// ```
    /// use scx_tid::{Table, Tid};
    ///
    /// let (tid, other) = (Tid::new(7).unwrap(), Tid::new(8).unwrap());
    /// let mut tasks = Table::new();
    /// tasks.insert(tid, "make")?;
    /// assert_eq!(tasks.get(tid), Some(&"make"));
    /// assert_eq!(tasks.get(other), None);
    /// # Ok::<(), scx_tid::InsertError<&str>>(())
    /// ```
    #[inline]
    pub fn get(&self, tid: Tid) -> Option<&V> {
        let (number, bit) = split(tid);
        self.directory.get(&number)?.get(bit)
    }

    /// How many ids the table has. It is counted, not computed.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the table has no id.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes every id out, and gives the memory back; `rhashtable_free_and_destroy()` when Linux 7.2
    /// takes a scheduler out.
    ///
    /// ```
    /// use scx_tid::{Table, Tid};
    ///
    /// let mut tasks = Table::new();
    /// tasks.insert(Tid::new(7).unwrap(), "make")?;
    /// tasks.clear();
    /// assert_eq!(tasks.len(), 0);
    /// # Ok::<(), scx_tid::InsertError<&str>>(())
    /// ```
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Every id and its value, in ascending order of the ids.
    ///
    /// # Cost
    ///
    /// The call sorts the page numbers, of which there are as many as ids or fewer; the steps after
    /// it are cheap.
    ///
    /// ```
    /// use scx_tid::{Table, Tid};
    ///
    /// let mut tasks = Table::new();
    /// for tid in [1025, 1, 2] {
    ///     tasks.insert(Tid::new(tid).unwrap(), ())?;
    /// }
    /// let tids: Vec<u64> = tasks.iter().map(|(tid, ())| tid.get()).collect();
    /// assert_eq!(tids, [1, 2, 1025]);
    /// # Ok::<(), scx_tid::InsertError<()>>(())
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (Tid, &V)> {
        let mut pages: Vec<_> = self.directory.iter().collect();
        pages.sort_unstable_by_key(|(number, _)| **number);
        pages.into_iter().flat_map(|(number, page)| {
            page.iter().filter_map(move |(bit, value)| Some((join(*number, bit)?, value)))
        })
    }

    /// Gives memory back after many pages went. It must not fail, so without memory for the smaller
    /// directory the large one stays.
    fn shrink_directory(&mut self) {
        let pages = self.directory.len();
        if self.directory.capacity() <= SMALL_DIRECTORY.max(4 * pages) {
            return;
        }
        let mut smaller = Directory::default();
        if smaller.try_reserve(pages + pages / 2).is_ok() {
            smaller.extend(self.directory.drain());
            self.directory = smaller;
        }
    }
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self::new()
    }
}

/// In ascending order of the ids, as [`Table::iter`].
impl<V: fmt::Debug> fmt::Debug for Table<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(tid, value)| (tid.get(), value))).finish()
    }
}

/// The number of `tid`'s page, and its bit in there.
#[inline]
const fn split(tid: Tid) -> (u64, u32) {
    (tid.get() / PAGE, (tid.get() % PAGE) as u32)
}

/// The reverse of [`split`]; nothing only for the first bit of page 0, which is never set.
fn join(number: u64, bit: u32) -> Option<Tid> {
    Tid::new(number * PAGE + u64::from(bit))
}

/// 64 consecutive ids: which of them are in use, and the values of those, in order.
#[derive(Clone)]
struct Page<V> {
    bits: u64,
    values: Vec<V>,
}

impl<V> Default for Page<V> {
    fn default() -> Self {
        Self { bits: 0, values: Vec::new() }
    }
}

impl<V> Page<V> {
    #[inline]
    fn has(&self, bit: u32) -> bool {
        self.bits >> bit & 1 != 0
    }

    /// Where `bit`'s value is, or would be: behind those of the lower bits.
    #[inline]
    fn index(&self, bit: u32) -> usize {
        (self.bits & ((1 << bit) - 1)).count_ones() as usize
    }

    #[inline]
    fn get(&self, bit: u32) -> Option<&V> {
        if self.has(bit) { self.values.get(self.index(bit)) } else { None }
    }

    /// Makes room for a value; false, and nothing has changed, if there is no memory.
    fn reserve_one(&mut self) -> bool {
        let len = self.values.len();
        // Exactly, because `try_reserve` starts at four values, and a lone one is common.
        len < self.values.capacity() || self.values.try_reserve_exact(len.max(1)).is_ok()
    }

    fn insert_reserved(&mut self, bit: u32, value: V) {
        self.values.insert(self.index(bit), value);
        self.bits |= 1 << bit;
    }

    fn remove(&mut self, bit: u32) -> Option<V> {
        if !self.has(bit) {
            return None;
        }
        let value = self.values.remove(self.index(bit));
        self.bits &= !(1 << bit);
        let len = self.values.len();
        if size_of::<V>() != 0 && len != 0 && self.values.capacity() > 4 * len {
            let mut smaller = Vec::new();
            if smaller.try_reserve_exact(2 * len).is_ok() {
                smaller.append(&mut self.values);
                self.values = smaller;
            }
        }
        Some(value)
    }

    fn iter(&self) -> impl Iterator<Item = (u32, &V)> {
        let mut left = self.bits;
        self.values.iter().map(move |value| {
            let bit = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            (bit, value)
        })
    }
}

/// Hashes a page number by one multiplication.
#[derive(Clone, Copy, Default)]
struct PageHasher(u64);

impl Hasher for PageHasher {
    #[inline]
    fn write_u64(&mut self, number: u64) {
        // 2^64 over the golden ratio. The product's low bits know nothing of the number's high
        // ones: page numbers that are all 3 modulo 16, as after one survivor in each chunk, would
        // share a sixteenth of the buckets. Folding its high half in spreads them.
        let product = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ product >> 32;
    }

    // The trait asks for it; page numbers take the way above.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::CHUNK;

    fn tid(n: u64) -> Tid {
        Tid::new(n).unwrap()
    }

    /// Room for values, in all the pages.
    fn room<V>(table: &Table<V>) -> usize {
        table.directory.values().map(|page| page.values.capacity()).sum()
    }

    #[test]
    fn both_ends_of_the_ids() {
        let mut table = Table::new();
        for n in [1, 63, 64, 65, u64::MAX - 64, u64::MAX] {
            table.insert(tid(n), n).unwrap();
        }
        assert_eq!(
            format!("{table:?}"),
            "{1: 1, 63: 63, 64: 64, 65: 65, 18446744073709551551: 18446744073709551551, \
             18446744073709551615: 18446744073709551615}"
        );
        assert_eq!(table.get(tid(u64::MAX)), Some(&u64::MAX));
        assert_eq!(table.get(tid(2)), None);
    }

    #[test]
    fn a_duplicate_changes_nothing() {
        struct NotDebug(u32);
        let mut table = Table::new();
        table.insert(tid(5), NotDebug(1)).unwrap();
        let error = table.insert(tid(5), NotDebug(2)).unwrap_err();
        assert_eq!(error.to_string(), "task id 5 is in the table already: remove it first");
        assert_eq!(format!("{error:?}"), "Duplicate { tid: Tid(5), .. }");
        assert_eq!((error.tid(), error.into_value().0), (tid(5), 2));
        assert_eq!((table.len(), table.get(tid(5)).unwrap().0), (1, 1));
    }

    #[test]
    fn an_empty_table_has_no_pages() {
        let mut table = Table::new();
        for n in 1..=100 * CHUNK {
            table.insert(tid(n), n).unwrap();
        }
        for n in (1..=100 * CHUNK).rev() {
            assert_eq!(table.remove(tid(n)), Some(n));
        }
        assert!(table.is_empty() && table.directory.is_empty());
        assert!(table.directory.capacity() <= 2 * SMALL_DIRECTORY);
    }

    #[test]
    fn memory_follows_the_survivors() {
        let mut table = Table::new();
        for n in 1..=1000 * CHUNK {
            table.insert(tid(n), n).unwrap();
        }
        for n in (1..=1000 * CHUNK).filter(|n| n % 1000 != 0) {
            table.remove(tid(n)).unwrap();
        }
        assert_eq!(table.len(), 1024);
        assert!(room(&table) <= 4 * table.len(), "room for {}", room(&table));
        let pages = table.directory.capacity();
        assert!(pages <= 4 * table.len(), "room for {pages} pages");
    }

    #[test]
    fn a_lone_value_gets_room_for_one() {
        let mut table = Table::new();
        table.insert(tid(1), [0u64; 16]).unwrap();
        assert_eq!(room(&table), 1);
    }

    #[test]
    fn values_without_size() {
        let mut table = Table::new();
        for n in 1..=200 {
            table.insert(tid(n), ()).unwrap();
        }
        for n in 1..=200 {
            assert_eq!(table.remove(tid(n)), Some(()));
        }
        assert!(table.is_empty());
    }

    #[test]
    fn a_clone_is_apart() {
        let mut table = Table::new();
        table.insert(tid(1), 1).unwrap();
        let copy = table.clone();
        table.clear();
        assert_eq!((table.len(), copy.len(), copy.get(tid(1))), (0, 1, Some(&1)));
    }

    /// One survivor in each chunk, always at the same place: the pattern that a bare multiplication
    /// does badly with.
    #[test]
    fn the_hash_spreads_strides() {
        for shift in 0..16 {
            let buckets: HashSet<u64> = (0..1024u64)
                .map(|i| {
                    let mut hasher = PageHasher::default();
                    hasher.write_u64((i << shift) + 3);
                    hasher.finish() % 1024
                })
                .collect();
            // A random function fills 647 on average, a bare multiplication 64 for a stride of 16.
            assert!(buckets.len() > 400, "stride 2^{shift}: {} buckets", buckets.len());
        }
    }
}
