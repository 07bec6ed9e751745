//! rt-app files: the sections of the file, its tasks and their phases.

use std::collections::HashMap;

use scxlab_engine::Nanos;

use crate::error::{ParseError, Place};
use crate::event::{self, MAX_NAME};
use crate::field::{Field, INT_MAX};
use crate::json;
use crate::keys::{self, Key, Property};
use crate::references::{References, settle_timer_modes};
use crate::workload::{
    Attributes, Event, Kind, MAX_INSTANCES, Phase, Policy, Rounds, Task, Workload,
};

/// Keys of `global` that concern rt-app's own logs, traces and buffers.
const LOGGING: [&str; 11] = [
    "calibration",
    "cumulative_slack",
    "frag",
    "ftrace",
    "gnuplot",
    "io_device",
    "lock_pages",
    "log_basename",
    "log_size",
    "logdir",
    "mem_buffer_size",
];

/// The types that rt-app knows for an entry of `resources`.
const RESOURCES: [&str; 8] =
    ["mutex", "signal", "wait", "broadcast", "sync", "sleep", "run", "timer"];

/// Reads the file `name`, whose content is `text`.
pub(crate) fn read(name: &str, text: &str) -> Result<Workload, ParseError> {
    let root = json::read(name, text)?;
    let root = Field::root(name, &root);
    let [tasks, resources, global] = root.record(["tasks", "resources", "global"])?;
    let global = match &global {
        Some(global) => read_global(global)?,
        None => Global::default(),
    };
    if let Some(resources) = &resources {
        check_resources(resources)?;
    }
    let tasks = tasks.ok_or_else(|| root.missing("tasks"))?;
    Ok(Workload {
        name: name.to_owned(),
        process: "rt-app".to_owned(),
        duration: global.duration,
        tasks: read_tasks(&tasks, global.policy)?,
    })
}

#[derive(Default)]
struct Global {
    duration: Option<Nanos>,
    policy: Option<Policy>,
}

fn read_global(field: &Field<'_>) -> Result<Global, ParseError> {
    let mut global = Global::default();
    let mut seen = HashMap::new();
    for member in field.members()? {
        if let Some(first) = seen.insert(member.key, member.line) {
            return Err(member.repeated(first));
        }
        match member.key {
            "duration" => {
                let seconds = member.int(-1, INT_MAX)?;
                // rt-app does not wait for 0 seconds to be over either.
                global.duration = (seconds > 0).then(|| Nanos::from_secs(seconds as u64));
            }
            "default_policy" => global.policy = Some(event::policy(&member)?),
            "pi_enabled" => {
                if member.bool()? {
                    return Err(member.unsupported(
                        "mutexes do not hand on priorities",
                        "set it to false or remove it",
                    ));
                }
            }
            key if LOGGING.contains(&key) => {}
            _ => {
                let known = ["duration", "default_policy", "pi_enabled"];
                return Err(member.unknown_key(known.into_iter().chain(LOGGING)));
            }
        }
    }
    Ok(global)
}

/// rt-app makes resources when they are used, so declaring them changes nothing.
fn check_resources(field: &Field<'_>) -> Result<(), ParseError> {
    for resource in field.members()? {
        let [kind, target] = resource.record(["type", "target"])?;
        if let Some(kind) = &kind {
            let text = kind.text()?;
            if !RESOURCES.contains(&text) {
                return Err(kind.unknown_word(text, RESOURCES));
            }
        }
        if let Some(target) = &target {
            target.text()?;
        }
    }
    Ok(())
}

fn read_tasks(field: &Field<'_>, policy: Option<Policy>) -> Result<Vec<Task>, ParseError> {
    let mut references = References::default();
    let mut seen = HashMap::new();
    let mut tasks = Vec::new();
    let mut instances = 0;
    for member in field.members()? {
        if let Some(first) = seen.insert(member.key, member.line) {
            return Err(member.repeated(first));
        }
        check_task_name(&member)?;
        let task = read_task(&member, &mut references)?;
        instances += task.instances;
        if instances > MAX_INSTANCES {
            return Err(ParseError::TooManyInstances { at: member.place() });
        }
        tasks.push(task);
    }
    if instances == 0 {
        return Err(field.invalid("no task would start", "give one an `instance` of 1 or more"));
    }
    references.check(&tasks)?;
    settle_timer_modes(&mut tasks);
    let forked = references.forked();
    for task in &mut tasks {
        // rt-app sets policy and nice value of every thread that it creates. What is created in
        // other ways takes after its creator, as it does in Linux.
        if forked.contains(task.name.as_str()) {
            task.attributes.policy.get_or_insert(policy.unwrap_or(Policy::Normal));
            task.attributes.nice.get_or_insert(0);
        } else if task.attributes.policy.is_none() {
            task.attributes.policy = policy.filter(|policy| *policy != Policy::Normal);
        }
    }
    Ok(tasks)
}

fn check_task_name(field: &Field<'_>) -> Result<(), ParseError> {
    if field.key.is_empty() || field.key.len() > MAX_NAME {
        return Err(field.invalid("a task's name must have 1 to 255 bytes", "rename it"));
    }
    Ok(())
}

