//! Loads, stores and atomic operations, in every kind of memory.

use scxlab_bpf::machine::{
    ArenaFault, Binding, FLAT_MAX, Kernel, MapAddress, Memory, NoKernel, Null, QUARANTINE, Region,
    RegionId, Stop,
};

use super::build::*;

/// A program with r1 at an address.
fn at(memory: Memory, addr: u64, insns: &[scxlab_bpf::Insn]) -> Machine {
    let mut all = imm64(1, addr).to_vec();
    all.extend_from_slice(insns);
    all.push(EXIT);
    Machine::of(&image(&[&all]), &Binding::default(), memory)
}

/// Somebody else's bytes, and what was done with them.
#[derive(Default)]
struct Owner {
    bytes: [u8; 32],
    log: Vec<String>,
    null: Option<Null>,
    arena: Option<ArenaFault>,
}

impl Kernel for Owner {
    fn load(&mut self, _: RegionId, offset: u32, size: usize) -> Result<u64, String> {
        self.log.push(format!("load {offset}+{size}"));
        if offset == 24 {
            return Err("the task is gone".into());
        }
        let mut value = [0; 8];
        value[..size].copy_from_slice(&self.bytes[offset as usize..][..size]);
        Ok(u64::from_le_bytes(value))
    }

    fn store(&mut self, _: RegionId, offset: u32, size: usize, value: u64) -> Result<(), String> {
        self.log.push(format!("store {offset}+{size}"));
        let bytes = &mut self.bytes[offset as usize..][..size];
        bytes.copy_from_slice(&value.to_le_bytes()[..size]);
        Ok(())
    }

    fn null(&mut self) -> Null {
        self.null.unwrap_or(Null::Fault)
    }

    fn arena_fault(&mut self, user_addr: u64, write: bool) -> ArenaFault {
        self.log.push(format!("arena {user_addr:#x} {write}"));
        self.arena.unwrap_or(ArenaFault::Skip)
    }

    fn keeps_r0(&mut self) -> bool {
        self.arena == Some(ArenaFault::SkipAtomics)
    }
}

/// One program that loads and stores in all ways, in 64 bytes at r1. Returns a sum of all loads.
fn all_accesses() -> Vec<scxlab_bpf::Insn> {
    let mut program = vec![
        mov(0, 0),
        st(B, 1, 0, -2),
        st(H, 1, 2, -3),
        st(W, 1, 4, -4),
        st(DW, 1, 8, -5),
        mov(2, -6),
        stx(B, 1, 16, 2),
        stx(H, 1, 18, 2),
        stx(W, 1, 20, 2),
        // Not aligned.
        stx(DW, 1, 25, 2),
        insn(STX | ATOMIC | W, 1, 2, 36, 0x110),
    ];
    for (size, off) in [(B, 0), (H, 2), (W, 4), (DW, 8), (W, 22), (DW, 3), (DW, 34)] {
        program.extend([ldx(size, 3, 1, off), insn(ALU64 | X, 0, 3, 0, 0)]);
        program.push(insn(ALU64 | 0x20, 0, 0, 0, 31));
    }
    for (size, off) in [(B, 0), (H, 17), (W, 5)] {
        program.extend([insn(LDX | MEMSX | size, 3, 1, off, 0), insn(ALU64 | X, 0, 3, 0, 0)]);
        program.push(insn(ALU64 | 0x20, 0, 0, 0, 31));
    }
    for size in [B, H, W, DW] {
        program.push(insn(STX | ATOMIC | size, 3, 1, 40, 0x100));
        program.extend([insn(ALU64 | X, 0, 3, 0, 0), insn(ALU64 | 0x20, 0, 0, 0, 31)]);
    }
    program
}

