//! A scheduler that is put together from closures and notes every call.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use scxlab_engine::{
    CpuId, Cpumask, Cx, DeqFlags, DsqId, EnqFlags, Errno, ExitInfo, ExitTaskArgs, InitTaskArgs,
    OpSet, Ops, OpsFlags, Scheduler, State, Task, Tracepoint, TracepointSet, WakeFlags,
};

/// A call of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub at: u64,
    pub op: &'static str,
    pub comm: String,
    pub pid: i32,
    pub tid: u64,
    /// Its flags, or its other argument.
    pub arg: u64,
}

/// What a [`Lab`] remembers.
#[derive(Clone, Debug, Default)]
pub struct LabState {
    pub calls: Vec<Call>,
    /// For tasks in custody, by tid.
    pub queue: VecDeque<u64>,
    /// Pids by tid, for those who remember them.
    pub pids: BTreeMap<u64, i32>,
    /// For whatever a test counts.
    pub n: u64,
    /// Why it ended, as `ops.exit` was told.
    pub exit: Option<ExitInfo>,
}

/// The state.
pub fn st<'a>(cx: &'a mut Cx<'_>) -> &'a mut LabState {
    cx.state().expect("it is a lab's")
}

type Hook<F> = Option<Box<F>>;
type TaskEnq = dyn Fn(&mut Cx<'_>, Task<'_>, EnqFlags) + Send + Sync;
type TaskDeq = dyn Fn(&mut Cx<'_>, Task<'_>, DeqFlags) + Send + Sync;
type Select = dyn Fn(&mut Cx<'_>, Task<'_>, CpuId, WakeFlags) -> CpuId + Send + Sync;
type Dispatch = dyn Fn(&mut Cx<'_>, CpuId, Option<Task<'_>>) + Send + Sync;
type OneTask = dyn Fn(&mut Cx<'_>, Task<'_>) + Send + Sync;
type InitTask = dyn Fn(&mut Cx<'_>, Task<'_>, &InitTaskArgs) -> Result<(), Errno> + Send + Sync;
type Init = dyn Fn(&mut Cx<'_>) -> Result<(), Errno> + Send + Sync;
type CpuRelease = dyn Fn(&mut Cx<'_>, CpuId, Task<'_>) + Send + Sync;
type CpuAcquire = dyn Fn(&mut Cx<'_>, CpuId) + Send + Sync;
type UpdateIdle = dyn Fn(&mut Cx<'_>, CpuId, bool) + Send + Sync;

/// A scheduler for tests. What it is not given, it does not implement.
#[derive(Default)]
pub struct Lab {
    ops: Ops,
    enqueue: Hook<TaskEnq>,
    dequeue: Hook<TaskDeq>,
    select_cpu: Hook<Select>,
    dispatch: Hook<Dispatch>,
    tick: Hook<OneTask>,
    running: Hook<OneTask>,
    quiescent: Hook<TaskDeq>,
    init_task: Hook<InitTask>,
    init: Hook<Init>,
    update_idle: Hook<UpdateIdle>,
    cpu_release: Hook<CpuRelease>,
    cpu_acquire: Hook<CpuAcquire>,
}

impl fmt::Debug for Lab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lab").field("ops", &self.ops).finish_non_exhaustive()
    }
}

macro_rules! hooks {
    ($($on:ident, $field:ident, $op:ident, ($($arg:ty),*) $(-> $ret:ty)?;)*) => {$(
        pub fn $on(
            mut self,
            f: impl Fn(&mut Cx<'_>, $($arg),*) $(-> $ret)? + Send + Sync + 'static,
        ) -> Self {
            self.ops.implements |= OpSet::$op;
            self.$field = Some(Box::new(f));
            self
        }
    )*};
}

impl Lab {
    pub fn new() -> Self {
        let ops = Ops { name: "lab".into(), implements: OpSet::EXIT, ..Ops::default() };
        Self { ops, ..Self::default() }
    }

    /// Custody in one queue by tid; `ops.dispatch` takes the first.
    pub fn fifo() -> Self {
        Self::new()
            .on_enqueue(|cx, p, _| {
                let tid = cx.get(p).scx.tid;
                st(cx).queue.push_back(tid);
            })
            .on_dequeue(|cx, p, _| {
                let tid = cx.get(p).scx.tid;
                st(cx).queue.retain(|&t| t != tid);
            })
            .on_dispatch(|cx, _, _| {
                if let Some(tid) = st(cx).queue.pop_front()
                    && let Some(p) = cx.tid_to_task(tid)
                {
                    // The global queue: any CPU that may run it takes it.
                    cx.dsq_insert(p, DsqId::GLOBAL, 5_000_000, EnqFlags::empty());
                }
            })
            .flags(OpsFlags::TID_TO_TASK)
    }

    pub fn flags(mut self, flags: OpsFlags) -> Self {
        self.ops.flags |= flags;
        self
    }

    pub fn timeout_ms(mut self, ms: u32) -> Self {
        self.ops.timeout_ms = ms;
        self
    }

    pub fn batch(mut self, slots: u32) -> Self {
        self.ops.dispatch_max_batch = slots;
        self
    }

    /// Notes these tracepoints too, under their names, with the CPU or a flag as the argument.
    pub fn trace(mut self, tracepoints: TracepointSet) -> Self {
        self.ops.tracepoints |= tracepoints;
        self
    }

    /// Notes these calls too.
    pub fn watch(mut self, ops: OpSet) -> Self {
        self.ops.implements |= ops;
        self
    }

    hooks! {
        on_enqueue, enqueue, ENQUEUE, (Task<'_>, EnqFlags);
        on_dequeue, dequeue, DEQUEUE, (Task<'_>, DeqFlags);
        on_select_cpu, select_cpu, SELECT_CPU, (Task<'_>, CpuId, WakeFlags) -> CpuId;
        on_dispatch, dispatch, DISPATCH, (CpuId, Option<Task<'_>>);
        on_tick, tick, TICK, (Task<'_>);
        on_running, running, RUNNING, (Task<'_>);
        on_quiescent, quiescent, QUIESCENT, (Task<'_>, DeqFlags);
        on_init_task, init_task, INIT_TASK, (Task<'_>, &InitTaskArgs) -> Result<(), Errno>;
        on_init, init, INIT, () -> Result<(), Errno>;
        on_update_idle, update_idle, UPDATE_IDLE, (CpuId, bool);
        on_cpu_release, cpu_release, CPU_RELEASE, (CpuId, Task<'_>);
        on_cpu_acquire, cpu_acquire, CPU_ACQUIRE, (CpuId);
    }
}

fn note(cx: &mut Cx<'_>, op: &'static str, p: Task<'_>, arg: u64) {
    let task = cx.get(p);
    let call = Call {
        at: cx.now().0,
        op,
        comm: task.comm().to_owned(),
        pid: task.pid,
        tid: task.scx.tid,
        arg,
    };
    st(cx).calls.push(call);
}

impl Scheduler for Lab {
    fn ops(&self) -> Ops {
        self.ops.clone()
    }

    fn new_state(&self) -> Box<dyn State> {
        Box::new(LabState::default())
    }

    fn select_cpu(&self, cx: &mut Cx<'_>, p: Task<'_>, prev: CpuId, wake: WakeFlags) -> CpuId {
        note(cx, "select_cpu", p, wake.bits());
        self.select_cpu.as_ref().map_or(prev, |f| f(cx, p, prev, wake))
    }

    fn enqueue(&self, cx: &mut Cx<'_>, p: Task<'_>, enq: EnqFlags) {
        note(cx, "enqueue", p, enq.bits());
        if let Some(f) = &self.enqueue {
            f(cx, p, enq);
        }
    }

    fn dequeue(&self, cx: &mut Cx<'_>, p: Task<'_>, deq: DeqFlags) {
        note(cx, "dequeue", p, deq.bits());
        if let Some(f) = &self.dequeue {
            f(cx, p, deq);
        }
    }

    fn dispatch(&self, cx: &mut Cx<'_>, cpu: CpuId, prev: Option<Task<'_>>) {
        if let Some(f) = &self.dispatch {
            f(cx, cpu, prev);
        }
    }

    fn tick(&self, cx: &mut Cx<'_>, p: Task<'_>) {
        note(cx, "tick", p, 0);
        if let Some(f) = &self.tick {
            f(cx, p);
        }
    }

    fn runnable(&self, cx: &mut Cx<'_>, p: Task<'_>, enq: EnqFlags) {
        note(cx, "runnable", p, enq.bits());
    }

    fn running(&self, cx: &mut Cx<'_>, p: Task<'_>) {
        note(cx, "running", p, u64::from(cx.this_cpu().0));
        if let Some(f) = &self.running {
            f(cx, p);
        }
    }

    fn stopping(&self, cx: &mut Cx<'_>, p: Task<'_>, runnable: bool) {
        note(cx, "stopping", p, u64::from(runnable));
    }

    fn quiescent(&self, cx: &mut Cx<'_>, p: Task<'_>, deq: DeqFlags) {
        note(cx, "quiescent", p, deq.bits());
        if let Some(f) = &self.quiescent {
            f(cx, p, deq);
        }
    }

    fn set_weight(&self, cx: &mut Cx<'_>, p: Task<'_>, weight: u32) {
        note(cx, "set_weight", p, u64::from(weight));
    }

    fn set_cpumask(&self, cx: &mut Cx<'_>, p: Task<'_>, cpus: &Cpumask) {
        note(cx, "set_cpumask", p, u64::from(cpus.weight()));
    }

    fn update_idle(&self, cx: &mut Cx<'_>, cpu: CpuId, idle: bool) {
        if let Some(f) = &self.update_idle {
            f(cx, cpu, idle);
        }
    }

    fn cpu_release(&self, cx: &mut Cx<'_>, cpu: CpuId, next: Task<'_>) {
        if let Some(f) = &self.cpu_release {
            f(cx, cpu, next);
        }
    }

    fn cpu_acquire(&self, cx: &mut Cx<'_>, cpu: CpuId) {
        if let Some(f) = &self.cpu_acquire {
            f(cx, cpu);
        }
    }

    fn init_task(&self, cx: &mut Cx<'_>, p: Task<'_>, args: &InitTaskArgs) -> Result<(), Errno> {
        note(cx, "init_task", p, u64::from(args.fork));
        self.init_task.as_ref().map_or(Ok(()), |f| f(cx, p, args))
    }

    fn exit_task(&self, cx: &mut Cx<'_>, p: Task<'_>, args: &ExitTaskArgs) {
        note(cx, "exit_task", p, u64::from(args.cancelled));
    }

    fn enable(&self, cx: &mut Cx<'_>, p: Task<'_>) {
        note(cx, "enable", p, 0);
    }

    fn disable(&self, cx: &mut Cx<'_>, p: Task<'_>) {
        note(cx, "disable", p, 0);
    }

    fn cgroup_prep_move(
        &self,
        cx: &mut Cx<'_>,
        p: Task<'_>,
        from: u64,
        to: u64,
    ) -> Result<(), Errno> {
        note(cx, "cgroup_prep_move", p, from << 32 | to);
        Ok(())
    }

    fn cgroup_move(&self, cx: &mut Cx<'_>, p: Task<'_>, from: u64, to: u64) {
        note(cx, "cgroup_move", p, from << 32 | to);
    }

    fn tracepoint(&self, cx: &mut Cx<'_>, at: &Tracepoint<Task<'_>>) {
        match at {
            Tracepoint::SchedSwitch { prev, next, prev_state, .. } => {
                assert_eq!(cx.current(), cx.same(*prev), "the switch is not done yet");
                assert!(cx.irqs_disabled());
                note(cx, "switch_from", *prev, (*prev_state).into());
                note(cx, "switch_to", *next, cx.this_cpu().0.into());
            }
            Tracepoint::SchedWaking { p } => note(cx, "waking", *p, 0),
            Tracepoint::SchedWakeup { p } => note(cx, "wakeup", *p, cx.task_cpu(*p).0.into()),
            Tracepoint::SchedWakeupNew { p } => {
                note(cx, "wakeup_new", *p, cx.task_cpu(*p).0.into());
            }
            Tracepoint::SchedMigrateTask { p, dest_cpu } => {
                assert_ne!(cx.task_cpu(*p), *dest_cpu, "it has not moved yet");
                note(cx, "migrate", *p, dest_cpu.0.into());
            }
            Tracepoint::SchedProcessFork { parent, child } => {
                assert_eq!(cx.current(), cx.same(*parent));
                assert!(!cx.irqs_disabled());
                note(cx, "fork", *child, 0);
            }
            Tracepoint::SchedProcessExec { p, old_pid } => note(cx, "exec", *p, *old_pid as u64),
            Tracepoint::SchedProcessExit { p, group_dead } => {
                note(cx, "exit", *p, (*group_dead).into());
            }
            Tracepoint::TaskRename { p, comm } => note(cx, "rename", *p, comm.len() as u64),
            Tracepoint::CgroupAttachTask { cgroup, p, .. } => note(cx, "attach", *p, *cgroup),
            Tracepoint::ScxTick { cpu } => {
                assert_eq!(cx.this_cpu(), *cpu);
                assert!(cx.irqs_disabled());
                note(cx, "scx_tick", cx.current(), cpu.0.into());
            }
            Tracepoint::WakeUpNewTask { p } => {
                assert_ne!(cx.current(), cx.same(*p));
                note(cx, "wake_up_new_task", *p, 0);
            }
            Tracepoint::SchedExtDead { p } => {
                assert_ne!(cx.current(), cx.same(*p), "it is switched from");
                assert!(!cx.irqs_disabled());
                note(cx, "sched_ext_dead", *p, 0);
            }
        }
    }

    fn init(&self, cx: &mut Cx<'_>) -> Result<(), Errno> {
        self.init.as_ref().map_or(Ok(()), |f| f(cx))
    }

    fn exit(&self, cx: &mut Cx<'_>, info: &ExitInfo) {
        st(cx).exit = Some(info.clone());
    }
}
