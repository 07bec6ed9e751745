//! What is no program.

use scxlab_bpf::image::{Function, Line};
use scxlab_bpf::machine::{Binding, Code, MapAddress, Refused};
use scxlab_bpf::{Image, Insn};

use super::build::*;

/// Why one instruction is refused, as the third of a function.
fn reason(insn: Insn) -> Refused {
    let error = refusal(&[&[EXIT], &[mov(0, 0), mov(1, 0), insn, mov(2, 0), EXIT]]);
    assert_eq!((error.function.as_str(), error.insn), ("f1", 2), "{insn:x?}");
    error.reason
}

#[test]
fn what_is_no_instruction() {
    use Refused::*;
    for (insn, expected) in [
        (insn(0x00, 0, 0, 0, 0), Opcode(0x00)),
        (insn(0xff, 0, 0, 0, 0), Opcode(0xff)),
        (insn(ALU | 0xe0, 0, 0, 0, 0), Opcode(0xe4)),
        (insn(ALU64 | 0xf0, 0, 0, 0, 0), Opcode(0xf7)),
        (insn(JMP32 | 0x80, 0, 0, 0, 0), Opcode(0x86)),
        (insn(JMP32 | 0x90, 0, 0, 0, 0), Opcode(0x96)),
        (insn(JMP | 0xe0 | X, 0, 0, 0, 0), Opcode(0xed)),
        (insn(JMP32 | X, 0, 0, 0, 0), Opcode(0x0e)),
        (insn(LDX | MEMSX | DW, 0, 1, 0, 0), Opcode(0x99)),
        (insn(LDX | ATOMIC | DW, 0, 1, 0, 0), Opcode(0xd9)),
        (insn(ST | 0xc0, 0, 0, 0, 0), Opcode(0xc2)),
        (insn(0x10, 0, 0, 0, 0), Opcode(0x10)),
        (insn(0x20, 0, 0, 0, 0), PacketLoad),
        (insn(0x50, 0, 1, 0, 0), PacketLoad),
        (mov(11, 0), Register(11)),
        (movx(0, 12), Register(12)),
        (mov(15, 0), Register(15)),
        (ldx(W, 0, 13, 0), Register(13)),
        (ldx(DW, 0, 11, 8), StackArguments),
        (stx(DW, 11, -8, 0), StackArguments),
        (st(DW, 11, -8, 0), StackArguments),
        (mov(10, 0), FramePointer),
        (add(10, 8), FramePointer),
        (insn(ALU | 0x80, 10, 0, 0, 0), FramePointer),
        (insn(ALU | 0xd0, 10, 0, 0, 16), FramePointer),
        (ldx(W, 10, 1, 0), FramePointer),
        (insn(LDX | MEMSX | W, 10, 1, 0, 0), FramePointer),
        (insn(STX | ATOMIC | W, 10, 1, 0, 0x100), FramePointer),
        (insn(STX | ATOMIC | W, 1, 10, 0, 0x01), FramePointer),
        (insn(STX | ATOMIC | DW, 1, 10, 0, 0xe1), FramePointer),
        (imm64(10, 0)[0], FramePointer),
        (insn(ALU64 | 0xb0 | X, 0, 1, 24, 0), MoveWidth(24)),
        (insn(ALU | 0xb0 | X, 0, 1, 32, 0), MoveWidth(32)),
        (insn(ALU | 0xb0 | X, 0, 1, 1, 1), Reserved(0xbc)),
        (insn(ALU64 | 0xb0 | X, 0, 1, 1, 2), AddressSpaces),
        (insn(ALU64 | 0xb0 | X, 0, 1, 1, 1), NoArena),
        (insn(ALU | 0xd0, 0, 0, 0, 8), SwapWidth(8)),
        (insn(ALU64 | 0xd0, 0, 0, 0, 0), SwapWidth(0)),
        (insn(STX | ATOMIC | W, 1, 2, 0, 0x10), Atomic(0x10)),
        (insn(STX | ATOMIC | W, 1, 2, 0, 0xe0), Atomic(0xe0)),
        (insn(STX | ATOMIC | W, 1, 2, 0, 0xf0), Atomic(0xf0)),
        (insn(STX | ATOMIC | W, 1, 2, 0, 0x101), Atomic(0x101)),
        (insn(STX | ATOMIC | B, 1, 2, 0, 0x00), Atomic(0)),
        (insn(STX | ATOMIC | H, 1, 2, 0, 0xe1), Atomic(0xe1)),
        (insn(0x85, 0, 3, 0, 0), PseudoCall(3)),
        (call_kfunc(2), Kfunc(2)),
        (call_kfunc(-1), Kfunc(-1)),
        (insn(0x8d, 3, 0, 0, 0), IndirectCall),
        (call(0), NoFunction(4)),
        (call(-2), NoFunction(2)),
        (call(-5), NoFunction(-1)),
        (call(i32::MAX), NoFunction(4 + i64::from(i32::MAX))),
        (insn(JMP, 0, 0, 2, 0), JumpOut(5)),
        (insn(JMP, 0, 0, -4, 0), JumpOut(-1)),
        (insn(JMP32, 0, 0, 0, i32::MAX), JumpOut(3 + i64::from(i32::MAX))),
        (insn(JMP32, 0, 0, 0, i32::MIN), JumpOut(3 + i64::from(i32::MIN))),
        (insn(0xe5, 0, 0, 2, 0), JumpOut(5)),
        (insn(JMP | 0x10, 0, 0, 100, 0), JumpOut(103)),
        (imm64(0, 1)[0], HalfLoad),
    ] {
        assert_eq!(reason(insn), expected, "{insn:x?}");
    }
}

