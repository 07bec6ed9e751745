// SPDX-License-Identifier: GPL-2.0-only
/*
 * A scheduler that has its tasks in a ring, which all CPUs put tasks into and take tasks from. It
 * locks the ring if `locked` is set; if not, two CPUs that put a task in at once use one place, and
 * one of the tasks is lost.
 */
#include "scx.bpf.h"

char _license[] SEC("license") = "GPL";

enum { PLACES = 4096 };

const volatile bool locked = false;

struct ring {
	struct bpf_res_spin_lock lock;
	u32 head;
	u32 tail;
	s32 pids[PLACES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct ring);
} rings SEC(".maps");

/* Atomic: these do not race. */
u64 put;
u64 taken;

static __always_inline bool lock(struct ring *ring, unsigned long *flags)
{
	return !locked || !bpf_res_spin_lock_irqsave(&ring->lock, flags);
}

static __always_inline void unlock(struct ring *ring, unsigned long *flags)
{
	if (locked)
		bpf_res_spin_unlock_irqrestore(&ring->lock, flags);
}

/* Even for a CPU that is idle, all tasks go through the ring. */
s32 BPF_STRUCT_OPS(ring_select_cpu, struct task_struct *p, s32 prev_cpu, u64 wake_flags)
{
	bool is_idle = false;

	return scx_bpf_select_cpu_dfl(p, prev_cpu, wake_flags, &is_idle);
}

void BPF_STRUCT_OPS(ring_enqueue, struct task_struct *p, u64 enq_flags)
{
	u32 zero = 0;
	struct ring *ring = bpf_map_lookup_elem(&rings, &zero);
	unsigned long flags;

	if (!ring || !lock(ring, &flags))
		return;
	ring->pids[ring->tail % PLACES] = p->pid;
	ring->tail++;
	unlock(ring, &flags);
	__sync_fetch_and_add(&put, 1);
}

void BPF_STRUCT_OPS(ring_dispatch, s32 cpu, struct task_struct *prev)
{
	u32 zero = 0;
	struct ring *ring = bpf_map_lookup_elem(&rings, &zero);
	struct task_struct *p;
	unsigned long flags;
	s32 pid = 0;

	if (!ring || !lock(ring, &flags))
		return;
	if (ring->head != ring->tail)
		pid = ring->pids[ring->head++ % PLACES];
	unlock(ring, &flags);
	if (!pid)
		return;
	__sync_fetch_and_add(&taken, 1);
	p = bpf_task_from_pid(pid);
	if (!p)
		return;
	scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL, SCX_SLICE_DFL, 0);
	bpf_task_release(p);
}

SEC(".struct_ops.link")
struct sched_ext_ops ring_ops = {
	.select_cpu = (void *)ring_select_cpu,
	.enqueue = (void *)ring_enqueue,
	.dispatch = (void *)ring_dispatch,
	.timeout_ms = 1000,
	.name = "ring",
};
