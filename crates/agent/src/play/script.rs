//! A program's instructions as bytes that a freshly exec'd image can read where they lie.

use scxlab_engine::program::{Index, Instr, Pc, Policy, Span, Spawn, Who};
use scxlab_engine::{Cpumask, Nanos};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One instruction. What the words mean depends on the lowest byte of the first; [`Op::new`] and
/// [`Op::read`] are each other's inverse, and nobody else looks inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Op {
    kind: u32,
    x: u32,
    y: u64,
    z: u64,
}

/// `Loop` for ever.
const FOREVER: u64 = u64::MAX;

impl Op {
    /// `masks` takes the CPU sets, which do not fit in.
    pub fn new(instr: &Instr, masks: &mut Vec<Cpumask>) -> Self {
        let op = |kind, x, y, z| Self { kind, x, y, z };
        match instr {
            Instr::Run(span) => op(0, 0, span.min.0, span.max.0),
            Instr::Runtime(span) => op(1, 0, span.min.0, span.max.0),
            Instr::Sleep(span) => op(2, 0, span.min.0, span.max.0),
            Instr::Timer { timer, period, absolute, shared } => {
                op(3, *timer, period.0, u64::from(*absolute) | u64::from(*shared) << 1)
            }
            Instr::Yield => op(4, 0, 0, 0),
            Instr::Lock(m) => op(5, *m, 0, 0),
            Instr::Unlock(m) => op(6, *m, 0, 0),
            Instr::CondWait { cond, mutex } => op(7, *cond, u64::from(*mutex), 0),
            Instr::CondSignal(c) => op(8, *c, 0, 0),
            Instr::CondBroadcast(c) => op(9, *c, 0, 0),
            Instr::Barrier(b) => op(10, *b, 0, 0),
            Instr::Spawn { what: Spawn::Process, entry, name } => {
                op(11, *name, u64::from(entry.0), 0)
            }
            Instr::Spawn { what: Spawn::Thread, entry, name } => {
                op(12, *name, u64::from(entry.0), 0)
            }
            Instr::Exec { entry, name } => op(13, *name, u64::from(entry.0), 0),
            Instr::Exit => op(14, 0, 0, 0),
            Instr::ExitGroup => op(15, 0, 0, 0),
            Instr::Wait => op(16, 0, 0, 0),
            Instr::WaitAll => op(17, 0, 0, 0),
            Instr::JoinAll => op(18, 0, 0, 0),
            Instr::IgnoreChildren => op(19, 0, 0, 0),
            Instr::Kill(who) => op(20, 0, whom(*who), 0),
            Instr::SetNice(who, nice) => op(21, 0, whom(*who), *nice as u64),
            Instr::SetAffinity(who, mask) => {
                masks.push(**mask);
                op(22, masks.len() as u32 - 1, whom(*who), 0)
            }
            Instr::SetPolicy(who, policy) => op(23, policy_number(*policy), whom(*who), 0),
            Instr::SetCgroup(cgroup) => op(24, *cgroup, 0, 0),
            Instr::MigrateDisable => op(25, 0, 0, 0),
            Instr::MigrateEnable => op(26, 0, 0, 0),
            Instr::Jump(to) => op(27, to.0, 0, 0),
            Instr::Loop { count, end } => op(28, end.0, count.map_or(FOREVER, u64::from), 0),
            Instr::LoopEnd { body } => op(29, body.0, 0, 0),
        }
    }

    /// Nothing if it is none that [`Op::new`] makes.
    pub fn read(&self, masks: &[Cpumask]) -> Option<Instr> {
        let Self { kind, x, y, z } = *self;
        let span = || Span { min: Nanos(y), max: Nanos(z) };
        let entry = Pc(y as u32);
        Some(match kind {
            0 => Instr::Run(span()),
            1 => Instr::Runtime(span()),
            2 => Instr::Sleep(span()),
            3 => Instr::Timer {
                timer: x,
                period: Nanos(y),
                absolute: z & 1 != 0,
                shared: z & 2 != 0,
            },
            4 => Instr::Yield,
            5 => Instr::Lock(x),
            6 => Instr::Unlock(x),
            7 => Instr::CondWait { cond: x, mutex: y as Index },
            8 => Instr::CondSignal(x),
            9 => Instr::CondBroadcast(x),
            10 => Instr::Barrier(x),
            11 => Instr::Spawn { what: Spawn::Process, entry, name: x },
            12 => Instr::Spawn { what: Spawn::Thread, entry, name: x },
            13 => Instr::Exec { entry, name: x },
            14 => Instr::Exit,
            15 => Instr::ExitGroup,
            16 => Instr::Wait,
            17 => Instr::WaitAll,
            18 => Instr::JoinAll,
            19 => Instr::IgnoreChildren,
            20 => Instr::Kill(who(y)?),
            21 => Instr::SetNice(who(y)?, z as i8),
            22 => Instr::SetAffinity(who(y)?, Box::new(*masks.get(x as usize)?)),
            23 => Instr::SetPolicy(who(y)?, policy(x)?),
            24 => Instr::SetCgroup(x),
            25 => Instr::MigrateDisable,
            26 => Instr::MigrateEnable,
            27 => Instr::Jump(Pc(x)),
            28 => {
                Instr::Loop { count: if y == FOREVER { None } else { Some(y as u32) }, end: Pc(x) }
            }
            29 => Instr::LoopEnd { body: Pc(x) },
            _ => return None,
        })
    }
}

