//! What clang 22 makes of this for `-mcpu=v4`, beside the same in Rust.
//!
//! ```c
//! s64 divide(s64 a, s64 b, s32 c, s32 d) { return a / b * 3 + a % b * 5 + c / d * 7 + c % d * 11 + (signed char)a + (short)c; }
//! u64 swap(u64 a) { return __builtin_bswap64(a) ^ __builtin_bswap32(a) ^ __builtin_bswap16(a); }
//! u64 atomics(u64 *p, u32 *q, u64 v) {
//!     u64 r = __atomic_load_n(p, __ATOMIC_ACQUIRE);
//!     __atomic_store_n(q, (u32)v, __ATOMIC_RELEASE);
//!     r += __sync_fetch_and_add(p, v);
//!     r += __sync_val_compare_and_swap(p, r, 5);
//!     r += __atomic_exchange_n(q, (u32)r, 0);
//!     __sync_fetch_and_and(p, v | 0xff);
//!     __sync_fetch_and_xor(q, (u32)v);
//!     return r + *(int *)q;
//! }
//! u64 choose(u64 x, u64 *p, u32 which) {
//!     switch (which) {
//!     case 0: return x + 1;
//!     case 1: return x * p[1];
//!     case 2: return x ^ p[2];
//!     case 3: return p[3] / (x | 1);
//!     case 4: return x << 3;
//!     case 5: return p[0] = x;
//!     case 6: return p[1] - x;
//!     case 7: return ~x;
//!     case 8: return x % 7;
//!     case 9: return p[2] & x;
//!     case 10: return p[3] | x;
//!     case 11: return -x;
//!     case 12: return x >> 1;
//!     case 13: return p[0] + p[1];
//!     }
//!     return 99;
//! }
//! ```

use proptest::prelude::*;
use scxlab_bpf::image::Function;
use scxlab_bpf::machine::{Binding, Code, MapAddress, Memory, NoKernel, Region};
use scxlab_bpf::{Image, Insn};

use super::build::*;
use super::naive::EDGES;

#[rustfmt::skip]
const INSNS: [u64; 98] = [
    0x00000000001030bf, 0x00000000000815bf, 0x000000000000500f, 0x00000000000015bf,
    0x000000000001253f, 0x00000000000056bf, 0x0000000300000627, 0x000000000000600f,
    0x000000000000252f, 0x000000000000511f, 0x0000000500000127, 0x000000000000100f,
    0x00000000000031bc, 0x000000000001413c, 0x00000000000012bc, 0x0000000700000224,
    0x00000000002022bf, 0x000000000000200f, 0x000000000000412c, 0x000000000000131c,
    0x0000000b00000324, 0x00000000002031bf, 0x000000000000100f, 0x0000000000000095,
    0x00000000000012bf, 0x00000020000002d7, 0x00000000000010bf, 0x00000040000000d7,
    0x00000000000020af, 0x00000010000001d7, 0x00000000000010af, 0x0000000000000095,
    0x00000100000015db, 0x00000110000032c3, 0x00000000000034bf, 0x00000001000041db,
    0x000000000000540f, 0x00000005000005b7, 0x00000000000040bf, 0x000000f1000051db,
    0x000000000000400f, 0x00000000000034bf, 0x000000ff00000447, 0x00000000000005bc,
    0x000000e1000052c3, 0x00000051000041db, 0x000000a1000032c3, 0x000000000000500f,
    0x0000000000002181, 0x000000000000100f, 0x0000000000000095, 0x00000063000000b7,
    0x0000000d002c0326, 0x00000000000033bc, 0x0000000300000367, 0x0000000000000418,
    0x0000000000000000, 0x000000000000340f, 0x0000000000004379, 0x000000000000030d,
    0x0000000100000107, 0x0000000000220005, 0x0000000000000187, 0x0000000000200005,
    0x0000000300000167, 0x00000000001e0005, 0x0000000100000177, 0x00000000001c0005,
    0x0000000000102079, 0x000000000000105f, 0x00000000001a0005, 0x0000000000102079,
    0x00000000000010af, 0x0000000000170005, 0x0000000100000147, 0x0000000000182079,
    0x000000000000103f, 0x0000000000130005, 0xffffffff000001a7, 0x0000000000100005,
    0x0000000000082079, 0x000000000000102f, 0x00000000000e0005, 0x000000000000127b,
    0x00000000000b0005, 0x0000000000002179, 0x0000000000082079, 0x000000000000100f,
    0x0000000000080005, 0x0000000000082079, 0x000000000000101f, 0x0000000000050005,
    0x0000000000182079, 0x000000000000104f, 0x0000000000020005, 0x0000000700000197,
    0x00000000000010bf, 0x0000000000000095,
];
/// Of each function, its first instruction and how many it has.
const FUNCTIONS: [(&str, usize, usize); 4] =
    [("divide", 0, 24), ("swap", 24, 8), ("atomics", 32, 19), ("choose", 51, 47)];
/// The load of the jump table's address, and the table, in bytes of code.
const LOAD: usize = 55;
const TABLE: [usize; 14] = [480, 640, 568, 592, 512, 664, 712, 624, 760, 544, 736, 496, 528, 680];

