// SPDX-License-Identifier: MIT
/**
 * The platform of the library on the CPUs of the scheduler: ops are points, waiting is told, a
 * panic ends the schedule or is caught.
 */
#ifndef T_SCHEDULE_MM_H
#define T_SCHEDULE_MM_H

#include "schedule.h"

#include <mm/platform.h>

#include <stdio.h>

static inline void t_race_panic(void *ctx, const struct mm_panic_info *panic)
{
    char text[200];

    (void)ctx;
    (void)snprintf(
        text, sizeof(text), "%s: %s at 0x%llx; recorded: %s (%llu); claimed: %s (%llu)",
        panic->room != NULL ? panic->room : "", panic->what != NULL ? panic->what : "",
        (unsigned long long)panic->address, panic->recorded != NULL ? panic->recorded : "",
        (unsigned long long)panic->recorded_value, panic->claimed != NULL ? panic->claimed : "",
        (unsigned long long)panic->claimed_value);
    t_schedule_panic(text);
}

static inline uint32_t t_race_cpu_number(void *ctx)
{
    (void)ctx;
    t_schedule_point();
    return t_schedule_cpu();
}

static inline void t_race_relax(void *ctx)
{
    (void)ctx;
    t_schedule_spin();
}

static inline void t_race_event(void *ctx, const struct mm_event *event)
{
    (void)ctx;
    (void)event;
    t_schedule_point();
}

/* What a check complains of goes to the error output, so that it stands beside the schedule. */
static inline void t_race_log(void *ctx, const char *line, size_t len)
{
    (void)ctx;
    (void)fprintf(stderr, "%.*s\n", (int)len, line);
}

static inline struct mm_platform t_race_platform(void)
{
    static const struct mm_platform_ops ops = {.panic = t_race_panic,
                                               .log = t_race_log,
                                               .event = t_race_event,
                                               .cpu_number = t_race_cpu_number,
                                               .relax = t_race_relax};
    struct mm_platform platform = {&ops, NULL};

    return platform;
}

#endif
