//! Programs that the verifier mostly accepts, from a seed.
//!
//! Registers hold numbers, and pointers only within a statement, so that nothing of a program's
//! result is an address. The numbers come from the context, so that the verifier does not know them.
//! At its end a program stores its registers and its frame into the context.

use scxlab_bpf::Insn;
use scxlab_bpf::image::Function;
use scxlab_protocol::{Bytes, TestData};

use super::code::*;

/// Bytes of the context: 8 numbers in, 9 registers and the frame out, and room for stores.
pub const CTX: usize = 64 + 72 + 64 + ROOM;
/// Bytes of the array's value.
pub const VALUE: usize = 128;
/// Bytes of the arena that are filled and compared.
pub const ARENA: usize = 128;
/// Where user space has the arena. The lower half is not zero: where it is, a pointer is NULL.
pub const ARENA_AT: u64 = 0x1000_0001_0000;

const REGISTERS_OUT: i16 = 64;
const FRAME_OUT: i16 = REGISTERS_OUT + 72;
const ROOM_AT: i16 = FRAME_OUT + 64;
const ROOM: usize = 32;
/// Bytes of a frame that are used as variables, and below them a key for lookups.
const FRAME: i16 = 64;
const KEY: i16 = -FRAME - 8;

const MAP: u8 = 1;
const MAP_VALUE: u8 = 2;
const LOOKUP: i32 = 1;

/// Chance, from a seed: SplitMix64 (Steele, Lea and Flood).
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// A number, often one at the edge of a type.
    fn number(&mut self) -> u64 {
        let any = self.next();
        match self.below(6) {
            0 => any,
            1 => any % 70,
            2 => (any % 70).wrapping_neg(),
            3 => any as u32 as i32 as u64,
            4 => 1 << (any % 64),
            _ => self.one_of(&[
                0,
                0x7f,
                0x80,
                0x7fff,
                0x8000,
                0x7fff_ffff,
                0x8000_0000,
                0xffff_ffff,
                0xffff_ffff_8000_0000,
                i64::MAX as u64,
                i64::MIN as u64,
                u64::MAX,
            ]),
        }
    }

    fn bytes(&mut self, len: usize) -> Bytes {
        Bytes((0..len / 8).flat_map(|_| self.number().to_le_bytes()).collect())
    }
}

/// A program, and what to run it with.
pub struct Trial {
    pub seed: u64,
    pub insns: Vec<Insn>,
    pub functions: Vec<Function>,
    pub inputs: Vec<TestData>,
}

impl Trial {
    /// The one of a seed, with so many inputs.
    pub fn new(seed: u64, inputs: usize) -> Self {
        let chance = &mut Chance(seed);
        let count = chance.below(3) as usize;
        let mut functions = Vec::new();
        let mut insns = Vec::new();
        for index in 0..=count {
            let start = insns.len();
            // A function calls later ones only.
            insns.extend(Writer::new(chance, index, count).function());
            let name = format!("f{index}");
            functions.push(Function { name, start, len: insns.len() - start });
        }
        for (at, insn) in insns.iter_mut().enumerate() {
            if insn.code == Insn::CALL && insn.src == 1 {
                insn.imm = functions[insn.imm as usize].start as i32 - at as i32 - 1;
            }
        }
        let data = |_| TestData {
            ctx: Bytes([chance.bytes(64).0, vec![0; CTX - 64]].concat()),
            value: chance.bytes(VALUE),
            arena: chance.bytes(ARENA),
        };
        Self { seed, insns, functions, inputs: (0..inputs).map(data).collect() }
    }
}

/// Where an access goes.
enum Place {
    Frame,
    Value,
    Arena,
    Context,
}

/// Writes one function. The first is the program, and has its context in r6.
struct Writer<'c> {
    chance: &'c mut Chance,
    index: usize,
    /// The last function.
    last: usize,
    /// Registers that hold numbers.
    numbers: Vec<u8>,
    /// Those among them that are not to change.
    kept: Vec<u8>,
    depth: usize,
    calls: usize,
}

impl<'c> Writer<'c> {
    fn new(chance: &'c mut Chance, index: usize, last: usize) -> Self {
        let mut numbers: Vec<u8> = (0..10).collect();
        if index == 0 {
            numbers.retain(|&r| r != 6);
        }
        Self { chance, index, last, numbers, kept: Vec::new(), depth: 0, calls: 0 }
    }

