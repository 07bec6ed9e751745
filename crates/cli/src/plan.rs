//! From the command line to a run: finds the scheduler and the workload, and sets up the machine.

use std::path::Path;
use std::sync::Arc;

use scxlab_bpf::sched::BpfScheduler;
use scxlab_engine::program::Program;
use scxlab_engine::{Config, Nanos, Scheduler};
use scxlab_schedulers::Builtin;
use scxlab_workload::{MAX_TEXT, Workload};

use crate::args::{MachineArgs, RunArgs, Setting};
use crate::compiled::{self, Source};
use crate::duration;
use crate::input;
use crate::objects;
use crate::output::reason;
use crate::prog_run::{self, ProgRun};
use crate::status::Failure;

/// Ticks a second of the engine, if nobody says.
const HZ: u32 = 250;

/// How long a run takes if nobody says.
const DEFAULT_DURATION: Nanos = Nanos::from_secs(10);

/// All that a run needs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The scheduler's name.
    pub name: String,
    /// The scheduler.
    pub scheduler: Arc<dyn Scheduler>,
    /// The same, if it is a compiled one.
    pub compiled: Option<Arc<BpfScheduler>>,
    /// It is the compiled form of a built-in one.
    pub builtin_compiled: bool,
    /// Maps to report.
    pub dump_map: Vec<String>,
    /// Programs to run.
    pub prog_run: Vec<ProgRun>,
    /// All its options, with their values.
    pub options: Vec<(String, String)>,
    /// Those that were set.
    pub set: Vec<Setting>,
    /// The workload's name.
    pub workload: String,
    /// The machine.
    pub config: Config,
    /// How long.
    pub duration: Nanos,
}

impl Plan {
    /// What `scxlab run --on engine` was asked for.
    ///
    /// # Errors
    /// The scheduler, the workload or the machine is not as it should be.
    pub fn new(args: &RunArgs) -> Result<Self, Failure> {
        args.machine.refuse_a_vm_s()?;
        let (workload, _) = workload(&args.workload, args.machine.engine_cpus())?;
        Self::with(args, workload)
    }

    /// The same with a workload that has been read.
    ///
    /// # Errors
    /// The scheduler or the machine is not as it should be, or the workload and the machine do not fit.
    pub(crate) fn with(args: &RunArgs, workload: Workload) -> Result<Self, Failure> {
        let Chosen { name, scheduler, compiled, options } = choose(args)?;
        let builtin_compiled = compiled.is_some() && !is_file(&args.scheduler);
        check_maps(&args.dump_map, compiled.as_deref())?;
        let duration = run_time(args.duration, &workload)?;
        prog_run::check(&args.prog_run, compiled.as_deref(), duration)?;
        let mut config = machine(&args.machine, args.seed, &workload)?;
        config.trace = args.trace.is_some();
        Ok(Self {
            name,
            scheduler,
            compiled,
            builtin_compiled,
            dump_map: args.dump_map.clone(),
            prog_run: args.prog_run.clone(),
            options,
            set: args.set.clone(),
            workload: workload.name,
            config,
            duration,
        })
    }

    /// The value of an option, if the scheduler has it.
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// The scheduler with the options that were set: `qmap key=pid`, `compiled qmap key=pid`.
    pub fn title(&self) -> String {
        let compiled = if self.builtin_compiled { "compiled " } else { "" };
        format!("{compiled}{}", title(&self.name, &self.set))
    }
}

/// A scheduler with the options that were set: `qmap key=pid`.
pub(crate) fn title(name: &str, set: &[Setting]) -> String {
    let set = set.iter().map(|Setting { key, value }| format!(" {key}={value}"));
    std::iter::once(name.to_owned()).chain(set).collect()
}

/// Whether a scheduler's name is that of a file.
pub(crate) fn is_file(name: &str) -> bool {
    name.ends_with(".o") || name.contains('/')
}

/// What a compiled scheduler is called: its file's name, without `.bpf.o`.
pub(crate) fn file_name(file: &str) -> String {
    let name = Path::new(file).file_name().unwrap_or_default().to_string_lossy();
    name.trim_end_matches(".o").trim_end_matches(".bpf").to_owned()
}

/// A scheduler for the engine.
struct Chosen {
    name: String,
    scheduler: Arc<dyn Scheduler>,
    compiled: Option<Arc<BpfScheduler>>,
    options: Vec<(String, String)>,
}

