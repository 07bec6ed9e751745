//! `bpf_spin_lock()`, and exchanging pointers.

use crate::sched::call::{Bad, Call};
use crate::sched::map::fields::Field;
use crate::sched::state::Inner;

/// The field that an argument points to, if it is in a value of a map; it must be of this kind.
pub(super) fn field(call: &mut Call<'_, '_>, addr: u64, field: Field) -> Result<(), Bad> {
    let Inner { maps, memory, .. } = call.inner()?;
    let Some((map, offset)) = maps.value_at(memory, addr) else { return Ok(()) };
    let shape = &maps.get(map).shape;
    if shape.fields.at(offset) == Some(field) {
        return Ok(());
    }
    let what = match field {
        Field::SpinLock => "bpf_spin_lock",
        Field::Timer => "bpf_timer",
        _ => "pointer of the kernel's",
    };
    Err(format!("offset {offset} of a value of {} is no {what}", shape.what).into())
}

fn word(call: &mut Call<'_, '_>, addr: u64) -> Result<u32, Bad> {
    let mut word = [0; 4];
    call.read(addr, &mut word)?;
    Ok(u32::from_le_bytes(word))
}

/// A program holds one at most, and calls nothing meanwhile. Who finds it taken runs in the middle
/// of the program that has it, and comes again later.
pub(super) fn spin_lock(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let addr = call.args[0];
    field(call, addr, Field::SpinLock)?;
    match call.held {
        Some(held) if held == addr => return Err("the lock is taken already".into()),
        Some(_) => return Err("another lock is taken already".into()),
        None => {}
    }
    take(call, addr)?;
    call.held = Some(addr);
    Ok(0)
}

/// `__bpf_spin_lock()`.
pub(super) fn take(call: &mut Call<'_, '_>, addr: u64) -> Result<(), Bad> {
    if word(call, addr)? != 0 {
        call.waits_for_lock()?;
        return Err("the lock is taken, and its owner cannot go on: a deadlock".into());
    }
    set(call, addr, 1)
}

/// `__bpf_spin_unlock()`.
pub(super) fn give_back(call: &mut Call<'_, '_>, addr: u64) -> Result<(), Bad> {
    set(call, addr, 0)
}

fn set(call: &mut Call<'_, '_>, addr: u64, value: u32) -> Result<(), Bad> {
    call.write(addr, &value.to_le_bytes())?;
    Ok(call.changes_atomically(addr, 4)?)
}

pub(super) fn spin_unlock(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let addr = call.args[0];
    if call.held != Some(addr) {
        return Err("the program does not hold this lock".into());
    }
    call.held = None;
    give_back(call, addr)?;
    Ok(0)
}

/// `bpf_kptr_xchg()`: gives the pointer that was there.
pub(super) fn kptr_xchg(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [addr, new, ..] = call.args;
    field(call, addr, Field::Kptr)?;
    let mut old = [0; 8];
    call.read(addr, &mut old)?;
    call.write(addr, &new.to_le_bytes())?;
    call.changes_atomically(addr, 8)?;
    Ok(u64::from_le_bytes(old))
}
