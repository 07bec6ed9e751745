// SPDX-License-Identifier: GPL-2.0-only
/*
 * A scheduler that does nothing but what tids need, and programs that time lookups. `cargo xtask
 * cost` attaches it with the kernel's own tids, with the portable ones and with none; for all else
 * the kernel's defaults apply, so that nothing but the tids can make a difference.
 */
#include "scx.bpf.h"
#include "scx_tid.bpf.h"

char _license[] SEC("license") = "GPL";

/* Room for tids: a power of two. */
#define ROOM 8192

/* Beyond all that are ever handed out. */
#define NEVER (1ULL << 48)

void bpf_rcu_read_lock(void) __ksym;
void bpf_rcu_read_unlock(void) __ksym;

/* The tids of the tasks that are named "crowd", in random order. */
u64 gathered;
u64 tids[ROOM];

s32 BPF_STRUCT_OPS_SLEEPABLE(cost_init_task, struct task_struct *p,
			     struct scx_init_task_args *args)
{
	return scx_tid_init_task(p);
}

void BPF_STRUCT_OPS(cost_exit_task, struct task_struct *p, struct scx_exit_task_args *args)
{
	scx_tid_exit_task(p);
}

void BPF_STRUCT_OPS(cost_exit, struct scx_exit_info *info)
{
	uei_record(info);
}

struct task_struct___cost {
	char comm[16];
} __attribute__((preserve_access_index));

struct bpf_iter__task {
	struct task_struct *task;
} __attribute__((preserve_access_index));

/* Puts each where another one is, which goes to the end: all orders are equally likely. */
SEC("iter/task")
int gather(struct bpf_iter__task *ctx)
{
	struct task_struct *p = ctx->task;
	const char *comm;
	u64 tid, end = gathered;
	u32 at;

	if (!p || end >= ROOM)
		return 0;
	comm = ((struct task_struct___cost *)p)->comm;
	if (comm[0] != 'c' || comm[1] != 'r' || comm[2] != 'o' || comm[3] != 'w')
		return 0;
	tid = scx_tid_of_task(p);
	if (!tid)
		return 0;
	at = bpf_get_prandom_u32() % (u32)(end + 1);
	/* The compiler knows that this is in bounds, the verifier does not. */
	barrier_var(at);
	tids[end] = tids[at & (ROOM - 1)];
	tids[at & (ROOM - 1)] = tid;
	gathered = end + 1;
	return 0;
}

/* All tids once, in one RCU section. */
struct pass {
	u64 ns;
	/* How many tasks were found. */
	u64 found;
};

enum what { NOTHING, HITS, MISSES };

static __always_inline int go_through(struct pass *pass, enum what what)
{
	u64 start, found = 0;
	int i, all = gathered;

	bpf_rcu_read_lock();
	start = bpf_ktime_get_ns();
	bpf_for(i, 0, all) {
		u64 tid = tids[i & (ROOM - 1)];

		if (what == MISSES)
			tid += NEVER;
		if (what == NOTHING)
			found += tid == 0;
		else
			found += scx_tid_to_task(tid) != NULL;
	}
	pass->ns = bpf_ktime_get_ns() - start;
	pass->found = found;
	bpf_rcu_read_unlock();
	return 0;
}

/* What the others do besides their lookups. */
SEC("syscall")
int nothing(struct pass *pass)
{
	return go_through(pass, NOTHING);
}

SEC("syscall")
int hits(struct pass *pass)
{
	return go_through(pass, HITS);
}

SEC("syscall")
int misses(struct pass *pass)
{
	return go_through(pass, MISSES);
}

SEC(".struct_ops.link")
struct sched_ext_ops cost_ops = {
	.init_task = (void *)cost_init_task,
	.exit_task = (void *)cost_exit_task,
	.exit = (void *)cost_exit,
	.name = "cost",
};
