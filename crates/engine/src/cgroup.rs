//! The cgroup tree: where tasks belong, and which scheduler a cgroup's tasks have.

use crate::engine::Engine;
use crate::ext::sched::SchedIdx;
use crate::ext::tracepoint::{Tracepoint, TracepointSet};
use crate::kfunc::Op;
use crate::ops::OpSet;
use crate::task::TaskIdx;
use crate::trace::What;

/// Cgroup ids start here: 1 is the root's, as in the kernel.
pub(crate) const ROOT_ID: u64 = 1;

#[derive(Clone, Debug)]
struct Cgroup {
    path: String,
    parent: Option<u32>,
    /// `cgrp->scx_sched`.
    sched: Option<SchedIdx>,
    /// `ops.cgroup_init` has seen it.
    inited: bool,
}

/// All cgroups; 0 is the root.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    all: Vec<Cgroup>,
}

impl Cgroups {
    /// The root and the cgroups with these paths, ancestors included.
    pub fn new(paths: &[String]) -> Self {
        let root = Cgroup { path: "/".into(), parent: None, sched: None, inited: false };
        let mut cgroups = Self { all: vec![root] };
        for path in paths {
            let mut parent = 0;
            let ends = path.match_indices('/').map(|(i, _)| i).skip(1).chain([path.len()]);
            for end in ends.filter(|&end| end > 1) {
                parent = match cgroups.find(&path[..end]) {
                    Some(cgroup) => cgroup,
                    None => {
                        let path = path[..end].to_owned();
                        let parent = Some(parent);
                        cgroups.all.push(Cgroup { path, parent, sched: None, inited: false });
                        cgroups.all.len() as u32 - 1
                    }
                };
            }
        }
        cgroups
    }

    pub fn find(&self, path: &str) -> Option<u32> {
        self.all.iter().position(|cgroup| cgroup.path == path).map(|i| i as u32)
    }

    /// `cgroup_id()`.
    pub fn id(&self, cgroup: u32) -> u64 {
        ROOT_ID + u64::from(cgroup)
    }

    /// `cgroup_get_from_id()`.
    pub fn by_id(&self, id: u64) -> Option<u32> {
        let cgroup = u32::try_from(id.checked_sub(ROOT_ID)?).ok()?;
        ((cgroup as usize) < self.all.len()).then_some(cgroup)
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn parent(&self, cgroup: u32) -> Option<u32> {
        self.all[cgroup as usize].parent
    }

    pub fn path(&self, cgroup: u32) -> &str {
        &self.all[cgroup as usize].path
    }

    pub fn sched(&self, cgroup: u32) -> Option<SchedIdx> {
        self.all[cgroup as usize].sched
    }

    /// `cgroup_is_descendant()`: whether `cgroup` is `ancestor` or below it.
    pub fn is_below(&self, cgroup: u32, ancestor: u32) -> bool {
        let mut at = Some(cgroup);
        while let Some(cgroup) = at {
            if cgroup == ancestor {
                return true;
            }
            at = self.all[cgroup as usize].parent;
        }
        false
    }

    /// All, parents before what is below them: `css_for_each_descendant_pre()`.
    fn pre_order(&self) -> Vec<u32> {
        self.depth_first(false)
    }

    /// All, what is below before its parents: `css_for_each_descendant_post()`.
    fn post_order(&self) -> Vec<u32> {
        let mut all = self.depth_first(true);
        all.reverse();
        all
    }

    /// All, parents first, and of the children of one the oldest or the youngest first.
    fn depth_first(&self, youngest_first: bool) -> Vec<u32> {
        let mut children = vec![Vec::new(); self.all.len()];
        for cgroup in 0..self.all.len() as u32 {
            if let Some(parent) = self.parent(cgroup) {
                children[parent as usize].push(cgroup);
            }
        }
        let mut all = Vec::with_capacity(self.all.len());
        let mut open = vec![0];
        while let Some(cgroup) = open.pop() {
            all.push(cgroup);
            let mut below = std::mem::take(&mut children[cgroup as usize]);
            if !youngest_first {
                below.reverse();
            }
            open.extend(below);
        }
        all
    }

    /// `set_cgroup_sched()`: for `cgroup` and all below it.
    pub fn set_sched_below(&mut self, cgroup: u32, sched: Option<SchedIdx>) {
        for i in 0..self.all.len() as u32 {
            if self.is_below(i, cgroup) {
                self.all[i as usize].sched = sched;
            }
        }
    }
}

impl Engine {
    /// `scx_find_sub_sched()`: the sub-scheduler that is attached to a cgroup.
    pub(crate) fn find_sub_sched(&self, cgroup: u64) -> Option<SchedIdx> {
        let cgroup = u32::try_from(cgroup.checked_sub(ROOT_ID)?).ok()?;
        let own = |sch: &crate::ext::sched::Sched| {
            sch.linked && sch.parent().is_some() && sch.cgroup == cgroup
        };
        self.scheds.iter().position(own).map(|i| SchedIdx(i as u32))
    }

