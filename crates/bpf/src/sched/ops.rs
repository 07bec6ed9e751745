//! The operations of a scheduler: which of its programs each one is, and calling them.

use scxlab_engine::{
    Cid, CpuId, Cpumask, Cx, DeqFlags, DumpCtx, EnqFlags, Errno, ExitInfo, ExitTaskArgs, Form,
    InitTaskArgs, OpSet, Ops, Scheduler, SubArgs, Task, Tracepoint, WakeFlags,
};

use super::BpfScheduler;
use super::call::Arg;
use super::state::State;
use crate::Image;
use crate::abi::Version;
use crate::image::StructOps;
use crate::machine::NoKernel;

/// How many faults of a scheduler that has ended are kept.
const MOST_LATE_FAULTS: usize = 8;

macro_rules! operations {
    ($($op:ident = $cpu:literal $cid:literal $set:ident,)*) => {
        /// An operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Op { $($op,)* }

        /// Each with its names in `struct sched_ext_ops` and `struct sched_ext_ops_cid`.
        const OPERATIONS: &[(Op, [&str; 2], OpSet)] =
            &[$((Op::$op, [$cpu, $cid], OpSet::$set),)*];
    };
}

operations! {
    SelectCpu = "select_cpu" "select_cid" SELECT_CPU,
    Enqueue = "enqueue" "enqueue" ENQUEUE,
    Dequeue = "dequeue" "dequeue" DEQUEUE,
    Dispatch = "dispatch" "dispatch" DISPATCH,
    Tick = "tick" "tick" TICK,
    Runnable = "runnable" "runnable" RUNNABLE,
    Running = "running" "running" RUNNING,
    Stopping = "stopping" "stopping" STOPPING,
    Quiescent = "quiescent" "quiescent" QUIESCENT,
    Yield = "yield" "yield" YIELD,
    SetWeight = "set_weight" "set_weight" SET_WEIGHT,
    SetCpumask = "set_cpumask" "set_cmask" SET_CPUMASK,
    UpdateIdle = "update_idle" "update_idle" UPDATE_IDLE,
    InitTask = "init_task" "init_task" INIT_TASK,
    ExitTask = "exit_task" "exit_task" EXIT_TASK,
    Enable = "enable" "enable" ENABLE,
    Disable = "disable" "disable" DISABLE,
    Dump = "dump" "dump" DUMP,
    DumpCpu = "dump_cpu" "dump_cid" DUMP_CPU,
    DumpTask = "dump_task" "dump_task" DUMP_TASK,
    CgroupInit = "cgroup_init" "cgroup_init" CGROUP_INIT,
    CgroupExit = "cgroup_exit" "cgroup_exit" CGROUP_EXIT,
    CgroupPrepMove = "cgroup_prep_move" "cgroup_prep_move" CGROUP_PREP_MOVE,
    CgroupMove = "cgroup_move" "cgroup_move" CGROUP_MOVE,
    CgroupCancelMove = "cgroup_cancel_move" "cgroup_cancel_move" CGROUP_CANCEL_MOVE,
    SubAttach = "sub_attach" "sub_attach" SUB_ATTACH,
    SubDetach = "sub_detach" "sub_detach" SUB_DETACH,
    Init = "init" "init" INIT,
    Exit = "exit" "exit" EXIT,
    CpuAcquire = "cpu_acquire" "" CPU_ACQUIRE,
    CpuRelease = "cpu_release" "" CPU_RELEASE,
}

/// Those that no engine calls: there is nothing of it there. CPUs stay online, cgroups keep their
/// weight, and what a sub-scheduler may do does not change.
pub(super) const NEVER_CALLED: &[&str] = &[
    "core_sched_before",
    "cpu_online",
    "cpu_offline",
    "cid_online",
    "cid_offline",
    "cgroup_set_weight",
    "cgroup_set_bandwidth",
    "cgroup_set_idle",
    "sub_caps_updated",
    "sub_ecaps_updated",
];

/// Those that the engine calls, in both forms.
#[cfg(test)]
pub(super) fn called() -> impl Iterator<Item = &'static str> {
    let named = OPERATIONS.iter().flat_map(|(_, names, _)| *names);
    named.filter(|name| !name.is_empty()).chain(["init_cids"])
}

/// The section of programs that run as a scheduler is attached, before all of its operations: 7.3's
/// own header has one.
pub(super) const REGISTERED: &str = "fentry/bpf_scx_reg";

