// SPDX-License-Identifier: MIT
//
// Spaces as they are meant to be used: by programs in ring 3, one on each processor, which load and
// store, fault, and are interrupted by those who unmap. What a program finds it judges itself; what it
// may not do ends it.

#include "checks_ring3.h"

#include <stddef.h>

#include "checks.h"
#include "cpu.h"
#include "layout.h"
#include "log.h"
#include "percpu.h"
#include "smp.h"

#define PAGES     12          // of each space
#define STEP      64          // from one word that is looked at to the next
#define OWN_PAGES UINT64_C(6) // of each processor in a space that all share
#define ADDS      3000
#define PRINTED   5u
#define ROUNDS    4    // the option stress= says otherwise
#define STEPS     1200 // of that, for a round

#define SHARED_PAGE (OWN_PAGES * PERCPU_MAX)
#define SHARED      ring3_page(SHARED_PAGE)

// ---- what all of them use -------------------------------------------------------------------------

void ring3_map_pages(struct mm_space *space, uint64_t first, uint64_t nr, mm_prot_t prot,
                     uint32_t flags)
{
    struct mm_space_request request = {.at = mm_vaddr(ring3_page(first)),
                                       .len = nr * MM_PAGE_SIZE,
                                       .prot = prot,
                                       .flags = MM_SPACE_FIXED | flags};
    mm_vaddr_t where;

    must(mm_space_map(space, &request, &where), "a region of data");
}

void ring3_enter(struct ring3_checks *r, struct mm_space *space)
{
    memory_enter(r->memory, space);
}

struct mm_space *ring3_space(struct ring3_checks *r, uint64_t pages)
{
    struct mm_space *space;

    must(mm_space_create(&r->spaces, &space), "a space");
    ring3_enter(r, space);
    ring3_map(r->memory, space);
    if (pages != 0) {
        ring3_map_pages(space, 0, pages, MM_PROT_RW, 0);
    }
    return space;
}

void ring3_put(struct ring3_checks *r, struct mm_space *space)
{
    if (mm_space_check(space) != MM_OK) {
        atomic_fetch_add(&r->nr_wrong, 1);
    }
    (void)mm_space_put(space);
}

void ring3_expect(struct ring3_checks *r, const char *what, const struct trap_user *user, bool good)
{
    const struct trap_frame *regs = &user->regs;

    atomic_fetch_add(&r->nr_runs, 1);
    if (good || atomic_fetch_add(&r->nr_wrong, 1) >= PRINTED) {
        return;
    }
    log_begin();
    log_print("  ring 3 on processor %u, %s: exception %lu, error 0x%lx, rip 0x%lx, CR2 0x%lx, "
              "answer %u\n",
              percpu_self()->number, what, regs->vector, regs->error, regs->rip, user->address,
              (unsigned)r->memory->refused[percpu_self()->number]);
    log_print("    rax %lx rbx %lx rdi %lx rsi %lx r8 %lx r10 %lx r12 %lx r13 %lx r14 %lx\n",
              regs->rax, regs->rbx, regs->rdi, regs->rsi, regs->r8, regs->r10, regs->r12, regs->r13,
              regs->r14);
    log_end();
}

// What a walk adds up on pages that are as they should be.
static uint64_t sum_of(uint64_t first, uint64_t nr, uint64_t seed)
{
    uint64_t sum = 0;

    for (uint64_t at = ring3_page(first); at < ring3_page(first + nr); at += STEP) {
        sum = (sum << 1 | sum >> 63) + ring3_value(seed, at);
    }
    return sum;
}

void ring3_walk_pages(struct ring3_checks *r, const char *what, uint64_t first, uint64_t nr,
                      uint64_t seed, uint64_t old)
{
    struct trap_user user;

    RING3_RUN(ring3_walk, &user, ring3_page(first), ring3_page(first + nr), seed, 1, old, STEP);
    ring3_expect(r, what, &user, ring3_good(&user) && user.regs.rax == sum_of(first, nr, old));
}

uint64_t ring3_word(struct ring3_checks *r, uint64_t at)
{
    struct trap_user user;

    RING3_RUN(ring3_load, &user, at);
    ring3_expect(r, "a word", &user, ring3_ended(&user));
    return user.regs.rax;
}

bool ring3_all_good(struct ring3_checks *r)
{
    return atomic_exchange(&r->nr_wrong, 0) == 0;
}

// ---- a space for each, at the same addresses ------------------------------------------------------

static struct mm_space *own[PERCPU_MAX];

