//! Maps as they are declared in `.maps`, by their types alone (`parse_btf_map_def()` in libbpf).

use super::elf::Elf;
use super::error::{Error, in_map};
use super::functions::{self, Func};
use super::limits;
use super::variables::{VarSection, Variable};
use crate::btf::{Btf, Member, Type, TypeId, linkage};
use crate::image::{Map, MapType};
use crate::insn::Insn;

/// The section of maps.
pub(super) const MAPS: &str = ".maps";

/// `BPF_F_RDONLY_PROG`.
pub(super) const RDONLY_PROG: u32 = 1 << 7;

/// Bytes of a page.
pub(super) const PAGE: u32 = 4096;

/// A map with a place in `.maps`.
pub(super) struct Declared {
    pub(super) map: Map,
    /// What maps in it are like.
    pub(super) inner: Option<Map>,
    /// Bytes from the section's start.
    pub(super) offset: u32,
    /// Bytes of the variable.
    size: u32,
    /// Bytes from the variable's start to its `values`.
    values: Option<u32>,
    /// `LIBBPF_PIN_BY_NAME`.
    pub(super) pinned: bool,
}

/// What a map starts with.
pub(super) enum Slot {
    /// A declared map.
    Map(usize),
    /// A function.
    Program(usize),
}

impl MapType {
    fn holds_maps(self) -> bool {
        matches!(self, Self::ARRAY_OF_MAPS | Self::HASH_OF_MAPS)
    }
}

/// The maps of a section `.maps`.
pub(super) fn declared(btf: &Btf, sections: &[VarSection]) -> Result<Vec<Declared>, Error> {
    let Some(section) = sections.iter().find(|section| section.name == MAPS) else {
        return Ok(Vec::new());
    };
    section.vars.iter().map(|var| declaration(btf, var)).collect()
}

fn declaration(btf: &Btf, var: &Variable) -> Result<Declared, Error> {
    let name = &var.name;
    if name.is_empty() || !var.is_var {
        return Err(Error::section(MAPS, format!("what is at {:#x} is no map", var.offset)));
    }
    if var.linkage != linkage::GLOBAL {
        return Err(Error::map(name, "it is static or extern; a map must be neither"));
    }
    let def = btf.resolve(var.ty).map_err(in_map(name))?;
    let Type::Struct(composite) = btf.ty(def) else {
        return Err(Error::map(
            name,
            format!("it is a {}, not a struct", btf.ty(def).kind().as_str()),
        ));
    };
    if composite.size > var.size {
        return Err(Error::map(name, format!("{} bytes in {}", composite.size, var.size)));
    }
    let mut definition = Definition { btf, inner: None, pinned: false, values: None };
    let map = definition.read(name, &composite.members, true)?;
    let Definition { inner, pinned, values, .. } = definition;
    Ok(Declared { map, inner, offset: var.offset, size: var.size, values, pinned })
}

struct Definition<'a> {
    btf: &'a Btf,
    inner: Option<Map>,
    pinned: bool,
    values: Option<u32>,
}

