//! The report as one JSON object. Its keys and their order are part of the command's interface,
//! and the same run gives the same bytes.

use scxlab_bpf::image::Line;
use scxlab_bpf::sched::{Interleave, Race, Side};
use scxlab_engine::Nanos;
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use crate::human::thousands;
use crate::plan::Plan;
use crate::session::Outcome;

/// The report of a run. All but `exit` and `dump` is as it was when the scheduler's exit began.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// Who scheduled.
    pub scheduler: SchedulerPart,
    /// The place: `engine`, `vm` or `host`.
    pub backend: &'static str,
    /// The kernel's release; null for the engine.
    pub kernel: Option<String>,
    /// The seed.
    pub seed: u64,
    /// CPUs.
    pub cpus: usize,
    /// How long it was to run.
    pub duration_ns: u64,
    /// How it ended.
    pub exit: ExitPart,
    /// Tasks.
    pub tasks: TasksPart,
    /// Tids and their table.
    pub tid: TidPart,
    /// The lost tasks.
    pub stalled: Vec<StalledPart>,
    /// The scheduler's own counters.
    pub counters: Pairs<u64>,
    /// The kernel's counters, `SCX_EV_*`.
    pub events: Pairs<u64>,
    /// A compiled scheduler's programs that user space had run, in the order of the command line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prog_runs: Vec<ProgRunPart>,
    /// What programs of a compiled scheduler did on the engine that no kernel would let them do, when
    /// the scheduler had ended: in `ops.exit`, say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub late_faults: Vec<String>,
    /// What programs of a compiled scheduler printed on the engine.
    #[serde(skip_serializing_if = "PrintedPart::is_empty")]
    pub printed: PrintedPart,
    /// A compiled scheduler's maps that were asked for.
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    pub maps: Pairs<serde_json::Value>,
    /// Where callbacks of a compiled scheduler overlapped, if not only where the core lets them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interleave: Option<InterleavePart>,
    /// The workload's name.
    pub workload: String,
    /// The debug dump of an ejection.
    pub dump: Option<String>,
    /// On a real kernel, the engine's report of the same scheduler and workload, if it has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<Box<Report>>,
}

/// Who scheduled.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SchedulerPart {
    /// Its name.
    pub name: String,
    /// What it finds its tasks by, if it can be told.
    pub key: Option<String>,
    /// `SCX_OPS_*`.
    pub flags: Vec<String>,
    /// All its options.
    pub options: Pairs<String>,
}

/// How it ended: `struct scx_exit_info`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ExitPart {
    /// The kernel's number.
    pub kind: u32,
    /// The kernel's text for it.
    pub reason: String,
    /// The details.
    pub msg: String,
    /// When it began.
    pub at_ns: u64,
}

/// Tasks.
#[derive(Clone, Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct TasksPart {
    pub forked: u64,
    pub exited: u64,
    pub execs: u64,
    pub nonleader_execs: u64,
    /// Runnable for at least the timeout without running. Null if a real kernel did not tell all.
    pub lost: Option<u64>,
    /// Each burnt its tid.
    pub forks_failed: u64,
    /// On a real kernel: ended, and still not freed while the scheduler, or what is left of it, had
    /// its maps. Null if the kernel does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaked: Option<Option<u64>>,
}

/// Where callbacks overlapped, and what came of it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct InterleavePart {
    /// `calls` or `instructions`.
    pub at: String,
    /// Callbacks that were left in their middle.
    pub left: u64,
    /// Events of other CPUs that came meanwhile.
    pub overlapped: u64,
    /// Those that had to wait for the callback: they were taken back, and came later.
    pub taken_back: u64,
    /// Data races; null if they were not looked for.
    pub races: Option<Vec<RacePart>>,
    /// Pairs of instructions that raced, and for which there is no room.
    pub more_races: u64,
}

/// A data race: two instructions, whose callbacks overlapped.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RacePart {
    /// The memory, the first time.
    pub what: String,
    /// When the first time was.
    pub at_ns: u64,
    /// How often they met.
    pub times: u64,
    /// How often the second one wrote over what it did not know.
    pub overwritten: u64,
    /// The two, in the order of the first time.
    pub sides: [RaceSide; 2],
}

/// One of two instructions that raced.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RaceSide {
    /// The CPU, the first time.
    pub cpu: u32,
    /// The scheduler's program.
    pub program: String,
    /// Its function.
    pub function: String,
    /// The instruction, from the function's first.
    pub insn: usize,
    /// `reads`, `writes`, and whether atomically.
    pub access: &'static str,
    /// `FILE:LINE:COLUMN`, if the object says it.
    pub source: Option<String>,
    /// That line.
    pub text: Option<String>,
}

impl InterleavePart {
    fn new(plan: &Plan, outcome: &Outcome) -> Option<Self> {
        let at = plan.compiled.as_ref()?.interleave();
        if at == Interleave::Off {
            return None;
        }
        let (races, more_races) = &outcome.races;
        let races = races.iter().map(RacePart::new).collect();
        Some(Self {
            at: at.to_string(),
            left: outcome.stats.callbacks_left,
            overlapped: outcome.stats.callbacks_overlapped,
            taken_back: outcome.stats.overlaps_taken_back,
            races: (at == Interleave::Instructions).then_some(races),
            more_races: *more_races,
        })
    }
}

