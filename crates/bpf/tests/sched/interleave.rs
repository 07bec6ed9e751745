//! Other CPUs in the middle of a callback.

use std::sync::Arc;

use scxlab_bpf::image::MapType;
use scxlab_bpf::sched::{BpfScheduler, Interleave, Race};
use scxlab_engine::{Config, Engine, Nanos};

use crate::bpf_func::with_lock_in;
use crate::build::{Asm, GLOBAL, image, kernel};
use crate::{Ran, blinkers, loaded};

/// Counts twice, and inserts into the global queue: `second` without, `first` with an atomic add.
fn counts() -> Asm {
    Asm::new()
        .load(6, 1, 0)
        .load(7, 1, 8)
        .bss(1, 8)
        .load(2, 1, 0)
        .add_imm(2, 1)
        .store(1, 0, 2)
        .bss(1, 0)
        .mov(2, 1)
        .atomic_add(1, 0, 2)
        .copy(1, 6)
        .imm64(2, GLOBAL)
        .mov(3, 5_000_000)
        .copy(4, 7)
        .kfunc(0)
        .mov(0, 0)
        .exit()
}

fn ran(interleave: Interleave, seed: u64, check: bool) -> Ran {
    ran_with(loaded(&[("enqueue", counts())]), interleave, seed, check)
}

fn ran_with(sched: BpfScheduler, interleave: Interleave, seed: u64, check: bool) -> Ran {
    let mut config = Config::new(4, Arc::new(blinkers(12)));
    (config.seed, config.check) = (seed, check);
    let mut engine = Engine::new(config).expect("a machine");
    let sched = Arc::new(sched.interleaved(interleave));
    let id = engine.attach(Arc::<BpfScheduler>::clone(&sched)).expect("attached");
    engine.run_until(Nanos::from_millis(300));
    Ran { sched, engine, id }
}

impl Ran {
    fn races(&self) -> Vec<Race> {
        self.sched.races(self.engine.scheduler_state(self.id)).0
    }

    fn overlapped(&self) -> u64 {
        self.engine.stats().callbacks_overlapped
    }
}

#[test]
fn an_update_that_is_not_atomic_gets_lost_and_is_named() {
    let whole = ran(Interleave::Off, 1, true);
    assert_eq!(whole.counter("first"), whole.counter("second"));
    assert_eq!((whole.overlapped(), whole.races()), (0, vec![]));
    let lost = (1..=20).map(|seed| {
        let ran = ran(Interleave::Instructions, seed, true);
        ran.is_well();
        assert!(ran.overlapped() > 0);
        let lost = ran.counter("first") - ran.counter("second");
        for race in ran.races() {
            assert_eq!(race.what, "second", "an atomic add does not race: {race:?}");
            assert_ne!(race.sides[0].cpu, race.sides[1].cpu);
            assert!(race.sides.iter().all(|side| side.program == "enqueue"), "{race:?}");
            // The load and the store, after two loads and the address.
            assert!(race.sides.iter().all(|side| [4, 6].contains(&side.insn)), "{race:?}");
        }
        let written: u64 = ran.races().iter().map(|race| race.overwritten).sum();
        assert_eq!(lost > 0, written > 0, "what was lost was seen: {lost}, {:?}", ran.races());
        lost
    });
    assert!(lost.sum::<u64>() > 0, "nothing was lost");
}

/// Between calls there is no place where an update could get lost: load and store have none
/// between them.
#[test]
fn calls_are_left_before_calls_alone() {
    for seed in 1..=5 {
        let ran = ran(Interleave::Calls, seed, true);
        ran.is_well();
        assert_eq!((ran.counter("first"), ran.races()), (ran.counter("second"), vec![]));
    }
    assert!((1..=5).any(|seed| ran(Interleave::Calls, seed, true).overlapped() > 0));
}

/// With `check` the engine goes on with a copy of itself wherever another CPU comes in the middle
/// of a callback. And some programs are cloned half-way, with all that is theirs; the clone runs to
/// the end by itself, and the program has to end as its clone did.
#[test]
fn a_clone_in_the_middle_of_a_callback_goes_on_as_the_original() {
    for mode in [Interleave::Calls, Interleave::Instructions] {
        for seed in 1..=3 {
            let (original, clone) = (ran(mode, seed, false), ran(mode, seed, true));
            assert!(original.overlapped() > 0);
            assert!(original.sched.clones() == 0 && clone.sched.clones() > 20);
            assert_eq!(original.all_of_it(), clone.all_of_it());
            assert_eq!(original.races(), clone.races());
        }
    }
}

