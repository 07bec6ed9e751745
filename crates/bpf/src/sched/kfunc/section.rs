//! Sections that nothing interrupts, and locks.
//!
//! An operation is one already, so there is nothing to do but to see that each section that is
//! begun is left, in its order, before the program ends: the verifier wants that.

use super::negative;
use crate::sched::call::{Bad, Call};

/// The sections that a program is in.
#[derive(Clone, Debug, Default)]
pub(in crate::sched) struct Sections {
    rcu: u32,
    preempt: u32,
    /// Where the flags of each are.
    irq: Vec<u64>,
    /// The locks that it holds.
    locks: Vec<u64>,
}

impl Sections {
    /// The addresses of the locks that the program holds.
    pub fn locks(&self) -> &[u64] {
        &self.locks
    }

    /// Whether the program is in none.
    pub fn are_none(&self) -> bool {
        self.rcu == 0 && self.preempt == 0 && self.irq.is_empty() && self.locks.is_empty()
    }

    /// What is wrong if the program ends now.
    pub fn left_open(&self) -> Option<&'static str> {
        if !self.locks.is_empty() {
            Some("the program ends with a bpf_res_spin_lock held")
        } else if self.rcu > 0 {
            Some("the program ends within bpf_rcu_read_lock()")
        } else if self.preempt > 0 {
            Some("the program ends within bpf_preempt_disable()")
        } else if !self.irq.is_empty() {
            Some("the program ends within bpf_local_irq_save()")
        } else {
            None
        }
    }
}

/// One section less.
fn leave(count: &mut u32) -> Result<u64, Bad> {
    *count = count.checked_sub(1).ok_or("the program is in no such section")?;
    Ok(0)
}

pub(super) fn rcu_lock(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    call.sections.rcu += 1;
    Ok(0)
}

pub(super) fn rcu_unlock(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    leave(&mut call.sections.rcu)
}

pub(super) fn preempt_disable(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    call.sections.preempt += 1;
    Ok(0)
}

pub(super) fn preempt_enable(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    leave(&mut call.sections.preempt)
}

/// Interrupts are on, `X86_EFLAGS_IF`, or off already.
fn begin_irq(call: &mut Call<'_, '_>, at: u64) -> Result<(), Bad> {
    const ON: u64 = 1 << 9;
    let flags = if call.sections.irq.is_empty() { ON } else { 0 };
    call.write(at, &flags.to_le_bytes())?;
    call.sections.irq.push(at);
    Ok(())
}

fn end_irq(call: &mut Call<'_, '_>, at: u64) -> Result<(), Bad> {
    match call.sections.irq.pop() {
        Some(last) if last == at => Ok(()),
        _ => Err("these are not the flags that were saved last".into()),
    }
}

pub(super) fn irq_save(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    begin_irq(call, call.args[0])?;
    Ok(0)
}

pub(super) fn irq_restore(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    end_irq(call, call.args[0])?;
    Ok(0)
}

/// `bpf_res_spin_lock()`: what is locked already is not waited for. By the program itself that is a
/// deadlock; where it is another CPU's, this program's call is taken back until that one is done.
pub(super) fn lock(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    const EDEADLK: i32 = 35;
    const ETIMEDOUT: i32 = 110;
    let at = call.args[0];
    if call.sections.locks.contains(&at) {
        return Ok(negative(EDEADLK));
    }
    let mut value = [0; 4];
    call.read(at, &mut value)?;
    if value != [0; 4] {
        call.waits_for_lock()?;
        return Ok(negative(ETIMEDOUT));
    }
    call.write(at, &1_u32.to_le_bytes())?;
    call.changes_atomically(at, 4)?;
    call.sections.locks.push(at);
    Ok(0)
}

pub(super) fn unlock(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let at = call.args[0];
    if call.sections.locks.last() != Some(&at) {
        return Err("this is not the lock that was taken last".into());
    }
    call.sections.locks.pop();
    call.write(at, &[0; 4])?;
    call.changes_atomically(at, 4)?;
    Ok(0)
}

pub(super) fn lock_irqsave(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let result = lock(call)?;
    if result == 0 {
        begin_irq(call, call.args[1])?;
    }
    Ok(result)
}

pub(super) fn unlock_irqrestore(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    unlock(call)?;
    end_irq(call, call.args[1])?;
    Ok(0)
}
