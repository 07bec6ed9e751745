// SPDX-License-Identifier: GPL-2.0-only
/*
 * tree: a scheduler that can be the root of others or one below it, for `scxlab claims` on kernels
 * with sub-schedulers of the cid form (7.2 and newer). It looks tids up where it is told to, with
 * the flag for it or without.
 *
 * A loader sets `ops.flags`, and for a sub-scheduler `ops.sub_cgroup_id`.
 */
#include "scx.bpf.h"
#include "native.bpf.h"

char _license[] SEC("license") = "GPL";

#define COUNT(counter) __sync_fetch_and_add(&(counter), 1)

enum { OTHERS = 16, SLICE_NS = 5000000, QUEUE = 0 };

struct sched_ext_ops___sub {
	u64 sub_cgroup_id;
} __attribute__((preserve_access_index));

struct scx_sub_attach_args {
	struct sched_ext_ops___sub *ops;
} __attribute__((preserve_access_index));

struct scx_sub_detach_args;

struct sched_ext_ops_cid {
	void (*enqueue)(struct task_struct *p, u64 enq_flags);
	void (*dispatch)(s32 cid, struct task_struct *prev);
	s32 (*init_task)(struct task_struct *p, struct scx_init_task_args *args);
	void (*enable)(struct task_struct *p);
	s32 (*sub_attach)(struct scx_sub_attach_args *args);
	void (*sub_detach)(struct scx_sub_detach_args *args);
	s32 (*init)(void);
	void (*exit)(struct scx_exit_info *info);
	u64 flags;
	u32 timeout_ms;
	u64 sub_cgroup_id;
	char name[128];
};

bool scx_bpf_sub_dispatch(u64 cgroup_id) __ksym __weak;

/* From 7.3 on a scheduler below another inserts only where that one lets it. */
struct scx_cmask {
	u32 base;
	u32 nr_cids;
	u32 alloc_words;
	u64 bits[8];
};

const volatile u64 __SCX_CAP_ENQ, __SCX_CAP_ENQ_IMMED;

s32 scx_bpf_sub_grant(u64 cgroup_id, u64 caps, const struct scx_cmask __arena *cmask__arena,
		      struct scx_cmask __arena *denied_out__arena__nullable) __ksym __weak;
u32 scx_bpf_nr_cids(void) __ksym __weak;

/* What the last grant came to. */
s64 granted;

/* Where to look up: the tasks that are enqueued and the others below, or anything in ops.init. */
const volatile bool look_in_enqueue, look_in_init;
/* Whether to insert the others as well. */
const volatile bool insert_others;
/* Tasks of other schedulers. They live as long as this one. */
const volatile u64 other_tids[OTHERS];
const volatile s32 other_pids[OTHERS];

u64 inits, enables, enqueued;
u64 own_found, own_missed, others_found, others_missed, others_inserted;

/* What this scheduler's arena has: a cid-form one must have an arena. */
struct shared {
	/* The cgroup of the one below, and whose turn it is. */
	u64 child;
	u64 turn;
	struct scx_cmask cids;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1 << 10);
	__ulong(map_extra, 1ull << 44);
} arena SEC(".maps");

struct shared shared SEC_ARENA;

static __always_inline void look(struct task_struct *p)
{
	struct task_struct *found = scx_bpf_tid_to_task(tid_of(p));
	u32 i;

	if (found == p)
		COUNT(own_found);
	else
		COUNT(own_missed);
	bpf_for(i, 0, OTHERS) {
		if (!other_tids[i])
			break;
		found = scx_bpf_tid_to_task(other_tids[i]);
		if (!found || found->pid != other_pids[i]) {
			COUNT(others_missed);
			continue;
		}
		COUNT(others_found);
		if (insert_others) {
			COUNT(others_inserted);
			scx_bpf_dsq_insert(found, QUEUE, SLICE_NS, 0);
		}
	}
}

void BPF_STRUCT_OPS(tree_enqueue, struct task_struct *p, u64 enq_flags)
{
	COUNT(enqueued);
	if (look_in_enqueue)
		look(p);
	scx_bpf_dsq_insert(p, QUEUE, SLICE_NS, enq_flags);
}

/* Its own tasks and those of the one below come first in turns. */
void BPF_STRUCT_OPS(tree_dispatch, s32 cid, struct task_struct *prev)
{
	struct shared *here = arena_ptr(&shared);
	u64 child = here->child;

	if (child && (here->turn++ & 1) && scx_bpf_sub_dispatch(child))
		return;
	if (!scx_bpf_dsq_move_to_local(QUEUE) && child)
		scx_bpf_sub_dispatch(child);
}

s32 BPF_STRUCT_OPS(tree_init_task, struct task_struct *p, struct scx_init_task_args *args)
{
	COUNT(inits);
	return 0;
}

void BPF_STRUCT_OPS(tree_enable, struct task_struct *p)
{
	COUNT(enables);
}

s32 BPF_STRUCT_OPS(tree_sub_attach, struct scx_sub_attach_args *args)
{
	struct shared *here = arena_ptr(&shared);
	u32 i, nr_cids;

	here->child = args->ops->sub_cgroup_id;
	if (!bpf_ksym_exists(scx_bpf_sub_grant))
		return 0;
	nr_cids = scx_bpf_nr_cids();
	here->cids.nr_cids = nr_cids;
	here->cids.alloc_words = sizeof(here->cids.bits) / 8;
	bpf_for(i, 0, nr_cids)
		here->cids.bits[i / 64 % 8] |= 1ull << (i % 64);
	granted = scx_bpf_sub_grant(here->child, __SCX_CAP_ENQ | __SCX_CAP_ENQ_IMMED, &shared.cids,
				    NULL);
	return 0;
}

void BPF_STRUCT_OPS(tree_sub_detach, struct scx_sub_detach_args *args)
{
	((struct shared *)arena_ptr(&shared))->child = 0;
}

s32 BPF_STRUCT_OPS_SLEEPABLE(tree_init)
{
	if (look_in_init) {
		bpf_rcu_read_lock();
		scx_bpf_tid_to_task(1);
		bpf_rcu_read_unlock();
	}
	return scx_bpf_create_dsq(QUEUE, -1);
}

void BPF_STRUCT_OPS(tree_exit, struct scx_exit_info *ei)
{
	uei_record(ei);
}

SEC(".struct_ops.link")
struct sched_ext_ops_cid tree_ops = {
	.enqueue = (void *)tree_enqueue,
	.dispatch = (void *)tree_dispatch,
	.init_task = (void *)tree_init_task,
	.enable = (void *)tree_enable,
	.sub_attach = (void *)tree_sub_attach,
	.sub_detach = (void *)tree_sub_detach,
	.init = (void *)tree_init,
	.exit = (void *)tree_exit,
	.timeout_ms = 10000,
	.name = "tree",
};
