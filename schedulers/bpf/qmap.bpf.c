// SPDX-License-Identifier: GPL-2.0-only
/*
 * qmap: five FIFOs, chosen by weight, drained round-robin with more from the higher ones.
 *
 * Its FIFOs are linked through the contexts of its tasks, which are in an arena and so cannot hold
 * a pointer to a task. How it finds the task of a context that it takes off a FIFO is the point:
 * by the tid, or by the pid that the task had when init_task saw it. The same scheduler in Rust,
 * for the engine, is schedulers/src/qmap.rs: same options, counters and dump.
 *
 * For a loader, before load:
 * - an option is a `const volatile` of its name. One that is an enum takes `NAME=VALUE` as its
 *   enumerator NAME_VALUE; a bool is on or off.
 * - `__SCX_*` in .rodata: see SCX_ENUMS in scx.bpf.h.
 * - the flags of qmap_ops: SCX_OPS_ENQ_EXITING with exiting=on; SCX_OPS_TID_TO_TASK with key=tid,
 *   if the kernel has it.
 * - scx_tid_last_switch is not loaded if the kernel has that flag; otherwise it is attached before
 *   qmap_ops.
 * After: the counters are the u64 globals in .bss; `uei` is in scx_exit.bpf.h.
 */
#define SCX_TID_COUNTERS

#include "scx.bpf.h"
#include "scx_tid.bpf.h"

char _license[] SEC("license") = "GPL";

enum key { key_tid, key_pid };

const volatile enum key key = key_tid;
const volatile bool exiting = true;
const volatile u64 slice_us = 20000;
/* At most 32, SCX_DSP_DFL_MAX_BATCH: so there is always a slot in the dispatch buffer. */
const volatile u32 batch = 1;
const volatile u32 max_tasks = 262144;

u64 enqueued;
u64 dispatched;
u64 reenqueued;
u64 dequeued;
u64 direct_dispatched_from_enqueue;
u64 lookups_failed;

#define COUNT(counter) __sync_fetch_and_add(&(counter), 1)

enum {
	/*
	 * All tasks that were taken off a FIFO and wait for a CPU that may run them. Where the
	 * kernel's build cannot create it, SCX_DSQ_GLOBAL does the same.
	 */
	SHARED_DSQ = 0,
	FIFOS = 5,
	MAX_CPUS = 1024,
	/* For the verifier, to which a loop has to end. */
	MANY = 1 << 22,
	ALLOC_TRIES = 10000,
	ALLOC_NS = 100000000,
};

struct fifo;

/* A task's context. */
struct task_ctx {
	/* Of the FIFO, or of the free list. */
	struct task_ctx __arena *next;
	struct task_ctx __arena *prev;
	/* The one it is on, if any. */
	struct fifo __arena *fifo;
	u64 tid;
	/* With key=tid, for the dump only. */
	s32 pid;
	bool force_local;
};

struct fifo {
	struct task_ctx __arena *head;
	struct task_ctx __arena *tail;
	u32 index;
};

struct cpu_ctx {
	/* The FIFO at hand, and how many more to take from it. */
	u32 dsp_idx;
	u32 dsp_cnt;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	/* In pages: room for the most that max_tasks may be. */
	__uint(max_entries, 1 << 16);
	/* Where user space has it. */
	__ulong(map_extra, 1ull << 44);
} arena SEC(".maps");

#define PAGE_BYTES 4096

struct fifo fifos[FIFOS] SEC_ARENA;
struct cpu_ctx cpus[MAX_CPUS] SEC_ARENA;
/* Not a bitmap: an arena has no atomic and with a result (arch/x86 in 7.2). */
u32 idle_cpus[MAX_CPUS] SEC_ARENA;

/* All contexts: those that are free again, and, from `nr_used` on, those that were never used. */
struct slab {
	struct task_ctx __arena *ctxs;
	struct task_ctx __arena *free;
	u32 nr_used;
};

struct slab slab SEC_ARENA;

struct locked {
	struct bpf_res_spin_lock lock;
};

