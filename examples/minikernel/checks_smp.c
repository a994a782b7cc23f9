// SPDX-License-Identifier: MIT
//
// All processors: each protected as the first is, then all of them in the frame allocator, a cache and
// the heap at once. On a machine with one processor the same checks run on that.
//
// Translations are only added meanwhile: checks_shootdown.c removes them.

#include <stdatomic.h>
#include <stddef.h>

#include "check.h"
#include "checks.h"
#include "layout.h"
#include "log.h"
#include "percpu.h"
#include "probe.h"
#include "smp.h"
#include "trade.h"

void *memset(void *to, int value, size_t len);

// ---- each by itself -------------------------------------------------------------------------------

// What mm_x86_64_enable() sets: Intel SDM vol. 3A, 2.5, 2.2.1 and 12.12.2.
#define CR0_BITS (UINT64_C(1) << 16)
#define CR4_BITS (UINT64_C(1) << 7 | UINT64_C(1) << 11 | UINT64_C(1) << 20 | UINT64_C(1) << 21)
#define MSR_EFER 0xc0000080
#define EFER_NXE (UINT64_C(1) << 11)
#define MSR_PAT  0x277

extern const char image_start[];
extern const char image_text_start[];

// What a processor sees of itself.
struct view {
    uint64_t root;
    uint64_t cr0, cr4, efer, pat;
    bool no_identity;
    bool text_denied;
    bool guarded;
};

static struct view views[PERCPU_MAX];

static void view(void *ctx, uint32_t cpu)
{
    struct memory *m = ctx;
    const struct mm_x86_64_cpu_ops *ops = m->arch.ops;
    struct view *v = &views[cpu];
    mm_vaddr_t text = mm_vaddr_of(image_text_start);
    struct trap_report r;

    v->root = mm_paging_current_root(m->kernel.backend).raw;
    v->cr0 = ops->read_cr(NULL, 0) & CR0_BITS;
    v->cr4 = ops->read_cr(NULL, 4) & CR4_BITS;
    v->efer = ops->read_msr(NULL, MSR_EFER) & EFER_NXE;
    v->pat = m->arch.features.pat ? ops->read_msr(NULL, MSR_PAT) : 0;
    v->no_identity = probe_unmapped(mm_vaddr(0)) &&
                     probe_unmapped(mm_vaddr((uintptr_t)image_start - LAYOUT_IMAGE_BASE));
    v->text_denied = probe_store(text, &r) && probe_is(&r, text, TRAP_PF_PRESENT | TRAP_PF_WRITE);
    v->guarded = probe_unmapped(percpu_stack_guard(cpu));
}

static bool same_protection(uint32_t cpu)
{
    const struct view *v = &views[cpu];
    const struct view *first = &views[0];

    return v->cr0 == first->cr0 && v->cr4 == first->cr4 && v->efer == first->efer &&
           v->pat == first->pat;
}

static bool on_kernel_root(const struct memory *m, uint32_t cpu)
{
    return views[cpu].root == mm_paging_root(&m->kernel).raw;
}

static bool apic_ids_differ(void)
{
    for (uint32_t a = 0; a < smp_nr(); a++) {
        for (uint32_t b = 0; b < a; b++) {
            if (percpus[a].apic_id == percpus[b].apic_id) {
                return false;
            }
        }
    }
    return true;
}

static void check_views(struct memory *m)
{
    bool same = true;
    bool root = true;
    bool no_identity = true;
    bool text_denied = true;
    bool guarded = true;

    smp_run(view, m);
    for (uint32_t cpu = 0; cpu < smp_nr(); cpu++) {
        same = same && same_protection(cpu);
        root = root && on_kernel_root(m, cpu);
        no_identity = no_identity && views[cpu].no_identity;
        text_denied = text_denied && views[cpu].text_denied;
        guarded = guarded && views[cpu].guarded;
    }
    CHECK("every processor that the firmware tells of runs, once each",
          smp_nr() == m->nr_cpus && apic_ids_differ());
    CHECK("every processor walks the kernel's root", root);
    CHECK("every processor has the protection of the first", same);
    CHECK("every processor sees no identity map", no_identity);
    CHECK("every processor is denied a store to text", text_denied);
    CHECK("every processor has a guard page under its stack", guarded);
}

// ---- all of them together -----------------------------------------------------------------------

// Nothing was wrong, and where there are others something came from them.
static bool good(const struct trade_result *result)
{
    return result->nr_wrong == 0 && result->nr_taken > 0 &&
           (result->nr_received > 0 || smp_nr() == 1);
}

// ---- frames ---------------------------------------------------------------------------------------

