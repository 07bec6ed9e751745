//! One instruction, as in the object and as given to the kernel (Documentation/bpf/standardization/
//! instruction-set.rst).

/// `struct bpf_insn`. A 64-bit immediate load takes two, the second with [`Insn::code`] 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Insn {
    /// The operation: class in the low three bits.
    pub code: u8,
    /// The destination register, 0..=15 as encoded; what is above 10 is refused when decoded.
    pub dst: u8,
    /// The source register, or a kind of immediate: see [`pseudo`].
    pub src: u8,
    /// A jump's distance in instructions, or an address's offset in bytes.
    pub off: i16,
    /// The immediate operand.
    pub imm: i32,
}

impl Insn {
    /// Bytes of an instruction.
    pub const SIZE: usize = 8;

    /// Reads one from little-endian bytes.
    pub fn read(bytes: [u8; Self::SIZE]) -> Self {
        let [code, regs, off0, off1, imm @ ..] = bytes;
        Self {
            code,
            dst: regs & 0xf,
            src: regs >> 4,
            off: i16::from_le_bytes([off0, off1]),
            imm: i32::from_le_bytes(imm),
        }
    }

    /// Its little-endian bytes.
    pub fn write(self) -> [u8; Self::SIZE] {
        let [off0, off1] = self.off.to_le_bytes();
        let [a, b, c, d] = self.imm.to_le_bytes();
        [self.code, self.dst & 0xf | self.src << 4, off0, off1, a, b, c, d]
    }

    /// The code of a call.
    pub const CALL: u8 = 0x85;
    /// The code of a 64-bit immediate load.
    pub const LOAD_WIDE: u8 = 0x18;
    /// The bit of a code that says that the operand is a register, in classes that have it.
    pub const REGISTER: u8 = 0x08;

    /// The low three bits of the code: see [`class`].
    pub fn class(self) -> u8 {
        self.code & 7
    }

    /// How a load or a store accesses memory, in the high three bits of the code: see [`mode`].
    pub fn mode(self) -> u8 {
        self.code & 0xe0
    }

    /// Whether it is the first of the two of a 64-bit immediate load.
    pub fn is_wide(self) -> bool {
        self.code == Self::LOAD_WIDE
    }

    /// Bytes that a load or a store accesses.
    pub fn access_size(self) -> u32 {
        [4, 2, 1, 8][usize::from(self.code >> 3 & 3)]
    }

    /// The same load or store of so many bytes; nothing for a number that cannot be.
    pub fn with_access_size(self, bytes: u32) -> Option<Self> {
        let size = [4, 2, 1, 8].iter().position(|&size| size == bytes)? as u8;
        Some(Self { code: self.code & !0x18 | size << 3, ..self })
    }
}

/// Classes of instructions, in the low three bits of [`Insn::code`].
pub mod class {
    /// 64-bit immediate load.
    pub const LD: u8 = 0;
    /// Load.
    pub const LDX: u8 = 1;
    /// Store of an immediate operand.
    pub const ST: u8 = 2;
    /// Store of a register, and atomics.
    pub const STX: u8 = 3;
    /// 32-bit arithmetic.
    pub const ALU: u8 = 4;
    /// Jumps, calls and exit.
    pub const JMP: u8 = 5;
    /// Jumps that compare 32 bits.
    pub const JMP32: u8 = 6;
    /// 64-bit arithmetic.
    pub const ALU64: u8 = 7;
}

/// How loads and stores access memory: [`Insn::mode`].
pub mod mode {
    /// As it is.
    pub const MEM: u8 = 0x60;
    /// A load that extends the sign.
    pub const MEMSX: u8 = 0x80;
    /// An atomic operation.
    pub const ATOMIC: u8 = 0xc0;
}

/// What the source register of a 64-bit immediate load, or of a call, says of the immediate
/// (`BPF_PSEUDO_*` in include/uapi/linux/bpf.h). Where the kernel is given a file descriptor or a
/// BTF id, an [`Image`](crate::Image) has an index into a table of its own.
pub mod pseudo {
    /// 64-bit load: the address of map `imm`.
    pub const MAP: u8 = 1;
    /// 64-bit load: the address of byte `next.imm` of the value of map `imm`.
    pub const MAP_VALUE: u8 = 2;
    /// 64-bit load: the address of kernel variable or function `imm` of
    /// [`Image::ksyms`](crate::Image::ksyms).
    pub const KSYM: u8 = 3;
    /// 64-bit load: the address of the function at instruction `pc + imm + 1`.
    pub const FUNC: u8 = 4;
    /// Call: helper number `imm`, or [`Poison`](crate::image::Poison).
    pub const HELPER: u8 = 0;
    /// Call: the function at instruction `pc + imm + 1`.
    pub const CALL: u8 = 1;
    /// Call: kernel function `imm` of [`Image::kfuncs`](crate::Image::kfuncs).
    pub const KFUNC: u8 = 2;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_they_belong() {
        let insn = Insn::read([0x61, 0x21, 0xfe, 0xff, 0x78, 0x56, 0x34, 0x12]);
        assert_eq!(insn, Insn { code: 0x61, dst: 1, src: 2, off: -2, imm: 0x1234_5678 });
    }
}
