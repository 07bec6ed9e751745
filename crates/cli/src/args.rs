//! The command line.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use scxlab_bpf::abi::Version;
use scxlab_bpf::sched::Interleave;
use scxlab_engine::Nanos;

use crate::duration;
use crate::output::Terminal;
use crate::prog_run::ProgRun;
use crate::status::{Failure, Status};

const ABOUT: &str = "\
A deterministic simulator of Linux's sched_ext, for those who write schedulers.

Runs a scheduler and a workload in virtual time: no root, no VM, and every run repeatable from its
seed. When a task stalls, it says which task, since when, and who lost it in which callback. With
--on, the same on a real kernel, in a VM or on the host.";

const EXAMPLES: &str = "\
Examples:
  scxlab demo                                 why a scheduler keys its tasks by tid
  scxlab run qmap                             qmap on a mixed workload, 4 CPUs, 10 s
  scxlab run qmap --set key=pid --workload nonleader-exec
  scxlab claims                               check the tid contract, claim by claim
  scxlab kernels fetch 7.2                    get a real kernel; scxlab kernels lists them
  scxlab run qmap --on vm:7.2                 the same on that kernel, in a VM
  scxlab completions bash > scxlab.bash       completions for a shell

Exit status:
  0  the scheduler ran to the end       2  the command line or an input file is wrong
  1  it was ejected, or a claim broken  3  something that the run needs is missing";

/// The command line.
#[derive(Clone, Debug, Parser)]
#[command(name = "scxlab", version, about = ABOUT, after_help = EXAMPLES)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run a scheduler under a workload, and report
    Run(Box<RunArgs>),
    /// Show a scheduler that loses tasks: qmap keyed by pid, beside qmap keyed by tid
    Demo(DemoArgs),
    /// Check every claim of the tid contract
    Claims(ClaimsArgs),
    /// List the kernels that can be booted, or get one
    Kernels(KernelsArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
}

/// `scxlab run`.
#[derive(Clone, Debug, Args)]
#[command(after_help = run_help())]
pub struct RunArgs {
    /// A built-in scheduler, or a .bpf.o file
    pub scheduler: String,
    /// A built-in workload, or a file in rt-app's format
    #[arg(long, value_name = "NAME|FILE", default_value = "mixed")]
    pub workload: String,
    /// Where to run
    #[arg(long, value_name = "engine|vm:KERNEL|host", default_value = "engine")]
    pub on: Place,
    /// How long; on the engine, in virtual time [default: the workload file's own, or 10s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse, allow_hyphen_values = true)]
    pub duration: Option<Nanos>,
    /// The source of all chance
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    pub seed: u64,
    /// Set an option of the scheduler; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<Setting>,
    /// Which scheduler to run of a .bpf.o file that has several: its variable's name
    #[arg(long, value_name = "NAME")]
    pub ops: Option<String>,
    /// Run a built-in scheduler's compiled form on the engine, the object that kernels load
    #[arg(long)]
    pub compiled: bool,
    /// Load a program of a compiled scheduler that the object has off (SEC("?...")), as its user space
    /// would; may be repeated
    #[arg(long, value_name = "PROGRAM")]
    pub with: Vec<String>,
    /// Leave out a program of a compiled scheduler, an operation or one beside them, as its user space
    /// would; may be repeated
    #[arg(long, value_name = "PROGRAM")]
    pub without: Vec<String>,
    /// The kernel that the engine looks like to a compiled scheduler: 6.16 to 7.3; it behaves as 7.2
    /// [default: 7.2]
    #[arg(long, value_name = "VERSION")]
    pub kernel_abi: Option<Version>,
    /// Where other CPUs may go on in the middle of a compiled scheduler's callbacks, as the seed
    /// chooses: off (nowhere but where the kernel drops its locks), calls (before calls of the
    /// kernel), instructions (anywhere; data races are reported); engine only [default: off]
    #[arg(long, value_name = "off|calls|instructions")]
    pub interleave: Option<Interleave>,
    /// Report what a map of a compiled scheduler has after ops.exit, by its types; engine only; may be
    /// repeated. The variables of a section are one: .bss, .data
    #[arg(long, value_name = "MAP")]
    pub dump_map: Vec<String>,
    /// Run a program of the kind syscall of a compiled scheduler, as its user space would: before it is
    /// attached, or at a time of the run; with a context of these bytes, two hex digits each; may be
    /// repeated
    #[arg(long, value_name = "NAME[=HEX][@TIME]")]
    pub prog_run: Vec<ProgRun>,
    /// Write the report as JSON (to standard output, and nothing else, for -)
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
    /// Write what happened as a trace that Perfetto opens
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Print the kernel's debug dump of an ejection
    #[arg(long)]
    pub dump: bool,
    /// The machine.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// The machine.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Machine")]
pub struct MachineArgs {
    /// CPUs: 1 to 1024, in a VM to 64 [default: 4, in a VM 2]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub cpus: Option<u64>,
    /// Hardware threads of a core; must divide the CPUs
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub smt: u64,
    /// Last-level caches; must divide the cores
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub llcs: u64,
    /// Timer ticks a second: 1 to 1000; engine only [default: 250]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub hz: Option<u32>,
    /// The limit of pids, 301 to 4194304; a low one makes them wrap soon; engine only [default: the
    /// kernel's]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(i32).range(301..=4_194_304))]
    pub pid_max: Option<i32>,
    /// Memory of a VM in MiB: 256 to 65536
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    #[arg(value_parser = clap::value_parser!(u32).range(256..=65_536))]
    pub memory: u32,
    /// What executes a VM's instructions
    #[arg(long, value_enum, default_value_t = AccelArg::Auto)]
    pub accel: AccelArg,
}

/// What executes a VM's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AccelArg {
    /// KVM if it works, software if not.
    Auto,
    /// KVM.
    Kvm,
    /// Software: slow, and works everywhere.
    Tcg,
}

