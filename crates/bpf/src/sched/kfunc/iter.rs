//! Iterators: over numbers, bits, tasks and cgroups. They are on the program's stack, and what they
//! go through stands in a region of the kernel's, but for numbers.

use scxlab_engine::{Slot, Task, flags::errno as number};

use super::negative;
use crate::machine::{Region, RegionId, address};
use crate::sched::bpf_func;
use crate::sched::call::{Bad, Call};
use crate::sched::object::{Object, of_task};

const MAX_LOOPS: i64 = 8 * 1024 * 1024;
/// `BITS_ITER_NR_WORDS_MAX`.
const MAX_WORDS: u32 = 511;
const E2BIG: i32 = 7;
const EFAULT: i32 = 14;
const ERANGE: i32 = 34;
/// What tells the region of an iterator: see [`Region::tag`].
const TAG: u64 = 0x6974_6572 << 32;

/// `struct bpf_iter_num_kern`: the number, and where it ends.
pub(super) fn num_new(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [it, start, end, ..] = call.args;
    let (start, end) = (start as i32, end as i32);
    let (result, cur, end) = match i64::from(end) - i64::from(start) {
        ..0 => (negative(number::EINVAL), 0, 0),
        len if len > MAX_LOOPS => (negative(E2BIG), 0, 0),
        _ => (0, start.wrapping_sub(1), end),
    };
    put_num(call, it, cur, end)?;
    Ok(result)
}

fn put_num(call: &mut Call<'_, '_>, it: u64, cur: i32, end: i32) -> Result<(), Bad> {
    call.put_word(it, u64::from(cur as u32) | u64::from(end as u32) << 32)
}

pub(super) fn num_next(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let it = call.args[0];
    let word = call.read_word(it)?;
    let (cur, end) = ((word as i32).wrapping_add(1), (word >> 32) as i32);
    if cur >= end {
        put_num(call, it, 0, 0)?;
        return Ok(0);
    }
    put_num(call, it, cur, end)?;
    Ok(it)
}

pub(super) fn num_destroy(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let it = call.args[0];
    put_num(call, it, 0, 0)?;
    Ok(0)
}

/// `struct bpf_iter_bits_kern`: where the bits are, how many, and the last one.
pub(super) fn bits_new(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [it, from, words, ..] = call.args;
    let words = words as u32;
    call.put_word(it, 0)?;
    call.put_at(it, 8, 0)?;
    if from == 0 || words == 0 {
        return Ok(negative(number::EINVAL));
    }
    if words > MAX_WORDS {
        return Ok(negative(E2BIG));
    }
    let mut bits = vec![0; words as usize * 8];
    if !call.try_read(from, &mut bits)? {
        // Of more than a word it is what the read says.
        let errno = if words == 1 || bpf_func::is_kernel(from) { EFAULT } else { ERANGE };
        return Ok(negative(errno));
    }
    let region = Region { tag: TAG, ..Region::read_only("the bits of an iterator") };
    let Ok(id) = call.inner()?.memory.alloc(region, bits) else {
        return Ok(negative(number::ENOMEM));
    };
    call.put_word(it, id.base())?;
    call.put_at(it, 8, u64::from(words * 64) | u64::from(u32::MAX) << 32)?;
    Ok(0)
}

pub(super) fn bits_next(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let it = call.args[0];
    let (bits, state) = (call.read_word(it)?, call.read_at(it, 8)?);
    let (count, last) = ((state as u32).min(MAX_WORDS * 64), (state >> 32) as u32);
    let mut bit = last.wrapping_add(1);
    while bit < count {
        let word = call.read_at(bits, u64::from(bit / 64 * 8))? >> (bit % 64);
        if word != 0 {
            bit += word.trailing_zeros();
            break;
        }
        bit = (bit / 64 + 1) * 64;
    }
    if count == 0 || bit >= count {
        // From now on there is none.
        call.put_at(it, 8, u64::from(count) | u64::from(count.saturating_sub(1)) << 32)?;
        return Ok(0);
    }
    call.put_at(it, 8, u64::from(count) | u64::from(bit) << 32)?;
    Ok(it.wrapping_add(12))
}

