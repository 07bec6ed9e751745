//! What was set, for a loader that has the same file opened with libbpf: the agent on a real kernel.
//!
//! So variables, programs and maps are chosen by one code, whoever loads the object.

use super::globals::Store;
use super::struct_ops::is_operation;
use super::{Object, text};
use crate::btf::{Type, TypeId, essential_name};
use crate::image::{Global, Map};

/// A structure of operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenStructOps<'a> {
    /// Its symbol, which is the name of libbpf's map for it.
    pub name: &'a str,
    /// Its type without a flavour: `sched_ext_ops`.
    pub type_name: &'a str,
    /// Whether it is loaded.
    pub autocreate: bool,
    /// Its members, in order. Pointers that are to no function are left out.
    pub members: Vec<(OpenMember<'a>, OpenValue<'a>)>,
}

/// A member of a structure of operations, where the object has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenMember<'a> {
    /// Its name.
    pub name: &'a str,
    /// Bytes from the start.
    pub offset: usize,
}

/// What a member is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenValue<'a> {
    /// A number or text, as it is in memory.
    Bytes(&'a [u8]),
    /// A program, or none.
    Program(Option<&'a str>),
}

impl OpenStructOps<'_> {
    /// A member that is text, up to its 0: `name`.
    pub fn text(&self, name: &str) -> Option<String> {
        let (_, value) = self.members.iter().find(|(member, _)| member.name == name)?;
        let OpenValue::Bytes(bytes) = value else { return None };
        Some(text(bytes))
    }
}

impl Object {
    /// The declared maps, then the sections of data, each as it is to be created and to start with.
    pub fn maps(&self) -> &[Map] {
        &self.maps
    }

    /// The maps of maps that [`Object::fill_map`] was asked for: the map, what each map in it is like,
    /// and how many there are to be.
    pub fn filled_maps(&self) -> impl Iterator<Item = (&Map, &Map, usize)> {
        self.inner.iter().filter_map(|(map, inner)| {
            self.filled.get(map).map(|count| (&self.maps[*map], inner, *count))
        })
    }

    /// The programs of which somebody said whether they are loaded, with what was said.
    pub fn decided(&self) -> impl Iterator<Item = (&str, bool)> {
        let decided = self.functions.iter().filter(|f| f.decided && f.program.is_some());
        decided.map(|function| (function.name.as_str(), function.autoload))
    }

    /// All structures of operations, also those that are not loaded.
    pub fn open_struct_ops(&self) -> impl Iterator<Item = OpenStructOps<'_>> {
        self.ops.iter().map(|ops| {
            let members = match self.btf.ty(ops.ty) {
                Type::Struct(composite) => &composite.members[..],
                _ => &[],
            };
            let value = |(number, member): (usize, &crate::btf::Member)| {
                let offset = member.bit_offset as usize / 8;
                let open = OpenMember { name: self.btf.name(member.name), offset };
                if is_operation(&self.btf, member.ty) {
                    let set = ops.operations.iter().find(|&&(known, _)| known == number);
                    let name = |&(_, function): &(_, usize)| self.functions[function].name.as_str();
                    return Some((open, OpenValue::Program(set.map(name))));
                }
                let id = self.btf.resolve(member.ty).ok()?;
                let size = self.btf.size_of(id).ok()? as usize;
                let bytes = ops.data.get(offset..offset.checked_add(size)?)?;
                let is_pointer = matches!(self.btf.ty(id), Type::Ptr(_));
                (!is_pointer).then_some((open, OpenValue::Bytes(bytes)))
            };
            OpenStructOps {
                name: &ops.name,
                type_name: essential_name(self.btf.name_of(ops.ty)),
                autocreate: ops.autocreate,
                members: members.iter().enumerate().filter_map(value).collect(),
            }
        })
    }

    /// All variables that are in sections of data or in the arena.
    pub fn globals(&self) -> impl Iterator<Item = Global> {
        self.variables.iter().filter_map(|variable| {
            let (section, place) = (&variable.section, variable.place);
            let Store::Map(map) = place.store else { return None };
            Some(global(&variable.name, section, map, (place.offset, place.size, place.ty)))
        })
    }

    /// A variable, or a member or an element of one: its path, and where it is.
    pub fn global(&self, path: &str) -> Option<Global> {
        let place = self.find(path).ok()?;
        let Store::Map(map) = place.store else { return None };
        let name = &path[..path.find(['.', '[']).unwrap_or(path.len())];
        let variable = self.variables.iter().find(|variable| variable.name == name)?;
        Some(global(path, &variable.section, map, (place.offset, place.size, place.ty)))
    }
}

fn global(name: &str, section: &str, map: usize, (offset, size, ty): (u32, u32, TypeId)) -> Global {
    let (name, section) = (name.to_owned(), section.to_owned());
    Global { name, section, map, offset: offset.into(), size, ty }
}
