//! Types: read, looked through, and written again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| scxlab_bpf::trial::btf(bytes));
