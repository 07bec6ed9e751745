// SPDX-License-Identifier: GPL-2.0-only
/*
 * sched_ext's numbers.
 *
 * Loaders fill `__SCX_*` from the values here, and schedulers ask whether a value exists.
 */

enum scx_public_consts : u64 {
	SCX_OPS_NAME_LEN = 0x80,
	SCX_SLICE_DFL = 0x1312d00,
	@since 6.19 SCX_SLICE_BYPASS = 0x4c4b40,
	SCX_SLICE_INF = 0xffffffffffffffff,
};

enum scx_consts {
	SCX_DSP_DFL_MAX_BATCH = 32,
	SCX_DSP_MAX_LOOPS = 32,
	/* 30 s in jiffies of 4 ms; with other ticks it is another number. */
	SCX_WATCHDOG_MAX_TIMEOUT = 7500,
	@since 7.3 SCX_RESCUE_DFL_BW_PPT = 20,
	@since 7.3 SCX_RESCUE_MAX_BW_PPT = 250,
	@since 7.3 SCX_RESCUE_DISABLE = 0xffffffff,
	@since 7.3 SCX_RESCUE_DFL_QUANTUM_US = 5000,
	@since 7.3 SCX_RESCUE_MIN_QUANTUM_US = 1000,
	@since 7.3 SCX_RESCUE_MAX_QUANTUM_US = 0x186a0,
	@since 7.3 SCX_RESCUE_MIN_SLICE_US = 1000,
	@since 7.3 SCX_RESCUE_OVERLOAD_MULT = 16,
	@since 7.3 SCX_RESCUE_MIN_OVERLOAD_MS = 1000,
	@since 7.3 SCX_RESCUE_MAX_OVERLOAD_MS = 15000,
	@since 7.2 SCX_TID_CHUNK = 1024,
	SCX_EXIT_BT_LEN = 64,
	SCX_EXIT_MSG_LEN = 1024,
	SCX_EXIT_DUMP_DFL_LEN = 32768,
	SCX_CPUPERF_ONE = 1024,
	SCX_TASK_ITER_BATCH = 32,
	@since 7.1 SCX_BYPASS_HOST_NTH = 2,
	@since 6.19 SCX_BYPASS_LB_DFL_INTV_US = 0x7a120,
	@since 6.19 SCX_BYPASS_LB_DONOR_PCT = 125,
	@since 6.19 SCX_BYPASS_LB_MIN_DELTA_DIV = 4,
	@since 6.19 SCX_BYPASS_LB_BATCH = 256,
	@since 7.1 @until 7.2 SCX_REENQ_LOCAL_MAX_REPEAT = 256,
	@since 7.3 SCX_REENQ_MAX_REPEAT = 256,
	@since 7.1 SCX_SUB_MAX_DEPTH = 4,
};

@since 7.3 enum scx_cid_consts {
	SCX_CID_SHARD_SIZE_DFL = 24,
	SCX_CID_SHARD_MAX_CPUS = 512,
};

/* Why a scheduler ended. */
enum scx_exit_kind {
	SCX_EXIT_NONE = 0,
	SCX_EXIT_DONE = 1,
	SCX_EXIT_UNREG = 64,
	SCX_EXIT_UNREG_BPF = 65,
	SCX_EXIT_UNREG_KERN = 66,
	SCX_EXIT_SYSRQ = 67,
	@since 7.1 SCX_EXIT_PARENT = 68,
	@since 7.3 SCX_EXIT_PARENT_KILL = 69,
	SCX_EXIT_ERROR = 1024,
	SCX_EXIT_ERROR_BPF = 1025,
	SCX_EXIT_ERROR_STALL = 1026,
	@since 7.3 SCX_EXIT_ERROR_REENQ = 1027,
	@since 7.3 SCX_EXIT_ERROR_RESCUE = 1028,
};

/* Parts of an exit code that the kernel itself gives. */
enum scx_exit_code : u64 {
	SCX_ECODE_RSN_HOTPLUG = 0x100000000,
	@since 7.1 SCX_ECODE_RSN_CGROUP_OFFLINE = 0x200000000,
	SCX_ECODE_ACT_RESTART = 0x1000000000000,
};

