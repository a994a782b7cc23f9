// SPDX-License-Identifier: MIT
/**
 * Calls of the paging room that make, take down and ask page tables, and those of the gather.
 */
#include "calls.h"

#include <mm/paging_audit.h>
#include <mm/tlb.h>

#include <stdlib.h>
#include <string.h>

static struct mm_paging_config config_of(const uint64_t *a, struct mm_physmap *physmap,
                                         struct mm_vrange *ranges)
{
    struct mm_paging_config config = t_world_paging_config();

    config.backend.ops = a[2] == 0 ? NULL : config.backend.ops;
    config.source.ops = a[3] == 0 ? NULL : config.source.ops;
    *physmap = t_w.physmap;
    physmap->first = mm_paddr(T_RAM_START);
    physmap->len = T_RAM_END - T_RAM_START;
    if (a[4] == 4) { /* reaches the boot loader's root, and no frame of the source */
        physmap->first = mm_pfn_addr(t_w.list[0]);
        physmap->len = 4096;
    }
    if (a[4] == 2) { /* wraps */
        physmap->first = mm_paddr(UINT64_MAX - 4095);
        physmap->len = 8192;
    } else if (a[4] == 3) { /* reaches none of the frames */
        physmap->len = 4096;
    }
    config.physmap = a[4] == 0 ? NULL : physmap;
    ranges[0] = mm_vrange(mm_vaddr(a[5]), a[6]);
    ranges[1] = mm_vrange(mm_vaddr(T_TOP), T_TOP_LEN);
    for (unsigned i = 2; i <= MM_PAGING_MAX_KERNEL_RANGES; i++) {
        ranges[i] = mm_vrange(mm_vaddr(UINT64_C(0xffffd00000000000) + i * 4096), 4096);
    }
    config.kernel_ranges = ranges;
    config.nr_kernel_ranges = T_W32(7);
    config.user = mm_vrange(mm_vaddr(a[8]), a[9]);
    config.flags = T_W32(10);
    return config;
}

static int do_init_kernel(const uint64_t *a)
{
    struct mm_vrange ranges[MM_PAGING_MAX_KERNEL_RANGES + 1];
    struct mm_physmap physmap;
    struct mm_paging_config config = config_of(a, &physmap, ranges);

    return (int)mm_paging_init_kernel(T_P(0), a[1] == 0 ? NULL : &config);
}

static int do_adopt(const uint64_t *a)
{
    struct mm_vrange ranges[MM_PAGING_MAX_KERNEL_RANGES + 1];
    struct mm_physmap physmap;
    struct mm_paging_config config = config_of(a, &physmap, ranges);

    return (int)mm_paging_adopt(T_P(0), a[1] == 0 ? NULL : &config, mm_paddr(a[11]));
}

static int do_init_user(const uint64_t *a)
{
    return (int)mm_paging_init_user(T_P(0), T_P(1));
}

static int do_init_entry(const uint64_t *a)
{
    struct mm_vrange ranges[MM_PAGING_MAX_KERNEL_RANGES + 1];

    for (unsigned i = 0; i <= MM_PAGING_MAX_KERNEL_RANGES; i++) {
        ranges[i] = mm_vrange(mm_vaddr(T_TOP + i * 8192), 4096);
    }
    ranges[0] = T_RANGE(3);
    return (int)mm_paging_init_entry(T_P(0), T_P(1), a[2] == 0 ? NULL : ranges, T_W32(5));
}

static int do_user_root(const uint64_t *a)
{
    return T_NONZERO(mm_paging_user_root(T_P(0)).raw);
}

static int do_destroy(const uint64_t *a)
{
    return (int)mm_paging_destroy(T_P(0));
}

static int do_translate(const uint64_t *a)
{
    return (int)mm_paging_translate(T_P(0), mm_vaddr(a[1]), T_P(2));
}

static int do_walk(const uint64_t *a)
{
    return (int)mm_paging_walk(T_P(0), T_RANGE(1), a[3] == 0 ? NULL : t_world_visit, NULL);
}

static int do_root(const uint64_t *a)
{
    return T_NONZERO(mm_paging_root(T_P(0)).raw);
}

static int do_activate(const uint64_t *a)
{
    return (int)mm_paging_activate(T_P(0));
}

