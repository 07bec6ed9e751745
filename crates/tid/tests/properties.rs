//! The table against a `BTreeMap`, and what must hold of every id.
#![cfg(not(loom))]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use scx_tid::{Allocator, CHUNK, Cursor, Exhausted, InsertError, Table, Tid};

#[derive(Clone, Debug)]
enum Op {
    Insert(Tid, u32),
    Remove(Tid),
    Get(Tid),
    /// Takes out all ids but those that are multiples of this.
    Thin(u64),
    Clear,
    /// Inserts so many ids in order, as a CPU that forks.
    Run(Tid, u64),
}

/// Few enough ids that they meet again, with the edges of pages and of the numbers among them.
fn tids() -> impl Strategy<Value = Tid> {
    prop_oneof![
        8 => 1..300u64,
        4 => (0..200u64).prop_map(|chunk| chunk * CHUNK + 1),
        1 => u64::MAX - 100..=u64::MAX,
        1 => (0..64u32).prop_map(|bit| 1 << bit),
    ]
    .prop_map(|n| Tid::new(n).unwrap())
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        60 => (tids(), any::<u32>()).prop_map(|(tid, value)| Op::Insert(tid, value)),
        20 => tids().prop_map(Op::Remove),
        20 => tids().prop_map(Op::Get),
        1 => (2..50u64).prop_map(Op::Thin),
        1 => Just(Op::Clear),
        6 => (tids(), 1..3000u64).prop_map(|(tid, n)| Op::Run(tid, n)),
    ]
}

fn same(table: &Table<u32>, model: &BTreeMap<Tid, u32>) -> Result<(), TestCaseError> {
    let table = table.pin();
    prop_assert_eq!(table.len(), model.len());
    prop_assert_eq!(table.is_empty(), model.is_empty());
    prop_assert!(table.iter().eq(model.iter().map(|(tid, value)| (*tid, *value))));
    Ok(())
}

proptest! {
    #[test]
    fn the_table_is_a_map(ops in prop::collection::vec(ops(), 0..400)) {
        let table = Table::enabled().unwrap();
        let mut model = BTreeMap::new();
        for op in ops {
            let pinned = table.pin();
            match op {
                Op::Insert(tid, value) => match pinned.insert(tid, value) {
                    Ok(()) => prop_assert_eq!(model.insert(tid, value), None),
                    Err(InsertError::Duplicate { tid: t, value: v }) => {
                        prop_assert_eq!((t, v), (tid, value));
                        prop_assert!(model.contains_key(&tid));
                    }
                    Err(error) => return Err(TestCaseError::fail(error.to_string())),
                },
                Op::Remove(tid) => prop_assert_eq!(pinned.remove(tid), model.remove(&tid)),
                Op::Get(tid) => prop_assert_eq!(pinned.get(tid), model.get(&tid).copied()),
                Op::Thin(n) => {
                    let gone: Vec<Tid> =
                        model.keys().copied().filter(|tid| tid.get() % n != 0).collect();
                    for tid in gone {
                        prop_assert_eq!(pinned.remove(tid), model.remove(&tid));
                    }
                    same(&table, &model)?;
                }
                Op::Run(first, n) => {
                    for tid in (0..n).map_while(|i| first.get().checked_add(i)) {
                        let tid = Tid::new(tid).unwrap();
                        let fresh = pinned.insert(tid, n as u32).is_ok();
                        prop_assert_eq!(fresh, !model.contains_key(&tid));
                        model.entry(tid).or_insert(n as u32);
                    }
                }
                Op::Clear => {
                    table.disable();
                    prop_assert_eq!(pinned.len(), 0);
                    prop_assert!(pinned.insert(Tid::new(1).unwrap(), 1).is_err());
                    table.enable().unwrap();
                    model.clear();
                }
            }
        }
        same(&table, &model)?;
        same(&table.clone(), &model)?;
        for (tid, value) in &model {
            prop_assert_eq!(table.pin().get(*tid), Some(*value));
        }
    }

    /// CPUs fork in any order: all ids differ, a CPU's are consecutive within a chunk and ascend,
    /// and the cursor moves by a chunk each time that a CPU without ids is asked for one.
    #[test]
    fn ids_are_unique_and_consecutive(
        bursts in prop::collection::vec((0..6usize, 1..600u64), 1..60),
    ) {
        let cursor = Cursor::new();
        let mut cpus = vec![Allocator::new(); 6];
        let mut last = [None; 6];
        let mut seen = BTreeSet::new();
        for (cpu, burst) in bursts {
            for _ in 0..burst {
                let (left, position) = (cpus[cpu].remaining(), cursor.position());
                let tid = cpus[cpu].alloc(&cursor).unwrap().get();
                prop_assert!(seen.insert(tid));
                if left == 0 {
                    prop_assert_eq!(tid, position);
                    prop_assert_eq!(tid % CHUNK, 1);
                    prop_assert_eq!(cursor.position(), position + CHUNK);
                    prop_assert!(last[cpu].is_none_or(|before| tid > before));
                } else {
                    prop_assert_eq!(Some(tid - 1), last[cpu]);
                    prop_assert_eq!(cursor.position(), position);
                }
                last[cpu] = Some(tid);
            }
        }
        prop_assert_eq!(seen.first(), Some(&1));
        prop_assert!(seen.last() < Some(&cursor.position()));
    }

    /// Wherever the cursor starts near the top, whole chunks come out and then errors for ever.
    #[test]
    fn the_top_is_final(distance in 0..5 * CHUNK, cpus in 1..4usize) {
        let cursor = Cursor::starting_at(u64::MAX - distance);
        let mut cpus = vec![Allocator::new(); cpus];
        let mut seen = BTreeSet::new();
        let mut failed = 0;
        while failed < 20 {
            failed += 1;
            for cpu in &mut cpus {
                match cpu.alloc(&cursor) {
                    Ok(tid) => {
                        prop_assert!(tid.get() >= u64::MAX - distance);
                        prop_assert!(seen.insert(tid));
                        failed = 0;
                    }
                    Err(Exhausted) => prop_assert_eq!(cpu.remaining(), 0),
                }
            }
        }
        prop_assert_eq!(seen.len() as u64, distance / CHUNK * CHUNK);
    }
}
