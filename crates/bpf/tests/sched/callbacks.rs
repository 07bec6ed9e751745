//! Helpers that call the program back: loops, walks of maps, timers.

use std::sync::Arc;

use scxlab_bpf::btf::{Builder, Field};
use scxlab_bpf::image::{Image, Map, MapType};
use scxlab_bpf::sched::BpfScheduler;
use scxlab_engine::Nanos;

use crate::build::{Asm, image_with, kernel};
use crate::maps::map;
use crate::{Ran, attached, enqueue, run};

const UPDATE: i32 = 2;
const DELETE: i32 = 3;
const KTIME: i32 = 5;
const FOR_EACH: i32 = 164;
const TIMER_INIT: i32 = 169;
const TIMER_SET_CALLBACK: i32 = 170;
const TIMER_START: i32 = 171;
const TIMER_CANCEL: i32 = 172;
const LOOP: i32 = 181;

const EBUSY: u64 = -16_i64 as u64;
const EINVAL: u64 = -22_i64 as u64;
const E2BIG: u64 = -7_i64 as u64;
const EDEADLK: u64 = -35_i64 as u64;
const EOPNOTSUPP: u64 = -95_i64 as u64;

fn sched(programs: &[(&str, Asm)], callbacks: &[(&str, Asm)], maps: Vec<Map>) -> BpfScheduler {
    let mut all = vec![("enqueue", enqueue())];
    all.extend_from_slice(programs);
    let image = image_with(&all, callbacks, maps);
    BpfScheduler::new(image, &kernel()).expect("it has all that it needs")
}

fn kept(ran: &Ran, count: usize) -> Vec<u64> {
    (0..count).map(|n| ran.counter(&format!("r{n}"))).collect()
}

/// `bpf_loop(rounds, callback, &r9, flags)`.
fn loops(asm: Asm, rounds: i32, callback: &'static str, flags: i32) -> Asm {
    asm.mov(1, rounds).func(2, callback).bss(3, 16 + 9 * 8).mov(4, flags).helper(LOOP)
}

/// Adds the round to what the context points to, and returns whether it is this round.
fn adds_until(round: i32) -> Asm {
    // if (i > round - 1) return 1
    Asm::new()
        .atomic_add(2, 0, 1)
        .mov(3, round - 1)
        .mov(0, 1)
        .jump_if_greater(1, 3, 1)
        .mov(0, 0)
        .exit()
}

#[test]
fn loops_go_on_until_the_callback_says_so() {
    let init = loops(Asm::new(), 10, "all", 0).keep(0);
    let init = loops(init, 10, "few", 0).keep(1);
    let init = loops(init, 0, "few", 0).keep(2);
    let init = loops(init, 5, "few", 1).keep(3);
    let init = loops(init, 8 * 1024 * 1024 + 1, "few", 0).keep(4).mov(0, 0).exit();
    let ran =
        run(sched(&[("init", init)], &[("all", adds_until(100)), ("few", adds_until(3))], vec![]));
    ran.is_well();
    assert_eq!(kept(&ran, 5), [10, 4, 0, EINVAL, E2BIG]);
    assert_eq!(ran.counter("r9"), 45 + 6);
}

#[test]
fn loops_within_loops() {
    let inner = loops(Asm::new(), 7, "adds", 0).mov(0, 0).exit();
    let init = loops(Asm::new(), 5, "inner", 0).keep(0).mov(0, 0).exit();
    let callbacks = [("inner", inner), ("adds", adds_until(100))];
    let ran = run(sched(&[("init", init)], &callbacks, vec![]));
    ran.is_well();
    assert_eq!((ran.counter("r0"), ran.counter("r9")), (5, 5 * 21));
}

