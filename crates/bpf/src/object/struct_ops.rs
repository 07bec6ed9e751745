//! Structures of operations: `struct sched_ext_ops`, and what its members are in the kernel.

use std::collections::BTreeMap;

use super::elf::Elf;
use super::error::Error;
use super::functions::{self, Func};
use super::limits;
use super::variables::VarSection;
use crate::Insn;
use crate::btf::{Btf, Composite, Kind, Type, TypeId, essential_name};
use crate::image::{OpsMember, StructOps};

/// A structure of operations that has not been compared with a kernel's.
pub(super) struct OpenOps {
    pub(super) name: String,
    /// Its type, a structure.
    pub(super) ty: TypeId,
    pub(super) data: Vec<u8>,
    /// The functions of its members, by the member's number.
    pub(super) operations: Vec<(usize, usize)>,
    /// Attached by a link.
    link: bool,
    /// It is loaded.
    pub(super) autocreate: bool,
    section: usize,
    offset: usize,
}

/// The structures of an object, in the order of its sections, with the functions that they name.
pub(super) fn find(
    elf: &Elf<'_>,
    bytes: &[u8],
    btf: &Btf,
    sections: &[VarSection],
    functions: &[Func],
) -> Result<Vec<OpenOps>, Error> {
    let mut all = Vec::new();
    for (number, section) in elf.sections.iter().enumerate() {
        let name = section.name.strip_prefix('?').unwrap_or(section.name);
        if !section.has_bits() || !matches!(name, ".struct_ops" | ".struct_ops.link") {
            continue;
        }
        let vars = sections
            .iter()
            .find(|vars| vars.name == section.name)
            .ok_or_else(|| Error::section(section.name, "there are no types of its variables"))?;
        Error::limit("structures of operations", all.len() + vars.vars.len(), limits::OPS)?;
        for var in &vars.vars {
            let ops = open(btf, number, section.data, var)?;
            let autocreate = name.len() == section.name.len();
            all.push(OpenOps { link: name == ".struct_ops.link", autocreate, ..ops });
        }
    }
    name_operations(elf, bytes, btf, functions, &mut all)?;
    Ok(all)
}

/// Looks up the functions that structures name.
fn name_operations(
    elf: &Elf<'_>,
    bytes: &[u8],
    btf: &Btf,
    functions: &[Func],
    all: &mut [OpenOps],
) -> Result<(), Error> {
    let mut members: BTreeMap<TypeId, BTreeMap<u64, usize>> = BTreeMap::new();
    // By structure and member. The last relocation of several counts.
    let mut named: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    let mut count = 0;
    for section in elf.sections.iter().filter(|section| section.is_relocations()) {
        if !all.iter().any(|ops: &OpenOps| ops.section == section.info) {
            continue;
        }
        let relocations = elf.relocations(section, bytes)?;
        count += relocations.len();
        Error::limit("operations", count, limits::SLOTS)?;
        for rel in relocations {
            let symbol = &elf.symbols[rel.symbol];
            let is_in = |ops: &OpenOps| {
                let within = rel.offset.checked_sub(ops.offset as u64);
                ops.section == section.info && within.is_some_and(|at| at < ops.data.len() as u64)
            };
            let number = all.iter().position(is_in).ok_or_else(|| {
                let what = format!("relocation at {:#x} is of no variable", rel.offset);
                Error::section(section.name, what)
            })?;
            let ops = &all[number];
            let at = rel.offset - ops.offset as u64;
            let wrong = |what: String| Error::ops(&ops.name, what);
            let Some(composite) = btf.ty(ops.ty).composite() else { continue };
            let members = members.entry(ops.ty).or_insert_with(|| by_offset(composite));
            let member = members.get(&(8 * at)).copied().ok_or_else(|| {
                wrong(format!("`{}` is set at {at:#x}, where no member is", symbol.name))
            })?;
            let name = btf.name(composite.members[member].name);
            if !is_operation(btf, composite.members[member].ty) {
                return Err(wrong(format!("cannot relocate non func ptr {name}")));
            }
            let function = symbol
                .value
                .is_multiple_of(Insn::SIZE as u64)
                .then_some(symbol.value as usize / Insn::SIZE)
                .and_then(|insn| functions::containing(functions, symbol.section, insn))
                .ok_or_else(|| {
                    wrong(format!("cannot find prog `{}` for func ptr {name}", symbol.name))
                })?;
            if !functions[function].is_struct_ops() {
                let function = &functions[function].name;
                return Err(wrong(format!("prog {function} is not struct_ops BPF program")));
            }
            named.insert((number, member), function);
        }
    }
    for ((number, member), function) in named {
        all[number].operations.push((member, function));
    }
    Ok(())
}

fn open(
    btf: &Btf,
    section: usize,
    data: &[u8],
    var: &super::variables::Variable,
) -> Result<OpenOps, Error> {
    let wrong = |what: String| Error::ops(&var.name, what);
    let ty = btf.resolve(var.ty).map_err(|err| wrong(err.to_string()))?;
    let Type::Struct(composite) = btf.ty(ty) else {
        return Err(wrong(format!("{} is not a struct", btf.describe(ty))));
    };
    let size = composite.size as usize;
    Error::limit(format!("bytes of struct_ops {}", var.name), size, limits::OPS_SIZE)?;
    let members = composite.members.len();
    Error::limit(format!("members of struct_ops {}", var.name), members, limits::MEMBERS)?;
    let offset = var.offset as usize;
    let end = offset + size;
    let data = data.get(offset..end).ok_or_else(|| {
        wrong(format!("{} bytes at {offset:#x} are beyond its section", composite.size))
    })?;
    Ok(OpenOps {
        name: var.name.clone(),
        ty,
        data: data.to_vec(),
        operations: Vec::new(),
        link: false,
        autocreate: true,
        section,
        offset,
    })
}

