//! Which kernels the engine can look like.

use std::fmt;
use std::str::FromStr;

use crate::object::version_code;

/// A version of the kernel, as in `--kernel-abi`.
///
/// What a version has is what the last stable release of it has that was looked at: see
/// `tests/real_btf.rs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 6.16, the oldest one.
    V6_16,
    /// 6.17.
    V6_17,
    /// 6.18.
    V6_18,
    /// 6.19.
    V6_19,
    /// 7.0.
    V7_0,
    /// 7.1, the first with sub-schedulers.
    V7_1,
    /// 7.2, the first with tids and cids, and the one whose behaviour the engine has.
    #[default]
    V7_2,
    /// 7.3.
    V7_3,
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Self; 8] = [
        Self::V6_16,
        Self::V6_17,
        Self::V6_18,
        Self::V6_19,
        Self::V7_0,
        Self::V7_1,
        Self::V7_2,
        Self::V7_3,
    ];

    /// The first two numbers of the release.
    pub const fn numbers(self) -> (u8, u8) {
        match self {
            Self::V6_16 => (6, 16),
            Self::V6_17 => (6, 17),
            Self::V6_18 => (6, 18),
            Self::V6_19 => (6, 19),
            Self::V7_0 => (7, 0),
            Self::V7_1 => (7, 1),
            Self::V7_2 => (7, 2),
            Self::V7_3 => (7, 3),
        }
    }

    /// `LINUX_VERSION_CODE` of its first release.
    pub const fn code(self) -> u32 {
        let (major, minor) = self.numbers();
        version_code(major, minor, 0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.numbers();
        write!(f, "{major}.{minor}")
    }
}

/// There is no such version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no kernel ABI `{0}`: there are {all}",
    all = Version::ALL.map(|version| version.to_string()).join(", ")
)]
pub struct UnknownVersion(String);

impl FromStr for Version {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        let is_it = |version: &Self| version.to_string() == text;
        Self::ALL.into_iter().find(is_it).ok_or_else(|| UnknownVersion(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_they_are_written() {
        for version in Version::ALL {
            assert_eq!(version.to_string().parse(), Ok(version));
        }
        assert!(Version::ALL.is_sorted_by_key(|version| version.code()));
        let wrong = "6.12".parse::<Version>().expect_err("it has none").to_string();
        assert!(wrong.starts_with("no kernel ABI `6.12`: there are 6.16, 6.17"), "{wrong}");
    }
}
