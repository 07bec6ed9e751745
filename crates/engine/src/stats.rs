//! What was counted.

macro_rules! stats {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// Counts since the start of the simulation.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Stats {
            $($(#[$doc])* pub $field: u64,)*
        }
    };
}

stats! {
    /// Wakeups, of new tasks too.
    wakeups,
    /// Enqueues into a class.
    enqueues,
    /// Insertions into a dispatch queue.
    dispatches,
    /// Context switches.
    switches,
    /// Tasks that went to sleep, or died.
    sleeps,
    /// Forks, threads included.
    forked,
    /// Forks that failed.
    forks_failed,
    /// Tasks past their last switch.
    exited,
    /// Execs.
    execs,
    /// Execs by a thread that was not the leader.
    nonleader_execs,
    /// Processes that were sent a fatal signal.
    kills,
    /// Ticks that were not left out.
    ticks,
    /// How long the watchdog's worker waited for a CPU the last time it was due, ns. It is a task
    /// like others, and late if the scheduler lets it wait.
    watchdog_latency_ns,
    /// Calls of `ops.dispatch`.
    dispatch_calls,
    /// Moves from one CPU's runqueue to another's by a scheduler.
    migrations,
    /// Waits for a kicked CPU.
    kick_waits,
    /// Turns of the ext server.
    ext_server_runs,
    /// Tids handed out.
    tids_issued,
    /// Entries made in the tid table.
    tid_inserted,
    /// Entries removed from it.
    tid_removed,
    /// Lookups in it.
    tid_lookups,
    /// Lookups that found nothing.
    tid_misses,
    /// Lookups by pid.
    pid_lookups,
    /// Lookups by pid that found nothing.
    pid_misses,
    /// Lookups by a pid that found another task than the one in the scheduler's custody that had
    /// it before: the pid was used again, or went to another in an exec.
    old_pid_names_other,
    /// Forks that got a pid which a live task had before.
    pids_reused_early,
    /// Seams that opened.
    seams,
    /// Callbacks that were left in their middle.
    callbacks_left,
    /// Events of other CPUs that were handled meanwhile.
    callbacks_overlapped,
    /// Events that were taken back, since they had to wait for such a callback.
    overlaps_taken_back,
    /// Dispatches voided because the task had been queued anew since the insert.
    dispatches_stale,
    /// Dispatches of a task that was not queued any more.
    dispatches_not_queued,
    /// Transfers to a remote local queue that a dequeue of the task won.
    remote_dispatches_lost,
    /// Remote transfers to a CPU that the task's affinity, by then, does not allow.
    remote_not_allowed,
    /// Moves from a queue to a remote CPU that a dequeue of the task won.
    consumes_lost,
    /// Dequeues that found the task in a transfer.
    transfers_lost,
    /// Tasks that died while `ops.init_task` of an attaching scheduler ran for them.
    died_while_enabling,
    /// Queued tasks that a change of affinity moved to another CPU.
    queued_moves,
    /// Execs that had to wait for a thread which was in the scheduler's custody.
    execs_that_wait_for_queued,
}

impl Stats {
    /// What the bench counts: wakeups, enqueues, dispatches, switches, sleeps, forks, execs and
    /// exits. Not ticks.
    pub fn events(&self) -> u64 {
        self.wakeups
            + self.enqueues
            + self.dispatches
            + self.switches
            + self.sleeps
            + self.forked
            + self.execs
            + self.exited
    }
}
