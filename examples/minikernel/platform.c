// SPDX-License-Identifier: MIT
//
// What this kernel supplies to libmm beside memcpy() and its like: a way to end, and a line of log.
// One CPU, no threads, no interrupts: all other ops keep their defaults.

#include <stddef.h>

#include "log.h"
#include "memory.h"
#include "panic.h"
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
    log_print("  ");
    for (size_t i = 0; i < len; i++) {
        serial_put(line[i]);
    }
    serial_put('\n');
}

struct mm_platform platform_ops(void)
{
    static const struct mm_platform_ops ops = {.panic = on_panic, .log = on_log};
    return (struct mm_platform){&ops, NULL};
}

void must(mm_status_t status, const char *what)
{
    if (status != MM_OK) {
        panic("%s: %s", what, mm_status_str(status));
    }
}
