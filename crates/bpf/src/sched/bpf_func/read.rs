//! Reading what may not be there, and comparing text.

use super::{EFAULT, ERANGE};
use crate::sched::call::{Bad, Call};

/// The size of what is to be read to an address, which has to have room for it.
pub(super) fn room(call: &mut Call<'_, '_>, to: u64, size: u64) -> Result<usize, Bad> {
    let (size, room) = (size as u32, call.inner()?.memory.remaining(to));
    if u64::from(size) > room {
        return Err(format!("there are {room} bytes at {to:#x} for {size}").into());
    }
    Ok(size as usize)
}

/// Bytes that are copied at once.
const CHUNK: usize = 1 << 16;

/// Writes zeros.
pub(super) fn clear(call: &mut Call<'_, '_>, to: u64, size: usize) -> Result<(), Bad> {
    fill(call, to, size, 0)
}

/// Writes the same byte everywhere.
pub(in crate::sched) fn fill(
    call: &mut Call<'_, '_>,
    to: u64,
    size: usize,
    byte: u8,
) -> Result<(), Bad> {
    let bytes = vec![byte; size.min(CHUNK)];
    for at in (0..size).step_by(CHUNK) {
        call.write(to.wrapping_add(at as u64), &bytes[..CHUNK.min(size - at)])?;
    }
    Ok(())
}

/// The first address that is no user's, with five-level paging: `TASK_SIZE_MAX` and a page.
const USER_END: u64 = 1 << 56;

/// Clears what was to be read to.
fn fails(call: &mut Call<'_, '_>, to: u64, size: usize, errno: u64) -> Result<u64, Bad> {
    clear(call, to, size)?;
    Ok(errno)
}

/// `copy_from_kernel_nofault_allowed()`: no user's address, and none that no address can be.
pub(in crate::sched) fn is_kernel(addr: u64) -> bool {
    addr >> 56 == 0xff
}

/// `bpf_probe_read()`: of the kernel's memory or a user's, by the address.
pub(super) fn probe_read(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    if call.args[2] < USER_END { probe_read_user(call) } else { probe_read_kernel(call) }
}

/// `bpf_probe_read_str()`.
pub(super) fn probe_read_str(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    if call.args[2] < USER_END { probe_read_user(call) } else { probe_read_kernel_str(call) }
}

/// `bpf_probe_read_kernel()`. Where not all can be read, there are zeros.
pub(super) fn probe_read_kernel(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [to, size, from, ..] = call.args;
    let size = room(call, to, size)?;
    if !is_kernel(from) {
        return fails(call, to, size, ERANGE);
    }
    let mut bytes = vec![0; size.min(CHUNK)];
    for at in (0..size).step_by(CHUNK) {
        let part = &mut bytes[..CHUNK.min(size - at)];
        if !call.try_read(from.wrapping_add(at as u64), part)? {
            return fails(call, to, size, EFAULT);
        }
        call.write(to.wrapping_add(at as u64), part)?;
    }
    Ok(0)
}

/// `bpf_probe_read_kernel_str()`: up to and with the zero, which is put there if there is no room
/// for all.
pub(super) fn probe_read_kernel_str(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [to, size, from, ..] = call.args;
    let size = room(call, to, size)?;
    if size > 0 && !is_kernel(from) {
        return fails(call, to, size, ERANGE);
    }
    let mut text = Vec::new();
    while text.len() < size {
        let mut byte = [0];
        if !call.try_read(from.wrapping_add(text.len() as u64), &mut byte)? {
            return fails(call, to, size, EFAULT);
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

/// `bpf_probe_read_user()` and its like: no task here has memory of its own.
pub(super) fn probe_read_user(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [to, size, ..] = call.args;
    let size = room(call, to, size)?;
    fails(call, to, size, EFAULT)
}

/// `bpf_strncmp()`.
pub(super) fn strncmp(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [left, size, right, ..] = call.args;
    for at in 0..u64::from(size as u32) {
        let (mut a, mut b) = ([0], [0]);
        call.read(left.wrapping_add(at), &mut a)?;
        call.read(right.wrapping_add(at), &mut b)?;
        if a != b {
            return Ok(if a < b { -1_i64 as u64 } else { 1 });
        }
        if a == [0] {
            break;
        }
    }
    Ok(0)
}
