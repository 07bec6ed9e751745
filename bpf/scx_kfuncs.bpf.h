/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Kernel functions whose prototype is not the same on all kernels. Included by scx.bpf.h.
 *
 * libbpf ignores what follows the last `___` in a name, and leaves a weak function out if the
 * running kernel has none of that name and prototype. So each prototype is declared under a name of
 * its own, and which one is there is known at load; the calls to the others are dead code by then.
 */
#ifndef SCX_KFUNCS_BPF_H
#define SCX_KFUNCS_BPF_H

/*
 * Some builds of 7.1 (Debian's 7.1.8 to 7.1.13) cannot call this one: their BTF has it with the
 * hidden last parameter, and lacks the twin, `_impl`, that the verifier then looks for. A scheduler
 * has the built-in queues there, and no other.
 */
s32 scx_bpf_create_dsq___plain(u64 dsq_id, s32 node) __ksym __weak;

static __always_inline bool scx_can_create_dsq(void)
{
	return bpf_ksym_exists(scx_bpf_create_dsq___plain);
}

static __always_inline s32 scx_bpf_create_dsq(u64 dsq_id, s32 node)
{
	return scx_can_create_dsq() ? scx_bpf_create_dsq___plain(dsq_id, node) : -EOPNOTSUPP;
}

/*
 * The oldest forms of these three are in every kernel so far. From 6.19 on (7.1 for the last)
 * there are successors; the kernel says that the old ones will go, so those are here too.
 */
void scx_bpf_dsq_insert___v1(struct task_struct *p, u64 dsq_id, u64 slice,
			     u64 enq_flags) __ksym __weak;
bool scx_bpf_dsq_insert___v2___new(struct task_struct *p, u64 dsq_id, u64 slice,
				   u64 enq_flags) __ksym __weak;

static __always_inline void scx_bpf_dsq_insert(struct task_struct *p, u64 dsq_id, u64 slice,
					       u64 enq_flags)
{
	if (bpf_ksym_exists(scx_bpf_dsq_insert___v1))
		scx_bpf_dsq_insert___v1(p, dsq_id, slice, enq_flags);
	else
		scx_bpf_dsq_insert___v2___new(p, dsq_id, slice, enq_flags);
}

struct scx_bpf_dsq_insert_vtime_args {
	u64 dsq_id;
	u64 slice;
	u64 vtime;
	u64 enq_flags;
};

void scx_bpf_dsq_insert_vtime___v1(struct task_struct *p, u64 dsq_id, u64 slice, u64 vtime,
				   u64 enq_flags) __ksym __weak;
bool __scx_bpf_dsq_insert_vtime(struct task_struct *p,
				struct scx_bpf_dsq_insert_vtime_args *args) __ksym __weak;

static __always_inline void scx_bpf_dsq_insert_vtime(struct task_struct *p, u64 dsq_id, u64 slice,
						     u64 vtime, u64 enq_flags)
{
	if (bpf_ksym_exists(scx_bpf_dsq_insert_vtime___v1)) {
		scx_bpf_dsq_insert_vtime___v1(p, dsq_id, slice, vtime, enq_flags);
	} else {
		struct scx_bpf_dsq_insert_vtime_args args = {
			.dsq_id = dsq_id,
			.slice = slice,
			.vtime = vtime,
			.enq_flags = enq_flags,
		};

		__scx_bpf_dsq_insert_vtime(p, &args);
	}
}

bool scx_bpf_dsq_move_to_local___v1(u64 dsq_id) __ksym __weak;
bool scx_bpf_dsq_move_to_local___v2___new(u64 dsq_id, u64 enq_flags) __ksym __weak;

static __always_inline bool scx_bpf_dsq_move_to_local(u64 dsq_id)
{
	if (bpf_ksym_exists(scx_bpf_dsq_move_to_local___v1))
		return scx_bpf_dsq_move_to_local___v1(dsq_id);
	return scx_bpf_dsq_move_to_local___v2___new(dsq_id, 0);
}

/*
 * From 6.19 on; before, and in the builds of 7.1 above, a scheduler writes the member, which the
 * kernel allows as long as it keeps its promise to old ones.
 */
bool scx_bpf_task_set_dsq_vtime___plain(struct task_struct *p, u64 vtime) __ksym __weak;

static __always_inline void scx_bpf_task_set_dsq_vtime(struct task_struct *p, u64 vtime)
{
	if (bpf_ksym_exists(scx_bpf_task_set_dsq_vtime___plain))
		scx_bpf_task_set_dsq_vtime___plain(p, vtime);
	else
		p->scx.dsq_vtime = vtime;
}

#endif
