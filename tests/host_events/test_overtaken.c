// SPDX-License-Identifier: MIT
/**
 * A call that is overtaken at one given access: what another CPU does there is done by a hook just
 * before it. For points that are too rare to be met by chance, or that only a defect of a caller
 * leads to.
 */
#include "heap_world.h"

#include "core/frame/state.h"
#include "events.h"
#include "frame_rig.h"
#include "heap/heap.h"

#define SIZE  64u
#define NR_OF 64u /* objects of the first slab: two words */

/* Before the access number `nth` of this kind to `at`, `overtake` is called. */
struct point {
    enum t_event_kind kind;
    const void *at;
    unsigned nth;
    void (*overtake)(void *ctx);
    void *ctx;
    unsigned nr; /* that there were */
};

static void before(void *ctx, const struct t_event *event)
{
    struct point *p = ctx;

    if (event->kind == p->kind && event->at == p->at && ++p->nr == p->nth) {
        p->overtake(p->ctx);
    }
}

static const struct t_events_hooks hooks = {.before = before};

/* --- frames ----------------------------------------------------------------------------------- */

static struct rig rig;
static mm_pfn_t elsewhere;

static void free_elsewhere(void *ctx)
{
    (void)ctx;
    mm_frame_free(&rig.frames, elsewhere, 0);
}

/* The last line of a word is taken out of both summaries, and another line of the word gets a frame
 * in between: that is found. */
static void test_line_retired(void **state)
{
    static const uint64_t machine[] = {16 * MIB, 8 * MIB, 0, 0};
    mm_pfn_t pfn[2048];
    mm_pfn_t got;
    struct point p = {.kind = T_EVENT_UPDATE, .nth = 1, .overtake = free_elsewhere};
    mm_status_t status;
    unsigned nr = 0;

    (void)state;
    rig_start(&rig, machine, 1, 0);
    while (mm_frame_alloc(&rig.frames, NULL, &got) == MM_OK) {
        pfn[nr++] = got;
    }
    assert_int_equal(nr, 2048);
    assert_int_equal(rig.frames.groups[MMI_HAS_FREE], 0);
    mm_frame_free(&rig.frames, pfn[0], 0);
    assert_int_equal(rig_alloc(&rig, 0).raw, pfn[0].raw);
    elsewhere = pfn[2047];
    assert_int_not_equal(elsewhere.raw / 512, pfn[0].raw / 512);
    p.at = mmi_top(&rig.frames, MMI_TOP_HAS_FREE, 0);
    t_events_watch(&hooks, &p);
    status = mm_frame_alloc(&rig.frames, NULL, &got);
    t_events_watch(NULL, NULL);
    assert_int_equal(status, MM_OK);
    assert_true(p.nr >= 2); /* taken out, and put in again */
    assert_int_equal(got.raw, elsewhere.raw);
    rig_check(&rig);
    mm_frame_free(&rig.frames, got, 0);
    assert_int_equal(rig_alloc(&rig, 0).raw, elsewhere.raw);
    rig_stop(&rig);
}

/* --- slabs ------------------------------------------------------------------------------------ */

static struct world *world;
static struct mm_cache cache;

/* A cache whose first slab is empty, and kept. */
static struct mmi_slab *kept_slab(void)
{
    struct mm_cache_config config = {.name = "overtaken", .size = SIZE};
    void *objects[NR_OF + 1];
    struct mmi_slab *slab;

    world = world_of_range(1 * MiB);
    world_start(world, 2);
    memset(&cache, 0, sizeof(cache));
    assert_int_equal(mm_cache_init(&cache, &world->pool, &config), MM_OK);
    for (unsigned i = 0; i <= NR_OF; i++) {
        objects[i] = mm_cache_alloc_on(&cache, 0);
    }
    slab = mmi_table_find(&world->pool.table, (uint64_t)(uintptr_t)objects[0]);
    for (unsigned i = 0; i <= NR_OF; i++) {
        mm_cache_free(&cache, objects[i]);
    }
    assert_int_equal(slab->nr_objects, NR_OF);
    assert_int_equal(slab->state, MMI_SLAB_KEPT);
    return slab;
}

