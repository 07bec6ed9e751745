//! Which types of an object stand for which of a kernel: the rules of libbpf's `relo_core.c`.
//!
//! Three relations. *Compatible* types may be taken for each other where one is named; *compatible
//! fields* where one is read; and *matching* types have all that is declared, member by member.

use super::limits;
use crate::btf::{Btf, Composite, Enumeration, Kind, Name, Type, TypeId, essential_name};

/// The most types that lead from one to the next, as in libbpf.
const MAX_DEPTH: usize = 32;

/// A type and where it is from.
pub(super) type In<'a> = (&'a Btf, TypeId);

/// Counts what is looked at, so that types made for it cannot take forever.
#[derive(Debug)]
pub(super) struct Matching {
    left: u64,
}

impl Default for Matching {
    fn default() -> Self {
        Self { left: limits::MATCHING }
    }
}

impl Matching {
    /// Counts so many looks.
    pub(super) fn step(&mut self, looks: usize) -> Result<(), String> {
        let left = self.left.checked_sub(1 + looks as u64);
        let most = limits::MATCHING;
        self.left =
            left.ok_or_else(|| format!("its types lead to more than {most} comparisons"))?;
        Ok(())
    }
}

/// The same kind; either kind of enumeration is the same.
pub(super) fn same_kind(a: Kind, b: Kind) -> bool {
    let is_enum = |kind| matches!(kind, Kind::Enum | Kind::Enum64);
    a == b || is_enum(a) && is_enum(b)
}

fn resolve((btf, id): In<'_>) -> Result<TypeId, String> {
    btf.resolve(id).map_err(|err| err.to_string())
}

fn too_deep() -> String {
    format!("more than {MAX_DEPTH} types lead from one to the next")
}

/// Whether a type can be taken for the other; that their names are the same is for the caller to
/// see to.
pub(super) fn types_are_compatible(
    matching: &mut Matching,
    local: In<'_>,
    kernel: In<'_>,
) -> Result<bool, String> {
    compatible(matching, local, kernel, MAX_DEPTH)
}

fn compatible(
    matching: &mut Matching,
    (local, mut local_id): In<'_>,
    (kernel, mut kernel_id): In<'_>,
    level: usize,
) -> Result<bool, String> {
    if !same_kind(local.ty(local_id).kind(), kernel.ty(kernel_id).kind()) {
        return Ok(false);
    }
    for _ in 0..MAX_DEPTH {
        matching.step(0)?;
        local_id = resolve((local, local_id))?;
        kernel_id = resolve((kernel, kernel_id))?;
        let (local_type, kernel_type) = (local.ty(local_id), kernel.ty(kernel_id));
        if !same_kind(local_type.kind(), kernel_type.kind()) {
            return Ok(false);
        }
        match (local_type, kernel_type) {
            (
                Type::Void | Type::Struct(_) | Type::Union(_) | Type::Enum(_) | Type::Fwd { .. },
                _,
            ) => return Ok(true),
            (Type::Int(a), Type::Int(b)) => return Ok(a.offset == 0 && b.offset == 0),
            (Type::Ptr(a), Type::Ptr(b)) => (local_id, kernel_id) = (*a, *b),
            (Type::Array(a), Type::Array(b)) => (local_id, kernel_id) = (a.element, b.element),
            (Type::FuncProto(a), Type::FuncProto(b)) => {
                if a.params.len() != b.params.len() {
                    return Ok(false);
                }
                for (a, b) in a.params.iter().zip(&b.params) {
                    let level = level.checked_sub(1).ok_or_else(too_deep)?;
                    let a = resolve((local, a.ty))?;
                    let b = resolve((kernel, b.ty))?;
                    if !compatible(matching, (local, a), (kernel, b), level)? {
                        return Ok(false);
                    }
                }
                (local_id, kernel_id) = (a.result, b.result);
            }
            _ => return Ok(false),
        }
    }
    Err(too_deep())
}

/// Whether a member of one type can be read as one of the other.
pub(super) fn fields_are_compatible(
    matching: &mut Matching,
    (local, mut local_id): In<'_>,
    (kernel, mut kernel_id): In<'_>,
) -> Result<bool, String> {
    for _ in 0..MAX_DEPTH {
        matching.step(0)?;
        local_id = resolve((local, local_id))?;
        kernel_id = resolve((kernel, kernel_id))?;
        let (local_type, kernel_type) = (local.ty(local_id), kernel.ty(kernel_id));
        if local_type.composite().is_some() && kernel_type.composite().is_some() {
            return Ok(true);
        }
        if !same_kind(local_type.kind(), kernel_type.kind()) {
            return Ok(false);
        }
        match (local_type, kernel_type) {
            (Type::Ptr(_) | Type::Float { .. }, _) => return Ok(true),
            (Type::Fwd { .. } | Type::Enum(_), _) => {
                let local = essential_name(local.name_of(local_id));
                let kernel = essential_name(kernel.name_of(kernel_id));
                return Ok(local.is_empty() || kernel.is_empty() || local == kernel);
            }
            (Type::Int(a), Type::Int(b)) => return Ok(a.offset == 0 && b.offset == 0),
            (Type::Array(a), Type::Array(b)) => (local_id, kernel_id) = (a.element, b.element),
            _ => return Ok(false),
        }
    }
    Err(too_deep())
}

