// SPDX-License-Identifier: MIT
//
// fork() and copy-on-write as programs in ring 3 see them. A child sees its parent as it was at one
// moment, and from then on only its own stores; the parent loses none of its own.

#include "checks_ring3.h"
#include "cpu.h"
#include "percpu.h"
#include "smp.h"

#define PAGES 8

// ---- clones under fire ----------------------------------------------------------------------------
//
// Each processor has one word in each page, and raises all of them by one, page after page, before it
// raises the first again. At any moment the words are some of the new value, then some of the old.

#define DEPTH  4  // clones of clones
#define ROUNDS 25 // of a program

static struct mm_space *line[DEPTH + 1]; // the parent, its child, the child of that, ...
static atomic_uint nr_runs[PERCPU_MAX];
static atomic_uint done;

static void tick(struct ring3_checks *r, const char *what, uint32_t cpu, uint64_t rounds,
                 uint64_t *value)
{
    struct trap_user user;

    RING3_RUN(ring3_tick, &user, ring3_line(RING3_DATA, cpu), ring3_page(PAGES), rounds, 0, *value);
    ring3_expect(r, what, &user, ring3_good(&user) && user.regs.r8 == *value + rounds);
    *value += rounds;
}

static void keep_ticking(struct ring3_checks *r, uint32_t cpu)
{
    uint64_t value = 0;

    while (atomic_load(&done) == 0) {
        tick(r, "stores while others clone", cpu, ROUNDS, &value);
        atomic_fetch_add(&nr_runs[cpu], 1);
    }
}

// Until each of the others has begun and ended a program.
static void wait_for_others(void)
{
    unsigned before[PERCPU_MAX] = {0};

    for (uint32_t cpu = 1; cpu < smp_nr(); cpu++) {
        before[cpu] = atomic_load(&nr_runs[cpu]);
    }
    for (uint32_t cpu = 1; cpu < smp_nr(); cpu++) {
        while (atomic_load(&nr_runs[cpu]) - before[cpu] < 2) {
            cpu_relax();
        }
    }
}

// What the words of the others are in the space that is active: whether that is a moment.
static bool look(struct ring3_checks *r, uint64_t words[PERCPU_MAX][PAGES])
{
    bool good = true;

    for (uint32_t cpu = 1; cpu < smp_nr(); cpu++) {
        for (uint64_t page = 0; page < PAGES; page++) {
            words[cpu][page] = ring3_word(r, ring3_line(ring3_page(page), cpu));
            good =
                good &&
                (page == 0 || words[cpu][page] == words[cpu][page - 1] ||
                 (words[cpu][page] == words[cpu][0] - 1 && words[cpu][page - 1] == words[cpu][0]));
        }
    }
    return good;
}

static bool same(struct ring3_checks *r, uint64_t words[PERCPU_MAX][PAGES])
{
    static uint64_t now[PERCPU_MAX][PAGES];
    bool good = look(r, now);

    for (uint32_t cpu = 1; cpu < smp_nr(); cpu++) {
        for (uint64_t page = 0; page < PAGES; page++) {
            good = good && now[cpu][page] == words[cpu][page];
        }
    }
    return good;
}

static void must_be(struct ring3_checks *r, bool good)
{
    if (!good) {
        atomic_fetch_add(&r->nr_wrong, 1);
    }
}

// A line of clones, each of the one before: all of them at first as the first was, but for the words of
// this processor, which each raises on its own.
static void clone_line(struct ring3_checks *r, uint64_t *own)
{
    static uint64_t words[PERCPU_MAX][PAGES];
    uint64_t value[DEPTH + 1];

    value[0] = *own;
    for (unsigned i = 1; i <= DEPTH; i++) {
        must(mm_space_clone(line[i - 1], &line[i]), "a clone");
        ring3_enter(r, line[i]);
        must_be(r, i == 1 ? look(r, words) : same(r, words));
        value[i] = value[i - 1];
        tick(r, "a clone's own stores", 0, i, &value[i]);
    }
    ring3_enter(r, line[0]);
    tick(r, "the parent's own stores", 0, 1, &value[0]);
    wait_for_others();
    for (unsigned i = DEPTH; i > 0; i--) {
        ring3_enter(r, line[i]);
        must_be(r, same(r, words));
        tick(r, "a clone's own stores, later", 0, 1, &value[i]);
    }
    ring3_enter(r, line[0]);
    *own = value[0];
}

