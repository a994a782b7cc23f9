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
// Reports and statistics name who called the operator. Sized and aligned delete check what they are
// told if they are told a size: a wrong size, or alignment beside it, is a panic. (clang before 19 calls them only with
// -fsized-deallocation.)
#include <mm/heap.h>

#include <new>

mm_heap *new_heap;

namespace
{

// align 0: as the size alone wants it.
void *try_allocate(std::size_t size, std::size_t align, const void *caller)
{
    for (;;) {
        void *object = mm_heap_alloc_from(new_heap, size, align, 0, caller);
        std::new_handler handler = object == nullptr ? std::get_new_handler() : nullptr;

        if (handler == nullptr) {
            return object;
        }
        handler();
    }
}

void *allocate(std::size_t size, std::size_t align, const void *caller)
{
    void *object = try_allocate(size, align, caller);

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
void *allocate_nothrow(std::size_t size, std::size_t align, const void *caller) noexcept
{
    try {
        return try_allocate(size, align, caller);
    } catch (const std::bad_alloc &) { // by the handler
        return nullptr;
    }
}
#else
void *allocate_nothrow(std::size_t size, std::size_t align, const void *caller) noexcept
{
    return try_allocate(size, align, caller);
}
#endif

using size = std::size_t;
using align = std::align_val_t;
using nothrow = const std::nothrow_t &;

} // namespace

// Objects and arrays alike; a line a form.
// clang-format off
#define CALLER __builtin_return_address(0)
#define NEW(ARRAY, HOW, ALLOCATE, ALIGN)                                                           \
    void *operator new ARRAY HOW { return ALLOCATE(n, ALIGN, CALLER); }
#define DELETE(ARRAY, HOW)                                                                         \
    void operator delete ARRAY HOW noexcept { mm_heap_free_from(new_heap, p, CALLER); }
#define DELETE_SIZED(ARRAY, HOW, ALIGN)                                                            \
    void operator delete ARRAY HOW noexcept                                                        \
    { mm_heap_free_sized_from(new_heap, p, n, ALIGN, CALLER); }
#define OPERATORS(ARRAY)                                                                           \
    NEW(ARRAY, (size n), allocate, 0)                                                              \
    NEW(ARRAY, (size n, align a), allocate, size(a))                                               \
    NEW(ARRAY, (size n, nothrow) noexcept, allocate_nothrow, 0)                                    \
    NEW(ARRAY, (size n, align a, nothrow) noexcept, allocate_nothrow, size(a))                     \
    DELETE(ARRAY, (void *p))                                                                       \
    DELETE(ARRAY, (void *p, align))                                                                \
    DELETE(ARRAY, (void *p, nothrow))                                                              \
    DELETE(ARRAY, (void *p, align, nothrow))                                                       \
    DELETE_SIZED(ARRAY, (void *p, size n), 0)                                                      \
    DELETE_SIZED(ARRAY, (void *p, size n, align a), size(a))
// clang-format on

OPERATORS()
OPERATORS([])
