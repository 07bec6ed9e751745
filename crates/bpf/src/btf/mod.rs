//! BTF: the types of an object, or of a kernel (Documentation/bpf/btf.rst).
//!
//! [`Btf::parse`] takes bytes from anywhere: what it accepts has only references to types and names
//! that exist. That they make sense it does not say. A type may contain itself, so whoever follows
//! references counts steps: [`Btf::resolve`] and [`Btf::size_of`] do, and give up.

mod build;
mod circle;
mod ext;
mod layout;
mod parse;
mod resize;
mod types;
mod write;

use std::ops::Range;

pub use self::build::{Builder, Field};
pub use self::ext::{BtfExt, CoreRelo, LineInfo, Record, Records};
pub use self::layout::LayoutError;
pub use self::parse::BtfError;
pub use self::types::{
    Array, Composite, DataSec, Enumeration, Enumerator, FuncProto, Int, Kind, Member, Name, Param,
    SectionVar, Type, TypeId, linkage,
};

/// The most references that are followed from one type to the next, as in libbpf.
pub const MAX_DEPTH: usize = 32;

/// A set of types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Btf {
    /// By number; 0 is `void`.
    types: Vec<Type>,
    /// Names, each with a 0 behind it. The first is empty.
    strings: Vec<u8>,
    /// The types that have names, by name without its flavour, then by number.
    by_name: Vec<TypeId>,
}

impl Default for Btf {
    fn default() -> Self {
        Self { types: vec![Type::Void], strings: vec![0], by_name: Vec::new() }
    }
}

impl Btf {
    /// Gives an enumerator another value, wherever there is one of this name.
    pub(crate) fn set_enumerator(&mut self, name: &str, bits: u64) {
        let Self { types, strings, .. } = self;
        let is_it = |at: Name| {
            let rest = strings.get(at.0 as usize..).unwrap_or_default();
            rest.strip_prefix(name.as_bytes()).is_some_and(|end| end.first() == Some(&0))
        };
        for ty in types {
            let Type::Enum(all) = ty else { continue };
            for value in all.values.iter_mut().filter(|value| is_it(value.name)) {
                value.bits = bits;
            }
        }
    }

    fn new(types: Vec<Type>, strings: Vec<u8>) -> Self {
        let mut btf = Self { types, strings, by_name: Vec::new() };
        let mut by_name: Vec<(&str, TypeId)> =
            btf.iter().map(|(id, _)| (essential_name(btf.name_of(id)), id)).collect();
        by_name.retain(|(name, _)| !name.is_empty());
        by_name.sort_unstable();
        btf.by_name = by_name.into_iter().map(|(_, id)| id).collect();
        btf
    }

    /// How many types there are, with `void`: one more than the highest number.
    pub fn len(&self) -> usize {
        self.types.len()
    }

    /// Whether there is none but `void`.
    pub fn is_empty(&self) -> bool {
        self.types.len() == 1
    }

    /// A type by its number.
    pub fn get(&self, id: TypeId) -> Option<&Type> {
        self.types.get(id as usize)
    }

    /// A type by its number; `void` for a number that there is not.
    pub fn ty(&self, id: TypeId) -> &Type {
        self.get(id).unwrap_or(&Type::Void)
    }

    /// All types with their numbers, but for `void`.
    pub fn iter(&self) -> impl Iterator<Item = (TypeId, &Type)> {
        (0..).zip(&self.types).skip(1)
    }

    /// A name as text; empty if there is none.
    pub fn name(&self, name: Name) -> &str {
        std::str::from_utf8(self.bytes_at(name.0)).unwrap_or_default()
    }

    /// The name of a type; empty if it has none.
    pub fn name_of(&self, id: TypeId) -> &str {
        self.name(self.ty(id).name())
    }

