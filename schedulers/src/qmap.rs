//! `qmap`: five FIFOs, chosen by weight.
//!
//! Its state is what a BPF scheduler can keep in an arena: task contexts in a slab, linked by
//! index, with no pointer to a task. So it has to find the task of a context that it takes off a
//! FIFO, and how it does is the point: by the tid, or by the pid that the task had when
//! `init_task` saw it.

use scx_tid::{Table, Tid};
use scxlab_engine::{
    Cid, CpuId, Cpumask, Cx, DeqFlags, DsqId, DumpCtx, EnqFlags, Errno, ExitTaskArgs, Form,
    InitTaskArgs, KickFlags, OpSet, Ops, OpsFlags, Pid, Scheduler, State, SubArgs, Task, WakeFlags,
};

use crate::options::{CreateError, Options, SchedOption};

/// What can be set.
pub(crate) const OPTIONS: &[SchedOption] = &[
    SchedOption {
        key: "key",
        values: "tid, pid",
        default: "tid",
        about: "what a queued task is found by when its turn comes",
    },
    SchedOption {
        key: "exiting",
        values: "on, off",
        default: "on",
        about: "take exiting tasks too (SCX_OPS_ENQ_EXITING)",
    },
    SchedOption {
        key: "slice_us",
        values: "100 to 10000000",
        default: "20000",
        about: "the slice of a task, in microseconds",
    },
    SchedOption {
        key: "batch",
        values: "1 to 32",
        default: "1",
        about: "tasks that one dispatch takes off the FIFOs",
    },
    SchedOption {
        key: "max_tasks",
        values: "1 to 4194304",
        default: "262144",
        about: "room for task contexts in the arena",
    },
];

/// All tasks that were taken off a FIFO and wait for a CPU that may run them.
const SHARED_DSQ: DsqId = DsqId(0);
const FIFOS: usize = 5;
const MAX_SUB_SCHEDS: usize = 8;

/// What a queued task is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// `scx_bpf_tid_to_task()`.
    Tid,
    /// `bpf_task_from_pid()`, of the pid at `init_task`.
    Pid,
}

/// The scheduler. Its cid form, as 7.2's, so that it can be a parent.
#[derive(Clone, Debug)]
pub struct Qmap {
    key: Key,
    exiting: bool,
    slice: u64,
    batch: u32,
    max_tasks: u32,
    sub_cgroup: Option<String>,
}

impl Default for Qmap {
    fn default() -> Self {
        Self {
            key: Key::Tid,
            exiting: true,
            slice: 20_000_000,
            batch: 1,
            max_tasks: 262_144,
            sub_cgroup: None,
        }
    }
}

impl Qmap {
    /// With the default slice, finding tasks by `key`.
    pub fn keyed_by(key: Key) -> Self {
        Self { key, ..Self::default() }
    }

    /// Whether to take exiting tasks too.
    #[must_use]
    pub fn exiting(self, exiting: bool) -> Self {
        Self { exiting, ..self }
    }

    /// Attaches to a cgroup, as a sub-scheduler.
    #[must_use]
    pub fn on_cgroup(self, path: &str) -> Self {
        Self { sub_cgroup: Some(path.to_owned()), ..self }
    }

    pub(crate) fn from_options(options: &Options<'_>) -> Result<Self, CreateError> {
        Ok(Self {
            key: options.get("key", |value| match value {
                "tid" => Some(Key::Tid),
                "pid" => Some(Key::Pid),
                _ => None,
            })?,
            exiting: options.switch("exiting")?,
            slice: options.number("slice_us", 100, 10_000_000)? * 1_000,
            batch: options.number("batch", 1, 32)? as u32,
            max_tasks: options.number("max_tasks", 1, 4_194_304)? as u32,
            sub_cgroup: None,
        })
    }
}

/// A task context's place in the arena.
type Slot = u32;
const NONE: Slot = u32::MAX;

const ENOMEM: Errno = Errno(12);

/// A task's context.
#[derive(Clone, Debug)]
struct TaskCtx {
    /// Of the free list, or of the FIFO.
    next: Slot,
    prev: Slot,
    fifo: Option<u8>,
    tid: u64,
    /// With `key=tid`, for the dump only.
    pid: Pid,
    force_local: bool,
    cpus_allowed: Cpumask,
}

#[derive(Clone, Copy, Debug)]
struct Fifo {
    head: Slot,
    tail: Slot,
}

#[derive(Clone, Copy, Debug, Default)]
struct CpuCtx {
    /// The FIFO at hand, and how many more to take from it.
    dsp_idx: usize,
    dsp_cnt: u32,
}

