// SPDX-License-Identifier: MIT
/**
 * Calls of the space room: what changes mappings, advice, and the break.
 */
#include "calls.h"

#define PAGE UINT64_C(4096)
#define RW   MM_PROT_RW

static struct mm_space *space_of(const uint64_t *a, unsigned i)
{
    return (struct mm_space *)(uintptr_t)a[i];
}

static int do_remap(const uint64_t *a)
{
    return (int)mm_space_remap(space_of(a, 0), T_RANGE(1), a[3], T_W32(4), mm_vaddr(a[5]), T_P(6));
}

static int do_advise(const uint64_t *a)
{
    return (int)mm_space_advise(space_of(a, 0), T_RANGE(1), (enum mm_space_advice)a[3]);
}

static int do_reclaim(const uint64_t *a)
{
    return (int)mm_space_reclaim(space_of(a, 0), a[1], T_P(2));
}

static int do_resident(const uint64_t *a)
{
    return (int)mm_space_resident(space_of(a, 0), T_RANGE(1), T_P(3));
}

static int do_wire(const uint64_t *a)
{
    return (int)mm_space_wire(space_of(a, 0), T_RANGE(1));
}

static int do_unwire(const uint64_t *a)
{
    return (int)mm_space_unwire(space_of(a, 0), T_RANGE(1));
}

static int do_set_brk_start(const uint64_t *a)
{
    return (int)mm_space_set_brk_start(space_of(a, 0), mm_vaddr(a[1]));
}

static int do_brk(const uint64_t *a)
{
    return (int)mm_space_brk(space_of(a, 0), mm_vaddr(a[1]), T_P(2));
}

static int do_sbrk(const uint64_t *a)
{
    return (int)mm_space_sbrk(space_of(a, 0), (int64_t)a[1], T_P(2));
}

/* --- set-ups ----------------------------------------------------------------------------------- */

/* All nodes that the cache can give without more pages are out. */
static void no_free_nodes(void)
{
    struct mm_cache *cache = &t_w.spaces.region_cache;
    struct mm_cache_stats stats;

    while (mm_cache_get_stats(cache, &stats) == MM_OK && stats.nr_free != 0) {
        (void)mm_cache_alloc(cache);
    }
}

static void put_region(struct mm_space *space, uint64_t at, uint64_t len, uint32_t flags)
{
    struct mm_space_request request = {
        .at = {at}, .len = len, .prot = RW, .flags = flags | MM_SPACE_FIXED};
    mm_vaddr_t out;

    (void)!mm_space_map(space, &request, &out);
}

/* Neither more regions nor more pages. */
static void under_limits(struct mm_space *space)
{
    struct mm_space_limits limits;
    struct mm_space_stats stats;

    (void)!mm_space_get_stats(space, &stats);
    limits.mapped_bytes = stats.mapped_bytes;
    limits.resident_bytes = stats.resident_bytes;
    (void)!mm_space_set_limits(space, &limits);
}

static void limited(void)
{
    put_region(t_w.space, T_SPACE_FREE, 4 * PAGE, 0);
    under_limits(t_w.space);
}

static void two_regions(void)
{
    (void)!mm_space_protect(t_w.space, mm_vrange(mm_vaddr(T_SPACE_AT + 4 * PAGE), 4 * PAGE),
                            MM_PROT_READ);
}

static void untouched(void)
{
    put_region(t_w.space, T_SPACE_FREE, 4 * PAGE, 0);
}

static void wired(void)
{
    put_region(t_w.space, T_SPACE_FREE, 4 * PAGE, MM_SPACE_WIRED);
    no_free_nodes();
}

static void given_up(void)
{
    put_region(t_w.space, T_SPACE_FREE, 4 * PAGE, MM_SPACE_POPULATE);
    (void)!mm_space_advise(t_w.space, mm_vrange(mm_vaddr(T_SPACE_FREE), 4 * PAGE), MM_ADVICE_FREE);
}

/* Frames are zeroed one at a time, through ops that fail. */
static void zeroed_by_ops(void)
{
    t_w.frames.physmap = t_w.physmap_ops;
    no_free_nodes();
}

static void heap(void)
{
    (void)!mm_space_set_brk_start(t_w.lone, mm_vaddr(T_SPACE_FREE));
    no_free_nodes();
}

