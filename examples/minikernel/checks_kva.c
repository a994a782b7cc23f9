// SPDX-License-Identifier: MIT
//
// The kernel virtual arena and what stands on it, while all processors run on its stacks.

#include <stdatomic.h>
#include <stddef.h>

#include <mm/kva.h>
#include <mm/percpu.h>

#include "check.h"
#include "checks.h"
#include "layout.h"
#include "log.h"
#include "percpu.h"
#include "probe.h"
#include "smp.h"

// ---- stacks ---------------------------------------------------------------------------------------

static bool on_own_stack[PERCPU_MAX];
static bool red_zone_is_there[PERCPU_MAX];

static void look_at_stack(void *ctx, uint32_t cpu)
{
    struct memory *m = ctx;
    struct mm_vrange stack = m->stacks[cpu];
    volatile uint64_t here = 0;

    on_own_stack[cpu] = mm_vrange_contains(stack, mm_vaddr_of(&here));
    red_zone_is_there[cpu] = probe_unmapped(mm_vaddr(stack.start.raw - 8)) &&
                             probe_unmapped(mm_vaddr(stack.start.raw + stack.len));
}

static void push(void *argument)
{
    __asm__ volatile("movq %0, %%rsp\n\tpushq $0" : : "r"(argument) : "memory");
}

// The push faults, and the page fault finds no stack for its frame: a double fault, with one of its own.
static bool overflow_is_explained(struct memory *m, struct mm_vrange stack)
{
    struct mm_kva_place place;
    struct trap_report r;

    return trap_try(push, (void *)(uintptr_t)stack.start.raw, &r) &&
           r.vector == TRAP_DOUBLE_FAULT && r.address < stack.start.raw &&
           mm_kva_explain(&m->kva, mm_vaddr(r.address), &place) == MM_OK &&
           place.kind == MM_KVA_STACK && place.where == MM_KVA_GUARD_BELOW &&
           place.range.start.raw == stack.start.raw && place.range.len == stack.len &&
           memory_is_guard(mm_vaddr(r.address));
}

static void check_stacks(struct memory *m)
{
    struct mm_vrange stack;
    struct mm_vrange again;
    bool own = true;
    bool zone = true;

    smp_run(look_at_stack, m);
    for (uint32_t cpu = 0; cpu < smp_nr(); cpu++) {
        own = own && on_own_stack[cpu];
        zone = zone && red_zone_is_there[cpu];
    }
    CHECK("every processor runs on a stack of the arena", own);
    CHECK("below each is a red zone, above a guard", zone);
    must(mm_kva_stack_alloc(&m->kva, 16384, 0, &stack), "a stack");
    CHECK("a stack that ran over is told, and which", overflow_is_explained(m, stack));
    mm_kva_stack_free(&m->kva, stack.start);
    must(mm_kva_stack_alloc(&m->kva, 16384, 0, &again), "a stack");
    CHECK("a stack that was freed is used again", again.start.raw == stack.start.raw);
    mm_kva_stack_free(&m->kva, again.start);
}

// ---- per-CPU areas --------------------------------------------------------------------------------

// The template. The linker could collect such variables in a section.
static struct {
    uint64_t number;
    uint64_t count;
} mine = {.number = UINT64_MAX};

static struct mm_percpu areas;

#define COUNTS 10000

static void count(void *ctx, uint32_t cpu)
{
    uint64_t *number = mm_percpu_ptr(&areas, cpu, &mine.number);
    volatile uint64_t *counter = mm_percpu_ptr(&areas, cpu, &mine.count);

    (void)ctx;
    *number = *number == UINT64_MAX ? cpu : UINT64_MAX; // the template's value
    for (unsigned i = 0; i < COUNTS; i++) {
        *counter += 1;
    }
}

static bool all_counted(void)
{
    for (uint32_t cpu = 0; cpu < smp_nr(); cpu++) {
        const uint64_t *number = mm_percpu_ptr(&areas, cpu, &mine.number);
        const uint64_t *counter = mm_percpu_ptr(&areas, cpu, &mine.count);

        if (*number != cpu || *counter != COUNTS) {
            return false;
        }
    }
    return mine.number == UINT64_MAX && mine.count == 0;
}

static void check_areas(struct memory *m)
{
    struct mm_percpu_config config = {
        .kva = &m->kva,
        .start = &mine,
        .len = sizeof(mine),
        .nr_cpus = m->nr_cpus,
        .cpu_nodes = m->cpu_nodes,
    };

    must(mm_percpu_init(&areas, &config), "per-CPU areas");
    log_print("kva     per-CPU areas from 0x%lx on, %lu bytes apart\n", areas.base, areas.stride);
    smp_run(count, NULL);
    CHECK("every processor counts in its own area, begun as the template", all_counted());
    CHECK("areas are guarded from each other",
          probe_unmapped(mm_vaddr(mm_align_down(areas.base, MM_PAGE_SIZE) + MM_PAGE_SIZE)));
    must(mm_percpu_destroy(&areas), "end of the per-CPU areas");
}

// ---- memory ---------------------------------------------------------------------------------------

#define PIECES 16

static mm_vaddr_t pieces[PIECES];
static atomic_uint nr_good;

static void touch_all(void *ctx, uint32_t cpu)
{
    (void)ctx;
    for (unsigned i = 0; i < PIECES; i++) {
        volatile uint64_t *word = (volatile uint64_t *)(uintptr_t)pieces[i].raw + cpu;

        *word = i;
        nr_good += *word == i;
    }
}

