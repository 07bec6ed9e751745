//! An object's global variables, by name, as its BTF describes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use libbpf_rs::btf::types::{
    Array, DataSec, Enum, Enum64, Int, IntEncoding, MemberAttr, Struct, Var,
};
use libbpf_rs::btf::{Btf, BtfType, HasSize as _, ReferencesType as _, TypeId};
use object::{Architecture, Object as _, ObjectSymbol as _};

/// Where a variable, or a part of one, is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The section: `.rodata`, `.bss`.
    pub section: String,
    /// Bytes from the section's start.
    pub offset: usize,
    /// Bytes.
    pub size: usize,
    ty: TypeId,
}

impl Place {
    /// A part that begins so many bytes into it. Its end is a number too.
    fn part(&self, at: Option<usize>, size: usize, ty: TypeId) -> Result<Self> {
        let offset = at.and_then(|at| at.checked_add(self.offset));
        let offset = offset.filter(|offset| offset.checked_add(size).is_some());
        let offset = offset.context("the object's BTF is damaged")?;
        Ok(Self { section: self.section.clone(), offset, size, ty })
    }
}

/// A number that a variable can hold, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scalar {
    Signed,
    Unsigned,
    Bool,
}

/// A variable of a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Global {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub place: Place,
}

/// An object's types, and where its variables are.
pub struct Types {
    btf: Btf<'static>,
    /// A compiler leaves the offsets in the BTF at 0: the symbols have them.
    offsets: BTreeMap<String, usize>,
}

impl Types {
    /// Those of an object file.
    ///
    /// # Errors
    /// It is no ELF file, or has no BTF.
    pub fn open(path: &Path) -> Result<Self> {
        let content = fs::read(path)?;
        let file = object::File::parse(&*content)
            .map_err(|err| anyhow!("not a BPF object, which is an ELF file: {err}"))?;
        let architecture = file.architecture();
        ensure!(
            architecture == Architecture::Bpf,
            "not a BPF object, but one for {architecture:?}"
        );
        let offset = |symbol: object::Symbol<'_, '_>| {
            // A section of 4 GiB is none that can be loaded.
            let address = u32::try_from(symbol.address()).ok()?;
            Some((symbol.name().ok()?.to_owned(), address as usize))
        };
        let offsets = file.symbols().filter_map(offset).collect();
        let btf = Btf::from_path(path).context("no BTF in it; compile it with -g")?;
        Ok(Self { btf, offsets })
    }

    /// The types alone.
    pub fn btf(&self) -> &Btf<'static> {
        &self.btf
    }
}

/// All global variables, section by section.
pub fn all(types: &Types) -> Vec<Global> {
    let mut globals = Vec::new();
    let btf = &types.btf;
    for section in btf.type_by_kind::<DataSec<'_>>() {
        let Some(section_name) = section.name().and_then(|name| name.to_str()) else { continue };
        for entry in section.iter() {
            let Some(var) = btf.type_by_id::<Var<'_>>(entry.ty) else { continue };
            let Some(name) = var.name().and_then(|name| name.to_str()) else { continue };
            let place = Place {
                section: section_name.to_owned(),
                offset: types.offsets.get(name).copied().unwrap_or(entry.offset as usize),
                size: entry.size,
                ty: var.referenced_type_id(),
            };
            globals.push(Global { name: name.to_owned(), place });
        }
    }
    globals
}

