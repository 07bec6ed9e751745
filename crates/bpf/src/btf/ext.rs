//! `.BTF.ext`: what an object says of its instructions.

use super::Btf;
use super::parse::{BtfError, MAGIC, Words, name_at};
use super::types::{Name, TypeId};

/// All of a section `.BTF.ext`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BtfExt {
    /// Which lines of source code begin where.
    pub lines: Vec<Records<LineInfo>>,
    /// What depends on the kernel's types: CO-RE.
    pub relocations: Vec<Records<CoreRelo>>,
}

/// What is said of one section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records<T> {
    /// The section's name.
    pub section: Name,
    /// What is said of it.
    pub records: Vec<T>,
}

/// Something that is said of an instruction.
pub trait Record: Sized {
    /// Bytes in the file.
    const SIZE: usize;
    /// What it is in messages.
    const WHAT: &'static str;
    /// From words.
    fn read(words: [u32; 4]) -> Self;
}

/// A line begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineInfo {
    /// Bytes from the section's start.
    pub offset: u32,
    /// Where the file's name is among the strings.
    pub file: u32,
    /// Where the line's text is among the strings.
    pub text: u32,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

impl Record for LineInfo {
    const SIZE: usize = 16;
    const WHAT: &'static str = "line_info";
    fn read([offset, file, text, place]: [u32; 4]) -> Self {
        Self { offset, file, text, line: place >> 10, column: place & 0x3ff }
    }
}

/// An operand of an instruction depends on the kernel's types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreRelo {
    /// Bytes from the section's start to the instruction.
    pub offset: u32,
    /// The type that it is about, in the object's BTF.
    pub ty: TypeId,
    /// The way from the type to what it is about: `0:1:2`.
    pub access: Name,
    /// `enum bpf_core_relo_kind`.
    pub kind: u32,
}

impl Record for CoreRelo {
    const SIZE: usize = 16;
    const WHAT: &'static str = "core_relo";
    fn read([offset, ty, access, kind]: [u32; 4]) -> Self {
        Self { offset, ty, access: Name(access), kind }
    }
}

impl BtfExt {
    /// From the bytes of a section, whose strings are in `btf`.
    ///
    /// # Errors
    /// It is truncated, or of an unknown version, or a record is outside of it.
    pub fn parse(bytes: &[u8], btf: &Btf) -> Result<Self, BtfError> {
        let wrong = |what: String| BtfError::Ext(what);
        let [first, len] = Words::new(bytes)
            .words()
            .ok_or_else(|| wrong(format!("it has {} bytes only", bytes.len())))?;
        if first & 0xffff != u32::from(MAGIC) {
            return Err(wrong(format!(
                "it starts with {:#06x}, not with {MAGIC:#06x}",
                first & 0xffff
            )));
        }
        if first >> 16 != 1 {
            return Err(wrong(format!(
                "version {} or flags {} are not known",
                first >> 16 & 0xff,
                first >> 24
            )));
        }
        let len = len as usize;
        let head = bytes.get(8..len).filter(|head| head.len() >= 16);
        let head =
            head.ok_or_else(|| wrong(format!("its header is {len} of {} bytes", bytes.len())))?;
        let body = bytes.get(len..).unwrap_or_default();
        let mut words = Words::new(head);
        let mut part = || words.words().unwrap_or_default();
        // Which functions begin where: the symbols say it too.
        part();
        let ext = Self {
            lines: read_part(body, part(), btf)?,
            relocations: read_part::<CoreRelo>(body, part(), btf)?,
        };
        for relo in ext.relocations.iter().flat_map(|records| &records.records) {
            let way = name_at(&btf.strings, relo.access.0);
            way.map_err(|what| wrong(format!("{}: the way {what}", CoreRelo::WHAT)))?;
        }
        Ok(ext)
    }
}

fn read_part<T: Record>(
    body: &[u8],
    [offset, len]: [u32; 2],
    btf: &Btf,
) -> Result<Vec<Records<T>>, BtfError> {
    if len == 0 {
        return Ok(Vec::new());
    }
    let wrong = |what: String| BtfError::Ext(format!("{}: {what}", T::WHAT));
    let start = offset as usize;
    let bytes = start.checked_add(len as usize).and_then(|end| body.get(start..end));
    let bytes = bytes
        .filter(|_| offset % 4 == 0)
        .ok_or_else(|| wrong(format!("{len} bytes at {offset} are not in it")))?;
    let mut words = Words::new(bytes);
    let cut_off = |at: usize| wrong(format!("it is cut off at {at}"));
    let size = words.word().ok_or_else(|| cut_off(0))? as usize;
    if size < T::SIZE || !size.is_multiple_of(4) || size > 1 << 16 {
        return Err(wrong(format!("a record of {size} bytes")));
    }
    let mut all = Vec::new();
    while !words.is_at_end() {
        let at = words.at();
        let [name, count] = words.words().ok_or_else(|| cut_off(at))?;
        let count = count as usize;
        if count == 0 || !count.checked_mul(size).is_some_and(|bytes| words.has(bytes)) {
            return Err(wrong(format!("{count} records at {at}")));
        }
        let section = name_at(&btf.strings, name)
            .map_err(|what| wrong(format!("the name of the section at {at} {what}")))?;
        if btf.name(section).is_empty() {
            return Err(wrong(format!("the section at {at} has no name")));
        }
        let mut records = Vec::with_capacity(count);
        for _ in 0..count {
            let mut record = [0; 4];
            for word in record.iter_mut().take(T::SIZE / 4) {
                *word = words.word().ok_or_else(|| cut_off(at))?;
            }
            records.push(T::read(record));
            words.skip(size - T::SIZE);
        }
        all.push(Records { section, records });
    }
    Ok(all)
}
