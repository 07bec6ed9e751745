//! The file: sections, symbols and relocations, checked for being inside of it.

use std::collections::BTreeMap;

use object::elf::{self as consts, FileHeader64};
use object::read::elf::{FileHeader as _, Rel as _, SectionHeader as _, Sym as _};
use object::{Architecture, LittleEndian, Object as _};

use super::error::Error;
use super::limits;

/// A file that has been taken apart.
pub(super) struct Elf<'a> {
    /// By number; 0 is none.
    pub(super) sections: Vec<Section<'a>>,
    /// By number; 0 is none.
    pub(super) symbols: Vec<Symbol<'a>>,
    /// The first section of each name.
    by_name: BTreeMap<&'a str, usize>,
}

/// A section.
pub(super) struct Section<'a> {
    pub(super) name: &'a str,
    kind: u32,
    flags: u64,
    /// Bytes, which [`Section::data`] has none of for one that is all zero.
    pub(super) size: usize,
    pub(super) data: &'a [u8],
    offset: u64,
    /// The section that relocations are of.
    pub(super) info: usize,
    header: &'a consts::SectionHeader64<LittleEndian>,
}

/// A symbol.
pub(super) struct Symbol<'a> {
    pub(super) name: &'a str,
    pub(super) value: u64,
    pub(super) size: u64,
    /// The number of its section; 0 for one that is elsewhere, and above all sections for
    /// special ones.
    pub(super) section: usize,
    kind: u8,
    bind: u8,
    visibility: u8,
}

/// A relocation.
#[derive(Clone, Copy)]
pub(super) struct Rel {
    /// Bytes from the section's start.
    pub(super) offset: u64,
    /// The number of a symbol.
    pub(super) symbol: usize,
    /// `R_BPF_*`.
    pub(super) kind: u32,
}

impl Section<'_> {
    /// It has bytes in the file.
    pub(super) fn has_bits(&self) -> bool {
        self.kind == consts::SHT_PROGBITS.0
    }

    /// It is all zero.
    pub(super) fn is_zero(&self) -> bool {
        self.kind == consts::SHT_NOBITS.0
    }

    pub(super) fn is_code(&self) -> bool {
        self.has_bits() && self.flags & consts::SHF_EXECINSTR.0 != 0
    }

    pub(super) fn is_relocations(&self) -> bool {
        self.kind == consts::SHT_REL.0
    }
}

impl Symbol<'_> {
    pub(super) fn is_function(&self) -> bool {
        self.kind == consts::STT_FUNC.0
    }

    pub(super) fn is_object(&self) -> bool {
        self.kind == consts::STT_OBJECT.0
    }

    pub(super) fn is_weak(&self) -> bool {
        self.bind == consts::STB_WEAK.0
    }

    pub(super) fn is_global(&self) -> bool {
        self.bind == consts::STB_GLOBAL.0 || self.is_weak()
    }

    /// It is not to be seen from outside of the object.
    pub(super) fn is_hidden(&self) -> bool {
        [consts::STV_HIDDEN.0, consts::STV_INTERNAL.0].contains(&self.visibility)
    }

    /// It is to be found in the kernel.
    pub(super) fn is_extern(&self) -> bool {
        self.section == 0 && self.is_global() && self.kind == consts::STT_NOTYPE.0
    }
}

