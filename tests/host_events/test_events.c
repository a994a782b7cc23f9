// SPDX-License-Identifier: MIT
/**
 * The observation itself: what the compiler calls becomes the right event, and the library, as it
 * is linked here, is observed at every access.
 *
 * The functions that the compiler calls are called here by hand: that shows each kind and size.
 * Calls of the library show that it is the instrumented one that is linked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "events.h"
#include "frame_rig.h"
#include "prng.h"

#include <mm/heap.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_EVENTS 4096

struct record {
    struct t_event events[MAX_EVENTS];
    bool is_after[MAX_EVENTS];
    unsigned nr;
};

static struct record heard;

static void record_before(void *ctx, const struct t_event *event)
{
    struct record *record = ctx;

    if (record->nr < MAX_EVENTS) {
        record->events[record->nr] = *event;
        record->is_after[record->nr++] = false;
    }
}

static void record_after(void *ctx, const struct t_event *event)
{
    struct record *record = ctx;

    if (record->nr < MAX_EVENTS) {
        record->events[record->nr] = *event;
        record->is_after[record->nr++] = true;
    }
}

static const struct t_events_hooks recording = {record_before, record_after};

#define HEAR(statement)                                                                            \
    do {                                                                                           \
        memset(&heard, 0, sizeof(heard));                                                          \
        t_events_watch(&recording, &heard);                                                        \
        statement;                                                                                 \
        t_events_watch(NULL, NULL);                                                                \
    } while (0)

static void expect(unsigned i, bool is_after, enum t_event_kind kind, const void *at, uint32_t size,
                   bool atomic)
{
    assert_in_range(i, 0, (uint64_t)heard.nr - 1);
    assert_int_equal(heard.is_after[i], is_after);
    assert_string_equal(t_event_kind_str(heard.events[i].kind), t_event_kind_str(kind));
    assert_ptr_equal(heard.events[i].at, at);
    assert_int_equal(heard.events[i].size, size);
    assert_int_equal(heard.events[i].atomic, atomic);
}

/* ---- plain accesses ---------------------------------------------------------------------------- */

#define PLAIN(name)                                                                                \
    void __tsan_read##name(void *at);                                                              \
    void __tsan_write##name(void *at);

PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)
void __tsan_unaligned_read2(void *at);
void __tsan_unaligned_read4(void *at);
void __tsan_unaligned_read8(void *at);
void __tsan_unaligned_read16(void *at);
void __tsan_unaligned_write2(void *at);
void __tsan_unaligned_write4(void *at);
void __tsan_unaligned_write8(void *at);
void __tsan_unaligned_write16(void *at);
void __tsan_read_write8(void *at);
void __tsan_read_range(void *at, size_t len);
void __tsan_write_range(void *at, size_t len);
void __tsan_func_entry(void *caller);
void __tsan_func_exit(void);
void __tsan_init(void);

static void test_plain(void **state)
{
    static const struct {
        void (*call)(void *at);
        enum t_event_kind kind;
        uint32_t size;
    } cases[] = {
        {__tsan_read1, T_EVENT_LOAD, 1},
        {__tsan_read2, T_EVENT_LOAD, 2},
        {__tsan_read4, T_EVENT_LOAD, 4},
        {__tsan_read8, T_EVENT_LOAD, 8},
        {__tsan_read16, T_EVENT_LOAD, 16},
        {__tsan_write1, T_EVENT_STORE, 1},
        {__tsan_write2, T_EVENT_STORE, 2},
        {__tsan_write4, T_EVENT_STORE, 4},
        {__tsan_write8, T_EVENT_STORE, 8},
        {__tsan_write16, T_EVENT_STORE, 16},
        {__tsan_unaligned_read2, T_EVENT_LOAD, 2},
        {__tsan_unaligned_read4, T_EVENT_LOAD, 4},
        {__tsan_unaligned_read8, T_EVENT_LOAD, 8},
        {__tsan_unaligned_read16, T_EVENT_LOAD, 16},
        {__tsan_unaligned_write2, T_EVENT_STORE, 2},
        {__tsan_unaligned_write4, T_EVENT_STORE, 4},
        {__tsan_unaligned_write8, T_EVENT_STORE, 8},
        {__tsan_unaligned_write16, T_EVENT_STORE, 16},
    };
    uint64_t place[2] = {0, 0};

    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        HEAR(cases[i].call(place));
        assert_int_equal(heard.nr, 1);
        expect(0, false, cases[i].kind, place, cases[i].size, false);
        assert_int_equal(heard.events[0].order, __ATOMIC_RELAXED);
    }
    HEAR(__tsan_read_write8(place));
    assert_int_equal(heard.nr, 2);
    expect(0, false, T_EVENT_LOAD, place, 8, false);
    expect(1, false, T_EVENT_STORE, place, 8, false);
    HEAR(__tsan_read_range(place, 11));
    expect(0, false, T_EVENT_LOAD, place, 11, false);
    HEAR(__tsan_write_range(place, 13));
    expect(0, false, T_EVENT_STORE, place, 13, false);
    HEAR((__tsan_func_entry(place), __tsan_func_exit(), __tsan_init()));
    assert_int_equal(heard.nr, 0);
}

