//! From an object file to an [`Image`]: what libbpf does before the `bpf()` system call.
//!
//! [`Object::parse`] takes a file apart and needs no kernel. Then a user sets variables, as a
//! scheduler's own user space does between opening and loading. [`Object::load`] relocates it for a
//! [`Target`]. Any bytes may be given: the answer is an object, or one [`Error`] that says what is
//! wrong and where. Time and memory grow with the file and are limited: see [`limits`].
//!
//! What libbpf does is done as it does it, with its words in messages. Where it is stricter here:
//! sections or functions that overlap, offsets into data that the kernel would refuse, and the
//! limits. Where it is not: a function in any section may be called, not only in `.text`.

mod always;
mod compat;
mod core;
mod elements;
mod elf;
mod error;
mod externs;
mod functions;
mod gaps;
mod globals;
mod handover;
mod kinds;
pub mod limits;
mod load;
mod maps;
mod place;
mod reach;
mod struct_ops;
mod target;
mod value;
mod variables;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use self::elf::Elf;
pub use self::error::Error;
use self::externs::Extern;
use self::functions::Func;
pub use self::globals::is_named;
use self::globals::{Store, Variable};
pub use self::handover::{OpenMember, OpenStructOps, OpenValue};
use self::maps::{RDONLY_PROG, Slot};
use self::struct_ops::OpenOps;
pub use self::target::{Kernel, Target, version_code};
pub use self::value::{Value, decode, encode};
use self::variables::VarSection;
use crate::Image;
use crate::btf::{Btf, BtfExt, Kind, Type, TypeId, linkage};
use crate::image::{Map, MapType};

/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

/// An object file that has been taken apart, and is not relocated for any kernel.
pub struct Object {
    btf: Arc<Btf>,
    ext: BtfExt,
    functions: Vec<Func>,
    /// The numbers of the sections of code.
    code: BTreeMap<String, usize>,
    externs: Vec<Extern>,
    /// Declared maps, then sections of data.
    maps: Vec<Map>,
    /// Where the declared maps are in `.maps`.
    declared: Vec<u32>,
    /// What maps in declared maps are like.
    inner: Vec<(usize, Map)>,
    /// What declared maps start with: map, key, value.
    slots: Vec<(usize, usize, Slot)>,
    /// How many values of maps of maps get a map of their own, map by map.
    filled: BTreeMap<usize, usize>,
    /// The maps that sections of data are.
    data: BTreeMap<usize, usize>,
    arena: Option<usize>,
    jumptables: Vec<u8>,
    ops: Vec<OpenOps>,
    variables: Vec<Variable>,
    license: String,
    notes: Vec<String>,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let programs: Vec<_> = self.programs().collect();
        f.debug_struct("Object").field("programs", &programs).finish_non_exhaustive()
    }
}

/// Whether a type of an object can be taken for one of a kernel, as the type of a function that it
/// calls must be (`bpf_core_types_are_compat()` in libbpf).
///
/// # Errors
/// The types lead too far.
pub fn are_compatible(local: (&Btf, TypeId), kernel: (&Btf, TypeId)) -> Result<bool, String> {
    compat::types_are_compatible(&mut compat::Matching::default(), local, kernel)
}

/// Takes an object apart and relocates it for a kernel, as it is.
///
/// # Errors
/// See [`Object::parse`] and [`Object::load`].
pub fn load(bytes: &[u8], target: &dyn Target) -> Result<Image, Error> {
    Object::parse(bytes)?.load(target)
}

