//! The functions of an object: where they are, and what their instructions refer to.

use super::elf::{Elf, Rel, Section};
use super::error::Error;
use super::limits;
use crate::Insn;
use crate::btf::{Btf, Kind};
use crate::insn::pseudo;

/// The section of functions that are no programs.
const TEXT: &str = ".text";

/// The section of tables of jumps.
pub(super) const JUMPTABLES: &str = ".jumptables";

/// The section of variables in an arena.
pub(super) const ARENA: &str = ".addr_space.1";

/// Relocations of instructions: of a 64-bit load, and of a call.
const R_BPF_64_64: u32 = 1;
const R_BPF_64_32: u32 = 10;

/// A function.
pub(super) struct Func {
    pub(super) name: String,
    /// The number of its section.
    pub(super) section: usize,
    /// Its first instruction in the section.
    pub(super) start: usize,
    pub(super) insns: Vec<Insn>,
    /// By instruction.
    pub(super) references: Vec<Reference>,
    /// What its section says that it is, without a `?`; nothing for a subprogram.
    pub(super) program: Option<String>,
    /// It is loaded.
    pub(super) autoload: bool,
    /// Somebody said whether it is to be loaded.
    pub(super) decided: bool,
}

/// An instruction refers to something.
pub(super) struct Reference {
    /// The instruction in its function.
    pub(super) insn: usize,
    pub(super) to: To,
}

/// What an instruction refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// A declared map, by its offset in `.maps`.
    Map(u64),
    /// A place in a section of data.
    Data(usize, u64),
    /// A place in the arena.
    Arena(u64),
    /// The function that begins at an instruction of a section.
    Function(usize, usize),
    /// An extern, by the number of its symbol.
    Extern(usize),
    /// A table of jumps: offset and bytes.
    JumpTable(u64, u64),
}

impl Func {
    /// One past its last instruction in the section.
    pub(super) fn end(&self) -> usize {
        self.start + self.insns.len()
    }

    /// Whether it is an operation of a scheduler.
    pub(super) fn is_struct_ops(&self) -> bool {
        let kind = self.program.as_deref().and_then(|section| section.split('/').next());
        matches!(kind, Some("struct_ops" | "struct_ops.s"))
    }
}

/// All functions, by section, then by place.
pub(super) fn find(elf: &Elf<'_>, btf: &Btf) -> Result<Vec<Func>, Error> {
    let mut all = Vec::new();
    for symbol in elf.symbols.iter().filter(|symbol| symbol.is_function()) {
        let Some(section) = elf.sections.get(symbol.section).filter(|s| s.is_code()) else {
            continue;
        };
        let wrong = |what: String| Error::symbol(symbol.name, what);
        if symbol.name.is_empty() {
            return Err(Error::section(section.name, "a function in it has no name"));
        }
        if section.name != TEXT && !symbol.is_global() {
            let what =
                format!("a program in section {} is static, and not supported", section.name);
            return Err(wrong(what));
        }
        let (start, size) = (symbol.value, symbol.size);
        let unit = Insn::SIZE as u64;
        if size == 0 || !start.is_multiple_of(unit) || !size.is_multiple_of(unit) {
            let what = format!("{size} bytes at {start:#x} of section {}", section.name);
            return Err(wrong(format!("{what} are no instructions")));
        }
        let range = start.checked_add(size).map(|end| start as usize..end as usize);
        let bytes = range.and_then(|range| section.data.get(range)).ok_or_else(|| {
            let len = section.data.len();
            let what = format!("{size} bytes at {start:#x} of section {}", section.name);
            wrong(format!("{what}, which has {len:#x}"))
        })?;
        all.push((symbol.section, start as usize / Insn::SIZE, symbol.name, bytes));
    }
    all.sort();
    // Subprograms may have several names: libbpf takes one of them. Of a program's it relocates one.
    all.dedup_by(|(section, start, name, bytes), (of, from, kept, known)| {
        let is_same = (*section, *start, bytes.len()) == (*of, *from, known.len());
        let is_alias = is_same && elf.sections[*section].name == TEXT;
        let has_type = |name| btf.find(name, Kind::Func).is_some();
        if is_alias && !has_type(kept) && has_type(name) {
            *kept = name;
        }
        is_alias
    });
    for pair in all.windows(2) {
        let ((section, start, name, bytes), (next, after, other, _)) = (pair[0], pair[1]);
        if section == next && start + bytes.len() / Insn::SIZE > after {
            return Err(Error::symbol(other, format!("it overlaps with function {name}")));
        }
    }
    Error::limit("functions", all.len(), limits::FUNCTIONS)?;
    let total: usize = all.iter().map(|(.., bytes)| bytes.len() / Insn::SIZE).sum();
    Error::limit("instructions", total, limits::INSNS)?;
    let function = |(section, start, name, bytes): (usize, usize, &str, &[u8])| {
        let section_name = elf.sections[section].name;
        let kind = section_name.strip_prefix('?').unwrap_or(section_name);
        let (chunks, _) = bytes.as_chunks();
        Func {
            name: name.to_owned(),
            section,
            start,
            insns: chunks.iter().copied().map(Insn::read).collect(),
            references: Vec::new(),
            program: (kind != TEXT).then(|| kind.to_owned()),
            autoload: kind.len() == section_name.len(),
            decided: false,
        }
    };
    Ok(all.into_iter().map(function).collect())
}