static uint64_t seed_of(uint32_t cpu, uint32_t round)
{
    return UINT64_C(1000) * (cpu + 1) + round;
}

static void work_apart(void *ctx, uint32_t cpu)
{
    struct ring3_checks *r = ctx;
    uint32_t next = (cpu + 1) % smp_nr();

    own[cpu] = ring3_space(r, PAGES);
    smp_barrier();
    for (uint32_t round = 1; round <= r->rounds; round++) {
        ring3_walk_pages(r, "apart", 0, PAGES, seed_of(cpu, round),
                         round == 1 ? 0 : seed_of(cpu, round - 1));
    }
    smp_barrier();
    ring3_enter(r, own[next]);
    ring3_walk_pages(r, "on another processor", 0, PAGES, 0, seed_of(next, r->rounds));
    ring3_enter(r, NULL);
    smp_barrier();
    ring3_put(r, own[next]);
}

static void check_apart(struct ring3_checks *r)
{
    smp_run(work_apart, r);
    CHECK("programs of ring 3 find their own bytes at an address that all use", ring3_all_good(r));
}

// ---- a space for all ------------------------------------------------------------------------------

static void work_together(void *ctx, uint32_t cpu)
{
    struct ring3_checks *r = ctx;
    uint32_t next = (cpu + 1) % smp_nr();
    struct trap_user user;

    ring3_enter(r, own[0]);
    smp_barrier();
    for (int turn = 0; turn < 2; turn++) {
        RING3_RUN(ring3_add, &user, SHARED, ring3_line(SHARED, cpu + 1), ADDS);
        ring3_expect(r, "adding", &user, ring3_good(&user));
        ring3_walk_pages(r, "one's own pages", cpu * OWN_PAGES, OWN_PAGES, seed_of(cpu, 2),
                         turn == 0 ? 0 : seed_of(cpu, 2));
    }
    smp_barrier();
    ring3_walk_pages(r, "another's pages", next * OWN_PAGES, OWN_PAGES, 0, seed_of(next, 2));
    ring3_enter(r, NULL);
}

static bool sums_exact(struct ring3_checks *r)
{
    bool exact = ring3_word(r, SHARED) == UINT64_C(2) * ADDS * smp_nr();

    for (uint32_t cpu = 0; cpu < smp_nr(); cpu++) {
        exact = ring3_word(r, ring3_line(SHARED, cpu + 1)) == UINT64_C(2) * ADDS && exact;
    }
    return exact;
}

static void check_together(struct ring3_checks *r)
{
    struct mm_space_stats s;

    own[0] = ring3_space(r, SHARED_PAGE + 1);
    ring3_enter(r, NULL);
    smp_run(work_together, r);
    ring3_enter(r, own[0]);
    CHECK("what all processors add to in ring 3 is exact", sums_exact(r));
    must(mm_space_get_stats(own[0], &s), "statistics of a space");
    CHECK("a page that all fault on at once is there once",
          s.resident_bytes == (smp_nr() * OWN_PAGES + 2) * MM_PAGE_SIZE);
    ring3_enter(r, NULL);
    ring3_put(r, own[0]);
    CHECK("programs of ring 3 share a space, each on its own pages", ring3_all_good(r));
}

// ---- what is refused ------------------------------------------------------------------------------

// Pages of data: 0 touched and 1 not, read-write; 2 read-only and not touched, 3 read-only and there;
// 4 executable and not touched; 5 without any right; 6 nothing; 7 a guard; 8 read-write; 9 nothing.
#define PAGE(i) (RING3_DATA + UINT64_C(i) * 4096)

struct refusal {
    const char *program;
    uint64_t at;
    enum mm_fault_result result;
};

