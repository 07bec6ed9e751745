//! The machine, from outside.

mod alu;
mod any;
mod build;
mod calls;
mod clang;
mod decode;
mod faults;
mod jumps;
mod memory;
mod naive;
