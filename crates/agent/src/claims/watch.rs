//! C1 to C6, and C11: what `bpf/claims/watch.bpf.c` sees of forks, execs, exits and switches.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use scxlab_engine::program::{Instr, Pc, Spawn};
use scxlab_engine::{CpuId, Cpumask, Program};
use scxlab_protocol::Counts;

use super::lab::{self, Lab, Sysctl, process, program, run_for, sleep_for};
use super::programs::{Programs, question};
use super::{Findings, came_up, chunks, hold, holds};
use crate::attached::{Attached, wait_for};
use crate::object::Opened;

/// As few pids as make them come round soon, on a machine that has few tasks.
const FEW_PIDS: u64 = 1500;

/// Forks of each pinned task: more than a chunk of ids.
const PINNED: u64 = 1_200;

pub(super) fn check(lab: &Lab<'_>) -> Result<Findings> {
    let mut kernel = if lab.is_native() { Some(Programs::load(lab, false)?) } else { None };
    let mut attached = lab::attach(open(lab)?)?;
    let before = kernel.as_mut().map(Programs::peek).transpose()?;
    attached.loaded.call("start_watching", &mut [])?;
    attached.loaded.walk("survey")?;
    let existing = attached.loaded.number("surveyed").unwrap_or(0);
    let storm = fork_storm(lab, &attached)?;
    lab.doing("checking C2: execs");
    let count = |name| attached.loaded.number(name).unwrap_or(0);
    let execs = lab.play(&lab.builtin("nonleader-exec")?, Duration::from_secs(20), || {
        count("nonleader_execs") > 50
    })?;
    // A few of these, so that the one who releases a pid gets a CPU at once.
    lab.play(&lonely_execs(), Duration::from_secs(20), || {
        count("released_by_exec") > 5 && count("released_by_wait") > 5
    })?;
    lab.play(&leader_execs(2 * lab.cpus()), Duration::from_secs(2), || false)?;
    lab.doing("checking C4: exits");
    lab.play(&lab.builtin("exit-storm")?, Duration::from_secs(3), || false)?;
    chunks::fork_on_each_cpu(lab, &attached)?;
    let last = kernel.as_mut().map(Programs::peek).transpose()?;
    let issued = chunks::Issued::read(&attached.loaded);
    survey_zombies(lab, &mut attached)?;
    let c6 = match &mut kernel {
        Some(programs) => Some(hold::check(lab, &mut attached, programs)?),
        None => None,
    };
    let asked = ask_for_nobody(&mut attached, issued.highest())?;
    attached.loaded.call("stop_watching", &mut [])?;
    let seen = Seen { counters: attached.loaded.counters() };
    lab::still_up(&attached)?;
    attached.detach()?;
    let cursor = before.zip(last).map(|(before, last)| (before.cursor, last.cursor));
    let mut findings = vec![
        (1, seen.c1(storm)),
        (2, seen.c2(execs)),
        (3, seen.c3(existing)),
        (4, seen.c4()),
        (5, seen.c5(asked)),
        (11, seen.c11(&issued, cursor)),
    ];
    findings.extend(c6.map(|result| (6, result)));
    Ok(findings)
}

/// The scheduler that watches.
pub(super) fn open(lab: &Lab<'_>) -> Result<Opened> {
    let mut opened = lab.open("watch")?;
    opened
        .set_flags(Some(&["SCX_OPS_ENQ_EXITING".to_owned(), "SCX_OPS_TID_TO_TASK".to_owned()]))?;
    Ok(opened)
}

/// Forks until pids are used again.
fn fork_storm(lab: &Lab<'_>, attached: &Attached) -> Result<Counts> {
    lab.doing("checking C1: a fork storm with few pids");
    let _few = Sysctl::set("/proc/sys/kernel/pid_max", &few_pids()?.to_string())?;
    let reused = || attached.loaded.number("pids_reused").is_some_and(|reused| reused > 500);
    // Long enough for an emulated machine on a busy host.
    lab.play(&lab.builtin("fork-storm")?, Duration::from_secs(45), reused)
}

