//! Where other CPUs go on in the middle of a program.
//!
//! The engine lets them ([`Cx::others_go_on`](scxlab_engine::Cx::others_go_on)); here is when: the
//! seed draws how many instructions, or calls of the kernel, a program runs before it is left.

use std::fmt;
use std::str::FromStr;

use scxlab_engine::Cx;

use super::call::{Away, Bad, Call, Failed};
use super::race::{Access, Kind};
use crate::Insn;
use crate::insn::mode::{ATOMIC, MEM, MEMSX};
use crate::machine::Thread;

/// Instructions before a program is left for the first time, on average; then twice as many.
const INSTRUCTIONS: u64 = 48;
/// Calls of the kernel, likewise.
const CALLS: u64 = 4;

/// Instructions of a program that runs in the middle of another one, at most. One that runs longer
/// waits for something that only the other one can do, a lock of their own, say.
const WITHIN: u64 = 10_000;

/// Where other CPUs may go on in the middle of a compiled scheduler's callbacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interleave {
    /// Nowhere but where the core itself drops its locks.
    #[default]
    Off,
    /// Before calls of helpers and kernel functions.
    Calls,
    /// Before any instruction. What programs read and write is watched for data races.
    Instructions,
}

impl Interleave {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Off, "off"), (Self::Calls, "calls"), (Self::Instructions, "instructions")];
}

impl fmt::Display for Interleave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Self::ALL.iter().find(|(mode, _)| mode == self);
        f.write_str(known.map_or("", |(_, name)| name))
    }
}

impl FromStr for Interleave {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.iter().find(|(_, known)| *known == name);
        known.map(|(mode, _)| *mode).ok_or("give off, calls or instructions")
    }
}

/// When a program is left next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    mode: Interleave,
    /// So many instructions, or calls, before it is.
    left: u64,
    /// How many it is next, on average.
    next: u64,
}

impl Pace {
    /// Of a program that begins.
    pub fn new(mode: Interleave, cx: &mut Cx<'_>) -> Self {
        let next = match mode {
            Interleave::Calls => CALLS,
            Interleave::Off | Interleave::Instructions => INSTRUCTIONS,
        };
        let mut pace = Self { mode, left: u64::MAX, next };
        if mode != Interleave::Off && cx.can_be_left() {
            pace.draw(cx);
        }
        pace
    }

    fn draw(&mut self, cx: &mut Cx<'_>) {
        self.left = cx.draw(self.next.saturating_mul(2));
        self.next = self.next.saturating_mul(2);
    }

    /// The program is left. One that runs in the middle of another one is left once: those that
    /// spin would be left without end, one in the other.
    fn leave(&mut self, cx: &mut Cx<'_>) {
        match cx.is_within_another() {
            true => self.left = u64::MAX,
            false => self.draw(cx),
        }
    }

    /// Whether the program is about to be left.
    pub fn is_over(self) -> bool {
        self.left == 0
    }

    /// Whether each instruction is looked at.
    pub fn steps(self) -> bool {
        self.mode == Interleave::Instructions
    }

    /// Instructions that a program may run, where `most` is for one that nobody waits for.
    pub fn budget(self, cx: &Cx<'_>, most: u64) -> u64 {
        if cx.is_within_another() { WITHIN.min(most) } else { most }
    }
}

impl Call<'_, '_> {
    /// The program is about to run an instruction.
    pub(super) fn before_instruction(&mut self, thread: &Thread) -> Result<(), Failed> {
        self.may_be_left()?;
        let insn = thread.at().and_then(|pc| Some((pc, *self.sched.image.insns.get(pc)?)));
        let Some((pc, insn)) = insn else { return Ok(()) };
        self.at = (pc, thread.backtrace().next().unwrap_or_default());
        match accessed(insn, &thread.registers()) {
            Some((addr, size, kind)) => self.watch(addr, size, kind),
            None => Ok(()),
        }
    }

    /// The kernel changes memory for the program, atomically.
    pub(super) fn changes_atomically(&mut self, addr: u64, size: u64) -> Result<(), Away> {
        self.watch(addr, size, Kind::AtomicWrite)
    }

