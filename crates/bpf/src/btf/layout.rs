//! Sizes, alignments, and where members are.

use super::types::{Member, Type, TypeId};
use super::{Btf, MAX_DEPTH};

/// The most members that one question looks at, so that unions of unions of themselves end.
const MAX_STEPS: usize = 1 << 20;

/// A type has no size, no end, or no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// It refers to itself, or to more types in a row than anybody writes.
    #[error("type [{0}] has no end: more than {MAX_DEPTH} types lead from one to the next")]
    TooDeep(TypeId),
    /// A function, `void`, or a structure that is only named.
    #[error("type [{0}] {1} has no size")]
    NoSize(TypeId, &'static str),
    /// An array of arrays, say, with more bytes than 32 bits can count.
    #[error("type [{0}] is larger than 4 GiB")]
    TooLarge(TypeId),
    /// It is a part of itself, or a pointer to itself.
    #[error("type [{0}] leads back to itself")]
    Circle(TypeId),
    /// A declaration given to a [`Builder`](super::Builder) makes no sense.
    #[error("`{0}`: {1}")]
    Declaration(String, &'static str),
}

impl Btf {
    /// The type behind typedefs, `const`, `volatile`, `restrict` and type tags.
    ///
    /// # Errors
    /// They do not end.
    pub fn resolve(&self, id: TypeId) -> Result<TypeId, LayoutError> {
        let mut at = id;
        for _ in 0..MAX_DEPTH {
            match self.ty(at) {
                Type::Typedef { to, .. }
                | Type::TypeTag { to, .. }
                | Type::Volatile(to)
                | Type::Const(to)
                | Type::Restrict(to) => at = *to,
                _ => return Ok(at),
            }
        }
        Err(LayoutError::TooDeep(id))
    }

    /// Bytes of a type. A pointer has 8.
    ///
    /// # Errors
    /// It has no size, or no end.
    pub fn size_of(&self, id: TypeId) -> Result<u32, LayoutError> {
        let mut at = id;
        let mut count: u32 = 1;
        for _ in 0..MAX_DEPTH {
            let size = match self.ty(at) {
                Type::Int(int) => int.size,
                Type::Struct(composite) | Type::Union(composite) => composite.size,
                Type::Enum(e) => e.size,
                Type::DataSec(section) => section.size,
                Type::Float { size, .. } => *size,
                Type::Ptr(_) => 8,
                Type::Typedef { to, .. }
                | Type::TypeTag { to, .. }
                | Type::DeclTag { to, .. }
                | Type::Volatile(to)
                | Type::Const(to)
                | Type::Restrict(to)
                | Type::Var { ty: to, .. } => {
                    at = *to;
                    continue;
                }
                Type::Array(array) => {
                    count = count.checked_mul(array.len).ok_or(LayoutError::TooLarge(id))?;
                    at = array.element;
                    continue;
                }
                other
                @ (Type::Void | Type::Fwd { .. } | Type::Func { .. } | Type::FuncProto(_)) => {
                    return Err(LayoutError::NoSize(id, other.kind().as_str()));
                }
            };
            return count.checked_mul(size).ok_or(LayoutError::TooLarge(id));
        }
        Err(LayoutError::TooDeep(id))
    }

    /// Bytes that a type's address is a multiple of. 1 for a packed structure.
    ///
    /// # Errors
    /// It has no size, or no end.
    pub fn align_of(&self, id: TypeId) -> Result<u32, LayoutError> {
        let mut steps = MAX_STEPS;
        self.align_within(id, MAX_DEPTH, &mut steps)
    }

    fn align_within(
        &self,
        id: TypeId,
        depth: usize,
        steps: &mut usize,
    ) -> Result<u32, LayoutError> {
        let too_deep = LayoutError::TooDeep(id);
        let depth = depth.checked_sub(1).ok_or(too_deep.clone())?;
        *steps = steps.checked_sub(1).ok_or(too_deep)?;
        match self.ty(id) {
            Type::Int(int) => Ok(int.size.clamp(1, 8)),
            Type::Enum(e) => Ok(e.size.clamp(1, 8)),
            Type::Float { size, .. } => Ok((*size).clamp(1, 8)),
            Type::Ptr(_) => Ok(8),
            Type::Typedef { to, .. }
            | Type::TypeTag { to, .. }
            | Type::Volatile(to)
            | Type::Const(to)
            | Type::Restrict(to) => self.align_within(*to, depth, steps),
            Type::Array(array) => self.align_within(array.element, depth, steps),
            Type::Struct(composite) | Type::Union(composite) => {
                let mut most = 1;
                for member in &composite.members {
                    let align = self.align_within(member.ty, depth, steps)?;
                    most = most.max(align);
                    if member.bits == 0 && member.bit_offset % (8 * align) != 0 {
                        return Ok(1);
                    }
                }
                Ok(if composite.size % most == 0 { most } else { 1 })
            }
            other => Err(LayoutError::NoSize(id, other.kind().as_str())),
        }
    }

    /// A member of a structure or a union by its name, also one of an anonymous structure inside,
    /// with its offset in bits from the start of the outermost. Nothing if there is none, or if `id`
    /// is neither a structure nor a union.
    pub fn member(&self, id: TypeId, name: &str) -> Option<Member> {
        let mut steps = MAX_STEPS;
        self.member_within(id, name, MAX_DEPTH, &mut steps)
    }

    fn member_within(
        &self,
        id: TypeId,
        name: &str,
        depth: usize,
        steps: &mut usize,
    ) -> Option<Member> {
        let depth = depth.checked_sub(1)?;
        for member in &self.ty(self.resolve(id).ok()?).composite()?.members {
            *steps = steps.checked_sub(1)?;
            match self.name(member.name) {
                "" => {
                    if let Some(inner) = self.member_within(member.ty, name, depth, steps) {
                        let bit_offset = inner.bit_offset.checked_add(member.bit_offset)?;
                        return Some(Member { bit_offset, ..inner });
                    }
                }
                known if known == name => return Some(*member),
                _ => {}
            }
        }
        None
    }
}
