//! Timers of a scheduler's own.

use std::collections::{BTreeSet, VecDeque};

use scxlab_engine::{
    Config, CpuId, Cx, DsqId, Engine, EnqFlags, Errno, Nanos, OpSet, Ops, OpsFlags, SchedId,
    Scheduler, State, Task,
};

mod support;
use support::{Prog, attached, busy, go, quiet, run_us, sleep_us};

/// Starts a timer in `ops.init`, again and again from its callback, and one in each `ops.running`.
#[derive(Debug)]
struct Alarm {
    every: Nanos,
    /// `ops.create_dsq` from the callback, which may not sleep.
    sleeps: bool,
}

#[derive(Clone, Debug, Default)]
struct Rang {
    /// When, where, which.
    all: Vec<(Nanos, CpuId, u32)>,
    /// `ops.running` on other CPUs than the first.
    elsewhere: u32,
    /// Tasks that wait, by tid.
    queue: VecDeque<u64>,
}

impl Scheduler for Alarm {
    fn ops(&self) -> Ops {
        let implements = OpSet::INIT | OpSet::ENQUEUE | OpSet::DISPATCH | OpSet::RUNNING;
        let flags = OpsFlags::TID_TO_TASK;
        Ops { name: "alarm".into(), implements, flags, ..Ops::default() }
    }

    fn new_state(&self) -> Box<dyn State> {
        Box::new(Rang::default())
    }

    fn init(&self, cx: &mut Cx<'_>) -> Result<(), Errno> {
        assert!(!cx.irqs_disabled());
        cx.timer_start(1, cx.now() + self.every);
        Ok(())
    }

    fn enqueue(&self, cx: &mut Cx<'_>, p: Task<'_>, _: EnqFlags) {
        let tid = cx.get(p).scx.tid;
        cx.state::<Rang>().expect("it is ours").queue.push_back(tid);
    }

    fn dispatch(&self, cx: &mut Cx<'_>, _: CpuId, _: Option<Task<'_>>) {
        let Some(tid) = cx.state::<Rang>().expect("it is ours").queue.pop_front() else { return };
        if let Some(p) = cx.tid_to_task(tid) {
            cx.dsq_insert(p, DsqId::LOCAL, 1_000_000, EnqFlags::empty());
        }
    }

    fn running(&self, cx: &mut Cx<'_>, _: Task<'_>) {
        assert!(cx.irqs_disabled());
        if cx.this_cpu() != CpuId(0) {
            cx.state::<Rang>().expect("it is ours").elsewhere += 1;
            // In the past: at once.
            cx.timer_start(2, Nanos::ZERO);
        }
    }

    fn timer(&self, cx: &mut Cx<'_>, cookie: u32) {
        assert!(!cx.irqs_disabled());
        let (now, cpu) = (cx.now(), cx.this_cpu());
        let current = cx.current();
        assert_eq!(cx.task_cpu(current), cpu, "the task that it interrupts");
        cx.state::<Rang>().expect("it is ours").all.push((now, cpu, cookie));
        if cookie == 1 {
            cx.timer_start(1, now + self.every);
        }
        if self.sleeps {
            assert_eq!(cx.create_dsq(DsqId(7)), Err(Errno(22)));
        } else {
            cx.dsq_nr_queued(DsqId::LOCAL).expect("it is there");
            cx.kick_cpu(cpu, scxlab_engine::KickFlags::IDLE);
        }
    }
}

fn workers() -> Prog {
    let mut prog = Prog::new();
    for name in ["w0", "w1", "w2", "w3", "w4", "w5"] {
        let worker = prog.forever(name, vec![run_us(150), sleep_us(100)]);
        prog.start(worker);
    }
    prog
}

fn rang(engine: &Engine, id: SchedId) -> &Rang {
    engine.scheduler_state(id).as_any().downcast_ref().expect("it is ours")
}

#[test]
fn a_timer_goes_off_where_it_was_started_and_when_it_is_time() {
    let every = Nanos::from_millis(3);
    let (mut engine, id) = attached(quiet(2, workers()), Alarm { every, sleeps: false });
    go(&mut engine, 100);
    assert!(engine.is_attached(id), "{:?}", engine.exit_info(id));
    let Rang { all, elsewhere, .. } = rang(&engine, id);
    let (first, second): (Vec<_>, Vec<_>) =
        all.iter().copied().partition(|(.., cookie): &(Nanos, CpuId, u32)| *cookie == 1);
    assert!((30..=34).contains(&first.len()), "{}", first.len());
    for pair in first.windows(2) {
        let apart = pair[1].0 - pair[0].0;
        assert!(apart >= every && apart < every + Nanos::from_micros(10), "{apart:?}");
    }
    assert!(*elsewhere > 100);
    assert!(second.len() as u32 + 1 >= *elsewhere, "{} of {elsewhere}", second.len());
    assert!(second.iter().all(|(_, cpu, _)| *cpu == CpuId(1)));
}

/// One CPU, whose running task gets another slice from a timer.
#[derive(Debug)]
struct Slices {
    /// What tasks are inserted with.
    slice: u64,
    /// What the timer writes.
    writes: u64,
    every: Nanos,
    /// Looks at every tick, so that none is left out.
    ticks: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    running: Option<u64>,
    /// When which task began to run, and what the timer found left of its slice.
    all: Vec<(Nanos, u64, u64)>,
}

