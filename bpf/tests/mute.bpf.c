// SPDX-License-Identifier: GPL-2.0-only
/* A scheduler that does not record why it ends, which it does before it begins. */
#include "scx.bpf.h"

char _license[] SEC("license") = "GPL";

s32 BPF_STRUCT_OPS_SLEEPABLE(mute_init)
{
	scx_bpf_error("out of %u words", 7);
	return 0;
}

SEC(".struct_ops.link")
struct sched_ext_ops mute_ops = {
	.init = (void *)mute_init,
	.name = "mute",
};
