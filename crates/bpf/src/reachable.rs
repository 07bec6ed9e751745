//! Which instructions programs can reach, as far as read-only data and the addresses of what the
//! kernel has decide it. Schedulers put what not every kernel has behind a variable of `.rodata` or a
//! test of a weak symbol, and the verifier does not look at a branch that is never taken
//! (`is_branch_taken()`).
//!
//! It knows less than a kernel's verifier does of values, so it may take for reachable what is not;
//! never the other way round.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::Image;
use crate::image::MapType;
use crate::insn::{Insn, class, mode, pseudo};

/// Instructions of a function that is looked into.
const LARGE: usize = 1 << 16;

/// For each instruction, whether a program may reach it. What cannot be decided may be reached.
pub(crate) fn reachable(image: &Image) -> Vec<bool> {
    reachable_from(image, image.programs.iter().map(|program| program.function))
}

/// The kernel functions that a program may call: their names.
pub(crate) fn kfuncs(image: &Image, program: usize) -> BTreeSet<&str> {
    let reached = reachable_from(image, [program]);
    let calls =
        image.insns.iter().zip(reached).filter(|(insn, reached)| {
            *reached && (insn.code, insn.src) == (Insn::CALL, pseudo::KFUNC)
        });
    let kfunc = |(insn, _): (&Insn, _)| image.kfuncs.get(insn.imm as u32 as usize);
    calls.filter_map(kfunc).map(|kfunc| kfunc.name.as_str()).collect()
}

/// The same, for programs that begin with these functions.
fn reachable_from(image: &Image, programs: impl IntoIterator<Item = usize>) -> Vec<bool> {
    let functions = image.functions.iter().map(|function| (function.start, function.len));
    let mut walk = Walk {
        image,
        functions: functions.collect(),
        reached: vec![false; image.insns.len()],
        seen: BTreeSet::new(),
        open: Vec::new(),
    };
    for function in programs.into_iter().filter_map(|program| image.functions.get(program)) {
        walk.enter(function.start);
    }
    while let Some(start) = walk.open.pop() {
        walk.function(start);
    }
    walk.reached
}

/// What a register has in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Unknown,
    Number(u64),
    /// An address, which is not 0.
    Address,
    /// That of a byte of a map that nobody writes to.
    Frozen(usize, u64),
}

/// All registers, with room for what is refused when it is decoded.
type State = [Value; 16];

struct Walk<'a> {
    image: &'a Image,
    /// Functions by their first instruction, and how many they have.
    functions: BTreeMap<usize, usize>,
    reached: Vec<bool>,
    seen: BTreeSet<usize>,
    open: Vec<usize>,
}

