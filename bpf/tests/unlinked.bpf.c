// SPDX-License-Identifier: GPL-2.0-only
/*
 * A scheduler that is made to be attached without a link: the kernel keeps one when whoever has
 * attached it is gone. The core does all its work.
 */
#include "scx.bpf.h"

char _license[] SEC("license") = "GPL";

void BPF_STRUCT_OPS(unlinked_exit, struct scx_exit_info *info)
{
	uei_record(info);
}

SEC(".struct_ops")
struct sched_ext_ops unlinked_ops = {
	.exit = (void *)unlinked_exit,
	.name = "unlinked",
};
