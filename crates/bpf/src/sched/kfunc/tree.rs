//! Trees of a program's objects: `struct bpf_rb_root` and `struct bpf_rb_node`.
//!
//! A kernel's are red-black trees. Here each node has a rank that follows from its address, and none
//! is above one of a higher rank, which keeps a tree as flat on average (a treap). The order is the
//! same; which node is above which differs, and shows only in `bpf_rbtree_left()` and its like.

use super::{heap, negative};
use crate::machine::Callee;
use crate::sched::bpf_func::{Next, Walk};
use crate::sched::call::{Bad, Call};

// A node's words, as in `struct bpf_rb_node_kern`.
const PARENT: u64 = 0;
const RIGHT: u64 = 8;
const LEFT: u64 = 16;
const OWNER: u64 = 24;

/// More than any tree is deep; one that a program has damaged may have no end.
const DEPTH: u32 = 4096;
const DAMAGED: &str = "the tree is damaged";

/// `bpf_rbtree_add()` while it asks the program where the node belongs.
#[derive(Clone, Debug)]
pub(in crate::sched) struct Insertion {
    pub callee: Callee,
    root: u64,
    node: u64,
    less: u64,
    /// The node that it is at.
    at: u64,
    depth: u32,
}

pub(super) fn add(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [root, node, less, ..] = call.args;
    let insertion = Insertion { callee: call.callee, root, node, less, at: 0, depth: 0 };
    call.walks.push(Walk::insert(insertion));
    call.begun = true;
    Ok(0)
}

impl Insertion {
    /// Goes on with what the program returned last.
    pub fn step(&mut self, call: &mut Call<'_, '_>, returned: Option<u64>) -> Result<Next, Bad> {
        let Self { root, node, less, at, .. } = *self;
        let next = match returned {
            None if call.read_at(node, OWNER)? != 0 => {
                heap::drop_of_part(call, node)?;
                return Ok(Next::Done(negative(scxlab_engine::flags::errno::EINVAL)));
            }
            None => call.read_word(root)?,
            Some(is_less) => {
                let side = if is_less as u8 != 0 { LEFT } else { RIGHT };
                let next = call.read_at(at, side)?;
                if next == 0 {
                    call.put_at(at, side, node)?;
                }
                next
            }
        };
        if next == 0 {
            link(call, root, node, at)?;
            return Ok(Next::Done(0));
        }
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(DAMAGED.into());
        }
        self.at = next;
        Ok(Next::Call(less, [node, next, 0, 0, 0]))
    }
}

/// The rank of a node: its address, well mixed (the finalizer of splitmix64).
fn rank(node: u64) -> u64 {
    let x = (node ^ node >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// A node that stands below a parent, or alone, becomes part of the tree.
fn link(call: &mut Call<'_, '_>, root: u64, node: u64, parent: u64) -> Result<(), Bad> {
    for (at, word) in [(PARENT, parent), (LEFT, 0), (RIGHT, 0), (OWNER, root)] {
        call.put_at(node, at, word)?;
    }
    if parent == 0 {
        return call.put_word(root, node);
    }
    for _ in 0..DEPTH {
        let parent = call.read_at(node, PARENT)?;
        if parent == 0 || rank(parent) >= rank(node) {
            return Ok(());
        }
        rise(call, root, node)?;
    }
    Err(DAMAGED.into())
}

/// Puts a node above its parent: a rotation.
fn rise(call: &mut Call<'_, '_>, root: u64, node: u64) -> Result<(), Bad> {
    let parent = call.read_at(node, PARENT)?;
    let above = call.read_at(parent, PARENT)?;
    let (side, other) =
        if call.read_at(parent, LEFT)? == node { (LEFT, RIGHT) } else { (RIGHT, LEFT) };
    let between = call.read_at(node, other)?;
    call.put_at(parent, side, between)?;
    if between != 0 {
        call.put_at(between, PARENT, parent)?;
    }
    call.put_at(node, other, parent)?;
    call.put_at(parent, PARENT, node)?;
    call.put_at(node, PARENT, above)?;
    replace(call, root, above, parent, node)
}

/// What is above one node is now above another, or above none.
fn replace(call: &mut Call<'_, '_>, root: u64, above: u64, from: u64, to: u64) -> Result<(), Bad> {
    if above == 0 {
        return call.put_word(root, to);
    }
    let side = if call.read_at(above, LEFT)? == from { LEFT } else { RIGHT };
    call.put_at(above, side, to)
}

pub(super) fn remove(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [root, node, ..] = call.args;
    if call.read_at(node, OWNER)? != root {
        return Ok(0);
    }
    for _ in 0..DEPTH {
        let (left, right) = (call.read_at(node, LEFT)?, call.read_at(node, RIGHT)?);
        let up = match (left, right) {
            (0, only) | (only, 0) => {
                let above = call.read_at(node, PARENT)?;
                if only != 0 {
                    call.put_at(only, PARENT, above)?;
                }
                replace(call, root, above, node, only)?;
                for at in [PARENT, LEFT, RIGHT, OWNER] {
                    call.put_at(node, at, 0)?;
                }
                return Ok(node);
            }
            _ if rank(left) >= rank(right) => left,
            _ => right,
        };
        rise(call, root, up)?;
    }
    Err(DAMAGED.into())
}

/// `bpf_rb_root_free()`: empties a tree. What was in it, each node before those below it.
pub(super) fn drain(call: &mut Call<'_, '_>, root: u64) -> Result<Vec<u64>, Bad> {
    let mut nodes = Vec::new();
    let mut todo = vec![call.read_word(root)?];
    while let Some(node) = todo.pop() {
        if node == 0 {
            continue;
        }
        // One that was there already is in no tree any more, so this comes to an end.
        if call.read_at(node, OWNER)? != root {
            return Err(DAMAGED.into());
        }
        todo.extend([call.read_at(node, RIGHT)?, call.read_at(node, LEFT)?]);
        for at in [PARENT, LEFT, RIGHT, OWNER] {
            call.put_at(node, at, 0)?;
        }
        nodes.push(node);
    }
    if !nodes.is_empty() {
        call.put_word(root, 0)?;
    }
    Ok(nodes)
}

pub(super) fn first(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let mut at = call.read_word(call.args[0])?;
    for _ in 0..DEPTH {
        match at {
            0 => return Ok(0),
            node => match call.read_at(node, LEFT)? {
                0 => return Ok(node),
                left => at = left,
            },
        }
    }
    Err(DAMAGED.into())
}

pub(super) fn root(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    call.read_word(call.args[0])
}

pub(super) fn left(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    child(call, LEFT)
}

pub(super) fn right(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    child(call, RIGHT)
}

fn child(call: &mut Call<'_, '_>, side: u64) -> Result<u64, Bad> {
    let [root, node, ..] = call.args;
    if call.read_at(node, OWNER)? != root {
        return Ok(0);
    }
    call.read_at(node, side)
}
