// SPDX-License-Identifier: MIT
/**
 * examples/adapters/heap.rs: the part of a kernel that makes the heap, and calls what is in Rust.
 */
#include "adapter_test.h"

/** rust_test.rs. 0: well; else the line that was not. */
int rust_test(struct mm_heap *heap);
int rust_callers(struct mm_heap *heap, uint64_t (*only)(const void *));
_Noreturn void rust_panic(unsigned line);

_Noreturn void rust_panic(unsigned line)
{
    char said[] = "rust_test.rs: panic in line 00000\n";

    for (size_t at = sizeof(said) - 3; line != 0; at--, line /= 10) {
        said[at] = (char)('0' + line % 10);
    }
    _exit(write(STDERR_FILENO, said, sizeof(said) - 1) < 0 ? 2 : 1);
}

/** The `alloc` of the host's toolchain names it; a panic that ends the process never calls it. */
void rust_eh_personality(void);

void rust_eh_personality(void)
{
    CHECK(false);
}

static struct mm_heap *recording;

static uint64_t only(const void *object)
{
    CHECK(mm_heap_usable_size(recording, object) != 0);
    return only_caller(recording);
}

/* What rust_test.rs says to be the caller, it is. */
static void test_callers(void)
{
    static struct told told;
    const uint64_t who = UINT64_C(0x7edcba987654);

    recording = recording_heap(&told);
    CHECK(rust_callers(recording, only) == 0);
    CHECK(told.nr == 1 && told.kind == MM_HEAP_DOUBLE_FREE);
    CHECK(told.allocated_by == who && told.freed_by == who);
    CHECK(told.caller == who);
    CHECK(mm_heap_check(recording) == MM_OK && mm_heap_destroy(recording) == MM_OK);
}

int main(void)
{
    uint64_t before = nr_objects();

    CHECK(rust_test(test_heap()) == 0);
    CHECK(nr_objects() == before);
    CHECK(mm_heap_check(test_heap()) == MM_OK);
    test_callers();
    return 0;
}
