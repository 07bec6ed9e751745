//! A compiled scheduler in the kernel: attached, and its variables read.

use std::collections::BTreeMap;

use libbpf_rs::{Link, MapCore as _, MapFlags, MapType, Object};
use scxlab_bpf::image::Global;
use scxlab_bpf::object::{self, Value, is_named};

use super::{Refusal, log};

/// A compiled scheduler in the kernel.
pub struct Loaded {
    pub(super) object: Object,
    /// The same file, which says what is where.
    pub(super) file: object::Object,
    /// Its operations, if it has any.
    pub(super) ops: Option<String>,
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
        let global = self.file.global(path)?;
        part(&global, &self.section(&global.section)?).map(<[u8]>::to_vec)
    }

    /// A number that is not negative.
    pub fn number(&self, path: &str) -> Option<u64> {
        let global = self.file.global(path)?;
        self.decode(&global, &self.section(&global.section)?)
    }

    /// Text, up to its 0.
    pub fn text(&self, path: &str) -> Option<String> {
        self.bytes(path).map(|bytes| until_zero(&bytes))
    }

    /// The debug dump, if the scheduler kept it.
    pub fn dump(&self) -> Option<String> {
        // Either an array of its own length, or one that was made longer before the load.
        let longer = self.section(".data.uei_dump").map(|bytes| until_zero(&bytes));
        let text = longer.or_else(|| self.text("uei_dump"))?;
        (!text.is_empty()).then_some(text)
    }

    /// All numbers that the scheduler counts in: the plain variables of `.bss`.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let Some(section) = self.section(".bss") else { return BTreeMap::new() };
        let counters = self.file.globals().filter(|global| global.section == ".bss");
        counters
            .filter(|global| is_named(&global.name))
            .filter_map(|global| Some((global.name.clone(), self.decode(&global, &section)?)))
            .collect()
    }

    fn decode(&self, global: &Global, section: &[u8]) -> Option<u64> {
        let bytes = part(global, section)?;
        match object::decode(self.file.btf(), global.ty, bytes)? {
            Value::Number(number) | Value::Name(_, number) => u64::try_from(number).ok(),
            Value::Bool(is) => Some(is.into()),
            _ => None,
        }
    }
}

fn part<'a>(global: &Global, section: &'a [u8]) -> Option<&'a [u8]> {
    let start = usize::try_from(global.offset).ok()?;
    section.get(start..start.checked_add(global.size as usize)?)
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
