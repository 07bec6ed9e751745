//! C1 to C5, and C11: what `bpf/claims/watch.bpf.c` sees of forks, execs, exits and switches.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use scxlab_engine::Program;
use scxlab_engine::program::{Instr, Pc, Spawn};
use scxlab_protocol::Counts;

use super::lab::{self, Lab, Sysctl, process, program, run_for};
use super::{Findings, holds};
use crate::attached::Attached;

/// As few pids as make them come round soon.
const FEW_PIDS: &str = "2000";

pub(super) fn check(lab: &Lab<'_>) -> Result<Findings> {
    let mut opened = lab.open("watch")?;
    opened
        .set_flags(Some(&["SCX_OPS_ENQ_EXITING".to_owned(), "SCX_OPS_TID_TO_TASK".to_owned()]))?;
    let mut attached = lab::attach(opened)?;
    attached.loaded.call("start_watching", &mut [])?;
    let storm = fork_storm(lab, &attached)?;
    let execs = lab.play(&lab.builtin("nonleader-exec")?, Duration::from_secs(4), || false)?;
    lab.play(&leader_execs(2 * lab.cpus()), Duration::from_secs(2), || false)?;
    attached.loaded.call("stop_watching", &mut [])?;
    let seen = Seen { counters: attached.loaded.counters() };
    lab::still_up(&attached)?;
    attached.detach()?;
    Ok(vec![(1, seen.c1(storm)), (2, seen.c2(execs))])
}

/// Forks until pids are used again.
fn fork_storm(lab: &Lab<'_>, attached: &Attached) -> Result<Counts> {
    lab.doing("checking C1: a fork storm with few pids");
    let _few = Sysctl::set("/proc/sys/kernel/pid_max", FEW_PIDS)?;
    let reused = || attached.loaded.number("pids_reused").is_some_and(|reused| reused > 500);
    lab.play(&lab.builtin("fork-storm")?, Duration::from_secs(15), reused)
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
    fn came_up(&self, names: &[&str]) -> Result<()> {
        for name in names {
            holds(self.of(name) > 0, || {
                format!("nothing was shown: `{}` did not come up", name.replace('_', " "))
            })?;
        }
        Ok(())
    }

    fn c1(&self, storm: Counts) -> Result<String> {
        self.nothing_wrong(&["wrong_no_tid", "wrong_repeated", "wrong_not_issued"])?;
        self.came_up(&["forks", "inits", "pids_reused"])?;
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
        self.came_up(&["leader_execs", "nonleader_execs", "deaths"])?;
        Ok(format!(
            "{} execs by leaders and {} by other threads (the workload counts {}) kept the tid; {} \
             tasks died under the tid of their fork",
            self.of("leader_execs"),
            self.of("nonleader_execs"),
            execs.nonleader_execs,
            self.of("deaths"),
        ))
    }
}
