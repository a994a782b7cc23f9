// SPDX-License-Identifier: MIT
/**
 * Calls of the room system.
 */
#include "calls.h"

#include <string.h>

#define PAGE UINT64_C(4096)

/* --- system ------------------------------------------------------------------------------------ */

static int do_system_init(const uint64_t *a)
{
    struct mm_system_config config = t_world_system_config();
    struct mm_vrange ranges[MM_PAGING_MAX_KERNEL_RANGES + 1];
    struct mm_user_ops ops = t_world_user_ops;

    config.map = T_P(2);
    config.physmap = T_P(3);
    config.mapped = mm_prange(mm_paddr(0), a[4]);
    config.backend.ops = a[5] == 0 ? NULL : config.backend.ops;
    config.sections = T_P(6);
    config.nr_kernel_ranges = T_W32(7);
    if (config.nr_kernel_ranges <= MM_PAGING_MAX_KERNEL_RANGES + 1) {
        for (uint32_t i = 0; i < MM_PAGING_MAX_KERNEL_RANGES + 1; i++) {
            ranges[i] = i < 3 ? t_w.sys_ranges[i]
                              : mm_vrange(mm_vaddr(UINT64_C(0xffffd00000000000) + i * PAGE), PAGE);
        }
        config.kernel_ranges = ranges;
    }
    config.nr_cpus = T_W32(8);
    config.user = mm_vrange(mm_vaddr(0), a[9]);
    config.kernel_space = mm_vrange(mm_vaddr(a[10]), a[11]);
    if (a[12] == 0) {
        ops.clear = NULL;
        config.user_ops = &ops;
    }
    return (int)mm_system_init(T_P(0), a[1] == 0 ? NULL : &config);
}

static int do_system_init_arena(const uint64_t *a)
{
    static const struct mm_kva_ops no_ops = {NULL, NULL, NULL};
    struct mm_system_config config = t_world_system_config();

    config.kernel_ranges = t_w.sys_ranges;
    config.arena = (struct mm_system_arena){.range = T_RANGE(2),
                                            .large_size = a[4],
                                            .percpu = T_P(5),
                                            .percpu_len = a[6],
                                            .guard_pages = T_W32(7),
                                            .nr_reserve_tables = T_W32(8),
                                            .ops = a[9] == 0 ? &no_ops : NULL};
    return (int)mm_system_init(T_P(0), a[1] == 0 ? NULL : &config);
}

/* The ops of samples are never called: nothing is allocated. */
static mm_status_t no_page(void *ctx, void *page)
{
    (void)ctx;
    (void)page;
    return MM_ERR_NO_MEMORY;
}

static void no_close(void *ctx, void *page)
{
    (void)ctx;
    (void)page;
}

static int do_system_init_heap(const uint64_t *a)
{
    struct mm_system_config config = t_world_system_config();
    struct mm_heap_guard_ops ops = {.open = a[6] != 0 ? no_page : NULL, .close = no_close};

    config.heap = (struct mm_heap_config){.flags = T_W32(2),
                                          .tier = (enum mm_heap_tier)T_W32(3),
                                          .quarantine = T_W32(4),
                                          .sample_every = T_W32(5),
                                          .guards = {&ops, NULL, a[7], a[8]},
                                          .nr_reserve = T_W32(9),
                                          .reserve_size = a[10],
                                          .large = T_P(11),
                                          .large_size = a[12]};
    return (int)mm_system_init(T_P(0), a[1] == 0 ? NULL : &config);
}

static int do_system_destroy(const uint64_t *a)
{
    return (int)mm_system_destroy(T_P(0));
}

static int do_system_check(const uint64_t *a)
{
    return (int)mm_system_check(T_P(0));
}

/* --- set-ups ----------------------------------------------------------------------------------- */

static void system_up(void)
{
    struct mm_system_config config = t_world_system_config();

    (void)!mm_system_init(&t_w.spare.system, &config);
}