    fn function(mut self) -> Vec<Insn> {
        let mut insns = Vec::new();
        if self.index == 0 {
            insns.push(movx(6, 1));
            insns.extend(
                [0, 1, 2, 3, 4, 5, 7, 8].iter().zip(0..).map(|(&r, i)| ldx(DW, r, 6, 8 * i)),
            );
            insns.push(movx(9, 3));
        } else {
            insns.extend([6, 7, 8, 9].map(|r| movx(r, r - 5)));
            insns.push(mov(0, self.index as i32));
        }
        insns.extend((0..8).map(|cell| stx(DW, 10, 8 * cell - FRAME, self.numbers[cell as usize])));
        let statements =
            if self.index == 0 { 6 + self.chance.below(24) } else { 2 + self.chance.below(10) };
        insns.extend(self.block(statements));
        if self.index < self.last {
            // The verifier wants each function to be called.
            insns.extend(self.call(self.index + 1));
        }
        if self.index == 0 {
            let out =
                self.numbers.iter().zip(0..).map(|(&r, i)| stx(DW, 6, REGISTERS_OUT + 8 * i, r));
            insns.extend(out);
            for cell in 0..8 {
                insns.extend([
                    ldx(DW, 1, 10, 8 * cell - FRAME),
                    stx(DW, 6, FRAME_OUT + 8 * cell, 1),
                ]);
            }
        } else {
            // All that it has, in one number.
            let mix = [insn(ALU64 | 0x20, 0, 0, 0, 0x9e37_79b1_u32 as i32), addx(0, 1)];
            for r in 2..10 {
                insns.extend([movx(1, r), mix[0], mix[1]]);
            }
            for cell in 0..8 {
                insns.extend([ldx(DW, 1, 10, 8 * cell - FRAME), mix[0], mix[1]]);
            }
        }
        insns.push(EXIT);
        insns
    }

    fn block(&mut self, statements: u64) -> Vec<Insn> {
        (0..statements).flat_map(|_| self.statement()).collect()
    }

    fn statement(&mut self) -> Vec<Insn> {
        let nested = self.depth > 0;
        match self.chance.below(40) {
            0..14 => self.arithmetic(),
            14 => self.wide(),
            15..31 => self.access(),
            31..36 if self.depth < 2 => self.branch(),
            36 if !nested => self.bounded_loop(),
            37 if !nested => self.may_goto_loop(),
            38 if self.calls < 1 && self.index < self.last => {
                self.calls += 1;
                let others = (self.last - self.index) as u64;
                let callee = self.index + 1 + self.chance.below(others) as usize;
                self.call(callee)
            }
            39 => self.lookup(),
            _ => self.arithmetic(),
        }
    }

    fn any(&mut self) -> u8 {
        self.chance.one_of(&self.numbers)
    }

    /// A register that may change, other than these.
    fn free(&mut self, but: &[u8]) -> u8 {
        loop {
            let r = self.any();
            if !self.kept.contains(&r) && !but.contains(&r) {
                return r;
            }
        }
    }

    fn imm(&mut self) -> i32 {
        self.chance.number() as i32
    }

    fn arithmetic(&mut self) -> Vec<Insn> {
        let form = self.chance.one_of(&arithmetic());
        let op = form.code & 0xf0;
        let dst = self.free(&[]);
        if matches!(op, NEG | SWAP) {
            return vec![Insn { dst, ..form }];
        }
        if form.code & X != 0 {
            return vec![Insn { dst, src: self.any(), ..form }];
        }
        let imm = match op {
            // What the verifier refuses.
            DIV | MOD => Some(self.imm()).filter(|imm| *imm != 0).unwrap_or(-1),
            _ if SHIFTS.contains(&op) => {
                self.chance.below(if form.class() == ALU { 32 } else { 64 }) as i32
            }
            _ => self.imm(),
        };
        vec![Insn { dst, imm, ..form }]
    }

    fn wide(&mut self) -> Vec<Insn> {
        let value = self.chance.number();
        wide(self.free(&[]), 0, value as i32, (value >> 32) as i32).to_vec()
    }

