// SPDX-License-Identifier: MIT
/**
 * The tests of the reference models: each must accept what is right, and object to each kind of
 * wrong, or it would catch nothing. Cases are worked out by hand; the boot map's oracle is held
 * against its own definition, byte by byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "check.h"
#include "e820_synth.h"
#include "model_bootmap.h"
#include "model_frames.h"
#include "model_heap.h"
#include "model_pages.h"
#include "model_regions.h"
#include "prng.h"

#include <stdio.h>
#include <string.h>

#define K4 UINT64_C(0x1000)
#define M2 UINT64_C(0x200000)
#define G1 UINT64_C(0x40000000)

/* --- frames ---------------------------------------------------------------------------------- */

static void frames_accept_and_object(void **state)
{
    struct t_mframes m;
    uint64_t hash;

    (void)state;
    t_mframes_init(&m);
    T_LEGAL(t_mframes_add(&m, 100, 64, T_MFRAME_FREE)); /* 100 to 163 */
    T_LEGAL(t_mframes_add(&m, UINT64_C(1) << 39, 512, T_MFRAME_FREE));
    T_ILLEGAL(t_mframes_add(&m, 163, 1, T_MFRAME_FREE));
    T_ILLEGAL(t_mframes_add(&m, 0, 101, T_MFRAME_FREE));
    T_ILLEGAL(t_mframes_add(&m, UINT64_MAX, 2, T_MFRAME_FREE));
    T_LEGAL(t_mframes_reserve(&m, 100, 4));
    T_ILLEGAL(t_mframes_reserve(&m, 103, 2));
    assert_int_equal(t_mframes_count(&m, T_MFRAME_FREE), 60 + 512);
    assert_int_equal(t_mframes_count(&m, T_MFRAME_RESERVED), 4);
    hash = t_mframes_hash(&m);

    T_ILLEGAL(t_mframes_alloc(&m, 103, 0)); /* reserved */
    T_ILLEGAL(t_mframes_alloc(&m, 99, 0));  /* absent */
    T_ILLEGAL(t_mframes_alloc(&m, 164, 0));
    T_ILLEGAL(t_mframes_alloc(&m, 106, 2)); /* not aligned */
    T_ILLEGAL(t_mframes_alloc(&m, 160, 3)); /* runs past the end */
    T_ILLEGAL(t_mframes_alloc_run(&m, 104, 0));
    T_ILLEGAL(t_mframes_free(&m, 104, 0));  /* never handed out */
    T_ILLEGAL(t_mframes_free(&m, 100, 0));  /* reserved */
    T_ILLEGAL(t_mframes_free(&m, 5000, 0)); /* absent */
    assert_int_equal(t_mframes_hash(&m), hash);

    T_LEGAL(t_mframes_alloc(&m, 104, 3));
    T_ILLEGAL(t_mframes_alloc(&m, 104, 0)); /* handed out twice */
    T_ILLEGAL(t_mframes_alloc_run(&m, 111, 2));
    assert_true(t_mframes_all(&m, 104, 8, T_MFRAME_USED));
    assert_false(t_mframes_all(&m, 104, 9, T_MFRAME_USED));
    T_LEGAL(t_mframes_free(&m, 106, 1));   /* a part */
    T_ILLEGAL(t_mframes_free(&m, 106, 0)); /* double */
    T_ILLEGAL(t_mframes_free(&m, 104, 3)); /* the whole is no longer there */
    T_ILLEGAL(t_mframes_free(&m, 105, 1)); /* not aligned */
    T_LEGAL(t_mframes_free(&m, 104, 1));
    T_LEGAL(t_mframes_free(&m, 108, 2));
    assert_int_equal(t_mframes_hash(&m), hash);
    t_mframes_destroy(&m);
}