    /// A string that is no name: a line of source text, say. What is longer than `most` bytes is cut
    /// there, and not looked at: many may refer to one. Nothing if there is none there.
    pub fn text(&self, offset: u32, most: usize) -> Option<String> {
        let rest = self.strings.get(offset as usize..).filter(|rest| !rest.is_empty())?;
        // With the end of the letter that the cut goes through.
        let head = &rest[..rest.len().min(most + 3)];
        let end = head.iter().position(|&byte| byte == 0).unwrap_or(head.len());
        let text = String::from_utf8_lossy(&head[..end]);
        let fits = |&(at, letter): &(usize, char)| at + letter.len_utf8() <= most;
        Some(text.char_indices().take_while(fits).map(|(_, letter)| letter).collect())
    }

    fn bytes_at(&self, offset: u32) -> &[u8] {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        let end = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
        &rest[..end]
    }

    /// The first type of this name and kind.
    pub fn find(&self, name: &str, kind: Kind) -> Option<TypeId> {
        self.candidates(name)
            .iter()
            .copied()
            .find(|&id| self.ty(id).kind() == kind && self.name_of(id) == name)
    }

    /// All types whose names are the same as this one but for flavours (`___suffix`), by number.
    pub fn candidates(&self, name: &str) -> &[TypeId] {
        let key = essential_name(name);
        let of = |&id: &TypeId| essential_name(self.name_of(id));
        let start = self.by_name.partition_point(|id| of(id) < key);
        let len = self.by_name[start..].partition_point(|id| of(id) == key);
        &self.by_name[Range { start, end: start + len }]
    }

    /// What a type is called in messages: `struct task_struct`, `int`, `void *`.
    pub fn describe(&self, id: TypeId) -> String {
        let mut id = id;
        let mut stars = String::new();
        for _ in 0..MAX_DEPTH {
            let named = |kind: &str| format!("{kind} {}{stars}", self.display_name(id));
            match self.ty(id) {
                Type::Void if stars.is_empty() => return "void".to_owned(),
                Type::Void => return format!("void {stars}"),
                Type::Ptr(to) => {
                    stars.push('*');
                    id = *to;
                }
                Type::Volatile(to) | Type::Const(to) | Type::Restrict(to) => id = *to,
                Type::TypeTag { to, .. } => id = *to,
                Type::Struct(_) => return named("struct"),
                Type::Union(_) => return named("union"),
                Type::Enum(_) => return named("enum"),
                Type::Array(array) => {
                    return format!("{}[{}]{stars}", self.describe_short(array.element), array.len);
                }
                _ => return format!("{}{stars}", self.display_name(id)),
            }
        }
        "a type without an end".to_owned()
    }

    fn describe_short(&self, id: TypeId) -> String {
        let id = self.resolve(id).unwrap_or(id);
        format!("{} {}", self.ty(id).kind().as_str(), self.display_name(id))
    }

    /// A type's name, or `<anon>`.
    pub fn display_name(&self, id: TypeId) -> &str {
        match self.name_of(id) {
            "" => "<anon>",
            name => name,
        }
    }
}

/// A name without its flavour: up to the last `___` that has something else than `_` on both sides
/// (`bpf_core_essential_name_len()` in libbpf).
pub fn essential_name(name: &str) -> &str {
    let bytes = name.as_bytes();
    let is_end = |&at: &usize| match bytes[at..] {
        [before, b'_', b'_', b'_', after, ..] => before != b'_' && after != b'_',
        _ => false,
    };
    match (0..bytes.len().saturating_sub(4)).rev().find(is_end) {
        Some(at) => name.get(..=at).unwrap_or(name),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flavours_are_behind_three_underscores() {
        for (name, essential) in [
            ("task_struct", "task_struct"),
            ("task_struct___v7", "task_struct"),
            ("a___b___c", "a___b"),
            ("a____b", "a____b"),
            ("___b", "___b"),
            ("a___", "a___"),
            ("é___b", "é"),
            ("", ""),
        ] {
            assert_eq!(essential_name(name), essential, "{name}");
        }
    }
}
