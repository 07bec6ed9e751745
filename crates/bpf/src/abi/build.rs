//! From declarations to BTF.

use std::collections::{BTreeMap, BTreeSet};

use super::Version;
use super::parse::{DeclarationError, Item, Member, Ty, What};
use crate::btf::{Btf, Builder, Composite, Field, Type, TypeId, linkage};

/// A kfunc, and what the verifier sees to where it is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kfunc {
    /// `KF_ACQUIRE`: what it returns must be released.
    pub acquire: bool,
    /// `KF_RELEASE`: it takes a reference away.
    pub release: bool,
    /// `KF_RET_NULL`: it may return `NULL`.
    pub null: bool,
    /// `KF_SLEEPABLE`: only a program that may sleep can call it.
    pub sleepable: bool,
    /// `KF_RCU_PROTECTED`: only within an RCU section.
    pub rcu: bool,
}

/// What the declarations of a version come to.
pub(super) struct Built {
    pub btf: Btf,
    pub kfuncs: BTreeMap<String, Kfunc>,
    /// Variables that are no part of the BTF, and their types.
    pub symbols: BTreeMap<String, TypeId>,
}

/// The types of a version.
pub(super) fn build(items: &[Item], version: Version) -> Result<Built, DeclarationError> {
    let mut maker = Maker { version, builder: Builder::new(), ..Maker::default() };
    let items: Vec<&Item> = items.iter().filter(|item| item.marks.hold_in(version)).collect();
    for item in &items {
        maker.announce(item)?;
    }
    for item in &items {
        maker.make(item).map_err(|what| item.wrong(what))?;
    }
    let Maker { builder, kfuncs, symbols, .. } = maker;
    let wrong = |err: crate::btf::LayoutError| DeclarationError {
        file: "kernel",
        line: 0,
        what: err.to_string(),
    };
    Ok(Built { btf: builder.finish().map_err(wrong)?, kfuncs, symbols })
}

#[derive(Default)]
struct Maker {
    version: Version,
    builder: Builder,
    basic: BTreeMap<&'static str, TypeId>,
    composites: BTreeMap<(bool, String), TypeId>,
    /// Those whose size is known.
    defined: BTreeSet<TypeId>,
    typedefs: BTreeMap<String, TypeId>,
    enums: BTreeMap<String, TypeId>,
    derived: BTreeMap<(Derived, TypeId), TypeId>,
    kfuncs: BTreeMap<String, Kfunc>,
    symbols: BTreeMap<String, TypeId>,
}

/// A type that is made of one other. Each is there once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Derived {
    Ptr,
    Const,
    Volatile,
    Array(u32),
}

impl Maker {
    /// Gives a structure its number, so that pointers to it may stand before it.
    fn announce(&mut self, item: &Item) -> Result<(), DeclarationError> {
        let What::Composite { name, union, .. } = &item.what else { return Ok(()) };
        let composite = Composite { name: self.builder.text(name), ..Composite::default() };
        let ty = if *union { Type::Union(composite) } else { Type::Struct(composite) };
        let id = self.builder.add(ty);
        match self.composites.insert((*union, name.clone()), id) {
            None => Ok(()),
            Some(_) => Err(item.wrong(format!("{name} is declared twice"))),
        }
    }

    fn make(&mut self, item: &Item) -> Result<(), String> {
        let once = |known: bool, name: &str| {
            if known { Err(format!("{name} is declared twice")) } else { Ok(()) }
        };
        let marks = &item.marks.others;
        match &item.what {
            What::Func { .. } => {}
            What::Var { .. } if *marks == ["var"] || *marks == ["symbol"] => {}
            _ if marks.is_empty() => {}
            _ => return Err(format!("@{} is no mark for this", marks.join(", @"))),
        }
        match &item.what {
            What::Typedef { name, ty } => {
                let to = self.ty(ty)?;
                let id = self.builder.typedef(name, to);
                once(self.typedefs.insert(name.clone(), id).is_some(), name)
            }
            What::Composite { name, union, members } => {
                let id = self.composites[&(*union, name.clone())];
                self.define(id, members)
            }
            What::Enum { name, wide, values } => {
                let values: Vec<_> = values
                    .iter()
                    .filter(|value| value.marks.hold_in(self.version))
                    .map(|value| (value.name.as_str(), value.value))
                    .collect();
                let range =
                    if *wide { 0..=u64::MAX.into() } else { i32::MIN.into()..=u32::MAX.into() };
                if let Some((name, _)) = values.iter().find(|(_, value)| !range.contains(value)) {
                    return Err(format!("{name} is out of range"));
                }
                let signed = values.iter().any(|&(_, value)| value < 0);
                let size = if *wide { 8 } else { 4 };
                let id = self.builder.enumeration(name, size, signed, &values);
                let known = self.enums.insert(name.clone(), id).is_some();
                once(known && !name.is_empty(), name)
            }
            What::Func { name, result, params } => {
                let result = self.ty(result)?;
                let params = self.params(params)?;
                self.builder.func(name, result, &params);
                if item.marks.has("traced") {
                    return Ok(());
                }
                let kfunc = kfunc(marks)?;
                once(self.kfuncs.insert(name.clone(), kfunc).is_some(), name)
            }
            What::Var { name, ty } => {
                let ty = self.ty(ty)?;
                if item.marks.has("symbol") {
                    return once(self.symbols.insert(name.clone(), ty).is_some(), name);
                }
                self.builder.var(name, ty, linkage::GLOBAL);
                Ok(())
            }
        }
    }