static void heap_in_use(void)
{
    mm_vaddr_t out;

    (void)!mm_space_set_brk_start(t_w.lone, mm_vaddr(T_SPACE_FREE));
    (void)!mm_space_brk(t_w.lone, mm_vaddr(T_SPACE_FREE + 2 * PAGE), &out);
    put_region(t_w.lone, T_SPACE_FREE + 16 * PAGE, PAGE, 0);
}

/* Two wired pages below 1 GiB, that grow over two tables. */
static void wired_below_tables(void)
{
    put_region(t_w.lone, MM_SIZE_1G - 2 * PAGE, 2 * PAGE, MM_SPACE_WIRED);
    no_free_nodes();
}

static void wired_heap(void)
{
    mm_vaddr_t out;

    (void)!mm_space_set_brk_start(t_w.lone, mm_vaddr(MM_SIZE_1G - 2 * PAGE));
    (void)!mm_space_brk(t_w.lone, mm_vaddr(MM_SIZE_1G), &out);
    (void)!mm_space_wire(t_w.lone, mm_vrange(mm_vaddr(MM_SIZE_1G - 2 * PAGE), 2 * PAGE));
    no_free_nodes();
}

static void limited_heap(void)
{
    heap_in_use();
    under_limits(t_w.lone);
}

/* A large leaf of a device where the heap was. */
static void device_in_heap(void)
{
    struct mm_space_request request = {
        .at = {T_SPACE_FREE}, .len = MM_SIZE_2M, .prot = RW, .flags = MM_SPACE_FIXED};
    mm_vaddr_t out;

    heap_in_use();
    (void)!mm_space_unmap(t_w.lone, mm_vrange(mm_vaddr(T_SPACE_FREE), 32 * PAGE));
    for (unsigned i = 1; i <= 8; i++) { /* not more at once than there is memory */
        (void)!mm_space_brk(t_w.lone, mm_vaddr(T_SPACE_FREE + i * MM_SIZE_2M / 8), &out);
    }
    (void)!mm_space_unmap(t_w.lone, mm_vrange(mm_vaddr(T_SPACE_FREE), MM_SIZE_2M));
    (void)!mm_space_map_physical(t_w.lone, &request, mm_paddr(UINT64_C(0xe0000000)), MM_MEMTYPE_UC,
                                 &out);
    zeroed_by_ops();
}

/* --- values ------------------------------------------------------------------------------------ */

static unsigned spaces(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)t_w.space;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)mm_space_kernel(&t_w.spaces);
    v[3] = (uint64_t)(uintptr_t)t_w.lone;
    return 4;
}

static unsigned heaps(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)t_w.lone;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)mm_space_kernel(&t_w.spaces);
    v[3] = (uint64_t)(uintptr_t)t_w.space;
    return 4;
}

#define SPACE    T_OF("space", spaces)
#define HEAP     T_OF("space", heaps)
#define AT(at)   T_NUM("start", at)
#define LEN(len) T_NUM("len", len)
#define REMAP(len, new_len, flags, to)                                                             \
    SPACE, AT(T_SPACE_AT), LEN(len), T_NUM("new_len", new_len),                                    \
        T_BITS("flags", flags, MM_SPACE_REMAP_FLAGS_ALL), T_NUM("to", to), T_OUT
#define ADVISE(at, len, advice) SPACE, AT(at), LEN(len), T_ENUM("advice", advice, MM_ADVICE_COUNT)
#define THERE                   (MM_SPACE_REMAP_MOVE | MM_SPACE_REMAP_FIXED)

/* What is done of a part when the call ends with an error. */
#define PARTS_OF_ADVICE                                                                            \
    (T_BIT(MM_ERR_NOT_MAPPED) | T_BIT(MM_ERR_PERMISSION_DENIED) | T_BIT(MM_ERR_LIMIT))
#define PARTS_OF_WIRE (T_BIT(MM_ERR_NOT_MAPPED) | T_BIT(MM_ERR_LIMIT))

/* With these the break is told, and has not moved. */
#define BREAK_TOLD                                                                                 \
    (T_BIT(MM_ERR_INVALID_ADDRESS) | T_BIT(MM_ERR_ALREADY_MAPPED) | T_BIT(MM_ERR_LIMIT) |          \
     T_BIT(MM_ERR_NO_MEMORY) | T_BIT(MM_ERR_FAULT))

