// SPDX-License-Identifier: MIT
/**
 * One interrupt at each instruction of the calls on many objects, of sized frees, and of frees to
 * the large pool: the handler frees what is being freed, takes what is being taken, and gives back
 * what becomes empty.
 */
#define _GNU_SOURCE /* the names of registers in <ucontext.h> */

#include "heap_steps_one.h"

#define LARGE  (16 * KiB)
#define OBJECT 128u /* of the cache: 32 a page, a word */
#define MOST   400u
#define TAKEN  34u /* more than a word */

static struct mm_cache cache;
static struct world *large;

static void start(struct world *world, uint64_t at, void (*act)(void))
{
    struct mm_cache_config config = {.name = "stepped", .size = OBJECT};
    struct mm_heap_config heap = {.large_size = LARGE};

    large = world_of_range(MiB);
    world_start_plain(large, 1);
    heap.large = &large->pool;
    world_start_plain_as(world, 1, &heap);
    memset(&cache, 0, sizeof(cache));
    assert_int_equal(mm_cache_init(&cache, &world->pool, &config), MM_OK);
    begin(world, at, act);
}

/* --- freeing what is being freed -----------------------------------------------------------------
 *
 * One of the two is told, and only one; what else the list holds is nobody's loss.
 */

enum kind { SIZED_64, SIZED_8K, SIZED_RUN, SIZED_LARGE, OF_CACHE, IN_BULK, BULK_IN_BULK, NR_KINDS };

static const uint64_t sizes[] = {64, 8192, 12000, LARGE};

static struct {
    enum kind kind;
    void *objects[3];
    volatile unsigned nr_told;
    volatile unsigned nr_ended; /**< frees that came to their end */
    sigjmp_buf *volatile landing;
} twice;

static void told(void *ctx, const struct mm_panic_info *info)
{
    (void)ctx;
    (void)info;
    twice.nr_told++;
    siglongjmp(*twice.landing, 1);
}

static void free_one(bool by_handler)
{
    struct mm_heap *heap = &step.world->heap;

    switch (twice.kind) {
    case OF_CACHE:
        mm_cache_free(&cache, twice.objects[1]);
        break;
    case IN_BULK: /* a list, and one of its objects */
    case BULK_IN_BULK:
        if (by_handler && twice.kind == IN_BULK) {
            mm_cache_free(&cache, twice.objects[1]);
        } else if (by_handler) {
            mm_cache_free_bulk(&cache, 2, &twice.objects[1]);
        } else {
            mm_cache_free_bulk(&cache, 3, twice.objects);
        }
        break;
    default:
        mm_heap_free_sized(heap, twice.objects[1], sizes[twice.kind], 0);
        break;
    }
    twice.nr_ended++;
}

static void free_it_too(void)
{
    sigjmp_buf *before = twice.landing;
    sigjmp_buf here;

    twice.landing = &here;
    if (sigsetjmp(here, 0) == 0) {
        free_one(true);
        mm_heap_reclaim(&step.world->heap);
        mm_cache_reclaim(&cache);
    }
    twice.landing = before;
}

static void twice_at(uint64_t at, uint64_t how)
{
    static const struct mm_platform_ops ops = {.panic = told};
    struct world *world = world_of_range(MiB);
    sigjmp_buf here;

    memset(&twice, 0, sizeof(twice));
    twice.kind = (enum kind)how;
    start(world, at, free_it_too);
    world->pool.platform = (struct mm_platform){&ops, NULL};
    for (unsigned i = 0; i < 3; i++) {
        twice.objects[i] = twice.kind < OF_CACHE
                               ? mm_heap_alloc_on(&world->heap, 0, sizes[twice.kind])
                               : mm_cache_alloc_on(&cache, 0);
        assert_non_null(twice.objects[i]);
    }
    twice.landing = &here;
    if (sigsetjmp(here, 1) == 0) {
        step_on();
        free_one(false);
    }
    step_off();
    if (step.acted) {
        assert_int_equal(twice.nr_told, 1);
        assert_int_equal(twice.nr_ended, 1);
    }
    /* The interrupted call may not have ended: nothing is taken down. */
    munmap(world->memory, world->memory_len);
    munmap(large->memory, large->memory_len);
    free(world);
    free(large);
}

static void test_free_while_freeing(void **state)
{
    (void)state;
    if (SIGNALS_ARE_LATE) {
        skip();
    }
    for (uint64_t how = 0; how < NR_KINDS; how++) {
        at_every_instruction(twice_at, how);
    }
}

/* --- taking what is being taken, and freed -------------------------------------------------------
 *
 * The call wants a whole word, or gives one back; the handler takes, gives, or reclaims.
 */

static struct {
    void *objects[MOST];
    uint64_t nr;
    uint64_t nr_wanted;
    uint64_t nr_given;
} crowd;

static void act(void)
{
    uint64_t nr = crowd.nr_given < crowd.nr ? crowd.nr_given : crowd.nr;

    if (nr != 0) {
        crowd.nr -= nr;
        mm_cache_free_bulk(&cache, nr, &crowd.objects[crowd.nr]);
        mm_cache_reclaim(&cache);
    }
    nr = mm_cache_alloc_bulk(&cache, 0, crowd.nr_wanted, &crowd.objects[crowd.nr]);
    for (uint64_t i = crowd.nr; i < crowd.nr + nr; i++) {
        memset(crowd.objects[i], 0x11, OBJECT);
    }
    crowd.nr += nr;
}

