// SPDX-License-Identifier: MIT
/**
 * A tree of regions beside its model, with nodes and buckets counted one by one: each edit is given
 * what it says that it needs, and no more.
 */
#ifndef SPACE_REGION_FIXTURE_H
#define SPACE_REGION_FIXTURE_H

#include "check.h"
#include "model_regions.h"
#include "trap_mm.h"

#include "core/space/region.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PAGE UINT64_C(4096)

struct fixture {
    struct mmi_regions tree;
    struct t_mregions model;
    struct mmi_region_list nodes;
    struct mm_platform platform;
    uint64_t nr_made;
};

static inline void start(struct fixture *f, uint64_t at, uint64_t len)
{
    memset(f, 0, sizeof(*f));
    f->platform = t_platform();
    mmi_regions_init(&f->tree, mm_vrange(mm_vaddr(at), len));
    t_mregions_init(&f->model, at, len);
}

/* Nodes come one by one from malloc, so that the sanitizer sees a use of one that was given back.
 */
static inline void drain(struct fixture *f)
{
    struct mmi_bucket *bucket;
    struct mmi_region *n;

    while ((bucket = mmi_regions_pop_bucket(&f->tree)) != NULL) {
        free(bucket);
        f->nr_made--;
    }
    while ((n = mmi_region_pop(&f->nodes)) != NULL) {
        free(n);
        f->nr_made--;
    }
}

static inline void have(struct fixture *f, uint64_t nr)
{
    for (drain(f); f->nodes.nr < nr;) {
        struct mmi_region *n = malloc(sizeof(*n));

        assert_non_null(n);
        memset(n, 0xcc, sizeof(*n));
        mmi_region_push(&f->nodes, n);
        f->nr_made++;
    }
    while (f->tree.nr_spare < mmi_regions_need_buckets(&f->tree, nr)) {
        struct mmi_bucket *bucket = malloc(sizeof(*bucket));

        assert_non_null(bucket);
        memset(bucket, 0xcc, sizeof(*bucket));
        mmi_regions_push_bucket(&f->tree, bucket);
        f->nr_made++;
    }
}

static inline bool room(struct fixture *f, uint64_t len, uint64_t align, uint64_t *out)
{
    const struct mmi_place place = {.len = len, .align = align, .highest = UINT64_MAX};

    return mmi_regions_find_place(&f->tree, &place, out);
}

static inline void stop(struct fixture *f)
{
    mmi_regions_remove(&f->tree, mmi_regions_first(&f->tree), f->tree.window.start.raw,
                       f->tree.window.len, &f->nodes);
    assert_int_equal(f->tree.nr, 0);
    assert_int_equal(f->tree.bytes, 0);
    assert_null(f->tree.root);
    drain(f);
    assert_int_equal(f->nr_made, 0);
    t_mregions_destroy(&f->model);
}

/* The model's object is 0 where the offset does not count; all else that must be equal is in its
 * flags. */
static inline struct t_mregion_attr model_attr(const struct mmi_region_attr *attr)
{
    bool counts = (attr->flags & MMI_REGION_OFFSET) != 0;

    return (struct t_mregion_attr){.prot = attr->prot,
                                   .flags = attr->tag << 40 | attr->object << 36 | attr->flags,
                                   .object = counts ? 1 + attr->object : 0,
                                   .offset = counts ? attr->offset : 0};
}

static inline void same_region(const struct mmi_region *n, const struct t_mregion *m)
{
    struct t_mregion_attr attr = model_attr(&n->attr);

    assert_int_equal(n->start, m->start);
    assert_int_equal(n->len, m->len);
    assert_int_equal(attr.prot, m->attr.prot);
    assert_int_equal(attr.flags, m->attr.flags);
    assert_int_equal(attr.object, m->attr.object);
    assert_int_equal(n->attr.offset, m->attr.offset);
}

static inline void same(struct fixture *f)
{
    const struct mmi_region *n = mmi_regions_first(&f->tree);
    const struct mmi_region *before = NULL;
    uint64_t from = f->tree.window.start.raw;
    struct t_mregion m;
    uint64_t nr = 0;

    assert_true(mmi_regions_check(&f->tree, &f->platform));
    for (; n != NULL; n = mmi_region_next(n), nr++) {
        assert_true(t_mregions_next(&f->model, from, &m));
        same_region(n, &m);
        assert_ptr_equal(mmi_region_prev(n), before);
        from = m.start + m.len;
        before = n;
    }
    assert_ptr_equal(mmi_regions_last(&f->tree), before);
    assert_int_equal(nr, f->tree.nr);
    assert_int_equal(nr, t_mregions_count(&f->model));
}

static inline void insert_attr(struct fixture *f, uint64_t at, uint64_t len,
                               const struct mmi_region_attr *attr)
{
    struct t_mregion_attr mattr = model_attr(attr);
    uint64_t need =
        mmi_regions_need_insert(&f->tree, mmi_regions_spot(&f->tree, at), at, len, attr);
    uint64_t before = f->tree.nr;

    have(f, need);
    mmi_regions_insert(&f->tree, mmi_regions_spot(&f->tree, at), at, len, attr, &f->nodes);
    T_LEGAL(t_mregions_insert(&f->model, at, len, &mattr));
    assert_true(f->tree.nr <= before + 1);
    assert_int_equal(need, f->tree.nr > before ? 1 : 0);
}

static inline void insert(struct fixture *f, uint64_t at, uint64_t len, mm_prot_t prot,
                          uint64_t tag)
{
    struct mmi_region_attr attr = {
        .tag = tag, .prot = (uint16_t)prot, .flags = (uint32_t)(tag & 1)};

    insert_attr(f, at, len, &attr);
}

/* Bytes of an object, or of physical memory (object 0). */
static inline void insert_at_offset(struct fixture *f, uint64_t at, uint64_t len, uint64_t object,
                                    uint64_t offset)
{
    struct mmi_region_attr attr = {
        .object = object, .offset = offset, .prot = 1, .flags = MMI_REGION_OFFSET};

    insert_attr(f, at, len, &attr);
}

static inline void remove_range(struct fixture *f, uint64_t at, uint64_t len)
{
    uint64_t need = mmi_regions_need_remove(mmi_regions_from(&f->tree, at), at, len);
    uint64_t before = f->tree.nr;

    have(f, need);
    mmi_regions_remove(&f->tree, mmi_regions_from(&f->tree, at), at, len, &f->nodes);
    T_LEGAL(t_mregions_remove(&f->model, at, len));
    assert_int_equal(need, f->tree.nr > before ? 1 : 0);
}

#endif