static int do_current_root(const uint64_t *a)
{
    struct mm_paging_backend backend = t_w.backend;

    backend.ops = a[0] == 0 ? NULL : backend.ops;
    return T_NONZERO(mm_paging_current_root(backend).raw);
}

static int do_load_root(const uint64_t *a)
{
    struct mm_paging_backend backend = t_w.backend;

    backend.ops = a[0] == 0 ? NULL : backend.ops;
    return (int)mm_paging_load_root(backend, mm_paddr(a[1]));
}

static int do_get_stats(const uint64_t *a)
{
    return (int)mm_paging_get_stats(T_P(0), T_P(1));
}

static int do_check(const uint64_t *a)
{
    return (int)mm_paging_check(T_P(0));
}

static int do_dump(const uint64_t *a)
{
    return (int)mm_paging_dump(T_P(0), T_RANGE(1), T_W32(3));
}

/* `a`: given, roots, their number, two of them, kinds. */
static struct mm_paging_audit audit_of(const uint64_t *a, const struct mm_pagetable **roots)
{
    struct mm_paging_audit audit = {.nr_roots = T_W32(2), .kinds = T_W32(5)};

    roots[0] = T_P(3);
    roots[1] = T_P(4);
    audit.roots = a[1] == 0 ? NULL : roots;
    return audit;
}

static int do_audit_size(const uint64_t *a)
{
    const struct mm_pagetable *roots[2];
    struct mm_paging_audit audit = audit_of(a, roots);

    return (int)mm_paging_audit_memory_size(a[0] == 0 ? NULL : &audit, T_P(6));
}

static int do_audit(const uint64_t *a)
{
    const struct mm_pagetable *roots[2];
    struct mm_paging_audit audit = audit_of(a, roots);

    audit.memory = T_P(7);
    audit.len = a[8];
    return (int)mm_paging_audit(a[0] == 0 ? NULL : &audit, T_P(6));
}

static int do_gather_begin(const uint64_t *a)
{
    return (int)mm_gather_begin(T_P(0), T_P(1));
}

static int do_gather_end(const uint64_t *a)
{
    return T_MADE(mm_gather_end(T_P(0)));
}

static int do_add_range(const uint64_t *a)
{
    return T_MADE(mm_gather_add_range(T_P(0), T_RANGE(1)));
}

static int do_add_frames(const uint64_t *a)
{
    return T_MADE(mm_gather_add_frames(T_P(0), mm_pfn(a[1]), a[2]));
}

/* --- set-ups ----------------------------------------------------------------------------------- */

/* The spare root is the one in use. */
static void spare_in_use(void)
{
    (void)!mm_paging_activate(&t_w.spare.pt);
}

/* A root that a boot loader left: one table of its own behind the first entry of the arena. */
static void foreign_root(void)
{
    uint64_t *root = t_ram_ptr(t_h.ram, t_w.list[0].raw * 4096);
    uint64_t *table = t_ram_ptr(t_h.ram, t_w.list[1].raw * 4096);

    memset(root, 0, 4096);
    memset(table, 0, 4096);
    root[(T_ARENA >> 39) & 511] = t_w.list[1].raw * 4096 | 3; /* present, writable */
    table[1] = UINT64_C(0x40000000) | 0x83;                   /* a leaf of 1 GiB */
}

/* In it, an entry with a reserved bit: the size of a leaf is set at level 4. */
static void malformed_root(void)
{
    uint64_t *root;

    foreign_root();
    root = t_ram_ptr(t_h.ram, t_w.list[0].raw * 4096);
    root[(T_ARENA >> 39) & 511] |= 0x80;
}

static void empty_foreign_root(void)
{
    memset(t_ram_ptr(t_h.ram, t_w.list[0].raw * 4096), 0, 4096);
}

/* A root for a user would be taken, and could not be reached. */
static void short_kernel(void)
{
    t_w.spare.pt.physmap = t_w.physmap_short;
}

/* The first leaf that is global. */
static bool see_global(void *ctx, const struct mm_mapping *leaf)
{
    struct mm_mapping *found = ctx;

    if ((leaf->prot & MM_PROT_GLOBAL) != 0) {
        *found = *leaf;
        return false;
    }
    return true;
}

