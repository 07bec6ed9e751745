//! `struct task_struct` and `struct sched_ext_entity`: plain data with the kernel's names.
//!
//! Both are bytes with a fixed layout, and refer to other objects by index, so that the state
//! clones and a BPF machine can read and write the same fields at their offsets. What the
//! simulation itself must remember about a task is in [`crate::sim`].

use std::fmt;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::flags::{DsqId, SCX_SLICE_DFL, ent, policy, state};
use crate::{CpuId, Cpumask, NR_CPUS};

/// A process or thread id. 0 is the idle tasks'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Pid(pub i32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A task's place in the engine's slab. The place is used again after the task is freed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TaskIdx(pub u32);

impl fmt::Debug for TaskIdx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Ends a list, and stands for a missing reference, in the kernel objects.
pub(crate) const NIL: u32 = u32::MAX;

/// A node of a list that runs through tasks. `struct list_head`, by index. Off every list, `next`
/// is [`OFF_LIST`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct ListNode {
    pub next: u32,
    pub prev: u32,
}

/// `next` of a node that is on no list.
pub(crate) const OFF_LIST: u32 = u32::MAX - 1;

impl ListNode {
    pub const OFF: Self = Self { next: OFF_LIST, prev: OFF_LIST };

    pub fn is_on(&self) -> bool {
        self.next != OFF_LIST
    }
}

/// `SCX_TASK_*`: how far a task has come in its scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum TaskState {
    /// `ops.init_task` was not called yet.
    None = 0,
    /// `ops.init_task` is running.
    InitBegin = 1,
    /// `ops.init_task` succeeded; the fork can still be cancelled.
    Init = 2,
    /// Ready, but not in the ext class.
    Ready = 3,
    /// In the ext class.
    Enabled = 4,
    /// Past its last switch.
    Dead = 5,
}

/// Which class schedules a task; the order is the kernel's, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum SchedClass {
    /// `idle_sched_class`.
    Idle = 0,
    /// `ext_sched_class`.
    Ext = 1,
    /// `fair_sched_class`.
    Fair = 2,
}

impl SchedClass {
    /// The name of the kernel's symbol.
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Idle => "idle_sched_class",
            Self::Ext => "ext_sched_class",
            Self::Fair => "fair_sched_class",
        }
    }
}

/// `struct sched_ext_entity`: a task as sched_ext sees it.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedExtEntity {
    /// The task's id: unique, never 0, kept through exec, never used again. 0 only for the boot
    /// CPU's idle task, which nobody forked.
    pub tid: u64,
    /// CPU time left in ns; [`u64::MAX`] for no end. Of a running task as it was when it was last
    /// charged: see [`Cx::slice`](crate::Cx::slice).
    pub slice: u64,
    /// The order in a vtime queue.
    pub dsq_vtime: u64,
    /// When the task became runnable, in jiffies. The watchdog's clock.
    pub runnable_at: u64,
    /// Who has the task, and since which enqueue: see [`crate::flags::opss`].
    pub ops_state: u64,
    /// The queue of a direct dispatch that is pending.
    pub ddsp_dsq_id: u64,
    /// The flags of a direct dispatch that is pending.
    pub ddsp_enq_flags: u64,
    pub(crate) dsq_list: ListNode,
    pub(crate) runnable_node: ListNode,
    pub(crate) tasks_node: ListNode,
    pub(crate) sched: u32,
    pub(crate) dsq: u32,
    /// Which insertion into its queue it was.
    pub dsq_seq: u32,
    /// [`crate::flags::ent::DSQ_ON_PRIQ`].
    pub dsq_flags: u32,
    /// `SCX_TASK_*` bits, see [`crate::flags::ent`].
    pub flags: u32,
    /// The weight, 1..=10000; 100 for nice 0.
    pub weight: u32,
    /// The CPU that an internal migration goes to, or -1.
    pub sticky_cpu: i32,
    /// The CPU that holds the task while it moves between queues, or -1.
    pub holding_cpu: i32,
    /// The CPU that `ops.select_cpu` chose last.
    pub selected_cpu: i32,
    /// The sequence number of enqueues.
    pub ops_qseq: u32,
    /// Set by `ops.init_task` while a root scheduler attaches: the task may never use `SCHED_EXT`.
    pub disallow: u32,
    pub(crate) cgrp_moving_from: u32,
}

