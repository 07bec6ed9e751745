// SPDX-License-Identifier: GPL-2.0-only
/*
 * sched_ext's operations, and what they are given.
 */

/* A set of cids, `base` and up. */
@since 7.2 struct scx_cmask {
	u32 base;
	u32 nr_cids;
	u32 alloc_words;
	u64 bits[0];
};

/* Where a cid is: the first cid of its core, cache and node, and their numbers. */
@since 7.2 struct scx_cid_topo {
	s32 core_cid;
	s32 core_idx;
	s32 llc_cid;
	s32 llc_idx;
	s32 node_cid;
	s32 node_idx;
	@since 7.3 s32 shard_cid;
	@since 7.3 s32 shard_idx;
};

struct scx_init_task_args {
	bool fork;
	struct cgroup *cgroup;
};

struct scx_exit_task_args {
	bool cancelled;
};

@since 7.3 struct scx_enable_args {
	u64 cmask_arena_addr;
};

struct scx_exit_info {
	enum scx_exit_kind kind;
	/* -1 if no CPU is to blame. */
	@since 7.2 s32 exit_cpu;
	s64 exit_code;
	@since 6.18 u64 flags;
	/* As text, which the kind has. */
	const char *reason;
	unsigned long *bt;
	u32 bt_len;
	char *msg;
	char *dump;
};

struct scx_dump_ctx {
	enum scx_exit_kind kind;
	s64 exit_code;
	const char *reason;
	u64 at_ns;
	u64 at_jiffies;
};

struct scx_cpu_acquire_args { };

struct scx_cpu_release_args {
	enum scx_cpu_preempt_reason reason;
	struct task_struct *task;
};

struct scx_cgroup_init_args {
	u32 weight;
	@since 6.17 u64 bw_period_us;
	@since 6.17 u64 bw_quota_us;
	@since 6.17 u64 bw_burst_us;
	@since 7.3 bool sched_idle;
};

@since 7.1 struct scx_sub_attach_args {
	struct sched_ext_ops *ops;
	char *cgroup_path;
};

@since 7.1 struct scx_sub_detach_args {
	struct sched_ext_ops *ops;
	char *cgroup_path;
};

/* What scx_bpf_events() counts. */
struct scx_event_stats {
	s64 SCX_EV_SELECT_CPU_FALLBACK;
	s64 SCX_EV_DISPATCH_LOCAL_DSQ_OFFLINE;
	s64 SCX_EV_DISPATCH_KEEP_LAST;
	s64 SCX_EV_ENQ_SKIP_EXITING;
	s64 SCX_EV_ENQ_SKIP_MIGRATION_DISABLED;
	@since 7.1 s64 SCX_EV_REENQ_IMMED;
	@since 7.1 @until 7.2 s64 SCX_EV_REENQ_LOCAL_REPEAT;
	@since 7.3 s64 SCX_EV_REENQ_REPEAT;
	s64 SCX_EV_REFILL_SLICE_DFL;
	@since 7.3 s64 SCX_EV_SLICE_CLAMPED;
	@since 7.3 s64 SCX_EV_SLICE_DENIED;
	s64 SCX_EV_BYPASS_DURATION;
	s64 SCX_EV_BYPASS_DISPATCH;
	s64 SCX_EV_BYPASS_ACTIVATE;
	@since 7.1 s64 SCX_EV_INSERT_NOT_OWNED;
	@since 7.1 s64 SCX_EV_SUB_BYPASS_DISPATCH;
	@since 7.3 s64 SCX_EV_SUB_FORCED_ADMIT;
	@since 7.3 s64 SCX_EV_SUB_PREEMPT_DENIED;
	@since 7.3 s64 SCX_EV_SUB_KICK_DENIED;
	@since 7.3 s64 SCX_EV_SUB_REENQ_DENIED;
	@since 7.3 s64 SCX_EV_SUB_CIDPERF_DENIED;
	@since 7.3 s64 SCX_EV_SUB_RESCUE;
};

@since 6.19 struct scx_bpf_dsq_insert_vtime_args {
	u64 dsq_id;
	u64 slice;
	u64 vtime;
	u64 enq_flags;
};

@since 6.19 struct scx_bpf_select_cpu_and_args {
	s32 prev_cpu;
	u64 wake_flags;
	u64 flags;
};

/* ---- The operations ---- */

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
	@since 6.17 void (*cgroup_set_bandwidth)(struct cgroup *cgrp, u64 period_us, u64 quota_us,
			u64 burst_us);
	@since 6.19 void (*cgroup_set_idle)(struct cgroup *cgrp, bool idle);
	@since 7.1 s32 (*sub_attach)(struct scx_sub_attach_args *args);
	@since 7.1 void (*sub_detach)(struct scx_sub_detach_args *args);
	@since 7.3 void (*sub_caps_updated)(const struct scx_cmask *cmask, u64 caps);
	@since 7.3 void (*sub_ecaps_updated)(s32 cid, u64 before, u64 after);
	void (*cpu_online)(s32 cpu);
	void (*cpu_offline)(s32 cpu);
	@since 7.3 s32 (*init_cids)(void);
	s32 (*init)(void);
	void (*exit)(struct scx_exit_info *info);
	u32 dispatch_max_batch;
	u64 flags;
	u32 timeout_ms;
	u32 exit_dump_len;
	u64 hotplug_seq;
	@since 7.3 u32 cid_shard_size;
	@since 7.3 u32 rescue_bandwidth_ppt;
	@since 7.3 u32 rescue_quantum_us;
	@since 7.1 u64 sub_cgroup_id;
	char name[128];
	void *priv;
	void (*cpu_acquire)(s32 cpu, struct scx_cpu_acquire_args *args);
	void (*cpu_release)(s32 cpu, struct scx_cpu_release_args *args);
};