static void frames_count_references(void **state)
{
    struct t_mframes m;

    (void)state;
    t_mframes_init(&m);
    T_LEGAL(t_mframes_add(&m, 0, 8, T_MFRAME_FREE));
    T_ILLEGAL(t_mframes_get(&m, 1));
    T_ILLEGAL(t_mframes_put(&m, 1));
    T_LEGAL(t_mframes_alloc(&m, 1, 0));
    assert_int_equal(t_mframes_refs(&m, 1), 1);
    T_LEGAL(t_mframes_get(&m, 1));
    T_ILLEGAL(t_mframes_free(&m, 1, 0)); /* shared */
    T_LEGAL(t_mframes_put(&m, 1));
    T_LEGAL(t_mframes_put(&m, 1));
    assert_int_equal(t_mframes_state(&m, 1), T_MFRAME_FREE);
    T_LEGAL(t_mframes_alloc(&m, 2, 0));
    T_LEGAL(t_mframes_set_refs(&m, 2, UINT32_MAX - 1));
    T_LEGAL(t_mframes_get(&m, 2));
    T_LEGAL(t_mframes_get(&m, 2)); /* no wrap */
    T_LEGAL(t_mframes_put(&m, 2)); /* for ever */
    assert_int_equal(t_mframes_refs(&m, 2), T_MFRAMES_IMMORTAL);
    T_ILLEGAL(t_mframes_free(&m, 2, 0));
    t_mframes_destroy(&m);
}

static void frames_search_is_exact(void **state)
{
    struct t_mframes m;
    struct t_mframe_search s = {.nr = 4};

    (void)state;
    t_mframes_init(&m);
    T_LEGAL(t_mframes_add(&m, 34, 16, T_MFRAME_FREE)); /* 34 to 49, after it in the list: */
    T_LEGAL(t_mframes_add(&m, 18, 16, T_MFRAME_FREE)); /* 18 to 33; together 32 in a row */
    assert_int_equal(t_mframes_find(&m, &s), 18);
    s.align = 4;
    assert_int_equal(t_mframes_find(&m, &s), 20);
    s.low = 21;
    assert_int_equal(t_mframes_find(&m, &s), 24);
    s.limit = 28;
    assert_int_equal(t_mframes_find(&m, &s), 24);
    s.limit = 27;
    assert_int_equal(t_mframes_find(&m, &s), T_MFRAMES_NONE);
    s = (struct t_mframe_search){.nr = 32};
    assert_int_equal(t_mframes_find(&m, &s), 18); /* across both spans */
    s.boundary = 32;
    assert_int_equal(t_mframes_find(&m, &s), T_MFRAMES_NONE);
    s = (struct t_mframe_search){.nr = 4, .boundary = 16, .low = 29};
    assert_int_equal(t_mframes_find(&m, &s), 32);
    s = (struct t_mframe_search){.nr = 33};
    assert_int_equal(t_mframes_find(&m, &s), T_MFRAMES_NONE);
    s.nr = 0;
    assert_int_equal(t_mframes_find(&m, &s), T_MFRAMES_NONE);
    assert_int_equal(t_mframes_count_blocks(&m, 0), 32);
    assert_int_equal(t_mframes_count_blocks(&m, 3), 3); /* at 24, 32, 40 */
    T_LEGAL(t_mframes_alloc(&m, 33, 0));
    assert_int_equal(t_mframes_count_blocks(&m, 3), 2);
    assert_int_equal(t_mframes_count_blocks(&m, 5), 0);
    t_mframes_destroy(&m);
}

/* --- pages ----------------------------------------------------------------------------------- */

static unsigned leaf_at(const struct t_mpages *m, uint64_t vaddr)
{
    const struct t_mpage *page = t_mpages_at(m, vaddr);

    return page == NULL ? 0 : page->leaf;
}

static void pages_take_the_largest_leaf(void **state)
{
    struct t_mpages m;
    uint64_t paddr;

    (void)state;
    t_mpages_init(&m, 30);
    t_mpages_add_window(&m, 0, 4 * G1);
    /* From 4 KiB below 1 GiB to 2 MiB + 4 KiB above 2 GiB, physical equally aligned. */
    assert_int_equal(t_mpages_map(&m, G1 - K4, 8 * G1 - K4, G1 + M2 + 2 * K4, 3, 1, 0),
                     T_MPAGES_OK);
    assert_int_equal(leaf_at(&m, G1 - K4), 12);
    assert_int_equal(leaf_at(&m, G1), 30);
    assert_int_equal(leaf_at(&m, 2 * G1 - 1), 30);
    assert_int_equal(leaf_at(&m, 2 * G1), 21);
    assert_int_equal(leaf_at(&m, 2 * G1 + M2), 12);
    assert_int_equal(leaf_at(&m, 2 * G1 + M2 + K4), 0);
    assert_true(t_mpages_translate(&m, G1 + 0x12345, &paddr));
    assert_int_equal(paddr, 8 * G1 + 0x12345);
    assert_false(t_mpages_translate(&m, G1 - K4 - 1, &paddr));
    assert_int_equal(t_mpages_count(&m, 0), (G1 + M2) / K4 + 2);
    assert_int_equal(t_mpages_count(&m, 21), 512);
    assert_int_equal(t_mpages_count_frame(&m, 8 * G1), 1);
    assert_int_equal(t_mpages_count_frame(&m, 7 * G1), 0);
    /* Physical that is not aligned alike, or a CPU or caller that forbids it: small leaves. */
    assert_int_equal(t_mpages_map(&m, 3 * G1, K4, M2, 3, 1, 0), T_MPAGES_OK);
    assert_int_equal(leaf_at(&m, 3 * G1), 12);
    assert_int_equal(t_mpages_map(&m, 3 * G1 + M2, M2, M2, 3, 1, 12), T_MPAGES_OK);
    assert_int_equal(leaf_at(&m, 3 * G1 + M2), 12);
    t_mpages_destroy(&m);

    t_mpages_init(&m, 21);
    t_mpages_add_window(&m, 0, G1);
    assert_int_equal(t_mpages_map(&m, 0, 0, G1, 3, 1, 30), T_MPAGES_OK);
    assert_int_equal(t_mpages_count(&m, 21), G1 / K4);
    t_mpages_destroy(&m);
}

