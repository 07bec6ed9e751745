//! What is refused, and why.

/// An instruction that is none, or not one that a program may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{function}, instruction {insn}: {reason}")]
pub struct DecodeError {
    /// The function's name.
    pub function: String,
    /// The instruction, from the function's first.
    pub insn: usize,
    /// What is wrong with it.
    pub reason: Refused,
}

/// Why an instruction is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Refused {
    #[error("{0:#04x} is no operation")]
    Opcode(u8),
    #[error("r{0} is no register")]
    Register(u8),
    #[error("r10 may not be written")]
    FramePointer,
    #[error("operation {0:#04x} with something in a field that it does not have")]
    Reserved(u8),
    #[error("{0} is no offset of a sign-extending move")]
    MoveWidth(i16),
    #[error("there is no byte swap of {0} bits")]
    SwapWidth(i32),
    #[error("{0:#x} is no atomic operation of this size")]
    Atomic(i32),
    #[error("a jump to {0}, out of the function")]
    JumpOut(i64),
    #[error("a jump to {0}, into the middle of a 64-bit load")]
    JumpIntoLoad(i64),
    #[error("a 64-bit load without its second half")]
    HalfLoad,
    #[error("the function runs off its end")]
    RunsOff,
    #[error("a function of no instructions, or of more than there are")]
    Extent,
    #[error("the function overlaps with {0}")]
    Overlap(String),
    #[error("a 64-bit load of unknown kind {0}")]
    PseudoLoad(u8),
    #[error("a call of unknown kind {0}")]
    PseudoCall(u8),
    #[error("there is no map {0}")]
    Map(i32),
    #[error("byte {offset} of the value of map {map}, which has {size}")]
    MapValue { map: String, offset: u32, size: u64 },
    #[error("there is no kernel variable {0}")]
    Ksym(i32),
    #[error("there is no kernel function {0}")]
    Kfunc(i32),
    #[error("no function starts at instruction {0}")]
    NoFunction(i64),
    #[error("a legacy packet load (BPF_ABS, BPF_IND); no sched_ext program has packets")]
    PacketLoad,
    #[error("an indirect call (callx), which no kernel takes; was a function not inlined?")]
    IndirectCall,
    #[error("a function with more than five arguments (stack arguments), which is not supported")]
    StackArguments,
    #[error("a cast between address spaces that are not 0 and 1")]
    AddressSpaces,
    #[error("a cast of an arena's pointer, without an arena")]
    NoArena,
    #[error("a cast of an arena's pointer, with more than one arena")]
    ManyArenas,
    #[error("jump table {map}: entry {entry} is no place in a function")]
    JumpTable { map: String, entry: usize },
}
