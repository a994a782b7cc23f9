// SPDX-License-Identifier: MIT
//
// Stamps are single words, so that a look is a single load: what interrupts it, a flush among others,
// comes before or after.

#include "arena.h"

#include <stddef.h>

#include "cpu.h"
#include "log.h"
#include "percpu.h"
#include "random.h"
#include "trap.h"

#define COMPLAINTS_MAX 8

#define NR_LINES (MM_PAGE_SIZE / MM_CACHE_LINE)
#define WORDS    (MM_CACHE_LINE / sizeof(uint64_t))
#define STORED   1u // the word of a line for stores; word 0 is the stamp

#define SEAL_TURNS 200

// A stamp: 24 bits which mapping, 6 processor, 6 arena, 8 slot, 20 check.
#define NOWHERE    63u // as arena: given back
#define CHECK_BITS 20

static atomic_uint nr_wrong;

static uint64_t place_of(const struct arena *arena, uint32_t slot)
{
    return (uint64_t)arena->number << 8 | slot;
}

static uint64_t stamp_of(uint64_t mapping, uint32_t cpu, uint64_t place)
{
    uint64_t what = mapping << 40 | (uint64_t)cpu << 34 | place << CHECK_BITS;
    uint64_t state = what;

    return what | random_next(&state) >> (64 - CHECK_BITS);
}

static uint64_t mapping_in(uint64_t stamp)
{
    return stamp >> 40;
}

static uint32_t cpu_in(uint64_t stamp)
{
    return stamp >> 34 & 63;
}

static uint64_t place_in(uint64_t stamp)
{
    return stamp >> CHECK_BITS & 0x3fff;
}

static bool is_stamp(uint64_t word)
{
    return word == stamp_of(mapping_in(word), cpu_in(word), place_in(word));
}

static bool is_given_back(uint64_t stamp)
{
    return is_stamp(stamp) && place_in(stamp) >> 8 == NOWHERE;
}

// Lines of one frame differ.
static uint64_t in_line(uint64_t stamp, uint64_t line)
{
    return stamp ^ line * UINT64_C(0x9e3779b97f4a7c15);
}

unsigned arena_nr_wrong(void)
{
    return atomic_load(&nr_wrong);
}

static void wrong(const char *what, uint64_t at, uint64_t found, uint64_t oldest, uint64_t newest)
{
    if (atomic_fetch_add(&nr_wrong, 1) >= COMPLAINTS_MAX) {
        return;
    }
    log_begin();
    log_print("  at 0x%lx: %s: 0x%lx", at, what, found);
    if (is_given_back(found)) {
        log_print(", mapping %lu given back by processor %u", mapping_in(found), cpu_in(found));
    } else if (is_stamp(found)) {
        log_print(", arena %lu slot %lu mapping %lu of processor %u", place_in(found) >> 8,
                  place_in(found) & 0xff, mapping_in(found), cpu_in(found));
    }
    log_print("; mappings %lu to %lu are good (processor %u)\n", oldest, newest,
              percpu_self()->number);
    log_end();
}

// ---- frames, through the direct map ---------------------------------------------------------------

static uint64_t volatile *words_of(const struct memory *m, mm_pfn_t frame)
{
    return mm_physmap_ptr(&m->physmap, mm_pfn_addr(frame));
}

static void stamp(const struct memory *m, mm_pfn_t frame, uint64_t with)
{
    volatile uint64_t *words = words_of(m, frame);

    for (uint64_t line = 0; line < NR_LINES; line++) {
        words[line * WORDS] = in_line(with, line);
        words[line * WORDS + STORED] = 0;
    }
}

// Whether all lines are of one stamp, and stores were meant for its place; of none if it has none.
static bool whole(const struct memory *m, mm_pfn_t frame)
{
    const volatile uint64_t *words = words_of(m, frame);
    uint64_t first = words[0];

    for (uint64_t line = 0; line < NR_LINES; line++) {
        uint64_t stored = words[line * WORDS + STORED];
        if (words[line * WORDS] != in_line(first, line) ||
            (stored != 0 && (is_given_back(first) || stored >> 32 != place_in(first)))) {
            return false;
        }
    }
    return true;
}

// The end of a mapping, after its flush.
static void give_back(const struct memory *m, mm_pfn_t frame)
{
    uint64_t was = words_of(m, frame)[0];

    if (!whole(m, frame)) {
        wrong("a frame given back holds what it should not", mm_pfn_addr(frame).raw, was, 0, 0);
    }
    stamp(m, frame, stamp_of(mapping_in(was), percpu_self()->number, NOWHERE << 8));
}