/// So few pids that they come round soon, and three times as many as the machine's tasks need, not
/// counting those that the kernel keeps for itself once they have come round (`RESERVED_PIDS`):
/// nobody else's fork is to fail.
fn few_pids() -> Result<u64> {
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let tasks =
        load.split_whitespace().nth(3).and_then(|field| field.split_once('/')?.1.parse().ok());
    let tasks: u64 = tasks.context("/proc/loadavg does not say how many tasks there are")?;
    Ok(FEW_PIDS.max(300 + 3 * tasks))
}

/// A process that forks children one after another, a thread of which execs.
fn lonely_execs() -> Program {
    let code = vec![
        Instr::Spawn { what: Spawn::Process, entry: Pc(3), name: 1 },
        Instr::Wait,
        Instr::Jump(Pc(0)),
        Instr::Spawn { what: Spawn::Thread, entry: Pc(6), name: 2 },
        sleep_for(10_000),
        Instr::Jump(Pc(4)),
        run_for(100, 300),
        Instr::Exec { entry: Pc(8), name: 3 },
        run_for(100, 200),
        Instr::Exit,
    ];
    program(code, &["worker", "shell", "launcher", "image"], vec![process(0, 0)])
}

/// Processes that fork children which exec.
fn leader_execs(n: usize) -> Program {
    let code = vec![
        Instr::Spawn { what: Spawn::Process, entry: Pc(3), name: 1 },
        Instr::Wait,
        Instr::Jump(Pc(0)),
        run_for(100, 300),
        Instr::Exec { entry: Pc(5), name: 2 },
        run_for(100, 200),
        Instr::Exit,
    ];
    program(code, &["worker", "shell", "image"], vec![process(0, 0); n])
}

/// A task on each CPU that creates threads one after another, and one all of whose forks fail.
pub(super) fn pinned_forkers(cpus: usize) -> Program {
    let code = vec![
        Instr::Spawn { what: Spawn::Thread, entry: Pc(3), name: 1 },
        Instr::JoinAll,
        Instr::Jump(Pc(0)),
        Instr::Exit,
        Instr::Spawn { what: Spawn::Process, entry: Pc(3), name: 1 },
        sleep_for(20_000),
        Instr::Jump(Pc(4)),
    ];
    let mut start = vec![process(4, 2)];
    for cpu in 0..cpus as u32 {
        let affinity = Some(Box::new(Cpumask::of(CpuId(cpu))));
        start.push(scxlab_engine::program::Start { affinity, ..process(0, 0) });
    }
    program(code, &["pinned", "mayfly", "failing"], start)
}

/// How often the pinned tasks are to fork.
pub(super) fn enough(cpus: usize) -> u64 {
    PINNED * cpus as u64
}

/// Looks at every task while there are zombies that are past their last switch.
fn survey_zombies(lab: &Lab<'_>, attached: &mut Attached) -> Result<()> {
    lab.doing("checking C5: zombies");
    let code = vec![
        Instr::Spawn { what: Spawn::Process, entry: Pc(2), name: 1 },
        sleep_for(60_000_000),
        Instr::Exit,
    ];
    let mut player = lab.start(&program(code, &["parent", "zombie"], vec![process(0, 0); 8]))?;
    wait_for(|| player.counts().forked >= 16)?;
    std::thread::sleep(Duration::from_millis(500));
    attached.loaded.walk("survey")?;
    player.stop()?;
    Ok(())
}

/// Asks for tids that are nobody's; gives back those that were found all the same.
fn ask_for_nobody(attached: &mut Attached, highest: u64) -> Result<Asked> {
    let tids = [0, highest + (1 << 20), u64::MAX];
    let mut found = Vec::new();
    for tid in tids {
        if question(&mut attached.loaded, tid)? {
            found.push(tid);
        }
    }
    Ok(Asked { tids, found })
}

/// What was asked for, and what was found of it.
struct Asked {
    tids: [u64; 3],
    found: Vec<u64>,
}

/// What was counted.
struct Seen {
    counters: BTreeMap<String, u64>,
}

