// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tasks, and what hangs on them.
 *
 * Every field has a value that the engine knows: `source.rs` says which. A task runs as root, in the
 * only namespace of each kind, on a machine with one memory node; that makes the fields of cred,
 * nsproxy and mempolicy what they are. Left out is what the engine has no value for: load averages
 * (se.avg), statistics (stats), I/O.
 */

/* Only ever compared with NULL. */
struct mm_struct { };

/* Only ever compared. */
struct sched_class { };

struct thread_info {
	u32 cpu;
};

struct load_weight {
	unsigned long weight;
};

struct sched_entity {
	/* Of the nice value: 1024 for nice 0. */
	struct load_weight load;
	/* Whether the fair class has the task queued, or runs it. */
	unsigned char on_rq;
	/* ns */
	u64 exec_start;
	/* ns */
	u64 sum_exec_runtime;
	u64 vruntime;
};

/* All 0: statistics are off, as they are unless somebody turns them on (sysctl kernel.sched_schedstats). */
struct sched_statistics {
	u64 wait_start;
	u64 wait_max;
	u64 wait_count;
	u64 wait_sum;
	u64 iowait_count;
	u64 iowait_sum;
	u64 sleep_start;
	u64 sleep_max;
	s64 sum_sleep_runtime;
	u64 block_start;
	u64 block_max;
	s64 sum_block_runtime;
	s64 exec_max;
	u64 slice_max;
	u64 nr_wakeups;
	u64 nr_wakeups_sync;
	u64 nr_wakeups_migrate;
	u64 nr_wakeups_local;
	u64 nr_wakeups_remote;
};

struct scx_dsq_list_node {
	struct list_head node;
	u32 flags;
	u32 priv;
};

/* A scheduler that is attached. Only ever compared. */
struct scx_sched { };

/* A dispatch queue. */
struct scx_dispatch_q {
	/* What scx_bpf_dsq_peek() gives. */
	@since 6.19 struct task_struct *first_task;
	/* How many tasks are in it. */
	u32 nr;
	u32 seq;
	u64 id;
	@since 7.1 struct scx_sched *sched;
};

