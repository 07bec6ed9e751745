//! Values of variables: from text, and from bytes.

use std::collections::{BTreeMap, BTreeSet};

use crate::btf::{Btf, Enumeration, MAX_DEPTH, Type, TypeId};

/// The most parts of one value.
const MAX_PARTS: usize = 1 << 20;

/// What bytes are, by their type.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A truth value.
    Bool(bool),
    /// An integer, a pointer, or an enumerator without a name.
    Number(i128),
    /// A floating-point number.
    Float(f64),
    /// An enumerator's name and value.
    Name(String, i128),
    /// An array of characters, up to its 0.
    Text(String),
    /// What has no type, or one that has no values.
    Bytes(Vec<u8>),
    /// An array.
    List(Vec<Value>),
    /// A structure or a union: names and values. Members of anonymous members are among them.
    Members(Vec<(String, Value)>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scalar {
    Signed,
    Unsigned,
    Bool,
}

fn scalar(ty: &Type) -> Option<Scalar> {
    match ty {
        Type::Int(int) if int.bool => Some(Scalar::Bool),
        Type::Int(int) if int.signed => Some(Scalar::Signed),
        Type::Enum(e) if e.signed => Some(Scalar::Signed),
        Type::Int(_) | Type::Enum(_) => Some(Scalar::Unsigned),
        _ => None,
    }
}

/// Whether a type is `char`: text is an array of it.
fn is_char(btf: &Btf, ty: TypeId) -> bool {
    let id = btf.resolve(ty).unwrap_or(ty);
    matches!(btf.ty(id), Type::Int(int) if int.size == 1 && (int.char || btf.name(int.name) == "char"))
}

/// A value as the bytes that a variable of a type has for it: a number (also `0x...`), a truth value,
/// an enumerator or what is behind the last `_` of one (`pid` for `KEY_PID`), or text, also in `"`.
///
/// # Errors
/// It cannot have the value, or is of a type that has no values of its own.
pub fn encode(btf: &Btf, ty: TypeId, value: &str) -> Result<Vec<u8>, String> {
    let id = btf.resolve(ty).map_err(|err| err.to_string())?;
    let ty = btf.ty(id);
    if let Type::Array(array) = ty
        && is_char(btf, array.element)
    {
        let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        let text = quoted.unwrap_or(value);
        let (len, most) = (text.len(), array.len as usize);
        if len >= most {
            return Err(format!(
                "`{value}` has {len} bytes; there is room for {}",
                most.max(1) - 1
            ));
        }
        let mut bytes = text.as_bytes().to_vec();
        // What was there behind a shorter text is gone; a very long rest is not worth its memory.
        bytes.resize(most.min(text.len() + 4096), 0);
        return Ok(bytes);
    }
    if let Type::Array(array) = ty
        && let Some(list) = value.strip_prefix('[').and_then(|value| value.strip_suffix(']'))
    {
        return elements(btf, (array.element, array.len), list);
    }
    if matches!(ty, Type::Array(_)) && value.starts_with('[') {
        return Err(format!("`{value}` is a list without its end"));
    }
    let size = btf.size_of(id).map_err(|err| err.to_string())? as usize;
    let bytes = |number: i128| number.to_le_bytes()[..size.min(16)].to_vec();
    let e = if let Type::Enum(e) = ty { Some(e) } else { None };
    if let Some(number) = e.and_then(|e| enumerator(btf, e, value)) {
        return Ok(bytes(number));
    }
    let Some(scalar) = scalar(ty).filter(|_| (1..=16).contains(&size)) else {
        let what = "only numbers, truth values, enumerators and lists of them can be set; give a member or an \
             element";
        return Err(what.to_owned());
    };
    let bits = 8 * size.min(8) as u32;
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
    number.map(bytes).ok_or_else(|| match (scalar, e) {
        (Scalar::Bool, _) => format!("`{value}` is not true, false, on, off, yes, no, 1 or 0"),
        (_, Some(e)) if !e.values.is_empty() => {
            let names: Vec<_> = e.values.iter().map(|value| btf.name(value.name)).collect();
            format!("`{value}` is none of {}", names.join(", "))
        }
        _ => format!("`{value}` is not a number from {least} to {most}"),
    })
}

/// The first elements of an array, as many as there are in a list with commas.
fn elements(btf: &Btf, (ty, most): (TypeId, u32), list: &str) -> Result<Vec<u8>, String> {
    let id = btf.resolve(ty).map_err(|err| err.to_string())?;
    if matches!(btf.ty(id), Type::Array(_)) {
        return Err("the elements of this array are arrays: give one of them".to_owned());
    }
    let (count, list) = match list.trim() {
        "" => (0, None),
        list => (list.split(',').count(), Some(list)),
    };
    if count > most as usize {
        return Err(format!("the list has {count} elements, the array {most}"));
    }
    let mut bytes = Vec::new();
    for element in list.into_iter().flat_map(|list| list.split(',')) {
        bytes.extend(encode(btf, ty, element.trim())?);
    }
    Ok(bytes)
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

fn enumerator(btf: &Btf, e: &Enumeration, value: &str) -> Option<i128> {
    let short = |name: &str| name.rsplit('_').next().unwrap_or(name).to_ascii_lowercase();
    let found = e.values.iter().find(|known| btf.name(known.name) == value);
    let found =
        found.or_else(|| e.values.iter().find(|known| short(btf.name(known.name)) == value));
    found.map(|found| e.value(found))
}

/// The values of enumerators that are wanted by name; the first of each name.
pub(super) fn enumerators<'a>(btf: &'a Btf, wanted: &BTreeSet<&str>) -> BTreeMap<&'a str, i128> {
    let mut found = BTreeMap::new();
    for (_, ty) in btf.iter() {
        let Type::Enum(e) = ty else { continue };
        for value in &e.values {
            let name = btf.name(value.name);
            if wanted.contains(name) {
                found.entry(name).or_insert(e.value(value));
            }
        }
    }
    found
}

