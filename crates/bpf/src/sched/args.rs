//! The structures that operations are given, laid out as the kernel declares them.

use scxlab_engine::{Cpumask, Cx, DumpCtx, ExitInfo, Task};

use super::clock;
use crate::abi::Abi;

/// Where a member is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub name: &'static str,
    offset: usize,
    /// Bytes, up to 8; 0 if the kernel does not have the member.
    size: usize,
}

impl Place {
    /// Writes its lower bytes.
    pub fn put(&self, bytes: &mut [u8], word: u64) {
        if let Some(into) = bytes.get_mut(self.offset..self.offset + self.size) {
            into.copy_from_slice(&word.to_le_bytes()[..self.size]);
        }
    }
}

/// A structure, and those of its members that have a value.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub name: &'static str,
    size: usize,
    pub fields: Vec<Place>,
}

impl Shape {
    fn new(abi: &Abi, name: &'static str, members: &[&'static str]) -> Self {
        let place = |name: &'static str, member: &'static str| {
            let offset = abi.offset_of(name, member);
            let field = offset.and_then(|offset| abi.field_at(name, offset));
            let size = field.map_or(0, |field| field.size.min(8));
            Place { name: member, offset: offset.unwrap_or(0) as usize, size: size as usize }
        };
        Self {
            name,
            // One without a member has a byte here, so that it has an address of its own.
            size: abi.size_of(name).unwrap_or(0).max(1) as usize,
            fields: members.iter().map(|member| place(name, member)).collect(),
        }
    }

    /// As many zeros as it has bytes.
    pub fn bytes(&self) -> Vec<u8> {
        vec![0; self.size]
    }
}

/// A structure with the values of its members, in the order of [`Shape::fields`].
#[derive(Clone, Debug)]
pub(super) struct Filled<'a, 'r> {
    pub shape: &'a Shape,
    pub values: Vec<Value<'a, 'r>>,
}

