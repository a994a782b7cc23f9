// SPDX-License-Identifier: MIT
/**
 * Withheld memory: the reserve that only MM_FRAME_ATOMIC gets, and what user memory never gets.
 *
 * The model is one byte a frame: whether it is free, and who may have it. Who may is learnt from
 * the allocator once, by taking all that a caller gets, and must be whole lines then; from there on
 * each frame that is handed out is judged by it, and each request that fails is searched for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "frame_rig.h"
#include "prng.h"

#define FIRST_MAX UINT64_C(65536)

enum who { USER, OBJECT, KERNEL, BULK, ATOMIC, ATOMIC_USER, NR_WHO };

/* Who may have a frame. */
enum class { ANYBODY, NO_USER, ONLY_ATOMIC };

struct world {
    struct rig rig;
    uint8_t classes[FIRST_MAX];
    bool taken[FIRST_MAX]; /* or not managed */
    struct {
        uint64_t pfn;
        uint64_t nr;
    } held[FIRST_MAX];
    uint64_t nr_held;
};

static bool may(enum who who, enum class class)
{
    switch (who) {
    case USER:
    case OBJECT:
    case ATOMIC_USER:
        return class == ANYBODY;
    case KERNEL:
    case BULK:
        return class != ONLY_ATOMIC;
    default:
        return true;
    }
}

static struct mm_frame_request request_of(enum who who)
{
    return (struct mm_frame_request){
        .flags = who == ATOMIC || who == ATOMIC_USER ? MM_FRAME_ATOMIC : 0,
        .owner = who == USER || who == ATOMIC_USER ? MM_OWNER_ANONYMOUS
                 : who == OBJECT                   ? MM_OWNER_OBJECT
                                                   : MM_OWNER_KERNEL,
    };
}

static void keep(struct world *w, uint64_t pfn, uint64_t nr)
{
    for (uint64_t i = 0; i < nr; i++) {
        assert_true(pfn + i < FIRST_MAX);
        assert_false(w->taken[pfn + i]);
        w->taken[pfn + i] = true;
    }
    w->held[w->nr_held].pfn = pfn;
    w->held[w->nr_held++].nr = nr;
}

static void give(struct world *w, uint64_t at)
{
    memset(&w->taken[w->held[at].pfn], 0, w->held[at].nr);
    mm_frame_free_run(&w->rig.frames, mm_pfn(w->held[at].pfn), w->held[at].nr);
    w->held[at] = w->held[--w->nr_held];
}

static void give_all(struct world *w)
{
    while (w->nr_held != 0) {
        give(w, w->nr_held - 1);
    }
}

/* Take single frames until there are no more: how many. */
static uint64_t take_all(struct world *w, enum who who)
{
    struct mm_frame_request request = request_of(who);
    uint64_t nr = 0;
    mm_pfn_t pfn;

    while (mm_frame_alloc(&w->rig.frames, &request, &pfn) == MM_OK) {
        keep(w, pfn.raw, 1);
        nr++;
    }
    return nr;
}

/* The class of all frames that are free now. */
static void learn(struct world *w, enum class class)
{
    for (uint64_t i = 0; i < FIRST_MAX; i++) {
        if (!w->taken[i]) {
            w->classes[i] = (uint8_t) class;
        }
    }
}

static mm_status_t configure(struct world *w, const uint64_t *ranges, uint64_t nr_reserve,
                             uint64_t nr_kernel)
{
    rig_map(&w->rig, ranges);
    rig_config(&w->rig, 2, 0);
    w->rig.config.nr_reserve = nr_reserve;
    w->rig.config.nr_kernel = nr_kernel;
    return mm_frame_init(&w->rig.frames, &w->rig.config);
}

