//! The kernel's configuration, as far as BPF programs ask for it.

use super::Version;

/// The value of a configuration symbol; nothing if it is not set.
pub(super) fn value(name: &str, version: Version, hz: u32) -> Option<String> {
    let yes = |yes: bool| yes.then(|| "y".to_owned());
    match name {
        "CONFIG_HZ" => Some(hz.to_string()),
        "CONFIG_HZ_100" | "CONFIG_HZ_250" | "CONFIG_HZ_300" | "CONFIG_HZ_1000" => {
            yes(name["CONFIG_HZ_".len()..].parse() == Ok(hz))
        }
        // The bits that `struct cpumask` has.
        "CONFIG_NR_CPUS" => Some("8192".to_owned()),
        "CONFIG_64BIT"
        | "CONFIG_X86_64"
        | "CONFIG_SMP"
        | "CONFIG_SCHED_SMT"
        | "CONFIG_BPF"
        | "CONFIG_BPF_SYSCALL"
        | "CONFIG_BPF_JIT"
        | "CONFIG_DEBUG_INFO_BTF"
        | "CONFIG_CGROUPS"
        | "CONFIG_CGROUP_SCHED"
        | "CONFIG_SCHED_CLASS_EXT"
        | "CONFIG_EXT_GROUP_SCHED"
        | "CONFIG_NO_HZ_COMMON"
        | "CONFIG_NO_HZ_IDLE"
        | "CONFIG_PREEMPTION"
        | "CONFIG_PREEMPT_RCU" => yes(true),
        "CONFIG_EXT_SUB_SCHED" => yes(version >= Version::V7_1),
        // libbpf's own: what the loader and the machine can do.
        "LINUX_HAS_BPF_COOKIE" | "LINUX_HAS_SYSCALL_WRAPPER" => Some("1".to_owned()),
        _ => None,
    }
}