impl Definition<'_> {
    fn read(&mut self, name: &str, members: &[Member], is_outer: bool) -> Result<Map, Error> {
        let btf = self.btf;
        Error::limit(format!("map {name}: members"), members.len(), limits::DEFINITION)?;
        let mut map = Map { name: name.to_owned(), ..Map::default() };
        for (at, member) in members.iter().enumerate() {
            let field = btf.name(member.name);
            let number = || self.number(name, field, member.ty);
            match field {
                "type" => map.map_type = MapType(number()?),
                "max_entries" => map.max_entries = number()?,
                "map_flags" => map.flags = number()?,
                // Memory is all the same to whoever runs an image.
                "numa_node" => drop(number()?),
                "key_size" => set_size(name, "key", &mut map.key_size, number()?)?,
                "value_size" => set_size(name, "value", &mut map.value_size, number()?)?,
                "key" => {
                    let (ty, size) = self.pointed_to(name, field, member.ty)?;
                    set_size(name, "key", &mut map.key_size, size)?;
                    map.key_type = ty;
                }
                "value" => {
                    let (ty, size) = self.pointed_to(name, field, member.ty)?;
                    set_size(name, "value", &mut map.value_size, size)?;
                    map.value_type = ty;
                }
                "map_extra" => map.extra = self.long(name, field, member.ty)?,
                "pinning" if is_outer => match number()? {
                    0 => {}
                    1 => self.pinned = true,
                    other => return Err(Error::map(name, format!("pinning {other} is unknown"))),
                },
                "values" if is_outer => {
                    if at != members.len() - 1 {
                        return Err(Error::map(name, "`values` is not its last member"));
                    }
                    set_size(name, "value", &mut map.value_size, 4)?;
                    self.values = Some(member.bit_offset / 8);
                    self.inner = self.element(name, map.map_type, member.ty)?;
                }
                "pinning" | "values" => {
                    return Err(Error::map(name, format!("`{field}` in a map inside of a map")));
                }
                other => return Err(Error::map(name, format!("`{other}` is unknown"))),
            }
        }
        if map.map_type == MapType::default() {
            return Err(Error::map(name, "it has no type"));
        }
        if matches!(map.map_type, MapType::RINGBUF | MapType::USER_RINGBUF) {
            map.max_entries = ring_size(map.max_entries);
        }
        if map.map_type.holds_maps() {
            let what = format!("map {name}: maps in it");
            Error::limit(what, map.max_entries as usize, limits::ENTRIES)?;
        }
        map.read_only = map.flags & RDONLY_PROG != 0;
        Ok(map)
    }

    /// `__uint(field, number)`: a pointer to an array of so many.
    fn number(&self, map: &str, field: &str, ty: TypeId) -> Result<u32, Error> {
        let id = self.btf.resolve(ty).map_err(in_map(map))?;
        let Type::Ptr(to) = self.btf.ty(id) else { return Err(self.unexpected(map, field, id)) };
        match self.btf.ty(*to) {
            Type::Array(array) => Ok(array.len),
            _ => Err(self.unexpected(map, field, *to)),
        }
    }

    /// `__ulong(field, number)`: an enumeration with one name; or as above.
    fn long(&self, map: &str, field: &str, ty: TypeId) -> Result<u64, Error> {
        let id = self.btf.resolve(ty).map_err(in_map(map))?;
        match self.btf.ty(id) {
            Type::Ptr(_) => self.number(map, field, id).map(u64::from),
            Type::Enum(e) => match &e.values[..] {
                [value] => Ok(value.bits),
                _ => Err(Error::map(map, format!("`{field}` has not one value"))),
            },
            _ => Err(self.unexpected(map, field, id)),
        }
    }

    /// `__type(field, type)`: a pointer to it.
    fn pointed_to(&self, map: &str, field: &str, ty: TypeId) -> Result<(TypeId, u32), Error> {
        let Type::Ptr(to) = self.btf.ty(ty) else { return Err(self.unexpected(map, field, ty)) };
        Ok((*to, self.btf.size_of(*to).map_err(in_map(map))?))
    }

    /// `__array(values, type)`: the map that is declared by the type, or nothing for programs.
    fn element(&mut self, map: &str, kind: MapType, ty: TypeId) -> Result<Option<Map>, Error> {
        let btf = self.btf;
        if !kind.holds_maps() && kind != MapType::PROG_ARRAY {
            return Err(Error::map(
                map,
                "`values` in a map that is neither of maps nor of programs",
            ));
        }
        let id = match btf.ty(ty) {
            Type::Array(array) if array.len == 0 => array.element,
            _ => return Err(self.unexpected(map, "values", ty)),
        };
        let id = btf.resolve(id).map_err(in_map(map))?;
        let Type::Ptr(to) = btf.ty(id) else { return Err(self.unexpected(map, "values", id)) };
        let id = btf.resolve(*to).map_err(in_map(map))?;
        match btf.ty(id) {
            Type::FuncProto(_) if kind == MapType::PROG_ARRAY => Ok(None),
            Type::Struct(def) if kind.holds_maps() => {
                self.read(&format!("{map}.inner"), &def.members, false).map(Some)
            }
            _ => Err(self.unexpected(map, "values", id)),
        }
    }

    fn unexpected(&self, map: &str, field: &str, ty: TypeId) -> Error {
        let kind = self.btf.ty(ty).kind().as_str();
        Error::map(map, format!("`{field}` is of an unexpected kind, {kind}"))
    }
}

