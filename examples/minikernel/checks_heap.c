// SPDX-License-Identifier: MIT
//
// The heap under a random load: objects of all sizes come, move and go in no order, each filled
// with bytes of its own. An overlap, a lost byte or a lost page shows.

#include <stddef.h>

#include "check.h"
#include "checks.h"
#include "log.h"
#include "random.h"

#define SLOTS 512
#define STEPS 40000
#define SEED  UINT64_C(0x6d696e696b65726e)

struct slot {
    uint8_t *object;
    uint64_t size;
    uint8_t byte;
};

struct soak {
    struct memory *m;
    uint64_t random;
    uint64_t nr_refused;
    bool good;
    struct slot slots[SLOTS];
};

static uint64_t next(struct soak *s)
{
    return random_next(&s->random);
}

// Mostly small, now and then large: each power of two up to 64 KiB is as likely as its neighbour.
static uint64_t next_size(struct soak *s)
{
    uint64_t bits = next(s) % 16 + 1;
    return next(s) % (UINT64_C(1) << bits) + 1;
}

static void fill(struct slot *slot, uint64_t from, uint8_t byte)
{
    slot->byte = byte;
    for (uint64_t i = from; i < slot->size; i++) {
        slot->object[i] = byte;
    }
}

static bool holds(const uint8_t *bytes, uint64_t len, uint8_t byte)
{
    for (uint64_t i = 0; i < len; i++) {
        if (bytes[i] != byte) {
            return false;
        }
    }
    return true;
}

static void allocate(struct soak *s, struct slot *slot)
{
    struct mm_heap *heap = &s->m->heap;
    uint64_t size = next_size(s);
    uint64_t kind = next(s) % 4;
    uint64_t align = UINT64_C(16) << next(s) % 9;
    uint8_t *object = kind == 0   ? mm_heap_alloc_zeroed(heap, size)
                      : kind == 1 ? mm_heap_alloc_aligned(heap, align, size)
                                  : mm_heap_alloc(heap, size);
    if (object == NULL) {
        s->nr_refused++;
        return;
    }
    *slot = (struct slot){.object = object, .size = size};
    s->good = s->good && (kind != 0 || holds(object, size, 0)) &&
              (kind != 1 || mm_is_aligned((uintptr_t)object, align));
    fill(slot, 0, (uint8_t)next(s));
}

static void resize(struct soak *s, struct slot *slot)
{
    uint64_t size = next_size(s);
    uint64_t kept = size < slot->size ? size : slot->size;
    uint8_t *object = mm_heap_realloc(&s->m->heap, slot->object, size);

    if (object == NULL) {
        s->nr_refused++;
        return;
    }
    s->good = s->good && holds(object, kept, slot->byte);
    slot->object = object;
    slot->size = size;
    fill(slot, kept, slot->byte);
}

static void release(struct soak *s, struct slot *slot)
{
    s->good = s->good && holds(slot->object, slot->size, slot->byte);
    mm_heap_free(&s->m->heap, slot->object);
    *slot = (struct slot){0};
}

static void step(struct soak *s)
{
    struct slot *slot = &s->slots[next(s) % SLOTS];

    if (slot->object == NULL) {
        allocate(s, slot);
    } else if (next(s) % 4 == 0) {
        resize(s, slot);
    } else {
        release(s, slot);
    }
}

void checks_heap(struct memory *m)
{
    static struct soak s;
    check_theme("heap");
    s.m = m;
    s.random = SEED;
    s.good = true;

    log_print("  heap soak: %u steps, seed 0x%lx\n", STEPS, (uint64_t)SEED);
    for (unsigned i = 0; i < STEPS; i++) {
        step(&s);
    }
    CHECK("the heap is well formed amid the soak", mm_heap_check(&m->heap) == MM_OK);
    for (unsigned i = 0; i < SLOTS; i++) {
        if (s.slots[i].object != NULL) {
            release(&s, &s.slots[i]);
        }
    }
    CHECK("every object of the soak kept its bytes", s.good);
    CHECK("no allocation of the soak was refused", s.nr_refused == 0);

    struct mm_heap_stats stats;
    uint64_t given = mm_heap_reclaim(&m->heap);
    CHECK("the heap is well formed after the soak", mm_heap_check(&m->heap) == MM_OK);
    CHECK("the heap is empty after the soak",
          mm_heap_get_stats(&m->heap, &stats) == MM_OK && stats.nr_objects == 0);
    CHECK("the heap gives its pages back",
          given > 0 && stats.slab_bytes == 0 && stats.run_bytes == 0);
}
