//! Helpers of maps.

use super::{lock, negative};
use crate::image::MapType;
use crate::sched::call::{Bad, Call};
use crate::sched::map::errno::{E2BIG, EINVAL, ENOENT};
use crate::sched::map::fields::Field;
use crate::sched::map::storage::Owner;
use crate::sched::map::{EXIST, Fails, Here, LOCK, Store};
use crate::sched::state::Inner;

/// `BPF_LOCAL_STORAGE_GET_F_CREATE`.
const CREATE: u64 = 1;
/// `BPF_F_INDEX_MASK`, which also stands for the CPU that the program runs on.
const INDEX_MASK: u64 = 0xffff_ffff;
/// Bytes of a `struct bpf_perf_event_value`.
const EVENT_VALUE: u32 = 24;
/// The most that is cleared where a program gives a wrong size.
const MAX_EVENT_VALUE: u32 = 1 << 16;

impl Fails {
    /// Why the program must be ended, unless it gets an error.
    pub(super) fn value(self) -> Result<u64, Bad> {
        match self {
            Self::Errno(errno) => Ok(negative(errno)),
            Self::Never(why) => Err(why.into()),
        }
    }
}

/// Which CPU a program runs on.
pub(super) fn here(call: &Call<'_, '_>) -> Here {
    Here { cpu: call.cx.this_cpu().0, cpus: call.cx.nr_cpu_ids() }
}

/// The map that the first argument is.
pub(in crate::sched) fn map(call: &mut Call<'_, '_>) -> Result<usize, Bad> {
    let addr = call.args[0];
    let Inner { maps, memory, .. } = call.inner()?;
    maps.find(memory, addr).ok_or_else(|| format!("its argument 1 is no map: {addr:#x}").into())
}

/// The bytes of a key or a value at an address.
pub(super) fn bytes(call: &mut Call<'_, '_>, addr: u64, size: u32) -> Result<Vec<u8>, Bad> {
    let mut bytes = vec![0; size as usize];
    call.read(addr, &mut bytes)?;
    Ok(bytes)
}

/// The map, and the key that the second argument points to.
fn map_and_key(call: &mut Call<'_, '_>) -> Result<(usize, Vec<u8>), Bad> {
    let map = map(call)?;
    let size = call.inner()?.maps.get(map).shape.key_size;
    let key = bytes(call, call.args[1], size)?;
    Ok((map, key))
}

/// What of a map's failure a program that gets a pointer sees.
fn pointer(found: Result<Option<u64>, Fails>) -> Result<u64, Bad> {
    match found {
        Ok(found) => Ok(found.unwrap_or(0)),
        Err(Fails::Errno(_)) => Ok(0),
        Err(Fails::Never(why)) => Err(why.into()),
    }
}

pub(super) fn lookup_elem(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (map, key) = map_and_key(call)?;
    let here = here(call);
    let Inner { maps, memory, .. } = call.inner()?;
    pointer(maps.lookup(memory, map, here, &key))
}

pub(super) fn lookup_percpu_elem(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (map, key) = map_and_key(call)?;
    let (here, cpu) = (here(call), call.args[2] as u32);
    let Inner { maps, memory, .. } = call.inner()?;
    pointer(maps.lookup_percpu(memory, map, here, &key, cpu))
}

pub(super) fn update_elem(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (map, key) = map_and_key(call)?;
    let size = call.inner()?.maps.get(map).shape.value_size;
    let [_, _, value, flags, _] = call.args;
    let value = bytes(call, value, size)?;
    if let Some(lock) = lock_of(call.inner()?, map, &key, flags) {
        // copy_map_value_locked(): for the copy alone.
        lock::take(call, lock)?;
        lock::give_back(call, lock)?;
    }
    let here = here(call);
    let inner = call.inner()?;
    let before = inner.maps.deleted().len();
    let Inner { maps, memory, timers, .. } = &mut *inner;
    if let Err(fails) = maps.update(memory, map, here, (&key, &value), flags) {
        return fails.value();
    }
    // bpf_obj_cancel_fields(): a value that is written anew has no timer.
    if let Store::Array(array) = &*maps.get(map).store
        && let Some(value) = array.lookup(&maps.get(map).shape, &key)
    {
        timers.drop_within(memory, value, size.into());
    }
    inner.deleted_since(before);
    Ok(0)
}

/// The lock of the element that an update with these flags changes in its place, under it.
fn lock_of(inner: &Inner, map: usize, key: &[u8], flags: u64) -> Option<u64> {
    if flags != LOCK && flags != LOCK | EXIST {
        return None;
    }
    let map = inner.maps.get(map);
    let lock = map.shape.fields.place_of(Field::SpinLock)?;
    let value = match &*map.store {
        Store::Array(array) => array.lookup(&map.shape, key)?,
        Store::Hash(hash) => hash.in_place(key)?,
        _ => return None,
    };
    Some(value + u64::from(lock))
}

pub(super) fn delete_elem(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (map, key) = map_and_key(call)?;
    let inner = call.inner()?;
    let before = inner.maps.deleted().len();
    match inner.maps.delete(&mut inner.memory, map, &key) {
        Ok(()) => {
            inner.deleted_since(before);
            Ok(0)
        }
        Err(fails) => fails.value(),
    }
}

pub(super) fn push_elem(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let map = map(call)?;
    let [_, value, flags, ..] = call.args;
    let size = call.inner()?.maps.get(map).shape.value_size;
    let value = bytes(call, value, size)?;
    let Inner { maps, memory, .. } = call.inner()?;
    let pushed =
        maps.queue(map).and_then(|(queue, shape)| queue.push(memory, shape, &value, flags));
    pushed.map_or_else(Fails::value, |()| Ok(0))
}