/// The same, in whole numbers.
fn expected() -> (u64, [u8; 44]) {
    let mut bytes = [0; 44];
    let mut store = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    store(0, &(-2_i8).to_le_bytes());
    store(2, &(-3_i16).to_le_bytes());
    store(4, &(-4_i32).to_le_bytes());
    store(8, &(-5_i64).to_le_bytes());
    store(16, &(-6_i8).to_le_bytes());
    store(18, &(-6_i16).to_le_bytes());
    store(20, &(-6_i32).to_le_bytes());
    store(25, &(-6_i64).to_le_bytes());
    store(36, &(-6_i32).to_le_bytes());
    let number = |at: usize, size: usize| -> u64 {
        let byte = |i: usize| bytes.get(at + i).copied().unwrap_or(0);
        (0..size).map(|i| u64::from(byte(i)) << (8 * i)).sum()
    };
    let mut sum = 0_u64;
    let mut add = |value: u64| sum = sum.wrapping_add(value).wrapping_mul(31);
    for (size, at) in [(1, 0), (2, 2), (4, 4), (8, 8), (4, 22), (8, 3), (8, 34)] {
        add(number(at, size));
    }
    add(number(0, 1) as i8 as u64);
    add(number(17, 2) as i16 as u64);
    add(number(5, 4) as i32 as u64);
    for size in [1, 2, 4, 8] {
        add(number(40, size));
    }
    (sum, bytes)
}

#[test]
fn all_accesses_in_all_kinds_of_memory() {
    let (sum, bytes) = expected();
    let program = all_accesses();

    let mut memory = Memory::new(1 << 24);
    let flat = memory.alloc_zeroed(Region::new("flat"), 64).expect("there is room").base();
    let large = memory.alloc_zeroed(Region::new("large"), 1 << 30).expect("there is room").base();
    let arena = memory.alloc_arena(Region::new("arena"), 0).expect("there is room");
    memory.populate(arena, 7, 2).expect("there is room");
    let foreign = memory.alloc_foreign(Region::new("foreign"), 64).expect("there is room").base();
    // In one page, and over the end of one.
    let places = [flat, large, large + 4096 * 5 - 21, large + 4096 - 37];
    let arenas = [arena.base() + 7 * 4096, arena.base() + 8 * 4096 - 21];
    for addr in places.into_iter().chain(arenas) {
        let mut machine = at(memory.clone(), addr, &program);
        assert_eq!(machine.exit(), sum, "{addr:#x}");
        assert_eq!(machine.read(addr, 44), bytes, "{addr:#x}");
    }

    // The stack of the function, and of its caller.
    let mut on_stack = vec![movx(1, 10), add(1, -101)];
    on_stack.extend_from_slice(&program);
    on_stack.push(EXIT);
    assert_eq!(Machine::new(&[&on_stack]).exit(), sum);
    let caller = [movx(1, 10), add(1, -101), call(1), EXIT];
    let callee = [&program[..], &[EXIT]].concat();
    assert_eq!(Machine::new(&[&caller, &callee]).exit(), sum);

    // Somebody else's, who has no more than 32 bytes.
    struct Larger([u8; 64]);
    impl Kernel for Larger {
        fn load(&mut self, _: RegionId, at: u32, size: usize) -> Result<u64, String> {
            Ok((0..size).map(|i| u64::from(self.0[at as usize + i]) << (8 * i)).sum())
        }
        fn store(&mut self, _: RegionId, at: u32, size: usize, v: u64) -> Result<(), String> {
            self.0[at as usize..][..size].copy_from_slice(&v.to_le_bytes()[..size]);
            Ok(())
        }
    }
    let mut owner = Larger([0; 64]);
    assert_eq!(at(memory, foreign, &program).run_with(&mut owner), Stop::Exit(sum));
    assert_eq!(owner.0[..44], bytes);
}

