//! What a relocation is about: a type, a way through its members, or an enumerator.

use std::fmt::{self, Write as _};

use super::CoreKind;
use crate::btf::{Btf, CoreRelo, Name, Type, TypeId, essential_name};
use crate::object::compat::{self, Matching};
use crate::object::limits;

/// The most steps of a way, as in libbpf (`BPF_CORE_SPEC_MAX_LEN`).
const MAX_STEPS: usize = 64;

/// What a relocation is about, in one of the two sets of types.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    /// The type that it begins at.
    pub(super) root: TypeId,
    kind: CoreKind,
    /// The steps that mean something: named members and elements, and the enumerator.
    pub(super) steps: Vec<Step>,
    /// All steps, through anonymous members as well: numbers of members and elements.
    raw: Vec<u32>,
    /// How far the way leads, in bits.
    pub(super) bit_offset: u64,
}

/// A step of a way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// The structure or union that a member is of; the type of an element.
    pub(super) ty: TypeId,
    /// The number of the member, element or enumerator.
    pub(super) index: u32,
    /// The name of the member or enumerator; none for an element.
    pub(super) name: Option<Name>,
}

impl Spec {
    fn new(root: TypeId, kind: CoreKind) -> Self {
        Self { root, kind, steps: Vec::new(), raw: Vec::new(), bit_offset: 0 }
    }

    /// How many steps it has, those through anonymous members counted.
    pub(super) fn len(&self) -> usize {
        self.raw.len()
    }

    pub(super) fn is_of_field(&self) -> bool {
        !self.kind.is_of_type() && !self.kind.is_of_enum()
    }

    /// The type and the members that it leads through, without flavours and elements.
    pub(super) fn path(&self, btf: &Btf) -> String {
        let mut path = essential_name(btf.name_of(self.root)).to_owned();
        for name in self.steps.iter().filter_map(|step| step.name) {
            path.push('.');
            path.push_str(btf.name(name));
        }
        cut(path)
    }

    /// The last step. A way that has been found has one.
    pub(super) fn last(&self) -> Option<&Step> {
        self.steps.last()
    }

    /// As the object has it.
    pub(super) fn parse(btf: &Btf, relo: &CoreRelo, kind: CoreKind) -> Result<Self, String> {
        let access = btf.name(relo.access);
        let mut spec = Self::new(relo.ty, kind);
        if kind.is_of_type() {
            if access != "0" {
                return Err(format!("the way `{access}` through a type must be `0`"));
            }
            return Ok(spec);
        }
        for step in access.split(':') {
            let number = step.parse().map_err(|_| format!("the way `{access}` has no number"))?;
            if spec.raw.len() == MAX_STEPS {
                return Err(format!("the way `{access}` has more than {MAX_STEPS} steps"));
            }
            spec.raw.push(number);
        }
        let resolve = |id| btf.resolve(id).map_err(|err| err.to_string());
        let [first, rest @ ..] = &spec.raw.clone()[..] else { return Err("no way".to_owned()) };
        let mut id = resolve(relo.ty)?;
        if kind.is_of_enum() {
            let Type::Enum(e) = btf.ty(id) else {
                return Err(format!("{} is no enumeration", btf.describe(id)));
            };
            let value = e.values.get(*first as usize).filter(|_| rest.is_empty());
            let value = value.ok_or_else(|| format!("there is no enumerator `{access}`"))?;
            spec.steps.push(Step { ty: id, index: *first, name: Some(value.name) });
            return Ok(spec);
        }
        spec.steps.push(Step { ty: id, index: *first, name: None });
        spec.advance(u64::from(*first), size(btf, id)?)?;
        for &index in rest {
            id = resolve(id)?;
            match btf.ty(id) {
                Type::Struct(composite) | Type::Union(composite) => {
                    let member = composite.members.get(index as usize);
                    let member = member
                        .ok_or_else(|| format!("{} has no member {index}", btf.describe(id)))?;
                    spec.bit_offset += u64::from(member.bit_offset);
                    if member.name != Name::NONE {
                        spec.steps.push(Step { ty: id, index, name: Some(member.name) });
                    }
                    id = member.ty;
                }
                Type::Array(array) => {
                    let element = resolve(array.element)?;
                    if index >= array.len && !is_flexible(btf, spec.last(), array.len) {
                        return Err(format!("{} has no element {index}", btf.describe(id)));
                    }
                    spec.steps.push(Step { ty: element, index, name: None });
                    spec.advance(u64::from(index), size(btf, element)?)?;
                    id = element;
                }
                _ => return Err(format!("the way `{access}` goes through {}", btf.describe(id))),
            }
        }
        Ok(spec)
    }

