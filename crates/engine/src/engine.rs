//! The engine's state, and the loop that takes it from event to event.

use std::collections::{BTreeMap, VecDeque};

use scx_tid::{Allocator, Cursor, Table};

use crate::cgroup::Cgroups;
use crate::config::{Config, ConfigError, Sabotage};
use crate::events::{Event, EventQueue};
use crate::ext::cursor::DsqCursor;
use crate::ext::enable::EnableWork;
use crate::ext::idle::IdleMasks;
use crate::ext::sched::{Dsq, Sched, SchedIdx};
use crate::ext::tracepoint::TracepointSet;
use crate::kfunc::Slot;
use crate::list::{List, TasksLink};
use crate::ops::State;
use crate::overlap::Held;
use crate::pid::PidMap;
use crate::rng::Rng;
use crate::rq::Rq;
use crate::sim::{Mutex, Process, Sim, Waiters};
use crate::stats::Stats;
use crate::task::{SchedClass, TaskIdx, TaskStruct};
use crate::topology::Topology;
use crate::trace::{Record, TaskName, What};
use crate::{CpuId, Cpumask, EventCounters, Nanos, StalledTask};

/// A simulated machine: its CPUs, its tasks, its clock and the scheduler attached to it.
///
/// It is a value. A clone goes on exactly as the original would, and neither knows of the other.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) topology: Topology,
    pub(crate) now: Nanos,
    pub(crate) rng: Rng,
    pub(crate) events: EventQueue,
    /// The CPU whose code is running.
    pub(crate) this_cpu: CpuId,
    /// CPUs that are half-way through something: see [`crate::seam`].
    pub(crate) frames: Vec<CpuId>,
    /// Those of them that hold their runqueue lock meanwhile.
    pub(crate) locked: Vec<CpuId>,
    /// Callbacks that are running, each an RCU reader.
    pub(crate) readers: u32,
    /// How many of them there were when the event began that is being handled.
    pub(crate) readers_before: u32,
    /// Programs that run in that event, one within the other, each of which keeps the task that it runs
    /// on where it is: `__bpf_prog_enter()`.
    pub(crate) programs: u32,
    /// Whether callbacks of that event can be left in their middle: see [`crate::overlap`].
    pub(crate) divisible: bool,
    /// What is locked by those that were left.
    pub(crate) held: Vec<Held>,
    /// The event came to something that is locked.
    pub(crate) contended: bool,

    pub(crate) tasks: Vec<TaskStruct>,
    pub(crate) sim: Vec<Sim>,
    pub(crate) free_tasks: Vec<TaskIdx>,
    /// Tasks to be freed once no reader can hold them.
    pub(crate) rcu_free: Vec<TaskIdx>,
    pub(crate) procs: Vec<Process>,
    pub(crate) free_procs: Vec<u32>,
    pub(crate) pids: PidMap,
    /// Live tasks that have lost a pid, by that pid: who a lookup of it might have meant.
    pub(crate) former_holders: BTreeMap<i32, Vec<TaskIdx>>,
    pub(crate) init: TaskIdx,
    pub(crate) watchdog_worker: TaskIdx,

    pub(crate) mutexes: Vec<Mutex>,
    pub(crate) conds: Vec<Waiters>,
    pub(crate) barriers: Vec<Waiters>,
    pub(crate) shared_timers: Vec<Option<Nanos>>,
    pub(crate) cgroups: Cgroups,

    pub(crate) rqs: Vec<Rq>,
    pub(crate) idle: IdleMasks,
    /// CPUs whose current task is the idle task.
    pub(crate) idle_cpus: Cpumask,
    /// Fair tasks that wait for a CPU.
    pub(crate) fair_queued: u64,
    pub(crate) dsqs: Vec<Dsq>,
    pub(crate) free_dsqs: Vec<u32>,
    /// Walks through queues that callbacks are at. Usually none.
    pub(crate) cursors: Vec<DsqCursor>,
    pub(crate) cursor_serial: u64,

    pub(crate) tid_cursor: Cursor,
    pub(crate) tid_allocs: Vec<Allocator>,
    /// `scx_tid_hash`, from tids to places in `tasks`: enabled while a root with
    /// `SCX_OPS_TID_TO_TASK` is attached.
    pub(crate) tid_hash: Table<u32>,
    /// `__scx_tid_to_task_enabled`.
    pub(crate) tid_to_task_enabled: bool,
    pub(crate) warned_tid_insert: bool,
    /// Tracepoints that somebody has a program at.
    pub(crate) traced: TracepointSet,

    /// `scx_tasks`.
    pub(crate) scx_tasks: List<TasksLink>,
    pub(crate) scheds: Vec<Sched>,
    pub(crate) root: Option<SchedIdx>,
    pub(crate) enable_state: EnableState,
    pub(crate) enable_work: Option<EnableWork>,
    pub(crate) enabling_sub: Option<SchedIdx>,
    /// `scx_fork_rwsem` is held for writing.
    pub(crate) fork_excluded: bool,
    pub(crate) fork_waiters: VecDeque<TaskIdx>,
    pub(crate) init_task_enabled: bool,
    pub(crate) scx_enabled: bool,
    pub(crate) switching_all: bool,
    pub(crate) switched_all: bool,
    pub(crate) nr_rejected: u64,
    pub(crate) watchdog_generation: u32,
    pub(crate) watchdog_interval: Nanos,
    pub(crate) watchdog_timestamp: Nanos,
    pub(crate) watchdog_due: Nanos,
    pub(crate) dump_buf: Option<crate::ext::dump::DumpBuf>,

    pub(crate) stats: Stats,
    pub(crate) stalled: Vec<StalledTask>,
    pub(crate) records: Vec<Record>,
    pub(crate) log: Vec<String>,
}

