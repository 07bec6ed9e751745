// SPDX-License-Identifier: GPL-2.0-only
/*
 * The portable tid in a whole scheduler: one FIFO, in a BPF map that can hold numbers only, for all
 * CPUs. What there is to do for tids is marked with 1 to 4. See README.md.
 */
#include "scx.bpf.h"
#include "scx_tid.bpf.h" /* 1: the calls, and the program scx_tid_last_switch */

char _license[] SEC("license") = "GPL";

/* Tasks that were not found. It stays 0. */
u64 lost;

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, SCX_TID_MAX_TASKS);
	__type(value, u64);
} fifo SEC(".maps");

s32 BPF_STRUCT_OPS_SLEEPABLE(example_init_task, struct task_struct *p,
			     struct scx_init_task_args *args)
{
	return scx_tid_init_task(p); /* 2: before anyone needs its tid */
}

void BPF_STRUCT_OPS(example_exit_task, struct task_struct *p, struct scx_exit_task_args *args)
{
	scx_tid_exit_task(p); /* 3 */
}

void BPF_STRUCT_OPS(example_enqueue, struct task_struct *p, u64 enq_flags)
{
	u64 tid = scx_tid_of_task(p); /* 4: from the task to the number */

	if (bpf_map_push_elem(&fifo, &tid, 0))
		scx_bpf_dsq_insert(p, SCX_DSQ_GLOBAL, SCX_SLICE_DFL, enq_flags);
}

void BPF_STRUCT_OPS(example_dispatch, s32 cpu, struct task_struct *prev)
{
	struct task_struct *p;
	u64 tid;

	if (bpf_map_pop_elem(&fifo, &tid))
		return;
	p = scx_tid_to_task(tid); /* and back; no reference to release */
	if (p)
		scx_bpf_dsq_insert(p, SCX_DSQ_GLOBAL, SCX_SLICE_DFL, 0);
	else
		__sync_fetch_and_add(&lost, 1);
}

void BPF_STRUCT_OPS(example_exit, struct scx_exit_info *info)
{
	uei_record(info);
}

SEC(".struct_ops.link")
struct sched_ext_ops example_ops = {
	.init_task = (void *)example_init_task,
	.exit_task = (void *)example_exit_task,
	.enqueue = (void *)example_enqueue,
	.dispatch = (void *)example_dispatch,
	.exit = (void *)example_exit,
	.name = "example",
};
