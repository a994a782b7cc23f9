// SPDX-License-Identifier: MIT
/**
 * What the tests of spaces share: a machine with a manager on it, and user code as the simulated
 * CPU runs it, with its faults handled as a kernel would.
 */
#ifndef SPACE_FIXTURE_H
#define SPACE_FIXTURE_H

#include "check.h"
#include "hash.h"
#include "machine_mm.h"
#include "prng.h"
#include "trap_mm.h"

#include <mm/space.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PAGE      UINT64_C(4096)
#define RW        (MM_PROT_READ | MM_PROT_WRITE)
#define RX        (MM_PROT_READ | MM_PROT_EXEC)
#define RWX       (MM_PROT_READ | MM_PROT_WRITE | MM_PROT_EXEC)
#define USER_LAST (T_USER_LEN - PAGE) /* the last page of the user range: never mapped */

struct fixture {
    struct t_machine m;
    struct mm_spaces spaces;
    struct mm_kva kva; /* if a test has made one */
    uint64_t free_at_start;
    enum mm_fault_result last; /* of the fault before */
    unsigned nr_faults;
};

static inline struct mm_spaces_config fixture_config(struct fixture *f)
{
    struct mm_spaces_config config = {.frames = &f->m.frames,
                                      .physmap = &f->m.physmap,
                                      .kernel = &f->m.kernel,
                                      .pool = &f->m.pool,
                                      .platform = f->m.platform,
                                      .commit = MM_COMMIT_ALWAYS,
                                      .kernel_range =
                                          mm_vrange(mm_vaddr(T_ARENA), T_ARENA_LEN / 2)};

    return config;
}

/* The machine alone. */
static inline struct fixture *fixture_machine(const struct t_machine_config *machine)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    t_machine_start(&f->m, machine);
    f->free_at_start = t_machine_free_frames(&f->m);
    return f;
}

/* With an arena in the upper half of the kernel's range, whose devices the manager knows. */
static inline struct fixture *fixture_start_with_arena(const struct t_machine_config *machine)
{
    struct fixture *f = fixture_machine(machine);
    struct mm_spaces_config config = fixture_config(f);
    const struct mm_kva_config kva = {
        .kernel = &f->m.kernel,
        .frames = &f->m.frames,
        .physmap = &f->m.physmap,
        .pool = &f->m.pool,
        .platform = f->m.platform,
        .range = mm_vrange(mm_vaddr(T_ARENA + T_ARENA_LEN / 2), T_ARENA_LEN / 2)};

    assert_int_equal(mm_kva_init(&f->kva, &kva), MM_OK);
    config.kva = &f->kva;
    assert_int_equal(mm_spaces_init(&f->spaces, &config), MM_OK);
    return f;
}

/* With a manager that promises memory so. */
static inline struct fixture *fixture_start_promising(const struct t_machine_config *machine,
                                                      enum mm_commit commit, uint64_t commit_pages)
{
    struct fixture *f = fixture_machine(machine);
    struct mm_spaces_config config = fixture_config(f);

    config.commit = commit;
    config.commit_pages = commit_pages;
    assert_int_equal(mm_spaces_init(&f->spaces, &config), MM_OK);
    return f;
}

static inline struct fixture *fixture_start(const struct t_machine_config *machine)
{
    return fixture_start_promising(machine, MM_COMMIT_ALWAYS, 0);
}

/*
 * Nothing cached disagrees with the tables: to be asked when no gather is open. A CPU that fills its
 * TLB by itself may do so between a fault's flush and the right that the fault gives: then it has a
 * right too few, which is a spurious fault.
 */
static inline void nothing_stale(struct fixture *f)
{
    const char *wrong =
        t_cpus_sweep(&f->m.cpus, f->m.cpus.noise == 0 ? T_SWEEP_SAME : T_SWEEP_SAFE);

    if (wrong != NULL) {
        fail_msg("%s", wrong);
    }
}

static inline void fixture_stop(struct fixture *f)
{
    nothing_stale(f);
    for (f->m.cpus.now = f->m.cpus.nr; f->m.cpus.now-- > 0;) {
        assert_int_equal(mm_paging_activate(&f->m.kernel), MM_OK);
    }
    f->m.cpus.now = 0;
    assert_int_equal(mm_spaces_check(&f->spaces), MM_OK);
    assert_int_equal(mm_spaces_destroy(&f->spaces), MM_OK);
    if (f->kva.magic != 0) {
        assert_int_equal(mm_kva_check(&f->kva), MM_OK);
        assert_int_equal(mm_kva_destroy(&f->kva), MM_OK);
    }
    assert_int_equal(t_machine_free_frames(&f->m), f->free_at_start);
    t_machine_stop(&f->m);
    free(f);
}

