//! Running a program as one of a scheduler's operations.

use scxlab_engine::{CpuId, Cpumask, Cx, Task};

use super::BpfScheduler;
use super::args::{Filled, Value};
use super::bpf_func::{self, Fired, Next, Rings, Walk};
use super::failed::AWAY;
pub(super) use super::failed::{Away, Bad, Failed};
use super::interleave::Pace;
use super::kfunc::{self, Kfunc, Sections};
use super::object::{Mask, Object, Outside, of_task};
use super::state::{Inner, MAX_ARGS, State};
use super::twin::Twin;
use crate::machine::{
    Callee, Denied, Fault, Full, Memory, Region, RegionId, Stop, Thread, address, run,
};

/// An argument of an operation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arg<'a, 'r> {
    Number(u64),
    Task(Option<Task<'r>>),
    /// A cgroup, by its id.
    Cgroup(u64),
    /// `p->cpus_ptr`.
    CpusOf(Task<'r>),
    /// A CPU's runqueue.
    Runqueue(CpuId),
    /// A set of cids: `struct scx_cmask`, in the arena if there is one.
    Cids(&'a Cpumask),
    /// Text.
    Text(&'a str),
    /// A pointer to a structure that the engine does not have.
    Unknown(&'static str),
    /// A structure.
    Struct(&'a Filled<'a, 'r>),
}

/// A program that is running, with all that it can reach.
pub(super) struct Call<'a, 'r> {
    pub sched: &'a BpfScheduler,
    pub cx: &'a mut Cx<'r>,
    /// Nothing while the engine has it.
    pub(super) inner: Option<Box<Inner>>,
    /// What r1 to r5 were when the kernel was called.
    pub args: [u64; 5],
    /// What the program called.
    pub callee: Callee,
    /// The program may sleep, outside of such sections and of locks.
    pub sleepable: bool,
    /// The sections that the program is in.
    pub sections: Sections,
    /// Helpers that are calling the program back, innermost last.
    pub walks: Vec<Walk>,
    /// A helper has begun to call back, and has no result yet.
    pub begun: bool,
    /// The `bpf_spin_lock` that the program holds.
    pub held: Option<u64>,
    /// The timer whose callback this is.
    pub timer: Option<u64>,
    /// What the kernel did for the program, in instructions of its budget.
    pub spent: u64,
    /// Instructions that it may still run.
    pub fuel: u64,
    /// When other CPUs go on in its middle.
    pub pace: Pace,
    /// A clone that was made in its middle, and what has become of it.
    pub twin: Option<Twin>,
    /// The instruction where it is, and its function, if each instruction is looked at.
    pub at: (usize, usize),
}

impl<'a, 'r> Call<'a, 'r> {
    /// The state, which is with us but in [`Call::with_core`].
    pub fn inner(&mut self) -> Result<&mut Inner, Away> {
        self.inner.as_deref_mut().ok_or(Away)
    }

    /// Lets the engine work; the state is with it meanwhile, since that may call operations.
    pub fn with_core<R>(&mut self, f: impl FnOnce(&mut Cx<'r>) -> R) -> R {
        if let Some(state) = self.cx.state::<State>() {
            state.0 = self.inner.take();
        }
        let result = f(self.cx);
        self.inner = self.cx.state::<State>().and_then(|state| state.0.take());
        result
    }

    /// Reads memory of the program's.
    pub fn read(&mut self, addr: u64, into: &mut [u8]) -> Result<(), Bad> {
        let size = into.len();
        self.spent += 1 + size as u64 / 8;
        self.access((addr, size, false), |memory, outside| memory.read(outside, addr, into))
    }

    /// Reads what may not be there, as a kernel does that catches the fault: whether it was. What is
    /// only the engine's lack is no such fault.
    pub fn try_read(&mut self, addr: u64, into: &mut [u8]) -> Result<bool, Bad> {
        match self.read(addr, into) {
            Ok(()) => Ok(true),
            Err(lacks @ Bad::Lacks(..)) => Err(lacks),
            Err(_) => Ok(false),
        }
    }

    /// Writes memory of the program's.
    pub fn write(&mut self, addr: u64, from: &[u8]) -> Result<(), Bad> {
        self.spent += 1 + from.len() as u64 / 8;
        self.access((addr, from.len(), true), |memory, outside| memory.write(outside, addr, from))
    }

    /// Tries until all objects that are pointed to have their addresses.
    fn access(
        &mut self,
        access: (u64, usize, bool),
        mut done: impl FnMut(&mut Memory, &mut Outside<'_, 'r>) -> Result<(), Denied>,
    ) -> Result<(), Bad> {
        loop {
            let Inner { memory, objects, .. } = &mut **self.inner.as_mut().ok_or(Away)?;
            let layouts = &self.sched.layouts;
            let mut outside = Outside::new(self.cx, objects, layouts);
            let denied = match done(memory, &mut outside) {
                Ok(()) => return Ok(()),
                Err(denied) => denied,
            };
            let Some(object) = outside.wanted else {
                return Err(match outside.lacks {
                    true => Bad::Lacks(access, denied),
                    false => Bad::Access(access, denied),
                });
            };
            self.object(object)?;
        }
    }

    /// A 64-bit number of the program's.
    pub fn read_word(&mut self, addr: u64) -> Result<u64, Bad> {
        let mut bytes = [0; 8];
        self.read(addr, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The same, so many bytes from an address.
    pub fn read_at(&mut self, addr: u64, offset: u64) -> Result<u64, Bad> {
        self.read_word(addr.wrapping_add(offset))
    }

    /// [`Call::put_word`] so many bytes from an address.
    pub fn put_at(&mut self, addr: u64, offset: u64, word: u64) -> Result<(), Bad> {
        self.put_word(addr.wrapping_add(offset), word)
    }

    /// Writes a 64-bit number, whether the program may or not: where it is, is the kernel's.
    pub fn put_word(&mut self, addr: u64, word: u64) -> Result<(), Bad> {
        let id = RegionId::of(addr).ok_or_else(|| format!("nothing is at {addr:#x}"))?;
        let offset = address::offset(addr);
        let put = self.inner()?.memory.poke(id, offset, &word.to_le_bytes());
        put.map_err(|denied| Bad::Access((addr, 8, true), denied))
    }

    /// The task that an argument is.
    pub fn task(&mut self, arg: usize) -> Result<Task<'r>, Bad> {
        let addr = self.args[arg];
        let object = self.inner.as_ref().ok_or(Away)?.objects.at(addr);
        let task = match object {
            Some(Object::Task(slot)) => self.cx.task_in(slot),
            _ => None,
        };
        task.ok_or_else(|| format!("its argument {} is no task: {addr:#x}", arg + 1).into())
    }

    /// The id of the cgroup that an argument is.
    pub fn cgroup(&mut self, arg: usize) -> Result<u64, Bad> {
        let addr = self.args[arg];
        match self.inner.as_ref().ok_or(Away)?.objects.at(addr) {
            Some(Object::Cgroup(id)) => Ok(id),
            _ => Err(format!("its argument {} is no cgroup: {addr:#x}", arg + 1).into()),
        }
    }

    /// The address of an object.
    pub fn object(&mut self, object: Object) -> Result<u64, Full> {
        let Inner { memory, objects, .. } = &mut **self.inner.as_mut().ok_or(Full)?;
        Ok(objects.region(memory, &self.sched.layouts, self.cx, object)?.base())
    }

    /// The address of a task, or NULL for none.
    pub fn address(&mut self, p: Option<Task<'r>>) -> Result<u64, Full> {
        p.map_or(Ok(0), |p| self.object(of_task(self.cx, p)))
    }
}

impl BpfScheduler {
    /// Runs a program with these arguments; what it returns.
    pub(super) fn run<'r>(
        &self,
        cx: &mut Cx<'r>,
        program: usize,
        args: &[Arg<'_, 'r>],
    ) -> Result<u64, Failed> {
        self.enter(cx, None, |call, thread| call.run(thread, program, args))
    }

    /// Whether a program may sleep.
    pub(super) fn may_sleep(&self, program: usize) -> bool {
        self.image.programs.iter().any(|known| known.function == program && known.sleepable)
    }

    /// A timer that was started goes off: runs its callback.
    pub(super) fn timer_fires(&self, cx: &mut Cx<'_>, number: u32) -> Result<(), (String, Failed)> {
        let here = (cx.now(), cx.this_cpu().0);
        let Some(inner) = cx.state::<State>().and_then(|state| state.0.as_deref_mut()) else {
            return Ok(());
        };
        let Inner { timers, maps, memory, .. } = inner;
        let fired = match timers.ring(number, here, maps, memory) {
            Rings::Nobody => return Ok(()),
            Rings::Later(number, at) => {
                cx.timer_start(number, at);
                return Ok(());
            }
            Rings::Now(fired) => fired,
        };
        let function = self.code.function_at(fired.callback).unwrap_or_default();
        let done = self
            .enter(cx, Some(fired.timer), |call, thread| call.run_timer(thread, function, &fired));
        let name = || self.code.functions().get(function).map(|f| f.name.clone());
        done.map(drop).map_err(|failed| (name().unwrap_or_default(), failed))
    }

    pub(super) fn enter<'r>(
        &self,
        cx: &mut Cx<'r>,
        timer: Option<u64>,
        run: impl FnOnce(&mut Call<'_, 'r>, &mut Thread) -> Result<u64, Failed>,
    ) -> Result<u64, Failed> {
        let pace = Pace::new(self.interleave, cx);
        let (cpu, rq) = (cx.this_cpu().0, cx.locked_cpu().map(|cpu| cpu.0));
        let mut inner = cx.state::<State>().and_then(|state| state.0.take()).ok_or(Away)?;
        if let Some(races) = &mut inner.races {
            races.begin(cpu, rq);
        }
        let fuel = pace.budget(cx, self.budget);
        let mut call = Call {
            sched: self,
            cx,
            inner: Some(inner),
            args: [0; 5],
            callee: Callee::Helper(0),
            sleepable: false,
            sections: Sections::default(),
            walks: Vec::new(),
            begun: false,
            held: None,
            timer,
            spent: 0,
            fuel,
            pace,
            twin: None,
            at: (0, 0),
        };
        let result = call.thread().and_then(|mut thread| {
            call.inner()?.running += 1;
            let result = run(&mut call, &mut thread);
            for walk in std::mem::take(&mut call.walks) {
                walk.end(&mut call);
            }
            let put = call.put_orphans();
            let inner = call.inner()?;
            thread.abort(&mut inner.memory);
            inner.ended(thread);
            result.and_then(|value| put.map(|()| value))
        });
        let Call { cx, mut inner, .. } = call;
        if let Some(races) = inner.as_mut().and_then(|inner| inner.races.as_mut()) {
            races.end();
        }
        if let Some(state) = cx.state::<State>() {
            state.0 = inner;
        }
        result
    }
}

impl<'r> Call<'_, 'r> {
    /// `in_sleepable_context()`.
    pub fn may_sleep(&self) -> bool {
        self.sleepable && self.held.is_none() && self.sections.are_none()
    }

    /// Gives back what deleted values own, as the outermost program ends: `bpf_obj_free_fields()`.
    fn put_orphans(&mut self) -> Result<(), Failed> {
        let inner = self.inner()?;
        if inner.running > 1 || inner.maps.deleted().is_empty() {
            return Ok(());
        }
        Ok(kfunc::put_orphans(self)?)
    }

    fn thread(&mut self) -> Result<Thread, Failed> {
        let inner = self.inner()?;
        if let Some(thread) = inner.idle.pop() {
            return Ok(thread);
        }
        inner.threads += 1;
        let name = format!("thread {}", inner.threads);
        Ok(Thread::new(&mut inner.memory, &name)?)
    }

    pub(super) fn run(
        &mut self,
        thread: &mut Thread,
        program: usize,
        args: &[Arg<'_, 'r>],
    ) -> Result<u64, Failed> {
        let code = &self.sched.code;
        self.sleepable = self.sched.may_sleep(program);
        let mut passed = Vec::new();
        let mut words = [0; 8 * MAX_ARGS];
        for (arg, word) in args.iter().zip(words.as_chunks_mut::<8>().0) {
            *word = self.arg(&mut passed, arg)?.to_le_bytes();
        }
        let inner = self.inner()?;
        let context = inner.context()?;
        inner.memory.poke(context, 0, &words).map_err(|_| Full)?;
        let args = [context.base(), 0, 0, 0, 0];
        let begun = thread.start(&mut self.inner()?.memory, code, program, args);
        let result = match begun {
            Ok(()) => self.go_on(thread),
            Err(err) => Err(Failed::Other(err.to_string())),
        };
        let inner = self.inner()?;
        passed.into_iter().for_each(|id| {
            inner.memory.free(id);
        });
        inner.contexts.push(context);
        result
    }

    /// The 64 bits that a program sees of an argument.
    fn arg(&mut self, passed: &mut Vec<RegionId>, arg: &Arg<'_, 'r>) -> Result<u64, Failed> {
        Ok(match *arg {
            Arg::Number(number) => number,
            Arg::Task(p) => self.address(p)?,
            Arg::Cgroup(id) => self.object(Object::Cgroup(id))?,
            Arg::Runqueue(cpu) => self.object(Object::Rq(cpu))?,
            Arg::CpusOf(p) => {
                let task = self.address(Some(p))?;
                let mask = self.sched.layouts.cpus_mask;
                match self.cx.get(p) {
                    task if task.migration_disabled > 0 => {
                        let cpu = task.task_cpu();
                        self.object(Object::Mask(Mask::One(cpu)))?
                    }
                    _ => task + u64::from(mask),
                }
            }
            Arg::Cids(cids) => match self.cids_in_arena(0, cids)? {
                Some(addr) => addr,
                None => {
                    let bytes = self.sched.shapes.cmask(self.cx, cids);
                    self.pass(passed, "scx_cmask".to_owned(), bytes)?
                }
            },
            Arg::Text(text) => {
                let text = [text.as_bytes(), b"\0"].concat();
                self.pass(passed, "text that was passed".to_owned(), text)?
            }
            Arg::Unknown(name) => {
                let region = Region::read_only(format!("the {name}"));
                let id = self.inner()?.memory.alloc_foreign(region, 4096)?;
                passed.push(id);
                id.base()
            }
            Arg::Struct(filled) => {
                let mut bytes = filled.shape.bytes();
                for (value, field) in filled.values.iter().zip(&filled.shape.fields) {
                    let word = match value {
                        Value::Number(number) => *number,
                        Value::Task(p) => self.address(Some(*p))?,
                        Value::Cgroup(id) => self.object(Object::Cgroup(*id))?,
                        Value::Cids(cids) => self.cids_in_arena(0, cids)?.unwrap_or(0),
                        Value::Text(text) => {
                            let text = [text.as_bytes(), b"\0"].concat();
                            let name = format!("{} of {}", field.name, filled.shape.name);
                            self.pass(passed, name, text)?
                        }
                        Value::Struct(inner) => {
                            let arg = Arg::Struct(inner);
                            self.arg(passed, &arg)?
                        }
                    };
                    field.put(&mut bytes, word);
                }
                self.pass(passed, filled.shape.name.to_owned(), bytes)?
            }
        })
    }

    /// A timer's callback has its map, its key and its value.
    fn run_timer(
        &mut self,
        thread: &mut Thread,
        function: usize,
        fired: &Fired,
    ) -> Result<u64, Failed> {
        let code = &self.sched.code;
        let map = self.inner()?.maps.get(fired.map);
        let (object, name) =
            (map.object.base(), format!("the key of a timer in {}", map.shape.what));
        let memory = &mut self.inner()?.memory;
        let key = memory.alloc(Region::read_only(name), fired.key.clone())?;
        let args = [object, key.base(), fired.value, 0, 0];
        let result = match thread.start(memory, code, function, args) {
            Ok(()) => self.go_on(thread),
            Err(err) => Err(Failed::Other(err.to_string())),
        };
        self.inner()?.memory.free(key);
        result
    }

    /// A call of the kernel that cannot be done, as a fault where it is.
    fn fault(&self, thread: &Thread, callee: Callee, bad: Bad) -> Failed {
        let code = &self.sched.code;
        Failed::Fault(Box::new(match (bad, &self.inner) {
            (Bad::Access(access, denied) | Bad::Lacks(access, denied), Some(inner)) => {
                Fault::of_access(thread, code, &inner.memory, access, denied)
            }
            (Bad::Why(why), _) => {
                Fault::of_call(thread, code, format!("{}: {why}", self.sched.name_of(callee)))
            }
            (Bad::Access(..) | Bad::Lacks(..), None) => Fault::of_call(thread, code, AWAY),
        }))
    }

    /// Gives the program something to read while it runs.
    fn pass(
        &mut self,
        passed: &mut Vec<RegionId>,
        name: String,
        bytes: Vec<u8>,
    ) -> Result<u64, Failed> {
        let id = self.inner()?.memory.alloc(Region::read_only(name), bytes)?;
        passed.push(id);
        Ok(id.base())
    }

    /// Runs the program to its end.
    pub(super) fn go_on(&mut self, thread: &mut Thread) -> Result<u64, Failed> {
        let result = self.go_on_alone(thread);
        if let Some(twin) = self.twin.take() {
            twin.ended_as(self, &result);
        }
        result
    }

    /// The same, whatever its clone does.
    pub(super) fn go_on_alone(&mut self, thread: &mut Thread) -> Result<u64, Failed> {
        let code = &self.sched.code;
        loop {
            self.may_have_twin(thread);
            let mut step = self.fuel;
            if self.pace.steps() {
                self.before_instruction(thread)?;
                step = step.min(1);
            }
            self.fuel -= step;
            let Inner { memory, objects, .. } = &mut **self.inner.as_mut().ok_or(Away)?;
            let layouts = &self.sched.layouts;
            let mut outside = Outside::new(self.cx, objects, layouts);
            let stop = run(thread, code, memory, &mut outside, &mut step);
            self.fuel += step;
            let wanted = outside.wanted;
            match stop {
                Stop::Exit(_) if self.held.is_some() => {
                    let why = "the program ends with a bpf_spin_lock held";
                    return Err(Failed::Fault(Box::new(Fault::of_call(thread, code, why))));
                }
                Stop::Exit(value) => match self.sections.left_open() {
                    None => return Ok(value),
                    Some(why) => {
                        return Err(Failed::Fault(Box::new(Fault::of_call(thread, code, why))));
                    }
                },
                // A pointer to something that had no address yet: now it has, and the load is done
                // again.
                Stop::Fault(_) if wanted.is_some() => {
                    if let Some(object) = wanted {
                        self.object(object)?;
                    }
                }
                Stop::Fault(fault) => return Err(Failed::Fault(fault)),
                Stop::OutOfFuel if self.fuel > 0 => {}
                Stop::OutOfFuel => {
                    self.cx.must_wait();
                    let budget = self.sched.budget;
                    let why = format!("it has run {budget} instructions, and does not end");
                    return Err(Failed::Fault(Box::new(Fault::of_call(thread, code, why))));
                }
                Stop::Returned(value) => self.walk_on(thread, Some(value))?,
                Stop::Call(callee, args) => {
                    if let Some(what) = self.sched.lacks(thread, callee) {
                        return Err(Failed::Fault(Box::new(Fault::of_call(thread, code, what))));
                    }
                    self.args = args;
                    self.callee = callee;
                    self.before_call()?;
                    let done = match callee {
                        _ if !self.may_call(callee) => Err(match self.held {
                            Some(_) => "it cannot be called with a bpf_spin_lock held".into(),
                            None => "it cannot be called with a bpf_res_spin_lock held".into(),
                        }),
                        Callee::Kfunc(index) => match self.without_scheduler(index) {
                            None => (self.sched.kfuncs[index])(self),
                            Some(kfunc) => kfunc(self),
                        },
                        Callee::Helper(number) => bpf_func::call(self, number),
                    };
                    // What helpers do with memory takes time too.
                    self.fuel = self.fuel.saturating_sub(std::mem::take(&mut self.spent));
                    match done {
                        Ok(_) if std::mem::take(&mut self.begun) => self.walk_on(thread, None)?,
                        Ok(value) => {
                            thread.resume(value);
                        }
                        Err(bad) => return Err(self.fault(thread, callee, bad)),
                    }
                }
            }
        }
    }

    /// Goes on with the helper that calls the program back; `returned` is what it got.
    fn walk_on(&mut self, thread: &mut Thread, returned: Option<u64>) -> Result<(), Failed> {
        let Some(mut walk) = self.walks.pop() else {
            return Err(Failed::Other("a callback has ended that nobody has called".to_owned()));
        };
        let code = &self.sched.code;
        let failed = match walk.next(self, returned) {
            Ok(Next::Done(value)) => {
                walk.end(self);
                thread.resume(value);
                return Ok(());
            }
            Ok(Next::Call(function, args)) => {
                let called = thread.call(&mut self.inner()?.memory, code, function, args);
                called.err().map(|err| Bad::Why(format!("its callback: {err}")))
            }
            Err(bad) => Some(bad),
        };
        let callee = walk.callee();
        self.walks.push(walk);
        failed.map_or(Ok(()), |bad| Err(self.fault(thread, callee, bad)))
    }

    /// What a kernel function does that has no scheduler to do it to.
    fn without_scheduler(&self, index: usize) -> Option<Kfunc> {
        let there = self.cx.is_operation() || self.cx.has_scheduler();
        if there { None } else { kfunc::without_scheduler(&self.sched.image.kfuncs[index].name) }
    }

    /// Whether the verifier lets the program call this where it stands: locks of both kinds are
    /// among its `active_locks`.
    fn may_call(&self, callee: Callee) -> bool {
        self.held.is_none() && self.sections.locks().is_empty()
            || match callee {
                Callee::Helper(number) => bpf_func::is_allowed_with_lock(number),
                Callee::Kfunc(index) => kfunc_takes_lock(&self.sched.image.kfuncs[index].name),
            }
    }
}

/// Kernel functions that may be called with a lock held: `kfunc_spin_allowed()`.
fn kfunc_takes_lock(name: &str) -> bool {
    const BEGINNINGS: [&str; 7] = [
        "bpf_list_",
        "bpf_rbtree_",
        "bpf_iter_num_",
        "bpf_res_spin_",
        "bpf_arena_",
        "bpf_refcount_",
        "bpf_stream_",
    ];
    BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}
