//! `struct bpf_dynptr`: memory whose size the program knows at run time only.
//!
//! It is on the program's stack, as `struct bpf_dynptr_kern` in Linux 7.2: an address, a size with
//! the kind above it, and how far in it begins. A program that changes it by itself gains nothing:
//! what it reads and writes through it is checked as all else.

use super::bpf_func::{map, reserve_in, submit_in};
use super::call::{Bad, Call};

/// `DYNPTR_SIZE_MASK`, which is also `DYNPTR_MAX_SIZE`.
const SIZE: u32 = 0xff_ffff;
/// `DYNPTR_RDONLY_BIT`.
const READ_ONLY: u32 = 1 << 31;
/// `BPF_DYNPTR_TYPE_LOCAL` and `BPF_DYNPTR_TYPE_RINGBUF`, above `DYNPTR_TYPE_SHIFT`.
const LOCAL: u32 = 1 << 28;
const RING: u32 = 2 << 28;

const E2BIG: i32 = 7;
const EINVAL: i32 = 22;
const ERANGE: i32 = 34;

const fn negative(errno: i32) -> u64 {
    (errno as i64).wrapping_neg() as u64
}

/// One, as it is in memory.
#[derive(Clone, Copy, Debug, Default)]
struct Dynptr {
    data: u64,
    size: u32,
    offset: u32,
}

impl Dynptr {
    fn at(call: &mut Call<'_, '_>, addr: u64) -> Result<Self, Bad> {
        let mut bytes = [0; 16];
        call.read(addr, &mut bytes)?;
        let whole = u128::from_le_bytes(bytes);
        Ok(Self { data: whole as u64, size: (whole >> 64) as u32, offset: (whole >> 96) as u32 })
    }

    fn put(self, call: &mut Call<'_, '_>, addr: u64) -> Result<(), Bad> {
        let Self { data, size, offset } = self;
        let whole = u128::from(data) | u128::from(size) << 64 | u128::from(offset) << 96;
        call.write(addr, &whole.to_le_bytes())
    }

    fn len(self) -> u64 {
        u64::from(self.size & SIZE)
    }

    fn is_read_only(self) -> bool {
        self.size & READ_ONLY != 0
    }

    /// `bpf_dynptr_check_off_len()`.
    fn has(self, offset: u64, len: u64) -> bool {
        len <= self.len() && offset <= self.len() - len
    }

    /// The address of a byte of it.
    fn address(self, offset: u64) -> u64 {
        self.data.wrapping_add(u64::from(self.offset)).wrapping_add(offset)
    }

    /// `bpf_dynptr_slice()`: the address of so many bytes; NULL if there are not as many.
    fn slice(self, offset: u64, len: u64) -> u64 {
        if self.data != 0 && self.has(offset, len) { self.address(offset) } else { 0 }
    }

    /// `bpf_dynptr_slice_rdwr()`.
    fn slice_to_write(self, offset: u64, len: u64) -> u64 {
        if self.is_read_only() { 0 } else { self.slice(offset, len) }
    }
}

/// Copies, whether the two overlap or not.
fn copy(call: &mut Call<'_, '_>, to: u64, from: u64, len: u64) -> Result<u64, Bad> {
    // A dynptr is not larger; what else is given has no more bytes than the dynptr.
    let mut bytes = vec![0; len.min(u64::from(SIZE)) as usize];
    if !bytes.is_empty() {
        call.read(from, &mut bytes)?;
        call.write(to, &bytes)?;
    }
    Ok(0)
}

/// None can be made: there is one of nothing.
fn null(call: &mut Call<'_, '_>, at: u64, errno: i32) -> Result<u64, Bad> {
    Dynptr::default().put(call, at)?;
    Ok(negative(errno))
}

/// `bpf_dynptr_from_mem()`.
pub(super) fn from_mem(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [data, size, flags, at, _] = call.args;
    if size > u64::from(SIZE) {
        return null(call, at, E2BIG);
    }
    if flags != 0 {
        return null(call, at, EINVAL);
    }
    Dynptr { data, size: size as u32 | LOCAL, offset: 0 }.put(call, at)?;
    Ok(0)
}

/// `bpf_ringbuf_reserve_dynptr()`.
pub(super) fn ring_reserve(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let map = map(call)?;
    let [_, size, flags, at, _] = call.args;
    let size = u64::from(size as u32);
    if flags != 0 {
        return null(call, at, EINVAL);
    }
    if size > u64::from(SIZE) {
        return null(call, at, E2BIG);
    }
    let Some(data) = reserve_in(call, map, size)? else { return null(call, at, EINVAL) };
    Dynptr { data, size: size as u32 | RING, offset: 0 }.put(call, at)?;
    Ok(0)
}

/// `bpf_ringbuf_submit_dynptr()`.
pub(super) fn ring_submit(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    ring_finish(call, false)
}

/// `bpf_ringbuf_discard_dynptr()`.
pub(super) fn ring_discard(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    ring_finish(call, true)
}