#[test]
fn ten_at_once_do_not_disturb_each_other() {
    let alone = ran(Interleave::Instructions, 7, true);
    let others: Vec<_> = (0..10)
        .map(|_| {
            std::thread::spawn(|| {
                let ran = ran(Interleave::Instructions, 7, true);
                (ran.all_of_it(), ran.races())
            })
        })
        .collect();
    for other in others {
        assert_eq!(other.join().expect("it ends"), (alone.all_of_it(), alone.races()));
    }
}

/// A lock of the program's own: `first` is taken by an exchange that spins, and given back by a
/// store. Who finds it taken runs in the middle of its owner, and would spin for good: it comes
/// later.
#[test]
fn who_spins_waits() {
    let spins = Asm::new()
        .load(6, 1, 0)
        .load(7, 1, 8)
        .bss(1, 0)
        .mov(2, 1)
        .exchange(1, 0, 2)
        .jump_if_not(2, 0, -3)
        .bss(3, 8)
        .load(2, 3, 0)
        .add_imm(2, 1)
        .store(3, 0, 2)
        .mov(2, 0)
        .store(1, 0, 2)
        .copy(1, 6)
        .imm64(2, GLOBAL)
        .mov(3, 5_000_000)
        .copy(4, 7)
        .kfunc(0)
        .mov(0, 0)
        .exit();
    let sched = BpfScheduler::new(image(&[("enqueue", spins)]), &kernel()).expect("all is there");
    let ran = ran_with(sched, Interleave::Instructions, 3, true);
    ran.is_well();
    assert!(ran.overlapped() > 0 && ran.counter("second") > 100);
    assert!(ran.engine.stats().overlaps_taken_back > 0, "nobody found it taken");
    let lost: u64 = ran.races().iter().map(|race| race.overwritten).sum();
    assert_eq!(lost, 0, "{:?}", ran.races());
}

/// Tasks with an odd pid count in one half of a value under its lock, a while before they count in
/// the other; the rest clear both with `BPF_F_LOCK`, which waits for that lock: nobody sees halves
/// that differ.
#[test]
fn an_update_with_the_lock_waits_for_its_owner() {
    let key = || Asm::new().put(10, -8, 0).map(1, 1).frame(2, -8);
    let insert =
        || Asm::new().copy(1, 6).imm64(2, GLOBAL).mov(3, 5_000_000).copy(4, 7).kfunc(0).mov(0, 0);
    let clear = key().put(10, -32, 0).put(10, -24, 0).put(10, -16, 0).frame(3, -32).mov(4, 4);
    let clear = clear.helper(2).then(insert()).exit();
    // The value's number is at 0, its lock at 8; the halves are those of the number.
    let mut count = key().helper(1).jump_if_not(0, 0, 2).mov(0, 0).exit().copy(8, 0);
    count = count.copy(1, 8).add_imm(1, 8).helper(93);
    count = count.load32(2, 8, 0).add_imm(2, 1).store32(8, 0, 2);
    for _ in 0..60 {
        count = count.mov(3, 0);
    }
    count = count.load32(2, 8, 4).add_imm(2, 1).store32(8, 4, 2);
    count = count.load32(5, 8, 0).load32(9, 8, 4).copy(1, 8).add_imm(1, 8).copy(8, 5).helper(94);
    count = count.jump_if_equal(8, 9, 4).bss(1, 8).mov(2, 1).atomic_add(1, 0, 2);
    count = count.bss(1, 0).mov(2, 1).atomic_add(1, 0, 2);
    let enqueue = Asm::new().load(6, 1, 0).load(7, 1, 8).load_member(2, 6, "pid").and_imm(2, 1);
    let skip = clear.insns().len() as i16;
    let enqueue = enqueue.jump_if_not(2, 0, skip).then(clear).then(count).then(insert()).exit();
    for map_type in [MapType::ARRAY, MapType::HASH] {
        let mut taken_back = 0;
        for seed in 1..=5 {
            let sched = with_lock_in(map_type, &[("enqueue", enqueue.clone())]);
            let ran = ran_with(sched, Interleave::Instructions, seed, true);
            ran.is_well();
            assert!(ran.counter("first") > 100);
            assert_eq!(ran.counter("second"), 0, "{map_type:?}, seed {seed}");
            assert_eq!(ran.races(), []);
            taken_back += ran.engine.stats().overlaps_taken_back;
        }
        assert!(taken_back > 0, "nobody found it taken");
    }
}
