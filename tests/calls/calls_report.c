// SPDX-License-Identifier: MIT
/**
 * Calls that look at what heaps and caches hold, and those of reports.
 */
#include "calls.h"

static void on_line(void *ctx, const char *line, size_t len)
{
    (void)ctx;
    (void)line;
    (void)len;
}

static bool on_object(void *ctx, const struct mm_heap_object *object)
{
    (void)ctx;
    (void)object;
    return true;
}

#define LINE(i)  (a[i] != 0 ? on_line : NULL)
#define VISIT(i) (a[i] != 0 ? on_object : NULL)

static int do_report_lines(const uint64_t *a)
{
    return (int)mm_heap_report_lines(T_P(0), LINE(1), NULL);
}

static int do_explain_fault(const uint64_t *a)
{
    return (int)mm_heap_explain_fault(T_P(0), a[1], T_P(2));
}

static int do_heap_walk(const uint64_t *a)
{
    return (int)mm_heap_walk(T_P(0), VISIT(1), NULL);
}

static int do_cache_walk(const uint64_t *a)
{
    return (int)mm_cache_walk(T_P(0), VISIT(1), NULL);
}

static int do_heap_callers(const uint64_t *a)
{
    return (int)mm_heap_callers(T_P(0), a[1], T_P(2), T_W32(3), T_P(4));
}

static int do_cache_callers(const uint64_t *a)
{
    return (int)mm_cache_callers(T_P(0), a[1], T_P(2), T_W32(3), T_P(4));
}

static int do_heap_mark(const uint64_t *a)
{
    return T_NONZERO(mm_heap_mark(T_P(0)));
}

static int do_cache_mark(const uint64_t *a)
{
    return T_NONZERO(mm_cache_mark(T_P(0)));
}

static int do_heap_leaks(const uint64_t *a)
{
    return (int)mm_heap_leaks(T_P(0), a[1], LINE(2), NULL);
}

static int do_cache_leaks(const uint64_t *a)
{
    return (int)mm_cache_leaks(T_P(0), a[1], LINE(2), NULL);
}

static int do_pool_table(const uint64_t *a)
{
    return (int)mm_pool_table(T_P(0), LINE(1), NULL);
}

static unsigned faults(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)t_w.watched_freed;
    v[1] = v[0] + 99;
    v[2] = (uint64_t)(uintptr_t)t_w.watched_object;
    v[3] = (uint64_t)(uintptr_t)t_w.guard_buffer;
    v[4] = v[3] + sizeof(t_w.guard_buffer) - 1;
    v[5] = v[3] + sizeof(t_w.guard_buffer);
    v[6] = 0;
    v[7] = UINT64_MAX;
    return 8;
}

#define WATCHED_HEAP  T_LIVE_GONE(watched_heap, heap)
#define WATCHED_CACHE T_LIVE_GONE(watched_cache, cache)

static const struct t_call report[] = {
    {.name = "mm_heap_report_lines",
     .invoke = do_report_lines,
     .args = {T_PTR(report), T_GIVEN("line")}},
    {.name = "mm_heap_explain_fault",
     .invoke = do_explain_fault,
     .args = {WATCHED_HEAP, T_OF("address", faults), T_OUT}},
    {.name = "mm_heap_walk", .invoke = do_heap_walk, .args = {WATCHED_HEAP, T_GIVEN("visit")}},
    {.name = "mm_cache_walk", .invoke = do_cache_walk, .args = {WATCHED_CACHE, T_GIVEN("visit")}},
    {.name = "mm_heap_callers",
     .invoke = do_heap_callers,
     .args = {WATCHED_HEAP, T_NUM("since", 0), T_OUT, T_UPTO("nr", 4, 4), T_OUT2}},
    {.name = "mm_heap_callers",
     .note = "nothing is recorded",
     .invoke = do_heap_callers,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(heap), T_NUM("since", 0), T_OUT, T_UPTO("nr", 4, 4), T_OUT2}},
    {.name = "mm_cache_callers",
     .invoke = do_cache_callers,
     .args = {WATCHED_CACHE, T_NUM("since", 0), T_OUT, T_UPTO("nr", 4, 4), T_OUT2}},
    {.name = "mm_cache_callers",
     .note = "nothing is recorded",
     .invoke = do_cache_callers,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(cache), T_NUM("since", 0), T_OUT, T_UPTO("nr", 4, 4), T_OUT2}},
    {.name = "mm_heap_mark", .invoke = do_heap_mark, .args = {WATCHED_HEAP}},
    {.name = "mm_cache_mark", .invoke = do_cache_mark, .args = {WATCHED_CACHE}},
    {.name = "mm_heap_leaks",
     .invoke = do_heap_leaks,
     .args = {WATCHED_HEAP, T_NUM("since", 0), T_GIVEN("line")}},
    {.name = "mm_heap_leaks",
     .note = "nothing is recorded",
     .invoke = do_heap_leaks,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(heap), T_NUM("since", 0), T_GIVEN("line")}},
    {.name = "mm_cache_leaks",
     .invoke = do_cache_leaks,
     .args = {WATCHED_CACHE, T_NUM("since", 0), T_GIVEN("line")}},
    {.name = "mm_cache_leaks",
     .note = "nothing is recorded",
     .invoke = do_cache_leaks,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(cache), T_NUM("since", 0), T_GIVEN("line")}},
    {.name = "mm_pool_table",
     .invoke = do_pool_table,
     .args = {T_LIVE_GONE(pool, pool), T_GIVEN("line")}},
};

const struct t_call_list t_calls_report = T_CALL_LIST(report);
