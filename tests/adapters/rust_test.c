// SPDX-License-Identifier: MIT
/**
 * examples/adapters/heap.rs: the part of a kernel that makes the heap, and calls what is in Rust.
 */
#include "adapter_test.h"

/** rust_test.rs. 0: well; else the line that was not. */
int rust_test(struct mm_heap *heap);
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

int main(void)
{
    uint64_t before = nr_objects();

    CHECK(rust_test(test_heap()) == 0);
    CHECK(nr_objects() == before);
    CHECK(mm_heap_check(test_heap()) == MM_OK);
    return 0;
}
