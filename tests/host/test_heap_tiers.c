// SPDX-License-Identifier: MIT
/**
 * The eight misuses of a heap, each caught in the tier that promises it: that it is told at all, of
 * which object, who allocated and who freed it, and the text of the report.
 */
#include "heap_tiers.h"

static struct told told;

static struct mm_heap_config config_of(enum mm_heap_tier tier)
{
    memset(&told, 0, sizeof(told));
    return (struct mm_heap_config){.name = "things",
                                   .tier = tier,
                                   .flags = MM_HEAP_CALLERS,
                                   .quarantine = 8,
                                   .report = told_report,
                                   .report_ctx = &told};
}

/** The last report: this kind, this object, this much asked for, and who. */
static const struct mm_heap_report *expect_report(enum mm_heap_misuse kind, const void *object,
                                                  uint64_t size, int64_t offset, bool freed)
{
    const struct mm_heap_report *report = &told.reports[told.nr - 1];

    assert_in_range(told.nr, 1, TOLD_MAX);
    assert_int_equal(report->kind, kind);
    assert_ptr_equal((void *)(uintptr_t)report->object, object);
    assert_int_equal(report->size, size);
    assert_int_equal(report->offset, offset);
    assert_int_equal(report->address, (uint64_t)(uintptr_t)object + (uint64_t)offset);
    assert_string_equal(report->name, "things");
    assert_string_equal(report->owner, "things");
    assert_true(IN_PLACE(report->allocated_by, made_here));
    assert_int_equal(report->freed_by != 0, freed);
    if (freed) {
        assert_true(IN_PLACE(report->freed_by, freed_here));
    }
    return report;
}

/** The text of the last report is what its numbers say. */
static void expect_text(const char *first, const char *tail)
{
    const struct mm_heap_report *report = &told.reports[told.nr - 1];
    char text[600];
    int at = snprintf(text, sizeof(text),
                      "heap things: %s\n  object 0x%llx, %llu bytes, of things; at 0x%llx%s\n"
                      "  allocated by 0x%llx\n",
                      first, (unsigned long long)report->object, (unsigned long long)report->size,
                      (unsigned long long)report->address, tail,
                      (unsigned long long)report->allocated_by);

    if (report->freed_by != 0) {
        at += snprintf(text + at, sizeof(text) - (size_t)at, "  freed by 0x%llx\n",
                       (unsigned long long)report->freed_by);
    }
    if (report->caller != 0) {
        snprintf(text + at, sizeof(text) - (size_t)at, "  found by 0x%llx\n",
                 (unsigned long long)report->caller);
    }
    assert_string_equal(told_text(&told), text);
}

/* --- frees that must not be: every tier -------------------------------------------------------- */

static void double_free(struct mm_heap *heap, uint64_t size)
{
    void *object = made_here(heap, size);
    unsigned before = told.nr;

    assert_non_null(object);
    freed_here(heap, object);
    assert_int_equal(told.nr, before);
    freed_there(heap, object);
    assert_int_equal(told.nr, before + 1);
    expect_report(MM_HEAP_DOUBLE_FREE, object, size, 0, true);
    assert_true(IN_PLACE(told.reports[told.nr - 1].caller, freed_there));
    expect_text("double free of an object", "");
}

/** A is freed, B, and A again: B is left alone, and not handed out twice. */
static void a_b_a(struct mm_heap *heap)
{
    void *a = made_here(heap, 64);
    void *b = made_here(heap, 64);
    void *c;
    void *d;

    freed_here(heap, a);
    freed_here(heap, b);
    freed_there(heap, a);
    expect_report(MM_HEAP_DOUBLE_FREE, a, 64, 0, true);
    c = made_here(heap, 64);
    d = made_here(heap, 64);
    assert_ptr_not_equal(c, d);
    freed_here(heap, c);
    freed_here(heap, d);
}

static void inner_free(struct mm_heap *heap)
{
    char *object = made_here(heap, 100);

    freed_there(heap, object + 16);
    expect_report(MM_HEAP_INNER_FREE, object, 100, 16, false);
    expect_text("free of the inside of an object, 16 bytes into it", "");
    freed_here(heap, object);
    freed_there(heap, object + 16); /* it is none any more */
    expect_report(MM_HEAP_WILD_FREE, object, 100, 16, true);
    expect_text("free of the inside of an object that is free, 16 bytes into it", "");

    object = made_here(heap, 20000);
    freed_there(heap, object + 8192);
    expect_report(MM_HEAP_INNER_FREE, object, 20000, 8192, false);
    freed_here(heap, object);
}