/// The value of a member.
#[derive(Clone, Debug)]
pub(super) enum Value<'a, 'r> {
    Number(u64),
    Task(Task<'r>),
    /// By its id.
    Cgroup(u64),
    Text(&'a str),
    /// The arena's address of a set of them.
    Cids(&'a Cpumask),
    /// A pointer to one.
    Struct(Box<Filled<'a, 'r>>),
}

/// All of them.
#[derive(Clone, Debug)]
pub(super) struct Shapes {
    exit_info: Shape,
    dump_ctx: Shape,
    init_task: Shape,
    exit_task: Shape,
    cpu_acquire: Shape,
    cpu_release: Shape,
    cgroup_init: Shape,
    sub_attach: Shape,
    sub_detach: Shape,
    sub_ops: Shape,
    enable: Shape,
    cmask: Shape,
    cmask_bits: usize,
    /// `SCX_EFLAG_INITIALIZED`.
    initialized: u64,
    /// `SCX_CPU_PREEMPT_UNKNOWN`.
    preempted: u64,
}

impl Shapes {
    pub fn new(abi: &Abi) -> Self {
        let shape = |name, members: &[&'static str]| Shape::new(abi, name, members);
        let number = |name| abi.number(name).unwrap_or(0) as u64;
        let exit_info =
            ["kind", "exit_cpu", "exit_code", "flags", "reason", "msg", "dump"].as_slice();
        let bandwidth = ["weight", "bw_period_us", "bw_quota_us", "bw_burst_us"].as_slice();
        let dump_ctx = ["kind", "exit_code", "reason", "at_ns", "at_jiffies"].as_slice();
        Self {
            exit_info: shape("scx_exit_info", exit_info),
            dump_ctx: shape("scx_dump_ctx", dump_ctx),
            init_task: shape("scx_init_task_args", &["fork", "cgroup"]),
            exit_task: shape("scx_exit_task_args", &["cancelled"]),
            cpu_acquire: shape("scx_cpu_acquire_args", &[]),
            cpu_release: shape("scx_cpu_release_args", &["reason", "task"]),
            cgroup_init: shape("scx_cgroup_init_args", bandwidth),
            sub_attach: shape("scx_sub_attach_args", &["ops", "cgroup_path"]),
            sub_detach: shape("scx_sub_detach_args", &["ops", "cgroup_path"]),
            sub_ops: shape("sched_ext_ops", &["sub_cgroup_id"]),
            enable: shape("scx_enable_args", &["cmask_arena_addr"]),
            cmask: shape("scx_cmask", &["base", "nr_cids", "alloc_words"]),
            cmask_bits: abi.offset_of("scx_cmask", "bits").unwrap_or(0) as usize,
            initialized: number("SCX_EFLAG_INITIALIZED"),
            preempted: number("SCX_CPU_PREEMPT_UNKNOWN"),
        }
    }

    /// `struct scx_exit_info`.
    pub fn exit<'a>(&'a self, info: &'a ExitInfo) -> Filled<'a, 'static> {
        let values = vec![
            Value::Number(info.kind as u64),
            Value::Number(info.exit_cpu as u64),
            Value::Number(info.exit_code as u64),
            Value::Number(if info.initialized { self.initialized } else { 0 }),
            Value::Text(info.reason()),
            Value::Text(&info.msg),
            Value::Text(&info.dump),
        ];
        Filled { shape: &self.exit_info, values }
    }

    /// `struct scx_dump_ctx`.
    pub fn dump(&self, cx: &Cx<'_>, ctx: &DumpCtx) -> Filled<'_, 'static> {
        let values = vec![
            Value::Number(ctx.kind.into()),
            Value::Number(ctx.exit_code as u64),
            Value::Text(ctx.reason),
            Value::Number(clock::at(ctx.at_ns)),
            Value::Number(clock::jiffies(cx)),
        ];
        Filled { shape: &self.dump_ctx, values }
    }

    pub fn init_task(&self, fork: bool, cgroup: u64) -> Filled<'_, 'static> {
        let values = vec![Value::Number(fork.into()), Value::Cgroup(cgroup)];
        Filled { shape: &self.init_task, values }
    }

    pub fn exit_task(&self, cancelled: bool) -> Filled<'_, 'static> {
        Filled { shape: &self.exit_task, values: vec![Value::Number(cancelled.into())] }
    }

    pub fn cpu_acquire(&self) -> Filled<'_, 'static> {
        Filled { shape: &self.cpu_acquire, values: Vec::new() }
    }

    pub fn cpu_release<'r>(&self, next: Task<'r>) -> Filled<'_, 'r> {
        let values = vec![Value::Number(self.preempted), Value::Task(next)];
        Filled { shape: &self.cpu_release, values }
    }

    /// All cgroups have the default weight and no limit.
    pub fn cgroup_init(&self) -> Filled<'_, 'static> {
        const WEIGHT: u64 = 100;
        const PERIOD_US: u64 = 100_000;
        const NO_LIMIT: u64 = u64::MAX;
        let values = [WEIGHT, PERIOD_US, NO_LIMIT, 0].map(Value::Number).to_vec();
        Filled { shape: &self.cgroup_init, values }
    }

    /// `struct scx_sub_attach_args` or `scx_sub_detach_args`. Of the operations, a parent looks at
    /// the cgroup's id.
    pub fn sub<'a>(&'a self, attach: bool, id: u64, path: &'a str) -> Filled<'a, 'static> {
        let ops = Filled { shape: &self.sub_ops, values: vec![Value::Number(id)] };
        let values = vec![Value::Struct(Box::new(ops)), Value::Text(path)];
        Filled { shape: if attach { &self.sub_attach } else { &self.sub_detach }, values }
    }

    /// `struct scx_enable_args`, which schedulers of the cid form have from 7.3 on.
    pub fn enable<'a>(&'a self, cids: &'a Cpumask) -> Filled<'a, 'static> {
        Filled { shape: &self.enable, values: vec![Value::Cids(cids)] }
    }

    /// `struct scx_cmask` of all cids.
    pub fn cmask(&self, cx: &Cx<'_>, cids: &Cpumask) -> Vec<u8> {
        let nr = cx.nr_cpu_ids();
        // SCX_CMASK_NR_WORDS(): one more, for a mask that begins within a word.
        let words = nr.div_ceil(64) as usize + 1;
        let mut bytes = vec![0; self.cmask_bits];
        for (place, value) in self.cmask.fields.iter().zip([0, nr, words as u32]) {
            place.put(&mut bytes, value.into());
        }
        for word in cids.words().iter().chain(std::iter::repeat(&0)).take(words) {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}
