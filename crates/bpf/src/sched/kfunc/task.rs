//! Tasks and cgroups: what is theirs, and how to find and keep them.

use scxlab_engine::{Pid, Slot, Task};

use crate::sched::call::{Bad, Call};
use crate::sched::object::Object;

pub(super) fn set_slice(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (p, slice) = (call.task(0)?, call.args[1]);
    Ok(call.with_core(|cx| cx.task_set_slice(p, slice)).into())
}

pub(super) fn set_dsq_vtime(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (p, vtime) = (call.task(0)?, call.args[1]);
    Ok(call.with_core(|cx| cx.task_set_dsq_vtime(p, vtime)).into())
}

pub(super) fn cpu(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let p = call.task(0)?;
    Ok(call.cx.task_cpu(p).0.into())
}

pub(super) fn cid(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let p = call.task(0)?;
    Ok(call.cx.task_cid(p).0.into())
}

pub(super) fn running(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let p = call.task(0)?;
    Ok(call.cx.task_running(p).into())
}

pub(super) fn cgroup(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let p = call.task(0)?;
    let cgroup = call.with_core(|cx| cx.task_cgroup(p));
    Ok(call.object(Object::Cgroup(cgroup))?)
}

pub(super) fn from_tid(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let tid = call.args[0];
    let found = call.with_core(|cx| cx.tid_to_task(tid));
    Ok(call.address(found)?)
}

/// Keeps a task, and counts it; its address, or NULL.
fn keep<'r>(call: &mut Call<'_, 'r>, p: Task<'r>) -> Result<u64, Bad> {
    if !call.cx.task_acquire(p) {
        return Ok(0);
    }
    let slot: Slot = call.cx.slot(p);
    *call.inner()?.kept.entry(slot).or_default() += 1;
    Ok(call.address(Some(p))?)
}

pub(super) fn acquire(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let p = call.task(0)?;
    keep(call, p)
}

pub(super) fn release(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let p = call.task(0)?;
    let slot = call.cx.slot(p);
    let inner = call.inner()?;
    match inner.kept.get_mut(&slot) {
        None => return Err("no reference to the task is held".into()),
        Some(1) => {
            inner.kept.remove(&slot);
        }
        Some(count) => *count -= 1,
    }
    call.cx.task_release(p);
    Ok(0)
}

/// There is one namespace of pids.
pub(super) fn from_pid(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let pid = Pid(call.args[0] as i32);
    match call.with_core(|cx| cx.task_from_pid(pid)) {
        Some(p) => keep(call, p),
        None => Ok(0),
    }
}

/// Whether a cgroup is below another one, or the same.
fn is_below(call: &Call<'_, '_>, mut cgroup: u64, ancestor: u64) -> bool {
    while cgroup != ancestor {
        let Some(parent) = call.cx.cgroup_parent(cgroup) else { return false };
        cgroup = parent;
    }
    true
}

pub(super) fn under_cgroup(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (p, ancestor) = (call.task(0)?, call.cgroup(1)?);
    let cgroup = call.cx.cgroup_of(p);
    Ok(is_below(call, cgroup, ancestor).into())
}

/// Cgroups do not come and go, so there is nothing to count.
pub(super) fn cgroup_acquire(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    call.cgroup(0)?;
    Ok(call.args[0])
}

pub(super) fn cgroup_from_id(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let id = call.args[0];
    match call.cx.cgroup_path(id) {
        Some(_) => Ok(call.object(Object::Cgroup(id))?),
        None => Ok(0),
    }
}

pub(super) fn cgroup_ancestor(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (cgroup, level) = (call.cgroup(0)?, call.args[1] as i32);
    let mut path = vec![cgroup];
    while let Some(parent) = path.last().and_then(|last| call.cx.cgroup_parent(*last)) {
        path.push(parent);
    }
    let ancestor = usize::try_from(level).ok().and_then(|level| path.iter().rev().nth(level));
    match ancestor {
        Some(&id) => Ok(call.object(Object::Cgroup(id))?),
        None => Ok(0),
    }
}
