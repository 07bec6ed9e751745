//! Where an image's maps and the kernel's variables are.

use super::kfunc;
use super::map::{self, Created, Maps};
use super::object::{Layouts, Objects, Variable};
use crate::Image;
use crate::abi::Abi;
use crate::btf::Kind;
use crate::image::MapType;
use crate::insn::pseudo;
use crate::machine::{Binding, Full, MapAddress, Memory, Region};
use crate::object::Target as _;

/// Makes all maps, and places for the kernel's variables. What the engine lacks is named, and which maps
/// a kernel refuses.
pub(super) fn bind(
    image: &Image,
    abi: &Abi,
    memory: &mut Memory,
    (objects, layouts): (&mut Objects, &Layouts),
    (missing, refused): (&mut Vec<String>, &mut Vec<String>),
    left_out: &mut Vec<String>,
) -> Result<(Binding, Maps), Full> {
    let (mut binding, mut maps) = (Binding::default(), Maps::default());
    let used = used(image);
    for (number, def) in image.maps.iter().enumerate() {
        let address = match map::create(image, &mut maps, memory) {
            Ok(Created::Map(address)) => address,
            Ok(Created::Refused(why)) => {
                refused.push(format!("map {}: {why}", def.name));
                MapAddress::default()
            }
            Ok(Created::Lacking(why)) if !used[number] => {
                let name = &def.name;
                left_out.push(format!("map {name} is left out, no loaded program uses it: {why}"));
                MapAddress::default()
            }
            Ok(Created::Lacking(why)) => {
                missing.push(format!("map {}: {why}", def.name));
                MapAddress::default()
            }
            // The others may lack something too; but the numbers of maps must stay right.
            Err(full) => {
                missing.push(format!("map {}: {full}", def.name));
                return Ok((binding, maps));
            }
        };
        binding.maps.push(address);
    }
    // The rest is for maps that are there.
    if !refused.is_empty() {
        return Ok((binding, maps));
    }
    map::fill(image, &mut maps);
    map::put_elements(image, (&mut maps, memory), missing);
    for ksym in &image.ksyms {
        if let Some(variable) = Variable::named(&ksym.name).filter(|_| !ksym.function) {
            binding.ksyms.push(objects.variable(memory, layouts, variable)?.base());
            continue;
        }
        // A function whose address is taken to see whether it is there. One that is declared as
        // `void` is looked up among all symbols of a kernel, and need not be a kfunc.
        let is_there = match ksym.function {
            true => kfunc::find(&ksym.name).is_some(),
            false => ksym.ty == 0 && abi.btf().find(&ksym.name, Kind::Func).is_some(),
        };
        if !is_there {
            missing.push(format!("kernel variable {}", ksym.name));
        }
        let region = Region::read_only(format!("the function {}", ksym.name));
        binding.ksyms.push(memory.alloc_foreign(region, 1)?.base());
    }
    Ok((binding, maps))
}

/// Which maps an instruction or a map of maps refers to.
fn used(image: &Image) -> Vec<bool> {
    let loads = image
        .insns
        .iter()
        .filter(|insn| insn.is_wide() && matches!(insn.src, pseudo::MAP | pseudo::MAP_VALUE));
    let loaded = loads.map(|insn| insn.imm as usize);
    let of_maps = image
        .maps
        .iter()
        .filter(|map| matches!(map.map_type, MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS));
    let inner = of_maps.flat_map(|map| map.entries.iter().copied().chain([map.inner])).flatten();
    let mut used = vec![false; image.maps.len()];
    for map in loaded.chain(inner) {
        if let Some(used) = used.get_mut(map) {
            *used = true;
        }
    }
    used
}