#[test]
fn what_goes_wrong_in_a_callback_says_where() {
    let wild = Asm::new().imm64(1, 1 << 44).load(0, 1, 0).exit();
    let again = loops(Asm::new(), 2, "again", 0).exit();
    let init = |callback| loops(Asm::new(), 5, callback, 0).mov(0, 0).exit();
    for (callback, why) in
        [("wild", "in wild, instruction 2, called by init"), ("again", "32 frames")]
    {
        let callbacks = [("wild", wild.clone()), ("again", again.clone())];
        let ran = run(sched(&[("init", init(callback))], &callbacks, vec![]));
        let msg = &ran.engine.exit_info(ran.id).expect("it has ended").msg;
        assert!(msg.starts_with("ops.init: ") && msg.contains(why), "{msg}");
    }
    let init = Asm::new().mov(1, 3).copy(2, 10).mov(3, 0).mov(4, 0).helper(LOOP).exit();
    let ran = run(sched(&[("init", init)], &[], vec![]));
    let msg = &ran.engine.exit_info(ran.id).expect("it has ended").msg;
    assert!(msg.contains("bpf_loop(): its callback: there is no such function"), "{msg}");
}

/// Puts key and 10 times the key for 1 to 4 into map 1.
fn fill(mut asm: Asm) -> Asm {
    for key in 1..5 {
        asm = asm.put(10, -8, key).put(10, -16, key * 10).map(1, 1);
        asm = asm.frame(2, -8).frame(3, -16).mov(4, 0).helper(UPDATE);
    }
    asm
}

#[test]
fn a_walk_sees_each_element_also_if_that_is_deleted_meanwhile() {
    // r10 += key, r11 += value, r12 = map; the map's element is deleted.
    let sees = Asm::new()
        .copy(6, 1)
        .copy(7, 2)
        .load(8, 2, 0)
        .load(9, 3, 0)
        .bss(1, 16 + 10 * 8)
        .atomic_add(1, 0, 8)
        .bss(1, 16 + 11 * 8)
        .atomic_add(1, 0, 9)
        .bss(1, 16 + 12 * 8)
        .store(1, 0, 6)
        .store(10, -8, 8)
        .copy(1, 6)
        .frame(2, -8)
        .helper(DELETE)
        .mov(0, 0)
        .exit();
    let walk =
        |asm: Asm, flags| asm.map(1, 1).func(2, "sees").mov(3, 0).mov(4, flags).helper(FOR_EACH);
    let init = walk(fill(Asm::new()), 1).keep(0);
    let init = walk(init, 0).keep(1);
    let init = walk(init, 0).keep(2).map(0, 1).keep(3).mov(0, 0).exit();
    let maps = vec![map("hash", MapType::HASH, 8, 8, 9)];
    let ran = run(sched(&[("init", init)], &[("sees", sees)], maps));
    ran.is_well();
    assert_eq!(kept(&ran, 3), [EINVAL, 4, 0]);
    assert_eq!((ran.counter("r10"), ran.counter("r11")), (10, 100));
    assert_eq!(ran.counter("r12"), ran.counter("r3"));
    assert_eq!(ran.elements("hash"), []);
}

#[test]
fn a_walk_of_an_array_stops_where_the_callback_says() {
    // The key, of 4 bytes, is the index; 1 at the third.
    let sees =
        Asm::new().load32(1, 2, 0).mov(3, 1).mov(0, 1).jump_if_greater(1, 3, 1).mov(0, 0).exit();
    let init = Asm::new().map(1, 1).func(2, "sees").mov(3, 0).mov(4, 0).helper(FOR_EACH).keep(0);
    for map_type in [MapType::ARRAY, MapType::PERCPU_ARRAY] {
        let maps = vec![map("array", map_type, 4, 8, 5)];
        let init = init.clone().mov(0, 0).exit();
        let ran = run(sched(&[("init", init)], &[("sees", sees.clone())], maps));
        ran.is_well();
        assert_eq!(ran.counter("r0"), 3);
    }
}

/// Timers that the map of [`with_timers`] has room for.
const MANY: u32 = 150_000;

