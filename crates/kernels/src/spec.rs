//! Which kernel is meant: a version, or a path.

use std::cmp::Ordering;
use std::fmt;
use std::path::PathBuf;

use crate::error::KernelError;

/// Releases are at most 64 bytes, as in `struct new_utsname`; so is all that names one.
const MAX_LEN: usize = 64;

/// A kernel as the user gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// The newest kernel of a version.
    Version(Version),
    /// An image.
    Path(PathBuf),
}

impl Spec {
    /// What begins with a digit and has no slash is a version; all else is a path.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(given: &str) -> Result<Self, KernelError> {
        if given.is_empty() {
            return Err(KernelError::BadVersion { given: given.to_owned() });
        }
        if given.contains('/') || !given.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(Self::Path(PathBuf::from(given)));
        }
        Version::parse(given).map(Self::Version)
    }
}

/// The beginning of a release, or all of it: `7.2`, `7.2.13`, `7.2.13+deb14-cloud-amd64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(String);

impl Version {
    /// # Errors
    /// No release can begin like this.
    pub fn parse(given: &str) -> Result<Self, KernelError> {
        if well_formed(given) {
            Ok(Self(given.to_owned()))
        } else {
            Err(KernelError::BadVersion { given: given.to_owned() })
        }
    }

    /// Whether `release` is one of this version. A number matches as a whole: 7.2 is no 7.20.
    pub fn matches(&self, release: &Release) -> bool {
        release
            .0
            .strip_prefix(&self.0)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a kernel calls itself: `uname -r`. Safe as a file name. Ordered by age, as far as names
/// tell it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Release(String);

impl Release {
    /// A release, unless it cannot be one: it begins with a digit, and consists of letters, digits
    /// and `.+-_~`.
    pub fn new(name: &str) -> Option<Self> {
        well_formed(name).then(|| Self(name.to_owned()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What orders releases: the dotted numbers; whether it is no release candidate; then what
    /// follows, its digits as numbers.
    fn rank(&self) -> (Vec<Number<'_>>, bool, Vec<Piece<'_>>) {
        let end = self.0.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(self.0.len());
        let (numbers, rest) = self.0.split_at(end);
        let mut numbers: Vec<_> = numbers.split('.').map(Number::new).collect();
        // 7.3 and 7.3.0 are the same, and older than 7.3.1.
        while numbers.last().is_some_and(|number| number.0.is_empty()) {
            numbers.pop();
        }
        let candidate = rest.starts_with("-rc") || rest.starts_with('~');
        (numbers, !candidate, pieces(rest))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Ord for Release {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Release {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn well_formed(name: &str) -> bool {
    name.len() <= MAX_LEN
        && name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || ".+-_~".contains(c))
}

/// A number of any length: its digits, without leading zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Number<'a>(&'a str);

impl<'a> Number<'a> {
    fn new(digits: &'a str) -> Self {
        Self(digits.trim_start_matches('0'))
    }
}

impl Ord for Number<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(other.0))
    }
}

impl PartialOrd for Number<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Piece<'a> {
    Text(&'a str),
    Number(Number<'a>),
}

/// `text` cut where digits begin or end.
fn pieces(mut text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    while let Some(first) = text.chars().next() {
        let digits = first.is_ascii_digit();
        let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
        let (piece, rest) = text.split_at(end);
        pieces.push(if digits { Piece::Number(Number::new(piece)) } else { Piece::Text(piece) });
        text = rest;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn release(name: &str) -> Release {
        Release::new(name).expect("a release")
    }

    #[test]
    fn versions_match_whole_numbers() {
        for (version, name, expected) in [
            ("7.2", "7.2.13+deb14-cloud-amd64", true),
            ("7.2", "7.2", true),
            ("7.2", "7.2-rc1", true),
            ("7.2", "7.20.1", false),
            ("7.2", "7.20", false),
            ("7.2", "17.2.1", false),
            ("7.2.1", "7.2.13", false),
            ("7.2.13", "7.2.13+deb14-cloud-amd64", true),
            ("7.2.13+deb14-cloud-amd64", "7.2.13+deb14-cloud-amd64", true),
            ("7.2.13+deb14-cloud", "7.2.13+deb14-cloud-amd64", true),
            ("7.2.13+deb1", "7.2.13+deb14-cloud-amd64", false),
            ("7", "7.2.13", true),
            ("6.1", "6.16.3", false),
        ] {
            let version = Version::parse(version).expect("a version");
            assert_eq!(version.matches(&release(name)), expected, "{version} {name}");
        }
    }

    #[test]
    fn versions_and_paths() {
        assert!(matches!(Spec::parse("7.2"), Ok(Spec::Version(_))));
        for path in ["./7.2", "/boot/vmlinuz-7.2", "bzImage", "7.2/bzImage", "v7.2"] {
            assert_eq!(Spec::parse(path).ok(), Some(Spec::Path(path.into())));
        }
        for neither in ["", "7.2 ", "7.2\n", "7,2", "7.2é", &"7".repeat(65)] {
            let error = Spec::parse(neither).expect_err(neither);
            assert!(matches!(error, KernelError::BadVersion { .. }), "{error}");
        }
    }

    #[test]
    fn releases_are_ordered_by_age() {
        let ordered = [
            "6.9.12",
            "6.16.3+deb13-cloud-amd64",
            "6.16.12+deb13-cloud-amd64",
            "7.1.13",
            "7.2.0-rc2",
            "7.2.0-rc10",
            "7.2",
            "7.2.1-9-generic",
            "7.2.1-10-generic",
            "7.2.9",
            "7.2.13",
            "7.3.4",
            "7.20.1",
            "99999999999999999999999999.1",
        ];
        for pair in ordered.windows(2) {
            assert!(release(pair[0]) < release(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn releases_are_file_names() {
        for name in ["", ".", "..", "../7.2", "7.2/x", "7.2\0", "-7", "seven", &"7".repeat(65)] {
            assert_eq!(Release::new(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in ".{0,80}") {
            let _ = Spec::parse(&text);
        }

        #[test]
        fn the_order_is_one(a in "[0-9]{1,3}(\\.[0-9]{1,2}){0,3}(-rc[0-9])?[+a-z0-9.-]{0,6}",
                            b in "[0-9]{1,3}(\\.[0-9]{1,2}){0,3}(-rc[0-9])?[+a-z0-9.-]{0,6}",
                            c in "[0-9]{1,3}(\\.[0-9]{1,2}){0,3}(-rc[0-9])?[+a-z0-9.-]{0,6}") {
            let (a, b, c) = (release(&a), release(&b), release(&c));
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a.cmp(&b) == Ordering::Equal, a == b);
            if a <= b && b <= c {
                prop_assert!(a <= c);
            }
        }
    }
}