/* A kernel root as if it had been made with MM_PAGING_PAIRS: nothing in it is global. */
static void kernel_of_pairs(void)
{
    static struct mm_gather gather;

    for (uint32_t i = 0; i < t_w.kernel.nr_kernel_ranges; i++) {
        struct mm_vrange range = t_w.kernel.kernel_ranges[i];
        struct mm_mapping found = {.page = {.len = 1}};

        while (found.page.len != 0) {
            found.page.len = 0;
            if (mm_paging_walk(&t_w.kernel, range, see_global, &found) != MM_OK) {
                abort();
            }
            if (found.page.len != 0 &&
                (mm_gather_begin(&gather, &t_w.kernel) != MM_OK ||
                 mm_paging_protect(&t_w.kernel, found.page, found.prot & ~MM_PROT_GLOBAL, 0,
                                   &gather) != MM_OK)) {
                abort();
            }
            mm_gather_end(&gather);
        }
    }
    t_w.kernel.pairs = 1;
}

static void short_kernel_of_pairs(void)
{
    kernel_of_pairs();
    t_w.kernel.physmap = t_w.physmap_short;
}

static void kernel_with_entry(void)
{
    kernel_of_pairs();
    t_w.kernel.peer = &t_w.kernel;
}

static void kernel_without_user(void)
{
    t_w.spare.pt.user.len = 0;
}

static void corrupt(void)
{
    t_w.user.nr_leaves[0]++;
}

static void full_gather(void)
{
    for (uint64_t i = 0; i < 3; i++) {
        mm_gather_add_frames(&t_w.gather, t_w.list[i * 2], 1);
    }
}

/* --- values ------------------------------------------------------------------------------------ */

static unsigned physmaps(uint64_t *v)
{
    v[0] = 1;
    v[1] = 0;
    v[2] = 2;
    v[3] = 3;
    v[4] = 4;
    return 5;
}

static unsigned range_counts(uint64_t *v)
{
    v[0] = 2;
    v[1] = 0;
    v[2] = 1;
    v[3] = MM_PAGING_MAX_KERNEL_RANGES + 1;
    v[4] = UINT32_MAX;
    return 5;
}

static unsigned roots(uint64_t *v)
{
    static const uint64_t house[] = {0,
                                     1,
                                     4097,
                                     (UINT64_C(1) << 40) - 4096,
                                     UINT64_C(1) << 40,
                                     (UINT64_C(1) << 47) - 1,
                                     UINT64_C(1) << 52,
                                     UINT64_C(1) << 56,
                                     UINT64_MAX - 4095,
                                     UINT64_MAX};
    unsigned nr = 1;

    v[0] = t_w.list[0].raw * 4096;
    for (unsigned i = 0; i < sizeof(house) / sizeof(house[0]); i++) {
        v[nr++] = house[i];
    }
    return nr;
}

/* What the library must not read as a root is no root of this CPU either. */
static unsigned cr3_values(uint64_t *v)
{
    v[0] = 0x3000;
    v[1] = 0;
    v[2] = 1;
    v[3] = 4095;
    v[4] = 4097;
    v[5] = UINT64_MAX;
    v[6] = UINT64_C(1) << 52; /* beyond any CPU's addresses */
    return 7;
}

static unsigned kernels(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)&t_w.kernel;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)&t_w.user; /* a user root */
    v[3] = (uint64_t)(uintptr_t)&t_w.fresh.pt;
    v[4] = (uint64_t)(uintptr_t)&t_w.gone.pt;
    return 5;
}

static unsigned audit_kernels(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)&t_w.kernel;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)&t_w.user;
    v[3] = (uint64_t)(uintptr_t)&t_w.fresh.pt;
    v[4] = (uint64_t)(uintptr_t)&t_w.gone.pt;
    return 5;
}

static unsigned audit_users(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)&t_w.user;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)&t_w.kernel;
    v[3] = (uint64_t)(uintptr_t)&t_w.user2;
    v[4] = (uint64_t)(uintptr_t)&t_w.gone.pt;
    return 5;
}

static unsigned audit_memory(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)t_w.out2;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)t_w.out2 + 4;
    return 3;
}

static unsigned audit_lengths(uint64_t *v)
{
    v[0] = sizeof(t_w.out2);
    v[1] = 0;
    v[2] = 1;
    v[3] = 32;
    v[4] = 63;
    return 5;
}