static void pages_refuse_and_stay(void **state)
{
    struct t_mpages m;
    uint64_t hash;

    (void)state;
    t_mpages_init(&m, 30);
    t_mpages_add_window(&m, 0 - G1, G1); /* ends at 2^64 */
    assert_int_equal(t_mpages_map(&m, 0 - M2, 2 * M2, M2, 1, 0, 0), T_MPAGES_OK);
    hash = t_mpages_hash(&m);
    assert_int_equal(t_mpages_map(&m, 0 - 2 * M2, 0, 2 * M2, 1, 0, 0), T_MPAGES_ALREADY_MAPPED);
    assert_int_equal(t_mpages_map(&m, 0 - M2, 0, M2 + K4, 1, 0, 0), T_MPAGES_INVALID);
    assert_int_equal(t_mpages_map(&m, 0 - 2 * M2, 0, 0, 1, 0, 0), T_MPAGES_INVALID);
    assert_int_equal(t_mpages_map(&m, 0 - 2 * M2, 1, K4, 1, 0, 0), T_MPAGES_INVALID);
    assert_int_equal(t_mpages_map(&m, 0 - 2 * M2, 0 - K4, 2 * K4, 1, 0, 0), T_MPAGES_INVALID);
    assert_int_equal(t_mpages_map(&m, 0, 0, K4, 1, 0, 0), T_MPAGES_INVALID);
    assert_int_equal(t_mpages_unmap(&m, 0 - 2 * M2, 2 * M2, T_MPAGES_SPLIT), T_MPAGES_NOT_MAPPED);
    assert_int_equal(t_mpages_unmap(&m, 0 - K4, K4, 0), T_MPAGES_HUGE);
    assert_int_equal(t_mpages_protect(&m, 0 - M2, K4, 0, 0), T_MPAGES_HUGE);
    assert_int_equal(t_mpages_protect(&m, 0 - 3 * M2, 2 * M2 + K4, 0, T_MPAGES_HOLES),
                     T_MPAGES_HUGE);
    assert_int_equal(t_mpages_hash(&m), hash);
    assert_int_equal(t_mpages_unmap(&m, 0 - G1, G1, T_MPAGES_HOLES), T_MPAGES_OK);
    assert_int_equal(t_mpages_count(&m, 0), 0);
    t_mpages_destroy(&m);
}

