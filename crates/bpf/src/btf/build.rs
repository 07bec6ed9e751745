//! BTF from declarations.

use std::collections::BTreeMap;

use super::Btf;
use super::layout::LayoutError;
use super::parse::MAX_NAME;
use super::types::{
    Array, Composite, DataSec, Enumeration, Enumerator, FuncProto, Int, Member, Name, Param,
    SectionVar, Type, TypeId,
};

/// Makes a [`Btf`].
///
/// Every function answers with the number of a type, which others can refer to. Structures are laid
/// out as C does on a 64-bit machine, unless a field says where it is.
///
/// ```
/// use scxlab_bpf::btf::{Builder, Field};
///
/// let mut builder = Builder::new();
/// let int = builder.int("int", 4, true);
/// let task = builder.declare_struct("task_struct");
/// let pointer = builder.ptr(task);
/// builder.define(task, &[Field::new("pid", int), Field::new("real_parent", pointer)]);
/// let btf = builder.finish()?;
/// assert_eq!(btf.size_of(task)?, 16);
/// # Ok::<(), scxlab_bpf::btf::LayoutError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Builder {
    btf: Btf,
    names: BTreeMap<String, Name>,
    wrong: Option<LayoutError>,
}

/// A member to be.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    name: &'a str,
    ty: TypeId,
    bits: u8,
    at: Option<u32>,
}

impl<'a> Field<'a> {
    /// A member behind those before it. Without a name, its own members are reached without one.
    pub fn new(name: &'a str, ty: TypeId) -> Self {
        Self { name, ty, bits: 0, at: None }
    }

    /// As a bit-field of so many bits, at least 1.
    pub fn bits(self, bits: u8) -> Self {
        Self { bits, ..self }
    }

    /// So many bits from the structure's start.
    pub fn at_bit(self, bit: u32) -> Self {
        Self { at: Some(bit), ..self }
    }
}

impl Builder {
    /// Without any type.
    pub fn new() -> Self {
        Self::default()
    }

    /// What has been declared.
    ///
    /// # Errors
    /// The first declaration that made no sense: a member of no size, say.
    pub fn finish(self) -> Result<Btf, LayoutError> {
        match self.wrong {
            Some(wrong) => Err(wrong),
            None => Ok(Btf::new(self.btf.types, self.btf.strings)),
        }
    }

    fn name(&mut self, name: &str) -> Name {
        if name.is_empty() {
            return Name::NONE;
        }
        if let Some(&known) = self.names.get(name) {
            return known;
        }
        if name.len() >= MAX_NAME || name.contains('\0') {
            self.fail(LayoutError::Declaration(name.to_owned(), "a name of that form cannot be"));
            return Name::NONE;
        }
        let new = Name(self.btf.strings.len() as u32);
        self.btf.strings.extend(name.bytes().chain([0]));
        self.names.insert(name.to_owned(), new);
        new
    }

    /// A string that is no type's name: where a line of source text, or a section's name, is.
    pub fn text(&mut self, text: &str) -> Name {
        self.name(text)
    }

    fn fail(&mut self, wrong: LayoutError) {
        self.wrong.get_or_insert(wrong);
    }

    /// Any type.
    pub fn add(&mut self, ty: Type) -> TypeId {
        self.btf.types.push(ty);
        self.btf.types.len() as TypeId - 1
    }

    /// An integer of so many bytes.
    pub fn int(&mut self, name: &str, size: u32, signed: bool) -> TypeId {
        self.integer(name, size, signed, false, false)
    }

    /// `char`.
    pub fn char(&mut self) -> TypeId {
        self.integer("char", 1, true, true, false)
    }

    /// `_Bool`.
    pub fn bool(&mut self) -> TypeId {
        self.integer("_Bool", 1, false, false, true)
    }

    fn integer(&mut self, name: &str, size: u32, signed: bool, char: bool, bool: bool) -> TypeId {
        let name = self.name(name);
        let bits = (8 * size) as u8;
        self.add(Type::Int(Int { name, size, signed, char, bool, offset: 0, bits }))
    }

