// SPDX-License-Identifier: MIT
/**
 * Calls of the paging room that edit mappings.
 */
#include "calls.h"

#include <mm/tlb.h>

#include <string.h>

#define PAGE UINT64_C(4096)
#define URW  (MM_PROT_RW | MM_PROT_USER)

static int do_map(const uint64_t *a)
{
    return (int)mm_paging_map(T_P(0), T_RANGE(1), mm_paddr(a[3]), T_W32(4), (mm_memtype_t)T_W32(5),
                              T_W32(6));
}

static int do_guard(const uint64_t *a)
{
    return (int)mm_paging_guard(T_P(0), T_RANGE(1));
}

static int do_unmap(const uint64_t *a)
{
    return (int)mm_paging_unmap(T_P(0), T_RANGE(1), T_W32(3), T_P(4));
}

static int do_take(const uint64_t *a)
{
    return (int)mm_paging_take(T_P(0), T_RANGE(1), T_W32(3), a[4] == 0 ? NULL : t_world_taken, NULL,
                               T_P(5));
}

static int do_protect(const uint64_t *a)
{
    return (int)mm_paging_protect(T_P(0), T_RANGE(1), T_W32(3), T_W32(4), T_P(5));
}

static int do_set_type(const uint64_t *a)
{
    return (int)mm_paging_set_type(T_P(0), T_RANGE(1), (mm_memtype_t)T_W32(3), T_W32(4));
}

static int do_merge(const uint64_t *a)
{
    return (int)mm_paging_merge(T_P(0), T_RANGE(1), T_P(3));
}

static int do_reclaim(const uint64_t *a)
{
    return (int)mm_paging_reclaim(T_P(0), T_RANGE(1), T_P(3));
}

static int do_clone(const uint64_t *a)
{
    return (int)mm_paging_clone(T_P(0), T_P(1), T_RANGE(2), t_world_share, NULL, T_P(4));
}

static int do_replace(const uint64_t *a)
{
    return (int)mm_paging_replace(T_P(0), mm_vaddr(a[1]), mm_paddr(a[2]), T_W32(3), T_W32(4),
                                  T_P(5));
}

/* Sections with one field of the first replaced. */
static void copy_sections(struct mm_boot_section *copy, uint64_t field, uint64_t value)
{
    memcpy(copy, t_w.sections, 3 * sizeof(*copy));
    switch (field) {
    case 1:
        copy[0].range.start.raw = value;
        break;
    case 2:
        copy[0].range.len = value;
        break;
    case 3:
        copy[0].paddr.raw = value;
        break;
    case 4:
        copy[0].prot = (uint32_t)value;
        break;
    default:
        break;
    }
}

static int do_map_sections(const uint64_t *a)
{
    struct mm_boot_section copy[3];

    copy_sections(copy, a[3], a[4]);
    return (int)mm_paging_map_sections(T_P(0), a[1] == 0 ? NULL : copy, T_W32(2));
}

static int do_map_direct(const uint64_t *a)
{
    struct mm_physmap physmap = {.base = a[3], .first = {a[4]}, .len = a[5]};
    struct mm_boot_section copy[3];

    copy_sections(copy, a[9], a[10]);
    if (a[6] != 0) {
        physmap.ops = &t_world_physmap_ops;
    }
    return (int)mm_paging_map_direct(T_P(0), T_P(1), a[2] == 0 ? NULL : &physmap,
                                     a[7] == 0 ? NULL : copy, T_W32(8));
}

/* --- set-ups ----------------------------------------------------------------------------------- */

/* The root's own tables are reached through ops, whose map can fail. */
static void through_ops(void)
{
    t_w.kernel.physmap = t_w.physmap_ops;
}

/* A leaf of 1 GiB, which a split takes apart in two steps. */
static void gigabyte(void)
{
    (void)!mm_paging_map(&t_w.user, mm_vrange(mm_vaddr(0x100000000), MM_SIZE_1G),
                         mm_paddr(0x100000000), URW, MM_MEMTYPE_WB, 0);
}

/* The user's table is reached by a physmap that ends before the frames that come. */
static void short_reach(void)
{
    t_w.user.physmap.first = mm_paddr(0);
    t_w.user.physmap.len = (t_w.frame_freed.raw) * PAGE;
}

static void short_user2(void)
{
    t_w.user2.physmap = t_w.physmap_short;
}

static void short_kernel(void)
{
    t_w.kernel.physmap = t_w.physmap_half;
}

