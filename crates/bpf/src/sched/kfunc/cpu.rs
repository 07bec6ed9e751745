//! CPUs: choosing one, looking at one, and doing something to one.

use scxlab_engine::{
    Cid, CpuId, Errno, KickFlags, PickIdleFlags, WakeFlags, flags::errno as number,
};

use super::{errno, mask, negative};
use crate::sched::call::{Bad, Call};
use crate::sched::object::{Mask, Object};

pub(super) fn select_dfl(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let p = call.task(0)?;
    let [_, prev, wake, is_idle, _] = call.args;
    let prev = CpuId(prev as u32);
    let wake = WakeFlags::from_bits_retain(wake);
    let cpu = call.with_core(|cx| cx.select_cpu_dfl(p, prev, wake));
    call.write(is_idle, &[u8::from(cpu.is_some())])?;
    Ok(cpu.unwrap_or(prev).0.into())
}

pub(super) fn select_and(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (p, cpus) = (call.task(0)?, mask::read(call, call.args[3])?);
    let [_, prev, wake, _, flags] = call.args;
    let (wake, flags) = (WakeFlags::from_bits_retain(wake), PickIdleFlags::from_bits_retain(flags));
    let cpu = call.with_core(|cx| cx.select_cpu_and(p, CpuId(prev as u32), wake, &cpus, flags));
    Ok(errno(cpu, |cpu| cpu.0.into()))
}

/// `struct scx_bpf_select_cpu_and_args`: previous CPU, 4 bytes of nothing, wakeup flags, flags.
pub(super) fn select_and_args(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [p, cpus, args, ..] = call.args;
    let mut bytes = [0; 24];
    call.read(args, &mut bytes)?;
    let word = |at: usize| {
        let bytes = bytes[at..].first_chunk().copied();
        bytes.map_or(0, u64::from_le_bytes)
    };
    call.args = [p, word(0) & u64::from(u32::MAX), word(8), cpus, word(16)];
    select_and(call)
}

pub(super) fn test_and_clear_idle(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let cpu = CpuId(call.args[0] as u32);
    Ok(call.with_core(|cx| cx.test_and_clear_cpu_idle(cpu)).into())
}

pub(super) fn pick_idle(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let cpus = mask::read(call, call.args[0])?;
    let flags = PickIdleFlags::from_bits_retain(call.args[1]);
    let cpu = call.with_core(|cx| cx.pick_idle_cpu(&cpus, flags));
    Ok(errno(cpu.ok_or(Errno(number::EBUSY)), |cpu| cpu.0.into()))
}

pub(super) fn pick_any(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let cpus = mask::read(call, call.args[0])?;
    let flags = PickIdleFlags::from_bits_retain(call.args[1]);
    let cpu = call.with_core(|cx| cx.pick_any_cpu(&cpus, flags));
    Ok(errno(cpu.ok_or(Errno(number::EBUSY)), |cpu| cpu.0.into()))
}

pub(super) fn pick_idle_in_node(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let cpus = mask::read(call, call.args[0])?;
    let [_, node, flags, ..] = call.args;
    let flags = PickIdleFlags::from_bits_retain(flags);
    let cpu = call.with_core(|cx| cx.pick_idle_cpu_node(node as i32, &cpus, flags));
    Ok(errno(cpu, |cpu| cpu.0.into()))
}

pub(super) fn pick_any_in_node(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let cpus = mask::read(call, call.args[0])?;
    let [_, node, flags, ..] = call.args;
    let flags = PickIdleFlags::from_bits_retain(flags);
    let cpu = call.with_core(|cx| cx.pick_any_cpu_node(node as i32, &cpus, flags));
    Ok(errno(cpu, |cpu| cpu.0.into()))
}

pub(super) fn idle_mask_of_node(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    mask_of_node(call, Mask::Idle)
}

pub(super) fn idle_core_mask_of_node(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    mask_of_node(call, Mask::IdleCores)
}

fn mask_of_node(call: &mut Call<'_, '_>, mask: Mask) -> Result<u64, Bad> {
    let node = call.args[0] as i32;
    let mask = if call.cx.check_node(node).is_ok() { mask } else { Mask::None };
    Ok(call.object(Object::Mask(mask))?)
}