static void pages_split_as_little_as_needed(void **state)
{
    struct t_mpages m;
    struct t_mpages copy;
    uint64_t hash;

    (void)state;
    t_mpages_init(&m, 30);
    t_mpages_add_window(&m, 0, 2 * G1);
    assert_int_equal(t_mpages_map(&m, 0, 4 * G1, 2 * G1, 3, 5, 0), T_MPAGES_OK);
    t_mpages_copy(&copy, &m);
    assert_int_equal(t_mpages_hash(&copy), t_mpages_hash(&m));
    assert_int_equal(t_mpages_protect(&m, M2, K4, 1, T_MPAGES_SPLIT), T_MPAGES_OK);
    assert_int_not_equal(t_mpages_hash(&copy), t_mpages_hash(&m));
    assert_int_equal(leaf_at(&m, 0), 21);
    assert_int_equal(leaf_at(&m, M2), 12);
    assert_int_equal(leaf_at(&m, M2 + K4), 12);
    assert_int_equal(leaf_at(&m, 2 * M2), 21);
    assert_int_equal(leaf_at(&m, G1), 30); /* the neighbour is whole */
    assert_int_equal(t_mpages_at(&m, M2)->prot, 1);
    assert_int_equal(t_mpages_at(&m, M2 + K4)->prot, 3);
    assert_int_equal(t_mpages_at(&m, M2 + K4)->type, 5);
    assert_int_equal(t_mpages_at(&m, M2 + K4)->paddr, 4 * G1 + M2 + K4);
    /* A range of whole 2 MiB cuts the 1 GiB leaf into 2 MiB, and no further. */
    assert_int_equal(t_mpages_unmap(&m, G1, M2, T_MPAGES_SPLIT), T_MPAGES_OK);
    assert_int_equal(leaf_at(&m, G1), 0);
    assert_int_equal(t_mpages_count(&m, 12), 512);
    assert_int_equal(t_mpages_count(&m, 30), 0);
    /* Holes keep no protection. */
    hash = t_mpages_hash(&m);
    assert_int_equal(t_mpages_protect(&m, G1, M2, 7, T_MPAGES_HOLES), T_MPAGES_OK);
    assert_int_equal(t_mpages_hash(&m), hash);
    assert_int_equal(t_mpages_protect(&m, 0, 2 * G1, 7, T_MPAGES_HOLES), T_MPAGES_OK);
    assert_null(t_mpages_at(&m, G1));
    assert_int_equal(t_mpages_unmap(&m, 0, 2 * G1, T_MPAGES_HOLES), T_MPAGES_OK);
    assert_int_equal(t_mpages_unmap(&copy, 0, 2 * G1, 0), T_MPAGES_OK);
    assert_int_equal(t_mpages_hash(&copy), t_mpages_hash(&m));
    t_mpages_destroy(&m);
    t_mpages_destroy(&copy);
}

/* --- regions --------------------------------------------------------------------------------- */