static void wild_free(struct mm_heap *heap)
{
    int here = 0;

    freed_there(heap, &here);
    assert_int_equal(told.reports[told.nr - 1].kind, MM_HEAP_WILD_FREE);
    assert_int_equal(told.reports[told.nr - 1].object, 0);
    assert_true(IN_PLACE(told.reports[told.nr - 1].caller, freed_there));
    assert_non_null(strstr(told_text(&told),
                           "heap things: free of an address that holds no object\n"
                           "  at 0x"));
    freed_there(heap, (void *)16);
    assert_int_equal(told.reports[told.nr - 1].kind, MM_HEAP_WILD_FREE);
}

static void foreign_free(struct world *world)
{
    struct mm_cache_config config = {.name = "others", .size = 64, .flags = MM_HEAP_CALLERS};
    static struct mm_cache cache;
    void *object;

    assert_int_equal(mm_cache_init(&cache, &world->pool, &config), MM_OK);
    object = mm_cache_alloc(&cache);
    freed_there(&world->heap, object);
    assert_int_equal(told.reports[told.nr - 1].kind, MM_HEAP_FOREIGN_FREE);
    assert_string_equal(told.reports[told.nr - 1].owner, "others");
    assert_non_null(strstr(told_text(&told), "64 bytes, of others; at"));
    mm_cache_free(&cache, object);
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
}

static void wrong_size(struct mm_heap *heap)
{
    void *object = made_here(heap, 100);
    unsigned before = told.nr;

    mm_heap_free_sized(heap, object, 1000, 0);
    assert_int_equal(told.nr, before + 1);
    expect_report(MM_HEAP_SIZE_MISMATCH, object, 100, 0, false);
    expect_text("free of an object with the size of another", "; the caller says 1000 bytes");
    mm_heap_free_sized(heap, object, 100, 0);
    assert_int_equal(told.nr, before + 1);
}

/* Several descriptors have had a run at one address: the last one is told. */
static void test_last_run_of_an_address(void **state)
{
    struct mm_heap_config config = config_of(MM_HEAP_HARDENED);
    struct world *world = tiers_world(false);
    struct mm_heap *heap = &world->heap;
    unsigned char *kept;
    unsigned char *object;

    (void)state;
    tiers_start(world, 1, &config);
    for (uint64_t first = 0; first < 2; first++) {
        kept = made_here(heap, 70000);
        object = made_here(heap, 100001);
        freed_there(heap, first != 0 ? kept : object);
        freed_there(heap, first != 0 ? object : kept);
        kept = made_here(heap, 90000);
        freed_there(heap, kept);
        told.nr = 0;
        freed_here(heap, kept);
        assert_int_equal(told.nr, 1);
        assert_int_equal(told.reports[0].kind, MM_HEAP_DOUBLE_FREE);
        assert_int_equal(told.reports[0].size, 90000);
        assert_true(IN_PLACE(told.reports[0].freed_by, freed_there));
    }
    world_stop(world);
    world_delete(world);
}

static void test_wrong_frees(void **state)
{
    static const enum mm_heap_tier tiers[] = {MM_HEAP_CHECKED, MM_HEAP_FAST, MM_HEAP_HARDENED};

    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        struct mm_heap_config config = config_of(tiers[i / 2]);
        struct world *world = tiers_world(i % 2 != 0);

        tiers_start(world, 1, &config);
        double_free(&world->heap, 64);
        double_free(&world->heap, 1);
        double_free(&world->heap, 8000);
        double_free(&world->heap, 10000);
        double_free(&world->heap, 1000000);
        a_b_a(&world->heap);
        inner_free(&world->heap);
        wild_free(&world->heap);
        foreign_free(world);
        if (config.tier != MM_HEAP_FAST) {
            wrong_size(&world->heap);
        }
        world_stop(world);
        world_delete(world);
    }
}

