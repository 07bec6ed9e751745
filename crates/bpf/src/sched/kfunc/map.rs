//! Functions of maps.

use crate::image::MapType;
use crate::sched::bpf_func;
use crate::sched::call::{Bad, Call};
use crate::sched::map::Store;

/// `bpf_map_sum_elem_count()`: how many elements a hash has. Other maps do not count theirs.
pub(super) fn sum_elem_count(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let map = bpf_func::map(call)?;
    let map = call.inner()?.maps.get(map);
    Ok(match &*map.store {
        Store::Hash(hash) => hash.len() as u64,
        Store::Outer(outer) if map.shape.map_type == MapType::HASH_OF_MAPS => outer.len() as u64,
        _ => 0,
    })
}
