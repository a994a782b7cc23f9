// SPDX-License-Identifier: MIT
/**
 * What the frame allocator keeps or does beside the bitmap: reference counts, owners, zeroing, the
 * frame source, and the check of it all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/frame/state.h"
#include "frame_rig.h"
#include "sim_ram.h"

/* Memory as on a small PC, and some above 4 GiB that begins and ends inside of 2 MiB. */
static const uint64_t machine[] = {0,       636 * KIB, 1 * MIB, 30 * MIB, 4 * GIB + 20 * KIB,
                                   9 * MIB, 0,         0};

/* --- references and owners ------------------------------------------------------------------- */

static void references(void **state)
{
    struct rig rig;
    mm_pfn_t pfn;

    (void)state;
    rig_start(&rig, machine, 1, MM_FRAMES_REFCOUNTS);
    pfn = rig_alloc(&rig, 0);
    assert_int_equal(mm_frame_refs(&rig.frames, pfn), 1);
    mm_frame_get(&rig.frames, pfn);
    mm_frame_get(&rig.frames, pfn);
    assert_int_equal(mm_frame_refs(&rig.frames, pfn), 3);
    assert_false(mm_frame_put(&rig.frames, pfn));
    assert_false(mm_frame_put(&rig.frames, pfn));
    assert_int_equal(mm_frame_refs(&rig.frames, pfn), 1);
    assert_true(mm_frame_allocated(&rig.frames, pfn));
    assert_true(mm_frame_put(&rig.frames, pfn));
    assert_false(mm_frame_allocated(&rig.frames, pfn));
    assert_int_equal(mm_frame_refs(&rig.frames, pfn), 0);
    assert_int_equal(mm_frame_refs(&rig.frames, mm_pfn(200)), 0);
    assert_int_equal(mm_frame_refs(&rig.frames, mm_pfn(UINT64_MAX)), 0);
    rig_stop(&rig);

    /* Without counts a frame has one reference. */
    rig_start(&rig, machine, 1, 0);
    pfn = rig_alloc(&rig, 0);
    assert_int_equal(mm_frame_refs(&rig.frames, pfn), 1);
    assert_true(mm_frame_put(&rig.frames, pfn));
    rig_stop(&rig);
}

static void owners(void **state)
{
    struct rig rig;
    mm_pfn_t pfn[MM_OWNER_COUNT];
    struct mm_frame_stats stats;

    (void)state;
    rig_start(&rig, machine, 1, MM_FRAMES_OWNERS);
    for (uint32_t owner = 0; owner < MM_OWNER_COUNT; owner++) {
        struct mm_frame_request request = {.nr_frames = 1 + owner, .owner = owner};

        assert_int_equal(mm_frame_alloc(&rig.frames, &request, &pfn[owner]), MM_OK);
    }
    assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(0), 2), MM_OK);
    stats = rig_stats(&rig);
    assert_int_equal(stats.nr_by_owner[MM_OWNER_NONE], 3);
    for (uint32_t owner = 1; owner < MM_OWNER_COUNT; owner++) {
        assert_int_equal(stats.nr_by_owner[owner], 1 + owner);
    }
    mm_frame_free_run(&rig.frames, mm_pfn(0), 2);
    for (uint32_t owner = 0; owner < MM_OWNER_COUNT; owner++) {
        mm_frame_free_run(&rig.frames, pfn[owner], 1 + owner);
    }
    rig_check(&rig); /* a free frame has no owner */
    rig_stop(&rig);

    rig_start(&rig, machine, 1, 0);
    (void)rig_alloc(&rig, 0);
    assert_int_equal(rig_stats(&rig).nr_by_owner[MM_OWNER_NONE], 0);
    rig_stop(&rig);
}

/* --- zeroing --------------------------------------------------------------------------------- */