struct sched_ext_entity {
	@since 7.1 struct scx_sched *sched;
	/* The queue that the task is in, or NULL. */
	struct scx_dispatch_q *dsq;
	atomic_long_t ops_state;
	u64 ddsp_dsq_id;
	u64 ddsp_enq_flags;
	@since 7.3 u64 ddsp_slice;
	@since 7.3 u64 ddsp_vtime;
	struct scx_dsq_list_node dsq_list;
	struct rb_node dsq_priq;
	u32 dsq_seq;
	u32 dsq_flags;
	/* enum scx_ent_flags, with the bits of the version: the state moved in 7.1. */
	u32 flags;
	/* 1..=10000; 100 for nice 0. */
	u32 weight;
	@since 7.3 u32 reenq_cnt;
	/* -1 but in an internal migration. */
	s32 sticky_cpu;
	/* -1 but between two queues. */
	s32 holding_cpu;
	s32 selected_cpu;
	/* Which kfuncs the operation at hand allowed. */
	@until 7.0 u32 kf_mask;
	@since 7.3 s32 runnable_cpu;
	@since 7.2 u32 ops_qseq;
	/* What the operation at hand is about. */
	struct task_struct *kf_tasks[2];
	struct list_head runnable_node;
	/* In jiffies. */
	unsigned long runnable_at;
	@since 7.3 unsigned long rescue_at;
	/* Never 0, but for the boot CPU's idle task. */
	@since 7.2 u64 tid;
	@since 7.2 struct rhash_head tid_hash_node;
	/* ns. Programs may write it. */
	u64 slice;
	/* Programs may write it. */
	u64 dsq_vtime;
	@since 7.3 atomic64_t slice_oob;
	@since 7.3 u64 reenq_reason_caps;
	@since 7.3 s32 reenq_reason_cid;
	/* Programs may write it, in init_task. */
	bool disallow;
	struct cgroup *cgrp_moving_from;
	struct list_head tasks_node;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct ns_common {
	unsigned int inum;
};

struct pid_namespace {
	/* 0: there is no other. */
	unsigned int level;
	struct ns_common ns;
};

struct pid {
	unsigned int level;
	/* One: in the only namespace. */
	struct upid numbers[0];
};

struct nsproxy {
	struct pid_namespace *pid_ns_for_children;
};

struct cred {
	kuid_t uid;
	kgid_t gid;
	kuid_t suid;
	kgid_t sgid;
	kuid_t euid;
	kgid_t egid;
	kuid_t fsuid;
	kgid_t fsgid;
};

/* No task has one. */
struct mempolicy {
	unsigned short mode;
	unsigned short flags;
	nodemask_t nodes;
	int home_node;
};

enum pid_type {
	PIDTYPE_PID = 0,
	PIDTYPE_TGID = 1,
	PIDTYPE_PGID = 2,
	PIDTYPE_SID = 3,
	PIDTYPE_MAX = 4,
};

/* What the threads of a process share. */
struct signal_struct {
	/* Threads that have not begun to exit. */
	atomic_t live;
	int nr_threads;
	/* All threads, by thread_node, until they are released. */
	struct list_head thread_head;
	/* By enum pid_type. All processes are in init's group and session. */
	struct pid *pids[4];
};

/* ---- Cgroups. One tree, which all controllers share. ---- */

enum cgroup_subsys_id {
	cpuset_cgrp_id = 0,
	cpu_cgrp_id = 1,
	cpuacct_cgrp_id = 2,
	io_cgrp_id = 3,
	memory_cgrp_id = 4,
	devices_cgrp_id = 5,
	freezer_cgrp_id = 6,
	net_cls_cgrp_id = 7,
	perf_event_cgrp_id = 8,
	net_prio_cgrp_id = 9,
	hugetlb_cgrp_id = 10,
	pids_cgrp_id = 11,
	rdma_cgrp_id = 12,
	misc_cgrp_id = 13,
	CGROUP_SUBSYS_COUNT = 14,
};

struct percpu_ref {
	/* Its low bits are 0: the cgroup is not being removed. */
	unsigned long percpu_count_ptr;
};

struct kernfs_node {
	struct kernfs_node *__parent;
	/* The last part of the path. */
	const char *name;
	/* cgroup_id(): 1 for the root. */
	u64 id;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct percpu_ref refcnt;
	int id;
	unsigned int flags;
	struct cgroup_subsys_state *parent;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup {
	struct cgroup_subsys_state self;
	/* 0 for the root. */
	int level;
	struct kernfs_node *kn;
	/* By enum cgroup_subsys_id. */
	struct cgroup_subsys_state *subsys[14];
	struct cgroup_root *root;
	/* The cgroup itself: none is threaded. */
	struct cgroup *dom_cgrp;
	/* By level, from the root to the cgroup itself. */
	struct cgroup *ancestors[0];
};

struct css_set {
	struct cgroup_subsys_state *subsys[14];
	struct cgroup *dfl_cgrp;
};

/* The cgroup as the cpu controller sees it. */
struct task_group {
	struct cgroup_subsys_state css;
	struct task_group *parent;
};

/* ---- The task ---- */

struct task_struct {
	struct thread_info thread_info;
	unsigned int __state;
	/* PF_* */
	unsigned int flags;
	@until 7.1 int on_cpu;
	@since 7.2 u8 on_cpu;
	@since 7.2 u8 on_rq;
	/* The CPU that the task is on, or was on last: nothing hints at another. */
	int wake_cpu;
	@until 7.1 int on_rq;
	/* 100 + 20 + nice; 120 for nice 0. The three are the same: nothing boosts a task. */
	int prio;
	int static_prio;
	int normal_prio;
	/* 0: there are no real-time tasks. */
	unsigned int rt_priority;
	/* 0: only the fair class counts whom a task wakes up, and the one here does not. */
	unsigned int wakee_flips;
	unsigned long wakee_flip_decay_ts;
	struct task_struct *last_wakee;
	struct sched_entity se;
	struct sched_ext_entity scx;
	const struct sched_class *sched_class;
	struct task_group *sched_task_group;
	struct sched_statistics stats;
	/* 0 normal, 3 batch, 5 idle, 7 ext. */
	unsigned int policy;
	/* Does not count migration_disabled. */
	int nr_cpus_allowed;
	/* The affinity, or one CPU while migration is disabled. */
	const cpumask_t *cpus_ptr;
	cpumask_t cpus_mask;
	unsigned short migration_disabled;
	/* 0: nothing is read from or written to a device. */
	unsigned int in_iowait : 1;
	/* NULL for kernel threads and from exit on. */
	struct mm_struct *mm;
	int exit_state;
	pid_t pid;
	pid_t tgid;
	/* The process that wait()s for it. `parent` is the same: nobody traces. */
	struct task_struct *real_parent;
	struct task_struct *parent;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct list_head thread_node;
	/* ns. All CPU time counts as user time, to the ns. */
	u64 utime;
	u64 stime;
	unsigned long nvcsw;
	unsigned long nivcsw;
	/* 0: tasks have no memory that could be missing. */
	unsigned long min_flt;
	unsigned long maj_flt;
	/* ns. A thread that takes over a leader's pid takes this too. */
	u64 start_time;
	/* The same: the machine never sleeps. */
	u64 start_boottime;
	const struct cred *real_cred;
	const struct cred *cred;
	char comm[16];
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	struct css_set *cgroups;
	/* NULL */
	struct mempolicy *mempolicy;
	/* NUMA_NO_NODE: there is one node. */
	int numa_preferred_nid;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

/* ---- A CPU ---- */

struct scx_rq {
	struct scx_dispatch_q local_dsq;
	u32 nr_running;
	/* 1024 unless scx_bpf_cpuperf_set() said otherwise. */
	u32 cpuperf_target;
	bool cpu_released;
	/* enum scx_rq_flags */
	u32 flags;
	u64 clock;
};

struct rq {
	unsigned int nr_running;
	/* 1024 */
	unsigned long cpu_capacity;
	struct task_struct *curr;
	struct task_struct *idle;
	struct scx_rq scx;
	u64 clock_task;
	u64 clock_pelt;
	/* ns. No time is stolen and no CPU is slow, so all three clocks are the same. */
	u64 clock;
	/* 0, as the clocks do not differ. */
	unsigned long lost_idle_time;
	int cpu;
	int online;
};

/* Of each CPU. */
@var struct rq runqueues;

@var struct task_struct *current_task;
/* The first CPU that shares its last cache, and how many do. */
@var int sd_llc_id;
@var int sd_llc_size;

struct cpufreq_cpuinfo {
	unsigned int max_freq;
	unsigned int min_freq;
};

/* How fast a CPU runs. It is the same always, so no CPU has one. */
struct cpufreq_policy {
	struct cpufreq_cpuinfo cpuinfo;
	unsigned int min;
	unsigned int max;
	unsigned int cur;
};

/* NULL */
@var struct cpufreq_policy *cpufreq_cpu_data;

/* ---- Variables that only the list of symbols has ---- */

@symbol volatile unsigned long jiffies;
@symbol unsigned int nr_cpu_ids;

struct rhashtable {
	atomic_t nelems;
};

/* The table from tid to task. It is empty while no root scheduler asks for it. */
@symbol @since 7.2 struct rhashtable scx_tid_hash;
/* Where the next chunk of tids begins. */
@symbol @since 7.2 atomic64_t scx_tid_cursor;

/* What is being executed. */
struct linux_binprm {
	const char *filename;
};

/* ---- Tracepoints: tp_btf/NAME. The first parameter is not the program's. ---- */

typedef void (*btf_trace_sched_switch)(void *, bool, struct task_struct *, struct task_struct *,
		unsigned int);
typedef void (*btf_trace_sched_waking)(void *, struct task_struct *);
typedef void (*btf_trace_sched_wakeup)(void *, struct task_struct *);
typedef void (*btf_trace_sched_wakeup_new)(void *, struct task_struct *);
typedef void (*btf_trace_sched_migrate_task)(void *, struct task_struct *, int);
typedef void (*btf_trace_sched_process_fork)(void *, struct task_struct *, struct task_struct *);
typedef void (*btf_trace_sched_process_exec)(void *, struct task_struct *, pid_t,
		struct linux_binprm *);
typedef void (*btf_trace_sched_process_exit)(void *, struct task_struct *, bool);
typedef void (*btf_trace_sched_process_free)(void *, struct task_struct *);
typedef void (*btf_trace_sched_process_wait)(void *, struct pid *);
typedef void (*btf_trace_sched_ext_dump)(void *, const char *);
typedef void (*btf_trace_sched_ext_event)(void *, const char *, __s64);
@until 6.17 typedef void (*btf_trace_task_newtask)(void *, struct task_struct *, unsigned long);
@since 6.18 typedef void (*btf_trace_task_newtask)(void *, struct task_struct *, u64);
typedef void (*btf_trace_task_rename)(void *, struct task_struct *, const char *);

/* ---- Functions to trace: fentry/NAME, fexit/NAME, iter/task ---- */

@traced void do_task_dead(void);
@traced void release_task(struct task_struct *p);
@traced void wake_up_new_task(struct task_struct *p);
@traced void scx_tick(struct rq *rq);
@traced void scx_post_fork(struct task_struct *p);
@traced @since 6.19 void sched_ext_dead(struct task_struct *p);
@traced @since 7.2 void scx_tid_hash_insert(struct task_struct *p);
@traced int bpf_iter_task(struct bpf_iter_meta *meta, struct task_struct *task);
