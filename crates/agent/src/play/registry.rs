//! Which tasks live under which name.
//!
//! A task that instructions mean by name holds a slot on the stage, as one would hold a robust
//! mutex: its tid is in the slot's word, and its robust list (`set_robust_list(2)`) has the slot.
//! So the kernel itself marks the slot when the task dies, of whatever: nobody has to notice, and
//! no slot is lost. The order of steps below is that of `get_robust_list(2)`: `pending` covers the
//! moments at which a word is taken and the list does not have it yet.
//!
//! Where this is less than the engine promises: a task is found from its first step on, not from
//! its fork on, and not while it execs. While it execs because the kernel walks the list then as
//! if the task had ended, under the pid that it has by then.

use std::cell::UnsafeCell;
use std::mem::offset_of;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use scxlab_engine::program::Index;

use super::kernel;
use super::stage::{Slot, Stage};

/// The bit that the kernel sets in the word of a dead owner, and those of a tid.
const TID: u32 = 0x3fff_ffff;
const OWNER_DIED: u32 = 0x4000_0000;

/// How many slots to look at before another one is opened up.
const PROBES: u32 = 16;

/// The kernel's `struct robust_list_head`.
#[repr(C)]
struct Head {
    next: u64,
    offset: i64,
    pending: u64,
}

thread_local! {
    /// What the kernel reads when the thread ends. It lies with the thread's stack, which is there
    /// until after that.
    static HEAD: UnsafeCell<Head> = const { UnsafeCell::new(Head { next: 0, offset: 0, pending: 0 }) };
}

/// A slot that this task holds.
#[derive(Debug)]
pub(super) struct Registration(usize);

/// Another live task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    slot: usize,
    pub tid: i32,
    pub tgid: i32,
}

/// Enters the calling thread under `name`. Nothing if all slots are taken.
pub(super) fn enter(stage: &Stage, name: Index) -> Option<Registration> {
    let head = HEAD.with(UnsafeCell::get);
    let tid = kernel::gettid();
    // SAFETY: only this thread writes to its head, and the kernel reads it only in system calls of
    // this thread and at its end.
    unsafe {
        (*head).next = head as u64;
        (*head).offset = offset_of!(Slot, word) as i64 - offset_of!(Slot, next) as i64;
        (*head).pending = 0;
        libc::syscall(libc::SYS_set_robust_list, head, size_of::<Head>());
    }
    let slots = stage.slots();
    let take = |i: usize| -> bool {
        let Some(slot) = slots.get(i) else { return false };
        let seen = slot.word.load(Relaxed);
        if seen & TID != 0 && seen & OWNER_DIED == 0 {
            return false;
        }
        // SAFETY: as above; volatile, as the kernel must see it before the word is taken.
        unsafe { (&raw mut (*head).pending).write_volatile(&raw const slot.next as u64) };
        if slot.word.compare_exchange(seen, tid as u32, AcqRel, Relaxed).is_err() {
            return false;
        }
        slot.name.store(name, Relaxed);
        slot.who.store(pair(tid, kernel::getpid()), Release);
        slot.next.store(head as u64, Relaxed);
        // SAFETY: as above.
        unsafe { (&raw mut (*head).next).write_volatile(&raw const slot.next as u64) };
        true
    };
    let found = find_slot(stage, take);
    // SAFETY: as above.
    unsafe { (&raw mut (*head).pending).write_volatile(0) };
    found.map(Registration)
}

/// Reuses the slots of the dead where that is quick, so that the ones in use stay few.
fn find_slot(stage: &Stage, take: impl Fn(usize) -> bool) -> Option<usize> {
    let board = stage.board();
    let all = stage.slots().len() as u32;
    let used = board.slots_used.load(Relaxed).min(all);
    for _ in 0..PROBES.min(used) {
        let i = (board.slots_cursor.fetch_add(1, Relaxed) % used) as usize;
        if take(i) {
            return Some(i);
        }
    }
    while board.slots_used.load(Relaxed) < all {
        let i = board.slots_used.fetch_add(1, Relaxed) as usize;
        if take(i) {
            return Some(i);
        }
    }
    (0..all as usize).find(|i| take(*i))
}

impl Registration {
    /// Takes the calling thread out again.
    pub fn leave(self, stage: &Stage) {
        let head = HEAD.with(UnsafeCell::get);
        let slot = &stage.slots()[self.0];
        // SAFETY: as in `enter`.
        unsafe {
            (&raw mut (*head).pending).write_volatile(&raw const slot.next as u64);
            (&raw mut (*head).next).write_volatile(head as u64);
        }
        slot.word.store(0, Release);
        // SAFETY: as in `enter`.
        unsafe { (&raw mut (*head).pending).write_volatile(0) };
    }
}

/// All live tasks that were started as `name`.
pub(super) fn find(stage: &Stage, name: Index) -> Vec<Found> {
    let slots = stage.slots();
    let used = (stage.board().slots_used.load(Relaxed) as usize).min(slots.len());
    let entries = slots[..used].iter().enumerate();
    let found = entries.filter_map(|(i, slot)| {
        let who = slot.who.load(Acquire);
        let found = Found { slot: i, tid: (who >> 32) as i32, tgid: who as i32 };
        (slot.name.load(Relaxed) == name && found.is_alive(stage)).then_some(found)
    });
    found.collect()
}

impl Found {
    /// Whether it is still there, so that its tid and its process's pid are too.
    pub fn is_alive(&self, stage: &Stage) -> bool {
        let slot = &stage.slots()[self.slot];
        let word = slot.word.load(Acquire);
        self.tid > 0
            && word & (TID | OWNER_DIED) == self.tid as u32
            && slot.who.load(Acquire) == pair(self.tid, self.tgid)
    }
}

fn pair(tid: i32, tgid: i32) -> u64 {
    u64::from(tid as u32) << 32 | u64::from(tgid as u32)
}
