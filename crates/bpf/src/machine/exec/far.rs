//! Accesses to what is neither the running function's frame nor a flat region.

use crate::machine::address::{self, NULL_SIZE, RegionId};
use crate::machine::code::Arena;
use crate::machine::kernel::{Kernel, Null};
use crate::machine::memory::{Denied, Memory, stack_index};

/// What it takes to find them.
#[derive(Clone, Copy)]
pub(super) struct Far {
    /// The running thread's stack, whose bytes are not in the memory now.
    pub stack: RegionId,
    pub arena: Option<Arena>,
}

impl Far {
    #[inline(never)]
    pub(super) fn load<const N: usize, K: Kernel>(
        self,
        stack: &[u8],
        memory: &Memory,
        kernel: &mut K,
        addr: u64,
    ) -> Result<[u8; N], Denied> {
        if let Some(bytes) = memory.load_page(addr) {
            return Ok(*bytes);
        }
        let value = self.load_rare(stack, memory, kernel, addr, N)?.to_le_bytes();
        let mut bytes = [0; N];
        bytes.copy_from_slice(&value[..N]);
        Ok(bytes)
    }

    /// A load with `acquire`, which is an atomic operation: nothing where it loads nothing.
    #[inline(never)]
    pub(super) fn load_acquire<const N: usize, K: Kernel>(
        self,
        stack: &[u8],
        memory: &Memory,
        kernel: &mut K,
        addr: u64,
    ) -> Result<Option<[u8; N]>, Denied> {
        if let Some(to) = self.resolve(kernel, addr)?
            && let Some(hole) = memory.arena_hole(kernel, to, N, false)
        {
            return hole.map(|value| value.map(|_| [0; N]));
        }
        self.load(stack, memory, kernel, addr).map(Some)
    }

    #[inline(never)]
    pub(super) fn store<const N: usize, K: Kernel>(
        self,
        stack: &mut [u8],
        memory: &mut Memory,
        kernel: &mut K,
        addr: u64,
        bytes: [u8; N],
    ) -> Result<(), Denied> {
        if let Some(to) = memory.store_page(addr) {
            *to = bytes;
            return Ok(());
        }
        let mut value = [0; 8];
        value[..N].copy_from_slice(&bytes);
        self.store_rare(stack, memory, kernel, addr, N, u64::from_le_bytes(value))
    }

    /// Changes a number, and returns what is loaded: what it was, if anything.
    #[inline(never)]
    pub(super) fn change<K: Kernel>(
        self,
        stack: &mut [u8],
        memory: &mut Memory,
        kernel: &mut K,
        addr: u64,
        size: usize,
        change: impl Fn(u64) -> u64,
    ) -> Result<Option<u64>, Denied> {
        let addr = match self.resolve(kernel, addr)? {
            Some(addr) => addr,
            None => return Err(Denied::Null),
        };
        if let Some(hole) = memory.arena_hole(kernel, addr, size, true) {
            return hole;
        }
        let old = self.load_rare(stack, memory, kernel, addr, size)?;
        self.store_rare(stack, memory, kernel, addr, size, change(old))?;
        Ok(Some(old))
    }

    /// Whether a cmpxchg that stores leaves all of r0 as it is: [`Kernel::keeps_r0`].
    #[cold]
    pub(super) fn keeps_r0<K: Kernel>(self, memory: &Memory, kernel: &mut K, addr: u64) -> bool {
        let at = self.resolve(kernel, addr).ok().flatten();
        kernel.keeps_r0() && at.is_some_and(|at| memory.is_in_arena(at))
    }

    #[cold]
    fn load_rare<K: Kernel>(
        self,
        stack: &[u8],
        memory: &Memory,
        kernel: &mut K,
        addr: u64,
        size: usize,
    ) -> Result<u64, Denied> {
        let Some(addr) = self.resolve(kernel, addr)? else { return Ok(0) };
        if RegionId::of(addr) == Some(self.stack) {
            let at = stack_index(stack, address::offset(addr), size).ok_or(Denied::Outside)?;
            let mut value = [0; 8];
            value[..size].copy_from_slice(&stack[at..at + size]);
            return Ok(u64::from_le_bytes(value));
        }
        memory.load(kernel, addr, size)
    }

    #[cold]
    fn store_rare<K: Kernel>(
        self,
        stack: &mut [u8],
        memory: &mut Memory,
        kernel: &mut K,
        addr: u64,
        size: usize,
        value: u64,
    ) -> Result<(), Denied> {
        let addr = self.resolve(kernel, addr)?.ok_or(Denied::Null)?;
        if RegionId::of(addr) == Some(self.stack) {
            let at = stack_index(stack, address::offset(addr), size).ok_or(Denied::Outside)?;
            stack[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
            return Ok(());
        }
        memory.store(kernel, addr, size, value)
    }

    /// Where an access really goes; nothing if it reads zero.
    fn resolve<K: Kernel>(self, kernel: &mut K, addr: u64) -> Result<Option<u64>, Denied> {
        if addr >= NULL_SIZE {
            return Ok(Some(addr));
        }
        match (kernel.null(), self.arena) {
            (Null::Zero, _) => Ok(None),
            (Null::Arena, Some(arena)) => Ok(Some(arena.kernel | addr)),
            (Null::Arena, None) | (Null::Fault, _) => Err(Denied::Null),
        }
    }
}