@since 6.18 enum scx_exit_flags {
	@until 6.18 SCX_EFLAG_INITIALIZED = 0,
	@since 6.19 SCX_EFLAG_INITIALIZED = 1,
};

enum scx_ops_flags : u64 {
	SCX_OPS_KEEP_BUILTIN_IDLE = 1,
	SCX_OPS_ENQ_LAST = 2,
	SCX_OPS_ENQ_EXITING = 4,
	SCX_OPS_SWITCH_PARTIAL = 8,
	SCX_OPS_ENQ_MIGRATION_DISABLED = 0x10,
	SCX_OPS_ALLOW_QUEUED_WAKEUP = 0x20,
	SCX_OPS_BUILTIN_IDLE_PER_NODE = 0x40,
	@until 7.0 SCX_OPS_HAS_CGROUP_WEIGHT = 0x10000,
	@until 7.0 SCX_OPS_ALL_FLAGS = 0x1007f,
	@since 7.1 SCX_OPS_ALWAYS_ENQ_IMMED = 0x80,
	@since 7.1 @until 7.1 SCX_OPS_ALL_FLAGS = 0xff,
	@since 7.2 SCX_OPS_TID_TO_TASK = 0x100,
	@since 7.2 SCX_OPS_ALL_FLAGS = 0x1ff,
	__SCX_OPS_INTERNAL_MASK = 0xff00000000000000,
	SCX_OPS_HAS_CPU_PREEMPT = 0x100000000000000,
};

/* Ids of dispatch queues. One without SCX_DSQ_FLAG_BUILTIN is a scheduler's own. */
enum scx_dsq_id_flags : u64 {
	SCX_DSQ_FLAG_BUILTIN = 0x8000000000000000,
	SCX_DSQ_FLAG_LOCAL_ON = 0x4000000000000000,
	SCX_DSQ_INVALID = 0x8000000000000000,
	SCX_DSQ_GLOBAL = 0x8000000000000001,
	SCX_DSQ_LOCAL = 0x8000000000000002,
	@since 6.19 SCX_DSQ_BYPASS = 0x8000000000000003,
	@since 7.3 SCX_DSQ_REJECT = 0x8000000000000004,
	@since 7.3 SCX_DSQ_RESCUE = 0x8000000000000005,
	SCX_DSQ_LOCAL_ON = 0xc000000000000000,
	SCX_DSQ_LOCAL_CPU_MASK = 0xffffffff,
};

/* SCX_ENQ_HEAD and SCX_ENQ_CPU_SELECTED moved in 6.19, with the core's flags that they stand for. */
enum scx_enq_flags : u64 {
	SCX_ENQ_WAKEUP = 1,
	@until 6.18 SCX_ENQ_HEAD = 0x10,
	@until 6.18 SCX_ENQ_CPU_SELECTED = 0x400,
	@since 6.19 SCX_ENQ_HEAD = 0x10000,
	@since 6.19 SCX_ENQ_CPU_SELECTED = 0x100000,
	SCX_ENQ_PREEMPT = 0x100000000,
	@since 7.1 SCX_ENQ_IMMED = 0x200000000,
	@since 7.3 SCX_ENQ_RESCUE = 0x400000000,
	SCX_ENQ_REENQ = 0x10000000000,
	SCX_ENQ_LAST = 0x20000000000,
	__SCX_ENQ_INTERNAL_MASK = 0xff00000000000000,
	SCX_ENQ_CLEAR_OPSS = 0x100000000000000,
	SCX_ENQ_DSQ_PRIQ = 0x200000000000000,
	@since 6.19 SCX_ENQ_NESTED = 0x400000000000000,
	@since 7.1 SCX_ENQ_GDSQ_FALLBACK = 0x800000000000000,
	@since 7.3 SCX_ENQ_IGNORE_CAPS = 0x1000000000000000,
	@since 7.3 SCX_ENQ_APPLY_SLICE = 0x2000000000000000,
	@since 7.3 SCX_ENQ_SLICE_DFL = 0x4000000000000000,
};

