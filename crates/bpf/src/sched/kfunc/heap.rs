//! Objects of a program's own types: `bpf_obj_new()` and what takes them away.

use std::sync::Arc;

use super::put::{object_of_part, put_all, take_owned};
use crate::btf::Kind;
use crate::machine::{Region, RegionId, address};
use crate::sched::call::{Bad, Call};
use crate::sched::map::fields::{Field, Fields};

/// What tells the region of an object, with its type in the lower half: see [`Region::tag`].
const TAG: u64 = 0x6f62_6a00 << 32;

/// The same for an object that each CPU has one of.
const PER_CPU: u64 = 0x6f62_6a01 << 32;

/// BTF_FIELDS_MAX: a kernel takes no type with more.
const FIELDS: usize = 11;

/// The largest object in bytes: BPF_MEM_ALLOC_SIZE_MAX, less what the allocator needs for itself. The
/// verifier looks at no size, so that programs get NULL for larger ones, and for empty ones.
const MOST: u32 = 4096 - 8;

/// A type of a program's own objects.
#[derive(Debug)]
pub(in crate::sched) struct OwnType {
    /// `an object of struct NAME`.
    what: Arc<str>,
    size: u32,
    fields: Fields,
}

impl OwnType {
    /// Where it has its `struct bpf_refcount`.
    fn refcount(&self) -> Option<u64> {
        self.fields.place_of(Field::Refcount).map(u64::from)
    }
}

fn own_type(call: &mut Call<'_, '_>, ty: u32) -> Result<Arc<OwnType>, Bad> {
    if let Some(known) = call.inner()?.own_types.get(&ty) {
        return Ok(Arc::clone(known));
    }
    let btf = &call.sched.image.btf;
    let known = btf.get(ty).is_some_and(|ty| ty.kind() == Kind::Struct);
    let size = btf.size_of(ty).ok().filter(|_| known).ok_or("its argument 1 is no type")?;
    let what = format!("an object of struct {}", btf.name_of(ty)).into();
    let fields = Fields::of(btf, ty).filter(|fields| fields.len() <= FIELDS);
    let fields = fields.ok_or_else(|| format!("{what} has more than {FIELDS} fields"))?;
    let own = Arc::new(OwnType { what, size, fields });
    call.inner()?.own_types.insert(ty, Arc::clone(&own));
    Ok(own)
}

pub(super) fn obj_new(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let ty = call.args[0] as u32;
    let own = own_type(call, ty)?;
    if !(1..=MOST).contains(&own.size) {
        return Ok(0);
    }
    let region = Region { tag: TAG | u64::from(ty), ..Region::new(Arc::clone(&own.what)) };
    let made = call.inner()?.memory.alloc_zeroed(region, own.size.into());
    let Ok(id) = made else { return Ok(0) };
    if let Some(at) = own.refcount() {
        put_count(call, id.base() + at, 1)?;
    }
    Ok(id.base())
}

/// `bpf_percpu_obj_new()`: one for each CPU, which [`percpu_obj_of`] finds.
pub(super) fn percpu_obj_new(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let ty = call.args[0] as u32;
    let own = own_type(call, ty)?;
    let (name, size) = (&own.what, own.size);
    // BPF_GLOBAL_PERCPU_MA_MAX_SIZE: the verifier lets none be larger.
    const MOST: u32 = 512;
    if size > MOST {
        return Err(format!("{name} has {size} bytes, and may have {MOST}").into());
    }
    let all = u64::from(size.next_multiple_of(8)) * u64::from(call.cx.nr_cpu_ids());
    let name = format!("{name} for each CPU");
    let region = Region { tag: PER_CPU | u64::from(ty), ..Region::new(name) };
    let made = call.inner()?.memory.alloc_zeroed(region, all);
    Ok(made.map_or(0, RegionId::base))
}