/// A scheduler that was attached in this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchedId(pub(crate) u32);

/// `enum scx_enable_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnableState {
    /// A scheduler is being attached.
    Enabling,
    /// One is attached.
    Enabled,
    /// One is being detached.
    Disabling,
    /// None is.
    Disabled,
}

impl Engine {
    /// A machine with its idle tasks and `init`, at time 0. The program's processes are forked
    /// when their time comes.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.validate()?;
        let cpus = config.cpus;
        let pid_max = config.pid_max.unwrap_or(32_768.max(1024 * cpus as i32));
        let topology = Topology::new(cpus, config.smt, config.llcs);
        let program = &config.program;
        let mut engine = Self {
            now: Nanos::ZERO,
            rng: Rng::new(config.seed),
            events: EventQueue::default(),
            this_cpu: CpuId(0),
            frames: Vec::new(),
            locked: Vec::new(),
            readers: 0,
            readers_before: 0,
            programs: 0,
            divisible: false,
            held: Vec::new(),
            contended: false,
            tasks: Vec::new(),
            sim: Vec::new(),
            free_tasks: Vec::new(),
            rcu_free: Vec::new(),
            procs: Vec::new(),
            free_procs: Vec::new(),
            pids: PidMap::new(pid_max),
            former_holders: BTreeMap::new(),
            init: TaskIdx(0),
            watchdog_worker: TaskIdx(0),
            mutexes: vec![Mutex::default(); program.mutexes as usize],
            conds: vec![Waiters::new(); program.conds as usize],
            barriers: vec![Waiters::new(); program.barriers.len()],
            shared_timers: vec![None; program.timers as usize],
            cgroups: Cgroups::new(&program.cgroups),
            rqs: Vec::new(),
            idle: IdleMasks::new(),
            idle_cpus: topology.all(),
            fair_queued: 0,
            dsqs: Vec::new(),
            free_dsqs: Vec::new(),
            cursors: Vec::new(),
            cursor_serial: 0,
            tid_cursor: Cursor::new(),
            tid_allocs: vec![Allocator::new(); cpus],
            tid_hash: Table::new(),
            tid_to_task_enabled: false,
            warned_tid_insert: false,
            traced: TracepointSet::empty(),
            scx_tasks: List::default(),
            scheds: Vec::new(),
            root: None,
            enable_state: EnableState::Disabled,
            enable_work: None,
            enabling_sub: None,
            fork_excluded: false,
            fork_waiters: VecDeque::new(),
            init_task_enabled: false,
            scx_enabled: false,
            switching_all: false,
            switched_all: false,
            nr_rejected: 0,
            watchdog_generation: 0,
            watchdog_interval: Nanos::NEVER,
            watchdog_timestamp: Nanos::ZERO,
            watchdog_due: Nanos::ZERO,
            dump_buf: None,
            stats: Stats::default(),
            stalled: Vec::new(),
            records: Vec::new(),
            log: Vec::new(),
            topology,
            config,
        };
        engine.boot();
        Ok(engine)
    }

    /// The time. After a run it can be past the time asked for, by as much as a seam is long.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// Runs until `until`, or until nothing is left to happen. Returns the number of events that
    /// were handled.
    pub fn run_until(&mut self, until: Nanos) -> u64 {
        let mut handled = 0;
        while self.step(until) {
            handled += 1;
        }
        self.now = self.now.max(until);
        handled
    }

    /// Handles the next event if it is due by `until`; whether there was one.
    pub fn step(&mut self, until: Nanos) -> bool {
        let Some((at, event)) = self.events.pop_until(until) else { return false };
        self.now = self.now.max(at);
        self.handle(event);
        self.rcu_gp();
        if self.config.check {
            self.assert_invariants(event);
        }
        true
    }

    /// What was counted so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The kernel's log: warnings, and the coming and going of schedulers.
    pub fn log(&self) -> &[String] {
        &self.log
    }

    /// The state of the root scheduler: `/sys/kernel/sched_ext/state`.
    pub fn enable_state(&self) -> EnableState {
        self.enable_state
    }

    /// The live tasks, idle tasks aside, oldest first.
    pub fn live_tasks(&self) -> impl Iterator<Item = &TaskStruct> {
        self.scx_tasks
            .iter(&self.tasks)
            .map(|p| self.p(p))
            .filter(|p| p.sched_class() != SchedClass::Idle)
    }

    /// The task that is kept there; nothing once it was freed. See [`Cx::slot`](crate::Cx::slot).
    pub fn task_at(&self, slot: Slot) -> Option<&TaskStruct> {
        let sim = self.sim.get(slot.index as usize)?;
        (sim.generation == slot.generation).then(|| self.p(TaskIdx(slot.index)))
    }

    /// A scheduler's state, to read.
    pub fn scheduler_state(&self, sched: SchedId) -> &dyn State {
        &*self.scheds[sched.0 as usize].state
    }

    /// A scheduler's event counters.
    pub fn event_counters(&self, sched: SchedId) -> EventCounters {
        self.scheds[sched.0 as usize].events
    }

    /// The id of the cgroup with this path.
    pub fn cgroup_id(&self, path: &str) -> Option<u64> {
        self.cgroups.find(path).map(|cgroup| self.cgroups.id(cgroup))
    }

    pub(crate) fn handle(&mut self, event: Event) {
        let saved = (self.this_cpu, self.readers_before, self.programs, self.divisible);
        self.readers_before = self.readers;
        self.programs = 0;
        self.divisible = event.is_divisible();
        match event {
            Event::BurstEnd { cpu, generation } => self.burst_end(CpuId(cpu), generation),
            Event::Resched { cpu } => self.resched_event(CpuId(cpu)),
            Event::Tick { cpu, generation } => self.tick_event(CpuId(cpu), generation),
            Event::Timeout { task, generation } => self.timeout(task, generation),
            Event::WakeEnqueue { task, generation } => self.wake_enqueue(task, generation),
            Event::RunDeferred { cpu } => self.deferred_irq_work(CpuId(cpu)),
            Event::KickCpus { cpu } => self.kick_cpus_irq_work(CpuId(cpu)),
            Event::KickSync { cpu } => self.kick_sync_event(CpuId(cpu)),
            Event::Watchdog { generation } => self.watchdog_work(generation),
            Event::WatchdogLate { generation } => self.watchdog_late(generation),
            Event::Enable => self.enable_step(),
            Event::DisableIrq { sched, cpu } => {
                self.disable_irq_work(SchedIdx(sched), CpuId(cpu));
            }
            Event::Disable { sched } => self.disable_work(SchedIdx(sched)),
            Event::BypassBalance { sched } => self.bypass_balance(SchedIdx(sched)),
            Event::ExtServer { cpu, generation } => self.ext_server_timer(CpuId(cpu), generation),
            Event::SchedTimer { cpu, sched, cookie } => {
                self.sched_timer(CpuId(cpu), SchedIdx(sched), cookie);
            }
            Event::Start { index } => self.start_process(index),
        }
        (self.this_cpu, self.readers_before, self.programs, self.divisible) = saved;
    }

    pub(crate) fn p(&self, p: TaskIdx) -> &TaskStruct {
        &self.tasks[p.0 as usize]
    }

    pub(crate) fn p_mut(&mut self, p: TaskIdx) -> &mut TaskStruct {
        if !self.held.is_empty() {
            self.touch_task(p);
        }
        &mut self.tasks[p.0 as usize]
    }

    pub(crate) fn sim(&self, p: TaskIdx) -> &Sim {
        &self.sim[p.0 as usize]
    }

    pub(crate) fn sim_mut(&mut self, p: TaskIdx) -> &mut Sim {
        &mut self.sim[p.0 as usize]
    }

    pub(crate) fn rq(&self, cpu: CpuId) -> &Rq {
        &self.rqs[cpu.index()]
    }

    pub(crate) fn rq_mut(&mut self, cpu: CpuId) -> &mut Rq {
        if !self.held.is_empty() {
            self.touch_rq(cpu);
        }
        &mut self.rqs[cpu.index()]
    }

    pub(crate) fn sch(&self, sched: SchedIdx) -> &Sched {
        &self.scheds[sched.0 as usize]
    }

    pub(crate) fn sch_mut(&mut self, sched: SchedIdx) -> &mut Sched {
        &mut self.scheds[sched.0 as usize]
    }

    pub(crate) fn task_cpu(&self, p: TaskIdx) -> CpuId {
        self.p(p).task_cpu()
    }

    /// `task_current()`.
    pub(crate) fn is_current(&self, p: TaskIdx) -> bool {
        self.rq(self.task_cpu(p)).curr == p
    }

    /// `p->migration_disabled` as the core finds it, with what programs have added that run on the task
    /// (`CONFIG_PREEMPT_RCU`).
    pub(crate) fn migration_disabled(&self, p: TaskIdx) -> u32 {
        self.migration_disabled_where(p, self.rq(self.this_cpu).curr == p)
    }

    /// The same, where it is known whether they run on it.
    pub(crate) fn migration_disabled_where(&self, p: TaskIdx, is_current: bool) -> u32 {
        let added = if is_current { self.programs } else { 0 };
        self.p(p).migration_disabled + added
    }

    pub(crate) fn nr_cpus(&self) -> usize {
        self.config.cpus
    }

    pub(crate) fn after(&mut self, delay: Nanos, event: Event) {
        self.events.push(self.now + delay, event);
    }

    /// The length of a jiffy.
    pub(crate) fn jiffy(&self) -> Nanos {
        Nanos(1_000_000_000 / u64::from(self.config.hz))
    }

    /// `jiffies`, which starts at 0 here.
    pub(crate) fn jiffies(&self) -> u64 {
        self.now.0 / self.jiffy().0
    }

    pub(crate) fn sabotaged(&self, how: Sabotage) -> bool {
        self.config.sabotage.contains(&how)
    }

    pub(crate) fn name(&self, p: TaskIdx) -> TaskName {
        TaskName::of(self.p(p))
    }

    /// Keeps a record, if anyone wants them. `what` is only called then.
    pub(crate) fn record(&mut self, what: impl FnOnce(&Self) -> What) {
        if self.config.trace {
            let what = what(self);
            self.records.push(Record { at: self.now, cpu: Some(self.this_cpu), what });
        }
    }

    /// The records since the last call. Empty unless [`Config::trace`] is set.
    pub fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    /// A line in the kernel's log.
    pub(crate) fn printk(&mut self, line: String) {
        self.record(|_| What::Log { line: line.clone() });
        self.log.push(line);
    }
}
