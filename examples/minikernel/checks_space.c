// SPDX-License-Identifier: MIT
//
// Spaces, used as a kernel uses them: regions are mapped, nothing is there, and the page-fault
// handler (fault.c) makes it so when user copy touches it.

#include <stddef.h>

#include "check.h"
#include "checks.h"
#include "layout.h"
#include "probe.h"

#define PAGES  4
#define ROUNDS 16

static const mm_vaddr_t at = {UINT64_C(0x0000400000000000)};

static mm_vaddr_t page(uint64_t i)
{
    return mm_vaddr(at.raw + i * MM_PAGE_SIZE);
}

static bool set(struct memory *m, mm_vaddr_t to, uint64_t value)
{
    return mm_user_copy_out(&m->user, to, &value, sizeof(value), NULL) == MM_OK;
}

static bool holds(struct memory *m, mm_vaddr_t from, uint64_t value)
{
    uint64_t found = 0;
    return mm_user_copy_in(&m->user, &found, from, sizeof(found), NULL) == MM_OK && found == value;
}

static struct mm_space *new_space(struct memory *m)
{
    struct mm_space_request request = {
        .at = at, .len = PAGES * MM_PAGE_SIZE, .prot = MM_PROT_RW, .flags = MM_SPACE_FIXED};
    struct mm_space *space;
    mm_vaddr_t where;

    must(mm_space_create(&m->spaces, &space), "a space");
    must(mm_space_map(space, &request, &where), "a region");
    return space;
}

static void put(struct memory *m, struct mm_space *space)
{
    memory_enter(m, NULL);
    (void)mm_space_put(space);
}

static uint64_t resident(struct mm_space *space)
{
    struct mm_space_stats s;
    must(mm_space_get_stats(space, &s), "statistics of a space");
    return s.resident_bytes;
}

// Faults after which the access was made again.
static uint64_t nr_resolved(struct mm_space *space)
{
    struct mm_space_stats s;
    must(mm_space_get_stats(space, &s), "statistics of a space");
    return s.nr_faults[MM_FAULT_MINOR] + s.nr_faults[MM_FAULT_ZERO] + s.nr_faults[MM_FAULT_COW];
}

static void check_two(struct memory *m)
{
    struct mm_space *a = new_space(m);
    struct mm_space *b = new_space(m);

    memory_enter(m, a);
    bool good = set(m, at, 0xaaaa);
    memory_enter(m, b);
    good = good && holds(m, at, 0) && set(m, at, 0xbbbb);
    memory_enter(m, a);
    good = good && holds(m, at, 0xaaaa);
    memory_enter(m, b);
    good = good && holds(m, at, 0xbbbb);
    CHECK("two spaces hold different bytes at one address", good);
    put(m, a);
    put(m, b);
}

// Leave something in free memory that a lazy page must not show.
static void dirty_free_memory(struct memory *m)
{
    mm_pfn_t frames[64];
    size_t done = 0;

    must(mm_frame_alloc_bulk(&m->frames, 0, frames, 64, &done), "frames to dirty");
    for (size_t i = 0; i < done; i++) {
        uint64_t *words = mm_physmap_ptr(&m->physmap, mm_pfn_addr(frames[i]));
        for (size_t word = 0; word < MM_PAGE_SIZE / sizeof(uint64_t); word++) {
            words[word] = 0xa5a5a5a5a5a5a5a5;
        }
    }
    mm_frame_free_bulk(&m->frames, frames, done);
}

static bool zero(struct memory *m, mm_vaddr_t from)
{
    for (uint64_t offset = 0; offset < MM_PAGE_SIZE; offset += sizeof(uint64_t)) {
        if (!holds(m, mm_vaddr(from.raw + offset), 0)) {
            return false;
        }
    }
    return true;
}

static void check_lazy(struct memory *m)
{
    dirty_free_memory(m);
    struct mm_space *space = new_space(m);
    memory_enter(m, space);

    bool none = resident(space) == 0;
    bool one = set(m, page(2), 1) && resident(space) == MM_PAGE_SIZE;
    CHECK("a lazy region has a page only where it was touched", none && one);
    CHECK("a lazy region faults in zeroed",
          zero(m, page(0)) && zero(m, page(1)) && holds(m, page(2), 1) && zero(m, page(3)));
    CHECK("a space with its pages is well formed", mm_space_check(space) == MM_OK);
    put(m, space);
}

