//! What programs own: objects, trees, lists, locks and pages of the arena.

use crate::build::{
    Code, NODE, NODE_KEY, NODE_LIST, OWNER_NEXT, OWNER_TREE, ROOM, Ran, ended, enqueue, image,
    kernel, run, type_of, work,
};
use scxlab_bpf::image::{Map, MapType, Program};
use scxlab_bpf::sched::BpfScheduler;

const LOOP: i32 = 181;
const KPTR_XCHG: i32 = 194;

/// An object with this number, in r6.
fn object(key: i32) -> Code {
    Code::new().mov(1, NODE).mov(2, 0).call("bpf_obj_new_impl").copy(6, 0).put(6, NODE_KEY, key)
}

fn add(key: i32) -> Code {
    object(key)
        .bss(1, ROOM)
        .copy(2, 6)
        .func(3, "cb.less")
        .mov(4, 0)
        .mov(5, 0)
        .call("bpf_rbtree_add_impl")
}

/// Takes the first node of the tree, and keeps its number.
fn take(counter: i32) -> Code {
    Code::new()
        .bss(1, ROOM)
        .call("bpf_rbtree_first")
        .copy(2, 0)
        .bss(1, ROOM)
        .call("bpf_rbtree_remove")
        .copy(6, 0)
        .load(0, 6, NODE_KEY)
        .kept(counter)
        .copy(1, 6)
        .mov(2, 0)
        .call("bpf_obj_drop_impl")
}

#[test]
fn trees_are_in_the_program_s_order() {
    let less = Code::new().load(3, 1, NODE_KEY).load(4, 2, NODE_KEY).less(3, 4).exit();
    let keys = [50, 10, 90, 30, 70, 20, 80, 60, 40, 55];
    let mut init = keys.iter().fold(Code::new(), |code, key| code.then(add(*key)));
    for n in 0..keys.len() {
        init = init.then(take(n as i32));
    }
    let init = init.bss(1, ROOM).call("bpf_rbtree_first").kept(20).done();
    let ran = run(&[("init", init), ("cb.less", less)]).well();
    assert_eq!(ran.all(0), [10, 20, 30, 40, 50, 55, 60, 70, 80, 90]);
    assert_eq!(ran.n(20), 0, "it is empty");
}

#[test]
fn a_node_is_in_one_tree_once() {
    let less = Code::new().mov(0, 0).exit();
    let init = add(1)
        // Once more: the tree keeps its own reference, and this one is dropped.
        .copy(1, 6)
        .mov(2, 0)
        .call("bpf_refcount_acquire_impl")
        .copy(7, 0)
        .bss(1, ROOM)
        .copy(2, 7)
        .func(3, "cb.less")
        .mov(4, 0)
        .mov(5, 0)
        .call("bpf_rbtree_add_impl")
        .kept(0)
        // It is not in another tree.
        .bss(1, ROOM + 16)
        .copy(2, 6)
        .call("bpf_rbtree_remove")
        .kept(1)
        .done();
    let ran = run(&[("init", init), ("cb.less", less)]).well();
    assert_eq!(ran.all(0), [-22, 0]);
}

#[test]
fn lists_have_two_ends() {
    let push = |key, call| {
        object(key).bss(1, ROOM).copy(2, 6).plus(2, NODE_LIST).mov(3, 0).mov(4, 0).call(call)
    };
    let pop = |call, counter| {
        Code::new().bss(1, ROOM).call(call).load(0, 0, NODE_KEY - NODE_LIST as i16).kept(counter)
    };
    let init = Code::new()
        .bss(1, ROOM)
        .call("bpf_list_pop_front")
        .kept(0)
        .then(push(1, "bpf_list_push_back_impl"))
        .then(push(2, "bpf_list_push_back_impl"))
        .then(push(3, "bpf_list_push_front_impl"))
        .then(push(4, "bpf_list_push_back_impl"))
        .then(pop("bpf_list_front", 1))
        .then(pop("bpf_list_pop_back", 2))
        .then(pop("bpf_list_pop_front", 3))
        .then(pop("bpf_list_pop_front", 4))
        .then(pop("bpf_list_back", 5))
        .bss(1, ROOM)
        .call("bpf_list_empty")
        .kept(6)
        .done();
    let ran = run(&[("init", init)]).well();
    assert_eq!(ran.all(0), [0, 3, 4, 3, 1, 2, 0]);
}

