//! The kernel's objects as programs see them: regions whose bytes the engine has.
//!
//! A region stands for an [`Object`], and is made when a program first gets its address. What it
//! has at an offset says the table of its structure ([`fields`]), which is made once from the
//! kernel's declarations; `outside.rs` asks the engine for it.

pub(super) mod fields;
mod outside;

use std::collections::BTreeMap;

use scxlab_engine::{CpuId, Cx, ProcessId, QueueId, SchedClass, Slot, Task};

pub(super) use self::fields::Layouts;
use self::fields::Structure;
pub(super) use self::outside::Outside;
use crate::abi::source::Only;
use crate::machine::{Full, Memory, Region, RegionId, address};

/// Something of the kernel's that has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Object {
    /// `struct task_struct`.
    Task(Slot),
    /// `struct signal_struct`.
    Process(ProcessId),
    /// `struct mm_struct`, which is only compared.
    Memory(ProcessId),
    /// `struct pid`, by its number.
    Pid(i32),
    /// `struct cgroup`, by its id; so are the next four.
    Cgroup(u64),
    /// `struct css_set`.
    CssSet(u64),
    /// `struct task_group`.
    TaskGroup(u64),
    /// `struct kernfs_node`.
    Kernfs(u64),
    /// The name of a [`Object::Kernfs`].
    KernfsName(u64),
    /// `struct rq`.
    Rq(CpuId),
    /// `struct scx_dispatch_q`, if it is not part of a runqueue.
    Queue(QueueId),
    /// There is one.
    Only(Only),
    /// `struct sched_class`, which is only compared.
    Class(SchedClass),
    /// `struct scx_sched`, which is only compared.
    Sched(u32),
    /// `struct cpumask`.
    Mask(Mask),
    /// A variable of the kernel's, if it is of each CPU that of CPU 0.
    Variable(Variable),
    /// A variable of a CPU.
    OfCpu(Variable, CpuId),
}

/// CPU masks of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mask {
    /// No CPU.
    None,
    /// `cpu_possible_mask`, which `cpu_online_mask` equals.
    All,
    /// Those that are idle.
    Idle,
    /// Those whose cores are idle.
    IdleCores,
    /// `cpumask_of()`.
    One(CpuId),
}

/// Variables of the kernel's whose address programs can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Variable {
    /// `runqueues`, of each CPU.
    Runqueues,
    /// `current_task`, of each CPU.
    CurrentTask,
    /// `sd_llc_id`, of each CPU.
    LlcId,
    /// `sd_llc_size`, of each CPU.
    LlcSize,
    /// `cpufreq_cpu_data`, of each CPU.
    Cpufreq,
    /// `jiffies`.
    Jiffies,
    /// `nr_cpu_ids`.
    NrCpuIds,
    /// `scx_tid_hash`.
    Tids,
}

impl Variable {
    /// The variable of this name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "runqueues" => Self::Runqueues,
            "current_task" => Self::CurrentTask,
            "sd_llc_id" => Self::LlcId,
            "sd_llc_size" => Self::LlcSize,
            "cpufreq_cpu_data" => Self::Cpufreq,
            "jiffies" => Self::Jiffies,
            "nr_cpu_ids" => Self::NrCpuIds,
            "scx_tid_hash" => Self::Tids,
            _ => return None,
        })
    }

    /// Whether each CPU has one.
    fn is_per_cpu(self) -> bool {
        !matches!(self, Self::Jiffies | Self::NrCpuIds | Self::Tids)
    }

    /// Its name, and how many bytes it has.
    fn shape(self) -> (&'static str, u64) {
        match self {
            Self::Runqueues => ("runqueues", 0),
            Self::CurrentTask => ("current_task", 8),
            Self::LlcId => ("sd_llc_id", 4),
            Self::LlcSize => ("sd_llc_size", 4),
            Self::Cpufreq => ("cpufreq_cpu_data", 8),
            Self::Jiffies => ("jiffies", 8),
            Self::NrCpuIds => ("nr_cpu_ids", 4),
            Self::Tids => ("scx_tid_hash", 0),
        }
    }
}

impl Object {
    /// `per_cpu_ptr()`: the variable of a CPU, of one that each CPU has.
    pub fn of_cpu(self, cpu: CpuId) -> Option<Self> {
        match self {
            Self::Variable(Variable::Runqueues) => Some(Self::Rq(cpu)),
            Self::Variable(variable) if variable.is_per_cpu() => Some(Self::OfCpu(variable, cpu)),
            _ => None,
        }
    }

