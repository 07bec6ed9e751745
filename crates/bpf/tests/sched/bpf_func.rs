//! Other helpers: locks, rings, text, clocks.

use std::sync::Arc;

use scxlab_bpf::btf::{Builder, Field};
use scxlab_bpf::image::{Image, MapType};
use scxlab_bpf::sched::{BpfScheduler, MapKey};
use scxlab_engine::Nanos;

use crate::build::{Asm, image_with, kernel};
use crate::maps::{failed, kept, map, with_maps};
use crate::{Ran, attached, enqueue, run};

const LOOKUP: i32 = 1;
const UPDATE: i32 = 2;
const KTIME: i32 = 5;
const TRACE_PRINTK: i32 = 6;
const PRANDOM: i32 = 7;
const PID_TGID: i32 = 14;
const PERF_READ: i32 = 22;
const PERF_OUTPUT: i32 = 25;
const PERF_READ_VALUE: i32 = 55;
const LOCK: i32 = 93;
const UNLOCK: i32 = 94;
const READ_USER: i32 = 112;
const JIFFIES: i32 = 118;
const RING_OUTPUT: i32 = 130;
const RING_RESERVE: i32 = 131;
const RING_SUBMIT: i32 = 132;
const RING_DISCARD: i32 = 133;
const RING_QUERY: i32 = 134;
const CURRENT_BTF: i32 = 158;
const COARSE: i32 = 160;
const SNPRINTF: i32 = 165;
const TRACE_VPRINTK: i32 = 177;
const STRNCMP: i32 = 182;
const XCHG: i32 = 194;
const USER_DRAIN: i32 = 209;

/// Flags of an update.
const NOEXIST: i32 = 1;
const EXIST: i32 = 2;
const F_LOCK: i32 = 4;

const EEXIST: u64 = -17_i64 as u64;
const EINVAL: u64 = -22_i64 as u64;
const EAGAIN: u64 = -11_i64 as u64;
const EFAULT: u64 = -14_i64 as u64;
const ENOENT: u64 = -2_i64 as u64;
const E2BIG: u64 = -7_i64 as u64;

/// A map of two values, each a number, a lock and a pointer of the kernel's: map 1.
fn with_lock(programs: &[(&str, Asm)]) -> BpfScheduler {
    let mut all = vec![("enqueue", enqueue())];
    all.extend_from_slice(programs);
    with_lock_in(MapType::ARRAY, &all)
}

/// The same, of these programs and with another map.
pub fn with_lock_in(map_type: MapType, programs: &[(&str, Asm)]) -> BpfScheduler {
    let image = image_with(programs, &[], vec![map("locked", map_type, 4, 24, 2)]);
    let mut types = Builder::new();
    let int = types.int("unsigned int", 4, false);
    let long = types.int("unsigned long", 8, false);
    let lock = types.structure("bpf_spin_lock", &[Field::new("val", int)]);
    let task = types.declare_struct("task_struct");
    let tagged = types.type_tag("kptr", task);
    let kptr = types.ptr(tagged);
    let fields = [Field::new("number", long), Field::new("lock", lock), Field::new("task", kptr)];
    let value = types.structure("value", &fields);
    let mut image = Image { btf: Arc::new(types.finish().expect("types")), ..image };
    image.globals.iter_mut().for_each(|global| global.ty = long);
    image.maps[1].value_type = value;
    BpfScheduler::new(image, &kernel()).expect("it has all that it needs")
}

/// r6 and r7 = the two values.
fn values() -> Asm {
    let value = |asm: Asm, index| asm.put(10, -8, index).map(1, 1).frame(2, -8).helper(LOOKUP);
    let asm = value(Asm::new(), 0).copy(6, 0);
    value(asm, 1).copy(7, 0)
}

fn lock(asm: Asm, value: u8, helper: i32) -> Asm {
    asm.copy(1, value).add_imm(1, 8).helper(helper)
}

/// Updates the first value with what is at r10 - 32.
fn update(asm: Asm, flags: i32) -> Asm {
    let asm = asm.put(10, -8, 0).put(10, -32, 7).put(10, -24, 0).put(10, -16, 0);
    asm.map(1, 1).frame(2, -8).frame(3, -32).mov(4, flags).helper(UPDATE)
}

