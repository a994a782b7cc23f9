// SPDX-License-Identifier: MIT
/**
 * Calls of the space room.
 */
#include "calls.h"

#include <string.h>

#define PAGE UINT64_C(4096)
#define RW   MM_PROT_RW

static struct mm_space *space_of(const uint64_t *a, unsigned i)
{
    return (struct mm_space *)(uintptr_t)a[i];
}

static int do_init(const uint64_t *a)
{
    struct mm_spaces_config config = t_world_spaces_config();

    config.frames = T_P(2);
    config.physmap = T_P(3);
    config.kernel = T_P(4);
    config.pool = T_P(5);
    config.kernel_range = mm_vrange(mm_vaddr(a[6]), a[7]);
    return (int)mm_spaces_init(T_P(0), a[1] == 0 ? NULL : &config);
}

static int do_destroy(const uint64_t *a)
{
    return (int)mm_spaces_destroy(T_P(0));
}

static int do_create(const uint64_t *a)
{
    return (int)mm_space_create(T_P(0), T_P(1));
}

static int do_kernel(const uint64_t *a)
{
    return T_NONZERO(mm_space_kernel(T_P(0)) != NULL);
}

static int do_get(const uint64_t *a)
{
    return T_MADE(mm_space_get(space_of(a, 0)));
}

static int do_put(const uint64_t *a)
{
    return T_MADE((void)mm_space_put(space_of(a, 0)));
}

static int do_activate(const uint64_t *a)
{
    return (int)mm_space_activate(space_of(a, 0));
}

static int do_table(const uint64_t *a)
{
    return T_NONZERO(mm_space_table(space_of(a, 0)) != NULL);
}

static int do_range(const uint64_t *a)
{
    return T_NONZERO(mm_space_range(space_of(a, 0)).len);
}

static int do_id(const uint64_t *a)
{
    return T_NONZERO(mm_space_id(space_of(a, 0)) != UINT64_MAX);
}

static int do_map(const uint64_t *a)
{
    struct mm_space_request request = {.at = {a[2]},
                                       .len = a[3],
                                       .prot = T_W32(4),
                                       .flags = T_W32(5),
                                       .align = a[6],
                                       .tag = a[7],
                                       .kind = (enum mm_region_kind)a[8]};

    return (int)mm_space_map(space_of(a, 0), a[1] == 0 ? NULL : &request, T_P(9));
}

static int do_map_physical(const uint64_t *a)
{
    struct mm_space_request request = {.at = {a[2]},
                                       .len = a[3],
                                       .prot = T_W32(4),
                                       .flags = T_W32(5),
                                       .align = a[6],
                                       .tag = a[7],
                                       .kind = (enum mm_region_kind)T_W32(8)};

    return (int)mm_space_map_physical(space_of(a, 0), a[1] == 0 ? NULL : &request, mm_paddr(a[10]),
                                      (mm_memtype_t)T_W32(11), T_P(9));
}

static int do_unmap(const uint64_t *a)
{
    return (int)mm_space_unmap(space_of(a, 0), T_RANGE(1));
}

static int do_protect(const uint64_t *a)
{
    return (int)mm_space_protect(space_of(a, 0), T_RANGE(1), T_W32(3));
}

static int do_find(const uint64_t *a)
{
    return (int)mm_space_find(space_of(a, 0), mm_vaddr(a[1]), T_P(2));
}

static int do_next(const uint64_t *a)
{
    return (int)mm_space_next(space_of(a, 0), mm_vaddr(a[1]), T_P(2));
}

static int do_fault(const uint64_t *a)
{
    struct mm_fault fault = {.at = {a[2]}, .flags = T_W32(3)};
    enum mm_fault_result *out = T_P(4);
    mm_status_t status = mm_space_fault(space_of(a, 0), a[1] == 0 ? NULL : &fault, out);

    if (status == MM_OK && *out == MM_FAULT_NO_MEMORY) {
        memset(t_w.out, 0x5a, sizeof(*out));
        return T_NO_PAGE;
    }
    return (int)status;
}

static int do_clone(const uint64_t *a)
{
    return (int)mm_space_clone(space_of(a, 0), T_P(1));
}

static int do_get_stats(const uint64_t *a)
{
    return (int)mm_space_get_stats(space_of(a, 0), T_P(1));
}

static int do_check(const uint64_t *a)
{
    return (int)mm_space_check(space_of(a, 0));
}

/* --- set-ups ----------------------------------------------------------------------------------- */

