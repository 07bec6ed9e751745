//! BTF from bytes.

use super::types::{
    Array, Composite, DataSec, Enumeration, Enumerator, FuncProto, Int, Kind, Member, Name, Param,
    SectionVar, Type, TypeId,
};
use super::{Btf, linkage};

/// The first bytes of BTF, and of `.BTF.ext`.
pub(super) const MAGIC: u16 = 0xeb9f;

/// Bytes of the header that every BTF has.
pub(super) const HEADER: usize = 24;

/// The most bytes that a name has, as in the kernel (`KSYM_NAME_LEN`).
pub(super) const MAX_NAME: usize = 512;

/// The most types, as in the kernel (`BTF_MAX_TYPE`).
const MAX_TYPES: usize = 0xf_ffff;

/// Bytes are not BTF.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// The header is not there or makes no sense.
    #[error("BTF header: {0}")]
    Header(String),
    /// The strings are not what they must be.
    #[error("BTF strings: {0}")]
    Strings(&'static str),
    /// A type is not what it must be.
    #[error("BTF type [{id}] at offset {offset}: {what}")]
    Type {
        /// Its number.
        id: TypeId,
        /// Bytes from the start of the types.
        offset: usize,
        /// What is wrong with it.
        what: String,
    },
    /// `.BTF.ext` is not what it must be.
    #[error(".BTF.ext: {0}")]
    Ext(String),
}

/// Little-endian words of a slice, one after the other.
pub(super) struct Words<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Words<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(super) fn word(&mut self) -> Option<u32> {
        let word = self.bytes.get(self.at..)?.first_chunk()?;
        self.at += 4;
        Some(u32::from_le_bytes(*word))
    }

    pub(super) fn words<const N: usize>(&mut self) -> Option<[u32; N]> {
        let mut all = [0; N];
        for word in &mut all {
            *word = self.word()?;
        }
        Some(all)
    }

    /// Whether so many more bytes are there.
    pub(super) fn has(&self, bytes: usize) -> bool {
        self.bytes.len() - self.at >= bytes
    }

    pub(super) fn skip(&mut self, bytes: usize) {
        self.at = (self.at + bytes).min(self.bytes.len());
    }
}

impl Btf {
    /// The BTF of an object's section `.BTF`, or of a kernel: `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    /// It is truncated, big-endian, of another version, has a kind of type that Linux 7.2 has not, or
    /// a type refers to a type or a name that is not there.
    pub fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        let (types, strings) = sections(bytes)?;
        if strings.first() != Some(&0) {
            return Err(BtfError::Strings("the first one is not empty"));
        }
        if strings.last() != Some(&0) {
            return Err(BtfError::Strings("the last one has no end"));
        }
        let mut reader = Reader { words: Words::new(types), strings, id: 0, start: 0 };
        let mut all = vec![Type::Void];
        while !reader.words.is_at_end() {
            reader.id = all.len() as TypeId;
            reader.start = reader.words.at();
            if all.len() > MAX_TYPES {
                return Err(reader.wrong(format!("there are more than {MAX_TYPES} types")));
            }
            let ty = reader.read()?;
            all.push(ty);
        }
        let btf = Self::new(all, strings.to_vec());
        btf.check_references(types)?;
        Ok(btf)
    }

    /// Whether every type refers only to types that exist, and of the kind that it must be.
    fn check_references(&self, bytes: &[u8]) -> Result<(), BtfError> {
        let len = self.len() as TypeId;
        for (id, ty) in self.iter() {
            let wrong = |what: String| BtfError::Type { id, offset: offset_of(bytes, id), what };
            let mut missing = None;
            ty.each_reference(|to| {
                if to >= len {
                    missing.get_or_insert(to);
                }
            });
            if let Some(to) = missing {
                return Err(wrong(format!("it refers to type [{to}], but there are {len}")));
            }
            if let Type::Func { proto, .. } = ty
                && self.ty(*proto).kind() != Kind::FuncProto
            {
                return Err(wrong(format!("type [{proto}] of a function is no func_proto")));
            }
        }
        Ok(())
    }
}

impl Type {
    /// Hands over every number of a type that it has.
    pub(super) fn each_reference(&self, mut with: impl FnMut(TypeId)) {
        match self {
            Self::Void | Self::Int(_) | Self::Enum(_) | Self::Fwd { .. } | Self::Float { .. } => {}
            Self::Ptr(to) | Self::Volatile(to) | Self::Const(to) | Self::Restrict(to) => with(*to),
            Self::Typedef { to, .. } | Self::TypeTag { to, .. } | Self::DeclTag { to, .. } => {
                with(*to);
            }
            Self::Func { proto, .. } => with(*proto),
            Self::Var { ty, .. } => with(*ty),
            Self::Array(array) => {
                with(array.element);
                with(array.index);
            }
            Self::Struct(composite) | Self::Union(composite) => {
                composite.members.iter().for_each(|member| with(member.ty));
            }
            Self::FuncProto(proto) => {
                with(proto.result);
                proto.params.iter().for_each(|param| with(param.ty));
            }
            Self::DataSec(section) => section.vars.iter().for_each(|var| with(var.ty)),
        }
    }
}