static bool is_zero(const struct t_ram *ram, mm_pfn_t pfn, uint64_t nr)
{
    static const unsigned char zero[4096];

    for (uint64_t i = 0; i < nr; i++) {
        if (memcmp(t_ram_ptr(ram, (pfn.raw + i) * 4096), zero, 4096) != 0) {
            return false;
        }
    }
    return true;
}

static void zeroed_through_direct_map(void **state)
{
    struct rig rig;
    struct t_ram *ram = t_ram_new(0, 5 * GIB);
    struct mm_physmap physmap;
    mm_pfn_t pfn;

    (void)state;
    assert_non_null(ram);
    for (const uint64_t *range = machine; range[1] != 0; range += 2) {
        t_ram_back(ram, range[0], range[1]);
        t_ram_junk(ram, range[0], range[1], 3);
    }
    physmap = mm_physmap_direct(t_ram_base(ram));
    rig_map(&rig, machine);
    rig_config(&rig, 1, 0);
    rig.config.physmap = &physmap;
    assert_int_equal(mm_frame_init(&rig.frames, &rig.config), MM_OK);
    for (uint32_t order = 0; order <= 10; order++) {
        struct mm_frame_request request = {.order = order, .flags = MM_FRAME_ZERO};

        assert_int_equal(mm_frame_alloc(&rig.frames, &request, &pfn), MM_OK);
        assert_true(is_zero(ram, pfn, UINT64_C(1) << order));
    }
    /* What is not asked to be zeroed is not touched. */
    pfn = rig_alloc(&rig, 0);
    assert_false(is_zero(ram, pfn, 1));
    rig_stop(&rig);
    t_ram_delete(ram);
}

/* A direct map of a part of memory: zeroed frames come from there. */
static void zeroed_within_reach(void **state)
{
    struct rig rig;
    struct t_ram *ram = t_ram_new(0, 5 * GIB);
    struct mm_physmap physmap;
    struct mm_frame_request request = {.flags = MM_FRAME_ZERO};
    uint64_t nr = 0;
    mm_pfn_t pfn;

    (void)state;
    assert_non_null(ram);
    t_ram_back(ram, 2 * MIB + 4096, 1 * MIB);
    physmap = mm_physmap_direct(t_ram_base(ram));
    physmap.first = mm_paddr(2 * MIB + 1);
    physmap.len = 1 * MIB + 4096;
    rig_map(&rig, machine);
    rig_config(&rig, 1, 0);
    rig.config.physmap = &physmap;
    assert_int_equal(mm_frame_init(&rig.frames, &rig.config), MM_OK);
    while (mm_frame_alloc(&rig.frames, &request, &pfn) == MM_OK) {
        nr++;
    }
    assert_int_equal(nr, 256);
    assert_true(rig_alloc(&rig, 0).raw >= 4 * GIB / 4096);
    rig_stop(&rig);
    t_ram_delete(ram);
}

/* Ops that map one frame at a time, and fail when `left` runs out. */
struct window {
    struct t_ram *ram;
    unsigned left;
    unsigned mapped;
};

static void *window_map(void *ctx, mm_pfn_t frame)
{
    struct window *w = ctx;

    if (w->left == 0) {
        return NULL;
    }
    w->left--;
    w->mapped++;
    return t_ram_ptr(w->ram, frame.raw * 4096);
}

static void window_unmap(void *ctx, void *mapped)
{
    (void)mapped;
    ((struct window *)ctx)->mapped--;
}