/// The program of each operation.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub form: Form,
    pub implements: OpSet,
    /// Functions, by operation.
    by_op: [Option<usize>; OPERATIONS.len()],
    /// Programs that trace [`REGISTERED`].
    on_attach: Vec<usize>,
    /// `init_cids`, which 7.3 calls before `init`.
    init_cids: Option<usize>,
    /// `set_cmask` runs after `enable`, as in 7.3's cid form.
    cids_on_enable: bool,
}

impl Programs {
    /// Those of a structure. What the engine does not have is named.
    pub fn new(
        image: &Image,
        ops: &StructOps,
        version: Version,
        missing: &mut Vec<String>,
    ) -> Self {
        let form = match ops.type_name.as_str() {
            "sched_ext_ops" => Form::Cpu,
            "sched_ext_ops_cid" => Form::Cid,
            other => {
                missing.push(format!("schedulers of type {other}"));
                Form::Cpu
            }
        };
        let mut programs = Self {
            form,
            implements: OpSet::empty(),
            by_op: [None; OPERATIONS.len()],
            on_attach: Vec::new(),
            init_cids: None,
            cids_on_enable: false,
        };
        for member in &ops.members {
            let Some(program) = ops.operation(&member.name) else { continue };
            // In 7.3's cid form, those of cgroups are named for their controller.
            let name = match member.name.strip_prefix("cpuctl_") {
                Some(rest) if form == Form::Cid => format!("cgroup_{rest}"),
                _ => member.name.clone(),
            };
            let known = OPERATIONS.iter().find(|(_, names, _)| names[form as usize] == name);
            match (known, image.programs.get(program)) {
                (Some((op, _, set)), Some(program)) => {
                    programs.by_op[*op as usize] = Some(program.function);
                    programs.implements |= *set;
                }
                (None, Some(program)) if name == "init_cids" && form == Form::Cid => {
                    programs.init_cids = Some(program.function);
                    programs.implements |= OpSet::INIT;
                }
                _ if NEVER_CALLED.contains(&name.as_str()) => {}
                _ => missing.push(format!("operation {}", member.name)),
            }
        }
        let traces = image.programs.iter().filter(|program| program.section == REGISTERED);
        programs.on_attach = traces.map(|program| program.function).collect();
        if !programs.on_attach.is_empty() {
            programs.implements |= OpSet::INIT;
        }
        let follows_cids = programs.implements.contains(OpSet::SET_CPUMASK);
        if form == Form::Cid && version >= Version::V7_3 && follows_cids {
            programs.cids_on_enable = true;
            programs.implements |= OpSet::ENABLE;
        }
        programs
    }

    fn name(&self, op: Op) -> &'static str {
        OPERATIONS[op as usize].1[self.form as usize]
    }
}

/// Ends the scheduler with what a program did. If it has ended, which nothing on a kernel does to a
/// program that was verified, the report still has it.
pub(super) fn faulted(cx: &mut Cx<'_>, what: String) {
    if !cx.fault(what.as_str())
        && let Some(inner) = cx.state::<State>().and_then(|state| state.0.as_mut())
        && inner.late_faults.len() < MOST_LATE_FAULTS
        && !inner.late_faults.contains(&what)
    {
        inner.late_faults.push(what);
    }
}