/// With `BPF_F_LOCK`, and what comes before the lock is looked at.
#[test]
fn an_update_takes_the_lock_of_the_value() {
    let running = update(values().put(6, 8, 1), F_LOCK | NOEXIST).keep(0);
    let running = update(running, 0).keep(1).put(6, 8, 0);
    let running = update(running, F_LOCK).keep(2).load(0, 6, 0).keep(3).load32(0, 6, 8).keep(4);
    let ran = run(with_lock(&[("running", running.mov(0, 0).exit())]));
    ran.is_well();
    let found = ["r0", "r1", "r2", "r3", "r4"].map(|name| ran.counter(name));
    assert_eq!(found, [EEXIST, 0, 0, 7, 0]);
}

#[test]
fn a_lock_is_taken_and_given_back() {
    let running = lock(values(), 6, LOCK).load32(8, 6, 8);
    let running = lock(running, 6, UNLOCK).copy(0, 8).keep(0).load32(0, 6, 8).keep(1);
    let running = lock(running, 7, LOCK);
    let running = lock(running, 7, UNLOCK).mov(0, 0).exit();
    let ran = run(with_lock(&[("running", running)]));
    ran.is_well();
    assert_eq!((ran.counter("r0"), ran.counter("r1")), (1, 0));
}

#[test]
fn what_must_not_be_done_with_locks() {
    let taken = || lock(values(), 6, LOCK);
    for (init, why) in [
        (lock(taken(), 6, LOCK), "bpf_spin_lock(): the lock is taken already"),
        (lock(taken(), 7, LOCK), "bpf_spin_lock(): another lock is taken already"),
        (taken(), "the program ends with a bpf_spin_lock held"),
        (
            taken().helper(KTIME),
            "bpf_ktime_get_ns(): it cannot be called with a bpf_spin_lock held",
        ),
        (lock(values(), 6, UNLOCK), "bpf_spin_unlock(): the program does not hold this lock"),
        (lock(taken(), 7, UNLOCK), "bpf_spin_unlock(): the program does not hold this lock"),
        (values().copy(1, 6).helper(LOCK), "offset 0 of a value of map locked is no bpf_spin_lock"),
        // Written by the program itself, as if another one held it.
        (lock(values().put(6, 8, 1), 6, LOCK), "a deadlock"),
        (update(values().put(6, 8, 1), F_LOCK), "bpf_map_update_elem(): the lock is taken"),
        (update(values().put(6, 8, 1), F_LOCK | EXIST), "a deadlock"),
    ] {
        let Ran { engine, id, .. } = run(with_lock(&[("init", init.mov(0, 0).exit())]));
        let msg = &engine.exit_info(id).expect("it has ended").msg;
        assert!(msg.starts_with("ops.init: ") && msg.contains(why), "{why}: {msg}");
    }
}

#[test]
fn pointers_are_exchanged_where_there_is_one() {
    let xchg =
        |asm: Asm, value: u8, offset| asm.copy(1, value).add_imm(1, offset).copy(2, 8).helper(XCHG);
    let running = values().helper(CURRENT_BTF).copy(8, 0);
    let running = xchg(running, 6, 16).keep(0).mov(8, 0);
    let running = xchg(running, 6, 16).load_member(0, 0, "pid").keep(1).mov(0, 0).exit();
    let ran = run(with_lock(&[("running", running)]));
    ran.is_well();
    assert_eq!(ran.counter("r0"), 0);
    let pid = ran.counter("r1") as i32;
    assert!(ran.engine.live_tasks().any(|p| p.pid == pid), "{pid}");
    let init = xchg(values().mov(8, 0), 6, 0).mov(0, 0).exit();
    let Ran { engine, id, .. } = run(with_lock(&[("init", init)]));
    let msg = &engine.exit_info(id).expect("it has ended").msg;
    assert!(
        msg.contains("offset 0 of a value of map locked is no pointer of the kernel's"),
        "{msg}"
    );
}

