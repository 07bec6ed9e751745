//! From an image's instructions to [`Code`], refusing what is not one.
//!
//! The encoding is that of Documentation/bpf/standardization/instruction-set.rst, and what the
//! kernel adds to it: pseudo immediates, `may_goto`, casts between address spaces, `gotox`. The
//! fields that an instruction has no use for must be zero, as the verifier wants it
//! (`check_insn_fields()` in Linux 7.2). What only the verifier could know is not looked at.

pub use self::refused::{DecodeError, Refused};

use self::kinds::{alu_kinds, jump_kinds, move_register, swap};
use super::address::{self, RegionId};
use super::code::{Arena, Code, Kind, Op, atomic};
use crate::image::{Function, Map, MapType};
use crate::insn::class::{ALU, ALU64, JMP, JMP32, LD, LDX, ST, STX};
use crate::insn::mode::{ATOMIC, MEM, MEMSX};
use crate::insn::pseudo;
use crate::{Image, Insn};

mod kinds;
mod refused;

/// `BPF_MAP_TYPE_ARENA`.
const ARENA: MapType = MapType(33);
/// `BPF_MAP_TYPE_INSN_ARRAY`: a jump table.
const INSN_ARRAY: MapType = MapType(34);
/// An arena whose pointers are the lower 32 bits in programs too.
const BPF_F_NO_USER_CONV: u32 = 1 << 18;

/// The most instructions of an image. A kernel takes a million in a program.
const MAX_INSNS: usize = 1 << 24;

/// Where things are that an image's instructions name.
#[derive(Clone, Debug, Default)]
pub struct Binding {
    /// For each of [`Image::maps`].
    pub maps: Vec<MapAddress>,
    /// The address of each of [`Image::ksyms`]; 0 for one that the kernel does not have.
    pub ksyms: Vec<u64>,
}

/// Where a map is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapAddress {
    /// The address of the map itself, which is what helpers are given.
    pub map: u64,
    /// The address of its first value; of an arena, the user's address of its first byte.
    pub value: u64,
    /// Of an arena, its region's address ([`RegionId::base`]).
    pub arena: u64,
}

impl Code {
    /// Decodes all functions of an image.
    ///
    /// # Errors
    ///
    /// What is no instruction, or none that a kernel takes; a jump, call or address that leads
    /// nowhere. Also if `binding` has fewer addresses than the image asks for.
    pub fn decode(image: &Image, binding: &Binding) -> Result<Self, DecodeError> {
        let by_start = layout(image)?;
        let arena = arena(image, binding);
        let no_user = |map: &Map| map.map_type == ARENA && map.flags & BPF_F_NO_USER_CONV != 0;
        let user_is_low = image.maps.iter().any(no_user);
        let mut ops = vec![Op::HOLE; image.insns.len()];
        for function in &image.functions {
            let decoder = Decoder {
                image,
                binding,
                function,
                by_start: &by_start,
                arena: &arena,
                user_is_low,
            };
            decoder.function(&mut ops)?;
        }
        let mut lines = image.lines.clone();
        lines.sort_by_key(|line| line.insn);
        let functions = image.functions.clone();
        let mut code =
            Self { ops, functions, by_start, lines, targets: Vec::new(), arena: arena.ok() };
        code.targets = jump_targets(image, &code)?;
        Ok(code)
    }
}

/// The functions by their start, which must lie in the image and apart.
fn layout(image: &Image) -> Result<Vec<usize>, DecodeError> {
    let refuse = |function: &Function, reason| {
        Err(DecodeError { function: function.name.clone(), insn: 0, reason })
    };
    let mut by_start: Vec<usize> = (0..image.functions.len()).collect();
    by_start.sort_by_key(|f| image.functions[*f].start);
    let mut end = 0;
    let mut last = "";
    for f in &by_start {
        let function = &image.functions[*f];
        if function.start < end {
            return refuse(function, Refused::Overlap(last.into()));
        }
        match function.start.checked_add(function.len) {
            Some(to) if function.len > 0 && to <= image.insns.len().min(MAX_INSNS) => end = to,
            _ => return refuse(function, Refused::Extent),
        }
        last = &function.name;
    }
    Ok(by_start)
}

/// The one arena of an image.
fn arena(image: &Image, binding: &Binding) -> Result<Arena, Refused> {
    let mut arenas = image.maps.iter().zip(&binding.maps).filter(|(map, _)| map.map_type == ARENA);
    match (arenas.next(), arenas.next()) {
        (Some((_, address)), None) if RegionId::of(address.arena).is_some() => {
            Ok(Arena { kernel: address.arena & UPPER, user: address.value & UPPER })
        }
        (Some(_), Some(_)) => Err(Refused::ManyArenas),
        _ => Err(Refused::NoArena),
    }
}

