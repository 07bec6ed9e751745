//! A scheduler that looks things up and notes what it finds.

use std::collections::VecDeque;

use scxlab_engine::{
    Cid, Cx, DsqId, EnqFlags, Errno, ExitTaskArgs, Form, InitTaskArgs, OpSet, Ops, OpsFlags,
    Scheduler, State, SubArgs, Task, flags::pf,
};

/// What the probe is and does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probe {
    /// `SCX_OPS_TID_TO_TASK`.
    pub flag: bool,
    /// Look a tid up in `ops.init`.
    pub lookup_in_init: bool,
    /// Look up each task that is enqueued.
    pub lookup_in_enqueue: bool,
    /// Hold tasks that are exiting across the locks that `dispatch` drops.
    pub hold_dying: bool,
    /// In `dispatch`, look up every tid below this.
    pub sweep: u64,
    /// In `dispatch`, try to insert tasks of other schedulers.
    pub insert_foreign: bool,
    /// Fail every so many forks.
    pub fail_forks: u32,
    /// Fail `ops.init`.
    pub fail_init: bool,
    /// The cgroup to attach to.
    pub cgroup: Option<String>,
}

/// What it found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub enabled: bool,
    pub lookups: u64,
    pub wrong: Vec<String>,
    /// Tasks that `init_task` has seen.
    pub inits: u64,
    pub exits: u64,
    pub early_hits: u64,
    /// Tasks that died while the probe held them, and were still valid.
    pub held_dead: u64,
    pub own: u64,
    pub foreign: u64,
    pub foreign_refused: u64,
    sweeps: u64,
    recent: VecDeque<u64>,
    subs: Vec<u64>,
    forks: u32,
}

const QUEUE: DsqId = DsqId(7);
const REMEMBERED: usize = 64;
const SWEEPS: u64 = 50;

fn st<'a>(cx: &'a mut Cx<'_>) -> &'a mut Found {
    cx.state().expect("the state is what new_state() made")
}

impl Probe {
    /// What a probe found.
    pub fn found(state: &dyn State) -> Found {
        state.as_any().downcast_ref::<Found>().cloned().unwrap_or_default()
    }

    /// Not for ever: inserts that are dropped make the core call `dispatch` again.
    fn sweep(&self, cx: &mut Cx<'_>) {
        let state = st(cx);
        state.sweeps += 1;
        if state.sweeps > SWEEPS {
            return;
        }
        let mine = self.cgroup.is_some();
        for tid in 1..self.sweep {
            let Some(p) = cx.tid_to_task(tid) else { continue };
            let own = !mine || cx.cgroup_of(p) != 1;
            let seen = cx.get(p).scx.tid;
            let state = st(cx);
            if seen != tid {
                state.wrong.push(format!("a lookup of tid {tid} gave tid {seen}"));
            }
            if own {
                state.own += 1;
                continue;
            }
            state.foreign += 1;
            if self.insert_foreign {
                let inserted = cx.dsq_insert(p, QUEUE, 0, EnqFlags::empty());
                let state = st(cx);
                if inserted {
                    state.wrong.push(format!("an insert of tid {tid}, not its own, was done"));
                } else {
                    state.foreign_refused += 1;
                }
            }
        }
    }

    /// Looks tasks up that are dying, lets other CPUs go on, and looks whether they still are
    /// what they were.
    fn hold(cx: &mut Cx<'_>) -> bool {
        let recent: Vec<_> = st(cx).recent.iter().copied().collect();
        let held: Vec<_> = recent
            .into_iter()
            .filter_map(|tid| {
                let p = cx.tid_to_task(tid)?;
                (cx.get(p).flags & pf::PF_EXITING != 0).then_some((tid, p))
            })
            .collect();
        let moved = cx.dsq_move_to_local(QUEUE, EnqFlags::empty());
        for (tid, p) in held {
            let seen = cx.get(p).scx.tid;
            let died = cx.tid_to_task(tid).is_none();
            let state = st(cx);
            if seen != tid {
                state.wrong.push(format!(
                    "tid {tid} was looked up, and in the same section the task has tid {seen}"
                ));
            }
            state.held_dead += u64::from(died && seen == tid);
        }
        moved
    }
}

