//! Writes object files, also wrong ones.

use std::collections::BTreeMap;

use scxlab_bpf::Insn;
use scxlab_bpf::btf::{Builder, TypeId};

pub const PROGBITS: u32 = 1;
pub const SYMTAB: u32 = 2;
pub const STRTAB: u32 = 3;
pub const NOBITS: u32 = 8;
pub const REL: u32 = 9;

pub const ALLOC: u64 = 2;
pub const EXEC: u64 = 4;

pub const LOCAL: u8 = 0;
pub const GLOBAL: u8 = 1;
pub const WEAK: u8 = 2;

pub const NOTYPE: u8 = 0;
pub const OBJECT: u8 = 1;
pub const FUNC: u8 = 2;
pub const SECTION: u8 = 3;

#[derive(Clone, Default)]
pub struct Section {
    pub name: String,
    pub kind: u32,
    pub flags: u64,
    pub data: Vec<u8>,
    /// Of one without data.
    pub size: Option<u64>,
    pub link: u32,
    pub info: u32,
    pub entry: u64,
}

#[derive(Clone)]
pub struct Symbol {
    pub name: String,
    pub section: u16,
    pub value: u64,
    pub size: u64,
    pub kind: u8,
    pub bind: u8,
}

/// An object file to be, with its types.
#[derive(Clone)]
pub struct File {
    pub btf: Builder,
    /// From 1 on.
    pub sections: Vec<Section>,
    /// From 1 on.
    pub symbols: Vec<Symbol>,
    /// Relocations by section: offset, symbol, kind.
    pub relocations: BTreeMap<u16, Vec<(u64, u32, u32)>>,
    /// By section: offset, type, way, kind.
    pub core: Vec<(String, u32, TypeId, String, u32)>,
    /// By section: offset, file, text, line.
    pub lines: Vec<(String, u32, String, String, u32)>,
    /// Bytes for `.BTF` instead of the types.
    pub btf_bytes: Option<Vec<u8>>,
}

impl File {
    pub fn new() -> Self {
        Self {
            btf: Builder::new(),
            sections: Vec::new(),
            symbols: Vec::new(),
            relocations: BTreeMap::new(),
            core: Vec::new(),
            lines: Vec::new(),
            btf_bytes: None,
        }
    }

    pub fn section(&mut self, name: &str, kind: u32, flags: u64) -> u16 {
        if let Some(known) = self.sections.iter().position(|section| section.name == name) {
            return known as u16 + 1;
        }
        let section = Section { name: name.to_owned(), kind, flags, ..Section::default() };
        self.sections.push(section);
        self.sections.len() as u16
    }

    pub fn at(&mut self, section: u16) -> &mut Section {
        &mut self.sections[usize::from(section) - 1]
    }

    pub fn symbol(
        &mut self,
        name: &str,
        section: u16,
        value: u64,
        size: u64,
        kind: u8,
        bind: u8,
    ) -> u32 {
        let name = name.to_owned();
        self.symbols.push(Symbol { name, section, value, size, kind, bind });
        self.symbols.len() as u32
    }

    /// A function behind those that its section has. Answers with its symbol and where it is.
    pub fn function(&mut self, section: &str, name: &str, insns: &[Insn]) -> (u32, u64) {
        let number = self.section(section, PROGBITS, ALLOC | EXEC);
        let start = self.at(number).data.len() as u64;
        let bytes: Vec<u8> = insns.iter().flat_map(|&insn| write(insn)).collect();
        let len = bytes.len() as u64;
        self.at(number).data.extend(bytes);
        (self.symbol(name, number, start, len, FUNC, GLOBAL), start)
    }

    /// Says that an instruction of a function refers to a symbol.
    pub fn refer(&mut self, section: &str, offset: u64, symbol: u32, kind: u32) {
        let number = self.section(section, PROGBITS, ALLOC | EXEC);
        self.relocations.entry(number).or_default().push((offset, symbol, kind));
    }

    /// An extern, and its symbol.
    pub fn external(&mut self, name: &str, bind: u8) -> u32 {
        self.symbol(name, 0, 0, 0, NOTYPE, bind)
    }

    pub fn core(&mut self, section: &str, offset: u64, ty: TypeId, access: &str, kind: u32) {
        self.core.push((section.to_owned(), offset as u32, ty, access.to_owned(), kind));
    }

    fn ext(&mut self) -> Vec<u8> {
        let mut parts = [Vec::new(), Vec::new(), Vec::new()];
        let lines = self.lines.clone();
        for (section, offset, file, text, line) in &lines {
            let (file, text) = (self.btf.text(file).0, self.btf.text(text).0);
            record(
                &mut parts[1],
                16,
                self.btf.text(section).0,
                &[*offset, file, text, line << 10 | 1],
            );
        }
        let core = self.core.clone();
        for (section, offset, ty, access, kind) in &core {
            let access = self.btf.text(access).0;
            record(&mut parts[2], 16, self.btf.text(section).0, &[*offset, *ty, access, *kind]);
        }
        let mut head = vec![0x0001_eb9f, 32];
        let mut at = 0;
        for part in &parts {
            head.extend([at, 4 * part.len() as u32]);
            at += 4 * part.len() as u32;
        }
        head.extend(parts.concat());
        head.iter().flat_map(|word: &u32| word.to_le_bytes()).collect()
    }