    /// A load, store or atomic operation, somewhere.
    fn access(&mut self) -> Vec<Insn> {
        let place = match self.chance.below(16) {
            0..6 => Place::Frame,
            6..11 => Place::Value,
            11..15 => Place::Arena,
            _ if self.index == 0 => Place::Context,
            _ => Place::Frame,
        };
        let mut form = self.chance.one_of(&accesses());
        while matches!(place, Place::Arena) && !in_arena(form) {
            form = self.chance.one_of(&accesses());
        }
        let atomic = form.class() == STX && form.mode() == ATOMIC;
        let size = form.access_size() as i16;
        let mut insns = Vec::new();
        let data = if writes(form) { self.free(&[]) } else { self.any() };
        // Neither what is stored nor what cmpxchg compares may become an address.
        let pointer = self.free(&[data, 0]);
        let mut index = self.chance.one_in(3).then(|| self.any());
        if atomic && matches!(place, Place::Frame) {
            // The verifier wants to know where it is.
            index = None;
        }
        let cell = |chance: &mut Chance, len: i16, aligned: bool| match aligned {
            true => chance.below((len / size) as u64) as i16 * size,
            false => chance.below((len - size + 1) as u64) as i16,
        };
        let (base, off) = match place {
            Place::Context => {
                // A context has neither atomic operations nor loads that extend a sign.
                let form = if atomic || form.mode() == MEMSX { ldx(DW, 0, 0, 0) } else { form };
                let size = form.access_size() as i16;
                let room = if form.class() == LDX { 0 } else { ROOM_AT };
                let off = room + self.chance.below(ROOM as u64 / size as u64) as i16 * size;
                let data = if form.class() == LDX { self.free(&[]) } else { data };
                let imm = if form.class() == ST { self.imm() } else { 0 };
                return vec![with(form, 6, data, off, imm)];
            }
            Place::Frame => match index {
                None if self.chance.one_in(2) => (10, cell(self.chance, FRAME, true) - FRAME),
                None => {
                    let by = cell(self.chance, FRAME, true);
                    insns.extend([
                        movx(pointer, 10),
                        add(pointer, -i32::from(by) - i32::from(size)),
                    ]);
                    let left = FRAME - by - size;
                    (pointer, -(self.chance.below((left / size) as u64 + 1) as i16 * size))
                }
                Some(index) => {
                    insns.extend([movx(pointer, index), and(pointer, 0x38), addx(pointer, 10)]);
                    (pointer, cell(self.chance, 8, true) - FRAME)
                }
            },
            Place::Value => {
                let half = VALUE as i16 / 2;
                let at = cell(self.chance, half, atomic);
                match index {
                    None => {
                        let more = cell(self.chance, half, atomic);
                        insns.extend(wide(pointer, MAP_VALUE, 0, at.into()));
                        (pointer, more)
                    }
                    Some(index) => {
                        let number = self.free(&[data, pointer, 0]);
                        let mask =
                            if atomic { i32::from(half - size) & !7 } else { i32::from(half) - 1 };
                        insns.extend([movx(number, index), and(number, mask)]);
                        insns.extend(wide(pointer, MAP_VALUE, 0, at.into()));
                        insns.push(addx(pointer, number));
                        (pointer, 0)
                    }
                }
            }
            Place::Arena => {
                let half = ARENA as i16 / 2;
                let mut at = i32::from(cell(self.chance, half, true));
                if self.chance.one_in(12) {
                    // Where no page is.
                    at += 4096;
                }
                let number = self.free(&[data, pointer, 0]);
                if let Some(index) = index {
                    // At times into pages that are not there.
                    let mask = if self.chance.one_in(6) { 0x1_f038 } else { 0x38 };
                    insns.extend([movx(number, index), and(number, mask)]);
                }
                insns.extend(wide(pointer, MAP_VALUE, 1, at));
                insns.push(insn(ALU64 | MOV | X, pointer, pointer, 1, 1));
                if index.is_some() {
                    insns.push(addx(pointer, number));
                    (pointer, 0)
                } else {
                    (pointer, cell(self.chance, half, true))
                }
            }
        };
        let imm = match form.class() {
            ST => self.imm(),
            _ => form.imm,
        };
        if atomic && form.imm == CMPXCHG && !self.kept.contains(&0) && self.chance.one_in(2) {
            insns.extend(self.expected(form, (base, off), data));
        }
        insns.push(with(form, base, data, off, imm));
        if base != 10 {
            match (place, self.chance.one_in(3)) {
                (Place::Arena, true) => {
                    insns.push(insn(ALU64 | MOV | X, pointer, pointer, 1, 1 << 16));
                }
                _ => insns.push(mov(pointer, self.imm())),
            }
        }
        insns
    }

    /// Lets r0 be what cmpxchg will find, at times with bits that one of 32 bits does not see.
    fn expected(&mut self, form: Insn, (base, off): (u8, i16), data: u8) -> Vec<Insn> {
        let mut insns = vec![ldx(form.code & DW, 0, base, off)];
        if self.chance.one_in(2) {
            let high = self.free(&[0, base, data]);
            insns.extend(wide(high, 0, 0, self.imm()));
            insns.push(insn(ALU64 | 0x40 | X, 0, high, 0, 0));
        }
        insns
    }

    /// A condition, to be taken over so many instructions.
    fn condition(&mut self, over: usize) -> Insn {
        let form = self.chance.one_of(&conditions());
        let dst = self.any();
        let off = over as i16;
        match form.code & X {
            0 => Insn { dst, off, imm: self.imm(), ..form },
            _ => Insn { dst, src: self.any(), off, ..form },
        }
    }

