//! Why a task was lost, from what was recorded as it happened.
//!
//! The engine does not know how a scheduler finds its tasks. It notes who had which pid and lost
//! it how, when a task came into custody, which callback looked up what since, and what became of
//! inserts. [`Engine::lost_tasks`] puts that together.

use std::fmt::Write as _;

use crate::Nanos;
use crate::engine::Engine;
use crate::flags::DsqId;
use crate::kfunc::Op;
use crate::sim::{Enqueued, Evidence, Fate, Inserted, Key, LostPid, Missed};
use crate::task::{NIL, Pid, TaskIdx};
use crate::trace::{PidLoss, TaskName, What};

/// Missed lookups that are kept for each task: the first tells the story.
const MOST_MISSED: usize = 4;

/// A task that is runnable and has not run for at least the watchdog's timeout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StalledTask {
    /// Its name.
    pub comm: String,
    /// Its pid now; released if `pid_released`.
    pub pid: Pid,
    /// Whether that pid is its no longer.
    pub pid_released: bool,
    /// Its tid.
    pub tid: u64,
    /// Since when it has been runnable.
    pub runnable_since: Nanos,
    /// For how long.
    pub runnable_for: Nanos,
    /// What happened to it.
    pub explanation: String,
}

impl Engine {
    /// A task came into the scheduler's custody.
    pub(crate) fn note_queued(&mut self, p: TaskIdx) {
        let (at, cpu, pid) = (self.now, self.this_cpu, self.p(p).pid());
        let evidence = &mut self.sim_mut(p).evidence;
        evidence.enqueued = Some(Enqueued { at, cpu, pid });
        evidence.missed.clear();
        evidence.inserted = None;
    }

    /// A lookup: did it miss a task that waits for one?
    pub(crate) fn note_lookup(&mut self, op: Op, key: Key, found: Option<TaskIdx>) {
        match key {
            Key::Pid(pid) => {
                let Some(holders) = self.former_holders.get(&pid.0) else { return };
                for p in holders.clone() {
                    if Some(p) != found && self.p(p).in_custody() {
                        self.stats.old_pid_names_other += u64::from(found.is_some());
                        self.note_missed(p, op, key, found);
                    }
                }
            }
            // The search is linear, and a scheduler may miss all the time: the first ones count.
            Key::Tid(tid) if found.is_none() && tid != 0 && self.stats.tid_misses < 1024 => {
                let waits = |p: &TaskIdx| self.p(*p).scx.tid == tid && self.p(*p).in_custody();
                let lost = self.scx_tasks.iter(&self.tasks).find(waits);
                if let Some(p) = lost {
                    self.note_missed(p, op, key, found);
                }
            }
            Key::Tid(_) => {}
        }
    }

    fn note_missed(&mut self, p: TaskIdx, op: Op, key: Key, found: Option<TaskIdx>) {
        let got = found.map(|q| self.name(q));
        let missed = Missed { at: self.now, cpu: self.this_cpu, op: op.name(), key, got };
        if let Key::Pid(pid) = key {
            self.record(|engine| What::LookupMissed { lost: engine.name(p), pid, got });
        }
        let list = &mut self.sim_mut(p).evidence.missed;
        if list.len() < MOST_MISSED {
            list.push(missed);
        }
    }

    /// An insert named the task.
    pub(crate) fn note_insert(&mut self, p: TaskIdx, dsq: DsqId, fate: Fate) {
        let inserted = Inserted { at: self.now, cpu: self.this_cpu, dsq: dsq.0, fate };
        self.sim_mut(p).evidence.inserted = Some(inserted);
    }

    /// What became of the last insert that named the task.
    pub(crate) fn note_fate(&mut self, p: TaskIdx, fate: Fate) {
        if let Some(inserted) = &mut self.sim_mut(p).evidence.inserted {
            inserted.fate = fate;
        }
    }

    /// A new task got a pid; did a live task have it before?
    pub(crate) fn note_pid_taken(&mut self, pid: Pid) {
        if self.former_holders.contains_key(&pid.0) {
            self.stats.pids_reused_early += 1;
        }
    }

    /// A scheduler's exit begins: keeps what is lost at this moment.
    pub(crate) fn note_exit(&mut self) {
        self.stalled = self.overdue();
    }

    /// The tasks that had been runnable for at least their scheduler's timeout without running:
    /// when the scheduler's exit began, or else now.
    pub fn lost_tasks(&self) -> Vec<StalledTask> {
        match self.root {
            Some(root) if self.sch(root).exit_phase == crate::ext::sched::ExitPhase::None => {
                self.overdue()
            }
            _ => self.stalled.clone(),
        }
    }

    fn overdue(&self) -> Vec<StalledTask> {
        let (jiffies, jiffy) = (self.jiffies(), self.jiffy().0);
        let mut all = Vec::new();
        for rq in &self.rqs {
            for p in rq.scx.runnable_list.iter(&self.tasks) {
                let Some(sched) = self.task_sched(p) else { continue };
                let timeout = self.sch(sched).watchdog_timeout.0 / jiffy;
                if jiffies >= self.p(p).scx.runnable_at + timeout {
                    all.push(self.stalled_task(p));
                }
            }
        }
        all.sort_by_key(|task| (task.runnable_since, task.tid));
        all
    }

    fn stalled_task(&self, p: TaskIdx) -> StalledTask {
        let sim = self.sim(p);
        StalledTask {
            comm: self.p(p).comm().to_owned(),
            pid: self.p(p).pid(),
            pid_released: sim.released,
            tid: self.p(p).scx.tid,
            runnable_since: sim.runnable_since,
            runnable_for: self.now - sim.runnable_since,
            explanation: self.explain(p),
        }
    }