/// What a task and a phase have in common, as it is read.
#[derive(Default)]
struct Body {
    attributes: Attributes,
    delay: Nanos,
    instances: Option<u32>,
    kind: Option<Kind>,
    loops: Option<i64>,
    first_event: Option<Box<Place>>,
    events: Vec<Event>,
}

fn read_task(field: &Field<'_>, references: &mut References) -> Result<Task, ParseError> {
    let (body, phases) = read_body(field, field.key, true, references)?;
    let (rounds, phases) = match phases {
        Some(phases) => {
            if let Some(at) = body.first_event {
                return Err(ParseError::Invalid {
                    at,
                    problem: "rt-app never comes to events beside `phases`",
                    advice: "move it into a phase",
                });
            }
            (task_rounds(body.loops), read_phases(&phases, field.key, references)?)
        }
        None => {
            let phase = Phase {
                name: field.key.to_owned(),
                attributes: Attributes::default(),
                rounds: phase_rounds(field, body.loops)?,
                events: events_of(field, body.events)?,
            };
            // Without phases, `loop` is that of the only phase.
            let rounds = if body.loops.is_some() { Rounds::Times(1) } else { Rounds::Forever };
            (rounds, vec![phase])
        }
    };
    Ok(Task {
        name: field.key.to_owned(),
        kind: body.kind.unwrap_or(Kind::Thread),
        instances: body.instances.unwrap_or(1),
        delay: body.delay,
        attributes: body.attributes,
        rounds,
        phases,
    })
}

fn read_phases(
    field: &Field<'_>,
    task: &str,
    references: &mut References,
) -> Result<Vec<Phase>, ParseError> {
    let mut phases = Vec::new();
    for member in field.members()? {
        let (body, _) = read_body(&member, task, false, references)?;
        phases.push(Phase {
            name: member.key.to_owned(),
            attributes: body.attributes,
            rounds: phase_rounds(&member, body.loops)?,
            events: events_of(&member, body.events)?,
        });
    }
    if phases.is_empty() {
        return Err(field.invalid("there is no phase", "add one, or remove the key"));
    }
    Ok(phases)
}

fn task_rounds(loops: Option<i64>) -> Rounds {
    match loops {
        None | Some(-1) => Rounds::Forever,
        Some(times) => Rounds::Times(times as u32),
    }
}

fn phase_rounds(field: &Field<'_>, loops: Option<i64>) -> Result<Rounds, ParseError> {
    match loops {
        None => Ok(Rounds::Times(1)),
        Some(-1) => Ok(Rounds::Forever),
        Some(0) => Err(field.invalid(
            "`loop` is 0, with which rt-app never leaves the phase",
            "say -1 for that, or remove the phase",
        )),
        Some(times) => Ok(Rounds::Times(times as u32)),
    }
}

fn events_of(field: &Field<'_>, events: Vec<Event>) -> Result<Vec<Event>, ParseError> {
    if events.is_empty() {
        return Err(field.invalid("there is no event, so nothing is done", "add one"));
    }
    Ok(events)
}

fn read_body<'a>(
    field: &'a Field<'a>,
    task: &str,
    is_task: bool,
    references: &mut References,
) -> Result<(Body, Option<Field<'a>>), ParseError> {
    let mut body = Body::default();
    let mut phases = None;
    let mut seen = [None; Property::COUNT];
    for member in field.members()? {
        match keys::meaning(member.key) {
            Key::Event(verb) => {
                if body.first_event.is_none() {
                    body.first_event = Some(member.place());
                }
                body.events.push(event::read(verb, &member, task, references)?);
            }
            Key::Property(property) => {
                if property.of_tasks_only() && !is_task {
                    return Err(member.invalid("this is for tasks, not phases", "move it out"));
                }
                if let Some(first) = seen[property as usize].replace(member.line) {
                    return Err(member.repeated(first));
                }
                if property == Property::Phases {
                    phases = Some(member);
                } else {
                    set(&mut body, property, &member)?;
                }
            }
            Key::Refused(problem, advice) => return Err(member.unsupported(problem, advice)),
            Key::Unknown => return Err(member.unknown_key(keys::known())),
        }
    }
    if body.attributes.policy.is_some() {
        // A policy without a priority sets the nice value to 0 in rt-app.
        body.attributes.nice.get_or_insert(0);
    }
    Ok((body, phases))
}

fn set(body: &mut Body, property: Property, field: &Field<'_>) -> Result<(), ParseError> {
    match property {
        Property::As => {
            body.kind = Some(match field.text()? {
                "thread" => Kind::Thread,
                "process" => Kind::Process,
                other => return Err(field.unknown_word(other, ["thread", "process"])),
            });
        }
        Property::Cpus => body.attributes.cpus = Some(event::cpus(field)?),
        Property::Delay => body.delay = Nanos::from_micros(field.int(0, INT_MAX)? as u64),
        Property::Instance => {
            body.instances = Some(field.int(0, i64::from(MAX_INSTANCES))? as u32);
        }
        Property::Loop => body.loops = Some(field.int(-1, INT_MAX)?),
        Property::Policy => body.attributes.policy = Some(event::policy(field)?),
        Property::Priority => body.attributes.nice = Some(event::nice(field)?),
        Property::Taskgroup => body.attributes.cgroup = event::cgroup(field)?,
        Property::Phases => {}
    }
    Ok(())
}
