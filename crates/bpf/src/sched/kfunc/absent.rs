//! What the kernel's functions do for a program that is no operation while there is no scheduler:
//! before it is attached (`scx_prog_sched()` gives nothing, Linux 7.2).

use super::cid::no_topo;
use super::{Kfunc, negative, nothing};
use crate::sched::call::{Bad, Call};
use crate::sched::object::{Mask, Object};

const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
/// `NUMA_NO_NODE`.
const NO_NODE: i32 = 1;
/// The root's id.
const ROOT_CGROUP: u64 = 1;
/// `SCX_CPUPERF_ONE`.
const CPUPERF_ONE: u64 = 1024;

/// The function of this name, if it is another without a scheduler.
pub(in crate::sched) fn without_scheduler(name: &str) -> Option<Kfunc> {
    Some(match name {
        "scx_bpf_destroy_dsq"
        | "scx_bpf_dsq_peek"
        | "scx_bpf_dsq_reenq"
        | "scx_bpf_reenqueue_local___v2"
        | "scx_bpf_task_set_slice"
        | "scx_bpf_task_set_dsq_vtime"
        | "scx_bpf_kick_cpu"
        | "scx_bpf_kick_cid"
        | "scx_bpf_exit_bstr"
        | "scx_bpf_error_bstr"
        | "scx_bpf_dump_bstr"
        | "scx_bpf_cpuperf_set"
        | "scx_bpf_cidperf_set"
        | "scx_bpf_cpu_rq"
        | "scx_bpf_locked_rq"
        | "scx_bpf_cpu_curr"
        | "scx_bpf_cid_curr"
        | "scx_bpf_test_and_clear_cpu_idle" => nothing,
        "scx_bpf_create_dsq" => create_dsq,
        "scx_bpf_dsq_nr_queued"
        | "scx_bpf_select_cpu_dfl"
        | "scx_bpf_select_cpu_and"
        | "__scx_bpf_select_cpu_and"
        | "scx_bpf_pick_idle_cpu"
        | "scx_bpf_pick_idle_cpu_node"
        | "scx_bpf_pick_any_cpu"
        | "scx_bpf_pick_any_cpu_node" => |_| Ok(negative(ENODEV)),
        "scx_bpf_cid_to_cpu" | "scx_bpf_cpu_to_cid" => |_| Ok(negative(EINVAL)),
        "scx_bpf_cpu_node" => |_| Ok(negative(NO_NODE)),
        "scx_bpf_cpuperf_cap"
        | "scx_bpf_cpuperf_cur"
        | "scx_bpf_cidperf_cap"
        | "scx_bpf_cidperf_cur" => |_| Ok(CPUPERF_ONE),
        "scx_bpf_get_idle_cpumask"
        | "scx_bpf_get_idle_smtmask"
        | "scx_bpf_get_idle_cpumask_node"
        | "scx_bpf_get_idle_smtmask_node" => |call| Ok(call.object(Object::Mask(Mask::None))?),
        "scx_bpf_task_cgroup" => |call| Ok(call.object(Object::Cgroup(ROOT_CGROUP))?),
        "bpf_iter_scx_dsq_new" => iter_new,
        "scx_bpf_cid_topo" => no_topo,
        _ => return None,
    })
}

/// What it is asked for is checked first.
fn create_dsq(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [dsq, node, ..] = call.args;
    let fine = matches!(node as i32, -1 | 0) && !scxlab_engine::flags::DsqId(dsq).is_builtin();
    Ok(negative(if fine { ENODEV } else { EINVAL }))
}

/// A walk that gives nothing.
fn iter_new(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    call.write(call.args[0], &[0; 48])?;
    Ok(negative(ENODEV))
}