pub(super) fn bits_destroy(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    destroy(call)
}

/// Begins to go through these: the first two words of the region are where it stands, and what
/// kind of thing they are.
fn begin(call: &mut Call<'_, '_>, it: u64, kind: u64, all: &[u64]) -> Result<u64, Bad> {
    let words = [0, kind].into_iter().chain(all.iter().copied());
    let bytes = words.flat_map(u64::to_le_bytes).collect();
    let region = Region { tag: TAG, ..Region::read_only("what an iterator goes through") };
    let Ok(id) = call.inner()?.memory.alloc(region, bytes) else {
        call.put_word(it, 0)?;
        return Ok(negative(number::ENOMEM));
    };
    call.put_word(it, id.base())?;
    Ok(0)
}

/// One that could not begin: it gives nothing.
fn refuse(call: &mut Call<'_, '_>, it: u64) -> Result<u64, Bad> {
    call.put_word(it, 0)?;
    Ok(negative(number::EINVAL))
}

/// The region of the iterator that the first argument is, and how many words it has.
fn region(call: &mut Call<'_, '_>) -> Result<Option<(RegionId, u64)>, Bad> {
    let at = call.read_word(call.args[0])?;
    let memory = &call.inner()?.memory;
    if at == 0 {
        return Ok(None);
    }
    let id = RegionId::of(at).filter(|_| address::offset(at) == 0);
    let is_it = |id: &RegionId| memory.region(*id).is_some_and(|region| region.tag == TAG);
    let id = id.filter(is_it).ok_or("its argument 1 is no iterator")?;
    Ok(Some((id, memory.size(id).unwrap_or(0) / 8)))
}

/// The next one, and its kind.
fn step(call: &mut Call<'_, '_>) -> Result<Option<(u64, u64)>, Bad> {
    let Some((id, words)) = region(call)? else { return Ok(None) };
    let at = call.read_word(id.base())?;
    if at + 2 >= words {
        return Ok(None);
    }
    call.put_word(id.base(), at + 1)?;
    let kind = call.read_word(id.base() + 8)?;
    Ok(Some((call.read_word(id.base() + (at + 2) * 8)?, kind)))
}

fn destroy(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    if let Some((id, _)) = region(call)? {
        call.inner()?.memory.free(id);
    }
    call.put_word(call.args[0], 0)?;
    Ok(0)
}

/// A task in a word.
fn word_of(slot: Slot) -> u64 {
    u64::from(slot.generation) << 32 | u64::from(slot.index)
}

/// Goes through tasks as they are now.
fn begin_tasks<'r>(call: &mut Call<'_, 'r>, it: u64, all: &[Task<'r>]) -> Result<u64, Bad> {
    let all: Vec<u64> = all.iter().map(|p| word_of(call.cx.slot(*p))).collect();
    begin(call, it, 0, &all)
}

/// The next task that is not released.
fn next_task(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    while let Some((word, _)) = step(call)? {
        let slot = Slot { index: word as u32, generation: (word >> 32) as u32 };
        let p = call.cx.task_in(slot).filter(|p| call.cx.has_pid(*p));
        if let Some(p) = p {
            return Ok(call.object(of_task(call.cx, p))?);
        }
    }
    Ok(0)
}

pub(super) fn task_new(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    const ALL_PROCS: u32 = 0;
    const ALL_THREADS: u32 = 1;
    const PROC_THREADS: u32 = 2;
    let [it, task, flags, ..] = call.args;
    let flags = flags as u32;
    if flags == PROC_THREADS && task != 0 {
        let p = call.task(1)?;
        let process = call.cx.process(p);
        // From the task on.
        let all: Vec<_> = call.cx.threads(process).skip_while(|q| *q != p).collect();
        return begin_tasks(call, it, &all);
    }
    if !matches!(flags, ALL_PROCS | ALL_THREADS) {
        return refuse(call, it);
    }
    // The boot CPU's idle task comes first (`init_task`).
    let idle = call.cx.run_queue(scxlab_engine::CpuId(0)).map(|rq| rq.idle);
    let mut all: Vec<_> = idle.into_iter().collect();
    for p in call.cx.all_threads() {
        if call.cx.group_leader(p) == p {
            match flags {
                ALL_PROCS => all.push(p),
                _ => all.extend(call.cx.threads(call.cx.process(p))),
            }
        }
    }
    begin_tasks(call, it, &all)
}

