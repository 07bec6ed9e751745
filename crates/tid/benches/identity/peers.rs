//! The tables that are compared, behind one trait. The value is a word, as a task's pointer.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::num::NonZeroU64;
use std::sync::RwLock;

use scx_tid::{Pinned, Table, Tid};

/// A table.
pub trait Map: Sync {
    /// What a reader holds, taken once for many lookups or for each.
    type Reader<'m>
    where
        Self: 'm;

    fn reader(&self) -> Self::Reader<'_>;
    fn get(reader: &Self::Reader<'_>, tid: u64) -> Option<u64>;
    /// With a guard or lock of its own, as forks and exits come.
    fn insert(&self, tid: u64);
    /// As [`Map::insert`].
    fn remove(&self, tid: u64);
    /// Called by each thread before it uses the table, and after.
    fn thread_begins() {}
    fn thread_ends() {}
}

fn tid(n: u64) -> Tid {
    Tid::new(n).expect("ids are from 1 up")
}

pub struct Ours(Table<NonZeroU64>);

impl Default for Ours {
    fn default() -> Self {
        Self(Table::enabled().expect("there is memory"))
    }
}

impl Map for Ours {
    type Reader<'m> = Pinned<'m, NonZeroU64>;

    #[inline]
    fn reader(&self) -> Self::Reader<'_> {
        self.0.pin()
    }
    #[inline]
    fn get(reader: &Self::Reader<'_>, n: u64) -> Option<u64> {
        reader.get(tid(n)).map(NonZeroU64::get)
    }
    fn insert(&self, n: u64) {
        let value = NonZeroU64::MIN.saturating_add(n);
        assert!(self.0.pin().insert(tid(n), value).is_ok());
    }
    fn remove(&self, n: u64) {
        assert!(self.0.pin().remove(tid(n)).is_some());
    }
}

#[derive(Default)]
pub struct Papaya<S>(papaya::HashMap<u64, u64, S>);

impl<S: BuildHasher + Sync> Map for Papaya<S> {
    type Reader<'m>
        = papaya::HashMapRef<'m, u64, u64, S, papaya::LocalGuard<'m>>
    where
        S: 'm;

    #[inline]
    fn reader(&self) -> Self::Reader<'_> {
        self.0.pin()
    }
    #[inline]
    fn get(reader: &Self::Reader<'_>, n: u64) -> Option<u64> {
        reader.get(&n).copied()
    }
    fn insert(&self, n: u64) {
        self.0.pin().insert(n, n);
    }
    fn remove(&self, n: u64) {
        assert!(self.0.pin().remove(&n).is_some());
    }
}

#[derive(Default)]
pub struct SccMap<S: BuildHasher>(scc::HashMap<u64, u64, S>);

impl<S: BuildHasher + Sync> Map for SccMap<S> {
    type Reader<'m>
        = &'m Self
    where
        S: 'm;

    #[inline]
    fn reader(&self) -> Self::Reader<'_> {
        self
    }
    #[inline]
    fn get(reader: &Self::Reader<'_>, n: u64) -> Option<u64> {
        reader.0.read_sync(&n, |_, value| *value)
    }
    fn insert(&self, n: u64) {
        assert!(self.0.insert_sync(n, n).is_ok());
    }
    fn remove(&self, n: u64) {
        assert!(self.0.remove_sync(&n).is_some());
    }
}

#[derive(Default)]
pub struct SccIndex<S: BuildHasher>(scc::HashIndex<u64, u64, S>);

impl<S: BuildHasher + Sync> Map for SccIndex<S> {
    type Reader<'m>
        = (&'m Self, scc::Guard)
    where
        S: 'm;

    #[inline]
    fn reader(&self) -> Self::Reader<'_> {
        (self, scc::Guard::new())
    }
    #[inline]
    fn get((map, guard): &Self::Reader<'_>, n: u64) -> Option<u64> {
        map.0.peek(&n, guard).copied()
    }
    fn insert(&self, n: u64) {
        assert!(self.0.insert_sync(n, n).is_ok());
    }
    fn remove(&self, n: u64) {
        assert!(self.0.remove_sync(&n));
    }
}

#[derive(Default)]
pub struct Dash<S: BuildHasher + Clone>(dashmap::DashMap<u64, u64, S>);

impl<S: BuildHasher + Clone + Send + Sync> Map for Dash<S> {
    type Reader<'m>
        = &'m Self
    where
        S: 'm;

    #[inline]
    fn reader(&self) -> Self::Reader<'_> {
        self
    }
    #[inline]
    fn get(reader: &Self::Reader<'_>, n: u64) -> Option<u64> {
        reader.0.get(&n).map(|value| *value)
    }
    fn insert(&self, n: u64) {
        self.0.insert(n, n);
    }
    fn remove(&self, n: u64) {
        assert!(self.0.remove(&n).is_some());
    }
}

#[derive(Default)]
pub struct Flurry<S>(flurry::HashMap<u64, u64, S>);

impl<S: BuildHasher + Sync> Map for Flurry<S> {
    type Reader<'m>
        = (&'m Self, flurry::Guard<'m>)
    where
        S: 'm;

    #[inline]
    fn reader(&self) -> Self::Reader<'_> {
        (self, self.0.guard())
    }
    #[inline]
    fn get((map, guard): &Self::Reader<'_>, n: u64) -> Option<u64> {
        map.0.get(&n, guard).copied()
    }
    fn insert(&self, n: u64) {
        self.0.insert(n, n, &self.0.guard());
    }
    fn remove(&self, n: u64) {
        assert!(self.0.remove(&n, &self.0.guard()).is_some());
    }
}

#[derive(Default)]
pub struct Locked<S>(RwLock<HashMap<u64, u64, S>>);

impl<S: BuildHasher + Send + Sync> Map for Locked<S> {
    type Reader<'m>
        = std::sync::RwLockReadGuard<'m, HashMap<u64, u64, S>>
    where
        S: 'm;

    #[inline]
    fn reader(&self) -> Self::Reader<'_> {
        self.0.read().expect("nobody panicked")
    }
    #[inline]
    fn get(reader: &Self::Reader<'_>, n: u64) -> Option<u64> {
        reader.get(&n).copied()
    }
    fn insert(&self, n: u64) {
        self.0.write().expect("nobody panicked").insert(n, n);
    }
    fn remove(&self, n: u64) {
        assert!(self.0.write().expect("nobody panicked").remove(&n).is_some());
    }
}
