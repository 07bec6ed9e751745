//! From an encoding's fields to what the operation does.

use super::Refused;
use crate::machine::code::Kind;

pub(super) fn swap(swaps: bool, bits: i32) -> Result<Kind, Refused> {
    Ok(match (swaps, bits) {
        (false, 16) => Kind::Le16,
        (false, 32) => Kind::Le32,
        (false, 64) => Kind::Le64,
        (true, 16) => Kind::Swap16,
        (true, 32) => Kind::Swap32,
        (true, 64) => Kind::Swap64,
        _ => return Err(Refused::SwapWidth(bits)),
    })
}

pub(super) fn move_register(wide: bool, from: i16) -> Result<Kind, Refused> {
    Ok(match (wide, from) {
        (true, 0) => Kind::Mov64X,
        (true, 8) => Kind::Movs8To64,
        (true, 16) => Kind::Movs16To64,
        (true, 32) => Kind::Movs32To64,
        (false, 0) => Kind::Mov32X,
        (false, 8) => Kind::Movs8To32,
        (false, 16) => Kind::Movs16To32,
        _ => return Err(Refused::MoveWidth(from)),
    })
}

/// With 64 bits and an immediate, 64 and a register, 32 and an immediate, 32 and a register.
pub(super) type Four = [Kind; 4];

/// An arithmetic operation, and its signed form.
#[rustfmt::skip]
pub(super) fn alu_kinds(op: u8) -> Option<(Four, Option<Four>)> {
    use Kind::*;
    Some(match op {
        0x00 => ([Add64K, Add64X, Add32K, Add32X], None),
        0x10 => ([Sub64K, Sub64X, Sub32K, Sub32X], None),
        0x20 => ([Mul64K, Mul64X, Mul32K, Mul32X], None),
        0x30 => ([Div64K, Div64X, Div32K, Div32X], Some([Sdiv64K, Sdiv64X, Sdiv32K, Sdiv32X])),
        0x40 => ([Or64K, Or64X, Or32K, Or32X], None),
        0x50 => ([And64K, And64X, And32K, And32X], None),
        0x60 => ([Lsh64K, Lsh64X, Lsh32K, Lsh32X], None),
        0x70 => ([Rsh64K, Rsh64X, Rsh32K, Rsh32X], None),
        0x90 => ([Mod64K, Mod64X, Mod32K, Mod32X], Some([Smod64K, Smod64X, Smod32K, Smod32X])),
        0xa0 => ([Xor64K, Xor64X, Xor32K, Xor32X], None),
        0xb0 => ([Mov64K, Mov64X, Mov32K, Mov32X], None),
        0xc0 => ([Arsh64K, Arsh64X, Arsh32K, Arsh32X], None),
        _ => return None,
    })
}

#[rustfmt::skip]
pub(super) fn jump_kinds(op: u8) -> Option<Four> {
    use Kind::*;
    Some(match op {
        0x10 => [Jeq64K, Jeq64X, Jeq32K, Jeq32X],
        0x20 => [Jgt64K, Jgt64X, Jgt32K, Jgt32X],
        0x30 => [Jge64K, Jge64X, Jge32K, Jge32X],
        0x40 => [Jset64K, Jset64X, Jset32K, Jset32X],
        0x50 => [Jne64K, Jne64X, Jne32K, Jne32X],
        0x60 => [Jsgt64K, Jsgt64X, Jsgt32K, Jsgt32X],
        0x70 => [Jsge64K, Jsge64X, Jsge32K, Jsge32X],
        0xa0 => [Jlt64K, Jlt64X, Jlt32K, Jlt32X],
        0xb0 => [Jle64K, Jle64X, Jle32K, Jle32X],
        0xc0 => [Jslt64K, Jslt64X, Jslt32K, Jslt32X],
        0xd0 => [Jsle64K, Jsle64X, Jsle32K, Jsle32X],
        _ => return None,
    })
}