/* Frames that a gather can release: of the world, or none. */
static unsigned own_frames(uint64_t *v)
{
    v[0] = t_w.list[0].raw;
    v[1] = t_w.list[1].raw;
    return 2;
}

/* Roots that are to use a tlb which was never made, or which has a kernel root. */
static void with_no_tlb(void)
{
    t_w.use_tlb = &t_w.never.tlb;
}

static void with_a_tlb_in_use(void)
{
    t_w.use_tlb = &t_w.tlb;
    t_w.tlb.kernel = &t_w.kernel;
}

#define CONFIG                                                                                     \
    T_GIVEN("config"), T_GIVEN("backend"), T_GIVEN("source"), T_OF("physmap", physmaps),           \
        T_NUM("kernel", T_ARENA), T_NUM("kernel.len", T_ARENA_LEN),                                \
        T_OF("nr_kernel_ranges", range_counts), T_NUM("user", 0), T_NUM("user.len", T_USER_LEN),   \
        T_BITS("flags", 0, MM_PAGING_PAIRS)
#define ENTRY T_NUM("start", T_TOP + 0x100000), T_NUM("len", 8192), T_OF("nr_ranges", range_counts)
#define PT    T_LIVE_GONE(user, pt)
#define AUDIT                                                                                      \
    T_GIVEN("audit"), T_GIVEN("roots"), T_UPTO("nr_roots", 2, 2), T_OF("kernel", audit_kernels),   \
        T_OF("user", audit_users), T_BITS("kinds", 0, MM_AUDIT_ALL), T_OUT