void arena_on_release(struct memory *m, mm_pfn_t frame)
{
    uint64_t was = words_of(m, frame)[0];

    if (is_stamp(was) && !is_given_back(was)) { // no table
        give_back(m, frame);
    }
}

void arena_receive(struct memory *m, struct worker *w, mm_pfn_t frame)
{
    uint64_t was = words_of(m, frame)[0];

    if (!is_given_back(was) || !whole(m, frame)) {
        wrong("a frame handed on holds what it should not", mm_pfn_addr(frame).raw, was, 0, 0);
    }
    w->counts[ARENA_RECEIVED] += cpu_in(was) != w->cpu;
    mm_frame_free(&m->frames, frame, 0);
}

// ---- accesses, through the page table ---------------------------------------------------------------

struct access {
    volatile uint64_t *at;
    uint64_t value;
    bool store;
    bool open; // user memory, with SMAP
};

static void access(void *ctx)
{
    struct access *a = ctx;

    if (a->open) {
        cpu_open_user();
    }
    if (a->store) {
        *a->at = a->value;
    } else {
        a->value = *a->at;
    }
    if (a->open) { // else the handler of the fault has closed it
        cpu_close_user();
    }
}

// Whether there was a page.
static bool try(const struct arena *arena, struct access *a)
{
    struct trap_report report;

    a->open = arena->user && arena->m->arch.enabled.smap;
    if (!trap_try(access, a, &report)) {
        return true;
    }
    uint64_t of_writes = a->store ? TRAP_PF_PRESENT | TRAP_PF_WRITE : 0;
    if (report.vector != TRAP_PAGE_FAULT || report.address != (uintptr_t)a->at ||
        (report.error & ~of_writes) != 0) {
        wrong("an access faults oddly", (uintptr_t)a->at, report.error, 0, 0);
    }
    return false;
}

static volatile uint64_t *word_at(const struct arena *arena, uint32_t slot, uint64_t word)
{
    return (volatile uint64_t *)(uintptr_t)(arena->base.raw + slot * MM_PAGE_SIZE) + word;
}

void arena_look(struct arena *arena, struct worker *w, uint32_t slot)
{
    struct slot *s = &arena->slots[slot];
    uint64_t line = random_next(&w->random) % NR_LINES;
    struct access a = {.at = word_at(arena, slot, line * WORDS)};

    uint64_t oldest = atomic_load(&s->oldest);
    if (!try(arena, &a)) {
        w->counts[ARENA_MISSED]++;
        return;
    }
    uint64_t newest = atomic_load(&s->newest);
    uint64_t found = in_line(a.value, line); // its own inverse
    w->counts[ARENA_LOOKED]++;
    if (!is_stamp(found) || place_in(found) != place_of(arena, slot) ||
        mapping_in(found) < oldest || mapping_in(found) > newest) {
        wrong("a look finds what is gone", (uintptr_t)a.at, found, oldest, newest);
    }
}

void arena_store(struct arena *arena, struct worker *w, uint32_t slot)
{
    uint64_t r = random_next(&w->random);
    struct access a = {
        .at = word_at(arena, slot, r % NR_LINES * WORDS + STORED),
        .value = place_of(arena, slot) << 32 | (r >> 32),
        .store = true,
    };

    w->counts[try(arena, &a) ? ARENA_STORED : ARENA_REFUSED]++;
}

// ---- mappings ---------------------------------------------------------------------------------------

static struct mm_vrange pages_of(const struct arena *arena, uint32_t first, uint32_t nr)
{
    return mm_vrange(mm_vaddr(arena->base.raw + first * MM_PAGE_SIZE), nr * MM_PAGE_SIZE);
}

static mm_prot_t rights_of(const struct arena *arena)
{
    return arena->user ? MM_PROT_USER : MM_PROT_GLOBAL;
}

static void fill(struct arena *arena, struct worker *w, uint32_t slot)
{
    struct slot *s = &arena->slots[slot];
    uint64_t mapping = atomic_load(&s->newest) + 1;

    must(mm_frame_alloc(&arena->m->frames, NULL, &s->frame), "a frame");
    stamp(arena->m, s->frame, stamp_of(mapping, w->cpu, place_of(arena, slot)));
    atomic_store(&s->newest, mapping);
    must(mm_paging_map(arena->pt, pages_of(arena, slot, 1), mm_pfn_addr(s->frame),
                       MM_PROT_RW | rights_of(arena), MM_MEMTYPE_WB, 0),
         "a page of an arena");
    s->state = SLOT_MAPPED;
    w->counts[ARENA_FILLED]++;
}

