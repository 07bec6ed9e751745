//! What must not be, and what is said of it.

use scxlab_bpf::machine::{Binding, Denied, Fault, Memory, NoKernel, Part, Region, Stop, What};

use super::build::*;

/// What is said of an access at an address, without where.
fn said(memory: &Memory, addr: u64, insn: scxlab_bpf::Insn) -> String {
    let mut all = imm64(1, addr).to_vec();
    all.extend([insn, EXIT]);
    let mut machine = Machine::of(&image(&[&all]), &Binding::default(), memory.clone());
    let regs = machine.thread.registers();
    let Stop::Fault(fault) = machine.run() else { panic!("no fault at {addr:#x}") };
    assert_eq!((fault.function.as_str(), fault.insn), ("f0", 2));
    assert_eq!(fault.line.as_ref().map(|line| line.line), Some(3));
    assert_eq!(fault.addr(), Some(addr));
    assert_eq!(machine.thread.registers()[2..], regs[2..], "the instruction did nothing");
    assert_eq!(machine.run(), Stop::Fault(fault.clone()), "it is there still");
    assert!(matches!(fault.what, What::Access { .. }));
    let text = fault.to_string();
    let (start, end) = (text.find(": ").expect("there is one") + 2, text.rfind(", in f0"));
    let start = if text.starts_with("use after free") {
        start + text[start..].find(": ").expect("there is one") + 2
    } else {
        start
    };
    text[start..end.expect("it says where")].to_owned()
}

#[test]
fn an_address_is_named() {
    let mut memory = Memory::new(1 << 20);
    let values = Region { part: Part::Values(24), ..Region::new("map `tasks`") };
    let tasks = memory.alloc_zeroed(values, 96).expect("there is room").base();
    let one = Region { part: Part::Value(17), ..Region::new("map `cpus`") };
    let cpu = memory.alloc_zeroed(one, 8).expect("there is room").base();
    let rodata = memory.alloc(Region::read_only("map `.rodata`"), vec![1; 8]).expect("room").base();
    let gone = memory.alloc_zeroed(Region::new("map `gone`"), 8).expect("there is room");
    memory.free(gone);
    let gone = gone.base();
    let other = memory.alloc_stack(Region::new("the stack of another")).expect("room").base();
    let load = ldx(DW, 0, 1, 0);
    let store = st(W, 1, 0, 0);

    for (addr, insn, text) in [
        (tasks + 92, load, "offset 20 of value 3 of map `tasks`, 24 bytes"),
        (tasks + 96, load, "right after the end of map `tasks`, 96 bytes"),
        (tasks + 97, store, "1 byte after the end of map `tasks`, 96 bytes"),
        (tasks - 4, load, "4 bytes before map `tasks`, 96 bytes"),
        (cpu + 4, load, "offset 4 of value 17 of map `cpus`, 8 bytes"),
        (rodata + 4, store, "offset 4 of map `.rodata`, 8 bytes, which is read-only"),
        (gone + 4, store, "offset 4 of map `gone`, 8 bytes, freed"),
        (gone + 40, load, "offset 40 of map `gone`, 8 bytes, freed"),
        (other + 504, load, "fp-8 in frame 0 of the stack of another"),
        (0, load, "a NULL pointer"),
        (0x1000, store, "4096 bytes from a NULL pointer"),
        (-12_i64 as u64, store, "the error -12 and no address"),
        (0x1000_0000_0000, load, "an address of user space"),
        (0xdead_0000_0000_0100, load, "no address of the kernel"),
        (0xff00_1234_0000_0000, load, "no memory is there or was"),
        (scxlab_bpf::machine::address::of_insn(0), load, "the code of the programs"),
    ] {
        assert_eq!(said(&memory, addr, insn), text, "{addr:#x}");
    }
    // No step to the side ends in another region.
    for addr in [tasks, cpu, rodata] {
        for off in [-0x8000_i16, -1, 96, 0x7fff] {
            let far = addr.wrapping_add(off as i64 as u64);
            said(&memory, far, load);
        }
    }
}