    /// The file's bytes.
    pub fn write(mut self) -> Vec<u8> {
        if !self.core.is_empty() || !self.lines.is_empty() {
            let ext = self.ext();
            let number = self.section(".BTF.ext", PROGBITS, 0);
            self.at(number).data = ext;
        }
        let types = match self.btf_bytes.take() {
            Some(bytes) => bytes,
            None => self.btf.clone().finish().expect("types").to_bytes(),
        };
        let number = self.section(".BTF", PROGBITS, 0);
        self.at(number).data = types;
        let symtab = self.sections.len() as u32 + self.relocations.len() as u32 + 1;
        for (section, all) in std::mem::take(&mut self.relocations) {
            let name = format!(".rel{}", self.at(section).name);
            let word = |&(offset, symbol, kind): &(u64, u32, u32)| {
                [offset, u64::from(symbol) << 32 | u64::from(kind)]
            };
            let data = all.iter().flat_map(word).flat_map(u64::to_le_bytes).collect();
            let (link, info) = (symtab, section.into());
            self.sections.push(Section {
                name,
                kind: REL,
                data,
                link,
                info,
                entry: 16,
                ..Section::default()
            });
        }
        let mut strings = vec![0];
        let mut symbols = vec![0; 24];
        for symbol in &self.symbols {
            let name = if symbol.name.is_empty() { 0 } else { strings.len() as u32 };
            strings.extend(symbol.name.bytes().chain([0]));
            symbols.extend(name.to_le_bytes());
            symbols.extend([symbol.bind << 4 | symbol.kind, 0]);
            symbols.extend(symbol.section.to_le_bytes());
            symbols.extend(symbol.value.to_le_bytes());
            symbols.extend(symbol.size.to_le_bytes());
        }
        let section = |name: &str, kind, data| Section {
            name: name.to_owned(),
            kind,
            data,
            ..Section::default()
        };
        let symtab = section(".symtab", SYMTAB, symbols);
        self.sections.push(Section { link: symtab_link(&self.sections), entry: 24, ..symtab });
        self.sections.push(section(".strtab", STRTAB, strings));
        self.sections.push(section(".shstrtab", STRTAB, Vec::new()));
        finish(self.sections)
    }
}

fn symtab_link(sections: &[Section]) -> u32 {
    sections.len() as u32 + 2
}

fn record(words: &mut Vec<u32>, size: u32, section: u32, record: &[u32]) {
    if words.is_empty() {
        words.push(size);
    }
    words.extend([section, 1]);
    words.extend(record);
}

fn finish(mut sections: Vec<Section>) -> Vec<u8> {
    let mut names = vec![0];
    let offsets: Vec<u32> = sections
        .iter()
        .map(|section| {
            let at = names.len() as u32;
            names.extend(section.name.bytes().chain([0]));
            at
        })
        .collect();
    sections.last_mut().expect("names").data = names;
    let mut bytes = vec![0; 64];
    let mut headers = vec![0; 64];
    for (section, name) in sections.iter().zip(offsets) {
        while !bytes.len().is_multiple_of(8) {
            bytes.push(0);
        }
        let size = section.size.unwrap_or(section.data.len() as u64);
        headers.extend(name.to_le_bytes());
        headers.extend(section.kind.to_le_bytes());
        for word in [section.flags, 0, bytes.len() as u64, size] {
            headers.extend(word.to_le_bytes());
        }
        headers.extend(section.link.to_le_bytes());
        headers.extend(section.info.to_le_bytes());
        headers.extend(8_u64.to_le_bytes());
        headers.extend(section.entry.to_le_bytes());
        bytes.extend(&section.data);
    }
    while !bytes.len().is_multiple_of(8) {
        bytes.push(0);
    }
    let table = bytes.len() as u64;
    let count = sections.len() as u16 + 1;
    let mut head = b"\x7fELF\x02\x01\x01".to_vec();
    head.resize(16, 0);
    for half in [1_u16, 247] {
        head.extend(half.to_le_bytes());
    }
    head.extend(1_u32.to_le_bytes());
    for word in [0, 0, table] {
        head.extend(word.to_le_bytes());
    }
    head.extend(0_u32.to_le_bytes());
    for half in [64, 0, 0, 64, count, count - 1] {
        head.extend(half.to_le_bytes());
    }
    bytes[..64].copy_from_slice(&head);
    bytes.extend(headers);
    bytes
}

pub fn write(insn: Insn) -> [u8; 8] {
    let [off0, off1] = insn.off.to_le_bytes();
    let [a, b, c, d] = insn.imm.to_le_bytes();
    [insn.code, insn.src << 4 | insn.dst, off0, off1, a, b, c, d]
}

pub const EXIT: Insn = Insn { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 };

/// `dst = imm`
pub fn mov(dst: u8, imm: i32) -> Insn {
    Insn { code: 0xb7, dst, imm, ..Insn::default() }
}

/// `dst = *(src + off)` of so many bytes.
pub fn load(bytes: u32, dst: u8, src: u8, off: i16) -> Insn {
    let insn = Insn { code: 0x61, dst, src, off, imm: 0 };
    insn.with_access_size(bytes).expect("a size")
}

/// `dst = imm64`
pub fn wide(dst: u8, imm: u64) -> [Insn; 2] {
    [
        Insn { code: 0x18, dst, imm: imm as i32, ..Insn::default() },
        Insn { imm: (imm >> 32) as i32, ..Insn::default() },
    ]
}

/// A call of a function of the object, or of an extern.
pub fn call(imm: i32) -> Insn {
    Insn { code: 0x85, src: 1, imm, ..Insn::default() }
}
