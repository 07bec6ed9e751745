//! Maps against the collections of the standard library.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

/// What a test does to a map with small keys and values.
#[derive(Clone, Debug)]
enum Step {
    Update(u8, u32, u64),
    Lookup(u8),
    Delete(u8),
    Quiesce,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..12_u8, any::<u32>(), 0..4_u64).prop_map(|(k, v, f)| Step::Update(k, v, f)),
        (0..12_u8).prop_map(Step::Lookup),
        (0..12_u8).prop_map(Step::Delete),
        Just(Step::Quiesce),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn a_hash_is_a_map(steps in steps()) {
        let mut lab = lab(def(MapType::HASH, 1, 4, 6));
        let mut model = BTreeMap::new();
        for step in steps {
            match step {
                Step::Update(key, value, flags) => {
                    let is_there = model.contains_key(&key);
                    let expected = match flags {
                        3.. => errno(EINVAL),
                        NOEXIST if is_there => errno(EEXIST),
                        EXIST if !is_there => errno(ENOENT),
                        _ if !is_there && model.len() == 6 => errno(E2BIG),
                        _ => Ok(()),
                    };
                    prop_assert_eq!(lab.update(CPU0, &[key], &value.to_le_bytes(), flags), expected);
                    if expected.is_ok() {
                        model.insert(key, value);
                    }
                }
                Step::Lookup(key) => {
                    let value = model.get(&key).map(|value| value.to_le_bytes().to_vec());
                    prop_assert_eq!(lab.get(CPU3, &[key]), value);
                }
                Step::Delete(key) => {
                    let gone = model.remove(&key).map_or(errno(ENOENT), |_| Ok(()));
                    prop_assert_eq!(lab.delete(&[key]), gone);
                }
                Step::Quiesce => lab.maps.quiesce(&mut lab.memory),
            }
            let keys: Vec<_> = model.keys().map(|key| vec![*key]).collect();
            prop_assert_eq!(lab.keys(), keys);
        }
        // Nothing is left behind.
        let empty = super::lab(def(MapType::HASH, 1, 4, 6)).memory.used();
        for key in model.keys() {
            lab.delete(&[*key]).expect("it is there");
        }
        lab.maps.quiesce(&mut lab.memory);
        prop_assert_eq!(lab.memory.used(), empty);
    }

    #[test]
    fn an_lru_hash_forgets_in_the_order_of_use(steps in steps()) {
        let mut lab = lab(def(MapType::LRU_HASH, 1, 4, 4));
        // Oldest first.
        let mut model: Vec<(u8, u32)> = Vec::new();
        for step in steps {
            match step {
                Step::Update(key, value, flags) => {
                    let at = model.iter().position(|(known, _)| *known == key);
                    let expected = match flags {
                        3.. => errno(EINVAL),
                        NOEXIST if at.is_some() => errno(EEXIST),
                        EXIST if at.is_none() => errno(ENOENT),
                        _ => Ok(()),
                    };
                    prop_assert_eq!(lab.update(CPU0, &[key], &value.to_le_bytes(), flags), expected);
                    if expected.is_ok() {
                        match at {
                            Some(at) => drop(model.remove(at)),
                            None if model.len() == 4 => drop(model.remove(0)),
                            None => {}
                        }
                        model.push((key, value));
                    }
                }
                Step::Lookup(key) => {
                    let at = model.iter().position(|(known, _)| *known == key);
                    let value = at.map(|at| model[at].1.to_le_bytes().to_vec());
                    prop_assert_eq!(lab.get(CPU0, &[key]), value);
                    if let Some(at) = at {
                        let used = model.remove(at);
                        model.push(used);
                    }
                }
                Step::Delete(key) => {
                    let at = model.iter().position(|(known, _)| *known == key);
                    let gone = at.map_or(errno(ENOENT), |at| { model.remove(at); Ok(()) });
                    prop_assert_eq!(lab.delete(&[key]), gone);
                }
                Step::Quiesce => lab.maps.quiesce(&mut lab.memory),
            }
            let mut keys: Vec<_> = model.iter().map(|(key, _)| vec![*key]).collect();
            keys.sort();
            prop_assert_eq!(lab.keys(), keys);
        }
    }

    #[test]
    fn a_queue_is_a_deque(stack: bool, steps in prop::collection::vec((0..5_u8, any::<u16>()), 0..300)) {
        let map_type = if stack { MapType::STACK } else { MapType::QUEUE };
        let mut lab = lab(def(map_type, 0, 2, 5));
        let mut model: VecDeque<u16> = VecDeque::new();
        for (what, value) in steps {
            let full = model.len() == 5;
            match what {
                0 => {
                    let expected = if full { errno(E2BIG) } else { Ok(()) };
                    prop_assert_eq!(lab.push(&value.to_le_bytes(), 0), expected);
                    if !full {
                        model.push_back(value);
                    }
                }
                1 => {
                    prop_assert_eq!(lab.push(&value.to_le_bytes(), EXIST), Ok(()));
                    if full {
                        model.pop_front();
                    }
                    model.push_back(value);
                }
                _ => {
                    let next = if stack { model.back() } else { model.front() };
                    let next = next.map_or(errno(ENOENT), |next| Ok(next.to_le_bytes().to_vec()));
                    prop_assert_eq!(lab.take(what == 2), next);
                    if what == 2 {
                        if stack { model.pop_back() } else { model.pop_front() };
                    }
                }
            }
        }
    }
}
