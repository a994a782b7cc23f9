// SPDX-License-Identifier: MIT
//
// The kernel's side of the tests in tests/both/: the same files that the host runs, compiled for a
// kernel and run over a block of real memory.

#include <stddef.h>

#include "both.h"
#include "check.h"
#include "checks.h"
#include "panic.h"

bool both_check(const char *name, bool passed, const char *condition, const char *file, int line)
{
    return check_report(name, passed, condition, file, line);
}

void both_must(mm_status_t status, const char *call, const char *file, int line)
{
    if (status != MM_OK) {
        panic("%s: %s (%s:%d)", call, mm_status_str(status), file, line);
    }
}

static void run(struct memory *m, const char *theme, void (*test)(const struct both_world *world))
{
    struct mm_frame_request request = {.order = MM_ORDER_2M};
    uint64_t before = memory_nr_free(m);
    mm_pfn_t block;

    _Static_assert(BOTH_MEMORY == MM_SIZE_2M, "the block is the memory");
    check_theme(theme);
    must(mm_frame_alloc(&m->frames, &request, &block), "memory for a test");
    struct both_world world = {
        .physmap = m->physmap,
        .memory = mm_prange(mm_pfn_addr(block), BOTH_MEMORY),
    };
    memset(mm_physmap_ptr(&m->physmap, world.memory.start), 0xa5, BOTH_MEMORY);
    test(&world);
    mm_frame_free(&m->frames, block, MM_ORDER_2M);
    CHECK("the test took nothing else", memory_nr_free(m) == before);
}

void checks_both(struct memory *m)
{
#define BOTH_TEST(name) run(m, "as on the host: " #name, both_##name);
#include "both_list.h"
#undef BOTH_TEST
}
