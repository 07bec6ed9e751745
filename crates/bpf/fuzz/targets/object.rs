//! An object file, taken apart and relocated for two kernels: ELF, BTF and CO-RE.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use scxlab_bpf::abi::{Abi, Version};

static KERNELS: LazyLock<[Abi; 2]> =
    LazyLock::new(|| [Version::V6_16, Version::V7_2].map(|version| Abi::new(version).unwrap()));

fuzz_target!(|bytes: &[u8]| {
    for kernel in &*KERNELS {
        scxlab_bpf::trial::object(bytes, kernel);
    }
});