    fn branch(&mut self) -> Vec<Insn> {
        self.depth += 1;
        let count = 1 + self.chance.below(3);
        let mut then = self.block(count);
        if self.index > 0 && self.depth == 1 && self.chance.one_in(6) {
            then.extend([movx(0, 7), EXIT]);
        } else if self.chance.one_in(2) {
            let count = 1 + self.chance.below(3);
            let other = self.block(count);
            then.push(match self.chance.one_in(2) {
                true => insn(JMP, 0, 0, other.len() as i16, 0),
                false => insn(JMP32, 0, 0, 0, other.len() as i32),
            });
            self.depth -= 1;
            return [vec![self.condition(then.len())], then, other].concat();
        }
        self.depth -= 1;
        [vec![self.condition(then.len())], then].concat()
    }

    /// A block in which a register counts. Calls leave it alone.
    fn counted(&mut self) -> (u8, Vec<Insn>) {
        let counter = self.chance.one_of(&[7, 8, 9]);
        self.kept.push(counter);
        self.depth += 1;
        let count = 1 + self.chance.below(3);
        let body = self.block(count);
        self.depth -= 1;
        self.kept.pop();
        (counter, body)
    }

    fn bounded_loop(&mut self) -> Vec<Insn> {
        let (counter, body) = self.counted();
        let passes = 2 + self.chance.below(4) as i32;
        let back = -(body.len() as i16) - 2;
        let code = self.chance.one_of(&[JMP | 0xa0, JMP | 0x50, JMP32 | 0xc0, JMP | 0xc0]);
        let (first, last) =
            ([mov(counter, 0)], [add(counter, 1), insn(code, counter, 0, back, passes)]);
        [&first[..], &body, &last].concat()
    }

    fn may_goto_loop(&mut self) -> Vec<Insn> {
        let (counter, body) = self.counted();
        let passes = 1 + self.chance.below(4) as i32;
        let len = body.len() as i16;
        let first = [
            mov(counter, 0),
            insn(JMP | 0xe0, 0, 0, len + 3, 0),
            insn(JMP | 0x20, counter, 0, len + 2, passes),
        ];
        [&first[..], &body, &[add(counter, 1), insn(JMP, 0, 0, -len - 4, 0)]].concat()
    }

    /// New numbers for what a call leaves unusable.
    fn after_call(&mut self) -> Vec<Insn> {
        let mut insns = Vec::new();
        for r in 1..6 {
            insns.push(match self.chance.one_in(2) {
                true => movx(r, self.chance.one_of(&[0, 7, 8, 9])),
                false => mov(r, self.imm()),
            });
        }
        insns
    }

    fn call(&mut self, callee: usize) -> Vec<Insn> {
        let mut insns = vec![insn(Insn::CALL, 0, 1, 0, callee as i32)];
        insns.extend(self.after_call());
        insns
    }

    /// `bpf_map_lookup_elem()`, of an element that is there or not.
    fn lookup(&mut self) -> Vec<Insn> {
        if self.kept.contains(&0) {
            return Vec::new();
        }
        let key = self.chance.below(2) as i32;
        let mut insns = vec![insn(ST | MEM | W, 10, 0, KEY, key)];
        insns.extend(wide(1, MAP, 0, 0));
        insns.extend([movx(2, 10), add(2, KEY.into()), insn(Insn::CALL, 0, 0, 0, LOOKUP)]);
        let off = self.chance.below(VALUE as u64 / 8) as i16 * 8;
        let data = self.chance.one_of(&[7, 8]);
        let change = !self.kept.contains(&data);
        let access = if change { ldx(DW, data, 0, off) } else { stx(W, 0, off, data) };
        insns.extend([insn(JMP | 0x10, 0, 0, 1, 0), access, mov(0, self.imm())]);
        insns.extend(self.after_call());
        insns
    }
}

/// Whether an access changes the register of its datum.
fn writes(form: Insn) -> bool {
    let fetches = form.class() == STX
        && form.mode() == ATOMIC
        && form.imm != STORE_RELEASE
        && form.imm != CMPXCHG
        && form.imm & 0x101 != 0;
    form.class() == LDX || fetches
}

/// An access to `[base + off]`, of the register `data`.
fn with(form: Insn, base: u8, data: u8, off: i16, imm: i32) -> Insn {
    match form.class() {
        LDX => Insn { dst: data, src: base, off, ..form },
        ST => Insn { dst: base, off, imm, ..form },
        _ if form.mode() == ATOMIC && form.imm == LOAD_ACQUIRE => {
            Insn { dst: data, src: base, off, ..form }
        }
        _ => Insn { dst: base, src: data, off, ..form },
    }
}