static inline struct mm_space *new_space(struct fixture *f)
{
    struct mm_space *space = NULL;

    assert_int_equal(mm_space_create(&f->spaces, &space), MM_OK);
    assert_non_null(space);
    return space;
}

static inline struct mm_space *clone_of(struct mm_space *space)
{
    struct mm_space *child = NULL;

    assert_int_equal(mm_space_clone(space, &child), MM_OK);
    assert_non_null(child);
    return child;
}

static inline bool runs(const struct fixture *f, unsigned cpu, struct mm_space *space)
{
    return f->m.cpus.cpu[cpu].mmu.cr3 == mm_paging_root(mm_space_table(space)).raw;
}

/*
 * A call on a space is made by a CPU that is in it, if any is: the backend flushes nothing for
 * a root that is not the running CPU's (sim_cpu_mm.h). So each helper below begins with this.
 */
static inline void run_in(struct fixture *f, struct mm_space *space)
{
    for (unsigned i = 0; i < f->m.cpus.nr && !runs(f, f->m.cpus.now, space); i++) {
        if (runs(f, i, space)) {
            f->m.cpus.now = i;
        }
    }
}

/* Put a space that CPUs may be in. */
static inline void put_last(struct fixture *f, struct mm_space *space)
{
    for (unsigned i = 0; i < f->m.cpus.nr; i++) {
        if (i == 0 || runs(f, i, space)) {
            f->m.cpus.now = i;
            assert_int_equal(mm_paging_activate(&f->m.kernel), MM_OK);
        }
    }
    assert_true(mm_space_put(space));
}

static inline mm_status_t map_at(struct mm_space *space, uint64_t at, uint64_t len, mm_prot_t prot,
                                 uint32_t flags)
{
    struct mm_space_request request = {
        .at = mm_vaddr(at), .len = len, .prot = prot, .flags = flags | MM_SPACE_FIXED};
    mm_vaddr_t out = {7};
    mm_status_t status = mm_space_map(space, &request, &out);

    assert_int_equal(out.raw, status == MM_OK ? at : 7);
    return status;
}

static inline mm_status_t unmap(struct mm_space *space, uint64_t at, uint64_t len)
{
    return mm_space_unmap(space, mm_vrange(mm_vaddr(at), len));
}

static inline mm_status_t protect(struct mm_space *space, uint64_t at, uint64_t len, mm_prot_t prot)
{
    return mm_space_protect(space, mm_vrange(mm_vaddr(at), len), prot);
}

/*
 * An access by user code that runs in the space, on the CPU that is running. Faults are handled
 * until the access succeeds or a signal would be sent; one that comes again and again fails the
 * test.
 */
static inline bool touch(struct fixture *f, struct mm_space *space, uint64_t at, unsigned access,
                         uint64_t **ptr)
{
    struct t_cpu *cpu = &f->m.cpus.cpu[f->m.cpus.now];
    uint64_t paddr;
    uint32_t error;

    if (cpu->mmu.cr3 != mm_paging_root(mm_space_table(space)).raw) {
        assert_int_equal(mm_space_activate(space), MM_OK);
    }
    f->nr_faults = 0;
    while ((error = t_cpu_access(cpu, at, access, &paddr)) != T_CPU_DONE) {
        struct mm_fault fault = mm_x86_64_fault(error, at);

        assert_in_range(f->nr_faults, 0, 2);
        f->nr_faults++;
        assert_int_equal(mm_space_fault(space, &fault, &f->last), MM_OK);
        if (!mm_fault_resolved(f->last)) {
            return false;
        }
    }
    *ptr = t_machine_ptr(&f->m, paddr);
    return true;
}

static inline bool store(struct fixture *f, struct mm_space *space, uint64_t at, uint64_t value)
{
    uint64_t *p;

    if (!touch(f, space, at, T_MMU_USER | T_MMU_WRITE, &p)) {
        return false;
    }
    *p = value;
    return true;
}

static inline bool load(struct fixture *f, struct mm_space *space, uint64_t at, uint64_t *value)
{
    uint64_t *p;

    if (!touch(f, space, at, T_MMU_USER, &p)) {
        return false;
    }
    *value = *p;
    return true;
}

static inline bool fetch(struct fixture *f, struct mm_space *space, uint64_t at)
{
    uint64_t *p;

    return touch(f, space, at, T_MMU_USER | T_MMU_FETCH, &p);
}

/* The value that user code reads; the test fails if it can't. */
static inline uint64_t loaded(struct fixture *f, struct mm_space *space, uint64_t at)
{
    uint64_t value = 0;

    assert_true(load(f, space, at, &value));
    return value;
}

