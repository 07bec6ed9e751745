//! What a scheduler says, and what the kernel counts.

use crate::abi::Abi;
use crate::sched::call::{Bad, Call};
use crate::sched::format;

/// Where `struct scx_event_stats` has what the engine counts.
#[derive(Clone, Debug)]
pub(in crate::sched) struct EventPlaces {
    size: usize,
    /// By name.
    places: Vec<(&'static str, usize)>,
}

impl EventPlaces {
    pub fn new(abi: &Abi) -> Self {
        const STATS: &str = "scx_event_stats";
        let size = abi.size_of(STATS).unwrap_or(0) as usize;
        let place = |(name, _): (&'static str, u64)| {
            // 7.3 counts for all queues what 7.2 counts for local ones, under another name.
            let newer = name.replace("_REENQ_LOCAL_REPEAT", "_REENQ_REPEAT");
            let offset = abi.offset_of(STATS, name).or_else(|| abi.offset_of(STATS, &newer));
            Some((name, offset? as usize))
        };
        let names = scxlab_engine::EventCounters::default();
        Self { size, places: names.iter().filter_map(place).collect() }
    }
}

pub(super) fn now(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    Ok(crate::sched::clock::now(call.cx))
}

pub(super) fn events(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [to, size, ..] = call.args;
    let EventPlaces { size: all, places } = &call.sched.events;
    let mut bytes = vec![0; *all];
    for (name, value) in call.cx.events().iter() {
        if let Some((_, at)) = places.iter().find(|(known, _)| *known == name) {
            bytes[*at..*at + 8].copy_from_slice(&value.to_le_bytes());
        }
    }
    bytes.truncate(size.min(u64::from(u32::MAX)) as usize);
    call.write(to, &bytes)?;
    Ok(0)
}

pub(super) fn error(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [fmt, data, size, ..] = call.args;
    let Some(text) = format::text(call, fmt, data, size)? else { return Ok(0) };
    call.with_core(|cx| cx.error(text));
    Ok(0)
}

pub(super) fn exit(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [code, fmt, data, size, _] = call.args;
    let Some(text) = format::text(call, fmt, data, size)? else { return Ok(0) };
    call.with_core(|cx| cx.exit(code as i64, text));
    Ok(0)
}

pub(super) fn dump(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [fmt, data, size, ..] = call.args;
    let Some(text) = format::text(call, fmt, data, size)? else { return Ok(0) };
    call.with_core(|cx| cx.dump(text));
    Ok(0)
}