/// A variable by its path: `name`, `name.member`, `name[2]`, and so on.
///
/// # Errors
/// There is none. The message names those that there are.
pub fn find(types: &Types, path: &str) -> Result<Place> {
    let end = path.find(['.', '[']).unwrap_or(path.len());
    let (name, mut rest) = path.split_at(end);
    let globals = all(types);
    let global = globals.iter().find(|global| global.name == name).ok_or_else(|| {
        let settable = globals.iter().filter(|global| is_settable(global));
        let names: Vec<_> = settable.map(|global| global.name.as_str()).collect();
        anyhow!("there is no variable `{name}`; there are: {}", names.join(", "))
    })?;
    let mut place = global.place.clone();
    while !rest.is_empty() {
        place = if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (member, after) = after.split_at(end);
            rest = after;
            self::member(types, &place, member)?
        } else {
            let (index, after) = rest
                .strip_prefix('[')
                .and_then(|after| after.split_once(']'))
                .with_context(|| format!("`{path}`: `{rest}` is neither .member nor [index]"))?;
            rest = after;
            element(&types.btf, &place, index)?
        };
    }
    Ok(place)
}

/// Whether a user may want to set it: not `.bss`, which only counts, and not what a scheduler tells
/// its end by.
fn is_settable(global: &Global) -> bool {
    matches!(global.place.section.as_str(), ".rodata" | ".data")
        && is_named(&global.name)
        && !matches!(global.name.as_str(), "uei" | "uei_dump_len")
}

/// Whether a person gave it its name: not the loader's `__SCX_...`, and not a function's own
/// `function.variable`, which cannot be named from outside.
pub fn is_named(name: &str) -> bool {
    !name.starts_with("__") && !name.contains('.')
}

/// A member of a structure.
///
/// # Errors
/// It is no structure, or has no such member.
pub fn member(types: &Types, whole: &Place, name: &str) -> Result<Place> {
    let btf = &types.btf;
    let ty = resolve(btf, whole.ty)?;
    let structure =
        Struct::try_from(ty).map_err(|_| anyhow!("`.{name}`: what is before it has no members"))?;
    let is_it = |member_name: Option<&std::ffi::OsStr>| member_name.is_some_and(|n| n == name);
    let found = structure
        .iter()
        .find(|member| is_it(member.name))
        .with_context(|| format!("there is no member `{name}`"))?;
    let MemberAttr::Normal { offset } = found.attr else {
        bail!("`{name}` is a bit field, which cannot be set");
    };
    let size = size_of(btf, found.ty, DEEPEST)?;
    whole.part(Some(offset as usize / 8), size, found.ty)
}

fn element(btf: &Btf<'_>, whole: &Place, index: &str) -> Result<Place> {
    let array = Array::try_from(resolve(btf, whole.ty)?)
        .map_err(|_| anyhow!("`[{index}]`: what is before it is no array"))?;
    let i: usize = index.parse().with_context(|| format!("`[{index}]`: no index"))?;
    ensure!(i < array.capacity(), "`[{index}]`: it has {} elements", array.capacity());
    let size = size_of(btf, array.ty(), DEEPEST)?;
    whole.part(i.checked_mul(size), size, array.ty())
}

/// A value as the bytes that the variable has for it.
///
/// # Errors
/// The variable cannot have it.
pub fn encode(types: &Types, place: &Place, value: &str) -> Result<Vec<u8>> {
    let ty = resolve(&types.btf, place.ty)?;
    if let Some(number) = enumerator(&ty, value) {
        return bytes_of(number, place);
    }
    let Some(scalar) = scalar(&ty) else {
        bail!("only numbers, truth values and enumerators can be set; give a member or an element")
    };
    let bits = 8 * place.size.clamp(1, 8) as u32;
    let (least, most) = match scalar {
        Scalar::Bool => (0, 1),
        Scalar::Unsigned => (0, (1_i128 << bits) - 1),
        Scalar::Signed => (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1),
    };
    let number = match (scalar, value) {
        (Scalar::Bool, "true" | "on" | "yes") => Some(1),
        (Scalar::Bool, "false" | "off" | "no") => Some(0),
        _ => parse_number(value).filter(|number| (least..=most).contains(number)),
    };
    let number = number.with_context(|| match (scalar, names_of(&ty)) {
        (Scalar::Bool, _) => format!("`{value}` is not true, false, on, off, yes, no, 1 or 0"),
        (_, names) if names.is_empty() => {
            format!("`{value}` is not a number from {least} to {most}")
        }
        (_, names) => format!("`{value}` is none of {}", names.join(", ")),
    })?;
    bytes_of(number, place)
}