#[test]
fn an_object_is_dropped_once_and_freed_when_nobody_runs() {
    let twice = object(1)
        .copy(1, 6)
        .mov(2, 0)
        .call("bpf_obj_drop_impl")
        .copy(1, 6)
        .mov(2, 0)
        .call("bpf_obj_drop_impl")
        .done();
    let msg = ended(&[("init", twice)]);
    assert!(msg.contains("bpf_obj_drop_impl(): the object is dropped already"), "{msg}");
    let kept = object(1).bss(7, 0).store(7, 0, 6).copy(1, 6).mov(2, 0).call("bpf_obj_drop_impl");
    let later = Code::new().bss(7, 0).load(7, 7, 0).load(0, 7, NODE_KEY).done();
    let msg = ended(&[("init", kept.done()), ("running", later)]);
    assert!(msg.contains("use after free") && msg.contains("an object of struct node"), "{msg}");
    let wrong = Code::new().mov(1, 1).mov(2, 0).call("bpf_obj_new_impl").done();
    let msg = ended(&[("init", wrong)]);
    assert!(msg.contains("its argument 1 is no type"), "{msg}");
}

/// Looking through all that were dropped takes minutes.
#[test]
fn many_objects_are_dropped_in_little_time() {
    let drops = object(1).copy(1, 6).mov(2, 0).call("bpf_obj_drop_impl").done();
    let init = Code::new().mov(1, 500_000).func(2, "cb.drops").mov(3, 0).mov(4, 0).helper(LOOP);
    let began = std::time::Instant::now();
    let ran = run(&[("init", init.kept(0).done()), ("cb.drops", drops)]).well();
    assert_eq!(ran.n(0), 500_000);
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
}

/// The allocator's largest size is 4096 bytes, of which it needs 8, and it has none of 0.
#[test]
fn an_object_has_1_to_4088_bytes() {
    let made = ["empty", "large", "larger"].iter().zip(0..).fold(Code::new(), |code, (name, n)| {
        code.mov(1, type_of(name) as i32).mov(2, 0).call("bpf_obj_new_impl").kept(n)
    });
    let ran = run(&[("init", made.done())]).well();
    assert_eq!([0, 1, 2].map(|n| ran.n(n) != 0), [false, true, false]);
}

/// A new object that owns others, in this register.
fn owner(reg: u8) -> Code {
    Code::new().mov(1, type_of("owner") as i32).mov(2, 0).call("bpf_obj_new_impl").copy(reg, 0)
}

fn drop_of(reg: u8) -> Code {
    Code::new().copy(1, reg).mov(2, 0).call("bpf_obj_drop_impl")
}

/// Puts a new node into the list, the tree, or behind the pointer of what r8 points to, and its
/// address into the first word of `.bss`.
fn owned(how: &str) -> Code {
    let code = match how {
        "list" => object(1)
            .copy(1, 8)
            .copy(2, 6)
            .plus(2, NODE_LIST)
            .mov(3, 0)
            .mov(4, 0)
            .call("bpf_list_push_back_impl"),
        "tree" => object(1)
            .copy(1, 8)
            .plus(1, OWNER_TREE)
            .copy(2, 6)
            .func(3, "cb.less")
            .mov(4, 0)
            .mov(5, 0)
            .call("bpf_rbtree_add_impl"),
        // The list of an owner that is owned.
        _ => owner(7)
            .then(object(1))
            .copy(1, 7)
            .copy(2, 6)
            .plus(2, NODE_LIST)
            .mov(3, 0)
            .mov(4, 0)
            .call("bpf_list_push_back_impl")
            .copy(1, 8)
            .plus(1, OWNER_NEXT)
            .copy(2, 7)
            .helper(KPTR_XCHG),
    };
    code.bss(7, 0).store(7, 0, 6)
}

