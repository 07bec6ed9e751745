/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a sched_ext scheduler in BPF C needs, without a vmlinux.h, on every kernel from 6.16 on.
 *
 * Structs have only the members that are used; libbpf finds where the running kernel has them.
 * Names are the kernel's. Where a function or a flag differs between kernels, it is written here
 * once: see the functions at the end, and SCX_ENUMS.
 *
 * What a loader has to do is said at SCX_ENUMS and at struct user_exit_info.
 */
#ifndef SCX_BPF_H
#define SCX_BPF_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef __u16 __sum16;

typedef __u8 u8;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;
typedef _Bool bool;
enum { false, true };

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

/* Of the user-space interface, which does not change. */
enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_QUEUE = 22,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
	BPF_MAP_TYPE_ARENA = 33,

	BPF_F_NO_PREALLOC = 1 << 0,
	BPF_F_MMAPABLE = 1 << 10,

	BPF_NOEXIST = 1,
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1,
};

enum {
	ENOMEM = 12,
	EINVAL = 22,
	EOPNOTSUPP = 95,
};

/*
 * Constants of the kernel, under the kernel's names. Each is a variable `__NAME` in .rodata, which
 * the loader sets before load to the value of the enumerator NAME in the BTF of the running
 * kernel, or leaves at 0 if that kernel has none.
 */
#define SCX_ENUMS(_)                                                                               \
	_(SCX_DSQ_GLOBAL)                                                                          \
	_(SCX_DSQ_LOCAL)                                                                           \
	_(SCX_DSQ_LOCAL_ON)                                                                        \
	_(SCX_ENQ_CPU_SELECTED)                                                                    \
	_(SCX_ENQ_REENQ)                                                                           \
	_(SCX_SLICE_DFL)

#define SCX_ENUM_VARIABLE(name) const volatile u64 __##name;
SCX_ENUMS(SCX_ENUM_VARIABLE)
#define SCX_DSQ_GLOBAL __SCX_DSQ_GLOBAL
#define SCX_DSQ_LOCAL __SCX_DSQ_LOCAL
#define SCX_DSQ_LOCAL_ON __SCX_DSQ_LOCAL_ON
#define SCX_ENQ_CPU_SELECTED __SCX_ENQ_CPU_SELECTED
#define SCX_ENQ_REENQ __SCX_ENQ_REENQ
#define SCX_SLICE_DFL __SCX_SLICE_DFL

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct cpumask {
	unsigned long bits[1];
};

struct sched_ext_entity {
	u64 slice;
	u64 dsq_vtime;
	u32 weight;
};

struct task_struct {
	unsigned int __state;
	int pid;
	int nr_cpus_allowed;
	const struct cpumask *cpus_ptr;
	struct sched_ext_entity scx;
};

/* Its values are the loader's to read. */
enum scx_exit_kind { SCX_EXIT_NONE };

struct scx_exit_info {
	enum scx_exit_kind kind;
	s64 exit_code;
	const char *reason;
	const char *msg;
	char *dump;
};

#pragma clang attribute pop

struct cgroup;
struct scx_cgroup_init_args;
struct scx_cpu_acquire_args;
struct scx_cpu_release_args;
struct scx_dump_ctx;
struct scx_exit_task_args;
struct scx_init_task_args;

/*
 * The operations of Linux 6.16, and so of every kernel from there on. libbpf matches them by name,
 * in whatever order the running kernel has them.
 */
struct sched_ext_ops {
	s32 (*select_cpu)(struct task_struct *p, s32 prev_cpu, u64 wake_flags);
	void (*enqueue)(struct task_struct *p, u64 enq_flags);
	void (*dequeue)(struct task_struct *p, u64 deq_flags);
	void (*dispatch)(s32 cpu, struct task_struct *prev);
	void (*tick)(struct task_struct *p);
	void (*runnable)(struct task_struct *p, u64 enq_flags);
	void (*running)(struct task_struct *p);
	void (*stopping)(struct task_struct *p, bool runnable);
	void (*quiescent)(struct task_struct *p, u64 deq_flags);
	bool (*yield)(struct task_struct *from, struct task_struct *to);
	bool (*core_sched_before)(struct task_struct *a, struct task_struct *b);
	void (*set_weight)(struct task_struct *p, u32 weight);
	void (*set_cpumask)(struct task_struct *p, const struct cpumask *cpumask);
	void (*update_idle)(s32 cpu, bool idle);
	void (*cpu_acquire)(s32 cpu, struct scx_cpu_acquire_args *args);
	void (*cpu_release)(s32 cpu, struct scx_cpu_release_args *args);
	s32 (*init_task)(struct task_struct *p, struct scx_init_task_args *args);
	void (*exit_task)(struct task_struct *p, struct scx_exit_task_args *args);
	void (*enable)(struct task_struct *p);
	void (*disable)(struct task_struct *p);
	void (*dump)(struct scx_dump_ctx *ctx);
	void (*dump_cpu)(struct scx_dump_ctx *ctx, s32 cpu, bool idle);
	void (*dump_task)(struct scx_dump_ctx *ctx, struct task_struct *p);
	s32 (*cgroup_init)(struct cgroup *cgrp, struct scx_cgroup_init_args *args);
	void (*cgroup_exit)(struct cgroup *cgrp);
	s32 (*cgroup_prep_move)(struct task_struct *p, struct cgroup *from, struct cgroup *to);
	void (*cgroup_move)(struct task_struct *p, struct cgroup *from, struct cgroup *to);
	void (*cgroup_cancel_move)(struct task_struct *p, struct cgroup *from, struct cgroup *to);
	void (*cgroup_set_weight)(struct cgroup *cgrp, u32 weight);
	void (*cpu_online)(s32 cpu);
	void (*cpu_offline)(s32 cpu);
	s32 (*init)(void);
	void (*exit)(struct scx_exit_info *info);
	u32 dispatch_max_batch;
	u64 flags;
	u32 timeout_ms;
	u32 exit_dump_len;
	char name[128];
};