static void expect_only(void *const *objects, uint64_t nr, unsigned char byte)
{
    for (uint64_t i = 0; i < nr; i++) {
        for (unsigned k = 0; k < OBJECT; k++) {
            assert_int_equal(((unsigned char *)objects[i])[k], byte);
        }
    }
}

/** `how`: whether the call frees or allocates; what the handler takes; what it gives before. */
static void bulk_at(uint64_t at, uint64_t how)
{
    static const uint64_t wanted[] = {1, 40};
    struct world *world = world_of_range(MiB);
    void *mine[MOST];
    volatile uint64_t nr = 0;
    struct mm_cache_stats stats;

    memset(&crowd, 0, sizeof(crowd));
    start(world, at, act);
    crowd.nr_wanted = 50;
    act();
    if (how % 2 == 1) {
        nr = mm_cache_alloc_bulk(&cache, 0, TAKEN, mine);
        assert_int_equal(nr, TAKEN);
        for (uint64_t i = 0; i < nr; i++) {
            memset(mine[i], 0x22, OBJECT);
        }
    }
    crowd.nr_wanted = wanted[how / 2 % 2];
    crowd.nr_given = how / 4 == 0 ? 0 : 40;
    if (how % 2 == 1) {
        STEPPED_ONE(mm_cache_free_bulk(&cache, nr, mine));
        nr = 0;
    } else {
        STEPPED_ONE(nr = mm_cache_alloc_bulk(&cache, 0, TAKEN, mine));
        assert_int_equal(nr, TAKEN);
        for (uint64_t i = 0; i < nr; i++) {
            memset(mine[i], 0x22, OBJECT);
        }
    }
    /* Nobody's object is anybody else's. */
    expect_only(mine, nr, 0x22);
    expect_only(crowd.objects, crowd.nr, 0x11);
    assert_int_equal(mm_cache_check(&cache), MM_OK);
    assert_int_equal(mm_cache_get_stats(&cache, &stats), MM_OK);
    assert_int_equal(stats.nr_objects, nr + crowd.nr);
    mm_cache_free_bulk(&cache, nr, mine);
    mm_cache_free_bulk(&cache, crowd.nr, crowd.objects);
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
    world_stop(world);
    world_stop(large);
    world_delete(world);
    world_delete(large);
}

static void test_bulk_while_in_bulk(void **state)
{
    (void)state;
    if (SIGNALS_ARE_LATE) {
        skip();
    }
    for (uint64_t how = 0; how < 8; how++) {
        at_every_instruction(bulk_at, how);
    }
}

/* --- a list that holds one that is free ----------------------------------------------------------
 *
 * It is told to a report op, and the call goes on. The handler wants an object: it gets none that
 * the list is still to free.
 */

static struct {
    unsigned nr_reports;
    void *object; /**< the handler's */
} wanting;

static void count_report(void *ctx, const struct mm_heap_report *report)
{
    (void)ctx;
    assert_int_equal(report->kind, MM_HEAP_DOUBLE_FREE);
    wanting.nr_reports++;
}

static void want_one(void)
{
    wanting.object = mm_cache_alloc_on(&cache, 0);
}

static void list_at(uint64_t at, uint64_t how)
{
    struct mm_cache_config config = {.name = "stepped", .size = OBJECT, .report = count_report};
    struct world *world = world_of_range(MiB);
    void *objects[32];
    void *list[3];

    (void)how;
    memset(&wanting, 0, sizeof(wanting));
    memset(&cache, 0, sizeof(cache));
    world_start_plain(world, 1);
    assert_int_equal(mm_cache_init(&cache, &world->pool, &config), MM_OK);
    begin(world, at, want_one);
    assert_int_equal(mm_cache_alloc_bulk(&cache, 0, 32, objects), 32); /* all of a slab */
    list[0] = objects[3];
    list[1] = objects[5];
    list[2] = objects[20];
    mm_cache_free(&cache, list[2]);
    STEPPED_ONE(mm_cache_free_bulk(&cache, 3, list));
    if (wanting.nr_reports == 0) {
        /* Its object is the one that the list holds wrongly: nobody can know. */
        assert_ptr_equal(wanting.object, list[2]);
        wanting.object = NULL;
    }
    mm_cache_free(&cache, wanting.object);
    for (unsigned i = 0; i < 32; i++) {
        if (i != 3 && i != 5 && i != 20) {
            mm_cache_free(&cache, objects[i]);
        }
    }
    assert_true(wanting.nr_reports <= 1);
    assert_int_equal(mm_cache_check(&cache), MM_OK);
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
    world_stop(world);
    world_delete(world);
}

static void test_list_with_a_free_one(void **state)
{
    (void)state;
    if (SIGNALS_ARE_LATE) {
        skip();
    }
    at_every_instruction(list_at, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_free_while_freeing),
        cmocka_unit_test(test_bulk_while_in_bulk),
        cmocka_unit_test(test_list_with_a_free_one),
    };

    return cmocka_run_group_tests_name("heap_steps_bulk", tests, NULL, NULL);
}
