// SPDX-License-Identifier: MIT
/**
 * Calls of the kernel virtual arena.
 */
#include "calls.h"

#include <string.h>

#define PAGE UINT64_C(4096)
#define PROT (MM_PROT_READ | MM_PROT_WRITE | MM_PROT_EXEC | MM_PROT_GLOBAL)

static int do_init(const uint64_t *a)
{
    struct mm_kva_config config = t_world_kva_config();
    struct mm_kva_ops no_ops = {NULL, NULL, NULL};

    config.kernel = T_P(2);
    config.frames = T_P(3);
    config.physmap = T_P(4);
    config.pool = T_P(5);
    config.range = T_RANGE(6);
    config.guard_pages = T_W32(8);
    config.nr_reserve_tables = T_W32(9);
    config.ops = a[10] == 0 ? &no_ops : NULL;
    return (int)mm_kva_init(T_P(0), a[1] == 0 ? NULL : &config);
}

static int do_destroy(const uint64_t *a)
{
    return (int)mm_kva_destroy(T_P(0));
}

static int do_alloc(const uint64_t *a)
{
    struct mm_kva_request request = {.len = a[2],
                                     .align = a[3],
                                     .lowest = mm_vaddr(a[4]),
                                     .highest = mm_vaddr(a[5]),
                                     .guard_before = T_W32(6),
                                     .guard_after = T_W32(7),
                                     .prot = T_W32(8),
                                     .flags = T_W32(9),
                                     .node = T_W32(10),
                                     .node_policy = T_W32(11)};

    return (int)mm_kva_alloc(T_P(0), a[1] == 0 ? NULL : &request, T_P(12));
}

static int do_map(const uint64_t *a)
{
    return (int)mm_kva_map(T_P(0), T_PRANGE(1), T_W32(3), (mm_memtype_t)T_W32(4), T_W32(5), T_P(6));
}

static int do_free(const uint64_t *a)
{
    return T_MADE(mm_kva_free(T_P(0), mm_vaddr(a[1])));
}

static int do_purge(const uint64_t *a)
{
    return T_NONZERO(mm_kva_purge(T_P(0)));
}

static int do_reclaim(const uint64_t *a)
{
    return T_NONZERO(mm_kva_reclaim(T_P(0)));
}

static int do_stack_alloc(const uint64_t *a)
{
    return (int)mm_kva_stack_alloc(T_P(0), a[1], T_W32(2), T_P(3));
}

static int do_stack_free(const uint64_t *a)
{
    return T_MADE(mm_kva_stack_free(T_P(0), mm_vaddr(a[1])));
}

static int do_explain(const uint64_t *a)
{
    return (int)mm_kva_explain(T_P(0), mm_vaddr(a[1]), T_P(2));
}

static int do_get_stats(const uint64_t *a)
{
    return (int)mm_kva_get_stats(T_P(0), T_P(1));
}

static int do_check(const uint64_t *a)
{
    return (int)mm_kva_check(T_P(0));
}

static int do_dump(const uint64_t *a)
{
    return (int)mm_kva_dump(T_P(0));
}

static int do_source(const uint64_t *a)
{
    return T_NONZERO(mm_page_source_kva(T_P(0)).ops != NULL);
}

static int do_guards_alloc(const uint64_t *a)
{
    return (int)mm_kva_guards_alloc(T_P(0), T_W32(1), T_P(2));
}

static int do_guards_free(const uint64_t *a)
{
    struct mm_heap_guards guards = {.base = a[1]};

    return T_MADE(mm_kva_guards_free(T_P(0), &guards));
}

/* --- set-ups ----------------------------------------------------------------------------------- */

static void locked(void)
{
    t_w.kva.lock = 1;
}

static void corrupt(void)
{
    t_w.kva.nr_ranges[MM_KVA_MEMORY]++;
}

static void freed(void)
{
    mm_kva_free(&t_w.kva, t_w.kva_memory);
    t_w.kva_nr_frames = 0;
}