static void in_kernel_space(void)
{
    t_w.other = mm_space_kernel(&t_w.spaces);
}

static void at_its_limit(void)
{
    struct mm_space_limits limits = {.mapped_bytes = PAGE};

    (void)!mm_space_set_limits(t_w.lone, &limits);
}

/* Somebody else mapped a page where the kernel's space maps. */
static void kernel_occupied(void)
{
    in_kernel_space();
    (void)!mm_paging_map(&t_w.kernel, mm_vrange(mm_vaddr(T_ARENA + 64 * PAGE), PAGE),
                         mm_paddr(0x5000), RW, MM_MEMTYPE_WB, 0);
}

static void far_region(void)
{
    struct mm_space_request request = {
        .at = {UINT64_C(1) << 45}, .len = PAGE, .prot = RW, .flags = MM_SPACE_FIXED};
    mm_vaddr_t out;

    (void)!mm_space_map(t_w.lone, &request, &out);
}

static void lone_full(void)
{
    struct mm_vrange all = mm_space_range(t_w.lone);
    struct mm_space_request request = {
        .at = all.start, .len = all.len, .prot = RW, .flags = MM_SPACE_FIXED};
    mm_vaddr_t out;

    (void)!mm_space_map(t_w.lone, &request, &out);
}

static void lone_limited(void)
{
    const struct mm_space_limits limits = {.mapped_bytes = PAGE};

    (void)!mm_space_set_limits(t_w.lone, &limits);
}

static void device_taken(void)
{
    struct mm_space_request request = {.len = PAGE, .prot = RW};
    mm_vaddr_t out;

    (void)!mm_space_map_physical(t_w.space, &request, mm_paddr(T_DEVICE), MM_MEMTYPE_WT, &out);
}

/* All nodes that a cache can give without more pages are out. */
static void no_free_nodes(void)
{
    struct mm_cache *caches[] = {&t_w.spaces.region_cache, &t_w.spaces.bucket_cache,
                                 &t_w.spaces.claim_cache, &t_w.spaces.space_cache};
    struct mm_cache_stats stats;

    for (unsigned i = 0; i < sizeof(caches) / sizeof(caches[0]); i++) {
        while (mm_cache_get_stats(caches[i], &stats) == MM_OK && stats.nr_free != 0) {
            (void)mm_cache_alloc(caches[i]);
        }
    }
}

static void no_user_range(void)
{
    t_w.spaces.user_range.len = 0;
}

/* Tables of the lone space, and roots of new ones, cannot be reached. */
static void short_reach(void)
{
    struct mm_pagetable *tables[] = {mm_space_table(t_w.lone), mm_space_table(t_w.space),
                                     &t_w.kernel};

    for (unsigned i = 0; i < 3; i++) {
        tables[i]->physmap.first = mm_paddr(T_RAM_START);
        tables[i]->physmap.len = 0x1000;
    }
}

/* The kernel's root is somebody else's, and its tables allow no write. */
static void narrow_kernel(void)
{
    uint64_t *tables[4];
    struct mm_paging_config config = t_world_paging_config();
    struct mm_spaces_config spaces = t_world_spaces_config();

    for (unsigned i = 0; i < 4; i++) {
        tables[i] = t_ram_ptr(t_h.ram, t_w.list[i].raw * 4096);
        memset(tables[i], 0, 4096);
    }
    for (unsigned i = 0; i < 3; i++) { /* present, and no more */
        tables[i][i == 0 ? (T_ARENA >> 39) & 511 : 0] = t_w.list[i + 1].raw * 4096 | 1;
    }
    tables[3][0] = UINT64_C(0x90000000) | 1;
    (void)!mm_paging_adopt(&t_w.spare.system.kernel, &config, mm_pfn_addr(t_w.list[0]));
    spaces.kernel = &t_w.spare.system.kernel;
    spaces.kernel_range = mm_vrange(mm_vaddr(T_ARENA), 64 * PAGE);
    (void)!mm_spaces_init(&t_w.spare.system.spaces, &spaces);
    t_w.other = mm_space_kernel(&t_w.spare.system.spaces);
}

static void kernel_reference(void)
{
    mm_space_get(mm_space_kernel(&t_w.spaces));
}

static void corrupt(void)
{
    mm_space_table(t_w.space)->nr_leaves[0]++;
}

/* --- values ------------------------------------------------------------------------------------ */

static unsigned physmaps(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)&t_w.physmap;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)&t_w.physmap_ops;
    v[3] = (uint64_t)(uintptr_t)&t_w.physmap_short;
    return 4;
}

