// SPDX-License-Identifier: MIT
/**
 * Calls of the shootdown. The world has one CPU; what only others could bring about is set by hand.
 */
#include "calls.h"

static int do_init(const uint64_t *a)
{
    struct mm_tlb_config config = t_world_tlb_config(3);
    struct mm_tlb_ops ops = t_world_tlb_ops;

    config.backend.ops = a[2] == 0 ? NULL : config.backend.ops;
    config.cpus = a[3] == 0 ? NULL : config.cpus;
    config.nr_cpus = T_W32(4);
    ops.this_cpu = a[6] == 0 ? NULL : ops.this_cpu;
    ops.interrupt = a[7] == 0 ? NULL : ops.interrupt;
    config.ops = a[5] == 0 ? NULL : &ops;
    return (int)mm_tlb_init(T_P(0), a[1] == 0 ? NULL : &config);
}

static int do_destroy(const uint64_t *a)
{
    return (int)mm_tlb_destroy(T_P(0));
}

static int do_online(const uint64_t *a)
{
    return (int)mm_tlb_online(T_P(0));
}

static int do_offline(const uint64_t *a)
{
    return (int)mm_tlb_offline(T_P(0));
}

static int do_service(const uint64_t *a)
{
    return T_MADE(mm_tlb_service(T_P(0)));
}

static int do_get_stats(const uint64_t *a)
{
    return (int)mm_tlb_get_stats(T_P(0), T_P(1));
}

static int do_cpus(const uint64_t *a)
{
    return (int)mm_tlb_cpus(T_P(0), T_P(1));
}

static int do_leave(const uint64_t *a)
{
    return (int)mm_paging_leave(T_P(0));
}

/* --- set-ups ----------------------------------------------------------------------------------- */

static void online(void)
{
    (void)!mm_tlb_online(&t_w.tlb);
    (void)!mm_tlb_online(&t_w.spare.tlb);
}

static void no_such_cpu(void)
{
    t_w.this_cpu = 2;
}

static void in_a_user_root(void)
{
    online();
    t_w.tlb_cpus[0][0].loaded = (uintptr_t)&t_w.user;
}

static void user_has_tlb(void)
{
    t_w.user.tlb = &t_w.tlb;
}

static void spare_has_tlb(void)
{
    t_w.spare.pt.tlb = &t_w.tlb;
}

static unsigned cpu_counts(uint64_t *values)
{
    values[0] = 2;
    values[1] = 0;
    values[2] = MM_MAX_CPUS + 1;
    values[3] = UINT32_MAX;
    return 4;
}

static const struct t_call tlb[] = {
    {.name = "mm_tlb_init",
     .invoke = do_init,
     .args = {T_FRESH_(tlb, tlb), T_GIVEN("config"), T_GIVEN("backend"), T_GIVEN("cpus"),
              T_OF("nr_cpus", cpu_counts), T_GIVEN("ops"), T_GIVEN("this_cpu"),
              T_GIVEN("interrupt")}},
    {.name = "mm_tlb_destroy", .invoke = do_destroy, .args = {T_LIVE_GONE(spare.tlb, tlb)}},
    {.name = "mm_tlb_destroy",
     .note = "a CPU is online",
     .invoke = do_destroy,
     .setup = online,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(spare.tlb)}},
    {.name = "mm_tlb_online", .invoke = do_online, .args = {T_LIVE_GONE(tlb, tlb)}},
    {.name = "mm_tlb_online",
     .note = "no such CPU",
     .invoke = do_online,
     .setup = no_such_cpu,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(tlb)}},
    {.name = "mm_tlb_offline",
     .invoke = do_offline,
     .setup = online,
     .args = {T_LIVE_GONE(tlb, tlb)}},
    {.name = "mm_tlb_offline",
     .note = "no such CPU",
     .invoke = do_offline,
     .setup = no_such_cpu,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(tlb)}},
    {.name = "mm_tlb_offline",
     .note = "in a user root",
     .invoke = do_offline,
     .setup = in_a_user_root,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(tlb)}},
    {.name = "mm_tlb_service",
     .invoke = do_service,
     .setup = online,
     .args = {T_LIVE_GONE(tlb, tlb)}},
    {.name = "mm_tlb_get_stats", .invoke = do_get_stats, .args = {T_LIVE_GONE(tlb, tlb), T_OUT}},
    {.name = "mm_tlb_cpus",
     .invoke = do_cpus,
     .setup = user_has_tlb,
     .args = {T_LIVE_GONE(user, pt), T_OUT}},
    {.name = "mm_tlb_cpus",
     .note = "there is no tlb",
     .invoke = do_cpus,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(user), T_OUT}},
    {.name = "mm_paging_leave", .invoke = do_leave, .args = {T_LIVE_GONE(spare.pt, pt)}},
    {.name = "mm_paging_leave",
     .note = "a user root",
     .invoke = do_leave,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(user)}},
    {.name = "mm_paging_leave",
     .note = "on a CPU that is not online",
     .invoke = do_leave,
     .setup = spare_has_tlb,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(spare.pt)}},
};

const struct t_call_list t_calls_tlb = T_CALL_LIST(tlb);
