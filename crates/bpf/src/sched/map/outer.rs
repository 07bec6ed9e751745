//! Maps of maps: `kernel/bpf/map_in_map.c`. Programs only look maps up in them; what is in them
//! comes from the object.

use std::collections::BTreeMap;

/// `BPF_MAP_TYPE_ARRAY_OF_MAPS` and `BPF_MAP_TYPE_HASH_OF_MAPS`.
#[derive(Clone, Debug, Default)]
pub(in crate::sched) struct Outer {
    /// The addresses of maps, by key.
    maps: BTreeMap<Box<[u8]>, u64>,
}

impl Outer {
    pub fn insert(&mut self, key: &[u8], map: u64) {
        self.maps.insert(key.into(), map);
    }

    /// How many maps are in it.
    pub fn len(&self) -> usize {
        self.maps.len()
    }

    /// The address of a map.
    pub fn lookup(&self, key: &[u8]) -> Option<u64> {
        self.maps.get(key).copied()
    }
}
