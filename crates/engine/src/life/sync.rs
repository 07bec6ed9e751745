//! The program's mutexes, condition variables and barriers. First come, first served: an unlock
//! hands over to the task that has waited longest.

use crate::engine::Engine;
use crate::flags::state;
use crate::program::Index;
use crate::sim::Wait;
use crate::task::TaskIdx;

impl Engine {
    fn sleep_on(&mut self, p: TaskIdx, wait: Wait) {
        self.sim_mut(p).wait = wait;
        self.p_mut(p).__state = state::TASK_INTERRUPTIBLE;
    }

    fn wake_waiter(&mut self, p: TaskIdx) {
        self.sim_mut(p).wait = Wait::Nothing;
        self.try_to_wake_up(p, state::TASK_INTERRUPTIBLE);
    }

    pub(crate) fn mutex_lock(&mut self, p: TaskIdx, m: Index) {
        let mutex = &mut self.mutexes[m as usize];
        if mutex.owner.is_none() {
            mutex.owner = Some(p);
        } else {
            mutex.waiters.push_back(p);
            self.sleep_on(p, Wait::Mutex(m));
        }
    }

    pub(crate) fn mutex_unlock(&mut self, p: TaskIdx, m: Index) {
        let mutex = &mut self.mutexes[m as usize];
        if mutex.owner != Some(p) {
            return;
        }
        mutex.owner = mutex.waiters.pop_front();
        if let Some(next) = mutex.owner {
            self.wake_waiter(next);
        }
    }

    pub(crate) fn cond_wait(&mut self, p: TaskIdx, cond: Index, mutex: Index) {
        self.conds[cond as usize].push_back(p);
        self.sleep_on(p, Wait::Cond { cond, mutex });
        self.mutex_unlock(p, mutex);
    }

    /// A signalled task has its mutex when it wakes; until it can have it, it waits for that.
    pub(crate) fn cond_signal(&mut self, cond: Index) -> bool {
        let Some(p) = self.conds[cond as usize].pop_front() else { return false };
        let Wait::Cond { mutex: m, .. } = self.sim(p).wait else { return true };
        let mutex = &mut self.mutexes[m as usize];
        if mutex.owner.is_none() {
            mutex.owner = Some(p);
            self.wake_waiter(p);
        } else {
            mutex.waiters.push_back(p);
            self.sim_mut(p).wait = Wait::Mutex(m);
        }
        true
    }

    pub(crate) fn cond_broadcast(&mut self, cond: Index) {
        while self.cond_signal(cond) {}
    }

    pub(crate) fn barrier(&mut self, p: TaskIdx, b: Index) {
        let need = self.config.program.barriers[b as usize].max(1) as usize;
        if self.barriers[b as usize].len() + 1 < need {
            self.barriers[b as usize].push_back(p);
            self.sleep_on(p, Wait::Barrier(b));
            return;
        }
        for waiter in std::mem::take(&mut self.barriers[b as usize]) {
            self.wake_waiter(waiter);
        }
    }
}
