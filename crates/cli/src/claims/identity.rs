//! C1, C2 and C11: the tid itself.

use std::collections::{BTreeMap, BTreeSet};

use scx_tid::CHUNK;
use scxlab_engine::{Nanos, PidLoss, Record, What};
use scxlab_schedulers::Simple;

use super::lab::{attach, builtin, start, watch};
use super::probe::Probe;
use super::{Checked, Lab, ensure};

pub(super) fn c1(lab: &Lab) -> Checked {
    let mut config = lab.config(4, builtin("fork-storm", 4)?);
    config.pid_max = Some(400);
    let mut engine = start(config)?;
    attach(&mut engine, Simple::default())?;
    let mut tids = BTreeSet::new();
    let mut pids: BTreeMap<i32, u32> = BTreeMap::new();
    watch(&mut engine, Nanos::from_secs(1), |_, records| {
        for record in records {
            let What::Fork { child, .. } = &record.what else { continue };
            ensure(child.tid != 0, || format!("{} has tid 0", child.comm()))?;
            ensure(tids.insert(child.tid), || format!("tid {} was handed out twice", child.tid))?;
            *pids.entry(child.pid.0).or_default() += 1;
        }
        Ok(())
    })?;
    let most = pids.values().max().copied().unwrap_or(0);
    ensure(most > 1, || "no pid was used twice, so nothing was shown".into())?;
    Ok(format!("{} forks, pids used up to {most} times, every tid new", tids.len()))
}

pub(super) fn c2(lab: &Lab) -> Checked {
    let mut engine = lab.engine(4, builtin("mixed", 4)?)?;
    attach(&mut engine, Simple::default())?;
    let mut seen = Lives::default();
    watch(&mut engine, Nanos::from_secs(2), |_, records| {
        records.iter().try_for_each(|record| seen.note(record))
    })?;
    ensure(seen.nonleader > 0 && seen.deaths > 0, || "no exec by a thread came up".into())?;
    let mut engine = lab.engine(4, leader_execs())?;
    attach(&mut engine, Simple::default())?;
    watch(&mut engine, Nanos::from_secs(1), |_, records| {
        records.iter().try_for_each(|record| seen.note(record))
    })?;
    ensure(seen.leader > 0, || "no exec by a leader came up".into())?;
    Ok(format!(
        "{} execs by leaders and {} by other threads kept the tid; {} tasks died under the tid of \
         their fork",
        seen.leader, seen.nonleader, seen.deaths
    ))
}

/// Processes that fork children which exec.
fn leader_execs() -> scxlab_engine::Program {
    use scxlab_engine::program::{Instr, Pc, Span, Spawn};
    let run = |us| Instr::Run(Span::between(Nanos::from_micros(us), Nanos::from_micros(us * 3)));
    scxlab_engine::Program {
        code: vec![
            Instr::Spawn { what: Spawn::Process, entry: Pc(3), name: 1 },
            Instr::Wait,
            Instr::Jump(Pc(0)),
            run(100),
            Instr::Exec { entry: Pc(5), name: 2 },
            run(200),
            Instr::Exit,
        ],
        names: vec!["worker".into(), "shell".into(), "image".into()],
        start: vec![super::lab::process(0, 0, None); 8],
        ..scxlab_engine::Program::default()
    }
}

/// Follows tasks from fork to death by what is recorded of their pids.
#[derive(Default)]
struct Lives {
    forked: BTreeSet<u64>,
    /// The pid that an exec has just given a task, and the task's tid.
    swapped: BTreeMap<i32, u64>,
    leader: u64,
    nonleader: u64,
    deaths: u64,
}

impl Lives {
    fn note(&mut self, record: &Record) -> Result<(), String> {
        match &record.what {
            What::Fork { child, .. } => {
                self.forked.insert(child.tid);
            }
            What::PidLost { task, how: PidLoss::ExecSwapped { .. }, .. } => {
                self.swapped.insert(task.pid.0, task.tid);
            }
            What::Exec { old, new, nonleader } => {
                ensure(old.tid == new.tid, || {
                    format!("an exec turned tid {} into {}", old.tid, new.tid)
                })?;
                if *nonleader {
                    self.nonleader += 1;
                    let before = self.swapped.remove(&new.pid.0);
                    ensure(before.is_none_or(|before| before == new.tid), || {
                        format!("an exec by a thread turned tid {before:?} into {}", new.tid)
                    })?;
                } else {
                    self.leader += 1;
                }
            }
            What::Dead { task } if self.forked.remove(&task.tid) => self.deaths += 1,
            _ => {}
        }
        Ok(())
    }
}

pub(super) fn c11(lab: &Lab) -> Checked {
    let mut config = lab.config(4, builtin("fork-storm", 4)?);
    config.pid_max = Some(32_768);
    let mut engine = start(config)?;
    let first = engine.tid_cursor();
    ensure(first == 1 + CHUNK, || {
        format!("after boot the cursor stands at {first}: it did not start at 1")
    })?;
    attach(&mut engine, Probe { fail_forks: 7, ..Probe::default() })?;
    let mut last: BTreeMap<u32, u64> = BTreeMap::new();
    let (mut chunks, mut failed, mut forked) = (1, 0, 0);
    watch(&mut engine, Nanos::from_secs(1), |_, records| {
        for record in records {
            let tid = match &record.what {
                What::Fork { child, .. } => {
                    forked += 1;
                    child.tid
                }
                What::ForkFailed { tid, .. } if *tid != 0 => {
                    failed += 1;
                    *tid
                }
                _ => continue,
            };
            let cpu = record.cpu.map_or(0, |cpu| cpu.0);
            let before = last.insert(cpu, tid);
            let next = before.is_some_and(|before| tid == before + 1 && before % CHUNK != 0);
            // CPU 0 has handed out the ids of boot from the first chunk.
            let booted = before.is_none() && cpu == 0 && tid <= CHUNK;
            let fresh = tid % CHUNK == 1 && before.is_none_or(|before| before % CHUNK == 0);
            ensure(next || booted || fresh, || {
                format!("CPU {cpu} handed out tid {tid} after {before:?}")
            })?;
            chunks += u64::from(fresh);
        }
        Ok(())
    })?;
    let cursor = engine.tid_cursor();
    ensure(cursor == 1 + chunks * CHUNK, || {
        format!("the cursor stands at {cursor} after {chunks} chunks")
    })?;
    ensure(failed > 0 && chunks > 4, || "too few forks to show anything".into())?;
    Ok(format!(
        "{forked} forks and {failed} failed ones on 4 CPUs took {chunks} chunks; the cursor moved \
         once for each, and each CPU's ids were consecutive"
    ))
}