@since 7.2 struct sched_ext_ops_cid {
	s32 (*select_cid)(struct task_struct *p, s32 prev_cid, u64 wake_flags);
	void (*enqueue)(struct task_struct *p, u64 enq_flags);
	void (*dequeue)(struct task_struct *p, u64 deq_flags);
	void (*dispatch)(s32 cid, struct task_struct *prev);
	void (*tick)(struct task_struct *p);
	void (*runnable)(struct task_struct *p, u64 enq_flags);
	void (*running)(struct task_struct *p);
	void (*stopping)(struct task_struct *p, bool runnable);
	void (*quiescent)(struct task_struct *p, u64 deq_flags);
	bool (*yield)(struct task_struct *from, struct task_struct *to);
	bool (*core_sched_before)(struct task_struct *a, struct task_struct *b);
	void (*set_weight)(struct task_struct *p, u32 weight);
	void (*set_cmask)(struct task_struct *p, const struct scx_cmask *cmask);
	void (*update_idle)(s32 cid, bool idle);
	s32 (*init_task)(struct task_struct *p, struct scx_init_task_args *args);
	void (*exit_task)(struct task_struct *p, struct scx_exit_task_args *args);
	@until 7.2 void (*enable)(struct task_struct *p);
	@since 7.3 void (*enable)(struct task_struct *p, struct scx_enable_args *args);
	void (*disable)(struct task_struct *p);
	void (*dump)(struct scx_dump_ctx *ctx);
	void (*dump_cid)(struct scx_dump_ctx *ctx, s32 cid, bool idle);
	void (*dump_task)(struct scx_dump_ctx *ctx, struct task_struct *p);
	@until 7.2 s32 (*cgroup_init)(struct cgroup *cgrp, struct scx_cgroup_init_args *args);
	@until 7.2 void (*cgroup_exit)(struct cgroup *cgrp);
	@until 7.2 s32 (*cgroup_prep_move)(struct task_struct *p, struct cgroup *from,
			struct cgroup *to);
	@until 7.2 void (*cgroup_move)(struct task_struct *p, struct cgroup *from,
			struct cgroup *to);
	@until 7.2 void (*cgroup_cancel_move)(struct task_struct *p, struct cgroup *from,
			struct cgroup *to);
	@until 7.2 void (*cgroup_set_weight)(struct cgroup *cgrp, u32 weight);
	@until 7.2 void (*cgroup_set_bandwidth)(struct cgroup *cgrp, u64 period_us, u64 quota_us,
			u64 burst_us);
	@until 7.2 void (*cgroup_set_idle)(struct cgroup *cgrp, bool idle);
	@since 7.3 s32 (*cpuctl_init)(struct cgroup *cgrp, struct scx_cgroup_init_args *args);
	@since 7.3 void (*cpuctl_exit)(struct cgroup *cgrp);
	@since 7.3 s32 (*cpuctl_prep_move)(struct task_struct *p, struct cgroup *from,
			struct cgroup *to);
	@since 7.3 void (*cpuctl_move)(struct task_struct *p, struct cgroup *from,
			struct cgroup *to);
	@since 7.3 void (*cpuctl_cancel_move)(struct task_struct *p, struct cgroup *from,
			struct cgroup *to);
	@since 7.3 void (*cpuctl_set_weight)(struct cgroup *cgrp, u32 weight);
	@since 7.3 void (*cpuctl_set_bandwidth)(struct cgroup *cgrp, u64 period_us, u64 quota_us,
			u64 burst_us);
	@since 7.3 void (*cpuctl_set_idle)(struct cgroup *cgrp, bool idle);
	s32 (*sub_attach)(struct scx_sub_attach_args *args);
	void (*sub_detach)(struct scx_sub_detach_args *args);
	@since 7.3 void (*sub_caps_updated)(const struct scx_cmask *cmask, u64 caps);
	@since 7.3 void (*sub_ecaps_updated)(s32 cid, u64 before, u64 after);
	void (*cid_online)(s32 cid);
	void (*cid_offline)(s32 cid);
	@since 7.3 s32 (*init_cids)(void);
	s32 (*init)(void);
	void (*exit)(struct scx_exit_info *info);
	u32 dispatch_max_batch;
	u64 flags;
	u32 timeout_ms;
	u32 exit_dump_len;
	u64 hotplug_seq;
	@since 7.3 u32 cid_shard_size;
	@since 7.3 u32 rescue_bandwidth_ppt;
	@since 7.3 u32 rescue_quantum_us;
	u64 sub_cgroup_id;
	char name[128];
	void *priv;
};