impl BpfScheduler {
    /// Runs an operation. What goes wrong ends the scheduler, and gives nothing.
    fn op<'r>(&self, cx: &mut Cx<'r>, op: Op, args: &[Arg<'_, 'r>]) -> Option<u64> {
        let program = self.programs.by_op[op as usize]?;
        self.checked(cx, ("ops.", self.programs.name(op)), program, args)
    }

    /// Runs a program. What goes wrong ends the scheduler, and gives nothing.
    fn checked<'r>(
        &self,
        cx: &mut Cx<'r>,
        (form, name): (&str, &str),
        program: usize,
        args: &[Arg<'_, 'r>],
    ) -> Option<u64> {
        match self.run(cx, program, args) {
            Ok(value) => Some(value),
            Err(failed) => {
                faulted(cx, format!("{form}{name}: {failed}"));
                None
            }
        }
    }

    /// An operation that returns 0 or a negative error number.
    fn op_errno<'r>(&self, cx: &mut Cx<'r>, op: Op, args: &[Arg<'_, 'r>]) -> Result<(), Errno> {
        match self.op(cx, op, args).unwrap_or(0) as i32 {
            0 => Ok(()),
            err => Err(Errno(err.wrapping_neg())),
        }
    }

    /// `ops.init_cids()` of 7.3, of a root: cids are final after it.
    fn init_cids(&self, cx: &mut Cx<'_>) -> Result<(), Errno> {
        let Some(program) = self.programs.init_cids.filter(|_| cx.is_root()) else {
            return Ok(());
        };
        self.cids_are_open(cx, true);
        let err = self.checked(cx, ("ops.", "init_cids"), program, &[]).unwrap_or(0) as i32;
        self.cids_are_open(cx, false);
        if err == 0 {
            return Ok(());
        }
        cx.fault(format!("ops.init_cids() failed ({err})"));
        Err(Errno(err.wrapping_neg()))
    }

    fn cids_are_open(&self, cx: &mut Cx<'_>, open: bool) {
        if let Some(inner) = cx.state::<State>().and_then(|state| state.0.as_deref_mut()) {
            inner.cids_are_open = open;
        }
    }

    /// One that is about a task, and has up to one number.
    fn about(&self, cx: &mut Cx<'_>, op: Op, p: Task<'_>, number: Option<u64>) {
        let p = Arg::Task(Some(cx.same(p)));
        match number {
            Some(number) => self.op(cx, op, &[p, Arg::Number(number)]),
            None => self.op(cx, op, &[p]),
        };
    }

    /// One that is about a task that moves from one cgroup to another.
    fn moves(&self, cx: &mut Cx<'_>, op: Op, p: Task<'_>, from: u64, to: u64) -> Result<(), Errno> {
        let p = Arg::Task(Some(cx.same(p)));
        self.op_errno(cx, op, &[p, Arg::Cgroup(from), Arg::Cgroup(to)])
    }

    fn selects(&self, cx: &mut Cx<'_>, p: Task<'_>, prev: u32, wake: WakeFlags) -> u32 {
        let p = Arg::Task(Some(cx.same(p)));
        let args = [p, Arg::Number(prev.into()), Arg::Number(wake.bits())];
        self.op(cx, Op::SelectCpu, &args).map_or(prev, |cpu| cpu as u32)
    }

    fn dispatches(&self, cx: &mut Cx<'_>, cpu: u32, prev: Option<Task<'_>>) {
        let prev = Arg::Task(prev.map(|prev| cx.same(prev)));
        self.op(cx, Op::Dispatch, &[Arg::Number(cpu.into()), prev]);
    }

    fn idles(&self, cx: &mut Cx<'_>, cpu: u32, idle: bool) {
        let args = [Arg::Number(cpu.into()), Arg::Number(idle.into())];
        self.op(cx, Op::UpdateIdle, &args);
    }

    fn dumps(&self, cx: &mut Cx<'_>, ctx: &DumpCtx, cpu: u32, idle: bool) {
        let ctx = self.shapes.dump(cx, ctx);
        let args = [Arg::Struct(&ctx), Arg::Number(cpu.into()), Arg::Number(idle.into())];
        self.op(cx, Op::DumpCpu, &args);
    }
}

impl Scheduler for BpfScheduler {
    fn ops(&self) -> Ops {
        self.ops.clone()
    }

    fn new_state(&self) -> Box<dyn scxlab_engine::State> {
        Box::new(State(Some(Box::new(self.initial.clone()))))
    }

    fn counters(&self, state: &dyn scxlab_engine::State) -> Vec<(String, u64)> {
        let state = state.as_any().downcast_ref::<State>();
        let Some(inner) = state.and_then(|state| state.0.as_ref()) else { return Vec::new() };
        let read = |(name, addr, size): &(String, u64, usize)| {
            let mut bytes = [0; 8];
            inner.memory.read(&mut NoKernel, *addr, &mut bytes[..*size]).ok()?;
            Some((name.clone(), u64::from_le_bytes(bytes)))
        };
        self.counters.iter().filter_map(read).collect()
    }

