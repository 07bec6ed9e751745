//! Giving back what nobody points to any more, and what that owned.

use super::{heap, list, mask, task, tree};
use crate::machine::{RegionId, address};
use crate::sched::call::{Bad, Call};
use crate::sched::map::fields::{Field, Fields};
use crate::sched::object::Object;

/// Gives back what deleted values own, now that nobody holds them.
pub(in crate::sched) fn put_orphans(call: &mut Call<'_, '_>) -> Result<(), Bad> {
    let inner = call.inner()?;
    for (value, shape) in inner.maps.former_owners(&inner.memory) {
        let orphans = take_owned(call, value, &shape.fields)?;
        put_all(call, orphans)?;
    }
    Ok(())
}

/// Gives objects back, first one first, and then what they owned. One may own another that owns the
/// next, and so on: this goes as deep as it takes, without a stack that could end.
pub(super) fn put_all(call: &mut Call<'_, '_>, objects: Vec<u64>) -> Result<(), Bad> {
    let mut todo = objects;
    todo.reverse();
    while let Some(addr) = todo.pop() {
        call.args[0] = addr;
        let owned = put(call, addr)?;
        todo.extend(owned.into_iter().rev());
    }
    Ok(())
}

/// Gives an object back, whatever it is: what its own function does. Returns what it owned.
fn put(call: &mut Call<'_, '_>, addr: u64) -> Result<Vec<u64>, Bad> {
    let own = |done: Result<u64, Bad>| done.map(|_| Vec::new());
    if heap::is_percpu_obj(call, addr)? {
        return own(heap::percpu_obj_drop(call));
    }
    let inner = call.inner()?;
    let tag = RegionId::of(addr).and_then(|id| Some(inner.memory.region(id)?.tag));
    match inner.objects.at(addr) {
        Some(Object::Task(_)) => own(task::release(call)),
        // Cgroups, and all else of the kernel's, stay for the whole run.
        Some(_) => Ok(Vec::new()),
        None if tag == Some(mask::TAG) => own(mask::release(call)),
        None => heap::drop_at(call, addr),
    }
}

/// `bpf_obj_free_fields()`: takes out of a value, or of an object, what it owns.
pub(super) fn take_owned(
    call: &mut Call<'_, '_>,
    value: u64,
    fields: &Fields,
) -> Result<Vec<u64>, Bad> {
    let mut all = Vec::new();
    for (offset, field) in fields.owners() {
        let at = value + u64::from(offset);
        let nodes = match field {
            Field::ListHead => list::drain(call, at)?,
            Field::RbRoot => tree::drain(call, at)?,
            _ => {
                let object = call.read_word(at)?;
                if object != 0 {
                    call.put_word(at, 0)?;
                    all.push(object);
                }
                continue;
            }
        };
        all.extend(nodes.into_iter().map(object_of_part));
    }
    Ok(all)
}

/// The object that a node at this address is a part of: objects have regions of their own.
pub(super) fn object_of_part(addr: u64) -> u64 {
    addr - u64::from(address::offset(addr))
}
