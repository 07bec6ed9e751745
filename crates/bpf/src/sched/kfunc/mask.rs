//! `struct bpf_cpumask`: CPU masks that programs own. Whatever only reads one takes the kernel's
//! too.

use scxlab_engine::{CpuId, Cpumask};

use super::negative;
use crate::machine::{Region, RegionId, address};
use crate::sched::call::{Bad, Call};

/// What tells the region of a mask: see [`Region::tag`].
pub(super) const TAG: u64 = 0x6d61_736b << 32;

/// `nr_cpu_ids` in words: what a mask has behind these says nothing.
fn words(call: &Call<'_, '_>) -> usize {
    call.cx.nr_cpu_ids().div_ceil(64) as usize
}

/// The CPUs of the mask at an address, the program's or the kernel's.
pub(super) fn read(call: &mut Call<'_, '_>, addr: u64) -> Result<Cpumask, Bad> {
    let mut bytes = [0; scxlab_engine::NR_CPUS / 8];
    let size = words(call) * 8;
    call.read(addr, &mut bytes[..size])?;
    let cpus = Cpumask::from_words(bytes.as_chunks::<8>().0.iter().map(|w| u64::from_le_bytes(*w)));
    Ok(cpus.and(&call.cx.possible_cpus()))
}

/// The program's own mask that an argument is.
fn own(call: &mut Call<'_, '_>, arg: usize) -> Result<RegionId, Bad> {
    let addr = call.args[arg];
    let memory = &call.inner()?.memory;
    let region = RegionId::of(addr).filter(|_| address::offset(addr) == 0);
    let is_mask = |id: &RegionId| memory.region(*id).is_some_and(|region| region.tag == TAG);
    region.filter(is_mask).ok_or_else(|| none(arg, addr))
}

fn none(arg: usize, addr: u64) -> Bad {
    format!("its argument {} is no bpf_cpumask: {addr:#x}", arg + 1).into()
}

/// A mask that is to be changed: one that was made, or memory that the program may write, which a kernel
/// takes too for a structure without pointers.
#[derive(Clone, Copy)]
enum Target {
    Own(RegionId),
    /// Which argument, and its address.
    Memory(usize, u64),
}

impl Target {
    fn of(call: &mut Call<'_, '_>, arg: usize) -> Result<Self, Bad> {
        match own(call, arg) {
            Ok(id) => Ok(Self::Own(id)),
            Err(none) => {
                let addr = call.args[arg];
                let size = call.sched.layouts.mask_size + 8;
                let room = call.inner()?.memory.remaining(addr);
                if room < size { Err(none) } else { Ok(Self::Memory(arg, addr)) }
            }
        }
    }

    fn write(self, call: &mut Call<'_, '_>, at: u64, bytes: &[u8]) -> Result<(), Bad> {
        match self {
            Self::Memory(arg, addr) => {
                call.write(addr.wrapping_add(at), bytes).map_err(|bad| match bad {
                    Bad::Access(..) => none(arg, addr),
                    other => other,
                })
            }
            Self::Own(id) => {
                let put = call.inner()?.memory.poke(id, at as u32, bytes);
                put.map_err(|denied| Bad::Access((id.base() + at, bytes.len(), true), denied))
            }
        }
    }
}

fn write(call: &mut Call<'_, '_>, to: Target, cpus: &Cpumask) -> Result<(), Bad> {
    let count = words(call);
    let bytes: Vec<u8> = cpus.words()[..count].iter().flat_map(|w| w.to_le_bytes()).collect();
    to.write(call, 0, &bytes)
}

/// How often the mask is referred to.
fn usage(call: &mut Call<'_, '_>, id: RegionId) -> Result<u64, Bad> {
    call.read_word(id.base() + call.sched.layouts.mask_size)
}

pub(super) fn create(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let size = call.sched.layouts.mask_size + 8;
    let region = Region { tag: TAG, ..Region::read_only("a bpf_cpumask") };
    let Ok(id) = call.inner()?.memory.alloc_zeroed(region, size) else {
        return Ok(0);
    };
    call.put_word(id.base() + call.sched.layouts.mask_size, 1)?;
    Ok(id.base())
}

pub(super) fn acquire(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let id = own(call, 0)?;
    let usage = usage(call, id)?;
    call.put_word(id.base() + call.sched.layouts.mask_size, usage + 1)?;
    Ok(id.base())
}

pub(super) fn release(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let id = own(call, 0)?;
    let usage = usage(call, id)?;
    if usage == 0 {
        return Err("the mask is released already".into());
    }
    call.put_word(id.base() + call.sched.layouts.mask_size, usage - 1)?;
    if usage == 1 {
        call.inner()?.dropped.push(id);
    }
    Ok(0)
}