/* A page where the direct map of the second range of memory would come. */
static void kernel_occupied(void)
{
    (void)!mm_paging_map(&t_w.kernel, mm_vrange(mm_vaddr(T_ARENA + T_RAM2_START), PAGE),
                         mm_paddr(0x5000), MM_PROT_RW, MM_MEMTYPE_WB, 0);
}

static void cpu_without_pat(void)
{
    t_w.arch.enabled.pat = false;
}

/* A root of somebody else, whose table allows no write. */
static void adopted(void)
{
    uint64_t *root = t_ram_ptr(t_h.ram, t_w.list[0].raw * 4096);
    uint64_t *table = t_ram_ptr(t_h.ram, t_w.list[1].raw * 4096);
    uint64_t *lower = t_ram_ptr(t_h.ram, t_w.list[2].raw * 4096);
    uint64_t *lowest = t_ram_ptr(t_h.ram, t_w.list[3].raw * 4096);
    struct mm_paging_config config = t_world_paging_config();

    memset(root, 0, 4096);
    memset(table, 0, 4096);
    memset(lower, 0, 4096);
    memset(lowest, 0, 4096);
    root[(T_ARENA >> 39) & 511] = t_w.list[1].raw * 4096 | 1; /* present, and no more */
    table[0] = t_w.list[2].raw * 4096 | 1;
    lower[0] = t_w.list[3].raw * 4096 | 1;
    lowest[0] = UINT64_C(0x90000000) | 1;
    (void)!mm_paging_adopt(&t_w.spare.system.kernel, &config, mm_pfn_addr(t_w.list[0]));
    (void)!mm_gather_begin(&t_w.gather_kernel, &t_w.spare.system.kernel);
}

static void user2_occupied(void)
{
    (void)!mm_paging_map(&t_w.user2, mm_vrange(mm_vaddr(T_AT + PAGE), PAGE), mm_paddr(0x90000000),
                         URW, MM_MEMTYPE_WB, 0);
}

static void third_section(void)
{
    t_w.sections[2] = (struct mm_boot_section){
        .range = {{T_TOP + 0x12800}, 0x100}, .paddr = {0x12800}, .prot = MM_PROT_RX};
}

/* Shares a page with the second, and lies apart. */
static void third_section_apart(void)
{
    third_section();
    t_w.sections[2].prot = MM_PROT_RW;
    t_w.sections[2].paddr.raw = 0x22800;
}

/* --- values ------------------------------------------------------------------------------------ */

static unsigned roots(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)&t_w.kernel;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)&t_w.user;
    v[3] = (uint64_t)(uintptr_t)&t_w.gone.pt;
    v[4] = (uint64_t)(uintptr_t)&t_w.fresh.pt;
    return 5;
}

static unsigned fields(uint64_t *v)
{
    for (uint64_t i = 0; i < 5; i++) {
        v[i] = i;
    }
    return 5;
}

static unsigned gathers(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)&t_w.gather;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)&t_w.gather_kernel; /* of another page table */
    v[3] = (uint64_t)(uintptr_t)&t_w.fresh.gather;  /* never begun */
    return 4;
}

static unsigned tables(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)&t_w.user2;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)&t_w.user; /* the same twice */
    v[3] = (uint64_t)(uintptr_t)&t_w.kernel;
    v[4] = (uint64_t)(uintptr_t)&t_w.fresh.pt;
    v[5] = (uint64_t)(uintptr_t)&t_w.gone.pt;
    return 6;
}