#[test]
fn rings_take_records_until_they_are_full() {
    let output = |asm: Asm, size, flags| {
        asm.map(1, 1).frame(2, -16).mov(3, size).mov(4, flags).helper(RING_OUTPUT)
    };
    let reserve =
        |asm: Asm, size, flags| asm.map(1, 1).mov(2, size).mov(3, flags).helper(RING_RESERVE);
    let init = Asm::new().put(10, -16, 1).put(10, -8, 2);
    let init = output(init, 16, 0).keep(0);
    let init = output(init, 16, 4).keep(1);
    let init = reserve(init, 8, 1).keep(2);
    let init = reserve(init, 8, 0).put(0, 0, 3).copy(1, 0).mov(2, 0).helper(RING_SUBMIT);
    let init = reserve(init, 2048, 0).copy(1, 0).mov(2, 0).helper(RING_DISCARD);
    let init = reserve(init, 2048, 0).keep(3);
    let init = init.map(1, 1).mov(2, 0).helper(RING_QUERY).keep(4);
    let init = output(init, 9, 2).keep(5);
    let init = init.map(1, 2).mov(2, 0).mov(3, 0).mov(4, 0).helper(USER_DRAIN).keep(6);
    let init = init.map(1, 2).mov(2, 0).mov(3, 0).mov(4, 4).helper(USER_DRAIN).keep(7);
    let maps = || {
        vec![
            map("ring", MapType::RINGBUF, 0, 0, 4096),
            map("user", MapType::USER_RINGBUF, 0, 0, 4096),
        ]
    };
    let ran = run(with_maps(&[("init", init.mov(0, 0).exit())], maps()));
    ran.is_well();
    let kept: Vec<_> = (0..8).map(|n| ran.counter(&format!("r{n}"))).collect();
    assert_eq!(kept, [0, EINVAL, 0, 0, 24 + 16 + 2056, 0, 0, EINVAL]);
    let records = ran.elements("ring");
    let bytes: Vec<_> = records.iter().map(|record| record.values[0].len()).collect();
    assert_eq!(bytes, [16, 8, 9]);
    assert_eq!(records[1].key, MapKey::Place(1));
    assert_eq!(records[1].values[0], 3_u64.to_le_bytes());
    // A record that was submitted is not the program's any more.
    let late = reserve(Asm::new(), 8, 0).copy(6, 0).copy(1, 0).mov(2, 0).helper(RING_SUBMIT);
    let msg = failed(&[("init", late.put(6, 0, 1).exit())], maps());
    assert!(msg.contains("use after free") && msg.contains("map ring"), "{msg}");
    let twice = reserve(Asm::new(), 8, 0).copy(6, 0).copy(1, 0).mov(2, 0).helper(RING_SUBMIT);
    let twice = twice.copy(1, 6).mov(2, 0).helper(RING_DISCARD);
    let msg = failed(&[("init", twice.exit())], maps());
    assert!(msg.contains("bpf_ringbuf_discard(): its argument 1 is no reserved record"), "{msg}");
    // Full: 250 records of 16 bytes, and then no more.
    let full = (0..300).fold(Asm::new().put(10, -8, 0).put(10, -16, 0), |asm, _| output(asm, 8, 0));
    let ran = run(with_maps(&[("init", full.keep(0).mov(0, 0).exit())], maps()));
    assert_eq!(ran.counter("r0"), EAGAIN);
    assert_eq!(ran.elements("ring").len(), 255);
}

#[test]
fn nobody_listens_for_perf_s_events() {
    let output = |asm: Asm, flags: u64| {
        asm.mov(1, 0).map(2, 1).imm64(3, flags).frame(4, -8).mov(5, 8).helper(PERF_OUTPUT)
    };
    let init = output(Asm::new(), 0xffff_ffff).keep(0);
    let init = output(init, 5).keep(1);
    let init = output(init, 1 << 40).keep(2);
    // Without a length it has one for each CPU: map_set_def_max_entries() of libbpf.
    let events = |length| vec![map("events", MapType::PERF_EVENT_ARRAY, 4, 4, length)];
    assert_eq!(kept(init.clone(), events(0)), kept(init.clone(), events(2)));
    let kept = kept(init, events(2));
    assert_eq!(kept[..3], [ENOENT, E2BIG, EINVAL]);
}

