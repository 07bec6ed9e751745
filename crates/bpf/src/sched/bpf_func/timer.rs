//! Timers: `bpf_timer_init()` and what follows. Where one goes off, and which callback it has, is
//! kept by its address; what a value has in its place are zeros.

use std::collections::BTreeMap;

use super::lock::field;
use super::map::map;
use super::{EINVAL_PTR, negative};
use crate::machine::{Memory, Part, RegionId, address};
use crate::sched::call::{Bad, Call};
use crate::sched::clock;
use crate::sched::map::errno::{EINVAL, ENOMEM};
use crate::sched::map::fields::Field;
use crate::sched::map::{Maps, Store};
use crate::sched::state::Inner;
use scxlab_engine::Nanos;

const EBUSY: i32 = 16;
const EDEADLK: i32 = 35;
const EOPNOTSUPP: i32 = 95;

/// `CLOCK_REALTIME`, `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME`.
const CLOCKS: [u64; 3] = [0, 1, 7];
/// `BPF_F_TIMER_ABS`.
const ABSOLUTE: u64 = 1;
/// `BPF_F_TIMER_CPU_PIN`: here a timer always goes off on the CPU that started it.
const PINNED: u64 = 2;

/// What a start costs of a program's budget if the engine needs another event for it.
const START_COST: u64 = 1000;

/// What a timer takes of the machine's memory, in bytes.
const TIMER: u64 = 128;

/// All timers of a scheduler.
#[derive(Clone, Debug, Default)]
pub(in crate::sched) struct Timers {
    /// By address.
    all: BTreeMap<u64, Timer>,
    /// Those that the engine has an event for, by the event's number.
    events: BTreeMap<u32, u64>,
    /// Events until now.
    made: u32,
}

/// A timer that was initialized.
#[derive(Clone, Debug)]
struct Timer {
    map: usize,
    callback: Option<u64>,
    /// When it is to go off, if it is.
    due: Option<Nanos>,
    /// The engine's event: its number, time and CPU. It may come before the timer is due, or after
    /// it was stopped.
    event: Option<(u32, Nanos, u32)>,
}

/// A timer that goes off.
#[derive(Clone, Debug)]
pub(in crate::sched) struct Fired {
    /// Its address.
    pub timer: u64,
    pub callback: u64,
    pub map: usize,
    pub key: Vec<u8>,
    /// The address of its value.
    pub value: u64,
}

/// What an event of the engine's means.
#[derive(Clone, Debug)]
pub(in crate::sched) enum Rings {
    /// Nothing any more.
    Nobody,
    /// A timer is due later: the next event.
    Later(u32, Nanos),
    /// A timer goes off.
    Now(Fired),
}

impl Timers {
    /// An event of this number has come.
    pub fn ring(&mut self, number: u32, at: (Nanos, u32), maps: &Maps, memory: &Memory) -> Rings {
        let (now, cpu) = at;
        let Some(addr) = self.events.remove(&number) else { return Rings::Nobody };
        let Some(timer) = self.all.get_mut(&addr) else { return Rings::Nobody };
        timer.event = None;
        let Some(due) = timer.due else { return Rings::Nobody };
        if due > now {
            return match self.event(addr, due, cpu) {
                Some(number) => Rings::Later(number, due),
                None => Rings::Nobody,
            };
        }
        timer.due = None;
        let map = timer.map;
        let (Some(callback), Some((_, offset)), Some(key)) =
            (timer.callback, maps.value_at(memory, addr), key_of(maps, memory, map, addr))
        else {
            return Rings::Nobody;
        };
        Rings::Now(Fired { timer: addr, callback, map, key, value: addr - u64::from(offset) })
    }

    /// The number of a new event for a timer, unless the one that it has does.
    fn event(&mut self, addr: u64, due: Nanos, cpu: u32) -> Option<u32> {
        let timer = self.all.get_mut(&addr)?;
        if let Some((number, at, on)) = timer.event {
            if at <= due && on == cpu {
                return None;
            }
            self.events.remove(&number);
        }
        self.made = self.made.wrapping_add(1);
        timer.event = Some((self.made, due, cpu));
        self.events.insert(self.made, addr);
        Some(self.made)
    }

