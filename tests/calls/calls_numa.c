// SPDX-License-Identifier: MIT
/**
 * Calls of the NUMA topology. The world has two tables and four topologies: of which nothing was
 * read, the SRAT, both; and one whose arrays are too small.
 */
#include "calls.h"

#include <string.h>

static int do_init(const uint64_t *a)
{
    return (int)mm_numa_init(T_P(0), T_P(1), T_W32(2), T_P(3), T_W32(4));
}

/* The good bytes, those of the other table, and good ones that say another length. */
static void *table(const uint64_t *a)
{
    return a[1] == 0 ? NULL : t_w.numa_tables + (a[1] - 8);
}

static int read_table(const uint64_t *a, uint32_t at,
                      mm_status_t (*read)(struct mm_numa *, const void *, size_t,
                                          struct mm_numa_error *))
{
    uint8_t was = t_w.numa_tables[at + 4];
    int status;

    t_w.numa_tables[at + 4] = (uint8_t)a[4]; /* the length that it claims */
    status = (int)read(T_P(0), table(a), a[2], T_P(3));
    t_w.numa_tables[at + 4] = was;
    return status;
}

static int do_read_srat(const uint64_t *a)
{
    return read_table(a, T_SRAT_AT, mm_numa_read_srat);
}

static int do_read_slit(const uint64_t *a)
{
    return read_table(a, T_SLIT_AT, mm_numa_read_slit);
}

static unsigned unread(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)&t_w.numa_unread;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)&t_w.numa_small;
    v[3] = (uint64_t)(uintptr_t)&t_w.numa;
    v[4] = (uint64_t)(uintptr_t)&t_w.numa_srat;
    v[5] = (uint64_t)(uintptr_t)&t_w.fresh.numa;
    return 6;
}

static unsigned with_srat(uint64_t *v)
{
    (void)unread(v);
    v[0] = (uint64_t)(uintptr_t)&t_w.numa_srat;
    v[4] = (uint64_t)(uintptr_t)&t_w.numa_unread;
    return 6;
}

static unsigned srat_at(uint64_t *v)
{
    v[0] = 8 + T_SRAT_AT;
    v[1] = 0;
    v[2] = 8 + T_SLIT_AT;
    v[3] = 8 + T_SRAT_AT + 1;
    return 4;
}

static unsigned slit_at(uint64_t *v)
{
    (void)srat_at(v);
    v[0] = 8 + T_SLIT_AT;
    v[2] = 8 + T_SRAT_AT;
    return 4;
}

static unsigned srat_lengths(uint64_t *v)
{
    static const uint64_t all[] = {T_SRAT_LEN, 0, 1, 35, 47, 48, T_SRAT_LEN - 1, T_SRAT_LEN + 1};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned slit_lengths(uint64_t *v)
{
    static const uint64_t all[] = {T_SLIT_LEN, 0, 1, 35, 43, 44, T_SLIT_LEN - 1, T_SLIT_LEN + 1};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static int do_node_of(const uint64_t *a)
{
    return T_NONZERO(mm_numa_node_of(T_P(0), mm_paddr(a[1])) != MM_NUMA_NO_NODE);
}

static int do_node_near(const uint64_t *a)
{
    return T_NONZERO(mm_numa_node_near(T_P(0), mm_paddr(a[1])));
}

static int do_node_of_apic(const uint64_t *a)
{
    return T_NONZERO(mm_numa_node_of_apic(T_P(0), T_W32(1)) != MM_NUMA_NO_NODE);
}

static int do_node_of_domain(const uint64_t *a)
{
    return T_NONZERO(mm_numa_node_of_domain(T_P(0), T_W32(1)) != MM_NUMA_NO_NODE);
}

static int do_domain_of(const uint64_t *a)
{
    return (int)mm_numa_domain_of(T_P(0), T_W32(1), T_P(2));
}

static int do_distance(const uint64_t *a)
{
    return T_NONZERO(mm_numa_distance(T_P(0), T_W32(1), T_W32(2)) != MM_NUMA_UNREACHABLE);
}

static int do_next_range(const uint64_t *a)
{
    return (int)mm_numa_next_range(T_P(0), mm_paddr(a[1]), T_P(2));
}

static const struct t_call numa[] = {
    {.name = "mm_numa_init",
     .invoke = do_init,
     .args = {T_FRESH_(numa, numa), T_PTR(numa_ranges), T_U32("ranges_capacity", 4),
              T_PTR(numa_cpus), T_U32("cpus_capacity", 4)}},
    {.name = "mm_numa_read_srat",
     .invoke = do_read_srat,
     .tells = T_BIT(MM_ERR_CORRUPTED) | T_BIT(MM_ERR_LIMIT), /* what is wrong */
     .args = {T_OF("numa", unread), T_OF("data", srat_at), T_OF("len", srat_lengths), T_OUT,
              T_OF("length", srat_lengths)}},
    {.name = "mm_numa_read_slit",
     .invoke = do_read_slit,
     .tells = T_BIT(MM_ERR_CORRUPTED),
     .args = {T_OF("numa", with_srat), T_OF("data", slit_at), T_OF("len", slit_lengths), T_OUT,
              T_OF("length", slit_lengths)}},
    {.name = "mm_numa_node_of",
     .invoke = do_node_of,
     .args = {T_LIVE_(numa), T_NUM("paddr", 0x2000)}},
    {.name = "mm_numa_node_near",
     .invoke = do_node_near,
     .args = {T_LIVE_(numa), T_NUM("paddr", UINT64_C(0x200000))}},
    {.name = "mm_numa_node_of_apic",
     .invoke = do_node_of_apic,
     .args = {T_LIVE_(numa), T_U32("apic_id", 7)}},
    {.name = "mm_numa_node_of_domain",
     .invoke = do_node_of_domain,
     .args = {T_LIVE_(numa), T_U32("domain", 1)}},
    {.name = "mm_numa_domain_of",
     .invoke = do_domain_of,
     .args = {T_LIVE_(numa), T_U32("node", 0), T_OUT}},
    {.name = "mm_numa_distance",
     .invoke = do_distance,
     .args = {T_LIVE_(numa), T_U32("from", 0), T_U32("to", 1)}},
    {.name = "mm_numa_next_range",
     .invoke = do_next_range,
     .args = {T_LIVE_(numa), T_NUM("from", 0), T_OUT}},
};

const struct t_call_list t_calls_numa = T_CALL_LIST(numa);
