/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The portable tid: a number for each task that outlives its pid, and the way back from it to the
 * task, also while that task is dying. From Linux 7.2 on the kernel has both, p->scx.tid and
 * scx_bpf_tid_to_task(); here they are for every kernel, behind the same calls:
 *
 *	scx_tid_init_task(p)	in ops.init_task; 0 or an error to return
 *	scx_tid_exit_task(p)	in ops.exit_task
 *	scx_tid_of_task(p)	the tid, 0 if the task has none
 *	scx_tid_to_task(tid)	the task, valid until the end of the RCU section, or NULL
 *
 * and the program scx_tid_last_switch, which has to be attached before the scheduler is. How to
 * adopt it, what it promises and where it differs from the kernel's: README.md beside this file.
 *
 * Include it after scx.bpf.h, or after vmlinux.h and libbpf's headers.
 */
#ifndef SCX_TID_BPF_H
#define SCX_TID_BPF_H

/* The most tasks that the table holds. Room is taken when it is used, but for 16 bytes each. */
#ifndef SCX_TID_MAX_TASKS
#define SCX_TID_MAX_TASKS 262144
#endif

/* As many ids as a CPU takes at a time: SCX_TID_CHUNK in Linux 7.2. */
#define SCX_TID_CHUNK_IDS 1024

/* Of include/linux/sched.h: a macro, so that no BTF has it. The same since 4.14. */
#define SCX_TID_TASK_DEAD 0x80

/*
 * The kernel's flag, which a loader fills in and also sets in the flags of the ops. 0: the kernel
 * has no tids, or the loader does not know of them, and we do it ourselves.
 */
const volatile u64 __SCX_OPS_TID_TO_TASK;
#define scx_tid_is_native() (__SCX_OPS_TID_TO_TASK != 0)

struct sched_ext_entity___tid {
	u64 tid;
} __attribute__((preserve_access_index));

struct task_struct___tid {
	struct sched_ext_entity___tid scx;
} __attribute__((preserve_access_index));

struct task_struct *scx_bpf_tid_to_task___native(u64 tid) __ksym __weak;

/* Once more, for those who come with a vmlinux.h. */
struct task_struct *bpf_task_acquire(struct task_struct *p) __ksym;
void bpf_task_release(struct task_struct *p) __ksym;
void bpf_preempt_disable(void) __ksym;
void bpf_preempt_enable(void) __ksym;
#define SCX_TID_ENOMEM 12

/* The table. It holds a reference to each of its tasks (on its rcu_users). */
struct scx_tid_entry {
	u64 tid;
	struct task_struct __kptr *task;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SCX_TID_MAX_TASKS);
	__type(key, u64);
	__type(value, struct scx_tid_entry);
} scx_tid_table SEC(".maps");

/*
 * Who removes a task's entry. There is only ever one: whoever takes the state from LISTED to GONE,
 * or, when that was tried too early, the insert itself. So nobody touches an entry that another
 * has given back, which BPF would at once use for another task.
 */
enum scx_tid_state {
	SCX_TID_INSERTING = 1,
	SCX_TID_LISTED,
	SCX_TID_GONE,
};

struct scx_tid_id {
	u64 tid;
	u64 state;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct scx_tid_id);
} scx_tid_ids SEC(".maps");

/* The ids that a CPU still has. */
struct scx_tid_chunk {
	u64 next;
	u64 end;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct scx_tid_chunk);
} scx_tid_chunks SEC(".maps");

/* Where the next chunk begins. 0 is nobody's id. */
u64 scx_tid_cursor SEC(".data.scx_tid") = 1;

/*
 * For reports, if SCX_TID_COUNTERS is defined; all 0 where the kernel has the tids. Not by default:
 * every fork and exit would touch a cache line that all CPUs share.
 */
#ifdef SCX_TID_COUNTERS
u64 scx_tid_issued;
u64 scx_tid_inserted;
u64 scx_tid_removed;
#define SCX_TID_COUNT(what) __sync_fetch_and_add(&scx_tid_##what, 1)
#else
#define SCX_TID_COUNT(what)
#endif

/* scx_alloc_tid(). ops.init_task can be preempted by another one on the same CPU. */
static __always_inline u64 scx_tid_alloc(void)
{
	struct scx_tid_chunk *chunk;
	u64 tid = 0;
	u32 zero = 0;

	bpf_preempt_disable();
	chunk = bpf_map_lookup_elem(&scx_tid_chunks, &zero);
	if (chunk) {
		if (chunk->next == chunk->end) {
			chunk->next = __sync_fetch_and_add(&scx_tid_cursor, SCX_TID_CHUNK_IDS);
			chunk->end = chunk->next + SCX_TID_CHUNK_IDS;
		}
		tid = chunk->next++;
	}
	bpf_preempt_enable();
	SCX_TID_COUNT(issued);
	return tid;
}

