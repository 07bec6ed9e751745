//! What BTF can say of a type (include/uapi/linux/btf.h).

/// A type's number in its BTF; 0 is `void`.
pub type TypeId = u32;

/// Where a name begins in the strings of its BTF; 0 is no name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(pub u32);

impl Name {
    /// No name.
    pub const NONE: Self = Self(0);
}

/// `BTF_KIND_*`, with the kernel's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// No type, or `void`.
    Void = 0,
    /// An integer, a truth value or a character.
    Int = 1,
    /// A pointer.
    Ptr = 2,
    /// An array.
    Array = 3,
    /// A structure.
    Struct = 4,
    /// A union.
    Union = 5,
    /// An enumeration of up to 32 bits.
    Enum = 6,
    /// A structure or a union that is only named.
    Fwd = 7,
    /// Another name.
    Typedef = 8,
    /// `volatile`.
    Volatile = 9,
    /// `const`.
    Const = 10,
    /// `restrict`.
    Restrict = 11,
    /// A function.
    Func = 12,
    /// A function's type.
    FuncProto = 13,
    /// A variable.
    Var = 14,
    /// A section of variables.
    DataSec = 15,
    /// A floating-point number.
    Float = 16,
    /// `btf_decl_tag`.
    DeclTag = 17,
    /// `btf_type_tag`.
    TypeTag = 18,
    /// An enumeration of 64 bits.
    Enum64 = 19,
}

impl Kind {
    /// All of them, by number.
    pub const ALL: [Self; 20] = [
        Self::Void,
        Self::Int,
        Self::Ptr,
        Self::Array,
        Self::Struct,
        Self::Union,
        Self::Enum,
        Self::Fwd,
        Self::Typedef,
        Self::Volatile,
        Self::Const,
        Self::Restrict,
        Self::Func,
        Self::FuncProto,
        Self::Var,
        Self::DataSec,
        Self::Float,
        Self::DeclTag,
        Self::TypeTag,
        Self::Enum64,
    ];

    /// Its name in messages, as libbpf has it.
    pub fn as_str(self) -> &'static str {
        const NAMES: [&str; 20] = [
            "void",
            "int",
            "ptr",
            "array",
            "struct",
            "union",
            "enum",
            "fwd",
            "typedef",
            "volatile",
            "const",
            "restrict",
            "func",
            "func_proto",
            "var",
            "datasec",
            "float",
            "decl_tag",
            "type_tag",
            "enum64",
        ];
        NAMES[self as usize]
    }
}

/// A type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// `void`, which is type 0.
    Void,
    /// An integer.
    Int(Int),
    /// A pointer to this type.
    Ptr(TypeId),
    /// An array.
    Array(Array),
    /// A structure.
    Struct(Composite),
    /// A union.
    Union(Composite),
    /// An enumeration, of either kind.
    Enum(Enumeration),
    /// A structure or a union that is only named.
    Fwd {
        /// Its name.
        name: Name,
        /// A union.
        union: bool,
    },
    /// Another name for a type.
    Typedef {
        /// The name.
        name: Name,
        /// The type.
        to: TypeId,
    },
    /// `volatile`.
    Volatile(TypeId),
    /// `const`.
    Const(TypeId),
    /// `restrict`.
    Restrict(TypeId),
    /// `__attribute__((btf_type_tag("name")))`, or another attribute.
    TypeTag {
        /// What it says.
        name: Name,
        /// The type that it is about.
        to: TypeId,
        /// The name is that of an attribute, not of a tag.
        attribute: bool,
    },
    /// A function.
    Func {
        /// Its name.
        name: Name,
        /// Its type, a [`Type::FuncProto`].
        proto: TypeId,
        /// 0 static, 1 global, 2 extern.
        linkage: u16,
    },
    /// A function's type.
    FuncProto(FuncProto),
    /// A variable.
    Var {
        /// Its name.
        name: Name,
        /// Its type.
        ty: TypeId,
        /// 0 static, 1 global, 2 extern.
        linkage: u32,
    },
    /// A section of variables.
    DataSec(DataSec),
    /// A floating-point number.
    Float {
        /// Its name.
        name: Name,
        /// Bytes.
        size: u32,
    },
    /// `__attribute__((btf_decl_tag("name")))`, or another attribute.
    DeclTag {
        /// What it says.
        name: Name,
        /// The declaration that it is about.
        to: TypeId,
        /// The member or parameter that it is about, or -1.
        component: i32,
        /// The name is that of an attribute, not of a tag.
        attribute: bool,
    },
}

/// How far a variable or a function is seen.
pub mod linkage {
    /// In its file.
    pub const STATIC: u32 = 0;
    /// Everywhere.
    pub const GLOBAL: u32 = 1;
    /// It is elsewhere.
    pub const EXTERN: u32 = 2;
}

