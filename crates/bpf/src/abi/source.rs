//! Where the value of each field of a kernel object comes from.
//!
//! A BPF program has a pointer to an object and reads at an offset; [`super::Abi::field_at`] says
//! which field that is, and its [`Source`] what the engine is to answer. A field that is
//! [`Source::Private`] is declared because the kernel's BTF has it, and a scheduler may ask whether
//! it is there; what it holds is the kernel core's own business, and the engine keeps it otherwise.

/// Where a field's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// It is always this: `NULL`, or what follows from how the engine's machine is.
    Constant(u64),
    /// The task.
    Task(Task),
    /// The task's `struct sched_ext_entity`.
    Scx(Scx),
    /// A process: what `struct signal_struct` is about.
    Process(Process),
    /// A pid: `struct pid`.
    Pid(Pid),
    /// A cgroup, in whichever structure the kernel has the field.
    Cgroup(Cgroup),
    /// A CPU: `struct rq` or `struct scx_rq`.
    Rq(Rq),
    /// A dispatch queue.
    Dsq(Dsq),
    /// How many tasks the table from tid to task has.
    TidsInTable,
    /// The address of the only object of its kind: see [`Only`].
    Only(Only),
    /// The kernel's own bookkeeping. To read it is an error that names the field.
    Private,
}

/// Of a task. Where a field is a pointer to another object, the value is that object's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    /// The CPU that it is on, or was on last.
    Cpu,
    /// `__state`.
    State,
    /// `PF_*`.
    Flags,
    /// 1 while it runs.
    OnCpu,
    /// 1 while it is runnable.
    OnRq,
    /// 100 + 20 + nice.
    StaticPrio,
    /// The load weight of its nice value.
    LoadWeight,
    /// Whether the fair class has it.
    OnFair,
    /// ns.
    ExecStart,
    /// ns, up to now if it runs.
    SumExecRuntime,
    /// The fair class's clock.
    Vruntime,
    /// An address that stands for its class.
    SchedClass,
    /// Its cgroup, as a `struct task_group`.
    TaskGroup,
    /// `policy`.
    Policy,
    /// How many CPUs the affinity has.
    NrCpusAllowed,
    /// The address of [`Task::CpusMask`], or of a mask of one CPU while migration is disabled.
    CpusPtr,
    /// The affinity.
    CpusMask,
    /// How often migration is disabled.
    MigrationDisabled,
    /// An address that stands for its memory, or `NULL`.
    Mm,
    /// `exit_state`.
    ExitState,
    /// The thread's id.
    Pid,
    /// The process's id.
    Tgid,
    /// The leader of the process that waits for it.
    RealParent,
    /// The leader of its process.
    GroupLeader,
    /// Its `struct pid`; `NULL` once it has none.
    ThreadPid,
    /// Its place in its process's list of threads.
    ThreadNode,
    /// Voluntary switches.
    Nvcsw,
    /// Involuntary switches.
    Nivcsw,
    /// ns.
    StartTime,
    /// Its name.
    Comm,
    /// Its process, as a `struct signal_struct`.
    Signal,
    /// Its cgroup, as a `struct css_set`.
    Cgroups,
}

/// Of `struct sched_ext_entity`: the engine's fields of the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scx {
    /// The address of the queue, or `NULL`.
    Dsq,
    /// `dsq_seq`.
    DsqSeq,
    /// `dsq_flags`.
    DsqFlags,
    /// `flags`, whose bits differ between versions: see `enum scx_ent_flags`.
    Flags,
    /// `weight`.
    Weight,
    /// `sticky_cpu`.
    StickyCpu,
    /// `holding_cpu`.
    HoldingCpu,
    /// `selected_cpu`.
    SelectedCpu,
    /// `ops_state`.
    OpsState,
    /// `ops_qseq`.
    OpsQseq,
    /// `runnable_at`, jiffies.
    RunnableAt,
    /// `ddsp_dsq_id`.
    DdspDsqId,
    /// `ddsp_enq_flags`.
    DdspEnqFlags,
    /// `slice`, ns.
    Slice,
    /// `dsq_vtime`.
    DsqVtime,
    /// `disallow`.
    Disallow,
    /// The address of the cgroup, or `NULL`.
    CgrpMovingFrom,
    /// An address that stands for the scheduler, or `NULL`.
    Sched,
    /// `tid`.
    Tid,
}