fn bytes_of(number: i128, place: &Place) -> Result<Vec<u8>> {
    let bytes = number.to_le_bytes();
    let bytes = bytes.get(..place.size).filter(|bytes| !bytes.is_empty());
    let bytes = bytes.with_context(|| format!("{} bytes are no number", place.size))?;
    Ok(bytes.to_vec())
}

/// Bytes as the number that they are; nothing if it is none, or negative.
pub fn decode(types: &Types, place: &Place, section: &[u8]) -> Option<u64> {
    let scalar = scalar(&resolve(&types.btf, place.ty).ok()?)?;
    let bytes = section.get(place.offset..place.offset + place.size.min(8))?;
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    let number = u64::from_le_bytes(word);
    let negative = scalar == Scalar::Signed && bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    (!negative).then_some(number)
}

/// Decimal, or hexadecimal after `0x`; with a sign.
fn parse_number(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let number = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => digits.parse::<u64>().ok()?,
    };
    let number = i128::from(number);
    Some(if negative { -number } else { number })
}

/// The type behind typedefs, `const` and `volatile`.
fn resolve<'a>(btf: &'a Btf<'_>, ty: TypeId) -> Result<BtfType<'a>> {
    let ty = btf.type_by_id::<BtfType<'_>>(ty).context("the object's BTF is damaged")?;
    Ok(ty.skip_mods_and_typedefs())
}

/// Dimensions of an array; libbpf has as many. A damaged BTF may have an array of itself.
const DEEPEST: u32 = 32;

fn size_of(btf: &Btf<'_>, ty: TypeId, deepest: u32) -> Result<usize> {
    let ty = resolve(btf, ty)?;
    if let Ok(array) = Array::try_from(ty) {
        let deeper = deepest.checked_sub(1).context("an array has too many dimensions")?;
        let size = array.capacity().checked_mul(size_of(btf, array.ty(), deeper)?);
        return size.context("an array is too large");
    }
    let sized = Int::try_from(ty)
        .map(|int| int.size())
        .or_else(|ty| Enum::try_from(ty).map(|e| e.size()))
        .or_else(|ty| Enum64::try_from(ty).map(|e| e.size()))
        .or_else(|ty| Struct::try_from(ty).map(|s| s.size()));
    // Otherwise it is a pointer, or something that is only ever looked at through one.
    Ok(sized.unwrap_or(8))
}

fn scalar(ty: &BtfType<'_>) -> Option<Scalar> {
    if let Ok(int) = Int::try_from(*ty) {
        return Some(match int.encoding {
            IntEncoding::Bool => Scalar::Bool,
            IntEncoding::Signed => Scalar::Signed,
            IntEncoding::None | IntEncoding::Char => Scalar::Unsigned,
        });
    }
    let is_signed = Enum::try_from(*ty)
        .map(|e| e.is_signed())
        .or_else(|ty| Enum64::try_from(ty).map(|e| e.is_signed()));
    is_signed.ok().map(|signed| if signed { Scalar::Signed } else { Scalar::Unsigned })
}

/// An enumeration's names, as they are set.
fn names_of(ty: &BtfType<'_>) -> Vec<String> {
    enumerators(ty).into_iter().map(|(name, _)| name).collect()
}

/// Names and values; none if it is no enumeration.
pub fn enumerators(ty: &BtfType<'_>) -> Vec<(String, i128)> {
    let text = |name: Option<&std::ffi::OsStr>| name.and_then(|n| n.to_str()).map(str::to_owned);
    if let Ok(e) = Enum::try_from(*ty) {
        return e.iter().filter_map(|m| Some((text(m.name)?, i128::from(m.value)))).collect();
    }
    match Enum64::try_from(*ty) {
        Ok(e) => e.iter().filter_map(|m| Some((text(m.name)?, m.value))).collect(),
        Err(_) => Vec::new(),
    }
}

