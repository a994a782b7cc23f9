// SPDX-License-Identifier: MIT
/**
 * Calls of the base and boot rooms.
 */
#include "calls.h"

#include <string.h>

/* --- base -------------------------------------------------------------------------------------- */

static int do_add(const uint64_t *a)
{
    return T_NONZERO(mm_add(a[0], a[1], (uint64_t *)t_w.out));
}

static int do_sub(const uint64_t *a)
{
    return T_NONZERO(mm_sub(a[0], a[1], (uint64_t *)t_w.out));
}

static int do_mul(const uint64_t *a)
{
    return T_NONZERO(mm_mul(a[0], a[1], (uint64_t *)t_w.out));
}

static int do_align_up(const uint64_t *a)
{
    return T_NONZERO(mm_align_up(a[0], a[1], (uint64_t *)t_w.out));
}

static int do_vaddr_to_ptr(const uint64_t *a)
{
    return (int)mm_vaddr_to_ptr(mm_vaddr(a[0]), (void **)t_w.out);
}

static int do_memtype_str(const uint64_t *a)
{
    const char *name = mm_memtype_str((mm_memtype_t)T_W32(0));

    return T_NONZERO(name != NULL && (T_W32(0) < MM_MEMTYPE_COUNT || strcmp(name, "?") == 0));
}

static int do_status_str(const uint64_t *a)
{
    const char *name = mm_status_str((mm_status_t)T_W32(0));

    return T_NONZERO(name != NULL &&
                     (strcmp(name, "MM_ERR_?") == 0) == (T_W32(0) >= MM_STATUS_COUNT));
}

static int do_version(const uint64_t *a)
{
    (void)a;
    return T_NONZERO(mm_version() == MM_VERSION);
}

static int do_signature(const uint64_t *a)
{
    (void)a;
    return T_NONZERO(mm_config_signature() == MM_CONFIG_SIGNATURE);
}

/* Powers of two, as the contract demands of the caller. */
static unsigned powers(uint64_t *v)
{
    v[0] = 4096;
    v[1] = 1;
    v[2] = 2;
    v[3] = UINT64_C(1) << 63;
    return 4;
}

static const struct t_call base[] = {
    {.name = "mm_add", .invoke = do_add, .args = {T_NUM("a", 5), T_NUM("b", 6)}},
    {.name = "mm_sub", .invoke = do_sub, .args = {T_NUM("a", 6), T_NUM("b", 5)}},
    {.name = "mm_mul", .invoke = do_mul, .args = {T_NUM("a", 5), T_NUM("b", 6)}},
    {.name = "mm_align_up", .invoke = do_align_up, .args = {T_NUM("x", 5), T_OF("align", powers)}},
    {.name = "mm_vaddr_to_ptr", .invoke = do_vaddr_to_ptr, .args = {T_NUM("at", 4096)}},
    {.name = "mm_memtype_str",
     .invoke = do_memtype_str,
     .args = {T_ENUM("type", 0, MM_MEMTYPE_COUNT)}},
    {.name = "mm_status_str",
     .invoke = do_status_str,
     .args = {T_ENUM("status", 0, MM_STATUS_COUNT)}},
    {.name = "mm_version", .invoke = do_version},
    {.name = "mm_config_signature", .invoke = do_signature},
};

const struct t_call_list t_calls_base = T_CALL_LIST(base);

/* --- boot -------------------------------------------------------------------------------------- */

static int do_init(const uint64_t *a)
{
    return (int)mm_bootmap_init(T_P(0), T_P(1), T_W32(2));
}

/* As many as the contract allows, and more: none is read. */
static unsigned capacities(uint64_t *v)
{
    v[0] = 4;
    v[1] = 0;
    v[2] = 1;
    v[3] = UINT64_C(1) << 31;
    v[4] = (UINT64_C(1) << 31) + 1;
    v[5] = UINT32_MAX;
    return 6;
}

static int do_bootmap_add(const uint64_t *a)
{
    return (int)mm_bootmap_add(T_P(0), T_PRANGE(1), (enum mm_boot_kind)T_W32(3));
}

