// SPDX-License-Identifier: MIT
/**
 * Calls of per-CPU areas.
 */
#include "calls.h"

#include <string.h>

#define PAGE UINT64_C(4096)

static int do_percpu_init(const uint64_t *a)
{
    struct mm_percpu_config config = t_world_percpu_config();
    const uint32_t nodes[2] = {T_W32(6), 0};

    config.kva = T_P(2);
    config.start = T_P(3);
    config.len = a[4];
    config.nr_cpus = T_W32(5);
    config.cpu_nodes = config.nr_cpus <= 2 ? nodes : NULL;
    return (int)mm_percpu_init(T_P(0), a[1] == 0 ? NULL : &config);
}

static int do_percpu_destroy(const uint64_t *a)
{
    return (int)mm_percpu_destroy(T_P(0));
}

/* --- set-ups ----------------------------------------------------------------------------------- */

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

static unsigned templates(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)t_w.sections;
    v[1] = 0;
    return 2;
}

static unsigned template_lengths(uint64_t *v)
{
    static const uint64_t all[] = {sizeof(t_w.sections), 0, 1, T_KVA_LEN + 1, UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned cpu_counts(uint64_t *v)
{
    v[0] = 2;
    v[1] = 0;
    v[2] = 1;
    v[3] = MM_MAX_CPUS;
    v[4] = MM_MAX_CPUS + 1;
    v[5] = UINT32_MAX;
    return 6;
}

static unsigned nodes(uint64_t *v)
{
    v[0] = 0;
    v[1] = 1;
    v[2] = UINT32_MAX;
    return 3;
}

#define EMPTY T_LIVE_(spare.kva) /* where the first range needs tables, and pages of the pool */
#define PERCPU                                                                                     \
    T_FRESH_(percpu, percpu), T_GIVEN("config"), T_LIVE_GONE(kva, kva), T_OF("start", templates),  \
        T_OF("len", template_lengths), T_OF("nr_cpus", cpu_counts), T_OF("node", nodes)

static const struct t_call percpu[] = {
    {.name = "mm_percpu_init", .invoke = do_percpu_init, .flags = T_CAN_FAIL, .args = {PERCPU}},
    {.name = "mm_percpu_init",
     .note = "with new tables",
     .invoke = do_percpu_init,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {T_FRESH_(percpu, percpu), T_GIVEN("config"), EMPTY, T_OF("start", templates),
              T_UPTO("len", 100, 0), T_UPTO("nr_cpus", 2, 0), T_UPTO("node", 0, 0)}},
    {.name = "mm_percpu_init",
     .note = "tables that the root does not see",
     .invoke = do_percpu_init,
     .setup = short_sighted,
     .flags = T_BAD_ONLY,
     .args = {T_FRESH_(percpu, percpu), T_GIVEN("config"), EMPTY, T_OF("start", templates),
              T_UPTO("len", 100, 0), T_UPTO("nr_cpus", 2, 0), T_UPTO("node", 0, 0)}},
    {.name = "mm_percpu_init",
     .note = "no room",
     .invoke = do_percpu_init,
     .setup = no_room,
     .flags = T_BAD_ONLY,
     .args = {T_FRESH_(percpu, percpu), T_GIVEN("config"), EMPTY, T_OF("start", templates),
              T_UPTO("len", 100, 0), T_UPTO("nr_cpus", 2, 0), T_UPTO("node", 0, 0)}},
    {.name = "mm_percpu_destroy",
     .invoke = do_percpu_destroy,
     .args = {T_LIVE_GONE(spare.percpu, percpu)}},
};

const struct t_call_list t_calls_percpu = T_CALL_LIST(percpu);