#[test]
fn atomic_operations() {
    type Change = fn(u64, u64) -> u64;
    let changes: [(i32, Change); 4] = [
        (0x00, u64::wrapping_add),
        (0x40, |a, b| a | b),
        (0x50, |a, b| a & b),
        (0xa0, |a, b| a ^ b),
    ];
    let (old, value) = (0xf0f0_1234_ffff_ff0f_u64, 0x1111_2222_0000_00f1_u64);
    let low = |value: u64| value & 0xffff_ffff;
    // In flat memory, in pages, in a caller's frame, and in somebody else's.
    let mut memory = Memory::new(1 << 24);
    let flat = memory.alloc_zeroed(Region::new("flat"), 64).expect("there is room").base();
    let large = memory.alloc_zeroed(Region::new("large"), 1 << 20).expect("there is room").base();
    let foreign = memory.alloc_foreign(Region::new("foreign"), 32).expect("there is room").base();
    for addr in [flat + 8, large + 4096 - 3, foreign + 8] {
        let run = |size: u8, what: i32, r0: u64| -> (u64, u64, u64) {
            let mut program = [imm64(2, old), imm64(3, value), imm64(0, r0)].concat();
            program.extend([stx(DW, 1, 0, 2), insn(STX | ATOMIC | size, 1, 3, 0, what)]);
            program.extend([movx(7, 0), ldx(DW, 0, 1, 0), call_helper(1)]);
            let mut machine = at(memory.clone(), addr, &program);
            assert!(matches!(machine.run_with(&mut Owner::default()), Stop::Call(..)));
            let regs = machine.thread.registers();
            (regs[0], regs[3], regs[7])
        };
        for (what, change) in changes {
            let wide = change(old, value);
            let narrow = old & !0xffff_ffff | low(change(low(old), low(value)));
            assert_eq!(run(DW, what, 5), (wide, value, 5));
            assert_eq!(run(W, what, 5), (narrow, value, 5));
            assert_eq!(run(DW, what | 1, 5), (wide, old, 5), "fetch");
            assert_eq!(run(W, what | 1, 5), (narrow, low(old), 5), "fetch");
        }
        let half = old & !0xffff_ffff | low(value);
        assert_eq!(run(DW, 0xe1, 5), (value, old, 5), "xchg");
        assert_eq!(run(W, 0xe1, 5), (half, low(old), 5), "xchg");
        assert_eq!(run(DW, 0xf1, old), (value, value, old), "cmpxchg");
        assert_eq!(run(DW, 0xf1, old + 1), (old, value, old), "cmpxchg of another value");
        assert_eq!(run(W, 0xf1, old | 1 << 63), (half, value, low(old)), "it compares 32 bits");
        assert_eq!(run(W, 0xf1, old + 1), (old, value, low(old)), "r0 is extended with zeros");
    }
}

#[test]
fn somebody_elses_bytes() {
    let mut memory = Memory::new(1 << 20);
    let task = memory.alloc_foreign(Region::new("task_struct of init[1]"), 32).expect("room");
    let mut owner = Owner { bytes: std::array::from_fn(|i| i as u8), ..Owner::default() };
    let program = [ldx(W, 2, 1, 6), add(2, 1), stx(H, 1, 20, 2), ldx(DW, 0, 1, 24)];
    let mut machine = at(memory.clone(), task.base(), &program);
    let Stop::Fault(fault) = machine.run_with(&mut owner) else { panic!("it faults") };
    assert_eq!(
        fault.to_string(),
        format!(
            "invalid read of 8 bytes at {:#x}: offset 24 of task_struct of init[1], 32 bytes: \
             the task is gone; in f0, instruction 5 (test.bpf.c:6:2: `line 6;`)",
            task.base() + 24
        )
    );
    assert_eq!(owner.log, ["load 6+4", "store 20+2", "load 24+8"]);
    assert_eq!(owner.bytes[20..22], [7, 7]);

    // Many bytes at once, as a helper reads them.
    owner.log.clear();
    let mut bytes = [0; 15];
    memory.read(&mut owner, task.base() + 3, &mut bytes).expect("they are there");
    assert_eq!(bytes[..5], [3, 4, 5, 6, 7]);
    assert_eq!(owner.log, ["load 3+8", "load 11+4", "load 15+2", "load 17+1"]);
    memory.write(&mut owner, task.base() + 1, &[9; 3]).expect("they are there");
    assert_eq!(owner.bytes[..5], [0, 9, 9, 9, 4]);
}