impl Walk<'_> {
    /// A function that may be called.
    fn enter(&mut self, start: usize) {
        if self.functions.contains_key(&start) && self.seen.insert(start) {
            self.open.push(start);
        }
    }

    fn function(&mut self, start: usize) {
        let len = self.image.insns.len();
        let end = len.min(start.saturating_add(self.functions[&start]));
        if end.saturating_sub(start) > LARGE {
            return self.whole(start..end);
        }
        // Where paths meet, with what all of them have in the registers. Each can lose a register
        // only once, so that this ends.
        let mut meets: BTreeMap<usize, Option<State>> = BTreeMap::from([(start, None)]);
        for at in start..end {
            meets.extend(target(at, self.image.insns[at]).map(|to| (to, None)));
        }
        let mut open = vec![(start, [Value::Unknown; 16])];
        while let Some((mut at, mut state)) = open.pop() {
            while (start..end).contains(&at) {
                if let Some(known) = meets.get_mut(&at) {
                    let met = known.map_or(state, |known| meet(known, state));
                    if *known == Some(met) {
                        break;
                    }
                    *known = Some(met);
                    state = met;
                }
                self.reached[at] = true;
                let insn = self.image.insns[at];
                match self.step(at, insn, &mut state) {
                    Next::End => break,
                    Next::At(next) => at = next,
                    Next::Either(next, other) => {
                        open.push((other, state));
                        at = next;
                    }
                    Next::Anywhere => return self.whole(start..end),
                }
            }
        }
    }

    /// All of a function may be reached.
    fn whole(&mut self, all: Range<usize>) {
        for at in all {
            self.reached[at] = true;
            self.step(at, self.image.insns[at], &mut [Value::Unknown; 16]);
        }
    }

    fn step(&mut self, at: usize, insn: Insn, state: &mut State) -> Next {
        let (dst, src) = (usize::from(insn.dst), usize::from(insn.src));
        match insn.class() {
            class::LD if insn.is_wide() => {
                let next = self.image.insns.get(at + 1).map_or(0, |next| next.imm as u32);
                state[dst] = match insn.src {
                    0 => Value::Number(u64::from(insn.imm as u32) | u64::from(next) << 32),
                    pseudo::MAP_VALUE if self.is_frozen(insn.imm) => {
                        Value::Frozen(insn.imm as usize, next.into())
                    }
                    pseudo::FUNC => {
                        self.enter_at(at, insn.imm);
                        Value::Address
                    }
                    _ => Value::Address,
                };
                return Next::At(at + 2);
            }
            class::LD => *state = [Value::Unknown; 16],
            class::LDX => state[dst] = self.load(insn, state[src]),
            class::ST => {}
            // Atomics may answer in any of these.
            class::STX => {
                if insn.mode() == mode::ATOMIC {
                    for register in [dst, src, 0] {
                        state[register] = Value::Unknown;
                    }
                }
            }
            class::ALU | class::ALU64 => {
                let operand = match insn.code & Insn::REGISTER {
                    0 => Value::Number(i64::from(insn.imm) as u64),
                    _ => state[src],
                };
                state[dst] = arithmetic(insn, state[dst], operand);
            }
            _ => return self.jump(at, insn, state),
        }
        Next::At(at + 1)
    }

    fn jump(&mut self, at: usize, insn: Insn, state: &mut State) -> Next {
        let next = at + 1;
        let is_register = insn.code & Insn::REGISTER != 0;
        match insn.code & OPERATION {
            CALL => {
                if insn.src == pseudo::CALL {
                    self.enter_at(at, insn.imm);
                }
                state[..6].fill(Value::Unknown);
                Next::At(next)
            }
            EXIT => Next::End,
            JA if is_register => Next::Anywhere,
            JA => target(at, insn).map_or(Next::End, Next::At),
            operation => {
                let operand = match is_register {
                    true => state[usize::from(insn.src)],
                    false => Value::Number(i64::from(insn.imm) as u64),
                };
                let narrow = insn.class() == class::JMP32;
                let taken = match (state[usize::from(insn.dst)], operand) {
                    (Value::Number(left), Value::Number(right)) => {
                        is_taken(operation, left, right, narrow)
                    }
                    (Value::Address | Value::Frozen(..), Value::Number(0)) if !narrow => {
                        is_taken(operation, 1, 0, narrow)
                    }
                    _ => None,
                };
                match (taken, target(at, insn)) {
                    (Some(true), Some(to)) => Next::At(to),
                    (None, Some(to)) => Next::Either(next, to),
                    _ => Next::At(next),
                }
            }
        }
    }

    fn enter_at(&mut self, at: usize, by: i32) {
        if let Some(start) = (at + 1).checked_add_signed(by as isize) {
            self.enter(start);
        }
    }

    fn is_frozen(&self, map: i32) -> bool {
        let map = usize::try_from(map).ok().and_then(|map| self.image.maps.get(map));
        map.is_some_and(|map| {
            map.read_only && map.map_type == MapType::ARRAY && map.max_entries == 1
        })
    }

    fn load(&self, insn: Insn, from: Value) -> Value {
        let (Value::Frozen(map, offset), mode::MEM | mode::MEMSX) = (from, insn.mode()) else {
            return Value::Unknown;
        };
        let (map, size) = (&self.image.maps[map], u64::from(insn.access_size()));
        let start = offset.checked_add_signed(insn.off.into());
        let fits = |&start: &u64| start + size <= u64::from(map.value_size);
        let Some(start) = start.filter(fits) else { return Value::Unknown };
        // What is behind the bytes that it starts with is 0.
        let byte = |at| map.initial.get(at as usize).copied().unwrap_or_default();
        let value =
            (start..start + size).rev().fold(0, |value, at| value << 8 | u64::from(byte(at)));
        let unused = 64 - 8 * size as u32;
        Value::Number(match insn.mode() {
            mode::MEMSX => ((value << unused) as i64 >> unused) as u64,
            _ => value,
        })
    }
}

