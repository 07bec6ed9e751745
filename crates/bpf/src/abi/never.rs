//! Programs that a kernel loads and that nothing here ever runs: there is no user space, and what the
//! engine's world does not do it does for nobody.

/// Why a program of this section never runs; nothing if it may, or if no more is known.
pub(super) fn runs(section: &str) -> Option<&'static str> {
    let (kind, of) = section.split_once('/').unwrap_or((section, ""));
    Some(match (kind, of) {
        ("iter" | "iter.s", _) => "nobody reads what it iterates over",
        ("perf_event", _) => "nobody opens an event for it",
        // libbpf attaches none of these without a place.
        (
            "kprobe" | "kprobe.multi" | "kretprobe" | "kretprobe.multi" | "fentry.multi"
            | "fentry.multi.s" | "fexit.multi" | "fexit.multi.s" | "fsession.multi"
            | "fsession.multi.s",
            "",
        ) => "nobody attaches it to a function",
        (
            "uprobe" | "uprobe.s" | "uprobe.multi" | "uprobe.multi.s" | "uretprobe" | "uretprobe.s"
            | "uretprobe.multi" | "uretprobe.multi.s" | "usdt" | "usdt.s",
            _,
        ) => "no task has a program of user space",
        // No kernel has a function of this name: its user space attaches it to others, if asked to.
        ("kprobe" | "kretprobe", "generic") => "nobody attaches it to a function",
        // Locks of a workload are the engine's own: no task makes a system call for them.
        ("fentry" | "fentry.s" | "fexit" | "fexit.s", function) if is_of_futexes(function) => {
            "no task here uses a futex"
        }
        ("tp" | "tracepoint", event) if is_futex_call(event) => "no task here uses a futex",
        ("tp_btf" | "raw_tp" | "raw_tracepoint", "sched_pi_setprio") => {
            "no task inherits a priority"
        }
        (
            "tp_btf" | "raw_tp" | "raw_tracepoint",
            "sched_move_numa" | "sched_stick_numa" | "sched_swap_numa",
        ) => "there is one memory node",
        ("tp_btf" | "raw_tp" | "raw_tracepoint", "cpu_frequency" | "cpu_frequency_limits") => {
            "no CPU changes its frequency"
        }
        ("fentry" | "fentry.s" | "fexit" | "fexit.s", "cpuset_write_resmask") => {
            "nobody writes to a cpuset"
        }
        ("tp_btf" | "raw_tp" | "raw_tracepoint", "cgroup_mkdir" | "cgroup_rmdir") => {
            "no cgroup is made or removed while a scheduler is there"
        }
        (
            "tp_btf" | "raw_tp" | "raw_tracepoint",
            "cpuhp_enter" | "cpuhp_exit" | "cpuhp_multi_enter",
        ) => "no CPU comes or goes",
        _ => return None,
    })
}

/// The functions of kernel/futex/.
fn is_of_futexes(function: &str) -> bool {
    let name = function.trim_start_matches('_');
    name.starts_with("futex_") || name.starts_with("do_futex") || name.starts_with("x64_sys_futex")
}

/// What happens as a task calls futex(2) or its like.
fn is_futex_call(event: &str) -> bool {
    let call =
        event.strip_prefix("syscalls/sys_enter_").or(event.strip_prefix("syscalls/sys_exit_"));
    call.is_some_and(|call| call == "futex" || call.starts_with("futex_"))
}

#[cfg(test)]
mod tests {
    use super::runs;

    #[test]
    fn what_may_run_is_not_among_them() {
        for section in [
            "struct_ops/enqueue",
            "syscall",
            "tp_btf/sched_switch",
            "tp_btf/cgroup_attach_task",
            "fentry/scx_tick",
            "kprobe/do_exit",
            "kprobe.multi/do_*",
            "fexit.multi/do_*",
            "fexit/do_fork",
            "kprobe/futex_wait",
            "tp/syscalls/sys_enter_read",
        ] {
            assert_eq!(runs(section), None, "{section}");
        }
        for section in [
            "iter/task",
            "kprobe",
            "fexit.multi",
            "uprobe//bin/true:main",
            "usdt.s//bin/true:a:b",
            "tp_btf/cgroup_rmdir",
            "kprobe/generic",
            "fexit/futex_wait",
            "fexit/__futex_wait",
            "fentry/futex_wake_op",
            "tracepoint/syscalls/sys_exit_futex_wait",
            "tp_btf/cpu_frequency",
            "raw_tp/cgroup_mkdir",
        ] {
            assert!(runs(section).is_some(), "{section}");
        }
    }
}
