//! The part that needs a kernel: operations, programs, CO-RE and externs, in libbpf's order.

use std::collections::{BTreeMap, BTreeSet};

use super::compat::Matching;
use super::core::{Core, Patched, patch};
use super::error::Error;
use super::externs::{self, ExternKind, Wrong};
use super::functions::{Reference, To};
use super::gaps::Gap;
use super::maps::{PAGE, RDONLY_PROG};
use super::place::Placer;
use super::target::Target;
use super::variables::KCONFIG;
use super::{MMAPABLE, Object, functions, gaps, kinds, limits, reach};
use crate::Image;
use crate::btf::{Btf, BtfExt, Kind, Type, TypeId};
use crate::image::{Line, Map, MapType, Poison};
use crate::insn::Insn;

/// What is complained of, at most.
const MOST: usize = 100;

/// libbpf's words (`bpf_core_patch_insn()`).
const OTHER_SIZE: &str = "accesses field incorrectly. Make sure you are accessing pointers, unsigned \
    integers, or fields of matching type and size.";

/// What the kernel says to externs.
struct Externs {
    /// Which of them it has.
    resolved: Vec<bool>,
    /// The bytes of its configuration.
    config: Vec<u8>,
    /// What the target lacks.
    lacking: Vec<String>,
}

impl Object {
    /// Relocates it for a kernel.
    ///
    /// # Errors
    /// The kernel lacks something that the object cannot do without: a function, a variable, a value
    /// of its configuration ([`Error::Extern`] names them all), an operation. Or a relocation is not
    /// what it must be. What only a target lacks that stands in for a kernel is in
    /// [`Image::lacking`].
    pub fn load(mut self, target: &dyn Target) -> Result<Image, Error> {
        self.check_operations(target)?;
        self.leave_out_idle(target);
        self.check_programs()?;
        let mut matching = Matching::default();
        let gaps = self.relocate_types(target, &mut matching)?;
        // libbpf relocates types in these too, and nothing more.
        reach::leave_out_unreached(&mut self.functions);
        let Externs { resolved, config, lacking } = self.resolve_externs(target, &mut matching)?;
        self.place_arena(target);
        let config = self.take_config(config);
        let placed = Placer::new(&self, &resolved, config).place(&gaps).and_then(|mut image| {
            image.lines = self.lines(&image)?;
            Ok(image)
        });
        let mut image = self.check_lacking(placed, lacking, &gaps)?;
        image.btf = self.btf.clone();
        image.notes.append(&mut self.notes);
        image.license = std::mem::take(&mut self.license);
        self.finish(image)
    }

    /// Compares structures of operations with the kernel's, and loads the programs that they name.
    fn check_operations(&mut self, target: &dyn Target) -> Result<(), Error> {
        // What a program is an operation of: the type, and the member in the kernel.
        let mut used: Vec<Option<(&str, usize)>> = vec![None; self.functions.len()];
        let mut autoload: Vec<Option<bool>> = vec![None; self.functions.len()];
        for ops in &self.ops {
            if !ops.autocreate {
                for &(_, function) in &ops.operations {
                    autoload[function].get_or_insert(false);
                }
                continue;
            }
            let places = ops.check(&self.btf, target.btf())?;
            let ty = crate::btf::essential_name(self.btf.name_of(ops.ty));
            for &(member, function) in &ops.operations {
                autoload[function] = Some(true);
                let Some(place) = places[member] else { continue };
                let known = used[function].get_or_insert((ty, place));
                if *known != (ty, place) {
                    let program = &self.functions[function].name;
                    let what = format!("invalid reuse of prog {program} for another operation");
                    return Err(Error::ops(&ops.name, what));
                }
            }
        }
        for (function, autoload) in self.functions.iter_mut().zip(autoload) {
            function.autoload = autoload.unwrap_or(function.autoload);
        }
        Ok(())
    }

    /// Leaves out what is never run. An operation is never one of these.
    fn leave_out_idle(&mut self, target: &dyn Target) {
        for function in self.functions.iter_mut().filter(|function| function.autoload) {
            let Some(section) = &function.program else { continue };
            if let Some(why) = target.never_runs(section) {
                let name = &function.name;
                self.notes.push(format!("program {name} ({section}) is left out: {why}"));
                function.autoload = false;
                function.decided = true;
            }
        }
    }