void *t_events_memcpy(void *restrict to, const void *restrict from, size_t len);
void *t_events_memmove(void *to, const void *from, size_t len);
void *t_events_memset(void *to, int byte, size_t len);
int t_events_memcmp(const void *a, const void *b, size_t len);

static void test_host_functions(void **state)
{
    char a[8] = "abcdefg";
    char b[8] = "1234567";

    (void)state;
    HEAR(assert_ptr_equal(t_events_memcpy(a, b, 3), a));
    assert_int_equal(heard.nr, 2);
    expect(0, false, T_EVENT_LOAD, b, 3, false);
    expect(1, false, T_EVENT_STORE, a, 3, false);
    assert_string_equal(a, "123defg");
    HEAR(assert_ptr_equal(t_events_memmove(a + 1, a, 6), a + 1));
    assert_int_equal(heard.nr, 2);
    expect(0, false, T_EVENT_LOAD, a, 6, false);
    expect(1, false, T_EVENT_STORE, a + 1, 6, false);
    assert_string_equal(a, "1123def");
    HEAR(assert_ptr_equal(t_events_memset(b, 'x', 4), b));
    assert_int_equal(heard.nr, 1);
    expect(0, false, T_EVENT_STORE, b, 4, false);
    assert_string_equal(b, "xxxx567");
    HEAR(assert_true(t_events_memcmp(a, b, 5) < 0));
    assert_int_equal(heard.nr, 2);
    expect(0, false, T_EVENT_LOAD, a, 5, false);
    expect(1, false, T_EVENT_LOAD, b, 5, false);
    HEAR(t_events_memset(b, 0, 0)); /* no byte, no access */
    assert_int_equal(heard.nr, 0);
}

/* ---- atomic accesses --------------------------------------------------------------------------- */

static void expect_values(unsigned i, uint64_t before, uint64_t after, int order)
{
    assert_int_equal(heard.events[i].before, before);
    assert_int_equal(heard.events[i].after, after);
    assert_int_equal(heard.events[i].order, order);
}

#define DECLARE(bits, type)                                                                        \
    type __tsan_atomic##bits##_load(const volatile type *at, int order);                           \
    void __tsan_atomic##bits##_store(volatile type *at, type v, int order);                        \
    type __tsan_atomic##bits##_exchange(volatile type *at, type v, int order);                     \
    type __tsan_atomic##bits##_fetch_add(volatile type *at, type v, int order);                    \
    type __tsan_atomic##bits##_fetch_sub(volatile type *at, type v, int order);                    \
    type __tsan_atomic##bits##_fetch_and(volatile type *at, type v, int order);                    \
    type __tsan_atomic##bits##_fetch_or(volatile type *at, type v, int order);                     \
    type __tsan_atomic##bits##_fetch_xor(volatile type *at, type v, int order);                    \
    type __tsan_atomic##bits##_fetch_nand(volatile type *at, type v, int order);                   \
    int __tsan_atomic##bits##_compare_exchange_strong(volatile type *at, type *expected, type v,   \
                                                      int order, int failed);                      \
    int __tsan_atomic##bits##_compare_exchange_weak(volatile type *at, type *expected, type v,     \
                                                    int order, int failed);                        \
    type __tsan_atomic##bits##_compare_exchange_val(volatile type *at, type expected, type v,      \
                                                    int order, int failed);