/// Of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Process {
    /// Threads that have not begun to exit.
    Live,
    /// Threads that are not released.
    NrThreads,
    /// The list of its threads.
    ThreadHead,
    /// Addresses of `struct pid` by `enum pid_type`.
    Pids,
}

/// Of a `struct pid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pid {
    /// The number.
    Number,
}

/// Of a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cgroup {
    /// The address of its `struct cgroup`.
    Itself,
    /// The address of its `struct cgroup_subsys_state`, which all controllers share.
    Css,
    /// The same as an array, with an address for each controller.
    CssOfEach,
    /// The address of its parent's `struct cgroup_subsys_state`, or `NULL`.
    ParentCss,
    /// The address of its parent's `struct task_group`, or `NULL`.
    ParentTaskGroup,
    /// The address of its parent's `struct kernfs_node`, or `NULL`.
    ParentKn,
    /// The address of its `struct kernfs_node`.
    Kn,
    /// Its number in the controller: that in the order of creation, from 1.
    CssId,
    /// `cgroup_id()`.
    Id,
    /// The address of the last part of its path, as text.
    Name,
    /// How deep it is; 0 for the root.
    Level,
    /// The addresses of its ancestors, by level.
    Ancestors,
}

/// Of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rq {
    /// Its number.
    Cpu,
    /// 1 while it is online.
    Online,
    /// Runnable tasks of all classes.
    NrRunning,
    /// The address of the task that runs.
    Curr,
    /// The address of its idle task.
    Idle,
    /// ns.
    Clock,
    /// Runnable tasks of the ext class.
    ScxNrRunning,
    /// `enum scx_rq_flags`.
    ScxFlags,
    /// Whether a higher class has the CPU.
    CpuReleased,
    /// What was asked for by `scx_bpf_cpuperf_set()`.
    CpuperfTarget,
    /// What `scx_bpf_now()` gives; ns.
    ScxClock,
}

/// Of a dispatch queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dsq {
    /// Tasks in it.
    Nr,
    /// Insertions so far.
    Seq,
    /// Its id.
    Id,
    /// The address of the first task, or `NULL`.
    FirstTask,
    /// An address that stands for its scheduler.
    Sched,
}

/// Objects of which there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Only {
    /// `init_cred`.
    Cred,
    /// `init_nsproxy`.
    Nsproxy,
    /// `init_pid_ns`.
    PidNamespace,
    /// The root of the cgroup hierarchy.
    CgroupRoot,
}

/// Every CPU's capacity, and the target of its frequency: `SCHED_CAPACITY_SCALE`.
const CAPACITY: Source = Source::Constant(1024);
/// `PID_NS_INIT_INO`.
const INIT_PID_NS: Source = Source::Constant(0xefff_fffc);
/// `CSS_ONLINE | CSS_VISIBLE`.
const CSS_FLAGS: Source = Source::Constant(1 << 1 | 1 << 3);
const NONE: Source = Source::Constant(0);
/// `NUMA_NO_NODE`.
const NO_NODE: Source = Source::Constant(u32::MAX as u64);