impl<'a> Elf<'a> {
    /// Takes a file apart.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        Error::limit("bytes of the file", bytes.len(), limits::FILE)?;
        check_machine(bytes)?;
        let header = FileHeader64::<LittleEndian>::parse(bytes)
            .map_err(|err| Error::File(format!(", which is an ELF file: {err}")))?;
        let damaged = |err: object::read::Error| Error::File(format!(": it is damaged: {err}"));
        let headers = header.section_headers(LittleEndian, bytes).map_err(damaged)?;
        Error::limit("sections", headers.len(), limits::SECTIONS)?;
        let names = header.section_strings_index(LittleEndian, bytes).map_err(damaged)?;
        let names = headers
            .get(names.0)
            .and_then(|names| names.data(LittleEndian, bytes).ok())
            .ok_or_else(|| Error::File(": it is damaged: section names are missing".to_owned()))?;
        let mut sections = Vec::with_capacity(headers.len());
        for (number, header) in headers.iter().enumerate() {
            sections.push(section(bytes, names, number, header)?);
        }
        check_overlap(&sections)?;
        let symbols = symbols(bytes, &sections)?;
        let names = sections.iter().enumerate().rev();
        let by_name = names.map(|(number, section)| (section.name, number)).collect();
        Ok(Self { sections, symbols, by_name })
    }

    /// The first section of this name.
    pub(super) fn section(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The relocations of a section of relocations.
    pub(super) fn relocations(
        &self,
        section: &Section<'a>,
        bytes: &'a [u8],
    ) -> Result<Vec<Rel>, Error> {
        let name = section.name;
        let all = section.header.rel(LittleEndian, bytes);
        let all = all.map_err(|err| Error::section(name, err.to_string()))?;
        let (rels, _) = all.ok_or_else(|| Error::section(name, "no relocations"))?;
        let mut relocations = Vec::with_capacity(rels.len());
        for rel in rels {
            let symbol = rel.r_sym(LittleEndian) as usize;
            let offset = rel.r_offset(LittleEndian);
            if symbol >= self.symbols.len() {
                let count = self.symbols.len();
                let what = format!("offset {offset:#x}: symbol {symbol}, but there are {count}");
                return Err(Error::section(name, what));
            }
            relocations.push(Rel { offset, symbol, kind: rel.r_type(LittleEndian).0 });
        }
        Ok(relocations)
    }

    /// What a symbol is called in messages: a section's has no name of its own.
    pub(super) fn display_name(&self, symbol: &Symbol<'a>) -> &'a str {
        match self.sections.get(symbol.section) {
            Some(section) if symbol.name.is_empty() => section.name,
            _ => symbol.name,
        }
    }
}

/// Whether it is for little-endian BPF, in words for those who gave something else.
fn check_machine(bytes: &[u8]) -> Result<(), Error> {
    let Some(ident) = bytes.first_chunk::<20>() else {
        return Err(Error::File(format!(", which is an ELF file: it has {} bytes", bytes.len())));
    };
    if ident[..4] != consts::ELFMAG {
        return Err(Error::File(", which is an ELF file".to_owned()));
    }
    let [class, data] = [ident[4], ident[5]];
    let is_big = data == consts::ELFDATA2MSB.0;
    let word = |at: usize| {
        let bytes = [ident[at], ident[at + 1]];
        if is_big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    };
    if word(18) != consts::EM_BPF.0 {
        let other = object::File::parse(bytes).map(|file| file.architecture());
        let other = other.ok().filter(|&other| other != Architecture::Unknown);
        let other = other.map_or_else(|| format!("machine {}", word(18)), |is| format!("{is:?}"));
        return Err(Error::File(format!(", but one for {other}")));
    }
    if is_big {
        let what = ": it is big-endian; compile it with -target bpfel";
        return Err(Error::File(what.to_owned()));
    }
    if class != consts::ELFCLASS64.0 {
        return Err(Error::File(": ELF files for BPF have 64 bits".to_owned()));
    }
    if word(16) != consts::ET_REL.0 {
        return Err(Error::File(": it is linked; the relocatable file is needed".to_owned()));
    }
    Ok(())
}

fn section<'a>(
    bytes: &'a [u8],
    names: &'a [u8],
    number: usize,
    header: &'a consts::SectionHeader64<LittleEndian>,
) -> Result<Section<'a>, Error> {
    let e = LittleEndian;
    let (kind, size, offset) = (header.sh_type(e), header.sh_size(e), header.sh_offset(e));
    // The first says nothing of its own.
    let is_none = number == 0 || kind == consts::SHT_NULL;
    let name = if is_none {
        ""
    } else {
        name_at(names, header.sh_name(e))
            .map_err(|what| Error::section(format!("number {number}"), what))?
    };
    let data = if is_none || kind == consts::SHT_NOBITS {
        &[]
    } else {
        header.data(e, bytes).map_err(|_| {
            let len = bytes.len();
            let what = format!("{size} bytes at {offset:#x} are outside of the file's {len}");
            Error::section(name, what)
        })?
    };
    let size = if is_none { 0 } else { usize::try_from(size).unwrap_or(usize::MAX) };
    Ok(Section {
        name,
        kind: kind.0,
        flags: header.sh_flags(e).0,
        size,
        data,
        offset,
        info: header.sh_info(e) as usize,
        header,
    })
}

