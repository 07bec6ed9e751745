//! Types that lead back to themselves. A kernel takes no object that has some.

use super::Btf;
use super::layout::LayoutError;
use super::types::{Type, TypeId};

/// What of a type leads on (`env_type_is_resolve_sink()` in Linux 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Through pointers. What is behind one may have it as a member.
    Pointers,
    /// Through what a type consists of.
    Parts,
}

/// How far the search is with a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    New,
    Open,
    Done,
}

impl Btf {
    /// Whether all types end somewhere, as `btf_resolve()` in Linux 7.2 wants it.
    ///
    /// # Errors
    /// [`LayoutError::Circle`], with one that leads back to itself.
    ///
    /// # Cost
    /// Linear in the types and their members.
    pub fn check_ends(&self) -> Result<(), LayoutError> {
        [Way::Pointers, Way::Parts].into_iter().try_for_each(|way| self.check_way(way))
    }

    fn check_way(&self, way: Way) -> Result<(), LayoutError> {
        let mut marks = vec![Mark::New; self.iter().count() + 1];
        // Types that are open, each with how many of those behind it have been looked at.
        let mut path: Vec<(TypeId, usize)> = Vec::new();
        for (start, _) in self.iter() {
            if mark(&mut marks, start).is_some_and(|mark| *mark == Mark::New) {
                path.push((start, 0));
            }
            while let Some((id, looked_at)) = path.last_mut() {
                let (id, nth) = (*id, *looked_at);
                *looked_at += 1;
                let next = self.behind(way, id, nth);
                if let Some(mark) = mark(&mut marks, id) {
                    *mark = if next.is_some() { Mark::Open } else { Mark::Done };
                }
                let Some(next) = next else {
                    path.pop();
                    continue;
                };
                match mark(&mut marks, next) {
                    Some(Mark::Open) => return Err(LayoutError::Circle(next)),
                    Some(Mark::New) => path.push((next, 0)),
                    Some(Mark::Done) | None => {}
                }
            }
        }
        Ok(())
    }

    /// The nth type that one leads to; 0, which is `void`, leads nowhere.
    fn behind(&self, way: Way, id: TypeId, nth: usize) -> Option<TypeId> {
        match (self.ty(id), way) {
            (Type::Typedef { to, .. } | Type::TypeTag { to, .. }, _)
            | (Type::Volatile(to) | Type::Const(to) | Type::Restrict(to), _)
            | (Type::Ptr(to), Way::Pointers) => (nth == 0).then_some(*to),
            (Type::Array(array), Way::Parts) => (nth == 0).then_some(array.element),
            (Type::Struct(all) | Type::Union(all), Way::Parts) => {
                all.members.get(nth).map(|member| member.ty)
            }
            _ => None,
        }
    }
}

fn mark(marks: &mut [Mark], id: TypeId) -> Option<&mut Mark> {
    marks.get_mut(id as usize)
}

#[cfg(test)]
mod tests {
    use crate::btf::{Builder, Field, LayoutError};

    fn checked(make: impl FnOnce(&mut Builder)) -> Result<(), LayoutError> {
        let mut builder = Builder::new();
        make(&mut builder);
        builder.finish().expect("types").check_ends()
    }

    #[test]
    fn what_ends() {
        let done = checked(|b| {
            let int = b.int("int", 4, true);
            // A list, a function that takes itself, and one type that two have.
            let list = b.declare_struct("list");
            let next = b.ptr(list);
            b.define(list, &[Field::new("next", next), Field::new("value", int)]);
            let again = b.ptr(list);
            let func = b.proto(int, &[("again", again)]);
            b.ptr(func);
            let two = b.structure("two", &[Field::new("a", list), Field::new("b", list)]);
            b.array(two, 4);
            b.typedef("two_t", two);
        });
        assert_eq!(done, Ok(()));
    }

    #[test]
    fn what_does_not() {
        let typedef = checked(|b| {
            b.typedef("a", 2);
            b.typedef("b", 1);
        });
        assert_eq!(typedef, Err(LayoutError::Circle(1)));
        let pointer = checked(|b| {
            let pointer = b.ptr(2);
            b.constant(pointer);
        });
        assert_eq!(pointer, Err(LayoutError::Circle(1)));
        let array = checked(|b| {
            let itself = b.declare_struct("itself");
            let all = b.array(itself, 0);
            b.define(itself, &[Field::new("all", all)]);
        });
        assert_eq!(array, Err(LayoutError::Circle(1)));
    }

    #[test]
    fn many_ways_are_gone_once() {
        let done = checked(|b| {
            let mut inner = b.int("int", 4, true);
            for _ in 0..12 {
                inner = b.union("", &[Field::new("a", inner), Field::new("b", inner)]);
            }
        });
        assert_eq!(done, Ok(()));
    }
}
