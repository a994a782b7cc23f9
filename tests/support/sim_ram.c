// SPDX-License-Identifier: MIT
/**
 * Simulated RAM over mmap(PROT_NONE | MAP_NORESERVE) and mprotect().
 *
 * The kernel of the host keeps the sparse part: address space without pages costs nothing, and a
 * page appears with its first store. What is backed is a sorted list of ranges that do not touch.
 * A table of live instances lets the signal handler name the physical address of a stray access; it
 * is read without a lock, so an instance leaves it before it is unmapped.
 */
#define _GNU_SOURCE
#include "sim_ram.h"

#include "trap.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define RANGES 16 /* room to begin with */
#define GUARD  (UINT64_C(1) << 20)
#define ALIGN  (UINT64_C(1) << 30)

#if defined(__SANITIZE_THREAD__)
#define T_RAM_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define T_RAM_TSAN 1
#endif
#endif
#ifdef T_RAM_TSAN /* its shadow covers little of the address space, and it ends the process beyond \
                   */
#define SPAN_MAX (UINT64_C(1) << 38)
#else
#define SPAN_MAX (UINT64_C(1) << 46)
#endif

struct t_ram {
    uint64_t lowest;
    uint64_t highest;
    uint64_t base;
    struct t_ram_range *backed; /* sorted, apart from each other */
    unsigned nr_backed;
    unsigned max_backed;
};

static _Atomic(struct t_ram *) live[T_RAM_MAX];

static _Noreturn void die(const char *what, uint64_t a, uint64_t b)
{
    fprintf(stderr, "t_ram: %s (0x%llx, 0x%llx)\n", what, (unsigned long long)a,
            (unsigned long long)b);
    abort();
}

static bool explain(uint64_t address, bool write, char *line, unsigned long size)
{
    for (unsigned i = 0; i < T_RAM_MAX; i++) {
        const struct t_ram *ram = atomic_load(&live[i]);
        uint64_t paddr;

        if (ram == NULL) {
            continue;
        }
        paddr = address - ram->base;
        if (paddr - (ram->lowest - GUARD) < ram->highest - ram->lowest + 2 * GUARD) {
            bool inside = paddr >= ram->lowest && paddr < ram->highest;

            (void)snprintf(line, size, "t_ram: %s of unbacked physical address 0x%llx%s\n",
                           write ? "store" : "load", (unsigned long long)paddr,
                           inside ? "" : " (outside of the window)");
            return true;
        }
    }
    return false;
}

/* Address space of `len` bytes whose first byte is congruent to `like` modulo ALIGN. */
static uint64_t reserve(uint64_t like, uint64_t len)
{
    uint64_t at;
    uint64_t begin;
    void *p =
        mmap(NULL, len + ALIGN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED) {
        return 0;
    }
    at = (uint64_t)(uintptr_t)p;
    begin = at + ((like - at) & (ALIGN - 1));
    if (begin != at) {
        (void)munmap(p, begin - at);
    }
    if (begin + len != at + len + ALIGN) {
        (void)munmap((void *)(uintptr_t)(begin + len), at + ALIGN - begin);
    }
    return begin;
}

struct t_ram *t_ram_new(uint64_t lowest, uint64_t highest)
{
    struct t_ram *ram;
    uint64_t begin;
    unsigned slot;

    if (((lowest | highest) & (T_RAM_FRAME - 1)) != 0 || lowest >= highest) {
        die("a window of whole frames, please", lowest, highest);
    }
    t_trap_set_explainer(explain);
    t_trap_arm();
    begin = highest - lowest > SPAN_MAX ? 0 : reserve(lowest - GUARD, highest - lowest + 2 * GUARD);
    if (begin == 0) {
        fprintf(stderr, "t_ram: no room for a window of 0x%llx bytes\n",
                (unsigned long long)(highest - lowest));
        return NULL;
    }
    ram = calloc(1, sizeof(*ram));
    if (ram == NULL || (ram->backed = calloc(RANGES, sizeof(*ram->backed))) == NULL) {
        die("out of memory", 0, 0);
    }
    ram->max_backed = RANGES;
    ram->lowest = lowest;
    ram->highest = highest;
    ram->base = begin + GUARD - lowest;
    for (slot = 0; slot < T_RAM_MAX; slot++) {
        struct t_ram *none = NULL;

        if (atomic_compare_exchange_strong(&live[slot], &none, ram)) {
            return ram;
        }
    }
    die("more than T_RAM_MAX at a time", T_RAM_MAX, 0);
}

struct t_ram *t_ram_new_ranges(const struct t_ram_range *ranges, unsigned nr)
{
    uint64_t lowest = UINT64_MAX;
    uint64_t highest = 0;
    struct t_ram *ram;

    for (unsigned i = 0; i < nr; i++) {
        lowest = ranges[i].start < lowest ? ranges[i].start : lowest;
        highest =
            ranges[i].start + ranges[i].len > highest ? ranges[i].start + ranges[i].len : highest;
    }
    ram = t_ram_new(lowest, highest);
    for (unsigned i = 0; ram != NULL && i < nr; i++) {
        t_ram_back(ram, ranges[i].start, ranges[i].len);
    }
    return ram;
}

void t_ram_delete(struct t_ram *ram)
{
    if (ram == NULL) {
        return;
    }
    for (unsigned slot = 0; slot < T_RAM_MAX; slot++) {
        if (atomic_load(&live[slot]) == ram) {
            atomic_store(&live[slot], NULL);
        }
    }
    if (munmap((void *)(uintptr_t)(ram->base + ram->lowest - GUARD),
               ram->highest - ram->lowest + 2 * GUARD) != 0) {
        die("munmap failed", ram->lowest, ram->highest);
    }
    free(ram->backed);
    free(ram);
}