/// Reads what the first word of `.bss` points to.
fn read_later() -> Code {
    Code::new().bss(7, 0).load(7, 7, 0).load(0, 7, NODE_KEY).kept(1).done()
}

/// Two nodes of each kind, so that lists and trees are walked through.
#[test]
fn what_a_dropped_object_owns_goes_with_it() {
    let less = Code::new().mov(0, 0).exit();
    for how in ["list", "tree", "kptr"] {
        let first = if how == "kptr" { Code::new() } else { owned(how) };
        let init = owner(8).then(first).then(owned(how)).then(drop_of(8)).done();
        let msg = ended(&[("init", init), ("running", read_later()), ("cb.less", less.clone())]);
        assert!(msg.contains("use after free") && msg.contains("struct node"), "{how}: {msg}");
        // Unless somebody else has a reference to it.
        let shared = owned(how).copy(1, 6).mov(2, 0).call("bpf_refcount_acquire_impl");
        let init = owner(8).then(shared).then(drop_of(8)).done();
        let programs = [("init", init), ("running", read_later()), ("cb.less", less.clone())];
        assert_eq!(run(&programs).well().n(1), 1, "{how}");
    }
}

#[test]
fn what_a_deleted_value_owns_goes_with_it() {
    let less = Code::new().mov(0, 0).exit();
    for how in ["list", "tree", "kptr"] {
        let mut init = Code::new().put(10, -8, 1);
        for word in 0..5 {
            init = init.put(10, -48 + word * 8, 0);
        }
        let key = || Code::new().map(1, 2).frame(2, -8);
        let init = init.then(key()).frame(3, -48).mov(4, 0).helper(2).then(key()).helper(1);
        let init = init.copy(8, 0).then(owned(how)).then(key()).helper(3).kept(2).done();
        let programs =
            [("init", init), ("running", read_later()), enqueue(), ("cb.less", less.clone())];
        let mut image = image("sched_ext_ops", &programs);
        image.maps.push(Map {
            name: "owners".into(),
            map_type: MapType::HASH,
            key_size: 4,
            value_size: 40,
            max_entries: 2,
            value_type: type_of("owner"),
            ..Map::default()
        });
        let sched = BpfScheduler::new(image, &kernel()).expect("it has all that it needs");
        let ran = Ran::new(sched, work(), 100);
        let msg = &ran.exit().expect("it has ended").msg;
        assert!(msg.contains("use after free") && msg.contains("struct node"), "{how}: {msg}");
    }
}

/// Each owns the one that was made before it.
#[test]
fn a_long_chain_of_owners_goes_at_once() {
    let made = owner(8)
        .bss(7, 0)
        .load(2, 7, 0)
        .store(7, 0, 8)
        .copy(1, 8)
        .plus(1, OWNER_NEXT)
        .helper(KPTR_XCHG)
        .done();
    let init = Code::new().mov(1, 300_000).func(2, "cb.made").mov(3, 0).mov(4, 0).helper(LOOP);
    let init = init.bss(7, 0).load(8, 7, 0).then(drop_of(8)).done();
    run(&[("init", init), ("cb.made", made)]).well();
}

#[test]
fn locks_that_are_held_are_not_taken() {
    let init = Code::new()
        .bss(1, ROOM)
        .call("bpf_res_spin_lock")
        .kept(0)
        .bss(1, ROOM)
        .call("bpf_res_spin_lock")
        .kept(1)
        .bss(1, ROOM)
        .call("bpf_res_spin_unlock")
        .bss(1, ROOM)
        .frame(2, -8)
        .call("bpf_res_spin_lock_irqsave")
        .kept(2)
        .bss(1, ROOM)
        .frame(2, -8)
        .call("bpf_res_spin_unlock_irqrestore")
        .done();
    let ran = run(&[("init", init)]).well();
    assert_eq!(ran.all(0), [0, -35, 0]);
    let held = Code::new().bss(1, ROOM).call("bpf_res_spin_lock").done();
    let msg = ended(&[("running", held)]);
    assert!(msg.contains("the program ends with a bpf_res_spin_lock held"), "{msg}");
}

