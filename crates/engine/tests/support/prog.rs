//! Programs, put together from routines whose jumps are relative.

use scxlab_engine::program::{Instr, Pc, Policy, Span, Spawn, Start};
use scxlab_engine::{CpuId, Cpumask, Nanos, Program};

/// A piece of code that a task can start at.
#[derive(Clone, Copy, Debug)]
pub struct Routine {
    pub entry: Pc,
    pub name: u32,
}

impl Routine {
    pub fn thread(self) -> Instr {
        Instr::Spawn { what: Spawn::Thread, entry: self.entry, name: self.name }
    }

    pub fn process(self) -> Instr {
        Instr::Spawn { what: Spawn::Process, entry: self.entry, name: self.name }
    }

    pub fn exec(self) -> Instr {
        Instr::Exec { entry: self.entry, name: self.name }
    }
}

/// A program in the making.
#[derive(Clone, Debug, Default)]
pub struct Prog(pub Program);

impl Prog {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds code; jumps and loops in it count from its own beginning. It exits at its end.
    pub fn routine(&mut self, name: &str, code: Vec<Instr>) -> Routine {
        let base = self.0.code.len() as u32;
        let at = |pc: Pc| Pc(pc.0 + base);
        self.0.code.extend(code.into_iter().map(|instr| match instr {
            Instr::Jump(to) => Instr::Jump(at(to)),
            Instr::Loop { count, end } => Instr::Loop { count, end: at(end) },
            Instr::LoopEnd { body } => Instr::LoopEnd { body: at(body) },
            other => other,
        }));
        self.0.code.push(Instr::Exit);
        let name = self.name(name);
        Routine { entry: Pc(base), name }
    }

    /// Adds code that is done over and over.
    pub fn forever(&mut self, name: &str, mut body: Vec<Instr>) -> Routine {
        body.push(Instr::Jump(Pc(0)));
        self.routine(name, body)
    }

    /// The number of a name.
    pub fn name(&mut self, name: &str) -> u32 {
        if let Some(i) = self.0.names.iter().position(|n| n == name) {
            return i as u32;
        }
        self.0.names.push(name.to_owned());
        self.0.names.len() as u32 - 1
    }

    /// Starts a process at time 0.
    pub fn start(&mut self, routine: Routine) -> &mut Start {
        self.start_at(routine, 0)
    }

    /// Starts a process later.
    pub fn start_at(&mut self, routine: Routine, millis: u64) -> &mut Start {
        self.0.start.push(Start {
            at: Nanos::from_millis(millis),
            ..Start::new(routine.entry, routine.name)
        });
        self.0.start.last_mut().expect("just pushed")
    }

    pub fn build(self) -> Program {
        self.0.check().expect("the program is well formed");
        self.0
    }
}

pub fn ms(n: u64) -> Span {
    Span::exactly(Nanos::from_millis(n))
}

pub fn us(n: u64) -> Span {
    Span::exactly(Nanos(n * 1_000))
}

pub fn run(n: u64) -> Instr {
    Instr::Run(ms(n))
}

pub fn run_us(n: u64) -> Instr {
    Instr::Run(us(n))
}

pub fn sleep(n: u64) -> Instr {
    Instr::Sleep(ms(n))
}

pub fn sleep_us(n: u64) -> Instr {
    Instr::Sleep(us(n))
}

/// A set of CPUs.
pub fn mask(cpus: &[u32]) -> Box<Cpumask> {
    Box::new(cpus.iter().map(|&cpu| CpuId(cpu)).collect())
}