/* One lock for each FIFO, and one for the slab. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FIFOS + 1);
	__type(key, u32);
	__type(value, struct locked);
} locks SEC(".maps");

#define SLAB_LOCK FIFOS

struct task_slot {
	struct task_ctx __arena *ctx;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_slot);
} task_slots SEC(".maps");

/*
 * NULL if the lock cannot be had, which ejects the scheduler. With interrupts off: before 6.18
 * exit_task also runs in one. Tried twice: it gives up after a quarter of a second, for which
 * the holder's CPU may not run if it is a virtual one.
 */
static __always_inline struct locked *lock(u32 index, unsigned long *flags)
{
	struct locked *locked = bpf_map_lookup_elem(&locks, &index);

	if (!locked)
		return NULL;
	if (bpf_res_spin_lock_irqsave(&locked->lock, flags) &&
	    bpf_res_spin_lock_irqsave(&locked->lock, flags)) {
		scx_bpf_error("lock %u cannot be taken", index);
		return NULL;
	}
	return locked;
}

static __always_inline void unlock(struct locked *locked, unsigned long *flags)
{
	bpf_res_spin_unlock_irqrestore(&locked->lock, flags);
}

/* A context, a FIFO, a CPU and the slab, to be used. */
static __always_inline struct task_ctx *ctx_at(struct task_ctx __arena *tctx)
{
	return arena_ptr(tctx);
}

static __always_inline struct fifo *fifo_at(struct fifo __arena *fifo)
{
	return arena_ptr(fifo);
}

static __always_inline struct cpu_ctx *cpu_at(u32 cpu)
{
	return arena_ptr(&cpus[cpu % MAX_CPUS]);
}

static __always_inline u32 *idle_at(u32 cpu)
{
	return arena_ptr(&idle_cpus[cpu % MAX_CPUS]);
}

static __always_inline struct slab *slab_at(void)
{
	return arena_ptr(&slab);
}

static __always_inline struct task_ctx __arena *ctx_of(struct task_struct *p)
{
	struct task_slot *slot;

	USES_ARENA(arena);
	slot = bpf_task_storage_get(&task_slots, p, NULL, 0);
	return slot ? slot->ctx : NULL;
}

static __always_inline void unlink_ctx(struct fifo __arena *fifo, struct task_ctx __arena *tctx)
{
	struct task_ctx __arena *next = ctx_at(tctx)->next, *prev = ctx_at(tctx)->prev;

	if (prev)
		ctx_at(prev)->next = next;
	else
		fifo_at(fifo)->head = next;
	if (next)
		ctx_at(next)->prev = prev;
	else
		fifo_at(fifo)->tail = prev;
	ctx_at(tctx)->fifo = NULL;
}

static __always_inline void push(u32 index, struct task_ctx __arena *tctx)
{
	struct fifo __arena *fifo = &fifos[index];
	unsigned long flags;
	struct locked *locked = lock(index, &flags);
	struct task_ctx __arena *tail;

	if (!locked)
		return;
	tail = fifo_at(fifo)->tail;
	ctx_at(tctx)->fifo = fifo;
	ctx_at(tctx)->next = NULL;
	ctx_at(tctx)->prev = tail;
	if (tail)
		ctx_at(tail)->next = tctx;
	else
		fifo_at(fifo)->head = tctx;
	fifo_at(fifo)->tail = tctx;
	unlock(locked, &flags);
}

static __always_inline struct task_ctx __arena *pop(u32 index)
{
	struct fifo __arena *fifo = &fifos[index];
	unsigned long flags;
	struct locked *locked = lock(index, &flags);
	struct task_ctx __arena *tctx;

	if (!locked)
		return NULL;
	tctx = fifo_at(fifo)->head;
	if (tctx)
		unlink_ctx(fifo, tctx);
	unlock(locked, &flags);
	return tctx;
}

static __always_inline void remove(struct task_ctx __arena *tctx)
{
	struct fifo __arena *fifo = ctx_at(tctx)->fifo;
	struct locked *locked;
	unsigned long flags;

	if (!fifo)
		return;
	locked = lock(fifo_at(fifo)->index, &flags);
	if (!locked)
		return;
	/* A pop may have been faster. */
	if (ctx_at(tctx)->fifo == fifo)
		unlink_ctx(fifo, tctx);
	unlock(locked, &flags);
}