#[test]
fn the_null_page_is_the_owners_to_decide() {
    let load = [mov(0, 9), mov(1, 0), ldx(W, 0, 1, 40), EXIT];
    let store = [mov(0, 9), mov(1, 0), stx(W, 1, 40, 0), EXIT];
    let run = |program: &[_], null| {
        let mut owner = Owner { null: Some(null), ..Owner::default() };
        Machine::new(&[program]).run_with(&mut owner)
    };
    assert_eq!(run(&load, Null::Zero), Stop::Exit(0));
    for (program, null) in [
        (&load, Null::Fault),
        (&load, Null::Arena),
        (&store, Null::Zero),
        (&store, Null::Fault),
        (&store, Null::Arena),
    ] {
        let Stop::Fault(fault) = run(program, null) else { panic!("it faults") };
        let access = if program == &load { "read" } else { "write" };
        assert_eq!(
            fault.to_string(),
            format!(
                "invalid {access} of 4 bytes at 0x28: 40 bytes from a NULL pointer, in f0, \
                 instruction 2 (test.bpf.c:3:2: `line 3;`)"
            )
        );
    }
}

const USER: u64 = 0x7f7d_2620_0000;

/// An image with an arena, whose pages 0x26200 and 0x26201 are there, and its machine.
fn with_arena(insns: &[scxlab_bpf::Insn], flags: u32) -> (Machine, RegionId) {
    let mut memory = Memory::new(1 << 20);
    let arena = memory.alloc_arena(Region::new("arena `arena`"), USER).expect("there is room");
    assert_eq!(memory.populate(arena, 0x26200, 2), Ok(true));
    let mut image = image(&[insns]);
    let mut definition = map("arena", 33, 0, 16);
    definition.flags = flags;
    image.maps.push(definition);
    let address = MapAddress { map: 0, value: USER, arena: arena.base() };
    let binding = Binding { maps: vec![address], ksyms: Vec::new() };
    (Machine::of(&image, &binding, memory), arena)
}

const CAST_KERNEL: i32 = 1;
const CAST_USER: i32 = 1 << 16;
const fn cast(dst: u8, src: u8, imm: i32) -> scxlab_bpf::Insn {
    insn(ALU64 | 0xb0 | X, dst, src, 1, imm)
}

#[test]
fn an_arenas_pointers() {
    let [load, rest] = pseudo(1, 2, 0, 24);
    let program = [
        load,
        rest,
        cast(2, 1, CAST_KERNEL),
        st(DW, 2, 0, 77),
        ldx(DW, 0, 2, 0),
        cast(3, 2, CAST_USER),
        call_helper(1),
        EXIT,
    ];
    let (mut machine, arena) = with_arena(&program, 0);
    assert!(matches!(machine.run(), Stop::Call(..)));
    let regs = machine.thread.registers();
    assert_eq!(regs[1], USER + 24);
    assert_eq!(regs[2], arena.base() + 0x2620_0018);
    assert_eq!(regs[3], USER + 24);
    assert_eq!(regs[0], 77);

    // With `BPF_F_NO_USER_CONV` a pointer to user space keeps its lower half only.
    let (mut machine, _) = with_arena(&program, 1 << 18);
    assert!(matches!(machine.run(), Stop::Call(..)));
    assert_eq!(machine.thread.registers()[3], 0x2620_0018);

    // NULL stays NULL, both ways; so does what has a lower half of zero, on its way to the user.
    for (from, how, to) in [
        (0, CAST_KERNEL, 0),
        (0, CAST_USER, 0),
        (0x7f7d_0000_0000, CAST_USER, 0),
        (0x7f7d_0000_0000, CAST_KERNEL, arena.base()),
        (0x2620_0018, CAST_KERNEL, arena.base() + 0x2620_0018),
        (5, CAST_USER, 0x7f7d_0000_0005),
    ] {
        let program = [&imm64(1, from)[..], &[cast(0, 1, how), EXIT]].concat();
        assert_eq!(with_arena(&program, 0).0.exit(), to, "{from:#x}");
    }
}

