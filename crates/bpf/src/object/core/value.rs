//! What is asked of a field, a type or an enumerator, before and after.

use super::CoreKind;
use super::spec::Spec;
use crate::btf::{Btf, Member, Type, TypeId};

/// What a relocation changes an operand to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    /// What the object has.
    pub(super) before: u64,
    /// What the kernel has; nothing if it has not what is asked of.
    pub(super) after: Option<u64>,
    /// The operand must be what the object has: the compiler and we agree on it.
    pub(super) validate: bool,
    /// Bytes that an instruction loads or stores, if the value is an offset: before and after.
    pub(super) sizes: (u32, u32),
    /// An instruction cannot load or store the other number of bytes and mean the same.
    pub(super) size_matters: bool,
}

/// A value, and what a load of it needs.
struct Asked {
    value: u64,
    validate: bool,
    /// Bytes and type of what is there.
    field: Option<(u32, TypeId)>,
}

impl Asked {
    fn new(value: u64) -> Self {
        Self { value, validate: true, field: None }
    }
}

impl Value {
    /// A type's number in the object, which a linker may have changed.
    pub(super) fn of_type_id(id: TypeId) -> Self {
        let value = u64::from(id);
        Self {
            before: value,
            after: Some(value),
            validate: false,
            sizes: (0, 0),
            size_matters: false,
        }
    }

    /// What is asked of `local`, and of what was found for it in the kernel.
    pub(super) fn of(
        kind: CoreKind,
        local: (&Btf, &Spec),
        kernel: Option<(&Btf, &Spec)>,
    ) -> Result<Self, String> {
        let before = ask(kind, local)?;
        let after = match kernel {
            Some(kernel) => Some(ask(kind, kernel)?),
            None if exists_or_not(kind) => Some(Asked::new(0)),
            None => None,
        };
        let size = |asked: &Asked| asked.field.map_or(0, |(size, _)| size);
        let sizes = (size(&before), after.as_ref().map_or(size(&before), size));
        let field = |btf: &Btf, asked: &Asked| asked.field.map(|(_, ty)| btf.ty(ty).clone());
        let fields = (
            field(local.0, &before),
            kernel.zip(after.as_ref()).and_then(|((btf, _), after)| field(btf, after)),
        );
        // The upper half of a pointer or of a number without a sign is zero.
        let any_size_will_do = match fields {
            (Some(Type::Ptr(_)), Some(Type::Ptr(_))) => true,
            (Some(Type::Int(a)), Some(Type::Int(b))) => !is_just_signed(&a) && !is_just_signed(&b),
            _ => false,
        };
        let size_matters = sizes.0 != sizes.1 && !any_size_will_do;
        Ok(Self {
            before: before.value,
            after: after.map(|after| after.value),
            validate: before.validate,
            sizes,
            size_matters,
        })
    }

    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        self.after == other.after
    }

    pub(super) fn describe(&self) -> String {
        self.after.map_or_else(|| "failure".to_owned(), |after| format!("success {after}"))
    }
}

fn is_just_signed(int: &crate::btf::Int) -> bool {
    int.signed && !int.char && !int.bool
}

/// What is asked has an answer also where there is nothing: 0.
fn exists_or_not(kind: CoreKind) -> bool {
    kind.is_of_type() || matches!(kind, CoreKind::FieldExists | CoreKind::EnumExists)
}

fn ask(kind: CoreKind, (btf, spec): (&Btf, &Spec)) -> Result<Asked, String> {
    match kind {
        CoreKind::FieldExists
        | CoreKind::TypeExists
        | CoreKind::TypeMatches
        | CoreKind::EnumExists => Ok(Asked::new(1)),
        CoreKind::TypeSize => Ok(Asked::new(u64::from(size(btf, spec.root)?))),
        CoreKind::TargetTypeId | CoreKind::LocalTypeId => {
            Ok(Asked { validate: false, ..Asked::new(u64::from(spec.root)) })
        }
        CoreKind::EnumValue => {
            let step = spec.last().ok_or("it has no enumerator")?;
            match btf.ty(step.ty) {
                Type::Enum(e) => e
                    .values
                    .get(step.index as usize)
                    .map(|value| Asked::new(value.bits))
                    .ok_or_else(|| "it has no enumerator".to_owned()),
                _ => Err("it is no enumeration".to_owned()),
            }
        }
        CoreKind::ByteOffset
        | CoreKind::ByteSize
        | CoreKind::Signed
        | CoreKind::LeftShift
        | CoreKind::RightShift => ask_of_field(kind, btf, spec),
    }
}

