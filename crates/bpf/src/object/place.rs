//! All functions in one list of instructions, and what these refer to.

use std::collections::BTreeMap;

use super::error::Error;
use super::externs::ExternKind;
use super::functions::{self, Func, Reference, To};
use super::gaps::Gap;
use super::maps::PAGE;
use super::{Object, kinds, limits};
use crate::image::{Function, Image, Kfunc, Ksym, Map, MapType, Poison, Program};
use crate::insn::{Insn, pseudo};

/// Where in the image each function begins; nothing for those that are not loaded.
pub(super) fn starts(functions: &[Func]) -> Vec<Option<usize>> {
    let mut at = 0;
    let start = |function: &Func| {
        function.autoload.then(|| {
            let start = at;
            at += function.insns.len();
            start
        })
    };
    functions.iter().map(start).collect()
}

/// The number of each function as a program; nothing for those that are none, or are not loaded.
pub(super) fn programs(functions: &[Func]) -> Vec<Option<usize>> {
    let mut count = 0;
    let program = |function: &Func| {
        (function.autoload && function.program.is_some()).then(|| {
            count += 1;
            count - 1
        })
    };
    functions.iter().map(program).collect()
}

/// Makes an image's instructions.
pub(super) struct Placer<'a> {
    object: &'a Object,
    /// Whether the kernel has an extern.
    resolved: &'a [bool],
    /// The map `.kconfig`.
    config: Option<usize>,
    /// Externs by the number of their symbol.
    externs: BTreeMap<usize, usize>,
    starts: Vec<Option<usize>>,
    image: Image,
    /// Functions and variables of the kernel in the image, by extern.
    kfuncs: BTreeMap<usize, usize>,
    ksyms: BTreeMap<usize, usize>,
    /// Tables of jumps in the image, by place and bytes, for each function.
    tables: BTreeMap<(usize, u64, u64), usize>,
    /// Entries of all tables of jumps.
    entries: usize,
}

impl<'a> Placer<'a> {
    pub(super) fn new(object: &'a Object, resolved: &'a [bool], config: Option<usize>) -> Self {
        let symbols = object.externs.iter().enumerate();
        Self {
            object,
            resolved,
            config,
            externs: symbols.map(|(number, ext)| (ext.symbol, number)).collect(),
            starts: starts(&object.functions),
            image: Image { maps: object.maps.clone(), ..Image::default() },
            kfuncs: BTreeMap::new(),
            ksyms: BTreeMap::new(),
            tables: BTreeMap::new(),
            entries: 0,
        }
    }

    /// Places all functions that are loaded. `gaps` are what must not be reached in them.
    pub(super) fn place(mut self, gaps: &[Gap]) -> Result<Image, Error> {
        let functions = &self.object.functions;
        for (number, function) in functions.iter().enumerate() {
            let Some(start) = self.starts[number] else { continue };
            let place = Function { name: function.name.clone(), start, len: function.insns.len() };
            if let Some(section) = &function.program {
                self.image.programs.push(Program {
                    function: self.image.functions.len(),
                    section: section.clone(),
                    sleepable: kinds::is_sleepable(section),
                });
            }
            self.image.functions.push(place);
            self.image.insns.extend(&function.insns);
        }
        for Gap { function, insn, text, .. } in gaps {
            if let Some(start) = self.starts[*function] {
                self.image.poison.push(Poison { insn: start + insn, text: text.clone() });
            }
        }
        for (number, function) in functions.iter().enumerate() {
            let Some(start) = self.starts[number] else { continue };
            self.relocate(number, function, start)?;
        }
        Ok(self.image)
    }