/* The reference goes at once: an entry's memory may stay for a while. */
static __always_inline void scx_tid_remove(u64 tid)
{
	struct scx_tid_entry *entry = bpf_map_lookup_elem(&scx_tid_table, &tid);
	struct task_struct *task;

	if (!entry)
		return;
	task = bpf_kptr_xchg(&entry->task, NULL);
	if (task)
		bpf_task_release(task);
	bpf_map_delete_elem(&scx_tid_table, &tid);
	SCX_TID_COUNT(removed);
}

static __always_inline void scx_tid_let_go(struct task_struct *p)
{
	struct scx_tid_id *id = bpf_task_storage_get(&scx_tid_ids, p, NULL, 0);

	if (id && __sync_lock_test_and_set(&id->state, SCX_TID_GONE) == SCX_TID_LISTED)
		scx_tid_remove(id->tid);
}

static __always_inline s32 scx_tid_insert(struct task_struct *p, u64 tid)
{
	struct scx_tid_entry blank = { .tid = tid }, *entry;
	struct task_struct *task;
	long err;

	err = bpf_map_update_elem(&scx_tid_table, &tid, &blank, BPF_NOEXIST);
	if (err)
		return err;
	SCX_TID_COUNT(inserted);
	entry = bpf_map_lookup_elem(&scx_tid_table, &tid);
	task = bpf_task_acquire(p);
	if (entry && task)
		task = bpf_kptr_xchg(&entry->task, task);
	if (task)
		bpf_task_release(task);
	return 0;
}

/* Call it in ops.init_task, before whatever needs the tid. */
static __always_inline s32 scx_tid_init_task(struct task_struct *p)
{
	struct scx_tid_id *id;
	s32 err;

	if (scx_tid_is_native())
		return 0;
	id = bpf_task_storage_get(&scx_tid_ids, p, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!id)
		return -SCX_TID_ENOMEM;
	if (!id->tid)
		id->tid = scx_tid_alloc();
	/*
	 * Enabling comes to tasks that are dying, and before 6.18 also to ones past their last
	 * switch. A full barrier stands between this and the look at the task's state, as it does
	 * in __schedule() between that state and scx_tid_last_switch: one of the two sees the other.
	 */
	__sync_lock_test_and_set(&id->state, SCX_TID_INSERTING);
	if (p->__state == SCX_TID_TASK_DEAD) {
		id->state = SCX_TID_GONE;
		return 0;
	}
	err = scx_tid_insert(p, id->tid);
	if (err) {
		id->state = SCX_TID_GONE;
		return err;
	}
	if (__sync_val_compare_and_swap(&id->state, SCX_TID_INSERTING, SCX_TID_LISTED) !=
	    SCX_TID_INSERTING)
		scx_tid_remove(id->tid);
	return 0;
}

/*
 * Call it in ops.exit_task: for a fork that failed, and when the scheduler is detached. A task
 * that dies has been let go by then, or is now.
 */
static __always_inline void scx_tid_exit_task(struct task_struct *p)
{
	if (!scx_tid_is_native())
		scx_tid_let_go(p);
}

static __always_inline u64 scx_tid_of_task(struct task_struct *p)
{
	struct scx_tid_id *id;

	if (scx_tid_is_native())
		return ((struct task_struct___tid *)p)->scx.tid;
	id = bpf_task_storage_get(&scx_tid_ids, p, NULL, 0);
	return id ? id->tid : 0;
}

/* A load does not overtake an earlier one on x86. Elsewhere any atomic operation sees to it. */
static __always_inline void scx_tid_read_barrier(void)
{
#ifdef __TARGET_ARCH_x86
	barrier();
#else
	u64 fence = 0;

	__sync_fetch_and_add(&fence, 1);
#endif
}

/* In a program that may sleep: between bpf_rcu_read_lock() and the last use of the task. */
static __always_inline struct task_struct *scx_tid_to_task(u64 tid)
{
	struct scx_tid_entry *entry;
	struct task_struct *task;

	if (scx_tid_is_native())
		return scx_bpf_tid_to_task___native(tid);
	entry = bpf_map_lookup_elem(&scx_tid_table, &tid);
	if (!entry)
		return NULL;
	task = *(struct task_struct *volatile *)&entry->task;
	/*
	 * BPF may give the memory of an entry that was deleted just now to another tid. The tid is
	 * written before the task and read after it: if it is still ours, so is the task.
	 */
	scx_tid_read_barrier();
	if (*(volatile u64 *)&entry->tid != tid)
		return NULL;
	return task;
}

/*
 * The last switch of a task of any class, on any kernel. Not left to ops.exit_task: before 6.18 it
 * runs when the task is freed, which the reference in the table would prevent, and up to 7.1 it
 * never runs for a task that dies while enabling is in its ops.init_task.
 *
 * The scheduler has seen the last of the task by now: in __schedule() the tracepoint comes after
 * the dequeue and the pick, with the runqueue locked.
 */
SEC("tp_btf/sched_switch")
int BPF_PROG(scx_tid_last_switch, bool preempt, struct task_struct *prev, struct task_struct *next,
	     unsigned int prev_state)
{
	if (!scx_tid_is_native() && prev_state == SCX_TID_TASK_DEAD)
		scx_tid_let_go(prev);
	return 0;
}

#endif