#[test]
fn fields_that_must_be_zero() {
    for insn in [
        insn(ALU64, 0, 1, 0, 5),
        insn(ALU64 | X, 0, 1, 0, 5),
        insn(ALU64 | X, 0, 1, 1, 0),
        insn(ALU64 | 0x30 | X, 0, 1, 2, 0),
        insn(ALU64 | 0x80, 0, 1, 0, 0),
        insn(ALU64 | 0x80 | X, 0, 0, 0, 0),
        insn(ALU64 | 0x80, 0, 0, 1, 0),
        insn(ALU64 | 0x80, 0, 0, 0, 1),
        insn(ALU64 | 0xb0, 0, 0, 8, 5),
        insn(ALU64 | 0xb0 | X, 0, 1, 8, 5),
        insn(ALU64 | 0xd0 | X, 0, 0, 0, 16),
        insn(ALU | 0xd0, 0, 1, 0, 16),
        insn(ALU | 0xd0, 0, 0, 1, 16),
        insn(LDX | MEM | W, 0, 1, 0, 1),
        insn(LDX | MEMSX | W, 0, 1, 0, 1),
        insn(STX | MEM | W, 0, 1, 0, 1),
        insn(ST | MEM | W, 0, 1, 0, 1),
        insn(JMP, 0, 0, 0, 1),
        insn(JMP, 1, 0, 0, 0),
        insn(JMP32, 0, 0, 1, 0),
        insn(JMP | X, 1, 1, 0, 0),
        insn(JMP | X, 1, 0, 1, 0),
        insn(JMP | 0x10, 0, 1, 0, 0),
        insn(JMP | 0x10 | X, 0, 1, 0, 1),
        insn(0xe5, 1, 0, 0, 0),
        insn(0xe5, 0, 1, 0, 0),
        insn(0xe5, 0, 0, 0, 1),
        insn(0x95, 1, 0, 0, 0),
        insn(0x95, 0, 0, 0, 1),
        insn(0x85, 1, 0, 0, 1),
        insn(0x85, 0, 1, 1, 0),
        insn(0x85, 0, 2, 1, 0),
    ] {
        assert_eq!(reason(insn), Refused::Reserved(insn.code), "{insn:x?}");
    }
}