#[test]
fn a_whole_sentence() {
    let mut machine = Machine::new(&[&[ldx(B, 0, 1, 64), EXIT]]);
    let addr = machine.bytes.base() + 64;
    assert_eq!(
        machine.fault(),
        format!(
            "invalid read of 1 byte at {addr:#x}: right after the end of the bytes, 64 bytes, in \
             f0, instruction 0 (test.bpf.c:1:2: `line 1;`)"
        )
    );
    machine.memory.free(machine.bytes);
    assert_eq!(
        machine.fault(),
        format!(
            "use after free: invalid read of 1 byte at {addr:#x}: offset 64 of the bytes, 64 \
             bytes, freed, in f0, instruction 0 (test.bpf.c:1:2: `line 1;`)"
        )
    );
    // Without a line.
    let mut without = image(&[&[ldx(B, 0, 1, 64), EXIT]]);
    without.lines.clear();
    let mut machine = Machine::of(&without, &Binding::default(), Memory::new(1 << 20));
    assert!(machine.fault().ends_with(", in f0, instruction 0"));
}

#[test]
fn a_frame_cannot_be_left() {
    for (off, text) in [
        (-520, "fp-520 in the stack frame of f1"),
        (-513, "fp-513 in the stack frame of f1"),
        (-7, "fp-7 in the stack frame of f1"),
        (0, "fp+0 in the stack frame of f1"),
        (32_000, "fp+32000 in the stack frame of f1"),
        (-32_768, "fp-32768 in the stack frame of f1"),
    ] {
        for insn in
            [ldx(DW, 0, 10, off), stx(DW, 10, off, 0), insn(STX | ATOMIC | DW, 10, 0, off, 0)]
        {
            let mut machine = Machine::new(&[&[call(1), EXIT], &[insn, EXIT]]);
            let fault = machine.fault();
            assert!(fault.contains(&format!(": {text}, in f1, instruction 0")), "{fault}");
        }
    }
    // What a function leaves behind is gone.
    let leaks = [movx(0, 10), EXIT];
    let user = [call(2), ldx(DW, 0, 0, -8), EXIT];
    let fault = Machine::new(&[&user, &leaks]).fault();
    assert!(
        fault.contains(": fp-8 in a stack frame that is gone, in f0, instruction 1"),
        "{fault}"
    );
}

#[test]
fn a_call_of_the_kernel_can_be_one() {
    let mut machine = Machine::new(&[&[call(1), EXIT], &[call_kfunc(0), EXIT]]);
    machine.run();
    let Machine { thread, code, memory, bytes, .. } = &machine;
    assert_eq!(
        Fault::of_call(thread, code, "a() is not allowed here").to_string(),
        "a() is not allowed here, in f1, instruction 0 (test.bpf.c:3:2: `line 3;`), called by f0"
    );
    let addr = bytes.base() + 60;
    let denied = memory.read(&mut NoKernel, addr, &mut [0; 8]).expect_err("it is too long");
    assert_eq!(denied, Denied::Outside);
    let fault = Fault::of_access(thread, code, memory, (addr, 8, false), denied);
    assert_eq!(
        fault.to_string(),
        format!(
            "invalid read of 8 bytes at {addr:#x}: offset 60 of the bytes, 64 bytes, in f1, \
             instruction 0 (test.bpf.c:3:2: `line 3;`), called by f0"
        )
    );
}

#[test]
fn a_fault_can_be_mended() {
    let program = [add(2, 1), ldx(DW, 0, 1, 0), insn(ALU64 | X, 0, 2, 0, 0), EXIT];
    let mut memory = Memory::new(1 << 20);
    let large = memory.alloc_zeroed(Region::new("later"), 8).expect("there is room");
    memory.free(large);
    let mut machine = Machine::of(&image(&[&program]), &Binding::default(), memory);
    machine.thread.abort(&mut machine.memory);
    let args = [large.base(), 5, 0, 0, 0];
    machine.thread.start(&mut machine.memory, &machine.code, 0, args).expect("it is idle");
    let mut fuel = u64::MAX;
    let stop = scxlab_bpf::machine::run(
        &mut machine.thread,
        &machine.code,
        &mut machine.memory,
        &mut scxlab_bpf::machine::NoKernel,
        &mut fuel,
    );
    assert!(matches!(stop, Stop::Fault(_)));
    assert_eq!(fuel, u64::MAX - 1, "what faults takes no fuel");
    // The same number comes back after as many others.
    for _ in 0..scxlab_bpf::machine::QUARANTINE {
        let id = machine.memory.alloc_zeroed(Region::new("other"), 8).expect("there is room");
        machine.memory.free(id);
    }
    let again = machine.memory.alloc(Region::new("again"), vec![1; 8]).expect("there is room");
    assert_eq!(again, large);
    assert_eq!(machine.exit(), 0x0101_0101_0101_0101 + 6);
}