    fn relocate(&mut self, number: usize, function: &Func, start: usize) -> Result<(), Error> {
        let wrong = |insn: usize, what: String| Error::function(&function.name, insn, what);
        let mut references = function.references.iter().peekable();
        let mut at = 0;
        while let Some(&insn) = function.insns.get(at) {
            let wide = insn.is_wide();
            if wide && at + 1 == function.insns.len() {
                return Err(wrong(at, "a 64-bit load without its second half".to_owned()));
            }
            match references.next_if(|reference| reference.insn == at) {
                // Where CO-RE left poison there is nothing to refer with.
                Some(reference) => {
                    let is_poison = insn.code == Insn::CALL && insn.imm == Poison::CORE;
                    if !is_poison || insn.src != pseudo::HELPER {
                        self.refer(number, function, start, reference)
                            .map_err(|what| wrong(at, what))?;
                    }
                }
                None if insn.code == Insn::CALL && insn.src == pseudo::CALL => {
                    let target = (function.start + at) as i64 + i64::from(insn.imm) + 1;
                    let to =
                        self.function(function.section, target).map_err(|what| wrong(at, what))?;
                    self.image.insns[start + at].imm = distance(start + at, to);
                }
                None if (wide && insn.src != 0)
                    || insn.code == Insn::CALL && insn.src == pseudo::KFUNC =>
                {
                    let what = "it refers to something, but has no relocation that says to what";
                    return Err(wrong(at, what.to_owned()));
                }
                None => {}
            }
            at += if wide { 2 } else { 1 };
        }
        match references.next() {
            Some(reference) => {
                Err(wrong(reference.insn, "a relocation of half an instruction".to_owned()))
            }
            None => Ok(()),
        }
    }

    /// Where the function that begins at an instruction of a section begins in the image.
    fn function(&self, section: usize, insn: i64) -> Result<usize, String> {
        let functions = &self.object.functions;
        let found = usize::try_from(insn)
            .ok()
            .and_then(|insn| functions::starting(functions, section, insn))
            .ok_or_else(|| {
                format!("a call of instruction {insn} of its section, where no function begins")
            })?;
        self.starts[found]
            .ok_or_else(|| format!("a call of {}, which is not loaded", functions[found].name))
    }

    fn refer(
        &mut self,
        number: usize,
        function: &Func,
        start: usize,
        reference: &Reference,
    ) -> Result<(), String> {
        let at = start + reference.insn;
        let insn = self.image.insns[at];
        match reference.to {
            To::Map(offset) => {
                let declared = &self.object.declared;
                let map = declared.partition_point(|&map| u64::from(map) < offset);
                if declared.get(map).is_none_or(|&map| u64::from(map) != offset) {
                    return Err(format!("a map at {offset:#x} of .maps, where none is"));
                }
                self.set(at, pseudo::MAP, map as i32, 0);
            }
            To::Data(section, value) => {
                let map = self.object.data.get(&section).copied();
                let map = map.ok_or("data in a section that is not loaded")?;
                let offset = value.wrapping_add_signed(i64::from(insn.imm)) as u32;
                let Map { name, value_size, .. } = &self.image.maps[map];
                if offset >= *value_size {
                    return Err(format!(
                        "byte {offset:#x} of section {name}, which has {value_size:#x}"
                    ));
                }
                self.set(at, pseudo::MAP_VALUE, map as i32, offset as i32);
            }
            To::Arena(value) => {
                let map =
                    self.object.arena.ok_or("a variable in an arena, but there is no arena")?;
                let arena = &self.image.maps[map];
                let offset =
                    value.wrapping_add_signed(i64::from(insn.imm)).wrapping_add(arena.initial_at);
                let room = u64::from(PAGE) * u64::from(arena.max_entries);
                if offset > room {
                    return Err(format!(
                        "byte {offset:#x} of arena {}, which has {room:#x}",
                        arena.name
                    ));
                }
                self.set(at, pseudo::MAP_VALUE, map as i32, offset as u32 as i32);
            }
            To::Function(section, insn) => {
                let to = self.function(section, insn as i64)?;
                let distance = distance(at, to);
                if self.image.insns[at].is_wide() {
                    self.set(at, pseudo::FUNC, distance, 0);
                } else {
                    self.image.insns[at].imm = distance;
                }
            }
            To::Extern(symbol) => {
                let ext = self.externs.get(&symbol).copied();
                self.refer_to_extern(at, ext.ok_or("an extern that is not known")?)?;
            }
            To::JumpTable(offset, bytes) => {
                let map = self.jump_table(number, function, start, offset, bytes)?;
                self.image.insns[at].off = 0;
                self.set(at, pseudo::MAP_VALUE, map as i32, 0);
            }
        }
        Ok(())
    }

    fn set(&mut self, at: usize, src: u8, imm: i32, next: i32) {
        let insns = &mut self.image.insns;
        insns[at].src = src;
        insns[at].imm = imm;
        // A wide instruction has a second half: `relocate()` sees to it.
        insns[at + 1].imm = next;
    }