static void regions_split_and_merge(void **state)
{
    static const struct t_mregion_attr anon = {.prot = 3};
    static const struct t_mregion_attr file = {.prot = 3, .object = 9, .offset = 5 * K4};
    struct t_mregions m;
    struct t_mregion r;
    uint64_t hash;

    (void)state;
    t_mregions_init(&m, 0x10000, 64 * K4);
    T_LEGAL(t_mregions_insert(&m, 0x10000, 4 * K4, &anon));
    T_LEGAL(t_mregions_insert(&m, 0x14000, 4 * K4, &anon));
    assert_int_equal(t_mregions_count(&m), 1); /* merged */
    hash = t_mregions_hash(&m);
    T_ILLEGAL(t_mregions_insert(&m, 0x17000, 2 * K4, &anon));
    T_ILLEGAL(t_mregions_insert(&m, 0xf000, K4, &anon));
    T_ILLEGAL(t_mregions_insert(&m, 0x4f000, 2 * K4, &anon));
    T_ILLEGAL(t_mregions_insert(&m, 0x20000, 0, &anon));
    T_ILLEGAL(t_mregions_insert(&m, 0x20001, K4, &anon));
    T_ILLEGAL(t_mregions_insert(&m, 0x20000, UINT64_MAX - K4 + 1, &anon));
    T_ILLEGAL(t_mregions_protect(&m, 0x17000, 2 * K4, 1)); /* a hole */
    T_ILLEGAL(t_mregions_remove(&m, 0x0, K4));
    assert_int_equal(t_mregions_hash(&m), hash);
    T_LEGAL(t_mregions_protect(&m, 0x12000, K4, 1)); /* splits in three */
    assert_int_equal(t_mregions_count(&m), 3);
    assert_true(t_mregions_find(&m, 0x13001, &r));
    assert_true(r.start == 0x13000 && r.len == 5 * K4 && r.attr.prot == 3);
    T_LEGAL(t_mregions_protect(&m, 0x12000, K4, 3)); /* and back */
    assert_int_equal(t_mregions_hash(&m), hash);
    T_LEGAL(t_mregions_remove(&m, 0x11000, 2 * K4));
    assert_false(t_mregions_find(&m, 0x11000, &r));
    assert_true(t_mregions_next(&m, 0x10001, &r));
    assert_true(r.start == 0x13000);
    assert_false(t_mregions_next(&m, 0x13001, &r));
    /* An object's pages agree only when their offsets go on. */
    T_LEGAL(t_mregions_insert(&m, 0x20000, 4 * K4, &file));
    T_LEGAL(t_mregions_insert(&m, 0x24000, 4 * K4, &file));
    assert_int_equal(t_mregions_count(&m), 4);
    T_LEGAL(t_mregions_remove(&m, 0x21000, 2 * K4));
    assert_true(t_mregions_find(&m, 0x23000, &r));
    assert_true(r.attr.offset == 8 * K4 && r.len == K4);
    T_LEGAL(t_mregions_insert(&m, 0x21000, 2 * K4,
                              &(struct t_mregion_attr){.prot = 3, .object = 9, .offset = 6 * K4}));
    assert_true(t_mregions_find(&m, 0x22000, &r));
    assert_true(r.start == 0x20000 && r.len == 4 * K4 && r.attr.offset == 5 * K4);
    /* Nor do pages of two objects agree, nor those of different flags. */
    T_LEGAL(
        t_mregions_insert(&m, 0x30000, K4, &(struct t_mregion_attr){.object = 1, .offset = K4}));
    T_LEGAL(t_mregions_insert(&m, 0x31000, K4,
                              &(struct t_mregion_attr){.object = 2, .offset = 2 * K4}));
    assert_true(t_mregions_find(&m, 0x31000, &r) && r.len == K4);
    T_LEGAL(t_mregions_insert(&m, 0x34000, K4, &(struct t_mregion_attr){.flags = 1}));
    T_LEGAL(t_mregions_insert(&m, 0x35000, K4, &(struct t_mregion_attr){.flags = 2}));
    assert_true(t_mregions_find(&m, 0x35000, &r) && r.len == K4);
    /* A change passes over holes; what agrees then is one. */
    T_LEGAL(t_mregions_change(&m, 0x33000, 3 * K4,
                              &(struct t_mregion_change){.sets_prot = true, .prot = 7, .set = 3}));
    assert_true(t_mregions_find(&m, 0x34000, &r) && r.len == 2 * K4);
    assert_true(r.attr.prot == 7 && r.attr.flags == 3);
    assert_false(t_mregions_find(&m, 0x33000, &r));
    T_LEGAL(t_mregions_change(&m, 0x35000, K4, &(struct t_mregion_change){.clear = 2}));
    assert_true(t_mregions_find(&m, 0x35000, &r) && r.attr.prot == 7 && r.attr.flags == 1);
    T_ILLEGAL(t_mregions_change(&m, 0x4f000, 2 * K4, &(struct t_mregion_change){.set = 4}));
    t_mregions_destroy(&m);
}

static void regions_find_room(void **state)
{
    static const struct t_mregion_attr anon = {.prot = 3};
    struct t_mregion_search s = {.len = 4 * K4};
    struct t_mregions m;
    struct t_mregions copy;
    uint64_t at = 1;

    (void)state;
    t_mregions_init(&m, 0 - 16 * K4, 16 * K4);
    T_LEGAL(t_mregions_insert(&m, 0 - 14 * K4, K4, &anon)); /* free: pages 0-1, 3-8, 10-15 */
    T_LEGAL(t_mregions_insert(&m, 0 - 7 * K4, K4, &anon));
    assert_true(t_mregions_gap_lowest(&m, &s, &at));
    assert_int_equal(at, 0 - 13 * K4);
    assert_true(t_mregions_gap_highest(&m, &s, &at));
    assert_int_equal(at, 0 - 4 * K4);
    s.align = 4 * K4;
    assert_true(t_mregions_gap_lowest(&m, &s, &at));
    assert_int_equal(at, 0 - 12 * K4);
    s.residue = 3 * K4;
    assert_true(t_mregions_gap_lowest(&m, &s, &at));
    assert_int_equal(at, 0 - 13 * K4);
    assert_true(t_mregions_gap_highest(&m, &s, &at));
    assert_int_equal(at, 0 - 5 * K4);
    s.residue = 0;
    s.low = 0 - 11 * K4;
    assert_true(t_mregions_gap_lowest(&m, &s, &at));
    assert_int_equal(at, 0 - 4 * K4);
    s.last = UINT64_MAX - 1;
    at = 1;
    assert_false(t_mregions_gap_lowest(&m, &s, &at));
    assert_false(t_mregions_gap_highest(&m, &s, &at));
    assert_int_equal(at, 1);
    s = (struct t_mregion_search){.len = 7 * K4};
    assert_false(t_mregions_gap_lowest(&m, &s, &at));
    s.len = 6 * K4;
    T_LEGAL(t_mregions_gap_fits(&m, &s, 0 - 13 * K4));
    T_ILLEGAL(t_mregions_gap_fits(&m, &s, 0 - 12 * K4));
    T_ILLEGAL(t_mregions_gap_fits(&m, &s, 0 - 5 * K4));
    t_mregions_copy(&copy, &m);
    assert_int_equal(t_mregions_hash(&copy), t_mregions_hash(&m));
    t_mregions_destroy(&m);
    t_mregions_destroy(&copy);
}

