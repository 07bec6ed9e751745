//! What a machine asks its owner while a program runs.

use super::address::RegionId;

/// The rest of the kernel, as far as loads and stores see it.
///
/// A machine has memory of its own, and *foreign* regions, whose bytes are somebody else's: a
/// `task_struct` that the engine keeps. It also meets addresses at which a kernel does not stop,
/// and its owner says what to do there, because only the verifier knows what a pointer is.
pub trait Kernel {
    /// Reads `size` (1, 2, 4 or 8) bytes of a foreign region, as a little-endian number. All of
    /// them are inside of it.
    ///
    /// # Errors
    ///
    /// Why they cannot be read, as the end of a sentence: "the task is gone".
    fn load(&mut self, region: RegionId, offset: u32, size: usize) -> Result<u64, String>;

    /// Writes the lower `size` (1, 2, 4 or 8) bytes of a number into a foreign region.
    ///
    /// # Errors
    ///
    /// Why they cannot be written, as the end of a sentence.
    fn store(
        &mut self,
        region: RegionId,
        offset: u32,
        size: usize,
        value: u64,
    ) -> Result<(), String>;

    /// What an access to the NULL page does.
    fn null(&mut self) -> Null {
        Null::Fault
    }

    /// What an access to an arena does where no page is. The address is the user's, which is what
    /// the kernel reports (`__bpf_prog_report_arena_violation()`).
    fn arena_fault(&mut self, user_addr: u64, write: bool) -> ArenaFault {
        let _ = (user_addr, write);
        ArenaFault::Skip
    }

    /// Whether a cmpxchg of 32 bits in an arena leaves the upper half of r0 as it is if it stores, as
    /// x86-64's instruction does. Before 7.2 the verifier did not see that it had to be cleared
    /// (`is_cmpxchg_insn()`).
    fn keeps_r0(&mut self) -> bool {
        false
    }
}

/// What an access to the NULL page does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Null {
    /// It faults.
    Fault,
    /// A load reads zero, a store faults: a load through a pointer that the verifier knows from
    /// BTF (`BPF_PROBE_MEM`).
    Zero,
    /// It is one to the first bytes of the program's arena: a kernel takes the lower 32 bits of an
    /// arena's pointer, whatever the upper ones are. Without an arena it faults.
    Arena,
}

/// What an access to an arena does where no page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArenaFault {
    /// As on kernels from 7.2 on: whatever is loaded is zero, also what an atomic operation fetches,
    /// nothing else happens, and the program goes on (`bpf_atomic_load_reg()`).
    Skip,
    /// As on x86-64 before 7.2: the same, but that an atomic operation, a load with `acquire` among
    /// them, leaves the register that it would load as it is.
    SkipAtomics,
    /// It faults.
    Fault,
}

/// No kernel: for a program that has only memory of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoKernel;

impl Kernel for NoKernel {
    fn load(&mut self, _: RegionId, _: u32, _: usize) -> Result<u64, String> {
        Err("nobody has its bytes".into())
    }

    fn store(&mut self, _: RegionId, _: u32, _: usize, _: u64) -> Result<(), String> {
        Err("nobody has its bytes".into())
    }
}