fn ring_finish(call: &mut Call<'_, '_>, discard: bool) -> Result<u64, Bad> {
    let at = call.args[0];
    let dynptr = Dynptr::at(call, at)?;
    if dynptr.data != 0 {
        submit_in(call, dynptr.data, discard)?;
        Dynptr::default().put(call, at)?;
    }
    Ok(0)
}

/// `bpf_dynptr_read()`.
pub(super) fn read(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [to, len, at, offset, flags] = call.args;
    let from = Dynptr::at(call, at)?;
    if from.data == 0 || flags != 0 {
        return Ok(negative(EINVAL));
    }
    if !from.has(offset, len) {
        return Ok(negative(E2BIG));
    }
    copy(call, to, from.address(offset), len)
}

/// `bpf_dynptr_write()`.
pub(super) fn write(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [at, offset, from, len, flags] = call.args;
    let to = Dynptr::at(call, at)?;
    if to.data == 0 || to.is_read_only() {
        return Ok(negative(EINVAL));
    }
    if !to.has(offset, len) {
        return Ok(negative(E2BIG));
    }
    if flags != 0 {
        return Ok(negative(EINVAL));
    }
    copy(call, to.address(offset), from, len)
}

/// `bpf_dynptr_data()`.
pub(super) fn data(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [at, offset, len, ..] = call.args;
    Ok(Dynptr::at(call, at)?.slice_to_write(offset, len))
}

/// `bpf_dynptr_slice_rdwr()`.
pub(super) fn slice_to_write(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [at, offset, _, len, _] = call.args;
    Ok(Dynptr::at(call, at)?.slice_to_write(offset, len))
}

/// `bpf_dynptr_slice()`: the buffer that it is given is for packets.
pub(super) fn slice(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [at, offset, _, len, _] = call.args;
    Ok(Dynptr::at(call, at)?.slice(offset, len))
}

/// `bpf_dynptr_adjust()`.
pub(super) fn adjust(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [at, start, end, ..] = call.args;
    let dynptr = Dynptr::at(call, at)?;
    if dynptr.data == 0 || start > end {
        return Ok(negative(EINVAL));
    }
    // That `start` is not larger follows.
    if end > dynptr.len() {
        return Ok(negative(ERANGE));
    }
    let size = dynptr.size & !SIZE | (end - start) as u32;
    let offset = dynptr.offset.wrapping_add(start as u32);
    Dynptr { size, offset, ..dynptr }.put(call, at)?;
    Ok(0)
}

/// `bpf_dynptr_is_null()`.
pub(super) fn is_null(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let dynptr = Dynptr::at(call, call.args[0])?;
    Ok((dynptr.data == 0).into())
}

/// `bpf_dynptr_is_rdonly()`.
pub(super) fn is_read_only(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let dynptr = Dynptr::at(call, call.args[0])?;
    Ok((dynptr.data != 0 && dynptr.is_read_only()).into())
}

/// `bpf_dynptr_size()`.
pub(super) fn size(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let dynptr = Dynptr::at(call, call.args[0])?;
    Ok(if dynptr.data == 0 { negative(EINVAL) } else { dynptr.len() })
}

/// `bpf_dynptr_clone()`.
pub(super) fn clone(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [at, to, ..] = call.args;
    let dynptr = Dynptr::at(call, at)?;
    if dynptr.data == 0 {
        return null(call, to, EINVAL);
    }
    dynptr.put(call, to)?;
    Ok(0)
}

/// `bpf_dynptr_copy()`.
pub(super) fn copy_between(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [to_at, to_offset, from_at, from_offset, len] = call.args;
    let (to, from) = (Dynptr::at(call, to_at)?, Dynptr::at(call, from_at)?);
    let source = from.slice(from_offset, len);
    let target = to.slice_to_write(to_offset, len);
    match (source, target) {
        // With one of the two it is `__bpf_dynptr_write()` or `__bpf_dynptr_read()` that says what
        // is wrong with the other.
        (1.., 1..) => copy(call, target, source, len),
        (1.., 0) if to.data == 0 || to.is_read_only() => Ok(negative(EINVAL)),
        (0, 1..) if from.data == 0 => Ok(negative(EINVAL)),
        // Of nothing, no bytes can be copied.
        (0, 0) if to.has(to_offset, len) && from.has(from_offset, len) => {
            Ok(if len == 0 { 0 } else { negative(EINVAL) })
        }
        _ => Ok(negative(E2BIG)),
    }
}

/// `bpf_dynptr_memset()`.
pub(super) fn memset(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [at, offset, len, value, _] = call.args;
    let dynptr = Dynptr::at(call, at)?;
    let to = dynptr.slice_to_write(offset, len);
    if to != 0 {
        if len > 0 {
            call.write(to, &vec![value as u8; len as usize])?;
        }
        return Ok(0);
    }
    if dynptr.is_read_only() {
        return Ok(negative(EINVAL));
    }
    // What is of nothing has no bytes, and nothing is wrong with writing none of them.
    let none = len == 0 && dynptr.has(offset, 0);
    Ok(if none { 0 } else { negative(E2BIG) })
}
