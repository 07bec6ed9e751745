//! `cargo xtask`: what a change has to pass, in one command.
#![forbid(unsafe_code)]

mod agent;
mod bpf;
mod fuzz;
mod hygiene;
mod kernels;
mod lanes;
mod needs;
mod run;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::lanes::{LANES, When};

#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", about = "Checks and tests the workspace")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Quick: formatting, hygiene, lints and unit tests
    Check,
    /// Runs everything that this machine can run, and says what was skipped and why
    Test(Options),
    /// Gets all that `scxlab run --on vm:VERSION` needs: the agent, the compiled schedulers, the
    /// kernels
    Kernels {
        /// Which
        #[arg(default_value = "7.2")]
        versions: Vec<String>,
        /// Install what is missing with apt-get and pip, after naming it
        #[arg(long)]
        install: bool,
    },
    /// Builds the agent, which runs on real kernels, with all its libraries inside
    Agent,
    /// Compiles the schedulers for kernels, to target/bpf
    Bpf {
        /// Get a compiler with pip if there is none
        #[arg(long)]
        install: bool,
    },
    /// Compares the kernel that the engine is to compiled schedulers with real ones: those at hand,
    /// and those named
    Btf {
        /// Which to fetch first
        versions: Vec<String>,
    },
    /// Fuzzes what reads compiled schedulers, until it finds something or the time is over
    Fuzz {
        #[arg(help = format!("{} [default: one after the other]", fuzz::TARGETS.join(", ")))]
        target: Option<String>,
        /// How long each may take
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Measures what the portable tids cost against the kernel's own, in one run of one kernel
    Cost {
        /// Get a compiler with pip if there is none
        #[arg(long)]
        install: bool,
        /// The kernel and options for the measurement: `-- --help` tells
        #[arg(last = true)]
        args: Vec<String>,
    },
}

/// How to run lanes.
#[derive(Args, Clone, Copy, Default)]
struct Options {
    /// Run the slow lanes too, and fail on a lane that cannot run
    #[arg(long)]
    ci: bool,
    /// Install what a lane needs with rustup or apt-get, after naming it
    #[arg(long)]
    install: bool,
    /// Run the slow lanes too
    #[arg(long)]
    slow: bool,
}

fn main() -> Result<ExitCode> {
    // Not the path from when this was built: checkouts that share a target directory share it.
    let package = env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?;
    let root = Path::new(&package).parent().context("xtask's package is not in a workspace")?;
    let (lanes, options) = match Cli::parse().command {
        Command::Check => (lanes_of(&[When::Check, When::Both]), Options::default()),
        Command::Test(options) => (lanes_of(&[When::Both, When::Test, When::Slow]), options),
        Command::Kernels { versions, install } => {
            return kernels::setup(root, &versions, install).map(|()| ExitCode::SUCCESS);
        }
        Command::Btf { versions } => {
            return kernels::btf(root, &versions).map(|()| ExitCode::SUCCESS);
        }
        Command::Agent => return agent::build(root).map(|()| ExitCode::SUCCESS),
        Command::Fuzz { target, seconds } => {
            return fuzz::run(root, target.as_deref(), seconds).map(|()| ExitCode::SUCCESS);
        }
        Command::Cost { install, args } => {
            return kernels::cost(root, &args, install).map(|()| ExitCode::SUCCESS);
        }
        Command::Bpf { install } => return bpf::build(root, install).map(|()| ExitCode::SUCCESS),
    };
    let report = run::run(root, &lanes, options);
    print!("{report}");
    Ok(if report.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn lanes_of(when: &[When]) -> Vec<&'static lanes::Lane> {
    LANES.iter().filter(|lane| when.contains(&lane.when)).collect()
}
