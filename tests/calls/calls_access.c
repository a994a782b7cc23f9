// SPDX-License-Identifier: MIT
/**
 * Calls of the room space, from outside: memory read and written, regions printed, copy-on-write on
 * demand, the table under its lock.
 */
#include "calls.h"

#include <string.h>

#define PAGE UINT64_C(4096)
#define RW   MM_PROT_RW

static struct mm_space *space_of(const uint64_t *a)
{
    return (struct mm_space *)(uintptr_t)a[0];
}

static int do_read(const uint64_t *a)
{
    return (int)mm_space_read(space_of(a), T_P(1), mm_vaddr(a[2]), a[3], T_W32(4), T_P(5));
}

static int do_write(const uint64_t *a)
{
    return (int)mm_space_write(space_of(a), mm_vaddr(a[1]), T_P(2), a[3], T_W32(4), T_P(5));
}

static int do_clear(const uint64_t *a)
{
    return (int)mm_space_clear(space_of(a), mm_vaddr(a[1]), a[2], T_W32(3), T_P(4));
}

static int do_make_cow(const uint64_t *a)
{
    return (int)mm_space_make_cow(space_of(a), T_RANGE(1));
}

static int do_unmap(const uint64_t *a)
{
    return (int)mm_space_unmap(space_of(a), T_RANGE(1));
}

static int do_protect(const uint64_t *a)
{
    return (int)mm_space_protect(space_of(a), T_RANGE(1), T_W32(3));
}

static mm_status_t change(void *ctx, struct mm_pagetable *table)
{
    return ctx != NULL && table != NULL ? MM_OK : MM_ERR_INVALID_ARGUMENT;
}

static int do_with_table(const uint64_t *a)
{
    return (int)mm_space_with_table(space_of(a), a[1] == 0 ? NULL : change, T_P(2));
}

static int do_line(const uint64_t *a)
{
    struct mm_region_info info = {
        .range = T_RANGE(1),
        .prot = T_W32(3),
        .flags = T_W32(4),
        .kind = (enum mm_region_kind)a[5],
        .type = (mm_memtype_t)a[6],
        .offset = a[7],
    };

    return (int)mm_region_line(a[0] == 0 ? NULL : &info, T_P(8), a[9], T_P(10));
}

static int do_list(const uint64_t *a)
{
    return (int)mm_space_list(space_of(a));
}

/* --- other worlds, values ---------------------------------------------------------------------- */

static void far_region(void)
{
    struct mm_space_request request = {
        .at = {UINT64_C(1) << 45}, .len = PAGE, .prot = RW, .flags = MM_SPACE_FIXED};
    mm_vaddr_t out;

    (void)!mm_space_map(t_w.lone, &request, &out);
}

/* A leaf of 2 MiB in the lone space, in two regions, so that a change of one needs no node. Its
 * frames are nobody's: nothing may succeed. */
static void large_leaf(void)
{
    struct mm_space_request request = {
        .at = {MM_SIZE_2M}, .len = 5 * PAGE, .prot = RW, .flags = MM_SPACE_FIXED};
    mm_vaddr_t out;

    (void)!mm_space_map(t_w.lone, &request, &out);
    request.at.raw += request.len;
    request.len = MM_SIZE_2M - request.len;
    request.tag = 1;
    (void)!mm_space_map(t_w.lone, &request, &out);
    (void)!mm_paging_map(mm_space_table(t_w.lone), mm_vrange(mm_vaddr(MM_SIZE_2M), MM_SIZE_2M),
                         mm_paddr(0x80000000), RW | MM_PROT_USER, MM_MEMTYPE_WB, 0);
}

static void large_leaf_no_frame(void)
{
    struct mm_frame_request request = {.flags = 0};
    mm_pfn_t frame;

    large_leaf();
    while (mm_frame_alloc(&t_w.frames, &request, &frame) == MM_OK) {
    }
}

/* Whatever frame there is, no table can be in it. */
static void large_leaf_short_reach(void)
{
    struct mm_pagetable *tables[] = {mm_space_table(t_w.lone), &t_w.kernel};

    large_leaf();
    for (unsigned i = 0; i < 2; i++) {
        tables[i]->physmap.first = mm_paddr(T_RAM_START);
        tables[i]->physmap.len = 0x1000;
    }
}

static unsigned spaces(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)t_w.space;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)mm_space_kernel(&t_w.spaces);
    v[3] = (uint64_t)(uintptr_t)t_w.lone;
    return 4;
}

