// SPDX-License-Identifier: GPL-2.0-only
/*
 * simple: one queue for all CPUs, by virtual time or first come, first served. The smallest
 * complete example. The same scheduler in Rust, for the engine, is schedulers/src/simple.rs.
 *
 * Options, flags and counters are as in qmap.bpf.c; it needs no flags.
 */
#include "scx.bpf.h"

char _license[] SEC("license") = "GPL";

enum order { order_vtime, order_fifo };

const volatile enum order order = order_vtime;
const volatile u64 slice_us = 20000;

u64 local;
u64 global;

/* How far virtual time has got: that of the task which ran last. Not among the counters. */
u64 vtime_now SEC(".data.state");

/* Where the kernel's build cannot create it, SCX_DSQ_GLOBAL does the same, but not by vtime. */
enum { SHARED_DSQ = 0 };

static __always_inline u64 slice_ns(void)
{
	return slice_us * 1000;
}

/* time_before64(): virtual time may wrap. */
static __always_inline bool before(u64 a, u64 b)
{
	return (s64)(a - b) < 0;
}

s32 BPF_STRUCT_OPS(simple_select_cpu, struct task_struct *p, s32 prev_cpu, u64 wake_flags)
{
	bool is_idle = false;
	s32 cpu = scx_bpf_select_cpu_dfl(p, prev_cpu, wake_flags, &is_idle);

	if (is_idle) {
		__sync_fetch_and_add(&local, 1);
		scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL, slice_ns(), 0);
	}
	return cpu;
}

void BPF_STRUCT_OPS(simple_enqueue, struct task_struct *p, u64 enq_flags)
{
	u64 vtime = p->scx.dsq_vtime, earliest = vtime_now - slice_ns();

	__sync_fetch_and_add(&global, 1);
	if (order == order_fifo) {
		scx_bpf_dsq_insert(p, scx_can_create_dsq() ? SHARED_DSQ : SCX_DSQ_GLOBAL,
				   slice_ns(), enq_flags);
		return;
	}
	/* A task that slept keeps one slice of what it did not use. */
	if (before(vtime, earliest))
		vtime = earliest;
	scx_bpf_dsq_insert_vtime(p, SHARED_DSQ, slice_ns(), vtime, enq_flags);
}

void BPF_STRUCT_OPS(simple_dispatch, s32 cpu, struct task_struct *prev)
{
	if (scx_can_create_dsq())
		scx_bpf_dsq_move_to_local(SHARED_DSQ);
}

/* Not atomic: a race costs a little fairness, and no more. */
void BPF_STRUCT_OPS(simple_running, struct task_struct *p)
{
	if (before(vtime_now, p->scx.dsq_vtime))
		vtime_now = p->scx.dsq_vtime;
}

void BPF_STRUCT_OPS(simple_stopping, struct task_struct *p, bool runnable)
{
	u64 slice = p->scx.slice, used = slice < slice_ns() ? slice_ns() - slice : 0;
	u32 weight = p->scx.weight ?: 1;

	scx_bpf_task_set_dsq_vtime(p, p->scx.dsq_vtime + used * 100 / weight);
}

void BPF_STRUCT_OPS(simple_enable, struct task_struct *p)
{
	scx_bpf_task_set_dsq_vtime(p, vtime_now);
}

s32 BPF_STRUCT_OPS_SLEEPABLE(simple_init)
{
	if (scx_can_create_dsq())
		return scx_bpf_create_dsq(SHARED_DSQ, -1);
	if (order == order_vtime) {
		scx_bpf_error("this build of the kernel cannot create a queue: use order=fifo");
		return -EOPNOTSUPP;
	}
	return 0;
}

void BPF_STRUCT_OPS(simple_exit, struct scx_exit_info *ei)
{
	uei_record(ei);
}

SEC(".struct_ops.link")
struct sched_ext_ops simple_ops = {
	.select_cpu = (void *)simple_select_cpu,
	.enqueue = (void *)simple_enqueue,
	.dispatch = (void *)simple_dispatch,
	.running = (void *)simple_running,
	.stopping = (void *)simple_stopping,
	.enable = (void *)simple_enable,
	.init = (void *)simple_init,
	.exit = (void *)simple_exit,
	.timeout_ms = 5000,
	.name = "simple",
};
