//! What an object expects of a kernel by name: functions, variables, configuration.

use std::collections::BTreeMap;

use super::compat::{self, Matching};
use super::elf::Elf;
use super::error::Error;
use super::limits;
use super::target::Target;
use super::variables::{KCONFIG, KSYMS};
use crate::btf::{Btf, Kind, Type, TypeId, essential_name, linkage};

/// An extern.
pub(super) struct Extern {
    pub(super) name: String,
    /// The number of its symbol.
    pub(super) symbol: usize,
    pub(super) weak: bool,
    pub(super) kind: ExternKind,
}

/// What an extern is.
pub(super) enum ExternKind {
    /// A value of the kernel's configuration, with its place in the map `.kconfig`.
    Config(Config),
    /// A function, with its type.
    Function(TypeId),
    /// A variable, with its type; 0 for `void`.
    Variable(TypeId),
}

/// A value of the kernel's configuration.
#[derive(Clone, Copy)]
pub(super) struct Config {
    pub(super) offset: u32,
    pub(super) size: u32,
    align: u32,
    kind: ConfigKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ConfigKind {
    Bool,
    Tristate,
    Char,
    Int { signed: bool },
    Text,
}

impl Extern {
    /// Its name without the flavour.
    pub(super) fn essential(&self) -> &str {
        essential_name(&self.name)
    }
}

/// All externs: those of the kernel by name, and those of the configuration in the order in which
/// they are in their map, as libbpf lays it out.
pub(super) fn collect(elf: &Elf<'_>, btf: &Btf) -> Result<Vec<Extern>, Error> {
    let mut sections: BTreeMap<TypeId, &str> = BTreeMap::new();
    for (_, ty) in btf.iter() {
        let Type::DataSec(section) = ty else { continue };
        for var in &section.vars {
            sections.entry(var.ty).or_insert(btf.name(section.name));
        }
    }
    let declarations = declarations(btf);
    let mut all = Vec::new();
    for (number, symbol) in elf.symbols.iter().enumerate() {
        if !symbol.is_extern() || symbol.name.is_empty() {
            continue;
        }
        let wrong = |what: String| Error::symbol(symbol.name, what);
        Error::limit("externs", all.len() + 1, limits::EXTERNS)?;
        let id = declarations
            .get(symbol.name)
            .and_then(|&id| is_extern(btf.ty(id)).then_some(id))
            .ok_or_else(|| wrong("it is not defined, and has no BTF as an extern".to_owned()))?;
        let section = sections.get(&id).copied();
        let kind = match (section, btf.ty(id)) {
            (Some(KCONFIG), Type::Var { ty, .. }) => {
                ExternKind::Config(config(btf, *ty).map_err(wrong)?)
            }
            (Some(KSYMS), Type::Func { proto, .. }) => ExternKind::Function(*proto),
            (Some(KSYMS), Type::Var { ty, .. }) => {
                let ty = btf.resolve(*ty).map_err(|err| wrong(err.to_string()))?;
                ExternKind::Variable(ty)
            }
            (section, ty) => {
                let (kind, section) = (ty.kind().as_str(), section.unwrap_or("none"));
                return Err(wrong(format!(
                    "an extern {kind} in section {section} is not supported"
                )));
            }
        };
        let (name, weak) = (symbol.name.to_owned(), symbol.is_weak());
        all.push(Extern { name, symbol: number, weak, kind });
    }
    all.sort_by(|a, b| order(a).cmp(&order(b)));
    let mut end = 0_u32;
    for ext in &mut all {
        if let ExternKind::Config(config) = &mut ext.kind {
            config.offset = end.next_multiple_of(config.align);
            end = config.offset + config.size;
            Error::limit("bytes of section .kconfig", end as usize, limits::CONFIG)?;
        }
    }
    Ok(all)
}

/// Configuration first: larger alignment, then smaller size, then name.
fn order(ext: &Extern) -> (bool, u32, u32, &str) {
    match &ext.kind {
        ExternKind::Config(config) => (false, u32::MAX - config.align, config.size, &ext.name),
        _ => (true, 0, 0, &ext.name),
    }
}

/// The first variable or function of each name.
fn declarations(btf: &Btf) -> BTreeMap<&str, TypeId> {
    let mut all = BTreeMap::new();
    for (id, ty) in btf.iter().filter(|(_, ty)| matches!(ty.kind(), Kind::Var | Kind::Func)) {
        all.entry(btf.name(ty.name())).or_insert(id);
    }
    all
}

fn is_extern(ty: &Type) -> bool {
    match *ty {
        Type::Var { linkage, .. } => linkage == linkage::EXTERN,
        Type::Func { linkage, .. } => u32::from(linkage) == linkage::EXTERN,
        _ => false,
    }
}

fn config(btf: &Btf, ty: TypeId) -> Result<Config, String> {
    let kind = config_kind(btf, ty).ok_or("its type is none of a configuration's value")?;
    let size = btf.size_of(ty).map_err(|err| err.to_string())?;
    let align = btf.align_of(ty).map_err(|err| err.to_string())?;
    if size == 0 || size > 4096 || !align.is_power_of_two() {
        return Err(format!("{size} bytes are no value of a configuration"));
    }
    Ok(Config { offset: 0, size, align, kind })
}

fn config_kind(btf: &Btf, ty: TypeId) -> Option<ConfigKind> {
    let id = btf.resolve(ty).ok()?;
    match btf.ty(id) {
        Type::Int(int) if int.bool => (int.size == 1).then_some(ConfigKind::Bool),
        Type::Int(int) if int.size == 1 => Some(ConfigKind::Char),
        Type::Int(int) => {
            matches!(int.size, 2 | 4 | 8).then_some(ConfigKind::Int { signed: int.signed })
        }
        Type::Enum(e) => {
            let is_it = btf.name(e.name) == "libbpf_tristate" && (e.wide || e.size == 4);
            is_it.then_some(ConfigKind::Tristate)
        }
        Type::Array(array) if array.len > 0 => {
            let element = btf.resolve(array.element).ok()?;
            matches!(btf.ty(element), Type::Int(int) if int.size == 1 && !int.bool)
                .then_some(ConfigKind::Text)
        }
        _ => None,
    }
}

/// A value of the kernel's configuration, or of libbpf's own.
fn config_value(name: &str, target: &dyn Target) -> Option<String> {
    match name {
        "LINUX_KERNEL_VERSION" => Some(target.kernel_version().to_string()),
        name => target.kconfig(name),
    }
}

/// The bytes of the map `.kconfig`, and what is wrong with them. What has no value is 0: see [`resolve`].
pub(super) fn configuration(
    externs: &[Extern],
    target: &dyn Target,
    wrong: &mut Vec<String>,
) -> Vec<u8> {
    let configs = externs.iter().filter_map(|ext| match ext.kind {
        ExternKind::Config(config) => Some((ext, config)),
        _ => None,
    });
    let mut bytes = Vec::new();
    for (ext, config) in configs {
        bytes.resize((config.offset + config.size) as usize, 0);
        let name = &ext.name;
        let Some(value) = config_value(name, target) else { continue };
        match value_bytes(config, &value) {
            Ok(value) => {
                let start = config.offset as usize;
                bytes[start..start + value.len()].copy_from_slice(&value);
            }
            Err(what) => wrong.push(format!("extern (kcfg) '{name}': value '{value}' {what}")),
        }
    }
    bytes
}

/// A value as `/proc/config.gz` has it, in the bytes of a variable.
fn value_bytes(config: Config, value: &str) -> Result<Vec<u8>, String> {
    let size = config.size as usize;
    let little = |number: u64| number.to_le_bytes()[..size.min(8)].to_vec();
    if let "y" | "n" | "m" = value {
        // `enum libbpf_tristate`: no, yes, module.
        let number = match (config.kind, value) {
            (ConfigKind::Bool, "m") => return Err("implies tristate or char type".to_owned()),
            (ConfigKind::Char, _) => u64::from(value.as_bytes()[0]),
            (ConfigKind::Bool | ConfigKind::Tristate, "y") => 1,
            (ConfigKind::Tristate, "m") => 2,
            (ConfigKind::Bool | ConfigKind::Tristate, _) => 0,
            _ => return Err("implies bool, tristate, or char type".to_owned()),
        };
        return Ok(little(number));
    }
    if let Some(text) = value.strip_prefix('"') {
        if config.kind != ConfigKind::Text {
            return Err("implies char array type".to_owned());
        }
        let text = text.strip_suffix('"').ok_or("is no string: its end is missing")?;
        // Cut as libbpf cuts it: the last byte is 0.
        return Ok(text.bytes().take(size - 1).collect());
    }
    let number = match value.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => value.parse().ok().or_else(|| value.parse::<i64>().ok().map(|n| n as u64)),
    };
    let number = number.ok_or("is neither y, n, m, a string nor a number")?;
    let fits = match config.kind {
        ConfigKind::Bool if number > 1 => return Err("isn't boolean compatible".to_owned()),
        ConfigKind::Bool => true,
        ConfigKind::Text | ConfigKind::Tristate => {
            return Err("implies integer, char, or boolean type".to_owned());
        }
        _ if size == 8 => true,
        ConfigKind::Int { signed: true } => {
            let half = 1_u64 << (8 * size - 1);
            number.wrapping_add(half) < half << 1
        }
        _ => number >> (8 * size) == 0,
    };
    fits.then(|| little(number)).ok_or_else(|| format!("doesn't fit in {size} bytes"))
}