    /// `bpf_timer_cancel_and_free()` for all that are in these bytes.
    pub fn drop_within(&mut self, memory: &mut Memory, addr: u64, size: u64) {
        let within = self.all.range(addr..addr.saturating_add(size)).map(|(addr, _)| *addr);
        for addr in within.collect::<Vec<_>>() {
            let Some(timer) = self.all.remove(&addr) else { continue };
            memory.uncharge(TIMER);
            if let Some((number, ..)) = timer.event {
                self.events.remove(&number);
            }
        }
    }
}

/// `map_key_from_value()`.
fn key_of(maps: &Maps, memory: &Memory, map: usize, addr: u64) -> Option<Vec<u8>> {
    let id = RegionId::of(addr)?;
    match &*maps.get(map).store {
        Store::Array(_) => {
            let index = match memory.region(id)?.part {
                Part::Values(each) => address::offset(addr) / each.max(1),
                _ => 0,
            };
            Some(index.to_le_bytes().to_vec())
        }
        Store::Hash(hash) => hash.key_of(memory, id).map(<[u8]>::to_vec),
        _ => None,
    }
}

pub(super) fn init(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [timer, object, flags, ..] = call.args;
    field(call, timer, Field::Timer)?;
    call.args[0] = object;
    let map = map(call)?;
    let Inner { maps, memory, timers, .. } = call.inner()?;
    if maps.value_at(memory, timer).map(|(map, _)| map) != Some(map) {
        return Err("the timer is in no value of this map".into());
    }
    if !CLOCKS.contains(&flags) {
        return Ok(negative(EINVAL));
    }
    if timers.all.contains_key(&timer) {
        return Ok(negative(EBUSY));
    }
    if key_of(maps, memory, map, timer).is_none() {
        return Err("the timer's value is in its map no more".into());
    }
    if memory.charge(TIMER).is_err() {
        return Ok(negative(ENOMEM));
    }
    timers.all.insert(timer, Timer { map, callback: None, due: None, event: None });
    Ok(0)
}

pub(super) fn set_callback(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [timer, callback, ..] = call.args;
    field(call, timer, Field::Timer)?;
    if call.sched.code.function_at(callback).is_none() {
        return Err(format!("its callback is no function: {callback:#x}").into());
    }
    let Some(timer) = call.inner()?.timers.all.get_mut(&timer) else { return Ok(EINVAL_PTR) };
    timer.callback = Some(callback);
    Ok(0)
}

pub(super) fn start(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [addr, nanos, flags, ..] = call.args;
    field(call, addr, Field::Timer)?;
    if flags & !(ABSOLUTE | PINNED) != 0 {
        return Ok(EINVAL_PTR);
    }
    let (now, cpu) = (call.cx.now(), call.cx.this_cpu().0);
    let at = if flags & ABSOLUTE != 0 { clock::of_run(nanos) } else { now + Nanos(nanos) };
    let timers = &mut call.inner()?.timers;
    let Some(timer) = timers.all.get_mut(&addr).filter(|timer| timer.callback.is_some()) else {
        return Ok(EINVAL_PTR);
    };
    timer.due = Some(at);
    if let Some(number) = timers.event(addr, at, cpu) {
        call.spent += START_COST;
        call.cx.timer_start(number, at);
    }
    Ok(0)
}

pub(super) fn cancel(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let addr = call.args[0];
    field(call, addr, Field::Timer)?;
    if call.cx.irqs_disabled() {
        return Ok(negative(EOPNOTSUPP));
    }
    let own = call.timer == Some(addr);
    let timers = &mut call.inner()?.timers;
    let Some(timer) = timers.all.get_mut(&addr) else { return Ok(EINVAL_PTR) };
    if own {
        return Ok(negative(EDEADLK));
    }
    timer.callback = None;
    Ok(timer.due.take().is_some().into())
}