#[derive(Clone, Debug)]
struct QmapState {
    /// The arena.
    tasks: Vec<TaskCtx>,
    free: Slot,
    fifos: [Fifo; FIFOS],
    cpus: Vec<CpuCtx>,
    idle_cids: Cpumask,
    sub_cgroups: [u64; MAX_SUB_SCHEDS],
    /// BPF task storage: what hangs on the task itself.
    storage: Table<Slot>,
    enqueued: u64,
    dispatched: u64,
    reenqueued: u64,
    dequeued: u64,
    from_enqueue: u64,
    lookups_failed: u64,
}

impl QmapState {
    fn ctx(&mut self, slot: Slot) -> &mut TaskCtx {
        &mut self.tasks[slot as usize]
    }

    fn slot(&self, tid: u64) -> Option<Slot> {
        self.storage.pin().get(Tid::new(tid)?)
    }

    fn alloc(&mut self, max: u32) -> Option<Slot> {
        if self.free != NONE {
            let slot = self.free;
            self.free = self.ctx(slot).next;
            return Some(slot);
        }
        if self.tasks.len() as u32 >= max {
            return None;
        }
        self.tasks.push(TaskCtx {
            next: NONE,
            prev: NONE,
            fifo: None,
            tid: 0,
            pid: Pid(0),
            force_local: false,
            cpus_allowed: Cpumask::EMPTY,
        });
        Some(self.tasks.len() as Slot - 1)
    }

    fn push(&mut self, fifo: usize, slot: Slot) {
        let tail = std::mem::replace(&mut self.fifos[fifo].tail, slot);
        let ctx = self.ctx(slot);
        ctx.fifo = Some(fifo as u8);
        ctx.next = NONE;
        ctx.prev = tail;
        if tail == NONE {
            self.fifos[fifo].head = slot;
        } else {
            self.ctx(tail).next = slot;
        }
    }

    fn pop(&mut self, fifo: usize) -> Option<Slot> {
        let slot = self.fifos[fifo].head;
        (slot != NONE).then(|| {
            self.remove(slot);
            slot
        })
    }

    fn remove(&mut self, slot: Slot) {
        let ctx = self.ctx(slot);
        let Some(fifo) = ctx.fifo.take() else { return };
        let (next, prev) = (ctx.next, ctx.prev);
        let fifo = fifo as usize;
        if prev == NONE {
            self.fifos[fifo].head = next;
        } else {
            self.ctx(prev).next = next;
        }
        if next == NONE {
            self.fifos[fifo].tail = prev;
        } else {
            self.ctx(next).prev = prev;
        }
    }
}

/// Coarsely: heavier tasks have the higher FIFO.
fn weight_to_fifo(weight: u32) -> usize {
    match weight {
        0..=25 => 0,
        26..=50 => 1,
        51..200 => 2,
        200..400 => 3,
        _ => 4,
    }
}

/// The state; there is always one of this type. Borrowed anew after each call to the core, as
/// other CPUs may have changed it.
fn st<'a>(cx: &'a mut Cx<'_>) -> &'a mut QmapState {
    cx.state().expect("the state is what new_state() made")
}

fn slot_of(cx: &mut Cx<'_>, p: Task<'_>) -> Option<Slot> {
    let tid = cx.get(p).scx.tid;
    st(cx).slot(tid)
}

impl Qmap {
    /// An idle CPU that the task may use, claimed: the previous one, or the next after it.
    fn pick_idle_cid(cx: &mut Cx<'_>, p: Task<'_>, prev: Cid, slot: Slot) -> Option<Cid> {
        if cx.get(p).nr_cpus_allowed == 1 {
            return Some(prev);
        }
        let state = st(cx);
        if state.idle_cids.test_and_clear(CpuId(prev.0)) {
            return Some(prev);
        }
        let (allowed, idle) = (state.tasks[slot as usize].cpus_allowed, state.idle_cids);
        let next = allowed
            .next_and_from(&idle, CpuId(prev.0 + 1))
            .or_else(|| allowed.next_and_from(&idle, CpuId(0)))?;
        state.idle_cids.clear(next);
        Some(Cid(next.0))
    }

    /// Takes one task off the FIFO at hand and inserts it; whether there was one.
    fn dispatch_one(&self, cx: &mut Cx<'_>, cid: Cid) -> bool {
        let cpu = cid.index();
        loop {
            let state = st(cx);
            let fifo = state.cpus[cpu].dsp_idx;
            let Some(slot) = state.pop(fifo) else { return false };
            let (tid, pid) = (state.ctx(slot).tid, state.ctx(slot).pid);
            let found = match self.key {
                Key::Tid => cx.tid_to_task(tid),
                Key::Pid => cx.task_from_pid(pid),
            };
            let Some(p) = found else {
                st(cx).lookups_failed += 1;
                continue;
            };
            st(cx).dispatched += 1;
            cx.dsq_insert(p, SHARED_DSQ, self.slice, EnqFlags::empty());
            // A task that may not run here would be stranded: its own CPU is to come for it.
            if !st(cx).ctx(slot).cpus_allowed.test(CpuId(cid.0)) {
                let home = cx.task_cid(p);
                cx.kick_cid(home, KickFlags::empty());
            }
            return true;
        }
    }
}

