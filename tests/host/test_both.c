// SPDX-License-Identifier: MIT
//
// The host's side of the tests in tests/both/: each file there is a test here, over memory from the C
// library. The minikernel runs the same files (examples/minikernel/checks_both.c).

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "both.h"

// Where the memory lies in physical memory is the test's to say; high enough for all zones but ISA's.
#define PHYSICAL UINT64_C(0x10000000)

bool both_check(const char *name, bool passed, const char *condition, const char *file, int line)
{
    if (!passed) {
        fail_msg("%s: %s (%s:%d)", name, condition, file, line);
    }
    return passed;
}

void both_must(mm_status_t status, const char *call, const char *file, int line)
{
    if (status != MM_OK) {
        fail_msg("%s: %s (%s:%d)", call, mm_status_str(status), file, line);
    }
}

static void run(void (*test)(const struct both_world *world))
{
    void *memory = aligned_alloc(BOTH_MEMORY, BOTH_MEMORY);

    assert_non_null(memory);
    memset(memory, 0xa5, BOTH_MEMORY);
    struct both_world world = {
        .physmap = mm_physmap_direct((uint64_t)(uintptr_t)memory - PHYSICAL),
        .memory = mm_prange(mm_paddr(PHYSICAL), BOTH_MEMORY),
    };
    test(&world);
    free(memory);
}

#define BOTH_TEST(name)                                                                            \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        run(both_##name);                                                                          \
    }
#include "both_list.h"
#undef BOTH_TEST

int main(void)
{
    const struct CMUnitTest tests[] = {
#define BOTH_TEST(name) cmocka_unit_test(test_##name),
#include "both_list.h"
#undef BOTH_TEST
    };
    return cmocka_run_group_tests_name("both", tests, NULL, NULL);
}