static void put_line(struct ring3_checks *r, bool oldest_first)
{
    for (unsigned i = 1; i <= DEPTH; i++) {
        ring3_put(r, line[oldest_first ? i : DEPTH + 1 - i]);
    }
}

static void work_under_fire(void *ctx, uint32_t cpu)
{
    struct ring3_checks *r = ctx;
    uint64_t own = 0;

    ring3_enter(r, line[0]);
    smp_barrier();
    if (cpu == 0) {
        cpu_interrupts_on();
        for (uint32_t round = 0; round < r->rounds; round++) {
            wait_for_others();
            clone_line(r, &own);
            put_line(r, round % 2 == 0);
        }
        cpu_interrupts_off();
        atomic_store(&done, 1);
    } else {
        keep_ticking(r, cpu);
    }
    ring3_enter(r, NULL);
}

static void check_under_fire(struct ring3_checks *r)
{
    atomic_store(&done, 0);
    line[0] = ring3_space(r, PAGES);
    ring3_enter(r, NULL);
    smp_run(work_under_fire, r);
    ring3_put(r, line[0]);
    CHECK("a clone is its parent at one moment, whatever others store in ring 3",
          ring3_all_good(r));
}

// ---- a family at work -----------------------------------------------------------------------------

#define FAMILY 6 // each but the first a clone of the one before

static struct mm_space *family[FAMILY];
static uint64_t holds[FAMILY][PAGES]; // seeds

static uint64_t seed_of(uint64_t member, uint64_t round, uint64_t page)
{
    return 1 + ((member * 1000 + round) * PAGES + page) * 16;
}

static void store_page(struct ring3_checks *r, uint64_t member, uint64_t round, uint64_t page)
{
    uint64_t seed = seed_of(member, round, page);

    ring3_walk_pages(r, "a page of a family", page, 1, seed, holds[member][page]);
    holds[member][page] = seed;
}

static void grow_family(struct ring3_checks *r)
{
    family[0] = ring3_space(r, PAGES);
    for (uint64_t page = 0; page < PAGES; page++) {
        holds[0][page] = 0;
        store_page(r, 0, 0, page);
    }
    for (uint64_t i = 1; i < FAMILY; i++) {
        must(mm_space_clone(family[i - 1], &family[i]), "a clone");
        ring3_enter(r, family[i]);
        for (uint64_t page = 0; page < PAGES; page++) {
            holds[i][page] = holds[i - 1][page];
        }
        store_page(r, i, 0, i % PAGES); // the later ones inherit that
    }
    ring3_enter(r, NULL);
}

static void work_family(void *ctx, uint32_t cpu)
{
    struct ring3_checks *r = ctx;

    for (uint32_t round = 1; round <= r->rounds; round++) {
        for (uint32_t i = 0; i < FAMILY; i++) {
            if ((i + round) % smp_nr() != cpu) {
                continue;
            }
            ring3_enter(r, family[i]);
            for (uint64_t page = 0; page < PAGES; page++) {
                if ((i + round + page) % 3 == 0) {
                    store_page(r, i, round, page);
                }
                ring3_walk_pages(r, "what a clone has of its parents", page, 1, 0, holds[i][page]);
            }
        }
        ring3_enter(r, NULL);
        smp_barrier();
    }
    for (uint32_t i = 0; i < FAMILY; i++) {
        if (i % smp_nr() == cpu) {
            ring3_put(r, family[i]);
        }
    }
}

