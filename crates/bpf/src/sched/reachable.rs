//! Which instructions programs can reach, as far as read-only data decide it. Schedulers put what
//! not every kernel has behind a variable of `.rodata`, and the verifier does not look at a branch
//! that is never taken (`is_branch_taken()`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::Image;
use crate::image::MapType;
use crate::insn::{Insn, class, mode, pseudo};

/// Instructions of a function that is looked into.
const LARGE: usize = 1 << 16;

/// For each instruction, whether a program may reach it. What cannot be decided may be reached.
pub(super) fn reachable(image: &Image) -> Vec<bool> {
    let functions = image.functions.iter().map(|function| (function.start, function.len));
    let mut walk = Walk {
        image,
        functions: functions.collect(),
        reached: vec![false; image.insns.len()],
        seen: BTreeSet::new(),
        open: Vec::new(),
    };
    for program in &image.programs {
        if let Some(function) = image.functions.get(program.function) {
            walk.enter(function.start);
        }
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
    /// The address of a byte of a map that nobody writes to.
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
                        Value::Unknown
                    }
                    _ => Value::Unknown,
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
                let taken = match (state[usize::from(insn.dst)], operand) {
                    (Value::Number(left), Value::Number(right)) => {
                        let narrow = insn.class() == class::JMP32;
                        is_taken(operation, left, right, narrow)
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
fn target(at: usize, insn: Insn) -> Option<usize> {
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
