//! Text that programs make: `bpf_bprintf_prepare()` and `bstr_printf()`.

use scxlab_engine::flags::errno::{EINVAL, ENOSPC};

use super::call::{Bad, Call};

/// `MAX_BPRINTF_VARARGS`.
const MAX_ARGS: usize = 12;
/// `MAX_BPRINTF_BIN_ARGS`: room for the arguments, texts among them.
const ROOM: usize = 512;
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
    if size > 0 && !call.try_read(data, &mut bytes)? {
        return Ok(fails(call, "failed to read data fields (-14)".to_owned()));
    }
    let args = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let fmt = string(call, fmt, LINE).ok_or("its format cannot be read")?;
    let mut text = match printf(&fmt, args, |addr| byte(call, addr)) {
        Ok(text) => text,
        Err(errno) => return Ok(fails(call, format!("format preparation failed (-{errno})"))),
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
    let text = bytes_at(&mut |addr| byte(call, addr), addr, max)?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// The byte at an address, if it can be read.
pub(super) fn byte(call: &mut Call<'_, '_>, addr: u64) -> Option<u8> {
    let mut byte = [0];
    call.read(addr, &mut byte).ok()?;
    Some(byte[0])
}

/// The bytes at an address up to a zero, or so many.
fn bytes_at(byte: &mut impl FnMut(u64) -> Option<u8>, addr: u64, max: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while bytes.len() < max {
        match byte(addr.wrapping_add(bytes.len() as u64))? {
            0 => break,
            byte => bytes.push(byte),
        }
    }
    Some(bytes)
}

/// The arguments, and the room that is left for them: `bin_args`.
struct Args<B> {
    values: std::vec::IntoIter<u64>,
    byte: B,
    used: usize,
}

impl<B: FnMut(u64) -> Option<u8>> Args<B> {
    fn next(&mut self) -> Result<u64, i32> {
        self.values.next().ok_or(EINVAL)
    }

    fn takes(&mut self, size: usize) -> Result<(), i32> {
        self.used += size;
        if self.used > ROOM { Err(ENOSPC) } else { Ok(()) }
    }

    /// A number of 4 or 8 bytes.
    fn number(&mut self, size: usize) -> Result<u64, i32> {
        let value = self.next()?;
        self.used = self.used.next_multiple_of(4);
        self.takes(size)?;
        Ok(value)
    }

    fn char(&mut self) -> Result<u8, i32> {
        let value = self.next()?;
        self.takes(1)?;
        Ok(value as u8)
    }

    /// Text, as much as there is room for. What cannot be read is empty.
    fn text(&mut self) -> Result<String, i32> {
        let addr = self.next()?;
        let room = ROOM - self.used;
        if room == 0 {
            return Err(ENOSPC);
        }
        let text = bytes_at(&mut self.byte, addr, room - 1).unwrap_or_default();
        self.takes(text.len() + 1)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// An IP address of 4 or 16 bytes. One that cannot be read is zero.
    fn ip<const N: usize>(&mut self) -> Result<[u8; N], i32> {
        let addr = self.next()?;
        if ROOM - self.used < N {
            return Err(ENOSPC);
        }
        let mut bytes = [0; N];
        for (to, at) in bytes.iter_mut().zip(0..) {
            match (self.byte)(addr.wrapping_add(at)) {
                Some(byte) => *to = byte,
                None => return Ok([0; N]),
            }
        }
        Ok(bytes)
    }
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

/// The text, or the kernel's error: `EINVAL` for a format that it refuses or one with fewer arguments
/// than it takes, `ENOSPC` without room for them. It does not mind more: a program without arguments
/// gives one. `byte` reads memory.
pub(super) fn printf(
    fmt: &str,
    args: Vec<u64>,
    byte: impl FnMut(u64) -> Option<u8>,
) -> Result<String, i32> {
    if fmt.chars().any(|c| c.is_ascii_control() && !is_space(c)) {
        return Err(EINVAL);
    }
    let mut args = Args { values: args.into_iter(), byte, used: 0 };
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
        let size = if long == 0 { 4 } else { 8 };
        let number = |value: u64| if long == 0 { u64::from(value as u32) } else { value };
        match (rest.next().ok_or(EINVAL)?, long) {
            ('d' | 'i', _) => {
                let value = args.number(size)?;
                let value = if long == 0 { i64::from(value as i32) } else { value as i64 };
                let sign = match (value < 0, look.plus, look.space) {
                    (true, ..) => "-",
                    (_, true, _) => "+",
                    (.., true) => " ",
                    _ => "",
                };
                look.put(&mut out, sign, &value.unsigned_abs().to_string());
            }
            ('u', _) => look.put(&mut out, "", &number(args.number(size)?).to_string()),
            ('x', _) => look.put(&mut out, "", &format!("{:x}", number(args.number(size)?))),
            ('X', _) => look.put(&mut out, "", &format!("{:X}", number(args.number(size)?))),
            ('c', 0) => {
                let c = char::from(args.char()?);
                Look { zeros: false, ..look }.put(&mut out, "", &c.to_string());
            }
            ('s', 0) => {
                may_follow(rest.peek())?;
                Look { zeros: false, ..look }.put(&mut out, "", &args.text()?);
            }
            ('p', 0) => {
                pointer(&mut out, &mut rest, look, &mut args)?;
                // bstr_printf() passes over what else might say how it is to look.
                while rest.next_if(char::is_ascii_alphanumeric).is_some() {}
            }
            _ => return Err(EINVAL),
        }
    }
    Ok(out)
}

/// `%p` and what comes after it.
fn pointer<B: FnMut(u64) -> Option<u8>>(
    out: &mut String,
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    look: Look,
    args: &mut Args<B>,
) -> Result<(), i32> {
    match rest.next_if(char::is_ascii_alphanumeric) {
        // Addresses mean nothing outside; plain ones are hashed by the kernel.
        None | Some('x' | 'K') => look.put(out, "", &format!("{:016x}", args.number(8)?)),
        // A symbol's name, or the address where there is none.
        Some('s' | 'S') => look.put(out, "", &format!("{:#x}", args.number(8)?)),
        // What is text by now has no width any more.
        Some('B') => {
            let text = format!("{:#x}", args.next()?);
            args.takes(text.len() + 1)?;
            out.push_str(&text);
        }
        Some('k' | 'u') => {
            rest.next_if_eq(&'s').ok_or(EINVAL)?;
            may_follow(rest.peek())?;
            out.push_str(&args.text()?);
        }
        Some(kind @ ('i' | 'I')) => {
            let text = match rest.next() {
                Some('4') => ip4(kind, args.ip()?),
                Some('6') => ip6(kind, args.ip()?),
                _ => return Err(EINVAL),
            };
            args.takes(text.len() + 1)?;
            out.push_str(&text);
        }
        Some(_) => return Err(EINVAL),
    }
    Ok(())
}

/// `ip4_string()`: with leading zeros for `i`.
fn ip4(kind: char, [a, b, c, d]: [u8; 4]) -> String {
    match kind {
        'i' => format!("{a:03}.{b:03}.{c:03}.{d:03}"),
        _ => format!("{a}.{b}.{c}.{d}"),
    }
}

/// `ip6_string()`: without colons for `i`.
fn ip6(kind: char, bytes: [u8; 16]) -> String {
    let words = bytes.as_chunks::<2>().0.iter().map(|[a, b]| format!("{a:02x}{b:02x}"));
    words.collect::<Vec<_>>().join(if kind == 'i' { "" } else { ":" })
}

/// `isspace()`.
fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\x0b'
}

/// Whether this may follow text that is put in.
fn may_follow(next: Option<&char>) -> Result<(), i32> {
    let fine = next.is_none_or(|&c| is_space(c) || c.is_ascii_punctuation());
    fine.then_some(()).ok_or(EINVAL)
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

    /// Memory with text of so many bytes at an address: `text` and then its last digit.
    fn memory(addr: u64) -> Option<u8> {
        let text = format!("text {}\0", addr / 100).into_bytes();
        text.get(addr as usize % 100).copied()
    }

    #[test]
    fn as_the_kernel_prints() {
        let minus = -5_i64 as u64;
        for (fmt, args, text) in [
            ("plain 100%%", &[][..], "plain 100%"),
            ("%d %lld %u", &[minus, minus, minus], "-5 -5 4294967291"),
            ("%5d|%-5d|%05d|%+d", &[7, 7, minus, 7], "    7|7    |-0005|+7"),
            ("%llx %016llx %X", &[255, 255, 255], "ff 00000000000000ff FF"),
            ("%s and %8s", &[100, 200], "text 1 and   text 2"),
            ("%c", &[65], "A"),
            ("none", &[0], "none"),
            ("%s, %s|%s", &[100, 200, 300], "text 1, text 2|text 3"),
            ("%8pks|", &[100], "text 1|"),
            ("not read: %s.", &[50], "not read: ."),
            ("%pS %ps %pB", &[255, 255, 255], "0xff 0xff 0xff"),
            ("%pSR %pI4h", &[255, 100], "0xff 116.101.120.116"),
            ("%pI4 %pi4 %pI4", &[100, 101, 50], "116.101.120.116 101.120.116.032 0.0.0.0"),
            ("tab\tand\x0b\n", &[], "tab\tand\x0b\n"),
        ] {
            assert_eq!(printf(fmt, args.to_vec(), memory).as_deref(), Ok(text), "{fmt}");
        }
        let long = |_| Some(0x20);
        let six = "2020:2020:2020:2020:2020:2020:2020:2020";
        assert_eq!(printf("%pI6", vec![1], long).as_deref(), Ok(six));
        assert_eq!(printf("%pi6", vec![1], long).as_deref(), Ok(&*six.replace(':', "")));
    }

    #[test]
    fn what_it_refuses() {
        let formats: [(&str, &[u64]); 11] = [
            ("%", &[]),
            ("%d", &[]),
            ("%q", &[1]),
            ("%ls", &[1]),
            ("%f", &[1]),
            ("%sms", &[1]),
            ("%pks0", &[1]),
            ("%pI5", &[1]),
            ("%pI", &[1]),
            ("\x01", &[]),
            ("\x7f", &[]),
        ];
        for (fmt, args) in formats {
            assert_eq!(printf(fmt, args.to_vec(), |_| Some(0)), Err(EINVAL), "{fmt}");
        }
    }

    #[test]
    fn arguments_have_512_bytes() {
        // Text without an end takes all that is left, with the zero that is put there.
        let endless = |_| Some(b'x');
        let one = printf("%s", vec![1], endless).expect("it is cut off");
        assert_eq!(one, "x".repeat(511));
        for fmt in ["%s%s", "%s %d", "%s%c", "%s%p", "%s%pI4", "%s%pks"] {
            assert_eq!(printf(fmt, vec![1, 1], endless), Err(ENOSPC), "{fmt}");
        }
        // Numbers are aligned to 4.
        let ends = |len: u64| move |addr| Some(if addr < 1 + len { b'x' } else { 0 });
        assert!(printf("%s%d", vec![1, 1], ends(507)).is_ok());
        assert_eq!(printf("%s%d", vec![1, 1], ends(508)), Err(ENOSPC));
        assert!(printf("%s%lld", vec![1, 1], ends(503)).is_ok());
        assert_eq!(printf("%s%lld", vec![1, 1], ends(504)), Err(ENOSPC));
    }
}