#define FRAME_STEPS     12000
#define WORDS_PER_LINE  (MM_CACHE_LINE / sizeof(uint64_t))
#define LINES_PER_FRAME (MM_PAGE_SIZE / MM_CACHE_LINE)

// An allocator of few frames, for all of which the processors compete; its memory is a block of the
// large one.
#define CROWD_ORDER    7u
#define CROWD_METADATA 16384

struct crowd {
    mm_pfn_t block;
    struct mm_boot_entry entries[MM_BOOTMAP_CAPACITY(1)];
    struct mm_bootmap map;
    struct mm_frames frames;
};

struct frame_trade {
    struct memory *m;
    struct mm_frames *frames;
};

// A block of 2^order frames is the thing pfn << 8 | order. Each line of it holds the mark and which
// line it is.
static uint64_t *line_of(const struct trader *t, uint64_t thing, uint64_t line)
{
    const struct frame_trade *ft = t->trade->ctx;
    uint64_t *words = mm_physmap_ptr(&ft->m->physmap, mm_pfn_addr(mm_pfn(thing >> 8)));
    return &words[line * WORDS_PER_LINE];
}

static uint64_t nr_lines(uint64_t thing)
{
    return LINES_PER_FRAME << (thing & 0xff);
}

static uint64_t take_block(struct trader *t, uint64_t mark)
{
    const struct frame_trade *ft = t->trade->ctx;
    struct mm_frame_request request = {.order = (uint32_t)(mark >> 24) % 3};
    mm_pfn_t first;
    // By turns as a caller that knows its processor, and as one that does not.
    mm_status_t status = request.order == 0 ? mm_frame_alloc_on(ft->frames, t->cpu, &first)
                                            : mm_frame_alloc(ft->frames, &request, &first);
    if (status != MM_OK) {
        return 0;
    }
    uint64_t thing = first.raw << 8 | request.order;
    for (uint64_t line = 0; line < nr_lines(thing); line++) {
        *line_of(t, thing, line) = mark + line;
    }
    return thing;
}

static uint64_t read_block(struct trader *t, uint64_t thing)
{
    uint64_t mark = *line_of(t, thing, 0);
    for (uint64_t line = 1; line < nr_lines(thing); line++) {
        uint64_t seen = *line_of(t, thing, line);
        if (seen != mark + line) {
            trade_wrong(t, thing, mark + line, seen);
            break;
        }
    }
    return mark;
}

// A block of several frames goes back in halves, or whole.
static void give_block(struct trader *t, uint64_t thing)
{
    const struct frame_trade *ft = t->trade->ctx;
    mm_pfn_t first = mm_pfn(thing >> 8);
    uint32_t order = thing & 0xff;

    if (order != 0 && t->step % 2 == 0) {
        order--;
        mm_frame_free(ft->frames, mm_pfn(first.raw + (UINT64_C(1) << order)), order);
    }
    mm_frame_free(ft->frames, first, order);
}

static struct trade_result trade_frames(struct memory *m, struct mm_frames *frames,
                                        const char *name)
{
    struct frame_trade ft = {.m = m, .frames = frames};
    struct trade trade = {
        .name = name,
        .ctx = &ft,
        .nr_steps = FRAME_STEPS,
        .seed = UINT64_C(0x6672616d6573),
        .take = take_block,
        .read = read_block,
        .give = give_block,
    };
    return trade_run(&trade);
}

static void open_crowd(struct memory *m, struct crowd *crowd)
{
    static _Alignas(MM_CACHE_LINE) uint8_t metadata[CROWD_METADATA];

    memset(metadata, 0, sizeof(metadata));
    *crowd = (struct crowd){0};
    struct mm_frame_request request = {.order = CROWD_ORDER};
    uint64_t len = MM_PAGE_SIZE << CROWD_ORDER;

    must(mm_frame_alloc(&m->frames, &request, &crowd->block), "memory for few frames");
    must(mm_bootmap_init(&crowd->map, crowd->entries, MM_BOOTMAP_CAPACITY(1)), "a map");
    must(mm_bootmap_add(&crowd->map, mm_prange(mm_pfn_addr(crowd->block), len), MM_BOOT_USABLE),
         "a map of few frames");
    struct mm_frames_config config = {
        .map = &crowd->map,
        .physmap = &m->physmap,
        .platform = platform_ops(),
        .nr_cpus = m->nr_cpus,
        .flags = MM_FRAMES_REFCOUNTS,
        .metadata = metadata,
        .metadata_len = sizeof(metadata),
    };
    must(mm_frame_init(&crowd->frames, &config), "an allocator of few frames");
}