/// A map of timers, 16 bytes each after a number: map 1.
fn with_timers(
    programs: &[(&str, Asm)],
    callbacks: &[(&str, Asm)],
    map_type: MapType,
) -> BpfScheduler {
    let mut all = vec![("enqueue", enqueue())];
    all.extend_from_slice(programs);
    let image = image_with(&all, callbacks, vec![map("timers", map_type, 4, 24, MANY)]);
    let mut types = Builder::new();
    let long = types.int("unsigned long", 8, false);
    let words = types.array(long, 2);
    let timer = types.structure("bpf_timer", &[Field::new("__opaque", words)]);
    let fields = [Field::new("number", long), Field::new("timer", timer)];
    let value = types.structure("value", &fields);
    // The counters' types, and this one.
    let mut image = Image { btf: Arc::new(types.finish().expect("types")), ..image };
    image.globals.iter_mut().for_each(|global| global.ty = long);
    image.maps[1].value_type = value;
    BpfScheduler::new(image, &kernel()).expect("it has all that it needs")
}

/// r6 = the timer of element 2, which is there.
fn timer() -> Asm {
    timer_of(Asm::new().put(10, -8, 2))
}

/// r6 = the timer of the element that this leaves the key of at -8 of the frame.
fn timer_of(key: Asm) -> Asm {
    key.put(10, -32, 7)
        .put(10, -24, 0)
        .put(10, -16, 0)
        .map(1, 1)
        .frame(2, -8)
        .frame(3, -32)
        .mov(4, 0)
        .helper(UPDATE)
        .map(1, 1)
        .frame(2, -8)
        .helper(1)
        .copy(6, 0)
        .add_imm(6, 8)
}

fn init_timer(asm: Asm) -> Asm {
    asm.copy(1, 6).map(2, 1).mov(3, 1).helper(TIMER_INIT)
}

fn set_callback(asm: Asm, callback: &'static str) -> Asm {
    asm.copy(1, 6).func(2, callback).helper(TIMER_SET_CALLBACK)
}

fn start_timer(asm: Asm, nanos: i32, flags: i32) -> Asm {
    asm.copy(1, 6).mov(2, nanos).mov(3, flags).helper(TIMER_START)
}

fn cancel_timer(asm: Asm) -> Asm {
    asm.copy(1, 6).helper(TIMER_CANCEL)
}

/// Counts in `second`, keeps map, key and number, tries to cancel its own timer, and starts it anew.
fn rings() -> Asm {
    let asm = Asm::new().copy(6, 3).add_imm(6, 8).copy(0, 1).copy(7, 2).copy(8, 3).keep(20);
    let asm = asm.load32(0, 7, 0).keep(21).load(0, 8, 0).keep(22);
    let asm = asm.bss(1, 8).mov(2, 1).atomic_add(1, 0, 2);
    let asm = cancel_timer(asm).keep(23);
    start_timer(asm, 1_000_000, 0).keep(24).mov(0, 0).exit()
}

#[test]
fn a_timer_calls_back_with_its_map_key_and_value() {
    for map_type in [MapType::ARRAY, MapType::HASH] {
        let init = start_timer(timer(), 1_000_000, 0).keep(0);
        let init = init_timer(init).keep(1);
        let init = init_timer(init).keep(2);
        let init = start_timer(init, 1_000_000, 0).keep(3);
        let init = set_callback(init, "rings").keep(4);
        let init = start_timer(init, 1_000_000, 8).keep(5);
        let init = start_timer(init, 1_000_000, 0).keep(6).map(0, 1).keep(7);
        // An operation that holds the runqueue's lock cannot.
        let running =
            Asm::new().map(1, 1).put(10, -8, 2).frame(2, -8).helper(1).copy(6, 0).add_imm(6, 8);
        let running = cancel_timer(running).keep(8).mov(0, 0).exit();
        let programs = [("init", init.mov(0, 0).exit()), ("running", running)];
        let ran = run(with_timers(&programs, &[("rings", rings())], map_type));
        ran.is_well();
        assert_eq!(kept(&ran, 7), [EINVAL, 0, EBUSY, EINVAL, 0, EINVAL, 0]);
        let rang = ran.counter("second");
        assert!((190..200).contains(&rang), "in 200 ms: {rang}");
        assert_eq!(ran.counter("r20"), ran.counter("r7"), "the map");
        assert_eq!((ran.counter("r21"), ran.counter("r22")), (2, 7));
        assert_eq!((ran.counter("r23"), ran.counter("r24")), (EDEADLK, 0));
        assert_eq!(ran.counter("r8"), EOPNOTSUPP);
    }
}