/// In an arena, kernels before 7.2 let what is above 32 bits of r0 be where cmpxchg stores.
#[test]
fn cmpxchg_in_an_arena() {
    let cmpxchg = |found: i32| {
        let [low, high] = imm64(0, 9 << 32 | 7);
        [
            insn(ALU64 | 0xb0, 1, 0, 0, 0x2620_1ffc),
            cast(1, 1, CAST_KERNEL),
            st(W, 1, 0, found),
            mov(2, 6),
            low,
            high,
            insn(STX | ATOMIC | W, 1, 2, 0, 0xf1),
            EXIT,
        ]
    };
    for (found, arena, r0) in [
        (7, ArenaFault::Skip, 7),
        (7, ArenaFault::SkipAtomics, 9 << 32 | 7),
        (8, ArenaFault::Skip, 8),
        (8, ArenaFault::SkipAtomics, 8),
    ] {
        let (mut machine, _) = with_arena(&cmpxchg(found), 0);
        let mut owner = Owner { arena: Some(arena), ..Owner::default() };
        let stop = machine.run_with(&mut owner);
        assert_eq!(stop, Stop::Exit(r0), "{found} {arena:?}");
    }
}

#[test]
fn where_an_arena_has_no_page() {
    // Loads read zero, also those of atomic operations; nothing else happens.
    let program = [
        insn(ALU64 | 0xb0, 1, 0, 0, 0x2620_2ffc),
        cast(1, 1, CAST_KERNEL),
        mov(0, 5),
        mov(2, 6),
        mov(3, 7),
        ldx(W, 0, 1, 0),
        stx(W, 1, 0, 2),
        insn(STX | ATOMIC | W, 1, 3, 0, 0x01),
        mov(8, 8),
        insn(STX | ATOMIC | W, 8, 1, 0, 0x100),
        // Half of it is there.
        ldx(DW, 4, 1, -4096),
        stx(DW, 1, -4096, 2),
        ldx(W, 5, 1, -4096),
        call_helper(1),
        EXIT,
    ];
    let (mut machine, arena) = with_arena(&program, 0);
    let half = arena.base() + 0x2620_1ffc;
    machine.memory.write(&mut NoKernel, half, &[1; 4]).expect("it is there");
    let mut owner = Owner::default();
    assert!(matches!(machine.run_with(&mut owner), Stop::Call(..)));
    let regs = machine.thread.registers();
    assert_eq!((regs[0], regs[3], regs[8]), (0, 0, 0));
    assert_eq!((regs[4], regs[5]), (0, 0x0101_0101));
    let expected = [
        "arena 0x7f7d26202ffc false",
        "arena 0x7f7d26202ffc true",
        "arena 0x7f7d26202ffc true",
        "arena 0x7f7d26202ffc false",
        "arena 0x7f7d26201ffc false",
        "arena 0x7f7d26201ffc true",
    ];
    assert_eq!(owner.log, expected);

    // Older kernels leave alone what an atomic operation would load.
    let (mut machine, _) = with_arena(&program, 0);
    let mut owner = Owner { arena: Some(ArenaFault::SkipAtomics), ..Owner::default() };
    assert!(matches!(machine.run_with(&mut owner), Stop::Call(..)));
    let regs = machine.thread.registers();
    assert_eq!((regs[0], regs[3], regs[8], regs[4]), (0, 7, 8, 0));

    let (mut machine, _) = with_arena(&program, 0);
    let mut owner = Owner { arena: Some(ArenaFault::Fault), ..Owner::default() };
    let Stop::Fault(fault) = machine.run_with(&mut owner) else { panic!("it faults") };
    assert_eq!(
        fault.to_string(),
        format!(
            "invalid read of 4 bytes at {:#x}: offset 0x26202ffc of arena `arena`, where no page \
             is, in f0, instruction 5 (test.bpf.c:6:2: `line 6;`)",
            arena.base() + 0x2620_2ffc
        )
    );
}

