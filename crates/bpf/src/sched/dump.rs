//! Maps as their types say what is in them, for a report.

use super::contents::{MapElement, MapKey};
use super::{BpfScheduler, contents};
use crate::image::MapType;
use crate::machine::NoKernel;
use crate::object::{Value, decode};
use scxlab_engine::Slot;

/// Bytes of variables, or of keys and values, that are dumped of a map at most.
const BYTES: u64 = 4 << 20;

/// What is in a map.
#[derive(Clone, Debug, PartialEq)]
pub enum MapDump {
    /// The variables of a section of data or of an arena.
    Variables {
        /// By name.
        variables: Vec<(String, Value)>,
        /// Those that there was no room for, and their bytes.
        left_out: Vec<(String, u64)>,
    },
    /// The elements of any other map.
    Elements {
        /// By key, or by place.
        elements: Vec<Element>,
        /// Whether there are more.
        more: bool,
    },
}

/// An element of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Element {
    /// What it is found by.
    pub key: Key,
    /// Its value; of a map with a value for each CPU, those of all CPUs that have used it, by number.
    pub values: Vec<(Option<u32>, Value)>,
}

/// What an element is found by.
#[derive(Clone, Debug, PartialEq)]
pub enum Key {
    /// A key of the map's type.
    Value(Value),
    /// The task that the value belongs to.
    Task(Slot),
    /// The id of the cgroup that the value belongs to.
    Cgroup(u64),
    /// A place, from 0.
    Place(u64),
}

impl BpfScheduler {
    /// The names of all maps that [`BpfScheduler::dump_map`] can be asked for.
    pub fn map_names(&self) -> impl Iterator<Item = &str> {
        self.image.maps.iter().map(|map| map.name.as_str())
    }

    /// What is in a map, at most so many elements, and 4 MiB of what is in memory. Nothing if there is
    /// no such map, or its elements are not kept: see [`BpfScheduler::map_elements`].
    pub fn dump_map(
        &self,
        state: &dyn scxlab_engine::State,
        name: &str,
        most: usize,
    ) -> Option<MapDump> {
        let index = self.image.maps.iter().position(|map| map.name == name)?;
        let map = &self.image.maps[index];
        if map.map_type == MapType::ARENA || self.image.globals.iter().any(|g| g.map == index) {
            return self.variables(state, index);
        }
        let each = u64::from(map.key_size) + u64::from(map.value_size);
        let most = most.min((BYTES / each.max(1)) as usize);
        let mut elements = self.map_elements(state, name, most.saturating_add(1))?;
        let more = elements.len() > most;
        elements.truncate(most);
        let types = Types { key: map.key_type, value: map.value_type, btf: &self.image.btf };
        let per_cpu = matches!(
            map.map_type,
            MapType::PERCPU_ARRAY | MapType::PERCPU_HASH | MapType::LRU_PERCPU_HASH
        );
        let elements = elements.into_iter().map(|element| types.element(element, per_cpu));
        Some(MapDump::Elements { elements: elements.collect(), more })
    }

    /// The variables that are in a map, as many as there is room for.
    fn variables(&self, state: &dyn scxlab_engine::State, map: usize) -> Option<MapDump> {
        let inner = contents::inner(state)?;
        let (mut variables, mut left_out, mut room) = (Vec::new(), Vec::new(), BYTES);
        for global in self.image.globals.iter().filter(|global| global.map == map) {
            let size = u64::from(global.size);
            let Some(left) = room.checked_sub(size) else {
                left_out.push((global.name.clone(), size));
                continue;
            };
            room = left;
            let mut bytes = vec![0; global.size as usize];
            let addr = self.bases.get(map)?.wrapping_add(global.offset);
            if inner.memory.read(&mut NoKernel, addr, &mut bytes).is_err() {
                continue;
            }
            let value = decode(&self.image.btf, global.ty, &bytes).unwrap_or(Value::Bytes(bytes));
            variables.push((global.name.clone(), value));
        }
        Some(MapDump::Variables { variables, left_out })
    }
}

/// What keys and values are.
struct Types<'a> {
    key: u32,
    value: u32,
    btf: &'a crate::btf::Btf,
}

impl Types<'_> {
    fn element(&self, element: MapElement, per_cpu: bool) -> Element {
        let key = match element.key {
            MapKey::Bytes(bytes) => Key::Value(self.decode(self.key, bytes)),
            MapKey::Task(slot) => Key::Task(slot),
            MapKey::Cgroup(id) => Key::Cgroup(id),
            MapKey::Place(place) => Key::Place(place),
        };
        let used = (0..).zip(element.values).filter(|(_, bytes)| !per_cpu || !bytes.is_empty());
        let values =
            used.map(|(cpu, bytes)| (per_cpu.then_some(cpu), self.decode(self.value, bytes)));
        Element { key, values: values.collect() }
    }

    /// By its type, or as bytes if it has none.
    fn decode(&self, ty: u32, bytes: Vec<u8>) -> Value {
        let typed = if ty == 0 { None } else { decode(self.btf, ty, &bytes) };
        typed.unwrap_or(Value::Bytes(bytes))
    }
}
