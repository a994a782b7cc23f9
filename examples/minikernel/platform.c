// SPDX-License-Identifier: MIT
//
// What this kernel supplies to libmm beside memcpy() and its like: a way to end, a line of log, and the
// number of the processor. No threads, no interrupts: all other ops keep their defaults.

#include <stddef.h>

#include "log.h"
#include "memory.h"
#include "panic.h"
#include "percpu.h"
#include "serial.h"

static void on_panic(void *ctx, const struct mm_panic_info *info)
{
    (void)ctx;
    panic("%s: %s at 0x%lx; on record: %s (%lu); claimed: %s (%lu)", info->room, info->what,
          info->address, info->recorded, info->recorded_value, info->claimed, info->claimed_value);
}

static void on_log(void *ctx, const char *line, size_t len)
{
    (void)ctx;
    log_begin();
    log_print("  ");
    for (size_t i = 0; i < len; i++) {
        serial_put(line[i]);
    }
    serial_put('\n');
    log_end();
}

static uint32_t on_cpu_number(void *ctx)
{
    (void)ctx;
    return percpu_self()->number;
}

struct mm_platform platform_ops(void)
{
    static const struct mm_platform_ops ops = {
        .panic = on_panic,
        .log = on_log,
        .cpu_number = on_cpu_number,
    };
    return (struct mm_platform){&ops, NULL};
}

void must(mm_status_t status, const char *what)
{
    if (status != MM_OK) {
        panic("%s: %s", what, mm_status_str(status));
    }
}
