// SPDX-License-Identifier: MIT
//
// Numbers, ranges and names: inline functions, compiled here with the flags of each world.

#include "both.h"

#include <mm/addr.h>

static bool sums(void)
{
    uint64_t out = 7;

    return !mm_add(UINT64_MAX, 1, &out) && out == 7 && mm_add(UINT64_MAX, 0, &out) &&
           out == UINT64_MAX && !mm_sub(0, 1, &out) && out == UINT64_MAX && mm_sub(5, 5, &out) &&
           out == 0;
}

static bool products(void)
{
    uint64_t out = 7;

    return !mm_mul(UINT64_C(1) << 32, UINT64_C(1) << 32, &out) && out == 7 &&
           mm_mul(UINT64_C(1) << 32, (UINT64_C(1) << 32) - 1, &out) &&
           out == UINT64_MAX - (UINT64_C(1) << 32) + 1;
}

static bool alignment(void)
{
    uint64_t out = 7;

    return mm_align_up(1, MM_PAGE_SIZE, &out) && out == MM_PAGE_SIZE &&
           mm_align_up(MM_PAGE_SIZE, MM_PAGE_SIZE, &out) && out == MM_PAGE_SIZE &&
           !mm_align_up(UINT64_MAX - 4094, MM_PAGE_SIZE, &out) && out == MM_PAGE_SIZE &&
           mm_align_up(UINT64_MAX - 4095, MM_PAGE_SIZE, &out) && out == UINT64_MAX - 4095 &&
           mm_align_down(UINT64_MAX, MM_SIZE_1G) == 0 - MM_SIZE_1G && !mm_is_pow2(0) &&
           mm_is_pow2(UINT64_C(1) << 63) && !mm_is_pow2(3);
}

// The range that ends at 2^64 is one as any other.
static bool last_range(void)
{
    struct mm_vrange top = mm_vrange(mm_vaddr(0 - MM_SIZE_2M), MM_SIZE_2M);
    struct mm_vrange page = mm_vrange(mm_vaddr(0 - MM_PAGE_SIZE), MM_PAGE_SIZE);

    return mm_vrange_valid(top) && !mm_vrange_valid(mm_vrange(top.start, MM_SIZE_2M + 1)) &&
           mm_vrange_last(top).raw == UINT64_MAX && mm_vrange_contains(top, mm_vaddr(UINT64_MAX)) &&
           !mm_vrange_contains(top, mm_vaddr(0)) && mm_vrange_covers(top, page) &&
           !mm_vrange_covers(page, top) && mm_vrange_overlaps(page, top) &&
           !mm_vrange_overlaps(page, mm_vrange(mm_vaddr(0), 0 - MM_PAGE_SIZE)) &&
           !mm_vrange_overlaps(top, mm_vrange(page.start, 0));
}

static bool canonical(void)
{
    const uint64_t low = (UINT64_C(1) << 47) - 1;
    const uint64_t high = 0 - (UINT64_C(1) << 47);

    return mm_vaddr_canonical(mm_vaddr(low), 48) && !mm_vaddr_canonical(mm_vaddr(low + 1), 48) &&
           mm_vaddr_canonical(mm_vaddr(high), 48) && !mm_vaddr_canonical(mm_vaddr(high - 1), 48) &&
           mm_vaddr_canonical(mm_vaddr(low + 1), 57) &&
           !mm_vrange_canonical(mm_vrange(mm_vaddr(low), 0 - UINT64_C(2) * low), 48) &&
           mm_vrange_canonical(mm_vrange(mm_vaddr(high), 0 - high), 48);
}

static bool same(const char *left, const char *right)
{
    for (; *left == *right; left++, right++) {
        if (*left == '\0') {
            return true;
        }
    }
    return false;
}

// Each status has a name, no two have the same, and what is none has none. The names stand in a table
// of pointers: in a kernel that is linked to one address they must be right without relocation.
static bool status_names(void)
{
    for (unsigned a = 0; a < MM_STATUS_COUNT; a++) {
        const char *name = mm_status_str((mm_status_t)a);
        if (memcmp(name, "MM_", 3) != 0 || same(name, "MM_ERR_?")) {
            return false;
        }
        for (unsigned b = 0; b < a; b++) {
            if (same(name, mm_status_str((mm_status_t)b))) {
                return false;
            }
        }
    }
    return same(mm_status_str(MM_ERR_NO_MEMORY), "MM_ERR_NO_MEMORY") &&
           same(mm_status_str((mm_status_t)MM_STATUS_COUNT), "MM_ERR_?");
}

void both_base(const struct both_world *world)
{
    (void)world;
    BOTH_CHECK("sums and differences that do not fit are refused", sums());
    BOTH_CHECK("products that do not fit are refused", products());
    BOTH_CHECK("alignment up to 2^64 is refused, below it is right", alignment());
    BOTH_CHECK("the range that ends at 2^64 is a range", last_range());
    BOTH_CHECK("canonical addresses of 48 and 57 bits are told", canonical());
    BOTH_CHECK("every status has a name of its own", status_names());
    BOTH_CHECK("memory types have names", same(mm_memtype_str(MM_MEMTYPE_UC_MINUS), "UC-") &&
                                              same(mm_memtype_str((mm_memtype_t)99), "?"));
    BOTH_CHECK("headers and archive are of one version and one set of options",
               mm_version() == MM_VERSION && mm_config_signature() == MM_CONFIG_SIGNATURE);
}
