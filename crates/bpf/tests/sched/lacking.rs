//! Schedulers that the engine lacks something for: what they reach of it is named, and what they only
//! ask for is not.

use scxlab_bpf::image::{Image, Ksym, Map, MapType};
use scxlab_bpf::insn::pseudo;
use scxlab_bpf::sched::{BpfScheduler, LoadError};

use crate::build::{Asm, image, image_with, kernel};

/// A helper that schedulers have no use for: `bpf_bind()`.
const ABSENT: i32 = 64;

/// What an image lacks.
fn missing(image: Image) -> Vec<String> {
    match BpfScheduler::new(image, &kernel()) {
        Ok(_) => Vec::new(),
        Err(LoadError::Missing(missing)) => missing,
        Err(other) => panic!("{other}"),
    }
}

fn rodata(initial: &[u8], read_only: bool) -> Map {
    Map {
        name: ".rodata".into(),
        map_type: MapType::ARRAY,
        key_size: 4,
        value_size: 16,
        max_entries: 1,
        initial: initial.into(),
        read_only,
        ..Map::default()
    }
}

/// Loads a byte of `.rodata` into r1.
fn load(code: u8, offset: i32) -> Asm {
    Asm::new()
        .add(0x18, 1, pseudo::MAP_VALUE, 0, 1)
        .add(0, 0, 0, 0, offset - 1)
        .add(code, 1, 1, 1, 0)
}

#[test]
fn a_helper_behind_a_branch_that_is_never_taken_is_not_needed() {
    const BYTE: u8 = 0x71;
    // How r1 is looked at, and for which values of a byte the helper is reached.
    type Jump = fn(Asm) -> Asm;
    type Reaches = fn(u8) -> bool;
    let jumps: [(Jump, Reaches); 9] = [
        // if r1 == 0 goto
        (|asm| asm.add(0x15, 1, 0, 1, 0), |byte| byte != 0),
        // if w1 != 1 goto
        (|asm| asm.add(0x56, 1, 0, 1, 1), |byte| byte == 1),
        // w1 &= 2; if w1 == 0 goto
        (|asm| asm.add(0x54, 1, 0, 0, 2).add(0x16, 1, 0, 1, 0), |byte| byte & 2 != 0),
        // r2 = r1; r2 <<= 56; r2 s>>= 56; if r2 s> -1 goto: of the shift nothing is known.
        (
            |asm| {
                asm.copy(2, 1).add(0x67, 2, 0, 0, 56).add(0xc7, 2, 0, 0, 56).add(0x65, 2, 0, 1, -1)
            },
            |_| true,
        ),
        // r2 = 3; if r2 > r1 goto
        (|asm| asm.mov(2, 3).add(0x2d, 2, 1, 1, 0), |byte| byte >= 3),
        // r1 -= 4; if r1 s< 0 goto, if r1 < 250 goto
        (|asm| asm.add_imm(1, -4).add(0xc5, 1, 0, 1, 0), |byte| byte >= 4),
        (
            |asm| asm.add_imm(1, -4).add(0xa5, 1, 0, 1, 250),
            |byte| byte < 4 || byte == 254 || byte == 255,
        ),
        // if r1 & 4 goto
        (|asm| asm.add(0x45, 1, 0, 1, 4), |byte| byte & 4 == 0),
        // A call may change it.
        (|asm| asm.helper(5).add(0x15, 1, 0, 1, 0), |_| true),
    ];
    for (number, (jump, reaches)) in jumps.into_iter().enumerate() {
        for byte in [0, 1, 2, 3, 4, 5, 6, 253, 254] {
            let program = jump(load(BYTE, 3)).helper(ABSENT).mov(0, 0).exit();
            let with = |map| image_with(&[("enqueue", program.clone())], &[], vec![map]);
            let lacks = missing(with(rodata(&[9, 9, 9, byte], true)));
            let named: &[_] = if reaches(byte) { &["bpf_bind() (called by enqueue)"] } else { &[] };
            assert_eq!(lacks, named, "jump {number}, {byte}");
            // What can be written may be anything.
            assert_eq!(missing(with(rodata(&[9, 9, 9, byte], false))).len(), 1, "jump {number}");
        }
    }
    // What is behind the bytes that it starts with is 0, and what is behind its end is not known.
    for (code, offset, lacks) in [(0x79, 8, 0), (0x91, 15, 0), (0x79, 9, 1), (BYTE, 16, 1)] {
        let program = load(code, offset).add(0x15, 1, 0, 1, 0).helper(ABSENT).mov(0, 0).exit();
        let image = image_with(&[("enqueue", program)], &[], vec![rodata(&[1; 8], true)]);
        assert_eq!(missing(image).len(), lacks, "{code:#x} at {offset}");
    }
}

#[test]
fn paths_that_meet_know_what_all_of_them_know() {
    // A loop: r6 is 0 the first time only.
    let again = Asm::new()
        .mov(6, 0)
        .add(0x15, 6, 0, 1, 0)
        .helper(ABSENT)
        .add_imm(6, 1)
        .helper(5)
        .add(0x15, 0, 0, -5, 0)
        .mov(0, 0)
        .exit();
    assert_eq!(missing(image(&[("enqueue", again)])).len(), 1);
    // Both ways r6 is 0.
    let both = Asm::new()
        .helper(5)
        .mov(6, 0)
        .add(0x15, 0, 0, 1, 0)
        .mov(7, 1)
        .add(0x15, 6, 0, 1, 0)
        .helper(ABSENT)
        .mov(0, 0)
        .exit();
    assert_eq!(missing(image(&[("enqueue", both)])), [""; 0]);
}

#[test]
fn what_is_called_back_is_reached_where_its_address_is_taken() {
    let named = ["bpf_bind() (called by callback)"];
    for (jump, lacks) in [(0x15, &named[..]), (0x55, &[])] {
        let program =
            Asm::new().mov(6, 1).add(jump, 6, 0, 2, 0).func(2, "callback").mov(0, 0).exit();
        let callback = Asm::new().helper(ABSENT).exit();
        let image = image_with(&[("enqueue", program)], &[("callback", callback)], Vec::new());
        assert_eq!(missing(image), lacks);
    }
}

#[test]
fn of_many_that_are_missing_some_are_named() {
    let program = (0..150).fold(Asm::new(), |asm, number| asm.helper(1000 + number));
    let missing = missing(image(&[("enqueue", program.mov(0, 0).exit())]));
    assert_eq!(missing.len(), 101);
    assert_eq!(missing[0], "helper 1000 (called by enqueue)");
    assert_eq!(missing[100], "and 50 more functions");
}

#[test]
fn any_function_of_the_kernel_has_an_address() {
    let with = |name: &str, function| {
        let program =
            Asm::new().add(0x18, 1, pseudo::KSYM, 0, 0).add(0, 0, 0, 0, 0).mov(0, 0).exit();
        let mut image = image(&[("enqueue", program)]);
        image.ksyms.push(Ksym { name: name.into(), function, ..Ksym::default() });
        missing(image)
    };
    assert_eq!(with("scx_bpf_dsq_peek", false), [""; 0]);
    assert_eq!(with("scx_bpf_dsq_peek", true), [""; 0]);
    // It is there, and no kfunc.
    assert_eq!(with("do_task_dead", false), [""; 0]);
    assert_eq!(with("do_task_dead", true), ["kernel variable do_task_dead"]);
    assert_eq!(with("no_such_function", false), ["kernel variable no_such_function"]);
}