static unsigned user_ats(uint64_t *v)
{
    static const uint64_t all[] = {T_SPACE_AT,
                                   0,
                                   1,
                                   PAGE - 1,
                                   PAGE,
                                   T_SPACE_AT + 4 * PAGE - 1,
                                   T_SPACE_AT + 64 * PAGE, /* a guard */
                                   T_USER_LEN - 2 * PAGE,
                                   T_USER_LEN - PAGE,
                                   T_USER_LEN - 1,
                                   T_USER_LEN,
                                   (UINT64_C(1) << 56) - 1,
                                   (UINT64_C(1) << 56) + 1,
                                   T_ARENA + 4 * PAGE,
                                   UINT64_MAX - PAGE + 1,
                                   UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

#define SPACE T_OF("space", spaces)
#define CUT   T_NUM("start", MM_SIZE_2M), T_NUM("len", 5 * PAGE)
#define LEN   T_UPTO("len", 100, 4096)
#define FORCE T_BITS("flags", 0, MM_SPACE_FORCE)
#define FAR   T_NUM("at", UINT64_C(1) << 45)
/* The residue, and what was read before. */
#define RESIDUE                                                                                    \
    (T_BIT(MM_ERR_FAULT) | T_BIT(MM_ERR_INVALID_ADDRESS) | T_BIT(MM_ERR_NO_MEMORY) |               \
     T_BIT(MM_ERR_UNSUPPORTED))

static const struct t_call access[] = {
    {.name = "mm_space_read",
     .invoke = do_read,
     .tells = RESIDUE,
     .args = {SPACE, T_PTR(in), T_OF("from", user_ats), LEN, FORCE, T_OUT}},
    {.name = "mm_space_read",
     .note = "the first page of a far region",
     .invoke = do_read,
     .setup = far_region,
     .flags = T_CAN_FAIL | T_VARIANT,
     .tells = RESIDUE,
     .args = {T_VAR(lone), T_PTR(in), FAR, LEN, FORCE, T_OUT}},
    {.name = "mm_space_write",
     .invoke = do_write,
     .flags = T_CAN_FAIL,
     .tells = RESIDUE,
     .args = {SPACE, T_OF("to", user_ats), T_PTR(in), LEN, FORCE, T_OUT}},
    {.name = "mm_space_write",
     .note = "the first page of a far region",
     .invoke = do_write,
     .setup = far_region,
     .flags = T_CAN_FAIL | T_VARIANT,
     .tells = RESIDUE,
     .args = {T_VAR(lone), FAR, T_PTR(in), LEN, FORCE, T_OUT}},
    {.name = "mm_space_clear",
     .invoke = do_clear,
     .flags = T_CAN_FAIL,
     .tells = RESIDUE,
     .args = {SPACE, T_OF("to", user_ats), LEN, FORCE, T_OUT}},
    {.name = "mm_space_make_cow",
     .invoke = do_make_cow,
     .args = {SPACE, T_OF("start", user_ats), T_NUM("len", 8 * PAGE)}},
    {.name = "mm_space_make_cow",
     .note = "a large leaf is cut, and there is no table",
     .invoke = do_make_cow,
     .setup = large_leaf_no_frame,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_VAR(lone), CUT}},
    {.name = "mm_space_make_cow",
     .note = "a large leaf is cut, and a table is beyond reach",
     .invoke = do_make_cow,
     .setup = large_leaf_short_reach,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_VAR(lone), CUT}},
    {.name = "mm_space_unmap",
     .note = "a large leaf is cut, and a table is beyond reach",
     .invoke = do_unmap,
     .setup = large_leaf_short_reach,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_VAR(lone), CUT}},
    {.name = "mm_space_protect",
     .note = "a large leaf is cut, and a table is beyond reach",
     .invoke = do_protect,
     .setup = large_leaf_short_reach,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_VAR(lone), CUT, T_BITS("prot", MM_PROT_READ, 7u)}},
    {.name = "mm_space_with_table",
     .invoke = do_with_table,
     .args = {SPACE, T_GIVEN("change"), T_PTR(in)}},
    {.name = "mm_region_line",
     .invoke = do_line,
     .args = {T_GIVEN("region"), T_NUM("start", T_SPACE_AT), T_NUM("len", PAGE),
              T_BITS("prot", RW, 7u), T_U32("flags", 0),
              T_ENUM("kind", MM_REGION_HEAP, MM_REGION_KINDS),
              T_ENUM("type", MM_MEMTYPE_WB, MM_MEMTYPE_COUNT), T_NUM("offset", 0), T_OUT,
              T_NUM("size", MM_REGION_LINE_MAX), T_OUT2}},
    {.name = "mm_space_list", .invoke = do_list, .args = {SPACE}},
};

const struct t_call_list t_calls_access = T_CALL_LIST(access);