/// Where a type is: only looked for to say it in a message.
fn offset_of(bytes: &[u8], id: TypeId) -> usize {
    let mut words = Words::new(bytes);
    for _ in 1..id {
        let Some([_, info, _]) = words.words() else { break };
        words.skip(rest_of(kind_of(info), vlen_of(info)).unwrap_or(0));
    }
    words.at()
}

/// The types and the strings.
fn sections(bytes: &[u8]) -> Result<(&[u8], &[u8]), BtfError> {
    let header = |what: String| BtfError::Header(what);
    let head = bytes
        .get(..HEADER)
        .ok_or_else(|| header(format!("it has {} bytes, {HEADER} are the least", bytes.len())))?;
    let magic = u16::from_le_bytes([head[0], head[1]]);
    if magic.swap_bytes() == MAGIC {
        return Err(header("it is big-endian; only little-endian BTF is read".to_owned()));
    }
    if magic != MAGIC {
        return Err(header(format!("it starts with {magic:#06x}, not with {MAGIC:#06x}")));
    }
    if head[2] != 1 {
        return Err(header(format!("version {} is not known, only 1", head[2])));
    }
    if head[3] != 0 {
        return Err(header(format!("flags {:#x} are not known", head[3])));
    }
    let mut words = Words::new(&head[4..]);
    let [len, type_off, type_len, str_off, str_len] =
        words.words().unwrap_or_default().map(|word: u32| word as usize);
    let body = bytes
        .get(len..)
        .filter(|_| len >= HEADER)
        .ok_or_else(|| header(format!("its length is {len}, of {} bytes", bytes.len())))?;
    let part = |name: &str, offset: usize, len: usize| {
        let part = offset.checked_add(len).and_then(|end| body.get(offset..end));
        let what = || format!("{name} at {offset}, {len} bytes, are outside of {}", body.len());
        part.ok_or_else(|| header(what()))
    };
    if type_off % 4 != 0 {
        return Err(header(format!("types at {type_off} are not aligned to 4")));
    }
    let types = part("types", type_off, type_len)?;
    let strings = part("strings", str_off, str_len)?;
    if type_off + type_len > str_off {
        return Err(header("types and strings overlap".to_owned()));
    }
    Ok((types, strings))
}

fn kind_of(info: u32) -> u32 {
    info >> 24 & 0x7f
}

fn vlen_of(info: u32) -> usize {
    (info & 0xff_ffff) as usize
}

/// Bytes of a type behind its first three words; nothing for an unknown kind.
fn rest_of(kind: u32, vlen: usize) -> Option<usize> {
    let kind = *Kind::ALL.get(kind as usize)?;
    Some(match kind {
        Kind::Int | Kind::Var | Kind::DeclTag => 4,
        Kind::Array => 12,
        Kind::Struct | Kind::Union | Kind::DataSec | Kind::Enum64 => 12 * vlen,
        Kind::Enum | Kind::FuncProto => 8 * vlen,
        _ => 0,
    })
}

/// A name that is text, and not too long: it may be looked at for each of many that refer to it. Or
/// what is wrong with it.
pub(super) fn name_at(strings: &[u8], offset: u32) -> Result<Name, String> {
    let rest = strings.get(offset as usize..).filter(|rest| !rest.is_empty());
    let rest =
        rest.ok_or_else(|| format!("is at {offset} of {} bytes of strings", strings.len()))?;
    let head = &rest[..rest.len().min(MAX_NAME)];
    let end = head.iter().position(|&byte| byte == 0);
    let end = end.ok_or_else(|| format!("has more than {} bytes", MAX_NAME - 1))?;
    std::str::from_utf8(&head[..end]).map_err(|_| "is not text".to_owned())?;
    Ok(Name(offset))
}

/// Reads one type.
struct Reader<'a> {
    words: Words<'a>,
    strings: &'a [u8],
    id: TypeId,
    start: usize,
}