/// Looking through all elements for the one that a timer is in takes minutes.
#[test]
fn many_timers_take_little_time() {
    let made = timer_of(Asm::new().store(10, -8, 1));
    let made = init_timer(made).bss(1, 16).atomic_add(1, 0, 0).mov(0, 0).exit();
    let init = loops(Asm::new(), MANY as i32, "made", 0).keep(1).mov(0, 0).exit();
    let began = std::time::Instant::now();
    let ran = run(with_timers(&[("init", init)], &[("made", made)], MapType::HASH));
    ran.is_well();
    assert_eq!(kept(&ran, 2), [0, MANY.into()]);
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
}

#[test]
fn a_timer_goes_off_at_a_time_of_the_clock() {
    // 1 is `BPF_F_TIMER_ABS`: half a second from now, and a time that is over.
    for (ahead, rings_by) in [(500_000_000, [0, 1]), (-1_000_000_000, [1, 1])] {
        let init = set_callback(init_timer(timer()), "rings").helper(KTIME).copy(2, 0);
        let init = init.add_imm(2, ahead).copy(1, 6).mov(3, 1).helper(TIMER_START).keep(0);
        let once = Asm::new().bss(1, 8).mov(2, 1).atomic_add(1, 0, 2).mov(0, 0).exit();
        let programs = [("init", init.mov(0, 0).exit())];
        let mut ran = attached(with_timers(&programs, &[("rings", once)], MapType::ARRAY), 1);
        let rang = [400, 600].map(|ms| {
            ran.engine.run_until(Nanos::from_millis(ms));
            ran.counter("second")
        });
        ran.is_well();
        assert_eq!((ran.counter("r0"), rang), (0, rings_by), "{ahead}");
    }
}

#[test]
fn what_is_cancelled_written_anew_or_deleted_does_not_go_off() {
    let armed = || start_timer(set_callback(init_timer(timer()), "rings"), 1_000_000, 0);
    let cancelled = cancel_timer(armed()).keep(0);
    // Without a callback it cannot be started, and nothing is to be cancelled.
    let cancelled = start_timer(cancelled, 1, 0).keep(1);
    let cancelled = cancel_timer(cancelled).keep(2).mov(0, 0).exit();
    let ran = run(with_timers(&[("init", cancelled)], &[("rings", rings())], MapType::ARRAY));
    ran.is_well();
    assert_eq!((kept(&ran, 3), ran.counter("second")), (vec![1, EINVAL, 0], 0));
    let anew = armed().map(1, 1).frame(2, -8).frame(3, -32).mov(4, 0).helper(UPDATE);
    let deleted = armed().map(1, 1).frame(2, -8).helper(DELETE);
    for (init, map_type) in
        [(anew.clone(), MapType::ARRAY), (anew, MapType::HASH), (deleted, MapType::HASH)]
    {
        let init = init.keep(0).mov(0, 0).exit();
        let ran = run(with_timers(&[("init", init)], &[("rings", rings())], map_type));
        ran.is_well();
        assert_eq!((ran.counter("r0"), ran.counter("second")), (0, 0), "{map_type:?}");
    }
}

#[test]
fn timers_are_in_values_of_their_map() {
    for (asm, why) in [
        (timer().add_imm(6, 4), "offset 12 of a value of map timers is no bpf_timer"),
        (timer().add_imm(6, -8), "offset 0 of a value of map timers is no bpf_timer"),
        (timer().frame(6, -8), "the timer is in no value of this map"),
    ] {
        let init = init_timer(asm).mov(0, 0).exit();
        let ran = run(with_timers(&[("init", init)], &[("rings", rings())], MapType::ARRAY));
        let msg = &ran.engine.exit_info(ran.id).expect("it has ended").msg;
        assert!(msg.contains(why), "{msg}");
    }
    // What goes wrong in a callback ends the scheduler, too.
    let wild = Asm::new().imm64(1, 1 << 44).load(0, 1, 0).exit();
    let init = start_timer(set_callback(init_timer(timer()), "wild"), 1, 0).mov(0, 0).exit();
    let ran = run(with_timers(&[("init", init)], &[("wild", wild)], MapType::ARRAY));
    let msg = &ran.engine.exit_info(ran.id).expect("it has ended").msg;
    assert!(msg.starts_with("the timer callback wild: invalid read"), "{msg}");
}

