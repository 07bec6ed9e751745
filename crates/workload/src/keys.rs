//! The keys of tasks and phases.

/// What a key of a task or phase is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Property(Property),
    Event(Verb),
    /// rt-app knows it, but it cannot be honoured here: why, and what to do.
    Refused(&'static str, &'static str),
    Unknown,
}

/// A key that says how a task or phase is, wherever in the object it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Property {
    As,
    Cpus,
    Delay,
    Instance,
    Loop,
    Phases,
    Policy,
    Priority,
    Taskgroup,
}

impl Property {
    /// How many there are.
    pub(crate) const COUNT: usize = 9;

    /// Whether only a task can have it.
    pub(crate) fn of_tasks_only(self) -> bool {
        matches!(self, Self::As | Self::Delay | Self::Instance | Self::Phases)
    }
}

/// What an event does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Affinity,
    Barrier,
    Broad,
    Exec,
    Exit,
    ExitGroup,
    Fork,
    IgnoreChildren,
    Iorun,
    Join,
    Kill,
    Lock,
    Mem,
    Nice,
    Process,
    Resume,
    Run,
    Runtime,
    SetPolicy,
    Signal,
    Sleep,
    Suspend,
    Sync,
    Thread,
    Timer,
    Unlock,
    Wait,
    WaitAll,
    WaitPid,
    Yield,
}

const PROPERTIES: &[(&str, Property)] = &[
    ("as", Property::As),
    ("cpus", Property::Cpus),
    ("delay", Property::Delay),
    ("instance", Property::Instance),
    ("loop", Property::Loop),
    ("phases", Property::Phases),
    ("policy", Property::Policy),
    ("priority", Property::Priority),
    ("taskgroup", Property::Taskgroup),
];

const EVENTS: &[(&str, Verb)] = &[
    ("affinity", Verb::Affinity),
    ("barrier", Verb::Barrier),
    ("broad", Verb::Broad),
    ("exec", Verb::Exec),
    ("exit", Verb::Exit),
    ("exit_group", Verb::ExitGroup),
    ("fork", Verb::Fork),
    ("ignore_children", Verb::IgnoreChildren),
    ("iorun", Verb::Iorun),
    ("join", Verb::Join),
    ("kill", Verb::Kill),
    ("lock", Verb::Lock),
    ("mem", Verb::Mem),
    ("nice", Verb::Nice),
    ("process", Verb::Process),
    ("resume", Verb::Resume),
    ("run", Verb::Run),
    ("runtime", Verb::Runtime),
    ("set_policy", Verb::SetPolicy),
    ("signal", Verb::Signal),
    ("sleep", Verb::Sleep),
    ("suspend", Verb::Suspend),
    ("sync", Verb::Sync),
    ("thread", Verb::Thread),
    ("timer", Verb::Timer),
    ("unlock", Verb::Unlock),
    ("wait", Verb::Wait),
    ("waitall", Verb::WaitAll),
    ("waitpid", Verb::WaitPid),
    ("yield", Verb::Yield),
];

const DEADLINE: (&str, &str) = (
    "there is no deadline class and no custom slice",
    "use SCHED_OTHER, SCHED_BATCH, SCHED_IDLE or SCHED_EXT without it",
);
const CLAMP: (&str, &str) = ("there is no utilization clamping", "remove it");
const NUMA: (&str, &str) = ("memory is not on nodes", "remove it");
const SEMAPHORE: (&str, &str) =
    ("there are no semaphores", "use `lock`, `wait`, `signal` and `unlock`");

/// Properties that are refused.
const REFUSED_PROPERTIES: &[(&str, (&str, &str))] = &[
    ("deadline", DEADLINE),
    ("dl-deadline", DEADLINE),
    ("dl-period", DEADLINE),
    ("dl-runtime", DEADLINE),
    ("period", DEADLINE),
    ("util_min", CLAMP),
    ("util_max", CLAMP),
    ("nodes_membind", NUMA),
    ("numa_data", NUMA),
];

/// Events that are refused.
const REFUSED_EVENTS: &[(&str, (&str, &str))] = &[
    ("memrun", ("caches are not simulated, so its cost is not known", "use `mem` or `run`")),
    ("sem_post", SEMAPHORE),
    ("sem_wait", SEMAPHORE),
];

/// What `key` is. An event's key may go on after its name, so that keys differ: of the names it
/// begins with, the longest counts.
pub(crate) fn meaning(key: &str) -> Key {
    if let Some((_, property)) = PROPERTIES.iter().find(|(name, _)| *name == key) {
        return Key::Property(*property);
    }
    if let Some((_, (why, instead))) = REFUSED_PROPERTIES.iter().find(|(name, _)| *name == key) {
        return Key::Refused(why, instead);
    }
    let known = EVENTS.iter().map(|(name, verb)| (*name, Key::Event(*verb)));
    let refused =
        REFUSED_EVENTS.iter().map(|(name, (why, instead))| (*name, Key::Refused(why, instead)));
    known
        .chain(refused)
        .filter(|(name, _)| key.starts_with(name))
        .max_by_key(|(name, _)| name.len())
        .map_or(Key::Unknown, |(_, key)| key)
}

/// All keys that mean something.
pub(crate) fn known() -> impl Iterator<Item = &'static str> {
    PROPERTIES.iter().map(|(name, _)| *name).chain(EVENTS.iter().map(|(name, _)| *name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_counts() {
        for (key, verb) in [
            ("run", Verb::Run),
            ("run0", Verb::Run),
            ("runtime", Verb::Runtime),
            ("runtime1", Verb::Runtime),
            ("resume2", Verb::Resume),
            ("sleep_a", Verb::Sleep),
            ("suspend", Verb::Suspend),
            ("sync1", Verb::Sync),
            ("lock_a", Verb::Lock),
            ("unlock_a", Verb::Unlock),
            ("wait0", Verb::Wait),
            ("waitpid0", Verb::WaitPid),
            ("waitall", Verb::WaitAll),
            ("exit", Verb::Exit),
            ("exit_group", Verb::ExitGroup),
            ("exec", Verb::Exec),
            ("mem3", Verb::Mem),
            ("broadcast", Verb::Broad),
        ] {
            assert_eq!(meaning(key), Key::Event(verb), "{key}");
        }
    }

    #[test]
    fn properties_are_whole_keys() {
        assert_eq!(meaning("loop"), Key::Property(Property::Loop));
        assert_eq!(meaning("loop1"), Key::Unknown);
        assert_eq!(meaning("delay"), Key::Property(Property::Delay));
        assert_eq!(meaning("priority"), Key::Property(Property::Priority));
        assert_eq!(meaning("process"), Key::Event(Verb::Process));
    }

    #[test]
    fn what_only_rt_app_has_is_refused() {
        for key in ["memrun", "memrun1", "sem_post", "sem_wait2", "dl-runtime", "util_max"] {
            assert!(matches!(meaning(key), Key::Refused(..)), "{key}");
        }
        assert_eq!(meaning(""), Key::Unknown);
        assert_eq!(meaning("slep"), Key::Unknown);
    }

    #[test]
    fn every_key_is_in_the_readme() {
        let readme = include_str!("../README.md");
        let refused = REFUSED_PROPERTIES.iter().chain(REFUSED_EVENTS).map(|(name, _)| *name);
        for key in known().chain(refused) {
            assert!(readme.contains(&format!("`{key}`")), "{key}");
        }
    }

    #[test]
    fn every_property_has_a_place() {
        assert_eq!(PROPERTIES.len(), Property::COUNT);
        for (_, property) in PROPERTIES {
            assert!((*property as usize) < Property::COUNT);
        }
    }
}
