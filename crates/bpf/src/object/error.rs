//! What can be wrong with an object, or between an object and a kernel.

use crate::btf::{BtfError, LayoutError};

/// Why an object cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are not an ELF file for BPF.
    #[error("not a BPF object{0}")]
    File(String),
    /// A section is not what it must be.
    #[error("section {section}: {what}")]
    Section {
        /// Its name, or its number if it has none.
        section: String,
        /// What is wrong with it.
        what: String,
    },
    /// A section has types that make no sense.
    #[error("section {section}: {err}")]
    Btf {
        /// Its name.
        section: &'static str,
        /// What is wrong with them.
        err: BtfError,
    },
    /// A symbol is not what it must be.
    #[error("symbol {symbol}: {what}")]
    Symbol {
        /// Its name, or its number if it has none.
        symbol: String,
        /// What is wrong with it.
        what: String,
    },
    /// A function cannot be relocated.
    #[error("function {function}, instruction {insn}: {what}")]
    Function {
        /// Its name.
        function: String,
        /// The instruction, from 0 in the function.
        insn: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A program is of no kind that there is.
    #[error("program {program}: {what}")]
    Program {
        /// Its name.
        program: String,
        /// What is wrong with it.
        what: String,
    },
    /// A map's definition makes no sense.
    #[error("map {map}: {what}")]
    Map {
        /// Its name.
        map: String,
        /// What is wrong with it.
        what: String,
    },
    /// A structure of operations is not what the kernel takes.
    #[error("struct_ops {ops}: {what}")]
    StructOps {
        /// Its name.
        ops: String,
        /// What is wrong with it.
        what: String,
    },
    /// What the object needs and the kernel has not, or has in another form.
    #[error("{}", .0.join("\n"))]
    Extern(Vec<String>),
    /// The same, and some of it the kernel may have that the target stands in for
    /// ([`super::Target::stands_in`]), and without it there is no image to say so.
    #[error("{}", .0.join("\n"))]
    Lacking(Vec<String>),
    /// A variable cannot be set.
    #[error("{0}")]
    Variable(String),
    /// It is larger than what this loader takes: see [`super::limits`].
    #[error("{what}: {is} are more than {most}")]
    Limit {
        /// What there is too much of.
        what: String,
        /// How much there is.
        is: u64,
        /// How much there may be.
        most: u64,
    },
}

impl Error {
    pub(super) fn section(section: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Section { section: section.into(), what: what.into() }
    }

    pub(super) fn symbol(symbol: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Symbol { symbol: symbol.into(), what: what.into() }
    }

    pub(super) fn function(function: &str, insn: usize, what: impl Into<String>) -> Self {
        Self::Function { function: function.to_owned(), insn, what: what.into() }
    }

    pub(super) fn map(map: &str, what: impl Into<String>) -> Self {
        Self::Map { map: map.to_owned(), what: what.into() }
    }

    pub(super) fn ops(ops: &str, what: impl Into<String>) -> Self {
        Self::StructOps { ops: ops.to_owned(), what: what.into() }
    }

    /// Unless `is` is at most `most`.
    pub(super) fn limit(what: impl Into<String>, is: usize, most: usize) -> Result<(), Self> {
        if is <= most {
            return Ok(());
        }
        Err(Self::Limit { what: what.into(), is: is as u64, most: most as u64 })
    }
}

/// In a place that the caller names.
pub(super) fn in_map(map: &str) -> impl Fn(LayoutError) -> Error {
    move |err| Error::map(map, err.to_string())
}