DECLARE(8, uint8_t)
DECLARE(16, uint16_t)
DECLARE(32, uint32_t)
DECLARE(64, uint64_t)
void __tsan_atomic_thread_fence(int order);
void __tsan_atomic_signal_fence(int order);

/* Each is heard before, with no values, and after, with both. */
#define EXPECT_ATOMIC(call, kind_before, kind_after, old, now)                                     \
    do {                                                                                           \
        HEAR(call);                                                                                \
        assert_int_equal(heard.nr, 2);                                                             \
        expect(0, false, kind_before, &place, sizeof(place), true);                                \
        expect(1, true, kind_after, &place, sizeof(place), true);                                  \
        assert_int_equal(place, now);                                                              \
        expect_values(1, old, now, order);                                                         \
    } while (0)

#define EXPECT_UPDATE(bits, type, name, from, v, now)                                              \
    do {                                                                                           \
        order = __ATOMIC_ACQ_REL;                                                                  \
        place = (type)(from);                                                                      \
        EXPECT_ATOMIC(got = __tsan_atomic##bits##_##name(&place, (type)(v), order),                \
                      T_EVENT_UPDATE, T_EVENT_UPDATE, (type)(from), (type)(now));                  \
        assert_int_equal(got, (type)(from));                                                       \
    } while (0)

#define EXPECT_ALL(bits, type)                                                                     \
    static void test_atomic##bits(void **state)                                                    \
    {                                                                                              \
        const type x = (type)UINT64_C(0xf0e1d2c3b4a59687);                                         \
        const type y = (type)UINT64_C(0x0123456789abcdef);                                         \
        type place = x;                                                                            \
        type got = 0;                                                                              \
        type expected = x;                                                                         \
        int done = 0;                                                                              \
        int order = __ATOMIC_ACQUIRE;                                                              \
                                                                                                   \
        (void)state;                                                                               \
        EXPECT_ATOMIC(got = __tsan_atomic##bits##_load(&place, order), T_EVENT_LOAD, T_EVENT_LOAD, \
                      x, x);                                                                       \
        assert_int_equal(got, x);                                                                  \
        order = __ATOMIC_RELEASE;                                                                  \
        EXPECT_ATOMIC(__tsan_atomic##bits##_store(&place, y, order), T_EVENT_STORE, T_EVENT_STORE, \
                      x, y);                                                                       \
        EXPECT_UPDATE(bits, type, exchange, x, y, y);                                              \
        EXPECT_UPDATE(bits, type, fetch_add, x, y, x + y);                                         \
        EXPECT_UPDATE(bits, type, fetch_sub, x, y, x - y);                                         \
        EXPECT_UPDATE(bits, type, fetch_and, x, y, x &y);                                          \
        EXPECT_UPDATE(bits, type, fetch_or, x, y, x | y);                                          \
        EXPECT_UPDATE(bits, type, fetch_xor, x, y, x ^ y);                                         \
        EXPECT_UPDATE(bits, type, fetch_nand, x, y, ~(x & y));                                     \
        place = x;                                                                                 \
        order = __ATOMIC_SEQ_CST;                                                                  \
        EXPECT_ATOMIC(done = __tsan_atomic##bits##_compare_exchange_strong(                        \
                          &place, &expected, y, order, __ATOMIC_ACQUIRE),                          \
                      T_EVENT_UPDATE, T_EVENT_UPDATE, x, y);                                       \
        assert_true(done);                                                                         \
        order = __ATOMIC_ACQUIRE;                                                                  \
        EXPECT_ATOMIC(done = __tsan_atomic##bits##_compare_exchange_weak(&place, &expected, x,     \
                                                                         __ATOMIC_SEQ_CST, order), \
                      T_EVENT_UPDATE, T_EVENT_FAILED_CAS, y, y);                                   \
        assert_false(done);                                                                        \
        assert_int_equal(expected, y);                                                             \
        order = __ATOMIC_RELEASE;                                                                  \
        EXPECT_ATOMIC(got = __tsan_atomic##bits##_compare_exchange_val(&place, y, x, order,        \
                                                                       __ATOMIC_RELAXED),          \
                      T_EVENT_UPDATE, T_EVENT_UPDATE, y, x);                                       \
        assert_int_equal(got, y);                                                                  \
        order = __ATOMIC_RELAXED;                                                                  \
        EXPECT_ATOMIC(got = __tsan_atomic##bits##_compare_exchange_val(&place, y, y,               \
                                                                       __ATOMIC_SEQ_CST, order),   \
                      T_EVENT_UPDATE, T_EVENT_FAILED_CAS, x, x);                                   \
        assert_int_equal(got, x);                                                                  \
    }