static struct world *start(const uint64_t *ranges, uint64_t nr_reserve, uint64_t nr_kernel)
{
    struct world *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    assert_int_equal(configure(w, ranges, nr_reserve, nr_kernel), MM_OK);
    memset(w->taken, 1, sizeof(w->taken));
    for (; ranges[1] != 0; ranges += 2) {
        memset(&w->taken[ranges[0] / 4096], 0, ranges[1] / 4096);
    }
    w->taken[0] = true; /* nobody gets that */
    (void)take_all(w, USER);
    learn(w, NO_USER);
    (void)take_all(w, KERNEL);
    learn(w, ONLY_ATOMIC);
    (void)take_all(w, ATOMIC);
    for (uint64_t i = 1; i < FIRST_MAX; i++) {
        assert_true(w->taken[i]);
        if (i % 512 != 0 && mm_frame_managed(&w->rig.frames, mm_pfn(i)) &&
            mm_frame_managed(&w->rig.frames, mm_pfn(i - 1)) && i > 1) {
            assert_int_equal(w->classes[i], w->classes[i - 1]); /* whole lines */
        }
    }
    give_all(w);
    return w;
}

static void stop(struct world *w)
{
    give_all(w);
    rig_stop(&w->rig);
    free(w);
}

static uint64_t nr_of(const struct world *w, enum class class)
{
    uint64_t nr = 0;

    for (uint64_t i = 0; i < FIRST_MAX; i++) {
        nr += w->classes[i] == class && mm_frame_managed(&w->rig.frames, mm_pfn(i)) ? 1 : 0;
    }
    return nr;
}

static const uint64_t memory[] = {MIB, 63 * MIB - 12 * KIB, 80 * MIB + 4 * KIB, 44 * MIB, 0, 0};

/* ---- how much, and where ----------------------------------------------------------------------- */

static void rounded_up_to_lines(void **state)
{
    static const struct {
        uint64_t reserve, kernel, gets_reserve, gets_kernel;
    } rows[] = {
        {0, 0, 0, 0},          {1, 0, 512, 0},        {0, 1, 0, 512},     {512, 0, 512, 0},
        {513, 512, 1024, 512}, {700, 100, 1024, 512}, {0, 5000, 0, 5120},
    };
    (void)state;

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct world *w = start(memory, rows[i].reserve, rows[i].kernel);

        assert_int_equal(nr_of(w, ONLY_ATOMIC), rows[i].gets_reserve);
        assert_int_equal(nr_of(w, NO_USER), rows[i].gets_kernel);
        assert_int_equal(rig_stats(&w->rig).nr_withheld,
                         rows[i].gets_reserve + rows[i].gets_kernel);
        for (uint64_t pfn = 0; pfn < 4096; pfn++) {
            assert_int_equal(w->classes[pfn], ANYBODY); /* below 16 MiB */
        }
        stop(w);
    }
}

/* As much as lies above 16 MiB is withheld first. */
static void low_memory_only_if_need_be(void **state)
{
    static const uint64_t mostly_low[] = {0, 20 * MIB, 0, 0};
    struct world *w = start(mostly_low, 1000, 0);
    (void)state;

    assert_int_equal(nr_of(w, ONLY_ATOMIC), 1024);
    for (uint64_t pfn = 1; pfn < 4096; pfn++) {
        assert_int_equal(w->classes[pfn], ANYBODY);
    }
    stop(w);
    w = start(mostly_low, 1000, 1000);
    assert_int_equal(nr_of(w, ONLY_ATOMIC), 1024);
    assert_int_equal(nr_of(w, NO_USER), 511 + 512); /* frame 0 is of no line */
    stop(w);
}

/* Where a line is a large part of all there is. */
static void small_machines(void **state)
{
    static const uint64_t two_lines[] = {2 * MIB, 4 * MIB, 0, 0};
    static const uint64_t one_line[] = {2 * MIB, 2 * MIB, 0, 0};
    static const uint64_t with_zero[] = {0, 2 * MIB, 0, 0};
    static const uint64_t two_parts[] = {3 * MIB, 2 * MIB, 0, 0};
    static const struct mm_frames zeroed;
    struct world *w = start(two_lines, 1, 0);
    (void)state;

    assert_int_equal(nr_of(w, ONLY_ATOMIC), 512);
    stop(w);
    w = start(two_parts, 200, 0); /* half a line at each end */
    assert_int_equal(nr_of(w, ONLY_ATOMIC), 256);
    stop(w);
    for (unsigned i = 0; i < 4; i++) {
        struct world *bad = calloc(1, sizeof(*bad));
        const uint64_t *words;

        assert_non_null(bad);
        assert_int_equal(configure(bad,
                                   i == 0   ? one_line
                                   : i == 1 ? two_lines
                                   : i == 2 ? with_zero
                                            : two_parts,
                                   1,
                                   i == 1   ? 1
                                   : i == 3 ? 300
                                            : 0),
                         MM_ERR_INVALID_SIZE);
        assert_memory_equal(&bad->rig.frames, &zeroed, sizeof(zeroed));
        words = bad->rig.config.metadata;
        for (uint64_t at = 0; at < bad->rig.config.metadata_len / 8; at++) {
            assert_int_equal(words[at], 0);
        }
        bad->rig.config.nr_reserve = 0;
        bad->rig.config.nr_kernel = 0;
        assert_int_equal(mm_frame_init(&bad->rig.frames, &bad->rig.config), MM_OK);
        rig_stop(&bad->rig);
        free(bad);
    }
}

