// SPDX-License-Identifier: GPL-2.0-only
/*
 * A scheduler that hangs the machine: its loops are longer than anybody waits, and the kernel calls it
 * with the runqueue locked and interrupts off. The verifier sees three loops that end.
 */
#include "scx.bpf.h"

char _license[] SEC("license") = "GPL";

/* As many iterations as bpf_loop() takes. */
enum { MOST = 1 << 23 };

u64 steps;

static int step(u32 i, void *ctx)
{
	__sync_fetch_and_add(&steps, 1);
	return 0;
}

static int middle(u32 i, void *ctx)
{
	bpf_loop(MOST, step, NULL, 0);
	return 0;
}

static int outer(u32 i, void *ctx)
{
	bpf_loop(MOST, middle, NULL, 0);
	return 0;
}

void BPF_STRUCT_OPS(stuck_dispatch, s32 cpu, struct task_struct *prev)
{
	bpf_loop(MOST, outer, NULL, 0);
}

SEC(".struct_ops.link")
struct sched_ext_ops stuck_ops = {
	.dispatch = (void *)stuck_dispatch,
	.timeout_ms = 5000,
	.name = "stuck",
};