    /// Its structure, if it has fields.
    fn structure(self) -> Option<Structure> {
        Some(match self {
            Self::Task(_) => Structure::Task,
            Self::Process(_) => Structure::Process,
            Self::Pid(_) => Structure::Pid,
            Self::Cgroup(_) => Structure::Cgroup,
            Self::CssSet(_) => Structure::CssSet,
            Self::TaskGroup(_) => Structure::TaskGroup,
            Self::Kernfs(_) => Structure::Kernfs,
            Self::Rq(_) | Self::Variable(Variable::Runqueues) => Structure::Rq,
            Self::Queue(_) => Structure::Queue,
            Self::Only(Only::Cred) => Structure::Cred,
            Self::Only(Only::Nsproxy) => Structure::Nsproxy,
            Self::Only(Only::PidNamespace) => Structure::PidNamespace,
            Self::Only(Only::CgroupRoot) => Structure::CgroupRoot,
            Self::Variable(Variable::Tids) => Structure::Tids,
            _ => return None,
        })
    }

    /// What to call it.
    fn name(self, cx: &Cx<'_>) -> String {
        let path = |id| cx.cgroup_path(id).unwrap_or("none").to_owned();
        match self {
            Self::Task(slot) => match cx.task_in(slot).map(|p| cx.get(p)) {
                Some(task) => format!("the task_struct of {}[{}]", task.comm(), task.pid),
                None => "the task_struct of a task that is gone".to_owned(),
            },
            Self::Process(id) | Self::Memory(id) => {
                let what = if matches!(self, Self::Process(_)) { "signal" } else { "mm" };
                match cx.leader(id).map(|p| cx.get(p)) {
                    Some(task) => format!("the {what}_struct of {}[{}]", task.comm(), task.pid),
                    None => format!("the {what}_struct of a process that is gone"),
                }
            }
            Self::Pid(number) => format!("the struct pid of {number}"),
            Self::Cgroup(id) => format!("the cgroup {}", path(id)),
            Self::CssSet(id) => format!("the css_set of {}", path(id)),
            Self::TaskGroup(id) => format!("the task_group of {}", path(id)),
            Self::Kernfs(id) => format!("the kernfs_node of {}", path(id)),
            Self::KernfsName(id) => format!("the name of the cgroup {}", path(id)),
            Self::Rq(cpu) => format!("the runqueue of CPU {cpu}"),
            Self::Queue(id) => match cx.queue(id) {
                Some(queue) => format!("the dispatch queue {:#x}", queue.id.0),
                None => "a dispatch queue that is gone".to_owned(),
            },
            Self::Only(Only::Cred) => "init_cred".to_owned(),
            Self::Only(Only::Nsproxy) => "init_nsproxy".to_owned(),
            Self::Only(Only::PidNamespace) => "init_pid_ns".to_owned(),
            Self::Only(Only::CgroupRoot) => "the root of the cgroups".to_owned(),
            Self::Class(class) => class.symbol().to_owned(),
            Self::Sched(number) => format!("scheduler {number}"),
            Self::Mask(Mask::None) => "cpu_none_mask".to_owned(),
            Self::Mask(Mask::All) => "cpu_possible_mask".to_owned(),
            Self::Mask(Mask::Idle) => "the mask of idle CPUs".to_owned(),
            Self::Mask(Mask::IdleCores) => "the mask of idle cores".to_owned(),
            Self::Mask(Mask::One(cpu)) => format!("cpumask_of({cpu})"),
            Self::Variable(variable) => variable.shape().0.to_owned(),
            Self::OfCpu(variable, cpu) => format!("{} of CPU {cpu}", variable.shape().0),
        }
    }
}

/// Regions of objects that come and go, by the place where the engine keeps them.
type Places = Vec<Option<(RegionId, u32)>>;

/// Which regions stand for which objects.
#[derive(Clone, Debug, Default)]
pub(super) struct Objects {
    tasks: Places,
    processes: Places,
    memories: Places,
    others: BTreeMap<Object, RegionId>,
    /// By the region's number.
    by_region: Vec<Option<Object>>,
}

impl Objects {
    /// The object that a region stands for.
    pub fn in_region(&self, region: RegionId) -> Option<Object> {
        *self.by_region.get(region.index())?
    }

