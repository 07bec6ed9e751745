//! The engine, as loads and stores of a program see it.

use scxlab_engine::{CpuId, Cpumask, Cx, Task, flags::ent};

use super::fields::{Field, Layouts, Written};
use super::{Mask, Object, Objects, Variable, level, of_task};
use crate::abi::source::{self, Source};
use crate::machine::{ArenaFault, Kernel, Null, RegionId};
use crate::sched::clock;

/// The engine and what stands for its objects.
///
/// A load can give the address of an object that has no region yet. Then it fails, and `wanted`
/// says which object: once that has its region, the same load gives its address.
pub(in crate::sched) struct Outside<'a, 'r> {
    pub cx: &'a mut Cx<'r>,
    pub objects: &'a Objects,
    pub layouts: &'a Layouts,
    pub wanted: Option<Object>,
    /// What could not be loaded is there on a kernel.
    pub lacks: bool,
}

const GONE: &str = "it is freed";

impl Kernel for Outside<'_, '_> {
    fn load(&mut self, region: RegionId, offset: u32, size: usize) -> Result<u64, String> {
        let Some(object) = self.objects.in_region(region) else {
            self.lacks = true;
            return Err("the engine has nothing there".to_owned());
        };
        let Some(structure) = object.structure() else {
            let word = self.plain(object, offset / 8)? >> (offset % 8 * 8);
            // Masks are read by words or parts of them, and so is all else here.
            return Ok(word & low_bytes(size));
        };
        let (mut value, mut done) = (0, 0);
        while done < size {
            let at = offset + done as u32;
            let layout = self.layouts.of(structure);
            let Some(field) = layout.at(at) else {
                // Between two fields.
                done += 1;
                continue;
            };
            let within = at - field.start;
            let left = (8 - within % 8).min(field.size - within) as usize;
            let bytes = left.min(size - done);
            let word = self.word(object, region, field, within / 8).map_err(|why| {
                let (name, path) = (layout.name, &field.path);
                format!("the field {path} of {name}: {why}")
            })?;
            value |= (word >> (within % 8 * 8) & low_bytes(bytes)) << (done * 8);
            done += bytes;
        }
        Ok(value)
    }

    fn store(
        &mut self,
        region: RegionId,
        offset: u32,
        size: usize,
        value: u64,
    ) -> Result<(), String> {
        const NO: &str = "a scheduler may not write there";
        let Some(object @ Object::Task(_)) = self.objects.in_region(region) else {
            return Err(NO.to_owned());
        };
        if !self.cx.is_operation() {
            return Err("only an operation of a scheduler may write there".to_owned());
        }
        let p = self.task(object)?;
        let field = object.structure().and_then(|of| self.layouts.of(of).at(offset)).ok_or(NO)?;
        let within = offset - field.start;
        if within as usize + size > field.size as usize {
            return Err(NO.to_owned());
        }
        // Part of a number is written too: the rest stays.
        let put = |old: u64| {
            let mut bytes = old.to_le_bytes();
            let within = within as usize;
            bytes[within..within + size].copy_from_slice(&value.to_le_bytes()[..size]);
            u64::from_le_bytes(bytes)
        };
        let (slice, dsq_vtime) = (self.cx.slice(p), self.cx.get(p).scx.dsq_vtime);
        match field.written {
            Some(Written::Slice) => self.cx.write_slice(p, put(slice)),
            Some(Written::DsqVtime) => self.cx.write_dsq_vtime(p, put(dsq_vtime)),
            Some(Written::Disallow) if value & 0xff != 0 => self.cx.task_disallow(p),
            Some(Written::Disallow) => {}
            None => return Err(NO.to_owned()),
        }
        Ok(())
    }

    /// A verified program reads at NULL only through pointers that the verifier knows from BTF, and
    /// through those of an arena. For the one a kernel reads zero (`BPF_PROBE_MEM`), and for the
    /// other too where the arena has no first page. What a program writes at NULL no kernel would
    /// load.
    fn null(&mut self) -> Null {
        Null::Zero
    }

