//! The kernel's functions that programs call, by name.

mod absent;
mod allowed;
mod arena;
mod cid;
mod cpu;
mod heap;
mod iter;
mod list;
mod map;
mod mask;
mod put;
mod queue;
mod report;
mod section;
mod sub;
mod task;
mod text;
mod tree;

use scxlab_engine::Errno;

pub(super) use self::absent::without_scheduler;
pub(super) use self::allowed::{Kind, is_allowed, is_of_cpus};
pub(super) use self::arena::{Arena, FreePages, FreedPages};
pub(super) use self::heap::{OwnType, percpu_obj_of};
pub(super) use self::put::put_orphans;
pub(super) use self::report::EventPlaces;
pub(super) use self::section::Sections;
pub(super) use self::tree::Insertion;
use super::call::{Bad, Call};
use super::{bpf_func, dynptr};

/// Does what a kernel function does. An error is the program's: what it gave cannot be used.
pub(super) type Kfunc = fn(&mut Call<'_, '_>) -> Result<u64, Bad>;

/// Those that there are, under all names that versions of the kernel have for them. Which of the
/// names a version has is in its declarations.
#[rustfmt::skip]
pub(super) fn find(name: &str) -> Option<Kfunc> {
    Some(match name {
        // Queues.
        "scx_bpf_dsq_insert" | "scx_bpf_dsq_insert___v2" | "scx_bpf_dispatch" => queue::insert,
        "scx_bpf_dsq_insert_vtime" | "scx_bpf_dispatch_vtime" => queue::insert_vtime,
        "__scx_bpf_dsq_insert_vtime" => queue::insert_vtime_args,
        "scx_bpf_dispatch_nr_slots" => queue::dispatch_nr_slots,
        "scx_bpf_dispatch_cancel" => queue::dispatch_cancel,
        "scx_bpf_dsq_move_to_local" | "scx_bpf_consume" => queue::move_to_local,
        "scx_bpf_dsq_move_to_local___v2" => queue::move_to_local_with,
        "scx_bpf_sub_dispatch" => queue::sub_dispatch,
        "scx_bpf_dsq_move" | "scx_bpf_dispatch_from_dsq" => queue::move_task,
        "scx_bpf_dsq_move_vtime" | "scx_bpf_dispatch_vtime_from_dsq" => queue::move_task_vtime,
        "scx_bpf_dsq_move_set_slice" | "scx_bpf_dispatch_from_dsq_set_slice" => queue::set_slice,
        "scx_bpf_dsq_move_set_vtime" | "scx_bpf_dispatch_from_dsq_set_vtime" => queue::set_vtime,
        "scx_bpf_reenqueue_local" => queue::reenqueue_local,
        "scx_bpf_reenqueue_local___v2" => queue::reenqueue_own,
        "scx_bpf_dsq_reenq" => queue::reenq,
        "scx_bpf_create_dsq" => queue::create,
        "scx_bpf_destroy_dsq" => queue::destroy,
        "scx_bpf_dsq_nr_queued" => queue::nr_queued,
        "scx_bpf_dsq_peek" => queue::peek,
        "bpf_iter_scx_dsq_new" => queue::iter_new,
        "bpf_iter_scx_dsq_next" => queue::iter_next,
        "bpf_iter_scx_dsq_destroy" => queue::iter_destroy,
        // CPUs.
        "scx_bpf_select_cpu_dfl" => cpu::select_dfl,
        "scx_bpf_select_cpu_and" => cpu::select_and,
        "__scx_bpf_select_cpu_and" => cpu::select_and_args,
        "scx_bpf_test_and_clear_cpu_idle" => cpu::test_and_clear_idle,
        "scx_bpf_pick_idle_cpu" => cpu::pick_idle,
        "scx_bpf_pick_any_cpu" => cpu::pick_any,
        "scx_bpf_pick_idle_cpu_node" => cpu::pick_idle_in_node,
        "scx_bpf_pick_any_cpu_node" => cpu::pick_any_in_node,
        "scx_bpf_get_idle_cpumask" => cpu::idle_mask,
        "scx_bpf_get_idle_smtmask" => cpu::idle_core_mask,
        "scx_bpf_get_idle_cpumask_node" => cpu::idle_mask_of_node,
        "scx_bpf_get_idle_smtmask_node" => cpu::idle_core_mask_of_node,
        "scx_bpf_get_possible_cpumask" | "scx_bpf_get_online_cpumask" => cpu::all_mask,
        "scx_bpf_put_idle_cpumask" | "scx_bpf_put_cpumask" => nothing,
        "scx_bpf_kick_cpu" => cpu::kick,
        "scx_bpf_kick_cid" => cpu::kick_cid,
        "scx_bpf_nr_cpu_ids" | "scx_bpf_nr_cids" | "scx_bpf_nr_online_cids" => cpu::nr_ids,
        "scx_bpf_nr_node_ids" => cpu::nr_nodes,
        "scx_bpf_cpu_node" => cpu::node,
        "scx_bpf_cpu_rq" => cpu::rq,
        "scx_bpf_locked_rq" => cpu::locked_rq,
        "scx_bpf_cpu_curr" => cpu::curr,
        "scx_bpf_cid_curr" => cpu::cid_curr,
        "scx_bpf_cpuperf_cap" => cpu::perf_cap,
        "scx_bpf_cpuperf_cur" => cpu::perf_cur,
        "scx_bpf_cpuperf_set" => cpu::perf_set,
        "scx_bpf_cidperf_cap" => cpu::cid_perf_cap,
        "scx_bpf_cidperf_cur" => cpu::cid_perf_cur,
        "scx_bpf_cidperf_set" => cpu::cid_perf_set,
        "scx_bpf_this_cid" => cpu::this_cid,
        "scx_bpf_cid_to_cpu" => cpu::cid_to_cpu,
        "scx_bpf_cpu_to_cid" => cpu::cpu_to_cid,
        "scx_bpf_cid_topo" => cid::topo,
        "scx_bpf_cid_override" => cid::over,
        // Tasks and cgroups.
        "scx_bpf_task_set_slice" => task::set_slice,
        "scx_bpf_task_set_dsq_vtime" => task::set_dsq_vtime,
        "scx_bpf_task_cpu" => task::cpu,
        "scx_bpf_task_cid" => task::cid,
        "scx_bpf_task_running" => task::running,
        "scx_bpf_task_cgroup" => task::cgroup,
        "scx_bpf_tid_to_task" => task::from_tid,
        "bpf_task_acquire" => task::acquire,
        "bpf_task_release" => task::release,
        "bpf_task_from_pid" | "bpf_task_from_vpid" => task::from_pid,
        "bpf_task_under_cgroup" => task::under_cgroup,
        "bpf_cgroup_acquire" => task::cgroup_acquire,
        "bpf_cgroup_release" => nothing,
        "bpf_cgroup_from_id" => task::cgroup_from_id,
        "bpf_cgroup_ancestor" => task::cgroup_ancestor,
        // Time, and what is said.
        "scx_bpf_now" => report::now,
        "scx_bpf_events" => report::events,
        "scx_bpf_error_bstr" => report::error,
        "scx_bpf_exit_bstr" => report::exit,
        "scx_bpf_dump_bstr" => report::dump,
        // Masks that programs own.
        "bpf_cpumask_create" => mask::create,
        "bpf_cpumask_acquire" => mask::acquire,
        "bpf_cpumask_release" => mask::release,
        "bpf_cpumask_first" => mask::first,
        "bpf_cpumask_first_zero" => mask::first_zero,
        "bpf_cpumask_first_and" => mask::first_and,
        "bpf_cpumask_set_cpu" => mask::set_cpu,
        "bpf_cpumask_clear_cpu" => mask::clear_cpu,
        "bpf_cpumask_test_cpu" => mask::test_cpu,
        "bpf_cpumask_test_and_set_cpu" => mask::test_and_set_cpu,
        "bpf_cpumask_test_and_clear_cpu" => mask::test_and_clear_cpu,
        "bpf_cpumask_setall" => mask::set_all,
        "bpf_cpumask_clear" => mask::clear,
        "bpf_cpumask_and" => mask::and,
        "bpf_cpumask_or" => mask::or,
        "bpf_cpumask_xor" => mask::xor,
        "bpf_cpumask_equal" => mask::equal,
        "bpf_cpumask_intersects" => mask::intersects,
        "bpf_cpumask_subset" => mask::subset,
        "bpf_cpumask_empty" => mask::empty,
        "bpf_cpumask_full" => mask::full,
        "bpf_cpumask_copy" => mask::copy,
        "bpf_cpumask_any_distribute" => mask::any_distribute,
        "bpf_cpumask_any_and_distribute" => mask::any_and_distribute,
        "bpf_cpumask_weight" => mask::weight,
        "bpf_cpumask_populate" => mask::populate,
        // Iterators.
        "bpf_iter_num_new" => iter::num_new,
        "bpf_iter_num_next" => iter::num_next,
        "bpf_iter_num_destroy" => iter::num_destroy,
        "bpf_iter_bits_new" => iter::bits_new,
        "bpf_iter_bits_next" => iter::bits_next,
        "bpf_iter_bits_destroy" => iter::bits_destroy,
        "bpf_iter_css_new" => iter::css_new,
        "bpf_iter_css_next" => iter::css_next,
        "bpf_iter_css_destroy" => iter::css_destroy,
        "bpf_iter_task_new" => iter::task_new,
        "bpf_iter_task_next" => iter::task_next,
        "bpf_iter_task_destroy" => iter::task_destroy,
        "bpf_iter_css_task_new" => iter::css_task_new,
        "bpf_iter_css_task_next" => iter::css_task_next,
        "bpf_iter_css_task_destroy" => iter::css_task_destroy,
        // Sections that nothing interrupts.
        "bpf_rcu_read_lock" => section::rcu_lock,
        "bpf_rcu_read_unlock" => section::rcu_unlock,
        "bpf_preempt_disable" => section::preempt_disable,
        "bpf_preempt_enable" => section::preempt_enable,
        "bpf_local_irq_save" => section::irq_save,
        "bpf_local_irq_restore" => section::irq_restore,
        "bpf_res_spin_lock" => section::lock,
        "bpf_res_spin_unlock" => section::unlock,
        "bpf_res_spin_lock_irqsave" => section::lock_irqsave,
        "bpf_res_spin_unlock_irqrestore" => section::unlock_irqrestore,
        // Arenas.
        "bpf_arena_alloc_pages" => arena::alloc_pages,
        "bpf_arena_reserve_pages" => arena::reserve_pages,
        "bpf_arena_free_pages" => arena::free_pages,
        // Objects of the program's own types.
        "bpf_obj_new" | "bpf_obj_new_impl" => heap::obj_new,
        "bpf_obj_drop" | "bpf_obj_drop_impl" => heap::obj_drop,
        "bpf_refcount_acquire" | "bpf_refcount_acquire_impl" => heap::refcount_acquire,
        "bpf_rbtree_add" | "bpf_rbtree_add_impl" => tree::add,
        "bpf_rbtree_remove" => tree::remove,
        "bpf_rbtree_first" => tree::first,
        "bpf_rbtree_root" => tree::root,
        "bpf_rbtree_left" => tree::left,
        "bpf_rbtree_right" => tree::right,
        "bpf_list_push_front" | "bpf_list_push_front_impl" => list::push_front,
        "bpf_list_push_back" | "bpf_list_push_back_impl" => list::push_back,
        "bpf_list_pop_front" => list::pop_front,
        "bpf_list_pop_back" => list::pop_back,
        "bpf_list_front" => list::front,
        "bpf_list_back" => list::back,
        "bpf_list_add" => list::add,
        "bpf_list_del" => list::del,
        "bpf_list_empty" => list::empty,
        "bpf_list_is_first" => list::is_first,
        "bpf_list_is_last" => list::is_last,
        "bpf_percpu_obj_new" | "bpf_percpu_obj_new_impl" => heap::percpu_obj_new,
        "bpf_percpu_obj_drop" | "bpf_percpu_obj_drop_impl" => heap::percpu_obj_drop,
        // Pointers as they are.
        "bpf_rdonly_cast" | "bpf_cast_to_kern_ctx" => same,
        // Memory whose size is known at run time.
        "bpf_dynptr_adjust" => dynptr::adjust,
        "bpf_dynptr_clone" => dynptr::clone,
        "bpf_dynptr_copy" => dynptr::copy_between,
        "bpf_dynptr_is_null" => dynptr::is_null,
        "bpf_dynptr_is_rdonly" => dynptr::is_read_only,
        "bpf_dynptr_memset" => dynptr::memset,
        "bpf_dynptr_size" => dynptr::size,
        "bpf_dynptr_slice" => dynptr::slice,
        "bpf_dynptr_slice_rdwr" => dynptr::slice_to_write,
        // Text.
        "bpf_strcmp" => text::cmp,
        "bpf_strcasecmp" => text::case_cmp,
        "bpf_strncasecmp" => text::n_case_cmp,
        "bpf_strchr" => text::chr,
        "bpf_strchrnul" => text::chr_nul,
        "bpf_strnchr" => text::n_chr,
        "bpf_strrchr" => text::r_chr,
        "bpf_strlen" => text::len,
        "bpf_strnlen" => text::n_len,
        "bpf_strspn" => text::spn,
        "bpf_strcspn" => text::c_spn,
        "bpf_strstr" => text::str,
        "bpf_strcasestr" => text::case_str,
        "bpf_strnstr" => text::n_str,
        "bpf_strncasestr" => text::n_case_str,
        // The rest.
        "bpf_map_sum_elem_count" => map::sum_elem_count,
        "bpf_stream_vprintk" | "bpf_stream_vprintk_impl" => bpf_func::stream_vprintk,
        // Sub-schedulers.
        "scx_bpf_online_cmask" => sub::online_cmask,
        "scx_bpf_sub_grant" => sub::grant,
        "scx_bpf_sub_revoke" => sub::revoke,
        "scx_bpf_sub_caps" => sub::caps,
        "scx_bpf_sub_kill_bstr" => sub::kill,
        _ => return None,
    })
}

/// As C returns an error.
fn errno<T>(result: Result<T, Errno>, value: impl FnOnce(T) -> u64) -> u64 {
    match result {
        Ok(good) => value(good),
        Err(err) => negative(err.0),
    }
}

/// A negative error number.
fn negative(errno: i32) -> u64 {
    i64::from(-errno) as u64
}

/// There is nothing to do: what is given back is never freed.
fn nothing(_: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok(0)
}

fn same(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok(call.args[0])
}

#[cfg(test)]
mod tests {
    use super::find;
    use crate::abi::{Abi, Version};

    #[test]
    fn what_is_declared_is_there() {
        for version in Version::ALL {
            let abi = Abi::new(version).expect("the declarations make sense");
            let missing: Vec<_> = abi.kfuncs().filter(|(name, _)| find(name).is_none()).collect();
            assert!(missing.is_empty(), "{version}: {missing:?}");
        }
    }
}
