//! A compiled scheduler: opened, filled in for this kernel, loaded, attached.

pub mod globals;
mod log;
mod programs;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use libbpf_rs::btf::types::{DataSec, Enum, Enum64, Var};
use libbpf_rs::btf::{Btf, BtfType, ReferencesType as _};
use libbpf_rs::libbpf_sys::BPF_F_LINK;
use libbpf_rs::{Link, MapCore as _, MapFlags, MapType, Object, ObjectBuilder, OpenObject};
use scxlab_protocol::Setting;

use self::globals::{Place, Types};

/// Lines of the verifier's log in a message.
const LOG_LINES: usize = 25;

/// Room for the debug dump: as much as the kernel makes by default, `SCX_EXIT_DUMP_DFL_LEN`.
const DUMP: u32 = 32 << 10;

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
    types: Types,
    kernel: Btf<'static>,
}

/// A compiled scheduler in the kernel.
pub struct Loaded {
    object: Object,
    types: Types,
    ops: Option<String>,
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
        let why = if log.is_empty() { err.to_string() } else { format!("{err}\n{log}") };
        Self { what, why }
    }
}

/// What the user gave cannot be used: a file that is no scheduler, or a variable or a value that the
/// scheduler does not have.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Wrong(String);

impl Wrong {
    fn from_error(err: &anyhow::Error) -> Self {
        Self(format!("{err:#}"))
    }
}

impl Opened {
    /// Opens the file, and gives each variable that is named for an enumerator of the kernel's
    /// (`__SCX_...`) the value that it has in this kernel.
    ///
    /// # Errors
    /// It cannot be read, or is no BPF object with types ([`Wrong`]); or the kernel's types cannot be
    /// read.
    pub fn open(path: &Path) -> Result<Self> {
        log::begin();
        // First of all with a reader that says in words what is not right.
        let types = Types::open(path).map_err(|err| Wrong::from_error(&err))?;
        let object = ObjectBuilder::default().open_file(path).map_err(|err| {
            Wrong(format!("libbpf cannot open it: {}", Refusal::new("open", &err).why))
        })?;
        let kernel = Btf::from_path(crate::kernel::BTF)
            .map_err(|err| anyhow!("{}: {err}", crate::kernel::BTF))?;
        let mut opened = Self { object, types, kernel };
        opened.fill_in_enumerators()?;
        opened.make_room_for_a_dump()?;
        Ok(opened)
    }

    fn fill_in_enumerators(&mut self) -> Result<()> {
        let wanted: Vec<_> = globals::all(&self.types)
            .into_iter()
            .filter(|global| global.name.starts_with("__SCX_") && global.place.section == ".rodata")
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let known = kernel_enumerators(&self.kernel);
        for global in wanted {
            // What this kernel does not have stays 0, and the scheduler sees that.
            if let Some(value) = known.get(&global.name[2..]) {
                self.write(&global.place, &value.to_le_bytes()[..global.place.size.min(8)])?;
            }
        }
        Ok(())
    }

    /// The dump of an ejection goes into an array that the loader makes as long as it likes, if
    /// the scheduler has one by the name that the kernel's examples have for it.
    fn make_room_for_a_dump(&mut self) -> Result<()> {
        let Ok(length) = globals::find(&self.types, "uei_dump_len") else { return Ok(()) };
        let mut maps = self.object.maps_mut();
        let Some(mut map) = maps.find(|map| map.name() == ".data.uei_dump") else { return Ok(()) };
        map.set_value_size(DUMP).map_err(|err| anyhow!("uei_dump: {err}"))?;
        drop(maps);
        self.write(&length, &DUMP.to_le_bytes())
    }

    /// Sets a variable.
    ///
    /// # Errors
    /// There is none of this name, or it cannot have the value.
    pub fn set(&mut self, setting: &Setting) -> Result<(), Wrong> {
        let Setting { name, value } = setting;
        let mut set = || {
            let place = globals::find(&self.types, name)?;
            let bytes = globals::encode(&self.types, &place, value)?;
            self.write(&place, &bytes)
        };
        set()
            .with_context(|| format!("--set {name}={value}"))
            .map_err(|err| Wrong::from_error(&err))
    }

    /// Whether it has such a variable.
    pub fn has(&self, name: &str) -> bool {
        globals::find(&self.types, name).is_ok()
    }