fn set_size(map: &str, what: &str, known: &mut u32, size: u32) -> Result<(), Error> {
    if *known != 0 && *known != size {
        return Err(Error::map(map, format!("two sizes of its {what}: {known} and {size}")));
    }
    *known = size;
    Ok(())
}

/// A ring has a power of two of pages: what is not is made larger (`adjust_ringbuf_sz()`).
fn ring_size(size: u32) -> u32 {
    let pages = size / PAGE;
    if size.is_multiple_of(PAGE) && (pages.is_power_of_two() || size == 0) {
        return size;
    }
    let larger = (pages + 1).next_power_of_two().checked_mul(PAGE);
    larger.unwrap_or(size)
}

/// What maps of maps and program arrays start with: map, key and value of each.
pub(super) fn slots(
    elf: &Elf<'_>,
    bytes: &[u8],
    maps: &[Declared],
    functions: &[Func],
) -> Result<Vec<(usize, usize, Slot)>, Error> {
    let Some(number) = elf.section(MAPS) else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for section in elf.sections.iter().filter(|s| s.is_relocations() && s.info == number) {
        let relocations = elf.relocations(section, bytes)?;
        let count = all.len() + relocations.len();
        Error::limit("values of maps", count, limits::SLOTS)?;
        for rel in relocations {
            let wrong = |what: &str| {
                Error::section(MAPS, format!("relocation at {:#x}: {what}", rel.offset))
            };
            // By offset: the last one that begins there or before.
            let at = maps.partition_point(|map| u64::from(map.offset) <= rel.offset);
            let index = at.checked_sub(1).ok_or_else(|| wrong("there is no map"))?;
            let owner = &maps[index];
            let within = rel.offset - u64::from(owner.offset);
            if within + 8 > u64::from(owner.size) {
                return Err(wrong("there is no map"));
            }
            let name = &owner.map.name;
            let values = owner.values.ok_or_else(|| Error::map(name, "it takes no values"))?;
            let key = within
                .checked_sub(u64::from(values))
                .filter(|at| at.is_multiple_of(8))
                .ok_or_else(|| Error::map(name, format!("a value at {within:#x} of it")))?;
            let key = key as usize / 8;
            Error::limit(format!("map {name}: values"), key + 1, limits::ENTRIES)?;
            let symbol = &elf.symbols[rel.symbol];
            let slot = if owner.map.map_type == MapType::PROG_ARRAY {
                let insn = (symbol.value / Insn::SIZE as u64) as usize;
                let found = functions::starting(functions, symbol.section, insn);
                let found = found.filter(|&found| {
                    functions[found].program.is_some()
                        && symbol.value.is_multiple_of(Insn::SIZE as u64)
                });
                Slot::Program(found.ok_or_else(|| {
                    Error::map(name, format!("value {key}: `{}` is no program", symbol.name))
                })?)
            } else {
                if owner.map.map_type == MapType::HASH_OF_MAPS && owner.map.key_size != 4 {
                    return Err(Error::map(name, "with values its keys must have 4 bytes"));
                }
                let at = maps.partition_point(|map| u64::from(map.offset) < symbol.value);
                let is_it = |map: &Declared| u64::from(map.offset) == symbol.value;
                let found = maps.get(at).is_some_and(is_it) && symbol.section == number;
                let found = found.then_some(at);
                Slot::Map(found.ok_or_else(|| {
                    Error::map(name, format!("value {key}: `{}` is no map", symbol.name))
                })?)
            };
            all.push((index, key, slot));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_have_a_power_of_two_of_pages() {
        for (asked, given) in
            [(0, 0), (1, 4096), (4096, 4096), (4097, 8192), (12288, 16384), (1 << 31, 1 << 31)]
        {
            assert_eq!(ring_size(asked), given, "{asked}");
        }
        // Cannot be made larger: the kernel refuses it.
        assert_eq!(ring_size(u32::MAX), u32::MAX);
    }
}