/// What bytes are as a value of a type. Nothing if there are too few of them, if the type has no
/// values, or if it has more than a million parts, or many more than bytes: an array of a million
/// structures without members is of no use to anybody, and takes long.
pub fn decode(btf: &Btf, ty: TypeId, bytes: &[u8]) -> Option<Value> {
    let size = btf.size_of(ty).ok()? as usize;
    // Bits, and structures of one member in each other, have more than one for a byte.
    let mut parts = size.saturating_mul(64).saturating_add(256).min(MAX_PARTS);
    decode_part(btf, ty, bytes, MAX_DEPTH, &mut parts)
}

fn decode_part(
    btf: &Btf,
    ty: TypeId,
    bytes: &[u8],
    depth: usize,
    parts: &mut usize,
) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    *parts = parts.checked_sub(1)?;
    let id = btf.resolve(ty).ok()?;
    let size = btf.size_of(id).ok()? as usize;
    let bytes = bytes.get(..size)?;
    match btf.ty(id) {
        Type::Ptr(_) => number(bytes, false).map(Value::Number),
        Type::Int(int) if int.bool => number(bytes, false).map(|number| Value::Bool(number != 0)),
        Type::Int(int) => number(bytes, int.signed).map(Value::Number),
        Type::Enum(e) => {
            let number = number(bytes, e.signed)?;
            let known = e.values.iter().find(|known| e.value(known) == number);
            Some(match known {
                Some(known) => Value::Name(btf.name(known.name).to_owned(), number),
                None => Value::Number(number),
            })
        }
        Type::Float { .. } => match *bytes {
            [a, b, c, d] => Some(Value::Float(f32::from_le_bytes([a, b, c, d]).into())),
            [a, b, c, d, e, f, g, h] => {
                Some(Value::Float(f64::from_le_bytes([a, b, c, d, e, f, g, h])))
            }
            _ => None,
        },
        Type::Array(array) if is_char(btf, array.element) => Some(Value::Text(super::text(bytes))),
        Type::Array(array) => {
            let size = btf.size_of(array.element).ok()? as usize;
            let element =
                |i: usize| decode_part(btf, array.element, &bytes[i * size..], depth, &mut *parts);
            (0..array.len as usize).map(element).collect::<Option<_>>().map(Value::List)
        }
        Type::Struct(composite) | Type::Union(composite) => {
            let mut members = Vec::new();
            for member in &composite.members {
                let start = member.bit_offset as usize / 8;
                let value = if member.bits == 0 {
                    decode_part(btf, member.ty, bytes.get(start..)?, depth, parts)?
                } else {
                    *parts = parts.checked_sub(1)?;
                    let id = btf.resolve(member.ty).ok()?;
                    let signed = scalar(btf.ty(id)) == Some(Scalar::Signed);
                    Value::Number(bit_field(bytes, member.bit_offset, member.bits, signed)?)
                };
                match (btf.name(member.name), value) {
                    ("", Value::Members(inner)) => members.extend(inner),
                    (name, value) => members.push((name.to_owned(), value)),
                }
            }
            Some(Value::Members(members))
        }
        _ => None,
    }
}

/// Up to 16 bytes as a number.
fn number(bytes: &[u8], signed: bool) -> Option<i128> {
    let negative = signed && bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut word = if negative { [0xff; 16] } else { [0; 16] };
    word.get_mut(..bytes.len()).filter(|word| !word.is_empty())?.copy_from_slice(bytes);
    Some(i128::from_le_bytes(word))
}

fn bit_field(bytes: &[u8], offset: u32, bits: u8, signed: bool) -> Option<i128> {
    let start = offset as usize / 8;
    let end = (offset as usize + usize::from(bits)).div_ceil(8);
    let shifted = number(bytes.get(start..end)?, false)? >> (offset % 8);
    let bits = u32::from(bits).min(64);
    let value = shifted & ((1_i128 << bits) - 1);
    let negative = signed && value >> (bits - 1) & 1 == 1;
    Some(if negative { value - (1_i128 << bits) } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btf::{Builder, Field};

    /// Parts that take no bytes are as many as a type says.
    #[test]
    fn a_value_has_not_many_more_parts_than_bytes() {
        let mut b = Builder::new();
        let byte = b.int("unsigned char", 1, false);
        let empty = b.structure("empty", &[]);
        let many = b.array(empty, 1 << 20);
        let hostile = b.structure("hostile", &[Field::new("many", many), Field::new("byte", byte)]);
        let few = b.array(empty, 3);
        let plain = b.structure("plain", &[Field::new("few", few), Field::new("byte", byte)]);
        let bit = |name| Field::new(name, byte).bits(1);
        let bits = b.structure("bits", &["a", "b", "c", "d", "e", "f", "g", "h"].map(bit));
        let all = b.array(bits, 4096);
        let btf = b.finish().expect("types");
        assert_eq!(decode(&btf, hostile, &[7]), None);
        let Some(Value::Members(members)) = decode(&btf, plain, &[7]) else { panic!("no value") };
        assert_eq!(members[1].1, Value::Number(7));
        let Some(Value::List(list)) = decode(&btf, all, &[1; 4096]) else { panic!("no value") };
        assert_eq!(list.len(), 4096);
    }
}