    /// The object at whose first byte an address is.
    pub fn at(&self, addr: u64) -> Option<Object> {
        let object = self.in_region(RegionId::of(addr)?)?;
        (address::offset(addr) == 0).then_some(object)
    }

    /// The region of an object, if there is one yet.
    pub fn find(&self, object: Object) -> Option<RegionId> {
        let (places, index, generation) = match object {
            Object::Task(slot) => (&self.tasks, slot.index, slot.generation),
            Object::Process(id) => (&self.processes, id.index, id.generation),
            Object::Memory(id) => (&self.memories, id.index, id.generation),
            _ => return self.others.get(&object).copied(),
        };
        let (region, of) = (*places.get(index as usize)?)?;
        (of == generation).then_some(region)
    }

    /// The region of an object, which is made if there is none. That of another one that was kept
    /// in the same place is freed.
    pub fn region(
        &mut self,
        memory: &mut Memory,
        layouts: &Layouts,
        cx: &Cx<'_>,
        object: Object,
    ) -> Result<RegionId, Full> {
        if let Some(region) = self.find(object) {
            return Ok(region);
        }
        let region = Self::make(memory, layouts, cx, object)?;
        let (places, index, generation) = match object {
            Object::Task(slot) => (&mut self.tasks, slot.index, slot.generation),
            Object::Process(id) => (&mut self.processes, id.index, id.generation),
            Object::Memory(id) => (&mut self.memories, id.index, id.generation),
            _ => {
                self.others.insert(object, region);
                self.stands_for(region, Some(object));
                return Ok(region);
            }
        };
        let index = index as usize;
        if index >= places.len() {
            places.resize(index + 1, None);
        }
        let former = places[index].replace((region, generation));
        self.stands_for(region, Some(object));
        if let Some((former, _)) = former {
            memory.free(former);
            self.stands_for(former, None);
        }
        Ok(region)
    }

    fn stands_for(&mut self, region: RegionId, object: Option<Object>) {
        let index = region.index();
        if index >= self.by_region.len() {
            self.by_region.resize(index + 1, None);
        }
        self.by_region[index] = object;
    }

    fn make(
        memory: &mut Memory,
        layouts: &Layouts,
        cx: &Cx<'_>,
        object: Object,
    ) -> Result<RegionId, Full> {
        let name = object.name(cx);
        if let Object::KernfsName(id) = object {
            let path = cx.cgroup_path(id).unwrap_or_default();
            let last = path.rsplit('/').next().unwrap_or_default();
            let text = [last.as_bytes(), b"\0"].concat();
            return memory.alloc(Region::read_only(name), text);
        }
        let size = match (object, object.structure()) {
            (Object::Cgroup(id), _) => {
                let layout = layouts.of(Structure::Cgroup);
                layout.size + 8 * (1 + level(cx, id))
            }
            (_, Some(structure)) => layouts.of(structure).size,
            (Object::Mask(_), _) => layouts.mask_size,
            (Object::Variable(variable) | Object::OfCpu(variable, _), _) => variable.shape().1,
            _ => 0,
        };
        // Of a task, programs may write some fields.
        let region = match object {
            Object::Task(_) => Region::new(name),
            _ => Region::read_only(name),
        };
        memory.alloc_foreign(region, size)
    }

    /// The variables of the kernel's, which have their places before a scheduler is attached.
    pub fn variable(
        &mut self,
        memory: &mut Memory,
        layouts: &Layouts,
        variable: Variable,
    ) -> Result<RegionId, Full> {
        let object = Object::Variable(variable);
        if let Some(region) = self.find(object) {
            return Ok(region);
        }
        let (name, size) = variable.shape();
        let size = object.structure().map_or(size, |structure| layouts.of(structure).size);
        let region = memory.alloc_foreign(Region::read_only(name), size)?;
        self.others.insert(object, region);
        self.stands_for(region, Some(object));
        Ok(region)
    }
}

/// How deep a cgroup is; 0 for the root.
fn level(cx: &Cx<'_>, id: u64) -> u64 {
    let mut level = 0;
    let mut at = id;
    while let Some(parent) = cx.cgroup_parent(at) {
        level += 1;
        at = parent;
    }
    level
}

/// The object that a task is.
pub(super) fn of_task(cx: &Cx<'_>, p: Task<'_>) -> Object {
    Object::Task(cx.slot(p))
}