/* The library releases frames of the source: what is no RAM must not reach it. */
static unsigned flags_but_release(uint64_t *v)
{
    static const uint64_t all[] = {MM_PAGING_SPLIT,      0,
                                   MM_PAGING_SKIP_HOLES, MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES,
                                   MM_PAGING_ONLY_4K,    MM_PAGING_MAX_2M,
                                   MM_PAGING_MERGE,      MM_PAGING_FLAGS_ALL + 1,
                                   UINT64_C(1) << 31,    UINT32_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned replace_flags(uint64_t *v)
{
    static const uint64_t all[] = {0,
                                   MM_PAGING_SPLIT,
                                   MM_PAGING_SKIP_HOLES,
                                   MM_PAGING_ONLY_4K,
                                   MM_PAGING_MAX_2M,
                                   MM_PAGING_FLAGS_ALL + 1,
                                   UINT32_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

#define PT     T_LIVE_GONE(user, pt)
#define PROT   T_BITS("prot", URW, MM_PROT_ALL)
#define GATHER T_OF("gather", gathers)
#define MAP(at, len, paddr)                                                                        \
    T_NUM("start", at), T_NUM("len", len), T_NUM("paddr", paddr), PROT,                            \
        T_ENUM("type", 0, MM_MEMTYPE_COUNT), T_BITS("flags", 0, MM_PAGING_FLAGS_ALL)
#define UNMAP(at, len)                                                                             \
    T_NUM("start", at), T_NUM("len", len), T_OF("flags", flags_but_release), GATHER
#define TAKE(at, len)                                                                              \
    T_NUM("start", at), T_NUM("len", len), T_OF("flags", flags_but_release), T_GIVEN("fn"), GATHER
#define PROTECT(at, len)                                                                           \
    T_NUM("start", at), T_NUM("len", len), PROT, T_OF("flags", flags_but_release), GATHER
#define TYPE(at, len)                                                                              \
    T_NUM("start", at), T_NUM("len", len), T_ENUM("type", MM_MEMTYPE_UC, MM_MEMTYPE_COUNT),        \
        T_OF("flags", flags_but_release)
#define CLONE(at, len)                                                                             \
    T_LIVE_GONE(user, pt), T_OF("to", tables), T_NUM("start", at), T_NUM("len", len), GATHER
#define SECTIONS(nr)                                                                               \
    T_PTR(sections), T_UPTO("nr_sections", nr, nr), T_OF("field", fields), T_NUM("value", 0)
#define DIRECT(map, base)                                                                          \
    T_LIVE_(map), T_GIVEN("physmap"), T_NUM("base", base), T_NUM("first", 0),                      \
        T_NUM("reach", T_RAM_END), T_UPTO("ops", 0, 1), SECTIONS(2)

static const struct t_call mappings[] = {
    {.name = "mm_paging_map",
     .invoke = do_map,
     .flags = T_CAN_FAIL,
     .args = {PT, MAP(T_AT_FREE, 4 * PAGE, 0x5000)}},
    {.name = "mm_paging_map",
     .note = "over three tables",
     .invoke = do_map,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {PT, MAP((UINT64_C(1) << 39) - 2 * PAGE, 4 * PAGE, 0x5000)}},
    {.name = "mm_paging_map",
     .note = "where something is",
     .invoke = do_map,
     .flags = T_BAD_ONLY,
     .args = {PT, MAP(T_AT, 2 * PAGE, 0x5000)}},
    {.name = "mm_paging_map",
     .note = "no memory types",
     .invoke = do_map,
     .setup = cpu_without_pat,
     .flags = T_BAD_ONLY,
     .args = {PT, MAP(T_AT_FREE, PAGE, 0x5000)}},
    {.name = "mm_paging_map",
     .note = "tables beyond reach",
     .invoke = do_map,
     .setup = short_reach,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_LIVE_(user), MAP(T_AT_FREE, PAGE, 0x5000)}},
    {.name = "mm_paging_map",
     .note = "a table of others forbids it",
     .invoke = do_map,
     .setup = adopted,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(spare.system.kernel), T_NUM("start", T_ARENA + PAGE), T_NUM("len", PAGE),
              T_NUM("paddr", 0x5000), T_BITS("prot", MM_PROT_RW, MM_PROT_ALL),
              T_ENUM("type", 0, MM_MEMTYPE_COUNT), T_BITS("flags", 0, MM_PAGING_FLAGS_ALL)}},
    {.name = "mm_paging_guard",
     .invoke = do_guard,
     .flags = T_CAN_FAIL,
     .args = {PT, T_NUM("start", T_AT_FREE), T_NUM("len", 4 * PAGE)}},
    {.name = "mm_paging_guard",
     .note = "of all sizes",
     .invoke = do_guard,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {PT, T_NUM("start", (UINT64_C(1) << 39) - MM_SIZE_2M - PAGE),
              T_NUM("len", MM_SIZE_1G + 2 * MM_SIZE_2M + 2 * PAGE)}},
    {.name = "mm_paging_guard",
     .note = "where something is",
     .invoke = do_guard,
     .flags = T_BAD_ONLY,
     .args = {PT, T_NUM("start", T_AT), T_NUM("len", 2 * PAGE)}},
    {.name = "mm_paging_guard",
     .note = "tables beyond reach",
     .invoke = do_guard,
     .setup = short_reach,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_LIVE_(user), T_NUM("start", T_AT_FREE), T_NUM("len", 4 * PAGE)}},
    {.name = "mm_paging_unmap", .invoke = do_unmap, .args = {PT, UNMAP(T_AT, 8 * PAGE)}},
    {.name = "mm_paging_unmap",
     .note = "part of a large leaf",
     .invoke = do_unmap,
     .flags = T_CAN_FAIL,
     .args = {PT, UNMAP(T_AT_LARGE + PAGE, 2 * PAGE)}},
    {.name = "mm_paging_unmap",
     .note = "a page of a gigabyte",
     .invoke = do_unmap,
     .setup = gigabyte,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {PT, UNMAP(0x100000000 + 5 * PAGE, PAGE)}},
    {.name = "mm_paging_unmap",
     .note = "tables beyond reach",
     .invoke = do_unmap,
     .setup = short_reach,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_LIVE_(user), UNMAP(T_AT_LARGE + PAGE, 2 * PAGE)}},
    {.name = "mm_paging_take", .invoke = do_take, .args = {PT, TAKE(T_AT, 8 * PAGE)}},
    {.name = "mm_paging_take",
     .note = "part of a large leaf",
     .invoke = do_take,
     .flags = T_CAN_FAIL,
     .args = {PT, TAKE(T_AT_LARGE + PAGE, 2 * PAGE)}},
    {.name = "mm_paging_take",
     .note = "a page of a gigabyte",
     .invoke = do_take,
     .setup = gigabyte,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {PT, TAKE(0x100000000 + 5 * PAGE, PAGE)}},
    {.name = "mm_paging_take",
     .note = "tables beyond reach",
     .invoke = do_take,
     .setup = short_reach,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_LIVE_(user), TAKE(T_AT_LARGE + PAGE, 2 * PAGE)}},
    {.name = "mm_paging_protect", .invoke = do_protect, .args = {PT, PROTECT(T_AT, 8 * PAGE)}},
    {.name = "mm_paging_protect",
     .note = "part of a large leaf",
     .invoke = do_protect,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {PT, T_NUM("start", T_AT_LARGE + PAGE), T_NUM("len", 2 * PAGE),
              T_BITS("prot", MM_PROT_READ | MM_PROT_USER, MM_PROT_ALL),
              T_OF("flags", flags_but_release), GATHER}},
    {.name = "mm_paging_protect",
     .note = "a large leaf, tables beyond reach",
     .invoke = do_protect,
     .setup = short_reach,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_LIVE_(user), T_NUM("start", T_AT_LARGE + PAGE), T_NUM("len", 2 * PAGE),
              T_BITS("prot", MM_PROT_READ | MM_PROT_USER, MM_PROT_ALL),
              T_OF("flags", flags_but_release), GATHER}},
    {.name = "mm_paging_protect",
     .note = "a table of others forbids it",
     .invoke = do_protect,
     .setup = adopted,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(spare.system.kernel), T_NUM("start", T_ARENA), T_NUM("len", PAGE),
              T_BITS("prot", MM_PROT_RW, MM_PROT_ALL), T_UPTO("flags", 0, 0),
              T_PTR(gather_kernel)}},
    {.name = "mm_paging_set_type", .invoke = do_set_type, .args = {PT, TYPE(T_AT, 8 * PAGE)}},
    {.name = "mm_paging_set_type",
     .note = "part of a large leaf",
     .invoke = do_set_type,
     .flags = T_CAN_FAIL,
     .args = {PT, TYPE(T_AT_LARGE + PAGE, 2 * PAGE)}},
    {.name = "mm_paging_set_type",
     .note = "a page of a gigabyte",
     .invoke = do_set_type,
     .setup = gigabyte,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {PT, TYPE(0x100000000 + 5 * PAGE, PAGE)}},
    {.name = "mm_paging_set_type",
     .note = "a large leaf, tables beyond reach",
     .invoke = do_set_type,
     .setup = short_reach,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_LIVE_(user), TYPE(T_AT_LARGE + PAGE, 2 * PAGE)}},
    {.name = "mm_paging_set_type",
     .note = "no memory types",
     .invoke = do_set_type,
     .setup = cpu_without_pat,
     .flags = T_BAD_ONLY,
     .args = {PT, TYPE(T_AT, PAGE)}},
    {.name = "mm_paging_merge",
     .invoke = do_merge,
     .args = {PT, T_NUM("start", T_AT), T_NUM("len", 8 * PAGE), T_OUT}},
    {.name = "mm_paging_reclaim",
     .invoke = do_reclaim,
     .args = {PT, T_NUM("start", T_AT), T_NUM("len", 8 * PAGE), GATHER}},
    {.name = "mm_paging_clone",
     .invoke = do_clone,
     .flags = T_CAN_FAIL,
     .args = {CLONE(T_AT, T_AT_FREE - T_AT)}},
    {.name = "mm_paging_clone",
     .note = "of everything",
     .invoke = do_clone,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {CLONE(0, T_USER_LEN)}},
    {.name = "mm_paging_clone",
     .note = "over what is there",
     .invoke = do_clone,
     .setup = user2_occupied,
     .flags = T_BAD_ONLY,
     .args = {CLONE(T_AT, 8 * PAGE)}},
    {.name = "mm_paging_clone",
     .note = "part of a large leaf",
     .invoke = do_clone,
     .flags = T_BAD_ONLY,
     .args = {CLONE(T_AT_LARGE, PAGE)}},
    {.name = "mm_paging_replace",
     .invoke = do_replace,
     .args = {PT, T_NUM("at", T_AT), T_NUM("paddr", 0x7000), PROT, T_OF("flags", replace_flags),
              GATHER}},
    {.name = "mm_paging_replace",
     .note = "of a large leaf",
     .invoke = do_replace,
     .flags = T_BAD_ONLY,
     .args = {PT, T_NUM("at", T_AT_LARGE), T_NUM("paddr", 0x7000), PROT,
              T_OF("flags", replace_flags), GATHER}},
    {.name = "mm_paging_replace",
     .note = "a table of others forbids it",
     .invoke = do_replace,
     .setup = adopted,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(spare.system.kernel), T_NUM("at", T_ARENA), T_NUM("paddr", 0x7000),
              T_BITS("prot", MM_PROT_RW, MM_PROT_ALL), T_UPTO("flags", 0, 0),
              T_PTR(gather_kernel)}},
    {.name = "mm_paging_map_sections",
     .invoke = do_map_sections,
     .flags = T_CAN_FAIL | T_COMPOSED,
     .args = {T_LIVE_GONE(kernel, pt), SECTIONS(2)}},
    {.name = "mm_paging_map_sections",
     .note = "a page that two share",
     .invoke = do_map_sections,
     .setup = third_section,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_LIVE_GONE(kernel, pt), SECTIONS(3)}},
    {.name = "mm_paging_map_sections",
     .note = "a page that two share, who lie apart",
     .invoke = do_map_sections,
     .setup = third_section_apart,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_LIVE_GONE(kernel, pt), SECTIONS(3)}},
    {.name = "mm_paging_map_direct",
     .invoke = do_map_direct,
     .flags = T_CAN_FAIL | T_COMPOSED,
     .args = {T_OF("pt", roots), DIRECT(map, T_ARENA)}},
    {.name = "mm_paging_map_direct",
     .note = "where something is",
     .invoke = do_map_direct,
     .setup = kernel_occupied,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_OF("pt", roots), DIRECT(map, T_ARENA)}},
    {.name = "mm_paging_map_direct",
     .note = "tables beyond reach",
     .invoke = do_map_direct,
     .setup = short_kernel,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_OF("pt", roots), DIRECT(map, T_ARENA)}},
    {.name = "mm_paging_map_direct",
     .note = "a table of others forbids it",
     .invoke = do_map_direct,
     .setup = adopted,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_LIVE_(spare.system.kernel), DIRECT(map, T_ARENA)}},
    {.name = "mm_paging_map_sections",
     .note = "tables beyond reach",
     .invoke = do_map_sections,
     .setup = short_kernel,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_OF("pt", roots), SECTIONS(2)}},
    {.name = "mm_paging_clone",
     .note = "tables beyond reach",
     .invoke = do_clone,
     .setup = short_user2,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {CLONE(T_AT, 8 * PAGE)}},
    /* A walk that cannot map a table panics, by contract; the frame for the gather does not. */
    {.name = "mm_paging_map_sections",
     .note = "a physmap without room",
     .invoke = do_map_sections,
     .setup = through_ops,
     .panics = "paging",
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {T_LIVE_GONE(kernel, pt), SECTIONS(2)}},
    {.name = "mm_paging_map_direct",
     .note = "a physmap without room",
     .invoke = do_map_direct,
     .setup = through_ops,
     .panics = "paging",
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {T_LIVE_GONE(kernel, pt), DIRECT(map, T_ARENA)}},
};

const struct t_call_list t_calls_map = T_CALL_LIST(mappings);