static int do_room(const uint64_t *a)
{
    return T_NONZERO(mm_bootmap_room(T_P(0)));
}

static int do_normalize(const uint64_t *a)
{
    return (int)mm_bootmap_normalize(T_P(0));
}

static int do_next(const uint64_t *a)
{
    return (int)mm_bootmap_next(T_P(0), (enum mm_boot_kind)T_W32(1), mm_paddr(a[2]), T_P(3));
}

static int do_next_frames(const uint64_t *a)
{
    return (int)mm_bootmap_next_frames(T_P(0), T_W32(1), T_W32(2), mm_paddr(a[3]), T_P(4));
}

static int do_largest(const uint64_t *a)
{
    return (int)mm_bootmap_largest(T_P(0), T_PRANGE(1), T_P(3));
}

static int do_largest_mapped(const uint64_t *a)
{
    struct mm_physmap physmap = {.base = a[2], .first = {a[3]}, .len = a[4]};

    if (a[5] != 0) {
        physmap.ops = &t_world_physmap_ops;
    }
    return (int)mm_bootmap_largest_mapped(T_P(0), a[1] == 0 ? NULL : &physmap, T_PRANGE(6), T_P(8),
                                          T_P(9));
}

static int do_take(const uint64_t *a)
{
    return (int)mm_bootmap_take(T_P(0), a[1], a[2], T_PRANGE(3), T_P(5));
}

static int do_give(const uint64_t *a)
{
    return (int)mm_bootmap_give(T_P(0), T_PRANGE(1));
}

static int do_reclaim(const uint64_t *a)
{
    return (int)mm_bootmap_reclaim(T_P(0), (enum mm_boot_kind)T_W32(1));
}

static int do_usable_bytes(const uint64_t *a)
{
    return T_NONZERO(mm_bootmap_usable_bytes(T_P(0)));
}

static int do_kind_str(const uint64_t *a)
{
    const char *name = mm_boot_kind_str((enum mm_boot_kind)T_W32(0));

    return T_NONZERO(name != NULL && (strcmp(name, "?") == 0) == (T_W32(0) >= MM_BOOT_KIND_COUNT));
}

/* Queries normalise a map when that is due, which is no failure: they get one that is normal. */
static void normal(void)
{
    (void)!mm_bootmap_normalize(&t_w.raw);
}

static void taken(void)
{
    struct mm_prange out;

    normal();
    (void)!mm_bootmap_take(&t_w.raw, 0x3000, 4096, mm_prange(mm_paddr(0), UINT64_MAX), &out);
}

/* --- multiboot2: what is given, what it says of itself, and a map too small -------------------- */

static int do_read(const uint64_t *a)
{
    uint32_t was = t_w.multiboot2[0];
    int status;

    t_w.multiboot2[0] = T_W32(7); /* the total size it claims */
    status = (int)mm_multiboot2_read(T_P(0), a[1] == 0 ? NULL : (char *)t_w.multiboot2 + (a[1] - 8),
                                     a[2], mm_paddr(a[3]), a[4], T_P(5), T_P(6));
    t_w.multiboot2[0] = was;
    return status;
}

static unsigned offsets(uint64_t *v)
{
    v[0] = 8;
    v[1] = 0;
    v[2] = 9;
    v[3] = 12;
    v[4] = 8 + 128; /* the one without a map */
    return 5;
}

static unsigned lengths(uint64_t *v)
{
    static const uint64_t all[] = {56, 0, 1, 7, 8, 15, 16, 24, 55, 57, 64};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned maps(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)&t_w.map;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)&t_w.empty_map; /* room for one */
    v[3] = (uint64_t)(uintptr_t)&t_w.fresh.map;
    return 4;
}

#define WITHIN T_NUM("within", 0), T_NUM("within.len", UINT64_MAX)