static void find_none(void *ctx, uint32_t cpu)
{
    (void)ctx;
    (void)cpu;
    for (unsigned i = 0; i < PIECES; i++) {
        nr_good += probe_unmapped(pieces[i]);
    }
}

static void check_memory(struct memory *m)
{
    const struct mm_kva_request request = {.len = 3 * MM_PAGE_SIZE, .flags = MM_KVA_ZERO};

    for (unsigned i = 0; i < PIECES; i++) {
        must(mm_kva_alloc(&m->kva, &request, &pieces[i]), "memory of the arena");
    }
    atomic_store(&nr_good, 0);
    smp_run(touch_all, NULL);
    CHECK("memory of the arena is everybody's", atomic_load(&nr_good) == PIECES * smp_nr());
    CHECK("it lies between guards", probe_unmapped(mm_vaddr(pieces[0].raw - 1)) &&
                                        probe_unmapped(mm_vaddr(pieces[0].raw + request.len)));
    for (unsigned i = 0; i < PIECES; i++) {
        mm_kva_free(&m->kva, pieces[i]);
    }
    CHECK("what was freed waits for a purge", !probe_unmapped(pieces[0]));
    CHECK("a purge unmaps all of it", mm_kva_purge(&m->kva) >= 3 * PIECES);
    atomic_store(&nr_good, 0);
    smp_run(find_none, NULL);
    CHECK("no processor reaches it any more", atomic_load(&nr_good) == PIECES * smp_nr());
}

// ---- devices --------------------------------------------------------------------------------------

static void check_devices(struct memory *m)
{
    struct mm_mapping apic;
    mm_vaddr_t at;
    mm_vaddr_t none;

    must(mm_paging_translate(&m->kernel, mm_vaddr(LAYOUT_APIC), &apic), "the local APIC");
    struct mm_prange version = mm_prange(mm_paddr(apic.paddr.raw + 0x30), 4);
    must(mm_kva_map(&m->kva, version, MM_PROT_READ, MM_MEMTYPE_UC, 0, &at), "a device");
    CHECK("a device is mapped from any address on",
          *(volatile uint32_t *)(uintptr_t)at.raw ==
              *(volatile uint32_t *)(uintptr_t)(LAYOUT_APIC + 0x30));
    CHECK("a second type for its page is refused",
          mm_kva_map(&m->kva, version, MM_PROT_READ, MM_MEMTYPE_WB, 0, &none) ==
              MM_ERR_ALREADY_MAPPED);
    mm_kva_free(&m->kva, at);

    mm_pfn_t frame;
    must(mm_frame_alloc(&m->frames, NULL, &frame), "a frame");
    CHECK("memory has one type", mm_kva_map(&m->kva, mm_prange(mm_pfn_addr(frame), 1), MM_PROT_READ,
                                            MM_MEMTYPE_UC, 0, &none) == MM_ERR_PERMISSION_DENIED);
    mm_frame_free(&m->frames, frame, 0);
}

// ---- a heap over it -------------------------------------------------------------------------------

static void check_heap_over_it(struct memory *m)
{
    static struct mm_pool pool;
    static struct mm_heap heap;
    const struct mm_pool_config config = {
        .source = mm_page_source_kva(&m->kva), .platform = platform_ops(), .nr_cpus = m->nr_cpus};

    must(mm_pool_init(&pool, &config), "a pool over the arena");
    must(mm_heap_init(&heap, &pool, NULL), "a heap over the arena");
    uint8_t *object = mm_heap_alloc_zeroed(&heap, 100 * MM_PAGE_SIZE);
    CHECK("a heap over the arena has large objects between guards",
          object != NULL && object[100 * MM_PAGE_SIZE - 1] == 0 &&
              probe_unmapped(mm_vaddr_of(object - 1)) &&
              probe_unmapped(mm_vaddr_of(object + 100 * MM_PAGE_SIZE)));
    object = mm_heap_realloc(&heap, object, 10 * MM_PAGE_SIZE);
    (void)mm_kva_purge(&m->kva);
    CHECK("an object that shrank has no more pages than it needs",
          object != NULL && !probe_unmapped(mm_vaddr_of(object + 10 * MM_PAGE_SIZE - 1)) &&
              probe_unmapped(mm_vaddr_of(object + 10 * MM_PAGE_SIZE)));
    // Behind the second object nothing lies yet, neither of the heap nor of the pool.
    uint8_t *last = mm_heap_alloc(&heap, 100 * MM_PAGE_SIZE);
    CHECK("an object with room behind it grows where it lies, and its guard moves",
          last != NULL && mm_heap_realloc(&heap, last, 300 * MM_PAGE_SIZE) == last &&
              !probe_unmapped(mm_vaddr_of(last + 300 * MM_PAGE_SIZE - 1)) &&
              probe_unmapped(mm_vaddr_of(last + 300 * MM_PAGE_SIZE)));
    mm_heap_free(&heap, last);
    mm_heap_free(&heap, object);
    must(mm_heap_destroy(&heap), "end of the heap over the arena");
    must(mm_pool_destroy(&pool), "end of the pool over the arena");
}

void checks_kva(struct memory *m)
{
    check_theme("kernel virtual arena");
    check_stacks(m);
    check_areas(m);
    check_memory(m);
    check_devices(m);
    check_heap_over_it(m);
    must(mm_kva_dump(&m->kva), "the arena as text");
    CHECK("the arena is well formed", mm_kva_check(&m->kva) == MM_OK);
    (void)mm_kva_reclaim(&m->kva);
}