/* Coarsely: heavier tasks have the higher FIFO. */
static __always_inline u32 weight_to_fifo(u32 weight)
{
	if (weight <= 25)
		return 0;
	if (weight <= 50)
		return 1;
	if (weight < 200)
		return 2;
	if (weight < 400)
		return 3;
	return 4;
}

static __always_inline u64 slice_ns(void)
{
	return slice_us * 1000;
}

static __always_inline bool claim_idle(u32 cpu)
{
	u32 *idle = idle_at(cpu);

	return *idle && __sync_lock_test_and_set(idle, 0);
}

/* An idle CPU that the task may use, claimed: the previous one, or the next after it; or -1. */
static __always_inline s32 pick_idle_cpu(struct task_struct *p, s32 prev)
{
	u32 nr_cpus = scx_bpf_nr_cpu_ids();
	u32 i;

	if (p->nr_cpus_allowed == 1 || claim_idle(prev))
		return prev;
	bpf_for(i, 1, nr_cpus) {
		u32 cpu = prev + i < nr_cpus ? prev + i : prev + i - nr_cpus;

		if (bpf_cpumask_test_cpu(cpu, p->cpus_ptr) && claim_idle(cpu))
			return cpu;
	}
	return -1;
}

s32 BPF_STRUCT_OPS(qmap_select_cpu, struct task_struct *p, s32 prev_cpu, u64 wake_flags)
{
	struct task_ctx __arena *tctx = ctx_of(p);
	s32 cpu;

	if (!tctx)
		return prev_cpu;
	cpu = pick_idle_cpu(p, prev_cpu);
	if (cpu < 0)
		return prev_cpu;
	ctx_at(tctx)->force_local = true;
	return cpu;
}

void BPF_STRUCT_OPS(qmap_enqueue, struct task_struct *p, u64 enq_flags)
{
	struct task_ctx __arena *tctx = ctx_of(p);
	s32 cpu;

	if (!tctx)
		return;
	if (enq_flags & SCX_ENQ_REENQ)
		COUNT(reenqueued);
	if (ctx_at(tctx)->force_local) {
		ctx_at(tctx)->force_local = false;
		scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL, slice_ns(), enq_flags);
		return;
	}
	/* select_cpu() was not asked: look for an idle CPU here. */
	if (!(enq_flags & SCX_ENQ_CPU_SELECTED)) {
		cpu = pick_idle_cpu(p, scx_bpf_task_cpu(p));
		if (cpu >= 0) {
			COUNT(direct_dispatched_from_enqueue);
			scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL_ON | cpu, slice_ns(), enq_flags);
			return;
		}
	}
	push(weight_to_fifo(p->scx.weight), tctx);
	COUNT(enqueued);
}

void BPF_STRUCT_OPS(qmap_dequeue, struct task_struct *p, u64 deq_flags)
{
	struct task_ctx __arena *tctx = ctx_of(p);

	COUNT(dequeued);
	if (tctx)
		remove(tctx);
}

/* The kernel itself looks into the global queue, before it asks for a dispatch and after. */
static __always_inline bool move_shared_to_local(void)
{
	return scx_can_create_dsq() && scx_bpf_dsq_move_to_local(SHARED_DSQ);
}

static __always_inline void dispatch_task(struct task_struct *p, s32 cpu)
{
	COUNT(dispatched);
	scx_bpf_dsq_insert(p, scx_can_create_dsq() ? SHARED_DSQ : SCX_DSQ_GLOBAL, slice_ns(), 0);
	/* A task that may not run here would be stranded: its own CPU is to come for it. */
	if (!bpf_cpumask_test_cpu(cpu, p->cpus_ptr))
		scx_bpf_kick_cpu(scx_bpf_task_cpu(p), 0);
}