EXPECT_ALL(8, uint8_t)
EXPECT_ALL(16, uint16_t)
EXPECT_ALL(32, uint32_t)
EXPECT_ALL(64, uint64_t)

static void test_fence(void **state)
{
    (void)state;
    HEAR(__tsan_atomic_thread_fence(__ATOMIC_SEQ_CST));
    assert_int_equal(heard.nr, 2);
    expect(0, false, T_EVENT_FENCE, NULL, 0, true);
    expect(1, true, T_EVENT_FENCE, NULL, 0, true);
    assert_int_equal(heard.events[0].order, __ATOMIC_SEQ_CST);
    HEAR(__tsan_atomic_signal_fence(__ATOMIC_SEQ_CST));
    assert_int_equal(heard.nr, 0);
}

/* ---- hooks ------------------------------------------------------------------------------------- */

static void change_before(void *ctx, const struct t_event *event)
{
    *(uint64_t *)event->at = *(uint64_t *)ctx;
    __tsan_read8(event->at); /* hooks are quiet: no event of an event */
}

static const struct t_events_hooks changing = {change_before, NULL};

/* What the hook writes is there before the access: the update finds it, and the cas misses. */
static void test_hook_changes_memory(void **state)
{
    uint64_t place = 1;
    uint64_t expected = 1;
    uint64_t from_outside = 40;

    (void)state;
    t_events_watch(&changing, &from_outside);
    assert_int_equal(__tsan_atomic64_fetch_add(&place, 2, __ATOMIC_RELAXED), 40);
    assert_int_equal(place, 42);
    place = 1;
    assert_false(__tsan_atomic64_compare_exchange_strong(&place, &expected, 2, __ATOMIC_RELAXED,
                                                         __ATOMIC_RELAXED));
    assert_int_equal(expected, 40);
    t_events_watch(NULL, NULL);
    assert_int_equal(place, 40);
}

static void test_filter_and_quiet(void **state)
{
    uint64_t words[4] = {0};

    (void)state;
    memset(&heard, 0, sizeof(heard));
    t_events_watch(&recording, &heard);
    t_events_only((uintptr_t)&words[1], 16);
    __tsan_write8(&words[0]);
    __tsan_write8(&words[3]);
    assert_int_equal(heard.nr, 0);
    __tsan_write8(&words[1]);
    __tsan_write8((char *)&words[0] + 1); /* its last byte is in */
    __tsan_write1((char *)&words[2] + 7);
    __tsan_write_range(words, sizeof(words));
    assert_int_equal(heard.nr, 4);
    (void)__tsan_atomic64_load(&words[0], __ATOMIC_RELAXED);
    assert_int_equal(heard.nr, 4);
    __tsan_atomic_thread_fence(__ATOMIC_SEQ_CST); /* concerns every address */
    assert_int_equal(heard.nr, 6);
    assert_false(t_events_quiet(true));
    __tsan_write8(&words[1]);
    assert_int_equal(heard.nr, 6);
    assert_true(t_events_quiet(false));
    __tsan_write8(&words[1]);
    assert_int_equal(heard.nr, 7);
    t_events_watch(&recording, &heard); /* drops the filter */
    __tsan_write8(&words[0]);
    assert_int_equal(heard.nr, 8);
    t_events_watch(NULL, NULL);
    __tsan_write8(&words[0]);
    assert_int_equal(heard.nr, 8);
}

