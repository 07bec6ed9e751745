//! Calls: of functions, of the kernel, and back.

use scxlab_bpf::machine::{Callee, FRAME_SIZE, FRAME_STRIDE, MAX_FRAMES, StartError, Stop, Thread};

use super::build::*;

#[test]
fn a_function_gets_arguments_and_keeps_registers() {
    let caller = [
        mov(1, 3),
        mov(6, 100),
        mov(9, 1000),
        stx(DW, 10, -8, 6),
        call(5),
        insn(ALU64 | X, 0, 6, 0, 0),
        insn(ALU64 | X, 0, 9, 0, 0),
        ldx(DW, 1, 10, -8),
        insn(ALU64 | X, 0, 1, 0, 0),
        EXIT,
    ];
    // Its own frame is all zero, and its registers are its own.
    let callee = [
        ldx(DW, 0, 10, -8),
        stx(DW, 10, -8, 1),
        insn(ALU64 | X, 0, 1, 0, 0),
        mov(6, -1),
        mov(9, -1),
        EXIT,
    ];
    assert_eq!(Machine::new(&[&caller, &callee]).exit(), 3 + 100 + 1000 + 100);
}

#[test]
fn a_frame_can_be_used_by_what_it_calls() {
    let caller = [st(W, 10, -4, 5), movx(1, 10), add(1, -4), call(2), ldx(W, 0, 10, -4), EXIT];
    let callee = [ldx(W, 2, 1, 0), add(2, 1), stx(W, 1, 0, 2), EXIT];
    assert_eq!(Machine::new(&[&caller, &callee]).exit(), 6);
}

#[test]
fn a_frame_is_zero_each_time() {
    let caller = [call(3), call(2), movx(0, 0), EXIT];
    let callee = [ldx(DW, 0, 10, -512), st(DW, 10, -512, 7), EXIT];
    let mut machine = Machine::new(&[&caller, &callee]);
    assert_eq!(machine.exit(), 0);
    machine.thread.start(&mut machine.memory, &machine.code, 1, [0; 5]).expect("it is idle");
    assert_eq!(machine.exit(), 0);
}

#[test]
fn frames_have_an_end() {
    let forever = [call(-1), EXIT];
    let mut machine = Machine::new(&[&forever]);
    assert_eq!(
        machine.fault(),
        "a call deeper than 32 frames in f0, instruction 0 (test.bpf.c:1:2: `line 1;`)"
    );
    assert_eq!(machine.thread.backtrace().count(), MAX_FRAMES);
    let stack = machine.thread.stack().base();
    assert_eq!(machine.thread.registers()[10], stack + 31 * FRAME_STRIDE + FRAME_SIZE as u64);
}

#[test]
fn a_call_of_the_kernel_stops() {
    let program = [mov(2, 7), call_helper(14), movx(6, 0), call_kfunc(1), add(0, 1), EXIT];
    let mut machine = Machine::new(&[&program]);
    let bytes = machine.bytes.base();
    let helper = Stop::Call(Callee::Helper(14), [bytes, 7, 0, 0, 0]);
    assert_eq!(machine.run(), helper);
    assert_eq!(machine.run(), helper, "it still waits");
    assert_eq!(machine.thread.at(), Some(1));
    assert!(machine.thread.resume(42));
    assert!(!machine.thread.resume(43), "once");
    assert!(matches!(machine.run(), Stop::Call(Callee::Kfunc(1), _)));
    assert_eq!(machine.thread.registers()[6], 42);
    machine.thread.resume(u64::MAX);
    assert_eq!(machine.exit(), 0);
    assert_eq!(machine.thread.at(), None);
    assert!(matches!(machine.run(), Stop::Exit(0)), "it has nothing else to run");

    let calls: Vec<_> = machine.code.calls().collect();
    assert_eq!(calls, [(1, Callee::Helper(14)), (3, Callee::Kfunc(1))]);
}

