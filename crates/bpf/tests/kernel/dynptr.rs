//! Memory whose size is known at run time, objects that each CPU has one of, and maps that count.

use scxlab_bpf::image::{Map, MapType};
use scxlab_bpf::sched::BpfScheduler;

use crate::build::{Code, NODE, ROOM, Ran, ended, enqueue, image, kernel, run, work};

const FROM_MEM: i32 = 197;
const READ: i32 = 201;
const WRITE: i32 = 202;
const DATA: i32 = 203;

/// A dynptr of 16 bytes of `.bss`, whose last 8 are 0x1122, at -16.
fn of_bss() -> Code {
    Code::new()
        .bss(1, ROOM)
        .put(1, 0, 0)
        .put(1, 8, 0x1122)
        .mov(2, 16)
        .mov(3, 0)
        .frame(4, -16)
        .helper(FROM_MEM)
}

#[test]
fn what_is_in_a_dynptr() {
    let read = |offset| {
        Code::new().frame(1, -32).mov(2, 8).frame(3, -16).mov(4, offset).mov(5, 0).helper(READ)
    };
    let init = of_bss()
        .kept(0)
        .then(read(8))
        .kept(1)
        .load(0, 10, -32)
        .kept(2)
        .then(read(9))
        .kept(3)
        .frame(1, -16)
        .mov(2, 0)
        .frame(3, -32)
        .mov(4, 8)
        .mov(5, 0)
        .helper(WRITE)
        .kept(4)
        .bss(2, ROOM)
        .load(0, 2, 0)
        .kept(5)
        // All of it, and more than all.
        .frame(1, -16)
        .mov(2, 0)
        .mov(3, 16)
        .helper(DATA)
        .bss(2, ROOM)
        .minus(0, 2)
        .kept(6)
        .frame(1, -16)
        .mov(2, 1)
        .mov(3, 16)
        .helper(DATA)
        .kept(7)
        .done();
    let ran = run(&[("init", init)]).well();
    assert_eq!(ran.all(0), [0, 0, 0x1122, -7, 0, 0x1122, 0, 0]);
}

#[test]
fn a_dynptr_of_a_part() {
    let adjust =
        |start, end| Code::new().frame(1, -16).mov(2, start).mov(3, end).call("bpf_dynptr_adjust");
    let slice = |offset| {
        let code = Code::new().frame(1, -16).mov(2, offset).mov(3, 0).mov(4, 4);
        code.call("bpf_dynptr_slice")
    };
    let init = of_bss()
        .then(adjust(4, 12))
        .kept(0)
        .frame(1, -16)
        .call("bpf_dynptr_size")
        .kept(1)
        .then(adjust(0, 9))
        .kept(2)
        .then(adjust(2, 1))
        .kept(3)
        .then(slice(4))
        .bss(2, ROOM)
        .minus(0, 2)
        .kept(4)
        .then(slice(5))
        .kept(5)
        .frame(1, -16)
        .frame(2, -48)
        .call("bpf_dynptr_clone")
        .kept(6)
        // Bytes 4 to 11 of the memory.
        .frame(1, -48)
        .mov(2, 0)
        .mov(3, 8)
        .mov(4, -1)
        .call("bpf_dynptr_memset")
        .kept(7)
        .bss(2, ROOM)
        .load(0, 2, 8)
        .kept(8)
        .done();
    let ran = run(&[("init", init)]).well();
    assert_eq!(ran.all(0), [0, 8, -34, -22, 8, 0, 0, 0, 0xffff_ffff]);
}

#[test]
fn a_dynptr_of_nothing() {
    let copy = |to, from, at: i32| {
        let code = Code::new().frame(1, to).mov(2, 0).frame(3, from).mov(4, at).mov(5, 8);
        code.call("bpf_dynptr_copy")
    };
    let init = of_bss()
        .bss(1, ROOM)
        .mov(2, 16)
        // There are no flags.
        .mov(3, 1)
        .frame(4, -32)
        .helper(FROM_MEM)
        .kept(0)
        .bss(1, ROOM)
        .mov(2, 1 << 24)
        .mov(3, 0)
        .frame(4, -32)
        .helper(FROM_MEM)
        .kept(1)
        .frame(1, -32)
        .call("bpf_dynptr_is_null")
        .kept(2)
        .frame(1, -32)
        .call("bpf_dynptr_size")
        .kept(3)
        .frame(1, -32)
        .call("bpf_dynptr_is_rdonly")
        .kept(4)
        .frame(1, -32)
        .frame(2, -48)
        .call("bpf_dynptr_clone")
        .kept(5)
        .then(copy(-32, -16, 0))
        .kept(6)
        .then(copy(-16, -32, 0))
        .kept(7)
        .then(copy(-16, -16, 8))
        .kept(8)
        .then(copy(-16, -16, 9))
        .kept(9)
        .bss(2, ROOM)
        .load(0, 2, 0)
        .kept(10)
        .done();
    let ran = run(&[("init", init)]).well();
    assert_eq!(ran.all(0), [-22, -7, 1, -22, 0, -22, -22, -22, 0, -7, 0x1122]);
}

