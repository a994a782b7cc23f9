// SPDX-License-Identifier: MIT
//
// What this kernel supplies to libmm beside memcpy() and its like: a way to end, a line of log, the
// number of the processor, interrupts off and on, and what to do while waiting. No threads: all other
// ops keep their defaults.

#include <stddef.h>

#include "cpu.h"
#include "log.h"
#include "memory.h"
#include "panic.h"
#include "percpu.h"
#include "serial.h"
#include "shootdown.h"

static void on_panic(void *ctx, const struct mm_panic_info *info)
{
    (void)ctx;
    if (info->caller != 0) {
        log_print("called from 0x%lx; allocated by 0x%lx, freed by 0x%lx (0: not recorded)\n",
                  info->caller, info->allocated_by, info->freed_by);
    }
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

static uintptr_t on_interrupt_save(void *ctx)
{
    uintptr_t flags = cpu_rflags();

    (void)ctx;
    cpu_interrupts_off();
    return flags;
}

static void on_interrupt_restore(void *ctx, uintptr_t saved)
{
    (void)ctx;
    if ((saved & CPU_RFLAGS_IF) != 0) {
        cpu_interrupts_on();
    }
}

static void on_relax(void *ctx)
{
    (void)ctx;
    shootdown_relax();
}

struct mm_platform platform_ops(void)
{
    static const struct mm_platform_ops ops = {
        .panic = on_panic,
        .log = on_log,
        .cpu_number = on_cpu_number,
        .interrupt_save = on_interrupt_save,
        .interrupt_restore = on_interrupt_restore,
        .relax = on_relax,
    };
    return (struct mm_platform){&ops, NULL};
}

void must(mm_status_t status, const char *what)
{
    if (status != MM_OK) {
        panic("%s: %s", what, mm_status_str(status));
    }
}
