//! From a workload to the engine's program.
//!
//! Each description becomes code once for threads and once for processes, as far as it is started
//! as such; the two differ in how they end. The code begins with what the task sets, then come the
//! phases. Top-level threads enter one instruction earlier, at the barrier where they wait for
//! each other.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use scxlab_engine::program::{self, Index, Instr, Pc, Program, Start};
use scxlab_engine::{CpuId, Cpumask, NR_CPUS, Nanos};

use crate::error::CompileError;
use crate::workload::{
    Attributes, Event, Kind, MAX_INSTANCES, Phase, Policy, Rounds, Span, Task, Who, Workload,
};

/// The most instructions that a program may have.
pub const MAX_INSTRUCTIONS: usize = 1 << 20;
/// CPU time that writing one byte to memory takes, in ns.
pub const MEM_NANOS_PER_BYTE: u64 = 1;
/// Bytes for a device that are prepared in one ns of CPU time, rounded up.
pub const IO_RUN_BYTES_PER_NANO: u64 = 4;
/// How long a device takes for one byte, in ns, while the task sleeps.
pub const IO_SLEEP_NANOS_PER_BYTE: u64 = 1;

pub(crate) fn compile(workload: &Workload, cpus: usize) -> Result<Program, CompileError> {
    if cpus == 0 || cpus > NR_CPUS {
        return Err(CompileError::Cpus { cpus, max: NR_CPUS });
    }
    let instances = workload.instances();
    if instances == 0 {
        return Err(CompileError::NothingStarts);
    }
    if instances > u64::from(MAX_INSTANCES) {
        return Err(CompileError::TooManyInstances { instances });
    }
    let mut compiler = Compiler::new(workload, cpus)?;
    compiler.count_barriers()?;
    compiler.name_tasks()?;
    compiler.main_thread()?;
    for (i, task) in workload.tasks.iter().enumerate() {
        for kind in [Kind::Thread, Kind::Process] {
            if compiler.described[i].entered[kind as usize] {
                compiler.task(i, task, kind)?;
            }
        }
    }
    compiler.finish()
}

/// Numbers in the order in which they are first asked for.
struct Table<K>(HashMap<K, Index>);

impl<K: Hash + Eq> Table<K> {
    fn index(&mut self, key: K) -> Index {
        let next = self.0.len() as Index;
        *self.0.entry(key).or_insert(next)
    }

    fn len(&self) -> u32 {
        self.0.len() as u32
    }
}

/// What is known of a description while compiling.
#[derive(Default)]
struct Described {
    /// Whether it is started as a thread, as a process (by [`Kind`]).
    entered: [bool; 2],
    /// Where its code begins, likewise.
    entry: [Pc; 2],
    /// Its name as an image, and as a task that another one creates.
    name: Index,
    /// Every name under which tasks of it start.
    names: Vec<Index>,
}

struct Compiler<'w> {
    workload: &'w Workload,
    cpus: usize,
    program: Program,
    by_name: HashMap<&'w str, usize>,
    described: Vec<Described>,
    /// Instructions whose entry is to be filled in.
    entries: Vec<(usize, usize, Kind)>,
    mutexes: Table<&'w str>,
    conds: Table<&'w str>,
    timers: Table<(bool, &'w str)>,
    barriers: Table<&'w str>,
    cgroups: Table<&'w str>,
    /// Top-level threads, by description and name.
    threads: Vec<(usize, Index)>,
    /// Where top-level threads wait for each other.
    together: Option<Index>,
}

