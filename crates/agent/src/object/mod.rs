//! A compiled scheduler: opened, filled in for this kernel, loaded, attached.

mod handover;
mod loaded;
mod log;
mod names;
mod programs;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use libbpf_rs::btf::Btf;
use libbpf_rs::{ObjectBuilder, OpenObject};
use scxlab_bpf::object::{self, OpenStructOps, is_named};
use scxlab_protocol::Setting;

pub use self::loaded::Loaded;

/// Lines of the verifier's log in a message.
const LOG_LINES: usize = 25;

/// Room for the debug dump: as much as the kernel makes by default, `SCX_EXIT_DUMP_DFL_LEN`.
const DUMP: usize = 32 << 10;

/// The kernel's types that a scheduler's operations are of: the cpu form, and the cid form.
const OPS_TYPES: &[&str] = &["sched_ext_ops", "sched_ext_ops_cid"];

/// The section of the variables that are in the object's arena, a map with a name of its own.
const ARENA_SECTION: &str = ".addr_space.1";

/// The flag with which the kernel keeps a table of tids.
const TID_TO_TASK: &str = "SCX_OPS_TID_TO_TASK";

/// The portable tid's own program, for kernels that have no tids.
const LAST_SWITCH: &str = "scx_tid_last_switch";

/// A compiled scheduler that is not in the kernel yet.
pub struct Opened {
    object: OpenObject,
    /// The same file, where all that is chosen before it is loaded is kept.
    chosen: object::Object,
    kernel: Btf<'static>,
}

/// What the kernel or libbpf did not accept, with what it said.
#[derive(Debug, thiserror::Error)]
#[error("the kernel refuses to {what} it: {why}")]
pub struct Refusal {
    /// What was tried.
    pub what: &'static str,
    /// The end of what was said.
    pub why: String,
}

impl Refusal {
    fn new(what: &'static str, err: &libbpf_rs::Error) -> Self {
        let log = log::last_lines(LOG_LINES);
        let why = if log.is_empty() { format!("{err:#}") } else { format!("{err:#}\n{log}") };
        Self { what, why }
    }
}

/// What the user gave cannot be used: a file that is no scheduler, or a variable or a value that the
/// scheduler does not have.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Wrong(pub(crate) String);

impl Opened {
    /// Opens the file, and gives each variable that is named for an enumerator of the kernel's
    /// (`__SCX_...`) the value that it has in this kernel.
    ///
    /// # Errors
    /// It cannot be read, or is no BPF object with types ([`Wrong`]); or the kernel's types cannot be
    /// read.
    pub fn open(path: &Path) -> Result<Self> {
        log::begin();
        let bytes = fs::read(path).map_err(|err| Wrong(err.to_string()))?;
        // First of all with a reader that says in words what is not right.
        let chosen = object::Object::parse(&bytes).map_err(|err| Wrong(err.to_string()))?;
        let object = ObjectBuilder::default().open_file(path).map_err(|err| {
            Wrong(format!("libbpf cannot open it: {}", Refusal::new("open", &err).why))
        })?;
        let kernel = Btf::from_path(crate::kernel::BTF)
            .map_err(|err| anyhow!("{}: {err}", crate::kernel::BTF))?;
        let mut opened = Self { object, chosen, kernel };
        opened.fill_in_enumerators()?;
        opened.make_room_for_a_dump()?;
        Ok(opened)
    }

    fn fill_in_enumerators(&mut self) -> Result<()> {
        let wanted = self.chosen.globals().filter(|global| global.section == ".rodata");
        let wanted: Vec<String> =
            wanted.map(|global| global.name).filter(|name| name.starts_with("__SCX_")).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let known = names::enumerators(&self.kernel);
        for name in wanted {
            // What this kernel does not have stays 0, and the scheduler sees that.
            if let Some(value) = known.get(&name[2..]) {
                self.chosen.set(&name, &value.to_string())?;
            }
        }
        Ok(())
    }

    /// The dump of an ejection goes into an array that the loader makes as long as it likes, if
    /// the scheduler has one by the name that the kernel's examples have for it.
    fn make_room_for_a_dump(&mut self) -> Result<()> {
        const SECTION: &str = ".data.uei_dump";
        let has_room = self.chosen.maps().iter().any(|map| map.name == SECTION);
        if has_room && self.chosen.has("uei_dump_len") {
            self.chosen.resize(SECTION, DUMP)?;
            self.chosen.set("uei_dump_len", &DUMP.to_string())?;
        }
        Ok(())
    }

    /// Sets a variable, a value of a map, or the length of an array or a map.
    ///
    /// # Errors
    /// There is none of this name, or it cannot have the value.
    pub fn set(&mut self, setting: &Setting) -> Result<(), Wrong> {
        let Setting { name, value } = setting;
        let set = self.chosen.configure(name, value);
        set.map_err(|err| Wrong(format!("--set {name}={value}: {err}")))
    }

