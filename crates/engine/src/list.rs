//! Lists that run through tasks, as the kernel's `struct list_head` does: adding and removing is
//! a few stores, and a task can be taken out wherever it is.

use std::marker::PhantomData;

use crate::task::{ListNode, NIL, TaskIdx, TaskStruct};

/// Which node of a task a list runs through.
pub(crate) trait Link {
    fn of(p: &TaskStruct) -> &ListNode;
    fn of_mut(p: &mut TaskStruct) -> &mut ListNode;
}

macro_rules! links {
    ($($(#[$doc:meta])* $name:ident => $field:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub(crate) struct $name;
        impl Link for $name {
            fn of(p: &TaskStruct) -> &ListNode {
                &p.scx.$field
            }
            fn of_mut(p: &mut TaskStruct) -> &mut ListNode {
                &mut p.scx.$field
            }
        }
    )*};
}

links! {
    /// `p->scx.dsq_list`: a dispatch queue, or a CPU's deferred direct dispatches.
    DsqLink => dsq_list;
    /// `p->scx.runnable_node`: a CPU's `runnable_list`.
    RunnableLink => runnable_node;
    /// `p->scx.tasks_node`: `scx_tasks`.
    TasksLink => tasks_node;
}

/// A list's ends.
#[derive(Clone, Debug)]
pub(crate) struct List<L> {
    head: u32,
    tail: u32,
    link: PhantomData<L>,
}

impl<L> Default for List<L> {
    fn default() -> Self {
        Self { head: NIL, tail: NIL, link: PhantomData }
    }
}

impl<L: Link> List<L> {
    pub fn first(&self) -> Option<TaskIdx> {
        (self.head != NIL).then_some(TaskIdx(self.head))
    }

    pub fn is_empty(&self) -> bool {
        self.head == NIL
    }

    pub fn next(tasks: &[TaskStruct], p: TaskIdx) -> Option<TaskIdx> {
        let next = L::of(&tasks[p.0 as usize]).next;
        (next != NIL).then_some(TaskIdx(next))
    }

    pub fn last(&self) -> Option<TaskIdx> {
        (self.tail != NIL).then_some(TaskIdx(self.tail))
    }

    pub fn prev(tasks: &[TaskStruct], p: TaskIdx) -> Option<TaskIdx> {
        let prev = L::of(&tasks[p.0 as usize]).prev;
        (prev != NIL).then_some(TaskIdx(prev))
    }

    pub fn push_front(&mut self, tasks: &mut [TaskStruct], p: TaskIdx) {
        let old = self.head;
        *L::of_mut(&mut tasks[p.0 as usize]) = ListNode { next: old, prev: NIL };
        self.head = p.0;
        if old == NIL {
            self.tail = p.0;
        } else {
            L::of_mut(&mut tasks[old as usize]).prev = p.0;
        }
    }

    pub fn push_back(&mut self, tasks: &mut [TaskStruct], p: TaskIdx) {
        match self.last() {
            None => self.push_front(tasks, p),
            Some(last) => self.insert_after(tasks, last, p),
        }
    }

    pub fn insert_after(&mut self, tasks: &mut [TaskStruct], before: TaskIdx, p: TaskIdx) {
        let next = L::of(&tasks[before.0 as usize]).next;
        *L::of_mut(&mut tasks[p.0 as usize]) = ListNode { next, prev: before.0 };
        L::of_mut(&mut tasks[before.0 as usize]).next = p.0;
        if next == NIL {
            self.tail = p.0;
        } else {
            L::of_mut(&mut tasks[next as usize]).prev = p.0;
        }
    }

    /// Takes `p`, which is on this list, off it.
    pub fn remove(&mut self, tasks: &mut [TaskStruct], p: TaskIdx) {
        let ListNode { next, prev } =
            std::mem::replace(L::of_mut(&mut tasks[p.0 as usize]), ListNode::OFF);
        if prev == NIL {
            self.head = next;
        } else {
            L::of_mut(&mut tasks[prev as usize]).next = next;
        }
        if next == NIL {
            self.tail = prev;
        } else {
            L::of_mut(&mut tasks[next as usize]).prev = prev;
        }
    }

    pub fn pop_front(&mut self, tasks: &mut [TaskStruct]) -> Option<TaskIdx> {
        let first = self.first()?;
        self.remove(tasks, first);
        Some(first)
    }

    pub fn iter<'a>(&self, tasks: &'a [TaskStruct]) -> impl Iterator<Item = TaskIdx> + use<'a, L> {
        std::iter::successors(self.first(), |&p| Self::next(tasks, p))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_and_removes_anywhere() {
        let mut tasks: Vec<_> = (0..5).map(|_| TaskStruct::new()).collect();
        let mut list = List::<DsqLink>::default();
        for i in [1, 2, 3] {
            list.push_back(&mut tasks, TaskIdx(i));
        }
        list.push_front(&mut tasks, TaskIdx(0));
        list.insert_after(&mut tasks, TaskIdx(1), TaskIdx(4));
        let order = |list: &List<DsqLink>, tasks: &[TaskStruct]| {
            list.iter(tasks).map(|p| p.0).collect::<Vec<_>>()
        };
        assert_eq!(order(&list, &tasks), [0, 1, 4, 2, 3]);
        list.remove(&mut tasks, TaskIdx(4));
        list.remove(&mut tasks, TaskIdx(3));
        assert_eq!(list.last(), Some(TaskIdx(2)));
        assert!(!tasks[3].scx.dsq_list.is_on());
        assert_eq!(list.pop_front(&mut tasks), Some(TaskIdx(0)));
        assert_eq!(order(&list, &tasks), [1, 2]);
    }
}