/* The frame at a page, 0 if there is none. */
static inline uint64_t frame_at(struct mm_space *space, uint64_t at)
{
    struct mm_mapping mapping;

    return mm_paging_translate(mm_space_table(space), mm_vaddr(at), &mapping) == MM_OK
               ? (mapping.paddr.raw + (at - mapping.page.start.raw)) >> 12
               : 0;
}

static inline uint64_t nr_regions(struct mm_space *space)
{
    struct mm_space_stats stats;

    assert_int_equal(mm_space_get_stats(space, &stats), MM_OK);
    return stats.nr_regions;
}

static inline uint64_t resident(struct mm_space *space)
{
    struct mm_space_stats stats;

    assert_int_equal(mm_space_get_stats(space, &stats), MM_OK);
    return stats.resident_bytes;
}

struct space_hash {
    struct fixture *f;
    uint64_t hash;
};

static inline bool hash_leaf(void *ctx, const struct mm_mapping *leaf)
{
    struct space_hash *h = ctx;
    uint64_t frame = leaf->paddr.raw >> 12;

    h->hash = t_hash_u64(h->hash, leaf->page.start.raw);
    h->hash = t_hash_u64(h->hash, leaf->page.len);
    h->hash = t_hash_u64(h->hash, leaf->paddr.raw);
    h->hash = t_hash_u64(h->hash, leaf->prot);
    h->hash = t_hash_u64(h->hash, (uint64_t)leaf->type);
    if (mm_frame_managed(&h->f->m.frames, mm_pfn(frame))) {
        h->hash = t_hash_u64(h->hash, mm_frame_refs(&h->f->m.frames, mm_pfn(frame)));
        h->hash = t_hash_more(h->hash, t_machine_ptr(&h->f->m, frame << 12), PAGE);
    }
    return true;
}

/* Devices that are claimed, by anybody. */
static inline uint64_t nr_claims(const struct fixture *f, mm_memtype_t type)
{
    const struct mm_kva_devices *devices =
        f->spaces.kva != NULL ? &f->kva.devices : &f->spaces.own_devices;

    return devices->by_type[type].nr;
}

/* Spaces, regions, buckets and claims that are allocated. */
static inline uint64_t nr_nodes(const struct fixture *f)
{
    const struct mm_cache *caches[] = {&f->spaces.space_cache, &f->spaces.region_cache,
                                       &f->spaces.bucket_cache, &f->spaces.claim_cache};
    struct mm_cache_stats stats;
    uint64_t nr = 0;

    for (unsigned i = 0; i < sizeof(caches) / sizeof(caches[0]); i++) {
        assert_int_equal(mm_cache_get_stats(caches[i], &stats), MM_OK);
        nr += stats.nr_objects;
    }
    return nr;
}

/* All that a failing call may not change: regions, leaves, counts, contents, tables, claims, nodes,
 * free frames. */
static inline uint64_t state_hash(struct fixture *f, struct mm_space *space)
{
    struct space_hash h = {f, T_HASH_START};
    struct mm_space_stats stats;
    struct mm_region_info info;
    struct mm_vrange all = mm_space_range(space);

    for (mm_vaddr_t at = {0}; mm_space_next(space, at, &info) == MM_OK;
         at = mm_vaddr(info.range.start.raw + info.range.len)) {
        h.hash = t_hash_u64(h.hash, info.range.start.raw);
        h.hash = t_hash_u64(h.hash, info.range.len);
        h.hash = t_hash_u64(h.hash, info.prot);
        h.hash = t_hash_u64(h.hash, info.flags);
        h.hash = t_hash_u64(h.hash, info.tag);
        h.hash = t_hash_u64(h.hash, (uint64_t)info.kind << 8 | (uint64_t)info.type);
        h.hash = t_hash_u64(h.hash, info.offset);
    }
    for (unsigned type = 0; type < MM_MEMTYPE_COUNT; type++) {
        h.hash = t_hash_u64(h.hash, nr_claims(f, (mm_memtype_t)type));
    }
    assert_int_equal(mm_paging_walk(mm_space_table(space), all, hash_leaf, &h), MM_OK);
    assert_int_equal(mm_space_get_stats(space, &stats), MM_OK);
    h.hash = t_hash_u64(h.hash, stats.mapped_bytes);
    h.hash = t_hash_u64(h.hash, stats.resident_bytes);
    h.hash = t_hash_u64(h.hash, stats.device_bytes);
    h.hash = t_hash_u64(h.hash, stats.nr_regions);
    h.hash = t_hash_u64(h.hash, stats.nr_tables);
    h.hash = t_hash_u64(h.hash, stats.committed_bytes);
    h.hash = t_hash_u64(h.hash, stats.refs);
    h.hash = t_hash_u64(h.hash, t_machine_free_frames(&f->m));
    h.hash = t_hash_u64(h.hash, nr_nodes(f));
    return t_hash_finish(h.hash);
}

#endif
