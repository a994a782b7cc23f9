// SPDX-License-Identifier: MIT
/**
 * The bridge from the library's panic hook to T_EXPECT_PANIC. A test hands t_platform() to every
 * init call; the rest of tests/support/ knows nothing of the library, not even its public headers.
 */
#ifndef T_TRAP_MM_H
#define T_TRAP_MM_H

#include "trap.h"

#include <mm/platform.h>

#include <stdio.h>

static inline void t_platform_panic(void *ctx, const struct mm_panic_info *panic)
{
    struct t_trap_info info = {.kind = T_TRAP_PANIC,
                               .address = panic->address,
                               .recorded_value = panic->recorded_value,
                               .claimed_value = panic->claimed_value,
                               .allocated_by = panic->allocated_by,
                               .freed_by = panic->freed_by,
                               .caller = panic->caller};

    (void)ctx;
    (void)snprintf(info.room, sizeof(info.room), "%s", panic->room ? panic->room : "");
    (void)snprintf(info.what, sizeof(info.what), "%s", panic->what ? panic->what : "");
    (void)snprintf(info.recorded, sizeof(info.recorded), "%s",
                   panic->recorded ? panic->recorded : "");
    (void)snprintf(info.claimed, sizeof(info.claimed), "%s", panic->claimed ? panic->claimed : "");
    t_trap_panic(&info);
}

/** A platform whose only op is the panic hook. */
static inline struct mm_platform t_platform(void)
{
    static const struct mm_platform_ops ops = {.panic = t_platform_panic};
    struct mm_platform platform = {&ops, NULL};

    return platform;
}

#endif
