//! How fast a compiled scheduler schedules: events a second on one core with qmap from its object
//! file, beside qmap in Rust, on the same workloads in one run. Run with `cargo bench -p scxlab-bpf`;
//! `cargo xtask bpf` compiles it before.
//!
//! An event is a wakeup, enqueue, dispatch, switch, sleep, fork, exec or exit; ticks do not count, nor
//! what a scheduler does in between. A round is some 500 events for each of both, on an engine of its
//! own, and so short that a busy machine seldom interrupts it; the figures are those of the median.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use scxlab_bpf::abi::{Abi, Version};
use scxlab_bpf::object::Object;
use scxlab_bpf::sched::BpfScheduler;
use scxlab_engine::{Config, EnableState, Engine, Nanos, Program, Scheduler};
use scxlab_workload::Workload;

/// Wall time for each workload.
const TIME: Duration = Duration::from_secs(4);
/// Events of a round, at least, and how far it goes at once in virtual time.
const EVENTS: u64 = 500;
const STEP: Nanos = Nanos(200_000);
/// Virtual time before the first round.
const BEFORE: Nanos = Nanos(200_000_000);

const CPUS: usize = 4;
const WORKLOADS: [&str; 5] = ["mixed", "nonleader-exec", "exit-storm", "hogs", "pingpong"];

/// The flag with which the kernel keeps a table of tids; both use it.
const TID_TO_TASK: &str = "SCX_OPS_TID_TO_TASK";

/// An engine with a scheduler, and how fast it was in each round: events a second.
struct Side {
    engine: Engine,
    rates: Vec<f64>,
}

impl Side {
    fn new(program: &Arc<Program>, scheduler: Arc<dyn Scheduler>) -> Self {
        let mut config = Config::new(CPUS, program.clone());
        config.check = false;
        let mut engine = Engine::new(config).expect("the machine is valid");
        engine.attach(scheduler).expect("it attaches");
        engine.run_until(BEFORE);
        Self { engine, rates: Vec::new() }
    }

    fn round(&mut self) {
        let before = self.engine.stats().events();
        let start = Instant::now();
        while self.engine.stats().events() - before < EVENTS {
            let until = self.engine.now() + STEP;
            black_box(self.engine.run_until(until));
        }
        let seconds = start.elapsed().as_secs_f64();
        self.rates.push((self.engine.stats().events() - before) as f64 / seconds);
        assert_eq!(self.engine.enable_state(), EnableState::Enabled, "the scheduler is ejected");
    }

    /// Millions of events a second.
    fn rate(mut self) -> f64 {
        self.rates.sort_by(f64::total_cmp);
        self.rates[self.rates.len() / 2] / 1e6
    }
}

/// The compiled one, as `scxlab run` loads it.
fn compiled(bytes: &[u8]) -> BpfScheduler {
    let abi = Abi::new(Version::V7_2).expect("the declarations make sense");
    let mut object = Object::parse(bytes).expect("it is a scheduler");
    object.fill_enumerators(&abi).expect("they are variables");
    let flag = abi.number(TID_TO_TASK).expect("7.2 has tids");
    let flags: Vec<_> = object.struct_ops().map(|(name, _)| format!("{name}.flags")).collect();
    for flags in flags {
        let known = object.number(&flags).unwrap_or(0);
        object.set(&flags, &(known | flag).to_string()).expect("it is a number");
    }
    let image = object.load(&abi).expect("it is for this kernel");
    BpfScheduler::new(image, &abi).expect("the engine has what it needs")
}

fn main() {
    if std::env::args().any(|arg| arg == "--test") {
        return; // `cargo test --benches` only wants to know that it builds.
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bpf/qmap.bpf.o");
    let Ok(bytes) = fs::read(&path) else {
        println!(
            "qmap is not compiled, so its events are not counted: `cargo xtask bpf` does that"
        );
        return;
    };
    // Words on the command line select workloads by their names.
    let chosen: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let workloads = WORKLOADS
        .iter()
        .copied()
        .filter(|name| chosen.is_empty() || chosen.iter().any(|word| word == name));
    println!(
        "{:<16} {:>8} {:>12} {:>12} {:>16}",
        "workload", "rounds", "compiled", "in Rust", "slowdown"
    );
    let (mut product, mut count) = (1.0, 0);
    for name in workloads {
        let workload = Workload::builtin(name, CPUS).expect("it is built in");
        let program = Arc::new(workload.compile(CPUS).expect("it is sound"));
        let rust = scxlab_schedulers::create("qmap", &[]).expect("it is built in");
        let mut sides =
            [Side::new(&program, Arc::new(compiled(&bytes))), Side::new(&program, rust)];
        let start = Instant::now();
        while start.elapsed() < TIME {
            sides.iter_mut().for_each(Side::round);
        }
        let rounds = sides[0].rates.len();
        let [ours, rust] = sides.map(Side::rate);
        println!("{name:<16} {rounds:>8} {ours:>10.2} M/s {rust:>10.2} M/s {:>10.2}", rust / ours);
        product *= rust / ours;
        count += 1;
    }
    println!("geometric mean: {:.2}", f64::powf(product, 1.0 / f64::from(count)));
}
