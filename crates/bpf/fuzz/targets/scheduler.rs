//! Any instructions as the operations of a scheduler, on the engine: refused, or run.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| scxlab_bpf::sched::trial::trial(bytes));
