//! Text that ends with a zero, wherever it is (`bpf_strcmp()` and its like in Linux 7.2).

use super::negative;
use crate::sched::call::{Bad, Call};

/// `XATTR_SIZE_MAX`: characters that are looked at, at most.
const MOST: usize = 65_536;
/// Comparisons that count as one instruction of the program's budget.
const PER_INSTRUCTION: u64 = 2;
/// Comparisons in one call, at most: by then the program has used its budget up.
const COMPARISONS: u64 = PER_INSTRUCTION * 100_000_000;
/// Bytes that are read at once.
const CHUNK: usize = 64;
/// Below are user space, and what is no address: `copy_from_kernel_nofault_allowed()` with five-level
/// paging.
const KERNEL: u64 = 0xff << 56;

const ENOENT: i32 = 2;
const E2BIG: i32 = 7;
const EFAULT: i32 = 14;
const ERANGE: i32 = 34;

/// An error number, or what the function returns.
type Found = Result<i32, i32>;

/// What can be read at an address, to the zero.
struct Text(Vec<u8>);

impl Text {
    fn at(call: &mut Call<'_, '_>, addr: u64, most: usize) -> Result<Self, i32> {
        if addr < KERNEL {
            return Err(ERANGE);
        }
        let mut bytes = Vec::new();
        while bytes.len() < most {
            let at = addr.wrapping_add(bytes.len() as u64);
            let mut chunk = [0; CHUNK];
            let mut size = CHUNK.min(most - bytes.len());
            if call.read(at, &mut chunk[..size]).is_err() {
                size = 1;
                if call.read(at, &mut chunk[..size]).is_err() {
                    break;
                }
            }
            let end = chunk[..size].iter().position(|&byte| byte == 0);
            bytes.extend_from_slice(&chunk[..end.map_or(size, |end| end + 1)]);
            if end.is_some() {
                break;
            }
        }
        Ok(Self(bytes))
    }

    /// A byte of it; nothing that comes after its zero is asked for.
    fn byte(&self, at: usize) -> Result<u8, i32> {
        self.0.get(at).copied().ok_or(EFAULT)
    }
}

/// Both of what two arguments point to. Whether the kernel may read there is looked at first.
fn both(call: &mut Call<'_, '_>, most: usize) -> Result<[Text; 2], i32> {
    let [left, right, ..] = call.args;
    if right < KERNEL {
        return Err(ERANGE);
    }
    Ok([Text::at(call, left, most)?, Text::at(call, right, most)?])
}

/// As C returns it.
fn int(found: Found) -> Result<u64, Bad> {
    Ok(found.map_or_else(negative, |value| i64::from(value) as u64))
}

/// A number of characters, as far as it is looked at.
fn at_most(count: u64) -> usize {
    usize::try_from(count).unwrap_or(MOST).min(MOST)
}

/// What is returned where a walk came to the end of its count: of its own, or the kernel's.
fn at_end(count: usize, own: Found) -> Found {
    if count == MOST { Err(E2BIG) } else { own }
}

/// `tolower()`: the kernel's characters are those of ISO 8859-1.
fn lower(byte: u8) -> u8 {
    match byte {
        b'A'..=b'Z' | 0xc0..=0xd6 | 0xd8..=0xde => byte + 32,
        other => other,
    }
}

fn as_is(byte: u8) -> u8 {
    byte
}

/// `__bpf_strncasecmp()`.
fn compare(call: &mut Call<'_, '_>, fold: fn(u8) -> u8, len: u64) -> Found {
    let len = at_most(len);
    let [left, right] = both(call, MOST)?;
    for at in 0..len {
        let (a, b) = (fold(left.byte(at)?), fold(right.byte(at)?));
        if a != b {
            return Ok(if a < b { -1 } else { 1 });
        }
        if a == 0 {
            return Ok(0);
        }
    }
    at_end(len, Ok(0))
}

/// `bpf_strcmp()`.
pub(super) fn cmp(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    int(compare(call, as_is, u64::MAX))
}

/// `bpf_strcasecmp()`.
pub(super) fn case_cmp(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    int(compare(call, lower, u64::MAX))
}

/// `bpf_strncasecmp()`.
pub(super) fn n_case_cmp(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    int(compare(call, lower, call.args[2]))
}