    /// Chooses one scheduler of several.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn choose(&mut self, ops: &str) -> Result<(), Wrong> {
        self.chosen.choose_struct_ops(ops).map_err(|err| Wrong(format!("--ops {ops}: {err}")))
    }

    /// Loads a program that the object has off.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn add(&mut self, program: &str) -> Result<(), Wrong> {
        let added = self.chosen.set_autoload(program, true);
        added.map_err(|err| Wrong(format!("--with {program}: {err}")))
    }

    /// Leaves a program out of what is loaded; what has it as an operation goes without.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn leave_out(&mut self, program: &str) -> Result<(), Wrong> {
        let left_out = self.chosen.leave_out(program);
        left_out.map_err(|err| Wrong(format!("--without {program}: {err}")))
    }

    /// Whether it has a program of the kind `syscall`, which user space has run, and which is loaded.
    pub fn has_syscall(&self, program: &str) -> bool {
        self.chosen.programs().any(|(name, section, autoload)| {
            name == program && matches!(section, "syscall" | "syscall.s") && autoload
        })
    }

    /// The names of the variables in its arena, which [`Loaded::counters`] does not have.
    pub fn arena_variables(&self) -> Vec<String> {
        let in_arena = self.chosen.globals().filter(|global| global.section == ARENA_SECTION);
        in_arena.map(|global| global.name).filter(|name| is_named(name)).collect()
    }

    /// Whether the kernel has tids of its own.
    pub fn kernel_has_tids(&self) -> bool {
        names::flags(&self.kernel).iter().any(|(name, _)| name == TID_TO_TASK)
    }

    /// Whether the object has the portable tid, `bpf/scx_tid.bpf.h`.
    pub fn has_portable_tid(&self) -> bool {
        self.chosen.programs().any(|(name, ..)| name == LAST_SWITCH)
    }

    /// Sets `ops.flags`: to those given, as far as this kernel has them, or else to those that the
    /// object was compiled with, and what the portable tid needs. Answers with what is set, by name.
    ///
    /// # Errors
    /// The object has no scheduler's operations, or more than one.
    pub fn set_flags(&mut self, given: Option<&[String]>) -> Result<Vec<String>> {
        let portable = self.has_portable_tid();
        if portable && self.kernel_has_tids() {
            // The kernel lets go of its tasks itself.
            self.chosen.set_autoload(LAST_SWITCH, false)?;
        }
        let all = names::flags(&self.kernel);
        let wanted = |(name, _): &&(String, u64)| match given {
            Some(given) => given.contains(name),
            None => portable && name == TID_TO_TASK,
        };
        let more = all.iter().filter(wanted).fold(0, |bits, (_, bit)| bits | bit);
        let set = self.operation("flags")?.context("its operations have no `flags`")? | more;
        self.set_operation("flags", set)?;
        Ok(all.into_iter().filter(|(_, bit)| set & bit != 0).map(|(name, _)| name).collect())
    }

    /// Sets a number among the operations: `ops.sub_cgroup_id`, say.
    ///
    /// # Errors
    /// The object has no scheduler's operations, or more than one, or they have no such number.
    pub fn set_operation(&mut self, member: &str, number: u64) -> Result<()> {
        let path = format!("{}.{member}", self.ops()?.name);
        Ok(self.chosen.set(&path, &number.to_string())?)
    }

    /// A number among the operations. Nothing if they were declared without it.
    fn operation(&mut self, member: &str) -> Result<Option<u64>> {
        let path = format!("{}.{member}", self.ops()?.name);
        Ok(self.chosen.number(&path).map(|number| number as u64))
    }

    /// The one scheduler.
    fn ops(&self) -> Result<OpenStructOps<'_>> {
        let is_one = |ops: &OpenStructOps<'_>| ops.autocreate && OPS_TYPES.contains(&ops.type_name);
        let mut all: Vec<_> = self.chosen.open_struct_ops().filter(is_one).collect();
        match (all.pop(), &all[..]) {
            (Some(ops), []) => Ok(ops),
            (None, _) => {
                Err(Wrong("it has no scheduler: no variable of type sched_ext_ops".to_owned()))?
            }
            (Some(last), all) => {
                let names: Vec<_> = all.iter().chain([&last]).map(|ops| ops.name).collect();
                let (count, names) = (names.len(), names.join(", "));
                Err(Wrong(format!("it has {count} schedulers: {names}; --ops NAME chooses one")))?
            }
        }
    }

    /// After how long without running the watchdog finds a task: `ops.timeout_ms`, or the kernel's
    /// default, `SCX_WATCHDOG_MAX_TIMEOUT`.
    ///
    /// # Errors
    /// The object has no scheduler's operations, or more than one.
    pub fn timeout_ns(&mut self) -> Result<u64> {
        const LONGEST_MS: u64 = 30_000;
        let ms = self.operation("timeout_ms")?.unwrap_or(0);
        Ok(if ms == 0 { LONGEST_MS } else { ms }.saturating_mul(1_000_000))
    }

    /// `ops.name`, by which the kernel's log calls it.
    ///
    /// # Errors
    /// The object has no scheduler's operations, or more than one.
    pub fn name(&self) -> Result<String> {
        Ok(self.ops()?.text("name").unwrap_or_default())
    }
}
