//! Arrays: `kernel/bpf/arraymap.c`.

use super::errno::{E2BIG, EEXIST, EINVAL};
use super::{EXIST, Fails, LOCK, NOEXIST, Shape};
use crate::machine::{Memory, Part, RegionId};

/// `BPF_MAP_TYPE_ARRAY`.
#[derive(Clone, Debug)]
pub(in crate::sched) struct Array {
    /// All values.
    pub values: RegionId,
}

/// `BPF_MAP_TYPE_PERCPU_ARRAY`.
#[derive(Clone, Debug, Default)]
pub(in crate::sched) struct PerCpuArray {
    /// All values of each CPU that has used one.
    cpus: Vec<Option<RegionId>>,
}

/// The index that a key is.
pub(in crate::sched) fn index(key: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*key.first_chunk()?))
}

/// Where the value of a key is in the array.
fn offset(shape: &Shape, key: &[u8]) -> Option<u32> {
    let index = index(key).filter(|index| *index < shape.max_entries)?;
    index.checked_mul(shape.stride())
}

/// What an update may be, in the order in which the kernel looks.
fn place(shape: &Shape, key: &[u8], flags: u64) -> Result<u32, Fails> {
    if flags & !LOCK > EXIST {
        return Err(Fails::Errno(EINVAL));
    }
    let offset = offset(shape, key).ok_or(Fails::Errno(E2BIG))?;
    if flags & NOEXIST != 0 {
        return Err(Fails::Errno(EEXIST));
    }
    shape.check_update(flags)?;
    Ok(offset)
}

impl Array {
    pub fn lookup(&self, shape: &Shape, key: &[u8]) -> Option<u64> {
        Some(self.values.base() + u64::from(offset(shape, key)?))
    }

    pub fn update(
        &self,
        memory: &mut Memory,
        shape: &Shape,
        key: &[u8],
        value: &[u8],
        flags: u64,
    ) -> Result<(), Fails> {
        let offset = place(shape, key, flags)?;
        shape.write(memory, self.values, offset, value)
    }
}

impl PerCpuArray {
    pub fn lookup(
        &mut self,
        memory: &mut Memory,
        shape: &Shape,
        cpu: u32,
        key: &[u8],
    ) -> Result<Option<u64>, Fails> {
        let Some(offset) = offset(shape, key) else { return Ok(None) };
        Ok(Some(self.of(memory, shape, cpu)?.base() + u64::from(offset)))
    }

    pub fn update(
        &mut self,
        memory: &mut Memory,
        shape: &Shape,
        cpu: u32,
        (key, value): (&[u8], &[u8]),
        flags: u64,
    ) -> Result<(), Fails> {
        let offset = place(shape, key, flags)?;
        let values = self.of(memory, shape, cpu)?;
        shape.write(memory, values, offset, value)
    }

    /// A CPU's values.
    fn of(&mut self, memory: &mut Memory, shape: &Shape, cpu: u32) -> Result<RegionId, Fails> {
        let index = cpu as usize;
        if self.cpus.len() <= index {
            self.cpus.resize(index + 1, None);
        }
        if let Some(values) = self.cpus[index] {
            return Ok(values);
        }
        let size = u64::from(shape.stride()) * u64::from(shape.max_entries);
        let region = shape.region_of_cpu(cpu, Part::Values(shape.stride()));
        let values = memory.alloc_zeroed(region, size)?;
        self.cpus[index] = Some(values);
        Ok(values)
    }

    /// The values of each CPU that has used one.
    pub fn cpus(&self) -> &[Option<RegionId>] {
        &self.cpus
    }
}