impl RacePart {
    fn new(race: &Race) -> Self {
        let [first, second] = &race.sides;
        Self {
            what: race.what.clone(),
            at_ns: race.at.0,
            times: race.times,
            overwritten: race.overwritten,
            sides: [RaceSide::new(first), RaceSide::new(second)],
        }
    }
}

impl RaceSide {
    fn new(side: &Side) -> Self {
        let source = |line: &Line| format!("{}:{}:{}", line.file, line.line, line.column);
        Self {
            cpu: side.cpu,
            program: side.program.clone(),
            function: side.function.clone(),
            insn: side.insn,
            access: side.access,
            source: side.line.as_ref().map(source),
            text: side.line.as_ref().map(|line| line.text.trim().to_owned()),
        }
    }
}

/// Tids and their table; null is what the place cannot know.
#[derive(Clone, Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct TidPart {
    pub issued: Option<u64>,
    pub inserted: Option<u64>,
    pub removed: Option<u64>,
    pub lookups: Option<u64>,
    pub misses: Option<u64>,
    pub live: Option<u64>,
}

/// A lost task.
#[derive(Clone, Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct StalledPart {
    pub comm: String,
    pub pid: i32,
    pub tid: Option<u64>,
    pub runnable_for_ns: u64,
    pub explanation: Option<String>,
}

/// A program that user space had run.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ProgRunPart {
    /// Its name.
    pub name: String,
    /// When; null for before the scheduler was attached.
    pub at_ns: Option<u64>,
    /// What it returned; null if the scheduler had ended by then, or was ended by it.
    pub retval: Option<u32>,
    /// The context as the program left it, in hex, if it changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
}

/// What programs printed with `bpf_printk()`.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct PrintedPart {
    /// Lines that are not here any more.
    pub dropped: u64,
    /// The last 65536, oldest first.
    pub lines: Vec<String>,
}

impl PrintedPart {
    fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// An object whose keys are data, in a given order.
#[derive(Clone, Debug)]
pub struct Pairs<T>(pub Vec<(String, T)>);

impl<T> Pairs<T> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Serialize> Serialize for Pairs<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl Report {
    /// What became of `plan`.
    pub fn new(plan: &Plan, outcome: &Outcome) -> Self {
        let Outcome { exit, stats, lost, .. } = outcome;
        let flags = plan.scheduler.ops().flags;
        let events = outcome.events.iter().map(|(name, count)| (name.to_owned(), count));
        let stalled = lost.iter().map(|task| StalledPart {
            comm: task.comm.clone(),
            pid: task.pid.0,
            tid: Some(task.tid),
            runnable_for_ns: task.runnable_for.0,
            explanation: Some(task.explanation.clone()),
        });
        Self {
            scheduler: SchedulerPart {
                name: plan.name.clone(),
                key: plan.option("key").map(str::to_owned),
                flags: flags.iter_names().map(|(name, _)| format!("SCX_OPS_{name}")).collect(),
                options: Pairs(plan.options.clone()),
            },
            backend: "engine",
            kernel: None,
            seed: plan.config.seed,
            cpus: plan.config.cpus,
            duration_ns: plan.duration.0,
            exit: ExitPart {
                kind: exit.kind as u32,
                reason: exit.reason().to_owned(),
                msg: exit.msg.clone(),
                at_ns: exit.at.0,
            },
            tasks: TasksPart {
                forked: stats.forked,
                exited: stats.exited,
                execs: stats.execs,
                nonleader_execs: stats.nonleader_execs,
                lost: Some(lost.len() as u64),
                forks_failed: stats.forks_failed,
                leaked: None,
            },
            tid: TidPart {
                issued: Some(stats.tids_issued),
                inserted: Some(stats.tid_inserted),
                removed: Some(stats.tid_removed),
                lookups: Some(stats.tid_lookups),
                misses: Some(stats.tid_misses),
                live: Some(outcome.tids),
            },
            stalled: stalled.collect(),
            counters: Pairs(outcome.counters.clone()),
            events: Pairs(events.collect()),
            prog_runs: outcome.prog_runs.clone(),
            late_faults: outcome.late_faults.clone(),
            printed: PrintedPart { dropped: outcome.printed.0, lines: outcome.printed.1.clone() },
            maps: Pairs(outcome.maps.clone()),
            interleave: InterleavePart::new(plan, outcome),
            workload: plan.workload.clone(),
            dump: (!exit.dump.is_empty()).then(|| exit.dump.clone()),
            engine: None,
        }
    }

    /// Whether the scheduler was ejected: `>= SCX_EXIT_ERROR`.
    pub fn ejected(&self) -> bool {
        self.exit.kind >= 1024
    }

    /// How many tasks are lost, in words: `14`, `at least 3`, `not known`.
    pub fn lost(&self) -> String {
        match (self.tasks.lost, self.stalled.len()) {
            (Some(lost), _) => thousands(lost),
            (None, 0) => "not known".to_owned(),
            (None, told) => format!("at least {}", thousands(told as u64)),
        }
    }

    /// A counter of the scheduler's own.
    pub fn counter(&self, name: &str) -> Option<u64> {
        self.counters.0.iter().find(|(key, _)| key == name).map(|&(_, value)| value)
    }

    /// When the exit began.
    pub fn ended_at(&self) -> Nanos {
        Nanos(self.exit.at_ns)
    }
}
