//! A scheduler that does at random what a scheduler may do, and some of what it may not.

use std::collections::BTreeSet;

use scxlab_engine::{
    CpuId, Cx, DeqFlags, DsqId, EnqFlags, Errno, KickFlags, OpSet, Ops, OpsFlags, Scheduler, State,
    Task, WakeFlags,
};

const FIFO: DsqId = DsqId(1);
const PRIQ: DsqId = DsqId(2);

/// The scheduler. Each choice is drawn from the seed.
#[derive(Clone, Debug)]
pub struct Chaos {
    pub seed: u64,
    pub flags: OpsFlags,
    pub timeout_ms: u32,
    /// Now and then it does what gets it ejected.
    pub wild: bool,
    /// It looks tasks up by tid, or else by the pid that they had.
    pub by_tid: bool,
}

/// Its state.
#[derive(Clone, Debug)]
pub struct ChaosState {
    rng: u64,
    custody: Vec<(u64, i32)>,
    /// Those in custody, to check that each `ops.dequeue` is owed.
    pub held: BTreeSet<u64>,
    /// Rules of the core's that were seen broken.
    pub broken: Vec<String>,
}

fn st<'a>(cx: &'a mut Cx<'_>) -> &'a mut ChaosState {
    cx.state().expect("it is a chaos's")
}

fn below(cx: &mut Cx<'_>, n: u64) -> u64 {
    // xorshift64*
    let x = &mut st(cx).rng;
    *x ^= *x >> 12;
    *x ^= *x << 25;
    *x ^= *x >> 27;
    x.wrapping_mul(0x2545_F491_4F6C_DD1D) % n
}

fn allowed_cpu(cx: &mut Cx<'_>, p: Task<'_>) -> CpuId {
    let cpus: Vec<_> = cx.get(p).cpus_ptr().iter().collect();
    let i = below(cx, cpus.len() as u64) as usize;
    cpus[i]
}

impl Chaos {
    /// Puts the task somewhere; `false` to leave it in custody.
    fn place(&self, cx: &mut Cx<'_>, p: Task<'_>, enq: EnqFlags, direct: bool) -> bool {
        let slice = [1, 50_000, 2_000_000, 20_000_000, u64::MAX][below(cx, 5) as usize];
        match below(cx, if direct { 12 } else { 8 }) {
            0 | 1 => {
                let cpu = if self.wild && below(cx, 2_000) == 0 {
                    CpuId(below(cx, u64::from(cx.nr_cpu_ids())) as u32)
                } else {
                    allowed_cpu(cx, p)
                };
                let immed = if below(cx, 4) == 0 { EnqFlags::IMMED } else { EnqFlags::empty() };
                cx.dsq_insert(p, DsqId::local_on(cpu.0), slice, enq | immed);
            }
            2 | 3 => {
                cx.dsq_insert(p, DsqId::GLOBAL, slice, enq);
            }
            4 | 5 => {
                cx.dsq_insert(p, FIFO, slice, enq);
            }
            6 => {
                let vtime = below(cx, 1_000).wrapping_sub(500);
                cx.dsq_insert_vtime(p, PRIQ, slice, vtime, enq);
            }
            7 if direct => {
                cx.dsq_insert(p, DsqId::LOCAL, slice, enq);
            }
            7 => {
                // From dispatch, the local queue is that of the CPU at hand.
                let here = cx.this_cpu();
                let fits = cx.get(p).cpu_allowed(here);
                let dsq = if fits { DsqId::LOCAL } else { DsqId::GLOBAL };
                cx.dsq_insert(p, dsq, slice, enq | EnqFlags::PREEMPT);
            }
            _ => return false,
        }
        if self.wild && below(cx, 3_000) == 0 {
            cx.dsq_insert(p, DsqId::GLOBAL, 1, EnqFlags::empty());
        }
        true
    }

    fn kick(&self, cx: &mut Cx<'_>) {
        let cpu = CpuId(below(cx, u64::from(cx.nr_cpu_ids())) as u32);
        let flags = match below(cx, 4) {
            0 => KickFlags::IDLE,
            1 => KickFlags::PREEMPT,
            2 => KickFlags::WAIT,
            _ => KickFlags::empty(),
        };
        cx.kick_cpu(cpu, flags);
    }

    /// Moves some of a queue's tasks anywhere, now and then one that another walk saw first.
    fn walk(&self, cx: &mut Cx<'_>) {
        let backwards = below(cx, 2) == 0;
        let queue = if below(cx, 2) == 0 { FIFO } else { PRIQ };
        let Ok(it) = cx.dsq_iter(queue, backwards) else { return };
        let mut earlier = None;
        for _ in 0..8 {
            let Some(p) = cx.dsq_iter_next(it) else { break };
            let p = if below(cx, 8) == 0 { earlier.unwrap_or(p) } else { p };
            earlier = Some(p);
            match below(cx, 6) {
                0 => drop(cx.dsq_move(it, p, DsqId::LOCAL, EnqFlags::empty())),
                1 => {
                    let cpu = allowed_cpu(cx, p);
                    cx.dsq_move(it, p, DsqId::local_on(cpu.0), EnqFlags::empty());
                }
                2 => drop(cx.dsq_move(it, p, FIFO, EnqFlags::HEAD)),
                3 => {
                    let vtime = below(cx, 1 << 20);
                    cx.dsq_move_set_vtime(it, vtime);
                    cx.dsq_move_vtime(it, p, PRIQ, EnqFlags::empty());
                }
                _ => {}
            }
        }
        // Now and then it is left to the core.
        if below(cx, 2) == 0 {
            cx.dsq_iter_destroy(it);
        }
    }