/// Why an extern that must be there cannot be used, in libbpf's words where they are right.
pub(super) struct Wrong {
    pub(super) what: String,
    /// It is not there, and the kernel that the target stands in for may have it.
    pub(super) lacking: bool,
}

impl Wrong {
    fn absent(ext: &Extern, kind: &str, target: &dyn Target, words: &str) -> Self {
        let name = &ext.name;
        match target.stands_in(ext.essential()) {
            None => Self { what: format!("extern{kind} '{name}'{words}"), lacking: false },
            Some(who) => {
                let what = format!("extern{kind} '{name}': {who}, does not have it");
                Self { what, lacking: true }
            }
        }
    }

    fn no_value(ext: &Extern, target: &dyn Target) -> Self {
        match ext.name.starts_with("CONFIG_") {
            true => Self::absent(ext, "", target, " (strong): not resolved"),
            false => {
                let name = &ext.name;
                Self::other(format!("extern (kcfg) '{name}': unrecognized virtual extern"))
            }
        }
    }

    fn other(what: String) -> Self {
        Self { what, lacking: false }
    }
}

/// Whether the kernel has it; what is wrong if it must.
pub(super) fn resolve(
    ext: &Extern,
    btf: &Btf,
    target: &dyn Target,
    matching: &mut Matching,
) -> Result<bool, Wrong> {
    match ext.kind {
        ExternKind::Config(_) => {
            let may_be_absent = ext.name.starts_with("CONFIG_") || ext.name.starts_with("LINUX_");
            match config_value(&ext.name, target) {
                None if !(ext.weak && may_be_absent) => Err(Wrong::no_value(ext, target)),
                value => Ok(value.is_some()),
            }
        }
        ExternKind::Function(proto) => function(ext, proto, btf, target, matching),
        ExternKind::Variable(0) if target.has_symbol(&ext.name) => Ok(true),
        ExternKind::Variable(0) if ext.weak => Ok(false),
        ExternKind::Variable(0) => Err(Wrong::absent(ext, "", target, " (strong): not resolved")),
        ExternKind::Variable(ty) => variable(ext, ty, btf, target, matching),
    }
}

