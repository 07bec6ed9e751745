//! Which instructions of a program the verifier looks at: not those behind a jump whose outcome it
//! knows, because a constant of the object's or the address of something in the kernel decides it.
//!
//! It knows less than a kernel's verifier does of values, so it may take for reachable what is not;
//! never the other way round.

use std::collections::{BTreeMap, BTreeSet};

use crate::insn::{class, mode, pseudo};
use crate::{Image, Insn};

/// What is known of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Unknown,
    Number(u64),
    /// An address that is not 0.
    Address,
    /// The address of a byte of a map that nobody writes.
    Constant(usize, u64),
}

use Value::{Address, Constant, Number, Unknown};

type Registers = [Value; 11];

/// The calls of kernel functions that a program reaches: their names, each once, in order.
pub(super) fn kfuncs(image: &Image, program: usize) -> BTreeSet<&str> {
    let mut called = BTreeSet::new();
    let mut seen = BTreeSet::from([program]);
    let mut open = vec![program];
    while let Some(function) = open.pop() {
        let Some(body) = image.functions.get(function) else { continue };
        for at in instructions(image, body.start, body.start + body.len) {
            let insn = image.insns[at];
            match (insn.code, insn.src) {
                (Insn::CALL, pseudo::KFUNC) => {
                    let kfunc = image.kfuncs.get(insn.imm as u32 as usize);
                    called.extend(kfunc.map(|kfunc| kfunc.name.as_str()));
                }
                (Insn::CALL, pseudo::CALL) | (Insn::LOAD_WIDE, pseudo::FUNC) => {
                    let to = at as i64 + 1 + i64::from(insn.imm);
                    let found = image.functions.iter().position(|f| f.start as i64 == to);
                    open.extend(found.filter(|&to| seen.insert(to)));
                }
                _ => {}
            }
        }
    }
    called
}

/// Those of a function that are reached.
fn instructions(image: &Image, start: usize, end: usize) -> Vec<usize> {
    let end = end.min(image.insns.len());
    let mut states: BTreeMap<usize, Registers> = BTreeMap::from([(start, [Unknown; 11])]);
    let mut open = vec![start];
    while let Some(at) = open.pop() {
        let (Some(&insn), Some(&before)) = (image.insns.get(at), states.get(&at)) else { continue };
        let mut after = before;
        let next = step(image, at, insn, &mut after);
        let Some(next) = next else {
            // Where it goes is in a table: anywhere.
            return (start..end).collect();
        };
        for to in next.into_iter().flatten() {
            let Some(to) = usize::try_from(to).ok().filter(|to| (start..end).contains(to)) else {
                continue;
            };
            // A register can only lose what is known of it, so this comes to an end.
            let known = states.get(&to).copied();
            let merged = known.map_or(after, |known| merge(known, after));
            if known != Some(merged) {
                states.insert(to, merged);
                open.push(to);
            }
        }
    }
    states.into_keys().collect()
}

fn merge(a: Registers, b: Registers) -> Registers {
    std::array::from_fn(|i| if a[i] == b[i] { a[i] } else { Unknown })
}

