// SPDX-License-Identifier: MIT
//
//! Rust: a heap of the library as the global allocator, for `core` and `alloc` without `std`.
//!
//! Add this file to the crate (edition 2021 or older), link libmm.a, and tell it the heap once that
//! is made:
//!
//!     mod heap;
//!     #[global_allocator]
//!     static HEAP: heap::Heap = heap::Heap::new();
//!
//!     extern "C" {
//!         static mut my_heap: [u8; 0]; // in C: `struct mm_heap my_heap`, which lives for ever
//!     }
//!
//!     unsafe { HEAP.set(core::ptr::addr_of_mut!(my_heap).cast()) };
//!     HEAP.on_out_of_memory(give_back); // optional: `fn give_back(layout: Layout) -> bool`
//!     HEAP.on_caller(who); // optional: `fn who() -> *const c_void`
//!
//! Until then every allocation fails. Out of memory: `give_back` is told the layout; true says that it
//! has given something back, and it is tried again. Otherwise the answer is null: `try_reserve`
//! returns an error, and what cannot fail calls the panic handler by way of `handle_alloc_error`.
//!
//! `who` says on whose behalf a call is made, as a return address: reports and statistics of the heap
//! name that. Between the crate's own code and this file lie functions of `alloc`, so that a walk along
//! the frame pointers (`-C force-frame-pointers`) finds it. Without it they name this file.
//!
//! Every layout that comes back is checked: a wrong size or alignment is a panic of the library.

use core::alloc::{GlobalAlloc, Layout};
use core::ffi::c_void;
use core::ptr::{null, null_mut};
use core::sync::atomic::{AtomicPtr, Ordering};

const ZEROED: u32 = 1 << 1; // MM_HEAP_ZEROED

extern "C" {
    fn mm_heap_alloc_from(heap: *mut c_void, size: usize, align: usize, flags: u32, caller: *const c_void) -> *mut u8;
    fn mm_heap_realloc_from(heap: *mut c_void, object: *mut u8, size: usize, caller: *const c_void) -> *mut u8;
    fn mm_heap_free_sized_from(heap: *mut c_void, object: *mut u8, size: usize, align: usize, caller: *const c_void);
}

pub type OutOfMemory = fn(Layout) -> bool;
pub type Caller = fn() -> *const c_void;

pub struct Heap {
    heap: AtomicPtr<c_void>,
    handler: AtomicPtr<()>,
    caller: AtomicPtr<()>,
}

impl Heap {
    pub const fn new() -> Self {
        Heap {
            heap: AtomicPtr::new(null_mut()),
            handler: AtomicPtr::new(null_mut()),
            caller: AtomicPtr::new(null_mut()),
        }
    }

    /// # Safety
    /// `heap` is an initialised `struct mm_heap` and stays one.
    pub unsafe fn set(&self, heap: *mut c_void) {
        self.heap.store(heap, Ordering::Release);
    }

    pub fn on_out_of_memory(&self, handler: OutOfMemory) {
        self.handler.store(handler as *mut (), Ordering::Release);
    }

    pub fn on_caller(&self, caller: Caller) {
        self.caller.store(caller as *mut (), Ordering::Release);
    }

    fn caller(&self) -> *const c_void {
        let caller = self.caller.load(Ordering::Acquire);
        if caller.is_null() {
            return null();
        }
        // SAFETY: on_caller() put it there, and nobody else.
        unsafe { core::mem::transmute::<*mut (), Caller>(caller)() }
    }

    fn heap(&self) -> *mut c_void {
        self.heap.load(Ordering::Acquire)
    }

    fn retry(&self, layout: Layout, attempt: impl Fn() -> *mut u8) -> *mut u8 {
        loop {
            let object = attempt();
            let handler = self.handler.load(Ordering::Acquire);
            if !object.is_null() || handler.is_null() {
                return object;
            }
            // SAFETY: on_out_of_memory() put it there, and nobody else.
            if !unsafe { core::mem::transmute::<*mut (), OutOfMemory>(handler) }(layout) {
                return null_mut();
            }
        }
    }
}

// SAFETY: the heap may be called on any CPU and in any context, and answers null where it cannot.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.retry(layout, || unsafe {
            mm_heap_alloc_from(self.heap(), layout.size(), layout.align(), 0, self.caller())
        })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.retry(layout, || unsafe {
            mm_heap_alloc_from(self.heap(), layout.size(), layout.align(), ZEROED, self.caller())
        })
    }

    /// The alignment stays: the heap never loses it.
    unsafe fn realloc(&self, object: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.retry(layout, || unsafe {
            mm_heap_realloc_from(self.heap(), object, size, self.caller())
        })
    }

    unsafe fn dealloc(&self, object: *mut u8, layout: Layout) {
        unsafe { mm_heap_free_sized_from(self.heap(), object, layout.size(), layout.align(), self.caller()) }
    }
}