impl MachineArgs {
    /// The CPUs of the engine's machine.
    pub fn engine_cpus(&self) -> usize {
        self.cpus.unwrap_or(4) as usize
    }

    /// # Errors
    /// Something was asked for that only a VM has.
    pub(crate) fn refuse_a_vm_s(&self) -> Result<(), Failure> {
        let Self { memory, accel, .. } = Self::default();
        let option = match (self.memory == memory, self.accel == accel) {
            (true, true) => return Ok(()),
            (false, _) => "--memory",
            (true, false) => "--accel",
        };
        Err(Failure::wrong(format_args!(
            "{option}: only a VM has it; leave it out, or give --on vm:KERNEL"
        )))
    }
}

impl Default for MachineArgs {
    fn default() -> Self {
        Self {
            cpus: None,
            smt: 1,
            llcs: 1,
            hz: None,
            pid_max: None,
            memory: 2048,
            accel: AccelArg::Auto,
        }
    }
}

/// `scxlab demo`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Example:\n  scxlab demo --seed 7 --cpus 8\n  scxlab demo --on vm:7.2\n\nExit status: 0 if both \
                        runs end as they should, 1 if not."
)]
pub struct DemoArgs {
    /// Where to run
    #[arg(long, value_name = "engine|vm:KERNEL|host", default_value = "engine")]
    pub on: Place,
    /// The source of all chance
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    pub seed: u64,
    /// CPUs: 2 to 1024, in a VM to 64 [default: 4, in a VM 2]. On one, qmap dispatches every task
    /// directly and loses none
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(2..=1024))]
    pub cpus: Option<u64>,
    /// How long each may run; at least 10s [default: 60s of virtual time, on a real kernel 30s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse_demo)]
    pub duration: Option<Nanos>,
    /// On the engine, run qmap's compiled form, the object that kernels load
    #[arg(long)]
    pub compiled: bool,
    /// What executes a VM's instructions
    #[arg(long, value_enum, default_value_t = AccelArg::Auto)]
    pub accel: AccelArg,
}

impl DemoArgs {
    /// The CPUs of the engine's machine.
    pub fn engine_cpus(&self) -> u64 {
        self.cpus.unwrap_or(4)
    }

    /// How long each of the two may run.
    pub fn time(&self) -> Nanos {
        let seconds = if self.on == Place::Engine { 60 } else { 30 };
        self.duration.unwrap_or(Nanos::from_secs(seconds))
    }
}

/// `scxlab claims`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  scxlab claims --json claims.json\n  scxlab claims --on vm:7.2\n\n\
                        Exit status: 0 if none is broken, 1 if one is, 3 if one could not be tried."
)]
pub struct ClaimsArgs {
    /// Where to check them
    #[arg(long, value_name = "engine|vm:KERNEL|host", default_value = "engine")]
    pub on: Place,
    /// Write the outcome as JSON (to standard output, and nothing else, for -)
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
    /// The source of all chance
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    pub seed: u64,
    /// What executes a VM's instructions
    #[arg(long, value_enum, default_value_t = AccelArg::Auto)]
    pub accel: AccelArg,
}