enum scx_deq_flags : u64 {
	SCX_DEQ_SLEEP = 1,
	SCX_DEQ_CORE_SCHED_EXEC = 0x100000000,
	@since 7.1 SCX_DEQ_SCHED_CHANGE = 0x200000000,
};

enum scx_wake_flags {
	SCX_WAKE_FORK = 4,
	SCX_WAKE_TTWU = 8,
	SCX_WAKE_SYNC = 0x10,
};

enum scx_kick_flags {
	SCX_KICK_IDLE = 1,
	SCX_KICK_PREEMPT = 2,
	SCX_KICK_WAIT = 4,
};

enum scx_pick_idle_cpu_flags {
	SCX_PICK_IDLE_CORE = 1,
	SCX_PICK_IDLE_IN_NODE = 2,
};

/* What scx_bpf_dsq_reenq() enqueues again. */
@since 7.1 enum scx_reenq_flags : u64 {
	SCX_REENQ_ANY = 1,
	@since 7.3 SCX_REENQ_CAP_REVOKE = 2,
	__SCX_REENQ_FILTER_MASK = 0xffff,
	__SCX_REENQ_USER_MASK = 1,
	SCX_REENQ_TSR_RQ_OPEN = 0x100000000,
	SCX_REENQ_TSR_NOT_FIRST = 0x200000000,
	__SCX_REENQ_TSR_MASK = 0xf00000000,
};

/* Which class took a CPU away. */
enum scx_cpu_preempt_reason {
	SCX_CPU_PREEMPT_RT = 0,
	SCX_CPU_PREEMPT_DL = 1,
	SCX_CPU_PREEMPT_STOP = 2,
	SCX_CPU_PREEMPT_UNKNOWN = 3,
};

/* What a parent grants to a sub-scheduler. */
@since 7.3 enum scx_cap_flags {
	__SCX_CAP_ENQ_IMMED = 0,
	__SCX_CAP_ENQ = 1,
	__SCX_CAP_PREEMPT = 2,
	__SCX_CAP_PERF = 3,
	__SCX_NR_CAPS = 4,
	__SCX_CAP_ALL = 0xf,
	SCX_CAP_ENQ_IMMED = 1,
	SCX_CAP_ENQ = 2,
	SCX_CAP_PREEMPT = 4,
	SCX_CAP_PERF = 8,
	SCX_CAP_BASE = 1,
	SCX_CAPS_REENQ_ON_LOSS = 3,
};

/* p->scx.flags */
enum scx_ent_flags {
	SCX_TASK_QUEUED = 1,
	@since 7.1 SCX_TASK_IN_CUSTODY = 2,
	SCX_TASK_RESET_RUNNABLE_AT = 4,
	SCX_TASK_DEQD_FOR_SLEEP = 8,
	@since 7.1 SCX_TASK_SUB_INIT = 0x10,
	@since 7.1 SCX_TASK_IMMED = 0x20,
	@since 7.3 SCX_TASK_PROTECTED = 0x40,
	SCX_TASK_STATE_SHIFT = 8,
	@until 7.0 SCX_TASK_STATE_BITS = 2,
	@until 7.0 SCX_TASK_STATE_MASK = 0x300,
	@since 7.1 SCX_TASK_STATE_BITS = 3,
	@since 7.1 SCX_TASK_STATE_MASK = 0x700,
	@since 7.1 SCX_TASK_NONE = 0,
	@since 7.1 SCX_TASK_INIT_BEGIN = 0x100,
	@since 7.1 SCX_TASK_INIT = 0x200,
	@since 7.1 SCX_TASK_READY = 0x300,
	@since 7.1 SCX_TASK_ENABLED = 0x400,
	@since 7.1 SCX_TASK_DEAD = 0x500,
	@since 7.1 SCX_TASK_REENQ_REASON_SHIFT = 12,
	@since 7.1 @until 7.2 SCX_TASK_REENQ_REASON_BITS = 2,
	@since 7.1 @until 7.2 SCX_TASK_REENQ_REASON_MASK = 0x3000,
	@since 7.3 SCX_TASK_REENQ_REASON_BITS = 3,
	@since 7.3 SCX_TASK_REENQ_REASON_MASK = 0x7000,
	@since 7.1 SCX_TASK_REENQ_NONE = 0,
	@since 7.1 SCX_TASK_REENQ_KFUNC = 0x1000,
	@since 7.1 SCX_TASK_REENQ_IMMED = 0x2000,
	@since 7.1 SCX_TASK_REENQ_PREEMPTED = 0x3000,
	@since 7.3 SCX_TASK_REENQ_CAP = 0x4000,
	SCX_TASK_CURSOR = -2147483648,
};