/// What an instruction does to the registers, and where it goes; nothing if that is not known.
fn step(image: &Image, at: usize, insn: Insn, regs: &mut Registers) -> Option<[Option<i64>; 2]> {
    let next = at as i64 + 1;
    let (dst, src) = (usize::from(insn.dst), usize::from(insn.src));
    let set = |regs: &mut Registers, value| {
        if let Some(reg) = regs.get_mut(dst) {
            *reg = value;
        }
    };
    let known = |regs: &Registers, reg: usize| regs.get(reg).copied().unwrap_or(Unknown);
    match insn.class() {
        class::LD if insn.is_wide() => {
            let high = image.insns.get(at + 1).map_or(0, |insn| insn.imm);
            let value = match insn.src {
                0 => Number(u64::from(insn.imm as u32) | u64::from(high as u32) << 32),
                pseudo::MAP_VALUE => {
                    let map = insn.imm as u32 as usize;
                    let read_only = image.maps.get(map).is_some_and(|map| map.read_only);
                    if read_only { Constant(map, u64::from(high as u32)) } else { Address }
                }
                _ => Address,
            };
            set(regs, value);
            return Some([Some(next + 1), None]);
        }
        class::LDX => {
            let value = match (insn.mode(), known(regs, src)) {
                (mode::MEM, Constant(map, offset)) => {
                    constant(image, map, offset.wrapping_add(i64::from(insn.off) as u64), insn)
                }
                _ => Unknown,
            };
            set(regs, value);
        }
        class::STX if insn.mode() == mode::ATOMIC => {
            for reg in [0, dst, src] {
                if let Some(reg) = regs.get_mut(reg) {
                    *reg = Unknown;
                }
            }
        }
        class::ALU | class::ALU64 => {
            let operand = match insn.code & Insn::REGISTER {
                0 => Number(i64::from(insn.imm) as u64),
                _ => known(regs, src),
            };
            let value = arithmetic(insn, known(regs, dst), operand);
            set(regs, value);
        }
        class::JMP | class::JMP32 => return jump(insn, next, regs),
        _ => {}
    }
    Some([Some(next), None])
}

/// A number out of a map's value.
fn constant(image: &Image, map: usize, offset: u64, insn: Insn) -> Value {
    let Some(map) = image.maps.get(map) else { return Unknown };
    let size = u64::from(insn.access_size());
    match offset.checked_add(size) {
        Some(end) if end <= u64::from(map.value_size) => {}
        _ => return Unknown,
    }
    let byte = |i: u64| map.initial.get((offset + i) as usize).copied().unwrap_or(0);
    Number((0..size).fold(0, |number, i| number | u64::from(byte(i)) << (8 * i)))
}

/// What arithmetic gives, as far as compilers do it to a flag before they test it.
fn arithmetic(insn: Insn, left: Value, right: Value) -> Value {
    const ADD: u8 = 0x00;
    const AND: u8 = 0x50;
    const MOV: u8 = 0xb0;
    let wide = insn.class() == class::ALU64;
    let value = match (insn.code & 0xf0, left, right) {
        // With an offset it extends a sign, or is of another address space.
        (MOV, _, value) if insn.off == 0 && (wide || matches!(value, Number(_))) => value,
        (AND, Number(left), Number(right)) => Number(left & right),
        (ADD, Number(left), Number(right)) => Number(left.wrapping_add(right)),
        (ADD, Constant(map, offset), Number(more)) if wide => {
            Constant(map, offset.wrapping_add(more))
        }
        _ => Unknown,
    };
    match value {
        Number(number) if !wide => Number(u64::from(number as u32)),
        value => value,
    }
}

/// Where a jump goes, a call and an exit among them.
fn jump(insn: Insn, next: i64, regs: &mut Registers) -> Option<[Option<i64>; 2]> {
    const JA: u8 = 0x00;
    const CALL: u8 = 0x80;
    const EXIT: u8 = 0x90;
    let wide = insn.class() == class::JMP;
    let to = next + i64::from(insn.off);
    match insn.code & 0xf0 {
        JA if insn.code & Insn::REGISTER != 0 => return None,
        JA if wide => return Some([Some(to), None]),
        JA => return Some([Some(next + i64::from(insn.imm)), None]),
        CALL if wide => {
            regs[..6].fill(Unknown);
            return Some([Some(next), None]);
        }
        EXIT if wide => return Some([None, None]),
        _ => {}
    }
    let known = |reg: u8| regs.get(usize::from(reg)).copied().unwrap_or(Unknown);
    let right = match insn.code & Insn::REGISTER {
        0 => Number(i64::from(insn.imm) as u64),
        _ => known(insn.src),
    };
    Some(match taken(insn.code & 0xf0, wide, known(insn.dst), right) {
        Some(true) => [Some(to), None],
        Some(false) => [Some(next), None],
        None => [Some(next), Some(to)],
    })
}