/// The scheduler that was asked for, built in or compiled.
fn choose(args: &RunArgs) -> Result<Chosen, Failure> {
    if is_file(&args.scheduler) {
        return choose_file(args);
    }
    if let Some(ops) = &args.ops {
        return Err(Failure::wrong(format_args!(
            "--ops {ops}: only a .bpf.o file can have several schedulers; leave it out, or give one"
        )));
    }
    for (option, programs) in [("--with", &args.with), ("--without", &args.without)] {
        if let Some(program) = programs.first() {
            return Err(Failure::wrong(format_args!(
                "{option} {program}: only a compiled scheduler has programs to choose from; leave it \
                 out, or give a .bpf.o file"
            )));
        }
    }
    let (builtin, scheduler) = builtin(&args.scheduler, &args.set)?;
    let options = effective(builtin, &args.set);
    let name = builtin.name.to_owned();
    if args.compiled {
        return choose_compiled(args, name, options, &*scheduler);
    }
    if let Some(version) = args.kernel_abi {
        return Err(Failure::wrong(format_args!(
            "--kernel-abi {version}: only a compiled scheduler asks which kernel it is on; leave it \
             out, or give a .bpf.o file or --compiled"
        )));
    }
    if let Some(interleave) = args.interleave {
        return Err(Failure::wrong(format_args!(
            "--interleave {interleave}: only a compiled scheduler's callbacks can be left in their \
             middle; leave it out, or give a .bpf.o file or --compiled"
        )));
    }
    Ok(Chosen { name, scheduler, compiled: None, options })
}

fn choose_file(args: &RunArgs) -> Result<Chosen, Failure> {
    if args.compiled {
        return Err(Failure::wrong(format_args!(
            "--compiled: {} is compiled; leave it out, or give a built-in scheduler",
            args.scheduler
        )));
    }
    let source = Source {
        file: args.scheduler.clone().into(),
        ops: args.ops.as_deref(),
        with: &args.with,
        without: &args.without,
        set: &args.set,
        flags: None,
    };
    let scheduler = load(args, &source)?;
    let options = args.set.iter().map(|set| (set.key.clone(), set.value.clone()));
    Ok(Chosen {
        name: file_name(&args.scheduler),
        compiled: Some(Arc::clone(&scheduler)),
        scheduler,
        options: options.collect(),
    })
}

/// The object of a built-in scheduler, with the same options and flags.
fn choose_compiled(
    args: &RunArgs,
    name: String,
    options: Vec<(String, String)>,
    twin: &dyn Scheduler,
) -> Result<Chosen, Failure> {
    let setting =
        |(key, value): &(String, String)| Setting { key: key.clone(), value: value.clone() };
    let set: Vec<_> = options.iter().map(setting).collect();
    let source = Source {
        file: objects::builtin(&name)?,
        ops: None,
        with: &[],
        without: &[],
        set: &set,
        flags: Some(flags(twin)),
    };
    let scheduler = load(args, &source)?;
    Ok(Chosen { name, compiled: Some(Arc::clone(&scheduler)), scheduler, options })
}

fn load(args: &RunArgs, source: &Source<'_>) -> Result<Arc<BpfScheduler>, Failure> {
    let hz = args.machine.hz.unwrap_or(HZ);
    let scheduler = compiled::load(source, args.kernel_abi.unwrap_or_default(), hz)?;
    Ok(Arc::new(scheduler.interleaved(args.interleave.unwrap_or_default())))
}

/// The names of the flags that a scheduler has.
pub(crate) fn flags(scheduler: &dyn Scheduler) -> Vec<String> {
    let flags = scheduler.ops().flags;
    flags.iter_names().map(|(name, _)| format!("SCX_OPS_{name}")).collect()
}

/// Whether all maps that are to be reported are there.
fn check_maps(wanted: &[String], compiled: Option<&BpfScheduler>) -> Result<(), Failure> {
    let Some(first) = wanted.first() else { return Ok(()) };
    let Some(compiled) = compiled else {
        return Err(Failure::wrong(format_args!(
            "--dump-map {first}: only a compiled scheduler on the engine has maps to report; leave it \
             out, or give a .bpf.o file"
        )));
    };
    let names: Vec<&str> = compiled.map_names().collect();
    match wanted.iter().find(|name| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some(unknown) => Err(Failure::wrong(format_args!(
            "--dump-map {unknown}: there is no such map; there are: {}",
            names.join(", ")
        ))),
    }
}