pub(super) fn idle_mask(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    mask_of_idle(call, Mask::Idle)
}

pub(super) fn idle_core_mask(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    mask_of_idle(call, Mask::IdleCores)
}

/// The mask itself, which goes on changing; without idle tracking one of no CPU.
fn mask_of_idle(call: &mut Call<'_, '_>, mask: Mask) -> Result<u64, Bad> {
    let mask = if call.cx.tracks_idle() { mask } else { Mask::None };
    Ok(call.object(Object::Mask(mask))?)
}

pub(super) fn all_mask(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok(call.object(Object::Mask(Mask::All))?)
}

pub(super) fn kick(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [cpu, flags, ..] = call.args;
    let flags = KickFlags::from_bits_retain(flags);
    call.with_core(|cx| cx.kick_cpu(CpuId(cpu as u32), flags));
    Ok(0)
}

pub(super) fn kick_cid(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [cid, flags, ..] = call.args;
    let flags = KickFlags::from_bits_retain(flags);
    call.with_core(|cx| cx.kick_cid(Cid(cid as u32), flags));
    Ok(0)
}

pub(super) fn nr_ids(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok(call.cx.nr_cpu_ids().into())
}

pub(super) fn nr_nodes(_: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok(1)
}

pub(super) fn node(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let cpu = CpuId(call.args[0] as u32);
    const NUMA_NO_NODE: i32 = -1;
    Ok(if call.cx.is_cpu(cpu) { 0 } else { NUMA_NO_NODE as u64 })
}

pub(super) fn rq(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let cpu = CpuId(call.args[0] as u32);
    if !call.cx.is_cpu(cpu) {
        return Ok(0);
    }
    Ok(call.object(Object::Rq(cpu))?)
}

pub(super) fn locked_rq(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    match call.cx.locked_cpu() {
        Some(cpu) => Ok(call.object(Object::Rq(cpu))?),
        None => {
            call.cx.fault("accessing rq without holding rq lock");
            Ok(0)
        }
    }
}

pub(super) fn curr(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let cpu = CpuId(call.args[0] as u32);
    let curr = call.cx.cpu_curr(cpu);
    Ok(call.address(curr)?)
}

pub(super) fn cid_curr(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let cid = Cid(call.args[0] as u32);
    let curr = call.cx.cid_curr(cid);
    Ok(call.address(curr)?)
}

pub(super) fn perf_cap(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let cpu = CpuId(call.args[0] as u32);
    Ok(call.cx.cpuperf_cap(cpu).into())
}

pub(super) fn perf_cur(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let cpu = CpuId(call.args[0] as u32);
    Ok(call.cx.cpuperf_cur(cpu).into())
}

pub(super) fn perf_set(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [cpu, perf, ..] = call.args;
    call.cx.cpuperf_set(CpuId(cpu as u32), perf as u32);
    Ok(0)
}

/// The CPU of the cid that the first argument is.
fn cpu_of(call: &mut Call<'_, '_>) -> Option<CpuId> {
    let cid = Cid(call.args[0] as u32);
    call.cx.cid_to_cpu(cid)
}

pub(super) fn cid_perf_cap(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    const SCX_CPUPERF_ONE: u64 = scxlab_engine::flags::SCX_CPUPERF_ONE as u64;
    Ok(cpu_of(call).map_or(SCX_CPUPERF_ONE, |cpu| call.cx.cpuperf_cap(cpu).into()))
}

pub(super) fn cid_perf_cur(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    cid_perf_cap(call)
}

pub(super) fn cid_perf_set(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let perf = call.args[1] as u32;
    match cpu_of(call) {
        Some(cpu) => call.cx.cpuperf_set(cpu, perf),
        None => return Ok(negative(number::EINVAL)),
    }
    Ok(0)
}

pub(super) fn this_cid(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok(call.cx.this_cid().0.into())
}

pub(super) fn cid_to_cpu(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok(cpu_of(call).map_or(negative(number::EINVAL), |cpu| cpu.0.into()))
}

pub(super) fn cpu_to_cid(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let cpu = CpuId(call.args[0] as u32);
    let cid = call.cx.cpu_to_cid(cpu);
    Ok(cid.map_or(negative(number::EINVAL), |cid| cid.0.into()))
}