static void close_crowd(struct memory *m, struct crowd *crowd, const char *name)
{
    struct mm_frame_stats stats = {0};

    must(mm_frame_get_stats(&crowd->frames, &stats), "frame statistics");
    CHECK(name,
          stats.nr_free == UINT64_C(1) << CROWD_ORDER && mm_frame_check(&crowd->frames) == MM_OK);
    must(mm_frame_destroy(&crowd->frames), "end of few frames");
    mm_frame_free(&m->frames, crowd->block, CROWD_ORDER);
}

static void check_frames(struct memory *m)
{
    static struct crowd crowd;
    uint64_t before = memory_nr_free(m);

    struct trade_result result = trade_frames(m, &m->frames, "frames");
    CHECK("frames are one processor's at a time", good(&result) && result.nr_refused == 0);
    CHECK("frames are back, whoever freed them",
          memory_nr_free(m) == before && mm_frame_check(&m->frames) == MM_OK);

    open_crowd(m, &crowd);
    result = trade_frames(m, &crowd.frames, "few frames");
    CHECK("frames that all compete for are one processor's at a time", good(&result));
    close_crowd(m, &crowd, "frames that all compete for are back");
}

// ---- collisions -----------------------------------------------------------------------------------

// Short loops on one word that all processors change, with nothing in between: an update that is not
// one atomic step loses against another sooner or later.
#define FRAME_TURNS     200000
#define REFERENCE_TURNS 1000000
#define TURNS_TOGETHER  20000 // after so many the fast wait for the slow

struct collision {
    struct mm_frames *frames;
    mm_pfn_t shared;
    atomic_uint nr_freed; // of the shared frame
    atomic_uint nr_wrong;
    mm_pfn_t first;                        // of the crowd:
    atomic_uint holders[1 << CROWD_ORDER]; // processor, and 1; 0: none
};

static void wait_for_slow(unsigned turn)
{
    if (turn % TURNS_TOGETHER == 0) {
        smp_barrier();
    }
}

// Every processor holds one reference from the start; the last to leave frees the frame.
static void share(void *ctx, uint32_t cpu)
{
    struct collision *c = ctx;

    (void)cpu;
    for (unsigned i = 0; i < REFERENCE_TURNS; i++) {
        wait_for_slow(i);
        mm_frame_get(c->frames, c->shared);
        atomic_fetch_add(&c->nr_freed, mm_frame_put(c->frames, c->shared));
    }
    atomic_fetch_add(&c->nr_freed, mm_frame_put(c->frames, c->shared));
}

static void check_references(struct memory *m)
{
    static struct collision c;

    c.frames = &m->frames;
    must(mm_frame_alloc(&m->frames, NULL, &c.shared), "a frame to share");
    for (uint32_t cpu = 1; cpu < smp_nr(); cpu++) {
        mm_frame_get(&m->frames, c.shared);
    }
    smp_run(share, &c);
    CHECK("a shared frame is freed once, with its last reference",
          atomic_load(&c.nr_freed) == 1 && mm_frame_refs(&m->frames, c.shared) == 0);
}

// A frame that is taken was nobody's, and is ours until it is given back.
static void collide(void *ctx, uint32_t cpu)
{
    struct collision *c = ctx;
    mm_pfn_t frame;

    for (unsigned i = 0; i < FRAME_TURNS; i++) {
        wait_for_slow(i);
        if (mm_frame_alloc_on(c->frames, cpu, &frame) != MM_OK) {
            atomic_fetch_add(&c->nr_wrong, 1); // there are more frames than processors
            continue;
        }
        atomic_uint *holder = &c->holders[frame.raw - c->first.raw];
        unsigned before = atomic_exchange(holder, cpu + 1);
        unsigned after = atomic_exchange(holder, 0);
        if (before != 0 || after != cpu + 1) {
            atomic_fetch_add(&c->nr_wrong, 1);
        }
        if (i % 2 == 0) {
            mm_frame_free(c->frames, frame, 0);
        } else {
            mm_frame_free_bulk(c->frames, &frame, 1);
        }
    }
}

static void check_collisions(struct memory *m)
{
    static struct crowd crowd;
    static struct collision c;

    open_crowd(m, &crowd);
    c.frames = &crowd.frames;
    c.first = crowd.block;
    smp_run(collide, &c);
    log_print("  %u x %u frames taken and given back in a row: %u wrong\n", smp_nr(), FRAME_TURNS,
              atomic_load(&c.nr_wrong));
    CHECK("frames taken and given back in a row are one processor's at a time",
          atomic_load(&c.nr_wrong) == 0);
    close_crowd(m, &crowd, "frames taken and given back in a row are back");
}

