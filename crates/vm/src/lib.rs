//! A real kernel in QEMU: no root, no KVM needed, nothing but the image.
//!
//! [`Machine`] says which kernel and what hardware, [`Cargo`] what is in the initramfs: the agent,
//! its job, and the files that the job names. [`Machine::boot`] starts it, and [`Guest::next`] hands
//! the agent's records back one by one. Whatever happens in there, the guest ends: by its own
//! [`Record::Done`](scxlab_protocol::Record::Done), or with a [`VmError`] that has its last log lines.
#![forbid(unsafe_code)]

mod agent;
mod archive;
mod error;
mod guest;
mod initramfs;
mod lines;
mod machine;
mod qemu;

pub use agent::find_agent;
pub use error::VmError;
pub use guest::{Guest, Note};
pub use initramfs::Cargo;
pub use machine::{Accel, Limits, Machine};
