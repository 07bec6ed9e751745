//! Arrays at the end of sections of data, with another length than they were compiled with.

use super::Btf;
use super::types::{Array, Type, TypeId};

impl Btf {
    /// Gives the array that is the variable of this name in a section as many elements as there is room
    /// for in so many bytes of the section, from `offset` on, and answers with its new type
    /// (`map_btf_datasec_resize()` in libbpf). Nothing if it is no array, or if its elements do not
    /// fill the room.
    pub(crate) fn resize_array(
        &mut self,
        section: TypeId,
        name: &str,
        offset: u32,
        bytes: u32,
    ) -> Option<TypeId> {
        let Type::DataSec(all) = self.ty(section) else { return None };
        let at = all.vars.iter().rposition(|var| self.name_of(var.ty) == name)?;
        let var = all.vars[at].ty;
        let &Type::Var { ty, .. } = self.ty(var) else { return None };
        let &Type::Array(array) = self.ty(self.resolve(ty).ok()?) else { return None };
        let element = self.size_of(array.element).ok().filter(|&element| element > 0)?;
        let room = bytes.checked_sub(offset).filter(|room| room.is_multiple_of(element))?;
        let new = TypeId::try_from(self.types.len()).ok()?;
        self.types.push(Type::Array(Array { len: room / element, ..array }));
        if let Some(Type::Var { ty, .. }) = self.types.get_mut(var as usize) {
            *ty = new;
        }
        if let Some(Type::DataSec(section)) = self.types.get_mut(section as usize) {
            section.size = bytes;
            section.vars[at].size = room;
        }
        Some(new)
    }
}