static const struct refusal refusals[] = {
    {ring3_load, PAGE(6), MM_FAULT_SIGNAL_MAP},
    {ring3_store, PAGE(9), MM_FAULT_SIGNAL_MAP},
    {ring3_jump, PAGE(9), MM_FAULT_SIGNAL_MAP},
    {ring3_store, PAGE(2), MM_FAULT_SIGNAL_ACCESS},
    {ring3_store, PAGE(3), MM_FAULT_SIGNAL_ACCESS},
    {ring3_store, PAGE(4), MM_FAULT_SIGNAL_ACCESS},
    {ring3_store, RING3_CODE, MM_FAULT_SIGNAL_ACCESS},
    {ring3_load, PAGE(5), MM_FAULT_SIGNAL_ACCESS},
    {ring3_load, PAGE(7), MM_FAULT_SIGNAL_ACCESS},
    {ring3_store, PAGE(8) - 8, MM_FAULT_SIGNAL_ACCESS}, // below what is above the guard
    {ring3_store, PAGE(7) - 8, MM_FAULT_SIGNAL_MAP},    // and below the guard
    {ring3_load, 0, MM_FAULT_SIGNAL_MAP},
    {ring3_store, 8, MM_FAULT_SIGNAL_MAP},
    {ring3_jump, 0, MM_FAULT_SIGNAL_MAP},
    {ring3_load, LAYOUT_USER_LEN, MM_FAULT_SIGNAL_MAP},
    {ring3_load, LAYOUT_DIRECT_BASE, MM_FAULT_SIGNAL_MAP},
    {ring3_store, LAYOUT_DIRECT_BASE, MM_FAULT_SIGNAL_MAP},
    {ring3_load, LAYOUT_ARENA_BASE, MM_FAULT_SIGNAL_MAP},
    {ring3_load, (uint64_t)-4096, MM_FAULT_SIGNAL_MAP},
};

static const uint64_t data_pages[] = {PAGE(0), PAGE(1), PAGE(2), PAGE(3)};

#define NR(array) (sizeof(array) / sizeof((array)[0]))

static struct mm_space *space_of_refusals(struct ring3_checks *r)
{
    struct mm_space *space = ring3_space(r, 2);

    ring3_map_pages(space, 2, 1, MM_PROT_READ, 0);
    ring3_map_pages(space, 3, 1, MM_PROT_READ, MM_SPACE_POPULATE);
    ring3_map_pages(space, 4, 1, MM_PROT_READ | MM_PROT_EXEC, 0);
    ring3_map_pages(space, 5, 1, MM_PROT_NONE, 0);
    ring3_map_pages(space, 7, 1, MM_PROT_NONE, MM_SPACE_GUARD);
    ring3_map_pages(space, 8, 1, MM_PROT_RW, 0);
    return space;
}

static void refuse(struct ring3_checks *r, const char *program, uint64_t at,
                   enum mm_fault_result result)
{
    struct trap_user user;

    RING3_RUN(program, &user, at, 1);
    ring3_expect(r, "what is refused", &user, ring3_refused(r->memory, &user, at, result));
}

// Memory of the kernel is there, and still the answer is that nothing is: an image, and its text.
static void refuse_kernel(struct ring3_checks *r)
{
    extern const char image_text_start[];
    uint64_t text = (uintptr_t)image_text_start;
    struct trap_user user;

    refuse(r, ring3_store, text, MM_FAULT_SIGNAL_MAP);
    refuse(r, ring3_jump, text, MM_FAULT_SIGNAL_MAP);
    RING3_RUN(ring3_load, &user, text);
    ring3_expect(r, "text of the kernel", &user,
                 ring3_refused(r->memory, &user, text, MM_FAULT_SIGNAL_MAP) &&
                     user.regs.error == (TRAP_PF_USER | TRAP_PF_PRESENT));
}

// A page that nobody touched is fetched from: it comes, and its zeroes are an instruction that stores
// at rax. Only an access of the user may execute there.
static void fetch_lazily(struct ring3_checks *r)
{
    struct trap_user user;

    RING3_RUN(ring3_jump, &user, PAGE(4), PAGE(6));
    ring3_expect(r, "a page that is executed first", &user,
                 ring3_refused(r->memory, &user, PAGE(6), MM_FAULT_SIGNAL_MAP) &&
                     user.regs.rip == PAGE(4));
}

static uint64_t nr_signals(struct mm_space *space)
{
    struct mm_space_stats s;

    must(mm_space_get_stats(space, &s), "statistics of a space");
    return s.nr_faults[MM_FAULT_SIGNAL_MAP] + s.nr_faults[MM_FAULT_SIGNAL_ACCESS];
}

static void work_refusals(void *ctx, uint32_t cpu)
{
    struct ring3_checks *r = ctx;
    struct mm_space *space = space_of_refusals(r);
    struct trap_user user;

    (void)cpu;
    for (int turn = 0; turn < 2; turn++) { // before and after what is lazy is there
        for (size_t i = 0; i < NR(refusals); i++) {
            refuse(r, refusals[i].program, refusals[i].at, refusals[i].result);
        }
        refuse_kernel(r);
        fetch_lazily(r);
        ring3_walk_pages(r, "what is allowed", 0, 1, 7, turn == 0 ? 0 : 7);
        ring3_walk_pages(r, "what may be read", 2, 3, 0, 0);
    }
    RING3_RUN(ring3_load, &user, UINT64_C(1) << 47);
    ring3_expect(r, "no address", &user, user.regs.vector == TRAP_GENERAL_PROTECTION);
    if (nr_signals(space) != 2 * (NR(refusals) + 4)) {
        atomic_fetch_add(&r->nr_wrong, 1);
    }
    ring3_enter(r, NULL);
    ring3_put(r, space);
}

