//! How fast the engine is, and how flat: events a second on one core for machines of 2 to 1,024
//! CPUs and 10 to 100,000 tasks. Run with `cargo bench -p scxlab-engine`.
//!
//! An event is a wakeup, enqueue, dispatch, switch, sleep, fork, exec or exit; ticks do not count.
//! Each task runs 20 to 60 us and sleeps so long that the CPUs are busy about 70 % of the time.
//! The last column compares the cost of an event with the first row's, in this same run.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use scxlab_engine::program::{Instr, Pc, Span, Start};
use scxlab_engine::{
    Config, CpuId, Cx, DsqId, Engine, EnqFlags, Errno, Nanos, OpSet, Ops, Program, Scheduler,
    State, Task, WakeFlags,
};

/// Wall time for each row.
const TIME: Duration = Duration::from_millis(700);

/// CPUs and tasks. Two numbers on the command line select a single row instead.
const ROWS: [(u64, u64); 17] = [
    (2, 10),
    (2, 100),
    (2, 1_000),
    (2, 10_000),
    (2, 100_000),
    (16, 10),
    (16, 1_000),
    (16, 10_000),
    (16, 100_000),
    (128, 10),
    (128, 1_000),
    (128, 10_000),
    (128, 100_000),
    (1_024, 10),
    (1_024, 1_000),
    (1_024, 10_000),
    (1_024, 100_000),
];

/// One FIFO for all CPUs, after the built-in idle selection: what a simple scheduler does.
#[derive(Debug)]
struct Fifo;

const QUEUE: DsqId = DsqId(0);
const SLICE: u64 = 5_000_000;

impl Scheduler for Fifo {
    fn ops(&self) -> Ops {
        Ops {
            name: "fifo".into(),
            implements: OpSet::SELECT_CPU | OpSet::ENQUEUE | OpSet::DISPATCH | OpSet::INIT,
            ..Ops::default()
        }
    }
    fn new_state(&self) -> Box<dyn State> {
        Box::new(())
    }
    fn init(&self, cx: &mut Cx<'_>) -> Result<(), Errno> {
        cx.create_dsq(QUEUE)
    }
    fn select_cpu(&self, cx: &mut Cx<'_>, p: Task<'_>, prev: CpuId, wake: WakeFlags) -> CpuId {
        let Some(cpu) = cx.select_cpu_dfl(p, prev, wake) else { return prev };
        cx.dsq_insert(p, DsqId::LOCAL, SLICE, EnqFlags::empty());
        cpu
    }
    fn enqueue(&self, cx: &mut Cx<'_>, p: Task<'_>, enq: EnqFlags) {
        cx.dsq_insert(p, QUEUE, SLICE, enq);
    }
    fn dispatch(&self, cx: &mut Cx<'_>, _cpu: CpuId, _prev: Option<Task<'_>>) {
        cx.dsq_move_to_local(QUEUE, EnqFlags::empty());
    }
}

fn program(cpus: u64, tasks: u64) -> Program {
    let (run, busy) = (40_000, 7 * cpus);
    // tasks * run / (run + sleep) = 0.7 * cpus
    let sleep = (run * tasks * 10 / busy).saturating_sub(run).max(20_000);
    Program {
        code: vec![
            Instr::Run(Span::between(Nanos(20_000), Nanos(60_000))),
            Instr::Sleep(Span::between(Nanos(sleep / 2), Nanos(sleep * 3 / 2))),
            Instr::Jump(Pc(0)),
        ],
        names: vec!["task".into()],
        start: (0..tasks).map(|i| Start { at: Nanos(i * 500), ..Start::new(Pc(0), 0) }).collect(),
        ..Program::default()
    }
}

struct Row {
    events: u64,
    simulated: f64,
    wall: f64,
}

impl Row {
    fn ns_for_each(&self) -> f64 {
        self.wall * 1e9 / self.events as f64
    }
}

fn measure(cpus: u64, tasks: u64) -> Row {
    let mut config = Config::new(cpus as usize, Arc::new(program(cpus, tasks)));
    config.check = false;
    config.pid_max = Some(200_000);
    let mut engine = Engine::new(config).expect("the machine is valid");
    engine.attach(Arc::new(Fifo)).expect("it attaches");
    // Until all tasks are there and have slept once.
    engine.run_until(Nanos(tasks * 500) + Nanos::from_millis(50));
    let (before, from) = (engine.stats().events(), engine.now());
    let start = Instant::now();
    let step = Nanos::from_micros(500);
    while start.elapsed() < TIME {
        let until = engine.now() + step;
        black_box(engine.run_until(until));
    }
    let wall = start.elapsed().as_secs_f64();
    assert!(engine.lost_tasks().is_empty(), "nothing may be lost");
    Row {
        events: engine.stats().events() - before,
        simulated: (engine.now() - from).as_secs_f64(),
        wall,
    }
}

fn main() {
    if std::env::args().any(|arg| arg == "--test") {
        return; // `cargo test --benches` only wants to know that it builds.
    }
    let only: Vec<u64> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let rows = match only[..] {
        [cpus, tasks] => vec![(cpus, tasks)],
        _ => ROWS.to_vec(),
    };
    println!(
        "{:>6} {:>8} {:>10} {:>10} {:>12} {:>8}",
        "CPUs", "tasks", "Mevents/s", "ns/event", "sim s/real s", "ratio"
    );
    let mut first = None;
    let mut worst: [f64; 2] = [0.0; 2];
    let mut slowest = f64::MAX;
    for &(cpus, tasks) in rows.iter() {
        let row = measure(cpus, tasks);
        let cost = row.ns_for_each();
        let base = *first.get_or_insert(cost);
        let ratio = cost / base;
        let class = usize::from(tasks > 10_000);
        worst[class] = worst[class].max(ratio);
        let rate = row.events as f64 / row.wall / 1e6;
        slowest = slowest.min(rate);
        println!(
            "{cpus:>6} {tasks:>8} {rate:>10.2} {cost:>10.0} {:>12.3} {ratio:>8.2}",
            row.simulated / row.wall
        );
    }
    println!("up to 10,000 tasks: at most {:.2} times the first row (aim: under 2)", worst[0]);
    println!("at 100,000 tasks: at most {:.2} times (aim: under 4)", worst[1]);
    println!("slowest row: {slowest:.2} million events a second (aim: at least 3)");
}