void arena_fill(struct arena *arena, struct worker *w, uint32_t first, uint32_t nr)
{
    lock_take(&arena->lock);
    for (uint32_t slot = first; slot < first + nr && slot < ARENA_SLOTS; slot++) {
        if (arena->slots[slot].state == SLOT_EMPTY) {
            fill(arena, w, slot);
        }
    }
    lock_give(&arena->lock);
}

// Several processors may end flushes of one slot, and not in order.
static void raise(_Atomic uint64_t *oldest, uint64_t to)
{
    uint64_t now = atomic_load(oldest);

    while (now < to && !atomic_compare_exchange_weak(oldest, &now, to)) {
    }
}

void arena_drop(struct arena *arena, struct worker *w, uint32_t first, uint32_t nr,
                bool by_the_gather, mm_pfn_t *kept)
{
    struct mm_gather gather;
    mm_pfn_t frames[ARENA_SLOTS] = {{0}};
    uint64_t gone[ARENA_SLOTS] = {0}; // mappings, 0: none
    uint32_t end = first;

    lock_take(&arena->lock);
    for (; end < first + nr && end < ARENA_SLOTS; end++) {
        struct slot *s = &arena->slots[end];
        if (s->state == SLOT_SEALED) {
            break;
        }
        if (s->state == SLOT_MAPPED) {
            frames[end] = s->frame;
            gone[end] = atomic_load(&s->newest);
            s->state = SLOT_EMPTY;
        }
    }
    if (end == first) {
        lock_give(&arena->lock);
        return;
    }
    must(mm_gather_begin(&gather, arena->pt), "gather");
    must(mm_paging_unmap(arena->pt, pages_of(arena, first, end - first),
                         MM_PAGING_SKIP_HOLES | (by_the_gather ? MM_PAGING_RELEASE : 0), &gather),
         "pages of an arena");
    lock_give(&arena->lock);
    mm_gather_end(&gather);

    for (uint32_t slot = first; slot < end; slot++) {
        if (gone[slot] == 0) {
            continue;
        }
        w->counts[ARENA_DROPPED]++;
        raise(&arena->slots[slot].oldest, gone[slot] + 1);
        if (by_the_gather) {
            continue;
        }
        give_back(arena->m, frames[slot]);
        if (kept != NULL && kept->raw == 0) {
            *kept = frames[slot];
        } else {
            mm_frame_free(&arena->m->frames, frames[slot], 0);
        }
    }
}

static void protect(struct arena *arena, uint32_t slot, mm_prot_t prot, int state)
{
    struct mm_gather gather;

    must(mm_gather_begin(&gather, arena->pt), "gather");
    must(
        mm_paging_protect(arena->pt, pages_of(arena, slot, 1), prot | rights_of(arena), 0, &gather),
        "protection of a page");
    arena->slots[slot].state = state;
    lock_give(&arena->lock);
    mm_gather_end(&gather);
}

static uint64_t sum_of_stores(const struct memory *m, mm_pfn_t frame)
{
    const volatile uint64_t *words = words_of(m, frame);
    uint64_t sum = 0;

    for (uint64_t line = 0; line < NR_LINES; line++) {
        sum = sum * 31 + words[line * WORDS + STORED];
    }
    return sum;
}

void arena_seal(struct arena *arena, struct worker *w, uint32_t slot)
{
    struct slot *s = &arena->slots[slot];

    lock_take(&arena->lock);
    if (s->state != SLOT_MAPPED) {
        lock_give(&arena->lock);
        return;
    }
    mm_pfn_t frame = s->frame;
    protect(arena, slot, MM_PROT_READ, SLOT_SEALED);
    uint64_t before = sum_of_stores(arena->m, frame);
    for (int i = 0; i < SEAL_TURNS; i++) {
        shootdown_relax();
    }
    if (sum_of_stores(arena->m, frame) != before) {
        wrong("a store comes after the page was write-protected",
              pages_of(arena, slot, 1).start.raw, words_of(arena->m, frame)[0],
              atomic_load(&s->oldest), atomic_load(&s->newest));
    }
    lock_take(&arena->lock);
    protect(arena, slot, MM_PROT_RW, SLOT_MAPPED);
    w->counts[ARENA_SEALED]++;
}

void arena_open(struct arena *arena, struct memory *m, uint32_t number, struct mm_pagetable *pt,
                mm_vaddr_t base)
{
    *arena = (struct arena){
        .m = m,
        .pt = pt,
        .number = number,
        .user = pt != &m->kernel,
        .base = base,
    };
    for (uint32_t slot = 0; slot < ARENA_SLOTS; slot++) {
        atomic_store(&arena->slots[slot].oldest, 1);
    }
}

void arena_close(struct arena *arena, struct worker *w)
{
    arena_drop(arena, w, 0, ARENA_SLOTS, false, NULL);
}