/* Metadata that was carved out of the map goes back if too much is withheld. */
static void too_much_of_a_map(void **state)
{
    static _Alignas(1 << 21) uint8_t bytes[4 * MIB];
    struct mm_physmap physmap = mm_physmap_direct((uint64_t)(uintptr_t)bytes - 2 * MIB);
    struct rig rig;
    struct mm_prange range;
    (void)state;

    rig_map(&rig, (const uint64_t[]){2 * MIB, 4 * MIB, 0, 0});
    rig.config = (struct mm_frames_config){.map = &rig.map,
                                           .nr_cpus = 1,
                                           .platform = rig_platform(&rig),
                                           .physmap = &physmap,
                                           .nr_reserve = 1,
                                           .nr_kernel = 1};
    assert_int_equal(
        mm_frame_init_from_map(&rig.frames, &rig.config, mm_prange(mm_paddr(2 * MIB), 4 * MIB)),
        MM_ERR_INVALID_SIZE);
    assert_int_equal(rig.frames.magic, 0);
    assert_int_equal(mm_bootmap_next(&rig.map, MM_BOOT_USABLE, mm_paddr(0), &range), MM_OK);
    assert_int_equal(range.start.raw, 2 * MIB);
    assert_int_equal(range.len, 4 * MIB);
    rig.config.nr_kernel = 0;
    assert_int_equal(
        mm_frame_init_from_map(&rig.frames, &rig.config, mm_prange(mm_paddr(2 * MIB), 4 * MIB)),
        MM_OK);
    rig_check(&rig);
    assert_int_equal(mm_frame_destroy_to_map(&rig.frames, &rig.map), MM_OK);
}

/* ---- who gets what ----------------------------------------------------------------------------- */

static void each_gets_its_part(void **state)
{
    struct world *w = start(memory, 1000, 3000);
    uint64_t nr[3] = {nr_of(w, ANYBODY), nr_of(w, NO_USER), nr_of(w, ONLY_ATOMIC)};
    mm_pfn_t pfn;
    mm_pfn_t list[4];
    size_t done;
    (void)state;

    for (unsigned turn = 0; turn < 2; turn++) {
        assert_int_equal(take_all(w, turn == 0 ? USER : ATOMIC_USER), nr[0]);
        assert_int_equal(take_all(w, OBJECT), 0);
        assert_int_equal(take_all(w, KERNEL), nr[1]);
        assert_int_equal(mm_frame_alloc_on(&w->rig.frames, 0, &pfn), MM_ERR_NO_MEMORY);
        assert_int_equal(mm_frame_alloc(&w->rig.frames, NULL, &pfn), MM_ERR_NO_MEMORY);
        assert_int_equal(mm_frame_alloc_bulk(&w->rig.frames, 0, list, 4, &done), MM_ERR_NO_MEMORY);
        assert_int_equal(done, 0);
        assert_int_equal(rig_stats(&w->rig).nr_free, nr[2]);
        assert_int_equal(rig_stats(&w->rig).nr_withheld, nr[2]);
        assert_int_equal(take_all(w, ATOMIC), nr[2]);
        give_all(w);
    }
    stop(w);
}

