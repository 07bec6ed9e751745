//! Lengths of time as people write and read them.

use scxlab_engine::Nanos;

/// The longest run: a day.
pub const LONGEST: Nanos = Nanos::from_secs(24 * 60 * 60);

const UNITS: [(&str, u64); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads `10s`, `500ms`, `2m`, `1.5s`; a plain number is in seconds.
///
/// # Errors
/// What is wrong with it: no number, an unknown unit, no time at all, or more than a day.
pub fn parse(text: &str) -> Result<Nanos, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = match unit.trim() {
        "" => "s",
        unit => unit,
    };
    let per = UNITS.iter().find(|(name, _)| *name == unit).map(|&(_, per)| per);
    let form = || "give a length of time as in 10s, 500ms, 2m or 1.5s".to_owned();
    let nanos = per.and_then(|per| scaled(number, per)).ok_or_else(form)?;
    match nanos {
        0 => Err("a run takes time; give more than 0".to_owned()),
        nanos if nanos > LONGEST.0 => Err("at most 24h can be simulated in one run".to_owned()),
        nanos => Ok(Nanos(nanos)),
    }
}

/// As [`parse`], for a demo: the watchdog takes up to one and a half timeouts of 5 s after the loss.
///
/// # Errors
/// Those of [`parse`], and less than 10 s.
pub fn parse_demo(text: &str) -> Result<Nanos, String> {
    let time = parse(text)?;
    if time < Nanos::from_secs(10) {
        return Err("the watchdog takes up to 7.5 s after the loss; give at least 10s".to_owned());
    }
    Ok(time)
}

/// `number * per`, where `number` is decimal; too much is `u64::MAX`.
fn scaled(number: &str, per: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return None;
    }
    // Only digits are left, so what does not fit is too large.
    let whole = if whole.is_empty() { 0 } else { whole.parse().unwrap_or(u64::MAX) };
    let mut nanos = whole.saturating_mul(per);
    let mut place = per;
    for digit in fraction.bytes() {
        place /= 10;
        nanos = nanos.saturating_add(u64::from(digit - b'0') * place);
    }
    Some(nanos)
}

/// As short as it goes: `10 s`, `1.5 s`, `500 ms`.
pub fn short(t: Nanos) -> String {
    let (unit, per) = match t.0 {
        0..1_000 => ("ns", 1),
        1_000..1_000_000 => ("us", 1_000),
        1_000_000..1_000_000_000 => ("ms", 1_000_000),
        _ => ("s", 1_000_000_000),
    };
    let (whole, rest) = (t.0 / per, t.0 % per);
    if rest == 0 {
        return format!("{whole} {unit}");
    }
    let places = per.ilog10() as usize;
    let fraction = format!("{rest:0places$}");
    format!("{whole}.{} {unit}", fraction.trim_end_matches('0'))
}

/// To the nearest ms: `7.500 s`.
pub fn seconds(t: Nanos) -> String {
    let millis = t.0.saturating_add(500_000) / 1_000_000;
    format!("{}.{:03} s", millis / 1_000, millis % 1_000)
}

/// As `--duration` takes it, without loss.
pub fn exact(t: Nanos) -> String {
    let (per, unit) = match t.0 {
        ns if ns % 1_000_000_000 == 0 => (1_000_000_000, "s"),
        ns if ns % 1_000_000 == 0 => (1_000_000, "ms"),
        ns if ns % 1_000 == 0 => (1_000, "us"),
        _ => (1, "ns"),
    };
    format!("{}{unit}", t.0 / per)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, nanos) in [
            ("10s", 10_000_000_000),
            ("10", 10_000_000_000),
            ("500ms", 500_000_000),
            ("2m", 120_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5 s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("7us", 7_000),
            ("24h", LONGEST.0),
            ("0.0000000019s", 1),
        ] {
            assert_eq!(parse(text), Ok(Nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "s",
            ".",
            "-1s",
            "1,5s",
            "1e3",
            "10 parsecs",
            "1..5s",
            "ten",
            "0",
            "0s",
            "0.0ms",
            "0.1ns",
            "25h",
            "86400.000000001s",
            "99999999999999999999999s",
            "1s1s",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for nanos in [1, 999, 1_000, 1_500_000_000, 60_000_000_000, 123_456_789_012] {
            assert_eq!(parse(&exact(Nanos(nanos))), Ok(Nanos(nanos)));
            assert_eq!(parse(&short(Nanos(nanos))), Ok(Nanos(nanos)));
        }
        assert_eq!(short(Nanos(1_500_000_000)), "1.5 s");
        assert_eq!(short(Nanos(10_000_000_000)), "10 s");
        assert_eq!(seconds(Nanos(7_500_048_000)), "7.500 s");
        assert_eq!(seconds(Nanos(1_999_500_000)), "2.000 s");
    }
}
