//! Any instructions at all.

use proptest::prelude::*;
use scxlab_bpf::Insn;
use scxlab_bpf::machine::trial::{FUEL, Trial, trial};
use scxlab_bpf::machine::{NoKernel, Stop};

use super::build::*;

/// Operations that decode, with fields that often do.
fn likely() -> impl Strategy<Value = Vec<u8>> {
    let code = proptest::sample::select(codes());
    let one = (code, 0..11_u8, 0..11_u8, -12..12_i16, any::<i32>(), 0..6_u8).prop_map(
        |(code, dst, src, off, imm, small)| {
            let (x, class) = (code & X != 0, code & 7);
            let imm = if small < 3 { imm } else { imm % 16 };
            let insn = match class {
                LD if code == 0x18 => {
                    let kind = [0, 0, 1, 2, 4, 0][usize::from(small)];
                    return pseudo(dst % 10, kind, if kind == 0 { imm } else { imm % 2 }, 0)
                        .to_vec();
                }
                ALU | ALU64 => {
                    let cast = code == ALU64 | 0xb0 | X && small == 0;
                    let signed = matches!(code & 0xf0, 0x30 | 0x90) && small == 1;
                    let imm = match code & 0xf0 {
                        0x80 => 0,
                        0xd0 => [16, 32, 64][usize::from(small % 3)],
                        _ if cast => [1, 1 << 16][usize::from(dst % 2)],
                        _ if x => 0,
                        _ => imm,
                    };
                    let src = if x && code & 0xf0 != 0xd0 { src } else { 0 };
                    insn(code, dst % 10, src, i16::from(cast || signed), imm)
                }
                JMP if code == 0x85 => {
                    insn(code, 0, small % 3, 0, if small % 3 == 2 { 0 } else { imm })
                }
                JMP if code == 0x95 => EXIT,
                JMP if code == 0xe5 || code == 0x05 => insn(code, 0, 0, off, 0),
                JMP if code == 0x0d => insn(code, dst, 0, 0, 0),
                JMP32 if code == 0x06 => insn(code, 0, 0, off, 0),
                JMP | JMP32 if x => insn(code, dst, src, off, 0),
                JMP | JMP32 => insn(code, dst, 0, off, imm),
                STX if code & 0xe0 == ATOMIC => {
                    let what = [0, 1, 0x41, 0xe1, 0xf1, 0x100][usize::from(small)];
                    insn(code, dst % 10, src % 10, off * 8, what)
                }
                // Mostly in the frame, or in the map's value.
                _ => {
                    let (base, off) = match small {
                        0..3 => (10, off.abs() * -8 - 8),
                        3..5 => (1, off.abs() * 8),
                        _ => (src, off),
                    };
                    match class {
                        LDX => insn(code, dst % 10, base, off, 0),
                        ST => insn(code, base, 0, off, imm),
                        _ => insn(code, base, src, off, 0),
                    }
                }
            };
            // r1 is to stay what it is.
            let writes = matches!(class, ALU | ALU64 | LDX) && insn.dst == 1;
            vec![Insn { dst: if writes { 2 } else { insn.dst }, ..insn }]
        },
    );
    proptest::collection::vec(one, 1..40).prop_map(|parts| {
        let mut insns = parts.concat();
        insns.push(EXIT);
        aim(&mut insns);
        let bytes = |insn: &Insn| {
            let mut bytes = vec![insn.code, insn.dst | insn.src << 4];
            bytes.extend(insn.off.to_le_bytes());
            bytes.extend(insn.imm.to_le_bytes());
            bytes
        };
        insns.iter().flat_map(bytes).collect()
    })
}

