//! What the portable tid costs, measured against the kernel's own in one run of one kernel:
//! `cargo xtask cost` gets what it needs and calls it. `bpf/README.md` has what came of it.
#![forbid(unsafe_code)]

mod table;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Parser, ValueEnum};
use scxlab_protocol::{Cost, CostPlan, Job, Record, Task};
use scxlab_vm::{Accel, Cargo, Machine};

use crate::table::Table;

/// Measures what tids cost, the kernel's own and the portable ones
#[derive(Parser)]
struct Args {
    /// The kernel: a version, or an image; 7.2 or later
    #[arg(default_value = "7.2")]
    kernel: String,
    /// Rounds, each with no scheduler, no tids, the kernel's and the portable ones
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Tasks that are there meanwhile, and are looked up
    #[arg(long, default_value_t = 4000)]
    tasks: u32,
    /// Lookups of each kind in a round
    #[arg(long, default_value_t = 100_000)]
    lookups: u32,
    /// Processes, and threads, in a round
    #[arg(long, default_value_t = 500)]
    forks: u32,
    /// What to measure in
    #[arg(long, value_enum, default_value_t = By::Instructions)]
    by: By,
    /// CPUs
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    cpus: u8,
    /// Print what each round came to, as JSON lines, and no table
    #[arg(long)]
    json: bool,
}

/// What to measure in.
#[derive(Clone, Copy, ValueEnum)]
enum By {
    /// Instructions of the guest, in software emulation
    Instructions,
    /// Time of software emulation, in ns
    Tcg,
    /// Time of the processor, in ns
    Kvm,
}

/// What was measured, and on which kernel.
struct Measured {
    release: String,
    costs: Vec<Cost>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let interrupt = Arc::new(AtomicBool::new(false));
    let flag = interrupt.clone();
    // Ctrl-C ends the guest, which takes its files away.
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))?;
    let measured = measure(&args, &interrupt)?;
    if args.json {
        for cost in &measured.costs {
            println!("{}", serde_json::to_string(cost)?);
        }
    } else {
        let Args { rounds, tasks, cpus, .. } = args;
        let unit = if matches!(args.by, By::Instructions) { "instructions" } else { "ns" };
        println!(
            "Linux {}, CPUs: {cpus}, tasks: {tasks}, rounds: {rounds}; in {unit}\n",
            measured.release
        );
        print!("{}", Table::new(&measured.costs)?);
    }
    Ok(())
}

fn measure(args: &Args, interrupt: &Arc<AtomicBool>) -> Result<Measured, Box<dyn Error>> {
    let there = PathBuf::from("/cost.bpf.o");
    let files = vec![(there.clone(), object()?)];
    let Args { rounds, tasks, lookups, forks, .. } = *args;
    let task = Task::Cost(CostPlan { object: there, tasks, lookups, forks, rounds });
    let cpus = args.cpus.into();
    let cargo = Cargo { agent: scxlab_vm::find_agent()?, job: Job { task, seed: 1, cpus }, files };
    let image = scxlab_kernels::find(&args.kernel)?.image;
    let accel = match args.by {
        By::Instructions => Accel::Counted,
        By::Tcg => Accel::Tcg,
        By::Kvm => Accel::Kvm,
    };
    let machine = Machine { accel, ..Machine::new(image, cpus) };
    let mut guest = machine.boot(&cargo, interrupt)?;
    let release = guest.kernel().release.clone();
    let mut costs = Vec::new();
    while let Some(record) = guest.next()? {
        match record {
            Record::Cost(cost) => costs.push(cost),
            Record::Doing { what } => eprintln!("{what}"),
            Record::Failed { why } | Record::Wrong { why } => return Err(why.into()),
            _ => {}
        }
    }
    Ok(Measured { release, costs })
}

/// The compiled scheduler, where `cargo xtask bpf` puts it.
fn object() -> Result<PathBuf, Box<dyn Error>> {
    let exe = std::env::current_exe()?;
    let target = exe.ancestors().nth(3).unwrap_or(Path::new("target"));
    let object = target.join("bpf/cost.bpf.o");
    match object.is_file() {
        true => Ok(object),
        false => Err(format!("no {}: `cargo xtask bpf` makes it", object.display()).into()),
    }
}

#[cfg(all(test, feature = "real-kernels"))]
mod tests {
    use scxlab_protocol::Tids;

    use super::*;

    fn args(words: &str) -> Args {
        Args::parse_from(std::iter::once("cost").chain(words.split_whitespace()))
    }

    /// Every round has all kinds, each with what it can do.
    #[test]
    fn on_a_real_kernel() {
        let short = args("7.2 --rounds 2 --tasks 300 --lookups 1000 --forks 100");
        let measured = measure(&short, &Arc::default()).expect("it can be measured");
        let kinds: Vec<_> = measured.costs.iter().map(|cost| (cost.round, cost.tids)).collect();
        let [a, b, c, d] = Tids::ALL;
        let expected = [(0, a), (0, b), (0, c), (0, d), (1, d), (1, c), (1, b), (1, a)];
        assert_eq!(kinds, expected);
        for cost in &measured.costs {
            for made in [cost.processes, cost.threads] {
                assert_eq!((made.batches, made.times), (2, 50));
            }
            let looked_up = matches!(cost.tids, Tids::Native | Tids::Portable);
            assert_eq!(cost.lookups.is_some(), looked_up, "{cost:?}");
            if let Some(lookups) = &cost.lookups {
                for timed in [lookups.nothing, lookups.hits, lookups.misses] {
                    assert_eq!((timed.batches, timed.times), (4, 300));
                }
                assert!(lookups.hits.ns > lookups.nothing.ns, "{cost:?}");
                assert!(lookups.misses.ns > lookups.nothing.ns, "{cost:?}");
            }
        }
        let table = Table::new(&measured.costs).expect("there is all that it needs").to_string();
        assert_eq!(table.lines().count(), 6, "{table}");
    }

    #[test]
    fn a_kernel_without_tids_is_refused() {
        let error =
            measure(&args("7.1 --rounds 1"), &Arc::default()).map(drop).expect_err("it has none");
        let message = error.to_string();
        assert!(
            message.starts_with("this kernel (7.1.") && message.contains("7.2 on"),
            "{message}"
        );
    }
}
