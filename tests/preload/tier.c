// SPDX-License-Identifier: MIT
/**
 * What the preloaded malloc checks: MM_PRELOAD_TIER is fast, checked (also without it) or hardened;
 * MM_PRELOAD_SAMPLE=N puts one allocation in N on a page of its own between two that fault.
 *
 * What is found is printed, and ends the process.
 */
#define _GNU_SOURCE

#include "preload.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/** A page between guards for each sample, and the last guard. */
#define GUARDED_LEN ((2 * (uint64_t)MM_HEAP_SAMPLES_MAX + 1) * MM_PAGE_SIZE)

static const struct mm_heap *sampled_heap;

static void say_line(void *ctx, const char *line, size_t len)
{
    (void)ctx;
    preload_say("mm_preload: %.*s", (int)len, line);
}

static void report(void *ctx, const struct mm_heap_report *misuse)
{
    if (mm_heap_report_lines(misuse, say_line, ctx) != MM_OK) {
        preload_say("mm_preload: a report cannot be printed");
    }
    abort();
}

/* --- samples ---------------------------------------------------------------------------------- */

static mm_status_t open_page(void *ctx, void *page)
{
    (void)ctx;
    return mprotect(page, MM_PAGE_SIZE, PROT_READ | PROT_WRITE) == 0 ? MM_OK : MM_ERR_NO_MEMORY;
}

static void close_page(void *ctx, void *page)
{
    (void)ctx;
    if (madvise(page, MM_PAGE_SIZE, MADV_DONTNEED) == 0) {
        mprotect(page, MM_PAGE_SIZE, PROT_NONE);
    }
}

static const struct mm_heap_guard_ops guard_ops = {.open = open_page, .close = close_page};

/** A fault of ours is explained; of another, the instruction faults again, and that is the end. */
static void faulted(int number, siginfo_t *info, void *context)
{
    struct mm_heap_report misuse;

    (void)context;
    if (mm_heap_explain_fault(sampled_heap, (uint64_t)(uintptr_t)info->si_addr, &misuse) == MM_OK) {
        report(NULL, &misuse);
    }
    signal(number, SIG_DFL);
}

static void sample(struct mm_heap_config *config, const struct mm_heap *heap, uint32_t every)
{
    struct sigaction action = {.sa_sigaction = faulted, .sa_flags = SA_SIGINFO};
    void *window =
        mmap(NULL, GUARDED_LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (window == MAP_FAILED) {
        preload_say("mm_preload: no address space for samples");
        return;
    }
    sampled_heap = heap;
    config->sample_every = every;
    config->guards = (struct mm_heap_guards){
        .ops = &guard_ops, .base = (uint64_t)(uintptr_t)window, .len = GUARDED_LEN};
    sigaction(SIGSEGV, &action, NULL);
}

bool preload_tier(struct mm_heap_config *config, const struct mm_heap *heap)
{
    uint64_t every = preload_option_number("MM_PRELOAD_SAMPLE");
    char tier[16];

    config->report = report;
    if (!preload_option("MM_PRELOAD_TIER", tier, sizeof(tier)) || strcmp(tier, "checked") == 0) {
        config->tier = MM_HEAP_CHECKED;
    } else if (strcmp(tier, "fast") == 0) {
        config->tier = MM_HEAP_FAST;
    } else if (strcmp(tier, "hardened") == 0) {
        config->tier = MM_HEAP_HARDENED;
    } else {
        preload_say("mm_preload: MM_PRELOAD_TIER is fast, checked or hardened, not %s", tier);
        return false;
    }
    if (every != 0) {
        sample(config, heap, every > UINT32_MAX ? UINT32_MAX : (uint32_t)every);
    }
    return true;
}
