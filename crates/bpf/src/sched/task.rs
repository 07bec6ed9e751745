//! `struct task_struct` as programs see it: at the offsets of the kernel's BTF, with what the
//! engine has.

use scxlab_engine::{Cx, Slot, Task, TaskStruct};

use super::state::Tasks;
use crate::btf::{Btf, Kind, TypeId};
use crate::machine::{Kernel, RegionId};

/// What is read from a member.
type Read = fn(&TaskStruct) -> u64;

/// The members that have a number, or a pointer into the task itself.
const NUMBERS: &[(&str, Read)] = &[
    ("scx.tid", |p| p.scx.tid),
    ("scx.slice", |p| p.scx.slice),
    ("scx.dsq_vtime", |p| p.scx.dsq_vtime),
    ("scx.runnable_at", |p| p.scx.runnable_at),
    ("scx.flags", |p| p.scx.flags.into()),
    ("scx.weight", |p| p.scx.weight.into()),
    ("scx.sticky_cpu", |p| p.scx.sticky_cpu as u64),
    ("scx.holding_cpu", |p| p.scx.holding_cpu as u64),
    ("scx.disallow", |p| p.scx.disallow.into()),
    ("se.exec_start", |p| p.se.exec_start),
    ("se.sum_exec_runtime", |p| p.se.sum_exec_runtime),
    ("se.vruntime", |p| p.se.vruntime),
    ("nvcsw", |p| p.nvcsw),
    ("nivcsw", |p| p.nivcsw),
    ("flags", |p| p.flags.into()),
    ("nr_cpus_allowed", |p| p.nr_cpus_allowed.into()),
    ("start_time", |p| p.start_time),
    ("start_boottime", |p| p.start_boottime),
    ("policy", |p| p.policy.into()),
    ("static_prio", |p| p.static_prio as u64),
    ("pid", |p| p.pid as u64),
    ("tgid", |p| p.tgid as u64),
    ("migration_disabled", |p| p.migration_disabled.into()),
];

/// What a program may write: `bpf_scx_btf_struct_access()` and, in later kernels, nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Slice,
    DsqVtime,
    Disallow,
}

const WRITTEN: &[(&str, Written)] = &[
    ("scx.slice", Written::Slice),
    ("scx.dsq_vtime", Written::DsqVtime),
    ("scx.disallow", Written::Disallow),
];

#[derive(Clone, Copy, Debug)]
enum Source {
    Number(Read),
    Comm,
    /// `cpus_mask`.
    Mask,
    /// `cpus_ptr`, as a distance from the task's own address.
    Pointer(u32),
}

#[derive(Clone, Copy, Debug)]
struct Member {
    offset: u32,
    size: u32,
    source: Source,
    written: Option<Written>,
}

/// Which member is where.
#[derive(Clone, Debug)]
pub(super) struct TaskLayout {
    /// Bytes of the whole.
    pub size: u64,
    /// By offset.
    members: Vec<Member>,
}

impl TaskLayout {
    /// As a kernel's BTF has it. A member that it does not have is left out.
    pub fn new(btf: &Btf) -> Option<Self> {
        let task = btf.find("task_struct", Kind::Struct)?;
        let place = |path: &str| place(btf, task, path);
        let mut members = Vec::new();
        for &(path, read) in NUMBERS {
            let Some((offset, size)) = place(path) else { continue };
            let written = WRITTEN.iter().find(|(name, _)| *name == path).map(|(_, w)| *w);
            members.push(Member { offset, size, source: Source::Number(read), written });
        }
        let others = [("comm", Source::Comm), ("cpus_mask", Source::Mask)];
        for (path, source) in others {
            let Some((offset, size)) = place(path) else { continue };
            members.push(Member { offset, size, source, written: None });
        }
        if let (Some((offset, size)), Some((mask, _))) = (place("cpus_ptr"), place("cpus_mask")) {
            members.push(Member { offset, size, source: Source::Pointer(mask), written: None });
        }
        members.sort_by_key(|member| member.offset);
        Some(Self { size: btf.size_of(task).ok()?.into(), members })
    }

    fn member(&self, offset: u32, size: usize) -> Option<&Member> {
        let next = self.members.partition_point(|member| member.offset <= offset);
        let member = &self.members[next.checked_sub(1)?];
        (offset as usize + size <= (member.offset + member.size) as usize).then_some(member)
    }
}

/// Where a member is, and its bytes.
fn place(btf: &Btf, of: TypeId, path: &str) -> Option<(u32, u32)> {
    let (mut ty, mut bits) = (of, 0);
    for name in path.split('.') {
        let member = btf.member(btf.resolve(ty).ok()?, name)?;
        bits += member.bit_offset;
        ty = member.ty;
    }
    Some((bits / 8, btf.size_of(ty).ok()?))
}

/// The engine, as loads and stores of a program see it.
pub(super) struct Outside<'a, 'r> {
    pub cx: &'a mut Cx<'r>,
    pub tasks: &'a Tasks,
    pub layout: &'a TaskLayout,
}

impl<'r> Outside<'_, 'r> {
    fn task(&self, region: RegionId) -> Result<Task<'r>, String> {
        let slot: Option<Slot> = self.tasks.slot(region);
        slot.and_then(|slot| self.cx.task_in(slot)).ok_or_else(|| "the task is freed".to_owned())
    }
}

impl Kernel for Outside<'_, '_> {
    fn load(&mut self, region: RegionId, offset: u32, size: usize) -> Result<u64, String> {
        let p = self.task(region)?;
        let member = self.layout.member(offset, size).ok_or("the engine has no such member")?;
        let task = self.cx.get(p);
        let within = (offset - member.offset) as usize;
        let mut bytes = [0; 8];
        match member.source {
            Source::Number(read) => bytes = (read(task) >> (within * 8)).to_le_bytes(),
            Source::Pointer(to) => {
                bytes = ((region.base() + u64::from(to)) >> (within * 8)).to_le_bytes();
            }
            Source::Comm => bytes[..size].copy_from_slice(&task.comm[within..within + size]),
            Source::Mask => {
                let bit = |at: usize| {
                    let cpu = scxlab_engine::CpuId((within * 8 + at) as u32);
                    u64::from(task.cpus_mask.test(cpu)) << at
                };
                bytes = (0..size * 8).map(bit).sum::<u64>().to_le_bytes();
            }
        }
        bytes[size..].fill(0);
        Ok(u64::from_le_bytes(bytes))
    }

    fn store(
        &mut self,
        region: RegionId,
        offset: u32,
        size: usize,
        value: u64,
    ) -> Result<(), String> {
        let p = self.task(region)?;
        let member = self.layout.member(offset, size);
        let written = member.filter(|m| (m.offset, m.size as usize) == (offset, size));
        match written.and_then(|member| member.written) {
            Some(Written::Slice) => self.cx.write_slice(p, value),
            Some(Written::DsqVtime) => self.cx.write_dsq_vtime(p, value),
            Some(Written::Disallow) if value != 0 => self.cx.task_disallow(p),
            Some(Written::Disallow) => {}
            None => return Err("a scheduler may not write there".to_owned()),
        }
        Ok(())
    }
}