    /// The names of the variables in its arena, which [`Loaded::counters`] does not have.
    pub fn arena_variables(&self) -> Vec<String> {
        let all = globals::all(&self.types).into_iter();
        let in_arena = all.filter(|global| global.place.section == ARENA_SECTION);
        in_arena.map(|global| global.name).filter(|name| globals::is_named(name)).collect()
    }

    fn write(&mut self, place: &Place, bytes: &[u8]) -> Result<()> {
        let section = &place.section;
        let mut maps = self.object.maps_mut();
        let mut map = maps
            .find(|map| match section.as_str() {
                ARENA_SECTION => map.map_type() == MapType::Arena,
                name => map.name().to_string_lossy().ends_with(name),
            })
            .with_context(|| format!("the object has no section {section}"))?;
        let value = map.initial_value_mut().with_context(|| format!("{section} has no values"))?;
        let target = value
            .get_mut(place.offset..place.offset + bytes.len())
            .with_context(|| format!("{section} is too short"))?;
        target.copy_from_slice(bytes);
        Ok(())
    }

    /// Whether the kernel has tids of its own.
    pub fn kernel_has_tids(&self) -> bool {
        flag_names(&self.kernel).iter().any(|(name, _)| name == TID_TO_TASK)
    }

    /// Whether the object has the portable tid, `bpf/scx_tid.bpf.h`.
    pub fn has_portable_tid(&self) -> bool {
        self.object.progs().any(|program| program.name() == LAST_SWITCH)
    }

    /// Sets `ops.flags`: to those given, as far as this kernel has them, or else to those that the
    /// object was compiled with, and what the portable tid needs. Answers with what is set, by name.
    ///
    /// # Errors
    /// The object has no scheduler's operations, or more than one.
    pub fn set_flags(&mut self, given: Option<&[String]>) -> Result<Vec<String>> {
        let native = self.kernel_has_tids();
        let portable = self.has_portable_tid();
        if native {
            // The kernel lets go of its tasks itself.
            let program = self.object.progs_mut().find(|program| program.name() == LAST_SWITCH);
            program.into_iter().for_each(|mut program| program.set_autoload(false));
        }
        let all = flag_names(&self.kernel);
        let wanted = |(name, _): &&(String, u64)| match given {
            Some(given) => given.contains(name),
            None => portable && name == TID_TO_TASK,
        };
        let more = all.iter().filter(wanted).fold(0, |bits, (_, bit)| bits | bit);
        let mut set = 0;
        self.change_operation("flags", |compiled| {
            set = compiled | more;
            set
        })?;
        Ok(all.into_iter().filter(|(_, bit)| set & bit != 0).map(|(name, _)| name).collect())
    }

    /// Leaves programs out of what is loaded.
    pub fn leave_out(&mut self, names: &[&str]) {
        for mut program in self.object.progs_mut() {
            if names.iter().any(|&name| program.name() == name) {
                program.set_autoload(false);
            }
        }
    }

    /// Sets a number among the operations: `ops.sub_cgroup_id`, say.
    ///
    /// # Errors
    /// The object has no scheduler's operations, or more than one, or they have no such number.
    pub fn set_operation(&mut self, member: &str, number: u64) -> Result<()> {
        self.change_operation(member, |_| number)
    }

    /// Makes another number of one among the operations.
    fn change_operation(&mut self, member: &str, change: impl FnOnce(u64) -> u64) -> Result<()> {
        let changed = self.operation(member, |bytes| {
            ensure!(bytes.len() <= 8, "what is to be set among the operations is no number");
            let word = change(number(bytes)).to_le_bytes();
            bytes.copy_from_slice(&word[..bytes.len()]);
            Ok(())
        })?;
        changed.with_context(|| format!("its operations have no `{member}`"))
    }

    /// Looks at the bytes of a member of the operations, or changes them. Nothing if they were
    /// declared without it.
    fn operation<R>(
        &mut self,
        member: &str,
        f: impl FnOnce(&mut [u8]) -> Result<R>,
    ) -> Result<Option<R>> {
        let (ops, place) = self.ops()?;
        let Ok(member) = globals::member(&self.types, &place, member) else { return Ok(None) };
        let from = member.offset - place.offset;
        let mut maps = self.object.maps_mut();
        let mut map =
            maps.find(|map| map.name() == ops.as_str()).context("there are no operations")?;
        let value = map.initial_value_mut().context("the operations have no values")?;
        let bytes = value.get_mut(from..from + member.size).context("the operations are short")?;
        f(bytes).map(Some)
    }

