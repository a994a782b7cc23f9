// SPDX-License-Identifier: MIT
/**
 * What the instrumented library calls: the interface of the compilers to the run time of their
 * thread sanitizer, as gcc's tsan.cc and LLVM's ThreadSanitizer pass use it.
 *
 * Each atomic function is a template by size: the hook before, the access itself, the hook after.
 */
#define _GNU_SOURCE
#include "events.h"

#include <link.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static _Thread_local const struct t_events_hooks *watching;
static _Thread_local void *watching_ctx;
static _Thread_local bool quiet_now;
static _Thread_local uint64_t only_start;
static _Thread_local uint64_t only_len;

void t_events_watch(const struct t_events_hooks *hooks, void *ctx)
{
    watching = hooks;
    watching_ctx = ctx;
    quiet_now = false;
    only_start = 0;
    only_len = 0;
}

void t_events_only(uint64_t start, uint64_t len)
{
    only_start = start;
    only_len = len;
}

bool t_events_quiet(bool quiet)
{
    bool was = quiet_now;

    quiet_now = quiet;
    return was;
}

const char *t_event_kind_str(enum t_event_kind kind)
{
    static const char *const names[] = {"load", "store", "update", "failed cas", "fence"};

    return (unsigned)kind < sizeof(names) / sizeof(names[0]) ? names[kind] : "?";
}

/* A position-independent program is linked at 0: addr2line wants the distance from its base. */
static int main_program(struct dl_phdr_info *info, size_t size, void *base)
{
    (void)size;
    *(uint64_t *)base = info->dlpi_addr;
    return 1; /* the first one is the program itself */
}

const char *t_event_where(const void *pc, char *text, unsigned long size)
{
    uint64_t base = 0;
    char command[128];
    char function[128] = "";
    char line[256] = "";
    const char *file = line;
    FILE *pipe;

    (void)dl_iterate_phdr(main_program, &base);
    base = (uint64_t)(uintptr_t)pc - 1 - base;
    (void)snprintf(command, sizeof(command), "addr2line -f -e /proc/%d/exe 0x%llx 2>&1", getpid(),
                   (unsigned long long)base);
    pipe = popen(command, "r");
    if (pipe != NULL) {
        if (fgets(function, sizeof(function), pipe) == NULL ||
            fgets(line, sizeof(line), pipe) == NULL) {
            line[0] = '\0';
        }
        (void)pclose(pipe);
    }
    function[strcspn(function, "\n")] = '\0';
    line[strcspn(line, " \n")] = '\0';
    if (line[0] == '\0' || line[0] == '?') {
        (void)snprintf(text, size, "+0x%llx", (unsigned long long)base);
        return text;
    }
    if (strstr(line, "src/") != NULL) {
        file = strstr(line, "src/");
    }
    (void)snprintf(text, size, "%s at %s", function, file);
    return text;
}

static inline bool is_event(const void *at, uint64_t len)
{
    uint64_t start = (uint64_t)(uintptr_t)at;

    return watching != NULL && !quiet_now &&
           (only_len == 0 || at == NULL ||
            (start < only_start + only_len && only_start < start + len));
}

static void tell(void (*hook)(void *, const struct t_event *), const struct t_event *event)
{
    if (hook != NULL) {
        quiet_now = true;
        hook(watching_ctx, event);
        quiet_now = false;
    }
}

static void plain(enum t_event_kind kind, const void *at, uint64_t len, const void *pc)
{
    if (is_event(at, len)) {
        const struct t_event event = {.kind = kind,
                                      .at = (void *)(uintptr_t)at,
                                      .size = (uint32_t)len,
                                      .order = __ATOMIC_RELAXED,
                                      .pc = pc};

        tell(watching->before, &event);
    }
}

/* ---- plain accesses ---------------------------------------------------------------------------- */

#define CALLER __builtin_return_address(0)