/// Two sections that have bytes in common are damage.
fn check_overlap(sections: &[Section<'_>]) -> Result<(), Error> {
    let mut all: Vec<_> = sections.iter().filter(|section| !section.data.is_empty()).collect();
    all.sort_by_key(|section| (section.offset, section.size));
    for pair in all.windows(2) {
        if pair[0].offset + pair[0].data.len() as u64 > pair[1].offset {
            let what = format!("it overlaps with section {}", pair[0].name);
            return Err(Error::section(pair[1].name, what));
        }
    }
    Ok(())
}

fn symbols<'a>(bytes: &'a [u8], sections: &[Section<'a>]) -> Result<Vec<Symbol<'a>>, Error> {
    let e = LittleEndian;
    let mut tables = sections.iter().filter(|section| section.kind == consts::SHT_SYMTAB.0);
    let table =
        tables.next().ok_or_else(|| Error::File(": it has no symbols; is it stripped?".into()))?;
    if tables.next().is_some() {
        return Err(Error::section(table.name, "there is more than one table of symbols"));
    }
    if !table.data.len().is_multiple_of(size_of::<consts::Sym64<LittleEndian>>()) {
        return Err(Error::section(
            table.name,
            format!("{} bytes are no symbols", table.data.len()),
        ));
    }
    let all: &[consts::Sym64<LittleEndian>] = table
        .header
        .data_as_array(e, bytes)
        .map_err(|err| Error::section(table.name, err.to_string()))?;
    Error::limit("symbols", all.len(), limits::SYMBOLS)?;
    let strings = sections
        .get(table.header.sh_link(e) as usize)
        .filter(|strings| strings.kind == consts::SHT_STRTAB.0)
        .ok_or_else(|| Error::section(table.name, "the symbols' names are missing"))?;
    let mut symbols = Vec::with_capacity(all.len());
    for (number, symbol) in all.iter().enumerate() {
        let wrong = |what: String| Error::symbol(format!("number {number}"), what);
        let name = match symbol.st_name(e) {
            0 => "",
            offset => name_at(strings.data, offset).map_err(wrong)?,
        };
        let section = symbol.st_shndx(e);
        let is_special = section.0 >= consts::SHN_LORESERVE;
        if !is_special && usize::from(section.0) >= sections.len() {
            let what = format!("section {}, but there are {}", section.0, sections.len());
            return Err(Error::symbol(
                if name.is_empty() { format!("number {number}") } else { name.to_owned() },
                what,
            ));
        }
        symbols.push(Symbol {
            name,
            value: symbol.st_value(e),
            size: symbol.st_size(e),
            section: if is_special { usize::MAX } else { usize::from(section.0) },
            kind: symbol.st_type().0,
            bind: symbol.st_bind().0,
            visibility: symbol.st_visibility().0,
        });
    }
    Ok(symbols)
}

fn name_at(strings: &[u8], offset: u32) -> Result<&str, String> {
    let rest = strings.get(offset as usize..).unwrap_or_default();
    let head = &rest[..rest.len().min(limits::NAME + 1)];
    let end = head
        .iter()
        .position(|&byte| byte == 0)
        .ok_or_else(|| format!("its name at {offset:#x} is missing, or too long"))?;
    std::str::from_utf8(&head[..end]).map_err(|_| format!("its name at {offset:#x} is not text"))
}
