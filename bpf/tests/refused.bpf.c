// SPDX-License-Identifier: GPL-2.0-only
/* A scheduler that no verifier lets in: it reads where a pointer may be NULL. */
#include "scx.bpf.h"

char _license[] SEC("license") = "GPL";

void BPF_STRUCT_OPS(refused_enqueue, struct task_struct *p, u64 enq_flags)
{
	struct task_struct *other = bpf_task_from_pid(1);

	scx_bpf_dsq_insert(p, SCX_DSQ_GLOBAL, other->pid, enq_flags);
	bpf_task_release(other);
}

SEC(".struct_ops.link")
struct sched_ext_ops refused_ops = {
	.enqueue = (void *)refused_enqueue,
	.name = "refused",
};
