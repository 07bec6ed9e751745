//! Helpers of rings.

use super::map::{bytes, map};
use super::negative;
use crate::sched::call::{Bad, Call};
use crate::sched::map::errno::{EAGAIN, EINVAL};
use crate::sched::map::{Fails, Store};
use crate::sched::state::Inner;

/// `BPF_RB_NO_WAKEUP` and `BPF_RB_FORCE_WAKEUP`.
const WAKEUPS: u64 = 3;

/// The address of a new record, or nothing.
pub(in crate::sched) fn reserve_in(
    call: &mut Call<'_, '_>,
    map: usize,
    size: u64,
) -> Result<Option<u64>, Bad> {
    let Inner { maps, memory, .. } = call.inner()?;
    match maps.ring(map).and_then(|(ring, shape)| ring.reserve(memory, shape, size)) {
        Ok(found) => Ok(found),
        Err(Fails::Errno(_)) => Ok(None),
        Err(Fails::Never(why)) => Err(why.into()),
    }
}

fn commit(call: &mut Call<'_, '_>, map: usize, addr: u64, discard: bool) -> Result<u64, Bad> {
    let Inner { maps, memory, .. } = call.inner()?;
    let done = maps.ring(map).and_then(|(ring, shape)| ring.commit(memory, shape, addr, discard));
    match done {
        Ok(()) => Ok(0),
        Err(Fails::Errno(_)) => Err("there is no memory for the record".into()),
        Err(Fails::Never(why)) => Err(why.into()),
    }
}

pub(super) fn reserve(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let map = map(call)?;
    let [_, size, flags, ..] = call.args;
    if flags != 0 {
        return Ok(0);
    }
    Ok(reserve_in(call, map, size)?.unwrap_or(0))
}

pub(super) fn output(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let map = map(call)?;
    let [_, data, size, flags, _] = call.args;
    if flags & !WAKEUPS != 0 {
        return Ok(negative(EINVAL));
    }
    let Some(record) = reserve_in(call, map, size)? else { return Ok(negative(EAGAIN)) };
    let bytes = bytes(call, data, size as u32)?;
    call.write(record, &bytes)?;
    commit(call, map, record, false)
}

pub(super) fn submit(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    submit_in(call, call.args[0], false)?;
    Ok(0)
}

pub(super) fn discard(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    submit_in(call, call.args[0], true)?;
    Ok(0)
}

/// Gives a record to whoever reads the ring, or lets them skip it.
pub(in crate::sched) fn submit_in(
    call: &mut Call<'_, '_>,
    record: u64,
    discard: bool,
) -> Result<(), Bad> {
    let Inner { maps, memory, .. } = call.inner()?;
    let is_it =
        |store: &Store| matches!(store, Store::Ring(ring) if ring.is_reserved(memory, record));
    let Some(map) = maps.iter().position(|map| is_it(&map.store)) else {
        return Err(format!("its argument 1 is no reserved record: {record:#x}").into());
    };
    commit(call, map, record, discard)?;
    Ok(())
}

pub(super) fn query(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let map = map(call)?;
    let what = call.args[1];
    match call.inner()?.maps.ring(map) {
        Ok((ring, _)) => Ok(ring.query(what)),
        Err(fails) => fails.value(),
    }
}

/// `bpf_user_ringbuf_drain()`: user space has written nothing.
pub(super) fn user_drain(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let map = map(call)?;
    if !matches!(*call.inner()?.maps.get(map).store, Store::UserRing) {
        return Err("it is no ring that user space writes".into());
    }
    Ok(if call.args[3] & !WAKEUPS == 0 { 0 } else { negative(EINVAL) })
}