    /// The one variable that is a scheduler's operations.
    fn ops(&self) -> Result<(String, Place)> {
        let mut found: Vec<(String, Place)> = Vec::new();
        for section in self.types.btf().type_by_kind::<DataSec<'_>>() {
            let is_ops =
                |name: &str| name.starts_with(".struct_ops") || name.starts_with("struct_ops");
            if !section.name().and_then(|name| name.to_str()).is_some_and(is_ops) {
                continue;
            }
            for entry in section.iter() {
                let Some(var) = self.types.btf().type_by_id::<Var<'_>>(entry.ty) else { continue };
                let ty = self.types.btf().type_by_id::<BtfType<'_>>(var.referenced_type_id());
                let ty = ty.map(|ty| ty.skip_mods_and_typedefs());
                let ty_name = ty.and_then(|ty| ty.name()).and_then(|name| name.to_str());
                let base = ty_name.map(|name| name.split("___").next().unwrap_or(name));
                let var_name = var.name().and_then(|name| name.to_str()).map(str::to_owned);
                if let (Some(name), Some(base)) = (var_name, base)
                    && OPS_TYPES.contains(&base)
                    && let Some(global) =
                        globals::all(&self.types).into_iter().find(|global| global.name == name)
                {
                    found.push((name, global.place));
                }
            }
        }
        let count = found.len();
        ensure!(count < 2, Wrong(format!("it has {count} schedulers; one at a time is run")));
        let none = "it has no scheduler: no variable of type sched_ext_ops";
        Ok(found.pop().ok_or_else(|| Wrong(none.to_owned()))?)
    }

    /// After how long without running the watchdog finds a task: `ops.timeout_ms`, or the kernel's
    /// default, `SCX_WATCHDOG_MAX_TIMEOUT`.
    ///
    /// # Errors
    /// The object has no scheduler's operations, or more than one.
    pub fn timeout_ns(&mut self) -> Result<u64> {
        const LONGEST_MS: u64 = 30_000;
        let ms = self.operation("timeout_ms", |bytes| Ok(number(bytes)))?.unwrap_or(0);
        Ok(if ms == 0 { LONGEST_MS } else { ms } * 1_000_000)
    }

    /// `ops.name`, by which the kernel's log calls it.
    ///
    /// # Errors
    /// The object has no scheduler's operations, or more than one.
    pub fn name(&mut self) -> Result<String> {
        let name = self.operation("name", |bytes| Ok(until_zero(bytes)))?;
        Ok(name.unwrap_or_default())
    }

    /// Hands it to the kernel, whose verifier looks at every program. An object without a scheduler
    /// has its other programs only.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn load(self) -> Result<Loaded, Refusal> {
        let ops = self.ops().ok().map(|(ops, _)| ops);
        log::begin();
        let Self { mut object, types, .. } = self;
        // One of a section `.struct_ops`, without `.link`, would stay attached when this process ends.
        let mut maps = object.maps_mut();
        if let Some(mut map) = maps.find(|map| ops.as_deref().is_some_and(|ops| map.name() == ops))
        {
            map.set_map_flags(BPF_F_LINK).map_err(|err| Refusal::new("load", &err))?;
        }
        drop(maps);
        match object.load() {
            Ok(object) => Ok(Loaded { object, types, ops }),
            Err(err) => Err(Refusal::new("load", &err)),
        }
    }
}

