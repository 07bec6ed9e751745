//! Arithmetic.

use proptest::prelude::*;
use scxlab_bpf::Insn;
use scxlab_bpf::machine::{Binding, Memory, NoKernel, Stop};

use super::build::*;
use super::naive::{self, EDGES};

/// All arithmetic instructions: r1 with r2, or with an immediate.
fn all(imm: i32) -> Vec<Insn> {
    let mut all = Vec::new();
    for class in [ALU, ALU64] {
        for op in [0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x90, 0xa0, 0xb0, 0xc0] {
            all.push(insn(class | op | X, 1, 2, 0, 0));
            all.push(insn(class | op, 1, 0, 0, imm));
            if op == 0x30 || op == 0x90 {
                all.push(insn(class | op | X, 1, 2, 1, 0));
                all.push(insn(class | op, 1, 0, 1, imm));
            }
        }
        all.push(insn(class | 0x80, 1, 0, 0, 0));
        for bits in [16, 32, 64] {
            all.push(insn(class | 0xd0, 1, 0, 0, bits));
            if class == ALU {
                all.push(insn(class | 0xd0 | X, 1, 0, 0, bits));
            }
        }
        for bits in [8, 16, 32] {
            if class == ALU64 || bits < 32 {
                all.push(insn(class | 0xb0 | X, 1, 2, bits, 0));
            }
        }
    }
    all
}

#[test]
fn every_instruction_at_the_edges() {
    let mut checked = 0;
    for a in EDGES {
        for b in EDGES {
            // One program for all of them, each result in memory of its own.
            let insns = all(b as i32);
            let mut program = vec![movx(9, 1)];
            for (i, insn) in insns.iter().enumerate() {
                program.extend(imm64(1, a));
                program.extend(imm64(2, b));
                program.extend([*insn, stx(DW, 9, 8 * i as i16, 1)]);
            }
            program.push(EXIT);
            let mut memory = Memory::new(1 << 20);
            let results = memory
                .alloc_zeroed(scxlab_bpf::machine::Region::new("results"), 8 * insns.len() as u64)
                .expect("there is room");
            let mut machine = Machine::of(&image(&[&program]), &Binding::default(), memory);
            machine.thread.abort(&mut machine.memory);
            let args = [results.base(), 0, 0, 0, 0];
            machine.thread.start(&mut machine.memory, &machine.code, 0, args).expect("it is idle");
            machine.exit();
            let bytes = machine.read(results.base(), 8 * insns.len());
            for (insn, bytes) in insns.iter().zip(bytes.as_chunks().0) {
                let result = u64::from_le_bytes(*bytes);
                assert_eq!(result, naive::alu(*insn, a, b), "{insn:x?} of {a:#x}, {b:#x}");
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 22 * 22 * 72);
}

#[test]
fn what_the_kernel_documents() {
    let div = |class, signed| insn(class | 0x30 | X, 1, 2, signed, 0);
    let rem = |class, signed| insn(class | 0x90 | X, 1, 2, signed, 0);
    let of = |insn: Insn, a: u64, b: u64| result(&[insn, movx(0, 1)], a, b);
    let (min32, min64) = (0x8000_0000, i64::MIN as u64);
    for signed in [0, 1] {
        assert_eq!(of(div(ALU64, signed), 5, 0), 0);
        assert_eq!(of(div(ALU, signed), 0x1_0000_0005, 0x5_0000_0000), 0);
        assert_eq!(of(rem(ALU64, signed), u64::MAX, 0), u64::MAX);
        assert_eq!(of(rem(ALU, signed), u64::MAX, 0), 0xffff_ffff, "cut to 32 bits");
    }
    assert_eq!(of(div(ALU64, 1), min64, u64::MAX), min64);
    assert_eq!(of(rem(ALU64, 1), min64, u64::MAX), 0);
    assert_eq!(of(div(ALU, 1), min32, u64::MAX), min32);
    assert_eq!(of(rem(ALU, 1), min32, u64::MAX), 0);
    // An immediate is signed, even where the operation is not.
    assert_eq!(of(insn(ALU64 | 0x30, 1, 0, 0, -1), u64::MAX, 0), 1);
    assert_eq!(of(insn(ALU64 | 0x60 | X, 1, 2, 0, 0), 1, 65), 2, "shifts are masked");
    assert_eq!(of(insn(ALU | 0xc0 | X, 1, 2, 0, 0), min32, 33), 0xc000_0000);
}

/// Arithmetic and jumps forward, in registers r0 to r9.
fn program() -> impl Strategy<Value = Vec<Insn>> {
    let value = prop_oneof![any::<u64>(), proptest::sample::select(&EDGES[..])];
    let alu = (0..72_usize, any::<i32>(), 0..10_u8, 0..10_u8).prop_map(|(which, imm, dst, src)| {
        let insn = all(imm)[which];
        let src = if insn.src != 0 { src } else { 0 };
        vec![Insn { dst, src, ..insn }]
    });
    let op = proptest::sample::select(vec![1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13]);
    let jump = (op, any::<bool>(), any::<bool>(), 0..10_u8, 0..10_u8, any::<i32>(), 0..4_i16)
        .prop_map(|(op, wide, x, dst, src, imm, off)| {
            let class = if wide { JMP } else { JMP32 };
            vec![match x {
                true => insn(class | op << 4 | X, dst, src, off, 0),
                false => insn(class | op << 4, dst, 0, off, imm),
            }]
        });
    let load = (0..10_u8, value).prop_map(|(dst, value)| imm64(dst, value).to_vec());
    let one = prop_oneof![6 => alu, 2 => jump, 1 => load];
    proptest::collection::vec(one, 1..60).prop_map(|parts| {
        let mut program = parts.concat();
        // A jump may not end in the middle of a load or beyond the end.
        let starts: Vec<bool> = program.iter().map(|insn| insn.code != 0).collect();
        for (at, insn) in program.iter_mut().enumerate() {
            if matches!(insn.code & 7, JMP | JMP32) {
                let to = at + 1 + insn.off as usize;
                if to > starts.len() || starts.get(to) == Some(&false) {
                    insn.off = 0;
                }
            }
        }
        program
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn as_the_naive_evaluation(program in program(), r1 in any::<u64>()) {
        let mut insns = imm64(1, r1).to_vec();
        insns.extend_from_slice(&program);
        let end = insns.len();
        insns.push(EXIT);
        let mut machine = Machine::new(&[&insns]);
        // Up to the exit, which gives registers back.
        while machine.thread.at() != Some(end) {
            prop_assert_eq!(machine.run_for(1, &mut NoKernel), Stop::OutOfFuel);
        }
        let mut regs = [0; 10];
        regs[1] = r1;
        let expected = naive::evaluate(&program, regs);
        prop_assert_eq!(&machine.thread.registers()[..10], &expected[..]);
        prop_assert_eq!(machine.exit(), expected[0]);
    }
}