/* How far a task has come: in p->scx.flags from SCX_TASK_STATE_SHIFT on. Since 7.1 in scx_ent_flags. */
@until 7.0 enum scx_task_state {
	SCX_TASK_NONE = 0,
	SCX_TASK_INIT = 1,
	SCX_TASK_READY = 2,
	SCX_TASK_ENABLED = 3,
	SCX_TASK_NR_STATES = 4,
};

/* p->scx.dsq_flags */
enum scx_ent_dsq_flags {
	SCX_TASK_DSQ_ON_PRIQ = 1,
};

enum scx_dsq_lnode_flags {
	SCX_DSQ_LNODE_ITER_CURSOR = 1,
	__SCX_DSQ_LNODE_PRIV_SHIFT = 16,
};

enum scx_dsq_iter_flags {
	SCX_DSQ_ITER_REV = 0x10000,
	__SCX_DSQ_ITER_HAS_SLICE = 0x40000000,
	__SCX_DSQ_ITER_HAS_VTIME = 0x80000000,
	__SCX_DSQ_ITER_USER_FLAGS = 0x10000,
	__SCX_DSQ_ITER_ALL_FLAGS = 0xc0010000,
};

/* p->scx.ops_state */
enum scx_ops_state {
	SCX_OPSS_NONE = 0,
	SCX_OPSS_QUEUEING = 1,
	SCX_OPSS_QUEUED = 2,
	SCX_OPSS_DISPATCHING = 3,
	SCX_OPSS_QSEQ_SHIFT = 2,
};

/* rq->scx.flags */
enum scx_rq_flags {
	SCX_RQ_ONLINE = 1,
	SCX_RQ_CAN_STOP_TICK = 2,
	@until 6.18 SCX_RQ_BAL_PENDING = 4,
	@until 7.1 SCX_RQ_BAL_KEEP = 8,
	@until 7.0 SCX_RQ_BYPASSING = 0x10,
	SCX_RQ_CLK_VALID = 0x20,
	@since 6.17 SCX_RQ_BAL_CB_PENDING = 0x40,
	@since 7.3 SCX_RQ_SUB_IDLE_RENOTIFY = 0x80,
	@since 7.3 SCX_RQ_ROOT_IDLE_RENOTIFY = 0x100,
	SCX_RQ_IN_WAKEUP = 0x10000,
	@until 7.2 SCX_RQ_IN_BALANCE = 0x20000,
	@since 7.3 SCX_RQ_IN_DISPATCH = 0x20000,
};

enum scx_enable_state {
	SCX_ENABLING = 0,
	SCX_ENABLED = 1,
	SCX_DISABLING = 2,
	SCX_DISABLED = 3,
};

enum scx_tg_flags {
	SCX_TG_ONLINE = 1,
	SCX_TG_INITED = 2,
	@since 7.3 SCX_TG_SUB_INIT = 4,
};

/* p->scx.kf_mask */
@until 7.0 enum scx_kf_mask {
	SCX_KF_UNLOCKED = 0,
	SCX_KF_CPU_RELEASE = 1,
	SCX_KF_DISPATCH = 2,
	SCX_KF_ENQUEUE = 4,
	SCX_KF_SELECT_CPU = 8,
	SCX_KF_REST = 16,
	__SCX_KF_RQ_LOCKED = 31,
	__SCX_KF_TERMINAL = 28,
};

