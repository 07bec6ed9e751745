//! What must be true after every event. Checked in debug builds and by the property tests.

use crate::engine::Engine;
use crate::events::Event;
use crate::ext::enable::EnablePhase;
use crate::flags::{opss, state};
use crate::task::{NIL, SchedClass, TaskIdx};

impl Engine {
    /// Panics if an invariant is broken: this is a bug of the engine's.
    pub(crate) fn assert_invariants(&self, event: Event) {
        if let Err(what) = self.check_invariants() {
            panic!("at {} s, after {event:?}: {what}", self.now);
        }
    }

    /// Checks what must be true between events; the error says what is not.
    ///
    /// # Errors
    /// The first invariant that is broken.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.check_places()?;
        self.check_pids()?;
        self.check_tid_table()?;
        self.check_queues()
    }

    fn who(&self, p: TaskIdx) -> String {
        let task = self.p(p);
        format!("{}[{}] (tid {})", task.comm(), task.pid, task.scx.tid)
    }

    /// A runnable task is in exactly one place, and a dead one in none.
    fn check_places(&self) -> Result<(), String> {
        for p in self.scx_tasks.iter(&self.tasks) {
            let task = self.p(p);
            if task.sched_class() == SchedClass::Idle {
                continue;
            }
            let current = self.is_current(p);
            let in_transfer = task.scx.holding_cpu >= 0 || task.scx.sticky_cpu >= 0;
            if in_transfer && self.frames.is_empty() {
                return Err(format!("{} is still in a transfer", self.who(p)));
            }
            // Half-way: a transfer by a CPU in a seam, or the task that such a CPU switches from.
            if in_transfer || current && self.frames.contains(&self.task_cpu(p)) {
                continue;
            }
            let places = [
                (current, "running"),
                (task.scx.dsq != NIL, "in a dispatch queue"),
                (task.scx.dsq == NIL && task.scx.dsq_list.is_on(), "in a deferred dispatch"),
                (task.scx.ops_state & opss::STATE_MASK == opss::QUEUED, "in custody"),
                (self.sim(p).on_fair && !current, "in the fair queue"),
            ];
            let held: Vec<_> = places.iter().filter(|(held, _)| *held).map(|(_, w)| *w).collect();
            let runnable = task.on_rq == 1;
            if held.len() != usize::from(runnable) {
                let what = if runnable { "runnable" } else { "not runnable" };
                return Err(format!("{} is {what} and {held:?}", self.who(p)));
            }
            if task.queued() != (runnable && task.sched_class() == SchedClass::Ext) {
                return Err(format!("{}: SCX_TASK_QUEUED is wrong", self.who(p)));
            }
            let waits = task.queued() && !current;
            if task.scx.runnable_node.is_on() != waits {
                return Err(format!("{}: runnable_list is wrong", self.who(p)));
            }
            if task.queued()
                && !current
                && !task.in_custody()
                && task.scx.dsq == NIL
                && !task.scx.dsq_list.is_on()
            {
                return Err(format!("{} is nobody's", self.who(p)));
            }
        }
        for (cpu, rq) in self.rqs.iter().enumerate() {
            let switching = self.frames.contains(&crate::CpuId(cpu as u32));
            if !switching && self.p(rq.curr).__state == state::TASK_DEAD {
                return Err(format!("{} runs after its last switch", self.who(rq.curr)));
            }
        }
        Ok(())
    }

    /// Every pid maps to its task and to no other.
    fn check_pids(&self) -> Result<(), String> {
        let mut attached = 0;
        for (i, task) in self.tasks.iter().enumerate() {
            let (p, sim) = (TaskIdx(i as u32), &self.sim[i]);
            if sim.usage == 0 || task.pid == 0 || sim.released {
                continue;
            }
            attached += 1;
            if self.pids.find(task.pid()) != Some(p) {
                return Err(format!("pid {} does not lead to {}", task.pid, self.who(p)));
            }
        }
        if attached != self.pids.attached() {
            return Err(format!("{attached} tasks have {} pids", self.pids.attached()));
        }
        Ok(())
    }

    /// While the table is live and enabling is past the tasks, it has exactly the live ones.
    fn check_tid_table(&self) -> Result<(), String> {
        // Full from the end of the first phase of an attach; never, if that fails.
        let full = match &self.enable_work {
            Some(work) => matches!(work.phase, EnablePhase::Switch | EnablePhase::SubInit),
            None => self.root.is_some_and(|root| self.sch(root).attached),
        };
        if !self.tid_hash.is_enabled() {
            return Ok(());
        }
        let table = self.tid_hash.pin();
        for (tid, p) in table.iter().map(|(tid, p)| (tid, TaskIdx(p))) {
            if self.p(p).scx.tid != tid.get() {
                return Err(format!("tid {tid} leads to {}", self.who(p)));
            }
            if !self.p(p).scx.tasks_node.is_on() {
                return Err(format!("dead {} is in the table", self.who(p)));
            }
        }
        if !full || !self.tid_to_task_enabled {
            return Ok(());
        }
        let live = self
            .scx_tasks
            .iter(&self.tasks)
            .filter(|&p| self.p(p).sched_class() != SchedClass::Idle)
            .count();
        if live != table.len() {
            return Err(format!("{live} live tasks, {} in the tid table", table.len()));
        }
        Ok(())
    }

    fn check_queues(&self) -> Result<(), String> {
        for (i, dsq) in self.dsqs.iter().enumerate() {
            let mut nr = 0;
            for p in dsq.list.iter(&self.tasks) {
                nr += 1;
                if self.p(p).scx.dsq != i as u32 {
                    return Err(format!("{} is in a queue that it does not know", self.who(p)));
                }
            }
            if nr != dsq.nr {
                return Err(format!("queue {:#x} has {nr} tasks, counts {}", dsq.id.0, dsq.nr));
            }
        }
        Ok(())
    }
}