/* Whether there still is a task to the context. */
static __always_inline bool dispatch_ctx(struct task_ctx __arena *tctx, s32 cpu)
{
	struct task_struct *p;

	if (key == key_pid) {
		p = bpf_task_from_pid(ctx_at(tctx)->pid);
		if (p) {
			dispatch_task(p, cpu);
			bpf_task_release(p);
			return true;
		}
	} else {
		p = scx_tid_to_task(ctx_at(tctx)->tid);
		if (p) {
			dispatch_task(p, cpu);
			return true;
		}
	}
	COUNT(lookups_failed);
	return false;
}

void BPF_STRUCT_OPS(qmap_dispatch, s32 cpu, struct task_struct *prev)
{
	struct cpu_ctx *cpuc = cpu_at(cpu);
	u32 i, left = batch;
	struct task_ctx __arena *tctx;

	if (move_shared_to_local())
		return;
	bpf_for(i, 0, FIFOS) {
		if (!cpuc->dsp_cnt) {
			cpuc->dsp_idx = (cpuc->dsp_idx + 1) % FIFOS;
			cpuc->dsp_cnt = 1 << cpuc->dsp_idx;
		}
		bpf_repeat(MANY) {
			if (!cpuc->dsp_cnt)
				break;
			tctx = pop(cpuc->dsp_idx);
			if (!tctx)
				break;
			if (!dispatch_ctx(tctx, cpu))
				continue;
			cpuc->dsp_cnt--;
			if (--left == 0) {
				move_shared_to_local();
				return;
			}
		}
		cpuc->dsp_cnt = 0;
	}
}

void BPF_STRUCT_OPS(qmap_update_idle, s32 cpu, bool idle)
{
	*idle_at(cpu) = idle;
}

/* NULL if all are in use. */
static __always_inline struct task_ctx __arena *alloc_ctx(void)
{
	unsigned long flags;
	struct locked *locked = lock(SLAB_LOCK, &flags);
	struct slab *slab = slab_at();
	struct task_ctx __arena *tctx = NULL;

	USES_ARENA(arena);
	if (!locked)
		return NULL;
	if (slab->free) {
		tctx = slab->free;
		slab->free = ctx_at(tctx)->next;
	} else if (slab->nr_used < max_tasks) {
		tctx = &slab->ctxs[slab->nr_used];
		slab->nr_used++;
	}
	unlock(locked, &flags);
	return tctx;
}

static __always_inline void free_ctx(struct task_ctx __arena *tctx)
{
	unsigned long flags;
	struct locked *locked = lock(SLAB_LOCK, &flags);
	struct slab *slab = slab_at();

	if (!locked)
		return;
	ctx_at(tctx)->next = slab->free;
	slab->free = tctx;
	unlock(locked, &flags);
}