static void check_clone(struct memory *m)
{
    struct mm_space *parent = new_space(m);
    struct mm_space *child;
    struct mm_space *grandchild;

    memory_enter(m, parent);
    bool good = set(m, page(0), 10) && set(m, page(1), 11) && set(m, page(2), 12);
    must(mm_space_clone(parent, &child), "a clone");

    memory_enter(m, child);
    good = good && holds(m, page(0), 10) && set(m, page(0), 20) && holds(m, page(1), 11);
    memory_enter(m, parent);
    good = good && holds(m, page(0), 10) && set(m, page(1), 31);
    memory_enter(m, child);
    CHECK("after a clone, writes of child and parent stay apart",
          good && holds(m, page(0), 20) && holds(m, page(1), 11) && holds(m, page(2), 12));

    must(mm_space_clone(child, &grandchild), "a clone of a clone");
    memory_enter(m, grandchild);
    good = holds(m, page(0), 20) && set(m, page(0), 40) && set(m, page(2), 42);
    memory_enter(m, child);
    good = good && holds(m, page(0), 20) && holds(m, page(2), 12) && set(m, page(2), 22);
    memory_enter(m, parent);
    good = good && holds(m, page(0), 10) && holds(m, page(1), 31) && holds(m, page(2), 12);
    put(m, parent);
    memory_enter(m, grandchild);
    CHECK("a clone of a clone outlives its parents",
          good && holds(m, page(0), 40) && holds(m, page(1), 11) && holds(m, page(2), 42));
    CHECK("clones are well formed",
          mm_space_check(child) == MM_OK && mm_space_check(grandchild) == MM_OK);
    put(m, child);
    put(m, grandchild);
}

// One guard page, memory, one guard page: how a kernel lays out what must not overflow.
static void check_kernel_space(struct memory *m)
{
    struct mm_space *kernel = mm_space_kernel(&m->spaces);
    struct trap_report r;
    mm_vaddr_t base = mm_vaddr(LAYOUT_ARENA_BASE + MM_SIZE_1G);
    mm_vaddr_t memory = mm_vaddr(base.raw + MM_PAGE_SIZE);
    mm_vaddr_t above = mm_vaddr(memory.raw + 2 * MM_PAGE_SIZE);
    mm_vaddr_t last = mm_vaddr(above.raw - 1);
    struct mm_vrange all = mm_vrange(base, 4 * MM_PAGE_SIZE);
    struct mm_space_request guard = {
        .at = base, .len = MM_PAGE_SIZE, .flags = MM_SPACE_FIXED | MM_SPACE_GUARD};
    struct mm_space_request middle = {
        .at = memory, .len = 2 * MM_PAGE_SIZE, .prot = MM_PROT_RW, .flags = MM_SPACE_FIXED};
    mm_vaddr_t where;

    must(mm_space_map(kernel, &guard, &where), "a guard region");
    must(mm_space_map(kernel, &middle, &where), "a kernel region");
    guard.at = above;
    must(mm_space_map(kernel, &guard, &where), "a guard region");

    CHECK("memory of the kernel's space is there at once, and zeroed",
          resident(kernel) == 2 * MM_PAGE_SIZE && !probe_load(memory, &r) &&
              !probe_store(last, &r) && probe_get(memory) == 0 && nr_resolved(kernel) == 0);
    CHECK("a guard page below faults on a store",
          probe_store(mm_vaddr(memory.raw - 1), &r) &&
              probe_is(&r, mm_vaddr(memory.raw - 1), TRAP_PF_WRITE));
    CHECK("a guard page above faults on a load", probe_unmapped(above));
    CHECK("a protected region of the kernel faults on a store",
          mm_space_protect(kernel, mm_vrange(memory, 2 * MM_PAGE_SIZE), MM_PROT_READ) == MM_OK &&
              !probe_load(last, &r) && probe_store(last, &r) &&
              probe_is(&r, last, TRAP_PF_PRESENT | TRAP_PF_WRITE));
    CHECK("an unmapped region of the kernel is gone",
          mm_space_unmap(kernel, all) == MM_OK && probe_unmapped(memory) && probe_unmapped(last));
    CHECK("the kernel's space is well formed", mm_space_check(kernel) == MM_OK);
}

// One life of a process: memory, a child, both written, both gone.
static bool live(struct memory *m)
{
    struct mm_space *parent = new_space(m);
    struct mm_space *child;

    memory_enter(m, parent);
    bool good = set(m, page(0), 1) && set(m, page(1), 2);
    must(mm_space_clone(parent, &child), "a clone");
    good = good && set(m, page(0), 3);
    memory_enter(m, child);
    good = good && holds(m, page(0), 1) && set(m, page(1), 4);
    put(m, parent);
    put(m, child);
    return good;
}

// The first life may leave memory with the caches that its handles came from; later ones find it.
static void check_lives(struct memory *m)
{
    bool good = live(m);
    uint64_t before = memory_nr_free(m);

    for (unsigned i = 0; i < ROUNDS; i++) {
        good = live(m) && good;
    }
    CHECK("spaces come and go without a leak", good && memory_nr_free(m) == before);
}

void checks_space(struct memory *m)
{
    check_theme("address spaces");
    check_two(m);
    check_lazy(m);
    check_clone(m);
    check_kernel_space(m);
    check_lives(m);
}
