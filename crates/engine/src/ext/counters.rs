//! `struct scx_event_stats`.

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident = $name:literal,)*) => {
        /// A scheduler's event counters.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct EventCounters {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl EventCounters {
            /// Each with the kernel's name, in the kernel's order.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$(($name, self.$field)),*].into_iter()
            }
        }
    };
}

counters! {
    /// `ops.select_cpu` returned a CPU that the task may not use.
    select_cpu_fallback = "SCX_EV_SELECT_CPU_FALLBACK",
    /// A dispatch to the local queue of an offline CPU. Always 0: CPUs stay online.
    dispatch_local_dsq_offline = "SCX_EV_DISPATCH_LOCAL_DSQ_OFFLINE",
    /// A task went on because its CPU had no other.
    dispatch_keep_last = "SCX_EV_DISPATCH_KEEP_LAST",
    /// An exiting task went to the local queue instead of `ops.enqueue`.
    enq_skip_exiting = "SCX_EV_ENQ_SKIP_EXITING",
    /// A migration-disabled task went to the local queue instead of `ops.enqueue`.
    enq_skip_migration_disabled = "SCX_EV_ENQ_SKIP_MIGRATION_DISABLED",
    /// A task with `SCX_ENQ_IMMED` went back to its scheduler, because it could not run at once.
    reenq_immed = "SCX_EV_REENQ_IMMED",
    /// Tasks that went back from a local queue were inserted there again at once.
    reenq_local_repeat = "SCX_EV_REENQ_LOCAL_REPEAT",
    /// A slice was refilled with the default.
    refill_slice_dfl = "SCX_EV_REFILL_SLICE_DFL",
    /// Time in bypass mode, ns.
    bypass_duration = "SCX_EV_BYPASS_DURATION",
    /// Tasks dispatched in bypass mode.
    bypass_dispatch = "SCX_EV_BYPASS_DISPATCH",
    /// How often bypass mode began.
    bypass_activate = "SCX_EV_BYPASS_ACTIVATE",
    /// Inserts of a task that the scheduler does not own.
    insert_not_owned = "SCX_EV_INSERT_NOT_OWNED",
    /// Tasks of bypassing sub-schedulers that ran from the host's queue.
    sub_bypass_dispatch = "SCX_EV_SUB_BYPASS_DISPATCH",
}