    fn arena_fault(&mut self, _: u64, _: bool) -> ArenaFault {
        self.layouts.arena_fault
    }

    fn keeps_r0(&mut self) -> bool {
        self.layouts.arena_fault == ArenaFault::SkipAtomics
    }
}

impl<'a, 'r> Outside<'a, 'r> {
    /// As a load or store begins.
    pub fn new(cx: &'a mut Cx<'r>, objects: &'a Objects, layouts: &'a Layouts) -> Self {
        Self { cx, objects, layouts, wanted: None, lacks: false }
    }
}

/// A mask for so many bytes.
fn low_bytes(bytes: usize) -> u64 {
    if bytes >= 8 { u64::MAX } else { (1 << (bytes * 8)) - 1 }
}

impl<'r> Outside<'_, 'r> {
    fn task(&self, object: Object) -> Result<Task<'r>, String> {
        match object {
            Object::Task(slot) => self.cx.task_in(slot).ok_or_else(|| GONE.to_owned()),
            _ => Err("it is no task's".to_owned()),
        }
    }

    /// The address of an object.
    fn address(&mut self, object: Object) -> Result<u64, String> {
        match self.objects.find(object) {
            Some(region) => Ok(region.base()),
            None => {
                self.wanted = Some(object);
                Err("it has no address yet".to_owned())
            }
        }
    }

    fn task_address(&mut self, p: Task<'r>) -> Result<u64, String> {
        self.address(of_task(self.cx, p))
    }

    /// The address of a queue, which of a CPU's own is within its runqueue.
    fn queue_address(&mut self, id: scxlab_engine::QueueId) -> Result<u64, String> {
        // The first queues are the local ones.
        if id.0 < self.cx.nr_cpu_ids() {
            let rq = self.address(Object::Rq(CpuId(id.0)))?;
            return Ok(rq + u64::from(self.layouts.local_dsq));
        }
        self.address(Object::Queue(id))
    }

    /// 64 bits of an object that has no fields.
    fn plain(&mut self, object: Object, word: u32) -> Result<u64, String> {
        let (variable, cpu) = match object {
            Object::Mask(mask) => return Ok(mask_word(&self.mask(mask), word)),
            Object::Variable(variable) => (variable, CpuId(0)),
            Object::OfCpu(variable, cpu) => (variable, cpu),
            _ => {
                self.lacks = true;
                return Err("nothing is known of what it holds".to_owned());
            }
        };
        match variable {
            Variable::CurrentTask => {
                let rq = self.cx.run_queue(cpu).ok_or("there is no such CPU")?;
                self.task_address(rq.curr)
            }
            Variable::LlcId => Ok(self.cx.llc(cpu).first().map_or(0, |cpu| cpu.0.into())),
            Variable::LlcSize => Ok(self.cx.llc(cpu).weight().into()),
            Variable::Cpufreq => Ok(0),
            Variable::Jiffies => Ok(clock::jiffies(self.cx)),
            Variable::NrCpuIds => Ok(self.cx.nr_cpu_ids().into()),
            Variable::Runqueues | Variable::Tids => Err(GONE.to_owned()),
        }
    }

    fn mask(&mut self, mask: Mask) -> Cpumask {
        match mask {
            Mask::None => Cpumask::EMPTY,
            Mask::All => self.cx.possible_cpus(),
            Mask::Idle => self.cx.idle_cpumask(),
            Mask::IdleCores => self.cx.idle_smtmask(),
            Mask::One(cpu) => Cpumask::of(cpu),
        }
    }

    /// The 64 bits of a field that have this number, from its start.
    fn word(
        &mut self,
        object: Object,
        region: RegionId,
        field: &Field,
        word: u32,
    ) -> Result<u64, String> {
        match field.source {
            Source::Constant(value) => Ok(if word == 0 { value } else { 0 }),
            Source::Task(what) => self.of_task(self.task(object)?, region, what, word),
            Source::Scx(what) => self.of_scx(self.task(object)?, what),
            Source::Process(what) => self.of_process(object, what, word),
            Source::Pid(source::Pid::Number) => match object {
                Object::Pid(number) => Ok(number as u64),
                _ => Err(GONE.to_owned()),
            },
            Source::Cgroup(what) => self.of_cgroup(object, what, word),
            Source::Rq(what) => self.of_rq(object, what),
            Source::Dsq(what) => self.of_queue(object, what),
            Source::TidsInTable => Ok(self.cx.tids_in_table().into()),
            Source::Only(only) => self.address(Object::Only(only)),
            Source::Private => {
                self.lacks = true;
                Err("it is the kernel's own, and the engine does not have it".to_owned())
            }
        }
    }

    fn of_task(
        &mut self,
        p: Task<'r>,
        region: RegionId,
        what: source::Task,
        word: u32,
    ) -> Result<u64, String> {
        use source::Task as T;
        let task = self.cx.get(p);
        let cgroup = || self.cx.cgroup_of(p);
        Ok(match what {
            T::Cpu => task.task_cpu().0.into(),
            T::State => task.__state.into(),
            T::Flags => task.flags.into(),
            T::OnCpu => task.on_cpu.into(),
            T::OnRq => task.on_rq.into(),
            T::StaticPrio => task.static_prio as u64,
            T::LoadWeight => task.load_weight(),
            T::OnFair => self.cx.is_on_fair(p).into(),
            T::ExecStart => clock::at(task.se.exec_start),
            T::SumExecRuntime => self.cx.sum_exec_runtime(p).0,
            T::Vruntime => task.se.vruntime,
            T::Policy => task.policy.into(),
            T::NrCpusAllowed => task.nr_cpus_allowed.into(),
            T::CpusMask => mask_word(&task.cpus_mask, word),
            T::MigrationDisabled => self.cx.migration_disabled(p).into(),
            T::ExitState => task.exit_state as u64,
            T::Pid => task.pid as u64,
            T::Tgid => task.tgid as u64,
            T::Nvcsw => task.nvcsw,
            T::Nivcsw => task.nivcsw,
            T::StartTime => clock::at(task.start_time),
            T::Comm => {
                let at = word as usize * 8;
                let bytes = task.comm.get(at..).and_then(<[u8]>::first_chunk);
                bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
            }
            T::CpusPtr if task.migration_disabled > 0 => {
                let cpu = task.task_cpu();
                self.address(Object::Mask(Mask::One(cpu)))?
            }
            T::CpusPtr => region.base() + u64::from(self.layouts.cpus_mask),
            T::SchedClass => {
                let class = task.sched_class();
                self.address(Object::Class(class))?
            }
            T::TaskGroup => {
                let cgroup = cgroup();
                self.address(Object::TaskGroup(cgroup))?
            }
            T::Cgroups => {
                let cgroup = cgroup();
                self.address(Object::CssSet(cgroup))?
            }
            T::Mm if !self.cx.has_memory(p) => 0,
            T::Mm => self.address(Object::Memory(self.cx.process(p)))?,
            T::RealParent => self.task_address(self.cx.real_parent(p))?,
            T::GroupLeader => self.task_address(self.cx.group_leader(p))?,
            T::ThreadPid if !self.cx.has_pid(p) => 0,
            T::ThreadPid => {
                let number = task.pid;
                self.address(Object::Pid(number))?
            }
            T::ThreadNode => self.neighbour(self.cx.process(p), Some(p), word)?,
            T::Signal => self.address(Object::Process(self.cx.process(p)))?,
        })
    }

    /// The next (0) or previous (1) node of a process's list of threads, from the node of a thread
    /// or from the list's head.
    fn neighbour(
        &mut self,
        process: scxlab_engine::ProcessId,
        of: Option<Task<'r>>,
        which: u32,
    ) -> Result<u64, String> {
        let threads: Vec<_> = self.cx.threads(process).collect();
        let at = match of {
            Some(p) => Some(threads.iter().position(|q| *q == p).ok_or("the task is released")?),
            None => None,
        };
        let next = match (at, which) {
            (None, 0) => threads.first(),
            (None, _) => threads.last(),
            (Some(at), 0) => threads.get(at + 1),
            (Some(at), _) => at.checked_sub(1).and_then(|at| threads.get(at)),
        };
        match next {
            Some(p) => Ok(self.task_address(*p)? + u64::from(self.layouts.thread_node)),
            None => {
                let head = self.address(Object::Process(process))?;
                Ok(head + u64::from(self.layouts.thread_head))
            }
        }
    }

    fn of_scx(&mut self, p: Task<'r>, what: source::Scx) -> Result<u64, String> {
        use source::Scx as S;
        let scx = &self.cx.get(p).scx;
        Ok(match what {
            S::DsqSeq => scx.dsq_seq.into(),
            S::DsqFlags => scx.dsq_flags.into(),
            S::Flags if self.layouts.old_flags => old_flags(scx.flags).into(),
            S::Flags => scx.flags.into(),
            S::Weight => scx.weight.into(),
            S::StickyCpu => scx.sticky_cpu as u64,
            S::HoldingCpu => scx.holding_cpu as u64,
            S::SelectedCpu => scx.selected_cpu as u64,
            S::OpsState => scx.ops_state,
            S::OpsQseq => scx.ops_qseq.into(),
            S::RunnableAt => clock::jiffies_at(self.cx, scx.runnable_at),
            S::DdspDsqId => scx.ddsp_dsq_id,
            S::DdspEnqFlags => scx.ddsp_enq_flags,
            S::Slice => self.cx.slice(p),
            S::DsqVtime => scx.dsq_vtime,
            S::Disallow => scx.disallow.into(),
            S::Tid => scx.tid,
            S::Dsq => match self.cx.queue_of(p) {
                Some(queue) => self.queue_address(queue)?,
                None => 0,
            },
            S::CgrpMovingFrom => match self.cx.cgroup_moving_from(p) {
                Some(cgroup) => self.address(Object::Cgroup(cgroup))?,
                None => 0,
            },
            S::Sched => match self.cx.sched_of(p) {
                Some(sched) => self.address(Object::Sched(sched))?,
                None => 0,
            },
        })
    }

    fn of_process(
        &mut self,
        object: Object,
        what: source::Process,
        word: u32,
    ) -> Result<u64, String> {
        let Object::Process(process) = object else { return Err(GONE.to_owned()) };
        let leader = self.cx.leader(process).ok_or(GONE)?;
        Ok(match what {
            source::Process::Live => self.cx.live_threads(process).unwrap_or(0).into(),
            source::Process::NrThreads => self.cx.threads(process).count() as u64,
            source::Process::ThreadHead => self.neighbour(process, None, word)?,
            source::Process::Pids => {
                const PIDTYPE_TGID: u32 = 1;
                let tgid = self.cx.get(leader).tgid;
                // Groups and sessions are init's. The first is not used.
                let number = if word == PIDTYPE_TGID { tgid } else { i32::from(word > 1) };
                if word == 0 { 0 } else { self.address(Object::Pid(number))? }
            }
        })
    }

    fn of_cgroup(
        &mut self,
        object: Object,
        what: source::Cgroup,
        word: u32,
    ) -> Result<u64, String> {
        use source::Cgroup as C;
        let (Object::Cgroup(id) | Object::CssSet(id) | Object::TaskGroup(id) | Object::Kernfs(id)) =
            object
        else {
            return Err(GONE.to_owned());
        };
        let parent = self.cx.cgroup_parent(id);
        let css = |of| match object {
            Object::TaskGroup(_) => (Object::TaskGroup(of), self.layouts.group_css),
            _ => (Object::Cgroup(of), self.layouts.cgroup_css),
        };
        let within = |to: &mut Self, (object, offset): (Object, u32)| {
            to.address(object).map(|base| base + u64::from(offset))
        };
        Ok(match what {
            C::Itself => self.address(Object::Cgroup(id))?,
            C::Css => within(self, css(id))?,
            C::CssOfEach if u64::from(word) == self.layouts.cpu_controller => {
                within(self, (Object::TaskGroup(id), self.layouts.group_css))?
            }
            C::CssOfEach => within(self, (Object::Cgroup(id), self.layouts.cgroup_css))?,
            C::ParentCss => match parent {
                Some(parent) => within(self, css(parent))?,
                None => 0,
            },
            C::ParentTaskGroup => match parent {
                Some(parent) => self.address(Object::TaskGroup(parent))?,
                None => 0,
            },
            C::ParentKn => match parent {
                Some(parent) => self.address(Object::Kernfs(parent))?,
                None => 0,
            },
            C::Kn => self.address(Object::Kernfs(id))?,
            C::CssId | C::Id => id,
            C::Name => self.address(Object::KernfsName(id))?,
            C::Level => level(self.cx, id),
            C::Ancestors => {
                let mut at = id;
                for _ in u64::from(word)..level(self.cx, id) {
                    at = self.cx.cgroup_parent(at).ok_or(GONE)?;
                }
                self.address(Object::Cgroup(at))?
            }
        })
    }

    fn of_rq(&mut self, object: Object, what: source::Rq) -> Result<u64, String> {
        use source::Rq as R;
        let cpu = match object {
            Object::Rq(cpu) => cpu,
            Object::Variable(Variable::Runqueues) => CpuId(0),
            _ => return Err(GONE.to_owned()),
        };
        let rq = self.cx.run_queue(cpu).ok_or("there is no such CPU")?;
        Ok(match what {
            R::Cpu => cpu.0.into(),
            R::Online => 1,
            R::NrRunning => rq.nr_running.into(),
            R::Curr => self.task_address(rq.curr)?,
            R::Idle => self.task_address(rq.idle)?,
            R::Clock | R::ScxClock => clock::now(self.cx),
            R::ScxNrRunning => rq.scx_nr_running.into(),
            R::ScxFlags => rq.scx_flags.into(),
            R::CpuReleased => rq.cpu_released.into(),
            R::CpuperfTarget => rq.cpuperf_target.into(),
        })
    }

    fn of_queue(&mut self, object: Object, what: source::Dsq) -> Result<u64, String> {
        let id = match object {
            Object::Queue(id) => Some(id),
            Object::Rq(cpu) => self.cx.local_queue(cpu),
            Object::Variable(Variable::Runqueues) => self.cx.local_queue(CpuId(0)),
            _ => None,
        };
        let queue = id.and_then(|id| self.cx.queue(id)).ok_or(GONE)?;
        Ok(match what {
            source::Dsq::Nr => queue.nr.into(),
            source::Dsq::Seq => queue.seq,
            source::Dsq::Id => queue.id.0,
            source::Dsq::FirstTask => match queue.first {
                Some(p) => self.task_address(p)?,
                None => 0,
            },
            source::Dsq::Sched => match queue.sched {
                Some(sched) => self.address(Object::Sched(sched))?,
                None => 0,
            },
        })
    }
}

/// 64 CPUs of a mask.
fn mask_word(mask: &Cpumask, word: u32) -> u64 {
    mask.words().get(word as usize).copied().unwrap_or(0)
}

/// `p->scx.flags` before 7.1: the state is two bits, without the steps in between, and nothing else
/// above bit 3.
fn old_flags(flags: u32) -> u32 {
    let state = match (flags & ent::STATE_MASK) >> ent::STATE_SHIFT {
        0 | 1 | 5 => 0,
        state => state - 1,
    };
    let kept = ent::QUEUED | ent::RESET_RUNNABLE_AT | ent::DEQD_FOR_SLEEP;
    flags & kept | state << ent::STATE_SHIFT
}