/* --- heap ------------------------------------------------------------------------------------ */

static void heap_accepts_and_objects(void **state)
{
    static _Alignas(64) uint8_t arena[4096];
    uint64_t base = (uint64_t)(uintptr_t)arena;
    struct t_mheap m;

    (void)state;
    t_mheap_init(&m, base, base + sizeof(arena));
    T_LEGAL(t_mheap_zeroed(arena, sizeof(arena)));
    T_LEGAL(t_mheap_add(&m, arena + 128, 64, 64));
    T_ILLEGAL(t_mheap_zeroed(arena, sizeof(arena)));
    T_ILLEGAL(t_mheap_add(&m, arena + 128, 1, 1));  /* the same twice */
    T_ILLEGAL(t_mheap_add(&m, arena + 191, 1, 1));  /* its last byte */
    T_ILLEGAL(t_mheap_add(&m, arena + 100, 29, 1)); /* its first byte */
    T_ILLEGAL(t_mheap_add(&m, arena, 4096, 1));     /* all around it */
    T_ILLEGAL(t_mheap_add(&m, arena + 8, 8, 16));   /* not aligned */
    T_ILLEGAL(t_mheap_add(&m, arena + 4090, 8, 1)); /* past the end */
    T_ILLEGAL(t_mheap_add(&m, arena + 4096, 1, 1));
    T_ILLEGAL(t_mheap_add(&m, arena + 8, UINT64_MAX, 1));
    T_ILLEGAL(t_mheap_add(&m, NULL, 8, 1));
    T_LEGAL(t_mheap_add(&m, arena + 100, 28, 4)); /* touches */
    T_LEGAL(t_mheap_add(&m, arena + 192, 0, 1));
    T_ILLEGAL(t_mheap_add(&m, arena + 192, 0, 1)); /* blocks of size zero are apart too */
    assert_int_equal(m.nr, 3);
    assert_int_equal(m.bytes, 64 + 28 + 1);
    T_LEGAL(t_mheap_verify_all(&m));
    for (unsigned i = 0; i < 64; i++) { /* any byte that changes is seen */
        arena[128 + i] ^= 0x10;
        T_ILLEGAL(t_mheap_verify_all(&m));
        T_ILLEGAL(t_mheap_verify(&m, arena + 128));
        T_LEGAL(t_mheap_verify(&m, arena + 100));
        arena[128 + i] ^= 0x10;
    }
    T_ILLEGAL(t_mheap_remove(&m, arena + 129)); /* in the middle */
    T_ILLEGAL(t_mheap_remove(&m, arena + 300));
    arena[130] ^= 1;
    T_ILLEGAL(t_mheap_remove(&m, arena + 128));
    arena[130] ^= 1;
    T_LEGAL(t_mheap_remove(&m, arena + 128));
    T_ILLEGAL(t_mheap_remove(&m, arena + 128)); /* double */
    assert_null(t_mheap_find(&m, arena + 128));
    assert_int_equal(t_mheap_find(&m, arena + 100)->size, 28);
    t_mheap_destroy(&m);
}

static void heap_follows_a_resize(void **state)
{
    static uint8_t arena[1024];
    struct t_mheap m;

    (void)state;
    t_mheap_init(&m, 0, 0);
    T_LEGAL(t_mheap_add(&m, arena, 100, 1));
    T_LEGAL(t_mheap_add(&m, arena + 200, 100, 1));
    memcpy(arena + 400, arena, 100);
    T_LEGAL(t_mheap_resize(&m, arena, arena + 400, 150, 1));      /* grown elsewhere */
    T_LEGAL(t_mheap_resize(&m, arena + 400, arena + 400, 50, 1)); /* shrunk in place */
    T_LEGAL(t_mheap_verify_all(&m));
    assert_int_equal(m.bytes, 150);
    T_ILLEGAL(t_mheap_resize(&m, arena, arena + 600, 10, 1)); /* not live */
    memcpy(arena + 600, arena + 400, 49);                     /* the last byte is missing */
    T_ILLEGAL(t_mheap_resize(&m, arena + 400, arena + 600, 60, 1));
    t_mheap_destroy(&m);
    t_mheap_init(&m, 0, 0);
    T_LEGAL(t_mheap_add(&m, arena, 100, 1));
    T_LEGAL(t_mheap_add(&m, arena + 200, 100, 1));
    memcpy(arena + 150, arena, 100);
    T_ILLEGAL(t_mheap_resize(&m, arena, arena + 150, 100, 1)); /* over the other one */
    t_mheap_destroy(&m);
}

