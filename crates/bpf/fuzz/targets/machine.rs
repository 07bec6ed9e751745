//! Any instructions: refused, or run to an end.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| scxlab_bpf::machine::trial::trial(bytes));