/// An integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int {
    /// Its name.
    pub name: Name,
    /// Bytes.
    pub size: u32,
    /// It has a sign.
    pub signed: bool,
    /// It is a character.
    pub char: bool,
    /// It is a truth value.
    pub bool: bool,
    /// Where its bits begin: 0 but for the bit-fields of old compilers.
    pub offset: u8,
    /// How many bits it has.
    pub bits: u8,
}

/// An array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Array {
    /// The type of an element.
    pub element: TypeId,
    /// The type of an index.
    pub index: TypeId,
    /// How many elements it has.
    pub len: u32,
}

/// A structure or a union.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Composite {
    /// Its name.
    pub name: Name,
    /// Bytes.
    pub size: u32,
    /// Its members, in order.
    pub members: Vec<Member>,
}

/// A member of a structure or a union.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name; none if what it contains is reached without one.
    pub name: Name,
    /// Its type.
    pub ty: TypeId,
    /// Bits from the start.
    pub bit_offset: u32,
    /// How many bits a bit-field has; 0 if it is none.
    pub bits: u8,
}

/// An enumeration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enumeration {
    /// Its name.
    pub name: Name,
    /// Bytes.
    pub size: u32,
    /// Its values have signs.
    pub signed: bool,
    /// It is a [`Kind::Enum64`].
    pub wide: bool,
    /// Its names and values.
    pub values: Vec<Enumerator>,
}

/// A name and a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enumerator {
    /// The name.
    pub name: Name,
    /// The value's bits. One of 32 bits is extended with its sign, as libbpf does whether the
    /// enumeration has signs or not; [`Enumeration::value`] has the number.
    pub bits: u64,
}

impl Enumeration {
    /// The number that an enumerator is.
    pub fn value(&self, enumerator: &Enumerator) -> i128 {
        match (self.wide, self.signed) {
            (_, true) => i128::from(enumerator.bits as i64),
            (true, false) => i128::from(enumerator.bits),
            (false, false) => i128::from(enumerator.bits as u32),
        }
    }
}

/// A function's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FuncProto {
    /// What it returns.
    pub result: TypeId,
    /// What it is given. A last one of type 0 stands for `...`.
    pub params: Vec<Param>,
}

/// A parameter of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name.
    pub name: Name,
    /// Its type.
    pub ty: TypeId,
}

/// A section of variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSec {
    /// Its name.
    pub name: Name,
    /// Bytes; 0 as compilers leave it.
    pub size: u32,
    /// What is in it.
    pub vars: Vec<SectionVar>,
}

/// A variable of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionVar {
    /// The variable, a [`Type::Var`], or a function.
    pub ty: TypeId,
    /// Bytes from the section's start.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
}

impl Type {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Void => Kind::Void,
            Self::Int(_) => Kind::Int,
            Self::Ptr(_) => Kind::Ptr,
            Self::Array(_) => Kind::Array,
            Self::Struct(_) => Kind::Struct,
            Self::Union(_) => Kind::Union,
            Self::Enum(e) if e.wide => Kind::Enum64,
            Self::Enum(_) => Kind::Enum,
            Self::Fwd { .. } => Kind::Fwd,
            Self::Typedef { .. } => Kind::Typedef,
            Self::Volatile(_) => Kind::Volatile,
            Self::Const(_) => Kind::Const,
            Self::Restrict(_) => Kind::Restrict,
            Self::TypeTag { .. } => Kind::TypeTag,
            Self::Func { .. } => Kind::Func,
            Self::FuncProto(_) => Kind::FuncProto,
            Self::Var { .. } => Kind::Var,
            Self::DataSec(_) => Kind::DataSec,
            Self::Float { .. } => Kind::Float,
            Self::DeclTag { .. } => Kind::DeclTag,
        }
    }

    /// Its name, which may be none.
    pub fn name(&self) -> Name {
        match self {
            Self::Void
            | Self::Ptr(_)
            | Self::Array(_)
            | Self::Volatile(_)
            | Self::Const(_)
            | Self::Restrict(_)
            | Self::FuncProto(_) => Name::NONE,
            Self::Int(int) => int.name,
            Self::Struct(composite) | Self::Union(composite) => composite.name,
            Self::Enum(e) => e.name,
            Self::DataSec(section) => section.name,
            Self::Fwd { name, .. }
            | Self::Typedef { name, .. }
            | Self::TypeTag { name, .. }
            | Self::Func { name, .. }
            | Self::Var { name, .. }
            | Self::Float { name, .. }
            | Self::DeclTag { name, .. } => *name,
        }
    }

    /// The structure or union that it is.
    pub fn composite(&self) -> Option<&Composite> {
        match self {
            Self::Struct(composite) | Self::Union(composite) => Some(composite),
            _ => None,
        }
    }
}