/// The function that an instruction of a section is in.
pub(super) fn containing(functions: &[Func], section: usize, insn: usize) -> Option<usize> {
    let after = functions.partition_point(|f| (f.section, f.start) <= (section, insn));
    let found = after.checked_sub(1)?;
    let function = &functions[found];
    (function.section == section && insn < function.end()).then_some(found)
}

/// The function that begins at an instruction of a section.
pub(super) fn starting(functions: &[Func], section: usize, insn: usize) -> Option<usize> {
    functions.binary_search_by_key(&(section, insn), |f| (f.section, f.start)).ok()
}

/// Finds what the instructions of all functions refer to.
pub(super) fn refer(elf: &Elf<'_>, bytes: &[u8], functions: &mut [Func]) -> Result<(), Error> {
    for section in elf.sections.iter().filter(|section| section.is_relocations()) {
        let Some(code) = elf.sections.get(section.info).filter(|code| code.is_code()) else {
            if section.info >= elf.sections.len() {
                let what = format!("it is of section {}, which there is not", section.info);
                return Err(Error::section(section.name, what));
            }
            continue;
        };
        for rel in elf.relocations(section, bytes)? {
            let offset = rel.offset;
            if !offset.is_multiple_of(Insn::SIZE as u64) || offset >= code.size as u64 {
                let what = format!("relocation at {offset:#x} is outside of its instructions");
                return Err(Error::section(code.name, what));
            }
            let at = offset as usize / Insn::SIZE;
            // What is left of functions that a linker dropped has relocations still.
            let Some(found) = containing(functions, section.info, at) else { continue };
            let function = &functions[found];
            let insn = at - function.start;
            let to = reference(elf, section.info, function, insn, rel)
                .map_err(|what| Error::function(&function.name, insn, what))?;
            functions[found].references.push(Reference { insn, to });
        }
    }
    for function in functions {
        function.references.sort_by_key(|reference| reference.insn);
        let twice = function.references.windows(2).find(|pair| pair[0].insn == pair[1].insn);
        if let Some(pair) = twice {
            let what = "it has more than one relocation";
            return Err(Error::function(&function.name, pair[0].insn, what));
        }
    }
    Ok(())
}

fn reference(
    elf: &Elf<'_>,
    section: usize,
    function: &Func,
    at: usize,
    rel: Rel,
) -> Result<To, String> {
    let insn = function.insns[at];
    let symbol = &elf.symbols[rel.symbol];
    let name = elf.display_name(symbol);
    let is_call = insn.code == Insn::CALL;
    match rel.kind {
        R_BPF_64_32 if is_call => {}
        R_BPF_64_64 if insn.is_wide() && at + 1 < function.insns.len() => {}
        kind => {
            let code = insn.code;
            return Err(format!("relocation {kind} against `{name}` of code {code:#04x}"));
        }
    }
    if symbol.is_extern() {
        return Ok(To::Extern(rel.symbol));
    }
    let Some(target) = elf.sections.get(symbol.section).filter(|_| symbol.section != 0) else {
        return Err(format!("relocation against `{name}`, which is in no section"));
    };
    let outside =
        || format!("relocation against `{name}`: {:#x}, which is no function", symbol.value);
    let in_code = |bytes: Option<i64>| {
        let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
        let bytes = bytes.filter(|bytes| bytes.is_multiple_of(Insn::SIZE)).ok_or_else(outside)?;
        Ok::<_, String>(To::Function(symbol.section, bytes / Insn::SIZE))
    };
    let value = i64::try_from(symbol.value).map_err(|_| outside())?;
    if is_call {
        if insn.src != pseudo::CALL || !target.is_code() {
            return Err(format!("a call of `{name}` in section {}", target.name));
        }
        // What is relative to a section's start counts from the call, as if that were first in it.
        return in_code(value.checked_add((i64::from(insn.imm) + 1) * Insn::SIZE as i64));
    }
    if target.is_code() {
        return in_code(value.checked_add(i64::from(insn.imm)));
    }
    match data_kind(target) {
        Some(DataKind::Maps) => Ok(To::Map(symbol.value)),
        Some(DataKind::Arena) => Ok(To::Arena(symbol.value)),
        Some(DataKind::JumpTable) => Ok(To::JumpTable(symbol.value, symbol.size)),
        Some(DataKind::Data) => Ok(To::Data(symbol.section, symbol.value)),
        None => {
            let (from, target) = (elf.sections[section].name, target.name);
            Err(format!(
                "section {from} refers to `{name}` in section {target}, which is not loaded"
            ))
        }
    }
}

enum DataKind {
    Maps,
    Arena,
    JumpTable,
    Data,
}

fn data_kind(section: &Section<'_>) -> Option<DataKind> {
    match section.name {
        super::maps::MAPS => Some(DataKind::Maps),
        ARENA if section.has_bits() => Some(DataKind::Arena),
        JUMPTABLES if section.has_bits() => Some(DataKind::JumpTable),
        _ => is_data(section).then_some(DataKind::Data),
    }
}

/// Whether a section becomes a map of its own: `.data`, `.rodata`, `.bss`, and `.data.something`.
pub(super) fn is_data(section: &Section<'_>) -> bool {
    let is = |kind: &str| {
        section.name.strip_prefix(kind).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    section.size > 0
        && (section.has_bits() && (is(".data") || is(".rodata")) || section.is_zero() && is(".bss"))
}
