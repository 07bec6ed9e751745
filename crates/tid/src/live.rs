//! What a table consists of while it is enabled: the directory with its pages, the sparse part, and
//! the rules by which ids go from one to the other.
//!
//! - A chunk has a page or it has none. While it has one, new ids of it go there and nowhere else.
//! - An id moves only from a page to the sparse part, and is there before the page goes.
//!
//! So a reader looks for a page first and in the sparse part after that, and misses nothing that is
//! there all the time. Locks are taken in the order `Live`, page, shard.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

use crate::directory::{self, Directory};
use crate::memory;
use crate::page::{Page, SLOTS};
use crate::reclaim::{DropBox, Free, Section};
use crate::sparse::{NoRoom, Sparse};
use crate::sync::{AtomicPtr, AtomicU64, Mutex, Witness, lock};
use crate::value::Value;
use crate::{Tid, order};

/// A page with fewer ids than this may give them to the sparse part: 8 KiB for less than 64.
#[cfg(not(loom))]
const TOO_FEW: usize = 64;
#[cfg(loom)]
const TOO_FEW: usize = 2;

/// How many pages may be too empty, for so many pages.
fn tolerated(pages: usize) -> usize {
    if cfg!(loom) { 0 } else { 8 + pages / 8 }
}

/// How many if it looks as if they were to fill.
fn hoped_for(pages: usize) -> usize {
    if cfg!(loom) { 0 } else { 128 + pages / 8 }
}

pub(crate) struct Live {
    pub(crate) witness: Witness,
    directory: AtomicPtr<Directory>,
    sparse: Sparse,
    pages: Mutex<Pages>,
    /// How many chunks have come to their end.
    ended: AtomicU64,
}

/// What whoever adds or removes pages knows.
#[derive(Default)]
struct Pages {
    /// How many there are.
    count: usize,
    /// The chunks of pages that may be too empty, and how many chunks had ended when an id last
    /// came to them, as far as is known.
    candidates: VecDeque<(u64, u64)>,
}

/// Why an id was not put in.
pub(crate) enum Refused {
    Duplicate,
    NoMemory,
}

impl From<NoRoom> for Refused {
    fn from(_: NoRoom) -> Self {
        Self::NoMemory
    }
}

/// An id's chunk, and its place there.
#[inline(always)]
pub(crate) fn split(tid: Tid) -> (u64, usize) {
    let n = tid.get() - 1;
    (n / SLOTS as u64, (n % SLOTS as u64) as usize)
}

fn join(number: u64, index: usize) -> u64 {
    number * SLOTS as u64 + index as u64 + 1
}

impl Live {
    pub(crate) fn new() -> Option<Box<Self>> {
        let directory = Box::into_raw(Directory::new(0, 0)?);
        let live = Self {
            witness: Witness::new(),
            directory: AtomicPtr::new(directory),
            sparse: Sparse::new(),
            pages: Mutex::new(Pages::default()),
            ended: AtomicU64::new(0),
        };
        let live = memory::try_box(live);
        if live.is_none() {
            // SAFETY: from `into_raw` above, and nobody else has it.
            drop(unsafe { Box::from_raw(directory) });
        }
        live
    }

    #[inline(always)]
    fn directory<'s>(&self, section: &'s Section<'_>) -> &'s Directory {
        let directory = section.load(&self.directory, order::directory_load());
        // SAFETY: never null, and freed after the sections that may see it.
        let directory = unsafe { &*directory };
        directory.witness.seen();
        directory
    }

    /// The page of a chunk.
    #[inline(always)]
    fn page<'s>(&self, section: &'s Section<'_>, number: u64) -> Option<&'s Page> {
        let page = self.directory(section).find(section, number);
        // SAFETY: freed after the sections that may see it.
        let page = unsafe { page.as_ref() }?;
        page.witness.seen();
        Some(page)
    }

    /// The word of an id, or null.
    #[inline(always)]
    pub(crate) fn get(&self, section: &Section<'_>, tid: Tid) -> *mut () {
        let (number, index) = split(tid);
        if let Some(page) = self.page(section, number) {
            let word = page.load(section, index);
            if !word.is_null() || !page.also_sparse {
                return word;
            }
        }
        self.sparse.find(section, number, tid.get())
    }