/// Nothing is checked when a dynptr is made here; where it leads is when it is used.
#[test]
fn a_dynptr_leads_nowhere_else() {
    let init = of_bss().frame(1, -16).mov(2, 0).store(1, 0, 2).put(1, 0, 64);
    let init = init.frame(1, -32).mov(2, 8).frame(3, -16).mov(4, 0).mov(5, 0).helper(READ);
    let msg = ended(&[("init", init.done())]);
    assert!(msg.starts_with("ops.init: "), "{msg}");
}

#[test]
fn each_cpu_has_its_own() {
    let of_cpu = |cpu| Code::new().copy(1, 8).mov(2, cpu).helper(153);
    let make = Code::new().mov(1, NODE).mov(2, 0).call("bpf_percpu_obj_new").copy(8, 0);
    let drop = || Code::new().copy(1, 8).mov(2, 0).call("bpf_percpu_obj_drop");
    let init = make
        .clone()
        .then(of_cpu(0))
        .copy(7, 0)
        .put(7, 0, 5)
        .then(of_cpu(1))
        .copy(6, 0)
        .load(0, 6, 0)
        .kept(0)
        .minus(6, 7)
        .keep(1, 6)
        .then(of_cpu(2))
        .kept(2)
        .then(drop())
        .done();
    let ran = run(&[("init", init)]).well();
    // A node has 72 bytes, for a multiple of 8.
    let [other, apart, none] = ran.all(0);
    assert_eq!((other, none), (0, 0), "it is zero, and there are two CPUs");
    assert!(apart >= 64 && apart % 8 == 0, "{apart}");
    let twice = make.then(drop()).then(drop()).done();
    let msg = ended(&[("init", twice)]);
    assert!(msg.contains("bpf_percpu_obj_drop(): the object is dropped already"), "{msg}");
    let other = Code::new().mov(1, NODE).mov(2, 0).call("bpf_obj_new").copy(8, 0);
    let msg = ended(&[("init", other.then(drop()).done())]);
    assert!(msg.contains("its argument 1 is no object of each CPU"), "{msg}");
}

#[test]
fn hashes_count() {
    let count = |map| Code::new().map(1, map).call("bpf_map_sum_elem_count");
    let add = |key| {
        let code = Code::new().frame(2, -8).put(2, 0, key).map(1, 2).frame(2, -8).frame(3, -8);
        code.mov(4, 0).helper(2)
    };
    let init = Code::new()
        .then(count(2))
        .kept(0)
        .then(add(1))
        .then(add(2))
        .then(add(1))
        .then(count(2))
        .kept(1)
        // An array does not.
        .then(count(0))
        .kept(2)
        .done();
    let mut image = image("sched_ext_ops", &[enqueue(), ("init", init)]);
    image.maps.push(Map {
        name: "hash".into(),
        map_type: MapType::HASH,
        key_size: 8,
        value_size: 8,
        max_entries: 4,
        ..Map::default()
    });
    let sched = BpfScheduler::new(image, &kernel()).expect("it has all that it needs");
    assert_eq!(Ran::new(sched, work(), 10).well().all(0), [0, 2, 0]);
}

#[test]
fn streams_are_two() {
    let print = |stream| {
        let code = Code::new().bss(2, ROOM).put(2, 0, 0x6968).mov(1, stream);
        code.mov(3, 0).mov(4, 0).call("bpf_stream_vprintk")
    };
    let init = print(1).kept(0).then(print(2)).kept(1).then(print(3)).kept(2);
    let ran = run(&[("init", init.done())]).well();
    assert_eq!(ran.all(0), [0, 0, -2]);
}

#[test]
fn who_runs() {
    let running = Code::op()
        .helper(15)
        .kept(0)
        .helper(80)
        .copy(8, 0)
        .keep(1, 8)
        .mov(1, 0)
        .helper(123)
        .kept(2)
        .mov(1, 2)
        .helper(123)
        .minus(0, 8)
        .kept(3)
        .mov(1, 3)
        .helper(123)
        .kept(4)
        .done();
    let ran = run(&[("running", running)]).well();
    let [ids, cgroup, root, own, deeper] = ran.all(0);
    assert_eq!((ids, root, deeper), (0, 1, 0));
    // The last that ran may be of the root's.
    assert!(cgroup == 1 || own == 0, "{cgroup} {own}");
}

#[test]
fn numbers_in_text() {
    let init = Code::new()
        .bss(6, ROOM)
        // "-12\0"
        .put(6, 0, 0x0032_312d)
        .copy(1, 6)
        .mov(2, 4)
        .mov(3, 10)
        .bss(4, ROOM + 8)
        .helper(105)
        .kept(0)
        .load(0, 6, 8)
        .kept(1)
        .copy(1, 6)
        .mov(2, 4)
        .mov(3, 10)
        .bss(4, ROOM + 8)
        .helper(106)
        .kept(2)
        .load(0, 6, 8)
        .kept(3)
        .done();
    assert_eq!(run(&[("init", init)]).well().all(0), [3, -12, -22, 0]);
}