/** A plain heap tells the report op too, without what it does not record. */
static void test_plain_heap_reports(void **state)
{
    struct mm_heap_config config = config_of(MM_HEAP_CHECKED);
    struct world *world = tiers_world(false);
    struct mm_heap_report *report = &told.reports[0];
    void *object;

    (void)state;
    config.flags = 0;
    tiers_start(world, 1, &config);
    object = made_here(&world->heap, 60);
    freed_here(&world->heap, object);
    freed_there(&world->heap, object);
    assert_int_equal(told.nr, 1);
    assert_int_equal(report->kind, MM_HEAP_DOUBLE_FREE);
    assert_int_equal(report->size, 64);
    assert_int_equal(report->allocated_by, 0);
    assert_true(IN_PLACE(report->caller, freed_there));
    assert_null(mm_heap_realloc(&world->heap, object, 100));
    assert_int_equal(told.nr, 2);
    world_stop(world);
    world_delete(world);
}

/** Without a report op it is a panic, which names the same. */
static void test_panic_names_callers(void **state)
{
    struct mm_heap_config config = config_of(MM_HEAP_HARDENED);
    struct world *world = tiers_world(false);
    struct t_trap_info info;
    void *object;

    (void)state;
    config.report = NULL;
    tiers_start(world, 1, &config);
    object = made_here(&world->heap, 60);
    freed_here(&world->heap, object);
    T_EXPECT_PANIC(freed_there(&world->heap, object), &info);
    assert_string_equal(info.what, "double free of an object");
    assert_int_equal(info.address, (uint64_t)(uintptr_t)object);
    assert_true(IN_PLACE(info.allocated_by, made_here));
    assert_true(IN_PLACE(info.freed_by, freed_here));
    assert_true(IN_PLACE(info.caller, freed_there));
    world_stop(world);
    world_delete(world);
}

/* --- writes: the hardened tier ----------------------------------------------------------------- */

/** `nr` bytes behind an object of this size are written. */
static void overflow(struct mm_heap *heap, uint64_t size, uint64_t nr)
{
    unsigned char *object = made_here(heap, size);
    unsigned before = told.nr;

    assert_non_null(object);
    memset(object, 0, size + nr);
    freed_there(heap, object);
    assert_int_equal(told.nr, before + 1);
    expect_report(MM_HEAP_OVERFLOW, object, size, (int64_t)size, false);
    assert_true(IN_PLACE(told.reports[told.nr - 1].caller, freed_there));
    expect_text("overflow of an object, 1 byte behind its end", "");
}

static void write_after_free(struct mm_heap *heap, uint64_t size, uint64_t at)
{
    unsigned char *object = made_here(heap, size);
    unsigned before = told.nr;
    char first[100];

    freed_here(heap, object);
    object[at] = 0;
    mm_heap_reclaim(heap); /* it leaves the quarantine */
    assert_int_equal(told.nr, before + 1);
    expect_report(MM_HEAP_WRITE_AFTER_FREE, object, size, (int64_t)at, true);
    snprintf(first, sizeof(first), "write to an object after its free%s",
             at == 0   ? ""
             : at == 1 ? ", 1 byte into it"
                       : ", 39 bytes into it");
    expect_text(first, "");
}

/** Also after it has left the quarantine: when its place is used again. */
static void write_later(struct mm_heap *heap)
{
    void *objects[200];
    unsigned char *object = made_here(heap, 48);
    unsigned before = told.nr;

    objects[0] = made_here(heap, 48); /* the slab stays */
    freed_here(heap, object);
    mm_heap_reclaim(heap);
    assert_int_equal(told.nr, before);
    object[7] = 1;
    for (unsigned i = 1; i < 200; i++) {
        objects[i] = made_here(heap, 48);
    }
    assert_int_equal(told.nr, before + 1);
    expect_report(MM_HEAP_WRITE_AFTER_FREE, object, 48, 7, true);
    for (unsigned i = 0; i < 200; i++) {
        freed_here(heap, objects[i]);
    }
    assert_int_equal(told.nr, before + 1);
}

static void underflow(struct mm_heap *heap, uint64_t size)
{
    unsigned char *object = made_here(heap, size);
    unsigned before = told.nr;

    object[-1] = 0;
    freed_there(heap, object);
    assert_int_equal(told.nr, before + 1);
    expect_report(MM_HEAP_UNDERFLOW, object, size, -1, false);
    expect_text("underflow of an object, 1 byte in front of it", "");
}