static void stack_freed(void)
{
    mm_kva_stack_free(&t_w.kva, t_w.kva_stack.start);
}

static void no_pat(void)
{
    t_w.arch.enabled.pat = false;
}

static void window(void)
{
    struct mm_heap_guards guards;

    (void)!mm_kva_guards_alloc(&t_w.spare.kva, 2, &guards);
}

/* The arena has only four pages left: and what is asked for does not fit with its guards. */
static void no_room(void)
{
    t_w.spare.kva.ranges.window.len = 4 * PAGE;
}

/* The root sees no frame that could be a table. */
static void short_sighted(void)
{
    t_w.kernel.physmap.len = PAGE;
}

/* --- values ------------------------------------------------------------------------------------ */

static unsigned kernels(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)&t_w.kernel;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)&t_w.never;
    v[3] = (uint64_t)(uintptr_t)&t_w.user;
    return 4;
}

static unsigned physmaps(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)&t_w.physmap;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)&t_w.physmap_ops;
    v[3] = (uint64_t)(uintptr_t)&t_w.physmap_short;
    return 4;
}

static unsigned starts(uint64_t *v)
{
    static const uint64_t all[] = {
        T_KVA + 2 * T_KVA_LEN, 0, 1, T_KVA + 1, T_TOP - PAGE, UINT64_MAX - PAGE + 1, UINT64_MAX,
        UINT64_C(1) << 47};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned lengths(uint64_t *v)
{
    static const uint64_t all[] = {T_KVA_LEN,         0,         1, PAGE, PAGE + 1, 4 * T_KVA_LEN,
                                   UINT64_MAX - 4095, UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned reserves(uint64_t *v)
{
    v[0] = 2;
    v[1] = 0;
    v[2] = 1;
    v[3] = 1000;
    return 4;
}

static unsigned guards(uint64_t *v)
{
    static const uint64_t all[] = {0, 1, 3, MM_KVA_MAX_GUARD, MM_KVA_MAX_GUARD + 1, UINT32_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned aligns(uint64_t *v)
{
    static const uint64_t all[] = {
        0, 1, 4095, 4096, 4097, 8192, 12288, UINT64_C(1) << 20, UINT64_C(1) << 63, UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned lowest(uint64_t *v)
{
    static const uint64_t all[] = {
        0, T_KVA, T_KVA + 3, T_KVA + T_KVA_LEN - 3 * PAGE, T_KVA + T_KVA_LEN, UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned highest(uint64_t *v)
{
    static const uint64_t all[] = {0, 1, T_KVA, T_KVA + 64 * PAGE, T_KVA + T_KVA_LEN, UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned prots(uint64_t *v)
{
    v[0] = 0;
    for (unsigned i = 0; i < 7; i++) {
        v[i + 1] = UINT64_C(1) << i;
    }
    v[8] = PROT;
    v[9] = UINT32_MAX;
    return 10;
}

static unsigned rights(uint64_t *v)
{
    unsigned nr = prots(v);

    v[0] = MM_PROT_RW;
    v[nr] = 0;
    return nr + 1;
}

static unsigned devices(uint64_t *v)
{
    static const uint64_t all[] = {UINT64_C(0xfee00010),
                                   0,
                                   T_DEVICE + 4,
                                   T_DEVICE + PAGE - 1,
                                   T_RAM_START,
                                   T_RAM_START - 1,
                                   (UINT64_C(1) << 46) - 16,
                                   (UINT64_C(1) << 46) - 15,
                                   UINT64_C(1) << 52,
                                   UINT64_MAX - 15,
                                   UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned memory(uint64_t *v)
{
    v[0] = t_w.kva_memory.raw;
    v[1] = t_w.kva_device.raw;
    v[2] = t_w.kva_memory.raw + 1;
    v[3] = t_w.kva_memory.raw + PAGE;
    v[4] = t_w.kva_memory.raw - PAGE;
    v[5] = t_w.kva_device.raw - 8;
    v[6] = t_w.kva_freed.raw + 100 * PAGE;
    v[7] = t_w.kva_stack.start.raw;
    v[8] = 0;
    v[9] = T_KVA + T_KVA_LEN;
    v[10] = UINT64_MAX;
    v[11] = (UINT64_C(1) << 47) + 1;
    return 12;
}

static unsigned stacks(uint64_t *v)
{
    v[0] = t_w.kva_stack.start.raw;
    v[1] = t_w.kva_stack.start.raw + t_w.kva_stack.len;
    v[2] = t_w.kva_stack.start.raw - 8;
    v[3] = t_w.kva_memory.raw;
    v[4] = 0;
    v[5] = UINT64_MAX;
    return 6;
}

/* The first window of an arena begins where that does. */
static unsigned windows(uint64_t *v)
{
    v[0] = T_KVA + T_KVA_LEN;
    v[1] = 0;
    v[2] = T_KVA + T_KVA_LEN + 1;
    v[3] = UINT64_MAX;
    return 4;
}

#define KVA   T_LIVE_GONE(kva, kva)
#define EMPTY T_LIVE_(spare.kva) /* where the first range needs tables, and pages of the pool */
#define INIT(len_, reserve_)                                                                       \
    T_FRESH_(kva, kva), T_GIVEN("config"), T_OF("kernel", kernels), T_LIVE_GONE(frames, frames),   \
        T_OF("physmap", physmaps), T_LIVE_GONE(pool, pool), T_OF("start", starts),                 \
        T_OF("len", len_), T_OF("guard_pages", guards), T_OF("reserve", reserve_), T_GIVEN("ops")
#define ALLOC(len_, flags_)                                                                        \
    KVA, T_GIVEN("request"), T_NUM("len", len_), T_OF("align", aligns), T_OF("lowest", lowest),    \
        T_OF("highest", highest), T_OF("before", guards), T_OF("after", guards),                   \
        T_OF("prot", prots), T_BITS("flags", flags_, MM_KVA_FLAGS_ALL), T_U32("node", 0),          \
        T_U32("policy", 0), T_OUT
#define MAP(paddr_, type_, flags_)                                                                 \
    KVA, paddr_, T_NUM("len", 16), T_OF("prot", rights), T_ENUM("type", type_, MM_MEMTYPE_COUNT),  \
        T_BITS("flags", flags_, MM_KVA_ATOMIC | MM_KVA_NO_GUARDS), T_OUT
#define STACK(len_, flags_) KVA, T_NUM("len", len_), T_BITS("flags", flags_, MM_KVA_ATOMIC), T_OUT
static const struct t_call kva[] = {
    {.name = "mm_kva_init",
     .invoke = do_init,
     .flags = T_CAN_FAIL,
     .args = {INIT(lengths, reserves)}},
    {.name = "mm_kva_init",
     .note = "pages of the pool",
     .invoke = do_init,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {INIT(lengths, reserves)}},
    {.name = "mm_kva_destroy", .invoke = do_destroy, .args = {T_LIVE_GONE(spare.kva, kva)}},
    {.name = "mm_kva_destroy",
     .note = "ranges are out",
     .invoke = do_destroy,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(kva)}},
    {.name = "mm_kva_alloc", .invoke = do_alloc, .flags = T_CAN_FAIL, .args = {ALLOC(3 * PAGE, 0)}},
    {.name = "mm_kva_alloc",
     .note = "with what was put aside",
     .invoke = do_alloc,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {ALLOC(3 * PAGE, MM_KVA_ATOMIC)}},
    {.name = "mm_kva_alloc",
     .note = "with new tables",
     .invoke = do_alloc,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {EMPTY, T_GIVEN("request"), T_UPTO("len", 3 * PAGE, 0), T_UPTO("align", 0, 0),
              T_UPTO("lowest", 0, 0), T_UPTO("highest", 0, 0), T_UPTO("before", 0, 0),
              T_UPTO("after", 0, 0), T_UPTO("prot", 0, 0), T_UPTO("flags", 0, 0),
              T_UPTO("node", 0, 0), T_UPTO("policy", 0, 0), T_OUT}},
    {.name = "mm_kva_alloc",
     .note = "with new tables, of what was put aside",
     .invoke = do_alloc,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {EMPTY, T_GIVEN("request"), T_UPTO("len", 3 * PAGE, 0), T_UPTO("align", 0, 0),
              T_UPTO("lowest", 0, 0), T_UPTO("highest", 0, 0), T_UPTO("before", 0, 0),
              T_UPTO("after", 0, 0), T_UPTO("prot", 0, 0), T_UPTO("flags", MM_KVA_ATOMIC, 0),
              T_UPTO("node", 0, 0), T_UPTO("policy", 0, 0), T_OUT}},
    {.name = "mm_kva_alloc",
     .note = "with new pages of the pool",
     .invoke = do_alloc,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {EMPTY, T_GIVEN("request"), T_UPTO("len", 3 * PAGE, 0), T_UPTO("align", 0, 0),
              T_UPTO("lowest", 0, 0), T_UPTO("highest", 0, 0), T_UPTO("before", 0, 0),
              T_UPTO("after", 0, 0), T_UPTO("prot", 0, 0), T_UPTO("flags", 0, 0),
              T_UPTO("node", 0, 0), T_UPTO("policy", 0, 0), T_OUT}},
    {.name = "mm_kva_alloc",
     .note = "tables that the root does not see",
     .invoke = do_alloc,
     .setup = short_sighted,
     .flags = T_BAD_ONLY,
     .args = {EMPTY, T_GIVEN("request"), T_UPTO("len", 3 * PAGE, 0), T_UPTO("align", 0, 0),
              T_UPTO("lowest", 0, 0), T_UPTO("highest", 0, 0), T_UPTO("before", 0, 0),
              T_UPTO("after", 0, 0), T_UPTO("prot", 0, 0), T_UPTO("flags", 0, 0),
              T_UPTO("node", 0, 0), T_UPTO("policy", 0, 0), T_OUT}},
    {.name = "mm_kva_alloc",
     .note = "the lock is held",
     .invoke = do_alloc,
     .setup = locked,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(kva), T_GIVEN("request"), T_UPTO("len", PAGE, 0), T_UPTO("align", 0, 0),
              T_UPTO("lowest", 0, 0), T_UPTO("highest", 0, 0), T_UPTO("before", 0, 0),
              T_UPTO("after", 0, 0), T_UPTO("prot", 0, 0), T_UPTO("flags", MM_KVA_ATOMIC, 0),
              T_UPTO("node", 0, 0), T_UPTO("policy", 0, 0), T_OUT}},
    {.name = "mm_kva_alloc",
     .note = "a node that is not there",
     .invoke = do_alloc,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(kva), T_GIVEN("request"), T_UPTO("len", PAGE, 0), T_UPTO("align", 0, 0),
              T_UPTO("lowest", 0, 0), T_UPTO("highest", 0, 0), T_UPTO("before", 0, 0),
              T_UPTO("after", 0, 0), T_UPTO("prot", 0, 0), T_UPTO("flags", 0, 0),
              T_UPTO("node", 1, 0), T_UPTO("policy", MM_NODE_REQUIRED, 0), T_OUT}},
    {.name = "mm_kva_alloc",
     .note = "the highest address below the lowest",
     .invoke = do_alloc,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(kva), T_GIVEN("request"), T_UPTO("len", PAGE, 0), T_UPTO("align", 0, 0),
              T_UPTO("lowest", 2 * PAGE, 0), T_UPTO("highest", PAGE, 0), T_UPTO("before", 0, 0),
              T_UPTO("after", 0, 0), T_UPTO("prot", 0, 0), T_UPTO("flags", 0, 0),
              T_UPTO("node", 0, 0), T_UPTO("policy", 0, 0), T_OUT}},
    {.name = "mm_kva_map",
     .invoke = do_map,
     .args = {MAP(T_OF("paddr", devices), MM_MEMTYPE_UC, 0)}},
    {.name = "mm_kva_map",
     .note = "with new tables",
     .invoke = do_map,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {EMPTY, T_UPTO("paddr", UINT64_C(0xfee00000), 0), T_UPTO("len", PAGE, 0),
              T_UPTO("prot", MM_PROT_RW, 0), T_UPTO("type", MM_MEMTYPE_UC, 0),
              T_UPTO("flags", 0, 0), T_OUT}},
    {.name = "mm_kva_map",
     .note = "with new tables, of what was put aside",
     .invoke = do_map,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {EMPTY, T_UPTO("paddr", UINT64_C(0xfee00000), 0), T_UPTO("len", PAGE, 0),
              T_UPTO("prot", MM_PROT_RW, 0), T_UPTO("type", MM_MEMTYPE_UC, 0),
              T_UPTO("flags", MM_KVA_ATOMIC, 0), T_OUT}},
    {.name = "mm_kva_map",
     .note = "with new pages of the pool",
     .invoke = do_map,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {EMPTY, T_UPTO("paddr", UINT64_C(0xfee00000), 0), T_UPTO("len", PAGE, 0),
              T_UPTO("prot", MM_PROT_RW, 0), T_UPTO("type", MM_MEMTYPE_UC, 0),
              T_UPTO("flags", 0, 0), T_OUT}},
    {.name = "mm_kva_map",
     .note = "tables that the root does not see",
     .invoke = do_map,
     .setup = short_sighted,
     .flags = T_BAD_ONLY,
     .args = {EMPTY, T_UPTO("paddr", UINT64_C(0xfee00000), 0), T_UPTO("len", PAGE, 0),
              T_UPTO("prot", MM_PROT_RW, 0), T_UPTO("type", MM_MEMTYPE_UC, 0),
              T_UPTO("flags", 0, 0), T_OUT}},
    {.name = "mm_kva_map",
     .note = "no room",
     .invoke = do_map,
     .flags = T_BAD_ONLY,
     .args = {EMPTY, T_UPTO("paddr", UINT64_C(0x200000000), 0), T_UPTO("len", T_KVA_LEN, 0),
              T_UPTO("prot", MM_PROT_RW, 0), T_UPTO("type", MM_MEMTYPE_UC, 0),
              T_UPTO("flags", 0, 0), T_OUT}},
    {.name = "mm_kva_map",
     .note = "no type but write-back",
     .invoke = do_map,
     .setup = no_pat,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_LIVE_(kva), T_UPTO("paddr", UINT64_C(0xfee00000), 0), T_UPTO("len", PAGE, 0),
              T_UPTO("prot", MM_PROT_RW, 0), T_UPTO("type", MM_MEMTYPE_WC, 0),
              T_UPTO("flags", 0, 0), T_OUT}},
    {.name = "mm_kva_map",
     .note = "the lock is held",
     .invoke = do_map,
     .setup = locked,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(kva), T_UPTO("paddr", UINT64_C(0xfee00000), 0), T_UPTO("len", PAGE, 0),
              T_UPTO("prot", MM_PROT_RW, 0), T_UPTO("type", MM_MEMTYPE_UC, 0),
              T_UPTO("flags", MM_KVA_ATOMIC, 0), T_OUT}},
    {.name = "mm_kva_free", .invoke = do_free, .panics = "kva", .args = {KVA, T_OF("at", memory)}},
    {.name = "mm_kva_purge", .invoke = do_purge, .setup = freed, .args = {KVA}},
    {.name = "mm_kva_reclaim", .invoke = do_reclaim, .setup = stack_freed, .args = {KVA}},
    {.name = "mm_kva_stack_alloc",
     .invoke = do_stack_alloc,
     .flags = T_CAN_FAIL,
     .args = {STACK(3 * PAGE, 0)}},
    {.name = "mm_kva_stack_alloc",
     .note = "with new tables",
     .invoke = do_stack_alloc,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {EMPTY, T_UPTO("len", PAGE, 0), T_UPTO("flags", 0, 0), T_OUT}},
    {.name = "mm_kva_stack_alloc",
     .note = "tables that the root does not see",
     .invoke = do_stack_alloc,
     .setup = short_sighted,
     .flags = T_BAD_ONLY,
     .args = {EMPTY, T_UPTO("len", PAGE, 0), T_UPTO("flags", 0, 0), T_OUT}},
    {.name = "mm_kva_stack_alloc",
     .note = "no room",
     .invoke = do_stack_alloc,
     .setup = no_room,
     .flags = T_BAD_ONLY,
     .args = {EMPTY, T_UPTO("len", 3 * PAGE, 0), T_UPTO("flags", 0, 0), T_OUT}},
    {.name = "mm_kva_stack_alloc",
     .note = "one that was kept",
     .invoke = do_stack_alloc,
     .setup = stack_freed,
     .flags = T_VARIANT,
     .args = {STACK(2 * PAGE, 0)}},
    {.name = "mm_kva_stack_alloc",
     .note = "the lock is held",
     .invoke = do_stack_alloc,
     .setup = locked,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(kva), T_UPTO("len", PAGE, 0), T_UPTO("flags", MM_KVA_ATOMIC, 0), T_OUT}},
    {.name = "mm_kva_stack_free",
     .invoke = do_stack_free,
     .panics = "kva",
     .args = {KVA, T_OF("at", stacks)}},
    {.name = "mm_kva_explain", .invoke = do_explain, .args = {KVA, T_OF("at", memory), T_OUT}},
    {.name = "mm_kva_explain",
     .note = "the lock is held",
     .invoke = do_explain,
     .setup = locked,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(kva), T_UPTO("at", T_KVA, 0), T_OUT}},
    {.name = "mm_kva_get_stats", .invoke = do_get_stats, .args = {KVA, T_OUT}},
    {.name = "mm_kva_check", .invoke = do_check, .args = {KVA}},
    {.name = "mm_kva_check",
     .note = "it contradicts itself",
     .invoke = do_check,
     .setup = corrupt,
     .flags = T_BAD_ONLY,
     .args = {KVA}},
    {.name = "mm_kva_dump", .invoke = do_dump, .args = {KVA}},
    {.name = "mm_page_source_kva", .invoke = do_source, .args = {KVA}},
    {.name = "mm_kva_guards_alloc",
     .invoke = do_guards_alloc,
     .flags = T_CAN_FAIL,
     .args = {T_LIVE_GONE(spare.kva, kva), T_U32("nr_pages", 2), T_OUT}},
    {.name = "mm_kva_guards_alloc",
     .note = "tables that the root does not see",
     .invoke = do_guards_alloc,
     .setup = short_sighted,
     .flags = T_BAD_ONLY,
     .args = {EMPTY, T_UPTO("nr_pages", 2, 0), T_OUT}},
    {.name = "mm_kva_guards_alloc",
     .note = "no room",
     .invoke = do_guards_alloc,
     .setup = no_room,
     .flags = T_BAD_ONLY,
     .args = {EMPTY, T_UPTO("nr_pages", 2, 0), T_OUT}},
    {.name = "mm_kva_guards_free",
     .invoke = do_guards_free,
     .setup = window,
     .panics = "kva",
     .args = {T_LIVE_GONE(spare.kva, kva), T_OF("base", windows)}},
};

const struct t_call_list t_calls_kva = T_CALL_LIST(kva);