impl Object {
    /// Takes an object file apart.
    ///
    /// # Errors
    /// It is no relocatable ELF file for little-endian BPF, is damaged or too large, has no BTF, or
    /// declares what makes no sense.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let elf = Elf::parse(bytes)?;
        let section = |name: &str| elf.section(name).map(|number| &elf.sections[number]);
        let types = section(".BTF").filter(|types| !types.data.is_empty());
        let types = types.ok_or_else(|| {
            Error::section(".BTF", "there are no types; compile the object with -g")
        })?;
        let in_btf = |section| move |err| Error::Btf { section, err };
        let btf = Btf::parse(types.data).map_err(in_btf(".BTF"))?;
        btf.check_ends().map_err(|err| Error::section(".BTF", err.to_string()))?;
        let ext = match section(".BTF.ext") {
            Some(ext) if !ext.data.is_empty() => {
                BtfExt::parse(ext.data, &btf).map_err(in_btf(".BTF.ext"))?
            }
            _ => BtfExt::default(),
        };
        if section("maps").is_some() {
            return Err(Error::section(
                "maps",
                "maps of this old form are not supported: use .maps",
            ));
        }
        if section("version").is_some_and(|version| version.size != 4) {
            return Err(Error::section("version", "a version has 4 bytes"));
        }
        let mut functions = functions::find(&elf, &btf)?;
        functions::refer(&elf, bytes, &mut functions)?;
        let externs = externs::collect(&elf, &btf)?;
        let sections = variables::sections(&elf, &btf)?;
        let declared = maps::declared(&btf, &sections)?;
        let slots = maps::slots(&elf, bytes, &declared, &functions)?;
        let ops = struct_ops::find(&elf, bytes, &btf, &sections, &functions)?;
        let license = section("license").map_or(&[][..], |license| license.data);
        let mut object = Self {
            ext,
            functions,
            code: BTreeMap::new(),
            externs,
            maps: Vec::new(),
            declared: Vec::new(),
            inner: Vec::new(),
            slots,
            filled: BTreeMap::new(),
            data: BTreeMap::new(),
            arena: None,
            jumptables: Vec::new(),
            ops,
            variables: Vec::new(),
            license: text(&license[..license.len().min(limits::NAME)]),
            notes: Vec::new(),
            btf: Arc::new(btf),
        };
        object.take_maps(declared);
        object.take_data(&elf, &sections)?;
        object.take_arena(&elf)?;
        object.variables = globals::collect(&object, &elf, &sections);
        for (number, section) in elf.sections.iter().enumerate().filter(|(_, s)| s.is_code()) {
            object.code.entry(section.name.to_owned()).or_insert(number);
        }
        if let Some(tables) = section(functions::JUMPTABLES) {
            object.jumptables = tables.data.to_vec();
        }
        Ok(object)
    }

    /// Its types.
    pub fn btf(&self) -> &Arc<Btf> {
        &self.btf
    }

    fn take_maps(&mut self, declared: Vec<maps::Declared>) {
        for declared in declared {
            if declared.pinned {
                let note = format!("map {} is not pinned: there is no bpffs", declared.map.name);
                self.notes.push(note);
            }
            if let Some(inner) = declared.inner {
                self.inner.push((self.maps.len(), inner));
            }
            self.declared.push(declared.offset);
            self.maps.push(declared.map);
        }
    }

    /// Sections of data, each of which is a map with one value.
    fn take_data(&mut self, elf: &Elf<'_>, sections: &[VarSection]) -> Result<(), Error> {
        let mut total = 0_usize;
        for (number, section) in elf.sections.iter().enumerate() {
            let is_arena = section.name == functions::ARENA && section.has_bits();
            if !functions::is_data(section) && !is_arena {
                continue;
            }
            total = total.saturating_add(section.size);
            Error::limit(
                format!("bytes of data, with section {}", section.name),
                total,
                limits::DATA,
            )?;
            if is_arena {
                continue;
            }
            let read_only = section.name.starts_with(".rodata");
            let vars = sections.iter().find(|vars| vars.name == section.name);
            let is_shared = |vars: &VarSection| {
                vars.vars.iter().any(|var| var.is_var && var.linkage != linkage::STATIC)
            };
            let mut flags = if read_only { RDONLY_PROG } else { 0 };
            flags |= if vars.is_some_and(is_shared) { MMAPABLE } else { 0 };
            self.data.insert(number, self.maps.len());
            self.maps.push(Map {
                name: section.name.to_owned(),
                map_type: MapType::ARRAY,
                key_size: 4,
                value_size: section.size as u32,
                max_entries: 1,
                flags,
                value_type: vars.map_or(0, |vars| vars.id),
                initial: section.data.to_vec(),
                read_only,
                ..Map::default()
            });
            Error::limit("maps", self.maps.len(), limits::MAPS)?;
        }
        Ok(())
    }

    fn take_arena(&mut self, elf: &Elf<'_>) -> Result<(), Error> {
        let arenas: Vec<usize> =
            (0..self.maps.len()).filter(|&map| self.maps[map].map_type == MapType::ARENA).collect();
        if let [first, second, ..] = arenas[..] {
            let first = &self.maps[first].name;
            let what = format!("only one arena is supported (map {first} is one, too)");
            return Err(Error::map(&self.maps[second].name, what));
        }
        self.arena = arenas.first().copied();
        let section = elf.section(functions::ARENA).map(|number| &elf.sections[number]);
        let Some(section) = section.filter(|s| s.has_bits() && s.size > 0) else { return Ok(()) };
        let arena = self.arena.ok_or_else(|| {
            Error::section(section.name, "variables in an arena, but no arena is declared in .maps")
        })?;
        let arena = &mut self.maps[arena];
        let room = u64::from(maps::PAGE) * u64::from(arena.max_entries);
        let size = section.size as u64;
        if size.next_multiple_of(maps::PAGE.into()) > room {
            let name = &arena.name;
            return Err(Error::section(
                section.name,
                format!("{size} bytes in {room} of arena {name}"),
            ));
        }
        arena.initial = section.data.to_vec();
        Ok(())
    }

    /// Makes a section of data have so many bytes, as `bpf_map__set_value_size()` does: schedulers
    /// have arrays at the end of one, whose length is only known when they are run. Such an array is
    /// then as large as there is room, and its type says so. Where that is no whole number of
    /// elements, or there is no such array, the section has no type any more, as with libbpf.
    ///
    /// # Errors
    /// There is no such section, or it would be too large.
    pub fn resize(&mut self, section: &str, bytes: usize) -> Result<(), Error> {
        let map = self.data.values().copied().find(|&map| self.maps[map].name == section);
        let map = map.ok_or_else(|| Error::section(section, "it is not there"))?;
        let others = |other: &&usize| **other != map;
        let others: usize =
            self.data.values().filter(others).map(|&map| self.maps[map].value_size as usize).sum();
        let total = bytes.saturating_add(others);
        Error::limit(format!("bytes of data, with section {section}"), total, limits::DATA)?;
        self.maps[map].value_size = bytes as u32;
        self.maps[map].initial.truncate(bytes);
        let is_here = |variable: &&mut Variable| variable.place.store == Store::Map(map);
        let last = self.variables.iter_mut().filter(is_here).max_by_key(|v| v.place.offset);
        let section = std::mem::take(&mut self.maps[map].value_type);
        if let Some(Variable { name, place, .. }) = last
            && let Ok(ty) = self.btf.resolve(place.ty)
            && self.btf.ty(ty).kind() == Kind::Array
        {
            let bytes = bytes as u32;
            place.size = bytes.saturating_sub(place.offset);
            let btf = Arc::make_mut(&mut self.btf);
            if let Some(ty) = btf.resize_array(section, name, place.offset, bytes) {
                place.ty = ty;
                self.maps[map].value_type = section;
            }
        }
        Ok(())
    }

    /// Gives a map so many entries, or an array that is the last variable of its section so many
    /// elements: what a scheduler's user space does that knows how many CPUs there are.
    ///
    /// # Errors
    /// There is nothing of this name that has a length, or it would be too large.
    pub fn set_len(&mut self, name: &str, len: u32) -> Result<(), Error> {
        if let Some(map) = self.maps.iter().position(|map| map.name == name) {
            if self.data.values().any(|&data| data == map) {
                return Err(Error::map(name, "a section of data has one value"));
            }
            self.maps[map].max_entries = len;
            return Ok(());
        }
        let known = self.variables.iter().find(|variable| variable.name == name);
        let missing = || Error::Variable(format!("there is no map and no array `{name}`"));
        let Variable { section, place, .. } = known.ok_or_else(missing)?;
        let ty = self.btf.resolve(place.ty).map_err(|err| Error::Variable(err.to_string()))?;
        let Type::Array(array) = self.btf.ty(ty) else { return Err(missing()) };
        let element = self.btf.size_of(array.element);
        let element = element.map_err(|err| Error::Variable(err.to_string()))?;
        let here = self.variables.iter().filter(|v| v.place.store == place.store);
        if here.into_iter().any(|other| other.place.offset > place.offset) {
            let what = format!("array `{name}` is not the last variable of {section}");
            return Err(Error::Variable(what));
        }
        let bytes = u64::from(place.offset) + u64::from(element) * u64::from(len);
        let (section, bytes) = (section.clone(), usize::try_from(bytes).unwrap_or(usize::MAX));
        self.resize(&section, bytes)
    }

    /// Puts a new map into each of the first so many entries of a map of maps, as it is declared for
    /// them: what a scheduler's user space does with more of them than an object can list.
    ///
    /// # Errors
    /// There is no map of maps of this name that says what is in it, or not so much room.
    pub fn fill_map(&mut self, name: &str, count: u32) -> Result<(), Error> {
        let known = self.inner.iter().find(|(map, _)| self.maps[*map].name == name);
        let Some(&(map, _)) = known else {
            let what = "there is no map of maps of this name that is declared with its `values`";
            return Err(Error::map(name, what));
        };
        let most = self.maps[map].max_entries;
        if count > most {
            return Err(Error::map(name, format!("{count} maps in {most} entries")));
        }
        let others = self.filled.iter().filter(|(other, _)| **other != map);
        let others: usize = others.map(|(_, count)| *count).sum();
        Error::limit("maps in maps", others + count as usize, limits::MAPS)?;
        self.filled.insert(map, count as usize);
        Ok(())
    }

    /// The names of all programs, with their sections, and whether they are loaded.
    pub fn programs(&self) -> impl Iterator<Item = (&str, &str, bool)> {
        self.functions.iter().filter_map(|function| {
            Some((function.name.as_str(), function.program.as_deref()?, function.autoload))
        })
    }

    /// Has a program loaded, or left out without a note. A struct_ops program is loaded if it is an
    /// operation: see [`Object::clear_operation`].
    ///
    /// # Errors
    /// There is none of this name.
    pub fn set_autoload(&mut self, program: &str, autoload: bool) -> Result<(), Error> {
        let is_it = |f: &&mut Func| f.name == program && f.program.is_some();
        let missing =
            || Error::Program { program: program.to_owned(), what: "it is not there".into() };
        let function = self.functions.iter_mut().find(is_it).ok_or_else(missing)?;
        function.autoload = autoload;
        function.decided = true;
        Ok(())
    }

    /// Has a program not loaded, without a note; what has it as an operation goes without that one.
    /// As a scheduler's user space does that has no use for it.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn leave_out(&mut self, program: &str) -> Result<(), Error> {
        self.set_autoload(program, false)?;
        for ops in &mut self.ops {
            let is_it = |function: usize| self.functions[function].name == program;
            ops.operations.retain(|&(_, function)| !is_it(function));
        }
        Ok(())
    }

    /// The names of all structures of operations that are loaded, with their types' names.
    pub fn struct_ops(&self) -> impl Iterator<Item = (&str, &str)> {
        let loaded = self.ops.iter().filter(|ops| ops.autocreate);
        loaded.map(|ops| (ops.name.as_str(), self.btf.name_of(ops.ty)))
    }

    /// The names of those that the object has off: [`Object::choose_struct_ops`] has one loaded.
    pub fn struct_ops_off(&self) -> impl Iterator<Item = &str> {
        self.ops.iter().filter(|ops| !ops.autocreate).map(|ops| ops.name.as_str())
    }

    /// Has this one of all structures of operations loaded, and its programs, and no other one: what
    /// a scheduler's user space does whose object has several.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn choose_struct_ops(&mut self, name: &str) -> Result<(), Error> {
        if !self.ops.iter().any(|ops| ops.name == name) {
            let names: Vec<_> = self.ops.iter().map(|ops| ops.name.as_str()).collect();
            let there = match names.is_empty() {
                true => "there are none".to_owned(),
                false => format!("there are: {}", names.join(", ")),
            };
            return Err(Error::ops(name, format!("it is not there; {there}")));
        }
        for ops in &mut self.ops {
            ops.autocreate = ops.name == name;
            for &(_, function) in ops.operations.iter().filter(|_| ops.name != name) {
                self.functions[function].decided = true;
            }
        }
        Ok(())
    }

    /// Takes an operation away, as a scheduler's user space does that sees that the kernel lacks it.
    /// The program is left out if nothing else uses it. Answers whether it was there.
    ///
    /// # Errors
    /// There is no such structure of operations, or it has no such member.
    pub fn clear_operation(&mut self, ops: &str, member: &str) -> Result<bool, Error> {
        let found = self.ops.iter_mut().find(|open| open.name == ops);
        let found = found.ok_or_else(|| Error::ops(ops, "it is not there"))?;
        let composite = self.btf.ty(found.ty).composite();
        let number = composite
            .and_then(|all| all.members.iter().position(|m| self.btf.name(m.name) == member))
            .ok_or_else(|| Error::ops(ops, format!("there is no member `{member}`")))?;
        let cleared = found.operations.iter().find(|&&(known, _)| known == number).copied();
        found.operations.retain(|&(known, _)| known != number);
        let Some((_, function)) = cleared else { return Ok(false) };
        let is_used = |open: &OpenOps| open.operations.iter().any(|&(_, used)| used == function);
        if !self.ops.iter().any(is_used) {
            self.functions[function].autoload = false;
        }
        Ok(true)
    }

    /// The bytes that variables are in.
    fn store(&mut self, store: Store) -> (&mut Vec<u8>, usize) {
        match store {
            Store::Map(map) => {
                let map = &mut self.maps[map];
                let len = match map.map_type {
                    MapType::ARENA => map.initial.len(),
                    _ => map.value_size as usize,
                };
                (&mut map.initial, len)
            }
            Store::Ops(ops) => {
                let data = &mut self.ops[ops].data;
                let len = data.len();
                (data, len)
            }
        }
    }
}

/// Up to a 0.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
