//! What a fuzzer calls: any bytes, for whatever reads them. The tests call it with what was found.
//!
//! [`machine::trial`](crate::machine::trial) does it for instructions.

use crate::Image;
use crate::btf::{Btf, BtfExt};
use crate::object::{Object, Target};

/// Takes bytes for an object, and relocates it for a kernel. An image has to be whole.
///
/// # Panics
/// It is not, or something else is wrong with this crate.
pub fn object(bytes: &[u8], kernel: &dyn Target) {
    let Ok(mut object) = Object::parse(bytes) else { return };
    let _ = object.fill_enumerators(kernel);
    let _ = object.set("limits.table[1]", "-3");
    let _ = object.set("tag", "text");
    let _ = object.resize(".bss", 100);
    let first = object.struct_ops().next().map(|(name, _)| name.to_owned());
    let _ = object.clear_operation(&first.unwrap_or_default(), "init");
    if let Ok(image) = object.load(kernel) {
        assert_whole(&image);
    }
}

/// What refers to something refers to what is there.
fn assert_whole(image: &Image) {
    for function in &image.functions {
        assert!(function.start + function.len <= image.insns.len());
    }
    assert!(image.lines.iter().all(|line| line.insn < image.insns.len()));
    assert!(image.globals.iter().all(|global| global.map < image.maps.len()));
    for ops in &image.struct_ops {
        assert!(ops.operations.iter().all(|&(_, program)| program < image.programs.len()));
    }
}

/// Takes bytes for types, and half of them for what `.BTF.ext` has; looks at all of them, and writes
/// them again.
///
/// # Panics
/// What is written is read as something else, or something else is wrong with this crate.
pub fn btf(bytes: &[u8]) {
    let Ok(btf) = Btf::parse(bytes) else { return };
    for (id, ty) in btf.iter() {
        let _ = (btf.resolve(id), btf.size_of(id), btf.align_of(id), btf.describe(id));
        let _ = btf.find(btf.name_of(id), ty.kind());
        let _ = btf.member(id, "member");
        let _ = crate::object::decode(&btf, id, &bytes[..bytes.len().min(256)]);
    }
    let _ = BtfExt::parse(&bytes[bytes.len() / 2..], &btf);
    let again = Btf::parse(&btf.to_bytes()).expect("what is written can be read");
    assert_eq!(again, btf);
}