impl Scheduler for Slices {
    fn ops(&self) -> Ops {
        let mut implements = OpSet::INIT | OpSet::ENQUEUE | OpSet::RUNNING;
        implements |= if self.ticks { OpSet::TICK } else { OpSet::empty() };
        let flags = OpsFlags::TID_TO_TASK;
        Ops { name: "slices".into(), implements, flags, timeout_ms: 1000, ..Ops::default() }
    }

    fn new_state(&self) -> Box<dyn State> {
        Box::new(Seen::default())
    }

    fn init(&self, cx: &mut Cx<'_>) -> Result<(), Errno> {
        cx.timer_start(1, cx.now() + self.every);
        Ok(())
    }

    fn enqueue(&self, cx: &mut Cx<'_>, p: Task<'_>, enq: EnqFlags) {
        cx.dsq_insert(p, DsqId::GLOBAL, self.slice, enq);
    }

    fn running(&self, cx: &mut Cx<'_>, p: Task<'_>) {
        let (now, scx) = (cx.now(), &cx.get(p).scx);
        let (tid, slice) = (scx.tid, scx.slice);
        let seen = cx.state::<Seen>().expect("it is ours");
        seen.running = Some(tid);
        seen.all.push((now, tid, slice));
    }

    fn tick(&self, _: &mut Cx<'_>, _: Task<'_>) {}

    fn timer(&self, cx: &mut Cx<'_>, _: u32) {
        let now = cx.now();
        cx.timer_start(1, now + self.every);
        let Some(tid) = cx.state::<Seen>().expect("it is ours").running else { return };
        let Some(p) = cx.tid_to_task(tid) else { return };
        let left = cx.slice(p);
        cx.state::<Seen>().expect("it is ours").all.push((now, tid, left));
        cx.write_slice(p, self.writes);
    }
}

/// A tick that is left out has charged the task all the same: what a timer finds and does is as if
/// all ticks came. In the kernel the slice counts down on each tick, and a new one begins there.
#[test]
fn ticks_that_are_left_out_count() {
    const MS: u64 = 1_000_000;
    for (slice, writes, every, ejected) in [
        // Takes the CPU away from one that had it for good.
        (u64::MAX, 0, 20, false),
        // Gives a new slice before the old one ends: the other task never comes to run.
        (20 * MS, 20 * MS, 15, true),
        (20 * MS, 9 * MS, 7, true),
        (20 * MS, MS, 19, false),
    ] {
        let run = |ticks| {
            let mut prog = Prog::new();
            for name in ["a", "b"] {
                let hog = prog.forever(name, vec![run_us(1_000_000)]);
                prog.start(hog);
            }
            let every = Nanos(every * MS + 1000);
            let slices = Slices { slice, writes, every, ticks };
            let (mut engine, id) = attached(quiet(1, prog), slices);
            go(&mut engine, 3000);
            let seen: &Seen =
                engine.scheduler_state(id).as_any().downcast_ref().expect("it is ours");
            (seen.clone(), engine.exit_info(id).map(|exit| (exit.kind, exit.msg.clone())))
        };
        let (all, left_out) = (run(true), run(false));
        assert_eq!(all, left_out, "{slice} {writes} {every}");
        assert_eq!(all.1.is_some(), ejected, "{slice} {writes} {every}: {:?}", all.1);
        let lefts = all.0.all.iter().map(|&(.., left)| left).collect::<BTreeSet<_>>();
        assert_eq!(lefts.len() > 1, slice != u64::MAX, "{slice} {writes} {every}: {lefts:?}");
    }
}

/// One that is due at once each time cannot stop the clock.
#[test]
fn time_goes_on() {
    let (mut engine, id) =
        attached(quiet(1, workers()), Alarm { every: Nanos::ZERO, sleeps: false });
    go(&mut engine, 5);
    let rang = rang(&engine, id).all.len();
    assert!((500..10_000).contains(&rang), "{rang}");
}

#[test]
fn the_callback_may_not_sleep() {
    let every = Nanos::from_millis(1);
    let (mut engine, id) = attached(quiet(2, workers()), Alarm { every, sleeps: true });
    go(&mut engine, 20);
    let info = engine.exit_info(id).expect("it has ended");
    assert!(
        info.msg.contains("scx_bpf_create_dsq() cannot be called from ops.timer()"),
        "{info:?}"
    );
    // Nothing goes off once it is gone.
    assert!(engine.is_gone(id));
    let before = rang(&engine, id).all.len();
    go(&mut engine, 20);
    assert_eq!(rang(&engine, id).all.len(), before);
}

#[test]
fn a_clone_goes_on_as_the_original_with_seams_too() {
    for seed in 0..8 {
        let every = Nanos::from_micros(300);
        let config: Config = busy(3, workers(), seed, 20_000);
        let (mut engine, id) = attached(config, Alarm { every, sleeps: false });
        go(&mut engine, 10);
        let mut clone = engine.clone();
        go(&mut engine, 20);
        go(&mut clone, 20);
        assert_eq!(rang(&engine, id).all, rang(&clone, id).all);
        assert!(rang(&engine, id).all.len() > 60);
        assert!(engine.stats().seams > 0);
    }
}