    fn advance(&mut self, count: u64, size: u32) -> Result<(), String> {
        let bits = count.checked_mul(8 * u64::from(size));
        let end = bits.and_then(|bits| self.bit_offset.checked_add(bits));
        // libbpf counts bits in 32 bits.
        self.bit_offset = end
            .filter(|&end| end <= u64::from(u32::MAX))
            .ok_or("the way leads farther than 512 MiB")?;
        Ok(())
    }

    /// The same in a kernel, beginning at one of its types. Nothing if it is not there.
    pub(super) fn find(
        &self,
        local: &Btf,
        kernel: &Btf,
        id: TypeId,
        matching: &mut Matching,
    ) -> Result<Option<Self>, String> {
        let mut found = Self::new(id, self.kind);
        let types = ((local, self.root), (kernel, id));
        matching.step(0)?;
        if self.kind == CoreKind::TypeMatches {
            return Ok(compat::types_match(matching, types.0, types.1)?.then_some(found));
        }
        if self.kind.is_of_type() {
            return Ok(compat::types_are_compatible(matching, types.0, types.1)?.then_some(found));
        }
        let resolve = |id| kernel.resolve(id).map_err(|err| err.to_string());
        if self.kind.is_of_enum() {
            let ty = resolve(id)?;
            let Type::Enum(e) = kernel.ty(ty) else { return Ok(None) };
            matching.step(e.values.len())?;
            let Some(name) = self.last().and_then(|step| step.name) else { return Ok(None) };
            let wanted = essential_name(local.name(name));
            let is_it = |&name: &Name| essential_name(kernel.name(name)) == wanted;
            let Some(index) = e.values.iter().position(|value| is_it(&value.name)) else {
                return Ok(None);
            };
            let name = Some(e.values[index].name);
            found.steps.push(Step { ty, index: index as u32, name });
            found.raw.push(index as u32);
            return Ok(Some(found));
        }
        let mut id = id;
        for (number, step) in self.steps.iter().enumerate() {
            id = resolve(id)?;
            if step.name.is_some() {
                match found.find_member((local, step), (kernel, id), matching)? {
                    Some(next) => id = next,
                    None => return Ok(None),
                }
                continue;
            }
            // The first is of the type itself, as if that were an array.
            if number > 0 {
                let Type::Array(array) = kernel.ty(id) else { return Ok(None) };
                if step.index >= array.len && !is_flexible(kernel, found.last(), array.len) {
                    return Ok(None);
                }
                id = resolve(array.element)?;
            }
            found.push_raw(step.index)?;
            found.steps.push(Step { ty: id, index: step.index, name: None });
            found.advance(u64::from(step.index), size(kernel, id)?)?;
        }
        Ok(Some(found))
    }

    fn push_raw(&mut self, index: u32) -> Result<(), String> {
        if self.raw.len() == MAX_STEPS {
            return Err(format!(
                "the way through the kernel's type has more than {MAX_STEPS} steps"
            ));
        }
        self.raw.push(index);
        Ok(())
    }