static const struct t_call space_map[] = {
    {.name = "mm_space_remap",
     .invoke = do_remap,
     .args = {REMAP(8 * PAGE, 12 * PAGE, MM_SPACE_REMAP_MOVE, 0)}},
    {.name = "mm_space_remap",
     .note = "moved, where there is room",
     .invoke = do_remap,
     .setup = no_free_nodes,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {REMAP(8 * PAGE, 20 * PAGE, MM_SPACE_REMAP_MOVE, 0)}},
    {.name = "mm_space_remap",
     .note = "a part, over others, over two tables",
     .invoke = do_remap,
     .setup = no_free_nodes,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {REMAP(4 * PAGE, 6 * PAGE, THERE, MM_SIZE_1G - 2 * PAGE)}},
    {.name = "mm_space_remap",
     .note = "frames that cannot be zeroed",
     .invoke = do_remap,
     .setup = zeroed_by_ops,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {REMAP(8 * PAGE, 20 * PAGE, MM_SPACE_REMAP_MOVE, 0)}},
    {.name = "mm_space_remap",
     .note = "over what is there",
     .invoke = do_remap,
     .flags = T_CAN_FAIL,
     .args = {REMAP(4 * PAGE, 4 * PAGE, THERE, T_SPACE_AT + 14 * PAGE)}},
    {.name = "mm_space_remap",
     .note = "wired, over two tables",
     .invoke = do_remap,
     .setup = wired_below_tables,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {T_VAR(lone), AT(MM_SIZE_1G - 2 * PAGE), LEN(2 * PAGE), T_NUM("new_len", 5 * PAGE),
              T_BITS("flags", 0, MM_SPACE_REMAP_FLAGS_ALL), T_NUM("to", 0), T_OUT}},
    {.name = "mm_space_remap",
     .note = "in several regions",
     .invoke = do_remap,
     .setup = two_regions,
     .flags = T_BAD_ONLY,
     .args = {REMAP(8 * PAGE, 20 * PAGE, MM_SPACE_REMAP_MOVE, 0)}},
    {.name = "mm_space_remap",
     .note = "under a limit",
     .invoke = do_remap,
     .setup = limited,
     .flags = T_BAD_ONLY,
     .args = {REMAP(8 * PAGE, 12 * PAGE, MM_SPACE_REMAP_MOVE, 0)}},
    {.name = "mm_space_advise",
     .invoke = do_advise,
     .partial = PARTS_OF_ADVICE,
     .args = {ADVISE(T_SPACE_AT, 8 * PAGE, MM_ADVICE_DONT_NEED)}},
    {.name = "mm_space_advise",
     .note = "large leaves for the middle of a region",
     .invoke = do_advise,
     .setup = no_free_nodes,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {ADVISE(T_SPACE_AT + 2 * PAGE, 2 * PAGE, MM_ADVICE_HUGE)}},
    {.name = "mm_space_advise",
     .note = "pages are put there",
     .invoke = do_advise,
     .setup = untouched,
     .flags = T_CAN_FAIL | T_VARIANT | T_PARTIAL,
     .args = {ADVISE(T_SPACE_FREE, 4 * PAGE, MM_ADVICE_POPULATE_WRITE)}},
    {.name = "mm_space_advise",
     .note = "under a limit",
     .invoke = do_advise,
     .setup = limited,
     .flags = T_BAD_ONLY,
     .partial = PARTS_OF_ADVICE,
     .args = {ADVISE(T_SPACE_FREE, 4 * PAGE, MM_ADVICE_POPULATE_WRITE)}},
    {.name = "mm_space_advise",
     .note = "of a wired region",
     .invoke = do_advise,
     .setup = wired,
     .flags = T_BAD_ONLY,
     .partial = PARTS_OF_ADVICE,
     .args = {ADVISE(T_SPACE_FREE, 4 * PAGE, MM_ADVICE_FREE)}},
    {.name = "mm_space_reclaim",
     .invoke = do_reclaim,
     .setup = given_up,
     .args = {SPACE, T_NUM("nr_pages", 3), T_OUT}},
    {.name = "mm_space_resident",
     .invoke = do_resident,
     .args = {SPACE, AT(T_SPACE_AT), LEN(8 * PAGE), T_OUT}},
    {.name = "mm_space_wire",
     .invoke = do_wire,
     .flags = T_CAN_FAIL | T_PARTIAL,
     .partial = PARTS_OF_WIRE,
     .args = {SPACE, AT(T_SPACE_AT), LEN(8 * PAGE)}},
    {.name = "mm_space_wire",
     .note = "the middle of a region",
     .invoke = do_wire,
     .setup = no_free_nodes,
     .flags = T_CAN_FAIL | T_PARTIAL | T_VARIANT,
     .args = {SPACE, AT(T_SPACE_AT + 2 * PAGE), LEN(2 * PAGE)}},
    {.name = "mm_space_wire",
     .note = "under a limit",
     .invoke = do_wire,
     .setup = limited,
     .flags = T_BAD_ONLY,
     .partial = PARTS_OF_WIRE,
     .args = {SPACE, AT(T_SPACE_FREE), LEN(4 * PAGE)}},
    {.name = "mm_space_unwire",
     .invoke = do_unwire,
     .partial = T_BIT(MM_ERR_NOT_MAPPED),
     .args = {SPACE, AT(T_SPACE_AT), LEN(8 * PAGE)}},
    {.name = "mm_space_unwire",
     .note = "the middle of a region",
     .invoke = do_unwire,
     .setup = wired,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {SPACE, AT(T_SPACE_FREE + PAGE), LEN(2 * PAGE)}},
    {.name = "mm_space_set_brk_start",
     .invoke = do_set_brk_start,
     .args = {HEAP, T_NUM("start", T_SPACE_FREE + 1)}},
    {.name = "mm_space_set_brk_start",
     .note = "of a heap in use",
     .invoke = do_set_brk_start,
     .setup = heap_in_use,
     .flags = T_BAD_ONLY,
     .args = {HEAP, T_NUM("start", T_SPACE_FREE)}},
    {.name = "mm_space_brk",
     .invoke = do_brk,
     .setup = heap,
     .flags = T_CAN_FAIL,
     .tells = BREAK_TOLD,
     .args = {HEAP, T_NUM("at", T_SPACE_FREE + 5 * PAGE), T_OUT}},
    {.name = "mm_space_brk",
     .note = "of a heap in use",
     .invoke = do_brk,
     .setup = heap_in_use,
     .tells = BREAK_TOLD,
     .args = {HEAP, T_NUM("at", T_SPACE_FREE + 5 * PAGE), T_OUT}},
    {.name = "mm_space_brk",
     .note = "under a limit",
     .invoke = do_brk,
     .setup = limited_heap,
     .flags = T_BAD_ONLY,
     .tells = BREAK_TOLD,
     .args = {HEAP, T_NUM("at", T_SPACE_FREE + 5 * PAGE), T_OUT}},
    {.name = "mm_space_brk",
     .note = "of a wired heap",
     .invoke = do_brk,
     .setup = wired_heap,
     .flags = T_CAN_FAIL | T_VARIANT,
     .tells = BREAK_TOLD | T_BIT(MM_ERR_IO),
     .args = {HEAP, T_NUM("at", MM_SIZE_1G + 3 * PAGE), T_OUT}},
    {.name = "mm_space_brk",
     .note = "a device is in it",
     .invoke = do_brk,
     .setup = device_in_heap,
     .flags = T_CAN_FAIL | T_VARIANT,
     .tells = BREAK_TOLD,
     .args = {HEAP, T_NUM("at", T_SPACE_FREE + 5 * PAGE), T_OUT}},
    {.name = "mm_space_sbrk",
     .invoke = do_sbrk,
     .setup = heap,
     .flags = T_CAN_FAIL,
     .args = {HEAP, T_NUM("by", 5 * PAGE), T_OUT}},
    {.name = "mm_space_sbrk",
     .note = "of a heap in use",
     .invoke = do_sbrk,
     .setup = heap_in_use,
     .args = {HEAP, T_NUM("by", 5 * PAGE), T_OUT}},
    {.name = "mm_space_sbrk",
     .note = "something is in the way",
     .invoke = do_sbrk,
     .setup = heap_in_use,
     .flags = T_BAD_ONLY,
     .args = {HEAP, T_NUM("by", 20 * PAGE), T_OUT}},
    {.name = "mm_space_sbrk",
     .note = "under a limit",
     .invoke = do_sbrk,
     .setup = limited_heap,
     .flags = T_BAD_ONLY,
     .args = {HEAP, T_NUM("by", 5 * PAGE), T_OUT}},
    {.name = "mm_space_sbrk",
     .note = "of a wired heap",
     .invoke = do_sbrk,
     .setup = wired_heap,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {HEAP, T_NUM("by", 3 * PAGE), T_OUT}},
    {.name = "mm_space_sbrk",
     .note = "a device is in it",
     .invoke = do_sbrk,
     .setup = device_in_heap,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {HEAP, T_NUM("by", -(uint64_t)PAGE), T_OUT}},
};

const struct t_call_list t_calls_space_map = T_CALL_LIST(space_map);
