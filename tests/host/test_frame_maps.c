// SPDX-License-Identifier: MIT
/**
 * Hazards 1 and 3 at the frame allocator: over the maps of real machines, and over maps that no
 * sane firmware makes, it owns exactly the frames that are usable in every entry, hands out each of
 * them once, and keeps its own metadata only where memory is mapped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "e820_file.h"
#include "e820_synth.h"
#include "frame_rig.h"
#include "model_bootmap.h"
#include "prng.h"
#include "sim_ram.h"

#define MEMORY_END (UINT64_C(1) << 52)
#define TAKEN_MAX  (MM_TEST_SANITIZED ? UINT64_C(1) << 17 : UINT64_MAX) /* frames, one by one */
#define MAPS       (MM_TEST_SANITIZED ? 60 : 400)

struct world {
    struct mm_boot_entry entries[MM_BOOTMAP_CAPACITY(T_E820_ENTRIES_MAX + 1)];
    struct mm_bootmap map;
    struct mm_frames frames;
    struct t_mboot usable;
    void *metadata;
    uint64_t metadata_len;
};

static struct mm_platform quiet(void)
{
    return t_platform();
}

static void read_map(struct world *w, const struct t_memory *entries, size_t nr)
{
    memset(w, 0, sizeof(*w));
    assert_int_equal(mm_bootmap_init(&w->map, w->entries, MM_BOOTMAP_CAPACITY(512)), MM_OK);
    for (size_t i = 0; i < nr; i++) {
        uint64_t len = entries[i].len;

        if (!mm_range_fits(entries[i].start, len)) {
            len = 0 - entries[i].start; /* the model cuts it at 2^64 */
        }
        assert_int_equal(mm_bootmap_add(&w->map, mm_prange(mm_paddr(entries[i].start), len),
                                        entries[i].usable ? MM_BOOT_USABLE : MM_BOOT_RESERVED),
                         MM_OK);
    }
    t_mboot_init(&w->usable, entries, nr, MEMORY_END, 4096);
}

static struct mm_frame_stats stats_of(const struct world *w)
{
    struct mm_frame_stats stats;

    assert_int_equal(mm_frame_get_stats(&w->frames, &stats), MM_OK);
    return stats;
}

/* At both edges of every run: what is in is managed, what is out is not. */
static void check_edges(const struct world *w, struct mm_prange without)
{
    for (size_t i = 0; i < w->usable.nr; i++) {
        uint64_t first = w->usable.runs[i].first;
        uint64_t last = first + w->usable.runs[i].nr - 1;
        const uint64_t frames[] = {first - 1, first, first + (last - first) / 2, last, last + 1};

        for (size_t j = 0; j < sizeof(frames) / sizeof(frames[0]); j++) {
            mm_pfn_t pfn = {frames[j]};
            bool usable = t_mboot_covers(&w->usable, pfn.raw, 1) &&
                          !mm_prange_contains(without, mm_pfn_addr(pfn));

            assert_int_equal(mm_frame_managed(&w->frames, pfn), usable);
        }
    }
}

/* Take everything, in bulk and one by one: no byte that is not usable, no frame twice. */
static void take_everything(struct world *w, struct mm_prange without)
{
    static mm_pfn_t list[4096];
    uint64_t zero = mm_frame_managed(&w->frames, mm_pfn(0)) ? 1 : 0;
    uint64_t left = stats_of(w).nr_free;
    uint64_t taken = 0;
    mm_status_t status = MM_OK;

    while (status == MM_OK) {
        size_t nr = 0;

        status = mm_frame_alloc_bulk(&w->frames, 0, list, sizeof(list) / sizeof(list[0]), &nr);
        for (size_t i = 0; i < nr; i += 1) {
            size_t run = 1;

            while (i + run < nr && list[i + run].raw == list[i].raw + run) {
                run++;
            }
            assert_true(t_mboot_covers(&w->usable, list[i].raw, run));
            assert_false(
                mm_prange_overlaps(without, mm_prange(mm_pfn_addr(list[i]), run << MM_PAGE_SHIFT)));
            i += run - 1;
        }
        taken += nr;
    }
    assert_int_equal(status, MM_ERR_NO_MEMORY);
    assert_int_equal(taken + zero, left);
    assert_int_equal(stats_of(w).nr_free, zero);
}

static void check_world(struct world *w, struct mm_prange without)
{
    struct mm_frame_stats stats = stats_of(w);

    assert_int_equal(stats.nr_frames, t_mboot_count(&w->usable) - without.len / 4096);
    assert_int_equal(stats.nr_free, stats.nr_frames);
    assert_int_equal(mm_frame_check(&w->frames), MM_OK);
    check_edges(w, without);
    if (stats.nr_frames <= TAKEN_MAX) {
        take_everything(w, without);
    }
    assert_int_equal(mm_frame_check(&w->frames), MM_OK);
}