impl Scheduler for Probe {
    fn ops(&self) -> Ops {
        let mut flags = OpsFlags::ENQ_EXITING;
        flags.set(OpsFlags::TID_TO_TASK, self.flag);
        let name = if self.cgroup.is_some() { "probe_sub" } else { "probe" };
        Ops {
            name: name.into(),
            form: Form::Cid,
            implements: OpSet::ENQUEUE
                | OpSet::DISPATCH
                | OpSet::RUNNING
                | OpSet::INIT_TASK
                | OpSet::EXIT_TASK
                | OpSet::SUB_ATTACH
                | OpSet::SUB_DETACH
                | OpSet::INIT,
            flags,
            timeout_ms: 5_000,
            sub_cgroup: self.cgroup.clone(),
            ..Ops::default()
        }
    }

    fn new_state(&self) -> Box<dyn State> {
        Box::new(Found::default())
    }

    fn init(&self, cx: &mut Cx<'_>) -> Result<(), Errno> {
        if self.lookup_in_init && cx.tid_to_task(1).is_some() {
            st(cx).wrong.push("a lookup in ops.init found a task".into());
        }
        if self.fail_init {
            return Err(Errno(1));
        }
        cx.create_dsq(QUEUE)
    }

    fn init_task(&self, cx: &mut Cx<'_>, p: Task<'_>, args: &InitTaskArgs) -> Result<(), Errno> {
        st(cx).inits += 1;
        if self.flag && self.cgroup.is_none() {
            let tid = cx.get(p).scx.tid;
            if cx.tid_to_task(tid).is_some() {
                st(cx).early_hits += 1;
            }
        }
        if args.fork && self.fail_forks > 0 {
            let state = st(cx);
            state.forks += 1;
            if state.forks.is_multiple_of(self.fail_forks) {
                return Err(Errno(12));
            }
        }
        Ok(())
    }

    fn exit_task(&self, cx: &mut Cx<'_>, _p: Task<'_>, _args: &ExitTaskArgs) {
        st(cx).exits += 1;
    }

    fn enqueue(&self, cx: &mut Cx<'_>, p: Task<'_>, enq: EnqFlags) {
        let tid = cx.get(p).scx.tid;
        if self.lookup_in_enqueue {
            let found = cx.tid_to_task(tid).map(|q| cx.get(q).scx.tid);
            let state = st(cx);
            state.lookups += 1;
            if found != Some(tid) && self.flag {
                state.wrong.push(format!("in ops.enqueue the lookup of tid {tid} gave {found:?}"));
            }
        }
        cx.dsq_insert(p, QUEUE, 2_000_000, enq);
    }

    fn running(&self, cx: &mut Cx<'_>, p: Task<'_>) {
        let tid = cx.get(p).scx.tid;
        let state = st(cx);
        state.recent.push_back(tid);
        if state.recent.len() > REMEMBERED {
            state.recent.pop_front();
        }
    }

    fn dispatch_cid(&self, cx: &mut Cx<'_>, _cid: Cid, _prev: Option<Task<'_>>) {
        st(cx).enabled = true;
        self.sweep(cx);
        let moved = if self.hold_dying {
            Self::hold(cx)
        } else {
            cx.dsq_move_to_local(QUEUE, EnqFlags::empty())
        };
        if moved {
            return;
        }
        for cgroup in st(cx).subs.clone() {
            if cx.sub_dispatch(cgroup) {
                return;
            }
        }
    }

    fn sub_attach(&self, cx: &mut Cx<'_>, args: &SubArgs) -> Result<(), Errno> {
        st(cx).subs.push(args.cgroup_id);
        Ok(())
    }

    fn sub_detach(&self, cx: &mut Cx<'_>, args: &SubArgs) {
        st(cx).subs.retain(|&cgroup| cgroup != args.cgroup_id);
    }
}
