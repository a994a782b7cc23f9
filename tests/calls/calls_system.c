// SPDX-License-Identifier: MIT
/**
 * Calls of the rooms dma, user and system.
 */
#include "calls.h"

#include <string.h>

#define PAGE UINT64_C(4096)

/* --- dma --------------------------------------------------------------------------------------- */

static int do_dma_init(const uint64_t *a)
{
    struct mm_dma_config config = {T_P(2), T_P(3), t_world_platform()};

    return (int)mm_dma_init(T_P(0), a[1] == 0 ? NULL : &config);
}

static int do_dma_destroy(const uint64_t *a)
{
    return (int)mm_dma_destroy(T_P(0));
}

static int do_dma_alloc(const uint64_t *a)
{
    struct mm_dma_constraints constraints = {{a[3]}, a[4], a[5]};

    return (int)mm_dma_alloc(T_P(0), a[1], a[2] == 0 ? NULL : &constraints, T_W32(6), T_P(7));
}

static int do_dma_free(const uint64_t *a)
{
    return (int)mm_dma_free(T_P(0), T_P(1));
}

static int do_dma_get_stats(const uint64_t *a)
{
    return (int)mm_dma_get_stats(T_P(0), T_P(1));
}

/* --- user -------------------------------------------------------------------------------------- */

static int do_user_init(const uint64_t *a)
{
    struct mm_user_ops ops = t_world_user_ops;

    switch (a[2]) {
    case 1:
        ops.copy_in = NULL;
        break;
    case 2:
        ops.copy_out = NULL;
        break;
    case 3:
        ops.clear = NULL;
        break;
    case 4:
        ops.string_in = NULL;
        break;
    default:
        break;
    }
    return (int)mm_user_init(T_P(0),
                             a[1] == 0   ? NULL
                             : a[2] == 0 ? &t_world_user_ops
                                         : &ops,
                             T_RANGE(3));
}

static int do_copy_in(const uint64_t *a)
{
    return (int)mm_user_copy_in(T_P(0), T_P(1), mm_vaddr(a[2]), a[3], T_P(4));
}

static int do_copy_out(const uint64_t *a)
{
    return (int)mm_user_copy_out(T_P(0), mm_vaddr(a[1]), T_P(2), a[3], T_P(4));
}

static int do_clear(const uint64_t *a)
{
    return (int)mm_user_clear(T_P(0), mm_vaddr(a[1]), a[2], T_P(3));
}

static int do_string_in(const uint64_t *a)
{
    return (int)mm_user_string_in(T_P(0), T_P(1), mm_vaddr(a[2]), a[3], T_P(4));
}

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

static unsigned one_to_four(uint64_t *v)
{
    for (uint64_t i = 0; i < 5; i++) {
        v[i] = i;
    }
    return 5;
}

static unsigned range_counts(uint64_t *v)
{
    v[0] = 3;
    v[1] = 0;
    v[2] = 1;
    v[3] = MM_PAGING_MAX_KERNEL_RANGES + 1;
    return 4;
}

static unsigned user_ats(uint64_t *v)
{
    static const uint64_t all[] = {0x1000,
                                   0,
                                   1,
                                   0x1000 + 8192 - 1,
                                   0x1000 + 8192,
                                   0x1000 + 16,
                                   T_USER_LEN - 16,
                                   T_USER_LEN - 1,
                                   T_USER_LEN,
                                   T_USER_LEN + 1,
                                   (UINT64_C(1) << 56) - 1,
                                   (UINT64_C(1) << 56) + 1,
                                   T_ARENA,
                                   UINT64_MAX - 15,
                                   UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
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

/* The residue, and what could be copied. */
#define RESIDUE (T_BIT(MM_ERR_FAULT) | T_BIT(MM_ERR_INVALID_ADDRESS))
#define DMA     T_LIVE_GONE(dma, dma)
#define USER    T_PTR(uaccess)
#define LEN     T_NUM("len", 16)
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
    {.name = "mm_dma_init",
     .invoke = do_dma_init,
     .args = {T_FRESH_(dma, dma), T_GIVEN("config"), T_LIVE_GONE(frames, frames),
              T_OF("physmap", physmaps)}},
    {.name = "mm_dma_destroy", .invoke = do_dma_destroy, .args = {T_LIVE_GONE(spare.dma, dma)}},
    {.name = "mm_dma_destroy",
     .note = "a region is out",
     .invoke = do_dma_destroy,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(dma)}},
    {.name = "mm_dma_alloc",
     .invoke = do_dma_alloc,
     .flags = T_CAN_FAIL,
     .args = {DMA, T_NUM("len", 5000), T_GIVEN("constraints"), T_NUM("highest", 0),
              T_NUM("align", 0), T_NUM("boundary", 0), T_BITS("flags", 0, MM_DMA_FLAGS_ALL),
              T_FRESH_(region, region)}},
    {.name = "mm_dma_free", .invoke = do_dma_free, .args = {DMA, T_LIVE_GONE(region, region)}},
    {.name = "mm_dma_get_stats", .invoke = do_dma_get_stats, .args = {DMA, T_OUT}},
    {.name = "mm_user_init",
     .invoke = do_user_init,
     .args = {T_PTR(fresh.user), T_GIVEN("ops"), T_BAD_OF("missing", one_to_four),
              T_NUM("start", 0), T_NUM("len", T_USER_LEN)}},
    {.name = "mm_user_copy_in",
     .invoke = do_copy_in,
     .tells = RESIDUE,
     .args = {USER, T_PTR(in), T_OF("from", user_ats), LEN, T_OUT}},
    {.name = "mm_user_copy_out",
     .invoke = do_copy_out,
     .tells = RESIDUE,
     .args = {USER, T_OF("to", user_ats), T_PTR(in), LEN, T_OUT}},
    {.name = "mm_user_clear",
     .invoke = do_clear,
     .tells = RESIDUE,
     .args = {USER, T_OF("to", user_ats), LEN, T_OUT}},
    {.name = "mm_user_string_in",
     .invoke = do_string_in,
     .tells = T_BIT(MM_ERR_FAULT) | T_BIT(MM_ERR_LIMIT), /* what is in `to` */
     .args = {USER, T_PTR(in), T_OF("from", user_ats), T_NUM("size", 200), T_OUT}},
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