/// Structure, member, source. A member that is a structure itself is here if it is one value, and
/// not if its members are.
#[rustfmt::skip]
pub(super) const SOURCES: &[(&str, &str, Source)] = &[
    ("thread_info", "cpu", Source::Task(Task::Cpu)),
    ("load_weight", "weight", Source::Task(Task::LoadWeight)),
    ("sched_entity", "on_rq", Source::Task(Task::OnFair)),
    ("sched_entity", "exec_start", Source::Task(Task::ExecStart)),
    ("sched_entity", "sum_exec_runtime", Source::Task(Task::SumExecRuntime)),
    ("sched_entity", "vruntime", Source::Task(Task::Vruntime)),

    ("sched_ext_entity", "dsq", Source::Scx(Scx::Dsq)),
    ("sched_ext_entity", "dsq_list", Source::Private),
    ("sched_ext_entity", "dsq_priq", Source::Private),
    ("sched_ext_entity", "dsq_seq", Source::Scx(Scx::DsqSeq)),
    ("sched_ext_entity", "dsq_flags", Source::Scx(Scx::DsqFlags)),
    ("sched_ext_entity", "flags", Source::Scx(Scx::Flags)),
    ("sched_ext_entity", "weight", Source::Scx(Scx::Weight)),
    ("sched_ext_entity", "sticky_cpu", Source::Scx(Scx::StickyCpu)),
    ("sched_ext_entity", "holding_cpu", Source::Scx(Scx::HoldingCpu)),
    ("sched_ext_entity", "selected_cpu", Source::Scx(Scx::SelectedCpu)),
    ("sched_ext_entity", "kf_mask", Source::Private),
    ("sched_ext_entity", "kf_tasks", Source::Private),
    ("sched_ext_entity", "ops_state", Source::Scx(Scx::OpsState)),
    ("sched_ext_entity", "ops_qseq", Source::Scx(Scx::OpsQseq)),
    ("sched_ext_entity", "runnable_node", Source::Private),
    ("sched_ext_entity", "runnable_at", Source::Scx(Scx::RunnableAt)),
    ("sched_ext_entity", "runnable_cpu", Source::Private),
    ("sched_ext_entity", "ddsp_dsq_id", Source::Scx(Scx::DdspDsqId)),
    ("sched_ext_entity", "ddsp_enq_flags", Source::Scx(Scx::DdspEnqFlags)),
    ("sched_ext_entity", "ddsp_slice", Source::Private),
    ("sched_ext_entity", "ddsp_vtime", Source::Private),
    ("sched_ext_entity", "reenq_cnt", Source::Private),
    ("sched_ext_entity", "reenq_reason_caps", Source::Private),
    ("sched_ext_entity", "reenq_reason_cid", Source::Private),
    ("sched_ext_entity", "rescue_at", Source::Private),
    ("sched_ext_entity", "slice", Source::Scx(Scx::Slice)),
    ("sched_ext_entity", "slice_oob", Source::Private),
    ("sched_ext_entity", "dsq_vtime", Source::Scx(Scx::DsqVtime)),
    ("sched_ext_entity", "disallow", Source::Scx(Scx::Disallow)),
    ("sched_ext_entity", "cgrp_moving_from", Source::Scx(Scx::CgrpMovingFrom)),
    ("sched_ext_entity", "sched", Source::Scx(Scx::Sched)),
    ("sched_ext_entity", "tasks_node", Source::Private),
    ("sched_ext_entity", "tid", Source::Scx(Scx::Tid)),
    ("sched_ext_entity", "tid_hash_node", Source::Private),

    ("task_struct", "__state", Source::Task(Task::State)),
    ("task_struct", "flags", Source::Task(Task::Flags)),
    ("task_struct", "on_cpu", Source::Task(Task::OnCpu)),
    ("task_struct", "on_rq", Source::Task(Task::OnRq)),
    ("task_struct", "wake_cpu", Source::Task(Task::Cpu)),
    ("task_struct", "prio", Source::Task(Task::StaticPrio)),
    ("task_struct", "static_prio", Source::Task(Task::StaticPrio)),
    ("task_struct", "normal_prio", Source::Task(Task::StaticPrio)),
    ("task_struct", "rt_priority", NONE),
    ("task_struct", "sched_class", Source::Task(Task::SchedClass)),
    ("task_struct", "sched_task_group", Source::Task(Task::TaskGroup)),
    ("task_struct", "policy", Source::Task(Task::Policy)),
    ("task_struct", "nr_cpus_allowed", Source::Task(Task::NrCpusAllowed)),
    ("task_struct", "cpus_ptr", Source::Task(Task::CpusPtr)),
    ("task_struct", "cpus_mask", Source::Task(Task::CpusMask)),
    ("task_struct", "wakee_flips", NONE),
    ("task_struct", "wakee_flip_decay_ts", NONE),
    ("task_struct", "last_wakee", NONE),
    ("task_struct", "in_iowait", NONE),
    ("task_struct", "min_flt", NONE),
    ("task_struct", "maj_flt", NONE),
    ("task_struct", "numa_preferred_nid", NO_NODE),
    ("task_struct", "migration_disabled", Source::Task(Task::MigrationDisabled)),
    ("task_struct", "mm", Source::Task(Task::Mm)),
    ("task_struct", "exit_state", Source::Task(Task::ExitState)),
    ("task_struct", "pid", Source::Task(Task::Pid)),
    ("task_struct", "tgid", Source::Task(Task::Tgid)),
    ("task_struct", "real_parent", Source::Task(Task::RealParent)),
    ("task_struct", "parent", Source::Task(Task::RealParent)),
    ("task_struct", "group_leader", Source::Task(Task::GroupLeader)),
    ("task_struct", "thread_pid", Source::Task(Task::ThreadPid)),
    ("task_struct", "thread_node", Source::Task(Task::ThreadNode)),
    ("task_struct", "utime", Source::Task(Task::SumExecRuntime)),
    ("task_struct", "stime", NONE),
    ("task_struct", "nvcsw", Source::Task(Task::Nvcsw)),
    ("task_struct", "nivcsw", Source::Task(Task::Nivcsw)),
    ("task_struct", "start_time", Source::Task(Task::StartTime)),
    ("task_struct", "start_boottime", Source::Task(Task::StartTime)),
    ("task_struct", "real_cred", Source::Only(Only::Cred)),
    ("task_struct", "cred", Source::Only(Only::Cred)),
    ("task_struct", "comm", Source::Task(Task::Comm)),
    ("task_struct", "nsproxy", Source::Only(Only::Nsproxy)),
    ("task_struct", "signal", Source::Task(Task::Signal)),
    ("task_struct", "cgroups", Source::Task(Task::Cgroups)),
    ("task_struct", "mempolicy", NONE),

    ("sched_statistics", "wait_start", NONE),
    ("sched_statistics", "wait_max", NONE),
    ("sched_statistics", "wait_count", NONE),
    ("sched_statistics", "wait_sum", NONE),
    ("sched_statistics", "iowait_count", NONE),
    ("sched_statistics", "iowait_sum", NONE),
    ("sched_statistics", "sleep_start", NONE),
    ("sched_statistics", "sleep_max", NONE),
    ("sched_statistics", "sum_sleep_runtime", NONE),
    ("sched_statistics", "block_start", NONE),
    ("sched_statistics", "block_max", NONE),
    ("sched_statistics", "sum_block_runtime", NONE),
    ("sched_statistics", "exec_max", NONE),
    ("sched_statistics", "slice_max", NONE),
    ("sched_statistics", "nr_wakeups", NONE),
    ("sched_statistics", "nr_wakeups_sync", NONE),
    ("sched_statistics", "nr_wakeups_migrate", NONE),
    ("sched_statistics", "nr_wakeups_local", NONE),
    ("sched_statistics", "nr_wakeups_remote", NONE),
    ("signal_struct", "live", Source::Process(Process::Live)),
    ("signal_struct", "nr_threads", Source::Process(Process::NrThreads)),
    ("signal_struct", "thread_head", Source::Process(Process::ThreadHead)),
    ("signal_struct", "pids", Source::Process(Process::Pids)),
    ("pid", "level", NONE),
    ("upid", "nr", Source::Pid(Pid::Number)),
    ("upid", "ns", Source::Only(Only::PidNamespace)),
    ("nsproxy", "pid_ns_for_children", Source::Only(Only::PidNamespace)),
    ("pid_namespace", "level", NONE),
    ("ns_common", "inum", INIT_PID_NS),
    ("cred", "uid", NONE),
    ("cred", "gid", NONE),
    ("cred", "suid", NONE),
    ("cred", "sgid", NONE),
    ("cred", "euid", NONE),
    ("cred", "egid", NONE),
    ("cred", "fsuid", NONE),
    ("cred", "fsgid", NONE),

    ("percpu_ref", "percpu_count_ptr", NONE),
    ("kernfs_node", "__parent", Source::Cgroup(Cgroup::ParentKn)),
    ("kernfs_node", "name", Source::Cgroup(Cgroup::Name)),
    ("kernfs_node", "id", Source::Cgroup(Cgroup::Id)),
    ("cgroup_subsys_state", "cgroup", Source::Cgroup(Cgroup::Itself)),
    ("cgroup_subsys_state", "id", Source::Cgroup(Cgroup::CssId)),
    ("cgroup_subsys_state", "flags", CSS_FLAGS),
    ("cgroup_subsys_state", "parent", Source::Cgroup(Cgroup::ParentCss)),
    ("cgroup", "level", Source::Cgroup(Cgroup::Level)),
    ("cgroup", "kn", Source::Cgroup(Cgroup::Kn)),
    ("cgroup", "subsys", Source::Cgroup(Cgroup::CssOfEach)),
    ("cgroup", "root", Source::Only(Only::CgroupRoot)),
    ("cgroup", "dom_cgrp", Source::Cgroup(Cgroup::Itself)),
    ("cgroup", "ancestors", Source::Cgroup(Cgroup::Ancestors)),
    ("cgroup_root", "hierarchy_id", NONE),
    ("css_set", "subsys", Source::Cgroup(Cgroup::CssOfEach)),
    ("css_set", "dfl_cgrp", Source::Cgroup(Cgroup::Itself)),
    ("task_group", "parent", Source::Cgroup(Cgroup::ParentTaskGroup)),

    ("scx_dispatch_q", "nr", Source::Dsq(Dsq::Nr)),
    ("scx_dispatch_q", "seq", Source::Dsq(Dsq::Seq)),
    ("scx_dispatch_q", "id", Source::Dsq(Dsq::Id)),
    ("scx_dispatch_q", "first_task", Source::Dsq(Dsq::FirstTask)),
    ("scx_dispatch_q", "sched", Source::Dsq(Dsq::Sched)),
    ("scx_rq", "nr_running", Source::Rq(Rq::ScxNrRunning)),
    ("scx_rq", "cpuperf_target", Source::Rq(Rq::CpuperfTarget)),
    ("scx_rq", "cpu_released", Source::Rq(Rq::CpuReleased)),
    ("scx_rq", "flags", Source::Rq(Rq::ScxFlags)),
    ("scx_rq", "clock", Source::Rq(Rq::ScxClock)),
    ("rhashtable", "nelems", Source::TidsInTable),
    ("rq", "nr_running", Source::Rq(Rq::NrRunning)),
    ("rq", "curr", Source::Rq(Rq::Curr)),
    ("rq", "idle", Source::Rq(Rq::Idle)),
    ("rq", "clock", Source::Rq(Rq::Clock)),
    ("rq", "clock_task", Source::Rq(Rq::Clock)),
    ("rq", "clock_pelt", Source::Rq(Rq::Clock)),
    ("rq", "lost_idle_time", NONE),
    ("rq", "cpu_capacity", CAPACITY),
    ("rq", "cpu", Source::Rq(Rq::Cpu)),
    ("rq", "online", Source::Rq(Rq::Online)),
];

/// The structures that programs have pointers to, and whose fields have sources.
#[cfg(test)]
pub(super) const OBJECTS: &[&str] = &[
    "task_struct",
    "signal_struct",
    "pid",
    "nsproxy",
    "pid_namespace",
    "cred",
    "kernfs_node",
    "cgroup_subsys_state",
    "cgroup",
    "cgroup_root",
    "css_set",
    "task_group",
    "scx_dispatch_q",
    "rhashtable",
    "rq",
];
