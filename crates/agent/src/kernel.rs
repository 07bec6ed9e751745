//! What the running kernel can do, and what its sched_ext is at.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use scxlab_protocol::Kernel;

/// Where sched_ext shows its state.
const SYSFS: &str = "/sys/kernel/sched_ext";
/// The root scheduler's directory in it.
const ROOT: &str = "root";

/// The kernel's types.
pub const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Which kernel this is.
pub fn probe() -> Kernel {
    let release = read("/proc/sys/kernel/osrelease");
    let btf = fs::read(BTF).unwrap_or_default();
    Kernel {
        release,
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        sched_ext: Path::new(SYSFS).is_dir(),
        native_tid: has_name(&btf, "scx_bpf_tid_to_task"),
    }
}

/// Whether the kernel's types have such a name: they end in a table of strings that end in a 0.
fn has_name(btf: &[u8], name: &str) -> bool {
    let wanted: Vec<u8> = [&[0], name.as_bytes(), &[0]].concat();
    btf.windows(wanted.len()).any(|window| window == wanted)
}

/// sched_ext's state: `disabled`, `enabling`, `enabled` or `disabling`.
pub fn state() -> String {
    read(&format!("{SYSFS}/state"))
}

/// The name of the root scheduler.
pub fn root() -> String {
    read(&format!("{SYSFS}/{ROOT}/ops"))
}

/// How often a scheduler was attached since boot.
pub fn enable_seq() -> u64 {
    read(&format!("{SYSFS}/enable_seq")).parse().unwrap_or(0)
}

/// The root scheduler's event counters; none on kernels that have no such file.
pub fn events() -> BTreeMap<String, u64> {
    counters(ROOT)
}

/// Those of the scheduler of a cgroup below the root's.
pub fn sub_events(cgroup: u64) -> BTreeMap<String, u64> {
    counters(&format!("{ROOT}/sub/sub-{cgroup}"))
}

fn counters(scheduler: &str) -> BTreeMap<String, u64> {
    let text = read(&format!("{SYSFS}/{scheduler}/events"));
    let counter = |line: &str| {
        let (name, count) = line.split_once(' ')?;
        Some((name.to_owned(), count.trim().parse().ok()?))
    };
    text.lines().filter_map(counter).collect()
}

/// A small file's text, without its end of line; nothing if it cannot be read.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_whole_string() {
        let btf = b"\0scx_bpf_tid_to_task_not\0scx_bpf_now\0";
        assert!(has_name(btf, "scx_bpf_now"));
        assert!(!has_name(btf, "scx_bpf_tid_to_task") && !has_name(b"", "scx_bpf_now"));
    }
}
