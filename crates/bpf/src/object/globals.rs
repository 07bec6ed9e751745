//! An object's variables by name, as its BTF describes them: `name`, `name.member`, `name[2]`.

use super::elf::Elf;
use super::error::Error;
use super::functions::ARENA;
use super::value;
use super::variables::VarSection;
use super::{Object, Target};
use crate::btf::{Btf, Type, TypeId, linkage};

/// What variables are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    /// A map's value, or an arena.
    Map(usize),
    /// A structure of operations.
    Ops(usize),
}

/// A variable.
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) section: String,
    pub(super) place: Place,
}

/// Where a variable, or a part of one, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) store: Store,
    /// Bytes from the start of what it is in.
    pub(super) offset: u32,
    /// Bytes.
    pub(super) size: u32,
    pub(super) ty: TypeId,
}

/// All variables that are in memory, section by section.
pub(super) fn collect(object: &Object, elf: &Elf<'_>, sections: &[VarSection]) -> Vec<Variable> {
    let mut all = Vec::new();
    for section in sections {
        let Some(number) = elf.section(&section.name) else { continue };
        let map = match section.name.as_str() {
            ARENA => object.arena,
            _ => object.data.get(&number).copied(),
        };
        let is_ops = section.name.contains(".struct_ops");
        for var in section.vars.iter().filter(|v| v.is_var && v.linkage != linkage::EXTERN) {
            let ops = || object.ops.iter().position(|ops| is_ops && ops.name == var.name);
            let (store, offset) = match map {
                Some(map) => (Store::Map(map), var.offset),
                None => match ops() {
                    Some(ops) => (Store::Ops(ops), 0),
                    None => continue,
                },
            };
            let place = Place { store, offset, size: var.size, ty: var.ty };
            all.push(Variable { name: var.name.clone(), section: section.name.clone(), place });
        }
    }
    all
}

/// Whether a person gave a variable its name: not the loader's `__SCX_...`, and not a function's own
/// `function.variable`, which cannot be named from outside.
pub fn is_named(name: &str) -> bool {
    !name.starts_with("__") && !name.contains('.')
}