impl Seen {
    fn of(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// None of the things that are wrong was seen.
    fn nothing_wrong(&self, names: &[&str]) -> Result<()> {
        for name in names {
            let times = self.of(name);
            holds(times == 0, || {
                let (pid, tid) = (self.of("example_pid"), self.of("example_tid"));
                let what = name.replace('_', " ");
                format!("{what}: {times} times; the first of all was pid {pid}, tid {tid}")
            })?;
        }
        Ok(())
    }

    /// All situations that the claim speaks of came up.
    fn all_came_up(&self, names: &[&str]) -> Result<()> {
        names.iter().try_for_each(|name| {
            came_up(self.of(name) > 0, || format!("`{}` did not come up", name.replace('_', " ")))
        })
    }

    fn c1(&self, storm: Counts) -> Result<String> {
        self.nothing_wrong(&["wrong_no_tid", "wrong_repeated", "wrong_not_issued"])?;
        self.all_came_up(&["forks", "inits", "pids_reused"])?;
        Ok(format!(
            "{} forks ({} of them a storm's), {} of them with a pid that was used before; {} tids \
             were handed out, each new",
            self.of("forks"),
            storm.forked,
            self.of("pids_reused"),
            self.of("inits"),
        ))
    }

    fn c2(&self, execs: Counts) -> Result<String> {
        self.nothing_wrong(&["wrong_tid_at_exec", "wrong_tid_at_death"])?;
        self.all_came_up(&["leader_execs", "nonleader_execs", "deaths"])?;
        Ok(format!(
            "{} execs by leaders and {} by other threads (the workload counts {}) kept the tid; {} \
             tasks died under the tid of their fork",
            self.of("leader_execs"),
            self.of("nonleader_execs"),
            execs.nonleader_execs,
            self.of("deaths"),
        ))
    }

    fn c3(&self, existing: u64) -> Result<String> {
        self.nothing_wrong(&[
            "wrong_missed_after_fork",
            "wrong_missed_in_callback",
            "wrong_missed_existing",
            "wrong_early",
            "wrong_idle",
        ])?;
        self.all_came_up(&["forks", "callbacks", "surveyed", "idle_switches"])?;
        came_up(existing > 0, || "no task was there before the attach".to_owned())?;
        Ok(format!(
            "{existing} tasks from before the attach, {} at the end of their fork, and all in {} \
             callbacks were found; no idle task in {} switches",
            self.of("forks"),
            self.of("callbacks"),
            self.of("idle_switches"),
        ))
    }

    fn c4(&self) -> Result<String> {
        self.nothing_wrong(&[
            "wrong_missed_exiting",
            "wrong_missed_released",
            "wrong_missed_in_callback",
            "wrong_found_by_pid",
        ])?;
        self.all_came_up(&["exiting", "released_by_exit", "released_by_wait", "released_by_exec"])?;
        Ok(format!(
            "{} exits; pids released by the task's exit ({}), its parent's wait ({}) and an exec \
             ({}) before the last switch: found by tid, and not by pid; {} callbacks for such a task",
            self.of("exiting"),
            self.of("released_by_exit"),
            self.of("released_by_wait"),
            self.of("released_by_exec"),
            self.of("callbacks_after_release"),
        ))
    }

    fn c5(&self, asked: Asked) -> Result<String> {
        self.nothing_wrong(&["wrong_found_freed", "wrong_zombie"])?;
        self.all_came_up(&["freed", "zombies"])?;
        holds(asked.found.is_empty(), || format!("tids {:?} are found", asked.found))?;
        let [zero, never, last] = asked.tids;
        Ok(format!(
            "{} dead tasks, and {} zombies that their pid still finds, none found by tid; nor \
             {zero}, {never} and {last}",
            self.of("freed"),
            self.of("zombies"),
        ))
    }

    fn c11(&self, issued: &chunks::Issued, cursor: Option<(u64, u64)>) -> Result<String> {
        self.nothing_wrong(&["wrong_repeated"])?;
        self.all_came_up(&["burnt", "pinned_forks"])?;
        let seen = issued.check(cursor)?;
        Ok(format!("{seen}; {} forks failed, and burnt an id each", self.of("burnt")))
    }
}
