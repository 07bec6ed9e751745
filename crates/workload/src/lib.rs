//! What the tasks of a simulation do.
//!
//! A [`Workload`] describes tasks as data: which there are, what each does step by step, and how
//! often. It comes from an rt-app file ([`Workload::parse`]), from the built-in ones
//! ([`Workload::builtin`]), or is built by hand; [`Workload::compile`] turns it into a program for
//! the engine. The description itself knows nothing of the engine, so that real processes can
//! play it too.
//!
//! The README lists every key of the files, with its unit and default, and what is refused:
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod builtin;
mod compile;
mod error;
mod event;
mod field;
mod json;
mod keys;
mod references;
mod rtapp;
mod workload;

pub use builtin::BUILTINS;
pub use compile::{
    BEGIN, IO_RUN_BYTES_PER_NANO, IO_SLEEP_NANOS_PER_BYTE, MAX_INSTRUCTIONS, MEM_NANOS_PER_BYTE,
};
pub use error::{CompileError, ParseError, Place, UnknownWorkload};
pub use json::{MAX_DEPTH, MAX_TEXT, MAX_VALUES};
pub use workload::{
    Attributes, Event, Kind, MAX_INSTANCES, Phase, Policy, Rounds, Span, Task, Who, Workload,
};
