//! Text that programs make: `bpf_bprintf_prepare()` and `bstr_printf()`.

use super::call::{Bad, Call};

/// `MAX_BPRINTF_VARARGS`.
const MAX_ARGS: usize = 12;
/// Room for the text, as in `struct scx_bstr_buf`, with its zero.
const LINE: usize = 1024;

/// The text of a format and its arguments, which are `size` bytes of 64-bit numbers at `data`
/// (`bstr_format()`). What is wrong with them ends the scheduler, and the program goes on with nothing.
pub(super) fn text(
    call: &mut Call<'_, '_>,
    fmt: u64,
    data: u64,
    size: u64,
) -> Result<Option<String>, Bad> {
    let size = size as u32 as usize;
    if !size.is_multiple_of(8) || size > MAX_ARGS * 8 || (size > 0 && data == 0) {
        return Ok(fails(call, format!("invalid data={data:#x} and data__sz={size}")));
    }
    let mut bytes = vec![0; size];
    if size > 0 && call.read(data, &mut bytes).is_err() {
        return Ok(fails(call, "failed to read data fields (-14)".to_owned()));
    }
    let args = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let fmt = string(call, fmt, LINE).ok_or("its format cannot be read")?;
    let printed = printf(&fmt, args, |addr| string(call, addr, LINE).unwrap_or_default());
    let Some(mut text) = printed else {
        return Ok(fails(call, "format preparation failed (-22)".to_owned()));
    };
    let mut end = text.len().min(LINE - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    Ok(Some(text))
}

fn fails(call: &mut Call<'_, '_>, why: String) -> Option<String> {
    call.with_core(|cx| cx.fault(why));
    None
}

/// The text at an address, up to its zero.
pub(super) fn string(call: &mut Call<'_, '_>, addr: u64, max: usize) -> Option<String> {
    let mut text = Vec::new();
    while text.len() < max {
        let mut byte = [0];
        call.read(addr.wrapping_add(text.len() as u64), &mut byte).ok()?;
        if byte[0] == 0 {
            break;
        }
        text.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// What a conversion is to look like.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    zeros: bool,
    left: bool,
    plus: bool,
    space: bool,
    width: usize,
}

/// Nothing if the kernel would refuse the format, or there are fewer arguments than it takes. It does
/// not mind more: a program without arguments gives one.
pub(super) fn printf(
    fmt: &str,
    args: Vec<u64>,
    mut string: impl FnMut(u64) -> String,
) -> Option<String> {
    if fmt.chars().any(|c| c.is_ascii_control() && !is_space(c)) {
        return None;
    }
    let mut args = args.into_iter();
    let mut out = String::new();
    let mut rest = fmt.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if rest.next_if_eq(&'%').is_some() {
            out.push('%');
            continue;
        }
        let mut look = Look::default();
        while let Some(flag) = rest.next_if(|c| "0+- ".contains(*c)) {
            match flag {
                '0' => look.zeros = true,
                '-' => look.left = true,
                '+' => look.plus = true,
                _ => look.space = true,
            }
        }
        while let Some(digit) = rest.next_if(char::is_ascii_digit) {
            look.width = (look.width * 10 + digit as usize - '0' as usize).min(LINE);
        }
        let mut long = 0;
        while long < 2 && rest.next_if_eq(&'l').is_some() {
            long += 1;
        }
        let number = |value: u64| if long == 0 { u64::from(value as u32) } else { value };
        match (rest.next()?, long) {
            ('d' | 'i', _) => {
                let value = args.next()?;
                let value = if long == 0 { i64::from(value as i32) } else { value as i64 };
                let sign = match (value < 0, look.plus, look.space) {
                    (true, ..) => "-",
                    (_, true, _) => "+",
                    (.., true) => " ",
                    _ => "",
                };
                look.put(&mut out, sign, &value.unsigned_abs().to_string());
            }
            ('u', _) => look.put(&mut out, "", &number(args.next()?).to_string()),
            ('x', _) => look.put(&mut out, "", &format!("{:x}", number(args.next()?))),
            ('X', _) => look.put(&mut out, "", &format!("{:X}", number(args.next()?))),
            ('c', 0) => {
                let c = char::from(args.next()? as u8);
                Look { zeros: false, ..look }.put(&mut out, "", &c.to_string());
            }
            ('s', 0) => {
                let text = string(args.next()?);
                may_follow(rest.peek())?;
                Look { zeros: false, ..look }.put(&mut out, "", &text);
            }
            ('p', 0) => match rest.next_if(|c| c.is_ascii_alphanumeric()) {
                // Addresses mean nothing outside; plain ones are hashed by the kernel.
                None | Some('x' | 'K') => {
                    look.put(&mut out, "", &format!("{:016x}", args.next()?));
                }
                // A symbol's name, or the address where there is none.
                Some('s' | 'S' | 'B') => look.put(&mut out, "", &format!("{:#x}", args.next()?)),
                Some('k' | 'u') => {
                    rest.next_if_eq(&'s')?;
                    let text = string(args.next()?);
                    may_follow(rest.peek())?;
                    look.put(&mut out, "", &text);
                }
                Some(_) => return None,
            },
            _ => return None,
        }
    }
    Some(out)
}

/// `isspace()`.
fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\x0b'
}

/// Whether this may follow text that is put in.
fn may_follow(next: Option<&char>) -> Option<()> {
    next.is_none_or(|&c| is_space(c) || c.is_ascii_punctuation()).then_some(())
}

impl Look {
    fn put(self, out: &mut String, sign: &str, text: &str) {
        let missing = self.width.saturating_sub(sign.len() + text.chars().count());
        let (spaces, zeros, after) = match (self.left, self.zeros) {
            (true, _) => (0, 0, missing),
            (false, true) => (0, missing, 0),
            (false, false) => (missing, 0, 0),
        };
        out.extend(std::iter::repeat_n(' ', spaces));
        out.push_str(sign);
        out.extend(std::iter::repeat_n('0', zeros));
        out.push_str(text);
        out.extend(std::iter::repeat_n(' ', after));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_kernel_prints() {
        let minus = -5_i64 as u64;
        for (fmt, args, text) in [
            ("plain 100%%", &[][..], "plain 100%"),
            ("%d %lld %u", &[minus, minus, minus], "-5 -5 4294967291"),
            ("%5d|%-5d|%05d|%+d", &[7, 7, minus, 7], "    7|7    |-0005|+7"),
            ("%llx %016llx %X", &[255, 255, 255], "ff 00000000000000ff FF"),
            ("%s and %8s", &[1, 2], "text 1 and   text 2"),
            ("%c", &[65], "A"),
            ("none", &[0], "none"),
            ("%s, %s|%s", &[1, 2, 3], "text 1, text 2|text 3"),
            ("%pS %ps %pB", &[255, 255, 255], "0xff 0xff 0xff"),
            ("tab\tand\x0b\n", &[], "tab\tand\x0b\n"),
        ] {
            let printed = printf(fmt, args.to_vec(), |addr| format!("text {addr}"));
            assert_eq!(printed.as_deref(), Some(text), "{fmt}");
        }
    }

    #[test]
    fn what_it_refuses() {
        let formats: [(&str, &[u64]); 9] = [
            ("%", &[]),
            ("%d", &[]),
            ("%q", &[1]),
            ("%ls", &[1]),
            ("%f", &[1]),
            ("%sms", &[1]),
            ("%pks0", &[1]),
            ("\x01", &[]),
            ("\x7f", &[]),
        ];
        for (fmt, args) in formats {
            assert_eq!(printf(fmt, args.to_vec(), |_| String::new()), None, "{fmt}");
        }
    }
}
