//! The agent: what runs on a real kernel.

fn main() {}