static void clear_first_bit(void *ctx)
{
    __atomic_fetch_and((uint64_t *)ctx, ~UINT64_C(1), __ATOMIC_SEQ_CST);
}

/* Through an old hint an object of the second word is claimed when the life of the first has ended:
 * that is put back, and the slab stays. */
static void test_claimed_while_retiring(void **state)
{
    struct mmi_slab *slab = kept_slab();
    uint64_t word = slab->words[0];
    struct point p = {.kind = T_EVENT_UPDATE,
                      .at = &slab->words[0],
                      .nth = 1,
                      .overtake = clear_first_bit,
                      .ctx = &slab->words[1]};

    (void)state;
    t_events_watch(&hooks, &p);
    (void)mm_cache_reclaim(&cache);
    t_events_watch(NULL, NULL);
    assert_int_equal(p.nr, 1); /* ended, and put back by a store */
    assert_true(slab->words[0] == word);
    assert_int_equal(slab->state, MMI_SLAB_LISTED);
    mm_cache_free(&cache, (void *)(uintptr_t)(slab->base + MMI_SLAB_WORD_BITS * SIZE));
    (void)mm_cache_reclaim(&cache);
    assert_int_equal(mm_cache_check(&cache), MM_OK);
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
    world_stop(world);
    world_delete(world);
}

/* What a panic leaves is not taken down, only forgotten. */
static void forget(void)
{
    t_events_watch(NULL, NULL);
    munmap(world->memory, world->memory_len);
    free(world);
}

static void *freed_twice;
static enum mm_heap_misuse expected;

/* The other one who frees it is faster, and the slab goes, or goes and comes back. */
static void free_and_reclaim(void *ctx)
{
    mm_cache_free(&cache, freed_twice);
    assert_true(mm_cache_reclaim(&cache) != 0);
    if (ctx != NULL) {
        *(void **)ctx = mm_cache_alloc_on(&cache, 1);
    }
}

static void count_report(void *ctx, const struct mm_heap_report *report)
{
    assert_string_equal(report->name, "overtaken");
    assert_int_equal(report->address, (uint64_t)(uintptr_t)freed_twice);
    assert_int_equal(report->kind, expected);
    ++*(unsigned *)ctx;
}

/* An object is freed by two at once, and the slab is gone when the second sets its bit, or has the
 * next life and another owner: that is told once, and not a bit is changed. */
static void freed_twice_while(void **again)
{
    unsigned nr_reports = 0;
    struct mm_cache_config config = {
        .name = "overtaken", .size = SIZE, .report = count_report, .report_ctx = &nr_reports};
    struct point p = {.kind = T_EVENT_UPDATE, .nth = 1, .overtake = free_and_reclaim, .ctx = again};
    struct mmi_slab *slab;

    world = world_of_range(1 * MiB);
    world_start(world, 2);
    memset(&cache, 0, sizeof(cache));
    assert_int_equal(mm_cache_init(&cache, &world->pool, &config), MM_OK);
    freed_twice = mm_cache_alloc_on(&cache, 0);
    expected = again != NULL ? MM_HEAP_DOUBLE_FREE : MM_HEAP_WILD_FREE; /* it has no slab */
    slab = mmi_table_find(&world->pool.table, (uint64_t)(uintptr_t)freed_twice);
    p.at = &slab->words[0];
    t_events_watch(&hooks, &p);
    mm_cache_free(&cache, freed_twice);
    t_events_watch(NULL, NULL);
    assert_true(p.nr >= 1);
    assert_int_equal(nr_reports, 1);
    assert_int_equal((uint32_t)slab->words[0], again != NULL ? UINT32_MAX - 1 : 0);
    assert_int_equal(mm_cache_check(&cache), MM_OK);
    if (again != NULL) {
        mm_cache_free(&cache, *again);
    }
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
    world_stop(world);
    world_delete(world);
}

