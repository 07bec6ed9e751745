//! The engine as a kernel: what a compiled scheduler is relocated against.
//!
//! `kernel/*.h` declare it, for every version, in C's words; the rest of this module makes BTF of
//! that, and a [`Target`] for the loader. What is declared is what the engine has. A scheduler that
//! asks whether a field, a value or a function exists is told so, and one that needs what is not
//! there is refused with its name.

mod build;
mod config;
mod never;
mod parse;
pub mod source;
mod token;
mod version;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::build::Kfunc;
pub use self::parse::DeclarationError;
pub use self::source::Source;
pub use self::version::{UnknownVersion, Version};
use crate::btf::{Btf, Kind, Type, TypeId};
use crate::object::Target;

/// The declarations, in the order in which they build on each other.
const FILES: [(&str, &str); 6] = [
    ("types.h", include_str!("kernel/types.h")),
    ("task.h", include_str!("kernel/task.h")),
    ("numbers.h", include_str!("kernel/numbers.h")),
    ("helpers.h", include_str!("kernel/helpers.h")),
    ("ops.h", include_str!("kernel/ops.h")),
    ("kfuncs.h", include_str!("kernel/kfuncs.h")),
];

/// How the engine ticks unless it is told otherwise: `CONFIG_HZ`.
const HZ: u32 = 250;

/// Seconds that `SCX_WATCHDOG_MAX_TIMEOUT` is in ticks.
const WATCHDOG_SECONDS: u64 = 30;

/// A version of the kernel, as the engine stands for it.
#[derive(Clone, Debug)]
pub struct Abi {
    version: Version,
    hz: u32,
    btf: Arc<Btf>,
    kfuncs: Arc<BTreeMap<String, Kfunc>>,
    symbols: Arc<BTreeMap<String, TypeId>>,
}

/// A field of a kernel object, found by its offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldAt {
    /// As C reaches it from the object: `scx.slice`.
    pub path: String,
    /// The structure that declares it.
    pub structure: String,
    /// Its name there.
    pub member: String,
    /// Its type.
    pub ty: TypeId,
    /// How many bytes it has; 0 for an array without a length.
    pub size: u32,
    /// Bytes from its start to the offset.
    pub offset: u32,
    /// Where its value comes from; nothing if the structure is no object of the engine.
    pub source: Option<Source>,
    /// Whether BPF programs may write it (`bpf_scx_btf_struct_access()` in Linux 7.2).
    pub writable: bool,
}

impl Abi {
    /// That of a version.
    ///
    /// # Errors
    /// None but for a mistake in the declarations, which the tests find.
    pub fn new(version: Version) -> Result<Self, DeclarationError> {
        let mut items = Vec::new();
        for (file, text) in FILES {
            items.append(&mut parse::parse(file, text)?);
        }
        let built = build::build(&items, version)?;
        Ok(Self {
            version,
            hz: HZ,
            btf: built.btf.into(),
            kfuncs: built.kfuncs.into(),
            symbols: built.symbols.into(),
        })
    }

    /// With so many ticks a second: 1..=1000, as the engine's.
    pub fn with_hz(mut self, hz: u32) -> Self {
        let timeout = WATCHDOG_SECONDS * u64::from(hz);
        Arc::make_mut(&mut self.btf).set_enumerator("SCX_WATCHDOG_MAX_TIMEOUT", timeout);
        Self { hz, ..self }
    }

    /// Which version it is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// A function that programs can call.
    pub fn kfunc(&self, name: &str) -> Option<Kfunc> {
        self.kfuncs.get(name).copied()
    }

    /// All functions that programs can call, by name.
    pub fn kfuncs(&self) -> impl Iterator<Item = (&str, Kfunc)> {
        self.kfuncs.iter().map(|(name, &kfunc)| (name.as_str(), kfunc))
    }

    /// The type of a variable that programs know as `void`, since the kernel's BTF does not have it.
    pub fn symbol(&self, name: &str) -> Option<TypeId> {
        self.symbols.get(name).copied()
    }

    /// The number that a name stands for in this version: `SCX_ENQ_HEAD`, say.
    pub fn number(&self, name: &str) -> Option<i128> {
        self.btf.iter().find_map(|(_, ty)| {
            let Type::Enum(all) = ty else { return None };
            let found = all.values.iter().find(|value| self.btf.name(value.name) == name)?;
            Some(all.value(found))
        })
    }

    /// How many bytes a structure has.
    pub fn size_of(&self, structure: &str) -> Option<u32> {
        self.btf.size_of(self.btf.find(structure, Kind::Struct)?).ok()
    }