    /// Puts an id in. If it is refused, nothing has changed.
    pub(crate) fn insert(
        &self,
        section: &Section<'_>,
        tid: Tid,
        word: *mut (),
    ) -> Result<(), Refused> {
        let (number, index) = split(tid);
        loop {
            if let Some(page) = self.page(section, number) {
                let Some(mut page_locked) = page.lock() else {
                    self.wait_for_retirement();
                    continue;
                };
                // While there is a page, nobody puts an id of it into the sparse part.
                let elsewhere =
                    || page.also_sparse && !self.sparse.find(section, number, tid.get()).is_null();
                if !page_locked.word(index).is_null() || elsewhere() {
                    return Err(Refused::Duplicate);
                }
                page_locked.put(index, word);
                if index == SLOTS - 1 {
                    self.ended.fetch_add(1, Relaxed);
                }
                return Ok(());
            }
            // The first id of a chunk that is new: the others will follow.
            if index == 0 && self.add_page(section, number, true)? {
                continue;
            }
            let mut shard = self.sparse.lock(section, number);
            if self.page(section, number).is_some() {
                continue;
            }
            if shard.has(tid.get()) {
                return Err(Refused::Duplicate);
            }
            if shard.wants_page(number) {
                drop(shard);
                self.add_page(section, number, false)?;
                continue;
            }
            shard.reserve(1)?;
            shard.put(number, tid.get(), word);
            return Ok(());
        }
    }

    /// Takes an id out, and answers with its word, or null.
    pub(crate) fn remove(&self, section: &Section<'_>, tid: Tid) -> *mut () {
        let (number, index) = split(tid);
        while let Some(page) = self.page(section, number) {
            let Some(mut page_locked) = page.lock() else {
                self.wait_for_retirement();
                continue;
            };
            let word = page_locked.word(index);
            if word.is_null() {
                if page.also_sparse {
                    break;
                }
                return word;
            }
            page_locked.clear(index);
            if page_locked.live() < TOO_FEW && page_locked.becomes_candidate() {
                drop(page_locked);
                self.add_candidate(section, number);
            }
            return word;
        }
        self.sparse.lock(section, number).take(tid.get())
    }

    /// A page was found retired: waits until whoever did that has finished.
    fn wait_for_retirement(&self) {
        drop(lock(&self.pages));
    }

    /// Gives a chunk a page, or not: if it is to be `new` and is not, or if it is an old chunk and
    /// newer ones would have to give way.
    fn add_page(&self, section: &Section<'_>, number: u64, new: bool) -> Result<bool, Refused> {
        let mut pages = lock(&self.pages);
        self.compact(section, &mut pages);
        if self.page(section, number).is_some() {
            return Ok(true);
        }
        let directory = self.directory(section);
        let may = if new {
            let ids_are_sparse = !self.sparse.lock(section, number).is_new(number);
            directory.is_next(section, number) && !ids_are_sparse
        } else {
            directory.covers(number) || !self.would_displace(section, &pages, number)
        };
        if !may {
            return Ok(false);
        }
        self.cover(section, &mut pages, number)?;
        // Held until the page is published: nobody puts an id of it into the sparse part then.
        let shard = self.sparse.lock(section, number);
        let also_sparse = !shard.is_new(number);
        pages.candidates.try_reserve(1).map_err(|_| Refused::NoMemory)?;
        let page = Page::new(also_sparse).ok_or(Refused::NoMemory)?;
        self.directory(section).insert(number, Box::into_raw(page));
        pages.count += 1;
        pages.candidates.push_back((number, self.ended.load(Relaxed)));
        Ok(true)
    }

    /// Whether a page for an old chunk would cost newer chunks theirs, and those have ids: a CPU
    /// may sleep for long on a chunk that it has begun.
    fn would_displace(&self, section: &Section<'_>, pages: &Pages, number: u64) -> bool {
        let newer = self.pages_too_far(section, pages, number).filter(|(n, _)| *n > number);
        // SAFETY: as in `page`.
        newer.map(|(_, page)| unsafe { (*page).live() }).sum::<usize>() >= TOO_FEW
    }