/// Whether a user may want to set it: not what a scheduler tells its end by.
fn is_settable(variable: &Variable) -> bool {
    let of = |prefix: &str| {
        let rest = variable.section.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    [".rodata", ".data", ".bss"].into_iter().any(of)
        && is_named(&variable.name)
        && !matches!(variable.name.as_str(), "uei" | "uei_dump" | "uei_dump_len")
}

/// The names of variables that can be set, for a message: those in sections of their own come after the
/// others, and `.bss`, which mostly counts, is last.
fn those_there_are(variables: &[Variable]) -> String {
    const MOST: usize = 100;
    let mut settable: Vec<_> = variables.iter().filter(|variable| is_settable(variable)).collect();
    settable.sort_by_key(|variable| match variable.section.as_str() {
        ".rodata" | ".data" => 0,
        section if section.starts_with(".bss") => 2,
        _ => 1,
    });
    let names: Vec<_> = settable.iter().take(MOST).map(|variable| &*variable.name).collect();
    match (names.join(", "), settable.len().saturating_sub(MOST)) {
        (names, _) if names.is_empty() => "there are none".to_owned(),
        (names, 0) => format!("there are: {names}"),
        (names, more) => format!("there are: {names}, and {more} more"),
    }
}

impl Object {
    /// Whether it has a variable, or a part of one.
    pub fn has(&self, path: &str) -> bool {
        self.find(path).is_ok()
    }

    /// What a user asks for with `--set KEY=VALUE`: `NAME[]=N` gives a map or an array so many elements
    /// ([`Object::set_len`]), `NAME[*]=N` puts new maps into a map of maps ([`Object::fill_map`]), and
    /// all else is a value ([`Object::set`]).
    ///
    /// # Errors
    /// See there; or `N` is no number.
    pub fn configure(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let number = || {
            let wrong = |_| Error::Variable("give a number of elements".to_owned());
            value.parse().map_err(wrong)
        };
        if let Some(name) = key.strip_suffix("[]") {
            self.set_len(name, number()?)
        } else if let Some(name) = key.strip_suffix("[*]") {
            self.fill_map(name, number()?)
        } else {
            self.set(key, value)
        }
    }

    /// Sets a variable, or a member or an element of one, to a number, a truth value, an
    /// enumerator's name, text, or the first elements of an array to a list: `[1,2]`. So are values of
    /// declared maps by their keys: `map[key].member`.
    ///
    /// # Errors
    /// There is none, and the message names those that there are; or it cannot have the value.
    pub fn set(&mut self, path: &str, value: &str) -> Result<(), Error> {
        let place = match self.find(path) {
            Err(_) if self.names_a_map(path) => return self.set_in_map(path, value),
            found => found?,
        };
        let bytes = value::encode(&self.btf, place.ty, value).map_err(Error::Variable)?;
        self.write(&place, &bytes)
    }

    /// The number that a variable is, before anything runs; nothing if it is none.
    pub fn number(&mut self, path: &str) -> Option<i128> {
        let place = self.find(path).ok()?;
        let (start, size) = (place.offset as usize, place.size as usize);
        let (bytes, _) = self.store(place.store);
        let known = bytes.get(start..).unwrap_or_default();
        let mut all = vec![0; size.min(16)];
        let count = known.len().min(all.len());
        all[..count].copy_from_slice(&known[..count]);
        match value::decode(&self.btf, place.ty, &all)? {
            value::Value::Number(number) => Some(number),
            value::Value::Bool(bool) => Some(bool.into()),
            _ => None,
        }
    }

    /// Gives each variable of `.rodata` that is named for an enumerator of the kernel's
    /// (`__SCX_...`) the value that it has there. What the kernel has not stays 0. Answers with how
    /// many were set.
    ///
    /// # Errors
    /// A section ends before its variable, which is not what [`Object::parse`] leaves.
    pub fn fill_enumerators(&mut self, target: &dyn Target) -> Result<usize, Error> {
        let wanted = self.variables.iter().filter(|v| v.section == ".rodata");
        let wanted: Vec<(String, Place)> = wanted
            .filter(|variable| variable.name.starts_with("__SCX_"))
            .map(|variable| (variable.name[2..].to_owned(), variable.place))
            .collect();
        if wanted.is_empty() {
            return Ok(0);
        }
        let names = wanted.iter().map(|(name, _)| name.as_str()).collect();
        let values = value::enumerators(target.btf(), &names);
        let mut set = 0;
        for (name, place) in &wanted {
            if let Some(value) = values.get(name.as_str()) {
                let bytes = value.to_le_bytes();
                self.write(place, &bytes[..bytes.len().min(place.size as usize)])?;
                set += 1;
            }
        }
        Ok(set)
    }

    fn write(&mut self, place: &Place, bytes: &[u8]) -> Result<(), Error> {
        let start = place.offset as usize;
        let end = start + bytes.len();
        let (data, len) = self.store(place.store);
        if end > len {
            let what = format!("{} bytes at {start:#x} are more than {len:#x}", bytes.len());
            return Err(Error::Variable(what));
        }
        if data.len() < end {
            data.resize(end, 0);
        }
        data[start..end].copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn find(&self, path: &str) -> Result<Place, Error> {
        let end = path.find(['.', '[']).unwrap_or(path.len());
        let (name, mut rest) = path.split_at(end);
        let found = self.variables.iter().find(|variable| variable.name == name);
        let found = found.ok_or_else(|| {
            let there = those_there_are(&self.variables);
            Error::Variable(format!("there is no variable `{name}`; {there}"))
        })?;
        let mut place = found.place;
        while !rest.is_empty() {
            (place, rest) = step(&self.btf, &place, rest).map_err(Error::Variable)?;
        }
        Ok(place)
    }
}

/// Into a member or an element, and what of the path is left.
pub(super) fn step<'a>(
    btf: &Btf,
    whole: &Place,
    rest: &'a str,
) -> Result<(Place, &'a str), String> {
    if let Some(after) = rest.strip_prefix('.') {
        let end = after.find(['.', '[']).unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        return Ok((member(btf, whole, name)?, after));
    }
    let split = rest.strip_prefix('[').and_then(|after| after.split_once(']'));
    let (index, after) = split.ok_or_else(|| format!("`{rest}` is neither .member nor [index]"))?;
    Ok((element(btf, whole, index)?, after))
}

fn member(btf: &Btf, whole: &Place, name: &str) -> Result<Place, String> {
    let ty = btf.resolve(whole.ty).map_err(|err| err.to_string())?;
    if btf.ty(ty).composite().is_none() {
        return Err(format!("`.{name}`: what is before it has no members"));
    }
    let found = btf.member(ty, name).filter(|_| !name.is_empty());
    let found = found.ok_or_else(|| format!("there is no member `{name}`"))?;
    if found.bits != 0 {
        return Err(format!("`{name}` is a bit field, which cannot be set"));
    }
    let size = btf.size_of(found.ty).map_err(|err| err.to_string())?;
    part(whole, u64::from(found.bit_offset / 8), size, found.ty)
}

fn element(btf: &Btf, whole: &Place, index: &str) -> Result<Place, String> {
    let ty = btf.resolve(whole.ty).map_err(|err| err.to_string())?;
    let Type::Array(array) = btf.ty(ty) else {
        return Err(format!("`[{index}]`: what is before it is no array"));
    };
    let i: u32 = index.parse().map_err(|_| format!("`[{index}]` is no index"))?;
    let size = btf.size_of(array.element).map_err(|err| err.to_string())?;
    // A section may have been given room for a part of one.
    let len = whole.size.checked_div(size).unwrap_or(array.len);
    if i >= len {
        return Err(format!("`[{index}]`: it has {len} elements"));
    }
    part(whole, u64::from(i) * u64::from(size), size, array.element)
}

fn part(whole: &Place, at: u64, size: u32, ty: TypeId) -> Result<Place, String> {
    let offset = u32::try_from(u64::from(whole.offset) + at).map_err(|_| "it is too far")?;
    Ok(Place { offset, size, ty, ..*whole })
}