impl Loaded {
    /// Attaches the scheduler, and whatever other programs the object has. It goes with the links.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn attach(&mut self) -> Result<Vec<Link>, Refusal> {
        log::begin();
        let refused = |err: libbpf_rs::Error| Refusal::new("attach", &err);
        let mut links = Vec::new();
        for program in self.object.progs_mut() {
            if attaches_by_itself(&program) && program.autoload() {
                links.push(program.attach().map_err(refused)?);
            }
        }
        for mut map in self.object.maps_mut() {
            let is_ops = self.ops.as_deref().is_some_and(|ops| map.name() == ops);
            if map.map_type() == MapType::StructOps && is_ops {
                links.push(map.attach_struct_ops().map_err(refused)?);
            }
        }
        Ok(links)
    }

    /// A section's bytes as they are now; nothing if it is not there.
    pub fn section(&self, name: &str) -> Option<Vec<u8>> {
        let map = self.object.maps().find(|map| map.name().to_string_lossy().ends_with(name))?;
        map.lookup(&0_u32.to_le_bytes(), MapFlags::ANY).ok().flatten()
    }

    /// A part of a variable as bytes.
    pub fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        let place = globals::find(&self.types, path).ok()?;
        let section = self.section(&place.section)?;
        section.get(place.offset..place.offset + place.size).map(<[u8]>::to_vec)
    }

    /// A number.
    pub fn number(&self, path: &str) -> Option<u64> {
        let place = globals::find(&self.types, path).ok()?;
        globals::decode(&self.types, &place, &self.section(&place.section)?)
    }

    /// Text, up to its 0.
    pub fn text(&self, path: &str) -> Option<String> {
        self.bytes(path).map(|bytes| until_zero(&bytes))
    }

    /// The debug dump, if the scheduler kept it.
    pub fn dump(&self) -> Option<String> {
        // Either an array of its own length, or one that was made longer above.
        let longer = self.section(".data.uei_dump").map(|bytes| until_zero(&bytes));
        let text = longer.or_else(|| self.text("uei_dump"))?;
        (!text.is_empty()).then_some(text)
    }

    /// All numbers that the scheduler counts in: the plain variables of `.bss`.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let Some(section) = self.section(".bss") else { return BTreeMap::new() };
        globals::all(&self.types)
            .into_iter()
            .filter(|global| global.place.section == ".bss" && globals::is_named(&global.name))
            .filter_map(|global| {
                let value = globals::decode(&self.types, &global.place, &section)?;
                Some((global.name, value))
            })
            .collect()
    }
}

/// The sections of programs that libbpf attaches where the section's name says.
const ATTACHED_BY_NAME: &[&str] = &[
    "tp_btf",
    "fentry",
    "fexit",
    "fmod_ret",
    "fsession",
    "lsm",
    "raw_tp",
    "raw_tracepoint",
    "tp",
    "tracepoint",
    "kprobe",
    "kretprobe",
    "ksyscall",
    "kretsyscall",
    "uprobe",
    "uretprobe",
    "usdt",
];

/// Whether a program is such a one, and not an operation of the scheduler's or one that is called.
fn attaches_by_itself(program: &libbpf_rs::ProgramMut<'_>) -> bool {
    let section = program.section().to_string_lossy();
    let kind = section.split_once('/').map_or("", |(kind, _)| kind);
    // What follows a dot is a way of it: `fentry.s` may sleep, `kprobe.multi` is at many places.
    ATTACHED_BY_NAME.contains(&kind.split('.').next().unwrap_or(kind))
}

fn until_zero(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Every enumerator of the kernel's that begins with `SCX_`.
fn kernel_enumerators(kernel: &Btf<'_>) -> BTreeMap<String, u64> {
    let enums = kernel.type_by_kind::<Enum<'_>>().map(|e| *e);
    let enums64 = kernel.type_by_kind::<Enum64<'_>>().map(|e| *e);
    let all = enums.chain(enums64).flat_map(|ty| globals::enumerators(&ty));
    all.filter(|(name, _)| name.starts_with("SCX_") || name.starts_with("__SCX_"))
        .map(|(name, value)| (name, value as u64))
        .collect()
}

/// The flags of `enum scx_ops_flags`: a bit each.
fn flag_names(kernel: &Btf<'_>) -> Vec<(String, u64)> {
    let ty = kernel.type_by_name::<BtfType<'_>>("scx_ops_flags");
    let all = ty.map(|ty| globals::enumerators(&ty)).unwrap_or_default();
    all.into_iter()
        .map(|(name, value)| (name, value as u64))
        .filter(|(name, value)| name.starts_with("SCX_OPS_") && value.count_ones() == 1)
        .collect()
}
/// A little-endian number of up to 8 bytes; of a longer one the low 8.
fn number(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    let len = bytes.len().min(8);
    word[..len].copy_from_slice(&bytes[..len]);
    u64::from_le_bytes(word)
}