/// A machine with these functions, and a region of bytes.
fn machine(bytes: Vec<u8>) -> (Machine, u64) {
    let mut image = Image {
        insns: INSNS.iter().map(|word| Insn::read(word.to_le_bytes())).collect(),
        functions: FUNCTIONS
            .map(|(name, start, len)| Function { name: name.into(), start, len })
            .to_vec(),
        ..Image::default()
    };
    assert_eq!(image.insns[LOAD].code, 0x18);
    image.insns[LOAD].src = 2;
    let mut table = map(".jumptables", 34, 8, TABLE.len() as u32);
    table.entries = TABLE.map(|offset| Some(offset / 8)).to_vec();
    let mut memory = Memory::new(1 << 20);
    let in_memory = Code::jump_table(&table);
    let region = memory.alloc(Region::read_only("the jump table"), in_memory).expect("room");
    image.maps.push(table);
    let address = MapAddress { value: region.base(), ..MapAddress::default() };
    let binding = Binding { maps: vec![address], ksyms: Vec::new() };
    let data = memory.alloc(Region::new("the data"), bytes).expect("there is room").base();
    (Machine::of(&image, &binding, memory), data)
}

fn call(machine: &mut Machine, function: usize, args: [u64; 5]) -> u64 {
    machine.thread.abort(&mut machine.memory);
    machine.thread.start(&mut machine.memory, &machine.code, function, args).expect("it is idle");
    machine.exit()
}

fn divide(a: i64, b: i64, c: i32, d: i32) -> i64 {
    let div = |a: i64, b: i64| if b == 0 { 0 } else { a.wrapping_div(b) };
    let rem = |a: i64, b: i64| if b == 0 { a } else { a.wrapping_rem(b) };
    let div32 = |a: i32, b: i32| if b == 0 { 0 } else { a.wrapping_div(b) };
    let rem32 = |a: i32, b: i32| if b == 0 { a } else { a.wrapping_rem(b) };
    let mut sum = div(a, b).wrapping_mul(3).wrapping_add(rem(a, b).wrapping_mul(5));
    sum = sum.wrapping_add(div32(c, d).wrapping_mul(7).into());
    sum = sum.wrapping_add(rem32(c, d).wrapping_mul(11).into());
    sum.wrapping_add((a as i8).into()).wrapping_add((c as i16).into())
}

fn choose(x: u64, p: &mut [u64; 4], which: u32) -> u64 {
    match which {
        0 => x.wrapping_add(1),
        1 => x.wrapping_mul(p[1]),
        2 => x ^ p[2],
        3 => p[3] / (x | 1),
        4 => x << 3,
        5 => {
            p[0] = x;
            x
        }
        6 => p[1].wrapping_sub(x),
        7 => !x,
        8 => x % 7,
        9 => p[2] & x,
        10 => p[3] | x,
        11 => x.wrapping_neg(),
        12 => x >> 1,
        13 => p[0].wrapping_add(p[1]),
        _ => 99,
    }
}

fn word() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), proptest::sample::select(&EDGES[..])]
}

proptest! {
    #[test]
    fn divides(a in word(), b in word(), c in word(), d in word()) {
        let (mut machine, _) = machine(Vec::new());
        let expected = divide(a as i64, b as i64, c as i32, d as i32);
        // A compiler may leave anything above a 32-bit argument.
        prop_assert_eq!(call(&mut machine, 0, [a, b, c, d, 0]), expected as u64);
    }

    #[test]
    fn swaps(a in word()) {
        let (mut machine, _) = machine(Vec::new());
        let expected = a.swap_bytes()
            ^ u64::from((a as u32).swap_bytes())
            ^ u64::from((a as u16).swap_bytes());
        prop_assert_eq!(call(&mut machine, 1, [a, 0, 0, 0, 0]), expected);
    }

    #[test]
    fn is_atomic(first in word(), same in any::<bool>(), v in word()) {
        let (mut machine, data) = machine([first.to_le_bytes(), [0; 8]].concat());
        let v = if same { 0 } else { v };
        let (mut p, mut q) = (first, v as u32);
        let mut r = p;
        r = r.wrapping_add(p);
        p = p.wrapping_add(v);
        let old = p;
        if p == r {
            p = 5;
        }
        r = r.wrapping_add(old);
        r = r.wrapping_add(q.into());
        q = (r.wrapping_sub(v as u32 as u64)) as u32;
        p &= v | 0xff;
        q ^= v as u32;
        r = r.wrapping_add(q as i32 as u64);
        prop_assert_eq!(call(&mut machine, 2, [data, data + 8, v, 0, 0]), r);
        let bytes = [p.to_le_bytes(), u64::from(q).to_le_bytes()].concat();
        prop_assert_eq!(machine.read(data, 16), bytes);
    }

    #[test]
    fn chooses(x in word(), p in proptest::array::uniform4(word()), which in 0..16_u32) {
        let (mut machine, data) = machine(p.iter().flat_map(|p| p.to_le_bytes()).collect());
        let mut after = p;
        let expected = choose(x, &mut after, which);
        prop_assert_eq!(call(&mut machine, 3, [x, data, which.into(), 0, 0]), expected);
        let mut bytes = [0; 32];
        machine.memory.read(&mut NoKernel, data, &mut bytes).expect("it is there");
        prop_assert_eq!(&bytes[..8], &after[0].to_le_bytes());
    }
}
