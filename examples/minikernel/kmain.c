// SPDX-License-Identifier: MIT
//
// Where C begins. Reads as the list of what a kernel does to have its memory managed; memory.c has
// the steps.

#include <stdint.h>

#include "check.h"
#include "checks.h"
#include "cpu.h"
#include "layout.h"
#include "log.h"
#include "memory.h"
#include "options.h"
#include "panic.h"
#include "percpu.h"
#include "power.h"
#include "probe.h"
#include "serial.h"
#include "smp.h"
#include "trap.h"

_Noreturn void kmain(uint32_t boot_info);

static struct memory memory;

static void read_nothing(void *ctx, uint32_t cpu)
{
    (void)ctx;
    if (cpu == 1) {
        (void)probe_get(mm_vaddr(LAYOUT_ARENA_BASE));
    }
}

// The log's lock is one for which others only spin: its holder must not wait for them. That they have
// all flushed by chance before anybody waits does not happen often.
static void wait_for_the_deaf(void)
{
    struct mm_vrange page = mm_vrange(mm_vaddr(LAYOUT_WINDOW), MM_PAGE_SIZE);

    log_begin();
    for (int i = 0; i < 1000; i++) {
        must(mm_paging_map(&memory.kernel, page, mm_paddr(0), MM_PROT_READ, MM_MEMTYPE_WB, 0),
             "a page in the window");
        must(memory_unmap(&memory, page, 0), "a page in the window");
    }
    log_end();
}

static void overflow_stack(void)
{
    uint64_t bottom = memory.stacks[percpu_self()->number].start.raw;

    __asm__ volatile("movq %0, %%rsp\n\tpushq $0" : : "r"(bottom) : "memory");
}

// What a test asks for: the ways in which a run must fail.
static void fail_as_asked(const struct options *options)
{
    if (options->fail) {
        CHECK("a check that fails fails the run", !options->fail);
    }
    if (options->panic) {
        (void)probe_get(mm_vaddr(LAYOUT_ARENA_BASE));
    }
    if (options->overflow) {
        overflow_stack();
    }
    if (options->panic_on_1) {
        smp_run(read_nothing, NULL);
    }
    if (options->deaf) {
        wait_for_the_deaf();
    }
    if (options->corrupt) {
        mm_pfn_t frame;
        must(mm_frame_alloc(&memory.frames, NULL, &frame), "a frame");
        mm_frame_free(&memory.frames, frame, 0);
        mm_frame_free(&memory.frames, frame, 0);
    }
}

// On the first processor's stack in the arena.
static void run_checks(void *ctx)
{
    const struct options *options = ctx;

    fail_as_asked(options);
    checks_reclaimed(&memory);
    checks_cpu(&memory);
    checks_smp(&memory);
    checks_shootdown(&memory, options);
    checks_standoff(&memory, options);
    checks_fork(&memory, options);
    checks_ring3(&memory, options);
    checks_kva(&memory);
    smp_stop(); // what follows runs on one
    checks_paging(&memory);
    checks_leaf(&memory);
    checks_nodes(&memory);
    checks_frame(&memory);
    checks_heap(&memory);
    checks_space(&memory);
    checks_user(&memory);
    checks_dma(&memory);
    if (options->threshold) {
        checks_threshold(&memory);
    }
    checks_both(&memory);
}

_Noreturn void kmain(uint32_t boot_info)
{
    struct options options;

    trap_init();
    percpu_enter(0);
    serial_init();
    log_print("minikernel on libmm %u.%u.%u\n", mm_version() / 10000, mm_version() / 100 % 100,
              mm_version() % 100);
    if (mm_version() != MM_VERSION || mm_config_signature() != MM_CONFIG_SIGNATURE) {
        panic("libmm.a and its headers are of different versions or options");
    }
    checks_trap();

    memory_read_boot(&memory, boot_info, &options);
    memory_find_processors(&memory);
    memory_enable_cpu(&memory);
    memory_find_nodes(&memory);
    memory_start_frames(&memory);
    memory_start_paging(&memory);
    smp_start(&memory);
    checks_boot(&memory); // while the boot loader's memory is kept
    memory_reclaim(&memory);
    memory_start_rest(&memory);
    memory_handle_faults(&memory);

    smp_take_stacks(&memory);
    smp_on_own_stack(&memory, run_checks, &options);
    smp_give_stacks(&memory);
    checks_truth(&memory, &options);
    memory_draw(&memory);
    memory_show_heap(&memory);
    memory_stop_rest(&memory);
    checks_balance(&memory);
    checks_system(&memory);
    power_exit(check_summary());
}
