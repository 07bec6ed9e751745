//! Runs operations.
//!
//! One loop with one `match`. An access tries what is cheapest first: the running function's frame,
//! then flat regions, and then, out of line, all else (`exec/far.rs`).

use super::address::{self, RegionId};
use super::code::{Callee, Code, Kind, atomic};
use super::fault::{Cause, Fault};
use super::kernel::Kernel;
use super::memory::{FRAME_SIZE, FRAME_STRIDE, Memory};
use super::thread::{Frame, MAX_FRAMES, MAY_GOTO_INSNS, Phase, Return, Stop, Thread, fp};

use self::far::Far;

mod far;

/// Runs a thread until it stops, for at most `fuel` instructions, and takes from `fuel` what it
/// used. A 64-bit load is the two instructions that it takes.
///
/// A thread that waits for a call stops with that call again; one that has nothing to run stops
/// with the result of what it ran last.
pub fn run<K: Kernel>(
    thread: &mut Thread,
    code: &Code,
    memory: &mut Memory,
    kernel: &mut K,
    fuel: &mut u64,
) -> Stop {
    let end = match thread.phase {
        Phase::Idle => End::Exit,
        Phase::Calling => match code.ops.get(thread.pc).and_then(|op| op.callee()) {
            Some(callee) => End::Call(callee),
            None => End::Fault(Cause::BadJump(address::of_insn(thread.pc))),
        },
        Phase::Ready => {
            let mut stack = memory.take_stack(thread.stack);
            let end = interpret(thread, code, &mut stack, memory, kernel, fuel);
            memory.give_stack(thread.stack, stack);
            end
        }
    };
    match end {
        End::OutOfFuel => Stop::OutOfFuel,
        End::Exit => {
            thread.phase = Phase::Idle;
            Stop::Exit(thread.regs[0])
        }
        End::Returned => {
            thread.phase = Phase::Calling;
            Stop::Returned(thread.regs[0])
        }
        End::Call(callee) => {
            thread.phase = Phase::Calling;
            let [_, r1, r2, r3, r4, r5, ..] = thread.regs;
            Stop::Call(callee, [r1, r2, r3, r4, r5])
        }
        End::Fault(cause) => Stop::Fault(Box::new(Fault::new(thread, code, memory, cause))),
    }
}

/// Why the loop ended.
enum End {
    Exit,
    Returned,
    Call(Callee),
    OutOfFuel,
    Fault(Cause),
}

/// The frame of the running function: its first address, and its first byte in the stack.
#[derive(Clone, Copy)]
struct Top {
    addr: u64,
    index: usize,
}

impl Top {
    fn new(stack: RegionId, frames: usize) -> Self {
        Self {
            addr: fp(stack, frames) - FRAME_SIZE as u64,
            index: frames.saturating_sub(1) * FRAME_SIZE,
        }
    }

    /// Where `N` bytes are in the stack, if they are in this frame.
    #[inline(always)]
    fn at<const N: usize>(self, addr: u64) -> Option<usize> {
        let at = addr.wrapping_sub(self.addr);
        (at <= (FRAME_SIZE - N) as u64).then(|| self.index + at as usize)
    }
}

/// Bytes that a load finds at once.
#[inline(always)]
fn near<'a, const N: usize>(
    stack: &'a [u8],
    top: Top,
    memory: &'a Memory,
    addr: u64,
) -> Option<&'a [u8; N]> {
    match top.at::<N>(addr) {
        Some(at) => stack.get(at..at + N)?.first_chunk(),
        None => memory.load_flat(addr),
    }
}

/// Bytes that a store finds at once.
#[inline(always)]
fn near_mut<'a, const N: usize>(
    stack: &'a mut [u8],
    top: Top,
    memory: &'a mut Memory,
    addr: u64,
) -> Option<&'a mut [u8; N]> {
    match top.at::<N>(addr) {
        Some(at) => stack.get_mut(at..at + N)?.first_chunk_mut(),
        None => memory.store_flat(addr),
    }
}

