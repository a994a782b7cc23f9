// SPDX-License-Identifier: MIT
/**
 * Calls of the room space: spaces that are made with a layout, limits, a group, what spaces share.
 */
#include "calls.h"

#define PAGE UINT64_C(4096)
#define GIB  (UINT64_C(1) << 30)

static int do_create_with(const uint64_t *a)
{
    struct mm_space_config config = {.layout = {.lowest = a[2],
                                                .mmap_base = a[3],
                                                .top = a[4],
                                                .stack_gap = a[5],
                                                .stack_max = a[6],
                                                .random_bits = T_W32(7)},
                                     .limits = {.mapped_bytes = a[8], .resident_bytes = a[9]},
                                     .group = T_P(10)};

    return (int)mm_space_create_with(T_P(0), a[1] == 0 ? NULL : &config, T_P(11));
}

static int do_get_layout(const uint64_t *a)
{
    return (int)mm_space_get_layout(T_P(0), T_P(1));
}

static int do_set_limits(const uint64_t *a)
{
    struct mm_space_limits limits = {.mapped_bytes = a[2], .resident_bytes = a[3]};

    return (int)mm_space_set_limits(T_P(0), a[1] == 0 ? NULL : &limits);
}

static int do_group_init(const uint64_t *a)
{
    struct mm_space_limits limits = {.mapped_bytes = a[2], .resident_bytes = a[3]};

    return (int)mm_space_group_init(T_P(0), a[1] == 0 ? NULL : &limits);
}

static int do_group_destroy(const uint64_t *a)
{
    return (int)mm_space_group_destroy(T_P(0));
}

static int do_group_set_limits(const uint64_t *a)
{
    struct mm_space_limits limits = {.mapped_bytes = a[2], .resident_bytes = a[3]};

    return (int)mm_space_group_set_limits(T_P(0), a[1] == 0 ? NULL : &limits);
}

static int do_group_get_stats(const uint64_t *a)
{
    return (int)mm_space_group_get_stats(T_P(0), T_P(1));
}

static int do_get_stats(const uint64_t *a)
{
    return (int)mm_spaces_get_stats(T_P(0), T_P(1));
}

static int do_check(const uint64_t *a)
{
    return (int)mm_spaces_check(T_P(0));
}

/* --- other worlds, values ---------------------------------------------------------------------- */

static void no_free_space(void)
{
    struct mm_cache_stats stats;

    while (mm_cache_get_stats(&t_w.spaces.space_cache, &stats) == MM_OK && stats.nr_free != 0) {
        (void)mm_cache_alloc(&t_w.spaces.space_cache);
    }
}

static void in_a_group(void)
{
    t_w.spare.group.nr_spaces = 1;
}

static void no_user_range(void)
{
    t_w.spaces.user_range.len = 0;
}

/* The root of a new space cannot be reached. */
static void short_reach(void)
{
    t_w.kernel.physmap.first = mm_paddr(T_RAM_START);
    t_w.kernel.physmap.len = 0x1000;
}

static void corrupt(void)
{
    t_w.spaces.nr_spaces++;
}

static unsigned spaces(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)t_w.space;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)mm_space_kernel(&t_w.spaces);
    v[3] = (uint64_t)(uintptr_t)t_w.lone;
    return 4;
}

static unsigned groups(uint64_t *v)
{
    v[0] = 0;
    v[1] = (uint64_t)(uintptr_t)&t_w.spare.group;
    v[2] = (uint64_t)(uintptr_t)&t_w.gone.group;
    v[3] = (uint64_t)(uintptr_t)&t_w.never;
    return 4;
}

#define SPACE  T_OF("space", spaces)
#define SPACES T_LIVE_GONE(spaces, spaces)
#define GROUP  T_LIVE_GONE(spare.group, group)
#define ANYWHERE                                                                                   \
    T_NUM("lowest", PAGE), T_NUM("mmap_base", GIB), T_NUM("top", 2 * GIB),                         \
        T_NUM("stack_gap", 4 * PAGE), T_NUM("stack_max", 8 * PAGE), T_U32("random_bits", 8),       \
        T_NUM("mapped_bytes", 0), T_NUM("resident_bytes", 0), T_OF("group", groups)
#define LIMITS T_GIVEN("limits"), T_NUM("mapped_bytes", 64 * PAGE), T_NUM("resident_bytes", 0)

static const struct t_call layout[] = {
    {.name = "mm_space_create_with",
     .invoke = do_create_with,
     .setup = no_free_space,
     .flags = T_CAN_FAIL,
     .args = {SPACES, T_GIVEN("config"), ANYWHERE, T_OUT}},
    {.name = "mm_space_create_with",
     .note = "no user range",
     .invoke = do_create_with,
     .setup = no_user_range,
     .flags = T_BAD_ONLY,
     .args = {SPACES, T_GIVEN("config"), ANYWHERE, T_OUT}},
    {.name = "mm_space_create_with",
     .note = "a root beyond reach",
     .invoke = do_create_with,
     .setup = short_reach,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {SPACES, T_GIVEN("config"), ANYWHERE, T_OUT}},
    {.name = "mm_space_get_layout", .invoke = do_get_layout, .args = {SPACE, T_OUT}},
    {.name = "mm_space_set_limits", .invoke = do_set_limits, .args = {SPACE, LIMITS}},
    {.name = "mm_space_group_init",
     .invoke = do_group_init,
     .args = {T_FRESH_(group, spare.group), LIMITS}},
    {.name = "mm_space_group_destroy", .invoke = do_group_destroy, .args = {GROUP}},
    {.name = "mm_space_group_destroy",
     .note = "a space is in it",
     .invoke = do_group_destroy,
     .setup = in_a_group,
     .flags = T_BAD_ONLY,
     .args = {GROUP}},
    {.name = "mm_space_group_set_limits", .invoke = do_group_set_limits, .args = {GROUP, LIMITS}},
    {.name = "mm_space_group_get_stats", .invoke = do_group_get_stats, .args = {GROUP, T_OUT}},
    {.name = "mm_spaces_get_stats", .invoke = do_get_stats, .args = {SPACES, T_OUT}},
    {.name = "mm_spaces_get_stats",
     .note = "without a kernel's space",
     .invoke = do_get_stats,
     .flags = T_VARIANT,
     .args = {T_LIVE_(spare.spaces), T_OUT}},
    {.name = "mm_spaces_check", .invoke = do_check, .args = {SPACES}},
    {.name = "mm_spaces_check",
     .note = "it contradicts itself",
     .invoke = do_check,
     .setup = corrupt,
     .flags = T_BAD_ONLY,
     .args = {SPACES}},
};

const struct t_call_list t_calls_layout = T_CALL_LIST(layout);
