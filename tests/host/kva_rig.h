// SPDX-License-Identifier: MIT
/**
 * A machine with an arena on it, and what its tests ask again and again. Include after <cmocka.h>.
 */
#ifndef KVA_RIG_H
#define KVA_RIG_H

#include "check.h"
#include "machine_mm.h"
#include "trap_mm.h"

#include <mm/kva.h>

#include <string.h>

#define PAGE MM_PAGE_SIZE
#define MIB  UINT64_C(0x100000)

#define RIG_SCATTER 8192u

struct rig {
    struct t_machine m;
    struct mm_kva kva;
    struct mm_kva_config config;
    uint64_t nr_free_frames;         /**< before the arena */
    mm_pfn_t scattered[RIG_SCATTER]; /**< every second frame, when they are */
    unsigned nr_scattered;
};

static inline uint64_t rig_free_frames(struct rig *r)
{
    return t_machine_free_frames(&r->m);
}

/** What the arena is made with: a test may change it before rig_up(). */
static inline void rig_machine(struct rig *r, const struct t_machine_config *config)
{
    memset(r, 0, sizeof(*r));
    t_machine_start(&r->m, config);
    r->config = (struct mm_kva_config){.kernel = &r->m.kernel,
                                       .frames = &r->m.frames,
                                       .physmap = &r->m.physmap,
                                       .pool = &r->m.pool,
                                       .platform = r->m.platform,
                                       .range = mm_vrange(mm_vaddr(T_ARENA), T_ARENA_LEN)};
    r->nr_free_frames = rig_free_frames(r);
}

static inline void rig_up(struct rig *r)
{
    assert_int_equal(mm_kva_init(&r->kva, &r->config), MM_OK);
    assert_int_equal(mm_kva_check(&r->kva), MM_OK);
}

static inline void rig_start(struct rig *r, unsigned nr_cpus)
{
    const struct t_machine_config config = {.ram_len = 32 * MIB, .nr_cpus = nr_cpus};

    rig_machine(r, &config);
    rig_up(r);
}

static inline void rig_gather_up(struct rig *r)
{
    while (r->nr_scattered > 0) {
        mm_frame_free(&r->m.frames, r->scattered[--r->nr_scattered], 0);
    }
}

/** Everything is given back: the arena, every frame, every page of the pool. */
static inline void rig_stop(struct rig *r)
{
    assert_int_equal(mm_kva_check(&r->kva), MM_OK);
    assert_int_equal(mm_kva_destroy(&r->kva), MM_OK);
    rig_gather_up(r);
    t_machine_leave_frames(&r->m, UINT64_MAX);
    assert_int_equal(rig_free_frames(r), r->nr_free_frames);
    assert_null(t_cpus_sweep(&r->m.cpus, T_SWEEP_SAME));
    assert_int_equal(mm_paging_check(&r->m.kernel), MM_OK);
    t_machine_stop(&r->m);
}

/** No two free frames follow each other. */
static inline void rig_scatter(struct rig *r)
{
    static mm_pfn_t all[RIG_SCATTER];
    unsigned nr = 0;

    while (nr < RIG_SCATTER && mm_frame_alloc(&r->m.frames, NULL, &all[nr]) == MM_OK) {
        nr++;
    }
    assert_true(nr < RIG_SCATTER);
    for (unsigned i = 0; i < nr; i++) {
        if (all[i].raw % 2 == 0) {
            mm_frame_free(&r->m.frames, all[i], 0);
        } else {
            r->scattered[r->nr_scattered++] = all[i];
        }
    }
}

static inline mm_vaddr_t rig_alloc(struct rig *r, uint64_t len)
{
    const struct mm_kva_request request = {.len = len};
    mm_vaddr_t at = {0};

    assert_int_equal(mm_kva_alloc(&r->kva, &request, &at), MM_OK);
    return at;
}

static inline uint32_t rig_touch(struct rig *r, unsigned cpu, uint64_t at)
{
    r->m.cpus.now = cpu;
    return t_cpu_access(&r->m.cpus.cpu[cpu], at, T_MMU_WRITE, NULL);
}

/** All pages can be written, and the ones before and behind cannot be read. */
static inline void rig_has_guards(struct rig *r, uint64_t at, uint64_t len)
{
    for (uint64_t i = 0; i < len; i += PAGE) {
        assert_int_equal(rig_touch(r, 0, at + i), T_CPU_DONE);
    }
    assert_int_not_equal(rig_touch(r, 0, at - 1), T_CPU_DONE);
    assert_int_not_equal(rig_touch(r, 0, at + len), T_CPU_DONE);
}

static inline struct mm_kva_stats rig_stats(struct rig *r)
{
    struct mm_kva_stats stats;

    assert_int_equal(mm_kva_get_stats(&r->kva, &stats), MM_OK);
    return stats;
}

/** A panic of the arena that says this. */
static inline void rig_told(const struct t_trap_info *info, const char *what, const char *recorded)
{
    assert_string_equal(info->room, "kva");
    assert_string_equal(info->what, what);
    assert_string_equal(info->recorded, recorded);
}

#endif