    fn refer_to_extern(&mut self, at: usize, ext: usize) -> Result<(), String> {
        let object = self.object;
        let known = &object.externs[ext];
        let is_call = !self.image.insns[at].is_wide();
        let ty = match known.kind {
            ExternKind::Config(config) => {
                let map = self.config.filter(|_| !is_call).ok_or("a call of a value")?;
                self.set(at, pseudo::MAP_VALUE, map as i32, config.offset as i32);
                return Ok(());
            }
            ExternKind::Variable(_) if is_call => {
                return Err(format!("a call of variable `{}`", known.name));
            }
            ExternKind::Function(ty) | ExternKind::Variable(ty) => ty,
        };
        let function = matches!(known.kind, ExternKind::Function(_));
        let essential = if function { known.essential() } else { &known.name }.to_owned();
        match (is_call, self.resolved[ext]) {
            (true, true) => {
                let Image { kfuncs, insns, .. } = &mut self.image;
                let kfunc = *self.kfuncs.entry(ext).or_insert_with(|| {
                    let symbol = known.name.clone();
                    kfuncs.push(Kfunc { name: essential, symbol, weak: known.weak });
                    kfuncs.len() - 1
                });
                let Insn { code, dst, .. } = insns[at];
                insns[at] = Insn { code, dst, src: pseudo::KFUNC, off: 0, imm: kfunc as i32 };
            }
            (true, false) => {
                let imm = Poison::KFUNC + i32::try_from(ext).unwrap_or_default();
                self.image.insns[at] = Insn { code: Insn::CALL, imm, ..Insn::default() };
                let text = format!("kfunc '{}' is referenced but wasn't resolved", known.name);
                self.image.poison.push(Poison { insn: at, text });
                let (count, most) = (self.image.poison.len(), limits::POISON);
                if count > most {
                    return Err(format!(
                        "{count} calls of functions that are not there, the most is {most}"
                    ));
                }
            }
            (false, true) => {
                let ksyms = &mut self.image.ksyms;
                let ksym = *self.ksyms.entry(ext).or_insert_with(|| {
                    ksyms.push(Ksym { name: essential, weak: known.weak, function, ty });
                    ksyms.len() - 1
                });
                self.set(at, pseudo::KSYM, ksym as i32, 0);
            }
            (false, false) => self.set(at, 0, 0, 0),
        }
        Ok(())
    }

    /// The map that a table of jumps is: its values are instructions of the function.
    fn jump_table(
        &mut self,
        number: usize,
        function: &Func,
        start: usize,
        offset: u64,
        bytes: u64,
    ) -> Result<usize, String> {
        if let Some(&known) = self.tables.get(&(number, offset, bytes)) {
            return Ok(known);
        }
        let name = functions::JUMPTABLES;
        let range = offset.checked_add(bytes).map(|end| offset as usize..end as usize);
        let table = range.and_then(|range| self.object.jumptables.get(range));
        let table = table
            .filter(|_| offset.is_multiple_of(8) && bytes.is_multiple_of(8) && bytes > 0)
            .ok_or_else(|| format!("a table of {bytes} bytes at {offset:#x} of section {name}"))?;
        self.entries += table.len() / 8;
        if self.entries > limits::ENTRIES {
            let (count, most) = (self.entries, limits::ENTRIES);
            return Err(format!("{count} entries in tables of jumps are more than {most}"));
        }
        let (words, _) = table.as_chunks();
        let mut entries = Vec::with_capacity(words.len());
        for &word in words {
            let target = u64::from_le_bytes(word);
            let insn = usize::try_from(target / Insn::SIZE as u64).ok();
            let within = insn
                .filter(|_| target.is_multiple_of(Insn::SIZE as u64))
                .and_then(|insn| insn.checked_sub(function.start))
                .filter(|&insn| insn < function.insns.len())
                .ok_or_else(|| {
                    format!("a table of jumps leads to {target:#x}, out of the function")
                })?;
            entries.push(Some(start + within));
        }
        let map = self.image.maps.len();
        self.image.maps.push(Map {
            name: name.to_owned(),
            map_type: MapType::INSN_ARRAY,
            key_size: 4,
            // What a program loads from it is an address of 8 bytes.
            value_size: 8,
            max_entries: entries.len() as u32,
            entries,
            read_only: true,
            ..Map::default()
        });
        self.tables.insert((number, offset, bytes), map);
        Ok(map)
    }
}

/// From an instruction to a function, as a call has it.
fn distance(from: usize, to: usize) -> i32 {
    // Both are at most `limits::INSNS`.
    (to as i64 - from as i64 - 1) as i32
}