static void work_fetches(void *ctx, uint32_t cpu)
{
    struct ring3_checks *r = ctx;
    struct mm_space *space = space_of_refusals(r);

    (void)cpu;
    for (size_t i = 0; i < NR(data_pages); i++) {
        refuse(r, ring3_jump, data_pages[i], MM_FAULT_SIGNAL_ACCESS);
    }
    ring3_enter(r, NULL);
    ring3_put(r, space);
}

static bool general_protection(struct ring3_checks *r, const char *program)
{
    struct mm_space *space = ring3_space(r, 1);
    struct trap_user user;

    RING3_RUN(program, &user, RING3_DATA);
    ring3_enter(r, NULL);
    ring3_put(r, space);
    return user.regs.vector == TRAP_GENERAL_PROTECTION;
}

static void check_refusals(struct ring3_checks *r)
{
    static const char data[] = "data of the user is not executed in ring 3";
    static const char umip[] = "ring 3 is not told where the kernel's tables are";

    smp_run(work_refusals, r);
    CHECK("what a space forbids ends a program with the signal that a Unix sends",
          ring3_all_good(r));
    CHECK("ring 3 has no interrupts to turn off and no root to load",
          general_protection(r, ring3_cli) && general_protection(r, ring3_load_root));
    if (r->memory->arch.enabled.nx) {
        smp_run(work_fetches, r);
        CHECK(data, ring3_all_good(r));
    } else {
        check_skip(data, "the CPU has no NX");
    }
    if (r->memory->arch.enabled.umip) {
        CHECK(umip, general_protection(r, ring3_sgdt));
    } else {
        check_skip(umip, "the CPU has no UMIP");
    }
}

// ---- all of it ------------------------------------------------------------------------------------

static void start(struct ring3_checks *r)
{
    struct memory *m = r->memory;
    struct mm_pool_config pool = {.platform = platform_ops(), .nr_cpus = m->nr_cpus};
    struct mm_spaces_config config = {.frames = &m->frames,
                                      .physmap = &m->physmap,
                                      .kernel = &m->kernel,
                                      .pool = &r->pool,
                                      .platform = platform_ops()};

    must(mm_page_frames_init(&r->pages, &m->frames, &m->physmap), "page source of ring 3");
    pool.source = mm_page_source_frames(&r->pages);
    must(mm_pool_init(&r->pool, &pool), "pool of ring 3");
    must(mm_spaces_init(&r->spaces, &config), "spaces of ring 3");
}

static void stop(struct ring3_checks *r)
{
    must(mm_spaces_check(&r->spaces), "check of the spaces of ring 3");
    must(mm_spaces_destroy(&r->spaces), "end of the spaces of ring 3");
    must(mm_pool_destroy(&r->pool), "end of the pool of ring 3");
    must(mm_page_frames_destroy(&r->pages), "end of the page source of ring 3");
}

static uint64_t nr_interrupts(void)
{
    uint64_t sum = 0;

    for (uint32_t cpu = 0; cpu < smp_nr(); cpu++) {
        sum += percpus[cpu].nr_user_interrupts;
    }
    return sum;
}

void checks_ring3(struct memory *m, const struct options *options)
{
    static struct ring3_checks checks;
    struct ring3_checks *r = &checks;
    uint64_t before = memory_nr_free(m);

    r->memory = m;
    r->rounds = options->stress != 0 ? (uint32_t)options->stress / STEPS : ROUNDS;
    check_theme("programs in ring 3");
    start(r);
    check_apart(r);
    check_together(r);
    check_refusals(r);
    checks_ring3_fork(r);
    checks_ring3_edit(r);
    stop(r);
    log_print("  ring 3: %u programs on %u %s, interrupted %lu times\n", atomic_load(&r->nr_runs),
              smp_nr(), smp_nr() == 1 ? "processor" : "processors", nr_interrupts());
    CHECK("programs are interrupted by who unmaps on another processor",
          smp_nr() == 1 || nr_interrupts() > 0);
    CHECK("programs of ring 3 return their frames", memory_nr_free(m) == before);
}