/* What was freed is withheld again, and no hint leads there. */
static void freed_frames_are_withheld_again(void **state)
{
    struct world *w = start(memory, 600, 600);
    struct mm_frame_request atomic = request_of(ATOMIC);
    mm_pfn_t pfn;
    (void)state;

    (void)take_all(w, ATOMIC);
    for (uint64_t at = 0; at < w->nr_held;) {
        if (w->classes[w->held[at].pfn] == ONLY_ATOMIC) {
            give(w, at);
        } else {
            at++;
        }
    }
    for (unsigned i = 0; i < 600; i++) {
        assert_int_equal(mm_frame_alloc_on(&w->rig.frames, 0, &pfn), MM_ERR_NO_MEMORY);
        assert_int_equal(mm_frame_alloc(&w->rig.frames, &atomic, &pfn), MM_OK);
        assert_int_equal(w->classes[pfn.raw], ONLY_ATOMIC);
        keep(w, pfn.raw, 1);
        rig_check(&w->rig);
    }
    stop(w);
}

static void known_frames_are_not_withheld(void **state)
{
    struct world *w = start(memory, 600, 600);
    (void)state;

    for (uint64_t pfn = 0; pfn < FIRST_MAX; pfn += 97) {
        if (!w->taken[pfn]) {
            assert_int_equal(mm_frame_alloc_at(&w->rig.frames, mm_pfn(pfn), 1), MM_OK);
            keep(w, pfn, 1);
        }
    }
    stop(w);
}

/* ---- why there was none ------------------------------------------------------------------------ */

static void fails_as(struct world *w, const struct mm_frame_request *request,
                     enum mm_frame_cause cause)
{
    struct mm_frame_stats before = rig_stats(&w->rig);
    struct mm_frame_stats after;
    mm_pfn_t pfn = {77};

    assert_int_equal(mm_frame_alloc(&w->rig.frames, request, &pfn), MM_ERR_NO_MEMORY);
    assert_int_equal(pfn.raw, 77);
    after = rig_stats(&w->rig);
    for (unsigned i = 0; i < MM_FAILED_COUNT; i++) {
        assert_int_equal(after.nr_failed_by[i] - before.nr_failed_by[i], i == cause ? 1 : 0);
    }
    assert_int_equal(after.nr_failed, before.nr_failed + 1);
}

static void causes(void **state)
{
    struct world *w = start(memory, 600, 600);
    struct mm_frame_request kernel = {.order = 1};
    struct mm_frame_request user = {.order = 1, .owner = MM_OWNER_ANONYMOUS};
    struct mm_frame_request atomic = {.order = 1, .flags = MM_FRAME_ATOMIC};
    struct mm_frame_request low = {.highest = {512 * KIB}};
    struct mm_frame_request large = {.order = 18};
    struct mm_frame_request bound = {.nr_frames = 512, .boundary = 2 * MIB, .align = 4096};
    struct mm_frame_request aligned = {.align = 1 * GIB};
    struct mm_frame_request all_nodes = {.node_policy = MM_NODE_REQUIRED};
    (void)state;

    fails_as(w, &low, MM_FAILED_CONSTRAINED);
    fails_as(w, &aligned, MM_FAILED_CONSTRAINED);
    fails_as(w, &large, MM_FAILED_WITHHELD); /* from this caller */
    large.flags = MM_FRAME_ATOMIC;
    fails_as(w, &large, MM_FAILED_FRAGMENTED);
    (void)take_all(w, USER);
    fails_as(w, &user, MM_FAILED_WITHHELD);
    (void)take_all(w, KERNEL);
    fails_as(w, &kernel, MM_FAILED_WITHHELD);
    fails_as(w, &all_nodes, MM_FAILED_WITHHELD); /* there is one node: that is no constraint */
    fails_as(w, NULL, MM_FAILED_WITHHELD);
    fails_as(w, &bound, MM_FAILED_CONSTRAINED);
    (void)take_all(w, ATOMIC);
    fails_as(w, &kernel, MM_FAILED_FRAGMENTED);
    fails_as(w, &user, MM_FAILED_FRAGMENTED);
    fails_as(w, &atomic, MM_FAILED_FRAGMENTED);
    fails_as(w, NULL, MM_FAILED_EXHAUSTED);
    fails_as(w, &all_nodes, MM_FAILED_EXHAUSTED);
    stop(w);
    /* A part that only users do not get is withheld from nobody else. */
    w = start(memory, 0, 600);
    (void)take_all(w, KERNEL);
    fails_as(w, NULL, MM_FAILED_EXHAUSTED);
    stop(w);
}