/* --- boot map -------------------------------------------------------------------------------- */

static void bootmap_by_hand(void **state)
{
    static const struct t_memory entries[] = {
        {.start = 0x3000, .len = 0x1800, .usable = true},  /* 3000..47ff */
        {.start = 0x4800, .len = 0x2800, .usable = true},  /* 4800..6fff: together frames 3..6 */
        {.start = 0x5fff, .len = 2, .usable = false},      /* spoils frames 5 and 6 */
        {.start = 0x10001, .len = 0x2fff, .usable = true}, /* frames 11 and 12 */
        {.start = 0x10000, .len = 0, .usable = false},
        {.start = 0 - K4, .len = K4, .usable = true},             /* the last frame */
        {.start = 0 - 3 * K4, .len = UINT64_MAX, .usable = true}, /* runs past the end */
    };
    struct t_mboot m;

    (void)state;
    t_mboot_init(&m, entries, 7, 0, K4);
    assert_int_equal(m.nr, 3);
    assert_true(m.runs[0].first == 3 && m.runs[0].nr == 2);
    assert_true(m.runs[1].first == 0x11 && m.runs[1].nr == 2);
    assert_true(m.runs[2].first == (UINT64_C(1) << 52) - 3 && m.runs[2].nr == 3);
    assert_int_equal(t_mboot_count(&m), 7);
    assert_int_equal(t_mboot_largest(&m).first, (UINT64_C(1) << 52) - 3);
    assert_true(t_mboot_covers(&m, 3, 2));
    assert_false(t_mboot_covers(&m, 3, 3));
    assert_false(t_mboot_covers(&m, 2, 2));
    assert_false(t_mboot_covers(&m, 3, UINT64_MAX));
    t_mboot_destroy(&m);
    t_mboot_init(&m, entries, 7, 0x12fff, K4); /* the limit cuts a frame */
    assert_int_equal(t_mboot_count(&m), 3);
    t_mboot_destroy(&m);
    t_mboot_init(&m, entries, 0, 0, K4);
    assert_int_equal(t_mboot_largest(&m).nr, 0);
    t_mboot_destroy(&m);
}

/* Small maps at both ends of the address space, every frame asked byte by byte. */
static void bootmap_agrees_with_its_definition(void **state)
{
    enum { BYTES = 256, FRAME = 8, MAPS = 2000 };
    struct t_prng prng;

    (void)state;
    t_prng_start(&prng, "bootmap");
    for (int map = 0; map < MAPS; map++) {
        struct t_memory entries[8];
        uint64_t base = t_prng_chance(&prng, 1, 2) ? 0 : 0 - (uint64_t)BYTES;
        size_t nr = t_prng_below(&prng, 9);
        struct t_mboot m;
        uint64_t count = 0;

        memset(entries, 0, sizeof(entries));
        for (size_t i = 0; i < nr; i++) {
            entries[i].start = base + t_prng_below(&prng, BYTES);
            entries[i].len = t_prng_below(&prng, BYTES / 2);
            entries[i].usable = t_prng_chance(&prng, 3, 4);
        }
        t_mboot_init(&m, entries, nr, base == 0 ? BYTES : 0, FRAME);
        for (uint64_t frame = 0; frame < BYTES / FRAME; frame++) {
            bool usable = true;

            for (uint64_t i = 0; i < FRAME; i++) {
                usable = usable && t_mboot_byte_is_usable(entries, nr, base + frame * FRAME + i);
            }
            assert_int_equal(t_mboot_covers(&m, base / FRAME + frame, 1), usable);
            count += usable ? 1 : 0;
        }
        assert_int_equal(t_mboot_count(&m), count);
        for (size_t i = 1; i < m.nr; i++) { /* sorted, apart */
            assert_true(m.runs[i].first > m.runs[i - 1].first + m.runs[i - 1].nr);
        }
        t_mboot_destroy(&m);
    }
}