/* ---- the library ------------------------------------------------------------------------------- */

static void test_frames_are_observed(void **state)
{
    struct rig *rig = malloc(sizeof(*rig));
    unsigned counts[2] = {0, 0};
    unsigned nr_updates = 0;
    char where[200];
    bool found = false;

    (void)state;
    assert_non_null(rig);
    rig_start(rig, (const uint64_t[]){2 * MIB, 8 * MIB, 0, 0}, 2, 0);
    for (unsigned round = 0; round < 2; round++) {
        mm_pfn_t first = rig_alloc(rig, 0); /* the CPU's line is reserved from here on */
        mm_pfn_t pfn = {0};

        HEAR(assert_int_equal(mm_frame_alloc_on(&rig->frames, 0, &pfn), MM_OK));
        counts[round] = heard.nr;
        mm_frame_free(&rig->frames, pfn, 0);
        mm_frame_free(&rig->frames, first, 0);
    }
    assert_in_range(counts[0], 1, MAX_EVENTS - 1);
    assert_int_equal(counts[0], counts[1]); /* the same call, the same events */
    for (unsigned i = 0; i < heard.nr; i++) {
        const struct t_event *event = &heard.events[i];

        nr_updates += event->kind == T_EVENT_UPDATE && heard.is_after[i] ? 1 : 0;
        if (event->kind == T_EVENT_UPDATE && heard.is_after[i] && !found) {
            /* The allocation is one bit cleared in place, by an instruction of the room. */
            assert_int_equal(__builtin_popcountll(event->before & ~event->after), 1);
            assert_int_equal(event->after & ~event->before, 0);
            (void)t_event_where(event->pc, where, sizeof(where));
            assert_non_null(strstr(where, "src/core/"));
            found = true;
        }
    }
    assert_int_equal(nr_updates, 1);
    rig_stop(rig);
    free(rig);
}

/* Zeroing by memset is a store over the whole of what is zeroed. */
static void test_memset_of_the_library_is_observed(void **state)
{
    struct mm_page_range range;
    struct mm_pool_config config;
    struct mm_pool *pool = calloc(1, sizeof(*pool));
    struct mm_heap *heap = calloc(1, sizeof(*heap));
    void *memory = aligned_alloc(4096, MIB);
    void *object;
    bool zeroed = false;

    (void)state;
    assert_non_null(memory);
    memset(&config, 0, sizeof(config));
    assert_int_equal(mm_page_range_init(&range, memory, MIB), MM_OK);
    config.source = mm_page_source_range(&range);
    config.platform = t_platform();
    config.nr_cpus = 1;
    assert_int_equal(mm_pool_init(pool, &config), MM_OK);
    assert_int_equal(mm_heap_init(heap, pool, NULL), MM_OK);
    HEAR(object = mm_heap_alloc_zeroed(heap, 700));
    assert_non_null(object);
    for (unsigned i = 0; i < heard.nr; i++) {
        const struct t_event *event = &heard.events[i];

        zeroed = zeroed || (event->kind == T_EVENT_STORE && event->at == object &&
                            event->size >= 700 && !event->atomic);
    }
    assert_true(zeroed);
    mm_heap_free(heap, object);
    assert_int_equal(mm_heap_destroy(heap), MM_OK);
    assert_int_equal(mm_pool_destroy(pool), MM_OK);
    assert_int_equal(mm_page_range_destroy(&range), MM_OK);
    free(memory);
    free(heap);
    free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_host_functions),
        cmocka_unit_test(test_atomic8),
        cmocka_unit_test(test_atomic16),
        cmocka_unit_test(test_atomic32),
        cmocka_unit_test(test_atomic64),
        cmocka_unit_test(test_fence),
        cmocka_unit_test(test_hook_changes_memory),
        cmocka_unit_test(test_filter_and_quiet),
        cmocka_unit_test(test_frames_are_observed),
        cmocka_unit_test(test_memset_of_the_library_is_observed),
    };

    return cmocka_run_group_tests_name("events", tests, NULL, NULL);
}
