// SPDX-License-Identifier: MIT
/**
 * Calls of heaps that record, are hardened or sample, overtaken at one given access: what another
 * CPU does there is done by a hook just before it.
 */
#include "heap_tiers.h"

#include "events.h"

static struct told told;
static struct world *world;

/* Before the access number `nth` of this kind to `at`, `overtake` is called. */
struct point {
    enum t_event_kind kind;
    const void *at;
    unsigned nth;
    void (*overtake)(void);
    unsigned nr; /* that there were */
};

static void before(void *ctx, const struct t_event *event)
{
    struct point *p = ctx;

    if (event->kind == p->kind && event->at == p->at && ++p->nr == p->nth) {
        p->overtake();
    }
}

static const struct t_events_hooks hooks = {.before = before};

static struct mm_heap *start(struct mm_heap_config config)
{
    config.name = "things";
    config.report = told_report;
    config.report_ctx = &told;
    memset(&told, 0, sizeof(told));
    world = world_of_range(4 * MiB);
    tiers_start(world, 1, &config);
    return &world->heap;
}

static void end(void)
{
    assert_int_equal(world_stats(world).nr_objects, 0);
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    world_stop(world);
    world_delete(world);
}

/* --- the quarantine --------------------------------------------------------------------------- */

static void all_leave(void)
{
    mm_heap_reclaim(&world->heap);
}

/** What an overflow broke of a freed object is being mended when that is to leave the quarantine: who
 * mends it lets it go, and tells what else is broken of it. */
static void test_leaves_while_mended(void **state)
{
    (void)state;
    for (unsigned more = 0; more < 2; more++) {
        struct mm_heap *heap = start((struct mm_heap_config){.tier = MM_HEAP_HARDENED});
        struct point p = {.kind = T_EVENT_STORE, .nth = 1, .overtake = all_leave};
        unsigned char *objects[64];
        unsigned char *first = NULL;
        unsigned char *second = NULL;

        for (unsigned i = 0; i < 64; i++) {
            objects[i] = made_here(heap, 20);
        }
        for (unsigned i = 0; i < 64 * 64 && first == NULL; i++) {
            if (objects[i / 64] == objects[i % 64] + 48) {
                first = objects[i % 64];
                second = objects[i / 64];
            }
        }
        assert_non_null(first);
        freed_here(heap, second);
        memset(first + 20, 1, 28 + 8);
        second[20] = more != 0 ? 1 : (unsigned char)MM_HEAP_POISON;
        p.at = second;
        t_events_watch(&hooks, &p);
        freed_here(heap, first);
        t_events_watch(NULL, NULL);
        assert_true(p.nr >= 1);
        assert_int_equal(told.nr, 1 + more);
        assert_int_equal(told.reports[0].kind, MM_HEAP_OVERFLOW);
        assert_int_equal(told.reports[0].object, (uint64_t)(uintptr_t)first);
        if (more != 0) {
            assert_int_equal(told.reports[1].kind, MM_HEAP_WRITE_AFTER_FREE);
            assert_int_equal(told.reports[1].address, (uint64_t)(uintptr_t)(second + 20));
        }
        assert_int_equal(world_stats(world).nr_objects, 62);
        assert_true(mm_heap_reclaim(heap) == 0);
        for (unsigned i = 0; i < 64; i++) {
            mm_heap_free(heap, objects[i] != first && objects[i] != second ? objects[i] : NULL);
        }
        assert_true(mm_heap_reclaim(heap) != 0); /* the slab goes: every bit of it is set */
        assert_int_equal(told.nr, 1 + more);
        end();
    }
}

/* --- a free that comes second ----------------------------------------------------------------- */

/** What is freed twice, and what the other CPU makes of its place. */
struct second {
    const char *name;
    struct mm_heap_config config;
    uint64_t size;       /* of A, which is freed twice */
    uint64_t size_other; /* of what takes the pages of A; 0: nothing does */
    uint64_t size_b;     /* of B, which takes its descriptor, or its place */
};

static struct {
    const struct second *of;
    unsigned at[2]; /* atomic accesses of the second free before which the other CPU goes on */
    unsigned nr_seen;
    unsigned nr_done;
    void *a;
    void *other;
    void *b;
    bool told_b; /* its free, which was right, was told */
} turn;

static void free_rightly(void *object)
{
    unsigned nr = told.nr;

    mm_heap_free(&world->heap, object);
    turn.told_b = told.nr != nr;
}