/// The kernel's number.
pub(super) fn policy_number(policy: Policy) -> u32 {
    match policy {
        Policy::Normal => 0,
        Policy::Batch => 3,
        Policy::Idle => 5,
        Policy::Ext => 7,
    }
}

/// The policy of that number.
pub(super) fn policy(number: u32) -> Option<Policy> {
    [Policy::Normal, Policy::Batch, Policy::Idle, Policy::Ext]
        .into_iter()
        .find(|policy| policy_number(*policy) == number)
}

fn whom(who: Who) -> u64 {
    match who {
        Who::Myself => 0,
        Who::LastChild => 1,
        Who::Parent => 2,
        Who::Named(name) => 3 | u64::from(name) << 8,
    }
}

fn who(word: u64) -> Option<Who> {
    Some(match word & 0xff {
        0 => Who::Myself,
        1 => Who::LastChild,
        2 => Who::Parent,
        3 => Who::Named((word >> 8) as Index),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use scxlab_engine::CpuId;

    #[test]
    fn every_instruction_comes_back() {
        let span = Span::between(Nanos(1), Nanos(u64::MAX));
        let mask = Box::new(Cpumask::of(CpuId(1023)));
        let all = [
            Instr::Run(span),
            Instr::Runtime(span),
            Instr::Sleep(span),
            Instr::Timer { timer: 1, period: Nanos(2), absolute: true, shared: false },
            Instr::Timer { timer: 1, period: Nanos(2), absolute: false, shared: true },
            Instr::Yield,
            Instr::Lock(3),
            Instr::Unlock(4),
            Instr::CondWait { cond: 5, mutex: 6 },
            Instr::CondSignal(7),
            Instr::CondBroadcast(8),
            Instr::Barrier(9),
            Instr::Spawn { what: Spawn::Process, entry: Pc(10), name: 11 },
            Instr::Spawn { what: Spawn::Thread, entry: Pc(u32::MAX), name: 13 },
            Instr::Exec { entry: Pc(14), name: 15 },
            Instr::Exit,
            Instr::ExitGroup,
            Instr::Wait,
            Instr::WaitAll,
            Instr::JoinAll,
            Instr::IgnoreChildren,
            Instr::Kill(Who::LastChild),
            Instr::SetNice(Who::Parent, -20),
            Instr::SetAffinity(Who::Myself, Box::new(Cpumask::first_n(2))),
            Instr::SetAffinity(Who::Named(u32::MAX), mask),
            Instr::SetPolicy(Who::Named(16), Policy::Ext),
            Instr::SetPolicy(Who::Myself, Policy::Idle),
            Instr::SetCgroup(17),
            Instr::MigrateDisable,
            Instr::MigrateEnable,
            Instr::Jump(Pc(18)),
            Instr::Loop { count: None, end: Pc(19) },
            Instr::Loop { count: Some(u32::MAX), end: Pc(20) },
            Instr::LoopEnd { body: Pc(21) },
        ];
        let mut masks = Vec::new();
        let ops: Vec<Op> = all.iter().map(|instr| Op::new(instr, &mut masks)).collect();
        let back: Vec<Instr> = ops.iter().filter_map(|op| op.read(&masks)).collect();
        assert_eq!(back, all);
    }

    #[test]
    fn what_is_none_is_refused() {
        assert_eq!(Op { kind: 30, x: 0, y: 0, z: 0 }.read(&[]), None);
        assert_eq!(Op { kind: 22, x: 0, y: 0, z: 0 }.read(&[]), None);
    }
}
