// SPDX-License-Identifier: MIT
//
// Frames: real memory, in the amount that a machine has of it. A frame that was handed out twice,
// or that two addresses reach, betrays itself by what stands in it.

#include <stddef.h>

#include "check.h"
#include "checks.h"
#include "log.h"

#define WORDS_PER_FRAME (MM_PAGE_SIZE / sizeof(uint64_t))
#define LIST_FRAMES     510

// A frame that lists others: what is held is remembered in what is held.
struct list {
    struct list *next;
    uint64_t nr;
    mm_pfn_t frames[LIST_FRAMES];
};

_Static_assert(sizeof(struct list) == MM_PAGE_SIZE, "a list is one frame");

// Of the first frames every word is written; of what a large machine has beyond, one word of each
// line: translation and allocation know nothing smaller than a page.
#define NR_WHOLE (UINT64_C(256) << 20 >> MM_PAGE_SHIFT)

static uint64_t step_of(uint64_t serial)
{
    return serial < NR_WHOLE ? 1 : MM_CACHE_LINE / sizeof(uint64_t);
}

// The serial number tells two holders of one frame apart; 44 bits leave room for 16 TiB of address.
static uint64_t word_of(mm_pfn_t frame, uint64_t serial, uint64_t i)
{
    return (mm_pfn_addr(frame).raw + i * sizeof(uint64_t)) | serial << 44;
}

static void fill(struct memory *m, mm_pfn_t frame, uint64_t serial)
{
    uint64_t *words = mm_physmap_ptr(&m->physmap, mm_pfn_addr(frame));
    for (uint64_t i = 0; i < WORDS_PER_FRAME; i += step_of(serial)) {
        words[i] = word_of(frame, serial, i);
    }
}

static bool filled(struct memory *m, mm_pfn_t frame, uint64_t serial)
{
    const uint64_t *words = mm_physmap_ptr(&m->physmap, mm_pfn_addr(frame));
    for (uint64_t i = 0; i < WORDS_PER_FRAME; i += step_of(serial)) {
        if (words[i] != word_of(frame, serial, i)) {
            return false;
        }
    }
    return true;
}

// Hold `nr` frames or a few more, each filled.
static struct list *take(struct memory *m, uint64_t nr)
{
    struct list *first = NULL;
    uint64_t held = 0;

    while (held < nr) {
        mm_pfn_t own;
        must(mm_frame_alloc(&m->frames, NULL, &own), "a list of frames");
        struct list *list = mm_physmap_ptr(&m->physmap, mm_pfn_addr(own));
        size_t done = 0;
        must(mm_frame_alloc_bulk(&m->frames, 0, list->frames, LIST_FRAMES, &done),
             "half of memory");
        list->nr = done;
        list->next = first;
        first = list;
        for (size_t i = 0; i < done; i++) {
            fill(m, list->frames[i], held + i);
        }
        held += done;
    }
    return first;
}

// Lists were made first to last and are met last to first: so are the serial numbers.
static bool verify(struct memory *m, const struct list *first, uint64_t held)
{
    for (const struct list *list = first; list != NULL; list = list->next) {
        held -= list->nr;
        for (uint64_t i = 0; i < list->nr; i++) {
            if (!filled(m, list->frames[i], held + i)) {
                log_print("  frame 0x%lx does not hold what was stored\n", list->frames[i].raw);
                return false;
            }
        }
    }
    return held == 0;
}

static void give(struct memory *m, struct list *first)
{
    while (first != NULL) {
        struct list *next = first->next;
        mm_pfn_t own = mm_pfn_of(mm_physmap_paddr(&m->physmap, first));
        mm_frame_free_bulk(&m->frames, first->frames, first->nr);
        mm_frame_free(&m->frames, own, 0);
        first = next;
    }
}

static void check_half(struct memory *m)
{
    uint64_t before = memory_nr_free(m);
    struct list *lists = take(m, before / 2);
    uint64_t held = 0;
    for (const struct list *list = lists; list != NULL; list = list->next) {
        held += list->nr;
    }

    log_print("  %lu MiB of %lu MiB are filled\n", held / 256, before / 256);
    memory_draw(m);
    CHECK("half of memory holds its own addresses", verify(m, lists, held) && held >= before / 2);
    give(m, lists);
    CHECK("half of memory is free again", memory_nr_free(m) == before);
}

static void check_zeroed(struct memory *m)
{
    struct mm_frame_request request = {.order = 3, .flags = MM_FRAME_ZERO};
    mm_pfn_t block;
    bool zero = true;

    must(mm_frame_alloc(&m->frames, &(struct mm_frame_request){.order = 3}, &block), "a block");
    uint64_t *words = mm_physmap_ptr(&m->physmap, mm_pfn_addr(block));
    for (uint64_t i = 0; i < 8 * WORDS_PER_FRAME; i++) {
        words[i] = word_of(block, 1, i);
    }
    mm_frame_free(&m->frames, block, 3);
    must(mm_frame_alloc(&m->frames, &request, &block), "a zeroed block");
    words = mm_physmap_ptr(&m->physmap, mm_pfn_addr(block));
    for (uint64_t i = 0; i < 8 * WORDS_PER_FRAME; i++) {
        zero = zero && words[i] == 0;
    }
    CHECK("a zeroed block is zero", zero);
    CHECK("a block is aligned to its size", (block.raw & 7) == 0);
    mm_frame_free(&m->frames, block, 3);
}

void checks_frame(struct memory *m)
{
    check_theme("frames");
    check_half(m);
    check_zeroed(m);
    CHECK("the frame allocator's state agrees with itself", mm_frame_check(&m->frames) == MM_OK);
}
