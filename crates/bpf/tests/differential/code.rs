//! Instructions: how they are written, and what they are called.

use scxlab_bpf::Insn;
pub use scxlab_bpf::insn::class::*;
pub use scxlab_bpf::insn::mode::*;

pub const X: u8 = 0x08;
pub const W: u8 = 0x00;
pub const H: u8 = 0x08;
pub const B: u8 = 0x10;
pub const DW: u8 = 0x18;

pub const MOV: u8 = 0xb0;
pub const NEG: u8 = 0x80;
pub const SWAP: u8 = 0xd0;
pub const DIV: u8 = 0x30;
pub const MOD: u8 = 0x90;
pub const SHIFTS: [u8; 3] = [0x60, 0x70, 0xc0];

pub const LOAD_ACQUIRE: i32 = 0x100;
pub const STORE_RELEASE: i32 = 0x110;
pub const XCHG: i32 = 0xe1;
pub const CMPXCHG: i32 = 0xf1;
/// What an atomic operation does: its name, and its immediate.
pub const ATOMICS: [(&str, i32); 10] = [
    ("add", 0x00),
    ("or", 0x40),
    ("and", 0x50),
    ("xor", 0xa0),
    ("fetch_add", 0x01),
    ("fetch_or", 0x41),
    ("fetch_and", 0x51),
    ("fetch_xor", 0xa1),
    ("xchg", XCHG),
    ("cmpxchg", CMPXCHG),
];

const ARITHMETIC: [(&str, u8); 12] = [
    ("add", 0x00),
    ("sub", 0x10),
    ("mul", 0x20),
    ("div", DIV),
    ("or", 0x40),
    ("and", 0x50),
    ("lsh", 0x60),
    ("rsh", 0x70),
    ("mod", MOD),
    ("xor", 0xa0),
    ("mov", MOV),
    ("arsh", 0xc0),
];

const CONDITIONS: [(&str, u8); 11] = [
    ("jeq", 0x10),
    ("jgt", 0x20),
    ("jge", 0x30),
    ("jset", 0x40),
    ("jne", 0x50),
    ("jsgt", 0x60),
    ("jsge", 0x70),
    ("jlt", 0xa0),
    ("jle", 0xb0),
    ("jslt", 0xc0),
    ("jsle", 0xd0),
];

pub const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn { code, dst, src, off, imm }
}

pub const EXIT: Insn = insn(0x95, 0, 0, 0, 0);

/// `dst = imm`.
pub const fn mov(dst: u8, imm: i32) -> Insn {
    insn(ALU64 | MOV, dst, 0, 0, imm)
}

/// `dst = src`.
pub const fn movx(dst: u8, src: u8) -> Insn {
    insn(ALU64 | MOV | X, dst, src, 0, 0)
}

/// `dst += imm`.
pub const fn add(dst: u8, imm: i32) -> Insn {
    insn(ALU64, dst, 0, 0, imm)
}

/// `dst += src`.
pub const fn addx(dst: u8, src: u8) -> Insn {
    insn(ALU64 | X, dst, src, 0, 0)
}

/// `dst &= imm`.
pub const fn and(dst: u8, imm: i32) -> Insn {
    insn(ALU64 | 0x50, dst, 0, 0, imm)
}

pub const fn ldx(size: u8, dst: u8, src: u8, off: i16) -> Insn {
    insn(LDX | MEM | size, dst, src, off, 0)
}

pub const fn stx(size: u8, dst: u8, off: i16, src: u8) -> Insn {
    insn(STX | MEM | size, dst, src, off, 0)
}

/// A load of 64 bits: a number, or with a kind something that is named by a number.
pub const fn wide(dst: u8, kind: u8, low: i32, high: i32) -> [Insn; 2] {
    [insn(Insn::LOAD_WIDE, dst, kind, 0, low), insn(0, 0, 0, 0, high)]
}

/// All arithmetic with a result, of no registers and no immediate yet.
pub fn arithmetic() -> Vec<Insn> {
    let mut all = Vec::new();
    for class in [ALU, ALU64] {
        for (_, op) in ARITHMETIC {
            let signed = if op == DIV || op == MOD { &[0, 1][..] } else { &[0] };
            for &off in signed {
                all.extend([insn(class | op, 0, 0, off, 0), insn(class | op | X, 0, 0, off, 0)]);
            }
        }
        all.push(insn(class | NEG, 0, 0, 0, 0));
        for bits in [16, 32, 64] {
            all.push(insn(class | SWAP, 0, 0, 0, bits.into()));
            if class == ALU {
                all.push(insn(ALU | SWAP | X, 0, 0, 0, bits.into()));
            }
            if bits < 64 {
                all.push(insn(class | MOV | X, 0, 0, bits / 2, 0));
            }
        }
    }
    all.push(insn(ALU64 | MOV | X, 0, 0, 32, 0));
    all
}