    fn select_cpu(&self, cx: &mut Cx<'_>, p: Task<'_>, prev: CpuId, wake: WakeFlags) -> CpuId {
        CpuId(self.selects(cx, p, prev.0, wake))
    }
    fn select_cid(&self, cx: &mut Cx<'_>, p: Task<'_>, prev: Cid, wake: WakeFlags) -> Cid {
        Cid(self.selects(cx, p, prev.0, wake))
    }
    fn enqueue(&self, cx: &mut Cx<'_>, p: Task<'_>, enq: EnqFlags) {
        self.about(cx, Op::Enqueue, p, Some(enq.bits()));
    }
    fn dequeue(&self, cx: &mut Cx<'_>, p: Task<'_>, deq: DeqFlags) {
        self.about(cx, Op::Dequeue, p, Some(deq.bits()));
    }
    fn dispatch(&self, cx: &mut Cx<'_>, cpu: CpuId, prev: Option<Task<'_>>) {
        self.dispatches(cx, cpu.0, prev);
    }
    fn dispatch_cid(&self, cx: &mut Cx<'_>, cid: Cid, prev: Option<Task<'_>>) {
        self.dispatches(cx, cid.0, prev);
    }
    fn tick(&self, cx: &mut Cx<'_>, p: Task<'_>) {
        self.about(cx, Op::Tick, p, None);
    }
    fn runnable(&self, cx: &mut Cx<'_>, p: Task<'_>, enq: EnqFlags) {
        self.about(cx, Op::Runnable, p, Some(enq.bits()));
    }
    fn running(&self, cx: &mut Cx<'_>, p: Task<'_>) {
        self.about(cx, Op::Running, p, None);
    }
    fn stopping(&self, cx: &mut Cx<'_>, p: Task<'_>, runnable: bool) {
        self.about(cx, Op::Stopping, p, Some(runnable.into()));
    }
    fn quiescent(&self, cx: &mut Cx<'_>, p: Task<'_>, deq: DeqFlags) {
        self.about(cx, Op::Quiescent, p, Some(deq.bits()));
    }
    fn yield_task(&self, cx: &mut Cx<'_>, from: Task<'_>) {
        // To nobody: `yield_to_task_scx()` is for virtual CPUs alone.
        let from = Arg::Task(Some(cx.same(from)));
        self.op(cx, Op::Yield, &[from, Arg::Task(None)]);
    }
    fn set_weight(&self, cx: &mut Cx<'_>, p: Task<'_>, weight: u32) {
        self.about(cx, Op::SetWeight, p, Some(weight.into()));
    }
    fn set_cpumask(&self, cx: &mut Cx<'_>, p: Task<'_>, _: &Cpumask) {
        let p = cx.same(p);
        self.op(cx, Op::SetCpumask, &[Arg::Task(Some(p)), Arg::CpusOf(p)]);
    }
    fn set_cmask(&self, cx: &mut Cx<'_>, p: Task<'_>, cids: &Cpumask) {
        let p = Arg::Task(Some(cx.same(p)));
        self.op(cx, Op::SetCpumask, &[p, Arg::Cids(cids)]);
    }
    fn timer(&self, cx: &mut Cx<'_>, cookie: u32) {
        if let Err((name, failed)) = self.timer_fires(cx, cookie) {
            faulted(cx, format!("the timer callback {name}: {failed}"));
        }
    }
    fn update_idle(&self, cx: &mut Cx<'_>, cpu: CpuId, idle: bool) {
        self.idles(cx, cpu.0, idle);
    }
    fn update_idle_cid(&self, cx: &mut Cx<'_>, cid: Cid, idle: bool) {
        self.idles(cx, cid.0, idle);
    }
    fn cpu_acquire(&self, cx: &mut Cx<'_>, cpu: CpuId) {
        let args = self.shapes.cpu_acquire();
        self.op(cx, Op::CpuAcquire, &[Arg::Number(cpu.0.into()), Arg::Struct(&args)]);
    }
    fn cpu_release(&self, cx: &mut Cx<'_>, cpu: CpuId, next: Task<'_>) {
        let args = self.shapes.cpu_release(cx.same(next));
        self.op(cx, Op::CpuRelease, &[Arg::Number(cpu.0.into()), Arg::Struct(&args)]);
    }
    fn init_task(&self, cx: &mut Cx<'_>, p: Task<'_>, args: &InitTaskArgs) -> Result<(), Errno> {
        let p = Arg::Task(Some(cx.same(p)));
        let args = self.shapes.init_task(args.fork, args.cgroup);
        self.op_errno(cx, Op::InitTask, &[p, Arg::Struct(&args)])
    }
    fn exit_task(&self, cx: &mut Cx<'_>, p: Task<'_>, args: &ExitTaskArgs) {
        let p = Arg::Task(Some(cx.same(p)));
        let args = self.shapes.exit_task(args.cancelled);
        self.op(cx, Op::ExitTask, &[p, Arg::Struct(&args)]);
    }
    fn enable(&self, cx: &mut Cx<'_>, p: Task<'_>) {
        if self.programs.form != Form::Cid || self.version < Version::V7_3 {
            self.about(cx, Op::Enable, p, None);
            return;
        }
        let p = cx.same(p);
        let cids = cx.task_cids(p);
        let args = self.shapes.enable(&cids);
        self.op(cx, Op::Enable, &[Arg::Task(Some(p)), Arg::Struct(&args)]);
        // `__scx_enable_task()` in Linux 7.3.
        if self.programs.cids_on_enable {
            self.set_cmask(cx, p, &cids);
        }
    }
    fn disable(&self, cx: &mut Cx<'_>, p: Task<'_>) {
        self.about(cx, Op::Disable, p, None);
    }
    fn dump(&self, cx: &mut Cx<'_>, ctx: &DumpCtx) {
        let ctx = self.shapes.dump(cx, ctx);
        self.op(cx, Op::Dump, &[Arg::Struct(&ctx)]);
    }
    fn dump_cpu(&self, cx: &mut Cx<'_>, ctx: &DumpCtx, cpu: CpuId, idle: bool) {
        self.dumps(cx, ctx, cpu.0, idle);
    }
    fn dump_cid(&self, cx: &mut Cx<'_>, ctx: &DumpCtx, cid: Cid, idle: bool) {
        self.dumps(cx, ctx, cid.0, idle);
    }
    fn dump_task(&self, cx: &mut Cx<'_>, ctx: &DumpCtx, p: Task<'_>) {
        let ctx = self.shapes.dump(cx, ctx);
        let p = Arg::Task(Some(cx.same(p)));
        self.op(cx, Op::DumpTask, &[Arg::Struct(&ctx), p]);
    }
    fn cgroup_init(&self, cx: &mut Cx<'_>, cgroup: u64) -> Result<(), Errno> {
        let args = self.shapes.cgroup_init();
        self.op_errno(cx, Op::CgroupInit, &[Arg::Cgroup(cgroup), Arg::Struct(&args)])
    }
    fn cgroup_exit(&self, cx: &mut Cx<'_>, cgroup: u64) {
        self.op(cx, Op::CgroupExit, &[Arg::Cgroup(cgroup)]);
    }
    fn cgroup_prep_move(
        &self,
        cx: &mut Cx<'_>,
        p: Task<'_>,
        from: u64,
        to: u64,
    ) -> Result<(), Errno> {
        self.moves(cx, Op::CgroupPrepMove, p, from, to)
    }
    fn cgroup_move(&self, cx: &mut Cx<'_>, p: Task<'_>, from: u64, to: u64) {
        // It returns nothing.
        let _ = self.moves(cx, Op::CgroupMove, p, from, to);
    }
    fn cgroup_cancel_move(&self, cx: &mut Cx<'_>, p: Task<'_>, from: u64, to: u64) {
        let _ = self.moves(cx, Op::CgroupCancelMove, p, from, to);
    }
    fn sub_attach(&self, cx: &mut Cx<'_>, args: &SubArgs) -> Result<(), Errno> {
        let args = self.shapes.sub(true, args.cgroup_id, &args.cgroup_path);
        self.op_errno(cx, Op::SubAttach, &[Arg::Struct(&args)])
    }
    fn sub_detach(&self, cx: &mut Cx<'_>, args: &SubArgs) {
        let args = self.shapes.sub(false, args.cgroup_id, &args.cgroup_path);
        self.op(cx, Op::SubDetach, &[Arg::Struct(&args)]);
    }
    fn tracepoint(&self, cx: &mut Cx<'_>, at: &Tracepoint<Task<'_>>) {
        self.passes(cx, at);
    }
    fn init(&self, cx: &mut Cx<'_>) -> Result<(), Errno> {
        for program in &self.programs.on_attach {
            self.checked(cx, ("", REGISTERED), *program, &[]);
        }
        self.init_cids(cx)?;
        self.op_errno(cx, Op::Init, &[])
    }
    fn exit(&self, cx: &mut Cx<'_>, info: &ExitInfo) {
        let info = self.shapes.exit(info);
        self.op(cx, Op::Exit, &[Arg::Struct(&info)]);
    }
}