#define PLAIN(name, bytes)                                                                         \
    void __tsan_read##name(void *at);                                                              \
    void __tsan_write##name(void *at);                                                             \
    void __tsan_read_write##name(void *at);                                                        \
    void __tsan_read##name(void *at)                                                               \
    {                                                                                              \
        plain(T_EVENT_LOAD, at, (bytes), CALLER);                                                  \
    }                                                                                              \
    void __tsan_write##name(void *at)                                                              \
    {                                                                                              \
        plain(T_EVENT_STORE, at, (bytes), CALLER);                                                 \
    }                                                                                              \
    void __tsan_read_write##name(void *at)                                                         \
    {                                                                                              \
        plain(T_EVENT_LOAD, at, (bytes), CALLER);                                                  \
        plain(T_EVENT_STORE, at, (bytes), CALLER);                                                 \
    }

PLAIN(1, 1)
PLAIN(2, 2)
PLAIN(4, 4)
PLAIN(8, 8)
PLAIN(16, 16)

#define UNALIGNED(bytes)                                                                           \
    void __tsan_unaligned_read##bytes(void *at);                                                   \
    void __tsan_unaligned_write##bytes(void *at);                                                  \
    void __tsan_unaligned_read##bytes(void *at)                                                    \
    {                                                                                              \
        plain(T_EVENT_LOAD, at, (bytes), CALLER);                                                  \
    }                                                                                              \
    void __tsan_unaligned_write##bytes(void *at)                                                   \
    {                                                                                              \
        plain(T_EVENT_STORE, at, (bytes), CALLER);                                                 \
    }

UNALIGNED(2)
UNALIGNED(4)
UNALIGNED(8)
UNALIGNED(16)

void __tsan_read_range(void *at, size_t len);
void __tsan_write_range(void *at, size_t len);
void __tsan_func_entry(void *caller);
void __tsan_func_exit(void);
void __tsan_init(void);

void __tsan_read_range(void *at, size_t len)
{
    plain(T_EVENT_LOAD, at, len, CALLER);
}

void __tsan_write_range(void *at, size_t len)
{
    plain(T_EVENT_STORE, at, len, CALLER);
}

void __tsan_func_entry(void *caller)
{
    (void)caller;
}

void __tsan_func_exit(void)
{
}

void __tsan_init(void)
{
}

/* ---- calls of the host's functions: the build gives the library's calls these names ------------ */

void *t_events_memcpy(void *restrict to, const void *restrict from, size_t len);
void *t_events_memmove(void *to, const void *from, size_t len);
void *t_events_memset(void *to, int byte, size_t len);
int t_events_memcmp(const void *a, const void *b, size_t len);

static void span(enum t_event_kind kind, const void *at, size_t len, const void *pc)
{
    if (len != 0) {
        plain(kind, at, len, pc);
    }
}

void *t_events_memcpy(void *restrict to, const void *restrict from, size_t len)
{
    span(T_EVENT_LOAD, from, len, CALLER);
    span(T_EVENT_STORE, to, len, CALLER);
    return memcpy(to, from, len);
}

void *t_events_memmove(void *to, const void *from, size_t len)
{
    span(T_EVENT_LOAD, from, len, CALLER);
    span(T_EVENT_STORE, to, len, CALLER);
    return memmove(to, from, len);
}

void *t_events_memset(void *to, int byte, size_t len)
{
    span(T_EVENT_STORE, to, len, CALLER);
    return memset(to, byte, len);
}

int t_events_memcmp(const void *a, const void *b, size_t len)
{
    span(T_EVENT_LOAD, a, len, CALLER);
    span(T_EVENT_LOAD, b, len, CALLER);
    return memcmp(a, b, len);
}

/* Clang from 16 on calls these instead. */
void *__tsan_memcpy(void *restrict to, const void *restrict from, size_t len)
    __attribute__((alias("t_events_memcpy")));
void *__tsan_memmove(void *to, const void *from, size_t len)
    __attribute__((alias("t_events_memmove")));
void *__tsan_memset(void *to, int byte, size_t len) __attribute__((alias("t_events_memset")));

/* ---- atomic accesses --------------------------------------------------------------------------- */

