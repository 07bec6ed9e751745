//! The kernel's functions that programs call, by name.

use scxlab_engine::{CpuId, DsqId, EnqFlags, Errno, KickFlags, WakeFlags};

use super::call::{Bad, Call};
use super::format;

/// Does what a kernel function does. An error is the program's: what it gave cannot be used.
pub(super) type Kfunc = fn(&mut Call<'_, '_>) -> Result<u64, Bad>;

/// Those that there are.
pub(super) fn find(name: &str) -> Option<Kfunc> {
    Some(match name {
        "scx_bpf_select_cpu_dfl" => select_cpu_dfl,
        "scx_bpf_dsq_insert" | "scx_bpf_dsq_insert___v2" => dsq_insert,
        "scx_bpf_dsq_insert_vtime" => dsq_insert_vtime,
        "__scx_bpf_dsq_insert_vtime" => dsq_insert_vtime_args,
        "scx_bpf_dsq_move_to_local" => dsq_move_to_local,
        "scx_bpf_dsq_move_to_local___v2" => dsq_move_to_local_with,
        "scx_bpf_create_dsq" => create_dsq,
        "scx_bpf_destroy_dsq" => destroy_dsq,
        "scx_bpf_dsq_nr_queued" => dsq_nr_queued,
        "scx_bpf_task_set_slice" => task_set_slice,
        "scx_bpf_task_set_dsq_vtime" => task_set_dsq_vtime,
        "scx_bpf_task_cpu" => task_cpu,
        "scx_bpf_task_running" => task_running,
        "scx_bpf_kick_cpu" => kick_cpu,
        "scx_bpf_tid_to_task" => tid_to_task,
        "scx_bpf_nr_cpu_ids" => nr_cpu_ids,
        "scx_bpf_now" => now,
        "scx_bpf_error_bstr" => error_bstr,
        "scx_bpf_exit_bstr" => exit_bstr,
        "scx_bpf_dump_bstr" => dump_bstr,
        _ => return None,
    })
}

/// As C returns an error.
fn errno<T>(result: Result<T, Errno>, value: impl FnOnce(T) -> u64) -> u64 {
    match result {
        Ok(good) => value(good),
        Err(err) => i64::from(-err.0) as u64,
    }
}

fn select_cpu_dfl(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let p = call.task(0)?;
    let [_, prev, wake, is_idle, _] = call.args;
    let prev = CpuId(prev as u32);
    let wake = WakeFlags::from_bits_retain(wake);
    let cpu = call.with_core(|cx| cx.select_cpu_dfl(p, prev, wake));
    call.write(is_idle, &[u8::from(cpu.is_some())])?;
    Ok(cpu.unwrap_or(prev).0.into())
}

fn dsq_insert(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let p = call.task(0)?;
    let [_, dsq, slice, enq, _] = call.args;
    let enq = EnqFlags::from_bits_retain(enq);
    Ok(call.with_core(|cx| cx.dsq_insert(p, DsqId(dsq), slice, enq)).into())
}

fn dsq_insert_vtime(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let p = call.task(0)?;
    let [_, dsq, slice, vtime, enq] = call.args;
    let enq = EnqFlags::from_bits_retain(enq);
    Ok(call.with_core(|cx| cx.dsq_insert_vtime(p, DsqId(dsq), slice, vtime, enq)).into())
}

/// `struct scx_bpf_dsq_insert_vtime_args`: queue, slice, vtime, flags.
fn dsq_insert_vtime_args(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let mut bytes = [0; 32];
    call.read(call.args[1], &mut bytes)?;
    for (arg, word) in call.args[1..].iter_mut().zip(bytes.as_chunks::<8>().0) {
        *arg = u64::from_le_bytes(*word);
    }
    dsq_insert_vtime(call)
}

fn dsq_move_to_local(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    call.args[1] = 0;
    dsq_move_to_local_with(call)
}

fn dsq_move_to_local_with(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [dsq, enq, ..] = call.args;
    let enq = EnqFlags::from_bits_retain(enq);
    Ok(call.with_core(|cx| cx.dsq_move_to_local(DsqId(dsq), enq)).into())
}

fn create_dsq(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    const EINVAL: Errno = Errno(22);
    let [dsq, node, ..] = call.args;
    // There is one node, 0; and -1 for any.
    let node_is_there = matches!(node as i32, -1 | 0);
    let result =
        if node_is_there { call.with_core(|cx| cx.create_dsq(DsqId(dsq))) } else { Err(EINVAL) };
    Ok(errno(result, |()| 0))
}

fn destroy_dsq(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let dsq = DsqId(call.args[0]);
    call.with_core(|cx| cx.destroy_dsq(dsq));
    Ok(0)
}

fn dsq_nr_queued(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let dsq = DsqId(call.args[0]);
    let queued = call.with_core(|cx| cx.dsq_nr_queued(dsq));
    Ok(errno(queued, u64::from))
}

fn task_set_slice(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (p, slice) = (call.task(0)?, call.args[1]);
    Ok(call.with_core(|cx| cx.task_set_slice(p, slice)).into())
}

fn task_set_dsq_vtime(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (p, vtime) = (call.task(0)?, call.args[1]);
    Ok(call.with_core(|cx| cx.task_set_dsq_vtime(p, vtime)).into())
}

fn task_cpu(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let p = call.task(0)?;
    Ok(call.cx.task_cpu(p).0.into())
}

fn task_running(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let p = call.task(0)?;
    Ok(call.cx.task_running(p).into())
}

fn kick_cpu(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [cpu, flags, ..] = call.args;
    let flags = KickFlags::from_bits_retain(flags);
    call.with_core(|cx| cx.kick_cpu(CpuId(cpu as u32), flags));
    Ok(0)
}

fn tid_to_task(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let tid = call.args[0];
    let found = call.with_core(|cx| cx.tid_to_task(tid));
    call.address(found).map_err(|full| full.to_string().into())
}

fn nr_cpu_ids(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok(call.cx.nr_cpu_ids().into())
}

fn now(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok(call.cx.now().0)
}

fn error_bstr(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [fmt, data, size, ..] = call.args;
    let text = format::text(call, fmt, data, size)?;
    call.with_core(|cx| cx.error(text));
    Ok(0)
}

fn exit_bstr(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [code, fmt, data, size, _] = call.args;
    let text = format::text(call, fmt, data, size)?;
    call.with_core(|cx| cx.exit(code as i64, text));
    Ok(0)
}

fn dump_bstr(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [fmt, data, size, ..] = call.args;
    let text = format::text(call, fmt, data, size)?;
    call.with_core(|cx| cx.dump(text));
    Ok(0)
}
