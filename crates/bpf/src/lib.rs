//! Compiled BPF schedulers: the bytes that a kernel loads, run without one.
//!
//! Two halves, split where the kernel is split from libbpf. The loader ([`object`]) does a loader's
//! work: it takes an ELF file apart, relocates it against the BTF of a kernel, and leaves an
//! [`Image`]: instructions as the `bpf()` system call would be given them. The machine
//! ([`machine`]) does the kernel's: it runs an image's programs in memory of its own, and stops
//! where one calls the kernel or does what it must not. [`sched`] joins them to the engine.
#![forbid(unsafe_code)]

pub mod abi;
pub mod btf;
pub mod image;
pub mod insn;
pub mod machine;
pub mod object;
mod reachable;
pub mod sched;
pub mod trial;

pub use image::Image;
pub use insn::Insn;
