//! A run as Chrome trace events, which Perfetto's viewer opens: a track for each CPU, and one for
//! each task, keyed by its tid.
//!
//! Slices are pairs of `B` and `E` events, so that everything is written in the order of time and
//! only what is open is kept. A trace that was cut short still opens.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use scxlab_engine::{Nanos, PidLoss, Record, TaskName, What};

/// The process that holds the tracks of CPUs. Above every pid, so that no viewer takes a task's
/// tid for it.
pub const CPUS: u32 = 10_000_001;

/// The process that holds the tracks of tasks.
pub const TASKS: u32 = 10_000_002;

/// What a task is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Sleeping,
    Waiting,
    Running,
}

/// Writes a trace.
#[derive(Debug)]
pub struct TraceWriter<W: Write> {
    out: BufWriter<W>,
    begun: bool,
    /// The tid that runs on each CPU.
    cpus: Vec<Option<u64>>,
    /// What each live task is doing.
    tasks: BTreeMap<u64, Doing>,
    last: Nanos,
}

/// Where an event goes.
#[derive(Clone, Copy)]
enum Track {
    Cpu(usize),
    Task(u64),
    /// The track of schedulers' comings and goings.
    SchedExt,
}

impl Track {
    fn ids(self) -> (u32, u64) {
        match self {
            // Viewers hide thread 0.
            Self::SchedExt => (CPUS, 1),
            Self::Cpu(cpu) => (CPUS, 2 + cpu as u64),
            Self::Task(tid) => (TASKS, tid),
        }
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The arguments that name a task.
fn task_args(task: &TaskName) -> String {
    format!("\"tid\":{},\"pid\":{}", task.tid, task.pid.0)
}

impl<W: Write> TraceWriter<W> {
    /// For a machine of `cpus` CPUs.
    pub fn new(out: W, cpus: usize) -> Self {
        Self {
            out: BufWriter::with_capacity(1 << 16, out),
            begun: false,
            cpus: vec![None; cpus],
            tasks: BTreeMap::new(),
            last: Nanos::ZERO,
        }
    }

    /// Writes what happened.
    ///
    /// # Errors
    /// Those of writing.
    pub fn record(&mut self, record: &Record) -> io::Result<()> {
        self.begin()?;
        self.last = self.last.max(record.at);
        let at = record.at;
        let cpu = record.cpu.map_or(0, |cpu| cpu.index());
        match &record.what {
            What::Switch { prev, prev_state, next } => {
                self.switch(at, cpu, prev, *prev_state, next)
            }
            What::Wakeup { task, target } => self.wakeup(at, task, target.index()),
            What::Fork { parent, child, thread } => {
                let (name, born) =
                    if *thread { ("clone", "created as a thread") } else { ("fork", "forked") };
                let args = format!(
                    "{},\"child_tid\":{},\"child_pid\":{}",
                    task_args(parent),
                    child.tid,
                    child.pid.0
                );
                self.know(parent)?;
                self.task_instant(at, parent, name, &args)?;
                self.name_task(child)?;
                let args = format!("{},\"parent_tid\":{}", task_args(child), parent.tid);
                self.task_instant(at, child, born, &args)
            }
            What::ForkFailed { parent, tid, errno } => {
                let args = format!("{},\"burnt_tid\":{tid},\"errno\":{errno}", task_args(parent));
                self.task_instant(at, parent, "fork failed", &args)
            }
            What::Exec { old, new, nonleader } => {
                let args = format!(
                    "{},\"old_pid\":{},\"old_comm\":{},\"nonleader\":{nonleader}",
                    task_args(new),
                    old.pid.0,
                    quoted(old.comm())
                );
                self.name_task(new)?;
                self.task_instant(at, new, "exec", &args)
            }
            What::PidLost { task, pid, how } => {
                let (how, other) = loss(how);
                let other = other.map_or(String::new(), |tid| format!(",\"other_tid\":{tid}"));
                let lost = pid.0;
                let args =
                    format!("{},\"lost_pid\":{lost},\"how\":\"{how}\"{other}", task_args(task));
                self.task_instant(at, task, "pid lost", &args)
            }
            What::LookupMissed { lost, pid, got } => {
                let got = got.map_or("null".to_owned(), |got| got.tid.to_string());
                let args = format!(
                    "{},\"looked_up_pid\":{},\"got_tid\":{got},\"cpu\":{cpu}",
                    task_args(lost),
                    pid.0
                );
                self.task_instant(at, lost, "missed lookup", &args)
            }
            What::Exiting { task } => self.task_instant(at, task, "exiting", &task_args(task)),
            What::Dead { task } => {
                self.task_instant(at, task, "dead", &task_args(task))?;
                self.now_does(at, task.tid, Doing::Sleeping, "")?;
                self.tasks.remove(&task.tid);
                Ok(())
            }
            What::Changed { task, what } => self.task_instant(at, task, what, &task_args(task)),
            What::Killed { task, by } => {
                let args = format!("{},\"by_tid\":{}", task_args(task), by.tid);
                self.task_instant(at, task, "killed", &args)
            }
            What::Stall { task, runnable_since } => {
                let since = micros(*runnable_since);
                let args = format!("{},\"runnable_since_us\":{since}", task_args(task));
                self.task_instant(at, task, "stall", &args)
            }
            What::Attached { name } => self.global(at, &format!("{name} attached"), ""),
            What::Detached { name } => self.global(at, &format!("{name} detached"), ""),
            What::Exit { name, kind, reason, msg } => {
                let verb = if *kind >= 1024 { "EJECTED" } else { "exits" };
                let args = format!(
                    "\"kind\":{kind},\"reason\":{},\"msg\":{}",
                    quoted(reason),
                    quoted(msg)
                );
                self.global(at, &format!("{name} {verb}: {reason}"), &args)
            }
            What::Log { line } => self.global(at, line, ""),
            // Custody and queues are left out: they would double the size.
            _ => Ok(()),
        }
    }

    /// Ends what is open, and the trace.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(mut self) -> io::Result<()> {
        self.begin()?;
        let last = self.last;
        for cpu in 0..self.cpus.len() {
            self.cpu_runs(last, cpu, None)?;
        }
        let open: Vec<_> = self.tasks.keys().copied().collect();
        for tid in open {
            self.now_does(last, tid, Doing::Sleeping, "")?;
        }
        self.out.write_all(b"\n]\n")?;
        self.out.flush()
    }

    fn switch(
        &mut self,
        at: Nanos,
        cpu: usize,
        prev: &TaskName,
        prev_state: char,
        next: &TaskName,
    ) -> io::Result<()> {
        if !prev.is_idle() {
            let doing = if prev_state == 'R' { Doing::Waiting } else { Doing::Sleeping };
            let args = format!("{},\"cpu\":{cpu},\"preempted\":true", task_args(prev));
            self.know(prev)?;
            self.now_does(at, prev.tid, doing, &args)?;
        }
        self.cpu_runs(at, cpu, (!next.is_idle()).then_some(next))?;
        if !next.is_idle() {
            self.know(next)?;
            let args = format!("{},\"cpu\":{cpu}", task_args(next));
            self.now_does(at, next.tid, Doing::Running, &args)?;
        }
        Ok(())
    }

    fn wakeup(&mut self, at: Nanos, task: &TaskName, target: usize) -> io::Result<()> {
        self.know(task)?;
        if self.tasks.get(&task.tid) == Some(&Doing::Sleeping) {
            let args = format!("{},\"cpu\":{target},\"preempted\":false", task_args(task));
            self.now_does(at, task.tid, Doing::Waiting, &args)?;
        }
        Ok(())
    }

    /// The task's slice ends, and the next begins, if `doing` is one.
    fn now_does(&mut self, at: Nanos, tid: u64, doing: Doing, args: &str) -> io::Result<()> {
        let before = self.tasks.insert(tid, doing).unwrap_or(Doing::Sleeping);
        if slice_name(before).is_some() {
            self.slice_ends(Track::Task(tid), at, tid)?;
        }
        match slice_name(doing) {
            Some(name) => self.slice_begins(Track::Task(tid), at, name, args),
            None => Ok(()),
        }
    }

    fn cpu_runs(&mut self, at: Nanos, cpu: usize, next: Option<&TaskName>) -> io::Result<()> {
        if cpu >= self.cpus.len() {
            return Ok(());
        }
        let prev = std::mem::replace(&mut self.cpus[cpu], next.map(|task| task.tid));
        if let Some(tid) = prev {
            self.slice_ends(Track::Cpu(cpu), at, tid)?;
        }
        match next {
            Some(task) => self.slice_begins(Track::Cpu(cpu), at, task.comm(), &task_args(task)),
            None => Ok(()),
        }
    }

    fn slice_begins(&mut self, track: Track, at: Nanos, name: &str, args: &str) -> io::Result<()> {
        self.event(track, &format!("\"ph\":\"B\",\"ts\":{}", micros(at)), name, args)
    }

    fn slice_ends(&mut self, track: Track, at: Nanos, task: u64) -> io::Result<()> {
        let (pid, tid) = track.ids();
        let ts = micros(at);
        write!(
            self.out,
            ",\n{{\"ph\":\"E\",\"ts\":{ts},\"pid\":{pid},\"tid\":{tid},\"args\":{{\"tid\":{task}}}}}"
        )
    }

    fn task_instant(
        &mut self,
        at: Nanos,
        task: &TaskName,
        name: &str,
        args: &str,
    ) -> io::Result<()> {
        let head = format!("\"ph\":\"i\",\"s\":\"t\",\"ts\":{}", micros(at));
        self.event(Track::Task(task.tid), &head, name, args)
    }

    fn global(&mut self, at: Nanos, name: &str, args: &str) -> io::Result<()> {
        let head = format!("\"ph\":\"i\",\"s\":\"g\",\"ts\":{}", micros(at));
        self.event(Track::SchedExt, &head, name, args)
    }

    /// A task that was there before the first record gets its name when it is first seen.
    fn know(&mut self, task: &TaskName) -> io::Result<()> {
        if self.tasks.contains_key(&task.tid) { Ok(()) } else { self.name_task(task) }
    }

    fn name_task(&mut self, task: &TaskName) -> io::Result<()> {
        self.tasks.entry(task.tid).or_insert(Doing::Sleeping);
        let name = format!("{} tid {} pid {}", task.comm(), task.tid, task.pid.0);
        self.track_name(Track::Task(task.tid), &name)
    }

    fn track_name(&mut self, track: Track, name: &str) -> io::Result<()> {
        let args = format!("\"name\":{}", quoted(name));
        self.event(track, "\"ph\":\"M\"", "thread_name", &args)
    }

    fn begin(&mut self) -> io::Result<()> {
        if self.begun {
            return Ok(());
        }
        self.begun = true;
        self.out.write_all(b"[\n")?;
        for (i, (pid, name)) in [(CPUS, "CPUs"), (TASKS, "tasks")].into_iter().enumerate() {
            if i > 0 {
                self.out.write_all(b",\n")?;
            }
            write!(
                self.out,
                "{{\"ph\":\"M\",\"pid\":{pid},\"name\":\"process_name\",\"args\":{{\"name\":\"{name}\"}}}},\n\
                 {{\"ph\":\"M\",\"pid\":{pid},\"name\":\"process_sort_index\",\"args\":{{\"sort_index\":{i}}}}}"
            )?;
        }
        self.track_name(Track::SchedExt, "sched_ext")?;
        for cpu in 0..self.cpus.len() {
            self.track_name(Track::Cpu(cpu), &format!("CPU {cpu}"))?;
        }
        Ok(())
    }

    /// `head` is the phase and what belongs to it.
    fn event(&mut self, track: Track, head: &str, name: &str, args: &str) -> io::Result<()> {
        let (pid, tid) = track.ids();
        let name = quoted(name);
        write!(
            self.out,
            ",\n{{{head},\"pid\":{pid},\"tid\":{tid},\"name\":{name},\"args\":{{{args}}}}}"
        )
    }
}

fn slice_name(doing: Doing) -> Option<&'static str> {
    match doing {
        Doing::Sleeping => None,
        Doing::Waiting => Some("runnable"),
        Doing::Running => Some("running"),
    }
}

/// Microseconds with the ns as decimals.
fn micros(t: Nanos) -> String {
    format!("{}.{:03}", t.0 / 1_000, t.0 % 1_000)
}

/// How a pid was lost, and the tid of the other task in it.
fn loss(how: &PidLoss) -> (&'static str, Option<u64>) {
    match how {
        PidLoss::Exit => ("released by its own exit", None),
        PidLoss::Reaped { by } => ("released by its parent's wait", Some(by.tid)),
        PidLoss::ExecReleased { by } => ("released by another thread's exec", Some(by.tid)),
        PidLoss::ExecSwapped { leader } => ("given up for the leader's in exec", Some(leader.tid)),
        PidLoss::ExecTaken { by } => ("taken by another thread's exec", Some(by.tid)),
    }
}