    fn define(&mut self, id: TypeId, members: &[Member]) -> Result<(), String> {
        let mut fields = Vec::new();
        let version = self.version;
        for member in members.iter().filter(|member| member.marks.hold_in(version)) {
            let ty = self.ty(&member.ty)?;
            self.is_whole(&member.ty).map_err(|what| format!("{}: {what}", member.name))?;
            let field = Field::new(&member.name, ty);
            fields.push(if member.bits > 0 { field.bits(member.bits) } else { field });
        }
        self.builder.define(id, &fields);
        self.defined.insert(id);
        Ok(())
    }

    /// Whether the size of a member is known.
    fn is_whole(&self, ty: &Ty) -> Result<(), String> {
        let (union, name) = match ty {
            Ty::Struct(name) => (false, name),
            Ty::Union(name) => (true, name),
            Ty::Array(element, _) => return self.is_whole(element),
            Ty::Const(to) | Ty::Volatile(to) => return self.is_whole(to),
            _ => return Ok(()),
        };
        let id = self.composites.get(&(union, name.clone()));
        if id.is_some_and(|id| self.defined.contains(id)) {
            return Ok(());
        }
        Err(format!("{name} is not declared before it is part of another"))
    }

    fn params<'a>(&mut self, params: &'a [(String, Ty)]) -> Result<Vec<(&'a str, TypeId)>, String> {
        params.iter().map(|(name, ty)| Ok((name.as_str(), self.ty(ty)?))).collect()
    }

    fn ty(&mut self, ty: &Ty) -> Result<TypeId, String> {
        let missing = |kind: &str, name: &str| format!("{kind}{name} is not declared");
        match ty {
            Ty::Basic(name) => Ok(self.basic(name)),
            Ty::Named(name) => self.typedefs.get(name).copied().ok_or_else(|| missing("", name)),
            Ty::Struct(name) => {
                let known = self.composites.get(&(false, name.clone())).copied();
                known.ok_or_else(|| missing("struct ", name))
            }
            Ty::Union(name) => {
                let known = self.composites.get(&(true, name.clone())).copied();
                known.ok_or_else(|| missing("union ", name))
            }
            Ty::Enum(name) => self.enums.get(name).copied().ok_or_else(|| missing("enum ", name)),
            Ty::Anonymous { union, members } => {
                let composite = Composite::default();
                let ty = if *union { Type::Union(composite) } else { Type::Struct(composite) };
                let id = self.builder.add(ty);
                self.define(id, members)?;
                Ok(id)
            }
            Ty::Const(to) => self.derived(Derived::Const, to),
            Ty::Volatile(to) => self.derived(Derived::Volatile, to),
            Ty::Ptr(to) => self.derived(Derived::Ptr, to),
            Ty::Array(element, len) => self.derived(Derived::Array(*len), element),
            Ty::Func(result, params) => {
                let result = self.ty(result)?;
                let params = self.params(params)?;
                Ok(self.builder.proto(result, &params))
            }
        }
    }

    fn derived(&mut self, kind: Derived, to: &Ty) -> Result<TypeId, String> {
        let to = self.ty(to)?;
        if let Some(&known) = self.derived.get(&(kind, to)) {
            return Ok(known);
        }
        let id = match kind {
            Derived::Ptr => self.builder.ptr(to),
            Derived::Const => self.builder.constant(to),
            Derived::Volatile => self.builder.volatile(to),
            Derived::Array(len) => self.builder.array(to, len),
        };
        self.derived.insert((kind, to), id);
        Ok(id)
    }

    fn basic(&mut self, name: &'static str) -> TypeId {
        if let Some(&known) = self.basic.get(name) {
            return known;
        }
        // The kernel is built with -funsigned-char.
        let signed = !name.contains("unsigned") && name != "char";
        let size = match name {
            "void" => return 0,
            "char" | "signed char" | "unsigned char" | "_Bool" => 1,
            name if name.contains("short") => 2,
            name if name.contains("long") => 8,
            _ => 4,
        };
        let id = match name {
            "_Bool" => self.builder.bool(),
            name => self.builder.int(name, size, signed),
        };
        self.basic.insert(name, id);
        id
    }
}

fn kfunc(marks: &[String]) -> Result<Kfunc, String> {
    let mut kfunc = Kfunc::default();
    for mark in marks {
        let flag = match mark.as_str() {
            "acquire" => &mut kfunc.acquire,
            "release" => &mut kfunc.release,
            "null" => &mut kfunc.null,
            "sleepable" => &mut kfunc.sleepable,
            "rcu" => &mut kfunc.rcu,
            other => return Err(format!("no mark is called @{other}")),
        };
        *flag = true;
    }
    Ok(kfunc)
}