    fn watch<E: From<Away>>(&mut self, addr: u64, size: u64, kind: Kind) -> Result<(), E> {
        if !self.pace.steps() {
            return Ok(());
        }
        let (pc, function) = self.at;
        let locks = self.sections.locks().iter().copied().chain(self.held).collect();
        let access = Access { pc, addr, size, kind, locks, first: 0, last: 0 };
        let (sched, now) = (self.sched, self.cx.now());
        let inner = self.inner()?;
        if inner.memory.is_shared(addr)
            && let Some(races) = &mut inner.races
        {
            races.access(access, function, now, |addr| sched.name_at(&inner.memory, addr));
        }
        Ok(())
    }

    /// The program has called the kernel, which has not begun.
    pub(super) fn before_call(&mut self) -> Result<(), Failed> {
        if self.pace.mode == Interleave::Calls { self.may_be_left() } else { Ok(()) }
    }

    fn may_be_left(&mut self) -> Result<(), Failed> {
        match self.pace.left.checked_sub(1) {
            Some(left) => self.pace.left = left,
            None => {
                self.pace.leave(self.cx);
                // Each event that is tried copies the engine, and what is not shared of the memory.
                self.inner()?.memory.share();
                self.with_core(Cx::others_go_on);
            }
        }
        self.goes_on()
    }

    /// Nothing is done any more that is taken back anyway.
    fn goes_on(&self) -> Result<(), Failed> {
        match self.cx.will_be_taken_back() {
            true => Err(Failed::Other("it waits for another CPU".to_owned())),
            false => Ok(()),
        }
    }

    /// Whether a lock that is taken is another CPU's that is half-way through a program: then this
    /// program waits for it.
    pub(super) fn waits_for_lock(&mut self) -> Result<(), Bad> {
        self.cx.must_wait();
        match self.cx.is_within_another() {
            true => Err("it waits for another CPU".into()),
            false => Ok(()),
        }
    }
}

/// What memory an instruction accesses: address, bytes, how.
fn accessed(insn: Insn, regs: &[u64; 11]) -> Option<(u64, u64, Kind)> {
    const LOAD_ACQ: i32 = 0x100;
    let (reg, kind) = match (insn.class(), insn.mode()) {
        (1, MEM | MEMSX) => (insn.src, Kind::Read),
        (2 | 3, MEM) => (insn.dst, Kind::Write),
        (3, ATOMIC) if insn.imm == LOAD_ACQ => (insn.src, Kind::AtomicRead),
        (3, ATOMIC) => (insn.dst, Kind::AtomicWrite),
        _ => return None,
    };
    let addr = regs.get(usize::from(reg))?.wrapping_add(i64::from(insn.off) as u64);
    Some((addr, u64::from(insn.access_size()), kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for (mode, name) in Interleave::ALL {
            assert_eq!((mode.to_string().as_str(), name.parse()), (name, Ok(mode)));
        }
        assert!("sometimes".parse::<Interleave>().is_err());
    }

    #[test]
    fn accesses_are_told_by_their_codes() {
        let mut regs = [0; 11];
        (regs[1], regs[2]) = (0x1000, 0x2000);
        let insn = |code, imm| Insn { code, dst: 1, src: 2, off: 8, imm };
        for (code, imm, found) in [
            (0x79, 0, Some((0x2008, 8, Kind::Read))),
            (0x91, 0, Some((0x2008, 1, Kind::Read))),
            (0x7b, 0, Some((0x1008, 8, Kind::Write))),
            (0x62, 7, Some((0x1008, 4, Kind::Write))),
            (0xdb, 0, Some((0x1008, 8, Kind::AtomicWrite))),
            (0xc3, 0x100, Some((0x2008, 4, Kind::AtomicRead))),
            (0xc3, 0x110, Some((0x1008, 4, Kind::AtomicWrite))),
            (0x07, 0, None),
            (0x18, 0, None),
            (0x85, 0, None),
        ] {
            assert_eq!(accessed(insn(code, imm), &regs), found, "{code:#x}");
        }
    }
}