/* ---- at random --------------------------------------------------------------------------------- */

/* Whether [pfn, pfn + nr) is free and may be had. */
static bool place_fits(const struct world *w, enum who who, uint64_t pfn, uint64_t nr)
{
    for (uint64_t i = 0; i < nr; i++) {
        if (w->taken[pfn + i] || !may(who, (enum class)w->classes[pfn + i])) {
            return false;
        }
    }
    return true;
}

static bool any_place(const struct world *w, enum who who, uint64_t nr, uint64_t align)
{
    for (uint64_t pfn = 0; pfn + nr <= FIRST_MAX; pfn += align) {
        if (place_fits(w, who, pfn, nr)) {
            return true;
        }
    }
    return false;
}

static void ask_bulk(struct world *w, struct t_prng *rng)
{
    size_t count = 1 + t_prng_below(rng, 300);
    mm_pfn_t list[300];
    size_t done = 0;
    mm_status_t status =
        mm_frame_alloc_bulk(&w->rig.frames, (uint32_t)t_prng_below(rng, 2), list, count, &done);

    assert_true(status == MM_OK ? done == count : done < count);
    for (size_t i = 0; i < done; i++) {
        assert_true(may(BULK, (enum class)w->classes[list[i].raw]));
        keep(w, list[i].raw, 1);
    }
    assert_true(status == MM_OK || !any_place(w, BULK, 1, 1));
}

static void ask(struct world *w, struct t_prng *rng, uint64_t most)
{
    enum who who = (enum who)t_prng_below(rng, NR_WHO);
    struct mm_frame_request request = request_of(who);
    bool run = t_prng_below(rng, 3) == 0;
    uint64_t nr;
    mm_pfn_t pfn;
    mm_status_t status;

    if (who == BULK) {
        ask_bulk(w, rng);
        return;
    }
    request.lifetime = (uint32_t)t_prng_below(rng, 4);
    if (run) {
        request.nr_frames = 1 + t_prng_below(rng, most);
    } else {
        request.order = (uint32_t)t_prng_below(rng, most > 600 ? 13 : 5);
    }
    nr = run ? request.nr_frames : UINT64_C(1) << request.order;
    status = mm_frame_alloc(&w->rig.frames, &request, &pfn);
    if (status == MM_OK) {
        assert_true(run || pfn.raw % nr == 0);
        assert_true(place_fits(w, who, pfn.raw, nr));
        keep(w, pfn.raw, nr);
    } else {
        assert_int_equal(status, MM_ERR_NO_MEMORY);
        assert_false(any_place(w, who, nr, run ? 1 : nr));
    }
}

static void at_random(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct world *w = start(memory, seed * 577 % 6000, seed * 1201 % 7000);
        struct t_prng rng;
        bool filling = true;

        t_prng_seed(&rng, seed);
        for (unsigned step = 0; step < 1500; step++) {
            w->rig.cpu = (uint32_t)t_prng_below(&rng, 2);
            filling = t_prng_below(&rng, 300) == 0 ? !filling : filling;
            if (w->nr_held == 0 || t_prng_below(&rng, 8) < (filling ? 6u : 2u)) {
                ask(w, &rng, step % 2 == 0 ? 5000 : 100);
            } else {
                give(w, t_prng_below(&rng, w->nr_held));
            }
        }
        rig_check(&w->rig);
        stop(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounded_up_to_lines),
        cmocka_unit_test(low_memory_only_if_need_be),
        cmocka_unit_test(small_machines),
        cmocka_unit_test(too_much_of_a_map),
        cmocka_unit_test(each_gets_its_part),
        cmocka_unit_test(freed_frames_are_withheld_again),
        cmocka_unit_test(known_frames_are_not_withheld),
        cmocka_unit_test(causes),
        cmocka_unit_test(at_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