/// A built-in scheduler with its options set.
pub(crate) fn builtin(
    name: &str,
    set: &[Setting],
) -> Result<(&'static Builtin, Arc<dyn Scheduler>), Failure> {
    let settings: Vec<_> = set.iter().map(|s| (s.key.clone(), s.value.clone())).collect();
    let scheduler = scxlab_schedulers::create(name, &settings).map_err(Failure::wrong)?;
    let builtin = scxlab_schedulers::BUILTINS.iter().find(|builtin| builtin.name == name);
    let builtin =
        builtin.ok_or_else(|| Failure::wrong(format_args!("unknown scheduler `{name}`")))?;
    Ok((builtin, scheduler))
}

/// Every option's value: the last that was set, or the default. Numbers are written in one way.
fn effective(builtin: &Builtin, set: &[Setting]) -> Vec<(String, String)> {
    let value = |key: &str, default: &str| {
        let set = set.iter().rev().find(|setting| setting.key == key);
        let value = set.map_or(default, |setting| setting.value.as_str());
        match (default.parse::<u64>(), value.parse::<u64>()) {
            (Ok(_), Ok(number)) => number.to_string(),
            _ => value.to_owned(),
        }
    };
    let all = builtin.options.iter();
    all.map(|option| (option.key.to_owned(), value(option.key, option.default))).collect()
}

/// A built-in workload, or a file, with its text. A file is read once: it may be a pipe.
pub(crate) fn workload(name: &str, cpus: usize) -> Result<(Workload, Option<String>), Failure> {
    let unknown = match Workload::builtin(name, cpus) {
        Ok(workload) => return Ok((workload, None)),
        Err(unknown) => unknown,
    };
    let path = Path::new(name);
    let like_a_path = name.contains(['/', '.']);
    if !like_a_path && !path.exists() {
        let known: Vec<_> = scxlab_workload::BUILTINS.iter().map(|(name, _)| *name).collect();
        return Err(Failure::wrong(format_args!(
            "{unknown} (there are: {}; or give a file)",
            known.join(", ")
        )));
    }
    let text = read(path)
        .map_err(|why| Failure::wrong(format_args!("workload {name}: cannot read it: {why}")))?;
    Ok((Workload::parse(name, &text).map_err(Failure::wrong)?, Some(text)))
}

fn read(path: &Path) -> Result<String, String> {
    let bytes = input::read(path, MAX_TEXT).map_err(|err| reason(&err))?;
    let bytes = bytes.ok_or_else(|| format!("it has more than {MAX_TEXT} bytes"))?;
    String::from_utf8(bytes).map_err(|err| {
        let line = 1 + err.as_bytes()[..err.utf8_error().valid_up_to()]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count();
        format!("line {line} is not UTF-8 text")
    })
}

/// How long a run takes: as asked, or as the workload says.
pub(crate) fn run_time(asked: Option<Nanos>, workload: &Workload) -> Result<Nanos, Failure> {
    let own = match (asked, workload.duration) {
        (Some(asked), _) if asked <= scxlab_workload::BEGIN => {
            return Err(Failure::wrong(format_args!(
                "--duration {}: the workload begins at {}, once the scheduler has all tasks; give \
                 more than that",
                duration::exact(asked),
                duration::exact(scxlab_workload::BEGIN)
            )));
        }
        (Some(asked), _) => return Ok(asked),
        (None, None) => return Ok(DEFAULT_DURATION),
        (None, Some(own)) => own,
    };
    if own <= scxlab_workload::BEGIN || own > duration::LONGEST {
        return Err(Failure::wrong(format_args!(
            "{}: global.duration is {}; give --duration, more than 100ms and at most 24h",
            workload.name,
            duration::short(own)
        )));
    }
    Ok(own)
}

/// The workload as the engine's program.
pub(crate) fn compile(workload: &Workload, cpus: usize) -> Result<Program, Failure> {
    workload
        .compile(cpus)
        .map_err(|err| Failure::wrong(format_args!("workload {}: {err}", workload.name)))
}

/// The machine with the workload on it.
fn machine(args: &MachineArgs, seed: u64, workload: &Workload) -> Result<Config, Failure> {
    let cpus = args.engine_cpus();
    let program = compile(workload, cpus)?;
    let mut config = Config::new(cpus, Arc::new(program));
    config.seed = seed;
    config.smt = args.smt as usize;
    config.llcs = args.llcs as usize;
    config.hz = args.hz.unwrap_or(HZ);
    config.pid_max = args.pid_max;
    Ok(config)
}
