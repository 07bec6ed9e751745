//! Queues and stacks: `kernel/bpf/queue_stack_maps.c`.

use super::errno::{E2BIG, EINVAL, ENOENT, ENOMEM};
use super::{EXIST, Fails, Shape};
use crate::machine::{Memory, NoKernel, RegionId};

/// `BPF_MAP_TYPE_QUEUE` and `BPF_MAP_TYPE_STACK`: a ring of values, of which one place is free.
#[derive(Clone, Debug)]
pub(in crate::sched) struct Queue {
    /// A stack: the last one in is the first one out.
    pub stack: bool,
    /// All places, which programs have no pointer to.
    pub places: RegionId,
    /// Where the next value goes.
    head: u32,
    /// Where the oldest one is.
    tail: u32,
}

impl Queue {
    pub fn new(stack: bool, places: RegionId) -> Self {
        Self { stack, places, head: 0, tail: 0 }
    }

    fn after(place: u32, shape: &Shape) -> u32 {
        // As many places as entries, and one.
        if place == shape.max_entries { 0 } else { place + 1 }
    }

    /// The addresses of all values, from the one that is popped first.
    pub fn addresses<'a>(&self, shape: &'a Shape) -> impl Iterator<Item = u64> + use<'a> {
        let places = u64::from(shape.max_entries) + 1;
        let (head, tail, stack) = (u64::from(self.head), u64::from(self.tail), self.stack);
        let (base, len) = (self.places.base(), (head + places - tail) % places);
        (0..len).map(move |nth| {
            let place = if stack { head + places - 1 - nth } else { tail + nth };
            base + place % places * u64::from(shape.value_size)
        })
    }

    /// `bpf_map_push_elem()`. With `BPF_EXIST` the oldest value makes room.
    pub fn push(
        &mut self,
        memory: &mut Memory,
        shape: &Shape,
        value: &[u8],
        flags: u64,
    ) -> Result<(), Fails> {
        if flags != 0 && flags != EXIST {
            return Err(Fails::Errno(EINVAL));
        }
        let next = Self::after(self.head, shape);
        if next == self.tail && flags != EXIST {
            return Err(Fails::Errno(E2BIG));
        }
        let at = self.head * shape.value_size;
        memory.poke(self.places, at, value).map_err(|_| Fails::Errno(ENOMEM))?;
        if next == self.tail {
            self.tail = Self::after(self.tail, shape);
        }
        self.head = next;
        Ok(())
    }

    /// `bpf_map_pop_elem()` and `bpf_map_peek_elem()`.
    pub fn get(&mut self, memory: &Memory, shape: &Shape, remove: bool) -> Result<Vec<u8>, Fails> {
        if self.head == self.tail {
            return Err(Fails::Errno(ENOENT));
        }
        let last = self.head.checked_sub(1).unwrap_or(shape.max_entries);
        let place = if self.stack { last } else { self.tail };
        let mut value = vec![0; shape.value_size as usize];
        let at = self.places.base() + u64::from(place * shape.value_size);
        memory.read(&mut NoKernel, at, &mut value).map_err(|_| Fails::Errno(ENOMEM))?;
        match (remove, self.stack) {
            (false, _) => {}
            (true, true) => self.head = last,
            (true, false) => self.tail = Self::after(self.tail, shape),
        }
        Ok(value)
    }
}
