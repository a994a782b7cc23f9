// SPDX-License-Identifier: MIT
/**
 * Calls of the adapters for firmware's memory maps. The world holds two entries of each source, of
 * which the second is past the room of `empty_map`.
 */
#include "calls.h"

#include <string.h>

static unsigned maps(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)&t_w.map;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)&t_w.empty_map; /* room for one */
    v[3] = (uint64_t)(uintptr_t)&t_w.fresh.map;
    return 4;
}

/* Whole entries, parts of them, none; at most what is there. */
static unsigned lengths(uint64_t *v)
{
    static const uint64_t all[] = {96, 0, 1, 20, 24, 39, 40, 48, 95};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned sizes(uint64_t *v)
{
    static const uint64_t all[] = {48, 0, 1, 19, 20, 23, 24, 39, 40, 96, UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned versions(uint64_t *v)
{
    v[0] = 1;
    v[1] = 0;
    v[2] = 2;
    v[3] = UINT32_MAX;
    return 4;
}

/* Whole pointers, one that is null, none, and arrays that no memory holds. */
static unsigned counts(uint64_t *v)
{
    static const uint64_t all[] = {2, 0, 1, 3, UINT64_C(1) << 61, UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static int do_uefi(const uint64_t *a)
{
    return (int)mm_uefi_read_map(T_P(0), T_P(1), a[2], a[3], T_W32(4), T_P(5), T_P(6));
}

static int do_e820(const uint64_t *a)
{
    return (int)mm_e820_read_map(T_P(0), T_P(1), a[2], a[3], T_W32(4), T_P(5), T_P(6));
}

static int do_limine(const uint64_t *a)
{
    return (int)mm_limine_read_map(T_P(0), T_P(1), a[2], T_P(3), T_P(4));
}

static const struct t_call firmware[] = {
    {.name = "mm_uefi_read_map",
     .invoke = do_uefi,
     .tells = T_BIT(MM_ERR_CORRUPTED), /* what is wrong */
     .args = {T_OF("map", maps), T_PTR(efi_map), T_OF("len", lengths),
              T_OF("descriptor_size", sizes), T_BAD_OF("descriptor_version", versions), T_OUT,
              T_OUT2}},
    {.name = "mm_e820_read_map",
     .invoke = do_e820,
     .tells = T_BIT(MM_ERR_CORRUPTED),
     .args = {T_OF("map", maps), T_PTR(e820_map), T_OF("len", lengths), T_OF("entry_size", sizes),
              T_BITS("flags", 0, MM_E820_FLAGS_ALL), T_OUT, T_OUT2}},
    {.name = "mm_limine_read_map",
     .invoke = do_limine,
     .tells = T_BIT(MM_ERR_CORRUPTED),
     .args = {T_OF("map", maps), T_PTR(limine_map), T_OF("nr", counts), T_OUT, T_OUT2}},
};

const struct t_call_list t_calls_firmware = T_CALL_LIST(firmware);
