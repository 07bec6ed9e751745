//! Text that ends with a zero.

use scxlab_bpf::sched::BpfScheduler;
use scxlab_engine::ExitKind;

use crate::build::{Code, ROOM, Ran, enqueue, image, kernel, run, work};

const ENOENT: i64 = -2;
const E2BIG: i64 = -7;
const EFAULT: i64 = -14;
const ERANGE: i64 = -34;

/// Where two texts are in the frame.
const FIRST: i32 = -64;
const SECOND: i32 = -128;

/// Puts a text there, and r2 is gone.
fn text(at: i32, text: &str) -> Code {
    let bytes = [text.as_bytes(), b"\0"].concat();
    bytes.chunks(8).enumerate().fold(Code::new(), |code, (n, part)| {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        code.imm64(2, u64::from_le_bytes(word)).store(10, (at + 8 * n as i32) as i16, 2)
    })
}

/// Calls it about a text, with what follows as its other arguments.
fn about(first: &str, others: Code, call: &'static str, counter: usize) -> Code {
    text(FIRST, first).frame(1, FIRST).then(others).call(call).kept(counter as i32)
}

/// What each of these calls returns.
fn results(calls: &[(&'static str, &str, &str, u64)]) -> Vec<i64> {
    let init =
        calls.iter().enumerate().fold(Code::new(), |code, (n, (call, first, other, len))| {
            let others = text(SECOND, other).frame(2, SECOND).imm64(3, *len);
            code.then(about(first, others, call, n))
        });
    let ran = run(&[("init", init.done())]).well();
    (0..calls.len()).map(|n| ran.n(n) as i64).collect()
}

#[test]
fn two_texts_are_compared() {
    let cases: [(&'static str, &str, &str, u64, i64); 12] = [
        ("bpf_strcmp", "abc", "abc", 0, 0),
        ("bpf_strcmp", "abc", "abd", 0, -1),
        ("bpf_strcmp", "abc", "ab", 0, 1),
        ("bpf_strcmp", "", "", 0, 0),
        // As numbers without a sign.
        ("bpf_strcmp", "\u{e4}", "z", 0, 1),
        ("bpf_strcmp", "ABC", "abc", 0, -1),
        ("bpf_strcasecmp", "aBc[", "AbC[", 0, 0),
        ("bpf_strcasecmp", "a[", "a{", 0, -1),
        ("bpf_strncasecmp", "ABCx", "abcy", 3, 0),
        ("bpf_strncasecmp", "ABCx", "abcy", 4, -1),
        ("bpf_strncasecmp", "a", "b", 0, 0),
        ("bpf_strncasecmp", "a", "A", u64::MAX, 0),
    ];
    let calls = cases.map(|(call, first, other, len, _)| (call, first, other, len));
    assert_eq!(results(&calls), cases.map(|case| case.4));
}

#[test]
fn a_part_and_a_set_are_looked_for() {
    let cases: [(&'static str, &str, &str, u64, i64); 18] = [
        ("bpf_strstr", "abcabd", "abd", 0, 3),
        ("bpf_strstr", "abcabd", "", 0, 0),
        ("bpf_strstr", "", "", 0, 0),
        ("bpf_strstr", "", "a", 0, ENOENT),
        ("bpf_strstr", "aab", "ab", 0, 1),
        ("bpf_strstr", "abc", "B", 0, ENOENT),
        ("bpf_strcasestr", "abc", "BC", 0, 1),
        ("bpf_strnstr", "abcabd", "abd", 5, ENOENT),
        ("bpf_strnstr", "abcabd", "abd", 6, 3),
        ("bpf_strnstr", "abc", "", 0, 0),
        ("bpf_strnstr", "abc", "a", 0, ENOENT),
        ("bpf_strncasestr", "abCABD", "abd", 6, 3),
        ("bpf_strspn", "aabbc", "ab", 0, 4),
        ("bpf_strspn", "aabb", "ab", 0, 4),
        ("bpf_strspn", "x", "", 0, 0),
        ("bpf_strcspn", "aabbc", "c", 0, 4),
        ("bpf_strcspn", "aabbc", "", 0, 5),
        ("bpf_strcspn", "", "c", 0, 0),
    ];
    let calls = cases.map(|(call, first, other, len, _)| (call, first, other, len));
    assert_eq!(results(&calls), cases.map(|case| case.4));
}

#[test]
fn characters_are_looked_for() {
    let byte = |byte: u8| Code::new().mov(2, byte.into());
    // Only the low byte of a `char` counts.
    let wide = |byte: u8| Code::new().mov(2, 0x100 + i32::from(byte));
    let counted = |count: u64, byte: u8| Code::new().imm64(2, count).mov(3, byte.into());
    let cases = [
        ("bpf_strlen", "", Code::new(), 0),
        ("bpf_strlen", "words of 16 bytes and more", Code::new(), 26),
        ("bpf_strnlen", "abc", Code::new().mov(2, 2), 2),
        ("bpf_strnlen", "abc", Code::new().imm64(2, u64::MAX), 3),
        ("bpf_strnlen", "abc", Code::new().mov(2, 0), 0),
        ("bpf_strchr", "abcb", byte(b'b'), 1),
        ("bpf_strchr", "abcb", wide(b'b'), 1),
        ("bpf_strchr", "abcb", byte(b'd'), ENOENT),
        ("bpf_strchr", "abcb", byte(0), 4),
        ("bpf_strchrnul", "abcb", byte(b'd'), 4),
        ("bpf_strchrnul", "abcb", byte(b'c'), 2),
        ("bpf_strnchr", "abcb", counted(2, b'c'), ENOENT),
        ("bpf_strnchr", "abcb", counted(3, b'c'), 2),
        ("bpf_strnchr", "abcb", counted(9, 0), 4),
        ("bpf_strrchr", "abcb", byte(b'b'), 3),
        ("bpf_strrchr", "abcb", byte(b'd'), ENOENT),
        ("bpf_strrchr", "abcb", byte(0), 4),
        // It takes an `int`.
        ("bpf_strrchr", "abcb", wide(b'b'), ENOENT),
    ];
    let init = cases.iter().enumerate().fold(Code::new(), |code, (n, (call, first, others, _))| {
        code.then(about(first, others.clone(), call, n))
    });
    let ran = run(&[("init", init.done())]).well();
    for (n, (call, first, _, result)) in cases.iter().enumerate() {
        assert_eq!(ran.n(n) as i64, *result, "{call}({first:?}), case {n}");
    }
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let init = Code::new().mov(1, 0).call("bpf_strlen").kept(0);
    let init = init.imm64(1, 0x5555_0000_1000).call("bpf_strlen").kept(1);
    // The kernel's half, where nothing is.
    let init = init.imm64(1, 0xffff_0000_0000_0000).call("bpf_strlen").kept(2);
    let init = init.then(text(FIRST, "a")).frame(1, FIRST).mov(2, 0).call("bpf_strcmp").kept(3);
    // Nothing is read for a count of none, but where it would be is looked at.
    let init = init.imm64(1, 0xffff_0000_0000_0000).mov(2, 0).call("bpf_strnlen").kept(4);
    let init = init.mov(1, 0).mov(2, 0).call("bpf_strnlen").kept(5);
    let ran = run(&[("init", init.done())]).well();
    assert_eq!(ran.all(0), [ERANGE, ERANGE, EFAULT, ERANGE, 0, ERANGE]);
}

/// So many characters behind the counters, then these, and nothing behind them.
fn long(bytes: usize, more: &[u8], init: Code) -> Ran {
    let mut image = image("sched_ext_ops", &[("init", init.done()), enqueue()]);
    let bss = [&vec![0; ROOM as usize], &vec![b'a'; bytes], more].concat();
    image.maps[0].value_size = bss.len() as u32;
    image.maps[0].initial = bss;
    let sched = BpfScheduler::new(image, &kernel()).expect("it has all that it needs");
    Ran::new(sched, work(), 20)
}

#[test]
fn text_has_an_end_or_is_too_long() {
    let lens = Code::new().bss(1, ROOM).call("bpf_strlen").kept(0);
    let lens = lens.bss(1, ROOM).mov(2, 65_535).call("bpf_strnlen").kept(1);
    let lens = lens.bss(1, ROOM).bss(2, ROOM).call("bpf_strcmp").kept(2);
    let lens = lens.bss(1, ROOM).bss(2, ROOM).mov(3, 10).call("bpf_strncasecmp").kept(3);
    assert_eq!(long(65_536, &[], lens.clone()).well().all(0), [E2BIG, 65_535, E2BIG, 0]);
    assert_eq!(long(65_535, &[], lens).well().all(0), [EFAULT, 65_535, EFAULT, 0]);
}

/// 65,536 times 60,000 comparisons are more than a program has instructions.
#[test]
fn a_search_has_an_end() {
    let (text, part) = (131_072, [&[b'a'; 60_000][..], b"b\0"].concat());
    let init = Code::new().bss(1, ROOM).bss(2, ROOM + text).call("bpf_strstr").kept(0);
    let ran = long(text as usize, &part, init);
    let msg = &ran.exit().expect("it has ended").msg;
    assert!(msg.contains("instructions, and does not end"), "{msg}");
}

/// `bpf_bprintf_prepare()`: text that is not there is empty; letters do not follow text. The program
/// goes on after that.
#[test]
fn a_format_that_is_wrong_ends_the_scheduler_and_not_the_program() {
    let said = |fmt: &str| {
        let code = text(FIRST, fmt).put(10, SECOND as i16, 0).frame(1, FIRST).frame(2, SECOND);
        let code = code.mov(3, 8).call("scx_bpf_error_bstr").count(0);
        let ran = run(&[("running", code.done())]);
        let info = ran.exit().expect("it has ended").clone();
        assert!(ran.n(0) > 0, "the program goes on");
        (info.kind, info.msg)
    };
    assert_eq!(said("<%s>"), (ExitKind::ErrorBpf, "<>".to_owned()));
    let failed = (ExitKind::Error, "format preparation failed (-22)".to_owned());
    assert_eq!(said("%sms"), failed);
    assert_eq!(said("%d\x01"), failed);
}