/* Which of the T_SYNTH kinds a map shows. */
static unsigned kinds_of(const struct t_memory *e, size_t nr)
{
    unsigned kinds = 0;

    for (size_t i = 0; i < nr; i++) {
        bool longest = e[i].len == UINT64_MAX; /* counts as wrapping, not as unaligned */

        kinds |= e[i].start % K4 != 0 || (e[i].len % K4 != 0 && !longest) ? T_SYNTH_UNALIGNED : 0u;
        kinds |= e[i].len == 0 ? T_SYNTH_EMPTY : 0u;
        kinds |= e[i].len != 0 && e[i].start + e[i].len < e[i].start ? T_SYNTH_WRAP : 0u;
        kinds |= e[i].start >> 52 == 0 && (e[i].start + e[i].len) >> 52 != 0 ? T_SYNTH_HUGE : 0u;
        kinds |= i > 0 && e[i].start < e[i - 1].start ? T_SYNTH_UNSORTED : 0u;
        for (size_t j = 0; j < i; j++) {
            bool same = e[i].start == e[j].start && e[i].len == e[j].len && e[i].len != 0;

            kinds |= same ? T_SYNTH_DUPLICATE : 0u;
            kinds |= !same && e[i].start - e[j].start < e[j].len ? T_SYNTH_OVERLAP : 0u;
            kinds |= e[j].len != 0 && e[i].start == e[j].start + e[j].len ? T_SYNTH_TOUCHING : 0u;
        }
    }
    return kinds;
}

static void synth_makes_what_is_asked_for(void **state)
{
    static struct t_memory entries[3000];
    struct t_prng prng;
    struct t_mboot m;

    (void)state;
    t_prng_start(&prng, "synth");
    for (size_t nr = 1; nr <= 16; nr++) { /* a sane map, even a small one */
        t_synth(&prng, 0, G1, entries, nr);
        assert_int_equal(kinds_of(entries, nr) & ~(unsigned)T_SYNTH_TOUCHING, 0);
    }
    for (unsigned kind = 1; kind < T_SYNTH_ALL; kind *= 2) { /* each kind by itself */
        unsigned apart = T_SYNTH_UNALIGNED | T_SYNTH_EMPTY | T_SYNTH_WRAP;
        unsigned kinds;

        t_synth(&prng, kind, 64 * G1, entries, 200);
        kinds = kinds_of(entries, 200);
        assert_int_equal(kinds & kind, kind);
        assert_int_equal(kinds & apart & ~kind, 0);
    }
    t_synth(&prng, T_SYNTH_ALL, 64 * G1, entries, 1000);
    assert_int_equal(kinds_of(entries, 1000), T_SYNTH_ALL);
    t_synth(&prng, T_SYNTH_TOUCHING | T_SYNTH_UNALIGNED, G1, entries, 100);
    assert_int_equal(kinds_of(entries, 100), T_SYNTH_TOUCHING | T_SYNTH_UNALIGNED);
    t_synth(&prng, T_SYNTH_OVERLAP | T_SYNTH_UNSORTED | T_SYNTH_DUPLICATE, G1, entries, 3000);
    for (size_t i = 0; i < 3000; i++) { /* aligned, and in the span */
        assert_true((entries[i].start | entries[i].len) % K4 == 0);
        assert_true(entries[i].start + entries[i].len <= G1);
        assert_int_equal(entries[i].usable, strcmp(entries[i].type, "usable") == 0);
    }
    t_mboot_init(&m, entries, 3000, 0, K4);
    assert_true(t_mboot_count(&m) > 0);
    t_mboot_destroy(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_accept_and_object),
        cmocka_unit_test(frames_count_references),
        cmocka_unit_test(frames_search_is_exact),
        cmocka_unit_test(pages_take_the_largest_leaf),
        cmocka_unit_test(pages_refuse_and_stay),
        cmocka_unit_test(pages_split_as_little_as_needed),
        cmocka_unit_test(regions_split_and_merge),
        cmocka_unit_test(regions_find_room),
        cmocka_unit_test(heap_accepts_and_objects),
        cmocka_unit_test(heap_follows_a_resize),
        cmocka_unit_test(bootmap_by_hand),
        cmocka_unit_test(bootmap_agrees_with_its_definition),
        cmocka_unit_test(synth_makes_what_is_asked_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