/// As on a kernel where nobody has opened any: an error, and a value that is all 0.
#[test]
fn there_are_no_events_to_read() {
    let read = |asm: Asm, flags: u64| asm.map(1, 1).imm64(2, flags).helper(PERF_READ);
    let value = |asm: Asm, flags: u64, size| {
        let asm = asm.put(10, -8, 7).put(10, -24, 7).map(1, 1).imm64(2, flags);
        asm.frame(3, -24).mov(4, size).helper(PERF_READ_VALUE)
    };
    let init = read(Asm::new(), 0xffff_ffff).keep(0);
    let init = read(init, 2).keep(1);
    let init = value(init, 1, 24).keep(2).load(0, 10, -24).keep(3).load(0, 10, -8).keep(4);
    let init = value(init, 0, 16).keep(5).load(0, 10, -24).keep(6).load(0, 10, -8).keep(7);
    let init = value(init, 1 << 40, 24).keep(8);
    let kept = kept(init, vec![map("events", MapType::PERF_EVENT_ARRAY, 4, 4, 2)]);
    assert_eq!(kept[..9], [ENOENT, E2BIG, ENOENT, 0, 0, EINVAL, 0, 7, EINVAL]);
    let wrong = Asm::new().map(1, 0).mov(2, 0).helper(PERF_READ).mov(0, 0).exit();
    let msg = failed(&[("init", wrong)], Vec::new());
    assert!(msg.contains("bpf_perf_event_read(): its argument 1 is no array of events"), "{msg}");
}

/// Text at a counter, and at the next ones.
fn text(mut asm: Asm, counter: i32, text: &str) -> Asm {
    for (at, part) in text.as_bytes().chunks(8).enumerate() {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        let to = 16 + 8 * (counter + at as i32);
        asm = asm.imm64(2, u64::from_le_bytes(word)).bss(1, to).store(1, 0, 2);
    }
    asm
}

fn at(counter: i32) -> i32 {
    16 + 8 * counter
}

#[test]
fn what_is_printed_is_kept() {
    let init = text(Asm::new(), 10, "a %d b %s\n");
    let init = text(init, 15, "word");
    let print =
        |asm: Asm, size| asm.bss(1, at(10)).mov(2, size).mov(3, -7).bss(4, at(15)).mov(5, 9);
    // One argument more than it takes is fine; a format without its zero is not.
    let init = print(init, 11).helper(TRACE_PRINTK).keep(0);
    let init = print(init, 10).helper(TRACE_PRINTK).keep(1);
    let init = init.put(10, -16, 3).bss(0, at(15)).store(10, -8, 0);
    let vprintk = |asm: Asm, len| asm.bss(1, at(10)).mov(2, 11).frame(3, -16).mov(4, len);
    let init = vprintk(init, 16).helper(TRACE_VPRINTK).keep(2);
    let init = vprintk(init, 8).helper(TRACE_VPRINTK).keep(3);
    let init = vprintk(init, 15).helper(TRACE_VPRINTK).keep(4);
    // Into 8 bytes; and how long it would be.
    let init = init
        .bss(1, at(20))
        .mov(2, 8)
        .bss(3, at(10))
        .frame(4, -16)
        .mov(5, 16)
        .helper(SNPRINTF)
        .keep(5);
    // No room, no arguments: only how long.
    let init = init.mov(1, 0).mov(2, 0).bss(3, at(15)).mov(4, 0).mov(5, 0).helper(SNPRINTF).keep(8);
    let init = init.bss(1, at(15)).mov(2, 4).bss(3, at(15)).helper(STRNCMP).keep(6);
    let init = init.bss(1, at(10)).mov(2, 4).bss(3, at(15)).helper(STRNCMP).keep(7);
    let ran = run(with_maps(&[("init", init.mov(0, 0).exit())], vec![]));
    ran.is_well();
    let kept: Vec<_> = (0..9).map(|n| ran.counter(&format!("r{n}"))).collect();
    let sign = kept[7] as i64;
    assert_eq!(kept[..7], [12, EINVAL, 11, EINVAL, EINVAL, 12, 0]);
    assert_eq!(kept[8], 5);
    assert!(sign < 0, "`a` is before `w`");
    assert_eq!(ran.counter("r20").to_le_bytes(), *b"a 3 b w\0");
    let state = ran.engine.scheduler_state(ran.id);
    let (dropped, lines) = ran.sched.printed(state);
    assert_eq!((dropped, lines.collect::<Vec<_>>()), (0, vec!["a -7 b word", "a 3 b word"]));
}

