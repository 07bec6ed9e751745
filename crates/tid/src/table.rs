//! From an id to its task.

use std::fmt;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::Ordering::Relaxed;

use crate::live::{DropLive, Live, Refused};
use crate::reclaim::{Domain, Free as _, Section};
use crate::sync::{AtomicPtr, Mutex, lock};
use crate::value::{Shared, Value};
use crate::{Tid, order};

/// A table from [`Tid`] to a [`Value`], for any number of readers and writers at once:
/// `scx_tid_hash` in Linux 7.2, which is keyed by `p->scx.tid`.
///
/// It is used through a section, [`Table::pin`], which is what the kernel's RCU read section is:
/// what a lookup returned stays valid until the section closes. Readers wait for nobody and write
/// nothing that is shared. Writers wait for each other in the same chunk of
/// [`CHUNK`](crate::CHUNK) ids, among the survivors of nearly empty chunks in one of 64 shards, and
/// where a chunk's page comes or goes.
///
/// The table does the same with the same calls, on every machine: no seed is in it.
///
/// ```
/// use scx_tid::{Table, Tid};
///
/// let tid = Tid::new(7).unwrap();
/// let tasks = Table::enabled()?;
/// let section = tasks.pin();
/// section.insert(tid, Box::new("cc1")).unwrap();
/// let cc1 = section.get(tid).unwrap();
/// section.remove(tid);
/// assert_eq!(section.get(tid), None);
/// assert_eq!(*cc1, "cc1"); // The section is still open.
/// # Ok::<(), scx_tid::NoMemory>(())
/// ```
pub struct Table<V: Value> {
    live: AtomicPtr<Live>,
    /// Taken to enable and disable.
    switch: Mutex<()>,
    domain: Domain,
    values: PhantomData<V>,
}

/// There is no memory for the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory for the table of task ids")]
pub struct NoMemory;

/// Why an insert was refused. It has the value, so that nothing is lost.
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
    /// The table is not enabled.
    Disabled {
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
            Self::Duplicate { tid, .. }
            | Self::NoMemory { tid, .. }
            | Self::Disabled { tid, .. } => *tid,
        }
    }

    /// The value that was not inserted.
    pub fn into_value(self) -> V {
        match self {
            Self::Duplicate { value, .. }
            | Self::NoMemory { value, .. }
            | Self::Disabled { value, .. } => value,
        }
    }
}

/// Without the value, which need not be `Debug`.
impl<V> fmt::Debug for InsertError<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Duplicate { .. } => "Duplicate",
            Self::NoMemory { .. } => "NoMemory",
            Self::Disabled { .. } => "Disabled",
        };
        f.debug_struct(name).field("tid", &self.tid()).finish_non_exhaustive()
    }
}

impl<V> fmt::Display for InsertError<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tid = self.tid();
        match self {
            Self::Duplicate { .. } => {
                write!(f, "task id {tid} is in the table already: remove it first")
            }
            Self::NoMemory { .. } => {
                write!(f, "no memory to put task id {tid} in the table, which is unchanged")
            }
            Self::Disabled { .. } => {
                write!(f, "task id {tid} is not put in the table, which is disabled: enable it")
            }
        }
    }
}

impl<V> std::error::Error for InsertError<V> {}

impl<V: Value> Table<V> {
    /// A table that is disabled: it has nothing and takes nothing. Aborts, as collections of the
    /// standard library do, without memory for the reclamation library's lists of threads.
    pub fn new() -> Self {
        Self {
            live: AtomicPtr::new(ptr::null_mut()),
            switch: Mutex::new(()),
            domain: Domain::default(),
            values: PhantomData,
        }
    }