static void check_family(struct ring3_checks *r)
{
    grow_family(r);
    smp_run(work_family, r);
    CHECK("clones of clones run on all processors, each with its own stores alone",
          ring3_all_good(r));
}

// ---- a reader and a writer of what is shared ------------------------------------------------------

struct pair {
    struct mm_space *parent;
    struct mm_space *child;
};

static struct pair pairs[PERCPU_MAX];

static void write_half(struct ring3_checks *r, struct mm_space *space, uint64_t seed)
{
    ring3_enter(r, space);
    ring3_walk_pages(r, "a copy is made", 0, PAGES / 2, seed + 1, seed);
    ring3_walk_pages(r, "a copy is kept", 0, PAGES / 2, 0, seed + 1);
}

static void read_all(struct ring3_checks *r, struct mm_space *space, uint64_t seed)
{
    struct trap_user user;

    ring3_enter(r, space);
    RING3_RUN(ring3_walk, &user, RING3_DATA, ring3_page(PAGES), 0, 8, seed, MM_CACHE_LINE);
    ring3_expect(r, "loads while another copies", &user, ring3_good(&user));
}

// The reader's space goes, and the writer takes the frames that it is left alone with.
static void take_the_rest(struct ring3_checks *r, struct mm_space *writer, struct mm_space *reader,
                          uint64_t seed)
{
    ring3_put(r, reader);
    ring3_enter(r, writer);
    ring3_walk_pages(r, "the rest is taken", PAGES / 2, PAGES / 2, seed + 1, seed);
    ring3_walk_pages(r, "all is one's own", 0, PAGES, 0, seed + 1);
    ring3_enter(r, NULL);
    ring3_put(r, writer);
}

static void work_pairs(void *ctx, uint32_t cpu)
{
    struct ring3_checks *r = ctx;
    uint32_t first = cpu & ~1u;
    uint32_t second = first + 1 < smp_nr() ? first + 1 : first;
    struct pair *pair = &pairs[first];

    for (uint32_t round = 0; round < 2 * r->rounds; round++) {
        uint64_t seed = UINT64_C(100000) * (first + 1) + UINT64_C(2) * round;
        if (cpu == first) {
            pair->parent = ring3_space(r, PAGES);
            ring3_walk_pages(r, "what will be shared", 0, PAGES, seed, 0);
            must(mm_space_clone(pair->parent, &pair->child), "a clone");
        }
        smp_barrier();
        struct mm_space *writer = round % 2 == 0 ? pair->parent : pair->child;
        struct mm_space *reader = round % 2 == 0 ? pair->child : pair->parent;
        if (cpu == first) {
            write_half(r, writer, seed);
        }
        if (cpu == second) {
            read_all(r, reader, seed);
        }
        ring3_enter(r, NULL);
        smp_barrier();
        if (cpu == second) { // the pages that were written on the other processor
            take_the_rest(r, writer, reader, seed);
        }
    }
}

static void check_pairs(struct ring3_checks *r)
{
    smp_run(work_pairs, r);
    CHECK("who reads a page in ring 3 sees nothing of the copy that another makes of it",
          ring3_all_good(r));
}

// ---- a copy that all of a space must see ----------------------------------------------------------
//
// Each processor has just read the pages that a child shares, then one of them stores: what the others
// have cached leads to the child's frames.

static struct pair shared;