/// `scxlab kernels`.
#[derive(Clone, Debug, Args)]
#[command(after_help = KERNELS_HELP)]
pub struct KernelsArgs {
    /// What to do with them [default: list]
    #[command(subcommand)]
    pub command: Option<KernelsCommand>,
}

const KERNELS_HELP: &str = "\
Examples:
  scxlab kernels                     what there is, and what it can do
  scxlab kernels fetch 7.2           the newest 7.2 of the distribution
  scxlab kernels add arch/x86/boot/bzImage

Kernels are kept in $SCXLAB_CACHE, or else below $XDG_CACHE_HOME/scxlab or ~/.cache/scxlab.";

/// What to do with kernels.
#[derive(Clone, Debug, Subcommand)]
pub enum KernelsCommand {
    /// List them: those fetched or added, and those installed on this machine
    List(KernelsListArgs),
    /// Fetch one from the mirror of this machine's distribution, verified by its signature
    Fetch(KernelsFetchArgs),
    /// Take a copy of an image, to be named by its version from then on
    Add(KernelsAddArgs),
}

/// `scxlab kernels list`.
#[derive(Clone, Debug, Default, Args)]
pub struct KernelsListArgs {
    /// Write the list as JSON (to standard output, and nothing else, for -)
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
}

/// `scxlab kernels fetch`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  scxlab kernels fetch 6.16\n\nNeeds apt, with a mirror of \
                        Debian, and its keyring; $SCXLAB_KEYRING names another one. Needs no \
                        root, and changes nothing of the machine's apt.")]
pub struct KernelsFetchArgs {
    /// The version, as in 7.2 or 7.2.13; the newest that matches is fetched
    pub version: String,
}

/// `scxlab kernels add`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  scxlab kernels add ~/linux/arch/x86/boot/bzImage")]
pub struct KernelsAddArgs {
    /// A bzImage with sched_ext
    pub file: PathBuf,
}

/// `scxlab completions`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  scxlab completions zsh > ~/.zfunc/_scxlab")]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Where a scheduler runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The engine.
    Engine,
    /// A VM with this kernel.
    Vm(String),
    /// The kernel that is running.
    Host,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "engine" => Ok(Self::Engine),
            None if text == "host" => Ok(Self::Host),
            Some(("vm", kernel)) if !kernel.is_empty() => Ok(Self::Vm(kernel.to_owned())),
            _ => Err("give engine, vm:KERNEL (as in vm:7.2) or host".to_owned()),
        }
    }
}

/// `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                Ok(Self { key: key.to_owned(), value: value.to_owned() })
            }
            _ => Err("give a key and a value, as in key=pid".to_owned()),
        }
    }
}

/// What there is to run.
fn run_help() -> String {
    let mut help = String::from("Schedulers, with what --set takes:\n");
    for builtin in scxlab_schedulers::BUILTINS {
        let _ = writeln!(help, "  {:<16}{}", builtin.name, builtin.about);
        for option in builtin.options {
            let set = format!("{}={}", option.key, option.default);
            let values = option.values;
            let _ = writeln!(help, "    {set:<18}{values:<18}{}", option.about);
        }
    }
    help.push_str("\nWorkloads:\n");
    for (name, about) in scxlab_workload::BUILTINS {
        let _ = writeln!(help, "  {name:<16}{about}");
    }
    help.push_str(
        "\nExamples:\n  scxlab run simple --set order=fifo --workload pingpong --cpus 8\n  \
         scxlab run qmap --workload my-app.json --duration 2m --json - | jq .exit\n  \
         scxlab run qmap --set key=pid --workload exit-storm --trace stall.json\n  \
         scxlab run my.bpf.o --prog-run setup --prog-run tune=0a000000@2s",
    );
    help
}

/// Prints completions.
///
/// # Errors
/// None.
pub fn completions(args: &CompletionsArgs, terminal: &mut Terminal) -> Result<Status, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "scxlab", &mut script);
    terminal.print(&String::from_utf8_lossy(&script));
    Ok(Status::Fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn places() {
        assert_eq!("engine".parse(), Ok(Place::Engine));
        assert_eq!("host".parse(), Ok(Place::Host));
        assert_eq!("vm:7.2".parse(), Ok(Place::Vm("7.2".into())));
        for text in ["", "vm", "vm:", "moon", "engine:1", "host:"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