uint64_t t_ram_max_span(void)
{
    uint64_t span;

    for (span = SPAN_MAX; span > T_RAM_FRAME; span /= 2) {
        uint64_t begin = reserve(0, span + 2 * GUARD);

        if (begin != 0) {
            (void)munmap((void *)(uintptr_t)begin, span + 2 * GUARD);
            break;
        }
    }
    return span;
}

static void check_range(const struct t_ram *ram, uint64_t start, uint64_t len)
{
    if (((start | len) & (T_RAM_FRAME - 1)) != 0 || start < ram->lowest || start > ram->highest ||
        len > ram->highest - start) {
        die("a range of whole frames inside of the window, please", start, len);
    }
}

/* The first backed range that ends at or after `at`. */
static unsigned find(const struct t_ram *ram, uint64_t at)
{
    unsigned low = 0;
    unsigned high = ram->nr_backed;

    while (low < high) {
        unsigned middle = low + (high - low) / 2;

        if (ram->backed[middle].start + ram->backed[middle].len < at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Put `nr_new` ranges in the place of `nr_old` from `at` on. */
static void replace(struct t_ram *ram, unsigned at, unsigned nr_old, const struct t_ram_range *new,
                    unsigned nr_new)
{
    if (ram->nr_backed - nr_old + nr_new > ram->max_backed) {
        ram->max_backed = 2 * ram->max_backed;
        ram->backed = realloc(ram->backed, ram->max_backed * sizeof(*ram->backed));
        if (ram->backed == NULL) {
            die("out of memory", ram->max_backed, 0);
        }
    }
    memmove(&ram->backed[at + nr_new], &ram->backed[at + nr_old],
            (ram->nr_backed - at - nr_old) * sizeof(*ram->backed));
    for (unsigned i = 0; i < nr_new; i++) {
        ram->backed[at + i] = new[i];
    }
    ram->nr_backed = ram->nr_backed - nr_old + nr_new;
}

void t_ram_back(struct t_ram *ram, uint64_t start, uint64_t len)
{
    struct t_ram_range whole = {start, len};
    unsigned at;
    unsigned end;

    check_range(ram, start, len);
    t_trap_arm();
    if (len == 0) {
        return;
    }
    if (mprotect(t_ram_ptr(ram, start), len, PROT_READ | PROT_WRITE) != 0) {
        die("mprotect failed: too many pieces?", start, len);
    }
    at = find(ram, start);
    for (end = at; end < ram->nr_backed && ram->backed[end].start <= start + len; end++) {
        uint64_t last = ram->backed[end].start + ram->backed[end].len;
        uint64_t stop = whole.start + whole.len > last ? whole.start + whole.len : last;

        whole.start = whole.start < ram->backed[end].start ? whole.start : ram->backed[end].start;
        whole.len = stop - whole.start;
    }
    replace(ram, at, end - at, &whole, 1);
}

void t_ram_unback(struct t_ram *ram, uint64_t start, uint64_t len)
{
    struct t_ram_range left[2];
    unsigned nr_left = 0;
    unsigned at;
    unsigned end;

    check_range(ram, start, len);
    t_trap_arm();
    if (len == 0) {
        return;
    }
    /* Mapped anew: what was there is gone, and comes back as zero. */
    if (mmap(t_ram_ptr(ram, start), len, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) {
        die("mmap failed: too many pieces?", start, len);
    }
    at = find(ram, start + 1);
    for (end = at; end < ram->nr_backed && ram->backed[end].start < start + len; end++) {
        uint64_t from = ram->backed[end].start;
        uint64_t to = from + ram->backed[end].len;

        if (from < start) {
            left[nr_left++] = (struct t_ram_range){from, start - from};
        }
        if (to > start + len) {
            left[nr_left++] = (struct t_ram_range){start + len, to - start - len};
        }
    }
    replace(ram, at, end - at, left, nr_left);
}

bool t_ram_is_backed(const struct t_ram *ram, uint64_t start, uint64_t len)
{
    unsigned at = find(ram, start + 1);

    return at < ram->nr_backed && start >= ram->backed[at].start &&
           start - ram->backed[at].start <= ram->backed[at].len &&
           len <= ram->backed[at].len - (start - ram->backed[at].start);
}

uint64_t t_ram_backed_bytes(const struct t_ram *ram)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < ram->nr_backed; i++) {
        sum += ram->backed[i].len;
    }
    return sum;
}

bool t_ram_next_backed(const struct t_ram *ram, uint64_t from, struct t_ram_range *out)
{
    unsigned at = find(ram, from + 1);
    uint64_t end;

    if (at == ram->nr_backed) {
        return false;
    }
    end = ram->backed[at].start + ram->backed[at].len;
    out->start = ram->backed[at].start > from ? ram->backed[at].start : from;
    out->len = end - out->start;
    return true;
}

struct t_ram_range t_ram_window(const struct t_ram *ram)
{
    return (struct t_ram_range){ram->lowest, ram->highest - ram->lowest};
}

uint64_t t_ram_base(const struct t_ram *ram)
{
    return ram->base;
}

void *t_ram_ptr(const struct t_ram *ram, uint64_t paddr)
{
    return (void *)(uintptr_t)(ram->base + paddr);
}

uint64_t t_ram_paddr(const struct t_ram *ram, const volatile void *ptr)
{
    uint64_t paddr = (uint64_t)(uintptr_t)ptr - ram->base;

    return paddr - ram->lowest < ram->highest - ram->lowest ? paddr : UINT64_MAX;
}
