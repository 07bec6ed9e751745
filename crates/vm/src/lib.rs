//! A real kernel in QEMU.
#![forbid(unsafe_code)]
