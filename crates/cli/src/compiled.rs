//! A compiled scheduler for the engine: the file, filled in as its own user space would.

use std::path::{Path, PathBuf};

use scxlab_bpf::abi::{Abi, Version};
use scxlab_bpf::object::{Error, Object, limits};
use scxlab_bpf::sched::{BpfScheduler, LoadError};

use crate::args::Setting;
use crate::input;
use crate::output::{aside, reason};
use crate::prog_run::those_there_are;
use crate::status::Failure;

/// The flag with which the kernel keeps a table of tids.
const TID_TO_TASK: &str = "SCX_OPS_TID_TO_TASK";

/// How the portable tid's header tells that the kernel has that flag.
const NATIVE_TIDS: &str = "__SCX_OPS_TID_TO_TASK";

/// The portable tid's own program, for kernels that have no tids.
const LAST_SWITCH: &str = "scx_tid_last_switch";

/// Room for the debug dump: as much as the kernel makes by default, `SCX_EXIT_DUMP_DFL_LEN`.
const DUMP: usize = 32 << 10;

/// What is to be loaded.
#[derive(Clone, Debug)]
pub(crate) struct Source<'a> {
    pub file: PathBuf,
    /// Which scheduler of several.
    pub ops: Option<&'a str>,
    /// Programs to load that the object has off, and programs to leave out.
    pub with: &'a [String],
    pub without: &'a [String],
    /// Variables.
    pub set: &'a [Setting],
    /// `ops.flags`, by name; without, those that it was compiled with.
    pub flags: Option<Vec<String>>,
}

/// Loads it as a kernel of this version with so many ticks a second does.
pub(crate) fn load(
    source: &Source<'_>,
    version: Version,
    hz: u32,
) -> Result<BpfScheduler, Failure> {
    let file = source.file.display();
    let wrong = |why: &dyn std::fmt::Display| Failure::wrong(format_args!("{file}: {why}"));
    let abi = Abi::new(version).map_err(|err| wrong(&err))?.with_hz(hz);
    let bytes = read(&source.file).map_err(|why| wrong(&why))?;
    let mut object = Object::parse(&bytes).map_err(|err| wrong(&err))?;
    if let Some(ops) = source.ops {
        object.choose_struct_ops(ops).map_err(|err| wrong(&err))?;
    }
    fill_in(&mut object, &abi, source.flags.as_deref()).map_err(|err| wrong(&err))?;
    choose_programs(&mut object, source)?;
    for Setting { key, value } in source.set {
        object
            .configure(key, value)
            .map_err(|err| wrong(&format_args!("--set {key}={value}: {err}")))?;
    }
    let off: Vec<String> = object.struct_ops_off().map(str::to_owned).collect();
    let missing = |all: &[String]| {
        Failure::missing(format_args!(
            "{file}: the engine, as Linux {version}, does not have what it needs:\n  {}\n--without \
             PROGRAM leaves a program out that its user space would not load either; --on \
             vm:{version} runs it on a kernel that has",
            all.join("\n  ")
        ))
    };
    let image = object.load(&abi).map_err(|err| match err {
        Error::Lacking(all) => missing(&all),
        other => wrong(&other),
    })?;
    for note in &image.notes {
        aside(format_args!("{file}: {note}"));
    }
    let scheduler = BpfScheduler::new(image, &abi).map_err(|err| match err {
        LoadError::Missing(all) => missing(&all),
        none @ LoadError::NoScheduler if !off.is_empty() => {
            let names = off.join(", ");
            wrong(&format_args!(
                "{none} that is loaded; --ops NAME chooses one that it has off: {names}"
            ))
        }
        many @ LoadError::ManySchedulers(_) => {
            wrong(&format_args!("{many}; --ops NAME chooses one"))
        }
        other => wrong(&other),
    })?;
    for note in scheduler.left_out() {
        aside(format_args!("{file}: {note}"));
    }
    Ok(scheduler)
}

/// Which programs are loaded, as a scheduler's user space says it between opening and loading.
fn choose_programs(object: &mut Object, source: &Source<'_>) -> Result<(), Failure> {
    let all: Vec<String> = object.programs().map(|(name, ..)| name.to_owned()).collect();
    let known: Vec<&str> = all.iter().map(String::as_str).collect();
    let missing = |option: &str, name: &str| {
        let there = those_there_are(name, &known);
        Failure::wrong(format_args!("{option} {name}: there is no such program; {there}"))
    };
    for name in source.with {
        object.set_autoload(name, true).map_err(|_| missing("--with", name))?;
    }
    for name in source.without {
        object.leave_out(name).map_err(|_| missing("--without", name))?;
    }
    Ok(())
}

/// What a scheduler's user space does before it loads it, as the agent does it on a real kernel: the
/// kernel's numbers, room for a dump, the flags that were asked for as far as the kernel has them, and
/// the one for tids if the scheduler has the portable tid.
fn fill_in(
    object: &mut Object,
    abi: &Abi,
    flags: Option<&[String]>,
) -> Result<(), scxlab_bpf::object::Error> {
    object.fill_enumerators(abi)?;
    if object.has("uei_dump_len") && object.has("uei_dump") {
        object.resize(".data.uei_dump", DUMP)?;
        object.set("uei_dump_len", &DUMP.to_string())?;
    }
    let tids = abi.number(TID_TO_TASK).filter(|_| object.has(NATIVE_TIDS));
    let bits = |flags: &[String]| flags.iter().filter_map(|name| abi.number(name)).sum::<i128>();
    let asked = flags.map(bits);
    if asked.is_some() || tids.is_some() {
        let all: Vec<_> = object.struct_ops().map(|(name, _)| format!("{name}.flags")).collect();
        for name in all {
            let flags = asked.or(object.number(&name)).unwrap_or(0) | tids.unwrap_or(0);
            object.set(&name, &flags.to_string())?;
        }
    }
    // The kernel lets go of its tasks itself.
    if tids.is_some() && object.programs().any(|(name, _, _)| name == LAST_SWITCH) {
        object.set_autoload(LAST_SWITCH, false)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let read = input::read(path, limits::FILE);
    let bytes = read.map_err(|err| format!("cannot read it: {}", reason(&err)))?;
    bytes.ok_or_else(|| {
        format!("it has more than {} bytes, which is the most of an object", limits::FILE)
    })
}
