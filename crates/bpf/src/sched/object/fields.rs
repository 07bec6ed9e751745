//! Which field of an object is at which byte, as tables.

use crate::abi::source::Source;
use crate::abi::{Abi, FieldAt, Version};
use crate::machine::ArenaFault;

/// The structures of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sched) enum Structure {
    Task,
    Process,
    Pid,
    Cgroup,
    CssSet,
    TaskGroup,
    Kernfs,
    Rq,
    Queue,
    Cred,
    Nsproxy,
    PidNamespace,
    CgroupRoot,
    Tids,
}

/// Their names, in the order of [`Structure`], and for how many bytes there is something behind
/// their end that they count as theirs: `numbers[1]` of `struct pid`.
const STRUCTURES: [(&str, u32); 14] = [
    ("task_struct", 0),
    ("signal_struct", 0),
    ("pid", 16),
    // One of `ancestors[]`; all of them are alike.
    ("cgroup", 8),
    ("css_set", 0),
    ("task_group", 0),
    ("kernfs_node", 0),
    ("rq", 0),
    ("scx_dispatch_q", 0),
    ("cred", 0),
    ("nsproxy", 0),
    ("pid_namespace", 0),
    ("cgroup_root", 0),
    ("rhashtable", 0),
];

/// What a program may write of a task: `bpf_scx_btf_struct_access()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sched) enum Written {
    Slice,
    DsqVtime,
    Disallow,
}

/// A field.
#[derive(Clone, Debug)]
pub(in crate::sched) struct Field {
    /// Bytes from the start of the object.
    pub start: u32,
    /// Bytes; of an array at the end without a length, all that there can be.
    pub size: u32,
    pub source: Source,
    pub written: Option<Written>,
    /// As C reaches it.
    pub path: String,
}

/// A structure.
#[derive(Clone, Debug, Default)]
pub(in crate::sched) struct Layout {
    pub name: &'static str,
    /// Bytes, without what an array at the end has; but with that of `struct pid`.
    pub size: u64,
    /// For each byte the number of its field and one, or 0.
    by_byte: Vec<u16>,
    fields: Vec<Field>,
}

impl Layout {
    /// The field that a byte belongs to.
    pub fn at(&self, offset: u32) -> Option<&Field> {
        let byte = self.by_byte.get(offset as usize).or(self.by_byte.last())?;
        self.fields.get(usize::from(*byte).checked_sub(1)?)
    }

    fn new(abi: &Abi, name: &'static str, behind: u32) -> Option<Self> {
        let declared = abi.size_of(name)?;
        let end = declared + behind;
        let size = u64::from(if name == "pid" { end } else { declared });
        let mut layout = Self { name, size, by_byte: vec![0; end as usize], fields: Vec::new() };
        let mut offset = 0;
        while offset < end {
            let Some(FieldAt { path, member, size, offset: within, source, writable, .. }) =
                abi.field_at(name, offset)
            else {
                offset += 1;
                continue;
            };
            // What has no source is no object of the engine's.
            let source = source.unwrap_or(Source::Private);
            let size = if size == 0 { u32::MAX - offset } else { size };
            let written = writable.then_some(match member.as_str() {
                "slice" => Written::Slice,
                "dsq_vtime" => Written::DsqVtime,
                _ => Written::Disallow,
            });
            let start = offset - within;
            layout.fields.push(Field { start, size, source, written, path });
            let last = (u64::from(start) + u64::from(size)).min(end.into()) as u32;
            let number = layout.fields.len() as u16;
            layout.by_byte[offset as usize..last as usize].fill(number);
            offset = last;
        }
        Some(layout)
    }
}

/// All structures of a kernel, and other things that objects need to know of it.
#[derive(Clone, Debug)]
pub(in crate::sched) struct Layouts {
    all: Vec<Layout>,
    /// Bytes of a `struct cpumask`.
    pub mask_size: u64,
    /// Where a task has `cpus_mask`.
    pub cpus_mask: u32,
    /// Where a task has `thread_node`, and a process `thread_head`.
    pub thread_node: u32,
    pub thread_head: u32,
    /// Where a cgroup has `self`, and a task group `css`.
    pub cgroup_css: u32,
    pub group_css: u32,
    /// Where a runqueue has `scx.local_dsq`.
    pub local_dsq: u32,
    /// `cpu_cgrp_id`: which of a cgroup's controllers has its task group.
    pub cpu_controller: u64,
    /// `p->scx.flags` has a field of 2 bits for the state, as before 7.1.
    pub old_flags: bool,
    /// What happens where an arena has no page.
    pub arena_fault: ArenaFault,
}

impl Layouts {
    /// As a kernel declares them; what it lacks is the error.
    pub fn new(abi: &Abi) -> Result<Self, String> {
        let mut all = Vec::new();
        for (name, behind) in STRUCTURES {
            match Layout::new(abi, name, behind) {
                Some(layout) => all.push(layout),
                // Tids are not in all versions.
                None if name == "rhashtable" => all.push(Layout::default()),
                None => return Err(format!("struct {name} of the kernel")),
            }
        }
        let at = |structure: &str, path| {
            let lacks = || format!("{structure}.{path} of the kernel");
            abi.offset_of(structure, path).ok_or_else(lacks)
        };
        Ok(Self {
            all,
            mask_size: abi.size_of("cpumask").ok_or("struct cpumask of the kernel")?.into(),
            cpus_mask: at("task_struct", "cpus_mask")?,
            thread_node: at("task_struct", "thread_node")?,
            thread_head: at("signal_struct", "thread_head")?,
            cgroup_css: at("cgroup", "self")?,
            group_css: at("task_group", "css")?,
            local_dsq: at("rq", "scx.local_dsq")?,
            cpu_controller: abi.number("cpu_cgrp_id").unwrap_or(1) as u64,
            old_flags: abi.number("SCX_TASK_INIT_BEGIN").is_none(),
            arena_fault: match abi.version() >= Version::V7_2 {
                true => ArenaFault::Skip,
                false => ArenaFault::SkipAtomics,
            },
        })
    }

    pub fn of(&self, structure: Structure) -> &Layout {
        &self.all[structure as usize]
    }
}
