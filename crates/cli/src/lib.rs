//! The `scxlab` command: runs sched_ext schedulers and reports what became of their tasks.
//!
//! | command | what it does |
//! | --- | --- |
//! | `scxlab run` | one scheduler, one workload, one report: [`run`] |
//! | `scxlab demo` | qmap keyed by pid beside qmap keyed by tid: [`demo`] |
//! | `scxlab claims` | every claim of the tid contract, checked: [`claims`] |
//! | `scxlab kernels` | real kernels, and getting one: [`kernels`] |
//!
//! [`execute`] is the whole command behind its argument parser: it takes what was asked for and
//! the place to print to, and gives the exit status.
#![forbid(unsafe_code)]

pub mod args;
mod check;
pub mod claims;
mod compiled;
pub mod demo;
pub mod duration;
pub mod human;
mod input;
pub mod kernels;
mod maps;
mod objects;
pub mod output;
pub mod plan;
pub mod prog_run;
pub mod progress;
pub mod real;
pub mod report;
pub mod run;
pub mod session;
pub mod status;
pub mod trace;

use args::{Cli, Command};
use output::Terminal;
use status::{Failure, Status};

/// Does what was asked for.
///
/// # Errors
/// What was wrong with the command line or an input file, or what was missing.
pub fn execute(cli: &Cli, terminal: &mut Terminal) -> Result<Status, Failure> {
    match &cli.command {
        Command::Run(args) if args.on != args::Place::Engine => real::run(args, terminal),
        Command::Run(args) => run::run(args, terminal),
        Command::Demo(args) if args.on != args::Place::Engine => real::demo(args, terminal),
        Command::Demo(args) => demo::demo(args, terminal),
        Command::Claims(args) => check::check(args, terminal),
        Command::Kernels(args) => kernels::kernels(args, terminal),
        Command::Completions(args) => args::completions(args, terminal),
    }
}