    /// The pages that no window has together with a chunk.
    fn pages_too_far<'s>(
        &self,
        section: &'s Section<'_>,
        pages: &Pages,
        number: u64,
    ) -> impl Iterator<Item = (u64, *mut Page)> + use<'s> {
        let widest = directory::widest(pages.count + 1);
        let all = self.directory(section).pages(section);
        all.filter(move |(n, _)| n.abs_diff(number) >= widest)
    }

    /// Sees to it that the directory's window has a chunk. If that is far from the others, they
    /// give way.
    fn cover(&self, section: &Section<'_>, pages: &mut Pages, number: u64) -> Result<(), Refused> {
        let old = self.directory(section);
        if old.covers(number) {
            return Ok(());
        }
        for (far, _) in self.pages_too_far(section, pages, number) {
            self.give_up_page(section, pages, far)?;
        }
        let (mut first, mut last) = (number, number);
        if let Some((n, _)) = old.pages(section).next() {
            first = first.min(n);
        }
        if let Some((n, _)) = old.pages(section).next_back() {
            last = last.max(n);
        }
        let numbers = last - first + 1;
        // Room to go on in the direction in which it goes.
        let first = if number < last { first.saturating_sub(numbers) } else { first };
        let new = Directory::new(first, 2 * numbers).ok_or(Refused::NoMemory)?;
        old.pages(section).for_each(|(number, page)| new.insert(number, page));
        let old = self.directory.load(Relaxed);
        self.directory.store(Box::into_raw(new), order::directory_publish());
        // SAFETY: nobody comes to it any more, and it was Box::into_raw's.
        unsafe { section.retire::<Directory, DropBox>(old) };
        Ok(())
    }

    fn add_candidate(&self, section: &Section<'_>, number: u64) {
        let mut pages = lock(&self.pages);
        if pages.candidates.try_reserve(1).is_ok() {
            pages.candidates.push_back((number, self.ended.load(Relaxed)));
        } else if let Some(mut page) = self.page(section, number).and_then(Page::lock) {
            page.is_no_candidate();
        }
        self.compact(section, &mut pages);
    }

    /// Gives up pages that are too empty, but for a few, and for those of CPUs that still fork in
    /// them. So the memory follows the ids and the CPUs.
    fn compact(&self, section: &Section<'_>, pages: &mut Pages) {
        let excess = pages.candidates.len().saturating_sub(tolerated(pages.count));
        // One pass at the most, and not a long one each time.
        for _ in 0..pages.candidates.len().min(2 * excess) {
            if pages.candidates.len() <= tolerated(pages.count) {
                return;
            }
            let Some((number, then)) = pages.candidates.pop_front() else { return };
            let Some(page) = self.page(section, number) else { continue };
            let now = self.ended.load(Relaxed);
            if let Some(mut page_locked) = page.lock() {
                if page_locked.live() >= TOO_FEW {
                    page_locked.is_no_candidate();
                    continue;
                }
                // If no id came while another chunk filled, its CPU does not fork for now.
                let may_fill =
                    !page_locked.has_ended() && (page_locked.take_touched() || now == then);
                if may_fill && pages.candidates.len() < hoped_for(pages.count) {
                    pages.candidates.push_back((number, now));
                    continue;
                }
            }
            if self.give_up_page(section, pages, number).is_err() {
                // No memory: the page stays, and its turn comes again.
                pages.candidates.push_back((number, then));
                return;
            }
        }
    }

    /// Moves a page's ids to the sparse part, and takes it out.
    fn give_up_page(
        &self,
        section: &Section<'_>,
        pages: &mut Pages,
        number: u64,
    ) -> Result<(), NoRoom> {
        let pointer = self.directory(section).find(section, number);
        // SAFETY: as in `page`.
        let Some(page) = (unsafe { pointer.as_ref() }) else { return Ok(()) };
        page.witness.seen();
        let Some(page_locked) = page.lock() else { return Ok(()) };
        self.move_to_sparse(section, number, &page_locked)?;
        self.directory(section).unlink(number);
        pages.count -= 1;
        page_locked.retire();
        // SAFETY: nobody comes to it any more, and it was Box::into_raw's. Its words are the sparse
        // part's now.
        unsafe { section.retire::<Page, DropBox>(pointer) };
        Ok(())
    }

    fn move_to_sparse(
        &self,
        section: &Section<'_>,
        number: u64,
        page: &crate::page::Locked<'_>,
    ) -> Result<(), NoRoom> {
        if page.live() == 0 {
            return Ok(());
        }
        let mut shard = self.sparse.lock(section, number);
        shard.reserve(page.live())?;
        for index in 0..SLOTS {
            let word = page.word(index);
            if !word.is_null() {
                shard.put(number, join(number, index), word);
            }
        }
        Ok(())
    }

    /// How many ids there are.
    pub(crate) fn len(&self, section: &Section<'_>) -> usize {
        let pages = lock(&self.pages);
        // SAFETY: as in `page`.
        let live = |(_, page): (u64, *mut Page)| unsafe { (*page).live() };
        let in_pages: usize = self.directory(section).pages(section).map(live).sum();
        let all = in_pages + self.sparse.len();
        // No page was given up meanwhile: what moves would be counted twice.
        drop(pages);
        all
    }

    /// Calls `f` with each id and its word. One that moves meanwhile may come twice.
    pub(crate) fn each(&self, section: &Section<'_>, mut f: impl FnMut(u64, *mut ())) {
        for (number, page) in self.directory(section).pages(section) {
            // SAFETY: as in `page`.
            let page = unsafe { &*page };
            page.witness.seen();
            for index in 0..SLOTS {
                let word = page.load(section, index);
                if !word.is_null() {
                    f(join(number, index), word);
                }
            }
        }
        self.sparse.each(section, f);
    }
}

/// Frees a table's whole content, and the values in it.
pub(crate) struct DropLive<V>(std::marker::PhantomData<V>);

