//! What runs a program: registers, and a stack of frames.

use super::address::RegionId;
use super::code::{Callee, Code};
use super::fault::Fault;
use super::memory::{FRAME_SIZE, FRAME_STRIDE, Full, Memory, Region};

/// The most frames that a thread has: as many of 512 bytes as a kernel stack of 16 KiB.
///
/// The verifier's own limit (`MAX_CALL_FRAMES`, 16 in Linux 7.2) counts from the last global
/// function, so there can be more than that.
pub const MAX_FRAMES: usize = 32;

/// How many instructions after a frame's first `may_goto` the next one jumps.
///
/// Kernels that can, x86-64 among them, end such a loop after 250 ms instead
/// (`bpf_check_timed_may_goto()`), and others after `BPF_MAX_LOOPS` passes, on neither of which any
/// program's result may depend. This count is the same on every machine, and as much as a loop may
/// need, whatever its length, without the program's end being in doubt.
pub const MAY_GOTO_INSNS: u64 = 10_000_000;

/// One function's frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Which function it is.
    pub function: usize,
    /// Where it was called from, and where the caller goes on.
    pub from: Return,
    /// The caller's r6 to r9.
    pub saved: [u64; 4],
    /// [`Thread::executed`] at its first `may_goto`.
    pub may_goto: Option<u64>,
}

/// What a function returns to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Return {
    /// Whoever started the thread.
    Start,
    /// The function below, at this instruction.
    Caller(usize),
    /// Whoever works on the call that the function below stopped at, at this instruction.
    Kernel(usize),
}

/// Where a thread stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has nothing to run.
    Idle,
    /// It can go on.
    Ready,
    /// It waits for what it called.
    Calling,
}

/// A program that runs, or has run. A value: a clone, with a clone of the memory, goes on like the
/// original.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// r0 to r10; the others are not used.
    pub(super) regs: [u64; 16],
    pub(super) pc: usize,
    pub(super) frames: Vec<Frame>,
    pub(super) stack: RegionId,
    pub(super) phase: Phase,
    /// How many instructions it has executed since it was made.
    pub(super) executed: u64,
}

/// Why a thread stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The program is done, with this in r0.
    Exit(u64),
    /// The program calls the kernel, with r1 to r5. It goes on after [`Thread::resume`].
    Call(Callee, [u64; 5]),
    /// A function that [`Thread::call`] called is done, with this in r0. The program still waits
    /// for what it called itself.
    Returned(u64),
    /// It used up its fuel, and can go on at any time.
    OutOfFuel,
    /// It did what it must not. The instruction has changed nothing; if the thread runs again, it
    /// is tried again.
    Fault(Box<Fault>),
}

/// What cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// No function is there.
    #[error("there is no such function")]
    NoFunction,
    /// The thread is running something else.
    #[error("the thread is in the middle of something else")]
    Busy,
    /// The thread has as many frames as it can have.
    #[error("the call stack of {MAX_FRAMES} frames is full")]
    TooDeep,
}

impl Thread {
    /// One that has nothing to run, and its stack.
    ///
    /// # Errors
    ///
    /// There is no memory for it.
    pub fn new(memory: &mut Memory, name: &str) -> Result<Self, Full> {
        let stack = memory.alloc_stack(Region::new(format!("the stack of {name}")))?;
        Ok(Self {
            regs: [0; 16],
            pc: 0,
            frames: Vec::new(),
            stack,
            phase: Phase::Idle,
            executed: 0,
        })
    }

    /// Starts a function with up to five arguments, in r1 to r5. All other registers are zero, and
    /// so is each frame of the stack when a function gets it.
    ///
    /// # Errors
    ///
    /// There is no such function, or the thread is not done with the last one.
    pub fn start(
        &mut self,
        memory: &mut Memory,
        code: &Code,
        function: usize,
        args: [u64; 5],
    ) -> Result<(), StartError> {
        if self.phase != Phase::Idle {
            return Err(StartError::Busy);
        }
        if function >= code.functions.len() {
            return Err(StartError::NoFunction);
        }
        self.regs = [0; 16];
        self.push(memory, code, function, args, Return::Start);
        Ok(())
    }

    /// Calls a function of the program from within the call that it stopped at: a callback. Its
    /// end is [`Stop::Returned`]. `function` is its address.
    ///
    /// # Errors
    ///
    /// There is no such function, the program has not called the kernel, or there are too many
    /// frames.
    pub fn call(
        &mut self,
        memory: &mut Memory,
        code: &Code,
        function: u64,
        args: [u64; 5],
    ) -> Result<(), StartError> {
        if self.phase != Phase::Calling {
            return Err(StartError::Busy);
        }
        if self.frames.len() == MAX_FRAMES {
            return Err(StartError::TooDeep);
        }
        let index = code.function_at(function).ok_or(StartError::NoFunction)?;
        self.push(memory, code, index, args, Return::Kernel(self.pc));
        Ok(())
    }

    /// Gives the program what its call of the kernel returns. Returns whether it waits for that.
    pub fn resume(&mut self, value: u64) -> bool {
        let waits = self.phase == Phase::Calling;
        if waits {
            self.regs[0] = value;
            self.pc += 1;
            self.phase = Phase::Ready;
        }
        waits
    }

    /// Ends whatever it runs.
    pub fn abort(&mut self, memory: &mut Memory) {
        self.frames.clear();
        self.phase = Phase::Idle;
        memory.give_stack(self.stack, Vec::new());
    }

    /// Gives its stack back.
    pub fn free(self, memory: &mut Memory) {
        memory.free(self.stack);
    }

    /// The instruction that it is at, in the image; nothing if it has nothing to run.
    pub fn at(&self) -> Option<usize> {
        (self.phase != Phase::Idle).then_some(self.pc)
    }

    /// The functions that it is in, outermost first.
    pub fn backtrace(&self) -> impl Iterator<Item = usize> {
        self.frames.iter().map(|frame| frame.function)
    }

    /// Its registers, r0 to r10.
    pub fn registers(&self) -> [u64; 11] {
        std::array::from_fn(|i| self.regs[i])
    }

    /// The region of its stack.
    pub fn stack(&self) -> RegionId {
        self.stack
    }

    fn push(
        &mut self,
        memory: &mut Memory,
        code: &Code,
        function: usize,
        args: [u64; 5],
        from: Return,
    ) {
        let saved = [self.regs[6], self.regs[7], self.regs[8], self.regs[9]];
        self.frames.push(Frame { function, from, saved, may_goto: None });
        let mut stack = memory.take_stack(self.stack);
        stack.resize(self.frames.len() * FRAME_SIZE, 0);
        memory.give_stack(self.stack, stack);
        self.regs[1..6].copy_from_slice(&args);
        self.regs[10] = fp(self.stack, self.frames.len());
        self.pc = code.functions[function].start;
        self.phase = Phase::Ready;
    }
}

/// r10 of the last of so many frames.
pub(super) fn fp(stack: RegionId, frames: usize) -> u64 {
    let before = frames.saturating_sub(1) as u64;
    stack.base() + before * FRAME_STRIDE + FRAME_SIZE as u64
}