fn function(
    ext: &Extern,
    local: TypeId,
    btf: &Btf,
    target: &dyn Target,
    matching: &mut Matching,
) -> Result<bool, Wrong> {
    let name = &ext.name;
    if !target.has_kfunc(ext.essential()) {
        if ext.weak {
            return Ok(false);
        }
        let words = ": not found in kernel or module BTFs";
        return Err(Wrong::absent(ext, " (func ksym)", target, words));
    }
    let kernel = target.btf();
    // A function that the target has without saying its type is taken as declared.
    let Some(id) = kernel.find(ext.essential(), Kind::Func) else { return Ok(true) };
    let Type::Func { proto, .. } = *kernel.ty(id) else { return Ok(true) };
    if matches!(compat::types_are_compatible(matching, (btf, local), (kernel, proto)), Ok(true)) {
        return Ok(true);
    }
    if ext.weak {
        return Ok(false);
    }
    let what = format!("func_proto [{local}] incompatible with vmlinux [{proto}]");
    Err(Wrong::other(format!("extern (func ksym) '{name}': {what}")))
}

fn variable(
    ext: &Extern,
    local: TypeId,
    btf: &Btf,
    target: &dyn Target,
    matching: &mut Matching,
) -> Result<bool, Wrong> {
    let (name, kernel) = (&ext.name, target.btf());
    let Some(id) = kernel.find(name, Kind::Var) else {
        if ext.weak {
            return Ok(false);
        }
        let words = ": not found in kernel BTF";
        return Err(Wrong::absent(ext, " (var ksym)", target, words));
    };
    let ty = match *kernel.ty(id) {
        Type::Var { ty, .. } => kernel.resolve(ty).unwrap_or(ty),
        _ => return Ok(false),
    };
    if matches!(compat::types_are_compatible(matching, (btf, local), (kernel, ty)), Ok(true)) {
        return Ok(true);
    }
    let describe = |btf: &Btf, id: TypeId| {
        format!("[{id}] {} {}", btf.ty(id).kind().as_str(), btf.name_of(id))
    };
    let (local, there) = (describe(btf, local), describe(kernel, ty));
    let what = format!("incompatible types, expected {local}, but kernel has {there}");
    Err(Wrong::other(format!("extern (var ksym) '{name}': {what}")))
}
