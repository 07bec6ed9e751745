//! How large an object may be. More is refused before memory is taken for it. Schedulers stay
//! far below; what the kernel itself limits is named.

/// Bytes of a file.
pub const FILE: usize = 64 << 20;

/// Sections of a file.
pub const SECTIONS: usize = 1 << 14;

/// Symbols of a file.
pub const SYMBOLS: usize = 1 << 20;

/// Bytes of a section's or a symbol's name.
pub const NAME: usize = 512;

/// Instructions of all functions together; the kernel takes as many of one program
/// (`BPF_COMPLEXITY_LIMIT_INSNS`).
pub const INSNS: usize = 1_000_000;

/// Functions.
pub const FUNCTIONS: usize = 1 << 16;

/// What an object expects of a kernel by name.
pub const EXTERNS: usize = 1 << 14;

/// Variables of all sections together.
pub const VARIABLES: usize = 1 << 16;

/// Instructions that must not be reached.
pub const POISON: usize = 1 << 16;

/// Bytes of what is said of such an instruction; libbpf cuts it there, too.
pub const ABOUT: usize = 255;

/// Relocations of `.maps`, and of structures of operations.
pub const SLOTS: usize = 1 << 16;

/// Members of a map's definition.
pub const DEFINITION: usize = 64;

/// Members of a structure of operations.
pub const MEMBERS: usize = 4096;

/// Maps that are declared, and sections of data. (The kernel takes 64 of one program.)
pub const MAPS: usize = 4096;

/// Entries of a map of maps, and of a jump table.
pub const ENTRIES: usize = 1 << 16;

/// Structures of operations.
pub const OPS: usize = 256;

/// Bytes of a structure of operations.
pub const OPS_SIZE: usize = 1 << 16;

/// Bytes of all data sections together, `.bss` among them.
pub const DATA: usize = 256 << 20;

/// Bytes of the kernel's configuration that an object asks for.
pub const CONFIG: usize = 1 << 20;

/// Bytes of source text that instructions come from.
pub const LINES: usize = 64 << 20;

/// Bytes of one line of source text; what is longer is cut.
pub const LINE: usize = 512;

/// Types, members and enumerators that are looked at to match an object's types with a kernel's.
pub const MATCHING: u64 = 20_000_000;
