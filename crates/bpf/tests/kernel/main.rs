//! What compiled schedulers see of the kernel, and what they can call: its objects, its operations
//! and its functions.

mod any;
mod build;
mod cpus;
mod dynptr;
mod newer;
mod objects;
mod operations;
mod own;
mod tasks;
mod text;