pub(super) fn task_next(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    next_task(call)
}

pub(super) fn task_destroy(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    destroy(call)
}

/// The cgroup whose `struct cgroup_subsys_state` an argument is, and whether it is that of its task
/// group.
fn css(call: &mut Call<'_, '_>, arg: usize) -> Result<(u64, bool), Bad> {
    let addr = call.args[arg];
    let layouts = &call.sched.layouts;
    let (cgroup_css, group_css) = (layouts.cgroup_css, layouts.group_css);
    let object = RegionId::of(addr).and_then(|id| call.inner().ok()?.objects.in_region(id));
    match (object, address::offset(addr)) {
        (Some(Object::Cgroup(id)), at) if at == cgroup_css => Ok((id, false)),
        (Some(Object::TaskGroup(id)), at) if at == group_css => Ok((id, true)),
        _ => Err(format!("its argument {} is no css: {addr:#x}", arg + 1).into()),
    }
}

pub(super) fn css_task_new(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    /// `CSS_TASK_ITER_PROCS`, and `CSS_TASK_ITER_THREADED`.
    const PROCS: u64 = 1;
    const THREADED: u64 = 2;
    let [it, _, flags, ..] = call.args;
    let flags = flags & u64::from(u32::MAX);
    if flags & !(PROCS | THREADED) != 0 || flags == THREADED {
        return refuse(call, it);
    }
    let (cgroup, _) = css(call, 1)?;
    let cx = &*call.cx;
    let is_in =
        |p: &Task<'_>| cx.cgroup_of(*p) == cgroup && (flags == 0 || cx.group_leader(*p) == *p);
    let all: Vec<_> = cx.all_threads().filter(is_in).collect();
    begin_tasks(call, it, &all)
}

pub(super) fn css_task_next(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    next_task(call)
}

pub(super) fn css_task_destroy(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    destroy(call)
}

/// `enum bpf_cgroup_iter_order`.
pub(super) fn css_new(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    const PRE: u32 = 2;
    const POST: u32 = 3;
    const UP: u32 = 4;
    const CHILDREN: u32 = 5;
    let [it, _, order, ..] = call.args;
    let order = order as u32;
    if !matches!(order, PRE | POST | UP | CHILDREN) {
        return refuse(call, it);
    }
    let (start, of_group) = css(call, 1)?;
    let parents: Vec<(u64, u64)> = (1..=call.cx.nr_cgroups())
        .filter_map(|id| Some((id, call.cx.cgroup_parent(id)?)))
        .collect();
    let children = |of: u64| parents.iter().filter(move |(_, parent)| *parent == of);
    let mut all = Vec::new();
    match order {
        UP => {
            let mut at = Some(start);
            while let Some(id) = at {
                all.push(id);
                at = call.cx.cgroup_parent(id);
            }
        }
        CHILDREN => all.extend(children(start).map(|(id, _)| *id)),
        _ => {
            // Depth first. Backwards, with the children backwards, that is the other order.
            let mut left = vec![start];
            while let Some(id) = left.pop() {
                all.push(id);
                let from = left.len();
                left.extend(children(id).map(|(id, _)| *id));
                if order == PRE {
                    left[from..].reverse();
                }
            }
            if order == POST {
                all.reverse();
            }
        }
    }
    begin(call, it, of_group.into(), &all)
}

pub(super) fn css_next(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let layouts = &call.sched.layouts;
    let (cgroup_css, group_css) = (layouts.cgroup_css, layouts.group_css);
    let (object, offset) = match step(call)? {
        None => return Ok(0),
        Some((id, 0)) => (Object::Cgroup(id), cgroup_css),
        Some((id, _)) => (Object::TaskGroup(id), group_css),
    };
    Ok(call.object(object)? + u64::from(offset))
}

pub(super) fn css_destroy(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    destroy(call)
}
