//! Lists of a program's objects: `struct bpf_list_head` and `struct bpf_list_node`.

use scxlab_engine::flags::errno::EINVAL;

use super::{heap, negative};
use crate::sched::call::{Bad, Call};

// A node's words, as in `struct bpf_list_node_kern`; the first two are a head's too.
const NEXT: u64 = 0;
const PREV: u64 = 8;
const OWNER: u64 = 16;

/// A head of zeros is an empty list.
fn init(call: &mut Call<'_, '_>, head: u64) -> Result<(), Bad> {
    if call.read_at(head, NEXT)? == 0 {
        call.put_at(head, NEXT, head)?;
        call.put_at(head, PREV, head)?;
    }
    Ok(())
}

/// `__bpf_list_add()`: behind `prev`, which is the head or a node of the list. What cannot be added
/// is dropped.
fn add_behind(call: &mut Call<'_, '_>, node: u64, head: u64, prev: u64) -> Result<u64, Bad> {
    let not_in_list = prev != head && call.read_at(prev, OWNER)? != head;
    if not_in_list || call.read_at(node, OWNER)? != 0 {
        heap::drop_of_part(call, node)?;
        return Ok(negative(EINVAL));
    }
    let next = call.read_at(prev, NEXT)?;
    for (of, at, word) in [
        (node, NEXT, next),
        (node, PREV, prev),
        (next, PREV, node),
        (prev, NEXT, node),
        (node, OWNER, head),
    ] {
        call.put_at(of, at, word)?;
    }
    Ok(0)
}

pub(super) fn push_front(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [head, node, ..] = call.args;
    init(call, head)?;
    add_behind(call, node, head, head)
}

pub(super) fn push_back(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [head, node, ..] = call.args;
    init(call, head)?;
    let last = call.read_at(head, PREV)?;
    add_behind(call, node, head, last)
}

pub(super) fn add(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [head, node, prev, ..] = call.args;
    init(call, head)?;
    add_behind(call, node, head, prev)
}

/// `__bpf_list_del()`: the node, or NULL if it is not in the list.
fn take(call: &mut Call<'_, '_>, head: u64, node: u64) -> Result<u64, Bad> {
    if node == head || call.read_at(node, OWNER)? != head {
        return Ok(0);
    }
    let (next, prev) = (call.read_at(node, NEXT)?, call.read_at(node, PREV)?);
    for (of, at, word) in [
        (prev, NEXT, next),
        (next, PREV, prev),
        (node, NEXT, node),
        (node, PREV, node),
        (node, OWNER, 0),
    ] {
        call.put_at(of, at, word)?;
    }
    Ok(node)
}

/// `bpf_list_head_free()`: empties a list. What was in it, first one first.
pub(super) fn drain(call: &mut Call<'_, '_>, head: u64) -> Result<Vec<u64>, Bad> {
    let mut nodes = Vec::new();
    let mut node = call.read_at(head, NEXT)?;
    while node != 0 && node != head {
        // One that was there already is in no list any more, so this comes to an end.
        if call.read_at(node, OWNER)? != head {
            return Err("the list is damaged".into());
        }
        let next = call.read_at(node, NEXT)?;
        for (at, word) in [(NEXT, node), (PREV, node), (OWNER, 0)] {
            call.put_at(node, at, word)?;
        }
        nodes.push(node);
        node = next;
    }
    if !nodes.is_empty() {
        call.put_at(head, NEXT, head)?;
        call.put_at(head, PREV, head)?;
    }
    Ok(nodes)
}

/// The node at an end of the list, or NULL.
fn end(call: &mut Call<'_, '_>, which: u64) -> Result<u64, Bad> {
    let head = call.args[0];
    init(call, head)?;
    let node = call.read_at(head, which)?;
    Ok(if node == head { 0 } else { node })
}

fn pop(call: &mut Call<'_, '_>, which: u64) -> Result<u64, Bad> {
    match end(call, which)? {
        0 => Ok(0),
        node => take(call, call.args[0], node),
    }
}

pub(super) fn pop_front(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    pop(call, NEXT)
}

pub(super) fn pop_back(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    pop(call, PREV)
}

pub(super) fn front(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    end(call, NEXT)
}

pub(super) fn back(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    end(call, PREV)
}

pub(super) fn del(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [head, node, ..] = call.args;
    init(call, head)?;
    take(call, head, node)
}

pub(super) fn empty(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok((end(call, NEXT)? == 0).into())
}

pub(super) fn is_first(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok((end(call, NEXT)? == call.args[1]).into())
}

pub(super) fn is_last(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok((end(call, PREV)? == call.args[1]).into())
}