    fn check_programs(&mut self) -> Result<(), Error> {
        let operations = self.ops.iter().flat_map(|ops| &ops.operations);
        let used: BTreeSet<usize> = operations.map(|&(_, function)| function).collect();
        let btf = self.btf.clone();
        let callbacks = exception_callbacks(&btf);
        for (number, function) in self.functions.iter().enumerate() {
            let Some(section) = &function.program else { continue };
            let name = &function.name;
            let wrong = |what: String| Error::Program { program: name.clone(), what };
            if function.autoload
                && let Some(callback) = callbacks.get(name.as_str())
            {
                return Err(wrong(format!("its exception callback {callback} is not supported")));
            }
            if !function.autoload {
                if !function.decided {
                    self.notes.push(format!("program {name} ({section}) is not loaded"));
                }
                continue;
            }
            if !kinds::is_known(section) {
                return Err(wrong(format!(
                    "missing BPF prog type, check ELF section name '{section}'"
                )));
            }
            if function.is_struct_ops() && !used.contains(&number) {
                let what = "it is no operation of any struct_ops; a kernel refuses it";
                return Err(wrong(what.to_owned()));
            }
        }
        Ok(())
    }

    /// Names all that it needs and the target lacks.
    fn check_lacking(
        &self,
        placed: Result<Image, Error>,
        mut lacking: Vec<String>,
        gaps: &[Gap],
    ) -> Result<Image, Error> {
        let mut image = match placed {
            Ok(image) => image,
            // That may be so for want of what is lacking.
            Err(_) if !lacking.is_empty() => {
                shorten(&mut lacking);
                return Err(Error::Lacking(lacking));
            }
            Err(err) => return Err(err),
        };
        lacking.extend(gaps::lacking(self, &image, gaps));
        shorten(&mut lacking);
        image.lacking = lacking;
        Ok(image)
    }

    /// CO-RE. Answers with what must not be reached.
    fn relocate_types(
        &mut self,
        target: &dyn Target,
        matching: &mut Matching,
    ) -> Result<Vec<Gap>, Error> {
        let mut core = Core::new(&self.btf, target.btf(), matching);
        let mut gaps = Vec::new();
        for records in &self.ext.relocations {
            let name = self.btf.name(records.section);
            let section = self.code.get(name).copied().ok_or_else(|| {
                Error::section(name, "CO-RE relocations of it, but it has no instructions")
            })?;
            for relo in &records.records {
                let (offset, unit) = (relo.offset as usize, Insn::SIZE);
                if !offset.is_multiple_of(unit) {
                    let what = format!("a CO-RE relocation at {offset:#x}, in an instruction");
                    return Err(Error::section(name, what));
                }
                // A linker leaves relocations of functions that it dropped.
                let Some(found) = functions::containing(&self.functions, section, offset / unit)
                else {
                    continue;
                };
                let function = &mut self.functions[found];
                if !function.autoload {
                    continue;
                }
                let at = offset / unit - function.start;
                let wrong = |what: String| Error::function(&function.name, at, what);
                let outcome = core.resolve(relo).map_err(wrong)?;
                let patched = patch(&mut function.insns, at, &outcome);
                let about = || outcome.about(&self.btf);
                let (count, mut text) = match patched {
                    Ok(Patched::Value) => continue,
                    Ok(Patched::Poison(count)) => {
                        (count, format!("failed to resolve CO-RE relocation {}", about()))
                    }
                    Ok(Patched::OtherSize) => {
                        (1, format!("CO-RE relocation {}: {OTHER_SIZE}", about()))
                    }
                    Err(what) => {
                        let what = format!("CO-RE relocation {}: {what}", about());
                        return Err(Error::function(&function.name, at, what));
                    }
                };
                let mut lacks = None;
                if let Some(field) = core.lacks(&outcome)
                    && let Some(who) = target.stands_in(&field)
                {
                    text = format!("{text}: {who}, has no such field");
                    lacks = Some(format!("field '{field}': {who}, has no such field"));
                }
                gaps.extend((at..at + count).map(|insn| {
                    let (text, lacks) = (text.clone(), lacks.clone());
                    Gap { function: found, insn, text, lacks }
                }));
                Error::limit("instructions without a meaning", gaps.len(), limits::POISON)?;
            }
        }
        Ok(gaps)
    }

