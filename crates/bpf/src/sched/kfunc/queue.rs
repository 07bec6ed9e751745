//! Dispatch queues: into them, out of them, and walking through them.

use scxlab_engine::{DsqId, DsqIter, EnqFlags, Errno, flags::errno as number};

use super::{errno, negative};
use crate::sched::call::{Bad, Call};

/// `SCX_REENQ_ANY`.
const REENQ_ANY: u64 = 1;
/// `SCX_DSQ_ITER_REV`.
const ITER_REV: u64 = 1 << 16;

pub(super) fn insert(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let p = call.task(0)?;
    let [_, dsq, slice, enq, _] = call.args;
    let enq = EnqFlags::from_bits_retain(enq);
    Ok(call.with_core(|cx| cx.dsq_insert(p, DsqId(dsq), slice, enq)).into())
}

pub(super) fn insert_vtime(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let p = call.task(0)?;
    let [_, dsq, slice, vtime, enq] = call.args;
    let enq = EnqFlags::from_bits_retain(enq);
    Ok(call.with_core(|cx| cx.dsq_insert_vtime(p, DsqId(dsq), slice, vtime, enq)).into())
}

/// `struct scx_bpf_dsq_insert_vtime_args`: queue, slice, vtime, flags.
pub(super) fn insert_vtime_args(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let mut bytes = [0; 32];
    call.read(call.args[1], &mut bytes)?;
    for (arg, word) in call.args[1..].iter_mut().zip(bytes.as_chunks::<8>().0) {
        *arg = u64::from_le_bytes(*word);
    }
    insert_vtime(call)
}

pub(super) fn dispatch_nr_slots(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok(call.with_core(|cx| cx.dispatch_nr_slots()).into())
}

pub(super) fn dispatch_cancel(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    call.with_core(|cx| cx.dispatch_cancel());
    Ok(0)
}

pub(super) fn move_to_local(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    call.args[1] = 0;
    move_to_local_with(call)
}

pub(super) fn move_to_local_with(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [dsq, enq, ..] = call.args;
    let enq = EnqFlags::from_bits_retain(enq);
    Ok(call.with_core(|cx| cx.dsq_move_to_local(DsqId(dsq), enq)).into())
}

pub(super) fn sub_dispatch(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let cgroup = call.args[0];
    Ok(call.with_core(|cx| cx.sub_dispatch(cgroup)).into())
}

/// The walk at an address; one that gives nothing if there is none.
fn walk(call: &mut Call<'_, '_>) -> Result<DsqIter, Bad> {
    Ok(DsqIter::from_number(call.read_word(call.args[0])?))
}

pub(super) fn move_task(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (it, p) = (walk(call)?, call.task(1)?);
    let [_, _, dsq, enq, _] = call.args;
    let enq = EnqFlags::from_bits_retain(enq);
    Ok(call.with_core(|cx| cx.dsq_move(it, p, DsqId(dsq), enq)).into())
}

pub(super) fn move_task_vtime(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (it, p) = (walk(call)?, call.task(1)?);
    let [_, _, dsq, enq, _] = call.args;
    let enq = EnqFlags::from_bits_retain(enq);
    Ok(call.with_core(|cx| cx.dsq_move_vtime(it, p, DsqId(dsq), enq)).into())
}

pub(super) fn set_slice(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (it, slice) = (walk(call)?, call.args[1]);
    call.cx.dsq_move_set_slice(it, slice);
    Ok(0)
}

pub(super) fn set_vtime(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (it, vtime) = (walk(call)?, call.args[1]);
    call.cx.dsq_move_set_vtime(it, vtime);
    Ok(0)
}

pub(super) fn iter_new(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [it, dsq, flags, ..] = call.args;
    call.write(it, &[0; 48])?;
    if flags & !ITER_REV != 0 {
        return Ok(negative(number::EINVAL));
    }
    match call.cx.dsq_iter(DsqId(dsq), flags & ITER_REV != 0) {
        Ok(walk) => {
            call.put_word(it, walk.number())?;
            Ok(0)
        }
        Err(err) => Ok(negative(err.0)),
    }
}

pub(super) fn iter_next(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let it = walk(call)?;
    let next = call.cx.dsq_iter_next(it);
    Ok(call.address(next)?)
}

pub(super) fn iter_destroy(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let it = walk(call)?;
    call.cx.dsq_iter_destroy(it);
    call.put_word(call.args[0], 0)?;
    Ok(0)
}

pub(super) fn reenqueue_local(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok(call.with_core(|cx| cx.reenqueue_local()).into())
}

pub(super) fn reenqueue_own(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    call.with_core(|cx| cx.dsq_reenq(DsqId::LOCAL));
    Ok(0)
}

pub(super) fn reenq(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [dsq, flags, ..] = call.args;
    if flags & !REENQ_ANY != 0 {
        call.cx.fault(format!("invalid SCX_REENQ flags {flags:#x}"));
        return Ok(0);
    }
    call.with_core(|cx| cx.dsq_reenq(DsqId(dsq)));
    Ok(0)
}

pub(super) fn create(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [dsq, node, ..] = call.args;
    // There is one node, 0; and -1 for any.
    let node_is_there = matches!(node as i32, -1 | 0);
    let invalid = Err(Errno(number::EINVAL));
    let result =
        if node_is_there { call.with_core(|cx| cx.create_dsq(DsqId(dsq))) } else { invalid };
    Ok(errno(result, |()| 0))
}

pub(super) fn destroy(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let dsq = DsqId(call.args[0]);
    call.with_core(|cx| cx.destroy_dsq(dsq));
    Ok(0)
}

pub(super) fn nr_queued(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let dsq = DsqId(call.args[0]);
    let queued = call.with_core(|cx| cx.dsq_nr_queued(dsq));
    Ok(errno(queued, u64::from))
}

pub(super) fn peek(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let dsq = DsqId(call.args[0]);
    let first = call.with_core(|cx| cx.dsq_peek(dsq));
    Ok(call.address(first)?)
}
