// SPDX-License-Identifier: MIT
//
//! examples/adapters/heap.rs under the collections of `alloc`, in a crate without `std`.

#![no_std]

extern crate alloc;

#[path = "../../examples/adapters/heap.rs"]
mod heap;

use alloc::alloc::{alloc_zeroed, dealloc, realloc};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::ffi::c_void;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

#[global_allocator]
static HEAP: heap::Heap = heap::Heap::new();

static NR_ASKED: AtomicUsize = AtomicUsize::new(0);
static HOARD: AtomicUsize = AtomicUsize::new(0);

const HOARD_LAYOUT: Layout = match Layout::from_size_align(10 << 20, 16) {
    Ok(layout) => layout,
    Err(_) => panic!(),
};

extern "C" {
    fn rust_panic(line: u32) -> !;
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    // SAFETY: it ends the process.
    unsafe { rust_panic(info.location().map_or(0, |location| location.line())) }
}

#[repr(align(512))]
struct Aligned([u8; 700]);

fn collections() {
    let mut map = BTreeMap::new();
    let mut text = String::new();
    for i in 0..3000u32 {
        map.insert(i * 7919 % 3001, format!("row {i}"));
        text.push_str(&map[&(i * 7919 % 3001)]);
    }
    assert_eq!(map.len(), 3000);
    assert_eq!(text.len(), 10 * 5 + 90 * 6 + 900 * 7 + 2000 * 8);
    map.retain(|key, _| key % 3 == 0);
    let boxes: Vec<Box<Aligned>> = (0..200).map(|i| Box::new(Aligned([i as u8; 700]))).collect();
    assert!(boxes.iter().all(|b| &**b as *const Aligned as usize % 512 == 0));
    assert!(boxes.iter().enumerate().all(|(i, b)| b.0[699] == i as u8));
    let shared: Vec<Arc<[u64]>> = (1..100).map(|i| alloc::vec![i as u64; i].into()).collect();
    assert_eq!(shared.iter().map(|s| s.iter().sum::<u64>()).sum::<u64>(), 328350);
}

/// Any size to any other, at any alignment, and the size that it has then is accepted.
fn resizing() {
    for order in 0..14 {
        let align = 1usize << order;
        for from in [1usize, 16, 100, 512, 3000, 8192, 8193, 70000] {
            for to in [1usize, 17, 64, 1000, 4096, 5000, 8192, 20000, 200000] {
                let layout = Layout::from_size_align(from, align).unwrap();
                // SAFETY: what is freed is what was allocated, with the layout that it has.
                unsafe {
                    let object = alloc_zeroed(layout);
                    assert!(!object.is_null() && object as usize % align == 0);
                    assert!((0..from).all(|i| *object.add(i) == 0));
                    *object = 7;
                    let object = realloc(object, layout, to);
                    assert!(!object.is_null() && object as usize % align == 0 && *object == 7);
                    dealloc(object, Layout::from_size_align(to, align).unwrap());
                }
            }
        }
    }
}

fn give_back(_: Layout) -> bool {
    NR_ASKED.fetch_add(1, Ordering::Relaxed);
    let hoard = HOARD.swap(0, Ordering::Relaxed) as *mut u8;
    if !hoard.is_null() {
        // SAFETY: out_of_memory() allocated it so.
        unsafe { dealloc(hoard, HOARD_LAYOUT) };
    }
    !hoard.is_null()
}

fn out_of_memory() {
    // SAFETY: the layout has a size.
    HOARD.store(unsafe { alloc_zeroed(HOARD_LAYOUT) } as usize, Ordering::Relaxed);
    let mut much: Vec<u8> = Vec::new();
    assert!(much.try_reserve_exact(10 << 20).is_err());
    HEAP.on_out_of_memory(give_back);
    assert!(much.try_reserve_exact(10 << 20).is_ok());
    assert_eq!(NR_ASKED.load(Ordering::Relaxed), 1);
    assert!(much.try_reserve_exact(1 << 30).is_err());
    assert_eq!(NR_ASKED.load(Ordering::Relaxed), 2);
}

const WHO: usize = 0x7edc_ba98_7654;

fn who() -> *const c_void {
    WHO as *const c_void
}

/// The heap names who is said to call. `only_caller` is told the object, so that it is there.
///
/// # Safety
/// `heap` is an initialised heap, which records callers.
#[no_mangle]
pub unsafe extern "C" fn rust_callers(heap: *mut c_void, only_caller: extern "C" fn(*const c_void) -> u64) -> i32 {
    unsafe { HEAP.set(heap) };
    let unsaid: Box<u32> = Box::new(5);
    assert_ne!(only_caller((&*unsaid as *const u32).cast()), 0);
    drop(unsaid);
    HEAP.on_caller(who);
    let mut grown: Vec<u64> = Vec::with_capacity(3);
    assert_eq!(only_caller(grown.as_ptr().cast()), WHO as u64);
    grown.resize(5000, 1);
    assert_eq!(only_caller(grown.as_ptr().cast()), WHO as u64);
    let layout = Layout::from_size_align(100, 64).unwrap();
    drop(grown);
    // SAFETY: what is freed is what was allocated; and once more, which the heap hears.
    unsafe {
        let object = alloc_zeroed(layout);
        assert_eq!(only_caller(object.cast()), WHO as u64);
        dealloc(object, layout);
        dealloc(object, layout);
    }
    0
}

/// # Safety
/// `heap` is an initialised heap.
#[no_mangle]
pub unsafe extern "C" fn rust_test(heap: *mut c_void) -> i32 {
    let mut early: Vec<u8> = Vec::new();
    if early.try_reserve(1).is_ok() {
        return 1; // there is no heap yet
    }
    unsafe { HEAP.set(heap) };
    collections();
    resizing();
    out_of_memory();
    0
}
