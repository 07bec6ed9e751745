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