/// `f0` gives the kernel `f1`, which adds its arguments, and then another call's result.
fn with_callback() -> Machine {
    let [load, rest] = pseudo(2, 4, 4, 0);
    let program = [mov(6, 5), load, rest, call_helper(181), insn(ALU64 | X, 0, 6, 0, 0), EXIT];
    let callback =
        [movx(6, 1), insn(ALU64 | X, 6, 2, 0, 0), call_kfunc(0), insn(ALU64 | X, 0, 6, 0, 0), EXIT];
    Machine::new(&[&program, &callback])
}

#[test]
fn the_kernel_calls_back() {
    let mut machine = with_callback();
    let Stop::Call(Callee::Helper(181), args) = machine.run() else { panic!("no call") };
    let function = args[1];
    assert_eq!(machine.code.function_at(function), Some(1));
    assert_eq!(machine.code.address_of(1), Some(function));
    let mut sum = 0;
    for round in 0..3 {
        let (thread, memory) = (&mut machine.thread, &mut machine.memory);
        thread.call(memory, &machine.code, function, [round, 10, 0, 0, 0]).expect("it waits");
        assert!(matches!(machine.run(), Stop::Call(Callee::Kfunc(0), _)));
        assert_eq!(machine.thread.backtrace().collect::<Vec<_>>(), [0, 1]);
        machine.thread.resume(100);
        let Stop::Returned(value) = machine.run() else { panic!("it returns") };
        assert_eq!(value, 100 + round + 10);
        sum += value;
    }
    assert_eq!(machine.thread.at(), Some(3), "it is at its own call again");
    machine.thread.resume(sum);
    assert_eq!(machine.exit(), sum + 5, "its registers are its own");
}

#[test]
fn only_functions_are_called_and_only_when_it_waits() {
    let mut machine = with_callback();
    let (thread, memory) = (&mut machine.thread, &mut machine.memory);
    let function = machine.code.address_of(1).expect("it is there");
    assert_eq!(thread.call(memory, &machine.code, function, [0; 5]), Err(StartError::Busy));
    assert_eq!(thread.start(memory, &machine.code, 0, [0; 5]), Err(StartError::Busy));
    machine.run();
    let (thread, memory) = (&mut machine.thread, &mut machine.memory);
    for addr in [function + 8, function + 1, 0, machine.bytes.base(), u64::MAX] {
        assert_eq!(thread.call(memory, &machine.code, addr, [0; 5]), Err(StartError::NoFunction));
    }
    let mut other = Thread::new(memory, "another").expect("there is room");
    assert_eq!(other.start(memory, &machine.code, 9, [0; 5]), Err(StartError::NoFunction));
}

#[test]
fn callbacks_nest_only_so_deep() {
    let [load, rest] = pseudo(1, 4, -1, 0);
    let mut machine = Machine::new(&[&[load, rest, call_helper(1), EXIT]]);
    let function = machine.code.address_of(0).expect("it is there");
    for depth in 1.. {
        assert!(matches!(machine.run(), Stop::Call(..)));
        let (thread, memory) = (&mut machine.thread, &mut machine.memory);
        match thread.call(memory, &machine.code, function, [0; 5]) {
            Ok(()) => {}
            Err(error) => {
                assert_eq!((error, depth), (StartError::TooDeep, MAX_FRAMES));
                break;
            }
        }
    }
}

#[test]
fn an_aborted_thread_starts_anew() {
    let mut machine = with_callback();
    machine.run();
    machine.thread.abort(&mut machine.memory);
    assert_eq!(machine.thread.at(), None);
    machine.thread.start(&mut machine.memory, &machine.code, 1, [1, 2, 0, 0, 0]).expect("idle");
    assert!(matches!(machine.run(), Stop::Call(Callee::Kfunc(0), _)));
    machine.thread.resume(0);
    assert_eq!(machine.exit(), 3);
}