/// The first member at each offset, in bits.
fn by_offset(composite: &Composite) -> BTreeMap<u64, usize> {
    let members = composite.members.iter().enumerate().rev();
    members.map(|(number, member)| (u64::from(member.bit_offset), number)).collect()
}

/// Whether a type is a pointer to a function.
pub(super) fn is_operation(btf: &Btf, ty: TypeId) -> bool {
    let pointer = btf.resolve(ty).unwrap_or(ty);
    let Type::Ptr(to) = *btf.ty(pointer) else { return false };
    let to = btf.resolve(to).unwrap_or(to);
    btf.ty(to).kind() == Kind::FuncProto
}

impl OpenOps {
    /// Compares its members with those of the kernel's type (`bpf_map__init_kern_struct_ops()` in
    /// libbpf). Answers with the numbers of members in the kernel, by member here.
    pub(super) fn check(&self, btf: &Btf, kernel: &Btf) -> Result<Vec<Option<usize>>, Error> {
        let wrong = |what: String| Error::ops(&self.name, what);
        let type_name = essential_name(btf.name_of(self.ty));
        let there = kernel
            .find(type_name, Kind::Struct)
            .ok_or_else(|| wrong(format!("struct {type_name} is not found in kernel BTF")))?;
        let (Some(here), Some(there)) = (btf.ty(self.ty).composite(), kernel.ty(there).composite())
        else {
            return Err(wrong(format!("{type_name} is not a struct")));
        };
        let mut places = Vec::with_capacity(here.members.len());
        for (number, member) in here.members.iter().enumerate() {
            let name = btf.name(member.name);
            let size = btf.size_of(member.ty).map_err(|err| wrong(err.to_string()))? as usize;
            let start = member.bit_offset as usize / 8;
            let value = self.data.get(start..start.saturating_add(size));
            let value = value.ok_or_else(|| wrong(format!("member {name} is beyond its end")))?;
            let operation = self.operations.iter().any(|&(known, _)| known == number);
            let found = there.members.iter().position(|m| kernel.name(m.name) == name);
            let Some(found) = found else {
                if operation || value.iter().any(|&byte| byte != 0) {
                    return Err(wrong(format!("Cannot find member {name} in kernel BTF")));
                }
                places.push(None);
                continue;
            };
            let kernel_member = &there.members[found];
            if member.bits != 0 || kernel_member.bits != 0 {
                return Err(wrong(format!("bitfield {name} is not supported")));
            }
            let here_type = btf.resolve(member.ty).unwrap_or(member.ty);
            let there_type = kernel.resolve(kernel_member.ty).unwrap_or(kernel_member.ty);
            let kinds = (btf.ty(here_type).kind(), kernel.ty(there_type).kind());
            if kinds.0 != kinds.1 {
                let (here, there) = (kinds.0.as_str(), kinds.1.as_str());
                return Err(wrong(format!(
                    "Unmatched member type {name} {here} != {there}(kernel)"
                )));
            }
            if kinds.0 == Kind::Ptr {
                if operation && !is_operation(kernel, there_type) {
                    return Err(wrong(format!("kernel member {name} is not a func ptr")));
                }
                if !operation && value.iter().any(|&byte| byte != 0) {
                    return Err(wrong(format!("member {name} is not a struct_ops program")));
                }
            } else {
                let there = kernel.size_of(there_type).map_err(|err| wrong(err.to_string()))?;
                if size != there as usize {
                    let what = format!("Error in size of member {name}: {size} != {there}(kernel)");
                    return Err(wrong(what));
                }
            }
            places.push(Some(found));
        }
        Ok(places)
    }

    /// As it is in an image, where `program` is a function's number as a program.
    pub(super) fn finish(
        mut self,
        btf: &Btf,
        program: impl Fn(usize) -> Option<usize>,
    ) -> Result<StructOps, Error> {
        let members: &[_] = btf.ty(self.ty).composite().map_or(&[], |all| &all.members);
        let mut operations = Vec::new();
        self.operations.sort_unstable();
        for &(member, function) in &self.operations {
            let offset = members[member].bit_offset as usize / 8;
            let name = btf.name(members[member].name);
            let program = program(function).ok_or_else(|| {
                Error::ops(&self.name, format!("the program of {name} is not loaded"))
            })?;
            if let Some(pointer) = self.data.get_mut(offset..offset + 8) {
                pointer.fill(0);
            }
            operations.push((offset, program));
        }
        let member = |member: &crate::btf::Member| OpsMember {
            name: btf.name(member.name).to_owned(),
            offset: member.bit_offset as usize / 8,
            size: btf.size_of(member.ty).unwrap_or(0) as usize,
            ty: member.ty,
        };
        Ok(StructOps {
            name: self.name,
            type_name: essential_name(btf.name_of(self.ty)).to_owned(),
            type_id: self.ty,
            members: members.iter().map(member).collect(),
            data: self.data,
            operations,
            link: self.link,
        })
    }
}
