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
        ("fentry" | "fentry.s" | "fexit" | "fexit.s", "cpuset_write_resmask") => {
            "nobody writes to a cpuset"
        }
        ("tp_btf", "cgroup_mkdir" | "cgroup_rmdir") => {
            "no cgroup is made or removed while a scheduler is there"
        }
        ("tp_btf", "cpuhp_enter" | "cpuhp_exit" | "cpuhp_multi_enter") => "no CPU comes or goes",
        _ => return None,
    })
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
            "fexit/futex_wait",
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
        ] {
            assert!(runs(section).is_some(), "{section}");
        }
    }
}
