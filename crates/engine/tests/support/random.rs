//! Random programs: any sequence of triples is one.

use scxlab_engine::program::{Instr, Policy, Spawn, Who};

use super::prog::{Prog, Routine, mask, run_us, sleep_us};
use super::us;
use scxlab_engine::Nanos;
use scxlab_engine::program::Pc;

/// How many mutexes, condition variables and barriers there are.
const OBJECTS: u32 = 2;

/// A program whose routines are these triples, one instruction each. A routine starts only those
/// after it, so that the tasks do not outnumber the pids at once. The first `starts` routines are
/// started, and never end by themselves.
pub fn random_program(routines: &[Vec<[u8; 3]>], starts: usize, cpus: u32) -> Prog {
    let mut prog = Prog::new();
    prog.0.mutexes = OBJECTS;
    prog.0.conds = OBJECTS;
    prog.0.timers = OBJECTS;
    prog.0.barriers = vec![2; OBJECTS as usize];
    prog.0.cgroups = vec!["/a".into(), "/a/b".into(), "/".into()];
    let mut base = 0;
    let mut all = Vec::new();
    for (i, body) in routines.iter().enumerate() {
        let name = prog.name(&format!("r{i}"));
        all.push(Routine { entry: Pc(base), name });
        // The jump back, and the exit that Prog::routine() adds.
        base += body.len() as u32 + 2;
    }
    for (i, body) in routines.iter().enumerate() {
        let mut code: Vec<_> = body.iter().map(|&t| instr(t, i, &all, cpus)).collect();
        code.push(if i < starts { Instr::Jump(Pc(0)) } else { run_us(50) });
        prog.routine(&format!("r{i}"), code);
    }
    for (i, &routine) in all.iter().enumerate().take(starts.max(1)) {
        prog.start_at(routine, i as u64);
    }
    prog
}

fn instr([op, a, b]: [u8; 3], me: usize, all: &[Routine], cpus: u32) -> Instr {
    let object = u32::from(a) % OBJECTS;
    let long = u64::from(a) * 16 + u64::from(b);
    let later = all.get(me + 1 + usize::from(a) % all.len()).copied();
    let who = match b % 4 {
        0 => Who::Myself,
        1 => Who::LastChild,
        2 => Who::Parent,
        _ => Who::Named(all[usize::from(a) % all.len()].name),
    };
    match op % 36 {
        0..=5 => run_us(1 + long),
        6..=9 => sleep_us(1 + long / 4),
        10 => Instr::Yield,
        11 => Instr::Lock(object),
        12 => Instr::Unlock(object),
        13 | 14 => later.map_or(run_us(20), Routine::thread),
        15 | 16 => later.map_or(run_us(20), Routine::process),
        17 | 18 => all[(me + usize::from(a) % 2).min(all.len() - 1)].exec(),
        19 if a < 64 => Instr::Exit,
        20 if a < 64 => Instr::ExitGroup,
        21 => Instr::Wait,
        22 => Instr::WaitAll,
        23 => Instr::JoinAll,
        24 if a < 64 => Instr::IgnoreChildren,
        25 if a < 128 => Instr::Kill(who),
        26 => Instr::SetNice(who, (a % 40) as i8 - 20),
        27 | 28 => {
            let first = u32::from(a) % cpus;
            Instr::SetAffinity(who, mask(&[first, (first + u32::from(b) % 3) % cpus]))
        }
        29 => {
            let policies = [Policy::Normal, Policy::Ext, Policy::Batch, Policy::Idle];
            Instr::SetPolicy(who, policies[usize::from(a) % 4])
        }
        30 => Instr::SetCgroup(u32::from(a) % 3),
        31 => Instr::MigrateDisable,
        32 => Instr::MigrateEnable,
        33 => match a % 4 {
            0 => Instr::CondWait { cond: object, mutex: object },
            1 => Instr::CondSignal(object),
            2 => Instr::CondBroadcast(object),
            _ => Instr::Barrier(object),
        },
        34 => Instr::Timer {
            timer: object,
            period: Nanos(1 + long * 2_000),
            absolute: b & 1 == 0,
            shared: b & 2 == 0,
        },
        35 => Instr::Runtime(us(1 + long / 4)),
        _ => Instr::Spawn {
            what: if b & 1 == 0 { Spawn::Process } else { Spawn::Thread },
            entry: all[all.len() - 1].entry,
            name: all[all.len() - 1].name,
        },
    }
}