    /// A floating-point number of so many bytes.
    pub fn float(&mut self, name: &str, size: u32) -> TypeId {
        let name = self.name(name);
        self.add(Type::Float { name, size })
    }

    /// A pointer.
    pub fn ptr(&mut self, to: TypeId) -> TypeId {
        self.add(Type::Ptr(to))
    }

    /// An array with an index of the same type as its elements.
    pub fn array(&mut self, element: TypeId, len: u32) -> TypeId {
        self.add(Type::Array(Array { element, index: element, len }))
    }

    /// Another name for a type.
    pub fn typedef(&mut self, name: &str, to: TypeId) -> TypeId {
        let name = self.name(name);
        self.add(Type::Typedef { name, to })
    }

    /// `const`.
    pub fn constant(&mut self, to: TypeId) -> TypeId {
        self.add(Type::Const(to))
    }

    /// `volatile`.
    pub fn volatile(&mut self, to: TypeId) -> TypeId {
        self.add(Type::Volatile(to))
    }

    /// `restrict`.
    pub fn restrict(&mut self, to: TypeId) -> TypeId {
        self.add(Type::Restrict(to))
    }

    /// A structure or a union that is only named.
    pub fn forward(&mut self, name: &str, union: bool) -> TypeId {
        let name = self.name(name);
        self.add(Type::Fwd { name, union })
    }

    /// A type with a tag.
    pub fn type_tag(&mut self, name: &str, to: TypeId) -> TypeId {
        let name = self.name(name);
        self.add(Type::TypeTag { name, to, attribute: false })
    }

    /// A tag of a declaration, of one of its members or parameters, or of all (-1).
    pub fn decl_tag(&mut self, name: &str, to: TypeId, component: i32) -> TypeId {
        let name = self.name(name);
        self.add(Type::DeclTag { name, to, component, attribute: false })
    }

    /// A structure whose members follow: see [`Builder::define`].
    pub fn declare_struct(&mut self, name: &str) -> TypeId {
        let name = self.name(name);
        self.add(Type::Struct(Composite { name, ..Composite::default() }))
    }