#[test]
fn loads_of_64_bits() {
    let refused = |insns: [Insn; 2]| refusal(&[&[insns[0], insns[1], EXIT]]).reason;
    for second in [
        insn(0x18, 0, 0, 0, 0),
        insn(0, 1, 0, 0, 0),
        insn(0, 0, 1, 0, 0),
        insn(0, 0, 0, 1, 0),
        EXIT,
    ] {
        assert_eq!(refused([imm64(0, 1)[0], second]), Refused::HalfLoad);
    }
    assert_eq!(refused(pseudo(0, 5, 0, 0)), Refused::PseudoLoad(5));
    assert_eq!(refused(pseudo(0, 15, 0, 0)), Refused::PseudoLoad(15));
    assert_eq!(refused(pseudo(0, 1, 0, 1)), Refused::Reserved(0x18));
    assert_eq!(refused(pseudo(0, 1, 0, 0)), Refused::Map(0));
    assert_eq!(refused(pseudo(0, 2, -1, 0)), Refused::Map(-1));
    assert_eq!(refused(pseudo(0, 3, 0, 0)), Refused::Ksym(0));
    assert_eq!(refused(pseudo(0, 4, 0, 0)), Refused::NoFunction(1));
    assert_eq!(refused(pseudo(0, 4, -9, 0)), Refused::NoFunction(-8));
    // A jump to a load, but not into it.
    let load = imm64(0, 1);
    let jump = |off| [insn(JMP, 0, 0, off, 0), load[0], load[1], EXIT];
    assert!(Code::decode(&image(&[&jump(0)]), &Binding::default()).is_ok());
    let error = refusal(&[&[EXIT], &jump(1)]);
    assert_eq!(
        error.to_string(),
        "f1, instruction 0: a jump to 2, into the middle of a 64-bit load"
    );
    // The load of another function.
    let error = refusal(&[&[imm64(0, 1)[0]], &[imm64(0, 1)[1], EXIT]]);
    assert_eq!(error.reason, Refused::HalfLoad);
}

#[test]
fn loads_of_addresses() {
    let [map, map2] = pseudo(1, 1, 1, 0);
    let [value, value2] = pseudo(2, 2, 1, 95);
    let [ksym, ksym2] = pseudo(3, 3, 1, 0);
    let [func, func2] = pseudo(4, 4, 3, 0);
    let program = [map, map2, value, value2, ksym, ksym2, func, func2, call_helper(1), EXIT];
    let mut with = image(&[&program, &[EXIT]]);
    with.maps = vec![map_of(8, 1), map_of(24, 4)];
    let address = |map, value| MapAddress { map, value, arena: 0 };
    let mut binding = Binding { maps: vec![address(1, 2), address(30, 40)], ksyms: vec![0, 50] };
    let mut machine = Machine::of(&with, &binding, scxlab_bpf::machine::Memory::new(1 << 20));
    machine.run();
    let regs = machine.thread.registers();
    assert_eq!(regs[1..5], [30, 135, 50, machine.code.address_of(1).expect("it is there")]);

    // Beyond the values.
    with.insns[3].imm = 96;
    let error = Code::decode(&with, &binding).expect_err("it is refused");
    let text = "f0, instruction 2: byte 96 of the value of map m, which has 96";
    assert_eq!(error.to_string(), text);
    with.insns[3].imm = 0;
    binding.ksyms.pop();
    assert!(Code::decode(&with, &binding).is_err(), "addresses that nobody gave");
    binding.ksyms.push(0);
    binding.maps.pop();
    assert!(Code::decode(&with, &binding).is_err(), "addresses that nobody gave");
}

fn map_of(value_size: u32, max_entries: u32) -> scxlab_bpf::image::Map {
    map("m", 2, value_size, max_entries)
}