static unsigned allocators(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)&t_w.frames;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)&t_w.spare.frames; /* without counts */
    v[3] = (uint64_t)(uintptr_t)&t_w.gone.frames;
    v[4] = (uint64_t)(uintptr_t)&t_w.fresh.frames;
    return 5;
}

static unsigned kernels(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)&t_w.kernel;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)&t_w.user;
    v[3] = (uint64_t)(uintptr_t)&t_w.gone.pt;
    v[4] = (uint64_t)(uintptr_t)&t_w.fresh.pt;
    return 5;
}

/* Populating takes memory; the other values of the house may be in the way of each other. */
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
                                   T_SPACE_AT + 4 * PAGE + 1,
                                   T_SPACE_AT + 64 * PAGE, /* a guard */
                                   T_USER_LEN - 2 * PAGE,
                                   T_USER_LEN - PAGE,
                                   T_USER_LEN - 1,
                                   T_USER_LEN,
                                   UINT64_MAX - T_USER_LEN,
                                   (UINT64_C(1) << 56) - 1,
                                   (UINT64_C(1) << 56) + 1,
                                   T_ARENA,
                                   T_ARENA + 4 * PAGE,
                                   UINT64_MAX - PAGE + 1,
                                   UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

#define SPACES T_LIVE_GONE(spaces, spaces)
#define SPACE  T_OF("space", spaces)
#define ALL_FAULTS                                                                                 \
    (MM_FAULT_PRESENT | MM_FAULT_WRITE | MM_FAULT_EXEC | MM_FAULT_USER | MM_FAULT_RESERVED |       \
     MM_FAULT_PKEY | MM_FAULT_OTHER)
#define REQUEST_OF(at, len, flags, kind)                                                           \
    T_GIVEN("request"), T_NUM("at", at), T_NUM("len", len), T_BITS("prot", RW, 7u),                \
        T_BITS("flags", flags, MM_SPACE_FLAGS_ALL), T_NUM("align", 0), T_NUM("tag", 0), kind,      \
        T_OUT
#define REQUEST(at, len, flags)                                                                    \
    REQUEST_OF(at, len, flags, T_ENUM("kind", MM_REGION_DATA, MM_REGION_HEAP + 1))

#define KIND         T_ENUM("kind", MM_REGION_DEVICE, MM_REGION_KINDS)
#define TYPE         T_ENUM("type", MM_MEMTYPE_UC, MM_MEMTYPE_COUNT)
#define PADDR(paddr) T_NUM("paddr", paddr)
#define DEVICE(space, at, flags, paddr)                                                            \
    T_VAR(space), REQUEST_OF(at, 2 * PAGE, flags, KIND), PADDR(paddr), TYPE

/* The tables have a tlb, in which no CPU is online. */
static void not_online(void)
{
    mm_space_table(t_w.space)->tlb = &t_w.tlb;
}

