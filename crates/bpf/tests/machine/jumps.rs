//! Jumps.

use scxlab_bpf::machine::{Binding, Code, MAY_GOTO_INSNS, Memory, NoKernel, Region, Stop};

use super::build::*;
use super::naive::{self, EDGES};

#[test]
fn every_condition_at_the_edges() {
    for op in [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xa0, 0xb0, 0xc0, 0xd0] {
        for (a, b) in EDGES.into_iter().flat_map(|a| EDGES.map(|b| (a, b))) {
            for class in [JMP, JMP32] {
                for jump in [insn(class | op | X, 1, 2, 1, 0), insn(class | op, 1, 0, 1, b as i32)]
                {
                    let taken = result(&[mov(0, 1), jump, mov(0, 0)], a, b) == 1;
                    assert_eq!(taken, naive::condition(jump, a, b), "{jump:x?} {a:#x} {b:#x}");
                }
            }
        }
    }
}

#[test]
fn unconditional_ones() {
    // Backwards, and over a 64-bit load.
    let over = |jump| {
        let load = imm64(0, 5);
        [&[mov(0, 1), jump][..], &load].concat()
    };
    assert_eq!(result(&over(insn(JMP, 0, 0, 2, 0)), 0, 0), 1);
    assert_eq!(result(&over(insn(JMP32, 0, 0, 0, 2)), 0, 0), 1, "gotol");
    let back = [insn(JMP, 0, 0, 2, 0), mov(0, 9), insn(JMP, 0, 0, 1, 0), insn(JMP32, 0, 0, 0, -3)];
    assert_eq!(result(&back, 0, 0), 9);
}

#[test]
fn may_goto_ends_a_loop() {
    // Counts in r0 for ever: three instructions a pass.
    let endless = [mov(0, 0), add(0, 1), insn(0xe5, 0, 0, 1, 0), insn(JMP, 0, 0, -3, 0), EXIT];
    let passes = MAY_GOTO_INSNS.div_ceil(3) + 1;
    assert_eq!(Machine::new(&[&endless]).exit(), passes);

    // Each frame has its own time, and each call a new one.
    let twice = [call(4), movx(6, 0), call(2), insn(ALU64 | X, 0, 6, 0, 0), EXIT];
    let mut machine = Machine::new(&[&twice, &endless]);
    assert_eq!(machine.exit(), 2 * passes);

    // So it does, wherever the machine stops in between.
    for step in [1, 7, 1000] {
        let mut machine = Machine::new(&[&endless]);
        let mut run = || machine.run_for(step, &mut NoKernel);
        let end = std::iter::repeat_with(&mut run).find(|stop| *stop != Stop::OutOfFuel);
        assert_eq!(end, Some(Stop::Exit(passes)), "{step}");
    }
}

/// r0 = a jump through the table by r1: 10, 20 or 30.
fn switch(entries: [usize; 3]) -> (scxlab_bpf::Image, Binding, Memory) {
    let [load, rest] = pseudo(2, 2, 0, 0);
    let insns = [
        insn(ALU64 | 0x60, 1, 0, 0, 3),
        load,
        rest,
        insn(ALU64 | X, 2, 1, 0, 0),
        ldx(DW, 1, 2, 0),
        insn(JMP | X, 1, 0, 0, 0),
        mov(0, 10),
        EXIT,
        mov(0, 20),
        EXIT,
        mov(0, 30),
        EXIT,
    ];
    let mut image = image(&[&insns, &[EXIT]]);
    let mut table = map(".jumptables", 34, 8, 3);
    table.entries = entries.map(Some).to_vec();
    let mut memory = Memory::new(1 << 20);
    let bytes = Code::jump_table(&table);
    let region = memory.alloc(Region::read_only("the jump table"), bytes).expect("there is room");
    image.maps.push(table);
    let mut binding = Binding::default();
    binding
        .maps
        .push(scxlab_bpf::machine::MapAddress { value: region.base(), ..Default::default() });
    (image, binding, memory)
}

#[test]
fn a_jump_table() {
    for (i, expected) in [10, 20, 30].into_iter().enumerate() {
        let (image, binding, memory) = switch([6, 8, 10]);
        let mut machine = Machine::of(&image, &binding, memory);
        machine.thread.abort(&mut machine.memory);
        let args = [i as u64, 0, 0, 0, 0];
        machine.thread.start(&mut machine.memory, &machine.code, 0, args).expect("it is idle");
        assert_eq!(machine.exit(), expected);
    }
}

#[test]
fn an_indirect_jump_goes_only_where_a_table_points() {
    // Into another function: an entry can be there, a jump from here cannot.
    let (image, binding, memory) = switch([12, 8, 10]);
    let mut machine = Machine::of(&image, &binding, memory);
    machine.thread.abort(&mut machine.memory);
    machine.thread.start(&mut machine.memory, &machine.code, 0, [0; 5]).expect("it is idle");
    assert_eq!(
        machine.fault(),
        "a jump to 0xff00000100000060, where no jump table points, in f0, instruction 5 \
         (test.bpf.c:6:2: `line 6;`)"
    );

    // To an instruction that no table has, and to none at all.
    for addr in [scxlab_bpf::machine::address::of_insn(0), 0x1234, 0] {
        let [a, b] = imm64(3, addr);
        let mut machine = Machine::new(&[&[a, b, insn(JMP | X, 3, 0, 0, 0)]]);
        assert!(matches!(machine.run(), Stop::Fault(_)));
    }

    // Entries that are no instruction, or the middle of one, are refused at once.
    for entry in [2, 13, usize::MAX] {
        let (image, binding, _) = switch([entry, 8, 10]);
        let error = Code::decode(&image, &binding).expect_err("it is refused").to_string();
        assert!(error.contains("entry 0 is no place in a function"), "{error}");
    }
}