    /// An empty table that is enabled.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn enabled() -> Result<Self, NoMemory> {
        let table = Self::new();
        table.enable()?;
        Ok(table)
    }

    /// Makes the table take entries, if it does not; it is empty then. In Linux 7.2,
    /// `scx_root_enable_workfn()` does this when a scheduler asks for the table.
    ///
    /// # Errors
    /// [`NoMemory`]; the table is as it was.
    ///
    /// ```
    /// use scx_tid::{InsertError, Table, Tid};
    ///
    /// let tasks = Table::new();
    /// let tid = Tid::new(1).unwrap();
    /// assert!(matches!(tasks.pin().insert(tid, 1), Err(InsertError::Disabled { .. })));
    /// tasks.enable()?;
    /// tasks.pin().insert(tid, 1).unwrap();
    /// tasks.disable();
    /// assert_eq!(tasks.pin().get(tid), None);
    /// # Ok::<(), scx_tid::NoMemory>(())
    /// ```
    pub fn enable(&self) -> Result<(), NoMemory> {
        let _switch = lock(&self.switch);
        if !self.live.load(Relaxed).is_null() {
            return Ok(());
        }
        let live = Live::new().ok_or(NoMemory)?;
        self.live.store(Box::into_raw(live), order::live_publish());
        Ok(())
    }

    /// Takes all entries out, and takes no more. The values are dropped when no reader can hold
    /// them: `static_branch_disable()`, `synchronize_rcu()` and `rhashtable_free_and_destroy()` in
    /// `scx_root_disable()` of Linux 7.2. This does not wait for the readers. A writer that is in
    /// the middle of an insert has inserted before.
    pub fn disable(&self) {
        // Closed after the switch is free: values may be dropped then, and do what they like.
        let section = self.domain.enter();
        let _switch = lock(&self.switch);
        let live = self.live.load(Relaxed);
        self.live.store(ptr::null_mut(), Relaxed);
        if !live.is_null() {
            // SAFETY: nobody comes to it any more, and it was Box::into_raw's.
            unsafe { section.retire::<Live, DropLive<V>>(live) };
            section.hand_over();
        }
    }

    /// Whether the table is enabled.
    pub fn is_enabled(&self) -> bool {
        !self.live.load(Relaxed).is_null()
    }

    /// Opens a section. Sections of a thread may overlap. While one is open nothing that was taken
    /// out of the table since is freed, so keep it short, or [`Pinned::flush`] and reopen it.
    ///
    /// # Cost
    /// About that of one atomic exchange, when it closes.
    ///
    /// # Thread-locals
    /// Do not keep a section in one: the reclamation library gives the thread's identity to another
    /// thread when this one ends, which may be before the section closes. Nor open one in a
    /// thread-local's destructor, where it may panic.
    #[inline]
    pub fn pin(&self) -> Pinned<'_, V> {
        Pinned { table: self, section: self.domain.enter() }
    }
}

/// A section in which a [`Table`] can be used: what a lookup returns is valid until it is dropped.
/// `rcu_read_lock()` to `rcu_read_unlock()`.
pub struct Pinned<'t, V: Value> {
    table: &'t Table<V>,
    section: Section<'t>,
}