impl<V: Value> Free<Live> for DropLive<V> {
    unsafe fn free(live: *mut Live) {
        // SAFETY: from `Box::into_raw`, and nobody else has it, as the caller says.
        let mut live = unsafe { Box::from_raw(live) };
        // SAFETY: what was published last, and so neither freed nor retired. Whoever retired one
        // put another in its place.
        let directory = unsafe { Box::from_raw(live.directory.load(Relaxed)) };
        for page in directory.into_pages() {
            // SAFETY: a page in the directory is not retired.
            let mut page = unsafe { Box::from_raw(page) };
            for word in page.words() {
                // SAFETY: a word that is in the table belongs to it.
                drop(unsafe { V::from_word(word) });
            }
        }
        live.sparse.take_words(|word| {
            // SAFETY: as above. It is in the sparse part or in a page, never in both.
            drop(unsafe { V::from_word(word) });
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::reclaim::Domain;

    /// A table of numbers and a section in it.
    struct Bed {
        domain: Domain,
        live: Box<Live>,
    }

    impl Bed {
        fn new() -> Self {
            Self { domain: Domain::default(), live: Live::new().unwrap() }
        }

        fn insert(&self, n: u64) {
            let word = std::ptr::without_provenance_mut(1);
            let inserted = self.live.insert(&self.domain.enter(), Tid::new(n).unwrap(), word);
            assert!(inserted.is_ok(), "{n}");
        }

        fn remove(&self, n: u64) {
            assert!(!self.live.remove(&self.domain.enter(), Tid::new(n).unwrap()).is_null(), "{n}");
        }

        fn pages(&self) -> usize {
            lock(&self.live.pages).count
        }

        fn in_sparse(&self) -> usize {
            self.live.sparse.len()
        }
    }

    const CHUNK: u64 = SLOTS as u64;

    /// However many CPUs fork in turn, each in a chunk of its own, all the ids are in pages.
    #[test]
    fn chunks_that_fill_in_turn_have_pages() {
        for cpus in [1, 2, 9, 10, 16, 64, 100] {
            let bed = Bed::new();
            for i in 0..CHUNK {
                (0..cpus).for_each(|cpu| bed.insert(cpu * CHUNK + i + 1));
            }
            assert_eq!((bed.pages() as u64, bed.in_sparse()), (cpus, 0), "{cpus} CPUs");
        }
    }

    /// The same when each of them has one task at a time.
    #[test]
    fn forks_and_exits_in_turn_stay_in_pages() {
        for cpus in [1, 9, 16, 64] {
            let bed = Bed::new();
            for i in 0..CHUNK {
                for cpu in 0..cpus {
                    bed.insert(cpu * CHUNK + i + 1);
                    bed.remove(cpu * CHUNK + i + 1);
                }
                assert_eq!(bed.in_sparse(), 0);
            }
            assert!(bed.pages() as u64 <= cpus);
        }
    }

    /// A CPU that wakes up with an old chunk does not cost the others their pages.
    #[test]
    fn an_old_chunk_does_not_displace_new_ones() {
        let bed = Bed::new();
        bed.insert(5 * CHUNK + 1);
        let first = 1_000_000 * CHUNK;
        // The window comes here because many ids do.
        (first + 2..=first + 100 * CHUNK).for_each(|n| bed.insert(n));
        let pages = bed.pages();
        (2..=500).for_each(|i| bed.insert(5 * CHUNK + i));
        assert_eq!(bed.pages(), pages);
        // But for the few before the first page.
        assert!(bed.in_sparse() < 500 + 2 * 17, "{} in the sparse part", bed.in_sparse());
    }

    /// Memory follows the survivors, in whichever order the others go.
    #[test]
    fn survivors_cost_no_pages() {
        for reversed in [false, true] {
            let bed = Bed::new();
            (1..=1000 * CHUNK).for_each(|n| bed.insert(n));
            assert_eq!((bed.pages(), bed.in_sparse()), (1000, 0));
            let dead = |n: &u64| !n.is_multiple_of(1000);
            if reversed {
                (1..=1000 * CHUNK).rev().filter(dead).for_each(|n| bed.remove(n));
            } else {
                (1..=1000 * CHUNK).filter(dead).for_each(|n| bed.remove(n));
            }
            assert!(bed.pages() < 64, "{} pages for 1,024 survivors", bed.pages());
            assert_eq!(bed.live.len(&bed.domain.enter()), 1024);
        }
    }

    /// One id in each chunk takes no page for long.
    #[test]
    fn lone_ids_cost_no_pages() {
        let bed = Bed::new();
        (0..10_000).for_each(|i| bed.insert(i * CHUNK + 1));
        assert!(bed.pages() < 256, "{} pages", bed.pages());
    }
}
