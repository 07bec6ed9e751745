//! What the events of a file mean.

use std::collections::BTreeSet;

use scxlab_engine::{NR_CPUS, Nanos};

use crate::error::ParseError;
use crate::field::{Field, INT_MAX};
use crate::json::Value;
use crate::keys::Verb;
use crate::references::{References, Use};
use crate::workload::{Event, Kind, Policy, Span, Who};

/// The longest name of a task, mutex and so on, in bytes. The kernel shows 15 of a task's.
pub(crate) const MAX_NAME: usize = 255;

const POLICIES: &[(&str, Policy)] = &[
    ("SCHED_OTHER", Policy::Normal),
    ("SCHED_NORMAL", Policy::Normal),
    ("SCHED_BATCH", Policy::Batch),
    ("SCHED_IDLE", Policy::Idle),
    ("SCHED_EXT", Policy::Ext),
];

/// Reads the event `field` of the task `task`.
pub(crate) fn read(
    verb: Verb,
    field: &Field<'_>,
    task: &str,
    references: &mut References,
) -> Result<Event, ParseError> {
    Ok(match verb {
        Verb::Run => Event::Run(span(field)?),
        Verb::Runtime => Event::Runtime(span(field)?),
        Verb::Sleep => Event::Sleep(span(field)?),
        Verb::Mem => Event::Mem { bytes: field.int(0, INT_MAX)? as u64 },
        Verb::Iorun => Event::Io { bytes: field.int(0, INT_MAX)? as u64 },
        Verb::Timer => timer(field)?,
        Verb::Yield => match field.value {
            // rt-app lets a text stand here that means nothing.
            Value::Text(_) => Event::Yield,
            _ => field.nothing().map(|()| Event::Yield)?,
        },
        Verb::Lock => Event::Lock(name(field)?),
        Verb::Unlock => Event::Unlock(name(field)?),
        Verb::Wait => {
            let (cond, mutex) = cond_and_mutex(field)?;
            Event::Wait { cond, mutex }
        }
        Verb::Signal => Event::Signal(name(field)?),
        Verb::Broad => Event::Broadcast(name(field)?),
        Verb::Sync => {
            let (cond, mutex) = cond_and_mutex(field)?;
            Event::SignalAndWait { cond, mutex }
        }
        Verb::Suspend => match field.value {
            Value::Text(text) if !text.is_empty() => Event::Suspend(name(field)?),
            _ => field.nothing().map(|()| Event::Suspend(task.to_owned()))?,
        },
        Verb::Resume => Event::Resume(name(field)?),
        Verb::Barrier => {
            let barrier = name(field)?;
            references.barrier(&barrier, task, field);
            Event::Barrier(barrier)
        }
        Verb::Fork => create(Kind::Thread, field, Use::Forks, references)?,
        Verb::Thread => create(Kind::Thread, field, Use::Starts, references)?,
        Verb::Process => create(Kind::Process, field, Use::Starts, references)?,
        Verb::Exec => Event::Exec(started(field, Use::Starts, references)?),
        Verb::Exit => field.nothing().map(|()| Event::Exit)?,
        Verb::ExitGroup => field.nothing().map(|()| Event::ExitGroup)?,
        Verb::WaitPid => field.nothing().map(|()| Event::WaitChild)?,
        Verb::WaitAll => field.nothing().map(|()| Event::WaitChildren)?,
        Verb::Join => field.nothing().map(|()| Event::JoinThreads)?,
        Verb::IgnoreChildren => field.nothing().map(|()| Event::IgnoreChildren)?,
        Verb::Kill => Event::Kill(who(field, references)?),
        Verb::Nice => match field.value {
            Value::Int(_) => Event::SetNice(Who::Myself, nice(field)?),
            Value::Object(_) => {
                let [task, value] = field.record(["task", "value"])?;
                let whom = who(&task.ok_or_else(|| field.missing("task"))?, references)?;
                Event::SetNice(whom, nice(&value.ok_or_else(|| field.missing("value"))?)?)
            }
            _ => return Err(field.wrong_type("a nice value, or {\"task\", \"value\"}")),
        },
        Verb::Affinity => match field.value {
            Value::List(_) => Event::SetAffinity(Who::Myself, cpus(field)?),
            Value::Object(_) => {
                let [task, list] = field.record(["task", "cpus"])?;
                let whom = who(&task.ok_or_else(|| field.missing("task"))?, references)?;
                Event::SetAffinity(whom, cpus(&list.ok_or_else(|| field.missing("cpus"))?)?)
            }
            _ => return Err(field.wrong_type("a list of CPUs, or {\"task\", \"cpus\"}")),
        },
        Verb::SetPolicy => match field.value {
            Value::Text(_) => Event::SetPolicy(Who::Myself, policy(field)?),
            Value::Object(_) => {
                let [task, value] = field.record(["task", "policy"])?;
                let whom = who(&task.ok_or_else(|| field.missing("task"))?, references)?;
                Event::SetPolicy(whom, policy(&value.ok_or_else(|| field.missing("policy"))?)?)
            }
            _ => return Err(field.wrong_type("a policy, or {\"task\", \"policy\"}")),
        },
    })
}

