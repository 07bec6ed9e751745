//! Hashes: `kernel/bpf/hashtab.c`.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::errno::{E2BIG, EINVAL, ENOENT};
use super::fields::Field;
use super::{EXIST, Fails, LOCK, Shape, check_exists};
use crate::machine::{Memory, Part, RegionId};

/// What an element takes beside its key and its values, in bytes.
const ELEMENT: u64 = 128;

/// `BPF_MAP_TYPE_HASH`, `PERCPU_HASH`, `LRU_HASH` and `LRU_PERCPU_HASH`.
#[derive(Clone, Debug)]
pub(in crate::sched) struct Hash {
    /// Each CPU has a value of its own.
    pub per_cpu: bool,
    /// Where there is no room, what was not used for the longest time goes.
    lru: bool,
    elements: BTreeMap<Arc<[u8]>, Element>,
    /// Of a hash with timers: the keys, by the numbers of their elements.
    numbers: Option<BTreeMap<u64, Arc<[u8]>>>,
    /// Of an LRU hash: the keys, by when they were used.
    used: BTreeMap<u64, Arc<[u8]>>,
    /// Uses until now.
    uses: u64,
    /// Elements that were ever made.
    made: u64,
}

#[derive(Clone, Debug)]
struct Element {
    /// Which of all that were made: the number that its values have.
    number: u64,
    /// When it was used; 0 unless it is an LRU hash.
    used: u64,
    /// Its value, or one for each CPU that has used its own; the others are zero.
    values: Vec<Option<RegionId>>,
}

/// Where an update or a removal takes place.
pub(in crate::sched) struct In<'a> {
    pub memory: &'a mut Memory,
    pub shape: &'a Shape,
    /// Where values go that are taken out.
    pub deleted: &'a mut Vec<RegionId>,
}

impl Hash {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    pub fn new(per_cpu: bool, lru: bool, shape: &Shape) -> Self {
        let (elements, used) = (BTreeMap::new(), BTreeMap::new());
        let numbers = shape.fields.has(Field::Timer).then(BTreeMap::new);
        Self { per_cpu, lru, elements, numbers, used, uses: 0, made: 0 }
    }

    /// The key whose value this is, of a hash with timers.
    pub fn key_of(&self, memory: &Memory, id: RegionId) -> Option<&[u8]> {
        let Part::Value(number) = memory.region(id)?.part else { return None };
        let key = self.numbers.as_ref()?.get(&number)?;
        self.elements.get(key)?.values.contains(&Some(id)).then_some(key)
    }

    /// Where a CPU's value is among an element's.
    fn place(&self, cpu: u32) -> usize {
        if self.per_cpu { cpu as usize } else { 0 }
    }

    /// The address of a CPU's value, which counts as a use.
    pub fn lookup(
        &mut self,
        memory: &mut Memory,
        shape: &Shape,
        cpu: u32,
        key: &[u8],
    ) -> Result<Option<u64>, Fails> {
        self.touch(key);
        self.peek(memory, shape, cpu, key)
    }

    /// The same, and no use.
    pub fn peek(
        &mut self,
        memory: &mut Memory,
        shape: &Shape,
        cpu: u32,
        key: &[u8],
    ) -> Result<Option<u64>, Fails> {
        let place = self.place(cpu);
        let Some(element) = self.elements.get_mut(key) else { return Ok(None) };
        Ok(Some(element.value(memory, shape, self.per_cpu, place)?.base()))
    }

    /// Whether an element has one value, and a lookup changes nothing.
    pub fn is_plain(&self) -> bool {
        !self.per_cpu && !self.lru
    }

    /// Where the value is, of a plain hash: what an update with `BPF_F_LOCK` changes in its place.
    pub fn in_place(&self, key: &[u8]) -> Option<u64> {
        if !self.is_plain() {
            return None;
        }
        self.elements.get(key)?.values.first()?.map(RegionId::base)
    }

    fn touch(&mut self, key: &[u8]) {
        if !self.lru {
            return;
        }
        let Some(element) = self.elements.get_mut(key) else { return };
        if let Some(key) = self.used.remove(&element.used) {
            self.uses += 1;
            element.used = self.uses;
            self.used.insert(self.uses, key);
        }
    }

