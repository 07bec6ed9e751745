//! BPF's helpers, by number (`BPF_FUNC_*` in include/uapi/linux/bpf.h).

use super::call::{Bad, Call};
use super::percpu;

const MAP_LOOKUP_ELEM: u32 = 1;
const KTIME_GET_NS: u32 = 5;
const GET_SMP_PROCESSOR_ID: u32 = 8;
const PROBE_READ_KERNEL: u32 = 113;
const PER_CPU_PTR: u32 = 153;
const THIS_CPU_PTR: u32 = 154;
const PROBE_READ_KERNEL_STR: u32 = 115;

/// `-EFAULT`.
const EFAULT: i64 = -14;

/// Whether there is one of this number.
pub(super) fn is_known(number: u32) -> bool {
    matches!(
        number,
        KTIME_GET_NS
            | GET_SMP_PROCESSOR_ID
            | PROBE_READ_KERNEL
            | PROBE_READ_KERNEL_STR
            | PER_CPU_PTR
            | THIS_CPU_PTR
    )
}

/// The name of one, for messages.
pub(super) fn name(number: u32) -> String {
    match number {
        MAP_LOOKUP_ELEM => "bpf_map_lookup_elem()".to_owned(),
        KTIME_GET_NS => "bpf_ktime_get_ns()".to_owned(),
        GET_SMP_PROCESSOR_ID => "bpf_get_smp_processor_id()".to_owned(),
        PROBE_READ_KERNEL => "bpf_probe_read_kernel()".to_owned(),
        PROBE_READ_KERNEL_STR => "bpf_probe_read_kernel_str()".to_owned(),
        PER_CPU_PTR => "bpf_per_cpu_ptr()".to_owned(),
        THIS_CPU_PTR => "bpf_this_cpu_ptr()".to_owned(),
        _ => format!("helper {number}"),
    }
}

/// Does what it does.
pub(super) fn call(call: &mut Call<'_, '_>, number: u32) -> Result<u64, Bad> {
    match number {
        KTIME_GET_NS => Ok(call.cx.now().0),
        GET_SMP_PROCESSOR_ID => Ok(call.cx.this_cpu().0.into()),
        PROBE_READ_KERNEL => probe_read_kernel(call),
        PROBE_READ_KERNEL_STR => probe_read_kernel_str(call),
        PER_CPU_PTR => percpu::per_cpu_ptr(call),
        THIS_CPU_PTR => percpu::this_cpu_ptr(call),
        _ => Err("the engine does not have it".into()),
    }
}

/// The size of what is to be read to an address, which has to have room for it.
fn room(call: &mut Call<'_, '_>, to: u64, size: u64) -> Result<usize, Bad> {
    let (size, room) = (size as u32, call.inner()?.memory.remaining(to));
    if u64::from(size) > room {
        return Err(format!("there are {room} bytes at {to:#x} for {size}").into());
    }
    Ok(size as usize)
}

fn probe_read_kernel(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [to, size, from, ..] = call.args;
    let mut bytes = vec![0; room(call, to, size)?];
    let read = call.read(from, &mut bytes);
    if read.is_err() {
        // The kernel clears what it could not read.
        bytes.fill(0);
    }
    call.write(to, &bytes)?;
    Ok(if read.is_ok() { 0 } else { EFAULT as u64 })
}

/// Up to and with the zero, which is put there if there is no room for all.
fn probe_read_kernel_str(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [to, size, from, ..] = call.args;
    let size = room(call, to, size)?;
    let mut text = Vec::new();
    while text.len() < size {
        let mut byte = [0];
        if call.read(from.wrapping_add(text.len() as u64), &mut byte).is_err() {
            let zeros = vec![0; size];
            call.write(to, &zeros)?;
            return Ok(EFAULT as u64);
        }
        text.push(byte[0]);
        if byte[0] == 0 {
            break;
        }
    }
    if let Some(last) = text.last_mut() {
        *last = 0;
    }
    call.write(to, &text)?;
    Ok(text.len() as u64)
}