const UPPER: u64 = u64::MAX << 32;

/// Where the jump tables of an image point to.
fn jump_targets(image: &Image, code: &Code) -> Result<Vec<u32>, DecodeError> {
    let mut targets = Vec::new();
    for map in image.maps.iter().filter(|map| map.map_type == INSN_ARRAY) {
        for (entry, insn) in map.entries.iter().enumerate() {
            let Some(insn) = *insn else { continue };
            if code.ops.get(insn).is_none_or(|op| matches!(op.kind, Kind::Hole | Kind::Second)) {
                let reason = Refused::JumpTable { map: map.name.clone(), entry };
                return Err(DecodeError { function: map.name.clone(), insn: 0, reason });
            }
            targets.push(insn as u32);
        }
    }
    targets.sort_unstable();
    targets.dedup();
    Ok(targets)
}

/// Decodes one function.
struct Decoder<'a> {
    image: &'a Image,
    binding: &'a Binding,
    function: &'a Function,
    by_start: &'a [usize],
    arena: &'a Result<Arena, Refused>,
    /// Pointers into the arena are the lower 32 bits in programs too.
    user_is_low: bool,
}

// Parts of an operation's code.
const SOURCE_X: u8 = 0x08;
/// `BPF_LD | BPF_IMM | BPF_DW`.
const LD_IMM64: u8 = 0x18;
const ABS: u8 = 0x20;
const IND: u8 = 0x40;
const SIZE: u8 = 0x18;
const JA: u8 = 0x00;
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;
const JCOND: u8 = 0xe0;
const EXIT_CODE: u8 = JMP | EXIT;
/// The register of stack arguments, `BPF_REG_PARAMS`.
const PARAMS: u8 = 11;