#define BPF_STRUCT_OPS(name, args...) SEC("struct_ops/" #name) BPF_PROG(name, ##args)
#define BPF_STRUCT_OPS_SLEEPABLE(name, args...) SEC("struct_ops.s/" #name) BPF_PROG(name, ##args)

/* For bpf_for() and bpf_repeat(). */
struct bpf_iter_num {
	u64 __opaque[1];
} __attribute__((aligned(8)));

/* Kernel functions that are the same on all these kernels. */
s32 scx_bpf_select_cpu_dfl(struct task_struct *p, s32 prev_cpu, u64 wake_flags,
			   bool *is_idle) __ksym;
void scx_bpf_kick_cpu(s32 cpu, u64 flags) __ksym;
s32 scx_bpf_task_cpu(const struct task_struct *p) __ksym;
u32 scx_bpf_nr_cpu_ids(void) __ksym;
const struct cpumask *scx_bpf_get_online_cpumask(void) __ksym;
void scx_bpf_put_cpumask(const struct cpumask *cpumask) __ksym;
void scx_bpf_error_bstr(char *fmt, unsigned long long *data, u32 data__sz) __ksym;
void scx_bpf_dump_bstr(char *fmt, unsigned long long *data, u32 data__sz) __ksym;

bool bpf_cpumask_test_cpu(u32 cpu, const struct cpumask *cpumask) __ksym;
struct task_struct *bpf_task_acquire(struct task_struct *p) __ksym;
void bpf_task_release(struct task_struct *p) __ksym;
struct task_struct *bpf_task_from_pid(s32 pid) __ksym;
void bpf_preempt_disable(void) __ksym;
void bpf_preempt_enable(void) __ksym;
void bpf_rcu_read_lock(void) __ksym;
void bpf_rcu_read_unlock(void) __ksym;

/* Matched by name and size. A map value or a global with a section of its own can be one. */
struct bpf_res_spin_lock {
	u32 val;
};

int bpf_res_spin_lock_irqsave(struct bpf_res_spin_lock *lock, unsigned long *flags) __ksym;
void bpf_res_spin_unlock_irqrestore(struct bpf_res_spin_lock *lock, unsigned long *flags) __ksym;

/*
 * A pointer into an arena, as user space has it. So do maps and the arena itself hold it; a program
 * may use what arena_ptr() makes of it. In so many words, though clang has an address space for
 * this and puts in the casts by itself: 18 does not yet, and 19 leaves some out, which the verifier
 * then refuses.
 */
#define __arena __attribute__((noderef))

/* A variable in the arena: arena_ptr(&variable). The name of the section is libbpf's. */
#define SEC_ARENA SEC(".addr_space.1")

/* The instruction addr_space_cast(reg, 0, 1) by its bytes: the assembler of 18 does not know it. */
static __always_inline void *arena_ptr(const void __arena *ptr)
{
	u64 reg = (u64)ptr;

	asm(".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n"
	    ".ifc %0, r\\n\n"
	    ".byte 0xbf, \\n * 0x11\n"
	    ".short 1\n"
	    ".long 1\n"
	    ".endif\n"
	    ".endr"
	    : "+r"(reg));
	return (void *)reg;
}

void __arena *bpf_arena_alloc_pages(void *map, void __arena *addr, u32 page_cnt, int node_id,
				    u64 flags) __ksym;

/*
 * The verifier allows arena pointers in programs that load the arena's map only. One that takes
 * them all from elsewhere (task storage, say) has to name the map.
 */
#define USES_ARENA(map) asm volatile("" ::"r"(&(map)))

/* As printf(). `fmt` must not be const for the verifier, nor on the stack. */
#define SCX_BSTR(call, fmt, args...)                                                               \
	({                                                                                         \
		static char ___fmt[] = fmt;                                                        \
		unsigned long long ___args[___bpf_narg(args) ?: 1] = {};                           \
		___bpf_fill(___args, ##args);                                                      \
		call(___fmt, ___args, sizeof(___args));                                            \
	})

/* Ejects the scheduler, with this message. */
#define scx_bpf_error(fmt, args...) SCX_BSTR(scx_bpf_error_bstr, fmt, ##args)
/* Adds to the debug dump. */
#define scx_bpf_dump(fmt, args...) SCX_BSTR(scx_bpf_dump_bstr, fmt, ##args)

#include "scx_exit.bpf.h"
#include "scx_kfuncs.bpf.h"

#endif