#[test]
fn beside_an_arena_is_no_page() {
    // As on kernels, which have a guard on both sides, and nothing more.
    let over = [mov(1, -1), cast(1, 1, CAST_KERNEL), ldx(W, 0, 1, 5), stx(W, 1, 0x7fff, 1), EXIT];
    let mut owner = Owner::default();
    assert_eq!(with_arena(&over, 0).0.run_with(&mut owner), Stop::Exit(0));
    assert_eq!(owner.log, ["arena 0x7f7e00000004 false", "arena 0x7f7e00007ffe true"]);

    let below = [mov(1, 4), cast(1, 1, CAST_KERNEL), ldx(W, 0, 1, -8), ldx(DW, 0, 1, -6), EXIT];
    let mut owner = Owner::default();
    assert_eq!(with_arena(&below, 0).0.run_with(&mut owner), Stop::Exit(0));
    assert_eq!(owner.log, ["arena 0x7f7cfffffffc false", "arena 0x7f7cfffffffe false"]);

    let far = [mov(1, -1), cast(1, 1, CAST_KERNEL), add(1, 0x8001), ldx(W, 0, 1, 0), EXIT];
    assert!(matches!(with_arena(&far, 0).0.run(), Stop::Fault(_)));
}

#[test]
fn a_null_pointer_can_be_one_to_an_arena() {
    let program = [
        mov(1, 0),
        st(W, 1, 16, 3),
        mov(2, 4),
        ldx(W, 0, 1, 16),
        insn(STX | ATOMIC | W, 1, 2, 16, 1),
        insn(ALU64 | X, 0, 2, 0, 0),
        EXIT,
    ];
    let (mut machine, arena) = with_arena(&program, 0);
    machine.memory.populate(arena, 0, 1).expect("there is room");
    let mut owner = Owner { null: Some(Null::Arena), ..Owner::default() };
    assert_eq!(machine.run_with(&mut owner), Stop::Exit(6));
    assert_eq!(machine.read(arena.base() + 16, 4), [7, 0, 0, 0]);
}

#[test]
fn pages_of_an_arena_come_and_go() {
    let mut memory = Memory::new(8 * 4096);
    let arena = memory.alloc_arena(Region::new("arena"), USER).expect("there is room");
    let used = memory.used();
    assert_eq!(memory.populate(arena, 10, 3), Ok(true));
    assert_eq!(memory.populate(arena, 11, 3), Ok(true), "two of them were there");
    assert_eq!(memory.used(), used + 4 * 4096);
    assert!(memory.populate(arena, 100, 4).is_err(), "the limit");
    assert!(!memory.is_populated(arena, 100));
    assert_eq!(memory.populate(arena, 0xf_ffff, 2), Ok(false), "there are 2^20 pages");
    assert_eq!(memory.populate(arena, usize::MAX, 2), Ok(false));
    let addr = arena.base() + 11 * 4096;
    memory.write(&mut NoKernel, addr, &[1]).expect("it is there");
    assert_eq!(memory.depopulate(arena, 11, 1), 1);
    assert_eq!(memory.depopulate(arena, 11, 1), 0);
    assert_eq!(memory.populate(arena, 11, 1), Ok(true));
    let mut byte = [9];
    memory.read(&mut NoKernel, addr, &mut byte).expect("it is there");
    assert_eq!(byte, [0], "a new page is zero");
    assert!(memory.free(arena));
    assert!(memory.used() <= used);
}