/** Every place of a slab is written in front of, its first too. */
static void underflow_everywhere(struct mm_heap *heap)
{
    unsigned char *objects[120];
    unsigned before = told.nr;
    unsigned nr;

    for (unsigned i = 0; i < 120; i++) {
        objects[i] = made_here(heap, 112);
        objects[i][-1] = 0xff;
    }
    nr = told.nr; /* some were met when the places in front of them were used */
    assert_int_equal(mm_heap_check(heap), MM_ERR_CORRUPTED);
    assert_int_equal(told.nr, before + 120);
    told.nr = nr;
    for (unsigned i = 0; i < 120; i++) {
        freed_there(heap, objects[i]);
    }
    assert_int_equal(told.nr, before + 120);
    for (unsigned i = before; i < told.nr && i < TOLD_MAX; i++) {
        assert_int_equal(told.reports[i].kind, MM_HEAP_UNDERFLOW);
        assert_int_equal(told.reports[i].offset, -1);
    }
}

static void test_writes(void **state)
{
    static const uint64_t sizes[] = {1, 15, 16, 24, 40, 64, 100, 112, 200, 1000, 4096, 8000};

    (void)state;
    for (unsigned frames = 0; frames < 2; frames++) {
        struct mm_heap_config config = config_of(MM_HEAP_HARDENED);
        struct world *world = tiers_world(frames != 0);
        struct mm_heap *heap = &world->heap;

        tiers_start(world, 1, &config);
        for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            told.nr = 0;
            overflow(heap, sizes[i], 1);
            underflow(heap, sizes[i]);
            write_after_free(heap, sizes[i], 0);
            write_after_free(heap, sizes[i], sizes[i] > 1 ? 1 : 0);
        }
        told.nr = 0;
        overflow(heap, 10000, 1); /* a run */
        overflow(heap, 10000, 2000);
        write_after_free(heap, 40, 39);
        write_later(heap);
        underflow_everywhere(heap);
        world_stop(world);
        world_delete(world);
    }
}

/** 40 bytes: through the canary and into what is behind. */
static void test_overflow_of_40(void **state)
{
    static const uint64_t sizes[] = {8, 32, 48, 100, 1000};

    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        struct mm_heap_config config = config_of(MM_HEAP_HARDENED);
        struct world *world = tiers_world(false);
        unsigned char *objects[64];
        unsigned nr = 0;

        tiers_start(world, 1, &config);
        for (unsigned n = 0; n < 64; n++) {
            objects[n] = made_here(&world->heap, sizes[i]);
        }
        /* The last one: what is behind it is nobody's, but for another object's canary or data. */
        memset(objects[63] + sizes[i], 0, 40);
        assert_int_equal(mm_heap_check(&world->heap), MM_ERR_CORRUPTED);
        assert_true(world->log.nr_lines >= 3);
        assert_true(told.nr >= 1);
        assert_int_equal(told.reports[0].object, (uint64_t)(uintptr_t)objects[63]);
        assert_int_equal(told.reports[0].caller, 0);
        told.nr = 0;
        freed_there(&world->heap, objects[63]);
        assert_true(told.nr >= 1);
        nr = told.nr;
        told.nr = 1;
        if (told.reports[0].kind == MM_HEAP_OVERFLOW) {
            expect_report(MM_HEAP_OVERFLOW, objects[63], sizes[i], (int64_t)sizes[i], false);
            expect_text("overflow of an object, 1 byte behind its end", "");
        } else {
            fail_msg("a report of kind %d", told.reports[0].kind);
        }
        told.nr = nr;
        for (unsigned n = 0; n < 63; n++) {
            freed_here(&world->heap, objects[n]);
        }
        mm_heap_reclaim(&world->heap);
        world_stop(world);
        world_delete(world);
    }
}

