//! What of a value is not just bytes: locks, timers, pointers to the kernel's objects, and what
//! lists and trees are made of. `btf_parse_fields()` finds them by their types.

use crate::btf::{Btf, Type, TypeId};

/// What a field is: `enum btf_field_type`, as far as maps tell kinds apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sched) enum Field {
    /// `struct bpf_spin_lock`.
    SpinLock,
    /// `struct bpf_timer`.
    Timer,
    /// A pointer to an object of the kernel's or of a program's, which the value owns.
    Kptr,
    /// `struct bpf_list_head`: objects that the value owns.
    ListHead,
    /// `struct bpf_rb_root`: the same.
    RbRoot,
    /// `struct bpf_refcount`.
    Refcount,
    /// `struct bpf_res_spin_lock`, `bpf_wq`, `bpf_task_work`, `bpf_list_node` and their like: what
    /// nobody but the kernel's functions may touch.
    Other,
}

/// The structures that are fields, their size, and what they are.
const STRUCTS: &[(&str, u32, Field)] = &[
    ("bpf_spin_lock", 4, Field::SpinLock),
    ("bpf_res_spin_lock", 8, Field::Other),
    ("bpf_timer", 16, Field::Timer),
    ("bpf_wq", 16, Field::Other),
    ("bpf_task_work", 8, Field::Other),
    ("bpf_list_head", 16, Field::ListHead),
    ("bpf_list_node", 24, Field::Other),
    ("bpf_rb_root", 16, Field::RbRoot),
    ("bpf_rb_node", 32, Field::Other),
    ("bpf_refcount", 4, Field::Refcount),
];

/// The tags of pointers that are fields, and what they are.
const TAGS: &[(&str, Field)] = &[
    ("kptr", Field::Kptr),
    ("percpu_kptr", Field::Kptr),
    ("kptr_untrusted", Field::Other),
    ("uptr", Field::Other),
];

/// How deep structures lie in each other, and how many members are looked at. A kernel takes 11
/// fields of one value, and looks 4 structures deep.
const DEPTH: u32 = 16;
const MEMBERS: u32 = 1 << 16;

/// The fields of a value, by their offset.
#[derive(Clone, Debug, Default)]
pub(in crate::sched) struct Fields(Vec<(u32, u32, Field)>);

impl Fields {
    /// Those of a type; of type 0 there are none. Nothing if there are more than can be looked at.
    pub fn of(btf: &Btf, ty: TypeId) -> Option<Self> {
        let ty = Some((ty, 0)).filter(|(ty, _)| *ty != 0);
        Self::of_variables(btf, ty.into_iter())
    }

    /// Those of a section's variables: their types, and where they are. (What a section's own type
    /// says of that is 0 for most of them.)
    pub fn of_variables(btf: &Btf, variables: impl Iterator<Item = (TypeId, u32)>) -> Option<Self> {
        let mut search = Search { btf, found: Vec::new(), left: MEMBERS };
        for (ty, offset) in variables {
            search.look(ty, offset, DEPTH)?;
        }
        search.found.sort_unstable();
        Some(Self(search.found))
    }

    /// What begins at this offset of a value.
    pub fn at(&self, offset: u32) -> Option<Field> {
        let index = self.0.binary_search_by_key(&offset, |field| field.0).ok()?;
        Some(self.0[index].2)
    }

    /// Whether there is one of these.
    pub fn has(&self, field: Field) -> bool {
        self.0.iter().any(|known| known.2 == field)
    }

    /// Where one of these is, if there is one.
    pub fn place_of(&self, field: Field) -> Option<u32> {
        self.0.iter().find(|known| known.2 == field).map(|known| known.0)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Where what a value owns hangs on, in the order in which a kernel lets go of it.
    pub fn owners(&self) -> impl Iterator<Item = (u32, Field)> {
        let owns = |field| matches!(field, Field::Kptr | Field::ListHead | Field::RbRoot);
        self.0.iter().filter(move |field| owns(field.2)).map(|field| (field.0, field.2))
    }

    /// The parts of a value of so many bytes that are just bytes.
    pub fn plain(&self, size: u32) -> impl Iterator<Item = (u32, u32)> {
        let starts = std::iter::once(0).chain(self.0.iter().map(|field| field.0 + field.1));
        let ends = self.0.iter().map(move |field| field.0.min(size)).chain(std::iter::once(size));
        starts.zip(ends).filter(|(start, end)| start < end)
    }
}

struct Search<'a> {
    btf: &'a Btf,
    found: Vec<(u32, u32, Field)>,
    left: u32,
}

impl Search<'_> {
    fn look(&mut self, ty: TypeId, offset: u32, depth: u32) -> Option<()> {
        self.left = self.left.checked_sub(1)?;
        let depth = depth.checked_sub(1)?;
        let Ok(id) = self.btf.resolve(ty) else { return Some(()) };
        match self.btf.ty(id) {
            Type::Struct(composite) => {
                let name = self.btf.name_of(id);
                if let Some(&(_, size, field)) = STRUCTS.iter().find(|known| known.0 == name) {
                    self.found.push((offset, size, field));
                    return Some(());
                }
                for member in &composite.members {
                    self.look(member.ty, offset.checked_add(member.bit_offset / 8)?, depth)?;
                }
            }
            Type::Array(array) if self.can_have(array.element) => {
                let size = self.btf.size_of(array.element).ok()?;
                let before = self.found.len();
                for index in 0..array.len {
                    if index == 1 && self.found.len() == before {
                        break;
                    }
                    self.look(array.element, offset.checked_add(index.checked_mul(size)?)?, depth)?;
                }
            }
            Type::Ptr(to) => self.found.extend(self.tag(*to).map(|field| (offset, 8, field))),
            _ => {}
        }
        Some(())
    }

    /// Whether an element can be a field or have one: not a number, of which there may be many.
    fn can_have(&self, ty: TypeId) -> bool {
        let Ok(id) = self.btf.resolve(ty) else { return false };
        match self.btf.ty(id) {
            Type::Struct(_) | Type::Array(_) => true,
            Type::Ptr(to) => self.tag(*to).is_some(),
            _ => false,
        }
    }

    /// What a pointer to this is.
    fn tag(&self, to: TypeId) -> Option<Field> {
        let mut to = to;
        for _ in 0..DEPTH {
            match self.btf.ty(to) {
                Type::TypeTag { name, to: next, .. } => {
                    let name = self.btf.name(*name);
                    if let Some((_, field)) = TAGS.iter().find(|known| known.0 == name) {
                        return Some(*field);
                    }
                    to = *next;
                }
                Type::Const(next) | Type::Volatile(next) => to = *next,
                _ => return None,
            }
        }
        None
    }
}