#[test]
fn large_regions_take_what_is_used() {
    let mut memory = Memory::new(1 << 20);
    let id = memory.alloc_zeroed(Region::new("map `large`"), 3 << 30).expect("there is room");
    assert!(memory.used() < 4096);
    let end = id.base() + (3 << 30) - 8;
    let mut machine = at(memory, end, &[st(DW, 1, 0, 1), ldx(DW, 0, 1, 0), ldx(DW, 2, 1, -80)]);
    assert_eq!(machine.exit(), 1);
    assert!(machine.memory.used() < 3 * 4096);
    // All of it there is no room for.
    let mut program = vec![st(DW, 1, 0, 1), insn(ALU64 | 0x10, 1, 0, 0, 4096)];
    program.push(insn(JMP, 0, 0, -3, 0));
    let mut machine = at(machine.memory, end, &program);
    let fault = machine.fault();
    assert!(
        fault.contains("map `large`, 3221225472 bytes, for which no memory is left,"),
        "{fault}"
    );

    let mut memory = Memory::new(1 << 20);
    assert!(memory.alloc_zeroed(Region::new("too large"), 1 << 32).is_err());
    assert!(memory.alloc_foreign(Region::new("too large"), 1 << 32).is_err());
    assert!(memory.alloc(Region::new("too large"), vec![1; 2 << 20]).is_err());
    let with_bytes = memory.alloc(Region::new("large"), vec![7; FLAT_MAX as usize + 1]);
    let addr = with_bytes.expect("there is room").base() + FLAT_MAX;
    let mut byte = [0];
    memory.read(&mut NoKernel, addr, &mut byte).expect("it is there");
    assert_eq!(byte, [7]);
}

#[test]
fn how_much_is_left() {
    let mut memory = Memory::new(1 << 20);
    let small = memory.alloc_zeroed(Region::new("small"), 20).expect("there is room");
    let arena = memory.alloc_arena(Region::new("arena"), USER).expect("there is room").base();
    for (addr, left) in [
        (small.base(), 20),
        (small.base() + 19, 1),
        (small.base() + 20, 0),
        (small.base() - 1, 0),
        (arena + 0xffff_fff0, 16),
        (arena + (1 << 32), 0),
        (RegionId::CODE.base(), 0),
        (0, 0),
        (u64::MAX, 0),
    ] {
        assert_eq!(memory.remaining(addr), left, "{addr:#x}");
    }
    memory.free(small);
    assert_eq!(memory.remaining(small.base()), 0);

    let machine = Machine::new(&[&[EXIT]]);
    let fp = machine.thread.registers()[10];
    for (addr, left) in [(fp - 512, 512), (fp - 1, 1), (fp, 0), (fp + (1 << 16) - 8, 0)] {
        assert_eq!(machine.memory.remaining(addr), left, "{addr:#x}");
    }
}

#[test]
fn numbers_are_given_out_in_order_and_again_after_a_while() {
    let mut memory = Memory::new(1 << 24);
    let first = memory.alloc_zeroed(Region::new("first"), 8).expect("there is room");
    assert!(memory.free(first));
    assert!(!memory.free(first), "once");
    assert_eq!(memory.region(first), None);
    for _ in 0..QUARANTINE {
        let id = memory.alloc_zeroed(Region::new("other"), 8).expect("there is room");
        assert_ne!(id, first);
        memory.free(id);
    }
    let again = memory.alloc_zeroed(Region::new("again"), 8).expect("there is room");
    assert_eq!(again, first);
    assert_eq!(memory.region(first).map(|region| &*region.what), Some("again"));
    assert!(!memory.free(RegionId::CODE), "the programs stay");

    // They do not use up the memory.
    let used = memory.used();
    for _ in 0..10_000 {
        let id = memory.alloc_zeroed(Region::new("other"), 100_000).expect("there is room");
        memory.poke(id, 50_000, &[1; 4096]).expect("there is room");
        memory.free(id);
    }
    assert_eq!(memory.used(), used);
}

#[test]
fn a_clone_shares_nothing_that_is_written() {
    for share in [false, true] {
        let mut memory = Memory::new(1 << 24);
        let small = memory.alloc(Region::new("small"), vec![1; 8]).expect("there is room").base();
        let large = memory.alloc(Region::new("large"), vec![1; 100_000]).expect("room").base();
        if share {
            memory.share();
        }
        let clone = memory.clone();
        for addr in [small, large, large + 90_000] {
            memory.write(&mut NoKernel, addr, &[2]).expect("it is there");
            let mut byte = [0];
            clone.read(&mut NoKernel, addr, &mut byte).expect("it is there");
            assert_eq!(byte, [1]);
            memory.read(&mut NoKernel, addr, &mut byte).expect("it is there");
            assert_eq!(byte, [2]);
        }
    }
}