impl Scheduler for Qmap {
    fn ops(&self) -> Ops {
        let mut flags = OpsFlags::empty();
        flags.set(OpsFlags::TID_TO_TASK, self.key == Key::Tid);
        flags.set(OpsFlags::ENQ_EXITING, self.exiting);
        Ops {
            name: "qmap".into(),
            form: Form::Cid,
            implements: OpSet::SELECT_CPU
                | OpSet::ENQUEUE
                | OpSet::DEQUEUE
                | OpSet::DISPATCH
                | OpSet::SET_CPUMASK
                | OpSet::UPDATE_IDLE
                | OpSet::INIT_TASK
                | OpSet::EXIT_TASK
                | OpSet::DUMP
                | OpSet::DUMP_CPU
                | OpSet::DUMP_TASK
                | OpSet::SUB_ATTACH
                | OpSet::SUB_DETACH
                | OpSet::INIT,
            flags,
            timeout_ms: 5_000,
            sub_cgroup: self.sub_cgroup.clone(),
            ..Ops::default()
        }
    }

    fn new_state(&self) -> Box<dyn State> {
        Box::new(QmapState {
            tasks: Vec::new(),
            free: NONE,
            fifos: [Fifo { head: NONE, tail: NONE }; FIFOS],
            cpus: Vec::new(),
            idle_cids: Cpumask::EMPTY,
            sub_cgroups: [0; MAX_SUB_SCHEDS],
            storage: Table::new(),
            enqueued: 0,
            dispatched: 0,
            reenqueued: 0,
            dequeued: 0,
            from_enqueue: 0,
            lookups_failed: 0,
        })
    }