/// The CPU, or `nr_cpu_ids` for none.
fn or_none(call: &Call<'_, '_>, cpu: Option<CpuId>) -> u64 {
    cpu.map_or(call.cx.nr_cpu_ids(), |cpu| cpu.0).into()
}

fn both(call: &mut Call<'_, '_>, first: usize) -> Result<(Cpumask, Cpumask), Bad> {
    let [left, right] = [call.args[first], call.args[first + 1]];
    Ok((read(call, left)?, read(call, right)?))
}

pub(super) fn first(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let cpus = read(call, call.args[0])?;
    Ok(or_none(call, cpus.first()))
}

pub(super) fn first_zero(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let cpus = read(call, call.args[0])?;
    let others = call.cx.possible_cpus().and_not(&cpus);
    Ok(or_none(call, others.first()))
}

pub(super) fn first_and(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (left, right) = both(call, 0)?;
    Ok(or_none(call, left.next_and_from(&right, CpuId(0))))
}

/// Changes the bit of a CPU in the program's mask; whether it was set. A number that no CPU has
/// changes nothing.
fn change(call: &mut Call<'_, '_>, set: bool) -> Result<bool, Bad> {
    let cpu = CpuId(call.args[0] as u32);
    let to = Target::of(call, 1)?;
    if cpu.0 >= call.cx.nr_cpu_ids() {
        return Ok(false);
    }
    let at = u64::from(cpu.0 / 64 * 8);
    let (word, bit) = (call.read_at(call.args[1], at)?, 1 << (cpu.0 % 64));
    let changed: u64 = if set { word | bit } else { word & !bit };
    to.write(call, at, &changed.to_le_bytes())?;
    Ok(word & bit != 0)
}

pub(super) fn set_cpu(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    change(call, true).map(|_| 0)
}

pub(super) fn clear_cpu(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    change(call, false).map(|_| 0)
}

pub(super) fn test_and_set_cpu(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    change(call, true).map(u64::from)
}

pub(super) fn test_and_clear_cpu(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    change(call, false).map(u64::from)
}

pub(super) fn test_cpu(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [cpu, mask, ..] = call.args;
    let cpu = cpu as u32;
    if cpu >= call.cx.nr_cpu_ids() {
        return Ok(0);
    }
    let word = call.read_word(mask.wrapping_add(u64::from(cpu / 64 * 8)))?;
    Ok(word >> (cpu % 64) & 1)
}

pub(super) fn set_all(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let to = Target::of(call, 0)?;
    let all = call.cx.possible_cpus();
    write(call, to, &all).map(|()| 0)
}

pub(super) fn clear(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let to = Target::of(call, 0)?;
    write(call, to, &Cpumask::EMPTY).map(|()| 0)
}

pub(super) fn and(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (to, (left, right)) = (Target::of(call, 0)?, both(call, 1)?);
    let result = left.and(&right);
    write(call, to, &result)?;
    Ok((!result.is_empty()).into())
}

pub(super) fn or(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (to, (left, right)) = (Target::of(call, 0)?, both(call, 1)?);
    write(call, to, &left.or(&right)).map(|()| 0)
}

pub(super) fn xor(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (to, (left, right)) = (Target::of(call, 0)?, both(call, 1)?);
    write(call, to, &left.or(&right).and_not(&left.and(&right))).map(|()| 0)
}

pub(super) fn equal(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (left, right) = both(call, 0)?;
    Ok((left == right).into())
}

pub(super) fn intersects(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (left, right) = both(call, 0)?;
    Ok(left.intersects(&right).into())
}

pub(super) fn subset(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (left, right) = both(call, 0)?;
    Ok(left.is_subset(&right).into())
}

pub(super) fn empty(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok(read(call, call.args[0])?.is_empty().into())
}

pub(super) fn full(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let cpus = read(call, call.args[0])?;
    Ok((cpus == call.cx.possible_cpus()).into())
}

pub(super) fn copy(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (to, cpus) = (Target::of(call, 0)?, read(call, call.args[1])?);
    write(call, to, &cpus).map(|()| 0)
}

pub(super) fn any_distribute(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let cpus = read(call, call.args[0])?;
    let cpu = call.cx.any_distribute(&cpus);
    Ok(or_none(call, cpu))
}

pub(super) fn any_and_distribute(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let (left, right) = both(call, 0)?;
    let cpu = call.cx.any_distribute(&left.and(&right));
    Ok(or_none(call, cpu))
}

pub(super) fn weight(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok(read(call, call.args[0])?.weight().into())
}

/// From bits in the program's memory: whole words of so many as there are CPUs, and perhaps more.
pub(super) fn populate(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    const EACCES: i32 = 13;
    let to = Target::of(call, 0)?;
    let [_, from, size, ..] = call.args;
    let needed = words(call) as u64 * 8;
    if size < needed {
        return Ok(negative(EACCES));
    }
    let cpus = read(call, from)?;
    write(call, to, &cpus).map(|()| 0)
}