static void test_freed_twice_while_given_back(void **state)
{
    (void)state;
    freed_twice_while(NULL);
}

static void test_freed_twice_while_made_again(void **state)
{
    void *again = NULL;

    (void)state;
    freed_twice_while(&again);
}

static bool count_visit(void *ctx, const struct mm_heap_object *object)
{
    (void)object;
    ++*(unsigned *)ctx;
    return true;
}

static void free_again_and_walk(void *ctx)
{
    assert_int_equal(mm_cache_walk(&cache, count_visit, ctx), MM_OK);
    mm_cache_free(&cache, freed_twice);
}

/* The slab is gone, and gets pages again: the same ones. Until its words have their new life nobody
 * has an object of it; so a second free is told, and a walk visits nothing. */
static void test_freed_twice_while_made(void **state)
{
    unsigned nr_reports = 0;
    unsigned nr_visits = 0;
    struct mm_cache_config config = {
        .name = "overtaken", .size = SIZE, .report = count_report, .report_ctx = &nr_reports};
    struct point p = {
        .kind = T_EVENT_STORE, .nth = 1, .overtake = free_again_and_walk, .ctx = &nr_visits};
    struct mmi_slab *slab;
    void *object;

    (void)state;
    world = world_of_range(1 * MiB);
    world_start(world, 2);
    memset(&cache, 0, sizeof(cache));
    assert_int_equal(mm_cache_init(&cache, &world->pool, &config), MM_OK);
    freed_twice = mm_cache_alloc_on(&cache, 0);
    expected = MM_HEAP_DOUBLE_FREE;
    slab = mmi_table_find(&world->pool.table, (uint64_t)(uintptr_t)freed_twice);
    mm_cache_free(&cache, freed_twice);
    assert_int_equal(mm_cache_reclaim(&cache), 1);
    p.at = &slab->words[0];
    t_events_watch(&hooks, &p);
    object = mm_cache_alloc_on(&cache, 1);
    t_events_watch(NULL, NULL);
    assert_ptr_equal(object, freed_twice);
    assert_int_equal(p.nr, 1);
    assert_int_equal(nr_reports, 1);
    assert_int_equal(nr_visits, 0);
    assert_int_equal(mm_cache_check(&cache), MM_OK);
    mm_cache_free(&cache, object);
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
    world_stop(world);
    world_delete(world);
}

/* --- freeing ---------------------------------------------------------------------------------- */

static struct mmi_slab *heap_slab(void **a, void **b)
{
    world = world_of_range(1 * MiB);
    world_start(world, 2);
    *a = mm_heap_alloc_on(&world->heap, 0, 100);
    *b = mm_heap_alloc_on(&world->heap, 0, 100);
    return mmi_table_find(&world->pool.table, (uint64_t)(uintptr_t)*a);
}

static void next_life(void *ctx)
{
    ((struct mmi_slab *)ctx)->life++;
}

static void life_before(void *ctx)
{
    ((struct mmi_slab *)ctx)->life--;
}

struct two {
    struct point first;
    struct point second;
};

static void before_two(void *ctx, const struct t_event *event)
{
    struct two *two = ctx;

    before(&two->first, event);
    before(&two->second, event);
}

/* The descriptor that is guessed has another life when it is read: the guess is dropped, and the
 * object looked up. */
