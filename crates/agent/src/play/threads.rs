//! The threads that a task has created.

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Acquire, Ordering::Release};

use scxlab_engine::program::{Index, Pc};

use super::chance::Chance;
use super::stage::Stage;
use super::task::{Role, Task};
use super::{futex, kernel};

/// What a thread gets to run on. A task of the workload needs little, and there may be thousands.
const STACK: usize = 128 << 10;

/// With fewer than this there is no need to look for those that have ended.
const FEW: usize = 16;

/// The threads that a task has created and that may not have ended.
#[derive(Default)]
pub(super) struct Threads {
    made: Vec<libc::pthread_t>,
    /// How many to have before looking for those that have ended.
    sweep_at: usize,
}

/// The tid of a thread, once it has begun.
#[derive(Clone, Debug, Default)]
pub(super) struct LateTid(Arc<AtomicU32>);

impl LateTid {
    /// Waits until the thread has begun, which it will.
    pub fn get(&self) -> i32 {
        loop {
            match self.0.load(Acquire) {
                0 => futex::wait(&self.0, 0),
                tid => return tid as i32,
            };
        }
    }
}

/// What a new thread is told.
struct Brief {
    stage: &'static Stage,
    entry: Pc,
    name: Index,
    chance: Chance,
    tid: LateTid,
}

impl Threads {
    /// Creates a thread that begins at `entry`. Nothing if it cannot be had.
    pub fn create(
        &mut self,
        stage: &'static Stage,
        entry: Pc,
        name: Index,
        chance: Chance,
    ) -> Option<LateTid> {
        self.sweep();
        let tid = LateTid::default();
        let brief = Box::new(Brief { stage, entry, name, chance, tid: tid.clone() });
        let brief = Box::into_raw(brief);
        // SAFETY: the attributes are initialised before use and destroyed after; `brief` becomes
        // the new thread's, or ours again if there is none.
        unsafe {
            let mut attr = MaybeUninit::<libc::pthread_attr_t>::uninit();
            let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
            libc::pthread_attr_init(attr.as_mut_ptr());
            libc::pthread_attr_setstacksize(attr.as_mut_ptr(), STACK);
            let error =
                libc::pthread_create(thread.as_mut_ptr(), attr.as_ptr(), thread_main, brief.cast());
            libc::pthread_attr_destroy(attr.as_mut_ptr());
            if error != 0 {
                drop(Box::from_raw(brief));
                return None;
            }
            self.made.push(thread.assume_init());
        }
        Some(tid)
    }

    /// Waits until all have ended.
    pub fn join_all(&mut self) {
        for thread in self.made.drain(..) {
            // SAFETY: created by this process and neither joined nor detached before.
            unsafe { libc::pthread_join(thread, std::ptr::null_mut()) };
        }
    }

    /// From now on they give back what they have when they end.
    pub fn detach(&mut self) {
        for thread in self.made.drain(..) {
            // SAFETY: created by this process and neither joined nor detached before.
            unsafe { libc::pthread_detach(thread) };
        }
    }

    /// Joins those that have ended, now and then, so that a task which never joins does not
    /// collect their stacks.
    fn sweep(&mut self) {
        if self.made.len() < self.sweep_at.max(FEW) {
            return;
        }
        self.made.retain(|thread| {
            // SAFETY: created by this process and neither joined nor detached before.
            unsafe { libc::pthread_tryjoin_np(*thread, std::ptr::null_mut()) != 0 }
        });
        self.sweep_at = 2 * self.made.len();
    }
}

extern "C" fn thread_main(brief: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: `create` made it of a Box and left it to this thread.
    let brief = unsafe { Box::from_raw(brief.cast::<Brief>()) };
    let Brief { stage, entry, name, chance, tid } = *brief;
    tid.0.store(kernel::gettid() as u32, Release);
    futex::wake_all(&tid.0);
    drop(tid);
    Task::begin(stage, Role::Thread, entry, name, chance).play();
    std::ptr::null_mut()
}