/// Whether all that is declared of a type is so in the other.
pub(super) fn types_match(
    matching: &mut Matching,
    local: In<'_>,
    kernel: In<'_>,
) -> Result<bool, String> {
    matches(matching, local, kernel, false, MAX_DEPTH)
}

fn matches(
    matching: &mut Matching,
    (local, mut local_id): In<'_>,
    (kernel, mut kernel_id): In<'_>,
    mut behind_pointer: bool,
    level: usize,
) -> Result<bool, String> {
    if level == 0 {
        return Err(too_deep());
    }
    for _ in 0..MAX_DEPTH {
        matching.step(0)?;
        local_id = resolve((local, local_id))?;
        kernel_id = resolve((kernel, kernel_id))?;
        let (local_type, kernel_type) = (local.ty(local_id), kernel.ty(kernel_id));
        if !names_match((local, local_type.name()), (kernel, kernel_type.name())) {
            return Ok(false);
        }
        match (local_type, kernel_type) {
            (Type::Void, Type::Void) => return Ok(true),
            (Type::Fwd { union: a, .. }, Type::Fwd { union: b, .. }) => return Ok(a == b),
            (Type::Fwd { union, .. }, Type::Struct(_)) => return Ok(behind_pointer && !union),
            (Type::Fwd { union, .. }, Type::Union(_)) => return Ok(behind_pointer && *union),
            (Type::Enum(a), Type::Enum(b)) => {
                return enums_match(matching, (local, a), (kernel, b));
            }
            (Type::Struct(_), Type::Struct(_)) | (Type::Union(_), Type::Union(_))
                if behind_pointer =>
            {
                return Ok(true);
            }
            (Type::Struct(_), Type::Fwd { union, .. }) => return Ok(behind_pointer && !union),
            (Type::Union(_), Type::Fwd { union, .. }) => return Ok(behind_pointer && *union),
            (Type::Struct(a), Type::Struct(b)) | (Type::Union(a), Type::Union(b)) => {
                return members_match(matching, (local, a), (kernel, b), level);
            }
            (Type::Int(a), Type::Int(b)) => return Ok(a.size == b.size && a.signed == b.signed),
            (Type::Ptr(a), Type::Ptr(b)) => {
                behind_pointer = true;
                (local_id, kernel_id) = (*a, *b);
            }
            (Type::Array(a), Type::Array(b)) if a.len == b.len => {
                (local_id, kernel_id) = (a.element, b.element);
            }
            (Type::FuncProto(a), Type::FuncProto(b)) if a.params.len() == b.params.len() => {
                for (a, b) in a.params.iter().zip(&b.params) {
                    let (a, b) = ((local, a.ty), (kernel, b.ty));
                    if !matches(matching, a, b, behind_pointer, level - 1)? {
                        return Ok(false);
                    }
                }
                (local_id, kernel_id) = (a.result, b.result);
            }
            _ => return Ok(false),
        }
    }
    Err(too_deep())
}

fn names_match((local, a): (&Btf, Name), (kernel, b): (&Btf, Name)) -> bool {
    let (a, b) = (local.name(a), kernel.name(b));
    if b.is_empty() { a.is_empty() } else { essential_name(a) == essential_name(b) }
}

/// Every name is there; its value does not matter.
fn enums_match(
    matching: &mut Matching,
    (local, a): (&Btf, &Enumeration),
    (kernel, b): (&Btf, &Enumeration),
) -> Result<bool, String> {
    if a.size != b.size || a.values.len() > b.values.len() {
        return Ok(false);
    }
    for value in &a.values {
        matching.step(b.values.len())?;
        if !b.values.iter().any(|b| names_match((local, value.name), (kernel, b.name))) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Every member is there, and matches.
fn members_match(
    matching: &mut Matching,
    (local, a): (&Btf, &Composite),
    (kernel, b): (&Btf, &Composite),
    level: usize,
) -> Result<bool, String> {
    if a.members.len() > b.members.len() {
        return Ok(false);
    }
    for member in &a.members {
        matching.step(b.members.len())?;
        let mut found = false;
        for other in &b.members {
            if names_match((local, member.name), (kernel, other.name))
                && matches(matching, (local, member.ty), (kernel, other.ty), false, level - 1)?
            {
                found = true;
                break;
            }
        }
        if !found {
            return Ok(false);
        }
    }
    Ok(true)
}