fn size(btf: &Btf, id: TypeId) -> Result<u32, String> {
    btf.size_of(id).map_err(|err| err.to_string())
}

/// The type of an element of an array, of an array of arrays, and so on.
fn innermost(btf: &Btf, mut id: TypeId) -> Result<TypeId, String> {
    for _ in 0..crate::btf::MAX_DEPTH {
        id = btf.resolve(id).map_err(|err| err.to_string())?;
        match btf.ty(id) {
            Type::Array(array) => id = array.element,
            _ => return Ok(id),
        }
    }
    Err("it is an array without an end".to_owned())
}

fn ask_of_field(kind: CoreKind, btf: &Btf, spec: &Spec) -> Result<Asked, String> {
    let step = spec.last().ok_or("it has no field")?;
    let member = btf
        .ty(step.ty)
        .composite()
        .and_then(|composite| composite.members.get(step.index as usize))
        .filter(|_| step.name.is_some());
    let Some(member) = member else {
        // An element of an array.
        return match kind {
            CoreKind::ByteOffset => {
                let bytes = size(btf, innermost(btf, step.ty)?)?;
                let field = Some((bytes, step.ty));
                Ok(Asked { field, ..Asked::new(spec.bit_offset / 8) })
            }
            CoreKind::ByteSize => Ok(Asked::new(u64::from(size(btf, step.ty)?))),
            _ => Err(format!("{} of an element of an array", kind.as_str())),
        };
    };
    let ty = btf.resolve(member.ty).map_err(|err| err.to_string())?;
    let Place { offset, bytes, bits } = place(btf, ty, member, spec.bit_offset)?;
    let is_bits = member.bits > 0;
    // Of a bit-field another compiler may read other bytes.
    let asked = |value: u64| Asked { validate: !is_bits, ..Asked::new(value) };
    let low = (spec.bit_offset as u32).wrapping_sub(offset.wrapping_mul(8));
    Ok(match kind {
        CoreKind::ByteOffset if is_bits => asked(u64::from(offset)),
        CoreKind::ByteOffset => {
            let field = Some((size(btf, innermost(btf, ty)?)?, ty));
            Asked { field, ..asked(u64::from(offset)) }
        }
        CoreKind::ByteSize => asked(u64::from(bytes)),
        CoreKind::Signed => {
            let signed = match btf.ty(ty) {
                Type::Enum(e) => e.signed,
                Type::Int(int) => int.signed,
                _ => false,
            };
            Asked::new(u64::from(signed))
        }
        CoreKind::LeftShift => asked(u64::from(64_u32.wrapping_sub(low.wrapping_add(bits)))),
        _ => Asked::new(u64::from(64_u32.wrapping_sub(bits))),
    })
}

/// What a program reads to read a field.
struct Place {
    /// Bytes from the start.
    offset: u32,
    /// How many.
    bytes: u32,
    /// How many bits of them are the field's.
    bits: u32,
}

fn place(btf: &Btf, ty: TypeId, member: &Member, bit_offset: u64) -> Result<Place, String> {
    // Bits are counted in 32 bits: `Spec` sees to it for arrays, and 64 members cannot exceed it by
    // much.
    let bit_offset = u32::try_from(bit_offset).map_err(|_| "the way leads farther than 512 MiB")?;
    let mut bytes = size(btf, ty)?;
    if member.bits == 0 {
        return Ok(Place { offset: bit_offset / 8, bytes, bits: bytes.wrapping_mul(8) });
    }
    let bits = u32::from(member.bits);
    // The smallest number of the type's size, or of twice that, that has all bits.
    loop {
        if bytes == 0 || bytes > 16 {
            return Err(format!("a bit-field in a type of {bytes} bytes"));
        }
        let offset = bit_offset / 8 / bytes * bytes;
        if u64::from(bit_offset) + u64::from(bits) <= 8 * (u64::from(offset) + u64::from(bytes)) {
            return Ok(Place { offset, bytes, bits });
        }
        if bytes >= 8 {
            return Err("a bit-field that no load of 64 bits has all of".to_owned());
        }
        bytes *= 2;
    }
}
