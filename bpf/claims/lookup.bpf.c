// SPDX-License-Identifier: GPL-2.0-only
/*
 * lookup: programs that belong to no scheduler and call scx_bpf_tid_to_task(), on kernels that have
 * it, and what else `scxlab claims` has to know there from outside of a scheduler.
 */
#include "scx.bpf.h"
#include "native.bpf.h"

char _license[] SEC("license") = "GPL";

#define COUNT(counter) __sync_fetch_and_add(&(counter), 1)

struct rhashtable {
	struct {
		int counter;
	} nelems;
} __attribute__((preserve_access_index));

/* The kernel's table, and where its next chunk of ids begins: there even without a scheduler. */
extern const void scx_tid_hash __ksym __weak;
extern const void scx_tid_cursor __ksym __weak;

/* Whether `forked` looks its task up. */
const volatile bool looking;

u64 forks, without_tid, looked, found;
u64 inserts;

SEC("tp_btf/sched_process_fork")
int BPF_PROG(forked, struct task_struct *parent, struct task_struct *child)
{
	u64 tid = tid_of(child);

	COUNT(forks);
	if (!tid)
		COUNT(without_tid);
	if (!looking)
		return 0;
	COUNT(looked);
	if (scx_bpf_tid_to_task(tid))
		COUNT(found);
	return 0;
}

/* Every insert into the table, also those of enabling. */
SEC("fentry/scx_tid_hash_insert")
int BPF_PROG(inserted)
{
	COUNT(inserts);
	return 0;
}

#define LOOK_UP(tid) scx_bpf_tid_to_task(tid)
#include "ask.bpf.h"

/* How many tasks are in the table, and the cursor. */
struct peek {
	u64 tasks;
	u64 cursor;
};

SEC("syscall")
int peek(struct peek *peek)
{
	const char *table = (const char *)&scx_tid_hash;
	int tasks = 0;
	u64 cursor = 0;

	if (!table || !&scx_tid_cursor)
		return -EINVAL;
	if (bpf_probe_read_kernel(&tasks, sizeof(tasks),
				  table + bpf_core_field_offset(struct rhashtable, nelems)) ||
	    bpf_probe_read_kernel(&cursor, sizeof(cursor), &scx_tid_cursor))
		return -EINVAL;
	peek->tasks = tasks;
	peek->cursor = cursor;
	return 0;
}

struct bpf_iter_meta {
	struct seq_file *seq;
} __attribute__((preserve_access_index));

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} __attribute__((preserve_access_index));

/* A line for every task that lives: pid and tid. */
SEC("iter/task")
int list(struct bpf_iter__task *ctx)
{
	struct task_struct *p = ctx->task;

	if (!p || ((struct task_struct___tid *)p)->exit_state)
		return 0;
	BPF_SEQ_PRINTF(ctx->meta->seq, "%d %llu\n", p->pid, tid_of(p));
	return 0;
}