    /// Asks the kernel for what the object has not itself.
    fn resolve_externs(
        &mut self,
        target: &dyn Target,
        matching: &mut Matching,
    ) -> Result<Externs, Error> {
        let (mut wrong, mut unused) = (Vec::new(), Vec::new());
        let config = externs::configuration(&self.externs, target, &mut wrong);
        let mut resolved = Vec::with_capacity(self.externs.len());
        let (used, mut lacking) = (self.used_externs(), false);
        for ext in &self.externs {
            let found = externs::resolve(ext, &self.btf, target, matching);
            resolved.push(found.unwrap_or_else(|Wrong { what, lacking: lacks }| {
                if lacks && !used.contains(&ext.symbol) {
                    unused.push(format!("{what}, and nothing that is loaded uses it"));
                    return false;
                }
                // Nobody reads more, and each costs a look at all functions.
                let users = if wrong.len() < MOST { self.users(ext.symbol) } else { String::new() };
                wrong.push(format!("{what}{users}"));
                lacking |= lacks;
                false
            }));
        }
        shorten(&mut unused);
        self.notes.append(&mut unused);
        if !wrong.is_empty() && !lacking {
            shorten(&mut wrong);
            return Err(Error::Extern(wrong));
        }
        Ok(Externs { resolved, config, lacking: wrong })
    }

    /// The symbols of the externs that functions refer to which are loaded.
    fn used_externs(&self) -> BTreeSet<usize> {
        let loaded = self.functions.iter().filter(|function| function.autoload);
        let references = loaded.flat_map(|function| &function.references);
        let symbol = |reference: &Reference| match reference.to {
            To::Extern(symbol) => Some(symbol),
            _ => None,
        };
        references.filter_map(symbol).collect()
    }

    /// Which functions refer to an extern, for a message.
    fn users(&self, symbol: usize) -> String {
        let uses = |function: &&functions::Func| {
            function.references.iter().any(|reference| reference.to == To::Extern(symbol))
        };
        let mut users: Vec<_> = self.functions.iter().filter(uses).collect();
        if users.iter().any(|user| user.autoload) {
            users.retain(|user| user.autoload);
        }
        let names: Vec<_> = users.iter().map(|user| &user.name).collect();
        gaps::used_by(&names)
    }

    fn place_arena(&mut self, target: &dyn Target) {
        let Some(arena) = self.arena.filter(|_| target.takes_any_offset()) else { return };
        let arena = &mut self.maps[arena];
        if arena.initial.is_empty() {
            return;
        }
        let room = u64::from(PAGE) * u64::from(arena.max_entries);
        // At most the arena: `take_arena()` sees to it.
        arena.initial_at = room - (arena.initial.len() as u64).next_multiple_of(PAGE.into());
    }

    /// The map `.kconfig`, if there are values of the configuration.
    fn take_config(&mut self, initial: Vec<u8>) -> Option<usize> {
        let has = self.externs.iter().any(|ext| matches!(ext.kind, ExternKind::Config(_)));
        has.then(|| {
            self.maps.push(Map {
                name: KCONFIG.to_owned(),
                map_type: MapType::ARRAY,
                key_size: 4,
                value_size: initial.len() as u32,
                max_entries: 1,
                flags: RDONLY_PROG | MMAPABLE,
                value_type: self.btf.find(KCONFIG, Kind::DataSec).unwrap_or(0),
                initial,
                read_only: true,
                ..Map::default()
            });
            self.maps.len() - 1
        })
    }

    /// Where instructions come from, in the order that they are in.
    fn lines(&self, image: &Image) -> Result<Vec<Line>, Error> {
        let BtfExt { lines, .. } = &self.ext;
        let starts = super::place::starts(&self.functions);
        let mut all = Vec::new();
        let mut bytes = 0;
        for records in lines {
            let Some(&section) = self.code.get(self.btf.name(records.section)) else { continue };
            for line in &records.records {
                let insn = line.offset as usize / Insn::SIZE;
                let Some(found) = functions::containing(&self.functions, section, insn) else {
                    continue;
                };
                let Some(start) = starts[found] else { continue };
                let cut = |offset| self.btf.text(offset, limits::LINE).unwrap_or_default();
                let insn = start + insn - self.functions[found].start;
                let (file, text) = (cut(line.file), cut(line.text));
                bytes += file.len() + text.len();
                Error::limit("bytes of lines of source text", bytes, limits::LINES)?;
                all.push(Line { insn, file, line: line.line, column: line.column, text });
            }
        }
        all.sort_by_key(|line| line.insn);
        all.dedup_by_key(|line| line.insn);
        debug_assert!(all.last().is_none_or(|line| line.insn < image.insns.len()));
        Ok(all)
    }