/// The region of an object that each CPU has one of, and the size of each.
fn percpu_obj(call: &mut Call<'_, '_>, addr: u64) -> Result<Option<(RegionId, u64)>, Bad> {
    let memory = &call.inner()?.memory;
    let id = RegionId::of(addr).filter(|_| address::offset(addr) == 0);
    let Some((id, tag)) = id.and_then(|id| Some((id, memory.region(id)?.tag))) else {
        return Ok(None);
    };
    if tag >> 32 << 32 != PER_CPU {
        return Ok(None);
    }
    let size = call.sched.image.btf.size_of(tag as u32).unwrap_or(0);
    Ok(Some((id, u64::from(size.next_multiple_of(8)))))
}

/// A CPU's own, if there is such an object at the address.
pub(in crate::sched) fn percpu_obj_of(
    call: &mut Call<'_, '_>,
    addr: u64,
    cpu: u32,
) -> Result<Option<u64>, Bad> {
    let found = percpu_obj(call, addr)?;
    Ok(found.map(|(id, size)| id.base() + size * u64::from(cpu)))
}

pub(super) fn percpu_obj_drop(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let addr = call.args[0];
    let found = percpu_obj(call, addr)?;
    let (id, _) =
        found.ok_or_else(|| format!("its argument 1 is no object of each CPU: {addr:#x}"))?;
    drop_later(call, id)?;
    Ok(0)
}

/// Whether an address is that of an object of each CPU.
pub(super) fn is_percpu_obj(call: &mut Call<'_, '_>, addr: u64) -> Result<bool, Bad> {
    Ok(percpu_obj(call, addr)?.is_some())
}

fn count(call: &mut Call<'_, '_>, at: u64) -> Result<u32, Bad> {
    let mut bytes = [0; 4];
    call.read(at, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn put_count(call: &mut Call<'_, '_>, at: u64, count: u32) -> Result<(), Bad> {
    call.write(at, &count.to_le_bytes())
}

/// The object that begins at an address, and its type.
fn object(call: &mut Call<'_, '_>, addr: u64) -> Result<(RegionId, u32), Bad> {
    let memory = &call.inner()?.memory;
    let id = RegionId::of(addr).filter(|_| address::offset(addr) == 0);
    let tag = id.and_then(|id| Some((id, memory.region(id)?.tag)));
    match tag {
        Some((id, tag)) if tag >> 32 << 32 == TAG => Ok((id, tag as u32)),
        _ => Err(format!("its argument 1 is no object: {addr:#x}").into()),
    }
}

pub(super) fn obj_drop(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let owned = drop_at(call, call.args[0])?;
    put_all(call, owned)?;
    Ok(0)
}

/// Drops the object that a part of is at this address.
pub(super) fn drop_of_part(call: &mut Call<'_, '_>, addr: u64) -> Result<(), Bad> {
    let owned = drop_at(call, object_of_part(addr))?;
    put_all(call, owned)
}

/// `__bpf_obj_drop_impl()`: drops an object. Returns what it owned, if that was the last reference.
pub(super) fn drop_at(call: &mut Call<'_, '_>, addr: u64) -> Result<Vec<u64>, Bad> {
    let (id, ty) = object(call, addr)?;
    let own = own_type(call, ty)?;
    if let Some(at) = own.refcount() {
        let at = addr + at;
        let left = count(call, at)?.checked_sub(1).ok_or("the object is dropped already")?;
        put_count(call, at, left)?;
        if left > 0 {
            return Ok(Vec::new());
        }
    }
    drop_later(call, id)?;
    take_owned(call, addr, &own.fields)
}

fn drop_later(call: &mut Call<'_, '_>, id: RegionId) -> Result<(), Bad> {
    match call.inner()?.dropped.push(id) {
        true => Ok(()),
        false => Err("the object is dropped already".into()),
    }
}

pub(super) fn refcount_acquire(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let addr = call.args[0];
    let (_, ty) = object(call, addr)?;
    let own = own_type(call, ty)?;
    let at = addr + own.refcount().ok_or("the object has no bpf_refcount")?;
    let before = count(call, at)?;
    if before == 0 {
        return Ok(0);
    }
    put_count(call, at, before + 1)?;
    Ok(addr)
}
