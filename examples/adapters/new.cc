// SPDX-License-Identifier: MIT
//
// C++: every operator new and delete over a heap of the library, for C++17 and later.
//
// Add this file to the kernel, and tell it the heap once that is made, before the constructors of
// static objects run if those allocate:
//
//     new_heap = &my_heap;
//
// Out of memory: the handler of std::set_new_handler() is called until it has given something back.
// Without a handler std::bad_alloc is thrown; a kernel that is built with -fno-exceptions ends
// there (an illegal instruction), but for the forms with std::nothrow, which answer nullptr.
// std::get_new_handler() is libsupc++'s; a kernel that does not link that defines it.
//
// Sized and aligned delete check what they are told: a wrong size or alignment is a panic. (clang
// before 19 calls them only with -fsized-deallocation.)
#include <mm/heap.h>

#include <new>

mm_heap *new_heap;

namespace
{

// align 0: as the size alone wants it.
void *try_allocate(std::size_t size, std::size_t align)
{
    for (;;) {
        void *object = mm_heap_alloc_with(new_heap, size, align, 0);
        std::new_handler handler = object == nullptr ? std::get_new_handler() : nullptr;

        if (handler == nullptr) {
            return object;
        }
        handler();
    }
}

void *allocate(std::size_t size, std::size_t align)
{
    void *object = try_allocate(size, align);

    if (object == nullptr) {
#ifdef __cpp_exceptions
        throw std::bad_alloc();
#else
        __builtin_trap();
#endif
    }
    return object;
}

#ifdef __cpp_exceptions
void *allocate_nothrow(std::size_t size, std::size_t align) noexcept
{
    try {
        return try_allocate(size, align);
    } catch (const std::bad_alloc &) { // by the handler
        return nullptr;
    }
}
#else
void *allocate_nothrow(std::size_t size, std::size_t align) noexcept
{
    return try_allocate(size, align);
}
#endif

using size = std::size_t;
using align = std::align_val_t;
using nothrow = const std::nothrow_t &;

} // namespace

// Objects and arrays alike; a line a form.
// clang-format off
#define OPERATORS(ARRAY)                                                                           \
    void *operator new ARRAY(size n) { return allocate(n, 0); }                                    \
    void *operator new ARRAY(size n, align a) { return allocate(n, size(a)); }                     \
    void *operator new ARRAY(size n, nothrow) noexcept { return allocate_nothrow(n, 0); }          \
    void *operator new ARRAY(size n, align a, nothrow) noexcept                                    \
    { return allocate_nothrow(n, size(a)); }                                                       \
    void operator delete ARRAY(void *p) noexcept { mm_heap_free(new_heap, p); }                    \
    void operator delete ARRAY(void *p, align) noexcept { mm_heap_free(new_heap, p); }             \
    void operator delete ARRAY(void *p, nothrow) noexcept { mm_heap_free(new_heap, p); }           \
    void operator delete ARRAY(void *p, align, nothrow) noexcept { mm_heap_free(new_heap, p); }    \
    void operator delete ARRAY(void *p, size n) noexcept                                           \
    { mm_heap_free_sized(new_heap, p, n, 0); }                                                     \
    void operator delete ARRAY(void *p, size n, align a) noexcept                                  \
    { mm_heap_free_sized(new_heap, p, n, size(a)); }
// clang-format on

OPERATORS()
OPERATORS([])
