//! Giving back what nobody points to any more.

use super::{heap, mask, task};
use crate::machine::RegionId;
use crate::sched::call::{Bad, Call};
use crate::sched::object::Object;

/// Gives the object at the first argument back, whatever it is: what its own function does.
pub(in crate::sched) fn put(call: &mut Call<'_, '_>) -> Result<(), Bad> {
    let addr = call.args[0];
    if heap::is_percpu_obj(call, addr)? {
        return heap::percpu_obj_drop(call).map(drop);
    }
    let inner = call.inner()?;
    let tag = RegionId::of(addr).and_then(|id| Some(inner.memory.region(id)?.tag));
    let put = match inner.objects.at(addr) {
        Some(Object::Task(_)) => task::release,
        // Cgroups, and all else of the kernel's, stay for the whole run.
        Some(_) => return Ok(()),
        None if tag == Some(mask::TAG) => mask::release,
        None => heap::obj_drop,
    };
    put(call).map(drop)
}
