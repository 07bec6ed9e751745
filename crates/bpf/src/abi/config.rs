//! The kernel's configuration, as far as BPF programs ask for it: what any kernel with sched_ext has on
//! x86-64, and what follows from the rest of the declarations. All else, a kernel may have either way.

use super::Version;

/// The value of a configuration symbol; nothing if it is not set.
pub(super) fn value(name: &str, version: Version, hz: u32) -> Option<String> {
    let yes = |yes: bool| yes.then(|| "y".to_owned());
    match name {
        "CONFIG_HZ" => Some(hz.to_string()),
        "CONFIG_HZ_100" | "CONFIG_HZ_250" | "CONFIG_HZ_300" | "CONFIG_HZ_1000" => {
            yes(name["CONFIG_HZ_".len()..].parse() == Ok(hz))
        }
        // The bits that `struct cpumask` has, and `nodemask_t`.
        "CONFIG_NR_CPUS" => Some("8192".to_owned()),
        "CONFIG_NODES_SHIFT" => Some("10".to_owned()),
        "CONFIG_PAGE_SHIFT" => Some("12".to_owned()),
        "CONFIG_64BIT"
        | "CONFIG_X86"
        | "CONFIG_X86_64"
        | "CONFIG_MMU"
        | "CONFIG_PAGE_SIZE_4KB"
        | "CONFIG_THREAD_INFO_IN_TASK"
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
        // What it selects.
        | "CONFIG_GROUP_SCHED_WEIGHT"
        | "CONFIG_NO_HZ_COMMON"
        | "CONFIG_NO_HZ_IDLE"
        | "CONFIG_PREEMPTION"
        | "CONFIG_TICK_ONESHOT"
        | "CONFIG_PREEMPT_COUNT"
        | "CONFIG_PREEMPT_RCU" => yes(true),
        // Tasks have a mempolicy and a preferred node, and statistics, which are off; they leave a
        // group as they exit; and programs run at tracepoints.
        "CONFIG_NUMA"
        | "CONFIG_NUMA_BALANCING"
        | "CONFIG_SCHEDSTATS"
        | "CONFIG_SCHED_AUTOGROUP"
        | "CONFIG_BPF_EVENTS"
        | "CONFIG_PERF_EVENTS"
        | "CONFIG_TRACEPOINTS"
        | "CONFIG_TRACING"
        | "CONFIG_EVENT_TRACING" => yes(true),
        // The controllers of `enum cgroup_subsys_id`.
        "CONFIG_CPUSETS"
        | "CONFIG_CGROUP_CPUACCT"
        | "CONFIG_BLK_CGROUP"
        | "CONFIG_MEMCG"
        | "CONFIG_CGROUP_DEVICE"
        | "CONFIG_CGROUP_FREEZER"
        | "CONFIG_CGROUP_NET_CLASSID"
        | "CONFIG_CGROUP_PERF"
        | "CONFIG_CGROUP_NET_PRIO"
        | "CONFIG_CGROUP_HUGETLB"
        | "CONFIG_CGROUP_PIDS"
        | "CONFIG_CGROUP_RDMA"
        | "CONFIG_CGROUP_MISC" => yes(true),
        "CONFIG_EXT_SUB_SCHED" => yes(version >= Version::V7_1),
        // libbpf's own: what the loader and the machine can do.
        "LINUX_HAS_BPF_COOKIE" | "LINUX_HAS_SYSCALL_WRAPPER" => Some("1".to_owned()),
        _ => None,
    }
}