s32 BPF_STRUCT_OPS_SLEEPABLE(qmap_init_task, struct task_struct *p, struct scx_init_task_args *args)
{
	struct task_slot *slot;
	struct task_ctx __arena *tctx;
	s32 err;

	err = scx_tid_init_task(p);
	if (err)
		return err;
	slot = bpf_task_storage_get(&task_slots, p, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	tctx = slot ? alloc_ctx() : NULL;
	if (!tctx) {
		scx_tid_exit_task(p);
		scx_bpf_error("task_ctx slab exhausted (max_tasks=%u)", max_tasks);
		return -ENOMEM;
	}
	*ctx_at(tctx) = (struct task_ctx){ .tid = scx_tid_of_task(p), .pid = p->pid };
	slot->ctx = tctx;
	return 0;
}

void BPF_STRUCT_OPS(qmap_exit_task, struct task_struct *p, struct scx_exit_task_args *args)
{
	struct task_slot *slot;
	struct task_ctx __arena *tctx;

	USES_ARENA(arena);
	scx_tid_exit_task(p);
	slot = bpf_task_storage_get(&task_slots, p, NULL, 0);
	if (!slot || !slot->ctx)
		return;
	tctx = slot->ctx;
	slot->ctx = NULL;
	remove(tctx);
	free_ctx(tctx);
}

/* Walks without locks, as scx_bpf_dump() may not be called under one: a snapshot at best. */
void BPF_STRUCT_OPS(qmap_dump, struct scx_dump_ctx *dctx)
{
	struct task_ctx __arena *tctx;
	u32 i;

	USES_ARENA(arena);
	bpf_for(i, 0, FIFOS) {
		scx_bpf_dump("QMAP FIFO[%u]:", i);
		tctx = fifo_at(&fifos[i])->head;
		bpf_repeat(4096) {
			if (!tctx)
				break;
			scx_bpf_dump(" %d:%llu", ctx_at(tctx)->pid, ctx_at(tctx)->tid);
			tctx = ctx_at(tctx)->next;
		}
		scx_bpf_dump("\n");
	}
}

void BPF_STRUCT_OPS(qmap_dump_cpu, struct scx_dump_ctx *dctx, s32 cpu, bool idle)
{
	struct cpu_ctx *cpuc = cpu_at(cpu);

	if (!idle)
		scx_bpf_dump("QMAP: dsp_idx=%u dsp_cnt=%u", cpuc->dsp_idx, cpuc->dsp_cnt);
}

void BPF_STRUCT_OPS(qmap_dump_task, struct scx_dump_ctx *dctx, struct task_struct *p)
{
	struct task_ctx __arena *tctx = ctx_of(p);

	if (tctx)
		scx_bpf_dump("QMAP: force_local=%d", ctx_at(tctx)->force_local);
}

/*
 * Linux takes the pages of an arena under a spin lock, and so waits for no other: where another CPU
 * frees memory at that moment it gives none (7.1 and 7.2: arena_alloc_pages() in kernel/bpf/arena.c,
 * alloc_pages_nolock() in mm/page_alloc.c). A moment later there may be some.
 */
static __always_inline void alloc_slab(struct slab *slab)
{
	u32 pages = ((u64)max_tasks * sizeof(struct task_ctx) + PAGE_BYTES - 1) / PAGE_BYTES;
	u64 start = bpf_ktime_get_ns();

	/* It stays when the scheduler is detached, and is there when it is attached again. */
	bpf_repeat(ALLOC_TRIES) {
		if (slab->ctxs || bpf_ktime_get_ns() - start > ALLOC_NS)
			break;
		slab->ctxs = bpf_arena_alloc_pages(&arena, NULL, pages, -1, 0);
	}
}

s32 BPF_STRUCT_OPS_SLEEPABLE(qmap_init)
{
	u32 i, nr_cpus = scx_bpf_nr_cpu_ids();
	const struct cpumask *online;
	struct slab *slab = slab_at();

	if (nr_cpus > MAX_CPUS) {
		scx_bpf_error("%u CPUs, and room for %d", nr_cpus, MAX_CPUS);
		return -EINVAL;
	}
	alloc_slab(slab);
	if (!slab->ctxs) {
		scx_bpf_error("no memory for %u task contexts", max_tasks);
		return -ENOMEM;
	}
	bpf_for(i, 0, FIFOS)
		fifo_at(&fifos[i])->index = i;
	/* update_idle() tells of changes only: a CPU that has been idle would never be used. */
	online = scx_bpf_get_online_cpumask();
	bpf_for(i, 0, nr_cpus) {
		if (bpf_cpumask_test_cpu(i, online))
			*idle_at(i) = true;
	}
	scx_bpf_put_cpumask(online);
	return scx_can_create_dsq() ? scx_bpf_create_dsq(SHARED_DSQ, -1) : 0;
}

void BPF_STRUCT_OPS(qmap_exit, struct scx_exit_info *ei)
{
	uei_record(ei);
}

SEC(".struct_ops.link")
struct sched_ext_ops qmap_ops = {
	.select_cpu = (void *)qmap_select_cpu,
	.enqueue = (void *)qmap_enqueue,
	.dequeue = (void *)qmap_dequeue,
	.dispatch = (void *)qmap_dispatch,
	.update_idle = (void *)qmap_update_idle,
	.init_task = (void *)qmap_init_task,
	.exit_task = (void *)qmap_exit_task,
	.dump = (void *)qmap_dump,
	.dump_cpu = (void *)qmap_dump_cpu,
	.dump_task = (void *)qmap_dump_task,
	.init = (void *)qmap_init,
	.exit = (void *)qmap_exit,
	.timeout_ms = 5000,
	.name = "qmap",
};
