//! Real kernels: which there are, how to get one, and what it can do.
#![forbid(unsafe_code)]
