//! What can be wrong with a workload.

use std::fmt;

use scxlab_engine::program::ProgramError;

use crate::json::{MAX_DEPTH, MAX_TEXT, MAX_VALUES};
use crate::workload::MAX_INSTANCES;

/// A place in a workload file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's name as it was given.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The keys that lead there, joined by dots; empty at the top.
    pub field: String,
}

/// `file:line: field`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)?;
        if self.field.is_empty() { Ok(()) } else { write!(f, ": {}", self.field) }
    }
}

/// What is wrong with a workload file. Reads `file:line: field: what is wrong; what to do`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The text is longer than [`MAX_TEXT`].
    #[error("{at}: the text has {bytes} bytes; at most {MAX_TEXT} are read")]
    TooLong {
        /// Where.
        at: Box<Place>,
        /// Its length.
        bytes: usize,
    },
    /// Objects and lists are nested deeper than [`MAX_DEPTH`].
    #[error("{at}: objects and lists are nested more than {MAX_DEPTH} deep; take some out")]
    TooDeep {
        /// Where.
        at: Box<Place>,
    },
    /// There are more values than [`MAX_VALUES`].
    #[error("{at}: there are more than {MAX_VALUES} values; split the file, or use `loop`")]
    TooManyValues {
        /// Where.
        at: Box<Place>,
    },
    /// It is not JSON, even leniently.
    #[error("{at}: {problem}")]
    Syntax {
        /// Where.
        at: Box<Place>,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Nothing has this key.
    #[error("{at}: unknown key; {}", hint(.nearest, "remove it"))]
    UnknownKey {
        /// Where.
        at: Box<Place>,
        /// A key that looks like it.
        nearest: Option<String>,
    },
    /// A text is none of those that mean something here.
    #[error("{at}: `{text}` means nothing here; {}", hint(.nearest, "see the list of keys"))]
    UnknownWord {
        /// Where.
        at: Box<Place>,
        /// The text.
        text: String,
        /// A word that looks like it.
        nearest: Option<String>,
    },
    /// A value of another type is wanted.
    #[error("{at}: found {found}; give {expected}")]
    WrongType {
        /// Where.
        at: Box<Place>,
        /// What is wanted.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A number is out of range.
    #[error("{at}: {value} is out of range; give {min} to {max}")]
    OutOfRange {
        /// Where.
        at: Box<Place>,
        /// The number.
        value: i64,
        /// The least that is allowed.
        min: i64,
        /// The most that is allowed.
        max: i64,
    },
    /// Something is missing.
    #[error("{at}: `{key}` is missing; add it")]
    Missing {
        /// The object that lacks it.
        at: Box<Place>,
        /// What is missing.
        key: &'static str,
    },
    /// Something is given twice of which there can only be one.
    #[error("{at}: given in line {first} already; keep one of the two")]
    Repeated {
        /// The second time.
        at: Box<Place>,
        /// The line of the first time.
        first: u32,
    },
    /// An event names a task that the file does not describe.
    #[error("{at}: there is no task `{task}`; {}", hint(.nearest, "describe it under `tasks`"))]
    NoSuchTask {
        /// Where.
        at: Box<Place>,
        /// The name.
        task: String,
        /// A task whose name looks like it.
        nearest: Option<String>,
    },
    /// More tasks would start than [`MAX_INSTANCES`].
    #[error("{at}: more than {MAX_INSTANCES} tasks would start; lower `instance`")]
    TooManyInstances {
        /// Where the limit is passed.
        at: Box<Place>,
    },
    /// rt-app knows it, but it cannot be honoured here.
    #[error("{at}: {problem}; {advice}")]
    Unsupported {
        /// Where.
        at: Box<Place>,
        /// Why not.
        problem: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// It makes no sense.
    #[error("{at}: {problem}; {advice}")]
    Invalid {
        /// Where.
        at: Box<Place>,
        /// Why not.
        problem: &'static str,
        /// What to do.
        advice: &'static str,
    },
}

/// Why a workload cannot run on a machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The machine has no CPU, or more than the engine can simulate.
    #[error("a machine of {cpus} CPUs cannot be simulated; give 1 to {max}")]
    Cpus {
        /// How many.
        cpus: usize,
        /// The most there can be.
        max: usize,
    },
    /// A task may only run on CPUs that the machine lacks.
    #[error(
        "task `{task}` may only run on CPUs {wanted}, but the machine has CPUs 0-{last}; give it \
         one of those, or a larger machine"
    )]
    Pinned {
        /// The task.
        task: String,
        /// The CPUs, as a list of ranges.
        wanted: String,
        /// The machine's last CPU.
        last: usize,
    },
    /// Two descriptions have one name.
    #[error("two tasks are called `{task}`; rename one")]
    SameName {
        /// The name.
        task: String,
    },
    /// An event names a task that is not described.
    #[error("task `{task}` names `{other}`, which is not described")]
    NoSuchTask {
        /// The task with the event.
        task: String,
        /// What it names.
        other: String,
    },
    /// No task that exists from the start names the barrier, so it can never open.
    #[error("task `{task}` waits at barrier `{barrier}`, which no task can come to from the start")]
    Barrier {
        /// The task.
        task: String,
        /// The barrier.
        barrier: String,
    },
    /// No task exists from the start.
    #[error("no task would start; give one an `instance` of 1 or more")]
    NothingStarts,
    /// More tasks would start than [`MAX_INSTANCES`].
    #[error("{instances} tasks would start; at most {MAX_INSTANCES} can")]
    TooManyInstances {
        /// How many.
        instances: u64,
    },
    /// The program would have more instructions than
    /// [`MAX_INSTRUCTIONS`](crate::MAX_INSTRUCTIONS).
    #[error("task `{task}` makes the program longer than {max} instructions; shorten it")]
    TooLong {
        /// The task at which the limit was passed.
        task: String,
        /// The limit.
        max: usize,
    },
    /// A value is out of the range that the description states.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

/// There is no such built-in workload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no built-in workload `{name}`; {}", hint(.nearest, "see the list of them"))]
pub struct UnknownWorkload {
    /// The name that was asked for.
    pub name: String,
    /// The one whose name looks most like it.
    pub nearest: Option<String>,
}

fn hint(nearest: &Option<String>, otherwise: &str) -> String {
    match nearest {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => otherwise.to_owned(),
    }
}

/// The beginning of `text`, for a message: a file can hold keys of megabytes.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 60;
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == MOST {
            out.push('…');
            break;
        }
        out.push(if c.is_control() { '\u{fffd}' } else { c });
    }
    out
}

/// Which of `known` looks most like `word`, if any does.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // The distance takes time in proportion to both lengths.
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_lowercase();
    known
        .into_iter()
        .filter(|known| known.len() <= LONGEST)
        .map(|known| (strsim::damerau_levenshtein(&word, &known.to_lowercase()), known))
        .filter(|(distance, known)| *distance <= (known.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known.to_owned())
}