static void zeroed_through_ops(void **state)
{
    static const struct mm_physmap_ops ops = {window_map, window_unmap};
    struct rig rig;
    struct window window = {.ram = t_ram_new(0, 5 * GIB)};
    struct mm_physmap physmap = {.ops = &ops, .ctx = &window};
    mm_pfn_t pfn = {77};

    (void)state;
    assert_non_null(window.ram);
    for (const uint64_t *range = machine; range[1] != 0; range += 2) {
        t_ram_back(window.ram, range[0], range[1]);
        t_ram_junk(window.ram, range[0], range[1], 3);
    }
    rig_map(&rig, machine);
    rig_config(&rig, 1, RIG_RECORDS);
    rig.config.physmap = &physmap;
    assert_int_equal(mm_frame_init(&rig.frames, &rig.config), MM_OK);
    for (uint32_t order = 0; order <= 10; order += 2) {
        struct mm_frame_request request = {
            .order = order, .flags = MM_FRAME_ZERO, .owner = MM_OWNER_HEAP};

        for (unsigned left = 0; left < 1u << order; left = 2 * left + 1) {
            window.left = left;
            pfn.raw = 77;
            assert_int_equal(mm_frame_alloc(&rig.frames, &request, &pfn), MM_ERR_FAULT);
            assert_int_equal(pfn.raw, 77);
            assert_int_equal(window.mapped, 0);
            assert_int_equal(rig_stats(&rig).nr_allocated, 0);
            rig_check(&rig);
        }
        window.left = 1u << order;
        assert_int_equal(mm_frame_alloc(&rig.frames, &request, &pfn), MM_OK);
        assert_int_equal(window.mapped, 0);
        assert_true(is_zero(window.ram, pfn, UINT64_C(1) << order));
        mm_frame_free(&rig.frames, pfn, order);
    }
    rig_stop(&rig);
    t_ram_delete(window.ram);
}

/* --- the source ------------------------------------------------------------------------------ */

static void frame_source(void **state)
{
    struct rig rig;
    struct mm_frame_source source;
    mm_pfn_t pfn = {77};
    mm_pfn_t other;

    (void)state;
    rig_start(&rig, machine, 1, RIG_RECORDS);
    source = mm_frame_source_of(&rig.frames);
    assert_int_equal(source.ops->alloc(source.ctx, MM_OWNER_PAGE_TABLE, true, &pfn),
                     MM_ERR_UNSUPPORTED); /* no physmap */
    assert_int_equal(pfn.raw, 77);
    assert_int_equal(source.ops->alloc(source.ctx, MM_OWNER_PAGE_TABLE, false, &pfn), MM_OK);
    assert_int_equal(source.ops->alloc(source.ctx, MM_OWNER_ANONYMOUS, false, &other), MM_OK);
    assert_int_equal(rig_stats(&rig).nr_by_owner[MM_OWNER_PAGE_TABLE], 1);
    mm_frame_get(&rig.frames, pfn);
    source.ops->free(source.ctx, pfn); /* a reference */
    assert_true(mm_frame_allocated(&rig.frames, pfn));
    source.ops->free(source.ctx, pfn);
    source.ops->free(source.ctx, other);
    assert_int_equal(rig_stats(&rig).nr_allocated, 0);
    rig_stop(&rig);
}

static void frame_window(void **state)
{
    struct rig rig;
    struct mm_frame_window window = {
        .frames = &rig.frames, .lowest = {2 * MIB}, .highest = {2 * MIB + 16 * KIB - 1}};
    struct mm_frame_source source = mm_frame_source_within(&window);
    mm_pfn_t list[5];

    (void)state;
    rig_start(&rig, machine, 1, 0);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(source.ops->alloc(source.ctx, MM_OWNER_PAGE_TABLE, false, &list[i]),
                         MM_OK);
        assert_true(list[i].raw >= 512 && list[i].raw < 516);
    }
    assert_int_equal(source.ops->alloc(source.ctx, MM_OWNER_PAGE_TABLE, false, &list[4]),
                     MM_ERR_NO_MEMORY);
    window.highest.raw = 0;
    assert_int_equal(source.ops->alloc(source.ctx, MM_OWNER_PAGE_TABLE, false, &list[4]), MM_OK);
    for (unsigned i = 0; i < 5; i++) {
        source.ops->free(source.ctx, list[i]);
    }
    assert_int_equal(rig_stats(&rig).nr_allocated, 0);
    rig_stop(&rig);
}

/* --- the check sees what is wrong ------------------------------------------------------------ */