impl<V: Value> Pinned<'_, V> {
    #[inline(always)]
    fn live(&self) -> Option<&Live> {
        let live = self.section.load(&self.table.live, order::live_load());
        // SAFETY: freed after the sections that may see it, of which this is one.
        let live = unsafe { live.as_ref() }?;
        live.witness.seen();
        Some(live)
    }

    /// What `tid` leads to, or nothing: the lookup of `scx_bpf_tid_to_task()` in Linux 7.2.
    ///
    /// # Cost
    /// Two dependent loads of a few cache lines that all lookups share, and one of the entry.
    /// It waits for nobody, takes no memory and writes none.
    ///
    /// ```
    /// use scx_tid::{Table, Tid};
    ///
    /// let (tid, other) = (Tid::new(7).unwrap(), Tid::new(8).unwrap());
    /// let tasks = Table::enabled()?;
    /// let section = tasks.pin();
    /// section.insert(tid, Box::new("make")).unwrap();
    /// assert_eq!(section.get(tid), Some(&"make"));
    /// assert_eq!(section.get(other), None);
    /// # Ok::<(), scx_tid::NoMemory>(())
    /// ```
    #[inline]
    pub fn get(&self, tid: Tid) -> Option<V::Ref<'_>> {
        let word = self.live()?.get(&self.section, tid);
        // SAFETY: a word of the table, found in this section: it is freed after it.
        (!word.is_null()).then(|| unsafe { V::borrow(word) })
    }

    /// Makes `tid` lead to `value`: `scx_tid_hash_insert()` in Linux 7.2, which warns where this
    /// fails.
    ///
    /// # Errors
    /// [`InsertError::Duplicate`] when the table has `tid`, [`InsertError::NoMemory`] when memory
    /// cannot be had, [`InsertError::Disabled`]. The table is as it was, and the error has the
    /// value.
    ///
    /// # Cost
    /// Two loads as in a lookup, one atomic exchange, two stores. Once a chunk, a page of 8 KiB is
    /// taken, and those of chunks that have few ids left are given back, under a lock that all
    /// writers share.
    ///
    /// ```
    /// use scx_tid::{InsertError, Table, Tid};
    ///
    /// let tid = Tid::new(7).unwrap();
    /// let tasks = Table::enabled()?;
    /// let section = tasks.pin();
    /// section.insert(tid, 1).unwrap();
    /// let error = section.insert(tid, 2).unwrap_err();
    /// assert!(matches!(error, InsertError::Duplicate { .. }));
    /// assert_eq!(error.into_value(), 2);
    /// assert_eq!(section.get(tid), Some(1));
    /// # Ok::<(), scx_tid::NoMemory>(())
    /// ```
    #[inline]
    pub fn insert(&self, tid: Tid, value: V) -> Result<(), InsertError<V>> {
        let Some(live) = self.live() else { return Err(InsertError::Disabled { tid, value }) };
        let word = value.into_word();
        live.insert(&self.section, tid, word).map_err(|refused| {
            // SAFETY: the word is from `into_word`, and was not put in.
            let value = unsafe { V::from_word(word) };
            match refused {
                Refused::Duplicate => InsertError::Duplicate { tid, value },
                Refused::NoMemory => InsertError::NoMemory { tid, value },
            }
        })
    }

    /// Takes `tid` out, and answers with what it led to: the removal in `sched_ext_dead()` in Linux
    /// 7.2. Nothing if the table does not have it. The value is dropped when no reader can hold it,
    /// on whichever thread closes the last section, or later: see [`Pinned::flush`].
    ///
    /// # Cost
    /// As [`Pinned::insert`].
    ///
    /// ```
    /// use scx_tid::{Table, Tid};
    ///
    /// let tid = Tid::new(7).unwrap();
    /// let tasks = Table::enabled()?;
    /// let section = tasks.pin();
    /// section.insert(tid, 7).unwrap();
    /// assert_eq!(section.remove(tid), Some(7));
    /// assert_eq!(section.remove(tid), None);
    /// # Ok::<(), scx_tid::NoMemory>(())
    /// ```
    #[inline]
    pub fn remove(&self, tid: Tid) -> Option<V::Ref<'_>> {
        let word = self.live()?.remove(&self.section, tid);
        if word.is_null() {
            return None;
        }
        // SAFETY: this call has taken the word out, so it owns it, and nobody finds it any more.
        // It is freed after this section at the earliest.
        unsafe {
            V::retire(word, &self.section);
            Some(V::borrow(word))
        }
    }

    /// How many ids there are. While others write, that is a number that was never wrong by more
    /// than what they did meanwhile.
    ///
    /// # Cost
    /// A walk over the pages: one for each 64 to 1,024 ids.
    pub fn len(&self) -> usize {
        self.live().map_or(0, |live| live.len(&self.section))
    }

    /// Whether there are no ids.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every id and what it leads to, in ascending order. What is there all the time is in it,
    /// once; what comes or goes meanwhile may be.
    ///
    /// # Cost
    /// A walk over all of the table, memory for the answer, and a sort.
    ///
    /// ```
    /// use scx_tid::{Table, Tid};
    ///
    /// let tasks = Table::enabled()?;
    /// let section = tasks.pin();
    /// for tid in [1025, 1, 2] {
    ///     section.insert(Tid::new(tid).unwrap(), tid as u32).unwrap();
    /// }
    /// let tids: Vec<u32> = section.iter().map(|(_, tid)| tid).collect();
    /// assert_eq!(tids, [1, 2, 1025]);
    /// # Ok::<(), scx_tid::NoMemory>(())
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (Tid, V::Ref<'_>)> {
        // SAFETY: a word of the table, found in this section.
        self.words().into_iter().map(|(tid, word)| (tid, unsafe { V::borrow(word) }))
    }

    fn words(&self) -> Vec<(Tid, *mut ())> {
        let mut words = Vec::new();
        if let Some(live) = self.live() {
            live.each(&self.section, |tid, word| words.extend(Tid::new(tid).map(|t| (t, word))));
        }
        words.sort_by_key(|(tid, _)| *tid);
        words.dedup_by_key(|(tid, _)| *tid);
        words
    }

    /// Hands what this thread has taken out over for reclamation, which otherwise waits until there
    /// are some 32 pieces of it. It is dropped when the sections that are open now have closed, of
    /// which this is one.
    pub fn flush(&self) {
        self.section.hand_over();
    }
}

impl<V: Value> Drop for Table<V> {
    fn drop(&mut self) {
        let live = self.live.load(Relaxed);
        if !live.is_null() {
            // SAFETY: nobody has a section any more, so nobody has what is in it. What was retired
            // is not in it; the domain, which goes next, frees that.
            unsafe { DropLive::<V>::free(live) };
        }
    }
}

impl<V: Value> Default for Table<V> {
    fn default() -> Self {
        Self::new()
    }
}

/// A table of its own with the same entries; that of a simulator's state with the rest of the
/// state. What others write meanwhile may be in it or not.
///
/// # Panics
/// As any `clone`, it ends the process when there is no memory.
impl<V: Shared> Clone for Table<V> {
    fn clone(&self) -> Self {
        let copy = Self::new();
        let section = self.pin();
        if section.live().is_none() {
            return copy;
        }
        let full = || std::alloc::handle_alloc_error(std::alloc::Layout::new::<Live>());
        copy.enable().unwrap_or_else(|NoMemory| full());
        let into = copy.pin();
        for (tid, word) in section.words() {
            // SAFETY: a word of the table, found in this section.
            let value = unsafe { V::again(word) };
            into.insert(tid, value).unwrap_or_else(|_| full());
        }
        drop(into);
        copy
    }
}

/// In ascending order of the ids, as [`Pinned::iter`].
impl<V: Value> fmt::Debug for Table<V>
where
    for<'s> V::Ref<'s>: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.pin().iter().map(|(tid, value)| (tid.get(), value))).finish()
    }
}

impl<V: Value> fmt::Debug for Pinned<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned").finish_non_exhaustive()
    }
}