static const struct t_call boot[] = {
    {.name = "mm_bootmap_init",
     .invoke = do_init,
     .args = {T_FRESH_(map, map), T_PTR(fresh_entries), T_OF("capacity", capacities)}},
    {.name = "mm_bootmap_add",
     .invoke = do_bootmap_add,
     .args = {T_LIVE_(map), T_NUM("start", 0x800000), T_NUM("len", 0x1000),
              T_ENUM("kind", 0, MM_BOOT_KIND_COUNT)}},
    {.name = "mm_bootmap_add",
     .note = "no room",
     .invoke = do_bootmap_add,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(raw), T_NUM("start", 0x800000), T_NUM("len", 0x1000),
              T_ENUM("kind", 0, MM_BOOT_KIND_COUNT)}},
    {.name = "mm_bootmap_room", .invoke = do_room, .args = {T_LIVE_(map)}},
    {.name = "mm_bootmap_normalize", .invoke = do_normalize, .args = {T_LIVE_(raw)}},
    {.name = "mm_bootmap_next",
     .invoke = do_next,
     .setup = normal,
     .args = {T_LIVE_(raw), T_ENUM("kind", 0, MM_BOOT_KIND_COUNT), T_NUM("from", 0), T_OUT}},
    {.name = "mm_bootmap_next_frames",
     .invoke = do_next_frames,
     .setup = normal,
     .args = {T_LIVE_(raw), T_BITS("whole", MM_BOOT_KINDS_RAM, (1u << MM_BOOT_KIND_COUNT) - 1),
              T_BITS("touched", 0, (1u << MM_BOOT_KIND_COUNT) - 1), T_NUM("from", 0), T_OUT}},
    {.name = "mm_bootmap_largest",
     .invoke = do_largest,
     .setup = normal,
     .args = {T_LIVE_(raw), WITHIN, T_OUT}},
    {.name = "mm_bootmap_largest_mapped",
     .invoke = do_largest_mapped,
     .setup = normal,
     .args = {T_LIVE_(raw), T_GIVEN("physmap"), T_NUM("base", UINT64_C(0xffff800000000000)),
              T_NUM("first", 0), T_NUM("reach", 0), T_UPTO("ops", 0, 1), WITHIN, T_OUT, T_OUT2}},
    {.name = "mm_bootmap_take",
     .invoke = do_take,
     .setup = normal,
     .args = {T_LIVE_(map), T_NUM("len", 0x2000), T_NUM("align", 4096), WITHIN, T_OUT}},
    {.name = "mm_bootmap_take",
     .note = "no room",
     .invoke = do_take,
     .flags = T_BAD_ONLY,
     .setup = normal,
     .args = {T_LIVE_(raw), T_NUM("len", 0x2000), T_NUM("align", 4096), WITHIN, T_OUT}},
    {.name = "mm_bootmap_give",
     .invoke = do_give,
     .setup = normal,
     .args = {T_LIVE_(raw), T_NUM("start", 0x100000), T_NUM("len", 0x100000)}},
    {.name = "mm_bootmap_give",
     .note = "a part of the middle",
     .invoke = do_give,
     .setup = taken,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(raw), T_NUM("start", 0x101000), T_NUM("len", 0x1000)}},
    {.name = "mm_bootmap_reclaim",
     .invoke = do_reclaim,
     .setup = normal,
     .args = {T_LIVE_(raw), T_ENUM("kind", MM_BOOT_BOOTLOADER, MM_BOOT_KIND_COUNT)}},
    {.name = "mm_bootmap_usable_bytes",
     .invoke = do_usable_bytes,
     .setup = normal,
     .args = {T_LIVE_(raw)}},
    {.name = "mm_boot_kind_str",
     .invoke = do_kind_str,
     .args = {T_ENUM("kind", 0, MM_BOOT_KIND_COUNT)}},
    {.name = "mm_multiboot2_read",
     .invoke = do_read,
     .tells = T_BIT(MM_ERR_CORRUPTED), /* what is wrong */
     .args = {T_OF("map", maps), T_OF("data", offsets), T_OF("len", lengths),
              T_NUM("paddr", 0x9000), T_NUM("kernel_offset", 0), T_OUT, T_OUT2,
              T_OF("total_size", lengths)}},
};

const struct t_call_list t_calls_boot = T_CALL_LIST(boot);