impl Decoder<'_> {
    fn function(&self, ops: &mut [Op]) -> Result<(), DecodeError> {
        let Function { start, len, .. } = *self.function;
        let mut at = start;
        let mut last = start;
        while at < start + len {
            last = at;
            let op = self.insn(at).map_err(|reason| self.error(at, reason))?;
            ops[at] = op;
            if op.kind == Kind::Imm64 {
                at += 1;
                ops[at] = Op::SECOND;
            }
            at += 1;
        }
        if !matches!(ops[last].kind, Kind::Exit | Kind::Ja | Kind::GotoX) {
            return Err(self.error(last, Refused::RunsOff));
        }
        // Only now it is known what is the second half of a load.
        for at in start..start + len {
            let op = ops[at];
            if is_jump(op.kind) && ops[op.off as usize].kind == Kind::Second {
                let to = i64::from(op.off) - start as i64;
                return Err(self.error(at, Refused::JumpIntoLoad(to)));
            }
        }
        Ok(())
    }

    fn error(&self, at: usize, reason: Refused) -> DecodeError {
        let function = self.function.name.clone();
        DecodeError { function, insn: at - self.function.start, reason }
    }

    fn insn(&self, at: usize) -> Result<Op, Refused> {
        let insn = self.image.insns[at];
        let class = insn.class();
        // In an immediate load the source is no register.
        let params = match class {
            LDX => insn.src,
            ST | STX => insn.dst,
            _ => 0,
        };
        if params == PARAMS {
            return Err(Refused::StackArguments);
        }
        if insn.dst > 10 {
            return Err(Refused::Register(insn.dst));
        }
        if insn.src > 10 && insn.code != LD_IMM64 {
            return Err(Refused::Register(insn.src));
        }
        match class {
            ALU | ALU64 => self.alu(insn),
            JMP | JMP32 => self.jump(at, insn),
            LD => self.immediate(at, insn),
            _ => memory(insn),
        }
    }

    fn alu(&self, insn: Insn) -> Result<Op, Refused> {
        let wide = insn.class() == ALU64;
        let x = insn.code & SOURCE_X != 0;
        let reserved = Err(Refused::Reserved(insn.code));
        writes(insn.dst)?;
        let kind = match insn.code & 0xf0 {
            0x80 => {
                if x || insn.src != 0 || insn.off != 0 || insn.imm != 0 {
                    return reserved;
                }
                if wide { Kind::Neg64 } else { Kind::Neg32 }
            }
            0xd0 => {
                if insn.src != 0 || insn.off != 0 || wide && x {
                    return reserved;
                }
                swap(wide || x, insn.imm)?
            }
            0xb0 if x && wide && insn.off == 1 => self.cast(insn.imm)?,
            0xb0 if x => {
                if insn.imm != 0 {
                    return reserved;
                }
                move_register(wide, insn.off)?
            }
            op => {
                if if x { insn.imm != 0 } else { insn.src != 0 } {
                    return reserved;
                }
                let which = if wide { 0 } else { 2 } + usize::from(x);
                let (kinds, signed) = alu_kinds(op).ok_or(Refused::Opcode(insn.code))?;
                match (insn.off, signed) {
                    (0, _) => kinds[which],
                    (1, Some(kinds)) => kinds[which],
                    _ => return reserved,
                }
            }
        };
        Ok(Op { kind, dst: insn.dst, src: insn.src, off: 0, imm: insn.imm.into() })
    }

    /// `addr_space_cast`: to, from.
    fn cast(&self, imm: i32) -> Result<Kind, Refused> {
        let to_kernel = match imm {
            0x0_0001 => true,
            0x1_0000 => false,
            _ => return Err(Refused::AddressSpaces),
        };
        self.arena.clone()?;
        Ok(match to_kernel {
            true => Kind::CastKernel,
            false if self.user_is_low => Kind::Mov32X,
            false => Kind::CastUser,
        })
    }

    fn jump(&self, at: usize, insn: Insn) -> Result<Op, Refused> {
        let wide = insn.class() == JMP;
        let x = insn.code & SOURCE_X != 0;
        let Insn { code, dst, src, off, imm } = insn;
        let reserved = Err(Refused::Reserved(code));
        let plain = |kind| Op { kind, dst, src, off: 0, imm: imm.into() };
        let to = |kind, by: i32| {
            self.target(at, by).map(|off| Op { kind, dst, src, off, imm: imm.into() })
        };
        match code & 0xf0 {
            JA if x && !wide => Err(Refused::Opcode(code)),
            JA if x => match (src, off, imm) {
                (0, 0, 0) => Ok(plain(Kind::GotoX)),
                _ => reserved,
            },
            JA => match (wide, dst, src, off, imm) {
                (true, 0, 0, by, 0) => to(Kind::Ja, by.into()),
                (false, 0, 0, 0, by) => to(Kind::Ja, by),
                _ => reserved,
            },
            CALL if x && wide => Err(Refused::IndirectCall),
            CALL if wide => {
                if dst != 0 || off != 0 {
                    return reserved;
                }
                self.call(at, insn)
            }
            EXIT if code == EXIT_CODE => match (dst, src, off, imm) {
                (0, 0, _, 0) => Ok(plain(Kind::Exit)),
                _ => reserved,
            },
            JCOND if code == JMP | JCOND => match (dst, src, imm) {
                (0, 0, 0) => to(Kind::MayGoto, off.into()),
                _ => reserved,
            },
            op => {
                let kinds = jump_kinds(op).ok_or(Refused::Opcode(code))?;
                if if x { imm != 0 } else { src != 0 } {
                    return reserved;
                }
                to(kinds[if wide { 0 } else { 2 } + usize::from(x)], off.into())
            }
        }
    }

    fn call(&self, at: usize, insn: Insn) -> Result<Op, Refused> {
        let op = |kind, off, imm| Ok(Op { kind, dst: 0, src: 0, off, imm });
        match insn.src {
            pseudo::HELPER => op(Kind::CallHelper, 0, i64::from(insn.imm as u32)),
            pseudo::CALL => {
                let (function, start) = self.function_at(at, insn.imm)?;
                op(Kind::CallLocal, start as i32, function as i64)
            }
            pseudo::KFUNC => match usize::try_from(insn.imm) {
                Ok(i) if i < self.image.kfuncs.len() => op(Kind::CallKfunc, 0, i as i64),
                _ => Err(Refused::Kfunc(insn.imm)),
            },
            other => Err(Refused::PseudoCall(other)),
        }
    }

    fn immediate(&self, at: usize, insn: Insn) -> Result<Op, Refused> {
        if insn.code != LD_IMM64 {
            return Err(match insn.mode() {
                ABS | IND => Refused::PacketLoad,
                _ => Refused::Opcode(insn.code),
            });
        }
        writes(insn.dst)?;
        let end = self.function.start + self.function.len;
        let next = *self.image.insns[..end].get(at + 1).ok_or(Refused::HalfLoad)?;
        if next.code != 0 || next.dst != 0 || next.src != 0 || next.off != 0 {
            return Err(Refused::HalfLoad);
        }
        if insn.off != 0 || insn.src != 0 && insn.src != pseudo::MAP_VALUE && next.imm != 0 {
            return Err(Refused::Reserved(insn.code));
        }
        let value = match insn.src {
            0 => u64::from(insn.imm as u32) | u64::from(next.imm as u32) << 32,
            pseudo::MAP => self.map(insn.imm)?.1.map,
            pseudo::MAP_VALUE => {
                let (map, address) = self.map(insn.imm)?;
                let offset = next.imm as u32;
                let each = if map.map_type == ARENA { 4096 } else { map.value_size.max(1) };
                let size = u64::from(each) * u64::from(map.max_entries);
                if u64::from(offset) >= size {
                    return Err(Refused::MapValue { map: map.name.clone(), offset, size });
                }
                address.value.wrapping_add(offset.into())
            }
            pseudo::KSYM => usize::try_from(insn.imm)
                .ok()
                .and_then(|i| self.binding.ksyms.get(i))
                .copied()
                .ok_or(Refused::Ksym(insn.imm))?,
            pseudo::FUNC => address::of_insn(self.function_at(at, insn.imm)?.1),
            other => return Err(Refused::PseudoLoad(other)),
        };
        Ok(Op { kind: Kind::Imm64, dst: insn.dst, src: 0, off: 0, imm: value as i64 })
    }

    fn map(&self, index: i32) -> Result<(&crate::image::Map, MapAddress), Refused> {
        let index = usize::try_from(index).map_err(|_| Refused::Map(index))?;
        match (self.image.maps.get(index), self.binding.maps.get(index)) {
            (Some(map), Some(address)) => Ok((map, *address)),
            _ => Err(Refused::Map(index as i32)),
        }
    }

    /// Where a jump goes.
    fn target(&self, at: usize, by: i32) -> Result<i32, Refused> {
        let Function { start, len, .. } = *self.function;
        let to = at as i64 + 1 + i64::from(by) - start as i64;
        if to < 0 || to >= len as i64 {
            return Err(Refused::JumpOut(to));
        }
        // There are at most `MAX_INSNS`.
        Ok((start as i64 + to) as i32)
    }

    /// The function that starts so far from here, and where.
    fn function_at(&self, at: usize, by: i32) -> Result<(usize, usize), Refused> {
        let to = at as i64 + 1 + i64::from(by);
        let functions = &self.image.functions;
        let start = usize::try_from(to).map_err(|_| Refused::NoFunction(to))?;
        match self.by_start.binary_search_by_key(&start, |f| functions[*f].start) {
            Ok(found) => Ok((self.by_start[found], start)),
            Err(_) => Err(Refused::NoFunction(to)),
        }
    }
}