#[test]
fn two_arenas() {
    let program = [insn(ALU64 | 0xb0 | X, 1, 1, 1, 1), EXIT];
    let mut with = image(&[&program]);
    with.maps = vec![map("a", 33, 0, 1), map("b", 33, 0, 1)];
    let addr = scxlab_bpf::machine::RegionId::CODE.base();
    let arena = MapAddress { map: 0, value: 0, arena: addr };
    let binding = Binding { maps: vec![arena; 2], ksyms: Vec::new() };
    let error = Code::decode(&with, &binding).expect_err("it is refused");
    assert_eq!(error.reason, Refused::ManyArenas);
    with.maps.pop();
    assert!(Code::decode(&with, &binding).is_ok());
    let nowhere = MapAddress { arena: 0, ..arena };
    let binding = Binding { maps: vec![nowhere], ksyms: Vec::new() };
    assert_eq!(Code::decode(&with, &binding).expect_err("refused").reason, Refused::NoArena);
}

#[test]
fn functions_end() {
    for last in [mov(0, 0), call(-1), call_helper(1), insn(JMP | 0x10, 0, 0, -1, 0)] {
        assert_eq!(refusal(&[&[last]]).reason, Refused::RunsOff, "{last:x?}");
    }
    let [a, b] = imm64(0, 1);
    assert_eq!(refusal(&[&[EXIT, a, b]]).reason, Refused::RunsOff);
    for last in [EXIT, insn(JMP, 0, 0, -1, 0), insn(JMP32, 0, 0, 0, -1), insn(JMP | X, 0, 0, 0, 0)]
    {
        assert!(Code::decode(&image(&[&[last]]), &Binding::default()).is_ok(), "{last:x?}");
    }
}

#[test]
fn functions_lie_apart_and_inside() {
    let refused = |functions: &[(usize, usize)]| {
        let functions = functions.iter().enumerate();
        let image = Image {
            insns: vec![EXIT; 4],
            functions: functions
                .map(|(i, (start, len))| Function {
                    name: format!("f{i}"),
                    start: *start,
                    len: *len,
                })
                .collect(),
            ..Image::default()
        };
        Code::decode(&image, &Binding::default()).err().map(|error| error.to_string())
    };
    assert_eq!(refused(&[(0, 2), (2, 2)]), None);
    assert_eq!(refused(&[(3, 1), (0, 2)]), None, "in any order, with a hole");
    let extent = "a function of no instructions, or of more than there are";
    assert_eq!(refused(&[(0, 0)]), Some(format!("f0, instruction 0: {extent}")));
    assert_eq!(refused(&[(0, 2), (2, 3)]), Some(format!("f1, instruction 0: {extent}")));
    assert_eq!(refused(&[(9, 1)]), Some(format!("f0, instruction 0: {extent}")));
    assert_eq!(refused(&[(1, usize::MAX)]), Some(format!("f0, instruction 0: {extent}")));
    let overlap = "f1, instruction 0: the function overlaps with f0".to_owned();
    assert_eq!(refused(&[(0, 3), (2, 2)]), Some(overlap));
}

#[test]
fn an_instruction_has_a_function_and_a_line() {
    let mut with = image(&[&[mov(0, 0), mov(0, 0), EXIT], &[EXIT, EXIT]]);
    let line = |insn, line| Line { insn, file: "f".into(), line, column: 1, text: String::new() };
    // Not in order; the second function has none of its own.
    with.lines = vec![line(1, 20), line(0, 10)];
    let code = Code::decode(&with, &Binding::default()).expect("they are instructions");
    let functions: Vec<_> = (0..6).map(|insn| code.function_of(insn)).collect();
    assert_eq!(functions, [Some(0), Some(0), Some(0), Some(1), Some(1), None]);
    let lines: Vec<_> = (0..6).map(|insn| code.line_of(insn).map(|line| line.line)).collect();
    assert_eq!(lines, [Some(10), Some(20), Some(20), None, None, None]);
}