fn interpret<K: Kernel>(
    thread: &mut Thread,
    code: &Code,
    stack: &mut Vec<u8>,
    memory: &mut Memory,
    kernel: &mut K,
    fuel: &mut u64,
) -> End {
    let ops = code.ops.as_slice();
    let mut pc = thread.pc;
    let mut top = Top::new(thread.stack, thread.frames.len());
    let regs = &mut thread.regs;
    let mut left = *fuel;
    let arena = code.arena.unwrap_or(super::code::Arena { kernel: 0, user: 0 });
    let far = Far { stack: thread.stack, arena: code.arena };

    // A block is what can run before the fuel ends, if no jump leaves it: so there is one check for
    // fuel and for the end of the code.
    let end = 'block: loop {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let until = pc.saturating_add(most).min(ops.len());
        let mut rest = match ops.get(pc..until) {
            Some(block) if !block.is_empty() => block.iter(),
            _ if left == 0 => break End::OutOfFuel,
            // All places that a program can get to have an operation: see `Code::decode`. A thread
            // of other code is not such a program.
            _ => break End::Fault(Cause::BadJump(address::of_insn(pc))),
        };
        let start = pc;
        let length = rest.len();
        while let Some(op) = rest.next() {
            let (d, s) = ((op.dst & 15) as usize, (op.src & 15) as usize);

            // Where this operation is, and going elsewhere after it.
            macro_rules! at {
                () => {
                    start + (length - rest.len()) - 1
                };
            }
            macro_rules! go {
                ($to:expr) => {{
                    left -= (length - rest.len()) as u64;
                    pc = $to;
                    continue 'block;
                }};
            }
            // Stopping after this operation, or before it if it did not happen.
            macro_rules! stop {
                ($pc:expr, $end:expr) => {{
                    left -= (length - rest.len()) as u64;
                    pc = $pc;
                    break 'block $end;
                }};
            }
            macro_rules! fail {
                ($cause:expr) => {{
                    pc = at!();
                    left -= (pc - start) as u64;
                    break 'block End::Fault($cause);
                }};
            }
            macro_rules! fault {
                ($addr:expr, $size:expr, $write:expr, $denied:expr) => {{
                    let (addr, size, write, denied) = ($addr, $size, $write, $denied);
                    fail!(Cause::Access { addr, size, write, denied })
                }};
            }
            // `K` and `X` forms have the immediate and the register as their second operand.
            macro_rules! b {
                (K, u64) => {
                    op.imm as u64
                };
                (K, u32) => {
                    op.imm as u32
                };
                (X, u64) => {
                    regs[s]
                };
                (X, u32) => {
                    regs[s] as u32
                };
            }
            macro_rules! alu64 {
                ($src:tt, $a:ident, $b:ident, $result:expr) => {{
                    let ($a, $b) = (regs[d], b!($src, u64));
                    regs[d] = $result;
                }};
            }
            macro_rules! alu32 {
                ($src:tt, $a:ident, $b:ident, $result:expr) => {{
                    let ($a, $b) = (regs[d] as u32, b!($src, u32));
                    regs[d] = u64::from($result);
                }};
            }
            macro_rules! jump {
                () => {
                    go!(op.off as u32 as usize)
                };
            }
            macro_rules! jump64 {
                ($src:tt, $a:ident, $b:ident, $condition:expr) => {{
                    let ($a, $b) = (regs[d], b!($src, u64));
                    if $condition {
                        jump!();
                    }
                }};
            }
            macro_rules! jump32 {
                ($src:tt, $a:ident, $b:ident, $condition:expr) => {{
                    let ($a, $b) = (regs[d] as u32, b!($src, u32));
                    if $condition {
                        jump!();
                    }
                }};
            }
            macro_rules! load {
            ($n:literal, $from:ty as $($to:ty)as+) => {{
                let addr = regs[s].wrapping_add(op.off as i64 as u64);
                let bytes = match near::<$n>(stack, top, memory, addr) {
                    Some(bytes) => *bytes,
                    None if op.imm == atomic::LOAD_ACQ => {
                        match far.load_acquire::<$n, K>(stack, memory, kernel, addr) {
                            Ok(Some(bytes)) => bytes,
                            Ok(None) => continue,
                            Err(denied) => fault!(addr, $n, false, denied),
                        }
                    }
                    None => match far.load::<$n, K>(stack, memory, kernel, addr) {
                        Ok(bytes) => bytes,
                        Err(denied) => fault!(addr, $n, false, denied),
                    },
                };
                regs[d] = <$from>::from_le_bytes(bytes) $(as $to)+;
            }};
        }
            macro_rules! store {
                ($n:literal, $value:expr) => {{
                    let addr = regs[d].wrapping_add(op.off as i64 as u64);
                    let bytes = $value.to_le_bytes();
                    match near_mut::<$n>(stack, top, memory, addr) {
                        Some(to) => *to = bytes,
                        None => match far.store::<$n, K>(stack, memory, kernel, addr, bytes) {
                            Ok(()) => {}
                            Err(denied) => fault!(addr, $n, true, denied),
                        },
                    }
                }};
            }
            macro_rules! atomic {
                ($n:literal, $int:ty) => {{
                    let addr = regs[d].wrapping_add(op.off as i64 as u64);
                    let (value, expected) = (regs[s] as $int, regs[0] as $int);
                    let new = |old: $int| match op.imm & !atomic::FETCH {
                        atomic::ADD => old.wrapping_add(value),
                        atomic::OR => old | value,
                        atomic::AND => old & value,
                        atomic::XOR => old ^ value,
                        CMPXCHG if old != expected => old,
                        _ => value,
                    };
                    let old = match near_mut::<$n>(stack, top, memory, addr) {
                        Some(bytes) => {
                            let old = <$int>::from_le_bytes(*bytes);
                            *bytes = new(old).to_le_bytes();
                            Some(old)
                        }
                        None => {
                            let change = |old: u64| u64::from(new(old as $int));
                            match far.change(stack, memory, kernel, addr, $n, change) {
                                Ok(old) => old.map(|old| old as $int).filter(|old| {
                                    let stored = op.imm == atomic::CMPXCHG && *old == expected;
                                    !stored || !far.keeps_r0(memory, kernel, addr)
                                }),
                                Err(denied) => fault!(addr, $n, true, denied),
                            }
                        }
                    };
                    match old {
                        Some(old) if op.imm == atomic::CMPXCHG => regs[0] = old.into(),
                        Some(old) if op.imm & atomic::FETCH != 0 => regs[s] = old.into(),
                        _ => {}
                    }
                }};
            }

            use Kind::*;
            match op.kind {
                Add64K => alu64!(K, a, b, a.wrapping_add(b)),
                Add64X => alu64!(X, a, b, a.wrapping_add(b)),
                Add32K => alu32!(K, a, b, a.wrapping_add(b)),
                Add32X => alu32!(X, a, b, a.wrapping_add(b)),
                Sub64K => alu64!(K, a, b, a.wrapping_sub(b)),
                Sub64X => alu64!(X, a, b, a.wrapping_sub(b)),
                Sub32K => alu32!(K, a, b, a.wrapping_sub(b)),
                Sub32X => alu32!(X, a, b, a.wrapping_sub(b)),
                Mul64K => alu64!(K, a, b, a.wrapping_mul(b)),
                Mul64X => alu64!(X, a, b, a.wrapping_mul(b)),
                Mul32K => alu32!(K, a, b, a.wrapping_mul(b)),
                Mul32X => alu32!(X, a, b, a.wrapping_mul(b)),
                Div64K => alu64!(K, a, b, a.checked_div(b).unwrap_or(0)),
                Div64X => alu64!(X, a, b, a.checked_div(b).unwrap_or(0)),
                Div32K => alu32!(K, a, b, a.checked_div(b).unwrap_or(0)),
                Div32X => alu32!(X, a, b, a.checked_div(b).unwrap_or(0)),
                Sdiv64K => alu64!(K, a, b, sdiv64(a, b)),
                Sdiv64X => alu64!(X, a, b, sdiv64(a, b)),
                Sdiv32K => alu32!(K, a, b, sdiv32(a, b)),
                Sdiv32X => alu32!(X, a, b, sdiv32(a, b)),
                Mod64K => alu64!(K, a, b, a.checked_rem(b).unwrap_or(a)),
                Mod64X => alu64!(X, a, b, a.checked_rem(b).unwrap_or(a)),
                Mod32K => alu32!(K, a, b, a.checked_rem(b).unwrap_or(a)),
                Mod32X => alu32!(X, a, b, a.checked_rem(b).unwrap_or(a)),
                Smod64K => alu64!(K, a, b, smod64(a, b)),
                Smod64X => alu64!(X, a, b, smod64(a, b)),
                Smod32K => alu32!(K, a, b, smod32(a, b)),
                Smod32X => alu32!(X, a, b, smod32(a, b)),
                Or64K => alu64!(K, a, b, a | b),
                Or64X => alu64!(X, a, b, a | b),
                Or32K => alu32!(K, a, b, a | b),
                Or32X => alu32!(X, a, b, a | b),
                And64K => alu64!(K, a, b, a & b),
                And64X => alu64!(X, a, b, a & b),
                And32K => alu32!(K, a, b, a & b),
                And32X => alu32!(X, a, b, a & b),
                Xor64K => alu64!(K, a, b, a ^ b),
                Xor64X => alu64!(X, a, b, a ^ b),
                Xor32K => alu32!(K, a, b, a ^ b),
                Xor32X => alu32!(X, a, b, a ^ b),
                // The wrapping shifts take the lower bits of the count only.
                Lsh64K => alu64!(K, a, b, a.wrapping_shl(b as u32)),
                Lsh64X => alu64!(X, a, b, a.wrapping_shl(b as u32)),
                Lsh32K => alu32!(K, a, b, a.wrapping_shl(b)),
                Lsh32X => alu32!(X, a, b, a.wrapping_shl(b)),
                Rsh64K => alu64!(K, a, b, a.wrapping_shr(b as u32)),
                Rsh64X => alu64!(X, a, b, a.wrapping_shr(b as u32)),
                Rsh32K => alu32!(K, a, b, a.wrapping_shr(b)),
                Rsh32X => alu32!(X, a, b, a.wrapping_shr(b)),
                Arsh64K => alu64!(K, a, b, (a as i64).wrapping_shr(b as u32) as u64),
                Arsh64X => alu64!(X, a, b, (a as i64).wrapping_shr(b as u32) as u64),
                Arsh32K => alu32!(K, a, b, (a as i32).wrapping_shr(b) as u32),
                Arsh32X => alu32!(X, a, b, (a as i32).wrapping_shr(b) as u32),
                Mov64K => regs[d] = op.imm as u64,
                Mov64X => regs[d] = regs[s],
                Mov32K => regs[d] = u64::from(op.imm as u32),
                Mov32X => regs[d] = u64::from(regs[s] as u32),
                Neg64 => regs[d] = regs[d].wrapping_neg(),
                Neg32 => regs[d] = u64::from((regs[d] as u32).wrapping_neg()),
                Movs8To64 => regs[d] = regs[s] as i8 as u64,
                Movs16To64 => regs[d] = regs[s] as i16 as u64,
                Movs32To64 => regs[d] = regs[s] as i32 as u64,
                Movs8To32 => regs[d] = u64::from(regs[s] as i8 as u32),
                Movs16To32 => regs[d] = u64::from(regs[s] as i16 as u32),
                Le16 => regs[d] = u64::from(regs[d] as u16),
                Le32 => regs[d] = u64::from(regs[d] as u32),
                Le64 => {}
                Swap16 => regs[d] = u64::from((regs[d] as u16).swap_bytes()),
                Swap32 => regs[d] = u64::from((regs[d] as u32).swap_bytes()),
                Swap64 => regs[d] = regs[d].swap_bytes(),
                CastKernel => {
                    regs[d] = match regs[s] {
                        0 => 0,
                        addr => arena.kernel | u64::from(addr as u32),
                    }
                }
                CastUser => {
                    regs[d] = match regs[s] as u32 {
                        0 => 0,
                        low => arena.user | u64::from(low),
                    }
                }
                Imm64 => {
                    regs[d] = op.imm as u64;
                    // The second half does nothing, if the fuel lasts for it.
                    rest.next();
                }
                Load8 => load!(1, u8 as u64),
                Load16 => load!(2, u16 as u64),
                Load32 => load!(4, u32 as u64),
                Load64 => load!(8, u64 as u64),
                Loads8 => load!(1, i8 as i64 as u64),
                Loads16 => load!(2, i16 as i64 as u64),
                Loads32 => load!(4, i32 as i64 as u64),
                StoreK8 => store!(1, (op.imm as u8)),
                StoreK16 => store!(2, (op.imm as u16)),
                StoreK32 => store!(4, (op.imm as u32)),
                StoreK64 => store!(8, (op.imm as u64)),
                StoreX8 => store!(1, (regs[s] as u8)),
                StoreX16 => store!(2, (regs[s] as u16)),
                StoreX32 => store!(4, (regs[s] as u32)),
                StoreX64 => store!(8, regs[s]),
                Atomic32 => atomic!(4, u32),
                Atomic64 => atomic!(8, u64),
                Ja => jump!(),
                MayGoto => {
                    let executed = thread.executed + (*fuel - left) + (at!() - start) as u64;
                    let since = thread
                        .frames
                        .last_mut()
                        .map_or(0, |frame| *frame.may_goto.get_or_insert(executed));
                    if executed - since >= MAY_GOTO_INSNS {
                        jump!();
                    }
                }
                GotoX => match target(code, at!(), regs[d]) {
                    Some(to) => go!(to),
                    None => fail!(Cause::BadJump(regs[d])),
                },
                Jeq64K => jump64!(K, a, b, a == b),
                Jeq64X => jump64!(X, a, b, a == b),
                Jeq32K => jump32!(K, a, b, a == b),
                Jeq32X => jump32!(X, a, b, a == b),
                Jne64K => jump64!(K, a, b, a != b),
                Jne64X => jump64!(X, a, b, a != b),
                Jne32K => jump32!(K, a, b, a != b),
                Jne32X => jump32!(X, a, b, a != b),
                Jgt64K => jump64!(K, a, b, a > b),
                Jgt64X => jump64!(X, a, b, a > b),
                Jgt32K => jump32!(K, a, b, a > b),
                Jgt32X => jump32!(X, a, b, a > b),
                Jge64K => jump64!(K, a, b, a >= b),
                Jge64X => jump64!(X, a, b, a >= b),
                Jge32K => jump32!(K, a, b, a >= b),
                Jge32X => jump32!(X, a, b, a >= b),
                Jlt64K => jump64!(K, a, b, a < b),
                Jlt64X => jump64!(X, a, b, a < b),
                Jlt32K => jump32!(K, a, b, a < b),
                Jlt32X => jump32!(X, a, b, a < b),
                Jle64K => jump64!(K, a, b, a <= b),
                Jle64X => jump64!(X, a, b, a <= b),
                Jle32K => jump32!(K, a, b, a <= b),
                Jle32X => jump32!(X, a, b, a <= b),
                Jset64K => jump64!(K, a, b, a & b != 0),
                Jset64X => jump64!(X, a, b, a & b != 0),
                Jset32K => jump32!(K, a, b, a & b != 0),
                Jset32X => jump32!(X, a, b, a & b != 0),
                Jsgt64K => jump64!(K, a, b, a as i64 > b as i64),
                Jsgt64X => jump64!(X, a, b, a as i64 > b as i64),
                Jsgt32K => jump32!(K, a, b, a as i32 > b as i32),
                Jsgt32X => jump32!(X, a, b, a as i32 > b as i32),
                Jsge64K => jump64!(K, a, b, a as i64 >= b as i64),
                Jsge64X => jump64!(X, a, b, a as i64 >= b as i64),
                Jsge32K => jump32!(K, a, b, a as i32 >= b as i32),
                Jsge32X => jump32!(X, a, b, a as i32 >= b as i32),
                Jslt64K => jump64!(K, a, b, (a as i64) < b as i64),
                Jslt64X => jump64!(X, a, b, (a as i64) < b as i64),
                Jslt32K => jump32!(K, a, b, (a as i32) < b as i32),
                Jslt32X => jump32!(X, a, b, (a as i32) < b as i32),
                Jsle64K => jump64!(K, a, b, a as i64 <= b as i64),
                Jsle64X => jump64!(X, a, b, a as i64 <= b as i64),
                Jsle32K => jump32!(K, a, b, a as i32 <= b as i32),
                Jsle32X => jump32!(X, a, b, a as i32 <= b as i32),
                CallHelper => stop!(at!(), End::Call(Callee::Helper(op.imm as u32))),
                CallKfunc => stop!(at!(), End::Call(Callee::Kfunc(op.imm as usize))),
                CallLocal => {
                    if thread.frames.len() == MAX_FRAMES {
                        fail!(Cause::TooDeep);
                    }
                    thread.frames.push(Frame {
                        function: op.imm as usize,
                        from: Return::Caller(at!() + 1),
                        saved: [regs[6], regs[7], regs[8], regs[9]],
                        may_goto: None,
                    });
                    top = Top { addr: top.addr + FRAME_STRIDE, index: top.index + FRAME_SIZE };
                    stack.resize(top.index + FRAME_SIZE, 0);
                    regs[10] = top.addr + FRAME_SIZE as u64;
                    jump!();
                }
                Exit => {
                    let from = match thread.frames.pop() {
                        Some(frame) => {
                            regs[6..10].copy_from_slice(&frame.saved);
                            frame.from
                        }
                        None => Return::Start,
                    };
                    stack.truncate(top.index);
                    top = Top::new(thread.stack, thread.frames.len());
                    regs[10] = top.addr + FRAME_SIZE as u64;
                    match from {
                        Return::Caller(at) => go!(at),
                        Return::Kernel(at) => stop!(at, End::Returned),
                        Return::Start => stop!(at!(), End::Exit),
                    }
                }
                Second => {}
                Hole => fail!(Cause::BadJump(address::of_insn(at!()))),
            }
        }
        left -= length as u64;
        pc += length;
    };
    thread.pc = pc;
    thread.executed += *fuel - left;
    *fuel = left;
    end
}

/// [`atomic::CMPXCHG`] without the bit that all of its kind have.
const CMPXCHG: i64 = atomic::CMPXCHG & !atomic::FETCH;

/// Where an indirect jump goes, if a jump table points there and it is in the same function.
fn target(code: &Code, pc: usize, addr: u64) -> Option<usize> {
    let to = address::to_insn(addr)?;
    code.targets.binary_search(&u32::try_from(to).ok()?).ok()?;
    (code.function_of(to) == code.function_of(pc)).then_some(to)
}

fn sdiv64(a: u64, b: u64) -> u64 {
    if b == 0 { 0 } else { (a as i64).wrapping_div(b as i64) as u64 }
}

fn sdiv32(a: u32, b: u32) -> u32 {
    if b == 0 { 0 } else { (a as i32).wrapping_div(b as i32) as u32 }
}

fn smod64(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { (a as i64).wrapping_rem(b as i64) as u64 }
}

fn smod32(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { (a as i32).wrapping_rem(b as i32) as u32 }
}