/// Whether a comparison holds, if that is known.
fn taken(op: u8, wide: bool, left: Value, right: Value) -> Option<bool> {
    let (left, right) = match (left, right) {
        (Number(left), Number(right)) => (left, right),
        (Address | Constant(..), Number(0)) if wide => (1, 0),
        _ => return None,
    };
    let (left, right) =
        if wide { (left, right) } else { (left as u32 as u64, right as u32 as u64) };
    let signed = |n: u64| if wide { n as i64 } else { i64::from(n as u32 as i32) };
    Some(match op {
        0x10 => left == right,
        0x20 => left > right,
        0x30 => left >= right,
        0x40 => left & right != 0,
        0x50 => left != right,
        0x60 => signed(left) > signed(right),
        0x70 => signed(left) >= signed(right),
        0xa0 => left < right,
        0xb0 => left <= right,
        0xc0 => signed(left) < signed(right),
        0xd0 => signed(left) <= signed(right),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::kfuncs;
    use crate::image::{Function, Kfunc, Ksym, Map};
    use crate::{Image, Insn};

    fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
        Insn { code, dst, src, off, imm }
    }

    /// What is called of `yes` and `no`, where a jump over `no` is taken if r1 is not 0.
    fn called(load: &[Insn], initial: u8) -> Vec<String> {
        let mut insns = load.to_vec();
        insns.extend([
            insn(0x55, 1, 0, 1, 0),
            insn(0x85, 0, 2, 0, 0),
            insn(0x85, 0, 2, 0, 1),
            insn(0x95, 0, 0, 0, 0),
        ]);
        let kfunc = |name: &str| Kfunc { name: name.into(), ..Kfunc::default() };
        let constants =
            Map { value_size: 2, initial: vec![0, initial], read_only: true, ..Map::default() };
        let image = Image {
            functions: vec![Function { name: "f".into(), start: 0, len: insns.len() }],
            insns,
            kfuncs: vec![kfunc("no"), kfunc("yes")],
            ksyms: vec![Ksym::default()],
            maps: vec![constants, Map { value_size: 2, ..Map::default() }],
            ..Image::default()
        };
        kfuncs(&image, 0).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn what_a_constant_rules_out_is_not_reached() {
        let wide = |src, imm, high| [insn(0x18, 1, src, 0, imm), insn(0, 0, 0, 0, high)];
        let byte = |map| [&wide(2, map, 1)[..], &[insn(0x71, 1, 1, 0, 0)]].concat();
        // A function that is there; one that is not; a constant; a variable; an argument.
        assert_eq!(called(&wide(3, 0, 0), 0), ["yes"]);
        assert_eq!(called(&wide(0, 0, 0), 0), ["no", "yes"]);
        assert_eq!(called(&byte(0), 1), ["yes"]);
        assert_eq!(called(&byte(0), 0), ["no", "yes"]);
        assert_eq!(called(&byte(1), 1), ["no", "yes"]);
        assert_eq!(called(&[], 1), ["no", "yes"]);
        // Or what was done to it.
        let masked = [&byte(0)[..], &[insn(0x57, 1, 0, 0, 2)]].concat();
        assert_eq!(called(&masked, 1), ["no", "yes"]);
        assert_eq!(called(&masked, 2), ["yes"]);
    }

    /// What is known on one way there is not known where two ways meet.
    #[test]
    fn two_ways_that_meet() {
        let ways = [insn(0xb7, 1, 0, 0, 1), insn(0x15, 2, 0, 1, 0), insn(0xb7, 1, 0, 0, 0)];
        assert_eq!(called(&ways, 0), ["no", "yes"]);
        let same = [ways[0], ways[1], ways[0]];
        assert_eq!(called(&same, 0), ["yes"]);
    }
}
