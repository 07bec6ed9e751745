//! Rings to user space: `kernel/bpf/ringbuf.c`. In the engine nobody reads them, so that one is full
//! some time, as on a kernel whose user space does not read. What is in it can be had afterwards.

use std::collections::VecDeque;

use super::{Fails, Shape};
use crate::machine::{Memory, NoKernel, Part, Region, RegionId};

/// `BPF_RINGBUF_HDR_SZ`.
const HEADER: u64 = 8;
/// `RINGBUF_MAX_RECORD_SZ`.
const MAX_RECORD: u64 = (u32::MAX / 4) as u64;

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
    /// Where the next record goes, and the oldest that is still being written.
    producer: u64,
    pending: u64,
    /// The oldest record that was not overwritten.
    over: u64,
    records: VecDeque<Record>,
    made: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Busy,
    Submitted,
    Discarded,
}

#[derive(Clone, Debug)]
struct Record {
    position: u64,
    /// With its header, in whole words.
    len: u64,
    state: State,
    /// Its bytes; none once it is discarded.
    bytes: Option<RegionId>,
}

impl Ring {
    pub fn new(size: u32, overwrite: bool) -> Self {
        Self {
            size: size.into(),
            overwrite,
            producer: 0,
            pending: 0,
            over: 0,
            records: VecDeque::new(),
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
        let busy = self.records.iter().find(|record| record.state == State::Busy);
        self.pending = busy.map_or(self.producer, |record| record.position);
        let end = self.producer + len;
        // One byte always stays free. The consumer is at 0.
        if end - self.pending >= self.size || !self.overwrite && end >= self.size {
            return Ok(None);
        }
        let id = memory.alloc_zeroed(shape.region(Part::Value(self.made)), size)?;
        self.made += 1;
        while end - self.over >= self.size {
            let Some(oldest) = self.records.pop_front() else { break };
            self.over += oldest.len;
            oldest.bytes.map(|id| memory.free(id));
        }
        let record = Record { position: self.producer, len, state: State::Busy, bytes: Some(id) };
        self.records.push_back(record);
        self.producer = end;
        Ok(Some(id.base()))
    }

    /// Whether a program is writing the record at this address.
    pub fn is_reserved(&self, addr: u64) -> bool {
        self.reserved(addr).is_some()
    }

    fn reserved(&self, addr: u64) -> Option<usize> {
        let id = RegionId::of(addr).filter(|id| id.base() == addr)?;
        let mut records = self.records.iter();
        records.position(|record| record.state == State::Busy && record.bytes == Some(id))
    }

    /// Ends the writing of a record. From then on the program has no pointer to it.
    pub fn commit(
        &mut self,
        memory: &mut Memory,
        shape: &Shape,
        addr: u64,
        discard: bool,
    ) -> Result<(), Fails> {
        let index = self.reserved(addr).ok_or(Fails::Never("no record of it is reserved there"))?;
        let record = &mut self.records[index];
        let Some(old) = record.bytes.take() else { return Ok(()) };
        if discard {
            record.state = State::Discarded;
        } else {
            let mut bytes = vec![0; memory.size(old).unwrap_or(0) as usize];
            if memory.read(&mut NoKernel, addr, &mut bytes).is_ok() {
                let region = Region { writable: false, ..shape.region(Part::Value(self.made)) };
                record.bytes = Some(memory.alloc(region, bytes)?);
            }
            record.state = State::Submitted;
        }
        memory.free(old);
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
        let done = self.records.iter().filter(|record| record.state == State::Submitted);
        done.filter_map(|record| record.bytes)
    }
}