/* Metadata apart; false if the map is too large for the host, or empty. */
static bool run_apart(struct world *w)
{
    struct mm_frames_config config = {
        .map = &w->map, .platform = quiet(), .nr_cpus = 2, .flags = 0};
    mm_status_t status = mm_frame_metadata_size(
        &(struct mm_frames_config){.map = &w->map, .nr_cpus = 2, .flags = 0}, &w->metadata_len);

    if (t_mboot_count(&w->usable) == 0) {
        assert_int_equal(status, MM_ERR_NO_MEMORY);
        return false;
    }
    assert_int_equal(status, MM_OK);
    assert_true(w->metadata_len < t_mboot_count(&w->usable) / 7 + w->usable.nr * 256 + 4096);
    if (w->metadata_len > 32 * MIB) {
        return false;
    }
    w->metadata = aligned_alloc(MM_CACHE_LINE, w->metadata_len);
    memset(w->metadata, 0, w->metadata_len);
    config.metadata = w->metadata;
    config.metadata_len = w->metadata_len;
    assert_int_equal(mm_frame_init(&w->frames, &config), MM_OK);
    check_world(w, mm_prange(mm_paddr(0), 0));
    assert_int_equal(mm_frame_destroy(&w->frames), MM_OK);
    free(w->metadata);
    return true;
}

/* Metadata out of the map, with the first 4 GiB mapped: all else traps. */
static bool run_carved(struct world *w)
{
    struct mm_prange mapped = mm_prange(mm_paddr(0), 4 * GIB);
    struct mm_prange carved = mm_prange(mm_paddr(0), 0);
    struct t_ram *ram = t_ram_new(0, mapped.len);
    struct mm_physmap physmap;
    struct mm_frames_config config = {
        .map = &w->map, .physmap = &physmap, .platform = quiet(), .nr_cpus = 2};
    mm_status_t status;

    assert_non_null(ram);
    for (size_t i = 0; i < w->usable.nr; i++) {
        uint64_t start = w->usable.runs[i].first * 4096;
        uint64_t len = w->usable.runs[i].nr * 4096;

        if (start < mapped.len) {
            t_ram_back(ram, start, len < mapped.len - start ? len : mapped.len - start);
        }
    }
    physmap = mm_physmap_direct(t_ram_base(ram));
    status = mm_frame_init_from_map(&w->frames, &config, mapped);
    if (status == MM_OK) {
        assert_int_equal(mm_bootmap_next(&w->map, MM_BOOT_METADATA, mm_paddr(0), &carved), MM_OK);
        assert_true(mm_prange_covers(mapped, carved));
        assert_true(t_mboot_covers(&w->usable, carved.start.raw / 4096, carved.len / 4096));
        check_world(w, carved);
        assert_int_equal(mm_frame_destroy(&w->frames), MM_OK);
    } else {
        assert_int_equal(status, MM_ERR_NO_MEMORY);
        assert_int_equal(mm_bootmap_usable_bytes(&w->map), t_mboot_count(&w->usable) * 4096);
    }
    t_ram_delete(ram);
    return status == MM_OK;
}

static void real_machines(void **state)
{
    static struct t_e820_files files;
    static struct t_e820_map map;
    static struct world w;
    unsigned apart = 0;
    unsigned carved = 0;

    (void)state;
    t_e820_list(&files);
    for (size_t i = 0; i < files.nr; i++) {
        t_e820_read(files.name[i], &map);
        read_map(&w, map.entries, map.nr);
        apart += run_apart(&w) ? 1 : 0;
        carved += run_carved(&w) ? 1 : 0;
        t_mboot_destroy(&w.usable);
    }
    /* Each of them has memory below 4 GiB. */
    assert_int_equal(carved, files.nr);
    assert_true(apart * 2 > files.nr);
}

static void impossible_machines(void **state)
{
    static struct t_memory entries[128];
    static struct world w;
    struct t_prng prng;
    unsigned apart = 0;
    unsigned carved = 0;

    (void)state;
    t_prng_start(&prng, "frame_maps");
    for (unsigned i = 0; i < MAPS; i++) {
        size_t nr = (size_t)t_prng_range(&prng, 1, 128);
        unsigned flags = (unsigned)t_prng_below(&prng, T_SYNTH_ALL + 1);

        t_synth(&prng, flags, t_prng_range(&prng, 1 * MIB, 64 * MIB) * (1 + i % 50), entries, nr);
        read_map(&w, entries, nr);
        apart += run_apart(&w) ? 1 : 0;
        /* What fits the host only on paper is not brought up. */
        if (t_mboot_count(&w.usable) < 4 * GIB / 4096) {
            carved += run_carved(&w) ? 1 : 0;
        }
        t_mboot_destroy(&w.usable);
    }
    print_message("of %u maps, %u apart, %u carved\n", (unsigned)MAPS, apart, carved);
    assert_true(apart > MAPS / 4);
    assert_true(carved > MAPS / 8);
}

/* 8 GiB are a word of the summary's summary: a search goes over words that are empty, and finds what
 * lies below. */
static void words_without_a_frame(void **state)
{
    static const uint64_t wide[] = {16 * MIB, 30 * GIB, 0, 0};
    const uint64_t low = 9 * GIB / 4096;
    const uint64_t nr = (30 * GIB + 16 * MIB) / 4096 - low;
    struct rig rig;
    mm_pfn_t pfn;

    (void)state;
    rig_start(&rig, wide, 1, 0);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(low), nr), MM_OK);
    for (uint32_t order = 0; order <= 10; order++) {
        pfn = rig_alloc(&rig, order);
        assert_true(pfn.raw < low && pfn.raw >= 4 * GIB / 4096);
        mm_frame_free(&rig.frames, pfn, order);
    }
    mm_frame_free_run(&rig.frames, mm_pfn(low), nr);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_machines),
        cmocka_unit_test(impossible_machines),
        cmocka_unit_test(words_without_a_frame),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
