//! Where cids are, and giving them to other CPUs. Linux 7.3 also has shards: runs of cids whose CPUs
//! share a cache.

use scxlab_engine::Cid;

use crate::abi::Version;
use crate::sched::bpf_func;
use crate::sched::call::{Bad, Call};

/// `SCX_CID_SHARD_SIZE_DFL`.
const SIZE: u32 = 24;
/// `SCX_CID_SHARD_MAX_CPUS`.
const MOST: i32 = 512;

/// Sets all of the program's structure to -1.
pub(super) fn no_topo(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [_, to, size, ..] = call.args;
    let room = call.inner()?.memory.remaining(to);
    if size > room {
        return Err(format!("there are {room} bytes at {to:#x} for {size}").into());
    }
    bpf_func::fill(call, to, size as usize, 0xff)?;
    Ok(0)
}

/// As much of `struct scx_cid_topo` as the program has room for; what it has more is -1.
pub(super) fn topo(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [cid, to, size, ..] = call.args;
    let cid = Cid(cid as u32);
    let (topo, shard) = match call.cx.cid_topo(cid) {
        Some(topo) => (topo, shard(call, cid)?),
        None => ([-1; 6], [-1; 2]),
    };
    no_topo(call)?;
    let has = if call.sched.version < Version::V7_3 { 24 } else { 32 };
    let mut bytes: Vec<u8> =
        topo.iter().chain(&shard).flat_map(|number| number.to_le_bytes()).collect();
    bytes.truncate(size.min(has) as usize);
    call.write(to, &bytes)?;
    Ok(0)
}

/// The first cid of a cid's shard, and the shard's number.
fn shard(call: &mut Call<'_, '_>, cid: Cid) -> Result<[i32; 2], Bad> {
    let nr = call.cx.nr_cpu_ids();
    let size = call.sched.shard_size;
    let starts = match &call.inner()?.shards {
        Some(starts) => starts.clone(),
        None => {
            let topo: Vec<_> = (0..nr).filter_map(|cid| call.cx.cid_topo(Cid(cid))).collect();
            starts(&topo, size)
        }
    };
    let index = starts.partition_point(|start| *start <= cid.0 as i32).saturating_sub(1);
    Ok([starts.get(index).copied().unwrap_or(0), index as i32])
}

/// The first cid of each shard, as `scx_cid_init()` in Linux 7.3 cuts last-level caches into shards
/// of about as many cores each. Cids have the order of their caches and cores, and all cores are of
/// the same size.
fn starts(topo: &[[i32; 6]], size: u32) -> Vec<i32> {
    let size = if size == 0 { SIZE } else { size };
    let most = size.min(MOST as u32);
    let mut starts = Vec::new();
    for llc in topo.chunk_by(|a, b| a[2] == b[2]) {
        let cores: Vec<_> = llc.chunk_by(|a, b| a[0] == b[0]).collect();
        let cpus = llc.len() as u32;
        let shards = cpus.div_ceil(size).max(cpus.div_ceil(MOST as u32)).max(1);
        let (each, large) = (cores.len() as u32 / shards, cores.len() as u32 % shards);
        // Shards of this cache, and cores and cids of the last of them.
        let (mut made, mut has, mut cids) = (0, 0, 0);
        for core in cores {
            let room = each + u32::from(made > 0 && made <= large);
            if made == 0 || has > 0 && (has >= room || cids + core.len() as u32 > most) {
                starts.push(core[0][0]);
                (made, has, cids) = (made + 1, 0, 0);
            }
            has += 1;
            cids += core.len() as u32;
        }
    }
    starts
}

