//! C15 and C16: the seed's experiment, and the dump.

use std::collections::BTreeMap;

use scxlab_engine::{Config, ExitKind, Nanos, Program};
use scxlab_schedulers::{Key, Qmap};

use super::failing::Failing;
use super::lab::{attach, builtin, exit_text, process, start};
use super::{Checked, Lab, ensure};

/// qmap's timeout.
const TIMEOUT: Nanos = Nanos::from_secs(5);

pub(super) fn c15(lab: &Lab) -> Checked {
    let by_exec = stalls(lab, "nonleader-exec", true)?;
    let by_exec_masked = stalls(lab, "nonleader-exec", false)?;
    let by_exit = stalls(lab, "exit-storm", true)?;
    let execs = runs_clean(lab, "nonleader-exec")?;
    runs_clean(lab, "exit-storm")?;
    Ok(format!(
        "keyed by pid: ejected {by_exec} s after the loss under exec, {by_exec_masked} s without \
         SCX_OPS_ENQ_EXITING, {by_exit} s under exits; keyed by tid: 20 s of each clean, {execs} \
         non-leader execs"
    ))
}

fn config(lab: &Lab, workload: &str) -> Result<Config, String> {
    let mut config = lab.config(4, builtin(workload, 4)?);
    config.trace = false;
    Ok(config)
}

/// How long after the loss qmap was ejected, in seconds.
fn stalls(lab: &Lab, workload: &str, exiting: bool) -> Result<String, String> {
    let mut engine = start(config(lab, workload)?)?;
    let sched = attach(&mut engine, Qmap::keyed_by(Key::Pid).exiting(exiting))?;
    engine.run_until(Nanos::from_secs(30));
    let Some(info) = engine.exit_info(sched) else {
        return Err(format!("keyed by pid it ran 30 s of {workload} (exiting={exiting})"));
    };
    ensure(info.kind == ExitKind::ErrorStall && info.kind as u32 == 1026, || {
        format!("keyed by pid, {workload}: {}", exit_text(&engine, sched))
    })?;
    let lost = engine.lost_tasks();
    let Some(first) = lost.first() else {
        return Err(format!("{workload}: ejected, and no task is lost"));
    };
    let delay = info.at - first.runnable_since;
    // The watchdog looks every half timeout, and counts in jiffies; its worker waits for a CPU as
    // other tasks do.
    let worker = Nanos(engine.stats().watchdog_latency_ns);
    let slack = worker.min(Nanos::from_millis(100)) + Nanos::from_millis(4);
    let limit = Nanos(TIMEOUT.0 * 3 / 2) + slack;
    ensure((TIMEOUT..=limit).contains(&delay), || {
        format!("{workload}: ejected {delay} s after the loss, its worker {worker} s late")
    })?;
    Ok(format!("{:.3}", delay.as_secs_f64()))
}

fn runs_clean(lab: &Lab, workload: &str) -> Result<u64, String> {
    let mut engine = start(config(lab, workload)?)?;
    let sched = attach(&mut engine, Qmap::keyed_by(Key::Tid))?;
    engine.run_until(Nanos::from_secs(20));
    ensure(engine.exit_info(sched).is_none(), || {
        format!("keyed by tid, {workload}: {}", exit_text(&engine, sched))
    })?;
    let lost = engine.lost_tasks();
    ensure(lost.is_empty(), || format!("keyed by tid, lost: {}", lost[0].explanation))?;
    Ok(engine.stats().nonleader_execs)
}

/// More tasks than the CPUs can run, for queues.
fn crowd(n: usize) -> Program {
    use scxlab_engine::program::{Instr, Pc, Span};
    Program {
        code: vec![Instr::Run(Span::exactly(Nanos::from_millis(5))), Instr::Jump(Pc(0))],
        names: vec!["hog".into()],
        start: vec![process(0, 0, None); n],
        ..Program::default()
    }
}

pub(super) fn c16(lab: &Lab) -> Checked {
    let mut engine = start(lab.config(2, crowd(16)))?;
    let sched = attach(&mut engine, Failing(Qmap::keyed_by(Key::Tid)))?;
    while engine.exit_info(sched).is_none_or(|info| info.dump.is_empty()) {
        ensure(engine.now() < Nanos::from_secs(5), || "it was not ejected".into())?;
        engine.step(Nanos::from_secs(6));
    }
    let pids: BTreeMap<i32, u64> = engine.live_tasks().map(|p| (p.pid, p.scx.tid)).collect();
    let dump = engine.exit_info(sched).map(|info| info.dump.clone()).unwrap_or_default();
    let mut listed = 0;
    for line in dump.lines().filter(|line| line.starts_with("QMAP FIFO[")) {
        let tasks = line.split_once(':').map_or("", |(_, tasks)| tasks);
        for task in tasks.split_whitespace() {
            let parsed = task
                .split_once(':')
                .and_then(|(pid, tid)| Some((pid.parse::<i32>().ok()?, tid.parse::<u64>().ok()?)));
            let Some((pid, tid)) = parsed else { return Err(format!("`{task}` in: {line}")) };
            ensure(pids.get(&pid) == Some(&tid), || format!("{task} is no live task"))?;
            listed += 1;
        }
    }
    ensure(listed >= 8, || format!("the dump lists {listed} queued tasks"))?;
    Ok(format!("{listed} queued tasks in the dump, each as pid:tid, each right"))
}
