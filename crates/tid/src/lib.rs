#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod alloc;
mod table;

pub use alloc::{Allocator, CHUNK, Cursor, Exhausted, Tid};
pub use table::{InsertError, Table};
