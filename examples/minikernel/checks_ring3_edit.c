// SPDX-License-Identifier: MIT
//
// Pages that go, or lose a right, while programs in ring 3 use them on other processors. When the call
// that takes them is back, no access succeeds any more.

#include "checks_ring3.h"
#include "cpu.h"
#include "percpu.h"
#include "smp.h"

#define FEW  3
#define MANY 48 // more than are flushed one by one

// One page beside: a word that says that the call is back, and a word of each processor that counts
// its accesses.
#define CONTROL   ring3_page(MANY + 16)
#define COUNT(of) ring3_line(CONTROL, (of) + UINT64_C(1))

#define FOR_EVER (UINT64_C(1) << 62)

enum edit { EDIT_UNMAP, EDIT_READ_ONLY, EDIT_NO_RIGHT, NR_EDITS };

static struct mm_space *space;

static void edit(enum edit what, uint64_t pages)
{
    struct mm_vrange range = mm_vrange(mm_vaddr(RING3_DATA), pages * MM_PAGE_SIZE);

    if (what == EDIT_UNMAP) {
        must(mm_space_unmap(space, range), "a region that goes");
    } else {
        must(mm_space_protect(space, range, what == EDIT_READ_ONLY ? MM_PROT_READ : MM_PROT_NONE),
             "a region that loses rights");
    }
}

static void set_control(struct ring3_checks *r, uint64_t at, uint64_t value)
{
    struct trap_user user;

    RING3_RUN(ring3_store, &user, at, value);
    ring3_expect(r, "a word that all read", &user, ring3_ended(&user));
}

// Whether a program that was under way ended as the edit demands: by a signal, and after the call was
// back without one more access; a load from what may still be read goes on.
static bool stopped(struct ring3_checks *r, enum edit what, uint64_t pages, bool stores,
                    const struct trap_user *user)
{
    if (what == EDIT_READ_ONLY && !stores) {
        return ring3_ended(user) && user->regs.rbx != 0;
    }
    return user->regs.rbx == 0 && user->address >= RING3_DATA &&
           user->address < ring3_page(pages) &&
           ring3_refused(r->memory, user, user->address,
                         what == EDIT_UNMAP ? MM_FAULT_SIGNAL_MAP : MM_FAULT_SIGNAL_ACCESS);
}

static void use(struct ring3_checks *r, enum edit what, uint64_t pages, uint32_t cpu, bool stores)
{
    struct trap_user user;

    RING3_RUN(ring3_touch, &user, RING3_DATA, ring3_page(pages), CONTROL, COUNT(cpu),
              stores ? cpu + 1 : 0, FOR_EVER);
    ring3_expect(r, "pages that go", &user, stopped(r, what, pages, stores, &user));
}

// Until each of the others has made so many accesses.
static void wait_for_others(struct ring3_checks *r, uint64_t nr)
{
    for (uint32_t cpu = 1; cpu < smp_nr(); cpu++) {
        uint64_t count = 0;
        while (count < nr) {
            must(mm_user_get(&r->memory->user, &count, mm_vaddr(COUNT(cpu)), sizeof(count)),
                 "a count");
            cpu_relax();
        }
    }
}

// Settled: each of the others has been at each page twice, and the editor has used the pages itself, so
// that its own translations must go as well. Else they still fault on pages that nobody has touched.
static void edit_under_use(struct ring3_checks *r, enum edit what, uint64_t pages, bool settled)
{
    bool stores = what != EDIT_UNMAP;
    struct trap_user user;

    if (settled) {
        RING3_RUN(ring3_touch, &user, RING3_DATA, ring3_page(pages), CONTROL, COUNT(0), 1,
                  3 * pages);
        ring3_expect(r, "pages before they go", &user, ring3_good(&user));
    }
    cpu_interrupts_on();
    wait_for_others(r, settled ? 2 * pages : 1);
    edit(what, pages);
    set_control(r, CONTROL, 1);
    RING3_RUN(ring3_touch, &user, RING3_DATA, ring3_page(pages), CONTROL, COUNT(0), stores ? 1 : 0,
              3 * pages);
    cpu_interrupts_off();
    ring3_expect(r, "pages that went", &user,
                 stopped(r, what, pages, stores, &user) && user.regs.rax == 0);
}

static void work(void *ctx, uint32_t cpu)
{
    struct ring3_checks *r = ctx;

    ring3_enter(r, space);
    for (uint32_t round = 0; round < NR_EDITS * 2 * r->rounds; round++) {
        enum edit what = (enum edit)(round % NR_EDITS);
        uint64_t pages = round / NR_EDITS % 4 < 2 ? FEW : MANY;
        if (cpu == 0) {
            ring3_map_pages(space, 0, pages, MM_PROT_RW, 0);
            set_control(r, CONTROL, 0);
        }
        set_control(r, COUNT(cpu), 0);
        smp_barrier();
        if (cpu == 0) {
            edit_under_use(r, what, pages, round % (2 * NR_EDITS) < NR_EDITS);
        } else {
            use(r, what, pages, cpu, (cpu + round / NR_EDITS / 4) % 2 == 0);
        }
        smp_barrier();
        if (cpu == 0) {
            edit(EDIT_UNMAP, pages);
        }
    }
    ring3_enter(r, NULL);
}

void checks_ring3_edit(struct ring3_checks *r)
{
    space = ring3_space(r, 0);
    ring3_map_pages(space, MANY + 16, 1, MM_PROT_RW, 0);
    ring3_enter(r, NULL);
    smp_run(work, r);
    ring3_put(r, space);
    CHECK("no access in ring 3 succeeds after a page was unmapped or a right was taken",
          ring3_all_good(r));
}
