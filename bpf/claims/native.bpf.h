/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's own tid, for programs that are for nothing else: from Linux 7.2 on.
 */
#ifndef NATIVE_BPF_H
#define NATIVE_BPF_H

struct sched_ext_entity___tid {
	u64 tid;
} __attribute__((preserve_access_index));

struct task_struct___tid {
	struct sched_ext_entity___tid scx;
	int exit_state;
} __attribute__((preserve_access_index));

struct task_struct *scx_bpf_tid_to_task(u64 tid) __ksym __weak;

static __always_inline u64 tid_of(struct task_struct *p)
{
	return ((struct task_struct___tid *)p)->scx.tid;
}

#endif