static const struct t_call space[] = {
    {.name = "mm_spaces_init",
     .invoke = do_init,
     .flags = T_CAN_FAIL,
     .args = {T_FRESH_(spaces, spaces), T_GIVEN("config"), T_OF("frames", allocators),
              T_OF("physmap", physmaps), T_OF("kernel", kernels), T_LIVE_GONE(pool, pool),
              T_NUM("kernel_range", T_TOP), T_NUM("kernel_range.len", 4 * PAGE)}},
    {.name = "mm_spaces_init",
     .note = "many CPUs",
     .invoke = do_init,
     .setup = t_world_many_cpus,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {T_FRESH_(spaces, spaces), T_GIVEN("config"), T_OF("frames", allocators),
              T_OF("physmap", physmaps), T_OF("kernel", kernels), T_LIVE_(spare.pool),
              T_NUM("kernel_range", T_TOP), T_NUM("kernel_range.len", 4 * PAGE)}},
    {.name = "mm_spaces_destroy",
     .invoke = do_destroy,
     .args = {T_LIVE_GONE(spare.spaces, spaces)}},
    {.name = "mm_spaces_destroy",
     .note = "spaces are alive",
     .invoke = do_destroy,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(spaces)}},
    {.name = "mm_space_create",
     .invoke = do_create,
     .setup = no_free_nodes,
     .flags = T_CAN_FAIL,
     .args = {SPACES, T_OUT}},
    {.name = "mm_space_create",
     .note = "no user range",
     .invoke = do_create,
     .setup = no_user_range,
     .flags = T_BAD_ONLY,
     .args = {SPACES, T_OUT}},
    {.name = "mm_space_create",
     .note = "a root beyond reach",
     .invoke = do_create,
     .setup = short_reach,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {SPACES, T_OUT}},
    {.name = "mm_space_kernel", .invoke = do_kernel, .args = {SPACES}},
    {.name = "mm_space_get", .invoke = do_get, .panics = "space", .args = {T_OF("space", spaces)}},
    {.name = "mm_space_get",
     .note = "the kernel's",
     .invoke = do_get,
     .setup = kernel_reference,
     .flags = T_VARIANT,
     .args = {T_OF("space", spaces)}},
    {.name = "mm_space_put", .invoke = do_put, .panics = "space", .args = {T_OF("space", spaces)}},
    {.name = "mm_space_activate", .invoke = do_activate, .args = {T_VAR(space)}},
    {.name = "mm_space_activate",
     .note = "on a CPU that is not online",
     .invoke = do_activate,
     .setup = not_online,
     .flags = T_BAD_ONLY,
     .args = {T_VAR(space)}},
    {.name = "mm_space_table", .invoke = do_table, .args = {T_VAR(space)}},
    {.name = "mm_space_range", .invoke = do_range, .args = {T_VAR(space)}},
    {.name = "mm_space_id", .invoke = do_id, .args = {T_VAR(space)}},
    {.name = "mm_space_map",
     .invoke = do_map,
     .setup = no_free_nodes,
     .flags = T_CAN_FAIL,
     .args = {T_VAR(lone), REQUEST(T_SPACE_FREE, 3 * PAGE, MM_SPACE_FIXED)}},
    {.name = "mm_space_map",
     .note = "populated, over two tables",
     .invoke = do_map,
     .setup = no_free_nodes,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {T_VAR(lone),
              REQUEST(MM_SIZE_1G - 3 * PAGE, 6 * PAGE, MM_SPACE_FIXED | MM_SPACE_POPULATE)}},
    {.name = "mm_space_map",
     .note = "beside what is there",
     .invoke = do_map,
     .args = {T_VAR(space), REQUEST(T_SPACE_AT + 8 * PAGE, 2 * PAGE, 0)}},
    {.name = "mm_space_map",
     .note = "over what is there",
     .invoke = do_map,
     .setup = no_free_nodes,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {T_VAR(space), REQUEST(T_SPACE_AT + 2 * PAGE, 3 * PAGE,
                                    MM_SPACE_FIXED | MM_SPACE_REPLACE | MM_SPACE_POPULATE)}},
    {.name = "mm_space_map",
     .note = "more than its limit",
     .invoke = do_map,
     .setup = at_its_limit,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_VAR(lone), REQUEST(T_SPACE_FREE, 2 * PAGE, MM_SPACE_FIXED)}},
    {.name = "mm_space_map",
     .note = "in the kernel's space",
     .invoke = do_map,
     .setup = in_kernel_space,
     .flags = T_CAN_FAIL,
     .args = {T_VAR(other), REQUEST(T_ARENA + 64 * PAGE, 3 * PAGE, MM_SPACE_FIXED)}},
    {.name = "mm_space_map",
     .note = "where somebody mapped a page",
     .invoke = do_map,
     .setup = kernel_occupied,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_VAR(other), REQUEST(T_ARENA + 63 * PAGE, 3 * PAGE, MM_SPACE_FIXED)}},
    {.name = "mm_space_map",
     .note = "tables beyond reach",
     .invoke = do_map,
     .setup = short_reach,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_VAR(lone), REQUEST(T_SPACE_FREE, 2 * PAGE, MM_SPACE_FIXED | MM_SPACE_POPULATE)}},
    {.name = "mm_space_map",
     .note = "a table of others forbids it",
     .invoke = do_map,
     .setup = narrow_kernel,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_VAR(other), REQUEST(T_ARENA + PAGE, 2 * PAGE, MM_SPACE_FIXED)}},
    {.name = "mm_space_map_physical",
     .invoke = do_map_physical,
     .setup = no_free_nodes,
     .flags = T_CAN_FAIL,
     .args = {T_OF("space", spaces), REQUEST_OF(T_SPACE_FREE, 3 * PAGE, MM_SPACE_FIXED, KIND),
              PADDR(T_DEVICE), TYPE}},
    {.name = "mm_space_map_physical",
     .note = "instead of what is there",
     .invoke = do_map_physical,
     .setup = no_free_nodes,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {T_VAR(space),
              REQUEST_OF(T_SPACE_AT + 3 * PAGE, 2 * PAGE, MM_SPACE_FIXED | MM_SPACE_REPLACE, KIND),
              PADDR(T_DEVICE + 16 * PAGE), TYPE}},
    {.name = "mm_space_map_physical",
     .note = "tables beyond reach",
     .invoke = do_map_physical,
     .setup = short_reach,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {DEVICE(lone, T_SPACE_FREE, MM_SPACE_FIXED, T_DEVICE)}},
    {.name = "mm_space_map_physical",
     .note = "something is there",
     .invoke = do_map_physical,
     .flags = T_BAD_ONLY,
     .args = {DEVICE(space, T_SPACE_AT, MM_SPACE_FIXED, T_DEVICE)}},
    {.name = "mm_space_map_physical",
     .note = "no room",
     .invoke = do_map_physical,
     .setup = lone_full,
     .flags = T_BAD_ONLY,
     .args = {DEVICE(lone, T_SPACE_FREE, 0, T_DEVICE)}},
    {.name = "mm_space_map_physical",
     .note = "memory, and not as memory",
     .invoke = do_map_physical,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {DEVICE(lone, T_SPACE_FREE, MM_SPACE_FIXED, T_RAM_START)}},
    {.name = "mm_space_map_physical",
     .note = "more than is allowed",
     .invoke = do_map_physical,
     .setup = lone_limited,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {DEVICE(lone, T_SPACE_FREE, MM_SPACE_FIXED, T_DEVICE)}},
    {.name = "mm_space_map_physical",
     .note = "mapped with another type",
     .invoke = do_map_physical,
     .setup = device_taken,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {DEVICE(lone, T_SPACE_FREE, MM_SPACE_FIXED, T_DEVICE)}},
    {.name = "mm_space_unmap",
     .invoke = do_unmap,
     .args = {SPACE, T_OF("start", user_ats), T_NUM("len", 8 * PAGE)}},
    {.name = "mm_space_unmap",
     .note = "the middle of a region",
     .invoke = do_unmap,
     .setup = no_free_nodes,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {SPACE, T_NUM("start", T_SPACE_AT + 3 * PAGE), T_NUM("len", 2 * PAGE)}},
    {.name = "mm_space_protect",
     .invoke = do_protect,
     .args = {SPACE, T_OF("start", user_ats), T_NUM("len", 8 * PAGE),
              T_BITS("prot", MM_PROT_READ, 7u)}},
    {.name = "mm_space_protect",
     .note = "the middle of a region",
     .invoke = do_protect,
     .setup = no_free_nodes,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {SPACE, T_NUM("start", T_SPACE_AT + 3 * PAGE), T_NUM("len", 2 * PAGE),
              T_BITS("prot", MM_PROT_READ, 7u)}},
    {.name = "mm_space_find",
     .invoke = do_find,
     .args = {T_VAR(space), T_OF("at", user_ats), T_OUT}},
    {.name = "mm_space_next",
     .invoke = do_next,
     .args = {T_VAR(space), T_OF("from", user_ats), T_OUT}},
    {.name = "mm_space_fault",
     .invoke = do_fault,
     .flags = T_CAN_FAIL,
     .args = {SPACE, T_GIVEN("fault"), T_OF("at", user_ats),
              T_BITS("flags", MM_FAULT_WRITE | MM_FAULT_USER | MM_FAULT_PRESENT, ALL_FAULTS),
              T_OUT}},
    {.name = "mm_space_fault",
     .note = "the first page of a far region",
     .invoke = do_fault,
     .setup = far_region,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {T_VAR(lone), T_GIVEN("fault"), T_NUM("at", UINT64_C(1) << 45),
              T_BITS("flags", MM_FAULT_WRITE | MM_FAULT_USER, ALL_FAULTS), T_OUT}},
    {.name = "mm_space_clone",
     .invoke = do_clone,
     .setup = no_free_nodes,
     .flags = T_CAN_FAIL,
     .args = {SPACE, T_OUT}},
    {.name = "mm_space_clone",
     .note = "tables beyond reach",
     .invoke = do_clone,
     .setup = short_reach,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_VAR(space), T_OUT}},
    {.name = "mm_space_get_stats", .invoke = do_get_stats, .args = {SPACE, T_OUT}},
    {.name = "mm_space_check", .invoke = do_check, .args = {SPACE}},
    {.name = "mm_space_check",
     .note = "it contradicts itself",
     .invoke = do_check,
     .setup = corrupt,
     .flags = T_BAD_ONLY,
     .args = {SPACE}},
};

const struct t_call_list t_calls_space = T_CALL_LIST(space);