static void test_guess_of_another_life(void **state)
{
    static const struct t_events_hooks both = {.before = before_two};
    void *a;
    void *b;
    struct mmi_slab *slab = heap_slab(&a, &b);
    struct two two = {{T_EVENT_LOAD, &slab->life, 1, life_before, slab, 0},
                      {T_EVENT_LOAD, &slab->life, 2, next_life, slab, 0}};
    uint64_t word;

    (void)state;
    mm_heap_free_on(&world->heap, 0, a); /* guessed from here on */
    assert_ptr_equal(mm_heap_alloc_on(&world->heap, 0, 100), a);
    word = slab->words[0];
    t_events_watch(&both, &two);
    mm_heap_free_on(&world->heap, 0, a);
    t_events_watch(NULL, NULL);
    assert_int_equal(two.second.nr, 2); /* it was looked up */
    assert_int_not_equal(slab->words[0], word);
    mm_heap_free_on(&world->heap, 0, b);
    world_stop(world);
    world_delete(world);
}

static void free_another(void *ctx)
{
    mm_heap_free_on(&world->heap, 0, ctx);
}

/* Between the two stores by which a CPU remembers what it freed, an interrupt frees an object of
 * another word: what is remembered then is that object, and the first word. */
static void test_guess_of_two_frees(void **state)
{
    enum { NR = 64 };
    void *objects[NR];
    struct point p = {.kind = T_EVENT_STORE, .nth = 1, .overtake = free_another};
    uint64_t word;

    (void)state;
    world = world_of_range(1 * MiB);
    world_start(world, 2);
    for (unsigned i = 0; i < NR; i++) {
        objects[i] = mm_heap_alloc_on(&world->heap, 0, SIZE);
    }
    p.at = &world->heap.hints[MMI_HEAP_LAST_WORD];
    p.ctx = objects[NR / 2 + 5];
    t_events_watch(&hooks, &p);
    mm_heap_free_on(&world->heap, 0, objects[3]);
    t_events_watch(NULL, NULL);
    assert_true(p.nr >= 1);
    assert_int_equal(world->heap.hints[MMI_HEAP_LAST_OBJECT], (uint64_t)(uintptr_t)p.ctx);
    word = world->heap.hints[MMI_HEAP_LAST_WORD];
    assert_ptr_equal(mm_heap_alloc_on(&world->heap, 0, SIZE), p.ctx);
    assert_int_equal(world->heap.hints[MMI_HEAP_LAST_WORD], word);
    mm_heap_free_on(&world->heap, 0, p.ctx);
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    assert_ptr_equal(mm_heap_alloc_on(&world->heap, 0, SIZE), p.ctx);
    for (unsigned i = 0; i < NR; i++) {
        mm_heap_free(&world->heap, i != 3 ? objects[i] : NULL);
    }
    world_stop(world);
    world_delete(world);
}

static void word_of_next_life(void *ctx)
{
    __atomic_fetch_add((uint64_t *)ctx, UINT64_C(1) << 32, __ATOMIC_SEQ_CST);
}

/* The slab was retired and used again since it was found, so the object is another's: its bit stays
 * as it was. */
static void test_freed_in_another_life(void **state)
{
    void *a;
    void *b;
    struct mmi_slab *slab = heap_slab(&a, &b);
    struct point p = {T_EVENT_UPDATE, &slab->words[0], 1, word_of_next_life, &slab->words[0], 0};
    uint32_t bits = (uint32_t)slab->words[0];
    struct t_trap_info trap;

    (void)state;
    t_events_watch(&hooks, &p);
    T_EXPECT_PANIC(mm_heap_free(&world->heap, a), &trap);
    t_events_watch(NULL, NULL);
    assert_string_equal(trap.what, "double free of an object");
    assert_int_equal((uint32_t)slab->words[0], bits);
    forget();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line_retired),
        cmocka_unit_test(test_claimed_while_retiring),
        cmocka_unit_test(test_freed_twice_while_given_back),
        cmocka_unit_test(test_freed_twice_while_made_again),
        cmocka_unit_test(test_freed_twice_while_made),
        cmocka_unit_test(test_guess_of_another_life),
        cmocka_unit_test(test_guess_of_two_frees),
        cmocka_unit_test(test_freed_in_another_life),
    };

    return cmocka_run_group_tests_name("overtaken", tests, NULL, NULL);
}