    /// A structure.
    pub fn structure(&mut self, name: &str, fields: &[Field<'_>]) -> TypeId {
        let id = self.declare_struct(name);
        self.define(id, fields);
        id
    }

    /// A union.
    pub fn union(&mut self, name: &str, fields: &[Field<'_>]) -> TypeId {
        let name = self.name(name);
        let id = self.add(Type::Union(Composite { name, ..Composite::default() }));
        self.define(id, fields);
        id
    }

    /// The members of a structure or a union.
    pub fn define(&mut self, id: TypeId, fields: &[Field<'_>]) {
        let is_union = matches!(self.btf.ty(id), Type::Union(_));
        let mut members = Vec::with_capacity(fields.len());
        let (mut end, mut align) = (0_u64, 1);
        for field in fields {
            let Some((member, after)) = self.place(field, if is_union { 0 } else { end }) else {
                return;
            };
            if field.at.is_none() {
                align = align.max(self.btf.align_of(field.ty).unwrap_or(1));
            }
            end = end.max(after);
            members.push(member);
        }
        let size = end.div_ceil(8).next_multiple_of(u64::from(align));
        let Ok(size) = u32::try_from(size) else { return self.fail(LayoutError::TooLarge(id)) };
        match self.btf.types.get_mut(id as usize) {
            Some(Type::Struct(composite) | Type::Union(composite)) => {
                composite.members = members;
                composite.size = size;
            }
            _ => {
                let name = self.btf.name_of(id).to_owned();
                self.fail(LayoutError::Declaration(name, "it is neither a struct nor a union"));
            }
        }
    }

    /// Makes a structure or a union have so many bytes: at least as many as its members need. What a
    /// kernel has behind them is then there, without a name.
    pub fn set_size(&mut self, id: TypeId, size: u32) {
        match self.btf.types.get_mut(id as usize) {
            Some(Type::Struct(composite) | Type::Union(composite)) if composite.size <= size => {
                composite.size = size;
            }
            _ => self.fail(LayoutError::Declaration(
                self.btf.name_of(id).to_owned(),
                "it cannot have this size",
            )),
        }
    }

    /// A field behind so many bits, and where it ends.
    fn place(&mut self, field: &Field<'_>, end: u64) -> Option<(Member, u64)> {
        // Where a field is says its declaration, or else its type.
        let align = |ty| if field.at.is_some() { Ok(1) } else { self.btf.align_of(ty) };
        let layout = || Ok((self.btf.size_of(field.ty)?, align(field.ty)?));
        let (size, align) = match layout() {
            Ok((size, align)) => (8 * u64::from(size), 8 * u64::from(align)),
            Err(wrong) => {
                self.fail(wrong);
                return None;
            }
        };
        let width = u64::from(field.bits);
        if width > size {
            let name = field.name.to_owned();
            self.fail(LayoutError::Declaration(name, "it has more bits than its type"));
            return None;
        }
        let (start, len) = match (field.at, width) {
            (Some(at), 0) => (u64::from(at), size),
            (Some(at), width) => (u64::from(at), width),
            (None, 0) => (end.next_multiple_of(align), size),
            // A bit-field does not go over a boundary of its type.
            (None, width) if end / size == (end + width - 1) / size => (end, width),
            (None, width) => (end.next_multiple_of(align), width),
        };
        let limit = if width > 0 { 1 << 24 } else { 1 << 32 };
        if start >= limit {
            self.fail(LayoutError::TooLarge(field.ty));
            return None;
        }
        let name = self.name(field.name);
        let bit_offset = start as u32;
        Some((Member { name, ty: field.ty, bit_offset, bits: field.bits }, start + len))
    }

    /// An enumeration; one of 8 bytes is an `enum64`.
    pub fn enumeration(
        &mut self,
        name: &str,
        size: u32,
        signed: bool,
        values: &[(&str, i128)],
    ) -> TypeId {
        let name = self.name(name);
        let wide = size == 8;
        let bits = |value: i128| {
            if wide { value as u64 } else { i64::from(value as i32) as u64 }
        };
        let values = values
            .iter()
            .map(|&(name, value)| Enumerator { name: self.name(name), bits: bits(value) })
            .collect();
        self.add(Type::Enum(Enumeration { name, size, signed, wide, values }))
    }

    /// A function's type.
    pub fn proto(&mut self, result: TypeId, params: &[(&str, TypeId)]) -> TypeId {
        let param = |&(name, ty): &(&str, TypeId)| Param { name: self.name(name), ty };
        let params = params.iter().map(param).collect();
        self.add(Type::FuncProto(FuncProto { result, params }))
    }

    /// A function with a type of its own, seen everywhere: as a kernel's.
    pub fn func(&mut self, name: &str, result: TypeId, params: &[(&str, TypeId)]) -> TypeId {
        let proto = self.proto(result, params);
        self.func_of(name, proto, super::linkage::GLOBAL as u16)
    }

    /// A function of a known type and linkage.
    pub fn func_of(&mut self, name: &str, proto: TypeId, linkage: u16) -> TypeId {
        let name = self.name(name);
        self.add(Type::Func { name, proto, linkage })
    }

    /// A variable.
    pub fn var(&mut self, name: &str, ty: TypeId, linkage: u32) -> TypeId {
        let name = self.name(name);
        self.add(Type::Var { name, ty, linkage })
    }

    /// A section with variables: number, offset and bytes of each.
    pub fn section(&mut self, name: &str, size: u32, vars: &[(TypeId, u32, u32)]) -> TypeId {
        let name = self.name(name);
        let var = |&(ty, offset, size): &(TypeId, u32, u32)| SectionVar { ty, offset, size };
        let vars = vars.iter().map(var).collect();
        self.add(Type::DataSec(DataSec { name, size, vars }))
    }
}
