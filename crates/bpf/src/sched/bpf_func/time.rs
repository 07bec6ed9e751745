//! Clocks, chance, and where a program runs.

use crate::sched::call::{Bad, Call};
use crate::sched::clock;

/// All clocks begin at the boot, the wall clock's too, and none stops: a machine that never sleeps.
pub(super) fn ktime(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok(clock::now(call.cx))
}

/// `bpf_ktime_get_coarse_ns()`: as of the last tick.
pub(super) fn ktime_coarse(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok(clock::at(call.cx.jiffies() * call.cx.jiffy().0))
}

/// `bpf_jiffies64()`.
pub(super) fn jiffies64(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok(clock::jiffies(call.cx))
}

/// `bpf_get_prandom_u32()`, of the run's seed. The numbers are the scheduler's own: that it takes
/// one changes nothing else. SplitMix64, as the engine's.
pub(super) fn prandom_u32(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let seed = call.cx.seed();
    let random = &mut call.inner()?.random;
    let state = random.unwrap_or(seed ^ 0x6270_665f_7261_6e64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    *random = Some(state);
    let mut z = state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Ok((z ^ (z >> 31)) >> 32)
}

pub(super) fn smp_processor_id(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok(call.cx.this_cpu().0.into())
}

/// `bpf_get_numa_node_id()`: there is one.
pub(super) fn numa_node_id(_: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok(0)
}
