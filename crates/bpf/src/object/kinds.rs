//! What a program is, by the name of its section.

/// Kinds that may be followed by `/` and what they are for (`section_defs` in Linux 7.2's libbpf, those
/// with `+`).
const WITH_MORE: &[&str] = &[
    "fentry",
    "fentry.multi",
    "fentry.multi.s",
    "fentry.s",
    "fexit",
    "fexit.multi",
    "fexit.multi.s",
    "fexit.s",
    "fmod_ret",
    "fmod_ret.s",
    "freplace",
    "fsession",
    "fsession.multi",
    "fsession.multi.s",
    "fsession.s",
    "iter",
    "iter.s",
    "kprobe",
    "kprobe.multi",
    "kprobe.session",
    "kretprobe",
    "kretprobe.multi",
    "kretsyscall",
    "ksyscall",
    "lsm",
    "lsm.s",
    "lsm_cgroup",
    "raw_tp",
    "raw_tp.s",
    "raw_tp.w",
    "raw_tracepoint",
    "raw_tracepoint.s",
    "raw_tracepoint.w",
    "struct_ops",
    "struct_ops.s",
    "tp",
    "tp.s",
    "tp_btf",
    "tp_btf.s",
    "tracepoint",
    "tracepoint.s",
    "uprobe",
    "uprobe.multi",
    "uprobe.multi.s",
    "uprobe.s",
    "uprobe.session",
    "uprobe.session.s",
    "uretprobe",
    "uretprobe.multi",
    "uretprobe.multi.s",
    "uretprobe.s",
    "usdt",
    "usdt.s",
];

/// Kinds whose section has one of a few names. What is behind a `/` of these is not looked at: none
/// of them is run by a scheduler.
const OTHERS: &[&str] = &[
    "action",
    "cgroup",
    "cgroup_skb",
    "classifier",
    "flow_dissector",
    "lirc_mode2",
    "lwt_in",
    "lwt_out",
    "lwt_seg6local",
    "lwt_xmit",
    "netfilter",
    "netkit",
    "perf_event",
    "sk_lookup",
    "sk_msg",
    "sk_reuseport",
    "sk_skb",
    "socket",
    "sockops",
    "syscall",
    "tc",
    "tcx",
    "xdp",
    "xdp.frags",
];

/// Whether there are programs of this kind.
pub(super) fn is_known(section: &str) -> bool {
    let (kind, more) = section.split_once('/').unwrap_or((section, ""));
    match kind {
        // Run on demand, and for nothing else.
        "syscall" => more.is_empty(),
        kind => WITH_MORE.binary_search(&kind).is_ok() || OTHERS.binary_search(&kind).is_ok(),
    }
}

/// Whether a program of this kind may sleep.
pub(super) fn is_sleepable(section: &str) -> bool {
    let kind = section.split('/').next().unwrap_or_default();
    kind == "syscall" || kind.ends_with(".s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_sorted_and_found() {
        assert!(WITH_MORE.is_sorted());
        assert!(OTHERS.is_sorted());
        for (section, known, sleepable) in [
            ("struct_ops/enqueue", true, false),
            ("struct_ops.s/init", true, true),
            ("struct_ops", true, false),
            ("syscall", true, true),
            ("syscall/x", false, true),
            ("tp_btf/sched_switch", true, false),
            ("tp_btf.s/sys_enter", true, true),
            ("tp.s/syscalls/sys_enter_bpf", true, true),
            ("tracepoint.s", true, true),
            ("raw_tp.s/sys_enter", true, true),
            ("raw_tracepoint.s/sys_enter", true, true),
            ("fentry.multi/scx_bpf_*", true, false),
            ("fentry.multi.s/scx_bpf_*", true, true),
            ("fexit.multi/scx_bpf_*", true, false),
            ("fexit.multi.s/scx_bpf_*", true, true),
            ("fsession.multi/scx_bpf_*", true, false),
            ("fsession.multi.s/scx_bpf_*", true, true),
            ("fmod_ret.multi/scx_bpf_*", false, false),
            ("struct_opsx", false, false),
            ("", false, false),
        ] {
            assert_eq!(is_known(section), known, "{section}");
            assert_eq!(is_sleepable(section), sleepable, "{section}");
        }
    }
}
