//! Helpers about the current task.

use crate::sched::call::{Bad, Call};

/// `bpf_get_current_task()` and `bpf_get_current_task_btf()`.
pub(super) fn current(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let current = call.cx.current();
    call.address(Some(current)).map_err(|full| full.to_string().into())
}

/// `bpf_get_current_pid_tgid()`.
pub(super) fn current_pid_tgid(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let current = call.cx.current();
    let task = call.cx.get(current);
    Ok(u64::from(task.tgid as u32) << 32 | u64::from(task.pid as u32))
}

/// `bpf_get_current_uid_gid()`: all tasks run as root.
pub(super) fn current_uid_gid(_: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok(0)
}

/// `bpf_get_current_cgroup_id()`.
pub(super) fn current_cgroup_id(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let current = call.cx.current();
    Ok(call.cx.cgroup_of(current))
}

/// `bpf_get_current_ancestor_cgroup_id()`: 0 if there is none of this level, the root's being 0.
pub(super) fn current_ancestor_cgroup_id(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let current = call.cx.current();
    let mut path = vec![call.cx.cgroup_of(current)];
    while let Some(parent) = path.last().and_then(|last| call.cx.cgroup_parent(*last)) {
        path.push(parent);
    }
    let level = usize::try_from(call.args[0] as i32);
    Ok(level.ok().and_then(|level| path.iter().rev().nth(level)).copied().unwrap_or(0))
}
