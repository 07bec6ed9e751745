// SPDX-License-Identifier: GPL-2.0-only
/* A scheduler that does things as it ends: it counts, prints, and may access what is not there. */
#include "scx.bpf.h"

char _license[] SEC("license") = "GPL";

const volatile bool fault;
u64 ended;

void BPF_STRUCT_OPS(late_exit, struct scx_exit_info *ei)
{
	ended++;
	bpf_printk("ended with kind %d", ei->kind);
	/* No verifier lets this pass where it is not read-only and false. */
	if (fault)
		*(volatile u64 *)0x1234567 = 1;
}

SEC(".struct_ops.link")
struct sched_ext_ops late_ops = {
	.exit = (void *)late_exit,
	.name = "late",
};
