//! Programs of raw instructions, without an object, and what a kernel makes of each.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// Programs for `BPF_PROG_TEST_RUN`, of type `BPF_PROG_TYPE_SYSCALL`, and what they have in common: two
/// maps, which a 64-bit load names by their numbers instead of file descriptors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestRuns {
    /// Bytes of the value of map 0, an array of one element.
    pub value_size: u32,
    /// Where user space has map 1, an arena of 16 pages, of which only the first is there.
    pub arena_at: u64,
    /// The programs.
    pub programs: Vec<TestProgram>,
}

/// One program, and what it is run with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestProgram {
    /// Its instructions, 8 bytes each.
    pub insns: Bytes,
    /// What there is before each of its runs.
    pub inputs: Vec<TestData>,
}

/// The memory that a program shares with the outside, before a run of it, or after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestData {
    /// The context.
    pub ctx: Bytes,
    /// The value of map 0.
    pub value: Bytes,
    /// The first bytes of map 1; those behind them are zero.
    pub arena: Bytes,
}

/// What a kernel made of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestOutcome {
    /// It was not loaded.
    Refused {
        /// The error.
        errno: i32,
        /// The verifier's last words.
        why: String,
    },
    /// It was run with each input: what it returned, and what there was then.
    Ran {
        /// In the order of the inputs.
        runs: Vec<(u32, TestData)>,
        /// Whether its instructions were compiled for the processor, and not interpreted.
        jited: bool,
    },
}

/// Bytes, in text as hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub Vec<u8>);

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        let mut text = Self::with_capacity(2 * bytes.0.len());
        for byte in bytes.0 {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

impl TryFrom<String> for Bytes {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or("not a hexadecimal digit");
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
            return Err("an odd number of hexadecimal digits");
        };
        let byte = |&[high, low]: &[u8; 2]| Ok((digit(high)? << 4 | digit(low)?) as u8);
        pairs.iter().map(byte).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_hexadecimal_digits() {
        let text = serde_json::to_string(&Bytes(vec![0, 0x1f, 0xa0])).expect("text");
        assert_eq!(text, r#""001fa0""#);
        let read = |text: &str| serde_json::from_str::<Bytes>(text);
        assert_eq!(read(&text).expect("bytes"), Bytes(vec![0, 0x1f, 0xa0]));
        assert!(read(r#""001""#).is_err() && read(r#""0x""#).is_err() && read(r#""é""#).is_err());
    }
}
