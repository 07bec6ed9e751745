/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Why a scheduler was detached, kept for user space: the globals `uei` and `uei_dump`.
 *
 * A scheduler calls uei_record() in ops.exit. A loader polls `uei.kind`: it is the kernel's
 * `enum scx_exit_kind`, 0 as long as the scheduler runs, and is written last.
 */
#ifndef SCX_EXIT_BPF_H
#define SCX_EXIT_BPF_H

struct user_exit_info {
	int kind;
	s64 exit_code;
	char reason[128];
	char msg[1024];
};

struct user_exit_info uei;
/* The debug dump, as long as the kernel makes one by default. */
char uei_dump[32768];

static __always_inline void uei_record(struct scx_exit_info *ei)
{
	bpf_probe_read_kernel_str(uei.reason, sizeof(uei.reason), ei->reason);
	bpf_probe_read_kernel_str(uei.msg, sizeof(uei.msg), ei->msg);
	bpf_probe_read_kernel_str(uei_dump, sizeof(uei_dump), ei->dump);
	uei.exit_code = ei->exit_code;
	/* Full barrier: whoever sees the kind sees the rest. */
	__sync_lock_test_and_set(&uei.kind, ei->kind);
}

#endif