    /// Inserts an element, or gives it another value.
    pub fn update(
        &mut self,
        within: In<'_>,
        cpu: u32,
        (key, value): (&[u8], &[u8]),
        flags: u64,
    ) -> Result<(), Fails> {
        let In { memory, shape, deleted } = within;
        if (self.lru || self.per_cpu) && flags > EXIST {
            return Err(Fails::Errno(EINVAL));
        }
        shape.check_update(flags)?;
        let is_there = self.elements.contains_key(key);
        check_exists(is_there, flags)?;
        let place = self.place(cpu);
        if is_there {
            self.touch(key);
            let Some(element) = self.elements.get_mut(key) else { return Ok(()) };
            if self.per_cpu || flags & LOCK != 0 {
                let id = element.value(memory, shape, self.per_cpu, place)?;
                return shape.write(memory, id, 0, value);
            }
            // A reader of the old value keeps it.
            let number = self.made;
            let id = fresh(memory, shape, number, None, value)?;
            self.made += 1;
            if let Some(numbers) = &mut self.numbers
                && let Some(key) = numbers.remove(&element.number)
            {
                numbers.insert(number, key);
            }
            element.number = number;
            deleted.extend(element.values[0].replace(id));
            return Ok(());
        }
        if self.elements.len() >= shape.max_entries as usize {
            let Some((_, oldest)) = self.used.pop_first() else { return Err(Fails::Errno(E2BIG)) };
            if let Some(gone) = self.elements.remove(&oldest) {
                self.numbers.as_mut().map(|numbers| numbers.remove(&gone.number));
                memory.uncharge(gone.cost(&oldest));
                deleted.extend(gone.values.into_iter().flatten());
            }
        }
        let of_cpu = self.per_cpu.then_some(cpu);
        let mut element = Element { number: self.made, used: 0, values: vec![None; place + 1] };
        let cost = element.cost(key);
        memory.charge(cost)?;
        let made = fresh(memory, shape, self.made, of_cpu, value);
        let id = made.inspect_err(|_| memory.uncharge(cost))?;
        element.values[place] = Some(id);
        let key: Arc<[u8]> = key.into();
        self.made += 1;
        if self.lru {
            self.uses += 1;
            element.used = self.uses;
            self.used.insert(self.uses, Arc::clone(&key));
        }
        if let Some(numbers) = &mut self.numbers {
            numbers.insert(element.number, Arc::clone(&key));
        }
        self.elements.insert(key, element);
        Ok(())
    }

    /// Takes an element out.
    pub fn delete(&mut self, within: In<'_>, key: &[u8]) -> Result<(), Fails> {
        let element = self.elements.remove(key).ok_or(Fails::Errno(ENOENT))?;
        self.used.remove(&element.used);
        self.numbers.as_mut().map(|numbers| numbers.remove(&element.number));
        within.memory.uncharge(element.cost(key));
        within.deleted.extend(element.values.into_iter().flatten());
        Ok(())
    }

    /// The key after this one, or the first.
    pub fn next_key(&self, after: Option<&[u8]>) -> Option<Vec<u8>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut range = self.elements.range::<[u8], _>((from, Bound::Unbounded));
        Some(range.next()?.0.to_vec())
    }

    /// All keys, and the values that are there by CPU (one if it is not for each CPU).
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[Option<RegionId>])> {
        self.elements.iter().map(|(key, element)| (&**key, &*element.values))
    }
}

impl Element {
    /// What it takes of the machine's memory with this key, beside its values.
    fn cost(&self, key: &[u8]) -> u64 {
        (key.len() + self.values.len() * size_of::<Option<RegionId>>()) as u64 + ELEMENT
    }

    /// A value, which is made if it is not there: zero.
    fn value(
        &mut self,
        memory: &mut Memory,
        shape: &Shape,
        per_cpu: bool,
        place: usize,
    ) -> Result<RegionId, Fails> {
        if self.values.len() <= place {
            let more = place + 1 - self.values.len();
            memory.charge((more * size_of::<Option<RegionId>>()) as u64)?;
            self.values.resize(place + 1, None);
        }
        if let Some(id) = self.values[place] {
            return Ok(id);
        }
        let of_cpu = per_cpu.then_some(place as u32);
        let id =
            memory.alloc_zeroed(region(shape, self.number, of_cpu), shape.value_size.into())?;
        self.values[place] = Some(id);
        Ok(id)
    }
}

fn region(shape: &Shape, number: u64, of_cpu: Option<u32>) -> crate::machine::Region {
    match of_cpu {
        Some(cpu) => shape.region_of_cpu(cpu, Part::Value(number)),
        None => shape.region(Part::Value(number)),
    }
}

/// A new value.
fn fresh(
    memory: &mut Memory,
    shape: &Shape,
    number: u64,
    of_cpu: Option<u32>,
    value: &[u8],
) -> Result<RegionId, Fails> {
    let id = memory.alloc_zeroed(region(shape, number, of_cpu), shape.value_size.into())?;
    if let Err(fails) = shape.write(memory, id, 0, value) {
        memory.free(id);
        return Err(fails);
    }
    Ok(id)
}
