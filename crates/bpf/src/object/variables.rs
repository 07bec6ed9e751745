//! Sections of variables: what BTF says of them, with the offsets that the symbols know.

use std::collections::{BTreeMap, BTreeSet};

use super::elf::{Elf, Symbol};
use super::error::Error;
use super::limits;
use super::maps::MAPS;
use crate::btf::{Btf, DataSec, Type, TypeId, linkage};

/// The section of externs that are the kernel's configuration.
pub(super) const KCONFIG: &str = ".kconfig";

/// The section of externs that are the kernel's functions and variables.
pub(super) const KSYMS: &str = ".ksyms";

/// A section of variables.
pub(super) struct VarSection {
    pub(super) name: String,
    /// The section's number in its BTF.
    pub(super) id: TypeId,
    /// By offset.
    pub(super) vars: Vec<Variable>,
}

/// A variable.
pub(super) struct Variable {
    pub(super) name: String,
    /// Its type.
    pub(super) ty: TypeId,
    /// Bytes from the section's start.
    pub(super) offset: u32,
    /// Bytes.
    pub(super) size: u32,
    /// See [`linkage`].
    pub(super) linkage: u32,
    /// Whether it is a variable at all: [`Type::Var`].
    pub(super) is_var: bool,
}

/// All sections of variables that are in the file. Compilers leave sizes and offsets at 0, and
/// linkers do not (`btf_fixup_datasec()` in libbpf).
pub(super) fn sections(elf: &Elf<'_>, btf: &Btf) -> Result<Vec<VarSection>, Error> {
    let symbols: BTreeMap<&str, &Symbol<'_>> = elf
        .symbols
        .iter()
        .rev()
        .filter(|symbol| symbol.is_object() && symbol.is_global())
        .map(|symbol| (symbol.name, symbol))
        .collect();
    let mut all: Vec<VarSection> = Vec::new();
    let mut names = BTreeSet::new();
    let mut count = 0;
    for (id, ty) in btf.iter() {
        let Type::DataSec(section) = ty else { continue };
        let name = btf.name(section.name);
        if name != KCONFIG && name != KSYMS {
            if !names.insert(name) {
                return Err(Error::section(name, "there are two lists of its variables"));
            }
            count += section.vars.len();
            match name {
                MAPS => Error::limit("maps", section.vars.len(), limits::MAPS)?,
                _ => Error::limit("variables", count, limits::VARIABLES)?,
            }
            all.push(fixed(elf, btf, &symbols, id, name, section)?);
        }
    }
    Ok(all)
}

fn fixed(
    elf: &Elf<'_>,
    btf: &Btf,
    symbols: &BTreeMap<&str, &Symbol<'_>>,
    id: TypeId,
    name: &str,
    section: &DataSec,
) -> Result<VarSection, Error> {
    let wrong = |what: String| Error::section(name, what);
    let size = elf.section(name).map_or(0, |number| elf.sections[number].size);
    if size == 0 {
        return Err(wrong("there are types of its variables, but it is not there".to_owned()));
    }
    let from_symbols = section.size == 0;
    let mut vars = Vec::with_capacity(section.vars.len());
    for var in &section.vars {
        let (ty, mut linkage, is_var) = match *btf.ty(var.ty) {
            Type::Var { ty, linkage, .. } => (ty, linkage, true),
            _ => (var.ty, linkage::STATIC, false),
        };
        let var_name = btf.name_of(var.ty);
        let mut offset = u64::from(var.offset);
        if linkage == linkage::GLOBAL {
            let symbol = symbols.get(var_name);
            let symbol =
                symbol.ok_or_else(|| wrong(format!("variable `{var_name}` has no symbol")))?;
            offset = if from_symbols { symbol.value } else { offset };
            // As libbpf has it: a map of hidden variables only is not for user space to see.
            linkage = if symbol.is_hidden() { linkage::STATIC } else { linkage };
        }
        let end = offset.checked_add(var.size.into());
        if linkage != linkage::EXTERN && end.is_none_or(|end| end > size as u64) {
            let (len, place) = (var.size, format!("{offset:#x} of {size:#x} bytes"));
            return Err(wrong(format!("variable `{var_name}`: {len} bytes at {place}")));
        }
        let (name, offset) = (var_name.to_owned(), offset as u32);
        vars.push(Variable { name, ty, offset, size: var.size, linkage, is_var });
    }
    vars.sort_by_key(|var| var.offset);
    Ok(VarSection { name: name.to_owned(), id, vars })
}