pub(super) fn pop_elem(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    take(call, true)
}

pub(super) fn peek_elem(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    take(call, false)
}

/// What an empty queue gives is cleared.
fn take(call: &mut Call<'_, '_>, remove: bool) -> Result<u64, Bad> {
    let map = map(call)?;
    let Inner { maps, memory, .. } = call.inner()?;
    let size = maps.get(map).shape.value_size as usize;
    let got = maps.queue(map).and_then(|(queue, shape)| queue.get(memory, shape, remove));
    let (value, result) = match got {
        Ok(value) => (value, 0),
        Err(fails) => (vec![0; size], fails.value()?),
    };
    call.write(call.args[1], &value)?;
    Ok(result)
}

pub(super) fn task_storage_get(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    if call.args[1] == 0 {
        return Ok(0);
    }
    let p = call.task(1)?;
    let slot = call.cx.slot(p);
    let map = map(call)?;
    let (storage, _, deleted) = match call.inner()?.maps.storage(map, MapType::TASK_STORAGE) {
        Ok(found) => found,
        Err(fails) => return fails.value(),
    };
    storage.drop_former(slot, deleted);
    // Only a task that is still referred to gets a new one.
    if call.cx.task_acquire(p) {
        call.cx.task_release(p);
    } else {
        call.args[3] &= !CREATE;
    }
    storage_get(call, map, MapType::TASK_STORAGE, Owner::Task(slot))
}

pub(super) fn task_storage_delete(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    if call.args[1] == 0 {
        return Ok(negative(EINVAL));
    }
    let p = call.task(1)?;
    let owner = Owner::Task(call.cx.slot(p));
    storage_delete(call, MapType::TASK_STORAGE, owner)
}

pub(super) fn cgrp_storage_get(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    if call.args[1] == 0 {
        return Ok(0);
    }
    let owner = Owner::Cgroup(call.cgroup(1)?);
    let map = map(call)?;
    storage_get(call, map, MapType::CGRP_STORAGE, owner)
}

pub(super) fn cgrp_storage_delete(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    if call.args[1] == 0 {
        return Ok(negative(EINVAL));
    }
    let owner = Owner::Cgroup(call.cgroup(1)?);
    storage_delete(call, MapType::CGRP_STORAGE, owner)
}

/// A value of an owner's, which is made if that is asked for. Nothing for flags that are not known.
fn storage_get(call: &mut Call<'_, '_>, map: usize, of: MapType, owner: Owner) -> Result<u64, Bad> {
    let [_, _, initial, flags, _] = call.args;
    if flags & !CREATE != 0 {
        return Ok(0);
    }
    let (storage, shape, _) = match call.inner()?.maps.storage(map, of) {
        Ok(found) => found,
        Err(fails) => return fails.value(),
    };
    if let Some(addr) = storage.lookup(owner) {
        return Ok(addr);
    }
    if flags & CREATE == 0 {
        return Ok(0);
    }
    let size = shape.value_size;
    let initial = if initial == 0 { None } else { Some(bytes(call, initial, size)?) };
    let Inner { maps, memory, .. } = call.inner()?;
    let made = maps
        .storage(map, of)
        .and_then(|(storage, shape, _)| storage.create(memory, shape, owner, initial.as_deref()));
    pointer(made.map(Some))
}

fn storage_delete(call: &mut Call<'_, '_>, of: MapType, owner: Owner) -> Result<u64, Bad> {
    let map = map(call)?;
    let inner = call.inner()?;
    let before = inner.maps.deleted().len();
    let gone = inner
        .maps
        .storage(map, of)
        .and_then(|(storage, _, deleted)| storage.delete(owner, deleted));
    match gone {
        Ok(()) => {
            inner.deleted_since(before);
            Ok(0)
        }
        Err(fails) => fails.value(),
    }
}

/// `bpf_perf_event_output()`.
pub(super) fn perf_event_output(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    const MAP: usize = 1;
    Ok(negative(no_event(call, MAP, call.args[2])?))
}

/// `bpf_perf_event_read()`.
pub(super) fn perf_event_read(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok(negative(no_event(call, 0, call.args[1])?))
}

/// `bpf_perf_event_read_value()`: what it would read is all 0.
pub(super) fn perf_event_read_value(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [_, flags, to, size, _] = call.args;
    let errno = no_event(call, 0, flags)?;
    let size = size as u32;
    if size > MAX_EVENT_VALUE {
        return Err(format!("its argument 4 is {size} bytes").into());
    }
    call.write(to, &vec![0; size as usize])?;
    Ok(negative(if size == EVENT_VALUE { errno } else { EINVAL }))
}

/// What a helper that uses an event of an array returns: nobody has opened one.
fn no_event(call: &mut Call<'_, '_>, argument: usize, flags: u64) -> Result<i32, Bad> {
    let addr = call.args[argument];
    let (cpu, cpus) = (call.cx.this_cpu().0, call.cx.nr_cpu_ids());
    let Inner { maps, memory, .. } = call.inner()?;
    let map = maps.find(memory, addr).map(|map| maps.get(map));
    let Some(map) = map.filter(|map| matches!(*map.store, Store::Events)) else {
        let what = format!("its argument {} is no array of events: {addr:#x}", argument + 1);
        return Err(what.into());
    };
    if flags & !INDEX_MASK != 0 {
        return Ok(EINVAL);
    }
    let index = if flags == INDEX_MASK { cpu } else { flags as u32 };
    let entries = if map.shape.max_entries == 0 { cpus } else { map.shape.max_entries };
    Ok(if index >= entries { E2BIG } else { ENOENT })
}