    fn find<'r>(&self, cx: &mut Cx<'r>, (tid, pid): (u64, i32)) -> Option<Task<'r>> {
        if self.by_tid { cx.tid_to_task(tid) } else { cx.task_from_pid(scxlab_engine::Pid(pid)) }
    }
}

impl Scheduler for Chaos {
    fn ops(&self) -> Ops {
        Ops {
            name: "chaos".into(),
            implements: OpSet::SELECT_CPU
                | OpSet::ENQUEUE
                | OpSet::DEQUEUE
                | OpSet::DISPATCH
                | OpSet::RUNNING
                | OpSet::TICK
                | OpSet::INIT,
            flags: self.flags | OpsFlags::TID_TO_TASK,
            timeout_ms: self.timeout_ms,
            ..Ops::default()
        }
    }

    fn new_state(&self) -> Box<dyn State> {
        Box::new(ChaosState {
            rng: self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            custody: Vec::new(),
            held: BTreeSet::new(),
            broken: Vec::new(),
        })
    }

    fn init(&self, cx: &mut Cx<'_>) -> Result<(), Errno> {
        cx.create_dsq(FIFO)?;
        cx.create_dsq(PRIQ)
    }

    fn select_cpu(&self, cx: &mut Cx<'_>, p: Task<'_>, prev: CpuId, wake: WakeFlags) -> CpuId {
        match below(cx, 5) {
            0 => {
                self.place(cx, p, EnqFlags::empty(), true);
                prev
            }
            1 => CpuId(below(cx, u64::from(cx.nr_cpu_ids())) as u32),
            2 if self.flags.contains(OpsFlags::KEEP_BUILTIN_IDLE) => {
                cx.select_cpu_dfl(p, prev, wake).unwrap_or(prev)
            }
            _ => allowed_cpu(cx, p),
        }
    }

    fn enqueue(&self, cx: &mut Cx<'_>, p: Task<'_>, enq: EnqFlags) {
        let (tid, pid) = (cx.get(p).scx.tid, cx.get(p).pid);
        // From one of its queues a task comes back without a dequeue: reenq_user().
        if st(cx).held.contains(&tid) && !enq.contains(EnqFlags::REENQ) {
            st(cx).broken.push(format!("tid {tid} enqueued while in custody"));
        }
        if !self.place(cx, p, enq, true) {
            let state = st(cx);
            state.custody.push((tid, pid));
            state.held.insert(tid);
        }
        if below(cx, 3) == 0 {
            self.kick(cx);
        }
    }

    fn dequeue(&self, cx: &mut Cx<'_>, p: Task<'_>, _deq: DeqFlags) {
        let tid = cx.get(p).scx.tid;
        let state = st(cx);
        // A task in one of the queues was never in `held`; it is owed one call all the same.
        state.held.remove(&tid);
    }

    fn dispatch(&self, cx: &mut Cx<'_>, _cpu: CpuId, _prev: Option<Task<'_>>) {
        let most = 1 + below(cx, 4);
        for _ in 0..most.min(u64::from(cx.dispatch_nr_slots()) / 2) {
            let n = st(cx).custody.len() as u64;
            if n == 0 {
                break;
            }
            // Any order; and now and then it forgets to take the task off its list.
            let i = below(cx, n) as usize;
            let keep = below(cx, 4) == 0;
            let key = if keep { st(cx).custody[i] } else { st(cx).custody.swap_remove(i) };
            if let Some(p) = self.find(cx, key) {
                self.place(cx, p, EnqFlags::empty(), false);
                if below(cx, 16) == 0 {
                    // Spurious: the first insert of the two decides.
                    cx.dsq_insert(p, DsqId::GLOBAL, 1_000_000, EnqFlags::empty());
                }
                if below(cx, 32) == 0 {
                    cx.dispatch_cancel();
                    st(cx).custody.push(key);
                }
            }
        }
        if below(cx, 4) == 0 {
            self.walk(cx);
        }
        if below(cx, 8) == 0 {
            let which = below(cx, 3) as usize;
            cx.dsq_reenq([FIFO, PRIQ, DsqId::LOCAL][which]);
        }
        let first = if below(cx, 2) == 0 { FIFO } else { PRIQ };
        if !cx.dsq_move_to_local(first, EnqFlags::empty()) {
            let other = if first == FIFO { PRIQ } else { FIFO };
            cx.dsq_move_to_local(other, EnqFlags::empty());
        }
        if below(cx, 8) == 0 {
            self.kick(cx);
        }
    }

    fn running(&self, cx: &mut Cx<'_>, p: Task<'_>) {
        let tid = cx.get(p).scx.tid;
        if st(cx).held.contains(&tid) {
            st(cx).broken.push(format!("tid {tid} runs while in custody"));
        }
    }

    fn tick(&self, cx: &mut Cx<'_>, p: Task<'_>) {
        if below(cx, 4) == 0 {
            cx.task_set_slice(p, 0);
        }
        // What waits for a CPU that sleeps gets one sooner or later.
        self.kick(cx);
    }
}