/// Loads, stores and atomic operations.
fn memory(insn: Insn) -> Result<Op, Refused> {
    let Insn { code, dst, src, off, imm } = insn;
    let class = insn.class();
    // Sizes in their order of encoding: 4, 2, 1, 8.
    let size = usize::from((code & SIZE) >> 3);
    let op = |kind| Ok(Op { kind, dst, src, off: off.into(), imm: imm.into() });
    let reserved = Err(Refused::Reserved(code));
    let loads = [Kind::Load32, Kind::Load16, Kind::Load8, Kind::Load64];
    let stores = [Kind::StoreX32, Kind::StoreX16, Kind::StoreX8, Kind::StoreX64];
    match (class, insn.mode()) {
        (LDX, MEM) if imm == 0 => writes(dst).and(op(loads[size])),
        (LDX, MEMSX) if imm == 0 => {
            let kinds = [Kind::Loads32, Kind::Loads16, Kind::Loads8];
            let kind = *kinds.get(size).ok_or(Refused::Opcode(code))?;
            writes(dst).and(op(kind))
        }
        (ST, MEM) if src == 0 => {
            op([Kind::StoreK32, Kind::StoreK16, Kind::StoreK8, Kind::StoreK64][size])
        }
        (STX, MEM) if imm == 0 => op(stores[size]),
        (STX, ATOMIC) => {
            let kind = match size {
                0 => Some(Kind::Atomic32),
                3 => Some(Kind::Atomic64),
                _ => None,
            };
            let (what, fetch) = (i64::from(imm), i64::from(imm) & atomic::FETCH != 0);
            match what {
                atomic::LOAD_ACQ => writes(dst).and(op(loads[size])),
                atomic::STORE_REL => op(stores[size]),
                atomic::XCHG | atomic::CMPXCHG => {
                    if what == atomic::XCHG {
                        writes(src)?;
                    }
                    op(kind.ok_or(Refused::Atomic(imm))?)
                }
                _ => match what & !atomic::FETCH {
                    atomic::ADD | atomic::OR | atomic::AND | atomic::XOR => {
                        if fetch {
                            writes(src)?;
                        }
                        op(kind.ok_or(Refused::Atomic(imm))?)
                    }
                    _ => Err(Refused::Atomic(imm)),
                },
            }
        }
        (LDX, MEM | MEMSX) | (ST | STX, MEM) => reserved,
        _ => Err(Refused::Opcode(code)),
    }
}

fn writes(dst: u8) -> Result<(), Refused> {
    if dst == 10 { Err(Refused::FramePointer) } else { Ok(()) }
}

/// Whether `off` is where it may go next.
fn is_jump(kind: Kind) -> bool {
    matches!(kind as u8, kind if kind >= Kind::Ja as u8 && kind <= Kind::Jsle32X as u8)
        && kind != Kind::GotoX
}
