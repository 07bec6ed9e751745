//! What was chosen goes into libbpf's hands, and the object into the kernel's.

use std::io;
use std::mem;
use std::os::fd::{AsFd as _, AsRawFd as _};

use libbpf_rs::libbpf_sys::{BPF_F_LINK, bpf_map_create_opts, bpf_object__btf_fd};
use libbpf_rs::{
    AsRawLibbpf as _, ErrorExt as _, MapCore as _, MapFlags, MapHandle, MapType, Object,
    OpenMapMut, OpenObject, Result,
};
use scxlab_bpf::image;
use scxlab_bpf::object::{self, OpenValue};

use super::{ARENA_SECTION, Loaded, Opened, Refusal, log};

impl Opened {
    /// Hands it to the kernel, whose verifier looks at every program. An object without a scheduler
    /// has its other programs only.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn load(self) -> Result<Loaded, Refusal> {
        let ops = self.ops().ok().map(|ops| ops.name.to_owned());
        log::begin();
        let Self { mut object, chosen, .. } = self;
        let loaded = hand_over(&mut object, &chosen, ops.as_deref())
            .and_then(|()| object.load())
            .and_then(|object| fill_maps(&object, &chosen).map(|()| object));
        match loaded {
            Ok(object) => Ok(Loaded { object, file: chosen, ops }),
            Err(err) => Err(Refusal::new("load", &err)),
        }
    }
}

/// Between opening and loading.
fn hand_over(object: &mut OpenObject, chosen: &object::Object, ops: Option<&str>) -> Result<()> {
    for mut program in object.progs_mut() {
        let decided = chosen.decided().find(|(name, _)| program.name() == *name);
        if let Some((_, autoload)) = decided {
            program.set_autoload(autoload);
        }
    }
    for map in chosen.maps() {
        let is_it = |open: &OpenMapMut<'_>| is_called(&open.name().to_string_lossy(), &map.name);
        let mut maps = object.maps_mut();
        let mut open = maps.find(is_it).ok_or_else(|| missing(&map.name))?;
        hand_over_map(&mut open, map).with_context(|| format!("map {}", map.name))?;
    }
    for all in chosen.open_struct_ops() {
        let mut maps = object.maps_mut();
        let mut map = maps.find(|map| map.name() == all.name).ok_or_else(|| missing(all.name))?;
        map.set_autocreate(all.autocreate)?;
        // One of a section `.struct_ops`, without `.link`, would stay attached when this process ends.
        if ops == Some(all.name) {
            map.set_map_flags(BPF_F_LINK)?;
        }
        let data = map.initial_value_mut().ok_or_else(|| missing(all.name))?;
        for (member, value) in all.members {
            // Where an operation is, libbpf has a pointer of its own to the program.
            const NONE: &[u8] = &[0; mem::size_of::<usize>()];
            let bytes = match value {
                OpenValue::Bytes(bytes) => bytes,
                OpenValue::Program(None) => NONE,
                OpenValue::Program(Some(_)) => continue,
            };
            let room = data.get_mut(member.offset..member.offset + bytes.len());
            room.ok_or_else(|| missing(member.name))?.copy_from_slice(bytes);
        }
    }
    Ok(())
}

fn hand_over_map(open: &mut OpenMapMut<'_>, map: &image::Map) -> Result<()> {
    if open.max_entries() != map.max_entries {
        open.set_max_entries(map.max_entries)?;
    }
    let is_data = map.name.starts_with('.');
    if is_data && open.value_size() != map.value_size {
        open.set_value_size(map.value_size)?;
    }
    if map.initial.is_empty() {
        return Ok(());
    }
    let room = open.initial_value_mut().and_then(|value| value.get_mut(..map.initial.len()));
    let section = if is_data { &map.name } else { ARENA_SECTION };
    room.ok_or_else(|| missing(section))?.copy_from_slice(&map.initial);
    Ok(())
}

/// Whether libbpf's name of a map is this one: before a section's it puts the object's.
fn is_called(name: &str, wanted: &str) -> bool {
    if wanted.starts_with('.') { name.ends_with(wanted) } else { name == wanted }
}

fn missing(what: &str) -> libbpf_rs::Error {
    let what = format!("libbpf does not know {what} of the object");
    io::Error::new(io::ErrorKind::InvalidData, what).into()
}

/// After loading, before anything runs.
fn fill_maps(object: &Object, chosen: &object::Object) -> Result<()> {
    // SAFETY: the pointer is the object's own, which is loaded; the number is only read.
    let btf = unsafe { bpf_object__btf_fd(object.as_libbpf_object().as_ptr()) };
    let find = |name: &str| {
        let map = object.maps().find(|map| map.name() == name);
        map.ok_or_else(|| missing(name))
    };
    for map in chosen.maps().iter().filter(|map| !map.elements.is_empty()) {
        let there = find(&map.name)?;
        for (key, value) in &map.elements {
            there
                .update(key, value, MapFlags::ANY)
                .with_context(|| format!("map {}: a value that was set", map.name))?;
        }
    }
    for (map, inner, count) in chosen.filled_maps() {
        let there = find(&map.name)?;
        for key in 0..count {
            let one = create(inner, btf).with_context(|| format!("map {}[{key}]", map.name))?;
            let key = (key as u64).to_le_bytes();
            let key = &key[..(map.key_size as usize).min(key.len())];
            there.update(key, &one.as_fd().as_raw_fd().to_le_bytes(), MapFlags::ANY)?;
        }
    }
    Ok(())
}

/// The kinds of maps that the kernel does not create if it is told the types of their values; libbpf
/// keeps those to itself too (`bpf_object__create_map()`).
const UNTYPED: &[MapType] = &[
    MapType::PerfEventArray,
    MapType::CgroupArray,
    MapType::StackTrace,
    MapType::ArrayOfMaps,
    MapType::HashOfMaps,
    MapType::Devmap,
    MapType::DevmapHash,
    MapType::Cpumap,
    MapType::Xskmap,
    MapType::Sockmap,
    MapType::Sockhash,
    MapType::Queue,
    MapType::Stack,
    MapType::Arena,
];

/// A map of its own, as it is declared for a map of maps.
fn create(map: &image::Map, btf: i32) -> Result<MapHandle> {
    let kind = MapType::from(map.map_type.0);
    let typed = map.value_type != 0 && btf >= 0 && !UNTYPED.contains(&kind);
    let opts = bpf_map_create_opts {
        sz: mem::size_of::<bpf_map_create_opts>() as _,
        map_flags: map.flags,
        map_extra: map.extra,
        btf_fd: if typed { btf as u32 } else { 0 },
        btf_key_type_id: if typed { map.key_type } else { 0 },
        btf_value_type_id: if typed { map.value_type } else { 0 },
        ..bpf_map_create_opts::default()
    };
    MapHandle::create(kind, None::<&str>, map.key_size, map.value_size, map.max_entries, &opts)
}
