//! The names that events use, for checks that need the whole file.

use std::collections::{HashMap, HashSet};

use crate::error::{ParseError, Place, nearest, shown};
use crate::field::Field;
use crate::workload::{Event, Task};

/// How an event uses a task's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// It creates or becomes that task.
    Starts,
    /// As [`Use::Starts`], by rt-app's own `fork`.
    Forks,
    /// It acts on that task.
    ActsOn,
    /// It says who in a word that is not a name.
    Word,
}

/// What was named so far.
#[derive(Default)]
pub(crate) struct References {
    tasks: Vec<(String, Use, Box<Place>)>,
    /// Barrier, task that names it.
    barriers: Vec<(String, String, Box<Place>)>,
}

impl References {
    pub(crate) fn task(&mut self, name: &str, by: Use, field: &Field<'_>) {
        self.tasks.push((name.to_owned(), by, field.place()));
    }

    pub(crate) fn barrier(&mut self, name: &str, task: &str, field: &Field<'_>) {
        self.barriers.push((name.to_owned(), task.to_owned(), field.place()));
    }

    /// The tasks that `fork` names.
    pub(crate) fn forked(&self) -> HashSet<&str> {
        self.tasks
            .iter()
            .filter(|(_, by, _)| *by == Use::Forks)
            .map(|(name, ..)| name.as_str())
            .collect()
    }

    /// Checks them against the tasks that there are.
    pub(crate) fn check(&self, tasks: &[Task]) -> Result<(), ParseError> {
        let described: HashMap<&str, &Task> =
            tasks.iter().map(|task| (task.name.as_str(), task)).collect();
        for (name, by, at) in &self.tasks {
            let there = described.contains_key(name.as_str());
            if *by == Use::Word && there {
                return Err(ParseError::Invalid {
                    at: at.clone(),
                    problem: "this is a word for who is meant, but also a task's name",
                    advice: "rename the task",
                });
            }
            if *by != Use::Word && !there {
                return Err(ParseError::NoSuchTask {
                    at: at.clone(),
                    task: shown(name),
                    nearest: nearest(name, described_in_order(tasks)),
                });
            }
        }
        self.check_barriers(&described)
    }

    fn check_barriers(&self, described: &HashMap<&str, &Task>) -> Result<(), ParseError> {
        let started: HashSet<&str> = self
            .tasks
            .iter()
            .filter(|(_, by, _)| matches!(by, Use::Starts | Use::Forks))
            .map(|(name, ..)| name.as_str())
            .collect();
        let mut named = HashSet::new();
        for (barrier, task, at) in &self.barriers {
            let unstarted = described.get(task.as_str()).is_some_and(|task| task.instances == 0);
            if unstarted || started.contains(task.as_str()) {
                return Err(ParseError::Invalid {
                    at: at.clone(),
                    problem: "a barrier counts the tasks that there are from the start, so it \
                              cannot be in one that other tasks create",
                    advice: "take the barrier out, or give the task an `instance` and do not \
                             create it elsewhere",
                });
            }
            if !named.insert((barrier, task)) {
                return Err(ParseError::Invalid {
                    at: at.clone(),
                    problem: "the task has this barrier already, and rt-app, which counts every \
                              mention, would wait for ever",
                    advice: "give each barrier of a task a name of its own",
                });
            }
        }
        Ok(())
    }
}

fn described_in_order(tasks: &[Task]) -> impl Iterator<Item = &str> {
    tasks.iter().map(|task| task.name.as_str())
}

/// Makes a timer absolute everywhere if it is so anywhere, as the mode is the timer's in rt-app
/// and not the event's.
pub(crate) fn settle_timer_modes(tasks: &mut [Task]) {
    let mut absolute = HashSet::new();
    for_each_timer(tasks, |task, name, shared, is_absolute| {
        if *is_absolute {
            absolute.insert((if shared { None } else { Some(task) }, name.to_owned()));
        }
    });
    for_each_timer(tasks, |task, name, shared, is_absolute| {
        let key = (if shared { None } else { Some(task) }, name.to_owned());
        *is_absolute |= absolute.contains(&key);
    });
}

fn for_each_timer(tasks: &mut [Task], mut f: impl FnMut(usize, &str, bool, &mut bool)) {
    for (i, task) in tasks.iter_mut().enumerate() {
        for event in task.phases.iter_mut().flat_map(|phase| &mut phase.events) {
            if let Event::Timer { name, absolute, shared, .. } = event {
                f(i, name, *shared, absolute);
            }
        }
    }
}
