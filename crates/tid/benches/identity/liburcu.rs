//! liburcu's `cds_lfht`, with its "memb" flavour of RCU. It is C, so this is the C way: the node is
//! in the caller's entry, and `call_rcu` frees that.

use std::ffi::{c_int, c_ulong, c_void};
use std::marker::PhantomData;
use std::ptr;

use crate::peers::Map;

#[repr(C)]
struct Node {
    next: *mut Node,
    reverse_hash: c_ulong,
}

#[repr(C)]
struct RcuHead {
    next: *mut c_void,
    func: Option<unsafe extern "C" fn(*mut RcuHead)>,
}

/// `struct cds_lfht_iter`, with room for the debug build's field.
#[repr(C)]
struct Iter {
    node: *mut Node,
    next: *mut Node,
    debug: *mut c_void,
}

#[repr(C)]
struct Entry {
    // First, so that its address is the entry's.
    head: RcuHead,
    node: Node,
    tid: u64,
    value: u64,
}

#[repr(C)]
struct Flavor {
    _opaque: [u8; 0],
}

type Match = unsafe extern "C" fn(*mut Node, *const c_void) -> c_int;

#[link(name = "urcu-cds")]
unsafe extern "C" {
    fn _cds_lfht_new(
        init_size: c_ulong,
        min_nr_alloc_buckets: c_ulong,
        max_nr_buckets: c_ulong,
        flags: c_int,
        mm: *const c_void,
        flavor: *const Flavor,
        attr: *mut c_void,
    ) -> *mut c_void;
    fn cds_lfht_lookup(
        ht: *mut c_void,
        hash: c_ulong,
        matches: Match,
        key: *const c_void,
        iter: *mut Iter,
    );
    fn cds_lfht_add_unique(
        ht: *mut c_void,
        hash: c_ulong,
        matches: Match,
        key: *const c_void,
        node: *mut Node,
    ) -> *mut Node;
    fn cds_lfht_del(ht: *mut c_void, node: *mut Node) -> c_int;
}

#[link(name = "urcu-memb")]
unsafe extern "C" {
    static urcu_memb_flavor: Flavor;
    fn urcu_memb_register_thread();
    fn urcu_memb_unregister_thread();
    fn urcu_memb_read_lock();
    fn urcu_memb_read_unlock();
    fn urcu_memb_call_rcu(head: *mut RcuHead, func: unsafe extern "C" fn(*mut RcuHead));
}

const AUTO_RESIZE: c_int = 1;

/// The table. It is not destroyed: that must not happen while `call_rcu` has work for it.
pub struct Lfht(*mut c_void);

// SAFETY: the library's table is for any number of threads.
unsafe impl Sync for Lfht {}
// SAFETY: as above.
unsafe impl Send for Lfht {}

/// A read section.
pub struct Section<'m>(&'m Lfht, PhantomData<*mut ()>);

impl Drop for Section<'_> {
    fn drop(&mut self) {
        // SAFETY: this thread has locked it.
        unsafe { urcu_memb_read_unlock() }
    }
}

impl Default for Lfht {
    fn default() -> Self {
        // SAFETY: as the manual says, with automatic sizes.
        Self(unsafe {
            _cds_lfht_new(
                64,
                64,
                0,
                AUTO_RESIZE,
                ptr::null(),
                &raw const urcu_memb_flavor,
                ptr::null_mut(),
            )
        })
    }
}

unsafe extern "C" fn matches(node: *mut Node, key: *const c_void) -> c_int {
    // SAFETY: every node of the table is in an entry, and the key is a number.
    unsafe { c_int::from((*entry(node)).tid == *key.cast::<u64>()) }
}

unsafe extern "C" fn free(head: *mut RcuHead) {
    // SAFETY: `head` is an entry's first field, and the entry was a Box.
    drop(unsafe { Box::from_raw(head.cast::<Entry>()) });
}

fn entry(node: *mut Node) -> *mut Entry {
    node.wrapping_byte_sub(std::mem::offset_of!(Entry, node)).cast()
}

fn hash(tid: u64) -> c_ulong {
    // The table wants good low bits.
    let product = tid.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ product >> 32
}

impl Lfht {
    fn find(&self, tid: u64) -> *mut Node {
        let mut iter =
            Iter { node: ptr::null_mut(), next: ptr::null_mut(), debug: ptr::null_mut() };
        // SAFETY: the caller is in a read section.
        unsafe { cds_lfht_lookup(self.0, hash(tid), matches, (&raw const tid).cast(), &mut iter) };
        iter.node
    }
}

impl Map for Lfht {
    type Reader<'m> = Section<'m>;

    fn reader(&self) -> Section<'_> {
        // SAFETY: the thread is registered.
        unsafe { urcu_memb_read_lock() };
        Section(self, PhantomData)
    }
    fn get(reader: &Section<'_>, tid: u64) -> Option<u64> {
        let node = reader.0.find(tid);
        // SAFETY: found in this section.
        (!node.is_null()).then(|| unsafe { (*entry(node)).value })
    }
    fn insert(&self, tid: u64) {
        let node = Node { next: ptr::null_mut(), reverse_hash: 0 };
        let head = RcuHead { next: ptr::null_mut(), func: None };
        let new = Box::into_raw(Box::new(Entry { head, node, tid, value: tid }));
        let _section = self.reader();
        // SAFETY: in a section, with a node that is in no table.
        let got = unsafe {
            let node = &raw mut (*new).node;
            cds_lfht_add_unique(self.0, hash(tid), matches, (&raw const tid).cast(), node) == node
        };
        assert!(got);
    }
    fn remove(&self, tid: u64) {
        let _section = self.reader();
        let node = self.find(tid);
        assert!(!node.is_null());
        // SAFETY: found in this section; who deletes it frees it, after a grace period.
        unsafe {
            assert_eq!(cds_lfht_del(self.0, node), 0);
            urcu_memb_call_rcu(entry(node).cast(), free);
        }
    }
    fn thread_begins() {
        // SAFETY: once for each thread.
        unsafe { urcu_memb_register_thread() }
    }
    fn thread_ends() {
        // SAFETY: it was registered, and is in no section.
        unsafe { urcu_memb_unregister_thread() }
    }
}
