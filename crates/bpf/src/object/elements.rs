//! What a scheduler's user space puts into maps before anything runs, by the types of their keys and
//! values: `map[key]`, `map[key].member`.

use super::error::Error;
use super::globals::{self, Place, Store};
use super::{Object, limits, value};
use crate::btf::Btf;
use crate::image::{Map, MapType};

impl Object {
    /// Whether a path names a declared map.
    pub(super) fn names_a_map(&self, path: &str) -> bool {
        let end = path.find(['.', '[']).unwrap_or(path.len());
        self.declared_map(&path[..end]).is_some()
    }

    fn declared_map(&self, name: &str) -> Option<usize> {
        // Those that are declared come first.
        self.maps[..self.declared.len()].iter().position(|map| map.name == name)
    }

    /// Puts a value, or a part of one, into a declared map. What else a new value has is all zero.
    ///
    /// # Errors
    /// It is no map whose values user space could set so, there is no such member, or the key or the
    /// value is none of its type.
    pub(super) fn set_in_map(&mut self, path: &str, to: &str) -> Result<(), Error> {
        let wrong = |what: String| Error::Variable(format!("`{path}`: {what}"));
        let end = path.find(['.', '[']).unwrap_or(path.len());
        let (name, rest) = path.split_at(end);
        let number = self.declared_map(name).ok_or_else(|| wrong("there is no such map".into()))?;
        let map = &self.maps[number];
        if !matches!(map.map_type, MapType::ARRAY | MapType::HASH | MapType::LRU_HASH) {
            return Err(wrong("only what arrays and hashes have can be set".to_owned()));
        }
        if map.read_only {
            return Err(wrong("what a map has that programs only read cannot be set".to_owned()));
        }
        let split = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (key, mut rest) = split.ok_or_else(|| wrong("give a key: map[key]".to_owned()))?;
        let key = bytes(&self.btf, (map.key_type, map.key_size), key).map_err(wrong)?;
        let index = key.first_chunk().map(|key| u32::from_le_bytes(*key));
        if map.map_type == MapType::ARRAY && index.is_none_or(|at| at >= map.max_entries) {
            return Err(wrong(format!("it has {} values", map.max_entries)));
        }
        let (start, part) = if map.value_type == 0 {
            if !rest.is_empty() {
                return Err(wrong("its values have no type".to_owned()));
            }
            (0, bytes(&self.btf, (0, map.value_size), to).map_err(wrong)?)
        } else {
            let (store, size, ty) = (Store::Map(number), map.value_size, map.value_type);
            let mut place = Place { store, offset: 0, size, ty };
            while !rest.is_empty() {
                (place, rest) = globals::step(&self.btf, &place, rest).map_err(wrong)?;
            }
            let part = value::encode(&self.btf, place.ty, to).map_err(wrong)?;
            (place.offset as usize, part)
        };
        let map = &self.maps[number];
        let known = map.elements.iter().position(|(known, _)| *known == key);
        if known.is_none() {
            let size = (map.key_size as usize).saturating_add(map.value_size as usize);
            let all = size.saturating_mul(map.elements.len() + 1);
            Error::limit(format!("bytes of values of map {name}"), all, limits::DATA)?;
        }
        let Map { elements, value_size, .. } = &mut self.maps[number];
        let at = known.unwrap_or(elements.len());
        if known.is_none() {
            elements.push((key, vec![0; *value_size as usize]));
        }
        let room = elements[at].1.get_mut(start..start + part.len());
        room.ok_or_else(|| wrong(format!("it has {value_size} bytes")))?.copy_from_slice(&part);
        Ok(())
    }
}

/// A key or a value as bytes: by its type, or a number if it has none.
fn bytes(btf: &Btf, (ty, size): (u32, u32), text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = match ty {
        0 if size <= 8 => {
            let number: u64 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
            let number = number.to_le_bytes();
            let (bytes, rest) = number.split_at(size as usize);
            if rest.iter().any(|&byte| byte != 0) {
                return Err(format!("`{text}` has more than {size} bytes"));
            }
            bytes.to_vec()
        }
        0 => return Err("without a type it can have up to 8 bytes".to_owned()),
        ty => value::encode(btf, ty, text)?,
    };
    // A list or a text may be shorter.
    bytes.resize(size as usize, 0);
    Ok(bytes)
}
