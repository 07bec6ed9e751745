// SPDX-License-Identifier: GPL-2.0-only
/* A scheduler that runs nobody: it keeps no task that it is given. The watchdog has to eject it. */
#include "scx.bpf.h"

char _license[] SEC("license") = "GPL";

void BPF_STRUCT_OPS(idle_enqueue, struct task_struct *p, u64 enq_flags)
{
}

void BPF_STRUCT_OPS(idle_exit, struct scx_exit_info *info)
{
	uei_record(info);
}

SEC(".struct_ops.link")
struct sched_ext_ops idle_ops = {
	.enqueue = (void *)idle_enqueue,
	.exit = (void *)idle_exit,
	.timeout_ms = 5000,
	.name = "idle",
};