/// Microseconds, or two of them for a span.
fn span(field: &Field<'_>) -> Result<Span, ParseError> {
    if !matches!(field.value, Value::List(_)) {
        return match field.value {
            Value::Int(_) => Ok(Span::micros(field.int(0, INT_MAX)? as u64)),
            _ => Err(field.wrong_type("whole microseconds, or [least, most]")),
        };
    }
    match field.ints(0, INT_MAX)?[..] {
        [min, max] if min <= max => Ok(Span::micros_between(min as u64, max as u64)),
        [_, _] => Err(field.invalid("the least is above the most", "swap the two")),
        _ => Err(field.wrong_type("[least, most], both in microseconds")),
    }
}

fn timer(field: &Field<'_>) -> Result<Event, ParseError> {
    let [reference, period, mode] = field.record(["ref", "period", "mode"])?;
    let name = name(&reference.ok_or_else(|| field.missing("ref"))?)?;
    let period = period.ok_or_else(|| field.missing("period"))?.int(0, INT_MAX)?;
    let absolute = match mode {
        None => false,
        Some(mode) => match mode.text()? {
            "relative" => false,
            "absolute" => true,
            other => return Err(mode.unknown_word(other, ["relative", "absolute"])),
        },
    };
    let shared = !name.starts_with("unique");
    Ok(Event::Timer { name, period: Nanos::from_micros(period as u64), absolute, shared })
}

fn cond_and_mutex(field: &Field<'_>) -> Result<(String, String), ParseError> {
    let [cond, mutex] = field.record(["ref", "mutex"])?;
    Ok((
        name(&cond.ok_or_else(|| field.missing("ref"))?)?,
        name(&mutex.ok_or_else(|| field.missing("mutex"))?)?,
    ))
}

fn create(
    kind: Kind,
    field: &Field<'_>,
    by: Use,
    references: &mut References,
) -> Result<Event, ParseError> {
    Ok(Event::Create { kind, task: started(field, by, references)? })
}

fn started(field: &Field<'_>, by: Use, references: &mut References) -> Result<String, ParseError> {
    let task = name(field)?;
    references.task(&task, by, field);
    Ok(task)
}

fn who(field: &Field<'_>, references: &mut References) -> Result<Who, ParseError> {
    let name = name(field)?;
    let (who, by) = match name.as_str() {
        "self" => (Who::Myself, Use::Word),
        "child" => (Who::LastChild, Use::Word),
        "parent" => (Who::Parent, Use::Word),
        _ => (Who::Named(name.clone()), Use::ActsOn),
    };
    references.task(&name, by, field);
    Ok(who)
}

/// A name that is not empty.
fn name(field: &Field<'_>) -> Result<String, ParseError> {
    match field.value {
        Value::Text(text) if text.is_empty() => Err(field.wrong_type("a name")),
        Value::Text(text) if text.len() > MAX_NAME => {
            Err(field.invalid("the name is longer than 255 bytes", "shorten it"))
        }
        Value::Text(text) => Ok(text.clone().into_owned()),
        _ => Err(field.wrong_type("a name")),
    }
}

pub(crate) fn nice(field: &Field<'_>) -> Result<i8, ParseError> {
    Ok(field.int(-20, 19)? as i8)
}

/// CPUs in order, each once.
pub(crate) fn cpus(field: &Field<'_>) -> Result<Vec<u32>, ParseError> {
    let cpus: BTreeSet<u32> =
        field.ints(0, NR_CPUS as i64 - 1)?.into_iter().map(|cpu| cpu as u32).collect();
    if cpus.is_empty() {
        return Err(field.invalid("no CPU is left to run on", "name one, or remove the key"));
    }
    Ok(cpus.into_iter().collect())
}

pub(crate) fn policy(field: &Field<'_>) -> Result<Policy, ParseError> {
    let text = field.text()?;
    if let Some((_, policy)) = POLICIES.iter().find(|(name, _)| *name == text) {
        return Ok(*policy);
    }
    if matches!(text, "SCHED_FIFO" | "SCHED_RR" | "SCHED_DEADLINE") {
        return Err(field.unsupported(
            "tasks of the classes above sched_ext cannot be honoured",
            "use SCHED_OTHER, SCHED_BATCH, SCHED_IDLE or SCHED_EXT",
        ));
    }
    Err(field.unknown_word(text, POLICIES.iter().map(|(name, _)| *name)))
}

/// A cgroup's path without empty parts; `None` for an empty text, which rt-app takes for none.
pub(crate) fn cgroup(field: &Field<'_>) -> Result<Option<String>, ParseError> {
    let text = field.text()?;
    if text.is_empty() {
        return Ok(None);
    }
    let Some(rest) = text.strip_prefix('/') else {
        return Err(field.invalid("the path does not start with /", "put one in front"));
    };
    let parts: Vec<_> = rest.split('/').filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| matches!(*part, "." | "..")) {
        return Err(field.invalid("the path has . or .. in it", "write out where it leads"));
    }
    if parts.iter().any(|part| part.len() > MAX_NAME) {
        return Err(field.invalid("a part is longer than 255 bytes", "shorten it"));
    }
    Ok(Some(format!("/{}", parts.join("/"))))
}
