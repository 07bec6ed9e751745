//! What Linux 7.3 has for schedulers of the cid form.

use scxlab_bpf::abi::{Abi, Version};
use scxlab_bpf::sched::BpfScheduler;

use crate::build::{Code, Ran, enqueue, image, kernel, work};

fn newer(programs: &[(&'static str, Code)]) -> Ran {
    let programs = [&[enqueue()], programs].concat();
    let abi = Abi::new(Version::V7_3).expect("the declarations make sense");
    let sched = BpfScheduler::new(image("sched_ext_ops_cid", &programs), &abi);
    Ran::new(sched.expect("it has all that it needs"), work(), 50)
}

fn message(programs: &[(&'static str, Code)]) -> String {
    newer(programs).exit().expect("it has ended").msg.clone()
}

/// A page of the arena: the user's address in r8, the kernel's in r7.
fn page() -> Code {
    let code = Code::new().arena(1).mov(2, 0).mov(3, 1).mov(4, -1).mov(5, 0);
    code.call("bpf_arena_alloc_pages").copy(8, 0).copy(7, 0).cast_arena(7)
}

/// A mask of so many cids from 0 there.
fn mask(nr: u64, words: i32) -> Code {
    Code::new().imm64(1, nr << 32).store(7, 0, 1).put(7, 8, words).put(7, 16, 0)
}

fn caps(cgroup: i32, caps: i32) -> Code {
    Code::new().mov(1, cgroup).mov(2, caps).copy(3, 8).call("scx_bpf_sub_caps")
}

#[test]
fn cids_are_final_after_init_cids() {
    let init_cids = Code::new()
        .call("scx_bpf_online_cmask")
        .kept(0)
        .then(page())
        // CPU 0 has cid 1, and CPU 1 has cid 0; each is a shard.
        .imm64(1, 1)
        .store(7, 0, 1)
        .imm64(1, 1 << 32)
        .store(7, 8, 1)
        .copy(1, 8)
        .mov(2, 2)
        .copy(3, 8)
        .plus(3, 8)
        .mov(4, 2)
        .call("scx_bpf_cid_override")
        .done();
    let init = Code::new()
        .mov(1, 0)
        .call("scx_bpf_cid_to_cpu")
        .kept(1)
        .mov(1, 1)
        .frame(2, -32)
        .mov(3, 32)
        .call("scx_bpf_cid_topo")
        .load(0, 10, -32)
        .kept(2)
        .load(0, 10, -8)
        .kept(3)
        .call("scx_bpf_online_cmask")
        .copy(8, 0)
        .cast_arena(8)
        .load(0, 8, 0)
        .kept(4)
        .load(0, 8, 16)
        .kept(5)
        .done();
    let ran = newer(&[("init_cids", init_cids), ("init", init)]).well();
    // Shard 1 begins with cid 1; all else of the topology is gone.
    assert_eq!(ran.all(0), [0, 1, -1, 1 | 1 << 32, 2 << 32, 0b11]);
}

#[test]
fn what_is_wrong_with_new_cids() {
    let with = |count, shards| {
        let code = page().put(7, 0, 0).copy(1, 8).mov(2, count).copy(3, 8).mov(4, shards);
        message(&[("init_cids", code.call("scx_bpf_cid_override").done())])
    };
    assert_eq!(with(3, 1), "scx_bpf_cid_override: cpu_to_cid expected 2 entries, got 3");
    assert_eq!(with(2, 0), "scx_bpf_cid_override: invalid shard_start count 0");
    assert_eq!(with(2, 2), "scx_bpf_cid_override: shard_start not increasing at [1]");
    assert_eq!(with(2, 1), "cid 0 assigned to multiple cpus");
    let fails = Code::new().mov(0, -5).exit();
    assert_eq!(message(&[("init_cids", fails)]), "ops.init_cids() failed (-5)");
}

#[test]
fn a_root_has_all_capabilities() {
    let init = page()
        .then(mask(2, 2))
        .then(caps(0, 2))
        .kept(0)
        .load(0, 7, 16)
        .kept(1)
        // None are asked for.
        .then(caps(0, 0))
        .kept(2)
        .load(0, 7, 16)
        .kept(3)
        // A sub-scheduler that is not there.
        .then(caps(77, 1))
        .kept(4)
        .mov(1, 77)
        .mov(2, 1)
        .copy(3, 8)
        .mov(4, 0)
        .call("scx_bpf_sub_grant")
        .kept(5)
        .mov(1, 77)
        .mov(2, 1)
        .copy(3, 8)
        .call("scx_bpf_sub_revoke")
        .mov(1, 77)
        .copy(2, 7)
        .mov(3, 0)
        .mov(4, 0)
        .call("scx_bpf_sub_kill_bstr")
        .kept(6)
        .done();
    let ran = newer(&[("init", init)]).well();
    assert_eq!(ran.all(0), [0, 0b11, 0, 0, -19, -19, -19]);
}

#[test]
fn what_is_wrong_with_capabilities() {
    let asked =
        |mask: Code, bits| message(&[("init", page().then(mask).then(caps(0, bits)).done())]);
    assert_eq!(asked(mask(2, 2), 16), "invalid caps 0x10");
    assert_eq!(asked(mask(2, 1), 1), "invalid out (-22)", "a mask has a word more");
    assert_eq!(asked(mask(3, 2), 1), "invalid out (-22)", "there are two cids");
    let early = page().then(mask(2, 2)).then(caps(0, 1)).done();
    assert_eq!(
        message(&[("init_cids", early)]),
        "scx_bpf_sub_caps() called before caps storage is initialized"
    );
}

/// `ops.enable` has the task's cids, and `set_cmask` follows it.
#[test]
fn tasks_come_with_their_cids() {
    let enable = Code::op().load(8, 7, 0).cast_arena(8).load(0, 8, 16).kept(0).count(1).done();
    let set_cmask = Code::op().count(2).done();
    let both = [("enable", enable), ("set_cmask", set_cmask.clone())];
    let ran = newer(&both).well();
    assert_eq!(ran.n(0), 0b11, "both CPUs");
    assert!(ran.n(1) > 5, "{}", ran.n(1));
    let one = newer(&both[1..]).well();
    assert_eq!(one.n(2), ran.n(2), "also without enable");
    // 7.2 says it only when affinities change.
    let programs = [enqueue(), ("set_cmask", set_cmask)];
    let older = BpfScheduler::new(image("sched_ext_ops_cid", &programs), &kernel());
    let older = Ran::new(older.expect("it has all that it needs"), work(), 50).well();
    assert_eq!(older.n(2) + ran.n(1), ran.n(2));
}

/// 7.3's header has a program that runs as the scheduler is attached.
#[test]
fn a_program_runs_at_registration() {
    let probe = Code::new().count(0).done();
    let mut image = image("sched_ext_ops", &[enqueue(), ("init", Code::new().count(1).done())]);
    let mut with = self::image_of(probe);
    let start = image.insns.len();
    let function = image.functions.len();
    with.functions[0].start = start;
    image.insns.append(&mut with.insns);
    image.functions.append(&mut with.functions);
    let section = "fentry/bpf_scx_reg".to_owned();
    let program = scxlab_bpf::image::Program { function, section, sleepable: false };
    image.programs.push(program);
    let sched = BpfScheduler::new(image, &kernel()).expect("it has all that it needs");
    assert_eq!(Ran::new(sched, work(), 10).well().all(0), [1, 1]);
}

/// One function alone.
fn image_of(code: Code) -> scxlab_bpf::Image {
    let mut image = image("sched_ext_ops", &[("running", code)]);
    image.functions[0].name = "probe".into();
    image
}
