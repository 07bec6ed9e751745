//! The ids that are live, and the orders in which they are looked up.

use crate::peers::Map;

/// What part of the ids lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All of the last ones, none before.
    Dense,
    /// One in a thousand.
    Sparse,
}

/// In which order ids are looked up.
#[derive(Clone, Copy)]
pub enum Order {
    Random,
    Allocation,
}

/// xorshift64*.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        (high * n) >> 32
    }

    fn shuffle(&mut self, ids: &mut [u64]) {
        for i in (1..ids.len()).rev() {
            ids.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

pub struct LiveSet {
    kind: Kind,
    /// Ascending.
    pub live: Vec<u64>,
    /// All ids that were issued are below.
    end: u64,
}

impl LiveSet {
    pub fn new(kind: Kind, size: usize) -> Self {
        let n = size as u64;
        let mut random = Random(0x5eed);
        let live: Vec<u64> = match kind {
            Kind::Dense => (n + 1..=2 * n).collect(),
            Kind::Sparse => (0..n).map(|i| i * 1000 + 1 + random.below(1000)).collect(),
        };
        let end = match kind {
            Kind::Dense => 2 * n + 1,
            Kind::Sparse => n * 1000 + 1,
        };
        Self { kind, live, end }
    }

    /// The first id of the next chunk.
    pub fn first_free(&self) -> u64 {
        self.end.next_multiple_of(1024) + 1
    }

    /// Inserts the live ids; with `dead`, or if it is cheap, after all that died among them: each
    /// chunk's ids are inserted, and those that die are removed.
    pub fn build<M: Map>(&self, map: &M, dead: bool) {
        if self.kind == Kind::Sparse && !dead {
            self.live.iter().for_each(|&tid| map.insert(tid));
            return;
        }
        let mut live = self.live.iter().copied().peekable();
        for first in (1..self.end).step_by(1024) {
            let chunk = first..self.end.min(first + 1024);
            chunk.clone().for_each(|tid| map.insert(tid));
            for tid in chunk {
                if live.next_if_eq(&tid).is_none() {
                    map.remove(tid);
                }
            }
        }
    }

    pub fn hits(&self, order: Order) -> Vec<u64> {
        let mut ids = self.live.clone();
        if let Order::Random = order {
            Random(1).shuffle(&mut ids);
        }
        ids
    }

    /// Ids that were issued and are not live, in random order.
    pub fn dead(&self) -> Vec<u64> {
        let mut random = Random(2);
        let mut dead = Vec::new();
        while dead.len() < self.live.len() {
            let tid = 1 + random.below(self.end - 1);
            if self.live.binary_search(&tid).is_err() {
                dead.push(tid);
            }
        }
        dead
    }

    /// Ids that nobody got, in random order.
    pub fn never(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = (1 << 40..(1 << 40) + self.live.len() as u64).collect();
        Random(3).shuffle(&mut ids);
        ids
    }

    /// The live ids in random order, a half for each of two threads.
    pub fn halves(&self) -> [Vec<u64>; 2] {
        let mut ids = self.hits(Order::Random);
        let rest = ids.split_off(ids.len() / 2);
        [ids, rest]
    }
}

/// Bytes that the C library has given out; 0 where it does not tell.
pub fn heap_bytes() -> usize {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// `struct mallinfo2`.
        #[repr(C)]
        struct Info {
            arena: usize,
            ordblks: usize,
            smblks: usize,
            hblks: usize,
            hblkhd: usize,
            usmblks: usize,
            fsmblks: usize,
            uordblks: usize,
            fordblks: usize,
            keepcost: usize,
        }
        unsafe extern "C" {
            fn mallinfo2() -> Info;
        }
        // SAFETY: it only reads the allocator's own counts. The main thread, which asks, has all
        // its memory from the arena that is counted.
        let info = unsafe { mallinfo2() };
        info.uordblks + info.hblkhd
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    0
}