    /// What refers to programs and maps by their numbers in the image.
    fn finish(mut self, mut image: Image) -> Result<Image, Error> {
        for (map, inner) in std::mem::take(&mut self.inner) {
            image.maps[map].inner = Some(image.maps.len());
            let count = self.filled.get(&map).copied().unwrap_or(0);
            let own: Vec<_> = (0..count).map(|key| format!("{}[{key}]", inner.name)).collect();
            image.maps.push(inner.clone());
            for name in own {
                let value = image.maps.len();
                image.maps[map].entries.push(Some(value));
                image.maps.push(Map { name, ..inner.clone() });
            }
        }
        let programs = super::place::programs(&self.functions);
        for (map, key, slot) in &self.slots {
            let value = match slot {
                super::Slot::Map(value) => *value,
                super::Slot::Program(function) => programs[*function].ok_or_else(|| {
                    let name = &self.functions[*function].name;
                    let what = format!("value {key}: program {name} is not loaded");
                    Error::map(&self.maps[*map].name, what)
                })?,
            };
            if let super::Slot::Map(value) = slot
                && let Some(inner) = image.maps[*map].inner
                && let Some(what) = difference(&image.maps[inner], &image.maps[*value])
            {
                let name = &image.maps[*value].name;
                let what = format!("value {key}: map {name} has another {what} (EINVAL)");
                return Err(Error::map(&image.maps[*map].name, what));
            }
            let entries = &mut image.maps[*map].entries;
            if entries.len() <= *key {
                entries.resize(key + 1, None);
            }
            entries[*key] = Some(value);
        }
        // A hash counts those that are there, an array all up to the last.
        for map in &image.maps {
            let used = match map.map_type {
                MapType::HASH_OF_MAPS => map.entries.iter().flatten().count(),
                MapType::ARRAY_OF_MAPS | MapType::PROG_ARRAY => map.entries.len(),
                _ => continue,
            };
            if used as u64 > u64::from(map.max_entries) {
                let most = map.max_entries;
                let what = format!("{used} values in {most} entries (E2BIG)");
                return Err(Error::map(&map.name, what));
            }
        }
        for ops in std::mem::take(&mut self.ops) {
            if ops.autocreate {
                image.struct_ops.push(ops.finish(&self.btf, |function| programs[function])?);
            }
        }
        for variable in &self.variables {
            let super::Store::Map(map) = variable.place.store else { continue };
            image.globals.push(crate::image::Global {
                name: variable.name.clone(),
                section: variable.section.clone(),
                map,
                offset: image.maps[map].initial_at + u64::from(variable.place.offset),
                size: variable.place.size,
                ty: variable.place.ty,
            });
        }
        image.poison.sort_by_key(|Poison { insn, .. }| *insn);
        Ok(image)
    }
}

/// To what anybody reads.
fn shorten(lines: &mut Vec<String>) {
    if let Some(more) = lines.len().checked_sub(MOST).filter(|&more| more > 0) {
        lines.truncate(MOST);
        lines.push(format!("and {more} more"));
    }
}

/// In what a map is unlike those that a map of maps is declared for (`bpf_map_meta_equal()`,
/// `array_map_meta_equal()`), so that no kernel puts it there.
fn difference(inner: &Map, map: &Map) -> Option<&'static str> {
    /// `BPF_F_INNER_MAP`.
    const ANY_LENGTH: u32 = 1 << 12;
    let is_array = matches!(map.map_type, MapType::ARRAY | MapType::PERCPU_ARRAY);
    [
        ("type", inner.map_type != map.map_type),
        ("size of keys", inner.key_size != map.key_size),
        ("size of values", inner.value_size != map.value_size),
        ("set of flags", inner.flags != map.flags),
        (
            "number of entries",
            is_array && inner.flags & ANY_LENGTH == 0 && inner.max_entries != map.max_entries,
        ),
    ]
    .into_iter()
    .find_map(|(what, differs)| differs.then_some(what))
}

/// The functions that have a callback for `bpf_throw()`, and which.
fn exception_callbacks<'a>(btf: &'a Btf) -> BTreeMap<&'a str, &'a str> {
    let callback = |(_, ty): (TypeId, &'a Type)| match *ty {
        Type::DeclTag { name, to, .. } => {
            let callback = btf.name(name).strip_prefix("exception_callback:")?;
            Some((btf.name_of(to), callback))
        }
        _ => None,
    };
    btf.iter().filter_map(callback).collect()
}