    /// The story of a task that does not run.
    fn explain(&self, p: TaskIdx) -> String {
        let evidence = &self.sim(p).evidence;
        let mut s = format!("tid {} ", self.p(p).scx.tid);
        // An older time in custody has nothing to do with this wait.
        let since = self.sim(p).runnable_since;
        let Some(enqueued) = evidence.enqueued.filter(|enqueued| enqueued.at >= since) else {
            let _ = write!(s, "became runnable at {} s. ", self.sim(p).runnable_since);
            self.explain_place(&mut s, p);
            return s;
        };
        let Enqueued { at, cpu, pid } = enqueued;
        let _ = write!(s, "was handed to ops.enqueue at {at} s on CPU {cpu}, as pid {pid}. ");
        match evidence.missed.first() {
            Some(missed) => self.explain_missed(&mut s, evidence, missed, at),
            None => self.explain_place(&mut s, p),
        }
        s
    }

    fn explain_missed(&self, s: &mut String, evidence: &Evidence, missed: &Missed, since: Nanos) {
        let Missed { at, cpu, op, key, got } = *missed;
        let waited = since_text(at - since);
        let key_text = match key {
            Key::Pid(pid) => format!("task_from_pid({pid})"),
            Key::Tid(tid) => format!("tid_to_task({tid})"),
        };
        let _ = write!(
            s,
            "{waited} later, at {at} s, ops.{op} on CPU {cpu} called {key_text} and got "
        );
        match got {
            None => s.push_str("nothing"),
            Some(TaskName { tid, .. }) => {
                let other = got.as_ref().map_or("?", TaskName::comm);
                let _ = write!(s, "another task, `{other}` (tid {tid})");
            }
        }
        let Key::Pid(pid) = key else {
            s.push_str(": the table did not have it.");
            return;
        };
        let lost = evidence.lost_pids.iter().rev().find(|lost| lost.pid == pid);
        match lost {
            Some(lost) => explain_loss(s, evidence, lost, at),
            None => s.push('.'),
        }
        match evidence.inserted {
            Some(inserted) if inserted.at > at => explain_insert(s, &inserted),
            _ => s.push_str(" No callback has inserted the task since."),
        }
    }

    /// Where the task is, for one that no lookup missed.
    fn explain_place(&self, s: &mut String, p: TaskIdx) {
        let task = self.p(p);
        let cpus = task.cpus_ptr();
        if task.scx.dsq != NIL {
            let dsq = &self.dsqs[task.scx.dsq as usize];
            let queue = match dsq.id {
                DsqId::LOCAL => format!("the local queue of CPU {}", task.cpu),
                DsqId::GLOBAL => "the global queue".to_owned(),
                DsqId::BYPASS => "a bypass queue".to_owned(),
                id => format!("queue {:#x}", id.0),
            };
            let _ = write!(
                s,
                "It waits in {queue} with {} others and may run on CPU {cpus}; no CPU has taken it.",
                dsq.nr - 1
            );
            return;
        }
        match self.sim(p).evidence.inserted {
            Some(inserted) => explain_insert(s, &inserted),
            None => s.push_str("The scheduler has it, and no callback has inserted it since."),
        }
    }
}

/// What became of an insert.
fn explain_insert(s: &mut String, inserted: &Inserted) {
    let Inserted { at, cpu, dsq, fate } = *inserted;
    let what = match fate {
        Fate::Stale => "was voided: the task had been queued anew since",
        Fate::NotQueued => "was dropped: the task was not queued",
        Fate::NotOwned => "was dropped: the task belongs to another scheduler",
        Fate::Buffered => "was not carried out: it was cancelled, or the callback has not ended",
        Fate::Done => "was carried out",
    };
    let _ = write!(s, " An insert into {dsq:#x} by CPU {cpu} at {at} s {what}.");
}

/// How a pid was lost, and what that means for whoever kept it.
fn explain_loss(s: &mut String, evidence: &Evidence, lost: &LostPid, looked: Nanos) {
    let LostPid { pid, at, how } = *lost;
    let ago = since_text(looked - at);
    let _ = match evidence.init {
        Some((init_pid, init_at)) if init_pid == pid => {
            write!(s, ": pid {pid} was the task's from ops.init_task at {init_at} s until {at} s, ")
        }
        _ => write!(s, ": pid {pid} was the task's until {at} s, "),
    };
    let _ = match how {
        PidLoss::Exit => write!(
            s,
            "{ago} before, when its own exit released it (nobody waits for the task). \
             It still has to run to finish that exit."
        ),
        PidLoss::Reaped { by } => write!(
            s,
            "{ago} before, when its parent `{}` (tid {}) waited for it. \
             It still has to run to finish its exit.",
            by.comm(),
            by.tid
        ),
        PidLoss::ExecReleased { by } => write!(
            s,
            "{ago} before, when the exec of `{}` (tid {}), another thread of its process, \
             released it. It still has to run to finish its exit.",
            by.comm(),
            by.tid
        ),
        PidLoss::ExecSwapped { leader } => write!(
            s,
            "{ago} before, when its exec, by a thread that was not the leader, gave it the pid \
             of the leader (tid {}) instead and released {pid}.",
            leader.tid
        ),
        PidLoss::ExecTaken { by } => write!(
            s,
            "{ago} before, when the exec of `{}` (tid {}), another thread of its process, took it.",
            by.comm(),
            by.tid
        ),
    };
}

/// A length of time as people say it.
fn since_text(t: Nanos) -> String {
    match t.0 {
        0..1_000_000 => format!("{} us", t.0 / 1_000),
        1_000_000..1_000_000_000 => format!("{}.{:01} ms", t.0 / 1_000_000, t.0 / 100_000 % 10),
        _ => format!("{}.{:03} s", t.0 / 1_000_000_000, t.0 / 1_000_000 % 1_000),
    }
}
