/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A reader that holds a task until it is dead, and longer: a part of watch.bpf.c.
 */
#ifndef HOLD_BPF_H
#define HOLD_BPF_H

/* How long it goes on with the dead task. */
#define LINGER_NS 60000000

/* The task that is held, and when it was freed. */
u64 held_tid, held_freed_at;

/*
 * C6: looks a task up and holds it, in one RCU section, until it has been dead for a while: longer
 * than the kernel would take to free it if nobody read.
 */
struct held {
	u64 tid;
	u64 most_ns;
	u64 found;
	/* It died in the section, and the section went on for so long after. */
	u64 dead_for_ns;
	u64 intact;
	u64 freed;
};

SEC("syscall")
int hold(struct held *held)
{
	u64 tid = held->tid, start = bpf_ktime_get_ns(), now = start, dead = 0;
	struct task_struct *p;
	s32 pid;

	held_tid = tid;
	held_freed_at = 0;
	bpf_rcu_read_lock();
	p = scx_tid_to_task(tid);
	if (p) {
		held->found = 1;
		pid = p->pid;
		bpf_repeat(MANY) {
			now = bpf_ktime_get_ns();
			if (!dead && !scx_tid_to_task(tid))
				dead = now;
			if (dead ? now - dead > LINGER_NS : now - start > held->most_ns)
				break;
		}
		held->dead_for_ns = dead ? now - dead : 0;
		held->intact = p->pid == pid && (!scx_tid_is_native() || scx_tid_of_task(p) == tid);
		held->freed = held_freed_at != 0;
	}
	bpf_rcu_read_unlock();
	return 0;
}

#endif