#[test]
fn clocks_and_who_runs() {
    let running = Asm::new().load(6, 1, 0).helper(KTIME).keep(0).helper(COARSE).keep(1);
    let running = running.helper(JIFFIES).keep(2).helper(PRANDOM).keep(3).helper(PRANDOM).keep(4);
    let running = running.helper(PID_TGID).keep(5).load_member(0, 6, "pid").keep(6);
    let running = running.bss(1, at(7)).mov(2, 8).mov(3, 64).helper(READ_USER).keep(8);
    let mut ran = attached(with_maps(&[("running", running.mov(0, 0).exit())], vec![]), 1);
    ran.engine.run_until(Nanos::from_millis(101));
    ran.is_well();
    let [now, coarse, jiffies, one, two, ids, pid, _, read] =
        std::array::from_fn(|n| ran.counter(&format!("r{n}")));
    // An hour after the boot: what a scheduler keeps as 0 was long ago.
    assert!((3_600_095_000_000..=3_600_101_000_000).contains(&now), "{now}");
    // 250 ticks a second.
    assert_eq!((coarse, jiffies), (now / 4_000_000 * 4_000_000, now / 4_000_000));
    assert!(one != two && one >> 32 == 0 && two >> 32 == 0, "{one:#x} {two:#x}");
    // Before a task runs it is another one that does, or the same: there is a task, anyway.
    assert_eq!(ids >> 32, ids & 0xffff_ffff, "no threads: {ids:#x} {pid}");
    assert_eq!(read, EFAULT);
}

#[test]
fn pointers_are_exchanged_under_a_lock() {
    let running = lock(values(), 6, LOCK);
    let running = running.copy(1, 6).add_imm(1, 16).mov(2, 0).helper(XCHG).copy(9, 0);
    let running = lock(running, 6, UNLOCK).copy(0, 9).keep(0).mov(0, 0).exit();
    let ran = run(with_lock(&[("running", running)]));
    ran.is_well();
    assert_eq!(ran.counter("r0"), 0);
}

/// `copy_from_kernel_nofault_allowed()`, and what looks at the address before that.
#[test]
fn a_user_s_address_is_out_of_the_kernel_s_range() {
    const ERANGE: u64 = -34_i64 as u64;
    let read = |asm: Asm, helper, size, from: u64, counter| {
        asm.frame(1, -8).mov(2, size).imm64(3, from).helper(helper).keep(counter)
    };
    let running = read(Asm::new(), 113, 8, 0, 0);
    let running = read(running, 113, 0, 0, 1);
    let running = read(running, 115, 8, 0x7fff_0000_0000, 2);
    let running = read(running, 115, 0, 0, 3);
    let running = read(running, 4, 8, 0, 4);
    let running = read(running, 45, 8, 0, 5);
    let running = read(running, 113, 8, 0xff00_0123 << 32, 6);
    let ran = run(with_lock(&[("running", running.mov(0, 0).exit())]));
    ran.is_well();
    let found = ["r0", "r1", "r2", "r3", "r4", "r5", "r6"].map(|name| ran.counter(name));
    assert_eq!(found, [ERANGE, ERANGE, ERANGE, 0, EFAULT, EFAULT, EFAULT]);
}

#[test]
fn a_name_fills_all_that_there_is_room_for() {
    let running = (1..=8).fold(Asm::new(), |asm, word| asm.put(10, -8 * word, -1));
    let running = running.frame(1, -64).mov(2, 64).helper(16).keep(0);
    let running = running.load(0, 10, -56).keep(1).load(0, 10, -8).keep(2).mov(0, 0).exit();
    let ran = run(with_lock(&[("running", running)]));
    ran.is_well();
    assert_eq!(["r0", "r1", "r2"].map(|name| ran.counter(name)), [0; 3]);
}

/// `bpf_scx_btf_struct_access()`: any part of the number, and the rest stays.
#[test]
fn half_of_a_slice_is_written() {
    let at = |path| kernel().offset_of("task_struct", path).expect("it is there") as i16;
    let write = |asm: Asm, path, counter| {
        let asm = asm.imm64(2, 0x1_0000_0005).store_member(6, path, 2).mov(2, 7);
        let asm = asm.store32(6, at(path), 2).load_member(0, 6, path).keep(counter);
        asm.mov(2, 2).store32(6, at(path) + 4, 2).load_member(0, 6, path).keep(counter + 1)
    };
    let running = write(Asm::new().load(6, 1, 0), "scx.slice", 0);
    let running = write(running, "scx.dsq_vtime", 2).mov(0, 0).exit();
    let ran = run(with_lock(&[("running", running)]));
    ran.is_well();
    let found = ["r0", "r1", "r2", "r3"].map(|name| ran.counter(name));
    assert_eq!(found, [0x1_0000_0007, 0x2_0000_0007, 0x1_0000_0007, 0x2_0000_0007]);
}