static const struct t_call paging[] = {
    {.name = "mm_paging_init_kernel",
     .invoke = do_init_kernel,
     .flags = T_CAN_FAIL,
     .args = {T_FRESH_(pt, kernel), CONFIG}},
    {.name = "mm_paging_init_user",
     .invoke = do_init_user,
     .flags = T_CAN_FAIL,
     .args = {T_FRESH_(pt, kernel), T_OF("kernel", kernels)}},
    {.name = "mm_paging_init_user",
     .note = "no user range",
     .invoke = do_init_user,
     .setup = kernel_without_user,
     .flags = T_BAD_ONLY,
     .args = {T_FRESH_(pt, kernel), T_LIVE_(spare.pt)}},
    {.name = "mm_paging_init_entry",
     .invoke = do_init_entry,
     .setup = kernel_of_pairs,
     .flags = T_CAN_FAIL,
     .args = {T_FRESH_(pt, kernel), T_OF("kernel", kernels), T_GIVEN("ranges"), ENTRY}},
    {.name = "mm_paging_init_entry",
     .note = "there is one",
     .invoke = do_init_entry,
     .setup = kernel_with_entry,
     .flags = T_BAD_ONLY,
     .args = {T_FRESH_(pt, kernel), T_LIVE_(kernel), T_GIVEN("ranges"), ENTRY}},
    {.name = "mm_paging_init_entry",
     .note = "a root beyond reach",
     .invoke = do_init_entry,
     .setup = short_kernel_of_pairs,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_FRESH_(pt, kernel), T_LIVE_(kernel), T_GIVEN("ranges"), ENTRY}},
    {.name = "mm_paging_adopt",
     .invoke = do_adopt,
     .setup = foreign_root,
     .flags = T_CAN_FAIL,
     .args = {T_FRESH_(pt, kernel), CONFIG, T_OF("root", roots)}},
    {.name = "mm_paging_init_user",
     .note = "a root beyond reach",
     .invoke = do_init_user,
     .setup = short_kernel,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_FRESH_(pt, kernel), T_LIVE_(spare.pt)}},
    {.name = "mm_paging_adopt",
     .note = "an empty root",
     .invoke = do_adopt,
     .setup = empty_foreign_root,
     .flags = T_CAN_FAIL,
     .args = {T_FRESH_(pt, kernel), CONFIG, T_OF("root", roots)}},
    {.name = "mm_paging_adopt",
     .note = "a malformed entry",
     .invoke = do_adopt,
     .setup = malformed_root,
     .flags = T_BAD_ONLY,
     .args = {T_FRESH_(pt, kernel), CONFIG, T_OF("root", roots)}},
    {.name = "mm_paging_init_kernel",
     .note = "a tlb that was never made",
     .invoke = do_init_kernel,
     .setup = with_no_tlb,
     .flags = T_BAD_ONLY,
     .args = {T_FRESH_(pt, kernel), CONFIG}},
    {.name = "mm_paging_init_kernel",
     .note = "a tlb in use",
     .invoke = do_init_kernel,
     .setup = with_a_tlb_in_use,
     .flags = T_BAD_ONLY,
     .args = {T_FRESH_(pt, kernel), CONFIG}},
    {.name = "mm_paging_adopt",
     .note = "a tlb that was never made",
     .invoke = do_adopt,
     .setup = with_no_tlb,
     .flags = T_BAD_ONLY,
     .args = {T_FRESH_(pt, kernel), CONFIG, T_OF("root", roots)}},
    {.name = "mm_paging_adopt",
     .note = "a tlb in use",
     .invoke = do_adopt,
     .setup = with_a_tlb_in_use,
     .flags = T_BAD_ONLY,
     .args = {T_FRESH_(pt, kernel), CONFIG, T_OF("root", roots)}},
    {.name = "mm_paging_destroy", .invoke = do_destroy, .args = {T_LIVE_GONE(spare.pt, pt)}},
    {.name = "mm_paging_destroy",
     .note = "in use",
     .invoke = do_destroy,
     .setup = spare_in_use,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(spare.pt)}},
    {.name = "mm_paging_translate",
     .invoke = do_translate,
     .tells = T_BIT(MM_ERR_NOT_MAPPED), /* the hole */
     .args = {PT, T_ADDRESS("at", T_AT), T_OUT}},
    {.name = "mm_paging_walk",
     .invoke = do_walk,
     .args = {PT, T_ADDRESS("start", T_AT), T_NUM("len", 8 * 4096), T_GIVEN("visit")}},
    {.name = "mm_paging_root", .invoke = do_root, .args = {PT}},
    {.name = "mm_paging_user_root", .invoke = do_user_root, .args = {PT}},
    {.name = "mm_paging_activate", .invoke = do_activate, .args = {PT}},
    {.name = "mm_paging_current_root", .invoke = do_current_root, .args = {T_GIVEN("backend")}},
    {.name = "mm_paging_load_root",
     .invoke = do_load_root,
     .args = {T_GIVEN("backend"), T_OF("root", cr3_values)}},
    {.name = "mm_paging_get_stats", .invoke = do_get_stats, .args = {PT, T_OUT}},
    {.name = "mm_paging_check", .invoke = do_check, .args = {PT}},
    {.name = "mm_paging_check",
     .note = "it contradicts itself",
     .invoke = do_check,
     .setup = corrupt,
     .flags = T_BAD_ONLY,
     .args = {PT}},
    {.name = "mm_paging_dump",
     .invoke = do_dump,
     .args = {PT, T_ADDRESS("start", T_AT), T_NUM("len", 8 * 4096),
              T_BITS("flags", 0, MM_PAGING_DUMP_HOLES)}},
    {.name = "mm_paging_audit_memory_size", .invoke = do_audit_size, .args = {AUDIT}},
    {.name = "mm_paging_audit",
     .invoke = do_audit,
     .args = {AUDIT, T_OF("memory", audit_memory), T_OF("len", audit_lengths)}},
    {.name = "mm_gather_begin", .invoke = do_gather_begin, .args = {T_PTR(fresh.gather), PT}},
    {.name = "mm_gather_end", .invoke = do_gather_end, .args = {T_PTR(gather)}},
    {.name = "mm_gather_end",
     .note = "frames to release",
     .invoke = do_gather_end,
     .setup = full_gather,
     .flags = T_VARIANT,
     .args = {T_PTR(gather)}},
    {.name = "mm_gather_add_range",
     .invoke = do_add_range,
     .args = {T_LIVE_(gather), T_NUM("start", T_AT), T_NUM("len", 4096)}},
    {.name = "mm_gather_add_frames",
     .invoke = do_add_frames,
     .args = {T_LIVE_(gather), T_OF("first", own_frames), T_UPTO("nr", 1, 1)}},
};

const struct t_call_list t_calls_paging = T_CALL_LIST(paging);
