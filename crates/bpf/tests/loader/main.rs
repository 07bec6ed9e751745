//! The loader: objects that are written here, byte by byte, against kernels that are.

mod bad;
mod btf;
mod core;
mod damage;
mod elf;
mod externs;
mod fields;
mod sample;
mod whole;