static void check_finds(void **state)
{
    struct rig rig;
    struct mm_frames saved;
    struct mm_frame_request heap = {.owner = MM_OWNER_HEAP};
    unsigned char *metadata;
    uint64_t owned;
    mm_pfn_t pfn;

    (void)state;
    rig_start(&rig, machine, 2, RIG_RECORDS);
    assert_int_equal(mm_frame_alloc(&rig.frames, &heap, &pfn), MM_OK);
    for (owned = 0; rig.frames.tags[owned] == 0;) {
        owned++;
    }
    (void)rig_alloc(&rig, 2);
    rig_check(&rig);
    saved = rig.frames;
    metadata = malloc(rig.config.metadata_len);
    memcpy(metadata, rig.config.metadata, rig.config.metadata_len);

#define FINDS(...)                                                                                 \
    do {                                                                                           \
        __VA_ARGS__;                                                                               \
        rig.nr_complaints = 0;                                                                     \
        assert_int_equal(mm_frame_check(&rig.frames), MM_ERR_CORRUPTED);                           \
        assert_true(rig.nr_complaints > 0);                                                        \
        rig.frames = saved;                                                                        \
        memcpy(rig.config.metadata, metadata, rig.config.metadata_len);                            \
    } while (0)

    FINDS(rig.frames.groups[MMI_HAS_FREE] = 0);
    FINDS(rig.frames.groups[MMI_HAS_FREE] |= UINT64_C(1) << 63);
    FINDS(rig.frames.groups[MMI_WHOLE] = 0);
    FINDS(rig.frames.groups[MMI_WHOLE] |= UINT64_C(1) << 63);
    FINDS(rig.frames.groups[MMI_HINTED] = 0);
    FINDS(rig.frames.groups[MMI_HINTED] |= 1);
    FINDS(rig.frames.groups[MMI_VAIN_BLOCK + 2] |= 1); /* and there are such blocks */
    FINDS(rig.frames.groups[MMI_VAIN_RUN + 2] |= 1);
    FINDS(*mmi_top(&rig.frames, MMI_TOP_HAS_FREE, 0) = 0);
    FINDS(*mmi_top(&rig.frames, MMI_TOP_WHOLE, 0) = 0);
    FINDS(*mmi_top(&rig.frames, MMI_TOP_BARREN, 0) = 1);
    FINDS(rig.frames.rows[0] |= 1); /* frame 0, in the line of frame 1 */
    FINDS(rig.frames.rows[3] |= 1); /* frame 192: a hole */
    FINDS(rig.frames.rows[(rig.frames.nr_lines + 1) * 8] = 1);
    FINDS(rig.frames.refs[5] = 1); /* of a free frame */
    FINDS(rig.frames.tags[5] = 1);
    FINDS(rig.frames.tags[owned] = UINT64_MAX);
    FINDS(rig.frames.unsettled = 1);
    FINDS(rig.frames.nr_lines++);
    FINDS(((struct mm_frame_span *)rig.frames.spans)[1].first++);
    FINDS(((struct mm_frame_span *)rig.frames.spans)[1].node++);
    FINDS(((struct mmi_frame_area *)rig.frames.areas)[0].end_line++);
    FINDS(((uint16_t *)rig.frames.order)[0]++);
    FINDS(((struct mmi_frame_cpu *)rig.frames.cpus)[1].node++);
    FINDS(((uint64_t *)rig.frames.cpus)[0] &= ~MMI_HINT_OWNED); /* a hint gives up its line */
    FINDS(((uint64_t *)rig.frames.cpus)[0] ^=
          7 * sizeof(struct mm_frame_span)); /* ... names another span */
#undef FINDS
    rig.nr_complaints = 0;
    free(metadata);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references),
        cmocka_unit_test(owners),
        cmocka_unit_test(zeroed_through_direct_map),
        cmocka_unit_test(zeroed_within_reach),
        cmocka_unit_test(zeroed_through_ops),
        cmocka_unit_test(frame_source),
        cmocka_unit_test(frame_window),
        cmocka_unit_test(check_finds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