/* The right free of A, and B is made of what it was; or B is freed. */
static void other_cpu(void)
{
    struct mm_heap *heap = &world->heap;

    if (turn.nr_done++ != 0) {
        free_rightly(turn.b);
        return;
    }
    freed_here(heap, turn.a);
    mm_heap_reclaim(heap);
    turn.other = turn.of->size_other != 0 ? mm_heap_alloc(heap, turn.of->size_other) : NULL;
    turn.b = made_here(heap, turn.of->size_b);
}

static void before_any(void *ctx, const struct t_event *event)
{
    (void)ctx;
    if (!event->atomic) {
        return;
    }
    while (turn.nr_done < 2 && turn.at[turn.nr_done] == turn.nr_seen) {
        other_cpu();
    }
    turn.nr_seen++;
}

static mm_status_t open_page(void *ctx, void *page)
{
    (void)ctx;
    (void)page;
    return MM_OK;
}

static void close_page(void *ctx, void *page)
{
    (void)ctx;
    (void)page;
}

/* So many atomic accesses does a free make before it has looked at what it finds. */
#define NR_NOT_LOOKED 6u

static const struct mm_heap_guard_ops page_ops = {.open = open_page, .close = close_page};
static _Alignas(4096) unsigned char window[3 * 4096];

/* One try; what is not come to is made after it. Of the two frees of A one is told, and that of B is
 * not, wherever it comes. */
static void second_once(const struct second *of, unsigned first, unsigned next)
{
    static const struct t_events_hooks any = {.before = before_any};
    struct mm_heap *heap = start(of->config);
    void *live = mm_heap_alloc(heap, of->size_other != 0 ? of->size : 8000);

    memset(&turn, 0, sizeof(turn));
    turn.of = of;
    turn.at[0] = first;
    turn.at[1] = next;
    if (of->size_other != 0) {
        mm_heap_free(heap, live); /* the first one's descriptor is another's, but for a run's */
        mm_heap_reclaim(heap);
        live = NULL;
    }
    turn.a = made_here(heap, of->size);
    t_events_watch(&any, NULL);
    freed_there(heap, turn.a);
    t_events_watch(NULL, NULL);
    while (turn.nr_done < 2) {
        other_cpu();
    }
    /* If it lies where A lay, nobody can know before the second one has looked. */
    if (told.nr != 1 || (turn.told_b && (turn.a != turn.b || first >= NR_NOT_LOOKED)) ||
        told.reports[0].address != (uint64_t)(uintptr_t)turn.a) {
        fail_msg("%s, at %u and %u: %u reports%s", of->name, first, next, told.nr,
                 turn.told_b ? ", of a free that was right" : "");
    }
    assert_true(turn.told_b || IN_PLACE(told.reports[0].caller, freed_here) ||
                IN_PLACE(told.reports[0].caller, freed_there));
    mm_heap_free(heap, turn.other);
    mm_heap_free(heap, live);
    assert_int_equal(told.nr, 1);
    end();
}

/** An object is freed by two at once. By the time that the second one goes on its place, or what was
 * known of it, is that of another object: that is left alone, and its free is right. */
static void test_second_free_leaves_others_alone(void **state)
{
    const struct mm_heap_config sampled = {
        .sample_every = 1,
        .guards = {.ops = &page_ops, .base = (uint64_t)(uintptr_t)window, .len = sizeof(window)}};
    const struct second cases[] = {
        {"callers", {.flags = MM_HEAP_CALLERS}, 64, 128, 64},
        {"callers, large", {.flags = MM_HEAP_CALLERS}, 2000, 128, 2000},
        {"hardened", {.tier = MM_HEAP_HARDENED, .quarantine = 2}, 8000, 100, 8000},
        {"a run", {.flags = MM_HEAP_CALLERS}, 20000, 128, 20000},
        {"a hardened run", {.tier = MM_HEAP_HARDENED}, 20000, 100, 20000},
        {"sampled", sampled, 64, 0, 64},
        {"sampled, another size", sampled, 64, 0, 100},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned nr;

        second_once(&cases[i], UINT32_MAX, UINT32_MAX);
        nr = turn.nr_seen;
        assert_true(nr >= 8);
        for (unsigned first = 0; first <= nr; first++) {
            for (unsigned next = first; next == first || next < turn.nr_seen; next++) {
                second_once(&cases[i], first, next);
            }
        }
    }
}

/* --- a report while the place is used again ---------------------------------------------------- */