/// An enumerator's value, by its name or by what is behind the last `_` of it: `key=pid` for
/// `KEY_PID`.
fn enumerator(ty: &BtfType<'_>, value: &str) -> Option<i128> {
    let all = enumerators(ty);
    let short = |name: &str| name.rsplit('_').next().unwrap_or(name).to_ascii_lowercase();
    let found = all.iter().find(|(name, _)| name == value);
    found.or_else(|| all.iter().find(|(name, _)| short(name) == value)).map(|&(_, number)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const U32: u32 = 1;
    const S32: u32 = 2;
    const BOOL: u32 = 3;
    const KEY: u32 = 4;
    const TABLE: u32 = 5;
    const LIMITS: u32 = 6;
    const CONST: u32 = 7;
    const ENDLESS: u32 = 8;
    const LARGE: u32 = 9;
    const HUGE: u32 = 10;

    /// Types in the kernel's format, which starts with a header and ends in the names.
    #[derive(Default)]
    struct Writer {
        types: Vec<u32>,
        names: Vec<u8>,
    }

    impl Writer {
        fn name(&mut self, name: &str) -> u32 {
            if self.names.is_empty() {
                self.names.push(0);
            }
            let at = self.names.len() as u32;
            self.names.extend(name.bytes().chain([0]));
            at
        }

        /// A type of kind `kind` with so many parts, its size or what it refers to, and the rest.
        fn add(&mut self, name: &str, kind: u32, parts: u32, size: u32, rest: &[u32]) {
            let name = if name.is_empty() { 0 } else { self.name(name) };
            self.types.extend([name, kind << 24 | parts, size]);
            self.types.extend(rest);
        }

        fn write(self) -> Vec<u8> {
            let length = 4 * self.types.len() as u32;
            let header = [0x0001_eb9f, 24, 0, length, length, self.names.len() as u32];
            let words = header.iter().chain(&self.types).flat_map(|word| word.to_le_bytes());
            words.chain(self.names).collect()
        }
    }

    /// What a compiler makes of these, in `.rodata`:
    ///
    /// ```c
    /// enum key { key_tid, key_pid };
    /// struct limits { __u32 most; int nice; int table[3]; };
    /// const volatile __u32 batch;
    /// int nice;
    /// bool on;
    /// enum key key;
    /// struct limits limits;
    /// ```
    ///
    /// And what none makes: an array of itself, one that is larger than any memory, and numbers of 17
    /// bytes and of none.
    fn types() -> Types {
        let mut writer = Writer::default();
        writer.add("u32", 1, 0, 4, &[32]);
        writer.add("int", 1, 0, 4, &[1 << 24 | 32]);
        writer.add("bool", 1, 0, 1, &[4 << 24 | 8]);
        let (tid, pid) = (writer.name("key_tid"), writer.name("key_pid"));
        writer.add("key", 6, 2, 4, &[tid, 0, pid, 1]);
        writer.add("", 3, 0, 0, &[S32, U32, 3]);
        let [most, nice, table] = ["most", "nice", "table"].map(|name| writer.name(name));
        let members = [most, U32, 0, nice, S32, 32, table, TABLE, 64];
        writer.add("limits", 4, 3, 20, &members);
        writer.add("", 10, 0, U32, &[]);
        writer.add("", 3, 0, 0, &[ENDLESS, U32, 2]);
        writer.add("", 3, 0, 0, &[U32, U32, u32::MAX]);
        writer.add("", 3, 0, 0, &[LARGE, U32, u32::MAX]);
        let variables = [
            ("batch", CONST, 0, 4),
            ("nice", S32, 4, 4),
            ("on", BOOL, 8, 1),
            ("key", KEY, 12, 4),
            ("limits", LIMITS, 16, 20),
            ("__SCX_DSQ_LOCAL", U32, 36, 4),
            ("endless", ENDLESS, 40, 4),
            ("wide", U32, 44, 17),
            ("huge", HUGE, 48, 4),
            ("empty", S32, 52, 0),
        ];
        for (name, ty, ..) in variables {
            writer.add(name, 14, 0, ty, &[1]);
        }
        let entries: Vec<u32> = (HUGE + 1..)
            .zip(variables)
            // The offsets are left to the symbols.
            .flat_map(|(var, (.., size))| [var, 0, size])
            .collect();
        writer.add(".rodata", 15, variables.len() as u32, 64, &entries);
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(&file, writer.write()).expect("it is written");
        let btf = Btf::from_path(&file).expect("it is BTF");
        let offset = |(name, _, offset, _): (&str, u32, usize, u32)| (name.to_owned(), offset);
        Types { btf, offsets: variables.map(offset).into() }
    }

    #[test]
    fn values_there_and_back() {
        let types = types();
        for (path, offset, value, bytes, number) in [
            ("batch", 0, "0x10", &[16, 0, 0, 0][..], Some(16)),
            ("nice", 4, "-2", &[254, 255, 255, 255], None),
            ("nice", 4, "-2147483648", &[0, 0, 0, 128], None),
            ("on", 8, "yes", &[1], Some(1)),
            ("on", 8, "0", &[0], Some(0)),
            ("key", 12, "key_pid", &[1, 0, 0, 0], Some(1)),
            ("key", 12, "pid", &[1, 0, 0, 0], Some(1)),
            ("limits.most", 16, "4294967295", &[255; 4], Some(u64::from(u32::MAX))),
            ("limits.nice", 20, "7", &[7, 0, 0, 0], Some(7)),
            ("limits.table[2]", 32, "9", &[9, 0, 0, 0], Some(9)),
        ] {
            let place = find(&types, path).expect(path);
            assert_eq!((place.section.as_str(), place.offset), (".rodata", offset), "{path}");
            assert_eq!(encode(&types, &place, value).expect(path), bytes, "{path}={value}");
            let mut section = [0xaa; 40];
            section[offset..offset + bytes.len()].copy_from_slice(bytes);
            assert_eq!(decode(&types, &place, &section), number, "{path}={value}");
            assert_eq!(decode(&types, &place, &section[..offset]), None, "{path}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_what_there_is() {
        let types = types();
        for (path, value, says) in [
            ("colour", "1", "no variable `colour`; there are: batch, nice, on, key, limits"),
            ("limits.least", "1", "no member `least`"),
            ("batch.most", "1", "no members"),
            ("batch[0]", "1", "no array"),
            ("limits.table[3]", "1", "it has 3 elements"),
            ("limits.table[x]", "1", "no index"),
            ("limits.table[1", "1", "neither .member nor [index]"),
            ("limits", "1", "only numbers"),
            ("batch", "-1", "not a number from 0 to 4294967295"),
            ("batch", "4294967296", "not a number from 0 to 4294967295"),
            ("nice", "2147483648", "not a number from -2147483648 to 2147483647"),
            ("on", "2", "not true, false"),
            ("key", "gid", "`gid` is none of key_tid, key_pid"),
            ("endless[1]", "1", "too many dimensions"),
            ("wide", "1", "17 bytes are no number"),
            // It would end at 2 to the power of 64.
            ("huge[1073741824][1073741811]", "1", "damaged"),
            ("empty", "1", "0 bytes are no number"),
        ] {
            let bytes = find(&types, path).and_then(|place| encode(&types, &place, value));
            let message = format!("{:#}", bytes.expect_err(path));
            assert!(message.contains(says), "{path}={value}: {message}");
        }
    }

    #[test]
    fn programs_for_other_machines_are_no_objects() {
        let err = Types::open(&std::env::current_exe().expect("a test has a path"));
        let message = format!("{:#}", err.err().expect("it is none"));
        assert!(message.contains("not a BPF object, but one for"), "{message}");
    }
}