/// Lets jumps end in their function and calls at functions, which are cut at each exit.
fn aim(insns: &mut [Insn]) {
    let starts: Vec<usize> =
        (0..insns.len()).filter(|i| *i == 0 || insns[i - 1].code == EXIT.code).collect();
    for at in 0..insns.len() {
        let Insn { code, src, off, imm, .. } = insns[at];
        let start = *starts.iter().rfind(|start| **start <= at).expect("the first is 0");
        let len = insns[start..].iter().position(|insn| insn.code == EXIT.code);
        let len = len.expect("the last is an exit") + 1;
        let by = |to: usize| to as i64 - at as i64 - 1;
        if code == 0x85 && src == 1 || code == 0x18 && src == 4 {
            insns[at].imm = by(starts[imm.unsigned_abs() as usize % starts.len()]) as i32;
        } else if matches!(code & 7, JMP | JMP32) && !matches!(code, 0x85 | 0x95 | 0x0d) {
            let mut to = start + off.unsigned_abs() as usize % len;
            // Not into a load.
            if insns[to].code == 0 {
                to += 1;
            }
            match code {
                0x06 => insns[at].imm = by(to) as i32,
                _ => insns[at].off = by(to) as i16,
            }
        }
    }
}

/// All operations that there are; what moves memory, more often.
fn codes() -> Vec<u8> {
    let mut codes = vec![0x18, 0x18, 0x18, 0x85, 0x95, 0xe5, 0x05, 0x06, 0x0d];
    for op in (0x00..=0xd0).step_by(0x10) {
        for class in [ALU, ALU64] {
            codes.push(class | op);
            if op != 0x80 && (class, op) != (ALU64, 0xd0) {
                codes.push(class | op | X);
            }
        }
        if !matches!(op, 0x00 | 0x80 | 0x90) {
            codes.extend([JMP | op, JMP | op | X, JMP32 | op, JMP32 | op | X]);
        }
    }
    for size in [B, H, W, DW] {
        for _ in 0..4 {
            codes.extend([LDX | MEM | size, ST | MEM | size, STX | MEM | size]);
        }
        if size != DW {
            codes.push(LDX | MEMSX | size);
        }
    }
    codes.extend([STX | ATOMIC | W, STX | ATOMIC | DW]);
    codes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn any_bytes_are_refused_or_run(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        trial(&bytes);
    }

    #[test]
    fn likely_programs_run(bytes in likely()) {
        trial(&bytes);
    }

    #[test]
    fn it_does_not_matter_where_a_program_is_stopped(bytes in likely(), step in 1..9_u64) {
        let Some(whole) = Trial::new(&bytes) else { return Ok(()) };
        let mut parts = whole.clone();
        let mut whole = whole;
        let end = whole.run(FUEL, &mut NoKernel);
        let mut left = FUEL;
        let stop = loop {
            let now = step.min(left);
            left -= now;
            let stop = parts.run(now, &mut NoKernel);
            if stop != Stop::OutOfFuel || left == 0 {
                break stop;
            }
        };
        prop_assert_eq!(stop, end);
        prop_assert_eq!(parts.thread(), whole.thread());
        prop_assert_eq!(parts.values(), whole.values());
    }

    #[test]
    fn a_clone_goes_on_as_the_original(bytes in likely(), first in 0..30_u64) {
        let Some(mut original) = Trial::new(&bytes) else { return Ok(()) };
        original.run(first, &mut NoKernel);
        let mut clone = original.clone();
        let end = original.run(FUEL, &mut NoKernel);
        prop_assert_eq!(clone.run(FUEL, &mut NoKernel), end);
        prop_assert_eq!(clone.thread(), original.thread());
        prop_assert_eq!(clone.values(), original.values());
    }
}

#[test]
fn likely_programs_are_mostly_programs() {
    // Else the tests above would show nothing.
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut taken, mut ended, mut stores) = (0, 0, 0);
    for _ in 0..2_000 {
        let bytes = likely().new_tree(&mut runner).expect("there is one").current();
        let Some(mut trial) = Trial::new(&bytes) else { continue };
        taken += 1;
        ended += usize::from(matches!(trial.run(FUEL, &mut NoKernel), Stop::Exit(_)));
        stores += usize::from(trial.values().iter().any(|byte| *byte != 0));
    }
    assert!(
        taken > 1_500 && ended > 300 && stores > 250,
        "{taken} taken, {ended} ended, {stores} stored"
    );
}