/// `scx_bpf_cid_override()`. From 7.3 on it also has the first cids of shards.
pub(super) fn over(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [from, count, from_shards, shards, _] = call.args;
    let nr = call.cx.nr_cpu_ids();
    if call.sched.version < Version::V7_3 {
        let size = count as u32 as usize;
        let room = (nr as usize + 1) * 4;
        let cids = numbers(call, from, size.min(room))?;
        call.with_core(|cx| cx.cid_override(&cids));
        return Ok(0);
    }
    let (count, shards) = (count as u32, shards as u32);
    if count != nr {
        let why = format!("cpu_to_cid expected {nr} entries, got {count}");
        return Ok(wrong(call, &why));
    }
    if shards == 0 || shards > nr {
        return Ok(wrong(call, &format!("invalid shard_start count {shards}")));
    }
    let from = call.arena_address(from);
    let cids = numbers(call, from, nr as usize * 4)?;
    let from_shards = call.arena_address(from_shards);
    let starts = numbers(call, from_shards, shards as usize * 4)?;
    if let Some(why) = unfit(&starts, nr as i32) {
        return Ok(wrong(call, &why));
    }
    call.with_core(|cx| cx.cid_override(&cids));
    call.inner()?.shards = Some(starts);
    Ok(0)
}

fn numbers(call: &mut Call<'_, '_>, from: u64, size: usize) -> Result<Vec<i32>, Bad> {
    let mut bytes = vec![0; size];
    call.read(from, &mut bytes)?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|cid| i32::from_le_bytes(*cid)).collect())
}

fn wrong(call: &mut Call<'_, '_>, why: &str) -> u64 {
    call.with_core(|cx| cx.fault(format!("scx_bpf_cid_override: {why}")));
    0
}

/// What is wrong with the first cids of shards.
fn unfit(starts: &[i32], nr: i32) -> Option<String> {
    let first = starts.first().copied().unwrap_or(0);
    if first != 0 {
        return Some(format!("shard_start[0] must be 0, got {first}"));
    }
    for (at, pair) in starts.windows(2).enumerate() {
        let (before, start, si) = (pair[0], pair[1], at + 1);
        if start <= before {
            return Some(format!("shard_start not increasing at [{si}]"));
        }
        if start >= nr {
            return Some(format!("shard_start[{si}]={start} >= {nr}"));
        }
        if start - before > MOST {
            return Some(format!("shard[{at}] span {} exceeds max {MOST}", start - before));
        }
    }
    let (last, at) = (starts.last().copied().unwrap_or(0), starts.len().saturating_sub(1));
    let span = nr - last;
    (span > MOST).then(|| format!("shard[{at}] span {span} exceeds max {MOST}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Caches of so many cores of so many CPUs.
    fn machine(llcs: i32, cores: i32, smt: i32) -> Vec<[i32; 6]> {
        let per_llc = cores * smt;
        let topo = |cid: i32| {
            let (core, llc) = (cid / smt, cid / per_llc);
            [core * smt, core, llc * per_llc, llc, 0, 0]
        };
        (0..llcs * per_llc).map(topo).collect()
    }

    #[test]
    fn caches_are_cut_into_shards() {
        assert_eq!(starts(&machine(1, 4, 1), 0), [0], "up to 24 CPUs are one");
        assert_eq!(starts(&machine(2, 4, 2), 0), [0, 8], "each cache has its own");
        assert_eq!(starts(&machine(1, 32, 1), 0), [0, 16], "two of about 24, balanced");
        assert_eq!(starts(&machine(1, 25, 1), 0), [0, 13], "the larger ones first");
        assert_eq!(starts(&machine(1, 4, 2), 4), [0, 4], "as many as the scheduler says");
        assert_eq!(starts(&machine(1, 2, 2), 1), [0, 2], "a core is never cut");
    }

    #[test]
    fn what_shards_cannot_be() {
        assert_eq!(unfit(&[0, 2], 4), None);
        for (starts, why) in [
            (&[1][..], "shard_start[0] must be 0, got 1"),
            (&[0, 2, 2], "shard_start not increasing at [2]"),
            (&[0, 4], "shard_start[1]=4 >= 4"),
        ] {
            assert_eq!(unfit(starts, 4).as_deref(), Some(why));
        }
        assert_eq!(unfit(&[0], 513).as_deref(), Some("shard[0] span 513 exceeds max 512"));
        let why = Some("shard[0] span 600 exceeds max 512");
        assert_eq!(unfit(&[0, 600], 700).as_deref(), why);
    }
}