// ---- objects --------------------------------------------------------------------------------------

#define OBJECT_STEPS  16000
#define OBJECT_SIZE   96 // of the cache
#define OBJECT_MAX    12000
#define OBJECT_HEADER 2 // words
#define WORD          sizeof(uint64_t)

// An object begins with its mark and its number of words; those after the two hold the mark and which
// word they are.
static uint64_t mark_object(uint64_t *object, uint64_t nr_words, uint64_t mark)
{
    if (object == NULL) {
        return 0;
    }
    object[0] = mark;
    object[1] = nr_words;
    for (uint64_t i = OBJECT_HEADER; i < nr_words; i++) {
        object[i] = mark + i;
    }
    return (uintptr_t)object;
}

static uint64_t read_object(struct trader *t, uint64_t thing)
{
    const uint64_t *object = (const uint64_t *)(uintptr_t)thing;
    uint64_t mark = object[0];

    if (object[1] < OBJECT_HEADER || object[1] > OBJECT_MAX / WORD) {
        trade_wrong(t, thing, OBJECT_HEADER, object[1]);
        return mark;
    }
    for (uint64_t i = OBJECT_HEADER; i < object[1]; i++) {
        if (object[i] != mark + i) {
            trade_wrong(t, thing, mark + i, object[i]);
            break;
        }
    }
    return mark;
}

static uint64_t take_from_cache(struct trader *t, uint64_t mark)
{
    struct mm_cache *cache = t->trade->ctx;
    return mark_object(mm_cache_alloc(cache), OBJECT_SIZE / WORD, mark);
}

static void give_to_cache(struct trader *t, uint64_t thing)
{
    mm_cache_free(t->trade->ctx, (void *)(uintptr_t)thing);
}

// Mostly small; what is above 8 KiB is a run of pages.
static uint64_t take_from_heap(struct trader *t, uint64_t mark)
{
    struct mm_heap *heap = t->trade->ctx;
    uint64_t step = mark >> 24;
    uint64_t most = step % 16 == 0 ? OBJECT_MAX : 400;
    uint64_t nr_words = OBJECT_HEADER + step * 37 % (most / WORD - OBJECT_HEADER + 1);

    return mark_object(mm_heap_alloc(heap, nr_words * WORD), nr_words, mark);
}

static void give_to_heap(struct trader *t, uint64_t thing)
{
    mm_heap_free(t->trade->ctx, (void *)(uintptr_t)thing);
}

static void check_cache(struct memory *m)
{
    static struct mm_cache cache;
    const struct mm_cache_config config = {.name = "traded", .size = OBJECT_SIZE};
    const struct trade trade = {
        .name = "objects",
        .ctx = &cache,
        .nr_steps = OBJECT_STEPS,
        .seed = UINT64_C(0x6f626a65637473),
        .take = take_from_cache,
        .read = read_object,
        .give = give_to_cache,
    };

    must(mm_cache_init(&cache, &m->pool, &config), "a cache");
    struct trade_result result = trade_run(&trade);
    CHECK("objects of a cache are one processor's at a time",
          good(&result) && result.nr_refused == 0);
    CHECK("the cache is well formed and empty",
          mm_cache_check(&cache) == MM_OK && mm_cache_destroy(&cache) == MM_OK);
}

static void check_heap(struct memory *m)
{
    const struct trade trade = {
        .name = "heap",
        .ctx = &m->heap,
        .nr_steps = OBJECT_STEPS,
        .seed = UINT64_C(0x68656170),
        .take = take_from_heap,
        .read = read_object,
        .give = give_to_heap,
    };
    struct mm_heap_stats stats = {0};

    struct trade_result result = trade_run(&trade);
    CHECK("objects of the heap are one processor's at a time",
          good(&result) && result.nr_refused == 0);
    (void)mm_heap_reclaim(&m->heap);
    CHECK("the heap is well formed and empty",
          mm_heap_check(&m->heap) == MM_OK && mm_heap_get_stats(&m->heap, &stats) == MM_OK &&
              stats.nr_objects == 0 && stats.slab_bytes == 0 && stats.run_bytes == 0);
}

void checks_smp(struct memory *m)
{
    check_theme("all processors");
    check_views(m);
    check_frames(m);
    checks_nodes_together(m);
    check_collisions(m);
    check_references(m);
    check_cache(m);
    check_heap(m);
    CHECK("the frame allocator's state agrees with itself", mm_frame_check(&m->frames) == MM_OK);
}