    /// Goes on to the member of this name, through anonymous ones. Answers with its type.
    fn find_member(
        &mut self,
        (local, step): (&Btf, &Step),
        (kernel, id): (&Btf, TypeId),
        matching: &mut Matching,
    ) -> Result<Option<TypeId>, String> {
        let Some(composite) = kernel.ty(id).composite() else { return Ok(None) };
        let local_member =
            local.ty(step.ty).composite().and_then(|all| all.members.get(step.index as usize));
        let Some(local_member) = local_member else { return Ok(None) };
        let wanted = local.name(local_member.name);
        for (index, member) in (0..).zip(&composite.members) {
            matching.step(0)?;
            let name = kernel.name(member.name);
            if name != wanted && !name.is_empty() {
                continue;
            }
            let before = (self.bit_offset, self.raw.len());
            self.push_raw(index)?;
            self.bit_offset += u64::from(member.bit_offset);
            if name.is_empty() {
                let inner = kernel.resolve(member.ty).map_err(|err| err.to_string())?;
                let found = self.find_member((local, step), (kernel, inner), matching)?;
                if found.is_some() {
                    return Ok(found);
                }
            } else {
                let types = ((local, local_member.ty), (kernel, member.ty));
                // One of the name that is of another kind ends the search, as in libbpf.
                if !compat::fields_are_compatible(matching, types.0, types.1)? {
                    return Ok(None);
                }
                self.steps.push(Step { ty: id, index, name: Some(member.name) });
                return Ok(Some(member.ty));
            }
            self.bit_offset = before.0;
            self.raw.truncate(before.1);
        }
        Ok(None)
    }

    /// As libbpf has it in messages: `<byte_off> [7] struct task_struct.pid (0:12 @ offset 96)`.
    pub(super) fn describe(&self, btf: &Btf) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(btf, &mut text);
        cut(text)
    }

    fn write(&self, btf: &Btf, out: &mut String) -> fmt::Result {
        let (root, ty) = (self.root, btf.ty(self.root));
        let (kind, name) = (ty.kind().as_str(), btf.display_name(root));
        write!(out, "<{}> [{root}] {kind} {name}", self.kind.as_str())?;
        if self.kind.is_of_type() {
            return Ok(());
        }
        if self.kind.is_of_enum() {
            if let Some(step) = self.last()
                && let Type::Enum(e) = btf.ty(step.ty)
                && let Some(value) = e.values.get(step.index as usize)
            {
                write!(out, "::{} = {}", btf.name(value.name), e.value(value))?;
            }
            return Ok(());
        }
        for (number, step) in self.steps.iter().enumerate() {
            match step.name {
                Some(name) => write!(out, ".{}", btf.name(name))?,
                None if number > 0 || step.index > 0 => write!(out, "[{}]", step.index)?,
                None => {}
            }
        }
        let raw: Vec<String> = self.raw.iter().map(u32::to_string).collect();
        write!(out, " ({} @ offset {}", raw.join(":"), self.bit_offset / 8)?;
        if !self.bit_offset.is_multiple_of(8) {
            write!(out, ".{}", self.bit_offset % 8)?;
        }
        out.write_char(')')
    }
}

fn size(btf: &Btf, id: TypeId) -> Result<u32, String> {
    btf.size_of(id).map_err(|err| err.to_string())
}

/// Whether an array has no length of its own: the last member, of no elements.
fn is_flexible(btf: &Btf, step: Option<&Step>, len: u32) -> bool {
    let Some(step) = step.filter(|step| step.name.is_some() && len == 0) else { return false };
    let composite = btf.ty(step.ty).composite();
    composite.is_some_and(|all| step.index as usize + 1 == all.members.len())
}

/// To [`limits::ABOUT`].
fn cut(mut text: String) -> String {
    let end = (0..=limits::ABOUT).rev().find(|&end| text.is_char_boundary(end));
    text.truncate(end.unwrap_or(0).min(text.len()));
    text
}
