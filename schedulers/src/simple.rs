//! `simple`: one queue for all CPUs. The smallest complete example of a scheduler for the engine.
//!
//! By virtual time, each task gets CPU time by its weight, and a task that has slept is at most
//! one slice behind the others. Or first come, first served.

use scxlab_engine::{
    CpuId, Cx, DsqId, EnqFlags, Errno, OpSet, Ops, Scheduler, State, Task, WakeFlags,
};

use crate::options::{CreateError, Options, SchedOption};

/// What can be set.
pub(crate) const OPTIONS: &[SchedOption] = &[
    SchedOption {
        key: "order",
        values: "vtime, fifo",
        default: "vtime",
        about: "by virtual time, or first come, first served",
    },
    SchedOption {
        key: "slice_us",
        values: "100 to 10000000",
        default: "20000",
        about: "the slice of a task, in microseconds",
    },
];

const SHARED_DSQ: DsqId = DsqId(0);

/// The scheduler.
#[derive(Clone, Debug)]
pub struct Simple {
    fifo: bool,
    slice: u64,
}

impl Default for Simple {
    fn default() -> Self {
        Self { fifo: false, slice: 20_000_000 }
    }
}

impl Simple {
    /// First come, first served.
    pub fn fifo() -> Self {
        Self { fifo: true, ..Self::default() }
    }

    pub(crate) fn from_options(options: &Options<'_>) -> Result<Self, CreateError> {
        Ok(Self {
            fifo: options.get("order", |value| match value {
                "fifo" => Some(true),
                "vtime" => Some(false),
                _ => None,
            })?,
            slice: options.number("slice_us", 100, 10_000_000)? * 1_000,
        })
    }
}

#[derive(Clone, Debug, Default)]
struct SimpleState {
    /// How far virtual time has got: that of the task which ran last.
    vtime_now: u64,
    local: u64,
    global: u64,
}

/// The state; there is always one of this type.
fn st<'a>(cx: &'a mut Cx<'_>) -> &'a mut SimpleState {
    cx.state().expect("the state is what new_state() made")
}

/// `time_before64()`: vtime may wrap.
fn before(a: u64, b: u64) -> bool {
    (a.wrapping_sub(b) as i64) < 0
}

impl Scheduler for Simple {
    fn ops(&self) -> Ops {
        Ops {
            name: "simple".into(),
            timeout_ms: 5000,
            implements: OpSet::SELECT_CPU
                | OpSet::ENQUEUE
                | OpSet::DISPATCH
                | OpSet::RUNNING
                | OpSet::STOPPING
                | OpSet::ENABLE
                | OpSet::INIT,
            ..Ops::default()
        }
    }

    fn new_state(&self) -> Box<dyn State> {
        Box::new(SimpleState::default())
    }

    fn counters(&self, state: &dyn State) -> Vec<(String, u64)> {
        let Some(state) = state.as_any().downcast_ref::<SimpleState>() else { return Vec::new() };
        vec![("local".into(), state.local), ("global".into(), state.global)]
    }

    fn init(&self, cx: &mut Cx<'_>) -> Result<(), Errno> {
        cx.create_dsq(SHARED_DSQ)
    }

    fn select_cpu(&self, cx: &mut Cx<'_>, p: Task<'_>, prev: CpuId, wake: WakeFlags) -> CpuId {
        match cx.select_cpu_dfl(p, prev, wake) {
            Some(cpu) => {
                st(cx).local += 1;
                cx.dsq_insert(p, DsqId::LOCAL, self.slice, EnqFlags::empty());
                cpu
            }
            None => prev,
        }
    }

    fn enqueue(&self, cx: &mut Cx<'_>, p: Task<'_>, enq: EnqFlags) {
        st(cx).global += 1;
        if self.fifo {
            cx.dsq_insert(p, SHARED_DSQ, self.slice, enq);
            return;
        }
        // A task that slept keeps one slice of what it did not use.
        let earliest = st(cx).vtime_now.wrapping_sub(self.slice);
        let vtime = cx.get(p).scx.dsq_vtime;
        let vtime = if before(vtime, earliest) { earliest } else { vtime };
        cx.dsq_insert_vtime(p, SHARED_DSQ, self.slice, vtime, enq);
    }

    fn dispatch(&self, cx: &mut Cx<'_>, _cpu: CpuId, _prev: Option<Task<'_>>) {
        cx.dsq_move_to_local(SHARED_DSQ, EnqFlags::empty());
    }

    fn running(&self, cx: &mut Cx<'_>, p: Task<'_>) {
        let vtime = cx.get(p).scx.dsq_vtime;
        let now = &mut st(cx).vtime_now;
        if before(*now, vtime) {
            *now = vtime;
        }
    }

    fn stopping(&self, cx: &mut Cx<'_>, p: Task<'_>, _runnable: bool) {
        let scx = &cx.get(p).scx;
        let used = self.slice.saturating_sub(scx.slice);
        let vtime = scx.dsq_vtime.wrapping_add(used * 100 / u64::from(scx.weight.max(1)));
        cx.task_set_dsq_vtime(p, vtime);
    }

    fn enable(&self, cx: &mut Cx<'_>, p: Task<'_>) {
        let now = st(cx).vtime_now;
        cx.task_set_dsq_vtime(p, now);
    }
}
