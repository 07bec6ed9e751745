//! Which of sched_ext's functions a program may call that is no operation: the sets that are
//! registered for its kind, and `scx_kfunc_context_filter()` (Linux 7.2). The verifier looks at each
//! call, also at one that is never reached.

/// What a program is, if it is no operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sched) enum Kind {
    /// `BPF_PROG_TYPE_SYSCALL`.
    Syscall,
    /// `BPF_PROG_TYPE_TRACING`.
    Tracing,
}

impl Kind {
    /// The name, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Syscall => "a syscall program",
            Self::Tracing => "a tracing program",
        }
    }
}

/// Whether a program of this kind may call a kernel function.
pub(in crate::sched) fn is_allowed(kind: Kind, name: &str) -> bool {
    !is_of_operations(name) && (kind == Kind::Syscall || !is_unlocked(name))
}

/// `scx_kfunc_ids_enqueue_dispatch`, `_cpu_release`, `_init`, and `_dispatch` but for what is in
/// `scx_kfunc_ids_unlocked` too.
fn is_of_operations(name: &str) -> bool {
    matches!(
        name,
        "scx_bpf_dsq_insert"
            | "scx_bpf_dsq_insert___v2"
            | "scx_bpf_dsq_insert_vtime"
            | "__scx_bpf_dsq_insert_vtime"
            | "scx_bpf_dispatch"
            | "scx_bpf_dispatch_vtime"
            | "scx_bpf_dispatch_nr_slots"
            | "scx_bpf_dispatch_cancel"
            | "scx_bpf_dsq_move_to_local"
            | "scx_bpf_dsq_move_to_local___v2"
            | "scx_bpf_consume"
            | "scx_bpf_sub_dispatch"
            | "scx_bpf_reenqueue_local"
            | "scx_bpf_cid_override"
    )
}

/// `scx_kfunc_ids_unlocked`.
fn is_unlocked(name: &str) -> bool {
    const MOVES: [&str; 4] = [
        "scx_bpf_dsq_move",
        "scx_bpf_dispatch_from_dsq",
        "scx_bpf_dispatch_vtime_from_dsq",
        "scx_bpf_select_cpu_",
    ];
    let moves = MOVES.iter().any(|beginning| name.starts_with(beginning));
    moves || matches!(name, "scx_bpf_create_dsq" | "__scx_bpf_select_cpu_and")
}

/// `scx_kfunc_ids_cpu_only`: what is not for the cid form.
pub(in crate::sched) fn is_of_cpus(name: &str) -> bool {
    matches!(
        name,
        "scx_bpf_kick_cpu"
            | "scx_bpf_task_cpu"
            | "scx_bpf_cpu_rq"
            | "scx_bpf_cpu_curr"
            | "scx_bpf_cpu_node"
            | "scx_bpf_cpuperf_cap"
            | "scx_bpf_cpuperf_cur"
            | "scx_bpf_cpuperf_set"
            | "scx_bpf_get_possible_cpumask"
            | "scx_bpf_get_online_cpumask"
            | "scx_bpf_put_cpumask"
            | "scx_bpf_select_cpu_dfl"
            | "__scx_bpf_select_cpu_and"
            | "scx_bpf_select_cpu_and"
            | "scx_bpf_get_idle_cpumask"
            | "scx_bpf_get_idle_cpumask_node"
            | "scx_bpf_get_idle_smtmask"
            | "scx_bpf_get_idle_smtmask_node"
            | "scx_bpf_put_idle_cpumask"
            | "scx_bpf_test_and_clear_cpu_idle"
            | "scx_bpf_pick_idle_cpu"
            | "scx_bpf_pick_idle_cpu_node"
            | "scx_bpf_pick_any_cpu"
            | "scx_bpf_pick_any_cpu_node"
    )
}

#[cfg(test)]
mod tests {
    use super::{Kind, is_allowed};

    #[test]
    fn the_kernel_s_groups() {
        let both = ["scx_bpf_kick_cpu", "scx_bpf_dsq_nr_queued", "bpf_task_from_pid"];
        let syscall = [
            "scx_bpf_create_dsq",
            "scx_bpf_dsq_move_vtime",
            "scx_bpf_select_cpu_dfl",
            "__scx_bpf_select_cpu_and",
        ];
        let none = ["scx_bpf_dsq_insert", "scx_bpf_dsq_move_to_local___v2", "scx_bpf_cid_override"];
        for (names, allowed) in
            [(&both[..], [true, true]), (&syscall, [true, false]), (&none, [false, false])]
        {
            for name in names {
                let found = [Kind::Syscall, Kind::Tracing].map(|kind| is_allowed(kind, name));
                assert_eq!(found, allowed, "{name}");
            }
        }
    }
}
