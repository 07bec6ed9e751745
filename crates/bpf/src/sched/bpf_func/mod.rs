//! BPF's helpers, by number (`BPF_FUNC_*` in include/uapi/linux/bpf.h).

mod lock;
mod map;
mod names;
mod number;
mod print;
mod read;
mod ring;
mod task;
mod time;
mod timer;
mod walk;

pub(super) use self::map::map;
pub(super) use self::print::{Log, stream_vprintk};
pub(super) use self::read::{fill, is_kernel};
pub(super) use self::ring::{reserve_in, submit_in};
pub(super) use self::timer::{Fired, Rings, Timers};
pub(super) use self::walk::{Next, Walk};

use super::call::{Bad, Call};
use super::map::errno::EINVAL;
use super::{dynptr, percpu};

/// `-EFAULT`.
const EFAULT: u64 = negative(14);
/// `-ERANGE`.
const ERANGE: u64 = negative(34);
/// `-EINVAL`.
const EINVAL_PTR: u64 = negative(EINVAL);

/// An error as C returns it.
const fn negative(errno: i32) -> u64 {
    (errno as i64).wrapping_neg() as u64
}

/// Does what a helper does.
type Helper = fn(&mut Call<'_, '_>) -> Result<u64, Bad>;

/// The helper of this number.
fn find(number: u32) -> Option<Helper> {
    Some(match number {
        1 => map::lookup_elem,
        2 => map::update_elem,
        3 => map::delete_elem,
        4 => read::probe_read,
        113 => read::probe_read_kernel,
        5 | 125 | 208 => time::ktime,
        6 => print::trace_printk,
        7 => time::prandom_u32,
        8 => time::smp_processor_id,
        14 => task::current_pid_tgid,
        15 => task::current_uid_gid,
        16 => print::current_comm,
        22 => map::perf_event_read,
        25 => map::perf_event_output,
        35 | 158 => task::current,
        42 => time::numa_node_id,
        55 => map::perf_event_read_value,
        45 => read::probe_read_str,
        115 => read::probe_read_kernel_str,
        80 => task::current_cgroup_id,
        87 => map::push_elem,
        88 => map::pop_elem,
        89 => map::peek_elem,
        SPIN_LOCK => lock::spin_lock,
        SPIN_UNLOCK => lock::spin_unlock,
        105 => number::strtol,
        106 => number::strtoul,
        112 | 114 | 148 => read::probe_read_user,
        118 => time::jiffies64,
        123 => task::current_ancestor_cgroup_id,
        130 => ring::output,
        131 => ring::reserve,
        132 => ring::submit,
        133 => ring::discard,
        134 => ring::query,
        153 => percpu::per_cpu_ptr,
        154 => percpu::this_cpu_ptr,
        156 => map::task_storage_get,
        157 => map::task_storage_delete,
        160 => time::ktime_coarse,
        FOR_EACH_MAP_ELEM => walk::for_each_map_elem,
        165 => print::snprintf,
        169 => timer::init,
        170 => timer::set_callback,
        171 => timer::start,
        172 => timer::cancel,
        177 => print::trace_vprintk,
        LOOP => walk::bpf_loop,
        182 => read::strncmp,
        KPTR_XCHG => lock::kptr_xchg,
        195 => map::lookup_percpu_elem,
        197 => dynptr::from_mem,
        198 => dynptr::ring_reserve,
        199 => dynptr::ring_submit,
        200 => dynptr::ring_discard,
        201 => dynptr::read,
        202 => dynptr::write,
        203 => dynptr::data,
        209 => ring::user_drain,
        210 => map::cgrp_storage_get,
        211 => map::cgrp_storage_delete,
        _ => return None,
    })
}

const SPIN_LOCK: u32 = 93;
const SPIN_UNLOCK: u32 = 94;
const KPTR_XCHG: u32 = 194;
const FOR_EACH_MAP_ELEM: u32 = 164;
const LOOP: u32 = 181;

/// Whether there is one of this number.
pub(super) fn is_known(number: u32) -> bool {
    find(number).is_some()
}

/// The name of one, for messages.
pub(super) fn name(number: u32) -> String {
    match names::NAMES.get(number as usize) {
        Some(name) => format!("bpf_{name}()"),
        None => format!("helper {number}"),
    }
}

/// Whether a program may call it while it holds a lock: the verifier lets it call little.
pub(super) fn is_allowed_with_lock(number: u32) -> bool {
    // What is wrong with taking another one is said there.
    matches!(number, SPIN_LOCK | SPIN_UNLOCK | KPTR_XCHG)
}

/// Does what it does.
pub(super) fn call(call: &mut Call<'_, '_>, number: u32) -> Result<u64, Bad> {
    match find(number) {
        Some(helper) => helper(call),
        None => Err("the engine does not have it".into()),
    }
}