/* Whether it is an event is asked again after the hook: that may have stopped the watching. */
static void begin(struct t_event *event)
{
    if (is_event(event->at, event->size)) {
        tell(watching->before, event);
    }
}

static void end(struct t_event *event)
{
    if (is_event(event->at, event->size)) {
        tell(watching->after, event);
    }
}

#define EVENT(kind_, bytes, order_)                                                                \
    struct t_event event = {.kind = (kind_),                                                       \
                            .at = (void *)(uintptr_t)at,                                           \
                            .size = (bytes),                                                       \
                            .atomic = true,                                                        \
                            .order = (order_),                                                     \
                            .pc = CALLER}

/* The order asked for is told; what is done is sequentially consistent, so that the hooks of all
 * threads agree on one history. `now` is what is there after it, as a function of old and v. */
#define UPDATE(bits, type, name, builtin, now)                                                     \
    type __tsan_atomic##bits##_##name(volatile type *at, type v, int order);                       \
    type __tsan_atomic##bits##_##name(volatile type *at, type v, int order)                        \
    {                                                                                              \
        EVENT(T_EVENT_UPDATE, (bits) / 8, order);                                                  \
        begin(&event);                                                                             \
        type old = builtin(at, v, __ATOMIC_SEQ_CST);                                               \
        event.before = old;                                                                        \
        event.after = (type)(now);                                                                 \
        end(&event);                                                                               \
        return old;                                                                                \
    }

#define CAS(bits, type, name)                                                                      \
    int __tsan_atomic##bits##_compare_exchange_##name(volatile type *at, type *expected, type v,   \
                                                      int order, int failed);                      \
    int __tsan_atomic##bits##_compare_exchange_##name(volatile type *at, type *expected, type v,   \
                                                      int order, int failed)                       \
    {                                                                                              \
        EVENT(T_EVENT_UPDATE, (bits) / 8, order);                                                  \
        type old = *expected;                                                                      \
        begin(&event);                                                                             \
        bool done =                                                                                \
            __atomic_compare_exchange_n(at, &old, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);   \
        event.before = old;                                                                        \
        event.after = done ? v : old;                                                              \
        if (!done) {                                                                               \
            *expected = old;                                                                       \
            event.kind = T_EVENT_FAILED_CAS;                                                       \
            event.order = failed;                                                                  \
        }                                                                                          \
        end(&event);                                                                               \
        return done;                                                                               \
    }

/* What LLVM calls: the value found, not whether it was the one expected. */
#define CAS_VALUE(bits, type)                                                                      \
    type __tsan_atomic##bits##_compare_exchange_val(volatile type *at, type expected, type v,      \
                                                    int order, int failed);                        \
    type __tsan_atomic##bits##_compare_exchange_val(volatile type *at, type expected, type v,      \
                                                    int order, int failed)                         \
    {                                                                                              \
        EVENT(T_EVENT_UPDATE, (bits) / 8, order);                                                  \
        type old = expected;                                                                       \
        begin(&event);                                                                             \
        bool done =                                                                                \
            __atomic_compare_exchange_n(at, &old, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);   \
        event.before = old;                                                                        \
        event.after = done ? v : old;                                                              \
        event.kind = done ? T_EVENT_UPDATE : T_EVENT_FAILED_CAS;                                   \
        event.order = done ? order : failed;                                                       \
        end(&event);                                                                               \
        return old;                                                                                \
    }

#define LOAD_STORE(bits, type)                                                                     \
    type __tsan_atomic##bits##_load(const volatile type *at, int order);                           \
    type __tsan_atomic##bits##_load(const volatile type *at, int order)                            \
    {                                                                                              \
        EVENT(T_EVENT_LOAD, (bits) / 8, order);                                                    \
        begin(&event);                                                                             \
        type old = __atomic_load_n(at, __ATOMIC_SEQ_CST);                                          \
        event.before = old;                                                                        \
        event.after = old;                                                                         \
        end(&event);                                                                               \
        return old;                                                                                \
    }                                                                                              \
    void __tsan_atomic##bits##_store(volatile type *at, type v, int order);                        \
    void __tsan_atomic##bits##_store(volatile type *at, type v, int order)                         \
    {                                                                                              \
        EVENT(T_EVENT_STORE, (bits) / 8, order);                                                   \
        begin(&event);                                                                             \
        event.before = __atomic_exchange_n(at, v, __ATOMIC_SEQ_CST);                               \
        event.after = v;                                                                           \
        end(&event);                                                                               \
    }