static PLACE void *made_there(struct mm_heap *heap, uint64_t size)
{
    void *object = mm_heap_alloc(heap, size);

    __asm__ volatile("" : "+r"(object)::"memory");
    return object;
}

/** What is asked about a sample that was freed, and lay at A. */
enum question { ACCESSED, IN_FRONT, FREED_AGAIN, FREED_AS_LARGER };

static struct {
    unsigned at;      /* the atomic access before which the place is used again, and freed */
    unsigned nr_more; /* and before so many that follow */
    unsigned nr_seen;
    uint64_t a;
    void *live; /* A, while it lives */
} again;

static void before_use(void *ctx, const struct t_event *event)
{
    struct mm_heap *heap = &world->heap;

    (void)ctx;
    if (event->atomic && again.nr_seen++ - again.at <= again.nr_more) {
        void *b;

        if (again.live != NULL) {
            freed_here(heap, again.live); /* the free that is right */
            again.live = NULL;
        }
        b = made_there(heap, 100);
        freed_there(heap, b);
    }
}

/* Whether all of it is of A, or all of one of those that came after it. */
static bool is_of_one(const struct mm_heap_report *report)
{
    if (report->object == 0) {
        return report->owner == NULL && report->size == 0 && report->allocated_by == 0 &&
               report->freed_by == 0;
    }
    if (report->size == 64) {
        return report->object == again.a && IN_PLACE(report->allocated_by, made_here) &&
               (report->freed_by == 0 || IN_PLACE(report->freed_by, freed_here));
    }
    return report->size == 100 && report->object != again.a &&
           IN_PLACE(report->allocated_by, made_there) &&
           (report->freed_by == 0 || IN_PLACE(report->freed_by, freed_there));
}

/* Ask once; whether anything was known of an object. */
static bool ask(enum question question, const struct mm_heap_config *config)
{
    static const struct t_events_hooks use = {.before = before_use};
    struct mm_heap *heap = start(*config);
    struct mm_heap_report report = {0};
    mm_status_t status = MM_OK;
    void *a = made_here(heap, 64);
    bool known;

    again.nr_seen = 0;
    again.a = (uint64_t)(uintptr_t)a;
    again.live = question == FREED_AS_LARGER ? a : NULL;
    if (question != FREED_AS_LARGER) {
        freed_here(heap, a);
    }
    t_events_watch(&use, NULL);
    switch (question) {
    case ACCESSED:
        status = mm_heap_explain_fault(heap, again.a, &report);
        break;
    case IN_FRONT:
        status = mm_heap_explain_fault(heap, config->guards.base + 4000, &report);
        break;
    case FREED_AGAIN:
        mm_heap_free(heap, a);
        break;
    case FREED_AS_LARGER:
        mm_heap_free_sized(heap, a, 100, 0);
        break;
    }
    t_events_watch(NULL, NULL);
    if (question == FREED_AGAIN || question == FREED_AS_LARGER) {
        assert_int_equal(told.nr, 1);
        report = told.reports[0];
    }
    known = status == MM_OK && report.object != 0;
    assert_true(status == MM_OK || report.owner == NULL);
    assert_true(is_of_one(&report));
    mm_heap_free(heap, again.live);
    end();
    return known;
}

/** While a report is made of a freed sample its place is used again and freed: the report is of one of
 * the two. Where that goes on and on, it is of none. */
static void test_report_is_of_one_sample(void **state)
{
    const struct mm_heap_config config = {
        .sample_every = 1,
        .guards = {.ops = &page_ops, .base = (uint64_t)(uintptr_t)window, .len = sizeof(window)}};

    (void)state;
    for (enum question question = ACCESSED; question <= FREED_AS_LARGER; question++) {
        unsigned nr_known = 0;
        unsigned nr;

        again.at = UINT32_MAX;
        again.nr_more = 0;
        assert_true(ask(question, &config));
        nr = again.nr_seen;
        assert_true(nr >= 6);
        for (again.at = 0; again.at < nr; again.at++) {
            nr_known += ask(question, &config) ? 1 : 0;
        }
        assert_true(nr_known >= 6);
        again.at = 0;
        again.nr_more = 1000;
        assert_false(ask(question, &config));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leaves_while_mended),
        cmocka_unit_test(test_second_free_leaves_others_alone),
        cmocka_unit_test(test_report_is_of_one_sample),
    };

    return cmocka_run_group_tests_name("overtaken_records", tests, NULL, NULL);
}
