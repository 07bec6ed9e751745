//! Numbers in text: `bpf_strtol()` and `bpf_strtoul()`.

use super::map::bytes;
use super::negative;
use crate::sched::call::{Bad, Call};
use crate::sched::map::errno::EINVAL;

const ERANGE: i32 = 34;
/// `BPF_STRTOX_BASE_MASK`.
const BASE: u64 = 0x1f;
/// Characters of a number that are looked at, in `__bpf_strtoull()`.
const MOST: usize = 63;

/// Characters that were taken, whether there is a minus, and the number: `__bpf_strtoull()`.
fn parse(text: &[u8], flags: u64) -> Result<(u64, bool, u64), i32> {
    let base = match flags {
        0 | 8 | 10 | 16 => flags,
        _ => return Err(EINVAL),
    };
    let is_space = |c: &u8| matches!(c, b' ' | 9..=13);
    let spaces = text.iter().take_while(|c| is_space(c)).count();
    let is_negative = text.get(spaces) == Some(&b'-');
    let begin = spaces + usize::from(is_negative);
    let digits = &text[begin..];
    if digits.is_empty() {
        return Err(EINVAL);
    }
    let digits = &digits[..digits.len().min(MOST)];
    // `_parse_integer_fixup_radix()`.
    let at = |n: usize| digits.get(n).map_or(0, u8::to_ascii_lowercase);
    let prefix = at(0) == b'0' && at(1) == b'x';
    let base = match base {
        0 if prefix && at(2).is_ascii_hexdigit() => 16,
        0 if at(0) == b'0' => 8,
        0 => 10,
        base => base,
    };
    let skipped = if base == 16 && prefix { 2 } else { 0 };
    let (mut number, mut taken) = (0_u64, 0);
    for c in &digits[skipped..] {
        let Some(digit) = char::from(*c).to_digit(16).filter(|d| u64::from(*d) < base) else {
            break;
        };
        let next = number.checked_mul(base).and_then(|n| n.checked_add(digit.into()));
        number = next.ok_or(ERANGE)?;
        taken += 1;
    }
    if taken == 0 {
        return Err(EINVAL);
    }
    Ok(((begin + skipped + taken) as u64, is_negative, number))
}

/// Characters that were taken, and the number.
type Found = Result<(u64, u64), i32>;

fn signed(text: &[u8], flags: u64) -> Found {
    let (taken, is_negative, number) = parse(text, flags)?;
    const LEAST: u64 = 1 << 63;
    match is_negative {
        true if number > LEAST => Err(ERANGE),
        true => Ok((taken, number.wrapping_neg())),
        false if number >= LEAST => Err(ERANGE),
        false => Ok((taken, number)),
    }
}

fn unsigned(text: &[u8], flags: u64) -> Found {
    match parse(text, flags)? {
        (_, true, _) => Err(EINVAL),
        (taken, false, number) => Ok((taken, number)),
    }
}

/// Puts what is found, or 0, and says how many characters it took.
fn put(call: &mut Call<'_, '_>, find: fn(&[u8], u64) -> Found) -> Result<u64, Bad> {
    let [addr, len, flags, to, _] = call.args;
    let room = call.inner()?.memory.remaining(addr);
    if len > room {
        return Err(format!("there are {room} bytes at {addr:#x} for {len}").into());
    }
    // Spaces are skipped, however many there are.
    let text = bytes(call, addr, len.min(u64::from(u32::MAX)) as u32)?;
    let found = match flags & !BASE {
        0 => find(&text, flags),
        _ => Err(EINVAL),
    };
    let (result, number) = match found {
        Ok((taken, number)) => (taken, number),
        Err(errno) => (negative(errno), 0),
    };
    call.write(to, &number.to_le_bytes())?;
    Ok(result)
}

pub(super) fn strtol(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    put(call, signed)
}

pub(super) fn strtoul(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    put(call, unsigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_kernel_reads_numbers() {
        for (text, base, found) in [
            ("42", 0, Ok((2, 42))),
            (" \t-42 ", 10, Ok((5, -42))),
            ("0x1Fg", 0, Ok((4, 31))),
            ("0x1f", 16, Ok((4, 31))),
            ("1f", 16, Ok((2, 31))),
            ("017", 0, Ok((3, 15))),
            ("0x", 0, Ok((1, 0))),
            ("18", 8, Ok((1, 1))),
            ("-9223372036854775808", 10, Ok((20, i64::MIN))),
            ("-9223372036854775809", 10, Err(ERANGE)),
            ("9223372036854775808", 10, Err(ERANGE)),
            ("99999999999999999999", 10, Err(ERANGE)),
            ("x", 10, Err(EINVAL)),
            ("-", 10, Err(EINVAL)),
            ("  ", 10, Err(EINVAL)),
            ("", 10, Err(EINVAL)),
            ("1", 2, Err(EINVAL)),
        ] {
            let signed = signed(text.as_bytes(), base);
            assert_eq!(signed.map(|(taken, n)| (taken, n as i64)), found, "{text} in {base}");
        }
        assert_eq!(unsigned(b"18446744073709551615", 0), Ok((20, u64::MAX)));
        assert_eq!(unsigned(b"-1", 0), Err(EINVAL));
    }
}
