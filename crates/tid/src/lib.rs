#![doc = include_str!("../README.md")]

mod alloc;
mod directory;
mod live;
mod memory;
mod order;
mod page;

mod reclaim;
mod sparse;
mod sync;
mod table;
mod threads;
mod value;

pub use alloc::{Allocator, CHUNK, Cursor, Exhausted, Tid};
#[cfg(loom)]
#[doc(hidden)]
pub use order::{NAMES as ORDERINGS, weaken};
pub use table::{InsertError, NoMemory, Pinned, Table};
pub use threads::ThreadIds;
pub use value::{Shared, Value};
