//! What went wrong, and where.

use std::fmt;

use super::code::Code;
use super::memory::{Denied, Memory, Place, frame};
use super::thread::{MAX_FRAMES, Thread};
use crate::image::Line;

/// Something that a program must not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The function.
    pub function: String,
    /// The instruction, from the function's first.
    pub insn: usize,
    /// The instruction's source, if the object says it.
    pub line: Option<Line>,
    /// The function that was started, if it is another one: the program.
    pub program: Option<String>,
    /// What it did.
    pub what: What,
}

/// What a program did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A load or store where it may not.
    Access {
        /// The address.
        addr: u64,
        /// Bytes.
        size: usize,
        /// Whether it is a store, or changes memory otherwise.
        write: bool,
        /// Why not.
        denied: Denied,
        /// What is there, or nearest.
        place: Place,
    },
    /// One function call too many.
    TooDeep,
    /// An indirect jump to where no jump table points.
    BadJump(u64),
    /// A call of the kernel that the kernel does not allow, and why: "scx_bpf_kick_cpu() is not
    /// allowed here".
    Call(String),
}

/// What the interpreter knows of a fault.
#[derive(Debug)]
pub(super) enum Cause {
    Access { addr: u64, size: usize, write: bool, denied: Denied },
    TooDeep,
    BadJump(u64),
}

impl Fault {
    pub(super) fn new(thread: &Thread, code: &Code, memory: &Memory, cause: Cause) -> Self {
        let what = match cause {
            Cause::Access { addr, size, write, denied } => {
                let place = match memory.place(addr) {
                    Place::Stack { id, offset, .. } if id == thread.stack => {
                        thread_frame(thread, code, offset)
                    }
                    place => place,
                };
                What::Access { addr, size, write, denied, place }
            }
            Cause::TooDeep => What::TooDeep,
            Cause::BadJump(addr) => What::BadJump(addr),
        };
        Self::at(thread, code, what)
    }

    /// A fault at the instruction where a thread is: what it called the kernel for must not be.
    /// `why` is what is wrong, without where.
    pub fn of_call(thread: &Thread, code: &Code, why: impl Into<String>) -> Self {
        Self::at(thread, code, What::Call(why.into()))
    }

    /// A fault at the instruction where a thread is: the kernel was given an address that it
    /// cannot use.
    pub fn of_access(
        thread: &Thread,
        code: &Code,
        memory: &Memory,
        access: (u64, usize, bool),
        denied: Denied,
    ) -> Self {
        let (addr, size, write) = access;
        Self::new(thread, code, memory, Cause::Access { addr, size, write, denied })
    }

    fn at(thread: &Thread, code: &Code, what: What) -> Self {
        let function = code.function_of(thread.pc);
        let name = |f: usize| code.functions.get(f).map(|f| f.name.clone());
        let start = function.map_or(0, |f| code.functions[f].start);
        let program = thread.backtrace().next().filter(|first| Some(*first) != function);
        Self {
            function: function.and_then(name).unwrap_or_default(),
            insn: thread.pc - start,
            line: code.line_of(thread.pc).cloned(),
            program: program.and_then(name),
            what,
        }
    }

    /// The address, if it is about one.
    pub fn addr(&self) -> Option<u64> {
        match self.what {
            What::Access { addr, .. } | What::BadJump(addr) => Some(addr),
            What::TooDeep | What::Call(_) => None,
        }
    }
}

fn thread_frame(thread: &Thread, code: &Code, offset: u64) -> Place {
    let (frame, fp) = frame(offset);
    let function = thread.frames.get(frame).and_then(|f| code.functions.get(f.function));
    let function = function.map(|f| f.name.clone());
    Place::Frame { function, fp }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}, instruction {}", self.what, self.function, self.insn)?;
        match &self.line {
            Some(line) if line.text.trim().is_empty() => {
                write!(f, " ({}:{}:{})", line.file, line.line, line.column)?;
            }
            Some(line) => {
                let text = line.text.trim();
                write!(f, " ({}:{}:{}: `{text}`)", line.file, line.line, line.column)?;
            }
            None => {}
        }
        match &self.program {
            Some(program) => write!(f, ", called by {program}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (addr, size, write, denied, place) = match self {
            Self::Access { addr, size, write, denied, place } => (addr, size, write, denied, place),
            Self::TooDeep => return write!(f, "a call deeper than {MAX_FRAMES} frames"),
            Self::BadJump(addr) => {
                return write!(f, "a jump to {addr:#x}, where no jump table points,");
            }
            Self::Call(why) => return write!(f, "{why},"),
        };
        let access = if *write { "write" } else { "read" };
        if *denied == Denied::Freed {
            f.write_str("use after free: ")?;
        }
        let bytes = if *size == 1 { "byte" } else { "bytes" };
        write!(f, "invalid {access} of {size} {bytes} at {addr:#x}: ")?;
        match place {
            _ if *denied == Denied::Code => f.write_str("the code of the programs")?,
            Place::Nowhere => f.write_str(&Place::nowhere(*addr))?,
            place => write!(f, "{place}")?,
        }
        match denied {
            Denied::ReadOnly => f.write_str(", which is read-only,"),
            Denied::NoPage => f.write_str(", where no page is,"),
            Denied::NoMemory => f.write_str(", for which no memory is left,"),
            Denied::Owner(why) => write!(f, ": {why};"),
            _ => f.write_str(","),
        }
    }
}