/// `struct sched_entity`, as far as there is one.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedEntity {
    /// When the task last got the CPU, ns.
    pub exec_start: u64,
    /// CPU time used, ns.
    pub sum_exec_runtime: u64,
    /// The fair class's clock for the task.
    pub vruntime: u64,
}

/// `struct task_struct`. What a wakeup and a switch need comes first.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct TaskStruct {
    /// What sched_ext keeps.
    pub scx: SchedExtEntity,
    /// What every class keeps.
    pub se: SchedEntity,
    /// Voluntary context switches.
    pub nvcsw: u64,
    /// See [`crate::flags::state`].
    pub __state: u32,
    /// `PF_*` bits, see [`crate::flags::pf`].
    pub flags: u32,
    /// 1 while it is runnable.
    pub on_rq: u32,
    /// 1 while it runs.
    pub on_cpu: u32,
    pub(crate) cpu: u32,
    pub(crate) sched_class: u32,
    /// How many CPUs the affinity has. Does not count [`TaskStruct::migration_disabled`].
    pub nr_cpus_allowed: u32,
    /// How often migration is disabled.
    pub migration_disabled: u32,
    /// The affinity.
    pub cpus_mask: Cpumask,
    /// When the task was forked, ns. A thread that takes over a leader's pid takes this too.
    pub start_time: u64,
    /// The same with the time that the machine slept, which it never does.
    pub start_boottime: u64,
    /// Involuntary context switches.
    pub nivcsw: u64,
    /// The scheduling policy's number: 0 normal, 3 batch, 5 idle, 7 ext.
    pub policy: u32,
    /// Priority: 100 + 20 + nice.
    pub static_prio: i32,
    /// The id of the thread. Changes in an exec by a thread that is not the leader.
    pub pid: i32,
    /// The id of the process.
    pub tgid: i32,
    /// How far its exit is: see [`crate::flags::state`].
    pub exit_state: i32,
    pub(crate) cgroup: u32,
    /// The name, ended by a zero.
    pub comm: [u8; 16],
}

/// Nice 0 as a priority.
pub(crate) const DEFAULT_PRIO: i32 = 120;

impl TaskStruct {
    /// `init_scx_entity()` and the rest of a task before anything is known of it.
    pub(crate) fn new() -> Self {
        let mut p = Self::new_zeroed();
        p.scx.slice = SCX_SLICE_DFL;
        p.scx.ddsp_dsq_id = DsqId::INVALID.0;
        p.scx.dsq_list = ListNode::OFF;
        p.scx.runnable_node = ListNode::OFF;
        p.scx.tasks_node = ListNode::OFF;
        p.scx.sched = NIL;
        p.scx.dsq = NIL;
        p.scx.sticky_cpu = -1;
        p.scx.holding_cpu = -1;
        p.scx.cgrp_moving_from = NIL;
        p.__state = state::TASK_NEW;
        p.static_prio = DEFAULT_PRIO;
        p.sched_class = SchedClass::Fair as u32;
        p
    }

    /// The id of the thread.
    pub fn pid(&self) -> Pid {
        Pid(self.pid)
    }

    /// The name.
    pub fn comm(&self) -> &str {
        let end = self.comm.iter().position(|&b| b == 0).unwrap_or(self.comm.len());
        std::str::from_utf8(&self.comm[..end]).unwrap_or("?")
    }

    /// `comm[pid]`, as the kernel's messages name a task.
    pub(crate) fn who(&self) -> String {
        format!("{}[{}]", self.comm(), self.pid)
    }

    /// As the kernel keeps a name: cut to 15 bytes, here at a character's boundary.
    pub(crate) fn set_comm(&mut self, name: &str) {
        let mut end = name.len().min(15);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        self.comm = [0; 16];
        self.comm[..end].copy_from_slice(&name.as_bytes()[..end]);
    }

    /// The CPU the task runs on, or ran on last.
    pub fn task_cpu(&self) -> CpuId {
        CpuId(self.cpu)
    }

    /// Whether the task may run on `cpu` now (`p->cpus_ptr`).
    #[inline]
    pub fn cpu_allowed(&self, cpu: CpuId) -> bool {
        if self.migration_disabled > 0 { self.cpu == cpu.0 } else { self.cpus_mask.test(cpu) }
    }