#[test]
fn a_clone_has_timers_of_its_own() {
    let init = start_timer(set_callback(init_timer(timer()), "rings"), 1_000_000, 0);
    let sched =
        with_timers(&[("init", init.mov(0, 0).exit())], &[("rings", rings())], MapType::HASH);
    let mut ran = attached(sched, 3);
    ran.engine.run_until(Nanos::from_millis(50));
    let mut clone = ran.clone();
    ran.engine.run_until(Nanos::from_millis(150));
    assert!(clone.counter("second") < 50);
    clone.engine.run_until(Nanos::from_millis(150));
    assert_eq!(ran.all_of_it(), clone.all_of_it());
    assert!(ran.counter("second") > 130);
}

/// A timer that is started again and again goes off when the last start says, and once.
#[test]
fn the_last_start_counts() {
    for (times, expected) in [
        (&[50_000_000, 20_000_000][..], 20_000_000),
        (&[20_000_000, 50_000_000], 50_000_000),
        (&[30_000_000, 10_000_000, 40_000_000], 40_000_000),
    ] {
        let once = Asm::new().bss(1, 8).mov(2, 1).atomic_add(1, 0, 2).helper(5).keep(1);
        let init = set_callback(init_timer(timer()), "once");
        let init = times.iter().fold(init, |asm, nanos| start_timer(asm, *nanos, 0));
        let init = init.helper(5).keep(0).mov(0, 0).exit();
        let callbacks = [("once", once.mov(0, 0).exit())];
        let ran = run(with_timers(&[("init", init)], &callbacks, MapType::ARRAY));
        ran.is_well();
        assert_eq!(ran.counter("second"), 1, "{times:?}");
        let after = ran.counter("r1") - ran.counter("r0");
        assert!((expected..expected + 10_000).contains(&after), "{times:?}: {after}");
    }
}

/// What the kernel does for a program is part of its budget: a copy of much memory, over and over.
#[test]
fn a_program_that_has_much_copied_does_not_go_on_for_ever() {
    let copies = Asm::new().bss(1, 0).mov(2, 256).copy(3, 1).helper(113).mov(0, 0).exit();
    let again = |asm: Asm| asm.mov(1, 8_000_000).func(2, "copies").mov(3, 0).mov(4, 0).helper(LOOP);
    let init = again(Asm::new()).mov(0, 0).exit();
    let ran = run(sched(&[("init", init)], &[("copies", copies)], vec![]));
    let msg = &ran.engine.exit_info(ran.id).expect("it has ended").msg;
    assert!(msg.contains("does not end"), "{msg}");
}

/// Each start moves a timer to the CPU that it is on.
#[test]
fn a_timer_goes_off_on_the_cpu_of_its_last_start() {
    let init = set_callback(init_timer(timer()), "rings").mov(0, 0).exit();
    let value = Asm::new().map(1, 1).put(10, -8, 2).frame(2, -8).helper(1).copy(6, 0).add_imm(6, 8);
    let running = start_timer(value, 100_000, 0).helper(8).keep(0).mov(0, 0).exit();
    let adds = |asm: Asm, counter| asm.bss(1, 16 + 8 * counter).atomic_add(1, 0, 6);
    let rings = adds(Asm::new().helper(8).copy(6, 0).add_imm(6, 1), 1);
    let rings = adds(rings.bss(1, 16).load(6, 1, 0).add_imm(6, 1), 2).mov(0, 0).exit();
    let programs = [("init", init), ("running", running)];
    let ran = run(with_timers(&programs, &[("rings", rings)], MapType::ARRAY));
    ran.is_well();
    let (here, last) = (ran.counter("r1"), ran.counter("r2"));
    assert!(here == last && here > 50, "{here} {last}");
}