    /// `scx_cgroup_init()`: parents before children; whether all succeeded.
    pub(crate) fn cgroup_init_all(&mut self, sched: SchedIdx) -> bool {
        for cgroup in self.cgroups.pre_order() {
            let id = self.cgroups.id(cgroup);
            if self.sch(sched).has(OpSet::CGROUP_INIT) {
                let result = self.call(sched, Op::CgroupInit, |ops, cx| ops.cgroup_init(cx, id));
                if let Err(err) = result {
                    let err = err.0.wrapping_neg();
                    self.scx_error(sched, format!("ops.cgroup_init() failed ({err})"));
                    return false;
                }
            }
            self.cgroups.all[cgroup as usize].inited = true;
        }
        true
    }

    /// `scx_cgroup_exit()`: children before parents.
    pub(crate) fn cgroup_exit_all(&mut self, sched: SchedIdx) {
        for cgroup in self.cgroups.post_order() {
            if !std::mem::take(&mut self.cgroups.all[cgroup as usize].inited) {
                continue;
            }
            if self.sch(sched).ops.implements.contains(OpSet::CGROUP_EXIT) {
                let id = self.cgroups.id(cgroup);
                self.call(sched, Op::CgroupExit, |ops, cx| ops.cgroup_exit(cx, id));
            }
        }
    }

    /// Moves a task to a cgroup: `scx_cgroup_can_attach()`, `sched_move_task()`. Its scheduler stays
    /// the same, also if the cgroup has another: in 7.2 only attach, detach and fork change it.
    pub(crate) fn move_to_cgroup(&mut self, p: TaskIdx, to: u32) {
        let from = self.p(p).cgroup;
        if from == to {
            return;
        }
        let (from_id, to_id) = (self.cgroups.id(from), self.cgroups.id(to));
        let root = self.root.filter(|_| self.init_task_enabled);
        if let Some(root) = root
            && self.sch(root).has(OpSet::CGROUP_PREP_MOVE)
        {
            let result = self.call(root, Op::CgroupPrepMove, |ops, cx| {
                let p = cx.task(p);
                ops.cgroup_prep_move(cx, p, from_id, to_id)
            });
            if let Err(err) = result {
                self.sanitize_err(root, "cgroup_prep_move", err);
                return;
            }
        }
        self.sched_move_task(p, |engine| {
            engine.p_mut(p).cgroup = to;
            if let Some(root) = root
                && engine.sch(root).has(OpSet::CGROUP_MOVE)
            {
                engine.call_task(root, Op::CgroupMove, p, |ops, cx, p| {
                    ops.cgroup_move(cx, p, from_id, to_id);
                });
            }
        });
        self.trace_as(p, TracepointSet::CGROUP_ATTACH_TASK, |_| Tracepoint::CgroupAttachTask {
            cgroup: to_id,
            p,
            threadgroup: false,
        });
        let path = self.cgroups.path(to).to_owned();
        self.record(|engine| What::Changed {
            task: engine.name(p),
            what: format!("cgroup {path}"),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ancestors_are_made() {
        let mut cgroups = Cgroups::new(&["/a/b/c".into(), "/".into(), "/a/d".into()]);
        let paths: Vec<_> = cgroups.all.iter().map(|c| c.path.as_str()).collect();
        assert_eq!(paths, ["/", "/a", "/a/b", "/a/b/c", "/a/d"]);
        let (a, c, d) = (1, 3, 4);
        assert!(cgroups.is_below(c, a) && cgroups.is_below(a, a) && !cgroups.is_below(d, 2));
        cgroups.set_sched_below(2, Some(SchedIdx(1)));
        assert_eq!(cgroups.sched(c), Some(SchedIdx(1)));
        assert_eq!(cgroups.sched(d), None);
    }

    #[test]
    fn all_are_visited_as_a_tree() {
        let cgroups = Cgroups::new(&["/p".into(), "/r".into(), "/p/q".into(), "/s".into()]);
        let paths = |order: Vec<u32>| order.iter().map(|&c| cgroups.path(c)).collect::<Vec<_>>();
        assert_eq!(paths(cgroups.pre_order()), ["/", "/p", "/p/q", "/r", "/s"]);
        assert_eq!(paths(cgroups.post_order()), ["/p/q", "/p", "/r", "/s", "/"]);
    }
}