    /// `*p->cpus_ptr`: the affinity, or just the CPU at hand while migration is disabled.
    pub fn cpus_ptr(&self) -> Cpumask {
        if self.migration_disabled > 0 { Cpumask::of(self.task_cpu()) } else { self.cpus_mask }
    }

    /// The class that schedules the task.
    pub fn sched_class(&self) -> SchedClass {
        match self.sched_class {
            0 => SchedClass::Idle,
            1 => SchedClass::Ext,
            _ => SchedClass::Fair,
        }
    }

    /// `scx_get_task_state()`.
    pub fn task_state(&self) -> TaskState {
        match (self.scx.flags & ent::STATE_MASK) >> ent::STATE_SHIFT {
            0 => TaskState::None,
            1 => TaskState::InitBegin,
            2 => TaskState::Init,
            3 => TaskState::Ready,
            4 => TaskState::Enabled,
            _ => TaskState::Dead,
        }
    }

    /// The nice value.
    pub fn nice(&self) -> i32 {
        self.static_prio - DEFAULT_PRIO
    }

    /// Whether `SCX_TASK_QUEUED` is set.
    pub(crate) fn queued(&self) -> bool {
        self.scx.flags & ent::QUEUED != 0
    }

    pub(crate) fn in_custody(&self) -> bool {
        self.scx.flags & ent::IN_CUSTODY != 0
    }

    /// `task_state_to_char()`: the letter that `ps` shows.
    pub(crate) fn state_char(&self) -> char {
        match self.__state {
            _ if self.exit_state == state::EXIT_DEAD => 'X',
            _ if self.exit_state == state::EXIT_ZOMBIE => 'Z',
            state::TASK_INTERRUPTIBLE => 'S',
            s if s & state::TASK_UNINTERRUPTIBLE != 0 => 'D',
            _ => 'R',
        }
    }

    /// The load weight of the nice value (`sched_prio_to_weight[]`), or that of `SCHED_IDLE`.
    pub fn load_weight(&self) -> u64 {
        const WEIGHT_IDLEPRIO: u64 = 3;
        if self.policy == policy::SCHED_IDLE {
            return WEIGHT_IDLEPRIO;
        }
        SCHED_PRIO_TO_WEIGHT[(self.static_prio - 100).clamp(0, 39) as usize]
    }
}

/// `sched_prio_to_weight[]` in `kernel/sched/core.c`: each step is about 10 % of a CPU.
const SCHED_PRIO_TO_WEIGHT: [u64; 40] = [
    88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916, 9548, 7620, 6100, 4904,
    3906, 3121, 2501, 1991, 1586, 1277, 1024, 820, 655, 526, 423, 335, 272, 215, 172, 137, 110, 87,
    70, 56, 45, 36, 29, 23, 18, 15,
];

/// `sched_weight_to_cgroup()`: a load weight on the scale where nice 0 is 100.
pub(crate) fn sched_weight_to_cgroup(weight: u64) -> u32 {
    ((weight * 100 + 512) / 1024).clamp(1, 10_000) as u32
}

const _: () = assert!(NR_CPUS.is_multiple_of(64));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_the_kernels() {
        let mut p = TaskStruct::new();
        p.static_prio = 100;
        assert_eq!(sched_weight_to_cgroup(p.load_weight()), 8668, "nice -20, as scx_qmap says");
        p.static_prio = 120;
        assert_eq!(sched_weight_to_cgroup(p.load_weight()), 100);
        p.static_prio = 139;
        assert_eq!(sched_weight_to_cgroup(p.load_weight()), 1);
    }

    #[test]
    fn names_are_cut_at_fifteen_bytes() {
        let mut p = TaskStruct::new();
        p.set_comm("a-name-of-twenty-byte");
        assert_eq!(p.comm(), "a-name-of-twent");
        p.set_comm("ääääääää");
        assert_eq!(p.comm(), "äääääää");
    }

    #[test]
    fn a_task_is_bytes() {
        let p = TaskStruct::new();
        assert_eq!(TaskStruct::read_from_bytes(p.as_bytes()).unwrap().scx.sticky_cpu, -1);
    }
}
