/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A lookup on demand, by a syscall program. Whoever includes this has said before with which lookup:
 * LOOK_UP(tid).
 */
#ifndef ASK_BPF_H
#define ASK_BPF_H

struct question {
	u64 tid;
	u64 found;
};

SEC("syscall")
int ask(struct question *question)
{
	bpf_rcu_read_lock();
	question->found = LOOK_UP(question->tid) != NULL;
	bpf_rcu_read_unlock();
	return 0;
}

#endif