/* With a tlb that was never made, or that has a kernel root; and with one. */
static void system_without_tlb(void)
{
    t_w.use_tlb = &t_w.never.tlb;
}

static void system_with_a_tlb_in_use(void)
{
    t_w.use_tlb = &t_w.tlb;
    t_w.tlb.kernel = &t_w.kernel;
}

static void system_with_tlb(void)
{
    t_w.use_tlb = &t_w.tlb;
}

/* Another CPU is online. */
static void system_of_two(void)
{
    system_with_tlb();
    system_up();
    t_w.this_cpu = 1;
    (void)!mm_tlb_online(&t_w.tlb);
    t_w.this_cpu = 0;
}

static void system_in_use(void)
{
    system_up();
    (void)mm_heap_alloc(&t_w.spare.system.heap, 100);
}

/* One with an arena, in which something is not given back; or its areas alone. */
static void system_with_arena(void)
{
    struct mm_system_config config = t_world_system_config();

    config.kernel_ranges = t_w.sys_ranges;
    config.arena = (struct mm_system_arena){.range = mm_vrange(mm_vaddr(T_KVA), 16 * T_MIB),
                                            .large_size = 16 * PAGE,
                                            .percpu = t_w.sections,
                                            .percpu_len = sizeof(t_w.sections)};
    (void)!mm_system_init(&t_w.spare.system, &config);
}

static void system_arena_in_use(void)
{
    struct mm_vrange stack;

    system_with_arena();
    (void)!mm_kva_stack_alloc(&t_w.spare.system.kva, PAGE, 0, &stack);
}

static void system_arena_corrupt(void)
{
    system_with_arena();
    t_w.spare.system.kva.nr_ranges[MM_KVA_MEMORY]++;
}

static void system_corrupt(void)
{
    system_up();
    t_w.spare.system.kernel.nr_tables++;
}

/* What the map says cannot be described: too many ranges, or sections that contradict each other.
 */
static void scattered(void)
{
    t_world_scatter(&t_w.sys_map);
}

static void writable_text(void)
{
    t_w.sections[0].prot = MM_PROT_RW | MM_PROT_EXEC;
}

static void section_on_device(void)
{
    t_w.device.range.start.raw = T_TOP + 0x10000;
}

static void section_for_users(void)
{
    t_w.sections[0].prot = MM_PROT_READ | MM_PROT_USER;
}

/* --- values ------------------------------------------------------------------------------------ */

static unsigned physmaps(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)&t_w.physmap;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)&t_w.physmap_ops;
    v[3] = (uint64_t)(uintptr_t)&t_w.physmap_short;
    v[4] = (uint64_t)(uintptr_t)&t_w.physmap_half;
    return 5;
}

static unsigned sys_maps(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)&t_w.sys_map;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)&t_w.empty_map;
    v[3] = (uint64_t)(uintptr_t)&t_w.fresh.map;
    return 4;
}

static unsigned range_counts(uint64_t *v)
{
    v[0] = 3;
    v[1] = 0;
    v[2] = 1;
    v[3] = MM_PAGING_MAX_KERNEL_RANGES + 1;
    return 4;
}

/* Where the arena of a system is: alone, nowhere, off a page, in no range, over the image, the
 * device, the kernel's space. */