    fn counters(&self, state: &dyn State) -> Vec<(String, u64)> {
        let Some(state) = state.as_any().downcast_ref::<QmapState>() else { return Vec::new() };
        [
            ("enqueued", state.enqueued),
            ("dispatched", state.dispatched),
            ("reenqueued", state.reenqueued),
            ("dequeued", state.dequeued),
            ("direct_dispatched_from_enqueue", state.from_enqueue),
            ("lookups_failed", state.lookups_failed),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn init(&self, cx: &mut Cx<'_>) -> Result<(), Errno> {
        let cpus = cx.nr_cpu_ids() as usize;
        let state = st(cx);
        state.cpus = vec![CpuCtx::default(); cpus];
        // update_idle() tells of changes only; a CPU that has been idle so far would never be used.
        state.idle_cids = Cpumask::first_n(cpus);
        state.storage.enable().map_err(|_| ENOMEM)?;
        cx.create_dsq(SHARED_DSQ)
    }

    fn select_cid(&self, cx: &mut Cx<'_>, p: Task<'_>, prev: Cid, _wake: WakeFlags) -> Cid {
        let Some(slot) = slot_of(cx, p) else { return prev };
        match Self::pick_idle_cid(cx, p, prev, slot) {
            Some(cid) => {
                st(cx).ctx(slot).force_local = true;
                cid
            }
            None => prev,
        }
    }

    fn enqueue(&self, cx: &mut Cx<'_>, p: Task<'_>, enq: EnqFlags) {
        let Some(slot) = slot_of(cx, p) else { return };
        if enq.contains(EnqFlags::REENQ) {
            st(cx).reenqueued += 1;
        }
        if std::mem::take(&mut st(cx).ctx(slot).force_local) {
            cx.dsq_insert(p, DsqId::LOCAL, self.slice, enq);
            return;
        }
        // select_cid() was not asked: look for an idle CPU here.
        if !enq.contains(EnqFlags::CPU_SELECTED) {
            let here = cx.task_cid(p);
            if let Some(cid) = Self::pick_idle_cid(cx, p, here, slot) {
                st(cx).from_enqueue += 1;
                cx.dsq_insert(p, DsqId::local_on(cid.0), self.slice, enq);
                return;
            }
        }
        let fifo = weight_to_fifo(cx.get(p).scx.weight);
        let state = st(cx);
        state.push(fifo, slot);
        state.enqueued += 1;
    }

    fn dequeue(&self, cx: &mut Cx<'_>, p: Task<'_>, _deq: DeqFlags) {
        st(cx).dequeued += 1;
        if let Some(slot) = slot_of(cx, p) {
            st(cx).remove(slot);
        }
    }

    fn dispatch_cid(&self, cx: &mut Cx<'_>, cid: Cid, _prev: Option<Task<'_>>) {
        if cx.dsq_move_to_local(SHARED_DSQ, EnqFlags::empty()) {
            return;
        }
        let mut batch = self.batch;
        for _ in 0..FIFOS {
            let cpu = &mut st(cx).cpus[cid.index()];
            if cpu.dsp_cnt == 0 {
                cpu.dsp_idx = (cpu.dsp_idx + 1) % FIFOS;
                cpu.dsp_cnt = 1 << cpu.dsp_idx;
            }
            while st(cx).cpus[cid.index()].dsp_cnt > 0 && self.dispatch_one(cx, cid) {
                st(cx).cpus[cid.index()].dsp_cnt -= 1;
                batch -= 1;
                if batch == 0 || cx.dispatch_nr_slots() == 0 {
                    cx.dsq_move_to_local(SHARED_DSQ, EnqFlags::empty());
                    return;
                }
            }
            st(cx).cpus[cid.index()].dsp_cnt = 0;
        }
        for i in 0..MAX_SUB_SCHEDS {
            let cgroup = st(cx).sub_cgroups[i];
            if cgroup != 0 && cx.sub_dispatch(cgroup) {
                return;
            }
        }
    }

    fn set_cmask(&self, cx: &mut Cx<'_>, p: Task<'_>, cids: &Cpumask) {
        if let Some(slot) = slot_of(cx, p) {
            st(cx).ctx(slot).cpus_allowed = *cids;
        }
    }

    fn update_idle_cid(&self, cx: &mut Cx<'_>, cid: Cid, idle: bool) {
        let state = st(cx);
        if idle {
            state.idle_cids.set(CpuId(cid.0));
        } else {
            state.idle_cids.clear(CpuId(cid.0));
        }
    }

    fn init_task(&self, cx: &mut Cx<'_>, p: Task<'_>, _args: &InitTaskArgs) -> Result<(), Errno> {
        let (tid, pid) = (cx.get(p).scx.tid, cx.get(p).pid());
        let cids = cx.task_cids(p);
        let state = st(cx);
        let slot = state.alloc(self.max_tasks);
        let (Some(slot), Some(id)) = (slot, Tid::new(tid)) else {
            cx.error(format!("task_ctx slab exhausted (max_tasks={})", self.max_tasks));
            return Err(ENOMEM);
        };
        *state.ctx(slot) = TaskCtx {
            next: NONE,
            prev: NONE,
            fifo: None,
            tid,
            pid,
            force_local: false,
            cpus_allowed: cids,
        };
        state.storage.pin().insert(id, slot).map_err(|_| ENOMEM)
    }

    fn exit_task(&self, cx: &mut Cx<'_>, p: Task<'_>, _args: &ExitTaskArgs) {
        let tid = Tid::new(cx.get(p).scx.tid);
        let state = st(cx);
        let Some(slot) = tid.and_then(|tid| state.storage.pin().remove(tid)) else { return };
        state.remove(slot);
        let free = std::mem::replace(&mut state.free, slot);
        state.ctx(slot).next = free;
    }

    fn dump(&self, cx: &mut Cx<'_>, _ctx: &DumpCtx) {
        for i in 0..FIFOS {
            let state = st(cx);
            let mut line = format!("QMAP FIFO[{i}]:");
            let mut slot = state.fifos[i].head;
            while slot != NONE {
                let ctx = state.ctx(slot);
                line += &format!(" {}:{}", ctx.pid, ctx.tid);
                slot = ctx.next;
            }
            cx.dump(line + "\n");
        }
    }

    fn dump_cid(&self, cx: &mut Cx<'_>, _ctx: &DumpCtx, cid: Cid, idle: bool) {
        if !idle {
            let CpuCtx { dsp_idx, dsp_cnt } = st(cx).cpus[cid.index()];
            cx.dump(format!("QMAP: dsp_idx={dsp_idx} dsp_cnt={dsp_cnt}"));
        }
    }

    fn dump_task(&self, cx: &mut Cx<'_>, _ctx: &DumpCtx, p: Task<'_>) {
        if let Some(slot) = slot_of(cx, p) {
            let force_local = st(cx).ctx(slot).force_local;
            cx.dump(format!("QMAP: force_local={}", u8::from(force_local)));
        }
    }

    fn sub_attach(&self, cx: &mut Cx<'_>, args: &SubArgs) -> Result<(), Errno> {
        match st(cx).sub_cgroups.iter_mut().find(|cgroup| **cgroup == 0) {
            Some(free) => {
                *free = args.cgroup_id;
                Ok(())
            }
            None => Err(Errno(28)),
        }
    }

    fn sub_detach(&self, cx: &mut Cx<'_>, args: &SubArgs) {
        for cgroup in &mut st(cx).sub_cgroups {
            if *cgroup == args.cgroup_id {
                *cgroup = 0;
            }
        }
    }
}
