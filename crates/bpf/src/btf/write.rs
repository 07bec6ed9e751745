//! BTF as bytes.

use super::Btf;
use super::parse::{HEADER, MAGIC};
use super::types::{Composite, Kind, Type};

impl Btf {
    /// The bytes that [`Btf::parse`] makes the same types of, and that a kernel or any other reader of
    /// BTF takes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut words = Vec::new();
        for (_, ty) in self.iter() {
            write(ty, &mut words);
        }
        let types = 4 * words.len() as u32;
        let mut bytes = Vec::with_capacity(HEADER + 4 * words.len() + self.strings.len());
        bytes.extend(MAGIC.to_le_bytes());
        bytes.extend([1, 0]);
        for word in [HEADER as u32, 0, types, types, self.strings.len() as u32] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend(&self.strings);
        bytes
    }
}

fn head(words: &mut Vec<u32>, ty: &Type, vlen: u32, flag: bool, size: u32) {
    words.extend([ty.name().0, u32::from(flag) << 31 | (ty.kind() as u32) << 24 | vlen, size]);
}

fn write(ty: &Type, words: &mut Vec<u32>) {
    match ty {
        Type::Void => {}
        Type::Int(int) => {
            head(words, ty, 0, false, int.size);
            let encoding =
                u32::from(int.signed) | u32::from(int.char) << 1 | u32::from(int.bool) << 2;
            words.push(encoding << 24 | u32::from(int.offset) << 16 | u32::from(int.bits));
        }
        Type::Ptr(to) | Type::Volatile(to) | Type::Const(to) | Type::Restrict(to) => {
            head(words, ty, 0, false, *to);
        }
        Type::Typedef { to, .. } => head(words, ty, 0, false, *to),
        Type::TypeTag { to, attribute, .. } => head(words, ty, 0, *attribute, *to),
        Type::Array(array) => {
            head(words, ty, 0, false, 0);
            words.extend([array.element, array.index, array.len]);
        }
        Type::Struct(composite) | Type::Union(composite) => write_members(words, ty, composite),
        Type::Enum(e) => {
            head(words, ty, e.values.len() as u32, e.signed, e.size);
            for value in &e.values {
                words.extend([value.name.0, value.bits as u32]);
                if ty.kind() == Kind::Enum64 {
                    words.push((value.bits >> 32) as u32);
                }
            }
        }
        Type::Fwd { union, .. } => head(words, ty, 0, *union, 0),
        Type::Func { proto, linkage, .. } => head(words, ty, u32::from(*linkage), false, *proto),
        Type::FuncProto(proto) => {
            head(words, ty, proto.params.len() as u32, false, proto.result);
            proto.params.iter().for_each(|param| words.extend([param.name.0, param.ty]));
        }
        Type::Var { ty: to, linkage, .. } => {
            head(words, ty, 0, false, *to);
            words.push(*linkage);
        }
        Type::DataSec(section) => {
            head(words, ty, section.vars.len() as u32, false, section.size);
            section.vars.iter().for_each(|var| words.extend([var.ty, var.offset, var.size]));
        }
        Type::Float { size, .. } => head(words, ty, 0, false, *size),
        Type::DeclTag { to, component, attribute, .. } => {
            head(words, ty, 0, *attribute, *to);
            words.push(*component as u32);
        }
    }
}

fn write_members(words: &mut Vec<u32>, ty: &Type, composite: &Composite) {
    // With the flag an offset has 24 bits: only where there are bit-fields.
    let has_bits = composite.members.iter().any(|member| member.bits != 0);
    head(words, ty, composite.members.len() as u32, has_bits, composite.size);
    for member in &composite.members {
        let bits = if has_bits { u32::from(member.bits) << 24 } else { 0 };
        words.extend([member.name.0, member.ty, bits | member.bit_offset]);
    }
}