impl<'w> Compiler<'w> {
    fn new(workload: &'w Workload, cpus: usize) -> Result<Self, CompileError> {
        let mut by_name = HashMap::new();
        for (i, task) in workload.tasks.iter().enumerate() {
            if by_name.insert(task.name.as_str(), i).is_some() {
                return Err(CompileError::SameName { task: task.name.clone() });
            }
        }
        Ok(Self {
            workload,
            cpus,
            program: Program::default(),
            by_name,
            described: workload.tasks.iter().map(|_| Described::default()).collect(),
            entries: Vec::new(),
            mutexes: Table(HashMap::new()),
            conds: Table(HashMap::new()),
            timers: Table(HashMap::new()),
            barriers: Table(HashMap::new()),
            cgroups: Table(HashMap::new()),
            threads: Vec::new(),
            together: None,
        })
    }

    fn find(&self, task: &Task, other: &str) -> Result<usize, CompileError> {
        self.by_name.get(other).copied().ok_or_else(|| CompileError::NoSuchTask {
            task: task.name.clone(),
            other: other.to_owned(),
        })
    }

    fn events(&self) -> impl Iterator<Item = (&'w Task, &'w Event)> + use<'w> {
        self.workload.tasks.iter().flat_map(|task| {
            task.phases.iter().flat_map(|phase| &phase.events).map(move |event| (task, event))
        })
    }

    /// A barrier counts every instance of each task that names it.
    fn count_barriers(&mut self) -> Result<(), CompileError> {
        let mut counted = HashSet::new();
        for (task, event) in self.events() {
            let Event::Barrier(name) = event else { continue };
            let i = self.barriers.index(name);
            if i as usize == self.program.barriers.len() {
                self.program.barriers.push(0);
            }
            if counted.insert((i, &task.name)) {
                self.program.barriers[i as usize] += task.instances;
            }
        }
        for (task, event) in self.events() {
            if let Event::Barrier(name) = event
                && self.program.barriers[self.barriers.index(name) as usize] == 0
            {
                return Err(CompileError::Barrier {
                    task: task.name.clone(),
                    barrier: name.clone(),
                });
            }
        }
        Ok(())
    }

    /// Finds out as what each description starts, and under which names.
    fn name_tasks(&mut self) -> Result<(), CompileError> {
        for (i, task) in self.workload.tasks.iter().enumerate() {
            let name = self.new_name(task.name.clone());
            let described = &mut self.described[i];
            described.name = name;
            described.names.push(name);
            described.entered[task.kind as usize] |= task.instances > 0;
            if task.kind == Kind::Thread {
                for _ in 0..task.instances {
                    // rt-app numbers its threads through.
                    let name = self.new_name(format!("{}-{}", task.name, self.threads.len()));
                    self.threads.push((i, name));
                    self.described[i].names.push(name);
                }
            }
        }
        for (task, event) in self.events() {
            let (other, kind) = match event {
                Event::Create { kind, task } => (task, *kind),
                Event::Exec(task) => (task, Kind::Process),
                _ => continue,
            };
            let other = self.find(task, other)?;
            self.described[other].entered[kind as usize] = true;
        }
        Ok(())
    }

    fn new_name(&mut self, name: String) -> Index {
        self.program.names.push(name);
        self.program.names.len() as Index - 1
    }

    /// The code of the process that the top-level threads belong to.
    fn main_thread(&mut self) -> Result<(), CompileError> {
        let threads = std::mem::take(&mut self.threads);
        let Some((first, _)) = threads.first() else { return Ok(()) };
        let task = &self.workload.tasks[*first];
        let name = self.new_name(self.workload.process.clone());
        self.program.start.push(start(Pc(0), name));
        if threads.len() > 1 {
            self.together = Some(self.program.barriers.len() as Index);
            self.program.barriers.push(threads.len() as u32);
        }
        for (i, name) in threads {
            self.entries.push((self.program.code.len(), i, Kind::Thread));
            let entry = Pc(0);
            self.emit(task, Instr::Spawn { what: program::Spawn::Thread, entry, name })?;
        }
        self.emit(task, Instr::JoinAll)?;
        // Not the end of the process: rt-app also joins what its threads have forked.
        self.emit(task, Instr::Exit)
    }

    fn task(&mut self, i: usize, task: &'w Task, kind: Kind) -> Result<(), CompileError> {
        let from_the_start = kind == Kind::Thread && task.kind == kind && task.instances > 0;
        if let (Some(barrier), true) = (self.together, from_the_start) {
            self.emit(task, Instr::Barrier(barrier))?;
        }
        self.described[i].entry[kind as usize] = self.here();
        if task.delay > Nanos::ZERO {
            self.emit(task, Instr::Sleep(program::Span::exactly(task.delay)))?;
        }
        self.attributes(task, &task.attributes)?;
        let cpus: Vec<Option<&[u32]>> = task
            .phases
            .iter()
            .map(|phase| phase.attributes.cpus.as_deref().or(task.attributes.cpus.as_deref()))
            .collect();
        // Like rt-app, leaves the affinity alone where the phase before had the same; and without
        // any given, those of the creator stay.
        if let (Some(first), Some(last)) = (cpus.first(), cpus.last())
            && first == last
            && cpus.iter().any(Option::is_some)
        {
            self.affinity(task, *first)?;
        }
        self.rounds(task, task.rounds, |this| {
            for (p, phase) in task.phases.iter().enumerate() {
                let before = p.checked_sub(1).unwrap_or(cpus.len() - 1);
                if cpus[p] != cpus[before] {
                    this.affinity(task, cpus[p])?;
                }
                this.phase(task, phase)?;
            }
            Ok(())
        })?;
        let end = if kind == Kind::Thread { Instr::Exit } else { Instr::ExitGroup };
        self.emit(task, end)
    }

    fn phase(&mut self, task: &'w Task, phase: &'w Phase) -> Result<(), CompileError> {
        self.attributes(task, &phase.attributes)?;
        self.rounds(task, phase.rounds, |this| {
            phase.events.iter().try_for_each(|event| this.event(task, event))
        })
    }

    /// All but the CPUs, which depend on the phases around.
    fn attributes(&mut self, task: &Task, attributes: &'w Attributes) -> Result<(), CompileError> {
        if let Some(policy) = attributes.policy {
            self.emit(task, Instr::SetPolicy(program::Who::Myself, policy_of(policy)))?;
        }
        if let Some(nice) = attributes.nice {
            self.emit(task, Instr::SetNice(program::Who::Myself, nice))?;
        }
        if let Some(path) = &attributes.cgroup {
            let index = self.cgroups.index(path);
            if index as usize == self.program.cgroups.len() {
                self.program.cgroups.push(path.clone());
            }
            self.emit(task, Instr::SetCgroup(index))?;
        }
        Ok(())
    }

    /// Sets the task's own CPUs; `None` is all of them.
    fn affinity(&mut self, task: &Task, cpus: Option<&[u32]>) -> Result<(), CompileError> {
        let mask = match cpus {
            Some(cpus) => self.mask(task, cpus)?,
            None => Box::new(Cpumask::first_n(self.cpus)),
        };
        self.emit(task, Instr::SetAffinity(program::Who::Myself, mask))
    }

    fn mask(&self, task: &Task, cpus: &[u32]) -> Result<Box<Cpumask>, CompileError> {
        let wanted: Cpumask = cpus.iter().copied().map(CpuId).collect();
        let mask = wanted.and(&Cpumask::first_n(self.cpus));
        if mask.is_empty() {
            return Err(CompileError::Pinned {
                task: task.name.clone(),
                wanted: if wanted.is_empty() { "(none)".to_owned() } else { wanted.to_string() },
                last: self.cpus - 1,
            });
        }
        Ok(Box::new(mask))
    }

    fn rounds(
        &mut self,
        task: &Task,
        rounds: Rounds,
        body: impl FnOnce(&mut Self) -> Result<(), CompileError>,
    ) -> Result<(), CompileError> {
        let begin = self.here();
        match rounds {
            Rounds::Times(0) => Ok(()),
            Rounds::Times(1) => body(self),
            Rounds::Times(count) => {
                self.emit(task, Instr::Loop { count: Some(count), end: Pc(0) })?;
                body(self)?;
                let here = self.here();
                if let Instr::Loop { end, .. } = &mut self.program.code[begin.0 as usize] {
                    *end = here;
                }
                self.emit(task, Instr::LoopEnd { body: Pc(begin.0 + 1) })
            }
            Rounds::Forever => {
                body(self)?;
                self.emit(task, Instr::Jump(begin))
            }
        }
    }

    fn event(&mut self, task: &'w Task, event: &'w Event) -> Result<(), CompileError> {
        let instr = match event {
            Event::Run(span) => Instr::Run(span_of(*span)),
            Event::Runtime(span) => Instr::Runtime(span_of(*span)),
            Event::Sleep(span) => Instr::Sleep(span_of(*span)),
            Event::Mem { bytes } => run_for(bytes.saturating_mul(MEM_NANOS_PER_BYTE)),
            Event::Io { bytes } => {
                self.emit(task, run_for(bytes.div_ceil(IO_RUN_BYTES_PER_NANO)))?;
                let sleep = Nanos(bytes.saturating_mul(IO_SLEEP_NANOS_PER_BYTE));
                Instr::Sleep(program::Span::exactly(sleep))
            }
            Event::Timer { name, period, absolute, shared } => Instr::Timer {
                timer: self.timers.index((*shared, name)),
                period: *period,
                absolute: *absolute,
                shared: *shared,
            },
            Event::Yield => Instr::Yield,
            Event::Lock(mutex) => Instr::Lock(self.mutexes.index(mutex)),
            Event::Unlock(mutex) => Instr::Unlock(self.mutexes.index(mutex)),
            Event::Wait { cond, mutex } => self.cond_wait(cond, mutex),
            Event::Signal(cond) => Instr::CondSignal(self.conds.index(cond)),
            Event::Broadcast(cond) => Instr::CondBroadcast(self.conds.index(cond)),
            Event::SignalAndWait { cond, mutex } => {
                let signal = Instr::CondSignal(self.conds.index(cond));
                self.emit(task, signal)?;
                self.cond_wait(cond, mutex)
            }
            Event::Suspend(name) => {
                let wait = self.cond_wait(name, name);
                return self.locked(task, name, wait);
            }
            Event::Resume(name) => {
                let wake = Instr::CondBroadcast(self.conds.index(name));
                return self.locked(task, name, wake);
            }
            Event::Barrier(name) => Instr::Barrier(self.barriers.index(name)),
            Event::Create { kind, task: other } => {
                let other = self.find(task, other)?;
                self.entries.push((self.program.code.len(), other, *kind));
                let what = match kind {
                    Kind::Thread => program::Spawn::Thread,
                    Kind::Process => program::Spawn::Process,
                };
                Instr::Spawn { what, entry: Pc(0), name: self.described[other].name }
            }
            Event::Exec(other) => {
                let other = self.find(task, other)?;
                self.entries.push((self.program.code.len(), other, Kind::Process));
                Instr::Exec { entry: Pc(0), name: self.described[other].name }
            }
            Event::Exit => Instr::Exit,
            Event::ExitGroup => Instr::ExitGroup,
            Event::WaitChild => Instr::Wait,
            Event::WaitChildren => Instr::WaitAll,
            Event::JoinThreads => Instr::JoinAll,
            Event::IgnoreChildren => Instr::IgnoreChildren,
            Event::Kill(who) => return self.on(task, who, Instr::Kill),
            Event::SetNice(who, nice) => {
                return self.on(task, who, |who| Instr::SetNice(who, *nice));
            }
            Event::SetAffinity(who, cpus) => {
                let mask = self.mask(task, cpus)?;
                return self.on(task, who, |who| Instr::SetAffinity(who, mask.clone()));
            }
            Event::SetPolicy(who, policy) => {
                return self.on(task, who, |who| Instr::SetPolicy(who, policy_of(*policy)));
            }
        };
        self.emit(task, instr)
    }

    fn cond_wait(&mut self, cond: &'w str, mutex: &'w str) -> Instr {
        Instr::CondWait { cond: self.conds.index(cond), mutex: self.mutexes.index(mutex) }
    }

    fn locked(&mut self, task: &Task, mutex: &'w str, instr: Instr) -> Result<(), CompileError> {
        let mutex = self.mutexes.index(mutex);
        self.emit(task, Instr::Lock(mutex))?;
        self.emit(task, instr)?;
        self.emit(task, Instr::Unlock(mutex))
    }

    /// Does something to each name that `who` stands for.
    fn on(
        &mut self,
        task: &Task,
        who: &Who,
        instr: impl Fn(program::Who) -> Instr,
    ) -> Result<(), CompileError> {
        let who = match who {
            Who::Myself => program::Who::Myself,
            Who::LastChild => program::Who::LastChild,
            Who::Parent => program::Who::Parent,
            Who::Named(other) => {
                let other = self.find(task, other)?;
                for i in 0..self.described[other].names.len() {
                    let name = self.described[other].names[i];
                    self.emit(task, instr(program::Who::Named(name)))?;
                }
                return Ok(());
            }
        };
        self.emit(task, instr(who))
    }

    fn emit(&mut self, task: &Task, instr: Instr) -> Result<(), CompileError> {
        if self.program.code.len() >= MAX_INSTRUCTIONS {
            let max = MAX_INSTRUCTIONS;
            return Err(CompileError::TooLong { task: task.name.clone(), max });
        }
        self.program.code.push(instr);
        Ok(())
    }

    fn here(&self) -> Pc {
        Pc(self.program.code.len() as u32)
    }

    fn finish(mut self) -> Result<Program, CompileError> {
        let main_length = self.main_length();
        for (at, i, kind) in std::mem::take(&mut self.entries) {
            let at_main = self.together.is_some() && at < main_length;
            let begin = self.described[i].entry[kind as usize];
            if let Instr::Spawn { entry, .. } | Instr::Exec { entry, .. } =
                &mut self.program.code[at]
            {
                *entry = if at_main { Pc(begin.0 - 1) } else { begin };
            }
        }
        for (i, task) in self.workload.tasks.iter().enumerate() {
            if task.kind == Kind::Process {
                let entry = self.described[i].entry[Kind::Process as usize];
                let started = (0..task.instances).map(|_| start(entry, self.described[i].name));
                self.program.start.extend(started);
            }
        }
        self.program.mutexes = self.mutexes.len();
        self.program.conds = self.conds.len();
        self.program.timers = self.timers.len();
        self.program.check()?;
        Ok(self.program)
    }

    /// How many threads the main thread creates; its code comes first.
    fn main_length(&self) -> usize {
        let threads = self.workload.tasks.iter().filter(|task| task.kind == Kind::Thread);
        threads.map(|task| task.instances as usize).sum()
    }
}

/// When a workload begins. A scheduler that is attached at 0 has all tasks by then, as one has
/// whose user starts the workload under it.
pub const BEGIN: Nanos = Nanos::from_millis(100);

fn start(entry: Pc, name: Index) -> Start {
    Start {
        entry,
        name,
        policy: program::Policy::Normal,
        nice: 0,
        affinity: None,
        cgroup: None,
        at: BEGIN,
    }
}

fn run_for(nanos: u64) -> Instr {
    Instr::Run(program::Span::exactly(Nanos(nanos)))
}

fn span_of(span: Span) -> program::Span {
    program::Span::between(span.min, span.max)
}

fn policy_of(policy: Policy) -> program::Policy {
    match policy {
        Policy::Normal => program::Policy::Normal,
        Policy::Batch => program::Policy::Batch,
        Policy::Idle => program::Policy::Idle,
        Policy::Ext => program::Policy::Ext,
    }
}
