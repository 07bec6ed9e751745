//! Rings to user space: `kernel/bpf/ringbuf.c`. In the engine nobody reads them, so that one is full
//! some time, as on a kernel whose user space does not read. What is in it can be had afterwards.

use std::collections::{BTreeMap, VecDeque};

use super::{Fails, Shape};
use crate::machine::{Memory, NoKernel, Part, Region, RegionId};

/// `BPF_RINGBUF_HDR_SZ`.
const HEADER: u64 = 8;
/// `RINGBUF_MAX_RECORD_SZ`.
const MAX_RECORD: u64 = (u32::MAX / 4) as u64;

/// What a record takes of the machine's memory beside its bytes, as long as it is in the ring.
const RECORD: u64 = size_of::<Record>() as u64;

/// What `bpf_ringbuf_query()` is asked for.
const AVAIL_DATA: u64 = 0;
const RING_SIZE: u64 = 1;
const CONS_POS: u64 = 2;
const PROD_POS: u64 = 3;
const OVERWRITE_POS: u64 = 4;

/// `BPF_MAP_TYPE_RINGBUF`.
#[derive(Clone, Debug)]
pub(in crate::sched) struct Ring {
    size: u64,
    /// Older records make room for new ones.
    overwrite: bool,
    /// Where the next record goes.
    producer: u64,
    /// The oldest record that was not overwritten.
    over: u64,
    /// Those that were not overwritten, oldest first.
    records: VecDeque<Record>,
    /// Those that are being written, by how many were before them: where their bytes are.
    busy: BTreeMap<u64, RegionId>,
    /// Records ever made.
    made: u64,
}

#[derive(Clone, Debug)]
struct Record {
    position: u64,
    /// With its header, in whole words.
    len: u64,
    /// Its bytes, once it is submitted.
    bytes: Option<RegionId>,
}

impl Ring {
    pub fn new(size: u32, overwrite: bool) -> Self {
        Self {
            size: size.into(),
            overwrite,
            producer: 0,
            over: 0,
            records: VecDeque::new(),
            busy: BTreeMap::new(),
            made: 0,
        }
    }

    /// Makes room for a record that a program writes: its address. Nothing if there is no room.
    pub fn reserve(
        &mut self,
        memory: &mut Memory,
        shape: &Shape,
        size: u64,
    ) -> Result<Option<u64>, Fails> {
        if size > MAX_RECORD {
            return Ok(None);
        }
        let len = (size + HEADER).next_multiple_of(8);
        if len > self.size {
            return Ok(None);
        }
        let busy = self.busy.first_key_value().and_then(|(made, _)| self.index(*made));
        let pending = busy.map_or(self.producer, |index| self.records[index].position);
        let end = self.producer + len;
        // One byte always stays free. The consumer is at 0.
        if end - pending >= self.size || !self.overwrite && end >= self.size {
            return Ok(None);
        }
        memory.charge(RECORD)?;
        let made = memory.alloc_zeroed(shape.region(Part::Value(self.made)), size);
        let id = made.inspect_err(|_| memory.uncharge(RECORD))?;
        while end - self.over >= self.size {
            let Some(oldest) = self.records.pop_front() else { break };
            self.over += oldest.len;
            memory.uncharge(RECORD);
            oldest.bytes.map(|id| memory.free(id));
        }
        self.records.push_back(Record { position: self.producer, len, bytes: None });
        self.busy.insert(self.made, id);
        self.made += 1;
        self.producer = end;
        Ok(Some(id.base()))
    }

    /// Whether a program is writing the record at this address.
    pub fn is_reserved(&self, memory: &Memory, addr: u64) -> bool {
        self.reserved(memory, addr).is_some()
    }

    /// Which record that is being written is at this address.
    fn reserved(&self, memory: &Memory, addr: u64) -> Option<u64> {
        let id = RegionId::of(addr).filter(|id| id.base() == addr)?;
        let Part::Value(made) = memory.region(id)?.part else { return None };
        (self.busy.get(&made) == Some(&id)).then_some(made)
    }

    /// Where a record is, by how many were before it.
    fn index(&self, made: u64) -> Option<usize> {
        (made + self.records.len() as u64).checked_sub(self.made).map(|index| index as usize)
    }

    /// Ends the writing of a record. From then on the program has no pointer to it.
    pub fn commit(
        &mut self,
        memory: &mut Memory,
        shape: &Shape,
        addr: u64,
        discard: bool,
    ) -> Result<(), Fails> {
        let made =
            self.reserved(memory, addr).ok_or(Fails::Never("no record of it is reserved there"))?;
        if !discard {
            let mut bytes =
                vec![0; self.busy.get(&made).and_then(|id| memory.size(*id)).unwrap_or(0) as usize];
            if memory.read(&mut NoKernel, addr, &mut bytes).is_err() {
                return Err(Fails::Never("its bytes cannot be read"));
            }
            let region = Region { writable: false, ..shape.region(Part::Value(made)) };
            let id = memory.alloc(region, bytes)?;
            if let Some(index) = self.index(made) {
                self.records[index].bytes = Some(id);
            }
        }
        if let Some(id) = self.busy.remove(&made) {
            memory.free(id);
        }
        Ok(())
    }

    /// `bpf_ringbuf_query()`.
    pub fn query(&self, what: u64) -> u64 {
        match what {
            AVAIL_DATA => self.producer - if self.overwrite { self.over } else { 0 },
            RING_SIZE => self.size,
            CONS_POS => 0,
            PROD_POS => self.producer,
            OVERWRITE_POS => self.over,
            _ => 0,
        }
    }

    /// The records that were submitted and are still there, oldest first.
    pub fn submitted(&self) -> impl Iterator<Item = RegionId> {
        self.records.iter().filter_map(|record| record.bytes)
    }
}
