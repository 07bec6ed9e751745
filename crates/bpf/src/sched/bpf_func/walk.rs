//! What calls the program back: `bpf_loop()`, `bpf_for_each_map_elem()`, and the kernel function
//! `bpf_rbtree_add()`. Where they stand is data, between two calls.

use super::map::{here, map};
use super::negative;
use crate::machine::{Callee, Region, RegionId};
use crate::sched::call::{Bad, Call};
use crate::sched::kfunc::Insertion;
use crate::sched::map::Fails;
use crate::sched::map::errno::{E2BIG, EINVAL};
use crate::sched::state::Inner;

/// `BPF_MAX_LOOPS`.
const MAX_LOOPS: u32 = 8 * 1024 * 1024;

/// What is calling back.
#[derive(Clone, Debug)]
pub(in crate::sched) struct Walk {
    callback: u64,
    /// `callback_ctx`.
    context: u64,
    /// How often it has called.
    calls: u32,
    over: Over,
}

#[derive(Clone, Debug)]
enum Over {
    /// So many rounds.
    Rounds(u32),
    /// The elements of a map: its number and address, the key of the last one, and where a callback
    /// sees a key.
    Elements { map: usize, object: u64, last: Option<Vec<u8>>, key: RegionId },
    /// The nodes of a tree, on the way to where a new one belongs.
    Tree(Insertion),
}

/// What is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sched) enum Next {
    /// The function at this address, with these arguments.
    Call(u64, [u64; 5]),
    /// The helper is done, and returns this.
    Done(u64),
}

/// `bpf_loop()`.
pub(super) fn bpf_loop(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [rounds, callback, context, flags, _] = call.args;
    let rounds = rounds as u32;
    if flags != 0 {
        return Ok(negative(EINVAL));
    }
    if rounds > MAX_LOOPS {
        return Ok(negative(E2BIG));
    }
    call.walks.push(Walk { callback, context, calls: 0, over: Over::Rounds(rounds) });
    call.begun = true;
    Ok(0)
}

/// `bpf_for_each_map_elem()`.
pub(super) fn for_each_map_elem(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let map = map(call)?;
    let [object, callback, context, flags, _] = call.args;
    let Inner { maps, memory, .. } = call.inner()?;
    if let Err(fails) = maps.next_key(map, None) {
        return fails.value();
    }
    if flags != 0 {
        return Ok(negative(EINVAL));
    }
    let shape = &maps.get(map).shape;
    let region = Region::read_only(format!("a key of {}", shape.what));
    let key = memory
        .alloc_zeroed(region, shape.key_size.into())
        .map_err(|full| Bad::from(full.to_string()))?;
    let over = Over::Elements { map, object, last: None, key };
    call.walks.push(Walk { callback, context, calls: 0, over });
    call.begun = true;
    Ok(0)
}

impl Walk {
    /// `bpf_rbtree_add()`, which asks the program for the order.
    pub fn insert(insertion: Insertion) -> Self {
        Self { callback: 0, context: 0, calls: 0, over: Over::Tree(insertion) }
    }

    /// What is to be done, now that the last call returned this.
    pub fn next(&mut self, call: &mut Call<'_, '_>, returned: Option<u64>) -> Result<Next, Bad> {
        if let Over::Tree(insertion) = &mut self.over {
            return insertion.step(call, returned);
        }
        let done = Next::Done(self.calls.into());
        if returned.is_some_and(|value| value != 0) {
            return Ok(done);
        }
        let args = match &mut self.over {
            // That is above.
            Over::Tree(_) => return Ok(done),
            Over::Rounds(rounds) if self.calls == *rounds => return Ok(done),
            Over::Rounds(_) => [self.calls.into(), self.context, 0, 0, 0],
            Over::Elements { map, object, last, key } => {
                let here = here(call);
                let Inner { maps, memory, .. } = call.inner()?;
                let found = maps.next_key(*map, last.as_deref());
                let Ok(Some(next)) = found else { return Ok(done) };
                let value = match maps.peek(memory, *map, here, &next) {
                    Ok(Some(value)) => value,
                    Ok(None) => return Ok(done),
                    Err(Fails::Never(why)) => return Err(why.into()),
                    Err(Fails::Errno(_)) => {
                        return Err("there is no memory for a value of this CPU".into());
                    }
                };
                if memory.poke(*key, 0, &next).is_err() {
                    return Err("its key is gone".into());
                }
                *last = Some(next);
                [*object, key.base(), value, self.context, 0]
            }
        };
        self.calls += 1;
        Ok(Next::Call(self.callback, args))
    }

    /// The helper itself.
    pub fn callee(&self) -> Callee {
        Callee::Helper(match &self.over {
            Over::Rounds(_) => super::LOOP,
            Over::Elements { .. } => super::FOR_EACH_MAP_ELEM,
            Over::Tree(insertion) => return insertion.callee,
        })
    }

    /// Frees what it needed.
    pub fn end(self, call: &mut Call<'_, '_>) {
        if let (Over::Elements { key, .. }, Ok(inner)) = (self.over, call.inner()) {
            inner.memory.free(key);
        }
    }
}