static unsigned arenas(uint64_t *v)
{
    static const uint64_t all[] = {T_KVA,
                                   0,
                                   T_KVA + 1,
                                   UINT64_MAX - PAGE + 1,
                                   T_TOP - PAGE,
                                   T_TOP + 0x11000,
                                   T_ARENA + T_ARENA_LEN / 2,
                                   T_ARENA + (UINT64_C(1) << 28) - PAGE};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned arena_lengths(uint64_t *v)
{
    static const uint64_t all[] = {16 * T_MIB, 0, 1, PAGE, 4 * PAGE, T_TOP_LEN, UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned large_sizes(uint64_t *v)
{
    static const uint64_t all[] = {
        16 * PAGE, 0, 1, MM_HEAP_MAX_SLAB_SIZE, MM_HEAP_MAX_SLAB_SIZE + 1, UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned template_lengths(uint64_t *v)
{
    static const uint64_t all[] = {sizeof(t_w.sections), 0, 1, 16 * T_MIB + 1, UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned guards(uint64_t *v)
{
    static const uint64_t all[] = {0, 1, MM_KVA_MAX_GUARD, MM_KVA_MAX_GUARD + 1, UINT32_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned reserves(uint64_t *v)
{
    static const uint64_t all[] = {2, 0, 1, 1000};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned quarantines(uint64_t *v)
{
    static const uint64_t all[] = {16, MM_HEAP_QUARANTINE_MAX + 1, UINT32_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

/* Where samples are to lie: alone, nowhere, off a page, past the end, over the direct map, the
 * image, the kernel's space, user memory; and not canonical. */
static unsigned windows(uint64_t *v)
{
    static const uint64_t all[] = {
        T_KVA,          1,    UINT64_MAX - PAGE + 1, UINT64_MAX, T_TOP + 0x10000,
        T_ARENA + PAGE, PAGE, UINT64_C(1) << 56};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned window_lengths(uint64_t *v)
{
    static const uint64_t all[] = {7 * PAGE, 0, PAGE, 2 * PAGE, 4 * PAGE, PAGE + 1, UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned reserve_counts(uint64_t *v)
{
    static const uint64_t all[] = {2, 0};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned reserve_sizes(uint64_t *v)
{
    static const uint64_t all[] = {6000, 0, MM_HEAP_MAX_RESERVE_SIZE + 1, UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

/* The large pool is the system's to make. */
static unsigned no_pools(uint64_t *v)
{
    v[0] = 0;
    v[1] = (uint64_t)(uintptr_t)&t_w.pool;
    v[2] = (uint64_t)(uintptr_t)&t_w.never;
    return 3;
}

static unsigned no_sizes(uint64_t *v)
{
    static const uint64_t all[] = {0, 1, 16 * PAGE, UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

#define SYSTEM_CONFIG                                                                              \
    T_GIVEN("config"), T_OF("map", sys_maps), T_OF("physmap", physmaps),                           \
        T_NUM("mapped", T_RAM_END), T_GIVEN("backend"), T_PTR(sections),                           \
        T_OF("nr_kernel_ranges", range_counts), T_UPTO("nr_cpus", 1, 2),                           \
        T_NUM("user.len", UINT64_C(1) << 45), T_NUM("kernel_space", T_ARENA),                      \
        T_NUM("kernel_space.len", UINT64_C(1) << 28), T_GIVEN("user_ops.clear")
#define SYSTEM                                                                                     \
    {                                                                                              \
        T_PTR(fresh.system), SYSTEM_CONFIG                                                         \
    }

static const struct t_call all[] = {
    {.name = "mm_system_init",
     .invoke = do_system_init,
     .scarce = t_world_system_pages,
     .flags = T_CAN_FAIL | T_COMPOSED,
     .args = SYSTEM},
    {.name = "mm_system_init",
     .note = "with an arena",
     .invoke = do_system_init_arena,
     .scarce = t_world_system_pages,
     .flags = T_CAN_FAIL | T_COMPOSED,
     .args = {T_PTR(fresh.system), T_GIVEN("config"), T_OF("arena", arenas),
              T_OF("arena.len", arena_lengths), T_OF("large_size", large_sizes), T_PTR(sections),
              T_OF("percpu_len", template_lengths), T_OF("guard_pages", guards),
              T_OF("reserve", reserves), T_GIVEN("ops")}},
    {.name = "mm_system_init",
     .note = "there is one",
     .invoke = do_system_init,
     .setup = system_up,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_PTR(spare.system), SYSTEM_CONFIG}},
    {.name = "mm_system_init",
     .note = "too many ranges",
     .invoke = do_system_init,
     .setup = scattered,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_PTR(fresh.system), T_UPTO("config", 1, 1), T_LIVE_(sys_map),
              T_OF("physmap", physmaps), T_UPTO("mapped", T_RAM_END, 0), T_UPTO("backend", 1, 1),
              T_PTR(sections), T_UPTO("nr_kernel_ranges", 3, 3), T_UPTO("nr_cpus", 1, 2),
              T_UPTO("user.len", UINT64_C(1) << 45, 0), T_UPTO("kernel_space", T_ARENA, 0),
              T_UPTO("kernel_space.len", 0, 0), T_UPTO("ops", 1, 1)}},
    {.name = "mm_system_init",
     .note = "with a heap that checks, samples and sets aside",
     .invoke = do_system_init_heap,
     .scarce = t_world_system_pages,
     .flags = T_CAN_FAIL | T_COMPOSED,
     .args = {T_PTR(fresh.system), T_GIVEN("config"), T_BITS("flags", 0, MM_HEAP_CALLERS),
              T_ENUM("tier", MM_HEAP_HARDENED, 3), T_BAD_OF("quarantine", quarantines),
              T_UPTO("sample_every", 3, 3), T_GIVEN("open"), T_BAD_OF("base", windows),
              T_BAD_OF("len", window_lengths), T_BAD_OF("nr_reserve", reserve_counts),
              T_BAD_OF("reserve_size", reserve_sizes), T_BAD_OF("large", no_pools),
              T_BAD_OF("large_size", no_sizes)}},
    {.name = "mm_system_init",
     .note = "writable text",
     .invoke = do_system_init,
     .setup = writable_text,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = SYSTEM},
    {.name = "mm_system_init",
     .note = "a device where the image is",
     .invoke = do_system_init,
     .setup = section_on_device,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = SYSTEM},
    {.name = "mm_system_init",
     .note = "a section for users",
     .invoke = do_system_init,
     .setup = section_for_users,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = SYSTEM},
    {.name = "mm_system_destroy",
     .invoke = do_system_destroy,
     .setup = system_up,
     .args = {T_LIVE_GONE(spare.system, system)}},
    {.name = "mm_system_init",
     .note = "with a tlb",
     .invoke = do_system_init,
     .setup = system_with_tlb,
     .scarce = t_world_system_pages,
     .flags = T_CAN_FAIL | T_COMPOSED | T_VARIANT,
     .args = SYSTEM},
    {.name = "mm_system_init",
     .note = "a tlb that was never made",
     .invoke = do_system_init,
     .setup = system_without_tlb,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = SYSTEM},
    {.name = "mm_system_init",
     .note = "a tlb in use",
     .invoke = do_system_init,
     .setup = system_with_a_tlb_in_use,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = SYSTEM},
    {.name = "mm_system_destroy",
     .note = "another CPU is online",
     .invoke = do_system_destroy,
     .setup = system_of_two,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(spare.system)}},
    {.name = "mm_system_destroy",
     .note = "an object is out",
     .invoke = do_system_destroy,
     .setup = system_in_use,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(spare.system)}},
    {.name = "mm_system_destroy",
     .note = "with an arena",
     .invoke = do_system_destroy,
     .setup = system_with_arena,
     .args = {T_LIVE_(spare.system)}},
    {.name = "mm_system_destroy",
     .note = "a range of the arena is out",
     .invoke = do_system_destroy,
     .setup = system_arena_in_use,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(spare.system)}},
    {.name = "mm_system_check",
     .note = "the arena contradicts itself",
     .invoke = do_system_check,
     .setup = system_arena_corrupt,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(spare.system)}},
    {.name = "mm_system_check",
     .invoke = do_system_check,
     .setup = system_up,
     .args = {T_LIVE_GONE(spare.system, system)}},
    {.name = "mm_system_check",
     .note = "it contradicts itself",
     .invoke = do_system_check,
     .setup = system_corrupt,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(spare.system)}},
};

const struct t_call_list t_calls_system = T_CALL_LIST(all);