#[test]
fn pages_of_the_arena_are_allocated_and_freed() {
    let alloc = |addr: u8, count| {
        Code::new()
            .copy(2, addr)
            .arena(1)
            .mov(3, count)
            .mov(4, -1)
            .mov(5, 0)
            .call("bpf_arena_alloc_pages")
    };
    let init = Code::new()
        .mov(9, 0)
        .then(alloc(9, 2))
        .copy(6, 0)
        .then(alloc(9, 1))
        .copy(7, 0)
        .copy(0, 7)
        .minus(0, 6)
        .kept(0)
        // They are there, and zero.
        .copy(8, 7)
        .cast_arena(8)
        .load(0, 8, 8)
        .kept(1)
        .put(8, 8, 5)
        .load(0, 8, 8)
        .kept(2)
        // Too many, and where some are already.
        .then(alloc(9, 14))
        .kept(3)
        .then(alloc(7, 1))
        .kept(4)
        .arena(1)
        .copy(2, 7)
        .mov(3, 1)
        .call("bpf_arena_reserve_pages")
        .kept(5)
        // Within a page it does nothing: the page may be had afterwards.
        .arena(1)
        .copy(2, 7)
        .plus(2, 4096 + 8)
        .mov(3, 1)
        .call("bpf_arena_reserve_pages")
        .kept(9)
        .copy(9, 7)
        .plus(9, 4096)
        .then(alloc(9, 1))
        .minus(0, 9)
        .kept(10)
        .mov(9, 0)
        .arena(1)
        .copy(2, 7)
        .mov(3, 1)
        .call("bpf_arena_free_pages")
        // What is not there reads zero.
        .load(0, 8, 8)
        .kept(6)
        .then(alloc(7, 1))
        .minus(0, 7)
        .kept(7)
        .load(0, 8, 8)
        .kept(8)
        .done();
    let ran = run(&[("init", init)]).well();
    assert_eq!(ran.all(0), [8192, 0, 5, 0, 0, -16, 0, 0, 0, 0, 0]);
    // A program that may not sleep frees later, and NULL is not the first page.
    let free = |code: Code| code.arena(1).mov(3, 1).call("bpf_arena_free_pages");
    let later = Code::new()
        .mov(9, 0)
        .then(alloc(9, 1))
        .copy(7, 0)
        .copy(8, 7)
        .cast_arena(8)
        .put(8, 8, 5)
        .then(free(Code::new().copy(2, 7)))
        .then(free(Code::new().mov(2, 0)))
        .load(0, 8, 8)
        .kept(0)
        .then(alloc(7, 1))
        .kept(1)
        .done();
    let ran = run(&[("running", later.clone())]).well();
    assert_eq!(ran.all(0), [5, 0]);
    // One of user space's may.
    let mut image = image("sched_ext_ops", &[enqueue(), ("the.syscall", later)]);
    image.programs.push(Program { function: 1, section: "syscall".into(), sleepable: true });
    let mut ran = Ran::new(BpfScheduler::new(image, &kernel()).expect("loaded"), work(), 10);
    let done = ran.prog_run("the.syscall", &[]).expect("it runs");
    assert_eq!(done.retval, 0);
    assert_eq!(ran.n(0), 0, "the page is gone");
    assert_ne!(ran.n(1), 0, "and can be had again");
    let other = Code::new().bss(1, 0).mov(2, 0).mov(3, 1).mov(4, -1).mov(5, 0);
    let msg = ended(&[("init", other.call("bpf_arena_alloc_pages").done())]);
    assert!(msg.contains("its argument 1 is no arena"), "{msg}");
}