static void work_copies(void *ctx, uint32_t cpu)
{
    struct ring3_checks *r = ctx;
    uint64_t seed = 1;

    ring3_enter(r, shared.parent);
    for (uint32_t round = 0; round < 2 * r->rounds; round++, seed += 2) {
        if (cpu == 0) {
            must(mm_space_clone(shared.parent, &shared.child), "a clone");
        }
        smp_barrier();
        ring3_walk_pages(r, "what a child shares", 0, PAGES, 0, seed);
        smp_barrier();
        if (cpu == round % smp_nr()) {
            ring3_walk_pages(r, "a copy for all", 0, PAGES, seed + 2, seed);
        }
        smp_barrier();
        ring3_walk_pages(r, "a copy that another made", 0, PAGES, 0, seed + 2);
        smp_barrier();
        if (cpu == 0) {
            ring3_enter(r, shared.child);
            ring3_walk_pages(r, "what the child has kept", 0, PAGES, seed + 1, seed);
            ring3_enter(r, shared.parent);
            ring3_put(r, shared.child);
        }
    }
    ring3_walk_pages(r, "copies without a child", 0, PAGES, 0, seed);
    ring3_enter(r, NULL);
}

static void check_copies(struct ring3_checks *r)
{
    shared.parent = ring3_space(r, PAGES);
    ring3_walk_pages(r, "what will be shared", 0, PAGES, 1, 0);
    ring3_enter(r, NULL);
    smp_run(work_copies, r);
    ring3_put(r, shared.parent);
    CHECK("a copy that one processor makes is what all in the space see", ring3_all_good(r));
}

// ---- all fault at once ----------------------------------------------------------------------------
//
// On pages that nobody has touched, and on pages that are shared with a child: of two that bring one
// at the same time one must win, or what was added in the other's is lost.

#define RUSH_PAGES 8
#define RUSH_TURNS UINT64_C(2)

static void rush(struct ring3_checks *r, struct mm_space *space, uint32_t cpu)
{
    struct trap_user user;

    ring3_enter(r, space);
    smp_barrier();
    RING3_RUN(ring3_rush, &user, RING3_DATA, ring3_page(RUSH_PAGES), RUSH_TURNS * RUSH_PAGES,
              ring3_page(cpu / 2 % RUSH_PAGES));
    ring3_expect(r, "faults at the same time", &user, ring3_good(&user));
    ring3_enter(r, NULL);
    smp_barrier();
}

// Each page is there once, and holds what so many processors have added.
static void rushed(struct ring3_checks *r, struct mm_space *space, uint64_t nr_cpus)
{
    struct mm_space_stats s;

    ring3_enter(r, space);
    for (uint64_t page = 0; page < RUSH_PAGES; page++) {
        must_be(r, ring3_word(r, ring3_page(page)) == nr_cpus * RUSH_TURNS);
    }
    ring3_enter(r, NULL);
    must(mm_space_get_stats(space, &s), "statistics of a space");
    must_be(r, s.resident_bytes == (RUSH_PAGES + 1) * MM_PAGE_SIZE);
}

static void work_rush(void *ctx, uint32_t cpu)
{
    struct ring3_checks *r = ctx;
    uint32_t nr_odd = smp_nr() / 2;

    for (uint32_t round = 0; round < 2 * r->rounds; round++) {
        if (cpu == 0) {
            shared.parent = ring3_space(r, RUSH_PAGES);
        }
        smp_barrier();
        rush(r, shared.parent, cpu);
        if (cpu == 0) {
            rushed(r, shared.parent, smp_nr());
            must(mm_space_clone(shared.parent, &shared.child), "a clone");
        }
        smp_barrier();
        rush(r, cpu % 2 == 0 ? shared.parent : shared.child, cpu);
        if (cpu == 0) {
            rushed(r, shared.parent, smp_nr() + (smp_nr() - nr_odd));
            rushed(r, shared.child, smp_nr() + nr_odd);
            ring3_put(r, shared.parent);
            ring3_put(r, shared.child);
        }
    }
}

static void check_rush(struct ring3_checks *r)
{
    smp_run(work_rush, r);
    CHECK("processors that fault on the same pages at once lose nothing", ring3_all_good(r));
}

void checks_ring3_fork(struct ring3_checks *r)
{
    check_under_fire(r);
    check_family(r);
    check_pairs(r);
    check_copies(r);
    check_rush(r);
}
