//! What the fuzzers found (`cargo xtask fuzz`), and what they start from. `fuzz/found` has, by target,
//! inputs that once went wrong, and a choice of small ones that together reach all the code that small
//! ones have. Here they are read with overflow checks and debug assertions.

use std::fs;
use std::path::Path;

use scxlab_bpf::abi::{Abi, Version};
use scxlab_bpf::insn::Insn;
use scxlab_bpf::machine;
use scxlab_bpf::object::Target as _;
use scxlab_bpf::sched;
use scxlab_bpf::trial;

/// Gives each input of a target to what reads it.
fn each(target: &str, mut read: impl FnMut(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/found").join(target);
    let mut paths: Vec<_> = fs::read_dir(dir)
        .expect("some are kept of each target")
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    paths.sort();
    for path in paths {
        println!("{}", path.display());
        read(&fs::read(&path).expect("it can be read"));
    }
}

#[test]
fn objects() {
    let kernel = Abi::new(Version::V7_2).expect("the declarations make sense");
    trial::object(b"\x7fELF", &kernel);
    each("object", |bytes| trial::object(bytes, &kernel));
}

#[test]
fn types() {
    let kernel = Abi::new(Version::V7_2).expect("the declarations make sense");
    trial::btf(&kernel.btf().to_bytes());
    each("btf", trial::btf);
}

#[test]
fn schedulers() {
    let exit = Insn { code: 0x95, ..Insn::default() };
    sched::trial::trial(&[[0; 8], exit.write()].concat());
    each("scheduler", sched::trial::trial);
}

#[test]
fn instructions() {
    let exit = Insn { code: 0x95, ..Insn::default() };
    machine::trial::trial(&exit.write());
    each("machine", machine::trial::trial);
}
