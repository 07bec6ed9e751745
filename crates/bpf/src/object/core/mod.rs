//! CO-RE: operands of instructions that depend on the kernel's types.
//!
//! A relocation names a type of the object and a way through it, or an enumerator. Every type of the
//! kernel that has the same name, but for flavours, is a candidate; those in which the way exists
//! must agree on the value. What no candidate has is *poison*, unless the relocation asks whether it
//! exists: see [`crate::image::Poison`].

mod patch;
mod spec;
mod value;

use std::collections::BTreeMap;

pub(super) use self::patch::{Patched, patch};
use self::spec::Spec;
use self::value::Value;
use super::compat::{Matching, same_kind};
use crate::btf::{Btf, CoreRelo, TypeId};

/// `enum bpf_core_relo_kind`, with its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CoreKind {
    ByteOffset = 0,
    ByteSize = 1,
    FieldExists = 2,
    Signed = 3,
    LeftShift = 4,
    RightShift = 5,
    LocalTypeId = 6,
    TargetTypeId = 7,
    TypeExists = 8,
    TypeSize = 9,
    EnumExists = 10,
    EnumValue = 11,
    TypeMatches = 12,
}

impl CoreKind {
    const ALL: [Self; 13] = [
        Self::ByteOffset,
        Self::ByteSize,
        Self::FieldExists,
        Self::Signed,
        Self::LeftShift,
        Self::RightShift,
        Self::LocalTypeId,
        Self::TargetTypeId,
        Self::TypeExists,
        Self::TypeSize,
        Self::EnumExists,
        Self::EnumValue,
        Self::TypeMatches,
    ];

    /// Its name in messages, as libbpf has it.
    fn as_str(self) -> &'static str {
        match self {
            Self::ByteOffset => "byte_off",
            Self::ByteSize => "byte_sz",
            Self::FieldExists => "field_exists",
            Self::Signed => "signed",
            Self::LeftShift => "lshift_u64",
            Self::RightShift => "rshift_u64",
            Self::LocalTypeId => "local_type_id",
            Self::TargetTypeId => "target_type_id",
            Self::TypeExists => "type_exists",
            Self::TypeSize => "type_size",
            Self::EnumExists => "enumval_exists",
            Self::EnumValue => "enumval_value",
            Self::TypeMatches => "type_matches",
        }
    }

    fn is_of_enum(self) -> bool {
        matches!(self, Self::EnumExists | Self::EnumValue)
    }

    fn is_of_type(self) -> bool {
        matches!(
            self,
            Self::LocalTypeId
                | Self::TargetTypeId
                | Self::TypeExists
                | Self::TypeSize
                | Self::TypeMatches
        )
    }
}

/// Relocates against one kernel.
pub(super) struct Core<'a> {
    local: &'a Btf,
    kernel: &'a Btf,
    /// The types that stand for a type, fewer as relocations find that some do not.
    candidates: BTreeMap<TypeId, Vec<TypeId>>,
    matching: &'a mut Matching,
}

/// What a relocation comes to.
pub(super) struct Outcome {
    value: Value,
    spec: Spec,
}

impl Outcome {
    /// What it is about, for a message; `btf` is the object's.
    pub(super) fn about(&self, btf: &Btf) -> String {
        self.spec.describe(btf)
    }
}

impl<'a> Core<'a> {
    pub(super) fn new(local: &'a Btf, kernel: &'a Btf, matching: &'a mut Matching) -> Self {
        Self { local, kernel, candidates: BTreeMap::new(), matching }
    }

    /// What a relocation comes to.
    pub(super) fn resolve(&mut self, relo: &CoreRelo) -> Result<Outcome, String> {
        let kind = CoreKind::ALL.get(relo.kind as usize).copied();
        let kind = kind.ok_or_else(|| format!("CO-RE relocation {} is unknown", relo.kind))?;
        if self.local.get(relo.ty).is_none() {
            return Err(format!("CO-RE relocation of type [{}], which there is not", relo.ty));
        }
        let said = |what: String| {
            let ty = self.local.describe(relo.ty);
            format!("CO-RE relocation {} of [{}] {ty}: {what}", kind.as_str(), relo.ty)
        };
        let spec = Spec::parse(self.local, relo, kind).map_err(said)?;
        let value = self.matching.step(spec.len());
        let value = value.and_then(|()| self.value(relo.ty, kind, &spec));
        let said = |what| format!("CO-RE relocation {}: {what}", spec.describe(self.local));
        let value = value.map_err(said)?;
        Ok(Outcome { value, spec })
    }

    /// The field that it is about, if the kernel has the type but no such field in it, and if that was
    /// not the question: `task_struct.scx.slice`.
    pub(super) fn lacks(&self, outcome: &Outcome) -> Option<String> {
        let Outcome { value, spec } = outcome;
        let kind = self.local.ty(spec.root).kind();
        let named = self.kernel.candidates(self.local.name_of(spec.root));
        let has_type = || named.iter().any(|&id| same_kind(self.kernel.ty(id).kind(), kind));
        (value.after.is_none() && spec.is_of_field() && has_type()).then(|| spec.path(self.local))
    }

    fn value(&mut self, id: TypeId, kind: CoreKind, local: &Spec) -> Result<Value, String> {
        if kind == CoreKind::LocalTypeId {
            return Ok(Value::of_type_id(id));
        }
        if self.local.name_of(id).is_empty() {
            return Err("types without a name cannot be relocated".to_owned());
        }
        let candidates = self.candidates(id)?;
        let mut found: Option<(Spec, Value)> = None;
        let mut matching = Vec::new();
        for &candidate in &candidates {
            let there = local.find(self.local, self.kernel, candidate, self.matching)?;
            let Some(there) = there else { continue };
            let value = Value::of(kind, (self.local, local), Some((self.kernel, &there)))?;
            if let Some((first, known)) = &found {
                if first.bit_offset != there.bit_offset {
                    let (a, b) = (there.bit_offset, first.bit_offset);
                    return Err(format!("field offset ambiguity: {a} != {b}"));
                }
                if !value.agrees_with(known) {
                    let what = format!("{} != {}", value.describe(), known.describe());
                    return Err(format!("relocation decision ambiguity: {what}"));
                }
            }
            found.get_or_insert((there, value));
            matching.push(candidate);
        }
        let Some((_, value)) = found else {
            return Value::of(kind, (self.local, local), None);
        };
        self.candidates.insert(id, matching);
        Ok(value)
    }

    fn candidates(&mut self, id: TypeId) -> Result<Vec<TypeId>, String> {
        if let Some(known) = self.candidates.get(&id) {
            return Ok(known.clone());
        }
        let kind = self.local.ty(id).kind();
        let named = self.kernel.candidates(self.local.name_of(id));
        self.matching.step(named.len())?;
        let same = |&id: &TypeId| same_kind(self.kernel.ty(id).kind(), kind);
        let all: Vec<_> = named.iter().copied().filter(same).collect();
        self.candidates.insert(id, all.clone());
        Ok(all)
    }
}
