// SPDX-License-Identifier: MIT
/**
 * What a request that fails again costs: loads and stores of the library, counted. On a machine with
 * 64 times the memory it may take a few times as many, and so on one whose memory lies scattered.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "events.h"
#include "frame_rig.h"

#define PIECES 1024u

struct machine {
    struct mm_boot_entry entries[MM_BOOTMAP_CAPACITY(PIECES)];
    struct mm_bootmap map;
    struct mm_frames frames;
    void *metadata;
    uint64_t first, stride,
        piece; /* bytes: where memory begins, how far apart it is, and how long */
    unsigned nr;
};

static uint64_t nr_accesses;

static void count(void *ctx, const struct t_event *event)
{
    (void)ctx;
    nr_accesses += event->kind != T_EVENT_FENCE ? 1 : 0;
}

static const struct t_events_hooks hooks = {.before = count};

static struct machine *start(uint64_t first, uint64_t stride, uint64_t piece, unsigned nr)
{
    struct machine *m = calloc(1, sizeof(*m));
    struct mm_frames_config config = {.nr_cpus = 4};

    assert_non_null(m);
    *m = (struct machine){.first = first, .stride = stride, .piece = piece, .nr = nr};
    assert_int_equal(mm_bootmap_init(&m->map, m->entries, MM_BOOTMAP_CAPACITY(PIECES)), MM_OK);
    for (unsigned i = 0; i < nr; i++) {
        struct mm_prange range = mm_prange(mm_paddr(first + i * stride), piece);

        assert_int_equal(mm_bootmap_add(&m->map, range, MM_BOOT_USABLE), MM_OK);
    }
    config.map = &m->map;
    assert_int_equal(mm_frame_metadata_size(&config, &config.metadata_len), MM_OK);
    /* In proportion to the memory that is there: 0.14 bytes a frame, and what a piece and a CPU take. */
    assert_true(config.metadata_len <= nr * (piece / 4096) * 14 / 100 + nr * 256 + 16 * KIB);
    m->metadata = aligned_alloc(MM_CACHE_LINE, config.metadata_len);
    assert_non_null(m->metadata);
    memset(m->metadata, 0, config.metadata_len);
    config.metadata = m->metadata;
    assert_int_equal(mm_frame_init(&m->frames, &config), MM_OK);
    return m;
}

static void stop(struct machine *m)
{
    assert_int_equal(mm_frame_check(&m->frames), MM_OK);
    assert_int_equal(mm_frame_destroy(&m->frames), MM_OK);
    free(m->metadata);
    free(m);
}

/* All is allocated, but for every `step`th block of `nr` frames: 0, but for nothing. */
static void use_up(struct machine *m, uint64_t step, uint64_t nr)
{
    for (unsigned i = 0; i < m->nr; i++) {
        uint64_t first = (m->first + i * m->stride) / 4096;
        uint64_t end = first + m->piece / 4096;

        assert_int_equal(mm_frame_alloc_at(&m->frames, mm_pfn(first), end - first), MM_OK);
        for (uint64_t pfn = first; step != 0 && pfn < end; pfn += step * nr) {
            mm_frame_free_run(&m->frames, mm_pfn(pfn), nr);
        }
    }
}

/* Accesses of a request that fails, the third time. */
static uint64_t work(struct machine *m, uint32_t order, uint64_t run)
{
    const struct mm_frame_request request = {.order = order, .nr_frames = run};
    mm_pfn_t pfn;

    for (unsigned i = 0; i < 3; i++) {
        nr_accesses = 0;
        t_events_watch(&hooks, NULL);
        mm_status_t status = mm_frame_alloc(&m->frames, &request, &pfn);

        t_events_watch(NULL, NULL);
        assert_int_equal(status, MM_ERR_NO_MEMORY);
    }
    return nr_accesses;
}

static const struct {
    const char *name;
    uint32_t order;
    uint64_t run;
    uint64_t step, nr; /* of the memory, what is free */
} kinds[] = {
    {"order 0", 0, 0, 0, 0},           {"order 1", 1, 0, 2, 1},
    {"order 4", 4, 0, 2, 8},           {"order 9", 9, 0, 2, 256},
    {"order 10", 10, 0, 2, 256},       {"order 18", 18, 0, 2, 1},
    {"a run of 16", 0, 16, 2, 8},      {"a run of 256", 0, 256, 4, 64},
    {"a run of 1500", 0, 1500, 2, 64},
};

#define NR_KINDS (sizeof(kinds) / sizeof(kinds[0]))

static void measure(uint64_t first, uint64_t stride, uint64_t piece, unsigned nr, uint64_t *out)
{
    for (unsigned i = 0; i < NR_KINDS; i++) {
        struct machine *m = start(first, stride, piece, nr);

        use_up(m, kinds[i].step, kinds[i].nr);
        out[i] = work(m, kinds[i].order, kinds[i].run);
        stop(m);
    }
}

static void test_failing_again(void **state)
{
    uint64_t small[NR_KINDS];
    uint64_t large[NR_KINDS];
    uint64_t scattered[NR_KINDS];

    (void)state;
    measure(64 * MIB, 0, 1 * GIB, 1, small);
    measure(64 * MIB, 0, 64 * GIB, 1, large);
    measure(64 * MIB, 64 * GIB, 64 * MIB, 1024, scattered);
    for (unsigned i = 0; i < NR_KINDS; i++) {
        print_message("%-14s %5llu accesses on 1 GiB, %5llu on 64 GiB, %5llu scattered\n",
                      kinds[i].name, (unsigned long long)small[i], (unsigned long long)large[i],
                      (unsigned long long)scattered[i]);
    }
    for (unsigned i = 0; i < NR_KINDS; i++) {
        assert_true(large[i] <= 4 * small[i]);
        assert_true(scattered[i] <= 4 * small[i]);
    }
}

/* 1 TiB: what a search for the last frame and for the last line costs is read from few words. */
static void test_tebibyte(void **state)
{
    struct machine *m = start(64 * MIB, 0, 1 * TIB, 1);
    const struct mm_frame_request line = {.order = 9};
    uint64_t lowest = 64 * MIB / 4096;
    mm_pfn_t pfn;
    uint64_t nr;

    (void)state;
    use_up(m, 0, 0);
    (void)work(m, 9, 0);
    nr = work(m, 0, 0);
    print_message("%llu accesses on 1 TiB where nothing is left\n", (unsigned long long)nr);
    assert_true(nr < 4000);
    mm_frame_free_run(&m->frames, mm_pfn(lowest), 513);
    nr_accesses = 0;
    t_events_watch(&hooks, NULL);
    mm_status_t status = mm_frame_alloc(&m->frames, &line, &pfn);

    t_events_watch(NULL, NULL);
    assert_int_equal(status, MM_OK);
    assert_int_equal(pfn.raw, lowest);
    assert_true(nr_accesses < 4000);
    assert_int_equal(mm_frame_alloc_on(&m->frames, 1, &pfn), MM_OK);
    assert_int_equal(pfn.raw, lowest + 512);
    stop(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failing_again),
        cmocka_unit_test(test_tebibyte),
    };

    return cmocka_run_group_tests_name("frame_work", tests, NULL, NULL);
}