    /// Where a member is in a structure, in bytes from its start, by its path: `scx.slice`.
    pub fn offset_of(&self, structure: &str, path: &str) -> Option<u32> {
        let mut ty = self.btf.find(structure, Kind::Struct)?;
        let mut offset = 0;
        for name in path.split('.') {
            let (within, of) = self.member(ty, name)?;
            offset += within;
            ty = self.btf.resolve(of).ok()?;
        }
        Some(offset)
    }

    /// A member, also of what is reached without a name.
    fn member(&self, ty: TypeId, name: &str) -> Option<(u32, TypeId)> {
        self.btf.ty(ty).composite()?.members.iter().find_map(|member| {
            let start = member.bit_offset / 8;
            match self.btf.name(member.name) {
                "" => self.member(member.ty, name).map(|(offset, ty)| (start + offset, ty)),
                is if is == name => Some((start, member.ty)),
                _ => None,
            }
        })
    }

    /// The field that a byte of a structure belongs to; nothing if it is behind its end, or between
    /// two fields. A field is the largest that has one source, or else a scalar, a pointer, or an
    /// array of those.
    pub fn field_at(&self, structure: &str, offset: u32) -> Option<FieldAt> {
        let mut ty = self.btf.find(structure, Kind::Struct)?;
        let mut owner = structure.to_owned();
        let mut path = String::new();
        let mut offset = offset;
        // Each step goes into a member, and types of members do not contain themselves.
        loop {
            let members = &self.btf.ty(ty).composite()?.members;
            let member = members.iter().find(|member| {
                let start = member.bit_offset / 8;
                let end = match self.btf.size_of(member.ty) {
                    // An array without a length goes on behind the structure.
                    Ok(0) => u32::MAX,
                    Ok(size) => start.saturating_add(size),
                    Err(_) => start,
                };
                (start..end).contains(&offset)
            })?;
            let name = self.btf.name(member.name);
            if !name.is_empty() {
                path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            }
            offset -= member.bit_offset / 8;
            let source = source::SOURCES.iter().find(|(of, is, _)| *of == owner && *is == name);
            let resolved = self.btf.resolve(member.ty).ok()?;
            let inner = match self.btf.ty(resolved) {
                Type::Array(array) => self.btf.resolve(array.element).ok()?,
                _ => resolved,
            };
            if source.is_some() || self.btf.ty(inner).composite().is_none() {
                return Some(FieldAt {
                    path,
                    writable: owner == "sched_ext_entity" && WRITABLE.contains(&name),
                    member: name.to_owned(),
                    structure: owner,
                    ty: member.ty,
                    size: self.btf.size_of(resolved).ok()?,
                    offset,
                    source: source.map(|&(_, _, source)| source),
                });
            }
            // In an array of structures, each has the same fields.
            offset %= self.btf.size_of(inner).ok()?.max(1);
            match self.btf.name_of(inner) {
                "" => {}
                name => owner = name.to_owned(),
            }
            ty = inner;
        }
    }
}

/// What of `struct sched_ext_entity` programs may write.
const WRITABLE: [&str; 3] = ["slice", "dsq_vtime", "disallow"];

impl Target for Abi {
    fn btf(&self) -> &Btf {
        &self.btf
    }

    fn kernel_version(&self) -> u32 {
        self.version.code()
    }

    fn kconfig(&self, name: &str) -> Option<String> {
        config::value(name, self.version, self.hz)
    }

    fn has_kfunc(&self, name: &str) -> bool {
        self.kfuncs.contains_key(name)
    }

    fn stands_in(&self, symbol: &str) -> Option<String> {
        // Of sched_ext's own, all are declared, but for a field of core scheduling.
        let of_scx =
            ["scx_bpf_", "_scx_", "sched_ext_", ".scx."].iter().any(|own| symbol.contains(own))
                || symbol.starts_with("scx_");
        let is_declared = of_scx && !symbol.ends_with(".core_sched_at");
        (!is_declared).then(|| format!("the engine, as Linux {}", self.version))
    }

    fn never_runs(&self, section: &str) -> Option<&'static str> {
        never::runs(section)
    }

    fn has_symbol(&self, name: &str) -> bool {
        let is_in_btf = |kind| self.btf.find(name, kind).is_some();
        self.symbols.contains_key(name) || is_in_btf(Kind::Var) || is_in_btf(Kind::Func)
    }
}

#[cfg(test)]
mod tests;
