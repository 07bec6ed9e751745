//! qmap, but that it ends itself with an error on a tick after 200 ms: for its debug dump.

use scxlab_engine::{
    Cid, CpuId, Cpumask, Cx, DeqFlags, DumpCtx, EnqFlags, Errno, ExitTaskArgs, InitTaskArgs, OpSet,
    Ops, Scheduler, State, Task, WakeFlags,
};
use scxlab_schedulers::Qmap;

/// The scheduler.
#[derive(Debug)]
pub(crate) struct Failing(pub Qmap);

impl Scheduler for Failing {
    fn ops(&self) -> Ops {
        let ops = self.0.ops();
        Ops { implements: ops.implements | OpSet::TICK, ..ops }
    }
    fn new_state(&self) -> Box<dyn State> {
        self.0.new_state()
    }
    fn tick(&self, cx: &mut Cx<'_>, _p: Task<'_>) {
        if cx.now().0 > 200_000_000 {
            cx.error("enough");
        }
    }
    fn init(&self, cx: &mut Cx<'_>) -> Result<(), Errno> {
        self.0.init(cx)
    }
    fn select_cid(&self, cx: &mut Cx<'_>, p: Task<'_>, prev: Cid, wake: WakeFlags) -> Cid {
        self.0.select_cid(cx, p, prev, wake)
    }
    fn enqueue(&self, cx: &mut Cx<'_>, p: Task<'_>, enq: EnqFlags) {
        self.0.enqueue(cx, p, enq);
    }
    fn dequeue(&self, cx: &mut Cx<'_>, p: Task<'_>, deq: DeqFlags) {
        self.0.dequeue(cx, p, deq);
    }
    fn dispatch_cid(&self, cx: &mut Cx<'_>, cid: Cid, prev: Option<Task<'_>>) {
        self.0.dispatch_cid(cx, cid, prev);
    }
    fn set_cmask(&self, cx: &mut Cx<'_>, p: Task<'_>, cids: &Cpumask) {
        self.0.set_cmask(cx, p, cids);
    }
    fn update_idle_cid(&self, cx: &mut Cx<'_>, cid: Cid, idle: bool) {
        self.0.update_idle_cid(cx, cid, idle);
    }
    fn init_task(&self, cx: &mut Cx<'_>, p: Task<'_>, a: &InitTaskArgs) -> Result<(), Errno> {
        self.0.init_task(cx, p, a)
    }
    fn exit_task(&self, cx: &mut Cx<'_>, p: Task<'_>, args: &ExitTaskArgs) {
        self.0.exit_task(cx, p, args);
    }
    fn dump(&self, cx: &mut Cx<'_>, ctx: &DumpCtx) {
        self.0.dump(cx, ctx);
    }
    fn dump_cpu(&self, cx: &mut Cx<'_>, ctx: &DumpCtx, cpu: CpuId, idle: bool) {
        self.0.dump_cpu(cx, ctx, cpu, idle);
    }
    fn dump_cid(&self, cx: &mut Cx<'_>, ctx: &DumpCtx, cid: Cid, idle: bool) {
        self.0.dump_cid(cx, ctx, cid, idle);
    }
    fn dump_task(&self, cx: &mut Cx<'_>, ctx: &DumpCtx, p: Task<'_>) {
        self.0.dump_task(cx, ctx, p);
    }
}