#define ATOMICS(bits, type)                                                                        \
    LOAD_STORE(bits, type)                                                                         \
    UPDATE(bits, type, exchange, __atomic_exchange_n, v)                                           \
    UPDATE(bits, type, fetch_add, __atomic_fetch_add, old + v)                                     \
    UPDATE(bits, type, fetch_sub, __atomic_fetch_sub, old - v)                                     \
    UPDATE(bits, type, fetch_and, __atomic_fetch_and, old &v)                                      \
    UPDATE(bits, type, fetch_or, __atomic_fetch_or, old | v)                                       \
    UPDATE(bits, type, fetch_xor, __atomic_fetch_xor, old ^ v)                                     \
    UPDATE(bits, type, fetch_nand, __atomic_fetch_nand, ~(old & v))                                \
    CAS(bits, type, strong)                                                                        \
    CAS(bits, type, weak)                                                                          \
    CAS_VALUE(bits, type)

ATOMICS(8, uint8_t)
ATOMICS(16, uint16_t)
ATOMICS(32, uint32_t)
ATOMICS(64, uint64_t)

#ifdef __x86_64__

/* Two words at once: compare-and-exchange alone, and of what was there and is there the lower word is
 * told, or the upper one if the lower is the same. */
__extension__ typedef unsigned __int128 t_two_words;

int __tsan_atomic128_compare_exchange_strong(volatile t_two_words *at, t_two_words *expected,
                                             t_two_words v, int order, int failed);
t_two_words __tsan_atomic128_compare_exchange_val(volatile t_two_words *at, t_two_words expected,
                                                  t_two_words v, int order, int failed);

/* The builtin that is no call, as in the library (Intel SDM, volume 2A, CMPXCHG16B). */
__attribute__((target("cx16"), noinline)) static t_two_words cas_two(volatile t_two_words *at,
                                                                     t_two_words expected,
                                                                     t_two_words v, int order,
                                                                     int failed, const void *pc)
{
    struct t_event event = {.kind = T_EVENT_UPDATE,
                            .at = (void *)(uintptr_t)at,
                            .size = 16,
                            .atomic = true,
                            .order = order,
                            .pc = pc};
    t_two_words old;
    t_two_words now;

    begin(&event);
    old = __sync_val_compare_and_swap(at, expected, v);
    now = old == expected ? v : old;
    event.before = (uint64_t)old;
    event.after = (uint64_t)now;
    if (event.before == event.after) {
        event.before = (uint64_t)(old >> 64);
        event.after = (uint64_t)(now >> 64);
    }
    if (old != expected) {
        event.kind = T_EVENT_FAILED_CAS;
        event.order = failed;
    }
    end(&event);
    return old;
}

int __tsan_atomic128_compare_exchange_strong(volatile t_two_words *at, t_two_words *expected,
                                             t_two_words v, int order, int failed)
{
    t_two_words old = cas_two(at, *expected, v, order, failed, CALLER);
    bool done = old == *expected;

    *expected = old;
    return done;
}

t_two_words __tsan_atomic128_compare_exchange_val(volatile t_two_words *at, t_two_words expected,
                                                  t_two_words v, int order, int failed)
{
    return cas_two(at, expected, v, order, failed, CALLER);
}

#endif

void __tsan_atomic_thread_fence(int order);
void __tsan_atomic_signal_fence(int order);

void __tsan_atomic_thread_fence(int order)
{
    const void *at = NULL;

    EVENT(T_EVENT_FENCE, 0, order);
    begin(&event);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    end(&event);
}

void __tsan_atomic_signal_fence(int order)
{
    (void)order; /* the call itself is a barrier to the compiler */
}