/// The first character that is wanted, among so many. At the zero, `end` is returned.
fn first(
    call: &mut Call<'_, '_>,
    count: u64,
    wanted: impl Fn(u8) -> bool,
    end: impl Fn(i32) -> Found,
    short: impl Fn(i32) -> Found,
) -> Found {
    let count = at_most(count);
    let text = Text::at(call, call.args[0], count)?;
    for at in 0..count {
        match text.byte(at)? {
            byte if wanted(byte) => return Ok(at as i32),
            0 => return end(at as i32),
            _ => {}
        }
    }
    at_end(count, short(count as i32))
}

/// `bpf_strnchr()`.
pub(super) fn n_chr(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [_, count, wanted, ..] = call.args;
    int(first(call, count, |byte| byte == wanted as u8, |_| Err(ENOENT), |_| Err(ENOENT)))
}

/// `bpf_strchr()`.
pub(super) fn chr(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let wanted = call.args[1] as u8;
    int(first(call, u64::MAX, |byte| byte == wanted, |_| Err(ENOENT), Ok))
}

/// `bpf_strchrnul()`.
pub(super) fn chr_nul(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let wanted = call.args[1] as u8;
    int(first(call, u64::MAX, |byte| byte == wanted, Ok, Ok))
}

/// `bpf_strnlen()`.
pub(super) fn n_len(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    int(first(call, call.args[1], |byte| byte == 0, Ok, Ok))
}

/// `bpf_strlen()`.
pub(super) fn len(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    int(first(call, u64::MAX, |byte| byte == 0, Ok, Ok))
}

/// `bpf_strrchr()`: the last one. What is wanted is a whole `int`.
pub(super) fn r_chr(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    int(last(call))
}

fn last(call: &mut Call<'_, '_>) -> Found {
    let [addr, wanted, ..] = call.args;
    let text = Text::at(call, addr, MOST)?;
    let mut last = Err(ENOENT);
    for at in 0..MOST {
        let byte = text.byte(at)?;
        if i32::from(byte) == wanted as i32 {
            last = Ok(at as i32);
        }
        if byte == 0 {
            return last;
        }
    }
    Err(E2BIG)
}

/// How many characters come first that are all in a set, or all out of it.
fn span(call: &mut Call<'_, '_>, within: bool) -> Found {
    let [text, set] = both(call, MOST)?;
    let mut compared = 0;
    let mut count = || -> Found {
        for at in 0..MOST {
            let byte = text.byte(at)?;
            if byte == 0 {
                return Ok(at as i32);
            }
            let mut found = None;
            for other in 0..MOST {
                let known = set.byte(other)?;
                compared += 1;
                if known == byte || known == 0 {
                    found = Some(known != 0);
                    break;
                }
            }
            if found.ok_or(E2BIG)? != within {
                return Ok(at as i32);
            }
            if compared > COMPARISONS {
                return Err(E2BIG);
            }
        }
        Err(E2BIG)
    };
    let count = count();
    call.spent += compared / PER_INSTRUCTION;
    count
}

/// `bpf_strspn()`.
pub(super) fn spn(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    int(span(call, true))
}

/// `bpf_strcspn()`.
pub(super) fn c_spn(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    int(span(call, false))
}

/// `__bpf_strnstr()`: where the second text is in so many characters of the first.
fn find(call: &mut Call<'_, '_>, fold: fn(u8) -> u8, len: u64) -> Found {
    let [text, part] = both(call, 2 * MOST)?;
    let mut compared = 0;
    let mut search = || -> Found {
        for start in 0..MOST {
            let mut at = 0;
            while (start + at) as u64 <= len && at < MOST {
                let wanted = part.byte(at)?;
                if wanted == 0 {
                    return Ok(start as i32);
                }
                // The part may end where the characters do.
                if (start + at) as u64 == len {
                    break;
                }
                let byte = fold(text.byte(start + at)?);
                if byte == 0 {
                    return Err(ENOENT);
                }
                compared += 1;
                if byte != fold(wanted) {
                    break;
                }
                at += 1;
            }
            if at == MOST || compared > COMPARISONS {
                return Err(E2BIG);
            }
            if (start + at) as u64 == len {
                return Err(ENOENT);
            }
        }
        Err(E2BIG)
    };
    let found = search();
    call.spent += compared / PER_INSTRUCTION;
    found
}

/// `bpf_strstr()`.
pub(super) fn str(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    int(find(call, as_is, MOST as u64))
}

/// `bpf_strcasestr()`.
pub(super) fn case_str(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    int(find(call, lower, MOST as u64))
}

/// `bpf_strnstr()`.
pub(super) fn n_str(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    int(find(call, as_is, call.args[2]))
}

/// `bpf_strncasestr()`.
pub(super) fn n_case_str(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    int(find(call, lower, call.args[2]))
}
