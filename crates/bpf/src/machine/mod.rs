//! The machine: it runs an [`Image`](crate::Image)'s programs, and knows registers, instructions
//! and memory, but no kernel. Where a program calls the kernel, it stops.
//!
//! ```text
//! Image ──decode──▶ Code        never changes
//!                   Memory      regions, by address
//!                   Thread      registers and frames; any number of them
//!                   run(thread, code, memory, kernel, fuel) ──▶ Stop
//! ```
//!
//! [`Memory`] and [`Thread`] are values: no reference, no closure, nothing of the process that
//! runs them. A clone goes on as the original does, and the same inputs give the same results.
//! [`run`] stops where its fuel ends, after any instruction, and it makes no difference where.
//!
//! What a thread called is its owner's to do: it reads and writes memory ([`Memory::read`]), calls
//! functions of the program from there ([`Thread::call`]), and at last gives the thread its result
//! ([`Thread::resume`]).
//!
//! ```
//! use scxlab_bpf::image::{Function, Image};
//! use scxlab_bpf::machine::{Binding, Callee, Code, Memory, NoKernel, Stop, Thread, run};
//! use scxlab_bpf::Insn;
//!
//! // r0 = helper 5(); r0 += 1; exit
//! let insns = [[0x85, 0, 0, 0, 5, 0, 0, 0], [0x07, 0, 0, 0, 1, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
//! let image = Image {
//!     insns: insns.map(Insn::read).to_vec(),
//!     functions: vec![Function { name: "now".into(), start: 0, len: 3 }],
//!     ..Image::default()
//! };
//! let code = Code::decode(&image, &Binding::default())?;
//! let mut memory = Memory::new(1 << 20);
//! let mut thread = Thread::new(&mut memory, "CPU 0")?;
//! thread.start(&mut memory, &code, 0, [0; 5])?;
//!
//! let mut fuel = 100;
//! let mut go_on = |thread: &mut Thread| run(thread, &code, &mut memory, &mut NoKernel, &mut fuel);
//! assert!(matches!(go_on(&mut thread), Stop::Call(Callee::Helper(5), _)));
//! thread.resume(41);
//! assert_eq!(go_on(&mut thread), Stop::Exit(42));
//! assert_eq!(fuel, 97);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is as documented, and what the machine adds
//!
//! Instructions are those of Documentation/bpf/standardization/instruction-set.rst: a division by
//! zero gives zero, a remainder by zero leaves the dividend, shifts are masked, results of 32 bits
//! are extended with zeros, the smallest number divided by -1 is itself. After a call r1 to r5
//! keep what they had.
//!
//! The verifier is not here. It decides what a program may do before it runs, this machine while
//! it runs:
//!
//! - An access outside of regions, against their rights, or to what was freed is a [`Fault`].
//! - An access to the NULL page is one too, unless the owner says otherwise ([`Kernel::null`]): in
//!   a kernel a load through a pointer that comes from BTF reads zero there.
//! - An arena's pointers have the same lower half in the kernel and in user space. A cast to the
//!   kernel gives the arena's own upper half, and leaves 0 as it is. (A kernel drops the upper
//!   half instead, and adds it in each access that the verifier marked. The difference shows only
//!   in a pointer to an arena's address whose lower half is zero: there it is NULL.) A cast to
//!   user space does what a kernel's does, which gives 0 for all whose lower half is zero.
//! - A jump through a register goes only where a jump table of the image points, a
//!   `BPF_MAP_TYPE_INSN_ARRAY` whose [`entries`](crate::image::Map::entries) are instructions of
//!   the image. What is in memory are their addresses: [`Code::jump_table`].
//! - `may_goto` jumps [`MAY_GOTO_INSNS`] instructions after a frame's first one.
//! - A function's frame is 512 bytes of its own. What the verifier counts of a stack, the sum over
//!   all frames, it does not count for schedulers, whose stacks are private.

pub mod address;
mod code;
mod decode;
mod exec;
mod fault;
mod kernel;
mod memory;
mod thread;
pub mod trial;

pub use address::RegionId;
pub use code::{Callee, Code};
pub use decode::{Binding, DecodeError, MapAddress, Refused};
pub use exec::run;
pub use fault::{Fault, What};
pub use kernel::{ArenaFault, Kernel, NoKernel, Null};
pub use memory::{
    Denied, FLAT_MAX, FRAME_SIZE, FRAME_STRIDE, Full, Memory, Part, Place, QUARANTINE, Region,
};
pub use thread::{MAX_FRAMES, MAY_GOTO_INSNS, StartError, Stop, Thread};
