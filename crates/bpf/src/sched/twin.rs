//! A clone in the middle of a program, which goes on by itself.
//!
//! All that a program is, half-way through, is values: its registers and frames, what it holds, its
//! memory, the engine. Where the engine checks itself, some programs that are about to be left are
//! cloned there with all of this. The clone runs to the end of the program first, with whatever
//! other CPUs do in its middle; then the program goes on, and has to come to the same: what it
//! returns, and every byte of its memory and of the engine.

use std::sync::atomic::Ordering;

use super::BpfScheduler;
use super::call::{Call, Failed};
use super::state::State;
use crate::machine::Thread;

/// One program of so many that are left has a clone.
const OF: u64 = 8;

/// How a clone ended.
#[derive(Debug)]
pub(super) struct Twin {
    end: String,
}

impl Call<'_, '_> {
    /// Makes a clone of the program, if it is about to be left for the first time, and runs that to
    /// its end.
    pub(super) fn may_have_twin(&mut self, thread: &Thread) {
        let due = self.pace.is_over()
            && self.twin.is_none()
            && self.cx.checks_itself()
            && self.cx.can_be_left()
            && !self.cx.is_within_another()
            && self.cx.now().0.is_multiple_of(OF);
        if due {
            self.sched.twins.fetch_add(1, Ordering::Relaxed);
            self.twin = Some(Twin { end: self.end_of_a_clone(thread) });
        }
    }

    fn end_of_a_clone(&mut self, thread: &Thread) -> String {
        let mut thread = thread.clone();
        let (sched, args, callee) = (self.sched, self.args, self.callee);
        let (sections, walks) = (self.sections.clone(), self.walks.clone());
        let (begun, held, timer) = (self.begun, self.held, self.timer);
        let sleepable = self.sleepable;
        let (spent, fuel, pace, at) = (self.spent, self.fuel, self.pace, self.at);
        self.with_core(|cx| {
            cx.on_a_copy(|cx| {
                let inner = cx.state::<State>().and_then(|state| state.0.take());
                let mut clone = Call {
                    sched,
                    cx,
                    inner,
                    args,
                    callee,
                    sleepable,
                    sections,
                    walks,
                    begun,
                    held,
                    timer,
                    spent,
                    fuel,
                    pace,
                    twin: Some(Twin { end: String::new() }),
                    at,
                };
                let result = clone.go_on_alone(&mut thread);
                clone.all_of_it(&result)
            })
        })
    }

    /// All that is to be the same.
    fn all_of_it(&self, result: &Result<u64, Failed>) -> String {
        format!("{result:?} {:?} {:?} {:?}", self.fuel, self.inner, self.cx)
    }
}

impl BpfScheduler {
    /// How many programs had a clone that was made in their middle and ran to their end, in all
    /// engines that check themselves. Only with an [`Interleave`](super::Interleave).
    pub fn clones(&self) -> u64 {
        self.twins.load(Ordering::Relaxed)
    }
}

impl Twin {
    /// The program ended too.
    pub fn ended_as(self, call: &Call<'_, '_>, result: &Result<u64, Failed>) {
        let end = call.all_of_it(result);
        assert!(self.end == end, "a clone in the middle of a program went on differently");
    }
}