@since 7.1 enum scx_kf_allow_flags {
	SCX_KF_ALLOW_UNLOCKED = 1,
	@until 7.1 SCX_KF_ALLOW_CPU_RELEASE = 2,
	@until 7.1 SCX_KF_ALLOW_DISPATCH = 4,
	@until 7.1 SCX_KF_ALLOW_ENQUEUE = 8,
	@until 7.1 SCX_KF_ALLOW_SELECT_CPU = 0x10,
	@since 7.2 @until 7.2 SCX_KF_ALLOW_INIT = 2,
	@since 7.3 SCX_KF_ALLOW_INIT_CIDS = 2,
	@since 7.2 SCX_KF_ALLOW_CPU_RELEASE = 4,
	@since 7.2 SCX_KF_ALLOW_DISPATCH = 8,
	@since 7.2 SCX_KF_ALLOW_ENQUEUE = 0x10,
	@since 7.2 SCX_KF_ALLOW_SELECT_CPU = 0x20,
};

/* How many operations `struct sched_ext_ops` has. */
enum scx_opi {
	SCX_OPI_BEGIN = 0,
	SCX_OPI_NORMAL_BEGIN = 0,
	@until 6.16 SCX_OPI_NORMAL_END = 29,
	@until 6.16 SCX_OPI_CPU_HOTPLUG_BEGIN = 29,
	@until 6.16 SCX_OPI_CPU_HOTPLUG_END = 31,
	@until 6.16 SCX_OPI_END = 31,
	@since 6.17 @until 6.18 SCX_OPI_NORMAL_END = 30,
	@since 6.17 @until 6.18 SCX_OPI_CPU_HOTPLUG_BEGIN = 30,
	@since 6.17 @until 6.18 SCX_OPI_CPU_HOTPLUG_END = 32,
	@since 6.17 @until 6.18 SCX_OPI_END = 32,
	@since 6.19 @until 7.0 SCX_OPI_NORMAL_END = 31,
	@since 7.2 @until 7.2 SCX_OPI_NORMAL_END = 31,
	@since 6.19 @until 7.0 SCX_OPI_CPU_HOTPLUG_BEGIN = 31,
	@since 7.2 @until 7.2 SCX_OPI_CPU_HOTPLUG_BEGIN = 31,
	@since 6.19 @until 7.0 SCX_OPI_CPU_HOTPLUG_END = 33,
	@since 7.2 @until 7.2 SCX_OPI_CPU_HOTPLUG_END = 33,
	@since 6.19 @until 7.0 SCX_OPI_END = 33,
	@since 7.2 @until 7.2 SCX_OPI_END = 33,
	@since 7.1 @until 7.1 SCX_OPI_NORMAL_END = 33,
	@since 7.3 SCX_OPI_NORMAL_END = 33,
	@since 7.1 @until 7.1 SCX_OPI_CPU_HOTPLUG_BEGIN = 33,
	@since 7.3 SCX_OPI_CPU_HOTPLUG_BEGIN = 33,
	@since 7.1 @until 7.1 SCX_OPI_CPU_HOTPLUG_END = 35,
	@since 7.3 SCX_OPI_CPU_HOTPLUG_END = 35,
	@since 7.1 @until 7.1 SCX_OPI_END = 35,
	@since 7.3 SCX_OPI_END = 35,
};

@since 7.1 enum scx_sched_pcpu_flags {
	SCX_SCHED_PCPU_BYPASSING = 1,
};

@since 7.2 enum scx_arena_consts {
	SCX_ARENA_MIN_ORDER = 3,
	SCX_ARENA_GROW_PAGES = 4,
};

@since 7.2 enum scx_dsp_verdict {
	SCX_DSP_NONE = 0,
	SCX_DSP_LOCAL = 1,
	SCX_DSP_PREV = 2,
	SCX_DSP_RETRY = 3,
};

@since 7.3 enum scx_slice_oob_consts : u64 {
	SCX_SLICE_OOB_DUR_BITS = 0x2b,
	SCX_SLICE_OOB_ID_BITS = 0x14,
	SCX_SLICE_OOB_DUR_MASK = 0x7ffffffffff,
	SCX_SLICE_OOB_ID_SHIFT = 0x2b,
	SCX_SLICE_OOB_ID_MASK = 0xfffff,
	SCX_SLICE_OOB_PENDING = 0x8000000000000000,
};