/// Where a path goes on.
enum Next {
    End,
    At(usize),
    Either(usize, usize),
    /// A jump through a table.
    Anywhere,
}

/// What an operation is, in the high four bits of a code.
const OPERATION: u8 = 0xf0;
const JA: u8 = 0x00;
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;

/// Where an instruction jumps to, if it does.
pub(crate) fn target(at: usize, insn: Insn) -> Option<usize> {
    let by = match (insn.class(), insn.code & OPERATION) {
        (class::JMP | class::JMP32, CALL | EXIT) => return None,
        (class::JMP32, JA) => insn.imm as isize,
        (class::JMP | class::JMP32, _) => insn.off.into(),
        _ => return None,
    };
    (at + 1).checked_add_signed(by)
}

/// What is known if either is.
fn meet(one: State, other: State) -> State {
    std::array::from_fn(|i| if one[i] == other[i] { one[i] } else { Value::Unknown })
}

fn arithmetic(insn: Insn, left: Value, right: Value) -> Value {
    const MOV: u8 = 0xb0;
    let narrow = insn.class() == class::ALU;
    let operation = insn.code & OPERATION;
    // With an offset they are other operations: casts, and those with a sign.
    if insn.off != 0 {
        return Value::Unknown;
    }
    if operation == MOV && !narrow {
        return right;
    }
    let (left, right) = match (left, right) {
        (Value::Number(left), Value::Number(right)) => (left, right),
        (_, Value::Number(right)) if operation == MOV => (0, right),
        _ => return Value::Unknown,
    };
    let bits = if narrow { 32 } else { 64 };
    let shift = (right % bits) as u32;
    let left = if narrow { u64::from(left as u32) } else { left };
    let value = match operation {
        0x00 => left.wrapping_add(right),
        0x10 => left.wrapping_sub(right),
        0x40 => left | right,
        0x50 => left & right,
        0x60 => left << shift,
        0x70 => left >> shift,
        0xa0 => left ^ right,
        MOV => right,
        _ => return Value::Unknown,
    };
    Value::Number(if narrow { u64::from(value as u32) } else { value })
}

/// Whether a jump is taken; nothing if it is none that compares.
fn is_taken(operation: u8, left: u64, right: u64, narrow: bool) -> Option<bool> {
    let (left, right, signed) = match narrow {
        true => {
            let (left, right) = (left as u32, right as u32);
            (left.into(), right.into(), (i64::from(left as i32), i64::from(right as i32)))
        }
        false => (left, right, (left as i64, right as i64)),
    };
    Some(match operation {
        0x10 => left == right,
        0x20 => left > right,
        0x30 => left >= right,
        0x40 => left & right != 0,
        0x50 => left != right,
        0x60 => signed.0 > signed.1,
        0x70 => signed.0 >= signed.1,
        0xa0 => left < right,
        0xb0 => left <= right,
        0xc0 => signed.0 < signed.1,
        0xd0 => signed.0 <= signed.1,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::kfuncs;
    use crate::image::{Function, Kfunc, Ksym, Map, MapType};
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
        let constants = Map {
            map_type: MapType::ARRAY,
            value_size: 2,
            max_entries: 1,
            initial: vec![0, initial],
            read_only: true,
            ..Map::default()
        };
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
