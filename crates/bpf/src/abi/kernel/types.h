// SPDX-License-Identifier: GPL-2.0-only
/*
 * Types that everything else is made of, and those that a BPF program puts into its own data.
 *
 * This and the files beside it are what the engine has of a kernel, for every version that
 * --kernel-abi takes, in C's own words. A loader relocates a scheduler against it as against the
 * BTF of a real kernel: what is not here does not exist for it, and is refused by its name where
 * it is needed. Names, types, numbers and prototypes are the kernel's. Where a field is in its
 * structure is not: the engine lays structures out by itself, and only of what a program has in
 * its own memory (bpf_*, *_args) the size is the kernel's.
 *
 * Marks stand before a declaration, a member or a value:
 * 	@since 7.1	from that version on
 * 	@until 7.0	up to that version, and in it
 * 	@var		a variable that BPF can take the address of
 * 	@symbol		the same, known to BPF by its name alone, as `void`
 * 	@traced		a function that fentry programs can be put on, and that none can call
 * All other functions are kfuncs, and may have
 * 	@acquire	what it returns must be released
 * 	@release	it takes a reference away
 * 	@null		it may return NULL
 * 	@sleepable	only a program that may sleep can call it
 * 	@rcu		only within an RCU section
 */

typedef unsigned char __u8;
typedef signed char __s8;
typedef unsigned short __u16;
typedef short __s16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef long long __s64;
typedef __u8 u8;
typedef __s8 s8;
typedef __u16 u16;
typedef __s16 s16;
typedef __u32 u32;
typedef __s32 s32;
typedef __u64 u64;
typedef __s64 s64;
typedef _Bool bool;
typedef unsigned long __kernel_ulong_t;
typedef long __kernel_long_t;
typedef __kernel_ulong_t __kernel_size_t;
typedef __kernel_long_t __kernel_ssize_t;
typedef int __kernel_pid_t;
typedef unsigned int __kernel_uid32_t;
typedef unsigned int __kernel_gid32_t;
typedef __kernel_size_t size_t;
typedef __kernel_ssize_t ssize_t;
typedef __kernel_pid_t pid_t;
typedef __kernel_uid32_t uid_t;
typedef __kernel_gid32_t gid_t;

typedef struct { uid_t val; } kuid_t;
typedef struct { gid_t val; } kgid_t;
typedef struct { int counter; } atomic_t;
typedef struct { s64 counter; } atomic64_t;
typedef atomic64_t atomic_long_t;

struct refcount_struct {
	atomic_t refs;
};
typedef struct refcount_struct refcount_t;

enum page_size_enum {
	__PAGE_SIZE = 4096,
};

struct list_head {
	struct list_head *next;
	struct list_head *prev;
};

struct rb_node {
	unsigned long __rb_parent_color;
	struct rb_node *rb_right;
	struct rb_node *rb_left;
};

struct rhash_head {
	struct rhash_head *next;
};

/* Room for 8192 CPUs, as Debian's kernels have it. The engine's CPUs are the first of them. */
struct cpumask {
	unsigned long bits[128];
};
typedef struct cpumask cpumask_t;

typedef struct { unsigned long bits[16]; } nodemask_t;

/* ---- What BPF programs have in their maps. The kernel alone knows what is in it. ---- */

struct bpf_timer {
	__u64 __opaque[2];
};

struct bpf_spin_lock {
	__u32 val;
};

struct bpf_res_spin_lock {
	u32 val;
};

struct bpf_list_head {
	__u64 __opaque[2];
};

struct bpf_list_node {
	__u64 __opaque[3];
};

struct bpf_rb_root {
	__u64 __opaque[2];
};

struct bpf_rb_node {
	__u64 __opaque[4];
};

struct bpf_refcount {
	__u32 __opaque[1];
};

struct bpf_dynptr {
	__u64 __opaque[2];
};

/* A CPU mask that a program owns. A pointer to one is a pointer to its cpumask. */
struct bpf_cpumask {
	cpumask_t cpumask;
	refcount_t usage;
};

/* ---- Iterators. On the program's stack. ---- */

struct bpf_iter_num {
	__u64 __opaque[1];
};

struct bpf_iter_bits {
	__u64 __opaque[2];
};

struct bpf_iter_css {
	__u64 __opaque[3];
};

struct bpf_iter_css_task {
	__u64 __opaque[1];
};

struct bpf_iter_task {
	__u64 __opaque[3];
};

struct bpf_iter_scx_dsq {
	u64 __opaque[6];
};

/* How bpf_iter_css goes through cgroups. */
enum bpf_cgroup_iter_order {
	BPF_CGROUP_ITER_ORDER_UNSPEC = 0,
	BPF_CGROUP_ITER_SELF_ONLY = 1,
	BPF_CGROUP_ITER_DESCENDANTS_PRE = 2,
	BPF_CGROUP_ITER_DESCENDANTS_POST = 3,
	BPF_CGROUP_ITER_ANCESTORS_UP = 4,
	@since 7.0 BPF_CGROUP_ITER_CHILDREN = 5,
};

/* What bpf_iter_task goes through. */
enum {
	BPF_TASK_ITER_ALL_PROCS = 0,
	BPF_TASK_ITER_ALL_THREADS = 1,
	BPF_TASK_ITER_PROC_THREADS = 2,
};

struct bpf_perf_event_value {
	__u64 counter;
	__u64 enabled;
	__u64 running;
};

/* Of guard() and its like, which leave an RCU section, or let preemption happen, at the end. */
typedef struct { void *lock; } class_rcu_t;
typedef struct { void *lock; } class_preempt_t;

/* Only ever named: a program has a map's address, and looks at nothing in it. */
struct bpf_map { };

/* ---- What a program of section iter/task is given. ---- */

struct seq_file { };

struct bpf_iter_meta {
	struct seq_file *seq;
	u64 session_id;
	u64 seq_num;
};
