// SPDX-License-Identifier: MIT
//
// Each access in a function of its own, to be abandoned by trap_try() if it faults.

#include "probe.h"

#include "cpu.h"

static void load(void *at)
{
    (void)*(volatile uint8_t *)at;
}

static void store(void *at)
{
    *(volatile uint8_t *)at = 0x5a;
}

static void call(void *at)
{
    cpu_call(at);
}

static void *pointer(mm_vaddr_t at)
{
    return (void *)(uintptr_t)at.raw;
}

bool probe_load(mm_vaddr_t at, struct trap_report *report)
{
    return trap_try(load, pointer(at), report);
}

bool probe_store(mm_vaddr_t at, struct trap_report *report)
{
    return trap_try(store, pointer(at), report);
}

bool probe_call(mm_vaddr_t at, struct trap_report *report)
{
    return trap_try(call, pointer(at), report);
}

bool probe_is(const struct trap_report *report, mm_vaddr_t at, uint64_t error)
{
    return report->vector == TRAP_PAGE_FAULT && report->address == at.raw && report->error == error;
}

bool probe_unmapped(mm_vaddr_t at)
{
    struct trap_report r;
    return probe_load(at, &r) && probe_is(&r, at, 0);
}

uint64_t probe_get(mm_vaddr_t at)
{
    return *(volatile uint64_t *)pointer(at);
}

void probe_set(mm_vaddr_t at, uint64_t value)
{
    *(volatile uint64_t *)pointer(at) = value;
}
