//! The documented meaning of arithmetic and of conditions, a second time: slowly, in whole
//! numbers, with no thought of what a processor does.

use scxlab_bpf::Insn;

use super::build::*;

/// Values at the edges of their types.
pub const EDGES: [u64; 22] = [
    0,
    1,
    2,
    7,
    31,
    32,
    63,
    64,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1234_5678_9abc_def0,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX - 1,
    u64::MAX,
];

/// As an unsigned number of so many bits.
pub fn unsigned(value: u64, bits: u32) -> i128 {
    i128::from(value) & ((1 << bits) - 1)
}

/// As a signed number of so many bits.
pub fn signed(value: u64, bits: u32) -> i128 {
    let value = unsigned(value, bits);
    if value >= 1 << (bits - 1) { value - (1 << bits) } else { value }
}

fn bytes_swapped(value: i128, bits: u32) -> i128 {
    (0..bits / 8).fold(0, |sum, byte| sum * 256 + (value >> (8 * byte)) % 256)
}

/// What an arithmetic instruction leaves in its destination.
pub fn alu(insn: Insn, dst: u64, src: u64) -> u64 {
    let bits = if insn.code & 7 == ALU64 { 64 } else { 32 };
    let x = insn.code & X != 0;
    let operand = if x { src } else { i64::from(insn.imm) as u64 };
    let (a, b) = (unsigned(dst, bits), unsigned(operand, bits));
    let (sa, sb) = (signed(dst, bits), signed(operand, bits));
    let is_signed = insn.off == 1;
    let count = b % i128::from(bits);
    let result = match insn.code & 0xf0 {
        0x00 => a + b,
        0x10 => a - b,
        // The product of two numbers of 64 bits does not fit: halves of one of them do.
        0x20 => {
            let low = a * (b & 0xffff_ffff);
            let high = (a * (b >> 32)) & ((1 << 64) - 1);
            low + (high << 32)
        }
        0x30 if b == 0 => 0,
        0x30 if is_signed => sa / sb,
        0x30 => a / b,
        0x40 => a | b,
        0x50 => a & b,
        0x60 => (0..count).fold(a, |a, _| (a * 2) & ((1 << bits) - 1)),
        0x70 => a >> count,
        0x80 => -a,
        0x90 if b == 0 => a,
        0x90 if is_signed => sa - sb * (sa / sb),
        0x90 => a % b,
        0xa0 => a ^ b,
        0xb0 if insn.off != 0 => signed(src, insn.off as u32),
        0xb0 => b,
        0xc0 => sa.div_euclid(1 << count),
        0xd0 => {
            let width = insn.imm as u32;
            let value = unsigned(dst, width);
            let swapped = bytes_swapped(value, width);
            // Little endian is no change but that of the width.
            return if bits == 32 && !x { value } else { swapped } as u64;
        }
        other => panic!("{other:#x} is no arithmetic"),
    };
    result.rem_euclid(1 << bits) as u64
}

/// Whether a conditional jump is taken.
pub fn condition(insn: Insn, dst: u64, src: u64) -> bool {
    let bits = if insn.code & 7 == JMP { 64 } else { 32 };
    let operand = if insn.code & X != 0 { src } else { i64::from(insn.imm) as u64 };
    let (a, b) = (unsigned(dst, bits), unsigned(operand, bits));
    let (sa, sb) = (signed(dst, bits), signed(operand, bits));
    match insn.code & 0xf0 {
        0x10 => a == b,
        0x20 => a > b,
        0x30 => a >= b,
        0x40 => a & b != 0,
        0x50 => a != b,
        0x60 => sa > sb,
        0x70 => sa >= sb,
        0xa0 => a < b,
        0xb0 => a <= b,
        0xc0 => sa < sb,
        0xd0 => sa <= sb,
        other => panic!("{other:#x} is no condition"),
    }
}

/// Runs instructions without memory, calls and loops. Returns r0 to r9.
pub fn evaluate(insns: &[Insn], mut regs: [u64; 10]) -> [u64; 10] {
    let mut pc = 0;
    while pc < insns.len() {
        let insn = insns[pc];
        let (dst, src) = (regs[usize::from(insn.dst)], regs[usize::from(insn.src)]);
        pc += 1;
        match insn.code & 7 {
            LD => {
                let high = u64::from(insns[pc].imm as u32) << 32;
                regs[usize::from(insn.dst)] = u64::from(insn.imm as u32) + high;
                pc += 1;
            }
            ALU | ALU64 => regs[usize::from(insn.dst)] = alu(insn, dst, src),
            _ if condition(insn, dst, src) => pc += insn.off as usize,
            _ => {}
        }
    }
    regs
}

#[test]
fn it_knows_what_the_documentation_says() {
    // A few results that are written there, or follow from it directly.
    let div = insn(ALU64 | 0x30 | X, 1, 2, 0, 0);
    assert_eq!(alu(div, 7, 0), 0);
    assert_eq!(alu(Insn { off: 1, ..div }, -7_i64 as u64, 2), -3_i64 as u64);
    assert_eq!(alu(Insn { off: 1, ..div }, i64::MIN as u64, u64::MAX), i64::MIN as u64);
    let rem = insn(ALU | 0x90 | X, 1, 2, 1, 0);
    assert_eq!(alu(rem, 0xffff_fff3, 3), 0xffff_ffff, "-13 % 3 is -1");
    assert_eq!(alu(rem, 0x5_ffff_fff3, 0), 0xffff_fff3);
    assert_eq!(alu(insn(ALU | 0xd0 | X, 1, 0, 0, 16), 0x1234, 0), 0x3412);
    assert_eq!(alu(insn(ALU64 | 0x20 | X, 1, 2, 0, 0), u64::MAX, u64::MAX), 1);
}