/// All conditional jumps, of no registers, no immediate and to nowhere yet.
pub fn conditions() -> Vec<Insn> {
    let forms = CONDITIONS.iter().flat_map(|(_, op)| {
        [JMP, JMP32].into_iter().flat_map(move |class| [class | op, class | op | X])
    });
    forms.map(|code| insn(code, 0, 0, 0, 0)).collect()
}

/// All that accesses memory, of no registers yet.
pub fn accesses() -> Vec<Insn> {
    let mut all = Vec::new();
    for size in [B, H, W, DW] {
        all.extend([LDX | MEM, ST | MEM, STX | MEM].map(|code| insn(code | size, 0, 0, 0, 0)));
        if size != DW {
            all.push(insn(LDX | MEMSX | size, 0, 0, 0, 0));
        }
        let atomic = |imm| insn(STX | ATOMIC | size, 0, 0, 0, imm);
        all.extend([LOAD_ACQUIRE, STORE_RELEASE].map(atomic));
        if matches!(size, W | DW) {
            all.extend(ATOMICS.map(|(_, imm)| atomic(imm)));
        }
    }
    all
}

/// Whether an arena can be accessed like that on x86-64 (`bpf_jit_supports_insn()`): not by operations
/// that are compiled to a loop.
pub fn in_arena(access: Insn) -> bool {
    let atomic = access.class() == STX && access.mode() == ATOMIC;
    !(atomic && matches!(access.imm, 0x41 | 0x51 | 0xa1))
}

/// What an instruction is, without its registers, numbers and places; its second half is nothing.
pub fn name(insn: Insn) -> String {
    let Insn { code, src, off, imm, .. } = insn;
    let class = insn.class();
    let find = |of: &[(&'static str, u8)], op: u8| {
        of.iter().find(|(_, other)| *other == op).map_or("?", |(name, _)| *name)
    };
    let bits = if matches!(class, ALU64 | JMP) { 64 } else { 32 };
    let source = if code & X != 0 { "x" } else { "k" };
    let size = 8 * insn.access_size();
    match (class, code & 0xf0) {
        (ALU | ALU64, NEG) => format!("neg{bits}"),
        (ALU, SWAP) => format!("{}{imm}", if code & X != 0 { "be" } else { "le" }),
        (ALU64, SWAP) => format!("bswap{imm}"),
        (ALU64, MOV) if code & X != 0 && off == 1 => {
            format!("cast to {}", if imm == 1 { "kernel" } else { "user" })
        }
        (ALU | ALU64, MOV) if off != 0 => format!("movs{off}to{bits}"),
        (ALU | ALU64, op) => {
            let signed = if off == 1 { "s" } else { "" };
            format!("{signed}{}{bits}{source}", find(&ARITHMETIC, op))
        }
        (JMP, 0x00) => "ja".into(),
        (JMP32, 0x00) => "gotol".into(),
        (JMP, 0x80) => if src == 1 { "call function" } else { "call helper" }.into(),
        (JMP, 0x90) => "exit".into(),
        (JMP, 0xe0) => "may_goto".into(),
        (JMP | JMP32, op) => format!("{}{bits}{source}", find(&CONDITIONS, op)),
        (LD, _) if insn.is_wide() => match src {
            0 => "imm64",
            1 => "address of a map",
            _ => "address of a map's value",
        }
        .into(),
        (LD, _) => String::new(),
        (LDX, _) if insn.mode() == MEMSX => format!("loads{size}"),
        (LDX, _) => format!("load{size}"),
        (ST, _) => format!("store{size}k"),
        (_, _) if insn.mode() == MEM => format!("store{size}x"),
        (_, _) if imm == LOAD_ACQUIRE => format!("load_acquire{size}"),
        (_, _) if imm == STORE_RELEASE => format!("store_release{size}"),
        _ => {
            let found = ATOMICS.iter().find(|(_, other)| *other == imm);
            format!("atomic_{}{size}", found.map_or("?", |(name, _)| *name))
        }
    }
}

/// The register that has the address which an instruction accesses.
pub fn base(insn: Insn) -> Option<u8> {
    match insn.class() {
        LDX => Some(insn.src),
        STX if insn.mode() == ATOMIC && insn.imm == LOAD_ACQUIRE => Some(insn.src),
        ST | STX => Some(insn.dst),
        _ => None,
    }
}

/// A program as text, a line for each instruction.
pub fn listing(insns: &[Insn]) -> String {
    let line = |(at, insn): (usize, &Insn)| {
        let Insn { dst, src, off, imm, code } = *insn;
        format!(
            "{at:4}: {code:02x} {:<24} r{dst:<2} r{src:<2} off {off:<5} imm {imm:#x}\n",
            name(*insn)
        )
    };
    insns.iter().enumerate().map(line).collect()
}