/** The neighbour is freed first: it is the one that overflowed that is named. */
static void test_neighbour_names_the_culprit(void **state)
{
    struct mm_heap_config config = config_of(MM_HEAP_HARDENED);
    struct world *world = tiers_world(false);
    unsigned char *objects[100];
    unsigned found = 0;

    (void)state;
    tiers_start(world, 1, &config);
    for (unsigned i = 0; i < 100; i++) {
        objects[i] = made_here(&world->heap, 40);
    }
    for (unsigned i = 1; i < 100 && found == 0; i++) {
        if (objects[i] == objects[0] + 64) {
            found = i;
        }
    }
    if (found != 0) {
        memset(objects[0] + 40, 0, 24); /* up to its neighbour */
        freed_there(&world->heap, objects[found]);
        assert_int_equal(told.nr, 1);
        expect_report(MM_HEAP_OVERFLOW, objects[0], 40, 40, false);
        objects[found] = NULL;
    }
    for (unsigned i = 0; i < 100; i++) {
        freed_here(&world->heap, objects[i]);
    }
    world_stop(world);
    world_delete(world);
}

/* --- the quarantine and the order -------------------------------------------------------------- */

static void test_quarantine(void **state)
{
    struct mm_heap_config config = config_of(MM_HEAP_HARDENED);
    struct world *world = tiers_world(false);
    void *objects[9];
    void *others[200];

    (void)state;
    tiers_start(world, 1, &config);
    for (unsigned i = 0; i < 9; i++) {
        objects[i] = made_here(&world->heap, 24);
    }
    for (unsigned i = 0; i < 8; i++) {
        freed_here(&world->heap, objects[i]);
    }
    assert_int_equal(world_stats(world).nr_objects, 1);
    /* None of the eight that wait is handed out, however many are taken. */
    for (unsigned i = 0; i < 200; i++) {
        others[i] = made_here(&world->heap, 24);
        for (unsigned n = 0; n < 9; n++) {
            assert_ptr_not_equal(others[i], objects[n]);
        }
    }
    freed_there(&world->heap, objects[0]); /* a double free, however late */
    expect_report(MM_HEAP_DOUBLE_FREE, objects[0], 24, 0, true);
    freed_here(&world->heap, objects[8]); /* the first leaves, and no other */
    told.nr = 0;
    memset(objects[1], 0, 1);
    assert_int_equal(mm_heap_check(&world->heap), MM_ERR_CORRUPTED);
    assert_int_equal(told.nr, 1);
    assert_int_equal(told.reports[0].kind, MM_HEAP_WRITE_AFTER_FREE);
    told.nr = 0;
    freed_here(&world->heap, others[0]);
    assert_int_equal(told.nr, 1);
    expect_report(MM_HEAP_WRITE_AFTER_FREE, objects[1], 24, 0, true);
    for (unsigned i = 1; i < 200; i++) {
        freed_here(&world->heap, others[i]);
    }
    assert_int_equal(told.nr, 1);
    world_stop(world);
    world_delete(world);
}

/** A heap does not hand its places out in the order of the addresses. */
static void test_order_is_random(void **state)
{
    struct mm_heap_config config = config_of(MM_HEAP_HARDENED);
    struct world *world = tiers_world(false);
    unsigned nr_up = 0;
    char *objects[60];

    (void)state;
    tiers_start(world, 1, &config);
    for (unsigned i = 0; i < 60; i++) {
        objects[i] = made_here(&world->heap, 40);
        nr_up += i > 0 && objects[i] == objects[i - 1] + 64 ? 1 : 0;
    }
    assert_in_range(nr_up, 0, 20);
    told.nr = 0;
    world->log.last[0] = '\0';
    assert_int_equal(mm_heap_destroy(&world->heap), MM_ERR_BUSY);
    assert_string_equal(world->log.last, "heap: things: 60 objects of 64 bytes were not freed");
    for (unsigned i = 0; i < 60; i++) {
        freed_here(&world->heap, objects[i]);
    }
    world_stop(world);
    world_delete(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_frees),
        cmocka_unit_test(test_last_run_of_an_address),
        cmocka_unit_test(test_plain_heap_reports),
        cmocka_unit_test(test_panic_names_callers),
        cmocka_unit_test(test_writes),
        cmocka_unit_test(test_overflow_of_40),
        cmocka_unit_test(test_neighbour_names_the_culprit),
        cmocka_unit_test(test_quarantine),
        cmocka_unit_test(test_order_is_random),
    };

    return cmocka_run_group_tests_name("heap_tiers", tests, NULL, NULL);
}
