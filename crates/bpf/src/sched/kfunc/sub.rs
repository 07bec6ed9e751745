//! Linux 7.3's capabilities of sub-schedulers, and its mask of online cids.
//!
//! A root has all capabilities on all cids. One that has no sub-schedulers finds all as on a kernel.
//! What a sub-scheduler may do is not modelled: a call that is about one ends the scheduler, with a
//! message that says so.

use scxlab_engine::{Form, flags::errno};

use super::negative;
use crate::sched::call::{Bad, Call};

/// `__SCX_CAP_ALL`.
const ALL: u64 = 0xf;

/// A sub-scheduler that is not modelled as its kernel has it.
const NOT_MODELLED: &str = "the engine does not have the capabilities of sub-schedulers";

/// `struct scx_cmask` of a program's: `scx_cmask_ref_init()`.
#[derive(Clone, Copy, Debug)]
struct Cmask {
    bits: u64,
    base: u32,
    nr: u32,
}

impl Cmask {
    /// Nothing if it cannot be one of this machine.
    fn at(call: &mut Call<'_, '_>, addr: u64) -> Result<Option<Self>, Bad> {
        let addr = call.arena_address(addr);
        let possible = call.cx.nr_cpu_ids();
        let low = call.read_word(addr)?;
        let (base, nr) = (low as u32, (low >> 32) as u32);
        let words = call.read_at(addr, 8)? as u32;
        // SCX_CMASK_NR_WORDS() is one more.
        let fits = base < possible && nr <= possible - base && nr.div_ceil(64) < words;
        Ok(fits.then_some(Self { bits: addr.wrapping_add(16), base, nr }))
    }

    /// Sets all cids that it is about, or clears them: `scx_cmask_ref_copy()`.
    fn put(self, call: &mut Call<'_, '_>, all: bool) -> Result<(), Bad> {
        // A word has the cids of one aligned run of 64, so the first one may begin in the middle.
        let first = self.base / 64;
        for cid in self.base..self.base + self.nr {
            let at = u64::from(cid / 64 - first) * 8;
            let (word, bit) = (call.read_at(self.bits, at)?, 1 << (cid % 64));
            let word = if all { word | bit } else { word & !bit };
            call.put_at(self.bits, at, word)?;
        }
        Ok(())
    }
}

fn is_cid_form(call: &mut Call<'_, '_>) -> bool {
    let is_it = call.sched.ops.form == Form::Cid;
    if !is_it {
        call.with_core(|cx| cx.fault("sub-cap kfuncs require a cid-form scheduler"));
    }
    is_it
}

/// `sub_cap_preamble()`: the error that it gives. Without a sub-scheduler there is none but these.
fn preamble(call: &mut Call<'_, '_>, cgroup: u64) -> u64 {
    if !is_cid_form(call) {
        return negative(errno::EOPNOTSUPP);
    }
    if !call.cx.has_sub_sched(cgroup) {
        return negative(errno::ENODEV);
    }
    call.with_core(|cx| cx.fault(NOT_MODELLED));
    negative(errno::EOPNOTSUPP)
}

pub(super) fn grant(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok(preamble(call, call.args[0]))
}

pub(super) fn revoke(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    preamble(call, call.args[0]);
    Ok(0)
}

/// `scx_bpf_sub_kill_bstr()`: a sub-scheduler may be gone by then, which is no error.
pub(super) fn kill(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok(preamble(call, call.args[0]))
}

/// `scx_bpf_sub_caps()`: a root reads that it has all of them.
pub(super) fn caps(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [cgroup, caps, out, ..] = call.args;
    if !is_cid_form(call) {
        return Ok(negative(errno::EOPNOTSUPP));
    }
    if caps & !ALL != 0 {
        call.with_core(|cx| cx.fault(format!("invalid caps {caps:#x}")));
        return Ok(negative(errno::EINVAL));
    }
    if cgroup != 0 && !call.cx.has_sub_sched(cgroup) {
        return Ok(negative(errno::ENODEV));
    }
    if cgroup != 0 || !call.cx.is_root() {
        call.with_core(|cx| cx.fault(NOT_MODELLED));
        return Ok(negative(errno::EOPNOTSUPP));
    }
    if call.inner()?.cids_are_open {
        let why = "scx_bpf_sub_caps() called before caps storage is initialized";
        call.with_core(|cx| cx.fault(why));
        return Ok(negative(errno::ENODEV));
    }
    let Some(out) = Cmask::at(call, out)? else {
        call.with_core(|cx| cx.fault("invalid out (-22)"));
        return Ok(negative(errno::EINVAL));
    };
    out.put(call, caps != 0)?;
    Ok(0)
}

/// `scx_bpf_online_cmask()`: all cids are online. NULL in `init_cids`, and without an arena.
pub(super) fn online_cmask(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    if call.sched.ops.form != Form::Cid || call.inner()?.cids_are_open {
        return Ok(0);
    }
    let all = call.cx.possible_cpus();
    // Whoever wrote it, it is as it should be now.
    Ok(call.cids_in_arena(ONLINE, &all)?.unwrap_or(0))
}

/// Where the kernel's page of the arena has the mask: behind the one that operations are given.
const ONLINE: u32 = 2048;