impl Reader<'_> {
    fn wrong(&self, what: impl Into<String>) -> BtfError {
        BtfError::Type { id: self.id, offset: self.start, what: what.into() }
    }

    fn next<const N: usize>(&mut self) -> Result<[u32; N], BtfError> {
        self.words.words().ok_or_else(|| self.wrong("it is cut off"))
    }

    fn name(&self, offset: u32, of: &str) -> Result<Name, BtfError> {
        let name = name_at(self.strings, offset);
        name.map_err(|what| self.wrong(format!("the name of {of} {what}")))
    }

    fn read(&mut self) -> Result<Type, BtfError> {
        let [name, info, size] = self.next()?;
        let (kind, vlen, flag) = (kind_of(info), vlen_of(info), info >> 31 == 1);
        let rest =
            rest_of(kind, vlen).ok_or_else(|| self.wrong(format!("kind {kind} is unknown")))?;
        if !self.words.has(rest) {
            return Err(self.wrong(format!("it is cut off: {vlen} parts are to come")));
        }
        let name = self.name(name, "the type")?;
        Ok(match Kind::ALL[kind as usize] {
            Kind::Void => return Err(self.wrong("kind 0 is unknown")),
            Kind::Int => {
                let [data] = self.next()?;
                let is = |bit: u32| data >> 24 & bit != 0;
                let (signed, char, bool) = (is(1), is(2), is(4));
                Type::Int(Int {
                    name,
                    size,
                    signed,
                    char,
                    bool,
                    offset: (data >> 16) as u8,
                    bits: data as u8,
                })
            }
            Kind::Ptr => Type::Ptr(size),
            Kind::Array => {
                let [element, index, len] = self.next()?;
                Type::Array(Array { element, index, len })
            }
            Kind::Struct => Type::Struct(self.composite(name, size, vlen, flag)?),
            Kind::Union => Type::Union(self.composite(name, size, vlen, flag)?),
            Kind::Enum => {
                let mut values = Vec::with_capacity(vlen);
                for _ in 0..vlen {
                    let [name, value] = self.next()?;
                    let name = self.name(name, "an enumerator")?;
                    values.push(Enumerator { name, bits: i64::from(value as i32) as u64 });
                }
                Type::Enum(Enumeration { name, size, signed: flag, wide: false, values })
            }
            Kind::Enum64 => {
                let mut values = Vec::with_capacity(vlen);
                for _ in 0..vlen {
                    let [name, low, high] = self.next()?;
                    let name = self.name(name, "an enumerator")?;
                    values.push(Enumerator { name, bits: u64::from(high) << 32 | u64::from(low) });
                }
                Type::Enum(Enumeration { name, size, signed: flag, wide: true, values })
            }
            Kind::Fwd => Type::Fwd { name, union: flag },
            Kind::Typedef => Type::Typedef { name, to: size },
            Kind::Volatile => Type::Volatile(size),
            Kind::Const => Type::Const(size),
            Kind::Restrict => Type::Restrict(size),
            Kind::TypeTag => Type::TypeTag { name, to: size, attribute: flag },
            Kind::Func => {
                if vlen as u32 > linkage::EXTERN {
                    return Err(self.wrong(format!("linkage {vlen} of a function is unknown")));
                }
                Type::Func { name, proto: size, linkage: vlen as u16 }
            }
            Kind::FuncProto => {
                let mut params = Vec::with_capacity(vlen);
                for _ in 0..vlen {
                    let [name, ty] = self.next()?;
                    params.push(Param { name: self.name(name, "a parameter")?, ty });
                }
                Type::FuncProto(FuncProto { result: size, params })
            }
            Kind::Var => {
                let [linkage] = self.next()?;
                Type::Var { name, ty: size, linkage }
            }
            Kind::DataSec => {
                let mut vars = Vec::with_capacity(vlen);
                for _ in 0..vlen {
                    let [ty, offset, size] = self.next()?;
                    vars.push(SectionVar { ty, offset, size });
                }
                Type::DataSec(DataSec { name, size, vars })
            }
            Kind::Float => Type::Float { name, size },
            Kind::DeclTag => {
                let [component] = self.next()?;
                Type::DeclTag { name, to: size, component: component as i32, attribute: flag }
            }
        })
    }

    fn composite(
        &mut self,
        name: Name,
        size: u32,
        vlen: usize,
        has_bits: bool,
    ) -> Result<Composite, BtfError> {
        let mut members = Vec::with_capacity(vlen);
        for _ in 0..vlen {
            let [name, ty, offset] = self.next()?;
            let name = self.name(name, "a member")?;
            let (bit_offset, bits) =
                if has_bits { (offset & 0xff_ffff, (offset >> 24) as u8) } else { (offset, 0) };
            members.push(Member { name, ty, bit_offset, bits });
        }
        Ok(Composite { name, size, members })
    }
}
